"""Looking at a source of data without training on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from configs import SMALL

from rlhf_engine.config import fields
from rlhf_engine.config.methods.base import BatchKind, Needs
from rlhf_engine.config.methods.ppo import PPOConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.preview import lists_of_source, look_at_source
from rlhf_engine.data.rows import load_data
from rlhf_engine.data.tables import digest_of
from rlhf_engine.errors import ConfigError


def config(path: Path, rows: list[dict[str, Any]], **data: Any) -> RunConfig:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return fields.replace(SMALL, {"data.source": str(path), **{f"data.{name}": value for name, value in data.items()}})


def test_a_look_tells_what_a_run_would_take(tmp_path: Path) -> None:
    run = config(tmp_path / "rows.jsonl", [{"prompt": f"Row {at}", "answer": at} for at in range(20)],
                 held_out=["Row 3", "no row"], held_out_share=0.25)
    found, taken = look_at_source(run, 8), load_data(run)
    assert found is not None
    assert [row.text for row in found.first] == [f"Row {at}" for at in range(8)]
    assert {row.text for row in found.first if row.by_share} == set(taken.held_out.prompts[2:]) & {
        f"Row {at}" for at in range(8)}
    assert (found.rows, found.held_out) == (20, len(taken.held_out))
    assert found.columns == ("answer",)
    assert found.sha256 == digest_of(run.data)


def test_the_hub_is_not_asked_for_a_look(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert look_at_source(fields.replace(SMALL, {"data.source": "somebody/stories"}), 8) is None
    with pytest.raises(ConfigError, match="stories"):  # a name that is plainly a file's
        look_at_source(fields.replace(SMALL, {"data.source": "somebody/stories.txt"}), 8)


@pytest.mark.parametrize(("batch", "row", "lists"), [
    ("prompts", {"prompt": "One", "answer": 1}, {"data.prompts": ["One"]}),
    ("pairs", {"prompt": "One", "chosen": "a", "rejected": "b"},
     {"data.prompts": ["One"], "data.chosen": ["a"], "data.rejected": ["b"]}),
    ("texts", {"text": "One whole"}, {"data.texts": ["One whole"]}),
])
def test_rows_become_the_lists_that_hold_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: BatchKind, row: dict[str, Any], lists: dict[str, Any]
) -> None:
    monkeypatch.setattr(PPOConfig, "needs", Needs(reference=False, batch=batch))
    run = config(tmp_path / "rows.jsonl", [row])
    assert lists_of_source(run) == lists
    in_settings = fields.replace(run, {"data.source": None, **lists})
    assert load_data(in_settings).train.texts == load_data(run).train.texts


def test_responses_to_prompts_have_no_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PPOConfig, "needs", Needs(reference=False, batch="texts"))
    with pytest.raises(ConfigError, match=r"data\.source"):
        lists_of_source(config(tmp_path / "rows.jsonl", [{"prompt": "One", "response": " two"}]))
