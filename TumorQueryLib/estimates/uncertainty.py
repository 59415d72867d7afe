"""How sure a density is: what the outlines leave open of the model's parameters and of what the model misses.

Two sources, both as Gaussian fields of the log-odds:

- the parameters. Solves around the fit give the loss 2 - Dice sum as a quadratic of seed, infiltration length and
  age; its likelihood is tempered by the residual, p ~ loss^(-n/2), n being what two segmented regions are worth in
  independent observations (`EFFECTIVE_OBSERVATIONS`), not their number of voxels. The same solves give the log-odds'
  derivative in each voxel.
- the discrepancy: what no parameters explain. A Gaussian process whose size is the patient's own residual on the
  outlines, which is known there and less and less so away from them.

The bands are not sampled, so the same input gives the same ones. Joint draws of both are kept for what needs more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree
from scipy.special import ndtr, ndtri

from TumorQueryLib.anatomy.anatomy import Anatomy
from TumorQueryLib.anatomy.tissue import Tissue
from TumorQueryLib.base.errors import InputError
from TumorQueryLib.base.method import DEFAULT_LEVEL, LEVELS
from TumorQueryLib.base.parallel import available_cores, in_order
from TumorQueryLib.base.progress import Progress, no_progress
from TumorQueryLib.estimates.assimilate import (
    LARGEST_RESIDUAL,
    correction_of,
    correction_share,
    distance_from,
    held_alike,
)
from TumorQueryLib.estimates.draws import DensityDraws
from TumorQueryLib.estimates.estimate import Estimate
from TumorQueryLib.estimates.foci import combined_density
from TumorQueryLib.estimates.kriging import Kriging
from TumorQueryLib.estimates.outlines import density_of_log_odds, log_odds, outline_residuals
from TumorQueryLib.estimates.search import Start
from TumorQueryLib.geometry.grid import Grid, Volume, resample
from TumorQueryLib.geometry.regions import TumorMasks, bounding_box, dice_from_counts
from TumorQueryLib.growth import GrowthParameters, grow_trajectory, simulate

#: Independent observations that a segmentation of two regions is worth.
EFFECTIVE_OBSERVATIONS = 12.0
#: Standard deviation of the discrepancy: this times sqrt(rms^2 + floor^2) of the residuals, in log-odds.
DISCREPANCY, SMALLEST_RESIDUAL = 1.5, 0.2
#: Steps of the solves around the fit: seed (mm), log length, and log volume of the whole tumour, which the outlines
#: fix best: lengths and ages of one volume differ little in their outlines.
STEPS = np.array([1.2, 1.2, 1.2, 0.10, 0.15])
#: Moments of each solve, as shares of the last step.
MOMENTS = (-1.0, -0.5, 0.0, 0.5, 1.0)
#: Smallest curvature of the loss's logarithm that is believed, per step squared: a direction in which the solves show
#: less has a standard deviation of about three steps.
SMALLEST_CURVATURE = 0.01
#: mm from the whole tumour within which a density has bands; beyond it is far below any level that is asked for.
REACH = 40.0
#: In steps: the ends of the axes; the corners lie half as far out along each.
AXIAL = 1.2
#: A whole tumour grows less than this many times in one step of the solver, once there is one.
FASTEST_GROWTH = 8.0
#: Below this, 2 - Dice sum is an accident of the voxels.
SMALLEST_LOSS = 0.02
#: Moments of varied tumours that a quadratic of five parameters is fitted to, at least.
FEWEST_MOMENTS = 60
#: Voxels from one node to the next where the kriging's variance is computed.
COARSE = 3
SAVED_DRAWS = 32
#: For the volume's interval, some at a time; at voxels about so many mm apart; where the log-odds are farther from the
#: level's than so many standard deviations, no draw is looked at.
VOLUME_DRAWS, DRAWS_AT_A_TIME, VOLUME_SPACING, CERTAIN = 1000, 250, 4.0, 4.0
#: What no width of an interval covers.
UNDETERMINED = (
    "These intervals hold for this growth model. One scan does not tell how fast cells move from how fast they grow, "
    "only the ratio (infiltration length) and the age in growth times (rho T); and the length rests on grey matter "
    "being ten times slower than white, which the images do not show."
)
_OF_LENGTH = np.array([0, 0, 0, 1, 0])
#: Abscissas and weights for means over a normal distribution.
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(21)


@dataclass(frozen=True, eq=False)
class ParameterSpread:
    """What the outlines leave open of one focus's parameters, in its anatomy.

    Parameters
    ----------
    parameters : GrowthParameters
        Of the fit.
    covariance : ndarray, shape (5, 5)
        Of seed x, y, z (mm), log infiltration length and log volume of the whole tumour.
    of_age : ndarray, shape (5,)
        Change of log rho T with each of them.
    untold : int
        Directions of the five in which the solves around the fit show next to no change of the loss: there the
        covariance is the largest that the method gives, and not what the images say.
    """

    parameters: GrowthParameters
    covariance: NDArray[np.floating]
    of_age: NDArray[np.float64]
    untold: int = 0

    def length_interval(self, confidence: float = 0.9) -> tuple[float, float]:
        """Infiltration length, mm of the anatomy."""
        return self._interval(self.parameters.infiltration_length, _OF_LENGTH, confidence)

    def rho_t_interval(self, confidence: float = 0.9) -> tuple[float, float]:
        """Age rho T."""
        return self._interval(self.parameters.rho_t, self.of_age, confidence)

    @property
    def seed_deviation_mm(self) -> float:
        """Root mean square distance of the seed from the fit's, mm of the anatomy."""
        return math.sqrt(np.trace(self.covariance[:3, :3]))

    @property
    def length_rho_t_correlation(self) -> float:
        """Correlation of the logarithms of infiltration length and rho T, in [-1, 1]."""
        together = _OF_LENGTH @ self.covariance @ self.of_age
        return float(together / math.sqrt(self._variance(_OF_LENGTH) * self._variance(self.of_age)))

    def _interval(self, value: float, direction: NDArray, confidence: float) -> tuple[float, float]:
        width = quantile(confidence) * math.sqrt(self._variance(direction))
        return value * math.exp(-width), value * math.exp(width)

    def _variance(self, direction: NDArray) -> float:
        return float(direction @ self.covariance @ direction)


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """The bands of an assimilated density.

    Parameters
    ----------
    anatomy : Anatomy
        The model's.
    density : Volume
        The assimilated density on the T1Gd image's grid: every band holds it.
    log_odds, deviation : ndarray of float32, shape anatomy.grid.shape
        Mean and standard deviation of the log-odds; deviation 0 outside tissue and farther than 40 mm from the tumour.
    model : str
        Name of the estimate that was varied.
    spreads : tuple of ParameterSpread
        Of each focus.
    residual_rms : float
        Of the model on the outlines, in log-odds.
    level : float
        Density whose exceedance is asked for.
    jacobian : ndarray of float32, shape (5 foci, cells)
        Change of the log-odds with each standardised parameter after the same correction, where the deviation is
        above 0. One row more where the correction's limit leaves something of the outlines' residuals: that.
    discrepancy : Kriging
        Of the correction, unit variance.
    discrepancy_deviation : float
        Standard deviation of the discrepancy away from the outlines, in log-odds.
    correction_share : ndarray of float32, shape anatomy.grid.shape
        Share of the correction that the assimilated density has, in [0, 1] (`assimilate.correction_share`).
    thresholds : tuple of float
        Of core and whole tumour, by which the density is held to the outlines.
    """

    anatomy: Anatomy
    density: Volume
    log_odds: NDArray[np.float32]
    deviation: NDArray[np.float32]
    model: str
    spreads: tuple[ParameterSpread, ...]
    residual_rms: float
    level: float
    jacobian: NDArray[np.float32]
    discrepancy: Kriging
    discrepancy_deviation: float
    correction_share: NDArray[np.float32]
    thresholds: tuple[float, float]

    def band(self, confidence: float = 0.9) -> tuple[Volume, Volume]:
        """Lower and upper density between which the true one lies with this probability, voxel by voxel.

        Parameters
        ----------
        confidence : float
            In (0, 1).

        Returns
        -------
        tuple of Volume
            float32 in [0, 1], on the T1Gd image's grid.
        """
        width = quantile(confidence) * self.deviation
        bounds = []
        for sign, bound in ((-1, np.minimum), (1, np.maximum)):
            # Every band holds the density, which is held to the outlines.
            limit = self._in_patient(density_of_log_odds(self.log_odds + sign * width), self.density.array, bound)
            bounds.append(Volume(limit, self.density.grid))
        return bounds[0], bounds[1]

    @property
    def mean(self) -> Volume:
        """Expected density, float32 in [0, 1], on the T1Gd image's grid; made at each call, as all maps here are."""
        return Volume(self._in_patient(self._moments[0], self.density.array), self.density.grid)

    @property
    def sd(self) -> Volume:
        """Standard deviation of the density, float32, on the T1Gd image's grid."""
        first, second = self._moments
        deviation = np.sqrt(np.maximum(second - first**2, 0))
        return Volume(self._in_patient(deviation, np.zeros((), np.float32)), self.density.grid)

    @property
    def probability(self) -> Volume:
        """Probability that the density exceeds `level`, float32 in [0, 1], on the T1Gd image's grid.

        The outlines are taken as the density takes them: 1 within that of a threshold from the level on, 0 beyond that
        of one up to it.
        """
        above = self.log_odds - log_odds(self.level)
        with np.errstate(divide="ignore", invalid="ignore"):
            chance = np.where(self.deviation > 0, ndtr(above / self.deviation), above > 0)
        beyond = self.density.array > self.level
        probability = self._in_patient(chance.astype(np.float32), beyond)
        inside, outside = self._told(self.density.array)
        probability[inside], probability[outside] = 1, 0
        return Volume(probability, self.density.grid)

    def _told(self, density: NDArray[np.float32]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Where the outlines that a density is held to tell that it exceeds `level`, and where that it does not."""
        above: NDArray[np.bool_] = np.zeros(density.shape, bool)
        below = above.copy()
        for threshold in self.thresholds:
            if self.level <= threshold:
                above |= density > threshold
            if self.level >= threshold:
                below |= density <= threshold
        return above, below

    def length_interval(self, confidence: float = 0.9, focus: int = 0) -> tuple[float, float]:
        """Infiltration length sqrt(D/rho) of a focus, the patient's mm."""
        low, high = self.spreads[focus].length_interval(confidence)
        return low * self.anatomy.length_scale, high * self.anatomy.length_scale

    def rho_t_interval(self, confidence: float = 0.9, focus: int = 0) -> tuple[float, float]:
        """Age rho T of a focus."""
        return self.spreads[focus].rho_t_interval(confidence)

    @cached_property
    def volume_interval(self) -> tuple[float, float]:
        """5 and 95 % quantiles of the volume (ml) of the T1Gd image's voxels whose density exceeds `level`.

        Of 1000 joint draws, more than are saved: the ends of 32 are chance. The maps of the band say nothing of it: no
        density lies at its upper bound everywhere. The interval holds `volume_ml`.
        """
        stride = np.maximum(1, VOLUME_SPACING // self.density.grid.spacing).astype(int)
        lattice = tuple(slice(part.start + n // 2, part.stop, n) for part, n in zip(self._box, stride.tolist()))
        density = self.density.array[lattice]
        low = high = self.volume_ml
        if not density.size:
            return low, high
        grid = self.density.grid
        affine = grid.affine.copy()
        affine[:3, :3] *= stride
        affine[:3, 3] = grid.to_ras([part.start for part in lattice])
        i, j, k = density.shape
        # Number of the anatomy's cell at each of these voxels.
        spread = self.deviation > 0
        numbers = np.full(spread.shape, -1, np.int32)
        numbers[spread] = np.arange(np.count_nonzero(spread))
        way = None if self.anatomy.space is None else self.anatomy.space.patient_to_atlas
        cell = resample(
            Volume(numbers, self.anatomy.grid), Grid((i, j, k), affine), way, interpolation="nearest", outside=-1
        ).array
        above = self.log_odds[spread] - log_odds(self.level)
        open_to = np.append(np.abs(above) < CERTAIN * self.deviation[spread], False)[cell]
        open_to &= ~np.logical_or(*self._told(density))
        cells = cell[open_to]
        random = np.random.default_rng(0)
        places = self.anatomy.grid.to_ras(np.argwhere(spread)[cells])
        share = self.correction_share[spread][cells]
        counts = []
        for _ in range(0, VOLUME_DRAWS, DRAWS_AT_A_TIME):
            parameters = random.standard_normal((DRAWS_AT_A_TIME, len(self.jacobian))).astype(np.float32)
            drawn = self.discrepancy.draw(places, DRAWS_AT_A_TIME, random, share)
            drawn = parameters @ self.jacobian[:, cells] + np.float32(self.discrepancy_deviation) * drawn
            counts.append(np.count_nonzero(drawn > -above[cells], axis=1))
        # What the draws have more than the density itself, so that both are counted alike.
        more = np.concatenate(counts) - np.count_nonzero(density[open_to] > self.level)
        volumes = self.volume_ml + more * float(grid.voxel_volume_ml * stride.prod())
        low, high = np.quantile(volumes, (0.05, 0.95))
        return max(0.0, min(float(low), self.volume_ml)), max(float(high), self.volume_ml)

    @property
    def volume_ml(self) -> float:
        """Volume (ml) where the assimilated density exceeds `level`."""
        return float(np.count_nonzero(self.density.array > self.level) * self.density.grid.voxel_volume_ml)

    def sentences(self) -> list[str]:
        """What it says in words, and what the images do not determine."""
        said = []
        name = "the match" if self.model == "match" else "the refined tumour"
        for number, spread in enumerate(self.spreads):
            of = f" of {name}" + (f", focus {number + 1}" if len(self.spreads) > 1 else "")
            length, rho_t = self.length_interval(focus=number), self.rho_t_interval(focus=number)
            middle = spread.parameters.infiltration_length * self.anatomy.length_scale
            said.append(
                f"Infiltration length{of}: {middle:.1f} mm, 90 % between {length[0]:.1f} and {length[1]:.1f}; "
                f"rho T {spread.parameters.rho_t:.1f}, 90 % between {rho_t[0]:.1f} and {rho_t[1]:.1f}."
            )
        low, high = self.volume_interval
        between = f"90 % between {low:.0f} and {high:.0f}"
        said.append(f"Volume of the assimilated density above {self.level:g}: {self.volume_ml:.0f} ml, {between}.")
        if self.model == "match" or self.anatomy.name != "patient" or self.anatomy.origin is not None:
            said.append(
                "How often such intervals hold was measured for tumours refined in the patient's anatomy with the "
                f"atlas's tissue; {name} is none of those, so its own may hold less often."
            )
        untold = max(spread.untold for spread in self.spreads)
        if untold:
            said.append(
                f"The outlines tell {len(STEPS) - untold} of the model's five parameters; the intervals of the rest "
                "are the widest that are given, and may be wider still."
            )
        return [*said, UNDETERMINED]

    def as_json(self) -> dict[str, Any]:
        """As result.json holds it."""
        foci = []
        for number, spread in enumerate(self.spreads):
            length, rho_t = self.length_interval(focus=number), self.rho_t_interval(focus=number)
            foci.append(
                {
                    "infiltration_length_patient_mm": dict(zip(("p05", "p95"), length)),
                    "rho_t": dict(zip(("p05", "p95"), rho_t)),
                    "length_rho_t_correlation": spread.length_rho_t_correlation,
                    "untold_directions": spread.untold,
                    "seed_deviation_mm": spread.seed_deviation_mm * self.anatomy.length_scale,
                }
            )
        low, high = self.volume_interval
        return {
            "model": self.model,
            "level": self.level,
            "foci": foci,
            "volume_above_level_ml": {"density": self.volume_ml, "p05": low, "p95": high},
            "effective_observations": EFFECTIVE_OBSERVATIONS,
            "residual_rms": self.residual_rms,
            "discrepancy_deviation": self.discrepancy_deviation,
            "draws": SAVED_DRAWS,
            "sentences": self.sentences(),
        }

    def draw(self, count: int = SAVED_DRAWS, random_seed: int = 0) -> DensityDraws:
        """Whole densities that the outlines leave possible, each with its neighbouring voxels as they go together.

        Parameters
        ----------
        count : int
            At least 1.
        random_seed : int

        Returns
        -------
        DensityDraws
            Kept as factors of the log-odds.
        """
        if count < 1:
            raise InputError(f"At least one density is drawn, not {count}.")
        return DensityDraws.made(
            self.anatomy,
            self.log_odds,
            self.deviation > 0,
            self.jacobian,
            self.discrepancy,
            self.correction_share,
            self.discrepancy_deviation,
            count,
            np.random.default_rng(random_seed),
        )

    def drawn_densities(self, grid: Grid) -> Iterator[Volume]:
        """The saved draws at the voxels of a grid in the patient's space, float32, held to the outlines."""
        drawn = (self.anatomy.in_patient(density, grid) for density in self.draw())
        return held_alike(drawn, self.density, grid, self.thresholds)

    @cached_property
    def _moments(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean of the density and of its square on the anatomy's grid; what it is there where it has no deviation."""
        density, spread = density_of_log_odds(self.log_odds), self.deviation > 0
        middle, width = self.log_odds[spread], self.deviation[spread]
        sums = np.zeros((2, len(middle)), np.float32)
        for node, weight in zip(_NODES, _WEIGHTS / _WEIGHTS.sum()):
            value = density_of_log_odds(middle + np.float32(node) * width)
            sums += np.float32(weight) * np.stack([value, value**2])
        first, second = density, density**2
        first[spread], second[spread] = sums
        return first, second

    @cached_property
    def _box(self) -> tuple[slice, slice, slice]:
        """Of the T1Gd image's grid: beyond it no density has a band."""
        return self.anatomy.box_in_patient(self.deviation > 0, self.density.grid)

    def _in_patient(
        self, values: NDArray[np.float32], beyond: NDArray[Any], joined: np.ufunc | None = None
    ) -> NDArray[np.float32]:
        """Values of the anatomy's tissue on the T1Gd image's grid, `beyond` where no density has a band.

        Parameters
        ----------
        values : ndarray of float32, shape anatomy.grid.shape
        beyond : ndarray
            Broadcastable to the T1Gd image's grid.
        joined : ufunc, optional
            Of the mapped values and `beyond`, where there are bands; by default the former.
        """
        grid, box = self.density.grid, self._box
        mapped = np.empty(grid.shape, np.float32)
        mapped[...] = beyond
        if all(part.stop > part.start for part in box):
            part_of_grid = grid.cropped([part.start for part in box], [part.stop for part in box])
            inside = np.where(self.anatomy.tissue.mask, values, np.float32(0))
            near = self.anatomy.in_patient(Volume(inside, self.anatomy.grid), part_of_grid).array
            mapped[box] = near if joined is None else joined(near, mapped[box])
        return mapped


def quantile(confidence: float) -> float:
    """Half the width of a band of this probability, in standard deviations; `InputError` outside (0, 1)."""
    if not 0 < confidence < 1:
        raise InputError(f"A band has a probability between 0 and 1, not {confidence}.")
    return float(ndtri((1 + confidence) / 2))


def estimate_uncertainty(
    model: Estimate,
    assimilated: Estimate,
    observed_in_anatomy: TumorMasks,
    thresholds: tuple[float, float],
    *,
    level: float = DEFAULT_LEVEL,
    progress: Progress = no_progress,
) -> Uncertainty:
    """The bands of a density.

    Parameters
    ----------
    model : Estimate
        "match" or "refined".
    assimilated : Estimate
        Made of it (`assimilate`).
    observed_in_anatomy : TumorMasks
        The segmentation on the grid of the model's anatomy.
    thresholds : tuple of float
        Of core and whole tumour.
    level : float
        Density whose exceedance is asked for, from .001 to .999.
    progress : Progress
        Raises `Cancelled` to stop.

    Raises
    ------
    InputError
        When the model has no parameters, the level is no density, or the tumour lies where nothing can be told of it.
    """
    if not model.parameters:
        raise InputError(f"The uncertainty is that of a grown tumour; the estimate {model.name} has no parameters.")
    if not LEVELS[0] <= level <= LEVELS[1]:
        raise InputError(f"A level is a density from {LEVELS[0]:g} to {LEVELS[1]:g}, not {level}.")
    anatomy, tissue = model.anatomy, model.anatomy.tissue
    distance = distance_from(observed_in_anatomy.whole, anatomy)
    near = tissue.mask & (distance < REACH)
    seen = outline_residuals(model.density, tissue, observed_in_anatomy, thresholds).clustered()
    if not near.any() or not len(seen.residuals):
        raise InputError(
            "No outline of the tumour lies in the brain's tissue, so nothing says how sure its density is."
        )
    spreads, columns = [], []
    for focus in range(len(model.parameters)):
        spread, derivative = vary(model, focus, observed_in_anatomy, thresholds, near, progress=progress)
        spreads.append(spread)
        columns.append(derivative.T @ _root(spread.covariance))
    jacobian = np.concatenate(columns, axis=1)
    places = tissue.grid.to_ras(np.argwhere(near))
    field = correction_of(seen, anatomy)
    at_points = jacobian[cKDTree(places).query(seen.points)[1]]
    share = correction_share(distance).astype(np.float32)
    taken = share[near]
    # A change of the parameters changes the residuals too, and with them the correction, as far as there is one.
    jacobian = jacobian - taken[:, None] * field.mean(places, at_points)
    unbelieved = seen.residuals - seen.limited(LARGEST_RESIDUAL).residuals
    if unbelieved.any():
        # What the correction leaves of what it sees goes up or down as a whole.
        unused = taken[:, None] * field.mean(places, unbelieved[:, None])
        jacobian = np.concatenate([jacobian, unused], axis=1)
    deviation_of_discrepancy = DISCREPANCY * math.hypot(seen.rms, SMALLEST_RESIDUAL)
    left = 1 - taken * (2 - taken) * (1 - variance_left(field, near, tissue.grid))
    deviation = np.zeros(tissue.grid.shape, np.float32)
    deviation[near] = np.sqrt((jacobian**2).sum(axis=1) + deviation_of_discrepancy**2 * left)
    return Uncertainty(
        anatomy=anatomy,
        density=assimilated.in_patient,
        log_odds=log_odds(assimilated.density.array),
        deviation=deviation,
        model=model.name,
        spreads=tuple(spreads),
        residual_rms=model.residual_rms,
        level=level,
        jacobian=jacobian.T,
        discrepancy=field,
        discrepancy_deviation=deviation_of_discrepancy,
        correction_share=share,
        thresholds=thresholds,
    )


def vary(
    model: Estimate,
    focus: int,
    observed: TumorMasks,
    thresholds: tuple[float, float],
    cells: NDArray[np.bool_],
    *,
    progress: Progress = no_progress,
) -> tuple[ParameterSpread, NDArray[np.float32]]:
    """Grow a focus again with slightly other parameters, the other foci as they are.

    Parameters
    ----------
    model : Estimate
    focus : int
    observed : TumorMasks
        On the grid of the model's anatomy.
    thresholds : tuple of float
    cells : ndarray of bool
        On that grid: where the log-odds' derivative is wanted.
    progress : Progress

    Returns
    -------
    spread : ParameterSpread
    derivative : ndarray of float32, shape (5, cells)
        Of the log-odds by seed x, y, z (mm), log infiltration length and log volume of the whole tumour.
    """
    tissue, fit = model.anatomy.tissue, model.parameters[focus]
    grown = [simulate(parameters, tissue) for parameters in model.parameters]
    volume = float(np.count_nonzero(grown[focus] > thresholds[1]) * tissue.grid.voxel_volume_ml)
    if not volume:
        raise InputError(
            "The modelled tumour has no density above the whole tumour's threshold, so it cannot be varied."
        )
    has_core = bool(observed.core.any())
    others = [density[cells] for n, density in enumerate(grown) if n != focus]
    regions = (observed.core[cells], observed.whole[cells])
    outside = [int(np.count_nonzero(mask & ~cells)) for mask in (observed.core, observed.whole)]
    places = _around(fit, tissue)

    def grow(number: int) -> tuple[list[list[float]], NDArray[np.float32]]:
        (seed, length), step = places[number]
        rows, sums = [], np.zeros((len(STEPS) + 1, len(regions[0])), np.float32)
        # Where the tissue is too small to start in, a tumour is left out.
        with suppress(InputError):
            for rho_t, of_volume, values in _moments_of_volume(seed, length, tissue, cells, thresholds[1], volume):
                density = combined_density([density_of_log_odds(values), *others])
                core, whole = (_dice(density > t, mask, more) for t, mask, more in zip(thresholds, regions, outside))
                row = [1.0, *step, of_volume]
                loss = 2 - (core if has_core else whole) - whole
                rows.append([*row, math.log(rho_t / fit.rho_t), max(loss, SMALLEST_LOSS)])
                sums += np.multiply.outer(np.array(row, np.float32), log_odds(density) if others else values)
        return rows, sums

    rows: list[list[float]] = []
    sums = np.zeros((len(STEPS) + 1, len(regions[0])), np.float32)
    cores = available_cores()
    with ThreadPoolExecutor(cores) as executor:
        for number, (found, part) in enumerate(in_order(executor, grow, range(len(places)), cores)):
            rows += found
            sums += part
            progress((number + 1) / len(places), "Varying the tumour's parameters")
    if len(rows) < FEWEST_MOMENTS:
        raise InputError("Too few tumours around the fit can be grown in the tissue there to say how sure it is.")
    table = np.array(rows)
    steps, ages, losses = table[:, :6], table[:, 6], table[:, 7]
    # Least squares from sums, so that no more than one tumour's log-odds are held at a time.
    derivative = (np.linalg.pinv(steps.T @ steps)[1:].astype(np.float32) @ sums) / STEPS[:, None]
    of_age = np.linalg.lstsq(steps, ages, rcond=None)[0][1:] / STEPS
    # Without a core one region is worth half of two.
    observations = EFFECTIVE_OBSERVATIONS if has_core else EFFECTIVE_OBSERVATIONS / 2
    in_steps, untold = covariance_of(steps[:, 1:], losses, observations)
    return ParameterSpread(fit, in_steps * np.outer(STEPS, STEPS), of_age, untold), derivative.astype(np.float32)


def _around(fit: GrowthParameters, tissue: Tissue) -> list[tuple[Start, NDArray[np.float64]]]:
    """Seeds and lengths around a fit, and what they are in `STEPS` from it.

    A central composite design (Box and Wilson 1951, doi 10.1111/j.2517-6161.1951.tb00067.x): the fit, both ends of
    each axis, and the corners of a cube half as far out along each axis.
    """
    axes = AXIAL * np.concatenate([np.eye(4), -np.eye(4)])
    corners = AXIAL / 2 * np.array(list(product((-1, 1), repeat=4)))
    places = []
    for step in [np.zeros(4), *axes, *corners]:
        seed = tissue.moved_into(np.asarray(fit.seed) + step[:3] * STEPS[:3])
        # A seed that left the tissue is not where it was sent.
        placed = (np.asarray(seed) - fit.seed) / STEPS[:3]
        places.append(((seed, fit.infiltration_length * math.exp(step[3] * STEPS[3])), np.array([*placed, step[3]])))
    return places


def _moments_of_volume(
    seed: tuple[float, float, float],
    length: float,
    tissue: Tissue,
    cells: NDArray[np.bool_],
    threshold: float,
    volume: float,
) -> Iterator[tuple[float, float, NDArray[np.float32]]]:
    """The moments of a growing tumour at which its whole tumour has about a volume (ml).

    Yields
    ------
    tuple
        rho T, log of the volume's ratio to `volume` in steps, and the log-odds in the cells. Between two step ends the
        logarithm of the volume and the log-odds are taken to change linearly, as in `moments.py`.
    """
    wanted = [math.log(volume) + share * STEPS[4] for share in MOMENTS]
    end = math.exp(wanted[-1])
    held: tuple[float, float, NDArray[np.float32]] | None = None
    for moment in grow_trajectory(seed, length, tissue, every_step=True, threshold=threshold, stop_volume_ml=end):
        if moment.volume_ml * FASTEST_GROWTH < volume:
            continue
        size, values = math.log(moment.volume_ml), log_odds(moment.on_grid(tissue.grid.shape)[cells])
        before = (moment.rho_t, size, values) if held is None else held
        while wanted and size >= wanted[0]:
            target = wanted.pop(0)
            share = (target - before[1]) / (size - before[1]) if size > before[1] else 1.0
            rho_t = before[0] + share * (moment.rho_t - before[0])
            between = before[2] + np.float32(share) * (values - before[2])
            # A tumour that is as large when it is planted has no age that could be compared.
            if rho_t > 0:
                yield rho_t, (target - math.log(volume)) / STEPS[4], between
        held = (moment.rho_t, size, values)


def covariance_of(
    steps: NDArray[np.float64], losses: NDArray[np.float64], observations: float = EFFECTIVE_OBSERVATIONS
) -> tuple[NDArray[np.floating], int]:
    """Covariance of parameters whose loss was seen around a fit, all in units of `STEPS`, and `ParameterSpread.untold`.

    The loss's logarithm is fitted by a quadratic, better tumours counting more; p ~ loss^(-n/2) then is a normal
    distribution of precision n A, A being half the quadratic's Hessian with eigenvalues of at least
    `SMALLEST_CURVATURE`.

    Parameters
    ----------
    steps : ndarray, shape (n, 5)
    losses : ndarray, shape (n,)
        Above 0.
    observations : float
        Independent ones that the regions are worth, the n above.
    """
    pairs = list(combinations(range(steps.shape[1]), 2))
    terms = np.column_stack([np.ones(len(steps)), steps, steps**2, *(steps[:, i] * steps[:, j] for i, j in pairs)])
    weights = np.sqrt(losses.min() / losses)
    found = np.linalg.lstsq(terms * weights[:, None], np.log(losses) * weights, rcond=None)[0]
    size = steps.shape[1]
    half_hessian = np.diag(found[1 + size : 1 + 2 * size])
    for (i, j), value in zip(pairs, found[1 + 2 * size :]):
        half_hessian[i, j] = half_hessian[j, i] = value / 2
    values, vectors = np.linalg.eigh(half_hessian)
    precision = observations * np.maximum(values, SMALLEST_CURVATURE)
    return vectors @ np.diag(1 / precision) @ vectors.T, int((values < SMALLEST_CURVATURE).sum())


def variance_left(field: Kriging, cells: NDArray[np.bool_], grid: Grid) -> NDArray[np.float32]:
    """`Kriging.variance` at the cells of a grid, computed at every third along each axis and interpolated between.

    Returns
    -------
    ndarray of float32, shape (cells,)
    """
    start, stop = bounding_box(cells)
    shape = -(-(stop - 1 - start) // COARSE) + 1
    nodes = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1).reshape(-1, 3)
    index = np.argwhere(cells) - start
    used = np.zeros(shape, bool)
    for corner in product((0, 1), repeat=3):
        used[tuple(np.minimum(index // COARSE + corner, shape - 1).T)] = True
    values = np.ones(shape, np.float32)
    values[used] = field.variance(grid.to_ras(start + COARSE * nodes[used.ravel()]))
    return ndimage.map_coordinates(values, index.T / COARSE, order=1).astype(np.float32)


def _root(covariance: NDArray[np.floating]) -> NDArray[np.floating]:
    """R with R R' = covariance."""
    return np.linalg.cholesky(covariance)


def _dice(predicted: NDArray[np.bool_], observed: NDArray[np.bool_], more: int) -> float:
    """Dice of a region seen at some cells, with `more` observed cells elsewhere."""
    both, first, second = (np.count_nonzero(mask) for mask in (predicted & observed, predicted, observed))
    return float(dice_from_counts(both, first, second + more))
