"""`labels show`, `import`, `export` and `merge`: public forms of preferences, bad ones, and nothing lost on the way."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from rlhf_engine.commands.cli import make_app
from rlhf_engine.files.json_text import to_json
from rlhf_engine.labels.judgement import Judgement, row
from rlhf_engine.labels.label_file import LabelFile, read_labels
from rlhf_engine.labels.pair import Answer, Origin, Pair
from rlhf_engine.models.chat import messages_of


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def call(*args: str) -> Result:
    return CliRunner().invoke(make_app(), ["labels", *args])


def done(*args: str) -> dict[str, Any]:
    result = call(*args, "--json")
    assert result.exit_code == 0, result.output
    told: dict[str, Any] = json.loads(result.stdout)
    return told


def write(name: str, rows: list[Any]) -> str:
    text = "".join(json.dumps(one) + "\n" for one in rows)
    path = Path(name)
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return name


def imported(rows: list[Any], *args: str, name: str = "in.jsonl") -> list[tuple[str, str, str]]:
    done("import", write(name, rows), "out.jsonl", *args)
    found = [(one.pair.prompt, one.chosen.text, one.rejected.text) for one in read_labels(Path("out.jsonl"))]
    Path("out.jsonl").unlink()
    return found


# --- import ---


def test_other_columns_are_mapped() -> None:
    rows = [{"question": "q", "better": "a", "worse": "b"}, {"question": "r", "better": "c", "worse": "d"}]
    expected = [("q", "a", "b"), ("r", "c", "d")]
    mapping = ("--map", "prompt=question", "--map", "chosen=better", "--map", "rejected=worse")
    assert imported(rows, *mapping) == expected
    assert imported(rows, *mapping, name="in.jsonl.gz") == expected


@pytest.mark.parametrize(("column", "chosen"), [
    ([1, 2, 1], "aba"), (["1", "2", "1"], "aba"),
    (["model_a", "model_b", "A"], "aba"), (["first", "second", "left"], "aba"),
])
def test_two_answers_and_which_is_better_become_a_pair(column: list[Any], chosen: str) -> None:
    rows = [{"prompt": f"p{at}", "one": "a", "two": "b", "winner": value} for at, value in enumerate(column)]
    found = imported(rows, "--map", "first=one", "--map", "second=two", "--map", "verdict=winner")
    assert "".join(better for _, better, _ in found) == chosen


def test_ties_of_others_stay_ties_and_what_is_no_verdict_is_told() -> None:
    mapping = ("--map", "first=one", "--map", "second=two", "--map", "verdict=winner", "--as", "arena")
    rows = [{"prompt": f"p{at}", "one": "a", "two": "b", "winner": value}
            for at, value in enumerate(["tie", "tie (bothbad)", "model_b"])]
    told = done("import", write("in.jsonl", rows), "out.jsonl", *mapping)
    assert told["labels"] == {"first": 0, "second": 1, "tie": 1, "both_bad": 1, "skip": 0}
    assert {one.rater for one in read_labels(Path("out.jsonl"))} == {"arena"}
    write("in.jsonl", [*rows, rows[0] | {"winner": "gpt"}])
    failed = call("import", "in.jsonl", "other.jsonl", *mapping)
    assert failed.exit_code == 2
    assert "in.jsonl:4" in failed.stderr
    assert not Path("other.jsonl").exists()


BEGUN = "\n\nHuman: Hello.\n\nAssistant: Hi, what can I do?\n\nHuman: A word for glad?\n\nAssistant:"


def test_what_transcripts_share_is_their_prompt() -> None:
    rows = [{"chosen": BEGUN + " Happy, surely.", "rejected": BEGUN + " Happy or sad."},
            {"chosen": "\n\nHuman: Go.\n\nAssistant: Where?", "rejected": "\n\nHuman: Go.\n\nAssistant: No."}]
    assert imported(rows) == [(BEGUN, " Happy, surely.", " Happy or sad."),
                              ("\n\nHuman: Go.\n\nAssistant:", " Where?", " No.")]


def test_transcripts_that_are_no_pair_are_left_out_and_told() -> None:
    rows = [{"chosen": BEGUN + " Happy.", "rejected": BEGUN + " Sad."},
            {"chosen": "Once.", "rejected": "Twice."},
            {"chosen": BEGUN + " Happy.", "rejected": BEGUN},
            {"chosen": BEGUN + " Happy.", "rejected": BEGUN + " Happy."},
            {"chosen": BEGUN + " A.\n\nHuman: And?\n\nAssistant: C.", "rejected": BEGUN + " B.\n\nHuman: And?"}]
    result = call("import", write("in.jsonl", rows), "out.jsonl", "--json")
    told = json.loads(result.stdout)
    assert (told["imported"], sum(told["left_out"].values())) == (1, 4)
    for line in (2, 3, 4, 5):
        assert f"in.jsonl:{line}: left out" in result.stderr


def said(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


ASKED, GOOD, BAD = said("user", "Hello?"), said("assistant", "Hi!"), said("assistant", "No.")
BEFORE = [said("system", "Be kind."), said("user", "Go"), said("assistant", "Where?"), ASKED]


@pytest.mark.parametrize("line", [
    {"prompt": [ASKED], "chosen": [GOOD], "rejected": [BAD]},
    {"prompt": "Hello?", "chosen": [GOOD], "rejected": [BAD]},
    {"prompt": "Hello?", "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},
    {"chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},
    {"prompt": [ASKED], "chosen": "Hi!", "rejected": "No."},
])
def test_conversations_of_one_question_become_texts(line: dict[str, Any]) -> None:
    assert imported([line]) == [("Hello?", "Hi!", "No.")]


@pytest.mark.parametrize("line", [
    {"prompt": BEFORE, "chosen": [GOOD], "rejected": [BAD]},
    {"chosen": [*BEFORE, GOOD], "rejected": [*BEFORE, BAD]},
    {"prompt": BEFORE, "chosen": [*BEFORE, GOOD], "rejected": [*BEFORE, BAD]},
])
def test_longer_conversations_are_prompts_that_a_chat_template_reads(line: dict[str, Any]) -> None:
    ((prompt, chosen, rejected),) = imported([line])
    assert (messages_of(prompt), chosen, rejected) == (BEFORE, "Hi!", "No.")


@pytest.mark.parametrize(("line", "why"), [
    ({"prompt": "p", "chosen": "a"}, "'rejected' is missing"),
    ({"prompt": "p", "chosen": "a", "rejected": None}, "'rejected' is missing"),
    ({"prompt": None, "chosen": "a", "rejected": "b"}, "'prompt' is missing"),
    ({"prompt": "p", "chosen": "", "rejected": "b"}, "'chosen' is empty"),
    ({"prompt": "p", "chosen": "a", "rejected": " \n"}, "'rejected' is empty"),
    ({"prompt": "p", "chosen": "a", "rejected": "a"}, "same"),
    ({"prompt": "p", "chosen": 3, "rejected": "a"}, "no text"),
    ({"prompt": "p", "chosen": [GOOD], "rejected": "a"}, "no list"),
    ({"prompt": "p", "chosen": ["hi"], "rejected": [BAD]}, "role"),
    ({"prompt": "p", "chosen": [GOOD, ASKED], "rejected": [BAD]}, "one answer"),
    ({"prompt": "p", "chosen": "half \ud83d", "rejected": "a"}, "half a character"),
])
def test_a_row_that_is_no_pair_is_left_out_by_line_and_reason(line: dict[str, Any], why: str) -> None:
    good = {"prompt": "p", "chosen": "a", "rejected": "b"}
    result = call("import", write("in.jsonl", [good, line, good]), "out.jsonl")
    assert result.exit_code == 0
    assert "in.jsonl:2: left out" in result.stderr
    assert why in result.stderr
    assert len(read_labels(Path("out.jsonl"))) == 2


def test_files_that_hold_no_preferences_are_told_and_nothing_is_written() -> None:
    good = json.dumps({"prompt": "p", "chosen": "a", "rejected": "b"}).encode() + b"\n"
    for content, words in (
        (b'{"question": "q", "answer": "a"}\n', ("'chosen'", "question", "--map")),
        (good + '{"prompt": "café", "chosen": "a", "rejected": "b"}\n'.encode("latin-1"), ("in.jsonl:2", "UTF-8")),
        (good.decode().encode("utf-16"), ("in.jsonl:1", "UTF-8")),
        (good + b'{"prompt": \n', ("in.jsonl:2", "JSON")),
        (b"[" + good.strip() + b"]", ("in.jsonl:1", "list")),
        (good + b'{"prompt": "p", "chosen": "a", "chosen": "z", "rejected": "b"}\n', ("in.jsonl:2", "'chosen' twice")),
        (good.replace(b'"a"', b'"' + b"a" * 3_000_000 + b'"'), ("no row is a pair", "characters")),
        (b'{"prompt": "p", "chosen": "a", "rejected": "a"}\n', ("no row is a pair", "same")),
        (b"", ("no row",)),
    ):
        Path("in.jsonl").write_bytes(content)
        result = call("import", "in.jsonl", "out.jsonl")
        assert result.exit_code == 2
        for word in words:
            assert word in result.stderr
        assert not Path("out.jsonl").exists()
    Path("in.jsonl").write_bytes(good)
    Path("there.jsonl").write_text("mine")
    for args in (["in.jsonl", "there.jsonl"], ["in.jsonl", "out.txt"], ["none.jsonl", "out.jsonl"],
                 ["in.jsonl", "out.jsonl", "--map", "chosen"], ["in.jsonl", "out.jsonl", "--map", "winner=chosen"],
                 ["in.jsonl", "out.jsonl", "--map", "chosen=best"]):
        assert call("import", *args).exit_code == 2
    assert Path("there.jsonl").read_text() == "mine"
    assert not Path("out.jsonl").exists()


def test_equal_and_contrary_rows_of_a_public_set_are_all_kept_and_are_no_second_look() -> None:
    line, contrary = ({"prompt": "p", "chosen": a, "rejected": b} for a, b in ("ab", "ba"))
    assert imported([line, line, contrary]) == [("p", "a", "b"), ("p", "a", "b"), ("p", "b", "a")]
    done("import", write("in.jsonl", [line, line]), "out.jsonl")
    assert done("show", "out.jsonl")["raters"][0]["consistency"] is None


@pytest.mark.parametrize("count", [3_000, pytest.param(100_000, marks=pytest.mark.soak)])
def test_many_pairs_are_imported_shown_and_added_to(count: int) -> None:
    rows = [{"prompt": f"p{at}", "chosen": "yes", "rejected": "no"} for at in range(count)]
    told = done("import", write("in.jsonl", rows), "out.jsonl")
    assert told["imported"] == count
    with LabelFile.open(Path("out.jsonl"), rater="ann") as file:
        assert len(file.judgements) == count
        file.add(judged(1))
    assert [rater["judged"] for rater in done("show", "out.jsonl")["raters"]] == [count, 1]


# --- show, export and merge ---


def judged(number: int, verdict: Any = "first", rater: str = "ann", **others: Any) -> Judgement:
    here = Origin("tuned", "tiny", "one", 3, 1)
    pair = Pair(f"p{number}", Answer("a fox", True, here, 1.0), Answer("a dog", False, here, 0.5))
    return replace(Judgement(pair, rater, verdict, False, time="2026-01-02T03:04:05.678Z", seconds=2.0), **others)


def label_file(name: str, judgements: list[Judgement]) -> str:
    Path(name).write_text("".join(to_json(row(one)) + "\n" for one in judgements))
    return name


def test_show_tells_of_each_person_and_how_far_two_agree() -> None:
    one = label_file("a.jsonl", [judged(at) for at in range(4)])
    other = label_file("b.jsonl", [judged(at, "second" if at == 3 else "first", "bob") for at in range(4)])
    told = done("show", one, other)
    assert [(rater["rater"], rater["judged"]) for rater in told["raters"]] == [("ann", 4), ("bob", 4)]
    (both,) = told["agreement"]
    assert (both["raters"], both["value"], both["n"]) == (["ann", "bob"], 0.75, 4)
    # first in 7 of 8: chance 2 · 7/8 · 1/8 / 2
    assert both["ac1"] == pytest.approx((0.75 - 7 / 64) / (1 - 7 / 64))
    text = call("show", one, other).stdout
    assert "AC1" in text
    assert "2.0 s" in text


def test_two_files_are_merged_and_nothing_is_lost() -> None:
    one = label_file("a.jsonl", [judged(1), judged(2), judged(3)])
    later = judged(3, "tie", time="2026-02-02T03:04:05Z")
    other = label_file("b.jsonl", [judged(2), later, judged(1, "second", "bob"), judged(4)])
    told = done("merge", one, other, "both.jsonl")
    assert (told["judgements"], told["equal"], told["replaced"]) == (5, 1, 1)
    assert read_labels(Path("both.jsonl")) == [judged(1), judged(2), later, judged(1, "second", "bob"), judged(4)]
    told = done("merge", one, other, "four.jsonl", "--second-rater", "eve")
    assert (told["judgements"], told["replaced"]) == (7, 0)
    assert {judgement.rater for judgement in read_labels(Path("four.jsonl"))} == {"ann", "bob", "eve"}
    assert {tuple(found["raters"]): found["n"] for found in told["agreement"]} == {
        ("ann", "eve"): 2, ("ann", "bob"): 1}
    assert call("merge", one, other, "five.jsonl", "--second-rater", "bob").exit_code == 2
    assert call("merge", one, other, "four.jsonl").exit_code == 2


def test_export_is_plain_and_goes_through_datasets() -> None:
    datasets = pytest.importorskip("datasets", reason="the extra `data` is not installed")
    source = label_file("a.jsonl", [judged(1), judged(2, "second"), judged(3, "tie"), judged(4, "skip")])
    winners = [{"prompt": "p1", "chosen": "a fox", "rejected": "a dog"},
               {"prompt": "p2", "chosen": "a dog", "rejected": "a fox"}]
    assert done("export", source, "plain.jsonl")["left_out"] == 2
    assert [json.loads(line) for line in Path("plain.jsonl").read_text().splitlines()] == winners
    done("export", source, "plain.parquet")
    done("export", source, "folder", "--ties")
    assert datasets.Dataset.from_parquet("plain.parquet").to_list() == winners
    assert datasets.load_from_disk("folder")["tie"][:] == [False, False, True]
    done("export", source, "chat.jsonl", "--conversational")
    assert json.loads(Path("chat.jsonl").read_text().splitlines()[0]) == {
        "prompt": [said("user", "p1")], "chosen": [said("assistant", "a fox")],
        "rejected": [said("assistant", "a dog")]}
    # what is exported comes back
    assert imported([json.loads(line) for line in Path("chat.jsonl").read_text().splitlines()]) == [
        ("p1", "a fox", "a dog"), ("p2", "a dog", "a fox")]
    assert done("import", "plain.parquet", "back.jsonl")["imported"] == 2
    assert [one.chosen.text for one in read_labels(Path("back.jsonl"))] == ["a fox", "a dog"]
    assert call("export", label_file("t.jsonl", [judged(1, "tie")]), "none.jsonl").exit_code == 2


def test_a_label_file_is_a_table_for_datasets_and_comes_back_whole() -> None:
    datasets = pytest.importorskip("datasets", reason="the extra `data` is not installed")
    judgements = [judged(1, flag=True, note="well"), judged(2, "tie"), judged(1, "second", "bob", swapped=True)]
    found = datasets.Dataset.from_json(label_file("a.jsonl", judgements), cache_dir="cache")
    assert found[0]["chosen_origin"]["run"] == "one"
    found.to_parquet("a.parquet")
    done("import", "a.parquet", "back.jsonl")
    assert read_labels(Path("back.jsonl")) == judgements
