"""Results appear whole or not at all: written aside, checked, then renamed."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
import signal
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from TumorQueryLib.base.errors import OutputError

#: Names of the hidden folders that work is done in begin so.
HIDDEN_PREFIX = ".tumorquery-"
#: Those of `staged_folder`, of which nothing is worth keeping once their process is gone.
STAGED_PREFIX = f"{HIDDEN_PREFIX}staged-"
_LOCK_NAME = ".lock"
_REPLACED = ".replaced"  # where files go whose place others take, inside the stage

#: Folders that are being written now; the worker removes them when it has to end at once.
unfinished_folders: set[Path] = set()
#: Held while finished files move to their places: a process that ends at once waits for it.
moving = threading.Lock()


def regular_bytes(path: str | os.PathLike) -> bytes:
    """The content of a file; of a pipe or a device, which need not have an end, none is waited for.

    Raises
    ------
    OSError
        When there is no such file, or it is none.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "it is no regular file (a folder, a pipe or a device)")
    return Path(path).read_bytes()


def refuse_to_replace(
    outputs: Iterable[str | os.PathLike],
    inputs: Iterable[str | os.PathLike],
    written_by_a_run: Callable[[Path], bool],
) -> None:
    """Refuse outputs whose place is taken by a file that the run reads or that no run wrote; to be asked before it.

    Parameters
    ----------
    outputs : iterable of path
    inputs : iterable of path
        Files that the run reads; another name or link of one is that file too.
    written_by_a_run : callable
        Whether a file that is there came of an earlier run.

    Raises
    ------
    OutputError
        When an output would replace such a file.
    """
    read = [one for one in inputs if os.path.isfile(one)]
    # What is no regular file, such as a pipe, holds nothing that could be lost.
    for path in (Path(output) for output in outputs if os.path.isfile(output)):
        if any(os.path.samefile(path, one) for one in read):
            raise OutputError(f"{path} is an input of this run, which would replace it; write somewhere else.")
        if not written_by_a_run(path):
            raise OutputError(
                f"{path} was not written by a run of TumorQuery, which would replace it; move it away, or write "
                "somewhere else."
            )


def holds_json(path: Path, keys: Iterable[str] = ()) -> bool:
    """Whether a file is a JSON object with these keys."""
    try:
        with open(path, "rb") as file:
            content = parsed_json(file.read()) if file.read(1) == b"{" and not file.seek(0) else None
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and set(keys) <= set(content)


@contextmanager
def staged_folder(target: str | os.PathLike, *, replacing: Iterable[str] = ()) -> Iterator[Path]:
    """A folder to write into, whose files move to `target` when the block ends well.

    Files of the same names in `target` are replaced, others stay. When the block
    raises, or a file cannot be moved, nothing of it is left and what was there is
    there again. Opening fails at once where `target` cannot be written, so that no
    work is lost at the end of a long run.

    Parameters
    ----------
    target : path
    replacing : iterable of str
        Names of files in `target` that go too, whatever takes their place.

    Raises
    ------
    OutputError
        When the folder cannot be made or written, or the disk is full.
    """
    target = Path(target)
    with made_folder(target), hidden_folder(target, STAGED_PREFIX) as stage:
        with output_errors(target), locked_folder(target):
            for leftover in leftover_folders(target, STAGED_PREFIX):
                shutil.rmtree(leftover, ignore_errors=True)
        yield stage
        with output_errors(target), interrupts_held(), ExitStack() as folders:
            files = sorted(path for path in stage.rglob("*") if path.is_file() and path.name != _LOCK_NAME)
            names = [path.relative_to(stage) for path in files]
            for name in names:
                folders.enter_context(made_folder((target / name).parent))
            folders.enter_context(locked_folder(target))
            # All that goes goes first: what a kill leaves is then never a mixture.
            earlier = [name for name in dict.fromkeys([*names, *map(Path, replacing)]) if _is_file(target / name)]
            for name in earlier:
                (stage / _REPLACED / name).parent.mkdir(parents=True, exist_ok=True)
            moves = [(target / name, stage / _REPLACED / name) for name in earlier]
            move_files(moves + [(stage / name, target / name) for name in names])


def _is_file(path: Path) -> bool:
    """Whether there is anything but a folder; a link is none, whatever it leads to."""
    return os.path.lexists(path) and (path.is_symlink() or not path.is_dir())


def move_files(moves: Iterable[tuple[Path, Path]]) -> None:
    """Move files one after the other, each (from, to).

    Where one cannot be moved, as one that another program keeps open on Windows, all are put back.

    Raises
    ------
    OSError
        When a file could not be moved.
    """
    done = []
    try:
        for source, place in moves:
            os.replace(source, place)
            done.append((source, place))
    except OSError:
        for source, place in reversed(done):
            with suppress(OSError):
                os.replace(place, source)
        raise


@contextmanager
def made_folder(target: Path) -> Iterator[None]:
    """A folder that is made with its parents where it does not exist; what was made goes again if the block raises.

    Raises
    ------
    OutputError
        When the folder cannot be made.
    """
    made = []
    try:
        with output_errors(target):
            made = [folder for folder in (target, *target.parents) if not folder.exists()]
            target.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for folder in made:
            try:
                folder.rmdir()
            except OSError:  # not ours alone any more
                break
        raise


