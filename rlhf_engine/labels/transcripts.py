"""Prompt and answers in the forms in which public sets have them: texts, lists of chat messages, and whole transcripts
in which both answers share all that was said before."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rlhf_engine.errors import ConfigError, short
from rlhf_engine.files.json_text import to_json

Message = dict[str, str]

_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "prompter": "user"}

_TURN = re.compile(
    r"(?:^|\n)[ \t]*(?:#+ *)?(?:assistant|response|answer|ai|bot) *:"
    r"|<\|assistant\|>|<\|im_start\|>assistant\n|\[/INST\]", re.IGNORECASE)
"""Where an assistant begins to speak in a transcript."""
_HUMAN = re.compile(r"\n\n(?:human|user) *:|<\|user\|>|<\|im_start\|>user\n|\[INST\]", re.IGNORECASE)

_PYTHON_LIST = re.compile(r"\s*\[\s*\{?\s*'")


class Texts(NamedTuple):
    """A pair as texts. A prompt of several messages is the JSON that a chat template reads (`data.chat_template`)."""

    prompt: str
    one: str
    other: str


def texts_of(prompt: Any, one: Any, other: Any, names: Sequence[str], system: str | None = None) -> Texts:
    """Prompt and answers as texts. prompt: None where there is no column of prompts, and both answers share what was
    said before them. names: of the three columns, for sentences. system: what the assistant is told before all. Raises
    ConfigError saying why it is no pair, without naming the row."""
    prompt, one, other = _parsed(prompt, one, other)
    if _is_messages(one) or _is_messages(other):
        found = _of_messages(prompt, _messages(one, names[1]), _messages(other, names[2]), names[0], system)
    else:
        first, second = _text(one, names[1]), _text(other, names[2])
        if prompt is None:
            found = _of_transcripts(first, second)
        elif _is_messages(prompt):
            found = Texts(_prompt(_told_first(system, _messages(prompt, names[0]))), first, second)
        else:
            asked = _text(prompt, names[0])
            found = _said_within(asked, first, second) or Texts(asked, first, second)
        if system and not _is_messages(prompt):
            if prompt is None or found.prompt != prompt:
                raise ConfigError("there is a system message, and nowhere to put it in front of a transcript")
            found = found._replace(prompt=_prompt(_told_first(system, [_said("user", found.prompt)])))
    for text, name in ((found.one, names[1]), (found.other, names[2])):
        if not text.strip():
            raise ConfigError(f"the answer in {name!r} is empty")
    if found.one == found.other:
        raise ConfigError("both answers are the same text")
    return found


def begins_with_prompt(texts: Texts) -> bool:
    """Whether both answers say the prompt again before they answer."""
    return bool(texts.prompt.strip()) and texts.one.startswith(texts.prompt) and texts.other.startswith(texts.prompt)


def without_prompt(texts: Texts) -> Texts:
    """The answers alone, of what `begins_with_prompt`."""
    return texts._replace(one=texts.one[len(texts.prompt):], other=texts.other[len(texts.prompt):])


def _parsed(prompt: Any, one: Any, other: Any) -> tuple[Any, Any, Any]:
    """Lists that a table of texts (CSV) has as JSON: of messages, or where the prompt is one too, of questions and
    answers in turn. An answer to a plain prompt may be a list."""
    asked, first, second = map(_json_list, (prompt, one, other))
    if first is None or second is None:
        if all(isinstance(value, str) and _PYTHON_LIST.match(value) for value in (one, other)):
            raise ConfigError("the answers are lists as Python writes them; save them as JSON")
        return prompt, one, other
    if all(isinstance(item, Mapping) and {"role", "from"} & item.keys() for item in (*first, *second)):
        return prompt if asked is None else asked, first, second
    if asked is None:
        return prompt, one, other
    if not len(asked) == len(first) == len(second):
        raise ConfigError("the lists of questions and answers are not of one length")
    if not all(isinstance(item, str) for item in (*asked, *first, *second)):
        raise ConfigError("the lists of questions and answers hold something that is no text")
    return None, _turns(asked, first), _turns(asked, second)


def _turns(asked: list[Any], answers: list[Any]) -> list[Message]:
    return [turn for question, answer in zip(asked, answers, strict=True)
            for turn in (_said("user", question), _said("assistant", answer))]


def _json_list(value: Any) -> list[Any] | None:
    if isinstance(value, str) and re.match(r"""\s*\[\s*["{n]""", value) and value.rstrip().endswith("]"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, list) else None
    return None


def _said_within(prompt: str, one: str, other: str) -> Texts | None:
    """Where both answers are whole transcripts in which the prompt is asked: cut like those."""
    if not (_HUMAN.match(one) and _HUMAN.match(other)):
        return None
    found = _of_transcripts(one, other)
    if prompt.strip() not in found.prompt:
        raise ConfigError("both answers are transcripts, in which the prompt does not stand")
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


def _of_messages(prompt: Any, one: list[Message], other: list[Message], name: str, system: str | None) -> Texts:
    before: list[Message] = []
    while one and other and one[0] == other[0] and not (len(one) == len(other) == 1):
        before.append(one[0])
        one, other = one[1:], other[1:]
    for rest in (one, other):
        if len(rest) != 1 or rest[0]["role"] != "assistant":
            raise ConfigError("each conversation must end with one answer of the assistant, behind what both share")
    if _is_messages(prompt):
        asked = _messages(prompt, name)
        shared = next(count for count in range(min(len(asked), len(before)), -1, -1)
                      if asked[len(asked) - count:] == before[:count])
        before = before if _holds(before, asked) else [*asked, *before[shared:]]
    elif prompt is not None:
        said = _said("user", _text(prompt, name))
        if any(message["role"] == "user" for message in before):
            if not _holds(before, [said]):
                raise ConfigError(f"{name!r} is not what is asked in the conversations")
        else:
            before = [*before, said]
    if not before:
        raise ConfigError("there is no prompt: no column for it, and both conversations share no message")
    return Texts(_prompt(_told_first(system, before)), one[0]["content"], other[0]["content"])


def _holds(messages: list[Message], some: list[Message]) -> bool:
    """Whether some messages stand among others, one behind the other, whatever white space is around them."""
    bare, wanted = ([(message["role"], message["content"].strip()) for message in each] for each in (messages, some))
    return any(bare[at:at + len(wanted)] == wanted for at in range(len(bare) - len(wanted) + 1))


def _told_first(system: str | None, messages: list[Message]) -> list[Message]:
    if not system or messages[0] == _said("system", system):
        return messages
    if messages[0]["role"] == "system":
        raise ConfigError("there are two different system messages")
    return [_said("system", system), *messages]


def _said(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _prompt(messages: list[Message]) -> str:
    """One message of a user's as its text, others as JSON."""
    if len(messages) == 1 and messages[0]["role"] == "user":
        return messages[0]["content"]
    return to_json(messages, ascii_only=False)


def _is_messages(value: Any) -> bool:
    return isinstance(value, list | Mapping)


def _messages(value: Any, name: str) -> list[Message]:
    """A list of messages, or one alone; with `role` and `content`, or `from` and `value`."""
    if value is None:
        raise ConfigError(f"{name!r} is missing")
    if not _is_messages(value):
        raise ConfigError(f"{name!r} is no list of messages, as the others are")
    if isinstance(value, Mapping) and not {"role", "from"} & value.keys():
        within = short(f"{name}.{next(iter(value), '…')}", 60)
        raise ConfigError(f"{name!r} is an object; what lies within it has a name such as {within}")
    found = []
    for message in [value] if isinstance(value, Mapping) else value:
        role = message.get("role", message.get("from")) if isinstance(message, Mapping) else None
        if not isinstance(role, str):
            raise ConfigError(f"{name!r} is a list, but not of messages with a role and a content")
        content = message["content"] if "content" in message else message.get("value")
        found.append(_said(_ROLES.get(role.lower(), role.lower()), _text(content, f"{name}: content")))
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
