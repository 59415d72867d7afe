"""`slicer.parameterNodeWrapper`: typed parameters on a vtkMRMLScriptedModuleNode, and their widgets.

What it does was read in Slicer/Slicer, Base/Python/slicer/parameterNodeWrapper: wrapper.py, serializers.py,
guiConnectors.py, validators.py. Here are the types and widgets that the panel needs; any other raises.
"""

import collections.abc
import enum
import pathlib
import types
import typing
import weakref
from dataclasses import dataclass
from typing import Any

import ctk
import qt
import slicer
import vtk

PROPERTY_NAME = "SlicerParameterName"


class Validator:
    """Base of what checks a value as it is set."""


@dataclass
class WithinRange(Validator):
    minimum: float
    maximum: float

    def validate(self, value):
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"Value must be within range [{self.minimum}, {self.maximum}], is {value}")


@dataclass
class Minimum(Validator):
    minimum: float

    def validate(self, value):
        if value < self.minimum:
            raise ValueError(f"Value must be at least {self.minimum}, is {value}")


@dataclass
class Maximum(Validator):
    maximum: float

    def validate(self, value):
        if value > self.maximum:
            raise ValueError(f"Value must be at most {self.maximum}, is {value}")


@dataclass
class Choice(Validator):
    choices: Any

    def validate(self, value):
        if value not in self.choices:
            raise ValueError(f"Value is {value}, but must be one of {self.choices}")


@dataclass
class Default:
    value: Any


@dataclass
class Decimals:
    value: int


@dataclass
class SingleStep:
    value: float


class ObservedList(collections.abc.MutableSequence):
    """A list of the parameter node: a change of it is written there."""

    def __init__(self, values, write):
        self._values, self._write = list(values), write

    def __getitem__(self, index):
        return self._values[index]

    def __setitem__(self, index, value):
        self._values[index] = value
        self._write(self._values)

    def __delitem__(self, index):
        del self._values[index]
        self._write(self._values)

    def insert(self, index, value):
        self._values.insert(index, value)
        self._write(self._values)

    def __len__(self):
        return len(self._values)

    def __eq__(self, other):
        return self._values == list(other)

    def __repr__(self):
        return f"ObservedList({self._values})"


def split_annotations(datatype):
    """Return (type, annotations, node types): the type bare, with the node types of a union of them."""
    annotations = ()
    if typing.get_origin(datatype) is typing.Annotated:
        datatype, *annotations = typing.get_args(datatype)
    members = (datatype,)
    if typing.get_origin(datatype) in (typing.Union, types.UnionType):
        members = tuple(member for member in typing.get_args(datatype) if member is not type(None))
    is_nodes = all(isinstance(member, type) and issubclass(member, slicer.vtkMRMLNode) for member in members)
    if is_nodes:
        return slicer.vtkMRMLNode, tuple(annotations), members
    return datatype, tuple(annotations), ()


