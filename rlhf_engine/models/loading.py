"""Finds and loads a causal language model and its tokenizer: the storyteller, a local folder, or a hub name."""

from __future__ import annotations

import copy
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakSet

import huggingface_hub
import torch
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer, PretrainedConfig
from transformers.utils import cached_file
from transformers.utils import logging as transformers_logging

from rlhf_engine.config.model_names import STORYTELLER, folder_of
from rlhf_engine.config.sections import ModelConfig
from rlhf_engine.errors import ModelError, first_line, short
from rlhf_engine.model_folders import remote_code
from rlhf_engine.model_folders.adapter_folder import WELL_KEPT, Adapter, Task, adapter_of
from rlhf_engine.model_folders.fingerprint import Fingerprint
from rlhf_engine.model_folders.model_claims import check_config_sizes, check_described_size
from rlhf_engine.model_folders.model_files import ADAPTER_CONFIG, FETCHED, LOOKED_OVER, folder_in_use, has_tokenizer
from rlhf_engine.model_folders.model_folder import require_fetched, require_model
from rlhf_engine.models.attention_masks import never_read_masks
from rlhf_engine.models.compiled import Compiled
from rlhf_engine.models.compiled_modules import compile_modules
from rlhf_engine.models.foreign import foreign
from rlhf_engine.models.fused_modules import fuse_modules
from rlhf_engine.models.memory import out_of_memory
from rlhf_engine.models.merging import merge
from rlhf_engine.models.text_pass import TextPass, read_text
from rlhf_engine.models.tokens import TokenIds, token_ids
from rlhf_engine.models.weights import require_complete, require_finite
from rlhf_engine.runs.base_model import base_fingerprint
from rlhf_engine.storyteller import MODEL_DIR
from rlhf_engine.system.processes import return_free_memory

NO_ADAPTER = {"subfolder": "adapters-are-merged-by-us"}
"""transformers would put an adapter that lies beside a model onto it, unasked; it finds none where no folder is."""


_loaded: WeakSet[Any] = WeakSet()  # models that are still in memory


@dataclass(frozen=True)
class LoadedModel:
    """A frozen base model in eval mode on its device, and what is needed to sample from it."""

    model: Any
    tokenizer: Any
    device: torch.device
    dtype: torch.dtype
    ids: TokenIds
    text: TextPass
    fingerprint: Fingerprint | None
    """What the files are that it was loaded from."""
    compiled: tuple[Compiled, ...] | None = None
    """Functions of the model that torch compiles; None where nothing is to be compiled."""


def load_model(config: ModelConfig) -> LoadedModel:
    """Load model and tokenizer. Raises ModelError: one sentence saying what was not found and what would work."""
    if _loaded:  # a run's parts hold one another: until Python looks for such circles, its model is not gone
        gc.collect()
        return_free_memory()
        torch.cuda.empty_cache()  # nor is what graphs had: their memory is of no use to anything else
    # attention weights far below 1e-38 are common, and a CPU takes a hundred times as long to multiply such numbers
    torch.set_flush_denormal(True)
    device = choose_device(config.device)
    dtype = choose_dtype(config.dtype, device)
    tokenizer, model, notice = load_plain(config, dtype)
    with told(config, device, dtype):
        model.to(device).eval()
        text = read_text(model)
    # adapters are float32; where they feed into half precision, the tensor cores' 19 bits lose nothing. The setting is
    # the process's, so a model in float32 takes back what one before it had asked for
    half = device.type == "cuda" and dtype != torch.float32
    torch.set_float32_matmul_precision("high" if half else "highest")
    # the weights stay frozen for good: only adapters learn, so that actor, critic and reference share them
    model.requires_grad_(False)
    model.eval()
    fuse_modules(model, fuse_attention=device.type == "cuda")
    never_read_masks()
    compiled = tuple(compile_modules(model)) if wants_compiled(config.compile, device) else None
    _loaded.add(model)
    with told(config, device, dtype):
        ids = token_ids(model, tokenizer)
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        device=device,
        dtype=dtype,
        ids=replace(ids, banned=ids.banned.to(device), notices=(*ids.notices, *([notice] if notice else []))),
        text=text,
        fingerprint=base_fingerprint(config),
        compiled=compiled,
    )


class Plain(NamedTuple):
    """Tokenizer and model as transformers gives them. notice: a sentence for the user, or nothing."""

    tokenizer: Any
    model: Any
    notice: str = ""


def load_plain(config: ModelConfig, dtype: torch.dtype) -> Plain:
    """On the CPU, with the weights of its files and no others. Raises ModelError as `load_model` does."""
    adapter = adapter_named(config)
    plain = _load_merged(config, adapter, dtype) if adapter else Plain(*_load_whole(config, dtype))
    with told(config, torch.device("cpu"), dtype):
        require_finite(plain.model)
    return plain


