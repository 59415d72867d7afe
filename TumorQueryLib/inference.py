"""The main job: from a patient's MRI and segmentation to the tumour cell density everywhere.

The steps are those of the paper's section 2.2: the patient is registered to the
atlas, the segmentation mapped there is the query, the best match's density is
simulated and mapped back.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.base.files import staged_folder, write_json, write_volume
from TumorQueryLib.base.progress import Progress, no_progress, part
from TumorQueryLib.geometry.grid import Volume, resample, resample_mask
from TumorQueryLib.geometry.regions import threshold_density

if TYPE_CHECKING:
    from TumorQueryLib.database import TumorDatabase
    from TumorQueryLib.estimates.refine import Refinement
    from TumorQueryLib.geometry.regions import TumorMasks
    from TumorQueryLib.growth import GrowthParameters
    from TumorQueryLib.inputs.patient import Patient
    from TumorQueryLib.registration import Registration
    from TumorQueryLib.strategies import Match

RESULT_VERSION = 1

#: Keyword arguments of `infer` that commands and jobs pass on.
METHOD_OPTIONS = (
    *("database", "strategy", "registration", "top"),
    *("refine", "refine_solves", "refine_seconds", "foci"),
)

#: Below this the best match is called poor; the paper's mean over 62 real patients is 1.07.
POOR_DICE_SUM = 1.0


@dataclass(frozen=True, eq=False)
class Inference:
    """What `infer` found.

    Parameters
    ----------
    patient : Patient
    atlas : Atlas
    registration : Registration
    query : TumorMasks
        The patient's masks on the atlas grid.
    matches : tuple of Match
        Best first.
    matched_parameters : tuple of GrowthParameters
        Of the matches, in the atlas.
    database : dict
        The database's identity: entries, atlas, thresholds, SHA-256.
    strategy : str
    density : Volume
        Tumour cell density on the T1Gd image's grid, float32 in [0, 1]: the refined one where a refinement
        was asked for and found a better one, else the best match's.
    core, whole : Volume
        Where `density` exceeds the database's thresholds, boolean, on the T1Gd image's grid.
    observed_core, observed_whole : Volume
        The segmentation's regions on the T1Gd image's grid, boolean.
    timings : dict of str to float
        Seconds of each step.
    warnings : tuple of str
    refinement : Refinement, optional
    match_density : Volume, optional
        With a refinement, the best match's density on the T1Gd image's grid.
    """

    patient: Patient
    atlas: Atlas
    registration: Registration
    query: TumorMasks
    matches: tuple[Match, ...]
    matched_parameters: tuple[GrowthParameters, ...]
    database: dict[str, Any]
    strategy: str
    density: Volume
    core: Volume
    whole: Volume
    observed_core: Volume
    observed_whole: Volume
    timings: dict[str, float]
    warnings: tuple[str, ...]
    refinement: Refinement | None = None
    match_density: Volume | None = None

    @property
    def patient_space(self) -> dict[str, Any]:
        """Dice and volumes (ml) in the patient's own space, from `density` and the segmentation."""
        from TumorQueryLib.geometry.regions import dice

        voxel = self.density.grid.voxel_volume_ml
        regions = {"core": (self.observed_core, self.core), "whole": (self.observed_whole, self.whole)}
        return {
            "dice_core": dice(self.observed_core.array, self.core.array),
            "dice_whole": dice(self.observed_whole.array, self.whole.array),
            "volumes_ml": {
                "observed": {name: float(seen.array.sum() * voxel) for name, (seen, _) in regions.items()},
                "predicted": {name: float(found.array.sum() * voxel) for name, (_, found) in regions.items()},
            },
        }

    def to_json(self) -> dict[str, Any]:
        """The content of result.json, version 1."""
        from TumorQueryLib.base.version import __version__

        scale = self.registration.length_scale(self.observed_whole)
        return {
            "version": RESULT_VERSION,
            "software": {"name": "TumorQuery", "version": __version__, "python": platform.python_version()},
            "inputs": list(self.patient.inputs),
            "database": self.database,
            "strategy": self.strategy,
            "registration": {"mode": self.registration.mode, "quality": self.registration.quality},
            "matches": [
                {
                    "entry": match.entry,
                    "dice_core": match.dice_core,
                    "dice_whole": match.dice_whole,
                    "dice_sum": match.dice_sum,
                    "parameters": describe_parameters(parameters, self.registration, scale),
                }
                for match, parameters in zip(self.matches, self.matched_parameters)
            ],
            "refined": None if self.refinement is None else self._describe_refinement(self.refinement, scale),
            "patient_space": self.patient_space,
            "timings_s": {name: round(seconds, 4) for name, seconds in self.timings.items()},
            "outputs": OUTPUTS | ({} if self.refinement is None else REFINEMENT_OUTPUTS),
            "warnings": list(self.warnings),
        }

    def _describe_refinement(self, refinement: Refinement, scale: float) -> dict[str, Any]:
        """The `refined` of result.json: the keys of a match, and how the search went."""
        described = [
            describe_parameters(parameters, self.registration, scale, refinement.frame)
            for parameters in refinement.parameters
        ]
        return {
            "dice_core": refinement.dice_core,
            "dice_whole": refinement.dice_whole,
            "dice_sum": refinement.dice_sum,
            "match_dice_sum": refinement.match_dice_sum,
            "parameters": described[0],
            "further_foci": described[1:],
            "solves": len(refinement.path),
            "stopped": refinement.stopped,
            "tissue_voxels_added": refinement.tissue_voxels_added,
        }

    def write(self, folder: str | os.PathLike, progress: Progress = no_progress) -> Path:
        """Write result.json, the volumes, the transforms and the report; all or nothing.

        Returns
        -------
        Path
            Of result.json.

        Raises
        ------
        OutputError
            When the folder cannot be written.
        """
        with staged_folder(folder) as stage:
            self.write_into(stage, progress)
        return Path(folder) / "result.json"

    def write_into(self, folder: Path, progress: Progress = no_progress) -> None:
        """Write every output file straight into an existing folder."""
        from TumorQueryLib.results.report import write_report

        progress(0.0, "Writing the results")
        write_volume(self.density, folder / OUTPUTS["density"])
        write_volume(self.core, folder / OUTPUTS["core"])
        write_volume(self.whole, folder / OUTPUTS["whole"])
        if self.refinement is not None and self.match_density is not None:
            write_volume(self.match_density, folder / REFINEMENT_OUTPUTS["match_density"])
            self.refinement.write_path(folder)
        progress(0.3, "Writing the transforms")
        self.registration.write(folder)
        progress(0.5, "Drawing the report")
        write_report(self, folder / OUTPUTS["report"])
        progress(0.9, "Writing the results")
        write_json(self.to_json(), folder / "result.json")
        progress(1.0, "Done")


