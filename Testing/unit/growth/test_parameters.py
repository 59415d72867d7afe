import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.growth import GrowthParameters

positive = st.floats(1e-3, 1e3)


@given(length=positive, rho_t=positive, proliferation=positive)
def test_the_identifiable_pair_comes_back(length, rho_t, proliferation):
    parameters = GrowthParameters.from_identifiable((1, 2, 3), length, rho_t, proliferation)
    assert parameters.infiltration_length == pytest.approx(length, rel=1e-12)
    assert parameters.rho_t == pytest.approx(rho_t, rel=1e-12)
    assert parameters.proliferation == proliferation
    assert parameters.seed == (1.0, 2.0, 3.0)


def test_without_proliferation_the_infiltration_length_is_infinite():
    assert GrowthParameters((0, 0, 0), 0.5, 0, 100).infiltration_length == math.inf


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"diffusivity": 0}, "diffusivity"),
        ({"diffusivity": math.inf}, "diffusivity"),
        ({"proliferation": -0.1}, "proliferation"),
        ({"duration": 0}, "duration"),
        ({"duration": math.nan}, "duration"),
        ({"seed": (1, 2)}, "three"),
        ({"seed": (1, 2, math.nan)}, "finite"),
        ({"seed": "abc"}, "three numbers"),
    ],
)
def test_parameters_out_of_range_are_refused_by_name(changes, said):
    good = {"seed": (0, 0, 0), "diffusivity": 0.5, "proliferation": 0.1, "duration": 100}
    GrowthParameters(**good)
    with pytest.raises(InputError, match=said):
        GrowthParameters(**(good | changes))


def test_an_identifiable_pair_needs_proliferation():
    with pytest.raises(InputError, match="proliferation"):
        GrowthParameters.from_identifiable((0, 0, 0), 2.0, 10.0, 0.0)