def _load_whole(config: ModelConfig, dtype: torch.dtype) -> tuple[Any, Any]:
    with told(config, torch.device("cpu"), dtype):
        source, options = _found(config)
        settings, auto = _architecture(source, options)  # first: the tokenizer's class makes a config of its own
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        check_described_size(_skeleton(auto, settings, options), folder_in_use(config))
        # no pickle: of a hub model without safetensors, transformers takes the copy that the hub's own bot proposes
        model, info = auto.from_pretrained(
            source, config=settings, dtype=dtype, use_safetensors=True, output_loading_info=True,
            ignore_mismatched_sizes=True, adapter_kwargs=NO_ADAPTER, **options,
        )
        require_complete(model, info)  # sizes that do not fit are named there
        return tokenizer, model


def _load_merged(config: ModelConfig, adapter: Adapter, dtype: torch.dtype) -> Plain:
    """The adapter in its base, added in float32, and the tokenizer that fine-tuning left, if it left one."""
    try:
        tokenizer, base = _load_whole(adapter.base, torch.float32)
    except ModelError as error:
        reason = str(error).removeprefix("model.name: ")
        raise ModelError(f"model.name: {adapter.folder} holds an adapter, whose model does not load: {reason}"
                         ) from error
    model, kept = merge(adapter, base, dtype)
    if has_tokenizer(adapter.folder) and not adapter.beside:
        with told(config, torch.device("cpu"), dtype):
            where = {"local_files_only": True}
            options = where | remote_code.options(config, str(adapter.folder), where)
            tokenizer = AutoTokenizer.from_pretrained(adapter.folder, config=model.config, **options)
    if kept >= WELL_KEPT:
        return Plain(tokenizer, model)
    lost = f"in {str(dtype).removeprefix('torch.')} the weights keep {max(kept, 0.0):.0%} of what the adapter in "
    return Plain(tokenizer, model, f"{lost}{adapter.folder} adds to them; model.dtype=float32 keeps all of it")


def adapter_named(config: ModelConfig, task: Task = "CAUSAL_LM") -> Adapter | None:
    """The adapter that `config` names, if it is one; fetched first, if the hub has it. Raises ModelError."""
    fetched = folder_in_use(config)
    if fetched is None or ("snapshots" in fetched.parts and (fetched / ADAPTER_CONFIG).is_file()):
        with told(config, torch.device("cpu"), torch.float32):
            name, options = _source(config)
            if cached_file(name, ADAPTER_CONFIG, _raise_exceptions_for_missing_entries=False, **options):
                revision, local = options.get("revision"), "local_files_only" in options
                huggingface_hub.snapshot_download(name, revision=revision, local_files_only=local,
                                                  allow_patterns=FETCHED)
    return adapter_of(config, task)


def load_skeleton(config: ModelConfig) -> tuple[Any, Any]:
    """Tokenizer, and the model's modules without their weights (on torch's device "meta"). Raises ModelError."""
    with told(config, torch.device("cpu"), torch.float32):
        source, options = _found(config)
        settings, auto = _architecture(source, options)  # first: the tokenizer's class makes a config of its own
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        skeleton = _skeleton(auto, settings, options)
        check_described_size(skeleton, folder_in_use(config))
        return tokenizer, skeleton


def _skeleton(auto: Any, settings: Any, options: dict[str, Any]) -> Any:
    """The modules of a model as its config describes them, on torch's device "meta", where they take no memory."""
    trust = {name: value for name, value in options.items() if name in ("trust_remote_code", "code_revision")}
    with torch.device("meta"):
        return auto.from_config(copy.deepcopy(settings), **trust)


def _architecture(source: str, options: dict[str, Any]) -> tuple[Any, Any]:
    """A model's config, and the auto class that loads it as it was saved. One that also sees is loaded whole, though
    only its text part is used. Raises ModelError for what cannot be adapted as a causal language model."""
    check_config_sizes(PretrainedConfig.get_config_dict(source, **options)[0])
    config = AutoConfig.from_pretrained(source, **options)
    saved_as = getattr(config, "architectures", None) or []
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(f"its architecture, {config.model_type}, is an encoder-decoder, which answers a text instead "
                         "of continuing it; causal language models are supported")
    settings = (config, config.get_text_config())
    method = next((how for one in settings if (how := getattr(one, "quantization_config", None))), None)
    if method:
        name = method.get("quant_method") if isinstance(method, dict) else getattr(method, "quant_method", None)
        shown = short(str(name or "by a method it does not name"))
        raise ModelError(f"its weights are quantised ({shown}); training takes them "
                         "in float32, bfloat16 or float16, so take the model they were made from, or dequantise it")
    autos = (AutoModelForCausalLM, AutoModelForImageTextToText)
    known = [auto for auto in autos if type(config) in auto._model_mapping]
    as_saved = [auto for auto in known if auto._model_mapping[type(config)].__name__ in saved_as]
    return config, [*as_saved, *known, AutoModelForCausalLM][0]