class Parameter:
    """One typed member: how it is written to the node, read from it and checked."""

    def __init__(self, name, datatype, default):
        self.name = name
        self.type, self.annotations, self.node_types = split_annotations(datatype)
        self.validators = [annotation for annotation in self.annotations if isinstance(annotation, Validator)]
        self.is_string_list = typing.get_origin(self.type) is list and typing.get_args(self.type) == (str,)
        known = (int, float, str, bool, pathlib.Path, slicer.vtkMRMLNode)
        is_enum = isinstance(self.type, type) and issubclass(self.type, enum.Enum)
        if not (self.type in known or is_enum or self.is_string_list):
            raise TypeError(f"the stand-in of parameterNodeWrapper knows no parameter of type {datatype} ({name})")
        for annotation in self.annotations:
            if not isinstance(annotation, (Validator, Default, Decimals, SingleStep)):
                raise TypeError(f"unknown annotation {annotation!r} of parameter {name}")
        self.default = self._default(default)
        if self.default is not None or not self.node_types:
            self.check(self.default)

    def _default(self, given):
        for annotation in self.annotations:
            if isinstance(annotation, Default):
                return annotation.value
        if given is not None:
            return given
        if self.node_types:
            return None
        if self.is_string_list:
            return []
        if issubclass(self.type, enum.Enum):
            return next(iter(self.type))
        return {int: 0, float: 0.0, str: "", bool: False, pathlib.Path: pathlib.Path()}[self.type]

    def check(self, value):
        if self.node_types:
            if value is not None and not isinstance(value, self.node_types):
                raise TypeError(f"{self.name} takes {self.node_types}, not {type(value).__name__}")
            return
        expected = list if self.is_string_list else self.type
        if self.is_string_list:
            accepted = isinstance(value, collections.abc.Sequence) and not isinstance(value, str)
            accepted = accepted and all(isinstance(entry, str) for entry in value)
        elif expected is float:
            accepted = isinstance(value, (int, float))
        elif expected is pathlib.Path:
            accepted = isinstance(value, pathlib.PurePath)
        else:
            accepted = isinstance(value, expected)
        if not accepted:
            raise TypeError(f"{self.name} takes {expected.__name__}, not {type(value).__name__} ({value!r})")
        for validator in self.validators:
            validator.validate(value)

    @property
    def serializer(self):
        return Serializer(self)

    def is_in(self, node):
        return node.HasParameter(f"{self.name}.len" if self.is_string_list else self.name)

    def write(self, node, value):
        self.check(value)
        with slicer.util.NodeModify(node):
            if self.node_types:
                node.SetParameter(self.name, "")
                node.SetNodeReferenceID(self.name, value.GetID() if value is not None else None)
            elif self.is_string_list:
                for index in range(len(value), int(node.GetParameter(f"{self.name}.len") or 0)):
                    node.UnsetParameter(f"{self.name}.{index}")
                for index, entry in enumerate(value):
                    node.SetParameter(f"{self.name}.{index}", entry)
                node.SetParameter(f"{self.name}.len", str(len(value)))
            elif isinstance(value, enum.Enum):
                node.SetParameter(self.name, value.name)
            else:
                node.SetParameter(self.name, str(value))

    def read(self, node):
        if not self.is_in(node):
            self.write(node, self.default)
        if self.node_types:
            return node.GetNodeReference(self.name)
        if self.is_string_list:
            count = int(node.GetParameter(f"{self.name}.len"))
            values = [node.GetParameter(f"{self.name}.{index}") for index in range(count)]
            return ObservedList(values, lambda changed: self.write(node, changed))
        text = node.GetParameter(self.name)
        if self.type is bool:
            return text == "True"
        if issubclass(self.type, enum.Enum):
            if text not in self.type.__members__:
                raise ValueError(f"Found {text!r} in parameter node but it is not a name in {self.type!r}")
            return self.type[text]
        return self.type(text)


class Serializer:
    """What serializers.py has for a parameter, as far as the module asks for it."""

    def __init__(self, parameter):
        self._parameter = parameter

    def isIn(self, node, name):
        return self._parameter.is_in(node)

    def read(self, node, name):
        return self._parameter.read(node)

    def remove(self, node, name):
        node.UnsetParameter(f"{name}.len" if self._parameter.is_string_list else name)


class Connector:
    """How a widget shows a parameter of a type: read, write, and the signal that tells of a change."""

    def __init__(self, widget, parameter):
        self.widget, self.parameter = widget, parameter
        self.callback = None
        prepare = CONNECTORS.get(type(widget))
        if prepare is None:
            raise RuntimeError(f"Unable to create GUI connector from {parameter.type} to {type(widget).__name__}")
        self.read, self.write, self.signal = prepare(widget, parameter)

    def connect(self, callback):
        self.callback = lambda *_: callback()
        self.widget.connect(self.signal, self.callback)

    def disconnect(self):
        self.widget.disconnect(self.signal, self.callback)
        self.callback = None  # which holds the parameter node's wrapper


def wants(parameter, *types_):
    if parameter.type not in types_:
        raise RuntimeError(f"Unable to create GUI connector for parameter {parameter.name} of type {parameter.type}")


def check_box(widget, parameter):
    wants(parameter, bool)
    return lambda: widget.checked, lambda value: setattr(widget, "checked", value), "stateChanged(int)"


def push_button(widget, parameter):
    wants(parameter, bool)
    widget.checkable = True
    return lambda: widget.checked, lambda value: setattr(widget, "checked", value), "toggled(bool)"


def spin_box(widget, parameter):
    wants(parameter, int)
    set_range(widget, parameter, -(2**31), 2**31 - 1)
    return lambda: widget.value, lambda value: setattr(widget, "value", value), "valueChanged(int)"


