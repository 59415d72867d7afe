"""The parts of the TumorQuery module of 3D Slicer that its file TumorQuery.py puts together."""
