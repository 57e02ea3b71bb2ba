"""Private parts of Textual: who reaches for them, that each is still there, and that it is still needed.

What screens keep and call that were left is in `test_left_screens.py`.
"""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import textwrap
from functools import cache
from pathlib import Path
from typing import ClassVar

import pytest
from moments import until
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.drivers.headless_driver import HeadlessDriver
from textual.geometry import Size
from textual.message import Message
from textual.screen import Screen
from textual.scroll_view import ScrollView
from textual.widgets import Input, Static

import rlhf_tui
from rlhf_tui.terminal.textual_private import (
    PatientScreen,
    bindings_of,
    driver_of,
    has_drawn_all,
    is_idle,
    resize_content,
)

ROOT = Path(rlhf_tui.__file__).parent
MAY = {"terminal/textual_private.py", "terminal/driver.py"}
OURSELVES = {"self", "super()"}
OVERRIDDEN = {"_fatal_error"}  # by the app: how it ends with a traceback


@cache
def private_names(kind: type) -> frozenset[str]:
    """What a class of Textual's defines, or keeps on itself, under a private name."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    kept = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
    return frozenset(name for name in kept | set(vars(kind)) if name.startswith("_") and not name.startswith("__"))


def of_textual(kind: type) -> set[str]:
    return set().union(*(private_names(base) for base in kind.__mro__ if base.__module__.startswith("textual.")))


def reached(path: Path) -> set[str]:
    """The private names of Textual's that a module uses or defines anew."""
    module = importlib.import_module(".".join(("rlhf_tui", *path.relative_to(ROOT).with_suffix("").parts)))
    found = set()
    for kind in (value for value in vars(module).values() if inspect.isclass(value)):
        if kind.__module__ != module.__name__:
            continue
        theirs = of_textual(kind)
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(kind)))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in theirs:
                found.add(node.name)
            if isinstance(node, ast.Attribute) and node.attr in theirs and ast.unparse(node.value) in OURSELVES:
                found.add(node.attr)
    common = of_textual(App) | of_textual(Screen) | of_textual(Input)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr in common and ast.unparse(node.value) not in {
                *OURSELVES, "cls", "os"}:
            found.add(node.attr)
        if isinstance(node, ast.ImportFrom) and "._" in f".{node.module}" and f"{node.module}".startswith("textual"):
            found.add(f"{node.module}")
    return found


def test_nobody_else_reaches_for_a_private_name_of_textuals() -> None:
    found = {path.relative_to(ROOT).as_posix(): names for path in sorted(ROOT.rglob("*.py"))
             if path.name != "__main__.py" and (names := reached(path) - OVERRIDDEN)}
    assert set(found) == MAY, {name: names for name, names in found.items() if name not in MAY}


class Slow(Static):
    """Handles a message for as long as it is told to."""

    class Work(Message):
        pass

    def __init__(self) -> None:
        super().__init__("here")
        self.begun, self.may_end = asyncio.Event(), asyncio.Event()

    async def on_slow_work(self) -> None:
        self.begun.set()
        await self.may_end.wait()


async def test_a_widget_is_idle_when_it_has_handled_all_messages() -> None:
    app = App[None]()
    async with app.run_test() as pilot:
        await app.mount(slow := Slow())
        await until(pilot, lambda: is_idle(slow), lambda: "it never comes to rest")
        slow.post_message(Slow.Work())
        assert not is_idle(slow)
        await slow.begun.wait()
        assert not is_idle(slow)
        slow.may_end.set()
        await until(pilot, lambda: is_idle(slow), lambda: "it never comes to rest")
        await slow.remove()
        assert is_idle(slow)


async def test_a_screen_has_drawn_all_once_what_waits_for_the_next_drawing_was_called() -> None:
    app, called = App[None](), list[str]()
    async with app.run_test() as pilot:
        await until(pilot, lambda: has_drawn_all(app.screen), lambda: "it never comes to rest")
        app.screen.refresh(layout=True)
        app.screen.call_after_refresh(called.append, "after")
        await until(pilot, lambda: not has_drawn_all(app.screen) or bool(called), lambda: "nothing is due")
        await until(pilot, lambda: has_drawn_all(app.screen) and called == ["after"], lambda: f"{called}")


class Keys(Static):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("x", "look", "Look", tooltip="Look at it")]


async def test_the_bindings_of_what_has_no_focus_are_known() -> None:
    app = App[None]()
    async with app.run_test():
        await app.mount(keys := Keys())
        assert [(binding.key, binding.tooltip) for binding in bindings_of(keys)] == [("x", "Look at it")]
        assert keys not in [active.node for active in app.screen.active_bindings.values()]  # else that would do


async def test_a_view_grows_without_a_new_layout_of_the_screen() -> None:
    app, layouts = App[None](), list[object]()
    async with app.run_test(size=(40, 10)) as pilot:
        await app.mount(view := ScrollView())
        await pilot.pause()
        # with a scrollbar from now on, which takes its place but once
        resize_content(view, Size(30, 50))
        await pilot.pause()
        app.screen.screen_layout_refresh_signal.subscribe(view, layouts.append, immediate=True)
        resize_content(view, Size(30, 500))
        await pilot.pause()
        assert (view.max_scroll_y, layouts) == (500 - view.size.height, [])
        view.virtual_size = Size(30, 501)
        await until(pilot, lambda: bool(layouts), lambda: "assigning asks for no layout any more: nothing to avoid")


class Recording(HeadlessDriver):
    """Takes what would be written to a terminal."""

    frames: ClassVar[list[str]] = []

    @property
    def is_headless(self) -> bool:
        return False

    def write(self, data: str) -> None:
        self.frames.append(data)


class Fits(Static):
    """What it shows depends on its size, as most of our parts do."""

    def on_resize(self) -> None:
        self.update("what it shows")


class OpensPatiently(PatientScreen[None]):
    def compose(self) -> ComposeResult:
        yield Fits()


class OpensAsTextualDoes(Screen[None]):
    def compose(self) -> ComposeResult:
        yield Fits()


@pytest.mark.parametrize(("screen", "empty"), [(OpensPatiently, False), (OpensAsTextualDoes, True)])
async def test_no_empty_frame_is_drawn_when_a_screen_opens(
    screen: type[Screen[None]], empty: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Recording, "frames", frames := [])
    app = App[None](driver_class=Recording)
    async with app.run_test(headless=False, size=(40, 10)) as pilot:
        await pilot.pause()
        assert isinstance(driver_of(app), Recording)
        frames.clear()
        await app.push_screen(screen())
        await until(pilot, lambda: any("what it shows" in frame for frame in frames), lambda: f"{frames}")
        drawn = [frame for frame in frames if len(frame) > 100]
        assert ("what it shows" not in drawn[0]) == empty
