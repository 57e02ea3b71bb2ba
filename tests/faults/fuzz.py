"""A fuzzer: damaged runs, checkpoints, presets, models and files of the user, through every command and screen.

None may end in a traceback, hang, let the terminal obey, write or signal elsewhere, run code, or take the memory. Each
case is told by seed and number. From the root: make soak, or for one case

    PYTHONPATH=.:tests .venv/bin/python -m faults.fuzz --case 17 --keep /tmp/case
"""

from __future__ import annotations

import argparse
import gc
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from faults.cases import Case, Decoy
from faults.doors import DOORS, Door
from faults.laboratory import warm_config
from faults.material import Place, make
from faults.trial import Trial, Verdict
from tqdm import tqdm

_SOUND = 2  # times that each door is measured with sound files; the slower counts


class Fuzzer:
    """Warm material, and what each door needs of sound files. Use as a context: a decoy process lives meanwhile."""

    def __init__(self, root: Path, jobs: int = 2, doors: Iterable[Door] = DOORS) -> None:
        self._root, self._jobs = root, jobs
        tqdm.monitor_interval = 0  # a thread of the parent would be missing in each fork
        warm_config(root, steps=1)
        _warm()
        self.original: Place = make(root)
        # it ends with us, however we end
        self._decoy = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        self._decoy_id = Decoy.of(self._decoy.pid)
        self.allowed: dict[str, Verdict] = {}
        self.offended_when_sound: list[Verdict] = []
        gc.collect()
        gc.freeze()  # else each fork copies what its first look for garbage touches
        for door in doors:
            self._measure(door)

    def __enter__(self) -> Fuzzer:
        return self

    def __exit__(self, *_: object) -> None:
        self._decoy.kill()
        self._decoy.wait()

    def verdicts(self, cases: Iterable[Case], keep: Path | None = None) -> Iterator[Verdict]:
        """What comes of each, in the order in which they end. What only took too long is tried once more, alone."""
        again: list[Case] = []
        running: list[tuple[Case, Trial]] = []
        waiting = iter(cases)
        more = True
        while more or running:
            while more and len(running) < self._jobs:
                case = next(waiting, None)
                if case is None:
                    more = False
                    break
                running.append((case, self._trial(case)))
            for case, trial in [pair for pair in running if pair[1].over()]:
                running.remove((case, trial))
                if _only_slow(trial.verdict):
                    again.append(Case(case.number, case.seed, case.light))
                    trial.clear()
                else:
                    yield self._done(trial, keep)
            time.sleep(0.01)
        for case in again:
            trial = self._trial(case)
            while not trial.over():
                time.sleep(0.01)
            yield self._done(trial, keep)

    def _trial(self, case: Case) -> Trial:
        return Trial(case, case.door, self.original, self._root / f"{case.number:08d}", self._decoy_id,
                     self.allowed[case.door.name])

    def _done(self, trial: Trial, keep: Path | None) -> Verdict:
        assert self._decoy.poll() is None, f"the decoy was killed by case {trial.verdict.number}"
        if keep:
            shutil.rmtree(keep, ignore_errors=True)
            shutil.copytree(self._root, keep, symlinks=True, ignore=lambda folder, names: [
                name for name in names if not (Path(folder, name).is_file() or Path(folder, name).is_dir())
                or Path(folder, name).stat().st_size > 1e9])
        trial.clear()
        return trial.verdict

    def _measure(self, door: Door) -> None:
        for number in range(_SOUND):
            nothing = Verdict(-1, door.name, seconds=60.0)
            trial = Trial(None, door, self.original, self._root / f"sound{number:03d}", self._decoy_id, nothing)
            while not trial.over():
                time.sleep(0.01)
            slowest = self.allowed.setdefault(door.name, trial.verdict)
            slowest.seconds = max(slowest.seconds, trial.verdict.seconds)
            if trial.verdict.offences or trial.verdict.code:
                self.offended_when_sound.append(trial.verdict)
            trial.clear()


def _only_slow(verdict: Verdict) -> bool:
    return bool(verdict.offences) and all(offence.kind == "hang" for offence in verdict.offences)


