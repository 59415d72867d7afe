"""From file names to files: the jobs that command line, worker and cohort share."""

import json
from pathlib import Path

import numpy as np
import pytest
from made_up_studies import usual_study, write_studies
from small_world import world_patient, write_atlas, write_patient
from synthetic_database import small_brain

from TumorQueryLib.base.errors import Cancelled, InputError, OutputError
from TumorQueryLib.base.method import Method
from TumorQueryLib.base.plan_choices import PlanChoices
from TumorQueryLib.inputs.dicom.choice import choose_series
from TumorQueryLib.inputs.dicom.study import read_study
from TumorQueryLib.jobs import JOBS, infer_files, plan_result, run_build, run_infer, run_info, show_match
from TumorQueryLib.results.files import read_result
from TumorQueryLib.worker import read_job


def quiet(value, message):
    """A progress that reports nothing."""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_patient(tmp_path_factory.mktemp("pätient"), world_patient())


@pytest.fixture(scope="module")
def inferred(world, files, tmp_path_factory):
    """A folder of results without a refinement, and the result itself."""
    folder = tmp_path_factory.mktemp("out") / "new" / "deep"
    return folder, infer_files(files, world.method(refine="none", top=5, align=True), folder)


@pytest.mark.slow
def test_the_folder_holds_the_result(inferred):
    folder, result = inferred
    read = read_result(folder)
    np.testing.assert_array_equal(read.density.array, result.density.array)
    assert read.matches == result.matches
    assert read.content["timings_s"]["total"] == pytest.approx(result.timings["total"], abs=1e-3)


@pytest.mark.slow
def test_reading_the_files_is_in_the_times(inferred):
    timings = inferred[1].timings
    assert set(timings) == {"load", "alignment", "brain", "registration", "query", "match", "total"}
    assert timings["total"] == pytest.approx(sum(seconds for name, seconds in timings.items() if name != "total"))


@pytest.mark.slow
def test_nothing_is_read_where_nothing_can_be_written(tmp_path, world):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="name a folder"):
        infer_files({"t1gd": "nowhere.nii.gz", "whole": "nowhere.nii.gz"}, world.method(), tmp_path / "file" / "out")


