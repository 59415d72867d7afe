"""Does the steps of a job file: [["progress", 0.5, "text"], ["print", "text"], ["sleep", 1.0], ...]."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path


def end_when_asked():
    """End on a cancel command, and when standard input closes."""
    line = sys.stdin.readline()
    if not line or json.loads(line) == {"command": "cancel"}:
        print(json.dumps({"event": "error", "kind": "Cancelled", "message": "cancelled"}), flush=True)
        os._exit(130)


def main():
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    if job["watch_stdin"]:
        threading.Thread(target=end_when_asked, daemon=True).start()
    for name, *values in job["steps"]:
        if name == "progress":
            print(json.dumps({"event": "progress", "value": values[0], "message": values[1]}), flush=True)
        elif name == "print":
            sys.stdout.write(values[0])
            sys.stdout.flush()
        elif name == "bytes":
            sys.stdout.buffer.write(bytes(values))
            sys.stdout.buffer.flush()
        elif name == "sleep":
            time.sleep(values[0])
        elif name == "child":
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        elif name == "stage":  # as the library does, so that nobody takes it for a killed process's
            import fcntl

            folder = Path(values[0]) / ".tumorquery-staged-1"
            folder.mkdir()
            (folder / "segmentation.dcm").touch()
            held = open(folder / ".lock", "wb")  # noqa: SIM115
            fcntl.flock(held, fcntl.LOCK_EX)
        elif name == "error":
            print(json.dumps({"event": "error", "kind": values[0], "message": values[1]}), flush=True)
            sys.exit(2)
        elif name == "raise":
            raise RuntimeError(values[0])
        elif name == "environment":
            print(os.environ.get(values[0], "not set"), flush=True)
        elif name == "result":
            path = Path(sys.argv[1]).with_name(values[0])
            path.write_text("done", encoding="utf-8")
            print(json.dumps({"event": "result", "path": str(path)}), flush=True)


main()
