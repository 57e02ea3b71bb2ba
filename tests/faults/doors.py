"""The doors through which a stranger's files come in: each command of the command line, and the screens, by their keys.

A door is opened in this very process, after which the process is of no more use: each case has one of its own.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from faults.judge import Offence, obeyed
from faults.material import Place

from rlhf_engine.config import presets
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import RlhfError
from rlhf_tui.cli import make_workbench_app

RUN, PRESET, MODEL, TARGET = "{run}", "{preset}", "{model}", "{target}"
SIZE = (110, 36)


@dataclass(frozen=True)
class Subject:
    """What of the material was damaged, by what the user calls it."""

    run: str = "own"
    preset: str = "words"
    model: str = "llama"


@dataclass(frozen=True)
class Door:
    """name: as it is reported. of: kinds of subjects that it reads. weight: how often it is taken. keys: those pressed
    on the workbench, for a screen; arguments: those of a command. writes: folders of the place below which it may
    write, beside the user's own."""

    name: str
    of: tuple[str, ...]
    weight: int
    arguments: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    heavy: bool = False
    """It loads a model."""

    @property
    def slow(self) -> bool:
        """True for what takes more than some hundredths of a second."""
        return self.heavy or bool(self.keys)

    def may_write(self, place: Place) -> list[Path]:
        """Folders below which it may write."""
        return [place.home, *(place.root / folder for folder in self.writes)]

    def open(self, place: Place, subject: Subject) -> tuple[int | None, list[Offence]]:
        """The exit code of the command, or 0; and what the screen showed that it must not. Raises what nobody caught.
        """
        if self.keys:
            return 0, asyncio.run(_press(place, subject, self.keys))
        given = {RUN: subject.run, PRESET: subject.preset, MODEL: str(place.models / subject.model),
                 TARGET: str(place.root / "out" / "target")}
        arguments = [_filled(argument, given) for argument in self.arguments]
        try:
            make_workbench_app()(arguments, prog_name="rlhf-tui", standalone_mode=True)
        except SystemExit as left:
            return left.code if isinstance(left.code, int | None) else 99, []
        return 0, []


def _filled(argument: str, given: dict[str, str]) -> str:
    for mark, value in given.items():
        argument = argument.replace(mark, value)
    return argument


def _run(name: str, weight: int, *arguments: str, of: tuple[str, ...] = ("run", "trash", "home"),
         writes: tuple[str, ...] = (), heavy: bool = False) -> Door:
    return Door(name, of, weight, arguments, writes=writes, heavy=heavy)


