"""Make the bundled atlases from the published maps.

    python scripts/make_atlas.py sri24 FOLDER      -> Resources/Atlas/SRI24
    python scripts/make_atlas.py mni152 FOLDER     -> Resources/Atlas/MNI152

FOLDER holds the published maps: for SRI24 pbmap_wm/gm/csf.nii.gz and
t1_stripped.nii.gz, for MNI152 mni_icbm152_wm/gm/csf_pbmap.nii.gz and
mni_icbm152_t1_stripped.nii.gz. The maps are divided by their sum where it exceeds
1 and resampled to 128^3 voxels of 1.5 mm centred on the tissue's bounding box;
the T1 keeps its 1 mm and is cropped to the brain.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from TumorQueryLib.geometry.grid import Grid, Volume, image_from_volume, resample, volume_from_image
from TumorQueryLib.geometry.regions import bounding_box

SIZE = 128
SPACING = 1.5
ATLASES = {
    "sri24": {
        "name": "SRI24",
        "maps": ("pbmap_wm.nii.gz", "pbmap_gm.nii.gz", "pbmap_csf.nii.gz"),
        "t1": "t1_stripped.nii.gz",
        "notice": "LICENSE_SRI24_CC-BY-SA-3.0.txt",
        "licence": "CC BY-SA 3.0",
        "attribution": (
            "Derived from the SRI24 atlas: T. Rohlfing, N. M. Zahr, E. V. Sullivan, A. Pfefferbaum, The SRI24 "
            "multichannel atlas of normal adult human brain structure, Human Brain Mapping 31(5):798-819, 2010, "
            "doi:10.1002/hbm.20906. Changes: tissue maps normalised where their sum exceeds 1, resampled to "
            "128^3 voxels of 1.5 mm, stored as uint8; T1 cropped to the brain and stored as uint8."
        ),
    },
    "mni152": {
        "name": "MNI152",
        "maps": ("mni_icbm152_wm_pbmap.nii.gz", "mni_icbm152_gm_pbmap.nii.gz", "mni_icbm152_csf_pbmap.nii.gz"),
        "t1": "mni_icbm152_t1_stripped.nii.gz",
        "notice": "NOTICE.txt",
        "licence": "ICBM 152 notice (see NOTICE.txt)",
        "attribution": (
            "Derived from the MNI ICBM152 2009a nonlinear symmetric atlas: V. Fonov, A. C. Evans, K. Botteron, "
            "C. R. Almli, R. C. McKinstry, D. L. Collins, Unbiased average age-appropriate atlases for pediatric "
            "studies, NeuroImage 54(1):313-327, 2011, doi:10.1016/j.neuroimage.2010.07.033. Changes: tissue maps "
            "normalised where their sum exceeds 1, resampled to 128^3 voxels of 1.5 mm, stored as uint8; T1 "
            "cropped to the brain and stored as uint8."
        ),
    },
}


def read(path: Path) -> Volume:
    """A volume; a fourth dimension of one is dropped."""
    image = sitk.ReadImage(str(path), sitk.sitkFloat32)
    if image.GetDimension() == 4:
        image = image[:, :, :, 0]
    return volume_from_image(image)


def write(volume: Volume, path: Path) -> None:
    """Write uint8 NIfTI, 255 = 1."""
    sitk.WriteImage(image_from_volume(volume), str(path), useCompression=True, compressionLevel=9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("atlas", choices=sorted(ATLASES))
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    about = ATLASES[arguments.atlas]
    maps = [read(arguments.folder / file) for file in about["maps"]]
    total = sum(m.array for m in maps)
    start, stop = bounding_box(total > 0.5)
    centre = maps[0].grid.to_ras((start + stop - 1) / 2)
    # Whole half-millimetres keep the stored affine exact in every file format.
    grid = Grid.isotropic(SIZE, SPACING, np.round(centre * 2) / 2)
    target = Path(__file__).resolve().parents[1] / "Resources" / "Atlas" / about["name"]
    target.mkdir(parents=True, exist_ok=True)
    for tissue, volume in zip(("wm", "gm", "csf"), maps):
        normalised = Volume(volume.array / np.maximum(total, 1), volume.grid)
        array = np.rint(np.clip(resample(normalised, grid).array, 0, 1) * 255).astype(np.uint8)
        write(Volume(array, grid), target / f"{tissue}.nii.gz")
        print(f"{tissue}: {array.sum(dtype=float) / 255 * grid.voxel_volume_ml:.1f} ml")
    t1 = read(arguments.folder / about["t1"])
    start, stop = bounding_box(t1.array > 0)
    box = tuple(slice(a, b) for a, b in zip(start, stop))
    brain = t1.array[box]
    scale = 254 / np.percentile(brain[brain > 0], 99.9)
    array = np.where(brain > 0, np.clip(np.rint(brain * scale), 1, 255), 0).astype(np.uint8)
    write(Volume(array, t1.grid.cropped(start, stop)), target / "t1.nii.gz")
    shutil.copyfile(arguments.folder / about["notice"], target / about["notice"])
    described = {key: about[key] for key in ("name", "licence", "attribution")}
    (target / "atlas.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
