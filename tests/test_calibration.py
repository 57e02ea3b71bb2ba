"""What a reward model's probabilities come to, of the steps of its run."""

from __future__ import annotations

import math

import pytest

from rlhf_engine.config import presets
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.evaluation.calibration import calibration_of


def reward_model(*overrides: str) -> RunConfig:
    return presets.load_with_overrides("reward-model", list(overrides))


def test_the_newest_step_that_has_any_bin_counts() -> None:
    found = calibration_of([(10, {"eval/calibration/50": 0.5, "eval/calibration_error": 0.2}),
                            (20, {"eval/calibration/70": 0.75, "eval/calibration/90": 0.8}), (21, {"loss": 0.1})],
                           reward_model())
    assert found.step == 20
    assert [(share.low, share.high, share.middle) for share in found.bins] == [(70, 80, 75), (90, 100, 95)]
    assert [share.observed for share in found.bins] == pytest.approx([75, 80])
    assert math.isnan(found.error)  # that of step 10 belongs to other bins


def test_a_share_of_counted_pairs_has_its_wilson_interval() -> None:
    metrics = {"eval/calibration/80": 0.7, "eval/calibration_pairs/80": 10.0, "eval/calibration/90": 0.7,
               "eval/calibration_pairs/90": 200.0, "eval/calibration/50": 0.5}
    uncounted, few, many = calibration_of([(1, metrics)], reward_model()).bins
    assert uncounted.interval is None
    # (0.7 + z²/20 ± z √(0.021 + z²/400)) / (1 + z²/10), z = 1.95996
    assert few.interval == pytest.approx((39.68, 89.22), abs=0.01)
    assert (few.may_be_chance, many.may_be_chance) == (True, False)
    told = " ".join(calibration_of([(1, metrics)], reward_model()).sentences())
    assert "90 to 100 %, 70 %" in told
    assert "(40 to 89, n 10)" in told
    told = " ".join(calibration_of([(1, {"eval/calibration/80": 0.7, "eval/calibration_pairs/80": 10.0})],
                                   reward_model()).sentences())
    assert "chance" in told


@pytest.mark.parametrize(("share", "off"), [(0.71, -9), (0.8, 0), (0.85, 0), (0.9, 0), (0.97, 7)])
def test_how_far_a_share_lies_outside_its_bin(share: float, off: float) -> None:
    [found] = calibration_of([(1, {"eval/calibration/80": share})], reward_model()).bins
    assert found.off == pytest.approx(off)


@pytest.mark.parametrize(("shares", "word"), [
    ((0.55, 0.71), "surer"), ((0.7, 0.85), "more often"), ((0.55, 0.85), "believed"),
    ((0.65, 0.6), "surer"),  # 5 points above, 20 below
])
def test_the_bin_that_is_furthest_off_is_told_of(shares: tuple[float, float], word: str) -> None:
    metrics = {"eval/calibration/50": shares[0], "eval/calibration/80": shares[1], "eval/calibration_error": 0.125}
    told = " ".join(calibration_of([(1, metrics)], reward_model()).sentences())
    assert word in told
    assert "12.5 points" in told


@pytest.mark.parametrize(("overrides", "needed"), [
    (("data.held_out_share=0",), "held_out_share"), (("data.evaluate_every=0",), "above 0"),
    (("data.evaluate_every=7",), "every 7 steps")])
def test_without_any_it_says_what_is_needed(overrides: tuple[str, ...], needed: str) -> None:
    [told] = calibration_of([(1, {"loss": 0.5, "eval/calibration/50": math.nan})], reward_model(*overrides)).sentences()
    assert needed in told
