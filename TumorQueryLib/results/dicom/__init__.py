"""DICOM objects of a result, for planning systems and viewers: SEG, Parametric Map and RTSTRUCT."""
