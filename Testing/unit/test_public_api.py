"""What `import TumorQueryLib` costs and offers, and what is promised to stay: a change here is a decision."""

import collections.abc
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import TumorQueryLib

HEAVY = ("torch", "numba", "h5py", "SimpleITK", "matplotlib", "radiomics", "scipy", "dask")


def modules_after(code: str) -> set[str]:
    """Modules that a new process has loaded after running some code."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sorted(sys.modules))"],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return set(done.stdout.split())


def test_importing_the_library_loads_nothing_heavy():
    assert not modules_after("import TumorQueryLib") & set(HEAVY)


def test_the_geometry_alone_needs_no_numba_and_no_hdf5():
    loaded = modules_after("from TumorQueryLib import Atlas, Grid, Volume")
    assert not loaded & {"torch", "numba", "h5py", "matplotlib", "radiomics"}


@pytest.mark.slow
def test_a_job_begins_without_what_only_some_need():
    """A cohort starts a process for each patient."""
    loaded = modules_after("import TumorQueryLib.worker, TumorQueryLib.jobs")
    assert not loaded & {"torch", "matplotlib", "scipy.stats", "distributed"}


#: Every public name. A name that goes or comes breaks or binds users.
PUBLIC = """
Anatomy Atlas Cancelled DatabaseError DensityDraws Estimate Fit Grid GrowthParameters InputError Match Method
MissingDependencyError OutputError Patient Plan PlanChoices Plans Progress Refinement Registration Result SavedResult
Tissue TumorDatabase TumorMasks TumorQueryError Uncertainty Volume __version__ assimilate build_database
create_strategy estimate_uncertainty evaluate export_dicom grow_trajectory infer plan read_result refine register
register_strategy run_cohort sample_synthetic simulate strategy_names
"""

#: Arguments of what is frozen, with their defaults; `progress` stands for the one that every long function has.
SIGNATURES = {
    "Grid": "(shape, affine)",
    "Volume": "(array, grid)",
    "Atlas": "(name, grid, white_matter, grey_matter, csf, t1, licence, attribution)",
    "Atlas.load": "(name='SRI24')",
    "Patient": (
        "(*, t1gd, core, whole, flair=None, t1=None, brain_mask=None, cavity=None, tissue_maps=None, labels=None, "
        "inputs=(), warnings=(), segmentation_on=None, aligned=False)"
    ),
    "Patient.load": (
        "(t1gd=None, flair=None, t1=None, *, segmentation=None, core=None, whole=None, labels=None, brain_mask=None, "
        "cavity=None, white_matter=None, grey_matter=None, csf=None, study=None, segmentation_on=None)"
    ),
    "GrowthParameters": "(seed, diffusivity, proliferation, duration)",
    "Match": "(entry, dice_core, dice_whole, score)",
    "TumorDatabase.open": "(name_or_path='starter', *, memory_limit=None)",
    "TumorDatabase.parameters": "(self, entry)",
    "TumorDatabase.close": "(self)",
    "Method": (
        "(database='starter', atlas=None, strategy='direct', strategy_options=<factory>, registration='deformable', "
        "top=15, refine='patient', refine_solves=120, refine_seconds=None, foci='auto', density='auto', "
        "uncertainty=False, level=0.05, tissue='atlas', sensitivity=False, plan=False, margin=15.0, volume='same', "
        "barrier='brain', align=True)"
    ),
    "PlanChoices": ("(margin=15.0, volume='same', barrier='brain', smallest_part_ml=1.0, share=0.95, probability=0.9)"),
    "plan": "(result, choices=None, *, cavity=None, progress)",
    "Method.from_json": "(choices)",
    "Method.as_json": "(self)",
    "infer": "(patient, method=None, *, database=None, atlas=None, progress)",
    "assimilate": "(model, observed, observed_in_anatomy, thresholds)",
    "estimate_uncertainty": ("(model, assimilated, observed_in_anatomy, thresholds, *, level=0.05, progress)"),
    "Uncertainty.band": "(self, confidence=0.9)",
    "Uncertainty.draw": "(self, count=32, random_seed=0)",
    "SavedResult.uncertainty_map": "(self, name)",
    "Result.write": "(self, folder, *, progress)",
    "Result.to_json": "(self)",
    "read_result": "(folder)",
    "SavedResult.density_of": "(self, estimate)",
    "run_cohort": "(path, out, *, method=None, workers=1, dask=None, progress)",
    "evaluate": (
        "(database, *, out, strategies, synthetic=1000, cohort=None, registration='deformable', random_seed=2022, "
        "atlas=None, progress)"
    ),
    "export_dicom": "(result, series, out, *, t1gd=None, progress)",
    "register_strategy": "(name, info=None)",
    "strategy_names": "()",
}

#: What a user may read from what the library returns.
ATTRIBUTES = {
    "Grid": (
        "affine around axes_in centre cropped isotropic isotropic_like matches moved shape shares_lattice spacing "
        "to_index to_ras voxel_volume_ml"
    ),
    "Volume": "array grid",
    "Match": "dice_core dice_sum dice_whole entry score",
    "GrowthParameters": "diffusivity duration from_identifiable infiltration_length proliferation rho_t seed",
    "Estimate": (
        "anatomy as_json density fit fit_in_anatomy in_patient infiltration_lengths_mm name of or_better parameters "
        "residual_rms"
    ),
    "Fit": "as_json dice_core dice_sum dice_whole from_json observed_ml of predicted_ml quality",
    "Result": (
        "alignment brain brain_on_t1gd cavity chosen core database density drawn_densities estimate estimates "
        "has_draws matched_parameters matches method model patient plans query refinement regions registration "
        "segmentation sensitivity thresholds timings tissue to_json uncertainty warnings whole write"
    ),
    "SavedResult": (
        "cavity chosen content core density density_of drawn_densities draws folder has_draws matched_parameters "
        "matches plan_cavity plans segmentation space thresholds tissue uncertainty uncertainty_map warnings whole"
    ),
    "Plans": (
        "as_json cavity cavity_ml choices comparison estimate guidelines lowest_density masks model probable sentences "
        "standard standard_title warnings"
    ),
    "Plan": "as_json cells_outside cells_outside_band mask tissues_ml volume_ml",
    "DensityDraws": ("cells density discrepancy grid jacobian load log_odds made parameters save stride"),
    "Uncertainty": (
        "anatomy as_json band correction_share density deviation discrepancy discrepancy_deviation draw "
        "drawn_densities jacobian length_interval level log_odds mean model probability residual_rms rho_t_interval sd "
        "sentences spreads thresholds volume_interval volume_ml"
    ),
}

ERRORS = {
    "TumorQueryError": Exception,
    "InputError": TumorQueryLib.TumorQueryError,
    "DatabaseError": TumorQueryLib.TumorQueryError,
    "OutputError": TumorQueryLib.TumorQueryError,
    "MissingDependencyError": TumorQueryLib.TumorQueryError,
    "Cancelled": BaseException,
}


def signature_of(path: str) -> str:
    """Arguments and defaults of a public name, without annotations."""
    value = TumorQueryLib
    for name in path.split("."):
        value = getattr(value, name)
    bare = [
        parameter.replace(
            annotation=parameter.empty,
            default=parameter.empty if parameter.name in ("progress", "strategies") else parameter.default,
        )
        for parameter in inspect.signature(value).parameters.values()
    ]
    return str(inspect.Signature(bare))


def test_the_public_names_are_these():
    assert sorted(TumorQueryLib.__all__) == sorted(PUBLIC.split())


@pytest.mark.parametrize("path", SIGNATURES)
def test_a_frozen_signature_is_what_it_was(path):
    assert signature_of(path) == SIGNATURES[path]


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_the_attributes_of_what_is_returned_are_these(name):
    cls = getattr(TumorQueryLib, name)
    found = {attribute for attribute in (*dir(cls), *cls.__dataclass_fields__) if not attribute.startswith("_")}
    assert sorted(found) == ATTRIBUTES[name].split()


@pytest.mark.parametrize("name", ERRORS)
def test_errors_derive_from_what_users_catch(name):
    assert getattr(TumorQueryLib, name).__bases__ == (ERRORS[name],)


def test_progress_is_a_fraction_and_a_message():
    assert TumorQueryLib.Progress == collections.abc.Callable[[float, str], None]


MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(TumorQueryLib.__path__, "TumorQueryLib.")
    if not module.name.startswith("TumorQueryLib.Resources") and not module.name.endswith("__main__")
)


def public_functions(module):
    """Functions, methods and constructors that a module defines under a public name."""
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(value):
            yield name, value
        elif inspect.isclass(value):
            for method, held in vars(value).items():
                function = getattr(held, "__func__", held)
                if inspect.isfunction(function) and (method == "__init__" or not method.startswith("_")):
                    yield f"{name}.{method}", function


# The module of progress itself handles one as its object.
@pytest.mark.parametrize("name", [name for name in MODULES if name != "TumorQueryLib.base.progress"])
def test_progress_is_given_by_name(name):
    if name.endswith(".networks"):
        pytest.importorskip("torch", reason="the extra 'learned' is not installed: no torch")
    by_place = [
        function_name
        for function_name, function in public_functions(importlib.import_module(name))
        if (progress := inspect.signature(function).parameters.get("progress")) is not None
        and progress.kind is not progress.KEYWORD_ONLY
    ]
    assert by_place == []


@pytest.mark.parametrize("name", TumorQueryLib.__all__)
def test_every_public_name_is_there_and_described(name):
    value = getattr(TumorQueryLib, name)
    if name not in ("__version__", "Progress"):  # a text, and an alias
        assert value.__doc__, f"{name} has no docstring"
    assert name in dir(TumorQueryLib)


def described_names():
    """Import paths of the public classes and functions, and of the classes' public methods and properties."""
    for name in TumorQueryLib.__all__:
        value = getattr(TumorQueryLib, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            path = f"{value.__module__}.{value.__qualname__}"
            yield path
            for held_name, held in vars(value).items() if inspect.isclass(value) else ():
                if not held_name.startswith("_") and getattr(held, "__doc__", None) and not isinstance(held, type):
                    function = getattr(held, "__func__", held)
                    if inspect.isfunction(function) or hasattr(held, "fget") or hasattr(held, "attrname"):
                        yield f"{path}.{held_name}"


@pytest.mark.slow
def test_docstrings_of_the_public_names_are_numpydoc():
    """The checks that pyproject.toml names: parameters that are not there, sections in the wrong form and order."""
    validate = pytest.importorskip("numpydoc.validate", reason="numpydoc (group test) is not installed")
    project = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^\[tool.numpydoc_validation\]\n.*?^checks = \[(.*?)\]", project, re.DOTALL | re.MULTILINE)[1]
    first, *left_out = re.findall(r"\w+", listed)
    assert first == "all"
    paths = list(described_names())
    assert len(paths) > 100
    found = [(path, error) for path in paths for error in validate.validate(path)["errors"] if error[0] not in left_out]
    assert found == []


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Tumour'"):
        TumorQueryLib.Tumour  # noqa: B018


def test_the_library_knows_nothing_of_slicer():
    sources = [importlib.util.find_spec(name).origin for name in MODULES]
    assert len(sources) > 10
    for source in sources:
        with open(source, encoding="utf-8") as file:
            imported = [
                line.split()[1].split(".")[0] for line in file if line.lstrip().startswith(("import ", "from "))
            ]
        assert not set(imported) & {"slicer", "qt", "ctk", "vtk"}, source
