"""What the hyperparameter form decides, without a screen."""

from __future__ import annotations

import pytest

from rlhf_engine.config.fields import replace, value_at
from rlhf_engine.config.rewards import LengthRewardConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_tui.areas.settings_form.setting_form import SettingForm, heading


@pytest.fixture
def form(config: RunConfig) -> SettingForm:
    form = SettingForm()
    form.load(config, training=False, preset=config, start=None)
    return form


def write(form: SettingForm, path: str, text: str) -> list[tuple[str, object]]:
    row = form.row_at(path)
    assert row is not None
    return form.commit(row, text)


def paths(form: SettingForm) -> list[str]:
    return [row.path for row in form.found]


# --- search ---


@pytest.mark.parametrize(("words", "there", "away"), [
    ("algorithm.CLIP", "algorithm.clip_range", "kl.coef"),  # the path
    ("rank of each adapter", "lora.rank", "lora.alpha"),  # the help
    ("nats per response", "kl.target", "kl.coef"),  # the unit
    ("penalty repeat", "rewards.0.repeat_penalty", "rewards.0.short_penalty"),  # words in any order
    ("adaptive moves", "kl.controller", "kl.target"),
])  # fmt: skip
def test_a_search_looks_into_path_help_and_unit(form: SettingForm, words: str, there: str, away: str) -> None:
    form.find(words)
    assert there in paths(form)
    assert away not in paths(form)


def test_a_search_opens_groups_and_puts_the_cursor_on_the_first_hit(form: SettingForm) -> None:
    form.fold_all(True)
    form.find("adam")
    assert form.stops()[1:] == ["optimizer.adam_beta1", "optimizer.adam_beta2", "optimizer.adam_eps"]
    assert form.cursor == "optimizer.adam_beta1"


def test_what_is_sought_in_vain_lists_nothing_and_going_to_a_setting_ends_the_search(form: SettingForm) -> None:
    form.find("zebra")
    assert form.stops() == []
    form.move(1)
    form.go_to("kl.coef")
    assert form.row is not None
    assert form.wanted == ""


def test_a_setting_that_no_search_shows_still_keeps_a_run_from_starting(form: SettingForm) -> None:
    write(form, "kl.coef", "abc")
    form.find("adam")
    assert form.problem == "KL coef: a number from 0 to 100"


# --- groups ---


def test_a_folded_group_shows_its_heading_alone(form: SettingForm) -> None:
    form.fold("PPO")
    stops = form.stops()
    assert heading("PPO") in stops
    assert "algorithm.level" not in stops
    form.go_to("algorithm.level")
    assert "algorithm.level" in form.stops()


def test_folding_all_leaves_the_cursor_on_the_heading_of_its_group(form: SettingForm) -> None:
    form.go_to("lora.rank")
    form.fold_all(True)
    assert form.group == "LoRA adapters"
    form.fold_all(False)
    assert len(form.stops()) == len(form.rows) + len(form.groups())


# --- marks ---


def test_changed_in_the_run_and_not_the_presets_are_two_things(form: SettingForm, config: RunConfig) -> None:
    start = replace(config, {"kl.coef": 0.3, "kl.target": 9.0})
    form.load(replace(start, {"kl.coef": 0.1, "train.steps": 7}), training=True, preset=config, start=start)
    marks = {row.path: (form.changed(row), form.off_preset(row)) for row in form.rows}
    assert {path: mark for path, mark in marks.items() if any(mark)} == {
        "kl.coef": (True, False), "kl.target": (False, True), "train.steps": (True, True),
    }  # fmt: skip


def test_rewards_of_another_kind_are_not_compared(form: SettingForm, config: RunConfig) -> None:
    other = config.model_copy(update={"rewards": [LengthRewardConfig()]})
    form.load(config, training=False, preset=other, start=other)
    assert not any(form.changed(row) for row in form.rows if row.setting.name == "liked_bonus")


# --- changes ---


def test_resetting_gives_the_very_value_of_the_preset_not_the_rounded_one(config: RunConfig) -> None:
    form = SettingForm()
    preset = replace(config, {"kl.coef": 0.123456789})
    form.load(replace(preset, {"kl.coef": 0.5}), training=False, preset=preset, start=None)
    row = form.row_at("kl.coef")
    assert row is not None
    assert form.reset(row) == [("kl.coef", 0.123456789)]
    assert form.reset(row) == []


def test_resetting_drops_what_is_not_allowed(form: SettingForm) -> None:
    write(form, "kl.coef", "abc")
    row = form.row_at("kl.coef")
    assert row is not None
    assert form.reset(row) == []
    assert form.problem == ""


def test_a_reset_that_does_not_fit_yet_waits_and_says_why(form: SettingForm, config: RunConfig) -> None:
    write(form, "algorithm.minibatch_size", "4")
    write(form, "algorithm.responses_per_step", "8")
    row = form.row_at("algorithm.minibatch_size")
    assert row is not None
    assert form.reset(row) == []
    assert "minibatch_size 32 is more than" in form.problem
    row = form.row_at("algorithm.responses_per_step")
    assert row is not None
    assert form.reset(row) == [("algorithm.responses_per_step", 64), ("algorithm.minibatch_size", 32)]
    assert form.config == config


def test_resetting_all_leaves_what_a_run_fixes(form: SettingForm, config: RunConfig) -> None:
    start = replace(config, {"train.seed": 7, "kl.coef": 0.3})
    form.load(start, training=True, preset=config, start=start)
    values, fixed = form.resets()
    assert values == {"kl.coef": 0.1}
    assert [row.path for row in fixed] == ["train.seed"]


def test_drafts_outlive_other_settings_but_not_another_preset(form: SettingForm, config: RunConfig) -> None:
    write(form, "kl.coef", "abc")
    form.load(replace(config, {"train.steps": 7}), training=False, preset=config, start=None)
    assert form.problem
    other = replace(config, {"train.steps": 9})
    form.load(other, training=False, preset=other, start=None)
    assert not form.problem


def test_every_row_can_be_turned_or_written_back_as_it_is_shown(form: SettingForm, config: RunConfig) -> None:
    config = replace(config, {"data.texts": ["A fox ran."]})  # or a method that learns from texts is refused
    form.load(config, training=False, preset=config, start=None)
    for row in form.rows:
        assert form.commit(row, form.shown(row)) == []
        if row.setting.kind in ("choice", "bool"):
            for _ in range(len(row.setting.choices) or 2):
                form.turn(row, 1)
            assert value_at(form.config, row.path) == value_at(config, row.path)  # type: ignore[arg-type]
