"""Databases whose fields, types, storage and links are altered with h5py, so that HDF5's own checksums hold.

An altered field that is in range is another answer that only `verify` finds, since the SHA-256 of the
content is not computed at opening: such count as "another, as verify finds".
"""

import contextlib
import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from synthetic_database import small_brain, write_masks

from TumorQueryLib.base.errors import DatabaseError, InputError
from TumorQueryLib.database import TumorDatabase, describe_database
from TumorQueryLib.database.schema import ATTRIBUTES, TABLES, content_digest, write_attribute
from TumorQueryLib.database.structure import find_tables
from TumorQueryLib.geometry.regions import TumorMasks
from TumorQueryLib.growth import simulate
from TumorQueryLib.strategies import create_strategy

COUNT = 70
#: What h5py raises over alterations that it does not let us write.
NOT_WRITTEN = (
    OSError, LookupError, ValueError, TypeError, RuntimeError, ArithmeticError, AttributeError, MemoryError
)  # fmt: skip


@dataclass
class Prepared:
    folder: Path
    path: Path
    content: bytes
    brain: Any
    queries: list[TumorMasks]
    expected: Any


def prepare(folder: Path) -> Prepared:
    brain = small_brain()
    grid = brain.grid
    generator = np.random.default_rng(5)
    pairs = []
    for _ in range(COUNT):
        whole = np.zeros(grid.shape, bool)
        corner, size = generator.integers(0, 14, 3), generator.integers(2, 10, 3)
        i, j, k = (slice(a, a + n) for a, n in zip(corner, size))
        whole[i, j, k] = True
        pairs.append((whole & (generator.random(grid.shape) < 0.6), whole))
    path = write_masks(folder / "base.h5", grid, pairs, atlas_sha256=brain.sha256)
    queries = [TumorMasks(*pairs[n], grid) for n in (3, 41)]
    prepared = Prepared(folder, path, path.read_bytes(), brain, queries, None)
    prepared.expected = answer_of(path, prepared, random.Random(0))
    return prepared


def answer_of(path, prepared, generator):
    """What a user gets from a database: a description, rankings, parameters; and one entry grown."""
    described = describe_database(path)
    text = json.dumps({**described, "path": "", "bytes": 0}, allow_nan=False, ensure_ascii=False).encode()
    limit = generator.choice((None, None, 0))
    with TumorDatabase.open(path, memory_limit=limit) as database:
        rankings = []
        for name in ("direct", "brute-force"):
            engine = create_strategy(name, database)
            rankings += [[(m.entry, m.score) for m in engine.query(query, 5)] for query in prepared.queries]
        parameters = [database.parameters(entry) for entry in range(len(database))]
        grown = generator.randrange(len(parameters))
        # Once while preparing too, so that no input pays for the solver's compilation.
        if prepared.expected is None or parameters[grown] not in prepared.expected[2]:
            with contextlib.suppress(InputError):
                simulate(parameters[grown], prepared.brain, solver_version=database.solver_version)
        return text, rankings, parameters


def judged(prepared, path, found) -> str:
    if found == prepared.expected:
        return "same"
    # The two exact searches have to agree whatever the content.
    difference = "the exact searches differ, " if found[1][:2] != found[1][2:] else ""
    try:
        with TumorDatabase.open(path) as database:
            database.verify()
    except DatabaseError:
        return "another, as verify finds"
    if json.loads(found[0])["sha256"] != json.loads(prepared.expected[0])["sha256"] and not difference:
        return "another database by its own SHA-256"
    return f"wrong: {difference}and verify finds nothing"


def attempt(prepared, generator):
    path = prepared.folder / "altered.h5"
    shutil.copy(prepared.path, path)
    shutil.copy(prepared.path, prepared.folder / "other.h5")
    (prepared.folder / "secret").write_bytes(b"root:x:0:0:root:/root:/bin/sh\n" * 1000)
    with h5py.File(path, "r+") as file:
        for _ in range(generator.choice((1, 1, 1, 2, 3))):
            alter = generator.choice(ALTERATIONS)
            with contextlib.suppress(*NOT_WRITTEN):
                alter(file, generator, prepared)
            if alter is alter_claim:
                break  # a later one would read all that is claimed
    if generator.random() < 0.1:
        renew_digest(path)
    return judged(prepared, path, answer_of(path, prepared, generator))


