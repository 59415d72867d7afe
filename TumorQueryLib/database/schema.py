"""What a database file is (HDF5, schema version 1): its attributes, its tables, and whether a file has them.

Every table is chunked, compressed and carries a Fletcher-32 checksum per chunk; the file
format (HDF5 1.10) adds checksums to its own structures. So damage is found where it is
read, at no cost to what is not read. `content_sha256`, an attribute, is the SHA-256 of all
attributes and tables and names the content wherever a result refers to it.

What HDF5 raises over a damaged file becomes a sentence in `reading`, which holds calls of
h5py and nothing else: any other exception is a defect of ours and passes through.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.base.errors import DatabaseError, InputError, shown
from TumorQueryLib.base.files import is_text, parsed_json
from TumorQueryLib.base.progress import Progress, no_progress
from TumorQueryLib.database.masks import BLOCK_EDGE, Runs, block_grid_shape
from TumorQueryLib.geometry.grid import Grid
from TumorQueryLib.growth import SOLVER_VERSIONS, GrowthParameters

SCHEMA = "tumorquery-database"
SCHEMA_VERSION = 1
#: The regions of a tumour, and the groups of the file that hold them: by the image that shows each.
REGIONS = {"core": "t1gd", "whole": "flair"}
#: Runs in a chunk of the file, the least that is read at once: about twenty entries.
PAGE = 16384
#: Rows of parameters and of other small tables in a chunk.
TABLE_PAGE = 8192
#: Blocks that the tables `blocks/*/index` can number.
MOST_BLOCKS = 2**16
#: Spacings (least, largest) and distance of the first voxel from the origin that a grid can have.
SPACINGS_MM = (0.01, 100.0)
FARTHEST_MM = 1e5
#: Characters of an atlas's name.
LONGEST_NAME = 200
#: Bytes of a text, such as the attribution, that HDF5 holds as an attribute with room to spare.
LONGEST_TEXT = 60_000
#: Attributes of the file's root; a dict is stored as JSON.
ATTRIBUTES: dict[str, type] = {
    "schema": str,
    "schema_version": int,
    "solver_version": str,
    "rng_seed": int,
    "prior": dict,
    "tissue": dict,
    "initial_condition": dict,
    "licence": str,
    "attribution": str,
    "threshold_t1gd": float,
    "threshold_flair": float,
    "grid_shape": list,
    "grid_affine": list,
    "atlas_name": str,
    "atlas_sha256": str,
}
#: Units of the parameters, attributes of their tables.
PARAMETERS = {"seed": "mm, RAS", "diffusivity": "mm^2/day", "proliferation": "1/day", "duration": "day"}


@dataclass(frozen=True)
class Table:
    """A dataset of the file.

    Parameters
    ----------
    rows : str
        What its rows are: "entries" (N), "offsets" (N + 1), or any number of "runs" or "blocks".
    dtype : str
    page : int
        Rows in a chunk.
    width : tuple of int
        Shape of a row.
    """

    rows: str
    dtype: str
    page: int
    width: tuple[int, ...] = ()


#: In the order in which they are made.
TABLES = {
    "parameters/seed": Table("entries", "<f8", TABLE_PAGE, (3,)),
    "parameters/diffusivity": Table("entries", "<f8", TABLE_PAGE),
    "parameters/proliferation": Table("entries", "<f8", TABLE_PAGE),
    "parameters/duration": Table("entries", "<f8", TABLE_PAGE),
    "parameters/trajectory": Table("entries", "<i8", TABLE_PAGE),
}
for _group in REGIONS.values():
    TABLES |= {
        f"masks/{_group}/offsets": Table("offsets", "<i8", TABLE_PAGE),
        f"masks/{_group}/starts": Table("runs", "<u4", PAGE),
        f"masks/{_group}/lengths": Table("runs", "<u1", PAGE),
        f"masks/{_group}/volume": Table("entries", "<i8", TABLE_PAGE),
    }
for _group in REGIONS.values():
    TABLES |= {
        f"blocks/{_group}/offsets": Table("offsets", "<i8", PAGE),
        f"blocks/{_group}/index": Table("blocks", "<u2", PAGE),
        f"blocks/{_group}/count": Table("blocks", "<u2", PAGE),
    }


@dataclass(frozen=True, eq=False)
class ParameterTable:
    """The parameters of consecutive entries.

    Parameters
    ----------
    seed : ndarray of float64, shape (n, 3)
        RAS mm.
    diffusivity, proliferation, duration : ndarray of float64, shape (n,)
        mm^2/day, 1/day, day.
    trajectory : ndarray of int64, shape (n,)
        Entries of one number are moments of one solve.
    """

    seed: NDArray[np.float64]
    diffusivity: NDArray[np.float64]
    proliferation: NDArray[np.float64]
    duration: NDArray[np.float64]
    trajectory: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.trajectory)

    def parameters(self, entry: int) -> GrowthParameters:
        """Parameters of one entry; IndexError where there is no such entry."""
        if not 0 <= entry < len(self):
            raise IndexError(f"entry {entry} of {len(self)}")
        x, y, z = self.seed[entry].tolist()
        return GrowthParameters(
            seed=(x, y, z),
            diffusivity=float(self.diffusivity[entry]),
            proliferation=float(self.proliferation[entry]),
            duration=float(self.duration[entry]),
        )


@dataclass(frozen=True, eq=False)
class Entries(ParameterTable):
    """Consecutive entries of a database: parameters and masks.

    Parameters
    ----------
    runs : dict
        For "core" and "whole", the run-length coded mask of each entry.
    """

    runs: dict[str, list[Runs]]


def write_attribute(item: h5py.HLObject, name: str, value: Any) -> None:
    """Set an attribute of an HDF5 object; text in fixed length.

    HDF5 keeps text of variable length in a heap without a checksum, and a damaged heap
    can keep it reading for ever; fixed-length text lies where damage is noticed.
    """
    if isinstance(value, str):
        item.attrs.create(name, value, dtype=h5py.string_dtype("utf-8", max(1, len(value.encode()))))
    else:
        item.attrs[name] = value


def read_attribute(item: h5py.HLObject, name: str) -> Any:
    """Attribute of an HDF5 object as a Python value; None where there is no such attribute."""
    value = item.attrs.get(name)
    if isinstance(value, bytes):
        return value.decode()
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def damaged(path: Path, reason: str) -> DatabaseError:
    """The error of a file that is not what a database has to be."""
    return DatabaseError(f"{path} is not a usable database ({reason}); it may be damaged: build or copy it again.")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what HDF5 raises over a damaged file into one sentence; for calls of h5py alone."""
    try:
        yield
    except PermissionError as error:
        raise DatabaseError(f"{path} cannot be read: there is no permission.") from error
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        if not os.path.exists(path):
            raise DatabaseError(f"{path} has gone away; build or copy it again.") from error
        raise damaged(path, " ".join(str(error).split()) or type(error).__name__) from error


