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
from scipy import ndimage, optimize
from scipy.spatial.transform import Rotation

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))
from TumorQueryLib.anatomy.atlas import Atlas, find_atlas_folder
from TumorQueryLib.geometry.grid import Grid, Volume, image_from_volume, ras_to_lps, resample
from TumorQueryLib.growth import GrowthParameters, simulate

ATLAS = "MNI152"
RNG_SEED = 20240607
PARAMETERS = GrowthParameters.from_identifiable(
    seed=(31.0, -42.0, 25.0), infiltration_length=2.7, rho_t=10.0, proliferation=0.03
)
THRESHOLD_T1GD = 0.6
THRESHOLD_FLAIR = 0.2

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


def smooth_noise(generator: np.random.Generator, grid: Grid, scale: float) -> NDArray[np.float32]:
    """Gaussian noise that varies over `scale` mm, with mean 0 and standard deviation 1."""
    white = generator.standard_normal(grid.shape).astype(np.float32)
    field = ndimage.gaussian_filter(white, scale / grid.spacing, mode="wrap")
    return (field - field.mean()) / field.std()


def step(values: NDArray, low: float, high: float) -> NDArray:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def scanner_to_atlas(generator: np.random.Generator, atlas: Atlas, centre) -> sitk.Transform:
    """The map of points (LPS mm) from the scanner's space to the atlas: a smooth warp, then the tilt."""
    coarse = Grid.isotropic(64, 4.0, centre)
    displacement = np.stack([smooth_noise(generator, coarse, WARP_SCALE) for _ in range(3)], axis=-1)
    displacement *= WARP / np.linalg.norm(displacement, axis=-1).max()
    field = sitk.GetImageFromArray(displacement.transpose(2, 1, 0, 3).astype(np.float64), isVector=True)
    field.CopyInformation(image_from_volume(Volume(np.zeros(coarse.shape, np.uint8), coarse)))
    warp = sitk.DisplacementFieldTransform(field)
    tilt = sitk.Similarity3DTransform()
    tilt.SetCenter(ras_to_lps(centre).tolist())
    # Turned in RAS: conjugation by diag(-1, -1, 1) turns the same rotation in LPS.
    flip = np.diag([-1.0, -1.0, 1.0])
    turned = flip @ Rotation.from_euler("xyz", TILT, degrees=True).as_matrix().T @ flip
    tilt.SetMatrix((turned / SCALE).ravel().tolist())
    tilt.SetTranslation((ras_to_lps(atlas_centre(atlas)) - ras_to_lps(centre)).tolist())
    # The last transform added is applied first.
    return sitk.CompositeTransform([tilt, warp])


def atlas_centre(atlas: Atlas) -> NDArray[np.float64]:
    """Centre of the atlas' brain, RAS mm."""
    return atlas.t1.grid.to_ras(np.argwhere(atlas.brain_mask.array)).mean(axis=0)


class Anatomy:
    """The atlas' tissue and the density, seen on one of the scanner's grids."""

    def __init__(self, atlas: Atlas, density: NDArray[np.float32], transform: sitk.Transform, grid: Grid) -> None:
        def moved(array: NDArray, source: Grid) -> NDArray[np.float32]:
            return resample(Volume(array.astype(np.float32), source), grid, transform).array

        self.grid = grid
        self.white = moved(atlas.white_matter, atlas.grid)
        self.grey = moved(atlas.grey_matter, atlas.grid)
        self.csf = moved(atlas.csf, atlas.grid)
        self.density = moved(density, atlas.grid)
        t1 = atlas.t1.array / np.percentile(atlas.t1.array[atlas.t1.array > 0], 95)
        # Stripped by a mask, as after skull stripping, and not by interpolated edges.
        self.brain = moved(atlas.brain_mask.array, atlas.t1.grid) > 0.5
        self.t1 = moved(t1, atlas.t1.grid)


