"""How good a registration is, in figures, and what a user should be told of it."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from TumorQueryLib.anatomy.patient_brain import PatientBrain
from TumorQueryLib.geometry.grid import Volume, resample
from TumorQueryLib.geometry.transforms import jacobian_determinant, map_points
from TumorQueryLib.registration.prepared import PreparedImage

LOW_BRAIN_DICE = 0.90
#: Sound registrations of eight patients correlate by 0.59 to 0.77 (deformable) and by 0.45 or more (affine).
LOW_CORRELATION = {"none": 0.30, "affine": 0.30, "deformable": 0.45}
#: An extracted brain that agrees less with the atlas's brain laid over it by the affine transform (Dice), or that is
#: smaller or larger (ml; one that was given too), is doubted. Of four brains, with and without tumour, 0.94 was the
#: least agreement seen.
LOW_EXTRACTED_DICE = 0.85
EXTRACTED_ML = (900.0, 2000.0)
#: Tumour that an extraction leaves out, as a share of the tumour and in ml, up to which nothing is said.
SLIVER_SHARE, SLIVER_ML = 0.02, 1.0
LARGE_INVERSE_ERROR = 0.5  # mm, 95th percentile


def agreement(reference: PreparedImage, patient: PreparedImage, forward: sitk.Transform) -> tuple[float, float]:
    """Overlap of the brains (Dice) and correlation of the images in both brains, outside the tumour.

    Parameters
    ----------
    reference, patient : PreparedImage
        Of the atlas and of the patient.
    forward : SimpleITK.Transform
        From the atlas to the patient.
    """
    grid = reference.image.grid
    moved, moved_brain, weight = patient.on(grid, forward)
    patient_brain = moved_brain > 0.5
    # What lies outside the patient's field of view cannot overlap and is not counted.
    in_view = resample(Volume(np.ones(patient.image.grid.shape, np.float32), patient.image.grid), grid, forward).array
    seen = reference.brain.array & (in_view > 0.5)
    both = seen & patient_brain & (weight > 0.5)
    overlap = 2 * (seen & patient_brain).sum() / max(1, seen.sum() + patient_brain.sum())
    correlation = 0.0
    if both.sum() > 1:
        pair = np.corrcoef(reference.image.array[both], moved[both])
        correlation = float(np.nan_to_num(pair[0, 1]))
    return float(overlap), correlation


def measure_quality(
    reference: PreparedImage, patient: PreparedImage, forward: sitk.Transform, backward: sitk.Transform
) -> dict[str, float]:
    """Figures of a registration; see `Registration.quality`.

    Parameters
    ----------
    reference, patient : PreparedImage
        Of the atlas and of the patient.
    forward, backward : SimpleITK.Transform
        From the atlas to the patient, and back.
    """
    grid = reference.image.grid
    overlap, correlation = agreement(reference, patient, forward)
    atlas_brain = reference.brain.array
    errors = np.concatenate(
        [
            _there_and_back(forward, backward, _brain_points(reference.brain)),
            _there_and_back(backward, forward, _brain_points(patient.brain)),
        ]
    )
    determinant = jacobian_determinant(forward, grid)[atlas_brain]
    median, p95 = np.percentile(errors, (50, 95))
    return {
        "brain_ml": float(patient.brain.array.sum() * patient.brain.grid.voxel_volume_ml),
        "brain_dice": overlap,
        "correlation": correlation,
        "inverse_error_median_mm": float(median),
        "inverse_error_p95_mm": float(p95),
        "inverse_error_max_mm": float(errors.max()),
        "jacobian_min": float(determinant.min()),
        "jacobian_max": float(determinant.max()),
        "folded_share": float((determinant <= 0).mean()),
    }


def quality_warnings(
    mode: str, quality: dict[str, float], has_skull: bool, turned_degrees: float | None
) -> tuple[str, ...]:
    """Sentences about a registration that a user should not trust blindly.

    Parameters
    ----------
    mode : {"none", "affine", "deformable"}
    quality : dict of float
        See `Registration.quality`.
    has_skull : bool
    turned_degrees : float or None
        By how much the head had to be turned, where it does not lie as its header says.
    """
    found: list[str] = []
    if turned_degrees is not None:
        found.append(
            f"The head does not lie as the image's header says: it was turned by {turned_degrees:.0f} degrees to fit "
            "the atlas. Check in a viewer that the patient's right is right, and export the image again if it is not."
        )
    if has_skull:
        found.append(
            "The image seems to contain the skull, and the atlas has none: the registration may be poor. Strip the "
            "skull first (in 3D Slicer for instance with the extension SynthStrip or HD-BET), or give a brain mask."
        )
    if quality["brain_dice"] < LOW_BRAIN_DICE or quality["correlation"] < LOW_CORRELATION[mode]:
        advice = (
            "choose the affine or deformable registration unless the image lies in the atlas's space"
            if mode == "none"
            else "look at the result in the atlas, and check the image's orientation and its brain mask"
        )
        found.append(
            f"The patient's brain fits the atlas poorly (overlap of the brains {quality['brain_dice']:.2f}, "
            f"correlation of the images {quality['correlation']:.2f}); {advice}."
        )
    if quality["inverse_error_p95_mm"] > LARGE_INVERSE_ERROR or quality["folded_share"] > 0:
        found.append(
            f"The deformation is not cleanly invertible (error there and back {quality['inverse_error_p95_mm']:.2f} mm "
            f"at the 95th percentile, {100 * quality['folded_share']:.2f} % folded); try the affine registration."
        )
    return tuple(found)


def brain_warnings(brain: PatientBrain, quality: dict[str, float]) -> tuple[str, ...]:
    """Sentences about a brain that a user should look at: all of one that was extracted, the volume of one given.

    Parameters
    ----------
    brain : PatientBrain
    quality : dict of float
        See `Registration.quality`.
    """
    found: list[str] = []
    low, high = EXTRACTED_ML
    if brain.source == "given" and not low <= quality["brain_ml"] <= high:
        found.append(
            f"The brain mask that was given has {quality['brain_ml']:.0f} ml; {low:.0f} to {high:.0f} ml are usual. "
            "Correct it, or leave it out, so that the brain is extracted where there is a skull."
        )
    if brain.source != "extracted":
        return tuple(found)
    remedy = "look at brain.nrrd, and give a corrected one as the brain mask (--brain-mask)"
    overlap = quality.get("brain_dice_affine", quality["brain_dice"])
    if overlap < LOW_EXTRACTED_DICE:
        found.append(f"The brain that was extracted agrees poorly with the atlas's (Dice {overlap:.2f}); {remedy}.")
    if not low <= quality["brain_ml"] <= high:
        found.append(
            f"The brain that was extracted has {quality['brain_ml']:.0f} ml; {low:.0f} to {high:.0f} ml are usual, "
            f"so {remedy}."
        )
    if brain.added_share > SLIVER_SHARE or brain.added_ml > SLIVER_ML:
        found.append(
            f"{brain.added_share:.0%} of the segmented tumour ({brain.added_ml:.1f} ml) lay outside the brain that was "
            f"extracted, and was added to it; {remedy}."
        )
    return tuple(found)


def _brain_points(brain: Volume) -> NDArray[np.float64]:
    """Some ten thousand voxel centres of the brain, evenly taken, RAS mm."""
    indices = np.argwhere(brain.array)
    return brain.grid.to_ras(indices[:: max(1, len(indices) // 10_000)])


def _there_and_back(there: sitk.Transform, back: sitk.Transform, points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.linalg.norm(map_points(back, map_points(there, points)) - points, axis=1)
