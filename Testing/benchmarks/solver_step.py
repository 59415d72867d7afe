"""Why the growth model's steps are as long as they are: their error and cost, by the solver's version.

    python Testing/benchmarks/solver_step.py

For each infiltration length, tumours of 30 and 150 ml in SRI24 from a white, a grey and a mixed seed: Dice of the
regions above 0.2 and 0.6 (the latter from a core of 1 ml on; worst of all) against a quarter of the step, and CPU
seconds of a solve.
"""

import time

import numpy as np

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.anatomy.tissue import Tissue
from TumorQueryLib.geometry.regions import dice
from TumorQueryLib.growth import SOLVER_VERSIONS, GrowthParameters, grow_trajectory, simulate
from TumorQueryLib.growth.solver import time_step

LENGTHS = (1.0, 2.0, 4.0, 8.0, 12.0)
VOLUMES_ML = (30.0, 150.0)
SMALLEST_CORE_ML = 1.0


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
    print("length mm   version   step (1/rho)   D t/h^2   Dice(0.2)   Dice(0.6)   CPU s")
    for length in LENGTHS:
        for version in SOLVER_VERSIONS:
            agreement: dict[float, list[float]] = {0.2: [], 0.6: []}
            costs = []
            tumours = [grown_to(volume, seed, length, tissue) for volume in VOLUMES_ML for seed in seeds]
            for parameters in tumours:
                begin = time.thread_time()
                density = simulate(parameters, tissue, solver_version=version)
                costs.append(time.thread_time() - begin)
                exact = simulate(parameters, tissue, solver_version=version, step_share=0.25)
                for level, found in agreement.items():
                    volume = np.count_nonzero(exact > level) * tissue.grid.voxel_volume_ml
                    if volume >= SMALLEST_CORE_ML:
                        found.append(dice(density > level, exact > level))
            step = time_step(length, tissue.grid.spacing, version)
            number = length**2 * step / tissue.grid.spacing.min() ** 2
            flair, t1gd = (f"{min(found):.4f}" if found else "-" for found in agreement.values())
            print(
                f"{length:9.1f} {version:>9} {step:14.4f} {number:9.2f} {flair:>11} {t1gd:>11} {np.mean(costs):7.3f}",
                flush=True,
            )


def grown_to(volume_ml: float, seed: tuple[float, ...], length: float, tissue: Tissue) -> GrowthParameters:
    """The tumour of that seed and length at the first step end of version 1 from a volume on."""
    ends = grow_trajectory(seed, length, tissue, every_step=True, stop_volume_ml=volume_ml, solver_version="1")
    *_, last = ends
    return GrowthParameters.from_identifiable(seed, length, last.rho_t, 0.1)


if __name__ == "__main__":
    main()
