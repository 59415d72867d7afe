"""The one maker of made-up patients: what they are and where they lie is known.

- `grown_phantom`: a tumour grown in an anatomy, in a head that is warped, tilted and scaled; the whole patient.
- `Head` and the painters below it: the same with the textures of the bundled sample case.
- `warped_patient`: a head with a ball of tumour and a known map, for the registration alone.
- `head_with_skull`, `synthetic_volumes`: the simplest heads, for tests.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.geometry.grid import Grid, Volume, ras_to_lps, resample
from TumorQueryLib.geometry.regions import TumorMasks, bounding_box
from TumorQueryLib.geometry.transforms import (
    SpaceMap,
    Transform,
    affine_transform,
    displacement_transform,
    in_turn,
    rotation_matrix,
)
from TumorQueryLib.growth import GrowthParameters, simulate
from TumorQueryLib.inputs.patient import Patient
from TumorQueryLib.registration.velocity_field import border_taper, exponential

SPACING = 1.25  # mm; of a grown phantom's images
WARP = 6.0  # mm, the longest displacement; Gaussian of 25 mm
TILT = 15.0  # degrees, the largest angle about each axis
SCALE = 0.08  # the largest change of length along each axis
NOISE = 0.03  # of white matter's intensity
BIAS = 0.15
#: With the mass effect, tissue lies this share of the tumour's radius further out than it grew.
PUSH = 0.25
LATTICE = 3.0  # mm; of the displacements
BORDER = 6  # voxels of the lattice over which they fall to zero
READER_REACH = 6.0  # mm; sigma of the Gaussian over which a reader's error varies
NEAR = 20.0  # mm around the whole tumour, where errors are counted
COARSE = 4.0  # mm; of bias fields and of displacements that need no inverse


@dataclass(frozen=True, eq=False)
class Phantom:
    """A made-up patient and all that is known of the tumour.

    Parameters
    ----------
    patient : Patient
        T1, T1Gd and FLAIR painted from the density, and its segmentation at the thresholds.
    parameters : GrowthParameters
        In the anatomy that it grew in, RAS mm.
    density : Volume
        True density on the images' grid.
    brain : ndarray of bool
        On the images' grid.
    truth : SpaceMap
        The true map between the patient and that anatomy.
    thresholds : tuple of float
        Density above which the core and the whole tumour are segmented.
    """

    patient: Patient
    parameters: GrowthParameters
    density: Volume
    brain: NDArray[np.bool_]
    truth: SpaceMap
    thresholds: tuple[float, float]

    @cached_property
    def near(self) -> NDArray[np.bool_]:
        """The brain within `NEAR` of the true whole tumour, the tumour included; on the images' grid."""
        whole = self.patient.whole.array
        return (ndimage.distance_transform_edt(~whole, sampling=self.density.grid.spacing) <= NEAR) & self.brain

    @property
    def infiltration_length(self) -> float:
        """sqrt(D/rho) in the patient's millimetres."""
        return self.parameters.infiltration_length * self.truth.length_scale(self.patient.whole)


@dataclass(frozen=True, eq=False)
class Head:
    """An anatomy and a tumour's density as a scanner's grid sees them, float32 but for the brain.

    Parameters
    ----------
    grid : Grid
    white, grey, csf : ndarray
        Probabilities in [0, 1].
    t1 : ndarray
        White matter about 1.
    brain : ndarray of bool
    density : ndarray
        Fraction in [0, 1].
    """

    grid: Grid
    white: NDArray[np.float32]
    grey: NDArray[np.float32]
    csf: NDArray[np.float32]
    t1: NDArray[np.float32]
    brain: NDArray[np.bool_]
    density: NDArray[np.float32]

    @classmethod
    def carried(cls, anatomy: Atlas, density: NDArray[np.float32], to_anatomy: Transform, grid: Grid) -> Head:
        """The anatomy, and a density on its grid, carried to another grid by the map of that grid's points (LPS mm)."""

        def carried(array: NDArray[np.float32], source: Grid) -> NDArray[np.float32]:
            return resample(Volume(array, source), grid, to_anatomy).array

        t1 = anatomy.t1.array / np.percentile(anatomy.t1.array[anatomy.t1.array > 0], 95)
        return cls(
            grid=grid,
            white=carried(anatomy.white_matter, anatomy.grid),
            grey=carried(anatomy.grey_matter, anatomy.grid),
            csf=carried(anatomy.csf, anatomy.grid),
            t1=carried(t1, anatomy.t1.grid),
            # Stripped by a mask, as after skull stripping, and not by interpolated edges.
            brain=_brain(anatomy, to_anatomy, grid),
            density=carried(density, anatomy.grid),
        )


