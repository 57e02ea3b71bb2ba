"""Code of rewards that nobody has agreed to: before it runs a person is asked, and sees it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from moments import trusted, until
from textual.pilot import Pilot
from textual.widget import Widget
from textual.widgets import Static
from tiny_models import save_tiny_model, tiny_config
from tui.fake_session import Sessions
from tui.questions import agree, asks
from tui.terminal import Terminal
from tui.test_workbench import WIDE, alarm

from rlhf_engine.config.fields import validate
from rlhf_engine.config.preset_writer import to_toml
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import CodeInQuestion
from rlhf_engine.events import RunState
from rlhf_engine.requests import Compare, Generate, Resume, Side, Start
from rlhf_engine.rewards.function import code_at, pinned
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.trust import is_trusted
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.compare.screen import CompareScreen
from rlhf_tui.areas.generate.screen import GenerateScreen
from rlhf_tui.areas.trust.trust_screen import TrustScreen
from rlhf_tui.engine.bridge import EngineBridge

MARKS = """
from pathlib import Path
Path({ran!r}).touch()


def score(prompts, responses):
    return [float(len(response)) for response in responses]
"""


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """What the code leaves when it is run."""
    return tmp_path / "ran"


@pytest.fixture
def file(tmp_path: Path, ran: Path) -> Path:
    """Code that nobody trusts."""
    path = tmp_path / "taste.py"
    path.write_text(MARKS.format(ran=str(ran)))
    return path


@pytest.fixture
def app(bridge: EngineBridge, file: Path) -> WorkbenchApp:
    return WorkbenchApp(bridge, config_of(file), "mine")


def config_of(*files: Path, **changes: Any) -> RunConfig:
    rewards = [{"kind": "function", "name": path.stem, "function": f"{path}:score"} for path in files]
    return validate({"data": {"prompts": ["Once"]}, "rewards": rewards, **changes})


def shown(app: WorkbenchApp) -> str:
    return "\n".join(str(part.content) for part in app.screen.query(Static))


def asked_of(sessions: Sessions) -> list[type]:
    return [type(request) for request in sessions.last.asked]


async def test_a_start_asks_and_begins_after_a_yes(app: WorkbenchApp, file: Path, sessions: Sessions) -> None:
    code = code_at(file)
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("f5", "y")  # as if it had been typed before the question was there
        assert asks(app)
        for told in (str(file), code.digest, "def score(prompts, responses):"):
            assert told in shown(app)
        await pilot.press("n")
        await until(pilot, lambda: not asks(app))
        assert str(file) in alarm(app)
        assert Start not in asked_of(sessions)
        assert not is_trusted(code.digest)
        await pilot.press("f5", "escape")
        assert not asks(app)
        await pilot.press("f5", "enter")
        assert not asks(app)
        assert Start not in asked_of(sessions)
        await pilot.press("f5")
        await agree(pilot)
        await until(pilot, lambda: asked_of(sessions).count(Start) == 1)
        assert is_trusted(code.digest)


async def test_nothing_of_it_runs_before_a_yes(tmp_path: Path, file: Path, ran: Path) -> None:
    model = save_tiny_model(tmp_path / "model", "gpt_neo")
    config = tiny_config(model, rewards=config_of(file).model_dump()["rewards"], train={"steps": 1})
    app = WorkbenchApp(EngineBridge(tmp_path / "runs"), config, "mine", start=True)
    async with app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: asks(app))
        await pilot.press("n", "w")
        await pilot.press("3", "enter", *"fox")
        await until(pilot, lambda: str(file) in shown(app))
        await pilot.press("escape", "escape")
        assert not ran.exists()
        assert not (tmp_path / "runs").exists()
        await pilot.press("f5")
        await agree(pilot)
        await until(pilot, lambda: app.bridge.state is RunState.FINISHED, lambda: app.bridge.view.message)
        assert ran.exists()
        app.bridge.close()
        app.bridge.join()


async def test_each_of_several_files_is_asked_about(bridge: EngineBridge, file: Path, sessions: Sessions) -> None:
    other = file.with_name("other.py")
    other.write_text(f"import neighbour\n# {file}\n\ndef score(prompts, responses): return [1.0]\n")
    file.with_name("neighbour.py").write_text("x = 1\n")
    app = WorkbenchApp(bridge, config_of(file, other), "mine")
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("f5")
        await agree(pilot)
        await until(pilot, lambda: asks(app) and "neighbour.py" in shown(app))
        assert Start not in asked_of(sessions)
        await pilot.press("n")
        await until(pilot, lambda: not asks(app))
        assert Start not in asked_of(sessions)
        await pilot.press("f5")
        assert str(other) in shown(app)  # the first was agreed to
        await agree(pilot)
        await until(pilot, lambda: Start in asked_of(sessions))


async def test_answers_and_comparisons_do_without_scores_after_a_no(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("g", "enter")
        assert asks(app)
        assert Generate not in asked_of(sessions)
        await pilot.press("n")
        await until(pilot, lambda: Generate in asked_of(sessions))
        assert isinstance(app.screen, GenerateScreen)
        await pilot.press("escape", "escape", "c")
        await until(pilot, lambda: Compare in asked_of(sessions))  # what was said no to is not asked again
        assert isinstance(app.screen, CompareScreen)


async def test_a_comparison_of_two_runs_asks_about_the_code_of_the_first(
    bridge: EngineBridge, config: RunConfig, file: Path, sessions: Sessions
) -> None:
    run = RunDir.create(bridge.runs_root, config_of(file), name="quiet-owl")
    app = WorkbenchApp(bridge, config, "animals")
    async with app.run_test(size=WIDE) as pilot:
        side = Side("checkpoint", run.path)
        app.push_screen(CompareScreen(bridge, app.code_questions, config, (side, side)))
        await agree(pilot)
        await until(pilot, lambda: asked_of(sessions) == [Compare])
        assert is_trusted(code_at(file).digest)


async def test_the_same_question_of_several_is_asked_once(app: WorkbenchApp, config: RunConfig, file: Path) -> None:
    told: list[str] = []
    other = file.with_name("other.py")
    other.write_text(f"# {file}\n")
    questions, mine = app.code_questions, app.edited.config
    async with app.run_test(size=WIDE) as pilot:
        for name, settings in (("a", mine), ("b", mine), ("c", config_of(other)), ("d", config)):
            questions.settle(settings, lambda _, name=name: told.append(name), refused=told.append)
        assert told == ["d"]  # there is nothing to ask
        await agree(pilot)
        await until(pilot, lambda: told == ["d", "a", "b"] and asks(app))
        assert str(other) in shown(app)
        await pilot.press("n")
        await until(pilot, lambda: len(told) == 4 and not asks(app))
        assert str(other) in told[3]


async def test_a_run_that_is_gone_on_with_asks_one_question(
    bridge: EngineBridge, file: Path, sessions: Sessions
) -> None:
    trusted(file)
    run = RunDir.create(bridge.runs_root, pinned(config_of(file)), name="quiet-owl")
    run.write_status(RunState.STOPPED, 3, 100, "stopped after step 3")
    file.write_text(f"{file.read_text()}\n# another now\n")
    bridge.watch(run)
    app = WorkbenchApp(bridge, run.config(), "")
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("t")
        assert asks(app)
        assert "changed" in str(app.screen.query_one("#text", Static).content)
        assert "# another now" in shown(app)
        await agree(pilot)
        await until(pilot, lambda: Resume(run.path, accept_code=True) in sessions.last.asked)
        assert not asks(app)
        assert is_trusted(code_at(file).digest)


async def test_what_the_code_holds_is_text_and_nothing_else(app: WorkbenchApp, file: Path) -> None:
    file.write_text("# [bold]no[/x] \x1b]52;c;AAAA\x07 \u202e\nx = 1\n" + "y = 2\n" * 5000 + "z = 3\n")
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("f5")
        told = shown(app)
        assert "[bold]no[/x]" in told
        assert not {"\x1b", "\x07", "\u202e"} & set(told)
        assert "z = 3" not in told
        assert "5,003" in told  # that there is more is said


# --- in a terminal ---

PROGRAM = textwrap.dedent("""
    import sys
    sys.argv = ["rlhf-tui", "--preset", "mine.toml", "--start"]
    from rlhf_tui.cli import main
    main()
