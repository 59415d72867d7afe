"""What the labels of a segmentation mean, and how it is asked for where they do not say."""

import tracemalloc
import unicodedata
from pathlib import Path

import nrrd
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from property_examples import examples

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.grid import volume_from_image
from TumorQueryLib.inputs.checks import Segment
from TumorQueryLib.inputs.image_files import read_image_file
from TumorQueryLib.inputs.labels import CONVENTIONS, parse_labels, regions_from_label_map, regions_from_segments

# From the data sets' own descriptions: necrosis, oedema, non-enhancing, enhancing, cyst, resection cavity.
TISSUE = {
    "brats2013": {1: "core", 2: "oedema", 3: "core", 4: "core"},
    "brats2018": {1: "core", 2: "oedema", 4: "core"},
    "brats2023": {1: "core", 2: "oedema", 3: "core"},
    "brats2024": {1: "core", 2: "oedema", 3: "core", 4: "cavity"},
    "brats-peds": {1: "core", 2: "core", 3: "core", 4: "oedema"},
    "decathlon": {1: "oedema", 2: "core", 3: "core"},
}


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
@pytest.mark.parametrize("labels", sorted(CONVENTIONS))
def test_each_convention_reads_its_labels(labels, dtype):
    present = sorted(TISSUE[labels])
    array = np.array([0, *present], dtype=dtype)
    regions = regions_from_label_map(array, labels)
    assert regions.core.tolist() == [False, *(TISSUE[labels][label] == "core" for label in present)]
    assert regions.whole.tolist() == [False, *(TISSUE[labels][label] != "cavity" for label in present)]
    assert regions.labels == labels


def test_the_table_of_the_documentation_is_that_of_the_code():
    text = (Path(__file__).parents[3] / "docs" / "inputs.md").read_text(encoding="utf-8")
    for name, convention in CONVENTIONS.items():
        assert set(convention.meanings) >= set(convention.whole)
        (row,) = [line for line in text.splitlines() if line.startswith(f"| `{name}` |")]
        said = [cell.strip() for cell in row.strip("|").split("|")][1:]
        assert said[:4] == [convention.meanings.get(str(number), "-") for number in (1, 2, 3, 4)]
        assert said[4:6] == [", ".join(convention.core), ", ".join(convention.whole)]


@given(st.sets(st.integers(1, 6), min_size=1))
def test_no_set_of_labels_speaks_for_itself(present):
    """{1, 2, 4} is three things: BraTS 2018, post-treatment without enhancement, children's tumours without cyst."""
    with pytest.raises(InputError, match=r"--labels") as caught:
        regions_from_label_map(np.array([0, *present]), None)
    said = str(caught.value).partition("Name the convention")[0]
    for name, tissue in TISSUE.items():
        assert (f"{name} (" in said) == (present <= set(tissue))


def test_what_1_2_4_can_mean_is_said():
    with pytest.raises(InputError) as caught:
        regions_from_label_map(np.array([0, 1, 2, 4]), None)
    said = str(caught.value)
    assert "brats2018 (1 necrosis and non-enhancing, 2 oedema, 4 enhancing)" in said
    assert "brats2024 (1 non-enhancing, 2 oedema, 4 resection cavity)" in said
    assert "brats-peds (1 enhancing, 2 non-enhancing, 4 oedema)" in said


def test_a_cavity_is_no_tumour():
    """After an operation, without enhancement: the labels of BraTS 2018, and less than half of its core."""
    array = np.repeat([0, 1, 2, 4], [5, 10, 45, 26])
    post, pre = (regions_from_label_map(array, labels) for labels in ("brats2024", "brats2018"))
    assert (post.core.sum(), post.whole.sum()) == (10, 55)
    assert (pre.core.sum(), pre.whole.sum()) == (36, 81)


@given(st.sampled_from(sorted(CONVENTIONS)), st.sets(st.integers(1, 12), min_size=1))
def test_a_label_that_the_convention_does_not_know_is_refused(labels, present):
    array = np.array([0, *present])
    if present <= set(TISSUE[labels]) and present & {k for k, v in TISSUE[labels].items() if v != "cavity"}:
        regions = regions_from_label_map(array, labels)
        assert not (regions.core & ~regions.whole).any()
    else:
        with pytest.raises(InputError, match="holds the labels"):
            regions_from_label_map(array, labels)


