"""Contours of radiotherapy (DICOM RTSTRUCT), filled on the slices that they were drawn on.

A structure's contours in one plane are filled by the even-odd rule: a contour within
another is a hole, and a keyhole (a contour that runs into a hole and back along one
line) leaves the hole open.
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
#: Most points that contours of a patient have.
MOST_POINTS = 20_000_000


@dataclass(frozen=True, eq=False)
class Structure:
    """One region of interest: its contours, arrays of RAS mm of shape (points, 3)."""

    name: str
    code: str
    contours: tuple[NDArray[np.float64], ...]


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
    interrupted: list[str] = []
    for structure in structures:
        mask = _filled(structure, grid, interrupted)
        union |= mask
        segments.append(Segment(structure.name, mask, structure.code))
    if interrupted:
        more = f" and {len(interrupted) - 5} more" if len(interrupted) > 5 else ""
        said.append(
            f"Structures of the {role} without a contour on slices between their first and their last, where nothing "
            f"was filled: {', '.join(map(repr, interrupted[:5]))}{more}."
        )
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
    left_out, points = 0, 0
    for item in header.get("ROIContourSequence") or []:
        found = contours.setdefault(int(item.ReferencedROINumber), [])
        for contour in item.get("ContourSequence") or []:
            coordinates = _coordinates(contour, path, role)
            points += len(coordinates)
            if points > MOST_POINTS:
                raise InputError(f"The {role} file {path} holds more contours than any patient has; is it damaged?")
            if str(contour.get("ContourGeometricType", "")) not in CLOSED or len(coordinates) < 3:
                left_out += 1
            elif not any(
                other.shape == coordinates.shape and np.array_equal(other, coordinates) for other in found[-50:]
            ):
                # A contour stored twice would undo itself by the even-odd rule.
                found.append(coordinates)
    if left_out:
        said.append(f"{left_out} points, open lines or contours of less than three points in the {role} were left out.")
    structures = []
    for item in header.get("StructureSetROISequence") or []:
        number = int(item.ROINumber)
        name = str(item.get("ROIName", "") or f"ROI_{number}")
        code = code_of(observed[number], "RTROIIdentification") if number in observed else ""
        structures.append(Structure(name, code, tuple(contours.get(number, ()))))
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


def _filled(structure: Structure, grid: Grid, interrupted: list[str]) -> NDArray[np.bool_]:
    """The voxels of a grid whose centres lie within a structure's contours, which lie in planes of the grid.

    Adds the structure's name to `interrupted` where slices between its first and last have no contour.
    """
    mask = np.zeros(grid.shape, dtype=bool)
    used: set[int] = set()
    axis = None
    for contour in structure.contours:
        index = grid.to_index(contour)
        if axis is None:
            axis = int((np.ptp(index, axis=0) * grid.spacing).argmin())
        number = round(float(index[:, axis].mean()))
        if 0 <= number < grid.shape[axis]:
            used.add(number)
            rows, columns = (other for other in range(3) if other != axis)
            np.moveaxis(mask, axis, 0)[number] ^= inside(
                index[:, [rows, columns]], (grid.shape[rows], grid.shape[columns])
            )
    if used and max(used) - min(used) + 1 > len(used):
        interrupted.append(structure.name)
    return mask


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
