"""Checks code and .ui files against `api_manifest.csv.gz`: what Slicer 5.12.3 and its CTK really have.

Every row names the source file that it was read from. Of Qt's own classes PySide6 knows what there is.
"""

import ast
import csv
import functools
import gzip
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import slicer_core
from PySide6 import QtCore, QtGui, QtWidgets

from harness.pythonqt import PYSIDE_ONLY

PATH = Path(__file__).resolve().parent.parent / "api_manifest.csv.gz"
QT_MODULES = (QtWidgets, QtGui, QtCore)
# What PythonQt adds to every object (PythonQtStdDecorators.h, PythonQtInstanceWrapper.cpp of commontk/PythonQt).
PYTHONQT_METHODS = {"connect", "disconnect", "className", "delete", "findChild", "findChildren", "children", "parent"}
PYTHONQT_PROPERTIES = {"name", "objectName"}
# Modules of Slicer whose logic the code may ask for, and what a module object has.
SLICER_MODULES = {"segmentations", "volumes", "colors", "transforms", "models", "markups", "tables", "volumerendering"}
# What `slicer` has beside classes of VTK and Qt (Base/Python/slicer/__init__.py, qSlicerCorePythonManager.cxx).
# and what its DICOM module adds once it has a database (Modules/Scripted/DICOM/DICOM.py).
SLICER_NAMES = {"app", "mrmlScene", "modules", "util", "packaging", "i18n", "selfTests", "dicomDatabase"}
# Classes that calls on the application lead to.
RETURNED = {
    ("qSlicerApplication", "layoutManager"): "qSlicerLayoutManager",
    ("qSlicerApplication", "coreIOManager"): "qSlicerIOManager",
    ("qSlicerApplication", "ioManager"): "qSlicerIOManager",
    ("qSlicerApplication", "moduleManager"): "qSlicerModuleManager",
    ("qMRMLLayoutManager", "sliceWidget"): "qMRMLSliceWidget",
    ("qMRMLLayoutManager", "threeDWidget"): "qMRMLThreeDWidget",
    ("qSlicerLayoutManager", "sliceWidget"): "qMRMLSliceWidget",
    ("qSlicerLayoutManager", "threeDWidget"): "qMRMLThreeDWidget",
    ("qMRMLThreeDWidget", "threeDView"): "qMRMLThreeDView",
    ("qMRMLNodeComboBox", "sortFilterProxyModel"): "qMRMLSortFilterProxyModel",
}
# Python modules of other extensions, by the class of theirs that is called.
EXTENSION_CLASSES = {
    "MONAIAuto3DSeg": {"MONAIAuto3DSegLogic"},
    "HDBrainExtractionTool": {"HDBrainExtractionToolLogic"},
}
PYTHON_MODULES = {"slicer.util", "slicer.packaging", "slicer.i18n", "SampleData"}


@dataclass
class Manifest:
    """The rows of the file, by class."""

    bases: dict = field(default_factory=dict)
    kinds: dict = field(default_factory=dict)  # (class, name) -> set of kinds
    parameters: dict = field(default_factory=dict)  # (class, name) -> names of the parameters
    sources: dict = field(default_factory=dict)

    @classmethod
    def read(cls, path=PATH):
        manifest = cls()
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                key = (row["class"], row["name"])
                manifest.sources[(*key, row["kind"])] = row["source"]
                if row["kind"] == "base":
                    manifest.bases[row["class"]] = row["name"]
                else:
                    name = row["name"].partition("(")[0] if row["kind"] == "signal" else row["name"]
                    manifest.kinds.setdefault((row["class"], name), set()).add(row["kind"])
                    if row["kind"] == "signal":
                        manifest.kinds.setdefault(key, set()).add("signature")
                    manifest.parameters[key] = row["parameters"].split()
        return manifest

    def classes(self):
        return {class_name for class_name, _ in self.kinds} | set(self.bases)

    def chain(self, class_name):
        """The class and its bases, as far as the file knows them; then the first one that is Qt's."""
        names = []
        while class_name:
            names.append(class_name)
            class_name = self.bases.get(class_name)
        return names

    def kinds_of(self, class_name, name):
        """What an attribute is: of property, method, signal, signature, enumerator, function, class; empty for none."""
        found = set()
        for cls in self.chain(class_name):
            found |= self.kinds.get((cls, name), set())
            if cls.startswith("Q"):
                found |= qt_kinds(cls, name)
        if name in PYTHONQT_METHODS:
            found.add("method")
        if name in PYTHONQT_PROPERTIES:
            found.add("property")
        return found


