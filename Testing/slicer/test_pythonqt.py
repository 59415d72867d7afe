"""The stand-ins behave as PythonQt, CTK and the qMRML widgets do, and refuse what those would silently accept."""

import os
import shutil
import subprocess
import sys

import pytest
import slicer
from harness.driving import child_processes, process_events, processes_elsewhere, wait_until


@pytest.fixture
def qt(running):
    import qt

    return qt


def test_properties_are_attributes_and_setters_stay(qt):
    label = qt.QLabel("one")
    assert label.text == "one"
    label.text = "two"
    assert label.text == "two"
    label.setText("three")
    assert label.text == "three"
    with pytest.raises(TypeError):
        label.text()
    label.name = "caption"
    assert (label.name, label.objectName, label.className()) == ("caption", "caption", "QLabel")
    assert qt.QTimer().singleShot is False
    assert callable(qt.QTimer.singleShot)


def test_an_unknown_attribute_is_refused_except_in_python_classes(qt):
    with pytest.raises(AttributeError, match="tooltip"):
        qt.QPushButton().tooltip = "wrong case"
    with pytest.raises(AttributeError):
        qt.QPushButton().isChecked = True

    class Dialog(qt.QDialog):
        def __init__(self):
            qt.QDialog.__init__(self)
            self.own = 1

    assert Dialog().own == 1


def test_an_unknown_signal_raises(qt):
    button = qt.QPushButton()
    for signal in ("pressd()", "clicked(int)", "clicked"):
        with pytest.raises(ValueError, match=r"signal|signature"):
            button.connect(signal, print)
    with pytest.raises(AttributeError):
        button.pressd.connect(print)


def test_connected_functions_get_the_arguments_they_take(qt):
    calls = []
    button = qt.QPushButton()
    button.connect("clicked(bool)", lambda: calls.append("none"))
    button.connect("clicked(bool)", lambda checked: calls.append(checked))
    button.connect("clicked(bool)", lambda *arguments: calls.append(arguments))
    button.clicked.connect(lambda: calls.append("pyqt style"))
    button.click()
    assert calls == ["none", False, (False,), "pyqt style"]

    def once():
        calls.append("once")

    button.connect("clicked()", once)
    button.disconnect("clicked()", once)
    button.click()
    assert "once" not in calls


def test_an_exception_in_a_slot_is_seen(qt, guard):
    button = qt.QPushButton()
    button.connect("clicked()", lambda: 1 / 0)
    button.click()
    assert isinstance(guard.exceptions.pop(), ZeroDivisionError)


def test_enumerators_are_ints_and_lists_are_tuples(qt):
    assert qt.Qt.Checked == 2
    assert qt.QProcess.NotRunning == 0
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLModelNode"]
    assert selector.nodeTypes == ("vtkMRMLModelNode",)
    assert not hasattr(qt, "Signal")


def test_a_node_selector_follows_the_scene(running, qt):
    selector, seen = slicer.qMRMLNodeComboBox(), []
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.hideChildNodeTypes = ["vtkMRMLLabelMapVolumeNode"]
    selector.noneEnabled = True
    selector.connect("currentNodeChanged(vtkMRMLNode*)", seen.append)
    assert not selector.enabled
    selector.setMRMLScene(slicer.mrmlScene)
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Ümläut 肿瘤")
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode", "model")
    assert (selector.enabled, selector.nodeCount(), selector.currentNode()) == (True, 1, None)
    selector.setCurrentNode(volume)
    slicer.mrmlScene.RemoveNode(volume)
    assert seen == [volume, None]
    assert selector.nodeCount() == 0


def test_segments_are_chosen_among_those_there_are(running, qt):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.GetSegmentation().AddEmptySegment("a", "core")
    node.GetSegmentation().AddEmptySegment("b", "whole")
    selector, seen = slicer.qMRMLSegmentSelectorWidget(), []
    selector.multiSelection = True
    selector.connect("segmentSelectionChanged(QStringList)", seen.append)
    selector.setMRMLScene(slicer.mrmlScene)
    selector.setCurrentNode(node)
    selector.setSelectedSegmentIDs(["b", "gone"])
    assert selector.segmentIDs() == ("a", "b")
    assert selector.selectedSegmentIDs() == ("b",)
    node.GetSegmentation().RemoveSegment("b")
    assert seen == [("b",), ()]


def test_a_collapsed_section_hides_what_is_in_it(qt):
    import ctk

    section = ctk.ctkCollapsibleButton()
    layout = qt.QVBoxLayout(section)
    button = qt.QPushButton("inside")
    layout.addWidget(button)
    section.show()
    section.collapsed = True
    process_events()
    assert not button.isVisible()
    section.collapsed = False
    assert button.isVisible()


def test_the_wheels_own_additions_to_slicer_are_hidden(running):
    assert not hasattr(slicer, "getNode")
    assert callable(slicer.util.getNode)
    assert not hasattr(slicer.modules, "brainsfit")


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or shutil.which("ps") is None, reason="compares with Linux's ps"
)
def test_children_are_found_by_the_systems_own_program():
    child = subprocess.Popen(
        [sys.executable, "-c", "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"],
        stdin=subprocess.PIPE,
    )
    try:
        wait_until(lambda: len(child_processes()) == 2, 30)
        listed = {process: owner for process, owner, _state, _command in processes_elsewhere()}
        assert listed[child.pid] == os.getpid()
        assert {process for process, owner in listed.items() if owner in (os.getpid(), child.pid)} == set(
            child_processes()
        )
    finally:
        child.stdin.close()
        child.wait()
