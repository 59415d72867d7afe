"""Measure the exact query and write its table and figure for the documentation.

    python Testing/benchmarks/query.py DB.h5 [--cohort FILE.csv] --out docs/query

writes OUT.json, OUT.md and OUT.png; `tumorquery bench query` measures the same.
"""

import argparse
from pathlib import Path

from TumorQueryLib.base.files import write_json
from TumorQueryLib.studies.benchmarks import query


def draw_growth(result: dict, path: Path) -> None:
    """Median and 99th percentile over the number of entries, both axes logarithmic."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = result["growth"]
    entries = [row["entries"] for row in rows]
    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, colour in (("brute_force", "tab:grey"), ("direct", "tab:blue")):
        title = name.replace("_", "-")
        median, p99 = ([row[name][key] for row in rows] for key in ("median_ms", "p99_ms"))
        axes.plot(entries, median, "o-", color=colour, label=f"{title}, median")
        axes.plot(entries, p99, "o:", color=colour, label=f"{title}, 99th percentile")
    axes.set(xscale="log", yscale="log", xlabel="entries", ylabel="milliseconds a query")
    axes.grid(which="major", alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("database", metavar="DB.h5")
    parser.add_argument("--cohort", type=Path, metavar="FILE.csv")
    parser.add_argument("--out", type=Path, required=True, metavar="OUT")
    options = parser.parse_args()
    result = query.benchmark(options.database, options.cohort)
    write_json(result, options.out.with_suffix(".json"))
    options.out.with_suffix(".md").write_text(f"```\n{query.describe(result)}\n```\n", encoding="utf-8")
    draw_growth(result, options.out.with_suffix(".png"))
    print(query.describe(result))


if __name__ == "__main__":
    main()
