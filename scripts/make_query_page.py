"""Tables of docs/query.md from results of `tumorquery bench query --json`.

    python scripts/make_query_page.py NAME=RESULT.json [NAME=RESULT.json ...]

They replace what stands between the page's markers.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"
WAYS = {
    "paper_recipe": "(a) the paper's recipe: a Python loop over dense arrays",
    "dense_numpy": "(b) dense boolean NumPy",
    "packed_numpy": "(c) packed bits, `numpy.bitwise_count`",
    "faiss": "(d) faiss `IndexBinaryFlat`",
    "brute_force": "(e) `brute-force`",
    "direct": "(f) `direct`",
}


def tables(results: dict[str, dict]) -> str:
    """The page's tables in Markdown."""
    lines: list[str] = []
    for name, result in results.items():
        queries, direct, opening = result["queries"], result["direct"], result["opening"]
        lines += [
            f"### {name}: {result['database']['entries']:,} entries, `{result['database']['prior']}` sampling",
            "",
            f"{queries['synthetic']} synthetic and {queries['cohort']} real queries, top {result['top']}, "
            f"{result['cores']} cores; ids and scores identical on every query: "
            f"{'yes' if result['identical'] else 'NO'}.",
            "",
            "| way | median ms | 95 % | 99 % | times `direct` |",
            "|---|---|---|---|---|",
        ]
        for way, title in WAYS.items():
            row = result[way]
            if row is None:
                lines.append(f"| {title} | not installed | | | |")
                continue
            mark = " *" if row.get("extrapolated") else ""
            ratio = result["ratio_to_direct"].get(way, 1.0)
            lines.append(
                f"| {title}{mark} | {row['median_ms']:,.1f} | {row['p95_ms']:,.1f} | {row['p99_ms']:,.1f} "
                f"| {ratio:,.0f} |"
            )
        sampled = next(result[way] for way in WAYS if result[way] and result[way].get("extrapolated"))
        cohort = result["dice_sum"]["cohort_mean"]
        lines += [
            "",
            f"\\* extrapolated from {sampled['sample_entries']:,} entries and {sampled['sample_queries']} queries.",
            "",
            f"`direct` compared {direct['compared_median']:,.0f} entries exactly (median; at most "
            f"{direct['compared_most']:,}) "
            f"and read {direct['bytes_read_median'] / 1e6:.2f} MB (median). A new process opened the file and "
            f"answered in {opening['seconds']:.2f} s, {opening['resident_mb']:,.0f} MB resident (imports before that: "
            f"{opening['import_s']:.2f} s). Mean Dice sum of the best match: synthetic "
            f"{result['dice_sum']['synthetic_mean']:.3f}"
            + (f", patients {cohort:.3f}." if cohort is not None else "."),
            "",
            "| entries | `direct` median ms | 95 % | 99 % | compared exactly | `brute-force` median ms |",
            "|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {row['entries']:,}{' (shifted copies)' if row['shifted_copies'] else ''} "
            f"| {row['direct']['median_ms']:.2f} | {row['direct']['p95_ms']:.2f} | {row['direct']['p99_ms']:.2f} "
            f"| {row['direct']['compared_median']:,.0f} | {row['brute_force']['median_ms']:,.1f} |"
            for row in result["growth"]
        ]
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    results = {}
    for argument in sys.argv[1:]:
        name, _, file = argument.partition("=")
        results[name] = json.loads(Path(file).read_text(encoding="utf-8"))
    page = DOCS / "query.md"
    block = f"<!-- figures -->\n{tables(results)}<!-- end figures -->"
    text = page.read_text(encoding="utf-8")
    page.write_text(
        re.sub(r"<!-- figures -->.*<!-- end figures -->", lambda _: block, text, flags=re.DOTALL), encoding="utf-8"
    )


if __name__ == "__main__":
    main()
