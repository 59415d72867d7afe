"""The database file (HDF5, schema version 1): reading it, lazily, and writing it.

Every dataset is chunked, compressed and carries a Fletcher-32 checksum per chunk;
the file format (HDF5 1.10) adds checksums to its own structures. So damage is found
where it is read, at no cost to what is not read, and `TumorDatabase.verify` reads
everything. `content_sha256`, an attribute, is the SHA-256 of all attributes and
datasets and names the content wherever a result refers to it.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numba import njit
from numpy.typing import NDArray

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.base.errors import DatabaseError
from TumorQueryLib.base.parallel import physical_memory
from TumorQueryLib.base.progress import Progress, no_progress
from TumorQueryLib.base.resources import resources_folder
from TumorQueryLib.database.masks import (
    BLOCK_EDGE,
    RUN_BYTES,
    RunLengthMasks,
    Runs,
    block_counts,
    block_grid_shape,
)
from TumorQueryLib.geometry.grid import Grid

if TYPE_CHECKING:
    from TumorQueryLib.growth import GrowthParameters

SCHEMA = "tumorquery-database"
SCHEMA_VERSION = 1
REGIONS = ("t1gd", "flair")
#: Runs in a chunk of the file, the least that is read at once: about twenty entries.
PAGE = 16384
#: Rows of parameters and of other small tables in a chunk.
TABLE_PAGE = 8192
#: Share of the physical memory that runs may fill before they are read anew for every query.
MEMORY_SHARE = 0.25
ATTRIBUTES = (
    "schema",
    "schema_version",
    "solver_version",
    "rng_seed",
    "prior",
    "tissue",
    "initial_condition",
    "licence",
    "attribution",
    "threshold_t1gd",
    "threshold_flair",
    "grid_shape",
    "grid_affine",
    "atlas_name",
    "atlas_sha256",
)
PARAMETERS = {"seed": "mm, RAS", "diffusivity": "mm^2/day", "proliferation": "1/day", "duration": "day"}


@dataclass(frozen=True, eq=False)
class Entries:
    """Consecutive entries of a database.

    Parameters
    ----------
    seed : ndarray of float64, shape (n, 3)
        RAS mm.
    diffusivity, proliferation, duration : ndarray of float64, shape (n,)
        mm^2/day, 1/day, day.
    trajectory : ndarray of int64, shape (n,)
        Entries of one number are moments of one solve.
    runs : dict
        For "t1gd" and "flair", the run-length coded mask of each entry.
    """

    seed: NDArray[np.float64]
    diffusivity: NDArray[np.float64]
    proliferation: NDArray[np.float64]
    duration: NDArray[np.float64]
    trajectory: NDArray[np.int64]
    runs: dict[str, list[Runs]]

    def __len__(self) -> int:
        return len(self.trajectory)


@dataclass(frozen=True, eq=False)
class BlockCounts:
    """Set voxels of every entry in each block of BLOCK_EDGE^3 voxels; empty blocks are left out.

    Parameters
    ----------
    offsets : ndarray of int64, shape (N + 1,)
    index : ndarray of uint16
        Flat index of the block, row-major; those of entry n are offsets[n] to offsets[n + 1].
    count : ndarray of uint16
    """

    offsets: NDArray[np.int64]
    index: NDArray[np.uint16]
    count: NDArray[np.uint16]


class TumorDatabase:
    """An open database of simulated tumours; made by `TumorDatabase.open`.

    Parameters and block counts are in memory, the masks are read when they are used.

    Attributes
    ----------
    path : Path
    sha256 : str
        SHA-256 of the content (all attributes and datasets), not of the file's bytes.
    grid : Grid
        The atlas grid, RAS mm.
    atlas_name, atlas_sha256 : str
    threshold_core, threshold_whole : float
        Densities above which a voxel belongs to core and whole tumour.
    core, whole : RunLengthMasks
        What T1Gd and FLAIR show of every entry.
    core_blocks, whole_blocks : BlockCounts
    seed : ndarray of float64, shape (N, 3)
        RAS mm.
    diffusivity, proliferation, duration : ndarray of float64, shape (N,)
        mm^2/day, 1/day, day.
    trajectory : ndarray of int64, shape (N,)
        Entries of one number are moments of one solve.
    attributes : dict
        The root attributes; `prior`, `tissue` and `initial_condition` as objects.
    """

    def __init__(self, path: Path, file: h5py.File, memory_limit: int | None) -> None:
        self.path = path
        self._file = file
        self.attributes = _read_attributes(file)
        shape = self.attributes["grid_shape"]
        self.grid = Grid((shape[0], shape[1], shape[2]), np.array(self.attributes["grid_affine"]))
        self.sha256: str = self.attributes["content_sha256"]
        self.atlas_name: str = self.attributes["atlas_name"]
        self.atlas_sha256: str = self.attributes["atlas_sha256"]
        self.threshold_core: float = self.attributes["threshold_t1gd"]
        self.threshold_whole: float = self.attributes["threshold_flair"]
        self.seed = file["parameters/seed"][:]
        self.diffusivity = file["parameters/diffusivity"][:]
        self.proliferation = file["parameters/proliferation"][:]
        self.duration = file["parameters/duration"][:]
        self.trajectory = file["parameters/trajectory"][:]
        if self.seed.shape != (len(self), 3):
            raise ValueError("the seeds do not fit the entries")
        if len(self) == 0:
            raise ValueError("it holds no entry")
        for values in (self.diffusivity, self.proliferation, self.duration):
            if values.shape != (len(self),):
                raise ValueError("the parameters do not fit the entries")
        if memory_limit is None:
            memory_limit = int(MEMORY_SHARE * physical_memory())
        run_bytes = sum(RUN_BYTES * file[f"masks/{region}/starts"].size for region in REGIONS)
        resident = run_bytes <= memory_limit
        self.core, self.whole = (
            _open_masks(path, file[f"masks/{region}"], self.grid.shape, len(self), resident, memory_limit // 2)
            for region in REGIONS
        )
        self.core_blocks, self.whole_blocks = (
            _open_blocks(file[f"blocks/{region}"], self.grid.shape, len(self)) for region in REGIONS
        )

    @classmethod
    def open(cls, name_or_path: str | os.PathLike = "starter", *, memory_limit: int | None = None) -> TumorDatabase:
        """Open a database file.

        Parameters
        ----------
        name_or_path : str or path
            The name of a bundled database, or a file.
        memory_limit : int, optional
            Bytes that the masks may fill. A database whose masks need more is read anew
            from the file in pieces, with the same answers. By default a quarter of the
            physical memory.

        Raises
        ------
        DatabaseError
            When there is no such file, or it is truncated, altered, unfinished or of
            another schema.
        """
        path = find_database(name_or_path)
        with _reading(path):
            file = h5py.File(path, "r")
            try:
                return cls(path, file, memory_limit)
            except BaseException:
                file.close()
                raise

    def close(self) -> None:
        """Close the file; what has not been read by then cannot be read any more."""
        self._file.close()

    def __enter__(self) -> TumorDatabase:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self.trajectory)

    def parameters(self, entry: int) -> GrowthParameters:
        """Parameters of one entry; `growth.simulate` gives its density from them."""
        from TumorQueryLib.growth import GrowthParameters

        if not 0 <= entry < len(self):
            raise IndexError(f"entry {entry} of {len(self)}")
        x, y, z = self.seed[entry].tolist()
        return GrowthParameters(
            seed=(x, y, z),
            diffusivity=float(self.diffusivity[entry]),
            proliferation=float(self.proliferation[entry]),
            duration=float(self.duration[entry]),
        )

    def load_atlas(self, atlas: Atlas | str | os.PathLike | None = None) -> Atlas:
        """The atlas that the entries were grown in: the bundled one, or the given one if it is that.

        Raises
        ------
        InputError
            When there is no such atlas.
        DatabaseError
            When it is another one.
        """
        loaded = atlas if isinstance(atlas, Atlas) else Atlas.load(self.atlas_name if atlas is None else Path(atlas))
        self.check_atlas(loaded)
        return loaded

    def check_atlas(self, atlas: Atlas) -> None:
        """Refuse another atlas than the one that the entries were grown in.

        Raises
        ------
        DatabaseError
        """
        if atlas.sha256 != self.atlas_sha256:
            raise DatabaseError(
                f"{self.path.name} was made in the atlas {self.atlas_name} (SHA-256 {self.atlas_sha256[:12]}), "
                f"not in {atlas.name} (SHA-256 {atlas.sha256[:12]}); use that atlas or build a database for this one."
            )

    def verify(self, progress: Progress = no_progress) -> None:
        """Read everything and check that it is whole and consistent.

        Raises
        ------
        DatabaseError
            Naming what is damaged.
        """
        with _reading(self.path):
            if _content_digest(self._file, progress) != self.sha256:
                raise ValueError("its content does not have the SHA-256 that it was written with")
            for name, masks, blocks in (
                ("t1gd", self.core, self.core_blocks),
                ("flair", self.whole, self.whole_blocks),
            ):
                for entry in range(len(self)):
                    runs = masks.runs(entry)
                    counts = block_counts(runs, self.grid.shape)
                    piece = slice(blocks.offsets[entry], blocks.offsets[entry + 1])
                    index = np.flatnonzero(counts)
                    if (
                        runs.volume != masks.volume[entry]
                        or not np.array_equal(index, blocks.index[piece])
                        or not np.array_equal(counts[index], blocks.count[piece])
                    ):
                        raise ValueError(f"volume or block counts of entry {entry} do not fit its {name} mask")
                    if entry % 256 == 0:
                        done = (entry / len(self) + (name == "flair")) / 2
                        progress(0.5 + 0.5 * done, "Checking the masks")


def find_database(name_or_path: str | os.PathLike) -> Path:
    """The file of a database, by the name of a bundled one or by path.

    Raises
    ------
    DatabaseError
        Naming the bundled databases where there is no such file.
    """
    path = Path(name_or_path)
    folder = resources_folder() / "Databases"
    bundled = {file.stem: file for file in sorted(folder.glob("*.h5"))}
    if str(name_or_path) in bundled:
        return bundled[str(name_or_path)]
    if path.is_file():
        return path
    names = ", ".join(bundled) or "none"
    unfinished = path.with_name(path.name + ".partial")
    hint = " Its build was not finished: build it with --resume." if unfinished.exists() else ""
    raise DatabaseError(f"There is no database {name_or_path}.{hint} Bundled: {names}; or give the path of a file.")


def describe_database(
    name_or_path: str | os.PathLike, verify: bool = False, progress: Progress = no_progress
) -> dict[str, Any]:
    """What a database holds, as a JSON-ready dict; with `verify`, after reading and checking everything.

    Raises
    ------
    DatabaseError
        When the file cannot be used, or `verify` finds damage.
    """
    with TumorDatabase.open(name_or_path) as database:
        if verify:
            database.verify(progress)
        voxel = database.grid.voxel_volume_ml
        description = {key: value for key, value in database.attributes.items() if key != "content_sha256"}
        description |= {
            "path": str(database.path),
            "bytes": database.path.stat().st_size,
            "sha256": database.sha256,
            "entries": len(database),
            "trajectories": len(np.unique(database.trajectory)),
            "entries_without_core": int(np.count_nonzero(database.core.volume == 0)),
            "verified": verify,
        }
        for name, volume in (
            ("core_volume_ml", database.core.volume),
            ("whole_volume_ml", database.whole.volume),
        ):
            quantiles = np.quantile(volume * voxel, [0, 0.05, 0.5, 0.95, 1])
            description[name] = {
                key: round(float(value), 3) for key, value in zip(("min", "p5", "median", "p95", "max"), quantiles)
            }
    return description


def write_database(
    path: Path,
    attributes: Mapping[str, Any],
    entries: int,
    run_counts: Mapping[str, int],
    pieces: Iterable[Entries],
    progress: Progress = no_progress,
) -> None:
    """Write a whole database file; the caller names it aside and renames it when this returns.

    Parameters
    ----------
    path : Path
        Overwritten.
    attributes : mapping
        The root attributes of `ATTRIBUTES`.
    entries : int
        Number of entries in all.
    run_counts : mapping
        Number of runs in all, for each of `REGIONS`.
    pieces : iterable of Entries
        All entries in order.
    progress : Progress
    """
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        for name in ATTRIBUTES:
            value = attributes[name]
            write_attribute(file, name, json.dumps(value, sort_keys=True) if isinstance(value, dict) else value)
        tables: dict[str, _Column] = {}

        def column(name: str, rows: int, dtype: str, page: int, width: tuple[int, ...] = ()) -> None:
            tables[name] = _Column(file, name, (rows, *width), dtype, page)

        column("parameters/seed", entries, "<f8", TABLE_PAGE, (3,))
        for name in ("diffusivity", "proliferation", "duration"):
            column(f"parameters/{name}", entries, "<f8", TABLE_PAGE)
        column("parameters/trajectory", entries, "<i8", TABLE_PAGE)
        for name, unit in PARAMETERS.items():
            write_attribute(file[f"parameters/{name}"], "unit", unit)
        for region in REGIONS:
            column(f"masks/{region}/offsets", entries + 1, "<i8", TABLE_PAGE)
            column(f"masks/{region}/starts", run_counts[region], "<u4", PAGE)
            column(f"masks/{region}/lengths", run_counts[region], "<u1", PAGE)
            column(f"masks/{region}/volume", entries, "<i8", TABLE_PAGE)
        blocks: dict[str, list[NDArray[np.int64]]] = {region: [] for region in REGIONS}
        block_values: dict[str, list[NDArray[np.int64]]] = {region: [] for region in REGIONS}
        ends = dict.fromkeys(REGIONS, 0)
        for region in REGIONS:
            tables[f"masks/{region}/offsets"].append(np.zeros(1, np.int64))
        shape = tuple(int(n) for n in attributes["grid_shape"])
        done = 0
        for piece in pieces:
            for name in PARAMETERS:
                tables[f"parameters/{name}"].append(getattr(piece, name))
            tables["parameters/trajectory"].append(piece.trajectory)
            for region in REGIONS:
                runs = piece.runs[region]
                offsets = ends[region] + np.cumsum([r.starts.size for r in runs], dtype=np.int64)
                ends[region] = int(offsets[-1])
                tables[f"masks/{region}/offsets"].append(offsets)
                tables[f"masks/{region}/starts"].append(np.concatenate([r.starts for r in runs]))
                tables[f"masks/{region}/lengths"].append(np.concatenate([r.lengths for r in runs]))
                tables[f"masks/{region}/volume"].append(np.array([r.volume for r in runs], np.int64))
                for coded in runs:
                    counts = block_counts(coded, shape)  # type: ignore[arg-type]
                    index = np.flatnonzero(counts)
                    blocks[region].append(index.astype(np.uint16))
                    block_values[region].append(counts[index].astype(np.uint16))
            done += len(piece)
            progress(done / entries, "Writing the database")
        for region in REGIONS:
            offsets = np.zeros(entries + 1, np.int64)
            np.cumsum([index.size for index in blocks[region]], out=offsets[1:])
            for name, values, dtype in (
                ("offsets", offsets, "<i8"),
                ("index", np.concatenate(blocks[region]), "<u2"),
                ("count", np.concatenate(block_values[region]), "<u2"),
            ):
                column(f"blocks/{region}/{name}", len(values), dtype, PAGE)
                tables[f"blocks/{region}/{name}"].append(values)
        file["blocks"].attrs["edge"] = BLOCK_EDGE
        digests = {name: (table.dataset, table.digest.digest()) for name, table in tables.items()}
        write_attribute(file, "content_sha256", _combined_digest(file, digests))
        file.attrs["complete"] = True


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


class _Column:
    """A dataset that is written from its beginning to its end."""

    def __init__(self, file: h5py.File, name: str, shape: tuple[int, ...], dtype: str, page: int) -> None:
        # HDF5 has no chunks of nothing, nor any larger than their dataset.
        chunked: dict[str, Any] = {
            "chunks": (min(page, shape[0]), *shape[1:]),
            "compression": "gzip",
            "compression_opts": 4,
            "shuffle": True,
            "fletcher32": True,
        }
        options = chunked if shape[0] else {}
        self.dataset = file.create_dataset(name, shape=shape, dtype=dtype, track_times=False, **options)
        self.digest = hashlib.sha256()
        self._row = 0

    def append(self, values: NDArray[Any]) -> None:
        values = np.ascontiguousarray(values, dtype=self.dataset.dtype)
        if len(values):
            self.dataset[self._row : self._row + len(values)] = values
        self.digest.update(values.tobytes())
        self._row += len(values)


def _combined_digest(file: h5py.File, digests: Mapping[str, tuple[h5py.Dataset, bytes]]) -> str:
    """SHA-256 over the root attributes and the digest, type and shape of every dataset."""
    total = hashlib.sha256()
    for name in ATTRIBUTES:
        total.update(f"{name}={read_attribute(file, name)}\n".encode())
    total.update(f"edge={int(file['blocks'].attrs['edge'])}\n".encode())
    for name, unit in PARAMETERS.items():
        total.update(f"{name}={unit}\n".encode())
    for name in sorted(digests):
        dataset, digest = digests[name]
        total.update(f"{name} {dataset.dtype.str} {dataset.shape} ".encode() + digest)
    return total.hexdigest()


def _content_digest(file: h5py.File, progress: Progress) -> str:
    digests: dict[str, tuple[h5py.Dataset, bytes]] = {}
    datasets: dict[str, h5py.Dataset] = {}
    file.visititems(lambda name, item: datasets.update({name: item}) if isinstance(item, h5py.Dataset) else None)
    size = sum(dataset.nbytes for dataset in datasets.values())
    read = 0
    for name, dataset in datasets.items():
        digest = hashlib.sha256()
        step = 16 * PAGE
        for row in range(0, len(dataset), step):
            values = np.ascontiguousarray(dataset[row : row + step])
            digest.update(values.tobytes())
            read += values.nbytes
            progress(0.5 * read / max(size, 1), "Reading the database")
        digests[name] = (dataset, digest.digest())
    return _combined_digest(file, digests)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn whatever a damaged file makes HDF5 and NumPy raise into one sentence."""
    try:
        yield
    except PermissionError as error:
        raise DatabaseError(f"{path} cannot be read: there is no permission.") from error
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, IndexError, AttributeError, MemoryError) as error:
        if not path.exists():
            raise DatabaseError(f"{path} has gone away; build or copy it again.") from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DatabaseError(
            f"{path} is not a usable database ({reason}); it may be damaged: build or copy it again."
        ) from error


