"""Label files: what is judged is on the disk, and comes back as it was."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_engine.errors import ConfigError, RunError
from rlhf_engine.files.json_text import to_json
from rlhf_engine.labels.judgement import VERDICTS, Judgement, from_row, row
from rlhf_engine.labels.label_file import LabelFile, label_path, read_labels
from rlhf_engine.labels.pair import Answer, Origin, Pair, shown_swapped

CAT = Answer("a cat", True, Origin("reference", "tiny", seed=3), 1.25)
DOG = Answer("a dog and a bone", False, Origin("checkpoint", "tiny", "run-1", 40, 7), -0.5)


def judged(number: int, verdict: str = "first", **others: object) -> Judgement:
    pair = Pair(f"Tell me of number {number}.", CAT, DOG, "unsure", 0.75)
    return replace(Judgement(pair, "ann", "first", False, time="2026-01-02T03:04:05.678Z", seconds=1.5),
                   verdict=verdict, **others)  # type: ignore[arg-type]


def test_a_pair_has_one_id_however_it_was_drawn() -> None:
    pair = Pair("p", CAT, DOG)
    assert pair.id == Pair("p", DOG, CAT).id
    assert len(pair.id) == 16
    assert pair.id != Pair("q", CAT, DOG).id
    assert Pair("p", replace(CAT, text="ab"), replace(DOG, text="c")).id \
        != Pair("p", replace(CAT, text="a"), replace(DOG, text="bc")).id


@given(st.text(), st.text(), st.text(), st.integers(0, 5))
def test_the_same_person_sees_the_same_text_on_the_left_however_a_pair_was_drawn(
    rater: str, one: str, other: str, repeat: int
) -> None:
    pair = Pair("p", replace(CAT, text=one), replace(DOG, text=other))
    turned = Pair("p", pair.second, pair.first)
    left = (pair.second if shown_swapped(pair, rater, repeat) else pair.first).text
    assert left == (turned.second if shown_swapped(turned, rater, repeat) else turned.first).text
    assert shown_swapped(pair, rater, repeat + 1) != shown_swapped(pair, rater, repeat)


def test_either_order_is_shown_about_half_of_the_time() -> None:
    swapped = sum(shown_swapped(Pair(str(number), CAT, DOG), "ann") for number in range(1000))
    assert 430 < swapped < 570


@given(st.sampled_from(VERDICTS), st.booleans(), st.integers(0, 3), st.text(), st.text(), st.booleans())
def test_a_line_gives_back_the_judgement(
    verdict: str, swapped: bool, repeat: int, note: str, text: str, flag: bool
) -> None:
    before = judged(1, verdict, swapped=swapped, repeat=repeat, note=note, flag=flag,
                    pair=Pair(text, replace(CAT, text=text), DOG, "gap"))
    assert from_row(json.loads(to_json(row(before)))) == before


@pytest.mark.parametrize(("verdict", "swapped", "chosen", "shown"), [
    ("first", False, CAT, "chosen_left"), ("first", True, CAT, "chosen_right"),
    ("second", False, DOG, "chosen_right"), ("second", True, DOG, "chosen_left"),
    ("tie", False, CAT, "first_left"), ("tie", True, DOG, "first_right"),
    ("both_bad", True, DOG, "first_right"), ("skip", False, CAT, "first_left"),
])
def test_a_line_says_which_was_chosen_and_where_it_stood(
    verdict: str, swapped: bool, chosen: Answer, shown: str
) -> None:
    line = row(judged(1, verdict, swapped=swapped))
    assert (line["chosen"], line["chosen_score"], line["shown"]) == (chosen.text, chosen.score, shown)
    assert {line["chosen"], line["rejected"]} == {CAT.text, DOG.text}
    assert line["tie"] == (verdict in ("tie", "both_bad"))


def test_what_was_judged_is_read_again_and_added_to(tmp_path: Path) -> None:
    path = label_path("animals", tmp_path / "labels")
    with LabelFile.open(path, rater="ann") as file:
        assert not path.parent.exists()  # nothing is made for nothing
        file.add(judged(1))
        assert read_labels(path) == [judged(1)]  # before it is closed
        file.add(judged(2, "tie"))
    with LabelFile.open(path, rater="ann") as file:
        assert file.judgements == [judged(1), judged(2, "tie")]
        file.add(judged(3, "skip"))
    assert read_labels(path) == [judged(1), judged(2, "tie"), judged(3, "skip")]
    assert path.stat().st_mode & 0o077 == 0


def test_a_later_line_is_in_the_place_of_an_earlier_one_and_closing_leaves_that_out(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    with LabelFile.open(path, rater="ann") as file:
        for number in (1, 2):
            file.add(judged(number))
        file.amend(judged(1, "second", note="on second thoughts"))
        assert len(path.read_text().splitlines()) == 3
        assert read_labels(path) == file.judgements == [judged(1, "second", note="on second thoughts"), judged(2)]
    assert len(path.read_text().splitlines()) == 2
    assert read_labels(path)[0].verdict == "second"
    with LabelFile.open(path, rater="ann") as file:
        with pytest.raises(ValueError, match="amended"):
            file.add(judged(2))
        with pytest.raises(ValueError, match="not judged"):
            file.amend(judged(5))


def test_columns_of_others_outlive_a_replacement_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text(to_json(row(judged(1)) | {"topic": "pets"}) + "\n")
    with LabelFile.open(path, rater="ann") as file:
        file.add(judged(2))
        file.amend(judged(2, "tie"))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line.get("topic") for line in lines] == ["pets", None]


@pytest.mark.parametrize("cut", [1, 5, 60, -2])
def test_a_line_that_a_crash_tore_is_left_out_and_costs_no_other(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "labels.jsonl"
    line = to_json(row(judged(1)))
    path.write_text(f"{line}\n{line[:cut]}")
    assert read_labels(path) == [judged(1)]
    with LabelFile.open(path, rater="ann") as file:
        assert "within a line" in file.notices[0]
        file.add(judged(2))
    assert read_labels(path) == [judged(1), judged(2)]


def test_zeros_that_a_power_cut_left_are_no_judgement_and_lines_of_other_ends_are_not_torn(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    lines = [to_json(row(judged(number))) for number in (1, 2)]
    path.write_text(f"{lines[0]}\n" + "\0" * 40)
    with LabelFile.open(path, rater="ann") as file:
        assert "within a line" in file.notices[0]
        file.add(judged(2))
    assert read_labels(path) == [judged(1), judged(2)]
    whole = "\r".join(lines) + "\r"
    path.write_bytes(whole.encode())
    with pytest.raises(ConfigError, match="JSON"), LabelFile.open(path, rater="ann") as file:
        file.add(judged(3))
    assert path.read_bytes() == whole.encode()


def test_a_last_line_that_lacks_no_more_than_its_end_counts(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text(to_json(row(judged(1))))
    with LabelFile.open(path, rater="ann") as file:
        assert not file.notices
        file.add(judged(2))
    assert read_labels(path) == [judged(1), judged(2)]


def test_a_judgement_is_on_the_disk_when_it_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, synced, fsync = tmp_path / "labels.jsonl", list[int](), os.fsync

    def record(handle: int) -> None:
        fsync(handle)
        if path.exists() and os.path.samestat(os.fstat(handle), os.stat(path)):
            synced.append(path.stat().st_size)

    monkeypatch.setattr(os, "fsync", record)
    with LabelFile.open(path, rater="ann") as file:
        for keep, judgement in ((file.add, judged(1)), (file.add, judged(2)), (file.amend, judged(1, "second"))):
            keep(judgement)
            assert synced[-1] == path.stat().st_size


def test_a_disk_that_takes_half_a_line_takes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, write = tmp_path / "labels.jsonl", os.write

    def half(handle: int, data: bytes) -> int:
        monkeypatch.setattr(os, "write", full)
        return write(handle, data[:len(data) // 2])

    def full(handle: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "full")

    with LabelFile.open(path, rater="ann") as file:
        file.add(judged(1))
        before = path.read_bytes()
        monkeypatch.setattr(os, "write", half)
        with pytest.raises(RunError):
            file.add(judged(2))
        assert path.read_bytes() == before
        monkeypatch.setattr(os, "write", write)
        file.add(judged(2))
    assert [judgement.pair for judgement in read_labels(path)] == [judged(1).pair, judged(2).pair]


def test_two_do_not_write_to_one_file_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    with LabelFile.open(path, rater="ann") as file:
        file.add(judged(1))
        with pytest.raises(RunError, match="another"):
            LabelFile.open(path, rater="bob")
    with LabelFile.open(path, rater="bob") as file:
        file.add(judged(1, rater="bob"))
    assert [judgement.rater for judgement in read_labels(path)] == ["ann", "bob"]


def test_a_file_that_an_editor_replaced_meanwhile_is_written_to(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    with LabelFile.open(path, rater="ann") as file:
        file.add(judged(1))
        (tmp_path / "new").write_text(to_json(row(judged(1, note="edited"))) + "\n")
        os.replace(tmp_path / "new", path)
        file.add(judged(2))
    assert read_labels(path) == [judged(1, note="edited"), judged(2)]


def test_rows_of_a_plain_preference_file_all_count(tmp_path: Path) -> None:
    path = tmp_path / "plain.jsonl"
    path.write_text("\ufeff" + '{"prompt": "p", "chosen": "a", "rejected": "b"}\r\n\n' * 2
                    + '{"prompt": "p", "chosen": "b", "rejected": "a"}')
    found = read_labels(path)
    assert [judgement.chosen.text for judgement in found] == ["a", "a", "b"]
    assert [judgement.repeat for judgement in found] == [0, 1, 2]


@pytest.mark.parametrize(("content", "said"), [
    (b"notes of mine", ":1: is not JSON"),
    (b'{"prompt": "p"}\n', "'chosen'"),
    (b'{"prompt": "p", "chosen": ["x"], "rejected": "b"}\n', "'chosen' is a list"),
    (b'{"prompt": "p", "chosen": "a", "rejected": "b", "verdict": "left"}\n', "both_bad"),
    (b'{"prompt": "p", "chosen": "a", "rejected": "b", "guess": 3}\n', "probability"),
    (b'{"prompt": "p", "chosen": "a", "rejected": "b", "repeat": -1}\n', "'repeat'"),
    (b'{"prompt": "p", "chosen": "a", "rejected": "b", "chosen_origin": "me"}\n', "origin"),
    (b'{"prompt": "p", "chosen": "a", "rejected": "b"}\n{"prompt": "p\xe9"}\n', ":2: is not UTF-8"),
    (b'["prompt"]\n', "object"),
])
def test_what_is_no_label_file_is_told_and_left_as_it_is(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_bytes(content)
    for door in (lambda: read_labels(path), lambda: LabelFile.open(path, rater="ann")):
        with pytest.raises(ConfigError) as told:
            door()
        assert said in str(told.value)
        assert str(path) in str(told.value)
    assert path.read_bytes() == content


def test_there_is_a_sentence_for_no_file_and_for_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no label file"):
        read_labels(tmp_path / "none.jsonl")
    with pytest.raises(ConfigError, match="folder"):
        read_labels(tmp_path)
    with pytest.raises(RunError):
        LabelFile.open(tmp_path, rater="ann")


WHOLE = "".join(to_json(row(judged(number, VERDICTS[number % 5]))) + "\n" for number in range(4)).encode()


@given(st.integers(0, len(WHOLE)), st.integers(0, len(WHOLE)), st.binary(max_size=12))
def test_whatever_befalls_a_file_what_can_be_read_of_it_outlives_the_next_judgement(
    tmp_path_factory: pytest.TempPathFactory, start: int, end: int, put: bytes
) -> None:
    """Some bytes of it are replaced by others. Then it is refused and stays as it is, or all that is read stays."""
    path = tmp_path_factory.mktemp("damaged") / "labels.jsonl"
    damaged = WHOLE[:min(start, end)] + put + WHOLE[max(start, end):]
    path.write_bytes(damaged)
    try:
        before = read_labels(path)
    except ConfigError:
        with pytest.raises(ConfigError):
            LabelFile.open(path, rater="ann")
        assert path.read_bytes() == damaged
        return
    new = judged(9, rater="bob")
    with LabelFile.open(path, rater="bob") as file:
        assert file.judgements == before
        file.add(new)
    assert read_labels(path) == [*before, new]
