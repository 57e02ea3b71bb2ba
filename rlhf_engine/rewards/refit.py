"""A reward model learns on from a label file that has grown, on the base in memory, and becomes a new version.

By the update that its own run took (`learning.bradley_terry`), from all pairs of the file but those that the rule of
that run holds out, each member from a fresh Adam, with the warm-up and decay of that run over the steps of the refit.
It is centred and scaled anew on the same answers of the reference, so that 0 and 1 mean what they meant.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from peft import LoraConfig
from transformers.pytorch_utils import Conv1D

from rlhf_engine.config import fields
from rlhf_engine.config.methods.reward_model import RewardModelConfig
from rlhf_engine.config.preference import PreferenceRewardConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.rows import Rows, load_data
from rlhf_engine.data.source import check_data
from rlhf_engine.errors import NonFiniteError
from rlhf_engine.learning.bradley_terry import PairLearning, member_batch
from rlhf_engine.learning.optimizer import AdapterOptimizer, learning_rate_at
from rlhf_engine.learning.pair_width import responses_at_once
from rlhf_engine.learning.score_scale import center_and_scale, reference_answers
from rlhf_engine.models.memory import MicroBatchLimit
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.response_scores import Reader, score_responses
from rlhf_engine.models.rollout import Rollout
from rlhf_engine.models.written import written
from rlhf_engine.rewards.trained_model import TrainedModel
from rlhf_engine.runs.reward_version_files import MemberFiles, NewVersion
from rlhf_engine.system.streams import log

FORMAT = 1
_HEAD = "base_model.model.score.weight"


@dataclass(frozen=True)
class Refit:
    """What a refit came to. model: as it is now; before, after: metrics of the held-out pairs (empty: there are none),
    of which there are `held_out`; pairs: that were learnt from."""

    model: TrainedModel
    before: dict[str, float]
    after: dict[str, float]
    held_out: int
    pairs: int


def refit(
    policy: Policy, model: TrainedModel, reward: PreferenceRewardConfig, *, judgements: int, version: int,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Refit:
    """`model` after it learnt on from the labels of `reward`, on the base of `policy`, which is left as it is found.
    judgements: how many stand in the file. version: counts the refits, so that each takes the pairs in an order of its
    own. Raises ConfigError for a file that cannot be learnt from, and NonFiniteError where nothing came of it."""
    config = _settings(model, reward)
    checked = check_data(policy, load_data(config), config)
    rows, held_out = checked.source.rows, checked.held_out_rows
    learning = PairLearning(policy, _method(config), MicroBatchLimit(responses_at_once(policy, rows, config), log))
    members = [member.to(policy.device).learning() for member in model.members]
    readers = [Reader(partial(member.on, policy), member.read, model.reads) for member in members]
    asked = _reference(policy, model, rows, config)
    before = learning.measure(readers, held_out) if len(held_out) else {}
    steps = reward.refit_passes * math.ceil(len(rows) / learning.settings.pairs_per_step)
    for at, (member, reader) in enumerate(zip(members, readers, strict=True)):
        optimizer = AdapterOptimizer("reward model", member.parameters, config.optimizer)
        for number in range(1, steps + 1):
            progress((at * steps + number - 1) / (len(members) * steps))
            batch = member_batch(rows, config, at, number, (config.train.seed + version) % 2**63)
            rate = learning_rate_at(number, config.optimizer, steps)
            learning.update(reader, optimizer, learning.lesson(batch), rate, config.optimizer.max_grad_norm)
    scores = score_responses(policy, readers, asked, learning.limit)
    if not bool(scores.isfinite().all()):
        raise NonFiniteError("it no longer gives finite scores")
    center, scale = center_and_scale(scores)
    after = learning.measure(readers, held_out) if len(held_out) else {}
    new = replace(
        model, members=tuple(members), center=tuple(center), scale=tuple(scale), config=config,
        reference=tuple(zip(asked.prompts, asked.responses, strict=True)),
        judgements=judgements)
    return Refit(new, before, after, len(held_out), len(rows))


def version_of(done: Refit, reward: PreferenceRewardConfig, step: int, policy: Policy) -> NewVersion:
    """The new version as a folder that `trained_model` reads, of the form that `export` gives. step: the first that it
    rewards."""
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
    first = model.members[0]
    return NewVersion(members, {
        "format": FORMAT, "merged": False, "reads": model.reads, "center": model.center, "scale": model.scale,
        "base_fingerprint": model.fingerprint, "chat_template": model.template[0], "system": model.template[1],
        "rank": first.rank, "alpha": first.scaling * first.rank, "reference_answers": model.reference,
        "learnt_on": {
            "reward": reward.name, "first_step": step, "judgements": model.judgements, "pairs": done.pairs,
            "held_out": done.held_out, "accuracy": done.after.get("eval/accuracy"), "before": done.before,
            "after": done.after, "config": model.config.model_dump() if model.config else None},
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
    changed: dict[str, object] = {"data": data.model_dump(), "algorithm": method.model_dump()}
    if reward.refit_learning_rate is not None:
        changed["optimizer"] = config.optimizer.model_dump() | {"learning_rate": reward.refit_learning_rate}
    return fields.validate(config.model_dump() | changed)


def _method(config: RunConfig) -> RewardModelConfig:
    assert isinstance(config.algorithm, RewardModelConfig)
    return config.algorithm


def _reference(policy: Policy, model: TrainedModel, rows: Rows, config: RunConfig) -> Rollout:
    """The reference's answers that the model was centred on, or, where they were not kept, others."""
    if model.reference is None:
        return reference_answers(policy, rows, config, _method(config).reference_samples)
    prompts, answers = [prompt for prompt, _ in model.reference], [answer for _, answer in model.reference]
    return written(policy, prompts, answers, [False] * len(answers))
