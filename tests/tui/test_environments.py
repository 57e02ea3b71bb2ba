"""Terminals as people have them: light ones, dumb ones, without Unicode, with a shell behind that takes jobs."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from tui.terminal import Terminal
from tui.test_generate import shown

from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.preferences.preferences_file import settings_path
from rlhf_tui.terminal.theme import DARK, LIGHT

CHILD = textwrap.dedent("""
    import sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from tui.fake_session import FakeSession
    from rlhf_engine.config.fields import validate
    from rlhf_engine.requests import Start
    from rlhf_tui.launch import run_workbench

    config = validate({{"data": {{"prompts": ["a"]}},
                        "rewards": [{{"kind": "word_list", "liked": ["fox", "été", "狐"]}}]}})

    class Learns(FakeSession):
        def ask(self, request):
            super().ask(request)
            if isinstance(request, Start):
                self.steps(9)

    sys.exit(run_workbench(config, "animals", runs_root=Path("runs"), start=True, session_factory=Learns))
""")
CTRL_Z = "\x1a"


def opened(tmp_path: Path, program: str = CHILD, until: bytes = b"step 9/100", **environment: str) -> Terminal:
    homes = {name: str(tmp_path) for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME")}
    # the encoding of a process is settled when it starts
    terminal = Terminal(tmp_path, program, warm="LC_ALL" not in environment,
                        **{"COLORTERM": "truecolor", "COLORFGBG": "", **homes, **environment})
    terminal.read_until(until)
    return terminal


def leave(terminal: Terminal) -> None:
    os.kill(terminal.pid, signal.SIGTERM)
    terminal.exit_code()


def ground(theme: Any) -> bytes:
    """The escape sequence for a theme's background."""
    red, green, blue = (int(theme.background[at:at + 2], 16) for at in (1, 3, 5))
    return f"48;2;{red};{green};{blue}".encode()


# --- light and dark ---


@pytest.mark.parametrize("answer", ["\x1b]11;rgb:ffff/ffff/ffff\x1b\\", "\x1b]11;rgb:fd/f6/e3\x07"])
def test_a_terminal_that_says_it_is_light_gets_the_light_theme(tmp_path: Path, answer: str) -> None:
    terminal = opened(tmp_path)
    assert b"\x1b]11;?" in terminal.written
    assert ground(DARK) in terminal.written
    assert ground(LIGHT) not in terminal.written
    terminal.type(answer)
    terminal.read_until(ground(LIGHT))
    leave(terminal)


def test_a_terminal_that_says_it_is_dark_stays_dark_and_a_chosen_theme_stays(tmp_path: Path) -> None:
    terminal = opened(tmp_path)
    terminal.type("\x1b]11;rgb:1e1e/1e1e/1e1e\x1b\\?")
    terminal.read(1.0)
    assert ground(LIGHT) not in terminal.written
    leave(terminal)
    (tmp_path / "rlhf-tui").mkdir(exist_ok=True)
    (tmp_path / "rlhf-tui" / "settings.toml").write_text('theme = "workbench-dark"\n')
    terminal = opened(tmp_path, COLORFGBG="0;15")
    assert b"\x1b]11;?" not in terminal.written
    assert ground(LIGHT) not in terminal.written
    leave(terminal)


@pytest.mark.parametrize(("said", "theme"), [("0;15", LIGHT), ("15;0", DARK), ("0;default;7", LIGHT), ("", DARK)])
async def test_without_an_answer_the_environment_counts(
    said: str, theme: Any, app_in: Any
) -> None:
    app: WorkbenchApp = app_in(COLORFGBG=said)
    async with app.run_test(size=(80, 24)):
        assert app.theme == theme.name


@pytest.fixture
def app_in(monkeypatch: pytest.MonkeyPatch, bridge: Any, config: Any) -> Any:
    def make(**environment: str) -> WorkbenchApp:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return WorkbenchApp(bridge, config, "animals")

    return make