def read_table(path: Path, dataset: h5py.Dataset) -> NDArray[Any]:
    """The whole of a table.

    Raises
    ------
    DatabaseError
        When it is damaged.
    """
    with reading(path):
        return dataset[:]


def read_attributes(path: Path, file: h5py.File) -> dict[str, Any]:
    """The attributes of the file's root, each of its type.

    Raises
    ------
    DatabaseError
        When the file is no database, unfinished, of another schema, or lacks an attribute.
    """
    with reading(path):
        schema, version, complete = (read_attribute(file, name) for name in ("schema", "schema_version", "complete"))
    if schema != SCHEMA:
        raise DatabaseError(f"{path} is an HDF5 file, but no database of simulated tumours.")
    if not isinstance(version, int):
        raise damaged(path, "its schema_version is no number")
    if version != SCHEMA_VERSION:
        raise DatabaseError(
            f"{path} has schema version {version}, this software reads version {SCHEMA_VERSION}; "
            f"{'update the software' if version > SCHEMA_VERSION else 'build the database again'}."
        )
    if complete is not True:
        raise DatabaseError(f"{path} was not finished; build it again, with --resume to continue.")
    attributes: dict[str, Any] = {}
    for name, expected in (ATTRIBUTES | {"content_sha256": str}).items():
        with reading(path):
            value = read_attribute(file, name)
        if value is None:
            raise damaged(path, f"it has no attribute {name}")
        if expected is dict and isinstance(value, str):
            try:
                value = parsed_json(value)
            except ValueError as error:
                raise damaged(path, f"its attribute {name} is no JSON: {error}") from error
        if not isinstance(value, expected) or isinstance(value, bool):
            raise damaged(path, f"its attribute {name} is of the wrong type, {type(value).__name__}")
        attributes[name] = value
    if attributes["solver_version"] not in SOLVER_VERSIONS:
        raise DatabaseError(
            f"{path} was grown by version {shown(attributes['solver_version'])} of the solver, and this software has "
            f"the versions {' and '.join(SOLVER_VERSIONS)}; update the software, or build the database again."
        )
    try:
        check_attributes(attributes)
    except ValueError as error:
        raise damaged(path, str(error)) from error
    return attributes


