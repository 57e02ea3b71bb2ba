"""All keys of the screen it was asked on, what each chart says, and how PPO works here."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from operator import attrgetter
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from rlhf_engine.metrics import REGISTRY, Metric
from rlhf_tui.clean_text import clean_line
from rlhf_tui.key_guide import Deed, deeds

ON_THE_SCREEN = """\
The numbers open the panes: hyperparameters, charts, reward words, samples. Enter opens a setting or a list, and checks
it as you type; Enter, Tab or the arrows use it, Esc puts back what was there. Esc leaves a field, then a zoomed pane,
then a screen. • marks what was changed since the run began, ≠ what is not the preset's, ✗ what is not allowed, ⊘ what
cannot change while a run goes on. u takes a change back, in a run that goes on too."""

HOW_PPO_WORKS = """\
A step samples one response to each of a batch of prompts (a rollout). Rewards score every response. The KL penalty
holds the actor near the frozen reference: the further its words are from what the reference would say, the more is
taken off (reward = score − β · KL). The critic guesses what is still to come; the difference to what came is the
advantage of each token (GAE). Then some passes over the rollout make tokens with a positive advantage likelier and
others less likely, by no more than the clip range allows in one step.
Actor and critic are small adapters (LoRA) on one frozen base model, so the reference costs no second copy."""

GOOD_AND_BAD = """\
Good: reward climbs and flattens; KL rises with it, to its target or a few nats beyond, and stays; policy loss hovers
around 0; value loss falls, then follows the reward's spread; the share of clipped tokens stays below 0.3.
Bad, and what helps:
  KL runs away while reward climbs    the text breaks: raise KL coef, lower actor lr
  reward climbs, distinct-2 falls     a word list is being gamed: see Samples, add a repeat penalty or fewer bonuses
  reward does not move                raise actor lr or liked bonus; is any liked word ever said? see Samples
  value loss climbs and stays up      lower critic lr, or give the critic warm-up steps
  a badge says diverged               a number was not finite: start again with a smaller step size"""


class HelpScreen(ModalScreen[None]):
    """Reads; ↑ ↓ PgUp PgDn scroll, Esc closes."""

    CSS_PATH = "help.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,enter", "dismiss", "Close", id="help.close"),
    ]

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="page") as page:
            page.border_title = Content("Help")
            page.border_subtitle = Content("↑↓ PgUp PgDn scroll · Esc close")
            yield Static(self._page(), id="text", markup=False)

    def on_mount(self) -> None:
        self.query_one("#page").focus()

    def _page(self) -> Content:
        asked_on = self.app.screen_stack[-2] if len(self.app.screen_stack) > 1 else self.app.screen
        return Content("\n\n").join([
            _chapter("On the screen", [Content(_flowing(ON_THE_SCREEN))]),
            *keys(deeds(asked_on)),
            _chapter("The charts and what they say", map(_metric, REGISTRY.values())),
            _chapter("How PPO works here", [Content(_flowing(HOW_PPO_WORKS))]),
            _chapter("Good curves and bad ones", [Content(GOOD_AND_BAD)]),
        ])


def keys(all_deeds: list[Deed]) -> Iterable[Content]:
    """A chapter for each place where keys count: key, name, what it is for."""
    width = max((len(deed.key) for deed in all_deeds), default=0)
    name_width = max((len(deed.name) for deed in all_deeds), default=0)
    for place, group in groupby(all_deeds, attrgetter("place")):
        yield _chapter(f"Keys · {clean_line(place)}", [
            Content.assemble((deed.key.rjust(width), "$primary bold"), f"  {deed.name:<{name_width}}  ",
                             (deed.purpose, "$text-muted")) for deed in group])


def _metric(metric: Metric) -> Content:
    unit = f" ({metric.unit})" if metric.unit else ""
    good = {"up": "  ▲ is good", "down": "  ▼ is good", "neither": ""}[metric.better]
    return Content.assemble((metric.title, "bold"), (f"{unit}{good}", "$text-muted"), f"\n  {metric.help}")


def _chapter(title: str, lines: Iterable[Content]) -> Content:
    return Content("\n").join([Content.styled(title, "$primary bold underline"), *lines])


def _flowing(text: str) -> str:
    """A paragraph without its line breaks: the page wraps it."""
    return " ".join(text.split("\n"))
