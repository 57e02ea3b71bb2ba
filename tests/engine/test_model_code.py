"""Weights and code of a model: only safetensors are read, and code runs only for a model that was named for it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from tiny_models import tiny_config

from rlhf_engine.config.sections import ModelConfig
from rlhf_engine.errors import ConfigError, ModelError
from rlhf_engine.model_folders import remote_code
from rlhf_engine.models.policy import Policy
from rlhf_engine.runs.hand_over import hand_over

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CODE = """
from pathlib import Path
from transformers import GPTNeoConfig, GPTNeoForCausalLM

Path({mark!r}).touch()

class OwnConfig(GPTNeoConfig):
    model_type = "own"

class OwnModel(GPTNeoForCausalLM):
    config_class = OwnConfig
"""


@pytest.fixture(autouse=True)
def nothing_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    yield
    remote_code.distrust()


@pytest.fixture
def own(model_folders: dict[str, Path], tmp_path: Path) -> Path:
    """A model that transformers does not know; its code leaves a mark when it runs."""
    folder = Path(shutil.copytree(model_folders["gpt_neo"], tmp_path / "own"))
    config = json.loads((folder / "config.json").read_text()) | {
        "model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(CODE.format(mark=str(tmp_path / "mark")))
    return folder


def test_a_model_s_own_code_runs_only_when_that_model_was_named(own: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=rf"needs code of its own.*--trust-remote-code {own}.*read that code first"):
        Policy.from_config(tiny_config(own))
    remote_code.trust(str(tmp_path))
    with pytest.raises(ModelError, match="needs code of its own"):
        Policy.from_config(tiny_config(own))
    assert not (tmp_path / "mark").exists()

    assert remote_code.trust(str(own)).startswith(f"running the model code in {own} (SHA-256 ")
    assert type(Policy.from_config(tiny_config(own)).base).__name__ == "OwnModel"
    assert (tmp_path / "mark").exists()


def test_code_of_another_repository_is_not_covered(own: Path) -> None:
    config = json.loads((own / "config.json").read_text())
    config["auto_map"]["AutoModelForCausalLM"] = "somebody/else--own.OwnModel"
    (own / "config.json").write_text(json.dumps(config))
    remote_code.trust(str(own))
    with pytest.raises(ModelError, match="code of another repository, 'somebody/else'"):
        Policy.from_config(tiny_config(own))


@pytest.mark.parametrize(("text", "names"), [
    ('{"auto_map": null}', []), ('{}', []), ('{"auto_map": 7}', []), ('{"auto_map": "own.A"}', ["own.A"]),
    ('{"auto_map": {"AutoTokenizer": ["own.Slow", null], "AutoModel": "own.M"}}', ["own.Slow", "own.M"]),
])
def test_whatever_stands_under_auto_map_is_read(tmp_path: Path, text: str, names: list[str]) -> None:
    (tmp_path / "config.json").write_text(text)
    assert remote_code._classes(str(tmp_path), "config.json", {}) == names


@pytest.mark.parametrize(("text", "says"), [("[1]", "JSON list"), ("{", "not JSON")])
def test_a_trusted_model_whose_files_are_broken_is_one_sentence(own: Path, text: str, says: str) -> None:
    (own / "tokenizer_config.json").write_text(text)
    remote_code.trust(str(own))
    with pytest.raises(ModelError, match=rf"tokenizer_config\.json .*{says}"):
        Policy.from_config(tiny_config(own))


@pytest.mark.parametrize("trusted", [True, False])
def test_a_model_with_null_under_auto_map_is_one_sentence(own: Path, trusted: bool) -> None:
    config = json.loads((own / "config.json").read_text()) | {"auto_map": None}
    (own / "config.json").write_text(json.dumps(config))
    if trusted:
        remote_code.trust(str(own))
    with pytest.raises(ModelError, match=rf"^model\.name: [^\n]*{own}[^\n]*$"):
        Policy.from_config(tiny_config(own))


@pytest.mark.parametrize("argument", ["owner/name", "owner/name@main", f"owner/name@{COMMIT[:12]}", f"name@{COMMIT}",
                                      f"@{COMMIT}", "", f"a/b/c@{COMMIT}", "/no/such/folder"])
def test_only_a_folder_or_a_whole_commit_can_be_trusted(argument: str) -> None:
    with pytest.raises(ConfigError, match="neither a folder nor owner/name@commit"):
        remote_code.trust(argument)


def test_a_hub_model_is_trusted_at_the_named_commit_alone() -> None:
    assert remote_code.trust(f"owner/name@{COMMIT}") == (
        f"running the model code of owner/name at commit {COMMIT}, as --trust-remote-code allows")
    assert remote_code.is_trusted(ModelConfig(name="owner/name", revision=COMMIT))
    for name, revision in [("owner/name", None), ("owner/name", "main"), ("owner/other", COMMIT)]:
        assert not remote_code.is_trusted(ModelConfig(name=name, revision=revision))


def test_a_process_that_goes_on_with_the_run_is_told_the_same(own: Path, tmp_path: Path,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    from rlhf_engine.runs.run_dir import RunDir

    started: list[list[str]] = []
    monkeypatch.setattr("rlhf_engine.runs.hand_over.subprocess.Popen", lambda command, **_: started.append(command))
    run_dir = RunDir.create(tmp_path / "runs", tiny_config(own))
    hand_over(run_dir)
    remote_code.trust(str(own))
    hand_over(run_dir)
    pairs = [set(pairwise(command)) for command in started]
    assert [("--trust-remote-code", str(own)) in pair for pair in pairs] == [False, True]


def test_no_setting_can_ask_for_it() -> None:
    from rlhf_engine.config.fields import settings

    assert not [item.path for item in settings(tiny_config(Path("x"))) if "trust" in item.path or "code" in item.path]


class Payload:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


def test_pickled_weights_are_not_read(model_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model_folders["gpt_neo"], tmp_path / "pickled"))
    (folder / "model.safetensors").unlink()
    torch.save({"weight": Payload(tmp_path / "mark")}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"are a pickle \(pytorch_model.bin\).*only safetensors are") as caught:
        Policy.from_config(tiny_config(folder))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "mark").exists()
