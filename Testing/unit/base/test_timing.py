"""Wall and processor seconds of a block."""

import time

import pytest

from TumorQueryLib.base.timing import Stopwatch, timed


def test_sleeping_takes_wall_time_and_no_processor():
    with Stopwatch() as taken:
        time.sleep(0.1)
    assert taken.wall >= 0.1
    assert taken.cpu < 0.05


def test_blocks_of_one_name_add_up_and_a_failed_one_does_not_count():
    timings: dict[str, float] = {}
    for _ in range(2):
        with timed(timings, "load"):
            time.sleep(0.02)
    with pytest.raises(ZeroDivisionError), timed(timings, "query"):
        raise ZeroDivisionError
    assert list(timings) == ["load"]
    assert timings["load"] >= 0.04
