"""How a process of ours is started: with no file of the folder that one happens to be in on its path.

`python -m` looks for modules in the working folder first, and so does an empty or relative entry of PYTHONPATH: a file
`torch.py` of whoever made that folder would be run in the place of the library. Absolute entries stay; they are the
user's own, and reward functions may need them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_HOME = Path(__file__).resolve().parents[2]  # where the packages lie; a checkout, say, that is not installed
_PLACES = {"PYTHONPATH", "PYTHONUSERBASE", "PYTHONPYCACHEPREFIX"}
# last on the path: nothing that lies beside the packages is taken for a library
_PROGRAM = "import sys, runpy; sys.path.append(sys.argv.pop(1)); runpy.run_module(sys.argv.pop(1), None, '__main__')"


def python(module: str, arguments: Sequence[str]) -> list[str]:
    """The command that runs a module of ours as this very interpreter does; see `environment`."""
    return [sys.executable, "-P", "-c", _PROGRAM, str(_HOME), module, *arguments]


def environment() -> dict[str, str]:
    """That of this process, without the places for modules that are other ones in each working folder."""
    found = dict(os.environ)
    for name in _PLACES & found.keys():
        kept = [entry for entry in found.pop(name).split(os.pathsep) if os.path.isabs(entry)]
        if kept:
            found[name] = os.pathsep.join(kept)
    return found


def leave_working_folder() -> None:
    """For `python -m` of ours: takes what that put first on the path off it, unless the packages themselves lie there.
    """
    first = sys.path[0] if sys.path and not sys.flags.safe_path else None
    with suppress(OSError):  # the folder may be gone
        if first == "" or first == os.getcwd():
            del sys.path[0]
            if os.path.realpath(first) == str(_HOME):
                sys.path.append(str(_HOME))
