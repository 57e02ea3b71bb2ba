"""What carries meaning by colour is told apart by all eyes, and all text can be read; computed, not looked at."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest
from textual.color import Color
from textual.theme import Theme
from textual.widgets import Input, OptionList, TextArea
from tui.colour_vision import SEEN_AS, Rgb, contrast, distance
from tui.terminal import Terminal

from rlhf_tui.app import WorkbenchApp
from rlhf_tui.terminal.theme import DARK, LIGHT, SIXTEEN, theme_for

BACKGROUNDS = ("background", "surface", "panel", "block-cursor-background", "block-cursor-blurred-background")
TEXTS = ("foreground", "text-muted", "primary", "secondary", "accent", "success", "warning", "error",
         "text-success", "text-warning", "text-error", "text-accent")
# liked and disliked words, states and levels; a curve, its target and its edits
PAIRS = (("text-success", "text-error"), ("success", "error"), ("success", "warning"), ("text-success", "text-warning"),
         ("warning", "error"), ("text-warning", "text-error"), ("primary", "accent"), ("accent", "secondary"))


def colours(theme: Theme) -> dict[str, Rgb]:
    """The variables as an app makes them."""
    variables = {**theme.to_color_system().generate(), **theme.variables}
    return {name: Color.parse(variables[name]).rgb for name in {*BACKGROUNDS, *TEXTS, "block-cursor-foreground"}}


def grey(colour: Rgb) -> Rgb:
    return Color(*colour).monochrome.rgb


@pytest.mark.parametrize("theme", [DARK, LIGHT], ids=lambda theme: theme.name)
class TestThemes:
    @pytest.mark.parametrize("eyes", SEEN_AS)
    def test_pairs_that_carry_meaning_are_told_apart(self, theme: Theme, eyes: str) -> None:
        seen = colours(theme)
        far = {pair: distance(seen[pair[0]], seen[pair[1]], eyes) for pair in PAIRS}
        assert {pair: value for pair, value in far.items() if value < 25} == {}

    @pytest.mark.parametrize("paint", [tuple, grey], ids=["in colour", "NO_COLOR"])
    def test_text_has_the_contrast_that_reading_wants(self, theme: Theme, paint: object) -> None:
        seen = {name: paint(colour) for name, colour in colours(theme).items()}  # type: ignore[operator]
        found = {(text, ground): contrast(seen[text], seen[ground]) for text in TEXTS for ground in BACKGROUNDS}
        found["cursor", "cursor"] = contrast(seen["block-cursor-foreground"], seen["block-cursor-background"])
        assert {pair: value for pair, value in found.items() if value < 4.5} == {}


def test_the_formulas_agree_with_known_values() -> None:
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast((119, 119, 119), (255, 255, 255)) == pytest.approx(4.48, abs=0.01)  # WCAG's own example
    assert distance((0, 0, 0), (255, 255, 255), "all colours") == pytest.approx(100, abs=0.1)
    # the classic trap: a red and a green that differ for most people, and hardly for a green-blind one
    assert distance((163, 90, 0), (106, 113, 0), "all colours") > 35
    assert distance((163, 90, 0), (106, 113, 0), "deuteranopia") < 12


def test_a_terminal_of_16_colours_gets_a_theme_of_its_own() -> None:
    assert [theme_for(system) for system in ("standard", "256", "truecolor", None)] == [SIXTEEN, DARK, DARK, DARK]


CHILD = textwrap.dedent("""
    import sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from tui.fake_session import FakeSession
    from rlhf_engine.config.fields import validate
    from rlhf_engine.requests import Start
    from rlhf_tui.launch import run_workbench

    config = validate({{"data": {{"prompts": ["a"]}}, "rewards": [{{"kind": "word_list", "liked": ["fox"]}}]}})

    class Learns(FakeSession):
        def ask(self, request):
            super().ask(request)
            if isinstance(request, Start):
                self.steps(9)

    sys.exit(run_workbench(config, "animals", runs_root=Path("runs"), start=True, session_factory=Learns))
""")


def sent(tmp_path: Path, **environment: str) -> set[str]:
    """The colours and styles that are sent while a run is shown and a sample chosen, one by one."""
    terminal = Terminal(tmp_path, CHILD, **{"COLORTERM": "", **environment})
    terminal.read_until(b"step 9/100")
    terminal.type("4\x1b[B")
    terminal.read_until_quiet(0.4)
    terminal.type("qqq")
    terminal.exit_code()
    codes: set[str] = set()
    for parameters in re.findall(rb"\x1b\[([0-9;]*)m", terminal.written):
        codes |= set(re.findall(r"[34]8;[25];[0-9;]+|[0-9]+", re.sub(r"([34]8;2;\d+;\d+;\d+|[34]8;5;\d+)", r" \1 ",
                                                                  parameters.decode())))
    return codes


def test_a_terminal_of_16_colours_is_sent_those_alone(tmp_path: Path) -> None:
    codes = sent(tmp_path, TERM="xterm")
    assert not {code for code in codes if ";" in code}
    assert {"92", "96", "97", "40", "44"} <= codes  # liked words, frames, text, the ground, the chosen row
    assert not {code for code in codes if 100 <= int(code) <= 107}  # a console may have eight grounds only


def test_no_color_on_16_colours_sends_no_colour_and_reverses_the_chosen_row(tmp_path: Path) -> None:
    codes = sent(tmp_path, TERM="xterm", NO_COLOR="1")
    assert {code for code in codes if ";" in code or 30 <= int(code) <= 47 or int(code) >= 90} <= {"39", "49"}
    assert {"1", "4", "7", "9"} <= codes  # what is left to tell things apart


def test_no_color_elsewhere_sends_greys(tmp_path: Path) -> None:
    colours = {code for code in sent(tmp_path, TERM="xterm-256color", COLORTERM="truecolor", NO_COLOR="1")
               if ";" in code}
    triplets = {tuple(code.split(";")[2:]) for code in colours}
    assert len(triplets) > 5
    assert all(red == green == blue for red, green, blue in triplets)


@pytest.mark.parametrize("field", [Input, TextArea])
async def test_in_16_colours_the_cursor_of_a_field_and_a_choice_elsewhere_are_seen(
    app: WorkbenchApp, field: type[Input] | type[TextArea]
) -> None:
    app.theme = SIXTEEN.name
    async with app.run_test(size=(80, 24)) as pilot:
        box, options = field(), OptionList("one", "two")
        await app.screen.mount(box, options)
        box.focus()
        options.highlighted = 1
        await pilot.pause()
        name = "input--cursor" if field is Input else "text-area--cursor"
        for style in (box.get_component_rich_style(name),
                      options.get_component_rich_style("option-list--option-highlighted")):
            assert style.color
            assert style.bgcolor
            grounds = (style.bgcolor.name, style.color.name)
            assert (grounds[1] if style.reverse else grounds[0]) not in ("black", "default")
            assert grounds[0] != grounds[1]