def _read_attributes(file: h5py.File) -> dict[str, Any]:
    if read_attribute(file, "schema") != SCHEMA:
        raise DatabaseError(f"{file.filename} is an HDF5 file, but no database of simulated tumours.")
    version = int(file.attrs["schema_version"])
    if version != SCHEMA_VERSION:
        raise DatabaseError(
            f"{file.filename} has schema version {version}, this software reads version {SCHEMA_VERSION}; "
            f"{'update the software' if version > SCHEMA_VERSION else 'build the database again'}."
        )
    if not bool(file.attrs.get("complete", False)):
        raise DatabaseError(f"{file.filename} was not finished; build it again, with --resume to continue.")
    attributes: dict[str, Any] = {}
    for name in (*ATTRIBUTES, "content_sha256"):
        value = read_attribute(file, name)
        if value is None:
            raise ValueError(f"it has no attribute {name}")
        attributes[name] = json.loads(value) if name in ("prior", "tissue", "initial_condition") else value
    return attributes


def _open_masks(
    path: Path, group: h5py.Group, grid_shape: tuple[int, int, int], entries: int, resident: bool, memory_limit: int
) -> RunLengthMasks:
    offsets = group["offsets"][:]
    volume = group["volume"][:]
    _check_offsets(offsets, entries, len(group["starts"]))
    if len(group["lengths"]) != len(group["starts"]) or volume.shape != (entries,):
        raise ValueError("the masks do not fit the entries")
    reader = _RunReader(path, group, grid_shape)
    source = _LazyRuns(offsets, reader) if resident else _StreamedRuns(offsets, reader, memory_limit)
    return RunLengthMasks(grid_shape, offsets, volume, source)


