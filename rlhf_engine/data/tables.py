"""Rows of files and datasets: columns by name, and the SHA-256 that tells whether they are what they were.

A file is read once, within bounds, and its digest is that of the very bytes that its rows come from. Parquet and the
folders and hub datasets of `datasets` need packages that come with the extra `data`; they are imported when asked for.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlhf_engine.config.data import DataConfig
from rlhf_engine.data.digests import digest_of_file, digest_of_folder
from rlhf_engine.errors import ConfigError, first_line, kind_and_message, short
from rlhf_engine.files.disk import os_error_reason
from rlhf_engine.files.reading import MOST_LINE, read_bytes
from rlhf_engine.system.streams import captured

MOST_ROWS = 200_000
MOST_BYTES = 256_000_000
"""Of a file."""
MOST_CHARACTERS = 512_000_000
"""Of all rows together, as JSON would write them."""

JUDGED = frozenset({"pair", "rater", "repeat", "verdict"})
"""Columns that tell a file of judgements (`labels.judgement`) from other files of pairs."""
_NEEDS = "pip install 'rlhf-tui[data]'"
_SUFFIXES = (".txt", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".gz")


@dataclass(frozen=True)
class Table:
    """columns: by name, one entry a row. sha256: of what they were read from. commit: of a hub dataset. lines: of a
    file of lines, the number of that on which each row stands."""

    columns: Mapping[str, list[Any]]
    sha256: str
    commit: str | None = None
    lines: Sequence[int] | None = None

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def take(self, places: Sequence[int]) -> Table:
        """The rows at these places, in this order."""
        columns = {name: [column[at] for at in places] for name, column in self.columns.items()}
        return replace(self, columns=columns, lines=self.lines and [self.lines[at] for at in places])

    def where(self, source: object, place: int) -> str:
        """Where the row at `place` stands, for a sentence."""
        return f"{source}:{self.lines[place]}" if self.lines else f"{source}, row {place + 1}"


def read_table(data: DataConfig, line_column: str) -> Table:
    """What `data.source` names. line_column: what the lines of a .txt file are called. Raises ConfigError, one
    sentence, for what cannot be had or is no table."""
    with _source_path(data) as path:
        if path.is_dir():
            return _folder(path, data.split)
        if not _only_on_hub(data, path):
            return _file(path, line_column)
    return _hub_dataset(data)


def only_on_hub(data: DataConfig) -> bool:
    """Whether what `data.source` names could only be had from the hub. Raises ConfigError where that cannot be told."""
    with _source_path(data) as path:
        return _only_on_hub(data, path)


def digest_of(data: DataConfig) -> str | None:
    """The SHA-256 of `data.source` as it is now; None where only reading all of it tells. Raises ConfigError."""
    with _source_path(data) as path:
        if path.is_dir():
            return digest_of_folder(path)
        if path.is_file() or not data.on_hub:
            return digest_of_file(path, MOST_BYTES)
    return None


def _only_on_hub(data: DataConfig, path: Path) -> bool:
    return data.on_hub and not path.is_dir() and not path.is_file() and path.suffix.lower() not in _SUFFIXES


@contextmanager
def _source_path(data: DataConfig) -> Iterator[Path]:
    """Where `data.source` lies, if it is no dataset of the hub; what goes wrong with reading it is a sentence."""
    assert data.source is not None
    path = Path(data.source)
    try:
        path = path.expanduser()
        yield path
    except (OSError, ValueError, RuntimeError) as error:  # a zero byte in a path; a home that is not known
        raise ConfigError(f"data.source: {short(repr(str(path)), 400)} could not be read: "
                          f"{os_error_reason(error, 'read')}") from None


# --- files ---


def _file(path: Path, line_column: str) -> Table:
    content = read_bytes(path, MOST_BYTES, follow=True)
    digest = hashlib.sha256(content).hexdigest()
    kind = path.suffix.lower()
    if kind == ".gz":
        content, kind = _unpacked(content, path), path.with_suffix("").suffix.lower()
    lines: list[int] = []
    match kind:
        case ".parquet":
            return Table(_parquet_columns([(path, content)], path), digest)
        case ".csv" | ".tsv":
            rows = _csv_rows(_text(content, path), path, "," if kind == ".csv" else "\t")
            return Table(_columns(rows, path), digest)
        case ".jsonl" | ".ndjson":
            found = _columns(_json_rows(_text(content, path), path, lines), path)
        case ".txt":
            found = _columns(_text_rows(_text(content, path), line_column, lines), path)
        case _:
            raise ConfigError(f"data.source: {path} is none of the files that rows are read from: "
                              f"{', '.join(_SUFFIXES)} (of one of the others)")
    return Table(found, digest, lines=lines)


def _unpacked(content: bytes, path: Path) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            found = file.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"data.source: {path} is no whole gzip file ({first_line(error)})") from None
    if len(found) > MOST_BYTES:
        raise ConfigError(f"data.source: {path} unpacks to more than {MOST_BYTES:,} bytes, the most that are taken")
    return found


def _text(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"data.source: {path}:{line}: is not UTF-8 text (byte {error.start} of the file)") from None


def _text_rows(text: str, column: str, lines: list[int]) -> Iterator[dict[str, Any]]:
    """lines: takes the number of the line of each row, as it comes."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            lines.append(number)
            yield {column: line.removesuffix("\r")}


