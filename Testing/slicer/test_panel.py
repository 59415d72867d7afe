"""The panel around a run: every button, what it says and what it keeps. No run is done to its end here."""

import ast
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import slicer
from harness.driving import child_processes, click, left_files, process_events, wait_until
from PySide6.QtCore import QPoint

HERE = Path(__file__).resolve().parent
UI_FILE = HERE.parents[1] / "TumorQuery" / "Resources" / "UI" / "TumorQuery.ui"


def is_idle(panel):
    return panel.widget._run.state.value == "idle"


def status(panel):
    return lambda: f"{panel.ui.statusLabel.text}\n{panel.ui.logTextEdit.plainText}"


def start_sample_run(panel, registration="Affine"):
    click(panel.ui.loadSampleButton)
    parameters = panel.widget._parameterNode
    parameters.alignImages = False
    parameters.registration = type(parameters.registration)[registration]
    click(panel.ui.applyButton)


def wait_for_progress(panel, value):
    wait_until(lambda: panel.ui.progressBar.value >= value or is_idle(panel), 600, status(panel))
    assert not is_idle(panel), status(panel)()


def test_every_button_is_clicked_in_a_test():
    buttons = {
        element.get("name") for element in ElementTree.parse(UI_FILE).iter("widget")
        if element.get("class") in ("QPushButton", "QToolButton")
    }  # fmt: skip
    clicked = set()
    for path in HERE.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "click":
                clicked.add(ast.unparse(node.args[0]).rpartition(".")[2])
    assert buttons <= clicked, f"never clicked: {buttons - clicked}"


def test_the_sections_stand_in_slicers_order(panel):
    ui = panel.ui
    order = (ui.inputsCollapsibleButton, ui.outputsCollapsibleButton, ui.advancedCollapsibleButton, ui.applyButton)
    heights = [widget.mapTo(panel.parent, QPoint(0, 0)).y() for widget in (*order, ui.resultCollapsibleButton)]
    assert heights == sorted(heights)
    assert ui.advancedCollapsibleButton.collapsed
    assert not ui.databasePathLineEdit.isVisible()
    assert ui.applyButton.text == "Apply"
    assert "Colors" in panel.parent_module.dependencies


def test_an_empty_panel_says_what_is_missing(panel):
    assert not panel.ui.applyButton.enabled
    assert "T1" in panel.ui.applyButton.toolTip
    assert "segmentation" in panel.ui.applyButton.toolTip
    assert panel.ui.t1gdHintLabel.isVisible()
    assert not panel.ui.flairHintLabel.isVisible()  # optional
    assert "not a medical device" in panel.ui.noticeLabel.text
    assert "not a medical device" in panel.parent_module.helpText
    citation = (HERE.parents[1] / "CITATION.cff").read_text(encoding="utf-8")
    assert "Ezhov" in panel.parent_module.acknowledgementText
    assert re.search(r"^ +title: (Casting .*)$", citation, re.MULTILINE)[1] in panel.parent_module.acknowledgementText


def test_one_click_loads_the_sample_case(panel, running):
    click(panel.ui.loadSampleButton)
    parameters = panel.widget._parameterNode
    chosen = (parameters.t1gdVolume, parameters.flairVolume, parameters.segmentation)
    assert [node is not None for node in chosen] == [True, True, True]
    assert panel.ui.t1gdSelector.currentNode() is parameters.t1gdVolume
    assert panel.ui.applyButton.enabled
    for name in ("t1gd", "segmentation"):
        assert getattr(panel.ui, f"{name}CheckLabel").text == "\N{CHECK MARK}"
    background = running.views["Red"].composite_node.GetBackgroundVolumeID()
    assert background == parameters.t1gdVolume.GetID()
    source = next(iter(slicer.modules.sampleDataSources["TumorQuery"]))
    assert Path(source["thumbnailFileName"]).is_file()


def test_buttons_lead_to_slicers_own_tools(panel, running):
    click(panel.ui.loadFilesButton)
    assert running.app.coreIOManager().opened_dialogs == ["add data"]
    click(panel.ui.dicomButton)
    click(panel.ui.segmentEditorButton)
    assert running.main_window.moduleSelector().selected == ["DICOM", "SegmentEditor"]


