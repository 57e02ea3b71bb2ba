"""What every group of settings is made of: fields with their facts, and a model that refuses what it does not know."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from rlhf_engine.files.toml_text import MOST_CHARACTERS

COUNT = 1_000_000_000
"""The most steps, tokens or words that any setting counts."""
MOST_LETTERS = 10_000
"""Of a name, a path or a description."""
Text = Annotated[str, StringConstraints(max_length=MOST_CHARACTERS)]
"""One of a list of texts."""
Word = Annotated[str, StringConstraints(max_length=1_000)]
"""One of a list of words, or a phrase."""


def setting(
    default: Any, help: str, *, unit: str = "", live: bool = False, allowed: str = "", whole_texts: bool = False,
    label: str = "", **bounds: Any,
) -> Any:
    """A pydantic field with the extra facts that the form, the CLI and the docs show.

    allowed: what may stand there, in words, where the bounds alone do not say it. whole_texts: of a list whose items
    may hold commas. label: a short name for forms, where that of the field is not what people call it.
    """
    extra: dict[str, Any] = {"unit": unit, "live": live, "allowed": allowed, "whole_texts": whole_texts,
                             "label": label}
    if default is ...:
        return Field(description=help, json_schema_extra=extra, **bounds)
    if isinstance(default, list):
        return Field(default_factory=lambda: list(default), description=help, json_schema_extra=extra, **bounds)
    return Field(default=default, description=help, json_schema_extra=extra, **bounds)


class Section(BaseModel):
    """A frozen group of settings; unknown keys, other types, NaN and infinity are refused."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _none_in_words(cls, data: Any) -> Any:
        """TOML has no null, so optional settings are written, and read here, as the word none."""
        if not isinstance(data, dict):
            return data
        optional = {name for name, info in cls.model_fields.items() if type(None) in get_args(info.annotation)}
        return {key: None if key in optional and value == "none" else value for key, value in data.items()}
