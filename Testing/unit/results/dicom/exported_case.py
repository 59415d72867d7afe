"""Small made-up series as scanners write them, with a tumour that has all that outlines can have."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from awkward_grids import centred_grid, placed_affine
from sample_as_dicom import Study

from TumorQueryLib.geometry.grid import Grid, Volume

#: Axial oblique, and sagittal with a left-handed array: shape, affine. Voxels are no cubes, slices no squares.
SERIES = {
    "axial oblique": ((48, 40, 20), placed_affine((1.5, 1.6, 3.5), (12.0, -8.0, 20.0), (-1, -1, 1))),
    "sagittal left-handed": ((40, 44, 18), placed_affine((1.6, 1.5, 3.0), (5.0, 8.0, -12.0), (1, -1, 1), (1, 2, 0))),
}


#: Of the files' headers; nothing of it may be found in a result. None: not there.
PATIENT = {
    "SpecificCharacterSet": "ISO_IR 100",
    "PatientName": "Müßig^Jörg",
    "PatientID": "4711-ID",
    "PatientBirthDate": "19510203",
    "PatientSex": "F",
    "StudyDescription": "Schädel",
    "ReferringPhysicianName": "Überweiser^A",
    "AccessionNumber": None,
}


@dataclass
class Case:
    """A series in a folder, and what lies on the grid by which it was drawn."""

    study: Study
    folder: Path
    files: list
    grid: Grid
    core: np.ndarray
    whole: np.ndarray
    plan: np.ndarray
    density: np.ndarray

    def volume(self, name) -> Volume:
        return Volume(getattr(self, name), self.grid)


def write_case(name, folder, **header) -> Case:
    """The series of this name, its files with more or other elements in their header; None leaves one out.

    A head with a tumour: the core a shell open to one side, the whole with holes, the plan with an island in one.
    """
    shape, affine = SERIES[name]
    grid = centred_grid(shape, affine)
    points = grid.to_ras(np.moveaxis(np.indices(shape), 0, -1))

    def from_point(*point):
        return np.linalg.norm(points - point, axis=-1)

    distance = from_point(3.0, -4.0, 2.0)
    core = (distance < 9) & (distance > 4)
    whole = (distance < 17) & (from_point(13.0, -4.0, 2.0) > 3) & (from_point(3.0, 7.0, 2.0) > 4)
    whole |= core
    plan = (distance < 20) & ((from_point(14.0, -4.0, 2.0) > 4.5) | (from_point(14.0, -4.0, 2.0) < 2))
    density = (1 / (1 + np.exp((distance - 12) / 3))).astype(np.float32)
    head = np.linalg.norm(points / [30.0, 32.0, 34.0], axis=-1) < 1
    image = np.where(head, 400 + 40 * np.sin(points / 7).sum(axis=-1) + 200 * core + 80 * whole, 0).clip(0)
    study = Study()
    files = study.write_series(folder, image.astype(np.uint16), grid.affine)
    for path in folder.iterdir() if header else ():
        data = pydicom.dcmread(path)
        for name, value in header.items():
            if value is None:
                delattr(data, name)
            else:
                setattr(data, name, value)
        data.save_as(path)
    return Case(study, folder, files, grid, core, whole, plan, density)