def test_the_log_can_be_copied(panel):
    panel.ui.logGroupBox.collapsed = False
    process_events()
    panel.widget._appendLog("a line with ü")
    click(panel.ui.copyLogButton)
    assert "a line with ü" in slicer.app.clipboard().text()


def test_a_diagnosis_of_the_installation_is_copied(panel):
    panel.ui.advancedCollapsibleButton.collapsed = False
    process_events()
    click(panel.ui.diagnosisButton)
    text = slicer.app.clipboard().text()
    assert re.search(r"^Slicer +5\.12\.3$", text, re.MULTILINE)
    assert re.search(r"^TumorQuery +\d", text, re.MULTILINE)
    assert re.search(r"^Databases/starter\.h5 +sha256 [0-9a-f]{16}$", text, re.MULTILINE)
    assert re.search(r"^highdicom +\S+: for ", text, re.MULTILINE)
    assert text in panel.ui.logTextEdit.plainText
    assert not panel.ui.logGroupBox.collapsed
    assert os.path.expanduser("~/") not in text


def test_a_diagnosis_names_what_installs_a_package_in_slicer(panel, monkeypatch):
    from TumorQueryLib import doctor
    from TumorQueryModule.Dependencies import BUNDLED_PACKAGES, EXPORT_REQUIREMENTS, LEARNED_REQUIREMENTS

    installed = doctor._version
    monkeypatch.setattr(doctor, "REQUIRED", dict.fromkeys(doctor.REQUIRED, "999"))
    monkeypatch.setattr(
        doctor, "_version", lambda name: None if name in doctor.optional_packages() else installed(name)
    )
    panel.ui.advancedCollapsibleButton.collapsed = False
    process_events()
    click(panel.ui.diagnosisButton)
    text = slicer.app.clipboard().text()
    lines = {line.split()[0]: line for line in text.splitlines()}
    for name in doctor.REQUIRED:
        assert "999 or later is needed" in lines[name]
        assert ("pip install" not in lines[name]) == (name in BUNDLED_PACKAGES)
        assert lines[name].endswith("update Slicer.") == (name in BUNDLED_PACKAGES)
    assert 'PythonSlicer -m pip install --upgrade "h5py>=999"' in lines["h5py"]
    for requirement in (*EXPORT_REQUIREMENTS, *LEARNED_REQUIREMENTS, "pyradiomics"):
        line = lines[requirement.split(">=")[0]]
        assert f'not installed (PythonSlicer -m pip install "{requirement}"): for ' in line
    assert "not installed (with the PyTorch extension): for " in lines["torch"]
    assert "tumorquery[" not in text
    assert not re.search(r"(?<!PythonSlicer )-m pip", text)


def test_a_label_map_needs_its_convention_and_a_segmentation_its_segments(panel):
    ui, parameters = panel.ui, panel.widget._parameterNode
    labels = slicer.util.addVolumeFromArray(
        np.ones((3, 3, 3), np.uint8), name="labels", nodeClassName="vtkMRMLLabelMapVolumeNode"
    )
    ui.segmentationSelector.setCurrentNode(labels)
    assert ui.labelConventionComboBox.isVisible()
    assert not ui.coreSegmentsSelector.isVisible()

    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Segmentation")
    for name in ("Enhancing tumor", "Edema"):
        segmentation.GetSegmentation().AddEmptySegment(name, name)
    ui.segmentationSelector.setCurrentNode(segmentation)
    assert not ui.labelConventionComboBox.isVisible()
    assert ui.coreSegmentsSelector.isVisible()
    assert ui.coreSegmentsSelector.selectedSegmentIDs() == ("Enhancing tumor",)  # suggested by its name
    assert ui.wholeSegmentsSelector.selectedSegmentIDs() == ("Enhancing tumor", "Edema")
    ui.wholeSegmentsSelector.setSelectedSegmentIDs([])
    ui.coreSegmentsSelector.setSelectedSegmentIDs(["Edema"])
    assert list(parameters.coreSegmentIDs) == ["Edema"]
    segmentation.GetSegmentation().RemoveSegment("Edema")
    process_events()
    slicer.mrmlScene.RemoveNode(segmentation)
    assert parameters.segmentation is None
    assert not ui.applyButton.enabled


