"""Results appear whole or not at all: written aside, checked, then renamed."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import platform
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

from TumorQueryLib.base.errors import InputError, OutputError

#: Names of the hidden folders that work is done in begin so.
HIDDEN_PREFIX = ".tumorquery-"
#: Those of `staged_folder`, of which nothing is worth keeping once their process is gone.
STAGED_PREFIX = f"{HIDDEN_PREFIX}staged-"
_LOCK_NAME = ".lock"
_REPLACED = ".replaced"  # where files go whose place others take, inside the stage
#: What a system says of a file system that has no locks, such as Lustre mounted without `flock`.
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)
#: Seconds after which what nobody wrote to is taken for a killed process's, where its lock cannot be asked: a folder
#: that a run writes into at its end, and a file that is written in one go.
_OLD_FOLDER_S, _OLD_FILE_S = 7 * 86400.0, 300.0

#: Folders that are being written now; the worker removes them when it has to end at once.
unfinished_folders: set[Path] = set()
#: Held while finished files move to their places: a process that ends at once waits for it.
moving = threading.Lock()


def open_regular(path: str | os.PathLike) -> IO[bytes]:
    """A file opened for reading; a pipe or a device, which need not have an end, is not waited for.

    Raises
    ------
    OSError
        When there is no such file, or it is none.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "it is no regular file (a folder, a pipe or a device)")
    return open(path, "rb")


def regular_bytes(path: str | os.PathLike) -> bytes:
    """The content of a file, by `open_regular`."""
    with open_regular(path) as file:
        return file.read()


def itk_name(path: str | os.PathLike) -> str:
    """A path as ITK wants it, UTF-8 whatever the locale.

    Raises
    ------
    InputError
        When it is not UTF-8, since ITK would end the process.
    """
    name = os.fsencode(path)
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError as error:
        said = name.decode("utf-8", "replace")
        raise InputError(
            f"The name {said} is not UTF-8, and images need such names; rename it or its folder."
        ) from error


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
        When an output would replace such a file, or a folder has its name.
    """
    read = [one for one in inputs if os.path.isfile(one)]
    # What is no regular file, such as a pipe, holds nothing that could be lost.
    for path in map(Path, outputs):
        if os.path.isdir(path):
            raise OutputError(
                f"{path} is a folder, where a file of that name is to be written; move it away, or write elsewhere."
            )
        if not os.path.isfile(path):
            continue
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


def remove_staged(target: Path) -> None:
    """Remove what `staged_folder` left in a folder where its process was killed, as far as it can be."""
    for _ in range(50):  # what was just killed still has its lock for a moment
        with suppress(OSError), locked_folder(target):
            for leftover in leftover_folders(target, STAGED_PREFIX):
                shutil.rmtree(leftover, ignore_errors=True)
        try:
            if not any(target.glob(f"{STAGED_PREFIX}*")):
                return
        except OSError:  # nothing can have been written there
            return
        time.sleep(0.02)


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
    InputError
        When its path is not UTF-8, so that no image could be written there.
    OutputError
        When the folder cannot be made.
    """
    made = []
    try:
        with output_errors(target):
            itk_name(os.path.abspath(target))
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
    InputError
        When the path of `target` is not UTF-8, so that no image could be written there.
    OutputError
        When it cannot be made.
    """
    with output_errors(target):
        itk_name(os.path.abspath(target))
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
            return lock_file(file) or _is_older(folder, _OLD_FOLDER_S)
    except FileNotFoundError:
        # Killed before its lock was there; or another process is making it, or removing it, at this moment.
        return _is_older(folder, 60)
    except OSError:
        return False


def _is_older(path: Path, seconds: float) -> bool:
    """Whether nothing was written to a file, or put into a folder, for some time; not of what has gone."""
    with suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime > seconds
    return False


def lock_file(file: IO[bytes]) -> bool:
    """Take the system's exclusive lock on an open file; it ends with the file or the process.

    Returns
    -------
    bool
        False where the file system has no locks, and nobody could have it.

    Raises
    ------
    BlockingIOError
        Where another open file has it.
    OSError
        Where the file cannot be reached any more.
    """
    try:
        import fcntl
    except ModuleNotFoundError:
        import msvcrt

        # A byte far beyond the content: Windows locks keep others from reading it.
        file.seek(2**40)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError as error:
            raise BlockingIOError(error.errno, error.strerror) from error
        file.seek(0)
        return True
    return _flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


def _flock(descriptor: int, how: int) -> bool:
    """The lock of POSIX systems; False where the file system has none."""
    import fcntl

    try:
        fcntl.flock(descriptor, how)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise
    return True


@contextmanager
def locked_folder(target: Path) -> Iterator[None]:
    """A block that only one process at a time is in for a folder; any, where folders have no locks, as on Windows."""
    try:
        import fcntl
    except ModuleNotFoundError:
        yield
        return
    folder = os.open(target, os.O_RDONLY)
    try:
        _flock(folder, fcntl.LOCK_EX)
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
        aside = path.with_name(f".{_host()}-{os.getpid()}-{threading.get_native_id()}-{path.name}")
    try:
        yield aside
        with open(aside, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _remove_files_of_killed_processes(path: Path) -> None:
    """Remove what `replaced_file` left of `path` where its process was killed; not on Windows, where none is asked.

    A folder may be shared with other hosts and containers, whose processes are unknown here and live: only what is
    this host's and was not written to for some minutes goes.
    """
    if os.name != "posix":
        return
    for aside in path.parent.glob(f".{_host()}-*-*-*"):
        named = re.fullmatch(r"\.[0-9a-f]+-(\d+)-\d+-(.+)", aside.name)
        if named is None or named[2] != path.name or not _is_older(aside, _OLD_FILE_S):
            continue
        try:
            os.kill(int(named[1]), 0)
        except ProcessLookupError:
            aside.unlink(missing_ok=True)
        except (OSError, OverflowError):  # another user's
            continue


def _host() -> str:
    """A short name of this host for names of files."""
    return hashlib.sha256(platform.node().encode("utf-8", "surrogateescape")).hexdigest()[:8]


@contextmanager
def output_errors(target: Path) -> Iterator[None]:
    """Turn the system's errors of writing below `target` into one sentence."""
    try:
        yield
    except BrokenPipeError:  # of whoever listens to the progress
        raise
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
            errno.ENOENT: "the folder is missing, or was removed meanwhile; name another folder",
        }
        if error.errno in reasons:
            raise OutputError(f"Nothing could be written to {target}: {reasons[error.errno]}.") from error
        reason = " ".join(str(error.strerror or error).split()) or type(error).__name__
        raise OutputError(
            f"Nothing could be written to {target} ({reason}); see to the disk or name another folder."
        ) from error


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