def grown_phantom(
    anatomy: Atlas,
    parameters: GrowthParameters,
    thresholds: tuple[float, float],
    *,
    random_seed: int,
    mass_effect: bool = False,
) -> Phantom:
    """Grow a tumour in an anatomy and make a patient of it.

    Parameters
    ----------
    anatomy : Atlas
    parameters : GrowthParameters
        Seed in the anatomy, RAS mm.
    thresholds : tuple of float
        Density above which the core and the whole tumour are segmented.
    random_seed : int
        Of warp, tilt, scale, bias and noise.
    mass_effect : bool
        Push the tissue outward around the tumour.

    Returns
    -------
    Phantom
    """
    random = np.random.default_rng([random_seed, 77])
    in_anatomy = simulate(parameters, anatomy)
    to_anatomy, to_patient, centre = _random_map(anatomy, in_anatomy, random, PUSH if mass_effect else 0.0)
    head = Head.carried(anatomy, in_anatomy, to_anatomy, _grid_around_brain(anatomy, to_anatomy, centre))
    grid = head.grid
    core, whole = head.density > thresholds[0], head.density > thresholds[1]
    images = {
        name: Volume(_scanned(image, head.brain, grid, random), grid)
        for name, image in _painted(head, core, whole).items()
    }
    patient = Patient(
        t1gd=images["t1gd"],
        flair=images["flair"],
        t1=images["t1"],
        core=Volume(core, grid),
        whole=Volume(whole, grid),
        brain_mask=None,
        inputs=(),
        warnings=(),
    )
    truth = SpaceMap(patient_to_atlas=to_anatomy, atlas_to_patient=to_patient)
    return Phantom(patient, parameters, Volume(head.density, grid), head.brain, truth, thresholds)


def misdrawn(masks: TumorMasks, deviation: float, brain: NDArray[np.bool_], random_seed: int) -> TumorMasks:
    """Regions as a reader draws them, whose outlines are off by a smooth error.

    Parameters
    ----------
    masks : TumorMasks
        The true ones.
    deviation : float
        Standard deviation (mm) of the way by which an outline is moved along its normal; it varies over `READER_REACH`
        and by itself for the two regions.
    brain : ndarray of bool
        On the masks' grid; nothing is drawn outside it.
    random_seed : int

    Returns
    -------
    TumorMasks
        The core lies within the whole tumour.
    """
    random = np.random.default_rng([random_seed, 78])
    spacing = tuple(masks.grid.spacing)
    # The outline lies between two voxels' centres, half a voxel from either.
    half = float(masks.grid.spacing.mean()) / 2
    drawn = []
    for mask in (masks.core, masks.whole):
        noise = _smooth(random, masks.grid, READER_REACH)
        outward = ndimage.distance_transform_edt(~mask, sampling=spacing) - half
        inward = ndimage.distance_transform_edt(mask, sampling=spacing) - half
        # A mask's distances come in steps of a voxel, between which a small error would have no effect.
        beyond = ndimage.gaussian_filter(np.where(mask, -inward, outward), 1.0)
        drawn.append((beyond < deviation * noise / noise.std()) & brain if mask.any() else mask)
    return TumorMasks(drawn[0], drawn[1] | drawn[0], masks.grid)


def _brain(anatomy: Atlas, to_anatomy: Transform, grid: Grid) -> NDArray[np.bool_]:
    mask = anatomy.brain_mask
    return resample(Volume(mask.array.astype(np.float32), mask.grid), grid, to_anatomy).array > 0.5