@pytest.mark.slow
@pytest.mark.parametrize("message", ["Reading", "Opening", "Querying", "Refining"])
def test_cancelled_at_any_step_it_leaves_nothing(tmp_path, world, files, message):
    def stop(value, said):
        if said.startswith(message):
            raise Cancelled

    with pytest.raises(Cancelled):
        infer_files(files, world.method(refine_solves=60), tmp_path / "new" / "out", progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("message", ["Writing the transforms", "Drawing"])
def test_cancelled_while_it_writes_it_leaves_nothing(tmp_path, world, files, message):
    def stop(value, said):
        if said.startswith(message):
            raise Cancelled

    with pytest.raises(Cancelled):
        infer_files(files, world.method(refine="none"), tmp_path / "new" / "out", progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_job_takes_a_patients_files_and_a_methods_choices(tmp_path, world, files):
    method = world.method(refine="none", top=2)
    path = run_infer({"out": str(tmp_path / "out"), "arguments": files | method.as_json()}, progress=quiet)
    assert path == tmp_path / "out" / "result.json"
    assert len(read_result(path.parent).matches) == 2


def test_a_job_with_an_unknown_choice_is_refused_before_any_work(tmp_path, files):
    with pytest.raises(InputError, match=r"no choice refinement of a method; there are .*refine_solves"):
        run_infer({"out": str(tmp_path / "out"), "arguments": files | {"refinement": "none"}}, progress=quiet)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_another_match_is_grown_again(inferred, world):
    folder, result = inferred
    path = show_match(folder, 1, atlas=str(world.atlas_folder))
    assert path == folder / "match_1" / "density.nrrd"
    import SimpleITK as sitk

    from TumorQueryLib.geometry.grid import Volume, volume_from_image
    from TumorQueryLib.growth import simulate

    shown = volume_from_image(sitk.ReadImage(str(path)))
    version = result.database.solver_version
    grown = Volume(simulate(result.matched_parameters[1], world.atlas, solver_version=version), world.atlas.grid)
    expected = result.registration.in_patient(grown, result.patient.t1gd.grid)
    np.testing.assert_allclose(shown.array, expected.array, atol=1e-6)
    assert np.abs(shown.array - result.density.array).max() > 0.1, "another tumour than the best match's"


@pytest.mark.slow
@pytest.mark.parametrize("rank", [-1, 5])
def test_a_match_that_is_not_ranked_is_refused(inferred, world, rank):
    with pytest.raises(InputError, match=f"ranks 5 matches; there is none of rank {rank}"):
        show_match(inferred[0], rank, atlas=str(world.atlas_folder))


@pytest.mark.slow
def test_a_match_is_grown_in_its_own_atlas_alone(inferred, tmp_path):
    other = write_atlas(tmp_path / "other", small_brain())
    with pytest.raises(InputError, match="made in another atlas"):
        show_match(inferred[0], 0, atlas=str(other))
    with pytest.raises(InputError, match="no atlas small brain"):
        show_match(inferred[0], 0)


@pytest.mark.slow
def test_a_build_and_what_it_holds(tmp_path, world):
    job = {"arguments": {"path": str(tmp_path / "db.h5"), "entries": 2, "atlas": str(world.atlas_folder), "workers": 1}}
    assert run_build(job, progress=quiet) == tmp_path / "db.h5"
    about = run_info({"out": str(tmp_path / "out"), "arguments": {"database": str(tmp_path / "db.h5")}}, progress=quiet)
    assert about == tmp_path / "out" / "info.json"
    described = json.loads(about.read_text(encoding="utf-8"))
    assert described["entries"] == 2


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ({"command": "infer", "arguments": {"t1gd": "a.nii"}}, "out is a text"),
        ({"command": "infer", "out": "o", "arguments": {"t1gd": 3}}, "t1gd is a text"),
        ({"command": "infer", "out": "o", "arguments": {"t1gd": "a", "whole": ["b"]}}, "whole is a text"),
        ({"command": "infer", "out": "o\0", "arguments": {"t1gd": "a", "whole": "b"}}, "out is a text"),
        ({"command": "match", "arguments": {"result": "r", "rank": True}}, "rank is a whole number from 0, not True"),
        ({"command": "match", "arguments": {"result": "r"}}, "rank is a whole number from 0, not absent"),
        ({"command": "match", "arguments": {"result": "r", "rank": 0, "more": 1}}, "no argument 'more'"),
        ({"command": "export", "out": "o", "arguments": {"result": "r", "dicom": []}}, r"dicom is a text.*not \[\]"),
        ({"command": "export", "out": "o", "arguments": {"result": "r", "dicom": ["a", 3]}}, "dicom is a text.*not 3"),
        ({"command": "export", "arguments": {"result": "r", "dicom": "d"}}, "out is a text"),
        ({"command": "build", "arguments": {"path": "p", "entries": 2.5}}, r"a whole number from 1, not 2\.5"),
        ({"command": "build", "arguments": {"path": "p", "entries": 10**9}}, "1 to 1,000,000 entries"),
        ({"command": "build", "arguments": {"path": "p", "entries": 2, "random_seed": 2**63}}, "random seed"),
        ({"command": "build", "arguments": {"path": "p", "entries": 2, "workers": 10**6}}, "1 to 1024 workers"),
        ({"command": "build", "arguments": {"path": "p", "entries": 2, "resume": 1}}, "resume is true or false"),
        ({"command": "build", "arguments": {"path": "p", "entries": 2, "sampling": {}}}, "sampling is a text"),
        ({"command": "info", "out": "o", "arguments": {}}, "database is a text"),
    ],
)
def test_a_job_of_another_form_is_refused_in_a_sentence(tmp_path, monkeypatch, job, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=words):
        JOBS[job["command"]](job, progress=quiet)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["[" * 100_000 + "]" * 100_000, '{"a": "\\ud800"}', '{"a": NaN}', '{"a": 1e999}', "{"])
def test_a_job_file_that_is_no_plain_json_is_refused(tmp_path, text):
    path = tmp_path / "job.json"
    path.write_text(text)
    with pytest.raises(InputError, match="cannot be read"):
        read_job(str(path))


def test_a_cavity_among_the_objects_that_new_plans_take_away_is_refused(tmp_path):
    cavity = tmp_path / "dicom_export" / "segmentation.dcm"
    cavity.parent.mkdir()
    cavity.write_text("cavity")
    with pytest.raises(OutputError, match=r"holds segmentation\.dcm, which is an input of this run"):
        plan_result(tmp_path, PlanChoices(), cavity=cavity)
    assert cavity.exists()


def test_a_series_of_the_study_in_the_output_folder_is_an_input_by_whatever_name(tmp_path):
    made = usual_study()
    made.add_seg("Core", "Edema")
    folder = write_studies(tmp_path / "study", made)
    seg = Path(choose_series(read_study(folder)).files["segmentation"])
    place = folder / "result" / "dicom_export" / "segmentation.dcm"
    place.parent.mkdir(parents=True)
    seg.rename(place)
    uid = next(one.header.uid for one in read_study(folder).series if place in one.files)
    for files in ({"study": folder}, {"study": folder, "segmentation": uid}):
        with pytest.raises(OutputError, match=r"holds segmentation\.dcm, which is an input of this run"):
            infer_files(files, Method(), folder / "result")
    assert place.exists()
