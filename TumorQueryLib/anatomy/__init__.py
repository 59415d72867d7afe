"""Where a tumour grows: the atlas, its tissue, and that tissue carried into a patient."""
