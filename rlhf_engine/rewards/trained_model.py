"""A reward model that was trained before, as it lies on the disk: in a run's checkpoint, or in an exported folder."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from rlhf_engine.config import fields
from rlhf_engine.config.preference import Begin, PreferenceRewardConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.config.sections import ModelConfig
from rlhf_engine.errors import ConfigError, ModelError, RlhfError, first_line, short
from rlhf_engine.files.reading import MOST_WHOLE, read_bytes, whole_number
from rlhf_engine.labels.label_file import read_labels
from rlhf_engine.model_folders.model_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from rlhf_engine.models.guest_adapter import GuestAdapter
from rlhf_engine.models.response_scores import Reads
from rlhf_engine.runs import checkpoint
from rlhf_engine.runs.base_model import base_fingerprint
from rlhf_engine.runs.checkpoint_list import candidates, missing, step_of
from rlhf_engine.runs.reward_models import folder_named
from rlhf_engine.runs.reward_versions import ABOUT, digest_of, files_of, folder_of, number_of
from rlhf_engine.runs.run_dir import RunDir

_HEAD = "base_model.model.score.weight"


@dataclass(frozen=True)
class LearntOn:
    """How a model learnt on. judgements: of the label file, that it has learnt from; begin: where that began, see
    `PreferenceRewardConfig.refit_from`; prompts: digests (`prompt_digest`) of those whose pairs it has ever learnt
    from; None where that is not known."""

    judgements: int
    begin: Begin
    prompts: frozenset[str] | None


def prompt_digest(prompt: str) -> str:
    """16 hexadecimal digits that stand for a prompt in a file."""
    return hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True)
class TrainedModel:
    """What a reward model consists of. members: adapters with heads; center, scale: of each, see
    `learning.score_scale`; base: the model that they were trained on, and its fingerprint, by one digest; template:
    whether prompts were put to it by a chat template, and the system message before them; reads: what of the head's
    outputs is the score.

    How it learnt, for what learns on from it: config: of its run; None of an exported folder. reference: the prompts
    and answers on which it was centred; None where they were not kept. learnt: how it learnt on within a run; None of
    one that has not.
    """

    members: tuple[GuestAdapter, ...]
    center: tuple[float, ...]
    scale: tuple[float, ...]
    base: ModelConfig
    fingerprint: str | None
    template: tuple[bool, str | None] = (False, None)
    reads: Reads = "last"
    config: RunConfig | None = None
    reference: tuple[tuple[str, str], ...] | None = None
    learnt: LearntOn | None = None


@dataclass(frozen=True)
class _Place:
    """Where one lies: a run's checkpoint of a step, or a folder that was exported to."""

    run: RunDir | None
    folder: Path
    step: int | None

    @property
    def files(self) -> list[Path]:
        """What it consists of."""
        if self.run:
            return [self.folder / "state.json", self.folder / "tensors.safetensors"]
        return files_of(self.folder)


def pinned_reward_models(config: RunConfig) -> RunConfig:
    """The config with whole paths, the step, the digest of each reward model that has none yet, and what of its labels
    it knows already. Raises ConfigError where one cannot be had."""
    changes: dict[str, Any] = {}
    for index, reward in enumerate(config.rewards):
        if isinstance(reward, PreferenceRewardConfig) and reward.version is None:  # else it was pinned before
            place, at = _place(reward), f"rewards.{index}"
            changes |= {f"{at}.model": str((place.run.path if place.run else place.folder).resolve()),
                        f"{at}.step": place.step, f"{at}.sha256": _as_meant(reward, place)}
            if reward.labels is not None:
                labels = os.path.realpath(os.path.expanduser(reward.labels))
                changes[f"{at}.labels"] = labels
                if reward.judgements is None:
                    changes[f"{at}.judgements"] = _known_judgements(reward, place, labels)
    return fields.replace(config, changes) if changes else config


