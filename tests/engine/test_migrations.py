"""Files of earlier formats mean today what they meant then."""

from __future__ import annotations

import copy
import re
import tomllib
from typing import Any

import pytest
from configs import configs
from hypothesis import given, settings

from rlhf_engine.config import fields, preset_text, presets
from rlhf_engine.config.data import DataConfig
from rlhf_engine.config.migrations import FORMAT, earlier_names, migrated, renamed
from rlhf_engine.config.preset_writer import to_toml
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import ConfigError

OLD = '''# my preset
prompts = ["Once", "One day"]

[ppo]   # the method
level = "sequence"
epochs = 3         # passes
[optimizer]
actor_lr = 1e-4    # slow
critic_lr = 2e-4
critic_max_grad_norm = 0.5
[train]
critic_warmup_steps = 2
[[rewards]]
kind = "length"
min_words = 3
'''


def in_format_1(config: RunConfig) -> dict[str, Any]:
    """The settings as the first format had them."""
    data = config.model_dump()
    data["prompts"] = data.pop("data")["prompts"]
    newer = ("kind", "sequence_baseline")
    data["ppo"] = {key: value for key, value in data.pop("algorithm").items() if key not in newer}
    for name in ("learning_rate", "max_grad_norm"):
        data["optimizer"][f"actor_{name}".replace("learning_rate", "lr")] = data["optimizer"].pop(name)
        data["optimizer"][f"critic_{name}".replace("learning_rate", "lr")] = data["ppo"].pop(f"critic_{name}")
    data["train"]["critic_warmup_steps"] = data["ppo"].pop("critic_warmup_steps")
    return data


def test_a_preset_of_the_first_format_by_hand() -> None:
    config = preset_text.parse(OLD, "old.toml")
    method, optimizer = config.algorithm, config.optimizer
    assert config.data.prompts == ["Once", "One day"]
    assert (method.kind, method.level, method.epochs, method.critic_warmup_steps) == ("ppo", "sequence", 3, 2)
    assert method.sequence_baseline == "response", "there was no other"
    assert (optimizer.learning_rate, method.critic_learning_rate, method.critic_max_grad_norm) == (1e-4, 2e-4, 0.5)


@given(configs())
@settings(max_examples=30, deadline=None)
def test_any_settings_of_the_first_format_mean_the_same(config: RunConfig) -> None:
    if config.algorithm.level == "sequence":
        config = fields.replace(config, {"algorithm.sequence_baseline": "response"})
    else:
        config = fields.replace(config, {"algorithm.sequence_baseline": "prompt"})
    prompts_alone = DataConfig(prompts=config.data.prompts)  # all that the first format knew of data
    config = config.model_copy(update={"data": prompts_alone})
    old = in_format_1(config)
    before = copy.deepcopy(old)
    assert fields.validate(old) == config
    assert old == before, "what is migrated is a copy"
    assert migrated(migrated(old)) == migrated(old)


def test_what_is_of_today_stays_as_it_is() -> None:
    new = {"format": FORMAT, "algorithm": {"kind": "ppo", "level": "sequence"}, "data": {"prompts": ["x"]}}
    assert migrated(new) == {key: value for key, value in new.items() if key != "format"}
    assert migrated({"algorithm": {"level": "sequence"}}) == {"algorithm": {"level": "sequence"}}


@pytest.mark.parametrize("given_format", [0, FORMAT + 1, 10**30, -1, 1.5, "2", None, True, [2]])
def test_a_format_that_is_not_known_is_one_sentence(given_format: object) -> None:
    with pytest.raises(ConfigError, match="format") as caught:
        migrated({"format": given_format})
    assert "\n" not in str(caught.value)


def test_mistakes_are_told_under_the_names_and_lines_that_stand_in_the_file() -> None:
    with pytest.raises(ConfigError) as caught:
        preset_text.parse(OLD.replace("epochs = 3", "epochs = 0").replace("1e-4", "-1.0"), "old.toml")
    assert [problem.split(": ")[:2] for problem in caught.value.problems] == [
        ["old.toml:6", "ppo.epochs"], ["old.toml:8", "optimizer.actor_lr"]]


def test_adapters_stay_where_an_old_preset_had_them() -> None:
    assert preset_text.parse(OLD, "").lora.target_modules == [], "the attention projections, then the default"
    for lora in ("[lora]\nrank = 2\n", '[lora]\ntarget_modules = ["all-linear"]\n'):
        config = preset_text.parse(OLD + lora, "")
        assert config.lora.target_modules == (["all-linear"] if "all-linear" in lora else [])
    today = '[data]\nprompts = ["Once"]\n[algorithm]\nkind = "ppo"\n[[rewards]]\nkind = "length"\nmin_words = 3\n'
    assert preset_text.parse(today, "").lora.target_modules == ["all-linear"], "a new text need not say its format"
    assert preset_text.parse(to_toml(preset_text.parse(OLD, ""), OLD), "").lora.target_modules == []


def test_saving_over_an_old_preset_keeps_its_comments_and_says_todays_names() -> None:
    config = fields.replace(preset_text.parse(OLD, ""), {"kl.coef": 0.3})
    text = to_toml(config, OLD)
    assert preset_text.parse(text, "") == config
    assert set(re.findall(r"# .*", OLD)) <= set(re.findall(r"# .*", text))
    assert "ppo" not in tomllib.loads(text)
    assert "prompts" not in tomllib.loads(text)


def test_what_is_written_says_its_format() -> None:
    assert tomllib.loads(to_toml(preset_text.parse(OLD, "")))["format"] == FORMAT
    for info in presets.available():
        if info.origin == "shipped":
            assert tomllib.loads(info.path.read_text(encoding="utf-8"))["format"] == FORMAT


def test_old_names_still_mean_their_settings() -> None:
    config = presets.load_with_overrides(
        "animals", ["ppo.clip_range=0.1", "optimizer.critic_lr=0.5", 'prompts=["x"]'])
    assert config.algorithm.clip_range == 0.1
    assert config.algorithm.critic_learning_rate == 0.5
    assert config.data.prompts == ["x"]
    assert renamed("train.steps") == "train.steps"
    assert earlier_names("algorithm.clip_range") == ["ppo.clip_range"]
    for name in earlier_names("optimizer.learning_rate"):
        assert renamed(name) == "optimizer.learning_rate"
