"""Functions compiled by numba, whose machine code is kept wherever this user can write.

All kernels take `njit` from here: numba's own raises on import where neither the package's
folder nor the user's cache can be written, as in read-only containers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

from TumorQueryLib.base.resources import private_folder


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`numba.njit` as a decorator with options; with `cache=True` the code is kept where that is possible.

    Where numba finds no place of its own, it is kept in `resources.private_folder`; where that
    cannot be made either, the function is compiled anew in every process.
    """

    def compiled(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(**options)(function)
        except RuntimeError:  # no place for the cache
            numba.config.CACHE_DIR = _fallback_folder()  # type: ignore[attr-defined]
        try:
            return numba.njit(**options)(function)
        except RuntimeError:
            return numba.njit(**options | {"cache": False})(function)

    return compiled


def _fallback_folder() -> str:
    try:
        return str(private_folder() / "numba")
    except OSError:
        return ""
