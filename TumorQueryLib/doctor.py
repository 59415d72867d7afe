"""What a bug report needs to say of an installation: versions, machine, caches, bundled data, optional packages.

Nothing that is examined is imported, so that a package that is broken cannot hide what is said of the others.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from TumorQueryLib.base.errors import TumorQueryError
from TumorQueryLib.base.parallel import available_cores, physical_memory
from TumorQueryLib.base.resources import SUMS_FILE, cache_folder, listed_sums, private_folder, resources_folder
from TumorQueryLib.base.version import __version__
from TumorQueryLib.strategies.base import strategy_table

#: What every installation needs, with the lowest version; pyproject.toml says the same.
REQUIRED = {
    "numpy": "1.26",
    "scipy": "1.11",
    "SimpleITK": "2.4",
    "h5py": "3.15",
    "numba": "0.60",
    "platformdirs": "4",
    "tqdm": "4.65",
    "matplotlib": "3.8",
    "pydicom": "3",
}
#: Packages of the extras of pyproject.toml, and what each is for; the strategies' own are in the strategies' table.
OPTIONAL = {
    "pyradiomics": ("radiomics", "option pyradiomics of the strategy radiomics"),
    "dask": ("distributed", "building databases and running cohorts on several machines"),
    "distributed": ("distributed", "building databases and running cohorts on several machines"),
    "highdicom": ("dicom", "DICOM segmentations, and results as DICOM objects"),
}
#: Names under which packages are imported, where they differ.
_MODULES = {"pyradiomics": "radiomics"}
#: Environment variables that change what the library does or how fast it is.
_VARIABLES = (
    "TUMORQUERY_RESOURCES",
    "TUMORQUERY_CACHE",
    "NUMBA_CACHE_DIR",
    "NUMBA_NUM_THREADS",
    "NUMBA_DISABLE_JIT",
    "OMP_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Parameters
    ----------
    topic : str
        Package, file or part of the machine.
    said : str
        What was found.
    remedy : str, optional
        What to do, where something is wrong.
    """

    topic: str
    said: str
    remedy: str | None = None


def examine() -> list[Finding]:
    """Examine this installation; what is wrong has a remedy.

    Paths are shown as `private_path` has them. Bundled files are read whole (33 MB), and a file of a moment is made in
    each cache folder.
    """
    return [*_versions(), *_machine(), *_caches(), *_bundled_files(), *_optional_packages()]


def as_text(findings: Sequence[Finding]) -> str:
    """The findings, a line each, the topics in a column; what is wrong begins with WRONG."""
    width = max(len(finding.topic) for finding in findings)
    return "\n".join(
        f"{finding.topic:<{width}}  {finding.said}"
        if finding.remedy is None
        else f"{finding.topic:<{width}}  WRONG: {finding.said}. {finding.remedy}"
        for finding in findings
    )


def private_path(path: str | os.PathLike) -> str:
    """A path without the user's name: the home folder as ~, and USER for a part that is the name elsewhere."""
    path, home = Path(path), Path(os.path.expanduser("~"))
    parts = ("~", *path.relative_to(home).parts) if home.name and path.is_relative_to(home) else path.parts
    return str(Path(*("USER" if part == home.name else part for part in parts)))


def _versions() -> Iterator[Finding]:
    yield Finding("TumorQuery", __version__)
    yield Finding("Python", f"{platform.python_version()} ({platform.python_implementation()})")
    yield Finding("system", platform.platform())
    for name, lowest in REQUIRED.items():
        version = _version(name)
        install = f'Install it with: python -m pip install --upgrade "{name}>={lowest}"'
        if version is None:
            yield Finding(name, f"not installed, and {lowest} or later is needed", install)
        elif _numbers(version) and _numbers(version) < _numbers(lowest):
            yield Finding(name, f"{version}, and {lowest} or later is needed", install)
        else:
            yield Finding(name, version)


def _machine() -> Iterator[Finding]:
    yield Finding("cores", f"{available_cores()} of {os.cpu_count() or 1} may be used")
    yield Finding("memory", f"{physical_memory() / 2**30:.1f} GiB")
    for name in _VARIABLES:
        if name in os.environ:
            value = os.environ[name]
            yield Finding(name, private_path(value) if os.sep in value else value)