def _grid_around_brain(anatomy: Atlas, to_anatomy: Transform, centre: NDArray[np.float64]) -> Grid:
    """A grid of `SPACING` cropped to the patient's brain: every voxel costs time in all that follows."""
    size = int(np.ceil(1.35 * np.max(anatomy.t1.grid.spacing * anatomy.t1.grid.shape) / SPACING))
    grid = Grid.isotropic(size, SPACING, centre)
    start, stop = bounding_box(_brain(anatomy, to_anatomy, grid))
    return grid.cropped(start - 4, stop + 4)


def _random_map(
    anatomy: Atlas, density: NDArray[np.float32], random: np.random.Generator, push: float
) -> tuple[Transform, Transform, NDArray[np.float64]]:
    """Patient to anatomy and back (LPS mm), and the brain's centre in the patient (RAS mm)."""
    centre = anatomy.t1.grid.centre
    lattice = Grid.isotropic(90, LATTICE, centre)
    velocity = _smooth_vectors(random, lattice, 25.0)
    velocity *= WARP / LATTICE / np.linalg.norm(velocity, axis=0).max()
    if push:
        # Points of the patient come from nearer to the tumour's centre: what was there has been pushed out.
        inside = np.argwhere(density > 0.2)
        middle = lattice.to_index(anatomy.grid.to_ras(inside.mean(axis=0)))
        radius = (len(inside) * anatomy.grid.voxel_volume_ml * 1000 * 3 / (4 * math.pi)) ** (1 / 3) / LATTICE
        away = np.indices(lattice.shape) - middle.reshape(3, 1, 1, 1)
        distance = np.linalg.norm(away, axis=0) / radius
        velocity -= push * away * np.exp(-(distance**2) / 2)
    velocity *= border_taper(lattice.shape, BORDER)
    warp, unwarp = (displacement_transform(exponential(v.astype(np.float32)), lattice) for v in (velocity, -velocity))
    rotation = rotation_matrix(random.uniform(-TILT, TILT, 3))
    scaled = rotation * (1 + random.uniform(-SCALE, SCALE, 3))
    affine = affine_transform(scaled, centre, random.uniform(-30, 30, 3))
    # The warp lies in the anatomy's space, whose lattice it falls to zero on; the affine brings points there.
    to_anatomy = in_turn(affine, warp)
    to_patient = in_turn(unwarp, affine.GetInverse())
    return to_anatomy, to_patient, ras_to_lps(to_patient.TransformPoint(ras_to_lps(centre).tolist()))


def _smooth(random: np.random.Generator, grid: Grid, sigma: float) -> NDArray[np.float64]:
    """Gaussian noise smoothed over `sigma` mm."""
    return ndimage.gaussian_filter(random.standard_normal(grid.shape), sigma / grid.spacing)


def _smooth_vectors(random: np.random.Generator, grid: Grid, sigma: float) -> NDArray[np.float64]:
    """A smooth random vector at each voxel, shape (3, i, j, k)."""
    return np.stack([_smooth(random, grid, sigma) for _ in range(3)])


def _bias(random: np.random.Generator, coarse: Grid, sigma: float, largest: float, grid: Grid) -> NDArray[np.float32]:
    """A bias field about 0 that varies over `sigma` mm and reaches `largest` at most."""
    bias = _smooth(random, coarse, sigma)
    return resample(Volume((largest * bias / np.abs(bias).max()).astype(np.float32), coarse), grid).array


def _painted(head: Head, core: NDArray[np.bool_], whole: NDArray[np.bool_]) -> dict[str, NDArray[np.float32]]:
    """T1, T1Gd and FLAIR of a brain with a tumour, white matter about 1, without noise."""
    depth = ndimage.distance_transform_edt(core, sampling=head.grid.spacing)
    rim, necrosis = core & (depth <= 5), core & (depth > 5)
    oedema = whole & ~core
    flair = 0.5 * head.white + 0.65 * head.grey + 0.1 * head.csf
    images = {"t1": head.t1.copy(), "t1gd": head.t1.copy(), "flair": flair}
    for name, of_oedema, of_rim, of_necrosis in (
        ("t1", 0.75, 0.6, 0.4),
        ("t1gd", 0.75, 1.5, 0.4),
        ("flair", 1.1, 0.95, 0.5),
    ):
        image = images[name]
        image[oedema] = of_oedema * (image[oedema] if name != "flair" else 1.0)
        image[rim] = of_rim
        image[necrosis] = of_necrosis
    return images


