"""The bundled data with the sample case at every second voxel, in which an inference takes a fraction of the time."""

import shutil
from pathlib import Path

import SimpleITK as sitk

from TumorQueryLib.base.resources import resources_folder


def write_thinned_sample(folder: Path) -> Path:
    """Copy the bundled data, of the sample case's images every second voxel; for TUMORQUERY_RESOURCES."""
    shutil.copytree(resources_folder(), folder)
    for path in (folder / "SampleData").glob("*.n*"):
        sitk.WriteImage(sitk.ReadImage(str(path))[::2, ::2, ::2], str(path))
    return folder
