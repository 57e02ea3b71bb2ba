"""Settings that do nothing together are named when a run begins, and when an edit makes them so."""

from __future__ import annotations

from pathlib import Path

import pytest
from configs import SMALL
from tiny_models import tiny_config

from rlhf_engine.config import fields, presets
from rlhf_engine.config.advice import advice
from rlhf_engine.events import Event, Notice, StepFinished
from rlhf_engine.requests import Edit, RequestQueue
from rlhf_engine.training.trainer import Trainer


@pytest.mark.parametrize(("changes", "cured", "said"), [
    ({"algorithm.critic_warmup_steps": 100}, {"train.steps": 101}, "the actor never learns"),
    ({"optimizer.warmup_steps": 400}, {"optimizer.warmup_steps": 100}, "25 %"),
    ({"algorithm.target_kl": 0.1, "algorithm.epochs": 1, "algorithm.minibatch_size": 64}, {"algorithm.epochs": 2},
     "algorithm.target_kl"),
    ({"algorithm.responses_per_step": 65}, {"algorithm.responses_per_step": 96}, "the last minibatch"),
    ({"train.max_rollbacks": 1, "train.rollback_factor": 1.0}, {"train.rollback_factor": 0.9}, "rollback_factor"),
    ({"data.source": "rows.txt"}, {"data.source": None}, "data.prompts"),
    ({"kl.controller": "adaptive", "kl.horizon": 1e5}, {"kl.horizon": None}, "by 1 % at most"),
])
def test_each_combination_that_does_nothing_is_said_in_a_sentence(
    changes: dict[str, object], cured: dict[str, object], said: str
) -> None:
    (text,) = advice(fields.replace(SMALL, changes))
    assert said in text
    assert "\n" not in text
    assert advice(fields.replace(SMALL, changes | cured)) == []


def test_a_short_run_is_not_advised_to_change_a_horizon_that_fits() -> None:
    for steps in (1, 2, 3):
        changes = {"kl.controller": "adaptive", "train.steps": steps, "optimizer.warmup_steps": 0}
        assert not [text for text in advice(fields.replace(SMALL, changes)) if "horizon" in text]


def test_what_ships_needs_no_advice() -> None:
    assert advice(SMALL) == []
    for info in presets.available():
        config = presets.load(info.name)
        assert advice(config) == [], info.name
        if config.kl.coef > 0:  # a controller multiplies it
            assert advice(fields.replace(config, {"kl.controller": "adaptive"})) == [], info.name


def test_a_run_says_it_once_and_again_only_of_what_an_edit_brings(model_folders: dict[str, Path]) -> None:
    config = tiny_config(model_folders["llama"], train={"steps": 4, "max_rollbacks": 1, "rollback_factor": 1.0},
                         algorithm={"critic_warmup_steps": 2})
    requests, events = RequestQueue(), list[Event]()

    def emit(event: Event) -> None:
        events.append(event)
        if isinstance(event, StepFinished) and event.step == 1:
            requests.ask(Edit("train.steps", 2))

    Trainer(config, run_dir=None, requests=requests, emit=emit).run()
    said = [event.text for event in events if isinstance(event, Notice)]
    assert ["rollback_factor" in text for text in said] == [True, False]
    assert "never learns" in said[1]
