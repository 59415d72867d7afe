"""Building a database: solves in pieces, kept in a side file, joined at the end.

Finished pieces are appended to `NAME.h5.partial`, each with a checksum, in whatever order
they come. When all are there, the database is written aside in the order of the pieces and
renamed. So a build can be killed at any moment and resumed, and the bytes depend on the
options alone: not on the number of workers, their speed, or how often the build was resumed.

The side file is locked while a build writes it. The lock is the system's own, so it ends
with its process, however that ended.
"""

from __future__ import annotations

import io
import json
import os
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.anatomy.tissue import Tissue
from TumorQueryLib.base.errors import DatabaseError, InputError, MissingDependencyError, OutputError
from TumorQueryLib.base.files import output_errors
from TumorQueryLib.base.parallel import available_cores
from TumorQueryLib.base.progress import Progress, no_progress, part
from TumorQueryLib.database.masks import Runs
from TumorQueryLib.database.sampling import Prior, SeedCells, make_prior
from TumorQueryLib.database.store import (
    REGIONS,
    SCHEMA,
    SCHEMA_VERSION,
    Entries,
    TumorDatabase,
    write_database,
)
from TumorQueryLib.geometry.regions import THRESHOLD_CORE, THRESHOLD_WHOLE
from TumorQueryLib.growth import INITIAL_CONDITION, SOLVER_VERSION

#: Solves that are grown, sent and kept together: a few seconds of work.
SOLVES_PER_PIECE = 16
#: Seconds between two looks at the progress, so that a cancellation is soon noticed.
POLL_S = 0.2
#: How often a piece is sent to a Dask cluster again whose workers died with it.
DASK_ATTEMPTS = 10

_MAGIC = b"tumorquery build 1\n"
#: Number of the piece, entries, runs of both regions, bytes of the payload, its CRC-32; then the CRC-32 of these.
_RECORD = struct.Struct("<QQQQQI")
_CHECK = struct.Struct("<I")


def build_database(
    path: str | os.PathLike,
    atlas: Atlas,
    entries: int,
    *,
    sampling: str = "trajectory",
    random_seed: int = 0,
    workers: int | None = None,
    dask: str | None = None,
    resume: bool = False,
    progress: Progress = no_progress,
) -> Path:
    """Simulate tumours and write them as a database.

    Parameters
    ----------
    path : path
        The database file to make; `path`.partial beside it holds what is finished.
    atlas : Atlas
        The anatomy that the tumours grow in.
    entries : int
        Number of tumours, at least 1.
    sampling : {"trajectory", "independent"}
        The prior; see `database.sampling`.
    random_seed : int
        The same seed gives the same bytes, whatever the workers.
    workers : int, optional
        Threads; by default one for each core.
    dask : str, optional
        Address of a Dask scheduler, such as "tcp://head:8786", whose workers grow the tumours
        instead of threads here. They need this package installed.
    resume : bool
        Go on with the side file of an earlier build with the same options, if there is one; a
        database that is there and finished is left as it is.
    progress : Progress
        May raise `Cancelled`; the side file then stays for a resumed build.

    Returns
    -------
    Path
        The database file.

    Raises
    ------
    InputError
        When an option is out of its range.
    DatabaseError
        When `path` or its side file belongs to a build with other options, or is there and
        `resume` is not given.
    OutputError
        When the file cannot be written, the disk is full, or another build writes the same file.
    MissingDependencyError
        When `dask` is given and dask.distributed is not installed.
    """
    path = Path(path)
    if workers is not None and workers < 1:
        raise InputError(f"A build needs at least one worker; {workers} were asked for.")
    tissue = Tissue.from_atlas(atlas)
    prior = make_prior(sampling, SeedCells.of(atlas, tissue), entries, random_seed)
    attributes = _attributes(atlas, tissue, prior, random_seed)
    plan = {"entries": entries, "solves_per_piece": SOLVES_PER_PIECE, "attributes": attributes}
    if path.exists():
        _check_existing(path, attributes, entries, resume)
        return path
    pieces = -(-prior.solves // SOLVES_PER_PIECE)
    with _SideFile.open(path, plan, resume) as side:
        missing = [number for number in range(pieces) if number not in side.pieces]
        if missing:
            grown = part(progress, 0.0, 0.95)
            source = (
                _grow_on_dask(dask, prior, tissue, missing, _report(grown, side, pieces))
                if dask is not None
                else _grow_in_threads(
                    workers or available_cores(), prior, tissue, missing, _report(grown, side, pieces)
                )
            )
            for piece in source:
                side.append(piece)
        _write(path, attributes, side, pieces, part(progress, 0.95, 1.0))
    side.remove()
    progress(1.0, "The database is finished")
    return path


@dataclass(frozen=True)
class _Piece:
    """The entries of `SOLVES_PER_PIECE` consecutive solves, packed."""

    number: int
    entries: int
    runs: tuple[int, int]
    payload: bytes


def _grow_piece(prior: Prior, tissue: Tissue, number: int, stopped: Callable[[], bool] = lambda: False) -> _Piece:
    """Grow the piece of that number; what it holds does not depend on where or when."""
    first = number * SOLVES_PER_PIECE
    solved = []
    for solve in range(first, min(first + SOLVES_PER_PIECE, prior.solves)):
        if stopped():
            raise _StoppedError
        solved.append(prior.grow(solve, tissue))
    arrays = {
        name: np.concatenate([getattr(entries, name) for entries in solved])
        for name in ("seed", "diffusivity", "proliferation", "duration", "trajectory")
    }
    for region in REGIONS:
        runs = [run for entries in solved for run in entries.runs[region]]
        arrays[f"{region}_count"] = np.array([run.starts.size for run in runs], np.int64)
        arrays[f"{region}_starts"] = np.concatenate([run.starts for run in runs])
        arrays[f"{region}_lengths"] = np.concatenate([run.lengths for run in runs])
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]
    sizes = [int(arrays[f"{region}_count"].sum()) for region in REGIONS]
    return _Piece(number, len(arrays["trajectory"]), (sizes[0], sizes[1]), packed.getvalue())