# --- letters ---


@pytest.mark.parametrize("locale", ["C", pytest.param("POSIX", marks=pytest.mark.soak)])
def test_without_unicode_all_that_is_sent_is_ascii(tmp_path: Path, locale: str) -> None:
    terminal = opened(tmp_path, LC_ALL=locale)
    for key in ("?", "\x1b", "r", "\x1b", "w", "\x1b", "2", "x", "4", "\x1b[B", "\r", "\x1b", "a", "\x1b", ",", "\x1b"):
        terminal.type(key)
        terminal.read_until_quiet(0.15)
    assert terminal.written.isascii(), set(terminal.written.decode(errors="replace")) - set(map(chr, range(128)))
    assert b"Hyperparameters" in terminal.written
    assert b"+--" in terminal.written
    leave(terminal)


def test_with_unicode_nothing_is_replaced(tmp_path: Path) -> None:
    terminal = opened(tmp_path, LC_ALL="C.UTF-8")
    terminal.read_until("──".encode())
    terminal.type("3")
    terminal.read_until("狐".encode())
    leave(terminal)


# --- no screen ---


@pytest.mark.parametrize("term", ["dumb", "", "unknown"])
def test_a_terminal_that_can_show_no_screen_is_told_so_and_trains(tmp_path: Path, term: str) -> None:
    program = ("import sys; sys.argv = ['rlhf-tui', '--set', 'model.name=/nowhere']\n"
               "from rlhf_tui.start import main; main()")
    terminal = Terminal(tmp_path, program, TERM=term, XDG_CONFIG_HOME=str(tmp_path))
    terminal.read_until(b"training without the workbench")
    terminal.exit_code()
    assert b"\x1b" not in terminal.written


# --- jobs ---


def test_ctrl_z_gives_the_shell_back_and_fg_the_screen(tmp_path: Path) -> None:
    shell = "import os; os.execlp('bash', 'bash', '--norc', '-i')"
    terminal = Terminal(tmp_path, shell, XDG_CONFIG_HOME=str(tmp_path), XDG_STATE_HOME=str(tmp_path), PS1="> ")
    (tmp_path / "child.py").write_text(CHILD.format(tests=str(Path(__file__).resolve().parents[1])))
    terminal.read_until(b"> ")
    terminal.type(f"{sys.executable} child.py\r")
    terminal.read_until(b"step 9/100")
    terminal.type(CTRL_Z)
    before = terminal.read_until(b"Stopped")
    assert b"suspended" in before
    assert before.rindex(b"\x1b[?1049l") < before.rindex(b"suspended")  # it can be read: the screen was put away first
    terminal.type("echo the-$((40+2))nd\r")
    terminal.read_until(b"the-42nd")
    terminal.written = b""
    terminal.type("fg\r")
    terminal.read_until(b"\x1b[?1049h")
    terminal.read_until(b"step 9/100")
    terminal.read_until(b"Samples")  # the whole screen
    terminal.type("q")
    terminal.read(0.3)
    terminal.type("q")
    terminal.read_until(b"> ")
    terminal.type("exit\r")
    terminal.exit_code()


def test_ctrl_z_where_no_shell_waits_stops_nothing(tmp_path: Path) -> None:
    terminal = opened(tmp_path)  # the first process of its terminal
    terminal.type(CTRL_Z)
    terminal.read_until(b"not suspended")
    leave(terminal)


# --- what is said to a dialog ---


async def test_a_picture_taken_in_a_dialog_says_where_it_lies(app: WorkbenchApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("f2", "ctrl+p", *"screenshot", "enter")
        for _ in range(100):
            await pilot.pause(0.05)
            if ".svg" in shown(app):
                break
        assert type(app.screen).__name__ == "SavePresetScreen"
        assert ".svg" in shown(app)
        assert list(settings_path().parent.parent.rglob("*.svg")) or ".svg" in app.workbench.query_one("#alarm").text  # type: ignore[attr-defined]