def test_the_free_form_takes_what_it_names_and_leaves_the_rest():
    array = np.array([0, 1, 2, 4, 9])
    regions = regions_from_label_map(array, "core=1,4/whole=1, 2,4")
    assert regions.core.tolist() == [False, True, False, True, False]
    assert regions.whole.tolist() == [False, True, True, True, False]
    assert regions.labels == "core=1,4/whole=1, 2,4"
    regions = regions_from_label_map(array, "core=/whole=2")
    assert not regions.core.any()
    assert regions.whole.sum() == 1


@pytest.mark.parametrize("values", [[0.004, 1.00001526, 1.9921, 3.9999998], [-0.00003, 0.9999, 2.0099, 4.0]])
def test_labels_stored_with_rounding_are_the_whole_numbers(values):
    regions = regions_from_label_map(np.array(values, dtype=np.float32), "brats2018")
    assert regions.core.tolist() == [False, True, False, True]
    assert regions.whole.tolist() == [False, True, True, True]
    with pytest.raises(InputError, match=r"such as 1\.02"):
        regions_from_label_map(np.array([0, 1.02, 2]), "brats2018")


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("brats2019", "'brats2019' is not known"),
        ("core=1", "is not known"),
        ("core=1,4/whole=2", "whole tumour includes the core"),
        ("core=/whole=", "whole tumour includes the core"),
        ("core=necrosis/whole=necrosis,edema", "names are for a segmentation in segments"),
        ("core=5/whole=5,6", "none of them is tumour"),
    ],
)
def test_labels_that_fit_nothing_are_refused(labels, said):
    with pytest.raises(InputError, match=said):
        regions_from_label_map(np.array([0, 1, 2, 4]), labels)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([0, 0, 0], "every voxel is 0"),
        ([0, 1.5, 2], "such as 1.5; a label map holds whole numbers"),
        ([0, 1, 700], "Is this file an image"),
        ([0, -1, 2], "Is this file an image"),
        ([0, np.nan, 2.5], "such as 2.5"),
        ([np.nan, np.nan, np.inf], "holds no finite number"),
    ],
)
def test_what_is_no_label_map_is_refused(values, said):
    with pytest.raises(InputError, match=said):
        regions_from_label_map(np.array(values), "brats2018")


@pytest.mark.parametrize("beyond", [np.nan, np.inf])
def test_what_is_no_number_is_background_in_a_label_map_too(beyond):
    regions = regions_from_label_map(np.array([beyond, 1.0, 2.0]), "brats2018")
    assert regions.core.tolist() == [False, True, False]
    assert regions.whole.tolist() == [False, True, True]
    assert regions.warnings == ("The segmentation is NaN or infinite in 1 of its 3 voxels, and taken as 0 there.",)


def segments(**masks):
    return [Segment(name.replace("_", " "), np.array(mask, dtype=bool)) for name, mask in masks.items()]


@pytest.mark.parametrize(
    ("named", "core", "whole"),
    [
        (segments(core=[1, 0, 0], whole_tumour=[1, 1, 0]), [1, 0, 0], [1, 1, 0]),
        (segments(Necrosis=[1, 0, 0, 0], Enhancing=[0, 1, 0, 0], Edema=[0, 0, 1, 0]), [1, 1, 0, 0], [1, 1, 1, 0]),
        (segments(TC=[1, 0, 0], WT=[0, 1, 0]), [1, 0, 0], [1, 1, 0]),
        # Where core and whole tumour are both there, other segments do not matter.
        (segments(core=[1, 0, 0], whole=[1, 1, 0], ventricles=[0, 0, 1]), [1, 0, 0], [1, 1, 0]),
        (segments(oedema=[0, 1, 0]), [0, 0, 0], [0, 1, 0]),
    ],
)
def test_segment_names_that_say_what_they_are(named, core, whole):
    found = regions_from_segments(named, None)
    assert np.array_equal(found.core, np.array(core, dtype=bool))
    assert np.array_equal(found.whole, np.array(whole, dtype=bool))


def test_the_segments_that_were_taken_are_said():
    found = regions_from_segments(segments(Necrosis=[1, 0], Edema=[0, 1]), None)
    assert found.labels == "segment names: core=Necrosis/whole=Necrosis,Edema"


