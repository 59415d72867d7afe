"""A small part of `make fuzz`: no crash, no hang, no other exception, no wrong answer that nothing tells."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "fuzz"))

from fuzz_harness import TARGETS, run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="the limits of the child processes are POSIX's"),
]


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_that_is_read_does_harm(target):
    if target == "models":
        pytest.importorskip("safetensors", reason="the extra 'learned' is not installed: no safetensors")
        pytest.importorskip("torch", reason="the extra 'learned' is not installed: no torch")
    tally = run(target, 100, random_seed=1)
    assert not tally.faults, str(tally)
    assert sum(tally.outcomes.values()) == 100
    assert tally.outcomes["refused"] + tally.outcomes["made again, same"] > 30
