"""Model and adapter folders that nobody meant well with: one sentence each, no hang, no gigabytes, no code, no network;
and what libraries say of them commands no terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import resource
import shutil
import signal
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import warm
from moments import PATIENCE
from peft import LoraConfig, get_peft_model
from tiny_models import tiny_config
from transformers import AutoModelForCausalLM

from rlhf_engine.errors import RlhfError
from rlhf_engine.evaluation.generate import generate_texts
from rlhf_engine.models import expressions
from rlhf_engine.models.policy import Policy

Change = Callable[[Path], object]
SEQUENCE = "\x1b]52;c;aGk=\x07\x9b\u202e\nerror: it is all well"
CONFIG, GENERATION, TOKENIZER = "config.json", "generation_config.json", "tokenizer_config.json"
WEIGHTS, INDEX, ADAPTER = "model.safetensors", "model.safetensors.index.json", "adapter_config.json"


@pytest.fixture(autouse=True)
def _bounds(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What waits for ever fails; and nothing here may ask the network."""
    def give_up(*_: object) -> None:
        raise TimeoutError("it hangs")

    def asked(*arguments: object, **_: object) -> None:
        raise AssertionError(f"the network was asked: {arguments}")

    monkeypatch.setattr("socket.getaddrinfo", asked)
    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(int(PATIENCE))
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def adapter_folder(model_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter") / "sft"
    base = AutoModelForCausalLM.from_pretrained(model_folders["llama"])
    model: Any = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    model.save_pretrained(folder)
    return folder


def says(name: str, **values: Any) -> Change:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | values))

    return change


def holds(name: str, content: str | bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def is_no_file(name: str, kind: str) -> Change:
    def change(folder: Path) -> None:
        path = folder / name
        path.unlink(missing_ok=True)
        if kind == "a FIFO":
            os.mkfifo(path)
        elif kind == "a folder":
            path.mkdir()
        elif kind == "a device":
            path.symlink_to("/dev/zero")
        elif kind == "a link to itself":
            path.symlink_to(path.name)
        else:
            with path.open("wb") as file:
                file.write(b"{")
                file.truncate(50_000_000_000)

    return change


def tokenizer(**parts: Any) -> Change:
    return says("tokenizer.json", **parts)


def header(change: Callable[[dict[str, Any]], object]) -> Change:
    def changed(folder: Path) -> None:
        data = (folder / WEIGHTS).read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        found = json.loads(data[8 : 8 + length])
        change(found)
        new = json.dumps(found).encode()
        (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(new)) + new + data[8 + length :])

    return changed


def tensors(**values: Any) -> Change:
    return header(lambda found: [entry.update(values) for name, entry in found.items() if name != "__metadata__"])


def renamed(found: dict[str, Any]) -> None:
    found[SEQUENCE] = found.pop("lm_head.weight")


