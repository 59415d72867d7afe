"""What the labels of a segmentation mean, and how it is asked for where they do not say."""

import unicodedata
from pathlib import Path

import nrrd
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.grid import volume_from_image
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
        ("core=necrosis/whole=necrosis,edema", "names are for a Slicer segmentation"),
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
        ([0, np.nan, 2], "NaN"),
        ([0, np.inf, 2], "NaN"),
    ],
)
def test_what_is_no_label_map_is_refused(values, said):
    with pytest.raises(InputError, match=said):
        regions_from_label_map(np.array(values), "brats2018")


def segments(**masks):
    return [(name.replace("_", " "), np.array(mask, dtype=bool)) for name, mask in masks.items()]


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
    named = [(unicodedata.normalize(form, "Ödem"), np.array([True, False]))]
    found = regions_from_segments(named, unicodedata.normalize(other, "core=/whole=ödem"))
    assert found.whole.tolist() == [True, False]
    assert regions_from_segments([(unicodedata.normalize(form, "Œdema"), np.array([True]))], "core=/whole=œdema")


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
    with pytest.raises(InputError, match=f"'{named[-1][0]}'.*--labels"):
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


def test_a_label_is_written_once_and_for_all():
    assert parse_labels("brats2018").whole == ("1", "2", "4")
    assert parse_labels("core=a b, c/whole=a b,c,d/e").whole == ("a b", "c", "d/e")


CORE = np.zeros((12, 11, 10), dtype=np.uint8)
CORE[4:7, 4:7, 4:7] = 1
EDEMA = np.zeros_like(CORE)
EDEMA[3:9, 3:9, 3:9] = 1
SPACE = {"space": "left-posterior-superior", "space origin": [10.0, 20.0, 30.0]}


def write_one_layer(path):
    """As Slicer stores segments that do not overlap: one array, a value each."""
    array = np.where(CORE, 2, np.where(EDEMA, 1, 0)).astype(np.uint8)
    header = SPACE | {"space directions": np.diag([3.0, 3.0, 3.0])}
    for n, (name, value) in enumerate((("Enhancing tumor", 2), ("Edema", 1))):
        header |= {f"Segment{n}_Name": name, f"Segment{n}_LabelValue": str(value), f"Segment{n}_Layer": "0"}
    nrrd.write(str(path), array, header)
    return {"Enhancing tumor": CORE > 0, "Edema": (EDEMA > 0) & (CORE == 0)}


def write_layers(path):
    """As Slicer stores segments that overlap: a list of arrays in front of the axes of space."""
    header = SPACE | {
        "kinds": ["list", "domain", "domain", "domain"],
        "space directions": np.array([[np.nan] * 3, [3.0, 0, 0], [0, 3.0, 0], [0, 0, 3.0]]),
    }
    for n, (name, layer) in enumerate((("whole tumor", 1), ("core", 0))):
        header |= {f"Segment{n}_Name": name, f"Segment{n}_LabelValue": "1", f"Segment{n}_Layer": str(layer)}
    nrrd.write(str(path), np.stack([CORE, EDEMA]), header)
    return {"whole tumor": EDEMA > 0, "core": CORE > 0}


def write_list_of_one(path):
    """As Slicer 4.10 stores a single segment: a list of one, without layer or value."""
    header = SPACE | {
        "kinds": ["list", "domain", "domain", "domain"],
        "space directions": np.array([[np.nan] * 3, [3.0, 0, 0], [0, 3.0, 0], [0, 0, 3.0]]),
        "Segment0_Name": "edema",
    }
    nrrd.write(str(path), EDEMA[None], header)
    return {"edema": EDEMA > 0}


def test_a_segmentation_of_one_segment_is_read(tmp_path):
    expected = write_list_of_one(tmp_path / "tumor.seg.nrrd")
    ((name, mask),) = read_image_file(tmp_path / "tumor.seg.nrrd", "segmentation").segments
    assert np.array_equal(mask, expected[name])


@pytest.mark.parametrize("write", [write_one_layer, write_layers])
def test_a_slicer_segmentation_is_read_by_name(tmp_path, write):
    expected = write(tmp_path / "tumor.seg.nrrd")
    file = read_image_file(tmp_path / "tumor.seg.nrrd", "segmentation")
    assert [name for name, _ in file.segments] == list(expected)
    for name, mask in file.segments:
        assert np.array_equal(mask, expected[name])
    assert np.allclose(file.volume.grid.to_ras([0, 0, 0]), [-10, -20, 30])
    regions = regions_from_segments(file.segments, None)
    assert np.array_equal(regions.core, CORE > 0)
    assert np.array_equal(regions.whole, (CORE | EDEMA) > 0)


def write_segments(path, *segments):
    """One layer with the values 1 (core) and 2 (around it), and a header of (number, name, value, layer)."""
    header = SPACE | {"space directions": np.diag([3.0, 3.0, 3.0])}
    for number, name, value, layer in segments:
        header |= {f"Segment{number}_Name": name, f"Segment{number}_LabelValue": value}
        header |= {f"Segment{number}_Layer": layer}
    nrrd.write(str(path), np.where(CORE, 1, np.where(EDEMA, 2, 0)).astype(np.uint8), header)


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
    assert [(name, int(mask.sum())) for name, mask in file.segments] == [("core", 27), ("edema", 189), ("enhancing", 0)]


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
    nrrd.write(str(path), np.stack([np.where(CORE, 2, EDEMA), 7 * EDEMA]).astype(np.uint8), header)
    file, image = read_image_file(path, "segmentation"), sitk.ReadImage(str(path))
    layers = [volume_from_image(sitk.VectorIndexSelectionCast(image, n)) for n in (0, 1)]
    assert file.volume.grid == layers[0].grid
    assert np.array_equal(file.volume.array, layers[0].array)
    for (_, mask), layer, value in zip(file.segments, (0, 0, 1), (2, 1, 7)):
        assert np.array_equal(mask, layers[layer].array == value)
        assert mask.any()


@pytest.mark.parametrize(("count", "edge"), [(300, 12), (200, 200)])
def test_more_segments_than_memory_or_labels_are_refused(tmp_path, count, edge):
    path = tmp_path / "tumor.seg.nrrd"
    array = np.zeros((edge, edge, edge), dtype=np.uint8)
    array[:3] = 1
    header = SPACE | {"space directions": np.eye(3)}
    for n in range(count):
        header |= {f"Segment{n}_Name": f"s{n}", f"Segment{n}_LabelValue": str(n + 1), f"Segment{n}_Layer": "0"}
    nrrd.write(str(path), array, header)
    with pytest.raises(InputError, match=f"describes {count} segments, more than can be read"):
        read_image_file(path, "segmentation")


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
