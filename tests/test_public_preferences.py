"""`labels import` of public preference sets: each layout comes in right, or is refused until the person says more."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from test_label_files import call, said, write

from rlhf_engine.commands.label_import import import_labels
from rlhf_engine.labels.label_file import read_labels
from rlhf_engine.models.chat import messages_of


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def options(**named: Any) -> list[str]:
    """`--map` for each, and `--verdict` for those in `verdicts`."""
    meant = named.pop("verdicts", {})
    return [each for name, column in named.items() for each in ("--map", f"{name}={column}")] + [
        each for value, verdict in meant.items() for each in ("--verdict", f"{value}={verdict}")]


def imported(source: str, **named: Any) -> list[tuple[str, str, str, str]]:
    """(prompt, first, second, verdict) of each judgement: `first` is what the file calls so, or the chosen one."""
    result = call("import", source, "out.jsonl", *options(**named))
    assert result.exit_code == 0, result.output
    found = [(one.pair.prompt, one.pair.first.text, one.pair.second.text, one.verdict)
             for one in read_labels(Path("out.jsonl"))]
    Path("out.jsonl").unlink()
    return found


def refused(source: str, **named: Any) -> str:
    result = call("import", source, "out.jsonl", *options(**named))
    assert (result.exit_code, Path("out.jsonl").exists()) == (2, False)
    return result.stderr


def pairs(name: str, values: list[Any], **columns: str) -> str:
    """Rows with a verdict each, and in the other columns what each is called."""
    return write("in.jsonl", [{**columns, "prompt": f"p{at}", name: value} for at, value in enumerate(values)])


ASKED, GOOD, BAD = said("user", "Hello? "), said("assistant", "Hi!"), said("assistant", "No.")


def test_messages_that_hold_the_prompt_too() -> None:  # as in UltraFeedback, binarized
    row = {"prompt": "Hello?", "prompt_id": "x", "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD],
           "messages": [ASKED, GOOD], "score_chosen": 8.5, "score_rejected": 7.0}
    assert imported(write("in.jsonl", [row])) == [("Hello? ", "Hi!", "No.", "first")]
    assert "not what is asked" in refused(write("in.jsonl", [row | {"prompt": "Another one"}]))


def test_signed_strengths_are_told_by_their_sign() -> None:  # as in HelpSteer2: below 0 the first is better
    columns = {"response_1": "a", "response_2": "b"}
    source = pairs("preference_strength", [-3, 2, 0, 1], **columns)
    mapping = {"first": "response_1", "second": "response_2", "verdict": "preference_strength"}
    assert "--verdict negative=first" in refused(source, **mapping)
    meant = {"negative": "first", "positive": "second", "0": "tie"}
    found = imported(source, **mapping, verdicts=meant)
    assert [verdict for *_, verdict in found] == ["first", "second", "tie", "second"]
    # 1 and 2 alone do not count the answers there
    assert "preference_strength" in refused(pairs("preference_strength", [1, 2], **columns), **mapping)


def test_zero_and_one_are_told_by_the_person() -> None:  # as in SHP: 1 is A
    source = pairs("labels", [1, 0, 1], human_ref_A="a", human_ref_B="b")
    mapping = {"first": "human_ref_A", "second": "human_ref_B", "verdict": "labels"}
    for word in ("in.jsonl:1", "human_ref_A", "--verdict 1=first"):
        assert word in refused(source, **mapping)
    assert "in.jsonl:2" in refused(source, **mapping, verdicts={"1": "first"})
    found = imported(source, **mapping, verdicts={"1": "first", "0": "second"})
    assert [verdict for *_, verdict in found] == ["first", "second", "first"]


class Terminal(io.StringIO):
    """What a person types, or reads."""

    def isatty(self) -> bool:
        return True


def test_at_a_terminal_what_is_missing_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    source = write("in.jsonl", [{"history": f"p{at}", "ref_A": "a", "ref_B": "b", "labels": at} for at in (0, 1)])
    answers = ["history", "", "ref_A", "ref_B", "labels", "second", "first"]  # no column of the better ones
    monkeypatch.setattr("sys.stdin", Terminal("".join(f"{answer}\n" for answer in answers)))
    monkeypatch.setattr("sys.stderr", Terminal())
    assert import_labels(source, Path("out.jsonl")) == 0
    assert [(one.pair.prompt, one.chosen.text) for one in read_labels(Path("out.jsonl"))] == [("p0", "b"), ("p1", "a")]


@pytest.mark.parametrize(("one", "two", "column", "values", "expected"), [
    ("response_0", "response_1", "better_response_id", [1, 0], "second first"),  # as in PKU-SafeRLHF
    ("response_1", "response_0", "better_response_id", [1, 0], "first second"),
    ("response_1", "response_2", "choice", ["1", "2"], "first second"),
    ("response_1", "response_2", "choice", ["response_1", "Response 2"], "first second"),
    ("model_a_said", "model_b_said", "winner", ["model_b", "tie (bothbad)"], "second both_bad"),
    ("answer_b", "answer_a", "winner", ["b", "A"], "first second"),
    ("first_one", "other", "winner", ["other", "first_one"], "second first"),
])
def test_what_tells_the_columns_apart_tells_the_verdicts_too(
    one: str, two: str, column: str, values: list[Any], expected: str
) -> None:
    source = pairs(column, values, **{one: "a", two: "b"})
    assert [found[3] for found in imported(source, first=one, second=two, verdict=column)] == expected.split()


@pytest.mark.parametrize(("column", "values"), [
    ("response_0_is_better", [0, 1]), ("better", [True, False]), ("winner", ["B > A", "A > B"]), ("winner", [0.7, 0.2]),
    ("winner", ["gpt-4", "llama"]), ("winner", ["not 0", "0"]), ("score", [0, 1]), ("rating", [1, 5]),
])
def test_what_may_mean_either_answer_is_refused(column: str, values: list[Any]) -> None:
    source = pairs(column, values, response_0="a", response_1="b")
    assert "--verdict" in refused(source, first="response_0", second="response_1", verdict=column)


def test_rows_without_a_verdict_are_left_out() -> None:
    source = pairs("winner", ["a", None, "b"], one="x", two="y")
    assert [found[::3] for found in imported(source, first="one", second="two", verdict="winner")] == [
        ("p0", "first"), ("p2", "second")]


def test_conversations_side_by_side_with_a_winner() -> None:  # as in Chatbot Arena
    rows = [{"model_a": "x", "conversation_a": [ASKED, GOOD], "conversation_b": [ASKED, BAD], "winner": winner}
            for winner in ("model_b", "tie", "tie (bothbad)", "model_a")]
    long = {"conversation_a": [ASKED, GOOD, ASKED, GOOD], "conversation_b": [ASKED, BAD, ASKED, BAD], "winner": "tie"}
    found = imported(write("in.jsonl", [*rows, long]), first="conversation_a", second="conversation_b",
                     verdict="winner")
    assert found == [("Hello? ", "Hi!", "No.", verdict) for verdict in ("second", "tie", "both_bad", "first")]


def test_lists_in_a_csv_and_a_column_for_each_winner() -> None:  # as in the arena's CSV
    told = io.StringIO()
    table = csv.writer(told)
    table.writerow(["id", "prompt", "response_a", "response_b", "winner_model_a", "winner_model_b", "winner_tie"])
    for at, marks in enumerate([(0, 1, 0), (1, 0, 0), (0, 0, 1)]):
        table.writerow([at, json.dumps(["Hello?"]), json.dumps(["Hi!"]), json.dumps(["No."]), *marks])
    table.writerow([8, json.dumps(["Hello?"]), json.dumps([None]), json.dumps(["No."]), 1, 0, 0])
    table.writerow([9, json.dumps(["a", "b"]), json.dumps(["1", "2"]), json.dumps(["1", "3"]), 1, 0, 0])
    Path("in.csv").write_text(told.getvalue())
    mapping = {"first": "response_a", "second": "response_b"}
    found = imported("in.csv", **mapping, verdict="winner_model_a,winner_model_b,winner_tie")
    assert found[:3] == [("Hello?", "Hi!", "No.", verdict) for verdict in ("second", "first", "tie")]
    turns = [said("user", "a"), said("assistant", "1"), said("user", "b")]
    assert (messages_of(found[3][0]), *found[3][1:]) == (turns, "2", "3", "first")
    assert "--verdict" in refused("in.csv", **mapping, verdict="winner_model_a")
    assert "one should be 1" in refused("in.csv", **mapping, verdict="winner_model_a,winner_model_b")


def test_messages_in_a_csv_are_read_as_json_and_not_as_python_writes_them() -> None:
    for dump, count in ((json.dumps, 1), (str, 0)):
        told = io.StringIO()
        csv.writer(told).writerows([["prompt", "chosen", "rejected"],
                                    ["Hello?", dump([ASKED, GOOD]), dump([ASKED, BAD])]])
        Path("in.csv").write_text(told.getvalue())
        if count:
            assert imported("in.csv") == [("Hello? ", "Hi!", "No.", "first")]
        else:
            assert "save them as JSON" in refused("in.csv")
    assert imported(write("in.jsonl", [{"prompt": "A list?", "chosen": '["a"]', "rejected": '["b", "c"]'}])) == [
        ("A list?", '["a"]', '["b", "c"]', "first")]


def test_nested_columns_are_named_by_dots() -> None:  # as in summarize_from_feedback, Nectar and WebGPT
    rows = [{"info": {"post": f"Long{at}", "title": None}, "choice": at,
             "summaries": [{"text": "a", "policy": "x"}, {"text": "b", "policy": "y"}]} for at in (0, 1)]
    source = write("in.jsonl", rows)
    mapping = {"prompt": "info.post", "first": "summaries.0.text", "second": "summaries.1.text"}
    found = imported(source, **mapping, verdict="choice")
    assert found == [("Long0", "a", "b", "first"), ("Long1", "a", "b", "second")]
    # what is there is told in the same form
    assert "info.post" in refused(source, **mapping | {"prompt": "info"}, verdict="choice")
    assert "summaries.0.text" in refused(source, **mapping | {"second": "summaries.5.text"}, verdict="choice")
    ranked = [{"prompt": "p", "answers": [{"answer": "best", "rank": 1}, {"answer": "mid", "rank": 2},
                                          {"answer": "worst", "rank": 3}]}]
    assert imported(write("in.jsonl", ranked), chosen="answers.0.answer", rejected="answers.-1.answer") == [
        ("p", "best", "worst", "first")]


def test_a_system_message_is_part_of_the_prompt() -> None:  # as in Orca's pairs
    row = {"system": "Be kind.", "question": "Hello?", "chosen": "Hi!", "rejected": "No."}
    found = imported(write("in.jsonl", [row, row | {"system": "", "question": "Who?"}]), prompt="question")
    assert messages_of(found[0][0]) == [said("system", "Be kind."), said("user", "Hello?")]
    assert [found[1][0], found[0][1]] == ["Who?", "Hi!"]
    result = call("import", write("in.jsonl", [row | {"instruction": "Shout."}]), "out.jsonl", "--map",
                  "prompt=question")
    assert "instruction" in result.stderr  # of which nothing is taken


def test_messages_of_other_names() -> None:  # as ShareGPT has them
    row = {"conversations": [{"from": "human", "value": "Hello?"}], "chosen": {"from": "gpt", "value": "Hi!"},
           "rejected": {"from": "gpt", "value": "No."}}
    assert imported(write("in.jsonl", [row]), prompt="conversations") == [("Hello?", "Hi!", "No.", "first")]


def test_answers_that_say_the_prompt_again_lose_it() -> None:
    rows = [{"prompt": f"Question {at}?", "chosen": f"Question {at}? Yes.", "rejected": f"Question {at}? No."}
            for at in range(3)]
    assert [found[1:3] for found in imported(write("in.jsonl", rows))] == [(" Yes.", " No.")] * 3
    rows.append({"prompt": "Once", "chosen": "Twice", "rejected": "Once more"})
    assert imported(write("in.jsonl", rows))[0][1] == "Question 0? Yes."  # in all rows, or in none
    both = "\n\nHuman: Go.\n\nAssistant:"
    row = {"prompt": "Go.", "chosen": f"{both} Where?", "rejected": f"{both} No."}
    assert imported(write("in.jsonl", [row])) == [(both, " Where?", " No.", "first")]
