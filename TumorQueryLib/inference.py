"""The main job: from a patient's MRI and segmentation to the tumour cell density everywhere.

First what a study needs as it comes from the scanner: the images are aligned, and the
brain is extracted where there is a skull. Then the steps of the paper's section 2.2: the
patient is registered to the atlas, the segmentation mapped there is the query, the best
match's density is simulated and mapped back. A refinement of that match follows unless it
is declined, then its correction by the outlines, and how sure that is where it is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from TumorQueryLib.anatomy.anatomy import Anatomy
from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.anatomy.brain import extract_brain
from TumorQueryLib.anatomy.carried import carried_anatomy
from TumorQueryLib.anatomy.given import given_tissue
from TumorQueryLib.anatomy.own import UnclearTissueError, own_tissue
from TumorQueryLib.anatomy.patient_brain import PatientBrain
from TumorQueryLib.anatomy.tissue_maps import TissueMaps
from TumorQueryLib.base.errors import InputError
from TumorQueryLib.base.method import Method
from TumorQueryLib.base.parallel import keep_memory_flat, release_memory
from TumorQueryLib.base.progress import Progress, no_progress, part
from TumorQueryLib.base.timing import timed
from TumorQueryLib.database import TumorDatabase
from TumorQueryLib.estimates.assimilate import assimilate
from TumorQueryLib.estimates.estimate import Estimate, best_model
from TumorQueryLib.estimates.fit import missed_parts
from TumorQueryLib.estimates.matches import estimate_of_match
from TumorQueryLib.estimates.refine import Refinement, refine
from TumorQueryLib.estimates.search import LONGEST_LENGTH, SHORTEST_LENGTH
from TumorQueryLib.estimates.sensitivity import SensitivityRow, sensitivity
from TumorQueryLib.estimates.uncertainty import Uncertainty, estimate_uncertainty
from TumorQueryLib.geometry.brain import find_brain
from TumorQueryLib.geometry.grid import Volume
from TumorQueryLib.geometry.regions import TumorMasks
from TumorQueryLib.geometry.transforms import SpaceMap
from TumorQueryLib.growth import GrowthParameters
from TumorQueryLib.inputs.patient import IMAGE_NAMES, Patient
from TumorQueryLib.registration import Alignment, Registration, align_images, register
from TumorQueryLib.registration.quality import brain_warnings
from TumorQueryLib.results.files import NO_PLAN
from TumorQueryLib.results.plan import plan
from TumorQueryLib.results.result import DatabaseIdentity, Result
from TumorQueryLib.strategies import create_strategy, parse_strategy_options

#: What is drawn on an image, and moves with it.
MASK_NAMES = {
    "core": "core",
    "whole": "whole tumour",
    "brain_mask": "brain mask",
    "cavity": "resection cavity",
    "tissue_maps": "tissue maps",
}


def infer(
    patient: Patient,
    method: Method | None = None,
    *,
    database: TumorDatabase | None = None,
    atlas: Atlas | None = None,
    progress: Progress = no_progress,
) -> Result:
    """Find the tumour cell density of a patient; the same input gives the same result.

    Parameters
    ----------
    patient : Patient
    method : Method, optional
        The choices; by default the exact query of the bundled database, refined in the patient's anatomy.
    database : TumorDatabase, optional
        An open database, instead of opening the one that `method` names.
    atlas : Atlas, optional
        The atlas that the database was made in, instead of loading the one that `method` names.
    progress : Progress
        Called with a fraction and a message; raises `Cancelled` to stop.

    Returns
    -------
    Result

    Raises
    ------
    InputError
        When a choice cannot be carried out on this patient.
    DatabaseError
        When the database cannot be used, or was made in another atlas.
    """
    method = Method() if method is None else method
    timings: dict[str, float] = {}
    try:
        if database is not None:
            return _infer(patient, method, database, atlas, timings, progress)
        progress(0.0, "Opening the database")
        with timed(timings, "load"):
            database = TumorDatabase.open(method.database)
        with database:
            return _infer(patient, method, database, atlas, timings, progress)
    finally:
        # For the inferences that may follow: a process of one alone is not made slower.
        keep_memory_flat()
        release_memory()


def _infer(
    patient: Patient,
    method: Method,
    database: TumorDatabase,
    atlas: Atlas | None,
    timings: dict[str, float],
    progress: Progress,
) -> Result:
    if patient.tissue_maps is not None:
        refuse_tissue_maps_without_effect(method)
    with timed(timings, "load"):
        atlas = database.load_atlas(method.atlas if atlas is None else atlas)
        options = parse_strategy_options(method.strategy, method.strategy_options)
        engine = create_strategy(method.strategy, database, progress=part(progress, 0.0, 0.02), **options)
    identity = DatabaseIdentity.of(database)
    thresholds = identity.thresholds

    # Where a refinement follows, it takes about as long as what is before it.
    paper = part(progress, 0.02, 0.98 if method.refine == "none" else 0.6)
    placed = place_patient(
        patient, atlas, method.registration, align=method.align, timings=timings, progress=part(paper, 0.0, 0.85)
    )
    patient, query = placed.patient, placed.query
    paper(0.86, "Querying the database")
    with timed(timings, "query"):
        matches = tuple(engine.query(query, method.top))
        ranked = tuple(database.parameters(match.entry) for match in matches)
    paper(0.88, "Growing the best match")
    with timed(timings, "match"):
        anatomy = Anatomy.of_atlas(atlas, placed.registration, patient.whole)
        observed, version = patient.regions_on_t1gd, identity.solver_version
        match = estimate_of_match(ranked[0], anatomy, query, observed, thresholds, solver_version=version)
    warnings = [*placed.warnings, *query_warnings(query)]

    found = None
    if method.refine != "none":
        found = _refine_placed(placed, method, match, ranked, atlas, thresholds, timings, part(progress, 0.6, 0.9))
        if found is None:
            warnings.append("There is no refinement: the tumour lies outside the atlas's brain, and the match is kept.")
        else:
            warnings += found.warnings
    estimates = {"match": match} if found is None else {"match": match, "refined": found.estimate}
    model = best_model(estimates)
    target = found.target if found is not None and model is found.estimate else query
    assimilated, uncertainty, unsure = assimilate_model(
        patient, method, model, target, thresholds, timings=timings, progress=part(progress, 0.9, 0.98)
    )
    warnings += unsure
    if assimilated is not None:
        estimates["assimilated"] = assimilated
    chosen = model.name if method.shown_density == "refined" else method.shown_density
    warnings += fit_warnings(model)
    refinement = None if found is None else found.refinement
    warnings += missed_warnings(model, chosen, observed, refinement)
    result = Result(
        patient=patient,
        method=method,
        database=identity,
        alignment=placed.alignment,
        brain=placed.brain,
        registration=placed.registration,
        query=query,
        matches=matches,
        matched_parameters=ranked,
        estimates=estimates,
        chosen=chosen,
        refinement=refinement,
        uncertainty=uncertainty,
        sensitivity=() if found is None else found.sensitivity,
        timings=timings,
        warnings=tuple(warnings),
    )
    if method.plan:
        result = planned(result, timings=timings, progress=part(progress, 0.98, 1.0))
    timings["total"] = sum(timings.values())
    progress(1.0, "Inference done")
    return result


@dataclass(frozen=True)
class _Refined:
    """A refinement in an anatomy, the estimate that it gives, the regions there, and what is to be said of it."""

    refinement: Refinement
    estimate: Estimate
    target: TumorMasks
    sensitivity: tuple[SensitivityRow, ...]
    warnings: tuple[str, ...]


def _refine_placed(
    placed: PlacedPatient,
    method: Method,
    match: Estimate,
    ranked: tuple[GrowthParameters, ...],
    atlas: Atlas,
    thresholds: tuple[float, float],
    timings: dict[str, float],
    progress: Progress,
) -> _Refined | None:
    """The refinement of a match, and of that the sensitivity; None as in `refine_match`."""
    patient = placed.patient
    with timed(timings, "refinement"):
        found = refine_match(
            patient,
            method,
            match,
            ranked,
            atlas,
            placed.registration,
            placed.query,
            thresholds,
            brain_mask=placed.brain.mask,
            progress=part(progress, 0.0, 2 / 3 if method.sensitivity else 1.0),
        )
    if found is None:
        return None
    refinement, refined, target = found
    rows = sensitivity_of(
        refined,
        method,
        patient.regions_on_t1gd,
        target,
        thresholds,
        timings=timings,
        progress=part(progress, 2 / 3, 1.0),
    )
    warnings = (
        *sensitivity_warnings(rows, refined.anatomy.length_scale),
        *refined.anatomy.warnings,
        *refinement_warnings(refinement, match, refined),
    )
    return _Refined(refinement, refined, target, rows, warnings)


def planned(result: Result, *, timings: dict[str, float], progress: Progress = no_progress) -> Result:
    """A result with the plans that its method asks for, or with the reason why there are none.

    `timings` gets the seconds.
    """
    with timed(timings, "plan"):
        try:
            plans = plan(result, result.method.plan_choices, progress=progress)
        except InputError as error:
            # What was found before is worth more than its plan.
            return replace(result, warnings=(*result.warnings, f"{NO_PLAN} {error}"))
    return replace(result, plans=plans)


def refuse_tissue_maps_without_effect(method: Method) -> None:
    """Refuse a method that grows no tumour in a patient's anatomy, for a patient with tissue maps, by `InputError`."""
    if method.refine != "patient":
        raise InputError(
            f"Tissue maps are for a refinement in the patient's anatomy, and refine is {method.refine}; choose refine "
            "patient, or leave the maps out."
        )


