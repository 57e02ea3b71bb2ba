"""Where a fork came from, as its run.json tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rlhf_engine.files.reading import whole_number
from rlhf_engine.runs.run_lines import text_in

_MOST_CHANGES = 1000  # settings in which a fork differs


@dataclass(frozen=True)
class Parent:
    """Where a fork came from: the run's name then, the step of the checkpoint, what stays when it is renamed, which
    settings changed, each as (path, old, new), and whether it began anew at step 0, with the actor alone."""

    run: str
    step: int
    id: str = field(default="", compare=False)
    changes: tuple[tuple[str, Any, Any], ...] = field(default=(), compare=False)
    anew: bool = field(default=False, compare=False)


def parent_in(about: Mapping[str, Any]) -> Parent | None:
    """The parent that a run.json names, if it names one."""
    try:
        parent = about["parent"]
        changes = tuple((str(path), old, new) for path, old, new in parent.get("changes", ())[:_MOST_CHANGES])
        return Parent(text_in(parent, "run"), whole_number(parent["step"]), text_in(parent, "id"), changes,
                      parent.get("anew") is True)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        return None
