"""The folder of a result: whole at any moment, and never over a file that no run wrote.

A result is written into a hidden folder of its own inside the target. At the end the files of an
earlier result move into a second hidden folder, result.json first, and the new ones take their
place, result.json last. What a killed process left of that is finished by the next run.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from TumorQueryLib.base.errors import OutputError
from TumorQueryLib.base.files import (
    HIDDEN_PREFIX,
    hidden_folder,
    interrupts_held,
    leftover_folders,
    locked_folder,
    made_folder,
    move_files,
    output_errors,
    parsed_json,
    regular_bytes,
    write_json,
)

RESULT_FILE = "result.json"
#: Where `infer --dicom` writes, inside a result's folder; and the files of an export by what they are.
EXPORT_FOLDER = "dicom_export"
EXPORT_FILES = {
    "segmentation": "segmentation.dcm",
    "density": "density.dcm",
    "density_sd": "density_sd.dcm",
    "structures": "structures.dcm",
}
#: Files that file managers leave in a folder that they showed.
LEFT_BY_VIEWERS = (".DS_Store", "Thumbs.db", "desktop.ini")
_EARLIER = "earlier"  # where the earlier result goes, inside the stage
_ADDED = "added"  # stands in a stage whose files only have to be moved beside an earlier result's
#: Names that a result may write, whatever was asked for.
RESULT_NAMES = re.compile(
    r"result\.json|density(_\w+)?\.nrrd|(core|whole|brain|cavity|segmentation|tissue)\.nrrd|report\.png"
    r"|refinement\.(csv|png)|(patient_to_atlas|atlas_to_patient)\.h5|density_draws\.npz"
    r"|plan(_\w+)?\.(nrrd|json|png)|match_\d+|dicom_export",
    re.IGNORECASE,
)

#: Folders that are made of a result and go with it: matches that were shown, and its DICOM objects.
MADE_BESIDE = re.compile(rf"match_\d+|{EXPORT_FOLDER}", re.IGNORECASE)
#: Those of plans, which are added to a result and replaced in it.
PLAN_FILE = re.compile(r"plan(_\w+)?\.(nrrd|json|png)", re.IGNORECASE)


@contextmanager
def result_folder(target: str | os.PathLike, *, inputs: Iterable[str | os.PathLike] = ()) -> Iterator[Path]:
    """A folder to write a result into; it takes the place of an earlier result in `target` when the block ends well.

    When the block raises, an earlier result is what it was and nothing of the new one is left. All
    that can be refused is refused before the block.

    Parameters
    ----------
    target : path
        Made where it does not exist; files of other names in it stay.
    inputs : iterable of path
        Files that the run reads; none of them may lie in `target`, or in its folders of matches and DICOM objects.

    Raises
    ------
    OutputError
        When `target` holds an input, or a file of a result's name that no run wrote, or cannot be written.
    """
    target = Path(target)
    # With an earlier result the folders beside it go that were made of it.
    for place in (target, *(path for path in _entries(target) if MADE_BESIDE.fullmatch(path.name))):
        _refuse_inputs(place, inputs)
    with made_folder(target), hidden_folder(target) as stage:
        with output_errors(target), locked_folder(target):
            for leftover in leftover_folders(target):
                _finish(leftover, target)
            _refuse_foreign_files(target)
        yield stage
        with output_errors(target), interrupts_held("the result was written before"), locked_folder(target):
            _swap(stage, target)


@contextmanager
def added_to_result(target: Path, content: Mapping[str, Any]) -> Iterator[Path]:
    """A folder to write further files of an earlier result into, and its result.json as it is with them.

    They move beside the others when the block ends well, result.json last. Of the files that the new result.json no
    longer names none is left, nor of the DICOM objects of the result as it was. When the block raises, the earlier
    result is what it was.

    Parameters
    ----------
    target : path
    content : dict
        What result.json holds there now.

    Raises
    ------
    OutputError
        When `target` holds a file of a result's name that no run wrote, or another result by now, or cannot be written.
    """
    with hidden_folder(target) as stage:
        with output_errors(target), locked_folder(target):
            for leftover in leftover_folders(target):
                _finish(leftover, target)
            _refuse_foreign_files(target)
        yield stage
        with output_errors(target), interrupts_held("the files were written before"), locked_folder(target):
            if _content_of(target / RESULT_FILE) != content:
                raise OutputError(f"The result in {target} was replaced meanwhile; do this again on the new one.")
            files = [path.name for path, _ in _moves_in(stage, target)]
            write_json({"content": content, "files": files}, stage / _ADDED)
            _add(stage, target)


def finish_leftovers(target: Path) -> None:
    """Bring to an end what killed runs left in a folder, as far as it can be written; for whoever reads a result."""
    with suppress(OSError), locked_folder(target):
        for leftover in leftover_folders(target):
            _finish(leftover, target)


def remove_leftovers(target: Path) -> None:
    """Bring to an end what killed runs left in a folder; a folder that holds nothing else goes too."""
    finish_leftovers(target)
    with suppress(OSError):
        target.rmdir()


def written_by_a_run(folder: Path) -> list[Path]:
    """Files and folders of the result in a folder, result.json first; none where there is no result of ours."""
    names = _names_of(folder)
    if not names:
        return []
    return [folder / name for name in [*names, *_made_beside(folder)] if (folder / name).exists()]


def _made_beside(folder: Path) -> list[str]:
    """Those of the folders `MADE_BESIDE` a result that hold nothing else."""
    shown = [path.name for path in folder.glob("match_*") if _holds_a_match(path)]
    return [*shown, EXPORT_FOLDER] if _holds_an_export(folder / EXPORT_FOLDER) else shown


def _holds_an_export(folder: Path) -> bool:
    """Whether a folder is what an export leaves in a result's folder, and nobody else's."""
    if not _holds_only(folder, EXPORT_FILES.values()):
        return False
    # Here, since the command line imports this module for each of its commands.
    from TumorQueryLib.inputs.dicom.own_objects import is_ours

    return all(is_ours(one) for name in EXPORT_FILES.values() if os.path.lexists(one := folder / name))


def _entries(folder: Path) -> list[Path]:
    """What is in a folder; nothing where there is none, or none that may be read."""
    with suppress(OSError):
        return list(folder.iterdir())
    return []


def _names_of(folder: Path) -> list[str]:
    """The files that the result.json in a folder names, itself first; none where it is none of ours."""
    try:
        content = parsed_json(regular_bytes(folder / RESULT_FILE))
        listed = [str(name) for name in content["outputs"].values()]
        ours = content["software"]["name"] == "TumorQuery"
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return []
    return [RESULT_FILE, *(name for name in listed if RESULT_NAMES.fullmatch(name))] if ours else []


def _holds_a_match(folder: Path) -> bool:
    """Whether a folder is what the job "match" leaves beside a result, ended or killed, and nobody else's."""
    return re.fullmatch(r"match_\d+", folder.name) is not None and _holds_only(folder, ["density.nrrd"])


