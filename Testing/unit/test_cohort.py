"""Many patients: what summary.csv says, on threads and on Dask, and that one failure or an end stops cleanly."""

import csv
import json

import pytest
from small_world import world_patient, write_patient

from TumorQueryLib.base.errors import Cancelled, InputError, OutputError
from TumorQueryLib.cohort import SUMMARY_COLUMNS, run_cohort, summary_row


@pytest.fixture(scope="module")
def cohort_file(tmp_path_factory):
    """Three patients, of whom the second has a file that is no image; paths are relative to the CSV file."""
    folder = tmp_path_factory.mktemp("cohört")
    for name, place in (("Ärla", (28.0, -2.0, 20.0)), ("Bo", (-25.0, 5.0, 15.0))):
        write_patient(folder / name, world_patient(tumour_centre=place))
    (folder / "broken.nii.gz").write_text("no image")
    with open(folder / "cohort.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["patient", "t1gd", "segmentation", "labels"])
        for name in ("Ärla", "broken", "Bo"):
            image = "broken.nii.gz" if name == "broken" else f"{name}/t1gd.nii.gz"
            segmentation = f"{'Bo' if name == 'broken' else name}/segmentation.nii.gz"
            table.writerow([name, image, segmentation, "core=4/whole=2,4"])
    return folder / "cohort.csv"


def summary(out):
    with open(out / "summary.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def check_rows(rows, out):
    """The rows of the cohort above, as they are returned and as summary.csv has them."""
    assert [row["patient"] for row in rows] == ["Ärla", "broken", "Bo"]
    assert [row["status"] for row in rows] == ["done", "failed", "done"]
    assert "broken.nii.gz" in rows[1]["error"]
    assert not (out / "broken").exists()
    for row in (rows[0], rows[2]):
        content = json.loads((out / row["patient"] / "result.json").read_text(encoding="utf-8"))
        written = summary_row(row["patient"], content)
        assert row == written | {"seconds": row["seconds"]}
    assert rows[0]["entry"] != rows[2]["entry"], "two patients, two tumours"
    read = summary(out)
    assert list(read[0]) == list(SUMMARY_COLUMNS)
    assert read == [{name: str(row.get(name, "")) for name in SUMMARY_COLUMNS} for row in rows]


@pytest.mark.slow
def test_several_patients_at_a_time(tmp_path, cohort_file, world):
    said = []
    rows = run_cohort(
        cohort_file,
        tmp_path / "out",
        method=world.method(refine="none"),
        workers=2,
        progress=lambda value, message: said.append((value, message)),
    )
    check_rows(rows, tmp_path / "out")
    assert said[0] == (0.0, "0 of 3 patients")
    assert said[-1] == (1.0, "3 of 3 patients")


@pytest.mark.slow
def test_on_a_dask_cluster(tmp_path, cohort_file, world):
    distributed = pytest.importorskip("distributed")
    cluster = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": None}
    with distributed.LocalCluster(**cluster) as started:
        rows = run_cohort(
            cohort_file, tmp_path / "out", method=world.method(refine="none"), dask=started.scheduler_address
        )
    check_rows(rows, tmp_path / "out")


@pytest.mark.slow  # it waits ten seconds for a scheduler
def test_a_scheduler_that_is_not_there_is_said(tmp_path, cohort_file, world):
    pytest.importorskip("distributed")
    with pytest.raises(InputError, match=r"no Dask scheduler at tcp://127.0.0.1:9"):
        run_cohort(cohort_file, tmp_path / "out", method=world.method(), dask="tcp://127.0.0.1:9")


def test_a_refined_patient_is_summed_up_by_the_refinement(tmp_path, cohort_file, world):
    only = tmp_path / "cohort.csv"
    lines = cohort_file.read_text(encoding="utf-8").splitlines()[:2]
    only.write_text("\n".join(lines).replace("Ärla/", f"{cohort_file.parent}/Ärla/"), encoding="utf-8")
    (row,) = run_cohort(only, tmp_path / "out", method=world.method(refine_solves=4))
    content = json.loads((tmp_path / "out" / "Ärla" / "result.json").read_text(encoding="utf-8"))
    assert row["estimate"] == content["chosen"] == "refined"
    assert row["dice_sum"] == content["estimates"]["refined"]["fit"]["dice_sum"]
    assert row["dice_sum"] > content["estimates"]["match"]["fit"]["dice_sum"]
    assert row["match_dice_sum"] == content["query"]["matches"][0]["dice_sum"]


def test_a_defect_in_one_patient_does_not_stop_the_rest(tmp_path, cohort_file, world, registered):
    @registered("broken")
    class Broken:
        name = "broken"

        def __init__(self, database):
            raise ZeroDivisionError("by nothing")

    rows = run_cohort(cohort_file, tmp_path / "out", method=world.method(strategy="broken"))
    assert [row["status"] for row in rows] == ["failed"] * 3
    assert rows[0]["error"] == "defect: ZeroDivisionError: by nothing"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_cancelled_patient_ends_the_cohort_and_leaves_no_folder(tmp_path, cohort_file, world, workers):
    def stop(value, message):
        if message.startswith("Querying"):
            raise Cancelled

    with pytest.raises(Cancelled):
        run_cohort(cohort_file, tmp_path / "out", method=world.method(), workers=workers, progress=stop)
    assert not (tmp_path / "out" / "Ärla").exists()
    assert not (tmp_path / "out" / "Bo").exists()


def test_an_interrupt_between_two_patients_ends_the_ones_still_running(tmp_path, cohort_file, world):
    """Ctrl-C reaches the main thread alone, while patients run in others."""

    def interrupt(value, message):
        if message == "1 of 3 patients":
            raise KeyboardInterrupt

    # Kept, as a caller's handler keeps it: the frames that it holds do not end what runs.
    with pytest.raises(KeyboardInterrupt) as kept:
        run_cohort(cohort_file, tmp_path / "out", method=world.method(refine="none"), workers=2, progress=interrupt)
    assert kept.tb
    assert len(summary(tmp_path / "out")) == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir()) == [
        row["patient"] for row in summary(tmp_path / "out") if row["status"] == "done"
    ]


def test_a_summary_that_cannot_be_written_is_said_before_the_work(tmp_path, cohort_file, world):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="file"):
        run_cohort(cohort_file, tmp_path / "file" / "out", method=world.method())
