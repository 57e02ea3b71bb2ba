"""The terms of this field as the workbench uses them. Those of one method alone are in its description."""

from __future__ import annotations

GLOSSARY: dict[str, str] = {
    "prompt": "The beginning that the model is asked to continue.",
    "response": "What the model writes after a prompt, up to its end token or the longest length.",
    "token": "A piece of text as the model sees it: a word, a part of one, or a sign.",
    "log π": "The natural logarithm of a token's probability by some model. Those of a response's tokens add up.",
    "actor": "The model that is trained to answer, also called the policy, π: the base model with one adapter.",
    "reference": "The base model without adapters. It never changes; KL is measured against it.",
    "adapter (LoRA)": "A pair of low-rank matrices beside each adapted weight matrix. Only they are trained.",
    "base model": "The model as it was loaded, frozen, shared by all adapters.",
    "score": "What the configured rewards give a response: their sum, each times its weight. Before the KL penalty.",
    "reward": "Of a token or response: score minus KL penalty. “The rewards” are the configured functions that give "
              "the score.",
    "liked, disliked": "Words that add to or take from the score of a response that has them.",
    "verifiable reward": "One that checks a response instead of judging it: against the right answer of its row, or a "
                         "pattern.",
    "accuracy": "The share of responses whose answer is right.",
    "log-ratio": "log π − log π_ref of a token; of a response, the sum over its tokens. A single one may be negative.",
    "KL": "Kullback–Leibler divergence of the actor from the reference, in nats: the mean log-ratio of sampled "
          "responses; 0 when both give the same probabilities.",
    "best-of-n": "The best by score of n responses of the reference. Its KL is log n − (n − 1)/n, and at equal KL a "
                 "trained model hardly scores better: the share of its gain says what training made of its KL.",
    "push": "−∂loss/∂log π of a sampled token in the first optimizer step: above 0 the token is made likelier. The "
            "inspector shows it in thousandths, method beside method.",
    "nat": "The unit of natural logarithms; 1 nat is 1.44 bits.",
    "step": "What a method learns from one batch: of one that samples, a rollout, its scores, and the optimizer steps.",
    "temperature": "What the logits are divided by before sampling: below 1 likely tokens become likelier.",
    "top-p, top-k": "Sampling from the likeliest tokens only: those that make up a probability of p, or the first k.",
    "seed": "The start of the random numbers: the same seed and settings give the same run.",
    "preset": "A file of settings under a name.",
    "run": "One training from its start to its end, in a folder of its own.",
    "checkpoint": "All that is needed to resume from a step: adapters, optimizer states, random state.",
    "roll-back": "Going back to the last checkpoint after loss or gradients were not finite.",
    "skipped updates": "Optimizer steps that were not taken because loss or gradient was not finite.",
    "MFU": "Model FLOPs utilization: the FLOP/s of the run as a share of the peak measured on this machine.",
    "alarm": "A warning by the sentinel, which watches the metrics for what goes wrong in RLHF.",
    "EMA": "Exponential moving average: the smoothed curve. At 0.9 each new value weighs a tenth. Auto: none up to 50 "
           "steps, then a window that grows with them.",
}
