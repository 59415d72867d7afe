"""`python -m TumorQueryLib` is `tumorquery`."""

import sys

from TumorQueryLib.cli import main

if __name__ == "__main__":
    sys.exit(main())
