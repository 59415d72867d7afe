"""How far a density lies from the true one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.geometry.regions import dice
from TumorQueryLib.studies.phantom import Phantom

LEVELS = (0.05, 0.2, 0.4, 0.6, 0.8)


def density_errors(found: NDArray[np.float32], case: Phantom) -> dict[str, float]:
    """How far a density lies from the true one, in the patient's brain.

    Parameters
    ----------
    found : ndarray
        On the grid of the true density.
    case : Phantom

    Returns
    -------
    dict
        `mae_brain` and `mae_near`: mean absolute error in the brain, and there within 20 mm of the true whole tumour;
        `mae_inside` and `mae_outside`: the latter inside and outside of the true whole tumour;
        `dice_<level>` for each of `LEVELS`; `volume_whole_ratio` and `volume_core_ratio`, found / true.
    """
    true = case.density.array
    error = np.abs(found - true)
    core, whole = case.patient.core.array, case.patient.whole.array
    levels = {f"dice_{level}": dice((found > level) & case.brain, (true > level) & case.brain) for level in LEVELS}
    return {
        "mae_brain": float(error[case.brain].mean()),
        "mae_near": float(error[case.near].mean()),
        "mae_inside": float(error[case.near & whole].mean()),
        "mae_outside": float(error[case.near & ~whole].mean()),
        **levels,
        "volume_whole_ratio": float((found > case.thresholds[1]).sum() / whole.sum()),
        "volume_core_ratio": float((found > case.thresholds[0]).sum() / max(1, core.sum())),
    }