def test_choices_are_saved_and_restored_with_the_scene(panel, tmp_path):
    ui, parameters = panel.ui, panel.widget._parameterNode
    t1gd = slicer.util.addVolumeFromArray(np.ones((4, 5, 6), np.float32), name="T1 ü")
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Tumor")
    segmentation.GetSegmentation().AddEmptySegment("core", "core")
    ui.t1gdSelector.setCurrentNode(t1gd)
    ui.segmentationSelector.setCurrentNode(segmentation)
    ui.opacitySlider.value = 0.35
    ui.topSpinBox.value = 7
    ui.registrationComboBox.currentIndex = 1
    ui.keepResultsCheckBox.checked = True
    ui.databasePathLineEdit.currentPath = "/data/größer.h5"
    path = str(tmp_path / "Szene ü.mrb")
    assert slicer.util.saveScene(path)
    slicer.mrmlScene.Clear()
    process_events()
    assert ui.t1gdSelector.currentNode() is None
    assert ui.topSpinBox.value == 15
    slicer.util.loadScene(path)
    restored = panel.widget._parameterNode
    assert restored is not parameters
    assert ui.t1gdSelector.currentNode().GetName() == "T1 ü"
    assert ui.segmentationSelector.currentNode().GetName() == "Tumor"
    assert ui.opacitySlider.value == pytest.approx(0.35)
    assert (ui.topSpinBox.value, ui.registrationComboBox.currentIndex) == (7, 1)
    assert ui.keepResultsCheckBox.checked
    assert (restored.databaseFile, ui.databasePathLineEdit.currentPath) == ("/data/größer.h5", "/data/größer.h5")
    assert restored.registration.name == "Affine"


def test_the_untouched_panel_asks_for_the_defaults_of_the_library(panel):
    from TumorQueryLib.base.method import Method

    asked = panel.widget._parameterNode.method().arguments()
    assert Method.from_json(asked) == Method()
    plans = {"plan", "margin", "volume", "barrier"}  # made of a result that is there, by a job of their own
    assert set(Method().as_json()) - set(asked) == {"atlas", "refine_solves", "refine_seconds"} | plans


def test_choices_of_the_method_reach_the_job(panel):
    ui = panel.ui
    ui.advancedCollapsibleButton.collapsed = False
    process_events()
    for choices, label in (
        (ui.strategyComboBox, "Radiomics"),
        (ui.refinementComboBox, "None: the best match as it is"),
        (ui.fociComboBox, "One"),
    ):
        choices.currentIndex = [choices.itemText(number) for number in range(choices.count)].index(label)
    ui.strategyOptionsLineEdit.text = " rerank=100, standardised = True,scale=0.5, name=a b "
    arguments = panel.widget._parameterNode.method().arguments()
    assert {name: arguments[name] for name in ("strategy", "refine", "foci")} == {
        "strategy": "radiomics",
        "refine": "none",
        "foci": "1",
    }
    assert arguments["strategy_options"] == {"rerank": 100, "standardised": True, "scale": 0.5, "name": "a b"}
    assert not ui.strategyOptionsHintLabel.isVisible()


@pytest.mark.parametrize("text", ["rerank", "rerank=", "=100", "re rank=100", "rerank=1, rerank=2", "a=1, b"])
def test_strategy_options_that_cannot_be_read_are_explained(panel, text):
    ui = panel.ui
    ui.advancedCollapsibleButton.collapsed = False
    click(ui.loadSampleButton)
    assert ui.applyButton.enabled
    ui.strategyOptionsLineEdit.text = text
    assert not ui.applyButton.enabled
    assert ui.strategyOptionsHintLabel.isVisible()
    hint = ui.strategyOptionsHintLabel.text
    assert ui.applyButton.toolTip == hint
    assert re.search(r"NAME=VALUE|stands twice", hint)
    ui.strategyOptionsLineEdit.text = "rerank=100,"
    assert ui.applyButton.enabled


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rerank": 100, "standardised": True, "scale": 0.5},
        {"model": "/a,b/model = 1.safetensors", "rerank": 3},
        {"name": "100", "flag": "true", "empty": "", "spaced": " a b "},
    ],
)
def test_options_of_a_script_are_read_back_by_the_panel(running, options):
    from TumorQueryModule.Jobs import parseStrategyOptions, writeStrategyOptions

    assert parseStrategyOptions(writeStrategyOptions(options)) == options


