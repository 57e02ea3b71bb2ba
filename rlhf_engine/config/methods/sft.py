"""Supervised fine-tuning, described: texts, or responses to prompts, are learned by cross-entropy."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import model_validator

from rlhf_engine.config.methods.base import AlgorithmConfig, Condition, Needs, Series, Settings, StepMetrics
from rlhf_engine.config.methods.on_policy import mean_of
from rlhf_engine.config.section import COUNT, setting
from rlhf_engine.metrics import OF_HELD_OUT_ROWS, named

_METRICS = (
    "loss", "perplexity", "mean_token_accuracy", "entropy", "policy/updates", "train/skipped_updates", "lr",
    "grad_norm/actor", "num_tokens", "time/update", "throughput/responses_per_s", "throughput/matmul_share",
)  # fmt: skip
_OFTEN = 20  # times that each text is learned, beyond which it is learned by heart


def _overfit(start: StepMetrics, recent: StepMetrics, step: int, config: Settings) -> str | None:
    rise = config.sentinel.held_out_rise
    losses = [(found["eval/loss"], found["eval/best_loss"]) for found in recent
              if {"eval/loss", "eval/best_loss"} <= found.keys()]
    if rise is None or not losses or not losses[-1][0] - losses[-1][1] > rise:
        return None
    now, best = losses[-1]
    if not mean_of(recent, "loss") < mean_of(start, "loss"):
        return None
    return (f"the held-out loss rose from {best:.3f} to {now:.3f} nats per token while the loss falls: the texts are "
            "learnt by heart; stop here and take the best checkpoint, lower optimizer.learning_rate, or learn from "
            "more texts")


def _stuck(start: StepMetrics, recent: StepMetrics, step: int, config: Settings) -> str | None:
    before, now = mean_of(start, "loss"), mean_of(recent, "loss")
    if not now >= before:
        return None
    return (f"the loss was {before:.3f} nats per token at the start and is {now:.3f} now: nothing is learnt; raise "
            "optimizer.learning_rate if it is low, and lower it if the loss jumps")


class SFTConfig(AlgorithmConfig):
    """Supervised fine-tuning: cross-entropy on texts, or on responses to prompts."""

    title: ClassVar = "SFT"
    implementation: ClassVar = "rlhf_engine.algorithms.sft:SFT"
    explanation: ClassVar = """\
A step takes some texts, or prompts with their responses, and makes them likelier: the loss is the mean of −log p over
their tokens (cross-entropy), of those of the responses alone unless all are wanted. Nothing is sampled, no reward is
asked, and there is no reference: the model learns to write as the texts do, and in the end writes them by heart.
Held-out rows tell when that begins. From texts that were sampled and chosen by a reward (generate --best-of) it learns
what the reward likes."""
    needs: ClassVar = Needs(adapters=("actor",), reference=False, batch="texts", rewards=False)
    metrics: ClassVar = named(*_METRICS)
    held_out_metrics: ClassVar = named(*OF_HELD_OUT_ROWS)
    charts: ClassVar = ("loss", "mean_token_accuracy", "eval/loss", "entropy")
    conditions: ClassVar = (Condition("overfit", _overfit, ("sentinel.held_out_rise",), from_start=True),
                            Condition("stuck", _stuck, from_start=True))
    token_series: ClassVar = (
        Series("log_probs", "log p", "log-probability", "of the token before it was learned, nats; 0 is certain"),
        Series("entropy", "entropy", "entropy", "of the distribution that it was held against, nats", dispensable=True),
    )
    troubles: ClassVar = {
        "the loss does not fall": "raise the learning rate, or the LoRA rank; are the responses what was meant?",
        "the held-out loss rises": "the texts are learnt by heart: fewer steps, a lower learning rate, more texts",
        "answers do not end": "the texts are cut before their end token: raise algorithm.max_length",
    }
    glossary: ClassVar = {
        "SFT": "Supervised fine-tuning: given texts are made likelier, token by token.",
        "cross-entropy": "−log p of the token that stands there, nats; its mean over tokens is the loss.",
        "perplexity": "exp(loss): 1 is certain of every token.",
        "token accuracy": "How often the token that stands there was the one that the model held likeliest.",
        "entropy": "Of the actor's next-token distribution, in nats.",
        "packing": "Several texts in one row of a batch, behind one another, of which none sees another.",
        "best-of-n": "Of n sampled responses the one that scores highest (rejection sampling).",
    }
    comes_with: ClassVar = dict.fromkeys(("loss", "perplexity", "mean_token_accuracy", "entropy", "grad_norm/actor"),
                                         "it needs optimizer steps, and all so far were skipped")
    basic_settings: ClassVar = (
        "optimizer.learning_rate", "train.steps", "algorithm.texts_per_step", "algorithm.minibatch_size",
        "algorithm.loss_on", "algorithm.max_length", "lora.rank",
    )
    best_metric: ClassVar = "loss"
    best_held_out_metric: ClassVar = "eval/loss"
    unused: ClassVar = ("kl.",)

    kind: Literal["sft"] = "sft"
    texts_per_step: int = setting(32, "texts, or responses, learned in one step", unit="texts", ge=1, le=65536,
                                  label="texts/step")
    minibatch_size: int = setting(32, "texts per optimizer step", unit="texts", ge=1, le=65536)
    loss_on: Literal["response", "all"] = setting(
        "response", "tokens that are learned: those of responses, or of prompts too; of whole texts it is all")
    max_length: int | None = setting(
        None, "most tokens of a prompt with its response, or of a whole text; none: the model's context",
        unit="tokens", ge=2, le=COUNT, label="max length")
    long_texts: Literal["cut", "skip"] = setting(
        "cut", "what is longer: cut leaves out its last tokens, and skip all of it; a prompt that leaves no room for a "
        "response is skipped in any case")
    packing: bool = setting(False, "put short texts behind one another in one row, of which none sees another: the "
                            "same loss with less padding")

    @model_validator(mode="after")
    def _minibatch_fits(self) -> SFTConfig:
        if self.minibatch_size > self.texts_per_step:
            raise ValueError(f"minibatch_size {self.minibatch_size} is more than texts_per_step {self.texts_per_step}")
        return self

    @property
    def rows_per_step(self) -> int:
        return self.texts_per_step

    @property
    def rows_per_update(self) -> int:
        return self.minibatch_size

    def advice(self, config: Settings) -> list[str]:
        found, data = [], config.data
        times = config.train.steps * self.texts_per_step / max(1, len(data.texts))
        if data.source is None and times > _OFTEN and not data.holds_out:
            found.append(f"each of the {len(data.texts)} texts is learned {times:.0f} times, which is by heart, and "
                         "no held-out row tells when: data.held_out_share = 0.1 would, and fewer train.steps may do")
        if data.source is None and self.loss_on == "all":
            found.append("algorithm.loss_on = all learns prompts too, and whole texts have none: it changes nothing")
        return found

    def summary(self, config: Settings) -> str:
        what = "responses" if self.loss_on == "response" else "prompts and responses"
        return f"SFT, {self.texts_per_step} texts a step, loss on the tokens of {what}"
