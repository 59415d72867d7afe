"""How far the figures of refined tumours depend on what no image shows: the tissue that they grew in."""

from TumorQueryLib.studies.sensitivity.study import SensitivityStudy

__all__ = ["SensitivityStudy"]
