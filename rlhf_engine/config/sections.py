"""The settings that methods share: model, adapters, sampling, KL penalty, optimizer, run, alarms, probe.

A field states its type, bounds, unit, one line of help, and whether it may change while training (`live`).
"""

from __future__ import annotations

import difflib
from typing import Literal

from pydantic import field_validator, model_validator

from rlhf_engine.config.section import COUNT, MOST_LETTERS, Section, Word, setting
from rlhf_engine.errors import short
from rlhf_engine.files.toml_text import MOST_CHARACTERS
from rlhf_engine.metrics import REGISTRY, describe


class ModelConfig(Section):
    """Which language model, and where it computes."""

    name: str = setting("storyteller", "storyteller (ships with us), a hub name, or a local folder", min_length=1,
                        max_length=MOST_LETTERS, label="model")
    revision: str | None = setting(None, "branch, tag or commit of a hub model", max_length=MOST_LETTERS)
    device: Literal["auto", "cpu", "cuda", "mps"] = setting("auto", "auto takes cuda, then mps, then cpu")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "auto", "number format of the frozen base; auto: bfloat16 on cuda, and on a CPU where a trial finds it faster, "
        "else float32"
    )
    compile: Literal["auto", "on", "off"] = setting(
        "auto", "torch.compile for what stands between the products (norms, activations, log-probs): fewer passes over "
        "memory, for some seconds of compiling at a first start; auto: on cuda"
    )


