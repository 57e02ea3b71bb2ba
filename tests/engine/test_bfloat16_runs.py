"""A run whose base is computed in bfloat16 is resumed, forked, compared and exported as one in float32 is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM, AutoPeftModelForSequenceClassification
from resumed_runs import resumable_from, timeless
from safetensors import safe_open
from safetensors.torch import load_file
from tiny_models import make_ppo, stir, tiny_config
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from rlhf_engine.config.fields import replace
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.evaluation.compare import Comparison, compare, compare_run
from rlhf_engine.evaluation.generate import load_tuned
from rlhf_engine.events import EditApplied, ModelLoaded
from rlhf_engine.exporting.export import export
from rlhf_engine.models.policy import Policy
from rlhf_engine.requests import TUNED, Side
from rlhf_engine.runs import checkpoint
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_settings import differences, settings_now
from rlhf_engine.training.fork import fork
from rlhf_engine.training.trainer import Trainer

ROUNDING = 2.0**-8
"""Of a number in bfloat16, at most, as a share of it."""
METHODS = {
    "ppo": ("gpt_neo", {"kind": "ppo", "responses_per_step": 8, "minibatch_size": 4, "epochs": 2}),
    "grpo": ("llama", {"kind": "grpo", "responses_per_step": 8, "minibatch_size": 4, "epochs": 2, "group_size": 4}),
}


def half_config(folder: Path, **sections: Any) -> RunConfig:
    lively = {"model": {"dtype": "bfloat16"}, "optimizer": {"learning_rate": 0.02}, "lora": {"dropout": 0.1}}
    return tiny_config(folder, **lively | sections)


def train(config: RunConfig, root: Path, name: str) -> RunDir:
    run = RunDir.create(root, config, name=name)
    Trainer(config, run_dir=run, emit=lambda event: None).run()
    return run


@pytest.fixture(scope="module", params=METHODS)
def run(
    request: pytest.FixtureRequest, model_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> RunDir:
    """Three steps, each with its checkpoint."""
    architecture, method = METHODS[request.param]
    config = half_config(model_folders[architecture], algorithm=method)
    return train(config, tmp_path_factory.mktemp("runs"), request.param)


def same_end(one: RunDir, other: RunDir) -> bool:
    ours, theirs = (checkpoint.load_newest(run)[0].tensors for run in (one, other))
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("step", [0, 1, 2])
def test_a_resumed_run_takes_the_same_steps_bit_for_bit(run: RunDir, tmp_path: Path, step: int) -> None:
    copy = resumable_from(run, step, tmp_path / "copy")
    Trainer.resume(copy, emit=lambda event: None).run()
    assert timeless(copy) == timeless(run)
    assert same_end(copy, run)


def test_a_fork_is_its_parent_again_in_the_same_format(run: RunDir, tmp_path: Path) -> None:
    child, loaded = fork(run, step=1, changes={}, root=tmp_path, name="child"), list[str]()
    Trainer.resume(child, emit=lambda event: loaded.append(event.dtype) if isinstance(event, ModelLoaded) else None
                   ).run()
    assert loaded == ["bfloat16"]
    assert timeless(child) == timeless(run)
    assert same_end(child, run)


@pytest.mark.parametrize(("named", "taken"), [("auto", "bfloat16"), ("float32", "float32")])
def test_a_fork_under_a_preset_keeps_the_format_unless_the_preset_names_one(
    run: RunDir, tmp_path: Path, named: str, taken: str
) -> None:
    """What an adapter has learnt belongs to a base that is rounded as it was."""
    preset = replace(run.config(), {"model.dtype": named, "kl.coef": 0.2})
    child = fork(run, changes={}, root=tmp_path, preset=("another", preset))
    first = checkpoint.load_newest(child)[0]
    assert (first.step, first.config.model.dtype, first.config.kl.coef) == (0, taken, 0.2)


def test_a_format_that_a_trial_chose_is_a_setting_of_the_run(neo_config: RunConfig, tmp_path: Path) -> None:
    """For those who only read the run: its followers, and whoever holds two runs against each other."""
    asked = replace(neo_config, {"model.dtype": "auto"})
    one, other = (RunDir.create(tmp_path, asked, name=name) for name in ("one", "other"))
    with one.lock():
        one.append_edit(EditApplied(1, "model.dtype", "auto", "bfloat16"))
    assert settings_now(one).model.dtype == "bfloat16"
    assert settings_now(other).model.dtype == "auto"
    assert [(each.path, each.left, each.right) for each in differences(settings_now(one), settings_now(other))] == [
        ("model.dtype", "bfloat16", "auto")]


# --- compare ---


def pairs_of(result: Comparison | None) -> list[tuple[str, str]]:
    assert result is not None
    return [(pair.reference.response, pair.tuned.response) for pair in result.pairs]


def test_the_reference_is_the_base_in_the_same_format(run: RunDir) -> None:
    untrained = compare_run(run, 0, responses=6, seed=3)
    assert untrained is not None
    assert all(one == other for one, other in pairs_of(untrained))
    assert all(row.difference.value == 0 for row in untrained.rows)
    tuned = compare_run(run, responses=6, seed=3)
    assert tuned is not None
    assert [one for one, _ in pairs_of(tuned)] == [one for one, _ in pairs_of(untrained)]
    assert any(one != other for one, other in pairs_of(tuned))
    kl = next(row for row in tuned.rows if row.key == "kl_nats_per_response")
    assert (kl.reference.value, kl.tuned.value > 0) == (0, True)


def test_a_checkpoint_answers_beside_the_run_as_it_does_alone(run: RunDir) -> None:
    policy, config, step = load_tuned(run)
    before = {name: parameter.detach().clone() for name, parameter in policy.parameters.items()}
    lent = compare(policy, config, responses=6, seed=3, step=step, sides=(TUNED, Side("checkpoint", run.path, 1)),
                   may_load=False)
    alone = compare_run(run, 1, responses=6, seed=3)
    assert [tuned for _, tuned in pairs_of(lent)] == [tuned for _, tuned in pairs_of(alone)]
    assert all(torch.equal(parameter, before[name]) for name, parameter in policy.parameters.items())


# --- export ---

TEXT = "There was a little fox"


def by_the_run(run: RunDir, role: str) -> Tensor:
    policy, _, _ = load_tuned(run)
    ids, mask = policy.encode([TEXT])
    with torch.no_grad(), policy.as_role(role):
        return policy.base(input_ids=ids, attention_mask=mask.long(), use_cache=False).logits.float()


def plain(model: Any, folder: Path) -> Tensor:
    ids = AutoTokenizer.from_pretrained(folder)(TEXT, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        return model.eval()(input_ids=ids, use_cache=False).logits.float()


def apart(one: Tensor, other: Tensor) -> float:
    """Root mean square of the difference, as a share of that of the logits."""
    return float((one - other).square().mean().sqrt() / other.square().mean().sqrt())


def formats(folder: Path) -> set[str]:
    found = set[str]()
    for path in folder.rglob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            found |= {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    return found


def test_plain_peft_answers_as_the_run_did(run: RunDir, tmp_path: Path) -> None:
    done = export(run, tmp_path / "adapter")
    assert (done.dtype, done.kept) == ("bfloat16", None)
    assert formats(done.path) == {"F32"}
    card = (done.path / "README.md").read_text(encoding="utf-8")
    assert 'dtype="bfloat16"' in card  # in the code that loads it
    wanted, untrained = by_the_run(run, "actor"), by_the_run(run, "reference")
    model = AutoPeftModelForCausalLM.from_pretrained(done.path, dtype=torch.bfloat16)
    assert apart(plain(model, done.path), wanted) < 4 * ROUNDING < 0.2 * apart(untrained, wanted)


def test_a_merged_model_is_written_in_the_runs_format_and_answers_as_the_run_did(run: RunDir, tmp_path: Path) -> None:
    told = list[str]()
    done = export(run, tmp_path / "merged", merged=True, tell=told.append)
    assert done.dtype == "bfloat16"
    assert done.kept == pytest.approx(1.0, abs=0.02)
    assert not told
    assert formats(done.path) == {"BF16"}
    assert json.loads((done.path / "config.json").read_text())["dtype"] == "bfloat16"
    assert "merged, in bfloat16" in (done.path / "README.md").read_text(encoding="utf-8")
    wanted, untrained = by_the_run(run, "actor"), by_the_run(run, "reference")
    model = AutoModelForCausalLM.from_pretrained(done.path)
    assert model.dtype == torch.bfloat16
    # each weight is rounded once more than the run's, beside what each product is
    assert apart(plain(model, done.path), wanted) < 10 * ROUNDING < 0.2 * apart(untrained, wanted)
    again = Policy.from_config(replace(run.config(), {"model.name": str(done.path)}))
    assert again.dtype == torch.bfloat16


@pytest.mark.parametrize(("dtype", "size"), [("bfloat16", 1e-3), ("bfloat16", 3e-2), ("float32", 1e-3)])
def test_what_rounding_takes_from_merged_weights_is_told(
    model_folders: dict[str, Path], tmp_path: Path, dtype: str, size: float
) -> None:
    """Counted from the files: what is added to a weight is lost where it is less than half of its last digit."""
    config = half_config(model_folders["llama"], model={"dtype": dtype}, lora={"dropout": 0.0})
    run, policy = RunDir.create(tmp_path / "runs", config, name="short"), Policy.from_config(config)
    stir(policy)
    with torch.no_grad():
        for name, parameter in policy.adapters["actor"].items():
            if ".lora_B." in name:
                parameter.mul_(size)
    tensors, numbers = make_ppo(config, policy=policy).state()
    checkpoint.save(run, checkpoint.TrainingState(2, tensors, numbers, config), keep=3)
    told = list[str]()
    done = export(run, tmp_path / "merged", merged=True, tell=told.append)

    before, after = (load_file(folder / "model.safetensors") for folder in (model_folders["llama"], done.path))
    adapter = load_file(export(run, tmp_path / "adapter").path / "adapter_model.safetensors")
    added = kept = 0.0
    for name in (name for name in adapter if ".lora_A." in name):
        delta = (adapter[name.replace(".lora_A.", ".lora_B.")] @ adapter[name]).double() * 8.0 / 4
        weight = name.removeprefix("base_model.model.").replace(".lora_A.", ".")
        moved = after[weight].double() - before[weight].to(after[weight].dtype).double()
        added, kept = added + float((delta * delta).sum()), kept + float((moved * delta).sum())
    assert done.kept == pytest.approx(kept / added, abs=1e-6)
    card = (done.path / "README.md").read_text(encoding="utf-8")
    if lossy := (dtype, size) == ("bfloat16", 1e-3):
        assert kept / added < 0.9
        assert f"{done.kept:.0%}" in told[0]
    else:
        assert kept / added == pytest.approx(1.0, abs=0.01)
    assert bool(told) is ("rounding" in card) is lossy


@pytest.mark.parametrize("merged", [False, True])
def test_a_reward_model_scores_by_plain_transformers_as_it_did(
    model_folders: dict[str, Path], tmp_path: Path, merged: bool
) -> None:
    sections = half_config(model_folders["llama"]).model_dump()
    sections["algorithm"] = {"kind": "reward_model", "pairs_per_step": 4, "reference_samples": 6}
    sections["data"] = {"prompts": ["Once", "x"], "chosen": [" a fox ran", " cat"], "rejected": [" man", "y"]}
    config = RunConfig.model_validate(sections | {"rewards": []})
    run = train(config, tmp_path / "runs", "judge")
    done = export(run, tmp_path / "out", merged=merged)
    kind = AutoModelForSequenceClassification if merged else AutoPeftModelForSequenceClassification
    options = {} if merged else {"num_labels": 1, "dtype": torch.bfloat16}
    model = kind.from_pretrained(done.path, **options).eval()
    assert model.get_input_embeddings().weight.dtype == torch.bfloat16
    policy = load_tuned(run)[0]
    texts = ("a fox ran ", "on and on.", "There was ", "x y x y x ")
    ids = torch.tensor([policy.texts.encode([text])[0] for text in texts])
    with torch.no_grad():
        raw = model(input_ids=ids).logits[:, 0].float()
        with policy.as_role("reward"):
            hidden = policy.forward(ids, torch.ones_like(ids, dtype=torch.bool))[:, -1]
            wanted = policy.heads["score"](hidden.float()).squeeze(-1)
    assert apart(raw, wanted) < 10 * ROUNDING
