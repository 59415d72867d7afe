"""Job files of the worker: values exchanged, keys left out, added and renamed, JSON that is none.

A job that is accepted is cancelled where its work begins (the registration, the first piece of a build,
the growing of a match); what is read before that is real.
"""

import contextlib
import io
import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mutations import changed_json, damaged_bytes, json_text
from small_world import World, world_patient, write_patient

from TumorQueryLib.base.errors import Cancelled
from TumorQueryLib.jobs import JOBS, infer_files
from TumorQueryLib.worker import read_job

WORK = ("Registering", "Querying", "Growing match", "Growing tumours")


@dataclass
class Prepared:
    folder: Path
    jobs: list[Any]


def prepare(folder: Path) -> Prepared:
    world = prepared_world(folder)
    files = write_patient(folder / "patient", world_patient())
    method = world.method(refine="none", top=3)
    infer_files(files, method, folder / "result")
    database, atlas = str(world.database), str(world.atlas_folder)
    jobs = [
        {"command": "infer", "out": "out", "arguments": files | method.as_json()},
        {"command": "infer", "out": "out", "arguments": files | {"database": database, "atlas": atlas}},
        {"command": "match", "arguments": {"result": str(folder / "result"), "rank": 1, "atlas": atlas}},
        {
            "command": "build",
            "arguments": {
                "path": "new.h5", "entries": 4, "atlas": atlas, "sampling": "trajectory", "random_seed": 3,
                "workers": 1, "resume": True,
            },
        },
        {"command": "build", "arguments": {"path": "new.h5", "entries": 99, "sampling": "independent", "atlas": atlas}},
        {"command": "info", "out": "out", "arguments": {"database": database}},
    ]  # fmt: skip
    os.chdir(folder)
    prepared = Prepared(folder, jobs)
    for job in jobs:
        (folder / "job.json").write_bytes(json_text(job))
        assert tried(folder / "job.json", folder) in ("accepted", "done"), job
    return prepared


def prepared_world(folder: Path) -> World:
    with contextlib.redirect_stdout(io.StringIO()):
        return World.build(folder / "world")


def leaves_the_folder(job: Any, folder: Path) -> bool:
    """Whether a job would write elsewhere, which this test does not want."""
    arguments = job.get("arguments") if isinstance(job, dict) else None
    named = [job.get("out")] if isinstance(job, dict) else []
    named += [arguments.get("path")] if isinstance(arguments, dict) else []
    for name in named:
        with contextlib.suppress(ValueError, OSError, TypeError, RuntimeError):
            if not Path(name).resolve().is_relative_to(folder.resolve()):
                return True
    return False


def attempt(prepared: Prepared, generator: random.Random) -> str:
    path = prepared.folder / "job.json"
    job = generator.choice(prepared.jobs)
    if generator.random() < 0.8:
        part = "arguments" if generator.random() < 0.7 else None
        changed = changed_json(job if part is None else job[part], generator)
        job = changed if part is None else job | {part: changed}
        if leaves_the_folder(job, prepared.folder):
            return "not tried: it would write elsewhere"
        try:
            path.write_bytes(json_text(job))
        except (ValueError, TypeError):
            return "not made"
    else:
        path.write_bytes(damaged_bytes(json_text(job), generator))

    return tried(path, prepared.folder)


def tried(path: Path, folder: Path) -> str:
    """Do a job until its work begins; nothing of it is left."""

    def progress(value: float, message: str) -> None:
        if message.startswith(WORK) or (message.startswith("Grow") and value > 0):
            raise Cancelled

    before = set(os.listdir(folder))
    try:
        read = read_job(str(path))
        if leaves_the_folder(read, folder):
            return "not tried: it would write elsewhere"
        made = JOBS[read["command"]](read, progress=progress)
        return "done" if Path(made).exists() else "wrong: what it names is not there"
    except Cancelled:
        return "accepted"
    finally:
        for name in set(os.listdir(folder)) - before:
            left = folder / name
            shutil.rmtree(left) if left.is_dir() else left.unlink()