def number_widget(widget, parameter):
    wants(parameter, int, float)
    bounded = any(isinstance(annotation, WithinRange) for annotation in parameter.annotations)
    if isinstance(widget, ctk.ctkSliderWidget) and not bounded:
        raise RuntimeError(f"a slider needs a range: parameter {parameter.name} has none")
    if parameter.type is int:
        widget.decimals = 0
    for annotation in parameter.annotations:
        if isinstance(annotation, Decimals):
            widget.decimals = annotation.value
        if isinstance(annotation, SingleStep):
            widget.singleStep = annotation.value
    set_range(widget, parameter, float("-inf"), float("inf"))
    return (
        lambda: parameter.type(widget.value),
        lambda value: setattr(widget, "value", parameter.type(value)),
        "valueChanged(double)",
    )


def set_range(widget, parameter, lowest, highest):
    for annotation in parameter.annotations:
        lowest = getattr(annotation, "minimum", lowest)
        highest = getattr(annotation, "maximum", highest)
    widget.setMinimum(lowest) if hasattr(widget, "setMinimum") else setattr(widget, "minimum", lowest)
    widget.setMaximum(highest) if hasattr(widget, "setMaximum") else setattr(widget, "maximum", highest)


def combo_box(widget, parameter):
    choices = [validator.choices for validator in parameter.validators if isinstance(validator, Choice)]
    if isinstance(parameter.type, type) and issubclass(parameter.type, enum.Enum):
        values = list(parameter.type)
        label = getattr(parameter.type, "label", lambda member: member.name)
    elif choices:
        values, label = list(choices[0]), str
    else:
        raise RuntimeError(f"a combo box needs the Choice annotation: parameter {parameter.name} has none")
    widget.clear()
    for value in values:
        widget.addItem(label(value))
    return (
        lambda: values[widget.currentIndex],
        lambda value: setattr(widget, "currentIndex", values.index(value)),
        "currentIndexChanged(int)",
    )


def line_edit(widget, parameter):
    wants(parameter, str)

    def write(value):
        if value != widget.text:
            widget.text = value

    return lambda: widget.text, write, "textChanged(QString)"


def path_line_edit(widget, parameter):
    wants(parameter, pathlib.Path)
    return (
        lambda: pathlib.Path(widget.currentPath),
        lambda value: setattr(widget, "currentPath", str(value)),
        "currentPathChanged(QString)",
    )


def node_combo_box(widget, parameter):
    if not parameter.node_types:
        raise RuntimeError(f"a node selector needs a node parameter: {parameter.name} is {parameter.type}")
    widget.nodeTypes = [node_type.__name__ for node_type in parameter.node_types]
    return widget.currentNode, widget.setCurrentNode, "currentNodeChanged(vtkMRMLNode*)"


# As in guiConnectors.py the very class counts: a subclass (qMRMLColorTableComboBox) has no connector.
CONNECTORS = {
    qt.QCheckBox: check_box,
    qt.QPushButton: push_button,
    qt.QSpinBox: spin_box,
    qt.QSlider: spin_box,
    qt.QDoubleSpinBox: number_widget,
    ctk.ctkSliderWidget: number_widget,
    qt.QComboBox: combo_box,
    qt.QLineEdit: line_edit,
    ctk.ctkPathLineEdit: path_line_edit,
    slicer.qMRMLNodeComboBox: node_combo_box,
}


# Where Python forgets a node that the scene keeps, its garbage collector empties what VTK still calls.
_observers = []


