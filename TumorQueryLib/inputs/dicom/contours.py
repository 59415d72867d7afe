"""Contours of radiotherapy (DICOM RTSTRUCT), filled on the slices that they were drawn on.

A contour is filled by the even-odd rule, so that a keyhole (a contour that runs into a
hole and back along one line) leaves the hole open. Of a structure's contours in one
plane those within another are holes, also where they reach over its outline a little,
those that cross are united, and one that is stored again counts once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.grid import Grid, Volume, ras_to_lps
from TumorQueryLib.inputs.checks import ImageFile, Segment, check_plausible_grid, check_voxel_count, sha256_of
from TumorQueryLib.inputs.dicom.segmentation import code_of

STRUCTURE_SET_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
#: Kinds of contours that enclose something.
CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR", "CLOSED_PLANAR_XOR")
#: mm; contours and slices that lie within this of each other lie in one plane.
SAME_PLANE = 0.2
#: mm; a grid of the contours' own has voxels of this edge in their planes.
OWN_SPACING = 1.0
#: A contour is another one once more where they differ in fewer pixels than this share of those at its edge; a ring
#: of one pixel has them all.
SAME_CONTOUR = 0.5
#: Two contours cross where more than this share of the smaller one lies without the larger; else it is a hole.
CROSSING = 0.25
#: What is told of structures, by what was found in them.
TOLD = {
    "interrupted": "without a contour on slices between their first and their last, where nothing was filled",
    "repeated": "with contours that are stored more than once, which were read once",
    "crossing": "with contours that cross on a slice, which were united",
    "over": "with holes that reach over the outline around them, which were cut off there",
}
#: Most points that contours of a patient have.
MOST_POINTS = 20_000_000


@dataclass(frozen=True, eq=False)
class Structure:
    """One region of interest: its contours, arrays of RAS mm of shape (points, 3), and whether what crosses is open."""

    name: str
    code: str
    contours: tuple[NDArray[np.float64], ...]
    by_xor: bool = False


def read_contours(
    path: Path,
    header: Any,
    role: str,
    references: Sequence[ImageFile],
    series_beside: Callable[[str], Grid | None],
) -> ImageFile:
    """Read the structures of an RTSTRUCT as masks.

    Parameters
    ----------
    path : Path
    header : pydicom Dataset
        All of the file.
    role : str
        What the file is for; errors name it.
    references : sequence of ImageFile
        Images that it may be drawn on, the likeliest first; none of another frame of
        reference.
    series_beside : callable
        The grid of the series with a UID, where its files lie near this one.

    Returns
    -------
    ImageFile
        On the grid of the image that the contours were drawn on. Where they do not lie
        on its every slice, or it is not there, the slices are the contours' planes.

    Raises
    ------
    InputError
        When it holds no closed contours, or they lie in no parallel, evenly spaced
        planes.
    """
    said: list[str] = []
    structures = _structures(header, path, role, said)
    drawn = [contour for structure in structures for contour in structure.contours]
    if not drawn:
        raise InputError(
            f"The {role} file {path} (DICOM RTSTRUCT) holds no closed contours; draw the tumour, or give a label map."
        )
    series = _series_of(header)
    grid = _grid_of_references(drawn, references, series)
    if grid is None and series is not None and (beside := series_beside(series)) is not None:
        grid = _grid_on(beside, drawn)
    if grid is None:
        grid = _planes(drawn).own_grid(drawn)
        said.append(
            f"The series that the contours of the {role} were drawn on was not found beside them; they were filled on "
            f"voxels of {OWN_SPACING:g} mm in their own planes."
        )
    check_plausible_grid(grid, role, is_mask=True)
    check_voxel_count([*grid.shape, max(1, len(structures) // 8)], role)
    segments, union = [], np.zeros(grid.shape, dtype=bool)
    found: dict[str, list[str]] = {}
    for structure in structures:
        mask, odd = _filled(structure, grid)
        for one in odd:
            found.setdefault(one, []).append(structure.name)
        union |= mask
        segments.append(Segment(structure.name, mask, structure.code))
    for one, names in sorted(found.items()):
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        said.append(f"Structures of the {role} {TOLD[one]}: {', '.join(map(repr, names[:5]))}{more}.")
    return ImageFile(
        Volume(union, grid),
        sha256_of([path]),
        tuple(segments),
        tuple(said),
        frame_of_reference=frame_of_contours(header),
        drawn_on=series,
    )


def _structures(header: Any, path: Path, role: str, said: list[str]) -> list[Structure]:
    """The regions of interest, those without closed contours too; adds to what is to be `said`."""
    observed = {int(item.ReferencedROINumber): item for item in header.get("RTROIObservationsSequence") or []}
    contours: dict[int, list[NDArray[np.float64]]] = {}
    by_xor: set[int] = set()
    left_out, points = 0, 0
    for item in header.get("ROIContourSequence") or []:
        found = contours.setdefault(int(item.ReferencedROINumber), [])
        for contour in item.get("ContourSequence") or []:
            coordinates = _coordinates(contour, path, role)
            points += len(coordinates)
            if points > MOST_POINTS:
                raise InputError(f"The {role} file {path} holds more contours than any patient has; is it damaged?")
            kind = str(contour.get("ContourGeometricType", ""))
            if kind not in CLOSED or len(coordinates) < 3:
                left_out += 1
                continue
            found.append(coordinates)
            by_xor |= {int(item.ReferencedROINumber)} if kind.endswith("XOR") else set()
    if left_out:
        said.append(f"{left_out} points, open lines or contours of less than three points in the {role} were left out.")
    structures = []
    for item in header.get("StructureSetROISequence") or []:
        number = int(item.ROINumber)
        name = str(item.get("ROIName", "") or f"ROI_{number}")
        code = code_of(observed[number], "RTROIIdentification") if number in observed else ""
        structures.append(Structure(name, code, tuple(contours.get(number, ())), number in by_xor))
    return structures


def _coordinates(contour: Any, path: Path, role: str) -> NDArray[np.float64]:
    """A contour's points, RAS mm, shape (points, 3)."""
    # As it is stored: pydicom would make an object of each of some hundred thousand numbers.
    element = contour.get_item("ContourData")
    value = None if element is None else element.value
    if isinstance(value, bytes):
        value = value.rstrip(b"\0 ").split(b"\\") if value.strip(b"\0 ") else None
    try:
        numbers = np.array(value if value is not None else [], dtype=float)
        points = ras_to_lps(numbers.reshape(-1, 3))
    except (TypeError, ValueError) as error:
        raise InputError(f"The {role} file {path} has a damaged contour; export it again.") from error
    if not np.isfinite(points).all() or (points.size and np.abs(points).max() > 1e5):
        raise InputError(f"The {role} file {path} has a contour at a place that cannot be; export it again.")
    return points


