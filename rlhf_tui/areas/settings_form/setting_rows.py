"""What the hyperparameter form shows: which settings, in which order, under which short names. Pure functions.

Word lists and prompts are left out, they have panes of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rlhf_engine.config.fields import Setting, parse, replace, settings
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import ConfigError
from rlhf_engine.runs.run_settings import KEPT

LABEL_WIDTH = 20
LOCKED_REASON = "fixed during a run; stop it (F5) to change this for the next one"
# of a run that is driven elsewhere, or by nobody: F5 does nothing to it
VIEWED_REASON = "viewing only: t takes the run over, then this can be changed"
VIEWED_LOCKED_REASON = "fixed during a run; another run can have another value"

_MAIN = (
    "optimizer.actor_lr", "optimizer.critic_lr", "kl.coef", "ppo.clip_range", "train.steps", "ppo.responses_per_step",
    "ppo.minibatch_size", "ppo.epochs", "sampling.temperature", "sampling.max_new_tokens",
)  # fmt: skip
_TITLES = {
    "kl": "KL penalty", "ppo": "PPO", "optimizer": "Optimizer", "sampling": "Sampling", "train": "Run",
    "sentinel": "Alarms", "lora": "LoRA adapters", "model": "Model", "": "Preset",
}  # fmt: skip
_SECTION_ORDER = ("kl", "ppo", "optimizer", "sampling", "train", "rewards", "sentinel", "lora", "model", "")

_LABELS = {
    "optimizer.actor_lr": "actor lr", "optimizer.critic_lr": "critic lr", "optimizer.adam_beta1": "Adam β1",
    "optimizer.adam_beta2": "Adam β2", "optimizer.adam_eps": "Adam ε", "optimizer.warmup_steps": "lr warm-up",
    "optimizer.decay": "lr decay", "optimizer.actor_max_grad_norm": "actor max grad norm",
    "optimizer.critic_max_grad_norm": "critic max grad norm",
    "kl.coef": "KL coef", "kl.controller": "KL controller", "kl.target": "KL target", "kl.horizon": "KL horizon",
    "ppo.level": "PPO level", "ppo.responses_per_step": "responses/step", "ppo.minibatch_size": "minibatch size",
    "ppo.epochs": "PPO epochs", "ppo.clip_range": "clip ε", "ppo.value_clip_range": "value clip ε",
    "ppo.discount": "discount γ", "ppo.trace_decay": "GAE λ", "ppo.whiten_advantages": "whiten advantages",
    "ppo.score_normalization": "score normalization", "ppo.target_kl": "target KL",
    "ppo.importance_sampling_cap": "IS ratio cap",
    "sampling.max_new_tokens": "max new tokens", "sampling.allow_truncation": "allow top-k/top-p",
    "train.micro_batch_size": "micro-batch size", "train.critic_warmup_steps": "critic warm-up",
    "train.checkpoint_every": "checkpoint every", "train.keep_checkpoints": "keep checkpoints",
    "train.checkpoint_budget_mb": "checkpoint budget", "train.samples_per_step": "samples/step",
    "train.max_nonfinite_steps": "max nonfinite steps", "train.rollback_factor": "rollback lr factor",
    "train.max_rollbacks": "max rollbacks",
    "sentinel.enabled": "alarms", "sentinel.window": "alarm window", "sentinel.kl_factor": "max KL / target",
    "sentinel.ref_logprob_drop": "ref. log-prob drop", "sentinel.critic_patience": "critic patience",
    "sentinel.clip_share": "max clip fraction", "sentinel.truncated_share": "max truncated",
    "lora.rank": "LoRA rank", "lora.alpha": "LoRA α", "lora.dropout": "LoRA dropout", "lora.target_modules": "modules",
    "model.name": "model",
}  # fmt: skip
_REWARD_LABELS = {
    "liked_bonus": "bonus per liked word", "disliked_penalty": "penalty per disliked",
    "distinct_bonus": "distinct bonus",
    "short_penalty": "penalty if shorter", "short_words": "short: max words", "excess_penalty": "excess penalty",
    "excess_min": "excess above", "excess_share": "max density", "repeat_penalty": "repeat penalty",
    "repeat_limit": "free repeats", "adjacent_penalty": "adjacent penalty", "penalty_per_word": "penalty per word",
    "max_penalty": "max penalty",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One setting of the form. searched: what a search looks into, in small letters."""

    setting: Setting
    group: str
    label: str
    searched: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        words = (self.label, self.path, self.group, self.setting.help, self.setting.unit, *self.setting.choices)
        object.__setattr__(self, "searched", " ".join(words).lower())

    @property
    def path(self) -> str:
        """The dotted path of the setting."""
        return self.setting.path


