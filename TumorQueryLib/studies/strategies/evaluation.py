"""The evaluation: queries by every strategy, then the files that show what came of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.base.errors import InputError
from TumorQueryLib.base.files import holds_json, output_errors, refuse_to_replace, staged_folder, write_json
from TumorQueryLib.base.progress import Progress, no_progress, part
from TumorQueryLib.database import TumorDatabase
from TumorQueryLib.geometry.regions import TumorMasks
from TumorQueryLib.inputs.cohort_file import files_of_cohort
from TumorQueryLib.strategies import Match, Strategy
from TumorQueryLib.studies.queries import SYNTHETIC_SEED, Case, LeftOut, cohort_cases, synthetic_cases
from TumorQueryLib.studies.strategies import figures
from TumorQueryLib.studies.strategies.measure import Measured, create_engines, default_rows, measure
from TumorQueryLib.studies.strategies.summary import summarise
from TumorQueryLib.studies.strategies.tables import KIND_TITLES, write_cases, write_tables

#: Cases whose density Figure 4 shows.
SHOWN = 5
FIGURES = {"real": "figure2.png", "synthetic": "figure3.png"}
FILES = ("results.json", "tables.md", "table1.csv", "table2.csv", "cases.csv", *FIGURES.values(), "figure4.png")


def evaluate(
    database: TumorDatabase,
    *,
    out: str | os.PathLike,
    strategies: Sequence[str] | None = None,
    synthetic: int = 1000,
    cohort: str | os.PathLike | Sequence[tuple[str, TumorMasks]] | None = None,
    registration: str = "deformable",
    random_seed: int = SYNTHETIC_SEED,
    atlas: Atlas | str | os.PathLike | None = None,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Measure strategies on synthetic tumours and on patients, and write tables and figures.

    Parameters
    ----------
    database : TumorDatabase
    out : path
        Folder for results.json, tables.md, table1.csv, table2.csv, cases.csv, figure2.png
        (patients), figure3.png (synthetic) and figure4.png.
    strategies : sequence of str, optional
        Names, of strategies or of `measure.VARIANTS`; by default `measure.default_rows()`. The exact query is always
        run, it is what the others are measured by.
    synthetic : int
        Number of synthetic queries; from the database's prior, in no database, with a
        core of at least 0.2 ml.
    cohort : path, or sequence of (name, TumorMasks), optional
        A cohort CSV (see `inputs.cohort_file.read_cohort`), whose patients are registered to the
        atlas, or masks on the atlas grid.
    registration : {"deformable", "affine", "none"}
        How a cohort CSV's patients are registered.
    random_seed : int
        Of the synthetic queries.
    atlas : Atlas, str or path, optional
        The database's, or its name or folder; by default the bundled one of that name.
    progress : Progress

    Returns
    -------
    dict
        The content of results.json.

    Raises
    ------
    InputError
        When there is nothing to query with, or an unknown or untrained strategy.
    MissingDependencyError
        When a strategy needs a package that is not installed.
    DatabaseError, OutputError
        When the database is of another atlas; when a result would replace a file that is read or no run wrote.
    """
    if synthetic < 0 or (synthetic == 0 and cohort is None):
        raise InputError(f"An evaluation takes synthetic queries or a cohort; synthetic is {synthetic}, cohort none.")
    read = [database.path, *(files_of_cohort(cohort) if isinstance(cohort, str | os.PathLike) else ())]
    outputs = [Path(out, name) for name in FILES]
    refuse_to_replace(outputs, read, lambda _: holds_json(outputs[0], ("database", "tie_rule")))
    made_in = database.load_atlas(atlas)
    names = list(dict.fromkeys(["direct", *(default_rows() if strategies is None else strategies)]))
    with staged_folder(out) as folder:
        engines = create_engines(names, database, progress=part(progress, 0.0, 0.2))
        cases = {
            "real": _real_cases(cohort, made_in, registration, part(progress, 0.2, 0.5)),
            "synthetic": synthetic_cases(
                database, made_in, synthetic, random_seed=random_seed, progress=part(progress, 0.5, 0.95)
            ),
        }
        answers = _measure_all(cases, engines)
        progress(0.95, "Drawing the figures")
        results = summarise(answers.measured, database, left_out=answers.left_out, random_seed=random_seed)
        with output_errors(Path(out)):
            write_json(results, folder / "results.json")
            write_tables(results, folder)
            write_cases(answers.measured, names, folder / "cases.csv")
            for kind, measured in answers.measured.items():
                if measured:
                    figure = figures.dice_figure([one.best for one in measured], KIND_TITLES[kind])
                    figures.save(figure, folder / FIGURES[kind])
            figures.save(figures.density_figure(answers.shown, database, made_in), folder / "figure4.png")
    progress(1.0, "Evaluated")
    return results


@dataclass(frozen=True, eq=False)
class _Answers:
    """What was measured of every kind of case, the cases to show with their best matches, and who was left out."""

    measured: dict[str, list[Measured]]
    shown: list[tuple[Case, Match]]
    left_out: dict[str, str]


def _measure_all(cases: Mapping[str, Iterable[Case | LeftOut]], engines: Mapping[str, Strategy]) -> _Answers:
    answers = _Answers({kind: [] for kind in cases}, [], {})
    for kind, queries in cases.items():
        for case in queries:
            if isinstance(case, LeftOut):
                answers.left_out[case.name] = case.reason
                continue
            result = measure(case, engines)
            answers.measured[kind].append(result)
            # Masks and images of a thousand cases would fill the memory; patients go first.
            if len(answers.shown) < SHOWN and (kind == "real" or not answers.measured["real"]):
                answers.shown.append((case, result.best))
    if not answers.shown:
        raise InputError(f"No patient of the cohort could be used: {'; '.join(answers.left_out.values())}")
    return answers


def _real_cases(
    cohort: str | os.PathLike | Sequence[tuple[str, TumorMasks]] | None, atlas: Atlas, mode: str, progress: Progress
) -> Iterator[Case | LeftOut]:
    """Cases of a cohort file, or of masks that are on the atlas grid already."""
    if isinstance(cohort, str | os.PathLike):
        yield from cohort_cases(cohort, atlas, mode, progress=progress)
    else:
        yield from (Case(name, masks) for name, masks in cohort or ())
