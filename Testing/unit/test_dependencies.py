"""The versions that the project promises to work with are those that are tested."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUN_TIME = ("dependencies", "learned", "distributed", "dicom")


def bounds() -> dict[str, str]:
    """Name and lower bound of what the library needs; pyradiomics is built from source in one version only."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lists = [re.search(rf"^{name} = \[(.*?)\]", project, re.DOTALL | re.MULTILINE)[1] for name in RUN_TIME]
    return dict(re.findall(r'"([\w-]+)>=([\d.]+)"', "".join(lists)))


def test_the_lowest_versions_are_the_bounds():
    constraints = (ROOT / "Testing" / "constraints-lowest.txt").read_text(encoding="utf-8")
    lowest = dict(re.findall(r"^([\w-]+)==([\d.]+)$", constraints, re.MULTILINE))
    assert set(lowest) == set(bounds())
    for name, bound in bounds().items():
        released = bound.split(".")
        assert lowest[name].split(".")[: len(released)] == released, f"{name}>={bound} is tested with {lowest[name]}"


def test_the_tests_run_with_versions_that_are_allowed():
    constraints = (ROOT / "Testing" / "constraints.txt").read_text(encoding="utf-8")
    for name, version in re.findall(r"^([\w-]+)==([\d.]+)", constraints, re.MULTILINE):
        bound = bounds().get(name, "0")
        assert [int(part) for part in version.split(".")] >= [int(part) for part in bound.split(".")], name
