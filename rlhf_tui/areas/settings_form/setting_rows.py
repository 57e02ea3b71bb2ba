"""What the hyperparameter form shows: which settings, in which order, under which short names. Pure functions.

Word lists and prompts are left out, they have panes of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rlhf_engine.config.fields import METHOD, Setting, parse, replace, settings
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import ConfigError
from rlhf_engine.runs.run_settings import KEPT

LABEL_WIDTH = 20
LOCKED_REASON = "fixed during a run; stop it (F5) to change this for the next one"
# of a run that is driven elsewhere, or by nobody: F5 does nothing to it
VIEWED_REASON = "viewing only: t takes the run over, then this can be changed"
VIEWED_LOCKED_REASON = "fixed during a run; another run can have another value"

_TITLES = {
    "kl": "KL penalty", "optimizer": "Optimizer", "sampling": "Sampling", "train": "Run",
    "sentinel": "Alarms", "lora": "LoRA adapters", "model": "Model", "": "Preset",
}  # fmt: skip
_SECTION_ORDER = ("kl", "algorithm", "optimizer", "sampling", "train", "rewards", "sentinel", "lora", "model", "")


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
    method = config.algorithm
    shown = [item for item in settings(config) if method.uses(item.path) and not _has_own_pane(item)]
    basic = (*method.basic_settings, METHOD)
    main = [Row(item, "Main", label(config, item)) for path in basic for item in shown if item.path == path]
    rest = [Row(item, _group(config, item), label(config, item)) for item in shown if item.path not in basic]
    return main + sorted(rest, key=lambda row: _SECTION_ORDER.index(_family(row.setting)))


def reward_rows(config: RunConfig) -> list[Row]:
    """The rows of all rewards, one reward after the other, without those that have a pane of their own."""
    return [Row(item, f"{_group(config, item)} · {config.rewards[reward_index(item.path)].kind}", label(config, item))
            for item in settings(config) if item.path.startswith("rewards.") and not _has_own_pane(item)]


def fork_rows(config: RunConfig) -> list[Row]:
    """The rows of what a fork may change: those of the form, and the word lists, elsewhere in a pane of their own. Its
    method is chosen beside them."""
    words = [Row(item, _group(config, item), label(config, item)) for item in settings(config)
             if _has_own_pane(item) and not item.path.startswith("data.")]
    rows = [row for row in form_rows(config) if row.path not in (*KEPT, METHOD)]
    groups = list(dict.fromkeys(row.group for row in (*rows, *words)))
    return sorted([*rows, *words], key=lambda row: groups.index(row.group))


def reward_index(path: str) -> int:
    """The position of the reward to which a setting belongs."""
    return int(path.split(".")[1])


def label(config: RunConfig, setting: Setting) -> str:
    """A name of at most LABEL_WIDTH columns, as the method of the run calls it."""
    short = config.algorithm.labels.get(setting.path) or setting.label or setting.name.replace("_", " ")
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
    is_words = setting.path.startswith("rewards.") and setting.name in ("liked", "disliked")
    return setting.path == "data.prompts" or is_words


def _family(setting: Setting) -> str:
    family = setting.section.partition(".")[0]
    return family if family in _SECTION_ORDER else "train"


def _group(config: RunConfig, setting: Setting) -> str:
    if setting.path.startswith("rewards."):
        return f"Reward “{config.rewards[reward_index(setting.path)].name}”"
    if setting.section == "algorithm":
        return config.algorithm.title
    return _TITLES.get(setting.section, setting.section.capitalize())


def _sentence(setting: Setting, error: ConfigError) -> str:
    """The first problem: about this very value, say what is allowed; about several fields, say what does not fit."""
    problem = error.problems[0]
    if problem.startswith(f"{setting.path}: "):
        return setting.allowed
    return without_place(problem)
