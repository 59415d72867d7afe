"""Errors that tell a user what arrived, what is accepted and what to do.

Every error that bad input can cause derives from `TumorQueryError`; the command
line prints its text without a traceback and exits with status 2. Anything else
that is raised is a defect of this software.
"""


class TumorQueryError(Exception):
    """Base class of the errors that a user can mend."""


class InputError(TumorQueryError):
    """A file, image, segmentation or option is not what is accepted."""


class DatabaseError(TumorQueryError):
    """A database file cannot be used: truncated, altered, unfinished, of another schema or atlas."""


class OutputError(TumorQueryError):
    """A result cannot be written: no permission, disk full, folder missing."""


class MissingDependencyError(TumorQueryError):
    """An optional package is needed; the text names it and how to install it."""


class Cancelled(BaseException):
    """The user cancelled the run; raised by a `progress` to stop the work, wherever it is.

    Like KeyboardInterrupt it is no `Exception`, so that no handler of errors takes it for one. The command line
    exits with status 130.
    """


def shown(value: object) -> str:
    """What arrived, for a sentence: on one line, and cut where it is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
