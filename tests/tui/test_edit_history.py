"""Changes are taken back newest first and made again in their order, whatever they were."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_engine.config.fields import replace
from rlhf_engine.config.rewards import LengthRewardConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_tui.editing.undo_stack import Step, UndoStack, step_between

CONFIG = RunConfig(data={"prompts": ["One day"]}, rewards=[LengthRewardConfig(min_words=3)])
values = st.tuples(st.sampled_from(["kl.coef", "kl.target", "algorithm.clip_range", "rewards.0.weight"]),
                   st.floats(0.01, 0.99))


def made(history: UndoStack, config: RunConfig, path: str, value: object) -> RunConfig:
    after = replace(config, {path: value})
    history.note(step_between(config, after))
    return after


@settings(max_examples=25)
@given(st.lists(values, max_size=8))
def test_undoing_all_gives_the_first_config_and_redoing_all_the_last(edits: list[tuple[str, float]]) -> None:
    history, config, seen = UndoStack(), CONFIG, [CONFIG]
    for path, value in edits:
        changed = made(history, config, path, value)
        if changed != config:
            seen.append(changed)
        config = changed
    last = config
    for before in reversed(seen[:-1]):
        assert history.undo is not None
        config = history.undo.made_to(config)
        history.undid()
        assert config == before
    assert history.undo is None
    while history.redo is not None:
        config = history.redo.made_to(config)
        history.redid()
    assert config == last


def test_what_was_undone_is_gone_after_another_change() -> None:
    history = UndoStack()
    made(history, CONFIG, "kl.coef", 0.5)
    history.undid()
    made(history, CONFIG, "kl.target", 3.0)
    assert history.redo is None


def test_a_change_that_changes_nothing_is_no_step() -> None:
    history = UndoStack()
    made(history, CONFIG, "kl.coef", CONFIG.kl.coef)
    assert history.undo is None


def test_only_the_newest_steps_are_kept() -> None:
    history, config = UndoStack(limit=2), CONFIG
    for value in (0.2, 0.3, 0.4):
        config = made(history, config, "kl.coef", value)
    told = []
    while history.undo is not None:
        told.append(history.undo.told())
        history.undid()
    assert told == ["kl.coef 0.4 → 0.3", "kl.coef 0.3 → 0.2"]


def test_another_kind_of_reward_is_put_back_whole(config: RunConfig) -> None:
    step = step_between(CONFIG, config, ("short", "animals"))
    assert step.made_to(CONFIG) == config
    assert step.reversed().made_to(config) == CONFIG
    assert step.reversed().told() == "preset short"


def test_a_refused_change_takes_its_setting_out_of_every_step() -> None:
    history = UndoStack()
    after = replace(CONFIG, {"kl.coef": 0.5, "kl.target": 9.0})
    history.note(step_between(CONFIG, after))
    made(history, after, "kl.coef", 0.7)
    history.forget("kl.coef")
    assert history.undo == Step({"kl.target": (9.0, 6.0)})
    history.undid()
    assert history.undo is None


def test_a_step_tells_itself_in_one_short_line() -> None:
    assert Step({"kl.coef": (0.1, 0.25)}).told() == "kl.coef 0.1 → 0.25"
    assert Step({"kl.coef": (0.1, 0.2), "kl.target": (6.0, 9.0)}).told() == "2 settings"
    assert Step({"rewards.0.liked": (["fox"] * 30, ["owl"])}).told() == "liked: +owl " + "−fox −fox and 28 more"
