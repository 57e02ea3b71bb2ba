"""The command line: what it prints, what it exits with, and what it never does."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import warm
from configs import SMALL
from moments import Gate, wait_until
from tiny_models import save_tiny_model, tiny_config
from typer.testing import CliRunner, Result

from rlhf_engine.commands import console
from rlhf_engine.commands.cli import make_app
from rlhf_engine.config.preset_writer import to_toml
from rlhf_engine.events import RunState, StepFinished
from rlhf_engine.runs.run_dir import RunDir
from rlhf_tui.areas.preferences.preferences_file import SettingsFile
from rlhf_tui.cli import make_workbench_app
from rlhf_tui.start import preset_of_last_time

ROOT = Path(__file__).parents[1]
QUICK = ["sampling.max_new_tokens=6", "algorithm.responses_per_step=4", "algorithm.minibatch_size=2", "train.threads=1"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model"), "gpt_neo")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> tuple[Path, Result]:
    """Three steps of a tiny model, and what training printed; for tests that only look."""
    root = tmp_path_factory.mktemp("runs")
    where = ["--runs-dir", str(root), "--name", "first"]
    result = invoke("train", "animals", *sets(tiny, "train.steps=3"), *where, "--json")
    assert result.exit_code == 0, result.output
    return root, result


def sets(tiny: Path, *more: str) -> list[str]:
    return [word for text in (f"model.name={tiny}", *QUICK, *more) for word in ("--set", text)]


def invoke(*arguments: str, workbench: bool = False) -> Result:
    return CliRunner().invoke(make_workbench_app() if workbench else make_app(), list(arguments))


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    """An interrupted command keeps its handlers, for it is about to leave its process; this one goes on.

    SIGINT is heard here even if these tests were started in the background, where shells have it ignored.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


# --- training ---


def test_train_prints_json_lines_with_documented_keys(trained: tuple[Path, Result]):
    root, result = trained
    *steps, end = [json.loads(line) for line in result.stdout.splitlines()]
    assert [step["step"] for step in steps] == [1, 2, 3]
    shown = {"objective/scores", "objective/kl", "loss/policy_avg", "loss/value_avg", "throughput/responses_per_s"}
    for step in steps:
        assert set(step) == {"event", "step", "total_steps", "seconds", "metrics"}
        assert step["event"] == "step"
        assert shown <= set(step["metrics"])
    assert end == {"event": "end", "run": "first", "path": str(root / "first"), "state": "finished", "step": 3,
                   "total_steps": 3, "message": end["message"],
                   "checkpoint": str(root / "first" / "checkpoints" / "step-000003")}
    assert RunDir.open(root / "first").preset == "animals"


def test_progress_is_one_plain_line_a_step(tiny: Path, runs_root: Path):
    result = invoke("train", "animals", *sets(tiny, "train.steps=2"), "--runs-dir", str(runs_root))
    assert result.exit_code == 0
    lines = [line for line in result.stdout.splitlines() if line.startswith("step")]
    number = r"[+-]?\d+\.\d+"
    for step, line in enumerate(lines, 1):
        assert re.fullmatch(rf"step {step}/2  score {number}  KL {number} nats/response  policy loss {number}  "
                            rf"value loss {number}  {number} responses/s  ETA \d+:\d\d", line)
    assert len(lines) == 2
    assert "\r" not in result.stdout
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize(("loss", "shown"), [(-2.8e-10, "+0.0000"), (2.8e-10, "+0.0000"), (-0.0123, "-0.0123")])
def test_a_number_that_rounds_to_zero_has_no_sign_of_its_own(loss: float, shown: str):
    metrics = {"objective/scores": 1.0, "objective/kl": -0.001, "loss/policy_avg": loss}
    line = console.step_line(StepFinished(1, 2, metrics, (), 0.0), 0.0)
    assert f"policy loss {shown} " in line
    assert "KL 0.00 nats" in line


@pytest.fixture
def signal_at_a_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[signal.Signals], None]:
    """Sends this process a signal as soon as a step has been reported."""
    def send(number: signal.Signals) -> None:
        whole = console.step_line

        def line(event: StepFinished, seconds_left: float, charts: Sequence[str]) -> str:
            os.kill(os.getpid(), number)
            monkeypatch.setattr(console, "step_line", whole)
            return whole(event, seconds_left, charts)

        monkeypatch.setattr(console, "step_line", line)

    return send


