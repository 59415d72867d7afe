"""The patient's own tissue: white matter, grey matter and CSF as the patient's T1 shows them.

A mixture of three Gaussians of the logarithm of the intensity, fitted by expectation and maximisation, with the
carried maps of the atlas as priors, a Potts field of the neighbours and a smooth bias field (Van Leemput et al. 1999,
doi 10.1109/42.811270 and 10.1109/42.811268), then the share of each tissue in a voxel by its intensity between the
means of two classes. Where the tumour and its surroundings hide the tissue the carried maps stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from TumorQueryLib.anatomy.tissue_maps import TissueMaps
from TumorQueryLib.base.compiled import njit
from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.brain import find_brain
from TumorQueryLib.geometry.grid import Grid, Volume, resample, resample_mask

ITERATIONS = 15
BIAS_EVERY = 3  # iterations
PRIOR_WIDTH = 2.0  # mm; sigma by which the carried maps are blurred: the registration's error
PRIOR_FLOOR = 0.05  # added to each prior, so that the image can contradict it
NEIGHBOUR_WEIGHT = 0.15  # of each of six neighbours, in log-odds
BIAS_WIDTH = 25.0  # mm; sigma
BIAS_BLOCK = 4  # voxels; the bias is smooth enough to be averaged over blocks
SHARE_WIDTH = 1.5  # mm; sigma by which noise is taken out of the shares
#: Around the tumour the carried maps stay, and give way to the patient's own over the next millimetres.
TUMOUR_MARGIN, BLEND = 3.0, 2.0
FEWEST_VOXELS = 20_000  # of the grid; 68 ml
RIM = 15.0  # mm of the brain's outside in which no pure voxels are looked for
FEWEST_PURE = 50  # voxels of a class whose neighbours are of it too
SMALLEST_CLASS = 0.02  # share of the voxels
#: Difference between two neighbouring classes in their standard deviations, by the carried maps and at the end.
LEAST_CONTRAST, LEAST_SEPARATION = 0.3, 1.0
#: Where intensities are not above 0, as in z-scores, the darkest hundredth gets this share of the brightest's.
DARKEST_TO_BRIGHTEST = 0.25
NAMES = ("white matter", "grey matter", "CSF")


class UnclearTissueError(InputError):
    """The image does not show the three tissues; the text says why."""


@dataclass(frozen=True, eq=False)
class OwnTissue:
    """The tissue that an image of the patient shows, and how it was found.

    Parameters
    ----------
    maps : TissueMaps
        On the grid of the carried maps.
    image : {"t1", "t1gd"}
    class_means : tuple of float
        Intensity of white matter, grey matter and CSF, without the bias field, in the image's own unit.
    volumes_ml : tuple of float
        Of white matter, grey matter and CSF in the brain.
    overlap : tuple of float
        Of each map with the carried one, outside the tumour (see `overlap_of`), in [0, 1].
    """

    maps: TissueMaps
    image: str
    class_means: tuple[float, float, float]
    volumes_ml: tuple[float, float, float]
    overlap: tuple[float, float, float]

    def as_json(self) -> dict[str, Any]:
        """As result.json holds it."""
        names = ("white_matter", "grey_matter", "csf")
        return {
            "source": "own",
            "image": self.image,
            "class_means": dict(zip(names, self.class_means)),
            "volumes_ml": {name: round(volume, 1) for name, volume in zip(names, self.volumes_ml)},
            "overlap_with_atlas": {name: round(overlap, 3) for name, overlap in zip(names, self.overlap)},
        }


def own_tissue(
    carried: TissueMaps, image: Volume, role: str, tumour: Volume, brain_mask: Volume | None = None
) -> OwnTissue:
    """The tissue maps of a patient by the patient's own image.

    Parameters
    ----------
    carried : TissueMaps
        The atlas's maps in the patient's space.
    image : Volume
        T1, or T1Gd, without skull or with a brain mask; any grid, any unit.
    role : {"t1", "t1gd"}
        Which one it is.
    tumour : Volume
        The whole tumour, boolean, on any grid.
    brain_mask : Volume, optional
        Boolean, on any grid.

    Raises
    ------
    UnclearTissueError
        When white matter is not the brightest and CSF not the darkest, a class is all but empty or cannot be told from
        its neighbour, or too little of the brain is seen.
    """
    grid = carried.grid
    seen = _Seen.of(image, brain_mask, grid)
    hidden = resample_mask(tumour, grid).array
    distance = ndimage.distance_transform_edt(~hidden, sampling=grid.spacing) if hidden.any() else None
    usable = seen.brain if distance is None else seen.brain & (distance > TUMOUR_MARGIN)
    if np.count_nonzero(usable) < FEWEST_VOXELS:
        raise UnclearTissueError(
            f"Only {np.count_nonzero(usable) * grid.voxel_volume_ml:.0f} ml of the brain outside the tumour lie in the "
            f"image, and {FEWEST_VOXELS * grid.voxel_volume_ml:.0f} ml are needed to tell its tissues apart."
        )
    mixture = _fitted(seen, usable, carried)
    shares = _shares(mixture, seen, grid)
    # Own outside the tumour and where the image shows something; the carried maps elsewhere.
    weight = seen.field_of_view.astype(np.float32)
    if distance is not None:
        weight *= np.clip((distance - TUMOUR_MARGIN) / BLEND, 0, 1).astype(np.float32)
    before = (carried.white_matter, carried.grey_matter, carried.csf)
    blended = [weight * own + (1 - weight) * other for own, other in zip(shares, before)]
    inside = seen.brain & (weight == 1)
    return OwnTissue(
        maps=TissueMaps(blended[0], blended[1], blended[2], grid),
        image=role,
        class_means=tuple(seen.in_image_unit(mean) for mean in mixture.means),  # type: ignore[arg-type]
        volumes_ml=tuple(float(m[seen.brain].sum(dtype=float) * grid.voxel_volume_ml) for m in blended),  # type: ignore[arg-type]
        overlap=tuple(overlap_of(own, other, inside) for own, other in zip(shares, before)),  # type: ignore[arg-type]
    )


def overlap_of(first: NDArray[np.floating], second: NDArray[np.floating], where: NDArray[np.bool_]) -> float:
    """Dice of two maps of shares in a region: twice what they have in common over their sum, in [0, 1]."""
    a, b = first[where], second[where]
    return float(2 * np.minimum(a, b).sum(dtype=float) / max(a.sum(dtype=float) + b.sum(dtype=float), 1e-6))


@dataclass(frozen=True, eq=False)
class _Seen:
    """An image on the grid of the maps: log intensity, the brain, and what lies in the image's field of view."""

    log_intensity: NDArray[np.float32]
    brain: NDArray[np.bool_]
    field_of_view: NDArray[np.bool_]
    shift: float

    @classmethod
    def of(cls, image: Volume, brain_mask: Volume | None, grid: Grid) -> _Seen:
        values = np.nan_to_num(image.array.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        brain = (
            find_brain(Volume(values, image.grid))[0]
            if brain_mask is None
            else resample_mask(brain_mask, image.grid).array
        )
        # Not blurred by what lies outside the brain; an image finer than the grid is smoothed to its resolution first.
        spacing = image.grid.spacing
        sigma = 0.42 * np.sqrt(np.maximum(grid.spacing.min() ** 2 - spacing**2, 0)) / spacing

        def on_grid(array: NDArray[np.float32]) -> NDArray[np.float32]:
            return resample(Volume(ndimage.gaussian_filter(array, sigma), image.grid), grid).array

        inside = brain.astype(np.float32)
        share, field_of_view = on_grid(inside), resample(Volume(np.ones_like(inside), image.grid), grid).array > 0.5
        inner = share > 0.5
        values = np.where(inner, on_grid(values * inside) / np.where(inner, share, 1), np.float32(0))
        darkest, brightest = np.percentile(values[inner], (1, 99)) if inner.any() else (1.0, 1.0)
        shift = 0.0
        if darkest <= 0:
            shift = float(DARKEST_TO_BRIGHTEST / (1 - DARKEST_TO_BRIGHTEST) * (brightest - darkest) - darkest)
        # What is darker still is noise, and has no logarithm.
        least = max(0.3 * (darkest + shift), 1e-6 * abs(brightest + shift), 1e-30)
        values = np.where(inner, np.maximum(values + np.float32(shift), np.float32(least)), np.float32(1))
        return cls(np.log(values), inner, field_of_view, shift)

    def in_image_unit(self, log_intensity: float) -> float:
        """An intensity in the image's own unit."""
        return float(np.exp(log_intensity) - self.shift)


@dataclass(frozen=True, eq=False)
class _Mixture:
    """Mean log intensity of pure white matter, grey matter and CSF without the bias, and the bias on the grid."""

    means: NDArray[np.float64]
    bias: NDArray[np.float32]


def _priors(carried: TissueMaps) -> NDArray[np.float32]:
    """Probability of each class in each voxel before the image is looked at, shape (3, i, j, k)."""
    sigma = PRIOR_WIDTH / carried.grid.spacing
    blurred = [
        ndimage.gaussian_filter(m, sigma) + np.float32(PRIOR_FLOOR)
        for m in (carried.white_matter, carried.grey_matter, carried.csf)
    ]
    return np.stack(blurred) / (blurred[0] + blurred[1] + blurred[2])


def _fitted(seen: _Seen, usable: NDArray[np.bool_], carried: TissueMaps) -> _Mixture:
    """Expectation and maximisation over the usable voxels, and the bias on the whole grid."""
    y = seen.log_intensity[usable]
    priors = np.ascontiguousarray(_priors(carried)[:, usable].T)
    neighbours = neighbours_of(usable)
    smoother = BlockSmoother(usable, BIAS_WIDTH / carried.grid.spacing)
    # A row more than there are voxels stands for a neighbour that is none.
    posterior = np.zeros((len(y) + 1, 3), np.float32)
    posterior[:-1] = priors
    log_prior, bias = np.log(priors), np.zeros_like(y)
    means, deviations, weights = moments(y, posterior)
    _check(means, deviations, weights, LEAST_CONTRAST, "where the atlas has them")
    for iteration in range(ITERATIONS):
        means, deviations, weights = moments(y - bias, posterior)
        posterior = expectation(y - bias, log_prior, posterior, neighbours, means, deviations, NEIGHBOUR_WEIGHT)
        if iteration % BIAS_EVERY:
            continue
        # CSF has no say in the bias: where it is brighter, other tissue shares the voxel.
        precision = posterior[:-1, :2] / (deviations[:2] ** 2).astype(np.float32)
        weight = precision[:, 0] + precision[:, 1]
        residual = precision[:, 0] * (y - np.float32(means[0])) + precision[:, 1] * (y - np.float32(means[1]))
        smoother.fit(residual, weight)
        bias = smoother.where_known()
    middle = np.float32(bias.mean(dtype=float))
    y = y - (bias - middle)
    means, deviations, weights = moments(y, posterior)
    _check(means, deviations, weights, LEAST_SEPARATION, "in the image itself")
    deep = ndimage.distance_transform_edt(seen.brain, sampling=carried.grid.spacing)[usable] > RIM
    return _Mixture(_pure_means(y, posterior, neighbours, deep, means), smoother.everywhere() - middle)


def _pure_means(
    y: NDArray[np.float32],
    posterior: NDArray[np.float32],
    neighbours: NDArray[np.int32],
    deep: NDArray[np.bool_],
    means: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The means of the classes, but of white matter and CSF the median of voxels whose neighbours are of it too.

    What else shares their voxels draws the means of both towards grey matter's, which is too thin for voxels of its
    own but in the depth, where it is brighter. `deep` is away from the rim, which is darker than CSF where the skull
    was cut off.
    """
    label = np.append(posterior[:-1].argmax(axis=1), len(NAMES))
    alike = (label[neighbours] == label[:-1, None]).all(axis=1) & deep
    found = means.copy()
    for k in (0, 2):
        pure = y[alike & (label[:-1] == k)]
        if pure.size >= FEWEST_PURE:
            found[k] = np.median(pure)
    return found if found[0] > found[1] > found[2] else means


def moments(
    y: NDArray[np.float32], posterior: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean, standard deviation and share of each class, from `posterior` as in `expectation`."""
    total, first, second = _power_sums(y, posterior)
    means = first / total
    return means, np.sqrt(np.maximum(second / total - means**2, 1e-6)), total / len(y)


@njit(cache=True, nogil=True)
def _power_sums(y, posterior):
    """Sums of the posterior, of y and of y squared by each class, in float64."""
    sums = np.zeros((3, 3))
    for n in range(y.size):
        value = np.float64(y[n])
        for k in range(3):
            share = np.float64(posterior[n, k])
            sums[0, k] += share
            sums[1, k] += share * value
            sums[2, k] += share * value * value
    return sums[0], sums[1], sums[2]


@njit(cache=True, nogil=True)
def expectation(y, log_prior, posterior, neighbours, means, deviations, neighbour_weight):
    """Probability of each class in each voxel by its intensity, its prior and its neighbours.

    Parameters
    ----------
    y : ndarray of float32, shape (n,)
        Log intensity without bias.
    log_prior : ndarray of float32, shape (n, 3)
    posterior : ndarray of float32, shape (n + 1, 3)
        Of the iteration before; the last row is 0.
    neighbours : ndarray of int32, shape (n, 6)
        Rows of `posterior`.
    means, deviations : ndarray of float64, shape (3,)
    neighbour_weight : float
        Of each neighbour, in log-odds.

    Returns
    -------
    ndarray of float32, shape (n + 1, 3)
    """
    after = np.zeros_like(posterior)
    offset = -np.log(deviations)
    steepness = 0.5 / deviations**2
    logarithm = np.empty(3)
    for n in range(y.size):
        value = np.float64(y[n])
        highest = -np.inf
        for k in range(3):
            around = 0.0
            for m in range(6):
                around += posterior[neighbours[n, m], k]
            logarithm[k] = (
                log_prior[n, k] + neighbour_weight * around + offset[k] - steepness[k] * (value - means[k]) ** 2
            )
            highest = max(highest, logarithm[k])
        total = 0.0
        for k in range(3):
            logarithm[k] = np.exp(logarithm[k] - highest)
            total += logarithm[k]
        for k in range(3):
            after[n, k] = logarithm[k] / total
    return after


def neighbours_of(known: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Number of each of the six neighbours of the known voxels, counted in index order; their count where unknown.

    Shape (n, 6).
    """
    count = int(np.count_nonzero(known))
    number = np.full(np.array(known.shape) + 2, count, np.int32)
    number[1:-1, 1:-1, 1:-1][known] = np.arange(count, dtype=np.int32)
    place = np.ravel_multi_index((np.argwhere(known) + 1).T, number.shape)
    steps = [step for axis in range(3) for step in (-number.strides[axis], number.strides[axis])]
    flat = number.ravel()
    return np.stack([flat[place + step // number.itemsize] for step in steps], axis=1)


def _check(
    means: NDArray[np.float64],
    deviations: NDArray[np.float64],
    weights: NDArray[np.float64],
    least: float,
    where: str,
) -> None:
    """Refuse classes that are not those of a T1."""
    for k in range(3):
        if weights[k] < SMALLEST_CLASS:
            raise UnclearTissueError(f"The image shows next to no {NAMES[k]}.")
    for k in range(2):
        apart = (means[k] - means[k + 1]) / np.sqrt((deviations[k] ** 2 + deviations[k + 1] ** 2) / 2)
        # Written so that NaN fails too.
        if not apart >= least:
            raise UnclearTissueError(
                f"{NAMES[k][0].upper()}{NAMES[k][1:]} is not clearly brighter than {NAMES[k + 1]} {where}, as it is in "
                "a T1."
            )


def _shares(mixture: _Mixture, seen: _Seen, grid: Grid) -> list[NDArray[np.float32]]:
    """Share of each tissue in each voxel of the brain by its intensity between the means of two classes."""
    values = np.exp(seen.log_intensity - mixture.bias)
    white, grey, csf = np.exp(mixture.means)
    of_white = np.clip((values - grey) / (white - grey), 0, 1)
    of_csf = np.clip((grey - values) / (grey - csf), 0, 1)
    sigma = SHARE_WIDTH / grid.spacing
    brain = seen.brain.astype(np.float32)
    inside = np.where(seen.brain, ndimage.gaussian_filter(brain, sigma), 1)
    return [
        (ndimage.gaussian_filter((share * brain).astype(np.float32), sigma) / inside * brain).astype(np.float32)
        for share in (of_white, 1 - of_white - of_csf, of_csf)
    ]


class BlockSmoother:
    """A smooth field by weighted means over a wide Gaussian of values known in some voxels, by blocks of voxels.

    The slow twin filters the grid itself (`ndimage.gaussian_filter`); a test compares them.

    Parameters
    ----------
    known : ndarray of bool, shape (i, j, k)
    sigma : ndarray, shape (3,)
        Voxels.
    """

    def __init__(self, known: NDArray[np.bool_], sigma: NDArray[np.float64]) -> None:
        self._shape = known.shape
        self._blocks_shape = tuple(-(-n // BIAS_BLOCK) for n in known.shape)
        self._sigma = sigma / BIAS_BLOCK
        cells = np.argwhere(known)
        self._block = np.ravel_multi_index((cells // BIAS_BLOCK).T, self._blocks_shape)
        # A block's middle lies between its voxels.
        self._place = ((cells - (BIAS_BLOCK - 1) / 2) / BIAS_BLOCK).T.astype(np.float32)
        self._field = np.zeros(self._blocks_shape)

    def fit(self, total: NDArray[np.floating], weight: NDArray[np.floating]) -> None:
        """Take smoothed totals over smoothed weights for the field; one of both for each known voxel."""
        totals, weights = (
            ndimage.gaussian_filter(
                np.bincount(self._block, values, self._field.size).reshape(self._blocks_shape),
                self._sigma,
                mode="constant",
            )
            for values in (total, weight)
        )
        self._field = totals / np.maximum(weights, 1e-9 * weights.max())

    def where_known(self) -> NDArray[np.float32]:
        """The field in the known voxels."""
        return ndimage.map_coordinates(self._field, self._place, order=1, mode="nearest", output=np.float32)

    def everywhere(self) -> NDArray[np.float32]:
        """The field in every voxel of the grid."""
        places = [(np.arange(n) - (BIAS_BLOCK - 1) / 2) / BIAS_BLOCK for n in self._shape]
        place = np.meshgrid(*places, indexing="ij")
        return ndimage.map_coordinates(self._field, place, order=1, mode="nearest", output=np.float32)
