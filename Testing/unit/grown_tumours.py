"""Tumours of a given volume."""

from TumorQueryLib.anatomy.tissue import Tissue
from TumorQueryLib.growth import Moment, grow_trajectory


def grown_to(volume_ml: float, seed, infiltration_length: float, tissue: Tissue) -> Moment:
    """The tumour when its whole region is about this large, within a step of the solver."""
    steps = grow_trajectory(seed, infiltration_length, tissue, every_step=True, stop_volume_ml=volume_ml)
    (before, small), (after, large) = [(moment.rho_t, moment.volume_ml) for moment in steps][-2:]
    # A front of constant speed: the radius grows linearly.
    share = (volume_ml ** (1 / 3) - small ** (1 / 3)) / (large ** (1 / 3) - small ** (1 / 3))
    time = round(before + share * (after - before), 6)
    return next(grow_trajectory(seed, infiltration_length, tissue, rho_t=[time]))