OUTPUTS = {
    "density": "density.nrrd",
    "core": "core.nrrd",
    "whole": "whole.nrrd",
    "report": "report.png",
    "patient_to_atlas": "patient_to_atlas.h5",
    "atlas_to_patient": "atlas_to_patient.h5",
}
REFINEMENT_OUTPUTS = {
    "match_density": "density_match.nrrd",
    "refinement_table": "refinement.csv",
    "refinement_plot": "refinement.png",
}


def describe_parameters(
    parameters: GrowthParameters, registration: Registration, scale: float, frame: str = "atlas"
) -> dict[str, Any]:
    """The `parameters` of result.json for a tumour.

    Parameters
    ----------
    parameters : GrowthParameters
    registration : Registration
    scale : float
        Millimetres in the patient for one millimetre in the atlas.
    frame : {"atlas", "patient"}
        Where the parameters' seed and lengths are.
    """
    seed = parameters.seed if frame == "patient" else registration.seed_in_patient(parameters.seed)
    return {
        "frame": frame,
        "seed_mm": [float(x) for x in parameters.seed],
        "diffusivity_mm2_per_day": parameters.diffusivity,
        "proliferation_per_day": parameters.proliferation,
        "duration_days": parameters.duration,
        "infiltration_length_mm": parameters.infiltration_length,
        "rho_t": parameters.rho_t,
        "seed_patient_mm": [float(x) for x in seed],
        "infiltration_length_patient_mm": parameters.infiltration_length * (1.0 if frame == "patient" else scale),
    }