def index(weight_map: object, *, more: Change = lambda _: None) -> Change:
    def change(folder: Path) -> None:
        (folder / WEIGHTS).rename(folder.parent / "outside.safetensors")
        (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
        more(folder)

    return change


def regex(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


BOMB = {"type": "Replace", "pattern": {"Regex": "."}, "content": "a" * 1000}
ENDLESS = "(.*)*(.*)*(.*)*(.*)*(.*)*!"

MODELS: dict[str, Change] = {
    **{f"{name} is {kind}": is_no_file(name, kind)
       for name, kinds in {
           CONFIG: ["a FIFO", "a folder", "a device", "a link to itself", "50 GB"],
           TOKENIZER: ["a FIFO", "a folder", "a device", "a link to itself", "50 GB"],
           GENERATION: ["a FIFO", "a folder", "a device", "50 GB"], "tokenizer.json": ["a FIFO", "a device", "50 GB"],
           WEIGHTS: ["a FIFO", "a folder", "a device", "50 GB"], "chat_template.jinja": ["a FIFO", "50 GB"],
           "special_tokens_map.json": ["a FIFO", "50 GB"], "vocab.json": ["50 GB"], "anything": ["a FIFO", "a device"],
       }.items() for kind in kinds},
    **{f"{name} = {str(value)[:20]}": says(CONFIG, **{name: value}) for name, values in {
        "num_attention_heads": [0, -1, 10**9, "4", None, 2.5], "hidden_size": [0, -32, 10**12, 10**400, "32"],
        "vocab_size": [0, -1, 10**9, 10**12, "x"], "num_hidden_layers": [10**6, 10**9, -2, "2"],
        "intermediate_size": [10**9, 10**12, -1], "num_key_value_heads": [0, -2, 10**9], "head_dim": [0, -8, 10**12],
        "num_labels": [10**9], "model_type": ["nope", SEQUENCE, None, 5, []], "eos_token_id": ["x", [["a"]], {}, 1.5],
        "pad_token_id": ["x", 10**12, [1]], "dtype": ["nope", SEQUENCE, []], "architectures": [5],
        "rope_parameters": ["x", {"rope_type": SEQUENCE}], "quantization_config": [5, {"quant_method": SEQUENCE}],
        "transformers_weights": ["../outside.safetensors", "x", 5], "hidden_act": ["nope", SEQUENCE],
        "auto_map": [5], "get_text_config": [5], "__class__": [5], "layer_types": [["nope", "nope"], 5],
        "_attn_implementation": [SEQUENCE, "somebody/kernels"], "rms_norm_eps": [float("nan"), "x"],
    }.items() for value in values},
    "a deep config": holds(CONFIG, '{"a":' * 100_000 + "1" + "}" * 100_000),
    "a config a little less deep": says(CONFIG, deep=json.loads("[" * 500 + "]" * 500)),
    "a number of many digits": lambda folder: (folder / CONFIG).write_text('{"a": ' + "9" * 5_000 + "}"),
    "end ids that are texts": says(GENERATION, eos_token_id="x"),
    "end ids in lists": says(GENERATION, eos_token_id=[[1]]),
    "a length that is a text": says(TOKENIZER, model_max_length="x"),
    "an end token that is a number": says(TOKENIZER, eos_token={"content": 5, "__type": "AddedToken"}),
    "added tokens without numbers": says(TOKENIZER, added_tokens_decoder={"x": {}}),
    "a wrong expression": tokenizer(pre_tokenizer=regex("((")),
    "an endless expression": tokenizer(pre_tokenizer=regex(r"(\w+\w+)+[^\w\W]")),
    "pieces of no length": tokenizer(pre_tokenizer={"type": "FixedLength", "length": 0}),
    "a table of characters": tokenizer(normalizer={"type": "Precompiled", "precompiled_charsmap": "/////w=="}),
    "a table that is small": tokenizer(normalizer={"type": "Precompiled", "precompiled_charsmap": "BAAAAAEAAAA="}),
    "a text that grows": tokenizer(normalizer={"type": "Sequence", "normalizers": [BOMB] * 4}),
    "a template of what is not there": tokenizer(post_processor={
        "type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "z", "type_id": 0}}], "pair": [],
        "special_tokens": {}}),
    "no vocabulary": tokenizer(model=None), "another version": tokenizer(version="9.9"),
    "a kind of model": tokenizer(model={"type": SEQUENCE}), "an empty tokenizer": holds("tokenizer.json", "{}"),
    "words without a word for others": tokenizer(model={"type": "WordLevel", "unk_token": "z", "vocab": {"a": 0}}),
    "a name of a tensor": header(renamed), "a format": tensors(dtype=SEQUENCE),
    "shapes below 0": tensors(shape=[-1, 2]),
    "huge shapes": tensors(shape=[10**18, 10**18]), "offsets that are texts": tensors(data_offsets=["a", "b"]),
    "endless offsets": tensors(data_offsets=[0, 1e400]), "deep weights": holds(WEIGHTS, struct.pack(
        "<Q", 200_001) + b"{" + b"[" * 200_000),
    "a large header": holds(WEIGHTS, struct.pack("<Q", 90_000_000) + b"{" + b" " * 9),
    "many tensors": header(lambda found: found.update({
        f"t{number}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for number in range(200_001)})),
    "weights elsewhere": index({"a": "../outside.safetensors"}),
    "weights at a whole path": index({"a": "/etc/passwd"}),
    "a pickle by index": index({"a": "x.bin"}, more=holds("x.bin", b"\x80\x02")),
    "weights that are a FIFO": index({"a": "x.safetensors"}, more=is_no_file("x.safetensors", "a FIFO")),
    "an index of numbers": index({"a": 5, "b": None, "c": ["x"]}), "an index of a list": index(["a"]),
    "an index of odd names": index({"a": SEQUENCE + ".safetensors", "b": "\0.safetensors", "c": "x" * 5000}),
}
ADAPTERS: dict[str, Change] = {
    **{f"{name} = {str(value)[:20]}": says(ADAPTER, **{name: value}) for name, values in {
        "base_model_name_or_path": ["../../../../etc", "/etc/passwd", 5, SEQUENCE, "a\0b", "x/" * 5000, ".", "~",
                                    "~nobody/x"],
        "r": [0, -1, 10**9, 10**400, "x", None, 2.5], "lora_alpha": ["x", None, 1e400, 10**400],
        "target_modules": ["((", ENDLESS, "(([a-z_.0-9]+)+)+!", 5, [], [5], [SEQUENCE], ".*", ["lm_head"]],
        "exclude_modules": [ENDLESS, 5], "rank_pattern": [{"((": 5}, {ENDLESS: 5}, {"q_proj": 10**9}, 5],
        "alpha_pattern": [{ENDLESS: 5}, 5], "layers_to_transform": [[99], "x", 10**9],
        "peft_type": ["NOPE", 5, None, SEQUENCE, [], "XLORA", "OFT"], "task_type": ["SEQ_CLS", 5, SEQUENCE],
        "init_lora_weights": ["nope", 5], "bias": ["nope", 5], "modules_to_save": [5, ["lm_head"]],
        "lora_dropout": [5, "x"], "layer_replication": [[[0, 10**6]]], "trainable_token_indices": [[10**9], 5],
    }.items() for value in values},
    **{f"its file is {kind}": is_no_file(ADAPTER, kind) for kind in ("a FIFO", "a device", "a folder", "50 GB")},
    "code that it names": says(ADAPTER, megatron_config={"a": 1}, megatron_core="code_of_a_stranger"),
}


@pytest.fixture(autouse=True)
def _no_expression_is_given_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """What never comes to an end need not be waited for as long as a user's slow one is."""
    monkeypatch.setattr(expressions, "SECONDS", 1.0)


def refused(folder: Path) -> str:
    """What loading it and reading a prompt says."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RlhfError) as caught:
        Policy.from_config(tiny_config(folder)).encode(["Once upon a time " + "a" * 40 + " b"])
    said = str(caught.value)
    assert len(said) < 2_000 + 6 * len(str(folder))
    assert "\n" not in said
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e]", said), said
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000  # KB
    return said


@pytest.mark.parametrize("kind", MODELS)
def test_a_folder_that_is_no_plain_model_is_a_sentence(
    model_folders: dict[str, Path], tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str],
) -> None:
    folder = Path(shutil.copytree(model_folders["llama"], tmp_path / "model"))
    MODELS[kind](folder)
    refused(folder)
    assert "panicked" not in capfd.readouterr().err


@pytest.mark.parametrize("kind", ADAPTERS)
def test_an_adapter_that_is_no_plain_one_is_a_sentence(
    adapter_folder: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "code_of_a_stranger.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    folder = Path(shutil.copytree(adapter_folder, tmp_path / "model"))
    ADAPTERS[kind](folder)
    refused(folder)
    assert not (tmp_path / "ran").exists()


def test_a_chat_template_is_never_rendered(model_folders: dict[str, Path], tmp_path: Path) -> None:
    """Prompts are continued as they stand."""
    folder = Path(shutil.copytree(model_folders["llama"], tmp_path / "model"))
    endless = "{% for a in range(10 ** 9) %}" * 2 + "x" + "{% endfor %}" * 2
    (folder / "chat_template.jinja").write_text(endless + "{{ raise_exception('rendered') }}")
    texts, _ = generate_texts(str(folder), prompts=["Once"], tuned=False, seed=0, temperature=None, max_new_tokens=4)
    assert len(texts) == 1


@pytest.mark.parametrize("expression", [ENDLESS, "((", "(?P<a>", "a{99999999999}"])
def test_an_expression_for_modules_ends(model_folders: dict[str, Path], expression: str) -> None:
    with pytest.raises(RlhfError, match=r"lora\.target_modules"):
        Policy.from_config(tiny_config(model_folders["llama"], lora={"target_modules": [expression]}))


@pytest.mark.parametrize("kind", ["a name of a tensor", "a table that is small", "an index of odd names"])
def test_nothing_of_a_model_commands_the_terminal(model_folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    """A real process on a pseudo-terminal: libraries in Rust write past Python."""
    folder = Path(shutil.copytree(model_folders["llama"], tmp_path / "model"))
    MODELS[kind](folder)
    ours, theirs = pty.openpty()
    process = warm.Process(["-m", "rlhf_engine", "generate", str(folder), "--prompt", "Once"], cwd=tmp_path,
                           stdin=theirs, stdout=theirs, stderr=theirs, controlling=True)
    os.close(theirs)
    written = b""
    try:
        while data := os.read(ours, 65536):
            written += data
    except OSError:  # it has ended
        pass
    os.close(ours)
    assert process.wait(PATIENCE) == 1
    text = written.decode()
    assert sum(line.startswith("error: ") for line in text.splitlines()) == 1, text
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e]", text), repr(text)
    assert "panicked" not in text


def test_what_a_library_says_of_each_of_many_keys_is_cut(
    model_folders: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str],
) -> None:
    folder = Path(shutil.copytree(model_folders["llama"], tmp_path / "model"))
    told = json.loads((folder / "tokenizer.json").read_bytes())
    told["added_tokens"][0] |= {f"key{number}": 0 for number in range(20_000)}
    (folder / "tokenizer.json").write_text(json.dumps(told))
    generate_texts(str(folder), prompts=["Once"], tuned=False, seed=0, temperature=None, max_new_tokens=4)
    said = capfd.readouterr().err
    assert "key0" in said
    assert len(said) < 10_000
