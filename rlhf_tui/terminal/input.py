"""What comes from a terminal, taken apart: keys, the mouse, pastes, and the terminal's answers to what it was asked.

Textual's parser knows the sequences of keys and of the mouse; it is handed those, each whole. It would wait for more
behind an Esc that is followed by a letter, and then take both for Alt and that letter, or for a character that such a
chord writes elsewhere; nothing here is done by Alt and a letter, so Esc is Esc and the letter a letter, also when they
come together. It would type what it does not know into the field in use, answers of the terminal among it, and obey
sequences within a paste. Here the former are dropped, and a paste is text from its first mark to its last.
"""

from __future__ import annotations

import re
import time
from codecs import getincrementaldecoder
from collections.abc import Iterable, Iterator
from functools import lru_cache

from textual import constants, events
from textual.message import Message

from rlhf_tui.terminal.textual_private import XTermParser

_PASTE, _PASTE_END = "\x1b[200~", "\x1b[201~"
# CSI (ECMA-48), the old report of the mouse, the function keys of the Linux console, SS3
_SEQUENCE = re.compile("\x1b(?:\\[M...|\\[\\[[A-E]|\\[(?![M[])[0-?]*[ -/]*[@-~]|O[0-9;]*[@-~])", re.DOTALL)
_MOUSE = re.compile("\x1b\\[<[-0-9;]+[mM]")
_ANSWER = re.compile("\x1b(?:\\][0-9]+;|P[0-9;]*[!$+>|])([^\x07\x1b]*)(?:\x07|\x1b\\\\)")
# what one of these may still become
_SEQUENCE_BEGUN = re.compile("\x1b(?:\\[M?.{0,2}|\\[\\[?|\\[[0-?]*[ -/]*|O[0-9;]*)?", re.DOTALL)
_ANSWER_BEGUN = re.compile("\x1b(?:\\][0-9]+(?:;[^\x07\x1b]*)?\x1b?|P[0-9;]*(?:[!$+>|][^\x07\x1b]*)?\x1b?)")
_BACKGROUND = re.compile("\x1b\\]11;rgba?:([0-9a-fA-F]+)/([0-9a-fA-F]+)/([0-9a-fA-F]+)")
# as Alt with ←, → and Backspace are sent: by words. Taken for Esc and then that letter, they would drop what is typed
_CHORDS = ("\x1bb", "\x1bf", "\x1b\x7f")
_ANSWER_SECONDS = 2.0


class BackgroundTold(Message, bubble=False):
    """The terminal says what colour it draws on: red, green and blue from 0 to 1."""

    def __init__(self, red: float, green: float, blue: float) -> None:
        self.red, self.green, self.blue = red, green, blue
        super().__init__()


class TerminalInput:
    """Takes bytes and gives messages; a sequence that is not whole yet waits for the rest."""

    def __init__(self) -> None:
        self._decode = getincrementaldecoder("utf-8")("replace").decode
        self._parser = XTermParser()
        self._rest = ""
        self._since = 0.0
        self._pasted: list[str] | None = None

    def feed(self, data: bytes) -> Iterator[Message]:
        """What `data`, just read, completes."""
        if not (came := self._decode(data)):
            return  # what waits has waited for so long already
        text, self._rest = self._rest + came, ""
        while text:
            if self._pasted is not None:
                messages, text = self._paste_on(text)
            elif text[0] == "\x1b":
                messages, text = self._escape(text)
            else:
                head = text.partition("\x1b")[0]
                messages, text = self._parser.feed(head), text[len(head):]
            yield from messages

    def overdue(self) -> Iterator[Message]:
        """What is not completed in time: an Esc alone, and what followed it."""
        if self._rest and self._pasted is None and time.monotonic() - self._since >= self._patience:
            begun, self._rest = self._rest, ""
            yield _escape_key()
            yield from self.feed(begun[1:].encode())

    @property
    def wait_seconds(self) -> float:
        """How long to wait for more before `overdue` is asked."""
        if not self._rest or self._pasted is not None:
            return 0.1
        return max(0.001, self._since + self._patience - time.monotonic())

    @property
    def _patience(self) -> float:
        # nobody types what an answer begins with, and a slow line may tear it in two
        answer = len(self._rest) > 2 and _ANSWER_BEGUN.fullmatch(self._rest)
        return _ANSWER_SECONDS if answer else constants.ESCAPE_DELAY

    def _paste_on(self, text: str) -> tuple[Iterable[Message], str]:
        assert self._pasted is not None
        inside, mark, after = text.partition(_PASTE_END)
        if mark:
            whole, self._pasted = "".join([*self._pasted, inside]), None
            return [events.Paste(whole)], after
        # the mark may be torn in two
        kept = len(_PASTE_END) - 1
        self._pasted.append(text[:-kept])
        self._rest = text[-kept:]
        return [], ""

    def _escape(self, text: str) -> tuple[Iterable[Message], str]:
        """What `text`, which begins with an Esc, begins with, and what follows that."""
        if answer := _ANSWER.match(text):
            return _messages_in(answer[0]), text[answer.end():]
        if sequence := _SEQUENCE.match(text):
            after = text[sequence.end():]
            if sequence[0] == _PASTE:
                self._pasted = []
                return [], after
            return self._parser.feed(sequence[0]) if _known(sequence[0]) else [], after
        if _SEQUENCE_BEGUN.fullmatch(text) or _ANSWER_BEGUN.fullmatch(text):
            self._rest, self._since = text, time.monotonic()
            return [], ""
        if text[:2] in _CHORDS:
            return self._parser.feed(text[:2]), text[2:]
        return [_escape_key()], text[1:]


def _escape_key() -> events.Key:
    return events.Key("escape", "\x1b")


def _messages_in(answer: str) -> list[Message]:
    if background := _BACKGROUND.match(answer):
        red, green, blue = (int(part, 16) / (16 ** len(part) - 1) for part in background.groups())
        return [BackgroundTold(red, green, blue)]
    return []


def _known(sequence: str) -> bool:
    return bool(_MOUSE.fullmatch(sequence)) or sequence.startswith("\x1b[M") or _gives_something(sequence)


@lru_cache(maxsize=1024)
def _gives_something(sequence: str) -> bool:
    """Whether Textual's parser makes anything of it; of what it does not know, it would make letters later on."""
    return bool(list(XTermParser().feed(sequence)))
