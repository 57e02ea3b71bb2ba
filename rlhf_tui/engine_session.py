"""What the workbench needs of the engine, and the real one, imported when it is first used."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import platformdirs

from rlhf_engine.config import RunConfig
from rlhf_engine.control import CompareRequest, GenerateRequest
from rlhf_engine.events import Event


class EngineSession(Protocol):
    """What the bridge needs of `rlhf_engine.session.Session`."""

    @property
    def busy(self) -> bool: ...
    def start(self, config: RunConfig, *, runs_root: Path, name: str | None = None, preset: str = "") -> None: ...
    def resume(self, run_path: Path, *, accept_code: bool = False) -> None: ...
    def fork(
        self, run_path: Path, *, step: int | None = None, changes: Mapping[str, Any], runs_root: Path,
        name: str | None = None,
    ) -> None: ...
    def pause(self) -> None: ...
    def unpause(self) -> None: ...
    def stop(self) -> None: ...
    def checkpoint(self) -> None: ...
    def edit(self, path: str, value: object) -> None: ...
    def ask(self, request: GenerateRequest | CompareRequest, config: RunConfig) -> None: ...
    def cancel(self, request_id: int) -> None: ...
    def close(self) -> None: ...
    def serve(self) -> None: ...


SessionFactory = Callable[[Callable[[Event], None]], EngineSession]


def engine_session(emit: Callable[[Event], None]) -> EngineSession:
    """The real engine. Imported on first use, so that the first frame does not wait for it."""
    from rlhf_engine.session import Session

    return Session(emit)


def write_crash_log(error: BaseException) -> Path | str:
    """The whole traceback into a new file of the user's log folder; its path, or why there is none."""
    moment = datetime.now(UTC)
    try:
        folder = Path(platformdirs.user_log_dir("rlhf-tui", appauthor=False, ensure_exists=True))
        path = folder / f"crash-{moment:%Y%m%dT%H%M%S.%fZ}.log"
        path.write_text("".join(traceback.format_exception(error)), encoding="utf-8", errors="backslashreplace")
    except OSError as failure:
        return f"no file ({failure.strerror})"
    return path
