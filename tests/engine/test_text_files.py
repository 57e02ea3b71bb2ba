"""Prompts and words that stand in files: where they are looked for, what they may hold, and what is no file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tiny_models import save_tiny_model, tiny_config
from typer.testing import CliRunner, Result

from rlhf_engine.commands.cli import make_app
from rlhf_engine.config import presets
from rlhf_engine.config.preset_writer import to_toml
from rlhf_engine.errors import ConfigError
from rlhf_engine.runs.run_dir import RunDir

PRESET = '''
description = "with files"
prompts = {prompts}
[[rewards]]
kind = "word_list"
liked = {liked}
'''


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(make_app(), list(arguments))


def overridden(*changes: str) -> presets.RunConfig:
    return presets.load_with_overrides("animals", list(changes))


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, which is not where the preset lies."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("written", ["prompts.txt", "@prompts.txt", "./prompts.txt", "@../elsewhere/prompts.txt"])
def test_prompts_on_the_command_line_may_stand_in_a_file_of_the_working_folder(elsewhere: Path, written: str) -> None:
    text = "\ufeffOne day,\r\n\n  Once, there was\u2028a café\n \n\\n stays\n"
    (elsewhere / "prompts.txt").write_bytes(text.encode())
    assert overridden(f"prompts={written}").data.prompts == ["One day,", "  Once, there was\u2028a café", "\\n stays"]


def test_a_list_of_prompts_is_a_list_of_prompts() -> None:
    assert overridden('prompts=["a, b", "prompts.txt"]').data.prompts == ["a, b", "prompts.txt"]
    assert overridden("prompts=['''two\nlines''']").data.prompts == ["two\nlines"]


def test_files_named_in_a_preset_lie_beside_it(tmp_path: Path, elsewhere: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text('"One\\nday"\n{"prompt": "Once", "answer": 3}\n')
    (tmp_path / "words.txt").write_text("fox\npolar bear\n")
    (tmp_path / "p.toml").write_text(PRESET.format(prompts='"prompts.jsonl"', liked='"@words.txt"'))
    config = presets.load(str(tmp_path / "p.toml"))
    assert config.data.prompts == ["One\nday", "Once"]
    assert config.rewards[0].liked == ["fox", "polar bear"]


def test_the_run_holds_the_prompts_themselves(tmp_path: Path, elsewhere: Path) -> None:
    config = tiny_config(save_tiny_model(tmp_path / "model", "llama"), train={"steps": 1})
    (tmp_path / "p.toml").write_text(to_toml(config))
    (elsewhere / "mine.txt").write_text("One day,\nOnce\n")
    result = invoke("train", str(tmp_path / "p.toml"), "--set", "prompts=mine.txt", "--name", "a", "--runs-dir", "runs")
    assert result.exit_code == 0, result.stderr
    (elsewhere / "mine.txt").unlink()
    run = RunDir.open(elsewhere / "runs" / "a")
    assert run.config().data.prompts == ["One day,", "Once"]
    assert {sample.prompt for sample in run.samples()} == {"One day,", "Once"}
    assert invoke("resume", "a", "--set", "train.steps=2", "--runs-dir", "runs").exit_code == 0


def test_the_settings_of_a_run_read_no_file(tmp_path: Path, elsewhere: Path) -> None:
    """A run directory may be somebody else's: what it names is not read."""
    run = RunDir.create(tmp_path / "runs", tiny_config(tmp_path), name="a")
    (elsewhere / "secret.txt").write_text("secret\n")
    (run.path / "secret.txt").write_text("secret\n")
    (run.path / "config.toml").write_text(PRESET.format(prompts='"secret.txt"', liked='["fox"]'))
    result = invoke("resume", "a", "--runs-dir", str(tmp_path / "runs"))
    assert result.exit_code != 0
    assert "secret\n" not in result.stderr