def form_rows(config: RunConfig) -> list[Row]:
    """The rows of the form: the ones most turned first, then section by section."""
    shown = [item for item in settings(config) if not _has_own_pane(item)]
    main = [Row(item, "Main", label(item)) for path in _MAIN for item in shown if item.path == path]
    rest = [Row(item, _group(config, item), label(item)) for item in shown if item.path not in _MAIN]
    return main + sorted(rest, key=lambda row: _SECTION_ORDER.index(_family(row.setting)))


def reward_rows(config: RunConfig) -> list[Row]:
    """The rows of all rewards, one reward after the other, without those that have a pane of their own."""
    return [Row(item, f"{_group(config, item)} · {config.rewards[reward_index(item.path)].kind}", label(item))
            for item in settings(config) if item.path.startswith("rewards.") and not _has_own_pane(item)]


def fork_rows(config: RunConfig) -> list[Row]:
    """The rows of what a fork may change: those of the form, and the word lists, elsewhere in a pane of their own."""
    words = [Row(item, _group(config, item), label(item)) for item in settings(config)
             if _has_own_pane(item) and item.path != "prompts"]
    rows = [row for row in form_rows(config) if row.path not in KEPT]
    groups = list(dict.fromkeys(row.group for row in (*rows, *words)))
    return sorted([*rows, *words], key=lambda row: groups.index(row.group))


def reward_index(path: str) -> int:
    """The position of the reward to which a setting belongs."""
    return int(path.split(".")[1])


def same_rewards(before: RunConfig, after: RunConfig) -> bool:
    """True when a path like `rewards.1.weight` means the same reward in both."""
    names = [[(reward.kind, reward.name) for reward in config.rewards] for config in (before, after)]
    return names[0] == names[1]


def label(setting: Setting) -> str:
    """A name of at most LABEL_WIDTH columns."""
    short = _LABELS.get(setting.path)
    if short is None and setting.path.startswith("rewards."):
        short = _REWARD_LABELS.get(setting.name)
    short = short or setting.name.replace("_", " ")
    return short if len(short) <= LABEL_WIDTH else short[: LABEL_WIDTH - 1] + "…"


def read(config: RunConfig, setting: Setting, text: str) -> tuple[RunConfig | None, Any, str]:
    """What `text` typed into `setting` means: (new config, value, "") or (None, None, what is wrong and allowed)."""
    try:
        value = parse(setting, text)
    except ConfigError:
        return None, None, setting.allowed
    try:
        return replace(config, {setting.path: value}), value, ""
    except ConfigError as error:
        return None, None, _sentence(setting, error)


def without_place(problem: str) -> str:
    """A problem of the config without the path in front of it, for where it is shown at that very place."""
    place, _, sentence = problem.partition(": ")
    return sentence if sentence and " " not in place else problem


# ---------------------------------------------------------------------------------------------------------------------


def _has_own_pane(setting: Setting) -> bool:
    return setting.path == "prompts" or (setting.path.startswith("rewards.") and setting.name in ("liked", "disliked"))


def _family(setting: Setting) -> str:
    family = setting.section.partition(".")[0]
    return family if family in _SECTION_ORDER else "train"


def _group(config: RunConfig, setting: Setting) -> str:
    if setting.path.startswith("rewards."):
        return f"Reward “{config.rewards[reward_index(setting.path)].name}”"
    return _TITLES.get(setting.section, setting.section.capitalize())


def _sentence(setting: Setting, error: ConfigError) -> str:
    """The first problem: about this very value, say what is allowed; about several fields, say what does not fit."""
    problem = error.problems[0]
    if problem.startswith(f"{setting.path}: "):
        return setting.allowed
    return without_place(problem)
