"""`slicer.app`, `slicer.modules` and the other pieces of the application that the panel meets, on real MRML.

Names and behaviour were read in Slicer/Slicer: Base/QTCore/qSlicerCoreApplication.h, qSlicerCoreIOManager.h,
qSlicerModuleManager.h; Base/QTGUI/qSlicerApplication.h; Libs/MRML/Widgets/qMRMLLayoutManager.h, qMRMLSliceWidget.h,
qMRMLThreeDWidget.h; Base/Python/slicer/{i18n,packaging}.py; Modules/Scripted/SampleData/SampleData.py.
"""

import hashlib
import importlib
import importlib.metadata
import logging
import os
import subprocess
import sys
import types
import urllib.parse
import urllib.request
from pathlib import Path

import slicer
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property, Signal

from harness import ctk_widgets, mrml_widgets, pythonqt, ui_loader
from harness.scene import Scene, logic_modules
from harness.views import SLICE_VIEWS, SliceView, ThreeDView

STAR_COPIES = ("slicer.util",)


class Dialogs:
    """Message boxes and file dialogs: each is recorded and answered, none waits.

    `answers` are given in their order; a box that finds none is answered with its default, Ok.
    """

    def __init__(self):
        self.shown = []
        self.answers = []
        self.files = []

    def answer(self, text, details):
        self.shown.append(text)
        if details:
            self.shown.append(details)
        return self.answers.pop(0) if self.answers else QtWidgets.QMessageBox.Ok

    def choose_file(self, *arguments, **keywords):
        return (self.files.pop(0) if self.files else "", "")

    def choose_folder(self, parent=None, caption="", folder="", options=None):
        if not (parent is None or isinstance(parent, QtWidgets.QWidget)) or not isinstance(caption, str):
            raise ValueError("QFileDialog.getExistingDirectory takes a widget, a caption and a folder")
        self.shown.append(caption)
        return self.files.pop(0) if self.files else ""


class SliceWidget:
    """A view of one slice; the window behind it has no screen."""

    def __init__(self, view):
        self._view = view

    def sliceLogic(self):
        return self._view.logic

    def mrmlSliceNode(self):
        return self._view.node

    def mrmlSliceCompositeNode(self):
        return self._view.composite_node


class ThreeDWidget:
    """The 3D view."""

    def __init__(self, view):
        self._view = view

    def threeDView(self):
        return self

    def mrmlViewNode(self):
        return self._view.node

    def resetFocalPoint(self):
        self._view.fit()

    def forceRender(self):
        self._view.render_window.Render()


class LayoutManager:
    """The four-up layout: three slice views and one 3D view."""

    def __init__(self, scene, size):
        self.slice_views = {name: SliceView(scene, name, size) for name in SLICE_VIEWS}
        self.three_d_view = ThreeDView(scene, size)
        self.layout = slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView
        self.threeDViewCount = 1
        self._application_logic = scene.application_logic

    def sliceViewNames(self):
        return tuple(self.slice_views)

    def sliceWidget(self, name):
        return SliceWidget(self.slice_views[name]) if name in self.slice_views else None

    def threeDWidget(self, index):
        return ThreeDWidget(self.three_d_view) if index == 0 else None

    def mrmlSliceLogics(self):
        return self._application_logic.GetSliceLogics()

    def setLayout(self, layout):
        self.layout = layout

    def resetSliceViews(self):
        for view in self.slice_views.values():
            view.logic.FitSliceToAll()

    def resetThreeDViews(self):
        self.three_d_view.fit()

    def close(self):
        for view in (*self.slice_views.values(), self.three_d_view):
            view.close()


