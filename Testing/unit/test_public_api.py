"""What `import TumorQueryLib` costs and offers."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

import TumorQueryLib

HEAVY = ("torch", "numba", "h5py", "SimpleITK", "matplotlib", "radiomics", "scipy", "dask")


def modules_after(code: str) -> set[str]:
    """Top-level modules that a new process has loaded after running some code."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sorted(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.split(".")[0] for name in done.stdout.split()}


def test_importing_the_library_loads_nothing_heavy():
    assert not modules_after("import TumorQueryLib") & set(HEAVY)


def test_the_geometry_alone_needs_no_numba_and_no_hdf5():
    loaded = modules_after("from TumorQueryLib import Atlas, Grid, Volume")
    assert not loaded & {"torch", "numba", "h5py", "matplotlib", "radiomics"}


@pytest.mark.parametrize("name", TumorQueryLib.__all__)
def test_every_public_name_is_there_and_described(name):
    value = getattr(TumorQueryLib, name)
    if name != "__version__":
        assert value.__doc__, f"{name} has no docstring"
    assert name in dir(TumorQueryLib)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Tumour'"):
        TumorQueryLib.Tumour  # noqa: B018


def test_the_library_knows_nothing_of_slicer():
    sources = [
        importlib.util.find_spec(module.name).origin
        for module in pkgutil.walk_packages(TumorQueryLib.__path__, "TumorQueryLib.")
        if not module.name.startswith("TumorQueryLib.Resources")
    ]
    assert len(sources) > 10
    for source in sources:
        with open(source, encoding="utf-8") as file:
            imported = [
                line.split()[1].split(".")[0] for line in file if line.lstrip().startswith(("import ", "from "))
            ]
        assert not set(imported) & {"slicer", "qt", "ctk", "vtk"}, source
