"""Presets and files of texts that nobody meant well with: one sentence, at once, and never a traceback."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from moments import PATIENCE
from typer.testing import CliRunner, Result

from rlhf_engine.commands.cli import make_app
from rlhf_engine.config import fields, presets
from rlhf_engine.config.data import MOST_PROMPTS
from rlhf_engine.config.preset_writer import to_toml
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import ConfigError
from rlhf_engine.runs.run_dir import RunDir

PLAIN = 'prompts = ["x"]\n[[rewards]]\nkind = "length"\nname = "l"\n'
WORDS = 'prompts = ["x"]\n[[rewards]]\nkind = "word_list"\nliked = [{}]\ndisliked = [{}]\n'
MANY = ",".join(f'"w{number}"' for number in range(300_000))
FEWER = ",".join(f'"w{number}"' for number in range(20_000))
SEQUENCE = "\\u001b]52;c;aGk=\\u0007\\u202e\\u009b"


def with_prompts(value: str) -> str:
    return PLAIN.replace('["x"]', value)


PRESETS: dict[str, Callable[[], str]] = {
    "inline tables": lambda: PLAIN + "x = " + "{a = " * 1000 + "1" + "}" * 1000,
    "lists": lambda: "prompts = " + "[" * 100_000 + "]" * 100_000,
    "lists, not so deep": lambda: with_prompts("[" * 200 + "]" * 200),
    "a dotted key": lambda: ".".join(["a"] * 1000) + " = 1\n" + PLAIN,
    "a long dotted key": lambda: ".".join(["a"] * 100_000) + " = 1\n" + PLAIN,
    "a long quoted dotted key": lambda: ".".join(['"a"'] * 100_000) + " = 1\n" + PLAIN,
    "a header": lambda: PLAIN + "[" + ".".join(["a"] * 100_000) + "]\n",
    "a header of a list": lambda: PLAIN + "[[" + ".".join(["a"] * 1000) + "]]\n",
    "headers, deeper and deeper": lambda: PLAIN + "".join(f"[{'.'.join(['a'] * deep)}]\n" for deep in range(1, 300)),
    "words": lambda: WORDS.format(MANY, ""),
    "words in both lists": lambda: WORDS.format(FEWER, FEWER),
    "wrong words": lambda: WORDS.format("1," * 90_000, ""),
    "a word without a letter": lambda: WORDS.format('"' + "!" * 300_000 + '"', ""),
    "a long phrase": lambda: WORDS.format('"' + "a " * 100_000 + '"', ""),
    "unknown keys": lambda: PLAIN + "".join(f"key{number} = 1\n" for number in range(20_000)),
    "fewer unknown keys": lambda: PLAIN + "[model]\n" + "".join(f"nam{number} = 1\n" for number in range(9_000)),
    "unknown tables": lambda: PLAIN + "".join(f"[table{number}]\n" for number in range(9_000)),
    "a long key": lambda: "k" * 1_000_000 + " = 1\n" + PLAIN,
    "a long quoted key": lambda: '"' + "k" * 900_000 + '" = 1\n' + PLAIN,
    "a long text": lambda: with_prompts('["' + "x" * 30_000_000 + '"]'),
    "a long text over lines": lambda: with_prompts('["""' + "x\n" * 400_000 + "x" * 400_000 + '"""]'),
    "long texts": lambda: with_prompts('["' + '", "'.join(["x" * 900_000] * 36) + '"]'),
    "a long name": lambda: PLAIN + '[model]\nname = "' + "n" * 900_000 + '"\n',
    "a long description": lambda: 'description = "' + "n" * 900_000 + '"\n' + PLAIN,
    "a long metric": lambda: PLAIN + '[train]\nkeep_best = "' + "m" * 900_000 + '"\n',
    "a long kind": lambda: 'prompts = ["x"]\n[[rewards]]\nkind = "' + "k" * 900_000 + '"\n',
    "a million digits": lambda: PLAIN + "[train]\nsteps = " + "9" * 1_000_000,
    "five thousand digits": lambda: PLAIN + "[train]\nsteps = " + "9" * 5_000,
    "four thousand digits": lambda: PLAIN + "[kl]\ncoef = " + "9" * 4_000,
    "hexadecimal digits": lambda: PLAIN + "[train]\nsteps = 0x" + "f" * 9_000,
    "a huge count": lambda: PLAIN + "[optimizer]\nwarmup_steps = " + "9" * 400,
    "a huge exponent": lambda: PLAIN + "[kl]\ncoef = 1e999",
    "a date": lambda: PLAIN + "[train]\nsteps = 1979-05-27T07:32:00Z",
    "a date among prompts": lambda: with_prompts("[1979-05-27]"),
    "a table in a setting's place": lambda: PLAIN + "[sentinel]\nwindow = {x = 3}\n",
    "a table among words": lambda: WORDS.format("", "").replace("[]", "{a = 1}"),
    "no number": lambda: PLAIN + "[kl]\ncoef = nan",
    "infinity": lambda: PLAIN + "[kl]\ncoef = -inf",
    "a million rewards": lambda: 'prompts = ["x"]\n' + "[[rewards]]\n" * 1_000_000,
    "nine thousand rewards": lambda: 'prompts = ["x"]\n' + '[[rewards]]\nkind = "length"\n' * 4_500,
    "rewards that are numbers": lambda: 'prompts = ["x"]\nrewards = [' + "1," * 90_000 + "]",
    "quotes": lambda: PLAIN + '"' * 100_001,
    "quotes without an end": lambda: PLAIN + 'x = """' + 'a"" ' * 100_000,
    "backslashes": lambda: PLAIN + 'x = "' + "\\" * 1_000_001,
    "brackets without an end": lambda: PLAIN + "x = " + "[{" * 100_000,
    "zero bytes": lambda: PLAIN + "\0" * 100,
    "a zero byte in a function": lambda: PLAIN.replace("length", "function") + 'function = "a\\u0000.py:f"',
    "a key that a terminal obeys": lambda: f'"{SEQUENCE}" = 1\n{PLAIN}',
    "a key of two lines": lambda: f'"a\\nerror: b" = 1\n{PLAIN}',
    "a value that a terminal obeys": lambda: f'{PLAIN}[model]\ndevice = "{SEQUENCE}"\n',
    "a file name of many lines": lambda: with_prompts('"' + "a.txt" * 20_000 + 'b.txt"'),
}


