"""Where the bundled data lie: atlases, the starter database, the sample case.

Bundled data are read-only; what is made at run time goes to the user's cache.
"""

from __future__ import annotations

import atexit
import getpass
import os
import re
import shutil
import stat
import tempfile
from functools import cache
from pathlib import Path

from TumorQueryLib.base.errors import InputError, OutputError

#: Lists the SHA-256 of what lies in a folder of the bundled data.
SUMS_FILE = "SHA256SUMS"


def resources_folder() -> Path:
    """The folder of the bundled data.

    Looked for in this order: the environment variable TUMORQUERY_RESOURCES, the
    installed package, the checkout that holds the package.

    Raises
    ------
    InputError
        When none of them exists, or the one that is named cannot be read.
    """
    named = os.environ.get("TUMORQUERY_RESOURCES")
    if named:
        folder = Path(named)
        try:
            there = (folder / "Atlas").is_dir()
        except OSError as error:
            raise InputError(
                f"TUMORQUERY_RESOURCES names {folder}, which cannot be read ({error.strerror or error}). "
                "Make it readable, let it name another Resources folder of TumorQuery, or unset it."
            ) from error
        if not there:
            raise InputError(
                f"TUMORQUERY_RESOURCES names {folder}, which holds no folder 'Atlas'. "
                "Let it name the Resources folder of TumorQuery, or unset it."
            )
        return folder
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "Resources", package.parent / "Resources"):
        if (folder / "Atlas").is_dir():
            return folder
    raise InputError(
        f"The bundled data are missing: neither {package / 'Resources'} nor {package.parent / 'Resources'} "
        "holds a folder 'Atlas'. Install TumorQuery again, or set TUMORQUERY_RESOURCES to its Resources folder."
    )


def listed_sums(folder: Path) -> dict[str, str]:
    """SHA-256 of the files of a bundled folder by their names, as its SHA256SUMS lists them.

    Raises
    ------
    OSError
        When there is no such list, or it cannot be read.
    ValueError
        When it is damaged.
    """
    sums = {}
    for line in (folder / SUMS_FILE).read_text(encoding="utf-8").splitlines():
        listed = re.fullmatch(r"([0-9a-f]{64})  (.+)", line)
        if listed is None:
            raise ValueError("a line is no SHA-256 and name")
        sums[listed[2]] = listed[1]
    return sums


def cache_folder() -> Path:
    """The user's cache folder for what is made at run time; created on first use.

    The environment variable TUMORQUERY_CACHE names another one. Where the user has no home that
    can be written, `private_folder` takes its place.

    Raises
    ------
    OutputError
        When the folder that TUMORQUERY_CACHE names cannot be made, or no other one either.
    """
    import platformdirs

    named = os.environ.get("TUMORQUERY_CACHE")
    folder = Path(named or platformdirs.user_cache_dir("TumorQuery", appauthor=False))
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            if named:
                raise
            return private_folder()
    except OSError as error:
        raise OutputError(
            f"The cache folder {folder} cannot be made ({error.strerror or error}); name a folder that can be "
            "written in the environment variable TUMORQUERY_CACHE."
        ) from error
    return folder


@cache
def private_folder() -> Path:
    """A folder below the system's temporary one that only this user can read and write.

    What lies there is trusted (numba loads compiled code from it), so a folder that another user
    prepared under that name is not taken: a new one is made, and removed when the process ends.

    Raises
    ------
    OSError
        When it cannot be made.
    """
    user = os.getuid() if hasattr(os, "getuid") else getpass.getuser()
    folder = Path(tempfile.gettempdir(), f"tumorquery-{user}")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        private = stat.S_ISDIR(found.st_mode)
        if hasattr(os, "getuid"):  # elsewhere the temporary folder is the user's own
            private = private and found.st_uid == user and not found.st_mode & 0o077
    except FileExistsError:
        private = False
    if not private:
        folder = Path(tempfile.mkdtemp(prefix="tumorquery-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
