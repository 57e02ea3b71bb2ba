"""Damage to one file: to what it holds, byte by byte or value by value, or to what lies in its place."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import socket
import stat
import struct
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from faults import hostile

SPARSE_BYTES = 200 * 10**9
MANY_KEYS = 20_000
_MOST_READ = 50_000_000


def damage(path: Path, dice: random.Random, out: Path) -> str:
    """Damages the file at `path`; says how. out: a file elsewhere, which a link may lead to."""
    structured = _STRUCTURED.get(path.suffix)
    chance = dice.random()
    if not _is_plain(path):  # an earlier damage lies in its place
        return _replaced(path, dice, out)
    if structured and chance < 0.6:
        try:
            return structured(path, dice)
        except (ValueError, OSError, RecursionError, struct.error):  # an earlier damage has left nothing to take apart
            pass
    if chance < 0.8:
        how = dice.choice((_cut, _emptied, _flipped, _flipped, _inserted, _doubled, _one_long_line, _many_lines))
        try:
            return how(path, dice)
        except OSError:
            pass
    return _replaced(path, dice, out)


def forged(checkpoint: Path) -> None:
    """Lets the manifest of a checkpoint vouch for its files as they are now."""
    manifest = checkpoint / "manifest.json"
    try:
        told = document(manifest)
        for name in told["files"]:
            if _is_plain(checkpoint / name):
                told["files"][name] = hashlib.sha256((checkpoint / name).read_bytes()).hexdigest()
        manifest.write_text(json.dumps(told))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return


def document(path: Path) -> Any:
    """What a JSON file holds. Raises OSError or ValueError, also where an earlier damage lies in its place."""
    if not _is_plain(path):
        raise FileNotFoundError(path)
    return json.loads(path.read_bytes())


def put(path: Path, data: str | bytes) -> None:
    """A file in the place of whatever lies there: a FIFO would hold, and a link would lead away."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"))


def _is_plain(path: Path) -> bool:
    """True for a file that can be read whole, and by us."""
    try:
        there = path.lstat()
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(there.st_mode) and there.st_size < _MOST_READ and bool(there.st_mode & 0o400)


# --- bytes ---


def _cut(path: Path, dice: random.Random) -> str:
    os.truncate(path, int(path.stat().st_size * dice.random()))
    return "cut short"


def _emptied(path: Path, dice: random.Random) -> str:
    os.truncate(path, 0)
    return "emptied"


def _flipped(path: Path, dice: random.Random) -> str:
    data = bytearray(path.read_bytes())
    for _ in range(dice.choice((1, 1, 1, 3, 50)) if data else 0):
        data[int(len(data) * dice.random())] ^= 1 << dice.randrange(8)
    path.write_bytes(data)
    return "bits flipped"


def _inserted(path: Path, dice: random.Random) -> str:
    data = path.read_bytes()
    what = dice.choice((b"\0" * 64, b"\xff\xfe\x9b31m", b"\xef\xbb\xbf", b"\x1b[31m", b"\x80", b"}", b'"', b"\r\n",
                        dice.randbytes(200)))
    place = int((len(data) + 1) * dice.random()) if dice.random() < 0.7 else 0
    path.write_bytes(data[:place] + what + data[place:])
    return f"{what[:8]!r} put into it"


def _doubled(path: Path, dice: random.Random) -> str:
    data = path.read_bytes()
    path.write_bytes(data + data)
    return "written twice"


def _one_long_line(path: Path, dice: random.Random) -> str:
    path.write_bytes(path.read_bytes() + dice.choice((b"x", b"[", b'{"a":', b"\0", b'"')) * 3_000_000)
    return "a line of millions at its end"


def _many_lines(path: Path, dice: random.Random) -> str:
    line = path.read_bytes().partition(b"\n")[0][:40] + b"\n"
    path.write_bytes(path.read_bytes() + line * 300_000)
    return "300,000 lines more"


# --- what lies in its place ---


def _replaced(path: Path, dice: random.Random, out: Path) -> str:
    kind = dice.choice(list(_PLACES))
    inside = path.read_bytes() if _is_plain(path) else b""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    _PLACES[kind](path, inside, out)
    return f"replaced: {kind}"