def _series_of(header: Any) -> str | None:
    """UID of the one series that a structure set says it was drawn on."""
    series = {
        str(item.get("SeriesInstanceUID", ""))
        for frame in header.get("ReferencedFrameOfReferenceSequence") or []
        for study in frame.get("RTReferencedStudySequence") or []
        for item in study.get("RTReferencedSeriesSequence") or []
    } - {""}
    return series.pop() if len(series) == 1 else None


def frame_of_contours(header: Any) -> str | None:
    """UID of the frame of reference of a structure set's contours.

    Raises `InputError` where they lie in several.
    """
    drawn = {
        str(item.ReferencedROINumber) for item in header.get("ROIContourSequence") or [] if item.get("ContourSequence")
    }
    frames = {
        str(item.get("ReferencedFrameOfReferenceUID", ""))
        for item in header.get("StructureSetROISequence") or []
        if str(item.ROINumber) in drawn
    } - {""}
    if len(frames) > 1:
        raise InputError(
            f"The contours (DICOM RTSTRUCT) lie in {len(frames)} frames of reference; export those of one image alone."
        )
    referenced = header.get("ReferencedFrameOfReferenceSequence") or []
    if not frames and len(referenced) == 1:
        frames = {str(referenced[0].get("FrameOfReferenceUID", ""))} - {""}
    return frames.pop() if frames else str(header.get("FrameOfReferenceUID", "")) or None


