"""A run of studies: one tumour for all of them, as a reader draws it, and what was finished is not done again."""

import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import ClassVar

import pytest

from TumorQueryLib.base.errors import Cancelled, InputError, OutputError
from TumorQueryLib.database import TumorDatabase
from TumorQueryLib.studies.known_truth.run import run_studies
from TumorQueryLib.studies.known_truth.saved_rows import SavedRows
from TumorQueryLib.studies.known_truth.setting import Conditions
from TumorQueryLib.studies.known_truth.study import Study

CALL = {"database": "a", "count": 3}


def save(path, *tumours, call=CALL):
    """As a run that was interrupted after some tumours."""
    with suppress(Cancelled), SavedRows(path, call) as saved:
        for tumour in tumours:
            saved.add(tumour, {"study": [{"value": str(tumour)}]})
        raise Cancelled


def finished_in(path, call=CALL):
    saved = SavedRows(path, call)
    saved._file.close()
    return list(saved.finished)


def test_rows_of_an_interrupted_run_are_taken_up_and_go_when_it_is_finished(tmp_path):
    path = tmp_path / "rows.jsonl"
    save(path, 0, 1)
    with SavedRows(path, CALL) as saved:
        assert saved.finished == {n: {"study": [{"value": str(n)}]} for n in (0, 1)}
        saved.add("A", {})
    assert finished_in(path) == [0, 1, "A"]
    saved.remove()
    assert not path.exists()


def test_a_file_that_no_run_wrote_is_refused_and_kept(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("my own notes\n", encoding="utf-8")
    with pytest.raises(InputError, match="was not written by an interrupted run"):
        SavedRows(path, CALL)
    assert path.read_text(encoding="utf-8") == "my own notes\n"


def test_a_run_that_ended_before_its_first_tumour_leaves_no_file(tmp_path):
    save(tmp_path / "rows.jsonl")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("cut", [1, 9])
def test_a_tumour_that_was_half_written_is_done_again(tmp_path, cut):
    path = tmp_path / "rows.jsonl"
    save(path, 0, 1)
    path.write_bytes(path.read_bytes()[:-cut])
    assert finished_in(path) == [0]
    save(path, 1)
    assert finished_in(path) == [0, 1]


def test_rows_of_another_call_are_kept_and_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    save(path, 0)
    before = path.read_bytes()
    with pytest.raises(InputError, match="another call"):
        SavedRows(path, {**CALL, "count": 4})
    assert path.read_bytes() == before


def test_two_runs_do_not_write_into_one_folder(tmp_path):
    path = tmp_path / "rows.jsonl"
    with SavedRows(path, CALL), pytest.raises(InputError, match="Another run"):
        SavedRows(path, CALL)


@dataclass(frozen=True)
class Volumes(Study):
    """A study of the volumes of the true and of the drawn tumour."""

    name: str = "volumes"
    cancelled_at: int | None = None
    seen: list = field(default_factory=list)
    takes_patients: ClassVar[bool] = True

    def measure(self, tumour):
        if tumour.name == self.cancelled_at:
            raise Cancelled
        self.seen.append(tumour)
        true, drawn = tumour.phantom.patient.regions_on_t1gd, tumour.patient.regions_on_t1gd
        return [{"true_ml": true.volumes_ml()[1], "drawn_ml": drawn.volumes_ml()[1]}]

    def summarise(self, rows):
        return {"number": len(rows)}

    def write(self, result, folder):
        (folder / f"{self.name}.md").write_text(str(result["number"]))


@pytest.mark.slow
def test_studies_share_their_tumours_and_an_interrupted_run_goes_on(tmp_path, small_resources, monkeypatch):
    monkeypatch.setenv("TUMORQUERY_RESOURCES", str(small_resources))
    # One tumour at a time, so that it is known which are finished.
    monkeypatch.setattr("TumorQueryLib.studies.known_truth.run.available_cores", lambda: 1)
    conditions = Conditions(random_seed=3, outline_error_mm=2.0)
    cohort = tmp_path / "cohort.csv"
    cohort.write_text("patient,t1gd,core,whole\nA,no.nii,no.nii,no.nii\n", encoding="utf-8")
    out = tmp_path / "out"
    with TumorDatabase.open("starter") as database:

        def run(*studies):
            return run_studies(studies, database, out, conditions=conditions, cohort=cohort)

        with pytest.raises(Cancelled):
            run(Volumes(1, "short"), Volumes(2, "long", cancelled_at=1))
        assert [path.name for path in out.iterdir()] == ["rows.jsonl"]
        short, long = Volumes(1, "short"), Volumes(2, "long")
        results = run(short, long)
    assert [tumour.name for tumour in (*short.seen, *long.seen)] == [1]
    assert sorted(path.name for path in out.iterdir()) == ["long.json", "long.md", "short.json", "short.md"]
    assert [row["tumour"] for row in results["long"]["cases"]] == [0, 1]
    assert results["short"]["cases"] == results["long"]["cases"][:1]
    assert results["long"]["count"] == 2
    assert "no.nii" in results["long"]["left_out"]["A"]
    assert json.loads((out / "long.json").read_text()) == results["long"]
    drawn = long.seen[0].drawn_dice
    assert all(0.8 < value < 0.99 for value in drawn)
    assert all(row["true_ml"] != row["drawn_ml"] for row in results["long"]["cases"])


def test_a_file_of_a_studys_name_that_no_run_wrote_is_not_replaced(small_database, tmp_path):
    (tmp_path / "volumes.csv").write_text("mine")
    with pytest.raises(OutputError, match=r"volumes\.csv was not written by a run"):
        run_studies([Volumes(1)], small_database, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["volumes.csv"]


def test_a_run_without_a_tumour_is_refused(small_database):
    with pytest.raises(InputError, match="at least one tumour"):
        run_studies([Volumes(0)], small_database)
