"""The inner loops of the growth model, compiled by numba.

All arrays are float32, C-contiguous and belong to the active box. One axis is
diffused at a time, and a plane of the box at a time, so that the stages of a step
find the plane in the cache. The kernels are serial and release the GIL: several
trajectories run in as many threads.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.base.compiled import njit

#: Cells that are swept together along i; a few rows of them fit the first two caches.
ROW_LENGTH = 1024

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
def open_step(
    density: NDArray[np.float32],
    state: NDArray[np.float32],
    faces_j: NDArray[np.float32],
    faces_k: NDArray[np.float32],
    decay: np.float32,
    stages: NDArray[np.int64],
    numbers: NDArray[np.float64],
) -> None:
    """First half of a step on all planes, from `density` into `state`."""
    stride = density.shape[2]
    size = density.shape[1] * stride
    spares = np.empty((2, size), np.float32)
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
def _first_stage_of_row(here, above, faces, flux, scale, after):
    """First stage along i for a row of cells: `flux` comes in from the row below and leaves to the row above."""
    for p in range(here.size):
        upper = faces[p] * (above[p] - here[p])
        after[p] = here[p] + scale * (upper - flux[p])
        flux[p] = upper


@_compiled
def _next_stage_of_row(here, above, faces, flux, scale):
    """A stage in between, in place."""
    for p in range(here.size):
        upper = faces[p] * (above[p] - here[p])
        here[p] = here[p] + scale * (upper - flux[p])
        flux[p] = upper


@_compiled
def _last_stage_of_row(here, above, faces, flux, scale, state, share):
    """The last stage, mixed into `state` as in `_last_diffusion_stage`."""
    for p in range(here.size):
        upper = faces[p] * (above[p] - here[p])
        new = here[p] + scale * (upper - flux[p])
        state[p] = new + share * (state[p] - new)
        flux[p] = upper


@_compiled
def cross_step(
    state: NDArray[np.float32], faces_i: NDArray[np.float32], stages: NDArray[np.int64], numbers: NDArray[np.float64]
) -> None:
    """Middle of a step: diffusion along i, in place.

    Rows of adjacent cells are swept along i with all stages at once, each stage one row behind
    the one before it, so that the rows stay in the cache.
    """
    layers = state.shape[0]
    if layers == 1:
        return
    cells = state.shape[1] * state.shape[2]
    now, faces = state.reshape(layers, cells), faces_i.reshape(layers, cells)
    count = stages[0]
    scale, share = np.float32(numbers[0] / (count - 1)), np.float32(1.0 / count)
    width = min(cells, ROW_LENGTH)
    work, flux = np.empty((layers, width), np.float32), np.empty((count, width), np.float32)
    for low in range(0, cells, width):
        high = min(low + width, cells)
        size = high - low
        flux[:] = 0
        for wave in range(layers + count - 1):
            for stage in range(max(0, wave - layers + 1), min(count, wave + 1)):
                i = wave - stage
                # The last layer's faces are 0, so any row will do above it.
                up = min(i + 1, layers - 1)
                face, passing = faces[i, low:high], flux[stage, :size]
                if stage == 0:
                    _first_stage_of_row(now[i, low:high], now[up, low:high], face, passing, scale, work[i, :size])
                elif stage < count - 1:
                    _next_stage_of_row(work[i, :size], work[up, :size], face, passing, scale)
                else:
                    _last_stage_of_row(work[i, :size], work[up, :size], face, passing, scale, now[i, low:high], share)


@_compiled
def close_step(
    state: NDArray[np.float32],
    density: NDArray[np.float32],
    faces_j: NDArray[np.float32],
    faces_k: NDArray[np.float32],
    decay: np.float32,
    stages: NDArray[np.int64],
    numbers: NDArray[np.float64],
    threshold: np.float32,
    reopen: bool,
) -> int:
    """Second half of a step, mirroring the first, from `state` into `density`.

    With `reopen`, `state` is taken on through the first half of the next, equal step while
    its planes are in the cache.

    Returns the number of cells whose density exceeds `threshold`.
    """
    stride = density.shape[2]
    size = density.shape[1] * stride
    spares = np.empty((2, size), np.float32)
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
def outer_maxima(density: NDArray[np.float32], nk: int) -> NDArray[np.float32]:
    """Greatest density of the six outer layers of a box whose lines hold `nk` cells: low i, high i, low j, ..."""
    ni, nj, _ = density.shape
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
def lay_faces(
    mobility: NDArray[np.float32],
    first: NDArray[np.int64],
    nk: int,
    faces_i: NDArray[np.float32],
    faces_j: NDArray[np.float32],
    faces_k: NDArray[np.float32],
) -> None:
    """Mobility of a box's faces towards the next cell along i, j, k, as `Tissue.face_mobility` has them.

    The box starts at index `first` of `mobility` and its lines hold `nk` cells; its sides are closed.
    """
    ni, nj, _ = faces_i.shape
    nothing = np.zeros(nk, np.float32)
    for i in range(ni):
        for j in range(nj):
            a, b, c = first[0] + i, first[1] + j, first[2]
            here = mobility[a, b, c : c + nk]
            _lay_line(here, mobility[a + 1, b, c : c + nk] if i + 1 < ni else nothing, faces_i[i, j])
            _lay_line(here, mobility[a, b + 1, c : c + nk] if j + 1 < nj else nothing, faces_j[i, j])
            _lay_line(here[: nk - 1], here[1:], faces_k[i, j])


@_compiled
def _lay_line(here, there, faces):
    for k in range(here.size):
        both = (here[k] > 0) & (there[k] > 0)
        faces[k] = np.float32(0.5) * (here[k] + there[k]) if both else np.float32(0)
    for k in range(here.size, faces.size):
        faces[k] = 0


@_compiled
def copy_into_zeros(source: NDArray[np.float32], target: NDArray[np.float32], first: NDArray[np.int64]) -> None:
    """Copy an array into a larger one at index `first`; the rest of it becomes 0."""
    target[:] = 0
    for i in range(source.shape[0]):
        for j in range(source.shape[1]):
            there, here = source[i, j], target[first[0] + i, first[1] + j, first[2] :]
            for k in range(there.size):
                here[k] = there[k]


@_compiled
def extent(field: NDArray[np.floating], mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64], bool]:
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