def _holds_only(folder: Path, names: Iterable[str]) -> bool:
    """Whether there is a folder that holds no other files than these."""
    if not folder.is_dir() or folder.is_symlink():
        return False
    held = {path.name for path in folder.iterdir() if not path.name.startswith(HIDDEN_PREFIX)}
    return held <= {*names, *LEFT_BY_VIEWERS}


def refuse_inputs_in_export(target: str | os.PathLike, inputs: Iterable[str | os.PathLike]) -> None:
    """Refuse to add to a result what is made of its own DICOM objects: those go with what is added.

    Raises
    ------
    OutputError
    """
    _refuse_inputs(Path(target, EXPORT_FOLDER), inputs)


def _refuse_inputs(target: Path, inputs: Iterable[str | os.PathLike]) -> None:
    for name in inputs:
        file = Path(name)
        try:
            inside = file.exists() and (os.path.samefile(file.parent, target) or os.path.samefile(file, target))
            real = file.exists() and os.path.samefile(file.resolve().parent, target)
        except OSError:
            continue
        if inside or real:
            raise OutputError(
                f"The output folder {target} holds {file.name}, which is an input of this run, and results never "
                "lie among the files that they were made from; name another folder."
            )


def _refuse_foreign_files(target: Path) -> None:
    ours = set(written_by_a_run(target))
    foreign = sorted(path.name for path in target.iterdir() if RESULT_NAMES.fullmatch(path.name) and path not in ours)
    if foreign:
        raise OutputError(
            f"The output folder {target} holds {', '.join(foreign[:4])}, which no run of TumorQuery wrote, and a "
            "result would replace it; name another folder, or move that away."
        )
    links = sorted(path.name for path in ours if path.is_symlink())
    if links:
        raise OutputError(
            f"{', '.join(links[:4])} in the output folder {target} is a link to a file elsewhere, and a result would "
            "replace the link; name another folder, or put the file itself in its place."
        )