def qt_class(name):
    if name in PYSIDE_ONLY:
        return None
    return next((getattr(module, name) for module in QT_MODULES if hasattr(module, name)), None)


@functools.cache
def kept_subclass(cls):
    """A class below one of Qt's: what its own knows of itself goes with the first object that is asked for it."""
    return type(cls.__name__, (cls,), {})


def qt_kinds(class_name, name):
    """What an attribute of one of Qt's own classes is."""
    cls = qt_class(class_name)
    if cls is None:
        return set()
    meta = kept_subclass(cls).staticMetaObject if issubclass(cls, QtCore.QObject) else None
    found = set()
    if meta is not None:
        signatures = {
            bytes(meta.method(index).methodSignature().data()).decode()
            for index in range(meta.methodCount())
            if meta.method(index).methodType() == QtCore.QMetaMethod.Signal
        }
        if meta.indexOfProperty(name) >= 0:
            found.add("property")
        if name in signatures:
            found.add("signature")
        if any(signature.startswith(f"{name}(") for signature in signatures):
            found.add("signal")
    if not found and hasattr(cls, name):
        # PySide shows enumerators flat too, as PythonQt does.
        found.add("enumerator" if isinstance(getattr(cls, name), int) else "method")
    if name == "singleShot":
        found.add("method")
    return found


def check_ui(path, manifest):
    """Return what a .ui file has wrong, as sentences."""
    root = ElementTree.parse(path).getroot()
    wrong = []
    classes = {}
    for element in root.iter("widget"):
        class_name, name = element.get("class"), element.get("name")
        classes[name] = class_name
        if class_name not in manifest.classes() and qt_class(class_name) is None:
            wrong.append(f"{name}: no class {class_name}")
            continue
        for entry in element.findall("property"):
            known = "property" in manifest.kinds_of(class_name, entry.get("name")) or entry.get("name") == "buddy"
            if entry.get("stdset") != "0" and not known:
                wrong.append(f"{name}: {class_name} has no property {entry.get('name')}")
    for connection in root.iter("connection"):
        sender, signal, receiver, slot = (connection.findtext(tag) for tag in ("sender", "signal", "receiver", "slot"))
        if "signature" not in manifest.kinds_of(classes[sender], signal):
            wrong.append(f"{sender}: {classes[sender]} has no signal {signal}")
        if "method" not in manifest.kinds_of(classes[receiver], slot.partition("(")[0]):
            wrong.append(f"{receiver}: {classes[receiver]} has no slot {slot}")
    return wrong, classes


