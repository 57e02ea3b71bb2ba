"""The fingerprint of a base model: the same wherever it lies, another after every change that may change an answer."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf_engine.model_folders.fingerprint import fingerprint_of


@pytest.fixture
def folder(model_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Path(shutil.copytree(model_folders["llama"], tmp_path / "model"))


def test_a_copy_elsewhere_has_the_same_fingerprint(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "elsewhere" / "a name of its own"))
    (copy / "README.md").write_text("not read by anybody who answers")
    (tmp_path / "link").symlink_to(copy)
    assert fingerprint_of(folder) == fingerprint_of(copy) == fingerprint_of(tmp_path / "link")
    assert len(fingerprint_of(folder).hex) == 64


def _edit_json(name: str, **changes: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


def _flip_a_weight(folder: Path) -> None:
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(("change", "part"), [
    (_flip_a_weight, "weights"),
    (_edit_json("config.json", num_attention_heads=2), "architecture"),
    (_edit_json("generation_config.json", eos_token_id=[256, 10]), "generation settings"),
    (_edit_json("tokenizer_config.json", eos_token="<|pad|>"), "tokenizer"),
    (lambda folder: (folder / "added_tokens.json").write_text('{"<new>": 258}'), "tokenizer"),
])
def test_each_kind_of_change_is_told_apart(folder: Path, change: Callable[[Path], None], part: str) -> None:
    before = fingerprint_of(folder)
    change(folder)
    after = fingerprint_of(folder)
    assert before.differing(after) == after.differing(before) == [part]
    assert before.hex != after.hex


def test_what_saving_notes_about_itself_is_no_change(folder: Path) -> None:
    before = fingerprint_of(folder)
    _edit_json("config.json", transformers_version="99", _name_or_path="/somewhere/else")(folder)
    _edit_json("tokenizer_config.json", name_or_path="/somewhere/else")(folder)
    assert fingerprint_of(folder) == before


def test_another_shard_is_another_model_and_a_stray_file_is_none(folder: Path) -> None:
    shards = {"a.weight": "model-00001-of-00002.safetensors", "b.weight": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors").rename(folder / shards["a.weight"])
    (folder / shards["b.weight"]).write_bytes(b"the second")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    before = fingerprint_of(folder)
    (folder / "consolidated.safetensors").write_bytes(b"the same weights in another format")
    assert fingerprint_of(folder) == before
    (folder / shards["b.weight"]).write_bytes(b"the Second")
    assert before.differing(fingerprint_of(folder)) == ["weights"]


def test_weights_swapped_in_place_with_size_and_time_of_before_are_noticed(folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    _flip_a_weight(other)
    before, path = fingerprint_of(folder), folder / "model.safetensors"
    stat = path.stat()
    path.write_bytes((other / path.name).read_bytes())  # the same inode
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    swapped = fingerprint_of(folder)
    assert before.differing(swapped) == ["weights"]
    shutil.copy2(other / path.name, tmp_path / "aside")
    _flip_a_weight(other)
    os.replace(shutil.copy2(other / path.name, tmp_path / "aside"), path)  # another inode
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert swapped.differing(fingerprint_of(folder)) == ["weights"]
    assert fingerprint_of(folder) == before


def _seconds_later(folder: Path, seconds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """So long after the weights were written, as far as the fingerprint knows."""
    now = (folder / "model.safetensors").stat().st_ctime_ns + seconds * 10**9
    monkeypatch.setattr("rlhf_engine.model_folders.fingerprint.time.time_ns", lambda: now)


def test_a_file_is_hashed_once_and_again_after_it_changed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hashlib

    hashed: list[str] = []
    real = hashlib.file_digest

    def counted(file: object, name: str) -> object:
        hashed.append(os.path.basename(file.name))  # type: ignore[attr-defined]
        return real(file, name)  # type: ignore[arg-type]

    monkeypatch.setattr(hashlib, "file_digest", counted)
    _seconds_later(folder, 0, monkeypatch)
    fingerprint_of(folder)
    fingerprint_of(folder)
    assert hashed.count("model.safetensors") == 2  # it was made a moment ago: its time proves nothing yet
    _seconds_later(folder, 60, monkeypatch)
    before = fingerprint_of(folder)
    hashed.clear()
    assert fingerprint_of(folder) == before
    assert not hashed
    _flip_a_weight(folder)
    assert before.differing(fingerprint_of(folder)) == ["weights"]
    assert hashed == ["model.safetensors"]


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"x": 1}', b"\xff\xfe", b'{"/m": [1, 2, 3, 4, 5, "short"]}'])
def test_a_damaged_cache_is_as_good_as_none(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    _seconds_later(folder, 60, monkeypatch)
    before = fingerprint_of(folder)
    (cache,) = (tmp_path / "cache").rglob("fingerprints.json")
    assert "model.safetensors" in cache.read_text()
    cache.write_bytes(content)
    assert fingerprint_of(folder) == before
    assert "model.safetensors" in cache.read_text()


def test_a_cache_that_cannot_be_written_is_done_without(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    _seconds_later(folder, 60, monkeypatch)
    assert fingerprint_of(folder) == fingerprint_of(folder)
