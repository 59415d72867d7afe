"""What the machine has, and work shared between its cores."""

from __future__ import annotations

import ctypes
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar

from TumorQueryLib.base.errors import InputError, MissingDependencyError

Result = TypeVar("Result")

SCHEDULER_ANSWERS_WITHIN_S = 15
#: Of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
#: Bytes: the images of a head and their masks have more, most of what a step of the growth model works with has less.
LARGE_BLOCK, KEPT_AT_HEAPS_END = 4 * 1024**2, 128 * 1024**2
ALLOCATOR_VARIABLES = ("GLIBC_TUNABLES", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_")


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


@cache
def keep_memory_flat() -> None:
    """Have the C library give images back to the system as they are freed, in this process from now on.

    glibc maps large blocks apart from its heaps, and each time one is freed it raises what counts as large, up to
    32 MB. Images then lie in the heaps between small things that live on, and what they leave is never whole again: a
    process grows for dozens of inferences. A limit that is set stays; it costs a tenth of an inference's time, since
    the system clears each page anew. Where the environment sets one, that holds.
    """
    if sys.platform == "linux" and not any(name in os.environ for name in ALLOCATOR_VARIABLES):
        with suppress(OSError, AttributeError):
            library = ctypes.CDLL("libc.so.6")
            library.mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)
            # Set as well, since glibc would now give back the end of a heap at each turn, and ask for it again.
            library.mallopt(M_TRIM_THRESHOLD, KEPT_AT_HEAPS_END)


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
            'Working on a Dask cluster needs the package distributed: pip install "tumorquery[distributed]".'
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