def tumour_parts(anatomy: Anatomy, coarse: NDArray, fine: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Shares in [0, 1] of oedema, enhancing rim and necrosis in each voxel."""
    u = anatomy.density + 0.03 * coarse * (anatomy.density > 0.05)
    tumour = step(u, THRESHOLD_FLAIR - 0.07, THRESHOLD_FLAIR + 0.07)
    core = step(u, THRESHOLD_T1GD - 0.06, THRESHOLD_T1GD + 0.06)
    # The rim is 3 to 8 mm thick: distance from the core's edge, uneven.
    depth = ndimage.distance_transform_edt(u > THRESHOLD_T1GD, sampling=anatomy.grid.spacing)
    necrosis = core * step(depth + 1.6 * coarse + 0.8 * fine, 4.0, 6.5)
    return tumour * (1 - core), core - necrosis, necrosis


def paint_t1gd(anatomy: Anatomy, coarse: NDArray, fine: NDArray) -> NDArray:
    """T1Gd without noise; white matter is about 1, and the tumour's rim takes up contrast agent."""
    oedema, rim, necrosis = tumour_parts(anatomy, coarse, fine)
    return (
        (1 - oedema - rim - necrosis) * anatomy.t1
        + oedema * anatomy.t1 * (0.80 - 0.08 * anatomy.white)
        + rim * (1.45 + 0.18 * coarse + 0.08 * fine)
        + necrosis * (0.42 + 0.06 * coarse + 0.04 * fine)
    )


def paint_flair(anatomy: Anatomy, coarse: NDArray, fine: NDArray) -> NDArray:
    """FLAIR without noise: oedema bright, in white matter most, free fluid dark."""
    oedema, rim, necrosis = tumour_parts(anatomy, coarse, fine)
    total = np.maximum(anatomy.white + anatomy.grey + anatomy.csf, 0.05)
    white, grey, csf = anatomy.white / total, anatomy.grey / total, anatomy.csf / total
    # What the T1 shows darker than its tissue's mean is fluid in a fine sulcus, dark in FLAIR too.
    detail = anatomy.t1 - (0.97 * white + 0.70 * grey + 0.30 * csf)
    healthy = np.clip(0.52 * white + 0.66 * grey + 0.10 * csf + 0.35 * detail, 0.04, None)
    swollen = 1.12 * white + 0.92 * grey + 0.12 * csf + 0.05 * coarse * (white + grey)
    return (
        (1 - oedema - rim - necrosis) * healthy
        + oedema * swollen
        + rim * (0.92 + 0.07 * coarse)
        + necrosis * (0.50 + 0.10 * coarse)
    )


def scan(image: NDArray, anatomy: Anatomy, generator: np.random.Generator, noise: float, white: float) -> Volume:
    """What the scanner gives: bias field, Rician noise, whole numbers, the skull stripped."""
    coarse = Grid.isotropic(72, 4.0, anatomy.grid.centre)
    bias = 1 + 0.07 * resample(Volume(smooth_noise(generator, coarse, 60.0), coarse), anatomy.grid).array
    real = image * bias + noise * generator.standard_normal(image.shape)
    imaginary = noise * generator.standard_normal(image.shape)
    values = np.rint(white * np.hypot(real, imaginary))
    return Volume(np.where(anatomy.brain, np.maximum(values, 1), 0).astype(np.int16), anatomy.grid)


def segment(anatomy: Anatomy, coarse: NDArray, reader: NDArray) -> Volume:
    """A reader's label map: 1 necrosis, 2 oedema, 4 enhancing; its edges are not the thresholds' to the voxel."""
    u = ndimage.gaussian_filter(anatomy.density, 0.6 / anatomy.grid.spacing)
    u = u + 0.03 * reader * (u > 0.05)
    whole = largest_part(u > THRESHOLD_FLAIR)
    core = largest_part(u > THRESHOLD_T1GD) & whole
    depth = ndimage.distance_transform_edt(core, sampling=anatomy.grid.spacing)
    necrosis = core & (depth + 1.6 * coarse > 5.25)
    labels = np.where(necrosis, 1, np.where(core, 4, np.where(whole, 2, 0)))
    return Volume(labels.astype(np.uint8), anatomy.grid)


def largest_part(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    parts, count = ndimage.label(mask)
    return parts == 1 + np.argmax(ndimage.sum_labels(mask, parts, np.arange(1, count + 1)))


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


def main() -> None:
    generator = np.random.default_rng(RNG_SEED)
    atlas = Atlas.load(ATLAS)
    density = simulate(PARAMETERS, atlas)
    centre = np.array(SHIFT)
    transform = scanner_to_atlas(generator, atlas, centre)
    t1gd_grid = axial_grid((1.0, 1.0, 1.5), (176, 208, 116), -11.0, centre)
    flair_grid = axial_grid((0.9, 0.9, 3.0), (192, 232, 58), -14.0, centre + np.array([1.5, -2.0, 1.0]))
    # One texture of the tumour for both images and for the reader.
    isotropic = Grid.isotropic(176, 1.25, centre)
    coarse, fine, reader = (Volume(smooth_noise(generator, isotropic, scale), isotropic) for scale in (3.5, 1.25, 4.0))
    target = PROJECT / "Resources" / "SampleData"
    target.mkdir(parents=True, exist_ok=True)

    for name, grid, paint in (("t1gd", t1gd_grid, paint_t1gd), ("flair", flair_grid, paint_flair)):
        anatomy = Anatomy(atlas, density, transform, grid)
        image = paint(anatomy, resample(coarse, grid).array, resample(fine, grid).array)
        write(scan(image, anatomy, generator, noise=0.025, white=400), target / f"{name}.nii.gz")
    anatomy = Anatomy(atlas, density, transform, t1gd_grid)
    labels = segment(anatomy, resample(coarse, t1gd_grid).array, resample(reader, t1gd_grid).array)
    write(labels, target / "segmentation.nii.gz")
    # Three digits are enough, and few values compress well.
    true_density = Volume(np.round(anatomy.density, 3).astype(np.float32), t1gd_grid)
    write(true_density, target / "density_true.nrrd")

    voxel = t1gd_grid.voxel_volume_ml
    tumour = t1gd_grid.to_ras(np.argwhere(true_density.array > THRESHOLD_FLAIR))
    scale = length_scale(tumour[::50], transform)
    notice = find_atlas_folder(ATLAS) / "NOTICE.txt"
    shutil.copyfile(notice, target / notice.name)
    sample = {
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
            "threshold_t1gd": THRESHOLD_T1GD,
            "threshold_flair": THRESHOLD_FLAIR,
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
    (target / "sample.json").write_text(json.dumps(sample, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(sample["truth"]))
    print({label: round(float((labels.array == label).sum() * voxel), 1) for label in (1, 2, 4)}, "ml by label")
    for threshold in (THRESHOLD_T1GD, THRESHOLD_FLAIR):
        print(f"true volume above {threshold}: {(true_density.array > threshold).sum() * voxel:.1f} ml")
    print(f"{sum(file.stat().st_size for file in target.iterdir()) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
