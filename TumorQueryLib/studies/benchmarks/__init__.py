"""What `tumorquery bench` measures: speed as a ratio to a reference in the same run."""
