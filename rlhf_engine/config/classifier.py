"""The settings of a reward that is somebody's sequence classifier."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import model_validator

from rlhf_engine.config.rewards import RewardSection, reward_name
from rlhf_engine.config.section import COUNT, MOST_LETTERS, setting
from rlhf_engine.config.sections import ModelConfig


class ClassifierRewardConfig(RewardSection):
    """The judgement of a Hugging Face sequence classifier: how sure it is of a label, or the number that it gives."""

    implementation: ClassVar = "rlhf_engine.rewards.classifier:ClassifierReward"

    kind: Literal["classifier"] = "classifier"
    name: str = reward_name("classifier")
    model: str = setting(..., "a local folder, or the hub name, of a model with a sequence classification head",
                         min_length=1, max_length=MOST_LETTERS, label="classifier")
    revision: str | None = setting(None, "branch, tag or commit of a hub classifier", max_length=MOST_LETTERS)
    label: str | None = setting(
        None, "the label that is good, by its name in the classifier's config.json or its place (0, 1, …); none: the "
        "classifier has a single output (a regression head), which is the score", max_length=MOST_LETTERS,
        label="good label",
    )
    output: Literal["logit", "probability", "log_prob"] = setting(
        "logit", "what of the label is the score: its logit, its probability (between 0 and 1), or the log of that; a "
        "regression head gives its number as the logit", label="score is",
    )
    reads: Literal["auto", "chat", "text", "pair", "response"] = setting(
        "auto", "what the classifier is given: chat (prompt and response in its chat template), text (the response "
        "right behind the prompt), pair (both as the two texts of its tokenizer), or the response alone; auto: chat "
        "where it has a template, else text",
    )
    max_tokens: int | None = setting(
        None, "most tokens that it reads, special ones included; what is longer loses the beginning of the prompt, and "
        "then of the response; none: as many as the classifier can", unit="tokens", ge=8, le=COUNT, label="max tokens",
    )
    batch_size: int = setting(32, "texts judged at once", unit="texts", ge=1, le=65536, label="batch size")
    device: Literal["auto", "cpu", "cuda", "mps"] = setting("auto", "auto takes cuda, then mps, then cpu")
    dtype: Literal["auto", "float32"] = setting("auto", "number format; auto: bfloat16 on cuda, else float32")
    sha256: str | None = setting(
        None, "digest of the classifier's files, recorded when a run starts; resuming asks first if they have changed",
        pattern="^[0-9a-f]{64}$", allowed="64 hexadecimal digits",
    )

    @model_validator(mode="after")
    def _label_is_a_label(self) -> ClassifierRewardConfig:
        if self.label is not None and not self.label.strip():
            raise ValueError("label is empty; none means that the classifier has a single output")
        return self

    @property
    def source(self) -> ModelConfig:
        """Where its files are, and where it computes, as those of a base model are named."""
        return ModelConfig(name=self.model, revision=self.revision, device=self.device, dtype=self.dtype)