@pytest.fixture(autouse=True)
def _no_hang() -> Iterator[None]:
    """What waits for ever fails instead."""
    def give_up(*_: object) -> None:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(int(PATIENCE))
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(make_app(), list(arguments))


def seconds() -> float:
    """Of the processor's, used by this process: what others do on the machine does not count."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def refused(result: Result) -> str:
    assert isinstance(result.exception, SystemExit), repr(result.exception)[:300]
    assert result.exit_code == 2, result.stderr[:300]
    lines = result.stderr.splitlines()
    assert 1 <= len(lines) <= 20, lines[:3]
    assert len(result.stderr) < 4_000
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", result.stderr), result.stderr
    return result.stderr


@pytest.mark.parametrize("kind", PRESETS)
def test_a_preset_that_asks_for_too_much_is_a_sentence_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(PRESETS[kind](), encoding="utf-8")
    before = seconds()
    assert str(path) in refused(run("score", str(path), "a text"))
    assert seconds() - before < 4  # a second, with room for a slow machine; each of these took ten, or all memory


def fifo(path: Path) -> None:
    os.mkfifo(path)


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(200_000_000_000)


NO_FILES: dict[str, Callable[[Path], object]] = {
    "a FIFO": fifo, "a folder": Path.mkdir, "a device": lambda path: path.symlink_to("/dev/zero"),
    "200 GB": sparse, "a link to itself": lambda path: path.symlink_to(path), "no text": lambda path:
    path.write_bytes(b"\xff\xfe\x00"),
}


@pytest.mark.parametrize("kind", NO_FILES)
@pytest.mark.parametrize("place", ["preset", "prompts", "words", "--set"])
def test_what_is_no_file_of_a_size_is_not_read(tmp_path: Path, kind: str, place: str) -> None:
    """Nor waited for."""
    wrong = tmp_path / ("wrong.toml" if place == "preset" else "wrong.txt")
    NO_FILES[kind](wrong)
    mine = tmp_path / "mine.toml"
    mine.write_text({"prompts": with_prompts('"wrong.txt"'), "words": WORDS.format("", "").replace(
        "liked = []", 'liked = "@wrong.txt"', 1)}.get(place, PLAIN))
    more = ["--set", f"prompts={wrong}"] if place == "--set" else []
    assert "wrong" in refused(run("score", str(wrong if place == "preset" else mine), "a text", *more))


@pytest.mark.parametrize("text", [
    "\n" * 2_000_000, "x" * 3_000_000, "x\n" * (MOST_PROMPTS + 1), "x" * 999_999 + "\n" + ("x" * 999_999 + "\n") * 40,
    "\0", "\x1b]52;c;aGk=\x07\n",
], ids=["blank lines", "a long line", "too many lines", "too much text", "a zero byte", "a sequence"])
def test_a_file_of_texts_has_bounds(tmp_path: Path, text: str) -> None:
    (tmp_path / "texts.txt").write_text(text)
    (tmp_path / "mine.toml").write_text(with_prompts('"texts.txt"'))
    result = run("score", str(tmp_path / "mine.toml"), "a text")
    if len(text) < 100:  # any text may be a prompt
        assert result.exit_code == 0, result.stderr
    else:
        refused(result)


@pytest.mark.parametrize("line", ["[" * 100_000, "9" * 5_000, '{"prompt": ' + "9" * 5_000 + "}", '"\\ud800"', "{}",
                                  json.dumps({"k" * 100_000: 1}), '{"prompt": ["a"]}'])
def test_a_wrong_line_of_json_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "texts.jsonl").write_text(f'"One day"\n{line}\n')
    (tmp_path / "mine.toml").write_text(with_prompts('"texts.jsonl"'))
    assert "texts.jsonl:2" in refused(run("score", str(tmp_path / "mine.toml"), "a text"))


@pytest.mark.parametrize("change", [
    "rewards.0.min_words=" + "9" * 100_000, "prompts=" + "[" * 50_000, "prompts=[{" + ".".join(["a"] * 50_000) + "=1}]",
    "k" * 100_000 + "=1", "x" * 100_000, "prompts=[" + "1979-05-27," * 9 + "]", "kl.coef=1e999", "kl.coef=nan",
    "train.steps=0x10", "rewards.0.min_words=-1", "rewards.99999999999999999999.name=a", "\x1b]52;c;aGk=\x07=1", "=",
    "",    "prompts=" + "a" * 100_000 + ".txt", "prompts=\0.txt", "prompts=~nobody-here/x.txt", "prompts=@",
    "model.name=", "rewards=1", "model=1",
])
def test_a_wrong_change_on_the_command_line_is_a_sentence(change: str) -> None:
    refused(run("score", "animals", "a text", "--set", change))


def test_many_wrong_changes_are_no_more_than_a_screen() -> None:
    refused(run("score", "animals", "a text", *(word for number in range(300) for word in ("--set", f"x{number}=1"))))


def test_one_bad_preset_hides_no_other_one(tmp_path: Path) -> None:
    folder = presets.user_folder()
    folder.mkdir(parents=True)
    for number, make in enumerate(NO_FILES.values()):
        make(folder / f"bad{number}.toml")
    (folder / "deep.toml").write_text(PRESETS["lists"]())
    (folder / "says.toml").write_text(f'description = "{SEQUENCE}"\n{PLAIN}')
    (folder / "good.toml").write_text(f'description = "a good one"\n{PLAIN}')
    found = {info.name: info.description for info in presets.available()}
    assert found["good"] == "a good one"
    assert {"animals", "deep", *(f"bad{number}" for number in range(len(NO_FILES)))} <= set(found)
    result = run("presets")
    assert result.exit_code == 0, result.exception
    assert "a good one" in result.stdout
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", result.stdout)


def test_a_preset_of_a_hundred_thousand_prompts_is_as_good_as_any(tmp_path: Path, runs_root: Path) -> None:
    """Neither saving nor starting a run waits for it."""
    prompts = [f'Once upon a time there was a "fox" (number {number}):\n' for number in range(100_000)]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(text) + "\n" for text in prompts))
    (tmp_path / "mine.toml").write_text(with_prompts('"texts.jsonl"'))
    before = seconds()
    config = presets.load(str(tmp_path / "mine.toml"))
    assert config.data.prompts == prompts
    presets.save("large", config)
    assert presets.load("large") == config
    presets.save("large", fields.replace(config, {"kl.coef": 0.5}), overwrite=True)
    assert presets.load("large").kl.coef == 0.5
    assert RunDir.create(runs_root, config, name="a").config() == config
    assert seconds() - before < 30  # three seconds on a machine of today


def test_long_lists_of_words_count_as_fast_as_short_ones() -> None:
    from rlhf_engine.rewards.word_matcher import WordMatcher
    from rlhf_engine.words import words_of

    phrases = [" ".join(["fox"] * length) for length in range(2, 200)]
    matcher = WordMatcher([f"w{number}" for number in range(90_000)], phrases)
    before = seconds()
    assert len(matcher.matches(words_of("a b w3 c fox's " * 4_000))) == 4_000
    assert seconds() - before < 2


def test_what_settings_allow_can_be_written_and_read_back() -> None:
    config = RunConfig.model_validate({
        "data": {"prompts": ["\0\x1b\x7f\x9f\u2028\u202e\"\\'''\"\"\"\n\r\t"] * 1_500},
        "rewards": [{"kind": "word_list", "liked": [f"\x7fw{number}\n" for number in range(1_500)]}]})
    from rlhf_engine.config import preset_text

    text = to_toml(config)
    assert preset_text.parse(text, "") == config
    assert preset_text.parse(to_toml(config, text), "") == config


def test_settings_that_no_file_could_hold_are_not_begun(runs_root: Path) -> None:
    """Each zero byte takes six in a preset."""
    config = RunConfig.model_validate({"data": {"prompts": ["\0" * 900_000] * 20}, "rewards": [{"kind": "length"}]})
    with pytest.raises(ConfigError, match="MB"):
        presets.save("large", config)
