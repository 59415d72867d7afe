"""Results appear whole or not at all: written aside, checked, then renamed."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from TumorQueryLib.base.errors import OutputError

#: Folders that are being written now; the worker removes them when it has to end at once.
unfinished_folders: set[Path] = set()


@contextmanager
def staged_folder(target: str | os.PathLike) -> Iterator[Path]:
    """A folder to write into, whose files move to `target` when the block ends well.

    Files of the same names in `target` are replaced, others stay. When the block
    raises, nothing of it is left. Opening fails at once where `target` cannot be
    written, so that no work is lost at the end of a long run.

    Raises
    ------
    OutputError
        When the folder cannot be made or written, or the disk is full.
    """
    target = Path(target)
    made = [folder for folder in (target, *target.parents) if not folder.exists()]
    stage = None
    moved = False
    try:
        with output_errors(target):
            target.mkdir(parents=True, exist_ok=True)
            stage = Path(tempfile.mkdtemp(prefix=".tumorquery-", dir=target))
            unfinished_folders.add(stage)
        with output_errors(target):
            yield stage
            _move_into(stage, target)
        moved = True
    finally:
        if stage is not None:
            shutil.rmtree(stage, ignore_errors=True)
            unfinished_folders.discard(stage)
        if not moved:
            for folder in made:
                try:
                    folder.rmdir()
                except OSError:  # not ours alone any more
                    break


def _move_into(stage: Path, target: Path) -> None:
    """Move all files of `stage` to `target`; result.json last, since it says that the rest is there."""
    files = [path for path in stage.rglob("*") if path.is_file()]
    for path in sorted(files, key=lambda path: (path.name == "result.json", path)):
        place = target / path.relative_to(stage)
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, place)


@contextmanager
def output_errors(target: Path) -> Iterator[None]:
    """Turn the system's errors of writing below `target` into one sentence."""
    try:
        yield
    except OSError as error:
        reasons: dict[int | None, str] = {
            errno.ENOSPC: "the disk is full; free some space or name another folder",
            errno.EDQUOT: "the disk quota is used up; free some space or name another folder",
            errno.EFBIG: "the file would exceed the size that is allowed here; name another folder",
            errno.EACCES: "there is no permission to write there; name another folder",
            errno.EPERM: "there is no permission to write there; name another folder",
            errno.EROFS: "the file system is read-only; name another folder",
            errno.ENOTDIR: "a part of that path is a file; name a folder",
            errno.EEXIST: "there is a file of that name; name a folder",
        }
        if error.errno not in reasons:
            raise
        raise OutputError(f"Nothing could be written to {target}: {reasons[error.errno]}.") from error


def write_json(content: Any, path: Path) -> None:
    """Write JSON, two spaces a level; NaN is refused."""
    text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
