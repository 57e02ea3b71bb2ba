"""Configurations for tests: a small one, and a hypothesis strategy for all of them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from pydantic.fields import FieldInfo

from rlhf_engine.config import fields
from rlhf_engine.config.data import DataConfig
from rlhf_engine.config.methods.ppo import PPOConfig
from rlhf_engine.config.rewards import LengthRewardConfig, WordListRewardConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.config.sections import SentinelConfig, TrainConfig
from rlhf_engine.errors import ConfigError

SMALL = RunConfig(
    data=DataConfig(prompts=["Once upon a time", "One day,"]),
    rewards=[WordListRewardConfig(name="animals", liked=["fox", "owl"], disliked=["boy"]), LengthRewardConfig()],
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
words = st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=1, max_size=6)


def values(info: FieldInfo) -> st.SearchStrategy[Any]:
    """Every value that a setting allows."""
    setting = fields._setting("x", info)
    bounds = {name: getattr(item, name) for item in info.metadata for name in ("ge", "gt", "le", "lt")
              if getattr(item, name, None) is not None}
    low, high = bounds.get("ge", bounds.get("gt", -(10**9))), bounds.get("le", bounds.get("lt", 10**9))
    made: st.SearchStrategy[Any] = {
        "bool": st.booleans(),
        "int": st.integers(low, high - ("lt" in bounds) if isinstance(high, int) else 10**9),
        "float": st.floats(low, high, exclude_min="gt" in bounds, exclude_max="lt" in bounds, allow_nan=False),
        "choice": st.sampled_from(setting.choices or ("",)),
        "text": texts.filter(bool),
        "list": st.lists(texts, min_size=1, max_size=4),
    }[setting.kind]
    if setting.optional:
        made = st.none() | made
    return made.filter(lambda value: value != "none")


def section(model: Any, **given: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Some settings of a section, the others at their defaults."""
    optional = {name: values(info) for name, info in model.model_fields.items() if name not in ("kind", "name", *given)}
    return st.fixed_dictionaries(given, optional=optional)


# lists of pairs are as long as each other, and a system text needs a template
DATA = section(DataConfig, prompts=st.lists(texts.filter(bool), min_size=1, max_size=4), chosen=st.just([]),
               rejected=st.just([]), chat_template=st.just(True), sha256=st.none() | st.just("0a" * 32))


@st.composite
def configs(draw: st.DrawFn) -> RunConfig:
    """Any valid configuration."""
    word_list = section(
        WordListRewardConfig, kind=st.just("word_list"), name=st.just("words"),
        liked=st.lists(words.map(lambda word: "a" + word), min_size=1, max_size=30),
        disliked=st.lists(words.map(lambda word: "b" + word), max_size=30),
    )
    length = section(LengthRewardConfig, kind=st.just("length"), name=st.just("length"))
    train = section(TrainConfig, keep_best=st.sampled_from(["objective/scores", "loss/value_avg", "none"]))
    data = draw(st.fixed_dictionaries({
        "description": texts,
        "rewards": st.tuples(word_list, length).map(list) | word_list.map(lambda reward: [reward]),
        **{name: section(info.annotation) for name, info in RunConfig.model_fields.items()
           if hasattr(info.annotation, "model_fields")},
        "data": DATA,
        "algorithm": section(PPOConfig, kind=st.just("ppo")),
        "train": train,
        "sentinel": section(SentinelConfig, gold=st.sampled_from(["auto", "none", "words"])),
    }))
    try:
        return fields.validate(data)
    except ConfigError:  # limits between two settings
        for name in ("algorithm", "sampling", "kl"):
            data.pop(name)
        data["rewards"] = [reward for reward in data["rewards"] if reward["kind"] == "word_list"]
        return fields.validate(data)
