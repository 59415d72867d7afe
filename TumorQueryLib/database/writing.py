"""Writing a database file, from its beginning to its end in one pass."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.base.progress import Progress, no_progress
from TumorQueryLib.database.masks import BLOCK_EDGE, BlockCounts, RunLengthMasks
from TumorQueryLib.database.schema import (
    ATTRIBUTES,
    PARAMETERS,
    REGIONS,
    TABLES,
    Entries,
    combined_digest,
    read_attribute,
    write_attribute,
)


def write_database(
    path: Path,
    attributes: Mapping[str, Any],
    entries: int,
    run_counts: Mapping[str, int],
    pieces: Iterable[Entries],
    *,
    progress: Progress = no_progress,
) -> None:
    """Write a whole database file; the caller names it aside and renames it when this returns.

    Parameters
    ----------
    path : Path
        Overwritten.
    attributes : mapping
        The root attributes of `schema.ATTRIBUTES`.
    entries : int
        Number of entries in all.
    run_counts : mapping
        Number of runs in all, for "core" and "whole".
    pieces : iterable of Entries
        All entries in order.
    progress : Progress

    Raises
    ------
    OSError, RuntimeError
        When the file cannot be written, as HDF5 has it.
    """
    i, j, k = (int(n) for n in attributes["grid_shape"])
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        for name in ATTRIBUTES:
            value = attributes[name]
            write_attribute(file, name, json.dumps(value, sort_keys=True) if isinstance(value, dict) else value)
        columns = _create_columns(file, entries, run_counts)
        blocks: dict[str, list[BlockCounts]] = {region: [] for region in REGIONS}
        done = 0
        for piece in pieces:
            for name in (*PARAMETERS, "trajectory"):
                columns[f"parameters/{name}"].append(getattr(piece, name))
            for region, group in REGIONS.items():
                masks = RunLengthMasks.from_runs(piece.runs[region], (i, j, k))
                _append_masks(columns, group, masks)
                blocks[region].append(BlockCounts.of(masks))
            done += len(piece)
            progress(done / entries, "Writing the database")
        for region, group in REGIONS.items():
            counts = BlockCounts.joined(blocks[region])
            for name in ("offsets", "index", "count"):
                values = getattr(counts, name)
                column = columns[f"blocks/{group}/{name}"] = _Column(file, f"blocks/{group}/{name}", len(values))
                column.append(values)
        file["blocks"].attrs["edge"] = BLOCK_EDGE
        digest = combined_digest(
            {name: read_attribute(file, name) for name in ATTRIBUTES},
            {name: column.described() for name, column in columns.items()},
        )
        write_attribute(file, "content_sha256", digest)
        file.attrs["complete"] = True


def _create_columns(file: h5py.File, entries: int, run_counts: Mapping[str, int]) -> dict[str, _Column]:
    """The tables of parameters and masks, still empty; how long those of the blocks will be is not known yet."""
    columns: dict[str, _Column] = {}
    for name in TABLES:
        if name.startswith("parameters/"):
            columns[name] = _Column(file, name, entries)
    for name, unit in PARAMETERS.items():
        write_attribute(file[f"parameters/{name}"], "unit", unit)
    for region, group in REGIONS.items():
        for name, rows in (
            ("offsets", entries + 1),
            ("starts", run_counts[region]),
            ("lengths", run_counts[region]),
            ("volume", entries),
        ):
            columns[f"masks/{group}/{name}"] = _Column(file, f"masks/{group}/{name}", rows)
        columns[f"masks/{group}/offsets"].append(np.zeros(1, np.int64))
    return columns


def _append_masks(columns: Mapping[str, _Column], group: str, masks: RunLengthMasks) -> None:
    written = columns[f"masks/{group}/starts"].filled
    _, _, starts, lengths = masks.source.select(np.arange(len(masks)))
    for name, values in (
        ("offsets", written + masks.offsets[1:]),
        ("starts", starts),
        ("lengths", lengths),
        ("volume", masks.volume),
    ):
        columns[f"masks/{group}/{name}"].append(values)


class _Column:
    """A table that is written from its beginning to its end."""

    def __init__(self, file: h5py.File, name: str, rows: int) -> None:
        table = TABLES[name]
        # HDF5 has no chunks of nothing, nor any larger than their dataset.
        chunked: dict[str, Any] = {
            "chunks": (min(table.page, rows), *table.width),
            "compression": "gzip",
            "compression_opts": 4,
            "shuffle": True,
            "fletcher32": True,
        }
        self._dataset = file.create_dataset(
            name, shape=(rows, *table.width), dtype=table.dtype, track_times=False, **(chunked if rows else {})
        )
        self._digest = hashlib.sha256()
        #: Rows that are written.
        self.filled = 0

    def append(self, values: NDArray[Any]) -> None:
        values = np.ascontiguousarray(values, dtype=self._dataset.dtype)
        if len(values):
            self._dataset[self.filled : self.filled + len(values)] = values
        self._digest.update(values.tobytes())
        self.filled += len(values)

    def described(self) -> tuple[str, tuple[int, ...], bytes]:
        """Type, shape and SHA-256 of the table."""
        return self._dataset.dtype.str, self._dataset.shape, self._digest.digest()
