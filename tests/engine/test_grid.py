"""Grids of runs: what is an axis, which runs it makes, and what is refused before any begins."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_engine.config import fields, presets
from rlhf_engine.config.grid import Grid, default_name, grid_of, label_of, split_values, validated, yardstick
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import ConfigError
from rlhf_engine.files.disk import NAME


@pytest.fixture(scope="module")
def animals() -> RunConfig:
    return presets.load("animals")


WORDS = st.text(st.characters(codec="ascii", categories=["L", "N"], include_characters=".-/' "), min_size=1).map(
    str.strip).filter(lambda text: text and not text.startswith("'"))
LISTS = st.lists(WORDS.map(lambda word: f'"{word}"'), max_size=3).map(lambda words: f"[{', '.join(words)}]")
QUOTED = WORDS.map(lambda word: f'"{word}, and {word}"')


@given(st.lists(WORDS | LISTS | QUOTED, min_size=1, max_size=6))
def test_values_come_apart_at_the_commas_that_put_them_together(values: list[str]) -> None:
    assert split_values(",".join(values)) == values
    assert split_values(" , ".join(values)) == values


@pytest.mark.parametrize("text", ["[1, 2", "1], 2", '"a, b', "a, 'b"])
def test_what_is_not_closed_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="closed"):
        split_values(text)


def test_each_combination_is_run_with_each_seed_and_each_has_its_own_name(animals: RunConfig) -> None:
    grid = grid_of(animals, ["algorithm.kind=ppo,grpo", "kl.target=2, 4,8", "train.steps=5"], "2")
    assert grid.fixed == ("train.steps=5",)
    cells = grid.cells("mine")
    assert [(dict(cell.values), cell.seed) for cell in cells] == [
        ({"algorithm.kind": kind, "kl.target": target}, seed)
        for kind, target, seed in product(["ppo", "grpo"], ["2", "4", "8"], [0, 1])]
    assert len({cell.run for cell in cells}) == 12
    assert cells[3].run == "mine-ppo-target4-s1"
    configs = validated(animals, grid, cells)
    for cell, config in zip(cells, configs, strict=True):
        assert config.algorithm.kind == dict(cell.values)["algorithm.kind"]
        assert (config.kl.target, config.train.seed, config.train.steps) == (
            float(dict(cell.values)["kl.target"]), cell.seed, 5)


@given(st.lists(st.tuples(st.sampled_from(["kl.coef", "lora.rank", "optimizer.learning_rate", "train.steps"]),
                          st.lists(st.integers(1, 99), min_size=1, max_size=4, unique=True)),
                unique_by=lambda pair: pair[0], max_size=4),
       st.integers(1, 4), st.text("ab.-", min_size=1, max_size=60))
def test_grids_are_the_product_of_their_axes(
    axes: list[tuple[str, list[int]]], seeds: int, name: str
) -> None:
    grid = grid_of(presets.load("brief"), [f"{path}={','.join(map(str, values))}" for path, values in axes], str(seeds))
    several = [(path, values) for path, values in axes if len(values) > 1]
    expected = [tuple(zip([path for path, _ in several], map(str, values), strict=True))
                for values in product(*(values for _, values in several))]
    cells = grid.cells(f"a{name}"[:64])
    assert [(cell.values, cell.seed) for cell in cells] == [(point, seed) for point in expected for seed in grid.seeds]
    assert len({cell.run for cell in cells}) == len(cells)
    assert all(NAME.fullmatch(cell.run) for cell in cells)


def test_lists_and_quotes_are_one_value_and_lists_in_brackets_are_several(animals: RunConfig) -> None:
    grid = grid_of(animals, ["lora.target_modules=q_proj,v_proj", 'probe.prompt="Once, upon a time"'], "1")
    assert grid.axes == ()
    assert grid.fixed == ("lora.target_modules=q_proj,v_proj", "probe.prompt=Once, upon a time")
    grid = grid_of(animals, ['lora.target_modules=[],["all-linear"]', "model.name=storyteller,/a/b"], "1")
    assert [axis.values for axis in grid.axes] == [("[]", '["all-linear"]'), ("storyteller", "/a/b")]
    (first, *_), names = grid.points(), [cell.run for cell in grid.cells("x")]
    assert label_of(first) == "modules [], model storyteller"
    assert names[1] == "x-target_modules-b-s0"


def test_seeds_are_counted_from_the_presets_or_listed(animals: RunConfig) -> None:
    assert grid_of(animals, [], "3").seeds == (0, 1, 2)
    assert grid_of(animals, ["train.seed=7"], "3").seeds == (7, 8, 9)
    assert grid_of(animals, [], "0, 7,9").seeds == (0, 7, 9)
    assert grid_of(animals, [], "5,").seeds == (5,)


@pytest.mark.parametrize(("settings", "seeds", "said"), [
    (["kl.target"], "1", ["kl.target", "key=value"]), (["kl.targt=1,2"], "1", ["kl.target"]),
    (["kl.target=2,2.0"], "1", ["twice"]), (["kl.target=2,,3"], "1", ["empty"]),
    (["kl.target=1", "kl.target=2,3"], "1", ["kl.target", "twice"]), (["train.seed=1,2"], "1", ["--seeds"]),
    (["lora.target_modules=[],a"], "1", ["brackets"]), ([], "0", ["--seeds"]), ([], "1,x", ["--seeds"]),
    ([], "1,1", ["twice"]), (["train.steps=" + ",".join(map(str, range(1, 999)))], "9", ["8,982", "1,000"]),
])
def test_what_makes_no_grid_is_one_sentence(
    animals: RunConfig, settings: list[str], seeds: str, said: list[str]
) -> None:
    with pytest.raises(ConfigError) as refused:
        grid_of(animals, settings, seeds)
    assert len(refused.value.problems) == 1
    assert all(word in str(refused.value) for word in said), str(refused.value)


def bad(preset: RunConfig, *settings: str) -> list[str]:
    grid = grid_of(preset, settings, "2")
    with pytest.raises(ConfigError) as refused:
        validated(preset, grid, grid.cells("x"))
    return refused.value.problems


def test_all_bad_runs_are_told_at_once_and_each_mistake_once(animals: RunConfig) -> None:
    problems = bad(animals, "kl.target=2,-1,0", "optimizer.learning_rate=1e-3,7")
    assert len(problems) == 3
    assert [word for problem in problems for word in ("-1", "'0'", "7") if word in problem]
    told = next(problem for problem in problems if "learning_rate" in problem)
    assert "KL target 2, learning rate 7" in told
    (everywhere,) = bad(animals, "train.steps=0", "kl.target=2,4")
    assert "(" not in everywhere  # what holds for all needs no list of runs


def test_a_setting_that_a_method_of_the_grid_does_not_have_or_read_is_told(animals: RunConfig) -> None:
    (problem,) = bad(animals, "algorithm.kind=ppo,grpo", "algorithm.trace_decay=0.9,1")
    assert "algorithm.trace_decay" in problem
    assert "method grpo" in problem
    pairs = fields.replace(animals, {"data.prompts": ["a"], "data.chosen": ["b"], "data.rejected": ["c"]})
    (problem,) = bad(pairs, "algorithm.kind=ppo,dpo", "kl.target=2,4")
    assert "kl.target" in problem
    assert "DPO" in problem
    grid = grid_of(pairs, ["algorithm.kind=ppo,dpo", "kl.target=4"], "1")  # as for one run: it is not read
    assert len(validated(pairs, grid, grid.cells("x"))) == 2


def test_settings_of_a_method_hold_for_those_methods_of_the_grid_that_have_them(animals: RunConfig) -> None:
    grid = grid_of(animals, ["algorithm.kind=ppo,grpo,rloo", "algorithm.group_size=4"], "1")
    ppo, *others = validated(animals, grid, grid.cells("x"))
    assert [fields.value_at(config, "algorithm.group_size") for config in others] == [4, 4]
    assert fields.changed_settings(animals, ppo) == {}
    (note,) = grid.notes()
    assert "grpo, rloo" in note
    assert grid_of(animals, ["algorithm.kind=grpo,rloo", "algorithm.group_size=4"], "1").notes() == []
    with pytest.raises(ConfigError, match="trace_decay"):
        grid_of(animals, ["algorithm.kind=grpo,rloo", "algorithm.trace_decay=0.9"], "1")


def test_runs_are_measured_as_the_preset_has_it_whatever_an_axis_changes(animals: RunConfig) -> None:
    grid = grid_of(animals, ["sampling.temperature=0.5,2", "sampling.max_new_tokens=7", "algorithm.kind=grpo",
                             "algorithm.group_size=4"], "1")
    found = yardstick(animals, grid.fixed).sampling
    assert (found.temperature, found.max_new_tokens) == (animals.sampling.temperature, 7)


def test_the_name_of_a_sweep_is_that_of_its_preset_and_axes() -> None:
    assert default_name("animals", ["algorithm.kind", "kl.target"]) == "animals-kind-target"
    assert default_name("my/own file.toml", []) == "own_file-seeds"
    long = Grid((), (), (3, 10**18)).cells("a" * 64)
    assert all(NAME.fullmatch(cell.run) for cell in long)
    assert long[0].run != long[1].run
