"""What the studies of known truth have in common: the settings, and the files that each leaves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from TumorQueryLib.studies.known_truth.tables import write_rows
from TumorQueryLib.studies.known_truth.tumour import Tumour


class Tables(Protocol):
    """A study's module `tables`."""

    def summarise(self, rows: Sequence[dict[str, Any]], /) -> list[dict[str, Any]]:
        """What the rows of all tumours come to, JSON-ready."""

    def as_markdown(self, result: Mapping[str, Any], /) -> str:
        """The conditions and the summary."""


@dataclass(frozen=True)
class Study(ABC):
    """What a study does with the tumours of a run (see `run.run_studies`).

    Parameters
    ----------
    count : int
        How many of the made-up tumours it looks at, the first ones of the random seed; 0 where it takes patients and
        only a cohort's are looked at.
    """

    count: int
    #: Of its files.
    name: ClassVar[str]
    tables: ClassVar[Tables]
    #: Whether it looks at real patients too.
    takes_patients: ClassVar[bool] = False
    #: Whether it looks at the bundled sample too, beside tumours without mass effect and with exact outlines.
    takes_sample: ClassVar[bool] = False

    @property
    def needs_clean_registration(self) -> bool:
        """Whether it looks at `Setting.between`."""
        return False

    def choices(self) -> dict[str, Any]:
        """All that its rows depend on beside the run's conditions, JSON-ready."""
        return {}

    @abstractmethod
    def measure(self, tumour: Tumour) -> list[dict[str, Any]]:
        """Its rows of a tumour, JSON-ready and without the tumour's name."""

    def summarise(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """`summary`, see its `tables.summarise`."""
        return {"summary": self.tables.summarise(rows)}

    def in_table(self, rows: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
        """The rows of its CSV file."""
        return rows

    def write(self, result: Mapping[str, Any], folder: Path) -> None:
        """Tables beside the JSON: <name>.csv and <name>.md."""
        write_rows(self.in_table(result["cases"]), folder / f"{self.name}.csv")
        (folder / f"{self.name}.md").write_text(self.tables.as_markdown(result) + "\n", encoding="utf-8")
