"""A case of the fuzzer, told by its number: which of the files are damaged, how, and the door they are read through."""

from __future__ import annotations

import json
import os
import random
import shutil
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
from faults import hostile
from faults.damage import damage, document, forged, put
from faults.doors import DOORS, Door, Subject
from faults.material import Place

_KINDS = {"run": 42, "checkpoint": 20, "preset": 14, "model": 14, "trash": 4, "home": 6, "code": 5, "labels": 6}
_PICKLED = b"cos\nsystem\n(S'touch {marker}'\ntR."


@dataclass(frozen=True)
class Decoy:
    """A process of this user that nobody may signal, as anybody may look it up. started: seconds since the epoch."""

    pid: int
    started: str = ""

    @classmethod
    def of(cls, pid: int) -> Decoy:
        """A process that lives."""
        return cls(pid, f"{psutil.Process(pid).create_time():.2f}")


@dataclass
class Case:
    """number and seed tell all of it, as long as the material is the same. `damaged`: what was done, in words."""

    number: int
    seed: int
    light: bool = False
    damaged: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._dice = random.Random(f"{self.seed}/{self.number}")
        self.kind = self._dice.choices(list(_KINDS), list(_KINDS.values()))[0]
        doors = [door for door in DOORS if self.kind in door.of and not (self.light and door.slow)]
        if not doors:  # models are read by heavy commands alone
            self.kind = "run"
            doors = [door for door in DOORS if "run" in door.of and not door.slow]
        self.door: Door = self._dice.choices(doors, [door.weight for door in doors])[0]

    def damage(self, place: Place, decoy: Decoy) -> Subject:
        """Damages the copy at `place`; says what the subject is called by now. decoy: a process that nobody may signal.
        """
        subject = self._subject()
        for _ in range(self._dice.choice((1, 1, 1, 2, 3))):
            before = len(self.damaged)
            # an earlier damage may have left nothing that can be damaged further
            with suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
                subject = self._once(place, subject, decoy)
            if len(self.damaged) == before:
                self.damaged.append("nothing")
        return subject

    def _subject(self) -> Subject:
        dice = self._dice
        return Subject(dice.choice(("own", "own", "own", "child", "plain")),
                       dice.choice(("words", "length", "regex", "function", "files")),
                       dice.choice(("llama", "gpt2", "adapter", "adapter")))

    def _once(self, place: Place, subject: Subject, decoy: Decoy) -> Subject:
        dice, kind = self._dice, self.kind
        folder = {"run": place.runs / subject.run, "checkpoint": place.runs / subject.run, "home": place.home,
                  "model": place.models / subject.model, "preset": place.presets, "trash": place.runs / ".trash",
                  "code": place.root / "rewards", "labels": place.labels}[kind]
        chance = dice.random()
        if chance < 0.06:
            self.damaged.append(_planted(folder, dice, place))
            return subject
        if chance < 0.12:
            return self._renamed(folder, subject)
        if kind == "run" and chance < 0.18:
            self.damaged.append(_someone_drives(folder, dice, decoy))
            return subject
        if kind == "code" and chance < 0.6:
            self.damaged.append(_written_anew(folder, dice))
            return subject
        if kind == "model" and chance < 0.2:
            self.damaged.append(_templated(folder, dice))
            return subject
        files = sorted(Path(at, name) for at, _, names in os.walk(folder) for name in names)
        if kind == "checkpoint":
            files = [file for file in files if file.parent.parent.name == "checkpoints"]
        elif kind == "run":  # those of checkpoints have cases of their own
            files = [file for file in files if file.parent.parent.name != "checkpoints" or dice.random() < 0.1]
        elif kind == "preset" and dice.random() < 0.7:
            files = [file for file in files if file.stem == subject.preset]
        if not files:
            return subject
        file = dice.choice(files)
        if kind in ("run", "checkpoint") and dice.random() < 0.03:
            file = file.parent  # a folder, too, may be something else
        how = damage(file, dice, place.canary / "secret.txt")
        if file.parent.parent.name == "checkpoints" and dice.random() < 0.7:
            forged(file.parent)
            how += ", and the manifest vouches for it"
        self.damaged.append(f"{file.relative_to(place.root)}: {how}")
        return subject

    def _renamed(self, folder: Path, subject: Subject) -> Subject:
        """The folder, or something in it, under another name, or many more beside it."""
        dice, name = self._dice, self._dice.choice(hostile.NAMES)
        if self.kind == "run" and dice.random() < 0.5:
            folder.rename(folder.with_name(name))
            self.damaged.append(f"run {subject.run} is called {name!a}")
            return replace(subject, run=str(folder.with_name(name)))
        inside = sorted(path for path in folder.rglob("*") if path.name != "rlhf-tui")
        if not inside:
            return subject
        path = dice.choice(inside)
        if dice.random() < 0.3:
            for number in range(300):
                path.with_name(f"{path.name}{number}").mkdir()
            self.damaged.append(f"300 folders beside {path.relative_to(folder)!s}")
            return subject
        name += path.suffix if dice.random() < 0.5 else ""
        if dice.random() < 0.5 and path.is_file():
            shutil.copy(path, path.with_name(name))
            self.damaged.append(f"{path.relative_to(folder)!s} is there as {name!a}, too")
        else:
            path.rename(path.with_name(name))
            self.damaged.append(f"{path.relative_to(folder)!s} is called {name!a}")
        if self.kind == "preset" and path.stem == subject.preset and path.suffix == ".toml":
            return replace(subject, preset=str(path.with_name(name)))
        return subject