def _json_rows(text: str, path: Path, lines: list[int]) -> Iterator[dict[str, Any]]:
    """lines: takes the number of the line of each row, as it comes."""
    row: Any = None
    all_lines = text.split("\n")
    for number, line in enumerate(all_lines, 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line, object_pairs_hook=_object)
        except ConfigError as error:
            raise ConfigError(f"data.source: {path}:{number}: {error}") from None
        except (ValueError, RecursionError):
            if number == len(all_lines) and row is not None and row.keys() >= JUDGED:
                return  # somebody judges just now, or a crash has torn their last line: it is no judgement yet
            raise ConfigError(f"data.source: {path}:{number}: is not JSON") from None
        if not isinstance(found, dict):
            what = "a JSON list, where each line is an object" if isinstance(found, list) else "no JSON object"
            raise ConfigError(f"data.source: {path}:{number}: is {what}, with a value for each column")
        row = found
        lines.append(number)
        yield row


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ConfigError(f"has {short(repr(next(name for name in names if names.count(name) > 1)))} twice")
    return found


def _csv_rows(text: str, path: Path, delimiter: str) -> Iterator[dict[str, Any]]:
    before = csv.field_size_limit(MOST_LINE)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        names: list[str] = next(reader, [])
        if len(set(names)) < len(names):
            raise ConfigError(f"data.source: {path}:1: two columns have the same name")
        for values in reader:
            if values and len(values) != len(names):
                raise ConfigError(f"data.source: {path}:{reader.line_num}: has {len(values)} values, where the first "
                                  f"line names {len(names)} columns")
            if values:
                yield dict(zip(names, values, strict=True))
    except csv.Error as error:
        raise ConfigError(f"data.source: {path}:{reader.line_num}: {first_line(error)}") from None
    finally:
        csv.field_size_limit(before)


def _columns(rows: Iterable[Mapping[str, Any]], path: object) -> dict[str, list[Any]]:
    """Rows as columns; a row that lacks one has None there."""
    columns: dict[str, list[Any]] = {}
    count = characters = 0
    for row in rows:
        characters += sum(len(value) if isinstance(value, str) else len(str(value)) for value in row.values())
        count += 1
        if count > MOST_ROWS or characters > MOST_CHARACTERS:
            raise ConfigError(f"data.source: {path} has more than "
                              + (f"{MOST_ROWS:,} rows" if count > MOST_ROWS else f"{MOST_CHARACTERS:,} characters")
                              + ", the most that are taken")
        for name, value in row.items():
            column = columns.get(name)
            if column is None:
                if len(columns) == 1_000:
                    raise ConfigError(f"data.source: {path} has more than 1,000 columns")
                column = columns[name] = [None] * (count - 1)
            column.append(value)
        for column in columns.values():
            if len(column) < count:
                column.append(None)
    if not count:
        raise ConfigError(f"data.source: {path} holds no row")
    return columns