def test_a_name_with_a_comma_is_quoted():
    """Slicer's own terms have commas."""
    named = segments(**{"Neoplasm, Primary": [1, 0, 0], "Edema, peritumoral": [0, 1, 0], "rest": [0, 0, 1]})
    labels = 'core="neoplasm, primary"/whole="Neoplasm, Primary", "Edema, peritumoral"'
    found = regions_from_segments(named, labels)
    assert found.core.tolist() == [True, False, False]
    assert found.whole.tolist() == [True, True, False]
    with pytest.raises(InputError, match="in quotes"):
        regions_from_segments(named, 'core="neoplasm, primary/whole=rest')
    with pytest.raises(InputError, match="in quotes"):
        regions_from_segments(named, "core=Neoplasm, Primary/whole=Neoplasm, Primary")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("other", ["NFC", "NFD"])
def test_accents_are_alike_however_they_are_written(form, other):
    named = [Segment(unicodedata.normalize(form, "Ödem"), np.array([True, False]))]
    found = regions_from_segments(named, unicodedata.normalize(other, "core=/whole=ödem"))
    assert found.whole.tolist() == [True, False]
    assert regions_from_segments([Segment(unicodedata.normalize(form, "Œdema"), np.array([True]))], "core=/whole=œdema")


@pytest.mark.parametrize(
    "named",
    [
        segments(Segment_1=[1, 0], Segment_2=[0, 1]),
        segments(core=[1, 0]),
        segments(core=[1, 0], brain=[1, 1]),
        # What "other" is might be part of the core.
        segments(enhancing=[1, 0], edema=[0, 1], other=[1, 0]),
        segments(whole=[1, 1], cavity=[1, 0]),
    ],
)
def test_segment_names_that_do_not_say_are_refused_with_the_names(named):
    with pytest.raises(InputError, match=f"'{named[-1].name}'.*--labels"):
        regions_from_segments(named, None)


def test_segments_are_named_by_the_user():
    named = segments(Segment_1=[1, 0, 0], Rand=[0, 1, 0], Ödem=[0, 0, 1])
    regions = regions_from_segments(named, "core=segment 1,RAND/whole=Segment 1,Rand,ödem")
    assert regions.core.tolist() == [True, True, False]
    assert regions.whole.all()
    with pytest.raises(InputError, match="no segment 'Edema'; it holds 'Segment 1', 'Rand', 'Ödem'"):
        regions_from_segments(named, "core=Rand/whole=Rand,Edema")
    with pytest.raises(InputError, match="brats2018 speaks of label numbers"):
        regions_from_segments(named, "brats2018")


def coded(**segments):
    """Segments by name of (code, mask)."""
    return [
        Segment(name.replace("_", " "), np.array(mask, dtype=bool), code) for name, (code, mask) in segments.items()
    ]


NEOPLASM, NECROSIS, EDEMA, ENHANCING = "SCT 86049000", "SCT 6574001", "SCT 79654002", "NCIt C113842"
TISSUE_CODE = "SCT 85756007"


@pytest.mark.parametrize(
    "named",
    [
        # MONAIAuto3DSeg: by the IDs of its labels, and as they are shown.
        segments(Neoplasm=[1, 0, 0], Edema=[0, 0, 1], Necrosis=[0, 1, 0]),
        segments(
            **{
                "Necrosis in Necrosis": [0, 1, 0],
                "Edema in Edema": [0, 0, 1],
                "Neoplasm, Primary in Neoplasm, Primary": [1, 0, 0],
            }
        ),
        segments(**{"Neoplasm, Primary": [1, 0, 0], "Edema": [0, 0, 1], "Necrosis": [0, 1, 0]}),
        # BraTS 2023 and later; the cavity is no tumour.
        segments(NETC=[0, 1, 0, 0], SNFH=[0, 0, 1, 0], ET=[1, 0, 0, 0], RC=[0, 0, 0, 1]),
        segments(NCR=[0, 1, 0], ED=[0, 0, 1], ET=[1, 0, 0]),
        segments(**{"Enhancing Lesion": [1, 0, 0], "Edema": [0, 0, 1], "Necrosis_1": [0, 1, 0]}),
    ],
)
def test_tables_of_names(named):
    regions = regions_from_segments(named, None)
    assert regions.core.tolist()[:3] == [True, True, False]
    assert regions.whole.tolist()[:3] == [True, True, True]
    assert not regions.whole[3:].any()
    assert regions.labels.startswith("segment names: core=")
    assert regions.warnings == ()


