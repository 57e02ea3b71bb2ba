"""The two sides of a comparison, made ready to answer.

A checkpoint that fits the model at hand lends it its adapter for as long as it answers, and what was there comes
back bit for bit. One that does not fit is loaded with a base model of its own, one side after the
other, so that no more than one base is loaded besides the one at hand; while a run trains there is no room for that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from rlhf_engine.config.methods.base import Needs
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import ModelError, RunError
from rlhf_engine.evaluation.generate import answer
from rlhf_engine.events import Sample
from rlhf_engine.model_folders.fingerprint import Fingerprint
from rlhf_engine.models.policy import Policy
from rlhf_engine.requests import Side
from rlhf_engine.rewards.composite import RewardSum
from rlhf_engine.runs import checkpoint
from rlhf_engine.runs.base_model import AS_IT_WAS, BaseChoice, base_fingerprint, require_fit, require_same_base
from rlhf_engine.runs.run_dir import RunDir

_BATCH = 32
ACTOR_ALONE = Needs(adapters=("actor",))
"""To answer, and no more."""


@dataclass(frozen=True)
class LoadedSide:
    """A side that was read: how it is called, and what it takes to let it answer."""

    label: str
    tuned: bool
    step: int
    config: RunConfig | None = None
    """The settings at a checkpoint; None for the reference and for the tuned model as it stands."""
    adapter: dict[str, Tensor] | None = None
    run: str = ""
    base: Fingerprint | None = None
    """The base model that the adapter belongs to, where the checkpoint says so."""


@dataclass
class ComparisonModels:
    """Where sides answer: the policy at hand, if there is one, under the settings `config`.

    may_load: a base model besides that one may be loaded. tell: takes sentences about checkpoints that are damaged.
    """

    policy: Policy | None
    config: RunConfig | None
    step: int = 0
    may_load: bool = True
    base: BaseChoice = AS_IT_WAS
    tell: Callable[[str], None] = lambda text: None
    used_moves: bool = False
    """True once a checkpoint was found to belong to the base that `base` says has moved."""
    _loaded: tuple[Policy | None, RunConfig | None] = (None, None)

    def read(self, side: Side) -> LoadedSide:
        """Reads a checkpoint. Raises RlhfError if there is none, it is damaged, or it cannot be made to answer."""
        if side.kind != "checkpoint":
            return LoadedSide(side.kind, side.kind == "tuned", self.step)
        if side.run is None:
            raise RunError("a checkpoint to compare needs the run it is of")
        run_dir = RunDir.open(side.run)
        state = checkpoint.state_at(run_dir, side.step, self.tell)
        state.config.algorithm.require_answers()
        adapter = {name.removeprefix("actor/"): tensor for name, tensor in state.tensors.items()
                   if name.startswith("actor/")}
        config = self._placed(state.config, state.base)
        ready = LoadedSide(f"{run_dir.name}@{state.step}", True, state.step, config, adapter, run_dir.name, state.base)
        if fits(self.policy, self.config, ready):
            return ready
        if not self.may_load:
            raise ModelError(f"{ready.label} does not fit the model that trains now ({_shape(self.config)}): "
                             f"it is of {_shape(config)}{_other_files(self.config, config)}; compare it when no run "
                             "is in progress")
        self._check(ready, base_fingerprint(config.model))
        return ready

    def _placed(self, config: RunConfig, base: Fingerprint | None) -> RunConfig:
        """The config with its base where that has moved, if it is the one that has."""
        placed = self.base.placed(config)
        if not self.base.moves or not (self.base.accept or (base and base_fingerprint(placed.model) == base)):
            return config
        self.used_moves = True
        return placed

    def _check(self, ready: LoadedSide, now: Fingerprint | None) -> None:
        if not self.base.accept and ready.config is not None:
            require_same_base(ready.run, ready.base, now, ready.config.model)

    def same_reference(self, one: LoadedSide, other: LoadedSide) -> bool:
        """True when both are measured against the same base model."""
        (first, first_named), (second, second_named) = self._reference_of(one), self._reference_of(other)
        return first == second if first and second else first_named == second_named

    def _reference_of(self, ready: LoadedSide) -> tuple[Fingerprint | None, tuple[str, str | None] | None]:
        config = ready.config or self.config
        base = ready.base if ready.config else self.policy.fingerprint if self.policy else None
        return base, (config.model.name, config.model.revision) if config else None

    @contextmanager
    def answering_as(self, ready: LoadedSide) -> Iterator[Policy]:
        """A policy that answers as that side does in the role of actor (or reference, if that is the side)."""
        if ready.adapter is None or ready.config is None:
            if self.policy is None:
                raise ModelError(f"there is no model at hand to answer as {ready.label}")
            yield self.policy
            return
        policy = next((there for there, config in ((self.policy, self.config), self._loaded)
                       if fits(there, config, ready)), None)
        if policy is None:
            self._loaded = (None, None)  # let go of one base before the next is loaded
            policy = Policy.from_config(ready.config, ACTOR_ALONE)
            self._check(ready, policy.fingerprint)
            require_fit(ready.adapter, policy.adapters["actor"],
                        f"adapters of the checkpoint do not fit {type(policy.base).__name__}")
            self._loaded = (policy, ready.config)
        with policy.with_adapter("actor", ready.adapter, ready.config.lora.alpha / ready.config.lora.rank):
            yield policy


def answers_of(
    policy: Policy, prompts: list[str], settings: RunConfig, side: LoadedSide, rewards: RewardSum | None, seed: int,
    progress: Callable[[int], None], cancelled: Callable[[], bool],
) -> list[Sample] | None:
    """One answer to each prompt, by a policy that answers as `side`, a batch at a time; None once cancelled."""
    found: list[Sample] = []
    for start in range(0, len(prompts), _BATCH):
        if cancelled():
            return None
        found += answer(policy, prompts[start : start + _BATCH], settings.sampling, tuned=side.tuned,
                        seed=seed + start, rewards=rewards, step=side.step)
        progress(len(found))
    return found


def fits(policy: Policy | None, config: RunConfig | None, ready: LoadedSide) -> bool:
    """True when the adapter is one of this very base model, of the same shape. It may have learnt on that base in
    another number format: it answers in the one at hand, so that no difference between both sides is of rounding."""
    if policy is None or config is None or ready.config is None or ready.adapter is None:
        return False
    if "actor" not in policy.adapters:  # of a method that answers nothing: there is nothing to lend an adapter to
        return False
    same = (config.model.name, config.model.revision) == (ready.config.model.name, ready.config.model.revision)
    if policy.fingerprint is not None and ready.base is not None:  # a name tells less
        same = policy.fingerprint == ready.base
    shapes = {name: parameter.shape for name, parameter in policy.adapters["actor"].items()}
    return same and shapes == {name: tensor.shape for name, tensor in ready.adapter.items()}


def _other_files(one: RunConfig | None, other: RunConfig) -> str:
    return ", but of other files by that name" if one and _shape(one) == _shape(other) else ""


def _shape(config: RunConfig | None) -> str:
    return f"{config.model.name}, rank {config.lora.rank}" if config else "no model"
