"""The main figures of README and documents: where each stands, what makes it, on what, and when it was made.

`python Testing/verification --page` writes docs/verification.md out of this.
"""

from __future__ import annotations

from dataclasses import dataclass

EXPERIMENT = (
    "tumorquery evaluate starter --cross-anatomy 50 --calibration 50 --variants pipeline --random-seed 300 --out DIR"
)


@dataclass(frozen=True)
class Claim:
    """A figure of the documents.

    Parameters
    ----------
    document : str
        Path in the repository.
    words : str
        As they stand there, on one line.
    command : str
        What makes it.
    of : str
        What it was measured on: how many, and the random seed.
    day : str
        On which it was measured.
    quick : str
        The check of `quick.py` that repeats it; empty where it takes too long, or needs patients.
    """

    document: str
    words: str
    command: str
    of: str
    day: str
    quick: str = ""


CLAIMS = (
    Claim(
        "README.md", "`starter.h5` with 5,000 tumours", "tumorquery info starter", "the file", "2026-11-25", "starter"
    ),
    Claim(
        "docs/command-line.md",
        "7 minutes on two cores, 154 MB",
        "tumorquery build large.h5 --entries 50000",
        "50,000 entries, seed 0, solver version 1",
        "2026-11-25",
    ),
    Claim(
        "docs/query.md",
        "| processor seconds to build | 806",
        "tumorquery build large.h5 --entries 50000",
        "50,000 entries from 16,667 trajectories, seed 0, solver version 1; quick: 60 trajectories",
        "2026-11-25",
        "build",
    ),
    Claim(
        "README.md",
        "3 ms at 50,000 entries",
        "tumorquery bench query --database large.h5 --cohort cohort.csv",
        "200 synthetic tumours (seed 2022) and 8 patients",
        "2026-11-25",
    ),
    Claim(
        "docs/query.md",
        "| 5,000 | 2.02 |",
        "tumorquery bench query --database large.h5 --cohort cohort.csv",
        "5,000 entries of that file; quick: those of starter.h5, 30 synthetic tumours, brute force beside it",
        "2026-11-25",
        "query",
    ),
    Claim(
        "README.md", "falls from .0167 to .0111", EXPERIMENT, "50 made-up tumours, seed 300", "2026-11-26", "density"
    ),
    Claim(
        "docs/start.md",
        "were installed in 27 s, and the demo took 48 s",
        "pip install tumorquery-0.1.0-py3-none-any.whl && tumorquery demo",
        "the sample, in an empty environment with an empty home",
        "2026-11-26",
    ),
    Claim(
        "docs/query.md",
        "ids and scores identical on every query: yes",
        "tumorquery bench query --database DB.h5 --cohort cohort.csv",
        "200 synthetic tumours (seed 2022) and 8 patients, in each of two databases",
        "2026-11-25",
    ),
    Claim(
        "docs/query.md",
        "the error 2 - (Dice sum) falls with",
        "tumorquery evaluate DB.h5 --synthetic 1000 --out DIR",
        "1,000 synthetic tumours, seed 2022; five patients of TCIA",
        "2026-11-25",
    ),
    Claim(
        "docs/evaluation.md",
        "**Table 1, 1,000 synthetic tumours**",
        "tumorquery evaluate DB.h5 --synthetic 1000 --cohort cohort.csv --out DIR",
        "1,000 synthetic tumours, seed 2022, in three databases; 8 patients",
        "2026-11-25",
    ),
    Claim(
        "docs/evaluation.md",
        "| ds64 | 96.0 [94.6, 97.0] |",
        "tumorquery evaluate starter --synthetic 1000 --out DIR",
        "1,000 synthetic tumours, seed 2022; quick: the first 100, Top-1 and Top-15 of four strategies",
        "2026-11-25",
        "strategies",
    ),
    Claim(
        "docs/evaluation.md",
        "synthetic tumours: 1.558",
        "tumorquery evaluate starter --synthetic 1000 --out DIR",
        "1,000 synthetic tumours, seed 2022; quick: the first 100",
        "2026-11-25",
        "strategies",
    ),
    Claim(
        "docs/evaluation.md",
        "the six networks of rank 128 trained in 92 s together",
        "tumorquery train DB.h5 --strategy NAME",
        "1,500 tumours of the database of 50,000 entries",
        "2026-11-25",
    ),
    Claim(
        "docs/evaluation.md",
        "| `ae` | 128 | 2.7 MB | 62.4 |",
        "tumorquery evaluate large.h5 --synthetic 1000 --strategies ae,vae,bihash --out DIR",
        "1,000 synthetic tumours, seed 2022",
        "2026-11-25",
    ),
    Claim(
        "docs/evaluation.md",
        "| `ae` | 128 | 2.7 MB",
        "python Testing/verification --only models",
        "the bundled file",
        "2026-11-25",
        "models",
    ),
    Claim(
        "docs/refinement.md",
        "| mean | 1.466 | 1.519 | 4.2 | 1.640 | 5.3 | |",
        "tumorquery cohort FILE.csv --out DIR --refine patient",
        "five patients of TCIA, solver version 1",
        "2026-11-23",
    ),
    Claim(
        "docs/refinement.md",
        "| error of the infiltration length | 1.0 % | 6.7 % |",
        "python scripts/measure_refinement.py starter 200 RESULT.json",
        "200 synthetic tumours, seed 11, solver version 1",
        "2026-11-25",
    ),
    Claim(
        "docs/refinement.md",
        "| own | 5 | .923 (.920) | .938 (.920) | .770 (.780) | .983 | .056 |",
        "tumorquery evaluate starter --cross-anatomy 5 --random-seed 32000 --out DIR",
        "five made-up patients, and three with mass effect, seed 32000",
        "2026-11-25",
    ),
    Claim(
        "docs/refinement.md",
        "| grey matter 10 times slower | 2.79 | 11.1 | 132 | 1.584 |",
        "tumorquery infer --t1gd F --segmentation F --labels NAME --sensitivity --out DIR",
        "the patient TCIA02_135",
        "2026-11-25",
    ),
    Claim(
        "docs/refinement.md",
        "| pipeline | patient | 0.0033 | 0.0178 |",
        "tumorquery evaluate starter --cross-anatomy 50 --out DIR",
        "50 made-up tumours, seed 0; eight with mass effect; solver version 1",
        "2026-11-25",
    ),
    Claim(
        "docs/refinement.md",
        "| well (from 1.6) | 102 | 0.029 |",
        EXPERIMENT,
        "the 50 tumours of the density's page, three densities each",
        "2026-11-26",
        "known truth",
    ),
    Claim(
        "docs/refinement.md",
        "| 4 | 2 | 0.141 | 1 | 0.9984 | 0.9988 |",
        "python Testing/benchmarks/solver_step.py",
        "six tumours of each length, seed 1; quick: one of them is no worse than the worst",
        "2026-11-25",
        "steps",
    ),
    Claim(
        "docs/refinement.md",
        "end at a mean Dice sum of 1.574, 1.574 and 1.575",
        "tumorquery evaluate starter --starts --cohort cohort.csv --out DIR",
        "two patients of TCIA and three made-up tumours, seed 700",
        "2026-11-26",
    ),
    Claim(
        "docs/density.md",
        "| exact | 50 | **assimilated** | 0.0111 |",
        EXPERIMENT,
        "50 made-up tumours, seed 300; 25 with mass effect; 12 with each error of the outlines",
        "2026-11-26",
        "density",
    ),
    Claim(
        "docs/density.md",
        "| exact | 50 | 90 % | 0.884 |",
        EXPERIMENT,
        "50 made-up tumours, seed 300; 25 with mass effect; bands by the code before their fading (see there)",
        "2026-11-26",
        "density",
    ),
    Claim(
        "docs/density.md",
        "a share of .34 to .63 of the",
        "python Testing/benchmarks/held_out_outlines.py",
        "seven patients (TCIA, BRATS 2013)",
        "2026-11-26",
    ),
    Claim(
        "docs/brain.md",
        "| .974, .978 |",
        "python Testing/benchmarks/heads.py OUT --donor HEAD BRAIN && tumorquery bench brain --cohort OUT/heads.csv",
        "the sample in its painted head; made heads of three patients, one real head",
        "2026-11-25",
        "brain",
    ),
    Claim(
        "docs/plans.md",
        "1.2 to 1.5 % at 1 mm",
        "python -m pytest Testing/unit/results/test_plan_masks.py",
        "a ball of 20 mm and 15 mm around it",
        "2026-11-26",
    ),
    Claim(
        "docs/plans.md",
        "| TCIA02_135 | 185 | 5.2 % (3.1-16.5) |",
        "tumorquery cohort cohort.csv --uncertainty --plan --out DIR",
        "eight patients",
        "2026-11-26",
    ),
    Claim(
        "docs/method.md",
        "falls from .0167 to .0111",
        EXPERIMENT,
        "50 made-up tumours, seed 300",
        "2026-11-26",
        "density",
    ),
    Claim("docs/limits.md", "mean error .0111 within 20 mm", EXPERIMENT, "50 made-up tumours, seed 300", "2026-11-26"),
    Claim(
        "docs/limits.md", "90 % bands hold 88 % of the voxels", EXPERIMENT, "50 made-up tumours, seed 300", "2026-11-26"
    ),
    Claim(
        "docs/method.md",
        "another 141 ml of SRI24 count as tissue",
        "python Testing/verification --only tissue",
        "SRI24",
        "2026-11-26",
        "tissue",
    ),
    Claim(
        "docs/distributed-builds.md",
        "masks agree to a Dice of 0.999",
        "tumorquery build tumors.h5 --entries 50000",
        "the same build on two kinds of processor, solver version 1",
        "2026-11-23",
    ),
)
