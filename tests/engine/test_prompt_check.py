"""Prompts that are too long are found before the first step, named, and refused, skipped or cut as was chosen."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from tiny_models import tiny_config
from tokenizers_of_kinds import byte_level, metaspace, save_model
from transformers import BloomConfig, BloomForCausalLM, OPTConfig, OPTForCausalLM, RobertaConfig, RobertaForCausalLM
from typer.testing import CliRunner, Result

from rlhf_engine.commands.cli import make_app
from rlhf_engine.config.preset_writer import to_toml
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.config.sections import SamplingConfig
from rlhf_engine.data.prompt_order import rows_for_step
from rlhf_engine.events import EditApplied, EditRefused, Event, Notice, StepFinished
from rlhf_engine.models.rollout import sample
from rlhf_engine.models.tokens import context_length
from rlhf_engine.requests import Edit, RequestQueue
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.training.trainer import Trainer

FIT = ["Once", "There was a", "x", "Long ago", "y" * 52]
LONG = ["z" * 53, "w" * 70]  # with 12 new tokens, 52 fit into a context of 64
PROMPTS = [*FIT[:2], LONG[0], *FIT[2:], LONG[1]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"), byte_level())


@dataclass
class Ran:
    events: list[Event]

    @property
    def notices(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Notice)]

    @property
    def prompts(self) -> list[str]:
        return [found.prompt for event in self.events if isinstance(event, StepFinished) for found in event.samples]


def run(config: RunConfig, requests: RequestQueue | None = None) -> Ran:
    events: list[Event] = []
    Trainer(config, run_dir=None, requests=requests or RequestQueue(), emit=events.append).run()
    return Ran(events)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(make_app(), list(arguments))


def preset(tmp_path: Path, folder: Path, **sections: object) -> str:
    path = tmp_path / "p.toml"
    path.write_text(to_toml(tiny_config(folder, **sections)))
    return str(path)


def test_long_prompts_are_refused_before_anything_is_trained_or_left_behind(tmp_path: Path, folder: Path) -> None:
    result = invoke("train", preset(tmp_path, folder, data={"prompts": PROMPTS}), "--runs-dir", str(tmp_path / "runs"))
    assert result.exit_code == 2
    for named in ("prompts.2", "'zzz", "53 tokens", "prompts.6", "'www", "70 tokens", "at most 52", "64",
                  "sampling.long_prompts"):
        assert named in result.stderr
    assert "prompts.5" not in result.stderr
    assert "step 1" not in result.stdout
    assert not list((tmp_path / "runs").glob("*/*"))


def test_skipped_prompts_are_told_and_the_others_come_in_the_order_they_would_alone(folder: Path) -> None:
    ran = run(tiny_config(folder, data={"prompts": PROMPTS}, sampling={"long_prompts": "skip"}))
    (notice,) = [text for text in ran.notices if "long_prompts" in text]
    for named in ("2 of 7", "prompts.2", "53 tokens", "prompts.6", "70 tokens"):
        assert named in notice
    assert ran.prompts == [FIT[row] for step in range(3) for row in rows_for_step(len(FIT), step, 8, 1)]


def test_when_all_prompts_are_too_long_there_is_nothing_to_skip_to(tmp_path: Path, folder: Path) -> None:
    path = preset(tmp_path, folder, data={"prompts": LONG}, sampling={"long_prompts": "skip"})
    result = invoke("train", path, "--runs-dir", str(tmp_path / "runs"))
    assert result.exit_code == 2
    assert "2 of 2" in result.stderr


def test_cut_prompts_keep_their_end_and_their_start_token(tmp_path: Path) -> None:
    tokenizer = metaspace()
    config = tiny_config(save_model(tmp_path, tokenizer), data={"prompts": ["cat" * 30 + "mat"]},
                         sampling={"long_prompts": "truncate_left"})
    ran = run(config)
    assert [text for text in ran.notices if "1 of 1" in text and "last 52 tokens" in text]
    assert set(ran.prompts) == {config.data.prompts[0]}  # what rewards and people see
    from rlhf_engine.models.policy import Policy

    policy = Policy.from_config(config)
    whole = policy.texts.encode(config.data.prompts)[0]
    rollout = sample(policy, config.data.prompts, config.sampling, torch.Generator().manual_seed(0))
    assert rollout.prompt_ids[0].tolist() == [tokenizer.bos_token_id, *whole[-51:]]


def test_a_response_that_leaves_no_room_for_any_prompt_is_refused_by_its_own_name(tmp_path: Path, folder: Path) -> None:
    for choice in ("refuse", "skip", "truncate_left"):
        path = preset(tmp_path, folder, sampling={"long_prompts": choice, "max_new_tokens": 64})
        result = invoke("train", path, "--runs-dir", str(tmp_path / "runs"))
        assert result.exit_code == 2
        assert "sampling.max_new_tokens" in result.stderr
        assert "63" in result.stderr


def test_a_fork_with_a_long_prompt_says_so_and_can_be_resumed_without_it(tmp_path: Path, folder: Path) -> None:
    path, where = preset(tmp_path, folder, data={"prompts": FIT}), ["--runs-dir", str(tmp_path / "runs")]
    assert invoke("train", path, *where, "--name", "a").exit_code == 0
    more = invoke("fork", "a@1", *where, "--name", "b", "--set", f'prompts=["x", "{LONG[0]}"]')
    assert more.exit_code == 2
    assert "prompts.1" in more.stderr
    mended = invoke("resume", "b", *where, "--set", "sampling.long_prompts=skip", "--json")
    assert mended.exit_code == 0, mended.stderr
    assert json.loads(mended.stdout.splitlines()[-1])["step"] == 3
    edits = RunDir.open(tmp_path / "runs" / "b").edits()
    assert [(edit.path, edit.new) for edit in edits] == [("sampling.long_prompts", "skip")]


def test_a_running_run_cannot_be_told_to_refuse_what_it_skips(folder: Path) -> None:
    requests = RequestQueue()
    requests.ask(Edit("sampling.long_prompts", "refuse"))
    requests.ask(Edit("sampling.long_prompts", "truncate_left"))
    ran = run(tiny_config(folder, data={"prompts": PROMPTS}, sampling={"long_prompts": "skip"}), requests)
    (refused,) = [event for event in ran.events if isinstance(event, EditRefused)]
    assert "prompts.2" in refused.reason
    assert [event.new for event in ran.events if isinstance(event, EditApplied)] == ["truncate_left"]
    assert set(LONG) & set(ran.prompts)


def test_generate_and_compare_name_the_prompt_and_its_length(tmp_path: Path, folder: Path) -> None:
    where = ["--runs-dir", str(tmp_path / "runs")]
    result = invoke("generate", str(folder), "--prompt", "ok", "--prompt", LONG[0], "--max-new-tokens", "12")
    assert result.exit_code == 1
    for named in ("'zzz", "53 tokens", "12", "64"):
        assert named in result.stderr
    assert "'ok'" not in result.stderr
    assert "nor is there a run" not in result.stderr  # the model was there
    path = preset(tmp_path, folder, data={"prompts": PROMPTS}, sampling={"long_prompts": "skip"})
    assert invoke("train", path, *where, "--name", "a").exit_code == 0
    cut = invoke("fork", "a@1", *where, "--name", "b", "--set", "sampling.long_prompts=truncate_left")
    assert cut.exit_code == 0, cut.stderr
    answered = invoke("generate", "b", *where, "--prompt", "ok", "--prompt", LONG[0])
    assert answered.exit_code == 0
    for named in ("truncate_left", "52", "'zzz", "53 tokens"):
        assert named in answered.stderr
    compared = invoke("compare", "a", *where, "--responses", "14", "--json")
    assert compared.exit_code == 0, compared.stderr


def tiny(kind: str) -> torch.nn.Module:
    shape = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    if kind == "opt":  # its table has two rows more, for an offset
        return OPTForCausalLM(OPTConfig(**shape, ffn_dim=8, word_embed_proj_dim=8, max_position_embeddings=40))
    if kind == "roberta":  # counts from behind its padding id 1
        return RobertaForCausalLM(RobertaConfig(**shape, intermediate_size=8, max_position_embeddings=42,
                                                pad_token_id=1, is_decoder=True))
    return BloomForCausalLM(BloomConfig(vocab_size=20, hidden_size=8, n_layer=1, n_head=2))


@pytest.mark.parametrize(("kind", "room"), [("opt", 40), ("roberta", 40), ("bloom", None)])
def test_the_context_is_what_the_model_can_number(kind: str, room: int | None) -> None:
    model = tiny(kind)
    assert context_length(model) == room
    ids = torch.full((1, room or 100), 5)
    assert torch.isfinite(model(input_ids=ids).logits).all()
    if room:
        with pytest.raises((IndexError, RuntimeError)):
            model(input_ids=torch.full((1, room + 1), 5))


def test_a_model_without_positions_takes_any_length(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = BloomForCausalLM(BloomConfig(vocab_size=257, hidden_size=32, n_layer=2, n_head=4, bos_token_id=256,
                                         eos_token_id=256, pad_token_id=256))
    model.save_pretrained(tmp_path)
    byte_level().save_pretrained(tmp_path)
    ran = run(tiny_config(tmp_path, data={"prompts": ["z" * 300]}, train={"steps": 1}))
    assert len(ran.prompts) == 8


def test_the_sampling_alone_does_not_decide_for_prompts_that_are_typed(folder: Path) -> None:
    from rlhf_engine.errors import ModelError
    from rlhf_engine.models.policy import Policy

    policy = Policy.from_config(tiny_config(folder))
    for choice in ("refuse", "skip"):
        sampling = SamplingConfig(max_new_tokens=12, long_prompts=choice)
        with pytest.raises(ModelError, match="53 tokens"):
            sample(policy, [LONG[0]], sampling, torch.Generator())
