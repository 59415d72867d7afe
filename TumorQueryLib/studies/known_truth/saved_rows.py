"""Rows of finished tumours, kept aside so that an interrupted run goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.base.files import lock_file, output_errors, parsed_json

Rows = dict[str, list[dict[str, Any]]]


class SavedRows:
    """The rows of finished tumours in a file of JSON lines; a context manager.

    The first line describes the call, each later one holds a tumour. What a killed run left half written at the end
    is cut off.

    Parameters
    ----------
    path : Path
        In an existing folder.
    call : mapping
        All that the rows depend on, JSON-ready.

    Raises
    ------
    InputError
        When the file was written by another call, or another run is writing it.
    """

    def __init__(self, path: Path, call: Mapping[str, Any]) -> None:
        self.path = path
        #: By the tumour's number or name.
        self.finished: dict[int | str, Rows] = {}
        self._adding = Lock()
        with output_errors(path):
            self._file = open(path, "a+b")  # noqa: SIM115
        try:
            self._take_up(json.loads(json.dumps(call)))
        except BaseException:
            self._file.close()
            raise

    def _take_up(self, call: dict[str, Any]) -> None:
        with output_errors(self.path):
            try:
                lock_file(self._file)
            except BlockingIOError:
                raise InputError(f"Another run is writing into {self.path.parent}; name another folder.") from None
        self._file.seek(0)
        held = self._file.read()
        if not held.startswith(b"{") and held:
            raise InputError(f"{self.path} was not written by an interrupted run; move it, or name another folder.")
        whole = 0
        for number, line in enumerate(held.splitlines(keepends=True)):
            if not line.endswith(b"\n"):
                break
            try:
                content = parsed_json(line)
                if number:
                    self.finished[content["tumour"]] = content["rows"]
            except (ValueError, TypeError, KeyError):
                break
            if not number and content != call:
                raise InputError(
                    f"{self.path} holds the finished tumours of an interrupted run of another call; repeat that call "
                    "to finish it, delete the file, or name another folder."
                )
            whole += len(line)
        with output_errors(self.path):
            self._file.truncate(whole)
            if not whole:
                self._write(call)

    def add(self, tumour: int | str, rows: Mapping[str, Sequence[dict[str, Any]]]) -> None:
        """Keep the rows of a finished tumour, by study; threads may call it at once."""
        with self._adding, output_errors(self.path):
            self._write({"tumour": tumour, "rows": rows})

    def _write(self, content: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(content, allow_nan=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> SavedRows:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
        # A run that ended before its first tumour leaves nothing.
        if kind is not None and self.path.read_bytes().count(b"\n") <= 1:
            self.remove()

    def remove(self) -> None:
        """Delete the file, once all that was made of it is in place."""
        self.path.unlink(missing_ok=True)
