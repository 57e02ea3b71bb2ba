"""What is written above a chart: its newest value, or what the cursor reads off; and the runs laid over it."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from rlhf_engine.metrics import COMES_WITH, PER_STEP, Metric, describe
from rlhf_engine.system.units import format_clock
from rlhf_tui.areas.charts.plot import EDIT
from rlhf_tui.areas.charts.scene import Scene
from rlhf_tui.areas.charts.series import Line, compact, smooth
from rlhf_tui.areas.charts.sheet import plain
from rlhf_tui.engine.metrics_history import Bucket
from rlhf_tui.terminal.clean_text import clean_line
from rlhf_tui.widgets.figures import minus
from rlhf_tui.widgets.status import Part, fit

# cells for each label, and whether its value is told: what fits first is taken
_LEGENDS = ((99, True), (16, True), (11, True), (7, True), (11, False), (7, False), (4, False), (2, False))


def show_value(value: float, *, signed: bool = False) -> str:
    """A value in few cells; a plus sign when `signed`."""
    sign = "+" if signed else ""
    if value == 0:
        return "0"
    if abs(value) >= 1e5 or abs(value) < 1e-3:
        return (sign if value > 0 else "") + compact(value)
    return minus(f"{value:{sign}.2f}" if abs(value) >= 0.1 else f"{value:{sign}.4f}")


def show_metric(metric: Metric, value: float) -> str:
    """A value of a metric in few cells: scores with their sign, counts without decimals."""
    if metric.unit in ("tokens", PER_STEP) and value.is_integer():
        return minus(f"{value:.0f}")
    return show_value(value, signed=metric.better == "up" and metric.unit.endswith("per response"))


def heading(scene: Scene, metric: Metric, width: int, *, target: float | None = None, line: Line = (),
            chosen: bool = False) -> Content:
    """Title and newest value with its direction, or what the cursor reads off; target, unit; a badge once a value was
    not finite. `line`: the smoothed line as drawn; `chosen`: the keys of the pane mean this chart.
    """
    title = f"{'▸ ' if chosen else ''}{clean_line(metric.title)}"
    parts = [Part(_said(title, "bold", scene), 0)]
    looking = scene.looked_at is not None
    parts += _read(scene, metric, line) if looking else _newest(scene, metric, line)
    broken = scene.run.not_finite_at.get(metric.name)
    if broken is not None:
        parts.append(Part(_said("✗ diverged", "$error bold", scene), 2))
        parts.append(Part(_said(f"not finite at step {broken}", "$error", scene), 5 if looking else 3))
    if metric.name in scene.log:
        left_out = scene.not_on_log(metric.name)
        said = f"log, {left_out} value{'' if left_out == 1 else 's'} ≤ 0 not drawn" if left_out else "log"
        parts.append(Part(_said(said, "$warning" if left_out else "$text-muted", scene), 2))
    if not looking:
        parts.append(Part(_said(metric.unit.replace(" per ", "/"), "$text-muted", scene), 5))
        parts.append(Part(_said(f"(target {target:g})" if target is not None else "", "$text-muted", scene), 4))
    return fit(parts, width, " ")


def why_empty(scene: Scene, name: str) -> str:
    """Why the shown run has no curve of that metric."""
    bounds, metric = scene.run.bounds, describe(name)
    if bounds is None:
        return "no values yet"
    if name in scene.run.not_finite_at and not scene.run.newest(name):
        return "no finite value"
    if name not in scene.run.names:
        reward = name.removeprefix("rewards/").rpartition("/")[0] if name.startswith("rewards/") else ""
        why = (f"it has no reward {reward}, or none of its responses is one for it" if reward
               else scene.comes_with.get(name) or COMES_WITH.get(name) or "m shows another metric")
        return clean_line(f"this run has no {metric.title}: {why}")
    steps = scene.steps()
    return f"no values from step {steps[0]} to {steps[1]}" if steps else "no values"


def legend(scene: Scene, metric: Metric, width: int) -> Content:
    """The runs laid over the chart: marker, label, and where each ended or what the cursor reads off of it.

    Where there is little room labels are cut short, then values left out: no marker stays without a label.
    """
    looking, buckets = scene.looked_at is not None, scene.read_others(metric.name)
    entries = []
    for label, other in scene.others.items():
        bucket, newest = buckets[label], other.history.newest(metric.name)
        value = bucket.mean if bucket else None if looking or not newest else newest[-1]
        entries.append((other.marker, label, show_value(value) if value is not None else "no value"))
    for most, values in _LEGENDS:
        parts = [_said(f"{marker} {_short(label, most)} {value if values else ''}".rstrip(), "$secondary", scene)
                 for marker, label, value in entries]
        if sum(part.cell_length + 2 for part in parts) - 2 <= width:
            break
    own = _said("⠒ this run", "$primary", scene)
    if own.cell_length + sum(part.cell_length + 2 for part in parts) <= width:
        parts.insert(0, own)
    return Content("  ").join(parts).truncate(width, ellipsis=not scene.ascii)


def place_line(scene: Scene) -> Content:
    """The place of the cursor along every axis, and the live changes there."""
    step = scene.looked_at
    if step is None:
        return Content("")
    history, responses = scene.leader
    facts = [f"step {step}", f"{step * responses:,} responses", format_clock(history.seconds_at(step)),
             *scene.edits_read()]
    return _said(" · ".join([*facts, *(["Esc"] if scene.cursor is not None else [])]), "", scene)


def _newest(scene: Scene, metric: Metric, line: Line) -> Sequence[Part]:
    """The newest value; and where the line that is drawn ends, if that is another number."""
    newest = scene.run.newest(metric.name)
    if not newest:
        return []
    value = show_metric(metric, newest[-1])
    parts = [Part(_said(f"{value} {_direction(scene, metric.name)}".rstrip(), "$primary bold", scene), 1)]
    if line and not scene.lens.back and (drawn := show_metric(metric, line[-1][1])) != value:
        parts.append(Part(_said(f"smoothed {drawn}", "$primary", scene), 2))
    return parts


def _direction(scene: Scene, name: str) -> str:
    points = [(float(index), value) for index, value in enumerate(scene.run.newest(name, 60))]
    line = smooth(points, scene.decay or 0.6)
    if len(line) < 2:
        return " "
    change = line[-1][1] - line[max(0, len(line) - 4)][1]
    spread = max(y for _, y in line) - min(y for _, y in line)
    return "→" if abs(change) < 0.02 * spread or not spread else "▲" if change > 0 else "▼"


def _read(scene: Scene, metric: Metric, line: Line) -> list[Part]:
    reading = scene.read(metric.name, line)
    parts = [Part(_said(f"step {scene.looked_at}" if reading is None else _steps(reading.bucket), "", scene), 2)]
    if reading is None:
        parts.append(Part(_said("no value", "$text-muted", scene), 1))
    else:
        bucket = reading.bucket
        value = show_metric(metric, bucket.mean)
        parts.append(Part(_said(value, "$primary bold", scene), 1))
        if bucket.size > 1:
            between = f"{show_metric(metric, bucket.low)} to {show_metric(metric, bucket.high)}"
            parts.append(Part(_said(between, "$text-muted", scene), 4))
        if reading.smoothed is not None:
            parts.append(Part(_said(f"smoothed {show_metric(metric, reading.smoothed)}", "$primary", scene), 3))
    parts += [Part(_said(f"{EDIT} {text}", "$secondary", scene), 6) for text in scene.edits_read()]
    return parts


def _short(label: str, most: int) -> str:
    return label if len(label) <= most else f"{label[:most - 1]}…"


def _steps(bucket: Bucket) -> str:
    last = int(bucket.step)
    return f"step {last}" if bucket.size == 1 else f"mean of {bucket.size} steps to {last}"


def _said(text: str, style: str, scene: Scene) -> Content:
    return Content.styled(plain(text) if scene.ascii else text, style)
