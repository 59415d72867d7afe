"""A patient's images and tumour masks, read and checked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.brain import find_background
from TumorQueryLib.geometry.grid import Grid, Volume, resample, resample_mask
from TumorQueryLib.geometry.regions import TumorMasks, bounding_box
from TumorQueryLib.inputs.checks import ImageFile, check_plausible_grid
from TumorQueryLib.inputs.image_files import read_image_file
from TumorQueryLib.inputs.labels import ROUNDING, regions_from_label_map, regions_from_segments

#: Smallest whole tumour, in ml, that is more than a slip of the brush.
SMALLEST_WHOLE_ML = 0.1
#: Below these volumes, in ml, the database holds hardly anything alike.
SMALL_WHOLE_ML = 2.0
SMALL_CORE_ML = 0.2


@dataclass(frozen=True, eq=False, kw_only=True)
class Patient:
    """A patient's MRI and tumour segmentation; everything is checked on construction.

    Parameters
    ----------
    t1gd : Volume
        T1 with gadolinium; the density is given back on its grid.
    core : Volume of bool
        Necrosis, non-enhancing and enhancing tumour: the region seen in T1Gd. May be
        empty, with a warning.
    whole : Volume of bool
        The whole tumour, core included: all that is abnormal in FLAIR.
    flair, t1 : Volume, optional
        Each on a grid of its own, in the same space as the T1Gd.
    brain_mask : Volume of bool, optional
    labels : str, optional
        The convention by which the segmentation was read: its name, the form
        core=.../whole=..., or "segment names: core=.../whole=..." where those said it.
    inputs : tuple of dict
        What went in, as result.json holds it: role, SHA-256 and grid (affine to RAS
        mm), no name and no path. Made from the arrays where it is not given.
    warnings : tuple of str
        What a user has to know about this input; construction adds to it.

    Raises
    ------
    InputError
        When an image or mask is not accepted; the text says why and what to do.

    Notes
    -----
    After construction images are float32 and finite; `core` and `whole` share one
    grid, the finer one of the two and grown where it does not hold both, and the core
    lies within the whole tumour.
    """

    t1gd: Volume
    core: Volume
    whole: Volume
    flair: Volume | None = None
    t1: Volume | None = None
    brain_mask: Volume | None = None
    labels: str | None = None
    inputs: tuple[dict[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()

    @classmethod
    def load(
        cls,
        t1gd: str | Path,
        flair: str | Path | None = None,
        t1: str | Path | None = None,
        *,
        segmentation: str | Path | None = None,
        core: str | Path | None = None,
        whole: str | Path | None = None,
        labels: str | None = None,
        brain_mask: str | Path | None = None,
    ) -> Patient:
        """Read a patient from files: NIfTI, NRRD, MetaImage or DICOM series folders.

        Parameters
        ----------
        t1gd, flair, t1 : path
            Images; each may be on a grid of its own.
        segmentation : path
            A label map, or a Slicer segmentation (.seg.nrrd) read by segment name.
        core, whole : path
            Two masks instead of the segmentation; the core may be left out.
        labels : str, optional
            What the segmentation's labels mean: brats2013, brats2018, brats2023,
            brats2024, brats-peds, decathlon, or `core=1,4/whole=1,2,4`; for a Slicer
            segmentation `core=NAME,.../whole=NAME,...`. A label map always needs one;
            segment names that say what they are need none.
        brain_mask : path, optional

        Raises
        ------
        InputError
            When a file or the call is not accepted.
        """
        if segmentation is None and whole is None:
            raise InputError("Give a segmentation, or masks of the core and of the whole tumour.")
        if segmentation is not None and (core is not None or whole is not None):
            raise InputError("Give either a segmentation or masks of the core and of the whole tumour, not both.")
        if labels is not None and segmentation is None:
            raise InputError("A label convention belongs to a segmentation; masks of core and whole tumour need none.")
        images: dict[str, Volume] = {}
        inputs: list[dict[str, Any]] = []
        warnings: list[str] = []

        def read(path: str | Path, role: str, name: str) -> ImageFile:
            file = read_image_file(path, name, is_mask=role in ("segmentation", "core", "whole"))
            inputs.append(_input_record(role, file.sha256, file.volume.grid))
            warnings.extend(file.warnings)
            return file

        for role, name, path in (("t1gd", "T1Gd", t1gd), ("flair", "FLAIR", flair), ("t1", "T1", t1)):
            if path is not None:
                images[role] = read(path, role, name).volume
        if segmentation is not None:
            file = read(segmentation, "segmentation", "segmentation")
            if file.segments:
                regions = regions_from_segments(file.segments, labels)
            else:
                regions = regions_from_label_map(file.volume.array, labels)
            labels = regions.labels
            warnings.extend(regions.warnings)
            images["core"], images["whole"] = (Volume(m, file.volume.grid) for m in (regions.core, regions.whole))
        for role, name, path in (
            ("core", "core mask", core),
            ("whole", "whole tumour mask", whole),
            ("brain_mask", "brain mask", brain_mask),
        ):
            if path is not None:
                volume = read(path, role, name).volume
                images[role] = Volume(_mask_from_values(volume.array, name), volume.grid)
        if "core" not in images:
            grid = images["whole"].grid
            images["core"] = Volume(np.zeros(grid.shape, dtype=bool), grid)
        return cls(**images, labels=labels, inputs=tuple(inputs), warnings=tuple(warnings))

    def __post_init__(self) -> None:
        warnings = list(self.warnings)
        inputs = self.inputs or tuple(
            _input_record(role, hashlib.sha256(np.ascontiguousarray(volume.array).tobytes()).hexdigest(), volume.grid)
            for role in ("t1gd", "flair", "t1", "core", "whole", "brain_mask")
            if (volume := getattr(self, role)) is not None
        )
        for role, name in (("t1gd", "T1Gd"), ("flair", "FLAIR"), ("t1", "T1")):
            volume = getattr(self, role)
            if volume is not None:
                object.__setattr__(self, role, _checked_image(volume, name, warnings))
        for role in ("core", "whole", "brain_mask"):
            volume = getattr(self, role)
            if volume is not None and volume.array.dtype != bool:
                raise InputError(f"The {role} has to be a mask of truth values, it holds {volume.array.dtype}.")
        core, whole = _checked_regions(self.core, self.whole, warnings)
        object.__setattr__(self, "core", core)
        object.__setattr__(self, "whole", whole)
        self._check_places(warnings)
        object.__setattr__(self, "inputs", inputs)
        object.__setattr__(self, "warnings", tuple(dict.fromkeys(warnings)))

    @property
    def registration_image(self) -> Volume:
        """The image to register with the atlas's T1: the T1 where there is one, else the T1Gd."""
        return self.t1gd if self.t1 is None else self.t1

    @cached_property
    def regions_on_t1gd(self) -> TumorMasks:
        """Core and whole tumour on the T1Gd image's grid."""
        return TumorMasks.on_grid(self.core, self.whole, self.t1gd.grid)

    def _check_places(self, warnings: list[str]) -> None:
        """Refuse images and masks that do not lie over one another."""
        points = self.whole.grid.to_ras(np.argwhere(self.whole.array))
        for name, volume in (("T1Gd", self.t1gd), ("FLAIR", self.flair), ("T1", self.t1)):
            if volume is None:
                continue
            inside = _share_inside(points, volume.grid)
            if inside < 0.5:
                raise InputError(
                    f"The segmentation lies elsewhere in space than the {name}: only {inside:.0%} of the tumour "
                    f"(around {_point(points.mean(axis=0))} RAS mm) lies in the image (around "
                    f"{_point(volume.grid.centre)}); segment on this patient's images, or mend the header."
                )
            if inside < 0.98:
                warnings.append(f"{1 - inside:.0%} of the tumour lies beyond the edge of the {name}.")
            overlap = 1.0 if volume is self.t1gd else _tissue_overlap(volume, self.t1gd)
            if overlap < 0.9:
                warnings.append(
                    f"Head or brain in {name} and T1Gd overlap by only {overlap:.0%}: the patient moved between them; "
                    f"register the {name} to the T1Gd first."
                )
        if self.brain_mask is not None:
            brain = resample_mask(self.brain_mask, self.t1gd.grid).array
            if not brain.any():
                raise InputError("The brain mask is empty, or lies elsewhere in space than the T1Gd.")
            where = "the brain mask"
        else:
            brain = find_background(self.t1gd.array).foreground
            where = "the imaged tissue of the T1Gd"
        tumour = self.regions_on_t1gd.whole
        inside = float(brain[tumour].mean()) if tumour.any() else 0.0
        if inside < 0.5:
            raise InputError(
                f"Only {inside:.0%} of the segmented tumour lies in {where}: segmentation and image are of different "
                "patients, or one of them is mirrored or has lost its place in space. Check both in a viewer."
            )
        if inside < 0.95:
            warnings.append(f"{1 - inside:.0%} of the segmented tumour lies outside {where}.")


