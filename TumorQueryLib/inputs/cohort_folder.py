"""Patients in a folder: a BIDS dataset, BraTS' folders, or a folder of DICOM studies.

Roles are told by the names that the standard or the challenge gives its files, never by
what the images look like. The names of a generation of BraTS say what its labels mean;
where a name was given to two sets of labels, the column `labels` stays empty.
"""

from __future__ import annotations

import csv
import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from TumorQueryLib.base.errors import InputError, OutputError
from TumorQueryLib.base.files import made_folder, output_errors, replaced_file
from TumorQueryLib.base.progress import Progress, no_progress, part
from TumorQueryLib.inputs.checks import ClosedFolderError, entries_of, refuse_closed, walked
from TumorQueryLib.inputs.cohort_file import (
    COHORT_FILE,
    COLUMNS,
    CONTROL_CATEGORIES,
    LONGEST_NAME,
    UNSEEN_CATEGORIES,
    folded,
    wrong_name,
)
from TumorQueryLib.inputs.dicom.choice import choose_series
from TumorQueryLib.inputs.dicom.study import Study, read_study
from TumorQueryLib.inputs.dicom.study_table import choice_as_text

#: Folders with more files than this are looked through no further.
MOST_FILES = 500_000
ACCEPTED = (
    "accepted are a BIDS dataset (sub-*/anat), BraTS' folders (such as BraTS-GLI-00000-000-t1c.nii.gz) and a folder "
    "with a folder of DICOM files for each patient"
)
NIFTI = (".nii.gz", ".nii")


