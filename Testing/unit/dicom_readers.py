"""What other programs read in the objects that are exported: dcmqi and plastimatch, where their wheels exist."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from TumorQueryLib.geometry.grid import read_volume


def program(package: str, name: str) -> Path:
    """A program of a package; skips the test where there is no wheel of it for this platform."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed: PyPI has wheels of it for Linux on x86_64 only, or for few others.")
    return Path(sys.executable).with_name(name)


def run(*command) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, encoding="utf-8", errors="replace")
    assert done.returncode == 0, (
        f"{command[0]} ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    )


def segments_by_dcmqi(path, folder) -> dict:
    """Label of each segment to its volume and what is said of it; of the frames that are stored."""
    folder.mkdir()
    tool = program("dcmqi", "segimage2itkimage")
    run(tool, "--inputDICOM", path, "--outputDirectory", folder, "-t", "nrrd", "-p", "s")
    told = json.loads((folder / "s-meta.json").read_text(encoding="utf-8"))
    items = [item for group in told["segmentAttributes"] for item in group]
    return {
        item["SegmentLabel"]: (read_volume(folder / f"s-{number}.nrrd"), item) for number, item in enumerate(items, 1)
    }


def map_by_dcmqi(path, folder):
    """A Parametric Map's volume, and what is said of it."""
    folder.mkdir()
    run(program("dcmqi", "paramap2itkimage"), "--inputDICOM", path, "--outputDirectory", folder, "-t", "nrrd")
    return read_volume(folder / "pmap.nrrd"), json.loads((folder / "meta.json").read_text(encoding="utf-8"))


def structures_by_plastimatch(path, series, folder) -> dict:
    """Name of each structure to its volume on the series' grid."""
    tool = program("plastimatch", "plastimatch")
    options = ["--referenced-ct", series, "--output-prefix", folder, "--prefix-format", "nrrd"]
    run(tool, "convert", "--input", path, *options)
    return {file.stem: read_volume(file) for file in folder.iterdir()}


def spread_on(grid, volume) -> np.ndarray:
    """The voxels of a volume on a grid of which it holds some slices: empty frames are not stored."""
    index = grid.to_index(volume.grid.to_ras(np.argwhere(volume.array)))
    assert np.abs(index - np.rint(index)).max(initial=0) < 0.02, "the voxels do not lie on one another"
    mask = np.zeros(grid.shape, dtype=bool)
    mask[tuple(np.rint(index).astype(int).T)] = True
    assert mask.sum() == np.count_nonzero(volume.array)
    return mask
