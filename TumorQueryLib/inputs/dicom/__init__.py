"""DICOM: series of images, and what is told apart from them. The only place of the inputs that knows pydicom."""
