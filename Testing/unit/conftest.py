"""What the tests share: the real data's folder, an atlas, a database, a small synthetic patient."""

import os
from pathlib import Path

import pytest
from awkward_grids import AWKWARD_AFFINES
from property_examples import load_profile

from TumorQueryLib.geometry.grid import Grid

load_profile()


def pytest_collection_modifyitems(items):
    """Slow tests first in each of the halves that two processes begin with: short ones are left to share at the end."""
    slow = [item for item in items if item.get_closest_marker("slow")]
    fast = [item for item in items if not item.get_closest_marker("slow")]
    here, there = len(slow) // 2, len(fast) // 2
    items[:] = [*slow[:here], *fast[:there], *slow[here:], *fast[there:]]


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real data that the environment variable TUMORQUERY_TEST_DATA names."""
    named = os.environ.get("TUMORQUERY_TEST_DATA")
    if not named or not (Path(named) / "patients").is_dir():
        pytest.skip("needs real data: TUMORQUERY_TEST_DATA names no folder with 'patients' and 'atlas'")
    return Path(named)


@pytest.fixture(scope="session")
def atlas():
    """The bundled SRI24."""
    from TumorQueryLib.anatomy.atlas import Atlas

    return Atlas.load("SRI24")


@pytest.fixture(scope="session")
def small_database(atlas, tmp_path_factory):
    """A database of 64 tumours, built and opened."""
    from TumorQueryLib.database import TumorDatabase, build_database

    path = tmp_path_factory.mktemp("database") / "small.h5"
    build_database(path, atlas, 64, random_seed=3)
    with TumorDatabase.open(path) as database:
        yield database


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """The small world of `small_world.py`: an atlas folder of one's own, and the database that `build` grows in it."""
    from small_world import World

    return World.build(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def small_resources(tmp_path_factory):
    """The folder of bundled data in which an inference takes seconds, for TUMORQUERY_RESOURCES."""
    from small_world import write_resources

    return write_resources(tmp_path_factory.mktemp("bundled") / "resources")


@pytest.fixture(scope="session")
def refined(world):
    """A patient of the small world, refined in its own anatomy."""
    from small_world import world_patient

    from TumorQueryLib.inference import infer

    return infer(world_patient(), world.method())


@pytest.fixture
def registered():
    """The strategies that a test registers here are forgotten after it."""
    from TumorQueryLib.strategies import base

    tables = {
        name: table for name, table in vars(base).items() if isinstance(table, dict) and not name.startswith("__")
    }
    before = {name: dict(table) for name, table in tables.items()}
    yield base.register_strategy
    for name, table in tables.items():
        table.clear()
        table.update(before[name])


@pytest.fixture
def user_cache(tmp_path, monkeypatch):
    """An empty folder in place of the user's cache."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("TUMORQUERY_CACHE", str(folder))
    return folder


@pytest.fixture(params=sorted(AWKWARD_AFFINES))
def awkward_affine(request):
    """Each of AWKWARD_AFFINES in turn."""
    return AWKWARD_AFFINES[request.param]


@pytest.fixture(scope="session")
def synthetic_patient():
    """A factory of small patients: an ellipsoid of brain with a ball of tumour, on any grid."""
    from TumorQueryLib.inputs.patient import Patient
    from TumorQueryLib.studies.phantom import synthetic_volumes

    def make(
        grid: Grid | None = None, tumour_centre=(20.0, 10.0, 5.0), core_radius=10.0, whole_radius=18.0, **changes
    ) -> Patient:
        return Patient(**(synthetic_volumes(grid, tumour_centre, core_radius, whole_radius) | changes))

    return make