def renew_digest(path):
    try:
        with h5py.File(path, "r+") as file:
            write_attribute(file, "content_sha256", content_digest(path, file, find_tables(path, file)))
    except (DatabaseError, OSError, KeyError, TypeError, AttributeError, ValueError, RuntimeError):
        pass


DTYPES = (
    "<i8", ">i8", "<u8", "<i4", "<u4", "<i2", "<u2", "<u1", "<i1", "<f8", ">f8", "<f4", "<f2", "<c16", "?", "S8", "V8",
    h5py.string_dtype(), h5py.vlen_dtype(np.int64), h5py.enum_dtype({"a": 1, "b": 2}, "<i8"), h5py.ref_dtype,
    np.dtype([("a", "<i4"), ("b", "<f4")]), np.dtype(("<f8", (2,))),
)  # fmt: skip
STORAGE = (
    {},
    {"chunks": True},
    {"compression": "lzf"},
    {"compression": "gzip"},
    {"compression": "gzip", "shuffle": True, "fletcher32": True},
    {"compression": "gzip", "shuffle": True, "fletcher32": True, "maxshape": "none"},
    {"compression": "gzip", "shuffle": True, "fletcher32": True, "scaleoffset": 0},
)


def some_table(generator):
    return generator.choice(list(TABLES))


def chunks_of(name, rows):
    table = TABLES[name]
    return {
        "chunks": (min(table.page, max(rows, 1)), *table.width),
        "compression": "gzip",
        "shuffle": True,
        "fletcher32": True,
    }


def remade(file, name, values, **storage):
    if storage.get("maxshape") == "none":
        storage["maxshape"] = (None,) * values.ndim
    del file[name]
    file.create_dataset(name, data=values, track_times=False, **storage)


