"""DICOM segmentations (SEG): binary, fractional and label map, read by highdicom."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from TumorQueryLib.base.errors import InputError, MissingDependencyError
from TumorQueryLib.geometry.grid import LPS_FROM_RAS, Grid, Volume, ras_to_lps
from TumorQueryLib.inputs.checks import ImageFile, Segment, check_plausible_grid, check_voxel_count, sha256_of

#: SOP classes: segmentation, label map segmentation.
SEGMENTATION_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
#: A frame may lie this share of a slice beside its place: more than rounding, less than any missing slice.
UNEVEN = 0.1
#: Voxels of two grids count as the same when they lie this share of a voxel apart.
SAME_PLACE = 0.1
#: mm; frames that lie within this of each other along their normal lie in one plane.
SAME_PLANE = 0.01


def read_segmentation(path: Path, header: Any, role: str, references: Sequence[ImageFile]) -> ImageFile:
    """Read the segments of a DICOM segmentation.

    Parameters
    ----------
    path : Path
    header : pydicom Dataset
        The file's, up to its voxels.
    role : str
        What the file is for; errors name it.
    references : sequence of ImageFile
        Images that it may be drawn on: where its voxels are some of one of these
        images', all of that grid are given. Frames that are empty need not be stored,
        so a segmentation alone seldom fills the grid that it was drawn on.

    Raises
    ------
    InputError
        When it is damaged, no volume, or says no place.
    MissingDependencyError
        When highdicom is not installed.
    """
    try:
        import highdicom
    except ImportError as error:
        raise MissingDependencyError(
            f"The {role} file {path} is a DICOM segmentation (SEG), and reading one needs the package highdicom: "
            "pip install \"tumorquery[dicom]\"; in 3D Slicer, slicer.util.pip_install('highdicom'). Or convert it to a "
            "label map first."
        ) from error
    if not header.get("FrameOfReferenceUID") or header.get("TotalPixelMatrixColumns"):
        raise InputError(
            f"The {role} file {path} is a DICOM segmentation that does not lie in the space of a patient (a slide, or "
            "pictures without a place); give one that was drawn on the MRI."
        )
    described = list(header.get("SegmentSequence") or [])
    frames = int(header.get("NumberOfFrames", 1) or 1)
    check_voxel_count([int(header.Rows), int(header.Columns), frames], role)
    if not described or not frames:
        raise InputError(f"The {role} file {path} is a DICOM segmentation without segments; segment the tumour first.")
    said: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset = pydicom.dcmread(path)
            _settle_spacing(dataset, references, role, said)
            segmentation = highdicom.seg.Segmentation.from_dataset(dataset, copy=False)
            names = {int(item.SegmentNumber): item for item in described}
            numbers = [int(number) for number in segmentation.segment_numbers]
        except MemoryError:
            raise
        except Exception as error:
            raise InputError(
                f"The {role} file {path} is a DICOM segmentation that cannot be read: it is damaged or unlike the "
                "standard; export it again."
            ) from error
        geometry = segmentation.get_volume_geometry(rtol=UNEVEN)
        if geometry is None:
            raise InputError(
                f"The {role} file {path} is a DICOM segmentation whose frames are no even stack of slices; export it "
                "on the grid of the image that it was drawn on."
            )
        grid = _grid(geometry.affine, geometry.spatial_shape)
        check_plausible_grid(grid, role, is_mask=True)
        check_voxel_count([*grid.shape, max(1, len(numbers) // 8)], role)
        whole, placed = _placement(grid, [one.volume.grid for one in references])
        segments, union = [], np.zeros(whole.shape, dtype=bool)
        shares: dict[str, str] = {}
        for number in numbers:
            mask = np.zeros(whole.shape, dtype=bool)
            filled = _shares(segmentation, number, path, role, grid.shape)
            mask[placed] = filled >= 0.5
            if 0 < filled.max() < 0.5:
                shares[_name(names[number])] = f"{_name(names[number])!r} (highest {filled.max():.3g})"
            union |= mask
            segments.append(Segment(_name(names[number]), mask, code_of(names[number], "SegmentedPropertyType")))
    highest = ", ".join([*shares.values()][:8])
    if shares and not union.any():
        raise InputError(
            f"The {role} file {path} is a fractional DICOM segmentation whose shares are nowhere 0.5 or more: {highest}"
            "; export it as a binary one."
        )
    if shares:
        said.append(f"Segments of the {role} whose shares are nowhere 0.5 or more, so empty: {highest}.")
    nameless = [segment.name for segment in segments if not segment.mask.any() and segment.name not in shares]
    if nameless and len(nameless) < len(segments):
        said.append(f"Segments without a voxel in the {role}: {', '.join(map(repr, nameless))}.")
    return ImageFile(
        Volume(union, whole),
        sha256_of([path]),
        tuple(segments),
        tuple(said),
        frame_of_reference=str(header.FrameOfReferenceUID),
        drawn_on=referenced_series(header),
    )


def code_of(item: Any, name: str) -> str:
    """The code in the sequence `nameCodeSequence` of an item, such as "SCT 86049000"; empty where there is none."""
    sequence = item.get(f"{name}CodeSequence")
    if not sequence:
        return ""
    code = sequence[0]
    scheme, value = str(code.get("CodingSchemeDesignator", "")), str(code.get("CodeValue", ""))
    return f"{scheme} {value}" if scheme and value else ""


def referenced_series(header: Any) -> str | None:
    """UID of the one series that a segmentation says it was drawn on."""
    series = {str(item.get("SeriesInstanceUID", "")) for item in header.get("ReferencedSeriesSequence") or []} - {""}
    return series.pop() if len(series) == 1 else None


def _name(item: Any) -> str:
    """What a segment is called."""
    return str(item.get("SegmentLabel", "") or f"Segment_{item.SegmentNumber}")


def _settle_spacing(dataset: Any, references: Sequence[ImageFile], role: str, said: list[str]) -> None:
    """Have a segmentation say how far its slices lie apart, by what can be believed; adds to what is to be `said`.

    Empty frames need not be stored, so frames alone do not tell it, and some tools write the gap between slices for
    it. It holds where frames lie so far apart. Else it is that of the image that the segmentation was drawn on, or of
    one whose voxels its frames are; without any, that of the frames where they are an even stack.
    """
    shared = list(dataset.get("SharedFunctionalGroupsSequence") or [])
    groups = [*shared, *dataset.PerFrameFunctionalGroupsSequence]
    measures = [item for group in groups for item in group.get("PixelMeasuresSequence") or []]
    orientation = next((item for group in groups for item in group.get("PlaneOrientationSequence") or []), None)
    if not measures or orientation is None:
        return
    axes = ras_to_lps(np.array(orientation.ImageOrientationPatient, dtype=float).reshape(2, 3))
    normal = np.cross(*axes)
    positions = [f.PlanePositionSequence[0].ImagePositionPatient for f in dataset.PerFrameFunctionalGroupsSequence]
    points = ras_to_lps(np.array(positions, dtype=float).reshape(-1, 3))
    points = points[np.argsort(points @ normal)]
    points = points[np.diff(points @ normal, prepend=-np.inf) > SAME_PLANE]
    frames = _Frames(points, normal)
    written = abs(float(measures[0].get("SpacingBetweenSlices") or 0))
    if written and frames.step and frames.are_even_by(written) and round(frames.step / written) == 1:
        return
    down, right = (float(x) for x in measures[0].PixelSpacing)
    first = np.eye(4)
    first[:3] = np.column_stack([axes[0] * right, axes[1] * down, normal, points[0]])
    first_slice = Grid((int(dataset.Columns), int(dataset.Rows), 1), first)
    step = frames.step_of_image(first_slice, references, referenced_series(dataset))
    if step is None and len(points) == 1:
        step = written or float(measures[0].get("SliceThickness") or 0)
    elif step is None and written and frames.are_even_by(written) and not frames.are_a_stack:
        step = written
    elif step is None and frames.are_even_by(frames.step):
        step = frames.step
        if written:
            said.append(
                f"The {role} says that its slices lie {written:g} mm apart, but its frames lie {step:g} mm apart; "
                f"they were read as slices of {step:g} mm. Give the image that it was drawn on to be sure."
            )
    if not step:
        return
    if frames.step > 1.5 * step:
        said.append(
            f"No two frames of the {role} lie on slices side by side ({frames.step:g} mm apart at least, and a slice "
            f"is {step:g} mm); the slices between them were read as empty."
        )
    for item in measures:
        item.SpacingBetweenSlices = f"{step:.8g}"


@dataclass(frozen=True, eq=False)
class _Frames:
    """Planes of frames: a point of each, RAS mm in their order along the normal, and the normal."""

    points: NDArray[np.float64]
    normal: NDArray[np.float64]

    @property
    def gaps(self) -> NDArray[np.float64]:
        """From each plane to the next, mm."""
        return np.diff(self.points @ self.normal)

    @property
    def step(self) -> float:
        """The shortest gap, by all of those that are multiples of it; 0 of one plane."""
        if not len(self.gaps):
            return 0.0
        numbers = np.cumsum(np.rint(self.gaps / self.gaps.min()))
        return float(np.sum(numbers * np.cumsum(self.gaps)) / np.sum(numbers**2))

    @property
    def are_a_stack(self) -> bool:
        """Whether they are at least three, all of them equally far apart."""
        return len(self.gaps) > 1 and bool(np.abs(self.gaps - self.step).max() <= UNEVEN * self.step)

    def are_even_by(self, step: float) -> bool:
        """Whether they lie on slices that are so many mm apart."""
        places = np.cumsum(self.gaps) / step
        return bool(np.abs(places - np.rint(places)).max(initial=0) <= UNEVEN)

    def step_of_image(self, first: Grid, images: Sequence[ImageFile], series: str | None) -> float | None:
        """The distance of the slices of the image that the frames were drawn on, as far as that can be told.

        Parameters
        ----------
        first : Grid
            Of the first frame, 1 mm thick.
        images : sequence of ImageFile
        series : str, optional
            UID of the series that they say they were drawn on.

        Returns
        -------
        float or None
            mm; of the image of that series where they lie on its slices, else the longest of those of the images whose
            voxels the frames' are and that may be of that series.
        """
        found = []
        for image in images:
            grid = image.volume.grid
            along = np.abs(grid.affine[:3, :3].T @ self.normal) / grid.spacing
            axis, step = int(along.argmax()), float(grid.spacing[along.argmax()])
            if along[axis] < 1 - 1e-3:
                continue
            numbers = grid.to_index(self.points)[:, axis]
            on_slices = bool(np.abs(numbers - np.rint(numbers)).max() < SAME_PLACE)
            if on_slices and series is not None and image.series == series:
                return step
            affine = first.affine @ np.diag([1, 1, step, 1])
            count = round(float(self.gaps.sum()) / step) + 1
            if on_slices and (series is None or image.series is None):
                found += [step] if _placement(Grid((*first.shape[:2], count), affine), [grid])[0] is grid else []
        return max(found, default=None)


def _grid(affine: NDArray[np.float64], shape: Sequence[int]) -> Grid:
    """The grid [column, row, slice] of highdicom's [slice, row, column] in LPS."""
    slices, rows, columns = (int(n) for n in shape)
    return Grid((columns, rows, slices), LPS_FROM_RAS @ np.asarray(affine, dtype=float)[:, [2, 1, 0, 3]])