def test_an_interrupted_run_is_saved_and_goes_on_where_it_stopped(
    tiny: Path, runs_root: Path, signal_at_a_step: Callable[[signal.Signals], None]
):
    signal_at_a_step(signal.SIGINT)
    result = invoke("train", "animals", *sets(tiny, "train.steps=4"), "--name", "long", "--runs-dir", str(runs_root))
    assert result.exit_code == 130
    run = RunDir.open(runs_root / "long")
    assert _state(run) == (RunState.STOPPED, 1)
    assert (run.checkpoints / "step-000001").is_dir()
    signal_at_a_step(signal.SIGTERM)
    assert invoke("resume", "long", "--runs-dir", str(runs_root)).exit_code == 143
    assert _state(run) == (RunState.STOPPED, 2)
    handler = signal.getsignal(signal.SIGINT)
    last = invoke("resume", str(run.path))
    assert last.exit_code == 0
    assert signal.getsignal(signal.SIGINT) is handler
    assert "resumed from step 2" in last.stdout
    assert _state(run) == (RunState.FINISHED, 4)
    assert [line.step for line in run.metrics()] == [1, 2, 3, 4]
    longer = ["--set", "train.steps=5", "--set", "kl.coef=0.7"]
    assert invoke("resume", str(run.path), *longer).exit_code == 0
    assert _state(run) == (RunState.FINISHED, 5)
    assert run.metrics()[-1].metrics["kl_coef"] == 0.7
    assert {edit.path for edit in run.edits()} == {"train.steps", "kl.coef"}
    refused = invoke("resume", str(run.path), "--set", "lora.rank=3")
    assert refused.exit_code == 2
    assert "lora.rank: cannot change within a run" in refused.stderr
    assert _state(run) == (RunState.FINISHED, 5)


def _state(run: RunDir) -> tuple[RunState, int]:
    status = run.status()
    assert status is not None
    return status.state, status.step


@pytest.mark.slow
def test_a_second_interrupt_leaves_at_once(tiny: Path, tmp_path: Path):
    gate = Gate(tmp_path / "gate")
    gate.close()
    (tmp_path / "held.toml").write_text(to_toml(tiny_config(tiny, rewards=[gate.reward])))
    child = warm.piped(["-m", "rlhf_engine", "train", "held.toml"], cwd=tmp_path)
    wait_until(lambda: gate.holds)
    child.process.send_signal(signal.SIGINT)
    while "once more leaves at once" not in child.stderr.readline():
        assert child.process.poll() is None
    child.process.send_signal(signal.SIGINT)
    # from within the step, which nobody has let go on
    assert child.process.wait() == 130, child.stderr.read()


@pytest.mark.slow
def test_a_reader_that_goes_away_stops_the_run_which_is_saved(tiny: Path, tmp_path: Path):
    child = warm.piped(["-m", "rlhf_engine", "train", "animals", *sets(tiny, "train.steps=5000"), "--name", "cut"],
                       cwd=tmp_path)
    while not (line := child.stdout.readline()).startswith("step"):
        assert line, child.stderr.read()
    child.stdout.close()
    assert child.process.wait() == 1
    assert "Traceback" not in child.stderr.read()
    assert _state(RunDir.open(tmp_path / "runs" / "cut"))[0] is RunState.STOPPED


# --- looking ---


def test_compare_prints_every_estimate(trained: tuple[Path, Result]):
    root, _ = trained
    result = invoke("compare", "first", "--runs-dir", str(root), "--responses", "6", "--seed", "1", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["run"], found["responses"], found["seed"]) == ("first", 6, 1)
    for side in ("reference", "tuned", "difference"):
        of_rewards = {key: row["value"] for key, row in found[side].items() if key.startswith("score/")}
        assert set(found[side]) - set(of_rewards) == {
            "liked_share", "disliked_share", "mean_score", "kl_nats_per_response", "distinct_1", "distinct_2",
            "mean_length"}
        assert "score/animals/liked" in of_rewards
        whole = [value for key, value in of_rewards.items() if key.count("/") == 1]
        assert sum(whole) == pytest.approx(found[side]["mean_score"]["value"])
        for estimate in found[side].values():
            assert set(estimate) == {"value", "low", "high"}
    table = invoke("compare", str(root / "first"), "--responses", "4")
    assert table.exit_code == 0
    assert re.search(r"score +-?\d", table.stdout)
    assert re.search(r"score: animals +-?\d", table.stdout)


