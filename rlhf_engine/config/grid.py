"""A grid of runs: settings that take several values, written as for one run, and the seeds. Plain values, no torch.

`--set kl.target=2,4,8` is an axis of three values; `--set train.steps=40` holds for all. Commas within brackets or
quotes part nothing, and neither do those of a list as `--set` takes it for one run.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

from rlhf_engine.config import fields, presets
from rlhf_engine.config.kinds import algorithm_kinds
from rlhf_engine.config.migrations import renamed
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import ConfigError, first_few, short

SEED = "train.seed"
MOST_CELLS = 1000
"""Runs of one sweep."""
_MOST_NAME = 64  # characters of a run's name
_OPENING, _CLOSING, _QUOTES = "[{", "]}", "\"'"


@dataclass(frozen=True)
class Axis:
    """A setting with the values that it takes, as they are typed for one run."""

    path: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """What is held, what varies, and the seeds. fixed: "key=value", as `--set` takes them."""

    fixed: tuple[str, ...]
    axes: tuple[Axis, ...]
    seeds: tuple[int, ...]

    def points(self) -> list[tuple[tuple[str, str], ...]]:
        """Every combination of the axes' values, each as (path, value) in their order; the last axis turns fastest."""
        return [tuple(zip((axis.path for axis in self.axes), values, strict=True))
                for values in product(*(axis.values for axis in self.axes))]

    def notes(self) -> list[str]:
        """A sentence for each setting that not all methods of the grid have."""
        kinds = next((axis.values for axis in self.axes if axis.path == fields.METHOD), ())
        found = []
        for text in self.fixed:
            has = [kind for kind in kinds if _name_in_method(text) in (_names_of(kind) or ())]
            if kinds and len(has) < len(kinds):
                found.append(f"--set {text}: holds for {', '.join(has)} alone, for no other method of the grid has it")
        return found

    def cells(self, sweep: str) -> list[Cell]:
        """Every run, named after the sweep, its values and its seed."""
        points = self.points()
        names = _names(sweep, points, self.seeds)
        return [Cell(names[at, seed], point, seed) for at, point in enumerate(points) for seed in self.seeds]


@dataclass(frozen=True)
class Cell:
    """One run of a sweep: its name, the values of the axes, the seed."""

    run: str
    values: tuple[tuple[str, str], ...]
    seed: int

    def overrides(self, fixed: Sequence[str]) -> list[str]:
        """What `--set` takes to make it. Of what holds for all, settings of methods hold for those that have them."""
        known = _names_of(dict(self.values).get(fields.METHOD))
        mine = [text for text in fixed if known is None or _name_in_method(text) in known]
        return [*mine, *(f"{path}={value}" for path, value in self.values), f"{SEED}={self.seed}"]

    @property
    def label(self) -> str:
        """The values in words: "method grpo, KL target 4"."""
        return label_of(self.values)


def label_of(values: Iterable[tuple[str, str]]) -> str:
    """Values of axes in words; empty for none."""
    return ", ".join(f"{_title(path)} {_shown(value)}" for path, value in values)


def grid_of(config: RunConfig, settings: Sequence[str], seeds: str) -> Grid:
    """The grid that "key=value,value" and `seeds` ("3" for three of them, or "0,7,9") make of a preset.

    Raises ConfigError, one sentence a mistake.
    """
    problems: list[str] = []
    fixed: list[str] = []
    axes: list[Axis] = []
    kinds = [kind for kind in _kinds_named(settings) if kind in algorithm_kinds()]
    first = config.train.seed
    for setting in settings:
        path, equals, text = setting.partition("=")
        path = renamed(path.strip())
        try:
            if not equals:
                raise ConfigError(f"{short(setting)}: is not of the form key=value")
            known = _setting(config, path, kinds)
            values = _values(known, path, text)
            if path == SEED and len(values) > 1:
                raise ConfigError(f"{SEED}: several seeds are --seeds {text.strip()}")
            if path == SEED:
                first = fields.parse(known, text)
            elif len(values) > 1:
                axes.append(Axis(path, tuple(values)))
            else:
                fixed.append(f"{path}={values[0]}")
        except ConfigError as error:
            problems += [f"--set {problem}" for problem in error.problems]
    paths = Counter([axis.path for axis in axes] + [text.partition("=")[0] for text in fixed])
    problems += [f"--set {path}: is given twice" for path, count in paths.items() if count > 1]
    if problems:
        raise ConfigError(first_few(problems))
    grid = Grid(tuple(fixed), tuple(axes), _seeds(seeds, first))
    count = len(grid.points()) * len(grid.seeds)
    if count > MOST_CELLS:
        raise ConfigError(f"--set: the grid has {count:,} runs, where at most {MOST_CELLS:,} are allowed")
    return grid


