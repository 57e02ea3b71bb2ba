"""How far judgements can be trusted: how steady, how biased, how alike with others', and how well they were guessed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from rlhf_engine.labels.judgement import Judgement
from rlhf_engine.labels.statistics import Agreement, LabelStatistics, Share, agreement, statistics_of
from rlhf_engine.maths.statistics import wilson_interval
from rlhf_tui.background import run_in_background
from rlhf_tui.terminal.clean_text import clean_line, clean_text
from rlhf_tui.widgets.figures import figure
from rlhf_tui.widgets.screen import BaseDialog

_MOST_OTHERS = 20  # people beside whom one is put
Line = tuple[str, Share | None, str]
"""What the share is of, the share, and how it is to be read."""


class LabelStatisticsScreen(BaseDialog[None]):
    """Counts in the background; of the judgements of one person, and how they agree with the others of the file."""

    DEFAULT_CSS = """
    LabelStatisticsScreen { align: center middle; background: $background 60%; }
    LabelStatisticsScreen > VerticalScroll {
        width: 94%; max-width: 100; height: auto; max-height: 90%;
        border: round $border; background: $surface; padding: 0 1; scrollbar-size-vertical: 1;
    }
    LabelStatisticsScreen Static { height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,i,enter,q", "dismiss", "Close", id="label-statistics.close"),
        Binding("question_mark,f1", "app.help", "Help", show=False),
        Binding("H", "app.loop", "Human feedback", show=False),
    ]

    def __init__(self, judgements: Sequence[Judgement], rater: str, next_step: str) -> None:
        """next_step: what can be done with what was judged."""
        super().__init__()
        self._judgements, self._rater, self._next_step = judgements, rater, next_step
        self._text = Static("counting…", markup=False)

    def compose(self) -> ComposeResult:
        with VerticalScroll() as box:
            box.border_title = Content(f"Judgements of {clean_line(self._rater)}")
            box.border_subtitle = Content("Esc close")
            yield self._text

    def on_mount(self) -> None:
        run_in_background(self, partial(statistics_text, self._judgements, self._rater), self._show,
                          lambda why: self._text.update(Content(why)))

    def _show(self, found: Content) -> None:
        self._text.update(Content("\n").join([found, Content(""), Content(self._next_step)]))


def statistics_text(judgements: Sequence[Judgement], rater: str) -> Content:
    """All of it, for the screen."""
    mine = [judgement for judgement in judgements if judgement.rater == rater]
    if not mine:
        return Content("nothing judged yet: each judgement counts here at once")
    found = statistics_of(mine)
    lines = [_counts(found), Content(""), *chain.from_iterable(map(_share_lines, _shares(found, mine)))]
    others = sorted({judgement.rater for judgement in judgements} - {rater})
    for other in others[:_MOST_OTHERS]:
        theirs = [judgement for judgement in judgements if judgement.rater == other]
        lines += _agreement_lines(other, agreement(mine, theirs))
    if len(others) > _MOST_OTHERS:
        lines.append(Content.styled(f"… and {len(others) - _MOST_OTHERS} more raters", "$text-muted"))
    if not others:
        lines.append(Content.styled("agreement: nobody else has judged into this file; o changes the rater, who is "
                                    "asked about these pairs too", "$text-muted"))
    return Content("\n").join(lines)


def guess_right(judgements: Sequence[Judgement]) -> Share | None:
    """The share of pairs with a winner whose guess named it; those without a guess, or with one of a half, left out."""
    right = [(judgement.pair.guess > 0.5) == (judgement.verdict == "first") for judgement in judgements
             if judgement.decided and judgement.pair.guess is not None and judgement.pair.guess != 0.5]
    if not right:
        return None
    found = wilson_interval(sum(right), len(right))
    return Share(found.value, found.low, found.high, len(right), 0.5)


def _counts(found: LabelStatistics) -> Content:
    counts = found.counts
    told = [f"{found.judged} judged", f"{counts['first'] + counts['second']} with a winner",
            f"{counts['tie']} equally good", f"{counts['both_bad']} both bad", f"{counts['skip']} skipped",
            f"{found.flagged} flagged"]
    if found.seconds_per_pair is not None and found.per_minute is not None:
        told.append(f"median {found.seconds_per_pair:.1f} s a pair ({found.per_minute:.0f} a minute)")
    return Content(" · ".join(told))


def _shares(found: LabelStatistics, mine: Sequence[Judgement]) -> list[Line]:
    return [
        ("consistency", found.consistency,
         "pairs that came back, their sides swapped, judged alike"),
        ("left won", found.left_won, "of pairs with a winner: a bias of position, or none"),
        ("longer won", found.longer_won, "more words won; longer may be better, or only look so"),
        ("guess right", guess_right(mine), "what the rewards or the reward model know already"),
    ]


def _share_lines(line: Line) -> list[Content]:
    name, share, about = line
    if share is None:
        return [Content.assemble((f"{name:<12}", "bold"), ("nothing to count yet", "$text-muted")),
                Content.styled(f"{'':<12}{about}", "$text-muted"), Content("")]
    told = f"{share.value:.0%} [{share.low:.0%}, {share.high:.0%}]  of {share.n}  ·  by chance {share.chance:.0%}"
    off = not share.low <= share.chance <= share.high
    mark = ("  significant" if off else "  ≈ chance", "$text-success" if off else "$text-muted")
    return [Content.assemble((f"{name:<12}", "bold"), told, mark),
            Content.styled(f"{'':<12}{about}", "$text-muted"), Content("")]


def _agreement_lines(other: str, found: Agreement | None) -> list[Content]:
    name = f"with {clean_text(clean_line(other))}"
    if found is None:
        return [Content.assemble((name, "bold"), ("  no pair that both have judged", "$text-muted"))]
    share = found.share
    return [Content.assemble(
        (name, "bold"), f"  Gwet's AC1 {figure(found.ac1, '.2f')} (0 is chance, 1 full agreement)  ·  alike "
        f"{share.value:.0%} [{share.low:.0%}, {share.high:.0%}] of {share.n}  ·  by chance {share.chance:.0%}")]
