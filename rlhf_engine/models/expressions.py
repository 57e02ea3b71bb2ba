"""Regular expressions of others, held against names in a process of their own: one may take longer than the sun lasts.

Python's matcher cannot be stopped from outside, and no rule tells in advance which expression never ends.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence

from rlhf_engine.errors import ModelError, first_line

SECONDS = 5.0
"""How long a set of expressions may take for all names; what people write takes a millisecond."""

_MATCH = """
import json, re, sys
expressions, names = json.load(sys.stdin)
found = [[name for name in names if re.fullmatch(one, name)] for one in expressions]
json.dump(found, sys.stdout)
"""


def matching(expressions: Sequence[str], names: Iterable[str]) -> list[list[str]]:
    """For each expression those of the names that it matches whole. Raises ModelError, whose text goes on a sentence
    about the expression, for what is none or does not come to an end."""
    for expression in expressions:
        try:
            re.compile(expression)
        except (re.error, RecursionError, OverflowError, MemoryError) as error:
            raise ModelError(f"is no regular expression ({first_line(error)})") from None
    try:
        done = subprocess.run([sys.executable, "-I", "-S", "-c", _MATCH], input=json.dumps([expressions, list(names)]),
                              capture_output=True, text=True, timeout=SECONDS, check=True)
    except subprocess.TimeoutExpired:
        raise ModelError(f"does not come to an end within {SECONDS:g} seconds for the names of the modules") from None
    except (subprocess.CalledProcessError, OSError) as error:
        raise ModelError(f"could not be tried ({type(error).__name__})") from None
    found: list[list[str]] = json.loads(done.stdout)
    return found