def _placement(grid: Grid, grids: Sequence[Grid]) -> tuple[Grid, tuple[NDArray[np.int64], ...]]:
    """The grid to fill, and the indices in it of the voxels of `grid`: of the first of `grids` that has them all.

    Where none has, the grid itself with a slice more at both ends, since a mask that
    ends with its grid does not go on.
    """
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in grid.shape], indexing="ij")).reshape(3, -1).T
    for other in grids:
        matrix = np.linalg.inv(other.affine) @ grid.affine
        rounded = np.rint(matrix)
        turned = np.abs(rounded[:3, :3])
        if not (turned.sum(axis=0) == 1).all() or not (turned.sum(axis=1) == 1).all():
            continue
        index = corners @ rounded[:3, :3].T + rounded[:3, 3]
        beside = np.abs(corners @ matrix[:3, :3].T + matrix[:3, 3] - index).max()
        if beside < SAME_PLACE and (index >= 0).all() and (index < other.shape).all():
            return other, _indices(grid.shape, rounded)
    padded = grid.cropped((0, 0, -1), (*grid.shape[:2], grid.shape[2] + 1))
    shift = np.eye(4)
    shift[2, 3] = 1
    return padded, _indices(grid.shape, shift)


def _indices(shape: tuple[int, int, int], matrix: NDArray[np.float64]) -> tuple[NDArray[np.int64], ...]:
    """Indices of an array's voxels in another array, open along the axes: `matrix` only turns and shifts them."""
    found: list[NDArray[np.int64]] = []
    for row in matrix[:3]:
        source = int(np.abs(row[:3]).argmax())
        numbers = (row[source] * np.arange(shape[source]) + row[3]).astype(np.int64)
        found.append(numbers.reshape([-1 if axis == source else 1 for axis in range(3)]))
    return tuple(found)


def _shares(segmentation: Any, number: int, path: Path, role: str, shape: tuple[int, int, int]) -> NDArray:
    """How much of each voxel [column, row, slice] one segment fills: 0 or 1 where the segmentation is not fractional.

    A voxel belongs to it that is at least half filled.
    """
    try:
        array = segmentation.get_volume(segment_numbers=[number], rtol=UNEVEN).array[..., 0]
    except MemoryError:
        raise
    except Exception as error:
        raise InputError(
            f"The {role} file {path} is a DICOM segmentation whose voxels cannot be read: it is truncated, damaged or "
            "compressed in an unknown way; export it again."
        ) from error
    shares = array.transpose(2, 1, 0)
    if shares.shape != shape:
        raise InputError(f"The {role} file {path} is damaged: its voxels do not fit its header; export it again.")
    return shares
