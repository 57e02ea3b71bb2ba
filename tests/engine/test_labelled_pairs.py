"""Label files as data: what is learned from, what is left out and told, and what a gzip'd or torn file gives."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from tiny_models import tiny_config

from rlhf_engine.config.methods.dpo import DPOConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.labelled_pairs import learned_pairs
from rlhf_engine.data.rows import load_data
from rlhf_engine.data.tables import Table
from rlhf_engine.errors import ConfigError
from rlhf_engine.files.json_text import to_json
from rlhf_engine.labels.judgement import Judgement, row
from rlhf_engine.labels.label_file import LabelFile
from rlhf_engine.labels.pair import Answer, Origin, Pair


class LearnsTies(DPOConfig):
    learns_ties = True


def judged(number: int, verdict: Any = "first", rater: str = "ann") -> Judgement:
    here = Origin("tuned")
    return Judgement(Pair(f"p{number}", Answer(f"a{number}", True, here), Answer(f"b{number}", False, here)), rater,
                     verdict, False, time="2026-01-02T03:04:05Z", seconds=1.0)


def config(source: Path, ties: bool = False, **data: Any) -> RunConfig:
    made = tiny_config(Path("nowhere"), data={"prompts": [], "source": str(source), **data})
    method = LearnsTies(kind="dpo") if ties else DPOConfig(kind="dpo")
    return made.model_copy(update={"algorithm": method})


@pytest.fixture
def label_file(tmp_path: Path) -> Path:
    """Five lines, of which the fourth is in the place of the first, and one that is torn."""
    path = tmp_path / "labels.jsonl"
    lines = [judged(1), judged(2, "skip"), judged(3, "tie"), judged(1, "second"), judged(4, "both_bad"), judged(5)]
    path.write_text("\n".join(to_json(row(one)) for one in lines) + '\n{"prompt": "p6", "cho')
    return path


def test_methods_that_need_a_winner_get_winners_alone_and_the_rest_is_told(label_file: Path) -> None:
    found = load_data(config(label_file))
    assert found.train.prompts == ["p1", "p5"]
    assert found.train.texts["chosen"] == ["b1", "a5"]
    assert found.train.columns["chosen_finished"] == [False, True]
    for told in ("4 of 6", "1 judged again", "1 skipped", "2 without a winner"):
        assert told in found.notice


@pytest.mark.parametrize("columns", [[], ["rater"]])
def test_methods_that_learn_ties_get_them_marked(label_file: Path, columns: list[str]) -> None:
    found = load_data(config(label_file, ties=True, columns=columns))
    assert dict(zip(found.train.prompts, found.train.columns["tie"], strict=True)) == {
        "p1": False, "p3": True, "p4": True, "p5": False}
    assert "rater" in found.train.columns
    assert "2 of 6" in found.notice


def test_a_label_file_that_is_being_written_to_can_be_learned_from(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    with LabelFile.open(path, rater="ann") as file:
        file.add(judged(1))
        file.add(judged(2))
        file.amend(judged(1, "second"))
        assert load_data(config(path)).train.texts["chosen"] == ["a2", "b1"]


def test_a_file_without_a_winner_or_of_skipped_pairs_is_told(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text(to_json(row(judged(1, "tie"))) + "\n" + to_json(row(judged(2, "skip"))) + "\n")
    with pytest.raises(ConfigError, match="none is left"):
        load_data(config(path))
    assert load_data(config(path, ties=True)).train.prompts == ["p1"]


def test_pairs_that_nobody_judged_here_are_taken_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    plain = {"prompt": "p", "chosen": "a", "rejected": "b", "verdict": "skip"}
    path.write_text((json.dumps(plain) + "\n") * 2)
    found = load_data(config(path))
    assert (len(found.train), found.notice) == (2, "")
    path.write_text(json.dumps({"prompt": "p", "chosen": "a", "rejected": "b", "tie": True}) + "\n"
                    + json.dumps({"prompt": "q", "chosen": "a", "rejected": "b", "tie": False}) + "\n")
    assert load_data(config(path)).train.prompts == ["q"]
    assert load_data(config(path, ties=True)).train.columns["tie"] == [True, False]


def test_rows_without_a_key_of_their_own_all_count() -> None:
    columns: dict[str, list[Any]] = {"pair": ["x", "x", None], "rater": ["a", "a", "a"], "repeat": [0, 0, 0],
                                     "verdict": ["first"] * 3, "prompt": ["1", "2", "3"]}
    found, said = learned_pairs(Table(columns, ""), "f", ties=False)
    assert found.columns["prompt"] == ["2", "3"]
    assert "1 judged again" in said


def test_gzip_is_unpacked_and_damage_told(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl.gz"
    packed = gzip.compress(b'{"prompt": "p", "chosen": "a", "rejected": "b"}\n' * 3)
    path.write_bytes(packed)
    assert load_data(config(path)).train.texts["rejected"] == ["b"] * 3
    for damaged in (packed[:-9], b"no gzip", packed[:20] + b"\xff\xff" + packed[22:]):
        path.write_bytes(damaged)
        with pytest.raises(ConfigError, match="gzip"):
            load_data(config(path))


def test_a_bad_line_is_named_by_its_number_whatever_stands_before_it(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    good = b'{"prompt": "p", "chosen": "a", "rejected": "b"}\n'
    for bad, said in ((b'{"prompt": "p", "chosen": null, "rejected": "b"}\n', ":4: the 'chosen'"),
                      (b'{"prompt": "caf\xe9"}\n', ":4: is not UTF-8"), (b'{"prompt": \n', ":4: is not JSON")):
        path.write_bytes(good + b"\n" + good + bad + good)
        with pytest.raises(ConfigError) as told:
            load_data(config(path))
        assert f"{path}{said}" in str(told.value)
