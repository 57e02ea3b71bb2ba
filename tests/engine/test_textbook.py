"""The textbook loop says what the engine says, and learns."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_models import tiny_config

from rlhf_engine.algorithms.textbook import Judged, TextbookPPO
from rlhf_engine.models.language_head import LanguageHead
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.token_log_probs import HeadTransform


@pytest.fixture
def loop(model_folders: dict[str, Path]) -> TextbookPPO:
    torch.manual_seed(0)
    config = tiny_config(
        model_folders["gpt_neo"], lora={"target_modules": ["q_proj", "v_proj"]}, optimizer={"learning_rate": 0.01},
        algorithm={"level": "sequence", "critic_learning_rate": 0.01, "epochs": 2})
    return TextbookPPO(str(model_folders["gpt_neo"]), config)


def test_what_it_says_of_a_response_is_what_the_engine_says(loop: TextbookPPO) -> None:
    """Fresh adapters change nothing, so both actors are the base model."""
    response = loop.sample("There was a")
    judged = loop.judge("There was a", response)
    policy = Policy.from_config(loop.config)
    # the engine never samples ids that mean no text; the textbook does not know of them
    head = LanguageHead(policy.base, None, HeadTransform())
    with torch.no_grad():
        hidden = policy.forward(response.ids, torch.ones_like(response.ids).bool())[:, response.prompt_width - 1 : -1]
        engine = head.chosen_log_probs(hidden, response.ids[:, response.prompt_width :], 1.0).log_probs
    assert judged.log_prob.item() == pytest.approx(engine.sum().item(), abs=1e-3)
    assert judged.kl.item() == pytest.approx(0.0, abs=1e-5)
    (score,) = loop.rewards.score(["There was a"], [response.text]).scores
    assert judged.reward.item() == pytest.approx(score.total, abs=1e-4)
    assert judged.advantage.item() == pytest.approx(score.total - loop.value(response).item(), abs=1e-4)


@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_a_response_becomes_likelier_if_it_was_better_than_expected_and_else_less(
    loop: TextbookPPO, advantage: float
) -> None:
    response = loop.sample("Once")
    judged = loop.judge("Once", response)
    before, expected = judged.log_prob.item(), loop.value(response).item()
    target = Judged(judged.log_prob, judged.kl, torch.tensor(expected + 5.0), torch.tensor(advantage))
    loop.update(response, target)
    with torch.no_grad():
        after = loop.log_prob(loop.actor, response).item()
        assert (after - before) * advantage > 0
        assert abs(loop.value(response).item() - target.reward.item()) < 5.0, "the critic comes nearer to the reward"


def test_its_loop_is_those_three_in_order(loop: TextbookPPO) -> None:
    response, judged = loop.learn_from("Once")
    assert response.ids.shape[1] > response.prompt_width
    assert torch.isfinite(torch.stack(judged)).all()
