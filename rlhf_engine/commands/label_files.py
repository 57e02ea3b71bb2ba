"""The commands `labels …`: what label files hold, and their way to files of others."""

from __future__ import annotations

from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import typer

from rlhf_engine.commands.console import out, print_json, say
from rlhf_engine.commands.label_import import OutPath, import_labels, require_label_file_name
from rlhf_engine.commands.label_report import report_lines, share_text, statistics_json
from rlhf_engine.commands.shared import AsJson, command_of
from rlhf_engine.data.plain_pairs import plain_rows
from rlhf_engine.data.table_files import require_new_table, write_table
from rlhf_engine.errors import ConfigError
from rlhf_engine.labels.judgement import Judgement, row
from rlhf_engine.labels.label_file import read_labels
from rlhf_engine.labels.merging import merge as merge_labels
from rlhf_engine.labels.statistics import Agreement, agreement, statistics_of

LabelFilePath = Annotated[Path, typer.Argument(metavar="FILE", help="A label file.")]


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
    if not people:
        say("there is no judgement in it" if other is None else "there is no judgement in them")
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
    require_label_file_name(target)
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
