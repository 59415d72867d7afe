"""What the machine has, and work shared between its cores."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def physical_memory() -> int:
    """Bytes of memory that the machine has; 8 GiB where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 8 * 1024**3


def in_order(
    executor: ThreadPoolExecutor, function: Callable[[int], Result], numbers: Iterable[int], ahead: int
) -> Iterator[Result]:
    """Results of function(number) in the order of the numbers, at most `ahead` of them computed in advance."""
    waiting: deque[Future[Result]] = deque()
    try:
        for number in numbers:
            waiting.append(executor.submit(function, number))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def in_slices(work: Callable[[slice], object], count: int) -> None:
    """Call `work` with slices that cover 0 to count - 1, one on each core; it has to release the interpreter."""
    cores = available_cores()
    slices = [slice(count * n // cores, count * (n + 1) // cores) for n in range(cores)]
    with ThreadPoolExecutor(cores) as executor:
        list(executor.map(work, slices))
