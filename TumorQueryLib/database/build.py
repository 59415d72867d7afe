"""Building a database: solves in pieces, kept in a side file, joined at the end.

Finished pieces go to a side file (`side_file`), in whatever order they come. When all are
there, the database is written aside in the order of the pieces and renamed. So a build can be
killed at any moment and resumed, and the bytes depend on the options alone: not on the number
of workers, their speed, or how often the build was resumed.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.anatomy.tissue import Tissue
from TumorQueryLib.base.errors import DatabaseError, InputError, OutputError, shown
from TumorQueryLib.base.files import replaced_file
from TumorQueryLib.base.parallel import available_cores, dask_client
from TumorQueryLib.base.progress import Progress, no_progress, part
from TumorQueryLib.database.prior import Prior, SeedCells, make_prior
from TumorQueryLib.database.schema import REGIONS, SCHEMA, SCHEMA_VERSION, check_attributes, described_grid
from TumorQueryLib.database.side_file import Piece, SideFile, side_path, writing_errors
from TumorQueryLib.database.store import TumorDatabase
from TumorQueryLib.database.writing import write_database
from TumorQueryLib.geometry.regions import THRESHOLD_CORE, THRESHOLD_WHOLE
from TumorQueryLib.growth import INITIAL_CONDITION, SOLVER_VERSION

#: Solves that are grown, sent and kept together: a few seconds of work.
SOLVES_PER_PIECE = 16
MOST_WORKERS = 1024
#: Seconds between two looks at the progress, so that a cancellation is soon noticed.
POLL_S = 0.2
#: How often a piece is sent to a Dask cluster again whose workers died with it.
DASK_ATTEMPTS = 10


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
        Number of tumours, 1 to 1,000,000.
    sampling : {"trajectory", "independent"}
        The prior; see `database.prior`.
    random_seed : int
        The same seed gives the same bytes, whatever the workers.
    workers : int, optional
        Threads, 1 to 1,024; by default one for each core.
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
        When an option is out of its range, or the atlas's name, texts or grid are none that a database has.
    DatabaseError
        When `path` or its side file belongs to a build with other options, or is there and
        `resume` is not given.
    OutputError
        When the file cannot be written, the disk is full, or another build writes the same file.
    MissingDependencyError
        When `dask` is given and dask.distributed is not installed.
    """
    path = Path(path)
    if workers is not None and not 1 <= workers <= MOST_WORKERS:
        raise InputError(f"A build has 1 to {MOST_WORKERS} workers; {workers} were asked for.")
    tissue = Tissue.from_atlas(atlas)
    prior = make_prior(sampling, SeedCells.of(atlas, tissue), entries, random_seed)
    attributes = _attributes(atlas, tissue, prior, random_seed)
    _refuse_what_could_not_be_opened(atlas, attributes)
    plan = {"entries": entries, "solves_per_piece": SOLVES_PER_PIECE, "attributes": attributes}
    if os.path.exists(path):  # False for names that are too long, which the side file tells
        _check_existing(path, attributes, entries, resume)
        return path
    pieces = -(-prior.solves // SOLVES_PER_PIECE)
    with SideFile.open(path, plan, resume=resume) as side:
        # Another build of the same file may have ended between the question above and the lock.
        finished_by_another = os.path.exists(path)
        if not finished_by_another:
            _grow_missing(side, prior, tissue, pieces, workers, dask, part(progress, 0.0, 0.95))
            _write(path, attributes, side, pieces, part(progress, 0.95, 1.0))
    side.remove()
    if finished_by_another:
        _check_existing(path, attributes, entries, resume)
    progress(1.0, "The database is finished")
    return path


def _grow_missing(
    side: SideFile,
    prior: Prior,
    tissue: Tissue,
    pieces: int,
    workers: int | None,
    dask: str | None,
    progress: Progress,
) -> None:
    """Grow the pieces that the side file does not hold, and add them to it."""
    missing = [number for number in range(pieces) if number not in side.pieces]
    if not missing:
        return
    report = _report(progress, side, pieces)
    source = (
        _grow_in_threads(workers or available_cores(), prior, tissue, missing, report)
        if dask is None
        else _grow_on_dask(dask, prior, tissue, missing, report)
    )
    for piece in source:
        side.append(piece)


def _grow_piece(prior: Prior, tissue: Tissue, number: int, stopped: Callable[[], bool] = lambda: False) -> Piece:
    """Grow the piece of that number; what it holds does not depend on where or when."""
    first = number * SOLVES_PER_PIECE
    solved = []
    for solve in range(first, min(first + SOLVES_PER_PIECE, prior.solves)):
        if stopped():
            raise _StoppedError
        solved.append(prior.grow(solve, tissue))
    return Piece.of(number, solved)


class _StoppedError(Exception):
    """The build was cancelled while a piece was growing."""


def _grow_in_threads(
    workers: int, prior: Prior, tissue: Tissue, numbers: list[int], report: Callable[[], None]
) -> Iterator[Piece]:
    stop = threading.Event()
    waiting: set[Future[Piece]] = set()
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
) -> Iterator[Piece]:
    with dask_client(address) as client, client.as_current():
        import distributed

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


def _grow_shared_piece(shared: tuple[Prior, Tissue], number: int) -> Piece:
    return _grow_piece(*shared, number)


def _report(progress: Progress, side: SideFile, pieces: int) -> Callable[[], None]:
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
        f"threshold_{REGIONS['core']}": THRESHOLD_CORE,
        f"threshold_{REGIONS['whole']}": THRESHOLD_WHOLE,
        "grid_shape": list(tissue.grid.shape),
        "grid_affine": tissue.grid.affine.tolist(),
        "atlas_name": atlas.name,
        "atlas_sha256": atlas.sha256,
    }


def _refuse_what_could_not_be_opened(atlas: Atlas, attributes: dict[str, Any]) -> None:
    """Ask of the attributes, before the work, what is asked of them whenever the database is opened."""
    try:
        check_attributes(attributes)
        described_grid(attributes)
    except ValueError as error:
        raise InputError(
            f"The database could not be opened afterwards ({error}); its name, licence and attribution come from "
            f"atlas.json of the atlas {shown(atlas.name)}, and its grid from wm.nii.gz there: mend them."
        ) from error


def _check_existing(path: Path, attributes: dict[str, Any], entries: int, resume: bool) -> None:
    """Leave a finished database alone, and say so unless it is the one that was asked for."""
    if not os.path.isfile(path):
        raise OutputError(f"{path} is not a file; name a file for the database.")
    if not resume:
        raise DatabaseError(f"{path} is there already; delete it first or choose another name.")
    with TumorDatabase.open(path) as database:
        if len(database) != entries or any(database.attributes[name] != attributes[name] for name in attributes):
            raise DatabaseError(
                f"{path} is there already and was built with other options; delete it first or choose another name."
            )
    side_path(path).unlink(missing_ok=True)


def _write(path: Path, attributes: dict[str, Any], side: SideFile, pieces: int, progress: Progress) -> None:
    """Join the pieces into the database file, under another name until it is whole."""
    order = [side.pieces[number] for number in range(pieces)]
    run_counts = {region: sum(place.runs[n] for place in order) for n, region in enumerate(REGIONS)}
    entries = sum(place.entries for place in order)
    content = (side.read(place) for place in order)
    # One name, so that what a killed build left is overwritten; the lock keeps other builds off it.
    aside = path.with_name(path.name + ".writing")
    with writing_errors(path), replaced_file(path, aside=aside):
        write_database(aside, attributes, entries, run_counts, content, progress=progress)