@pytest.mark.parametrize(("key", "written", "named"), [
    ("prompts", "One day,", ["One day,", "list"]),
    ("prompts", "none.txt", ["none.txt"]),
    ("prompts", "@none", ["none"]),
    ("prompts", "", ["one at least"]),
    ("prompts", "empty.txt", ["empty.txt", "empty"]),
    ("prompts", "blank.txt", ["blank.txt", "blank"]),
    ("prompts", "latin.txt", ["latin.txt", "UTF-8", "byte 3"]),
    ("prompts", "folder", ["folder"]),
    ("prompts", "pipe", ["pipe"]),
    ("prompts", "table.csv", ["table.csv", ".jsonl"]),
    ("prompts", "bad.jsonl", ["bad.jsonl:2", "JSON"]),
    ("prompts", "keys.jsonl", ["keys.jsonl:1", "'prompt'", "'question'"]),
    ("prompts", "chat.jsonl", ["chat.jsonl:1", "chat template"]),
    ("prompts", "number.jsonl", ["number.jsonl:1"]),
    ("prompts", "half.jsonl", ["half.jsonl:1"]),
    ("prompts", '["a", ["b"]]', ["prompts"]),
    ("rewards.0.liked", "@none.txt", ["none.txt"]),
    ("rewards.0.liked", "none.txt", ["none.txt"]),
    ("lora.target_modules", "@folder", ["folder"]),
])
def test_what_is_no_list_and_no_file_of_texts_is_said_in_a_line(
    elsewhere: Path, key: str, written: str, named: list[str]
) -> None:
    (elsewhere / "empty.txt").touch()
    (elsewhere / "blank.txt").write_text("\n \n")
    (elsewhere / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    (elsewhere / "folder").mkdir()
    os.mkfifo(elsewhere / "pipe")
    (elsewhere / "table.csv").write_text("prompt,answer\nOnce,3\n")
    (elsewhere / "bad.jsonl").write_text('"a"\n{"prompt": \n')
    (elsewhere / "keys.jsonl").write_text('{"question": "why"}\n')
    (elsewhere / "chat.jsonl").write_text(json.dumps({"prompt": [{"role": "user", "content": "x"}]}))
    (elsewhere / "number.jsonl").write_text("3\n")
    (elsewhere / "half.jsonl").write_text('"\\ud800"\n')
    result = invoke("train", "animals", "--set", f"{key}={written}", "--runs-dir", "runs")
    assert result.exit_code == 2
    (line,) = result.stderr.strip().splitlines()
    assert key in line
    assert all(word in line for word in named), line
    assert not (elsewhere / "runs").exists()


@pytest.mark.parametrize("written", ['["@words.txt"]', "fox, @words.txt", '["fox", "words.jsonl"]'])
def test_the_name_of_a_file_among_words_is_refused(elsewhere: Path, written: str) -> None:
    with pytest.raises(ConfigError, match=r"words\.(txt|jsonl).* in place of the list"):
        overridden(f"rewards.0.liked={written}")


def test_mistakes_in_a_preset_are_named_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(PRESET.format(prompts='"One day,"', liked='"@none.txt"'))
    with pytest.raises(ConfigError) as caught:
        presets.load(str(path))
    first, second = caught.value.problems
    assert first.startswith(f"{path}:3: prompts: ")
    assert second.startswith(f"{path}:6: rewards.0.liked: ")


def test_words_are_separated_by_commas_and_a_file_has_one_a_line(elsewhere: Path) -> None:
    (elsewhere / "words.txt").write_text("fox\npolar bear\n")
    for written, words in {"fox, owl": ["fox", "owl"], "猫，狗": ["猫", "狗"], "@words.txt": ["fox", "polar bear"],
                           "words.txt": ["fox", "polar bear"]}.items():
        assert overridden(f"rewards.0.liked={written}").rewards[0].liked == words


def test_a_preset_saved_anew_holds_the_prompts_in_place_of_the_name(tmp_path: Path) -> None:
    (presets.user_folder()).mkdir(parents=True)
    (presets.user_folder() / "mine.txt").write_text("One day,\nOnce\n")
    (presets.user_folder() / "mine.toml").write_text("# mine\n" + PRESET.format(prompts='"mine.txt"', liked='["fox"]'))
    presets.save("mine", presets.load("mine"), overwrite=True)
    (presets.user_folder() / "mine.txt").unlink()
    assert presets.load("mine").data.prompts == ["One day,", "Once"]
    assert presets.find("mine").read_text().startswith("# mine")
