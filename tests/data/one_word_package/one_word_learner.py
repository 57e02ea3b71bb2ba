"""How `one_word` learns: log π(word | prompt), up."""

from one_word import OneWordConfig

from rlhf_engine.algorithms.base import Progress, Resources, State, StepResult
from rlhf_engine.algorithms.learners import Learners
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.batch import PromptBatch
from rlhf_engine.errors import NonFiniteError


class OneWord:
    """See `rlhf_engine.algorithms.base.Algorithm`."""

    def __init__(self, config: RunConfig, resources: Resources) -> None:
        self.config, self.policy = config, resources.policy
        self.learners = Learners(config, resources)

    def step(self, number: int, batch: PromptBatch, progress: Progress) -> StepResult:
        progress("update", 0.0)
        word, optimizer = f" {self.settings.word}", self.config.optimizer
        width = len(self.policy.texts.encode([word])[0])
        ids, mask = self.policy.encode([prompt + word for prompt in batch.prompts])
        log_probs = self.policy.log_probs("actor", ids, mask, width, 1.0).log_probs
        loss = -log_probs.sum(dim=1).mean()
        metrics, nonfinite = {"word/log_prob": -loss.item(), "lr": optimizer.learning_rate}, ""
        actor = self.learners.optimizers["actor"]
        actor.zero_grad()
        loss.backward()
        try:
            metrics["grad_norm/actor"] = actor.step(optimizer.learning_rate, optimizer.max_grad_norm)
        except NonFiniteError as error:
            nonfinite = str(error)
        metrics["train/skipped_updates"] = float(bool(nonfinite))
        return StepResult(metrics, nonfinite=nonfinite)

    @property
    def settings(self) -> OneWordConfig:
        assert isinstance(self.config.algorithm, OneWordConfig)
        return self.config.algorithm

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
