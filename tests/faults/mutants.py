"""Makes each of `faults.mutations` and of `faults.label_mutations` in a copy of the tree, and sees that a test notices.

From the root, with `tests` on the path: python -m faults.mutants [--only WORDS]. Prints a line a mutation, and ends
with 1 if one survived. A mutation that no test notices is a test that is missing.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from faults.label_mutations import LABEL_MUTATIONS
from faults.mutations import MUTATIONS, Mutation

ROOT = Path(__file__).parents[2]
LONGEST = 300.0  # seconds for the tests of one mutation; one that never ends has been noticed


def main() -> None:
    """Every mutation, or those whose name or file holds the words."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="words in the name or file of a mutation")
    parser.add_argument("--trust", action="store_true", help="that the tests pass without any mutation")
    options = parser.parse_args()
    chosen = [item for item in (*MUTATIONS, *LABEL_MUTATIONS) if options.only in f"{item.file} {item.name}"]
    if not chosen:
        raise SystemExit(f"no mutation is called {options.only!r}")
    started = time.monotonic()
    survivors = hunt(chosen, trust=options.trust)
    seconds = time.monotonic() - started
    print(f"{len(chosen)} mutations in {seconds:.0f} s, {len(survivors)} of them survived", flush=True)
    for survivor in survivors:
        print(f"  {survivor.file}: {survivor.name}")
    raise SystemExit(bool(survivors))


def hunt(mutations: Sequence[Mutation], *, trust: bool) -> list[Mutation]:
    """Those that no test notices. Raises RuntimeError if the tests fail without any mutation, too, unless `trust` says
    that they do not.
    """
    import peft  # noqa: F401 - what takes long to import is shared by all the children
    import torch
    import transformers  # noqa: F401

    torch.set_num_threads(1)  # a child of a process with a pool of threads would wait for threads it has not
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for part in ("rlhf_engine", "storyteller_maker", "presets", "tests", "benchmarks"):
            shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__", "__snapshots__"))
        shutil.copy(ROOT / "pyproject.toml", tree)
        needed = sorted({test for item in mutations for test in item.tests})
        if not trust and fails(tree, needed, LONGEST * len(needed)):
            raise RuntimeError(f"without any mutation: {(tree / 'output').read_text()[-3000:]}")
        return [item for item in mutations if not noticed(tree, item)]


def noticed(tree: Path, item: Mutation) -> bool:
    """Makes the mutation in `tree`, runs its tests, and takes it back."""
    path, started = tree / "rlhf_engine" / item.file, time.monotonic()
    whole = path.read_text(encoding="utf-8")
    if whole.count(item.old) != 1:
        raise RuntimeError(f"{item.name}: {item.old!r} is {whole.count(item.old)} times in {item.file}")
    path.write_text(whole.replace(item.old, item.new), encoding="utf-8")
    try:
        found = next((test for test in item.tests if fails(tree, [test], LONGEST)), "")
    finally:
        path.write_text(whole, encoding="utf-8")
    how = f"noticed by {found}" if found else "SURVIVED"
    print(f"{time.monotonic() - started:5.1f} s  {item.file}: {item.name}: {how}", flush=True)
    return bool(found)


def fails(tree: Path, tests: Sequence[str], limit: float) -> bool:
    """Whether one of these test files fails with the engine in `tree`, or takes longer than `limit` seconds."""
    child = os.fork()
    if child == 0:
        _run_tests(tree, tests)
    until = time.monotonic() + limit
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status) != 0
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def _run_tests(tree: Path, tests: Sequence[str]) -> None:
    """In the child: pytest on the copy, whose engine stands in front of the installed one. Never returns."""
    code = 99
    try:
        os.chdir(tree)
        output = os.open("output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(output, stream)
        sys.dont_write_bytecode = True  # a mutation may be as long as what it replaces, and made in the same second
        sys.path[:0] = [str(tree), str(tree / "tests")]
        import hypothesis
        import pytest

        import rlhf_engine

        # that an example fails is enough: nobody reads the smallest one
        phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
        hypothesis.settings.register_profile("hunt", phases=phases, database=None)
        hypothesis.settings.load_profile("hunt")
        assert Path(rlhf_engine.__file__).is_relative_to(tree), rlhf_engine.__file__
        unused = [word for name in ("cacheprovider", "xdist") for word in ("-p", f"no:{name}")]
        code = pytest.main(["-x", "-q", "--tb=line", *unused, *(f"tests/{test}" for test in tests)])
    finally:
        os._exit(int(code))


if __name__ == "__main__":
    main()
