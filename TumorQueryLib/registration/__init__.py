"""Alignment of a patient's images, and registration of the brain to the atlas with the tumour left out of the cost."""

from __future__ import annotations

from TumorQueryLib.registration.alignment import Alignment, align_images
from TumorQueryLib.registration.registration import Registration, register

__all__ = ["Alignment", "Registration", "align_images", "register"]