@pytest.mark.parametrize(
    ("named", "core", "whole", "said"),
    [
        # Codes that differ say what names do not.
        (
            coded(Segment_1=(NEOPLASM, [1, 0, 0]), Segment_2=(NECROSIS, [0, 1, 0]), Segment_3=(EDEMA, [0, 0, 1])),
            [1, 1, 0],
            [1, 1, 1],
            "terminology codes: core=Segment 1,Segment 2/whole=Segment 1,Segment 2,Segment 3",
        ),
        (
            coded(a=(ENHANCING, [1, 0, 0]), b=(EDEMA, [0, 1, 0])),
            [1, 0, 0],
            [1, 1, 0],
            "terminology codes: core=a/whole=a,b",
        ),
        # As they were coded before SNOMED CT.
        (
            coded(a=("SRT M-80003", [1, 0]), b=("SRT M-36300", [0, 1])),
            [1, 0],
            [1, 1],
            "terminology codes: core=a/whole=a,b",
        ),
        # A name that says core or whole wins over any code.
        (
            coded(whole_tumour=(NEOPLASM, [1, 1, 1]), x=(ENHANCING, [1, 0, 0]), y=(EDEMA, [0, 0, 1])),
            [1, 0, 0],
            [1, 1, 1],
            "segment names and terminology codes: core=x/whole=whole tumour,x,y",
        ),
        (
            coded(core=(EDEMA, [1, 0, 0]), WT=(NEOPLASM, [1, 1, 0]), z=(NECROSIS, [0, 0, 1])),
            [1, 0, 0],
            [1, 1, 0],
            "segment names: core=core/whole=core,WT",
        ),
        (
            coded(core=(NEOPLASM, [1, 0]), z=(EDEMA, [0, 1])),
            [1, 0],
            [1, 1],
            "segment names and terminology codes: core=core/whole=core,z",
        ),
        # The same code for all says nothing, so the names are read.
        (
            coded(Edema=(NEOPLASM, [0, 1]), ET=(NEOPLASM, [1, 0])),
            [1, 0],
            [1, 1],
            "segment names: core=ET/whole=Edema,ET",
        ),
        # A code that is not known leaves the name.
        (
            coded(Edema=(TISSUE_CODE, [0, 1]), Segment_2=(NEOPLASM, [1, 0])),
            [1, 0],
            [1, 1],
            "segment names and terminology codes: core=Segment 2/whole=Edema,Segment 2",
        ),
        # Neither core nor oedema, whatever it is coded as.
        (
            coded(RC=(NEOPLASM, [0, 0, 1]), x=(ENHANCING, [1, 0, 0]), y=(EDEMA, [0, 1, 0])),
            [1, 0, 0],
            [1, 1, 0],
            "terminology codes: core=x/whole=x,y",
        ),
    ],
)
def test_the_order_of_meaning(named, core, whole, said):
    regions = regions_from_segments(named, None)
    assert regions.core.tolist() == [bool(x) for x in core]
    assert regions.whole.tolist() == [bool(x) for x in whole]
    assert regions.labels == said
    assert all("only segment of the core is the enhancing tumour" in warning for warning in regions.warnings)


def test_codes_win_over_names_of_parts_and_the_contradiction_is_said():
    regions = regions_from_segments(coded(Edema=(ENHANCING, [1, 0]), ET=(EDEMA, [0, 1])), None)
    assert regions.core.tolist() == [True, False]
    assert [warning.split(" by its code")[0] for warning in regions.warnings] == [
        "The segment 'Edema' is oedema by its name and part of the core",
        "The segment 'ET' is part of the core by its name and oedema",
    ]