@dataclass
class FoundCohort:
    """Patients that were found in a folder.

    Parameters
    ----------
    kind : str
        What the folder is.
    rows : list of dict
        Columns of a cohort file, paths absolute.
    said : list of str
        What the user has to know: labels that are implied, files that were left out.
    closed : list of Path
        Folders that may not be read and were left out; `find_patients` says so too.
    """

    kind: str
    rows: list[dict[str, str]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    closed: list[Path] = field(default_factory=list)


def find_patients(folder: str | os.PathLike, *, progress: Progress = no_progress) -> FoundCohort:
    """Find patients in a folder.

    Raises
    ------
    InputError
        When there is no such folder, or nothing in it that is known.
    """
    folder = Path(os.path.abspath(folder))
    if not os.path.isdir(folder):
        raise InputError(f"There is no folder {folder}; {ACCEPTED}.")
    entries_of(folder, refuse_closed)
    for find in (_bids, _brats):
        found = find(folder)
        if found.rows or found.said:
            break
    else:
        found = _dicom(folder, progress)
    found.said += [f"{one} may not be read, so what is in it was left out." for one in dict.fromkeys(found.closed)]
    if not found.rows:
        why = f" ({found.kind}): {' '.join(found.said[:3])}" if found.said else ""
        raise InputError(f"No patients were found in {folder}{why or f'; {ACCEPTED}.'}")
    _leave_out_paths_of_no_cell(found)
    if not found.rows:
        raise InputError(f"No patients were found in {folder}: {' '.join(found.said[-3:])}")
    _give_names(found.rows)
    if found.kind != DICOM_STUDIES:
        bare = [row["patient"] for row in found.rows if not {"segmentation", "whole"} & set(row)]
        if bare:
            found.said.append(
                f"{_some(bare, 'patients')} without segmentation: fill in segmentation or core and whole."
            )
        open_labels = [row["patient"] for row in found.rows if "segmentation" in row and "labels" not in row]
        if open_labels:
            found.said.append(
                f"{_some(open_labels, 'patients')} with a segmentation whose names do not say what its labels mean: "
                "fill in the column labels."
            )
    return found


def write_cohort_file(found: FoundCohort, out: str | os.PathLike) -> Path:
    """Write the patients into `out`/cohort.csv; returns its path.

    Raises
    ------
    OutputError
        When it cannot be written, or would replace a file of other content, which may have been filled in.
    """
    out = Path(out)
    path = out / COHORT_FILE
    columns = [column for column in COLUMNS if any(column in row for row in found.rows)]
    if "labels" not in columns and any("segmentation" in row for row in found.rows):
        columns.append("labels")
    with made_folder(out), output_errors(path), replaced_file(path) as aside:
        with open(aside, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(found.rows)
        if path.exists() and path.read_bytes() != aside.read_bytes():
            raise OutputError(
                f"{path} is there already with other content, which may have been filled in by hand; give that file "
                "instead of the folder, remove it, or name another --out."
            )
    return path


def _some(names: Sequence[str], what: str) -> str:
    shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    return f"{len(names)} {what if len(names) != 1 else what[:-1]} ({shown})"


def _give_names(rows: list[dict[str, str]]) -> None:
    """Make the patients' names such that they can be folders, and unique."""
    unseen = (*CONTROL_CATEGORIES, *UNSEEN_CATEGORIES)
    taken: set[str] = set()
    for row in rows:
        name = "".join("/" if unicodedata.category(one) in unseen else one for one in row["patient"])
        name = re.sub(r'[/\\:*?"<>|]+', "_", name)
        name = re.sub(r"^[\s.=+\-@]+|[\s.]+$", "", name) or "patient"
        unique, number = _cut(name, ""), 1
        if wrong_name(unique):
            name = f"patient_{name}"
            unique = _cut(name, "")
        while folded(unique) in taken:
            number += 1
            unique = _cut(name, f"_{number}")
        taken.add(folded(unique))
        row["patient"] = unique


def _cut(name: str, ending: str) -> str:
    """A name with an ending, of no more bytes than a patient's name may have."""
    kept = name.encode("utf-8")[: LONGEST_NAME - len(ending)].decode("utf-8", "ignore")
    return kept.rstrip(". ") + ending


def _leave_out_paths_of_no_cell(found: FoundCohort) -> None:
    """Leave out, and say, patients whose files have names that no cohort file holds."""
    for row in list(found.rows):
        if any(unicodedata.category(one) in CONTROL_CATEGORIES for value in row.values() for one in value):
            found.rows.remove(row)
            found.said.append(
                f"{row['patient']!r}: the names of its files or folders hold a line break or another control "
                "character, so it was left out; rename them."
            )


# BIDS


#: What a mask is of, by its entities label and desc.
BIDS_MASKS = {
    "brain_mask": {"brain", "brainmask"},
    "core": {"core", "tc", "tumorcore", "tumourcore"},
    "whole": {"whole", "wt", "wholetumor", "wholetumour"},
}
#: Spaces in which a mask lies on the patient's own images.
BIDS_SPACES = {"", "orig", "individual", "native", "scanner", "subject", "t1w", "flair", "t1gd", "cet1w", "t1wce"}
#: Pipelines whose `dseg` is of tissue or of the parts of the brain.
TISSUE_PIPELINES = re.compile(r"fmriprep|smriprep|nibabies|freesurfer|fastsurfer|cat12|qsiprep", re.IGNORECASE)


def _entities(path: Path) -> tuple[dict[str, str], str]:
    """Entities and suffix of a BIDS name."""
    stem = path.name
    for ending in NIFTI:
        stem = stem.removesuffix(ending)
    *pairs, suffix = stem.split("_")
    return {key: value for key, dash, value in (pair.partition("-") for pair in pairs) if dash}, suffix


def _bids(folder: Path) -> FoundCohort:
    """Patients of a BIDS dataset, one for each session."""
    found = FoundCohort("BIDS dataset")
    for subject in (
        one for one in entries_of(folder, found.closed.append) if one.match("sub-*") and _is_folder(one, found)
    ):
        below = entries_of(subject, found.closed.append)
        sessions = [one for one in below if one.match("ses-*") and _is_folder(one, found)]
        for place in [subject, *sessions] if below else []:
            anat = place / "anat"
            if _is_folder(anat, found):
                session = place.name if place != subject else ""
                _bids_patient(folder, subject.name, session, anat, len(sessions) == 1, found)
    return found


def _bids_patient(folder: Path, subject: str, session: str, anat: Path, only_session: bool, found: FoundCohort) -> None:
    """One session of one subject."""
    name = "_".join(filter(None, (subject, session)))
    files: dict[str, list[Path]] = {}
    for path in _images_in(anat, found):
        entities, suffix = _entities(path)
        if suffix == "T1w":
            files.setdefault("t1gd" if "ce" in entities else "t1", []).append(path)
        elif suffix == "FLAIR":
            files.setdefault("flair", []).append(path)
    row = {"patient": name}
    places = [anat]
    derivatives = folder / "derivatives"
    pipelines = entries_of(derivatives, found.closed.append) if _is_folder(derivatives, found) else []
    for base in [derivatives, *pipelines]:
        for below in [base / subject / session / "anat"] + ([base / subject / "anat"] if only_session else []):
            if below not in places and _is_folder(below, found):
                places.append(below)
    on_flair = set()
    for path in (path for place in places for path in _images_in(place, found)):
        role = _bids_mask(path, folder, name, found)
        if role is not None:
            files.setdefault(role, []).append(path)
            if _entities(path)[0].get("space", "").lower() == "flair":
                on_flair.add(path)
    for role, paths in files.items():
        if len(paths) > 1:
            listed = ", ".join(str(path.relative_to(folder)) for path in paths[:4])
            found.said.append(f"{name}: {len(paths)} files may be {role} ({listed}); none was taken.")
        else:
            row[role] = str(paths[0])
    if "segmentation" in row and {"core", "whole"} & set(row):
        found.said.append(f"{name}: there are masks of core or whole tumour, so its segmentation was left out.")
        del row["segmentation"]
    drawn = {Path(row[role]) for role in ("segmentation", "core", "whole") if role in row}
    if drawn and drawn <= on_flair:
        row["segmentation_on"] = "flair"
    if "t1gd" in row:
        found.rows.append(row)
    elif len(files.get("t1gd", ())) < 2:
        found.said.append(f"{name}: no T1w with the entity ce (such as ce-gadolinium), so it was left out.")


def _bids_mask(path: Path, folder: Path, name: str, found: FoundCohort) -> str | None:
    """The role of a segmentation or mask of BIDS; None for other files."""
    entities, suffix = _entities(path)
    if suffix not in ("dseg", "mask"):
        return None
    if entities.get("space", "").lower() not in BIDS_SPACES:
        found.said.append(f"{name}: {path.name} lies in another space ({entities['space']}); it was left out.")
        return None
    told = {entities.get(key, "").lower() for key in ("label", "desc")} - {""}
    if suffix == "dseg":
        if TISSUE_PIPELINES.search(path.relative_to(folder).as_posix()) or any(
            word.startswith(("aseg", "aparc")) for word in told
        ):
            return None
        return "segmentation"
    for role, words in BIDS_MASKS.items():
        if told & words:
            return role
    found.said.append(
        f"{name}: {path.name} does not say whether it is the core or the whole tumour (label-core, label-whole); it "
        "was left out."
    )
    return None


def _images_in(folder: Path, found: FoundCohort) -> list[Path]:
    return [
        path for path in entries_of(folder, found.closed.append) if path.name.endswith(NIFTI) and os.path.isfile(path)
    ]


def _is_folder(path: Path, found: FoundCohort) -> bool:
    """Whether there is such a folder; where that may not be looked up, it is said."""
    try:
        return path.is_dir()
    except PermissionError:
        found.closed.append(path)
        return False


# BraTS


@dataclass(frozen=True)
class Generation:
    """Names of the files of some years of BraTS, and what their labels mean.

    Parameters
    ----------
    name : str
    pattern : re.Pattern
        With the groups `role` and, where the file names its patient, `patient`.
    labels : str, optional
        None where files of one name were given different labels.
    remark : str
        Why the labels are these, or left open.
    """

    name: str
    pattern: re.Pattern[str]
    labels: str | None
    remark: str = ""


def _nifti_names(patient: str, joint: str, roles: str) -> re.Pattern[str]:
    return re.compile(rf"(?P<patient>{patient}){joint}(?P<role>{roles})\.nii(?:\.gz)?", re.IGNORECASE)


_OLD, _NEW = "t1ce|t1|t2|flair|seg", "t1c|t1n|t2w|t2f|seg"
GENERATIONS = (
    Generation(
        "BraTS 2013-2016",
        re.compile(r"VSD\.Brain.*?\.(?:MR_)?(?P<role>T1c|T1|T2|Flair|OT)(?:\.[^/]*)?\.mha", re.IGNORECASE),
        "brats2013",
    ),
    Generation(
        "BraTS 2012",
        re.compile(r"(?P<patient>(?:Sim)?BRATS_[HL]G\d+)_(?P<role>T1C|T1|T2|FLAIR|truth)\.mha", re.IGNORECASE),
        None,
        "the year's labels are none of the named conventions",
    ),
    Generation("BraTS 2017-2019", _nifti_names(r"Brats1[789]_\w+?", "_", _OLD), "brats2018"),
    Generation("BraTS 2020", _nifti_names(r"BraTS20_\w+?_\d+", "_", _OLD), "brats2018"),
    Generation("BraTS 2021", _nifti_names(r"BraTS2021_\d+", "_", _OLD), "brats2018"),
    Generation(
        "BraTS-GLI",
        _nifti_names(r"BraTS-GLI-\d+(?:-\d+)?", "-", _NEW),
        "brats2024",
        "of 2023 and of after treatment alike, which mean the same by 1 to 3, and by 4 the resection cavity",
    ),
    Generation("BraTS-SSA", _nifti_names(r"BraTS-SSA-\d+(?:-\d+)?", "-", _NEW), "brats2023"),
    Generation(
        "BraTS-PED",
        _nifti_names(r"BraTS-PEDs?-\d+(?:-\d+)?", "-", _NEW),
        None,
        "the numbers were changed between the years",
    ),
    Generation(
        "BraTS of other tumours",
        _nifti_names(r"BraTS-[a-z]+(?:-RT)?-\d+(?:-\d+)?", "[-_]", _NEW),
        None,
        "the growth model is one of gliomas",
    ),
)
BRATS_ROLES = {
    "t1c": "t1gd", "t1ce": "t1gd", "t1": "t1", "t1n": "t1", "flair": "flair", "t2f": "flair",
    "seg": "segmentation", "ot": "segmentation", "truth": "segmentation",
}  # fmt: skip


def _brats(folder: Path) -> FoundCohort:
    """Patients in BraTS' folders."""
    patients: dict[tuple[str, str], dict[str, list[Path]]] = {}
    generations: dict[str, Generation] = {}
    closed: list[Path] = []
    for path in _files_below(folder, closed):
        for generation in GENERATIONS:
            match = generation.pattern.fullmatch(path.name)
            if match is None:
                continue
            role = BRATS_ROLES.get(match["role"].lower())
            patient = match.groupdict().get("patient") or _folder_of_patient(path, folder)
            if role is not None:
                patients.setdefault((generation.name, patient), {}).setdefault(role, []).append(path)
                generations[generation.name] = generation
            break
    found = FoundCohort(" and ".join(generations), closed=closed)
    for (name, patient), files in sorted(patients.items()):
        row = {"patient": patient}
        for role, paths in files.items():
            # The same file unpacked and packed, or in two folders.
            if len({path.name.removesuffix(".gz") for path in paths}) > 1:
                found.said.append(f"{patient}: {len(paths)} files may be {role}; none was taken.")
                continue
            if len(paths) > 1:
                found.said.append(f"{patient}: {len(paths)} files are its {role}; {paths[0]} was taken.")
            row[role] = str(paths[0])
        if "t1gd" not in row:
            found.said.append(f"{patient}: no T1 with contrast, so it was left out.")
            continue
        labels = generations[name].labels
        if labels is not None and "segmentation" in row:
            row["labels"] = labels
        found.rows.append(row)
    for generation in generations.values():
        why = f" ({generation.remark})" if generation.remark else ""
        meant = f"labels mean {generation.labels}" if generation.labels else "labels are left open"
        found.said.append(f"By the names of {generation.name} their {meant}{why}; the CSV file can say otherwise.")
    return found


def _folder_of_patient(path: Path, folder: Path) -> str:
    """The folders above a file that are not of one image only, as a name."""
    parts = [part for part in path.parent.relative_to(folder).parts if not part.upper().startswith("VSD.")]
    return "_".join(parts) or folder.name


def _files_below(folder: Path, closed: list[Path]) -> Iterator[Path]:
    """The files in a folder and below it, in order; folders that may not be read are added to `closed`."""
    count = 0
    for below, names in walked(folder, closed.append):
        for name in names:
            count += 1
            if count > MOST_FILES:
                raise InputError(f"The folder {folder} holds more than {MOST_FILES:,} files; name a smaller one.")
            yield below / name


# DICOM


DICOM_STUDIES = "folder of DICOM studies"


def _dicom(folder: Path, progress: Progress) -> FoundCohort:
    """Patients as folders of DICOM studies."""
    found = FoundCohort(DICOM_STUDIES)
    visible = [one for one in entries_of(folder, refuse_closed) if not one.name.startswith(".")]
    below = [one for one in visible if _is_folder(one, found)]
    seen: dict[str, str] = {}
    for number, place in enumerate(below):
        try:
            study = read_study(place, progress=part(progress, number / len(below), (number + 1) / len(below)))
        except ClosedFolderError as error:
            found.closed.append(error.folder)
            continue
        except InputError:
            found.said.append(f"{place.name}: no DICOM series, so it was left out.")
            continue
        for uid in {one.header.study_uid for one in study.series} - {""}:
            if uid in seen:
                raise InputError(
                    f"The folders {seen[uid]} and {place.name} in {folder} hold series of one study, so they are not "
                    "one patient each; give the folder above the patients' folders, or this one to 'tumorquery infer "
                    "--study'."
                )
            seen[uid] = place.name
        found.rows.append({"patient": place.name, "study": str(place)})
        found.said.append(f"{place.name}: {_taken_of(study)}")
    if not found.rows:
        found.said.clear()
    return found


def _taken_of(study: Study) -> str:
    """What would be taken from a patient's study, or why it has to be named."""
    try:
        choice = choose_series(study)
    except InputError as error:
        return str(error)
    return " ".join([choice_as_text(choice), *choice.warnings])