def _input_record(role: str, sha256: str, grid: Grid) -> dict[str, Any]:
    return {"role": role, "sha256": sha256, "grid": {"shape": list(grid.shape), "affine": grid.affine.tolist()}}


def _checked_image(volume: Volume, name: str, warnings: list[str]) -> Volume:
    """The image as float32 without NaN."""
    if volume.array.dtype.kind not in "buif":
        raise InputError(f"The {name} holds {volume.array.dtype} values; an image holds numbers.")
    check_plausible_grid(volume.grid, name)
    with np.errstate(over="ignore"):
        array = volume.array.astype(np.float32)
    finite = np.isfinite(array)
    if not finite.all():
        if not finite.any():
            raise InputError(f"The {name} holds no finite number; export the image again.")
        # Some tools mark everything outside the brain as NaN.
        warnings.append(f"{1 - finite.mean():.2%} of the {name}'s voxels are NaN or infinite; they are taken as 0.")
        array = np.where(finite, array, np.float32(0))
    if array.min() == array.max():
        raise InputError(f"The {name} holds the same value {array.min():g} everywhere; there is nothing to see in it.")
    return Volume(array, volume.grid)


def _checked_regions(core: Volume, whole: Volume, warnings: list[str]) -> tuple[Volume, Volume]:
    """Core and whole tumour on one grid, the core within the whole tumour."""
    check_plausible_grid(whole.grid, "segmentation", is_mask=True)
    if not whole.array.any():
        raise InputError("The segmentation is empty: there is no voxel of the whole tumour.")
    if not core.grid.matches(whole.grid):
        check_plausible_grid(core.grid, "core mask", is_mask=True)
        if core.array.any() and _share_inside(core.grid.to_ras(np.argwhere(core.array)), whole.grid) < 0.5:
            raise InputError(
                "The core mask lies elsewhere in space than the whole tumour mask; draw both on one image."
            )
        grid = _grid_of_both(core, whole)
        core, whole = (_on_grid(mask, grid) for mask in (core, whole))
    voxel = whole.grid.voxel_volume_ml
    core_ml, whole_ml = core.array.sum() * voxel, whole.array.sum() * voxel
    if whole_ml < SMALLEST_WHOLE_ML:
        raise InputError(
            f"The whole tumour has only {whole_ml:.3f} ml; at least {SMALLEST_WHOLE_ML} ml are needed. "
            "Check the segmentation and its labels."
        )
    outside_ml = (core.array & ~whole.array).sum() * voxel
    if core_ml > whole_ml or outside_ml > 0.5 * core_ml:
        raise InputError(
            f"The core ({core_ml:.1f} ml, {outside_ml:.1f} ml of it outside the whole tumour) does not fit into "
            f"the whole tumour ({whole_ml:.1f} ml). The whole tumour is oedema and core together: are the two masks "
            "swapped, or is the second one the oedema alone?"
        )
    if outside_ml > 0:
        warnings.append(f"{outside_ml:.2f} ml of the core lay outside the whole tumour and were added to it.")
        whole = Volume(whole.array | core.array, whole.grid)
    if core_ml == 0:
        warnings.append("The segmentation has no core; the match rests on the whole tumour alone.")
    elif core_ml < SMALL_CORE_ML:
        warnings.append(f"The core has only {core_ml:.2f} ml; its match says little.")
    if whole_ml < SMALL_WHOLE_ML:
        warnings.append(f"The whole tumour has only {whole_ml:.1f} ml, less than most simulated tumours.")
    return core, whole


