"""The command `labels import`: preferences of others as a label file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from rlhf_engine.commands.console import ask, print_json, say
from rlhf_engine.commands.shared import AsJson
from rlhf_engine.config.data import DataConfig
from rlhf_engine.data.table_files import require_new_table, write_table
from rlhf_engine.data.tables import Table, read_table
from rlhf_engine.errors import ConfigError, first_line, short
from rlhf_engine.labels.foreign import TARGETS, Imported, checked_mapping, import_rows, unused_columns
from rlhf_engine.labels.judgement import Verdict, row
from rlhf_engine.labels.statistics import statistics_of
from rlhf_engine.labels.verdicts import VERDICTS, UnclearVerdictError

_NAMED = 5  # rows that are left out
_IF_NONE = {"prompt": " Empty: none, the texts are whole transcripts.",
            "chosen": " Empty: none, another column tells which of two is better."}
OutPath = Annotated[Path, typer.Argument(metavar="OUT", help="The new file.")]


def import_labels(
    source: Annotated[str, typer.Argument(
        metavar="SOURCE", help="A file of preferences (.jsonl, .jsonl.gz, .csv, .tsv, .parquet), a folder, or the "
                               "name of a dataset on the hub.")],
    file: OutPath,
    given: Annotated[list[str] | None, typer.Option(
        "--map", metavar="NAME=COLUMN", help=f"What {', '.join(TARGETS)} are called there; repeatable. info.post is "
                                             "the post within the column info, answers.0 the first of a list.")] = None,
    meant: Annotated[list[str] | None, typer.Option(
        "--verdict", metavar="VALUE=VERDICT", help=f"What a value of the column of verdicts is: {', '.join(VERDICTS)}; "
                                                   "repeatable. negative and positive are numbers below and above 0."
        )] = None,
    rater: Annotated[str, typer.Option("--as", metavar="NAME", help="Who judged.")] = "",
    split: Annotated[str, typer.Option(help="Split of a dataset.")] = "train",
    subset: Annotated[str | None, typer.Option(help="Configuration of a hub dataset that has several.",
                                               show_default=False)] = None,
    as_json: AsJson = False,
) -> int:
    """Make a label file of preferences that others have.

    Columns are prompt, chosen and rejected, or as --map says: `--map chosen=better --map rejected=worse`; or
    `--map first=answer_a --map second=answer_b --map verdict=winner`, where the verdict is a or b, model_a or model_b,
    1 or 2, a column's name, tie or both_bad. What may mean either answer, as 0 and 1 do, --verdict tells: `--verdict
    1=first --verdict 0=second`. `--map verdict=a_won,b_won,tie` are columns of which one is 1. At a terminal, what is
    missing is asked for. Texts may be lists of chat messages. Without a column of prompts both texts are transcripts,
    and what they share, up to where the assistant begins to speak for the last time, is the prompt.

    Rows that are no pairs (one side is missing or empty, both are equal, no prompt) are left out, and told.

    With --json: file, rows, imported, left_out (reasons, each with how many) and labels.
    """
    require_label_file_name(file)
    require_new_table(file)
    table = _table(source, split, subset)
    assigned = dict(map(_assigned, given or []))
    told = dict(map(_told, meant or []))
    mapping = _mapping(assigned, table, source)
    if told and "verdict" not in mapping:
        raise ConfigError("--verdict tells of a column of verdicts, which --map verdict=COLUMN names")
    found = _imported(table, mapping, rater, source, told)
    if not found.judgements:
        raise ConfigError([f"{source}: no row is a pair", *_left_out_lines(found, table, source)])
    write_table(file, [row(judgement) for judgement in found.judgements])
    for line in (*_left_out_lines(found, table, source), *found.notices):
        say(line)
    if unused := unused_columns(table.columns, mapping):
        say(f"nothing is taken of the columns {short(', '.join(unused), 200)}")
    counts = statistics_of(found.judgements).counts
    if as_json:
        reasons: dict[str, int] = {}
        for why in found.left_out.values():
            reasons[why] = reasons.get(why, 0) + 1
        print_json({"file": str(file), "rows": len(table), "imported": len(found.judgements), "left_out": reasons,
                    "labels": dict(counts)})
        return 0
    say(f"{len(found.judgements)} of {len(table)} rows are judgements in {file}")
    if any(judgement.pair.prompt.startswith("[{") for judgement in found.judgements):
        say("some prompts are conversations: train on them with data.chat_template = true")
    return 0


def _table(source: str, split: str, subset: str | None) -> Table:
    try:
        return read_table(DataConfig(source=source, split=split, subset=subset), "text")
    except ValidationError as error:
        raise ConfigError(f"{short(repr(source))}: {first_line(error)}") from None
    except ConfigError as error:
        raise ConfigError([problem.removeprefix("data.source: ") for problem in error.problems]) from None


def _mapping(given: dict[str, str], table: Table, source: str) -> dict[str, str]:
    columns = table.columns
    while True:
        try:
            return checked_mapping(given, columns, source)
        except ConfigError as error:
            missing = [name for name in ("chosen", "rejected") if name not in columns and name not in given]
            if not missing or {"first", "second", "verdict"} & given.keys() or not _at_a_terminal():
                raise
            say(error.problems[0])
        if "prompt" not in columns and "prompt" not in given:
            missing.insert(0, "prompt")
        while missing:
            name = missing.pop(0)
            if answer := ask(f"Which column has {TARGETS[name]} ({name})?{_IF_NONE.get(name, '')}"):
                given[name] = answer
            elif name == "chosen":
                missing = ["first", "second", "verdict"]
            elif name != "prompt":
                raise ConfigError(f"--map: without a column {name} there are no pairs")
        say("the next time: " + " ".join(f"--map {name}={column}" for name, column in given.items()))


def _imported(table: Table, mapping: dict[str, str], rater: str, source: str, told: dict[str, Verdict]) -> Imported:
    asked: dict[str, Verdict] = {}
    while True:
        try:
            found = import_rows(table.columns, mapping, rater, lambda at: table.where(source, at), told | asked)
            break
        except UnclearVerdictError as error:
            if not _at_a_terminal() or error.key in asked:
                raise
            say(error.problems[0])
            answer = ask(f"What does {short(error.key, 40)} mean?")
            asked |= dict([_told(f"{error.key}={answer}")])
    if asked:
        say("the next time: " + " ".join(f"--verdict {value}={verdict}" for value, verdict in asked.items()))
    return found


def _at_a_terminal() -> bool:
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


def _assigned(text: str) -> tuple[str, str]:
    name, equals, column = text.partition("=")
    if not equals or not name or not column:
        raise ConfigError(f"--map: {short(repr(text))} is not of the form NAME=COLUMN")
    return name, column


def _told(text: str) -> tuple[str, Verdict]:
    value, _, verdict = text.rpartition("=")
    for known in VERDICTS:
        if value and verdict == known:
            return value.strip().lower(), known
    raise ConfigError(f"--verdict: {short(repr(text))} is not of the form VALUE=VERDICT, where the verdict is one of "
                      f"{', '.join(VERDICTS)}")


def _left_out_lines(found: Imported, table: Table, source: str) -> list[str]:
    lines = [f"{table.where(source, at)}: left out: {why}" for at, why in list(found.left_out.items())[:_NAMED]]
    if len(found.left_out) > _NAMED:
        lines.append(f"and {len(found.left_out) - _NAMED:,} more rows are left out, of {len(table):,}")
    return lines


def require_label_file_name(file: Path) -> None:
    """Raises ConfigError."""
    if file.suffix != ".jsonl":
        raise ConfigError(f"{file} does not end in .jsonl, as label files do")
