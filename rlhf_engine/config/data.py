"""The section [data]: what the model learns from, what is held out, and how a prompt is put to a chat model."""

from __future__ import annotations

import re

from pydantic import field_validator, model_validator

from rlhf_engine.config.section import COUNT, MOST_LETTERS, Section, Text, Word, setting
from rlhf_engine.files.toml_text import MOST_CHARACTERS

MOST_PROMPTS = 200_000
MOST_OF_PROMPTS = 32_000_000  # characters of all together
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def _texts(help: str) -> list[str]:
    texts: list[str] = setting([], help, max_length=MOST_PROMPTS, fail_fast=True, whole_texts=True,
                               allowed="a list of texts, or the name of a file of them")
    return texts


class DataConfig(Section):
    """What the model learns from: lists of texts in the preset, or the rows of a file or a dataset."""

    prompts: list[Text] = setting(
        [], "what the model continues, as a list, or the name of a .txt file (one a line) or .jsonl file of them; "
        f"taken in shuffled order, again and again; at most {MOST_PROMPTS:,}", max_length=MOST_PROMPTS,
        fail_fast=True, whole_texts=True, allowed="a list of texts, one at least, or the name of a file of them",
    )
    texts: list[Text] = _texts("whole texts, for methods that learn from texts")
    chosen: list[Text] = _texts("the preferred response to each of the prompts, for methods that learn from pairs")
    rejected: list[Text] = _texts("the other response to each of the prompts")
    source: str | None = setting(
        None, "rows in place of the lists: a .txt, .jsonl, .csv, .tsv or .parquet file, a folder of Parquet files or "
        "one that `datasets` saved, or the name of a dataset on the hub", min_length=1, max_length=MOST_LETTERS,
        allowed="a file, a folder, or the name of a dataset on the hub",
    )
    subset: str | None = setting(None, "configuration of a hub dataset that has several", max_length=MOST_LETTERS)
    split: str = setting("train", "split of a dataset; of a hub dataset also a part of one: train[:1000]",
                         min_length=1, max_length=MOST_LETTERS)
    revision: str | None = setting(None, "branch, tag or commit of a hub dataset; recorded when a run starts",
                                   max_length=MOST_LETTERS)
    prompt_column: Word = setting("prompt", "column of prompts: texts, or lists of chat messages", min_length=1)
    text_column: Word = setting("text", "column of whole texts", min_length=1)
    response_column: Word = setting("response", "column of responses to the prompts, in place of whole texts",
                                    min_length=1)
    chosen_column: Word = setting("chosen", "column of preferred responses", min_length=1)
    rejected_column: Word = setting("rejected", "column of the responses that they are preferred to", min_length=1)
    columns: list[Word] = setting([], "other columns that rewards may ask for; empty: all", max_length=1_000,
                                  fail_fast=True)
    sha256: str | None = setting(
        None, "digest of the source, recorded when a run starts; resuming asks first if it has changed",
        pattern="^[0-9a-f]{64}$", allowed="64 hexadecimal digits",
    )
    shuffle: bool = setting(True, "take the rows in shuffled order, another one each time through; else as they come")
    held_out: list[Text] = _texts("prompts that are never trained on, and answered every evaluate_every steps")
    held_out_share: float = setting(0.0, "share of the prompts that is held out besides; which ones depends on their "
                                    "texts alone", ge=0, le=0.5)
    evaluate_every: int = setting(10, "steps between two evaluations on held-out prompts; 0 is off", unit="steps",
                                  live=True, ge=0, le=COUNT)
    evaluate_most: int = setting(32, "held-out prompts that are answered at each evaluation, always the same ones",
                                 unit="prompts", live=True, ge=1, le=COUNT)
    chat_template: bool = setting(
        False, "put each prompt to the model as a user's message, by the chat template of its tokenizer"
    )
    system: str | None = setting(None, "system message before each prompt; needs chat_template",
                                 max_length=MOST_CHARACTERS)

    @field_validator("prompts", "texts", "chosen", "rejected", "held_out")
    @classmethod
    def _lists_are_no_library(cls, texts: list[str]) -> list[str]:
        if (size := sum(map(len, texts))) > MOST_OF_PROMPTS:
            raise ValueError(f"the texts have {size:,} characters together, where at most {MOST_OF_PROMPTS:,} are "
                             "allowed: every run keeps its own copy; a file that is named as data.source is not copied")
        return texts

    @field_validator("source", mode="before")
    @classmethod
    def _without_at(cls, source: object) -> object:
        return source.removeprefix("@") if isinstance(source, str) else source  # as files of lists are named

    @model_validator(mode="after")
    def _settings_fit_together(self) -> DataConfig:
        if self.system is not None and not self.chat_template:
            raise ValueError("system is a message, and only a chat template has a place for it; set chat_template = "
                             "true, or system = none")
        if self.source is None and (self.chosen or self.rejected) and not (
                len(self.prompts) == len(self.chosen) == len(self.rejected)):
            raise ValueError(f"{len(self.prompts)} prompts, {len(self.chosen)} chosen and {len(self.rejected)} "
                             "rejected responses are no pairs: there must be as many of each")
        return self

    @property
    def unused_lists(self) -> list[str]:
        """Those of the lists that hold something, but are not learnt from, since rows come from `source`."""
        lists = ("prompts", "texts", "chosen", "rejected")
        return [name for name in lists if self.source is not None and getattr(self, name)]

    @property
    def holds_out(self) -> bool:
        """Whether any prompts are held out."""
        return bool(self.held_out) or self.held_out_share > 0

    @property
    def on_hub(self) -> bool:
        """Whether `source`, if nothing lies there, can be a name on the hub."""
        return self.source is not None and _HUB_NAME.fullmatch(self.source) is not None
