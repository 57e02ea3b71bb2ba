"""Rows of files and datasets: what a run learns from, what is held out of it, and whether it is what it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_models import tiny_config

from rlhf_engine.config import fields, presets
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.batch import PromptBatch
from rlhf_engine.data.pinning import data_change, pinned_data, require_same_data
from rlhf_engine.data.prompt_order import rows_for_step
from rlhf_engine.data.rows import RunData, load_data
from rlhf_engine.data.source import BatchSource
from rlhf_engine.errors import ConfigError, DataChangedError

ROWS = [{"prompt": f"Prompt, the {place}th", "answer": place, "topic": "a\nb" if place % 2 else "c"}
        for place in range(20)]


def config(source: object = None, **data: Any) -> RunConfig:
    prompts = {} if source else {"prompts": [row["prompt"] for row in ROWS]}
    return tiny_config(Path("nowhere"), data={"prompts": [], **prompts, "source": source and str(source), **data})


def jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return path


def csv_file(path: Path) -> Path:
    import csv

    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(ROWS[0]))
        writer.writeheader()
        writer.writerows(ROWS)
    return path


def parquet(path: Path, rows: list[Any] = ROWS) -> Path:
    arrow = pytest.importorskip("pyarrow", reason="the extra `data` is not installed")
    import pyarrow.parquet as parquet_files

    parquet_files.write_table(arrow.Table.from_pylist(rows), path)
    return path


def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path) -> None:
    found = load_data(config(jsonl(tmp_path / "rows.jsonl", ROWS))).train
    assert found.prompts == [row["prompt"] for row in ROWS]
    assert found.columns == {"answer": list(range(20)), "topic": [row["topic"] for row in ROWS]}
    assert load_data(config(csv_file(tmp_path / "rows.csv"))).train.prompts == found.prompts
    assert load_data(config(csv_file(tmp_path / "rows.csv"))).train.columns["topic"] == found.columns["topic"]
    (tmp_path / "rows.txt").write_text("\n\n".join(found.prompts))
    assert load_data(config(tmp_path / "rows.txt")).train.prompts == found.prompts
    assert load_data(config(parquet(tmp_path / "rows.parquet"))).train == found


def test_a_folder_of_parquet_files_is_read_by_its_split(tmp_path: Path) -> None:
    parquet(tmp_path / "train-00000-of-00002.parquet", ROWS[:7])
    parquet(tmp_path / "train-00001-of-00002.parquet", ROWS[7:15])
    parquet(tmp_path / "test-00000-of-00001.parquet", ROWS[15:])
    assert load_data(config(tmp_path)).train.prompts == [row["prompt"] for row in ROWS[:15]]
    assert load_data(config(tmp_path, split="test")).train.columns["answer"] == [15, 16, 17, 18, 19]
    with pytest.raises(ConfigError, match="other"):
        load_data(config(tmp_path, split="other"))


def test_a_folder_that_datasets_saved_is_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the extra `data` is not installed")
    saved = datasets.Dataset.from_list(ROWS)
    saved.save_to_disk(str(tmp_path / "one"))
    assert load_data(config(tmp_path / "one")).train.columns["answer"] == list(range(20))
    datasets.DatasetDict({"train": saved.select(range(5)), "eval": saved.select([7])}).save_to_disk(tmp_path / "both")
    assert len(load_data(config(tmp_path / "both")).train) == 5
    assert load_data(config(tmp_path / "both", split="eval")).train.prompts == [ROWS[7]["prompt"]]
    with pytest.raises(ConfigError, match="nine"):
        load_data(config(tmp_path / "both", split="nine"))


def test_columns_have_the_names_that_the_settings_say(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "rows.jsonl", [{"question": "Why?", "a": 1, "b": 2}])
    rows = load_data(config(source, prompt_column="question", columns=["b"])).train
    assert (rows.prompts, rows.columns) == (["Why?"], {"b": [2]})
    for wrong in ({}, {"prompt_column": "question", "columns": ["c"]}):
        with pytest.raises(ConfigError, match="question"):
            load_data(config(source, **wrong))


@pytest.mark.parametrize("content", [
    b"", b"\n \n", b"not json", b"[1, 2]", b'{"prompt": 3}', b'{"other": "x"}', b'{"prompt": "\\ud800"}', b"\xff\xfe",
    b"[" * 100_000, b'{"prompt": ["a", "b"]}',
])
def test_a_file_that_holds_no_prompts_is_refused_in_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rows.jsonl").write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        load_data(config(tmp_path / "rows.jsonl"))
    assert len(refused.value.problems) == 1
    assert "rows.jsonl" in str(refused.value)


@pytest.mark.parametrize("content", [
    "", "prompt\n", "prompt,prompt\na,b\n", "prompt,answer\na\n", "prompt,answer\na,b,c\n", 'prompt\n"a\n',
    "prompt\na\0b\n" * 2 + '"',
])
def test_a_csv_file_that_is_none_is_refused_in_a_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "rows.csv").write_text(content)
    with pytest.raises(ConfigError, match=r"rows\.csv"):
        load_data(config(tmp_path / "rows.csv"))


@pytest.mark.parametrize("make", [
    lambda path: None, lambda path: path.mkdir(), lambda path: path.write_bytes(b"PAR1 and more"),
    lambda path: path.write_bytes(b""),
])
def test_what_is_no_parquet_file_is_refused_in_a_sentence(tmp_path: Path, make: Any) -> None:
    pytest.importorskip("pyarrow", reason="the extra `data` is not installed")
    path = tmp_path / "rows.parquet"
    make(path)
    with pytest.raises(ConfigError, match=r"rows\.parquet"):
        load_data(config(path))


@pytest.mark.parametrize("source", ["a\0b", "a\0b.txt", "~nobody-here/prompts.txt"])
@pytest.mark.parametrize("read", [load_data, pinned_data, data_change])
def test_a_source_that_no_disk_could_have_is_refused_in_a_sentence(source: str, read: Any) -> None:
    with pytest.raises(ConfigError, match=r"data\.source"):
        read(config(source))


def test_a_source_that_would_not_end_is_not_opened() -> None:
    with pytest.raises(ConfigError, match="zero"):
        load_data(config("/dev/zero"))


# --- order, and what is held out ---


def taken(data: RunData, run: RunConfig, step: int) -> PromptBatch:
    batch = BatchSource(data.train, run).batch(step)
    assert isinstance(batch, PromptBatch)
    return batch


def test_batches_keep_rows_together_and_repeat_themselves(tmp_path: Path) -> None:
    run = config(jsonl(tmp_path / "rows.jsonl", ROWS))
    batches = [taken(load_data(run), run, step) for step in range(5)]  # 40 rows: each twice
    answers = [answer for batch in batches for answer in batch.columns["answer"]]
    assert sorted(answers) == sorted([*range(20)] * 2)
    assert [prompt for batch in batches for prompt in batch.prompts] == [ROWS[answer]["prompt"] for answer in answers]
    assert taken(load_data(run), run, 3) == batches[3]
    assert answers[:20] != list(range(20))
    in_order = fields.replace(run, {"data.shuffle": False})
    assert taken(load_data(in_order), in_order, 2).columns["answer"] == [16, 17, 18, 19, 0, 1, 2, 3]


def test_lists_are_drawn_from_as_ever() -> None:
    run = config()
    assert taken(load_data(run), run, 4).prompts == [
        run.data.prompts[row] for row in rows_for_step(len(run.data.prompts), 4, 8, run.train.seed)]


def test_what_is_held_out_is_never_trained_on(tmp_path: Path) -> None:
    rows = [*ROWS, {"prompt": ROWS[3]["prompt"], "answer": 99, "topic": ""}]
    source = jsonl(tmp_path / "rows.jsonl", rows)
    run = config(source, held_out_share=0.25, held_out=[ROWS[0]["prompt"], "one that is no row"])
    data = load_data(run)
    assert not set(data.train.prompts) & set(data.held_out.prompts)
    assert set(data.train.prompts) | set(data.held_out.prompts) == {row["prompt"] for row in rows} | {
        "one that is no row"}
    assert data.held_out.prompts[:2] == [ROWS[0]["prompt"], "one that is no row"]
    assert data.held_out.columns["answer"][:2] == [0, None]
    assert len(set(data.held_out.prompts)) == 2 + 5
    other = fields.replace(run, {"train.seed": 7})
    assert load_data(other).held_out == data.held_out
    jsonl(source, rows[::-1])
    assert set(load_data(run).held_out.prompts) == set(data.held_out.prompts)


def test_something_must_be_left_to_learn_from() -> None:
    with pytest.raises(ConfigError, match="held_out"):
        load_data(config(held_out=[row["prompt"] for row in ROWS]))


# --- what a run writes down ---


def test_a_run_knows_its_data_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = jsonl(tmp_path / "rows.jsonl", ROWS)
    monkeypatch.chdir(tmp_path)
    run = pinned_data(config("rows.jsonl"))
    assert run.data.source == str(source.resolve())
    require_same_data(run)
    assert pinned_data(run) == run
    jsonl(source, ROWS[1:])
    with pytest.raises(DataChangedError):
        require_same_data(run)
    with pytest.raises(ConfigError, match="sha256"):
        pinned_data(run)
    change = data_change(run)
    assert change is not None
    accepted = fields.replace(run, {change.path: change.new})
    require_same_data(accepted)
    source.unlink()
    with pytest.raises(ConfigError, match=r"rows\.jsonl"):
        require_same_data(accepted)


def test_data_that_a_run_does_not_vouch_for_is_asked_about(tmp_path: Path) -> None:
    with pytest.raises(DataChangedError):
        require_same_data(config(jsonl(tmp_path / "rows.jsonl", ROWS)))


@pytest.mark.parametrize("make", [lambda folder: parquet(folder / "rows.parquet"), lambda folder: _saved(folder)])
def test_a_folder_is_known_again(tmp_path: Path, make: Any) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    make(folder)
    run = pinned_data(config(folder))
    require_same_data(run)
    next(file for file in folder.rglob("*") if file.is_file()).rename(folder / "zzz.parquet")
    with pytest.raises(DataChangedError):
        require_same_data(run)


def _saved(folder: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the extra `data` is not installed")
    datasets.Dataset.from_list(ROWS).save_to_disk(str(folder))


# --- settings ---


def test_prompts_of_a_file_can_be_set_relative_to_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.txt").write_text("One\nTwo, and more\n")
    monkeypatch.chdir(tmp_path)
    for text in ("data.prompts=@own.txt", "prompts=@own.txt", "prompts=own.txt"):
        found = presets.load_with_overrides("animals", [text])
        assert found.data.prompts == ["One", "Two, and more"]
    found = presets.load_with_overrides("animals", ["data.held_out=@own.txt", "data.source=@own.txt"])
    assert found.data.held_out == ["One", "Two, and more"]
    assert pinned_data(fields.replace(found, {"data.held_out": []})).data.source == str(tmp_path / "own.txt")


def test_a_preset_names_its_source_relative_to_itself(tmp_path: Path) -> None:
    jsonl(tmp_path / "rows.jsonl", ROWS)
    preset = tmp_path / "own.toml"
    preset.write_text('[data]\nsource = "rows.jsonl"\nheld_out_share = 0.1\n'
                      '[[rewards]]\nkind = "length"\nname = "length"\nmin_words = 3\n')
    found = presets.load(str(preset))
    assert load_data(found).train.columns["answer"]
    assert found.data.source == str(tmp_path / "rows.jsonl")


@pytest.mark.parametrize("data", [{"system": "Be brief."}, {"prompts": ["a", "b"], "chosen": ["c"], "rejected": ["d"]},
                                  {"prompts": []}])
def test_settings_that_do_not_fit_are_refused(data: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        fields.validate({"data": {"prompts": ["a"], **data},
                         "rewards": [{"kind": "length", "name": "length", "min_words": 3}]})
