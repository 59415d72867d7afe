"""Tumours whose true density is known, and the run that several studies share.

Tumours with known parameters grow in MNI152, whose tissue maps, T1 and shape are
not those of SRI24. Each is warped, tilted, scaled and painted as T1 and T1Gd of a
patient; the pipeline sees the images and the segmentation only, exact or drawn with
an error, and works with the SRI24 database. Each study then looks at what it found.
"""
