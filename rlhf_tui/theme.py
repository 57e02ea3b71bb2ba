"""One dark and one light theme, safe for colour-blind eyes.

Good and bad are a bluish green and a vermilion (they differ in lightness too), and nothing is told by colour alone:
liked words are underlined, disliked ones struck through, series differ by marker, states by symbol.
"""

from __future__ import annotations

from textual.theme import Theme

DARK = Theme(
    name="workbench-dark",
    primary="#6cb6ff",
    secondary="#9aa7b8",
    accent="#f2c14e",
    success="#4fc8a0",
    warning="#f2c14e",
    error="#ff7b5a",
    foreground="#d5dce6",
    background="#10141a",
    surface="#171d26",
    panel="#273040",
    dark=True,
    variables={
        "border": "#6cb6ff",
        "border-blurred": "#3a4658",
        "scrollbar": "#3a4658",
        "scrollbar-hover": "#4d5c73",
        "scrollbar-active": "#6cb6ff",
        "scrollbar-background": "#10141a",
        "scrollbar-background-hover": "#10141a",
        "scrollbar-background-active": "#10141a",
        "scrollbar-corner-color": "#10141a",
        "text-muted": "#8592a5",
        "block-cursor-background": "#2b4666",
        "block-cursor-foreground": "#ffffff",
        "block-cursor-text-style": "none",
        "block-cursor-blurred-background": "#222b39",
        "footer-key-foreground": "#6cb6ff",
    },
)

LIGHT = Theme(
    name="workbench-light",
    primary="#0b5cad",
    secondary="#566172",
    accent="#8a5a00",
    success="#00694d",
    warning="#8a5a00",
    error="#b3330c",
    foreground="#1d2430",
    background="#fbfbf9",
    surface="#f1f1ed",
    panel="#dcdfe4",
    dark=False,
    variables={
        "border": "#0b5cad",
        "border-blurred": "#b3bac4",
        "scrollbar": "#b3bac4",
        "scrollbar-hover": "#8f98a5",
        "scrollbar-active": "#0b5cad",
        "scrollbar-background": "#fbfbf9",
        "scrollbar-background-hover": "#fbfbf9",
        "scrollbar-background-active": "#fbfbf9",
        "scrollbar-corner-color": "#fbfbf9",
        "text-muted": "#5c6675",
        "block-cursor-background": "#cfe2f6",
        "block-cursor-foreground": "#0c1a2b",
        "block-cursor-text-style": "none",
        "block-cursor-blurred-background": "#e4e8ee",
        "footer-key-foreground": "#0b5cad",
    },
)

THEMES = (DARK, LIGHT)
