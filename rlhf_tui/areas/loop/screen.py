"""The loop of human feedback as four stages: how far each is, what is missing, and the key that goes there. Read from
files, again and again, so it follows a pipeline as well as runs made here."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import OptionList, Static

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.pipelining.loop import REWARD_MODEL, LoopReader, LoopRun, LoopState
from rlhf_engine.pipelining.loop_list import Loop, labels_of, loops
from rlhf_engine.pipelining.stages import POLICY_PRESET
from rlhf_engine.requests import REFERENCE, Side
from rlhf_engine.runs.run_dir import RunDir
from rlhf_tui.areas.label.label_start import LabelStart, usual_path
from rlhf_tui.areas.loop import plans
from rlhf_tui.areas.loop.plans import PlannedRun
from rlhf_tui.areas.loop.stages import AGAIN, LABELS, POLICY, RESUMABLE, REWARD, Stage, drawn, next_stage, stages_of
from rlhf_tui.areas.over_optimization.screen import OverOptimizationScreen
from rlhf_tui.areas.runs.run_control import RunControl
from rlhf_tui.areas.trust.code_questions import CodeQuestions
from rlhf_tui.background import run_in_background
from rlhf_tui.editing.edited_config import EditedConfig
from rlhf_tui.engine.bridge import EngineBridge
from rlhf_tui.engine.messages import EngineEvents
from rlhf_tui.engine.viewer import Opened, open_run
from rlhf_tui.terminal.clean_text import clean_line
from rlhf_tui.widgets.choice_list import ChoiceList
from rlhf_tui.widgets.screen import BaseScreen
from rlhf_tui.widgets.status import AlarmLine, KeyBar, StatusLine

READ_SECONDS = 2.0
_HINT = "↑↓ a stage · Enter does what it says · the whole loop by itself: rlhf-tui pipeline"

LabelWith = Callable[[LabelStart, RunConfig], object]
"""Opens the label screen, with the settings that answers are sampled by."""


class LoopScreen(BaseScreen[None]):
    """Follows one loop at a time; ← and → go to the others."""

    DEFAULT_CSS = """
    LoopScreen #which { height: auto; max-height: 2; padding: 0 1; }
    LoopScreen #stages { height: 1fr; border: none; padding: 0 1; background: $background; scrollbar-size-vertical: 1; }
    LoopScreen.-tiny #status, LoopScreen.-tiny #keys { display: none; }
    """
    VERTICAL_BREAKPOINTS = [(0, "-tiny"), (14, "-roomy")]  # noqa: RUF012 (so the base class declares it)
    AUTO_FOCUS = "#stages"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,left_square_bracket", "other(-1)", "Other loop", tooltip="The loop before, of another label file",
                id="loop.previous"),
        Binding("right,right_square_bracket", "other(1)", "Next loop", tooltip="The next loop", id="loop.next"),
        Binding("l", "judge", "Judge", tooltip="Judge pairs of this loop: on the last stage tuned × reference",
                id="loop.judge"),
        Binding("v", "view", "Show run", tooltip="Show the run of this stage on the workbench", id="loop.view"),
        Binding("c", "compare", "Compare", tooltip="The policy against the reference, with 95 % CI", id="loop.compare"),
        Binding("K", "over_optimization", "Over-optimization", id="loop.over_optimization",
                tooltip="The policy's score and gold against √KL, or the reward model's calibration"),
        Binding("escape,H", "dismiss", "Back", tooltip="Back to where one was", id="loop.back"),
    ]

    def __init__(
        self, bridge: EngineBridge, edited: EditedConfig, control: RunControl, questions: CodeQuestions,
        label: LabelWith, *, said: str = "",
    ) -> None:
        """said: why it was opened, where a person did not ask for it: then for the loop of the settings at hand."""
        super().__init__()
        self._bridge, self._edited, self._control, self._questions = bridge, edited, control, questions
        self._label, self._greeting = label, said
        reward_model = edited.config.algorithm.kind == REWARD_MODEL
        self._usual = usual_path(POLICY_PRESET if reward_model else edited.preset, "", bridge.runs_root)
        self._reader = LoopReader(bridge.runs_root)
        self._loops: list[Loop] = []
        self._chosen: Path | None = self._usual if said else None  # a label file
        self._state: LoopState | None = None
        self._reading = False
        self._stages: tuple[Stage, ...] = ()
        self._drawn: tuple[Stage, ...] = ()
        self._which = Static(" reading…", id="which", markup=False)
        self._list = ChoiceList(id="stages", markup=False)
        self._alarm = AlarmLine(id="alarm")
        self._keys = KeyBar(id="keys")

    def compose(self) -> ComposeResult:
        yield StatusLine(self._bridge.view, id="status")
        yield self._which
        yield self._list
        yield self._alarm
        yield self._keys

    def on_mount(self) -> None:
        self._keys.show([("Enter", "Go there", "screen.go"), ("↑↓", "Stage", ""), ("l", "Judge", "screen.judge"),
                         ("v", "Show run", "screen.view"), ("c", "Compare", "screen.compare"),
                         ("K", "Gold", "screen.over_optimization"), ("←→", "Other loop", "screen.other(1)"),
                         ("Esc", "Back", "screen.dismiss"), ("?", "Help", "app.help")])
        self._alarm.say(self._greeting or _HINT, "warning" if self._greeting else "info")
        self._read()
        self.set_interval(READ_SECONDS, self._read)

    def on_screen_resume(self) -> None:
        """Come back to, from judging say."""
        if self._state is not None:
            self._alarm.say(_HINT)
            self._read()

    def on_engine_events(self, _: EngineEvents) -> None:
        self.query_one(StatusLine).refresh()

    # --- reading ---

    def _read(self, *, anew: bool = False) -> None:
        """anew: in the place of what is being read, which is of another loop."""
        if self.is_active and (anew or not self._reading):
            self._reading = True
            config = self._bridge.view.config or self._edited.config
            run_in_background(self, partial(_read, self._reader, self._bridge.runs_root, self._usual, self._chosen,
                                            config), self._show, self._failed, "read loop")

    def _failed(self, why: str) -> None:
        self._reading = False
        self._which.update(Content.styled(why, "$text-warning"))

    def _show(self, read: tuple[list[Loop], LoopState]) -> None:
        self._reading = False
        self._loops, self._state = read
        moved = self._chosen is None or not self._stages
        self._chosen = self._state.loop.labels
        self._stages = stages_of(self._state)
        self._which.update(self._told_which(self._state))
        if self._stages != self._drawn:
            self._drawn = self._stages
            at = next_stage(self._stages) if moved else self._list.highlighted
            self._list.clear_options()
            self._list.add_options([drawn(place, stage) for place, stage in enumerate(self._stages)])
            self._list.highlighted = at

    def _told_which(self, state: LoopState) -> Content:
        place = next((at for at, loop in enumerate(self._loops, 1) if loop.labels == state.loop.labels), 1)
        others = f"  ·  loop {place} of {len(self._loops)}, ←→ the others" if len(self._loops) > 1 else ""
        pipeline = state.loop.pipeline
        if pipeline is None:
            labels = clean_line(str(_near(state.loop.labels)))
            return Content.assemble(("The loop of ", "$text-muted"), (labels, "bold"), (others, "$text-muted"))
        rounds = state.plan.rounds if state.plan else 1
        now = (f"driven by {state.driver}" if state.driver else
               "all rounds are done" if state.rounds_done >= rounds else "nobody drives it")
        return Content.assemble(
            ("Pipeline ", "$text-muted"), (clean_line(pipeline.name), "bold"),
            (f" · round {min(rounds, state.rounds_done + 1)} of {rounds} · {now}{others}", "$text-muted"))

    def action_other(self, by: int) -> None:
        """Another loop."""
        if self._state is None or len(self._loops) < 2:
            self._alarm.say("there is no other loop: each label file is one")
            return
        labels = [loop.labels for loop in self._loops]
        at = labels.index(self._state.loop.labels) if self._state.loop.labels in labels else 0
        self._chosen, self._stages, self._drawn = labels[(at + by) % len(labels)], (), ()
        self._read(anew=True)

    # --- doing ---

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Enter, or a click."""
        event.stop()
        self.action_go()

    def action_go(self) -> None:
        """Do what the stage under the cursor says."""
        state, place = self._state, self._list.highlighted
        if state is None or place is None:
            return
        if not self._stages[place].enter:
            self._alarm.say(f"not yet; it needs {self._stages[place].missing}", "warning")
        elif place in (LABELS, AGAIN):
            self._judge(state, place)
        else:
            self._train(state, place)

    def action_judge(self) -> None:
        """Judge, whatever stage is under the cursor."""
        if self._state is not None:
            again = self._list.highlighted == AGAIN and bool(self._stages[AGAIN].enter)
            self._judge(self._state, AGAIN if again else LABELS)

    def _judge(self, state: LoopState, place: int) -> None:
        sides = REFERENCE, REFERENCE
        if place == AGAIN and state.policy is not None:
            sides = Side("checkpoint", state.policy.summary.path), REFERENCE
        elif state.policy is not None and state.rounds_done:
            sides = (Side("checkpoint", state.policy.summary.path),) * 2
        if self._held(state):
            return
        labels = state.labels
        start = LabelStart(state.loop.labels, max(labels.wanted, labels.judged + 20 if place == AGAIN else 0),
                           sides=sides, seed=self._edited.config.train.seed)
        run_in_background(self, partial(plans.answering, state, self._edited.config, self._edited.preset),
                          lambda config: self._label(start, config), self._not_done, "begin")

    def _held(self, state: LoopState) -> bool:
        if state.driver and state.loop.pipeline:
            self._alarm.say(f"the pipeline {clean_line(state.loop.pipeline.name)} goes on by itself, driven by "
                            f"{state.driver}: Ctrl-C there stops it", "warning")
        return bool(state.driver)

    def _train(self, state: LoopState, place: int) -> None:
        run, stage = (state.reward if place == REWARD else state.policy), self._stages[place]
        if run is not None and (stage.progress == "all" or run.summary.driven or stage.enter == "show this run"):
            self.action_view()
        elif not self._held(state) and not self._control.read_only():
            if self._bridge.busy:
                self._alarm.say("a run is in progress here: F5 stops it first", "warning")
            elif run is not None and run.summary.state in RESUMABLE:
                self._control.resume(RunDir(run.summary.path), self.dismiss)
            else:
                plan = plans.reward_model if place == REWARD else plans.policy
                run_in_background(self, partial(plan, state, self._edited.config, self._edited.preset), self._begin,
                                  self._not_done, "begin")

    def _begin(self, planned: PlannedRun) -> None:
        self._edited.load(planned.config, planned.preset)
        self._control.start(planned.name)
        self.dismiss()

    def _not_done(self, why: str) -> None:
        self._alarm.say(why, "warning")

    # --- looking ---

    def _run_here(self) -> LoopRun | None:
        """The run of the stage under the cursor; None, and said, where there is none."""
        state, place = self._state, self._list.highlighted
        run = None if state is None else state.reward if place == REWARD else (
            state.policy if place in (POLICY, AGAIN) else None)
        if run is None:
            self._alarm.say("this stage has no run yet")
        return run

    def action_view(self) -> None:
        """The run of this stage on the workbench."""
        run = self._run_here()
        if run is None:
            return
        here = self._bridge.watched or self._bridge.run_path
        if here is not None and here.resolve() == run.summary.path.resolve():
            self.dismiss()
        elif self._bridge.busy:
            self._alarm.say("a run is in progress here: F5 stops it first, then others can be shown", "warning")
        else:
            run_in_background(self, partial(open_run, RunDir(run.summary.path)), self._viewed, self._not_done, "view")

    def _viewed(self, opened: Opened) -> None:
        if self._control.view(opened):
            self.dismiss()

    def action_compare(self) -> None:
        """The policy against the reference."""
        from rlhf_tui.areas.compare.screen import CompareScreen

        policy = self._state.policy if self._state else None
        if policy is None:
            self._alarm.say("there is no policy yet to compare with the reference")
        elif not self._control.read_only():
            self.app.push_screen(CompareScreen(self._bridge, self._questions, policy.config,
                                               (REFERENCE, Side("checkpoint", policy.summary.path))))

    def action_over_optimization(self) -> None:
        """Score and gold of the policy; on the stage of the reward model, its calibration."""
        if run := self._run_here():
            self.app.push_screen(OverOptimizationScreen(self._bridge, run.summary.path))


def _read(
    reader: LoopReader, root: Path, usual: Path, chosen: Path | None, config: RunConfig
) -> tuple[list[Loop], LoopState]:
    """The loops, and how far one is: `chosen`, or that of the settings at hand, or the last that was worked on."""
    found = loops(root, usual)
    labels = chosen or labels_of(config)
    loop = next((loop for loop in found if labels is not None and loop.labels.resolve() == labels.resolve()), None)
    return found, reader.read(loop or reader.last_worked_on(found))


def _near(path: Path) -> Path:
    """A path as it is read best: from here, where it lies below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
