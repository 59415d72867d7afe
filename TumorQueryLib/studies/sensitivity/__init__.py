"""How far the figures of refined tumours depend on what no image shows: the tissue that they grew in."""

from TumorQueryLib.studies.sensitivity.study import SensitivityStudy, run_sensitivity

__all__ = ["SensitivityStudy", "run_sensitivity"]
