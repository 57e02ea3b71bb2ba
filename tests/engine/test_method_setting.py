"""`algorithm.kind` as a setting: what is kept, what is not, and what is said."""

from __future__ import annotations

import pytest
from configs import SMALL

from rlhf_engine.config import fields, presets
from rlhf_engine.config.fields import METHOD
from rlhf_engine.config.kinds import algorithm_kinds
from rlhf_engine.errors import ConfigError


@pytest.mark.parametrize("kind", algorithm_kinds())
def test_any_method_can_be_chosen_and_every_setting_of_it_is_there(kind: str) -> None:
    lists = {"data.texts": ["A fox ran."], "data.chosen": ["fox"] * 2, "data.rejected": ["boy"] * 2}
    small = fields.replace(SMALL, {"algorithm.minibatch_size": 2, **lists})
    config = fields.replace(small, {METHOD: kind})
    assert config.algorithm.kind == kind
    own = {item.name for item in fields.settings(config) if item.section == "algorithm"}
    assert own == set(type(config.algorithm).model_fields)
    assert {item.path for item in fields.settings(SMALL, kind)} == {item.path for item in fields.settings(config)}


def test_settings_that_both_methods_have_are_kept_and_others_are_the_defaults() -> None:
    before = fields.replace(SMALL, {"algorithm.responses_per_step": 24, "algorithm.minibatch_size": 12,
                                    "algorithm.trace_decay": 0.5})
    after = fields.replace(before, {METHOD: "grpo", "algorithm.group_size": 6})
    assert fields.value_at(after, "algorithm.responses_per_step") == 24
    assert fields.value_at(after, "algorithm.minibatch_size") == 12
    assert fields.value_at(after, "algorithm.group_size") == 6
    assert fields.value_at(fields.replace(after, {METHOD: "ppo"}), "algorithm.trace_decay") != 0.5


def test_settings_of_the_new_method_may_stand_before_it_in_a_command() -> None:
    config = presets.load_with_overrides("animals", ["algorithm.group_size=16", "algorithm.kind=rloo"])
    assert (config.algorithm.kind, fields.value_at(config, "algorithm.group_size")) == ("rloo", 16)


@pytest.mark.parametrize(("overrides", "told"), [
    (["algorithm.kind=grpx"], ["algorithm.kind", "grpo"]),
    (["algorithm.kind=grpo", "algorithm.trace_decay=0.9"], ["algorithm.trace_decay"]),
    (["algorithm.kind=grpo", "algorithm.group_size=7"], ["group_size"]),
])
def test_what_does_not_fit_is_told_once(overrides: list[str], told: list[str]) -> None:
    with pytest.raises(ConfigError) as refused:
        presets.load_with_overrides("animals", overrides)
    assert len(refused.value.problems) == 1
    assert all(word in str(refused.value) for word in told)


def test_what_changed_between_two_methods_names_the_method_and_what_both_have() -> None:
    after = fields.replace(SMALL, {METHOD: "grpo", "algorithm.responses_per_step": 16, "algorithm.minibatch_size": 16})
    changed = fields.changed_settings(SMALL, after)
    assert changed[METHOD] == ("ppo", "grpo")
    assert changed["algorithm.responses_per_step"][1] == 16
    assert "algorithm.trace_decay" not in changed
