"""The three single lines of the workbench: status on top, alarm and keys at the bottom.

Each draws only what fits its width, dropping the least important first; nothing is cut in half.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from textual import events
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from rlhf_engine.events import RunState
from rlhf_engine.metrics import describe
from rlhf_engine.system.processes import peak_gpu_bytes, resident_bytes
from rlhf_engine.system.units import format_clock
from rlhf_tui.engine.run_view import RunView
from rlhf_tui.terminal.clean_text import clean_line
from rlhf_tui.widgets.figures import figure, progress_bar

BADGES: dict[RunState | None, tuple[str, str]] = {
    None: ("○ IDLE", "$text-muted"),
    RunState.LOADING: ("◌ LOADING", "$accent"),
    RunState.TRAINING: ("● TRAINING", "$success bold"),
    RunState.PAUSED: ("‖ PAUSED", "$accent bold"),
    RunState.STOPPING: ("◐ STOPPING", "$accent bold"),
    RunState.FINISHED: ("✓ FINISHED", "$success bold"),
    RunState.STOPPED: ("■ STOPPED", "$primary bold"),
    RunState.FAILED: ("✗ FAILED", "$error bold reverse"),
    RunState.DIVERGED: ("✗ DIVERGED", "$error bold reverse"),
}
WATCHING = ("◉ WATCHING", "$success bold")
"""Of a run that trains, driven from elsewhere."""
LEVELS = {"info": ("·", "$text-muted"), "warning": ("⚠", "$warning bold"), "error": ("✗", "$error bold")}
METER_SECONDS = 2.0
_RANKS = (2, 3)  # of the most telling metrics of the run's method
_FORMS = {"objective/scores": "+.2f", "objective/kl": ".1f"}


@dataclass(frozen=True)
class Part:
    """A piece of a line; the higher `rank`, the sooner it is dropped when the line is too long."""

    content: Content
    rank: int


def fit(parts: Iterable[Part], width: int, gap: str = "  ") -> Content:
    """The parts that fit into `width` cells, in order, the least important dropped first."""
    kept = [part for part in parts if part.content.cell_length]
    while kept and sum(part.content.cell_length for part in kept) + len(gap) * (len(kept) - 1) > width:
        if len(kept) == 1:
            return kept[0].content.truncate(width, ellipsis=True)
        kept.remove(max(reversed(kept), key=lambda part: part.rank))
    return Content(gap).join(part.content for part in kept)


class Meter:
    """CPU share and memory of this process, and the most that it held of a GPU's, read at most every two seconds; empty
    where none of it is known."""

    def __init__(self) -> None:
        self._read_at = self._cpu = 0.0
        self._shown = ""

    def read(self) -> str:
        """Such as `cpu 96% 0.6G gpu 12.3G`; 100 % is one core."""
        now, cpu = time.monotonic(), time.process_time()
        if now - self._read_at >= METER_SECONDS:
            if self._read_at:  # not for the first frame, which there is nothing to divide by for
                share = (cpu - self._cpu) / (now - self._read_at)
                memory = (("", resident_bytes()), ("gpu ", peak_gpu_bytes()))
                held = [f"{of}{size / 2**30:.1f}G" for of, size in memory if size]
                self._shown = " ".join([f"cpu {share:4.0%}", *held])
            self._read_at, self._cpu = now, cpu
        return self._shown


class StatusLine(Widget):
    """Which run, in which state, how far, how fast; with its most telling metrics where the charts may be hidden."""

    DEFAULT_CSS = "StatusLine { height: 1; background: $panel; padding: 0 1; }"
    next_preset = ""
    """The preset of the next start, where that is not the preset of the run on the screen."""
    with_metrics: reactive[bool] = reactive(False)

    def __init__(self, view: RunView, meter: Meter | None = None, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._view, self._meter = view, meter

    def on_mount(self) -> None:
        self.set_interval(1.0, lambda: self.refresh() if self._view.slow_reward else None)

    def render(self) -> Content:
        return fit(self._parts(), self.size.width)

    def _parts(self) -> list[Part]:
        view = self._view
        training = view.state is RunState.TRAINING
        label, style = WATCHING if view.watched and training else BADGES[view.state]
        if view.pending_state:
            label, style = f"◐ {view.pending_state.upper()}…", "$accent bold"
        names = " · ".join(filter(None, (clean_line(view.name), clean_line(view.preset))))
        parts = [
            Part(Content.styled("rlhf-tui", "$primary bold"), 60),
            Part(Content(names), 30),
            Part(Content.styled(label, style), 0),
        ]
        if view.watched and not training:
            how = "viewing" if view.state is None or view.state.ended else "watching"
            parts.append(Part(Content.styled(how, "$text-muted"), 33))
        if self.next_preset and (view.state is None or view.state.ended):
            parts.append(Part(Content.styled(f"next: {clean_line(self.next_preset)}", "$text-muted"), 35))
        if not view.total_steps:
            return parts
        metrics = view.metrics
        parts.append(Part(Content(f"step {view.step}/{view.total_steps}"), 1))
        if self.with_metrics:
            shown = view.config.algorithm.charts[:len(_RANKS)] if view.config else tuple(_FORMS)
            for name, rank in zip(shown, _RANKS, strict=False):
                if name in metrics:
                    value = figure(metrics[name], _FORMS.get(name, ".3g"))
                    parts.append(Part(Content(f"{clean_line(describe(name).title)} {value}"), rank))
        if training:
            speed = metrics.get("throughput/responses_per_s")
            parts.append(Part(Content(f"{speed:.{0 if speed >= 10 else 1}f} resp/s" if speed is not None else ""), 40))
            share = metrics.get("throughput/matmul_share")
            parts.append(Part(Content(f"MFU {share:.0%}" if share is not None else ""), 65))
            eta = view.eta_seconds
            parts.append(Part(Content(f"ETA {format_clock(eta)}" if eta is not None else ""), 4))
        edges, bar = "$text-muted", (progress_bar(view.progress, 12), "$primary on $surface")
        parts.append(Part(Content.assemble(("▕", edges), bar, ("▏", edges)), 50))
        if view.phase and training:
            parts.append(Part(Content.styled(slow, "$text-warning"), 5) if (slow := view.slow_reward)
                         else Part(Content.styled(f"{view.phase:<7}", "$text-muted"), 70))
        if self._meter is not None and training and not view.watched:  # what it reads is this process
            parts.append(Part(Content.styled(self._meter.read(), "$text-muted"), 80))
        return parts


class AlarmLine(Widget):
    """The last thing worth saying: a warning, a notice, what a key just did. Never read as markup."""

    DEFAULT_CSS = "AlarmLine { height: 1; padding: 0 1; }"

    @dataclass
    class Cut(Message):
        """There is no room for all of what was said."""

        text: str
        level: str

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.text, self.level = "", "info"
        self._unread = 0

    def show_unread(self, count: int) -> None:
        """How many warnings of the log nobody has read; none is not shown."""
        if count != self._unread:
            self._unread = count
            self.refresh()
            self._tell_if_cut()

    def say(self, text: str, level: str = "info") -> None:
        """Show `text` until something newer comes."""
        self.text, self.level = clean_line(text), level if level in LEVELS else "info"
        self.set_class(self.level != "info", "-warning")
        self.refresh()
        self._tell_if_cut()

    def on_resize(self, _: events.Resize) -> None:
        self._tell_if_cut()

    def _tell_if_cut(self) -> None:
        room = self.size.width - self._unread_hint().cell_length
        if self.is_attached and 0 < room < self._said().cell_length:
            self.post_message(self.Cut(self.text, self.level))

    def render(self) -> Content:
        unread = self._unread_hint()
        room = self.size.width - unread.cell_length
        said = self._said().truncate(room, ellipsis=True)
        return said.pad_right(room - said.cell_length) + unread if unread else said

    def _unread_hint(self) -> Content:
        unread = Content.styled(f"  {self._unread} unread · a", "$warning bold") if self._unread else Content("")
        # where there is hardly room, what was said counts for more
        return unread if unread.cell_length * 2 <= self.size.width else Content("")

    def _said(self) -> Content:
        if not self.text:
            return Content("")
        symbol, style = LEVELS[self.level]
        text = Content(self.text, strip_control_codes=False)
        return Content.assemble((f"{symbol} ", style), text.stylize(style if self.level != "info" else "$text-muted"))


class ClickLine(Widget):
    """A line of words, each of which does an action when clicked."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._actions: list[tuple[int, str]] = []

    def on_click(self, event: events.Click) -> None:
        """Do what stands under the mouse."""
        x = event.x - self.gutter.left
        for end, action in self._actions:
            if x < end:
                if action:
                    self.call_later(self._act, action)
                return

    async def _act(self, action: str) -> None:
        # by now another screen may be in front, which "screen." would mean, or ours be gone
        if self.is_attached and self.screen.is_active:
            await self.run_action(action)

    def words(self, words: Sequence[tuple[Content, str]], gap: str) -> Content:
        """`words` (what, action) in a row, as many as fit."""
        kept: list[Content] = []
        self._actions, end = [], 0
        for content, action in words:
            if kept and end + len(gap) + content.cell_length > self.size.width:
                break
            end += content.cell_length + (len(gap) if kept else 0)
            kept.append(content)
            self._actions.append((end, action))
        return Content(gap).join(kept).truncate(self.size.width, ellipsis=True)


class KeyBar(ClickLine):
    """The keys that matter here, most important first; as many as fit. A click does what the key does."""

    DEFAULT_CSS = "KeyBar { height: 1; padding: 0 1; background: $surface; }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._keys: Sequence[tuple[str, str, str]] = ()

    def show(self, keys: Sequence[tuple[str, str, str]]) -> None:
        """`keys`: (key, what it does, action), most important first."""
        if keys != self._keys:
            self._keys = keys
            self.refresh()

    def render(self) -> Content:
        return self.words([(Content.assemble((key, "$primary bold"), f" {label}"), action)
                           for key, label, action in self._keys], "  ")
