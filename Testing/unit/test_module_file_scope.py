"""What the Extensions Index asks of a module's files: no package of others and no work at import."""

import ast
import sys
from pathlib import Path

import pytest

MODULE = Path(__file__).resolve().parents[2] / "TumorQuery"
FILES = sorted(MODULE.rglob("*.py"))
ALLOWED = {"slicer", "vtk", "qt", "ctk", "numpy", "scipy", "SimpleITK", "TumorQueryModule"} | set(
    sys.stdlib_module_names
)


def imported_names(tree: ast.Module) -> set[str]:
    names = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names


def is_declaration(node: ast.stmt) -> bool:
    """Imports, definitions, constants and the docstring; calls only where they make a constant."""
    if isinstance(node, ast.Import | ast.ImportFrom | ast.ClassDef | ast.FunctionDef):
        return True
    if isinstance(node, ast.Assign | ast.AnnAssign):
        return not any(isinstance(part, ast.Call) for part in ast.walk(node))
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_file_scope(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert imported_names(tree) <= ALLOWED
    assert [ast.unparse(node)[:80] for node in tree.body if not is_declaration(node)] == []


def test_no_numerics_of_the_library_in_the_module():
    """The module uses the library's file formats and its process, never its solver or queries."""
    used = {
        node.module
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("TumorQueryLib")
    }
    # What a good fit is, what a strategy needs, which files a run wrote, and what is installed, is said in one place.
    used -= {"TumorQueryLib.estimates.fit", "TumorQueryLib.strategies.base", "TumorQueryLib.results.folder"}
    used -= {"TumorQueryLib.doctor"}
    assert {name.split(".")[1] for name in used} <= {"base", "inputs", "cohort"}, used


def values_of(enumeration: str) -> set[str]:
    """Values of an enumeration of the module's choices, which cannot be imported without Slicer."""
    tree = ast.parse((MODULE / "TumorQueryModule" / "Choices.py").read_text(encoding="utf-8"))
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == enumeration)
    return {ast.literal_eval(node.value) for node in body if isinstance(node, ast.Assign)}


def test_choices_of_the_panel_are_those_of_the_library():
    from TumorQueryLib.base.method import FOCI, REFINEMENTS, REGISTRATIONS
    from TumorQueryLib.inputs.labels import CONVENTIONS
    from TumorQueryLib.strategies import strategy_names

    baselines = {"random-projection"}  # for evaluations, not for patients
    assert values_of("Strategy") == set(strategy_names()) - baselines
    assert values_of("RegistrationMode") == set(REGISTRATIONS)
    assert values_of("Refinement") == set(REFINEMENTS)
    assert values_of("Foci") == set(FOCI)
    assert values_of("LabelConvention") == {"", *CONVENTIONS}  # "" until the user has chosen
