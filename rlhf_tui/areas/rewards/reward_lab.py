"""The reward lab: every reward and its settings, how often both models say its words, and what a text would score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Input

from rlhf_engine.config import fields
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.events import (
    EditApplied,
    EditRefused,
    Event,
    RolledBack,
    RunStarted,
    Sample,
    StateChanged,
    StepFinished,
)
from rlhf_engine.runs.run_dir import RunDir
from rlhf_tui.areas.rewards.ask_reference import AskReference
from rlhf_tui.areas.rewards.lab_memory import LabMemory
from rlhf_tui.areas.rewards.new_reward import NewRewardScreen
from rlhf_tui.areas.rewards.reward_form import RewardForm
from rlhf_tui.areas.rewards.try_it import YOURS, Trial, TryIt, trial_of_reference, trial_of_step
from rlhf_tui.areas.rewards.word_editor import SIDES, WordEditor
from rlhf_tui.areas.rewards.word_rows import window
from rlhf_tui.areas.rewards.word_table import WordTable
from rlhf_tui.areas.rewards.word_watch import Count, WordWatch
from rlhf_tui.areas.settings_form.hyperparameters import HyperparametersPane
from rlhf_tui.areas.settings_form.reset import ask_reset
from rlhf_tui.areas.trust.code_questions import CodeQuestions
from rlhf_tui.editing.change_text import applied_text
from rlhf_tui.editing.edited_config import EditedConfig
from rlhf_tui.engine.bridge import EngineBridge
from rlhf_tui.engine.messages import EngineEvents
from rlhf_tui.widgets.panes import PanedScreen
from rlhf_tui.widgets.status import AlarmLine, KeyBar, StatusLine

PANES = {"lab-rewards": "Rewards", "lab-words": "Words", "lab-try": "Try it"}
COUNT_SECONDS = 0.2
TRIALS = 200
BETWEEN_RUNS = "rewards are added and removed between runs: stop this one (F5) first"


@dataclass
class Counted(Message):
    """Sent from the thread that counts."""

    count: Count


class RewardLabScreen(PanedScreen):
    """Edits go the way that those of the workbench go; nothing here touches the model but the wish for responses."""

    PANES = PANES
    CSS_PATH = "reward_lab.tcss"
    AUTO_FOCUS = "#lab-rewards"
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(str(number), f"pane('{pane}')", title, tooltip=f"Go to {title.lower()}", id=f"lab.{pane}")
          for number, (pane, title) in enumerate(PANES.items(), 1)),
        Binding("r", "reference", "Reference", tooltip="Ask the reference for responses, to count its words",
                id="lab.reference"),
        Binding("n", "number", "How many", tooltip="How many responses to ask the reference for", id="lab.number"),
        Binding("a", "add", "Add reward", tooltip="Another reward of any kind, between runs", id="lab.add"),
        Binding("u", "undo", "Undo", tooltip="Undo the newest change of a setting", id="settings.undo"),
        Binding("U", "redo", "Redo", tooltip="Redo what was undone", id="settings.redo"),
        Binding("z", "zoom", "Zoom", tooltip="Give the whole screen to this pane, or back", id="lab.zoom"),
        Binding("f2", "app.save_preset", "Save preset", tooltip="Save these settings", id="app.save_preset"),
        Binding("escape", "back", "Back", tooltip="Leave the field, cancel, or back", id="lab.back"),
    ]

    def __init__(
        self, bridge: EngineBridge, edited: EditedConfig, questions: CodeQuestions, memory: LabMemory,
        newest_samples: Callable[[], list[Sample]],
    ) -> None:
        """newest_samples: those of the run on the screen, whose words are counted."""
        super().__init__()
        self._bridge, self._edited, self._questions, self._memory = bridge, edited, questions, memory
        self._newest_samples = newest_samples
        self._form = RewardForm(id="lab-rewards", classes="lab-pane")
        self._words = WordTable(id="lab-words", classes="lab-pane")
        self._try = TryIt(id="lab-try", classes="lab-pane")
        self._ask = AskReference(bridge, memory, questions, id="lab-ask")
        self._alarm = AlarmLine(id="alarm")
        self._keys = KeyBar(id="keys")
        self._watch = WordWatch(lambda count: self.post_message(Counted(count)))
        self._count_timer: Timer | None = None

    @property
    def _whose(self) -> RunDir | None:
        """The run that is viewed, if one is: its settings are shown."""
        return RunDir(self._bridge.watched) if self._bridge.watched else None

    def compose(self) -> ComposeResult:
        yield StatusLine(self._bridge.view, id="status")
        yield self._ask
        yield self.tabs
        with Horizontal(id="lab-panes"):
            yield self._form
            with Vertical(id="lab-right"):
                yield self._words
                yield self._try
        yield self._alarm
        yield self._keys

    def on_mount(self) -> None:
        self._load()
        self._show_keys()
        self._alarm.say("viewing: settings can be seen, not changed" if self._bridge.viewing else
                        "a adds a reward, x removes one · r asks the reference how often it says the words")

    def on_unmount(self) -> None:
        self._ask.give_up()
        self._watch.close()

    # --- keys ---

    def lay_out(self) -> None:
        """Fit the panes, and name the keys of the one in use."""
        super().lay_out()
        self._show_keys()

    def _show_keys(self) -> None:
        back, viewing = "Cancel" if self._ask.asking else "Back", self._bridge.viewing
        change = [] if viewing else [("Enter", "Edit", ""), ("a", "Add", "screen.add"), ("x", "Remove", "")]
        change_words = [] if viewing else [("Enter", "Edit list", ""), ("x", "Remove", "")]
        run = ("F5", "Stop" if self._bridge.busy else "Start", "app.toggle_run")
        here = {
            "lab-rewards": [*change, ("/", "Find", "")],
            "lab-words": [*change_words, ("o", "Order", ""), ("s", "Sort", "")],
            "lab-try": [("Enter", "Edit text", ""), ("←→", "Another text", ""), ("↑↓", "Scroll", "")],
        }[self.pane]
        self._keys.show([("Esc", back, "screen.back"), *here, ("1-3", "Pane", ""),
                         *(() if viewing else (("r", "Reference", "screen.reference"), run)), ("n", "How many", ""),
                         ("z", "Zoom", "screen.zoom"), ("F2", "Save preset", "app.save_preset"),
                         ("?", "Help", "app.help")])

    # --- settings ---

    def _load(self) -> None:
        """Show the settings, and which of them a run that goes on has locked."""
        config, viewing = self._edited.config, self._bridge.viewing
        training = self._bridge.busy or viewing
        self._form.load(config, training=training, viewing=viewing, preset=self._edited.original,
                        start=self._edited.start)
        self._words.load(config, training=training, viewing=viewing)
        self._try.score_with(config, self._whose)
        self._count_soon()

    def _follow(self) -> None:
        """Show the settings; what is written here but not allowed stays."""
        config = self._edited.config
        self._form.follow(config)
        self._words.follow(config)
        self._try.score_with(config, self._whose)
        self._count_soon()

    def on_hyperparameters_pane_edited(self, event: HyperparametersPane.Edited) -> None:
        self._edit(event.path, event.value)

    def on_hyperparameters_pane_reset_asked(self, event: HyperparametersPane.ResetAsked) -> None:
        ask_reset(self.app, self._edited, event.values, [row.path for row in event.fixed], training=self._bridge.busy)

    def on_screen_resume(self) -> None:
        """Back from a question that may have changed the settings."""
        if self._form.config is not None:
            self._follow()

    def action_undo(self) -> None:
        """Take the newest change back."""
        self._edited.undo()
        self._follow()

    def action_redo(self) -> None:
        """Make it again."""
        self._edited.redo()
        self._follow()

    def on_word_editor_edited(self, event: WordEditor.Edited) -> None:
        self._edit(event.path, event.value)

    def _edit(self, path: str, value: object) -> None:
        self._edited.edit(path, value)
        self._follow()

    def on_reward_form_chosen(self, event: RewardForm.Chosen) -> None:
        self._words.choose_reward(event.index)

    def on_word_table_turned(self) -> None:
        self._count_soon()

    def _between_runs(self) -> bool:
        """True when the rewards themselves may change; if not, it is said why."""
        if self._edited.read_only():
            return False
        if self._bridge.busy:
            self._alarm.say(BETWEEN_RUNS, "warning")
        return not self._bridge.busy

    def action_add(self) -> None:
        """Ask which kind, then show its settings."""
        if self._between_runs():
            self.app.push_screen(NewRewardScreen(self._edited.config), self._added)

    def _added(self, config: RunConfig | None) -> None:
        if config is not None and self._between_runs():
            self._edited.replace(config)
            self._follow()
            index = len(config.rewards) - 1
            self._form.show_path(f"rewards.{index}.name")
            self._alarm.say(f"{config.rewards[index].name} takes effect with the next run")

    def on_reward_form_removing(self, event: RewardForm.Removing) -> None:
        """Remove a reward when asked for it twice."""
        rewards = self._edited.config.rewards
        if not self._between_runs():
            return
        name = rewards[event.index].name
        if len(rewards) == 1:
            self._alarm.say(f"{name} is the last reward and stays: a run needs something to score with", "warning")
        elif not event.sure:
            self._alarm.say(f"x once more removes {name} and its settings", "warning")
        else:
            data = self._edited.config.model_dump()
            del data["rewards"][event.index]
            self._edited.replace(fields.validate(data))
            self._follow()
            self._alarm.say(f"{name} is removed · u brings it back")

    # --- the reference ---

    def action_reference(self) -> None:
        """Ask the engine for pairs of responses, whose reference sides are counted."""
        if not self._edited.read_only():
            self._ask.ask(self._edited.config)
            self._show_keys()

    def action_number(self) -> None:
        """To the field."""
        self._ask.number.focus()

    def on_ask_reference_said(self, event: AskReference.Said) -> None:
        self._alarm.say(event.text, event.level)

    def on_ask_reference_wanted(self) -> None:
        self.action_reference()
        self.in_use.focus()

    def on_ask_reference_arrived(self) -> None:
        self._count_soon()

    def action_back(self) -> None:
        """Out of a field, out of zoom; give up what runs; else leave."""
        if isinstance(self.focused, Input):
            self.in_use.focus()
        elif self._ask.asking:
            self._ask.give_up()
            self._show_keys()
            self._alarm.say("cancelled · r asks again · Esc leaves")
        elif self.zoomed:
            self.action_zoom()
        else:
            self.dismiss()

    # --- hearing ---

    def on_engine_events(self, message: EngineEvents) -> None:
        self._ask.take(message.events)
        for event in message.events:
            self._take(event)
        kinds = {type(event) for event in message.events}
        if kinds & {RunStarted, StateChanged}:
            # the workbench hears of it at the same time and may change the settings
            self.call_after_refresh(self._load)
        elif kinds & {EditApplied, EditRefused}:
            self.call_after_refresh(self._follow)
        elif kinds & {StepFinished, RolledBack}:
            self._count_soon()
        self.query_one(StatusLine).refresh()
        self._show_keys()

    def _take(self, event: Event) -> None:
        match event:
            case EditApplied():
                self._alarm.say(applied_text(event))
            case EditRefused():
                self._alarm.say(event.text, "warning")
            case StateChanged(message=text) if text:
                self._alarm.say(text, "warning" if event.state.went_wrong else "info")

    # --- counting and trying ---

    def _count_soon(self) -> None:
        if self._count_timer is not None:
            self._count_timer.stop()
        self._count_timer = self.set_timer(COUNT_SECONDS, self._count)

    def _count(self) -> None:
        """Count the words in what there is by now, which can be tried as well."""
        samples = self._newest_samples()
        pairs = self._memory.pairs_of(self._edited.config)
        typed = [Trial(YOURS, *self._memory.typed)] if self._memory.typed else []
        self._try.offer([*typed, *map(trial_of_step, samples[:TRIALS]), *map(trial_of_reference, pairs)])
        if self._words.reward is not None:
            # before the first run there is no tuned model: it would be the reference once more
            liked, disliked = map(self._words.words, SIDES)
            self._watch.count(liked, disliked, samples, pairs, tuned=self._bridge.state is not None)

    def on_counted(self, event: Counted) -> None:
        self._words.show_rates(event.count.rates)
        self._words.border_subtitle = Content(window(event.count))

    def on_try_it_asked(self) -> None:
        """A person wants to decide about code that would score."""
        self._questions.settle(self._edited.config, lambda _: self._try.score_again(), of=self._whose)

    def on_try_it_typed(self, event: TryIt.Typed) -> None:
        self._memory.typed = (event.trial.prompt, event.trial.response)
        self._count_soon()
