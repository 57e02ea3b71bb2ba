"""Fixtures of the engine's tests: tiny random models, loaded once."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from tiny_models import save_tiny_model, tiny_config

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.models.policy import Policy
from rlhf_engine.training import profiling

ARCHITECTURES = ("gpt_neo", "llama", "gpt2")


@pytest.fixture(scope="session", autouse=True)
def _the_machine_is_measured_once() -> Iterator[None]:
    """A run begins by finding out how fast matrices are multiplied: a tenth of a second, more than a step here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profiling, "matmul_peak", cache(profiling.matmul_peak))
        yield


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A local folder for each architecture; gpt2 has dropout and one id for padding and end."""
    root = tmp_path_factory.mktemp("models")
    return {name: save_tiny_model(root / name, name, own_padding=name != "gpt2") for name in ARCHITECTURES}


@pytest.fixture(scope="session", params=ARCHITECTURES)
def shared_policy(request: pytest.FixtureRequest, model_folders: dict[str, Path]) -> Policy:
    """One untrained policy an architecture, for tests that change nothing in it."""
    torch.set_num_threads(1)
    return Policy.from_config(tiny_config(model_folders[request.param]))


@pytest.fixture
def neo_config(model_folders: dict[str, Path]) -> RunConfig:
    return tiny_config(model_folders["gpt_neo"])
