"""The documents as a site, without building it: links lead somewhere, pages are reached, and names, fields and messages
are those of the software.
"""

import ast
import importlib.util
import json
import re
from dataclasses import fields, replace
from functools import cache
from pathlib import Path

import pytest
from made_up_results import assimilated_result

import TumorQueryLib
from TumorQueryLib.anatomy.patient_brain import PatientBrain
from TumorQueryLib.base.plan_choices import PlanChoices
from TumorQueryLib.cli import make_parser
from TumorQueryLib.estimates.sensitivity import SensitivityRow
from TumorQueryLib.jobs import JOBS
from TumorQueryLib.results.plan import plan
from TumorQueryLib.worker import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
#: Tables that studies have written: no pages.
PAGES = [path for path in sorted(DOCS.rglob("*.md")) if "evaluation" not in path.relative_to(DOCS).parts[:-1]]
OTHERS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]


@cache
def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def prose_of(path: Path) -> str:
    """A page without its code blocks, whose lines may begin with # or hold brackets."""
    return re.sub(r"^```.*?^```", "", text_of(path), flags=re.DOTALL | re.MULTILINE)


@cache
def anchors_of(path: Path) -> set[str]:
    """What headings of a page are called in a link, as GitHub and the site do it."""
    headings = re.findall(r"^#+ (.+)$", prose_of(path), re.MULTILINE)
    bare = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in bare}


