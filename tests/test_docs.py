"""What the documents show is what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "benchmarks" / "README.md"]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, anchor = target.partition("#")
        if "://" in target:
            continue
        linked = (path.parent / file) if file else path
        assert linked.exists(), target
        if anchor:
            heads = {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-")
                     for head in re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.M)}
            assert anchor in heads, target


def test_the_method_that_is_shown_is_the_one_that_is_tested() -> None:
    shown = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "extending.md").read_text(encoding="utf-8"), re.S)
    package = ROOT / "tests" / "data" / "one_word_package"
    assert shown == [(package / f"{name}.py").read_text(encoding="utf-8") for name in ("one_word", "one_word_learner")]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200
