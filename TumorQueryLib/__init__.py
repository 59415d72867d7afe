"""TumorQuery: tumour cell density beyond what MRI shows, by querying a database of simulated gliomas.

The public names below are imported on first use (PEP 562), so that importing the
package costs neither numba, h5py nor torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "Grid": "grid",
    "Volume": "grid",
    "Atlas": "atlas",
}

__all__ = ["__version__", *_PUBLIC]

if TYPE_CHECKING:
    from TumorQueryLib.atlas import Atlas as Atlas
    from TumorQueryLib.grid import Grid as Grid
    from TumorQueryLib.grid import Volume as Volume


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