@dataclass(frozen=True, eq=False)
class Planes:
    """Parallel planes that contours lie in, evenly spaced, some of them perhaps without a contour.

    Parameters
    ----------
    normal : ndarray, shape (3,)
        RAS.
    offsets : ndarray
        Of the planes with contours along the normal, ascending, mm.
    step : float
        mm from plane to plane; 0 where there is but one.
    """

    normal: NDArray[np.float64]
    offsets: NDArray[np.float64]
    step: float

    @property
    def count(self) -> int:
        """Planes from the first to the last."""
        return 1 + (round(float(self.offsets[-1] - self.offsets[0]) / self.step) if self.step else 0)

    def own_grid(self, contours: Sequence[NDArray[np.float64]]) -> Grid:
        """A grid of these planes around the contours, for want of an image."""
        # Along the axes of the body, as far as the planes allow.
        axis = np.eye(3)[int(np.abs(self.normal).argmin())]
        across = np.cross(self.normal, axis)
        across /= np.linalg.norm(across)
        axes = np.array([np.cross(across, self.normal), across])
        places = np.concatenate([contour @ axes.T for contour in contours])
        low, high = places.min(axis=0) - 3 * OWN_SPACING, places.max(axis=0) + 3 * OWN_SPACING
        step = self.step or OWN_SPACING
        affine = np.eye(4)
        affine[:3, :3] = np.column_stack([axes[0] * OWN_SPACING, axes[1] * OWN_SPACING, self.normal * step])
        affine[:3, 3] = axes.T @ low + self.normal * (self.offsets[0] - step)
        columns, rows = (int(n) for n in np.ceil((high - low) / OWN_SPACING) + 1)
        return Grid((columns, rows, self.count + 2), affine)


def _planes_along(contours: Sequence[NDArray[np.float64]], normal: NDArray[np.float64]) -> Planes | None:
    """The planes of contours; None where one does not lie in a plane of this normal.

    Raises `InputError` where they are unevenly spaced.
    """
    places = [contour @ normal for contour in contours]
    if max(float(np.ptp(place)) for place in places) > 2 * SAME_PLANE:
        return None
    ordered = np.sort([float(place.mean()) for place in places])
    starts = np.flatnonzero(np.diff(ordered, prepend=-np.inf) > SAME_PLANE)
    offsets = np.array([group.mean() for group in np.split(ordered, starts[1:])])
    if len(offsets) == 1:
        return Planes(normal, offsets, 0.0)
    gaps = np.diff(offsets)
    # Gaps are whole steps of the shortest one; all together say its length best.
    numbers = np.concatenate([[0], np.cumsum(np.rint(gaps / gaps.min()))])
    step = float(np.sum(numbers * (offsets - offsets[0])) / np.sum(numbers**2))
    if np.abs(offsets - offsets[0] - numbers * step).max() > max(SAME_PLANE, 0.1 * step):
        raise InputError(
            f"The contours (DICOM RTSTRUCT) lie in unevenly spaced planes ({gaps.min():.3g} to {gaps.max():.3g} mm "
            "apart); export them as drawn on the slices of one series."
        )
    return Planes(normal, offsets, step)


def _planes(contours: Sequence[NDArray[np.float64]]) -> Planes:
    """The planes of contours by themselves.

    Raises `InputError` where they are not parallel or unevenly spaced.
    """
    # The largest contour says best how the planes lie.
    largest = max(contours, key=lambda contour: float(np.linalg.norm(np.ptp(contour, axis=0))))
    _, sizes, axes = np.linalg.svd(largest - largest.mean(axis=0), full_matrices=False)
    if sizes[1] < 1e-3 * max(float(sizes[0]), 1e-9):
        raise InputError("The contours (DICOM RTSTRUCT) enclose nothing; draw the tumour again.")
    planes = _planes_along(contours, axes[2] if np.sum(axes[2]) >= 0 else -axes[2])
    if planes is None:
        raise InputError(
            "The contours (DICOM RTSTRUCT) lie in planes that are not parallel; export them as drawn on the slices of "
            "one series."
        )
    return planes


