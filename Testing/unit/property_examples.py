"""How many examples a property test draws: once in an ordinary run, fifteen times as many in a thorough one."""

import os

from hypothesis import settings

#: The environment variable that names the profile, and the profiles' multiples of each test's examples.
PROFILE_VARIABLE = "TUMORQUERY_HYPOTHESIS"
FACTORS = {"default": 1, "thorough": 15}


def load_profile() -> None:
    """Make the profile that the environment names hypothesis' own; both draw the same examples in every run."""
    ordinary = settings.get_profile("default").max_examples
    for name, factor in FACTORS.items():
        settings.register_profile(name, derandomize=True, deadline=None, max_examples=factor * ordinary)
    settings.load_profile(chosen_profile())


def chosen_profile() -> str:
    """The profile that the environment names."""
    name = os.environ.get(PROFILE_VARIABLE, "default")
    if name not in FACTORS:
        raise ValueError(f"{PROFILE_VARIABLE} is one of {', '.join(FACTORS)}, not {name}.")
    return name


def examples(count: int) -> settings:
    """A decorator for a property test that draws `count` examples in an ordinary run."""
    return settings(max_examples=count * FACTORS[chosen_profile()])
