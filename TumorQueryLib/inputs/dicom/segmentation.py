"""DICOM segmentations (SEG): binary, fractional and label map, read by highdicom."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from TumorQueryLib.base.errors import InputError, MissingDependencyError
from TumorQueryLib.geometry.grid import LPS_FROM_RAS, Grid, Volume
from TumorQueryLib.inputs.checks import ImageFile, Segment, check_plausible_grid, check_voxel_count, sha256_of

#: SOP classes: segmentation, label map segmentation.
SEGMENTATION_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
#: A frame may lie this share of a slice beside its place: more than rounding, less than any missing slice.
UNEVEN = 0.1
#: Voxels of two grids count as the same when they lie this share of a voxel apart.
SAME_PLACE = 0.1


def read_segmentation(path: Path, header: Any, role: str, grids: Sequence[Grid]) -> ImageFile:
    """Read the segments of a DICOM segmentation.

    Parameters
    ----------
    path : Path
    header : pydicom Dataset
        The file's, up to its voxels.
    role : str
        What the file is for; errors name it.
    grids : sequence of Grid
        Of images that it may be drawn on: where its voxels are some of one of these
        grids', all of that grid are given. Frames that are empty need not be stored,
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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset = pydicom.dcmread(path)
            _say_spacing(dataset, grids)
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
        whole, placed = _placement(grid, grids)
        segments, union = [], np.zeros(whole.shape, dtype=bool)
        for number in numbers:
            mask = np.zeros(whole.shape, dtype=bool)
            mask[placed] = _mask(segmentation, number, path, role, grid.shape)
            union |= mask
            segments.append(Segment(_name(names[number]), mask, code_of(names[number], "SegmentedPropertyType")))
    said = []
    nameless = [segment.name for segment in segments if not segment.mask.any()]
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


def _say_spacing(dataset: Any, grids: Sequence[Grid]) -> None:
    """Where a segmentation does not say how far its slices lie apart, let it be what the images say.

    Of stored frames alone it cannot be known, since empty ones may be missing between them.
    """
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [{}])[0]
    measures = (shared.get("PixelMeasuresSequence") or [None])[0]
    orientation = (shared.get("PlaneOrientationSequence") or [None])[0]
    if measures is None or orientation is None or measures.get("SpacingBetweenSlices"):
        return
    axes = np.array(orientation.ImageOrientationPatient, dtype=float).reshape(2, 3)
    normal = LPS_FROM_RAS[:3, :3] @ np.cross(*axes)
    for grid in grids:
        along = np.abs(grid.affine[:3, :3].T @ normal) / grid.spacing
        if along.max() > 1 - 1e-3:
            measures.SpacingBetweenSlices = f"{grid.spacing[along.argmax()]:.8g}"
            return
    places = {
        tuple(frame.PlanePositionSequence[0].ImagePositionPatient) for frame in dataset.PerFrameFunctionalGroupsSequence
    }
    if len(places) == 1 and measures.get("SliceThickness"):
        measures.SpacingBetweenSlices = measures.SliceThickness


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


def _mask(segmentation: Any, number: int, path: Path, role: str, shape: tuple[int, int, int]) -> NDArray[np.bool_]:
    """One segment's voxels [column, row, slice]; of a fractional segmentation those that are at least half filled."""
    try:
        array = segmentation.get_volume(segment_numbers=[number], rtol=UNEVEN).array[..., 0]
    except MemoryError:
        raise
    except Exception as error:
        raise InputError(
            f"The {role} file {path} is a DICOM segmentation whose voxels cannot be read: it is truncated, damaged or "
            "compressed in an unknown way; export it again."
        ) from error
    mask = array.transpose(2, 1, 0) >= 0.5
    if mask.shape != shape:
        raise InputError(f"The {role} file {path} is damaged: its voxels do not fit its header; export it again.")
    return mask
