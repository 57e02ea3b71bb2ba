"""Keys that arrive together take effect one after the other: a burst loses, swaps and applies early nothing."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import random
import signal
import tempfile
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from moments import until
from scale import few_or_many
from textual import events
from textual.binding import Binding, BindingType
from textual.pilot import Pilot
from textual.widgets import Input, TextArea
from tui.fake_session import Sessions
from tui.terminal import Terminal
from tui.test_runs_screen import make_run

from rlhf_engine.config.run_config import RunConfig
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.engine.bridge import EngineBridge
from rlhf_tui.terminal.input import TerminalInput

NAMES = {".": "full_stop", ",": "comma", "/": "slash", " ": "space", "-": "minus", "?": "question_mark"}


def key(name: str) -> events.Key:
    """A key as a terminal sends it, by its name or by what it writes."""
    return events.Key(NAMES.get(name, name), name if len(name) == 1 else None)


def state(app: WorkbenchApp) -> dict[str, Any]:
    """All that keys can have changed: settings, screens, what has the focus, what is typed."""
    focused = app.focused
    return {
        "settings": app.edited.config.model_dump(), "screens": [type(screen).__name__ for screen in app.screen_stack],
        "focus": (type(focused).__name__, focused.id) if focused is not None else None,
        "cursor": app.workbench.hyperparameters.form.cursor, "side": app.workbench.words.side,
        "typed": [(type(field).__name__, field.id, field.value if isinstance(field, Input) else field.text)
                  for screen in app.screen_stack for field in screen.query("Input, TextArea")
                  if isinstance(field, Input | TextArea) and field.display],
    }


class Marked(WorkbenchApp):
    """Notes when the key behind a burst has come."""

    CSS_PATH = str(Path(inspect.getfile(WorkbenchApp)).parent / str(WorkbenchApp.CSS_PATH))
    BINDINGS: ClassVar[list[BindingType]] = [Binding("f12", "mark", priority=True)]
    marked = False

    def action_mark(self) -> None:
        self.marked = True


async def played(config: RunConfig, keys: Sequence[str], *, burst: bool) -> Any:
    """The state after `keys`, all at once or each when the one before it is over."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("amber", "bold"):
            make_run(Path(folder) / "runs", config, name)
        sessions = Sessions()
        app = Marked(EngineBridge(Path(folder) / "runs", sessions), config, "animals")
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("1")  # the pane of last time may be another
            app.workbench.hyperparameters.show_path("kl.coef")
            await pilot.pause()
            for name in keys:
                app.post_message(key(name))
                if not burst:
                    await pilot.pause()
                    await app.workers.wait_for_complete()
                    await pilot.pause()
                    await pilot.pause()
            app.post_message(key("f12"))
            await until_it_stays(pilot, lambda: app.marked)
            await app.workers.wait_for_complete()
            await pilot.pause()
            found = state(app)
        for session in sessions:
            session.release()
        return found


async def until_it_stays(pilot: Pilot[Any], there: Any) -> None:
    """Wait for `there`, and a moment longer for what may follow it."""
    await until(pilot, there)
    await pilot.pause(0.1)


WORDS = ["a", "b", "e", " ", ",", "backspace", "left", "right", "home", "end", "delete"]
PLACES = {
    "a setting": (["enter"], ["0", "1", "3", ".", "backspace", "left", "home", "end", "enter", "escape", "down", "up",
                              "tab"]),
    "a search among settings": (["/"], ["k", "l", ".", "c", "backspace", "left", "enter", "escape", "/"]),
    "a word list": (["3", "enter"], [*WORDS, "enter", "tab", "escape"]),
    "a prompt": (["g"], [*WORDS, "tab", "up", "down", "1"]),
    "a filter of samples": (["4", "/"], [*WORDS, "enter", "escape", "/"]),
    "the name of a preset": (["f2"], ["a", "b", "-", "backspace", "left", "home", "escape", "f2"]),
    "the picker of presets": (["p"], ["s", "e", "a", "backspace", "down", "up", "escape", "p"]),
    "help": (["?"], ["/", "k", "e", "backspace", "enter", "escape", "down"]),
}


