"""What a preset would do, on one page. A pure function of the config."""

from __future__ import annotations

from textual.content import Content

from rlhf_engine.config.data import DataConfig
from rlhf_engine.config.fields import show, value_at
from rlhf_engine.config.methods.base import BatchKind
from rlhf_engine.config.rewards import LengthRewardConfig, WordListRewardConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.config.verifiable import AnswerRewardConfig, RegexRewardConfig
from rlhf_tui.areas.rewards.word_text import count
from rlhf_tui.areas.settings_form.setting_rows import form_rows
from rlhf_tui.terminal.clean_text import clean_line
from rlhf_tui.widgets.figures import minus

_PROMPTS, _WORDS = 3, 12


def preset_details(config: RunConfig) -> Content:
    """Description, model, rewards, prompts, and the settings that are turned most."""
    lines = [Content.styled(clean_line(config.description) or "no description", "bold"), Content("")]
    lines.append(_named("model", config.model.name))
    lines += [_reward(config, index) for index in range(len(config.rewards))]
    lines += _data(config.data, config.algorithm.needs.batch)
    lines.append(Content(""))
    for row in form_rows(config):
        if row.group == "Main":
            unit = f"  {row.setting.unit}" if row.setting.unit else ""
            value = clean_line(show(value_at(config, row.path)))
            lines.append(Content.assemble((f"{row.label:<15}", "$text-muted"), value, (unit, "$text-muted")))
    return Content("\n").join(lines)


def _named(name: str, value: str) -> Content:
    return Content.assemble((f"{name:<10}", "$text-muted"), clean_line(value))


def _data(data: DataConfig, batch: BatchKind) -> list[Content]:
    """Where prompts, texts or pairs come from: nothing is read for that, which may take long; and what is held out."""
    if data.source is not None:
        part = f", split {data.split}" if data.on_hub else ""
        lines = [_named(batch, f"rows of {data.source}{part}")]
    else:
        texts = data.texts if batch == "texts" else data.prompts
        lines = [_named(batch, f"{len(texts)}")]
        lines += [Content.styled(f"  {clean_line(text)}", "$text-muted") for text in texts[:_PROMPTS]]
        if len(texts) > _PROMPTS:
            lines.append(Content.styled("  …", "$text-muted"))
    named = [f"{len(data.held_out)} prompts"] if data.held_out else []
    share = [f"{100 * data.held_out_share:.3g} % of the {'others' if named else 'prompts'}"] if data.held_out_share \
        else []
    if named or share:
        lines.append(_named("held out", " and ".join([*named, *share])))
    return lines


def _reward(config: RunConfig, index: int) -> Content:
    reward = config.rewards[index]
    if isinstance(reward, WordListRewardConfig):
        text = Content.assemble(
            reward.name, (f"\n  + {count(reward.liked)}  ", "$text-success"), _few(reward.liked),
            (f"\n  − {count(reward.disliked)}  ", "$text-error"), _few(reward.disliked),
        )
    elif isinstance(reward, LengthRewardConfig):
        text = Content(f"{reward.name}  {reward.min_words} to {show(reward.max_words)} words")
    elif isinstance(reward, RegexRewardConfig):
        text = Content(clean_line(f"{reward.name}  {'each match' if reward.count == 'each' else 'a match'} of "
                                  f"{reward.pattern}"))
    elif isinstance(reward, AnswerRewardConfig):
        text = Content(clean_line(f"{reward.name}  the right answer, in column {reward.column}, as {reward.compare}"))
    else:
        text = Content(clean_line(f"{reward.name}  {reward.kind}"))
    weight = f"× {minus(f'{reward.weight:g}')} " if reward.weight != 1 else ""
    return Content.assemble(("reward    ", "$text-muted"), weight, text)


def _few(words: list[str]) -> Content:
    more = " …" if len(words) > _WORDS else ""
    return Content.styled(clean_line(", ".join(words[:_WORDS])) + more, "$text-muted")
