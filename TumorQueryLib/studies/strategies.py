"""Every query strategy measured against the exact one: the paper's tables and figures.

Tables 1 and 2 say how often a strategy's best N hold the entry that is best by exact
Dice; Figures 2 and 3 show the Dice of the exact query case by case; Figure 4 shows
densities. The queries are synthetic tumours that are in no database, and patients.
"""

from __future__ import annotations

import csv
import os
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.base.errors import Cancelled, InputError, TumorQueryError
from TumorQueryLib.base.files import staged_folder, write_json
from TumorQueryLib.base.progress import Progress, no_progress, part
from TumorQueryLib.geometry.grid import Volume, resample, resample_mask
from TumorQueryLib.geometry.regions import TumorMasks
from TumorQueryLib.strategies import Match, Strategy, create_strategy, strategy_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from TumorQueryLib.database import TumorDatabase
    from TumorQueryLib.inputs.patient import Patient
    from TumorQueryLib.registration import Registration

#: Rows of the tables that are a strategy with options.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {"radiomics-standardised": ("radiomics", {"standardised": True})}
TOP = (1, 5, 15)
#: Matches that are put in the order of their exact Dice where a strategy is re-ranked.
RERANKED = 100
BOOTSTRAP_SAMPLES = 10_000
#: Whole-tumour volumes in ml that part small, medium and large synthetic tumours.
VOLUME_BINS = (10.0, 50.0)
#: Seed of the synthetic queries in the documentation's tables.
SYNTHETIC_SEED = 2022

#: The paper's Table 1 (62 real cases, 50,000 entries), in per cent and seconds.
PAPER_TABLE_1 = {
    "direct": (100.0, 100.0, 100.0, 340.0),
    "ds64": (88.7, 100.0, 100.0, 130.0),
    "ds32": (66.1, 96.7, 100.0, 116.0),
    "vae": (41.9, 61.2, 80.6, 34.0),
    "ae": (33.8, 64.5, 77.4, 22.0),
    "bihash": (32.2, 67.7, 82.2, 22.0),
    "radiomics": (4.92, 4.92, 9.83, 2.8),
}
#: The paper's Table 2, synthetic part (1,000 cases), in per cent; its real part is that of Table 1.
PAPER_TABLE_2 = {"direct": (100.0, 100.0, 100.0), "ds64": (93.5, 100.0, 100.0), "ds32": (78.9, 99.6, 100.0)}
#: The paper's mean of the best Dice sums (caption of Table 2).
PAPER_DICE_SUM = {"real": 1.07, "synthetic": 1.69}

TIE_RULE = (
    "Ties go to the lower entry number, in the exact query and in every strategy. In brackets, where it differs: "
    "the figure if every tie were decided in the strategy's favour."
)


def default_rows() -> list[str]:
    """Names of the strategies that are measured unasked: all that are not exact, each before its variants."""
    return [
        row
        for name, info in strategy_table().items()
        if not info.exact
        for row in (name, *(variant for variant, (varied, _) in VARIANTS.items() if varied == name))
    ]


@dataclass(frozen=True, eq=False)
class Case:
    """A query of the evaluation.

    Parameters
    ----------
    name : str
    masks : TumorMasks
        On the atlas grid.
    patient : Patient, optional
        Where there are images to show.
    registration : Registration, optional
        The patient's.
    """

    name: str
    masks: TumorMasks
    patient: Patient | None = None
    registration: Registration | None = None


@dataclass(frozen=True)
class Rank:
    """Where a strategy put the entry that is best by exact Dice, for one case.

    Parameters
    ----------
    rank : int or None
        From 1, by the tie rule; None beyond the first 100.
    rank_in_favour : int or None
        The same if every tie, of exact Dice and of the strategy's score, were decided
        in the strategy's favour.
    seconds : float
        Wall time of the query.
    """

    rank: int | None
    rank_in_favour: int | None
    seconds: float


