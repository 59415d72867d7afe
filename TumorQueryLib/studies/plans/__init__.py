"""What a plan is worth where the true density is known: the share of the true cells that lies outside of it.

A guideline's margin of 15 mm against plans of the same volume that follow the match, the refined and the assimilated
density, and the smallest plan that is to hold 95 % of the cells with a probability of 90 %.
"""

from TumorQueryLib.studies.plans.study import PlansStudy

__all__ = ["PlansStudy"]
