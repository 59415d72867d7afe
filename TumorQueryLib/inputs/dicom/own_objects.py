"""The DICOM objects that this software wrote itself, among those of others."""

from __future__ import annotations

from pathlib import Path

import pydicom

#: By these values of Manufacturer and ManufacturerModelName an object is known as one of ours.
MANUFACTURER, MODEL = "TumorQuery", "TumorQuery"


def is_ours(path: Path) -> bool:
    """Whether a file is a DICOM object that this software wrote."""
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["Manufacturer", "ManufacturerModelName"])
        return header.get("Manufacturer") == MANUFACTURER and header.get("ManufacturerModelName") == MODEL
    except Exception:  # pydicom raises whatever a file leads it to
        return False