@pytest.mark.scaled
@pytest.mark.parametrize("place", PLACES)
def test_a_burst_does_what_the_same_keys_do_one_by_one(place: str, config: RunConfig) -> None:
    way, alphabet = PLACES[place]

    @settings(max_examples=few_or_many(1, 30), deadline=None, database=None, derandomize=True,
              phases=[Phase.explicit, Phase.generate],  # an example takes a second: as it was found is small enough
              suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(st.sampled_from(alphabet), min_size=4, max_size=14))
    def hold(keys: list[str]) -> None:
        # what opens the field comes in the same burst, and a letter before a key that is not one
        typed = [*way, alphabet[0], alphabet[1], "backspace", *keys]
        slowly = asyncio.run(played(config, typed, burst=False))
        at_once = asyncio.run(played(config, typed, burst=True))
        assert at_once == slowly

    hold()


@pytest.mark.parametrize(("keys", "wanted"), [
    (["enter", *["backspace"] * 5, "0", ".", "3", "backspace", "4", "enter"], 0.4),
    (["enter", *["backspace"] * 5, "0", ".", "5", "left", "1", "enter"], 0.15),
    (["enter", *["backspace"] * 5, "0", ".", "7", "escape", "enter", "end", "2", "tab"], 0.12),
    (["/", *"kl.coef", "enter", "enter", "end", "9", "enter"], 0.19),
])
async def test_what_is_applied_is_what_was_typed(app: WorkbenchApp, keys: list[str], wanted: float) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        app.workbench.hyperparameters.show_path("kl.coef")
        await pilot.pause()
        for name in keys:
            app.post_message(key(name))
        await until_it_stays(pilot, lambda: app.edited.config.kl.coef == wanted)
        assert app.edited.config.kl.coef == wanted


async def test_a_dialog_takes_the_keys_behind_the_one_that_opens_it(app: WorkbenchApp, config: RunConfig) -> None:
    make_run(app.bridge.runs_root, config, "amber")
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("r")
        await app.workers.wait_for_complete()
        await pilot.pause()
        for name in ["R", *["backspace"] * 5, *"ambx", "backspace", *"itious", "enter"]:
            app.post_message(key(name))
        await until_it_stays(pilot, (app.bridge.runs_root / "ambitious").exists)
        assert [run.name for run in app.bridge.runs_root.iterdir() if not run.name.startswith(".")] == ["ambitious"]
        for name in ["n", "a", "b", "backspace", "c", "enter", "d", "f2"]:
            app.post_message(key(name))
        note = app.bridge.runs_root / "ambitious" / "note.txt"
        await until_it_stays(pilot, lambda: any("c\nd" in path.read_text() for path in note.parent.glob("note*")))
        assert [path.read_text().strip() for path in note.parent.glob("note*")] == ["ac\nd"]


