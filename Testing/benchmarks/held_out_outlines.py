"""How far the correction of an assimilated density reaches, on real outlines: stretches of them left out.

    python Testing/benchmarks/held_out_outlines.py COHORT.csv [--json FILE]

Each patient of the cohort file is refined in its own anatomy, and the refined density's residuals on the outlines are
averaged over clusters of faces, as the assimilation does. Then every cluster is predicted from those farther than a gap
from it. The table has the share of the residuals' sum of squares that stays unexplained, for each gap and for other
choices than the assimilation's: length of the correlation, nugget, limit of the residuals that are believed.
"""

import argparse
import json
from itertools import product
from pathlib import Path

import numpy as np
from scipy.spatial.distance import cdist

from TumorQueryLib.base.method import Method
from TumorQueryLib.database import TumorDatabase
from TumorQueryLib.estimates.assimilate import CORRELATION_LENGTH, LARGEST_RESIDUAL, NUGGET
from TumorQueryLib.estimates.kriging import Kriging
from TumorQueryLib.estimates.outlines import OutlineResiduals, outline_residuals
from TumorQueryLib.geometry.regions import TumorMasks
from TumorQueryLib.inference import infer
from TumorQueryLib.inputs.cohort_file import read_cohort

GAPS = (3.0, 8.0, 15.0)  # mm
LENGTHS, NUGGETS, LIMITS = (10.0, 15.0, 25.0), (0.5, 1.0), (0.5, 1.0, 2.0, 4.0, np.inf)
CHOICES = list(product(LENGTHS, NUGGETS, LIMITS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cohort", type=Path, metavar="COHORT.csv")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args()
    found = {}
    for row in read_cohort(options.cohort):
        found[row.patient] = measured(row)
        print(f"{row.patient}: residual rms {found[row.patient]['rms']:.2f}", flush=True)
    print("\nUnexplained share of the residuals, lowest to highest of the patients (mean)")
    print("length mm  nugget  limit  " + "".join(f"gap {gap:g} mm".ljust(20) for gap in GAPS))
    for choice in CHOICES:
        shares = np.array([one["unexplained"][str(choice)] for one in found.values()])
        cells = (f"{s.min():.2f}-{s.max():.2f} ({s.mean():.2f})".ljust(20) for s in shares.T)
        used = " <- used" if choice == (CORRELATION_LENGTH, NUGGET, LARGEST_RESIDUAL) else ""
        print(f"{choice[0]:9g}  {choice[1]:6g}  {choice[2]:5g}  " + "".join(cells) + used)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def measured(row) -> dict:
    """Residual rms of one patient's refined density, and the unexplained shares by choice and gap."""
    with TumorDatabase.open("starter") as database:
        thresholds = (database.threshold_core, database.threshold_whole)
        result = infer(row.load(), Method(refine="patient", density="refined"), database=database)
    refined, patient = result.estimates["refined"], result.patient
    grid = refined.anatomy.grid
    observed = TumorMasks.on_grid(patient.core, patient.whole, grid)
    faces = outline_residuals(refined.density, refined.anatomy.tissue, observed, thresholds)
    seen = faces.clustered()
    believed = np.stack([faces.limited(limit).clustered().residuals for limit in LIMITS], axis=1)
    shares: dict[str, list[float]] = {str(choice): [] for choice in CHOICES}
    for gap, length, nugget in product(GAPS, LENGTHS, NUGGETS):
        for limit, share in zip(LIMITS, unexplained(seen, believed, length, nugget, gap).tolist()):
            shares[str((length, nugget, limit))].append(share)
    return {"rms": faces.rms, "clusters_rms": seen.rms, "unexplained": shares}


def unexplained(seen: OutlineResiduals, believed: np.ndarray, length: float, nugget: float, gap: float) -> np.ndarray:
    """Share of the residuals' sum of squares that the clusters farther than a gap do not explain, for each limit."""
    distance = cdist(seen.points, seen.points)
    missed = np.zeros(believed.shape[1])
    for number, residual in enumerate(seen.residuals):
        known = distance[number] > gap
        kriging = Kriging(seen.points[known], length, nugget)
        missed += (residual - kriging.mean(seen.points[number][None], believed[known])[0]) ** 2
    return missed / (seen.residuals**2).sum()


if __name__ == "__main__":
    main()
