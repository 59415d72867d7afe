"""Tables 1 and 2, with the paper's figures beside ours, in Markdown and as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from TumorQueryLib.studies.strategies.measure import RERANKED, TOP, Measured
from TumorQueryLib.studies.strategies.paper import PAPER_DICE_SUM, PAPER_TABLE_1, PAPER_TABLE_2

KIND_TITLES = {"real": "patients", "synthetic": "synthetic tumours"}
#: Rows of Table 2: the strategies that compare masks.
MASK_STRATEGIES = ("direct", "ds64", "ds32")


def write_tables(results: Mapping[str, Any], folder: Path) -> None:
    """Write tables.md, table1.csv and table2.csv into an existing folder.

    Parameters
    ----------
    results : dict
        The content of results.json.
    folder : Path
    """
    (folder / "tables.md").write_text(as_markdown(results), encoding="utf-8")
    _write_table_1(results, folder / "table1.csv")
    _write_table_2(results, folder / "table2.csv")


def write_cases(measured: Mapping[str, Sequence[Measured]], names: Sequence[str], path: Path) -> None:
    """Write every query as a row of a CSV file."""
    rows = [
        [kind, case.name, case.whole_ml, case.best.entry, case.best.dice_core, case.best.dice_whole, case.best.dice_sum]
        + [case.ranks[name].rank or f">{RERANKED}" for name in names]
        + [case.ranks[name].seconds for name in names]
        for kind, cases in measured.items()
        for case in cases
    ]
    header = ["queries", "case", "whole_ml", "entry", "dice_core", "dice_whole", "dice_sum"]
    _write_csv(path, [*header, *(f"rank_{name}" for name in names), *(f"seconds_{name}" for name in names)], rows)


def as_markdown(results: Mapping[str, Any]) -> str:
    """The content of results.json as Tables 1 and 2 and the means of the best matches."""
    database = results["database"]
    kinds = _kinds(results)
    lines = [
        f"Database: {database['entries']:,} entries, `{database['sampling']}` sampling, {database['atlas']} "
        f"(SHA-256 {database['sha256'][:12]}). Figures in per cent with 95 % intervals (Wilson's). "
        f"{results['tie_rule']}",
        "",
    ]
    for kind in kinds:
        lines += [*_table_1(results[kind], KIND_TITLES[kind]), ""]
    lines += [*_table_2(results), ""]
    lines += [_means(results[kind], kind) for kind in kinds]
    lines += [f"\nLeft out: {name} ({reason})" for name, reason in results["failed_patients"].items()]
    return "\n".join(lines) + "\n"


def _kinds(results: Mapping[str, Any]) -> list[str]:
    return [kind for kind in KIND_TITLES if kind in results]


def _table_1(measured: Mapping[str, Any], title: str) -> list[str]:
    lines = [
        f"**Table 1, {measured['cases']:,} {title}**: how often a strategy's best N hold the exact best match; "
        f"best {RERANKED}, which is Top-1 after re-ranking them by exact Dice; time of a query; and the paper's "
        "figures (62 patients, its own 50,000 entries and machines).",
        "",
        f"| strategy | Top-1 | Top-5 | Top-15 | Top-{RERANKED} | ms, median (95 %) | paper: Top-1/5/15, s |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, summary in measured["strategies"].items():
        cells = [_cell(summary, top) for top in (*TOP, RERANKED)]
        seconds = summary["seconds"]
        paper = PAPER_TABLE_1.get(name)
        stated = "/".join(f"{value:g}" for value in paper[:3]) + f", {paper[3]:g} s" if paper else "-"
        lines.append(
            f"| {name} | {' | '.join(cells)} | {1000 * seconds['median']:.1f} ({1000 * seconds['p95']:.1f}) "
            f"| {stated} |"
        )
    return lines


def _cell(summary: Mapping[str, Any], top: int) -> str:
    share = summary[f"top{top}"]
    favourable = summary[f"top{top}_ties_in_favour"]
    text = f"{share['value']:.1f} [{share['low']:.1f}, {share['high']:.1f}]"
    return text if abs(favourable - share["value"]) < 0.05 else f"{text} ({favourable:.1f})"


def _table_2(results: Mapping[str, Any]) -> list[str]:
    kinds = _kinds(results)
    lines = [
        "**Table 2**: Top-1/5/15 of the strategies that compare masks, ours and (paper).",
        "",
        f"| strategy | {' | '.join(KIND_TITLES[kind] for kind in kinds)} |",
        f"|---|{'---|' * len(kinds)}",
    ]
    for name in MASK_STRATEGIES:
        if name not in results[kinds[0]]["strategies"]:
            continue
        cells = []
        for kind in kinds:
            ours = "/".join(f"{results[kind]['strategies'][name][f'top{top}']['value']:.1f}" for top in TOP)
            cells.append(f"{ours} ({'/'.join(f'{value:g}' for value in _stated_in_table_2(kind, name))})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _stated_in_table_2(kind: str, name: str) -> tuple[float, ...]:
    return PAPER_TABLE_1[name][:3] if kind == "real" else PAPER_TABLE_2[name]


def _means(measured: Mapping[str, Any], kind: str) -> str:
    mean = measured["best_dice_sum"]
    interval = "" if mean["low"] is None else f" [{mean['low']:.3f}, {mean['high']:.3f}]"
    bins = ", ".join(
        f"{_bin_title(bin_)} {bin_['best_dice_sum']:.3f} ({bin_['cases']})" for bin_ in measured["by_volume_ml"]
    )
    return (
        f"Mean Dice sum of the best match, {KIND_TITLES[kind]}: {mean['value']:.3f}{interval} "
        f"(paper {PAPER_DICE_SUM[kind]:g}); by whole-tumour volume (number): {bins}."
    )


def _bin_title(bin_: Mapping[str, Any]) -> str:
    return f"from {bin_['from']:g} ml" if bin_["to"] is None else f"{bin_['from']:g}-{bin_['to']:g} ml"


def _write_table_1(results: Mapping[str, Any], path: Path) -> None:
    columns = [f"top{top}" for top in (*TOP, RERANKED)]
    rows: list[list[Any]] = []
    for kind in _kinds(results):
        for name, summary in results[kind]["strategies"].items():
            row = [kind, name, "measured"]
            for column in columns:
                share = summary[column]
                row += [share["value"], share["low"], share["high"], summary[f"{column}_ties_in_favour"]]
            rows.append([*row, summary["seconds"]["median"], summary["seconds"]["p95"]])
    for name, (*shares, seconds) in PAPER_TABLE_1.items():
        padded: list[Any] = []
        for share in shares:
            padded += [share, "", "", ""]
        rows.append(["real", name, "paper", *padded, "", "", "", "", seconds, ""])
    header = ["queries", "strategy", "source"]
    for column in columns:
        header += [column, f"{column}_low", f"{column}_high", f"{column}_ties_in_favour"]
    _write_csv(path, [*header, "seconds_median", "seconds_p95"], rows)


def _write_table_2(results: Mapping[str, Any], path: Path) -> None:
    rows: list[list[Any]] = []
    for kind in _kinds(results):
        for name in MASK_STRATEGIES:
            if name in results[kind]["strategies"]:
                summary = results[kind]["strategies"][name]
                ours = [summary[f"top{top}"]["value"] for top in TOP]
                rows.append([kind, name, *ours, *_stated_in_table_2(kind, name)])
    header = ["queries", "strategy", *(f"top{top}" for top in TOP), *(f"paper_top{top}" for top in TOP)]
    _write_csv(path, header, rows)


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
