"""Texts that a user of the module sees go through `_()`, in the form that Slicer's own tool finds them by.

The tool (Slicer's Utilities/Scripts/lupdate_preprocess.py) looks for `_(`, a quote, any text, the same quote and `)`
before it hands the file to Qt's lupdate, which knows no f-strings.
"""

import ast
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

MODULE = Path(__file__).resolve().parents[2] / "TumorQuery"
#: The command for many patients speaks English, as `tumorquery` does.
FILES = [path for path in sorted(MODULE.rglob("*.py")) if path.name != "batch.py"]
EXTRACTED = re.compile(r"""_\(\s*?(?P<quote>["']).+?(?P=quote)\s*?\)""", re.DOTALL)

#: What shows the text that it is given: attributes of widgets and of the module, and functions.
SHOWING_ATTRIBUTES = {"text", "toolTip", "placeholderText", "windowTitle", "title", "helpText", "acknowledgementText"}
SHOWING_CALLS = {
    *("setText", "setToolTip", "setPlaceholderText", "setWindowTitle", "setTitle", "SetTitleText", "setStatusTip"),
    *("addItem", "addItems", "insertItem", "setItemText", "setPlainText", "appendPlainText", "_appendLog", "_stopWork"),
    *("errorDisplay", "warningDisplay", "infoDisplay", "confirmOkCancelDisplay", "confirmYesNoDisplay"),
    *("tryWithErrorDisplay", "showStatusMessage", "getExistingDirectory", "getOpenFileName", "getSaveFileName"),
    *("AddEmptySegment", "ValueError", "RuntimeError", "TimeoutError", "DependencyError", "RunError", "SetDescription"),
}
#: Texts of several words that nobody reads, or that are names by which nodes are found again.
NOT_TRANSLATED = {
    "TumorQuery contributors",
    "PythonSlicer -m pip install",  # a command
    "python -m pip install",
    *("TumorQuery density", "TumorQuery uncertainty"),  # color tables
    "fraction of the largest possible density",  # the meaning of a coded unit
    *("Closed surface", "Binary labelmap"),  # representations of segmentations
    *("Sample T1Gd", "Sample FLAIR", "Sample segmentation"),  # nodes of the sample, in all languages
    *("Enhancing tumor", "Resection cavity"),  # segments that are known by their names
    *("grey matter 10 times slower", "grey matter 3 times slower", "white matter in the tumour"),  # of result.json
}
PROSE = re.compile(r"[A-Za-z]{2,}('s)?,? [a-zA-Z]{2,}")


def is_translation(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("_", "translate")


def not_extracted(source: str) -> list[str]:
    """Calls of `_()` that the tool passes by, or reads otherwise than Python does."""
    tree = ast.parse(source)
    within = {id(call) for text in ast.walk(tree) if isinstance(text, ast.JoinedStr) for call in ast.walk(text)}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "_"]
    wrong = []
    for call in calls:
        written = ast.get_source_segment(source, call)
        found = EXTRACTED.match(written)
        is_constant = len(call.args) == 1 and not call.keywords and isinstance(call.args[0], ast.Constant)
        if id(call) in within or not is_constant or found is None or found.end() != len(written):
            wrong.append(written)
    return wrong


def untranslated(source: str) -> list[str]:
    """Texts that are shown, and texts of several words wherever they stand, outside of `_()`."""
    tree = ast.parse(source)
    tests = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name.endswith("Test")]
    passed = {id(part) for test in tests for part in ast.walk(test)}
    shown: set[int] = set()
    for node in ast.walk(tree):
        if is_translation(node):
            passed |= {id(part) for part in ast.walk(node)}
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            passed.add(id(node.value))  # a docstring
        elif isinstance(node, ast.Call) and re.fullmatch(r"re\.\w+", ast.unparse(node.func)):
            passed.add(id(node.args[0]))
        called = getattr(node.func, "attr", getattr(node.func, "id", "")) if isinstance(node, ast.Call) else ""
        if called in SHOWING_CALLS:
            shown |= {
                id(part) for value in (*node.args, *(one.value for one in node.keywords)) for part in texts(value)
            }
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Attribute) and target.attr in SHOWING_ATTRIBUTES for target in targets):
            shown |= {id(part) for part in texts(node.value)}
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [
        node.value
        for node in constants
        if id(node) not in passed
        and node.value not in NOT_TRANSLATED
        and (is_sentence(node.value) or (id(node) in shown and is_word(node.value)))
    ]