@dataclass(frozen=True, eq=False)
class PlacedPatient:
    """A patient whose images lie on one another, in the atlas: all that the query needs.

    Parameters
    ----------
    patient : Patient
        Aligned.
    alignment : dict of str to Alignment, optional
        None where the images were left as they lie.
    brain : PatientBrain
    registration : Registration
    query : TumorMasks
        On the atlas grid.
    warnings : tuple of str
        Of the patient, and of each step.
    """

    patient: Patient
    alignment: dict[str, Alignment] | None
    brain: PatientBrain
    registration: Registration
    query: TumorMasks
    warnings: tuple[str, ...]


def place_patient(
    patient: Patient,
    atlas: Atlas,
    mode: str,
    *,
    align: bool = True,
    timings: dict[str, float] | None = None,
    progress: Progress = no_progress,
) -> PlacedPatient:
    """Align a patient's images, find the brain, and register it to an atlas.

    Parameters
    ----------
    patient : Patient
    atlas : Atlas
    mode : {"none", "affine", "deformable"}
    align : bool
        Leave the images as they lie where False.
    timings : dict of str to float, optional
        Gets the seconds of "alignment", "brain" and "registration".
    progress : Progress

    Raises
    ------
    InputError
        When what was aligned does not lie over one another, no brain is found, or it cannot be registered.
    """
    timings = {} if timings is None else timings
    with timed(timings, "alignment"):
        drawn_on = patient.drawn_on
        patient, alignment = align_patient(patient, align, progress=part(progress, 0.0, 0.2))
    with timed(timings, "brain"):
        brain = find_patient_brain(patient, progress=part(progress, 0.2, 0.5))
    with timed(timings, "registration"):
        registration, query = register_patient(
            patient, atlas, mode, brain_mask=brain.mask, progress=part(progress, 0.5, 1.0)
        )
    warnings = (
        *alignment_warnings(alignment or {}, drawn_on),
        *patient.warnings,
        *registration.warnings,
        *brain_warnings(brain, registration.quality),
    )
    return PlacedPatient(patient, alignment, brain, registration, query, warnings)