def _unpack(payload: bytes) -> Entries:
    with np.load(io.BytesIO(payload), allow_pickle=False) as arrays:
        runs: dict[str, list[Runs]] = {}
        for region in REGIONS:
            ends = np.cumsum(arrays[f"{region}_count"])[:-1]
            starts = np.split(arrays[f"{region}_starts"], ends)
            lengths = np.split(arrays[f"{region}_lengths"], ends)
            runs[region] = [Runs(s, n) for s, n in zip(starts, lengths)]
        return Entries(
            seed=arrays["seed"],
            diffusivity=arrays["diffusivity"],
            proliferation=arrays["proliferation"],
            duration=arrays["duration"],
            trajectory=arrays["trajectory"],
            runs=runs,
        )


class _StoppedError(Exception):
    """The build was cancelled while a piece was growing."""


def _grow_in_threads(
    workers: int, prior: Prior, tissue: Tissue, numbers: list[int], report: Callable[[], None]
) -> Iterator[_Piece]:
    stop = threading.Event()
    waiting: set[Future[_Piece]] = set()
    with ThreadPoolExecutor(workers) as executor:
        try:
            todo = iter(numbers)
            while True:
                for number in todo:
                    waiting.add(executor.submit(_grow_piece, prior, tissue, number, stop.is_set))
                    if len(waiting) >= 2 * workers:
                        break
                if not waiting:
                    return
                done, waiting = wait(waiting, timeout=POLL_S, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
                report()
        finally:
            stop.set()
            for future in waiting:
                future.cancel()


def _grow_on_dask(
    address: str, prior: Prior, tissue: Tissue, numbers: list[int], report: Callable[[], None]
) -> Iterator[_Piece]:
    try:
        import distributed
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "Building on a Dask cluster needs the package distributed: pip install 'tumorquery[distributed]'."
        ) from error
    try:
        client = distributed.Client(address, timeout="15s", set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(f"No Dask scheduler answers at {address}; start one with `dask scheduler`.") from error
    with client, client.as_current():
        shared = client.scatter((prior, tissue), broadcast=True)
        attempts = dict.fromkeys(numbers, 0)
        todo = list(reversed(numbers))
        waiting: dict[Any, int] = {}
        while todo or waiting:
            # A window wide enough to keep every worker busy, so that results never pile up.
            threads = sum(client.nthreads().values())
            while todo and len(waiting) < max(4, 3 * threads):
                number = todo.pop()
                waiting[client.submit(_grow_shared_piece, shared, number, pure=False)] = number
            try:
                done = distributed.wait(list(waiting), timeout=POLL_S, return_when="FIRST_COMPLETED").done
            except (TimeoutError, distributed.TimeoutError):
                done = set()
            lost = False
            for future in done:
                number = waiting.pop(future)
                if future.status == "finished":
                    try:
                        yield future.result(timeout="60s")
                        continue
                    except (OSError, TimeoutError, distributed.TimeoutError):
                        pass  # its worker died with the result
                elif future.status == "error":
                    failure = future.exception()
                    if not isinstance(failure, distributed.scheduler.KilledWorker):
                        raise failure
                attempts[number] += 1
                if attempts[number] > DASK_ATTEMPTS:
                    raise OutputError(
                        f"Piece {number} of the build was lost {DASK_ATTEMPTS} times with its Dask worker; see to the "
                        "workers' logs (memory?) and continue with --resume."
                    )
                todo.append(number)
                lost = True
            if lost:
                # The maps may have gone with the last worker that held them.
                shared = client.scatter((prior, tissue), broadcast=True)
            report()


def _grow_shared_piece(shared: tuple[Prior, Tissue], number: int) -> _Piece:
    return _grow_piece(*shared, number)


def _report(progress: Progress, side: _SideFile, pieces: int) -> Callable[[], None]:
    started, before = time.monotonic(), len(side.pieces)

    def report() -> None:
        done = len(side.pieces)
        message = "Growing tumours"
        if done > before:
            left = (time.monotonic() - started) / (done - before) * (pieces - done)
            message += f", about {left / 60:.0f} min left" if left > 90 else f", about {left:.0f} s left"
        progress(done / pieces, message)

    return report


def _attributes(atlas: Atlas, tissue: Tissue, prior: Prior, random_seed: int) -> dict[str, Any]:
    """The root attributes of the database."""
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "solver_version": SOLVER_VERSION,
        "rng_seed": random_seed,
        "prior": prior.describe(),
        "tissue": dict(tissue.description),
        "initial_condition": dict(INITIAL_CONDITION),
        "licence": f"{atlas.licence} (derived from the atlas {atlas.name})",
        "attribution": atlas.attribution,
        "threshold_t1gd": THRESHOLD_CORE,
        "threshold_flair": THRESHOLD_WHOLE,
        "grid_shape": list(tissue.grid.shape),
        "grid_affine": tissue.grid.affine.tolist(),
        "atlas_name": atlas.name,
        "atlas_sha256": atlas.sha256,
    }