@pytest.mark.parametrize(
    ("choices", "complaint"),
    [
        ({"top": 100}, "from 1 to 50, not 100"),
        ({"top": 0}, "from 1 to 50"),
        ({"top": 2.5}, "from 1 to 50"),
        ({"strategy": "random-projection"}, "no strategy 'random-projection': choose one of direct"),
        ({"registration": "rigid"}, "no registration"),
        ({"refine": "all"}, "no refine"),
        ({"foci": "3"}, "no foci"),
        ({"density": "best"}, "no density 'best': choose one of auto, match"),
        ({"density": "refined", "refine": "none"}, "no refined density without a refinement"),
        ({"tissue": "mine"}, "no tissue 'mine': choose one of atlas, own"),
        ({"tissue": "own", "refine": "atlas"}, "own tissue is for a refinement in the patient's own anatomy"),
        ({"sensitivity": True, "refine": "none"}, "Sensitivity refines again: choose a refinement"),
        ({"sensitivity": "yes"}, "sensitivity is True or False, not 'yes'"),
        ({"uncertainty": 1}, "uncertainty is True or False, not 1"),
        ({"level": 0}, "from 0.01 to 0.99, not 0"),
        ({"level": True}, "from 0.01 to 0.99, not True"),
        ({"level": "0.5"}, "from 0.01 to 0.99"),
        ({"database": "/nowhere/own.h5"}, "no database file /nowhere/own.h5"),
        ({"strategyOptions": {"model": 'a "quoted" name'}}, "model"),
        ({"strategyOptions": {"re rank": 3}}, "no option"),
    ],
)
def test_what_a_scene_cannot_keep_is_refused_before_the_run(panel, take, monkeypatch, choices, complaint):
    from known_result import CONTENT

    from TumorQueryModule.Logic import Logic

    nodes, ran = take(CONTENT), []
    monkeypatch.setattr(Logic, "runAndWait", lambda self, job, timeout, progress: ran.append(job) or nodes)
    parameters = panel.widget._parameterNode
    with pytest.raises(ValueError, match=complaint):
        panel.widget.logic.run(
            parameters.t1gdVolume, None, parameters.segmentation, coreSegmentIDs=("core",), **choices
        )
    assert ran == []


def test_a_script_may_name_a_database_by_a_relative_path(panel, take, tmp_path, monkeypatch):
    from known_result import CONTENT

    from TumorQueryModule.Logic import Logic

    nodes, ran = take(CONTENT), []
    monkeypatch.setattr(Logic, "runAndWait", lambda self, job, timeout, progress: ran.append(job) or nodes)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.h5").touch()
    parameters = panel.widget._parameterNode
    panel.widget.logic.run(
        parameters.t1gdVolume, None, parameters.segmentation, coreSegmentIDs=("core",), database="own.h5"
    )
    assert ran[0].method.database == parameters.databaseFile == str(tmp_path / "own.h5")
    assert parameters.missing() == {}


def test_packages_are_installed_only_with_consent(panel, running):
    import qt

    running.packaging.absent = {"numba"}
    click(panel.ui.loadSampleButton)
    panel.exit()
    panel.enter()
    assert "numba" in panel.ui.dependenciesLabel.text
    running.dialogs.answers = [qt.QMessageBox.Cancel]
    click(panel.ui.applyButton)
    assert is_idle(panel)
    assert running.packaging.installations == []
    [question] = running.dialogs.shown
    assert "numba" in question
    assert "Nothing was installed" in panel.ui.statusLabel.text
    running.dialogs.shown.clear()


