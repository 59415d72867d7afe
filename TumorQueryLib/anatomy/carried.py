"""The atlas's tissue carried into a patient by the registration: the patient's own anatomy, as far as it is known."""

from __future__ import annotations

from TumorQueryLib.anatomy.anatomy import Anatomy
from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.anatomy.tissue_maps import TissueMaps
from TumorQueryLib.geometry.grid import Volume
from TumorQueryLib.geometry.regions import TumorMasks
from TumorQueryLib.geometry.transforms import SpaceMap


def carried_anatomy(atlas: Atlas, space: SpaceMap, core: Volume, whole: Volume) -> tuple[Anatomy, TumorMasks]:
    """The atlas's anatomy in the patient's space, where the patient's tumour is tissue.

    Parameters
    ----------
    atlas : Atlas
    space : SpaceMap
        Between the patient and that atlas.
    core, whole : Volume
        The patient's regions, boolean, each on any grid.

    Returns
    -------
    anatomy : Anatomy
        On a grid of 1.5 mm along RAS around the patient's brain; see `Anatomy.of_patient`.
    masks : TumorMasks
        The patient's regions on that grid.
    """
    return Anatomy.of_patient(TissueMaps.carried(atlas, space), core, whole)
