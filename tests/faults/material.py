"""What the fuzzer damages: runs, models, presets, labels and a user's own files, made once by the product itself."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from faults.damage import forged
from faults.laboratory import EVERY, command, exit_code, forked
from tiny_models import save_tiny_model

from rlhf_engine.events import Sample
from rlhf_engine.labels.judgement import VERDICTS, Judgement, now, own_name
from rlhf_engine.labels.label_file import LabelFile
from rlhf_engine.labels.pair import Answer, Origin, Pair, shown_swapped
from rlhf_engine.rewards.code import read_code
from rlhf_engine.runs.trust import trust

NAME = "original"
"""Of the folder that is copied; copies bear names of the same length, so that paths in files need no more room."""

_REWARD = """
def score(prompts, responses):
    return [len(response) / 10 for response in responses]
"""
_COMMON = """
description = "for tests"
prompts = ["Once", "There was a", "x"]
[model]
name = "{model}"
dtype = "float32"
device = "cpu"
[lora]
rank = 2
[sampling]
max_new_tokens = 4
[algorithm]
kind = "ppo"
responses_per_step = 2
minibatch_size = 2
epochs = 1
[train]
steps = 4
threads = 1
checkpoint_every = {every}
keep_checkpoints = 2
samples_per_step = 2
traced_samples = 2
[sentinel]
window = 1
truncated_share = 0.1
[probe]
every = 2
"""
_REWARDS = {
    "words": '[[rewards]]\nkind = "word_list"\nname = "words"\nliked = ["fox", "a"]\ndisliked = ["boy"]\n',
    "length": '[[rewards]]\nkind = "length"\nname = "length"\nmin_words = 3\nmax_words = 9\n',
    "regex": '[[rewards]]\nkind = "regex"\nname = "regex"\npattern = "(a|b)+"\ncount = "each"\n',
    "function": '[[rewards]]\nkind = "function"\nname = "own"\nfunction = "{root}/rewards/own.py:score"\n',
    "files": '[[rewards]]\nkind = "word_list"\nname = "words"\nliked = "@words.txt"\n',
}


@dataclass(frozen=True)
class Place:
    """The folders of a case. `canary` is somebody else's: nothing may be written there, nor code be run."""

    root: Path

    @property
    def runs(self) -> Path:
        """own (all that a run can have), child (a fork of it), plain, and one in the trash."""
        return self.root / "runs"

    @property
    def models(self) -> Path:
        """llama, gpt2 and adapter."""
        return self.root / "models"

    @property
    def home(self) -> Path:
        """Of the user: what is the user's own lies here, each in its folder."""
        return self.root / "home"

    @property
    def presets(self) -> Path:
        """One preset for each kind of reward, and one that names files."""
        return self.home / "config" / "rlhf-tui" / "presets"

    @property
    def labels(self) -> Path:
        """words.jsonl, of two people, one of whom is the user, and others.jsonl."""
        return self.root / "labels"

    @property
    def canary(self) -> Path:
        """A folder with a secret in it."""
        return self.root / "canary"

    def environment(self) -> dict[str, str]:
        """Whose folders are the user's."""
        return {"HOME": str(self.home), "XDG_CONFIG_HOME": str(self.home / "config"),
                "XDG_DATA_HOME": str(self.home / "data"), "XDG_CACHE_HOME": str(self.home / "cache"),
                "XDG_STATE_HOME": str(self.home / "state"), "TMPDIR": str(self.home / "tmp"),
                "TORCHINDUCTOR_CACHE_DIR": str(self.home / "tmp")}


def make(root: Path) -> Place:
    """Makes it under `root`, in a process of its own."""
    place = Place(root / NAME)
    assert exit_code(forked(lambda: _make(place))) == 0, (root / "made.log").read_text()[-3000:]
    return place


def copied(original: Place, root: Path) -> Place:
    """A copy at `root`, in which every path leads into the copy."""
    shutil.copytree(original.root, root, symlinks=True)
    place = Place(root)
    before, after = (os.fsencode(str(place.root)) for place in (original, place))
    assert len(before) == len(after)
    for folder, _, names in os.walk(root):
        for name in names:
            file = Path(folder, name)
            if file.suffix != ".safetensors" and before in (data := file.read_bytes()):
                file.write_bytes(data.replace(before, after))
        if Path(folder).parent.name == "checkpoints":
            forged(Path(folder))
    return place


def _make(place: Place) -> int:
    log = os.open(place.root.parent / "made.log", os.O_WRONLY | os.O_CREAT, 0o600)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    for folder in (place.runs, place.models, place.presets, place.canary, place.root / "rewards", place.root / "out",
                   place.home / "tmp"):
        folder.mkdir(parents=True)
    os.environ |= place.environment()
    os.chdir(place.root)
    (place.canary / "secret.txt").write_text("a secret\n")
    (place.canary / "config.toml").write_text("")
    (place.root / "rewards" / "own.py").write_text(_REWARD)
    for architecture in ("llama", "gpt2"):
        save_tiny_model(place.models / architecture, architecture)
    for name, reward in _REWARDS.items():
        common = _COMMON.format(model=place.models / "llama", every=EVERY)
        if name == "files":
            common = common.replace('["Once", "There was a", "x"]', '"prompts.txt"')
        (place.presets / f"{name}.toml").write_text(common + reward.format(root=place.root))
    (place.presets / "prompts.txt").write_text("Once\nThere was a\n")
    (place.presets / "words.txt").write_text("fox\nowl\n")
    _own_files(place.root / "rewards" / "own.py")
    _labels(place.labels)
    for arguments in _commands(place):
        try:
            command(*arguments)
        except SystemExit as left:
            if left.code:
                return 1
    return 0


def _commands(place: Place) -> list[list[str]]:
    return [
        ["train", "words", "--name", "own", "--set", "train.steps=2"],
        # a live edit, and what a resume writes
        ["resume", "own", "--set", "kl.coef=0.2", "--set", "train.steps=4"],
        ["note", "own", "learns fast"],
        ["fork", f"own@{EVERY}", "--name", "child", "--set", f"train.steps={EVERY + 1}"],
        ["train", "function", "--name", "plain", "--set", "train.steps=1"],
        ["train", "length", "--name", "old", "--set", "train.steps=1"],
        ["delete", "old"],
        ["export", "own", str(place.models / "adapter")],
    ]


def _own_files(reward: Path) -> None:
    from rlhf_tui.areas.preferences.preferences_file import SettingsFile
    from rlhf_tui.areas.samples.favourites import Favourites

    Favourites().toggle("own", Sample(1, "Once", " a fox", 1.0, {"words": 1.0}, 0.1, 2, True))
    settings = SettingsFile()
    settings.change(hint_seen=True, last_preset="words")
    assert not settings.keep()
    trust(read_code(reward).digest, reward)


def _labels(folder: Path) -> None:
    texts = ("a fox", "an owl \x1b[31m", "the end. ", "a dog\nand a bone")
    pairs = [Pair(f"Once {number}", Answer(texts[number % 4], True, Origin("tuned", "tiny", "own", number), 0.5),
                  Answer(texts[(number + 1) % 4], False, Origin("reference", "tiny")), "gap", 0.7)
             for number in range(8)]
    for name, raters in (("words", (own_name(), "bob")), ("others", ("carl",))):
        for rater in raters:
            with LabelFile.open(folder / f"{name}.jsonl", rater=rater) as file:
                for pair, verdict in zip(pairs, VERDICTS * 2, strict=False):
                    file.add(Judgement(pair, rater, verdict, shown_swapped(pair, rater), 0, now(), 1.5, True, "a note"))