def align_patient(
    patient: Patient, align: bool = True, *, progress: Progress = no_progress
) -> tuple[Patient, dict[str, Alignment] | None]:
    """The patient with FLAIR and T1 on the T1Gd, and how they lay; None where `align` is False and all is left."""
    if not align:
        return patient.moved({}), None
    others = {role: volume for role in ("flair", "t1") if (volume := getattr(patient, role)) is not None}
    alignment = align_images(patient.t1gd, others, progress=progress)
    return patient.moved({role: found.matrix for role, found in alignment.items() if found.moved}), alignment


def find_patient_brain(patient: Patient, *, progress: Progress = no_progress) -> PatientBrain:
    """The brain in the image that is registered: the mask that was given, else extracted where there is a skull."""
    if patient.brain_mask is not None:
        return PatientBrain("given", patient.brain_mask)
    if not find_brain(patient.registration_image)[1]:
        return PatientBrain("stripped")
    progress(0.0, "Extracting the brain")
    return PatientBrain.extracted(extract_brain(patient.registration_image, progress=progress), patient.whole)


def register_patient(
    patient: Patient,
    atlas: Atlas,
    mode: str,
    *,
    brain_mask: Volume | None = None,
    progress: Progress = no_progress,
) -> tuple[Registration, TumorMasks]:
    """Register a patient to an atlas and map the tumour's regions there: the query.

    Parameters
    ----------
    patient : Patient
    atlas : Atlas
    mode : {"none", "affine", "deformable"}
    brain_mask : Volume, optional
        Boolean, in the patient's space; by default the patient's own.
    progress : Progress

    Returns
    -------
    registration : Registration
    query : TumorMasks
        On the atlas grid.
    """
    progress(0.0, "Registering the patient to the atlas")
    registration = register(
        patient.registration_image,
        atlas,
        mode,
        tumour=patient.whole,
        brain_mask=patient.brain_mask if brain_mask is None else brain_mask,
        progress=progress,
    )
    return registration, registration.masks_in_atlas(patient.core, patient.whole, atlas.grid)


