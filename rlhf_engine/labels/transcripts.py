"""Prompt and answers in the forms in which public sets have them: texts, lists of chat messages, and whole transcripts
in which both answers share all that was said before."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rlhf_engine.errors import ConfigError
from rlhf_engine.files.json_text import to_json

Message = dict[str, str]

_TURN = re.compile(
    r"(?:^|\n)[ \t]*(?:#+ *)?(?:assistant|response|answer|ai|bot) *:"
    r"|<\|assistant\|>|<\|im_start\|>assistant\n|\[/INST\]", re.IGNORECASE)
"""Where an assistant begins to speak in a transcript."""
_HUMAN = re.compile(r"\n\n(?:human|user) *:|<\|user\|>|<\|im_start\|>user\n|\[INST\]", re.IGNORECASE)


class Texts(NamedTuple):
    """A pair as texts. A prompt of several messages is the JSON that a chat template reads (`data.chat_template`)."""

    prompt: str
    one: str
    other: str


def texts_of(prompt: Any, one: Any, other: Any, names: Sequence[str]) -> Texts:
    """Prompt and answers as texts. prompt: None where there is no column of prompts, and both answers share what was
    said before them. names: of the three columns, for sentences. Raises ConfigError saying why it is no pair, without
    naming the row."""
    if isinstance(one, list) or isinstance(other, list):
        found = _of_messages(prompt, _messages(one, names[1]), _messages(other, names[2]), names[0])
    else:
        first, second = _text(one, names[1]), _text(other, names[2])
        if prompt is None:
            found = _of_transcripts(first, second)
        else:
            asked = _prompt(_messages(prompt, names[0])) if isinstance(prompt, list) else _text(prompt, names[0])
            found = Texts(asked, first, second)
    for text, name in ((found.one, names[1]), (found.other, names[2])):
        if not text.strip():
            raise ConfigError(f"the answer in {name!r} is empty")
    if found.one == found.other:
        raise ConfigError("both answers are the same text")
    return found


def _of_transcripts(one: str, other: str) -> Texts:
    """Cut behind the last place in what both share where an assistant begins to speak."""
    if not one.strip() or not other.strip():
        raise ConfigError("an answer is empty, and only both together tell where the prompt ends")
    cuts = [turn.end() for turn in _TURN.finditer(one[:_shared(one, other)])]
    if not cuts:
        raise ConfigError("there is no prompt: no column for it, and both texts share none up to an assistant's turn")
    prompt, answers = one[:cuts[-1]], (one[cuts[-1]:], other[cuts[-1]:])
    if any(_HUMAN.search(answer) for answer in answers):
        raise ConfigError("both transcripts part before their last answer")
    return Texts(prompt, *answers)


def _shared(one: str, other: str) -> int:
    """How many characters both begin with, by halves: most are the same for thousands of them."""
    least, most = 0, min(len(one), len(other))
    while least < most:
        middle = (least + most + 1) // 2
        least, most = (middle, most) if one[:middle] == other[:middle] else (least, middle - 1)
    return least


def _of_messages(prompt: Any, one: list[Message], other: list[Message], name: str) -> Texts:
    before: list[Message] = []
    while one and other and one[0] == other[0] and not (len(one) == len(other) == 1):
        before.append(one[0])
        one, other = one[1:], other[1:]
    for rest in (one, other):
        if len(rest) != 1 or rest[0]["role"] != "assistant":
            raise ConfigError("each conversation must end with one answer of the assistant, behind what both share")
    if isinstance(prompt, list):
        asked = _messages(prompt, name)
        before = before if before[:len(asked)] == asked else [*asked, *before]
    elif prompt is not None:
        said = {"role": "user", "content": _text(prompt, name)}
        before = before if said in before else [said, *before]
    if not before:
        raise ConfigError("there is no prompt: no column for it, and both conversations share no message")
    return Texts(_prompt(before), one[0]["content"], other[0]["content"])


def _prompt(messages: list[Message]) -> str:
    """One message of a user's as its text, others as JSON."""
    if len(messages) == 1 and messages[0]["role"] == "user":
        return messages[0]["content"]
    return to_json(messages, ascii_only=False)


def _messages(value: Any, name: str) -> list[Message]:
    if not isinstance(value, list):
        raise ConfigError(f"{name!r} is no list of messages, as the others are")
    found = []
    for message in value:
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise ConfigError(f"{name!r} is a list, but not of messages with a role and a content")
        found.append({"role": message["role"], "content": _text(message.get("content"), f"{name}: content")})
    if not found:
        raise ConfigError(f"{name!r} is an empty list")
    return found


def _text(value: Any, name: str) -> str:
    if value is None:
        raise ConfigError(f"{name!r} is missing")
    if not isinstance(value, str):
        raise ConfigError(f"{name!r} is no text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{name!r} holds half a character (a lone surrogate)") from None
    return value
