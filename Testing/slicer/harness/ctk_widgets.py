"""Stand-ins for the CTK widgets of the panel, with the properties, signals and slots that `api_manifest.csv.gz` lists.

Setters that are no slots in CTK are hidden from Python in Slicer, so they are private here. The look is Qt's own.
"""

import re
import sys
import types
from typing import ClassVar

from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal

CLASSES = {}


def stand_in(cls):
    """Make a class known to the .ui loader and to the modules ctk and slicer."""
    CLASSES[cls.__name__] = cls
    return cls


@stand_in
class ctkCollapsibleButton(QtWidgets.QAbstractButton):
    """A title that shows and hides what is laid out below it."""

    contentsCollapsed = Signal(bool)

    TITLE_HEIGHT = 22

    def __init__(self, *arguments):
        text = arguments[0] if arguments and isinstance(arguments[0], str) else ""
        parent = arguments[-1] if arguments and isinstance(arguments[-1], QtWidgets.QWidget) else None
        super().__init__(parent)
        self.setText(text)
        self._collapsed = False
        self._collapsed_height = 10
        self._hidden_by_collapse = []
        self.setCheckable(True)
        self.setChecked(True)
        self.setContentsMargins(0, self.TITLE_HEIGHT, 0, 0)
        self.setSizePolicy(QtWidgets.QSizePolicy.Minimum, QtWidgets.QSizePolicy.Preferred)
        self.toggled.connect(lambda checked: self._set_collapsed(not checked))

    def _get_collapsed(self):
        return self._collapsed

    def _set_collapsed(self, collapsed):
        if collapsed == self._collapsed:
            return
        self._collapsed = collapsed
        self.setChecked(not collapsed)
        if collapsed:
            children = [child for child in self.children() if isinstance(child, QtWidgets.QWidget)]
            self._hidden_by_collapse = [child for child in children if not child.isHidden()]
            for child in self._hidden_by_collapse:
                child.setVisible(False)
        else:
            for child in self._hidden_by_collapse:
                child.setVisible(True)
            self._hidden_by_collapse = []
        self.updateGeometry()
        self.contentsCollapsed.emit(collapsed)

    collapsed = Property(bool, _get_collapsed, _set_collapsed)
    collapsedHeight = Property(
        int, lambda self: self._collapsed_height, lambda self, value: setattr(self, "_collapsed_height", value)
    )

    def childEvent(self, event):
        # What a .ui file adds below an already collapsed title is hidden too, once it is fully made.
        if self._collapsed and event.polished() and isinstance(event.child(), QtWidgets.QWidget):
            self._hidden_by_collapse.append(event.child())
            event.child().setVisible(False)
        QtWidgets.QAbstractButton.childEvent(self, event)

    def sizeHint(self):
        below = QtCore.QSize(0, 0)
        if self.layout() is not None and not self._collapsed:
            return self.layout().totalSizeHint()
        return QtCore.QSize(max(below.width(), 120), self.TITLE_HEIGHT + below.height())

    def minimumSizeHint(self):
        if self.layout() is not None and not self._collapsed:
            return self.layout().totalMinimumSize()
        return QtCore.QSize(60, self.TITLE_HEIGHT)

    def hitButton(self, position):
        return position.y() < self.TITLE_HEIGHT

    def paintEvent(self, event):
        painter = QtWidgets.QStylePainter(self)
        option = QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        option.rect = QtCore.QRect(0, 0, self.width, self.TITLE_HEIGHT - 1)
        option.state |= QtWidgets.QStyle.State_Raised
        painter.drawControl(QtWidgets.QStyle.CE_PushButtonBevel, option)
        arrow = QtWidgets.QStyleOption()
        arrow.initFrom(self)
        arrow.rect = QtCore.QRect(6, 6, 10, 10)
        kind = QtWidgets.QStyle.PE_IndicatorArrowRight if self._collapsed else QtWidgets.QStyle.PE_IndicatorArrowDown
        painter.drawPrimitive(kind, arrow)
        painter.drawText(option.rect.adjusted(22, 0, 0, 0), QtCore.Qt.AlignVCenter | QtCore.Qt.AlignLeft, self.text)
        painter.end()


