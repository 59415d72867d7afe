"""Every query strategy measured against the exact one: the paper's tables and figures.

Tables 1 and 2 say how often a strategy's best N hold the entry that is best by exact
Dice; Figures 2 and 3 show the Dice of the exact query case by case; Figure 4 shows
densities. The queries are synthetic tumours that are in no database, and patients.
"""

from TumorQueryLib.studies.strategies.evaluation import evaluate

__all__ = ["evaluate"]
