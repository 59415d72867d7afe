"""PythonQt's semantics on PySide6: what `import qt` gives a module inside 3D Slicer.

Read in commontk/PythonQt, branch patched-10: src/PythonQtInstanceWrapper.cpp (attributes), src/PythonQtSignal.cpp and
src/PythonQtSignalReceiver.cpp (signals), src/PythonQtStdDecorators.cpp (connect, disconnect, findChildren).

- A Qt property is an attribute (`label.text`), never a getter method; its setter stays (`label.setText`).
- Setting an attribute that is no property raises AttributeError, unless the class was derived in Python.
- `connect("clicked(bool)", f)` and `clicked.connect(f)` both work. PythonQt prints a warning where the signal does not
  exist; here it raises, so that a wrong signature fails a test.
- Enumerators are ints; lists of strings arrive as tuples; `.name` is objectName; a trailing underscore is ignored;
  children and dynamic properties are attributes.
"""

import ctypes
import functools
import sys
import tempfile
import types

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

QT_MODULES = (QtCore, QtGui, QtWidgets, QtUiTools)
PYSIDE_ONLY = {"Signal", "Slot", "Property", "SIGNAL", "SLOT", "SignalInstance", "ClassInfo", "QEnum", "QFlag"}
STAND_IN_MODULES = "harness."

# PySide 6.12 gives away a reference to None with every call that returns nothing: before Python 3.12 that ends the
# process.
if sys.version_info < (3, 12):
    for _constant in (None, True, False):
        ctypes.c_ssize_t.from_address(id(_constant)).value += 1 << 40

_connections = {}


class QtProperty:
    """A Qt property as an attribute of instances; on the class a static method of that name shows."""

    def __init__(self, name, method, writable):
        self.name, self.method, self.writable = name, method, writable
        self.being_read = set()

    def __get__(self, instance, owner):
        if instance is None:
            return self.method if self.method is not None else self
        # Virtual getters (sizeHint) make PySide look for an override of that name: give it the plain method then.
        if id(instance) in self.being_read:
            return self.method.__get__(instance, owner) if self.method is not None else None
        self.being_read.add(id(instance))
        try:
            return as_pythonqt_value(QtCore.QObject.property(instance, self.name))
        finally:
            self.being_read.discard(id(instance))

    def __set__(self, instance, value):
        if not self.writable:
            raise AttributeError(f"property '{self.name}' of {type(instance).__name__} object is not writable")
        if not QtCore.QObject.setProperty(instance, self.name, value):
            raise AttributeError(f"property '{self.name}' of {type(instance).__name__} does not accept {value!r}")


def as_pythonqt_value(value):
    return tuple(value) if isinstance(value, list) else value


def connect(sender, signal, slot):
    """Connect as PythonQt does: by signature, keeping the callable alive, cutting surplus arguments."""
    signature = checked_signature(sender, signal)
    if not callable(slot):
        raise TypeError(f"{slot!r}, connected to {signal}, is not callable")

    def call(*arguments):
        arguments = [as_pythonqt_value(argument) for argument in arguments]
        count = accepted_arguments(slot)
        return slot(*(arguments if count is None else arguments[:count]))

    parameters = signature[signature.index("(") + 1 : -1]
    adapter = fixed_arity(call, len(parameters.split(",")) if parameters else 0)
    connected = QtCore.QObject.connect(sender, QtCore.SIGNAL(signature), adapter)
    if not connected:
        raise RuntimeError(f"could not connect to {signature} of {type(sender).__name__}")
    _connections.setdefault((id(sender), signature), []).append((slot, adapter))
    return True


def disconnect(sender, signal=None, slot=None):
    if signal is None:
        return sender.blockSignals(sender.signalsBlocked()) or True
    signature = checked_signature(sender, signal)
    entries = _connections.get((id(sender), signature), [])
    for entry in list(entries):
        if slot is None or entry[0] == slot:
            QtCore.QObject.disconnect(sender, QtCore.SIGNAL(signature), entry[1])
            entries.remove(entry)
            if slot is not None:
                return True
    return slot is None


def single_shot(milliseconds, slot):
    """`QTimer.singleShot(1000, f)`: PySide's own would go by `connect` as PySide has it."""
    timer = QtCore.QTimer()
    timer.setSingleShot(True)
    _waiting.add(timer)

    def shoot():
        _waiting.discard(timer)
        slot()

    timer.connect("timeout()", shoot)
    timer.start(milliseconds)


_waiting = set()


def checked_signature(sender, signal):
    """Return a signal's normalised signature; raise where the class has none of that name and arguments."""
    signature = bytes(QtCore.QMetaObject.normalizedSignature(signal).data()).decode()
    if "(" not in signature:
        raise ValueError(f"'{signal}' is not a signature; write it with its arguments, such as 'clicked(bool)'")
    known = signal_signatures(sender)
    # Stand-ins declare signals of MRML objects with a Python object's type.
    signature = known.get(signature, signature)
    if signature not in known.values():
        raise ValueError(f"{type(sender).__name__} has no signal '{signal}'; it has {', '.join(sorted(known))}")
    return signature


def signal_signatures(sender):
    """Return the signals of a QObject: {signature as the C++ class has it: signature as it is here}."""
    meta = sender.metaObject()
    here = [
        bytes(meta.method(index).methodSignature().data()).decode()
        for index in range(meta.methodCount())
        if meta.method(index).methodType() == QtCore.QMetaMethod.Signal
    ]
    known = {signature: signature for signature in here}
    for cls in type(sender).__mro__:
        known.update({cpp: own for cpp, own in vars(cls).get("SIGNATURES", {}).items() if own in here})
    return known


