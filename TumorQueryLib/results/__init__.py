"""What an inference gives back: the result, its files, the report."""