def test_compare_holds_what_is_trained_against_best_of_n(trained: tuple[Path, Result]):
    root, _ = trained
    where = ["--runs-dir", str(root), "--responses", "6", "--seed", "1"]
    whole = json.loads(invoke("compare", "first", *where, "--pool", "128", "--json").stdout)
    found = whole["best_of_n"]
    assert found["reference"] is None
    assert {"kl", "score", "n", "n_at_kl", "share", "why"} <= set(found["tuned"])
    assert found["tuned"]["score"] == pytest.approx(whole["tuned"]["mean_score"]["value"])
    assert (found["tuned"]["share"] is None) == bool(found["tuned"]["why"])
    assert [set(point) for point in found["curve"]] == [{"n", "kl", "score"}] * len(found["curve"])
    assert (found["curve"][0]["n"], found["curve"][0]["kl"]) == (1, 0)
    assert found["curve"][-1]["n"] == found["responses_per_prompt"]
    assert found["responses_per_prompt"] * found["prompts"] <= 128
    none = json.loads(invoke("compare", "first", *where, "--pool", "0", "--json").stdout)
    assert {**none, "best_of_n": found} == whole
    both = json.loads(invoke("compare", "first@0", "first", *where, "--pool", "128", "--json").stdout)["best_of_n"]
    assert both["first"]["share"] is None  # nothing was learnt before the first step
    assert "KL" in both["first"]["why"]
    table = invoke("compare", "first", *where, "--pool", "128")
    assert "best-of-" in table.stdout
    assert "128/128" not in table.stderr  # the responses of the comparison are part of the pool


def test_compare_takes_any_two_checkpoints(trained: tuple[Path, Result]):
    root, _ = trained
    where = ["--runs-dir", str(root), "--responses", "4", "--json"]
    found = json.loads(invoke("compare", "first@0", "first", *where).stdout)
    assert (found["sides"], found["settings_of"]) == (["first@0", "first@3"], "first@0")
    assert {"first", "second", "difference"} < set(found)
    assert found["first"]["kl_nats_per_response"]["value"] == 0  # nothing was learnt before the first step
    untrained = json.loads(invoke("compare", "first@0", *where).stdout)
    assert (untrained["step"], untrained["difference"]["mean_score"]["value"]) == (0, 0)
    table = invoke("compare", "first", "first@0", *where[:-1])
    assert "first@3" in table.stdout.splitlines()[0]
    assert "prompts, sampling and rewards of first@3" in table.stderr
    assert invoke("compare", "first@9", *where).exit_code == 1


# --- keeping order ---


def test_runs_are_renamed_noted_deleted_and_restored(runs_root: Path):
    where = ["--runs-dir", str(runs_root)]
    RunDir.create(runs_root, SMALL, name="one")
    assert invoke("note", "one", "learnt\nfast \x1b[2J", *where).exit_code == 0
    assert invoke("note", "one", *where).stdout == "learnt\nfast ␛[2J\n"
    assert "renamed:" in invoke("rename", "one", "two", *where).stdout
    assert invoke("rename", "two", "../x", *where).exit_code == 1
    assert "rlhf-tui trash --restore two --runs-dir" in invoke("delete", "two", *where).stdout
    (thrown,) = json.loads(invoke("trash", *where, "--json").stdout)["runs"]
    assert (thrown["entry"], thrown["bytes"] > 0) == ("two", True)
    assert invoke("trash", "--restore", "two", *where).exit_code == 0
    assert RunDir.open(runs_root / "two").note.startswith("learnt")
    invoke("delete", "two", *where)
    assert invoke("trash", "--empty", *where).exit_code == 1  # nobody to ask
    assert "the trash was not emptied" in invoke("trash", "--empty", *where).stderr
    assert json.loads(invoke("trash", "--empty", "--yes", *where, "--json").stdout)["removed"] == 1
    assert "is empty" in invoke("trash", *where).stdout
    assert invoke("trash", "--restore", "two", *where).exit_code == 1


