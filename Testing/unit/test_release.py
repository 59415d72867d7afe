"""What a release is made of agrees with itself: one version everywhere, forms that name what exists."""

import re
from pathlib import Path

import pytest

from TumorQueryLib.base.version import __version__
from TumorQueryLib.cli import make_parser

ROOT = Path(__file__).resolve().parents[2]


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_version_is_the_same_wherever_it_stands():
    newest, state = re.search(r"^## (\S+) \((.*?)\)$", text_of("CHANGELOG.md"), re.MULTILINE).groups()
    assert newest == __version__
    assert state == "unreleased" or re.fullmatch(r"\d{4}-\d{2}-\d{2}", state)
    citation = text_of("CITATION.cff")
    assert re.search(r"^version: (\S+)$", citation, re.MULTILINE)[1] == __version__
    dated = re.search(r"^date-released: (\S+)$", citation, re.MULTILINE)
    assert (dated[1] if dated else "unreleased") == state


def test_the_changelog_s_versions_fall():
    versions = re.findall(r"^## (\d+)\.(\d+)\.(\d+) \(", text_of("CHANGELOG.md"), re.MULTILINE)
    numbers = [tuple(map(int, version)) for version in versions]
    assert numbers == sorted(numbers, reverse=True)
    assert re.findall(r"^## ", text_of("CHANGELOG.md"), re.MULTILINE) == ["## "] * len(numbers)


def test_pre_commit_runs_the_versions_of_the_tests():
    pinned = dict(re.findall(r"^([\w-]+)==([\d.]+)", text_of("Testing/constraints.txt"), re.MULTILINE))
    hooks = text_of(".pre-commit-config.yaml")
    revisions = dict(re.findall(r"repo: https://github.com/\S+/(\S+)\n +rev: v(\S+)", hooks))
    assert revisions == {"ruff-pre-commit": pinned["ruff"], "mirrors-mypy": pinned["mypy"]}


def test_the_forms_and_workflows_name_what_exists():
    """Targets of make, commands and files that they tell people or machines to use."""
    targets = re.findall(r"^([\w-]+):", text_of("Makefile"), re.MULTILINE)
    commands = make_parser().format_help()
    files = [*(ROOT / ".github").rglob("*.yml"), *(ROOT / ".github").rglob("*.md"), ROOT / "SECURITY.md"]
    assert len(files) >= 8
    named = {path: path.read_text(encoding="utf-8") for path in files}
    for path, text in named.items():
        for target in re.findall(r"make ([a-z][\w-]+)", text):
            assert target in targets, (path, target)
        for command in re.findall(r"tumorquery\"? ([a-z]+)|TumorQueryLib ([a-z]+)", text):
            assert re.search(rf"^ +{''.join(command)} ", commands, re.MULTILINE), (path, command)
        for file in re.findall(r"\b(?:docs|scripts|Testing)/[\w./-]+\w", text):
            assert (ROOT / file).exists(), (path, file)
    assert "doctor" in named[ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml"]


def test_the_github_files_are_yaml():
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    for path in [*(ROOT / ".github").rglob("*.yml"), ROOT / ".pre-commit-config.yaml", ROOT / "CITATION.cff"]:
        assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict), path


def test_the_citation_is_the_paper_s():
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    citation = yaml.safe_load(text_of("CITATION.cff"))
    paper = citation["preferred-citation"]
    assert paper["title"] in " ".join(text_of("README.md").replace("*", "").split())
    assert paper["doi"].endswith("2205.04550")
    # What is bundled of others says under which terms.
    assert all("license" in source or "terms" in source["notes"] for source in citation["references"])
