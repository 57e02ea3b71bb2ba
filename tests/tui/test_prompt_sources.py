"""Prompts that come from a source of data, and prompts that are held out, on the screen of prompts."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from moments import until
from textual.pilot import Pilot
from tui.test_generate import shown

from rlhf_engine.config import fields
from rlhf_engine.config.data import DataConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data import tables
from rlhf_engine.data.pinning import pinned_data
from rlhf_engine.data.rows import load_data
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.presets.prompts import PromptsScreen
from rlhf_tui.areas.workbench.screen import WorkbenchScreen

WIDE = (160, 40)
OWN = ["Once upon a time", "One day"]


def jsonl(path: Path, rows: int, word: str = "Row") -> Path:
    path.write_text("".join(json.dumps({"prompt": f"{word} {at}.", "answer": at}) + "\n" for at in range(rows)))
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return jsonl(tmp_path / "rows.jsonl", 20)


@pytest.fixture
def sourced(app: WorkbenchApp, source: Path) -> WorkbenchApp:
    """A workbench whose prompts are rows of a file."""
    app.edited.config = fields.replace(app.edited.config, {"data.source": str(source)})
    return app


def data(app: WorkbenchApp) -> DataConfig:
    return app.edited.config.data


async def opened(pilot: Pilot[None], text: str) -> None:
    await pilot.press("P")
    await until(pilot, lambda: text in shown(pilot.app), lambda: shown(pilot.app))  # type: ignore[arg-type]


async def test_rows_of_a_source_are_shown_and_stay_as_they_are(sourced: WorkbenchApp, source: Path) -> None:
    before = sourced.edited.config
    async with sourced.run_test(size=WIDE) as pilot:
        await opened(pilot, "Row 19.")
        for part in ("Prompts · 20", str(source), "answer"):
            assert part in shown(sourced)
        assert "One day" not in shown(sourced)
        for key in ("a", "x", "E", "enter"):
            await pilot.press(key)
            assert "stay as they are" in shown(sourced), key
            await pilot.press("down")
        await pilot.press("slash", *"Row 1", "enter")
        assert "of 20" in shown(sourced)
        assert sourced.edited.config == before
        assert source.read_text().count("Row") == 20


async def test_of_a_large_source_the_first_rows_are_shown_and_how_many_there_are(app: WorkbenchApp, tmp_path: Path
                                                                                 ) -> None:
    (tmp_path / "many.txt").write_text("\n".join(f"Line {at}." for at in range(30_000)))
    app.edited.config = fields.replace(app.edited.config, {"data.source": str(tmp_path / "many.txt")})
    async with app.run_test(size=WIDE) as pilot:
        await opened(pilot, "30,000")
        await pilot.press("end")
        await pilot.pause()
        assert "Line 29999." not in shown(app)
        assert "Line 4" in shown(app)


async def test_another_source_is_named_and_the_prompts_of_the_settings_come_back_one_undo_each(
    sourced: WorkbenchApp, source: Path, tmp_path: Path
) -> None:
    other = jsonl(tmp_path / "other.jsonl", 3, "Other")
    sourced.edited.config = pinned_data(sourced.edited.config)
    pinned = data(sourced)
    assert pinned.sha256
    async with sourced.run_test(size=WIDE) as pilot:
        await opened(pilot, "Row 19.")
        await pilot.press("s", *["backspace"] * len(str(source.resolve())), *str(other), "enter")
        await until(pilot, lambda: "Other 2." in shown(sourced))
        assert (data(sourced).source, data(sourced).sha256) == (str(other), None)
        assert "Row 1." not in shown(sourced)
        await pilot.press("i")
        assert (data(sourced).source, data(sourced).prompts) == (None, OWN)
        assert "One day" in shown(sourced)
        await pilot.press("u")
        await until(pilot, lambda: "Other 2." in shown(sourced))
        await pilot.press("u")
        await until(pilot, lambda: "Row 19." in shown(sourced))
        assert data(sourced) == pinned
        await pilot.press("s", "ctrl+a", *["delete"] * len(str(source.resolve())), "enter")  # emptied: as i does
        assert data(sourced).source is None
        await pilot.press("u")
        assert data(sourced) == pinned
        await pilot.press("s", *"lost", "escape")
        assert data(sourced) == pinned


async def test_where_the_settings_have_no_prompts_the_rows_are_taken_into_them(sourced: WorkbenchApp) -> None:
    sourced.edited.config = fields.replace(sourced.edited.config, {"data.prompts": [], "data.held_out_share": 0.2})
    before = data(sourced)
    held_out = load_data(sourced.edited.config).held_out.prompts
    async with sourced.run_test(size=WIDE) as pilot:
        await opened(pilot, "Row 19.")
        await pilot.press("i")
        await until(pilot, lambda: data(sourced).source is None)
        assert data(sourced).prompts == [f"Row {at}." for at in range(20)]
        assert load_data(sourced.edited.config).held_out.prompts == held_out
        await pilot.press("u")
        assert data(sourced) == before


@pytest.mark.parametrize("spoil", [
    lambda path: path.unlink(), lambda path: path.write_text("{no JSON"), lambda path: path.write_bytes(b"\xff\xfe"),
    lambda path: path.write_text('{"text": "no column of prompts"}'),
])
async def test_a_source_that_cannot_be_read_is_one_sentence(sourced: WorkbenchApp, source: Path, spoil: object) -> None:
    spoil(source)  # type: ignore[operator]
    async with sourced.run_test(size=WIDE) as pilot:
        await opened(pilot, "✗ data.source: ")
        assert isinstance(sourced.screen, PromptsScreen)
        jsonl(source, 20)
        await pilot.press("s", "enter")  # once it is as it should be, it is read again
        await until(pilot, lambda: "Row 19." in shown(sourced))


async def test_rows_that_are_not_those_of_the_digest_are_said_to_be_others(sourced: WorkbenchApp, source: Path) -> None:
    sourced.edited.config = pinned_data(sourced.edited.config)
    jsonl(source, 5)
    async with sourced.run_test(size=WIDE) as pilot:
        await opened(pilot, "has changed since")
        await pilot.press("s", "enter")
        assert data(sourced).sha256 is None
        assert pinned_data(sourced.edited.config).data.sha256


async def test_a_disk_that_never_answers_stalls_no_key(sourced: WorkbenchApp, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, never = threading.Event(), threading.Event()
    monkeypatch.setattr(tables, "read_bytes", lambda *_, **__: asked.set() or never.wait())
    try:
        async with sourced.run_test(size=WIDE) as pilot:
            await pilot.press("P")
            await until(pilot, asked.is_set)
            assert isinstance(sourced.screen, PromptsScreen)
            assert "reading" in shown(sourced)
            await pilot.press("i")
            assert data(sourced).source is None
            assert "One day" in shown(sourced)
            await pilot.press("u", "escape")
            await pilot.pause()
            assert isinstance(sourced.screen, WorkbenchScreen)
    finally:
        never.set()


async def test_a_dataset_of_the_hub_is_not_fetched_just_for_a_look(app: WorkbenchApp, monkeypatch: pytest.MonkeyPatch
                                                                   ) -> None:
    app.edited.config = fields.replace(app.edited.config, {"data.source": "somebody/stories"})
    async with app.run_test(size=WIDE) as pilot:
        await opened(pilot, "when a run starts")
        assert "✗" not in shown(app)


async def test_what_rows_say_obeys_nobody(app: WorkbenchApp, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text(json.dumps({"prompt": "\x1b[2J\x1b]0;x\x07[bold]two\nlines", "\x1b[31m": 1}))
    app.edited.config = fields.replace(app.edited.config, {"data.source": str(tmp_path / "bad.jsonl")})
    async with app.run_test(size=WIDE) as pilot:
        await opened(pilot, "[bold]two")
        assert "\x1b" not in shown(app)


# --- held out ---


async def test_prompts_are_held_out_and_trained_on_again(app: WorkbenchApp) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("P", "h")
        assert data(app).held_out == [OWN[0]]
        assert "1 held out" in shown(app)
        assert load_data(app.edited.config).train.prompts == [OWN[1]]
        await pilot.press("down", "h")  # one has to be left
        assert data(app).held_out == [OWN[0]]
        assert "leaves none to learn from" in shown(app)
        await pilot.press("home", "enter", "end", *" ago", "enter")  # what is held out stays so
        assert (data(app).prompts, data(app).held_out) == (["Once upon a time ago", OWN[1]], ["Once upon a time ago"])
        await pilot.press("u")
        assert (data(app).prompts, data(app).held_out) == (OWN, [OWN[0]])
        await pilot.press("h")
        assert data(app).held_out == []
        await pilot.press("u", "x")
        assert (data(app).prompts, data(app).held_out) == ([OWN[1]], [])
        await pilot.press("u")
        assert (data(app).prompts, data(app).held_out) == (OWN, [OWN[0]])


async def test_prompts_that_are_only_held_out_stand_below_and_are_edited_there(app: WorkbenchApp) -> None:
    app.edited.config = fields.replace(app.edited.config, {"data.held_out": ["Never seen", "Nor this"]})
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("P", "end", "enter", "end", *" one", "enter")
        assert data(app).held_out == ["Never seen", "Nor this one"]
        assert data(app).prompts == OWN
        assert "2 held out" in shown(app)
        await pilot.press("x")
        assert data(app).held_out == ["Never seen"]
        await pilot.press("end", "h")
        assert (data(app).prompts, data(app).held_out) == ([*OWN, "Never seen"], [])
        await pilot.press("u")
        assert (data(app).prompts, data(app).held_out) == (OWN, ["Never seen"])


@pytest.mark.parametrize("listed", [False, True])
async def test_a_share_is_shown_as_the_run_will_take_it(sourced: WorkbenchApp, listed: bool) -> None:
    lists = {"data.source": None, "data.prompts": [f"Row {at}." for at in range(20)]} if listed else {}
    config: RunConfig = fields.replace(sourced.edited.config, {**lists, "data.held_out_share": 0.25})
    sourced.edited.config = config
    out = load_data(config).held_out.prompts
    async with sourced.run_test(size=WIDE) as pilot:
        await opened(pilot, "5 held out")
        lines = [line for line in shown(sourced).splitlines() if "Row " in line]
        marked = {prompt for prompt in (f"Row {at}." for at in range(20))
                  if any(prompt in line and "held out" in line for line in lines)}
        assert marked == set(out)


async def test_rows_of_a_source_are_held_out_by_their_texts(sourced: WorkbenchApp) -> None:
    async with sourced.run_test(size=WIDE) as pilot:
        await opened(pilot, "Row 19.")
        await pilot.press("down", "h")
        assert data(sourced).held_out == ["Row 1."]
        await until(pilot, lambda: "1 held out" in shown(sourced))
        assert load_data(sourced.edited.config).held_out.prompts == ["Row 1."]
        await pilot.press("h")
        assert data(sourced).held_out == []