def _warm() -> None:
    """All that doors import, and all styles of the screen: a case then forks in a moment, and no thread is left."""
    import importlib
    import pkgutil

    import rlhf_engine
    import rlhf_tui

    sys.dont_write_bytecode = True
    for package in (rlhf_engine, rlhf_tui):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    for name in ("llama", "gpt2"):
        importlib.import_module(f"transformers.models.{name}.modeling_{name}")
    _parse_styles_once()
    from rlhf_engine.system.streams import degrade

    degrade()
    assert threading.active_count() == 1, threading.enumerate()


def _parse_styles_once() -> None:
    import asyncio

    from textual.css.stylesheet import Stylesheet
    from tui.fake_session import Sessions
    from tui.parsed_styles import parsing_once

    from rlhf_engine.config import presets
    from rlhf_tui.app import WorkbenchApp
    from rlhf_tui.engine.bridge import EngineBridge

    Stylesheet._parse_rules = parsing_once()

    async def once() -> None:
        with tempfile.TemporaryDirectory() as folder:
            bridge = EngineBridge(Path(folder), Sessions())
            app = WorkbenchApp(bridge, presets.load("animals"), "animals")
            async with app.run_test(size=(110, 36)) as pilot:
                for key in ("r", "T", *["escape"] * 2, "p", "escape", "w", "escape", "P", "escape", "comma", "escape",
                            "l", "escape"):
                    await pilot.press(key)
                    await app.workers.wait_for_complete()
            bridge.close()
            bridge.join()

    asyncio.run(once())


def main() -> None:
    """Tries the cases and prints what was found, each fault once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--case", type=int, help="only this one, and all about it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 2, help="processes at a time")
    parser.add_argument("--light", action="store_true", help="only commands that load no model")
    parser.add_argument("--keep", type=Path, help="a folder for what a single case leaves behind")
    options = parser.parse_args()
    numbers = range(options.first, options.first + options.cases) if options.case is None else [options.case]
    cases = [Case(number, options.seed, options.light) for number in numbers]
    wanted = [door for door in DOORS if any(case.door is door for case in cases)]
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rlhf-fuzz-", dir=_fast_folder()) as folder, \
            Fuzzer(Path(folder), options.jobs, wanted) as fuzzer:
        alone = options.case is not None
        failed = _tell(fuzzer, cases, options.keep if alone else None, verbose=alone)
        print(f"{len(cases)} cases in {time.monotonic() - began:.0f} s; {failed} offended", flush=True)
    if failed or fuzzer.offended_when_sound:
        sys.exit(1)


def _fast_folder() -> str | None:
    """A folder in memory, where there is one with room: cases make and remove half a million files."""
    memory = Path("/dev/shm")
    has_room = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 4 * 10**9
    return str(memory) if has_room else None


def _tell(fuzzer: Fuzzer, cases: list[Case], keep: Path | None, *, verbose: bool) -> int:
    """Prints the verdicts; how many cases offended."""
    for verdict in fuzzer.offended_when_sound:
        print(f"SOUND FILES, {verdict.door}: exit code {verdict.code}; {verdict.offences}", flush=True)
    faults: Counter[tuple[str, str]] = Counter()
    kinds: Counter[str] = Counter()
    failed = 0
    slowest = 0.0
    for done, verdict in enumerate(fuzzer.verdicts(cases, keep), 1):
        failed += bool(verdict.offences)
        slowest = max(slowest, verdict.seconds - fuzzer.allowed[verdict.door].seconds)
        if verbose:
            sound = fuzzer.allowed[verdict.door].seconds
            print(f"{verdict.door} ({sound:.2f} s of sound files): exit code {verdict.code}, {verdict.seconds:.2f} s, "
                  f"{verdict.growth / 1e6:.0f} MB\n  " + "\n  ".join(verdict.damaged))
        for offence in verdict.offences:
            faults[offence.kind, offence.where] += 1
            kinds[offence.kind] += 1
            if faults[offence.kind, offence.where] == 1:
                print(f"--- {offence.kind}: {offence.where}\ncase {verdict.number}, {verdict.door}; "
                      f"{'; '.join(verdict.damaged)}\n{offence.text}", flush=True)
        if done % 100 == 0:
            print(f"... {done} cases, {failed} offended", flush=True)
    for (kind, where), count in faults.most_common():
        print(f"{count:5} {kind}: {where}")
    print(f"by kind: {dict(kinds)}; most above what sound files take: {slowest:.1f} s", flush=True)
    return failed


if __name__ == "__main__":
    main()
