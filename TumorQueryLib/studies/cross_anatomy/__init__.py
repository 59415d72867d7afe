"""The way of the data measured against a known truth, in another anatomy.

Tumours with known parameters grow in MNI152, whose tissue maps, T1 and shape are
not those of SRI24. Each is warped, tilted, scaled and painted as T1 and T1Gd of a
patient; the pipeline sees the images and the segmentation only and works with
the SRI24 database. Then its density is compared with the true one. The same with a
better registration and with the true tissue maps tells which step costs what.
The tumours are those of `studies.known_truth`, which other studies share.
"""

from TumorQueryLib.studies.cross_anatomy.experiment import CrossAnatomy

__all__ = ["CrossAnatomy"]