def _swap(stage: Path, target: Path) -> None:
    """Put the files of `stage` in the place of the earlier result, which goes as soon as the new one stands."""
    aside = stage / _EARLIER
    aside.mkdir()
    move_files([(path, aside / path.name) for path in written_by_a_run(target)] + _moves_in(stage, target))


def _add(stage: Path, target: Path) -> None:
    """Move the files of `stage` beside those of the result in `target`; can be gone on with where it was cut off.

    The result's files that go are moved aside first, but for result.json, by which a cut is known.
    """
    aside = stage / _EARLIER
    aside.mkdir(exist_ok=True)
    coming = _moves_in(stage, target)
    going = {place.name for _, place in coming} - {RESULT_FILE} | set(_names_of(target)) - set(_names_of(stage))
    if _holds_an_export(target / EXPORT_FOLDER):
        # Its objects hold what was there before.
        going.add(EXPORT_FOLDER)
    leaving = [(target / name, aside / name) for name in sorted(going) if (target / name).exists()]
    move_files(leaving + coming)


def _go_on_adding(told: Mapping[str, Any], leftover: Path, target: Path) -> None:
    """Finish what a killed `_add` left; where the result was replaced meanwhile, take back what it had moved.

    `told` was written down before the first move.
    """
    if _content_of(target / RESULT_FILE) == told["content"]:
        _add(leftover, target)
        return
    for name in set(told["files"]) - set(_names_of(target)):
        if RESULT_NAMES.fullmatch(name) and not (leftover / name).exists():
            (target / name).unlink(missing_ok=True)


def _content_of(file: Path) -> Any:
    """What a JSON file holds; None where there is no readable one."""
    try:
        return parsed_json(regular_bytes(file))
    except (OSError, ValueError):
        return None


def _moves_in(stage: Path, target: Path) -> list[tuple[Path, Path]]:
    """The moves of a stage's files into the folder, result.json last, since it says that the rest is there."""
    files = [path for path in stage.iterdir() if path.is_file() and not path.name.startswith((".", _ADDED))]
    ordered = sorted(files, key=lambda path: (path.name == RESULT_FILE, path.name))
    return [(path, target / path.name) for path in ordered]


def _finish(leftover: Path, target: Path) -> None:
    """Bring to an end what a killed run left: a swap that had begun is finished, anything else is removed."""
    earlier = leftover / _EARLIER
    told = _content_of(leftover / _ADDED)
    if told is not None and (leftover / RESULT_FILE).exists():
        _go_on_adding(told, leftover, target)
    elif earlier.is_dir() and (leftover / RESULT_FILE).exists() and not (target / RESULT_FILE).exists():
        # The new result was whole, and the earlier one is on its way out.
        for name in [*_names_of(earlier), *_made_beside(target)]:
            if (target / name).exists() and not (earlier / name).exists():
                os.replace(target / name, earlier / name)
        for move in _moves_in(leftover, target):
            os.replace(*move)
    shutil.rmtree(leftover, ignore_errors=True)
