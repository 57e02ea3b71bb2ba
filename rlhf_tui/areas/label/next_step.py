"""What can be done next with what was judged, in a sentence."""

from __future__ import annotations

from pathlib import Path

from rlhf_engine.config.run_config import RunConfig
from rlhf_tui.terminal.clean_text import clean_line


def next_step(path: Path, wanted: int, config: RunConfig | None, run: str) -> str:
    """What to do once `wanted` pairs were judged. config, run: of the run on the screen, if there is one."""
    shown = clean_line(str(path))
    if config is not None and config.algorithm.kind == "reward_model" and run and learns_from(config, path):
        return (f"{wanted} pairs judged · {clean_line(run)} learns a reward model from this file: a [[rewards]] table "
                f"with kind = \"preference\" and model = \"{clean_line(run)}\" lets a policy be trained on it")
    return (f"{wanted} pairs judged, all in {shown} · a reward model learns from them: --set "
            f"algorithm.kind=reward_model --set data.source={shown}")


def learns_from(config: RunConfig, path: Path) -> bool:
    """Whether a run takes its data from `path`."""
    return config.data.source is not None and Path(config.data.source).absolute() == path.absolute()
