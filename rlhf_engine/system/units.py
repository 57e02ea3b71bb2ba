"""Quantities as people read them: bytes of a disk, and seconds of a clock."""

from __future__ import annotations

import math


def format_bytes(count: float) -> str:
    """Bytes in decimal units, short: `512 B`, `3.4 MB`, `123 kB`."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 999.5 or unit == "TB":
            return f"{value:.0f} {unit}" if unit == "B" or value >= 99.5 else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError


def format_clock(seconds: float) -> str:
    """Seconds as mm:ss, or h:mm:ss from an hour on; `unknown` for what no clock shows."""
    if not math.isfinite(seconds):  # of a run whose file says nothing of use
        return "unknown"
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"