def _scanned(
    image: NDArray[np.float32], brain: NDArray[np.bool_], grid: Grid, random: np.random.Generator
) -> NDArray[np.float32]:
    """With a bias field and noise, skull-stripped."""
    bias = _bias(random, Grid.isotropic(64, COARSE, grid.centre), 48.0, BIAS, grid)
    noisy = image * (1 + bias) + NOISE * random.standard_normal(image.shape)
    return np.where(brain, np.maximum(400 * noisy, 1), 0).astype(np.float32)


def textured_noise(random: np.random.Generator, grid: Grid, scale: float) -> NDArray[np.float32]:
    """Gaussian noise that varies over `scale` mm, with mean 0 and standard deviation 1; it wraps around."""
    white = random.standard_normal(grid.shape).astype(np.float32)
    field = ndimage.gaussian_filter(white, scale / grid.spacing, mode="wrap")
    return (field - field.mean()) / field.std()


def textured_warp(random: np.random.Generator, centre: ArrayLike, longest: float, scale: float) -> Transform:
    """A smooth random displacement of at most `longest` mm that varies over `scale` mm, around a centre (RAS mm)."""
    coarse = Grid.isotropic(64, COARSE, centre)
    field = np.stack([textured_noise(random, coarse, scale) for _ in range(3)])
    field *= longest / np.linalg.norm(field, axis=0).max()
    return _warp(field, coarse)


def _warp(field: NDArray[np.floating], grid: Grid) -> Transform:
    """The transform of displacements in mm of LPS, shape (3, i, j, k), on a grid along RAS."""
    in_voxels = ras_to_lps(np.moveaxis(field, 0, -1)) / grid.spacing
    return displacement_transform(np.moveaxis(in_voxels, -1, 0), grid)


def smooth_step(values: NDArray[np.floating], low: float, high: float) -> NDArray[np.floating]:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


@dataclass(frozen=True, eq=False)
class Textures:
    """Noise on a head's grid that makes its tumour uneven, mean 0 and standard deviation 1 (see `textured_noise`).

    Parameters
    ----------
    coarse, fine : ndarray
        Of the tumour's parts, alike in all images.
    reader : ndarray
        Of the line that a reader draws.
    """

    coarse: NDArray[np.float32]
    fine: NDArray[np.float32]
    reader: NDArray[np.float32]


def paint_t1gd(head: Head, textures: Textures, thresholds: tuple[float, float]) -> NDArray[np.floating]:
    """T1Gd without noise; white matter is about 1, and the tumour's rim takes up contrast agent."""
    oedema, rim, necrosis = _tumour_parts(head, textures, thresholds)
    coarse, fine = textures.coarse, textures.fine
    return (
        (1 - oedema - rim - necrosis) * head.t1
        + oedema * head.t1 * (0.80 - 0.08 * head.white)
        + rim * (1.45 + 0.18 * coarse + 0.08 * fine)
        + necrosis * (0.42 + 0.06 * coarse + 0.04 * fine)
    )


def paint_flair(head: Head, textures: Textures, thresholds: tuple[float, float]) -> NDArray[np.floating]:
    """FLAIR without noise: oedema bright, in white matter most, free fluid dark."""
    oedema, rim, necrosis = _tumour_parts(head, textures, thresholds)
    coarse = textures.coarse
    total = np.maximum(head.white + head.grey + head.csf, 0.05)
    white, grey, csf = head.white / total, head.grey / total, head.csf / total
    # What the T1 shows darker than its tissue's mean is fluid in a fine sulcus, dark in FLAIR too.
    detail = head.t1 - (0.97 * white + 0.70 * grey + 0.30 * csf)
    healthy = np.clip(0.52 * white + 0.66 * grey + 0.10 * csf + 0.35 * detail, 0.04, None)
    swollen = 1.12 * white + 0.92 * grey + 0.12 * csf + 0.05 * coarse * (white + grey)
    return (
        (1 - oedema - rim - necrosis) * healthy
        + oedema * swollen
        + rim * (0.92 + 0.07 * coarse)
        + necrosis * (0.50 + 0.10 * coarse)
    )


