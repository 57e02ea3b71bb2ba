"""What a run survives: the table of faults, each row with the tests that show it.

Rows whose faults are rather made by hand than by force are tested beside the code that meets them; the table below says
where, and a test holds it to that.
"""

from __future__ import annotations

import ast
import json
import subprocess
from pathlib import Path

import pytest
import warm
from faults.storm import LONGEST_SILENCE, storm

TESTS = Path(__file__).parents[1]
HERE = "faults/test_faults.py"

# fault -> where it is tested (file: the beginnings of test names)
TABLE = {
    "SIGKILL at any moment, in a save too": {
        HERE: ["test_killed_again_and_again"], "engine/test_checkpoint.py": ["test_killed_at_any_moment"]},
    "a flipped byte or a truncation in a checkpoint": {
        HERE: ["test_scenario"], "engine/test_checkpoint.py": ["test_damage_is_found", "test_every_flipped_byte"],
        "test_cli.py": ["test_verify_says"]},
    "disk full": {
        HERE: ["test_scenario"],
        "engine/test_checkpoint.py": ["test_a_full_disk_is_one_sentence", "test_whatever_the_libraries_raise"],
        "engine/test_trainer.py": ["test_a_full_disk_ends_the_run"]},
    "NaN or infinity in reward, loss or gradient": {
        "engine/test_divergence.py": ["test_a_step_that_is_not_finite", "test_too_many_in_a_row", "test_a_run_may_go"]},
    "NaN or infinity in the distribution that is sampled from": {
        "engine/test_sampled_nan.py": ["test_whatever_the_probabilities", "test_weights_that_broke_between_saves",
                                       "test_weights_that_broke_are_gone_back_from", "test_generate_and_compare_say"]},
    "out of memory": {
        "engine/test_memory.py": ["test_twice_out_of_memory", "test_the_user_sees_it"],
        "engine/test_decoding.py": ["test_out_of_memory_while_capturing"]},
    "a reward that raises, or returns NaN or the wrong number": {
        "engine/test_reward_sum.py": ["test_"],
        "engine/test_trainer.py": ["test_a_broken_reward_stops_the_run"]},
    "SIGTERM, and a second one": {
        HERE: ["test_scenario"], "test_cli.py": ["test_an_interrupted_run_is_saved", "test_a_second_interrupt"]},
    "the terminal goes away": {
        "tui/test_hand_over.py": ["test_when_the_terminal_goes_away", "test_a_command_whose_terminal",
                                  "test_a_hand_over_that_fails"],
        "tui/test_leaving.py": ["test_a_terminal_that_goes_away"]},
    "two processes on one run": {
        HERE: ["test_scenario"],
        "tui/test_hand_over.py": ["test_a_second_process_watches", "test_a_run_left_running_is_watched_and_taken_over"],
        "tui/test_viewing.py": ["test_nothing_that_would_change", "test_taking_over_waits"],
        "engine/test_run_dir.py": ["test_a_second_process_is_refused"],
        "engine/test_trainer.py": ["test_two_processes_never", "test_a_checkpoint_that_is_saved_just_before"]},
    "a torn last line, fields of a newer version": {
        "engine/test_follow.py": ["test_any_cut", "test_what_cannot_be_read"],
        "engine/test_run_dir.py": ["test_a_torn_end", "test_no_bytes_in_a_file", "test_fields_of_a_newer"]},
    "a wrong key, type or range in a preset or --set": {"engine/test_presets.py": ["test_any_set_of_wrong_types"]},
    "a terminal too small, resized at any moment, none at all, nonsense typed": {
        HERE: ["test_a_storm"], "tui/test_workbench.py": ["test_a_tiny_terminal"],
        "test_cli.py": ["test_without_a_terminal"]},
    "an unknown model, no network, no such folder": {
        "test_cli.py": ["test_a_model_that_cannot_be_had"],
        "engine/test_policy.py": ["test_a_model_that_is_not_there", "test_a_folder_that_holds_no_model"]},
    "code of models and of rewards": {
        "engine/test_model_code.py": ["test_a_model_s_own_code", "test_only_a_folder_or_a_whole_commit",
                                      "test_no_setting_can_ask", "test_pickled_weights"],
        "engine/test_function_reward.py": ["test_a_run_writes_down", "test_a_changed_file_is_refused",
                                           "test_files_in_a_run_s_directory"]},
    "secrets, other users, links, listeners, pickle": {
        HERE: ["test_scenario", "test_no_link"], "test_hygiene.py": ["test_nothing_unsafe", "test_no_module_imports"],
        "engine/test_run_dir.py": ["test_a_link_in_the_place", "test_names_stay_under"]},
}


