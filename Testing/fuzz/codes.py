"""Codes of a database in the user's cache: damaged, or written whole with other shapes, types and identities.

Whatever lies in the cache, the answer is the right one: what is not whole is made again. Codes that
were exchanged with a sum of their own are another content (`write_codes` is what an attacker has too).
"""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mutations import changed_json, damaged_bytes
from synthetic_database import write_masks

from TumorQueryLib.database import TumorDatabase
from TumorQueryLib.geometry.grid import Grid
from TumorQueryLib.geometry.regions import TumorMasks
from TumorQueryLib.strategies import create_strategy
from TumorQueryLib.strategies.embedding import write_codes

NAMES = ("random-projection", "radiomics")


@dataclass
class Prepared:
    database: TumorDatabase
    query: TumorMasks
    engines: dict[str, Any]
    contents: dict[str, bytes]
    expected: dict[str, Any]


def prepare(folder: Path) -> Prepared:
    grid = Grid.isotropic(24, 6.0, (0, 0, 0))
    generator = np.random.default_rng(7)
    pairs = []
    for _ in range(20):
        whole = np.zeros(grid.shape, bool)
        corner, size = generator.integers(0, 14, 3), generator.integers(2, 10, 3)
        whole[tuple(slice(a, a + n) for a, n in zip(corner, size))] = True
        pairs.append((whole & (generator.random(grid.shape) < 0.6), whole))
    database = TumorDatabase.open(write_masks(folder / "base.h5", grid, pairs))
    query = TumorMasks(*pairs[4], grid)
    engines = {name: create_strategy(name, database) for name in NAMES}
    contents = {name: engine.embedding_path().read_bytes() for name, engine in engines.items()}
    expected = {name: answer_of(engine, query) for name, engine in engines.items()}
    return Prepared(database, query, engines, contents, expected)


def answer_of(engine, query):
    return [(match.entry, match.score) for match in engine.query(query, 5)]


DTYPES = ("<f4", ">f4", "<f8", "<i8", "<u8", "<u1", "<c8", "?", "S4", "<M8[s]")


def crafted(path: Path, engine, generator: random.Random) -> bool:
    """Codes written whole, but of another kind; True where they are of the right one."""
    codes = {name: values.copy() for name, values in engine.codes.items()}
    identity = engine._identity()
    name = generator.choice(list(codes))
    kind = generator.choice(("type", "shape", "fewer", "missing", "extra", "identity", "values"))
    if kind == "type":
        with np.errstate(all="ignore"):
            codes[name] = codes[name].astype(generator.choice(DTYPES))
    elif kind == "shape":
        width = codes[name].shape[1]
        new = generator.choice((1, width // 2, width - 1, width + 1, 2 * width))
        codes[name] = np.resize(codes[name], (len(codes[name]), new))
    elif kind == "fewer":
        codes[name] = np.resize(codes[name], (generator.choice((0, 1, 19, 21, 40)), codes[name].shape[1]))
    elif kind == "missing":
        del codes[name]
    elif kind == "extra":
        codes["extra"] = codes[name]
    elif kind == "identity":
        identity = changed_json(identity, generator)
    else:
        values = codes[name].ravel()
        values[generator.randrange(len(values))] = generator.choice((0, 1, -1, 1e30, np.nan, np.inf))
    write_codes(path, identity, codes)
    return kind == "values"


def attempt(prepared: Prepared, generator: random.Random) -> str:
    name = generator.choice(NAMES)
    path = prepared.engines[name].embedding_path()
    another = False
    if generator.random() < 0.6:
        path.write_bytes(damaged_bytes(prepared.contents[name], generator))
    else:
        try:
            another = crafted(path, prepared.engines[name], generator)
        except (TypeError, ValueError, UnicodeEncodeError):
            return "not made"
    heard: list[str] = []
    engine = create_strategy(name, prepared.database, progress=lambda value, text: heard.append(text))
    found = answer_of(engine, prepared.query)
    again = any("made again" in text for text in heard)
    if found == prepared.expected[name]:
        return "made again, same" if again else "same"
    return "another content with its own sum" if another and not again else "wrong: another ranking"