""")


@pytest.mark.parametrize("how", ["quits", "goes away"])
def test_whoever_leaves_while_it_is_asked_has_run_nothing(tmp_path: Path, file: Path, ran: Path, how: str) -> None:
    (tmp_path / "mine.toml").write_text(to_toml(config_of(file)))
    terminal = Terminal(tmp_path, PROGRAM, hang_up="borrowed", rows=24, columns=80)
    terminal.read_until(code_at(file).digest.encode())
    terminal.read_until_quiet(0.2)
    if how == "quits":
        terminal.type("\x11")  # Ctrl+Q, from anywhere
        assert terminal.exit_code() == 0
    else:
        terminal.hang_up()
        assert terminal.left == 129
    assert not ran.exists()
    assert not (tmp_path / "runs").exists()


# --- pictures ---

SnapCompare = Callable[..., bool]


@pytest.mark.parametrize("size", [(120, 40), (80, 24)], ids=lambda size: f"{size[0]}x{size[1]}")
class TestSnapshots:
    def test_trust(self, snap_compare: SnapCompare, app: WorkbenchApp, size: tuple[int, int]) -> None:
        home = Path("/srv/ann/rewards")
        files = home / "taste.py", home / "words" / "__init__.py", home / "words" / "lists.py"
        code = CodeInQuestion(files[0], "3f" * 32, files, MARKS.format(ran="ran"))

        async def ask(pilot: Pilot[Any]) -> None:
            form = app.workbench.hyperparameters
            # what lies behind the dialog is drawn no more: it has to be whole before, its scrollbar included
            await until(pilot, lambda: any(
                isinstance(part, Widget) and part.show_vertical_scrollbar for part in (form, *form.walk_children())))
            await pilot.pause()
            pilot.app.push_screen(TrustScreen((code,)))
            await pilot.pause()
            await pilot.pause()

        assert snap_compare(app, terminal_size=size, run_before=ask)
