"""QUiLoader as Slicer's: it knows the CTK and qMRML widgets; here it also refuses what a .ui file gets wrong."""

from xml.etree import ElementTree

from PySide6 import QtCore, QtUiTools

from harness import ctk_widgets, mrml_widgets
from harness.pythonqt import checked_signature

CLASSES = ctk_widgets.CLASSES
_ = mrml_widgets  # defines more of them
LAYOUT_PROPERTIES = {"leftMargin", "topMargin", "rightMargin", "bottomMargin", "margin", "verticalSpacing"}


class QUiLoader(QtUiTools.QUiLoader):
    """Load a .ui file; an unknown widget, property, signal or slot in it raises, where Qt would print a line."""

    def createWidget(self, class_name, parent=None, name=""):
        if class_name in CLASSES:
            try:
                widget = CLASSES[class_name](parent)
            except Exception as error:  # Qt would go on without the widget
                self.__dict__["error"] = error
                raise
            widget.setObjectName(name)
            return widget
        return QtUiTools.QUiLoader.createWidget(self, class_name, parent, name)

    def load(self, device, parent=None):
        root = ElementTree.fromstring(bytes(device.readAll().data()))
        known = set(self.availableWidgets()) | set(CLASSES)
        unknown = {element.get("class") for element in root.iter("widget")} - known
        if unknown:
            raise ValueError(f"the .ui file has widgets without a stand-in: {', '.join(sorted(unknown))}")
        connections = root.find("connections")
        if connections is not None:
            root.remove(connections)
        for element in root.iter("widget"):
            if element.get("class") in CLASSES:
                number_enumerators(element)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(root, encoding="utf-8"))
        buffer.open(QtCore.QIODevice.ReadOnly)
        widget = QtUiTools.QUiLoader.load(self, buffer, parent)
        if "error" in self.__dict__:
            raise self.__dict__["error"]
        if widget is None:
            raise ValueError(f"the .ui file could not be loaded: {self.errorString()}")
        for element in root.iter("widget"):
            check_properties(element, find(widget, element.get("name")))
        for connection in connections if connections is not None else ():
            connect(widget, connection)
        return widget


def number_enumerators(element):
    """Write the stand-in's own enumerators (<set>ctkPathLineEdit::Files</set>) as the numbers they are."""
    for entry in element.findall("property"):
        for value in entry:
            if value.tag in ("set", "enum") and value.text.startswith("ctk"):
                total = 0
                for enumerator in value.text.split("|"):
                    class_name, _, name = enumerator.partition("::")
                    total |= getattr(CLASSES[class_name], name)
                value.tag, value.text = "number", str(total)


def find(widget, name):
    if widget.objectName == name:
        return widget
    found = widget.findChild(QtCore.QObject, name)
    if found is None:
        raise ValueError(f"the .ui file names {name}, which it does not make")
    return found


def check_properties(element, widget):
    """Refuse a property that the class does not have (Qt would make a dynamic one of it)."""
    if widget.metaObject().className() != element.get("class"):
        raise ValueError(f"{element.get('name')} is a {widget.metaObject().className()}, not {element.get('class')}")
    for entry in element.findall("property"):
        name = entry.get("name")
        if entry.get("stdset") != "0" and widget.metaObject().indexOfProperty(name) < 0 and name != "buddy":
            raise ValueError(f"{element.get('class')} {element.get('name')} has no property '{name}'")


def connect(root, connection):
    """Make a connection of the .ui file between Python objects, which Qt cannot make by their vtk arguments."""
    sender, signal, receiver, slot = (connection.findtext(tag) for tag in ("sender", "signal", "receiver", "slot"))
    sender, receiver = find(root, sender), find(root, receiver)
    checked_signature(sender, signal)
    method = getattr(receiver, slot.partition("(")[0])
    if not callable(method):
        raise ValueError(f"{type(receiver).__name__} has no slot '{slot}'")
    count = 0 if slot.endswith("()") else slot.count(",") + 1
    sender.connect(signal, lambda *arguments: method(*arguments[:count]))
