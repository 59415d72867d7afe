"""The choices of an inference: their defaults, their checks, and their way through a job file."""

import json
from pathlib import Path

import numpy as np
import pytest

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.base.method import Method


def test_the_default_is_the_exact_query_refined_in_the_patient():
    usual = Method()
    assert (usual.strategy, usual.registration, usual.refine) == ("direct", "deformable", "patient")


def test_a_method_goes_through_a_job_file():
    chosen = Method(database="my.h5", strategy_options={"rerank": "5"}, top=3, refine="none", refine_seconds=2.5)
    assert Method.from_json(json.loads(json.dumps(chosen.as_json()))) == chosen
    assert Method.from_json({}) == Method()
    assert Method.from_json({"refine": "atlas"}) == Method(refine="atlas")


def test_paths_are_kept_as_text():
    chosen = Method(database=Path("my.h5"), atlas=Path("atlas"))
    assert (chosen.database, chosen.atlas) == ("my.h5", "atlas")


def test_numbers_of_numpy_and_paths_go_through_a_job_file():
    options = {"rerank": np.int64(3), "scale": np.float32(0.5), "model": Path("a.safetensors"), "standardised": True}
    chosen = Method(strategy_options=options, top=np.int32(3), refine_solves=np.uint8(7), refine_seconds=np.float32(2))
    assert Method.from_json(json.loads(json.dumps(chosen.as_json()))) == chosen
    assert chosen.strategy_options == {"rerank": 3, "scale": 0.5, "model": "a.safetensors", "standardised": True}
    assert (chosen.top, chosen.refine_solves, chosen.refine_seconds) == (3, 7, 2.0)


@pytest.mark.parametrize("count", [1, 2])
def test_foci_are_taken_as_a_number_too(count):
    assert Method(foci=count) == Method(foci=str(count))


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"refinement": "none"}, ("refinement", "refine_solves", "registration")),
        ({"registration": "rigid"}, ("'rigid'", "affine")),
        ({"refine": None}, ("None", "none, atlas, patient")),
        ({"refine": True}, ("True", "none, atlas, patient")),
        ({"foci": 3}, ("3", "auto, 1, 2")),
        ({"foci": True}, ("True", "auto, 1, 2")),
        ({"sensitivity": 1}, ("sensitivity", "1")),
        ({"sensitivity": True, "refine": "none"}, ("refine is none", "choose refine patient or atlas")),
        ({"tissue": "t1"}, ("'t1'", "atlas, own")),
        ({"tissue": "own", "refine": "atlas"}, ("own tissue", "refine is atlas", "choose refine patient")),
        ({"tissue": "own", "refine": "none"}, ("own tissue", "refine is none", "choose refine patient")),
        ({"top": 0}, ("top", "0")),
        ({"top": "3"}, ("top", "'3'")),
        ({"top": True}, ("top", "True")),
        ({"refine_solves": 1.5}, ("refine_solves", "1.5")),
        ({"refine_seconds": -1}, ("refine_seconds", "-1")),
        ({"refine_seconds": float("nan")}, ("refine_seconds", "nan")),
        ({"refine_seconds": "fast"}, ("refine_seconds", "'fast'")),
        ({"refine_seconds": True}, ("refine_seconds", "True")),
        ({"strategy_options": {"rerank": [3]}}, ("rerank", "[3]", "a number")),
        ({"strategy_options": {"rerank": None}}, ("rerank", "None", "a text")),
        ({"strategy_options": {3: "5"}}, ("3", "texts for names")),
        ({"strategy_options": "rerank=5"}, ("strategy_options", "rerank=5")),
        ({"strategy": None}, ("strategy", "None")),
        ({"database": None}, ("database", "None")),
        ({"atlas": 3}, ("atlas", "3")),
    ],
)
def test_a_wrong_choice_is_named_with_what_is_accepted(choices, words):
    with pytest.raises(InputError) as raised:
        Method.from_json(choices)
    said = str(raised.value)
    assert "\n" not in said
    for word in words:
        assert word in said
