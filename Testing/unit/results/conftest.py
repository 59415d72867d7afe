import os
import shutil
from contextlib import contextmanager, nullcontext

import pytest

from TumorQueryLib.results import folder


@pytest.fixture
def killed_at_move(monkeypatch):
    """A block in which the process is gone after a number of moves: KeyboardInterrupt, and nothing tidies up."""

    @contextmanager
    def killed_at(moves):
        real, count = os.replace, iter(range(1000))

        def killed(source, target):
            if next(count) == moves:
                raise KeyboardInterrupt
            real(source, target)

        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", killed)
            patched.setattr(shutil, "rmtree", lambda *arguments, **options: None)
            patched.setattr(folder, "interrupts_held", lambda message: nullcontext())
            yield

    return killed_at
