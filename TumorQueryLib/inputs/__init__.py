"""What goes in: image files, label conventions, the patient, the cohort file."""
