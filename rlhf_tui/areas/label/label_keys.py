"""The keys of the label screen, and which of them its last line names."""

from __future__ import annotations

from textual.binding import Binding, BindingType

KEYS: list[BindingType] = [
    Binding("a,left", "judge('left')", "Left", tooltip="The left (or upper) response is better", id="label.left"),
    Binding("b,right", "judge('right')", "Right", tooltip="The right (or lower) response is better",
            id="label.right"),
    Binding("t", "judge('tie')", "Tie", tooltip="Both are equally good", id="label.tie"),
    Binding("0", "judge('both_bad')", "Both bad", tooltip="Neither is any good", id="label.both_bad"),
    Binding("x", "judge('skip')", "Skip", tooltip="Say nothing of this pair", id="label.skip"),
    Binding("f", "flag", "Flag", tooltip="Flag this pair, to find it again in the file", id="label.flag"),
    Binding("n", "note", "Note", tooltip="A line about this pair", id="label.note"),
    Binding("u", "undo", "Undo", tooltip="Judge the last pair anew; again, the one before, up to ten",
            id="label.undo"),
    Binding("v", "why", "Why", tooltip="The pair before with its guess, the words that moved it, and who answered",
            id="label.why"),
    Binding("i", "statistics", "Statistics", tooltip="Consistency, biases of position and length, agreement",
            id="label.statistics"),
    Binding("s", "ask", "Asked next", tooltip="Ask at random, where the guess is least sure, or where the gap is "
            "largest", id="label.ask"),
    Binding("1", "side(0)", "First model", tooltip="Choose the first of the two that answer", id="label.first"),
    Binding("2", "side(1)", "Second model", tooltip="Choose the second of the two that answer",
            id="label.second"),
    Binding("o", "options", "Rater, file", tooltip="Who judges, into which file, and how many pairs",
            id="label.options"),
    Binding("r", "again", "Ask again", tooltip="Ask for pairs once more where none came", id="label.again"),
    Binding("escape", "back", "Back", tooltip="Leave what is judged anew as it was; else leave", id="label.back"),
    Binding("l", "stay", "Label", show=False),
    Binding("up", "scroll(-1)", "Up", show=False), Binding("down", "scroll(1)", "Down", show=False),
    Binding("pageup", "page(-1)", "Page up", show=False), Binding("pagedown", "page(1)", "Page down", show=False),
    Binding("home", "page(-10000)", "Top", show=False), Binding("end", "page(10000)", "Bottom", show=False),
]
KEY_BAR = [
    ("a ←", "Left", "screen.judge('left')"), ("b →", "Right", "screen.judge('right')"),
    ("t", "Tie", "screen.judge('tie')"), ("0", "Both bad", "screen.judge('both_bad')"),
    ("x", "Skip", "screen.judge('skip')"), ("u", "Undo", "screen.undo"), ("Esc", "Back", "screen.back"),
    ("f", "Flag", "screen.flag"), ("n", "Note", "screen.note"), ("v", "Why", "screen.why"),
    ("i", "Statistics", "screen.statistics"), ("s", "Asked next", "screen.ask"), ("1 2", "Models", ""),
    ("o", "Rater, file", "screen.options"), ("↑↓", "Scroll", ""), ("?", "Help", "app.help"),
]
"""(key, what it does, the action of a click)"""
