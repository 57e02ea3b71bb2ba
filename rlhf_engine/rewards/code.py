"""The code of a reward function: a Python file and the neighbours that it imports, read once and run as it was read.

A file imports what lies beside it as a script would (`import helpers`, `from .helpers import x`, packages too), without
its folder on `sys.path`, where it would be there for everyone: each file is loaded as a module of a package of its own,
whose name comes from path and contents, and the import statements of its modules look there first. Two files may thus
have neighbours of one name. The digest covers all of them. Neighbours are found by reading import statements, so that
one that has changed is known before anything runs; what is imported in another way (`importlib`) is not a neighbour.
What was read is all there is: a package among the neighbours has no other modules, whatever its folder holds by then.
"""

from __future__ import annotations

import ast
import builtins
import errno
import hashlib
import importlib
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder, SourceLoader
from importlib.machinery import ModuleSpec
from importlib.util import decode_source, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

from rlhf_engine.files.reading import UnexpectedFileError, read_bytes

_PREFIX = "rlhf_reward_"
_MOST_BYTES = 1_000_000  # of one file
_MOST_TOGETHER = 4_000_000
_MOST_FILES = 500
# for each part of a dotted name Python's parser keeps all before it: a name of some thousands takes gigabytes
_LONG_NAME = re.compile(r"(?<!\w)(?:\w++[ \t\f]*+\.[ \t\f]*+){100}")


@dataclass(frozen=True)
class Code:
    """A file and its neighbours, as they were read. files: by the name each is imported under, path and contents."""

    path: Path
    files: Mapping[str, tuple[Path, bytes]]

    @property
    def name(self) -> str:
        """The name under which the file itself is imported."""
        return _name_of(self.path)

    @property
    def digest(self) -> str:
        """SHA-256 of the file, if it has no neighbours; else of the names and digests of all."""
        if len(self.files) == 1:
            return self.own_digest
        lines = (f"{name} {hashlib.sha256(source).hexdigest()}\n" for name, (_, source) in sorted(self.files.items()))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def own_digest(self) -> str:
        """SHA-256 of the file alone, which is what runs wrote down before neighbours were found."""
        return hashlib.sha256(self.files[self.name][1]).hexdigest()

    @property
    def package(self) -> str:
        """The name of the package that its modules are loaded into."""
        return _PREFIX + hashlib.sha256(f"{self.path}\0{self.digest}".encode(errors="surrogateescape")).hexdigest()[:24]


def read_code(path: Path) -> Code:
    """The file at `path` and every neighbour that it imports, or that those do. Raises OSError, also for what is no
    file, or for more than anybody writes by hand."""
    own = _name_of(path)
    files = {own: (path, _source(path, _MOST_BYTES))}
    unread = [own]
    while unread:
        name = unread.pop()
        found, source = files[name]
        package = name if found.name == "__init__.py" and name != own else name.rpartition(".")[0]
        for wanted in _imports(source, package):
            if wanted not in files and (neighbour := _neighbour(path.parent, wanted)):
                if len(files) == _MOST_FILES:
                    raise UnexpectedFileError(errno.EFBIG, f"it imports more than {_MOST_FILES} files beside it", path)
                left = _MOST_TOGETHER - sum(len(source) for _, source in files.values())
                files[wanted] = neighbour, _source(neighbour, min(_MOST_BYTES, left))
                unread.append(wanted)
    return Code(path, files)


def run_code(code: Code) -> ModuleType:
    """Runs the file and returns its module. Raises whatever that raises, and leaves no module of it behind then."""
    _codes[code.package] = code
    try:
        return importlib.import_module(f"{code.package}.{code.name}")
    except BaseException:
        for name in [name for name in sys.modules if name.partition(".")[0] == code.package]:
            del sys.modules[name]
        del _codes[code.package]
        raise


# --- which files ---


def _source(path: Path, most: int) -> bytes:
    source = read_bytes(path, most, follow=True)
    try:
        text = decode_source(source)  # in what encoding it says it is
    except (SyntaxError, LookupError, ValueError):
        return source  # no Python: told when it is run
    if _LONG_NAME.search(text.replace("\\\n", "")):
        raise UnexpectedFileError(errno.EFBIG, "it has a name of more than a hundred parts with dots between", path)
    return source


def _name_of(path: Path) -> str:
    return re.sub(r"\W", "_", path.stem)  # a dot would be a package


def _imports(source: bytes, package: str) -> Iterator[str]:
    """What the import statements of a module in `package` (empty: beside the file) may mean, outermost first."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # told when it is run
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if _may_be_a_neighbour(alias.name):
                    yield from _chain(alias.name)
        elif isinstance(node, ast.ImportFrom):
            around = package.split(".") if package else []
            if node.level > len(around) + 1 or (not node.level and not _may_be_a_neighbour(node.module or "")):
                continue
            base = around[: len(around) + 1 - node.level] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            yield from _chain(module)
            for alias in node.names:
                yield ".".join(filter(None, [module, alias.name]))


def _may_be_a_neighbour(name: str) -> bool:
    return name.partition(".")[0] not in sys.stdlib_module_names


def _chain(name: str) -> Iterator[str]:
    parts = name.split(".") if name else []
    return (".".join(parts[: end + 1]) for end in range(len(parts)))


def _neighbour(folder: Path, name: str) -> Path | None:
    place = folder.joinpath(*name.split("."))
    candidates = place / "__init__.py", place.with_name(f"{place.name}.py")
    return next((candidate.resolve() for candidate in candidates if os.path.isfile(candidate)), None)


# --- running them ---

_codes: dict[str, Code] = {}  # by package


class _Loader(SourceLoader):
    """Runs the bytes that were read, not the file: it may have changed. No bytecode is read or written."""

    def __init__(self, code: Code, path: Path, source: bytes) -> None:
        self._code, self._path, self._source = code, path, source

    def get_filename(self, fullname: str) -> str:
        return str(self._path)

    def get_data(self, path: str) -> bytes:
        return self._source

    def exec_module(self, module: ModuleType) -> None:
        # an import statement calls the __import__ of the builtins of its own module
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": self._import}
        super().exec_module(module)

    def _import(
        self, name: str, globals: Mapping[str, Any] | None = None, locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (), level: int = 0,
    ) -> ModuleType:
        top, package = name.partition(".")[0], self._code.package
        known = any(file.partition(".")[0] == top for file in self._code.files)
        if level or not known or not _may_be_a_neighbour(name):
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        try:
            importlib.import_module(f"{package}.{name}")
        except ModuleNotFoundError as error:
            if error.name and error.name.startswith(f"{package}."):
                there = error.name.removeprefix(f"{package}.")
                raise ModuleNotFoundError(f"No module named {there!r}", name=there) from None
            raise
        if fromlist:
            return builtins.__import__(f"{package}.{name}", globals, locals, fromlist, 0)
        return sys.modules[f"{package}.{top}"]


class _Finder(MetaPathFinder):
    """Finds the modules of the packages that are made here, and no others."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        package, _, name = fullname.partition(".")
        code = _codes.get(package)
        if code is None:
            return None
        if name in code.files:
            file, source = code.files[name]
            is_package = file.name == "__init__.py" and name != code.name
            spec = spec_from_loader(fullname, _Loader(code, file, source), is_package=is_package)
            if spec and is_package:
                spec.submodule_search_locations = []  # else the path finder imports from its folder what was not read
            return spec
        if not name or any(other.startswith(f"{name}.") for other in code.files):
            return ModuleSpec(fullname, None, is_package=True)  # a folder without an __init__.py
        return None


sys.meta_path.insert(0, _Finder())
