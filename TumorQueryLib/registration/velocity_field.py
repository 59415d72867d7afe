"""Diffeomorphic registration of two images on one grid by a stationary velocity field.

The map is phi = exp(v), its inverse exp(-v), by scaling and squaring (Arsigny et
al. 2006, doi 10.1007/11866565_113). v climbs the masked local normalised
cross-correlation (Avants et al. 2008, doi 10.1016/j.media.2007.06.004), the force
being the mean of both directions so that neither image is preferred (symmetric
log-domain demons, Vercauteren et al. 2008, doi 10.1007/978-3-540-85988-8_90).

Everything here is in voxels and array axes; `registration.py` knows millimetres.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from TumorQueryLib.base.compiled import njit
from TumorQueryLib.base.progress import Progress, no_progress

WINDOW_RADIUS = 2  # voxels of the level; a 5 x 5 x 5 window follows a slowly varying bias field
#: Added to both local variances, as (20 / 1000)^2 of the brain's intensity range: keeps flat regions from
#: being matched by their noise.
VARIANCE_FLOOR = 4e-4
UPDATE_SIGMA = 2.0  # voxels of the level
#: Gaussian on v after every step, by the level's factor, in voxels of v's own grid. Larger loses sulci, smaller fits
#: noise and nearly folds (determinants below 0.3 on patients with 0.5 at the fine level).
VELOCITY_SIGMA = {1: 1.0, 2: 0.55}
STEP = 0.6  # voxels of the level, at the 99.5th percentile of the update
LATE_STEP = 0.5  # factor for the last 40 % of a level's iterations
TAPER = 4  # voxels of v's grid over which v falls to zero at the border, where ITK's fields end


@dataclass(frozen=True)
class Level:
    """One level of the registration: `factor` image voxels per voxel of v, and how many iterations."""

    factor: int
    iterations: int


LEVELS = (Level(1, 40), Level(2, 20))


def register_by_velocity_field(
    fixed: NDArray[np.float32],
    moving: NDArray[np.float32],
    fixed_weight: NDArray[np.float32],
    moving_weight: NDArray[np.float32],
    *,
    levels: Sequence[Level] = LEVELS,
    progress: Progress = no_progress,
) -> NDArray[np.float32]:
    """The velocity field that brings `moving` onto `fixed`.

    Parameters
    ----------
    fixed, moving : ndarray of float32, shape (2 a - 1, 2 b - 1, 2 c - 1)
        Images on one grid, the brain scaled to about [0, 1].
    fixed_weight, moving_weight : ndarray of float32, same shape
        Weight of each voxel in the cost function, in [0, 1]; each moves with its image.
    levels : sequence of Level
    progress : Progress

    Returns
    -------
    ndarray of float32, shape (3, a, b, c)
        v at every second voxel, in its own (coarse) voxels along the array axes, 0 at the border.
        moving(exp(v)(x)) resembles fixed(x).
    """
    shape = tuple((n + 1) // 2 for n in fixed.shape)
    velocity = np.zeros((3, *shape), dtype=np.float32)
    taper = border_taper(shape, TAPER).astype(np.float32)
    total = sum(level.iterations for level in levels)
    done = 0
    with ThreadPoolExecutor(2) as pool:
        for level in levels:
            images = [fixed, moving, fixed_weight, moving_weight]
            if level.factor == 1:
                images = [np.ascontiguousarray(ndimage.gaussian_filter(i, 1.0)[::2, ::2, ::2]) for i in images]
            level_fixed, level_moving, level_fixed_weight, level_moving_weight = images
            for iteration in range(level.iterations):
                progress(done / total, "Deformable registration")
                forward = pool.submit(
                    _force,
                    level_fixed,
                    level_moving,
                    level_fixed_weight,
                    level_moving_weight,
                    velocity,
                    level.factor,
                )
                backward = _force(
                    level_moving, level_fixed, level_moving_weight, level_fixed_weight, -velocity, level.factor
                )
                update = _smoothed_update(forward.result() - backward, level.factor)
                late = iteration >= 0.6 * level.iterations
                velocity += _scaled(update, STEP / level.factor * (LATE_STEP if late else 1.0))
                for component in velocity:
                    ndimage.gaussian_filter(component, VELOCITY_SIGMA[level.factor], output=component)
                velocity *= taper
                done += 1
    progress(1.0, "Deformable registration")
    return velocity


def exponential(velocity: NDArray[np.float32]) -> NDArray[np.float32]:
    """The displacement of exp(v), by scaling and squaring.

    Parameters
    ----------
    velocity : ndarray of float32, shape (3, a, b, c)
        In voxels along the array axes.

    Returns
    -------
    ndarray of float32, shape (3, a, b, c)
        exp(v)(x) - x in voxels.
    """
    largest = float(np.sqrt((velocity**2).sum(axis=0)).max())
    squarings = max(0, int(np.ceil(np.log2(max(largest, 1e-6) / 0.25))))
    displacement = velocity / np.float32(2**squarings)
    for _ in range(squarings):
        displacement = compose_with_itself(displacement)
    return displacement


def refined(velocity: NDArray[np.float32], ratio: float) -> NDArray[np.float32]:
    """The velocity on a grid with `ratio` times as many voxels a length, by cubic splines.

    Displacements are interpolated linearly wherever they are used, and the finer they are stored, the better exp(-v)
    undoes exp(v) between the voxels.

    Parameters
    ----------
    velocity : ndarray of float32, shape (3, a, b, c)
        In its own voxels, 0 at the border.
    ratio : float

    Returns
    -------
    ndarray of float32, shape (3, a', b', c')
        In its own, finer voxels; the first voxels coincide, the last lie at or beyond the coarse grid's.
    """
    size = [int(np.ceil((n - 1) * ratio)) + 1 for n in velocity.shape[1:]]
    where = np.meshgrid(*[np.arange(n, dtype=np.float32) / np.float32(ratio) for n in size], indexing="ij")
    fine = [ndimage.map_coordinates(component, where, order=3, mode="constant") for component in velocity]
    return np.stack(fine) * np.float32(ratio)


def _force(
    fixed: NDArray[np.float32],
    moving: NDArray[np.float32],
    fixed_weight: NDArray[np.float32],
    moving_weight: NDArray[np.float32],
    velocity: NDArray[np.float32],
    factor: int,
) -> NDArray[np.float32]:
    """Ascent direction of the local correlation of fixed with moving(exp(v)), on the level's grid."""
    moved, moved_weight = warp(moving, moving_weight, exponential(velocity), factor)
    return local_correlation_force(fixed, moved, fixed_weight * moved_weight, WINDOW_RADIUS, VARIANCE_FLOOR)


def _smoothed_update(force: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """The force on v's grid, smoothed by UPDATE_SIGMA voxels of the level in all."""
    if factor == 1:
        return np.stack([ndimage.gaussian_filter(component, UPDATE_SIGMA) for component in force])
    # Smooth as much as halving the resolution needs, take every second voxel, smooth the rest there: a fraction
    # of the work. Variances of Gaussians add.
    first = 0.7
    rest = np.sqrt(UPDATE_SIGMA**2 - first**2) / factor
    coarse = [ndimage.gaussian_filter(component, first, truncate=3.0)[::2, ::2, ::2] for component in force]
    return np.stack([ndimage.gaussian_filter(component, rest) for component in coarse])


def _scaled(update: NDArray[np.float32], step: float) -> NDArray[np.float32]:
    length = np.sqrt((update**2).sum(axis=0))
    moving = length[length > 1e-3 * length.max()] if length.any() else length
    reach = float(np.percentile(moving, 99.5)) if moving.size else 0.0
    return update * np.float32(step / reach) if reach > 0 else update


def border_taper(shape: tuple[int, ...], width: int) -> NDArray[np.float64]:
    """1 inside, falling over `width` voxels to 0 at the outermost ones, where ITK's displacement fields end."""
    taper = np.ones(shape)
    for axis, n in enumerate(shape):
        ramp = np.clip(np.minimum(np.arange(n), np.arange(n)[::-1]) / width, 0, 1)
        taper *= np.expand_dims(ramp, [a for a in range(3) if a != axis])
    return taper


@njit(cache=True, nogil=True)
def compose_with_itself(displacement: NDArray[np.float32]) -> NDArray[np.float32]:
    """d(x) + d(x + d(x)) for a displacement of shape (3, a, b, c) in voxels; clamped at the border."""
    _, ni, nj, nk = displacement.shape
    result = np.empty_like(displacement)
    for i in range(ni):
        for j in range(nj):
            for k in range(nk):
                x = min(max(i + displacement[0, i, j, k], np.float32(0)), np.float32(ni - 1))
                y = min(max(j + displacement[1, i, j, k], np.float32(0)), np.float32(nj - 1))
                z = min(max(k + displacement[2, i, j, k], np.float32(0)), np.float32(nk - 1))
                i0 = min(int(x), ni - 2)
                j0 = min(int(y), nj - 2)
                k0 = min(int(z), nk - 2)
                a = x - np.float32(i0)
                b = y - np.float32(j0)
                c = z - np.float32(k0)
                for axis in range(3):
                    d = displacement[axis]
                    near = (d[i0, j0, k0] * (1 - c) + d[i0, j0, k0 + 1] * c) * (1 - b) + (
                        d[i0, j0 + 1, k0] * (1 - c) + d[i0, j0 + 1, k0 + 1] * c
                    ) * b
                    far = (d[i0 + 1, j0, k0] * (1 - c) + d[i0 + 1, j0, k0 + 1] * c) * (1 - b) + (
                        d[i0 + 1, j0 + 1, k0] * (1 - c) + d[i0 + 1, j0 + 1, k0 + 1] * c
                    ) * b
                    result[axis, i, j, k] = d[i, j, k] + near * (1 - a) + far * a
    return result


@njit(cache=True, nogil=True)
def warp(
    image: NDArray[np.float32], weight: NDArray[np.float32], displacement: NDArray[np.float32], factor: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Image and weight at x + d(x), trilinear, 0 outside.

    `displacement` (3, a, b, c) is in voxels of its own grid, every `factor`-th voxel of the image's.
    """
    ni, nj, nk = image.shape
    _, di, dj, dk = displacement.shape
    moved = np.zeros_like(image)
    moved_weight = np.zeros_like(weight)
    scale = np.float32(factor)
    for i in range(ni):
        p = min(i // factor, di - 2)
        a = np.float32(i - p * factor) / scale
        for j in range(nj):
            q = min(j // factor, dj - 2)
            b = np.float32(j - q * factor) / scale
            for k in range(nk):
                r = min(k // factor, dk - 2)
                c = np.float32(k - r * factor) / scale
                x = np.float32(i)
                y = np.float32(j)
                z = np.float32(k)
                for axis in range(3):
                    d = displacement[axis]
                    if factor == 1:
                        shift = d[i, j, k]
                    else:
                        near = (d[p, q, r] * (1 - c) + d[p, q, r + 1] * c) * (1 - b) + (
                            d[p, q + 1, r] * (1 - c) + d[p, q + 1, r + 1] * c
                        ) * b
                        far = (d[p + 1, q, r] * (1 - c) + d[p + 1, q, r + 1] * c) * (1 - b) + (
                            d[p + 1, q + 1, r] * (1 - c) + d[p + 1, q + 1, r + 1] * c
                        ) * b
                        shift = (near * (1 - a) + far * a) * scale
                    if axis == 0:
                        x += shift
                    elif axis == 1:
                        y += shift
                    else:
                        z += shift
                if x < 0 or y < 0 or z < 0 or x > ni - 1 or y > nj - 1 or z > nk - 1:
                    continue
                i0 = min(int(x), ni - 2)
                j0 = min(int(y), nj - 2)
                k0 = min(int(z), nk - 2)
                u = x - np.float32(i0)
                v = y - np.float32(j0)
                w = z - np.float32(k0)
                for which in range(2):
                    s = image if which == 0 else weight
                    near = (s[i0, j0, k0] * (1 - w) + s[i0, j0, k0 + 1] * w) * (1 - v) + (
                        s[i0, j0 + 1, k0] * (1 - w) + s[i0, j0 + 1, k0 + 1] * w
                    ) * v
                    far = (s[i0 + 1, j0, k0] * (1 - w) + s[i0 + 1, j0, k0 + 1] * w) * (1 - v) + (
                        s[i0 + 1, j0 + 1, k0] * (1 - w) + s[i0 + 1, j0 + 1, k0 + 1] * w
                    ) * v
                    value = near * (1 - u) + far * u
                    if which == 0:
                        moved[i, j, k] = value
                    else:
                        moved_weight[i, j, k] = value
    return moved, moved_weight


@njit(cache=True, nogil=True)
def local_correlation_force(
    fixed: NDArray[np.float32],
    moved: NDArray[np.float32],
    weight: NDArray[np.float32],
    radius: int,
    variance_floor: float,
) -> NDArray[np.float32]:
    """Gradient of the weighted local squared correlation with respect to a displacement of `moved`.

    Windows are cubes of 2 radius + 1 voxels, cut at the border. As usual the change of the neighbours' windows is
    left out (Avants et al. 2008, equation 8). Shape (3, i, j, k), float32.
    """
    ni, nj, nk = fixed.shape
    force = np.zeros((3, ni, nj, nk), dtype=np.float32)
    # Window sums over j and k of w, wf, wm, wff, wmm, wfm; the sum over i is taken when the force is.
    sums = np.zeros((6, ni, nj, nk), dtype=np.float32)
    products = np.zeros((6, nk + 2 * radius), dtype=np.float32)
    lines = np.zeros((6, nj, nk), dtype=np.float32)
    for i in range(ni):
        for j in range(nj):
            f = fixed[i, j]
            m = moved[i, j]
            w = weight[i, j]
            for k in range(nk):
                wf = w[k] * f[k]
                wm = w[k] * m[k]
                products[0, k + radius] = w[k]
                products[1, k + radius] = wf
                products[2, k + radius] = wm
                products[3, k + radius] = wf * f[k]
                products[4, k + radius] = wm * m[k]
                products[5, k + radius] = wf * m[k]
            for c in range(6):
                line = lines[c, j]
                line[:] = 0
                for t in range(2 * radius + 1):
                    shifted = products[c, t : t + nk]
                    for k in range(nk):
                        line[k] += shifted[k]
        for c in range(6):
            for j in range(nj):
                row = sums[c, i, j]
                for jj in range(max(0, j - radius), min(nj, j + radius + 1)):
                    line = lines[c, jj]
                    for k in range(nk):
                        row[k] += line[k]
    total = np.zeros((6, nk), dtype=np.float32)
    for i in range(1, ni - 1):
        for j in range(1, nj - 1):
            total[:] = 0
            for c in range(6):
                row = total[c]
                for ii in range(max(0, i - radius), min(ni, i + radius + 1)):
                    slab = sums[c, ii, j]
                    for k in range(nk):
                        row[k] += slab[k]
            for k in range(1, nk - 1):
                n = total[0, k]
                w = weight[i, j, k]
                if w <= 0 or n < 8:
                    continue
                mean_f = total[1, k] / n
                mean_m = total[2, k] / n
                variance_f = total[3, k] - mean_f * total[1, k] + variance_floor * n
                variance_m = total[4, k] - mean_m * total[2, k] + variance_floor * n
                covariance = total[5, k] - mean_f * total[2, k]
                residual = (fixed[i, j, k] - mean_f) - covariance / variance_m * (moved[i, j, k] - mean_m)
                slope = w * covariance / (variance_f * variance_m) * residual
                force[0, i, j, k] = slope * (moved[i + 1, j, k] - moved[i - 1, j, k])
                force[1, i, j, k] = slope * (moved[i, j + 1, k] - moved[i, j - 1, k])
                force[2, i, j, k] = slope * (moved[i, j, k + 1] - moved[i, j, k - 1])
    return force
