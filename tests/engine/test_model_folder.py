"""A folder that is no model is one sentence, which says what it is and what to do; and no run is left behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
from tiny_models import tiny_config
from typer.testing import CliRunner

from rlhf_engine.commands.cli import make_app
from rlhf_engine.config import preset_writer

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{64 * 'a'}\nsize 2200119664\n"
PAGE = "<!DOCTYPE html>\n<html><head><title>404</title></head></html>"


def write(name: str, content: str | bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return change


def cut(name: str, keep: float) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * keep)])

    return change


def drop(*patterns: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for pattern in patterns:
            for path in folder.glob(pattern):
                path.unlink()

    return change


def both(*changes: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for one in changes:
            one(folder)

    return change


def inside(folder: Path) -> None:
    """The model in a subfolder, as a trainer's checkpoints are."""
    (folder / "checkpoint-500").mkdir()
    for path in [path for path in folder.iterdir() if path.is_file()]:
        path.rename(folder / "checkpoint-500" / path.name)


def shards(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}} | index))


def links(folder: Path) -> None:
    """As a snapshot of the hub's cache is, copied without what it links to."""
    for path in list(folder.iterdir()):
        path.unlink()
        path.symlink_to(f"../../blobs/{path.name}")


WEIGHTS = "model.safetensors"
CASES: list[tuple[str, Callable[[Path], None], list[str]]] = [
    ("weights that are a pointer", write(WEIGHTS, POINTER), [WEIGHTS, "Git LFS pointer", "git lfs pull"]),
    ("a config that is a pointer", write("config.json", POINTER), ["config.json", "git lfs pull"]),
    ("a tokenizer that is a pointer", write("tokenizer.json", POINTER), ["tokenizer.json", "git lfs pull"]),
    ("empty weights", write(WEIGHTS, ""), [WEIGHTS, "is empty"]),
    ("an empty config", write("config.json", ""), ["config.json", "is empty"]),
    ("weights that are a page", write(WEIGHTS, PAGE), [WEIGHTS, "web page"]),
    ("a config that is a page", write("config.json", "\n" + PAGE), ["config.json", "web page"]),
    ("weights cut off in the middle", cut(WEIGHTS, 0.5), [WEIGHTS, "cut off", "bytes"]),
    ("weights cut off in the header", cut(WEIGHTS, 0.001), [WEIGHTS, "cut off", "bytes"]),
    ("weights of four bytes", cut(WEIGHTS, 0.00005), [WEIGHTS, "safetensors"]),
    ("a pickle by that name", write(WEIGHTS, b"\x80\x02}q\x00." * 9), [WEIGHTS, "no file of safetensors"]),
    ("a damaged header", write(WEIGHTS, (16).to_bytes(8, "little") + b"{this is no json"), [WEIGHTS, "damaged"]),
    ("no weights in it", write(WEIGHTS, (2).to_bytes(8, "little") + b"{}"), [WEIGHTS, "no weights"]),
    ("a config that is no JSON", write("config.json", "{not json"), ["config.json", "not JSON"]),
    ("a config that is a list", write("config.json", "[1, 2]"), ["config.json", "list"]),
    ("a generation config that is a list", write("generation_config.json", "[]"), ["generation_config.json", "list"]),
    ("a tokenizer config that is none", write("tokenizer_config.json", "{"), ["tokenizer_config.json", "not JSON"]),
    ("no tokenizer", drop("tokenizer*"), ["no tokenizer"]),
    ("no config", drop("config.json"), ["no config.json"]),
    ("no weights", drop("*.safetensors"), ["no *.safetensors"]),
    ("pickles only", both(drop("*.safetensors"), write("pytorch_model.bin", b"\x80\x02")),
     ["pytorch_model.bin", "pickle"]),
    ("GGUF only", both(drop("*"), write("m.Q4_K_M.gguf", b"GGUF")), ["m.Q4_K_M.gguf", "GGUF"]),
    ("GGUF beside a config", both(drop("*.safetensors"), write("m.gguf", b"GGUF")), ["m.gguf", "GGUF"]),
    ("weights by another name", lambda folder: (folder / WEIGHTS).rename(folder / "mine.safetensors") and None,
     ["mine.safetensors", WEIGHTS]),
    ("a shard that is absent", shards, ["model-00002-of-00002.safetensors", "not there"]),
    ("a shard that is a pointer", both(shards, write("model-00002-of-00002.safetensors", POINTER)),
     ["model-00002-of-00002.safetensors", "git lfs pull"]),
    ("an index of nothing", both(drop(WEIGHTS), write("model.safetensors.index.json", '{"metadata": {}}')),
     ["model.safetensors.index.json", "names no files"]),
    ("a vocabulary that is a pointer", write("tokenizer.model", POINTER), ["tokenizer.model", "git lfs pull"]),
    ("merges that are a page", write("merges.txt", PAGE), ["merges.txt", "web page"]),
    ("links that lead nowhere", links, ["../../blobs/", "not there", "cp -rL"]),
    ("a folder of checkpoints", inside, ["checkpoint-500"]),
    ("an empty folder", drop("*"), ["no config.json"]),
]


def refused(name: str, tmp_path: Path) -> str:
    """What train says to a model of that name; it leaves no run behind."""
    preset = tmp_path / "mine.toml"
    preset.write_text(preset_writer.to_toml(tiny_config(Path(name))))
    result = CliRunner().invoke(make_app(), ["train", str(preset), "--runs-dir", str(tmp_path / "runs")])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 1
    assert not [*(tmp_path / "runs").glob("*")]
    (said,) = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    return said


@pytest.mark.parametrize(("change", "says"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_what_is_no_model_is_told(
    model_folders: dict[str, Path], tmp_path: Path, change: Callable[[Path], None], says: list[str]
) -> None:
    folder = Path(shutil.copytree(model_folders["llama"], tmp_path / "model"))
    change(folder)
    said = refused(str(folder), tmp_path)
    for words in [str(folder), *says]:
        assert words in said


def test_a_file_is_no_folder(model_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = model_folders["llama"]
    assert f"name the folder that it lies in, {folder}" in refused(str(folder / WEIGHTS), tmp_path)
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    assert "GGUF" in refused(str(tmp_path / "m.gguf"), tmp_path)


@pytest.mark.parametrize("name", ["x" * 5000, "/" + "x" * 5000, "a/b\\u0000c", "no such/model", "..", "/dev/null"],
                         ids=["too long", "too long a path", "no character", "a space", "above", "no file"])
def test_what_can_be_no_name_is_told(tmp_path: Path, name: str) -> None:
    assert "model.name" in refused(name, tmp_path)


def test_weights_in_shards_are_no_fault(model_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model_folders["llama"], tmp_path / "model"))
    tensors = safetensors.torch.load_file(folder / WEIGHTS)
    names = sorted(tensors)
    files = {name: f"model-0000{1 + (number % 2)}-of-00002.safetensors" for number, name in enumerate(names)}
    for file in set(files.values()):
        safetensors.torch.save_file({name: tensors[name] for name in names if files[name] == file}, folder / file,
                                    metadata={"format": "pt"})
    (folder / WEIGHTS).unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    told = [CliRunner().invoke(make_app(), ["generate", str(place), "--prompt", "Once", "--max-new-tokens", "8"])
            for place in (folder, model_folders["llama"])]
    assert [result.exit_code for result in told] == [0, 0]
    assert told[0].stdout == told[1].stdout