def extreme(dtype, generator):
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        near = generator.randrange(-3, 100) if dtype.kind == "i" else generator.randrange(0, 100)
        return generator.choice((limits.min, limits.max, limits.max // 2, 0, 1, near, generator.randrange(limits.max)))
    return generator.choice(
        (np.nan, np.inf, -np.inf, 0.0, -1.0, 1e300, 1e-300, 5e-324, generator.uniform(-100, 100), generator.random())
    )


def alter_value(file, generator, prepared):
    dataset = file[some_table(generator)]
    flat = dataset[:]
    index = tuple(generator.randrange(n) for n in flat.shape)
    flat[index] = np.array(extreme(flat.dtype, generator)).astype(flat.dtype)
    dataset[:] = flat


def alter_values(file, generator, prepared):
    dataset = file[some_table(generator)]
    values = dataset[:]
    numbers = np.random.default_rng(generator.randrange(2**32))
    kind = generator.choice(("shuffle", "noise", "constant", "reverse", "add"))
    if kind == "shuffle":
        numbers.shuffle(values)
    elif kind == "noise":
        values = np.frombuffer(numbers.bytes(values.nbytes), values.dtype).reshape(values.shape)
    elif kind == "constant":
        values[:] = np.array(extreme(values.dtype, generator)).astype(values.dtype)
    elif kind == "reverse":
        values = values[::-1]
    else:
        values = values + np.array(1, values.dtype)
    dataset[:] = values


def alter_type(file, generator, prepared):
    name = some_table(generator)
    values, dtype = file[name][:], generator.choice(DTYPES)
    del file[name]
    rows = len(values)
    storage = generator.choice((chunks_of(name, rows), {}))
    dataset = file.create_dataset(name, values.shape, dtype, track_times=False, **storage)
    with np.errstate(all="ignore"):
        dataset[:] = values.astype(dtype)


def alter_custom_type(file, generator, prepared):
    """Numbers with fewer bits than their size, or an exponent that is elsewhere."""
    name = some_table(generator)
    values = file[name][:]
    kind = h5py.h5t.py_create(values.dtype).copy()
    if generator.random() < 0.5:
        kind.set_precision(max(1, kind.get_precision() - generator.randrange(1, 8)))
    else:
        kind.set_size(kind.get_size() * 2)
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk(chunks_of(name, len(values))["chunks"])
    plist.set_shuffle()
    plist.set_deflate(4)
    plist.set_fletcher32()
    group, _, last = name.rpartition("/")
    del file[name]
    made = h5py.h5d.create(file[group].id, last.encode(), kind, h5py.h5s.create_simple(values.shape), plist)
    made.write(h5py.h5s.ALL, h5py.h5s.ALL, values)


def alter_rows(file, generator, prepared):
    name = some_table(generator)
    values = file[name][:]
    rows = generator.choice((0, 1, len(values) - 1, len(values) + 1, 2 * len(values)))
    new = np.resize(values, (rows, *values.shape[1:]))
    remade(file, name, new, **(chunks_of(name, rows) if rows else {}))


def alter_all_rows(file, generator, prepared):
    """Every table that goes by entries, so that the counts agree."""
    rows = generator.choice((1, 2, COUNT - 1, COUNT + 1))
    for name, table in TABLES.items():
        if table.rows in ("entries", "offsets"):
            count = rows + (table.rows == "offsets")
            values = np.resize(file[name][:], (count, *table.width))
            if table.rows == "offsets" and generator.random() < 0.8:
                values = np.minimum.accumulate(values[::-1])[::-1]
                values[-1] = file[name][-1]
            remade(file, name, values, **chunks_of(name, count))


def alter_shape(file, generator, prepared):
    name = some_table(generator)
    values = file[name][:]
    shape = generator.choice(((values.size,), (values.size, 1), (1, values.size), (1, 1, values.size), ()))
    values = values.reshape(shape) if shape else values.ravel()[0]
    del file[name]
    file[name] = values


def alter_claim(file, generator, prepared):
    """Rows that are claimed and not stored."""
    rows = generator.choice((10**4, 10**6, 2 * 10**8, 2**40))
    names = [name for name, table in TABLES.items() if table.rows in ("entries", "offsets")]
    for name in names if generator.random() < 0.5 else [some_table(generator)]:
        table = TABLES[name]
        count = rows + (table.rows == "offsets")
        del file[name]
        file.create_dataset(
            name, (count, *table.width), table.dtype, fillvalue=generator.choice((0, 1)), **chunks_of(name, count)
        )


def alter_storage(file, generator, prepared):
    name = some_table(generator)
    remade(file, name, file[name][:], **generator.choice(STORAGE))


def alter_external(file, generator, prepared):
    name = some_table(generator)
    values = file[name][:]
    del file[name]
    # Files of this folder alone, and copies: a later alteration may write through to them.
    other = generator.choice((str(prepared.folder / "secret"), str(prepared.folder / "other.h5"), "nowhere"))
    file.create_dataset(name, values.shape, values.dtype, external=[(other, generator.choice((0, 512)), values.nbytes)])


def alter_link(file, generator, prepared):
    name = generator.choice((some_table(generator), "parameters", "masks", "masks/t1gd", "blocks", "blocks/flair"))
    other = some_table(generator)
    kind = generator.choice(("soft", "external", "hard", "loop", "group", "dangling"))
    target = file[other]
    del file[name]
    if kind == "soft":
        file[name] = h5py.SoftLink(f"/{other}")
    elif kind == "external":
        file[name] = h5py.ExternalLink(str(prepared.folder / "other.h5"), name)
    elif kind == "hard":
        file[name] = target
    elif kind == "loop":
        file[name] = h5py.SoftLink(f"/{name}") if generator.random() < 0.5 else file["/"]
    elif kind == "group":
        file.create_group(name)
    else:
        file[name] = h5py.ExternalLink("nowhere.h5", name)


def alter_virtual(file, generator, prepared):
    name = some_table(generator)
    values = file[name][:]
    layout = h5py.VirtualLayout(values.shape, values.dtype)
    layout[:] = h5py.VirtualSource(str(prepared.folder / "other.h5"), name, values.shape)
    del file[name]
    file.create_virtual_dataset(name, layout)


def alter_chunk(file, generator, prepared):
    """The stored bytes of a chunk, with or without the filters that its table names."""
    dataset = file[some_table(generator)]
    mask, stored = dataset.id.read_direct_chunk((0,) * dataset.ndim)
    choice = generator.choice(("noise", "short", "raw", "empty", "mask"))
    size = int(np.prod(dataset.chunks)) * dataset.dtype.itemsize
    raw = generator.randbytes(generator.choice((size, size // 2, 2 * size + 1)))
    new = {
        "noise": generator.randbytes(len(stored)),
        "short": stored[: len(stored) // 2],
        "raw": raw,
        "empty": b"",
        "mask": stored,
    }[choice]
    skipped = generator.choice((0, 7, 1, 2, 4)) if choice in ("raw", "mask") else mask
    dataset.id.write_direct_chunk((0,) * dataset.ndim, new, filter_mask=skipped)


def alter_swap(file, generator, prepared):
    one, other = some_table(generator), some_table(generator)
    file.move(one, "aside")
    file.move(other, one)
    file.move("aside", other)


def alter_missing(file, generator, prepared):
    del file[generator.choice((some_table(generator), "parameters", "masks", "blocks", "masks/flair"))]


ATTRIBUTE_VALUES = (
    np.nan, np.inf, -1.0, 0.0, 0.2, 0.5, 0.6, 1.0, 2.0, 1e300, 0, 1, 2, -1, 2**62, True, "", "a", "x" * 1000,
    "a\x00b", "{}", "[]", "1", '{"a": NaN}', '{"a": 1e999}', '{"\\ud800": 1}', "[" * 5000, '{"a": [1, {"b": null}]}',
    "../../x", "0" * 64, "g" * 64, "tumorquery-database", [24, 24, 24], [1, 1, 1], [0, 24, 24], [-24, 24, 24],
    [2**21, 2**21, 2**22], [24, 24], [24, 24, 25], [25, 24, 24], [1e3, 24, 24], [24.5, 24, 24], np.eye(4), np.eye(3),
    -np.eye(4), 1e-9 * np.eye(4), np.full((4, 4), np.nan), np.arange(16).reshape(4, 4), np.bytes_(b"\xff\xfe"),
    np.zeros(3, "<c16"), np.void(b"abc"), np.array(["a", "b"], "S1"), h5py.Empty("f8"), h5py.Empty("S3"),
    np.float32(0.6), np.uint8(1), np.arange(2000.0),
)  # fmt: skip


def alter_attribute(file, generator, prepared):
    name = generator.choice([*ATTRIBUTES, "content_sha256", "complete", "edge", "extra"])
    item = file["blocks"] if name == "edge" else file
    kind = generator.choice(("set", "set", "set", "delete", "near"))
    if kind == "delete":
        del item.attrs[name]
    elif kind == "set":
        write_attribute(item, name, generator.choice(ATTRIBUTE_VALUES))
    else:
        value = item.attrs[name]
        if isinstance(value, bytes):
            value = value.decode()
            place = generator.randrange(max(1, len(value)))
            write_attribute(item, name, value[:place] + generator.choice(("x", "0", '"', "}")) + value[place + 1 :])
        else:
            item.attrs[name] = value + np.asarray(1).astype(np.asarray(value).dtype)


def alter_threshold(file, generator, prepared):
    name = generator.choice(("threshold_t1gd", "threshold_flair"))
    file.attrs[name] = generator.choice((np.nan, np.inf, -0.1, 0.0, 1.0, 1.5, 0.2, 0.6, generator.random()))


def alter_committed(file, generator, prepared):
    name = some_table(generator)
    values = file[name][:]
    file["kind"] = np.dtype(values.dtype)
    del file[name]
    file.create_dataset(name, data=values, dtype=file["kind"], **chunks_of(name, len(values)))


def alter_extra(file, generator, prepared):
    group = file[generator.choice(("/", "parameters", "masks", "blocks", "masks/t1gd"))]
    group.attrs["extra"] = "anything"
    group.create_dataset("extra", data=np.arange(5))


ALTERATIONS = (
    alter_value, alter_value, alter_value, alter_values, alter_type, alter_type, alter_custom_type, alter_rows,
    alter_all_rows, alter_shape, alter_claim, alter_storage, alter_external, alter_link, alter_virtual, alter_chunk,
    alter_swap, alter_missing, alter_attribute, alter_attribute, alter_attribute, alter_threshold, alter_committed,
    alter_extra,
)  # fmt: skip
