"""Kriging: a smooth field known at some points, anywhere else, and how sure that is.

Matheron 1963, doi 10.2113/gsecongeo.58.8.1246; Rasmussen and Williams 2006, chapter 2.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.spatial.distance import cdist

#: Places computed at a time, so that the matrix of their covariances stays small.
BLOCK = 4096
#: Waves of which a random field is made (`prior_fields`).
WAVES = 1024


def matern32(distance: NDArray[np.floating], length: float) -> NDArray[np.floating]:
    """Matern's correlation with smoothness 3/2 at a distance: (1 + a) exp(-a), a = sqrt(3) distance / length."""
    scaled = np.sqrt(3) * distance / length
    return (1 + scaled) * np.exp(-scaled)


class Kriging:
    """A Gaussian field of mean 0 and standard deviation 1, observed with noise at points.

    Parameters
    ----------
    points : ndarray, shape (n, 3)
        mm.
    length : float
        Of the Matern 3/2 correlation, mm.
    nugget : float
        Standard deviation of the observations' error, as a share of the field's.
    """

    def __init__(self, points: NDArray[np.float64], length: float, nugget: float) -> None:
        self.points = points
        self.length = length
        self.nugget = nugget
        covariance = matern32(cdist(points, points), length) + nugget**2 * np.eye(len(points))
        self._factor = cho_factor(covariance, lower=True) if len(points) else None

    def mean(self, places: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float32]:
        """The expected field at places.

        Parameters
        ----------
        places : ndarray, shape (m, 3)
        values : ndarray, shape (n, k)
            Observed at the points, k fields at once.

        Returns
        -------
        ndarray of float32, shape (m, k)
        """
        if not len(self.points):
            return np.zeros((len(places), values.shape[1]), np.float32)
        coefficients = cho_solve(self._factor, values).astype(np.float32)
        found = np.empty((len(places), values.shape[1]), np.float32)
        for block, correlations in self._blocks(places):
            found[block] = correlations.astype(np.float32) @ coefficients
        return found

    def variance(self, places: NDArray[np.float64]) -> NDArray[np.float32]:
        """What the observations leave of the field's variance 1 at places, float32 in [0, 1], shape (m,)."""
        if not len(self.points):
            return np.ones(len(places), np.float32)
        found = np.empty(len(places), np.float32)
        for block, correlations in self._blocks(places):
            explained = (correlations.T * cho_solve(self._factor, correlations.T)).sum(axis=0)
            found[block] = np.clip(1 - explained, 0, 1)
        return found

    def draw(
        self,
        places: NDArray[np.float64],
        count: int,
        random: np.random.Generator,
        share: NDArray[np.floating] | float = 1.0,
    ) -> NDArray[np.float32]:
        """What random fields have left where a share of what the observations tell of them is taken off.

        With all of it these are the fields that observations of 0 leave possible (Matheron's rule, doi
        10.1080/00401706.1974.10489222, conditioning by kriging); add `mean` for other observations.

        Parameters
        ----------
        places : ndarray, shape (m, 3)
        count : int
        random : Generator
        share : float or ndarray, shape (m,)
            In [0, 1]; the variance left is 1 - share (2 - share) (1 - `variance`).

        Returns
        -------
        ndarray of float32, shape (count, m)
        """
        both = np.concatenate([self.points, places])
        fields = prior_fields(both, self.length, count, random)
        at_points, at_places = fields[:, : len(self.points)], fields[:, len(self.points) :]
        noise = self.nugget * random.standard_normal(at_points.shape)
        told = self.mean(places, (at_points + noise).T.astype(np.float64)).T
        return (at_places - share * told).astype(np.float32)

    def _blocks(self, places: NDArray[np.float64]) -> Iterator[tuple[slice, NDArray[np.floating]]]:
        for start in range(0, len(places), BLOCK):
            block = slice(start, start + BLOCK)
            yield block, matern32(cdist(places[block], self.points), self.length)


def prior_fields(
    places: NDArray[np.float64], length: float, count: int, random: np.random.Generator
) -> NDArray[np.float32]:
    """Random fields of Matern 3/2 correlation, mean 0 and standard deviation 1, shape (count, m).

    Sums of waves (Rahimi and Recht 2007, "Random features for large-scale kernel machines"), whose wave vectors follow
    the correlation's spectrum, a multivariate t distribution with 3 degrees of freedom.
    """
    directions = random.standard_normal((3, WAVES)) / length
    vectors = directions * np.sqrt(3 / random.chisquare(3, WAVES))
    phases = random.uniform(0, 2 * np.pi, WAVES)
    amplitudes = (random.standard_normal((WAVES, count)) * np.sqrt(2 / WAVES)).astype(np.float32)
    fields = np.empty((count, len(places)), np.float32)
    for start in range(0, len(places), BLOCK):
        block = slice(start, start + BLOCK)
        waves = np.cos((places[block] @ vectors + phases).astype(np.float32))
        fields[:, block] = (waves @ amplitudes).T
    return fields
