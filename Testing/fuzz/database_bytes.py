"""Bytes of a database file damaged, half of them where HDF5 keeps its own structures.

An answer is the ranking of two queries and the parameters of all entries. What is not refused has
to give the undamaged file's, or be found by `verify`.
"""

import database_fields
from database_fields import answer_of, judged
from mutations import damaged_bytes

prepare = database_fields.prepare


def attempt(prepared, generator):
    path = prepared.folder / "damaged.h5"
    path.write_bytes(damaged_bytes(prepared.content, generator))
    return judged(prepared, path, answer_of(path, prepared, generator))
