"""Names and texts of others are printed by every command, and none of them commands the terminal or forges a line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import pytest
import warm
from configs import SMALL
from tiny_models import save_tiny_model
from typer.testing import CliRunner, Result

from rlhf_engine.config.preset_writer import to_toml
from rlhf_engine.config.rewards import WordListRewardConfig
from rlhf_engine.config.sections import ModelConfig
from rlhf_engine.events import Alarm, RunState
from rlhf_engine.runs.run_dir import RunDir
from rlhf_tui.cli import make_workbench_app

ROOT = Path(__file__).parents[1]
FORGED = "FORGED: all is well"
HOSTILE = f"\x1b]0;t\x07\x1b[2J\x9b31m\u202e\u2066\u200b\u2028\U000e0041\u3164\x7f\r\t\n{FORGED}\n"
WHOLE = {"note", "generate"}  # they print a text as it is
AS_BYTES = "caf\udce9"  # a name that is no UTF-8


def is_visible(text: str, kept: str = "\n\u200d") -> bool:
    return "\u3164" not in text and all(
        c in kept or unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Zl", "Zp"} for c in text)


def is_harmless(text: str, *, whole: bool = False) -> bool:
    """whole: the text of somebody is the whole answer, its lines are theirs."""
    return is_visible(text) and (whole or not any(line.startswith(FORGED) for line in text.split("\n")))


@dataclass(frozen=True)
class Zoo:
    """What somebody may have left about: `root` holds the runs, `run` is one of them."""

    folder: Path
    root: Path
    run: RunDir
    preset: Path
    model: Path


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    folder = tmp_path_factory.mktemp("zoo") / f"folder {HOSTILE}"
    root = folder / "runs"
    model = save_tiny_model(folder / f"model {HOSTILE}", "gpt_neo")
    config = SMALL.model_copy(update={"description": HOSTILE, "model": ModelConfig(name=str(model))})
    runs = []
    for number, name in enumerate([f"run {HOSTILE}", f"thrown {HOSTILE}", AS_BYTES]):
        made = RunDir.create(root, config, name=f"run-{number}", preset=HOSTILE)
        made.append_alarm(Alarm(1, HOSTILE, HOSTILE))
        made.append_metrics(1, 1.0, {"objective/scores": 1.0})
        made.write_status(RunState.FAILED, 1, 3, HOSTILE)
        runs.append(RunDir(made.path.rename(root / name)))
    (root / ".trash").mkdir()
    runs[1].path.rename(root / ".trash" / runs[1].path.name)
    (runs[0].path / "note.txt").write_text(HOSTILE)
    checkpoint = runs[0].path / "checkpoints" / "step-000001"
    checkpoint.mkdir(parents=True)
    (checkpoint / "manifest.json").write_text(json.dumps({"format": HOSTILE}))
    preset = folder / f"preset {HOSTILE}.toml"
    preset.write_text(to_toml(config))
    (folder / "wrong.toml").write_text(f"{json.dumps(HOSTILE)} = 3\ndescription = {json.dumps(HOSTILE)}\nprompts = 4\n")
    reward = folder / f"reward {HOSTILE}.py"
    reward.write_text(f"raise ValueError({HOSTILE!r})\n")
    return Zoo(folder, root, runs[0], preset, model)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(make_workbench_app(), list(arguments))


def commands(zoo: Zoo) -> list[list[str]]:
    name, where = zoo.run.path.name, ["--runs-dir", str(zoo.root)]
    function = f"rewards.0.function={zoo.folder / f'reward {HOSTILE}.py'}:score"
    function_preset = zoo.folder / "function.toml"
    function_preset.write_text("prompts = ['x']\n[[rewards]]\nkind = 'function'\n"
                               f"name = {json.dumps(HOSTILE)}\nfunction = {json.dumps(function.partition('=')[2])}\n")
    of_a_run = [[command, named, *where]
                for command in ("verify", "attach", "note", "resume", "fork", "compare", "generate")
                for named in (name, str(zoo.run.path), f"{name}@7", HOSTILE)]
    return [
        *of_a_run,
        *([command, *where] for command in ("runs", "trash", "verify", "doctor", "resume", "attach", "compare")),
        ["export", name, str(zoo.folder / "out"), *where], ["export", name, *where],
        ["rename", name, HOSTILE, *where], ["rename", HOSTILE, "other", *where], ["delete", HOSTILE, *where],
        ["trash", "--restore", HOSTILE, *where], ["trash", "--empty", *where],
        ["presets"], ["presets", "--fields"], ["runs", "--runs-dir", HOSTILE],
        ["train", str(zoo.preset), "--name", HOSTILE, *where], ["train", HOSTILE], ["train", f"{HOSTILE}.toml"],
        ["train", str(zoo.folder / "wrong.toml")], ["train", "animals", "--set", f"{HOSTILE}=1", "--set", HOSTILE],
        ["train", "animals", "--set", f"model.name={HOSTILE}", *where],
        ["train", "animals", "--set", f"kl.coef={HOSTILE}"],
        ["train", "animals", "--trust-remote-code", HOSTILE], ["train", str(function_preset), *where],
        ["score", str(zoo.preset), HOSTILE], ["score", str(function_preset), "x"], ["score", HOSTILE, "x"],
        ["generate", str(zoo.folder / HOSTILE), "--prompt", HOSTILE],
        ["generate", str(zoo.model), "--prompt", HOSTILE, "--max-new-tokens", "3"],
        # shells fill in names of files
        ["verify", name, HOSTILE, *where], [HOSTILE], ["runs", f"--{HOSTILE}"], ["runs", f"-{HOSTILE}"],
        ["compare", name, "--responses", HOSTILE], ["presets", HOSTILE], ["--preset", HOSTILE],
    ]


def test_no_command_prints_what_a_terminal_obeys_or_a_line_that_is_not_ours(zoo: Zoo) -> None:
    for arguments in commands(zoo):
        done = invoke(*arguments)
        assert done.exception is None or isinstance(done.exception, SystemExit), (arguments, done.exception)
        assert is_harmless(done.stdout, whole=arguments[0] in WHOLE), (arguments, done.stdout)
        assert is_harmless(done.stderr), (arguments, done.stderr)
        assert len(done.output) < 60_000, arguments
        if done.exit_code:
            assert done.output.strip(), arguments


def test_programs_are_told_the_names_as_they_are(zoo: Zoo) -> None:
    listed = invoke("runs", "--json", "--runs-dir", str(zoo.root))
    assert listed.stdout.isascii()
    assert is_harmless(listed.stdout)
    rows = {row["name"]: row for row in json.loads(listed.stdout)["runs"]}
    assert set(rows) == {zoo.run.path.name, AS_BYTES}
    assert rows[zoo.run.path.name]["message"] == HOSTILE
    thrown = invoke("trash", "--json", "--runs-dir", str(zoo.root))
    assert is_harmless(thrown.stdout)
    assert HOSTILE in json.loads(thrown.stdout)["runs"][0]["entry"]


def test_a_run_of_such_names_is_named_and_leaves_only_harmless_files(zoo: Zoo, tmp_path: Path) -> None:
    """The model's folder, what is liked and a prompt are hostile; the run is real."""
    data = SMALL.data.model_copy(update={"prompts": [HOSTILE]})
    config = SMALL.model_copy(update={"data": data, "description": HOSTILE,
                                      "rewards": [WordListRewardConfig(liked=[HOSTILE, "a"])],
                                      "model": ModelConfig(name=str(zoo.model))})
    preset = tmp_path / "p.toml"
    preset.write_text(to_toml(config))
    root = tmp_path / f"runs {HOSTILE}"
    sets = ["train.steps=1", "sampling.max_new_tokens=4", "algorithm.responses_per_step=2",
            "algorithm.minibatch_size=2",
            "train.threads=1", "probe.every=1"]
    done = invoke("train", str(preset), "--name", "one", "--runs-dir", str(root),
                  *(word for text in sets for word in ("--set", text)))
    assert done.exit_code == 0, done.output
    assert is_harmless(done.stdout)
    assert is_harmless(done.stderr)
    written = [path for path in root.rglob("*") if path.suffix in (".json", ".jsonl", ".toml", ".txt", ".log")]
    assert {path.name for path in written} >= {"config.toml", "run.json", "status.json", "samples.jsonl", "state.json"}
    for path in written:
        assert is_harmless(path.read_text(encoding="utf-8")), path
    run = RunDir.open(root / "one")
    assert run.samples()[0].prompt == HOSTILE
    assert run.config().description == HOSTILE
    for arguments in (["generate", str(run.path)], ["verify", str(run.path)], ["note", str(run.path), HOSTILE],
                      ["compare", str(run.path), "--responses", "2"], ["resume", str(run.path)],
                      ["attach", str(run.path)], ["export", str(run.path), str(tmp_path / f"out {HOSTILE}")],
                      ["fork", str(run.path), "--name", HOSTILE, "--runs-dir", str(root)],
                      ["resume", str(run.path), "--set", "train.steps=2"], ["delete", str(run.path)],
                      ["trash", "--runs-dir", str(root)], ["trash", "--restore", "one", "--runs-dir", str(root)]):
        done = invoke(*arguments)
        assert is_harmless(done.stdout, whole=arguments[0] in WHOLE), (arguments, done.stdout)
        assert is_harmless(done.stderr), (arguments, done.stderr)
        assert done.exception is None or isinstance(done.exception, SystemExit), (arguments, done.exception)
    assert is_visible((run.path / "note.txt").read_text(), "\n\t\u200d")
    assert is_harmless((tmp_path / f"out {HOSTILE}" / "README.md").read_text())


