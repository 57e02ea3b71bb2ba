"""Making the model: batches, the optimizer, the tokenizer, and a run of seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from rlhf_engine.storyteller import MODEL_DIR
from storyteller_maker import batches, pretrain
from storyteller_maker.export import temper
from storyteller_maker.grammar import stories
from storyteller_maker.measure import load_model
from storyteller_maker.tokenizer import CONTEXT, END_ID, PAD_ID, build, load, spelling


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load(MODEL_DIR)


@pytest.fixture
def stream(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> batches.Batches:
    monkeypatch.setattr(batches, "CHUNK", 128)
    return batches.Batches(tokenizer, size=8, seed=3)


def test_batches_predict_the_next_token_and_never_pad(stream: batches.Batches) -> None:
    for batch in stream.chunk():
        wanted = batch.targets != batches.IGNORED
        assert not (batch.targets == PAD_ID).any()
        assert (batch.targets[:, :-1][wanted[:, :-1]] == batch.ids[:, 1:][wanted[:, :-1]]).all()
        assert (batch.ids >= 0).all()
        assert batch.positions.max() < CONTEXT
        ends = (batch.targets == END_ID).sum(1)
        assert (ends == 1).all()


def test_some_batches_begin_from_nothing_and_some_are_shifted(stream: batches.Batches) -> None:
    told = [batch for _ in range(12) for batch in stream.chunk()]
    from_nothing = sum(bool((batch.ids[:, 0] == END_ID).all()) for batch in told) / len(told)
    shifted = sum(int(batch.positions[0, 0]) > 0 for batch in told) / len(told)
    assert 0.07 < from_nothing < 0.25
    assert 0.15 < shifted < 0.36


def test_spelled_words_are_read_but_never_predicted(stream: batches.Batches, tokenizer: Any) -> None:
    row = tokenizer(next(stories(1, seed=1))).input_ids
    rows = [stream.spelled(row) for _ in range(400)]
    changed = [new for new in rows if new != row]
    assert 3 < len(changed) < 40
    for new in changed:
        assert any(i < 0 for i in new)
        assert tokenizer.decode([abs(i) for i in new]) == tokenizer.decode(row)


def test_the_same_seed_gives_the_same_batches(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "CHUNK", 32)
    first, second = (batches.Batches(tokenizer, 8, seed=9).chunk() for _ in range(2))
    assert all(torch.equal(a.ids, b.ids) for a, b in zip(first, second, strict=True))


def test_muon_steps_the_matrices_of_the_layers_and_adamw_all_else() -> None:
    model = pretrain.new_model(64, seed=0)
    muon, adam = pretrain.optimizers(model, pretrain.Plan())
    stepped = [{id(p) for group in built.param_groups for p in group["params"]} for built in (muon, adam)]
    assert isinstance(muon, torch.optim.Muon)
    assert not stepped[0] & stepped[1]
    assert stepped[0] | stepped[1] == {id(p) for p in model.parameters()}
    assert stepped[0] == {id(p) for p in model.transformer.h.parameters() if p.dim() == 2}


def test_a_tokenizer_built_anew_takes_words_whole_and_reads_all() -> None:
    made, speller = build(stories(300, seed=2), size=2000)
    text = next(stories(1, seed=2))
    assert len(made.tokenize(text)) < 1.35 * len(text.split())
    assert made.decode(made(text).input_ids) == text
    assert len(speller.encode(text).ids) > 1.5 * len(made(text).input_ids)
    assert made.decode(made("Qwyx 🙂").input_ids) == "Qwyx 🙂"
    assert len(made) <= 2000


def test_spelling_uses_the_same_ids(tokenizer: Any) -> None:
    assert tokenizer.decode(spelling(tokenizer).encode(" lighthouse").ids) == " lighthouse"


def test_a_run_of_seconds_writes_a_model(tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "CHUNK", 64)
    monkeypatch.setattr(pretrain, "keep_memory", lambda: None)
    monkeypatch.setattr(pretrain, "HELD_OUT", 2)
    plan = pretrain.Plan(steps=5, size=8, compiled=False, warm_up=2, threads=torch.get_num_threads())
    pretrain.train(plan, tokenizer, tmp_path)
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert last["step"] == 5
    assert last["validation"] < 7.84  # of random weights: the logarithm of the vocabulary
    model, _ = load_model(tmp_path / "latest")
    assert model.config.vocab_size == len(tokenizer)


def test_a_temperature_can_be_folded_into_the_weights(tokenizer: Any) -> None:
    model, ids = pretrain.new_model(len(tokenizer), seed=4), torch.tensor([[5, 900, 12]])
    with torch.no_grad():
        before = model(ids).logits
        temper(model, 0.8)
        assert torch.allclose(model(ids).logits, before / 0.8, atol=1e-5)