class CoreIOManager:
    """Reads and writes nodes and scenes by MRML's own storage nodes and logics."""

    def __init__(self, scene):
        self._scene = scene
        self.opened_dialogs = []

    def fileType(self, path):
        name = str(path).lower()
        if name.endswith((".mrb", ".mrml")):
            return "SceneFile"
        if name.endswith((".seg.nrrd", ".seg.nhdr")):
            return "SegmentationFile"
        if name.endswith((".h5", ".tfm", ".hdf5")):
            return "TransformFile"
        return "VolumeFile"

    def loadNodes(self, file_type, properties, loaded=None, messages=None):
        properties = dict(properties)
        path = str(properties.pop("fileName"))
        if not os.path.exists(path):
            return False
        node = getattr(self, f"_load_{file_type}")(path, properties)
        if node is None:
            return False
        if isinstance(node, slicer.vtkMRMLNode):
            if properties.get("name"):
                node.SetName(properties["name"])
            if loaded is not None:
                loaded.AddItem(node)
        return True

    def _load_VolumeFile(self, path, properties):
        options = int(bool(properties.get("labelmap"))) + 2 * int(bool(properties.get("center")))
        options += 4 * int(bool(properties.get("singleFile")))
        name = properties.get("name") or Path(path).name.split(".")[0]
        return self._scene.logics["volumes"].AddArchetypeVolume(path, name, options)

    def _load_SegmentationFile(self, path, properties):
        name = properties.get("name") or Path(path).name.split(".")[0]
        node = self._scene.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
        storage = slicer.vtkMRMLSegmentationStorageNode()
        self._scene.scene.AddNode(storage)
        storage.SetFileName(path)
        node.SetAndObserveStorageNodeID(storage.GetID())
        if not storage.ReadData(node):
            self._scene.scene.RemoveNode(node)
            return None
        node.CreateDefaultDisplayNodes()
        return node

    def _load_TransformFile(self, path, properties):
        return self._scene.logics["transforms"].AddTransform(path, self._scene.scene)

    def _load_SceneFile(self, path, properties):
        scene, clear = self._scene.scene, properties.get("clear", True)
        messages = slicer.vtkMRMLMessageCollection()
        if path.lower().endswith(".mrb"):
            return scene.ReadFromMRB(path, clear, messages) or None
        scene.SetURL(path)
        return (scene.Connect(messages) if clear else scene.Import(messages)) or None

    def fileWriterFileType(self, node, extension=""):
        return "SceneFile" if node is self._scene.scene else "NodeFile"

    def saveNodes(self, file_type, properties, messages=None):
        path = str(properties["fileName"])
        if file_type == "SceneFile":
            if path.lower().endswith(".mrb"):
                return bool(self._scene.scene.WriteToMRB(path, None, messages))
            return bool(self._scene.scene.Commit(path, messages))
        node = self._scene.scene.GetNodeByID(properties["nodeID"])
        storage = node.CreateDefaultStorageNode()
        storage.UnRegister(None)
        storage.SetFileName(path)
        return bool(storage.WriteData(node))

    def addDefaultStorageNodes(self):
        for node in slicer.util.getNodesByClass("vtkMRMLStorableNode"):
            node.AddDefaultStorageNode()

    def openAddDataDialog(self):
        self.opened_dialogs.append("add data")
        return True


class Module:
    """An entry of `slicer.modules` for a module that others know by name and path only."""

    def __init__(self, name, path="", representation=None):
        self.name, self.path = name, path
        self._representation = representation

    def widgetRepresentation(self):
        return self._representation


class ModuleManager(QtCore.QObject):
    moduleAboutToBeUnloaded = Signal(str)
    moduleLoaded = Signal(str)

    def module(self, name):
        return getattr(slicer.modules, name.lower(), None)


class ModuleSelector:
    def __init__(self):
        self.selected = []

    def selectModule(self, name):
        self.selected.append(name)


@ctk_widgets.stand_in
class qSlicerMainWindow(QtWidgets.QMainWindow):
    def __init__(self):
        super().__init__()
        self.setObjectName("qSlicerMainWindow")
        self._module_selector = ModuleSelector()

    def moduleSelector(self):
        return self._module_selector


@ctk_widgets.stand_in
class qSlicerScriptedLoadableModuleWidget(mrml_widgets.qMRMLWidget):
    """What a scripted module's widget gets as its parent."""

    def __init__(self):
        super().__init__()
        self._entered = False
        self._make_widget = None
        self.setLayout(QtWidgets.QVBoxLayout())

    def reload(self):
        self._make_widget()

    isEntered = Property(bool, lambda self: self._entered)


@ctk_widgets.stand_in
class qSlicerScriptedLoadableModule(QtCore.QObject):
    """What a scripted module says of itself."""

    def __init__(self, path):
        super().__init__()
        self._values = {"path": str(path)}

    def _value(type_, name, default, writable=True):
        def write(self, value):
            self._values[name] = value

        return Property(type_, lambda self: self._values.get(name, default), write if writable else None)

    path = _value(str, "path", "", writable=False)
    title = _value(str, "title", "")
    helpText = _value(str, "helpText", "")
    acknowledgementText = _value(str, "acknowledgementText", "")
    categories = _value("QStringList", "categories", [])
    dependencies = _value("QStringList", "dependencies", [])
    contributors = _value("QStringList", "contributors", [])
    icon = _value("QIcon", "icon", None)
    hidden = _value(bool, "hidden", False)
    index = _value(int, "index", -1)
    del _value


