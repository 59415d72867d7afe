"""What regions are called and coded in DICOM, in segmentations and in structure sets alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Code(NamedTuple):
    """A term of a terminology; pydicom's own class would cost every job a tenth of a second."""

    value: str
    scheme: str
    meaning: str


#: A private scheme, for what no standard one has a code for.
PRIVATE = "99TUMORQUERY"
ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")
RT_TARGET = Code("130041", "DCM", "RT Target")
BRAIN = Code("12738006", "SCT", "Brain")
#: As Slicer's terminology and MONAIAuto3DSeg code the part of a tumour that is seen in T1Gd.
NEOPLASM = Code("86049000", "SCT", "Neoplasm, Primary")
MASS = Code("4147007", "SCT", "Mass")
GROSS_TUMOUR_VOLUME = Code("228791009", "SCT", "Gross tumor volume")
CLINICAL_TARGET_VOLUME = Code("228792002", "SCT", "Clinical target volume")
#: Families of algorithms: CID 7162 has none for either.
GROWTH_MODEL = Code("growth-model", PRIVATE, "Growth model, matched to a segmentation")
GIVEN = Code("given", PRIVATE, "Given; by what is not known")
NO_UNITS = Code("1", "UCUM", "no units")
RESECTION_CAVITY = Code("resection-cavity", PRIVATE, "Resection cavity")
CELL_DENSITY = Code("density", PRIVATE, "Tumor cell density, fraction")
CELL_DENSITY_DEVIATION = Code("density-sd", PRIVATE, "Standard deviation of the tumor cell density")
DENSITY_REGION = Code("density-above", PRIVATE, "Tumor cell density above a value")


@dataclass(frozen=True)
class Meaning:
    """What a region is.

    Parameters
    ----------
    category, code : Code
        In a segmentation.
    target : str
        RTROIInterpretedType in a structure set.
    target_code : Code, optional
        RTROIIdentificationCode in a structure set.
    """

    category: Code
    code: Code
    target: str = ""
    target_code: Code | None = None


CORE = Meaning(ABNORMAL, NEOPLASM, "GTV", GROSS_TUMOUR_VOLUME)
WHOLE = Meaning(ABNORMAL, MASS)
CAVITY = Meaning(ABNORMAL, RESECTION_CAVITY, "CAVITY")
ABOVE = Meaning(ABNORMAL, DENSITY_REGION)
PLAN = Meaning(RT_TARGET, CLINICAL_TARGET_VOLUME, "CTV", CLINICAL_TARGET_VOLUME)


@dataclass(frozen=True, eq=False)
class Region:
    """A region of the T1Gd series.

    Parameters
    ----------
    name : str
    mask : ndarray of bool
        Indexed [i, j, k] on the series' grid.
    meaning : Meaning
    colour : tuple of int
        Red, green and blue from 0 to 255, to show it in.
    by_model : bool
        Whether this software found it; else it was given, and how it was made is not known.
    description : str
        How it was made, where more than its name says so.
    edited : bool
        Whether somebody changed by hand what this software had made.
    """

    name: str
    mask: NDArray[np.bool_]
    meaning: Meaning
    colour: tuple[int, int, int]
    by_model: bool = True
    description: str = ""
    edited: bool = False

    @property
    def algorithm(self) -> str:
        """What made it, as DICOM names kinds of algorithms; empty where that is not known."""
        if not self.by_model:
            return ""
        return "SEMIAUTOMATIC" if self.edited else "AUTOMATIC"
