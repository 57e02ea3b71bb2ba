"""What the rewards of a config make of one text, before any training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlhf_engine.config.data import DataConfig
from rlhf_engine.config.rewards import FunctionRewardConfig, RewardSection
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import RlhfError, kind_and_message
from rlhf_engine.events import Span
from rlhf_engine.rewards.base import Score
from rlhf_engine.runs.run_code import require_own_run
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.trust import UntrustedCodeError
from rlhf_tui.terminal.clean_text import clean_line

if TYPE_CHECKING:
    from rlhf_engine.data.rows import Rows
    from rlhf_engine.rewards.composite import RewardSum


@dataclass(frozen=True)
class Share:
    """What one reward adds to the sum: its weight times its total, made of weighted parts; None if it does not apply.
    """

    name: str
    weight: float
    total: float | None
    parts: dict[str, float]


@dataclass(frozen=True)
class Verdict:
    """A score and what it is made of, texts clean; or in one sentence why there is none."""

    score: Score | None = None
    shares: tuple[Share, ...] = ()
    error: str = ""
    untrusted: str = ""
    """The file whose code would have to run for it, and has not: nobody has agreed to that yet."""


class Scorer:
    """Scores one text at a time; rewards are built anew when their settings change, those of code each time: a file
    may be another by then."""

    def __init__(self) -> None:
        self._built_of: list[RewardSection] = []
        self._read_of: tuple[DataConfig, str] | None = None
        self._rows: Rows | None = None
        self._rewards: RewardSum | None = None

    def verdict(self, config: RunConfig, prompt: str, response: str, run_dir: RunDir | None = None) -> Verdict:
        """The score of `response`. A reward may run a user's code: whatever it raises becomes the verdict's error.

        run_dir: the run that `config` is of, if it is of one.
        """
        configs = config.rewards
        try:
            if run_dir is not None:
                require_own_run(run_dir, config)
            rewards = self._build(config)
            batch = rewards.score([prompt], [response])
            # a user's code may have put anything into a span
            spans = tuple(Span(int(span.start), int(span.end), str(span.kind)) for span in batch.scores[0].spans)
        except UntrustedCodeError as error:
            return Verdict(untrusted=clean_line(str(error.code.file)))
        except (Exception, SystemExit) as error:
            if isinstance(error, RlhfError):
                return Verdict(error=clean_line(str(error)))
            return Verdict(error=clean_line(kind_and_message(error)))
        (score,) = batch.scores
        shares = [_share(config, batch.by_reward[config.name][0], score) for config in configs]
        return Verdict(Score(float(score.total), score.parts, spans), tuple(shares))

    def _build(self, config: RunConfig) -> RewardSum:
        # some kinds of rewards may load a model: not before one is tried
        from rlhf_engine.rewards.build import build_rewards

        configs = list(config.rewards)
        if self._rewards is None or configs != self._built_of or any(
                isinstance(reward, FunctionRewardConfig) for reward in configs):
            self._rewards, self._built_of = build_rewards(configs), configs
        if self._rewards.sees_columns:
            self._rewards.columns_of = self._rows_of(config).columns_of
        return self._rewards

    def _rows_of(self, config: RunConfig) -> Rows:
        """The rows among which a prompt is looked for. Nothing is had from the hub for that."""
        from rlhf_engine.data.rows import Rows, read_rows
        from rlhf_engine.data.tables import only_on_hub

        data, kind = config.data, config.algorithm.needs.batch
        if self._rows is None or self._read_of != (data, kind):
            far = data.source is not None and only_on_hub(data)
            self._rows = Rows(kind, {"prompts": []}) if far else read_rows(config).rows
            self._read_of = (data, kind)
        return self._rows


def _share(config: RewardSection, total: float | None, score: Score) -> Share:
    own = f"{config.name}/"
    parts = {clean_line(part.removeprefix(own)): value for part, value in score.parts.items() if part.startswith(own)}
    return Share(config.name, config.weight, total, parts)
