"""Cohort files as people and spreadsheets write them."""

import os
import re
import unicodedata
from pathlib import Path

import pytest

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.inputs.cohort_file import COLUMNS, read_cohort

ROW = {"patient": "P1", "t1gd": "a/t1gd.nii.gz", "segmentation": "a/seg.nii.gz", "labels": "brats2018"}


def read(tmp_path, content):
    path = tmp_path / "cohort.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_cohort(path)


def refused(tmp_path, content, said):
    with pytest.raises(InputError, match=said) as caught:
        read(tmp_path, content)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


HEADING, VALUES = list(ROW), list(ROW.values())


@pytest.mark.parametrize(
    "content",
    [
        ",".join(HEADING) + "\n" + ",".join(VALUES),
        ("\ufeff" + ",".join(HEADING) + "\r\n" + ",".join(VALUES) + "\r\n").encode(),
        ";".join(HEADING) + "\r\n" + ";".join(VALUES) + "\r\n",
        "\t".join(HEADING) + "\r\n" + "\t".join(VALUES) + "\r\n",
        ("\t".join(HEADING) + "\r\n" + "\t".join(VALUES) + "\r\n").encode("utf-16"),
        "sep=;\r\n" + ";".join(HEADING) + "\r\n" + ";".join(VALUES) + "\r\n",
        ",".join(HEADING) + "\n" + ",".join(VALUES) + "\n,,,\n , ,,\n\n,,,\n",
        "\n" + ",".join(HEADING) + "\n\n" + ",".join(VALUES) + "\n",
        ";;;\n; ;\n\n" + ";".join(HEADING) + "\n" + ";".join(VALUES) + "\n",
        "\t\t\t\n" + "\t".join(HEADING) + "\n" + "\t".join(VALUES) + "\n",
        '\n"";;\nsep=;\r\n' + ";".join(HEADING) + "\r\n" + ";".join(VALUES) + "\r\n",
        ("\ufeff\ufeff" + ",".join(HEADING) + "\n" + ",".join(VALUES)).encode(),
        ",".join(HEADING) + ",,\n" + ",".join(VALUES) + ",,\n",
        "Patient, T1Gd ,SEGMENTATION, Labels\n" + ",".join(VALUES),
        '"patient", "t1gd", "segmentation", "labels"\n' + ", ".join(f'"{value}"' for value in VALUES),
    ],
)
def test_what_spreadsheets_write_is_read(tmp_path, content):
    (row,) = read(tmp_path, content)
    assert row.patient == "P1"
    assert row.files == {
        "t1gd": str(tmp_path / "a/t1gd.nii.gz"),
        "segmentation": str(tmp_path / "a/seg.nii.gz"),
        "labels": "brats2018",
    }


def test_headings_may_have_spaces_and_hyphens(tmp_path):
    for heading in ("Brain mask", "brain-mask", "BRAIN_MASK"):
        (row,) = read(tmp_path, f"patient,t1gd,{heading}\nP1,a,b\n")
        assert row.files["brain_mask"] == str(tmp_path / "b")


