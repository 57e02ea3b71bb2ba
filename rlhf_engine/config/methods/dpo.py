"""Direct preference optimization, described: learning from pairs that somebody has judged already."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import model_validator

from rlhf_engine.config.methods.base import AlgorithmConfig, Needs, Settings
from rlhf_engine.config.methods.preferences import (
    CONDITIONS,
    GLOSSARY,
    HELD_OUT_METRICS,
    PAIR_METRICS,
    TOKEN_SERIES,
    TROUBLES,
    PreferenceSettings,
    about_pair,
)
from rlhf_engine.config.section import COUNT, setting
from rlhf_engine.metrics import named
from rlhf_engine.token_trace import TokenTrace


class DPOConfig(PreferenceSettings, AlgorithmConfig):
    """DPO (Rafailov et al. 2023), with the losses of IPO and SLiC."""

    title: ClassVar = "DPO"
    implementation: ClassVar = "rlhf_engine.algorithms.dpo:DPO"
    explanation: ClassVar = """\
A step takes some pairs: two responses to one prompt, of which somebody prefers one. How much likelier the actor makes
a response than the frozen reference does is its implicit reward (β · log-ratio), and the loss widens the margin
between that of the chosen and that of the rejected response, the less the wider it is already. Nothing is sampled, no
critic and no reward is learnt. What the reference says of a pair is asked once and remembered. Rewards, where the
preset has any, score the answers to held-out prompts alone."""
    needs: ClassVar = Needs(adapters=("actor",), batch="pairs", rewards=False)
    metrics: ClassVar = (
        *PAIR_METRICS,
        *named("loss/policy_avg", "train/skipped_updates", "lr", "grad_norm/actor", "completions/mean_length",
               "num_tokens", "time/score", "time/update", "throughput/responses_per_s", "throughput/matmul_share"),
    )
    held_out_metrics: ClassVar = HELD_OUT_METRICS
    charts: ClassVar = ("rewards/accuracies", "rewards/margins", "loss/policy_avg", "logps/chosen")
    conditions: ClassVar = CONDITIONS
    token_series: ClassVar = TOKEN_SERIES
    comes_with: ClassVar = {"loss/policy_avg": "it needs optimizer steps, and all so far were skipped",
                            "grad_norm/actor": "it needs optimizer steps, and all so far were skipped"}
    troubles: ClassVar = TROUBLES
    glossary: ClassVar = GLOSSARY
    best_metric: ClassVar = "rewards/accuracies"
    best_held_out_metric: ClassVar = "eval/pair_loss"
    basic_settings: ClassVar = (
        "optimizer.learning_rate", "algorithm.beta", "algorithm.loss", "algorithm.pairs_per_step", "train.steps",
        "data.source", "algorithm.max_length",
    )
    unused: ClassVar = ("kl.",)

    kind: Literal["dpo"] = "dpo"
    pairs_per_step: int = setting(16, "pairs in one step, which is one optimizer step", unit="pairs", ge=1, le=65536,
                                  label="pairs/step")
    max_length: int | None = setting(
        None, "tokens that a response may have with its prompt; pairs with longer ones are skipped, whole; none: what "
        "the model's context holds", unit="tokens", ge=2, le=COUNT, label="longest pair",
    )
    append_end: bool = setting(
        True, "end each response with the model's end token, if it has one, so that ending is learnt; not those whose "
        "row says false in a column chosen_finished or rejected_finished, for they were cut", label="append end",
    )

    @model_validator(mode="after")
    def _loss_is_sound(self) -> DPOConfig:
        self.require_sound_loss()
        return self

    @property
    def rows_per_step(self) -> int:
        return self.pairs_per_step

    @property
    def longest_pair(self) -> int | None:
        return self.max_length or COUNT

    def advice(self, config: Settings) -> list[str]:
        if config.data.holds_out or not getattr(config, "rewards", None):
            return []
        return ["DPO learns from pairs alone: without data.held_out or data.held_out_share the rewards score nothing"]

    def summary(self, config: Settings) -> str:
        return f"DPO from pairs, {self.loss_summary}"

    def about_token(self, trace: TokenTrace, index: int, token: str) -> str:
        said = about_pair(trace, index)
        return " ".join(filter(None, (said, super().about_token(trace, index, token))))