def _grid_on(grid: Grid, contours: Sequence[NDArray[np.float64]]) -> Grid | None:
    """A grid of the contours' planes with the voxels of an image's slices: the image's own where they are its slices.

    None where the contours are not parallel to slices of the image.
    """
    directions = grid.affine[:3, :3] / grid.spacing
    for axis in (2, 1, 0):
        planes = _planes_along(contours, directions[:, axis])
        if planes is None:
            continue
        spacing = float(grid.spacing[axis])
        start = float(grid.affine[:3, 3] @ planes.normal)
        places = (planes.offsets - start) / spacing
        numbers = np.rint(places)
        steps = np.diff(numbers)
        if (
            np.abs(places - numbers).max() * spacing < SAME_PLANE
            and (numbers >= 0).all()
            and (numbers < grid.shape[axis]).all()
            and (not len(steps) or steps.min() == 1)
        ):
            return grid
        # The planes as slices of their own, one more at both ends, where nothing is drawn any more.
        step = planes.step or spacing
        affine, shape = grid.affine.copy(), list(grid.shape)
        affine[:3, axis] = planes.normal * step
        affine[:3, 3] = grid.affine[:3, 3] + planes.normal * (planes.offsets[0] - start - step)
        shape[axis] = planes.count + 2
        return Grid((shape[0], shape[1], shape[2]), affine)
    return None


def _grid_of_references(
    contours: Sequence[NDArray[np.float64]], references: Sequence[ImageFile], series: str | None
) -> Grid | None:
    """The grid of the image that contours say they were drawn on; else of one whose slices are their planes."""
    for reference in references:
        if series is not None and reference.series == series:
            return _grid_on(reference.volume.grid, contours)
    return next((grid for one in references if _grid_on(grid := one.volume.grid, contours) is grid), None)


def _filled(structure: Structure, grid: Grid) -> tuple[NDArray[np.bool_], set[str]]:
    """The voxels of a grid whose centres lie within a structure's contours, which lie in planes of the grid.

    And what of `TOLD` was found in it.
    """
    mask = np.zeros(grid.shape, dtype=bool)
    slices: dict[int, list[NDArray[np.float64]]] = {}
    axis = 0
    for contour in structure.contours:
        index = grid.to_index(contour)
        if not slices:
            axis = int((np.ptp(index, axis=0) * grid.spacing).argmin())
        number = round(float(index[:, axis].mean()))
        if 0 <= number < grid.shape[axis]:
            slices.setdefault(number, []).append(np.delete(index, axis, axis=1))
    odd = {"interrupted"} if slices and max(slices) - min(slices) + 1 > len(slices) else set()
    for number, polygons in slices.items():
        pixels = np.moveaxis(mask, axis, 0)[number]
        pixels[:] = _combined(polygons, (pixels.shape[0], pixels.shape[1]), odd, by_xor=structure.by_xor)
    return mask, odd


def _combined(
    polygons: Sequence[NDArray[np.float64]], shape: tuple[int, int], odd: set[str], *, by_xor: bool = False
) -> NDArray[np.bool_]:
    """The pixels of a structure on one slice: within its contours, of which those within others are holes.

    Parameters
    ----------
    polygons : sequence of ndarray, shape (n, 2)
        See `inside`.
    shape : tuple of int
    odd : set of str
        Gets "repeated", "crossing" and "over" (see `TOLD`).
    by_xor : bool
        Whether what lies within two contours that cross is outside, as a file may say.

    Returns
    -------
    ndarray of bool, shape `shape`
    """
    fills = [_Fill.of(inside(polygon, shape)) for polygon in polygons]
    kept: list[_Fill] = []
    for fill in sorted(fills, key=lambda fill: fill.count, reverse=True):
        if any(fill.is_same(other) for other in kept):
            odd.add("repeated")
        elif fill.count:
            kept.append(fill)
    bodies = [[fill] for fill in kept] if by_xor else _bodies(kept, odd)
    combined = np.zeros(shape, dtype=bool)
    for body in bodies:
        if len(body) == 1:
            combined[body[0].box] ^= body[0].pixels
            continue
        union = np.zeros(shape, dtype=bool)
        for fill in body:
            union[fill.box] |= fill.pixels
        combined ^= union
    return combined


def _bodies(fills: Sequence[_Fill], odd: set[str]) -> list[list[_Fill]]:
    """Fills, the largest first, by what is united; each body lies within another or beside it, holes cut to theirs."""
    bodies: list[list[_Fill]] = []
    for whole in fills:
        # The larger ones come first, so that it may lie within them, but they not within it.
        fill, beside, around = whole, [], []
        for body in bodies:
            shared = [whole.shared(one) for one in body if whole.meets(one)]
            most = max((np.count_nonzero(pixels) for pixels in shared), default=0)
            if most and whole.count - most <= CROSSING * whole.count:
                # Cut before it is compared with others: what reaches over the outline must not touch a neighbour.
                fill = fill.cut(np.logical_or.reduce(shared))
                around.append(body)
            else:
                beside.append(body)
        if fill.count < whole.count:
            odd.add("over")
        united, others = [fill], around
        for body in beside:
            if any(fill.meets(one) and fill.shared(one).any() for one in body):
                united += body
                odd.add("crossing")
            else:
                others.append(body)
        bodies = [*others, united]
    return bodies


