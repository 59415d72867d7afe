"""What is said of a brain that was extracted."""

import re

import pytest

from TumorQueryLib.anatomy.patient_brain import PatientBrain
from TumorQueryLib.registration.quality import brain_warnings

GOOD = {"brain_dice": 0.97, "brain_dice_affine": 0.94, "brain_ml": 1400.0}


@pytest.mark.parametrize(
    ("quality", "brain", "said"),
    [
        (
            GOOD | {"brain_dice_affine": 0.84},
            PatientBrain("extracted"),
            r"agrees poorly with the atlas's \(Dice 0.84\)",
        ),
        ({"brain_dice": 0.80, "brain_ml": 1400.0}, PatientBrain("extracted"), r"\(Dice 0.80\)"),
        (GOOD | {"brain_ml": 890.0}, PatientBrain("extracted"), "has 890 ml; 900 to 2000 ml are usual"),
        (GOOD | {"brain_ml": 2010.0}, PatientBrain("extracted"), "has 2010 ml"),
        (GOOD, PatientBrain("extracted", None, 0.9, 0.03), r"3% of the segmented tumour \(0.9 ml\) lay outside"),
        (GOOD, PatientBrain("extracted", None, 1.2, 0.01), r"1% of the segmented tumour \(1.2 ml\) lay outside"),
    ],
)
def test_an_extracted_brain_that_is_not_like_a_brain_is_doubted(quality, brain, said):
    (warning,) = brain_warnings(brain, quality)
    assert re.search(said, warning)
    assert "--brain-mask" in warning


@pytest.mark.parametrize(("ml", "doubted"), [(890.0, True), (900.0, False), (2000.0, False), (6970.0, True)])
def test_of_a_brain_mask_that_was_given_its_volume_is_doubted_alone(ml, doubted):
    said = brain_warnings(PatientBrain("given", None, 9.0, 0.5), {"brain_dice": 0.5, "brain_ml": ml})
    assert [f"mask that was given has {ml:.0f} ml" in one for one in said] == [True] * doubted


def test_nothing_is_said_of_an_extracted_brain_like_others():
    assert brain_warnings(PatientBrain("extracted", None, 0.5, 0.01), GOOD) == ()
