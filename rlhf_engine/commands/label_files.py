"""The commands `labels …`: what label files hold, and their way from and to files of others."""

from __future__ import annotations

import sys
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from rlhf_engine.commands.console import ask, out, print_json, say
from rlhf_engine.commands.label_report import report_lines, share_text, statistics_json
from rlhf_engine.commands.shared import AsJson, command_of
from rlhf_engine.config.data import DataConfig
from rlhf_engine.data.plain_pairs import plain_rows
from rlhf_engine.data.table_files import require_new_table, write_table
from rlhf_engine.data.tables import Table, read_table
from rlhf_engine.errors import ConfigError, first_line, short
from rlhf_engine.labels.foreign import TARGETS, Imported, checked_mapping, import_rows
from rlhf_engine.labels.judgement import Judgement, row
from rlhf_engine.labels.label_file import read_labels
from rlhf_engine.labels.merging import merge as merge_labels
from rlhf_engine.labels.statistics import Agreement, agreement, statistics_of

_NAMED = 5  # rows that are left out

LabelFilePath = Annotated[Path, typer.Argument(metavar="FILE", help="A label file.")]
OutPath = Annotated[Path, typer.Argument(metavar="OUT", help="The new file.")]


def labels_app() -> typer.Typer:
    """The commands below `labels`."""
    app = typer.Typer(help="Show label files, and import, export and merge them.", no_args_is_help=True,
                      add_completion=False, rich_markup_mode=None)
    for command, name in ((show, "show"), (import_labels, "import"), (export_labels, "export"), (merge, "merge")):
        app.command(name=name)(command_of(command))
    return app


def show(
    file: LabelFilePath,
    other: Annotated[Path | None, typer.Argument(
        metavar="[FILE2]", help="Another one, of somebody else on the same pairs, say.", show_default=False)] = None,
    as_json: AsJson = False,
) -> int:
    """Tell what was judged: how much, how fast, how steadily, and how far people agree.

    Of each person: pairs that came back with their sides swapped and were judged alike, and how often the left and the
    longer answer won, with 95 % intervals (Wilson) and what chance would give. Of each two people on the pairs that
    both judged: Gwet's AC1 (0: chance, 1: full agreement) and the raw share.

    With --json: raters, each with rater, file, judged, flagged, seconds_per_pair, labels, consistency, left_won and
    longer_won (as in `label`), and agreement, each with raters, ac1, value, low, high, n and chance.
    """
    people = _people([file] if other is None else [file, other])
    told = [(name, where, statistics_of(judgements)) for (name, where), judgements in people.items()]
    pairs = [(one, two, agreement(people[one], people[two])) for one, two in combinations(people, 2)]
    if as_json:
        print_json({
            "raters": [{"rater": name, "file": str(where), "judged": found.judged, "flagged": found.flagged,
                        "seconds_per_pair": found.seconds_per_pair, **statistics_json(found)}
                       for name, where, found in told],
            "agreement": [{"raters": [one[0], two[0]], "ac1": found.ac1, **asdict(found.share)}
                          for one, two, found in pairs if found]})
        return 0
    for name, where, found in told:
        out(f"{name or '(nobody named)'} in {where}:", *(f"  {line}" for line in report_lines(found)))
    for one, two, both in pairs:
        out(f"{one[0] or one[1]} and {two[0] or two[1]}: {_agreement_text(both)}")
    return 0


def _people(files: list[Path]) -> dict[tuple[str, Path], list[Judgement]]:
    found: dict[tuple[str, Path], list[Judgement]] = {}
    for file in {file.absolute(): file for file in files}.values():
        for judgement in read_labels(file):
            found.setdefault((judgement.rater, file), []).append(judgement)
    return found


def _agreement_text(found: Agreement | None) -> str:
    if found is None:
        return "no pair was judged by both"
    return f"AC1 {found.ac1:.2f}, the same answer for {share_text(found.share)}"


def import_labels(
    source: Annotated[str, typer.Argument(
        metavar="SOURCE", help="A file of preferences (.jsonl, .jsonl.gz, .csv, .tsv, .parquet), a folder, or the "
                               "name of a dataset on the hub.")],
    file: OutPath,
    given: Annotated[list[str] | None, typer.Option(
        "--map", metavar="NAME=COLUMN", help=f"What {', '.join(TARGETS)} are called there; repeatable.")] = None,
    rater: Annotated[str, typer.Option("--as", metavar="NAME", help="Who judged.")] = "",
    split: Annotated[str, typer.Option(help="Split of a dataset.")] = "train",
    subset: Annotated[str | None, typer.Option(help="Configuration of a hub dataset that has several.",
                                               show_default=False)] = None,
    as_json: AsJson = False,
) -> int:
    """Make a label file of preferences that others have.

    Columns are prompt, chosen and rejected, or as --map says: `--map chosen=better --map rejected=worse`; or
    `--map first=answer_a --map second=answer_b --map verdict=winner`, where verdict is 0 or 1 (or 1 or 2), a or b,
    model_a or model_b, tie or both_bad. At a terminal, what is missing is asked for. Texts may be lists of chat
    messages. Without a column of prompts both texts are transcripts, and what they share, up to where the assistant
    begins to speak for the last time, is the prompt.

    Rows that are no pairs (one side is missing or empty, both are equal, no prompt) are left out, and told.

    With --json: file, rows, imported, left_out (reasons, each with how many) and labels.
    """
    _require_label_file_name(file)
    require_new_table(file)
    table = _table(source, split, subset)
    mapping = _mapping(dict(map(_assigned, given or [])), table, source)
    found = import_rows(table.columns, mapping, rater, lambda at: table.where(source, at))
    if not found.judgements:
        raise ConfigError([f"{source}: no row is a pair", *_left_out_lines(found, table, source)])
    write_table(file, [row(judgement) for judgement in found.judgements])
    for line in _left_out_lines(found, table, source):
        say(line)
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
    columns = list(table.columns)
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
        for name in missing:
            answer = ask(f"Which column is {TARGETS[name]} ({name})?"
                         + (" Empty: none, the texts are whole transcripts." if name == "prompt" else ""))
            if answer:
                given[name] = answer
            elif name != "prompt":
                raise ConfigError(f"--map: without a column {name} there are no pairs")
        say("the next time: " + " ".join(f"--map {name}={column}" for name, column in given.items()))


