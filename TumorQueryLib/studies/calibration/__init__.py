"""Whether the bands of the assimilated density, and the intervals of its model, hold what they promise.

On made-up tumours (`studies.known_truth`) the true density is known in every voxel, and so
are the infiltration length and rho T: of bands that promise 90 % the truth should lie in
90 %, by voxel and by tumour.
"""

from TumorQueryLib.studies.calibration.study import Calibration

__all__ = ["Calibration"]