def _tumour_parts(
    head: Head, textures: Textures, thresholds: tuple[float, float]
) -> tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.floating]]:
    """Shares in [0, 1] of oedema, enhancing rim and necrosis in each voxel."""
    of_core, of_whole = thresholds
    u = head.density + 0.03 * textures.coarse * (head.density > 0.05)
    tumour = smooth_step(u, of_whole - 0.07, of_whole + 0.07)
    core = smooth_step(u, of_core - 0.06, of_core + 0.06)
    # The rim is 3 to 8 mm thick: distance from the core's edge, uneven.
    depth = ndimage.distance_transform_edt(u > of_core, sampling=head.grid.spacing)
    necrosis = core * smooth_step(depth + 1.6 * textures.coarse + 0.8 * textures.fine, 4.0, 6.5)
    return tumour * (1 - core), core - necrosis, necrosis


def scan(image: NDArray[np.floating], head: Head, random: np.random.Generator, noise: float, white: float) -> Volume:
    """What a scanner gives: bias field, Rician noise, whole numbers (int16), the skull stripped.

    Parameters
    ----------
    image : ndarray
        White matter about 1.
    head : Head
    random : numpy.random.Generator
    noise : float
        Standard deviation, of white matter's intensity.
    white : float
        White matter's value.
    """
    coarse = Grid.isotropic(72, COARSE, head.grid.centre)
    bias = 1 + 0.07 * resample(Volume(textured_noise(random, coarse, 60.0), coarse), head.grid).array
    real = image * bias + noise * random.standard_normal(image.shape)
    imaginary = noise * random.standard_normal(image.shape)
    values = np.rint(white * np.hypot(real, imaginary))
    return Volume(np.where(head.brain, np.maximum(values, 1), 0).astype(np.int16), head.grid)


def read_labels(head: Head, textures: Textures, thresholds: tuple[float, float]) -> Volume:
    """A reader's label map: 1 necrosis, 2 oedema, 4 enhancing; its edges are not the thresholds' to the voxel."""
    u = ndimage.gaussian_filter(head.density, 0.6 / head.grid.spacing)
    u = u + 0.03 * textures.reader * (u > 0.05)
    whole = _largest_part(u > thresholds[1])
    core = _largest_part(u > thresholds[0]) & whole
    depth = ndimage.distance_transform_edt(core, sampling=head.grid.spacing)
    necrosis = core & (depth + 1.6 * textures.coarse > 5.25)
    labels = np.where(necrosis, 1, np.where(core, 4, np.where(whole, 2, 0)))
    return Volume(labels.astype(np.uint8), head.grid)