def split_values(text: str) -> list[str]:
    """The values between commas; those within brackets or quotes part nothing. Raises ConfigError where a bracket or
    quote is not closed."""
    found, begin, depth, quote = [], 0, 0, ""
    for at, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in _QUOTES and (depth or not text[begin:at].strip()):  # within a word it is an apostrophe
            quote = character
        elif character in _OPENING:
            depth += 1
        elif character in _CLOSING:
            depth -= 1
        elif character == "," and not depth:
            found.append(text[begin:at].strip())
            begin = at + 1
    if quote or depth:
        what = f"the quote {quote}" if quote else "a bracket"
        raise ConfigError(f"{short(text)}: {what} is not closed, or not opened")
    return [*found, text[begin:].strip()]


def validated(
    preset: RunConfig, grid: Grid, cells: Sequence[Cell], finish: Callable[[RunConfig], RunConfig] = lambda made: made
) -> list[RunConfig]:
    """The settings of every cell, as `finish` makes them of those that were checked. Raises ConfigError with a sentence
    for each mistake, and the cells that have it."""
    configs: list[RunConfig] = []
    told: dict[str, list[Cell]] = {}
    for cell in cells:
        try:
            config = fields.replace(preset, presets.parse_overrides(preset, cell.overrides(grid.fixed)))
            if unused := [path for path, _ in cell.values if not _is_read(config, path)]:
                raise ConfigError([f"--set {path}: {config.algorithm.title} does not read this setting, so that its "
                                   "runs would all be the same" for path in unused])
            configs.append(finish(config))
        except ConfigError as error:
            for problem in error.problems:
                told.setdefault(problem, []).append(cell)
    if told:
        raise ConfigError(first_few([_with_cells(problem, bad, cells) for problem, bad in told.items()]))
    return configs


def yardstick(preset: RunConfig, fixed: Sequence[str]) -> RunConfig:
    """Prompts, sampling and rewards by which all cells are measured: those of the preset and of what holds for all,
    whatever an axis changes. Raises ConfigError."""
    of_all = [text for text in fixed if text.startswith(("data.", "sampling.", "rewards.", "probe."))]
    return fields.replace(preset, presets.parse_overrides(preset, of_all))


def default_name(preset: str, axes: Sequence[str]) -> str:
    """What a sweep is called if nobody names it, the same for the same command: the preset, and what varies."""
    words = [re.sub(r"[^A-Za-z0-9._]+", "_", Path(preset).stem).strip("_.") or "sweep", *map(_leaf, axes)]
    return "-".join(words)[:40].rstrip("-.") if len(words) > 1 else f"{words[0]}-seeds"


# ---------------------------------------------------------------------------------------------------------------------


def _kinds_named(settings: Sequence[str]) -> list[str]:
    return [kind.strip() for setting in settings for path, _, text in [setting.partition("=")]
            if path.strip() == fields.METHOD for kind in text.split(",")]


def _setting(config: RunConfig, path: str, kinds: Sequence[str]) -> fields.Setting:
    """The setting at `path`, of a method in the grid. Raises ConfigError where there is none."""
    for kind in kinds[:-1]:
        try:
            return fields.setting_at(config, path, kind)
        except ConfigError:
            continue
    return fields.setting_at(config, path, kinds[-1] if kinds else None)


def _names_of(kind: str | None) -> set[str] | None:
    """The settings of a method, and "" for what is none of any; None where there is no such method."""
    model = algorithm_kinds().get(kind or "")
    return None if model is None else {"", *model.model_fields}