def choose_device(wanted: str) -> torch.device:
    """`auto` takes cuda, then mps, then cpu. Raises ModelError for a device this machine lacks."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return torch.device(next(name for name, there in available.items() if there))
    if not available[wanted]:
        has = ", ".join(name for name, there in available.items() if there)
        raise ModelError(f"model.device: {wanted} is not available to torch here; this machine has {has}")
    return torch.device(wanted)


def choose_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """`auto` takes bfloat16 where a CUDA device computes in it, else float32."""
    if wanted == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[wanted]


def wants_compiled(wanted: str, device: torch.device) -> bool:
    """`auto` compiles where a CUDA device computes: a CPU needs half a minute for what it gains little by."""
    return wanted == "on" or (wanted == "auto" and device.type == "cuda")


@contextmanager
def told(config: ModelConfig, device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Turns what the libraries raise while they load into a ModelError of one sentence."""
    def sentence(error: BaseException) -> str:
        return _no_room(config, device, dtype) if out_of_memory(error) else _why_not(config, error)

    try:
        with foreign(sentence):
            yield
    except ModelError as error:
        told = str(error).startswith(("model.", "lora."))
        raise ModelError(str(error) if told else cannot_use(config, error)) from error


def _found(config: ModelConfig) -> tuple[str, dict[str, Any]]:
    """`_source`, with what trusting the model's own code takes."""
    source, options = _source(config)
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()  # what is wrong with a model we say ourselves, in one place
    return source, options | remote_code.options(config, source, options)


def _source(config: ModelConfig) -> tuple[str, dict[str, Any]]:
    """What to hand to from_pretrained: a folder, or a hub name that is known to be reachable or cached."""
    if config.name == STORYTELLER:
        return str(MODEL_DIR), {"local_files_only": True}
    path = folder_of(config.name)
    if os.path.isdir(path) or (os.path.isfile(path) and is_path(config.name)):
        try:
            require_model(path)
        except ModelError as error:
            raise ModelError(f"model.name: {error}") from error
        return str(path), {"local_files_only": True}
    if is_path(config.name):
        raise ModelError(
            f"model.name: there is no folder {config.name!r}; if it has moved, --set model.name=/new/path says where "
            "it is; else give a folder that holds config.json, a hub name such as owner/model, or storyteller"
        )
    fetched, options = fetched_for_a_look(config)
    try:
        require_fetched(fetched)
    except ModelError as error:
        raise ModelError(f"model.name: {config.name!r}, as the hub has it: {error}") from error
    return config.name, options


def fetched_for_a_look(config: ModelConfig) -> tuple[Path, dict[str, Any]]:
    """Where the small files of a hub model lie, fetched before any library reads them, and the options of
    from_pretrained that find the model; its weights come later, for transformers chooses among them. Raises ModelError
    where the hub has no such model, or cannot be asked and nothing was fetched before."""
    options: dict[str, Any] = {"revision": config.revision} if config.revision else {}
    options |= {} if _hub_has(config) else {"local_files_only": True}
    return Path(huggingface_hub.snapshot_download(config.name, allow_patterns=LOOKED_OVER, **options)), options


def is_path(name: str) -> bool:
    """True for what the hub can have no model by the name of."""
    return name.startswith(("/", ".", "~")) or name.count("/") > 1 or name.endswith((".safetensors", ".gguf", ".bin"))


def _hub_has(config: ModelConfig) -> bool:
    """True if the hub has the model, False if it cannot be asked but the model was fetched before.

    Asked once and with a time limit: left to itself, transformers tries for a minute. Raises ModelError otherwise.
    """
    local = "or give a local copy with --set model.name=/path/to/folder, or use storyteller"
    at = f" at revision {config.revision!r}" if config.revision else ""
    try:
        huggingface_hub.model_info(config.name, revision=config.revision, timeout=10)
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        raise ModelError(
            f"model.name: the hub knows no model {config.name!r}{at} that you may read, and there is no such folder; "
            f"check the name, {local}"
        ) from error
    except Exception as error:  # whatever stands between us and the hub: no network, a proxy, the hub itself
        if folder_in_use(config):
            return False
        raise ModelError(
            f"model.name: {config.name!r} is no folder in {Path.cwd()}, and the hub cannot be reached "
            f"({type(error).__name__}); connect to the network, {local}"
        ) from error
    return True


def cannot_use(config: ModelConfig, why: Exception) -> str:
    """The sentence for a model that loads and is none that can be trained."""
    return f"model.name: {config.name!r} cannot be used: {why}"


def _why_not(config: ModelConfig, error: BaseException) -> str:
    """One sentence on a model that was found but does not load."""
    if "trust_remote_code" in str(error):
        return remote_code.how_to(config)
    return f"model.name: {config.name!r} does not hold a causal language model that loads: {first_line(error)}"


def _no_room(config: ModelConfig, device: torch.device, dtype: torch.dtype) -> str:
    free = f" ({torch.cuda.mem_get_info(device)[0] / 2**30:.1f} GiB free)" if device.type == "cuda" else ""
    return (f"model.name: {config.name!r} in {str(dtype).removeprefix('torch.')} does not fit into the memory of "
            f"{device}{free}: take a smaller model, model.dtype=bfloat16, or model.device=cpu")
