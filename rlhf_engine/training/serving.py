"""Answers requests to generate or compare, between steps of a run or with no run at all."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.prompt_check import cut_prompts
from rlhf_engine.errors import RlhfError
from rlhf_engine.evaluation.compare import compare
from rlhf_engine.evaluation.generate import answer
from rlhf_engine.events import (
    ComparisonFinished,
    ComparisonProgress,
    Event,
    GenerationFinished,
    GenerationToken,
    Notice,
)
from rlhf_engine.models.memory import out_of_memory
from rlhf_engine.models.policy import Policy
from rlhf_engine.requests import CompareRequest, GenerateRequest
from rlhf_engine.rewards.build import rewards_if_any
from rlhf_engine.training.control import TrainerControl

Emit = Callable[[Event], None]


def serve_request(
    request: GenerateRequest | CompareRequest,
    policy: Policy | None,
    config: RunConfig,
    step: int,
    control: TrainerControl,
    emit: Emit,
    *,
    may_load: bool = False,
) -> None:
    """Do what is asked and emit the answer; what the user got wrong, or is too large, ends in the answer's `error`.

    policy: None only for a comparison that needs none. may_load: nothing trains, so another model may be loaded.
    """
    try:
        if isinstance(request, CompareRequest):
            _compare(request, policy, config, step, control, emit, may_load)
        elif policy is not None:
            _generate(request, policy, config, step, control, emit)
    except RlhfError as error:
        refuse(request, str(error), emit)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        # a run between two of its steps must not end with a question that was too large
        refuse(request, "out of memory: ask for fewer tokens, or lower sampling.max_new_tokens", emit)


def refuse(request: GenerateRequest | CompareRequest, why: str, emit: Emit) -> None:
    """Answer a request with the reason why there is no answer."""
    if isinstance(request, GenerateRequest):
        emit(GenerationFinished(request.request_id, "", error=why))
    else:
        emit(ComparisonFinished(request.request_id, None, why))


def _generate(
    request: GenerateRequest, policy: Policy, config: RunConfig, step: int, control: TrainerControl, emit: Emit
) -> None:
    decode = policy.texts.decoder_after(policy.texts.encode([request.prompt])[0])

    def on_token(tokens: list[Tensor]) -> bool:
        # one prompt: each tensor holds one id
        emit(GenerationToken(request.request_id, decode(torch.cat(tokens).tolist())))
        return control.cancelled(request.request_id)

    sampling = config.sampling.model_copy(
        update={"temperature": request.temperature, "max_new_tokens": request.max_new_tokens}
    )
    if cut := cut_prompts(policy, [request.prompt], sampling):
        emit(Notice(cut, "warning"))
    rewards, no_scores = rewards_if_any(config)
    (found,) = answer(
        policy,
        [request.prompt],
        sampling,
        tuned=request.tuned,
        seed=request.seed,
        rewards=rewards,
        step=step,
        on_token=on_token,
    )
    emit(
        GenerationFinished(
            request.request_id,
            found.response,
            score=found.score,
            parts=found.parts,
            spans=found.spans,
            kl=found.kl,
            tokens=found.tokens,
            no_scores=no_scores,
        )
    )


def _compare(
    request: CompareRequest, policy: Policy | None, config: RunConfig, step: int, control: TrainerControl, emit: Emit,
    may_load: bool,
) -> None:
    result = compare(
        policy,
        config,
        responses=request.responses,
        seed=request.seed,
        step=step,
        sides=(request.first, request.second),
        may_load=may_load,
        progress=lambda done, total: emit(ComparisonProgress(request.request_id, done, total)),
        cancelled=lambda: control.cancelled(request.request_id),
        tell=lambda text: emit(Notice(text, "warning")),
    )
    emit(ComparisonFinished(request.request_id, result, "" if result else "cancelled"))