async def test_a_paste_keeps_its_place_among_the_keys(app: WorkbenchApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        for event in (key("g"), key("end"), key("a"), key("backspace"), events.Paste(" of old\r"), key("b"),
                      key("backspace"), key("c")):
            app.post_message(event)
        await until_it_stays(pilot, lambda: app.screen.query("#prompt") and app.screen.query_one("#prompt", Input).value
                    == "Once upon a time of oldc")
        assert app.screen.query_one("#prompt", Input).value == "Once upon a time of oldc"


async def test_a_command_that_is_typed_and_taken_at_once_is_the_one_that_was_typed(app: WorkbenchApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        for name in ["ctrl+p", *"system", "enter"]:
            app.post_message(key(name))
        await until_it_stays(pilot, lambda: type(app.screen).__name__ == "SystemScreen")
        assert type(app.screen).__name__ == "SystemScreen"


# --- on a terminal, in one write ---

CHILD = textwrap.dedent("""
    import json, sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from tui.fake_session import FakeSession
    from rlhf_engine.config.fields import validate
    from rlhf_engine.requests import Edit
    from rlhf_tui.launch import run_workbench

    config = validate({{"data": {{"prompts": ["Once"]}}, "rewards": [{{"kind": "word_list", "liked": ["fox"]}}]}})

    class Noted(FakeSession):
        def ask(self, request):
            super().ask(request)
            if isinstance(request, Edit):
                with Path("edits").open("a") as file:
                    file.write(json.dumps([request.path, request.value]) + chr(10))

    sys.exit(run_workbench(config, "animals", runs_root=Path("runs"), start=True, session_factory=Noted))
""")


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    terminal = Terminal(tmp_path, CHILD, **{name: str(tmp_path) for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME")})
    terminal.read_until(b"TRAINING")
    return terminal


def edits(tmp_path: Path, terminal: Terminal, count: int) -> list[Any]:
    """What was changed in the run, once there are `count` changes."""
    file = tmp_path / "edits"

    def found() -> list[Any]:
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    terminal.read_until(lambda: len(found()) >= count)
    return found()


def leave(terminal: Terminal) -> None:
    os.kill(terminal.pid, signal.SIGTERM)
    terminal.exit_code()


class Line:
    """A line that is typed: what keys make of it, by the book."""

    def __init__(self) -> None:
        self.text, self.at = "", 0

    def press(self, name: str) -> str:
        """The bytes of the key, which is done here too."""
        if name == "\x7f":
            self.text = self.text[:max(0, self.at - 1)] + self.text[self.at:]
            self.at = max(0, self.at - 1)
        elif name == "\x1b[D":
            self.at = max(0, self.at - 1)
        elif name == "\x1b[C":
            self.at = min(len(self.text), self.at + 1)
        elif name in ("\x1b[H", "\x1b[F"):
            self.at = 0 if name == "\x1b[H" else len(self.text)
        else:
            self.text = self.text[:self.at] + name + self.text[self.at:]
            self.at += 1
        return name


def test_one_write_of_many_keys_applies_what_was_typed(tmp_path: Path, terminal: Terminal) -> None:
    terminal.type("/kl.coef\r")
    chance, wanted = random.Random(7), []
    for _ in range(12):
        line, keys = Line(), "\r" + "\x7f" * 12
        for _ in range(chance.randrange(4, 24)):
            keys += line.press(chance.choice(["1", "2", "3", "7", "\x7f", "\x1b[D", "\x1b[C", "\x1b[H", "\x1b[F"]))
        for name in ("\x1b[H", "0", "."):
            keys += line.press(name)
        terminal.type(keys + "\r")
        before = wanted[-1][1] if wanted else 0.1
        if float(line.text) != before:
            wanted.append(["kl.coef", float(line.text)])
        assert edits(tmp_path, terminal, len(wanted)) == wanted, repr(keys)
    leave(terminal)


def test_escape_and_the_letter_behind_it_are_two_keys(tmp_path: Path, terminal: Terminal) -> None:
    # Esc leaves the field and what was typed; then 3 goes to the words, whose field takes the letters
    terminal.type("/kl.coef\r\r9\x1b3\rhen,\r")
    assert edits(tmp_path, terminal, 1) == [["rewards.0.liked", ["foxhen"]]]
    leave(terminal)


def test_escape_alone_is_a_key_without_another_behind_it(terminal: Terminal) -> None:
    terminal.type("?")
    terminal.read_until_quiet(0.5)
    drawn = len(terminal.written)
    terminal.type("\x1b")
    terminal.read_until(lambda: b"2 Charts" in terminal.written[drawn:])  # help is left
    leave(terminal)


def test_a_sequence_that_comes_in_two_reads_is_one_key() -> None:
    reader = TerminalInput()
    assert [*reader.feed(b"\x1b"), *reader.feed(b""), *reader.feed(b"")] == []
    (down,) = reader.feed(b"[B")
    assert isinstance(down, events.Key)
    assert down.key == "down"


def test_what_a_terminal_answers_is_not_typed(tmp_path: Path, terminal: Terminal) -> None:
    answers = "\x1b]11;rgb:1010/1414/1a1a\x07", "\x1b]11;rgb:0/0/0\x1b\\", "\x1b[?62;22c", "\x1bP>|xterm(1)\x1b\\"
    terminal.type("3\rhen" + "".join(answers) + " \x7f")
    terminal.type("\x1b]11;rgb:ff")  # in two reads
    terminal.read(0.3)
    terminal.type("ff/ffff/ffff\x07s\xff,\r".encode("latin-1").decode("latin-1"))
    assert edits(tmp_path, terminal, 1)[0][1][0].startswith("foxhens")
    leave(terminal)


@pytest.mark.parametrize("between", ["\r", "\r\n", "\n", "\t", "\x85", "\u2028"])
def test_a_list_that_is_pasted_on_a_terminal_is_words(tmp_path: Path, terminal: Terminal, between: str) -> None:
    terminal.type("3\r,\x1b[200~" + between.join(["quay", "\x1b[31mtrawler\x1b[0m", "buoy\x00"]) + "\x1b[201~\r")
    assert edits(tmp_path, terminal, 1) == [["rewards.0.liked", ["fox", "quay", "trawler", "buoy"]]]
    leave(terminal)
