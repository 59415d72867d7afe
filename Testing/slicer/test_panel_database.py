"""The panel's database: the file, the starter, a build; and what errors of the library say in the panel."""

import ast
import re
import sys
from pathlib import Path

import pytest
import slicer
from harness.driving import click, process_events
from PySide6 import QtCore, QtTest

REPOSITORY = Path(__file__).resolve().parents[2]


def type_into(path_edit, text, *, after=None):
    """Type a text as a user does, at the end or after a number of letters."""
    edit = path_edit.comboBox().lineEdit()
    edit.setFocus()
    if after is not None:
        edit.setCursorPosition(after)
    QtTest.QTest.keyClicks(edit, text)


def clear(path_edit):
    edit = path_edit.comboBox().lineEdit()
    edit.selectAll()
    QtTest.QTest.keyClick(edit, QtCore.Qt.Key_Delete)


@pytest.fixture
def advanced(panel, monkeypatch):
    """The panel with its section Advanced open; no database is described, which would need a process."""
    monkeypatch.setattr(panel.widget._databaseRun, "start", lambda job: None)
    panel.ui.advancedCollapsibleButton.collapsed = False
    panel.ui.buildGroupBox.collapsed = False
    process_events()
    return panel


@pytest.fixture
def started(panel, monkeypatch):
    """The jobs that the panel starts, none of which runs."""
    jobs = []
    monkeypatch.setattr(panel.widget._run, "start", jobs.append)
    return jobs


def test_an_emptied_field_is_the_starter_again(advanced, tmp_path):
    ui, parameters = advanced.ui, advanced.widget._parameterNode
    file = tmp_path / "größer.h5"
    file.touch()
    ui.databasePathLineEdit.currentPath = str(file)
    assert parameters.method().database == str(file)
    clear(ui.databasePathLineEdit)
    assert parameters.method().database == "starter"
    parameters.top = 7
    assert ui.databasePathLineEdit.currentPath == ""
    assert ui.databasePathLineEdit.comboBox().lineEdit().placeholderText == "starter database"


def test_a_path_is_typed_in_the_middle(advanced):
    ui = advanced.ui
    ui.databasePathLineEdit.currentPath = "/data/.h5"
    type_into(ui.databasePathLineEdit, "abc", after=6)
    assert ui.databasePathLineEdit.currentPath == "/data/abc.h5"


def test_a_file_that_is_not_there_is_told(advanced):
    ui = advanced.ui
    click(ui.loadSampleButton)
    assert ui.applyButton.enabled
    type_into(ui.databasePathLineEdit, "/data/missing")
    assert not ui.applyButton.enabled
    assert "no database file /data/missing" in ui.applyButton.toolTip
    assert "no database file" in ui.databaseInfoLabel.text
    clear(ui.databasePathLineEdit)
    assert ui.applyButton.enabled


def test_a_path_that_no_system_takes_is_told_too(advanced):
    from TumorQueryModule.Choices import checkMethod

    ui, long = advanced.ui, "/data/" + 300 * "a" + ".h5"
    click(ui.loadSampleButton)
    for text, isOffered in ((long, True), ("~nobody of this name/new", False)):
        ui.databasePathLineEdit.comboBox().lineEdit().setText(text)
        assert not ui.applyButton.enabled
        assert f"no database file {text}" in ui.databaseInfoLabel.text
        ui.buildPathLineEdit.comboBox().lineEdit().setText(text)
        assert ui.buildButton.enabled == isOffered
        with pytest.raises(ValueError, match="no database file"):
            checkMethod(advanced.widget._parameterNode.method())


def test_a_build_needs_no_suffix_and_a_place(advanced, started, tmp_path):
    ui = advanced.ui
    assert not ui.buildButton.enabled
    type_into(ui.buildPathLineEdit, str(tmp_path / "new"))
    assert ui.buildButton.enabled
    click(ui.buildButton)
    assert started[-1].path == tmp_path / "new.h5"
    assert ui.buildPathLineEdit.comboBox().findText(str(tmp_path / "new")) >= 0  # the history
    for text in ("", "new", str(tmp_path)):
        ui.buildPathLineEdit.comboBox().lineEdit().setText(text)
        assert not ui.buildButton.enabled, text
        assert "folder" in ui.buildButton.toolTip


def test_a_build_that_ends_in_another_scene_is_chosen_there(advanced, tmp_path):
    file = tmp_path / "new.h5"
    file.touch()
    slicer.mrmlScene.Clear()
    process_events()
    advanced.widget._useBuiltDatabase(file)
    assert advanced.widget._parameterNode.databaseFile == str(file)
    assert advanced.ui.databasePathLineEdit.currentPath == str(file)