def test_a_run_that_is_driven_is_neither_renamed_nor_deleted(runs_root: Path):
    run = RunDir.create(runs_root, SMALL, name="one")
    with run.lock():
        for command in (["delete", "one"], ["rename", "one", "two"]):
            result = invoke(*command, "--runs-dir", str(runs_root))
            assert result.exit_code == 1
            assert "driven by another process" in result.stderr


def test_generate_answers_by_a_run_its_reference_and_a_model(trained: tuple[Path, Result], tiny: Path):
    root, _ = trained
    common = ["--prompt", "Once", "--prompt", "One day", "--count", "2", "--max-new-tokens", "5", "--json"]
    tuned, reference, model = (json.loads(invoke("generate", *first, *common).stdout) for first in (
        ["first", "--runs-dir", str(root)], ["first", "--runs-dir", str(root), "--reference"], [str(tiny)]))
    assert [sample["prompt"] for sample in tuned["samples"]] == ["Once", "Once", "One day", "One day"]
    assert set(tuned["samples"][0]) == {"prompt", "response", "score", "parts", "kl_nats", "tokens", "finished"}
    assert [tuned["tuned"], reference["tuned"], model["tuned"]] == [True, False, False]
    assert [s["response"] for s in reference["samples"]] == [s["response"] for s in model["samples"]]


def test_model_text_cannot_reach_the_terminal_as_commands(trained: tuple[Path, Result]):
    root, _ = trained  # a random byte model says control characters often
    arguments = ["generate", "first", "--runs-dir", str(root), "--count", "30", "--temperature", "3"]
    shown, as_json = invoke(*arguments).stdout, invoke(*arguments, "--json").stdout
    assert any(ord(c) < 32 and c != "\n" for sample in json.loads(as_json)["samples"] for c in sample["response"])
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", shown + as_json)


def test_score_adds_up():
    result = invoke("score", "notebook", "The quick brown fox and a lion met a boy", "--json")
    (found,) = json.loads(result.stdout)["scores"]
    assert found["total"] == pytest.approx(2.6)
    assert found["total"] == pytest.approx(sum(found["parts"].values()))
    assert "+2.60  The quick" in invoke("score", "notebook", "The quick brown fox and a lion met a boy").stdout


def test_presets_and_their_fields_are_listed():
    listed = json.loads(invoke("presets", "--json").stdout)["presets"]
    assert {"animals", "notebook"} <= {info["name"] for info in listed}
    rows = json.loads(invoke("presets", "--fields", "--json").stdout)["fields"]
    for row in rows:
        assert set(row) == {"path", "algorithm_kind", "reward_kind", "allowed", "unit", "live", "default", "help"}
        assert row["help"], row["path"]
    coef = next(row for row in rows if row["path"] == "kl.coef")
    assert (coef["allowed"], coef["live"], coef["unit"]) == ("a number from 0 to 100", True, "score per nat")
    assert len({(row["path"], row["algorithm_kind"], row["reward_kind"]) for row in rows}) == len(rows)
    text = invoke("presets", "--fields").stdout
    assert all(row["path"] in text for row in rows)


def test_runs_are_listed(trained: tuple[Path, Result], tmp_path: Path):
    root, _ = trained
    (run,) = json.loads(invoke("runs", "--runs-dir", str(root), "--json").stdout)["runs"]
    assert set(run) == {"name", "path", "preset", "state", "step", "total_steps", "message", "changed",
                        "parent", "id", "note", "started", "reward_versions"}
    assert (run["name"], run["state"], run["step"]) == ("first", "finished", 3)
    assert re.search(r"first +animals +finished +3/3", invoke("runs", "--runs-dir", str(root)).stdout)
    assert "no runs" in invoke("runs", "--runs-dir", str(tmp_path / "none")).stdout


