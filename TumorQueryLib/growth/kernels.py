"""The inner loops of the growth model, compiled by numba.

All arrays are float32, C-contiguous and belong to the active box. One axis is
diffused at a time, and a plane of the box at a time, so that the stages of a step
find the plane in the cache. The kernels are serial and release the GIL: several
trajectories run in as many threads.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_compiled = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})


@_compiled
def _diffusion_stage(before, after, faces, stride, scale):
    """One explicit stage along one axis of a plane: after = before + scale * divergence.

    `faces[p]` belongs to the face between cells p and p + stride of the flattened plane;
    it is 0 at the end of each line, so lines do not mix.
    """
    size = before.size
    for p in range(stride):
        after[p] = before[p] + scale * (faces[p] * (before[p + stride] - before[p]))
    inner = size - 2 * stride
    # Slices of one length let LLVM drop the bounds and vectorise.
    here, below, above = before[stride : size - stride], before[:inner], before[2 * stride :]
    face, face_below, out = faces[stride : size - stride], faces[:inner], after[stride : size - stride]
    for p in range(inner):
        out[p] = here[p] + scale * (face[p] * (above[p] - here[p]) - face_below[p] * (here[p] - below[p]))
    for p in range(size - stride, size):
        after[p] = before[p] - scale * (faces[p - stride] * (before[p] - before[p - stride]))


@_compiled
def _last_diffusion_stage(before, state, faces, stride, scale, share):
    """The last stage: state = (1 - share) * (before + scale * divergence) + share * state."""
    size = before.size
    for p in range(stride):
        new = before[p] + scale * (faces[p] * (before[p + stride] - before[p]))
        state[p] = new + share * (state[p] - new)
    inner = size - 2 * stride
    here, below, above = before[stride : size - stride], before[:inner], before[2 * stride :]
    face, face_below, out = faces[stride : size - stride], faces[:inner], state[stride : size - stride]
    for p in range(inner):
        new = here[p] + scale * (face[p] * (above[p] - here[p]) - face_below[p] * (here[p] - below[p]))
        out[p] = new + share * (out[p] - new)
    for p in range(size - stride, size):
        new = before[p] - scale * (faces[p - stride] * (before[p] - before[p - stride]))
        state[p] = new + share * (state[p] - new)


@_compiled
def _diffuse(state, faces, stride, stages, number, spares):
    """Diffuse a flattened plane along one axis, in place: SSPRK(stages, 2).

    `number` is diffusivity * time / spacing^2 along the axis. The scheme (Gottlieb, Shu and
    Tadmor 2001) is a chain of convex combinations as long as number <= (stages - 1) / 2, so
    it keeps the bounds of the density.
    """
    if stride >= state.size:
        return  # a single layer along this axis
    spare, other_spare = spares[0, : state.size], spares[1, : state.size]
    scale = np.float32(number / (stages - 1))
    _diffusion_stage(state, spare, faces, stride, scale)
    for _ in range(stages - 2):
        _diffusion_stage(spare, other_spare, faces, stride, scale)
        spare, other_spare = other_spare, spare
    _last_diffusion_stage(spare, state, faces, stride, scale, np.float32(1.0 / stages))


@_compiled
def _react(before, after, decay):
    """Exact logistic growth: u / (u + (1 - u) decay), decay = exp(-rho t)."""
    for p in range(before.size):
        u = before[p]
        after[p] = u / (u + (np.float32(1) - u) * decay)


@_compiled
def _open_plane(density, state, faces_j, faces_k, stride, decay, stages, numbers, spares):
    """First half of a step on one flattened plane: reaction, diffusion along k, then j."""
    _react(density, state, decay)
    _diffuse(state, faces_k, 1, stages[2], numbers[2], spares)
    _diffuse(state, faces_j, stride, stages[1], numbers[1], spares)


@_compiled
def open_step(density, state, faces_j, faces_k, decay, stages, numbers, spares):
    """First half of a step on all planes, from `density` into `state`."""
    stride = density.shape[2]
    size = density.shape[1] * stride
    for i in range(density.shape[0]):
        _open_plane(
            density[i].reshape(size),
            state[i].reshape(size),
            faces_j[i].reshape(size),
            faces_k[i].reshape(size),
            stride,
            decay,
            stages,
            numbers,
            spares,
        )


@_compiled
def cross_step(state, faces_i, stages, numbers, spares):
    """Middle of a step: diffusion along i, on one slab [:, j, :] after the other, in place.

    `faces_i` is laid out [j, i, k], so that a slab's faces are contiguous.
    """
    ni, nj, nk = state.shape
    size = ni * nk
    flat = spares[2, :size]
    slab = flat.reshape(ni, nk)
    for j in range(nj):
        for i in range(ni):
            slab[i] = state[i, j]
        _diffuse(flat, faces_i[j].reshape(size), nk, stages[0], numbers[0], spares)
        for i in range(ni):
            state[i, j] = slab[i]


@_compiled
def close_step(state, density, faces_j, faces_k, decay, stages, numbers, spares, threshold, reopen):
    """Second half of a step, mirroring the first, from `state` into `density`.

    With `reopen`, `state` is taken on through the first half of the next, equal step while
    its planes are in the cache.

    Returns the number of cells whose density exceeds `threshold`.
    """
    stride = density.shape[2]
    size = density.shape[1] * stride
    count = 0
    for i in range(density.shape[0]):
        now, plane = density[i].reshape(size), state[i].reshape(size)
        along_j, along_k = faces_j[i].reshape(size), faces_k[i].reshape(size)
        _diffuse(plane, along_j, stride, stages[1], numbers[1], spares)
        _diffuse(plane, along_k, 1, stages[2], numbers[2], spares)
        _react(plane, now, decay)
        in_plane = np.int32(0)
        for p in range(size):
            in_plane += np.int32(now[p] > threshold)
        count += in_plane
        if reopen:
            _open_plane(now, plane, along_j, along_k, stride, decay, stages, numbers, spares)
    return count


@_compiled
def outer_maxima(density):
    """Greatest density of the six outer layers: low and high i, low and high j, low and high k."""
    ni, nj, nk = density.shape
    maxima = np.zeros(6, np.float32)
    for j in range(nj):
        for k in range(nk):
            maxima[0] = max(maxima[0], density[0, j, k])
            maxima[1] = max(maxima[1], density[ni - 1, j, k])
    for i in range(ni):
        for k in range(nk):
            maxima[2] = max(maxima[2], density[i, 0, k])
            maxima[3] = max(maxima[3], density[i, nj - 1, k])
        for j in range(nj):
            maxima[4] = max(maxima[4], density[i, j, 0])
            maxima[5] = max(maxima[5], density[i, j, nk - 1])
    return maxima


@_compiled
def extent(field, mask):
    """First index and last index + 1 of where a field exceeds 0 in a mask, and whether all of it lies in [0, 1]."""
    first, last = np.full(3, np.int64(2**62)), np.zeros(3, np.int64)
    valid = True
    for i in range(field.shape[0]):
        for j in range(field.shape[1]):
            low, high = field.shape[2], 0
            for k in range(field.shape[2]):
                # Written so that NaN fails too.
                valid &= (field[i, j, k] >= 0) & (field[i, j, k] <= 1)
                if field[i, j, k] > 0 and mask[i, j, k]:
                    low = min(low, k)
                    high = k + 1
            if high > 0:
                first[0], first[1], first[2] = min(first[0], i), min(first[1], j), min(first[2], low)
                last[0], last[1], last[2] = max(last[0], i + 1), max(last[1], j + 1), max(last[2], high)
    return first, last, valid
