"""Whether a folder holds what a model can be loaded from; if not, one sentence on what it holds and what to do.

Only names, sizes and beginnings of files are looked at, before any library reads them: theirs speak of headers and
offsets where a download was cut off. No torch here.
"""

from __future__ import annotations

import os
from pathlib import Path

from rlhf_engine.errors import ModelError, first_line, short
from rlhf_engine.files.disk import os_error_reason
from rlhf_engine.files.reading import UnexpectedFileError, open_regular
from rlhf_engine.model_folders.model_files import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    CONFIG,
    GENERATION,
    SHARDS,
    TOKENIZER_CONFIG,
    WEIGHTS,
    json_object,
    most_bytes,
    tokenizer_files,
    weight_files,
)
from rlhf_engine.model_folders.safetensors_header import Header, read_header
from rlhf_engine.model_folders.tokenizer_claims import check_tokenizer_growth

_LFS = b"version https://git-lfs"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_JSON = (CONFIG, GENERATION, TOKENIZER_CONFIG, SHARDS, ADAPTER_CONFIG, "tokenizer.json", "special_tokens_map.json",
         "added_tokens.json")


def require_model(folder: Path, what: str = "causal language model") -> Header:
    """Raises ModelError unless `folder` is one with a whole model and its tokenizer in files of their own size.

    what: what it should be, for the sentence. Returns what the headers of its weights tell, of all files together.
    """
    _require_folder(folder)
    _require_files(folder)
    if not (folder / CONFIG).is_file():
        raise ModelError(_no_model(folder, CONFIG, what))
    files = weight_files(folder)
    if not files:
        raise ModelError(_no_model(folder, "weights", what))
    if files[0].name.endswith(".index.json") and not files[1:]:
        raise ModelError(f"{files[0]} names no files of weights; download it anew")
    if wrong := [str(path) for path in files[1:] if not _inside(path, folder) or path.suffix != ".safetensors"]:
        raise ModelError(f"{files[0]} names {_some(wrong)}: only files of safetensors in that folder are read")
    if missing := [path.name for path in files if not os.path.isfile(path)]:
        raise ModelError(f"{files[0]} names files that are not there: {_some(missing)}; download them too")
    found = Header.of([_require_whole_weights(path) for path in files if path.suffix == ".safetensors"])
    if not tokenizer_files(folder):
        raise ModelError(f"{folder} has no tokenizer; copy the tokenizer's files of the model that it came from there")
    return found


def require_fetched(folder: Path) -> None:
    """Raises ModelError for what of a hub model is there and is not whole; its weights may be fetched later."""
    _require_files(folder)
    for path in weight_files(folder):
        if path.suffix == ".safetensors" and path.is_file():
            _require_whole_weights(path)


def require_adapter(folder: Path) -> Header:
    """Raises ModelError unless the adapter's two files in `folder` are whole, and a tokenizer's, if there is one.
    Returns what the header of its weights tells."""
    _require_files(folder)
    path = folder / ADAPTER_WEIGHTS
    if not path.is_file():
        there = next((short(path.name) for path in folder.glob("adapter_model.*") if path != folder / ADAPTER_WEIGHTS),
                     None)
        raise ModelError(f"the weights of the adapter in {folder} are a pickle ({there}), which could run code when it "
                         "is read; only safetensors are, so save the adapter anew with save_pretrained" if there else
                         f"{folder} has an {ADAPTER_CONFIG} and no {ADAPTER_WEIGHTS}")
    return _require_whole_weights(path)


# ---------------------------------------------------------------------------------------------------------------------


def _require_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    if not folder.is_file():
        raise ModelError(f"there is no folder {folder}")
    if folder.suffix == ".gguf":
        raise ModelError(_gguf(folder))
    inside = f": name the folder that it lies in, {folder.parent}" if (folder.parent / CONFIG).is_file() else ""
    raise ModelError(f"{folder} is a file, where a folder with {CONFIG}, weights and tokenizer is needed{inside}")