def refine_match(
    patient: Patient,
    method: Method,
    match: Estimate,
    ranked: tuple[GrowthParameters, ...],
    atlas: Atlas,
    space: SpaceMap,
    query: TumorMasks,
    thresholds: tuple[float, float],
    *,
    brain_mask: Volume | None = None,
    progress: Progress = no_progress,
) -> tuple[Refinement, Estimate, TumorMasks] | None:
    """The search, the estimate "refined" that it found in the anatomy that the method names, and the regions there.

    None where nothing of the tumour lies in that anatomy. `brain_mask` as in `register_patient`.
    """
    if not query.whole.any():
        return None
    if method.refine == "patient":
        anatomy, target = patient_anatomy(patient, atlas, space, method.tissue, brain_mask=brain_mask)
    else:
        anatomy, target = match.anatomy, query
    if not target.whole.any():
        return None
    refinement = refine(
        match,
        ranked,
        anatomy,
        target,
        thresholds,
        solves=method.refine_solves,
        seconds=method.refine_seconds,
        foci=method.foci,
        progress=progress,
    )
    refined = Estimate.of(
        "refined", anatomy, refinement.parameters, refinement.density, patient.regions_on_t1gd, target, thresholds
    )
    return refinement, refined, target


def assimilate_model(
    patient: Patient,
    method: Method,
    model: Estimate,
    target: TumorMasks,
    thresholds: tuple[float, float],
    *,
    timings: dict[str, float],
    progress: Progress = no_progress,
) -> tuple[Estimate | None, Uncertainty | None, tuple[str, ...]]:
    """The estimate "assimilated" of a model's and its uncertainty, each where the method asks for it; and warnings.

    `target` are the patient's regions on the grid of the model's anatomy; `timings` gets the seconds of both.
    """
    if method.shown_density != "assimilated" and not method.uncertainty:
        return None, None, ()
    progress(0.0, "Assimilating the outlines")
    with timed(timings, "assimilation"):
        assimilated = assimilate(model, patient.regions_on_t1gd, target, thresholds)
    if not method.uncertainty:
        return assimilated, None, ()
    with timed(timings, "uncertainty"):
        try:
            uncertainty = estimate_uncertainty(
                model, assimilated, target, thresholds, level=method.level, progress=part(progress, 0.2, 1.0)
            )
        except InputError as error:
            # What was found before is worth more than its uncertainty.
            return assimilated, None, (f"There is no uncertainty. {error}",)
    return assimilated, uncertainty, () if method.shown_density == "assimilated" else (OTHER_BOUNDS,)


OTHER_BOUNDS = (
    "The uncertainty is that of the assimilated density (density_assimilated.nrrd), which is not the one shown: "
    "bounds, standard deviation, probability and volume belong to it (--density assimilated shows it)."
)


def sensitivity_of(
    refined: Estimate,
    method: Method,
    observed: TumorMasks,
    target: TumorMasks,
    thresholds: tuple[float, float],
    *,
    timings: dict[str, float],
    progress: Progress = no_progress,
) -> tuple[SensitivityRow, ...]:
    """The refined tumour under other assumptions, where the method asks for it; see `sensitivity`.

    `timings` gets the seconds.
    """
    if not method.sensitivity:
        return ()
    with timed(timings, "sensitivity"):
        return sensitivity(
            refined,
            observed,
            target,
            thresholds,
            level=method.level,
            seconds=method.refine_seconds,
            progress=progress,
        )