def accepted_arguments(slot):
    """Return how many arguments PythonQt passes (None: all), which counts those with a default too."""
    function = getattr(slot, "__func__", slot)
    code = getattr(function, "__code__", None)
    if code is None or code.co_flags & 0x04:  # *args
        return None
    return code.co_argcount - (1 if hasattr(slot, "__self__") and function is not slot else 0)


def fixed_arity(call, count):
    """PySide reads the number of arguments off the function, so make one that has as many as the signal."""
    names = ", ".join(f"argument{index}" for index in range(count))
    return eval(f"lambda {names}: call({names})", {"call": call})


@functools.cache  # asked at every access of an attribute
def is_declared_property(cls, name):
    """Whether a Python class declares this Qt property."""
    return any(type(vars(base).get(name)).__name__ == "Property" for base in cls.__mro__)


def is_derived_in_python(cls):
    module = cls.__module__
    return not module.startswith(("PySide6", "shiboken", STAND_IN_MODULES))


def _properties_of(cls):
    """Give the properties that a class declares, and the inherited ones whose getter it overrides (sizeHint)."""
    meta = cls.staticMetaObject
    for index in range(meta.propertyCount()):
        qt_property = meta.property(index)
        if index >= meta.propertyOffset() or qt_property.name() in vars(cls):
            yield qt_property


def _install_attribute_access(cls, getattribute):
    def get(self, name):
        if name == "connect":
            return lambda signal, slot, connection_type=None: connect(self, signal, slot)
        if name == "disconnect":
            return lambda signal=None, slot=None: disconnect(self, signal, slot)
        if name == "name" and not hasattr(type(self), "name"):
            return QtCore.QObject.property(self, "objectName")
        try:
            value = getattribute(self, name)
            # Qt properties that a stand-in declares come as PySide gives them.
            return as_pythonqt_value(value) if is_declared_property(type(self), name) else value
        except AttributeError:
            if name.startswith("__"):
                raise
            if name.endswith("_") and hasattr(self, name[:-1]):
                return getattribute(self, name[:-1])
            if name == "className":
                return lambda: self.metaObject().className()
            if name in [bytes(known.data()).decode() for known in self.dynamicPropertyNames()]:
                return as_pythonqt_value(QtCore.QObject.property(self, name))
            for child in QtCore.QObject.children(self):
                if QtCore.QObject.property(child, "objectName") == name:
                    return child
            raise AttributeError(f"{type(self).__name__} has no attribute named '{name}'") from None

    def set_(self, name, value):
        attribute = next((vars(base)[name] for base in type(self).__mro__ if name in vars(base)), None)
        if attribute is not None and hasattr(attribute, "__set__"):
            attribute.__set__(self, value)
        elif is_declared_property(type(self), name):
            if not QtCore.QObject.setProperty(self, name, value):
                raise AttributeError(f"property '{name}' of {type(self).__name__} is not writable")
        elif type(value).__name__ == "SignalInstance":
            self.__dict__[name] = value  # PySide keeps a bound signal with its object
        elif isinstance(value, QtCore.QObject) and QtCore.QObject.property(value, "objectName") == name:
            pass  # PySide's QUiLoader makes the children attributes of the root; here they are looked up
        elif name == "name":
            QtCore.QObject.setProperty(self, "objectName", value)
        elif is_derived_in_python(type(self)) or (
            type(self).__module__.startswith(STAND_IN_MODULES) and name.startswith("_")
        ):
            self.__dict__[name] = value
        elif name in [bytes(known.data()).decode() for known in self.dynamicPropertyNames()]:
            QtCore.QObject.setProperty(self, name, value)
        else:
            raise AttributeError(
                f"'{name}' does not exist on {type(self).__name__} "
                "and creating new attributes on C++ objects is not allowed"
            )

    cls.__getattribute__ = get
    cls.__setattr__ = set_


def _install():
    classes = []
    for module in QT_MODULES:
        for name in dir(module):  # vars() would miss the classes that PySide makes on first use
            candidate = getattr(module, name)
            if isinstance(candidate, type) and issubclass(candidate, QtCore.QObject):
                classes.append(candidate)
    # Every class has its own, and calling another class's can crash (QFile.exists).
    originals = {cls: cls.__getattribute__ for cls in classes}
    for cls in classes:
        for qt_property in _properties_of(cls):
            name = qt_property.name()
            setattr(cls, name, QtProperty(name, getattr(cls, name, None), qt_property.isWritable()))
    for cls in classes:
        _install_attribute_access(cls, originals[cls])
    vars(QtCore.QTimer)["singleShot"].method = single_shot  # on an object it is the property


def make_qt_module():
    """Return the module that `import qt` finds: the names of QtCore, QtGui and QtWidgets in one, as in Slicer."""
    qt = types.ModuleType("qt")
    for module in QT_MODULES:
        for name in dir(module):
            if not name.startswith("_") and name not in PYSIDE_ONLY:
                setattr(qt, name, getattr(module, name))
    sys.modules["qt"] = qt
    return qt


def application():
    """Return the QApplication; its settings go to a folder of this process, not to the user's."""
    running = QtWidgets.QApplication.instance()
    if running is not None:
        return running
    settings_folder = tempfile.mkdtemp(prefix="slicer-settings-")
    QtCore.QSettings.setDefaultFormat(QtCore.QSettings.IniFormat)
    QtCore.QSettings.setPath(QtCore.QSettings.IniFormat, QtCore.QSettings.UserScope, settings_folder)
    running = QtWidgets.QApplication(["Slicer"])
    running.setOrganizationName("NA-MIC")
    QtCore.QCoreApplication.setApplicationName("Slicer")
    running.setStyle("Fusion")
    return running


_install()