def test_a_fork_trains_on_from_a_checkpoint_and_stands_below_its_parent(trained: tuple[Path, Result]):
    root, _ = trained
    where = ["--runs-dir", str(root)]
    steps = "--set", "train.steps=5"
    result = invoke("fork", "first@3", *steps, "--set", "kl.coef=0.9", *where, "--name", "second", "--json")
    assert result.exit_code == 0, result.output
    *lines, end = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["step"] for line in lines if line["event"] == "step"] == [4, 5]
    assert lines[0]["metrics"]["kl_coef"] == 0.9
    assert (end["run"], end["state"]) == ("second", "finished")
    listed = {run["name"]: run for run in json.loads(invoke("runs", *where, "--json").stdout)["runs"]}
    assert listed["second"]["parent"] == {"run": "first", "step": 3}
    assert listed["first"]["parent"] is None
    table = invoke("runs", *where).stdout.splitlines()
    assert table[-1].startswith("└─ second (from step 3)")
    shutil.rmtree(root / "second")


@pytest.mark.parametrize(("arguments", "code", "said"), [
    (["first@7"], 1, "no checkpoint of step 7; there are those of steps 0, 1, 2, 3"),
    (["first@x"], 2, "first@x: after the @ goes the step of a checkpoint"),
    (["nobody@3"], 2, "There is no run 'nobody'"),
    (["first"], 2, "train.steps: the checkpoint is of step 3 already"),
    (["first", "--set", "train.steps=9", "--set", "lora.rank=3"], 2, "lora.rank: a fork keeps the model and the shape"),
    (["first", "--set", "train.steps=9", "--name", "first"], 2, "already a run named first"),
])
def test_a_fork_that_cannot_be_is_one_sentence(trained: tuple[Path, Result], arguments: list[str], code: int,
                                               said: str):
    root, _ = trained
    result = invoke("fork", *arguments, "--runs-dir", str(root))
    assert result.exit_code == code, result.output
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert [path.name for path in root.iterdir()] == ["first"]


def test_verify_says_what_it_found_in_every_checkpoint(trained: tuple[Path, Result], tmp_path: Path):
    root, _ = trained
    sound = invoke("verify", "first", "--runs-dir", str(root), "--json")
    assert sound.exit_code == 0
    found = json.loads(sound.stdout)
    assert (found["run"], found["sound"]) == ("first", True)
    assert [(row["step"], row["sound"], row["best"], row["message"]) for row in found["checkpoints"]] == [
        (3, True, True, ""), (2, True, False, ""), (1, True, False, ""), (0, True, False, "")]
    copy = shutil.copytree(root / "first", tmp_path / "copy")
    file = copy / "checkpoints" / "step-000003" / "tensors.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    damaged = invoke("verify", str(copy))
    assert damaged.exit_code == 1
    assert re.search(r"step-000003 +DAMAGED .*tensors.safetensors is damaged", damaged.stdout)
    assert re.search(r"step-000000 +sound", damaged.stdout)
    rows = json.loads(invoke("verify", str(copy), "--json").stdout)["checkpoints"]
    assert [row["sound"] for row in rows] == [False, True, True, True]
    shutil.rmtree(copy / "checkpoints")
    assert invoke("verify", str(copy)).exit_code == 1


def test_an_alarm_is_a_warning_line_or_an_object_of_its_own(tiny: Path, runs_root: Path):
    alarming = sets(tiny, "train.steps=2", "sentinel.window=2")  # a random model's bytes hold no word of any list
    where = ["--runs-dir", str(runs_root)]
    text = invoke("train", "animals", *alarming, *where)
    as_json = invoke("train", "animals", *alarming, *where, "--json")
    assert re.search(r"^warning: step 2: in 2 steps all responses of a step had the same score", text.stderr, re.M)
    alarms = [row for line in as_json.stdout.splitlines() if (row := json.loads(line))["event"] == "alarm"]
    assert [(alarm["step"], alarm["kind"]) for alarm in alarms] == [(2, "equal-scores")]
    assert set(alarms[0]) == {"event", "step", "kind", "text"}


# --- mistakes ---


