"""A small atlas in a folder of its own, a database grown in it, and patients of its space, for tests of the whole way.

An inference in it costs a second, most of which is the report.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from awkward_grids import centred_grid, placed_affine
from synthetic_database import small_brain

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.base.method import Method
from TumorQueryLib.cli import main
from TumorQueryLib.database import build_database
from TumorQueryLib.geometry.grid import Grid, Volume, image_from_volume, resample
from TumorQueryLib.inputs.patient import Patient

CENTRE = (3.0, -7.0, 11.0)  # of the small brain, RAS mm


def world_brain() -> Atlas:
    """The small brain with a radius of 60 mm, 32^3 voxels of 4 mm."""
    return small_brain(size=32, spacing=4.0)


def write_atlas(folder, atlas: Atlas):
    """An atlas as a folder that `Atlas.load` reads; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    maps = {"wm": atlas.white_matter, "gm": atlas.grey_matter, "csf": atlas.csf}
    volumes = {name: Volume(np.rint(array * 255).astype(np.uint8), atlas.grid) for name, array in maps.items()}
    for name, volume in (volumes | {"t1": atlas.t1}).items():
        sitk.WriteImage(image_from_volume(volume), str(folder / f"{name}.nii.gz"))
    about = {"name": atlas.name, "licence": atlas.licence, "attribution": atlas.attribution}
    (folder / "atlas.json").write_text(json.dumps(about), encoding="utf-8")
    return folder


def write_resources(folder: Path) -> Path:
    """Bundled data of the small world: its atlas is called SRI24 (and MNI152), its database starter."""
    for name in ("SRI24", "MNI152"):
        write_atlas(folder / "Atlas" / name, replace(world_brain(), name=name))
    (folder / "Databases").mkdir()
    build_database(folder / "Databases" / "starter.h5", Atlas.load(folder / "Atlas" / "SRI24"), 64, random_seed=3)
    return folder


@dataclass(frozen=True)
class World:
    """An atlas in a folder, and the file of a database of 24 tumours of it."""

    atlas: Atlas
    atlas_folder: Path
    database: Path

    @classmethod
    def build(cls, folder: Path) -> "World":
        """Write the atlas, and grow the database by the command."""
        atlas_folder, database = write_atlas(folder / "my ätlas", world_brain()), folder / "tumors.h5"
        call = ["build", database, "--entries", 24, "--random-seed", 3, "--atlas", atlas_folder, "--workers", 1]
        assert main([str(word) for word in call]) == 0
        return cls(Atlas.load(atlas_folder), atlas_folder, database)

    def method(self, **changes) -> Method:
        """A method of this world with a small budget; aligning the images would take as long as all the rest."""
        usual = {"database": str(self.database), "atlas": str(self.atlas_folder), "registration": "none"}
        return Method(**usual | {"refine_solves": 6, "align": False} | changes)

    def options(self, **changes) -> list[str]:
        """The same method as options of the command line."""
        chosen = self.method(**changes)
        named = ("database", "atlas", "registration", "refine", "refine_solves")
        words = [text for name in named for text in (f"--{name.replace('_', '-')}", str(getattr(chosen, name)))]
        return words if chosen.align else [*words, "--no-align"]


def scanner_grid() -> Grid:
    """The small brain as a scanner sees it: oblique, axes about along LPS, 2.2 mm slices, its middle not a voxel's."""
    affine = placed_affine(spacing=(2.0, 2.0, 2.2), angles=(8.0, -5.0, 12.0), flips=(-1, -1, 1))
    return centred_grid((70, 68, 64), affine, CENTRE)


def world_patient(
    grid: Grid | None = None, *, tumour_centre=(28.0, -2.0, 20.0), core_radius=9.0, whole_radius=17.0, **changes
) -> Patient:
    """A patient whose brain is the small one and whose tumour is two balls, one in the other."""
    grid = scanner_grid() if grid is None else grid
    points = grid.to_ras(np.moveaxis(np.indices(grid.shape), 0, -1))
    distance = np.linalg.norm(points - np.array(tumour_centre), axis=-1)
    return patient_of_masks(distance < core_radius, distance < whole_radius, grid, **changes)


def patient_of_masks(core, whole, grid: Grid, **changes) -> Patient:
    """A patient whose brain is the small one and whose segmentation is given, boolean on `grid`."""
    brain = resample(world_brain().t1, grid).array
    volumes = {
        "t1gd": Volume((brain + 70 * (core & (brain > 0))).astype(np.float32), grid),
        "flair": Volume((brain + 50 * (whole & (brain > 0))).astype(np.float32), grid),
        "core": Volume(core, grid),
        "whole": Volume(whole, grid),
    }
    return Patient(**(volumes | changes))


def write_patient(folder, patient: Patient) -> dict[str, str]:
    """A patient's files, as the arguments of `Patient.load`."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = np.where(patient.core.array, 4, np.where(patient.whole.array, 2, 0)).astype(np.uint8)
    volumes = {"t1gd": patient.t1gd, "flair": patient.flair, "segmentation": Volume(labels, patient.whole.grid)}
    files = {}
    for name, volume in volumes.items():
        files[name] = str(folder / f"{name}.nii.gz")
        sitk.WriteImage(image_from_volume(volume), files[name])
    return files | {"labels": "core=4/whole=2,4"}