class CodeCheck(ast.NodeVisitor):
    """Walks a module's code; `wrong` then says what Slicer does not have.

    The class of an object is known where it comes from the .ui file, from `qt.`, `ctk.` or `slicer.`, or was assigned
    from one of these; other objects are not looked at.
    """

    def __init__(self, manifest, ui_classes):
        self.manifest, self.ui_classes = manifest, ui_classes
        self.wrong = []
        self.checked = 0
        self.known = {}  # source of an expression -> class
        self.called = set()
        self.parent_class = None

    def check(self, tree):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                self.called.add(id(node.func))
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    self.learn(target, node.value)
        self.visit(tree)
        return self

    def learn(self, target, value):
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for one, its_value in zip(target.elts, value.elts):
                self.learn(one, its_value)
            return
        class_name = self.class_of(value)
        if class_name and isinstance(target, (ast.Name, ast.Attribute)):
            self.known[ast.unparse(target)] = class_name

    def class_of(self, node):
        """The class of what an expression gives, None where it is not known."""
        text = ast.unparse(node)
        if text == "slicer.app":
            return "qSlicerApplication"
        if text == "self.parent":
            return self.parent_class
        if text in ("self.ui", "ui"):
            return "ui"
        if text == "slicer.dicomDatabase":
            return "ctkDICOMDatabase"
        if text in PYTHON_MODULES:
            return text
        if text in self.known:
            return self.known[text]
        if isinstance(node, ast.Attribute):
            owner = self.class_of(node.value)
            if owner == "ui":
                return self.ui_classes.get(node.attr, "no such widget")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = ast.unparse(node.func.value)
            if owner in ("qt", "ctk") or (owner == "slicer" and node.func.attr.startswith("q")):
                return node.func.attr
            if owner == "SampleData" and node.func.attr == "SampleDataLogic":
                return "SampleDataLogic"
            if node.func.attr in EXTENSION_CLASSES.get(owner, ()):
                return node.func.attr
            return RETURNED.get((self.class_of(node.func.value), node.func.attr))
        return None

    def say(self, node, text):
        self.wrong.append(f"line {node.lineno}: {ast.unparse(node)}: {text}")

    def visit_ClassDef(self, node):
        bases = [ast.unparse(base) for base in node.bases]
        if "ScriptedLoadableModule" in bases:
            self.parent_class = "qSlicerScriptedLoadableModule"
        elif "ScriptedLoadableModuleWidget" in bases:
            self.parent_class = "qSlicerScriptedLoadableModuleWidget"
        self.generic_visit(node)
        self.parent_class = None

    def visit_Attribute(self, node):
        self.generic_visit(node)
        owner = ast.unparse(node.value)
        if owner == "slicer":
            self.check_slicer(node)
        elif owner == "slicer.modules":
            own = node.attr.startswith(("TumorQuery", "tumorquery", "sampleData"))
            if node.attr not in SLICER_MODULES and not own:
                self.say(node, "no such module")
        elif owner in EXTENSION_CLASSES:
            self.checked += 1
            if node.attr not in EXTENSION_CLASSES[owner]:
                self.say(node, "the extension has no such name")
        elif owner in ("qt", "ctk"):
            self.checked += 1
            known = qt_class(node.attr) is not None if owner == "qt" else node.attr in self.manifest.classes()
            if not known and node.attr != "QUiLoader":
                self.say(node, "no such class")
        elif owner.startswith("qt.") and owner.count(".") == 2:
            self.say(node, "PythonQt has enumerators in their class, not in the enumeration")
        else:
            self.check_member(node)

    def check_slicer(self, node):
        self.checked += 1
        name = node.attr
        is_class = name.startswith("vtk") and hasattr(slicer_core, name)
        if not is_class and name not in SLICER_NAMES and name not in self.manifest.classes():
            self.say(node, "slicer has no such name")

    def check_member(self, node):
        class_name = self.class_of(node.value)
        if class_name is None:
            return
        self.checked += 1
        if class_name == "ui":
            if node.attr not in self.ui_classes:
                self.say(node, "the .ui file has no such widget")
            return
        kinds = self.manifest.kinds_of(class_name, node.attr)
        stores, calls = isinstance(node.ctx, ast.Store), id(node) in self.called
        if node.attr.startswith("_") or not kinds:
            self.say(node, f"{class_name} has no '{node.attr}'")
        elif stores and "property" not in kinds:
            self.say(node, f"'{node.attr}' of {class_name} is no property")
        elif calls and "property" in kinds and "method" not in kinds:
            self.say(node, f"'{node.attr}' of {class_name} is a property, not a method")

    def visit_Call(self, node):
        self.generic_visit(node)
        if not isinstance(node.func, ast.Attribute):
            return
        class_name, name = self.class_of(node.func.value), node.func.attr
        if class_name is None:
            return
        if name in ("connect", "disconnect") and node.args and isinstance(node.args[0], ast.Constant):
            signature = node.args[0].value
            if "signature" not in self.manifest.kinds_of(class_name, signature):
                self.say(node, f"{class_name} has no signal {signature}")
        parameters = self.manifest.parameters.get((class_name, name))
        if parameters and "**" not in parameters:
            for keyword in node.keywords:
                if keyword.arg is not None and keyword.arg not in parameters:
                    self.say(node, f"{name} takes no '{keyword.arg}'")
            if len(node.args) > len(parameters):
                self.say(node, f"{name} takes at most {len(parameters)} arguments")

    def visit_ImportFrom(self, node):
        module = node.module or ""
        for alias in node.names:
            if module == "slicer":
                known = hasattr(slicer_core, alias.name) or alias.name in SLICER_NAMES | {"vtkMRMLNode"}
                if not known:
                    self.say(node, f"slicer has no {alias.name}")
            elif module.startswith("slicer.") and not self.manifest.kinds.get((module, alias.name)):
                self.say(node, f"{module} has no {alias.name}")


def check_code(text, manifest, ui_classes):
    """Return (what the code uses that Slicer does not have, how many uses were looked at)."""
    check = CodeCheck(manifest, ui_classes).check(ast.parse(text))
    return check.wrong, check.checked
