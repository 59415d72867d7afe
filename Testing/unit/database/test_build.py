"""Builds: the same bytes whatever happens to them on the way."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic_database import small_brain

import TumorQueryLib
from TumorQueryLib.anatomy.tissue import Tissue
from TumorQueryLib.base.errors import Cancelled, DatabaseError, InputError, OutputError
from TumorQueryLib.database import TumorDatabase, build, build_database
from TumorQueryLib.geometry.grid import Grid, Volume
from TumorQueryLib.growth import starting_field

ENTRIES = 200


@pytest.fixture(scope="module")
def brain():
    return small_brain()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, brain):
    """The bytes of the build that all others are compared with."""
    path = tmp_path_factory.mktemp("undisturbed") / "tumors.h5"
    build_database(path, brain, ENTRIES, workers=1)
    assert os.listdir(path.parent) == [path.name]
    return path.read_bytes()


def start_build(path, *, entries=ENTRIES, before=""):
    """A build in a process of its own; prints the error's class and text where there is one."""
    script = f"""
    import sys
    {before}
    from synthetic_database import small_brain
    from TumorQueryLib.database import build_database
    from TumorQueryLib.base.errors import TumorQueryError
    print("ready", flush=True)
    try:
        build_database({str(path)!r}, small_brain(), {entries}, resume=True)
    except TumorQueryError as error:
        print(type(error).__name__, error)
        sys.exit(2)
    """
    folders = [str(Path(__file__).parents[1]), str(Path(TumorQueryLib.__file__).parents[1])]
    # A child whose files are limited has no room for coverage's.
    measured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    environment = measured | {"PYTHONPATH": os.pathsep.join(folders)}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )


def test_the_number_of_workers_does_not_change_a_byte(undisturbed, brain, tmp_path):
    build_database(tmp_path / "tumors.h5", brain, ENTRIES, workers=3)
    assert (tmp_path / "tumors.h5").read_bytes() == undisturbed


def test_another_seed_gives_other_tumours(undisturbed, brain, tmp_path):
    first, second = (build_database(tmp_path / f"{n}.h5", brain, 20, random_seed=n) for n in (1, 2))
    with TumorDatabase.open(first) as one, TumorDatabase.open(second) as other:
        assert not np.intersect1d(one.seed, other.seed).size
        assert one.sha256 != other.sha256


def test_a_cancelled_build_is_resumed_to_the_same_bytes(undisturbed, brain, tmp_path):
    path = tmp_path / "tumors.h5"

    def cancel(value, message):
        if value > 0.4:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        build_database(path, brain, ENTRIES, workers=2, progress=cancel)
    assert not path.exists()
    with pytest.raises(DatabaseError, match="--resume"):
        TumorDatabase.open(path)
    with pytest.raises(DatabaseError, match="--resume"):
        build_database(path, brain, ENTRIES)
    with pytest.raises(DatabaseError, match="other options"):
        build_database(path, brain, ENTRIES, random_seed=1, resume=True)
    seen = []
    build_database(path, brain, ENTRIES, resume=True, progress=lambda value, message: seen.append(value))
    assert path.read_bytes() == undisturbed
    assert seen[0] > 0.2
    assert seen == sorted(seen)
    assert seen[-1] == 1