def sentences_of_the_library():
    """Every text of the library that speaks of an option of the command line, with the file that holds it."""
    found = []
    for path in sorted((REPOSITORY / "TumorQueryLib").rglob("*.py")):
        # The panel takes images of the scene: no study's folder and no cohort's. It has words of its own for doctor's.
        elsewhere = ("cli.py", "__main__.py", "cohort_folder.py", "doctor.py", "study.py", "study_table.py")
        if path.name in elsewhere or "studies" in path.parts:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        passed = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                passed |= {id(part) for part in node.values}
                text = "".join(part.value if isinstance(part, ast.Constant) else "X" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in passed:
                text = node.value
            else:
                continue
            if re.search(r"--[a-z]|`tumorquery|tumorquery [a-z]+ ", text):
                found.append(pytest.param(text, id=f"{path.stem}:{node.lineno}"))
    return found


@pytest.mark.slow
def test_there_are_such_sentences():
    assert len(sentences_of_the_library()) > 3


@pytest.mark.parametrize("sentence", sentences_of_the_library())
def test_no_option_of_the_command_line_reaches_the_panel(running, sentence):
    from TumorQueryModule.Texts import inWordsOfThePanel

    assert not re.search(r"--[a-z]|`tumorquery", inWordsOfThePanel(sentence)), inWordsOfThePanel(sentence)


@pytest.mark.parametrize("package", ["pyradiomics", "highdicom"])
def test_a_package_is_installed_into_slicer(running, package):
    from TumorQueryModule.Dependencies import howToInstall
    from TumorQueryModule.Texts import inWordsOfThePanel

    for quote in "'\"":
        sentence = f"Features need the package {package}: pip install {quote}tumorquery[extra]{quote}. Or none."
        assert inWordsOfThePanel(sentence) == f"Features need the package {package}: {howToInstall(package)}. Or none."


def test_no_extra_of_the_library_reaches_the_panel(running, monkeypatch):
    from TumorQueryLib.base.errors import MissingDependencyError
    from TumorQueryLib.strategies import radiomics
    from TumorQueryModule.Texts import inWordsOfThePanel

    monkeypatch.setitem(sys.modules, "radiomics.shape", None)  # as where the package is missing
    with pytest.raises(MissingDependencyError) as raised:
        radiomics._import_pyradiomics()
    shown = inWordsOfThePanel(str(raised.value))
    assert "tumorquery[" not in shown
    assert 'PythonSlicer -m pip install "pyradiomics"' in shown


@pytest.mark.parametrize(
    ("sentence", "shown"),
    [
        (
            "The best match fits poorly (Dice of the whole tumour 0.41); refine it (--refine patient), or query a "
            "larger database.",
            "refine it ('In the patient's own anatomy (recommended)' under 'Refinement'), or query",
        ),
        ("one tumour was grown; try two (--foci 2).", "try two ('Two' under 'Foci')."),
    ],
)
def test_a_remedy_names_the_choice_as_the_panel_shows_it(panel, sentence, shown):
    from TumorQueryModule.Texts import inWordsOfThePanel

    assert shown in inWordsOfThePanel(sentence)
    offered = set()
    for choices in (panel.ui.refinementComboBox, panel.ui.fociComboBox):
        offered |= {choices.itemText(number) for number in range(choices.count)}
    assert any(f"'{text}'" in shown for text in offered)


@pytest.mark.slow
def test_the_library_says_what_is_translated(running):
    """The sentences above are the library's own."""
    from TumorQueryLib.inference import MISSED

    texts = [sentence.values[0] for sentence in sentences_of_the_library()]
    assert MISSED["not tried"].endswith("try two (--foci 2)")
    assert sum("refine it (--refine patient)" in text for text in texts) == 2


def test_a_database_by_a_path_that_is_not_whole_is_refused(panel, tmp_path, monkeypatch):
    """The worker has a folder of its own, where the file would not be found."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.h5").touch()
    panel.widget._parameterNode.databaseFile = "own.h5"
    assert "is not complete" in panel.widget._parameterNode.missing()["database"]
    assert "is not complete" in panel.ui.databaseInfoLabel.text
    panel.widget._parameterNode.databaseFile = str(tmp_path / "own.h5")
    assert "database" not in panel.widget._parameterNode.missing()


def test_an_error_speaks_of_the_panel(panel, running):
    from TumorQueryModule.Worker import Outcome

    panel.widget._onRunFinished(Outcome("failed", "name the convention with labels (--labels): brats2018."))
    assert running.dialogs.shown == ["name the convention under 'Labels mean': brats2018."]
    assert panel.ui.statusLabel.text == running.dialogs.shown.pop()
