"""Ways to damage bytes and to craft values."""

import copy
import json
import math
import random
from typing import Any


def damaged_bytes(content: bytes, generator: random.Random) -> bytes:
    """Bytes with a bit flipped, some exchanged, zeroed, cut off, doubled or moved."""
    changed = bytearray(content)
    for _ in range(generator.choice((1, 1, 1, 2, 5))):
        kind = generator.choice(("bit", "byte", "zeros", "cut", "swap", "noise", "more", "extreme"))
        place = (
            generator.randrange(len(changed))
            if generator.random() < 0.5
            else generator.randrange(min(4096, len(changed)))
        )
        length = generator.choice((1, 4, 8, 64, 512))
        if kind == "bit":
            changed[place] ^= 1 << generator.randrange(8)
        elif kind == "byte":
            changed[place] = generator.randrange(256)
        elif kind == "zeros":
            changed[place : place + length] = bytes(len(changed[place : place + length]))
        elif kind == "noise":
            changed[place : place + length] = generator.randbytes(len(changed[place : place + length]))
        elif kind == "cut":
            del changed[max(1, place) :]
        elif kind == "swap":
            other = generator.randrange(len(changed))
            changed[place : place + 8], changed[other : other + 8] = (
                changed[other : other + 8],
                changed[place : place + 8],
            )
        elif kind == "more":
            changed += generator.randbytes(length)
        else:
            changed[place : place + 8] = generator.choice((b"\xff" * 8, b"\x00" * 7 + b"\x80", b"\xff" * 7 + b"\x7f"))
    return bytes(changed)


#: Stands for lists in lists, a hundred thousand deep.
NESTED = "nested deeply"
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 3, 10**6, 10**9, 2**31, 2**63, -(2**63), 10**30, 0.5, -0.5, 1e-300, 1e300,
    math.nan, math.inf, -math.inf, "", " ", "a", "none", "1", "-1", "1e999", "\x00", "a\x00b", "\ud800", "ü/脳",
    "../../x", "/", ".", "/etc/passwd", "/dev/null", "x" * 300, "a/" * 2500, "%s%n", "\n", [], {}, [[]], [1, 2, 3],
    ["a"], {"a": 1}, {"": {}},
)  # fmt: skip


def odd_value(generator: random.Random) -> Any:
    """Any JSON value that is seldom the right one."""
    if generator.random() < 0.02:
        return NESTED
    if generator.random() < 0.1:
        return generator.uniform(-1e3, 1e3) if generator.random() < 0.5 else generator.randrange(-10, 1000)
    return generator.choice(ODD_VALUES)


def places_of(content: Any, path: tuple = ()) -> list[tuple]:
    """The paths of everything inside a JSON value, itself left out."""
    found = []
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        found += [(*path, key), *places_of(value, (*path, key))]
    return found


def changed_json(content: Any, generator: random.Random) -> Any:
    """A copy of a JSON value with some of it exchanged, left out, added or renamed."""
    content = copy.deepcopy(content)
    for _ in range(generator.choice((1, 1, 1, 2, 3))):
        places = places_of(content)
        if not places:
            return odd_value(generator)
        *way, last = generator.choice(places)
        holder = content
        for key in way:
            holder = holder[key]
        kind = generator.choice(("odd", "odd", "odd", "delete", "add", "rename", "number"))
        value = holder[last]
        if kind == "delete":
            del holder[last]
        elif kind == "add" and isinstance(holder, dict):
            holder[str(generator.choice(("x", "", "t1gd", "workers", "dask", "out", "\ud800")))] = odd_value(generator)
        elif kind == "rename" and isinstance(holder, dict):
            holder[f"{last}x"] = holder.pop(last)
        elif kind == "number" and isinstance(value, int | float):
            holder[last] = generator.choice((value + 1, -value, value * 1e6, value / 3, float(value), str(value)))
        else:
            holder[last] = odd_value(generator)
    return content


def json_text(content: Any) -> bytes:
    """JSON of a value; half surrogates stand in escapes."""
    return json.dumps(content).encode().replace(json.dumps(NESTED).encode(), b"[" * 100_000 + b"]" * 100_000)
