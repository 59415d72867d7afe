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
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.base.errors import Cancelled, TumorQueryError
from TumorQueryLib.base.parallel import available_cores, physical_memory
from TumorQueryLib.base.progress import Progress, no_progress, part
from TumorQueryLib.database.masks import RUN_BYTES, BlockCounts, RunLengthMasks, RunsInMemory, Searchable
from TumorQueryLib.database.store import TumorDatabase
from TumorQueryLib.database.synthetic import sample_synthetic
from TumorQueryLib.geometry.grid import Grid
from TumorQueryLib.geometry.regions import TumorMasks, dice_from_counts
from TumorQueryLib.strategies.direct import Direct
from TumorQueryLib.strategies.exact import BruteForce, best_matches, exact_dice

#: Seed of the synthetic queries.
QUERY_SEED = 2022
SYNTHETIC_QUERIES = 200
TOP = 15
SAMPLE_ENTRIES = 2000
SAMPLE_QUERIES = 5
#: Entries of the sample that are decoded at a time: 17 MB each as the paper's float64.
DECODED_AT_ONCE = 25
#: The ways that run on the sample.
SAMPLED = ("paper_recipe", "dense_numpy", "packed_numpy", "faiss")
GROWTH_QUERIES = 50
#: Copies of the database in the largest one of the growth table.
COPIES = 10
#: How far those copies are shifted, in voxels along each axis.
LONGEST_SHIFT = 8


