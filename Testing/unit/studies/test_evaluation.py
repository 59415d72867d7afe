"""The evaluation's tables and figures, from queries to files."""

import csv
import json

import numpy as np
import pytest

from TumorQueryLib.base.errors import Cancelled, InputError
from TumorQueryLib.geometry.regions import TumorMasks
from TumorQueryLib.strategies import Match
from TumorQueryLib.studies.strategies import evaluate, rank_of, share_with_interval

STRATEGIES = ("direct", "ds32", "radiomics", "random-projection")


def matches_of(*entries_and_scores):
    return [Match(entry, 0.0, 0.0, score) for entry, score in entries_and_scores]


@pytest.mark.parametrize(
    ("matches", "expected"),
    [
        (matches_of((4, 0.9), (2, 0.8)), (1, 1)),
        (matches_of((1, 0.9), (4, 0.9), (2, 0.8)), (2, 1)),
        (matches_of((1, 0.9), (7, 0.8), (4, 0.7)), (3, 2)),
        (matches_of((1, 0.9), (2, 0.8)), (None, None)),
    ],
    ids=["first", "tied score", "equally good entry", "absent"],
)
def test_rank_follows_the_tie_rule_and_says_what_ties_could_do(matches, expected):
    # Entries 4 and 7 are equally good; 4 is the lower one.
    assert rank_of(4, {4, 7}, matches) == expected


def test_intervals_hold_the_share_and_narrow_with_the_number_of_cases():
    generator = np.random.default_rng(0)
    few = share_with_interval(np.array([True] * 6 + [False] * 4), generator)
    many = share_with_interval(np.array([True] * 600 + [False] * 400), generator)
    assert few["value"] == many["value"] == 60
    for interval in (few, many):
        assert interval["low"] <= 60 <= interval["high"]
    # The standard error of a share of 0.6 in 1000 cases is 1.55 points.
    assert many["high"] - many["low"] == pytest.approx(2 * 1.96 * 1.55, abs=0.6)
    assert few["high"] - few["low"] > 5 * (many["high"] - many["low"])
    assert share_with_interval(np.ones(8, bool), generator) == {"value": 100, "low": 100, "high": 100}


@pytest.fixture(scope="module")
def evaluated(small_database, tmp_path_factory):
    """Results, folder and the cohort's entries, of an evaluation with two 'patients' from the database itself."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TUMORQUERY_CACHE", str(tmp_path_factory.mktemp("cache")))
        folder = tmp_path_factory.mktemp("evaluation")
        cohort = [
            (name, TumorMasks(small_database.core.decode(n), small_database.whole.decode(n), small_database.grid))
            for name, n in (("A", 10), ("B", 30))
        ]
        results = evaluate(small_database, out=folder, strategies=STRATEGIES, synthetic=3, cohort=cohort, random_seed=1)
    return results, folder


@pytest.mark.slow
def test_every_table_and_figure_is_written(evaluated):
    results, folder = evaluated
    tables = {"results.json", "tables.md", "table1.csv", "table2.csv", "cases.csv"}
    assert {path.name for path in folder.iterdir()} == tables | {"figure2.png", "figure3.png", "figure4.png"}
    assert json.loads((folder / "results.json").read_text()) == results
    for name in ("figure2.png", "figure3.png", "figure4.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_entries_of_the_database_are_found_first_with_dice_two(evaluated, small_database):
    results, folder = evaluated
    assert results["real"]["best_dice_sum"]["value"] == 2.0
    for summary in results["real"]["strategies"].values():
        assert summary["top1"]["value"] == 100
    with (folder / "cases.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["entry"] for row in rows if row["queries"] == "real"] == ["10", "30"]
    assert sum(row["queries"] == "synthetic" for row in rows) == 3


@pytest.mark.slow
def test_the_papers_figures_stand_beside_ours(evaluated):
    _, folder = evaluated
    text = (folder / "tables.md").read_text()
    assert "88.7/100/100, 130 s" not in text  # ds64 was not asked for
    assert "66.1/96.7/100, 116 s" in text
    assert "paper 1.69" in text
    with (folder / "table1.csv").open() as file:
        rows = list(csv.DictReader(file))
    paper = {row["strategy"]: row["top1"] for row in rows if row["source"] == "paper"}
    assert paper["vae"] == "41.9"
    assert {row["strategy"] for row in rows if row["source"] == "measured"} == set(STRATEGIES)


@pytest.mark.slow
def test_synthetic_queries_are_in_no_database_and_best_matches_fall_short_of_two(evaluated):
    results, _ = evaluated
    assert 0 < results["synthetic"]["best_dice_sum"]["value"] < 2
    assert results["synthetic"]["strategies"]["direct"]["top1"]["value"] == 100


def test_nothing_is_written_when_it_is_cancelled_or_has_no_query(small_database, tmp_path, user_cache):
    def cancel(value, message):
        if "Growing" in message:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        evaluate(small_database, out=tmp_path / "out", strategies=["direct"], synthetic=2, progress=cancel)
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="synthetic"):
        evaluate(small_database, out=tmp_path / "out", synthetic=0)