def _socket(path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    before = os.open(".", os.O_RDONLY)  # the name of a socket may have no more than 108 bytes
    os.chdir(path.parent)
    listener.bind(path.name)
    os.fchdir(before)
    os.close(before)
    listener.close()


def _sparse(path: Path, inside: bytes) -> None:
    path.write_bytes(inside)
    os.truncate(path, SPARSE_BYTES)


def _unreadable(path: Path, inside: bytes) -> None:
    path.write_bytes(inside)
    path.chmod(0)


def _loop(path: Path) -> None:
    other = path.with_name(path.name + ".loop")
    path.symlink_to(other.name)
    if not os.path.lexists(other):
        other.symlink_to(path.name)


_PLACES: dict[str, Callable[[Path, bytes, Path], object]] = {
    "nothing": lambda path, inside, out: None,
    "a FIFO": lambda path, inside, out: os.mkfifo(path),
    "a link to a device": lambda path, inside, out: path.symlink_to("/dev/zero"),
    "a link to a terminal": lambda path, inside, out: path.symlink_to("/dev/tty"),
    "a link out of the folder": lambda path, inside, out: path.symlink_to(out),
    "a link to a folder elsewhere": lambda path, inside, out: path.symlink_to(out.parent),
    "links in a loop": lambda path, inside, out: _loop(path),
    "a link to nothing": lambda path, inside, out: path.symlink_to(out.with_name("new")),
    "a folder": lambda path, inside, out: path.mkdir(),
    "a socket": lambda path, inside, out: _socket(path),
    "a sparse file of 200 GB": lambda path, inside, out: _sparse(path, inside),
    "unreadable": lambda path, inside, out: _unreadable(path, inside),
}


# --- values ---


def _json(path: Path, dice: random.Random) -> str:
    raw, tree = hostile.Raw(), json.loads(path.read_bytes())
    tree, how = changed(tree, dice, raw)
    path.write_bytes(_as_json(tree, raw, escaped=dice.random() < 0.5))
    return how


def _jsonl(path: Path, dice: random.Random) -> str:
    raw, lines, how = hostile.Raw(), path.read_bytes().splitlines(), "no line"
    for _ in range(dice.choice((1, 1, 2))):
        if not lines:
            break
        number = min(int(len(lines) * dice.random()), len(lines) - 1)
        tree, how = changed(json.loads(lines[number]), dice, raw)
        lines[number] = _as_json(tree, raw, escaped=dice.random() < 0.5)
    path.write_bytes(b"\n".join(lines) + b"\n")
    return how


def _toml(path: Path, dice: random.Random) -> str:
    raw, tree = hostile.Raw(), tomllib.loads(path.read_text(encoding="utf-8"))
    tree, how = changed(tree, dice, raw)
    if not isinstance(tree, dict):
        tree = {"x": tree}
    plain = [f"{_key(name)} = {_toml_value(value)}" for name, value in tree.items() if not isinstance(value, dict)]
    for name, section in tree.items():
        if isinstance(section, dict):
            plain += [f"[{_key(name)}]", *(f"{_key(at)} = {_toml_value(value)}" for at, value in section.items())]
    path.write_bytes(raw.written("\n".join(plain) + "\n").encode("utf-8", "surrogatepass"))
    return how


def _key(name: str) -> str:
    return name if name.isascii() and name.isidentifier() else _quoted(name)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _toml_value(value: Any) -> str:
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, bool | None):
        return str(bool(value)).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_toml_value, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(name)} = {_toml_value(inner)}" for name, inner in value.items()) + "}"
    return repr(value)


