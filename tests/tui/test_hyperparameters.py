"""The hyperparameter form: checked as one types, committed on leaving, locked where a run forbids it."""

from __future__ import annotations

from typing import Any

import pytest
from moments import until
from textual import events
from textual.app import App, ComposeResult
from tui.fake_session import Sessions

from rlhf_engine.config.fields import replace, settings
from rlhf_engine.config.run_config import RunConfig
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.settings_form.hyperparameters import HyperparametersPane
from rlhf_tui.areas.settings_form.setting_rows import LABEL_WIDTH, form_rows
from rlhf_tui.widgets.inputs import EditField


class Host(App[None]):
    """Only the pane, and what it posts."""

    def __init__(self, config: RunConfig, *, training: bool = False) -> None:
        super().__init__()
        self.pane = HyperparametersPane()
        self.edits: list[tuple[str, Any]] = []
        self._config, self._training = config, training

    def compose(self) -> ComposeResult:
        yield self.pane

    def on_mount(self) -> None:
        self.pane.load(self._config, training=self._training)
        self.pane.focus()

    def on_hyperparameters_pane_edited(self, event: HyperparametersPane.Edited) -> None:
        self.edits.append((event.path, event.value))

    def lines(self) -> list[str]:
        return ["".join(s.text for s in strip if not s.control) for strip in self.screen._compositor.render_strips()]

    def line(self, label: str) -> str:
        return next(line for line in self.lines() if label in line)


async def type_into(pilot: Any, path: str, text: str, *then: str) -> None:
    pilot.app.pane.show_path(path)
    await pilot.press("enter", *(key_of(c) for c in text), *then)
    await pilot.pause()


def key_of(character: str) -> str:
    return {".": "full_stop", "-": "minus", " ": "space", "[": "left_square_bracket", "/": "slash",
            "]": "right_square_bracket"}.get(character, character)


def test_every_setting_but_lists_and_prompts_has_a_row_of_its_own(config: RunConfig) -> None:
    rows = form_rows(config)
    paths = {item.path for item in settings(config) if config.algorithm.uses(item.path)}
    assert {row.path for row in rows} == paths - {"data.prompts", "rewards.0.liked", "rewards.0.disliked"}
    assert len(rows) == len({row.path for row in rows})


def test_labels_fit_and_differ(config: RunConfig) -> None:
    labels = [(row.group, row.label) for row in form_rows(config)]
    assert all(len(label) <= LABEL_WIDTH for _, label in labels)
    assert len(set(labels)) == len(labels)


async def test_a_valid_value_is_committed_by_enter_and_marked(config: RunConfig) -> None:
    app = Host(config)
    async with app.run_test(size=(30, 24)) as pilot:
        await type_into(pilot, "kl.coef", "0.25", "enter")
        assert app.edits == [("kl.coef", 0.25)]
        assert app.pane.config is not None
        assert app.pane.config.kl.coef == 0.25
        assert "≠KL coef" in app.line("KL coef")
        assert app.focused is app.pane


async def test_a_wrong_value_says_below_what_is_allowed_while_one_types(config: RunConfig) -> None:
    app = Host(config)
    async with app.run_test(size=(30, 24)) as pilot:
        await type_into(pilot, "kl.coef", "abc")
        at = next(i for i, line in enumerate(app.lines()) if "KL coef" in line)
        assert "✗" in app.lines()[at]
        assert "└ a number from 0 to 100" in app.lines()[at + 1]
        await pilot.press("enter")
        assert isinstance(app.focused, EditField)
        assert not app.edits


async def test_esc_restores_the_last_valid_value_and_leaves_the_field(config: RunConfig) -> None:
    app = Host(config)
    async with app.run_test(size=(30, 24)) as pilot:
        await type_into(pilot, "kl.coef", "abc", "escape")
        assert app.focused is app.pane
        assert not app.pane.problem
        assert "0.1" in app.line("KL coef")


async def test_settings_that_depend_on_each_other_are_changed_in_either_order(config: RunConfig) -> None:
    app = Host(config)
    async with app.run_test(size=(40, 24)) as pilot:
        await type_into(pilot, "algorithm.responses_per_step", "16", "down")
        assert "minibatch_size 32 is more than" in app.pane.problem
        await type_into(pilot, "algorithm.minibatch_size", "8", "enter")
        assert app.edits == [("algorithm.minibatch_size", 8), ("algorithm.responses_per_step", 16)]
        assert not app.pane.problem


async def test_choices_turn_and_optional_settings_take_none(config: RunConfig) -> None:
    app = Host(config)
    async with app.run_test(size=(40, 24)) as pilot:
        app.pane.show_path("algorithm.level")
        await pilot.press("right")
        await type_into(pilot, "algorithm.value_clip_range", "none", "tab")
        assert app.edits == [("algorithm.level", "sequence"), ("algorithm.value_clip_range", None)]


