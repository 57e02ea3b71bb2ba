"""The keys of the charts pane, which the help page and the command palette read, too."""

from __future__ import annotations

from textual.binding import Binding, BindingType

FAR = 10
"""Columns that the cursor moves by at once."""

KEYS: list[BindingType] = [
    Binding("enter", "alone", "One chart", tooltip="This chart alone on the whole screen, or back", id="charts.alone"),
    Binding("m", "metric", "Metric", tooltip="Show another metric in this chart", id="charts.metric"),
    Binding("e", "explain", "Explain", tooltip="What this chart says: meaning, good and bad curves",
            id="charts.explain"),
    Binding("up", "choose(-1)", "Chart before", tooltip="Go to the chart before", id="charts.up"),
    Binding("down", "choose(1)", "Next chart", tooltip="Go to the next chart", id="charts.down"),
    Binding("s", "smooth", "Smoothing", tooltip="Next smoothing of the curves", id="charts.smooth"),
    Binding("x", "axis", "X axis", tooltip="By step, by responses, or by wall time", id="charts.axis"),
    Binding("Y", "log", "Log axis", tooltip="Logarithmic axis for this chart, or linear", id="charts.log"),
    Binding("right_square_bracket", "read(1)", "Cursor on", tooltip="Read values off: the cursor to the right",
            key_display="]", id="charts.read_on"),
    Binding("left_square_bracket", "read(-1)", "Cursor back", tooltip="Read values off: the cursor to the left",
            key_display="[", id="charts.read_back"),
    Binding("right_curly_bracket", f"read({FAR})", "Cursor far on", tooltip="The cursor far to the right",
            key_display="}", id="charts.read_far_on"),
    Binding("left_curly_bracket", f"read(-{FAR})", "Cursor far back", tooltip="The cursor far to the left",
            key_display="{", id="charts.read_far_back"),
    Binding("escape", "drop_cursor", "No cursor", tooltip="Take the cursor away", id="charts.drop_cursor"),
    Binding("plus,equals_sign", "zoom(0.5)", "Zoom in", tooltip="See fewer steps", key_display="+",
            id="charts.zoom_in"),
    Binding("minus,underscore", "zoom(2)", "Zoom out", tooltip="See more steps", key_display="-",
            id="charts.zoom_out"),
    Binding("left", "sideways(-1)", "Earlier", tooltip="Earlier steps, or the chart before", id="charts.left"),
    Binding("right", "sideways(1)", "Later", tooltip="Later steps, or the next chart", id="charts.right"),
    Binding("shift+left", "pan(-1)", "Earlier", tooltip="Earlier steps", id="charts.earlier", show=False),
    Binding("shift+right", "pan(1)", "Later", tooltip="Later steps", id="charts.later", show=False),
    Binding("0", "reset", "Reset", tooltip="All steps, linear axes", id="charts.reset"),
]
