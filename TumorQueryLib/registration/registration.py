"""Registration of a patient's brain to the atlas, with the tumour left out of the cost function.

An affine transform, found from 27 orientations by mutual information, then a
stationary velocity field (`velocity_field.py`), whose inverse is as exact as the
map itself. Transforms are SimpleITK's: they map points in LPS millimetres, and
their names say from where to where.
"""

from __future__ import annotations

from dataclasses import dataclass

import SimpleITK as sitk

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.base.errors import InputError
from TumorQueryLib.base.method import REGISTRATIONS
from TumorQueryLib.base.progress import Progress, no_progress, part
from TumorQueryLib.geometry.grid import Volume
from TumorQueryLib.geometry.transforms import SpaceMap, identity_transform
from TumorQueryLib.registration.affine import angle_of, registered_affine, turned_orientations, usual_orientations
from TumorQueryLib.registration.deformable import deformable_transforms
from TumorQueryLib.registration.prepared import PreparedImage
from TumorQueryLib.registration.quality import agreement, measure_quality, quality_warnings

#: Correlation of the images after the affine transform below which the head may lie turned: 0.16 to 0.26 was seen of
#: turned heads, 0.38 and more of others.
POOR_CORRELATION = 0.35
#: By so much more a turned start has to correlate than the usual one.
CLEARLY_BETTER = 0.10


@dataclass(frozen=True, eq=False)
class Registration(SpaceMap):
    """A patient's place in the atlas, and how well it was found.

    Parameters
    ----------
    patient_to_atlas, atlas_to_patient : SimpleITK.Transform
        See `SpaceMap`.
    mode : {"none", "affine", "deformable"}
    quality : dict of float
        `brain_dice` (patient's brain, moved, against the atlas's), `brain_dice_affine` (the same after the affine
        transform alone, absent without one), `correlation` (of the T1s in the brain, outside
        the tumour), `inverse_error_median_mm`, `inverse_error_p95_mm`, `inverse_error_max_mm` (there and back, in
        the brain), `jacobian_min`, `jacobian_max`, `folded_share` (determinant of atlas_to_patient in the brain) and
        `brain_ml` (volume of the patient's brain).
    warnings : tuple of str
        What a user should look at; empty when all is well.
    """

    mode: str
    quality: dict[str, float]
    warnings: tuple[str, ...]


def register(
    image: Volume,
    atlas: Atlas,
    mode: str = "deformable",
    *,
    tumour: Volume | None = None,
    brain_mask: Volume | None = None,
    progress: Progress = no_progress,
) -> Registration:
    """Register a patient's T1 or T1Gd to an atlas.

    Parameters
    ----------
    image : Volume
        T1 (better) or T1Gd, skull-stripped or with a brain mask; any grid, any intensities, a constant background
        of any value.
    atlas : Atlas
    mode : {"none", "affine", "deformable"}
        "none": the image already lies in the atlas's space.
    tumour : Volume, optional
        Boolean mask in the patient's space; dilated by 3 mm it is left out of the cost function.
    brain_mask : Volume, optional
        Boolean mask of the brain in the patient's space.
    progress : Progress
        Called at every iteration; what it raises ends the registration.

    Returns
    -------
    Registration
        The same for the same input, whatever the number of processors.

    Raises
    ------
    InputError
        When the mode is unknown, or the image or the brain mask holds no brain.
    """
    if mode not in REGISTRATIONS:
        raise InputError(f"There is no registration mode {mode!r}; choose none, affine or deformable.")
    progress(0.0, "Registration: preparing")
    patient = PreparedImage.of_patient(image, tumour, brain_mask)
    reference = PreparedImage.of_atlas(atlas)
    turned_degrees, of_affine = None, {}
    if mode == "none":
        forward, backward = identity_transform(), identity_transform()
    else:
        step = part(progress, 0.02, 0.95 if mode == "affine" else 0.5)
        affine, overlap, turned_degrees = _affine(reference, patient, step)
        of_affine = {"brain_dice_affine": overlap}
        forward, backward = affine, affine.GetInverse()
        if patient.has_skull:
            patient = patient.stripped_by(reference, backward)
        if mode == "deformable":
            forward, backward = deformable_transforms(reference, patient, affine, progress=part(progress, 0.5, 0.95))
    progress(0.95, "Registration: measuring the quality")
    quality = measure_quality(reference, patient, forward, backward) | of_affine
    progress(1.0, "Registration: done")
    return Registration(
        patient_to_atlas=backward,
        atlas_to_patient=forward,
        mode=mode,
        quality=quality,
        warnings=quality_warnings(mode, quality, patient.has_skull, turned_degrees),
    )


def _affine(
    reference: PreparedImage, patient: PreparedImage, progress: Progress
) -> tuple[sitk.AffineTransform, float, float | None]:
    """The affine transform from the atlas to the patient, the overlap of the brains by it (Dice), and its angle where
    the head does not lie as it should.

    Turned starts are tried only where the usual ones end poorly, and taken only where they end well.
    """
    usual = registered_affine(reference, patient, usual_orientations(), progress=part(progress, 0.0, 0.6))
    overlap, correlation = agreement(reference, patient, usual)
    if correlation >= POOR_CORRELATION:
        return usual, overlap, None
    turned = registered_affine(reference, patient, turned_orientations(), progress=part(progress, 0.6, 1.0))
    overlap_of_turned, of_turned = agreement(reference, patient, turned)
    if of_turned < max(POOR_CORRELATION, correlation + CLEARLY_BETTER):
        return usual, overlap, None
    return turned, overlap_of_turned, angle_of(turned)
