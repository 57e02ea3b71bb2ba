"""The rows that a run learns from, and those that it never sees but answers to show what it has learnt."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlhf_engine.config.data import DataConfig
from rlhf_engine.config.methods.base import BatchKind
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.batch import Batch, PairBatch, PromptBatch, TextBatch
from rlhf_engine.data.labelled_pairs import TIE, learned_pairs
from rlhf_engine.data.tables import Table, read_table
from rlhf_engine.errors import ConfigError, short
from rlhf_engine.files.toml_text import MOST_CHARACTERS


@dataclass(frozen=True)
class Rows:
    """Rows of one kind. texts: the columns that the kind is made of, by the names that batches give them ("prompts",
    "responses", "chosen", "rejected"); columns: the others. All are as long as each other."""

    kind: BatchKind
    texts: Mapping[str, list[str]]
    columns: Mapping[str, list[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def prompts(self) -> list[str]:
        """Of each row; empty where it is a whole text."""
        return self.texts["prompts"]

    @property
    def example(self) -> str:
        """The first row as one text that a model can read: its prompt, or the text itself where it has none."""
        return self.prompts[0] or next((column[0] for column in self.texts.values() if column[0]), "")

    @property
    def askable(self) -> list[str]:
        """What can be asked of a model that answers: the prompts, without those of whole texts, which have none."""
        return self.prompts if self.kind == "prompts" else [prompt for prompt in self.prompts if prompt]

    def columns_of(self, prompts: Sequence[str]) -> dict[str, list[Any]] | None:
        """The columns of the first row with each prompt, and None for a prompt that is no row; None where no prompt is
        one, or there are no columns."""
        wanted = set(prompts)
        first: dict[str, int] = {}
        for at, prompt in enumerate(self.prompts if self.columns else ()):
            if prompt in wanted:
                first.setdefault(prompt, at)
        return {name: [column[first[prompt]] if prompt in first else None for prompt in prompts]
                for name, column in self.columns.items()} if first else None

    def take(self, places: Iterable[int]) -> Rows:
        """The rows at these places, in this order."""
        places = list(places)
        return Rows(self.kind, {name: [column[at] for at in places] for name, column in self.texts.items()},
                    {name: [column[at] for at in places] for name, column in self.columns.items()})

    def batch(self, places: Iterable[int]) -> Batch:
        """The rows at these places as a method takes them."""
        taken = self.take(places)
        match self.kind:
            case "prompts":
                return PromptBatch(taken.prompts, taken.columns)
            case "texts":
                return TextBatch(taken.prompts, taken.texts["responses"], taken.columns)
            case "pairs":
                return PairBatch(taken.prompts, taken.texts["chosen"], taken.texts["rejected"], taken.columns)


@dataclass(frozen=True)
class RunData:
    """What a run learns from, and what is held out of it: as prompts to answer, and as rows of the kind that is learned
    from, for what a method may measure on them. sha256, commit: of a source, see `Table`; None for lists. notice: one
    sentence about rows of the source that nothing can be learned from; empty if there are none."""

    train: Rows
    held_out: Rows
    held_out_rows: Rows
    sha256: str | None = None
    commit: str | None = None
    notice: str = ""


@dataclass(frozen=True)
class AllRows:
    """All rows that a config names, in their order. keys: what they are told apart by, one each: their prompts, or the
    texts themselves where these have none. by_share: the keys that `data.held_out_share` holds out. sha256, commit,
    notice: see `RunData`."""

    rows: Rows
    keys: Sequence[str]
    by_share: frozenset[str]
    sha256: str | None = None
    commit: str | None = None
    notice: str = ""


def read_rows(config: RunConfig) -> AllRows:
    """All rows that `config` names, those that are held out among them. Raises ConfigError, one sentence a mistake."""
    data, kind = config.data, config.algorithm.needs.batch
    table: Table | None = None
    notice = ""
    if data.source is None:
        rows = _listed(data, kind)
    else:
        table = read_table(data, data.prompt_column if kind == "prompts" else data.text_column)
        if kind == "pairs":
            table, notice = learned_pairs(table, data.source, ties=config.algorithm.learns_ties)
        rows = _rows_of(table, data, kind)
    keys, listed = _keys(rows), set(data.held_out)
    by_share = held_out_by_share((key for key in keys if key not in listed), data.held_out_share)
    return AllRows(rows, keys, frozenset(by_share), *((table.sha256, table.commit, notice) if table else ()))


def load_data(config: RunConfig) -> RunData:
    """What a run of `config` learns from. Raises ConfigError, one sentence a mistake.

    Held out are the prompts of `data.held_out`, and `data.held_out_share` of the others: those whose texts have the
    smallest digests, so that neither seed nor order nor rows that are added change much of it, and rows with equal
    prompts stay together. None of them is left among the rows to learn from.
    """
    found, listed = read_rows(config), set(config.data.held_out)
    rows, keys, chosen = found.rows, found.keys, found.by_share
    out = [at for at, key in enumerate(keys) if key in chosen]
    left = [at for at, key in enumerate(keys) if key not in chosen and key not in listed]
    if not left:
        raise ConfigError("data.held_out: every row is held out, which leaves none to learn from")
    train = rows.take(left) if len(left) < len(rows) else rows
    apart = rows.take(at for at, key in enumerate(keys) if key in chosen or key in listed)
    return RunData(train, _held_out(rows, keys, config.data, out), apart, found.sha256, found.commit, found.notice)


def held_out_by_share(keys: Iterable[str], share: float) -> set[str]:
    """Those of `keys` that a `data.held_out_share` holds out: see `load_data`."""
    if not share:
        return set()
    different = sorted(set(keys), key=lambda key: (hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest(), key))
    return set(different[:max(1, round(share * len(different)))])


def prompts_to_ask(config: RunConfig) -> list[str]:
    """What the models of a run can be asked: the prompts that it learns from, or else those that it holds out or probes
    with. Empty where it has none. Raises ConfigError for data that cannot be read."""
    if config.data.source is None and config.data.prompts:
        return config.data.prompts
    data = load_data(config)
    probed = [config.probe.prompt] if config.probe.prompt else []
    return data.train.askable or data.held_out.prompts or probed


# ---------------------------------------------------------------------------------------------------------------------


def _listed(data: DataConfig, kind: BatchKind) -> Rows:
    match kind:
        case "prompts":
            return Rows(kind, {"prompts": data.prompts})
        case "texts":
            return Rows(kind, {"prompts": [""] * len(data.texts), "responses": data.texts})
        case "pairs":
            return Rows(kind, {"prompts": data.prompts, "chosen": data.chosen, "rejected": data.rejected})


def _rows_of(table: Table, data: DataConfig, kind: BatchKind) -> Rows:
    named = {"prompts": {"prompts": data.prompt_column},
             "pairs": {"prompts": data.prompt_column, "chosen": data.chosen_column, "rejected": data.rejected_column},
             "texts": {"prompts": data.prompt_column, "responses": data.response_column}}[kind]
    texts: dict[str, list[str]] = {}
    if kind == "texts" and data.response_column not in table.columns:
        named = {"responses": data.text_column}
        texts["prompts"] = [""] * len(table)
    texts |= {name: _texts(table, column, data.source, chat=data.chat_template and name == "prompts")
              for name, column in named.items()}
    others = [name for name in table.columns if name not in named.values()]
    if unknown := [name for name in data.columns if name not in table.columns]:
        raise ConfigError(f"data.columns: {_no_column(table, unknown[0], data.source)}")
    taken = data.columns or others
    if kind == "pairs" and TIE in others and TIE not in taken:
        taken = [*taken, TIE]  # which its method asks for, not a reward
    return Rows(kind, texts, {name: table.columns[name] for name in taken})


def _texts(table: Table, column: str, source: object, *, chat: bool) -> list[str]:
    """A column of texts; with `chat` also of lists of messages, which become the JSON that a chat template reads."""
    if column not in table.columns:
        raise ConfigError(f"data.source: {_no_column(table, column, source)}; data.prompt_column and its like say what "
                          "they are called")
    texts = []
    for place, value in enumerate(table.columns[column]):
        if chat and isinstance(value, list):
            value = json.dumps(value, ensure_ascii=False, default=repr)
        where = f"data.source: {table.where(source, place)}: the {column!r}"
        if isinstance(value, list):
            raise ConfigError(f"{where} is a list; chat messages become a text by a chat template: data.chat_template")
        if not isinstance(value, str):
            raise ConfigError(f"{where} is {short(repr(value), 40)}, and no text")
        if len(value) > MOST_CHARACTERS:
            raise ConfigError(f"{where} has {len(value):,} characters, where at most {MOST_CHARACTERS:,} are allowed")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ConfigError(f"{where} holds half a character (a lone surrogate)") from None
        texts.append(value)
    return texts


def _no_column(table: Table, column: str, source: object) -> str:
    return f"{source} has no column {short(repr(column))}, but {short(', '.join(table.columns), 200)}"


def _keys(rows: Rows) -> Sequence[str]:
    if rows.kind != "texts":
        return rows.prompts
    return [prompt or text for prompt, text in zip(rows.prompts, rows.texts["responses"], strict=True)]


def _held_out(rows: Rows, keys: Sequence[str], data: DataConfig, out: list[int]) -> Rows:
    """The listed prompts, with the columns of their rows if they are among the rows too, and then those of the share.
    """
    first = {key: at for at, key in reversed(list(enumerate(keys)))}
    listed = list(dict.fromkeys(data.held_out))
    out = [at for at in out if rows.kind != "texts" or rows.prompts[at]]  # a whole text asks nothing
    columns = {name: [column[first[prompt]] if prompt in first else None for prompt in listed]
               + [column[at] for at in out] for name, column in rows.columns.items()}
    return Rows("prompts", {"prompts": [*listed, *(rows.prompts[at] for at in out)]}, columns)