@pytest.mark.parametrize(("arguments", "said"), [
    (["train", "animal"], "did you mean animals"),
    (["train", "animals", "--set", "kl.coef=abc", "--set", "ppo.epoch=2"], "--set ppo.epoch: no such setting"),
    (["train", "animals", "--name", "../x"], "is not allowed"),
    (["resume", "nothing"], "There is no run 'nothing'"),
    (["compare", "nothing"], "There is no run"),
    (["compare", "nothing", "--responses", "1"], "--responses"),
    (["generate", "storyteller"], "--prompt"),
    (["generate", "storyteller", "--prompt", "x", "--temperature", "0"], "--temperature"),
    (["generate", "storyteller", "--prompt", "x", "--max-new-tokens", "9000"], "--max-new-tokens"),
    (["generate", "storyteller", "--prompt", "x", "--seed", "18446744073709551616"], "--seed"),
    (["compare", "x" * 300], "There is no run"),
    (["score", "animals"], "TEXT"),
    (["nonsense"], "No such command"),
    (["train", "animals", "--nonsense"], "No such option"),
])
def test_wrong_usage_is_exit_2_with_a_sentence_on_stderr(arguments: list[str], said: str, tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert said in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.output
    assert not (tmp_path / "runs").exists()


def test_a_model_that_cannot_be_had_is_exit_1_and_leaves_no_run_behind(tmp_path: Path):
    model = f"model.name={tmp_path / 'nowhere'}"
    result = invoke("train", "animals", "--set", model, "--runs-dir", str(tmp_path), "--json")
    assert result.exit_code == 1
    end = json.loads(result.stdout.splitlines()[-1])
    assert (end["event"], end["state"]) == ("end", "failed")
    assert "nowhere" in end["message"]
    assert "no run was kept" in end["message"]
    assert "nowhere" in result.stderr
    assert list(tmp_path.iterdir()) == []
    for_people = invoke("train", "animals", "--set", model, "--runs-dir", str(tmp_path), "--name", "bare").stdout
    assert for_people.splitlines()[0].startswith("run bare in")
    assert "run bare" in for_people.splitlines()[-1]
    assert "not kept" in for_people.splitlines()[-1]


def test_a_taken_name_is_refused(runs_root: Path):
    RunDir.create(runs_root, SMALL, name="taken")
    result = invoke("train", "animals", "--name", "taken", "--runs-dir", str(runs_root))
    assert result.exit_code == 2
    assert "already a run named taken" in result.stderr


# --- the workbench's command ---


def test_both_command_lines_have_the_same_commands():
    listed = [set(re.findall(r"^  ([a-z]+)  ", invoke("--help", workbench=which).stdout.split("Commands:")[1], re.M))
              for which in (False, True)]
    assert listed[0] == listed[1] == {"train", "resume", "fork", "sweep", "attach", "compare", "generate", "pairs",
                                       "score", "presets", "export", "runs", "rename", "note", "delete", "trash",
                                       "trust", "verify", "doctor", "label", "labels",
                                       "overoptimization", "pipeline"}


@pytest.mark.parametrize("arguments", [
    ["--runs-dir", "X", "runs", "--json"], ["--runs-dir=X", "--json", "runs"], ["--json", "runs", "--runs-dir", "X"],
    ["--runs-dir", "elsewhere", "runs", "--runs-dir", "X", "--json"],
])
def test_options_before_a_command_that_takes_them_are_its_own(arguments: list[str], runs_root: Path):
    RunDir.create(runs_root, SMALL, name="mine")
    result = invoke(*(argument.replace("X", str(runs_root)) for argument in arguments), workbench=True)
    assert result.exit_code == 0, result.output
    assert [run["name"] for run in json.loads(result.stdout)["runs"]] == ["mine"]


def test_changes_before_and_behind_a_command_all_count(tiny: Path, runs_root: Path):
    result = invoke("--set", "train.steps=1", "train", "animals", *sets(tiny, "kl.coef=0.3"), "--runs-dir",
                    str(runs_root), workbench=True)
    assert result.exit_code == 0, result.output
    (path,) = runs_root.iterdir()
    config = RunDir.open(path).config()
    assert (config.train.steps, config.kl.coef) == (1, 0.3)


@pytest.mark.parametrize(("arguments", "told"), [
    (["--start", "--set", "a=1", "presets"], ["--start", "--set", "presets --help"]),
    (["--preset", "animals", "train"], ["--preset", "`rlhf-tui train animals`"]),
])
def test_options_of_the_workbench_before_a_command_are_no_silent_nothing(arguments: list[str], told: list[str]):
    result = invoke(*arguments, workbench=True)
    assert result.exit_code == 2
    assert all(word in result.stderr for word in told), result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_without_a_terminal_the_preset_is_trained_with_plain_lines(tiny: Path, runs_root: Path):
    result = invoke(*sets(tiny, "train.steps=1"), "--runs-dir", str(runs_root), workbench=True)
    assert result.exit_code == 0, result.output
    assert "step 1/1  score" in result.stdout
    assert len(list(runs_root.iterdir())) == 1


def test_with_a_terminal_the_workbench_opens(tmp_path: Path):
    script = tmp_path / "open.py"
    script.write_text(f"""
import sys, types
sys.path.insert(0, {str(ROOT)!r})
launch = types.ModuleType("rlhf_tui.launch")
def run_workbench(config, preset, *, runs_root, start, original, said):
    assert original.kl.coef == 1.0
    print("opened", preset, config.kl.coef, runs_root, start)
    return 7
launch.run_workbench = run_workbench
sys.modules["rlhf_tui.launch"] = launch
sys.argv = ["rlhf-tui", "--preset", "animals", "--set", "kl.coef=0.3", "--start"]
from rlhf_tui.cli import main
main()
""")
    leader, follower = pty.openpty()
    child = subprocess.Popen([sys.executable, str(script)], stdin=follower, stdout=follower, stderr=follower)
    assert child.wait(timeout=200) == 7
    assert b"opened animals 0.3 runs True" in os.read(leader, 4096)
    os.close(leader)
    os.close(follower)


@pytest.mark.parametrize("module", ["rlhf_engine.commands.cli", "rlhf_tui.cli"])
def test_the_command_line_starts_without_the_heavy_libraries(module: str):
    heavy = ("torch", "transformers", "peft", "textual", "plotext")
    script = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=200)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, [None, "10000"]), ({"OMP_WAIT_POLICY": "active"}, ["active", None]), ({"GOMP_SPINCOUNT": "7"}, [None, "7"])],
)
def test_torchs_threads_sleep_soon_unless_the_user_says_otherwise(given: dict[str, str], expected: list[str | None]):
    script = ("import sys, os; sys.argv = ['x', '--version']; from rlhf_tui.cli import main\n"
              "try: main()\nfinally: print([os.environ.get(x) for x in ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT')])")
    ours = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=200,
                          env=environment | given)
    assert done.stdout.splitlines()[-1] == str(expected), done.stderr


