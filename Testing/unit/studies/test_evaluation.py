"""The evaluation's tables and figures, from queries to files."""

import csv
import json

import numpy as np
import pytest

from TumorQueryLib.base.errors import Cancelled, InputError, OutputError
from TumorQueryLib.geometry.grid import Volume
from TumorQueryLib.geometry.regions import TumorMasks
from TumorQueryLib.results.files import write_volume
from TumorQueryLib.strategies import Match
from TumorQueryLib.studies.phantom import synthetic_volumes
from TumorQueryLib.studies.strategies import evaluate
from TumorQueryLib.studies.strategies.measure import Measured, rank_of
from TumorQueryLib.studies.strategies.summary import by_volume, mean_with_interval, share_with_interval

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


def test_the_interval_of_a_share_is_wilsons():
    # Newcombe 1998 (10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E), table I.
    share = share_with_interval(81, 263)
    assert share == pytest.approx({"value": 30.8, "low": 25.53, "high": 36.62}, abs=0.01)


@pytest.mark.parametrize(("hits", "low", "high"), [(8, 67.6, 100), (0, 0, 32.4)])
def test_all_or_none_of_eight_is_not_certain(hits, low, high):
    share = share_with_interval(hits, 8)
    assert share["value"] == 100 * hits / 8
    assert (share["low"], share["high"]) == pytest.approx((low, high), abs=0.05)


@pytest.mark.slow
def test_the_interval_of_a_mean_holds_it_in_95_of_100_draws():
    assert mean_with_interval([1, 2, 3, 4, 5]) == pytest.approx(
        {"value": 3, "low": 3 - 1.963, "high": 3 + 1.963}, abs=1e-3
    )
    random = np.random.default_rng(0)
    intervals = [mean_with_interval(random.normal(size=8)) for _ in range(2000)]
    assert np.mean([interval["low"] <= 0 <= interval["high"] for interval in intervals]) == pytest.approx(
        0.95, abs=0.015
    )
    assert mean_with_interval([1.5]) == {"value": 1.5, "low": None, "high": None}


def test_volume_bins_take_each_case_once():
    cases = [
        Measured(str(ml), ml, Match(0, dice, 0.0, dice), {})
        for ml, dice in ((2.0, 0.1), (9.9, 0.3), (10.0, 0.4), (49.0, 0.6), (50.0, 0.7), (200.0, 0.9))
    ]
    assert [(bin_["from"], bin_["to"], bin_["cases"]) for bin_ in by_volume(cases)] == [
        (0, 10, 2),
        (10, 50, 2),
        (50, None, 2),
    ]
    assert [bin_["best_dice_sum"] for bin_ in by_volume(cases)] == pytest.approx([0.2, 0.5, 0.8])
    assert [bin_["from"] for bin_ in by_volume(cases[2:3])] == [10]


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


@pytest.fixture
def cohort_file(tmp_path):
    """Patients A, whose files are there, and B, whose T1Gd is missing."""
    volumes = synthetic_volumes(tumour_centre=(25.0, 0.0, 10.0), core_radius=12.0, whole_radius=22.0)
    labels = volumes["whole"].array.astype(np.uint8) + 3 * volumes["core"].array.astype(np.uint8)
    write_volume(volumes["t1gd"], tmp_path / "t1gd.nii.gz")
    write_volume(Volume(labels, volumes["core"].grid), tmp_path / "labels.nii.gz")
    path = tmp_path / "cohort.csv"
    path.write_text(
        "patient,t1gd,segmentation,labels\n"
        'B,absent.nii.gz,labels.nii.gz,"core=4/whole=1,4"\n'
        'A,t1gd.nii.gz,labels.nii.gz,"core=4/whole=1,4"\n'
    )
    return path


@pytest.mark.slow
def test_a_patient_who_cannot_be_used_is_named_and_the_others_count(small_database, cohort_file, tmp_path, user_cache):
    out = tmp_path / "out"
    results = evaluate(
        small_database, out=out, strategies=["direct"], synthetic=0, cohort=cohort_file, registration="none"
    )
    assert results["real"]["cases"] == 1
    assert list(results["failed_patients"]) == ["B"]
    assert "absent.nii.gz" in results["failed_patients"]["B"]
    assert "Left out: B (" in (out / "tables.md").read_text()
    assert "synthetic" not in results
    # A mean of one case has no interval.
    assert f"patients: {results['real']['best_dice_sum']['value']:.3f} (paper" in (out / "tables.md").read_text()
    assert (out / "figure4.png").read_bytes().startswith(b"\x89PNG")


def test_a_cohort_file_is_not_replaced_by_the_results(small_database, cohort_file, tmp_path):
    named_so = cohort_file.rename(tmp_path / "cases.csv")
    before = named_so.read_bytes()
    with pytest.raises(OutputError, match=r"cases\.csv is an input of this run"):
        evaluate(small_database, out=tmp_path, strategies=["direct"], synthetic=0, cohort=named_so)
    (tmp_path / "table1.csv").write_text("mine")
    with pytest.raises(OutputError, match=r"table1\.csv was not written by a run"):
        evaluate(small_database, out=tmp_path, strategies=["direct"], synthetic=1)
    assert named_so.read_bytes() == before


def test_a_cohort_of_which_nobody_can_be_used_is_refused(small_database, cohort_file, tmp_path):
    text = cohort_file.read_text().splitlines()
    cohort_file.write_text("\n".join(text[:2]) + "\n")
    with pytest.raises(InputError, match=r"absent\.nii\.gz"):
        evaluate(small_database, out=tmp_path / "out", strategies=["direct"], synthetic=0, cohort=cohort_file)
    assert not (tmp_path / "out").exists()


def test_cancelling_stops_the_registration_of_a_cohort(small_database, cohort_file, tmp_path):
    def cancel(value, message):
        if "Registering" in message:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        evaluate(
            small_database,
            out=tmp_path / "out",
            strategies=["direct"],
            synthetic=0,
            cohort=cohort_file,
            progress=cancel,
        )
