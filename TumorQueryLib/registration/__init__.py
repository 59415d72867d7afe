"""Registration of a patient's brain to the atlas, with the tumour left out of the cost function."""

from __future__ import annotations

from TumorQueryLib.registration.registration import Registration, register

__all__ = ["Registration", "register"]