@contextmanager
def hidden_folder(target: Path, prefix: str = HIDDEN_PREFIX) -> Iterator[Path]:
    """A new hidden folder inside `target`, removed when the block ends; locked, so that others see it is in use.

    Raises
    ------
    OutputError
        When it cannot be made.
    """
    # Under the folder's lock, so that nobody sees the new one before it has its own.
    with output_errors(target), locked_folder(target):
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=target))
        unfinished_folders.add(folder)
        file = open(folder / _LOCK_NAME, "wb")  # noqa: SIM115
        lock_file(file)
    try:
        with file:
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        unfinished_folders.discard(folder)


def leftover_folders(target: Path, prefix: str = HIDDEN_PREFIX) -> list[Path]:
    """Hidden folders in `target` that a killed process left: nobody holds their locks.

    To be called while the folder itself is locked (`locked_folder`).
    """
    return [folder for folder in sorted(target.glob(f"{prefix}*")) if _is_left_over(folder)]


def _is_left_over(folder: Path) -> bool:
    try:
        with open(folder / _LOCK_NAME, "rb+") as file:
            lock_file(file)
        return True
    except FileNotFoundError:
        # Killed before its lock was there; or another process is making it, or removing it, at this moment.
        with suppress(FileNotFoundError):
            return time.time() - folder.stat().st_mtime > 60
        return False
    except OSError:
        return False


def lock_file(file: IO[bytes]) -> None:
    """Take the system's exclusive lock on an open file; it ends with the file or the process.

    Raises
    ------
    OSError
        Where another open file has it.
    """
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
def locked_folder(target: Path) -> Iterator[None]:
    """A block that only one process at a time is in for a folder; on Windows, where folders have no locks, any."""
    try:
        import fcntl
    except ModuleNotFoundError:
        yield
        return
    folder = os.open(target, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


@contextmanager
def interrupts_held(afterwards: str = "") -> Iterator[None]:
    """A block that Ctrl-C and a termination do not end halfway; they come when it has ended.

    Parameters
    ----------
    afterwards : str
        Text of the KeyboardInterrupt that is raised then.
    """
    came: list[int] = []
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            # None: a handler that is not Python's, which can neither be held nor put back.
            if number is not None and signal.getsignal(number) not in (None, signal.SIG_IGN):
                before[number] = signal.signal(number, lambda number, frame: came.append(number))
    try:
        with moving:
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        if before[came[0]] == signal.SIG_DFL:
            signal.raise_signal(came[0])
        raise KeyboardInterrupt(afterwards)


@contextmanager
def replaced_file(path: Path, *, aside: Path | None = None) -> Iterator[Path]:
    """A file to write aside, which takes the place of `path` when the block ends well.

    When the block raises, `path` is what it was and nothing of the new file is left.

    Parameters
    ----------
    path : Path
        In a folder that exists.
    aside : Path, optional
        The file to write, in the same folder; by default a name that no other thread writes, with
        the ending of `path`.

    Raises
    ------
    OSError
        When the file cannot be written or put in its place.
    """
    if aside is None:
        _remove_files_of_killed_processes(path)
        aside = path.with_name(f".{os.getpid()}-{threading.get_native_id()}-{path.name}")
    try:
        yield aside
        with open(aside, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _remove_files_of_killed_processes(path: Path) -> None:
    """Remove what `replaced_file` left of `path` where its process was killed; not on Windows, where none is asked."""
    if os.name != "posix":
        return
    for aside in path.parent.glob(".*-*-*"):
        named = re.fullmatch(r"\.(\d+)-\d+-(.+)", aside.name)
        if named is None or named[2] != path.name:
            continue
        try:
            os.kill(int(named[1]), 0)
        except ProcessLookupError:
            aside.unlink(missing_ok=True)
        except (OSError, OverflowError):  # another user's
            continue


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
            errno.EISDIR: "there is a folder of a file's name; name another folder",
            errno.ENOTEMPTY: "there is a folder of a file's name; name another folder",
            errno.ENAMETOOLONG: "the name is too long; name a shorter one",
            errno.EEXIST: "there is a file of that name; name a folder",
        }
        if error.errno not in reasons:
            raise
        raise OutputError(f"Nothing could be written to {target}: {reasons[error.errno]}.") from error


def is_text(value: str) -> bool:
    """Whether a text can be written as UTF-8: it has no half of a surrogate pair alone."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def parsed_json(text: str | bytes) -> Any:
    """What a JSON text holds, such that `write_json` could write it again.

    Raises
    ------
    ValueError
        When it is no JSON, nested too deeply, or has a number that is not finite or text that is not Unicode.
    """

    def finite(number: str) -> float:
        value = float(number)
        if not math.isfinite(value):
            raise ValueError(f"{number} is no finite number")
        return value

    try:
        content = json.loads(text, parse_float=finite, parse_constant=finite)
        whole = is_text(json.dumps(content, ensure_ascii=False))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not whole:
        raise ValueError("it holds text that is not Unicode")
    return content


def write_json(content: Any, path: Path) -> None:
    """Write JSON, two spaces a level; NaN is refused."""
    text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
