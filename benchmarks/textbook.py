"""PPO for language models as it is usually taught, one prompt at a time: what the engine is measured against.

The reference is a deep copy; actor and critic are two whole models, each with its own adapters; a response is sampled
by `generate`; log-probs are gathered from a log-softmax over all logits; two updates follow, each with its own forward
and backward pass of both models. The mathematics is that of preset `notebook`. Nothing here is slow on purpose.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlhf_engine.config.methods.ppo import ppo_settings
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.models.flops import ModelSize
from rlhf_engine.models.loading import choose_device
from rlhf_engine.rewards.build import build_rewards


@dataclass
class Seconds:
    """Where the time went."""

    rollout: float = 0.0
    score: float = 0.0
    update: float = 0.0


class TextbookPPO:
    """Actor, critic and reference as three models; `learn_from` is the whole loop body for one prompt."""

    def __init__(self, folder: str, config: RunConfig) -> None:
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
        optimizer = config.optimizer
        self.actor_optimizer = torch.optim.AdamW(
            [p for p in self.actor.parameters() if p.requires_grad], lr=optimizer.learning_rate, weight_decay=0.0
        )
        self.critic_optimizer = torch.optim.AdamW(
            [*(p for p in self.critic.parameters() if p.requires_grad), *self.value_head.parameters()],
            lr=self.settings.critic_learning_rate,
            weight_decay=0.0,
        )
        self.size = ModelSize.of_model(self.reference)
        self.seconds, self.operations = Seconds(), 0.0

    def learn_from(self, prompt: str) -> tuple[int, int]:
        """Sample, score, update twice. Returns the tokens of (prompt, response)."""
        start = time.perf_counter()
        prompt_ids = self.tokenizer(prompt, return_tensors="pt")["input_ids"].to(self.device)
        sampling = self.config.sampling
        ids = self.actor.generate(
            input_ids=prompt_ids,
            attention_mask=torch.ones_like(prompt_ids),
            do_sample=True,
            temperature=sampling.temperature,
            top_k=0,
            top_p=1.0,
            max_new_tokens=sampling.max_new_tokens,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        width = prompt_ids.shape[1]
        text = self.tokenizer.decode(ids[0, width:], skip_special_tokens=True)
        sampled = time.perf_counter()

        (score,) = self.rewards.score([prompt], [text]).scores
        with torch.no_grad():
            old_log_prob = self._log_prob(self.actor, ids, width)
            kl = old_log_prob - self._log_prob(self.reference, ids, width)
            reward = score.total - self.config.kl.coef * kl
            advantage = reward - self._value(ids)
        scored = time.perf_counter()

        for _ in range(self.settings.epochs):
            ratio = torch.exp(self._log_prob(self.actor, ids, width) - old_log_prob)
            clipped = ratio.clamp(1 - self.settings.clip_range, 1 + self.settings.clip_range)
            actor_loss = -torch.min(ratio * advantage, clipped * advantage)
            self._take_step(self.actor_optimizer, actor_loss, self.config.optimizer.max_grad_norm)
            critic_loss = (self._value(ids) - reward) ** 2
            self._take_step(self.critic_optimizer, critic_loss, self.settings.critic_max_grad_norm)
        done = time.perf_counter()
        self.operations += self._operations(width, ids.shape[1])
        self.seconds.rollout += sampled - start
        self.seconds.score += scored - sampled
        self.seconds.update += done - scored
        return width, ids.shape[1] - width

    def _operations(self, prompt: int, whole: int) -> float:
        """By the formula of `rlhf_engine.models.flops`, with the head over all tokens, as all but sampling take it."""
        pairs, head = whole * (whole + 1) / 2, 2.0 * self.size.head
        forward, backward = self.size.forward(whole, pairs), self.size.backward(whole, pairs)
        sampling = forward + head * (whole - prompt)
        updates = self.settings.epochs * (2 * (forward + backward) + 3 * head * whole)
        return sampling + 3 * (forward + head * whole) + updates

    def _log_prob(self, model: Any, ids: Tensor, prompt_width: int) -> Tensor:
        logits = model(input_ids=ids).logits / self.config.sampling.temperature
        log_probs = torch.log_softmax(logits[:, :-1], dim=-1).gather(2, ids[:, 1:, None]).squeeze(-1)
        return log_probs[0, prompt_width - 1 :].sum()

    def _value(self, ids: Tensor) -> Tensor:
        hidden = self.critic(input_ids=ids, output_hidden_states=True).hidden_states[-1]
        return self.value_head(hidden[0, -1]).squeeze()

    def _take_step(self, optimizer: torch.optim.Optimizer, loss: Tensor, max_norm: float) -> None:
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], max_norm)
        optimizer.step()
