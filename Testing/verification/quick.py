"""The figures that take seconds to measure again, compared with what the documents say.

A check reads the claimed figure from the document itself, so that the two cannot drift apart, and yields a `Compared`
for each. Tables whose rows are committed are counted again from the rows.
"""

from __future__ import annotations

import csv
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
#: Synthetic tumours that the strategies are compared on; the documents' are the first of the same thousand.
QUERIES = 100
STRATEGIES = ("direct", "ds64", "ds32", "random-projection")
BUILT_ENTRIES = 120


@dataclass(frozen=True)
class Compared:
    """A claimed figure beside the one measured here.

    Parameters
    ----------
    document, what : str
    claimed, measured : float
    least, most : float
        Between which the measured figure may lie.
    """

    document: str
    what: str
    claimed: float
    measured: float
    least: float
    most: float

    @property
    def agrees(self) -> bool:
        return self.least <= self.measured <= self.most


def words(document: str, pattern: str) -> tuple[str, ...]:
    """What a pattern's groups find in a document."""
    found = re.search(pattern, (ROOT / document).read_text(encoding="utf-8"))
    if found is None:
        raise SystemExit(f"{document} says nothing like {pattern!r} any more: mend Testing/verification.")
    return found.groups()


def figures(document: str, pattern: str) -> list[float]:
    """The numbers that a pattern's groups find in a document."""
    return [float(number.replace(",", "")) for number in words(document, pattern)]


def counted_again(document: str, what: str, claimed: float, measured: float, unit: float) -> Compared:
    """A figure of committed rows, which has to agree to the digits printed."""
    return Compared(document, what, claimed, measured, claimed - 0.501 * unit, claimed + 0.501 * unit)


@cache
def rows(path: str) -> list[dict[str, str]]:
    with (ROOT / "docs" / "evaluation" / path).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def column(table: list[dict[str, str]], name: str, **where: str) -> np.ndarray:
    return np.array([float(row[name]) for row in table if all(row[key] == value for key, value in where.items())])


def density() -> Iterator[Compared]:
    """Errors and bands of tumours of known truth, from their rows."""
    document, number = "docs/density.md", r"([\d.]+)"
    modes = {
        "match": "none",
        "refined in the atlas": "atlas",
        "refined in the patient": "patient",
        r"\*\*assimilated\*\*": "assimilated",
    }
    for outlines, run in (
        ("exact", "exact"),
        ("exact, mass effect", "mass-effect"),
        ("1 mm off", "outlines-1mm"),
        ("2 mm off", "outlines-2mm"),
    ):
        table = rows(f"density/{run}-cross-anatomy.csv")
        refined = column(table, "mae_near", variant="pipeline", mode="patient")
        for said, mode in modes.items():
            if mode == "atlas" and run.startswith("outlines"):
                continue  # the page leaves it out
            pattern = rf"\| {outlines} \| (\d+) \| {said} \| {number} \| {number} \| {number} \| ([^|]*) \|"
            *claimed, better = words(document, pattern)
            count, *errors = map(float, claimed)
            for figure, name in zip(errors, ("mae_near", "mae_inside", "mae_outside")):
                values = column(table, name, variant="pipeline", mode=mode)
                yield counted_again(document, f"{outlines}, {mode}: {name}", figure, values.mean(), 1e-4)
            yield counted_again(document, f"{outlines}, {mode}: tumours", count, len(values), 1)
            if mode != "patient":
                values = column(table, "mae_near", variant="pipeline", mode=mode)
                below, of = map(float, re.match(r"(\d+) of (\d+) ", better).groups())
                what = f"{outlines}, {mode}: better than refined"
                yield counted_again(document, what, below, np.count_nonzero(values < refined), 1)
                yield counted_again(document, f"{what}, of", of, len(refined), 1)
    for outlines, run in (("exact", "exact"), ("exact, mass effect", "mass-effect")):
        yield from bands(document, outlines, rows(f"density/{run}-calibration.csv"))
    table = rows("density/exact-cross-anatomy.csv")
    for page in ("README.md", "docs/method.md"):
        for claimed, mode in zip(figures(page, rf"falls\s+from {number}\s+to (\.\d+)"), ("patient", "assimilated")):
            mean = column(table, "mae_near", variant="pipeline", mode=mode).mean()
            yield counted_again(page, f"{mode}: error within 20 mm", claimed, mean, 1e-4)


