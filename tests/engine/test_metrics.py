"""Every metric explains itself."""

from __future__ import annotations

import pytest

from rlhf_engine.metrics import REGISTRY, describe

NAMES = [*REGISTRY, "rewards/words/mean", "rewards/words/std"]


@pytest.mark.parametrize("name", NAMES)
def test_a_metric_says_what_it_is_and_how_a_good_and_a_bad_curve_look(name: str) -> None:
    metric = describe(name)
    assert metric.name == name
    for sentence in (metric.help, metric.good, metric.bad):
        assert sentence[0].isupper() or not sentence[0].isalpha() or sentence[0] in "−Σ"
        assert sentence.endswith((".", ")."))
    assert len({metric.help, metric.good, metric.bad}) == 3


def test_titles_fit_a_heading_and_tell_metrics_apart() -> None:
    titles = [metric.title for metric in REGISTRY.values()]
    assert len(set(titles)) == len(titles)
    assert max(map(len, titles)) <= 24


def test_a_metric_nobody_described_is_called_by_its_name() -> None:
    assert describe("my/own").title == "my/own"
    assert describe("rewards/a/b/mean").title == "a/b mean"