@pytest.mark.parametrize(
    "named",
    [
        coded(Segment_1=(TISSUE_CODE, [1, 0]), Segment_2=(TISSUE_CODE, [0, 1])),
        coded(Segment_1=(NEOPLASM, [1, 0]), Segment_2=(NEOPLASM, [0, 1])),
        # One segment with a code, one without.
        coded(Segment_1=(EDEMA, [1, 0]), Segment_2=("", [0, 1])),
        coded(Segment_1=(EDEMA, [1, 1])),
        # A segment of unknown meaning may be part of the core.
        coded(a=(NEOPLASM, [1, 0, 0]), b=(EDEMA, [0, 1, 0]), c=(TISSUE_CODE, [0, 0, 1])),
        # The core is named; is this in it, or around it?
        coded(core=(NECROSIS, [1, 0, 0]), lesion=(NEOPLASM, [1, 1, 0]), Edema=(EDEMA, [0, 0, 1])),
        # Where is the oedema, and is there any?
        coded(a=(NEOPLASM, [1, 0]), b=(NECROSIS, [0, 1])),
        segments(GTV=[1, 0], CTV=[1, 1]),
    ],
)
def test_codes_that_do_not_say_are_refused_with_the_names(named):
    with pytest.raises(InputError, match=r"do not tell.*--labels.*core=NAME") as caught:
        regions_from_segments(named, None)
    assert all(repr(segment.name) in str(caught.value) for segment in named)


NAMES_OF_NEOPLASM = ("Neoplasm", "Neoplasm, Primary", "Enhancing", "Segment_1", "Tumor", "GTV", "Whole tumour", "Mass")
NAMES_OF_NECROSIS = ("Necrosis", "Necrosis in Necrosis", "NCR", "Segment_2", "necrotic core")
NAMES_OF_EDEMA = ("Edema", "SNFH", "Segment_3")


@pytest.mark.slow
@examples(400)
@given(
    st.sampled_from(NAMES_OF_NEOPLASM),
    st.sampled_from(NAMES_OF_NECROSIS),
    st.sampled_from([*NAMES_OF_EDEMA, None]),
    st.sampled_from([NEOPLASM, TISSUE_CODE, ENHANCING, EDEMA, "SCT 108369006", ""]),
    st.sampled_from([NECROSIS, NEOPLASM, TISSUE_CODE, ""]),
    st.sampled_from([EDEMA, NEOPLASM, TISSUE_CODE, ""]),
)
def test_the_core_is_never_the_necrosis_alone_beside_a_neoplasm(neoplasm, necrosis, edema, first, second, third):
    """By names, by codes and by both."""
    named = [Segment(neoplasm, np.array([True, False, False]), first)]
    named.append(Segment(necrosis, np.array([False, True, False]), second))
    if edema is not None:
        named.append(Segment(edema, np.array([False, False, True]), third))
    try:
        regions = regions_from_segments(named, None)
    except InputError:
        return
    # What neither name nor code says to be neoplasm or necrosis may be another thing.
    other = (neoplasm == "Segment_1" and first == EDEMA) or (necrosis == "Segment_2" and second != NECROSIS)
    assert other or regions.core.tolist() != [False, True, False]
    assert regions.whole[0]


@pytest.mark.parametrize(
    "named",
    [
        segments(whole_tumour=[1, 1, 1], necrosis=[0, 1, 0]),
        segments(whole_tumour=[1, 1, 1], necrosis=[0, 1, 0], edema=[0, 0, 1]),
        coded(Neoplasm=(EDEMA, [1, 0, 0]), Necrosis=(NECROSIS, [0, 1, 0])),
    ],
)
def test_the_necrosis_alone_is_asked_about(named):
    with pytest.raises(InputError, match="the necrosis alone is not the core"):
        regions_from_segments(named, None)
    labels = f'core=necrosis/whole="{named[0].name}",necrosis'
    assert regions_from_segments(named, labels).core.tolist() == [False, True, False]


def test_a_core_of_necrosis_without_any_neoplasm_is_warned_about():
    regions = regions_from_segments(segments(Necrosis=[1, 0], Edema=[0, 1]), None)
    assert "only segment of the core is the necrosis" in regions.warnings[0]


@pytest.mark.parametrize(
    "named",
    [
        segments(ET=[1, 0, 0], WT=[1, 1, 1]),
        segments(Enhancing=[1, 0, 0], Edema=[0, 1, 0]),
        coded(a=(ENHANCING, [1, 0, 0]), b=(EDEMA, [0, 1, 0])),
    ],
)
def test_a_core_of_enhancing_tumour_alone_is_warned_about(named):
    (said,) = regions_from_segments(named, None).warnings
    assert "only segment of the core is the enhancing tumour" in said


TAGS = (
    "Segmentation.Status:inprogress|TerminologyEntry:Segmentation category and type - 3D Slicer General Anatomy list"
    "~SCT^49755003^Morphologically Altered Structure~{}~^^~Anatomic codes - DICOM master list~^^~^^|"
)


