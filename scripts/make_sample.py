"""Make the sample case: the MRI of a simulated tumour, whose true cell density is known.

    python scripts/make_sample.py            -> Resources/SampleData

A tumour with the parameters below is grown in MNI152, an anatomy that the bundled
database does not know. The head is turned, scaled and warped smoothly into a
scanner's space; T1Gd and FLAIR are painted there from the atlas' T1, its tissue
maps and the density: an enhancing rim around a necrotic centre, oedema that
follows white matter, noise, a bias field. No patient's data go into it.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import optimize
from scipy.spatial.transform import Rotation

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))
from TumorQueryLib.anatomy.atlas import Atlas, find_atlas_folder
from TumorQueryLib.geometry.grid import Grid, Volume, image_from_volume, ras_to_lps, resample
from TumorQueryLib.geometry.transforms import in_turn
from TumorQueryLib.growth import GrowthParameters, simulate
from TumorQueryLib.studies import phantom

ATLAS = "MNI152"
RANDOM_SEED = 20240607
PARAMETERS = GrowthParameters.from_identifiable(
    seed=(31.0, -42.0, 25.0), infiltration_length=2.7, rho_t=10.0, proliferation=0.03
)
#: Of core and whole tumour.
THRESHOLDS = (0.6, 0.2)

#: How the head lies in the scanner: degrees about R, A, S, then mm. The scale gives 1.5 l of brain; MNI152 has 1.9 l.
TILT = (-9.0, 4.0, 7.0)
SHIFT = (6.0, -14.0, 21.0)
SCALE = 0.92
#: Greatest displacement of the smooth warp and the distance over which it varies, in mm.
WARP = 6.0
WARP_SCALE = 28.0


def axial_grid(spacing: tuple[float, float, float], shape: tuple[int, int, int], tilt: float, centre) -> Grid:
    """A scanner's axial stack: columns to the patient's left, rows to the back, slices upwards, tilted about R."""
    axes = Rotation.from_euler("x", tilt, degrees=True).as_matrix() @ np.diag([-1.0, -1.0, 1.0])
    affine = np.eye(4)
    affine[:3, :3] = axes * np.array(spacing)
    affine[:3, 3] = np.asarray(centre) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


def scanner_to_atlas(random: np.random.Generator, atlas: Atlas, centre: NDArray[np.float64]) -> sitk.Transform:
    """The map of points (LPS mm) from the scanner's space to the atlas: a smooth warp, then the tilt."""
    warp = phantom.textured_warp(random, centre, WARP, WARP_SCALE)
    tilt = sitk.Similarity3DTransform()
    tilt.SetCenter(ras_to_lps(centre).tolist())
    # Turned in RAS: conjugation by diag(-1, -1, 1) turns the same rotation in LPS.
    flip = np.diag([-1.0, -1.0, 1.0])
    turned = flip @ Rotation.from_euler("xyz", TILT, degrees=True).as_matrix().T @ flip
    tilt.SetMatrix((turned / SCALE).ravel().tolist())
    middle_of_brain = atlas.t1.grid.to_ras(np.argwhere(atlas.brain_mask.array)).mean(axis=0)
    tilt.SetTranslation((ras_to_lps(middle_of_brain) - ras_to_lps(centre)).tolist())
    return in_turn(warp, tilt)


def write(volume: Volume, path: Path) -> None:
    sitk.WriteImage(image_from_volume(volume), str(path), useCompression=True, compressionLevel=9)


def from_atlas(point, transform: sitk.Transform, start) -> NDArray[np.float64]:
    """The scanner's point (RAS mm) that the transform sends to a point of the atlas (RAS mm)."""

    def miss(guess: NDArray) -> NDArray:
        return ras_to_lps(transform.TransformPoint(ras_to_lps(guess).tolist())) - np.asarray(point)

    return optimize.root(miss, start, tol=1e-6).x


def length_scale(points: NDArray, transform: sitk.Transform) -> float:
    """Mean of |det J|^(-1/3) at points (RAS mm): how much longer lengths are in the scanner than in the atlas."""
    scales = []
    for point in ras_to_lps(points):
        steps = [
            (np.array(transform.TransformPoint((point + d).tolist())) - transform.TransformPoint((point - d).tolist()))
            / 2
            for d in np.eye(3)
        ]
        scales.append(abs(np.linalg.det(steps)) ** (-1 / 3))
    return float(np.mean(scales))