def test_without_internet_a_sentence_says_what_to_do(panel, running):
    running.packaging.absent = {"numba"}

    def fail(requirements, frozen):
        raise subprocess.CalledProcessError(1, ["pip"])

    running.packaging.install = fail
    click(panel.ui.loadSampleButton)
    click(panel.ui.applyButton)
    [(missing, frozen)] = running.packaging.installations
    assert any(requirement.startswith("numba") for requirement in missing)
    assert any(line.startswith("numpy==") for line in frozen)  # pip must not move Slicer's own packages
    assert running.dialogs.shown[1:] == ["Package installation failed."]  # Slicer's own box, and no second one
    assert "Without internet access" in panel.ui.statusLabel.text
    assert is_idle(panel)
    running.dialogs.shown.clear()


def test_why_nothing_could_be_installed_is_told(panel, running):
    running.packaging.absent = {"numba"}

    def fail(requirements, frozen):
        raise RuntimeError("PythonSlicer executable not found")

    running.packaging.install = fail
    click(panel.ui.loadSampleButton)
    click(panel.ui.applyButton)
    assert "PythonSlicer executable not found" in running.dialogs.shown[-1]
    assert "PythonSlicer -m pip install" in panel.ui.statusLabel.text
    running.dialogs.shown.clear()


def test_a_strategy_asks_only_for_the_package_that_it_needs(panel, monkeypatch):
    from TumorQueryModule.Dependencies import DependencyError

    for package in ("radiomics", "torch"):
        monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    panel.widget.logic.ensureRequirements("radiomics")  # the library computes the features itself
    with pytest.raises(DependencyError, match="PyTorch extension"):
        panel.widget.logic.ensureRequirements("ae")


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["at once", "registering", "late"])
def test_cancelling_leaves_no_process_no_file_and_no_node(panel, guard, moment):
    click(panel.ui.loadSampleButton)
    nodes = slicer.mrmlScene.GetNumberOfNodes()
    start_sample_run(panel, "NoRegistration" if moment == "late" else "Affine")
    if moment != "at once":
        wait_for_progress(panel, {"registering": 10, "late": 60}[moment])
    click(panel.ui.cancelButton)
    wait_until(lambda: is_idle(panel), 15, status(panel))
    wait_until(lambda: panel.widget._databaseRun.state.value == "idle", 60)
    assert panel.ui.statusLabel.text.startswith("Cancelled")
    assert panel.ui.progressBar.value == 0
    assert panel.ui.applyButton.enabled
    assert child_processes() == []
    assert left_files(guard.folder) == []
    # the sample was loaded a second time by start_sample_run
    assert slicer.mrmlScene.GetNumberOfNodes() - nodes < 20
    assert panel.widget._parameterNode.resultDensity is None


@pytest.mark.slow
def test_a_killed_worker_is_reported_and_the_panel_goes_on(panel, running):
    start_sample_run(panel)
    wait_for_progress(panel, 5)
    for process in child_processes():
        if b"python" in Path(f"/proc/{process}/cmdline").read_bytes():
            os.kill(process, signal.SIGKILL)
    wait_until(lambda: is_idle(panel), 15, status(panel))
    assert any("ended from outside" in text for text in running.dialogs.shown)
    assert panel.ui.applyButton.enabled
    running.dialogs.shown.clear()


@pytest.mark.slow
def test_closing_the_scene_ends_the_run(panel):
    start_sample_run(panel)
    wait_for_progress(panel, 5)
    slicer.mrmlScene.Clear()
    assert is_idle(panel)
    assert "scene was closed" in panel.ui.statusLabel.text
    process_events(0.2)
    assert child_processes(os.getpid()) == [] or panel.widget._databaseRun.state.value != "idle"
    assert not panel.ui.applyButton.enabled


@pytest.mark.slow
def test_removing_an_input_ends_the_run_and_another_node_does_not(panel):
    start_sample_run(panel)
    wait_for_progress(panel, 5)
    other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode", "other")
    slicer.mrmlScene.RemoveNode(other)
    assert not is_idle(panel)
    slicer.mrmlScene.RemoveNode(panel.widget._parameterNode.flairVolume)
    assert is_idle(panel)
    assert "was removed" in panel.ui.statusLabel.text


@pytest.mark.slow
def test_leaving_slicer_ends_the_run(panel, running):
    start_sample_run(panel)
    wait_for_progress(panel, 5)
    running.app.aboutToQuit.emit()
    assert is_idle(panel)
    assert child_processes() == []


