"""Where the bundled data lie: atlases, the starter database, the sample case.

Bundled data are read-only; what is made at run time goes to the user's cache.
"""

from __future__ import annotations

import os
from pathlib import Path

from TumorQueryLib.base.errors import InputError


def resources_folder() -> Path:
    """The folder of the bundled data.

    Looked for in this order: the environment variable TUMORQUERY_RESOURCES, the
    installed package, the checkout that holds the package.

    Raises
    ------
    InputError
        When none of them exists.
    """
    named = os.environ.get("TUMORQUERY_RESOURCES")
    if named:
        folder = Path(named)
        if not (folder / "Atlas").is_dir():
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


def cache_folder() -> Path:
    """The user's cache folder for what is made at run time; created on first use."""
    import platformdirs

    folder = Path(os.environ.get("TUMORQUERY_CACHE") or platformdirs.user_cache_dir("TumorQuery", appauthor=False))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
