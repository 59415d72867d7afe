"""What a process frees goes back to the system."""

import os
import platform
import subprocess
import sys

import pytest

from TumorQueryLib.base.parallel import ALLOCATOR_VARIABLES

#: Images that come and go between small things that stay; prints what the process has grown by, MB.
SCRIPT = """
import os
from pathlib import Path
from TumorQueryLib.base.parallel import keep_memory_flat

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

{call}
for _ in range(2):
    b"x" * 12_000_000
before, images, small = resident(), [], []
for _ in range(8):
    images.append(b"x" * 12_000_000)
    small.append(b"y" * 100_000)
del images
print(resident() - before)
"""


def grown_by(call: str, **environment: str) -> float:
    usual = {name: value for name, value in os.environ.items() if name not in ALLOCATOR_VARIABLES}
    script = SCRIPT.format(call=call)
    ran = subprocess.run([sys.executable, "-c", script], env=usual | environment, capture_output=True, check=True)
    return float(ran.stdout)


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_images_leave_no_memory_behind_between_small_things():
    assert grown_by("keep_memory_flat()") < 10
    assert grown_by("") > 50, "glibc gives them back by itself: keep_memory_flat can go"
    limited = grown_by("keep_memory_flat()", MALLOC_MMAP_THRESHOLD_="20000000")
    assert limited > 50, "what the environment says holds"
