"""Folders that may not be read, as another user's or those whose rights were lost."""

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

needs_closed_folders = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="folders of POSIX have modes")


@contextmanager
def open_folder():
    """A new folder that every user may read, with all folders above it."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def closed(folder, mode=0):
    """A block in which a folder has another mode; root, who may read all, is another user meanwhile."""
    before, root = folder.stat().st_mode, os.geteuid() == 0
    folder.chmod(mode)
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(before)
