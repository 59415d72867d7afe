"""A patient's images and tumour masks, read and checked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from TumorQueryLib.anatomy.tissue_maps import TissueMaps
from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.brain import find_background
from TumorQueryLib.geometry.grid import Grid, Volume, resample, resample_mask
from TumorQueryLib.geometry.regions import TumorMasks, bounding_box, slices_between
from TumorQueryLib.inputs.checks import ImageFile, check_plausible_grid, finite_values
from TumorQueryLib.inputs.dicom.choice import choose_series
from TumorQueryLib.inputs.dicom.study import Study, read_study
from TumorQueryLib.inputs.drawn_on import IMAGE_NAMES, image_drawn_on
from TumorQueryLib.inputs.given_tissue import TISSUE_NAMES, check_tissue_maps, tissue_maps_of_files
from TumorQueryLib.inputs.image_files import read_image_file
from TumorQueryLib.inputs.labels import ROUNDING, regions_from_label_map, regions_from_segments

#: Smallest whole tumour, in ml, that is more than a slip of the brush.
SMALLEST_WHOLE_ML = 0.1
#: Below these volumes, in ml, the database holds hardly anything alike.
SMALL_WHOLE_ML = 2.0
SMALL_CORE_ML = 0.2
#: A tumour above this volume, in ml, or share of the brain is the brain or an image.
LARGEST_WHOLE_ML, LARGEST_WHOLE_SHARE = 600.0, 0.5
#: Below this share of the whole tumour there is hardly any oedema.
LITTLE_OEDEMA = 0.02
#: Enclosed oedema from which on a core is a rim, as a share of it: 1 % at most in eight patients' full cores, and more
#: than 6 % where the enhancing tumour alone is taken of five of them.
RIM_SHARE = 0.05
#: Share of a resection cavity that may be tumour too, and of tumour or brain that it may hold.
SHARED_CAVITY, LARGEST_CAVITY_SHARE = 0.05, 0.5


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
    cavity : Volume of bool, optional
        Resection cavity: no part of the tumour, but of what a plan is made around.
    tissue_maps : TissueMaps, optional
        The patient's own white matter, grey matter and CSF, in the patient's space, that the tumour grows in instead
        of the atlas's.
    labels : str, optional
        The convention by which the segmentation was read: its name, the form
        core=.../whole=..., or "segment names: core=.../whole=..." ("terminology codes:
        ...", "segment names and terminology codes: ...") where those said it.
    inputs : tuple of dict
        What went in, as result.json holds it: role, SHA-256 and grid (affine to RAS
        mm), no name and no path. Made from the arrays where it is not given.
    warnings : tuple of str
        What a user has to know about this input; construction adds to it.
    segmentation_on : {"t1gd", "flair", "t1"}, optional
        The image on which core and whole tumour were drawn, and with which they move. By
        default, for each mask by itself, the image whose grid it shares, else the T1Gd.
    aligned : bool
        Whether the images lie as they will be used. Before that, a mask that was drawn on
        another image is not yet compared with the T1Gd, nor with a mask drawn on a third.

    Raises
    ------
    InputError
        When an image or mask is not accepted; the text says why and what to do.

    Notes
    -----
    After construction images are float32 and finite; `core` and `whole` share one
    grid, the finer one of the two and grown where it does not hold both, and the core
    lies within the whole tumour. `drawn_on` names the image of each mask by role.
    """

    t1gd: Volume
    core: Volume
    whole: Volume
    flair: Volume | None = None
    t1: Volume | None = None
    brain_mask: Volume | None = None
    cavity: Volume | None = None
    tissue_maps: TissueMaps | None = None
    labels: str | None = None
    inputs: tuple[dict[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()
    segmentation_on: str | None = None
    aligned: bool = False
    drawn_on: dict[str, str] = field(init=False, repr=False)
    _given: dict[str, Any] = field(init=False, repr=False)

    @classmethod
    def load(
        cls,
        t1gd: str | Path | None = None,
        flair: str | Path | None = None,
        t1: str | Path | None = None,
        *,
        segmentation: str | Path | None = None,
        core: str | Path | None = None,
        whole: str | Path | None = None,
        labels: str | None = None,
        brain_mask: str | Path | None = None,
        cavity: str | Path | None = None,
        white_matter: str | Path | None = None,
        grey_matter: str | Path | None = None,
        csf: str | Path | None = None,
        study: str | Path | Study | None = None,
        segmentation_on: str | None = None,
    ) -> Patient:
        """Read a patient from files: NIfTI, NRRD, MetaImage or DICOM.

        Parameters
        ----------
        t1gd, flair, t1 : path
            Images; each may be on a grid of its own.
        segmentation : path
            A label map, or segments read by what they say they are: a Slicer
            segmentation (.seg.nrrd), a DICOM segmentation (SEG) or contours (RTSTRUCT).
        core, whole : path
            Two masks instead of the segmentation; the core may be left out.
        labels : str, optional
            What the segmentation's labels mean: brats2013, brats2018, brats2023,
            brats2024, brats-peds, decathlon, or `core=1,4/whole=1,2,4`; for segments
            `core=NAME,.../whole=NAME,...`. A label map always needs one; segments that
            say what they are need none.
        brain_mask : path, optional
        cavity : path, optional
            Mask of the resection cavity; it takes the place of the one that the segmentation may hold.
        white_matter, grey_matter, csf : path, optional
            Probability maps of the patient's tissue, all three or none, on one grid, which may be another than the
            images'; the tumour grows in them instead of the atlas's.
        study : path or Study, optional
            A DICOM folder to take images and segmentation from, where the choice is unambiguous; what
            is taken although it is only likely stands in `warnings`. `t1gd`, `flair`, `t1` and
            `segmentation` then choose a series by its UID, its number or a path.
        segmentation_on : {"t1gd", "flair", "t1"}, optional
            The image on which the segmentation was drawn (see `Patient`).

        Raises
        ------
        InputError
            When a file or the call is not accepted.
        MissingDependencyError
            For a DICOM segmentation, when highdicom is not installed.
        """
        paths: dict[str, Any] = {"t1gd": t1gd, "flair": flair, "t1": t1, "segmentation": segmentation}
        others = {"core": core, "whole": whole, "brain_mask": brain_mask, "cavity": cavity}
        others |= {"white_matter": white_matter, "grey_matter": grey_matter, "csf": csf}
        # It would be the working folder.
        empty = [role for role, path in {**paths, **others, "study": study}.items() if path == ""]
        if empty:
            raise InputError(f"The path of {empty[0]} is empty; name a file or folder, or leave it out.")
        taken: tuple[str, ...] = ()
        if study is not None:
            study = study if isinstance(study, Study) else read_study(study)
            choice = choose_series(study, **paths, needs_segmentation=core is None and whole is None)
            paths = {role: choice.files.get(role) for role in paths}
            taken = choice.warnings
        paths |= others
        given = _read_files({role: path for role, path in paths.items() if path is not None}, labels, list(taken))
        if segmentation_on is not None:
            given["segmentation_on"] = segmentation_on
        return cls(**given)

    def __post_init__(self) -> None:
        warnings = list(self.warnings)
        given = {role: getattr(self, role) for role in (*IMAGE_NAMES, *MASKS)}
        if self.tissue_maps is not None:
            given |= {role: Volume(getattr(self.tissue_maps, role), self.tissue_maps.grid) for role in TISSUE_NAMES}
        inputs = self.inputs or tuple(
            input_record(role, hashlib.sha256(np.ascontiguousarray(volume.array).tobytes()).hexdigest(), volume.grid)
            for role, volume in given.items()
            if volume is not None
        )
        for role, name in IMAGE_NAMES.items():
            volume = getattr(self, role)
            if volume is not None:
                object.__setattr__(self, role, _checked_image(volume, name, warnings))
        for role in MASKS:
            volume = getattr(self, role)
            if volume is not None and volume.array.dtype != bool:
                raise InputError(f"The {role} has to be a mask of truth values, it holds {volume.array.dtype}.")
        object.__setattr__(self, "drawn_on", self._drawn_on())
        object.__setattr__(self, "_given", {"core": self.core, "whole": self.whole, "warnings": tuple(warnings)})
        together = self.aligned or self.drawn_on["core"] == self.drawn_on["whole"]
        core, whole = _checked_regions(self.core, self.whole, warnings, together=together)
        object.__setattr__(self, "core", core)
        object.__setattr__(self, "whole", whole)
        self._check_places(warnings)
        object.__setattr__(self, "inputs", inputs)
        object.__setattr__(self, "warnings", tuple(dict.fromkeys(warnings)))

    def moved(self, moves: Mapping[str, NDArray[np.float64]]) -> Patient:
        """The patient with images moved, and the masks that were drawn on them; checked anew, as they lie then.

        Parameters
        ----------
        moves : mapping of str to ndarray, shape (4, 4)
            Rigid map of an image's points by its role, "flair" or "t1" (RAS mm); others stay. Nothing is resampled.

        Raises
        ------
        InputError
            When what was moved does not lie over one another.
        """
        if not moves and set(self.drawn_on.values()) == {"t1gd"}:
            return self

        def placed(volume: Volume, image: str) -> Volume:
            return Volume(volume.array, volume.grid.moved(moves[image])) if image in moves else volume

        def if_given(volume: Volume | None, image: str) -> Volume | None:
            return None if volume is None else placed(volume, image)

        return Patient(
            t1gd=self.t1gd,
            flair=if_given(self.flair, "flair"),
            t1=if_given(self.t1, "t1"),
            core=placed(self._given["core"], self.drawn_on["core"]),
            whole=placed(self._given["whole"], self.drawn_on["whole"]),
            brain_mask=if_given(self.brain_mask, self.drawn_on["brain_mask"]),
            cavity=if_given(self.cavity, self.drawn_on["cavity"]),
            tissue_maps=self._placed_tissue(moves),
            labels=self.labels,
            inputs=self.inputs,
            warnings=self._given["warnings"],
            segmentation_on=self.segmentation_on,
            aligned=True,
        )

    def _placed_tissue(self, moves: Mapping[str, NDArray[np.float64]]) -> TissueMaps | None:
        """The tissue maps moved with the image that they lie on."""
        if self.tissue_maps is None or (image := self.drawn_on["tissue_maps"]) not in moves:
            return self.tissue_maps
        return replace(self.tissue_maps, grid=self.tissue_maps.grid.moved(moves[image]))

    def _drawn_on(self) -> dict[str, str]:
        """The image on which each mask was drawn, and from which the tissue maps were made, by role."""
        named = self.segmentation_on
        images = {role: volume for role in IMAGE_NAMES if (volume := getattr(self, role)) is not None}
        if named is not None and named not in IMAGE_NAMES:
            raise InputError(
                f"There is no image {named!r} that a segmentation is drawn on; choose one of {', '.join(IMAGE_NAMES)}."
            )
        if named is not None and named not in images:
            raise InputError(
                f"The segmentation is said to be drawn on the {IMAGE_NAMES[named]}, which is not given; give it, or "
                f"name one of {', '.join(images)}."
            )
        of_segmentation = {"core", "whole"}
        # What was read out of the segmentation lies on its grid; a file of its own need not.
        if self.cavity is not None and self.cavity.grid == self.whole.grid:
            of_segmentation.add("cavity")
        found = {}
        for role in MASKS if self.tissue_maps is None else (*MASKS, "tissue_maps"):
            mask = getattr(self, role)
            # DICOM and NIfTI of one image count its voxels from other ends.
            same = [name for name, image in images.items() if mask and mask.grid.axes_in(image.grid) is not None]
            # Tools crop a mask to what it holds.
            same += [name for name, image in images.items() if mask and mask.grid.shares_lattice(image.grid)]
            found[role] = named if named is not None and role in of_segmentation else (*same, "t1gd")[0]
        if not self.core.array.any():
            found["core"] = found["whole"]
        return found

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
        points, core_points = (mask.grid.to_ras(np.argwhere(mask.array)) for mask in (self.whole, self.core))
        for role, name in IMAGE_NAMES.items():
            volume = getattr(self, role)
            if volume is None:
                continue
            inside, core_inside = (_share_inside(marked, volume.grid) for marked in (points, core_points))
            if inside < 0.5:
                raise InputError(
                    f"The segmentation lies elsewhere in space than the {name}: only {inside:.0%} of the tumour "
                    f"(around {_point(points.mean(axis=0))} RAS mm) lies in the image (around "
                    f"{_point(volume.grid.centre)}); segment on this patient's images, or mend the header."
                )
            if min(inside, core_inside) < 0.98:
                lies = "lies" if core_inside == 1 else f"and {1 - core_inside:.0%} of its core lie"
                warnings.append(f"{1 - inside:.0%} of the tumour {lies} beyond the edge of the {name}.")
            overlap = 1.0 if volume is self.t1gd else _tissue_overlap(volume, self.t1gd)
            if overlap < 0.9:
                warnings.append(
                    f"Head or brain in {name} and T1Gd overlap by only {overlap:.0%}: the patient moved between them; "
                    f"register the {name} to the T1Gd first."
                )
        if self.cavity is not None:
            cavity_on(self.t1gd.grid, self.cavity, warnings)
        if self.tissue_maps is not None:
            self._check_tissue(points, warnings)
        # Where the images may still move, the tumour is looked at on the one that it was drawn on.
        role = "t1gd" if self.aligned else self.drawn_on["whole"]
        image = getattr(self, role)
        if self.brain_mask is not None and not resample_mask(self.brain_mask, self.t1gd.grid).array.any():
            raise InputError("The brain mask is empty, or lies elsewhere in space than the T1Gd.")
        if self.brain_mask is not None and (self.aligned or self.drawn_on["brain_mask"] == role):
            brain = resample_mask(self.brain_mask, image.grid).array
            where = "the brain mask"
        else:
            brain = find_background(image.array).foreground
            where = f"the imaged tissue of the {IMAGE_NAMES[role]}"
        tumour = self.regions_on_t1gd.whole if role == "t1gd" else resample_mask(self.whole, image.grid).array
        inside = _share_within(brain, tumour)
        if inside < 0.5:
            hole = ", or the mask leaves the tumour out: fill it there, or give none" if "mask" in where else ""
            raise InputError(
                f"Only {inside:.0%} of the segmented tumour lies in {where}: segmentation and image are of different "
                f"patients, or one of them is mirrored or has lost its place in space{hole}. Check both in a viewer."
            )
        if inside < 0.95:
            warnings.append(f"{1 - inside:.0%} of the segmented tumour lies outside {where}.")
        share = _share_within(tumour, brain)
        if share > LARGEST_WHOLE_SHARE:
            raise InputError(
                f"The whole tumour fills {share:.0%} of {where}, so that it is probably a brain mask or an image; give "
                "a mask of the tumour."
            )
        if self.cavity is not None and (self.aligned or self.drawn_on["cavity"] == role):
            _check_cavity_beside(resample_mask(self.cavity, image.grid).array, tumour, brain, warnings)

    def _check_tissue(self, tumour: NDArray[np.float64], warnings: list[str]) -> None:
        """Refuse tissue maps that lie elsewhere than the image that they were made from, or than the tumour's points.

        Where the images may still move, what was drawn on another one is not yet compared.
        """
        assert self.tissue_maps is not None
        role = "t1gd" if self.aligned else self.drawn_on["tissue_maps"]
        beside = None if not self.aligned and self.drawn_on["brain_mask"] != role else self.brain_mask
        check_tissue_maps(self.tissue_maps, getattr(self, role), IMAGE_NAMES[role], beside, warnings)
        if not self.aligned and self.drawn_on["whole"] != role:
            return
        inside = _share_inside(tumour, self.tissue_maps.grid)
        if inside < 0.5:
            raise InputError(
                f"Only {inside:.0%} of the segmented tumour lies in the box of the tissue maps; give maps of the whole "
                "brain of this patient."
            )


def _check_cavity_beside(
    cavity: NDArray[np.bool_], tumour: NDArray[np.bool_], brain: NDArray[np.bool_], warnings: list[str]
) -> None:
    """Refuse a resection cavity that is the tumour or the brain; one that overlaps the tumour is said. On one grid."""
    for name, region in (("whole tumour", tumour), ("brain", brain)):
        share = _share_within(cavity, region)
        if share > LARGEST_CAVITY_SHARE:
            raise InputError(
                f"The resection cavity holds {share:.0%} of the {name}; a cavity is what was taken out, and no part of "
                "the tumour that is left. Give a mask of the cavity alone, or a segmentation without it."
            )
    shared = _share_within(tumour, cavity)
    if shared > SHARED_CAVITY:
        warnings.append(f"{shared:.0%} of the resection cavity is tumour by the segmentation, and counts as both.")


#: What the files of a patient are called in sentences.
FILE_NAMES = {
    **IMAGE_NAMES,
    "segmentation": "segmentation",
    "core": "core mask",
    "whole": "whole tumour mask",
    "brain_mask": "brain mask",
    "cavity": "resection cavity",
    **TISSUE_NAMES,
}
#: Masks of a patient by role.
MASKS = ("core", "whole", "brain_mask", "cavity")


def _read_files(paths: dict[str, Any], labels: str | None, warnings: list[str]) -> dict[str, Any]:
    """Arguments of `Patient` from its files by role; `warnings` get what the reading says."""
    if "t1gd" not in paths:
        raise InputError("Give a T1Gd image, or a study folder to take it from.")
    if "segmentation" not in paths and "whole" not in paths:
        raise InputError("Give a segmentation, or masks of the core and of the whole tumour.")
    if "segmentation" in paths and ("core" in paths or "whole" in paths):
        raise InputError("Give either a segmentation or masks of the core and of the whole tumour, not both.")
    if labels is not None and "segmentation" not in paths:
        raise InputError("A label convention belongs to a segmentation; masks of core and whole tumour need none.")
    given: dict[str, Any] = {}
    images: dict[str, ImageFile] = {}
    tissue: dict[str, ImageFile] = {}
    inputs, drawn_on = [], {}
    for role, name in FILE_NAMES.items():
        if role not in paths:
            continue
        is_mask = role not in IMAGE_NAMES and role not in TISSUE_NAMES
        file = read_image_file(paths[role], name, is_mask=is_mask, references=tuple(images.values()))
        inputs.append(input_record(role, file.sha256, file.volume.grid))
        warnings.extend(file.warnings)
        if is_mask:
            image = drawn_on[role] = image_drawn_on(file, images, name, warnings)
            if image and images[image].frame_of_reference != images["t1gd"].frame_of_reference:
                warnings.append(
                    f"The {name} was drawn on the {IMAGE_NAMES[image]}, whose frame of reference (DICOM) is not the "
                    f"T1Gd's; it moves with the {IMAGE_NAMES[image]}."
                )
        if role in IMAGE_NAMES:
            images[role] = file
            given[role] = file.volume
        elif role in TISSUE_NAMES:
            tissue[role] = file
        elif role == "segmentation":
            if file.segments:
                regions = regions_from_segments(file.segments, labels)
            else:
                regions = regions_from_label_map(file.volume.array, labels)
            labels = regions.labels
            warnings.extend(regions.warnings)
            given["core"], given["whole"] = (Volume(m, file.volume.grid) for m in (regions.core, regions.whole))
            if regions.cavity is not None and "cavity" not in paths:
                given["cavity"] = Volume(regions.cavity, file.volume.grid)
        else:
            given[role] = _mask_of(file, name, warnings)
    given["tissue_maps"] = tissue_maps_of_files(tissue, warnings)
    if "core" not in given:
        grid = given["whole"].grid
        given["core"] = Volume(np.zeros(grid.shape, dtype=bool), grid)
    # What DICOM says of both regions alike; of one alone the grids speak.
    said = {image for role, image in drawn_on.items() if role in ("segmentation", "core", "whole")}
    segmentation_on = next(iter(said)) if len(said) == 1 else None
    for one, record in enumerate(inputs):
        same = [other["role"] for other in inputs[:one] if other["sha256"] == record["sha256"]]
        if same:
            warnings.append(
                f"The {FILE_NAMES[same[0]]} and the {FILE_NAMES[record['role']]} are one file or copies of it "
                "(SHA-256); was another one meant?"
            )
    return given | {
        "labels": labels,
        "segmentation_on": segmentation_on,
        "inputs": tuple(inputs),
        "warnings": tuple(warnings),
    }


def input_record(role: str, sha256: str, grid: Grid) -> dict[str, Any]:
    """What went in, as result.json holds it (see `Patient.inputs`)."""
    return {"role": role, "sha256": sha256, "grid": {"shape": list(grid.shape), "affine": grid.affine.tolist()}}


def _checked_image(volume: Volume, name: str, warnings: list[str]) -> Volume:
    """The image as float32 without NaN."""
    if volume.array.dtype.kind not in "buif":
        raise InputError(f"The {name} holds {volume.array.dtype} values; an image holds numbers.")
    check_plausible_grid(volume.grid, name)
    array = finite_values(volume.array, name, "image", warnings)
    if array.min() == array.max():
        raise InputError(f"The {name} holds the same value {array.min():g} everywhere; there is nothing to see in it.")
    return Volume(array, volume.grid)


def _checked_regions(core: Volume, whole: Volume, warnings: list[str], *, together: bool) -> tuple[Volume, Volume]:
    """Core and whole tumour on one grid, the core within the whole tumour.

    Where they do not yet lie together, because the images that they were drawn on may still move, a core that lies
    elsewhere is no fault.
    """
    check_plausible_grid(whole.grid, "segmentation", is_mask=True)
    if not whole.array.any():
        raise InputError("The segmentation is empty: there is no voxel of the whole tumour.")
    if not core.grid.matches(whole.grid):
        check_plausible_grid(core.grid, "core mask", is_mask=True)
        if together and core.array.any() and _share_inside(core.grid.to_ras(np.argwhere(core.array)), whole.grid) < 0.5:
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
    if core_ml > whole_ml or (together and outside_ml > 0.5 * core_ml):
        raise InputError(
            f"The core ({core_ml:.1f} ml, {outside_ml:.1f} ml of it outside the whole tumour) does not fit into "
            f"the whole tumour ({whole_ml:.1f} ml). The whole tumour is oedema and core together: are the two masks "
            "swapped, or is the second one the oedema alone?"
        )
    if outside_ml > 0:
        warnings.append(f"{outside_ml:.2f} ml of the core lay outside the whole tumour and were added to it.")
        whole = Volume(whole.array | core.array, whole.grid)
    if whole_ml > LARGEST_WHOLE_ML:
        raise InputError(
            f"The whole tumour has {whole_ml:.0f} ml, more than any; it is probably a brain mask or an image. Give a "
            "mask of the tumour."
        )
    if core_ml > 0 and together:
        _say_what_is_missing(core, whole, warnings)
    if core_ml == 0:
        warnings.append("The segmentation has no core; the match rests on the whole tumour alone.")
    elif core_ml < SMALL_CORE_ML:
        warnings.append(f"The core has only {core_ml:.2f} ml; its match says little.")
    if whole_ml < SMALL_WHOLE_ML:
        warnings.append(f"The whole tumour has only {whole_ml:.1f} ml, less than most simulated tumours.")
    return core, whole


def _say_what_is_missing(core: Volume, whole: Volume, warnings: list[str]) -> None:
    """Warn of a whole tumour without oedema, and of a core that is the rim of one."""
    first, last = bounding_box(whole.array)
    box = slices_between(first, last)
    inner, outer, voxel = core.array[box], whole.array[box], whole.grid.voxel_volume_ml
    if np.count_nonzero(outer & ~inner) < LITTLE_OEDEMA * np.count_nonzero(outer):
        warnings.append(
            f"Core ({inner.sum() * voxel:.1f} ml) and whole tumour ({outer.sum() * voxel:.1f} ml) are nearly the same: "
            "without oedema the infiltration length rests on two equal outlines. Is the oedema missing, or one mask "
            "given twice?"
        )
    filled = inner
    for axis in range(3):
        # By slices, since a rim is seldom closed all around.
        plane = np.swapaxes(ndimage.generate_binary_structure(2, 1)[None], 0, axis)
        filled = filled | ndimage.binary_fill_holes(inner, plane)
    enclosed = np.count_nonzero(filled & outer & ~inner)
    if enclosed > RIM_SHARE * np.count_nonzero(inner):
        warnings.append(
            f"The core is a rim around {enclosed * voxel:.1f} ml that count as oedema; is the necrosis, which belongs "
            "to the core, missing in it?"
        )


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
        array[slices_between(start, stop)] = mask.array
        return Volume(array, grid)
    # With a rim, since a mask cropped to what it holds ends there and does not go on.
    start, stop = np.array([-1, -1, -1]), np.array(mask.array.shape) + 1
    return resample_mask(Volume(np.pad(mask.array, 1), mask.grid.cropped(start, stop)), grid)


def cavity_on(grid: Grid, cavity: Volume, warnings: list[str]) -> Volume:
    """A resection cavity on the T1Gd image's grid; `warnings` get what a user has to know of it.

    Raises
    ------
    InputError
        When it is empty, or less than half of it lies in the T1Gd image.
    """
    points = cavity.grid.to_ras(np.argwhere(cavity.array))
    if not len(points) or _share_inside(points, grid) < 0.5:
        raise InputError("The resection cavity is empty, or lies elsewhere in space than the T1Gd.")
    on_grid = resample_mask(cavity, grid)
    if not on_grid.array.any():
        warnings.append("The resection cavity is smaller than the T1Gd's voxels and is left out.")
    return on_grid


def read_mask_file(
    path: str | Path, name: str, warnings: list[str] | None = None, *, on: Volume | None = None
) -> Volume:
    """A mask, boolean, from a file of a patient.

    Parameters
    ----------
    path : path
        NIfTI, NRRD, MetaImage, or a segmentation of one segment.
    name : str
        What it is called in sentences.
    warnings : list of str, optional
        Gets what the reading says.
    on : Volume, optional
        A volume on the T1Gd image's grid, on whose slices contours are filled.

    Raises
    ------
    InputError
        When the file is not read, or holds no single mask.
    """
    file = read_image_file(path, name, is_mask=True, references=() if on is None else (ImageFile(on, ""),))
    if warnings is not None:
        warnings.extend(file.warnings)
        if file.frame_of_reference is not None:
            warnings.append(
                f"Whether the {name} lies in the frame of reference (DICOM) of the T1Gd cannot be told here; see that "
                "it lies where it should."
            )
    return _mask_of(file, name, [] if warnings is None else warnings)


def _mask_of(file: ImageFile, name: str, warnings: list[str]) -> Volume:
    """The one region in a file; `warnings` get how shares were read.

    Raises `InputError` where there are several.
    """
    drawn = [segment for segment in file.segments if segment.mask.any()]
    if len(drawn) > 1:
        raise InputError(
            f"The {name} holds several segments ({', '.join(repr(segment.name) for segment in drawn[:8])}); a mask is "
            "one. Give the file as the segmentation (--segmentation), its segments named by labels."
        )
    array = drawn[0].mask if drawn else _mask_from_values(file.volume.array, name, warnings)
    return Volume(array, file.volume.grid)


def _mask_from_values(array: NDArray, name: str, warnings: list[str]) -> NDArray[np.bool_]:
    """A mask from a file's values: 0 and one other value, or shares between 0 and 1."""
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            array = finite_values(array, name, "mask", warnings)
        if array.min() >= -ROUNDING and array.max() <= 1 + ROUNDING:
            # Shares or not: what is stored as a tiny 1 and nothing else is still a mask.
            values = array[array != 0]
            if values.size == 0 or (values.max() <= 0.5 and values.min() == values.max()):
                return array != 0
            if values.max() <= 0.5:
                raise InputError(
                    f"The {name} holds shares that are nowhere above 0.5 (the highest is {values.max():.3g}), so it "
                    "would be empty; give a mask of 0 and 1, or leave it out where there is none."
                )
            if values.min() < min(values.max(), 1 - ROUNDING):
                warnings.append(f"The {name} holds shares between 0 and 1; what is above 0.5 is taken as the mask.")
            return array > 0.5
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
    """Share of RAS points (n, 3) that lie in a grid's box; 1 where there are none."""
    if not len(points):
        return 1.0
    index = grid.to_index(points)
    return float(((index >= -0.5) & (index <= np.array(grid.shape) - 0.5)).all(axis=1).mean())


def _share_within(mask: NDArray[np.bool_], region: NDArray[np.bool_]) -> float:
    """Share of a region's voxels that a mask holds; 0 of none."""
    return float(mask[region].mean()) if region.any() else 0.0


def _point(point: NDArray[np.float64]) -> str:
    return "(" + ", ".join(f"{x:.0f}" for x in point) + ")"
