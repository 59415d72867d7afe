"""What a series is, by its header's values: names of real studies, in several languages, against times and tags."""

import itertools

import pytest

from TumorQueryLib.inputs.dicom.series_kind import SeriesHeader, classify_series

#: TE, TR, TI, dimensions.
TIMES = {
    "se": (12.0, 550.0, None, "2D"),
    "gre": (3.1, 8.2, 450.0, "3D"),
    "mprage": (2.3, 1900.0, 900.0, "3D"),
    "t1flair": (24.0, 2300.0, 860.0, "2D"),
    "flair": (125.0, 9000.0, 2250.0, "2D"),
    "t2": (100.0, 4500.0, None, "2D"),
    "epi": (80.0, 6000.0, None, "2D"),
    "none": (None, None, None, ""),
}
_uids = itertools.count(1)


def header(description, times="none", **values):
    echo, repetition, inversion, dimensions = TIMES[times]
    usual = {"echo_time": echo, "repetition_time": repetition, "inversion_time": inversion}
    usual |= {"acquisition_type": dimensions, "plane": "axial", "voxel_mm": (1.0, 1.0, 5.0), "study_uid": "1.2"}
    return SeriesHeader(f"1.2.{next(_uids)}", description=description, **usual | values)


def kind(description, times="none", **values):
    found = classify_series([header(description, times, **values)])[0]
    return found.role, found.confidence


#: Names seen in TCGA and RHUH studies, with the times of such sequences.
SEEN = [
    ("T1 AX", "se", "t1"),
    ("T1 AX POST GAD", "se", "t1gd"),
    ("MRHR T1 AX POST GAD", "gre", "t1gd"),
    ("MRHR FLAIR AX", "flair", "flair"),
    ("MRHR T2 AX", "t2", "t2"),
    ("AX T1 POST GD FLAIR", "t1flair", "t1gd"),
    ("AX T1 pre gd", "se", "t1"),
    ("AXIAL FLAIR RF2 150", "flair", "flair"),
    ("AX T2 FR-FSE RF2 150", "t2", "t2"),
    ("Ax T1 FSE", "se", "t1"),
    ("Ax T2 FRFSE", "t2", "t2"),
    ("Ax T2 FLAIR", "flair", "flair"),
    ("Ax T2 FSE Prop", "t2", "t2"),
]


@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize(("name", "times", "role"), SEEN)
def test_names_of_real_studies(name, times, role, timed):
    found = kind(name, times if timed else "none", acquisition_type="2D")
    assert found[0] == role
    assert found[1] != "unclear"


@pytest.mark.parametrize("name", ["Ax T1 3d NEURONAVEGADOR", "sag SPGR 3D Isotropico"])
def test_names_that_do_not_speak_of_contrast_are_unclear_without_it(name):
    """NEURONAVEGADOR has "gad" in its midst."""
    assert kind(name, "gre") == ("t1 or t1gd", "unclear")
    assert kind(name, "gre", contrast=True) == ("t1gd", "certain")
    assert kind(name, "gre", contrast=False) == ("t1", "certain")
    before, after = (header(name, "gre", taken_at=f"20240101{time}0000.000000") for time in ("10", "11"))
    found = classify_series([after, before])
    assert [(one.role, one.confidence) for one in found] == [("t1gd", "likely"), ("t1", "likely")]


@pytest.mark.parametrize(
    ("name", "times", "role"),
    [
        ("T1 SE tra nach KM", "se", "t1gd"),
        ("t1_mpr_sag_p2_iso_KM", "mprage", "t1gd"),
        ("T1 Kontrastmittel", "se", "t1gd"),
        ("T1 tra mit KM", "se", "t1gd"),
        ("T1 ohne KM", "se", "t1"),
        ("T1 vor KM", "se", "t1"),
        ("T1W_TSE_nativ", "se", "t1"),
        ("T1 GADO", "se", "t1gd"),
        ("AX T1 avec injection", "se", "t1gd"),
        ("T1 après gado", "se", "t1gd"),
        ("T1 sans injection de gadolinium", "se", "t1"),
        ("AX T1 avant injection", "se", "t1"),
        ("T1 con gadolinio", "se", "t1gd"),
        ("T1 con contraste", "se", "t1gd"),
        ("T1 CIV", "se", "t1gd"),
        ("T1 sin contraste", "se", "t1"),
        ("T1 antes de contraste", "se", "t1"),
        ("T1 s/cte", "se", "t1"),
        ("T1 sin fatsat con gadolinio", "se", "t1gd"),
        ("T1 mdc", "se", "t1gd"),
        ("T1 senza mdc", "se", "t1"),
        ("AX T1 +C", "se", "t1gd"),
        ("AX T1 C+", "se", "t1gd"),
        ("sT1W_3D_TFE+Gd", "gre", "t1gd"),
        ("t1ce", "se", "t1gd"),
        ("AX T1 W/O CONTRAST", "se", "t1"),
        ("Ax T1 non-contrast", "se", "t1"),
        ("T1 post op", "se", "t1"),
        ("T1 post-op post Gd", "se", "t1gd"),
        ("t2_tirm_tra_dark-fluid", "flair", "flair"),
        ("3D FLAIR post Gd", "flair", "flair"),
        ("Sag CUBE T2 FLAIR", "flair", "flair"),
        ("AX T1 FLOW COMP", "se", "t1"),
        ("ep2d_diff_3scan_trace", "epi", "diffusion/other"),
        ("Difusión", "epi", "diffusion/other"),
        ("DSC Perfusion", "none", "diffusion/other"),
        ("3D TOF MRA", "gre", "diffusion/other"),
        ("Ax SWAN", "gre", "diffusion/other"),
        ("ASSET Calibration", "gre", "diffusion/other"),
        ("T1 map", "none", "diffusion/other"),
        ("Localizador", "gre", "localizer"),
        ("AAHead_Scout", "gre", "localizer"),
        ("Übersichtsaufnahme", "none", "localizer"),
        ("T1 MPRAGE SUB", "mprage", "derived"),
    ],
)
def test_names_in_the_languages_of_archives(name, times, role):
    assert kind(name, times, acquisition_type="2D")[0] == role