def patient_anatomy(
    patient: Patient, atlas: Atlas, space: SpaceMap, tissue: str = "atlas", *, brain_mask: Volume | None = None
) -> tuple[Anatomy, TumorMasks]:
    """The patient's own anatomy, and the tumour's regions on its grid.

    Parameters
    ----------
    patient : Patient
    atlas : Atlas
    space : SpaceMap
        Between the patient and that atlas.
    tissue : {"atlas", "own"}
        The atlas's tissue carried to the patient, or outside the tumour the patient's own as the T1 (where there is
        none, the T1Gd) shows it; where that is not clear the atlas's, with a warning. Maps that the patient brings
        along go before either.
    brain_mask : Volume, optional
        As in `register_patient`.

    Raises
    ------
    InputError
        When the patient's maps are in another order than white matter, grey matter, CSF.
    """
    if patient.tissue_maps is not None:
        given = given_tissue(patient.tissue_maps, TissueMaps.carried(atlas, space), patient.whole)
        warnings = given.warnings if tissue == "atlas" else (*given.warnings, GIVEN_BEFORE_OWN)
        return Anatomy.of_patient(given.maps, patient.core, patient.whole, origin=given, warnings=warnings)
    if tissue == "atlas":
        return carried_anatomy(atlas, space, patient.core, patient.whole)
    carried = TissueMaps.carried(atlas, space)
    role = "t1gd" if patient.t1 is None else "t1"
    brain_mask = patient.brain_mask if brain_mask is None else brain_mask
    try:
        own = own_tissue(carried, patient.registration_image, role, patient.whole, brain_mask)
    except UnclearTissueError as error:
        kept = f"The patient's own tissue cannot be found in the {IMAGE_NAMES[role]}, and the atlas's is used: {error}"
        return Anatomy.of_patient(carried, patient.core, patient.whole, warnings=(kept,))
    warnings = () if role == "t1" else (TISSUE_OF_T1GD,)
    return Anatomy.of_patient(own.maps, patient.core, patient.whole, origin=own, warnings=warnings)


GIVEN_BEFORE_OWN = (
    "The tumour grew in the tissue maps that were given; the patient's own tissue is looked for only where none are."
)
TISSUE_OF_T1GD = (
    "The patient's own tissue was found in the T1Gd, where vessels and whatever else enhances count as white matter; "
    "a T1 without contrast (--t1) shows it better."
)


def alignment_warnings(alignment: Mapping[str, Alignment], drawn_on: Mapping[str, str]) -> Iterator[str]:
    """What was moved onto the T1Gd, and what could not be, by role of image; `drawn_on` as in `Patient`."""
    for role, found in alignment.items():
        apart = f"{found.shift_mm:.1f} mm and {found.angle_degrees:.1f} degrees off the T1Gd"
        name = IMAGE_NAMES[role]
        masks = [MASK_NAMES[mask] for mask, image in drawn_on.items() if image == role and mask in MASK_NAMES]
        along = f", and with it the {' and the '.join(masks)} drawn on it" if masks else ""
        left = f", and so were the {' and the '.join(masks)} drawn on it" if masks else ""
        if found.moved:
            yield (
                f"The {name} lies {apart}: the patient moved between them. It was moved onto the T1Gd{along}; "
                "--no-align leaves all as it is."
            )
        elif found.turned:
            yield (
                f"The {name} agrees best with the T1Gd where it is turned by {found.angle_degrees:.0f} degrees, which "
                "no head does in a scanner: the header of one of the two has lost or exchanged its axes. It was left "
                f"where it is{left}; make that file again from the scanner's."
            )
        elif found.doubtful:
            yield (
                f"The {name} seems to lie {apart}, but moved there it agrees no better with it, or no head moves so "
                "far: it was left where it is. Look at both in a viewer, and register them first where they lie apart."
            )


def query_warnings(query: TumorMasks) -> Iterator[str]:
    """Sentences about a query that the user should not trust blindly."""
    if not query.whole.any():
        yield (
            "The tumour lies outside the atlas's brain after the registration, so the match means nothing; "
            "check the registration, or give a brain mask."
        )


#: Root mean square of the outlines' residuals (log-odds) from which the model does not describe a tumour: five patients
#: of TCIA have .7 to 2.3, tumours grown in another anatomy .2 to 1.3 where the fit found them.
LARGE_RESIDUAL = 2.0


