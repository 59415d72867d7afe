"""Runs inside Slicer: the library that the extension installed is found, and works with Slicer's own packages."""

import json
import subprocess
import tempfile
import unittest
from pathlib import Path

from TumorQuery import TumorQueryLogic
from TumorQueryModule import Dependencies
from TumorQueryModule.Worker import pythonExecutable, workerEnvironment


class TumorQueryLibraryTest(unittest.TestCase):
    """The installed library, in an interpreter of its own."""

    def test_bundledDataAreFound(self):
        """The starter database opens in the worker's interpreter and environment."""
        if TumorQueryLogic().missingRequirements():
            self.skipTest("Python packages are missing, and in a test of Slicer's nothing is installed")
        with tempfile.TemporaryDirectory() as folder:
            job = Path(folder) / "job.json"
            job.write_text(
                json.dumps({"command": "info", "out": str(Path(folder) / "out"), "arguments": {"database": "starter"}}),
                encoding="utf-8",
            )
            ended = subprocess.run(
                [pythonExecutable(), "-m", "TumorQueryLib.worker", str(job)],
                env=workerEnvironment(Dependencies.parentOfLibrary()),
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            assert ended.returncode == 0, ended.stdout + ended.stderr
            about = json.loads((Path(folder) / "out" / "info.json").read_text(encoding="utf-8"))
        assert about["entries"] > 0