def _grid_of_both(core: Volume, whole: Volume) -> Grid:
    """The finer of two masks' grids, grown to hold what is marked in either."""
    finer, other = (core, whole) if core.grid.voxel_volume_ml < whole.grid.voxel_volume_ml else (whole, core)
    if not other.array.any():
        return finer.grid
    first, last = bounding_box(other.array)
    corners = np.array(np.meshgrid(*zip(first - 0.5, last - 0.5))).reshape(3, -1).T
    index = finer.grid.to_index(other.grid.to_ras(corners))
    start = np.minimum(0, np.floor(index.min(axis=0) + 0.5 - 1e-3)).astype(int)
    stop = np.maximum(finer.grid.shape, np.ceil(index.max(axis=0) + 0.5 + 1e-3)).astype(int)
    grid = finer.grid.cropped(start, stop)
    check_plausible_grid(grid, "box around both masks", is_mask=True)
    return grid


def _on_grid(mask: Volume, grid: Grid) -> Volume:
    """A mask on another grid; voxel for voxel where the grid only goes further."""
    start = np.rint(grid.to_index(mask.grid.affine[:3, 3])).astype(int)
    stop = start + mask.array.shape
    if (start >= 0).all() and (stop <= grid.shape).all() and grid.cropped(start, stop).matches(mask.grid):
        array = np.zeros(grid.shape, dtype=bool)
        array[tuple(slice(int(a), int(b)) for a, b in zip(start, stop))] = mask.array
        return Volume(array, grid)
    # With a rim, since a mask cropped to what it holds ends there and does not go on.
    start, stop = np.array([-1, -1, -1]), np.array(mask.array.shape) + 1
    return resample_mask(Volume(np.pad(mask.array, 1), mask.grid.cropped(start, stop)), grid)


