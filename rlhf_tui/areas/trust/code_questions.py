"""Asks before code of rewards is run that this user has not agreed to, or that is not what a run used so far.

The engine runs no such code, whoever asks it to (`runs.trust`); here a person is asked before the engine is, so
that it never waits for an answer. Nothing of the code is run to find out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual.app import App

from rlhf_engine.config.fields import replace
from rlhf_engine.config.rewards import FunctionRewardConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import CodeChangedError, CodeInQuestion, RlhfError
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.trust import UntrustedCodeError, trust
from rlhf_tui.terminal.clean_text import clean_line


class CodeQuestions:
    """The questions of one app, of which one is open at a time."""

    def __init__(self, app: App[Any]) -> None:
        self._app = app
        self._refused: set[str] = set()

    def settle(
        self, config: RunConfig, go_on: Callable[[bool], object], *, goes_on: bool = False, of: RunDir | None = None,
        needed: bool = True, refused: Callable[[str], object] | None = None,
    ) -> None:
        """Calls `go_on(changed)` once a person agrees to run all code that `config` names; at once if there is nothing
        to ask, or it is for the engine to say what else is wrong.

        goes_on: a run is gone on with: code that is not what it used so far is asked about as such, and `changed` says
        that it was agreed to. of: the run that the config is from; for another user's there is no question, since the
        engine runs no code of that. needed: without a yes `refused` is called with a sentence (else it is said); if
        not, it goes on all the same, as what can do without scores does, and is not asked again.
        """
        from rlhf_tui.areas.trust.trust_screen import TrustScreen

        changed, codes = _in_question(config, goes_on, of)
        if not codes or (not needed and {code.digest for code in codes} <= self._refused):
            go_on(bool(changed))
            return

        def answered(agreed: bool | None) -> None:
            if agreed:
                self._trust(codes)
                # there may be more code than one file of it
                self.settle(_as_it_is(config) if goes_on else config, lambda _: go_on(bool(changed)), of=of,
                            needed=needed, refused=refused)
                return
            self._refused |= {code.digest for code in codes}
            if not needed:
                go_on(False)
                return
            files = ", ".join(clean_line(str(code.file)) for code in codes)
            (refused or self._app.notify)(f"nothing was run: the reward code {files} is not trusted")

        for screen in self._app.screen_stack:
            if isinstance(screen, TrustScreen):
                screen.also(codes, answered, lambda: self.settle(config, go_on, goes_on=goes_on, of=of, needed=needed,
                                                                 refused=refused))
                return
        screen = TrustScreen(codes, changed)
        screen.also(codes, answered, lambda: None)
        self._app.push_screen(screen, screen.answer)

    def _trust(self, codes: tuple[CodeInQuestion, ...]) -> None:
        for code in codes:
            self._refused.discard(code.digest)
            try:
                trust(code.digest, code.file)
            except RlhfError as error:
                self._app.notify(f"trusted until you leave, for it could not be kept: {clean_line(str(error))}",
                                 severity="warning")


def names_code(config: RunConfig) -> bool:
    """Whether any reward is code."""
    return any(isinstance(reward, FunctionRewardConfig) for reward in config.rewards)


def _in_question(config: RunConfig, goes_on: bool, of: RunDir | None) -> tuple[str, tuple[CodeInQuestion, ...]]:
    """What has changed, in a sentence, or empty, and the code to ask about; none where there is nothing to ask."""
    if not names_code(config):
        return "", ()
    from rlhf_engine.rewards.function import require_same_code, require_trusted
    from rlhf_engine.runs.run_code import require_own_run

    try:
        if of is not None:
            require_own_run(of, config)
        (require_same_code if goes_on else require_trusted)(config)
    except CodeChangedError as error:
        return str(error), error.codes
    except UntrustedCodeError as error:
        return "", (error.code,)
    except RlhfError:
        pass  # told by the engine
    return "", ()


def _as_it_is(config: RunConfig) -> RunConfig:
    """The config with the code as it is now, whatever it was before."""
    return replace(config, {f"rewards.{index}.sha256": None for index, reward in enumerate(config.rewards)
                            if isinstance(reward, FunctionRewardConfig)})
