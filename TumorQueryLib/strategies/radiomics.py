"""Radiomics: six shape features and the centre of mass (paper, section 2.3).

The paper names voxel volume, elongation and major axis length and says that there
were six features of pyradiomics; the six here are those three, flatness, minor and
least axis length. All follow from a mask's second moments, which cost microseconds a
mask, by the definition of pyradiomics (van Griethuysen et al., Cancer Research 2017,
radiomics/shape.py). pyradiomics itself can compute the query's: the same numbers to
1e-10, but it also builds a surface and all its diameters, 20 to 290 ms a mask.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from TumorQueryLib.base.compiled import njit
from TumorQueryLib.base.errors import MissingDependencyError
from TumorQueryLib.base.progress import Progress, no_progress
from TumorQueryLib.database.masks import RunLengthMasks
from TumorQueryLib.geometry.grid import Grid, Volume, image_from_volume
from TumorQueryLib.geometry.regions import TumorMasks
from TumorQueryLib.strategies.base import register_strategy
from TumorQueryLib.strategies.embedding import Codes, EmbeddedStrategy

if TYPE_CHECKING:
    from TumorQueryLib.database import TumorDatabase

FEATURES = ("voxel volume", "elongation", "flatness", "major axis length", "minor axis length", "least axis length")

#: Entries that are compared by shape: those with the nearest centres (paper, section 2.3).
NEAREST_CENTRES = 1000


@register_strategy("radiomics")
class Radiomics(EmbeddedStrategy):
    """Of the 1,000 entries with the nearest centre of mass, those of the nearest shape.

    The centre is the whole tumour's. Among the nearest the score is the negative
    L2 of core and whole tumour, added, each over the six features. A query without a core is compared
    by the whole tumour alone; an entry without one has features of 0.

    Parameters
    ----------
    database : TumorDatabase
    rerank : int
        Put so many of the best in the order of their exact Dice.
    standardised : bool
        Divide each feature by its standard deviation over the database's tumours, so
        that not the volume in mm^3 alone decides. Off, as in the paper.
    pyradiomics : bool
        Let pyradiomics compute the query's features.
    progress : Progress
        Reports the making of the features on first use.

    Raises
    ------
    MissingDependencyError
        When `pyradiomics` is asked for and not installed.
    """

    #: An empty mask has no centre.
    finite = False
    name = "radiomics"

    def __init__(
        self,
        database: TumorDatabase,
        *,
        rerank: int = 0,
        standardised: bool = False,
        pyradiomics: bool = False,
        progress: Progress = no_progress,
    ) -> None:
        super().__init__(database, rerank=rerank, progress=progress)
        self._features_of_query = pyradiomics_features if pyradiomics else moment_features
        if pyradiomics:
            _import_pyradiomics()
        self._scale = {}
        for region in ("core", "whole"):
            features = self.codes[f"{region}_features"]
            present = features[features[:, 0] > 0]
            deviation = present.std(axis=0) if standardised and len(present) else np.ones(len(FEATURES))
            self._scale[region] = 1 / np.where(deviation > 0, deviation, 1)

    @property
    def model_sha256(self) -> str:
        """SHA-256 of the features' definition."""
        return hashlib.sha256(", ".join(FEATURES).encode()).hexdigest()

    def encode_entries(self, entries: NDArray[np.int64]) -> Codes:
        """Features (n, 6) of both regions and the whole tumour's centres (n, 3, RAS mm), float64."""
        core, _ = shape_features(self.database.core, entries, self.database.grid)
        whole, centres = shape_features(self.database.whole, entries, self.database.grid)
        return {"core_features": core, "whole_features": whole, "centres": centres}

    def scores(self, masks: TumorMasks) -> NDArray[np.float64]:
        """Negative distance of the features; -inf where the centre is not among the nearest."""
        grid = self.database.grid
        away = ((self.codes["centres"] - moment_centre(masks.whole, grid)) ** 2).sum(axis=1)
        away[np.isnan(away)] = np.inf
        nearest = np.argsort(away, kind="stable")[:NEAREST_CENTRES]
        scores = np.full(len(self.database), -np.inf)
        scores[nearest] = 0.0
        for region, mask in (("core", masks.core), ("whole", masks.whole)):
            if mask.any():
                difference = self.codes[f"{region}_features"][nearest] - self._features_of_query(mask, grid)
                scores[nearest] -= np.linalg.norm(difference * self._scale[region], axis=1)
        return scores


