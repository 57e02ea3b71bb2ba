"""Presets: found, read with every mistake named, and written back with their comments."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from configs import SMALL, configs
from hypothesis import given, settings
from hypothesis import strategies as st
from moments import trusted

from rlhf_engine.config import fields, preset_text, presets
from rlhf_engine.config.kinds import reward_kinds
from rlhf_engine.config.preset_writer import to_toml
from rlhf_engine.config.rewards import WordListRewardConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.config.sections import KLConfig
from rlhf_engine.errors import ConfigError
from rlhf_engine.rewards.build import build_rewards

COMMENTED = '''# my preset
[data]
prompts = [
  "Once",  # an opener
  "One day",
]

[kl]   # the leash
coef = 0.2     # β

# what counts
[[rewards]]
kind = "word_list"
liked = ["fox"]   # foxes only
'''


def problems_of(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        preset_text.parse(text, "p.toml")
    return caught.value.problems


# --- reading ---


def test_all_mistakes_are_named_at_once_with_file_line_and_key():
    found = problems_of('''clip_range = 3
data.prompts = ["x", """
a
"""]
[algorithm]
kind = "ppo"
clip_rnge = 0.2
level = "x"
[[rewards]]
kind = "word_list"
liked = [
 "a", # ]
 4]
[[rewards]]
kind = "length"
name = "9"
[kl]
coef = true
''')
    assert [problem.split(": ")[:2] for problem in found] == [
        ["p.toml:1", "clip_range"], ["p.toml:7", "algorithm.clip_rnge"], ["p.toml:8", "algorithm.level"],
        ["p.toml:11", "rewards.0.liked.1"], ["p.toml:16", "rewards.1.name"], ["p.toml:18", "kl.coef"],
    ]
    assert "did you mean algorithm.clip_range" in found[0]
    assert "did you mean algorithm.clip_range" in found[1]
    assert found[2].endswith("'x' is not one of token, sequence")
    assert found[5].endswith("true is not a number from 0 to 100")


@pytest.mark.parametrize(
    ("text", "line"), [("a = 3\nb = \n", 2), ("\na = [3,\n", 2), ("a = 1\na = 2\n", 2), ("[kl\n", 1), ('x = "\n', 1)]
)
def test_a_syntax_error_names_its_line(text: str, line: int):
    (problem,) = problems_of(text)
    assert problem.startswith(f"p.toml:{line}: is not valid TOML: ")


def test_what_is_missing_is_said():
    assert [problem.split(": ")[:3] for problem in problems_of("")] == [
        ["p.toml", "data.prompts", "is missing"], ["p.toml", "rewards", "is missing"]]
    (problem,) = problems_of('prompts = ["x"]\n[[rewards]]\nliked = ["fox"]\n')
    assert problem == "p.toml:2: rewards.0: kind is missing; it is one of " + ", ".join(reward_kinds())


def test_limits_between_settings_are_named_at_their_section():
    text = to_toml(SMALL).replace("minibatch_size = 32", "minibatch_size = 65")
    (problem,) = problems_of(text)
    assert re.fullmatch(r"p.toml:\d+: algorithm: minibatch_size 65 is more than responses_per_step 64", problem)
    assert text.splitlines()[int(problem.split(":")[1]) - 1] == "[algorithm]"


def test_inline_tables_and_dotted_keys_have_lines_too():
    found = problems_of('prompts = ["x"]\nrewards = [{kind = "length", nme = 3}]\nalgorithm.level = "q"\n')
    assert [problem.split(": ")[:2] for problem in found] == [
        ["p.toml:2", "rewards.0.nme"], ["p.toml:3", "algorithm.level"]]


def test_a_word_that_no_text_can_hold_is_refused_in_the_preset():
    (problem,) = problems_of('prompts = ["x"]\n[[rewards]]\nkind = "word_list"\nliked = ["fox", "!!"]\n')
    assert problem == "p.toml:2: rewards.0: '!!' has no letter, digit or emoji, so no word can ever match it"


LEAVES = {item.path: item for item in fields.settings(SMALL)}
WRONG: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.integers() | st.text("ab"), "int": st.floats(0.1, 0.9) | st.booleans() | st.just("7"),
    "float": st.booleans() | st.just("0.1") | st.lists(st.integers(), max_size=1), "choice": st.just("nonsense"),
    "text": st.integers() | st.booleans(), "list": st.just("a word") | st.lists(st.integers(), min_size=1, max_size=2),
}


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_any_set_of_wrong_types_gives_one_line_each(data: st.DataObject):
    known = sorted(LEAVES.keys() - {fields.METHOD})  # an unknown method is told at its section
    paths = data.draw(st.lists(st.sampled_from(known), min_size=1, max_size=6, unique=True))
    document = tomllib.loads(to_toml(SMALL))
    for path in paths:
        node: Any = document
        *parents, leaf = path.split(".")
        for part in parents:
            node = node[int(part)] if isinstance(node, list) else node[part]
        # where peft takes an expression in the place of a list, a word is not wrong
        wrong = st.lists(st.integers(), min_size=1) if path == "lora.target_modules" else WRONG[LEAVES[path].kind]
        node[leaf] = data.draw(wrong)
    text = _plain_toml(document)
    found = problems_of(text)
    assert {_leaf(problem) for problem in found} >= set(paths)
    for problem in found:
        line, key, sentence = re.fullmatch(r"p\.toml:(\d+): ([\w.]+): (.+)", problem).groups()  # type: ignore[union-attr]
        key = key.rpartition(".")[0] if key.split(".")[-1].isdigit() else key
        assert text.splitlines()[int(line) - 1].startswith(key.split(".")[-1] + " = ")
        assert " is not " in sentence


@given(st.sampled_from(["", "algorithm.", "kl.", "rewards.1."]), st.text("abcdefg_", min_size=1, max_size=9))
@settings(max_examples=60, deadline=None)
def test_any_unknown_key_is_named_with_its_line(section: str, name: str):
    known = {path.removeprefix(section) for path in LEAVES} | set(RunConfig.model_fields)
    if name in known:
        return
    document = tomllib.loads(to_toml(SMALL))
    node: Any = document
    for part in section.split(".")[:-1]:
        node = node[int(part)] if isinstance(node, list) else node[part]
    node[name] = 1
    text = _plain_toml(document)
    (problem,) = problems_of(text)
    line = 1 + next(i for i, found in enumerate(text.splitlines()) if found == f"{name} = 1")
    assert problem.startswith(f"p.toml:{line}: {section}{name}: no such setting")


@given(st.sampled_from(sorted(path for path, item in LEAVES.items() if item.kind in ("int", "float"))))
@settings(deadline=None)
def test_every_lower_bound_is_enforced_and_stated(path: str):
    with pytest.raises(ConfigError) as caught:
        fields.replace(SMALL, {path: -10_000 if LEAVES[path].kind == "int" else -10_000.0})
    assert any(problem.startswith(path) and LEAVES[path].allowed in problem for problem in caught.value.problems)


def _leaf(problem: str) -> str:
    key = problem.split(": ")[1]
    return key.rpartition(".")[0] if key.split(".")[-1].isdigit() else key


def _plain_toml(document: dict[str, Any]) -> str:
    import tomlkit

    return tomlkit.dumps(document)


# --- writing ---


@given(configs())
@settings(max_examples=40, deadline=None)
def test_any_config_comes_back_from_its_toml(config: RunConfig):
    assert preset_text.parse(to_toml(config), "") == config


@given(configs(), configs())
@settings(max_examples=20, deadline=None)
def test_any_config_can_be_written_over_any_other(before: RunConfig, after: RunConfig):
    assert preset_text.parse(to_toml(after, to_toml(before)), "") == after


def test_comments_and_layout_survive_a_change():
    config = preset_text.parse(COMMENTED, "")
    assert to_toml(config, COMMENTED) == COMMENTED
    changed = fields.replace(config, {"kl.coef": 0.3, "rewards.0.liked": ["fox", "owl"], "algorithm.epochs": 4})
    text = to_toml(changed, COMMENTED)
    assert preset_text.parse(text, "") == changed
    assert "coef = 0.3     # β" in text
    assert 'liked = ["fox", "owl"]   # foxes only' in text
    assert re.findall("#.*", text) == re.findall("#.*", COMMENTED)
    fewer = fields.replace(config, {"data.prompts": ["One day"]})
    assert "# an opener" in to_toml(fewer, COMMENTED)


def test_rewards_can_be_added_and_taken_away():
    text = to_toml(SMALL, COMMENTED)
    assert preset_text.parse(text, "") == SMALL
    one = RunConfig(data=SMALL.data, rewards=SMALL.rewards[1:])
    assert preset_text.parse(to_toml(one, text), "") == one


def test_a_base_that_is_no_preset_is_no_obstacle():
    for base in ("this is no TOML", "kl = 3", "rewards = 3", '[model.name]\nx = 1\n', "[[algorithm]]\n"):
        assert preset_text.parse(to_toml(SMALL, base), "") == SMALL


def test_off_is_written_as_none_and_read_back():
    config = fields.replace(SMALL, {"algorithm.value_clip_range": None})
    assert 'value_clip_range = "none"' in to_toml(config)
    assert preset_text.parse(to_toml(config), "").algorithm.value_clip_range is None


# --- finding and saving ---


def test_every_shipped_preset_loads_and_its_rewards_score():
    found = {info.name: info for info in presets.available()}
    assert {"animals", "notebook"} <= set(found)
    for info in found.values():
        config = presets.load(info.name)
        assert info.description == config.description != ""
        # a file beside the preset is named by its whole path once it is loaded
        beside = {"data.source": Path(config.data.source).name} if config.data.source else {}
        assert to_toml(fields.replace(config, beside), info.path.read_text()) == info.path.read_text()
        for reward in config.rewards:
            if reward.kind == "preference":  # there is no reward model before somebody has judged
                continue
            scored = build_rewards(config.rewards)
            if isinstance(reward, WordListRewardConfig):
                text = f"There was a {(reward.liked or reward.disliked)[0]} by the wood."
                assert (scored.score(["Once"], [text]).scores[0].total > 0) == bool(reward.liked)


def test_the_notebook_takes_each_prompt_once_a_step():
    config = presets.load("notebook")
    assert config.algorithm.responses_per_step == config.algorithm.minibatch_size == len(config.data.prompts)


def test_a_saved_preset_is_found_before_a_shipped_one_and_keeps_its_comments():
    config = fields.replace(presets.load("animals"), {"kl.coef": 0.25})
    path = presets.save("animals", config)
    assert path.parent == presets.user_folder()
    assert presets.find("animals") == path
    assert presets.load("animals") == config
    shipped = (presets.shipped_folder() / "animals.toml").read_text()
    assert re.findall("#.*", path.read_text()) == re.findall("#.*", shipped)
    assert next(info for info in presets.available() if info.name == "animals").origin == "yours"


def test_saving_asks_before_it_overwrites():
    presets.save("mine", SMALL)
    with pytest.raises(ConfigError, match="already a preset named mine"):
        presets.save("mine", SMALL)
    changed = SMALL.model_copy(update={"kl": KLConfig(coef=1.0)})
    presets.save("mine", changed, overwrite=True)
    assert presets.load("mine") == changed


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x" * 65, "a b", "ä"])
def test_names_stay_in_their_folder(name: str):
    with pytest.raises(ConfigError, match="is not allowed"):
        presets.save(name, SMALL)


def test_links_are_not_followed_for_writing(tmp_path: Path):
    presets.user_folder().mkdir(parents=True)
    (tmp_path / "elsewhere.toml").write_text("untouched")
    (presets.user_folder() / "link.toml").symlink_to(tmp_path / "elsewhere.toml")
    with pytest.raises(ConfigError, match="symbolic link"):
        presets.save("link", SMALL, overwrite=True)
    assert (tmp_path / "elsewhere.toml").read_text() == "untouched"


def test_what_cannot_be_found_is_answered_with_what_can(tmp_path: Path):
    with pytest.raises(ConfigError, match="did you mean animals"):
        presets.load("animal")
    with pytest.raises(ConfigError, match="no preset file"):
        presets.load(str(tmp_path / "none.toml"))
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        presets.load(str(tmp_path / "bytes.toml"))


def test_a_broken_preset_of_the_user_does_not_hide_the_others():
    presets.user_folder().mkdir(parents=True)
    (presets.user_folder() / "broken.toml").write_text("= = =")
    found = {info.name: info.description for info in presets.available()}
    assert "cannot be read" in found["broken"]
    assert "animals" in found


def test_overrides_are_typed_and_their_mistakes_come_all_at_once():
    config = presets.load_with_overrides(
        "animals", ["kl.coef=0.5", "rewards.0.liked=fox, owl", "algorithm.target_kl=none"])
    assert config.kl.coef == 0.5
    assert isinstance(config.rewards[0], WordListRewardConfig)
    assert config.rewards[0].liked == ["fox", "owl"]
    assert config.algorithm.target_kl is None
    with pytest.raises(ConfigError) as caught:
        presets.load_with_overrides("animals", ["kl.coef=abc", "ppo.epoch=3", "train.steps=0", "x"])
    assert [problem.split(": ")[0] for problem in caught.value.problems] == [
        "--set kl.coef", "--set ppo.epoch", "--set x", "--set train.steps"]


def test_two_settings_that_limit_each_other_can_be_changed_together():
    config = presets.load_with_overrides(
        "animals", ["algorithm.minibatch_size=128", "algorithm.responses_per_step=128"])
    assert config.algorithm.minibatch_size == 128


def test_an_adaptive_coefficient_must_be_able_to_move():
    for stuck in ({"kl.coef": 0}, {"kl.horizon": 3}):
        with pytest.raises(ConfigError, match=r"kl\.controller = adaptive needs a kl\.coef above 0"):
            fields.replace(SMALL, {"kl.controller": "adaptive", **stuck})
        fields.replace(SMALL, stuck)


@pytest.mark.parametrize("one", [
    {"algorithm.level": "sequence", "algorithm.responses_per_step": 1, "algorithm.minibatch_size": 1},
    {"sampling.max_new_tokens": 1, "algorithm.responses_per_step": 1, "algorithm.minibatch_size": 1},
])
def test_a_single_advantage_cannot_be_whitened(one: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        fields.replace(SMALL, one)
    (said,) = caught.value.problems
    assert "whiten_advantages" in said
    assert "responses_per_step = 1" in said
    fields.replace(SMALL, one | {"algorithm.whiten_advantages": False})
    fields.replace(SMALL, one | {"algorithm.responses_per_step": 2})


def test_only_presets_of_ones_own_are_removed() -> None:
    presets.save("mine", presets.load("animals"))
    presets.remove("mine")
    assert "mine" not in {info.name for info in presets.available()}
    for name, says in (("mine", "There is no preset 'mine'"), ("animals", "comes with rlhf-tui and stays")):
        with pytest.raises(ConfigError, match=says):
            presets.remove(name)


# --- paths in a preset ---

_WITH_PATHS = """
prompts = ["x"]
[model]
name = "tiny"
[[rewards]]
kind = "function"
name = "vowels"
function = "rewards.py:vowels"
"""
_VOWELS = "def vowels(prompts, responses):\n    return [float(sum(map(text.count, 'aeiou'))) for text in responses]\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a preset, its reward function and its model beside it; the current folder is another one."""
    folder, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    (folder / "tiny").mkdir(parents=True)
    elsewhere.mkdir()
    (folder / "mine.toml").write_text(_WITH_PATHS)
    (folder / "rewards.py").write_text(_VOWELS)
    trusted(folder / "rewards.py")
    monkeypatch.chdir(elsewhere)
    return folder


