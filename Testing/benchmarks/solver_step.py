"""Why the growth model's steps are as long as they are: their error and cost beside longer and shorter ones.

    python Testing/benchmarks/solver_step.py

For each infiltration length, tumours of about 60 ml in SRI24 from a white, a grey and a mixed
seed; Dice of the regions above 0.2 and 0.6 (worst of the three) against an eighth of the step.
"""

import time

import numpy as np

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.anatomy.tissue import Tissue
from TumorQueryLib.geometry.regions import dice
from TumorQueryLib.growth import GrowthParameters, grow_trajectory, simulate
from TumorQueryLib.growth.solver import time_step

LENGTHS = (0.5, 1.0, 2.0, 4.0, 8.0)
SHARES = (4.0, 2.0, 1.0, 0.5)


def main() -> None:
    atlas = Atlas.load("SRI24")
    tissue = Tissue.from_atlas(atlas)
    rng = np.random.default_rng(1)
    regions = (
        atlas.white_matter > 0.95,
        atlas.grey_matter > 0.8,
        (atlas.white_matter > 0.3) & (atlas.grey_matter > 0.3),
    )
    seeds = [tuple(atlas.grid.to_ras(rng.choice(np.argwhere(region)))) for region in regions]
    simulate(GrowthParameters(seeds[0], 0.1, 0.1, 10), tissue)
    print("length mm   step (1/rho)   Dice(0.2)   Dice(0.6)   CPU ms")
    for length in LENGTHS:
        cases = []
        for seed in seeds:
            *_, last = grow_trajectory(seed, length, tissue, every_step=True, stop_volume_ml=60.0)
            parameters = GrowthParameters.from_identifiable(seed, length, last.rho_t, 0.1)
            cases.append((parameters, simulate(parameters, tissue, step_share=1 / 8)))
        for share in SHARES:
            agreement, begin = [], time.thread_time()
            solved = [simulate(parameters, tissue, step_share=share) for parameters, _ in cases]
            cost = (time.thread_time() - begin) / len(cases)
            for density, (_, exact) in zip(solved, cases):
                agreement.append([dice(density > level, exact > level) for level in (0.2, 0.6)])
            flair, t1gd = np.min(agreement, axis=0)
            step = share * time_step(length, tissue.grid.spacing)
            used = "  <- used" if share == 1 else ""
            print(f"{length:9.1f} {step:14.3f} {flair:11.4f} {t1gd:11.4f} {cost * 1e3:8.0f}{used}")


if __name__ == "__main__":
    main()