def fit_warnings(estimate: Estimate) -> Iterator[str]:
    """Sentences about a grown tumour that fits poorly, with what may help."""
    if estimate.fit.quality == "poorly":
        what, remedy = (
            ("best match", "refine it (--refine patient), or query a larger database")
            if estimate.name == "match"
            else ("refined tumour", "the growth model may not describe this one, so look at the report")
        )
        fit = estimate.fit
        numbers = f"Dice core {fit.dice_core:.2f}, whole {fit.dice_whole:.2f}"
        if not fit.observed_ml[0]:
            numbers = f"Dice of the whole tumour {fit.dice_whole:.2f}"
        yield f"The {what} fits poorly ({numbers}); {remedy}."
    if estimate.residual_rms > LARGE_RESIDUAL:
        yield (
            f"The growth model does not describe this tumour: on the segmented outlines it is off by "
            f"{estimate.residual_rms:.1f} log-odds (root mean square; below {LARGE_RESIDUAL:g} is usual), so its "
            "infiltration length and its density away from the outlines say little."
        )


LENGTH_LIMITS = (("shortest", SHORTEST_LENGTH), ("longest", LONGEST_LENGTH))


def refinement_warnings(refinement: Refinement, match: Estimate, refined: Estimate) -> Iterator[str]:
    """What the user should know about how a refinement ended."""
    if refinement.stopped == "time":
        yield (
            f"The refinement stopped at the end of its time, after {len(refinement.path)} solves; "
            "this is the best so far."
        )
    if match.or_better(refined) is match:
        yield "On the T1Gd image's grid the match fits better than its refinement and is kept."
    for end, limit in LENGTH_LIMITS:
        if any(math.isclose(found.infiltration_length, limit, rel_tol=1e-3) for found in refinement.parameters):
            yield (
                f"The infiltration length ran to the {end} that is searched, {limit:g} mm: the model agrees with these "
                "outlines best at the end of its range, so the length is not to be relied on."
            )


def sensitivity_warnings(rows: tuple[SensitivityRow, ...], length_scale: float) -> Iterator[str]:
    """Which of sensitivity's searches the time ended, and whose lengths ran to an end of what is searched.

    `length_scale` is that of the anatomy (see `Anatomy`).
    """
    ended = [row.assumption for row in rows if row.stopped == "time"]
    if ended:
        yield (
            f"Sensitivity stopped at the end of its time with {' and with '.join(ended)}; "
            "these are the best figures so far."
        )
    for end, limit in LENGTH_LIMITS:
        ran = [
            row.assumption
            for row in rows
            if any(math.isclose(one, limit * length_scale, rel_tol=1e-3) for one in row.infiltration_lengths_mm)
        ]
        if ran:
            yield (
                f"With {' and with '.join(ran)} the infiltration length ran to the {end} that is searched, "
                f"{limit:g} mm: it is not to be relied on."
            )


#: What to say of a part without density, by whether two foci were tried.
MISSED = {
    "taken": "two tumours were grown, and more are not modelled",
    "lost": "one tumour is shown, since two fitted no better",
    "not tried": "one tumour was grown; try two (--foci 2)",
    "out of time": "one tumour is shown, since the time ended before two were found; give it more (--refine-seconds)",
    "impossible": "one tumour was grown, and a second one is tried only where it has a core of its own",
}


def missed_warnings(model: Estimate, chosen: str, observed: TumorMasks, refinement: Refinement | None) -> Iterator[str]:
    """The parts of the segmented tumour that a model's density leaves out, and what may help."""
    parts = missed_parts(model.in_patient, observed)
    if not parts:
        return
    alone = [part for part in parts if part.count == 1]
    named = ", ".join(
        f"{part.volume_ml:.1f} ml around ({', '.join(f'{x:.0f}' for x in part.centre)}) mm RAS" for part in alone[:3]
    )
    named += f" and {len(alone) - 3} more" if len(alone) > 3 else ""
    small = [f"{part.volume_ml:.1f} ml in {part.count} small parts" for part in parts if part.count > 1]
    named = " and ".join(filter(None, (named, *small)))
    if not alone:
        remedy = "parts as small as these are not modelled; look at them in the segmentation"
    elif refinement is None:
        remedy = "the match is one tumour of the database; refine it (--refine patient), which also tries two foci"
    else:
        remedy = MISSED[refinement.two_foci]
    consequence = "Cells are there that the density does not show"
    if chosen == "assimilated":
        consequence = "The assimilated density fills it up to its outline and knows nothing of what lies beyond"
    yield f"The density leaves out a part of the segmented tumour: {named}. {consequence}: {remedy}."
