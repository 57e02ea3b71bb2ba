"""Rewards that are somebody's own function: code, of which a run knows the digest and asks when it changed."""

from __future__ import annotations

import hashlib
import json
import math
import re
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import warm
from moments import trusted
from tiny_models import tiny_config
from typer.testing import CliRunner

from rlhf_engine.commands.cli import make_app
from rlhf_engine.config import fields, presets
from rlhf_engine.config.preset_writer import to_toml
from rlhf_engine.config.rewards import FunctionRewardConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import CodeChangedError, ConfigError, RewardError
from rlhf_engine.evaluation.compare import compare_run
from rlhf_engine.evaluation.generate import generate_texts
from rlhf_engine.events import EditApplied, EditRefused, Event, Notice, RolledBack, RunState, StepFinished
from rlhf_engine.requests import Edit, RequestQueue
from rlhf_engine.rewards import function
from rlhf_engine.rewards.base import Score
from rlhf_engine.rewards.build import build_rewards
from rlhf_engine.rewards.function import code_changes, file_of, pinned
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.training.fork import fork
from rlhf_engine.training.trainer import Trainer

ROOT = Path(__file__).parents[2]
VOWELS = "def vowels(prompts, responses):\n    return [sum(c in 'aeiou' for c in text) for text in responses]\n"


def reward(file: Path, function: str = "vowels", **given: object) -> FunctionRewardConfig:
    return FunctionRewardConfig.model_validate({"name": "own", "function": f"{file}:{function}"} | given)


def scored(file: Path, function: str = "vowels", texts: tuple[str, ...] = ("bee", "sky")) -> list[Score]:
    with suppress(ConfigError):  # told by what is tested
        trusted(file)
    return build_rewards([reward(file, function)]).score([""] * len(texts), texts).scores


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "code" / "own.py"
    path.parent.mkdir()
    path.write_text(VOWELS)
    return path


@pytest.fixture
def config(model_folders: dict[str, Path], file: Path) -> RunConfig:
    plain = tiny_config(model_folders["gpt_neo"], train={"steps": 2, "checkpoint_every": 1})
    return plain.model_copy(update={"rewards": [reward(file)]})


def kept_by_a_run(config: RunConfig) -> RunConfig:
    """The config as a run would write it down, of code that is trusted as it is now."""
    for its in config.rewards:
        if isinstance(its, FunctionRewardConfig):
            trusted(file_of(its)[0])
    return pinned(config)


def train(config: RunConfig, root: Path) -> RunDir:
    config = kept_by_a_run(config)
    run_dir = RunDir.create(root, config, name="r")
    assert Trainer(config, run_dir=run_dir, emit=lambda _: None).run() is RunState.FINISHED
    return run_dir


