"""The wheel, installed elsewhere, works without the checkout: presets, storyteller and all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*command: str | Path, cwd: Path) -> str:
    # no PYTHONPATH: nothing of the checkout may help
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True,
                          timeout=280, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, cwd=ROOT)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_what_the_program_reads(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in ("rlhf_engine/shipped_presets/animals.toml", "rlhf_engine/shipped_presets/sft-animals.jsonl",
                   "rlhf_engine/shipped_presets/sft-sorting.jsonl", "rlhf_engine/shipped_presets/sorting.jsonl",
                   "rlhf_engine/storyteller/model/model.safetensors",
                   "rlhf_engine/storyteller/model/tokenizer.json", "rlhf_tui/cli.py"):
        assert wanted in names
    styles = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("rlhf_tui/**/*.tcss")}
    assert styles <= set(names)
    assert not any(name.startswith(("tests/", "runs/")) for name in names)


def test_the_wheel_brings_what_the_storyteller_is_and_not_what_made_it(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    made = {name.removeprefix("rlhf_engine/storyteller/") for name in names if "storyteller" in name}
    assert made == {
        "__init__.py", "data/lexicon.txt", "data/openers.toml", "data/themes.toml", "model/MODEL_CARD.md",
        "model/config.json", "model/generation_config.json", "model/model.safetensors", "model/tokenizer.json",
        "model/tokenizer_config.json",
    }
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"rlhf_engine", "rlhf_tui"}


def test_the_source_distribution_brings_what_made_the_storyteller(tmp_path: Path):
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", tmp_path, cwd=ROOT)
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    makers = {path.relative_to(ROOT).as_posix() for path in (ROOT / "storyteller_maker").rglob("*")
              if path.suffix in (".py", ".toml")}
    assert "storyteller_maker/grammar/plots.toml" in makers
    assert makers | {"rlhf_engine/storyteller/model/model.safetensors", "Makefile"} <= names


@pytest.mark.slow
def test_installed_away_from_the_checkout_it_trains(wheel: Path, tmp_path: Path):
    home = tmp_path / "venv"
    venv.create(home, with_pip=False)
    site = next((home / "lib").glob("python*/site-packages"))
    # torch and the others come from this very environment; the package itself from the wheel alone
    inherited = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (site / "inherited.pth").write_text("\n".join(inherited) + "\n")
    install = ["install", "--quiet", "--no-deps", "--no-index", "--target", site, wheel]
    run(sys.executable, "-m", "pip", *install, cwd=tmp_path)
    python = home / "bin" / "python"
    where = run(python, "-c", "import rlhf_engine; print(rlhf_engine.__file__)", cwd=tmp_path)
    assert where.startswith(str(site))
    listed = json.loads(run(python, "-m", "rlhf_tui", "presets", "--json", cwd=tmp_path))["presets"]
    assert all(info["path"].startswith(str(site)) for info in listed)
    sets = ["train.steps=2", "train.threads=1", "algorithm.responses_per_step=8", "algorithm.minibatch_size=4"]
    overrides = [word for text in sets for word in ("--set", text)]
    lines = run(python, "-m", "rlhf_tui", "train", "animals", "--json", "--name", "first", *overrides,
                cwd=tmp_path).splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["step", "step", "end"]
    assert json.loads(lines[-1])["state"] == "finished"
    assert (tmp_path / "runs" / "first" / "checkpoints" / "step-000002").is_dir()
