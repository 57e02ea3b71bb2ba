"""PPO for language models as it is usually taught, one prompt at a time. `ppo` is the same method grown up.

Three models: the reference is a copy that stays as it was; actor and critic are two more, each with LoRA adapters. A
response is one action. It is sampled by `generate`, scored, and what it lost in likelihood under the reference is taken
off the score. The critic says what it expected; the actor makes the response likelier if it was better than that, less
likely if it was worse, by a bounded step. Preset `notebook` has its hyperparameters. Nothing here is slow on purpose.

What `ppo` does otherwise, and why, stands in docs/how-it-works.md.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlhf_engine.config.methods.ppo import ppo_settings
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.models.loading import choose_device
from rlhf_engine.rewards.build import build_rewards


class Response(NamedTuple):
    """ids: int64 [1, prompt + response]; the first `prompt_width` are the prompt's."""

    ids: Tensor
    prompt_width: int
    text: str


class Judged(NamedTuple):
    """What a response was worth: scalars, without gradient."""

    log_prob: Tensor
    """log π(response | prompt) of the weights that sampled it, nats."""
    kl: Tensor
    """log π − log π_ref of the response: one sample of the KL from the reference, nats."""
    reward: Tensor
    """score − β · KL."""
    advantage: Tensor
    """reward − what the critic expected."""


class TextbookPPO:
    """Actor, critic and reference as three models; `learn_from` is the body of the training loop."""

    def __init__(self, folder: str, config: RunConfig) -> None:
        """folder: of a model that transformers loads. config: of a run; its [algorithm] must be PPO's."""
        self.config, self.settings = config, ppo_settings(config)
        self.rewards = build_rewards(config.rewards)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.device = choose_device(config.model.device)
        base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(self.device)
        lora = LoraConfig(
            r=config.lora.rank,
            lora_alpha=config.lora.alpha,
            lora_dropout=config.lora.dropout,
            target_modules=config.lora.target_modules,
            task_type="CAUSAL_LM",
        )
        self.reference = copy.deepcopy(base).eval().requires_grad_(False)
        self.actor: Any = get_peft_model(copy.deepcopy(base), lora).eval()
        self.critic: Any = get_peft_model(base, lora).eval()
        self.value_head = nn.Linear(base.config.hidden_size, 1, device=self.device)
        self.actor_optimizer = torch.optim.AdamW(
            [p for p in self.actor.parameters() if p.requires_grad], lr=config.optimizer.learning_rate, weight_decay=0.0
        )
        self.critic_optimizer = torch.optim.AdamW(
            [*(p for p in self.critic.parameters() if p.requires_grad), *self.value_head.parameters()],
            lr=self.settings.critic_learning_rate,
            weight_decay=0.0,
        )

    def learn_from(self, prompt: str) -> tuple[Response, Judged]:
        """One prompt: sample a response, judge it, update on it."""
        response = self.sample(prompt)
        judged = self.judge(prompt, response)
        self.update(response, judged)
        return response, judged

    def sample(self, prompt: str) -> Response:
        """The actor's response, from its own distribution: what is reinforced must be what was sampled."""
        prompt_ids = self.tokenizer(prompt, return_tensors="pt")["input_ids"].to(self.device)
        ids = self.actor.generate(
            input_ids=prompt_ids,
            attention_mask=torch.ones_like(prompt_ids),
            do_sample=True,
            temperature=self.config.sampling.temperature,
            top_k=0,
            top_p=1.0,
            max_new_tokens=self.config.sampling.max_new_tokens,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        width = prompt_ids.shape[1]
        return Response(ids, width, self.tokenizer.decode(ids[0, width:], skip_special_tokens=True))

    @torch.no_grad()
    def judge(self, prompt: str, response: Response) -> Judged:
        """Score − β · KL, and how much better that was than the critic expected."""
        (score,) = self.rewards.score([prompt], [response.text]).scores
        log_prob = self.log_prob(self.actor, response)
        kl = log_prob - self.log_prob(self.reference, response)
        reward = score.total - self.config.kl.coef * kl
        return Judged(log_prob, kl, reward, reward - self.value(response))

    def update(self, response: Response, judged: Judged) -> None:
        """`algorithm.epochs` steps of both: the actor's by the clipped surrogate, the critic's by the squared error."""
        epsilon = self.settings.clip_range
        for _ in range(self.settings.epochs):
            ratio = torch.exp(self.log_prob(self.actor, response) - judged.log_prob)
            clipped = ratio.clamp(1 - epsilon, 1 + epsilon)
            actor_loss = -torch.min(ratio * judged.advantage, clipped * judged.advantage)
            self._take_step(self.actor_optimizer, actor_loss, self.config.optimizer.max_grad_norm)
            critic_loss = (self.value(response) - judged.reward) ** 2
            self._take_step(self.critic_optimizer, critic_loss, self.settings.critic_max_grad_norm)

    def log_prob(self, model: Any, response: Response) -> Tensor:
        """log π(response | prompt), a scalar. The logits at position t are of token t + 1: hence the shift by one."""
        logits = model(input_ids=response.ids).logits / self.config.sampling.temperature
        log_probs = torch.log_softmax(logits[:, :-1], dim=-1).gather(2, response.ids[:, 1:, None]).squeeze(-1)
        return log_probs[0, response.prompt_width - 1 :].sum()

    def value(self, response: Response) -> Tensor:
        """What the critic expects of this response, read at its last token."""
        hidden = self.critic(input_ids=response.ids, output_hidden_states=True).hidden_states[-1]
        return self.value_head(hidden[0, -1]).squeeze()

    def _take_step(self, optimizer: torch.optim.Optimizer, loss: Tensor, max_norm: float) -> None:
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], max_norm)
        optimizer.step()