def load_trained_model(config: PreferenceRewardConfig) -> TrainedModel:
    """The reward model that a reward names. Raises ConfigError, one sentence, where there is none, or it is not the one
    that was meant."""
    if config.version is not None:
        place = _version(config, config.version)
    else:
        place = _place(config)
        _as_meant(config, place)
    try:
        return _of_run(place.folder) if place.run else _of_folder(place.folder)
    except (RlhfError, OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{_whose(config)}{place.folder} holds no reward model that can be used: "
                          f"{first_line(error)}") from error


def learns_from(config: RunConfig, labels: str) -> bool:
    """Whether a run of these settings learns from that file. labels: its whole path."""
    source = config.data.source
    return source is not None and os.path.realpath(os.path.expanduser(source)) == labels


def judgements_in(labels: Path) -> int:
    """How many judgements that can be learnt from stand in a label file: all but those that were skipped. Raises
    ConfigError."""
    return sum(judgement.verdict != "skip" for judgement in read_labels(labels))


# ---------------------------------------------------------------------------------------------------------------------


def _whose(config: PreferenceRewardConfig) -> str:
    return f"the reward {config.name!r}: "


def _place(config: PreferenceRewardConfig) -> _Place:
    found = folder_named(config.model)
    if found is None:
        raise ConfigError(f"{_whose(config)}there is no run and no folder {short(config.model)!r}; model names a run "
                          "that trained a reward model, or a folder that one was exported to")
    if (found / ABOUT).is_file():
        return _Place(None, found, None)
    if not (found / "checkpoints").is_dir():
        raise ConfigError(f"{_whose(config)}{found} is neither a run with a checkpoint nor a folder that `rlhf-tui "
                          "export` wrote a reward model to")
    return _checkpoint(config, RunDir(found))


def _checkpoint(config: PreferenceRewardConfig, run: RunDir) -> _Place:
    try:
        there = candidates(run)
        if config.step is None:
            path = checkpoint.best(run) or next(iter(there), None)
        else:
            path = next((path for path in there if step_of(path) == config.step), None)
        if path is None:
            raise ConfigError(missing(run, config.step))
    except RlhfError as error:
        raise ConfigError(f"{_whose(config)}{error}") from error
    return _Place(run, path, step_of(path))


def _version(config: PreferenceRewardConfig, version: str) -> _Place:
    """What the model has become in a run. Raises ConfigError where it is not there, or is another one."""
    if config.version_folder is None:
        raise ConfigError(f"{_whose(config)}version {version} is one of a run, and of which is not known here; version "
                          "= none takes the model as it was")
    folder = folder_of(Path(config.version_folder), number_of(version))
    try:
        found = digest_of(files_of(folder))
    except OSError as error:
        raise ConfigError(f"{_whose(config)}its version {version} cannot be read from {folder}: {error.strerror}"
                          ) from None
    if not found.startswith(version.partition("-")[2]):
        raise ConfigError(f"{_whose(config)}{folder} is damaged, or another one than the version {version} that the "
                          "run was rewarded by")
    return _Place(None, folder, None)


def _known_judgements(config: PreferenceRewardConfig, place: _Place, labels: str) -> int:
    """How many of the judgements of `labels` the model has learnt from; where that is not known, all that stand there:
    none of those is new to the run that begins."""
    if place.run is not None:
        try:
            state = checkpoint.load(place.folder)
        except RlhfError as error:
            raise ConfigError(f"{_whose(config)}{error}") from error
        if not learns_from(state.config, labels):
            return 0
        if isinstance(counted := state.numbers.get("judgements"), int):
            return counted
    return judgements_in(Path(labels)) if os.path.lexists(labels) else 0