def test_what_a_reward_and_its_child_processes_print_commands_nothing(tmp_path: Path) -> None:
    code = tmp_path / "own.py"
    code.write_text(f"""
import os, subprocess, sys, warnings
text = {HOSTILE!r}
def score(prompts, responses):
    print(text)
    warnings.warn(text)
    subprocess.run(["printf", "%s child", text])
    os.write(2, text.encode() + b"\\x9b31m raw\\n")
    return [1.0] * len(responses)
""")
    preset = tmp_path / "p.toml"
    preset.write_text("prompts = ['x']\n[[rewards]]\nkind = 'function'\nname = 'own'\n"
                      f"function = {json.dumps(f'{code}:score')}\n[train]\nsteps = 1\nthreads = 1\n"
                      "[sampling]\nmax_new_tokens = 3\n[algorithm]\nresponses_per_step = 2\nminibatch_size = 2\n")
    for arguments in (["trust", str(code)], ["train", str(preset), "--name", "one"]):
        done = warm.run(["-m", "rlhf_engine", *arguments], cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert is_visible(done.stdout)
        assert is_visible(done.stderr, "\n\t\u200d")
    said = (tmp_path / "runs" / "one" / "output.log").read_bytes().decode()
    assert is_visible(said, "\n\t\u200d")
    assert said.count("FORGED") >= 4
    assert " child" in said
    assert " raw" in said


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_the_traceback_of_a_bug_and_a_warning_command_nothing(encoding: str) -> None:
    script = f"""
import logging, sys, warnings
from rlhf_engine.system.streams import degrade
degrade()
text = {HOSTILE!r}
warnings.warn(text)
logging.getLogger("x").warning(text)
print(text, file=sys.stderr)
sys.stderr.buffer.write(text.encode() + b"\\x9b31m\\xff\\n")
raise ValueError(text)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, cwd=ROOT, timeout=100,
                          env=os.environ | {"PYTHONIOENCODING": encoding})
    said = done.stderr.decode(encoding)
    assert done.returncode == 1
    assert "ValueError" in said
    assert said.count("FORGED") >= 5
    assert is_visible(said, "\n\t\u200d")


def test_a_mistake_at_a_real_terminals_encoding_is_told_without_commands(tmp_path: Path) -> None:
    for encoding in ("utf-8", "ascii"):
        done = subprocess.run([sys.executable, "-m", "rlhf_engine", "verify", "one", HOSTILE], capture_output=True,
                              cwd=tmp_path, timeout=100,
                              env=os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)})
        assert done.returncode == 2
        assert is_harmless(done.stderr.decode(encoding)), done.stderr
        assert b"FORGED" in done.stderr
