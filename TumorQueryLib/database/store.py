"""A database of simulated tumours, opened: parameters in memory, masks read when they are used."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from TumorQueryLib.anatomy.atlas import Atlas, bundled_atlases
from TumorQueryLib.base.errors import DatabaseError
from TumorQueryLib.base.progress import Progress, no_progress, part
from TumorQueryLib.base.resources import resources_folder
from TumorQueryLib.database.checks import check_blocks, check_parameters
from TumorQueryLib.database.masks import BATCH_ENTRIES, BlockCounts, RunLengthMasks, batches
from TumorQueryLib.database.runs_on_disk import open_masks
from TumorQueryLib.database.schema import (
    PARAMETERS,
    REGIONS,
    ParameterTable,
    content_digest,
    damaged,
    grid_of,
    read_attributes,
    read_table,
    reading,
)
from TumorQueryLib.database.structure import find_tables
from TumorQueryLib.growth.parameters import GrowthParameters


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
    solver_version : str
        By which `growth.simulate` gives an entry's density back.
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
        self.attributes = read_attributes(path, file)
        self.grid = grid_of(path, self.attributes)
        self._tables = tables = find_tables(path, file)
        self.sha256: str = self.attributes["content_sha256"]
        self.atlas_name: str = self.attributes["atlas_name"]
        self.atlas_sha256: str = self.attributes["atlas_sha256"]
        self.solver_version: str = self.attributes["solver_version"]
        self.threshold_core: float = self.attributes[f"threshold_{REGIONS['core']}"]
        self.threshold_whole: float = self.attributes[f"threshold_{REGIONS['whole']}"]
        self._parameters = ParameterTable(
            *(read_table(path, tables[f"parameters/{name}"]) for name in (*PARAMETERS, "trajectory"))
        )
        check_parameters(path, self._parameters)
        self.seed = self._parameters.seed
        self.diffusivity = self._parameters.diffusivity
        self.proliferation = self._parameters.proliferation
        self.duration = self._parameters.duration
        self.trajectory = self._parameters.trajectory
        masks = open_masks(path, tables, self.grid.shape, memory_limit)
        self.core, self.whole = (masks[region] for region in REGIONS)
        self.core_blocks, self.whole_blocks = (
            _read_blocks(path, tables, group, masks[region]) for region, group in REGIONS.items()
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
        with reading(path):
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
        """Parameters of one entry; `growth.simulate` gives its density, by the file's `solver_version`."""
        return self._parameters.parameters(entry)

    def load_atlas(self, atlas: Atlas | str | os.PathLike[str] | None = None) -> Atlas:
        """The atlas that the entries were grown in.

        Parameters
        ----------
        atlas : Atlas, str or path, optional
            The atlas, the name of a bundled one, or an atlas folder; by default the bundled
            atlas that the database names.

        Raises
        ------
        DatabaseError
            When the database's atlas is not bundled and none is given, or another one is given.
        InputError
            When the given atlas cannot be read.
        """
        if atlas is None:
            if self.atlas_name not in bundled_atlases():
                raise DatabaseError(
                    f"This database was made in the atlas {self.atlas_name}, which is not bundled; "
                    "name its folder with --atlas."
                )
            atlas = self.atlas_name
        if not isinstance(atlas, Atlas):
            atlas = Atlas.load(atlas)
        self.check_atlas(atlas)
        return atlas

    def check_atlas(self, atlas: Atlas) -> None:
        """Refuse another atlas than the one that the entries were grown in.

        Raises
        ------
        DatabaseError
        """
        if atlas.sha256 != self.atlas_sha256:
            raise DatabaseError(
                f"{self.path.name} was made in the atlas {self.atlas_name} (SHA-256 {self.atlas_sha256[:12]}), "
                f"not in {atlas.name} (SHA-256 {atlas.sha256[:12]}); name the folder of that atlas with --atlas, or "
                "build a database for this one."
            )

    def verify(self, *, progress: Progress = no_progress) -> None:
        """Read everything and check that it is whole and consistent.

        Raises
        ------
        DatabaseError
            Naming what is damaged.
        """
        found = content_digest(self.path, self._file, self._tables, progress=part(progress, 0.0, 0.5))
        if found != self.sha256:
            raise damaged(self.path, "its content does not have the SHA-256 that it was written with")
        self._verify_region("core", self.core, self.core_blocks, part(progress, 0.5, 0.75))
        self._verify_region("whole", self.whole, self.whole_blocks, part(progress, 0.75, 1.0))

    def _verify_region(self, region: str, masks: RunLengthMasks, blocks: BlockCounts, progress: Progress) -> None:
        for entries in batches(len(self), BATCH_ENTRIES):
            progress(entries[0] / len(self), "Checking the masks")
            counted = BlockCounts.of(masks, entries)
            for n, entry in enumerate(entries.tolist()):
                index, count = counted.of_entry(n)
                stored_index, stored_count = blocks.of_entry(entry)
                if (
                    int(count.sum(dtype=np.int64)) != masks.volume[entry]
                    or not np.array_equal(index, stored_index)
                    or not np.array_equal(count, stored_count)
                ):
                    raise damaged(self.path, f"volume or block counts of entry {entry} do not fit its {region} mask")


def _read_blocks(path: Path, tables: Mapping[str, h5py.Dataset], group: str, masks: RunLengthMasks) -> BlockCounts:
    blocks = BlockCounts(
        *(read_table(path, tables[f"blocks/{group}/{name}"]) for name in ("offsets", "index", "count"))
    )
    check_blocks(path, blocks, masks)
    return blocks


def find_database(name_or_path: str | os.PathLike) -> Path:
    """The file of a database, by the name of a bundled one or by path.

    Raises
    ------
    DatabaseError
        Naming the bundled databases where there is no such file.
    """
    path, bundled = Path(name_or_path), bundled_databases()
    if str(name_or_path) in bundled:
        return bundled[str(name_or_path)]
    if os.path.isfile(path):
        return path
    names = ", ".join(bundled) or "none"
    unfinished = os.path.exists(f"{path}.partial")
    hint = " Its build was not finished: build it with --resume." if unfinished else ""
    raise DatabaseError(f"There is no database {name_or_path}.{hint} Bundled: {names}; or give the path of a file.")


def bundled_databases() -> dict[str, Path]:
    """The files of the bundled databases by name."""
    return {file.stem: file for file in sorted((resources_folder() / "Databases").glob("*.h5"))}


def describe_database(
    name_or_path: str | os.PathLike[str], *, verify: bool = False, progress: Progress = no_progress
) -> dict[str, Any]:
    """What a database holds, as a JSON-ready dict; with `verify`, after reading and checking everything.

    Raises
    ------
    DatabaseError
        When the file cannot be used, or `verify` finds damage.
    """
    with TumorDatabase.open(name_or_path) as database:
        if verify:
            database.verify(progress=progress)
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