async def test_an_untouched_number_is_not_rounded(config: RunConfig) -> None:
    app = Host(replace(config, {"kl.coef": 0.123456789}))
    async with app.run_test(size=(40, 24)) as pilot:
        await type_into(pilot, "kl.coef", "", "enter")
        assert not app.edits


async def test_what_cannot_change_is_locked_while_training_and_says_why(config: RunConfig) -> None:
    app = Host(config, training=True)
    async with app.run_test(size=(40, 24)) as pilot:
        await type_into(pilot, "algorithm.minibatch_size", "")
        assert app.focused is app.pane
        assert "⊘" in app.line("minibatch")
        assert any("fixed during a run" in line for line in app.lines())
        await type_into(pilot, "kl.coef", "0.3", "enter")
        assert app.edits == [("kl.coef", 0.3)]


async def test_a_terminal_window_that_loses_the_focus_commits_nothing(config: RunConfig) -> None:
    app = Host(config)
    async with app.run_test(size=(40, 24)) as pilot:
        await type_into(pilot, "kl.coef", "1")
        app.post_message(events.AppBlur())
        await pilot.pause()
        assert not app.edits


async def test_loading_while_one_types_keeps_what_is_typed(config: RunConfig) -> None:
    app = Host(config)
    async with app.run_test(size=(40, 24)) as pilot:
        await type_into(pilot, "kl.coef", "0.7")
        app.pane.load(replace(config, {"train.steps": 7}), training=True)
        await pilot.press("enter")
        await pilot.pause()
        assert app.edits == [("kl.coef", 0.7)]


async def test_f5_in_a_field_starts_with_what_was_typed(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        app.workbench.hyperparameters.show_path("kl.coef")
        await pilot.press("enter", "0", "full_stop", "7", "f5")
        await until(pilot, lambda: bool(sessions) and sessions.last.config is not None)
        assert sessions.last.config is not None
        assert sessions.last.config.kl.coef == 0.7


async def test_a_search_narrows_as_one_types_and_esc_ends_it(config: RunConfig) -> None:
    app = Host(config)
    async with app.run_test(size=(40, 24)) as pilot:
        await pilot.press("slash", *"clip")
        await pilot.pause()
        assert app.line("clip ε")
        assert not any("minibatch " in line for line in app.lines())
        await pilot.press("minus", "R", "u", "backspace", "backspace", "backspace", "enter")
        assert app.focused is app.pane
        assert app.line("clip ε")
        await pilot.press("slash", *"zebra")
        await pilot.pause()
        assert any("no setting holds “zebra”" in line for line in app.lines())
        await pilot.press("escape")
        await pilot.pause()
        assert app.line("minibatch")
        assert not app.edits


async def test_a_folded_group_says_how_much_is_in_it_and_what_became_of_it(config: RunConfig) -> None:
    app = Host(config)
    async with app.run_test(size=(40, 24)) as pilot:
        app.pane.load(replace(config, {"kl.horizon": 90.0}), training=True, preset=config, start=config)
        await pilot.press("minus", "down", "down", "right")
        await pilot.pause()
        assert "▸ KL penalty" in app.line("KL penalty")
        assert "2 •1 ≠1" in app.line("KL penalty")
        await pilot.press("up", "enter")
        await pilot.pause()
        assert "▾ KL penalty" in app.line("KL penalty")
        assert "•KL horizon" in app.line("KL horizon")


async def test_the_foot_tells_default_preset_and_start_apart(config: RunConfig) -> None:
    app = Host(config)
    async with app.run_test(size=(90, 24)) as pilot:
        preset, start = replace(config, {"kl.target": 7.0}), replace(config, {"kl.target": 8.0})
        app.pane.load(replace(config, {"kl.target": 9.0}), training=True, preset=preset, start=start)
        app.pane.show_path("kl.target")
        await pilot.pause()
        assert any("default 6 · preset 7 · at the start of the run 8" in line for line in app.lines())
        assert "default 6" in app.line("KL target")


async def test_a_click_opens_what_it_hits(config: RunConfig) -> None:
    app = Host(config)
    async with app.run_test(size=(40, 24)) as pilot:
        await pilot.click(offset=(3, 2))
        assert isinstance(app.focused, EditField)
        await pilot.press("escape")
        await pilot.click(offset=(3, 0))
        await pilot.pause()
        assert "▸ Main" in app.lines()[0]


@pytest.mark.parametrize("size", [(20, 5), (30, 12), (80, 24), (300, 100)])
async def test_no_size_is_too_small_or_too_large(config: RunConfig, size: tuple[int, int]) -> None:
    app = Host(config)
    async with app.run_test(size=size) as pilot:
        await type_into(pilot, "kl.coef", "abc", "down", "end", "enter")
        assert all(len(line) <= size[0] for line in app.lines())
