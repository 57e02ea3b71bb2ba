"""Rewards that can be checked, on the screen: added with a pattern, tried, lit up, edited while a run goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from moments import until
from textual.pilot import Pilot
from tui.fake_session import Sessions
from tui.test_generate import shown, tell

from rlhf_engine.config.fields import validate
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.config.verifiable import AnswerRewardConfig, RegexRewardConfig
from rlhf_engine.events import RunState, Sample, Span, StateChanged
from rlhf_engine.requests import Edit
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.rewards.new_reward import NewRewardScreen
from rlhf_tui.areas.rewards.reward_form import RewardForm
from rlhf_tui.areas.rewards.scoring import Scorer
from rlhf_tui.areas.rewards.try_it import Trial, shown_verdict
from rlhf_tui.widgets.answer import continued

WIDE = (120, 40)


async def until_shown(pilot: Pilot[Any], text: str) -> None:
    await until(pilot, lambda: text in shown(pilot.app), lambda: shown(pilot.app))


def lit(content: Any) -> list[tuple[str, str]]:
    """What is marked, and as what."""
    return [(content.plain[span.start:span.end], "good" if "underline" in str(span.style) else "bad")
            for span in content.spans if "underline" in str(span.style) or "strike" in str(span.style)]


@pytest.fixture
def sums(tmp_path: Path) -> RunConfig:
    source = tmp_path / "sums.jsonl"
    source.write_text("\n".join(json.dumps({"prompt": f"{a} + {a} =", "answer": 2 * a}) for a in range(1, 9)))
    return validate({"data": {"source": str(source)}, "rewards": [{"kind": "answer"}]})


async def test_a_pattern_is_checked_while_it_is_typed_and_then_tried(app: WorkbenchApp) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("w", "a", "right", "right", "right", "down", "down", *"(a|b")
        await until_shown(pilot, "missing )")
        await until_shown(pilot, "at character 1")
        await pilot.press("enter")
        assert isinstance(app.screen, NewRewardScreen)
        await pilot.press(*")[0-9]")
        await until_shown(pilot, "✓ Enter adds it")
        await pilot.press("enter")
        await until_shown(pilot, "Reward “regex” · regex")
        assert app.edited.config.rewards[1] == RegexRewardConfig(pattern="(a|b)[0-9]")
        await pilot.press("3", "enter", *"a7 and b8")
        await until_shown(pilot, "regex  1 × +1.00 = +1.00   found +1.00")
        await pilot.press("escape", "1")
        app.screen.query_one(RewardForm).show_path("rewards.1.count")
        await pilot.press("right")
        await until_shown(pilot, "regex  1 × +2.00 = +2.00   found +2.00")


async def test_settings_that_do_not_fit_are_refused_in_place(app: WorkbenchApp, sums: RunConfig) -> None:
    app.edited.config = sums
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("w")
        app.screen.query_one(RewardForm).show_path("rewards.0.pattern")
        await pilot.press("enter", *"x[", "enter")
        await until_shown(pilot, "no regular expression")
        assert app.edited.config.rewards == [AnswerRewardConfig()]


async def test_live_edits_of_an_answer_reward_reach_the_run_and_its_column_is_locked(
    app: WorkbenchApp, sessions: Sessions, sums: RunConfig
) -> None:
    app.edited.config = sums
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("w", "f5")
        await tell(pilot, sessions, StateChanged(RunState.TRAINING, 0, 30))
        app.screen.query_one(RewardForm).show_path("rewards.0.wrong_score")
        await pilot.press("enter", "end", "backspace", *"-1", "enter")
        await until(pilot, lambda: any(isinstance(one, Edit) for one in sessions.last.asked))
        (edit,) = [one for one in sessions.last.asked if isinstance(one, Edit)]
        assert (edit.path, edit.value) == ("rewards.0.wrong_score", -1)
        app.screen.query_one(RewardForm).show_path("rewards.0.column")
        await until_shown(pilot, "fixed during a run")


def test_a_text_is_tried_against_the_row_of_its_prompt(sums: RunConfig) -> None:
    scorer = Scorer()
    right, wrong, typed = (scorer.verdict(sums, prompt, response) for prompt, response in (
        ("3 + 3 =", " that is 6"), ("3 + 3 =", " that is 7"), ("", " 6")))
    assert [verdict.score and verdict.score.total for verdict in (right, wrong, typed)] == [1.0, 0.0, 0.0]
    assert lit(shown_verdict(Trial("", "3 + 3 =", " that is 6"), right)) == [("6", "good")]
    assert lit(shown_verdict(Trial("", "3 + 3 =", " that is 7"), wrong)) == [("7", "bad")]
    assert "does not apply" in shown_verdict(Trial("", "", " 6"), typed).plain


def test_data_that_cannot_be_read_are_a_sentence(sums: RunConfig) -> None:
    Path(str(sums.data.source)).write_text("{")
    verdict = Scorer().verdict(sums, "3 + 3 =", "6")
    assert verdict.score is None
    assert "not JSON" in verdict.error


def test_samples_light_up_what_earned_and_what_cost() -> None:
    text = "so 6, not 7, fox, boy"
    places = {"right": (3, 4), "wrong": (10, 11), "rewarded": (13, 16), "penalized": (18, 21)}
    sample = Sample(step=1, prompt="", response=text, score=1.0, parts={}, kl=0.0, tokens=3, finished=True,
                    spans=tuple(Span(*place, kind) for kind, place in places.items()))
    assert lit(continued("", text, sample.spans)) == [("6", "good"), ("7", "bad"), ("fox", "good"), ("boy", "bad")]