def test_numbers_arrays_and_scores_are_taken(file: Path) -> None:
    file.write_text(VOWELS + """
import torch
from dataclasses import dataclass
from rlhf_engine.rewards.base import Score, Span

@dataclass
class Table:
    factor: "float"

def tensor(prompts, responses):
    return torch.tensor([len(text) * Table(0.5).factor for text in responses])

def whole(prompts, responses):
    return [Score(2.0, {"a": 1.5, "b": 0.5}, (Span(0, 1, "liked"),)) for _ in responses]
""")
    assert [score.total for score in scored(file)] == [2.0, 0.0]
    assert [score.total for score in scored(file, "tensor")] == [1.5, 1.5]
    (one, _) = scored(file, "whole")
    assert (one.total, one.parts["own/a"], one.spans[0].kind) == (2.0, 1.5, "liked")


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("def vowels(p, r): return 1.0", "returned a float; it must return a list"),
        ("def vowels(p, r): return [1.0]", "returned 1 scores for 2 responses"),
        ("def vowels(p, r): return [float('nan')] * 2", "gave the total nan for the response 'bee'"),
        ("def vowels(p, r): return ['x', 'y']", "a str in place of a Score"),
        ("def vowels(p, r): return [1 / (len(text) - 3) for text in r]", "raised ZeroDivisionError.*'bee'"),
    ],
)
def test_what_a_function_does_wrong_is_told_with_the_response(file: Path, code: str, says: str) -> None:
    file.write_text(code)
    with pytest.raises(RewardError, match=says):
        scored(file)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("x = = 1", "could not be run: SyntaxError"),
        ("import nothing_of_that_name", "could not be run: ModuleNotFoundError"),
        ("raise SystemExit(3)", "could not be run: SystemExit: 3"),
        ("def consonants(p, r): ...", "has no function vowels; it has consonants"),
        ("vowels = 3", "has no function vowels; it has none"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence(file: Path, code: str, says: str) -> None:
    file.write_text(code)
    with pytest.raises(ConfigError, match=says):
        scored(file)


# --- what it gives, prints and raises ---


def test_none_is_no_contribution_and_counts_in_no_mean(config: RunConfig, file: Path, tmp_path: Path) -> None:
    file.write_text("""
def some(prompts, responses):
    return [None if at % 2 else float(at) for at in range(len(responses))]

def none(prompts, responses):
    return [None] * len(responses)
""")
    (first, second) = scored(file, "some")
    assert (first.total, dict(first.parts)) == (0.0, {"own": 0.0})
    assert (second.total, dict(second.parts)) == (0.0, {})
    rewards = [reward(file, "some"), reward(file, "none", name="never", weight=5.0)]
    events: list[Event] = []
    both = kept_by_a_run(config.model_copy(update={"rewards": rewards}))
    run_dir = RunDir.create(tmp_path / "runs", both, name="r")
    Trainer(both, run_dir=run_dir, emit=events.append).run()
    metrics = run_dir.metrics()[0].metrics
    # 8 responses: 0, 2, 4 and 6 count in the mean and its spread; the score of the others is 0
    assert metrics["rewards/own/mean"] == 3.0
    assert metrics["rewards/own/std"] == pytest.approx(5**0.5)
    assert metrics["objective/scores"] == 1.5
    assert math.isnan(metrics["rewards/never/mean"])
    told = [event.text for event in events if isinstance(event, Notice) and "'never'" in event.text]
    assert len(told) == 1
    assert "none of the 8 responses" in told[0]


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("def vowels(p, r): return (1.0 for _ in r)", "returned a generator; it must return a list"),
        ("def vowels(p, r): return {text: 1.0 for text in r}", "returned a dict; it must return a list"),
        ("def vowels(p, r): return b'12'", "returned a bytes; it must return a list"),
        ("async def vowels(p, r): return [1.0, 2.0]", "returned a coroutine; it must return a list"),
        ("def vowels(p, r): return [[1.0], [2.0]]", "a list in place of a Score for the response 'bee'"),
        ("import numpy\ndef vowels(p, r): return numpy.ones((2, 2))", "a list in place of a Score"),
        ("import torch\ndef vowels(p, r): return [torch.ones(2), 1]", "a Tensor in place of a Score"),
        ("def vowels(p, r): return [1j, 2j]", "a complex in place of a Score"),
        ("def vowels(p, r): return [1.0, float('inf')]", "gave the total inf for the response 'sky'"),
        ("def vowels(p): return [1.0]", "raised TypeError: vowels.. takes 1 positional argument"),
        ("def vowels(p, r): exit(3)", r"raised SystemExit: 3 at own.py:1"),
    ],
)
def test_what_it_gives_is_taken_or_told_in_one_sentence(file: Path, code: str, says: str) -> None:
    file.write_text(code)
    with pytest.raises(RewardError, match=says) as caught:
        scored(file)
    assert "\n" not in str(caught.value)


def test_numpy_and_torch_scalars_and_whole_numbers_are_numbers(file: Path) -> None:
    file.write_text("import numpy, torch\n"
                    "def vowels(p, r): return [numpy.float32(0.5), torch.tensor(2), True, 3]\n")
    assert [score.total for score in scored(file, texts=("a", "b", "c", "d"))] == [0.5, 2.0, 1.0, 3.0]


