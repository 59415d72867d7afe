"""Tumours proposed for a patient: the best match, and what fits better."""