def infer(
    patient: Patient,
    database: TumorDatabase | str | os.PathLike = "starter",
    *,
    strategy: str = "direct",
    registration: str = "deformable",
    refine: str | None = None,
    refine_solves: int | None = None,
    refine_seconds: float | None = None,
    foci: int = 1,
    top: int = 15,
    atlas: Atlas | None = None,
    progress: Progress = no_progress,
) -> Inference:
    """Find the tumour cell density of a patient; the same input gives the same result.

    Parameters
    ----------
    patient : Patient
    database : TumorDatabase, str or path
        An open database, the name of a bundled one ("starter") or a file.
    strategy : str
        Name of a query strategy; "direct" is exact.
    registration : {"deformable", "affine", "none"}
        How the patient is mapped to the atlas; "none" where the images are in the atlas space already.
    refine : {"atlas", "patient"}, optional
        Fit better than any entry, in the atlas or in the patient's own anatomy (see `refinement`).
    refine_solves : int, optional
        Budget of the refinement; with a budget in solves alone the result is deterministic.
    refine_seconds : float, optional
        Seconds after which the refinement ends with the best so far.
    foci : {1, 2}
        With 2, the refinement also tries two tumours where the core has several components.
    top : int
        Number of matches to rank, at least 1.
    atlas : Atlas, optional
        The atlas that the database was made in; by default the bundled one of that name.
    progress : callable
        Called with a fraction and a message; raises `Cancelled` to stop.

    Returns
    -------
    Inference

    Raises
    ------
    InputError
        On an unknown registration or strategy, or `top` below 1.
    DatabaseError
        When the database cannot be used with the atlas.
    """
    from TumorQueryLib.base.errors import InputError
    from TumorQueryLib.database import TumorDatabase
    from TumorQueryLib.growth import simulate
    from TumorQueryLib.registration import register
    from TumorQueryLib.strategies import create_strategy

    if top < 1:
        raise InputError(f"At least one match is ranked, but top is {top}.")
    started = time.perf_counter()
    timings: dict[str, float] = {}

    progress(0.0, "Opening the database")
    with timed(timings, "load"):
        if not isinstance(database, TumorDatabase):
            database = TumorDatabase.open(database)
        atlas = Atlas.load(database.atlas_name) if atlas is None else atlas
        database.check_atlas(atlas)
        engine = create_strategy(strategy, database)

    # Where a refinement follows, it takes about as long as the registration.
    before_refinement = part(progress, 0.0, 1.0 if refine is None else 0.6)
    progress(0.02, "Registering the patient to the atlas")
    with timed(timings, "registration"):
        mapped = register(
            patient.registration_image,
            atlas,
            registration,
            tumour=patient.whole,
            brain_mask=patient.brain_mask,
            progress=part(before_refinement, 0.02, 0.85),
        )
        query = mapped.masks_in_atlas(patient.core, patient.whole, atlas)

    before_refinement(0.86, "Querying the database")
    with timed(timings, "query"):
        matches = tuple(engine.query(query, top))
    parameters = tuple(database.parameters(match.entry) for match in matches)

    before_refinement(0.88, "Simulating the best match")
    with timed(timings, "simulate"):
        density_in_atlas = simulate(parameters[0], atlas)

    before_refinement(0.94, "Mapping the density back to the patient")
    with timed(timings, "back_transform"):
        grid = patient.t1gd.grid
        density = mapped.density_in_patient(density_in_atlas, atlas.grid, grid)
        observed_core = resample_mask(patient.core, grid)
        observed_whole = resample_mask(patient.whole, grid)

    refinement, match_density = None, None
    refinement_warnings: tuple[str, ...] = ()
    timings["refine"] = 0.0
    if refine is not None:
        from TumorQueryLib.estimates import refine as refining

        with timed(timings, "refine"):
            refinement = refining.refine(
                matches,
                database,
                atlas,
                query,
                frame=refine,
                patient=patient,
                registration=mapped,
                budget_solves=refining.DEFAULT_SOLVES if refine_solves is None else refine_solves,
                budget_seconds=refine_seconds,
                foci=foci,
                progress=part(progress, 0.6, 0.98),
            )
            refined = (
                resample(refinement.density, grid)
                if refinement.frame == "patient"
                else mapped.density_in_patient(refinement.density.array, atlas.grid, grid)
            )
        match_density = density
        observed = (observed_core, observed_whole)
        thresholds = (database.threshold_core, database.threshold_whole)
        refinement_warnings = tuple(refinement_sentences(refinement))
        if _dice_sum(refined, observed, thresholds) >= _dice_sum(match_density, observed, thresholds):
            density = refined
        else:
            refinement_warnings += ("On the T1Gd image's grid the match fits better than its refinement and is kept.",)
    core, whole = threshold_density(density, database.threshold_core, database.threshold_whole)

    timings["total"] = time.perf_counter() - started
    progress(1.0, "Inference done")
    return Inference(
        patient=patient,
        atlas=atlas,
        registration=mapped,
        query=query,
        matches=matches,
        matched_parameters=parameters,
        database=describe_identity(database),
        strategy=strategy,
        density=density,
        core=core,
        whole=whole,
        observed_core=observed_core,
        observed_whole=observed_whole,
        timings=timings,
        warnings=(*patient.warnings, *mapped.warnings, *query_warnings(query, matches), *refinement_warnings),
        refinement=refinement,
        match_density=match_density,
    )


def infer_files(
    patient_files: dict[str, Any], method: dict[str, Any], out: Path, progress: Progress = no_progress
) -> Inference:
    """Load a patient, infer and write the results to a folder; the work of one command.

    The output folder is opened first, so that a folder that cannot be written fails
    before the work and not after it.
    """
    from TumorQueryLib.inputs.patient import Patient

    with staged_folder(out) as stage:
        progress(0.0, "Reading the patient's files")
        started = time.perf_counter()
        patient = Patient.load(**patient_files)
        seconds = time.perf_counter() - started
        inference = infer(patient, **method, progress=part(progress, 0.03, 0.93))
        inference.timings["load"] += seconds
        inference.timings["total"] += seconds
        inference.write_into(stage, part(progress, 0.93, 1.0))
    return inference


