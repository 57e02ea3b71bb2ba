"""The words of this field as the workbench uses them."""

from __future__ import annotations

GLOSSARY: dict[str, str] = {
    "prompt": "The beginning that the model is asked to continue.",
    "response": "What the model writes after a prompt, up to its end token or the longest length.",
    "token": "A piece of text as the model sees it: a word, a part of one, or a sign.",
    "log π": "The natural logarithm of a token's probability by some model. Those of a response's tokens add up.",
    "actor": "The model that is trained: the base model with one small adapter. Also called the policy, π.",
    "reference": "The base model without adapters. It never changes; KL is measured against it.",
    "critic": "The base model with a second adapter and one number as its output: a guess, at each token, of the "
              "reward that is still to come.",
    "adapter (LoRA)": "A pair of thin matrices beside each large one. They alone are trained; the large are frozen.",
    "base model": "The model as it was loaded, frozen, shared by actor, critic and reference.",
    "score": "What the rewards give a response: the sum of their parts, each times its weight.",
    "reward": "Score minus the KL penalty: what PPO maximises. Charts call the mean score “reward”, as people do.",
    "liked, disliked": "Words that add to or take from the score of a response that has them.",
    "KL": "How far the actor is from the reference, in nats: 0 when both give the same probabilities. "
          "Estimated from the sampled tokens as log π − log π_ref.",
    "nat": "The unit of natural logarithms; 1 nat is 1.44 bits.",
    "KL coef, β": "How much a nat of KL costs in score.",
    "KL target": "The KL that the adaptive controller steers β towards; or a mark on the chart where β is fixed.",
    "value": "The critic's guess at one token.",
    "return": "The reward that did come from a token on, discounted: what the critic learns to guess.",
    "advantage": "How much better a token turned out than the critic had guessed. Positive ones are made likelier.",
    "GAE": "Generalised advantage estimation: advantages as a blend of guesses over one step and over many; λ sets the "
           "blend (1 trusts what came, 0 trusts the critic).",
    "discount, γ": "How much less a reward counts for each token that it lies ahead; 1 is not at all.",
    "PPO": "Proximal policy optimisation: several passes over one rollout, each held near the policy that sampled it.",
    "ratio": "A token's probability now over that when it was sampled.",
    "clip range, ε": "How far from 1 the ratio may move the loss: beyond 1 ± ε a token pushes no further.",
    "policy loss": "What the actor descends: minus ratio × advantage, clipped.",
    "value loss": "What the critic descends: the square of value minus return.",
    "entropy": "How unsure the actor is of the next token, in nats.",
    "explained variance": "The share of the returns' spread that the critic foresees.",
    "whitening": "Shifting and scaling advantages of a rollout to mean 0 and spread 1.",
    "rollout": "Sampling the responses of a step.",
    "step": "One rollout, its scores, and the updates that learn from it.",
    "epoch (PPO)": "One pass over a rollout's responses.",
    "minibatch": "The responses that one optimiser step looks at.",
    "temperature": "What the logits are divided by before sampling: below 1 the likely wins more, above 1 less.",
    "top-p, top-k": "Sampling only from the likeliest tokens: those that make up a share p, or the k first.",
    "seed": "Where the random numbers begin: the same seed and settings give the same run.",
    "preset": "A file of settings under a name.",
    "run": "One training from its start to its end, in a folder of its own.",
    "checkpoint": "All that is needed to go on from a step: adapters, optimisers, random state.",
    "roll-back": "Going back to the last checkpoint after numbers were not finite.",
    "alarm": "A sentence of the sentinel, which watches the metrics for what goes wrong in RLHF.",
    "gaming": "Scoring high by a flaw of the reward, not by what was meant: the same liked word over and over, say.",
    "distinct-2": "Different word pairs over all word pairs; low when responses repeat themselves or each other.",
    "EMA": "Exponential moving average: the smoothed curve. At 0.9 each new value weighs a tenth. Auto: none up to 50 "
           "steps, then a window that grows with them.",
}