class LoraConfig(Section):
    """The low-rank adapters that are trained (Hu et al. 2021)."""

    rank: int = setting(16, "rank of each adapter", ge=1, le=1024, label="LoRA rank")
    alpha: float = setting(32.0, "adapter output is scaled by alpha / rank", gt=0, le=4096, label="LoRA α")
    dropout: float = setting(0.0, "dropout inside the adapters during updates", ge=0, lt=1, label="LoRA dropout")
    target_modules: list[Word] = setting(
        ["all-linear"], "module names to adapt, all-linear, or a regular expression; empty: the attention projections",
        max_length=1_000, fail_fast=True, label="modules",
    )

    @field_validator("target_modules", mode="before")
    @classmethod
    def _as_a_list(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value  # peft takes "all-linear" and expressions so


class SamplingConfig(Section):
    """How rollouts are drawn. Log-probs and KL are those of this very distribution."""

    max_new_tokens: int = setting(60, "maximum length of a response", unit="tokens", ge=1, le=8192,
                                  label="max new tokens")
    temperature: float = setting(
        1.0, "logits are divided by this, for actor and reference alike", live=True, gt=0, le=10
    )
    top_k: int = setting(0, "0 is off; in training needs allow_truncation", unit="tokens", ge=0, le=COUNT)
    top_p: float = setting(1.0, "1 is off; in training needs allow_truncation", gt=0, le=1)
    long_prompts: Literal["refuse", "skip", "truncate_left"] = setting(
        "refuse", "prompts with no room for max_new_tokens behind them in the model's context: refuse to start, skip "
        "them, or give the model only their last tokens (rewards see the whole prompt)", live=True,
    )
    allow_truncation: bool = setting(
        False, "let rollouts use top_k/top_p although the ratio and the KL then no longer fit what is sampled",
        label="allow top-k/top-p",
    )

    @model_validator(mode="after")
    def _truncation_is_a_choice(self) -> SamplingConfig:
        if (self.top_k or self.top_p < 1) and not self.allow_truncation:
            raise ValueError(
                "top_k and top_p change the distribution sampled from, so ratio and KL would be wrong; "
                "leave them at 0 and 1, or set allow_truncation = true"
            )
        return self


class KLConfig(Section):
    """The penalty that holds the actor near the reference: reward = score − coef · KL."""

    coef: float = setting(0.1, "β, weight of the KL penalty; at 0 methods without a critic ask no reference, and "
                          "measure no KL", unit="score per nat", live=True, ge=0, le=100, label="KL coef")
    controller: Literal["fixed", "adaptive", "budget"] = setting(
        "fixed", "adaptive moves coef to hold KL at target (Ziegler et al. 2019, section 2.2); budget moves it so that "
        "KL climbs to target within 60 % of the run and stays there, whatever the model and the first coef",
        label="KL controller",
    )
    target: float = setting(6.0, "KL that a controller aims at; drawn in the KL chart", unit="nats per response",
                            live=True, gt=0, label="KL target")
    horizon: float | None = setting(
        None, "how slowly adaptive corrects: a step of n responses changes coef by at most 20 % × n / horizon; none: a "
        "twentieth of the run's responses, at least one step's", unit="responses", live=True, gt=0, label="KL horizon",
    )


class OptimizerConfig(Section):
    """Adam (Kingma & Ba 2015), with decoupled weight decay; each adapter has one of its own."""

    learning_rate: float = setting(5e-4, "learning rate of what is trained (PPO: of the actor)", live=True, ge=0, le=1,
                                   label="learning rate")
    adam_beta1: float = setting(0.9, "decay of the running mean of gradients", ge=0, lt=1, label="Adam β1")
    adam_beta2: float = setting(0.95, "decay of the running mean of squared gradients", ge=0, lt=1, label="Adam β2")
    adam_eps: float = setting(1e-5, "added to the root of the mean of squared gradients", gt=0, le=1, label="Adam ε")
    weight_decay: float = setting(0.0, "decoupled weight decay", ge=0, le=1)
    warmup_steps: int = setting(
        0, "learning rates rise linearly over these, and are reached in the last of them", unit="steps", ge=0,
        le=COUNT, label="lr warm-up",
    )
    decay: Literal["constant", "linear"] = setting(
        "constant", "after warm-up; linear: falls by equal amounts, to 0 one step after the last", label="lr decay",
    )
    max_grad_norm: float = setting(1.0, "the grad norm is clipped to this (PPO: the actor's)", live=True, gt=0)


class TrainConfig(Section):
    """How long, how reproducible, how often saved."""

    steps: int = setting(100, "training steps: one rollout with its optimizer steps each", unit="steps", live=True,
                         ge=1, le=10_000_000)
    seed: int = setting(0, "seeds sampling, minibatch order, prompt order and adapters", ge=0, lt=2**63)
    micro_batch_size: int = setting(0, "responses per forward pass; 0: chosen automatically", unit="responses", ge=0,
                                    le=COUNT, label="micro-batch size")
    threads: int = setting(0, "CPU threads for torch; 0: measured at the start", ge=0, le=1024)
    checkpoint_every: int = setting(10, "steps between checkpoints", unit="steps", live=True, ge=1, le=COUNT,
                                    label="checkpoint every")
    keep_checkpoints: int = setting(3, "newest checkpoints kept", live=True, ge=1, le=COUNT, label="keep checkpoints")
    checkpoint_budget_mb: int = setting(
        1000, "total size of older checkpoints kept to fork from, log-spaced over the run; 0: none", unit="MB",
        live=True, ge=0, le=10_000_000, label="checkpoint budget",
    )
    keep_best: str | None = setting(
        "auto", "metric whose best checkpoint (mean of five steps) is also kept; auto: the method's own "
        "(objective/rlhf_reward for PPO), of held-out rows if there are any; none disables this", live=True,
        max_length=MOST_LETTERS,
    )
    max_nonfinite_steps: int = setting(
        3, "steps in a row with skipped updates (loss or gradient not finite) after which the run counts as diverged",
        unit="steps", live=True, ge=1, le=COUNT, label="max nonfinite steps",
    )
    max_rollbacks: int = setting(
        0, "times that a diverged run is rolled back to its last checkpoint, with lower learning rates; 0: it stops",
        live=True, ge=0, le=COUNT, label="max rollbacks",
    )
    rollback_factor: float = setting(0.5, "learning rates are multiplied by this at each roll-back", live=True, gt=0,
                                     le=1, label="rollback lr factor")
    samples_per_step: int = setting(8, "responses of each step written to samples.jsonl and shown", live=True, ge=1,
                                    le=COUNT, label="samples/step")
    traced_samples: int = setting(
        2, "of these, responses kept token by token, to inspect them later", live=True, ge=0, le=COUNT
    )

    @field_validator("keep_best")
    @classmethod
    def _is_better_or_worse(cls, name: str | None) -> str | None:
        if name not in (None, "auto") and describe(name).better == "neither":
            near = difflib.get_close_matches(name[:100], REGISTRY, n=1)
            said = f"did you mean {near[0]}?" if near and REGISTRY[near[0]].better != "neither" else (
                "objective/rlhf_reward, objective/scores or rewards/<name>/mean would do, or none")
            raise ValueError(f"keep_best {short(repr(name))} is no metric of which more, or less, is better; {said}")
        return name


class SentinelConfig(Section):
    """When to raise an alarm. All means are over `window` steps; the start is the run's first `window` steps."""

    enabled: bool = setting(True, "raise the alarms of this section", live=True, label="alarms")
    window: int = setting(5, "steps that alarms average over", unit="steps", ge=1, le=1000, label="alarm window")
    kl_factor: float | None = setting(2.0, "alarm when the KL is over this many times kl.target; none is off",
                                      live=True, gt=0, label="max KL / target")
    entropy_share: float | None = setting(0.4, "alarm when entropy falls under this share of the start; none is off",
                                          live=True, gt=0, le=1)
    distinct_share: float | None = setting(
        0.6, "alarm when distinct-2 falls under this share of the start; none is off", live=True, gt=0, le=1
    )
    ref_logprob_drop: float | None = setting(
        0.5, "alarm when scores rise and ref. log-prob fell by this; none is off",
        unit="nats per token", live=True, gt=0, label="ref. log-prob drop",
    )
    critic_share: float | None = setting(
        0.0, "alarm when explained variance is below this; none is off", live=True,
        ge=-100, le=1,
    )
    critic_patience: int = setting(60, "steps before the alarm on explained variance", unit="steps", live=True, ge=0,
                                   le=COUNT, label="critic patience")
    clip_share: float | None = setting(
        0.4, "alarm when the clip fraction is over this; none is off", live=True, ge=0, le=1, label="max clip fraction",
    )
    logprob_gap: float | None = setting(
        0.1, "alarm when the log-prob gap (as sampled, as recomputed) is over this; none is off",
        unit="nats per token", live=True, gt=0,
    )
    truncated_share: float | None = setting(
        0.95, "alarm when this share of the responses is truncated (no EOS) at sampling.max_new_tokens; none is off",
        live=True, gt=0, le=1, label="max truncated",
    )
    held_out_rise: float | None = setting(
        0.05, "alarm when the held-out loss is over its lowest by this while the loss falls; none is off",
        unit="nats per token", live=True, gt=0,
    )
    equal_scores: bool = setting(True, "alarm when all responses of a step have the same score, step after step",
                                 live=True)
    gold: str | None = setting(
        "auto", "the reward that is gold: scored, held against the score that is learnt from, and no part of it; auto: "
        "the first of weight 0, if there is one; none is off", live=True, max_length=MOST_LETTERS, label="gold reward",
    )
    gold_drop: float | None = setting(
        0.25, "alarm when the score rose on and the gold score is this much below its best; none is off",
        unit="standard deviations", live=True, gt=0, label="max gold drop",
    )
    spread_factor: float | None = setting(
        1.5, "without gold: alarm when the score rose on and the members of an ensemble are this many times as far "
        "apart as where the score less their deviation was best; none is off", live=True, gt=1,
        label="max spread growth",
    )
    pair_accuracy: float | None = setting(
        0.55, "alarm when the share of pairs that are told apart is below this; none is off", live=True, gt=0, le=1,
        label="min pair accuracy",
    )
    pair_patience: int = setting(40, "steps before the alarm on pair accuracy", unit="steps", live=True, ge=0, le=COUNT,
                                 label="pair patience")
    pair_margin: float | None = setting(
        10.0, "alarm when the mean margin of pairs is over this: their loss has no gradient left; none is off",
        live=True, gt=0, label="max pair margin",
    )
    chosen_drop: float | None = setting(
        20.0, "alarm when chosen responses are this much less likely than under the reference; none is off",
        unit="nats per response", live=True, gt=0, label="max chosen drop",
    )


class ProbeConfig(Section):
    """One prompt that is answered again and again from the same random numbers, to see how the model changes."""

    prompt: str | None = setting(None, "the prompt; none: the first of the run's prompts",
                                 max_length=MOST_CHARACTERS)
    every: int = setting(5, "steps between two responses to it; 0 is off", unit="steps", live=True, ge=0, le=COUNT)
