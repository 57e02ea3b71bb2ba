"""A dark and a light theme, safe for colour-blind eyes, and one for terminals of 16 colours.

Good is a bluish green, bad a vermilion or a dark red, a warning yellow between them: three that stay apart for red-
and green-blind eyes too, and text has a contrast of 4.5 on every background (tests compute both). And nothing is told
by colour alone: liked words are underlined, disliked ones struck through, series differ by marker, states by symbol.
"""

from __future__ import annotations

from textual.theme import Theme

DARK = Theme(
    name="workbench-dark",
    primary="#6cb6ff",
    secondary="#a4b0c0",
    accent="#ffd94a",
    success="#78e8d4",
    warning="#ffd94a",
    error="#fb8c62",
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
        "text-muted": "#98a5b8",
        # Textual would tint these, which brings liked and disliked words nearer to each other
        "text-success": "#78e8d4", "text-warning": "#ffd94a", "text-error": "#fb8c62", "text-accent": "#ffd94a",
        "block-cursor-background": "#20364f",
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
    accent="#805900",
    success="#0a6b5e",
    warning="#805900",
    error="#740518",
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
        "text-muted": "#566070",
        # Textual would tint these, which brings liked and disliked words nearer to each other
        "text-success": "#0a6b5e", "text-warning": "#805900", "text-error": "#740518", "text-accent": "#805900",
        "block-cursor-background": "#cfe2f6",
        "block-cursor-foreground": "#0c1a2b",
        "block-cursor-text-style": "none",
        "block-cursor-blurred-background": "#e4e8ee",
        "footer-key-foreground": "#0b5cad",
    },
)

# The palette that every terminal has. Background and text are both named, so that they never meet by accident; bright
# colours are text alone, since a console may know only eight backgrounds.
SIXTEEN = Theme(
    name="workbench-16",
    ansi=True,
    primary="ansi_bright_cyan",
    secondary="ansi_white",
    accent="ansi_bright_yellow",
    success="ansi_bright_green",
    warning="ansi_bright_yellow",
    error="ansi_bright_red",
    foreground="ansi_bright_white",
    background="ansi_black",
    surface="ansi_black",
    panel="ansi_black",
    dark=True,
    variables={
        "ansi-background": "ansi_black",  # Textual's own styles ask for these two
        "ansi-foreground": "ansi_white",
        "border": "ansi_bright_cyan",
        "border-blurred": "ansi_bright_black",
        "scrollbar": "ansi_white",
        "scrollbar-hover": "ansi_white",
        "scrollbar-active": "ansi_cyan",
        "scrollbar-background": "ansi_black",
        "scrollbar-background-hover": "ansi_black",
        "scrollbar-background-active": "ansi_black",
        "scrollbar-corner-color": "ansi_black",
        "text": "ansi_bright_white",
        "text-muted": "ansi_white",
        "text-disabled": "ansi_white",
        "block-cursor-background": "ansi_blue",
        "block-cursor-foreground": "ansi_bright_white",
        "block-cursor-text-style": "bold",
        "block-cursor-blurred-background": "ansi_black",
        "block-cursor-blurred-foreground": "ansi_white",
        "block-cursor-blurred-text-style": "reverse",  # eight backgrounds have no second shade for what is chosen
        "footer-key-foreground": "ansi_bright_cyan",
        # Textual reverses these in a text area, and in a field unless told (`Desk.CSS`): a white block in both
        "input-cursor-background": "ansi_black",
        "input-cursor-foreground": "ansi_white",
        "input-selection-background": "ansi_blue",
        "input-selection-foreground": "ansi_bright_white",
    },
)

THEMES = (DARK, LIGHT, SIXTEEN)
AUTO = "auto"


def theme_for(color_system: str | None, *, light: bool = False) -> Theme:
    """The theme where nobody chose one, for what the terminal can show (Rich's name of it) and draws on."""
    return SIXTEEN if color_system == "standard" else LIGHT if light else DARK


def is_light(red: float, green: float, blue: float) -> bool:
    """Whether a background of these parts (0 to 1) is light: its luma (BT.709) is above the middle."""
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.5


def light_by_environment(colorfgbg: str) -> bool:
    """What COLORFGBG, as some terminals set it, says: "15;0" is white on black. Nothing is dark."""
    return colorfgbg.rpartition(";")[2] in ("7", "15")
