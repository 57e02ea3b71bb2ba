"""The lines around the workbench's panes: their names, and the keys that matter in each."""

from __future__ import annotations

from textual.content import Content

from rlhf_engine.events import RunState
from rlhf_tui.engine.bridge import EngineBridge
from rlhf_tui.widgets.status import ClickLine

PANES = ("hyperparameters", "charts", "words", "samples")
TITLES = {"hyperparameters": "Hyperparameters", "charts": "Charts", "words": "Reward words", "samples": "Samples"}

Keys = list[tuple[str, str, str]]
"""(key, what it does, the action of a click)"""

_OF_PANE: dict[str, Keys] = {
    "hyperparameters": [("Enter", "Edit", ""), ("/", "Find", ""), ("u", "Undo", "screen.undo"), ("Del", "Reset", ""),
                        ("R", "Reset all", "")],
    "words": [("Enter", "Edit", ""), ("u", "Undo", "screen.undo"), ("w", "Reward lab", "app.reward_lab")],
    "charts": [("m", "Metric", ""), ("e", "Explain", ""), ("s", "Smooth", ""), ("[]", "Read off", ""),
               ("x", "Axis", ""), ("Y", "Log", ""), ("K", "Gold", "screen.over_optimization"), ("+−", "Zoom", ""),
               ("0", "Reset", "")],
    "samples": [("Enter", "Open", ""), ("i", "Inspect", "screen.inspect"), ("h", "History", "screen.history"),
                ("/", "Filter", "screen.filter"), ("o", "Order", ""), ("f", "Follow", ""), ("*", "Favourite", ""),
                ("v", "Favourites", ""), ("y", "Copy", "")],
}
_CHANGES = {"hyperparameters": ("Enter", "u", "Del", "R"), "words": ("Enter", "u")}


def keys(pane: str, bridge: EngineBridge, *, one_chart: bool) -> Keys:
    """The keys of `pane`, the most important first."""
    busy, viewing = bridge.busy, bridge.viewing
    ended = bridge.state is not None and bridge.state.ended
    run: Keys = [("t", "Resume" if ended else "Take over", "app.take_over") if viewing else
                 ("F5", "Stop" if busy else "Start", "app.toggle_run")]
    if ended and not (viewing or busy):
        run.append(("t", "Resume", "app.take_over"))
    if busy:
        paused = bridge.state is RunState.PAUSED or bridge.view.pending_state == "pausing"
        run.append(("Space", "Resume" if paused else "Pause", "app.toggle_pause"))
    own: Keys = [] if viewing else [("g", "Generate", "app.generate"), ("c", "Compare", "app.compare")]
    if not (viewing or busy):  # one is loaded between runs
        own.append(("p", "Presets", "app.presets"))
    # what is only looked at is not changed
    of_pane = [key for key in _OF_PANE[pane] if not (viewing and key[0] in _CHANGES.get(pane, ()))]
    if (config := bridge.view.config) is not None and config.algorithm.scores_texts:  # it has no score of its own
        of_pane = [(key, "Calibration" if key == "K" else does, action) for key, does, action in of_pane]
    sideways: Keys = [("←→", "Chart" if one_chart else "Pan", "")] if pane == "charts" else []
    lab: Keys = [] if pane == "words" else [("w", "Reward lab", "app.reward_lab")]
    return [
        ("?", "Help", "app.help"), *run, *of_pane, *sideways, ("1-4", "Pane", ""), ("q", "Quit", "app.quit"),
        *own, ("r", "Runs", "app.runs"), *lab, ("z", "Zoom", "screen.zoom"), ("^p", "Commands", "app.command_palette"),
        ("F2", "Save preset", "app.save_preset"), *([] if viewing else [("F9", "Checkpoint", "app.checkpoint")]),
        *([("d", "Detach", "app.detach")] if busy else []),
    ]


class TabLine(ClickLine):
    """The names of the panes, the open one marked, where only one fits; where names do not fit, their numbers."""

    DEFAULT_CSS = "TabLine { height: 1; padding: 0 1; display: none; }"
    current = ""

    def render(self) -> Content:
        tabs = [self._tab(number, pane, named=True) for number, pane in enumerate(PANES, 1)]
        if sum(tab.cell_length + 1 for tab, _ in tabs) > self.size.width:
            tabs = [self._tab(number, pane, named=pane == self.current) for number, pane in enumerate(PANES, 1)]
        return self.words(tabs, " ")

    def _tab(self, number: int, pane: str, *, named: bool) -> tuple[Content, str]:
        style = "$primary bold reverse" if pane == self.current else "$text-muted"
        return Content.styled(f" {number} {TITLES[pane]} " if named else f" {number} ", style), f"screen.pane('{pane}')"