def _planted(folder: Path, dice: random.Random, place: Place) -> str:
    """Code in a place where an import, a model or an unpickler may find it; run, it leaves a file."""
    marker = place.root / "ran"
    code = f"open({str(marker)!r}, 'w')\ndef score(prompts, responses): return [1.0] * len(responses)\n"
    name = dice.choice(("platformdirs.py", "torch.py", "sitecustomize.py", "usercustomize.py", "evil.pth",
                        "conftest.py", "json.py", "modeling_evil.py", "pytorch_model.bin", "adapter_model.bin",
                        "training_args.bin", "tensors.pt", "__init__.py", "rlhf_engine/__init__.py", "evil.so",
                        "chat_template.jinja", "own.py"))
    if name == "own.py":
        put(place.root / "rewards" / name, code)
        return "the code of a reward is other code now"
    path = (folder if dice.random() < 0.7 else place.root) / name
    if path.suffix in (".bin", ".pt"):
        put(path, _PICKLED.replace(b"{marker}", os.fsencode(marker)))
        for weights in folder.glob("*.safetensors"):  # else nobody looks at a pickle
            weights.unlink()
    else:
        put(path, "import os; " + code if path.suffix == ".pth" else code)
    if name == "modeling_evil.py" and (folder / "config.json").exists():
        code_of = {"AutoConfig": "modeling_evil.C", "AutoModelForCausalLM": "modeling_evil.M"}
        told = document(folder / "config.json") | {"auto_map": code_of, "model_type": "evil"}
        put(folder / "config.json", json.dumps(told))
    return f"{path.relative_to(place.root)} is planted"


def _someone_drives(folder: Path, dice: random.Random, decoy: Decoy) -> str:
    """A status that says that a process drives the run, which it does not."""
    who = dice.choice(((decoy.pid, decoy.started), (decoy.pid, ""), (1, ""), (-1, ""), (0, ""), (os.getppid(), ""),
                       (2**31, ""), (True, None)))
    state = dice.choice(("training", "paused", "loading", "stopping"))
    told = {"state": state, "pid": who[0], "process_started": who[1]}
    put(folder / "status.json", json.dumps(document(folder / "status.json") | told))
    return f"status.json says that process {who[0]} drives the run"


def _written_anew(folder: Path, dice: random.Random) -> str:
    """Another reward function, which nobody has agreed to run."""
    source = dice.choice((
        "(" * 100_000, "-" * 100_000 + "1", "x = " + "[" * 90 + "]" * 90, "import a" + ".a" * 50_000, "\0",
        "".join(f"import x{number}\n" for number in range(20_000)), "from . import own\nimport own",
        "import canary.secret", f"# {hostile.text(dice)}", f"NAME = {hostile.text(dice)!r}", "from ...... import x",
        "\ufeff# coding: x\n", "# coding: utf-7\n", "\t \tx\n  y", "print('\x1b[31m')", "raise SystemExit(0)",
        "x" * 5_000_000))
    put(folder / "own.py", source)
    if dice.random() < 0.3 and not os.path.lexists(folder / "x1.py"):
        (folder / "x1.py").symlink_to("/dev/zero")
    return f"own.py is {source[:40]!a}"


def _templated(folder: Path, dice: random.Random) -> str:
    template = dice.choice(hostile.CHAT_TEMPLATES)
    told = document(folder / "tokenizer_config.json") | {"chat_template": template}
    put(folder / "tokenizer_config.json", json.dumps(told))
    put(folder / "chat_template.jinja", template)
    return f"a chat template: {template[:40]}"