@pytest.mark.slow
def test_another_module_can_be_opened_during_a_run(panel):
    start_sample_run(panel)
    wait_for_progress(panel, 5)
    panel.exit()
    before = panel.ui.progressBar.value
    wait_until(lambda: panel.ui.progressBar.value > before or is_idle(panel), 600, status(panel))
    assert not is_idle(panel)
    panel.enter()
    click(panel.ui.cancelButton)
    wait_until(lambda: is_idle(panel), 15)


@pytest.mark.slow
def test_an_input_that_cannot_be_used_is_explained(panel, running):
    ramp = np.arange(8000, dtype=np.float32).reshape(20, 20, 20)
    t1gd = slicer.util.addVolumeFromArray(ramp, name="image")
    t1gd.CreateDefaultDisplayNodes()
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "empty")
    segmentation.CreateDefaultDisplayNodes()
    segmentation.GetSegmentation().AddEmptySegment("core", "core")
    panel.ui.t1gdSelector.setCurrentNode(t1gd)
    panel.ui.segmentationSelector.setCurrentNode(segmentation)
    click(panel.ui.applyButton)
    wait_until(lambda: is_idle(panel), 60, status(panel))
    assert running.dialogs.shown
    message = running.dialogs.shown[0]
    assert re.search(r"empty|no tumou?r|no voxel", message), message
    assert "Traceback" not in message
    running.dialogs.shown.clear()


@pytest.mark.slow
def test_a_database_is_built_from_here_and_can_be_cancelled(panel, running, guard, tmp_path):
    panel.ui.advancedCollapsibleButton.collapsed = False
    panel.ui.buildGroupBox.collapsed = False
    process_events()
    assert not panel.ui.buildButton.enabled
    path = tmp_path / "größer.h5"
    panel.ui.buildPathLineEdit.currentPath = str(path)
    panel.ui.buildEntriesSpinBox.value = 100_000
    click(panel.ui.buildButton)
    started = time.monotonic()
    wait_until(lambda: panel.ui.logTextEdit.plainText.count("\n") > 0 or is_idle(panel), 60, status(panel))
    wait_until(lambda: is_idle(panel) or time.monotonic() - started > 4, 60)
    assert not is_idle(panel), status(panel)()
    click(panel.ui.cancelButton)
    wait_until(lambda: is_idle(panel), 15)
    assert not path.exists()  # an unfinished build does not open as a database
    assert left_files(guard.folder) == []


@pytest.mark.slow
def test_a_cancelled_build_is_continued(panel, tmp_path):
    panel.ui.advancedCollapsibleButton.collapsed = False
    panel.ui.buildGroupBox.collapsed = False
    process_events()
    path = tmp_path / "new.h5"
    unfinished = tmp_path / "new.h5.partial"
    panel.ui.buildPathLineEdit.currentPath = str(path)
    panel.ui.buildEntriesSpinBox.value = 60
    click(panel.ui.buildButton)
    wait_for_progress(panel, 20)
    reached = panel.ui.progressBar.value
    click(panel.ui.cancelButton)
    wait_until(lambda: is_idle(panel), 15)
    assert unfinished.exists()
    assert not path.exists()
    seen = []
    click(panel.ui.buildButton)
    wait_until(lambda: seen.append(panel.ui.progressBar.value) or is_idle(panel), 120, status(panel))
    assert panel.ui.statusLabel.text == "Done.", status(panel)()
    assert next(value for value in seen if value) >= reached  # what was finished is not done again
    assert panel.widget._parameterNode.databaseFile == str(path)
    assert not unfinished.exists()


def test_all_strings_of_the_code_can_be_translated(panel, monkeypatch):
    monkeypatch.setattr("harness.application.MARKED_TRANSLATIONS", {"all"})
    panel.widget._updatePanel()
    for name in ("t1gdHintLabel", "segmentationHintLabel", "resultSummaryLabel"):
        text = getattr(panel.ui, name).text
        assert text.startswith("["), f"{name} shows a string that is not translatable: {text}"
    for button in (panel.ui.applyButton, panel.ui.cancelButton, panel.ui.buildButton):
        assert button.toolTip.startswith("["), button.toolTip