def _at_a_terminal() -> bool:
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


def _assigned(text: str) -> tuple[str, str]:
    name, equals, column = text.partition("=")
    if not equals or not name or not column:
        raise ConfigError(f"--map: {short(repr(text))} is not of the form NAME=COLUMN")
    return name, column


def _left_out_lines(found: Imported, table: Table, source: str) -> list[str]:
    lines = [f"{table.where(source, at)}: left out: {why}" for at, why in list(found.left_out.items())[:_NAMED]]
    if len(found.left_out) > _NAMED:
        lines.append(f"and {len(found.left_out) - _NAMED:,} more rows are left out, of {len(table):,}")
    return lines


def export_labels(
    file: LabelFilePath,
    target: Annotated[Path, typer.Argument(metavar="OUT", help="A new .jsonl or .parquet file; without an ending, a "
                                                               "folder of `datasets`.")],
    ties: Annotated[bool, typer.Option("--ties", help="With a column tie, and the pairs of which neither is better.")
                    ] = False,
    conversational: Annotated[bool, typer.Option("--conversational", help="Lists of chat messages rather than texts.")
                              ] = False,
    as_json: AsJson = False,
) -> int:
    """Write plain preferences for other programs: prompt, chosen and rejected.

    Skipped pairs are left out, and so are those without a winner, but for --ties.

    With --json: file, rows and left_out.
    """
    require_new_table(target)
    judgements = read_labels(file)
    rows = plain_rows(judgements, ties=ties, conversational=conversational)
    if not rows:
        raise ConfigError(f"{file}: none of its {len(judgements)} judgements has a winner")
    write_table(target, rows)
    if as_json:
        print_json({"file": str(target), "rows": len(rows), "left_out": len(judgements) - len(rows)})
    else:
        say(f"{len(rows)} rows in {target}; {len(judgements) - len(rows)} judgements are without a winner, or skipped")
    return 0


def merge(
    file: Annotated[Path, typer.Argument(metavar="A", help="A label file.")],
    other: Annotated[Path, typer.Argument(metavar="B", help="Another one.")],
    target: OutPath,
    second_rater: Annotated[str | None, typer.Option(
        "--second-rater", metavar="NAME", help="Who judged in B, where it names the same people as A but means "
                                               "somebody else.", show_default=False)] = None,
    as_json: AsJson = False,
) -> int:
    """Put two label files together, of one person or of two. A and B stay as they are.

    What both have is there once. Where the same person judged the same pair otherwise, the later judgement holds.

    With --json: file, judgements, equal, replaced and agreement (of each two people, as in `show`).
    """
    _require_label_file_name(target)
    require_new_table(target)
    merged = merge_labels(read_labels(file), read_labels(other), second_rater=second_rater)
    write_table(target, [row(judgement) for judgement in merged.judgements])
    by_rater: dict[str, list[Judgement]] = {}
    for judgement in merged.judgements:
        by_rater.setdefault(judgement.rater, []).append(judgement)
    pairs = [(one, two, agreement(by_rater[one], by_rater[two])) for one, two in combinations(by_rater, 2)]
    if as_json:
        told: list[dict[str, Any]] = [{"raters": [one, two], "ac1": found.ac1, **asdict(found.share)}
                                      for one, two, found in pairs if found]
        print_json({"file": str(target), "judgements": len(merged.judgements), "equal": merged.equal,
                    "replaced": merged.replaced, "agreement": told})
        return 0
    say(f"{len(merged.judgements)} judgements in {target}; {merged.equal} were in both files")
    if merged.replaced:
        say(f"{merged.replaced} pairs were judged in both files by the same person, and otherwise: the later judgement "
            "holds. If those are two people of one name, --second-rater tells them apart.")
    for one, two, found in pairs:
        if found:
            say(f"{one} and {two}: {_agreement_text(found)}")
    return 0


def _require_label_file_name(file: Path) -> None:
    if file.suffix != ".jsonl":
        raise ConfigError(f"{file} does not end in .jsonl, as label files do")