def test_without_a_name_the_times_tell_and_are_never_certain():
    assert kind("", "flair") == ("flair", "likely")
    assert kind("", "t2") == ("t2", "likely")
    assert kind("", "gre") == ("t1 or t1gd", "unclear")
    assert kind("", "gre", contrast=True) == ("t1gd", "likely")
    assert kind("", inversion_time=150.0, repetition_time=4000.0, echo_time=60.0)[0] == "diffusion/other"  # STIR
    short = {"inversion_time": 150.0, "repetition_time": 600.0, "echo_time": 14.0}
    assert kind("", contrast=True, **short) == ("t1gd", "likely")
    assert kind("Head", "none") == ("diffusion/other", "unclear")
    assert kind("", "none", protocol="AX T1 POST GAD") == ("t1gd", "likely")


def test_a_name_against_its_times_or_tags_is_unclear():
    assert kind("AX T1 POST GD", "t2") == ("t1gd", "unclear")
    assert kind("AX FLAIR", "gre") == ("flair", "unclear")
    assert kind("AX T1 pre gd", "se", contrast=True) == ("t1 or t1gd", "unclear")
    assert kind("AX T1 post gd", "se", contrast=False) == ("t1 or t1gd", "unclear")
    assert kind("T1 pre and post gad", "se") == ("t1 or t1gd", "unclear")


def test_contrast_in_a_flair_makes_no_t1gd():
    assert kind("Ax T2 FLAIR", "flair", contrast=True) == ("flair", "certain")


def at(time):
    return f"20240101{time}00.000000"


def test_what_was_taken_after_contrast_was_given_has_it():
    first = header("AX T1", "se", taken_at=at("1000"), number=1)
    flair = header("AX FLAIR", "flair", taken_at=at("1020"), contrast=True, number=2)
    last = header("SAG T1", "se", taken_at=at("1030"), plane="sagittal", number=3)
    found = classify_series([first, flair, last])
    assert [(one.role, one.confidence) for one in found] == [
        ("t1", "certain"),
        ("flair", "certain"),
        ("t1gd", "likely"),
    ]
    assert "taken after series 2" in found[2].why
    # A bolus is given for perfusion too, but not for arterial spin labelling.
    for name, role in (("DSC perfusion", "t1gd"), ("ASL perfusion", "t1")):
        bolus = header(name, "epi", taken_at=at("1020"))
        assert classify_series([bolus, last])[1].role == role


def test_the_time_order_of_other_studies_says_nothing():
    early = header("SPGR", "gre", taken_at=at("1000"), study_uid="1.3")
    late = header("SPGR", "gre", taken_at=at("1030"), study_uid="1.4")
    assert [one.confidence for one in classify_series([early, late])] == ["unclear", "unclear"]


def test_two_t1_tell_each_other_only_where_they_are_alike_and_timed():
    early, late = (header("SPGR", "gre", taken_at=at(time)) for time in ("1000", "1030"))
    other = header("SPGR", "gre", taken_at=at("1030"), voxel_mm=(1.0, 1.0, 1.0))
    untimed = header("SPGR", "gre")
    third = header("SPGR", "gre", taken_at=at("1040"))
    assert [one.role for one in classify_series([early, late])] == ["t1", "t1gd"]
    for several in ([early, other], [early, untimed], [early, late, third]):
        assert {one.role for one in classify_series(several)} == {"t1 or t1gd"}


def test_derived_series_are_told_by_their_image_type():
    assert kind("AX T1 POST GAD", "se", image_type=("DERIVED", "SECONDARY", "MPR"))[0] == "derived"
    assert kind("AX T1 POST GAD", "se", image_type=("DERIVED", "SECONDARY")) == ("derived", "likely")
    # "mpr" is a reformat, but as one maker's protocol the MPRAGE itself.
    assert kind("t1_mpr_ns_sag", "mprage", image_type=("DERIVED", "SECONDARY", "OTHER"))[0] == "derived"
    assert kind("t1_mpr_ns_sag", "mprage")[0] == "t1 or t1gd"


@pytest.mark.parametrize(
    ("sop_class", "modality", "role"),
    [
        ("1.2.840.10008.5.1.4.1.1.66.4", "SEG", "segmentation"),
        ("1.2.840.10008.5.1.4.1.1.66.7", "SEG", "segmentation"),
        ("1.2.840.10008.5.1.4.1.1.481.3", "RTSTRUCT", "contours"),
        ("1.2.840.10008.5.1.4.1.1.481.2", "RTDOSE", "dose"),
        ("1.2.840.10008.5.1.4.1.1.30", "MR", "map"),
        ("1.2.840.10008.5.1.4.1.1.7", "OT", "diffusion/other"),
        ("1.2.840.10008.5.1.4.1.1.2", "CT", "diffusion/other"),
    ],
)
def test_what_is_no_mri(sop_class, modality, role):
    assert kind("AX T1 POST GAD", sop_class=sop_class, modality=modality) == (role, "certain")


def test_enhanced_mr_says_its_contrast():
    assert kind("", acquisition_contrast="FLUID_ATTENUATED")[0] == "flair"
    assert kind("", acquisition_contrast="T1", contrast=True)[0] == "t1gd"
    assert kind("", acquisition_contrast="DIFFUSION")[0] == "diffusion/other"
