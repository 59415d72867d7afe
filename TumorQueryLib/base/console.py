"""What a command says, such that saying it never ends a run that is done; and what of a defect may be kept."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress

#: Text between quotes, and words with a path's separator: what may name a patient.
_TELLING = re.compile(r"\"[^\"]*\"|'[^']*'|\S*[/\\]\S*")


def open_streams() -> None:
    """Give a process whose standard streams are closed such that lead nowhere, and make any text printable.

    A file that is opened while one of them is closed takes its number, and what C++ libraries print
    would be written into that file.
    """
    while True:
        number = os.open(os.devnull, os.O_RDWR)
        if number > 2:
            os.close(number)
            break
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
        elif mode == "w" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """Print a line at once; where standard output cannot be written, as on a full disk, standard error tells.

    Raises
    ------
    BrokenPipeError
        When the reader of a pipe went away.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        complain(f"standard output cannot be written ({error.strerror})")
        silence_output()


def complain(text: str) -> None:
    """Print a line to standard error, where that is possible."""
    with suppress(OSError, ValueError):
        print(f"tumorquery: {text}", file=sys.stderr, flush=True)


def silence_output() -> None:
    """Let standard output lead nowhere, what is waiting in it included."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def private_traceback(error: BaseException, arguments: Sequence[str]) -> str:
    """A traceback without what may name a patient: no text between quotes, no path, no value of an option.

    Parameters
    ----------
    error : BaseException
        With those that it came from.
    arguments : sequence of str
        Of the command line.
    """
    parts = [f"tumorquery {' '.join(_named(arguments))}"]
    one: BaseException | None = error
    while one is not None:
        message = str(one)
        for argument in sorted(arguments, key=len, reverse=True):
            if len(argument) > 3:
                message = message.replace(argument, "...")
        message = " ".join(_TELLING.sub("...", message).split())
        parts += [*traceback.format_tb(one.__traceback__), f"{type(one).__name__}: {message}"]
        one = one.__cause__ or one.__context__
    return "\n".join(part.rstrip() for part in parts) + "\n"


def _named(arguments: Sequence[str]) -> list[str]:
    """The command and the names of the options, without their values."""
    command = [argument for argument in arguments[:1] if argument.isalpha()]
    return command + [argument.partition("=")[0] for argument in arguments if argument.startswith("--")]
