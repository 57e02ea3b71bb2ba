"""What a person reads uses the terms of the field: none of the homemade ones is left, and one word means one thing."""

from __future__ import annotations

import re

import pytest
from configs import SMALL
from textual.widgets import Static
from typer.testing import CliRunner

from rlhf_engine.config.methods.ppo import PPOConfig
from rlhf_engine.metrics import REGISTRY, describe
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.help.glossary import GLOSSARY
from rlhf_tui.areas.settings_form.setting_rows import LABEL_WIDTH, form_rows
from rlhf_tui.cli import make_workbench_app

HOMEMADE = re.compile(
    r"policy shift|critic explains|\bstep sizes?\b|unfinished|left out|reward spread|\bsurprise\b|reference likes|"
    r"% of (?:the )?(?:matmul )?peak|early.stop KL|excess share|repeats free|zero lies|tell me\b|stand in front|"
    r"\btaken all\b|optimis|score − β·KL|\bgamed\b", re.IGNORECASE)
COMMANDS = ("train", "resume", "fork", "attach", "compare", "generate", "score", "export", "presets", "runs", "rename",
            "note", "delete", "trash", "verify", "doctor")


def command_line(*arguments: str) -> str:
    result = CliRunner().invoke(make_workbench_app(), list(arguments))
    assert result.exit_code == 0
    return " ".join(result.stdout.split())


def homemade(text: str) -> list[str]:
    return HOMEMADE.findall(text)


def test_metrics_have_the_titles_of_the_field() -> None:
    titles = {name: metric.title for name, metric in REGISTRY.items()}
    assert {name: titles[name] for name in (
        "policy/approxkl_avg", "policy/clipfrac_avg", "val/explained_variance", "lr", "completions/clipped_ratio",
        "train/skipped_updates", "policy/updates", "objective/rlhf_reward", "objective/entropy",
        "objective/ref_logprob", "throughput/matmul_share", "grad_norm/actor")} == {
        "policy/approxkl_avg": "approx. KL (old‖new)", "policy/clipfrac_avg": "clip fraction",
        "val/explained_variance": "explained variance", "lr": "learning rate",
        "completions/clipped_ratio": "truncated (no EOS)", "train/skipped_updates": "skipped updates",
        "policy/updates": "optimizer steps", "objective/rlhf_reward": "RLHF objective",
        "objective/entropy": "sampled entropy (−log p)", "objective/ref_logprob": "ref. log-prob",
        "throughput/matmul_share": "FLOP/s utilization (MFU)", "grad_norm/actor": "actor grad norm"}


@pytest.mark.parametrize("name", [*REGISTRY, "rewards/words/mean", "rewards/words/std"])
def test_no_metric_explains_itself_in_words_of_our_own(name: str) -> None:
    metric = describe(name)
    assert not homemade(" ".join((metric.title, metric.unit, metric.help, metric.good, metric.bad)))


def test_what_the_rewards_give_is_called_score_and_never_reward() -> None:
    titles = {name: metric.title for name, metric in REGISTRY.items() if name.startswith("objective/scores")}
    assert titles == {"objective/scores": "score", "objective/scores_std": "score std"}
    # but for DPO's implicit reward, which is a term of its own: β · log-ratio
    assert not [metric.title for metric in REGISTRY.values()
                if "reward" in metric.title.replace("implicit reward", "")]
    assert {"score", "reward", "RLHF objective", "log-ratio", "KL"} <= {*GLOSSARY, *PPOConfig.glossary}


def test_labels_of_settings_are_those_of_the_field_and_whole() -> None:
    labels = {row.path: row.label for row in form_rows(SMALL)}
    assert {path: labels[path] for path in (
        "algorithm.trace_decay", "algorithm.target_kl", "rewards.0.liked_bonus", "rewards.0.short_penalty",
        "rewards.0.excess_share", "rewards.0.repeat_limit", "rewards.0.adjacent_penalty")} == {
        "algorithm.trace_decay": "GAE λ", "algorithm.target_kl": "target KL",
        "rewards.0.liked_bonus": "bonus per liked word",
        "rewards.0.short_penalty": "penalty if shorter", "rewards.0.excess_share": "max density",
        "rewards.0.repeat_limit": "free repeats", "rewards.0.adjacent_penalty": "adjacent penalty"}
    assert not [label for label in labels.values() if homemade(label) or "…" in label or len(label) > LABEL_WIDTH]


def test_the_command_line_explains_itself_in_the_terms_of_the_field() -> None:
    assert not homemade(command_line("presets", "--fields"))
    assert not homemade(command_line("--help"))
    assert not [command for command in COMMANDS if homemade(command_line(command, "--help"))]


@pytest.mark.parametrize("opens", ["", "comma", "w", "c", "r"])
async def test_no_key_and_no_help_is_told_in_words_of_our_own(opens: str, app: WorkbenchApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        if opens:
            await pilot.press(opens)
        await pilot.press("question_mark")
        await pilot.pause()
        assert not homemade(str(app.screen.query_one("#text", Static).content))