@pytest.mark.slow
def test_a_build_survives_being_killed_at_any_time(undisturbed, tmp_path):
    path = tmp_path / "tumors.h5"
    generator = np.random.default_rng(int.from_bytes(os.urandom(4), "little"))
    deadline = time.monotonic() + 240
    kills = 0
    while time.monotonic() < deadline:
        build = start_build(path)
        assert build.stdout.readline() == "ready\n"
        try:
            build.wait(timeout=generator.uniform(0.0, 1.5))
            break
        except subprocess.TimeoutExpired:
            if kills == 5:
                break
            build.send_signal(signal.SIGKILL)
            build.wait()
            build.stdout.close()
            kills += 1
            assert not path.exists() or path.read_bytes() == undisturbed
    assert build.wait(timeout=120) == 0, build.stdout.read()
    assert path.read_bytes() == undisturbed
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.slow
def test_a_torn_side_file_is_continued(undisturbed, brain, tmp_path):
    path = tmp_path / "tumors.h5"
    side = tmp_path / "tumors.h5.partial"

    def cancel(value, message):
        if value > 0.6:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        build_database(path, brain, ENTRIES, progress=cancel)
    whole = side.read_bytes()
    for content in (whole[: len(whole) * 2 // 3], whole[:9], b"", whole[:-100] + bytes(100)):
        path.unlink(missing_ok=True)
        side.write_bytes(content)
        build_database(path, brain, ENTRIES, resume=True)
        assert path.read_bytes() == undisturbed
    path.unlink()
    side.write_bytes(b"something else entirely")
    with pytest.raises(DatabaseError, match="other options"):
        build_database(path, brain, ENTRIES, resume=True)
    assert side.read_bytes() == b"something else entirely"


@pytest.mark.slow
def test_two_builds_into_one_file_refuse_each_other(undisturbed, brain, tmp_path):
    path = tmp_path / "tumors.h5"
    other = start_build(path, entries=4000)
    try:
        side = tmp_path / "tumors.h5.partial"
        while other.poll() is None and not (side.exists() and side.stat().st_size):
            time.sleep(0.05)
        with pytest.raises(OutputError, match="Another build"):
            build_database(path, brain, 4000, resume=True)
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
    # The lock has ended with its process.
    with pytest.raises(DatabaseError, match="other options"):
        build_database(path, brain, ENTRIES, resume=True)


def test_a_finished_database_is_left_alone(undisturbed, brain, tmp_path):
    path = tmp_path / "tumors.h5"
    path.write_bytes(undisturbed)
    build_database(path, brain, ENTRIES, resume=True)
    with pytest.raises(DatabaseError, match="there already"):
        build_database(path, brain, ENTRIES)
    with pytest.raises(DatabaseError, match="other options"):
        build_database(path, brain, ENTRIES - 2, resume=True)
    assert path.read_bytes() == undisturbed
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits of file sizes are POSIX")
@pytest.mark.parametrize("resume", [False, True])
def test_a_database_that_another_build_finishes_meanwhile_is_left_alone(brain, tmp_path, monkeypatch, resume):
    path = tmp_path / "tumors.h5"
    finished = build_database(tmp_path / "other.h5", brain, 8, random_seed=1).read_bytes()
    open_side_file = build.SideFile.open

    def after_the_other(*arguments, **options):
        path.write_bytes(finished)
        return open_side_file(*arguments, **options)

    monkeypatch.setattr(build.SideFile, "open", after_the_other)
    with pytest.raises(DatabaseError, match="is there already"):
        build_database(path, brain, 12, random_seed=2, resume=resume)
    assert path.read_bytes() == finished
    path.unlink()
    if resume:
        build_database(path, brain, 8, random_seed=1, resume=True)
        assert path.read_bytes() == finished
    assert {entry.name for entry in tmp_path.iterdir()} <= {"other.h5", "tumors.h5"}


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.3, 0.97])
def test_a_full_disk_is_said_and_the_build_continues_later(undisturbed, brain, tmp_path, share):
    path = tmp_path / "tumors.h5"
    if share > 0.5:
        # So that the pieces are all there, and the database itself does not fit.
        build = start_build(path, before="import TumorQueryLib.database.build as b; b._write = lambda *a: sys.exit(9)")
        assert build.wait(timeout=120) == 9
        build.stdout.close()
    limit = int(share * len(undisturbed))
    build = start_build(path, before=f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))")
    assert build.wait(timeout=120) == 2
    said = build.stdout.read()
    build.stdout.close()
    assert "OutputError" in said
    assert "--resume" in said
    assert len(said.splitlines()) == 2, said
    assert os.listdir(tmp_path) == ["tumors.h5.partial"]
    build_database(path, brain, ENTRIES, resume=True)
    assert path.read_bytes() == undisturbed


def test_a_folder_that_cannot_be_written_is_said(brain, tmp_path):
    with pytest.raises(OutputError, match="no folder"):
        build_database(tmp_path / "missing" / "tumors.h5", brain, 4)
    with pytest.raises(OutputError, match="not a file"):
        build_database(tmp_path, brain, 4)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        build_database(tmp_path / "file" / "tumors.h5", brain, 4)