def _as_meant(config: PreferenceRewardConfig, place: _Place) -> str:
    """Its digest. Raises ConfigError where it is not what the configuration wrote down."""
    try:
        found = digest_of(place.files)
    except OSError as error:
        raise ConfigError(f"{_whose(config)}{error.filename or place.folder} could not be read: {error.strerror}"
                          ) from None
    if config.sha256 is not None and config.sha256 != found:
        raise ConfigError(f"{_whose(config)}{place.folder} is no longer the reward model whose SHA-256 begins with "
                          f"{config.sha256[:12]}; sha256 = none takes it as it is now")
    return found


def _of_run(path: Path) -> TrainedModel:
    state = checkpoint.load(path)
    config = state.config
    if not config.algorithm.scores_texts:
        raise ModelError(f"it trains by {config.algorithm.title}, and no reward model")
    members = []
    for head, adapter in config.algorithm.needs.heads:
        own = {name.removeprefix(f"{adapter}/").replace(f".{adapter}.", "."): tensor
               for name, tensor in state.tensors.items() if name.startswith(f"{adapter}/")}
        weight = own.pop(f"{head}_head.weight")
        members.append(GuestAdapter(own, weight, config.lora.alpha / config.lora.rank))
    return TrainedModel(
        tuple(members), *_numbers(state.numbers, len(members)), config.model, state.base.hex if state.base else None,
        (config.data.chat_template, config.data.system), getattr(config.algorithm, "reads", "last"), config,
        _reference(state.numbers))


def _of_folder(folder: Path) -> TrainedModel:
    about = json.loads(read_bytes(folder / ABOUT, MOST_WHOLE))
    if about.get("merged"):
        raise ModelError("it was exported with --merged, and shares no base; a reward of kind classifier uses it, or "
                         "export the adapter alone")
    names = [str(name) for name in about["members"]]
    if any(Path(name).is_absolute() or ".." in Path(name).parts for name in names):
        raise ModelError(f"{ABOUT} names members outside of it")
    members = []
    for name in names:
        own: dict[str, Tensor] = safetensors.torch.load_file(folder / name / ADAPTER_WEIGHTS)
        members.append(GuestAdapter({key: tensor for key, tensor in own.items() if key != _HEAD}, own[_HEAD],
                                    float(about["alpha"]) / int(about["rank"])))
    base = json.loads(read_bytes(folder / names[0] / ADAPTER_CONFIG, MOST_WHOLE))
    model = ModelConfig(name=base["base_model_name_or_path"], revision=base.get("revision"))
    known = about.get("base_fingerprint")
    now = base_fingerprint(model)
    if known and now and now.hex != known:
        raise ModelError(f"{model.name} is another model now than the one it was trained on")
    template = about.get("chat_template", False), about.get("system")
    learnt = about.get("learnt_on")
    return TrainedModel(
        tuple(members), *_numbers(about, len(members)), model, known, template, _reads(about),
        fields.validate(learnt["config"]) if learnt else None, _reference(about),
        _learnt_on(learnt) if learnt else None)


def _learnt_on(found: Mapping[str, Any]) -> LearntOn:
    prompts = found.get("prompts")
    return LearntOn(whole_number(found["judgements"]), "scratch" if found.get("begin") == "scratch" else "weights",
                    frozenset(map(str, prompts)) if isinstance(prompts, list) else None)


def _reads(about: Mapping[str, Any]) -> Reads:
    """What of the head's outputs is the score; exported folders do not say, for theirs is the last token's."""
    return "mean" if about.get("reads") == "mean" else "last"


def _reference(found: Mapping[str, Any]) -> tuple[tuple[str, str], ...] | None:
    """The answers of the reference, if they were kept."""
    pairs = found.get("reference_answers")
    return tuple((str(prompt), str(answer)) for prompt, answer in pairs) if pairs else None


def _numbers(found: Mapping[str, Any], members: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    center, scale = (tuple(float(value) for value in found[name]) for name in ("center", "scale"))
    if not len(center) == len(scale) == members or not all(map(math.isfinite, center + scale)) or min(scale) <= 0:
        raise ModelError("its center and scale are not finite numbers, one of each a member")
    return center, scale
