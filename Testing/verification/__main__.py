"""Whether the main figures of the documents are still true.

    python Testing/verification                the figures that take seconds, measured again: `make verify-quick`
    python Testing/verification --only NAME    one of the checks
    python Testing/verification --page         writes docs/verification.md

The exit status is 1 where a figure lies outside of its tolerance.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from claims import CLAIMS
from quick import CHECKS, ROOT

PAGE = ROOT / "docs" / "verification.md"

HEAD = """# Verification

The main figures of README and documents, with the command that makes each, what it was measured on, and the day.
Where a row says nothing else, it was measured on one machine: two cores of an AMD EPYC processor, 24 GB, Linux,
Python 3.11 with the versions of `Testing/constraints.txt`. The installation had the versions that pip chose that day,
and one row compares two kinds of processor. Other work ran beside some of them, which the page of the figure says
where it matters. The patients are of public data sets, which are not bundled: their commands need a cohort file of
your own.

Those marked *quick* are measured again, some on fewer tumours, or counted again from the rows that are committed, by

```
make verify-quick
```

in about a minute. It prints each figure beside the one that it measured, and fails where they differ by more than is
stated: not at all for what is counted from rows, three standard errors for samples, .003 for the Dice of the brain, a
factor of four for times. The claimed figure is read from the document itself, so a document that is changed without
being measured fails too. A test holds that the words below stand in their documents, and that README has no measured
figure that is not here.

Made by `python Testing/verification --page`.

| where | the figure, as it stands there | command | of | day | |
|---|---|---|---|---|---|
"""


def page() -> str:
    """docs/verification.md."""
    lines = []
    for claim in CLAIMS:
        place = Path(claim.document)
        link = place.name if place.parent.name == "docs" else f"../{claim.document}"
        words = " / ".join(part.strip(" *") for part in claim.words.replace("`", "").split("|") if part.strip(" *"))
        cells = [f"[{place.stem}]({link})", words, f"`{claim.command}`", claim.of, claim.day]
        lines.append("| " + " | ".join([*cells, "quick" if claim.quick else ""]) + " |\n")
    return HEAD + "".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=sorted(CHECKS), help="one of the checks")
    parser.add_argument("--page", action="store_true", help="write docs/verification.md")
    options = parser.parse_args()
    if options.page:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    wrong = 0
    for name, check in CHECKS.items():
        if options.only not in (None, name):
            continue
        begin = time.perf_counter()
        for one in check():
            wrong += not one.agrees
            word = "ok   " if one.agrees else "WRONG"
            allowed = f"{one.least:.4g} to {one.most:.4g}"
            print(
                f"{word} {one.document}: {one.what}: claimed {one.claimed:g}, measured {one.measured:.4g} ({allowed})",
                flush=True,
            )
        print(f"      {name}: {time.perf_counter() - begin:.1f} s", flush=True)
    print("All figures agree." if not wrong else f"{wrong} figures lie outside of their tolerance.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
