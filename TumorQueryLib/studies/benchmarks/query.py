"""How fast the exact query is, beside the ways it is usually done, in one run on the same queries.

(a) the paper's recipe: a Python loop over dense float64 densities, thresholded, Dice;
(b) dense boolean arrays in NumPy; (c) packed bits and `numpy.bitwise_count`; (d) faiss
`IndexBinaryFlat` over the packed bits, where Dice = 1 - Hamming / (a + b); (e) `brute-force`;
(f) `direct`. A hundred thousand dense masks do not fit in memory and (a) takes minutes a query,
so (a) to (d) run on a sample of entries, decoded beforehand, and are scaled to the database;
their figures are marked `extrapolated`. (e) and (f) run on everything.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.base.child import library_environment
from TumorQueryLib.base.parallel import available_cores, physical_memory
from TumorQueryLib.base.progress import Progress, no_progress, part
from TumorQueryLib.base.timing import Stopwatch
from TumorQueryLib.database.masks import RUN_BYTES, Searchable
from TumorQueryLib.database.store import TumorDatabase
from TumorQueryLib.geometry.regions import TumorMasks
from TumorQueryLib.strategies.direct import Direct
from TumorQueryLib.strategies.exact import BruteForce
from TumorQueryLib.studies.benchmarks.rivals import measure_rivals
from TumorQueryLib.studies.benchmarks.scaled import shifted_copies
from TumorQueryLib.studies.queries import SYNTHETIC_SEED, LeftOut, cohort_cases, synthetic_cases
from TumorQueryLib.studies.timing import milliseconds

SYNTHETIC_QUERIES = 200
TOP = 15
#: Queries of the ways that run on a sample of entries.
SAMPLE_QUERIES = 5
GROWTH_QUERIES = 50
#: Copies of the database in the largest one of the growth table.
COPIES = 10
#: How far those copies are shifted, in voxels along each axis.
LONGEST_SHIFT = 8


def benchmark(
    database: str | os.PathLike = "starter",
    cohort: str | os.PathLike | None = None,
    *,
    atlas: Atlas | str | os.PathLike | None = None,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Measure the exact query.

    Parameters
    ----------
    database : str or path
        The name of a bundled database, or a file.
    cohort : path, optional
        CSV file of patients (see `inputs.cohort_file`), registered to the atlas (deformable);
        their masks are queries beside the synthetic ones.
    atlas : Atlas, str or path, optional
        The database's, or its name or folder; by default the bundled one of that name.
    progress : Progress

    Returns
    -------
    dict
        `direct`, `brute_force`, `paper_recipe`, `dense_numpy`, `packed_numpy`, `faiss`: each with
        `median_ms`, `p95_ms`, `p99_ms` a query of the whole database, or None where the package is
        missing; the last four with `extrapolated`. `direct` also says how many entries it compared
        and bytes it read. `identical`: whether ids and scores agreed on every query. `opening`: seconds
        and memory of a new process up to its first answer. `dice_sum`: of the best matches.
        `growth`: the same for a tenth of the entries and for ten times as many.
    """
    with TumorDatabase.open(database) as opened:
        made_in = opened.load_atlas(atlas)
        report = part(progress, 0.0, 0.1)
        synthetic = [case.masks for case in synthetic_cases(opened, made_in, SYNTHETIC_QUERIES, progress=report)]
        patients: dict[str, TumorMasks] = {}
        failed: dict[str, str] = {}
        if cohort is not None:
            for case in cohort_cases(cohort, made_in, progress=part(progress, 0.1, 0.3)):
                if isinstance(case, LeftOut):
                    failed[case.name] = case.reason
                else:
                    patients[case.name] = case.masks
        queries = synthetic + list(patients.values())
        result: dict[str, Any] = {
            "database": {"sha256": opened.sha256, "entries": len(opened), "prior": opened.attributes["prior"]["name"]},
            "queries": {"synthetic": len(synthetic), "seed": SYNTHETIC_SEED, "cohort": len(patients), "failed": failed},
            "top": TOP,
            "cores": available_cores(),
            "opening": _opening(opened.path),
        }
        exact = _compare_exact(opened, queries, part(progress, 0.3, 0.4))
        result |= {key: exact[key] for key in ("direct", "brute_force")}
        best = [matches[0].dice_sum for matches in exact["matches"]]
        result["dice_sum"] = {
            "synthetic_mean": float(np.mean(best[: len(synthetic)])),
            "cohort_mean": float(np.mean(best[len(synthetic) :])) if patients else None,
            "cohort": dict(zip(patients, best[len(synthetic) :])),
        }
        sampled = measure_rivals(opened, queries[:SAMPLE_QUERIES], top=TOP, progress=part(progress, 0.4, 0.9))
        result |= sampled["methods"]
        result["identical"] = bool(exact["identical"] and sampled["identical"])
        result["growth"] = _growth(opened, queries[:GROWTH_QUERIES], part(progress, 0.9, 1.0))
        fastest = result["direct"]["median_ms"]
        result["ratio_to_direct"] = {
            name: result[name]["median_ms"] / fastest
            for name in ("brute_force", *sampled["methods"])
            if result[name] is not None
        }
    return result


