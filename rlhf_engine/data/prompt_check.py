"""All prompts of a run, held against the model before the first step: whether each fits, and what becomes of the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.config.sections import SamplingConfig
from rlhf_engine.errors import ConfigError, PromptError
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.text_codec import quoted

_NAMED = 5


@dataclass(frozen=True)
class CheckedPrompts:
    """The prompts that a run takes, in their order, their places from 0 among those that were looked at, and one
    sentence about those that are too long (empty: none are)."""

    usable: tuple[str, ...]
    places: tuple[int, ...]
    notice: str = ""


def longest_prompt(policy: Policy, sampling: SamplingConfig) -> int | None:
    """How many tokens a prompt may have for a whole response to fit behind it; None: as many as one likes.

    Raises ConfigError when no prompt at all would fit.
    """
    room = policy.max_positions
    if room is None:
        return None
    if room <= sampling.max_new_tokens:
        raise ConfigError(f"sampling.max_new_tokens: {sampling.max_new_tokens} new tokens leave no room for a prompt "
                          f"in the model's context of {room}; at most {room - 1} do")
    return room - sampling.max_new_tokens


def cut_prompts(policy: Policy, prompts: Sequence[str], sampling: SamplingConfig) -> str:
    """One sentence about the prompts that are cut to be answered under `sampling`; empty when none is."""
    room = policy.max_positions
    if room is None or room <= sampling.max_new_tokens or sampling.long_prompts != "truncate_left":
        return ""
    longest = room - sampling.max_new_tokens
    lengths = [len(ids) for ids in policy.texts.encode(prompts)]
    cut = [f"{quoted(prompt)} ({tokens} tokens)" for prompt, tokens in zip(prompts, lengths, strict=True)
           if tokens > longest]
    named = ", ".join(dict.fromkeys(cut))
    return f"sampling.long_prompts = truncate_left: only the last {longest} tokens are read of {named}" if cut else ""


def check_prompts(
    policy: Policy, config: RunConfig, prompts: Sequence[str] | None = None, name: str = "prompts"
) -> CheckedPrompts:
    """Every prompt encoded and measured; too long ones are left out or cut as `sampling.long_prompts` says.

    prompts: those of `config` if left out. name: what they are called in a sentence.

    Raises ConfigError naming the offenders, by their place from 0, when they are refused or none is left, and for a
    prompt that model or tokenizer cannot take at all.
    """
    longest, choice = longest_prompt(policy, config.sampling), config.sampling.long_prompts
    prompts = config.data.prompts if prompts is None else prompts
    all_of_them = CheckedPrompts(tuple(prompts), tuple(range(len(prompts))))
    if not prompts:
        return all_of_them
    try:
        lengths = [len(ids) for ids in policy.texts.encode(prompts)]
    except PromptError as error:
        raise ConfigError(f"{name}: {error}") from None
    over = [index for index, tokens in enumerate(lengths) if longest is not None and tokens > longest]
    if not over:
        return all_of_them
    named = ", ".join(f"{name}.{index} ({quoted(prompts[index])}, {lengths[index]} tokens)"
                      for index in over[:_NAMED])
    if len(over) > _NAMED:
        named += f" and {len(over) - _NAMED} more"
    limit = (f"with sampling.max_new_tokens = {config.sampling.max_new_tokens}, at most {longest} tokens fit into the "
             f"model's context of {policy.max_positions}")
    if choice == "refuse":
        are, them = ("is", "it") if len(over) == 1 else ("are", "them")
        raise ConfigError(f"{named} {are} too long: {limit}; shorten {them}, lower sampling.max_new_tokens, or set "
                          "sampling.long_prompts to skip or truncate_left")
    counted = f"sampling.long_prompts = {choice}: {len(over)} of {len(lengths)} prompts"
    if choice == "truncate_left":
        cut = f"{counted} cut to their last {longest} tokens: {named}; {limit}"
        return replace(all_of_them, notice=cut)
    if len(over) == len(lengths):
        raise ConfigError(f"{counted} are too long, which leaves none: {named}; {limit}")
    left_out = set(over)
    places = tuple(index for index in range(len(prompts)) if index not in left_out)
    return CheckedPrompts(tuple(prompts[index] for index in places), places, f"{counted} skipped: {named}; {limit}")
