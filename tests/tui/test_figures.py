"""Numbers as the screen shows them."""

from __future__ import annotations

import pytest

from rlhf_tui.figures import figure


@pytest.mark.parametrize(("value", "form", "shown"), [
    (-1.5, ".2f", "−1.50"), (-1.5, "+8.2f", "   −1.50"), (1.5, "+.2f", "+1.50"), (-0.001, "+.2f", "+0.00"),
    (-0.04, ".1f", "0.0"), (float("-inf"), ".1f", "−inf"), (float("nan"), "+6.2f", "  +nan"),
])
def test_a_figure_has_its_sign_and_no_minus_where_it_rounds_to_zero(value: float, form: str, shown: str) -> None:
    assert figure(value, form) == shown