def _check_existing(path: Path, attributes: dict[str, Any], entries: int, resume: bool) -> None:
    """Leave a finished database alone, and say so unless it is the one that was asked for."""
    if not path.is_file():
        raise OutputError(f"{path} is not a file; name a file for the database.")
    if not resume:
        raise DatabaseError(f"{path} is there already; delete it first or choose another name.")
    with TumorDatabase.open(path) as database:
        if len(database) != entries or any(database.attributes[name] != attributes[name] for name in attributes):
            raise DatabaseError(
                f"{path} is there already and was built with other options; delete it first or choose another name."
            )
    _side_path(path).unlink(missing_ok=True)


def _write(path: Path, attributes: dict[str, Any], side: _SideFile, pieces: int, progress: Progress) -> None:
    """Join the pieces into the database file, under another name until it is whole."""
    aside = path.with_name(path.name + ".writing")
    order = [side.pieces[number] for number in range(pieces)]
    run_counts = {region: sum(place.runs[n] for place in order) for n, region in enumerate(REGIONS)}
    entries = sum(place.entries for place in order)
    try:
        with _writing(path):
            write_database(aside, attributes, entries, run_counts, (side.read(place) for place in order), progress)
            with open(aside, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Place:
    """Where a piece lies in the side file."""

    entries: int
    runs: tuple[int, int]
    offset: int
    size: int
    checksum: int


class _SideFile:
    """The finished pieces of an unfinished build.

    A header (the build's options), then records, each protected by its checksum: a record that
    was not finished when the process died is cut off.
    """

    def __init__(self, path: Path, database: Path, file: FileIO) -> None:
        self.path, self.database = path, database
        self.pieces: dict[int, _Place] = {}
        self._file = file
        self._end = 0

    @classmethod
    def open(cls, database: Path, plan: dict[str, Any], resume: bool) -> _SideFile:
        """Lock the side file of a database; make it, or go on with it."""
        path = _side_path(database)
        header = _MAGIC + json.dumps(plan, sort_keys=True).encode() + b"\n"
        with _writing(database):
            file = _open_locked(path, database)
        side = cls(path, database, file)
        try:
            size = os.fstat(file.fileno()).st_size
            ours = file.read(min(size, len(header))) == header[:size]
            if ours and size < len(header):
                # New, or killed while the header was written: nothing is lost.
                with _writing(database):
                    side._write_all(0, header)
            elif not resume:
                raise DatabaseError(
                    f"{path} holds an unfinished build; continue it with --resume, or delete it to start anew."
                )
            elif not ours:
                raise DatabaseError(
                    f"{path} holds an unfinished build with other options or of another version; "
                    "give the same options, or delete it to start anew."
                )
            else:
                side._scan(len(header), size)
        except BaseException:
            file.close()
            raise
        return side

    def __enter__(self) -> _SideFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _scan(self, offset: int, size: int) -> None:
        """Find the whole records; cut off what follows them."""
        self._file.seek(offset)
        while True:
            head = self._file.read(_RECORD.size + _CHECK.size)
            if len(head) < _RECORD.size + _CHECK.size:
                break
            if zlib.crc32(head[: _RECORD.size]) != _CHECK.unpack(head[_RECORD.size :])[0]:
                break
            number, entries, core_runs, whole_runs, length, checksum = _RECORD.unpack(head[: _RECORD.size])
            payload = self._file.read(length)
            if len(payload) < length or zlib.crc32(payload) != checksum:
                break
            start = offset + len(head)
            self.pieces[number] = _Place(entries, (core_runs, whole_runs), start, length, checksum)
            offset = start + length
        self._file.truncate(offset)
        self._end = offset

    def _write_all(self, offset: int, content: bytes) -> None:
        """Write at an offset; where that fails, the file ends there and can be continued later."""
        self._file.seek(offset)
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[self._file.write(rest) :]
        except BaseException:
            self._file.truncate(offset)
            raise
        self._end = offset + len(content)

    def append(self, piece: _Piece) -> None:
        """Keep a finished piece."""
        if piece.number in self.pieces:
            return
        checksum = zlib.crc32(piece.payload)
        head = _RECORD.pack(piece.number, piece.entries, *piece.runs, len(piece.payload), checksum)
        start = self._end
        with _writing(self.database):
            self._write_all(start, head + _CHECK.pack(zlib.crc32(head)) + piece.payload)
        offset = start + _RECORD.size + _CHECK.size
        self.pieces[piece.number] = _Place(piece.entries, piece.runs, offset, len(piece.payload), checksum)

    def read(self, place: _Place) -> Entries:
        """The entries of a piece that was kept."""
        self._file.seek(place.offset)
        payload = self._file.read(place.size)
        if len(payload) < place.size or zlib.crc32(payload) != place.checksum:
            raise DatabaseError(f"{self.path} was altered while it was read; delete it and build again.")
        return _unpack(payload)

    def remove(self) -> None:
        """Delete the file; the database holds everything now."""
        self.path.unlink(missing_ok=True)


def _side_path(database: Path) -> Path:
    return database.with_name(database.name + ".partial")


def _open_locked(path: Path, database: Path) -> FileIO:
    """Open a file for reading and writing, and lock it for this process."""
    while True:
        # No buffer: what a killed process had written is in the file.
        file = FileIO(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666), "r+")
        try:
            _lock(file)
        except OSError as error:
            file.close()
            raise OutputError(
                f"Another build is writing {database}; wait until it has ended or choose another name."
            ) from error
        # Whoever held the lock may have finished and removed the file in between.
        try:
            current = path.stat()
        except FileNotFoundError:
            current = None
        if current is not None and os.path.samestat(current, os.fstat(file.fileno())):
            return file
        file.close()


def _lock(file: FileIO) -> None:
    """Take the system's exclusive lock on an open file; OSError where another process has it."""
    try:
        import fcntl
    except ModuleNotFoundError:
        import msvcrt

        # A byte far beyond the content: Windows locks keep others from reading it.
        file.seek(2**40)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        file.seek(0)
    else:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn the errors of writing a database into one sentence."""
    kept = " What is grown is kept: continue with --resume." if _side_path(path).exists() else ""
    try:
        with output_errors(path.parent):
            yield
    except OutputError as error:
        raise OutputError(f"{error}{kept}") from error
    except FileNotFoundError as error:
        raise OutputError(f"{path} cannot be written: there is no folder {path.parent}.") from error
    except (OSError, RuntimeError) as error:
        # HDF5 keeps the system's reason in its text.
        reason = " ".join(str(error).split())
        raise OutputError(f"{path} could not be written whole ({reason}); make room or name another.{kept}") from error
