"""A session without an engine: it notes what it is asked and emits the events a test tells it to."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable
from dataclasses import replace

from rlhf_engine.config import fields
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import ConfigError, RunError
from rlhf_engine.evaluation.credit import GroupCredit, MethodCredit
from rlhf_engine.events import (
    CheckpointSaved,
    EditApplied,
    Event,
    ModelLoaded,
    PairsSampled,
    RunStarted,
    RunState,
    Sample,
    Span,
    StateChanged,
    StepFinished,
)
from rlhf_engine.labels.pair import Answer, AskedFor, Origin, Pair
from rlhf_engine.requests import (
    Close,
    Edit,
    Fork,
    Pause,
    Request,
    Resume,
    SamplePairs,
    SaveCheckpoint,
    Start,
    Stop,
    Unpause,
)
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.token_trace import TokenTrace

STORIES = [
    "there was a little fox who lived beside the old mill. The fox and the owl shared every supper.",
    "a bear found a red kite in the meadow. \"Whose is it?\" asked the rabbit, and nobody knew.",
    "the girl waved to her mom from the boat, and the boy waved too.",
    "an owl counted stars until the fox fell asleep by the fire.",
]
LIKED, DISLIKED = ("fox", "owl", "bear", "rabbit"), ("girl", "boy", "mom")


def story_sample(step: int, index: int) -> Sample:
    """A response with its spans; the same for the same numbers."""
    response = STORIES[(step + index) % len(STORIES)]
    spans, parts = [], {"liked": 0.0, "disliked": 0.0}
    for kind, words, points in (("liked", LIKED, 1.2), ("disliked", DISLIKED, -0.8)):
        for word in words:
            at = response.find(word)
            if at >= 0:
                spans.append(Span(at, at + len(word), kind))
                parts[kind] += points
    spans.sort(key=lambda span: span.start)
    return Sample(step=step, prompt="Once upon a time ", response=response, score=sum(parts.values()), parts=parts,
                  kl=step * 0.1 + index * 0.3, tokens=len(response) // 4, finished=True, spans=tuple(spans))


def story_probe(step: int) -> Sample:
    """The answer to the probe after `step`: two words change every fifth step, the rest stays."""
    animal, place = ("girl", "fox", "owl", "bear")[step // 5 % 4], ("mill", "river", "hill")[step // 10 % 3]
    response = f"there was a little {animal} who lived beside the old {place}. It shared every supper."
    at, liked = response.index(animal), animal in LIKED
    return Sample(step=step, prompt="Once upon a time ", response=response, score=1.2 if liked else -0.8, parts={},
                  kl=step / 10, tokens=20, finished=True,
                  spans=(Span(at, at + len(animal), "liked" if liked else "disliked"),))


def story_trace(sample: Sample, *, sequence_level: bool = False) -> TokenTrace:
    """Numbers for each word of a response and its end token, as the formulas of a token-level update make them."""
    texts = (*re.findall(r"\s*\S+", sample.response), "")
    log_probs = tuple(-0.4 - (at * 7 % 11) / 4 for at in range(len(texts)))
    reference = tuple(value - ((at * 5 % 7) - 2) / 5 for at, value in enumerate(log_probs))
    kl = tuple(a - b for a, b in zip(log_probs, reference, strict=True))
    rewards = [-0.1 * nats for nats in kl]
    rewards[-1] += sample.score or 0.0
    values = tuple(0.5 + at / 20 for at in range(len(texts)))
    returns = tuple(sum(rewards[at:]) for at in range(len(texts)))
    raw = tuple(a - b for a, b in zip(returns, values, strict=True))
    advantages = tuple(value / 2 for value in raw)
    per_token = {"log_probs": log_probs, "reference_log_probs": reference, "kl": kl}
    facts = {"kl_coef": 0.1, "whitened": 1.0}
    if sequence_level:
        whole = {"rewards": returns[0], "values": 0.5, "returns": returns[0], "raw_advantages": returns[0] - 0.5,
                 "advantages": advantages[0]}
        return TokenTrace(texts, per_token, whole | facts)
    per_token |= {"rewards": tuple(rewards), "values": values, "returns": returns, "raw_advantages": raw,
                  "advantages": advantages}
    return TokenTrace(texts, per_token, facts)


def story_group(count: int = 4) -> GroupCredit:
    """What two methods make of stories: PPO of each token, GRPO of each story, which they sometimes see otherwise."""
    samples = [replace(found, trace=story_trace(found)) for found in (story_sample(41, at) for at in range(count))]
    scores = [sample.score or 0.0 for sample in samples]
    mean = sum(scores) / count
    by_token = tuple(sample.trace.series["advantages"] for sample in samples if sample.trace)
    whole = tuple(score - mean for score in scores)
    lengths = [len(values) for values in by_token]
    ppo = MethodCredit(
        "ppo", "PPO", by_token, tuple(tuple(value / sum(lengths) for value in values) for values in by_token),
        tuple(sum(values) / len(values) for values in by_token), True,
        "baseline: the critic's value at each token · whitened over the batch")
    grpo = MethodCredit(
        "grpo", "GRPO", tuple((value,) * length for value, length in zip(whole, lengths, strict=True)),
        tuple((value / count / length,) * length for value, length in zip(whole, lengths, strict=True)), whole, False,
        "baseline: mean score of the group · KL in the loss, per token (k3), β 0.1")
    return GroupCredit(41, 0.1, tuple(samples), (ppo, grpo))


def story_pairs(count: int, start: int = 0, ask: AskedFor = "random") -> tuple[Pair, ...]:
    """Pairs of stories with their scores, no two alike; the same for the same numbers."""
    pairs = []
    for number in range(start, start + count):
        samples = [story_sample(number, at) for at in (0, 1)]
        first, second = (
            Answer(f"{sample.response} ({number})", True, Origin(kind, "storyteller", "", step, number),
                   sample.score, sample.parts, sample.spans)
            for sample, kind, step in zip(samples, ("reference", "tuned"), (None, 41), strict=True))
        gap = (first.score or 0.0) - (second.score or 0.0)
        pairs.append(Pair("Once upon a time ", first, second, ask, 1 / (1 + math.exp(-gap))))
    return tuple(pairs)


def step_metrics(step: int) -> dict[str, float]:
    """Curves that look like a run that learns; the same for the same step."""
    wobble = ((step * 37) % 17 - 8) / 8
    return {
        "objective/scores": 4 - 5 * 0.96**step + 0.5 * wobble,
        "objective/kl": 8 - 8 * 0.97**step + 0.4 * wobble,
        "objective/rlhf_reward": 3 - 4 * 0.96**step,
        "loss/policy_avg": -0.02 + 0.01 * wobble,
        "loss/value_avg": 0.2 + 4 * 0.93**step + 0.2 * abs(wobble),
        "policy/entropy_avg": 2.5 - step * 0.005,
        "throughput/responses_per_s": 92.0,
        "kl_coef": 0.1,
    }


class FakeSession:
    """Stands in for the engine. `asked` is what was asked; the test's thread emits through `emit` and the helpers."""

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self.emit = emit
        self.asked: list[Request] = []
        self.busy = False
        self.slow_to_stop = False
        self.answers_pairs, self.pairs_sampled = True, 0
        self.crash: BaseException | None = None
        self.config: RunConfig | None = None
        self.step = 0
        self.seconds = 0.0
        self._wake = threading.Condition()
        self._closed = False

    # --- what a Session offers ---

    def ask(self, request: Request) -> None:
        if isinstance(request, Start | Resume | Fork):
            if self.busy:
                raise RunError("a run is in progress; stop it first")
            self.busy = True
        self.asked.append(request)
        match request:
            case Start(config):
                self.config, self.step, self.seconds = config, 0, 0.0
                self.emit(RunStarted("brave-otter", "runs/brave-otter", config, 0))
                self.emit(StateChanged(RunState.LOADING, 0, config.train.steps))
                self.emit(ModelLoaded("storyteller", 1_000_000, 20_000, "cpu", "float32", 2, 2e11, 0.5))
                self.emit(StateChanged(RunState.TRAINING, 0, config.train.steps))
            case Resume(path):
                self.config = RunDir(path).config()
            case Pause() if not self.slow_to_stop:
                self.state(RunState.PAUSED)
            case Unpause():
                self.state(RunState.TRAINING)
            case Stop() if not self.slow_to_stop:
                self.end(RunState.STOPPED)
            case Stop():
                self.state(RunState.STOPPING)
            case SaveCheckpoint():
                self.emit(CheckpointSaved(self.step, f"runs/brave-otter/checkpoints/step-{self.step:06d}"))
            case Edit():
                self._edit(request)
            case SamplePairs() if self.answers_pairs:
                pairs = story_pairs(request.count, self.pairs_sampled, request.ask)
                self.pairs_sampled += request.count
                self.emit(PairsSampled(request.id, pairs))
            case Close() if not self.slow_to_stop:
                self.release()
            case Close() if self.busy:
                self.state(RunState.STOPPING)

    def _edit(self, edit: Edit) -> None:
        assert self.config is not None
        try:
            old = fields.value_at(self.config, edit.path)
            self.config = fields.replace(self.config, {edit.path: edit.value})
        except ConfigError as error:
            self.emit(edit.refused(str(error)))
        else:
            self.emit(EditApplied(self.step + 1, edit.path, old, edit.value))

    def serve(self) -> None:
        with self._wake:
            while not self._closed and self.crash is None:
                self._wake.wait()
        if self.crash is not None:
            raise self.crash

    # --- what a test does with it ---

    @property
    def started(self) -> list[str]:
        """The presets of the runs that were started."""
        return [request.preset for request in self.asked if isinstance(request, Start)]

    def state(self, state: RunState, message: str = "") -> None:
        """Enter `state`."""
        total = self.config.train.steps if self.config else 0
        self.emit(StateChanged(state, self.step, total, message))

    def end(self, state: RunState, message: str = "") -> None:
        """End the run in `state`."""
        self.busy = False
        self.state(state, message)

    def steps(self, count: int, samples: int = 2) -> None:
        """Finish `count` more steps."""
        for _ in range(count):
            self.step += 1
            self.seconds += 0.5
            total = self.config.train.steps if self.config else 100
            drawn = tuple(story_sample(self.step, index) for index in range(samples))
            self.emit(StepFinished(self.step, total, step_metrics(self.step), drawn, self.seconds))

    def break_down(self, error: BaseException) -> None:
        """Let the engine thread raise."""
        with self._wake:
            self.crash = error
            self._wake.notify_all()

    def release(self) -> None:
        """Let a slow stop end, and the thread with it."""
        if self.busy:
            self.end(RunState.STOPPED, f"saved at step {self.step}")
        with self._wake:
            self._closed = True
            self._wake.notify_all()


class Sessions(list[FakeSession]):
    """Makes fake sessions and keeps them, newest last."""

    def __call__(self, emit: Callable[..., None]) -> FakeSession:
        self.append(FakeSession(emit))
        return self[-1]

    @property
    def last(self) -> FakeSession:
        return self[-1]
