"""How `from_texts` and `judge` learn."""

from __future__ import annotations

import torch
from torch import Tensor

from rlhf_engine.algorithms.base import Progress, Resources, State, StepResult
from rlhf_engine.algorithms.learners import Learners
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.batch import Batch, PairBatch, TextBatch
from rlhf_engine.errors import NonFiniteError


class RowsLearner:
    """See `rlhf_engine.algorithms.base.Algorithm`."""

    def __init__(self, config: RunConfig, resources: Resources) -> None:
        self.config, self.policy = config, resources.policy
        self.learners = Learners(config, resources)

    def step(self, number: int, batch: Batch, progress: Progress) -> StepResult:
        progress("update", 0.0)
        optimizer = self.config.optimizer
        loss, (name,) = self.loss(batch), self.policy.adapters
        metrics, nonfinite = {"rows/loss": loss.item(), "lr": optimizer.learning_rate}, ""
        self.learners.optimizers[name].zero_grad()
        loss.backward()
        try:
            self.learners.optimizers[name].step(optimizer.learning_rate, optimizer.max_grad_norm)
        except NonFiniteError as error:
            nonfinite = str(error)
        return StepResult(metrics, nonfinite=nonfinite)

    def loss(self, batch: Batch) -> Tensor:
        if isinstance(batch, PairBatch):
            better, worse = (self.says(batch.prompts, texts) for texts in (batch.chosen, batch.rejected))
            return -torch.nn.functional.logsigmoid(better - worse).mean()
        assert isinstance(batch, TextBatch)
        width = min(map(len, self.policy.texts.encode(batch.responses))) - 1  # a first token follows from nothing
        ids, mask = self.policy.encode(joined(batch.prompts, batch.responses))
        return -self.policy.log_probs("actor", ids, mask, width, 1.0).log_probs.sum(dim=1).mean()

    def says(self, prompts: list[str], responses: list[str]) -> Tensor:
        ids, mask = self.policy.encode(joined(prompts, responses))
        return self.policy.head_values("says", ids, mask, 1, after=True)[:, 0]

    def reconfigure(self, config: RunConfig) -> None:
        self.config = config

    def computes(self) -> bool:
        return self.learners.compute()

    def state(self) -> State:
        return self.learners.state()

    def require_fit(self, state: State) -> None:
        self.learners.require_fit(state)

    def load_state(self, state: State) -> None:
        self.require_fit(state)
        self.learners.load_state(state)


def joined(prompts: list[str], responses: list[str]) -> list[str]:
    return [prompt + response for prompt, response in zip(prompts, responses, strict=True)]