def _mask_from_values(array: NDArray, name: str) -> NDArray[np.bool_]:
    """A mask from a file's values: 0 and one other value, or shares between 0 and 1."""
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise InputError(f"The {name} holds values that are not numbers (NaN or infinite).")
        if array.min() >= -ROUNDING and array.max() <= 1 + ROUNDING:
            # Shares or not: what is stored as a tiny 1 and nothing else is still a mask.
            values = array[array != 0]
            return array > 0.5 if values.size == 0 or values.max() > 0.5 or values.min() != values.max() else array != 0
        rounded = np.rint(array)
        array = np.where(np.abs(array - rounded) <= ROUNDING, rounded, array)
    values = array[array != 0]
    if values.size == 0 or values.min() == values.max():
        return array != 0
    raise InputError(
        f"The {name} holds values from {values.min():g} to {values.max():g}; a mask holds 0 and one other value. "
        "A label map is given as the segmentation."
    )


def _tissue_overlap(volume: Volume, reference: Volume) -> float:
    """Overlap of the imaged tissue of two images, as a share of the smaller one's.

    A slab that covers a part of the head counts as overlapping. 1 where the
    background of either image does not stand out.
    """
    # Every few millimetres are enough for a share.
    steps = [max(1, n // 64) for n in reference.grid.shape]
    affine = reference.grid.affine @ np.diag([*steps, 1.0])
    reference_tissue = find_background(reference.array).foreground[:: steps[0], :: steps[1], :: steps[2]]
    tissue = Volume(find_background(volume.array).foreground.astype(np.uint8), volume.grid)
    moved = resample(tissue, Grid(reference_tissue.shape, affine), interpolation="nearest").array > 0
    smaller = min(reference_tissue.sum(), moved.sum())
    return float((reference_tissue & moved).sum() / smaller) if smaller else 0.0


def _share_inside(points: NDArray[np.float64], grid: Grid) -> float:
    """Share of RAS points (n, 3) that lie in a grid's box."""
    index = grid.to_index(points)
    return float(((index >= -0.5) & (index <= np.array(grid.shape) - 0.5)).all(axis=1).mean())


def _point(point: NDArray[np.float64]) -> str:
    return "(" + ", ".join(f"{x:.0f}" for x in point) + ")"
