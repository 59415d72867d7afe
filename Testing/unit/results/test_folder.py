"""A result folder holds one result, whole, and nothing that no run wrote is ever replaced."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from TumorQueryLib.base.errors import InputError, OutputError
from TumorQueryLib.base.files import output_errors
from TumorQueryLib.results import folder as module
from TumorQueryLib.results.folder import added_to_result, finish_leftovers, result_folder

NAMES = {"density": "density.nrrd", "core": "core.nrrd", "refinement_table": "refinement.csv"}


def write_result(stage, text, names=NAMES):
    for name in names.values():
        (stage / name).write_text(text)
    content = {"software": {"name": "TumorQuery"}, "outputs": names, "text": text}
    (stage / "result.json").write_text(json.dumps(content))


def run(target, text, names=NAMES, **options):
    with result_folder(target, **options) as stage:
        write_result(stage, text, names)


def export_into(folder, *names, maker="TumorQuery"):
    """A folder of DICOM objects that an export wrote, or another software."""
    from made_up_studies import SEG, new_file  # the processes of these tests do not find it

    folder.mkdir()
    for name in names:
        new_file(SEG, Manufacturer=maker, ManufacturerModelName=maker).save_as(folder / name)


def content_of(target):
    return {path.name: path.read_text() for path in target.iterdir() if path.is_file()}


def whole(target, text, names=NAMES):
    found = content_of(target)
    assert json.loads(found.pop("result.json"))["text"] == text
    assert found == dict.fromkeys(names.values(), text)
    assert not list(target.glob(".*"))


def test_an_earlier_result_is_replaced_whole(tmp_path):
    out = tmp_path / "new" / "out"
    run(out, "first")
    (out / "match_3").mkdir()
    (out / "match_3" / "density.nrrd").write_text("first")
    (out / "notes.txt").write_text("mine")
    run(out, "second", {"density": "density.nrrd"})
    assert (out / "notes.txt").read_text() == "mine"
    (out / "notes.txt").unlink()
    whole(out, "second", {"density": "density.nrrd"})
    assert not (out / "match_3").exists()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_run_that_fails_keeps_the_earlier_result(tmp_path, moment):
    run(tmp_path / "out", "first")

    def fail():
        with result_folder(tmp_path / "out") as stage:
            if moment == "after":
                write_result(stage, "second")
            raise ValueError("no such patient")

    with pytest.raises(ValueError, match="no such patient"):
        fail()
    whole(tmp_path / "out", "first")


@pytest.mark.parametrize("failing", range(8))
def test_a_file_that_cannot_be_moved_keeps_the_earlier_result(tmp_path, monkeypatch, failing):
    """As one that a viewer keeps open on Windows: four files move out, four move in."""
    run(tmp_path / "out", "first")
    replace, moves = os.replace, iter(range(100))

    def refused_once(source, place):
        if next(moves) == failing:
            raise PermissionError(13, "in use", str(place))
        replace(source, place)

    monkeypatch.setattr(module.os, "replace", refused_once)
    with pytest.raises(OutputError, match="no permission"):
        run(tmp_path / "out", "second")
    monkeypatch.undo()
    whole(tmp_path / "out", "first")
    run(tmp_path / "out", "third")
    whole(tmp_path / "out", "third")


PLANS = {"plan": "plan.json", "plan_model": "plan_model.nrrd"}


def add(target, text, names):
    """Add plans to a result, in the place of the earlier ones, which have other names but for one."""
    content = json.loads((target / "result.json").read_text())
    kept = {name: file for name, file in content["outputs"].items() if not module.PLAN_FILE.fullmatch(file)}
    with added_to_result(target, content) as stage:
        write_result(stage, text, names)
        (stage / "result.json").write_text(json.dumps(content | {"outputs": kept | names, "plans": text}))


@pytest.fixture
def planned(tmp_path):
    """A result with plans, exported."""
    run(tmp_path, "first")
    add(tmp_path, "earlier", PLANS | {"plan_probable": "plan_probable.nrrd"})
    export_into(tmp_path / "dicom_export", "density.dcm")
    return tmp_path


def plans_of(target):
    """Which plans a result has, after a look at whether its files are all theirs."""
    found = content_of(target)
    content = json.loads(found.pop("result.json"))
    plans = {name for name in content["outputs"].values() if module.PLAN_FILE.fullmatch(name)}
    assert found == dict.fromkeys(NAMES.values(), "first") | dict.fromkeys(plans, content["plans"])
    assert (target / "dicom_export").exists() == (content["plans"] == "earlier")
    assert not list(target.glob(".*"))
    return content["plans"]


@pytest.mark.parametrize("failing", range(7))
def test_a_file_that_cannot_be_moved_keeps_the_earlier_plans(planned, monkeypatch, failing):
    """The export and three files move out, two plans and result.json move in."""
    real, moves = os.replace, iter(range(100))

    def refused_once(source, place):
        if next(moves) == failing:
            raise PermissionError(13, "in use", str(place))
        real(source, place)

    monkeypatch.setattr(os, "replace", refused_once)
    with pytest.raises(OutputError, match="no permission"):
        add(planned, "later", PLANS)
    monkeypatch.undo()
    assert plans_of(planned) == "earlier"
    add(planned, "later", PLANS)
    assert plans_of(planned) == "later"


@pytest.mark.parametrize("moves", range(7))
def test_plans_that_a_kill_left_half_moved_are_finished_by_a_reader(planned, killed_at_move, moves):
    with killed_at_move(moves), pytest.raises(KeyboardInterrupt):
        add(planned, "later", PLANS)
    module.finish_leftovers(planned)
    assert plans_of(planned) == "later"


def test_a_kill_before_the_first_move_leaves_the_earlier_plans(planned):
    """While it was written down what is to be moved."""
    stage = planned / ".tumorquery-killed"
    stage.mkdir()
    write_result(stage, "later", PLANS)
    (stage / "added").write_text('{"content": {"soft')
    (stage / ".lock").touch()
    module.finish_leftovers(planned)
    assert plans_of(planned) == "earlier"


def test_a_reader_takes_no_folder_away(tmp_path):
    (tmp_path / "empty").mkdir()
    module.finish_leftovers(tmp_path / "empty")
    assert (tmp_path / "empty").is_dir()
    module.finish_leftovers(tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("left", [".tumorquery-staged-dead", "density.nrrd", ".DS_Store"])
def test_what_a_killed_job_or_a_viewer_left_of_a_match_is_cleared(tmp_path, left):
    run(tmp_path, "first")
    (tmp_path / "match_0").mkdir()
    (tmp_path / "match_0" / left).write_text("left")
    run(tmp_path, "second")
    whole(tmp_path, "second")
    assert not (tmp_path / "match_0").exists()


def test_an_export_goes_with_the_result_that_it_was_made_of(tmp_path):
    run(tmp_path, "first")
    export_into(tmp_path / "dicom_export", "segmentation.dcm", "density.dcm")
    run(tmp_path, "second")
    whole(tmp_path, "second")
    assert not (tmp_path / "dicom_export").exists()


def test_an_object_of_others_that_has_an_exports_name_is_kept(tmp_path):
    run(tmp_path, "first")
    export_into(tmp_path / "dicom_export", "structures.dcm", maker="Planning")
    with pytest.raises(OutputError, match="holds dicom_export, which no run of TumorQuery wrote"):
        run(tmp_path, "second")
    content = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    with pytest.raises(OutputError, match="holds dicom_export"), added_to_result(tmp_path, content):
        pytest.fail("the block must not run")
    assert (tmp_path / "dicom_export" / "structures.dcm").exists()


@pytest.mark.parametrize("how", ["plain", "link to it", "folder"])
@pytest.mark.parametrize("name", ["dicom_export/segmentation.dcm", "match_1/density.nrrd"])
def test_an_input_in_what_goes_with_a_result_is_refused_before_the_work(tmp_path, name, how):
    out = tmp_path / "out"
    run(out, "first")
    given = out / name
    if given.name == "density.nrrd":
        given.parent.mkdir()
        given.write_text("mine")
    else:
        export_into(given.parent, given.name)
    (tmp_path / "link").symlink_to(given)
    given = {"plain": given, "link to it": tmp_path / "link", "folder": given.parent}[how]
    with pytest.raises(OutputError, match="is an input of this run"), result_folder(out, inputs=[given]):
        pytest.fail("the block must not run")
    assert (out / name).exists()
    whole(out, "first")


def test_a_link_in_the_place_of_a_results_file_is_told_as_one(tmp_path):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere.nrrd"
    run(out, "first")
    (out / "density.nrrd").rename(elsewhere)
    (out / "density.nrrd").symlink_to(elsewhere)
    with pytest.raises(OutputError, match=r"density\.nrrd in the output folder .* is a link to a file elsewhere"):
        run(out, "second")
    assert elsewhere.read_text() == "first"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of POSIX")
def test_a_pipe_in_the_place_of_a_result_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "result.json")
    with pytest.raises(OutputError, match=r"holds result\.json"):
        run(tmp_path, "new")
    from TumorQueryLib.results.files import read_result  # the processes of these tests do without

    with pytest.raises(InputError, match="holds no readable"):
        read_result(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="names of bytes that are no text")
def test_a_folder_whose_name_is_not_utf_8_is_refused_before_the_work(tmp_path):
    """ITK would end the process over it, after all the work."""
    out = tmp_path / os.fsdecode(b"o\xe4")
    with pytest.raises(InputError, match=r"is not UTF-8.*rename it"), result_folder(out):
        pytest.fail("the block must not run")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no locks")
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK])
def test_a_file_system_without_locks_takes_results_all_the_same(tmp_path, monkeypatch, number):
    import fcntl

    def refused(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refused)
    run(tmp_path, "first")
    with result_folder(tmp_path) as stage:
        # Of another run, which may be alive: nothing but its age tells.
        write_result(stage, "third")
        run(tmp_path, "second")
        whole_beside = content_of(tmp_path)
        assert stage.exists()
    assert json.loads(whole_beside["result.json"])["text"] == "second"
    whole(tmp_path, "third")


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOENT, errno.ESTALE])
def test_whatever_the_system_says_of_writing_is_one_sentence(tmp_path, number):
    with (
        pytest.raises(OutputError, match=r"Nothing could be written to .*; .*name another folder"),
        output_errors(tmp_path),
    ):
        raise OSError(number, os.strerror(number))


def test_an_export_beside_which_someone_keeps_a_file_stops_a_new_result(tmp_path):
    run(tmp_path, "first")
    (tmp_path / "dicom_export").mkdir()
    (tmp_path / "dicom_export" / "sent.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds dicom_export, which no run of TumorQuery wrote"):
        run(tmp_path, "second")
    assert (tmp_path / "dicom_export" / "sent.txt").read_text() == "mine"


OUTPUTS = ["density.nrrd", "core.nrrd", "CORE.nrrd", "report.png", "result.json", "match_2", "dicom_export"]


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_a_file_that_no_run_wrote_is_refused_before_the_work(tmp_path, name, kind):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.write_text("mine")
    {"file": elsewhere.rename, "folder": os.mkdir, "link": lambda path: path.symlink_to(elsewhere)}[kind](out / name)
    before = sorted(out.iterdir())
    began = False
    with pytest.raises(OutputError, match=rf"holds {name}, which no run of TumorQuery wrote"), result_folder(out):
        began = True
    assert not began
    assert sorted(out.iterdir()) == before


@pytest.mark.parametrize("software", ["AnotherTool", "Zoo", None])
def test_a_result_of_other_software_is_not_replaced(tmp_path, software):
    run(tmp_path, "first")
    content = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    (tmp_path / "result.json").write_text(json.dumps(content | {"software": {"name": software}}), encoding="utf-8")
    with pytest.raises(OutputError, match="which no run of TumorQuery wrote"):
        run(tmp_path, "second")


def test_a_file_beside_an_earlier_result_that_is_not_its_own_is_refused(tmp_path):
    run(tmp_path, "first")
    (tmp_path / "whole.nrrd").write_text("drawn by hand")
    with pytest.raises(OutputError, match=r"holds whole\.nrrd"):
        run(tmp_path, "second")
    (tmp_path / "whole.nrrd").unlink()
    whole(tmp_path, "first")


@pytest.mark.parametrize("how", ["plain", "other spelling", "link in the folder", "link to the folder", "series"])
def test_a_folder_that_holds_an_input_is_refused(tmp_path, monkeypatch, how):
    data = tmp_path / "data"
    data.mkdir()
    image = data / "t1gd.nii.gz"
    image.write_text("image")
    (tmp_path / "link").symlink_to(data)
    (tmp_path / "copies").mkdir()
    (tmp_path / "copies" / "t1gd.nii.gz").symlink_to(image)
    monkeypatch.chdir(data)
    target, given = {
        "plain": (data, image),
        "other spelling": (".", "../data/t1gd.nii.gz"),
        "link in the folder": (data, tmp_path / "copies" / "t1gd.nii.gz"),
        "link to the folder": (tmp_path / "link", image),
        "series": (data, data),
    }[how]
    with pytest.raises(OutputError, match="which is an input of this run"):
        run(target, "new", inputs=[given])
    assert content_of(data) == {"t1gd.nii.gz": "image"}
    run(data / "result", "new", inputs=[given, tmp_path / "no such file"])


KILLED = """
    import os, sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from test_folder import run, NAMES
    real, count = os.replace, 0
    def replace(*paths):
        global count
        if count == {moves}:
            os.kill(os.getpid(), 9)
        count += 1
        real(*paths)
    os.replace = replace
    run(Path({target!r}), "second", {names!r})