def query_warnings(query: TumorMasks, matches: tuple[Match, ...]) -> Iterator[str]:
    """Sentences about a query or an answer that the user should not trust blindly."""
    if not query.whole.any():
        yield (
            "The tumour lies outside the atlas's brain after the registration, so the match means nothing; "
            "check the registration, or give a brain mask."
        )
    if matches and matches[0].dice_sum < POOR_DICE_SUM:
        yield (
            f"The best match fits poorly (Dice sum {matches[0].dice_sum:.2f} of 2); "
            "a larger database may hold a better one."
        )


def refinement_sentences(refinement: Refinement) -> Iterator[str]:
    """What the user should know about how a refinement ended."""
    ends = {"time": "at the end of its time", "cancelled": "when it was cancelled"}
    if refinement.stopped in ends:
        yield (
            f"The refinement stopped {ends[refinement.stopped]}, after {len(refinement.path)} solves; "
            "this is the best so far."
        )
    if refinement.dice_sum <= refinement.match_dice_sum:
        yield "The refinement found nothing better than the best match, which is kept."


def _dice_sum(density: Volume, observed: tuple[Volume, Volume], thresholds: tuple[float, float]) -> float:
    """Dice of core and whole tumour, summed, against the segmentation on the same grid."""
    from TumorQueryLib.geometry.regions import dice

    predicted = threshold_density(density, *thresholds)
    return sum(dice(seen.array, found.array) for seen, found in zip(observed, predicted))


def describe_identity(database: TumorDatabase) -> dict[str, Any]:
    """What identifies a database in a result, without its path."""
    return {
        "sha256": database.sha256,
        "entries": len(database),
        "atlas": database.atlas_name,
        "atlas_sha256": database.atlas_sha256,
        "threshold_core": database.threshold_core,
        "threshold_whole": database.threshold_whole,
    }


@contextmanager
def timed(timings: dict[str, float], name: str) -> Iterator[None]:
    """Note the wall seconds of a block under a name."""
    started = time.perf_counter()
    yield
    timings[name] = time.perf_counter() - started


def density_of_match(folder: str | os.PathLike, rank: int, progress: Progress = no_progress) -> Path:
    """Simulate another match of an earlier result and map it to the patient.

    Parameters
    ----------
    folder : path
        Where an earlier `Inference.write` put its files.
    rank : int
        0 for the best match.

    Returns
    -------
    Path
        `match_<rank>/density.nrrd` below `folder`; rank counts from 0.

    Raises
    ------
    InputError
        When the folder holds no result or the result no such match.
    """
    import json

    import SimpleITK as sitk

    from TumorQueryLib.base.errors import InputError
    from TumorQueryLib.geometry.grid import grid_from_image
    from TumorQueryLib.growth import GrowthParameters, simulate

    folder = Path(folder)
    try:
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        matches, atlas_name = result["matches"], result["database"]["atlas"]
        atlas_sha256 = result["database"]["atlas_sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder} holds no readable result.json of TumorQuery; run the inference again.") from error
    if not 0 <= rank < len(matches):
        raise InputError(f"The result in {folder} ranks {len(matches)} matches; there is none of rank {rank}.")
    atlas = Atlas.load(atlas_name)
    if atlas.sha256 != atlas_sha256:
        raise InputError(f"The result in {folder} was made with another version of the atlas {atlas_name}.")
    found = matches[rank]["parameters"]
    parameters = GrowthParameters(
        seed=tuple(found["seed_mm"]),
        diffusivity=found["diffusivity_mm2_per_day"],
        proliferation=found["proliferation_per_day"],
        duration=found["duration_days"],
    )
    progress(0.1, f"Simulating match {rank + 1}")
    density: NDArray[np.float32] = simulate(parameters, atlas)
    progress(0.6, "Mapping the density to the patient")
    try:
        grid = grid_from_image(sitk.ReadImage(str(folder / OUTPUTS["density"])))
        transform = sitk.ReadTransform(str(folder / OUTPUTS["patient_to_atlas"]))
    except RuntimeError as error:
        raise InputError(
            f"The files beside {folder / 'result.json'} cannot be read; run the inference again."
        ) from error
    mapped = resample(Volume(density, atlas.grid), grid, transform)
    with staged_folder(folder / f"match_{rank}") as stage:
        write_volume(mapped, stage / OUTPUTS["density"])
    progress(1.0, "Done")
    return folder / f"match_{rank}" / OUTPUTS["density"]
