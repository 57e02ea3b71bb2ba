"""The keys that matter for a run, and for a sweep, as the key bar shows them: (key, what it does, the action)."""

from __future__ import annotations

KEYS = [("Enter", "Open", "screen.open"), ("Esc", "Back", "screen.back"), ("?", "Help", "app.help"),
        ("t", "Resume", "screen.resume"),
        ("f", "Fork", "screen.fork"), ("/", "Search", "screen.search"), ("s", "Sort", "screen.sort"),
        ("m", "Mark", "screen.mark"), ("i", "Settings", "screen.settings"), ("c", "Compare", "screen.compare"),
        ("o", "Overlay", "screen.overlay"), ("n", "Note", "screen.note"), ("e", "Export", "screen.export"),
        ("R", "Rename", "screen.rename"),
        ("x", "Delete", "screen.delete"), ("S", "By metric", "screen.sort_by_metric"),
        ("N", "New sweep", "screen.new_sweep"), ("T", "Trash", "screen.trash")]

OF_SWEEP = {driven: [("Enter", "Show/hide runs", "screen.open"), ("Esc", "Back", "screen.back"),
                      ("?", "Help", "app.help"), ("t", "Stop" if driven else "Go on", "screen.resume"),
                      ("o", "Overlay", "screen.overlay"), ("m", "Mark all", "screen.mark"),
                      ("S", "By metric", "screen.sort_by_metric"), ("N", "New sweep", "screen.new_sweep"),
                      ("x", "Forget", "screen.delete"), ("/", "Search", "screen.search"), ("s", "Sort", "screen.sort")]
             for driven in (False, True)}
"""By whether it is driven."""
