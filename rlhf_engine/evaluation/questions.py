"""Answers questions (generations, comparisons, pairs to judge) with events, between steps of a run or with no
run at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.prompt_check import cut_prompts
from rlhf_engine.errors import RlhfError
from rlhf_engine.evaluation.compare import compare
from rlhf_engine.evaluation.generate import answer
from rlhf_engine.evaluation.label_pairs import label_pairs
from rlhf_engine.evaluation.method_comparison import compare_methods
from rlhf_engine.events import (
    ComparisonFinished,
    ComparisonPaired,
    ComparisonProgress,
    Event,
    GenerationFinished,
    GenerationToken,
    MethodsCompared,
    Notice,
    PairsSampled,
)
from rlhf_engine.models.memory import out_of_memory
from rlhf_engine.models.policy import Policy
from rlhf_engine.requests import Compare, CompareMethods, Generate, Question, SamplePairs
from rlhf_engine.rewards.build import rewards_if_any
from rlhf_engine.runs.base_model import BaseChoice

Emit = Callable[[Event], None]
Cancelled = Callable[[], bool]


def answer_question(
    question: Question,
    policy: Policy | None,
    config: RunConfig,
    step: int,
    emit: Emit,
    *,
    numbers: Mapping[str, Any] | None = None,
    cancelled: Cancelled = lambda: False,
    may_load: bool = False,
) -> None:
    """Emit the answer, with the settings of `config`; what the user got wrong, or is too large, is told as its `error`.

    policy: after `step`; None only where two checkpoints answer. numbers: what its method has counted by then.
    may_load: nothing trains, so another model may be loaded.
    """
    try:
        if isinstance(question, Compare):
            _compare(question, policy, config, step, emit, cancelled, may_load)
        elif isinstance(question, SamplePairs):
            _sample_pairs(question, policy, config, step, emit, cancelled, may_load)
        elif isinstance(question, CompareMethods) and policy is not None:
            _compare_methods(question, policy, config, step, emit, numbers or {}, cancelled)
        elif isinstance(question, Generate) and policy is not None:
            _generate(question, policy, config, step, emit, cancelled)
    except RlhfError as error:
        emit(question.refused(str(error)))
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        # a run between two of its steps must not end with a question that was too large
        emit(question.refused("out of memory: ask for fewer tokens, or lower sampling.max_new_tokens"))


def _generate(
    question: Generate, policy: Policy, config: RunConfig, step: int, emit: Emit, cancelled: Cancelled
) -> None:
    if question.tuned:
        config.algorithm.require_answers()
    decode = policy.texts.decoder_after(policy.texts.encode([question.prompt])[0])

    def on_token(tokens: list[Tensor]) -> bool:
        # one prompt: each tensor holds one id
        emit(GenerationToken(question.id, decode(torch.cat(tokens).tolist())))
        return cancelled()

    sampling = config.sampling.model_copy(
        update={"temperature": question.temperature, "max_new_tokens": question.max_new_tokens}
    )
    if cut := cut_prompts(policy, [question.prompt], sampling):
        emit(Notice(cut, "warning"))
    rewards, no_scores = rewards_if_any(config)
    (found,) = answer(
        policy,
        [question.prompt],
        sampling,
        tuned=question.tuned,
        seed=question.seed,
        rewards=rewards,
        step=step,
        on_token=on_token,
    )
    emit(
        GenerationFinished(
            question.id,
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
    question: Compare, policy: Policy | None, config: RunConfig, step: int, emit: Emit, cancelled: Cancelled,
    may_load: bool,
) -> None:
    result = compare(
        policy,
        config,
        responses=question.responses,
        seed=question.seed,
        step=step,
        sides=(question.first, question.second),
        may_load=may_load,
        pool=question.pool,
        progress=lambda done, total: emit(ComparisonProgress(question.id, done, total)),
        paired=lambda result: emit(ComparisonPaired(question.id, result)),
        pooled=lambda done, total: emit(ComparisonProgress(question.id, done, total)),
        cancelled=cancelled,
        tell=lambda text: emit(Notice(text, "warning")),
    )
    emit(ComparisonFinished(question.id, result, "" if result else "cancelled"))


def _compare_methods(
    question: CompareMethods, policy: Policy, config: RunConfig, step: int, emit: Emit, numbers: Mapping[str, Any],
    cancelled: Cancelled,
) -> None:
    if cut := cut_prompts(policy, [question.prompt], config.sampling):
        emit(Notice(cut, "warning"))
    result = compare_methods(
        policy,
        config,
        question.prompt,
        responses=question.responses,
        seed=question.seed,
        step=step,
        numbers=numbers,
        run=question.run,
        cancelled=cancelled,
    )
    emit(MethodsCompared(question.id, result, "" if result else "cancelled"))


def _sample_pairs(
    question: SamplePairs, policy: Policy | None, config: RunConfig, step: int, emit: Emit, cancelled: Cancelled,
    may_load: bool,
) -> None:
    pairs = label_pairs(
        policy,
        config,
        count=question.count,
        seed=question.seed,
        step=step,
        sides=(question.first, question.second),
        ask=question.ask,
        responses=question.responses,
        run=question.run,
        may_load=may_load,
        base=BaseChoice(question.accept_base, question.moves),
        cancelled=cancelled,
        tell=lambda text: emit(Notice(text, "warning")),
    )
    emit(PairsSampled(question.id, pairs or (), "" if pairs is not None else "cancelled"))