def _parquet_columns(files: Iterable[tuple[Path, bytes]], where: Path) -> dict[str, list[Any]]:
    """The rows of all `files`, paths and contents; where: what they are together."""
    parquet = needed_package("pyarrow.parquet", "Parquet files")

    def rows() -> Iterator[dict[str, Any]]:
        for path, content in files:
            with _somebody_elses(path):
                opened = parquet.ParquetFile(io.BytesIO(content))
                batches = iter(opened.iter_batches(batch_size=256))
            while True:
                with _somebody_elses(path):
                    batch = next(batches, None)
                    found = batch.to_pylist() if batch is not None else None
                if found is None:
                    break
                yield from found

    return _columns(rows(), where)


# --- datasets ---


def _folder(path: Path, split: str) -> Table:
    digest = digest_of_folder(path)
    saved = [name for name in ("dataset_dict.json", "state.json") if (path / name).is_file()]
    if saved:
        datasets = needed_package("datasets", "folders that `datasets` saved")
        with _somebody_elses(path):
            found = datasets.load_from_disk(str(path))
        if saved[0] == "dataset_dict.json":
            if split not in found:
                raise ConfigError(f"data.split: {path} has no split {short(repr(split))}, but "
                                  f"{short(', '.join(map(str, found)))}")
            found = found[split]
        return Table(_columns(_rows_of(found, path), path), digest)
    files = sorted(file for file in path.rglob("*.parquet") if file.is_file())
    if not files:
        raise ConfigError(f"data.source: {path} is a folder without Parquet files, and none that `datasets` saved")
    of_split = [file for file in files if split in (file.parent.name, file.stem) or file.stem.startswith(f"{split}-")]
    others = {"train", "test", "validation", split}
    if not of_split and any(file.parent.name in others or file.stem.partition("-")[0] in others for file in files):
        raise ConfigError(f"data.split: no Parquet file in {path} is of the split {short(repr(split))}")
    files = of_split or files
    contents = ((file, read_bytes(file, MOST_BYTES, follow=True)) for file in files)
    return Table(_parquet_columns(contents, files[0] if len(files) == 1 else path), digest)


def _hub_dataset(data: DataConfig) -> Table:
    datasets = needed_package("datasets", "datasets of the hub")
    name = str(data.source)
    try:
        with captured():
            from huggingface_hub import HfApi

            datasets.disable_progress_bars()
            commit = data.revision
            if len(commit or "") != 40:
                commit = HfApi().dataset_info(name, revision=data.revision).sha
            found = datasets.load_dataset(name, data.subset, split=data.split, revision=commit)
    except Exception as error:
        raise ConfigError(f"data.source: there is no file or folder {short(repr(name))}, and no such dataset could be "
                          f"had from the hub ({kind_and_message(error)})") from None
    columns = _columns(_rows_of(found, name), name)
    rows = json.dumps(columns, sort_keys=True, default=repr).encode()
    return Table(columns, hashlib.sha256(rows).hexdigest(), commit)


def _rows_of(dataset: Any, where: object) -> Iterator[dict[str, Any]]:
    with _somebody_elses(where):
        count = len(dataset)
    if count > MOST_ROWS:
        raise ConfigError(f"data.source: {where} has {count:,} rows, and at most {MOST_ROWS:,} are taken; a split such "
                          f"as train[:{MOST_ROWS}] is a part of a hub dataset")
    for first in range(0, count, 256):
        with _somebody_elses(where):
            rows = dataset.select(range(first, min(first + 256, count))).to_list()
        yield from rows


def needed_package(module: str, what: str) -> Any:
    """A module that comes with the extra `data`. what: needs it. Raises ConfigError where it is not installed."""
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigError(f"{what} need the package {module.partition('.')[0]}: {_NEEDS}") from None


@contextmanager
def _somebody_elses(where: object) -> Iterator[None]:
    """What a reader of a foreign format raises is a sentence about the file."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:  # of whatever kind: the file decides
        raise ConfigError(f"data.source: {where} cannot be read as a table ({kind_and_message(error)})") from None
