"""Write a prompt, see what the tuned model, the reference, or both make of it, from the same seed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, HorizontalGroup, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Static

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.preview import Preview, look_at_source
from rlhf_engine.events import Event, GenerationFinished, GenerationToken, RunState
from rlhf_engine.requests import Cancel, Generate
from rlhf_tui.areas.trust.code_questions import CodeQuestions
from rlhf_tui.background import run_in_background
from rlhf_tui.engine.bridge import EngineBridge
from rlhf_tui.widgets.answer import Answer
from rlhf_tui.widgets.inputs import Choice, NumberField, TextField, without_breaks

_MOST = 500  # rows of a source that are offered
MODELS = ("reference", "tuned")
_WHO = {"both": MODELS, "tuned": ("tuned",), "reference": ("reference",)}


class PromptField(TextField):
    """The prompt; ↑ ↓ go through those of the preset, or of its source, which `offer` brings once they are read."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "offer(-1)", "Earlier prompt", show=False),
        Binding("down", "offer(1)", "Later prompt", show=False),
    ]

    def __init__(self, prompts: Sequence[str], value: str, **options: Any) -> None:
        self.prompts = list(dict.fromkeys(prompts))
        self.reading = False
        """Whether more are being read."""
        super().__init__(value or (self.prompts[0] if self.prompts else ""), **options)

    def offer(self, prompts: Sequence[str]) -> None:
        """Go through these; what has been typed stays."""
        self.prompts, self.reading = list(dict.fromkeys(prompts)), False
        if not self.value and self.prompts:
            self.value = without_breaks(self.prompts[0])

    @property
    def prompt(self) -> str:
        """What to send: a prompt of the preset as it stands there (it may hold line breaks), else what is typed."""
        return next((prompt for prompt in self.prompts if without_breaks(prompt) == self.value), self.value)

    @property
    def place(self) -> str:
        """Which of the preset's prompts this is."""
        if self.reading:
            return "reading…"
        prompt = self.prompt
        at = f"{self.prompts.index(prompt) + 1}" if prompt in self.prompts else "–"
        return f"{at}/{len(self.prompts)} ↑↓"

    def action_offer(self, step: int) -> None:
        """Another prompt of the preset."""
        if self.prompts:
            at = self.prompts.index(self.prompt) if self.prompt in self.prompts else (-1 if step > 0 else 0)
            self.value = without_breaks(self.prompts[(at + step) % len(self.prompts)])
            self.cursor_position = len(self.value)


