"""What has changed around a run since it was left, and what a person says to that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlhf_engine.config.fields import changed_settings
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.pinning import require_same_data
from rlhf_engine.model_folders.fingerprint import Fingerprint
from rlhf_engine.model_folders.judge_models import judge_changes, require_same_judges
from rlhf_engine.rewards.function import accept_changes, code_changes, require_same_code
from rlhf_engine.runs import checkpoint
from rlhf_engine.runs.base_model import AS_IT_WAS, BaseChoice, base_fingerprint
from rlhf_engine.runs.checkpoint_list import base_at
from rlhf_engine.runs.run_code import require_own_run
from rlhf_engine.runs.run_dir import RunDir


@dataclass(frozen=True)
class GoingOn:
    """How a run is gone on with.

    accept_code: with files of reward functions that have changed since, which are trusted from now on. accept_data:
    with data, or models that judge, that have changed since. base: what a person says about the base model.
    """

    accept_code: bool = False
    accept_data: bool = False
    base: BaseChoice = AS_IT_WAS

    def agreed(self, run_dir: RunDir) -> RunConfig:
        """The settings of the newest checkpoint, with the base where it is now, once all that has changed is agreed to.
        Raises CheckpointError, and BaseChangedError, CodeChangedError, UntrustedCodeError, ForeignCodeError and
        DataChangedError for what is not."""
        config = self.base.placed(checkpoint.newest_config(run_dir))
        self.check_base(run_dir, base_at(run_dir, None), base_fingerprint(config.model), config)
        require_own_run(run_dir, config)
        if self.accept_code:
            accept_changes(config)
        else:
            require_same_code(config)
        if not self.accept_data:
            require_same_data(config)
            require_same_judges(config)
        return config

    def changes(self, config: RunConfig) -> dict[str, Any]:
        """The settings, by path, in which the run records what was agreed to. config: of the checkpoint that it goes on
        from. Raises as `agreed` does: code may have changed since, and newer checkpoints may have come."""
        if not self.accept_code:
            require_same_code(config)
        if not self.accept_data:
            require_same_judges(config)
        found: dict[str, Any] = {change.path: change.new for change in code_changes(config)}
        found |= {change.path: change.new for change in judge_changes(config)}
        return found | {path: new for path, (_, new) in changed_settings(config, self.base.placed(config)).items()}

    def check_base(
        self, run_dir: RunDir, before: Fingerprint | None, now: Fingerprint | None, config: RunConfig
    ) -> None:
        """Raises BaseChangedError when the base is not the one of the checkpoint, unless that is agreed to."""
        self.base.check(run_dir.name, before, now, config.model)
