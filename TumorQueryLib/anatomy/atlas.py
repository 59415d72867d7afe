"""The brain atlas: tissue maps for the growth model, T1 for the registration.

An atlas is a folder that holds `atlas.json` (name, licence, attribution) beside
`wm.nii.gz`, `gm.nii.gz`, `csf.nii.gz` (uint8, 255 = probability 1, one grid) and
`t1.nii.gz` (skull-stripped, 0 outside the brain, on a grid of its own).
`scripts/make_atlas.py` makes the bundled ones.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.base.files import parsed_json
from TumorQueryLib.base.resources import resources_folder
from TumorQueryLib.geometry.grid import Grid, Volume, read_volume

ATLAS_FILES = ("wm.nii.gz", "gm.nii.gz", "csf.nii.gz", "t1.nii.gz")


@dataclass(frozen=True, eq=False)
class Atlas:
    """A brain atlas.

    Parameters
    ----------
    name : str
        Such as "SRI24".
    grid : Grid
        Grid of the tissue maps, RAS mm; the growth model's grid.
    white_matter, grey_matter, csf : ndarray of float32, shape grid.shape
        Probabilities in [0, 1], indexed [i, j, k]; their sum is at most 1.
    t1 : Volume
        Skull-stripped T1 (float32, arbitrary units, 0 outside the brain) for the
        registration, on a grid of its own.
    licence, attribution : str
        Go with everything that is derived from the atlas.
    """

    name: str
    grid: Grid
    white_matter: NDArray[np.float32]
    grey_matter: NDArray[np.float32]
    csf: NDArray[np.float32]
    t1: Volume
    licence: str
    attribution: str

    @classmethod
    def load(cls, name: str | os.PathLike[str] = "SRI24") -> Atlas:
        """Read a bundled atlas by name, or any folder of the same form by path.

        Raises
        ------
        InputError
            When there is no such atlas, a file is missing or unreadable, the
            maps' grids differ, or the T1 shows no brain.
        """
        folder = find_atlas_folder(name)
        missing = [file for file in ("atlas.json", *ATLAS_FILES) if not os.path.isfile(folder / file)]
        if missing:
            raise InputError(
                f"The atlas folder {folder} lacks {', '.join(missing)}; "
                f"an atlas is atlas.json and {', '.join(ATLAS_FILES)}."
            )
        try:
            about = parsed_json((folder / "atlas.json").read_text(encoding="utf-8"))
            described = {key: str(about[key]) for key in ("name", "licence", "attribution")}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{folder / 'atlas.json'} must be a JSON object with name, licence and attribution ({error})."
            ) from error
        volumes = [read_volume(folder / file) for file in ATLAS_FILES]
        for file, volume in zip(ATLAS_FILES[1:3], volumes[1:3]):
            if not volume.grid.matches(volumes[0].grid):
                raise InputError(f"{file} of the atlas in {folder} is on another grid than wm.nii.gz.")
        for file, volume in zip(ATLAS_FILES[:3], volumes[:3]):
            if volume.array.dtype != np.uint8:
                raise InputError(
                    f"{file} of the atlas in {folder} holds {volume.array.dtype}; tissue maps are uint8 with 255 = 1."
                )
        maps = [volume.array.astype(np.float32) / np.float32(255) for volume in volumes[:3]]
        total = np.maximum(maps[0] + maps[1] + maps[2], np.float32(1))
        white_matter, grey_matter, csf = (m / total for m in maps)
        # Written so that NaN counts as nothing too.
        if not (volumes[3].array > 0).any():
            raise InputError(
                f"t1.nii.gz of the atlas in {folder} is nowhere above 0, so it shows no brain; it is the "
                "skull-stripped T1, 0 outside the brain."
            )
        t1 = Volume(volumes[3].array.astype(np.float32), volumes[3].grid)
        return cls(
            grid=volumes[0].grid, white_matter=white_matter, grey_matter=grey_matter, csf=csf, t1=t1, **described
        )

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of what the growth model sees: grid and tissue maps, whatever file held them."""
        digest = hashlib.sha256()
        digest.update(np.array(self.grid.shape, "<i8").tobytes())
        digest.update(self.grid.affine.astype("<f8").tobytes())
        for tissue in (self.white_matter, self.grey_matter, self.csf):
            # Through the stored eight bits, so that the sum does not hang on float rounding.
            digest.update(np.rint(tissue * 255).astype(np.uint8).tobytes())
        return digest.hexdigest()

    @cached_property
    def brain_mask(self) -> Volume:
        """Where the T1 is above 0: the brain on the T1's grid (boolean)."""
        return Volume(self.t1.array > 0, self.t1.grid)


def find_atlas_folder(name: str | os.PathLike[str]) -> Path:
    """The folder of an atlas, by the name of a bundled one or by path.

    Raises
    ------
    InputError
        Naming the bundled atlases where there is no such folder.
    """
    bundled = bundled_atlases()
    folder = bundled.get(str(name), Path(name))
    if os.path.isdir(folder):
        return folder
    raise InputError(
        f"There is no atlas {name!s}; bundled are {', '.join(bundled)}, or give the path of an atlas folder."
    )


def bundled_atlases() -> dict[str, Path]:
    """The folders of the bundled atlases by name."""
    return {path.name: path for path in sorted((resources_folder() / "Atlas").iterdir()) if path.is_dir()}
