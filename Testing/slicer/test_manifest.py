"""The panel uses what Slicer has: its .ui file and its code against the list of the real API."""

import inspect
import re
from pathlib import Path

import pytest
from harness import extensions
from harness.application import ctk_widgets  # where all stand-ins are defined by now
from harness.manifest import Manifest, check_code, check_ui, qt_class

MODULE = Path(__file__).resolve().parents[2] / "TumorQuery"
REPOSITORIES = (
    "Slicer/Slicer",
    "commontk/CTK",
    "lassoan/SlicerMONAIAuto3DSeg",
    "lassoan/SlicerHDBrainExtraction",
)
CODE = sorted(path for path in MODULE.rglob("*.py") if "Testing" not in path.parts)


@pytest.fixture(scope="module")
def manifest():
    return Manifest.read()


@pytest.fixture(scope="module")
def ui_classes(manifest):
    return check_ui(MODULE / "Resources" / "UI" / "TumorQuery.ui", manifest)[1]


def test_every_row_names_its_source(manifest):
    for key, source in manifest.sources.items():
        assert re.fullmatch(rf"({'|'.join(REPOSITORIES)}):[\w/]+\.(h|py)", source), key
    assert len(manifest.sources) > 500


def test_the_ui_file_uses_what_slicer_has(manifest):
    wrong, classes = check_ui(MODULE / "Resources" / "UI" / "TumorQuery.ui", manifest)
    assert wrong == []
    assert len(classes) > 50


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.name)
def test_the_code_uses_what_slicer_has(path, manifest, ui_classes):
    wrong, checked = check_code(path.read_text(encoding="utf-8"), manifest, ui_classes)
    assert wrong == []
    if path.name == "Panel.py":
        assert checked > 150  # the check sees the code


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("ui = self.ui\nui.applyButton.setEnable(True)", "has no 'setEnable'"),
        ("self.ui.applyButton.text()", "is a property"),
        ("self.ui.runButtn.enabled = True", "no such widget"),
        ("self.ui.applyButton.connect('clickd()', f)", "no signal"),
        ("self.ui.t1gdSelector.setNoneEnabled(True)", "has no 'setNoneEnabled'"),
        ("timer = qt.QTimer()\ntimer.begin()", "has no 'begin'"),
        ("qt.QProcess.ProcessState.NotRunning", "enumeration"),
        ("qt.Signal()", "no such class"),
        ("ctk.ctkFancyButton()", "no such class"),
        ("slicer.getNode('a')", "no such name"),
        ("slicer.util.getNodez('a')", "has no 'getNodez'"),
        ("slicer.util.setSliceViewerLayers(backgroud=1)", "takes no 'backgroud'"),
        ("slicer.modules.brainsfit.logic()", "no such module"),
        ("slicer.app.layoutManager().sliceWidget('Red').fit()", "has no 'fit'"),
        ("logic = MONAIAuto3DSeg.MONAIAuto3DSegLogic()\nlogic.process([], node, modell='x')", "takes no 'modell'"),
        ("logic = MONAIAuto3DSeg.MONAIAuto3DSegLogic()\nlogic.cancel(info)", "has no 'cancel'"),
        ("HDBrainExtractionTool.HDBrainLogic()", "no such name"),
        ("l = HDBrainExtractionTool.HDBrainExtractionToolLogic()\nl.process(a, None, b, 'auto', 1)", "at most 4"),
        ("from slicer.util import LazyImport", "has no LazyImport"),  # only in previews
    ],
)
def test_what_slicer_does_not_have_is_found(code, complaint, manifest, ui_classes):
    assert any(complaint in text for text in check_code(code, manifest, ui_classes)[0])


def test_the_stand_ins_show_nothing_that_the_real_classes_lack(manifest):
    for name, cls in ctk_widgets.CLASSES.items():
        if name not in manifest.classes():
            continue
        qt_base = qt_class(manifest.chain(name)[-1])
        for attribute, value in vars(cls).items():
            is_own = attribute.startswith("_") or attribute.isupper() or hasattr(qt_base, attribute)
            is_renamed_signal = attribute in ("currentNodeIsValidChanged", "selectionHasChanged")
            if is_own or is_renamed_signal or attribute in ("staticMetaObject", "hitButton"):
                continue
            kinds = manifest.kinds_of(name, attribute)
            assert kinds, f"{name}.{attribute} is not in Slicer"
            if inspect.isfunction(value):
                assert "method" in kinds, f"{name}.{attribute} is no method in Slicer"


@pytest.mark.parametrize(
    "cls", [extensions.MONAIAuto3DSegLogic, extensions.HDBrainExtractionToolLogic, extensions.LocalInference]
)
def test_the_stand_ins_of_extensions_take_what_theirs_take(manifest, cls):
    methods = {name: value for name, value in vars(cls).items() if inspect.isfunction(value) and name[0] != "_"}
    for name, method in methods.items():
        assert manifest.kinds_of(cls.__name__, name) == {"method"}
        assert manifest.parameters[cls.__name__, name] == list(inspect.signature(method).parameters)[1:], name
    for kind in (extensions.EventCode, extensions.ExitCode):
        assert {name for cls, name in manifest.kinds if cls == kind.__name__} == set(kind.__members__)
