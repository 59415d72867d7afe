"""The figures of README and documents are listed with what makes them; those that cost nothing are counted again."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "Testing" / "verification"))

from claims import CLAIMS  # noqa: E402
from quick import CHECKS, Compared, figures  # noqa: E402


def text_of(name: str) -> str:
    return " ".join((ROOT / name).read_text(encoding="utf-8").split())


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: f"{Path(claim.document).stem}: {claim.words[:30]}")
def test_a_claim_stands_in_its_document(claim):
    assert claim.words in text_of(claim.document)
    assert claim.quick == "" or claim.quick in CHECKS
    script = re.match(r"python ((?:scripts|Testing)/[\w/.]+)", claim.command)
    assert script is None or (ROOT / script[1]).exists()


def test_every_check_belongs_to_a_claim():
    assert {claim.quick for claim in CLAIMS} - {""} == set(CHECKS)


def test_readme_claims_nothing_that_is_not_listed():
    """Numbers with a unit of something measured, and decimals as results have them."""
    readme = re.sub(r"```.*?```", "", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    readme = " ".join(readme.split())
    listed = " ".join(claim.words for claim in CLAIMS if claim.document == "README.md")
    for block in re.findall(r"```\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL):
        readme += " " + " ".join(line.partition("#")[2] for line in block.splitlines())
    measured = re.findall(
        r"(?<![\w.])(\.\d{3,}|[\d,.]+ (?:ms|seconds|minutes|CPU seconds|MB|GB|tumours|entries|patients)\b)", readme
    )
    assert len(measured) >= 4
    assert [one for one in measured if one not in listed] == []


def test_the_page_is_the_list_s():
    import importlib.util

    found = importlib.util.spec_from_file_location("verification", ROOT / "Testing" / "verification" / "__main__.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    assert (ROOT / "docs" / "verification.md").read_text(encoding="utf-8") == module.page()


@pytest.mark.parametrize("name", ["starter", "models", "tissue", "density", "known truth"])
def test_what_costs_nothing_agrees(name):
    compared = list(CHECKS[name]())
    assert compared
    assert [one for one in compared if not one.agrees] == []


def test_a_figure_outside_of_its_tolerance_does_not_agree():
    assert not Compared("README.md", "", 2.0, 2.6, 1.5, 2.5).agrees
    assert not Compared("README.md", "", 2.0, float("nan"), 1.5, 2.5).agrees
    with pytest.raises(SystemExit, match="mend"):
        figures("README.md", r"there is no such sentence (\d+)")
