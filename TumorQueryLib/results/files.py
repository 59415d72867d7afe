"""The files of a result: written whole or not at all, and read back."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from TumorQueryLib.base.errors import InputError, OutputError, shown
from TumorQueryLib.base.files import itk_name, open_regular, output_errors, parsed_json, regular_bytes, write_json
from TumorQueryLib.base.plan_choices import PlanChoices
from TumorQueryLib.base.progress import Progress, no_progress
from TumorQueryLib.database.checks import can_be_grown
from TumorQueryLib.estimates.assimilate import held_alike
from TumorQueryLib.estimates.draws import DensityDraws
from TumorQueryLib.geometry.grid import Grid, Volume, image_from_volume, resample
from TumorQueryLib.geometry.transforms import SpaceMap
from TumorQueryLib.growth import GrowthParameters
from TumorQueryLib.inputs.image_files import read_image_file
from TumorQueryLib.results.folder import PLAN_FILE, RESULT_FILE, RESULT_NAMES, added_to_result, result_folder
from TumorQueryLib.results.plan_picture import write_plan_picture
from TumorQueryLib.results.report import write_report
from TumorQueryLib.results.transform_files import read_transform, write_transform
from TumorQueryLib.strategies import Match

if TYPE_CHECKING:
    from TumorQueryLib.estimates.refine import Refinement
    from TumorQueryLib.estimates.uncertainty import Uncertainty
    from TumorQueryLib.results.plan import Plans
    from TumorQueryLib.results.result import Result

RESULT_VERSION = 2
OUTPUTS = {
    "density": "density.nrrd",
    "core": "core.nrrd",
    "whole": "whole.nrrd",
    "segmentation": "segmentation.nrrd",
    "tissue": "tissue.nrrd",
    "report": "report.png",
    "patient_to_atlas": "patient_to_atlas.h5",
    "atlas_to_patient": "atlas_to_patient.h5",
}
CAVITY_OUTPUTS = {"cavity": "cavity.nrrd"}
BRAIN_OUTPUTS = {"brain": "brain.nrrd"}
UNCERTAINTY_OUTPUTS = {
    "density_sd": "density_sd.nrrd",
    "density_p05": "density_p05.nrrd",
    "density_p95": "density_p95.nrrd",
    "density_probability": "density_probability.nrrd",
    "density_draws": "density_draws.npz",
}
PLAN_OUTPUTS = {"plan": "plan.json", "plan_picture": "plan.png"}
#: The cavity that plans were made around, where it is not the result's own; no plan itself.
PLAN_CAVITY = "plan_cavity"
#: How the warning begins that a run which was asked for a plan made none.
NO_PLAN = "There is no plan."
REFINEMENT_OUTPUTS = {"refinement_table": "refinement.csv", "refinement_plot": "refinement.png"}


def outputs_of(result: Result) -> dict[str, str]:
    """File names of a result by what they hold: `density` is the chosen estimate's, `density_NAME` another's."""
    others = {f"density_{name}": f"density_{name}.nrrd" for name in result.estimates if name != result.chosen}
    brain = BRAIN_OUTPUTS if result.brain.source == "extracted" else {}
    cavity = {} if result.cavity is None else CAVITY_OUTPUTS
    uncertainty = {} if result.uncertainty is None else UNCERTAINTY_OUTPUTS
    plans = {} if result.plans is None else plan_outputs(result.plans)
    refinement = {} if result.refinement is None else REFINEMENT_OUTPUTS
    return OUTPUTS | others | brain | cavity | uncertainty | plans | refinement


def plan_outputs(plans: Plans) -> dict[str, str]:
    """File names of plans by what they hold."""
    names = (*plans.masks, *(() if plans.cavity is None else ("cavity",)))
    return PLAN_OUTPUTS | {f"plan_{name}": f"plan_{name}.nrrd" for name in names}


def write_result(result: Result, folder: str | os.PathLike, *, progress: Progress = no_progress) -> Path:
    """Write all files of a result to a folder; all or nothing. Returns the path of result.json.

    Raises
    ------
    OutputError
        When the folder cannot be written.
    """
    with result_folder(folder) as stage, output_errors(Path(folder)):
        write_result_files(result, stage, progress=progress)
    return Path(folder) / RESULT_FILE


def write_result_files(result: Result, folder: Path, *, progress: Progress = no_progress) -> None:
    """Write all files of a result straight into an existing folder."""
    progress(0.0, "Writing the results")
    outputs = outputs_of(result)
    for name, estimate in result.estimates.items():
        write_volume(estimate.in_patient, folder / outputs["density" if name == result.chosen else f"density_{name}"])
    write_volume(result.core, folder / outputs["core"])
    write_volume(result.whole, folder / outputs["whole"])
    write_volume(result.segmentation, folder / outputs["segmentation"])
    write_volume(result.tissue, folder / outputs["tissue"])
    if "brain" in outputs:
        write_volume(result.brain_on_t1gd, folder / outputs["brain"])
    if result.cavity is not None:
        write_volume(result.cavity, folder / outputs["cavity"])
    if result.uncertainty is not None:
        write_uncertainty(result.uncertainty, folder)
    if result.plans is not None:
        write_plans(result.plans, result, result.patient.t1gd, folder)
    if result.refinement is not None:
        write_path(result.refinement, result.estimates["refined"].anatomy.name, folder)
    progress(0.3, "Writing the transforms")
    write_transforms(result.registration, folder)
    progress(0.5, "Drawing the report")
    write_report(result, folder / outputs["report"])
    progress(0.9, "Writing the results")
    write_json(result.to_json() | {"sha256": _sums(outputs, folder)}, folder / RESULT_FILE)
    progress(1.0, "Done")


def write_uncertainty(uncertainty: Uncertainty, folder: Path) -> None:
    """Write standard deviation, 5 and 95 % bounds, probability and joint draws into an existing folder."""
    lower, upper = uncertainty.band(0.9)
    write_volume(lower, folder / UNCERTAINTY_OUTPUTS["density_p05"])
    write_volume(upper, folder / UNCERTAINTY_OUTPUTS["density_p95"])
    del lower, upper
    # One after the other: each is as large as the T1Gd image.
    for name in ("sd", "probability"):
        write_volume(getattr(uncertainty, name), folder / UNCERTAINTY_OUTPUTS[f"density_{name}"])
    uncertainty.draw().save(folder / UNCERTAINTY_OUTPUTS["density_draws"])


def write_plans(plans: Plans, result: Result | SavedResult, image: Volume | None, folder: Path) -> None:
    """Write plan.json, plan.png and the masks of plans into an existing folder; `image` is what plan.png shows."""
    for name, mask in plans.masks.items():
        write_volume(mask, folder / f"plan_{name}.nrrd")
    if plans.cavity is not None:
        write_volume(plans.cavity, folder / f"{PLAN_CAVITY}.nrrd")
    write_json(plans.as_json(), folder / PLAN_OUTPUTS["plan"])
    write_plan_picture(plans, result, image, folder / PLAN_OUTPUTS["plan_picture"])


def add_plans(plans: Plans, result: SavedResult) -> Path:
    """Write plans beside the result that they were made of, in the place of earlier ones; returns plan.json's path.

    Raises
    ------
    OutputError
        When the folder cannot be written.
    """
    added = plan_outputs(plans)
    with added_to_result(result.folder, result.content) as stage, output_errors(result.folder):
        write_plans(plans, result, None, stage)
        outputs = {name: file for name, file in result.content["outputs"].items() if not PLAN_FILE.fullmatch(file)}
        sums = {file: told for file, told in result.content["sha256"].items() if not PLAN_FILE.fullmatch(file)}
        warnings = [said for said in result.warnings if not said.startswith(NO_PLAN)]
        content = {
            "outputs": outputs | added,
            "plan": plans.as_json(),
            "sha256": sums | _sums(added, stage),
            "warnings": warnings,
        }
        write_json(result.content | content, stage / RESULT_FILE)
    return result.folder / added["plan"]


def _sums(outputs: dict[str, str], folder: Path) -> dict[str, str]:
    """SHA-256 of the volumes, transforms and draws: what was damaged or exchanged since is noticed when it is read."""
    return {
        name: _sha256(folder / name) for name in sorted(outputs.values()) if name.endswith((".nrrd", ".h5", ".npz"))
    }


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def write_volume(volume: Volume, path: Path) -> None:
    """Write a compressed image file and read it back: a full disk can go unnoticed otherwise.

    Raises
    ------
    OutputError
        When the file does not hold afterwards what was written.
    """
    image = image_from_volume(volume)
    try:
        sitk.WriteImage(image, itk_name(path), useCompression=True)
        again = sitk.ReadImage(itk_name(path))
        # Views: copies of large images are what a run's memory goes to.
        intact = np.array_equal(sitk.GetArrayViewFromImage(again), sitk.GetArrayViewFromImage(image))
    except RuntimeError:
        intact = False
    if not intact:
        raise OutputError(
            f"{path.name} could not be written whole: the disk is full or the folder cannot be written; "
            "free some space or name another folder."
        )


def write_transforms(space: SpaceMap, folder: Path) -> None:
    """Write both transforms as ITK HDF5 files that SimpleITK and 3D Slicer read, into an existing folder.

    Raises
    ------
    OutputError
        When a file cannot be written.
    """
    for name in ("patient_to_atlas", "atlas_to_patient"):
        write_transform(getattr(space, name), folder / OUTPUTS[name])


def write_path(refinement: Refinement, anatomy: str, folder: Path) -> None:
    """Write the search of a refinement as refinement.csv and refinement.png into an existing folder."""
    from matplotlib.figure import Figure

    with open(folder / REFINEMENT_OUTPUTS["refinement_table"], "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["solve", "of", "dice_sum", "x_mm", "y_mm", "z_mm", "infiltration_length_mm", "rho_t"])
        for solve in refinement.path:
            numbers = (solve.score, *solve.seed, solve.infiltration_length, solve.rho_t)
            table.writerow([solve.number, solve.of, *(f"{value:.4f}" for value in numbers)])
    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.subplots()
    # Each half of two foci has scores of its own.
    for number, of in enumerate(dict.fromkeys(solve.of for solve in refinement.path)):
        solves = [solve for solve in refinement.path if solve.of == of]
        places, scores = [solve.number for solve in solves], [solve.score for solve in solves]
        axes.plot(places, scores, ".", color="0.6", label=None if number else "solve")
        label = "best so far" + ("" if of == "whole" else f", {of}")
        axes.step(places, np.maximum.accumulate(scores), where="post", color=("C0", "C2", "C3")[number], label=label)
        if of == "whole":
            ends = places[0], places[-1]
            axes.plot(ends, [refinement.match_dice_sum] * 2, color="C1", linestyle="--", label="best match")
    axes.set(xlabel="solve", ylabel="Dice core + Dice whole", title=f"Refinement in the {anatomy}'s anatomy")
    axes.legend(loc="lower right", fontsize="small")
    figure.savefig(folder / REFINEMENT_OUTPUTS["refinement_plot"], dpi=120)


@dataclass(frozen=True, eq=False)
class SavedResult:
    """A result that was written to a folder; made by `read_result`.

    Parameters
    ----------
    folder : Path
    content : dict
        What result.json holds.
    """

    folder: Path
    content: dict[str, Any]

    @property
    def chosen(self) -> str:
        """Name of the estimate that `density` belongs to."""
        return self.content["chosen"]

    @property
    def warnings(self) -> tuple[str, ...]:
        """The warnings of the run."""
        return tuple(self.content["warnings"])

    @cached_property
    def matches(self) -> tuple[Match, ...]:
        """The ranked matches, best first; the score is their Dice sum."""
        return tuple(
            Match(found["entry"], found["dice_core"], found["dice_whole"], score=found["dice_sum"])
            for found in self.content["query"]["matches"]
        )

    @property
    def matched_parameters(self) -> tuple[GrowthParameters, ...]:
        """Of the matches, in the atlas."""
        return tuple(parameters_from_json(found["parameters"]) for found in self.content["query"]["matches"])

    @cached_property
    def density(self) -> Volume:
        """The chosen density on the T1Gd image's grid, float32 in [0, 1]."""
        return self.density_of(self.chosen)

    def density_of(self, estimate: str) -> Volume:
        """An estimate's density on the T1Gd image's grid, float32 in [0, 1].

        Raises
        ------
        InputError
            When there is no such estimate, or its file is missing or damaged.
        """
        estimates = self.content["estimates"]
        if estimate not in estimates:
            raise InputError(f"The result has no estimate {estimate!r}; it has {', '.join(estimates)}.")
        return self._volume(estimates[estimate]["density"])

    @property
    def uncertainty(self) -> dict[str, Any] | None:
        """Intervals and sentences as result.json has them (docs/reference/result-json.md); None without uncertainty."""
        return self.content["uncertainty"]

    def uncertainty_map(self, name: str) -> Volume:
        """A map of the uncertainty on the T1Gd image's grid, float32 in [0, 1].

        Parameters
        ----------
        name : {"sd", "p05", "p95", "probability"}

        Raises
        ------
        InputError
            When the run was made without uncertainty, there is no such map, or its file is missing or damaged.
        """
        self._needs_uncertainty()
        if f"density_{name}.nrrd" not in UNCERTAINTY_OUTPUTS.values():
            raise InputError(f"There is no map {name!r} of the uncertainty; there are sd, p05, p95 and probability.")
        return self._volume(f"density_{name}.nrrd")

    @cached_property
    def draws(self) -> DensityDraws:
        """Joint draws of the density, on a grid of the model's anatomy.

        Raises
        ------
        InputError
            When the run was made without uncertainty, or the file is missing or damaged.
        """
        self._needs_uncertainty()
        return DensityDraws.load(self._unaltered(UNCERTAINTY_OUTPUTS["density_draws"]))

    @cached_property
    def plans(self) -> dict[str, Volume]:
        """The plans that were made of it by name ("standard", "model", "probable"), boolean; none where none were.

        On the T1Gd image's grid.
        """
        files = self.content["outputs"].items()
        return {
            name.removeprefix("plan_"): self._mask(name)
            for name, file in files
            if PLAN_FILE.fullmatch(file) and file.endswith(".nrrd") and name != PLAN_CAVITY
        }

    @property
    def thresholds(self) -> tuple[float, float]:
        """Densities above which a voxel belongs to core and whole tumour."""
        made_in = self.content["database"]
        return made_in["threshold_core"], made_in["threshold_whole"]

    @property
    def has_draws(self) -> bool:
        """Whether the run was made with uncertainty."""
        return self.content["uncertainty"] is not None

    def drawn_densities(self, grid: Grid) -> Iterator[Volume]:
        """The joint draws of the density at the voxels of a grid in the patient's space, float32, one after the other.

        Held to the outlines as the density is. None where the run was made without uncertainty.

        Raises
        ------
        InputError
            When a file is missing or damaged.
        """
        if not self.has_draws:
            return
        in_atlas = self.content["estimates"][self.content["uncertainty"]["model"]]["anatomy"] == "atlas"
        drawn = (self.space.in_patient(one, grid) if in_atlas else resample(one, grid) for one in self.draws)
        yield from held_alike(drawn, self.density_of("assimilated"), grid, self.thresholds)

    def _needs_uncertainty(self) -> None:
        if self.content["uncertainty"] is None:
            raise InputError(f"The result in {self.folder} was made without uncertainty; run it with --uncertainty.")

    @cached_property
    def core(self) -> Volume:
        """Where the density exceeds the core's threshold, boolean, on the T1Gd image's grid."""
        return self._mask("core")

    @cached_property
    def whole(self) -> Volume:
        """Where the density exceeds the whole tumour's threshold, boolean, on the T1Gd image's grid."""
        return self._mask("whole")

    @cached_property
    def segmentation(self) -> Volume:
        """The segmentation as it was given, uint8 on the T1Gd image's grid: 1 core, 2 the rest of the whole tumour."""
        return self._volume(self.content["outputs"]["segmentation"])

    @cached_property
    def tissue(self) -> Volume:
        """The tissue of the brain, uint8 on the T1Gd image's grid: 0 outside, 1 CSF, 2 grey matter, 3 white matter."""
        return self._volume(self.content["outputs"]["tissue"])

    @cached_property
    def cavity(self) -> Volume | None:
        """The resection cavity, boolean, on the T1Gd image's grid; None where there is none."""
        return self._mask("cavity") if "cavity" in self.content["outputs"] else None

    @cached_property
    def plan_cavity(self) -> Volume | None:
        """The resection cavity that its plans were made around, as `cavity`: its own, or the one given to them."""
        return self._mask(PLAN_CAVITY) if PLAN_CAVITY in self.content["outputs"] else self.cavity

    @cached_property
    def space(self) -> SpaceMap:
        """The way between patient and atlas."""
        names = (self.content["outputs"][name] for name in ("patient_to_atlas", "atlas_to_patient"))
        try:
            there, back = (read_transform(self._unaltered(name)) for name in names)
        except InputError as error:
            raise self._damaged("A transform") from error
        return SpaceMap(there, back)

    def _mask(self, name: str) -> Volume:
        volume = self._volume(self.content["outputs"][name])
        return Volume(volume.array != 0, volume.grid)

    def _volume(self, file: str) -> Volume:
        path = self._unaltered(file)
        try:
            return read_image_file(path, "result's").volume
        except InputError as error:
            raise self._damaged(file) from error

    def _unaltered(self, file: str) -> Path:
        """A file of the result, as it was written."""
        try:
            found = _sha256(self.folder / file)
        except OSError as error:
            raise self._damaged(file) from error
        if found != self.content["sha256"][file]:
            raise InputError(
                f"{file} beside {self.folder / RESULT_FILE} is not as it was written; run the inference again."
            )
        return self.folder / file

    def _damaged(self, what: str) -> InputError:
        return InputError(f"{what} beside {self.folder / RESULT_FILE} cannot be read; run the inference again.")


