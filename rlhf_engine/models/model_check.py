"""Does the engine read a model as the model reads itself? Asked at load, with adapters that say something.

What is right is told by transformers and peft alone: a forward pass over one row of ids, nothing padded, no mask, no
positions, no cache. Against it stand this engine's own passes over a left-padded batch: in full, as updates read it,
and token by token through the cache, as rollouts read it. A cache that answers otherwise is done without; a model that
reads padded rows otherwise, or whose earlier tokens see later ones, is refused: it would train on what it did not say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from rlhf_engine.config.methods.base import REFERENCE
from rlhf_engine.errors import ModelError, first_line
from rlhf_engine.models.decoding.plain import Decoder, Model, PlainDecoder
from rlhf_engine.models.decoding.uncached import UncachedDecoder
from rlhf_engine.models.text_pass import accepted
from rlhf_engine.models.token_log_probs import TokenLogProbs

VERSION = 1
"""Counts changes of what is checked, so that what passed an older check is checked anew."""

BOUNDS = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 5e-2}
"""How far log-probs may be apart: the root mean square of their differences over the vocabulary, as a share of their
own spread (or of 1 nat, if that is more). In float32 at the worst of all tokens. In half precision, where one rounding
can send a token to another expert, on average over a row."""

_PROMPTS = (8, 5, 2)  # tokens of each row's prompt: as in a rollout, all end in the same column
_STEPS = 4
# a row is made longer than the window that attention looks back through, where that takes no more multiplications than
# these (parameters times tokens): a second on a CPU, less on anything else
_WORK = {"cpu": 1e10}
_MORE_WORK = 1e13
_BRANCH = 0.3  # what an adapter adds to a linear module's output, as a share of it, about


class Checked(Model, Protocol):
    """What is asked of a `Policy`."""

    max_positions: int | None
    caches: bool
    device: torch.device
    dtype: torch.dtype
    banned: Tensor | None
    pad_id: int
    adapters: dict[str, dict[str, torch.nn.Parameter]]
    default_role: str

    @property
    def parameter_count(self) -> int: ...
    def next_logits(self, hidden: Tensor, temperature: float) -> Tensor: ...
    def log_probs(self, role: Any, ids: Tensor, mask: Tensor, response_width: int,
                  temperature: float) -> TokenLogProbs: ...
    def as_role(self, role: str) -> AbstractContextManager[None]: ...
    def with_adapter(self, adapter: str, weights: Mapping[str, Tensor],
                     scaling: float) -> AbstractContextManager[None]: ...
    def as_peft(self) -> AbstractContextManager[None]: ...


class _Differs(Exception):
    """One way of reading does not give what the model gives; says by how much."""


@torch.no_grad()
def check(policy: Checked) -> str:
    """Why the model is to be decoded without a cache; empty when it may use one.

    Leaves policy and random numbers as they were. Raises ModelError, one sentence, for a model that cannot be served.
    """
    kind = type(policy.base).__name__
    try:
        role = policy.default_role
        if role not in policy.adapters:  # a method that adapts nothing
            return _check(policy, kind)
        with policy.with_adapter(role, _adapter_that_matters(policy), 1.0):
            return _check(policy, kind)
    except (ModelError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # models raise whatever their authors thought of
        raise ModelError(f"{kind} cannot be read as this engine reads models: a left-padded batch ends in "
                         f"{type(error).__name__} ({first_line(error)})") from error


def _check(policy: Checked, kind: str) -> str:
    rows = _rows(policy)
    expected = [_by_transformers(policy, row) for row in rows]
    if not all(logits.isfinite().all() for logits in expected):
        raise ModelError(f"{kind} answers with numbers that are not finite in {_name(policy.dtype)}: "
                         + ("its weights are broken" if policy.dtype == torch.float32 else "take model.dtype=float32"))
    _require_causal(policy, kind, rows[0], expected[0])
    with policy.as_role(REFERENCE):
        if policy.adapters and torch.equal(_by_transformers(policy, rows[0]), expected[0]):
            raise ModelError(f"adapters on the modules of lora.target_modules change nothing that {kind} answers")
    try:
        _compare(policy, _in_full(policy, rows), expected)
        _compare_scores(policy, rows, expected)
    except _Differs as error:
        raise ModelError(
            f"{kind} reads left-padded prompts otherwise than the same prompts alone (log-probs are {error}), so that "
            "batches of prompts would train another model than the one that is asked later"
        ) from error
    if not policy.caches:
        why = "it takes no cache of keys and values"
    else:
        try:
            _compare(policy, _step_by_step(policy, rows, PlainDecoder), expected)
            return ""
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # a cache of another kind fails in other ways
            why = (f"with a cache its log-probs are {error}" if isinstance(error, _Differs)
                   else f"its cache raises {type(error).__name__} ({first_line(error)})")
    try:
        _compare(policy, _step_by_step(policy, rows, UncachedDecoder), expected)
    except _Differs as error:
        raise ModelError(f"{kind} cannot be decoded: {why}, and without a cache they are {error}") from error
    return f"{kind} is decoded without a cache, which is slower: {why}"


# --- three readings ---


def _by_transformers(policy: Checked, row: Tensor) -> Tensor:
    """log p [time, vocabulary] by a plain pass over one row of ids [time]."""
    with policy.as_peft():
        logits = policy.base(input_ids=row[None], **accepted(policy.base, use_cache=False)).logits[0]
    return _log_p(policy, logits.float())


def _in_full(policy: Checked, rows: list[Tensor]) -> list[Tensor]:
    ids, mask = _padded(policy, rows)
    hidden = policy.forward(ids, mask)
    log_p = _log_p(policy, policy.next_logits(hidden.flatten(0, 1), 1.0)).unflatten(0, ids.shape)
    return [log_p[index, -len(row):] for index, row in enumerate(rows)]


def _step_by_step(policy: Checked, rows: list[Tensor], kind: Callable[[Model], Decoder]) -> list[Tensor]:
    """Of the last prompt token and of all after it."""
    ids, mask = _padded(policy, [row[:-_STEPS] for row in rows])
    decoder = kind(policy)
    hidden = [decoder.start(ids, mask, _STEPS)]
    hidden += [decoder.step(torch.stack([row[column] for row in rows])) for column in range(-_STEPS, 0)]
    log_p = _log_p(policy, torch.stack([policy.next_logits(states, 1.0) for states in hidden], dim=1))
    return list(log_p)


def _compare_scores(policy: Checked, rows: list[Tensor], expected: list[Tensor]) -> None:
    """The log-probs of chosen tokens, as updates take them. Raises _Differs."""
    ids, mask = _padded(policy, rows)
    found = policy.log_probs(policy.default_role, ids, mask, _STEPS, 1.0).log_probs
    columns = torch.arange(len(policy.base.get_output_embeddings().weight), device=policy.device)
    if policy.banned is not None:  # `expected` has no columns for these
        columns = (~policy.banned).cumsum(0) - 1
    wanted = torch.stack([log_p[-_STEPS - 1:-1].gather(1, columns[row[-_STEPS:], None])[:, 0]
                          for row, log_p in zip(rows, expected, strict=True)])
    spread = max(1.0, *(float(log_p.std()) for log_p in expected))
    apart = float((found - wanted).abs().mean()) / spread
    if not apart <= BOUNDS[policy.dtype]:
        raise _Differs(_apart(apart, policy.dtype))


# --- comparing ---


def _compare(policy: Checked, found: list[Tensor], expected: list[Tensor]) -> None:
    """Rows of log p [time, vocabulary]; of `expected`, the last positions. Raises _Differs."""
    worst = 0.0
    for ours, theirs in zip(found, expected, strict=True):
        theirs = theirs[-len(ours):]
        apart = _rms(ours - theirs) / _rms(theirs - theirs.mean(dim=1, keepdim=True)).clamp(min=1.0)
        row = float(apart.max() if policy.dtype == torch.float32 else apart.mean())
        worst = max(worst, row) if math.isfinite(row) else math.inf
    if not worst <= BOUNDS[policy.dtype]:
        raise _Differs(_apart(worst, policy.dtype))


def _require_causal(policy: Checked, kind: str, row: Tensor, expected: Tensor) -> None:
    """Other tokens later must leave what is said earlier as it is. Raises ModelError."""
    half = len(row) // 2
    changed = row.clone()
    changed[half:] = row[:len(row) - half]
    try:
        _compare(policy, [_by_transformers(policy, changed)[:half]], [expected[:half]])
    except _Differs as error:
        raise ModelError(f"{kind} is no causal language model: what it says of a token depends on tokens that come "
                         "after it (some architectures need is_decoder=true in their config.json)") from error


def _log_p(policy: Checked, logits: Tensor) -> Tensor:
    """log p of the ids that may be sampled: [..., vocabulary] without the others."""
    return (logits if policy.banned is None else logits[..., ~policy.banned]).log_softmax(dim=-1)


def _rms(values: Tensor) -> Tensor:
    return values.square().mean(dim=-1).sqrt()


def _apart(share: float, dtype: torch.dtype) -> str:
    return f"{share:.2g} of their spread apart; {BOUNDS[dtype]:.2g} is allowed in {_name(dtype)}"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


# --- what is read ---


def _rows(policy: Checked) -> list[Tensor]:
    """Rows of random ids int64 [time], of different lengths; longer than a short window, within the context."""
    config = policy.base.config.get_text_config()
    most = policy.max_positions or math.inf
    longest = min(_WORK.get(policy.device.type, _MORE_WORK) / policy.parameter_count, most - max(_PROMPTS) - _STEPS)
    windows = [value for name in ("sliding_window", "window_size", "attention_window_size", "local_attention")
               if isinstance(value := getattr(config, name, None), int) and 0 < value <= longest]
    longer = max(windows, default=0)
    lengths = [min(length + longer + _STEPS, most - 2 * shorter) for shorter, length in enumerate(_PROMPTS)]
    if lengths[-1] <= _STEPS:
        raise ModelError(f"the model's context of {policy.max_positions} tokens is too short for any answer")
    usable = _usable_ids(policy)
    generator = torch.Generator().manual_seed(0)  # not the one that a run draws from
    return [usable[torch.randint(len(usable), (int(length),), generator=generator)].to(policy.device)
            for length in lengths]


def _usable_ids(policy: Checked) -> Tensor:
    """Ids of plain text: no image's or other special token's, whose rows a model may treat otherwise."""
    rows = min(policy.base.get_input_embeddings().weight.shape[0], policy.base.get_output_embeddings().weight.shape[0])
    usable = torch.ones(rows, dtype=torch.bool)
    if policy.banned is not None:
        usable &= ~policy.banned[:rows].cpu()
    settings = policy.base.config.to_dict()
    for part in (settings, *(value for value in settings.values() if isinstance(value, dict))):
        for name, value in part.items():
            if str(name).endswith(("token_id", "token_index")) and isinstance(value, int) and 0 <= value < rows:
                usable[value] = False
    return usable.nonzero().flatten()


def _padded(policy: Checked, rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Left-padded ids int64 and mask bool, [batch, longest]."""
    ids = pad_sequence(rows, batch_first=True, padding_value=policy.pad_id, padding_side="left")
    mask = pad_sequence([torch.ones_like(row, dtype=torch.bool) for row in rows], batch_first=True,
                        padding_side="left")
    return ids, mask


def _adapter_that_matters(policy: Checked) -> dict[str, Tensor]:
    """Weights for the adapter that answers, by name: what they add is a fair share of what the modules answer
    already."""
    generator = torch.Generator().manual_seed(0)
    modules = dict(policy.base.named_modules())
    adapter = {}
    for name, parameter in policy.adapters[policy.default_role].items():
        if ".lora_" not in name:  # of a head, which is not asked
            adapter[name] = parameter.detach().clone()
            continue
        drawn = torch.randn(parameter.shape, generator=generator)
        if ".lora_A." in name:  # [rank, in]: of an input of ones, numbers about 1
            drawn *= parameter.shape[1] ** -0.5
        else:  # [out, rank]
            layer = modules[name.partition("base_model.model.")[2].partition(".lora_B.")[0]]
            weight = layer.get_base_layer().weight
            size = weight.shape[0] * weight.shape[1] / parameter.shape[0]
            drawn *= _BRANCH * float(weight.float().square().mean().sqrt()) * (size / parameter.shape[1]) ** 0.5
        adapter[name] = drawn
    return adapter
