"""The lines of a label file as judgements. A file is read line by line, so that a long one needs little memory."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rlhf_engine.errors import ConfigError, short
from rlhf_engine.files.disk import os_error_reason
from rlhf_engine.files.reading import MOST_LINE, open_regular
from rlhf_engine.labels.judgement import Judgement, from_row

LABEL_FILE = ("a label file has a JSON object with the texts prompt, chosen and rejected on each line; "
              "`rlhf-tui labels import` makes one of other files")
_BEGINS = b'{"prompt"'


class LabelLines:
    """Reads a label file once, from `start` on.

    torn: bytes of a last line that a crash has left, or that is being written just now; it is no judgement. end: where
    the whole lines end. superseded: judgements that a later line with the same key is in the place of.
    """

    def __init__(self, path: Path) -> None:
        self.torn = self.end = self.superseded = 0
        self._path = path
        self._latest: dict[tuple[str, str, int], tuple[Judgement, int]] = {}

    def judgements(self) -> list[Judgement]:
        """The latest of each key, in the order in which each was first made. Raises ConfigError, one sentence with the
        file and the line, and FileNotFoundError."""
        times: Counter[str] = Counter()
        for number, line in self._lines():
            judgement, plain = _judgement_of(line, f"{self._path}:{number}")
            if plain:
                judgement = replace(judgement, repeat=times[judgement.pair.id])
                times[judgement.pair.id] += 1
            self.superseded += judgement.key in self._latest
            self._latest[judgement.key] = (judgement, number)
        return [judgement for judgement, _ in self._latest.values()]

    def latest_lines(self) -> Iterator[bytes]:
        """What the lines of those judgements are, after `judgements`: all columns, also those that are not ours."""
        wanted = {number: place for place, (_, number) in enumerate(self._latest.values())}
        found: list[bytes] = [b""] * len(wanted)
        for number, line in self._lines():
            if number in wanted:
                found[wanted[number]] = line.rstrip(b"\r\n") + b"\n"
        yield from found

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        try:
            with open_regular(self._path, follow=True) as raw, io.BufferedReader(raw, 1 << 20) as file:
                self.end = self.torn = 0
                for number, line in enumerate(iter(lambda: file.readline(MOST_LINE + 1), b""), 1):
                    if len(line) > MOST_LINE:
                        raise ConfigError(f"{self._path}:{number}: is longer than {MOST_LINE:,} bytes, which no "
                                          "judgement is")
                    if not line.endswith(b"\n") and _is_torn(line):
                        self.torn = len(line)
                        return
                    self.end += len(line)
                    if text := line.removeprefix(b"\xef\xbb\xbf" if number == 1 else b"").strip():
                        yield number, text
        except FileNotFoundError:
            raise
        except OSError as error:
            raise ConfigError(f"{short(str(self._path), 400)} could not be read: {os_error_reason(error, 'read')}"
                              ) from None


def _judgement_of(line: bytes, where: str) -> tuple[Judgement, bool]:
    """The judgement of one line, and whether it is a row of a plain file of pairs, in which each row counts. Raises
    ConfigError, which begins with `where`."""
    try:
        found = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where}: is not UTF-8 text (byte {error.start} of the line)") from None
    except (ValueError, RecursionError):
        raise ConfigError(f"{where}: is not JSON; {LABEL_FILE}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{where}: is no JSON object; {LABEL_FILE}")
    try:
        return from_row(found), "rater" not in found
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _is_torn(line: bytes) -> bool:
    """True for the beginning of a line of ours, or zeros of a power cut; what is whole but for its end counts."""
    line = line.rstrip(b"\0")
    if b"\r" in line[:-1]:
        return False  # lines that end otherwise than ours are many, not one that is torn
    if not (line.startswith(_BEGINS) or _BEGINS.startswith(line)):
        return False
    try:
        json.loads(line.decode())
    except (ValueError, RecursionError):
        return True
    return False
