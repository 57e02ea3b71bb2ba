"""A small part of the fuzzer; and that it notices what it looks for, for one that cannot fail is worth nothing."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
import warm

TESTS = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes by /proc")


def in_an_interpreter_of_its_own(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return warm.run(["-m", f"faults.{module}", *arguments], cwd=TESTS.parent)


def _deeds() -> dict[str, str]:
    """The name of each misdeed, and the kind of offence that it is; empty for none."""
    tree = ast.parse((Path(__file__).parent / "misdeeds.py").read_text(encoding="utf-8"))
    (deeds,) = [node.value for node in tree.body if isinstance(node, ast.AnnAssign)
                and getattr(node.target, "id", "") == "DEEDS"]
    assert isinstance(deeds, ast.Dict)
    return {name.value: kind.elts[0].value for name, kind in zip(deeds.keys, deeds.values, strict=True)}  # type: ignore


@pytest.fixture(scope="module")
def noticed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Misdeed -> the kinds of offences that the judge found; done once for all tests."""
    done = in_an_interpreter_of_its_own("misdeeds", str(tmp_path_factory.mktemp("misdeeds")))
    assert done.returncode == 0, done.stderr
    return {row["name"]: row["kinds"] for row in map(json.loads, done.stdout.splitlines())}


@pytest.mark.slow
@pytest.mark.parametrize("name", _deeds())
def test_the_judge_notices(noticed: dict[str, list[str]], name: str) -> None:
    kind = _deeds()[name]
    assert kind in noticed[name] if kind else noticed[name] == []


@pytest.mark.slow
def test_no_damaged_file_gets_a_command_to_do_what_none_may() -> None:
    done = in_an_interpreter_of_its_own("fuzz", "--light", "--cases", "48", "--seed", "1")
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
