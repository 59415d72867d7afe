"""The side file of a build: the finished pieces of a database that is not whole yet.

`NAME.h5.partial` holds the build's options, then the pieces in whatever order they came, each
with a checksum. It is locked while a build writes it. The lock is the system's own, so it ends
with its process, however that ended.
"""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from TumorQueryLib.base.errors import DatabaseError, OutputError
from TumorQueryLib.base.files import lock_file, output_errors
from TumorQueryLib.database.masks import Runs
from TumorQueryLib.database.schema import REGIONS, Entries, ParameterTable

_MAGIC = b"tumorquery build 2\n"
#: Number of the piece, entries, runs of both regions, bytes of the payload, its CRC-32; then the CRC-32 of these.
_RECORD = struct.Struct("<QQQQQI")
_CHECK = struct.Struct("<I")
_COLUMNS = [field.name for field in fields(ParameterTable)]


@dataclass(frozen=True)
class Piece:
    """The entries of some consecutive solves, packed.

    Parameters
    ----------
    number : int
        Pieces are joined in the order of their numbers.
    entries : int
    runs : tuple of int
        Runs of the cores and of the whole tumours.
    payload : bytes
        The entries; see `unpacked`.
    """

    number: int
    entries: int
    runs: tuple[int, int]
    payload: bytes

    @classmethod
    def of(cls, number: int, solved: Sequence[Entries]) -> Piece:
        """Pack the entries of solves."""
        arrays = {name: np.concatenate([getattr(entries, name) for entries in solved]) for name in _COLUMNS}
        for region in REGIONS:
            runs = [run for entries in solved for run in entries.runs[region]]
            arrays[f"{region}_count"] = np.array([run.starts.size for run in runs], np.int64)
            arrays[f"{region}_starts"] = np.concatenate([run.starts for run in runs])
            arrays[f"{region}_lengths"] = np.concatenate([run.lengths for run in runs])
        packed = io.BytesIO()
        np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]
        core, whole = (int(arrays[f"{region}_count"].sum()) for region in REGIONS)
        return cls(number, len(arrays["trajectory"]), (core, whole), packed.getvalue())


def unpacked(payload: bytes) -> Entries:
    """The entries of a piece."""
    with np.load(io.BytesIO(payload), allow_pickle=False) as arrays:
        runs: dict[str, list[Runs]] = {}
        for region in REGIONS:
            ends = np.cumsum(arrays[f"{region}_count"])[:-1]
            starts = np.split(arrays[f"{region}_starts"], ends)
            lengths = np.split(arrays[f"{region}_lengths"], ends)
            runs[region] = [Runs(s, n) for s, n in zip(starts, lengths)]
        return Entries(**{name: arrays[name] for name in _COLUMNS}, runs=runs)


@dataclass(frozen=True)
class _Place:
    """Where a piece lies in the side file."""

    entries: int
    runs: tuple[int, int]
    offset: int
    size: int
    checksum: int


class SideFile:
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
    def open(cls, database: Path, plan: dict[str, Any], *, resume: bool) -> SideFile:
        """Lock the side file of a database; make it, or go on with it.

        Parameters
        ----------
        database : Path
        plan : dict
            The options of the build; JSON-ready.
        resume : bool
            Accept an unfinished build.

        Raises
        ------
        DatabaseError
            When there is an unfinished build that is not to be continued, or has other options.
        OutputError
            When the file cannot be written, or another build writes it.
        """
        path = side_path(database)
        header = _MAGIC + json.dumps(plan, sort_keys=True).encode() + b"\n"
        with writing_errors(database):
            file = _open_locked(path, database)
        side = cls(path, database, file)
        try:
            size = os.fstat(file.fileno()).st_size
            ours = file.read(min(size, len(header))) == header[:size]
            if ours and size < len(header):
                # New, or killed while the header was written: nothing is lost.
                with writing_errors(database):
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

    def __enter__(self) -> SideFile:
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

    def append(self, piece: Piece) -> None:
        """Keep a finished piece; OutputError where there is no room for it."""
        if piece.number in self.pieces:
            return
        checksum = zlib.crc32(piece.payload)
        head = _RECORD.pack(piece.number, piece.entries, *piece.runs, len(piece.payload), checksum)
        start = self._end
        with writing_errors(self.database):
            self._write_all(start, head + _CHECK.pack(zlib.crc32(head)) + piece.payload)
        offset = start + _RECORD.size + _CHECK.size
        self.pieces[piece.number] = _Place(piece.entries, piece.runs, offset, len(piece.payload), checksum)

    def read(self, place: _Place) -> Entries:
        """The entries of a piece that was kept; DatabaseError where the file was altered."""
        self._file.seek(place.offset)
        payload = self._file.read(place.size)
        if len(payload) < place.size or zlib.crc32(payload) != place.checksum:
            raise DatabaseError(f"{self.path} was altered while it was read; delete it and build again.")
        return unpacked(payload)

    def remove(self) -> None:
        """Delete the file; the database holds everything now."""
        self.path.unlink(missing_ok=True)


def side_path(database: Path) -> Path:
    """The side file of a database file."""
    return database.with_name(database.name + ".partial")


def _open_locked(path: Path, database: Path) -> FileIO:
    """Open a file for reading and writing, and lock it for this process."""
    while True:
        # No buffer: what a killed process had written is in the file.
        file = FileIO(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666), "r+")
        try:
            lock_file(file)
        except BlockingIOError as error:
            file.close()
            raise OutputError(
                f"Another build is writing {database}; wait until it has ended or choose another name."
            ) from error
        except OSError:
            file.close()
            raise
        # Whoever held the lock may have finished and removed the file in between.
        try:
            current = path.stat()
        except FileNotFoundError:
            current = None
        if current is not None and os.path.samestat(current, os.fstat(file.fileno())):
            return file
        file.close()


@contextmanager
def writing_errors(path: Path) -> Iterator[None]:
    """Turn the errors of writing a database into one sentence."""
    kept = " What is grown is kept: continue with --resume." if os.path.exists(side_path(path)) else ""
    try:
        with output_errors(path.parent):
            try:
                yield
            except FileNotFoundError as error:
                raise OutputError(f"{path} cannot be written: there is no folder {path.parent}.") from error
    except OutputError as error:
        raise OutputError(f"{error}{kept}") from error
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise OutputError(f"{path} could not be written whole ({reason}); make room or name another.{kept}") from error
