"""Runs renamed, noted, thrown away and brought back; and what is refused."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path

import pytest
from configs import SMALL

from rlhf_engine.config.fields import replace
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import CheckpointError, ConfigError, RunError
from rlhf_engine.events import EditApplied
from rlhf_engine.files.disk import remove_folder
from rlhf_engine.runs.checkpoint_list import config_at, steps
from rlhf_engine.runs.parent import Parent
from rlhf_engine.runs.run_care import empty_trash, list_trash, move_to_trash, rename_run, restore
from rlhf_engine.runs.run_dir import NOTE_LENGTH, RunDir
from rlhf_engine.runs.run_files import ABOUT
from rlhf_engine.runs.run_list import as_tree, figures, find_run, list_runs
from rlhf_engine.runs.run_settings import Difference, differences, fork_settings, settings_now


def make(root: Path, name: str, parent: RunDir | None = None, config: RunConfig = SMALL) -> RunDir:
    return RunDir.create(root, config, name=name, parent=Parent(parent.name, 3, parent.id) if parent else None)


def tree(root: Path) -> list[tuple[int, str]]:
    return [(depth, run.name) for depth, run in as_tree(sorted(list_runs(root), key=lambda run: run.name))]


def test_a_renamed_run_keeps_its_forks_and_its_note(tmp_path: Path) -> None:
    first = make(tmp_path, "first")
    make(tmp_path, "second", first)
    first.write_note("the one that learnt")
    renamed = rename_run(first, "zebra")
    assert (renamed.name, renamed.note) == ("zebra", "the one that learnt")
    make(tmp_path, "first")  # another run that bears the old name now is not the parent
    assert tree(tmp_path) == [(0, "first"), (0, "zebra"), (1, "second")]


def test_the_folder_one_stands_in_can_be_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make(tmp_path, "here").path)
    assert rename_run(find_run(".", tmp_path / "elsewhere"), "there").path == tmp_path / "there"


def test_runs_without_an_id_are_known_by_name(tmp_path: Path) -> None:
    parent = make(tmp_path, "old")
    make(tmp_path, "older", parent)
    for name in ("old", "older"):
        about = json.loads((tmp_path / name / ABOUT).read_text())
        about.pop("id")
        (about["parent"] or {}).pop("id", None)
        (tmp_path / name / ABOUT).write_text(json.dumps(about))
    assert tree(tmp_path) == [(0, "old"), (1, "older")]


@pytest.mark.parametrize("act", [lambda run: rename_run(run, "other"), move_to_trash], ids=["rename", "throw away"])
def test_a_run_that_is_driven_is_left_alone(tmp_path: Path, act) -> None:
    run = make(tmp_path, "held")
    with run.lock(), pytest.raises(RunError, match="held is driven by another process"):
        act(RunDir.open(run.path))
    assert [found.name for found in list_runs(tmp_path)] == ["held"]


@pytest.mark.parametrize("act", [lambda run: rename_run(run, "other"), move_to_trash, lambda run: run.write_note("x")])
def test_links_are_refused(tmp_path: Path, act) -> None:
    make(tmp_path / "elsewhere", "real")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "elsewhere" / "real")
    with pytest.raises(RunError, match="symbolic link"):
        act(RunDir.open(tmp_path / "runs" / "link"))
    assert (tmp_path / "runs" / "link").is_symlink()


@pytest.mark.parametrize(("name", "said"),
                         [("../x", "not allowed"), ("", "not allowed"), ("b", "already a run named b")])
def test_a_name_not_allowed_or_taken_changes_nothing(tmp_path: Path, name: str, said: str) -> None:
    run = make(tmp_path, "a")
    make(tmp_path, "b")
    with pytest.raises(RunError, match=said):
        rename_run(run, name)
    assert run.config() == SMALL


def test_what_is_thrown_away_can_be_brought_back_whole(tmp_path: Path) -> None:
    run = make(tmp_path, "a")
    run.append_metrics(1, 0.5, {"objective/scores": 1.0})
    trashed = move_to_trash(run)
    assert list_runs(tmp_path) == []
    assert stat.S_IMODE((tmp_path / ".trash").stat().st_mode) == 0o700
    assert [(found.entry, found.bytes) for found in list_trash(tmp_path)] == [("a", trashed.bytes)]
    assert trashed.bytes > 0
    assert restore(tmp_path, "a").metrics()[0].step == 1
    assert list_trash(tmp_path) == []


def test_two_runs_of_one_name_both_lie_in_the_trash(tmp_path: Path) -> None:
    for note in ("one", "two"):
        run = make(tmp_path, "a")
        run.write_note(note)
        move_to_trash(run)
    assert restore(tmp_path, "a@2").note == "two"
    with pytest.raises(RunError, match="a run named a in"):
        restore(tmp_path, "a")
    with pytest.raises(RunError, match="no run 'b' in the trash"):
        restore(tmp_path, "b")
    assert empty_trash(tmp_path)[0] == 1
    assert [run.note for run in list_runs(tmp_path)] == ["two"]


def test_a_trash_that_leads_elsewhere_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "a").mkdir()
    run = make(tmp_path / "runs", "a")
    (tmp_path / "runs" / ".trash").symlink_to(tmp_path / "precious")
    for act in (lambda: move_to_trash(run), lambda: empty_trash(tmp_path / "runs")):
        with pytest.raises(RunError, match="symbolic link"):
            act()
    assert (tmp_path / "precious" / "a").is_dir()


def test_emptying_follows_no_link_and_says_what_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("x")
    for name in ("a", "b"):
        run = make(tmp_path, name)
        (run.path / "link").symlink_to(tmp_path / "precious")
        move_to_trash(run)
    real = remove_folder

    def refuse(path: Path) -> None:
        if path.name == "a":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        real(path)

    monkeypatch.setattr("rlhf_engine.runs.run_care.remove_folder", refuse)
    with pytest.raises(RunError, match="a could not be removed: the disk is read-only"):
        empty_trash(tmp_path)
    assert [trashed.entry for trashed in list_trash(tmp_path)] == ["a"]
    assert (tmp_path / "precious" / "file").exists()


def test_a_run_with_folders_deeper_than_a_path_can_name_is_removed_whole(tmp_path: Path) -> None:
    run = make(tmp_path, "deep")
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(run.path)
        for _ in range(5000):
            os.mkdir("folder")
            os.chdir("folder")
            os.close(os.open("file", os.O_CREAT | os.O_WRONLY))
    finally:
        os.fchdir(here)
        os.close(here)
    assert [found.name for found in list_runs(tmp_path)] == ["deep"]
    move_to_trash(rename_run(run, "deeper"))
    assert empty_trash(tmp_path)[0] == 1
    assert list_trash(tmp_path) == []
    assert list_runs(tmp_path) == []


def test_a_note_is_kept_without_what_a_terminal_obeys_and_refused_when_too_long(tmp_path: Path) -> None:
    run = make(tmp_path, "a")
    for text in ("plain", "two\nlines [/x]\t\\", "", "two\nlines \x1b[2J"):  # people look at the file with cat
        run.write_note(text)
        assert run.note == text.replace("\x1b", "␛")
    run.write_note("\ud83dx" + "y" * (NOTE_LENGTH - 2))
    assert run.note == "\ufffdx" + "y" * (NOTE_LENGTH - 2)
    with pytest.raises(RunError, match=f"not kept: it has {NOTE_LENGTH + 5} characters, 5 more than the {NOTE_LENGTH}"):
        run.write_note("z" * (NOTE_LENGTH + 5))
    assert run.note.startswith("\ufffdx")
    (run.path / "note.txt").write_bytes(b"\xff\xfe ok")
    assert run.note.endswith(" ok")


def test_figures_are_of_the_last_readable_step(tmp_path: Path) -> None:
    run = make(tmp_path, "a")
    assert (figures(run).score, figures(run).checkpoints) == (None, ())
    for step in range(1, 2000):
        run.append_metrics(step, 0.5, {"objective/scores": step / 2, "objective/kl": 2.0, "filler/x": 1 / 3})
    with open(run.path / "metrics.jsonl", "a") as file:
        file.write('{"step": 2000, "torn')
    found = figures(run)
    assert (found.score, found.kl) == (999.5, 2.0)
    assert found.bytes > 60_000


def test_a_run_that_goes_while_they_are_listed_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a")
    gone = make(tmp_path, "b")
    before = RunDir.status

    def status(self: RunDir):
        if self.path == gone.path:
            move_to_trash(gone)
        return before(self)

    monkeypatch.setattr(RunDir, "status", status)
    assert [run.name for run in list_runs(tmp_path)] == ["a"]


def test_only_what_differs_stands_side_by_side() -> None:
    other = replace(SMALL, {"kl.coef": 0.5, "rewards.0.liked": ["fox", "hen"]})
    assert differences(SMALL, SMALL) == []
    assert differences(SMALL, other) == [
        Difference("kl.coef", "0.1", "0.5"),
        Difference("rewards.0.liked", "owl; and 1 in both", "hen; and 1 in both"),
    ]
    single = SMALL.model_copy(update={"rewards": SMALL.rewards[1:]})
    found = {item.path: (item.left, item.right) for item in differences(SMALL, single)}
    assert found["rewards.0"] == ("word_list", "length")
    assert found["rewards.0.liked"] == ("fox, owl", None)
    assert found["rewards.1"] == ("length", None)


def test_settings_now_are_those_of_the_start_with_the_edits_made(tmp_path: Path) -> None:
    run = make(tmp_path, "a")
    run.append_edit(EditApplied(2, "kl.coef", 0.1, 0.7))
    run.append_edit(EditApplied(3, "no.such", 1, 2))
    assert settings_now(run) == replace(SMALL, {"kl.coef": 0.7})


def test_checkpoints_are_listed_without_torch(tmp_path: Path) -> None:
    run = make(tmp_path, "a")
    for step in (1, 12):
        folder = run.checkpoints / f"step-{step:06d}"
        folder.mkdir(parents=True)
        (folder / "state.json").write_text(json.dumps({"config": SMALL.model_dump()}))
    assert steps(run) == [12, 1]
    assert config_at(run, None) == config_at(run, 1) == SMALL
    with pytest.raises(CheckpointError, match="no checkpoint of step 5; there are those of steps 1, 12"):
        config_at(run, 5)
    (run.checkpoints / "step-000012" / "state.json").write_text("{")
    with pytest.raises(CheckpointError, match="damaged"):
        config_at(run, 12)


def test_a_fork_needs_steps_left_and_its_own_model() -> None:
    steps_left = SMALL.train.steps
    assert fork_settings(SMALL, steps_left - 1, {"kl.coef": 0.5}).kl.coef == 0.5
    with pytest.raises(ConfigError, match="needs more than that"):
        fork_settings(SMALL, steps_left, {})
    with pytest.raises(ConfigError, match="keeps the model"):
        fork_settings(SMALL, 0, {"model.name": "other"})
