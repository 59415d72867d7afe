"""Query strategies: ways to find the tumours of a database that resemble a patient's.

A strategy is a class with a `name` and `query(masks, top)`, made from a database and
registered by name. `CONTRIBUTING.md` shows how to add one.
"""

from TumorQueryLib.strategies.base import Match, Strategy, create_strategy, register_strategy, strategy_names

__all__ = [
    "Match",
    "Strategy",
    "create_strategy",
    "register_strategy",
    "strategy_names",
]
