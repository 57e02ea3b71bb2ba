"""What the reward lab remembers while it is closed."""

from __future__ import annotations

from dataclasses import dataclass

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.evaluation.compare import Pair


@dataclass
class LabMemory:
    """The last pairs of responses that were asked for, the last text that was typed."""

    responses: int = 64
    pairs: tuple[Pair, ...] = ()
    typed: tuple[str, str] | None = None
    """Prompt and response, clean."""
    _asked_with: RunConfig | None = None

    def keep(self, pairs: tuple[Pair, ...], config: RunConfig) -> None:
        """Remember pairs that were sampled with the settings of `config`."""
        self.pairs, self._asked_with = pairs, config

    def pairs_of(self, config: RunConfig) -> tuple[Pair, ...]:
        """The pairs, if the reference would still answer the same prompts in the same way."""
        asked = self._asked_with
        if asked is None:
            return ()
        same = (asked.model, asked.sampling, asked.data) == (config.model, config.sampling, config.data)
        return self.pairs if same else ()