def _name_in_method(text: str) -> str:
    """Of "algorithm.name=value" the name; "" of another setting."""
    section, _, name = text.partition("=")[0].partition(".")
    return name if section == "algorithm" else ""


def _values(setting: fields.Setting, path: str, text: str) -> list[str]:
    try:
        values = split_values(text)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    if len(values) == 1:
        quoted = setting.kind == "text" and "," in text
        return [_unquoted(values[0]) if quoted else values[0]]
    if setting.kind == "list":
        bracketed = [value.startswith("[") for value in values]
        if not any(bracketed):  # one list, as for one run
            return [text.strip()]
        if not all(bracketed):
            raise ConfigError(f"{path}: several lists are written with brackets, each of them: [a, b],[c]")
    if "" in values:
        raise ConfigError(f"{path}: {short(text)} has an empty value between its commas")
    values = [_unquoted(value) for value in values]
    parsed = [repr(fields.parse(setting, value)) for value in values]
    if twice := [value for at, value in enumerate(values) if parsed[at] in parsed[:at]]:
        raise ConfigError(f"{path}: {twice[0]} stands there twice")
    return values


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] in _QUOTES and value[-1] == value[0] else value


def _seeds(text: str, first: int) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > 1 and not parts[-1]:
        parts.pop()  # "7," is a list of one
    if not all(part.isascii() and part.isdigit() and len(part) < 19 for part in parts):
        raise ConfigError(f"--seeds: {short(repr(text))} is neither how many seeds, nor a list of them such as 0,7,9")
    if "," in text:
        seeds = tuple(map(int, parts))
        if len({*seeds}) < len(seeds):
            raise ConfigError(f"--seeds: a seed of {text} stands there twice")
        return seeds
    if not 1 <= int(text) <= MOST_CELLS:
        raise ConfigError(f"--seeds: {text.strip()} is not a number of seeds from 1 to {MOST_CELLS}; a list of one is "
                          f"written {text.strip()},")
    return tuple(range(first, first + int(text)))


def _is_read(config: RunConfig, path: str) -> bool:
    return path == fields.METHOD or config.algorithm.uses(path)


def _with_cells(problem: str, bad: Sequence[Cell], cells: Sequence[Cell]) -> str:
    points = list(dict.fromkeys(cell.label for cell in bad))
    if len(bad) == len(cells) or not points[0]:
        return problem
    more = f" and {len(points) - 2} more" if len(points) > 2 else ""
    return f"{problem} (with {'; '.join(points[:2])}{more})"


@cache
def _title(path: str) -> str:
    """What people call a setting; of one of a reward its whole path, for there may be several."""
    known = {item.path: item.label or item.name for _, item in fields.catalogue()}
    return known.get(path, path)


def _leaf(path: str) -> str:
    return path.rpartition(".")[2]


def _shown(value: str) -> str:
    return Path(value).name if "/" in value else value


def _names(sweep: str, points: Sequence[tuple[tuple[str, str], ...]], seeds: Sequence[int]) -> dict[
        tuple[int, int], str]:
    """A name for each point and seed: the sweep's, then what differs, where there is room."""
    found: dict[tuple[int, int], str] = {}
    for seed in seeds:
        for at, point in enumerate(points):
            found[at, seed] = "-".join([sweep, *(_slug(path, value) for path, value in point), f"s{seed}"])
    counted = Counter(found.values())
    if all(len(name) <= _MOST_NAME for name in found.values()) and max(counted.values()) == 1:
        return found
    ends = {(at, seed): f"-{at + 1:0{len(str(len(points)))}d}-s{seed}" for at, seed in found}
    return {place: sweep[:_MOST_NAME - len(end)] + end for place, end in ends.items()}


def _slug(path: str, value: str) -> str:
    """A value as part of a name: a word alone, a number with its setting."""
    text = re.sub(r"[^A-Za-z0-9._]+", "_", _shown(value)).strip("_")
    is_word = text[:1].isalpha() and text not in ("true", "false", "none", "yes", "no", "on", "off")
    return text if is_word else f"{_leaf(path)}{text}"
