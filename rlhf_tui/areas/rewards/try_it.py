"""A text, typed or taken from the samples, and what the rewards make of it with the settings as they stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Static, TextArea

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.evaluation.compare import Pair
from rlhf_engine.events import Sample
from rlhf_engine.runs.run_dir import RunDir
from rlhf_tui.areas.rewards.scoring import Scorer, Share, Verdict
from rlhf_tui.engine.latest import Latest
from rlhf_tui.terminal.clean_text import clean_line, clean_text
from rlhf_tui.widgets.answer import continued, signed
from rlhf_tui.widgets.figures import minus
from rlhf_tui.widgets.text_pad import TextPad

DEBOUNCE_SECONDS = 0.15
PATIENCE_SECONDS = 0.5
YOURS = "your text"


@dataclass(frozen=True)
class Trial:
    """A text to try: where it is from, and the score that it had there, if any. All texts are clean."""

    origin: str
    prompt: str
    response: str
    scored: float | None = None


def trial_of_step(sample: Sample) -> Trial:
    """What the tuned model wrote in training."""
    return Trial(f"sample of step {sample.step}", sample.prompt, sample.response, sample.score)


def trial_of_reference(pair: Pair) -> Trial:
    """What the reference wrote."""
    return Trial("reference", pair.reference.prompt, pair.reference.response, pair.reference.score)


class TryIt(Widget, can_focus=True):
    """← → go through the texts at hand, Enter opens the one shown as text. Posts `Typed` for a text of one's own."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "turn(-1)", "Previous text", tooltip="The text before: samples, newest first, then reference",
                id="try.previous"),
        Binding("right", "turn(1)", "Next text", tooltip="The next text: samples, newest first, then reference",
                id="try.next"),
        Binding("enter", "edit", "Edit text", tooltip="Type a text, or change the one shown, and see its score",
                id="try.edit"),
        Binding("y", "agree", "Run code", tooltip="Read the Python code of a reward, and say whether it may run",
                id="try.agree"),
        Binding("up", "scroll(-1)", "Up", show=False),
        Binding("down", "scroll(1)", "Down", show=False),
        Binding("pageup", "scroll(-8)", "Page up", show=False),
        Binding("pagedown", "scroll(8)", "Page down", show=False),
    ]
    DEFAULT_CSS = """
    TryIt { layout: vertical; }
    TryIt #origin { height: 1; }
    TryIt #pad { height: auto; max-height: 40%; min-height: 1; display: none; padding: 0; scrollbar-size-vertical: 1; }
    TryIt #verdict { height: 1fr; scrollbar-size-vertical: 1; padding: 0; }
    TryIt #verdict Static { height: auto; }
    TryIt.-editing #pad { display: block; }
    """

    @dataclass
    class Typed(Message):
        """A person wrote a text."""

        trial: Trial

    @dataclass
    class Judged(Message):
        """The newest job is done. Sent from its thread."""

        trial: Trial
        verdict: Verdict

    @dataclass
    class Asked(Message):
        """A person wants to decide whether code may run that would score."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.trials: Sequence[Trial] = ()
        self._trial: Trial | None = None
        self._config: RunConfig | None = None
        self._run_dir: RunDir | None = None
        self._untrusted = False
        self._editing = self._waiting = False
        self._timer: Timer | None = None
        self._scorer = Scorer()
        self._jobs: Latest[TryIt.Judged] = Latest("try it", self.post_message)
        self._origin = Static("", id="origin", markup=False)
        self._shown = Static("", markup=False)

    # --- what the screen calls ---

    def score_with(self, config: RunConfig, run_dir: RunDir | None) -> None:
        """Score with the rewards of `config`, which is that of the run in `run_dir`, if of one, from now on."""
        before = self._config and self._config.rewards, self._run_dir
        self._config, self._run_dir = config, run_dir
        if before != (config.rewards, run_dir):
            self._score_soon()

    def score_again(self) -> None:
        """The same text with the same settings: more may run now."""
        self._score_soon()

    def offer(self, trials: Sequence[Trial]) -> None:
        """The texts to choose from. The one shown stays until a key asks for another."""
        self.trials = trials
        if self._trial is None and trials:
            self._show(trials[0])
        self._draw_origin()

    # --- the texts ---

    def compose(self) -> ComposeResult:
        yield self._origin
        yield TextPad(id="pad")
        with VerticalScroll(id="verdict", can_focus=False):
            yield self._shown

    def on_mount(self) -> None:
        self._draw_origin()
        if self._trial is None:
            self._shown.update(Content.styled("Enter: type a text and see at once what the rewards make of it",
                                              "$text-muted"))

    def on_unmount(self) -> None:
        self._jobs.close()

    def action_turn(self, step: int) -> None:
        """Another text; the ends hold."""
        if self.trials:
            at = self.trials.index(self._trial) + step if self._trial in self.trials else 0
            self._show(self.trials[max(0, min(len(self.trials) - 1, at))])

    def action_scroll(self, lines: int) -> None:
        """Scroll the text and its score."""
        self.query_one("#verdict").scroll_relative(y=lines, animate=False)

    def action_edit(self) -> None:
        """Open the text."""
        self._editing = True
        self.set_class(True, "-editing")
        pad = self.query_one(TextPad)
        pad.text = self._trial.response if self._trial is not None else ""
        pad.move_cursor(pad.document.end)
        self._draw_origin()
        pad.focus()

    def on_text_pad_left(self, event: TextPad.Left) -> None:
        event.stop()
        self._close()
        self.focus()

    def on_descendant_blur(self) -> None:
        if self._editing and self.app.app_focus:
            self._close()

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        """Score what is typed while it is typed."""
        event.stop()
        text = clean_text(event.text_area.text)
        if self._editing and (self._trial is None or text != self._trial.response):
            self._trial = Trial(YOURS, self._trial.prompt if self._trial else "", text)
            self.post_message(self.Typed(self._trial))
            self._score_soon()
            self._draw_origin()

    def on_click(self, event: events.Click) -> None:
        if not self._editing and self.has_focus:
            self.action_edit()

    def _close(self) -> None:
        self._editing = False
        self.set_class(False, "-editing")
        self._draw_origin()

    def _show(self, trial: Trial) -> None:
        self._trial = trial
        self._draw_origin()
        self._score_soon()
        if self.is_mounted:
            self.query_one("#verdict").scroll_home(animate=False)

    # --- scoring ---

    def _score_soon(self) -> None:
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(DEBOUNCE_SECONDS, self._score)

    def _score(self) -> None:
        if self._trial is not None and self._config is not None:
            self._waiting = True
            self.set_timer(PATIENCE_SECONDS, self._draw_origin)
            self._jobs.ask(partial(_judge, self._scorer, self._config, self._run_dir, self._trial))

    def action_agree(self) -> None:
        """Ask whether that code may run."""
        self.post_message(self.Asked())

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """There is nothing to agree to where all code is trusted."""
        return action != "agree" or self._untrusted

    def on_try_it_judged(self, event: Judged) -> None:
        event.stop()
        if event.trial == self._trial:
            self._waiting, self._untrusted = False, bool(event.verdict.untrusted)
            self._draw_origin()
            self._shown.update(shown_verdict(event.trial, event.verdict))

    def _draw_origin(self) -> None:
        keys = "Esc leaves the text" if self._editing else "Enter edits" + " · ← → another" * bool(self.trials)
        where = ""
        if self._trial is not None:
            place = f" · {self.trials.index(self._trial) + 1} of {len(self.trials)}" if self._trial in self.trials \
                else ""
            where = f"{self._trial.origin}{place}"
        if self._waiting:
            keys = f"scoring… · {keys}"
        self._origin.update(Content.assemble((where, "bold"), ("  " if where else ""), (keys, "$text-muted")))


def shown_verdict(trial: Trial, verdict: Verdict) -> Content:
    """The score, a line per reward, and the text with its words marked."""
    if verdict.untrusted:
        # the settings may have come with a preset or a run of somebody else
        sentence = f"⚠ not trusted, and not run: the code in {verdict.untrusted} would score this; y shows it and asks"
        return Content("\n\n").join([Content.styled(sentence, "$text-warning"),
                                     continued(trial.prompt, trial.response)])
    if verdict.score is None:
        problem = Content.styled(f"✗ {verdict.error}", "$text-error")
        return Content("\n\n").join([problem, continued(trial.prompt, trial.response)])
    total = verdict.score.total
    style = "$text-success" if total > 0 else "$text-error" if total < 0 else ""
    lines = [Content.assemble("score ", (signed(total), f"{style} bold"))]
    if trial.scored is not None and round(trial.scored, 2) != round(total, 2):
        lines[0] = lines[0].append_text(f"   was {signed(trial.scored)} when it was sampled", "$text-accent")
    lines += [share_line(share) for share in verdict.shares]
    return Content("\n").join([*lines, Content(""), continued(trial.prompt, trial.response, verdict.score.spans)])


def share_line(share: Share) -> Content:
    """What a reward adds: weight times total, and the parts that are not nothing."""
    sum_of = ("does not apply" if share.total is None
              else f"{share.weight:g} × {signed(share.total)} = {signed(share.weight * share.total)}")
    parts = ", ".join(f"{name} {signed(value)}" for name, value in share.parts.items() if value)
    return Content.assemble((f"{clean_line(share.name)}  ", "bold"), minus(sum_of),
                            (f"   {parts}" if parts else "", "$text-muted"))


def _judge(scorer: Scorer, config: RunConfig, run_dir: RunDir | None, trial: Trial) -> TryIt.Judged:
    return TryIt.Judged(trial, scorer.verdict(config, trial.prompt, trial.response, run_dir))
