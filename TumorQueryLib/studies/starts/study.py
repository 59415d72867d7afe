"""The study of the starts: the same refinement from the matches, from the core's centre, and from both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from TumorQueryLib.anatomy.carried import carried_anatomy
from TumorQueryLib.base.errors import InputError
from TumorQueryLib.base.timing import Stopwatch
from TumorQueryLib.estimates.estimate import Estimate
from TumorQueryLib.estimates.refine import START_KINDS, refine
from TumorQueryLib.estimates.search import Solve
from TumorQueryLib.studies.cross_anatomy.errors import density_errors
from TumorQueryLib.studies.known_truth.study import Study, Tables
from TumorQueryLib.studies.known_truth.tumour import Tumour
from TumorQueryLib.studies.starts import tables

#: Made-up tumours, where no number is named.
DEFAULT_COUNT = 8
#: A search has reached its answer once its Dice sum is within this of the final one.
REACHED = 0.005


@dataclass(frozen=True)
class StartsStudy(Study):
    """The study "starts": patients are refined from the database's matches, from the core's centre, and from both.

    A second run with a larger database tells what its size changes.
    """

    name = "starts"
    tables: ClassVar[Tables] = tables
    takes_patients = True

    def measure(self, tumour: Tumour) -> list[dict[str, Any]]:
        """One patient refined from each kind of starts, in the patient's anatomy and with one focus.

        Returns
        -------
        list of dict
            Of each of `refine.START_KINDS`: `kind` ("made up" or "patient"), `starts`; `dice_core`, `dice_whole` and
            `dice_sum` on the T1Gd image's grid; `score`, the Dice sum in the anatomy, which the search maximises;
            `mae_near` (None without a truth); `length_mm` in the patient, `rho_t`; wall `seconds` and `solves` of the
            search, and how many of them it took until the score was within `REACHED` of the final one (the seconds are
            shared out evenly over the solves: those of two threads overlap, so no clock tells them apart).

        Raises
        ------
        InputError
            When nothing of the tumour lies in the atlas's brain.
        """
        way, thresholds = tumour.way, tumour.setting.thresholds
        anatomy, target = carried_anatomy(tumour.setting.atlas, way.space, way.patient.core, way.patient.whole)
        if not way.query.whole.any() or not target.whole.any():
            raise InputError("The tumour lies outside the atlas's brain, so nothing was refined.")
        rows = []
        for starts in START_KINDS:
            with Stopwatch() as taken:
                # Two foci are searched by halves, whose scores are not those of the whole.
                refinement = refine(
                    way.match,
                    way.ranked,
                    anatomy,
                    target,
                    thresholds,
                    solves=tumour.setting.method.refine_solves,
                    foci="1",
                    starts=starts,
                    progress=tumour.progress,
                )
            estimate = Estimate.of(
                "refined",
                anatomy,
                refinement.parameters,
                refinement.density,
                way.patient.regions_on_t1gd,
                target,
                thresholds,
            )
            fit, path = estimate.fit, refinement.path
            errors = None if tumour.phantom is None else density_errors(estimate.in_patient.array, tumour.phantom)
            reached = solves_to_reach(path)
            rows.append(
                {
                    "kind": "patient" if tumour.phantom is None else "made up",
                    "starts": starts,
                    "dice_core": fit.dice_core,
                    "dice_whole": fit.dice_whole,
                    "dice_sum": fit.dice_sum,
                    "score": max(solve.score for solve in path),
                    "mae_near": None if errors is None else errors["mae_near"],
                    "length_mm": estimate.infiltration_lengths_mm[0],
                    "rho_t": estimate.parameters[0].rho_t,
                    "seconds": taken.wall,
                    "solves": len(path),
                    "solves_to_reach": reached,
                    "seconds_to_reach": taken.wall * reached / len(path),
                }
            )
        return rows


def solves_to_reach(path: Sequence[Solve]) -> int:
    """Solves of a search until its score is within `REACHED` of the best one."""
    aim = max(solve.score for solve in path) - REACHED
    return next(number for number, solve in enumerate(path, 1) if solve.score >= aim)