@pytest.mark.parametrize("named", ["../project/mine.toml", "{home}/mine.toml"])
def test_paths_in_a_preset_are_relative_to_its_own_file(home: Path, named: str) -> None:
    config = presets.load(named.format(home=home))
    (reward,) = config.rewards
    assert Path(reward.function.rpartition(":")[0]).samefile(home / "rewards.py")
    assert Path(config.model.name).samefile(home / "tiny")
    (found,) = build_rewards(config.rewards).score(["x"], ["a fox"]).scores
    assert found.total == 2.0


def test_what_is_typed_at_the_command_line_is_relative_to_where_one_stands(home: Path) -> None:
    Path("here.py").write_text(_VOWELS.replace("aeiou", "a"))
    trusted(Path("here.py"))
    config = presets.load_with_overrides(str(home / "mine.toml"), ["rewards.0.function=here.py:vowels"])
    (found,) = build_rewards(config.rewards).score(["x"], ["a fox"]).scores
    assert found.total == 1.0


def test_a_saved_preset_works_from_every_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    config = preset_text.parse(_WITH_PATHS, "")  # as it was typed into a form, from this folder
    presets.save("kept", config)
    monkeypatch.chdir("/")
    again = presets.load("kept")
    assert again.model.name == str(home / "tiny")
    (found,) = build_rewards(again.rewards).score(["x"], ["a fox"]).scores
    assert found.total == 2.0
    presets.save("kept", again, overwrite=True)
    assert presets.load("kept") == again


def test_names_of_models_that_are_no_folders_stay_as_they_are(home: Path) -> None:
    for name in ("storyteller", "owner/model", "/nowhere/model"):
        (home / "storyteller").mkdir(exist_ok=True)
        (home / "mine.toml").write_text(_WITH_PATHS.replace('"tiny"', f'"{name}"'))
        assert presets.load(str(home / "mine.toml")).model.name == name