def test_the_engine_runs_without_textual():
    script = "import sys; sys.modules['textual'] = None; sys.argv = ['x', 'presets']; import rlhf_engine.__main__"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "animals" in done.stdout


# --- watching ---


@pytest.mark.parametrize("workbench", [False, True])
def test_attach_prints_what_train_printed(trained: tuple[Path, Result], workbench: bool):
    root, result = trained
    attached = invoke("attach", "first", "--runs-dir", str(root), "--json", workbench=workbench)
    assert attached.exit_code == 0
    trained_lines, lines = ([json.loads(line) for line in text.splitlines()] for text in
                            (result.stdout, attached.stdout))
    assert [line["step"] for line in lines] == [1, 2, 3, 3]
    assert [line.get("metrics") for line in lines] == [line.get("metrics") for line in trained_lines]
    assert lines[-1] == trained_lines[-1] | {"checkpoint": ""}


def test_attach_without_a_terminal_prints_lines_for_people(trained: tuple[Path, Result]):
    root, _ = trained
    lines = invoke("attach", "first", "--runs-dir", str(root), workbench=True).stdout.splitlines()
    assert lines[0] == f"run first in {root / 'first'}"
    assert [line[:8] for line in lines[1:4]] == ["step 1/3", "step 2/3", "step 3/3"]
    assert lines[4:] == ["finished (3/3)"]
    assert invoke("attach", "none", "--runs-dir", str(root), workbench=True).exit_code == 2


@pytest.mark.parametrize(("last", "expected", "said"), [
    ("", "animals", ""),
    ("animals", "animals", ""),
    ("sea", "sea", "preset sea, as last time"),
    ("gone", "animals", "animals is open, since the preset of last time is not: There is no preset 'gone'"),
    ("gone/x.toml", "animals", "There is no preset file gone/x.toml."),
])
def test_the_workbench_opens_with_the_preset_of_last_time(last: str, expected: str, said: str):
    file = SettingsFile()
    file.change(last_preset=last)
    assert file.keep() == ""
    preset, sentence = preset_of_last_time()
    assert preset == expected
    assert said in sentence