def wrap(cls):
    """Make the class's annotated members properties on a parameter node."""
    parameters = {
        name: Parameter(name, datatype, cls.__dict__.get(name))
        for name, datatype in typing.get_type_hints(cls, include_extras=True).items()
    }

    def __init__(self, parameterNode, prefix=None):
        if prefix is not None:
            raise TypeError("the stand-in of parameterNodeWrapper knows no prefix")
        object.__setattr__(self, "parameterNode", parameterNode)
        object.__setattr__(self, "_connections", {})
        object.__setattr__(self, "_updating_gui", False)
        object.__setattr__(self, "_cached", {})
        for parameter in parameters.values():
            if not parameter.is_in(parameterNode):
                parameter.write(parameterNode, parameter.default)
        take_values(self)
        # As in wrapper.py: a value, a node too, is read again only when the node says that it was modified.
        this = weakref.ref(self)
        observer = lambda *_: this() and take_values(this())  # noqa: E731
        _observers.append(observer)
        parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, observer)

    def take_values(self):
        for name, parameter in parameters.items():
            if not parameter.is_string_list:
                self._cached[name] = parameter.read(self.parameterNode)

    def parameter_named(name):
        if name not in parameters:
            raise ValueError(f"Cannot find a param with the given name: {name}; there are {', '.join(parameters)}")
        return parameters[name]

    def getValue(self, name):
        parameter = parameter_named(name)
        return parameter.read(self.parameterNode) if parameter.is_string_list else self._cached[name]

    def setValue(self, name, value):
        parameter = parameter_named(name)
        with slicer.util.NodeModify(self.parameterNode):
            parameter.write(self.parameterNode, value)
            self._cached[name] = parameter.read(self.parameterNode)

    def connectGui(self, gui):
        if isinstance(gui, qt.QObject):
            widgets = gui.findChildren(qt.QWidget)
        else:
            widgets = [widget for widget in vars(gui).values() if isinstance(widget, qt.QWidget)]
        named = {widget.property(PROPERTY_NAME): widget for widget in widgets if widget.property(PROPERTY_NAME)}
        return connectParametersToGui(self, named)

    def connectParametersToGui(self, mapping):
        connectors = {name: Connector(widget, parameter_named(name)) for name, widget in mapping.items()}

        def take_from_widget(name, connector):
            if not self._updating_gui:
                with slicer.util.NodeModify(self.parameterNode):
                    setValue(self, name, connector.read())

        def show(*_):
            if self._updating_gui:
                return
            object.__setattr__(self, "_updating_gui", True)
            try:
                for name, connector in connectors.items():
                    connector.write(getValue(self, name))
            finally:
                object.__setattr__(self, "_updating_gui", False)

        for name, connector in connectors.items():
            connector.write(getValue(self, name))
            connector.connect(lambda name=name, connector=connector: take_from_widget(name, connector))
        tag = len(self._connections)
        self._connections[tag] = (connectors, self.parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, show))
        return tag

    def disconnectGui(self, tag):
        connectors, observer = self._connections.pop(tag, ({}, None))
        for connector in connectors.values():
            connector.disconnect()
        if observer is not None:
            self.parameterNode.RemoveObserver(observer)

    def __setattr__(self, name, value):
        if name in parameters:
            setValue(self, name, value)
        elif hasattr(cls, name) or name.startswith("_"):
            object.__setattr__(self, name, value)
        else:
            raise AttributeError(f"{cls.__name__} has no parameter '{name}'")

    for name in parameters:
        setattr(cls, name, property(lambda self, name=name: getValue(self, name)))
    members = {
        "__init__": __init__,
        "__setattr__": __setattr__,
        "allParameters": parameters,
        "getValue": getValue,
        "setValue": setValue,
        "connectGui": connectGui,
        "connectParametersToGui": connectParametersToGui,
        "disconnectGui": disconnectGui,
        "default": lambda self, name: Default(parameter_named(name).default),
        "StartModify": lambda self: self.parameterNode.StartModify(),
        "EndModify": lambda self, previous: self.parameterNode.EndModify(previous),
        "AddObserver": lambda self, event, callback, priority=0.0: self.parameterNode.AddObserver(
            event, callback, priority
        ),
        "RemoveObserver": lambda self, tag: self.parameterNode.RemoveObserver(tag),
        "Modified": lambda self: self.parameterNode.Modified(),
    }
    for name, member in members.items():
        if not name.startswith("__") and name in cls.__dict__:
            raise ValueError(f"Cannot use reserved name '{name}' in a parameterNodeWrapper")
        setattr(cls, name, member)
    return cls


def parameterNodeWrapper(cls=None):
    return wrap if cls is None else wrap(cls)


EXPORTS = {
    "parameterNodeWrapper": parameterNodeWrapper,
    "Validator": Validator,
    "WithinRange": WithinRange,
    "Minimum": Minimum,
    "Maximum": Maximum,
    "Choice": Choice,
    "Default": Default,
    "Decimals": Decimals,
    "SingleStep": SingleStep,
}