def test_a_read_only_folder_is_said(brain, tmp_path):
    # The superuser may write anywhere but in the kernel's own folders.
    folder = Path("/sys") if hasattr(os, "geteuid") and os.geteuid() == 0 else tmp_path
    if folder == tmp_path:
        folder.chmod(0o555)
    try:
        with pytest.raises(OutputError, match=r"permission|read-only"):
            build_database(folder / "tumors.h5", brain, 4)
    finally:
        tmp_path.chmod(0o755)
    assert not os.listdir(tmp_path)


def test_options_out_of_range_are_refused(brain, tmp_path):
    path = tmp_path / "tumors.h5"
    for options in ({"entries": 0}, {"entries": 5, "workers": 0}, {"entries": 5, "random_seed": -1}):
        with pytest.raises(InputError):
            build_database(path, brain, **options)
    with pytest.raises(InputError, match="choose one of"):
        build_database(path, brain, 5, sampling="uniform")
    assert not os.listdir(tmp_path)


def test_voxels_too_large_for_a_starting_tumour_are_told(brain):
    affine = brain.grid.affine * [1, 1, 10, 1]
    tissue = Tissue.from_atlas(replace(brain, grid=Grid(brain.grid.shape, affine)))
    between_slices = tissue.grid.to_ras(np.argwhere(tissue.mask)[0] + [0, 0, 0.49])
    with pytest.raises(InputError, match="Voxels of up to 60 mm are too large"):
        starting_field(tuple(between_slices), tissue)


@pytest.mark.slow
def test_a_dask_cluster_gives_the_same_bytes_though_a_worker_dies(undisturbed, brain, tmp_path):
    distributed = pytest.importorskip("distributed", reason="needs the extra 'distributed'")
    path = tmp_path / "tumors.h5"
    killed = []
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:

        def kill_one(value, message):
            if value > 0.3 and not killed:
                victim = next(iter(cluster.workers.values()))
                killed.append(victim.pid)
                os.kill(victim.pid, signal.SIGKILL)

        build_database(path, brain, ENTRIES, dask=cluster.scheduler_address, progress=kill_one)
    assert killed
    assert path.read_bytes() == undisturbed


@pytest.mark.slow
def test_a_missing_dask_scheduler_is_said(brain, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed", reason="needs the extra 'distributed'")
    real = distributed.Client
    monkeypatch.setattr(distributed, "Client", lambda *a, **k: real(*a, **(k | {"timeout": "1s"})))
    with pytest.raises(InputError, match="No Dask scheduler"):
        build_database(tmp_path / "tumors.h5", brain, 4, dask="tcp://127.0.0.1:9")


FAR = np.array([[6.0, 0, 0, 2e5], [0, 6, 0, 0], [0, 0, 6, 0], [0, 0, 0, 1]])


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"name": "mine/v2"}, "atlas_name is no name of 1 to 200 characters"),
        ({"name": ""}, "atlas_name is no name"),
        ({"name": "a" * 300}, "atlas_name is no name"),
        ({"attribution": "J\ud800"}, "attribution is no text"),
        ({"attribution": "a\0b"}, "attribution is no text"),
        ({"licence": "a" * 70_000}, "licence is no text"),
        ({"grid": Grid((24, 24, 24), FAR)}, "size and place"),
        ({"grid": Grid((24, 24, 24), np.diag([6.0, 6.0, 150.0, 1.0]))}, "size and place"),
    ],
)
def test_an_atlas_of_which_no_database_could_be_opened_is_refused_before_the_work(tmp_path, brain, changed, words):
    changed = {"t1": Volume(brain.t1.array, changed["grid"])} | changed if "grid" in changed else changed
    with pytest.raises(InputError, match=f"{words}.*atlas.json of the atlas"):
        build_database(tmp_path / "tumors.h5", replace(brain, **changed), 4)
    assert not list(tmp_path.iterdir())


def test_a_file_system_without_locks_holds_a_build(tmp_path, brain, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def refused(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refused)
    build_database(tmp_path / "tumors.h5", brain, 4, workers=1)
    assert os.listdir(tmp_path) == ["tumors.h5"]