def _largest_part(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    parts, count = ndimage.label(mask)
    return parts == 1 + np.argmax(ndimage.sum_labels(mask, parts, np.arange(1, count + 1)))


def warped_patient(atlas: Atlas, random_seed: int = 0) -> tuple[Volume, Volume, Transform]:
    """A made-up patient of the atlas's anatomy with a known map to it.

    The brain is warped by up to 8 mm (Gaussian, sigma 20 mm), turned by 10 degrees, scaled by +8, -6 and +5 %; the
    image has another contrast (gamma 0.8), a bias field of +-20 %, noise and a dark spherical tumour of 48 ml.

    Returns
    -------
    image : Volume
        float32, 1 mm, 0 outside the brain.
    tumour : Volume
        bool, on the image's grid.
    patient_to_atlas : SimpleITK.Transform
        The true map (LPS mm).
    """
    random = np.random.default_rng(random_seed)
    source = atlas.t1.grid
    grid = Grid.isotropic(int(max(source.spacing * source.shape) * 1.2), 1.0, source.centre)
    coarse = Grid.isotropic(-(-grid.shape[0] // 4), COARSE, grid.centre)
    field = _smooth_vectors(random, coarse, 20.0)
    field *= 8.0 / np.linalg.norm(field, axis=0).max()
    # 10.3 degrees in all
    scaled = rotation_matrix((6.0, 5.0, 6.5)) / [1.08, 0.94, 1.05]
    truth = in_turn(_warp(field, coarse), affine_transform(scaled, source.centre, (6.0, -9.0, 4.0)))

    values = resample(atlas.t1, grid, truth).array
    # The edge voxels that interpolation leaves nearly black would not survive skull stripping.
    brain = values > 0.1 * np.percentile(values[values > 0], 50)
    largest = values.max()
    painted = largest * (values / largest) ** np.float32(0.8)
    painted *= 1 + _bias(random, coarse, 32.0, 0.2, grid)
    painted += (0.02 * largest * random.standard_normal(grid.shape)).astype(np.float32)
    centre = grid.to_ras(np.argwhere(brain).mean(axis=0)) + np.array([32.0, 10.0, 15.0])
    tumour = (_distance(grid, centre) < (48_000 * 3 / (4 * np.pi)) ** (1 / 3)) & brain
    painted[tumour] = 0.35 * largest + 0.05 * largest * random.standard_normal(int(tumour.sum()))
    image = np.where(brain, np.maximum(painted, 1e-3 * largest), 0).astype(np.float32)
    return Volume(image, grid), Volume(tumour, grid), truth


def _distance(grid: Grid, point: ArrayLike) -> NDArray[np.float64]:
    """Distance of every voxel from a point (RAS mm), mm."""
    return np.linalg.norm(grid.to_ras(np.moveaxis(np.indices(grid.shape), 0, -1)) - np.asarray(point), axis=-1)


def head_with_skull(atlas: Atlas) -> tuple[Volume, Volume]:
    """The atlas's brain in a head: a dark skull, a bright scalp, air with noise.

    Returns
    -------
    image : Volume
        float32, 2 mm.
    brain : Volume
        bool, on the image's grid.
    """
    grid = Grid.isotropic(110, 2.0, atlas.t1.grid.centre)
    brain = resample(atlas.t1, grid).array
    distance = ndimage.distance_transform_edt(brain <= 5, sampling=grid.spacing)
    head = np.abs(np.random.default_rng(0).normal(0, 4, grid.shape)).astype(np.float32)
    head[(distance > 0) & (distance < 8)] = 20
    head[(distance >= 8) & (distance < 18)] = 300
    head[brain > 5] = brain[brain > 5]
    return Volume(head, grid), Volume(brain > 5, grid)


def synthetic_volumes(
    grid: Grid | None = None,
    tumour_centre: tuple[float, float, float] = (20.0, 10.0, 5.0),
    core_radius: float = 10.0,
    whole_radius: float = 18.0,
) -> dict[str, Volume]:
    """An ellipsoid of brain around 0 with a ball of tumour, on any grid.

    Parameters
    ----------
    grid : Grid, optional
        48^3 voxels of 4 mm by default.
    tumour_centre : tuple of float
        RAS mm.
    core_radius, whole_radius : float
        mm.

    Returns
    -------
    dict of str to Volume
        The arguments of `Patient`: `t1gd` and `flair` (float32), `core` and `whole` (bool).
    """
    if grid is None:
        grid = Grid.isotropic(48, 4.0, (0.0, 0.0, 0.0))
    points = grid.to_ras(np.moveaxis(np.indices(grid.shape), 0, -1))
    brain = ((points / np.array([65.0, 85.0, 60.0])) ** 2).sum(axis=-1) < 1
    distance = np.linalg.norm(points - np.array(tumour_centre), axis=-1)
    core, whole = (distance < core_radius) & brain, (distance < whole_radius) & brain
    texture = 100 + 10 * np.sin(points / 7).sum(axis=-1)
    return {
        "t1gd": Volume(np.where(brain, texture + 60 * core, 0).astype(np.float32), grid),
        "flair": Volume(np.where(brain, texture + 70 * whole, 0).astype(np.float32), grid),
        "core": Volume(core, grid),
        "whole": Volume(whole, grid),
    }