def shape_features(
    masks: RunLengthMasks, entries: ArrayLike, grid: Grid
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shape features and centres of mass of many masks, by their second moments.

    With lambda the eigenvalues of the voxel centres' covariance (mm^2, divided by the
    number of voxels): axis lengths 4 sqrt(lambda), elongation sqrt(lambda_minor /
    lambda_major), flatness sqrt(lambda_least / lambda_major).

    Parameters
    ----------
    masks : RunLengthMasks
    entries : array_like of int, shape (n,)
        Which of them.
    grid : Grid
        Theirs.

    Returns
    -------
    features : ndarray of float64, shape (n, 6)
        In the order of `FEATURES`: mm^3, two ratios in [0, 1], three lengths in mm. All
        0 for an empty mask; both ratios 0 where the mask has no extent (one voxel),
        where pyradiomics has no number.
    centres : ndarray of float64, shape (n, 3)
        Centres of mass, RAS mm; nan for an empty mask.
    """
    shape = np.array(masks.grid_shape, np.int64)
    numbers = np.asarray(entries, np.int64)
    sums = np.zeros((len(numbers), 10), np.int64)
    _sum_moments(*masks.source.select(numbers), shape, sums)
    return _features_of_sums(sums, grid)


def moment_features(mask: NDArray[np.bool_], grid: Grid) -> NDArray[np.float64]:
    """The six shape features of one mask by its second moments; see `shape_features`."""
    return _features_of_sums(_moments_of(mask)[None], grid)[0][0]


def moment_centre(mask: NDArray[np.bool_], grid: Grid) -> NDArray[np.float64]:
    """Centre of mass of one mask, RAS mm, shape (3,); nan for an empty mask."""
    return _features_of_sums(_moments_of(mask)[None], grid)[1][0]


def pyradiomics_features(mask: NDArray[np.bool_], grid: Grid) -> NDArray[np.float64]:
    """The six shape features of one mask by pyradiomics, in the order of `FEATURES`.

    Raises
    ------
    MissingDependencyError
        When pyradiomics is not installed.
    """
    shape_class = _import_pyradiomics()
    indices = np.argwhere(mask)
    if len(indices) < 2:
        # pyradiomics refuses an empty mask and gives nan for the ratios of one voxel.
        return moment_features(mask, grid)
    low, high = indices.min(0), indices.max(0) + 1
    box = mask[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    image = image_from_volume(Volume(box, grid.cropped(low, high)))
    shape = shape_class(image, image, label=1)
    return np.array(
        [
            shape.getVoxelVolumeFeatureValue(),
            shape.getElongationFeatureValue(),
            shape.getFlatnessFeatureValue(),
            shape.getMajorAxisLengthFeatureValue(),
            shape.getMinorAxisLengthFeatureValue(),
            shape.getLeastAxisLengthFeatureValue(),
        ],
        dtype=np.float64,
    )


def _import_pyradiomics() -> type[Any]:
    try:
        from radiomics.shape import RadiomicsShape
    except ImportError as error:
        raise MissingDependencyError(
            'The query\'s features by pyradiomics need the package pyradiomics: pip install "tumorquery[radiomics]". '
            "Without that option the same features are computed by this software."
        ) from error
    return RadiomicsShape


def _moments_of(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count, 3 first and 6 second moments of one mask in voxel indices, int64, shape (10,)."""
    masks = RunLengthMasks.from_masks([mask], mask.shape)
    sums = np.zeros((1, 10), np.int64)
    _sum_moments(*masks.source.select(np.zeros(1, np.int64)), np.array(mask.shape, np.int64), sums)
    return sums[0]


def _features_of_sums(sums: NDArray[np.int64], grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Features and centres from (count, 3 first moments, 6 second moments) in voxel indices."""
    count = sums[:, 0]
    present = count > 0
    first = sums[:, 1:4]
    upper = np.triu_indices(3)
    # Integers throughout, so that nothing is lost where the tumour is small and far from the corner.
    scatter = count[:, None] * sums[:, 4:] - first[:, upper[0]] * first[:, upper[1]]
    divisor = np.where(present, count, 1).astype(np.float64)
    covariance = np.zeros((len(sums), 3, 3))
    covariance[:, upper[0], upper[1]] = scatter / divisor[:, None] ** 2
    covariance[:, upper[1], upper[0]] = covariance[:, upper[0], upper[1]]
    axes = grid.affine[:3, :3]
    least, minor, major = np.sqrt(np.linalg.eigvalsh(axes @ covariance @ axes.T).clip(0)).T
    extent = np.where(major > 0, major, 1)
    volume = count * (grid.voxel_volume_ml * 1000)
    features = np.stack([volume, minor / extent, least / extent, 4 * major, 4 * minor, 4 * least], axis=1)
    centres = grid.to_ras(first / divisor[:, None])
    centres[~present] = np.nan
    return features, centres


@njit(cache=True, nogil=True)
def _sum_moments(rows, offsets, starts, lengths, shape, sums):
    for place in range(rows.size):
        n = si = sj = sk = ii = ij = ik = jj = jk = kk = np.int64(0)
        for run in range(offsets[rows[place]], offsets[rows[place] + 1]):
            row, k = divmod(np.int64(starts[run]), shape[2])
            i, j = divmod(row, shape[1])
            length = np.int64(lengths[run])
            last = length - 1
            # Sums of k and k^2 over the run k, ..., k + length - 1.
            k1 = length * k + length * last // 2
            k2 = length * k * k + k * length * last + length * last * (2 * length - 1) // 6
            n += length
            si += i * length
            sj += j * length
            sk += k1
            ii += i * i * length
            ij += i * j * length
            ik += i * k1
            jj += j * j * length
            jk += j * k1
            kk += k2
        sums[place, 0] = n
        sums[place, 1] = si
        sums[place, 2] = sj
        sums[place, 3] = sk
        sums[place, 4] = ii
        sums[place, 5] = ij
        sums[place, 6] = ik
        sums[place, 7] = jj
        sums[place, 8] = jk
        sums[place, 9] = kk
