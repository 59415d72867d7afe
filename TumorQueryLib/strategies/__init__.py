"""Query strategies: ways to find the tumours of a database that resemble a patient's.

A strategy is a class with a `name` and `query(masks, top)`, made from a database and
registered by name. `CONTRIBUTING.md` shows how to add one.
"""

from TumorQueryLib.strategies.base import (
    Match,
    Strategy,
    StrategyInfo,
    StrategyOption,
    create_strategy,
    parse_strategy_options,
    register_strategy,
    strategy_names,
    strategy_table,
)

__all__ = [
    "Match",
    "Strategy",
    "StrategyInfo",
    "StrategyOption",
    "create_strategy",
    "parse_strategy_options",
    "register_strategy",
    "strategy_names",
    "strategy_table",
]