@dataclass(frozen=True, eq=False)
class _Fill:
    """The pixels of one contour: those of a box of a slice, how many, and how many of them lie at their edge."""

    box: tuple[slice, slice]
    pixels: NDArray[np.bool_]
    count: int
    edge: int

    @classmethod
    def of(cls, pixels: NDArray[np.bool_]) -> _Fill:
        rows, columns = (np.flatnonzero(pixels.any(axis=axis)) for axis in (1, 0))
        if not len(rows):
            return cls((slice(0, 0), slice(0, 0)), pixels[:0, :0], 0, 0)
        box = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
        # A copy, so that no whole slice is kept for each contour.
        pixels = pixels[box].copy()
        return cls(box, pixels, int(np.count_nonzero(pixels)), _edge_length(pixels))

    def meets(self, other: _Fill) -> bool:
        """Whether the boxes overlap."""
        (rows, columns), (others_rows, others_columns) = self.box, other.box
        return (
            rows.start < others_rows.stop
            and others_rows.start < rows.stop
            and columns.start < others_columns.stop
            and others_columns.start < columns.stop
        )

    def shared(self, other: _Fill) -> NDArray[np.bool_]:
        """The pixels of this one's box that are in both, whose boxes overlap."""
        both = np.zeros_like(self.pixels)
        common = [slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(self.box, other.box, strict=True)]
        here, there = (
            tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(common, box, strict=True))
            for box in (self.box, other.box)
        )
        both[here] = self.pixels[here] & other.pixels[there]
        return both

    def is_same(self, larger: _Fill) -> bool:
        """Whether this one is a larger one once more (see `SAME_CONTOUR`)."""
        limit = SAME_CONTOUR * larger.edge
        # They differ by the difference of their counts at least.
        if larger.count - self.count >= limit or not self.meets(larger):
            return False
        return larger.count + self.count - 2 * np.count_nonzero(self.shared(larger)) < limit

    def cut(self, kept: NDArray[np.bool_]) -> _Fill:
        """What of it lies within some pixels of its box."""
        pixels = self.pixels & kept
        return _Fill(self.box, pixels, int(np.count_nonzero(pixels)), self.edge)


def _edge_length(pixels: NDArray[np.bool_]) -> int:
    """How many of some pixels have a neighbour that is none of them."""
    around = np.pad(pixels, 1)
    inner = around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    return int(np.count_nonzero(pixels & ~inner))


def inside(polygon: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels whose centres lie within a closed polygon, by the even-odd rule.

    Parameters
    ----------
    polygon : ndarray, shape (n, 2)
        Points as fractional indices of the pixels; the last is joined to the first.
    shape : tuple of int

    Returns
    -------
    ndarray of bool, shape `shape`
    """
    start, end = polygon, np.roll(polygon, -1, axis=0)
    # A line of pixels i is crossed by an edge from below i to i or above, or the other way: each corner counts once.
    low, high = (np.clip(np.ceil(f(start[:, 0], end[:, 0])), 0, shape[0]).astype(int) for f in (np.minimum, np.maximum))
    counts = high - low
    if counts.sum() > MOST_POINTS:
        raise InputError("A contour (DICOM RTSTRUCT) runs to and fro more than any does; is the file damaged?")
    edge = np.repeat(np.arange(len(polygon)), counts)
    line = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + low[edge]
    slope = (line - start[edge, 0]) / (end[edge, 0] - start[edge, 0])
    crossing = start[edge, 1] + slope * (end[edge, 1] - start[edge, 1])
    first = np.clip(np.ceil(crossing), 0, shape[1]).astype(int)
    # All pixels from a crossing on change sides.
    flips = np.zeros((shape[0], shape[1] + 1), dtype=np.int64)
    np.add.at(flips, (line, first), 1)
    return (np.cumsum(flips, axis=1)[:, :-1] % 2).astype(bool)