def bands(document: str, outlines: str, table: list[dict[str, str]]) -> Iterator[Compared]:
    """What the bands hold, from the rows of the tumours."""
    number, share = r"([\d.]+)", r"(\d+) of (\d+)"
    of_row = ("coverage", "coverage_inside", "coverage_outside", "width")
    for percent in (50, 80, 90, 95):
        pattern = rf"\| {outlines} \| (\d+) \| {percent} %" + rf" \| {number}" * 4 + rf" \| {share} \| {share} \|"
        count, *claimed = figures(document, pattern)
        of_band = [row for row in table if float(row["confidence"]) == percent / 100]
        what = f"{outlines}, {percent} %"
        yield counted_again(document, f"{what}: tumours", count, len(of_band), 1)
        for figure, name in zip(claimed, of_row):
            yield counted_again(document, f"{what}: {name}", figure, column(of_band, name).mean(), 1e-3)
        for name, held, of in (("length_held", *claimed[4:6]), ("rho_t_held", *claimed[6:8])):
            yield counted_again(document, f"{what}: {name}", held, sum(row[name] == "True" for row in of_band), 1)
            yield counted_again(document, f"{what}: {name}, of", of, len(of_band), 1)


def known_truth() -> Iterator[Compared]:
    """What well, fairly and poorly mean, from the rows of fifty tumours of known truth."""
    document = "docs/refinement.md"
    table = rows("density/exact-cross-anatomy.csv")
    pipeline = [row for row in table if row["variant"] == "pipeline" and row["mode"] != "assimilated"]
    sums = column(pipeline, "dice_0.6") + column(pipeline, "dice_0.2")
    errors = column(pipeline, "mae_near")
    lengths = np.abs(column(pipeline, "length_ratio") - 1)
    for words, among in (
        (r"well \(from 1\.6\)", sums >= 1.6),
        (r"fairly \(from 1\.3\)", (sums >= 1.3) & (sums < 1.6)),
        ("poorly", sums < 1.3),
    ):
        count, mean, median, length = figures(
            document, rf"\| {words} \| (\d+) \| ([\d.]+) \| ([\d.]+), [\d.]+ \| (\d+) % \|"
        )
        name = words.split(" ")[0]
        yield counted_again(document, f"{name}: densities", count, np.count_nonzero(among), 1)
        yield counted_again(document, f"{name}: mean error", mean, errors[among].mean(), 1e-3)
        yield counted_again(document, f"{name}: median error", median, np.median(errors[among]), 1e-3)
        yield counted_again(document, f"{name}: length, %", length, 100 * np.median(lengths[among]), 1)


def starter() -> Iterator[Compared]:
    """What the bundled database holds, and that it is the one of the tables."""
    from TumorQueryLib import TumorDatabase

    with TumorDatabase.open("starter") as database:
        (claimed,) = figures("README.md", r"`starter.h5` with ([\d,]+) tumours")
        yield counted_again("README.md", "entries of starter.h5", claimed, len(database), 1)
        page = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
        told = f"5,000 entries, `trajectory` sampling, SRI24 (SHA-256 {database.sha256[:12]})" in page
        yield Compared("docs/evaluation.md", "starter.h5 is the database of the tables", 1, float(told), 1, 1)