@ctk_widgets.stand_in
class SlicerApplication(QtCore.QObject):
    """`slicer.app`."""

    startupCompleted = Signal()
    aboutToQuit = Signal()

    def __init__(self, scene, size, window):
        super().__init__()
        self._running = pythonqt.application()
        self._scene = scene
        self._testing = False
        self._layout_manager = LayoutManager(scene, size) if window else None
        self._io_manager = CoreIOManager(scene)
        self._module_manager = ModuleManager()

    applicationName = Property(str, lambda self: "Slicer")
    applicationVersion = Property(str, lambda self: "5.12.3")
    majorVersion = Property(int, lambda self: 5)
    minorVersion = Property(int, lambda self: 12)
    temporaryPath = Property(str, lambda self: self._scene.temporary_folder)
    documentationBaseUrl = Property(str, lambda self: "https://slicer.readthedocs.io/en/5.12/")

    def testingEnabled(self):
        return self._testing

    def mrmlScene(self):
        return self._scene.scene

    def applicationLogic(self):
        return self._scene.application_logic

    def layoutManager(self):
        return self._layout_manager

    def coreIOManager(self):
        return self._io_manager

    def ioManager(self):
        return self._io_manager

    def moduleManager(self):
        return self._module_manager

    def mainWindow(self):
        return slicer.util.mainWindow()

    def processEvents(self):
        self._running.processEvents()

    def topLevelWidgets(self):
        return QtWidgets.QApplication.topLevelWidgets()

    def clipboard(self):
        return QtWidgets.QApplication.clipboard()

    def setOverrideCursor(self, cursor):
        QtWidgets.QApplication.setOverrideCursor(cursor)

    def restoreOverrideCursor(self):
        QtWidgets.QApplication.restoreOverrideCursor()

    def overrideCursor(self):
        return QtWidgets.QApplication.overrideCursor()

    def pauseRender(self):
        self._scene.application_logic.PauseRender()

    def resumeRender(self):
        self._scene.application_logic.ResumeRender()

    def userSettings(self):
        return QtCore.QSettings()

    def settings(self):
        return QtCore.QSettings()

    def exit(self, status):
        raise SystemExit(status)


@ctk_widgets.stand_in
class ctkDICOMDatabase(QtCore.QObject):
    """`slicer.dicomDatabase`: a test puts the files of instances into `_files`."""

    def __init__(self):
        super().__init__()
        self._files = {}

    isOpen = Property(bool, lambda self: True)

    def fileForInstance(self, instance_uid):
        if not isinstance(instance_uid, str):
            raise ValueError("ctkDICOMDatabase.fileForInstance takes a text")
        return self._files.get(instance_uid, "")


class Packaging(types.ModuleType):
    """`slicer.packaging`: whether packages are there, and their installation, which is recorded and never done.

    `absent` names packages that it takes as missing; `install` is called with the requirements once the user agreed.
    """

    def __init__(self):
        super().__init__("slicer.packaging")
        self.absent = set()
        self.install = self._refuse
        self.installations = []

    @staticmethod
    def _refuse(requirements, constraints):
        raise AssertionError(f"a test would have installed {requirements}")

    def load_requirements(self, path):
        from packaging.requirements import Requirement

        lines = (line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines())
        return [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]

    def pip_check(self, requirements):
        from packaging.requirements import Requirement

        if not isinstance(requirements, list):
            requirements = [requirements]
        for requirement in requirements:
            requirement = Requirement(str(requirement))
            if requirement.marker is not None and not requirement.marker.evaluate():
                continue
            try:
                version = importlib.metadata.version(requirement.name)
            except importlib.metadata.PackageNotFoundError:
                return False
            if requirement.name in self.absent or version not in requirement.specifier:
                return False
        return True

    def pip_ensure(self, requirements, constraints=None, skip_packages=None, prompt_install=True, prompt_restart=True,
                   requester=None, skip_in_testing=True, show_progress=True):  # fmt: skip
        missing = [str(requirement) for requirement in requirements if not self.pip_check(requirement)]
        if not missing or (skip_in_testing and slicer.app.testingEnabled()):
            return None
        if prompt_install and not slicer.util.confirmOkCancelDisplay(
            f"{len(missing)} Python packages need to be installed.", requester, detailedText="\n".join(missing)
        ):
            raise RuntimeError("User declined package installation")
        frozen = Path(constraints).read_text(encoding="utf-8").split() if constraints else []
        self.installations.append((missing, frozen))
        try:
            self.install(missing, frozen)
        except subprocess.CalledProcessError:
            if show_progress:
                slicer.util.errorDisplay("Package installation failed.")
            raise
        return None