def texts(value: ast.expr) -> list[ast.AST]:
    """The parts of an expression that become its text: none of what it is called, asked or looked up with."""
    if isinstance(value, ast.BinOp):
        return [*texts(value.left), *texts(value.right)]
    if isinstance(value, ast.BoolOp):
        return [part for one in value.values for part in texts(one)]
    if isinstance(value, ast.IfExp):
        return [*texts(value.body), *texts(value.orelse)]
    if isinstance(value, ast.JoinedStr):
        return list(value.values)
    if isinstance(value, ast.List | ast.Tuple):
        return [part for one in value.elts for part in texts(one)]
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
        return texts(value.func.value)  # of "...".format(...)
    return [value]


def is_word(text: str) -> bool:
    """Whether a user would read it: letters beyond markup, and beyond the codes of terminologies."""
    return re.search(r"[A-Za-z]{2,}", re.sub(r"<[^>]*>|&\w+;|\{[^}]*\}", "", text)) is not None


def is_sentence(text: str) -> bool:
    """Whether it reads as prose rather than as a pattern, a path, markup or a terminology entry."""
    bare = re.sub(r"<[^>]*(>|$)", "", text)  # of an f-string also the beginning of markup
    return PROSE.search(bare) is not None and not re.search(r"[\\^~|\[\]`]|\.\*|--|background-color", text)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_translated_text_is_extracted(path):
    assert not_extracted(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_text_for_the_user_is_translated(path):
    assert untranslated(path.read_text(encoding="utf-8")) == []


def test_no_text_of_the_panel_s_file_is_kept_from_translators():
    tree = ElementTree.parse(MODULE / "Resources" / "UI" / "TumorQuery.ui")
    kept = [element.text for element in tree.iter("string") if element.get("notr") == "true"]
    assert [text for text in kept if is_word(text or "")] == []


@pytest.mark.parametrize(
    "code",
    [
        '_(f"{count} matches")',
        '_("matches" + name)',
        "_(name)",
        '_("matches",)',
        '_("matches", "of a query")',
        """f"'{_('Refinement')}'\"""",
        "_(\"core \" 'and whole')",
        '_("core (" ") and whole")',
    ],
)
def test_what_the_tool_passes_by_is_found(code):
    assert len(not_extracted(f"x = {code}")) == 1


def test_what_the_tool_takes_is_left_alone():
    code = 'x = _("one") + _(\'two\').format(a=1) + _(\n    "three "\n    "and four (five)"\n)\nsuper().__init__("six")'
    assert not_extracted(code) == []


@pytest.mark.parametrize(
    "code",
    [
        'ui.applyButton.text = "Apply"',
        'ui.applyButton.toolTip = reason or "Apply"',
        'ui.label.text = _("Note:") + " see below"',
        'ui.label.text = f"Match {rank}"',
        'ui.label.text += "Match {rank}".format(rank=1)',
        'ui.comboBox.addItem("Deformable")',
        'slicer.util.errorDisplay(text, windowTitle="Error")',
        'raise ValueError("Empty")',
        'titles = {"model": "Model\'s plan"}',
        "def label():\n    return 'The best match'",
    ],
)
def test_what_is_not_translated_is_found(code):
    assert len(untranslated(code)) == 1


@pytest.mark.parametrize(
    "code",
    [
        'ui.applyButton.text = _("Apply")',
        'ui.label.text = "<br>".join(lines)',
        'ui.label.text = hints.get("core", "")',
        'ui.label.text = f"{minutes}:{seconds:02d}"',
        '"""The best match."""',
        'node.SetName("density.nrrd")',
        'self.parent.categories = [translate("qSlicerAbstractCoreModule", "Quantification")]',
    ],
)
def test_what_needs_no_translation_is_left_alone(code):
    assert untranslated(code) == []