def test_labels_with_commas_are_quoted_or_refused_by_their_line(tmp_path):
    heading = "patient,t1gd,segmentation,labels\n"
    (row,) = read(tmp_path, heading + 'P1,a,b,"core=1,4/whole=1,2,4"\n')
    assert row.files["labels"] == "core=1,4/whole=1,2,4"
    (row,) = read(tmp_path, heading.replace(",", ";") + "P1;a;b;core=1,4/whole=1,2,4\n")
    assert row.files["labels"] == "core=1,4/whole=1,2,4"
    refused(tmp_path, heading + "P1,a,b,brats2018\nP2,a,b,core=1,4/whole=1,2,4\n", "Line 3 .*more cells.*in quotes")
    refused(tmp_path, "patient,labels,t1gd\nP1,core=1,4/whole=1,a\n", "Line 2 .*more cells")
    refused(tmp_path, "patient,t1gd,,\nP1,a,b,\n", "Line 2 .*'b' is beyond")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("patient,t1gd\n", "no row below"),
        ("patient,t1gd,age\nP1,a,7\n", "age is unknown"),
        ("patient,t1gd,T1Gd\nP1,a,b\n", "t1gd is there twice"),
        ("patient,flair\nP1,a\n", r"patient and t1gd \(or study\) are needed"),
        ("patient,t1gd\nP1,\n", "names no t1gd file"),
        ("patient,t1gd\nP1,a\nP1,b\n", "P1 more than once"),
        ("patient,t1gd\nP1,a\np1,b\n", "P1, p1 more than once"),
        ("patient,t1gd\nMüller,a\n".encode("cp1252"), "UTF-8"),
        (b"PK\x03\x04" + bytes(100), "workbook"),
        ('patient,t1gd\nP1,"a\nP2,b\n' + "P3,c\n" * 40000, "quotation mark"),
        ("patient,t1gd\nP1," + "a" * 200_000 + "\n", "quotation mark"),
        ("patient,t1gd\nP1,a\0b\n", "Line 2 .*control character"),
        ('patient,t1gd\n"P\n1",a\n', "control character"),
        ("patient,t1gd\nP\u20281,a\n", "control character"),
        ("patient,t1gd\n" + "x" * 130 + ",a\n", "too long"),
        (",patient,t1gd\n0,A,a\n", r"Line 2 .*'0' in column 1, which has no heading.*index=False"),
        ("patient,,t1gd\nA,,a\nB,x,b\n", "Line 3 .*'x' in column 2, which has no heading"),
    ],
)
def test_what_is_no_cohort_file_is_refused(tmp_path, content, said):
    refused(tmp_path, content, said)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (".", "name of a folder"),
        ("..", "name of a folder"),
        (".hidden", "name of a folder"),
        ("a/b", "name of a folder"),
        ("a:b", "name of a folder"),
        ("P1.", "name of a folder"),
        ("=cmd()", "formula"),
        ("+1", "formula"),
        ("-1", "formula"),
        ("@SUM(A1)", "formula"),
        ("P1\u200b", r"not seen \(U\+200B\)"),
        ("summary.csv", "choose another name"),
        ("Summary.CSV", "choose another name"),
        ("SUMMARY.csv.partial", "choose another name"),
        ("NUL", "choose another name"),
        ("com1.x", "choose another name"),
    ],
)
def test_a_name_that_is_no_folder_or_that_would_be_run_is_refused(tmp_path, name, said):
    refused(tmp_path, f'patient,t1gd\n"{name}",a\n', f"Line 2 .*{said}")


def test_one_name_written_in_two_ways_is_one_name(tmp_path):
    names = [unicodedata.normalize(form, "Müller") for form in ("NFC", "NFD")]
    refused(tmp_path, f"patient,t1gd\n{names[0]},a\n{names[1]},b\n", "more than once")
    assert [row.patient for row in read(tmp_path, "patient,t1gd\nMüller Ä,a\n001,b\n")] == ["Müller Ä", "001"]


def test_a_study_takes_the_place_of_images(tmp_path):
    (row,) = read(tmp_path, "patient,study,segmentation\nP1,export,masks/seg.nii.gz\n")
    assert row.files == {"study": str(tmp_path / "export"), "segmentation": str(tmp_path / "masks/seg.nii.gz")}
    refused(tmp_path, "patient,study,t1gd\nP1,,\n", "names no t1gd file and no study")
    refused(tmp_path, "patient,flair\nP1,a\n", "patient and t1gd .or study. are needed")


def test_a_studys_series_are_named_by_uid_or_number(tmp_path):
    (row,) = read(tmp_path, "patient,study,t1gd,flair,t1\nP1,export,1.2.840.7,4,t1.nii.gz\n")
    assert (row.files["t1gd"], row.files["flair"]) == ("1.2.840.7", "4")
    assert row.files["t1"] == str(tmp_path / "t1.nii.gz")
    moved = row.with_paths(lambda path: f"/elsewhere{path}")
    assert moved.files["t1gd"] == "1.2.840.7"
    assert moved.files["study"] == f"/elsewhere{tmp_path / 'export'}"
    (row,) = read(tmp_path, "patient,t1gd\nP1,4\n")
    assert row.files["t1gd"] == str(tmp_path / "4"), "without a study it is a file"


def test_the_image_that_was_drawn_on_is_handed_on(tmp_path):
    (row,) = read(tmp_path, "patient,t1gd,Segmentation on\nP1,a,flair\n")
    assert row.files["segmentation_on"] == "flair"


def test_utf_16_without_its_mark_and_a_pipe_are_refused(tmp_path):
    refused(tmp_path, "patient;t1gd\nP1;a\n".encode("utf-16-le"), "zero bytes, as UTF-16 without its mark")
    os.mkfifo(tmp_path / "pipe.csv")
    for path in (tmp_path / "pipe.csv", tmp_path):
        with pytest.raises(InputError, match="no regular file"):
            read_cohort(path)


@pytest.mark.parametrize(
    ("document", "first", "last"),
    [("docs/command-line.md", "the CSV has the columns", "One failure"), ("docs/inputs.md", "Columns:", "Paths are")],
)
def test_the_documents_name_all_columns(document, first, last):
    text = (Path(__file__).resolve().parents[3] / document).read_text(encoding="utf-8")
    (listed,) = re.findall(f"{first}(.*?){last}", text, flags=re.DOTALL)
    assert set(re.findall(r"`(\w+)`", listed)) == set(COLUMNS)