def read_result(folder: str | os.PathLike) -> SavedResult:
    """Read a result that `Result.write` wrote; volumes and transforms are read when they are asked for.

    Parameters
    ----------
    folder : path

    Raises
    ------
    InputError
        When the folder holds no result, or one of another version.
    """
    folder = Path(folder)
    again = "run the inference again"
    try:
        content = parsed_json(regular_bytes(folder / RESULT_FILE))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} holds no readable {RESULT_FILE} of TumorQuery; {again}.") from error
    if not isinstance(content, dict) or content.get("version") != RESULT_VERSION:
        version = shown(content.get("version") if isinstance(content, dict) else None)
        raise InputError(
            f"The result in {folder} has version {version}, this software reads version {RESULT_VERSION}; {again}."
        )
    result = SavedResult(folder, content)
    try:
        _what_it_reads(result)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, InputError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{folder / RESULT_FILE} is not whole ({reason}); {again}.") from error
    return result


def _what_it_reads(result: SavedResult) -> None:
    """Look up whatever a saved result and the jobs on it read in result.json, and refuse what cannot be."""
    content = result.content
    volumes = [content["estimates"][name]["density"] for name in (result.chosen, *content["estimates"])]
    volumes += [content["outputs"][name] for name in ("density", "core", "whole", "segmentation", "tissue")]
    volumes += [content["outputs"][name] for name in CAVITY_OUTPUTS if name in content["outputs"]]
    transforms = [content["outputs"][name] for name in ("patient_to_atlas", "atlas_to_patient")]
    for names, ending in ((volumes, ".nrrd"), (transforms, ".h5")):
        for name in names:
            # The folder's own files, and such as are written here: ITK reads others less safely.
            if not RESULT_NAMES.fullmatch(name) or not name.endswith(ending):
                raise ValueError(f"{name} is no file of a result")
    made_in = content["database"]
    texts = [content["sha256"][name] for name in volumes + transforms]
    texts += [made_in["atlas"], made_in["atlas_sha256"], content["outputs"]["report"], *content["warnings"]]
    texts.append(made_in.get("solver_version", ""))
    if content["model"] not in content["estimates"]:
        raise ValueError("its model is none of its estimates")
    for name, file in content["outputs"].items():
        if name.startswith("plan_") and file.endswith(".nrrd"):
            texts.append(content["sha256"][file])
            texts.append(content["plan"]["standard"]["title"])
            texts += content["plan"].get("mask_sha256", {}).values()
            PlanChoices(**content["plan"]["choices"])
            if not isinstance(content["plan"]["cavity_ml"], (int, float)):
                raise TypeError("the cavity of its plans has no volume")
    texts += [one[name] for one in content["inputs"] for name in ("role", "sha256")]
    levels = [made_in["threshold_core"], made_in["threshold_whole"]]
    if content["uncertainty"] is not None:
        levels.append(content["uncertainty"]["level"])
    if not all(isinstance(level, float) and 0 < level < 1 for level in levels):
        raise ValueError("a threshold is no density")
    if content["uncertainty"] is not None:
        texts += [content["sha256"][name] for name in UNCERTAINTY_OUTPUTS.values()]
        texts.append(content["estimates"][content["uncertainty"]["model"]]["anatomy"])
        texts.append(content["estimates"]["assimilated"]["density"])
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("what should be text is none")
    for match, parameters in zip(result.matches, result.matched_parameters):
        if type(match.entry) is not int or match.entry < 0:
            raise ValueError(f"{match.entry!r} is no entry of a database")
        if not (0 <= match.dice_core <= 1 and 0 <= match.dice_whole <= 1 and 0 <= match.score <= 2):
            raise ValueError(f"entry {match.entry} has a Dice that there is not")
        if not can_be_grown(parameters.diffusivity, parameters.proliferation, parameters.duration):
            raise ValueError(f"entry {match.entry} has parameters that no simulated tumour has")


def parameters_from_json(described: dict[str, Any]) -> GrowthParameters:
    """Growth parameters as result.json describes them."""
    return GrowthParameters(
        seed=described["seed_mm"],
        diffusivity=described["diffusivity_mm2_per_day"],
        proliferation=described["proliferation_per_day"],
        duration=described["duration_days"],
    )
