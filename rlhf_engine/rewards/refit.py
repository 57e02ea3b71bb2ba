"""A reward model learns on from a label file that has grown, on the base in memory, and becomes a new version.

By the update that its own run took (`learning.bradley_terry`), from all pairs of the file but those that the rule of
that run holds out, each member from a fresh Adam, with the warm-up and decay of that run over the steps of the refit.
Where the model has learnt from these labels alone a refit begins from scratch: a fresh adapter that goes through pairs,
old and new, as often as the other teaches more than one that was trained to its end before and is moved again by a new
Adam (measured: docs/human-feedback.md). It is centred and scaled anew on the same answers of the reference, so that 0
and 1 mean what they meant, and held against what it was (`version_check`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from peft import LoraConfig
from transformers.pytorch_utils import Conv1D

from rlhf_engine.config import fields
from rlhf_engine.config.methods.reward_model import RewardModelConfig
from rlhf_engine.config.preference import Begin, PreferenceRewardConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.rows import Rows, held_out_by_share, load_data, read_rows
from rlhf_engine.data.source import check_data
from rlhf_engine.errors import NonFiniteError, RlhfError
from rlhf_engine.learning.bradley_terry import PairLearning, member_batch
from rlhf_engine.learning.optimizer import AdapterOptimizer, learning_rate_at
from rlhf_engine.learning.pair_width import responses_at_once
from rlhf_engine.learning.score_scale import center_and_scale, reference_answers
from rlhf_engine.models.guest_adapter import GuestAdapter
from rlhf_engine.models.memory import MicroBatchLimit
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.response_scores import Reader, score_responses
from rlhf_engine.models.rollout import Rollout
from rlhf_engine.models.written import written
from rlhf_engine.rewards.trained_model import LearntOn, TrainedModel, learns_from, prompt_digest
from rlhf_engine.rewards.version_check import VersionCheck
from rlhf_engine.runs.reward_version_files import MemberFiles, NewVersion
from rlhf_engine.system.streams import log

FORMAT = 1
_HEAD = "base_model.model.score.weight"
_PASSES = 5  # from scratch, at most: fewer pairs than the own run had would be learnt by heart in as many steps
_GENTLE = 0.2  # of the learning rate of its own run, where a refit goes on from what the model is


@dataclass(frozen=True)
class Refit:
    """What a refit came to. model: as it is now; check: how it compares with what it was; pairs: that were learnt from,
    in `steps` optimizer steps of each member at learning rate `rate`."""

    model: TrainedModel
    check: VersionCheck
    pairs: int
    steps: int
    rate: float


def refit(
    policy: Policy, model: TrainedModel, reward: PreferenceRewardConfig, *, judgements: int, version: int,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Refit:
    """`model` after it learnt on from the labels of `reward`, on the base of `policy`, which is left as it is found.
    judgements: how many stand in the file. version: counts the refits, so that each of those that go on from the
    model's weights takes the pairs in an order of its own. Raises ConfigError for a file that cannot be learnt from,
    and NonFiniteError where nothing came of it."""
    config, begin = _settings(model, reward), _begin(model, reward)
    checked = check_data(policy, load_data(config), config)
    rows, known = checked.source.rows, _learnt_prompts(model, reward, config)
    learning = PairLearning(policy, _method(config), MicroBatchLimit(responses_at_once(policy, rows, config), log))
    members = [(member.fresh(_fresh_seed(config, at)) if begin == "scratch" else member).to(policy.device).learning()
               for at, member in enumerate(model.members)]
    readers = [_reader(member, policy, model) for member in members]
    steps, rate = _schedule(reward, config, begin, len(rows))
    optimizer = config.optimizer.model_copy(update={"learning_rate": rate})
    seed = (config.train.seed + (version if begin == "weights" else 0)) % 2**63
    asked = _reference(policy, model, rows, config)
    for at, (member, reader) in enumerate(zip(members, readers, strict=True)):
        adam = AdapterOptimizer("reward model", member.parameters, optimizer)
        for number in range(1, steps + 1):
            progress((at * steps + number - 1) / (len(members) * steps))
            batch = member_batch(rows, config, at, number, seed)
            learning.update(reader, adam, learning.lesson(batch), learning_rate_at(number, optimizer, steps),
                            optimizer.max_grad_norm)
    scores = score_responses(policy, readers, asked, learning.limit)
    if not bool(scores.isfinite().all()):
        raise NonFiniteError("it no longer gives finite scores")
    center, scale = center_and_scale(scores)
    before = [_reader(member.to(policy.device), policy, model) for member in model.members]
    check = _check(learning, before, readers, checked.held_out_rows, known)
    seen: frozenset[str] | None = frozenset(map(prompt_digest, rows.prompts))
    if begin == "weights":  # besides what it had seen before
        seen = seen | known if seen is not None and known is not None else None
    new = replace(
        model, members=tuple(members), center=tuple(center), scale=tuple(scale), config=config,
        reference=tuple(zip(asked.prompts, asked.responses, strict=True)),
        learnt=LearntOn(judgements, begin, seen))
    return Refit(new, check, len(rows), steps, rate)


def version_of(done: Refit, reward: PreferenceRewardConfig, step: int, policy: Policy) -> NewVersion:
    """The new version as a folder that `trained_model` reads, of the form that `export` gives. step: the first that it
    rewards, or would."""
    model, modules = done.model, dict(policy.base.named_modules())
    members: list[MemberFiles] = []
    for member in model.members:
        adapted = sorted({name.removeprefix("base_model.model.").partition(".lora_")[0] for name in member.tensors})
        settings = LoraConfig(
            r=member.rank, lora_alpha=member.scaling * member.rank, target_modules=adapted, task_type="SEQ_CLS",
            fan_in_fan_out=any(isinstance(modules[each], Conv1D) for each in adapted), modules_to_save=["score"],
            base_model_name_or_path=model.base.name, revision=model.base.revision, inference_mode=True)
        tensors = {**member.tensors, _HEAD: member.head}
        members.append(MemberFiles({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
                                   settings.save_pretrained))
    first, learnt = model.members[0], model.learnt
    assert learnt is not None
    return NewVersion(members, {
        "format": FORMAT, "merged": False, "reads": model.reads, "center": model.center, "scale": model.scale,
        "base_fingerprint": model.fingerprint, "chat_template": model.template[0], "system": model.template[1],
        "rank": first.rank, "alpha": first.scaling * first.rank, "reference_answers": model.reference,
        "learnt_on": {
            "reward": reward.name, "first_step": step, "refused": done.check.worse, "judgements": learnt.judgements,
            "begin": learnt.begin, "pairs": done.pairs, "steps": done.steps, "learning_rate": done.rate,
            **done.check.record, "prompts": None if learnt.prompts is None else sorted(learnt.prompts),
            "config": model.config.model_dump() if model.config else None},
    })


# ---------------------------------------------------------------------------------------------------------------------


def _settings(model: TrainedModel, reward: PreferenceRewardConfig) -> RunConfig:
    """Those of the model's own run, on the labels; the defaults where they are not known."""
    config = model.config or RunConfig.model_validate({
        "model": model.base.model_dump(), "algorithm": {"kind": "reward_model", "members": len(model.members)},
        "data": {"source": reward.labels, "chat_template": model.template[0], "system": model.template[1]},
        "rewards": []})
    data = config.data.model_copy(update={
        "source": reward.labels, "sha256": None, "subset": None, "split": "train", "revision": None, "columns": [],
        "prompt_column": "prompt", "chosen_column": "chosen", "rejected_column": "rejected",
        "prompts": [], "texts": [], "chosen": [], "rejected": []})
    method = _method(config).model_copy(update={"margin_column": None})
    return fields.validate(config.model_dump() | {"data": data.model_dump(), "algorithm": method.model_dump()})


