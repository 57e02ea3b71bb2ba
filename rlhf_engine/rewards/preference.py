"""A reward that a reward model gives, on the base that the run has in memory already, if it is the same one.

A score is (raw − center) / scale: 0 is what the reference's answers score on the mean, 1 their standard deviation.
Several members are made one number of by their mean, their lowest, or their mean less λ times their standard deviation
(Coste et al. 2024, "Reward model ensembles help mitigate overoptimization").
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from rlhf_engine.config.methods.base import Needs
from rlhf_engine.config.preference import PreferenceRewardConfig
from rlhf_engine.config.sections import LoraConfig, ModelConfig
from rlhf_engine.errors import ConfigError, ModelError, PromptError, RewardError, RlhfError
from rlhf_engine.events import Span
from rlhf_engine.models.memory import MicroBatchLimit
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.response_scores import Reader, added_by_token, at_last_token, read_responses
from rlhf_engine.models.rollout import Rollout, unpadded
from rlhf_engine.models.token_texts import token_texts
from rlhf_engine.models.written import written
from rlhf_engine.rewards.base import Learnt, Score
from rlhf_engine.rewards.refit import refit, version_of
from rlhf_engine.rewards.trained_model import judgements_in, load_trained_model
from rlhf_engine.runs.reward_version_files import add_version
from rlhf_engine.runs.reward_versions import judgements_of, number_of
from rlhf_engine.system.streams import log
from rlhf_engine.words import word_places

_AT_ONCE = 64  # responses in a pass; fewer where memory runs out
_SHOWN = 3  # words that moved the score most, each way
_LEAST = 0.05  # of a standard deviation that a word must move it by to be shown


class PreferenceReward:
    """See `rlhf_engine.rewards.base.Reward`, `UsesPolicy`, `LearnsOn` and `TellsOdds`."""

    def __init__(self, config: PreferenceRewardConfig) -> None:
        """Raises ConfigError where there is no such reward model. Its base is loaded when something is scored and no
        policy was offered that has it in memory."""
        self.name, self._config = config.name, config
        self._model = load_trained_model(config)
        self._policy: Policy | None = None
        self._readers: list[Reader] = []
        self._limit = MicroBatchLimit(_AT_ONCE, log)
        self._seen: tuple[int, ...] | None = ()  # of the label file when it was looked at last

    def use_policy(self, policy: Policy) -> None:
        """Read on the base of `policy` from now on, if it is the one that the reward model was trained on."""
        same = policy.fingerprint is not None and policy.fingerprint.hex == self._model.fingerprint
        if same and policy is not self._policy and policy.texts.template == self._model.template:
            self._take(policy)

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> list[Score | None]:
        """One Score each. Raises RewardError for what its model cannot read."""
        if not responses:
            return []
        policy = self._on_a_base()
        try:
            rollout = written(policy, prompts, responses, [False] * len(responses))
        except PromptError as error:
            raise RewardError(f"Reward {self.name!r}: {error}") from error
        self._require_room(policy, rollout)
        values = read_responses(policy, self._readers, rollout, self._limit)
        model, mask = self._model, rollout.response_mask.cpu()
        center, scale = (torch.tensor(each).view(-1, 1, 1) for each in (model.center, model.scale))
        values = (values - center) / scale
        scores = torch.stack([at_last_token(each, mask) for each in values])
        spans = _spans(policy, rollout, added_by_token(values.mean(dim=0), mask, model.reads))
        return [self._score(scores[:, row].tolist(), spans[row]) for row in range(len(responses))]

    @property
    def log_odds_per_unit(self) -> float:
        """See `TellsOdds`: raw scores are log-odds, and a unit is so many of them; of several members, their mean."""
        return fmean(self._model.scale)

    def learn_on(self, folder: Path, step: int, progress: Callable[[float], None]) -> Learnt | None:
        """Learn on when refit_every new judgements stand in labels. See `LearnsOn`."""
        config = self._config
        if config.refit_every is None or config.labels is None or (now := _stamp(config.labels)) == self._seen:
            return None
        self._seen = now  # nor again, where nothing comes of it, before there are others
        before, tried = self._learnt_judgements(config), 0
        try:
            if config.refused is not None and config.version_folder is not None:
                tried = judgements_of(Path(config.version_folder), config.refused)
            there = judgements_in(Path(config.labels))
            if there - max(before, tried) < config.refit_every:
                return None
            number = 1 + max((number_of(each) for each in (config.version, config.refused) if each), default=0)
            policy = self._on_a_base()
            done = refit(policy, self._model, config, judgements=there, version=number, progress=progress)
            version = add_version(folder, version_of(done, config, step, policy))
        except RlhfError as error:
            raise ConfigError(f"the reward {self.name!r} does not learn on and stays as it is: {error}") from error
        number, kept = number_of(version), {"version_folder": str(folder.absolute())}
        told, learnt = f"{self.name}: version {number}", f"learnt from {there} judgements ({before} before)"
        if done.check.worse:
            return Learnt({"refused": version} | kept, f"{told} is worse and does not reward, what rewarded so far "
                          f"does; {learnt}; {done.check.text}", "warning")
        return Learnt({"version": version} | kept, f"{told} rewards from step {step} on; {learnt}; {done.check.text}")

    def _learnt_judgements(self, config: PreferenceRewardConfig) -> int:
        learnt = self._model.learnt if config.version is not None else None
        return learnt.judgements if learnt else config.judgements or 0

    # -----------------------------------------------------------------------------------------------------------------

    def _score(self, members: list[float], spans: tuple[Span, ...]) -> Score:
        """Of one response. Parts add up to the total."""
        if len(members) == 1:
            return Score(members[0], {}, spans)
        each = torch.tensor(members, dtype=torch.float64)
        deviation = float(each.std(correction=0))
        facts = {"deviation": deviation}
        if self._config.aggregate == "min":
            at = int(each.argmin())
            return Score(members[at], {f"member_{at + 1}": members[at]}, spans, facts)
        parts = {f"member_{at}": value / len(members) for at, value in enumerate(members, 1)}
        if self._config.aggregate == "mean_minus_deviation":
            parts["deviation"] = -self._config.deviation_factor * deviation
        return Score(sum(parts.values()), parts, spans, facts)

    def _on_a_base(self) -> Policy:
        if self._policy is None:
            log(f"the reward {self.name!r} loads {self._model.base.name}, for no model in memory is the one that it "
                "was trained on")
            try:
                self._take(_own_base(self._model.base.model_dump_json(), self._model.template))
            except ModelError as error:
                raise RewardError(f"Reward {self.name!r}: its base model does not load: {error}") from error
            found = self._policy.fingerprint if self._policy else None
            if self._model.fingerprint and found and found.hex != self._model.fingerprint:
                self._policy = None
                raise RewardError(f"Reward {self.name!r}: {self._model.base.name} is another model now than the one "
                                  "that it was trained on")
        assert self._policy is not None
        return self._policy

    def _take(self, policy: Policy) -> None:
        try:
            for member in self._model.members:
                member.require_fit(policy)
        except ModelError as error:
            raise ConfigError(f"the reward {self.name!r}: {error}") from error
        members = [member.to(policy.device) for member in self._model.members]
        self._readers = [Reader(partial(member.on, policy), member.read, self._model.reads) for member in members]
        self._policy = policy

    def _require_room(self, policy: Policy, rollout: Rollout) -> None:
        lengths = rollout.prompt_mask.sum(dim=1) + rollout.response_mask.sum(dim=1)
        longest = int(lengths.max())
        if policy.max_positions and longest > policy.max_positions:
            at = int(lengths.argmax())
            raise RewardError(f"Reward {self.name!r}: a prompt with its response has {longest} tokens, and the context "
                              f"of its model holds {policy.max_positions}: {rollout.responses[at][:40]!r}…")


def _stamp(file: str) -> tuple[int, ...] | None:
    """What tells a file from what it was before somebody wrote to it; None where there is none."""
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


@lru_cache(maxsize=1)
def _own_base(model: str, template: tuple[bool, str | None]) -> Policy:
    """A base in memory for reward models alone; kept, for live edits of a preset make rewards anew."""
    policy = Policy.load(ModelConfig.model_validate_json(model), LoraConfig(), Needs(adapters=()), seed=0)
    if template[0]:
        policy.texts.use_chat_template(template[1])
    return policy


def _spans(policy: Policy, rollout: Rollout, added_by: Tensor) -> list[tuple[Span, ...]]:
    """The words of each response that moved its score most. added_by: what each token adds, [batch, time]."""
    added = added_by.tolist()
    lengths = rollout.response_mask.sum(dim=1).tolist()
    prompts, ids = unpadded(rollout.prompt_ids, rollout.prompt_mask), rollout.response_ids.tolist()
    found = []
    for row, response in enumerate(rollout.responses):
        decode = policy.texts.decoder_after(prompts[row])
        own = ids[row][:lengths[row]]
        text = decode(own)
        texts = token_texts(own, text, decode) if text == response else ()
        found.append(_moving(response, texts, added[row]))
    return found


def _moving(response: str, texts: Sequence[str], added: Sequence[float]) -> tuple[Span, ...]:
    """Words with the sum of what their tokens add; a token belongs to the word in which its last letter stands."""
    words, moved = word_places(response), dict[int, float]()
    at, end = 0, 0
    for text, value in zip(texts, added, strict=False):
        end += len(text)
        last = end - 1
        while at < len(words) and words[at][1] <= last:
            at += 1
        if text and at < len(words) and words[at][0] <= last:
            moved[at] = moved.get(at, 0.0) + value
    ranked = sorted(moved, key=lambda word: moved[word])
    shown = {word: "penalized" for word in ranked[:_SHOWN] if moved[word] < -_LEAST}
    shown |= {word: "rewarded" for word in ranked[-_SHOWN:] if moved[word] > _LEAST}
    return tuple(Span(*words[word], shown[word]) for word in sorted(shown))


