"""The one door for text that a model, a file or a run produced.

Such text can hold escape sequences, bidirectional overrides, lone surrogates: a terminal would obey them. Behind this
door each is a visible stand-in (see `system.visible_text`), so that what is on the screen is what was written.
Text is then shown without markup; these functions do not escape markup, since no widget interprets it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any

from rlhf_engine import events as engine
from rlhf_engine.evaluation.compare import Comparison, Pair
from rlhf_engine.evaluation.credit import GroupCredit
from rlhf_engine.events import Span
from rlhf_engine.system.visible_text import one_line, visible, without_hidden

TAB_WIDTH = 4
MOST_LINES, MOST_CHARACTERS = 2_000, 100_000  # of a prompt or response on the screen

# what a terminal sends between pasted lines (CR), what files hold, and what Unicode knows as the end of a line
_LINE_ENDS = re.compile("\r\n|[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
# colours and the like, as they are copied along with what a program wrote (ECMA-48): CSI, strings such as OSC, others
_ESCAPES = re.compile("(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b[]P^_X]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*"
                      "(?:\x07|\x1b\\\\|\x9c)|\x1b[ -/]+[0-~]|\x1b[0-Z\\\\^_]")


def clean_text(text: str) -> str:
    """`text` with tabs expanded and every control, format and surrogate character but newline made visible."""
    return clean_with_spans(text, ())[0]


def clean_line(text: str) -> str:
    """`clean_text` on one line: a newline shows as ↵."""
    return one_line(text)


def pasted(text: str, tab: str = " ") -> str:
    """Pasted `text` as if it had been typed: every kind of line end is a newline, a tab is `tab`, and nothing that
    cannot be seen is left: no escape sequence, control or format character.
    """
    return without_hidden(_ESCAPES.sub("", _LINE_ENDS.sub("\n", text)).replace("\t", tab))


def clean_with_spans(text: str, spans: Iterable[Span]) -> tuple[str, tuple[Span, ...]]:
    """`clean_text(text)`, and `spans` moved to where their characters are now.

    Spans that point outside the text are cut to it; empty ones are dropped.
    """
    shown, place = _clean(text)
    moved = []
    for span in spans:
        start, end = max(0, min(span.start, len(text))), max(0, min(span.end, len(text)))
        if start < end:
            moved.append(Span(place[start] if place else start, place[end] if place else end, span.kind))
    return shown, tuple(moved)


def clean_pieces(pieces: Iterable[str]) -> tuple[str, ...]:
    """`clean_text` of the text that `pieces` join to, in the same pieces."""
    pieces = list(pieces)
    shown, place = _clean("".join(pieces))
    ends = [place[end] if place else end for end in accumulate(map(len, pieces), initial=0)]
    return tuple(shown[start:end] for start, end in pairwise(ends))


def clean_event(event: engine.Event) -> engine.Event:
    """`event` with every text in it cleaned, spans moved along; events without text are handed back as they are."""
    clean = _CLEANERS.get(type(event))
    return clean(event) if clean else event


def _clean(text: str) -> tuple[str, list[int] | None]:
    """`text` made fit to be shown, and where each of its offsets is now; None where they all are as they were."""
    shown = visible(text)
    return _expand_tabs(shown) if "\t" in shown else (shown, None)


def _expand_tabs(text: str) -> tuple[str, list[int]]:
    """Tabs to spaces; and for each old offset (one past the end included) the new one."""
    out: list[str] = []
    place: list[int] = []
    length = column = 0
    for character in text:
        place.append(length)
        width = TAB_WIDTH - column % TAB_WIDTH if character == "\t" else 1
        out.append(" " * width if character == "\t" else character)
        length += width
        column = 0 if character == "\n" else column + width
    place.append(length)
    return "".join(out), place


def _laid_out(text: str) -> str:
    """As much of a text as a screen can lay out at once: a hundred thousand lines would hold it for half a minute."""
    end = min(len(text), MOST_CHARACTERS)
    lines = text.split("\n", MOST_LINES)
    if len(lines) > MOST_LINES:
        end = min(end, len(text) - len(lines[-1]))
    return text if end == len(text) else f"{text[:end]}… ({len(text) - end:,} more characters are in the run's files)"


def _parts(parts: Mapping[str, float]) -> dict[str, float]:
    return {clean_line(name): value for name, value in parts.items()}


def clean_sample(sample: engine.Sample) -> engine.Sample:
    response, spans = clean_with_spans(_laid_out(sample.response), sample.spans)
    trace = sample.trace and replace(sample.trace, texts=clean_pieces(sample.trace.texts))
    return replace(sample, prompt=clean_text(_laid_out(sample.prompt)), response=response, spans=spans,
                   parts=_parts(sample.parts), trace=trace)


def _step_finished(event: engine.StepFinished) -> engine.StepFinished:
    return replace(event, samples=tuple(map(clean_sample, event.samples)))


def _generation_finished(event: engine.GenerationFinished) -> engine.GenerationFinished:
    text, spans = clean_with_spans(event.text, event.spans)
    return replace(event, text=text, spans=spans, parts=_parts(event.parts), error=clean_text(event.error),
                   no_scores=clean_line(event.no_scores))


def _comparison(result: Comparison) -> Comparison:
    pairs = tuple(Pair(clean_sample(pair.reference), clean_sample(pair.tuned)) for pair in result.pairs)
    first, second = map(clean_line, result.labels)
    frontier = result.frontier
    if frontier is not None:
        one, other = (standing and replace(standing, label=clean_line(standing.label), why=clean_line(standing.why))
                      for standing in frontier.standings)
        frontier = replace(frontier, standings=(one, other), why=clean_line(frontier.why))
    return replace(result, pairs=pairs, labels=(first, second), settings_of=clean_line(result.settings_of),
                   no_scores=clean_line(result.no_scores), frontier=frontier)


def _comparison_event(event: Any) -> Any:
    result = event.result
    return replace(event, result=_comparison(result)) if isinstance(result, Comparison) else event


def _comparison_finished(event: engine.ComparisonFinished) -> engine.ComparisonFinished:
    return replace(_comparison_event(event), error=clean_text(event.error))


def _methods_compared(event: engine.MethodsCompared) -> engine.MethodsCompared:
    result = event.result
    if isinstance(result, GroupCredit):
        methods = tuple(replace(method, title=clean_line(method.title), told=clean_line(method.told))
                        for method in result.methods)
        result = replace(result, samples=tuple(map(clean_sample, result.samples)), methods=methods,
                         left_out=tuple(map(clean_line, result.left_out)))
    return replace(event, result=result, error=clean_text(event.error))


# typed by hand: each cleaner takes the event it stands beside
_CLEANERS: dict[type, Any] = {
    engine.RunStarted: lambda event: replace(event, name=clean_line(event.name), path=clean_line(event.path)),
    engine.StateChanged: lambda event: replace(event, message=clean_text(event.message)),
    engine.ModelLoaded: lambda event: replace(event, name=clean_line(event.name), device=clean_line(event.device)),
    engine.StepFinished: _step_finished,
    engine.Probed: lambda event: replace(event, sample=clean_sample(event.sample)),
    engine.EditRefused: lambda event: replace(event, reason=clean_text(event.reason)),
    engine.CheckpointSaved: lambda event: replace(event, path=clean_line(event.path)),
    engine.Alarm: lambda event: replace(event, text=clean_text(event.text)),
    engine.RolledBack: lambda event: replace(event, text=clean_text(event.text)),
    engine.Notice: lambda event: replace(event, text=clean_text(event.text)),
    engine.GenerationToken: lambda event: replace(event, text=clean_text(event.text)),
    engine.GenerationFinished: _generation_finished,
    engine.ComparisonPaired: _comparison_event,
    engine.ComparisonFinished: _comparison_finished,
    engine.MethodsCompared: _methods_compared,
    # what is judged goes into a file as it is: the screen that shows a pair cleans it
    engine.PairsSampled: lambda event: replace(event, error=clean_text(event.error)),
}
