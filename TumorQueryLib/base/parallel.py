"""What the machine has, and work shared between its cores."""

from __future__ import annotations

import ctypes
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from TumorQueryLib.base.errors import InputError, MissingDependencyError

Result = TypeVar("Result")

SCHEDULER_ANSWERS_WITHIN_S = 15


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def physical_memory() -> int:
    """Bytes of memory that the machine has; 8 GiB where the system does not say."""
    if sys.platform == "win32":
        kibibytes = ctypes.c_ulonglong()
        if ctypes.windll.kernel32.GetPhysicallyInstalledSystemMemory(ctypes.byref(kibibytes)):
            return 1024 * kibibytes.value
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 8 * 1024**3


def release_memory() -> None:
    """Give memory that was freed back to the system, where the C library keeps it.

    glibc holds an arena for every thread that ever allocated, and what threads free in theirs stays with the process:
    some 100 MB more after each refinement of many in one process.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)


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


def dask_client(address: str) -> Any:
    """A client of the Dask scheduler at an address such as "tcp://head:8786"; a context manager.

    Raises
    ------
    InputError
        When none answers there.
    MissingDependencyError
        When dask.distributed is not installed.
    """
    try:
        import dask
        import distributed
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "Working on a Dask cluster needs the package distributed: pip install 'tumorquery[distributed]'."
        ) from error
    if address.startswith("tls://") and not dask.config.get("distributed.comm.tls.client.cert", None):
        raise InputError(
            f"{address} asks for encryption, and Dask's configuration names no certificate; "
            "docs/distributed-builds.md says how it is named."
        )
    try:
        return distributed.Client(address, timeout=SCHEDULER_ANSWERS_WITHIN_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(f"No Dask scheduler answers at {address}; start one with `dask scheduler`.") from error