"""


@pytest.mark.parametrize("earlier", [True, False])
@pytest.mark.parametrize("moves", range(11))
def test_a_run_killed_between_two_moves_leaves_no_mixture(tmp_path, earlier, moves):
    """Whatever is there afterwards reads as one result or as none; a reader or the next run finishes or replaces it."""
    out = tmp_path / "out"
    names = NAMES | {"whole": "whole.nrrd"}
    if earlier:
        run(out, "first")
        export_into(out / "dicom_export", "density.dcm")
    script = KILLED.format(tests=os.path.dirname(__file__), moves=moves, target=str(out), names=names)
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, encoding="utf-8")
    assert ended.returncode in (0, -signal.SIGKILL), ended.stderr
    if (out / "result.json").exists():
        text = json.loads((out / "result.json").read_text())["text"]
        listed = json.loads((out / "result.json").read_text())["outputs"].values()
        assert {(out / name).read_text() for name in listed} == {text}
        assert (out / "dicom_export").exists() == (text == "first")
    read = tmp_path / "read"
    shutil.copytree(out, read)
    finish_leftovers(read)
    text = json.loads((read / "result.json").read_text())["text"]
    whole(read, text, NAMES if text == "first" else names)
    run(out, "third", {"density": "density.nrrd"})
    whole(out, "third", {"density": "density.nrrd"})
    assert not (out / "dicom_export").exists()


@pytest.fixture
def interruptible():
    """Ctrl-C raises KeyboardInterrupt, also where the tests run in the background and ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_during_the_moves_waits_for_their_end(tmp_path, monkeypatch):
    run(tmp_path, "first")
    moved = []

    def replace(source, target, real=os.replace):
        if not moved:
            signal.raise_signal(signal.SIGINT)
        moved.append(target)
        real(source, target)

    monkeypatch.setattr(module.os, "replace", replace)
    with pytest.raises(KeyboardInterrupt, match="the result was written before"):
        run(tmp_path, "second")
    whole(tmp_path, "second")


