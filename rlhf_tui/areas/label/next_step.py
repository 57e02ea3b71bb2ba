"""What can be done next with what was judged, in a sentence."""

from __future__ import annotations

from pathlib import Path

from rlhf_engine.config.run_config import RunConfig
from rlhf_tui.terminal.clean_text import clean_line


def next_step(path: Path, config: RunConfig | None, run: str) -> str:
    """What the judgements in `path` are good for by now. config, run: of the run on the screen, if there is one."""
    if config is not None and config.algorithm.kind == "reward_model" and run and learns_from(config, path):
        return f"{clean_line(run)} learns from this file · H: a policy that it rewards"
    return "H: a reward model that learns from them, then a policy"


def learns_from(config: RunConfig, path: Path) -> bool:
    """Whether a run takes its data from `path`."""
    return config.data.source is not None and Path(config.data.source).absolute() == path.absolute()
