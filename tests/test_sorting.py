"""The recipe of two stages, sft-sorting and sorting: its problems are what made them, and in a soak it is cooked."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.recipe import measure
from benchmarks.sorting import files
from rlhf_engine.config import presets
from rlhf_engine.data.rows import load_data
from rlhf_engine.rewards.build import rewards_of
from rlhf_engine.runs.method_change import require_actor


def test_the_files_are_those_that_the_script_writes() -> None:
    for name, text in files().items():
        assert (presets.shipped_folder() / name).read_text(encoding="utf-8") == text


def test_the_second_stage_goes_on_from_the_first_and_holds_out_what_neither_has_seen() -> None:
    shown, tried = presets.load("sft-sorting"), presets.load("sorting")
    require_actor("taught", shown, tried)
    before, after = load_data(shown), load_data(tried)
    seen = {*before.train.prompts, *before.held_out.prompts, *after.train.prompts}
    assert len(after.held_out) == 200 == tried.data.evaluate_most
    assert not seen & set(after.held_out.prompts)


def test_a_solution_is_right_and_any_other_order_is_wrong() -> None:
    shown = load_data(presets.load("sft-sorting")).train
    rewards = rewards_of(presets.load("sft-sorting"))
    scored = rewards.score(shown.prompts, shown.texts["responses"])
    assert {score.total for score in scored.scores} == {1.0}
    other = [" " + ", ".join(reversed(text.strip(" .").split(", "))) + "." for text in shown.texts["responses"]]
    assert {score.total for score in rewards.score(shown.prompts, other).scores} == {0.0}


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_the_storyteller_is_shown_how_and_then_gets_better_by_trying(tmp_path: Path) -> None:
    base, shown, tried, alone = measure(0, tmp_path, tries=2, overrides=[])
    assert base["right"] == 0
    assert float(str(shown["right"])) > 0.2
    assert float(str(tried["low"])) > float(str(shown["high"]))
    assert float(str(alone["right"])) < 0.05