def test_folders_of_running_processes_stay_and_those_of_killed_ones_go(tmp_path):
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import time\nfrom TumorQueryLib.results.folder import result_folder\n"
            f"with result_folder({str(tmp_path)!r}):\n print('in', flush=True)\n time.sleep(60)",
        ],
        stdout=subprocess.PIPE,
    )
    assert child.stdout.readline() == b"in\n"
    hidden = list(tmp_path.glob(".tumorquery-*"))
    assert len(hidden) == 1
    run(tmp_path, "first")
    assert list(tmp_path.glob(".tumorquery-*")) == hidden
    child.kill()
    child.wait()
    child.stdout.close()
    run(tmp_path, "second")
    whole(tmp_path, "second")


def test_processes_write_into_one_folder_one_after_the_other(tmp_path):
    script = f"""
        import sys
        from pathlib import Path
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        from test_folder import run
        for n in range(30):
            run(Path({str(tmp_path)!r}), sys.argv[1] + str(n))
    """
    children = [subprocess.Popen([sys.executable, "-c", textwrap.dedent(script), name]) for name in "ab"]
    assert [child.wait() for child in children] == [0, 0]
    whole(tmp_path, json.loads((tmp_path / "result.json").read_text())["text"])


def test_threads_write_into_one_folder_one_after_the_other(tmp_path):
    threads = [threading.Thread(target=run, args=(tmp_path, f"{n}")) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole(tmp_path, json.loads((tmp_path / "result.json").read_text())["text"])