@pytest.mark.parametrize("path", [*PAGES, *OTHERS], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(path):
    lost = []
    for target, anchor in re.findall(r"\]\((?![a-z]+:)([^)#\s]*)(#[^)\s]*)?\)", prose_of(path)):
        place = (path.parent / target).resolve() if target else path
        if not place.exists() or (anchor and place.suffix == ".md" and anchor[1:] not in anchors_of(place)):
            lost.append(target + anchor)
    assert lost == []


def test_no_line_of_prose_is_lost():
    """The site takes a line that begins with a per cent sign for a comment, which a line's wrapping can make."""
    pages = [*PAGES, *(DOCS / "tutorials").glob("*.py")]
    assert not [path.name for path in pages if re.search(r"^(# )? *% ", prose_of(path), re.MULTILINE)]


def test_every_page_is_reached_from_the_first():
    """By the tables of contents, which are the site's menus."""

    def below(path: Path) -> set[Path]:
        listed = re.findall(r"^```\{toctree\}\n(?::\w+:.*\n)*\n(.*?)^```", text_of(path), re.DOTALL | re.MULTILINE)
        lines = [line for block in listed for line in block.splitlines() if line and "<http" not in line]
        names = [re.sub(r"^.* <(.*)>$", r"\1", line) for line in lines]
        pages = {(path.parent / f"{name}{'' if name.endswith('.py') else '.md'}").resolve() for name in names}
        return pages.union(*(below(page) for page in pages if page.suffix == ".md"))

    tutorials = set((DOCS / "tutorials").glob("*.py"))
    assert below(DOCS / "index.md") | {DOCS / "index.md"} == {*PAGES, *tutorials}


def test_the_reference_has_every_public_name_once():
    listed = [
        name
        for path in sorted((DOCS / "reference").glob("*.md"))
        for name in re.findall(r"^\.\. auto\w+:: (\w+)$", text_of(path), re.MULTILINE)
    ]
    assert sorted(listed) == sorted(name for name in TumorQueryLib.__all__ if name != "__version__")


@pytest.mark.slow
def test_result_json_s_fields_are_described(synthetic_patient):
    """Of a result that has all that can be asked for: no field and no file without its name on the page."""
    row = SensitivityRow("grey matter ten times slower", (2.0,), (15.0,), 1.0, 2.0, 3.0, 0.05, 1.6)
    patient = synthetic_patient(cavity=synthetic_patient(tumour_centre=(-20.0, 10.0, 5.0)).core)
    result = assimilated_result(patient, sensitivity=(row,), brain=PatientBrain("extracted"))
    result = replace(result, plans=plan(result))
    content = json.loads(json.dumps(result.to_json()))

    def names(value: object) -> set[str]:
        if isinstance(value, dict):
            by_name = ("estimates", "timings_s", "alignment", "class_means", "volumes_ml", "overlap_with_atlas")
            inner = [names(one) for key, one in value.items() if key not in by_name]
            inner += [names(one) for key in by_name for one in dict(value.get(key) or {}).values()]
            return set(value).union(*inner)
        return set().union(*map(names, value)) if isinstance(value, list) else set()

    described = set(re.findall(r"`(\w+)`", text_of(DOCS / "reference" / "result-json.md")))
    assert {"effective_observations", "sensitivity", "brain", "cavity", "density_draws"} < names(content)
    assert names(content) - described == set()


def test_every_job_of_the_worker_is_described():
    """Each in a row, in the order of the refusal; that of a plan has all its choices."""
    page = text_of(DOCS / "reference" / "worker.md")
    rows = dict(re.findall(r"^\| `(\w+)` \|(.*)$", page, re.MULTILINE))
    assert tuple(rows) == COMMANDS
    assert set(rows) == set(JOBS)
    assert {one.name for one in fields(PlanChoices)} <= set(re.findall(r"`(\w+)`", rows["plan"]))


def sentences_of(path: Path) -> set[str]:
    """The texts in a Python file, with dots for what is filled in."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            found.add("".join(str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("page", ["troubleshooting.md", "slicer-module.md"])
def test_every_message_is_one_of_the_software_s(page):
    said = [
        sentence
        for folder in ("TumorQueryLib", "TumorQuery")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for sentence in sentences_of(path)
        if len(sentence) > 15
    ]
    if page == "troubleshooting.md":
        messages = re.findall(r"^### (.+)$", prose_of(DOCS / page), re.MULTILINE)
    else:
        messages = re.findall(r'^\*\*"(.+?)"\*\*', prose_of(DOCS / page), re.MULTILINE)
    assert len(messages) >= 6
    unknown = []
    for message in messages:
        parts = [part.strip(" .") for part in message.split("...") if part.strip(" .")]
        pattern = re.compile(".*?".join(map(re.escape, parts)), re.DOTALL)
        if not any(pattern.search(sentence) for sentence in said):
            unknown.append(message)
    assert unknown == []


@pytest.fixture(scope="module")
def configuration():
    """The configuration of the site, as a module."""
    for package in ("sphinx", "latex2mathml"):
        pytest.importorskip(package, reason="the group docs of pyproject.toml is not installed")
    found = importlib.util.spec_from_file_location("site_configuration", DOCS / "conf.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_every_picture_of_the_panel_s_tutorial_is_drawn_by_its_script():
    script = ast.parse(text_of(ROOT / "scripts" / "make_panel_pictures.py"))
    drawn = [node.value.elts[0].value for node in ast.walk(script) if isinstance(node, ast.Yield)]
    assert re.findall(r"<!-- picture (\w+) ", text_of(DOCS / "slicer-tutorial.md")) == drawn


def test_the_panel_s_tutorial_has_all_its_pictures_or_says_that_they_are_missing(configuration, tmp_path):
    text = text_of(DOCS / "slicer-tutorial.md")
    without = configuration.with_pictures(text, tmp_path)
    assert configuration.WITHOUT_PICTURES in without
    assert "![" not in without
    names = re.findall(r"<!-- picture (\w+) ", text)
    for name in names:
        (tmp_path / f"{name}.png").touch()
    page = configuration.with_pictures(text, tmp_path)
    assert "<!--" not in page
    assert configuration.WITHOUT_PICTURES not in page
    shown = re.findall(r"!\[[^\]]+\]\((.+)\)", page)
    assert [(DOCS / path).resolve() for path in shown] == [tmp_path / f"{name}.png" for name in names]


def test_the_commands_page_names_every_command_and_argument(configuration):
    page = configuration.commands_as_markdown(make_parser())
    for words in ("tumorquery infer", "tumorquery bench query", "tumorquery doctor"):
        assert re.search(rf"^#+ {words}$", page, re.MULTILINE), words
    for argument in (
        "`--labels CONVENTION`",
        "`--refine {none,atlas,patient}`",
        r"`FILE.csv\|FOLDER`",
        "`--uncertainty`",
    ):
        assert f"| {argument} |" in page, argument
