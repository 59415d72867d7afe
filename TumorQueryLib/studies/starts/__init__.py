"""What the query is for: whether the refined density depends on the database that its search starts from."""

from TumorQueryLib.studies.starts.study import DEFAULT_COUNT, StartsStudy

__all__ = ["DEFAULT_COUNT", "StartsStudy"]
