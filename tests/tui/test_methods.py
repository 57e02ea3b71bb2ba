"""The methods side by side: asked for from the inspector, shown by token and by response, and given up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from moments import until
from tiny_models import save_tiny_model, tiny_config
from tui.fake_session import Sessions, story_group, story_sample, story_trace
from tui.questions import asks
from tui.test_hostile_screens import texts
from tui.test_hostile_text import is_harmless, shown_lines

from rlhf_engine.config.fields import validate
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.evaluation.credit import GroupCredit
from rlhf_engine.events import MethodsCompared, RunState, StepFinished
from rlhf_engine.requests import Cancel, CompareMethods
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.token_trace import TokenTrace
from rlhf_engine.training.trainer import Trainer
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.inspect.credit_facts import agreement, all_columns, pushed, traced
from rlhf_tui.areas.inspect.group_table import GroupTable
from rlhf_tui.areas.inspect.heat_text import HeatText
from rlhf_tui.areas.inspect.methods import MethodsScreen
from rlhf_tui.areas.inspect.screen import InspectScreen
from rlhf_tui.areas.inspect.token_table import TokenTable, lay_out
from rlhf_tui.engine.bridge import EngineBridge
from rlhf_tui.terminal.clean_text import clean_event

WIDE, SMALL = (120, 40), (80, 24)


def shown(app: WorkbenchApp) -> str:
    return "\n".join(shown_lines(app))


def questions(sessions: Sessions) -> list[CompareMethods]:
    return [request for request in sessions.last.asked if isinstance(request, CompareMethods)]


async def answer(pilot: Any, sessions: Sessions, group: GroupCredit | None, error: str = "") -> None:
    """What the engine says to the newest question."""
    sessions.last.emit(MethodsCompared(questions(sessions)[-1].id, group, error))
    pilot.app.show_events(pilot.app.bridge.drain())
    await pilot.pause()


async def opened(pilot: Any, sessions: Sessions, prompt: str = "Once upon a time ") -> MethodsScreen:
    app = pilot.app
    screen = MethodsScreen(app.bridge, app.code_questions, app.edited.config, prompt)
    app.push_screen(screen)
    await until(pilot, lambda: sessions and questions(sessions))
    return screen


# --- facts ---


def test_pushes_are_shown_in_thousandths_beside_advantages() -> None:
    group = story_group()
    _, trace = traced(group, 1)
    assert trace.series["grpo/pushes"] == tuple(1000 * value for value in group.methods[1].pushes[1])
    assert trace.series["ppo/advantages"] == group.methods[0].advantages[1]
    assert [(column.of, column.short) for column in all_columns(group)] == [
        ("PPO", "adv."), ("PPO", "push"), ("GRPO", "adv."), ("GRPO", "push")]


def test_a_sentence_says_who_pushes_a_token_where() -> None:
    group = story_group()
    ppo, grpo = (replace(method, pushes=((push,), *method.pushes[1:]))
                 for method, push in zip(group.methods, (0.1, -0.1), strict=True))
    sample = replace(group.samples[0], trace=TokenTrace((" fox",)))
    group = replace(group, samples=(sample, *group.samples[1:]), methods=(
        replace(ppo, advantages=((1.0,), *ppo.advantages[1:])),
        replace(grpo, advantages=((1.0,), *grpo.advantages[1:]))))
    assert pushed(group, 0, 0) == "·fox: ▲ likelier by PPO · ▼ less likely by GRPO"
    still = replace(group, methods=tuple(replace(method, pushes=((0.0,),)) for method in group.methods))
    assert pushed(still, 0, 0) == "·fox: ○ left alone by PPO, GRPO"


def test_how_often_methods_agree_is_counted_over_all_tokens() -> None:
    group = story_group(2)
    ppo, grpo = group.methods
    one = replace(ppo, pushes=((0.1, -0.1), (0.0, 0.2)))
    other = replace(grpo, pushes=((5.0, 5.0), (0.0, 0.1)))
    group = replace(group, methods=(one, other))
    assert "75 %" in agreement(group, other)
    assert agreement(group, one) == ""


def test_four_methods_have_room_in_the_usual_terminal() -> None:
    group = story_group()
    methods = [replace(method, kind=f"{method.kind}{at}") for at in range(2) for method in group.methods]
    columns = all_columns(replace(group, methods=tuple(methods)))
    assert len(lay_out(columns, columns[0], 77).columns) == 8


# --- asking ---


async def test_m_in_the_inspector_asks_for_a_group_to_the_prompt(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("f5", "4")
        sample = story_sample(3, 0)
        sessions.last.emit(StepFinished(3, 100, {}, (replace(sample, trace=story_trace(sample)),), 1.0))
        app.show_events(app.bridge.drain())
        await pilot.pause()
        await pilot.press("i", "m")
        await until(pilot, lambda: isinstance(app.screen, MethodsScreen) and questions(sessions))
        (question,) = questions(sessions)
        assert (question.prompt, question.responses, question.run) == (sample.prompt, 8, None)
        await until(pilot, lambda: "between steps" in shown(app))
        await answer(pilot, sessions, story_group())
        await until(pilot, lambda: "Response 1 of 4" in shown(app))
        for text in ("PPO", "GRPO", "adv.", "push", "baseline: mean score of the group", "nothing was trained"):
            assert text in shown(app)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, InspectScreen))


async def test_other_groups_can_be_asked_for_and_given_up(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        screen = await opened(pilot, sessions)
        await answer(pilot, sessions, story_group())
        await pilot.press("r")
        first, second = questions(sessions)
        assert (second.seed, second.responses) == (first.seed + 1, 8)
        await pilot.press("escape")
        assert Cancel(second.id) in sessions.last.asked
        await until(pilot, lambda: "cancelled" in shown(app))
        assert "Response 1 of 4" in shown(app)  # what was there stays
        await pilot.press("plus")
        assert questions(sessions)[-1].responses == 16
        await pilot.press("minus", "minus", "minus", "minus")
        assert questions(sessions)[-1].responses == 2
        asked = len(questions(sessions))
        await pilot.press("minus")
        assert len(questions(sessions)) == asked
        await until(pilot, lambda: "from 2 to 64" in shown(app))
        last = questions(sessions)[-1]
        screen.dismiss()
        await until(pilot, lambda: Cancel(last.id) in sessions.last.asked)


async def test_an_answer_that_was_given_up_changes_nothing(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await opened(pilot, sessions)
        old = questions(sessions)[0]
        await pilot.press("r")
        sessions.last.emit(MethodsCompared(old.id, story_group()))
        app.show_events(app.bridge.drain())
        await pilot.pause()
        assert "Response 1" not in shown(app)
        await answer(pilot, sessions, story_group(2))
        await until(pilot, lambda: "Response 1 of 2" in shown(app))


async def test_what_went_wrong_is_said_whole(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=SMALL) as pilot:
        await opened(pilot, sessions)
        await answer(pilot, sessions, None, "rewards: " + "the file is gone, " * 5 + "and that is all")
        await until(pilot, lambda: "and that is all" in shown(app))
        await pilot.press("n", "p", "down", "y", "tab", "down", "tab", "tab")  # nothing to go through yet
        await pilot.press("r")
        await answer(pilot, sessions, story_group())
        await until(pilot, lambda: "Response 1 of 4" in shown(app))
        assert "and that is all" not in shown(app)


async def test_a_run_that_is_viewed_is_asked_about_by_its_place(
    app: WorkbenchApp, bridge: EngineBridge, sessions: Sessions, config: RunConfig, tmp_path: Path
) -> None:
    run = RunDir.create(tmp_path / "runs", config, name="old")
    async with app.run_test(size=WIDE) as pilot:
        bridge.watch(run)
        await opened(pilot, sessions)
        assert questions(sessions)[0].run == run.path
    bridge.unwatch()


async def test_code_that_nobody_trusts_is_asked_about_first(
    bridge: EngineBridge, sessions: Sessions, tmp_path: Path
) -> None:
    file = tmp_path / "taste.py"
    file.write_text("def score(prompts, responses):\n    return [0.0] * len(responses)\n")
    app = WorkbenchApp(bridge, validate({"data": {"prompts": ["Once"]}, "rewards": [
        {"kind": "function", "name": "taste", "function": f"{file}:score"}]}), "mine")
    async with app.run_test(size=WIDE) as pilot:
        app.push_screen(MethodsScreen(bridge, app.code_questions, app.edited.config, "Once"))
        await until(pilot, lambda: asks(app))
        assert not questions(sessions)
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, MethodsScreen))
        await until(pilot, lambda: "not trusted" in shown(app))
        assert not questions(sessions)


async def test_a_prompt_is_sent_as_the_settings_have_it(bridge: EngineBridge, sessions: Sessions) -> None:
    app = WorkbenchApp(bridge, validate({"data": {"prompts": ["a\tb"]}, "rewards": [
        {"kind": "length", "name": "length"}]}), "mine")
    async with app.run_test(size=WIDE) as pilot:
        await opened(pilot, sessions, "a   b")
        assert questions(sessions)[0].prompt == "a\tb"


# --- showing ---


async def test_text_and_tables_go_together(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        screen = await opened(pilot, sessions)
        await answer(pilot, sessions, story_group())
        text, tokens, group = (screen.query_one(kind) for kind in (HeatText, TokenTable, GroupTable))
        await until(pilot, lambda: tokens.has_focus)
        await pilot.press("down", "down")
        assert (text.cursor, tokens.cursor) == (2, 2)
        await pilot.press("n")
        assert (group.cursor, tokens.cursor) == (1, 0)
        await until(pilot, lambda: "Response 2 of 4" in shown(app))
        await pilot.press("tab", "down")
        assert group.has_focus
        assert group.cursor == 2
        await until(pilot, lambda: "Response 3 of 4" in shown(app))
        await pilot.press("end", "n")
        assert group.cursor == 3
        await pilot.press("tab", "right")
        assert text.has_focus
        assert (text.cursor, tokens.cursor) == (1, 1)
        await pilot.click(GroupTable, offset=(9, 2))
        assert group.cursor == 0
        await pilot.click(TokenTable, offset=(9, 4))  # below a frame and two lines of headings
        assert tokens.cursor == 1
        await pilot.click(TokenTable, offset=(9, 2))
        assert tokens.cursor == 1


async def test_left_and_right_go_through_the_methods(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=SMALL) as pilot:
        await opened(pilot, sessions)
        await answer(pilot, sessions, story_group())
        await until(pilot, lambda: "colours: push by PPO" in shown(app))
        assert "▸ PPO" in shown(app)
        assert "mean score of the group" not in shown(app)  # there is room for one
        await pilot.press("right", "right")
        await until(pilot, lambda: "colours: push by GRPO" in shown(app))
        assert "▸ GRPO" in shown(app)
        assert "mean score of the group" in shown(app)


async def test_where_there_is_little_room_the_group_stands_in_the_place_of_the_tokens(
    app: WorkbenchApp, sessions: Sessions
) -> None:
    async with app.run_test(size=SMALL) as pilot:
        screen = await opened(pilot, sessions)
        await answer(pilot, sessions, story_group())
        tokens, group = screen.query_one(TokenTable), screen.query_one(GroupTable)
        await until(pilot, lambda: tokens.has_focus)
        assert (tokens.display, group.display) == (True, False)
        await pilot.press("tab")
        await until(pilot, lambda: group.has_focus)
        assert (tokens.display, group.display) == (False, True)
        await pilot.press("tab", "tab")
        await until(pilot, lambda: tokens.has_focus)
        assert (tokens.display, group.display) == (True, False)


async def test_a_method_that_is_left_out_is_told(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await opened(pilot, sessions)
        await answer(pilot, sessions, replace(story_group(), left_out=("RLOO: cannot be imported",)))
        await until(pilot, lambda: "RLOO: cannot be imported" in shown(app))


async def test_any_text_is_only_text_at_any_size(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        for number, text in enumerate(texts(4)):
            await opened(pilot, sessions, text)
            group = story_group(2)
            samples = tuple(replace(sample, prompt=text, response=text, trace=TokenTrace((text, "")))
                            for sample in group.samples)
            methods = tuple(replace(method, title=text, told=text, advantages=((1e30, -1e-30),) * 2,
                                    pushes=((0.0, 1e30),) * 2) for method in group.methods)
            told = clean_event(MethodsCompared(questions(sessions)[-1].id, replace(
                group, samples=samples, methods=methods, left_out=(text,)), text))
            sessions.last.emit(told)
            app.show_events(app.bridge.drain())
            await pilot.resize_terminal(*((120, 40), (80, 24), (60, 16), (20, 5))[number % 4])
            for key in ("down", "right", "n", "tab", "down", "tab", "right"):
                await pilot.press(key)
                assert all(map(is_harmless, shown_lines(app)))
            app.pop_screen()
        assert app.is_running


@pytest.mark.parametrize("size", [WIDE, SMALL, (50, 14)])
async def test_a_response_without_tokens_does_no_harm(
    app: WorkbenchApp, sessions: Sessions, size: tuple[int, int]
) -> None:
    async with app.run_test(size=size) as pilot:
        await opened(pilot, sessions)
        group = story_group(2)
        empty = replace(group.samples[0], response="", tokens=0, trace=TokenTrace(()))
        methods = tuple(replace(method, advantages=((), method.advantages[1]), pushes=((), method.pushes[1]))
                        for method in group.methods)
        await answer(pilot, sessions, replace(group, samples=(empty, group.samples[1]), methods=methods))
        await pilot.press("down", "right", "end", "tab", "down", "up", "tab", "right")
        await until(pilot, lambda: "The response has no token" in shown(app))


# --- with an engine ---


async def test_a_finished_run_that_is_viewed_shows_what_each_method_would_do(tmp_path: Path) -> None:
    config = tiny_config(save_tiny_model(tmp_path / "model", "llama"))
    run = RunDir.create(tmp_path / "runs", config, name="old")
    Trainer(config, run_dir=run, emit=lambda event: None).run()
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    bridge = EngineBridge(tmp_path / "runs")
    app = WorkbenchApp(bridge, config, "mine")
    async with app.run_test(size=WIDE) as pilot:
        bridge.watch(run)
        await until(pilot, lambda: bridge.state is RunState.FINISHED and app.workbench.samples.samples.shown)
        await pilot.press("4", "i", "m")
        await until(pilot, lambda: "Response 1 of 8" in shown(app))
        for title in ("PPO", "GRPO", "RLOO", "REINFORCE", "after step 3"):
            assert title in shown(app)
        assert "no critic" not in shown(app)
        bridge.close()
        await until(pilot, lambda: not bridge.alive)
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before
