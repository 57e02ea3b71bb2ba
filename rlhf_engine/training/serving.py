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
from rlhf_engine.requests import Compare, Generate, RequestQueue
from rlhf_engine.rewards.build import rewards_if_any

Emit = Callable[[Event], None]


def serve_request(
    request: Generate | Compare,
    policy: Policy | None,
    config: RunConfig,
    step: int,
    requests: RequestQueue,
    emit: Emit,
    *,
    may_load: bool = False,
) -> None:
    """Do what is asked and emit the answer; what the user got wrong, or is too large, ends in the answer's `error`.

    policy: None only for a comparison that needs none. requests: tells whether this one was given up. may_load: nothing
    trains, so another model may be loaded.
    """
    try:
        if isinstance(request, Compare):
            _compare(request, policy, config, step, requests, emit, may_load)
        elif policy is not None:
            _generate(request, policy, config, step, requests, emit)
    except RlhfError as error:
        emit(request.refused(str(error)))
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        # a run between two of its steps must not end with a question that was too large
        emit(request.refused("out of memory: ask for fewer tokens, or lower sampling.max_new_tokens"))


def _generate(
    request: Generate, policy: Policy, config: RunConfig, step: int, requests: RequestQueue, emit: Emit
) -> None:
    decode = policy.texts.decoder_after(policy.texts.encode([request.prompt])[0])

    def on_token(tokens: list[Tensor]) -> bool:
        # one prompt: each tensor holds one id
        emit(GenerationToken(request.id, decode(torch.cat(tokens).tolist())))
        return requests.cancelled(request)

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
            request.id,
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
    request: Compare, policy: Policy | None, config: RunConfig, step: int, requests: RequestQueue, emit: Emit,
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
        progress=lambda done, total: emit(ComparisonProgress(request.id, done, total)),
        cancelled=lambda: requests.cancelled(request),
        tell=lambda text: emit(Notice(text, "warning")),
    )
    emit(ComparisonFinished(request.id, result, "" if result else "cancelled"))