@stand_in
class ctkCollapsibleGroupBox(QtWidgets.QGroupBox):
    """A group box that its check mark shows and hides."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self.setCheckable(True)
        self._collapsed_height = 14
        self._hidden_by_collapse = []
        self.toggled.connect(self._show_contents)

    def _show_contents(self, shown):
        children = [child for child in self.children() if isinstance(child, QtWidgets.QWidget)]
        if shown:
            for child in self._hidden_by_collapse:
                child.setVisible(True)
            self._hidden_by_collapse = []
        else:
            self._hidden_by_collapse = [child for child in children if not child.isHidden()]
            for child in self._hidden_by_collapse:
                child.setVisible(False)
        self.setMaximumHeight(16777215 if shown else self._collapsed_height + 10)

    def childEvent(self, event):
        if not self.isChecked() and event.polished() and isinstance(event.child(), QtWidgets.QWidget):
            self._hidden_by_collapse.append(event.child())
            event.child().setVisible(False)
        QtWidgets.QGroupBox.childEvent(self, event)

    collapsed = Property(
        bool, lambda self: not self.isChecked(), lambda self, collapsed: self.setChecked(not collapsed)
    )
    collapsedHeight = Property(
        int, lambda self: self._collapsed_height, lambda self, value: setattr(self, "_collapsed_height", value)
    )


@stand_in
class ctkPathLineEdit(QtWidgets.QWidget):
    """An editable path with a history and a button that opens a file dialog.

    As ctkPathLineEdit.cpp does, a text that the pattern made of the name filters refuses, the empty one too, is shown
    and tells nobody.
    """

    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)

    Dirs, Files, Drives, NoSymLinks = 0x001, 0x002, 0x004, 0x008
    AllEntries = Dirs | Files | Drives
    Readable, Writable, Executable, Hidden = 0x010, 0x020, 0x040, 0x100
    NoDot, NoDotDot = 0x2000, 0x4000
    NoDotAndDotDot = 0x1000

    def __init__(self, parent=None):
        super().__init__(parent)
        self._settings = {"label": "", "filters": self.AllEntries, "nameFilters": [], "settingKey": ""}
        self._combo_box = QtWidgets.QComboBox(self)
        self._combo_box.setEditable(True)
        self._combo_box.setSizeAdjustPolicy(QtWidgets.QComboBox.AdjustToMinimumContentsLengthWithIcon)
        self._browse_button = QtWidgets.QToolButton(self)
        self._browse_button.setText("...")
        self._browse_button.clicked.connect(self.browse)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo_box, 1)
        layout.addWidget(self._browse_button)
        self._combo_box.editTextChanged.connect(self._take_text)

    def _setting(type_, name):
        return Property(
            type_, lambda self: self._settings[name], lambda self, value: self._settings.__setitem__(name, value)
        )

    label = _setting(str, "label")
    filters = _setting(int, "filters")
    nameFilters = _setting("QStringList", "nameFilters")
    settingKey = _setting(str, "settingKey")
    del _setting

    currentPath = Property(
        str, lambda self: self._combo_box.currentText, lambda self, path: self._combo_box.setEditText(path)
    )
    showBrowseButton = Property(
        bool,
        lambda self: not self._browse_button.isHidden(),
        lambda self, shown: self._browse_button.setVisible(shown),
    )

    def _take_text(self, text):
        if re.fullmatch(self._pattern(), text):
            self.currentPathChanged.emit(text)

    def _pattern(self):
        """What ctkUtils.cpp makes of the name filters; the end is as strange there."""
        wanted = [one for text in self._settings["nameFilters"] for one in re.findall(r"\*[.\w]*", text)]
        return "|".join(one.replace(".", r"\.").replace("*", ".*") + "?$" for one in wanted) or ".+"

    def setCurrentPath(self, path):
        self._combo_box.setEditText(path)

    def comboBox(self):
        return self._combo_box

    def browse(self):
        # CTK opens a save dialog where the file has to be writable, which no filter of an open dialog says.
        saves = bool(self._settings["filters"] & self.Writable)
        dialog = QtWidgets.QFileDialog.getSaveFileName if saves else QtWidgets.QFileDialog.getOpenFileName
        path, _ = dialog(self, self._settings["label"], "", ";;".join(self._settings["nameFilters"]))
        if path:
            self.setCurrentPath(path)

    def addCurrentPathToHistory(self):
        if self._combo_box.findText(self._combo_box.currentText) < 0:
            self._combo_box.addItem(self._combo_box.currentText)

    def retrieveHistory(self):
        pass


@stand_in
class ctkSliderWidget(QtWidgets.QWidget):
    """A slider of floats with a spin box."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)
    decimalsChanged = Signal(int)
    SIGNATURES: ClassVar = {
        "valueChanged(double)": "valueChanged(double)",
        "valueIsChanging(double)": "valueIsChanging(double)",
    }

    STEPS = 10_000

    def __init__(self, parent=None):
        super().__init__(parent)
        self._slider = QtWidgets.QSlider(QtCore.Qt.Horizontal, self)
        self._slider.setRange(0, self.STEPS)
        self._spin_box = QtWidgets.QDoubleSpinBox(self)
        self._spin_box.setRange(0.0, 99.0)
        self._tracking = True
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider, 1)
        layout.addWidget(self._spin_box)
        self._spin_box.valueChanged.connect(self._show_value)
        self._slider.valueChanged.connect(self._take_slider)
        self._slider.sliderReleased.connect(lambda: self._tracking or self.valueChanged.emit(self._spin_box.value))

    def _show_value(self, value):
        span = self._spin_box.maximum - self._spin_box.minimum
        self._slider.blockSignals(True)
        self._slider.setValue(round(self.STEPS * (value - self._spin_box.minimum) / span) if span > 0 else 0)
        self._slider.blockSignals(False)
        self.valueIsChanging.emit(value)
        if self._tracking or not self._slider.isSliderDown():
            self.valueChanged.emit(value)

    def _take_slider(self, position):
        span = self._spin_box.maximum - self._spin_box.minimum
        self._spin_box.setValue(self._spin_box.minimum + span * position / self.STEPS)

    def _of_spin_box(type_, name, setter):
        return Property(
            type_,
            lambda self: getattr(self._spin_box, name),
            lambda self, value: getattr(self._spin_box, setter)(value),
        )

    value = _of_spin_box(float, "value", "setValue")
    minimum = _of_spin_box(float, "minimum", "setMinimum")
    maximum = _of_spin_box(float, "maximum", "setMaximum")
    singleStep = _of_spin_box(float, "singleStep", "setSingleStep")
    decimals = _of_spin_box(int, "decimals", "setDecimals")
    prefix = _of_spin_box(str, "prefix", "setPrefix")
    suffix = _of_spin_box(str, "suffix", "setSuffix")
    del _of_spin_box
    pageStep = Property(float, lambda self: 0.1, lambda self, value: None)
    tracking = Property(bool, lambda self: self._tracking, lambda self, value: setattr(self, "_tracking", value))
    spinBoxVisible = Property(
        bool, lambda self: not self._spin_box.isHidden(), lambda self, shown: self._spin_box.setVisible(shown)
    )

    def setValue(self, value):
        self._spin_box.setValue(value)

    def setDecimals(self, decimals):
        self._spin_box.setDecimals(decimals)

    def reset(self):
        self._spin_box.setValue(self._spin_box.minimum)


@stand_in
class ctkMessageBox(QtWidgets.QMessageBox):
    """A message box that a check mark keeps from showing again."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self._dont_show_again = False
        self._settings_key = ""

    dontShowAgain = Property(
        bool, lambda self: self._dont_show_again, lambda self, value: setattr(self, "_dont_show_again", value)
    )
    dontShowAgainSettingsKey = Property(
        str, lambda self: self._settings_key, lambda self, value: setattr(self, "_settings_key", value)
    )
    dontShowAgainVisible = Property(bool, lambda self: True, lambda self, value: None)


def make_ctk_module():
    """Return the module that `import ctk` finds; a widget without a stand-in raises AttributeError."""
    ctk = types.ModuleType("ctk")
    for name, cls in CLASSES.items():
        if name.startswith("ctk"):
            setattr(ctk, name, cls)
    sys.modules["ctk"] = ctk
    return ctk


def icon_of(color):
    """Return a small plain icon, which stands for those of Slicer's own resources."""
    pixmap = QtGui.QPixmap(12, 12)
    pixmap.fill(QtGui.QColor(color))
    return QtGui.QIcon(pixmap)
