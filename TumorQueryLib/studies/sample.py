"""The bundled sample case: a simulated tumour in a simulated MRI, whose true density is known.

`scripts/make_sample.py` makes it; `sample.json` beside the images describes it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.base.resources import resources_folder
from TumorQueryLib.geometry.grid import Volume, read_volume
from TumorQueryLib.geometry.regions import dice

if TYPE_CHECKING:
    from TumorQueryLib.results.result import Result

#: Densities whose isolines are compared.
LEVELS = (0.2, 0.4, 0.6, 0.8)


@dataclass(frozen=True, eq=False)
class Truth:
    """What the sample's tumour really is.

    Parameters
    ----------
    density : Volume
        Tumour cell density on the T1Gd's grid, float32 in [0, 1].
    seed_patient_mm : tuple of float
        Where the tumour began, RAS mm in the patient's space.
    infiltration_length_patient_mm : float
        sqrt(D / rho) in the patient's space.
    rho_t : float
        Proliferation times duration.
    """

    density: Volume
    seed_patient_mm: tuple[float, float, float]
    infiltration_length_patient_mm: float
    rho_t: float


def sample_files() -> dict[str, str | Path]:
    """The sample's files and its label convention, by the names that `Patient.load` gives its arguments.

    Raises
    ------
    InputError
        When the sample is not installed.
    """
    folder = resources_folder() / "SampleData"
    files = {name: folder / f"{name}.nii.gz" for name in ("t1gd", "flair", "segmentation")}
    missing = [path.name for path in files.values() if not path.is_file()]
    if missing:
        raise InputError(f"The sample case in {folder} lacks {', '.join(missing)}; install TumorQuery again.")
    return {**files, "labels": "brats2018"}


def load_truth() -> Truth:
    """The sample's true density and parameters."""
    folder = resources_folder() / "SampleData"
    try:
        about = json.loads((folder / "sample.json").read_text(encoding="utf-8"))["truth"]
        density = read_volume(folder / "density_true.nrrd")
        return Truth(
            density=density,
            seed_patient_mm=tuple(about["seed_patient_mm"]),
            infiltration_length_patient_mm=about["infiltration_length_patient_mm"],
            rho_t=about["rho_t"],
        )
    except (InputError, OSError, ValueError, KeyError) as error:
        raise InputError(f"The truth of the sample case in {folder} is damaged; install TumorQuery again.") from error


def density_agreement(
    density: NDArray[np.floating], truth: NDArray[np.floating], brain: NDArray[np.bool_]
) -> dict[str, float]:
    """How close one density comes to another.

    Parameters
    ----------
    density, truth : ndarray in [0, 1]
        Of one shape.
    brain : ndarray of bool
        Where the mean error is taken.

    Returns
    -------
    dict
        `mean_absolute_error_brain`; `mean_absolute_error_tumour`, where either density
        exceeds 0.01; and `dice_0.2` to `dice_0.8` of what exceeds each of `LEVELS`.
    """
    error = np.abs(np.asarray(density, dtype=float) - truth)
    tumour = (density > 0.01) | (truth > 0.01)
    return {
        "mean_absolute_error_brain": float(error[brain].mean()),
        "mean_absolute_error_tumour": float(error[tumour].mean()) if tumour.any() else 0.0,
        **{f"dice_{level}": float(dice(density > level, truth > level)) for level in LEVELS},
    }


def compare_with_truth(result: Result) -> list[str]:
    """Sentences that say how close the chosen estimate of the sample comes to its truth.

    The result may be on a larger grid, as that of the sample in a painted head.

    Raises
    ------
    InputError
        When the result is not of the sample case.
    """
    truth = load_truth()
    density, known = result.density, truth.density.grid
    first = np.rint(density.grid.to_index(known.to_ras((0, 0, 0)))).astype(int)
    last = first + known.shape
    within = (first >= 0).all() and (last <= density.grid.shape).all()
    if not within or not density.grid.cropped(first, last).matches(known):
        raise InputError("This result is not of the sample case, so there is no truth to compare it with.")
    shown = density.array[tuple(slice(a, b) for a, b in zip(first.tolist(), last.tolist()))]
    brain = read_volume(sample_files()["t1gd"]).array > 0
    figures = density_agreement(shown, truth.density.array, brain)
    estimate = result.model
    parameters = estimate.parameters[0]
    seed = estimate.anatomy.point_in_patient(parameters.seed)
    dices = ", ".join(f"{figures[f'dice_{level}']:.3f} above {level}" for level in LEVELS)
    return [
        f"mean absolute error of the density: {figures['mean_absolute_error_brain']:.4f} in the brain, "
        f"{figures['mean_absolute_error_tumour']:.3f} where there is tumour",
        f"Dice of the density: {dices}",
        f"seed: {np.linalg.norm(seed - truth.seed_patient_mm):.1f} mm from the true one",
        f"infiltration length: {estimate.infiltration_lengths_mm[0]:.2f} mm, "
        f"the true one is {truth.infiltration_length_patient_mm:.2f} mm",
        f"rho T: {parameters.rho_t:.2f}, the true one is {truth.rho_t:.2f}",
    ]
