"""Tables of docs/evaluation.md from folders written by `tumorquery evaluate`.

    python scripts/make_evaluation_page.py NAME=FOLDER [NAME=FOLDER ...]

Writes the tables there from a folder's results.json, in the place of what stands between `<!-- NAME -->` and
`<!-- end NAME -->`.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from TumorQueryLib.studies.strategies.tables import as_markdown

DOCS = Path(__file__).resolve().parent.parent / "docs"
TITLES = {
    "starter": "Results: the bundled database (5,000 entries, default sampling)",
    "default": "Results: 50,000 entries, default sampling",
    "independent": "Results: 50,000 entries, the paper's sampling",
}


def main() -> None:
    page = DOCS / "evaluation.md"
    text = page.read_text(encoding="utf-8")
    for argument in sys.argv[1:]:
        name, _, source = argument.partition("=")
        tables = as_markdown(json.loads((Path(source) / "results.json").read_text(encoding="utf-8")))
        block = f"<!-- {name} -->\n## {TITLES[name]}\n\n{tables}<!-- end {name} -->"
        pattern = f"<!-- {name} -->.*<!-- end {name} -->"
        text, found = re.subn(pattern, lambda _, block=block: block, text, flags=re.DOTALL)
        if not found:
            raise SystemExit(f"{page} has no place for {name}.")
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
