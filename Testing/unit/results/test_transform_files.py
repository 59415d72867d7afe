"""Transforms that were written come back as they were; files that were crafted are refused before ITK sees them."""

import h5py
import numpy as np
import pytest
import SimpleITK as sitk

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.grid import Grid
from TumorQueryLib.geometry.transforms import displacement_transform
from TumorQueryLib.results.transform_files import read_transform, write_transform

POINTS = [(0.0, 0.0, 0.0), (1.0, -2.0, 5.0), (-9.5, 4.25, 20.0), (100.0, 0.0, 0.0)]


def affine():
    transform = sitk.AffineTransform(3)
    transform.SetMatrix([1.1, 0.1, 0, -0.2, 0.9, 0.05, 0, 0.1, 1.2])
    transform.SetTranslation([3, -4, 5.5])
    transform.SetCenter([1, 2, 3])
    return transform


def field():
    matrix = np.array([[2.0, 0.1, 0, -9], [-0.1, 2.0, 0, -8], [0, 0, 3, -1], [0, 0, 0, 1]])
    matrix[:3, :3] /= np.linalg.norm(matrix[:3, :3], axis=0) / [2, 2, 3]
    values = np.random.default_rng(3).normal(size=(3, 9, 8, 7)).astype(np.float32)
    return displacement_transform(values, Grid((9, 8, 7), matrix))


MADE = {
    "affine": affine,
    "field": field,
    "both": lambda: sitk.CompositeTransform([affine(), field()]),
    "both, inverted": lambda: sitk.CompositeTransform([field(), affine().GetInverse()]),
}


@pytest.mark.parametrize("kind", MADE)
def test_what_was_written_comes_back_to_the_last_bit(tmp_path, kind):
    write_transform(MADE[kind](), tmp_path / "t.h5")
    read, itk = read_transform(tmp_path / "t.h5"), sitk.ReadTransform(str(tmp_path / "t.h5"))
    for point in POINTS:
        assert read.TransformPoint(point) == itk.TransformPoint(point)
    assert read.TransformPoint(POINTS[1]) != POINTS[1]


def replaced(file, name, **made):
    del file[name]
    file.create_dataset(name, **made)


CRAFTED = {
    "no group": lambda file: file.pop("TransformGroup"),
    "no parameters": lambda file: file["TransformGroup/1"].pop("TransformParameters"),
    "not finite": lambda file: file["TransformGroup/1/TransformParameters"].write_direct(np.full(12, np.nan)),
    "singular": lambda file: file["TransformGroup/1/TransformParameters"].write_direct(np.zeros(12)),
    "larger grid": lambda file: file["TransformGroup/2/TransformFixedParameters"].__setitem__(0, 1e6),
    "negative spacing": lambda file: file["TransformGroup/2/TransformFixedParameters"].__setitem__(6, -1),
    "many": lambda file: [file.copy("TransformGroup/1", f"TransformGroup/{n}") for n in range(3, 20)],
    "composite in composite": lambda file: file.copy("TransformGroup/0", "TransformGroup/3"),
    "another file": lambda file: replaced(
        file, "TransformGroup/1/TransformParameters", shape=(12,), dtype="<f8", external=[("density.nrrd", 0, 96)]
    ),
    "a claim": lambda file: replaced(
        file, "TransformGroup/2/TransformParameters", shape=(10**12,), dtype="<f8", chunks=(1000,)
    ),
    "a link": lambda file: file.__setitem__("TransformGroup/3", h5py.ExternalLink("other.h5", "/TransformGroup/1")),
}


@pytest.mark.parametrize("kind", CRAFTED)
def test_a_crafted_file_is_refused_in_a_sentence(tmp_path, kind):
    path = tmp_path / "t.h5"
    write_transform(MADE["both"](), path)
    with h5py.File(path, "r+") as file:
        CRAFTED[kind](file)
    with pytest.raises(InputError, match=r"t\.h5 is no transform of this software") as raised:
        read_transform(path)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_missing_or_no_hdf5_is_refused(tmp_path):
    (tmp_path / "text.h5").write_text("no transform")
    for name in ("text.h5", "missing.h5"):
        with pytest.raises(InputError, match=f"{name} is no transform"):
            read_transform(tmp_path / name)
