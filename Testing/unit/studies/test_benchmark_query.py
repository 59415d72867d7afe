"""The query benchmark: what it promises to write, on a few entries and queries."""

import json

import pytest

from TumorQueryLib.studies.benchmarks import query as module
from TumorQueryLib.studies.benchmarks import rivals


@pytest.mark.slow
def test_every_way_is_measured_and_agrees(monkeypatch, tmp_path):
    # Its new process finds the library from any folder.
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    for name, value in (
        ("SYNTHETIC_QUERIES", 3),
        ("SAMPLE_QUERIES", 2),
        ("GROWTH_QUERIES", 2),
        ("COPIES", 2),
    ):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(rivals, "SAMPLE_ENTRIES", 5)
    seen = []
    result = module.benchmark("starter", progress=lambda value, message: seen.append(value))
    assert json.loads(json.dumps(result)) == result
    assert result["identical"] is True
    for name in ("direct", "brute_force", "paper_recipe", "dense_numpy"):
        row = result[name]
        assert 0 < row["median_ms"] <= row["p95_ms"] <= row["p99_ms"]
        assert bool(row.get("extrapolated")) == (name in rivals.RIVALS)
    assert result["direct"]["compared_most"] < 5000
    assert [row["entries"] for row in result["growth"]] == [2500, 5000, 10000]
    assert all(row["identical"] for row in result["growth"])
    assert 0 < result["opening"]["resident_mb"] < 1000
    assert "identical ids and scores: yes" in module.as_text(result)
    assert seen == sorted(seen)
