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


def test_the_reward_and_the_method_that_are_shown_are_those_that_are_tested() -> None:
    shown = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "extending.md").read_text(encoding="utf-8"), re.S)
    files = ("rows_package/vowels.py", "rows_package/vowels_reward.py", "one_word_package/one_word.py",
             "one_word_package/one_word_learner.py")
    assert shown == [(ROOT / "tests" / "data" / file).read_text(encoding="utf-8") for file in files]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200
