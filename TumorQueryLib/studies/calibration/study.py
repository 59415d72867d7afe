"""The calibration study: the uncertainty of made-up tumours against their truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from TumorQueryLib.studies.calibration import tables
from TumorQueryLib.studies.calibration.coverage import coverage_of
from TumorQueryLib.studies.known_truth.study import Study, Tables
from TumorQueryLib.studies.known_truth.tumour import Tumour


@dataclass(frozen=True)
class Calibration(Study):
    """The study "calibration": the uncertainty of made-up patients compared with their truth."""

    name = "calibration"
    tables: ClassVar[Tables] = tables

    def measure(self, tumour: Tumour) -> list[dict[str, Any]]:
        """The rows of `coverage.coverage_of` for the pipeline's assimilated density, with the `seconds` it took."""
        if tumour.phantom is None:
            raise ValueError("The truth of a real patient is not known.")
        uncertainty = tumour.way.uncertainty
        seconds = tumour.way.uncertainty_seconds
        return [{**row, "seconds": seconds} for row in coverage_of(uncertainty, tumour.phantom)]

    def write(self, result: Mapping[str, Any], folder: Path) -> None:
        """Beside the tables calibration.png."""
        super().write(result, folder)
        tables.draw(result, folder / "calibration.png")