def evaluate(
    database: TumorDatabase,
    *,
    out: str | os.PathLike,
    strategies: Sequence[str] | None = None,
    synthetic: int = 1000,
    cohort: str | os.PathLike | Sequence[tuple[str, TumorMasks]] | None = None,
    registration: str = "deformable",
    random_seed: int = SYNTHETIC_SEED,
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
        Names, of strategies or of `VARIANTS`; by default `default_rows()`. The exact
        query is always run, it is what the others are measured by.
    synthetic : int
        Number of synthetic queries; from the database's prior, in no database, with a
        core of at least 0.2 ml.
    cohort : path, or sequence of (name, TumorMasks), optional
        A cohort CSV (see `cohort.read_cohort`), whose patients are registered to the
        atlas, or masks on the atlas grid.
    registration : {"deformable", "affine", "none"}
        How a cohort CSV's patients are registered.
    random_seed : int
        Of the synthetic queries and of the bootstrap.
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
    DatabaseError
        When the database is of another atlas than the bundled one of that name.
    """
    if synthetic < 0 or (synthetic == 0 and cohort is None):
        raise InputError(f"An evaluation takes synthetic queries or a cohort; synthetic is {synthetic}, cohort none.")
    atlas = database.load_atlas()
    names = list(dict.fromkeys(["direct", *(default_rows() if strategies is None else strategies)]))
    with staged_folder(out) as folder:
        engines: dict[str, Strategy] = {}
        for number, name in enumerate(names):
            report = part(progress, 0.2 * number / len(names), 0.2 * (number + 1) / len(names))
            report(0.0, f"Preparing {name}")
            strategy, options = VARIANTS.get(name, (name, {}))
            engines[name] = create_strategy(strategy, database, progress=report, **options)
        failed: dict[str, str] = {}
        cases = {
            "real": _real_cases(cohort, atlas, registration, failed, part(progress, 0.2, 0.5)),
            "synthetic": _synthetic_cases(database, atlas, synthetic, random_seed, part(progress, 0.5, 0.95)),
        }
        measured: dict[str, list[_Measured]] = {}
        shown: list[_Measured] = []
        for kind, queries in cases.items():
            measured[kind] = []
            for case in queries:
                result = _measure(case, engines)
                if len(shown) < 5 and (kind == "real" or not measured["real"]):
                    shown.append(result)
                # Masks and images of a thousand cases would fill the memory.
                measured[kind].append(result if result in shown else result.without_case())
        if not shown:
            raise InputError(f"No patient of the cohort could be used: {'; '.join(failed.values())}")
        progress(0.95, "Drawing the figures")
        results = _summarise(database, names, measured, failed, random_seed)
        write_json(results, folder / "results.json")
        (folder / "tables.md").write_text(tables_as_markdown(results), encoding="utf-8")
        _write_tables(results, folder)
        _write_cases(measured, names, folder / "cases.csv")
        for kind, file, title in (
            ("real", "figure2.png", "patients"),
            ("synthetic", "figure3.png", "synthetic tumours"),
        ):
            if measured[kind]:
                _save(_dice_figure([m.best for m in measured[kind]], title), folder / file)
        _save(_density_figure(shown, database, atlas), folder / "figure4.png")
    progress(1.0, "Evaluated")
    return results


@dataclass(frozen=True, eq=False)
class _Measured:
    case: Case | None
    name: str
    whole_ml: float
    best: Match
    ranks: dict[str, Rank]

    def without_case(self) -> _Measured:
        return _Measured(None, self.name, self.whole_ml, self.best, self.ranks)


def _real_cases(cohort, atlas: Atlas, mode: str, failed: dict[str, str], progress: Progress) -> Iterable[Case]:
    """Cases of a cohort; a patient who cannot be used is noted in `failed`."""
    from TumorQueryLib.inputs.cohort_file import read_cohort
    from TumorQueryLib.registration import register

    if cohort is None:
        return
    if not isinstance(cohort, str | os.PathLike):
        for name, masks in cohort:
            yield Case(name, masks)
        return
    rows = read_cohort(cohort)
    for number, row in enumerate(rows):
        report = part(progress, number / len(rows), (number + 1) / len(rows))
        report(0.0, f"Registering {row.patient}")
        try:
            patient = row.load()
            mapped = register(
                patient.registration_image,
                atlas,
                mode,
                tumour=patient.whole,
                brain_mask=patient.brain_mask,
                progress=report,
            )
            masks = mapped.masks_in_atlas(patient.core, patient.whole, atlas)
        except Cancelled:
            raise
        except TumorQueryError as error:
            failed[row.patient] = str(error)
            continue
        yield Case(row.patient, masks, patient, mapped)


def _synthetic_cases(
    database: TumorDatabase, atlas: Atlas, count: int, random_seed: int, progress: Progress
) -> Iterable[Case]:
    from TumorQueryLib.database import sample_synthetic

    sampling = database.attributes["prior"]["name"]
    tumours = sample_synthetic(
        atlas, count, random_seed=random_seed, sampling=sampling, with_visible_core=True, progress=progress
    )
    for number, tumour in enumerate(tumours):
        yield Case(f"synthetic {number}", tumour.masks)


def _measure(case: Case, engines: Mapping[str, Strategy]) -> _Measured:
    exact, seconds = _timed_query(engines["direct"], case.masks, max(TOP))
    best = exact[0]
    equally_good = {match.entry for match in exact if match.dice_sum == best.dice_sum}
    ranks = {"direct": Rank(1, 1, seconds)}
    for name, engine in engines.items():
        if name != "direct":
            matches, seconds = _timed_query(engine, case.masks, RERANKED)
            ranks[name] = Rank(*rank_of(best.entry, equally_good, matches), seconds)
    return _Measured(case, case.name, case.masks.volumes_ml()[1], best, ranks)


def _timed_query(engine: Strategy, masks: TumorMasks, top: int) -> tuple[list[Match], float]:
    started = time.perf_counter()
    matches = engine.query(masks, top)
    return matches, time.perf_counter() - started


def rank_of(best: int, equally_good: set[int], matches: Sequence[Match]) -> tuple[int | None, int | None]:
    """Rank of the exact best entry among a strategy's matches, and the rank with every tie in its favour.

    Parameters
    ----------
    best : int
        The best entry by exact Dice; of equals the lowest.
    equally_good : set of int
        All entries of that Dice sum.
    matches : sequence of Match
        The strategy's, best first.

    Returns
    -------
    rank, rank_in_favour : int or None
        From 1; None where the entry is not among the matches.
    """
    rank = next((n for n, match in enumerate(matches, 1) if match.entry == best), None)
    scores = [match.score for match in matches]
    in_favour = next((1 + scores.index(m.score) for m in matches if m.entry in equally_good), None)
    return rank, in_favour


def share_with_interval(
    hits: NDArray[np.bool_], generator: np.random.Generator, confidence: float = 0.95
) -> dict[str, float]:
    """Share of hits in per cent with its percentile bootstrap interval over the cases.

    Returns
    -------
    dict
        `value`, `low` and `high`, in per cent.
    """
    # A resample's number of hits is binomial: the same as drawing the cases one by one.
    resampled = generator.binomial(len(hits), hits.mean(), BOOTSTRAP_SAMPLES) / len(hits)
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    return {"value": 100 * float(hits.mean()), "low": 100 * float(low), "high": 100 * float(high)}


def _mean_with_interval(values: NDArray[np.float64], generator: np.random.Generator) -> dict[str, float]:
    drawn = generator.integers(len(values), size=(BOOTSTRAP_SAMPLES, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), [0.025, 0.975])
    return {"value": float(values.mean()), "low": float(low), "high": float(high)}


def _summarise(
    database: TumorDatabase,
    names: Sequence[str],
    measured: Mapping[str, Sequence[_Measured]],
    failed: Mapping[str, str],
    random_seed: int,
) -> dict[str, Any]:
    from TumorQueryLib.base.version import __version__

    generator = np.random.default_rng(random_seed)
    kinds: dict[str, Any] = {}
    for kind, cases in measured.items():
        if not cases:
            continue
        sums = np.array([case.best.dice_sum for case in cases])
        kinds[kind] = {
            "cases": len(cases),
            "best_dice_sum": _mean_with_interval(sums, generator),
            "best_dice_t1gd": float(np.mean([case.best.dice_core for case in cases])),
            "best_dice_flair": float(np.mean([case.best.dice_whole for case in cases])),
            "paper_best_dice_sum": PAPER_DICE_SUM[kind],
            "by_volume_ml": _by_volume(cases),
            "strategies": {
                name: _summarise_strategy([case.ranks[name] for case in cases], generator) for name in names
            },
        }
    return {
        "software": {"name": "TumorQuery", "version": __version__, "python": platform.python_version()},
        "machine": {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()},
        "database": {
            "entries": len(database),
            "sha256": database.sha256,
            "atlas": database.atlas_name,
            "sampling": database.attributes["prior"]["name"],
            "entries_without_core": int(np.count_nonzero(database.core.volume == 0)),
        },
        "synthetic_seed": random_seed,
        "tie_rule": TIE_RULE,
        "failed_patients": dict(failed),
        **kinds,
        "paper": {
            "table_1": {name: list(values) for name, values in PAPER_TABLE_1.items()},
            "table_2_synthetic": {name: list(values) for name, values in PAPER_TABLE_2.items()},
        },
    }


def _summarise_strategy(ranks: Sequence[Rank], generator: np.random.Generator) -> dict[str, Any]:
    beyond = RERANKED + 1
    rank = np.array([beyond if r.rank is None else r.rank for r in ranks])
    in_favour = np.array([beyond if r.rank_in_favour is None else r.rank_in_favour for r in ranks])
    seconds = np.array([r.seconds for r in ranks])
    # The first query of a strategy also loads and compiles.
    settled = seconds[1:] if len(seconds) > 1 else seconds
    summary: dict[str, Any] = {}
    for top in (*TOP, RERANKED):
        summary[f"top{top}"] = share_with_interval(rank <= top, generator)
        summary[f"top{top}_ties_in_favour"] = 100 * float((in_favour <= top).mean())
    summary["seconds"] = {"median": float(np.median(settled)), "p95": float(np.quantile(settled, 0.95))}
    return summary


def _by_volume(cases: Sequence[_Measured]) -> list[dict[str, float | None]]:
    bins: list[dict[str, float | None]] = []
    for low, high in zip((0.0, *VOLUME_BINS), (*VOLUME_BINS, np.inf)):
        sums = [case.best.dice_sum for case in cases if low <= case.whole_ml < high]
        if sums:
            limit = high if np.isfinite(high) else None
            bins.append({"from": low, "to": limit, "cases": len(sums), "best_dice_sum": float(np.mean(sums))})
    return bins


KIND_TITLES = {"real": "patients", "synthetic": "synthetic tumours"}


def tables_as_markdown(results: Mapping[str, Any]) -> str:
    """Tables 1 and 2 with the paper's figures beside ours, in Markdown."""
    database = results["database"]
    lines = [
        f"Database: {database['entries']:,} entries, `{database['sampling']}` sampling, {database['atlas']} "
        f"(SHA-256 {database['sha256'][:12]}). Figures in per cent with 95 % bootstrap intervals. "
        f"{results['tie_rule']}",
        "",
    ]
    for kind, title in KIND_TITLES.items():
        if kind not in results:
            continue
        measured = results[kind]
        lines += [
            f"**Table 1, {measured['cases']:,} {title}**: how often a strategy's best N hold the exact best match; "
            f"best {RERANKED}, which is Top-1 after re-ranking them by exact Dice; time of a query; and the paper's "
            "figures (62 patients, its own 50,000 entries and machines).",
            "",
            f"| strategy | Top-1 | Top-5 | Top-15 | Top-{RERANKED} | ms, median (95 %) | paper: Top-1/5/15, s |",
            "|---|---|---|---|---|---|---|",
        ]
        for name, summary in measured["strategies"].items():
            cells = [_cell(summary, top) for top in (*TOP, RERANKED)]
            seconds = summary["seconds"]
            paper = PAPER_TABLE_1.get(name)
            stated = "/".join(f"{value:g}" for value in paper[:3]) + f", {paper[3]:g} s" if paper else "-"
            lines.append(
                f"| {name} | {' | '.join(cells)} | {1000 * seconds['median']:.1f} ({1000 * seconds['p95']:.1f}) "
                f"| {stated} |"
            )
        lines.append("")
    kinds = [kind for kind in KIND_TITLES if kind in results]
    names = [name for name in ("direct", "ds64", "ds32") if name in results[kinds[0]]["strategies"]]
    lines += [
        "**Table 2**: Top-1/5/15 of the strategies that compare masks, ours and (paper).",
        "",
        f"| strategy | {' | '.join(KIND_TITLES[kind] for kind in kinds)} |",
        f"|---|{'---|' * len(kinds)}",
    ]
    for name in names:
        cells = []
        for kind in kinds:
            ours = "/".join(f"{results[kind]['strategies'][name][f'top{top}']['value']:.1f}" for top in TOP)
            theirs = PAPER_TABLE_1[name][:3] if kind == "real" else PAPER_TABLE_2[name]
            cells.append(f"{ours} ({'/'.join(f'{value:g}' for value in theirs)})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines.append("")
    for kind in kinds:
        mean = results[kind]["best_dice_sum"]
        bins = ", ".join(
            f"{_bin_title(bin_)} {bin_['best_dice_sum']:.3f} ({bin_['cases']})"
            for bin_ in results[kind]["by_volume_ml"]
        )
        lines.append(
            f"Mean Dice sum of the best match, {KIND_TITLES[kind]}: {mean['value']:.3f} "
            f"[{mean['low']:.3f}, {mean['high']:.3f}] (paper {PAPER_DICE_SUM[kind]:g}); by whole-tumour volume "
            f"(number): {bins}."
        )
    for name, reason in results["failed_patients"].items():
        lines.append(f"\nLeft out: {name} ({reason})")
    return "\n".join(lines) + "\n"


def _bin_title(bin_: Mapping[str, Any]) -> str:
    return f"from {bin_['from']:g} ml" if bin_["to"] is None else f"{bin_['from']:g}-{bin_['to']:g} ml"


def _cell(summary: Mapping[str, Any], top: int) -> str:
    share = summary[f"top{top}"]
    favourable = summary[f"top{top}_ties_in_favour"]
    text = f"{share['value']:.1f} [{share['low']:.1f}, {share['high']:.1f}]"
    return text if abs(favourable - share["value"]) < 0.05 else f"{text} ({favourable:.1f})"


def _write_tables(results: Mapping[str, Any], folder: Path) -> None:
    kinds = [kind for kind in KIND_TITLES if kind in results]
    header = ["queries", "strategy", "source"]
    columns = [f"top{top}" for top in (*TOP, RERANKED)]
    rows: list[list[Any]] = []
    for kind in kinds:
        for name, summary in results[kind]["strategies"].items():
            row = [kind, name, "measured"]
            for column in columns:
                share = summary[column]
                row += [share["value"], share["low"], share["high"], summary[f"{column}_ties_in_favour"]]
            rows.append([*row, summary["seconds"]["median"], summary["seconds"]["p95"]])
    for name, (*shares, seconds) in PAPER_TABLE_1.items():
        padded: list[Any] = []
        for share in shares:
            padded += [share, "", "", ""]
        rows.append(["real", name, "paper", *padded, "", "", "", "", seconds, ""])
    for column in columns:
        header += [column, f"{column}_low", f"{column}_high", f"{column}_ties_in_favour"]
    _write_csv(folder / "table1.csv", [*header, "seconds_median", "seconds_p95"], rows)
    rows = []
    for kind in kinds:
        paper = PAPER_TABLE_2 if kind == "synthetic" else PAPER_TABLE_1
        for name in ("direct", "ds64", "ds32"):
            if name in results[kind]["strategies"]:
                summary = results[kind]["strategies"][name]
                rows.append([kind, name, *(summary[f"top{top}"]["value"] for top in TOP), *paper[name][:3]])
    _write_csv(
        folder / "table2.csv",
        ["queries", "strategy", *(f"top{top}" for top in TOP), *(f"paper_top{top}" for top in TOP)],
        rows,
    )


def _write_cases(measured: Mapping[str, Sequence[_Measured]], names: Sequence[str], path: Path) -> None:
    rows = [
        [kind, case.name, case.whole_ml, case.best.entry, case.best.dice_core, case.best.dice_whole, case.best.dice_sum]
        + [case.ranks[name].rank or f">{RERANKED}" for name in names]
        + [case.ranks[name].seconds for name in names]
        for kind, cases in measured.items()
        for case in cases
    ]
    header = ["queries", "case", "whole_ml", "entry", "dice_core", "dice_whole", "dice_sum"]
    _write_csv(path, [*header, *(f"rank_{name}" for name in names), *(f"seconds_{name}" for name in names)], rows)


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def _dice_figure(matches: Sequence[Match], title: str) -> Figure:
    """Figures 2 and 3: Dice of the exact best match, each row sorted on its own."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 7), dpi=120, layout="constrained")
    rows = (
        ("T1Gd", [match.dice_core for match in matches], 1.0, "#38bdf8"),
        ("FLAIR", [match.dice_whole for match in matches], 1.0, "#4ade80"),
        ("T1Gd + FLAIR", [match.dice_sum for match in matches], 2.0, "#a78bfa"),
    )
    for number, (name, values, limit, colour) in enumerate(rows):
        axes = figure.add_subplot(3, 1, number + 1)
        ordered = np.sort(values)[::-1]
        axes.bar(np.arange(1, len(ordered) + 1), ordered, width=0.9 if len(ordered) < 100 else 1.0, color=colour)
        axes.axhline(ordered.mean(), color="black", linewidth=0.8, linestyle="--")
        axes.set(ylim=(0, limit), xlim=(0.4, len(ordered) + 0.6), ylabel="Dice" if limit == 1 else "sum of Dice")
        axes.set_title(f"{name}: mean {ordered.mean():.3f}", fontsize=10)
    axes.set_xlabel(f"{len(matches):,} {title}, sorted")
    figure.suptitle(f"Best match by the exact query, {title}")
    return figure


def _density_figure(shown: Sequence[_Measured], database: TumorDatabase, atlas: Atlas) -> Figure:
    """Figure 4: the best match's density, on the patient's image where there is one, else on the atlas."""
    from matplotlib.figure import Figure

    from TumorQueryLib.growth import simulate
    from TumorQueryLib.results.report import plane_of

    figure = Figure(figsize=(2.6 * len(shown), 5.6), dpi=120, facecolor="black", layout="constrained")
    for column, measured in enumerate(shown):
        case = measured.case
        assert case is not None
        density = Volume(simulate(database.parameters(measured.best.entry), atlas), atlas.grid)
        arrays = _on_display_grid(case, density, atlas)
        index = int(np.argmax(arrays["whole"].sum(axis=(0, 1))))
        slice_of = {name: plane_of(array, "axial", index) for name, array in arrays.items()}
        white = float(np.percentile(arrays["image"][arrays["image"] > 0], 99.5))
        for row in range(2):
            axes = figure.add_subplot(2, len(shown), row * len(shown) + column + 1)
            axes.imshow(slice_of["image"], cmap="gray", vmax=white)
            if row:
                seen = np.ma.masked_less(slice_of["density"], 0.01)
                shades = axes.imshow(seen, cmap="inferno", vmin=0, vmax=1, alpha=0.75)
            for mask, colour in (("whole", "#4ade80"), ("core", "#38bdf8")):
                if slice_of[mask].any():
                    axes.contour(slice_of[mask], levels=[0.5], colors=colour, linewidths=0.8)
            axes.set_axis_off()
            if not row:
                axes.set_title(f"{case.name}\nDice {measured.best.dice_sum:.2f}", color="white", fontsize=8)
    bar = figure.colorbar(shades, ax=figure.axes, shrink=0.5, label="tumour cell density")
    bar.ax.yaxis.label.set_color("white")
    bar.ax.tick_params(colors="white")
    return figure


def _on_display_grid(case: Case, density: Volume, atlas: Atlas) -> dict[str, NDArray[Any]]:
    """Image, density, core and whole on one grid along the RAS axes."""
    from TumorQueryLib.results.report import display_grid

    if case.patient is None or case.registration is None:
        image = resample(atlas.t1, density.grid).array
        return {"image": image, "density": density.array, "core": case.masks.core, "whole": case.masks.whole}
    patient = case.patient
    grid = display_grid(patient.t1gd)
    return {
        "image": resample(patient.t1gd, grid).array,
        "density": case.registration.density_in_patient(density.array, atlas.grid, grid).array,
        "core": resample_mask(patient.core, grid).array,
        "whole": resample_mask(patient.whole, grid).array,
    }


def _save(figure: Figure, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    figure.savefig(path, facecolor=figure.get_facecolor(), metadata={"Software": "TumorQuery"})
