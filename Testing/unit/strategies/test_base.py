"""The table of strategies, their options, and the example of CONTRIBUTING.md."""

import importlib
import inspect
import re
from pathlib import Path

import numpy as np
import pytest

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.regions import TumorMasks
from TumorQueryLib.strategies import base, create_strategy, parse_strategy_options, strategy_names, strategy_table
from TumorQueryLib.strategies.embedding import EmbeddedStrategy

CONTRIBUTING = Path(__file__).resolve().parents[3] / "CONTRIBUTING.md"
RERANKED = [name for name, info in strategy_table().items() if "rerank" in info.options and not info.learned]


def query_between_entries(database):
    return TumorMasks(database.core.decode(1), database.whole.decode(3), database.grid)


@pytest.fixture
def own_registry(monkeypatch):
    """A registry that forgets after the test what was registered in it."""
    monkeypatch.setattr(base, "_STRATEGIES", dict(base._STRATEGIES))
    monkeypatch.setattr(base, "_CLASSES", dict(base._CLASSES))


@pytest.mark.parametrize(("name", "info"), strategy_table().items())
def test_the_table_says_what_the_class_takes(name, info):
    for package in info.packages:
        pytest.importorskip(package, reason=f"{package} is not installed")
    importlib.import_module(info.module)
    strategy = base._CLASSES[name]
    assert strategy.name == name
    parameters = list(inspect.signature(strategy).parameters.values())[1:]
    assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in parameters)
    taken = {parameter.name: parameter.default for parameter in parameters}
    assert ("progress" in taken) == info.prepares
    taken.pop("progress", None)
    assert taken == {option: described.default for option, described in info.options.items()}
    assert issubclass(strategy, EmbeddedStrategy) == info.ranks_by_codes


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("ds32", {"rerank": "100"}, {"rerank": 100}),
        ("ds32", {"rerank": 7}, {"rerank": 7}),
        ("radiomics", {"standardised": "Yes", "pyradiomics": "false"}, {"standardised": True, "pyradiomics": False}),
        ("radiomics", {"standardised": True}, {"standardised": True}),
        ("ae", {"model": "folder/ae.safetensors"}, {"model": Path("folder/ae.safetensors")}),
        ("direct", {}, {}),
    ],
)
def test_options_are_read_from_text(name, text, value):
    assert parse_strategy_options(name, text) == value


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ds32", {"rerank": "many"}, "rerank of the strategy ds32 is a whole number of at least 0, not 'many'"),
        ("ds32", {"rerank": -1}, "a whole number of at least 0, not -1"),
        ("ds32", {"rerank": True}, "a whole number of at least 0, not True"),
        ("ds32", {"rerank": 2.5}, "a whole number of at least 0, not 2.5"),
        ("radiomics", {"standardised": "perhaps"}, "standardised of .* is true or false, not 'perhaps'"),
        ("radiomics", {"standardised": 2}, "true or false, not 2"),
        ("vae", {"model": " "}, "the path of a file, not ' '"),
        ("ds32", {"standardised": "true"}, "ds32 has no option 'standardised'; it accepts rerank"),
        ("direct", {"rerank": "5"}, "direct has no option 'rerank'; it accepts none"),
        ("direct", {"database": "other.h5"}, "direct has no option 'database'"),
        ("guess", {}, "no strategy 'guess'; choose one of direct, "),
    ],
)
def test_wrong_options_are_refused_in_a_sentence(name, options, message, small_database):
    with pytest.raises(InputError, match=message):
        parse_strategy_options(name, options)
    with pytest.raises(InputError, match=message):
        create_strategy(name, small_database, **options)


def test_progress_is_no_option():
    with pytest.raises(InputError, match="no option 'progress'"):
        parse_strategy_options("ds32", {"progress": "yes"})


@pytest.mark.parametrize("name", RERANKED)
def test_reranking_changes_the_order_to_that_of_the_exact_dice(name, small_database, user_cache):
    query = query_between_entries(small_database)
    plain = create_strategy(name, small_database).query(query, top=30)
    reranked = create_strategy(name, small_database, rerank="30").query(query, top=30)
    by_dice = sorted(plain, key=lambda match: (-match.dice_sum, match.entry))
    assert [match.entry for match in reranked] == [match.entry for match in by_dice]
    assert [match.entry for match in reranked] != [match.entry for match in plain]
    assert [match.score for match in reranked] == [match.dice_sum for match in reranked]


def test_the_example_of_contributing_is_a_strategy(small_database, own_registry):
    section = CONTRIBUTING.read_text(encoding="utf-8").partition("## Adding a strategy")[2].partition("\n## ")[0]
    (example,) = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    exec(compile(example, "CONTRIBUTING.md", "exec"), {"__name__": "example"})
    name = strategy_names()[-1]
    assert name == "nearest-volume"
    query = query_between_entries(small_database)
    away = np.abs(small_database.whole.volume - query.whole.sum())
    expected = np.argsort(away, kind="stable")[:10].tolist()
    assert [match.entry for match in create_strategy(name, small_database).query(query, top=10)] == expected
    reranked = create_strategy(name, small_database, rerank=10).query(query, top=10)
    assert sorted(match.entry for match in reranked) == sorted(expected)
    assert [match.dice_sum for match in reranked] == sorted((match.dice_sum for match in reranked), reverse=True)
    with pytest.raises(InputError, match="nearest-volume has no option 'depth'"):
        create_strategy(name, small_database, depth=3)
