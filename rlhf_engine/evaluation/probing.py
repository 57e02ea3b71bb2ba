"""One prompt, answered every few steps from the same random numbers: how the model changes, seen on one example.

The numbers come from a generator of the probe's own, so that a run with probes and one without are the same run.
"""

from __future__ import annotations

from collections.abc import Callable

from rlhf_engine.algorithms.base import Resources
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.evaluation.beside import Beside
from rlhf_engine.evaluation.generate import answer
from rlhf_engine.events import Event, Probed
from rlhf_engine.runs.run_dir import RunDir


def comparable(a: RunConfig, b: RunConfig) -> bool:
    """True when probes under both answer the same prompt from the same random numbers."""
    def asked(config: RunConfig) -> tuple[object, ...]:
        data = config.data
        prompt: object = config.probe.prompt
        if prompt is None:  # the first of those trained on
            prompt = (data.source, data.sha256, data.split, data.prompt_column, data.prompts[:1], data.held_out,
                      data.held_out_share)
        return prompt, data.chat_template, data.system, config.sampling, config.train.seed

    return asked(a) == asked(b)


class Prober:
    """Probes one run and records what it answers. A probe that fails says so once, and costs the run nothing."""

    def __init__(self, run_dir: RunDir | None, emit: Callable[[Event], None]) -> None:
        """What was probed before a resume or a fork is in `run_dir`."""
        self._run_dir, self._emit = run_dir, emit
        self._probed = {past.step for past in run_dir.probes()} if run_dir else set()
        self._beside = Beside("probe.prompt", emit)

    def look(self, step: int, resources: Resources, config: RunConfig, prompt: str) -> None:
        """Probe after `step` if it is time and was not done: the reference once, as step 0, then every `probe.every`
        steps. Raises RunError when the disk refuses."""
        every = config.probe.every
        if every and step % every == 0:
            for due in (0, step):
                if due not in self._probed and not self._beside.given_up:
                    self._probe(due, resources, config, prompt)

    def _probe(self, step: int, resources: Resources, config: RunConfig, prompt: str) -> None:
        found = self._beside.attempt(step, lambda: answer(
            resources.policy, [prompt], config.sampling, tuned=step > 0, seed=config.train.seed,
            rewards=resources.rewards, step=step, decoder=resources.decoder if step else None,
        ))
        for sample in found or ():
            self._probed.add(step)
            if self._run_dir:
                self._run_dir.append_probe(sample)
            self._emit(Probed(step, sample))