class Who(Choice):
    """Which models answer; Enter asks them, as it does in every field."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "screen.ask", "Generate", show=False)]


class Generator(Widget):
    """The form and the answers. Enter asks, Esc cancels; `Said` carries one sentence for the screen's alarm line."""

    DEFAULT_CSS = """
    Generator { layout: vertical; height: 1fr; }
    Generator > VerticalScroll { height: 1fr; scrollbar-size-vertical: 1; }
    Generator #form {
        height: auto; border: round $border-blurred; border-title-color: $text-muted; padding: 0 1; layout: vertical;
    }
    Generator #form:focus-within { border: heavy $border; border-title-color: $primary; border-title-style: bold; }
    Generator HorizontalGroup { width: 1fr; }
    Generator .name { width: auto; color: $text-muted; margin-right: 1; }
    Generator PromptField { width: 1fr; }
    Generator #place { width: auto; color: $text-muted; margin-left: 1; }
    Generator NumberField { width: 12; margin-right: 2; }
    Generator NumberField.-wrong { color: $text-error; text-style: underline; }
    Generator Choice { margin-right: 2; }
    Generator #answers { height: 1fr; min-height: 6; }
    Generator.-slim #answers { layout: vertical; height: auto; min-height: 10; }
    Generator.-slim #answers > Answer { height: auto; }
    Generator.-slim #numbers { layout: grid; grid-size: 2; grid-rows: 1; height: 2; }
    Generator.-slim #place { display: none; }
    Generator.-thin #numbers { layout: vertical; height: auto; }
    Generator.-low #form, Generator.-low #form:focus-within { border: none; }
    Generator.-narrow #answers { layout: vertical; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("pageup", "page(-1)", "Up", tooltip="Scroll the answers up", id="generate.up"),
        Binding("pagedown", "page(1)", "Down", tooltip="Scroll the answers down", id="generate.down"),
    ]

    class Said(Message):
        """One sentence about how the asking goes."""

        def __init__(self, text: str, level: str = "info") -> None:
            self.text, self.level = text, level
            super().__init__()

    def __init__(
        self, bridge: EngineBridge, questions: CodeQuestions, config: RunConfig, prompt: str = "", **options: Any
    ) -> None:
        super().__init__(**options)
        self._bridge, self._questions, self._config = bridge, questions, config
        self._asked: dict[int, tuple[str, str]] = {}
        self._started: set[int] = set()
        self._written: dict[str, str] = {}
        sampling = config.sampling
        data = config.data
        own = [*data.prompts, *data.held_out] if data.source is None else []
        self._prompt = PromptField(own, prompt, id="prompt", placeholder="a prompt to continue")
        self._temperature = NumberField(
            sampling.temperature, whole=False, step=0.1, low=0.01, high=10, id="temperature")
        self._tokens = NumberField(sampling.max_new_tokens, whole=True, step=10, low=1, high=8192, id="tokens")
        self._seed = NumberField(config.train.seed, whole=True, step=1, low=0, high=2**63 - 1, id="seed")
        # before any run the tuned model is the reference
        self._who = Who(list(_WHO), "reference" if bridge.state is None else "both", id="who")
        self._answers = {name: Answer(name) for name in MODELS}

    @property
    def asking(self) -> bool:
        """True while an answer is awaited."""
        return bool(self._asked)

    def compose(self) -> ComposeResult:
        with VerticalScroll(can_focus=False):
            with Widget(id="form") as form:
                form.border_title = Content("Generate")
                with HorizontalGroup():
                    yield Static("prompt", classes="name", markup=False)
                    yield self._prompt
                    yield Static(self._prompt.place, id="place", markup=False)
                with HorizontalGroup(id="numbers"):
                    for name, field in (("temperature", self._temperature), ("tokens", self._tokens),
                                        ("seed", self._seed), ("from", self._who)):
                        with HorizontalGroup(classes="field"):
                            yield Static(name, classes="name", markup=False)
                            yield field
            with Horizontal(id="answers"):
                yield from self._answers.values()

    def on_mount(self) -> None:
        self._show_who()
        self._prompt.focus()
        if self._config.data.source is not None:
            self._prompt.reading = True
            self._show_place()
            run_in_background(self, partial(look_at_source, self._config, _MOST), self._source_read,
                              self._source_not_read, "source")

    def _source_read(self, found: Preview | None) -> None:
        rows = [row.text for row in found.first] if found else []
        self._prompt.offer([*rows, *self._config.data.held_out])
        self._show_place()

    def _source_not_read(self, why: str) -> None:
        self._source_read(None)
        self.post_message(self.Said(why, "warning"))

    def _show_place(self) -> None:
        self.query_one("#place", Static).update(Content(self._prompt.place))

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(event.size.width < 76, "-slim")
        self.set_class(event.size.width < 42, "-thin")
        self.set_class(event.size.height < 16, "-low")
        self.set_class(event.size.width < 100, "-narrow")

    # --- asking ---

    def ask(self) -> None:
        """Send what the form says; one model after the other, from the same seed."""
        wrong = self._wrong()
        if self._asked:
            wrong = "still writing: Esc cancels"
        if wrong:
            self.post_message(self.Said(wrong, "warning"))
            return
        if self._bridge.busy:  # the run's own rewards score
            self._ask()
        else:
            self._questions.settle(self._config, lambda _: self._ask(), needed=False)

    def _ask(self) -> None:
        if not self.is_attached:
            return
        prompt, temperature = self._prompt.prompt, float(self._temperature.number or 0)
        tokens, seed = int(self._tokens.number or 0), int(self._seed.number or 0)
        self._written.clear()
        for name in _WHO[self._who.value]:
            request = Generate(self._bridge.new_id(), self._config, prompt, name == "tuned", temperature, tokens, seed)
            self._bridge.ask(request)
            self._asked[request.id] = (name, without_breaks(prompt))
            self._answers[name].wait(without_breaks(prompt))
        first = self._answers[_WHO[self._who.value][0]]
        self.call_after_refresh(first.scroll_visible, animate=False)
        self._say_where_it_is()

    def cancel(self) -> None:
        """Give up what was asked; what is written so far stays."""
        for request, (name, _) in self._asked.items():
            self._bridge.ask(Cancel(request))
            self._answers[name].fact("cancelled", "$text-warning")
        self._asked.clear()
        self.post_message(self.Said("cancelled"))

    def take(self, batch: Sequence[Event]) -> None:
        """Show what the engine says about what was asked here."""
        for event in batch:
            if not isinstance(event, GenerationToken | GenerationFinished) or event.request_id not in self._asked:
                continue
            name, prompt = self._asked[event.request_id]
            if isinstance(event, GenerationToken):
                if event.request_id not in self._started:  # where there is little room, it may be below the edge
                    self.call_after_refresh(self._answers[name].scroll_visible, animate=False)
                self._started.add(event.request_id)
                self._answers[name].stream(prompt, event.text)
            else:
                del self._asked[event.request_id]
                self._written[name] = event.text
                self._answers[name].finish(prompt, event)
        if self._asked:
            self._say_where_it_is()
        elif any(isinstance(event, GenerationFinished) for event in batch):
            # the tuned model may well do so: it is no sign that the training was for nothing
            same = len(self._written) == 2 and len(set(self._written.values())) == 1
            done = "both wrote the same, from one seed" if same else "done · Enter asks again"
            self.post_message(self.Said(f"{done} · ↑ ↓ in seed gives another answer"))

    def action_page(self, step: int) -> None:
        """Scroll what has been written, from any field of the form."""
        around = self.query_one(VerticalScroll)
        for pane in (around,) if around.max_scroll_y else self._answers.values():
            (pane.scroll_page_down if step > 0 else pane.scroll_page_up)(animate=False)

    def _say_where_it_is(self) -> None:
        request, (name, _) = next(iter(self._asked.items()))
        view = self._bridge.view
        if request in self._started:
            text = f"{name} writes… Esc cancels"
        elif self._bridge.busy and view.state not in (RunState.PAUSED, RunState.LOADING):
            text = f"waiting for step {min(view.step + 1, view.total_steps)} to end: answers are written between steps"
        elif view.model is None:
            text = "the model is loaded first; Esc cancels"
        else:
            text = f"waiting for {name}; Esc cancels"
        self.post_message(self.Said(text))

    # --- the form ---

    def _wrong(self) -> str:
        """The first thing in the form that is not allowed, and what is."""
        if not self._prompt.prompt.strip():
            return "the prompt is empty: type one, or take one of the preset's with ↑ ↓"
        names = (("temperature", self._temperature), ("tokens", self._tokens), ("seed", self._seed))
        return next((f"{name} is {field.allowed}" for name, field in names if field.number is None), "")

    def on_input_changed(self, event: Input.Changed) -> None:
        """Say at once what cannot be asked for."""
        event.stop()
        if isinstance(event.input, NumberField):
            event.input.set_class(event.input.number is None, "-wrong")
            if event.input.number is None:
                self.post_message(self.Said(f"{event.input.id} is {event.input.allowed}", "warning"))
        elif self.is_mounted:
            self._show_place()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter asks, from any field."""
        event.stop()
        self.ask()

    def on_choice_changed(self, event: Choice.Changed) -> None:
        """Show the boxes of those who will answer."""
        event.stop()
        self._show_who()

    def _show_who(self) -> None:
        for name, answer in self._answers.items():
            answer.display = name in _WHO[self._who.value]