DOORS = (
    _run("runs", 6, "runs"),
    _run("runs --json", 3, "runs", "--json"),
    _run("verify", 5, "verify", "--", RUN, of=("run", "checkpoint")),
    _run("verify --json", 2, "verify", "--json", "--", RUN, of=("run", "checkpoint")),
    _run("attach", 6, "attach", "--", RUN, of=("run",)),
    _run("attach --json", 3, "attach", "--json", "--", RUN, of=("run",)),
    _run("note", 1, "note", "--", RUN, of=("run",)),
    _run("note TEXT", 1, "note", "--", RUN, "it \x1b[31mlearns", of=("run",), writes=("runs",)),
    _run("rename", 1, "rename", "--", RUN, "another", of=("run",), writes=("runs",)),
    _run("delete", 1, "delete", "--", RUN, of=("run",), writes=("runs",)),
    _run("trash", 1, "trash", of=("trash",)),
    _run("trash --json", 1, "trash", "--json", of=("trash",)),
    _run("trash --restore", 2, "trash", "--restore=old", of=("trash",), writes=("runs",)),
    _run("trash --empty", 2, "trash", "--empty", "--yes", of=("trash",), writes=("runs",)),
    _run("doctor", 1, "doctor", writes=("runs",)),  # a file without a name, to see whether there is room
    _run("generate RUN", 2, "generate", "--", RUN, of=("run", "checkpoint"), heavy=True),
    _run("compare RUN", 1, "compare", "--responses=2", "--", RUN, of=("run", "checkpoint"), heavy=True),
    _run("compare RUN RUN", 1, "compare", "--responses=2", "--json", "--", RUN, "child", of=("run", "checkpoint"),
         heavy=True),
    _run("export", 2, "export", "--", RUN, TARGET, of=("run", "checkpoint"), writes=("out",), heavy=True),
    _run("export --merged", 1, "export", "--merged", "--", RUN, TARGET, of=("run", "checkpoint"), writes=("out",),
         heavy=True),
    _run("fork", 2, "fork", "--set=train.steps=5", "--", RUN, of=("run", "checkpoint"), writes=("runs",), heavy=True),
    _run("resume", 3, "resume", "--set=train.steps=5", "--", RUN, of=("run", "checkpoint"), writes=("runs",),
         heavy=True),
    _run("trust", 4, "trust", "rewards/own.py", of=("code",)),
    _run("trust --list", 2, "trust", "--list", of=("code", "home")),
    _run("presets", 4, "presets", of=("preset", "home")),
    _run("presets --json", 1, "presets", "--json", of=("preset", "home")),
    _run("presets --fields", 1, "presets", "--fields", of=("preset", "home")),
    _run("score", 5, "score", "--json", "--", PRESET, "a fox", "\x1b[31m", of=("preset",)),
    _run("score by code", 3, "score", "--", "function", "a fox", of=("code",)),
    _run("train by code", 1, "train", "--set=train.steps=1", "--", "function", of=("code",), writes=("runs",),
         heavy=True),
    _run("score TEXT", 3, "score", "--", PRESET, "a fox", "\x1b[31m", of=("preset",)),
    _run("train", 3, "train", "--set=train.steps=1", "--", PRESET, of=("preset",), writes=("runs",), heavy=True),
    _run("train --json", 1, "train", "--json", "--set=train.steps=1", "--", PRESET, of=("preset",), writes=("runs",),
         heavy=True),
    _run("generate MODEL", 5, "generate", "--max-new-tokens=3", "--prompt=a", "--", MODEL, of=("model",), heavy=True),
    _run("train MODEL", 3, "train", "--set=train.steps=1", "--set=model.name=" + MODEL, "--", "words", of=("model",),
         writes=("runs",), heavy=True),
    _run("labels show", 4, "labels", "show", "labels/words.jsonl", of=("labels",)),
    _run("labels show --json", 2, "labels", "show", "--json", "labels/words.jsonl", "labels/others.jsonl",
         of=("labels",)),
    _run("labels import", 2, "labels", "import", "labels/words.jsonl", TARGET + ".jsonl", of=("labels",),
         writes=("out",)),
    _run("labels export", 2, "labels", "export", "labels/words.jsonl", TARGET + ".jsonl", of=("labels",),
         writes=("out",)),
    _run("labels merge", 2, "labels", "merge", "labels/words.jsonl", "labels/others.jsonl", TARGET + ".jsonl",
         of=("labels",), writes=("out",)),
    _run("label", 1, "label", "--rater=words", "--count=2", "--out=labels/words.jsonl", "--", "words", of=("labels",),
         writes=("labels",), heavy=True),
    Door("the label screen", ("labels",), 8, writes=("labels",),
         keys=("l", "a", "right", "f", "n", "x", "enter", "t", "v", "escape", "i", "end", "escape", "u", "u", "escape",
               "u", "0", "o", "escape", "s", "r", "down", "escape")),
    Door("the runs", ("run", "trash", "home"), 4, writes=("runs",),
         keys=("r", "down", "down", "i", "escape", "s", "m", "down", "m", "o", "r", "end", "f", "escape", "T", "down",
               "escape", "home", "n", "escape", "slash", "o", "enter", "escape", "escape")),
    Door("a run", ("run",), 6,
         keys=("r", "slash", "{name}", "enter", "enter", "2", "right", "enter", "escape", "4", "down", "i", "right",
               "escape", "h", "escape", "v", "escape", "1", "down", "3", "down", "a", "L", "escape", "escape", "w",
               "escape")),
    Door("a run taken over", ("run", "checkpoint"), 4, writes=("runs",),
         keys=("r", "slash", "{name}", "enter", "enter", "t", "escape", "escape", "r", "t", "escape", "escape")),
    Door("presets", ("preset", "home"), 3, keys=("p", "down", "down", "up", "end", "home", "escape")),
    Door("a preset", ("preset",), 3, keys=("{load}", "1", "down", "down", "3", "down", "w", "down", "tab", "tab",
                                           "escape", "P", "down", "escape")),
    Door("a user's own files", ("home",), 6, keys=("comma", "down", "escape", "4", "v", "escape", "question_mark",
                                                   "escape")),
)


async def _press(place: Place, subject: Subject, keys: tuple[str, ...]) -> list[Offence]:
    """The keys pressed on a workbench without an engine; after each, what is on the screen is looked at."""
    from tui.fake_session import Sessions

    from rlhf_tui.app import WorkbenchApp
    from rlhf_tui.engine.bridge import EngineBridge

    found: list[Offence] = []
    config, name = _config(subject.preset if "{load}" in keys else "words")
    app = WorkbenchApp(EngineBridge(Path("runs"), Sessions()), config, name)
    async with app.run_test(size=SIZE) as pilot:
        for key in keys:
            if key == "{load}":
                continue
            typed = [key] if key != "{name}" else [letter for letter in subject.run if letter.isalnum()][:12]
            for one in typed:
                await pilot.press(one)
            await app.workers.wait_for_complete()
            await pilot.pause()
            app.show_events(app.bridge.drain())
            await pilot.pause()
            if not found and (bad := next(filter(None, map(obeyed, _lines(app))), "")):
                where = f"screen after {key}: U+{ord(bad):04X}"
                found.append(Offence("control character", where, ascii("\n".join(_lines(app)))))
            if not app.is_running:
                break
        app.bridge.close()
    return found


def _config(preset: str) -> tuple[RunConfig, str]:
    """The preset to open; as on the command line, one of ours where it cannot be."""
    try:
        return presets.load(preset), preset
    except RlhfError:
        return presets.load("animals"), "animals"


def _lines(app: object) -> list[str]:
    """What the terminal would get, without the app's own control sequences."""
    strips = app.screen._compositor.render_strips()  # type: ignore[attr-defined]
    return ["".join(segment.text for segment in strip if not segment.control) for strip in strips]