def benchmark(
    database: str | os.PathLike = "starter",
    cohort: str | os.PathLike | None = None,
    *,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Measure the exact query.

    Parameters
    ----------
    database : str or path
        The name of a bundled database, or a file.
    cohort : path, optional
        CSV file of patients (see `TumorQueryLib.cohort`), registered to the atlas (deformable);
        their masks are queries beside the synthetic ones.
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
        atlas = opened.load_atlas()
        synthetic = [
            tumour.masks
            for tumour in sample_synthetic(
                atlas,
                SYNTHETIC_QUERIES,
                random_seed=QUERY_SEED,
                sampling=opened.attributes["prior"]["name"],
                with_visible_core=True,
                progress=part(progress, 0.0, 0.1),
            )
        ]
        patients, failed = _cohort_masks(cohort, atlas, part(progress, 0.1, 0.3))
        queries = synthetic + list(patients.values())
        result: dict[str, Any] = {
            "database": {"sha256": opened.sha256, "entries": len(opened), "prior": opened.attributes["prior"]["name"]},
            "queries": {"synthetic": len(synthetic), "seed": QUERY_SEED, "cohort": len(patients), "failed": failed},
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
        sampled = _sample_methods(opened, queries[:SAMPLE_QUERIES], part(progress, 0.4, 0.9))
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


def describe(result: dict[str, Any]) -> str:
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
    direct, opening, dice_sum = result["direct"], result["opening"], result["dice_sum"]
    lines += [
        f"  * extrapolated from {SAMPLE_ENTRIES} entries at most and {SAMPLE_QUERIES} queries",
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


def _cohort_masks(
    cohort: str | os.PathLike | None, atlas: Atlas, progress: Progress
) -> tuple[dict[str, TumorMasks], dict[str, str]]:
    """Masks of a cohort's patients in the atlas by name, and why the others failed."""
    masks: dict[str, TumorMasks] = {}
    failed: dict[str, str] = {}
    if cohort is None:
        return masks, failed
    from TumorQueryLib.inputs.cohort_file import read_cohort
    from TumorQueryLib.registration import register

    rows = read_cohort(cohort)
    for number, row in enumerate(rows):
        report = part(progress, number / len(rows), (number + 1) / len(rows))
        try:
            patient = row.load()
            registration = register(
                patient.registration_image,
                atlas,
                "deformable",
                tumour=patient.whole,
                brain_mask=patient.brain_mask,
                progress=report,
            )
            masks[row.patient] = registration.masks_in_atlas(patient.core, patient.whole, atlas)
        except Cancelled:
            raise
        except TumorQueryError as error:
            failed[row.patient] = str(error)
    return masks, failed


def _opening(path: os.PathLike) -> dict[str, float]:
    """What a new process takes from opening a database to its first answer."""
    script = """
import json, sys, time
started = time.perf_counter()
import numpy as np
from TumorQueryLib.database import TumorDatabase
from TumorQueryLib.strategies import TumorMasks, create_strategy
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
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([package, os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], env=environment, capture_output=True, text=True, check=True
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
        found, took = _timed(lambda masks=masks: direct.query(masks, TOP))  # type: ignore[misc]
        seconds["direct"].append(took)
        compared.append(direct.compared)
        bytes_read.append(direct.bytes_read)
        expected, took = _timed(lambda masks=masks: brute_force.query(masks, TOP))  # type: ignore[misc]
        seconds["brute_force"].append(took)
        identical &= found == expected
        matches.append(found)
        progress(number / len(queries), "Direct and brute force")
    return {
        "direct": _statistics(seconds["direct"])
        | {
            "compared_median": float(np.median(compared)),
            "compared_most": max(compared),
            "bytes_read_median": float(np.median(bytes_read)),
        },
        "brute_force": _statistics(seconds["brute_force"]),
        "identical": identical,
        "matches": matches,
    }


def _sample_methods(database: TumorDatabase, queries: Sequence[TumorMasks], progress: Progress) -> dict[str, Any]:
    """The usual ways on a sample of entries, scaled to the database."""
    entries = np.unique(np.linspace(0, len(database) - 1, min(SAMPLE_ENTRIES, len(database))).astype(np.int64))
    prepared = [_Query(masks) for masks in queries]
    seconds: dict[str, NDArray[np.float64]] = {}
    scores: dict[str, NDArray[np.float64]] = {}

    def measure(name: str, method: Callable[[Any, _Query], NDArray[np.float64]], stored: Any, first: int) -> None:
        seconds.setdefault(name, np.zeros(len(prepared)))
        scores.setdefault(name, np.zeros((len(prepared), len(entries))))
        for number, query in enumerate(prepared):
            started = time.perf_counter()
            found = method(stored, query)
            seconds[name][number] += time.perf_counter() - started
            scores[name][number, first : first + len(found)] = found

    # Bits of the whole sample fit in memory, dense arrays do not.
    packed = _Packed(database, entries)
    for first in range(0, len(entries), DECODED_AT_ONCE):
        decoded = _Decoded(database, entries[first : first + DECODED_AT_ONCE])
        packed.add(decoded)
        measure("paper_recipe", _paper_recipe, decoded, first)
        measure("dense_numpy", _dense_numpy, decoded, first)
        progress(first / len(entries), "The usual ways, on a sample")
    if hasattr(np, "bitwise_count"):
        measure("packed_numpy", _packed_numpy, packed, 0)
    try:
        indexes = _FaissIndexes(packed)
    except ImportError:
        pass
    else:
        measure("faiss", _faiss, indexes, 0)
    identical = True
    for number, masks in enumerate(queries):
        dice_core, dice_whole = exact_dice(database, masks, entries)
        expected = [match.entry for match in best_matches(entries, dice_core, dice_whole, TOP)]
        for found in (rows[number] for rows in scores.values()):
            identical &= np.array_equal(found, dice_core + dice_whole)
            identical &= entries[np.lexsort((entries, -found))[:TOP]].tolist() == expected
    measured: dict[str, dict[str, Any] | None] = dict.fromkeys(SAMPLED)
    for name, values in seconds.items():
        measured[name] = _statistics(values * (len(database) / len(entries))) | {
            "extrapolated": True,
            "sample_entries": len(entries),
            "sample_queries": len(queries),
        }
    return {"methods": measured, "identical": bool(identical)}


class _Query:
    """A query in the forms that the usual ways work on; making them is not timed."""

    def __init__(self, masks: TumorMasks) -> None:
        self.masks = (masks.core, masks.whole)
        self.packed = [_packed(mask[None])[0] for mask in self.masks]
        self.volumes = [np.count_nonzero(mask) for mask in self.masks]


class _Decoded:
    """A few entries as dense arrays; making them is not timed."""

    def __init__(self, database: TumorDatabase, entries: NDArray[np.int64]) -> None:
        self.core = np.stack([database.core.decode(int(entry)) for entry in entries])
        self.whole = np.stack([database.whole.decode(int(entry)) for entry in entries])
        # Stands in for the stored density: the same type, size and thresholds.
        self.density = [0.3 * whole + 0.4 * core for core, whole in zip(self.core, self.whole)]
        self.thresholds = (database.threshold_core, database.threshold_whole)


class _Packed:
    """Many entries as packed bits, with their volumes; making them is not timed."""

    def __init__(self, database: TumorDatabase, entries: NDArray[np.int64]) -> None:
        words = int(np.prod(database.grid.shape)) // 64
        self.bits = [np.empty((len(entries), words), np.uint64) for _ in range(2)]
        self.volumes = [database.core.volume[entries], database.whole.volume[entries]]
        self._filled = 0

    def add(self, decoded: _Decoded) -> None:
        piece = slice(self._filled, self._filled + len(decoded.core))
        for bits, masks in zip(self.bits, (decoded.core, decoded.whole)):
            bits[piece] = _packed(masks)
        self._filled = piece.stop


class _FaissIndexes:
    """A faiss index of each region's packed bits."""

    def __init__(self, packed: _Packed) -> None:
        import faiss

        self.volumes = packed.volumes
        self.indexes = []
        for bits in packed.bits:
            index = faiss.IndexBinaryFlat(64 * bits.shape[1])
            index.add(bits.view(np.uint8))
            self.indexes.append(index)


def _packed(masks: NDArray[np.bool_]) -> NDArray[np.uint64]:
    return np.packbits(masks.reshape(len(masks), -1), axis=1).view(np.uint64)


def _paper_recipe(decoded: _Decoded, query: _Query) -> NDArray[np.float64]:
    """A loop over dense densities: threshold, multiply, sum, as the authors' code does."""
    scores = []
    for density in decoded.density:
        score = 0.0
        for threshold, mask in zip(decoded.thresholds, query.masks):
            simulated = np.zeros(density.shape)
            simulated[density > threshold] = 1
            total = np.sum(simulated) + np.sum(mask)
            score += 1.0 if total == 0 else 2.0 * np.sum(simulated * mask) / total
        scores.append(score)
    return np.array(scores)


def _dense_numpy(decoded: _Decoded, query: _Query) -> NDArray[np.float64]:
    """Boolean arrays: logical and, sum."""
    scores = np.zeros(len(decoded.core))
    for stored, mask in zip((decoded.core, decoded.whole), query.masks):
        for n, one in enumerate(stored):
            scores[n] += dice_from_counts(np.logical_and(one, mask).sum(), one.sum(), mask.sum())
    return scores


def _packed_numpy(packed: _Packed, query: _Query) -> NDArray[np.float64]:
    """Packed bits: and, popcount; volumes counted beforehand."""
    scores = np.zeros(len(packed.volumes[0]))
    for bits, volumes, asked, volume in zip(packed.bits, packed.volumes, query.packed, query.volumes):
        shared = [int(np.bitwise_count(one & asked).sum()) for one in bits]
        scores += dice_from_counts(shared, volumes, volume)
    return scores


def _faiss(stored: _FaissIndexes, query: _Query) -> NDArray[np.float64]:
    """Hamming distances of all entries by faiss, turned into Dice."""
    scores = np.zeros(len(stored.volumes[0]))
    for index, volumes, asked, volume in zip(stored.indexes, stored.volumes, query.packed, query.volumes):
        distances, order = index.search(asked.view(np.uint8)[None], index.ntotal)
        hamming = np.empty(index.ntotal, np.int64)
        hamming[order[0]] = distances[0]
        scores += dice_from_counts((volumes + volume - hamming) // 2, volumes, volume)
    return scores


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
        scaled = _shifted_copies(database, entries, copies)
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


@dataclass(frozen=True, eq=False)
class _Scaled:
    """A `Searchable` in memory."""

    grid: Grid
    atlas_name: str
    core: RunLengthMasks
    whole: RunLengthMasks
    core_blocks: BlockCounts
    whole_blocks: BlockCounts

    def __len__(self) -> int:
        return len(self.core)


def _shifted_copies(database: TumorDatabase, entries: NDArray[np.int64], shifts: NDArray[np.int64]) -> _Scaled:
    """Some entries of a database, once for each shift (voxels, shape (copies, 3))."""
    core, whole = (_shifted_masks(masks, entries, shifts) for masks in (database.core, database.whole))
    blocks = (BlockCounts.of(core), BlockCounts.of(whole))
    return _Scaled(database.grid, database.atlas_name, core, whole, *blocks)


def _shifted_masks(masks: RunLengthMasks, entries: NDArray[np.int64], shifts: NDArray[np.int64]) -> RunLengthMasks:
    shape = masks.grid_shape
    rows, offsets, starts, lengths = masks.source.select(entries)
    size = int((offsets[rows + 1] - offsets[rows]).sum())
    new_starts = np.empty(size * len(shifts), np.uint32)
    new_lengths = np.empty(size * len(shifts), np.uint8)
    new_offsets = np.zeros(len(entries) * len(shifts) + 1, np.int64)
    _shift_runs(rows, offsets, starts, lengths, shifts, np.array(shape), new_starts, new_lengths, new_offsets)
    ends = np.zeros(new_offsets[-1] + 1, np.int64)
    np.cumsum(new_lengths[: new_offsets[-1]], out=ends[1:])
    volume = ends[new_offsets[1:]] - ends[new_offsets[:-1]]
    return RunLengthMasks(shape, new_offsets, volume, RunsInMemory(new_offsets, new_starts, new_lengths))


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started


def _statistics(seconds: Sequence[float] | NDArray[np.float64]) -> dict[str, Any]:
    median, p95, p99 = np.quantile(np.asarray(seconds) * 1000, [0.5, 0.95, 0.99])
    return {"median_ms": float(median), "p95_ms": float(p95), "p99_ms": float(p99)}


@njit(cache=True, nogil=True)
def _shift_runs(rows, offsets, starts, lengths, shifts, shape, new_starts, new_lengths, new_offsets):
    written = 0
    entry = 0
    for copy in range(shifts.shape[0]):
        for row in rows:
            for run in range(offsets[row], offsets[row + 1]):
                start = np.int64(starts[run])
                line = start // shape[2]
                i = line // shape[1] + shifts[copy, 0]
                j = line % shape[1] + shifts[copy, 1]
                k = start % shape[2] + shifts[copy, 2]
                stop = min(k + np.int64(lengths[run]), shape[2])
                k = max(k, 0)
                if 0 <= i < shape[0] and 0 <= j < shape[1] and k < stop:
                    new_starts[written] = (i * shape[1] + j) * shape[2] + k
                    new_lengths[written] = stop - k
                    written += 1
            entry += 1
            new_offsets[entry] = written
