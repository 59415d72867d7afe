"""Which series of a study are taken for what: nothing that another series could be as well."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.inputs.dicom.headers import shown_text
from TumorQueryLib.inputs.dicom.own_objects import is_ours
from TumorQueryLib.inputs.dicom.series import lost_slices
from TumorQueryLib.inputs.dicom.series_kind import (
    CERTAIN,
    CONTOURS,
    DERIVED,
    EITHER_T1,
    FLAIR,
    SEGMENTATION,
    T1,
    T1GD,
    UNCLEAR,
)
from TumorQueryLib.inputs.dicom.study import Study, StudySeries

#: What stands for a FLAIR or T1 that is to be left out.
NO_SERIES = "none"
#: Words of the roles for sentences, with the option that names a series.
ROLE_NAMES = {"t1gd": "T1Gd", "flair": "FLAIR", "t1": "T1", "segmentation": "segmentation"}


@dataclass(frozen=True, eq=False)
class Choice:
    """What is taken from a study for what.

    Parameters
    ----------
    files : dict
        Role to what `read_image_file` takes: the files of a series, or a path that the user named.
    series : dict
        Role to the series, where it is one of the study's.
    warnings : tuple of str
        What was taken although it is not certain, and what was left out; without names and paths.
    """

    files: dict[str, Any]
    series: dict[str, StudySeries]
    warnings: tuple[str, ...] = ()


def choose_series(
    study: Study,
    *,
    t1gd: str | os.PathLike | None = None,
    flair: str | os.PathLike | None = None,
    t1: str | os.PathLike | None = None,
    segmentation: str | os.PathLike | None = None,
    needs_segmentation: bool = True,
) -> Choice:
    """Take a T1Gd, and as far as there are any FLAIR, T1 and segmentation, from a study.

    Parameters
    ----------
    study : Study
    t1gd, flair, t1, segmentation : optional
        What the user names: the UID of a series, its number where only one has it, or a path; `NO_SERIES`
        leaves FLAIR or T1 out. The others are then taken from the T1Gd's study.
    needs_segmentation : bool
        Whether a segmentation is looked for; not where the user gives masks.

    Raises
    ------
    InputError
        When several series could be meant, or none is known to be the T1Gd; the text names them
        and says what to write. When files beside the slices of one cannot be read.
    """
    given = {"t1gd": t1gd, "flair": flair, "t1": t1, "segmentation": segmentation}
    files: dict[str, Any] = {}
    series: dict[str, StudySeries] = {}
    said: list[str] = []
    doubts: list[str] = []

    def take(role: str, one: StudySeries | Path) -> None:
        if isinstance(one, Path):
            files[role] = one
            return
        series[role] = one
        files[role] = _one_file(one) if one.kind.role in (SEGMENTATION, CONTOURS) else one.files

    for role, value in given.items():
        if value is not None and not (role in ("flair", "t1") and str(value) == NO_SERIES):
            take(role, _named(study, role, value))
    if "t1gd" not in files:
        take("t1gd", _the_t1gd(study, said))
    chosen = series.get("t1gd")
    of_study = [one for one in study.series if chosen is None or one.header.study_uid == chosen.header.study_uid]
    for role, kind in (("flair", FLAIR), ("t1", T1)):
        if role not in files and str(given[role]) != NO_SERIES:
            found = _only(of_study, role, kind, study, said, taken=list(series.values()))
            if found is not None:
                take(role, found)
    if needs_segmentation and "segmentation" not in files:
        series["segmentation"], files["segmentation"] = _the_segmentation(study, of_study, said)
    for role, one in series.items():
        if chosen is not None and one.header.study_uid != chosen.header.study_uid and role != "segmentation":
            said.append(
                f"The {ROLE_NAMES[role]} ({one.name}) is of another study than the T1Gd, "
                f"{_apart(one.date, chosen.date)}."
            )
        if chosen is not None and one.patient != chosen.patient:
            said.append(f"The {ROLE_NAMES[role]} ({one.name}) bears another patient's ID than the T1Gd.")
        if role != "segmentation":
            same_study = chosen is not None and one.header.study_uid == chosen.header.study_uid
            if chosen is not None and same_study and len({one.date, chosen.date} - {""}) > 1:
                apart = _apart(one.date, chosen.date)
                said.append(f"The {ROLE_NAMES[role]} ({one.name}) is of the T1Gd's study and of another day, {apart}.")
            beside = [path for other in study.series if other is not one for path in other.files]
            found_lost = lost_slices(one.files, beside, study.broken, ROLE_NAMES[role])
            doubts = doubts or found_lost
    return Choice(files, series, (*said, *doubts))


def _the_t1gd(study: Study, said: list[str]) -> StudySeries:
    """The one series that can be the T1Gd."""
    found = [one for one in study.series if one.kind.role == T1GD and one.kind.confidence != UNCLEAR]
    unclear = [one for one in study.series if one.kind.role in (T1GD, EITHER_T1) and one not in found]
    studies = {one.header.study_uid for one in (*found, *unclear)}
    how = "name the one that is meant with --t1gd UID (or its number)"
    if len(studies) > 1:
        raise InputError(
            f"The folder {study.folder} holds {len(studies)} studies with a series that may be the T1Gd: "
            f"{_listed([*found, *unclear])}; {how}, which settles the study."
        )
    if len(found) > 1:
        raise InputError(
            f"The study in {study.folder} holds {len(found)} series that may be the T1Gd: {_listed(found)}; {how}."
        )
    if not found:
        derived = [one for one in study.series if one.kind.role == DERIVED and " of a T1" in one.kind.why]
        plain = [one for one in study.series if one.kind.role == T1]
        candidates = unclear or derived or plain
        listed = f"it may be one of {_listed(candidates)}; {how}" if candidates else "give it with --t1gd F"
        raise InputError(f"No series in {study.folder} is known to be a T1 with contrast; {listed}.")
    (one,) = found
    if one.kind.confidence != CERTAIN:
        if unclear:
            raise InputError(
                f"The study in {study.folder} holds {len(unclear) + 1} series that may be the T1Gd: "
                f"{_listed([one, *unclear])}; {how}."
            )
        said.append(f"{_capital(one.name)} was taken for the T1Gd, which is likely and not certain: {one.kind.why}.")
    if unclear:
        said.append(
            f"{_capital(_names(unclear))} may be T1 with or without contrast and "
            f"{'was' if len(unclear) == 1 else 'were'} left out; {one.name} is the only one known to be a T1Gd."
        )
    return one


def _only(
    series: Sequence[StudySeries],
    role: str,
    kind: str,
    study: Study,
    said: list[str],
    *,
    taken: Sequence[StudySeries],
) -> StudySeries | None:
    """The one series of a kind; None where there is none that is not already taken."""
    found = [one for one in series if one.kind.role == kind and one not in taken]
    unclear = [one for one in found if one.kind.confidence == UNCLEAR]
    found = [one for one in found if one not in unclear]
    if len(found) > 1:
        raise InputError(
            f"The study in {study.folder} holds {len(found)} series that may be the {ROLE_NAMES[role]}: "
            f"{_listed(found)}; name the one that is meant with --{role} UID (or its number), or leave it out "
            f"with --{role} {NO_SERIES}."
        )
    if unclear:
        said.append(
            f"{_capital(_names(unclear))} may be {ROLE_NAMES[role]} and {'was' if len(unclear) == 1 else 'were'} left "
            f"out (--{role} takes it): {unclear[0].kind.why}."
        )
    if not found:
        return None
    (one,) = found
    if one.kind.confidence != CERTAIN:
        said.append(
            f"{_capital(one.name)} was taken for the {ROLE_NAMES[role]}, which is likely and not certain: "
            f"{one.kind.why}."
        )
    return one


def _one_file(series: StudySeries) -> Path:
    """The file of a segmentation that is named by its series."""
    if len(series.files) > 1:
        raise InputError(
            f"The segmentation, {series.described}, has {len(series.files)} files, such as {series.files[0]}; name the "
            "file that is meant with --segmentation F."
        )
    return series.files[0]


def _the_segmentation(study: Study, of_study: Sequence[StudySeries], said: list[str]) -> tuple[StudySeries, Path]:
    """The one file with a segmentation or contours, and its series; what a result was exported to is none."""
    drawn = [(one, path) for one in study.series if one.kind.role in (SEGMENTATION, CONTOURS) for path in one.files]
    exported = [path for _, path in drawn if is_ours(path)]

    def files(series: Sequence[StudySeries]) -> list[tuple[StudySeries, Path]]:
        return [(one, path) for one, path in drawn if one in series and path not in exported]

    frames = {one.frame_of_reference for one in of_study if one.kind.role not in (SEGMENTATION, CONTOURS)} - {""}
    # Some tools put what was drawn into a study of its own, in the images' frame of reference.
    found = files(of_study) or files([one for one in study.series if one.frame_of_reference in frames])
    if not found:
        but = f" but what TumorQuery exported itself, such as {exported[0]}" if exported else ""
        raise InputError(
            f"The study in {study.folder} holds no segmentation of the tumour (SEG or RTSTRUCT){but}; give one with "
            "--segmentation F, or masks with --core and --whole."
        )
    if exported:
        said.append(
            f"{len(exported)} segmentation{'s' * (len(exported) > 1)} or contours that TumorQuery exported itself "
            f"{'were' if len(exported) > 1 else 'was'} left out (--segmentation F takes one)."
        )
    if len(found) > 1:
        listed = ", ".join(f"{one.name} in {path}" for one, path in found[:6]) + (", ..." if len(found) > 6 else "")
        raise InputError(
            f"The study in {study.folder} holds {len(found)} segmentations: {listed}; name the file that is meant with "
            "--segmentation F."
        )
    return found[0]


def _named(study: Study, role: str, value: str | os.PathLike) -> StudySeries | Path:
    """What a user names for a role: a series of the study, or a path beyond it."""
    text = os.fspath(value)
    found = [one for one in study.series if one.header.uid == text]
    if not found and text.isdigit():
        found = [one for one in study.series if str(one.header.number) == text]
    path = Path(text)
    if not found and os.path.exists(path):
        if role == "segmentation":
            return path
        real = path.resolve()
        within = [
            one
            for one in study.series
            if any(real == file or real in file.parents for file in (file.resolve() for file in one.files))
        ]
        # A folder beside other kinds of series is what `read_image_file` makes of it.
        found = within if len(within) == 1 else [one for one in within if one.kind.role in (T1GD, T1, EITHER_T1, FLAIR)]
        if not found:
            return path
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            f"The {ROLE_NAMES[role]} {shown_text(text)} can be {_listed(found)} in {study.folder}; name its UID."
        )
    raise InputError(
        f"The {ROLE_NAMES[role]} {shown_text(text)} is neither a file nor the UID or number of a series in "
        f"{study.folder}; 'tumorquery study' shows what there is."
    )


def _apart(date: str, reference: str) -> str:
    """How far one day lies from another, both YYYYMMDD, without naming them: warnings go into results."""
    try:
        days = (datetime.strptime(date, "%Y%m%d") - datetime.strptime(reference, "%Y%m%d")).days
    except ValueError:
        return "how many days apart is not known"
    if not days:
        return "of the same day"
    return f"{abs(days)} day{'s' * (abs(days) > 1)} {'later' if days > 0 else 'earlier'}"


def _names(series: Sequence[StudySeries]) -> str:
    return " and ".join(one.name for one in series)


def _listed(series: Sequence[StudySeries]) -> str:
    return ", ".join(one.described for one in series[:6]) + (f" and {len(series) - 6} more" if len(series) > 6 else "")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
