"""The list of mutations stays one of this source; `make soak` makes them."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest
from faults.label_mutations import LABEL_MUTATIONS
from faults.mutations import MUTATIONS, Mutation

TESTS = Path(__file__).parents[1]
ENGINE = TESTS.parent / "rlhf_engine"
ALL = [*MUTATIONS, *LABEL_MUTATIONS]


@pytest.mark.parametrize("item", ALL, ids=lambda item: f"{item.file}: {item.name}")
def test_what_a_mutation_replaces_is_there_once_and_what_comes_instead_is_python(item: Mutation) -> None:
    source = (ENGINE / item.file).read_text(encoding="utf-8")
    assert source.count(item.old) == 1
    mutated = source.replace(item.old, item.new)
    assert ast.dump(ast.parse(mutated)) != ast.dump(ast.parse(source))
    assert item.tests
    assert all((TESTS / test).is_file() for test in item.tests)


def test_every_mutation_has_a_name_of_its_own() -> None:
    assert len(ALL) >= 150
    assert max(Counter(item.name for item in ALL).values()) == 1
