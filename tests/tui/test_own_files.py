"""What the user copies, marks and crashes with is for their eyes alone, whatever the umask and whatever was there."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from configs import SMALL

from rlhf_engine.config import presets
from rlhf_engine.events import Sample
from rlhf_engine.model_folders.user_cache import read_cache, write_cache
from rlhf_engine.runs.run_dir import RunDir
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.preferences.preferences_file import SettingsFile
from rlhf_tui.areas.samples.favourites import Favourites
from rlhf_tui.terminal.clipboard import copy, save_picture
from rlhf_tui.terminal.crash_log import open_output_log, output_log, write_crash_log

SAMPLE = Sample(1, "once \x1b[2J", "upon", 1.0, {}, 0.1, 3, True)
HOSTILE = "\x1b]0;t\x07\x9b2J\u202e"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """All folders of the user below one, which is there, and a umask that hides nothing."""
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    for name in ("STATE", "DATA", "CONFIG", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(home / name.lower() / "deep"))
    before = os.umask(0)
    yield home
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def write_everything(app: WorkbenchApp) -> None:
    copy(app, "secret " + HOSTILE)
    save_picture(app)
    write_crash_log(ValueError("secret " + HOSTILE))
    handle = open_output_log()
    assert handle is not None
    os.close(handle)
    Favourites().toggle("run", SAMPLE)
    settings = SettingsFile()
    settings.change(last_preset=f"/tmp/{HOSTILE}.toml")
    assert settings.save() == ""
    presets.save("mine", SMALL, overwrite=True)
    # in a process of its own: what is trusted is handed on by this one
    subprocess.run([sys.executable, "-c", "import sys\nfrom pathlib import Path\n"
                    "from rlhf_engine.runs.trust import trust\n"
                    "trust('0' * 64, Path(sys.argv[1]))", HOSTILE], check=True, timeout=100,
                   cwd=Path(__file__).parents[2])
    write_cache("some.json", {HOSTILE: HOSTILE}, 10)


async def test_files_and_folders_of_the_user_are_theirs_alone(app: WorkbenchApp, home: Path) -> None:
    async with app.run_test():
        write_everything(app)
    made = [path for path in home.rglob("*") if "deep" in path.parts]
    assert {path.name for path in made} >= {"copied.txt", "output.log", "favourites.jsonl", "settings.toml",
                                            "mine.toml", "trusted_code.json", "some.json"}
    assert any(path.suffix == ".svg" for path in made)
    assert any(path.name.startswith("crash-") for path in made)
    for path in made:
        assert mode(path) == (0o700 if path.is_dir() else 0o600), path
        if path.is_file():
            assert not set("\x1b\x07\x9b\u202e") & set(path.read_text()), path
    assert SettingsFile().settings.last_preset == f"/tmp/{HOSTILE}.toml"
    assert read_cache("some.json") == {HOSTILE: HOSTILE}


async def test_what_others_could_read_before_they_cannot_any_more(app: WorkbenchApp, home: Path) -> None:
    async with app.run_test():
        write_everything(app)
        texts = [path for path in home.rglob("*") if path.name in ("copied.txt", "output.log", "favourites.jsonl")]
        assert len(texts) == 3
        for path in texts:
            path.chmod(0o644)
            path.parent.chmod(0o755)
        crashed = next(home.rglob("crash-*"))
        crashed.chmod(0o644)
        crashed.parent.chmod(0o755)
        Favourites().toggle("another", SAMPLE)
        write_everything(app)
    assert {mode(path) for path in texts} == {0o600}
    assert {mode(path.parent) for path in (*texts, crashed)} == {0o700}


async def test_a_link_in_their_place_is_not_written_through(app: WorkbenchApp, home: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("of another program\n")
    async with app.run_test():
        write_everything(app)
        for path in [*home.rglob("copied.txt"), *home.rglob("output.log"), *home.rglob("favourites.jsonl")]:
            path.unlink()
            path.symlink_to(other)
        assert "not written" in copy(app, "secret")
        assert open_output_log() is None
    assert other.read_text() == "of another program\n"
    assert output_log().is_symlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")
async def test_a_folder_of_somebody_else_gets_no_text_of_the_users(app: WorkbenchApp, home: Path) -> None:
    folder = home / "state" / "deep" / "rlhf-tui"
    folder.mkdir(parents=True)
    os.chown(folder, 65534, 65534)
    async with app.run_test():
        assert "not written" in copy(app, "secret")
        assert open_output_log() is None
    assert not list(folder.iterdir())


def test_a_run_is_for_its_user_alone_and_its_root_is_nobody_elses_to_write_to(home: Path) -> None:
    run = RunDir.create(home / "runs", SMALL, name="one")
    assert mode(run.path) == 0o700
    assert mode(home / "runs") & 0o022 == 0
    assert {mode(path) for path in run.path.iterdir()} == {0o600}


def test_a_run_makes_no_folder_that_others_may_write_to(home: Path, tmp_path: Path) -> None:
    with RunDir.create(tmp_path / "some" / "where" / "runs", SMALL).lock():
        made = [path for top in (home, tmp_path / "some") for path in [top, *top.rglob("*")] if path != home]
    assert {path.name for path in made} >= {"where", "runs", "cache", "deep"}
    assert [path for path in made if mode(path) & 0o022] == []