@pytest.mark.parametrize(
    ("tags", "code"),
    [
        (TAGS.format("SCT^86049000^Neoplasm, Primary"), "SCT 86049000"),
        (TAGS.format("NCIt^C113842^Enhancing Lesion"), "NCIt C113842"),
        (TAGS.format("^^"), ""),
        ("TerminologyEntry:list~SRT^T-D0050^Tissue~SRT^T-D0050^Tissue", "SRT T-D0050"),
        ("Segmentation.Status:inprogress|", ""),
        ("DicomRtImport.RoiNumber:1|TerminologyEntry:Segmentation category and type", ""),
        ("TerminologyEntry:~~~~|", ""),
        ("", ""),
    ],
)
def test_the_terminology_of_a_slicer_segmentation_is_read(tmp_path, tags, code):
    array = np.where(CORE, 1, np.where(EDEMA_ARRAY, 2, 0)).astype(np.uint8)
    header = SPACE | {"space directions": np.diag([3.0, 3.0, 3.0])}
    for n in (0, 1):
        header |= {f"Segment{n}_Name": f"Segment_{n + 1}", f"Segment{n}_LabelValue": str(n + 1)}
        header |= {f"Segment{n}_Layer": "0"}
    header |= {"Segment0_Tags": tags, "Segment1_Tags": TAGS.format("SCT^79654002^Edema")}
    nrrd.write(str(tmp_path / "tumor.seg.nrrd"), array, header)
    file = read_image_file(tmp_path / "tumor.seg.nrrd", "segmentation")
    assert [segment.code for segment in file.segments] == [code, EDEMA]
    if code in (NEOPLASM, ENHANCING):
        regions = regions_from_segments(file.segments, None)
        assert np.array_equal(regions.core, CORE > 0)
        assert regions.labels == "terminology codes: core=Segment_1/whole=Segment_1,Segment_2"
    else:
        with pytest.raises(InputError, match="do not tell"):
            regions_from_segments(file.segments, None)


def test_a_label_is_written_once_and_for_all():
    assert parse_labels("brats2018").whole == ("1", "2", "4")
    assert parse_labels("core=a b, c/whole=a b,c,d/e").whole == ("a b", "c", "d/e")


CORE = np.zeros((12, 11, 10), dtype=np.uint8)
CORE[4:7, 4:7, 4:7] = 1
EDEMA_ARRAY = np.zeros_like(CORE)
EDEMA_ARRAY[3:9, 3:9, 3:9] = 1
SPACE = {"space": "left-posterior-superior", "space origin": [10.0, 20.0, 30.0]}


def write_one_layer(path):
    """As Slicer stores segments that do not overlap: one array, a value each."""
    array = np.where(CORE, 2, np.where(EDEMA_ARRAY, 1, 0)).astype(np.uint8)
    header = SPACE | {"space directions": np.diag([3.0, 3.0, 3.0])}
    for n, (name, value) in enumerate((("Enhancing tumor", 2), ("Edema", 1))):
        header |= {f"Segment{n}_Name": name, f"Segment{n}_LabelValue": str(value), f"Segment{n}_Layer": "0"}
    nrrd.write(str(path), array, header)
    return {"Enhancing tumor": CORE > 0, "Edema": (EDEMA_ARRAY > 0) & (CORE == 0)}


def write_layers(path):
    """As Slicer stores segments that overlap: a list of arrays in front of the axes of space."""
    header = SPACE | {
        "kinds": ["list", "domain", "domain", "domain"],
        "space directions": np.array([[np.nan] * 3, [3.0, 0, 0], [0, 3.0, 0], [0, 0, 3.0]]),
    }
    for n, (name, layer) in enumerate((("whole tumor", 1), ("core", 0))):
        header |= {f"Segment{n}_Name": name, f"Segment{n}_LabelValue": "1", f"Segment{n}_Layer": str(layer)}
    nrrd.write(str(path), np.stack([CORE, EDEMA_ARRAY]), header)
    return {"whole tumor": EDEMA_ARRAY > 0, "core": CORE > 0}


def write_list_of_one(path):
    """As Slicer 4.10 stores a single segment: a list of one, without layer or value."""
    header = SPACE | {
        "kinds": ["list", "domain", "domain", "domain"],
        "space directions": np.array([[np.nan] * 3, [3.0, 0, 0], [0, 3.0, 0], [0, 0, 3.0]]),
        "Segment0_Name": "edema",
    }
    nrrd.write(str(path), EDEMA_ARRAY[None], header)
    return {"edema": EDEMA_ARRAY > 0}