def _caches() -> Iterator[Finding]:
    if _version("platformdirs") is None:
        return  # said among the versions; it knows where the caches are
    try:
        found = _folder("cache", cache_folder(), "TUMORQUERY_CACHE")
        yield found
        log = cache_folder() / "last-error.log"
        if found.remedy is None and log.is_file():
            day = time.strftime("%Y-%m-%d", time.localtime(log.stat().st_mtime))
            yield Finding("last defect", f"of {day}: {private_path(log)}")
    except TumorQueryError as error:
        yield Finding("cache", _without_name(str(error)), "Models and codes of databases cannot be kept.")
    yield _folder("compiled code", compiled_code_folder(), "NUMBA_CACHE_DIR")


def compiled_code_folder() -> Path:
    """Where numba keeps this library's machine code: the first of its places that can be written.

    They are NUMBA_CACHE_DIR, the package's own folder, the user's cache, and `resources.private_folder`.
    """
    import platformdirs

    named = os.environ.get("NUMBA_CACHE_DIR")
    if named:
        return Path(named)
    beside = Path(__file__).resolve().parent / "growth" / "__pycache__"
    for folder in (beside, Path(platformdirs.user_cache_dir("numba", appauthor=False))):
        if _can_be_written(folder):
            return folder
    return private_folder() / "numba"


def _folder(topic: str, folder: Path, variable: str) -> Finding:
    shown = private_path(folder)
    remedy = f"Make it writable, or name another folder in the environment variable {variable}."
    try:
        megabytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    except OSError as error:
        return Finding(topic, f"{shown} cannot be read ({error.strerror or error})", remedy)
    if not _can_be_written(folder):
        return Finding(topic, f"{shown} cannot be written", remedy)
    free = shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.is_dir())).free
    return Finding(topic, f"{shown}: {megabytes:.1f} MB, can be written, {free / 1e9:.1f} GB free")


def _can_be_written(folder: Path) -> bool:
    """Whether a file can be made in a folder, or in the nearest one above that exists."""
    try:
        place = next(place for place in (folder, *folder.parents) if place.exists())
        with tempfile.TemporaryFile(dir=place):
            return True
    except OSError:
        return False


def _bundled_files() -> Iterator[Finding]:
    """Each bundled data file with its SHA-256, compared with the lists that ship beside them."""
    remedy = "Install TumorQuery again."
    try:
        resources = resources_folder()
    except TumorQueryError as error:
        yield Finding("bundled data", _without_name(str(error)), remedy)
        return
    yield Finding("bundled data", private_path(resources))
    for folder in ("Atlas", "Databases", "Models", "SampleData"):
        try:
            sums = listed_sums(resources / folder)
        except OSError as error:
            yield Finding(f"{folder}/{SUMS_FILE}", _not_read(error), remedy)
            continue
        except ValueError:
            yield Finding(f"{folder}/{SUMS_FILE}", "damaged", remedy)
            continue
        for name, expected in sums.items():
            topic = f"{folder}/{name}"
            try:
                found = hashlib.sha256((resources / folder / name).read_bytes()).hexdigest()
            except OSError as error:
                yield Finding(topic, _not_read(error), remedy)
                continue
            said = f"sha256 {found[:16]}"
            if found == expected:
                yield Finding(topic, said)
            else:
                yield Finding(topic, f"{said} where {expected[:16]} was shipped", remedy)


def _not_read(error: OSError) -> str:
    return "missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror or error})"


def optional_packages() -> dict[str, tuple[str, str]]:
    """Name of each optional package to the extra that installs it and what it is for."""
    packages = {}
    for info in strategy_table().values():
        for name in info.packages:
            users = [strategy for strategy, other in strategy_table().items() if name in other.packages]
            packages[name] = (info.extra, f"the strategies {', '.join(users)}")
    return packages | OPTIONAL


def _optional_packages() -> Iterator[Finding]:
    for name, (extra, purpose) in optional_packages().items():
        version = _version(name)
        install = f'not installed (python -m pip install "tumorquery[{extra}]")'
        yield Finding(name, f"{version or install}: for {purpose}")


def _version(name: str) -> str | None:
    """Version of an installed package; "of unknown version" where it is there without saying; None where it is not."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        there = importlib.util.find_spec(_MODULES.get(name, name)) is not None
        return "of unknown version" if there else None


def _numbers(version: str) -> list[int]:
    """The numbers that a version begins with."""
    return [int(number) for number in re.match(r"[\d.]*", version)[0].split(".") if number]  # type: ignore[index]


def _without_name(text: str) -> str:
    """A message with its paths as `private_path` has them, and without its full stop."""
    home = Path(os.path.expanduser("~"))
    if home.name:
        text = text.replace(str(home), "~")
        text = re.sub(rf"(?<=[/\\]){re.escape(home.name)}(?!\w)", "USER", text)
    return text.rstrip(".")