def _begin(model: TrainedModel, reward: PreferenceRewardConfig) -> Begin:
    """Where the refit begins: what `refit_from` says, or else as `model` began, or by what its own run learnt from."""
    if reward.refit_from is not None:
        return reward.refit_from
    if model.learnt is not None:
        return model.learnt.begin
    return "scratch" if model.config and learns_from(model.config, reward.labels or "") else "weights"


def _schedule(reward: PreferenceRewardConfig, config: RunConfig, begin: Begin, rows: int) -> tuple[int, float]:
    """Optimizer steps of each member, and the learning rate."""
    scratch, one_pass = begin == "scratch", math.ceil(rows / _method(config).pairs_per_step)
    steps = min(config.train.steps, _PASSES * one_pass) if scratch else one_pass
    rate = config.optimizer.learning_rate * (1 if scratch else _GENTLE)
    return reward.refit_passes * one_pass if reward.refit_passes else steps, reward.refit_learning_rate or rate


def _fresh_seed(config: RunConfig, member: int) -> int:
    return (config.train.seed + 1_000_003 * (member + 1)) % 2**63


def _reader(member: GuestAdapter, policy: Policy, model: TrainedModel) -> Reader:
    return Reader(partial(member.on, policy), member.read, model.reads)


def _learnt_prompts(model: TrainedModel, reward: PreferenceRewardConfig, config: RunConfig) -> frozenset[str] | None:
    """Digests of the prompts whose pairs `model` has learnt from; None where that cannot be told. config: settings on
    the labels of `reward`."""
    if model.learnt is not None:
        return model.learnt.prompts
    if model.config is None:
        return None
    here = learns_from(model.config, reward.labels or "")
    try:
        keys = read_rows(config if here else model.config).keys
    except RlhfError:  # the pairs of its run are gone
        return None
    listed, share = set(config.data.held_out), config.data.held_out_share
    then = {key for key in keys[:reward.judgements if here else None] if key not in listed}
    return frozenset(map(prompt_digest, then - held_out_by_share(then, share)))


def _check(
    learning: PairLearning, before: Sequence[Reader], after: Sequence[Reader], held_out: Rows,
    known: frozenset[str] | None,
) -> VersionCheck:
    """known: the prompts whose pairs the model of before has learnt from."""
    if not len(held_out):
        return VersionCheck(untold="no pairs are held out (data.held_out_share of the reward model's run)")
    if known is None:
        return VersionCheck(untold="which pairs it had learnt from is not recorded")
    fresh = held_out.take(at for at, prompt in enumerate(held_out.prompts) if prompt_digest(prompt) not in known)
    if not len(fresh):
        return VersionCheck(untold="it had learnt from the prompts of all pairs that are held out now")
    return VersionCheck.of(*(learning.measure(readers, fresh) for readers in (before, after)))


def _method(config: RunConfig) -> RewardModelConfig:
    assert isinstance(config.algorithm, RewardModelConfig)
    return config.algorithm


def _reference(policy: Policy, model: TrainedModel, rows: Rows, config: RunConfig) -> Rollout:
    """The reference's answers that the model was centred on, or, where they were not kept, others."""
    if model.reference is None:
        return reference_answers(policy, rows, config, _method(config).reference_samples)
    prompts, answers = [prompt for prompt, _ in model.reference], [answer for _, answer in model.reference]
    return written(policy, prompts, answers, [False] * len(answers))
