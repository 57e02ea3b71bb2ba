"""Text from a model cannot command the terminal, and spans stay on their words."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_engine.evaluation.compare import Comparison, Pair
from rlhf_engine.events import (
    Alarm,
    ComparisonFinished,
    EditRefused,
    Event,
    GenerationFinished,
    GenerationToken,
    Notice,
    Probed,
    RolledBack,
    RunState,
    Sample,
    Span,
    StateChanged,
    StepFinished,
    StepProgress,
)
from rlhf_engine.token_trace import TokenTrace
from rlhf_tui.terminal.clean_text import clean_event, clean_line, clean_pieces, clean_text, clean_with_spans

FORBIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
any_text = st.text(alphabet=st.characters(codec=None))


def is_clean(text: str) -> bool:
    return all(c in "\n\u200d" or unicodedata.category(c) not in FORBIDDEN for c in text)


@given(any_text)
def test_no_control_format_or_surrogate_character_is_left(text: str) -> None:
    assert is_clean(clean_text(text))
    clean_text(text).encode("utf-8")


@given(any_text)
def test_cleaning_twice_changes_nothing_more(text: str) -> None:
    assert clean_text(clean_text(text)) == clean_text(text)


@given(any_text.filter(lambda text: "\t" not in text))
def test_only_tabs_change_the_length(text: str) -> None:
    assert len(clean_text(text)) == len(text)


@given(any_text, any_text, any_text)
def test_a_span_covers_the_same_word_afterwards(before: str, word: str, after: str) -> None:
    text = before + word + after
    cleaned, spans = clean_with_spans(text, [Span(len(before), len(before) + len(word), "liked")])
    if not word:
        assert spans == ()
        return
    (span,) = spans
    shown = cleaned[span.start:span.end]
    assert shown.replace(" ", "") == clean_text(word).replace(" ", "")
    assert len(cleaned) - span.end == len(clean_text(cleaned[:span.end] + after)) - span.end


@given(any_text, st.lists(st.tuples(st.integers(-5, 50), st.integers(-5, 50))))
def test_spans_never_leave_the_text(text: str, bounds: list[tuple[int, int]]) -> None:
    cleaned, spans = clean_with_spans(text, [Span(start, end, "liked") for start, end in bounds])
    assert all(0 <= span.start < span.end <= len(cleaned) for span in spans)


@given(st.lists(any_text, max_size=5))
def test_cleaned_pieces_join_to_the_cleaned_whole(pieces: list[str]) -> None:
    cleaned = clean_pieces(pieces)
    assert "".join(cleaned) == clean_text("".join(pieces))
    assert len(cleaned) == len(pieces)


def test_a_tab_stands_in_its_own_piece() -> None:
    assert clean_pieces(["a", "\t", "b"]) == ("a", "   ", "b")


@pytest.mark.parametrize(("raw", "shown"), [
    ("\x1b[31mred", "␛[31mred"),
    ("a\tb", "a   b"),
    ("line\nline", "line\nline"),
    ("\x9b2J", "\ufffd2J"),
    ("\u202eevil", "\ufffdevil"),
    ("\ud800", "\ufffd"),
    ("\x7f\x07", "␡␇"),
    ("👩\u200d🚀", "👩\u200d🚀"),
    ("a\u2028b", "a\ufffdb"),
])
def test_what_replaces_what(raw: str, shown: str) -> None:
    assert clean_text(raw) == shown


def test_a_line_shows_its_newlines() -> None:
    assert clean_line("a\nb") == "a↵b"


HOSTILE = "\x1b]52;c;aGk=\x07\u202e\t[/x]"


def _sample() -> Sample:
    trace = TokenTrace((HOSTILE, "\t"), {"kl": (0.5, 0.5)})
    return Sample(1, HOSTILE, HOSTILE, 1.0, {HOSTILE: 1.0}, 0.5, 3, True, (Span(0, 4, "liked"),), trace)


@pytest.mark.parametrize("event", [
    StepFinished(1, 2, {}, (_sample(),), 0.1),
    StateChanged(RunState.FAILED, 1, 2, HOSTILE),
    EditRefused("kl.coef", HOSTILE),
    Notice(HOSTILE, "warning"),
    Probed(1, _sample()),
    Alarm(1, "gaming", HOSTILE),
    RolledBack(1, HOSTILE),
    GenerationToken(1, HOSTILE),
    GenerationFinished(1, HOSTILE, parts={HOSTILE: 1.0}, error=HOSTILE, spans=(Span(0, 4, "liked"),)),
    ComparisonFinished(1, Comparison((), (Pair(_sample(), _sample()),)), HOSTILE),
])
def test_every_event_with_text_is_cleaned(event: Event) -> None:
    cleaned = clean_event(event)
    assert type(cleaned) is type(event)
    assert "\x1b" not in repr(cleaned).encode("utf-8", "surrogatepass").decode()
    assert "\\x1b" not in repr(cleaned)
    assert "\\u202e" not in repr(cleaned)
    assert "\\t" not in repr(cleaned)


def test_an_event_without_text_is_handed_back() -> None:
    event = StepProgress(1, "rollout", 0.5)
    assert clean_event(event) is event


@pytest.mark.parametrize("response", ["a\n" * 200_000, "fox " * 250_000])
def test_a_response_that_no_screen_could_lay_out_is_cut_and_says_so(response: str) -> None:
    event = Probed(1, Sample(1, "p", response, 1.0, {}, 0.5, 5, True, (Span(0, 1, "x"), Span(390_000, 390_001, "x"))))
    cleaned = clean_event(event)
    assert isinstance(cleaned, Probed)
    shown = cleaned.sample.response
    assert shown.count("\n") <= 2_001
    assert len(shown) <= 101_000
    kept = len(shown.partition("…")[0])
    assert f"{len(response) - kept:,}" in shown
    assert cleaned.sample.spans == (Span(0, 1, "x"),)
