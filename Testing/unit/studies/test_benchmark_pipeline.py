"""The benchmark of the registration: patients that cannot be used are named, and the rest is measured."""

import pytest
from small_world import world_patient, write_patient

from TumorQueryLib.inputs.cohort_file import read_cohort
from TumorQueryLib.studies.benchmarks.pipeline import ANTS_SYN, as_text, measure_patients


@pytest.mark.slow
def test_a_patient_that_cannot_be_used_does_not_stop_the_rest(tmp_path, world):
    write_patient(tmp_path / "A", world_patient())
    (tmp_path / "broken.nii.gz").write_text("no image")
    (tmp_path / "cohort.csv").write_text(
        "patient;t1gd;segmentation;labels\n"
        "broken;broken.nii.gz;A/segmentation.nii.gz;core=4/whole=2,4\n"
        "A;A/t1gd.nii.gz;A/segmentation.nii.gz;core=4/whole=2,4\n",
        encoding="utf-8",
    )
    seen = []
    result = measure_patients(
        read_cohort(tmp_path / "cohort.csv"), world.atlas, progress=lambda value, message: seen.append(value)
    )
    (measured,) = result["patients"]
    assert measured["patient"] == "A"
    assert 0 < measured["brain_dice"] <= 1
    assert min(measured["cpu_s"], measured["wall_s"]) > 0
    assert list(result["left_out"]) == ["broken"]
    assert "broken.nii.gz" in result["left_out"]["broken"]
    assert seen == sorted(seen)
    known = dict.fromkeys(("median_mm", "p95_mm", "in_tumour_median_mm", "cpu_s"), 1.0)
    said = as_text({"tissue_dice": ANTS_SYN | {"wall_s": 1.0}, "known_warp": known, **result})
    assert "left out: broken: " in said