def test_a_segmentation_of_one_segment_is_read(tmp_path):
    expected = write_list_of_one(tmp_path / "tumor.seg.nrrd")
    (segment,) = read_image_file(tmp_path / "tumor.seg.nrrd", "segmentation").segments
    assert np.array_equal(segment.mask, expected[segment.name])


@pytest.mark.parametrize("write", [write_one_layer, write_layers])
def test_a_slicer_segmentation_is_read_by_name(tmp_path, write):
    expected = write(tmp_path / "tumor.seg.nrrd")
    file = read_image_file(tmp_path / "tumor.seg.nrrd", "segmentation")
    assert [segment.name for segment in file.segments] == list(expected)
    for segment in file.segments:
        assert np.array_equal(segment.mask, expected[segment.name])
    assert np.allclose(file.volume.grid.to_ras([0, 0, 0]), [-10, -20, 30])
    regions = regions_from_segments(file.segments, None)
    assert np.array_equal(regions.core, CORE > 0)
    assert np.array_equal(regions.whole, (CORE | EDEMA_ARRAY) > 0)


def write_segments(path, *segments):
    """One layer with the values 1 (core) and 2 (around it), and a header of (number, name, value, layer)."""
    header = SPACE | {"space directions": np.diag([3.0, 3.0, 3.0])}
    for number, name, value, layer in segments:
        header |= {f"Segment{number}_Name": name, f"Segment{number}_LabelValue": value}
        header |= {f"Segment{number}_Layer": layer}
    nrrd.write(str(path), np.where(CORE, 1, np.where(EDEMA_ARRAY, 2, 0)).astype(np.uint8), header)


@pytest.mark.parametrize(
    ("segments", "said"),
    [
        ([(0, "core", "1", "3"), (1, "edema", "2", "0")], r"'core' is in layer 3.*1 layers"),
        ([(0, "core", "1", "-1"), (1, "edema", "2", "0")], "'core' is in layer -1"),
        ([(0, "core", "0", "0"), (1, "edema", "2", "0")], "'core' is in layer 0 with value 0"),
        ([(0, "core", "one", "0"), (1, "edema", "2", "0")], "with value one"),
        ([(0, "core", "1", "0"), (1, "edema", "7", "0")], "no segment is the value 2"),
        ([(0, "core", "1", "0")], "no segment is the value 2"),
        ([(0, "core", "1", "0"), (1, "edema", "1", "0")], "'core' and 'edema' both are value 1"),
    ],
)
def test_a_segment_header_that_does_not_fit_the_voxels_is_refused(tmp_path, segments, said):
    write_segments(tmp_path / "tumor.seg.nrrd", *segments)
    with pytest.raises(InputError, match=said):
        read_image_file(tmp_path / "tumor.seg.nrrd", "segmentation")


def test_a_gap_in_the_numbering_and_an_empty_segment_lose_nothing(tmp_path):
    write_segments(
        tmp_path / "tumor.seg.nrrd", (0, "core", "1", "0"), (2, "edema", "2", "0"), (5, "enhancing", "9", "0")
    )
    file = read_image_file(tmp_path / "tumor.seg.nrrd", "segmentation")
    assert [(segment.name, int(segment.mask.sum())) for segment in file.segments] == [
        ("core", 27),
        ("edema", 189),
        ("enhancing", 0),
    ]


def test_a_slicer_segmentation_has_the_layers_that_itk_reads(tmp_path):
    """Two segments share the first layer; a third overlaps them in the second."""
    path = tmp_path / "tumor.seg.nrrd"
    header = SPACE | {
        "space": "right-anterior-superior",
        "kinds": ["list", "domain", "domain", "domain"],
        "space directions": np.array([[np.nan] * 3, [0, 3.0, 0], [0, 0, -3.0], [3.0, 0, 0]]),
    }
    for n, (name, value, layer) in enumerate((("core", 2, 0), ("edema", 1, 0), ("all", 7, 1))):
        header |= {f"Segment{n}_Name": name, f"Segment{n}_LabelValue": str(value), f"Segment{n}_Layer": str(layer)}
    nrrd.write(str(path), np.stack([np.where(CORE, 2, EDEMA_ARRAY), 7 * EDEMA_ARRAY]).astype(np.uint8), header)
    file, image = read_image_file(path, "segmentation"), sitk.ReadImage(str(path))
    layers = [volume_from_image(sitk.VectorIndexSelectionCast(image, n)) for n in (0, 1)]
    assert file.volume.grid == layers[0].grid
    assert np.array_equal(file.volume.array, layers[0].array)
    for segment, layer, value in zip(file.segments, (0, 0, 1), (2, 1, 7), strict=True):
        assert np.array_equal(segment.mask, layers[layer].array == value)
        assert segment.mask.any()