def _require_files(folder: Path) -> None:
    """What stands in the folder must be there itself, files of a size, and its JSON be JSON."""
    for path in sorted([*folder.glob("*"), *folder.glob("additional_chat_templates/*")]):
        if path.is_symlink() and not path.exists():
            there = short(os.readlink(path), 400)
            raise ModelError(f"{path} is a link to {there}, which is not there; copy the folder with what its links "
                             "lead to (cp -rL)")
        _require_plain(path)
    for path in tokenizer_files(folder):
        if path.suffix not in (".json", ".jinja", ".txt") or path.stat().st_size:
            _require_real(path)
    for path in (folder / name for name in _JSON):
        if not path.is_file():
            continue
        _require_real(path)
        try:
            found = json_object(path)
        except OSError as error:
            raise ModelError(f"{path} could not be read: {os_error_reason(error)}") from error
        except ValueError as error:
            raise ModelError(f"{path} is damaged: {first_line(error)}; download it anew") from error
        if path.name == "tokenizer.json":
            check_tokenizer_growth(found, path)


def _inside(path: Path, folder: Path) -> bool:
    """Whether a path is below a folder by what it says; links, of which the hub's cache is made, may lead elsewhere."""
    return os.path.normpath(path).startswith(os.path.join(os.path.normpath(folder), ""))


def _require_plain(path: Path) -> None:
    """A FIFO, or a device, by any name is what no library should be let near; nor is a folder where a file belongs, or
    a file that is larger than any such file is."""
    ours = path.name in _JSON or path.suffix in (".json", ".jinja", ".txt", ".model", ".safetensors", ".tiktoken")
    if path.is_dir() and not ours:
        return
    try:
        most = most_bytes(path) if ours and path.suffix != ".safetensors" else None
        open_regular(path, most, follow=True).close()
    except UnexpectedFileError as error:
        raise ModelError(f"{path} cannot be read: {os_error_reason(error)}") from error
    except OSError as error:
        if ours:
            raise ModelError(f"{path} could not be read: {os_error_reason(error)}") from error


def _require_whole_weights(path: Path) -> Header:
    """A file of safetensors is 8 bytes that tell the length of its header, the header, and the tensors."""
    _require_real(path)
    return read_header(path)


def _require_real(path: Path) -> bytes:
    """The file's beginning. Raises ModelError when it only stands for the file that was meant."""
    try:
        with open_regular(path, follow=True) as file:
            start = file.read(64)
    except OSError as error:
        raise ModelError(f"{path} could not be read: {os_error_reason(error)}") from error
    if not start:
        raise ModelError(f"{path} is empty; download it anew")
    if start.startswith(_LFS):
        raise ModelError(f"{path} is a Git LFS pointer, not the file itself; run `git lfs pull` in {path.parent}")
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise ModelError(f"{path} is a web page, such as an error of the site it came from; download it anew")
    return start


def _no_model(folder: Path, lacks: str, what: str) -> str:
    """Why the folder is no model, told from what is in it."""
    if ggufs := sorted(folder.glob("*.gguf")):
        return _gguf(ggufs[0])
    pickles = sorted(path for pattern in _PICKLES for path in folder.glob(pattern) if path.name != "training_args.bin")
    if lacks != CONFIG and pickles:
        return (f"the weights in {folder} are a pickle ({pickles[0].name}), which could run code when it is read; only "
                "safetensors are, so save that model anew with save_pretrained")
    inner = sorted({path.parent for pattern in ("*/", "*/*/") for name in (CONFIG, ADAPTER_CONFIG)
                    for path in folder.glob(pattern + name)})
    if inner:
        return f"{folder} holds no model itself, but there is one in {_some([str(path) for path in inner])}"
    strays = [path.name for path in folder.glob("*.safetensors")]
    if lacks != CONFIG and strays:
        return (f"{folder} has weights by names that nothing loads ({_some(strays)}); they are to be called {WEIGHTS}, "
                f"or named by {SHARDS}")
    missing = [CONFIG] * (lacks == CONFIG) + ["*.safetensors"] * (not strays)
    return (f"{folder} does not hold a {what}: it has no {' and no '.join(missing)}, as save_pretrained writes them")


def _gguf(path: Path) -> str:
    return (f"{path} is a GGUF file, which is made to run a model, not to train one; take the model that it was made "
            "from, in safetensors")


def _some(names: list[str]) -> str:
    return ", ".join(short(name, 400) for name in names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")