def models() -> Iterator[Compared]:
    """The size of the bundled models."""
    sizes = {}
    for strategy in ("ae", "vae", "bihash"):
        (claimed,) = figures("docs/evaluation.md", rf"\| `{strategy}` \| 128 \| ([\d.]+) MB")
        sizes[strategy] = (ROOT / "Resources" / "Models" / f"SRI24-{strategy}.safetensors").stat().st_size / 1e6
        yield counted_again("docs/evaluation.md", f"{strategy}: MB", claimed, sizes[strategy], 0.1)
    (claimed,) = figures("docs/evaluation.md", r"\(([\d.]+) MB for all six networks\)")
    yield counted_again("docs/evaluation.md", "all six networks: MB", claimed, sum(sizes.values()), 0.1)


def tissue() -> Iterator[Compared]:
    """What another threshold of tissue would add in SRI24."""
    from TumorQueryLib import Atlas

    atlas = Atlas.load("SRI24")
    share = atlas.white_matter + atlas.grey_matter
    added = np.count_nonzero((share >= 0.1) & (share < 0.5)) * atlas.grid.voxel_volume_ml
    (claimed,) = figures("docs/method.md", r"another (\d+) ml of SRI24 count as tissue")
    yield counted_again("docs/method.md", "ml more by a threshold of 0.1", claimed, added, 1)


def query() -> Iterator[Compared]:
    """The exact query on the bundled database: the same answers as brute force, in milliseconds."""
    from TumorQueryLib import Atlas, TumorDatabase, create_strategy
    from TumorQueryLib.studies.queries import synthetic_cases

    with TumorDatabase.open("starter") as database:
        cases = list(synthetic_cases(database, Atlas.load("SRI24"), 30))
        direct, brute_force = (create_strategy(name, database) for name in ("direct", "brute-force"))
        direct.query(cases[0].masks, 15)
        seconds, same = [], 0
        for case in cases:
            begin = time.perf_counter()
            matches = direct.query(case.masks, 15)
            seconds.append(time.perf_counter() - begin)
            same += matches == brute_force.query(case.masks, 15)
    yield Compared("docs/query.md", "answers the same as brute force's", len(cases), same, len(cases), len(cases))
    (claimed,) = figures("docs/query.md", r"\| 5,000 \| ([\d.]+) \|")
    measured = 1000 * float(np.median(seconds))
    yield Compared("docs/query.md", "direct at 5,000 entries: median ms", claimed, measured, claimed / 4, 4 * claimed)


def strategies() -> Iterator[Compared]:
    """The first hundred of the thousand synthetic queries: Top-1 and Top-15 within three standard errors."""
    from TumorQueryLib import Atlas, TumorDatabase, create_strategy
    from TumorQueryLib.studies.queries import synthetic_cases

    document = "docs/evaluation.md"
    page = (ROOT / document).read_text(encoding="utf-8")
    section = page[page.index("## Results: the bundled database") :]
    table = section[section.index("**Table 1, 1,000 synthetic tumours**") :]
    with TumorDatabase.open("starter") as database:
        cases = list(synthetic_cases(database, Atlas.load("SRI24"), QUERIES))
        exact = create_strategy("direct", database)
        best = [exact.query(case.masks, 1)[0] for case in cases]
        for name in STRATEGIES:
            strategy = create_strategy(name, database)
            found = [[match.entry for match in strategy.query(case.masks, 15)] for case in cases]
            hits = {1: sum(entries[0] == one.entry for entries, one in zip(found, best))}
            hits[15] = sum(one.entry in entries for entries, one in zip(found, best))
            cells = re.search(rf"^\| {name} \|(.*)$", table, re.MULTILINE)[1].split("|")
            for top, cell in ((1, cells[0]), (15, cells[2])):
                claimed = float(cell.split()[0])
                share = claimed / 100
                error = 0.0 if name == "direct" else 300 * np.sqrt(max(share * (1 - share), 0.01) / QUERIES)
                measured = 100 * hits[top] / QUERIES
                yield Compared(document, f"{name}: Top-{top}, %", claimed, measured, claimed - error, claimed + error)
    (claimed,) = figures(document, r"Mean Dice sum of the best match, synthetic tumours: (1\.558) ")
    sums = np.array([one.dice_sum for one in best])
    error = 3 * sums.std() / np.sqrt(len(sums))
    yield Compared(document, "mean Dice sum", claimed, float(sums.mean()), claimed - error, claimed + error)