class SampleDataLogic:
    """Keeps the registered sample data and loads them; only file: URIs, for nothing is downloaded in a test."""

    def __init__(self, logMessage=None):
        self.logMessage = logMessage or logging.info

    @staticmethod
    def registerCustomSampleDataCategory(category, title):
        categories = slicer.modules.__dict__.setdefault("sampleDataSourceCategories", {})
        categories.setdefault(category, {})["title"] = title

    @staticmethod
    def registerCustomSampleDataSource(category="Custom", sampleName=None, uris=None, fileNames=None, nodeNames=None,
                                       customDownloader=None, thumbnailFileName=None, loadFileTypes=None,
                                       loadFiles=None, loadFileProperties=None, checksums=None):  # fmt: skip
        source = {"sampleName": sampleName, "thumbnailFileName": thumbnailFileName}
        lists = {"uris": uris, "fileNames": fileNames, "nodeNames": nodeNames, "checksums": checksums}
        lists["loadFileTypes"] = loadFileTypes
        for name, value in lists.items():
            source[name] = value if isinstance(value, list) else [value]
        if len({len(source[name]) for name in lists}) != 1:
            raise ValueError(f"the sample {sampleName} has lists of different lengths")
        sources = slicer.modules.__dict__.setdefault("sampleDataSources", {}).setdefault(category, [])
        if not any(other["sampleName"] == sampleName and other["uris"] == source["uris"] for other in sources):
            sources.append(source)

    def downloadSamples(self, sampleName):
        for sources in slicer.modules.sampleDataSources.values():
            for source in sources:
                if source["sampleName"] == sampleName:
                    return self._load(source)
        return []

    def downloadSample(self, sampleName):
        return self.downloadSamples(sampleName)[0]

    def _load(self, source):
        cache = Path(slicer.mrmlScene.GetCacheManager().GetRemoteCacheDirectory())
        nodes = []
        for uri, file_name, node_name, checksum, file_type in zip(
            *(source[name] for name in ("uris", "fileNames", "nodeNames", "checksums", "loadFileTypes")), strict=True
        ):
            parts = urllib.parse.urlparse(uri)
            if parts.scheme != "file":
                raise AssertionError(f"a test would have downloaded {uri}")
            content = Path(urllib.request.url2pathname(parts.path)).read_bytes()
            algorithm, _, digest = checksum.partition(":")
            if hashlib.new(algorithm.lower(), content).hexdigest() != digest:
                raise ValueError(f"{file_name} does not have the checksum {checksum}")
            cache.mkdir(parents=True, exist_ok=True)
            path = cache / file_name
            path.write_bytes(content)
            nodes.append(slicer.util.loadNodeFromFile(str(path), file_type, {"name": node_name}))
        return nodes


class Slicer:
    """The application with one fresh scene. `close()` ends it; then another can start in the same process.

    Without a window, as with --no-main-window, there are no views, and nothing has made a slice's nodes.
    """

    def __init__(self, view_size=(400, 400), window=True):
        self.scene = Scene()
        self.dialogs = Dialogs()
        slicer.mrmlScene = self.scene.scene
        slicer.modules = logic_modules(self.scene)
        slicer.app = SlicerApplication(self.scene, view_size, window)
        slicer.dicomDatabase = ctkDICOMDatabase()
        self.packaging = install_modules()
        self.main_window = qSlicerMainWindow() if window else None
        # Message boxes and file dialogs would wait for a user.
        dialogs = self.dialogs
        ctk_widgets.ctkMessageBox.exec_ = lambda box: dialogs.answer(box.text, box.detailedText)
        ctk_widgets.ctkMessageBox.exec = ctk_widgets.ctkMessageBox.exec_
        for name in ("getOpenFileName", "getSaveFileName"):
            setattr(QtWidgets.QFileDialog, name, staticmethod(dialogs.choose_file))
        QtWidgets.QFileDialog.getExistingDirectory = staticmethod(dialogs.choose_folder)

    @property
    def app(self):
        return slicer.app

    @property
    def views(self):
        """The slice views by name."""
        return self.app.layoutManager().slice_views

    @property
    def three_d_view(self):
        return self.app.layoutManager().three_d_view

    def close(self):
        if self.main_window:
            slicer.app.layoutManager().close()
            self.main_window.close()
            self.main_window.deleteLater()
        self.scene.close()
        pythonqt.application().sendPostedEvents(None, QtCore.QEvent.DeferredDelete)
        pythonqt.application().processEvents()