def _safetensors(path: Path, dice: random.Random) -> str:
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + length]), bytearray(data[8 + length :])
    names = [name for name in header if name != "__metadata__"]
    if not names:
        raise ValueError("no tensor is left")
    raw, kind = hostile.Raw(), dice.randrange(10)
    name = dice.choice(names)
    begin, end = header[name].get("data_offsets", [0, 0])
    how = "a tensor "
    if kind == 0:
        lie = dice.choice((0, 2, length + 8, 2**31, 2**63, 2**64 - 1))
        path.write_bytes(struct.pack("<Q", lie) + data[8:])
        return f"its header has {lie} bytes, it says"
    if kind in (1, 2):
        what = dice.choice((b"\xff\xff\xff\xff", b"\x00\x00\x80\x7f", b"\x00\x00\x00\x00", b"\xff\xff\x7f\x7f"))
        body[begin:end] = (what * (end - begin))[: end - begin]
        how += f"full of {what.hex()}"
    elif kind == 3:
        header[hostile.text(dice)[:100_000]] = header.pop(name)
        how += "of another name"
    elif kind == 4:
        del header[name]  # the bytes stay: its neighbours lie where they lay
        how += "missing"
    elif kind == 5:
        shape = header[name].get("shape", [])
        header[name]["shape"] = dice.choice((shape[::-1], [1, *shape], [end - begin], [], [0], [*shape, 0],
                                             [2**40, 2**40], [-1, *shape]))
        how += "of another shape"
    elif kind == 6:
        header[name]["dtype"] = dice.choice(("I32", "F16", "F64", "U32", "BOOL", "BF16", "X", ""))
        how += "of another type"
    elif kind == 7:
        header |= {f"{name}.{number}": {"dtype": "F32", "shape": [0], "data_offsets": [len(body)] * 2}
                   for number in range(MANY_KEYS)}
        how += "and thousands of empty ones"
    elif kind == 8:
        header["__metadata__"] = {"format": hostile.text(dice)}
        how = "metadata"
    else:
        header, how = changed(header, dice, raw)
    written = _as_json(header, raw)
    written += b" " * (-len(written) % 8)
    path.write_bytes(struct.pack("<Q", len(written)) + written + body)
    return how


_STRUCTURED: dict[str, Callable[[Path, random.Random], str]] = {
    ".json": _json, ".jsonl": _jsonl, ".toml": _toml, ".safetensors": _safetensors}


def changed(tree: Any, dice: random.Random, raw: hostile.Raw) -> tuple[Any, str]:
    """The tree of a document with something in it changed, and what. (It is changed in place where it can be.)"""
    places = list(_places(tree))
    if not places or dice.random() < 0.02:
        return hostile.value(dice, raw, tree), "the whole is something else"
    # a vocabulary has thousands of words, and each of the other settings deserves as much
    depths = sorted({len(path) for path, _, _ in places})
    depth = dice.choice(depths)
    path, container, key = dice.choice([place for place in places if len(place[0]) == depth])
    name = ".".join(map(str, path))[:80]
    kind = dice.randrange(12)
    if kind < 6:
        container[key] = hostile.value(dice, raw, container[key])
        return tree, f"{name!r} is {_short(container[key], raw)}"
    if kind == 6:
        del container[key]
        return tree, f"{name!r} is missing"
    if isinstance(container, list):
        container[key:key] = [container[key]] * dice.choice((1, 5000))
        return tree, f"{name!r} is there again and again"
    if kind == 7:
        container[hostile.text(dice)] = container.pop(key)
        return tree, f"{name!r} is called otherwise"
    if kind == 8:
        container[raw(json.dumps(key))] = hostile.value(dice, raw, container[key])
        return tree, f"{name!r} is there twice"
    if kind == 9:
        container |= {f"x{number}": number for number in range(MANY_KEYS)}
        return tree, f"thousands of keys beside {name!r}"
    if kind == 10:
        container[key] = [container[key]] if dice.random() < 0.5 else {key: container[key]}
        return tree, f"{name!r} is wrapped"
    container[key] = raw(hostile.nested(dice))
    return tree, f"{name!r} is nested deeply"


def _places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any, Any]]:
    """Every value of a document: the way to it, what holds it, and its key there."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield (*path, key), tree, key
        yield from _places(value, (*path, key))


def _short(value: Any, raw: hostile.Raw) -> str:
    return raw.written(json.dumps(value))[:60] if isinstance(value, str) else repr(value)[:60]


def _as_json(tree: Any, raw: hostile.Raw, escaped: bool = False) -> bytes:
    return raw.written(json.dumps(tree, ensure_ascii=escaped)).encode("utf-8", "surrogatepass")
