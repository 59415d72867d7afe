"""Refinement in the atlas of synthetic tumours whose parameters are known: the figures of docs/refinement.md.

    python scripts/measure_refinement.py DATABASE COUNT RESULT.json

The tumours are in no database (`sample_synthetic`, seed 11, visible cores); each is queried by `direct` and refined
with the default budget. Prints the summary; the file has a row for every tumour.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np

from TumorQueryLib.anatomy.anatomy import Anatomy
from TumorQueryLib.anatomy.tissue import Tissue
from TumorQueryLib.base.timing import Stopwatch
from TumorQueryLib.database import TumorDatabase, sample_synthetic
from TumorQueryLib.estimates.fit import Fit
from TumorQueryLib.estimates.matches import estimate_of_match
from TumorQueryLib.estimates.refine import refine
from TumorQueryLib.strategies import create_strategy

RANDOM_SEED = 11


def main() -> None:
    name, count, out = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    rows = []
    with TumorDatabase.open(name) as database:
        atlas = database.load_atlas()
        anatomy = Anatomy("atlas", Tissue.from_atlas(atlas))
        thresholds = (database.threshold_core, database.threshold_whole)
        engine = create_strategy("direct", database)
        for tumour in sample_synthetic(atlas, count, random_seed=RANDOM_SEED, with_visible_core=True):
            ranked = [database.parameters(match.entry) for match in engine.query(tumour.masks)]
            match = estimate_of_match(
                ranked[0], anatomy, tumour.masks, tumour.masks, thresholds, solver_version=database.solver_version
            )
            with Stopwatch() as taken:
                refinement = refine(match, ranked, anatomy, tumour.masks, thresholds)
            fit, true = Fit.of(refinement.density, tumour.masks, thresholds), tumour.parameters
            found = refinement.parameters[0] if fit.dice_sum >= match.fit.dice_sum else ranked[0]
            rows.append(
                {
                    "whole_ml": tumour.masks.volumes_ml()[1],
                    "infiltration_length_mm": true.infiltration_length,
                    "match_dice_sum": match.fit.dice_sum,
                    "refined_dice_sum": max(fit.dice_sum, match.fit.dice_sum),
                    "length_error": abs(found.infiltration_length / true.infiltration_length - 1),
                    "rho_t_error": abs(found.rho_t / true.rho_t - 1),
                    "seed_error_mm": math.dist(found.seed, true.seed),
                    "wall_s": taken.wall,
                    "cpu_s": taken.cpu,
                    "stopped": refinement.stopped,
                }
            )
            if sys.stderr.isatty():
                print(f"\r{len(rows)} of {count}", end="", file=sys.stderr)
    summary = {
        "tumours": count,
        "seed": RANDOM_SEED,
        "match_mean": float(np.mean([row["match_dice_sum"] for row in rows])),
        "refined_mean": float(np.mean([row["refined_dice_sum"] for row in rows])),
        "refined_quantiles": np.quantile([row["refined_dice_sum"] for row in rows], [0, 0.05, 0.5]).tolist(),
    }
    for key in ("length_error", "rho_t_error", "seed_error_mm", "wall_s", "cpu_s"):
        median, most = np.quantile([row[key] for row in rows], [0.5, 0.95])
        summary[key] = {"median": float(median), "p95": float(most)}
    out.write_text(json.dumps({"summary": summary, "tumours": rows}, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