class Panel:
    """A scripted module and its opened widget, as the module selector makes them."""

    def __init__(self, module, name):
        self.name = name
        path = module.__file__
        self.parent = qSlicerScriptedLoadableModuleWidget()
        self.parent.setMRMLScene(slicer.mrmlScene)
        self.parent._make_widget = self._make_widget
        setattr(slicer.modules, name.lower(), Module(name, path, self.parent))
        self.parent_module = qSlicerScriptedLoadableModule(path)
        self.instance = getattr(module, name)(self.parent_module)
        self._make_widget()
        slicer.app.startupCompleted.emit()

    def _make_widget(self):
        self.widget = getattr(sys.modules[self.name], f"{self.name}Widget")(self.parent)
        setattr(slicer.modules, f"{self.name}Widget", self.widget)
        self.widget.setup()
        self.enter()

    @property
    def ui(self):
        return self.widget.ui

    def enter(self):
        self.parent._entered = True
        self.widget.enter()

    def exit(self):
        self.widget.exit()
        self.parent._entered = False

    def close(self):
        self.widget.cleanup()
        self.parent.close()
        self.parent.deleteLater()


#: Put something in to see which strings are translatable: translations then come back between brackets.
MARKED_TRANSLATIONS = set()


def translate(context, text):
    if not isinstance(text, str):
        raise TypeError(f"translate takes a text, not {type(text).__name__}")
    return f"[{text}]" if MARKED_TRANSLATIONS else text


def install_modules():
    """Put qt, ctk, SampleData and the missing parts of `slicer` where `import` finds them."""
    qt = sys.modules.get("qt") or pythonqt.make_qt_module()
    qt.QUiLoader = ui_loader.QUiLoader
    ctk_widgets.make_ctk_module()
    for name, cls in ctk_widgets.CLASSES.items():
        if name.startswith(("qMRML", "qSlicer")):
            setattr(slicer, name, cls)
    hide_star_copies()

    i18n = types.ModuleType("slicer.i18n")

    i18n.translate = translate
    i18n.tr = lambda text: translate("", text)
    sys.modules["slicer.i18n"] = slicer.i18n = i18n

    if "slicer.parameterNodeWrapper" not in sys.modules:
        for name, source in (
            ("parameterNodeWrapper", "harness.parameter_node"),
            ("ScriptedLoadableModule", "harness.scripted_module"),
        ):
            made = types.ModuleType(f"slicer.{name}")
            vars(made).update(importlib.import_module(source).EXPORTS)
            sys.modules[f"slicer.{name}"] = made
            setattr(slicer, name, made)

    sys.modules["slicer.packaging"] = slicer.packaging = Packaging()
    sample_data = types.ModuleType("SampleData")
    sample_data.SampleDataLogic = SampleDataLogic
    sample_data.downloadSamples = lambda name: SampleDataLogic().downloadSamples(name)
    sample_data.downloadSample = lambda name: SampleDataLogic().downloadSample(name)
    sys.modules["SampleData"] = sample_data
    return slicer.packaging


def hide_star_copies():
    """Take away the functions of slicer.util that the wheel, and not Slicer, also shows as `slicer.<name>`."""
    for module_name in STAR_COPIES:
        module = importlib.import_module(module_name)
        for name, value in list(vars(module).items()):
            is_copy = not name.startswith("_") and vars(slicer).get(name) is value
            if is_copy and not isinstance(value, types.ModuleType) and not name.startswith("vtk"):
                delattr(slicer, name)