def check_attributes(attributes: Mapping[str, Any]) -> None:
    """Refuse attributes that no database has; they are of their types.

    Raises
    ------
    ValueError
    """
    for name, value in attributes.items():
        if isinstance(value, str) and (not is_text(value) or "\0" in value or len(value.encode()) > LONGEST_TEXT):
            raise ValueError(f"its attribute {name} is no text of at most {LONGEST_TEXT:,} bytes")
    # Names of files in the cache and of models are made of these.
    for name in ("atlas_sha256", "content_sha256"):
        if name in attributes and not re.fullmatch("[0-9a-f]{64}", attributes[name]):
            raise ValueError(f"its attribute {name} is no SHA-256")
    atlas = attributes["atlas_name"]
    if not 0 < len(atlas) <= LONGEST_NAME or not atlas.isprintable() or set(atlas) & set("/\\"):
        raise ValueError(f"its attribute atlas_name is no name of 1 to {LONGEST_NAME} characters without / and \\")
    core, whole = (attributes[f"threshold_{group}"] for group in REGIONS.values())
    if not 0 < whole < core < 1:
        raise ValueError(f"its thresholds {core} and {whole} are not densities in (0, 1), the core's above the other")


def grid_of(path: Path, attributes: Mapping[str, Any]) -> Grid:
    """The grid that a file's attributes describe.

    Raises
    ------
    DatabaseError
        When they describe none.
    """
    try:
        return described_grid(attributes)
    except ValueError as error:
        raise damaged(path, str(error)) from error


def described_grid(attributes: Mapping[str, Any]) -> Grid:
    """The grid that attributes describe.

    Raises
    ------
    ValueError
        When they describe none, or none that a database has.
    """
    try:
        shape, affine = np.array(attributes["grid_shape"]), np.array(attributes["grid_affine"])
    except ValueError as error:  # rows of several lengths
        raise ValueError("its grid is not three sizes and a matrix of numbers") from error
    if shape.shape != (3,) or shape.dtype.kind not in "iu" or affine.dtype.kind not in "iuf":
        raise ValueError("its grid is not three sizes and a matrix of numbers")
    try:
        i, j, k = shape.tolist()
        grid = Grid((i, j, k), affine)
    except InputError as error:
        raise ValueError(str(error).rstrip(".")) from error
    if math.prod(block_grid_shape(grid.shape)) > MOST_BLOCKS:
        raise ValueError(f"its grid of {i} x {j} x {k} voxels is larger than a database can number")
    low, high = SPACINGS_MM
    if not (low <= grid.spacing.min() and grid.spacing.max() <= high and np.abs(affine[:3, 3]).max() <= FARTHEST_MM):
        raise ValueError("its grid is not of a head's size and place")
    return grid


def combined_digest(attributes: Mapping[str, Any], tables: Mapping[str, tuple[str, tuple[int, ...], bytes]]) -> str:
    """The SHA-256 that names a content.

    Parameters
    ----------
    attributes : mapping
        The root attributes as `read_attribute` gives them.
    tables : mapping
        Type, shape and SHA-256 of every table.
    """
    total = hashlib.sha256()
    for name in ATTRIBUTES:
        total.update(f"{name}={attributes[name]}\n".encode())
    total.update(f"edge={BLOCK_EDGE}\n".encode())
    for name, unit in PARAMETERS.items():
        total.update(f"{name}={unit}\n".encode())
    for name in sorted(tables):
        dtype, shape, digest = tables[name]
        total.update(f"{name} {dtype} {shape} ".encode() + digest)
    return total.hexdigest()


def content_digest(
    path: Path, file: h5py.File, tables: Mapping[str, h5py.Dataset], *, progress: Progress = no_progress
) -> str:
    """The SHA-256 of what a file holds, after reading all of it.

    Raises
    ------
    DatabaseError
        When a part is damaged.
    """
    with reading(path):
        attributes = {name: read_attribute(file, name) for name in ATTRIBUTES}
        size = sum(dataset.nbytes for dataset in tables.values())
    digests = {}
    read = 0
    for name, dataset in tables.items():
        digest = hashlib.sha256()
        step = 16 * PAGE
        for row in range(0, len(dataset), step):
            with reading(path):
                values = dataset[row : row + step]
            digest.update(np.ascontiguousarray(values).tobytes())
            read += values.nbytes
            progress(read / size, "Reading the database")
        digests[name] = (dataset.dtype.str, dataset.shape, digest.digest())
    return combined_digest(attributes, digests)
