"""How much there is to do for a token and for an update, counted: what a small model on a GPU waits for is the number
of operations, and what a token of a large one waits for is the bytes that its products read.

The bounds are what was counted when they were written, with a little room: what exceeds them is slower on a GPU, even
where a CPU does not tell. Lower them when you can.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import look_at_all_positions, stir, tiny_config
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rlhf_engine.algorithms.base import Resources
from rlhf_engine.algorithms.ppo import PPO
from rlhf_engine.config.sections import SamplingConfig
from rlhf_engine.data.batch import PromptBatch
from rlhf_engine.models.choice import INVERSE_CDF
from rlhf_engine.models.decoding.plain import PlainDecoder
from rlhf_engine.models.decoding.prepared import PreparedDecoder
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.rollout import sample

SHORT, LONG = 8, 16
PROMPTS = ["Once upon", "There was", "xx", "yz"]
# they only say how to look at a tensor: nothing is read or written
_VIEWS = ("view", "_unsafe_view", "expand", "slice", "narrow", "t", "permute", "transpose", "unsqueeze", "squeeze",
          "select", "split", "split_with_sizes", "as_strided", "alias", "detach", "unbind", "_reshape_alias", "unfold")
WAITS = {"_local_scalar_dense", "nonzero", "equal", "is_nonzero", "masked_select", "_unique2"}
_PRODUCTS = ("mm", "addmm", "bmm", "baddbmm")


class Count(TorchDispatchMode):
    """Counts operations that read or write, and bytes of the tensors that matrix products read."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: Counter[str] = Counter()
        self.product_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        if name not in _VIEWS:
            self.operations[name] += 1
        if name in _PRODUCTS:
            self.product_bytes += sum(value.nbytes for value in args if isinstance(value, Tensor))
        return func(*args, **(kwargs or {}))

    @property
    def total(self) -> int:
        """Operations that read or write."""
        return sum(self.operations.values())


@contextmanager
def watched() -> Iterator[Count]:
    with Count() as count:
        yield count


def per_token(policy: Policy, decoder: PreparedDecoder | PlainDecoder) -> tuple[float, float]:
    """(operations, bytes read by products) of one more token of a rollout."""
    counted = []
    for tokens in (SHORT, LONG):
        sampling = SamplingConfig(max_new_tokens=tokens)
        with watched() as count:
            rollout = sample(policy, PROMPTS, sampling, torch.Generator().manual_seed(1), decoder=decoder,
                             draw=INVERSE_CDF)
        assert rollout.response_ids.shape[1] == tokens
        counted.append((count.total, count.product_bytes))
    (few, few_bytes), (many, many_bytes) = counted
    return (many - few) / (LONG - SHORT), (many_bytes - few_bytes) / (LONG - SHORT)


class Graphs:
    """Stands in for capture: `inside` counts what a graph would do, a replay of which is one call for the processor."""

    def __init__(self) -> None:
        self.inside = 0

    def __call__(self, run: Callable[[], None], rewind: Callable[[], None]) -> Callable[[], None]:
        def replay() -> None:
            with watched() as count:
                run()
            self.inside += count.total
            assert not count.operations.keys() & WAITS, "a graph cannot wait for what it computes"

        return replay


# (architecture, dtype): most operations of a plain token, of one in a graph, most bytes that products read for a token
BOUNDS = {
    ("gpt_neo", "float32"): (93, 91, 189_000),
    ("gpt_neo", "bfloat16"): (102, 100, 115_500),
    ("llama", "float32"): (145, 140, 115_500),
    ("llama", "bfloat16"): (162, 157, 65_300),
}
LOOK = 2  # how many rows are open still: after each token on a CPU, after 16 on a GPU


@pytest.mark.parametrize(("architecture", "dtype"), BOUNDS)
def test_a_token_takes_no_more_operations_and_bytes_than_it_did(
    model_folders: dict[str, Path], architecture: str, dtype: str
) -> None:
    policy = Policy.from_config(tiny_config(model_folders[architecture], model={"dtype": dtype}))
    policy.end_ids = ()  # so that no response ends early
    if architecture == "gpt_neo":
        look_at_all_positions(policy)
    stir(policy)
    most, most_in_graph, most_bytes = BOUNDS[architecture, dtype]
    decoder = PreparedDecoder(policy)
    for _ in range(4):  # the first are checked
        sample(policy, PROMPTS, SamplingConfig(max_new_tokens=1), torch.Generator(), decoder=decoder, draw=INVERSE_CDF)
    operations, read = per_token(policy, decoder)
    graphs = Graphs()
    captured = PreparedDecoder(policy, capture=graphs)
    for tokens in (SHORT, LONG, SHORT, LONG):
        sample(policy, PROMPTS, SamplingConfig(max_new_tokens=tokens), torch.Generator(), decoder=captured,
               draw=INVERSE_CDF)
    graphs.inside = 0
    whole, _ = per_token(policy, captured)
    in_graph = graphs.inside / (SHORT - 1 + LONG - 1)
    plain, _ = per_token(policy, PlainDecoder(policy))
    assert captured.captures.why_not == ""
    assert operations <= most
    assert operations < plain
    assert in_graph <= most_in_graph
    assert whole - in_graph <= LOOK, "between two tokens there is nothing to do but to replay"
    assert read <= most_bytes


@pytest.mark.parametrize(("architecture", "most"), [("gpt_neo", 610), ("llama", 860)])
def test_an_update_takes_no_more_operations_than_it_did(
    model_folders: dict[str, Path], architecture: str, most: int
) -> None:
    """Forward, backward and optimizer step of actor and critic on one minibatch: what a second epoch adds to a step."""
    counted = []
    for epochs in (2, 3):
        config = tiny_config(model_folders[architecture], algorithm={
            "responses_per_step": 4, "minibatch_size": 4, "epochs": epochs})
        ppo = PPO(config, Resources.of(Policy.from_config(config), config))
        with watched() as count:
            metrics = ppo.step(1, PromptBatch(PROMPTS)).metrics
        assert metrics["policy/updates"] == epochs
        counted.append(count.total)
        assert count.operations["nonzero"] <= 2, "what is banned is found once for all"
    assert 0 < counted[1] - counted[0] <= most
