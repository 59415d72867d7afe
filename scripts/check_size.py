"""Measure a fresh full clone and fail where it grows too large for the Extensions Index.

    python scripts/check_size.py

The index refuses a repository whose full clone, history included, exceeds 100 MiB.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST_MIB = 97


def git(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True)


def reason_not_to_measure() -> str | None:
    """Why a clone of this folder would not show the repository's size."""
    if not (ROOT / ".git").exists():
        return "this folder is no git repository"
    if shutil.which("git") is None or shutil.which("du") is None:
        return "git or du is missing"
    if git("rev-parse", "--is-shallow-repository").stdout.strip() == "true":
        return "this clone is shallow, so that the history is not here"
    return None


def mebibytes_of_a_clone() -> int:
    """`du -sm` of a clone of the branch that is checked out; --no-local packs it as a server would."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        cloned = git("clone", "--quiet", "--no-local", "--single-branch", str(ROOT), str(clone))
        if cloned.returncode != 0:
            raise SystemExit(f"The size was not measured: git clone failed: {cloned.stderr.strip()}")
        used = subprocess.run(["du", "-sm", str(clone)], capture_output=True, text=True, check=True)
        return int(used.stdout.split()[0])


def main() -> None:
    reason = reason_not_to_measure()
    if reason:
        print(f"The size of a full clone is not measured: {reason}.")
        return
    size = mebibytes_of_a_clone()
    said = f"A full clone takes {size} MiB; at most {MOST_MIB} are allowed"
    if size > MOST_MIB:
        sys.exit(f"{said}. Take new binary files out of the history, or make them smaller.")
    print(f"{said}.")


if __name__ == "__main__":
    main()
