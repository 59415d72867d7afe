"""What a study folder holds, for people and as JSON; no name and no ID of a patient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.inputs.dicom.choice import ROLE_NAMES, Choice, choose_series
from TumorQueryLib.inputs.dicom.headers import shown_text
from TumorQueryLib.inputs.dicom.series import NOT_READ
from TumorQueryLib.inputs.dicom.study import Study, shown_date


def describe_study(study: Study) -> dict[str, Any]:
    """What a study folder holds, for JSON: the series by study, and what would be taken; no name or ID of a patient."""
    studies: dict[str, dict[str, Any]] = {}
    for one in study.series:
        header = one.header
        entry = studies.setdefault(
            header.study_uid, {"uid": header.study_uid, "date": shown_date(one.date), "series": []}
        )
        entry["series"].append(
            {
                "uid": header.uid,
                "number": header.number,
                "description": shown_text(header.description, 200),
                "date": shown_date(one.date),
                "plane": header.plane or None,
                "images": header.images,
                "voxel_mm": [round(x, 4) for x in header.voxel_mm] or None,
                "taken_for": one.kind.role,
                "confidence": one.kind.confidence,
                "why": one.kind.why,
            }
        )
    taken, said = _proposal(study)
    return {
        "studies": list(studies.values()),
        "chosen": taken,
        "remarks": said,
        "broken_files": [str(path.relative_to(study.folder)) for path in study.broken],
        "other_files": study.other_files,
    }


def _proposal(study: Study) -> tuple[dict[str, str] | None, list[str]]:
    """UIDs by role of what `infer --study` would take, and what there is to say; None where one has to be named."""
    try:
        choice = choose_series(study, needs_segmentation=False)
    except InputError as error:
        return None, [str(error)]
    said = list(choice.warnings)
    try:
        choice = choose_series(study)
    except InputError as error:
        said.append(str(error))
    return {role: one.header.uid for role, one in choice.series.items()}, said


def study_as_text(study: Study) -> str:
    """A table of the series, by study, and what would be taken."""
    head = ("No.", "Description", "Date", "Plane", "Images", "Voxel (mm)", "Taken for", "Sure", "Why")
    rows = [
        (
            "-" if one.header.number is None else str(one.header.number),
            shown_text(one.header.description) or "-",
            shown_date(one.date),
            one.header.plane or "-",
            str(one.header.images),
            " x ".join(f"{x:.3g}" for x in one.header.voxel_mm) or "-",
            one.kind.role,
            one.kind.confidence,
            one.kind.why,
        )
        for one in study.series
    ]
    widths = [max(len(row[n]) for row in [head, *rows]) for n in range(len(head))]

    def line(row: Sequence[str]) -> str:
        return "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()

    lines: list[str] = []
    uid = None
    for one, row in zip(study.series, rows):
        if one.header.study_uid != uid:
            uid = one.header.study_uid
            lines += [*([""] if lines else []), f"Study of {shown_date(one.date)}, UID {uid or 'none'}", line(head)]
        lines.append(line(row))
    if study.broken:
        some = ", ".join(str(path.relative_to(study.folder)) for path in study.broken[:4])
        more = ", ..." if len(study.broken) > 4 else ""
        lines += [
            "",
            f"{len(study.broken)} files {NOT_READ}: {some}{more}",
        ]
    taken, said = _proposal(study)
    lines.append("")
    if taken is not None:
        by_uid = {one.header.uid: one for one in study.series}
        words = ", ".join(f"{by_uid[taken[role]].name} as {name}" for role, name in ROLE_NAMES.items() if role in taken)
        lines.append(f"'tumorquery infer --study' takes {words}.")
    return "\n".join([*lines, *said])


def choice_as_text(choice: Choice) -> str:
    """One line that says what is taken for what."""
    words = []
    for role, name in ROLE_NAMES.items():
        if role in choice.series:
            one = choice.series[role]
            quoted = f' "{shown_text(one.header.description)}"' if one.header.description else ""
            words.append(f"{name}: {one.name}{quoted} of {shown_date(one.date)} ({one.kind.confidence})")
        elif role in choice.files:
            words.append(f"{name}: {choice.files[role]}")
    return f"Taken from the study: {'; '.join(words)}."
