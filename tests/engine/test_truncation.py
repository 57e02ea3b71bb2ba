"""Responses that are cut off: said where a model could have ended them, and not where it has no end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_models import save_tiny_model, tiny_config

from rlhf_engine.events import Alarm, Event, StepFinished
from rlhf_engine.training.trainer import Trainer


def without_end(folder: Path) -> Path:
    """A model of which nothing says how it ends a text."""
    save_tiny_model(folder, "llama")
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        kept = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({key: value for key, value in kept.items() if "eos" not in key}))
    return folder


@pytest.mark.parametrize("ends", [True, False])
def test_an_alarm_says_so_unless_the_model_has_no_end_token(tmp_path: Path, ends: bool) -> None:
    folder = save_tiny_model(tmp_path / "model", "llama") if ends else without_end(tmp_path / "model")
    config = tiny_config(folder, sentinel={"window": 2, "truncated_share": 0.2}, sampling={"max_new_tokens": 2})
    events: list[Event] = []
    Trainer(config, run_dir=None, emit=events.append).run()
    cut = [event.metrics.get("completions/clipped_ratio") for event in events if isinstance(event, StepFinished)]
    raised = [event.text for event in events if isinstance(event, Alarm) and event.kind == "truncated"]
    if ends:
        assert all(share is not None and share > 0.2 for share in cut)
        (text,) = raised
        assert "2 tokens" in text
        assert "sampling.max_new_tokens" in text
    else:
        assert cut == [None] * 3
        assert raised == []