@pytest.mark.parametrize("fault", TABLE)
def test_every_fault_of_the_table_has_its_tests(fault: str) -> None:
    for file, beginnings in TABLE[fault].items():
        tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
        names = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        for beginning in beginnings:
            assert any(name.startswith(beginning) for name in names), f"{file}: {beginning}"


def in_a_laboratory(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A module of this folder run in an interpreter of its own, whose forks can be hurt without hurting pytest."""
    return warm.run(["-m", f"faults.{module}", *arguments], cwd=TESTS.parent)


@pytest.mark.slow
def test_killed_again_and_again_a_run_is_the_run_that_nobody_touched(tmp_path: Path) -> None:
    done = in_a_laboratory("laboratory", str(tmp_path), "8", "0")  # `make soak` kills 500 times
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kills"] == 8
    assert found["while_saving"] >= 1
    assert found["steps"] >= 2
    assert found["most_steps_lost"] <= 2


@pytest.mark.slow
def test_a_storm_against_the_screen_of_a_training_run_leaves_whole_runs(tmp_path: Path) -> None:
    weather = storm(tmp_path, seconds=1, seed=0)  # `make soak` storms for half an hour
    assert weather.steps >= 1
    assert weather.actions.total() >= 40
    assert max(weather.answers) < LONGEST_SILENCE


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Scenario -> what went wrong, empty if nothing; played once for all tests."""
    done = in_a_laboratory("scenarios", str(tmp_path_factory.mktemp("scenarios")))
    assert done.returncode == 0, done.stderr
    return {row["name"]: row["problem"] for row in map(json.loads, done.stdout.splitlines())}


def _scenarios() -> list[str]:
    tree = ast.parse((Path(__file__).parent / "scenarios.py").read_text(encoding="utf-8"))
    (names,) = [node.value for node in tree.body if isinstance(node, ast.Assign)
                and getattr(node.targets[0], "id", "") == "SCENARIOS"]
    assert isinstance(names, ast.List)
    return [getattr(name, "id", "") for name in names.elts]


@pytest.mark.slow
@pytest.mark.parametrize("name", _scenarios())
def test_scenario(problems: dict[str, str], name: str) -> None:
    assert problems[name] == ""


def test_no_link_is_followed_for_writing(tmp_path: Path) -> None:
    from configs import SMALL

    from rlhf_engine.errors import RunError
    from rlhf_engine.runs import checkpoint
    from rlhf_engine.runs.run_dir import RunDir

    run, elsewhere = RunDir.create(tmp_path / "runs", SMALL, name="run"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "runs" / "link").symlink_to(run.path)
    with pytest.raises(RunError, match="symbolic link"), RunDir.open(tmp_path / "runs" / "link").lock():
        pass
    run.checkpoints.symlink_to(elsewhere)
    with pytest.raises(RunError, match="symbolic link"):
        checkpoint.save(run, checkpoint.TrainingState(1, {}, {}, SMALL), keep=1)
    (run.path / "run.lock").symlink_to(elsewhere / "lock")
    with pytest.raises(RunError, match="symbolic link"), run.lock():
        pass
    assert list(elsewhere.iterdir()) == []