def test_one_that_raises_is_called_once_and_told_with_line_and_traceback(
    config: RunConfig, file: Path, tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    file.write_text(f"""
import sys
def vowels(prompts, responses):
    with open({str(calls)!r}, "a") as file:
        file.write("called\\n")
    print("scoring", len(responses))
    print("to stderr", file=sys.stderr)
    return [inner(text) for text in responses]

def inner(text):
    return {{}}[len(text)]
""")
    kept = kept_by_a_run(config)
    run_dir = RunDir.create(tmp_path / "runs", kept, name="r")
    with pytest.raises(RewardError, match=r"raised KeyError: \d+ at own\.py:11 \(scoring the response '.*'\)"):
        Trainer(kept, run_dir=run_dir, emit=lambda _: None).run()
    # the probe asks twice (of the reference, then no more: it has failed), the step once
    assert calls.read_text().count("called") == 2
    log = (run_dir.path / "output.log").read_text()
    for line in ("scoring 8", "to stderr", "Traceback (most recent call last):", "in inner",
                 "KeyError"):
        assert line in log, log
    assert "rlhf_engine" not in log
    assert "KeyError" in run_dir.status().message  # type: ignore[union-attr]


def test_what_it_prints_does_not_spoil_the_answer(config: RunConfig, file: Path, tmp_path: Path) -> None:
    file.write_text(VOWELS + """
import logging, os, subprocess, warnings
print("imported")
def loud(prompts, responses):
    print("printed")
    os.system("echo from a child")
    logging.getLogger("mine").warning("logged")
    warnings.warn("warned", stacklevel=1)
    subprocess.run(["sh", "-c", "echo from another >&2"])
    return vowels(prompts, responses)
""")
    trusted(file)
    preset = tmp_path / "loud.toml"
    preset.write_text(to_toml(config.model_copy(update={"rewards": [reward(file, "loud")]})))
    done = warm.run(["-m", "rlhf_engine", "train", str(preset), "--json", "--name", "r"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["event"] for line in done.stdout.splitlines()] == ["step", "step", "end"]
    log = (tmp_path / "runs" / "r" / "output.log").read_text()
    assert "warned" in log
    for line in ("printed", "from a child", "logged", "from another"):
        assert line in done.stderr
        assert log.count(line) == log.count("printed") > 1
    assert "imported" in done.stderr
    told = CliRunner().invoke(make_app(), ["score", str(preset), "bee", "--json"])
    assert json.loads(told.stdout)["scores"][0]["total"] == 2.0


# --- the neighbours that it imports ---


def test_two_files_may_have_neighbours_of_one_name(tmp_path: Path) -> None:
    for number in (1, 2):
        folder = tmp_path / f"code{number}"
        (folder / "deep" / "er").mkdir(parents=True)
        (folder / "helpers.py").write_text(f"from deep.er import inner\nPOINTS = {number}\n"
                                           "def late():\n    import later\n    return later.POINTS\n")
        (folder / "later.py").write_text("from . import helpers\nPOINTS = helpers.POINTS * 100\n")
        (folder / "deep" / "__init__.py").write_text("from .er.inner import TEN\n")
        (folder / "deep" / "er" / "inner.py").write_text("TEN = 10\n")
        (folder / "own.py").write_text("""
import pickle
from dataclasses import dataclass
import helpers
import deep.er.inner
from deep import TEN
from .helpers import POINTS

@dataclass
class Table:
    points: "int"

if __name__ == "__main__":
    raise RuntimeError("is no script")

def vowels(prompts, responses):
    table = pickle.loads(pickle.dumps(Table(POINTS)))
    return [table.points + helpers.late() + TEN * deep.er.inner.TEN for _ in responses]
""")
    path, modules = list(sys.path), set(sys.modules)
    for number in (1, 2, 1):
        assert scored(tmp_path / f"code{number}" / "own.py")[0].total == number * 101 + 100
    assert sys.path == path
    assert not {"helpers", "later", "deep", "own"} & (set(sys.modules) - modules)


def test_a_file_of_any_name_finds_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "helpers.py").write_text("POINTS = 4.0\n")
    for name in ("my-rewards.v2.py", "__init__.py", "ünï.py"):
        (tmp_path / name).write_text("from .helpers import POINTS\nimport helpers\n"
                                     "def vowels(p, r): return [POINTS + helpers.POINTS] * len(r)\n")
        assert scored(tmp_path / name)[0].total == 8.0


def test_a_neighbour_that_is_missing_or_wrong_is_told_with_its_line(tmp_path: Path, file: Path) -> None:
    file.write_text("import helpers\n" + VOWELS)
    with pytest.raises(ConfigError, match=r"ModuleNotFoundError: No module named 'helpers' at own\.py:1"):
        scored(file)
    (file.parent / "helpers.py").write_text("x = 1\nx = = 2\n")
    with pytest.raises(ConfigError, match=r"SyntaxError: invalid syntax at helpers\.py:2"):
        scored(file)
    (file.parent / "helpers.py").write_text("from helpers_of_helpers import y\n1 / 0\n")
    (file.parent / "helpers_of_helpers.py").write_text("y = 1\n")
    with pytest.raises(ConfigError, match=r"ZeroDivisionError: division by zero at helpers\.py:2"):
        scored(file)


def test_a_changed_neighbour_is_changed_code_and_a_run_under_way_keeps_the_old(
    config: RunConfig, file: Path, tmp_path: Path
) -> None:
    helpers = file.parent / "helpers.py"
    helpers.write_text("LETTERS = 'aeiou'\n")
    file.write_text(VOWELS.replace("    return", "    from helpers import LETTERS\n    return").replace("'aeiou'",
                                                                                                    "LETTERS"))
    run_dir = train(config, tmp_path / "runs")
    assert not code_changes(run_dir.config())
    (file.parent / "unrelated.py").write_text("")
    assert not code_changes(run_dir.config())
    kept = kept_by_a_run(run_dir.config())
    helpers.write_text("LETTERS = 'xyz'\n")
    assert build_rewards(kept.rewards).score([""], ["bee"]).scores[0].total == 2.0
    with pytest.raises(CodeChangedError, match=rf"{file} or a file that it imports \(SHA-256 "):
        Trainer.resume(run_dir, emit=lambda _: None)


def test_a_neighbour_in_a_run_s_directory_is_never_run(config: RunConfig, file: Path, tmp_path: Path) -> None:
    run_dir = RunDir.create(tmp_path / "runs", config, name="r")
    (run_dir.path / "helpers.py").write_text("x = 1")
    (file.parent / "helpers.py").symlink_to(run_dir.path / "helpers.py")
    file.write_text("import helpers\n" + VOWELS)
    with pytest.raises(ConfigError, match="lies in a run's directory"):
        scored(file)


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no\.py could not be read: No such file"):
        scored(tmp_path / "no.py")


def test_only_a_path_and_a_name_are_a_function(file: Path) -> None:
    data = presets.load("animals").model_dump()
    for wrong in ("os.system", "own.py", "own.py:1st", "own.py:a.b", ":vowels"):
        data["rewards"] = [{"kind": "function", "function": wrong}]
        with pytest.raises(ConfigError, match=r"is not a path and a name such as rewards\.py:score"):
            fields.validate(data)


def test_a_run_writes_down_the_whole_path_and_the_digest(config: RunConfig, file: Path, tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    run_dir = train(fields.replace(config, {"rewards.0.function": "own.py:vowels"}), tmp_path / "runs")
    (kept,) = run_dir.config().rewards
    assert isinstance(kept, FunctionRewardConfig)
    assert kept.function == f"{file}:vowels"
    assert kept.sha256 == hashlib.sha256(VOWELS.encode()).hexdigest()
    assert "rewards/own/mean" in run_dir.metrics()[0].metrics


def test_a_changed_file_is_refused_and_taken_only_when_accepted(config: RunConfig, file: Path, tmp_path: Path) -> None:
    run_dir = train(config, tmp_path / "runs")
    before = run_dir.status()
    file.write_text(VOWELS + "# another\n")
    with pytest.raises(CodeChangedError, match=rf"code that has changed since: {file} \(SHA-256 "):
        Trainer.resume(run_dir, emit=lambda _: None)
    assert run_dir.status() == before

    events: list[Event] = []
    trainer = Trainer.resume(run_dir, emit=events.append, accept_code=True)
    assert trainer.run() is RunState.FINISHED
    new = hashlib.sha256(file.read_bytes()).hexdigest()
    recorded = [(e.path, e.old, e.new) for e in events if isinstance(e, EditApplied)]
    assert recorded == [("rewards.0.sha256", hashlib.sha256(VOWELS.encode()).hexdigest(), new)]
    assert [(e.path, e.new) for e in run_dir.edits()] == [("rewards.0.sha256", new)]
    # what was accepted is what the run knows from now on
    assert Trainer.resume(run_dir, emit=lambda _: None).run() is RunState.FINISHED


def test_a_roll_back_behind_accepted_code_keeps_that_code(config: RunConfig, file: Path, tmp_path: Path) -> None:
    run_dir = train(fields.replace(config, {"train.max_rollbacks": 1}), tmp_path / "runs")
    file.write_text(VOWELS + "# another, with no checkpoint yet\n")
    events: list[Event] = []

    def break_once(event: Event) -> None:
        events.append(event)
        first = not any(isinstance(e, RolledBack) for e in events)
        if isinstance(event, StepFinished) and event.step == 3 and first:
            next(iter(trainer.policy.adapters["actor"].values())).data.fill_(float("nan"))  # type: ignore[union-attr]

    requests = RequestQueue()
    trainer = Trainer.resume(run_dir, requests=requests, emit=break_once, accept_code=True)
    requests.ask(Edit("train.steps", 3))
    assert trainer.run() is RunState.FINISHED
    assert [event.step for event in events if isinstance(event, RolledBack)] == [2]
    assert not code_changes(trainer.config)
    assert not any(isinstance(event, EditRefused) for event in events)


def test_a_fork_of_changed_code_says_how_to_take_it(config: RunConfig, file: Path, tmp_path: Path) -> None:
    run_dir = train(config, tmp_path / "runs")
    file.write_text(VOWELS + "# another\n")
    with pytest.raises(ConfigError, match=r"no longer the file whose SHA-256 begins with .*; sha256 = none takes it"):
        fork(run_dir, changes={"train.steps": 3}, root=tmp_path / "runs", name="child")
    assert not (tmp_path / "runs" / "child").exists()
    trusted(file)
    child = fork(run_dir, changes={"train.steps": 3, "rewards.0.sha256": None}, root=tmp_path / "runs", name="child")
    assert not code_changes(child.config())


@pytest.mark.parametrize("gone", [True, False])
def test_a_run_answers_without_scores_when_its_code_cannot_be_had(
    config: RunConfig, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    run_dir = train(config, tmp_path / "runs")
    scored_before = compare_run(run_dir, responses=2, seed=0)
    file.unlink() if gone else file.write_text(VOWELS + "# another\n")
    monkeypatch.setattr(function, "_loaded", {})  # as in a process that did not train it
    why = r"no scores: the reward 'own': .*(could not be read|no longer the file)"
    samples, no_scores = generate_texts(run_dir, prompts=["x"], tuned=True, seed=0)
    assert len(samples) == 1
    assert re.match(why, no_scores)
    found = compare_run(run_dir, responses=2, seed=0)
    assert found is not None
    assert scored_before is not None
    assert re.match(why, found.no_scores)
    assert not {"mean_score", "liked_share"} & {row.key for row in found.rows}
    assert [pair.tuned.response for pair in found.pairs] == [pair.tuned.response for pair in scored_before.pairs]

    told = CliRunner().invoke(make_app(), ["compare", str(run_dir.path), "--responses", "2"])
    assert (told.exit_code, "no scores: the reward 'own'" in told.stderr, "score" in told.stdout) == (0, True, False)
    as_json = json.loads(CliRunner().invoke(make_app(), ["generate", str(run_dir.path), "--json"]).stdout)
    assert (as_json["samples"][0]["score"], as_json["no_scores"]) == (None, no_scores)


def test_a_running_run_keeps_the_code_that_it_began_with(config: RunConfig, file: Path) -> None:
    kept = kept_by_a_run(config)
    file.write_text("raise RuntimeError('was run')")
    assert build_rewards(kept.rewards).score([""], ["bee"]).scores[0].total == 2.0


def test_files_in_a_run_s_directory_are_never_run(config: RunConfig, tmp_path: Path) -> None:
    run_dir = RunDir.create(tmp_path / "runs", config, name="r")
    inside = run_dir.path / "export" / "own.py"
    inside.parent.mkdir()
    inside.write_text(VOWELS)
    link = tmp_path / "link.py"
    link.symlink_to(inside)
    run_dir.checkpoints.mkdir()
    for about in (True, False):
        if not about:  # a run that somebody sent may lack it, and can still be opened
            (run_dir.path / "run.json").unlink()
        for path in (inside, link):
            with pytest.raises(ConfigError, match="lies in a run's directory, and nothing there is run as code"):
                scored(path)


def test_the_home_of_nobody_is_no_file() -> None:
    with pytest.raises(ConfigError, match="could not be read"):
        scored(Path("~nobody-of-that-name/own.py"))


def test_resuming_without_a_terminal_names_the_flag(config: RunConfig, file: Path, tmp_path: Path) -> None:
    run_dir = train(config, tmp_path / "runs")
    file.write_text(VOWELS + "# another\n")
    command = ["resume", str(run_dir.path)]
    refused = CliRunner().invoke(make_app(), command)
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1), refused.stderr
    assert "changed since" in refused.stderr
    assert "--accept-changed-code" in refused.stderr
    taken = CliRunner().invoke(make_app(), [*command, "--accept-changed-code"])
    assert taken.exit_code == 0, taken.stderr