def as_text(result: dict[str, Any]) -> str:
    """The result of `benchmark` as a table for people."""
    entries = result["database"]["entries"]
    lines = [
        f"Exact query, top {result['top']}, {entries} entries ({result['database']['prior']}), "
        f"{result['queries']['synthetic']} synthetic and {result['queries']['cohort']} real queries, "
        f"{result['cores']} cores",
        "  way                     median ms      p95 ms      p99 ms  to direct",
    ]
    titles = {
        "paper_recipe": "(a) paper's recipe",
        "dense_numpy": "(b) dense NumPy",
        "packed_numpy": "(c) packed NumPy",
        "faiss": "(d) faiss",
        "brute_force": "(e) brute-force",
        "direct": "(f) direct",
    }
    for name, title in titles.items():
        row = result[name]
        if row is None:
            lines.append(f"  {title:20s}  not installed")
            continue
        mark = "*" if row.get("extrapolated") else " "
        ratio = result["ratio_to_direct"].get(name, 1.0)
        lines.append(
            f"  {title:20s}{mark} {row['median_ms']:12.3f} {row['p95_ms']:11.3f} {row['p99_ms']:11.3f} {ratio:10.0f}"
        )
    sampled = result["paper_recipe"]
    direct, opening, dice_sum = result["direct"], result["opening"], result["dice_sum"]
    lines += [
        f"  * extrapolated from {sampled['sample_entries']} entries and {sampled['sample_queries']} queries",
        f"  identical ids and scores: {'yes' if result['identical'] else 'NO'}",
        f"  direct compared {direct['compared_median']:.0f} entries (median), {direct['compared_most']} at most; "
        f"read {direct['bytes_read_median'] / 1e6:.2f} MB (median)",
        f"  a new process opens the file and answers in {opening['seconds']:.2f} s (imports before: "
        f"{opening['import_s']:.2f} s); {opening['resident_mb'] or float('nan'):.0f} MB resident",
        f"  best dice_sum, mean: synthetic {dice_sum['synthetic_mean']:.3f}"
        + (f", cohort {dice_sum['cohort_mean']:.3f}" if dice_sum["cohort_mean"] is not None else ""),
        "  entries      direct median ms  p99 ms  brute-force median ms",
    ]
    lines += [
        f"  {row['entries']:9d} {row['direct']['median_ms']:19.3f} {row['direct']['p99_ms']:7.3f} "
        f"{row['brute_force']['median_ms']:22.1f}" + ("  (shifted copies)" if row["shifted_copies"] else "")
        for row in result["growth"]
    ]
    return "\n".join(lines)


def _opening(path: os.PathLike) -> dict[str, float]:
    """What a new process takes from opening a database to its first answer."""
    script = """
import json, sys, time
started = time.perf_counter()
import numpy as np
from TumorQueryLib.database import TumorDatabase
from TumorQueryLib.geometry.regions import TumorMasks
from TumorQueryLib.strategies import create_strategy
imported = time.perf_counter()
with TumorDatabase.open(sys.argv[1]) as database:
    entry = len(database) // 2
    masks = TumorMasks(database.core.decode(entry), database.whole.decode(entry), database.grid)
    assert create_strategy("direct", database).query(masks)[0].dice_sum == 2
answered = time.perf_counter()
def resident_mb():
    try:
        # Unlike getrusage, this forgets the process that started this one.
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) / 1e3 for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)

print(json.dumps({"import_s": imported - started, "seconds": answered - imported, "resident_mb": resident_mb()}))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        env=library_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def _compare_exact(database: Searchable, queries: Sequence[TumorMasks], progress: Progress) -> dict[str, Any]:
    """Direct and brute force on every query, warm."""
    direct, brute_force = Direct(database), BruteForce(database)
    brute_force.query(queries[0], TOP)
    direct.query(queries[0], TOP)
    seconds: dict[str, list[float]] = {"direct": [], "brute_force": []}
    compared, bytes_read, matches = [], [], []
    identical = True
    for number, masks in enumerate(queries):
        with Stopwatch() as taken:
            found = direct.query(masks, TOP)
        seconds["direct"].append(taken.wall)
        compared.append(direct.compared)
        bytes_read.append(direct.bytes_read)
        with Stopwatch() as taken:
            expected = brute_force.query(masks, TOP)
        seconds["brute_force"].append(taken.wall)
        identical &= found == expected
        matches.append(found)
        progress(number / len(queries), "Direct and brute force")
    return {
        "direct": milliseconds(seconds["direct"])
        | {
            "compared_median": float(np.median(compared)),
            "compared_most": max(compared),
            "bytes_read_median": float(np.median(bytes_read)),
        },
        "brute_force": milliseconds(seconds["brute_force"]),
        "identical": identical,
        "matches": matches,
    }


def _growth(database: TumorDatabase, queries: Sequence[TumorMasks], progress: Progress) -> list[dict[str, Any]]:
    """Direct and brute force on a tenth of the entries, on all, and on ten shifted copies where they fit."""
    shifts = np.random.default_rng(0).integers(-LONGEST_SHIFT, LONGEST_SHIFT + 1, (COPIES, 3))
    shifts[0] = 0
    everything = np.arange(len(database))
    makers: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = [
        (everything[::COPIES], shifts[:1]),
        (everything, shifts[:1]),
    ]
    run_bytes = RUN_BYTES * (database.core.offsets[-1] + database.whole.offsets[-1])
    if COPIES * run_bytes < physical_memory() / 2:
        makers.append((everything, shifts))
    rows = []
    for number, (entries, copies) in enumerate(makers):
        scaled = shifted_copies(database, entries, copies)
        measured = _compare_exact(scaled, queries, part(progress, number / len(makers), (number + 1) / len(makers)))
        rows.append(
            {
                "entries": len(scaled.core),
                "shifted_copies": len(copies) > 1,
                "identical": measured["identical"],
                "direct": measured["direct"],
                "brute_force": measured["brute_force"],
            }
        )
    return rows
