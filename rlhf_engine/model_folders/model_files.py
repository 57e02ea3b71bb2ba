"""The files that a model is loaded from: which of a folder's are read, and where a hub model's lie. No torch here."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rlhf_engine.config.model_names import STORYTELLER, folder_of
from rlhf_engine.config.sections import ModelConfig
from rlhf_engine.errors import first_line
from rlhf_engine.files.reading import read_bytes
from rlhf_engine.storyteller import MODEL_DIR

CONFIG, WEIGHTS, SHARDS = "config.json", "model.safetensors", "model.safetensors.index.json"
GENERATION, TOKENIZER_CONFIG = "generation_config.json", "tokenizer_config.json"
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

# all that a tokenizer of transformers reads, by the names and endings that its classes give
_OF_TOKENIZERS = ("tokenizer*", "vocab*", "merges*", "special_tokens_map.json", "added_tokens.json", "chat_template*",
                  "additional_chat_templates/*", "*.model", "*.jinja", "*.tiktoken", "*.tokenizer", "tekken.json",
                  "dict.txt", "emoji.json", "entity_vocab.json", "byte_maps.json", "bpe.codes")
_VOCABULARIES = ("tokenizer.", "vocab", "merges", "tekken", "dict", "entity_vocab", "bpe")
# of a model on the hub, what is looked over before it is loaded; weights only where they are there already
LOOKED_OVER = [CONFIG, GENERATION, SHARDS, ADAPTER_CONFIG, *_OF_TOKENIZERS]
# of an adapter on the hub, what is read
FETCHED = ["adapter_*", *_OF_TOKENIZERS, "*.py"]


def folder_in_use(config: ModelConfig) -> Path | None:
    """Where the files lie that `config` is loaded from: a folder, which goes before a hub model of that name, or what
    was fetched of a hub model; None when there is neither.
    """
    if config.name == STORYTELLER:
        return MODEL_DIR
    if os.path.isdir(folder := folder_of(config.name)):
        return folder
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError

    for file in (CONFIG, ADAPTER_CONFIG):
        try:
            found = huggingface_hub.try_to_load_from_cache(config.name, file, revision=config.revision)
        except HFValidationError:  # no name that the hub could know
            return None
        if isinstance(found, str):
            return Path(found).parent
    return None


def located(config: ModelConfig) -> ModelConfig:
    """The same model, named so that it is found from everywhere: a folder by its whole path."""
    folder = folder_of(config.name)
    if config.name == STORYTELLER or not os.path.isdir(folder):  # which raises for no name, however long
        return config
    whole = folder.resolve() if ".." in folder.parts else folder.absolute()
    return config.model_copy(update={"name": str(whole)})


def json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a model. Raises OSError where it cannot be read, and ValueError, which says what it
    holds instead."""
    data = read_bytes(path, most_bytes(path), follow=True)
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON ({first_line(error)})") from error
    if not isinstance(found, dict):
        raise ValueError(f"it holds a JSON {type(found).__name__}, where an object is needed")
    return found


def read_json(path: Path) -> dict[str, Any]:
    """`json_object`, empty if there is no such file, or it holds none."""
    try:
        return json_object(path)
    except (OSError, ValueError):
        return {}


def most_bytes(path: Path) -> int:
    """How large a file of a model may be that is read whole: a vocabulary has some ten million bytes, an index of
    weights ten, what only says something a few thousand."""
    return 256_000_000 if path.name.startswith(_VOCABULARIES) or path.suffix == ".model" else 16_000_000


def weight_files(folder: Path) -> list[Path]:
    """The safetensors that a whole model in `folder` is loaded from, with the index that names them, if there is one.

    Shards that the index names stand in the list whether or not they are there; empty when the folder holds no model.
    """
    named = read_json(folder / CONFIG).get("transformers_weights")  # which transformers takes before any other
    first = next((name for name in (named, WEIGHTS, SHARDS)
                  if isinstance(name, str) and os.path.isfile(folder / name)), "")
    if not first:
        return []
    shards = read_json(folder / first).get("weight_map") if first.endswith(".index.json") else None
    names = sorted({str(name) for name in shards.values()}) if isinstance(shards, dict) else []
    return [folder / first, *(folder / name for name in names)]


def tokenizer_files(folder: Path) -> list[Path]:
    """What a tokenizer in `folder` is loaded from, by name."""
    return _there(path for pattern in _OF_TOKENIZERS for path in folder.glob(pattern))


def has_tokenizer(folder: Path) -> bool:
    """True when there is a vocabulary in `folder`, not only what is said about one."""
    about = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
    return any(path.name not in about and path.suffix != ".jinja" and not path.name.startswith("chat_template")
               for path in tokenizer_files(folder))


def code_files(folder: Path) -> list[Path]:
    """The Python files beside a model that brings code of its own; none beside one that does not."""
    brings = any("auto_map" in read_json(folder / name) for name in (CONFIG, TOKENIZER_CONFIG))
    return _there(folder.glob("*.py")) if brings else []


def _there(paths: Iterable[Path]) -> list[Path]:
    return sorted({path for path in paths if path.is_file()})