def write_many_segments(path, count, edge):
    """Slabs of the values 1, 2, ... in one layer, as far as it reaches, and a segment `s` of each value."""
    array = np.zeros((edge, edge, edge), dtype=np.uint8)
    array[:] = np.arange(1, edge + 1)[:, None, None]
    header = SPACE | {"space directions": np.eye(3)}
    for n in range(count):
        header |= {f"Segment{n}_Name": f"s{n + 1}", f"Segment{n}_LabelValue": str(n + 1), f"Segment{n}_Layer": "0"}
    nrrd.write(str(path), array, header)


def test_more_segments_than_labels_are_refused(tmp_path):
    write_many_segments(tmp_path / "tumor.seg.nrrd", 300, 12)
    with pytest.raises(InputError, match="describes 300 segments, more than can be read"):
        read_image_file(tmp_path / "tumor.seg.nrrd", "segmentation")


def test_many_segments_cost_no_more_memory_than_their_layer(tmp_path):
    """An atlas of structures beside the tumour: a mask is made of the segments that are asked for."""
    path, edge = tmp_path / "tumor.seg.nrrd", 80
    write_many_segments(path, 200, edge)
    tracemalloc.start()
    try:
        file = read_image_file(path, "segmentation")
        regions = regions_from_segments(file.segments, "core=s3,s7/whole=s3,s7,s80,s200")
        assert tracemalloc.get_traced_memory()[1] < 25 * edge**3
    finally:
        tracemalloc.stop()
    assert np.flatnonzero(regions.core.all(axis=(1, 2))).tolist() == [2, 6]
    assert np.flatnonzero(regions.whole.any(axis=(1, 2))).tolist() == [2, 6, 79]


@pytest.mark.parametrize("labels", ["core=0/whole=0,1", "core=1/whole=0,1", "core=-1/whole=-1,1", "core=1/whole=1,300"])
def test_the_background_and_what_no_label_can_be_are_refused(labels):
    with pytest.raises(InputError, match="labels of a tumour are whole numbers from 1 to 255, and 0 is the background"):
        regions_from_label_map(np.array([0, 1, 2]), labels)


def test_a_label_that_is_named_and_not_there_is_told():
    """A mistyped number loses a part of the tumour."""
    array = np.array([0, 1, 2, 4])
    regions = regions_from_label_map(array, "core=1,3/whole=1,2,3")
    (warning,) = regions.warnings
    assert "has no label 3, which core=1,3/whole=1,2,3 names; it holds 1, 2, 4" in warning
    assert regions.whole.tolist() == [False, True, True, False]
    assert regions_from_label_map(array, "core=1,4/whole=1,2,4").warnings == ()
    # The labels of a convention need not all occur.
    assert regions_from_label_map(array[:3], "brats2018").warnings == ()


def test_the_resection_cavity_is_read_beside_the_tumour():
    regions = regions_from_label_map(np.array([0, 1, 2, 3, 4, 4]), "brats2024")
    assert regions.cavity.tolist() == [False] * 4 + [True] * 2
    assert not (regions.whole & regions.cavity).any()
    assert regions_from_label_map(np.array([0, 1, 2, 3]), "brats2024").cavity is None
    voxels = np.eye(3, dtype=bool)
    segments = [Segment(name, voxels[number]) for number, name in enumerate(("Core", "Whole tumour", "RC"))]
    for labels in (None, 'core=Core/whole=Core,"Whole tumour"'):
        found = regions_from_segments(segments, labels)
        assert found.cavity.tolist() == voxels[2].tolist()
    empty = [
        Segment("Core", voxels[0]),
        Segment("Whole tumour", voxels[1]),
        Segment("Resection cavity", voxels[2] & False),
    ]
    assert regions_from_segments(empty, None).cavity is None