def build() -> Iterator[Compared]:
    """Processor seconds of a trajectory of the default sampling."""
    from TumorQueryLib import Atlas, build_database

    (seconds,) = figures("docs/query.md", r"\| processor seconds to build \| ([\d,]+) ")
    (trajectories,) = figures("docs/query.md", r"50,000 from ([\d,]+) trajectories")
    with tempfile.TemporaryDirectory() as folder:
        atlas = Atlas.load("SRI24")
        build_database(Path(folder) / "compiling.h5", atlas, 2)
        begin = time.process_time()
        build_database(Path(folder) / "some.h5", atlas, BUILT_ENTRIES)
        used = time.process_time() - begin
    claimed, measured = 1000 * seconds / trajectories, 1000 * used / (BUILT_ENTRIES / 2)
    # Two moments each here and three there; versions of the solver differ by a factor of 1.3 to 1.8.
    yield Compared("docs/query.md", "processor ms of a trajectory", claimed, measured, claimed / 4, 4 * claimed)


def steps() -> Iterator[Compared]:
    """One row of the table of the solver's steps: a length of 4 mm against a quarter of the step."""
    from TumorQueryLib import Atlas, GrowthParameters, Tissue, grow_trajectory, simulate
    from TumorQueryLib.geometry.regions import dice

    atlas = Atlas.load("SRI24")
    tissue, rng = Tissue.from_atlas(atlas), np.random.default_rng(1)
    seed = tuple(atlas.grid.to_ras(rng.choice(np.argwhere(atlas.white_matter > 0.95))))
    *_, last = grow_trajectory(seed, 4.0, tissue, every_step=True, stop_volume_ml=30.0, solver_version="1")
    tumour = GrowthParameters.from_identifiable(seed, 4.0, last.rho_t, 0.1)
    usual, finer = simulate(tumour, tissue), simulate(tumour, tissue, step_share=0.25)
    claimed = figures("docs/refinement.md", r"\| 4 \| 2 \| 0\.141 \| 1 \| ([\d.]+) \| ([\d.]+) \|")
    for level, said in zip((0.2, 0.6), claimed):
        measured = dice(usual > level, finer > level)
        # The table has the worst of six tumours, and this is one of them.
        what = f"steps at 4 mm: Dice above {level}"
        yield Compared("docs/refinement.md", what, said, measured, said - 5e-5, 1.0)


def brain() -> Iterator[Compared]:
    """The brain of the sample in its painted head."""
    from TumorQueryLib.anatomy.brain import extract_brain
    from TumorQueryLib.geometry.grid import read_volume
    from TumorQueryLib.geometry.regions import dice
    from TumorQueryLib.studies.painted_head import with_painted_skull
    from TumorQueryLib.studies.sample import sample_files

    claimed = figures("docs/brain.md", r"\| known \| (\.\d+), (\.\d+) \|")
    for role, weighting, said in zip(("t1gd", "flair"), ("t1", "flair"), claimed):
        image = read_volume(sample_files()[role])
        head = with_painted_skull(image, image.array > 0, weighting=weighting)
        first = np.rint(head.grid.to_index(image.grid.to_ras((0, 0, 0)))).astype(int)
        known = np.zeros(head.grid.shape, bool)
        known[tuple(slice(a, a + n) for a, n in zip(first, image.grid.shape))] = image.array > 0
        measured = dice(extract_brain(head).array, known)
        yield Compared("docs/brain.md", f"{role} in a painted head: Dice", said, measured, said - 0.003, said + 0.003)


CHECKS: dict[str, Callable[[], Iterator[Compared]]] = {
    "starter": starter,
    "models": models,
    "tissue": tissue,
    "density": density,
    "known truth": known_truth,
    "query": query,
    "strategies": strategies,
    "build": build,
    "steps": steps,
    "brain": brain,
}