def _open_blocks(group: h5py.Group, grid_shape: tuple[int, int, int], entries: int) -> BlockCounts:
    if int(group.parent.attrs["edge"]) != BLOCK_EDGE:
        raise ValueError(f"its block counts are not of {BLOCK_EDGE}^3 voxels")
    blocks = BlockCounts(group["offsets"][:], group["index"][:], group["count"][:])
    _check_offsets(blocks.offsets, entries, len(blocks.index))
    size = int(np.prod(block_grid_shape(grid_shape)))
    if len(blocks.index) != len(blocks.count) or (len(blocks.index) and blocks.index.max() >= size):
        raise ValueError("the block counts do not fit the grid")
    return blocks


def _check_offsets(offsets: NDArray[np.int64], entries: int, rows: int) -> None:
    """Wrong offsets would send compiled code out of its arrays."""
    if offsets.shape != (entries + 1,) or offsets[0] != 0 or offsets[-1] != rows or (np.diff(offsets) < 0).any():
        raise ValueError("the offsets do not fit the entries")


class _RunReader:
    """Reads the runs of one region from the file, page by page, and checks them."""

    def __init__(self, path: Path, group: h5py.Group, grid_shape: tuple[int, int, int]) -> None:
        self.path = path
        self.starts, self.lengths = group["starts"], group["lengths"]
        self.size = len(self.starts)
        self.grid_shape = grid_shape

    def read(self, first: int, starts: NDArray[np.uint32], lengths: NDArray[np.uint8]) -> None:
        """Fill the arrays with the runs from number `first` on."""
        piece = np.s_[first : first + len(starts)]
        with _reading(self.path):
            self.starts.read_direct(starts, piece)
            self.lengths.read_direct(lengths, piece)
            if not _runs_are_valid(starts, lengths, int(np.prod(self.grid_shape)), self.grid_shape[2]):
                raise ValueError("a mask leaves its grid")


