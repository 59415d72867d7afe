"""What a density's outlines leave unexplained: its log-odds on the segmentation's outlines against the thresholds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.spatial import cKDTree
from scipy.special import expit

from TumorQueryLib.anatomy.tissue import Tissue
from TumorQueryLib.geometry.grid import Volume
from TumorQueryLib.geometry.regions import TumorMasks

#: Log-odds are limited to this: a density of 6e-6 and one of 0 say the same.
LARGEST_LOG_ODDS = 12.0
#: Faces count where both voxels lie more than so many voxels from what is no tissue: nearer there, the outline is
#: where the tissue ends and not where the density passes the threshold.
VOXELS_FROM_NO_TISSUE = 2
#: With fewer faces than this so far from what is no tissue, all of them count. Both outlines together: one whose faces
#: all lie near it shows where the tissue ends, and within the correlation length the other says more of it.
FEWEST_FACES = 20
CLUSTERS = 400  # of faces, of both outlines together
CLUSTER_ROUNDS = 3


def log_odds(density: ArrayLike) -> NDArray[np.float32]:
    """log(u / (1 - u)) of densities in [0, 1], limited to +-12, float32 of their shape."""
    u = np.asarray(density, np.float32)
    with np.errstate(divide="ignore"):
        return np.clip(np.log(u) - np.log1p(-u), -LARGEST_LOG_ODDS, LARGEST_LOG_ODDS)


def density_of_log_odds(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """The densities whose log-odds these are, float32 in [0, 1]."""
    return expit(np.asarray(values, np.float32))


@dataclass(frozen=True, eq=False)
class OutlineResiduals:
    """Where the segmentation's outlines run, and how far a density is from its thresholds there.

    Parameters
    ----------
    points : ndarray, shape (n, 3)
        Centres of the faces between a voxel of a region and one outside, RAS mm of the density's grid.
    residuals : ndarray, shape (n,)
        logit(threshold) - mean log-odds of the face's two voxels; above 0 where the density is too low.
    of_core : ndarray of bool, shape (n,)
        Whether the face is of the core's outline, and not of the whole tumour's.
    """

    points: NDArray[np.float64]
    residuals: NDArray[np.float64]
    of_core: NDArray[np.bool_]

    @property
    def rms(self) -> float:
        """Root mean square of the residuals, in log-odds; nan without any outline in tissue."""
        return float(np.sqrt(np.mean(self.residuals**2))) if len(self.residuals) else math.nan

    def of(self, chosen: NDArray[np.bool_]) -> OutlineResiduals:
        """Those of some faces."""
        return OutlineResiduals(self.points[chosen], self.residuals[chosen], self.of_core[chosen])

    def limited(self, largest: float) -> OutlineResiduals:
        """With residuals of at most this size: one wild stretch of an outline cannot pull everything."""
        return OutlineResiduals(self.points, np.clip(self.residuals, -largest, largest), self.of_core)

    def clustered(self, clusters: int = CLUSTERS, random_seed: int = 0) -> OutlineResiduals:
        """Averaged over clusters of neighbouring faces of one outline, about as many as asked for.

        Centres drawn at random from the faces, then Lloyd's rounds (doi 10.1109/TIT.1982.1056489): each face goes to
        the nearest centre, which moves to the mean of its faces.
        """
        if len(self.residuals) <= clusters:
            return self
        random = np.random.default_rng(random_seed)
        parts = []
        for region in (True, False):
            faces = self.of(self.of_core == region)
            share = round(clusters * len(faces.residuals) / len(self.residuals))
            if share:
                parts.append(_averaged(faces, share, random))
        return OutlineResiduals(
            np.concatenate([part.points for part in parts]),
            np.concatenate([part.residuals for part in parts]),
            np.concatenate([part.of_core for part in parts]),
        )


def _averaged(faces: OutlineResiduals, clusters: int, random: np.random.Generator) -> OutlineResiduals:
    centres = faces.points[random.choice(len(faces.points), clusters, replace=False)]
    for _ in range(CLUSTER_ROUNDS):
        nearest = cKDTree(centres).query(faces.points)[1]
        counts = np.bincount(nearest, minlength=clusters)
        used = counts > 0
        centres = np.stack([np.bincount(nearest, x, clusters)[used] / counts[used] for x in faces.points.T], axis=1)
        residuals = np.bincount(nearest, faces.residuals, clusters)[used] / counts[used]
        clusters = len(centres)
    return OutlineResiduals(centres, residuals, np.full(clusters, faces.of_core[0]))


def outline_residuals(
    density: Volume, tissue: Tissue, observed: TumorMasks, thresholds: tuple[float, float]
) -> OutlineResiduals:
    """The residuals of a density at the faces of the segmentation's outlines.

    Parameters
    ----------
    density : Volume
        On the tissue's grid.
    tissue : Tissue
        Faces next to what is no tissue are left out (`VOXELS_FROM_NO_TISSUE`).
    observed : TumorMasks
        The segmentation on that grid.
    thresholds : tuple of float
        Of core and whole tumour.
    """
    grid = tissue.grid
    depth = ndimage.distance_transform_edt(tissue.mask)
    values = log_odds(density.array)
    found = []
    for region, (mask, threshold) in enumerate(zip((observed.core, observed.whole), thresholds)):
        for axis in range(3):
            first, second = _pair(axis)
            faces = np.argwhere(mask[first] != mask[second])
            step = np.eye(3, dtype=int)[axis]
            a, b = tuple(faces.T), tuple((faces + step).T)
            residual = log_odds(threshold) - (values[a] + values[b]) / 2
            found.append(
                np.column_stack(
                    [
                        grid.to_ras(faces + step / 2),
                        residual,
                        np.minimum(depth[a], depth[b]),
                        np.full(len(faces), region),
                    ]
                )
            )
    rows = np.concatenate(found)
    deep = rows[:, 4] > VOXELS_FROM_NO_TISSUE
    rows = rows[deep if deep.sum() >= FEWEST_FACES else rows[:, 4] > 0]
    return OutlineResiduals(rows[:, :3], rows[:, 3], rows[:, 5] == 0)


def _pair(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Slices of all voxels but the last, and of all but the first, along an axis."""
    first, second = [slice(None)] * 3, [slice(None)] * 3
    first[axis], second[axis] = slice(None, -1), slice(1, None)
    return tuple(first), tuple(second)
