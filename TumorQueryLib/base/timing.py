"""How long a block took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """A block whose time is taken: `with Stopwatch() as taken: ...`, then `taken.wall` and `taken.cpu`.

    Attributes
    ----------
    wall : float
        Seconds that went by in the block.
    cpu : float
        Seconds that processors worked for this process in it, all threads together.
    """

    wall: float
    cpu: float

    def __enter__(self) -> Stopwatch:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall, self.cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu


@contextmanager
def timed(timings: dict[str, float], name: str) -> Iterator[None]:
    """Add the wall seconds of a block that ends well to those under a name."""
    with Stopwatch() as taken:
        yield
    timings[name] = timings.get(name, 0.0) + taken.wall
