"""Whether a file has the tables of a database, and only such as this software writes.

A crafted file can name other files (external storage, external links, virtual datasets), whose
bytes would then pass for numbers of the database, ask HDF5 for filters that it would load as
programs, or claim rows that are not there and would fill the memory. Nothing of a table is read
before its links, its storage and its claimed size have been looked at.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from TumorQueryLib.database.masks import BLOCK_EDGE
from TumorQueryLib.database.schema import TABLES, Table, damaged, read_attribute, reading

#: Claimed bytes of what is read at opening, for each byte of the file; real databases have about 1.
MOST_EXPANSION = 64
#: Bytes that any file may claim: small databases of tests are alike throughout.
ALWAYS_ALLOWED = 2**24
_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}


def find_tables(path: Path, file: h5py.File) -> dict[str, h5py.Dataset]:
    """All tables of a file, of the right type, storage and number of rows.

    Raises
    ------
    DatabaseError
        Naming the table that is missing or does not fit.
    """
    tables: dict[str, h5py.Dataset] = {}
    rows: dict[str, int] = {}
    for name, table in TABLES.items():
        item = _object(path, file, name)
        with reading(path):
            shape = item.shape if isinstance(item, h5py.Dataset) else None
            fits = shape is not None and len(shape) > 0 and shape[1:] == table.width and _is_of_type(item, table)
        if shape is None or not fits:
            wanted = " x ".join(("n", *map(str, table.width)))
            raise damaged(path, f"it lacks the table {name} of {wanted} numbers of type {np.dtype(table.dtype)}")
        # Runs and blocks are counted for each region.
        kind = table.rows if table.rows in ("entries", "offsets") else name.rpartition("/")[0]
        if rows.setdefault(kind, shape[0]) != shape[0]:
            raise damaged(path, f"its table {name} has {shape[0]} rows, not {rows[kind]}")
        with reading(path):
            written_here = _is_stored_as_written(item, table)
        if not written_here:
            raise damaged(path, f"its table {name} is not stored in the file, whole and as this software writes it")
        tables[name] = item
    if rows["entries"] < 1 or rows["offsets"] != rows["entries"] + 1:
        raise damaged(path, f"it has {rows['entries']} entries and {rows['offsets']} offsets")
    with reading(path):
        claimed = sum(item.nbytes for item in tables.values())
        size = file.id.get_filesize()
        edge = read_attribute(file["blocks"], "edge")
    if claimed > ALWAYS_ALLOWED + MOST_EXPANSION * size:
        raise damaged(path, f"it claims to hold {claimed / 1e9:.1f} GB in {size / 1e6:.1f} MB")
    if edge != BLOCK_EDGE:
        raise damaged(path, f"its block counts are not of {BLOCK_EDGE}^3 voxels")
    return tables


def _object(path: Path, file: h5py.File, name: str) -> h5py.HLObject | None:
    """The object of that name, reached by links inside the file alone; None where there is none."""
    item = file
    for part in name.split("/"):
        with reading(path):
            link = item.get(part, getlink=True) if isinstance(item, h5py.Group) else None
            hard = link is None or isinstance(link, h5py.HardLink)
        if link is None:
            return None
        if not hard:
            raise damaged(path, f"its table {name} is a link to somewhere else")
        with reading(path):
            item = item[part]
    return item


def _is_of_type(dataset: h5py.Dataset, table: Table) -> bool:
    """Whether the numbers are exactly of the table's type, byte order and unused bits included."""
    return dataset.id.get_type() == h5py.h5t.py_create(np.dtype(table.dtype))


def _is_stored_as_written(dataset: h5py.Dataset, table: Table) -> bool:
    """Whether a table lies in this file, in the chunks and through the filters that `writing` uses, none missing."""
    plist = dataset.id.get_create_plist()
    if plist.get_external_count() or dataset.is_virtual or dataset.maxshape != dataset.shape:
        return False
    rows = dataset.shape[0]
    if rows == 0:
        return plist.get_layout() == h5py.h5d.CONTIGUOUS
    if plist.get_layout() != h5py.h5d.CHUNKED or dataset.chunks != (min(table.page, rows), *table.width):
        return False
    filters = {plist.get_filter(number)[0] for number in range(plist.get_nfilters())}
    return filters == _FILTERS and dataset.id.get_num_chunks() == -(-rows // table.page)