def write_images(target: Path, atlas: Atlas) -> tuple[sitk.Transform, Volume, Volume]:
    """Write the images, the labels and the true density.

    Returns
    -------
    scanner_to_atlas : SimpleITK.Transform
    labels, density : Volume
        As written, on the T1Gd's grid.
    """
    random = np.random.default_rng(RANDOM_SEED)
    density = simulate(PARAMETERS, atlas)
    centre = np.array(SHIFT)
    transform = scanner_to_atlas(random, atlas, centre)
    t1gd_grid = axial_grid((1.0, 1.0, 1.5), (176, 208, 116), -11.0, centre)
    flair_grid = axial_grid((0.9, 0.9, 3.0), (192, 232, 58), -14.0, centre + np.array([1.5, -2.0, 1.0]))
    # One texture of the tumour for both images and for the reader.
    isotropic = Grid.isotropic(176, 1.25, centre)
    noises = [Volume(phantom.textured_noise(random, isotropic, scale), isotropic) for scale in (3.5, 1.25, 4.0)]
    heads, textures = {}, {}
    for name, grid, paint in (
        ("t1gd", t1gd_grid, phantom.paint_t1gd),
        ("flair", flair_grid, phantom.paint_flair),
    ):
        heads[name] = phantom.Head.carried(atlas, density, transform, grid)
        textures[name] = phantom.Textures(*(resample(noise, grid).array for noise in noises))
        image = paint(heads[name], textures[name], THRESHOLDS)
        write(phantom.scan(image, heads[name], random, noise=0.025, white=400), target / f"{name}.nii.gz")
    labels = phantom.read_labels(heads["t1gd"], textures["t1gd"], THRESHOLDS)
    write(labels, target / "segmentation.nii.gz")
    # Three digits are enough, and few values compress well.
    true_density = Volume(np.round(heads["t1gd"].density, 3).astype(np.float32), t1gd_grid)
    write(true_density, target / "density_true.nrrd")
    return transform, labels, true_density


def described(atlas: Atlas, transform: sitk.Transform, true_density: Volume) -> dict:
    """The content of sample.json."""
    tumour = true_density.grid.to_ras(np.argwhere(true_density.array > THRESHOLDS[1]))
    scale = length_scale(tumour[::50], transform)
    return {
        "description": "A simulated glioblastoma in a simulated MRI; no patient's data. Made by make_sample.py.",
        "files": {
            "t1gd.nii.gz": "T1 with gadolinium, skull-stripped, arbitrary units",
            "flair.nii.gz": "FLAIR on a grid of its own, skull-stripped, arbitrary units",
            "segmentation.nii.gz": "labels 1 necrosis, 2 oedema, 4 enhancing tumour (brats2018)",
            "density_true.nrrd": "true tumour cell density, a fraction in [0, 1], on the T1Gd's grid",
        },
        "truth": {
            "seed_patient_mm": np.round(from_atlas(PARAMETERS.seed, transform, tumour.mean(axis=0)), 2).tolist(),
            "infiltration_length_patient_mm": round(PARAMETERS.infiltration_length * scale, 3),
            "rho_t": round(PARAMETERS.rho_t, 4),
            "threshold_t1gd": THRESHOLDS[0],
            "threshold_flair": THRESHOLDS[1],
        },
        "grown_in": {
            "atlas": ATLAS,
            "atlas_sha256": atlas.sha256,
            "seed_mm": list(PARAMETERS.seed),
            "diffusivity_mm2_per_day": round(PARAMETERS.diffusivity, 6),
            "proliferation_per_day": round(PARAMETERS.proliferation, 6),
            "duration_days": round(PARAMETERS.duration, 3),
            "infiltration_length_mm": round(PARAMETERS.infiltration_length, 4),
        },
        "licence": atlas.licence,
        "attribution": f"{atlas.attribution} For the sample: warped, repainted as T1Gd and FLAIR with a tumour.",
    }


def main() -> None:
    atlas = Atlas.load(ATLAS)
    target = PROJECT / "Resources" / "SampleData"
    target.mkdir(parents=True, exist_ok=True)
    transform, labels, density = write_images(target, atlas)
    notice = find_atlas_folder(ATLAS) / "NOTICE.txt"
    shutil.copyfile(notice, target / notice.name)
    sample = described(atlas, transform, density)
    (target / "sample.json").write_text(json.dumps(sample, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(sample["truth"]))
    voxel = density.grid.voxel_volume_ml
    print({label: round(float((labels.array == label).sum() * voxel), 1) for label in (1, 2, 4)}, "ml by label")
    for threshold in THRESHOLDS:
        print(f"true volume above {threshold}: {(density.array > threshold).sum() * voxel:.1f} ml")
    print(f"{sum(file.stat().st_size for file in target.iterdir()) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