class _LazyRuns:
    """Runs that stay in memory once they were read; see `masks.RunSource`."""

    def __init__(self, offsets: NDArray[np.int64], reader: _RunReader) -> None:
        self.offsets = offsets
        self._reader = reader
        # Memory that is reserved here is occupied only where it is filled.
        self._starts = np.empty(reader.size, np.uint32)
        self._lengths = np.empty(reader.size, np.uint8)
        self._read = np.zeros(-(-reader.size // PAGE), np.bool_)
        self._all_read = reader.size == 0
        self._lock = threading.Lock()

    def select(self, entries):
        if not self._all_read:
            missing = np.zeros(len(self._read), np.bool_)
            _mark_pages(entries, self.offsets, PAGE, missing)
            missing &= ~self._read
            if missing.any():
                with self._lock:
                    self._load(np.flatnonzero(missing & ~self._read))
        return entries, self.offsets, self._starts, self._lengths

    def _load(self, pages: NDArray[np.int64]) -> None:
        # Neighbouring pages in one call.
        for group in np.split(pages, np.flatnonzero(np.diff(pages) > 1) + 1):
            if len(group):
                piece = slice(group[0] * PAGE, min((group[-1] + 1) * PAGE, self._reader.size))
                self._reader.read(piece.start, self._starts[piece], self._lengths[piece])
                self._read[group] = True
        self._all_read = bool(self._read.all())


class _StreamedRuns:
    """Runs of a database larger than memory: the pages used last are kept; see `masks.RunSource`."""

    def __init__(self, offsets: NDArray[np.int64], reader: _RunReader, memory_limit: int) -> None:
        self.offsets = offsets
        self._reader = reader
        self._pages: OrderedDict[int, tuple[NDArray[np.uint32], NDArray[np.uint8]]] = OrderedDict()
        self._kept = max(1, memory_limit // (RUN_BYTES * PAGE))
        self._lock = threading.Lock()

    def select(self, entries):
        begin, end = self.offsets[entries], self.offsets[entries + 1]
        offsets = np.zeros(len(entries) + 1, np.int64)
        np.cumsum(end - begin, out=offsets[1:])
        starts = np.empty(offsets[-1], np.uint32)
        lengths = np.empty(offsets[-1], np.uint8)
        with self._lock:
            # In the file's order, so that each page is read once even where few are kept.
            for n in np.argsort(begin, kind="stable"):
                at, stop, to = int(begin[n]), int(end[n]), int(offsets[n])
                while at < stop:
                    page = at // PAGE
                    page_starts, page_lengths = self._page(page)
                    inside = at - page * PAGE
                    count = min(stop - at, PAGE - inside)
                    starts[to : to + count] = page_starts[inside : inside + count]
                    lengths[to : to + count] = page_lengths[inside : inside + count]
                    at, to = at + count, to + count
        return np.arange(len(entries)), offsets, starts, lengths

    def _page(self, number: int) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
        if number in self._pages:
            self._pages.move_to_end(number)
            return self._pages[number]
        count = min(PAGE, self._reader.size - number * PAGE)
        page = (np.empty(count, np.uint32), np.empty(count, np.uint8))
        self._reader.read(number * PAGE, *page)
        while len(self._pages) >= self._kept:
            self._pages.popitem(last=False)
        self._pages[number] = page
        return page


@njit(cache=True, nogil=True)
def _mark_pages(entries, offsets, page, marked):
    for n in range(entries.size):
        begin, end = offsets[entries[n]], offsets[entries[n] + 1]
        if end > begin:
            for number in range(begin // page, (end - 1) // page + 1):
                marked[number] = True


@njit(cache=True, nogil=True)
def _runs_are_valid(starts, lengths, size, size_k):
    for run in range(starts.size):
        start = np.int64(starts[run])
        length = np.int64(lengths[run])
        if length == 0 or start + length > size or start % size_k + length > size_k:
            return False
    return True
