"""How far apart two colours are, for eyes of all kinds, and how well text reads: plain formulas over sRGB bytes."""

from __future__ import annotations

from collections.abc import Sequence

Rgb = tuple[int, int, int]
Linear = Sequence[float]

# Machado, Oliveira & Fernandes 2009, severity 1.0; rows give red, green, blue of the linear light that is seen
SEEN_AS: dict[str, tuple[tuple[float, float, float], ...]] = {
    "all colours": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}


def linear(colour: Rgb) -> Linear:
    """Light, 0 to 1, of sRGB bytes (IEC 61966-2-1)."""
    shares = [byte / 255 for byte in colour]
    return [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]


def contrast(one: Rgb, other: Rgb) -> float:
    """WCAG 2 contrast, 1 to 21."""
    light, dark = sorted((_luminance(linear(colour)) for colour in (one, other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def distance(one: Rgb, other: Rgb, eyes: str) -> float:
    """Distance in CIELAB (D65) as these eyes see the colours; about 2 is just noticed, 100 is black to white."""
    return sum((a - b) ** 2 for a, b in zip(_lab(one, eyes), _lab(other, eyes), strict=True)) ** 0.5


def _luminance(light: Linear) -> float:
    return 0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2]


def _lab(colour: Rgb, eyes: str) -> tuple[float, float, float]:
    light = linear(colour)
    red, green, blue = (min(1.0, max(0.0, sum(weight * part for weight, part in zip(row, light, strict=True))))
                        for row in SEEN_AS[eyes])
    x = (0.4124564 * red + 0.3575761 * green + 0.1804375 * blue) / 0.95047
    y = _luminance((red, green, blue))
    z = (0.0193339 * red + 0.1191920 * green + 0.9503041 * blue) / 1.08883
    fx, fy, fz = (value ** (1 / 3) if value > 216 / 24389 else (24389 / 27 * value + 16) / 116 for value in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)
