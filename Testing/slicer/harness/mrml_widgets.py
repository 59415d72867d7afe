"""Stand-ins for the qMRML widgets of the panel, on the real scene.

What they do was read in Slicer/Slicer, Libs/MRML/Widgets: qMRMLNodeComboBox.cxx, qMRMLSegmentSelectorWidget.cxx,
qMRMLTableModel.cxx, qMRMLTableView.cxx, qMRMLColorTableComboBox.cxx.
"""

from typing import ClassVar

import shiboken6
import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal

from harness.ctk_widgets import stand_in

SCENE_EVENTS = (
    slicer.vtkMRMLScene.NodeAddedEvent,
    slicer.vtkMRMLScene.NodeRemovedEvent,
    slicer.vtkMRMLScene.EndCloseEvent,
    slicer.vtkMRMLScene.EndImportEvent,
    slicer.vtkMRMLScene.EndBatchProcessEvent,
)


class Observations:
    """VTK observers that end with the Qt object they belong to."""

    def __init__(self, owner):
        self.owner = owner
        self.tags = []

    def add(self, observed, events, callback):
        owner = self.owner

        def call(caller, event):
            if shiboken6.isValid(owner):
                callback()

        for event in events:
            self.tags.append((observed, observed.AddObserver(event, call)))

    def remove_all(self):
        for observed, tag in self.tags:
            observed.RemoveObserver(tag)
        self.tags = []


class OfScene:
    """What widgets of a scene share, whichever Qt class they are."""

    _scene = None

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene):
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)


@stand_in
class qMRMLWidget(OfScene, QtWidgets.QWidget):
    """A widget that hands the scene on to those within."""

    mrmlSceneChanged = Signal(object)
    SIGNATURES: ClassVar = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged(PyObject)"}


@stand_in
class qMRMLSortFilterProxyModel(QtCore.QObject):
    """What a node selector leaves out, beside its own settings."""

    def __init__(self, parent):
        super().__init__(parent)
        self._hidden = []

    def _hide(self, node_ids):
        self._hidden = list(node_ids)
        self.parent()._list_nodes()

    hiddenNodeIDs = Property("QStringList", lambda self: tuple(self._hidden), lambda self, value: self._hide(value))


@stand_in
class qMRMLNodeComboBox(QtWidgets.QWidget):
    """Lists the nodes of some classes. A node that is added later is not selected by itself."""

    currentNodeChanged = Signal(object)
    currentNodeIsValidChanged = Signal(bool)
    currentNodeIDChanged = Signal(str)
    nodeActivated = Signal(object)
    nodeAdded = Signal(object)
    nodeAddedByUser = Signal(object)
    nodeAboutToBeRemoved = Signal(object)
    SIGNATURES: ClassVar = {
        "currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged(PyObject)",
        "currentNodeChanged(bool)": "currentNodeIsValidChanged(bool)",
        "currentNodeIDChanged(QString)": "currentNodeIDChanged(QString)",
        "nodeActivated(vtkMRMLNode*)": "nodeActivated(PyObject)",
        "nodeAdded(vtkMRMLNode*)": "nodeAdded(PyObject)",
        "nodeAddedByUser(vtkMRMLNode*)": "nodeAddedByUser(PyObject)",
        "nodeAboutToBeRemoved(vtkMRMLNode*)": "nodeAboutToBeRemoved(PyObject)",
    }

    def __init__(self, parent=None):
        super().__init__(parent)
        self._scene = None
        self._requested_id = ""
        self._current_id = ""
        self._listed_ids = []
        self._attributes = []
        self._proxy = qMRMLSortFilterProxyModel(self)
        self._observations = Observations(self)
        self._settings = {
            "nodeTypes": [],
            "hideChildNodeTypes": [],
            "showHidden": False,
            "showChildNodeTypes": True,
            "noneEnabled": False,
            "addEnabled": True,
            "removeEnabled": True,
            "editEnabled": False,
            "renameEnabled": False,
            "selectNodeUponCreation": True,
            "noneDisplay": "None",
            "baseName": "",
        }
        self._combo_box = QtWidgets.QComboBox(self)
        self._combo_box.setSizeAdjustPolicy(QtWidgets.QComboBox.AdjustToMinimumContentsLengthWithIcon)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo_box)
        self.setSizePolicy(QtWidgets.QSizePolicy.Expanding, QtWidgets.QSizePolicy.Fixed)
        self._combo_box.setSizePolicy(QtWidgets.QSizePolicy.Expanding, QtWidgets.QSizePolicy.Fixed)
        self._combo_box.currentIndexChanged.connect(self._take_index)
        self._combo_box.activated.connect(lambda index: self.nodeActivated.emit(self.currentNode()))
        self.setEnabled(False)

    def _setting(type_, name):
        def write(self, value):
            self._settings[name] = value
            self._list_nodes()

        return Property(type_, lambda self: self._settings[name], write)

    nodeTypes = _setting("QStringList", "nodeTypes")
    hideChildNodeTypes = _setting("QStringList", "hideChildNodeTypes")
    showHidden = _setting(bool, "showHidden")
    showChildNodeTypes = _setting(bool, "showChildNodeTypes")
    noneEnabled = _setting(bool, "noneEnabled")
    addEnabled = _setting(bool, "addEnabled")
    removeEnabled = _setting(bool, "removeEnabled")
    editEnabled = _setting(bool, "editEnabled")
    renameEnabled = _setting(bool, "renameEnabled")
    selectNodeUponCreation = _setting(bool, "selectNodeUponCreation")
    noneDisplay = _setting(str, "noneDisplay")
    baseName = _setting(str, "baseName")
    del _setting
    currentNodeID = Property(str, lambda self: self._current_id, lambda self, node_id: self._select(node_id))

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene):
        if scene is self._scene:
            return
        self._observations.remove_all()
        self._scene = scene
        if scene is not None:
            self._observations.add(scene, SCENE_EVENTS, self._list_nodes)
        requested, self._requested_id = self._requested_id, ""
        self._list_nodes()
        self.setEnabled(scene is not None)
        if requested:
            self._select(requested)

    def sortFilterProxyModel(self):
        return self._proxy

    def addAttribute(self, node_type, name, value=None):
        self._attributes.append((node_type, name, None if value is None else str(value)))
        self._list_nodes()

    def removeAttribute(self, node_type, name):
        self._attributes = [entry for entry in self._attributes if entry[:2] != (node_type, name)]
        self._list_nodes()

    def currentNode(self):
        return self._scene.GetNodeByID(self._current_id) if self._scene is not None and self._current_id else None

    def setCurrentNode(self, node):
        if node is not None and not isinstance(node, slicer.vtkMRMLNode):
            raise ValueError(f"qMRMLNodeComboBox.setCurrentNode takes a node, not {type(node).__name__}")
        self.setCurrentNodeID(node.GetID() if node is not None else "")

    def setCurrentNodeID(self, node_id):
        if self._scene is None:
            self._requested_id = node_id
        self._select(node_id)

    def setCurrentNodeIndex(self, index):
        self._combo_box.setCurrentIndex(index + self._none_items())

    def nodeCount(self):
        return len(self._listed_ids)

    def nodeFromIndex(self, index):
        return self._scene.GetNodeByID(self._listed_ids[index]) if 0 <= index < len(self._listed_ids) else None

    def addNode(self, node_type=None):
        node_type = node_type or self._settings["nodeTypes"][0]
        name = self._settings["baseName"] or node_type.removeprefix("vtkMRML").removesuffix("Node")
        node = self._scene.AddNewNodeByClass(node_type, self._scene.GenerateUniqueName(name))
        if self._settings["selectNodeUponCreation"]:
            self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    def removeCurrentNode(self):
        if self.currentNode() is not None:
            self._scene.RemoveNode(self.currentNode())

    def _none_items(self):
        return 1 if self._settings["noneEnabled"] else 0

    def _shows(self, node):
        class_name = node.GetClassName()
        settings = self._settings
        if settings["showChildNodeTypes"]:
            wanted = any(node.IsA(node_type) for node_type in settings["nodeTypes"])
            hidden_types = settings["hideChildNodeTypes"]
            if wanted and class_name not in settings["nodeTypes"]:
                wanted = not any(node.IsA(hidden) for hidden in hidden_types)
        else:
            wanted = class_name in settings["nodeTypes"]
        if not wanted or (node.GetHideFromEditors() and not settings["showHidden"]):
            return False
        if node.GetID() in self._proxy.hiddenNodeIDs:
            return False
        for node_type, name, value in self._attributes:
            if node.IsA(node_type):
                found = node.GetAttribute(name)
                if found is None or (value is not None and found != value):
                    return False
        return True

    def _list_nodes(self):
        nodes = []
        if self._scene is not None and not self._scene.IsClosing():
            everything = (self._scene.GetNthNode(index) for index in range(self._scene.GetNumberOfNodes()))
            nodes = [node for node in everything if self._shows(node)]
            self._observations.remove_all()
            self._observations.add(self._scene, SCENE_EVENTS, self._list_nodes)
            for node in nodes:
                self._observations.add(node, (vtk.vtkCommand.ModifiedEvent,), self._rename_items)
        self._combo_box.blockSignals(True)
        self._combo_box.clear()
        if self._none_items():
            self._combo_box.addItem(self._settings["noneDisplay"])
        for node in nodes:
            self._combo_box.addItem(node.GetName() or "", node.GetID())
        self._listed_ids = [node.GetID() for node in nodes]
        self._combo_box.setCurrentIndex(self._index_of(self._current_id))
        self._combo_box.blockSignals(False)
        if self._current_id and self._current_id not in self._listed_ids:
            self._become_current("")

    def _rename_items(self):
        for index, node_id in enumerate(self._listed_ids):
            node = self._scene.GetNodeByID(node_id) if self._scene is not None else None
            if node is not None:
                self._combo_box.setItemText(index + self._none_items(), node.GetName() or "")

    def _index_of(self, node_id):
        if node_id in self._listed_ids:
            return self._listed_ids.index(node_id) + self._none_items()
        return 0 if self._none_items() else -1

    def _select(self, node_id):
        self._combo_box.setCurrentIndex(self._index_of(node_id))

    def _take_index(self, index):
        index -= self._none_items()
        self._become_current(self._listed_ids[index] if 0 <= index < len(self._listed_ids) else "")

    def _become_current(self, node_id):
        if node_id == self._current_id:
            return
        self._current_id = node_id
        node = self.currentNode()
        self.currentNodeChanged.emit(node)
        self.currentNodeIsValidChanged.emit(node is not None)
        self.currentNodeIDChanged.emit(node_id)


@stand_in
class qMRMLColorTableComboBox(qMRMLNodeComboBox):
    """Lists the colour tables, those that belong to the application too."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self._settings.update(
            nodeTypes=["vtkMRMLColorTableNode", "vtkMRMLProceduralColorNode"],
            showHidden=True,
            addEnabled=False,
            removeEnabled=False,
        )


@stand_in
class qMRMLSegmentSelectorWidget(qMRMLWidget):
    """Chooses a segmentation and one of its segments, or several."""

    currentNodeChanged = Signal(object)
    currentSegmentChanged = Signal(str)
    segmentSelectionChanged = Signal("QStringList")
    SIGNATURES: ClassVar = {"currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged(PyObject)"}

    def __init__(self, parent=None):
        super().__init__(parent)
        self._segmentation_node = None
        self._segment_id = ""
        self._segment_ids = []
        self._multi_selection = False
        self._observations = Observations(self)
        self._node_combo_box = qMRMLNodeComboBox(self)
        self._node_combo_box.nodeTypes = ["vtkMRMLSegmentationNode"]
        self._combo_box = QtWidgets.QComboBox(self)
        self._check_list = QtGui.QStandardItemModel(self)
        self._checkable_combo_box = QtWidgets.QComboBox(self)
        self._checkable_combo_box.setModel(self._check_list)
        self._message = QtWidgets.QLabel(self)
        self._label = QtWidgets.QLabel("Segment: ", self)
        self._label.setObjectName("label_Segment")
        layout = QtWidgets.QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._label, 1, 0)
        for row, widget in enumerate((self._node_combo_box, self._combo_box, self._checkable_combo_box, self._message)):
            layout.addWidget(widget, min(row, 1), 1)
        layout.setColumnStretch(1, 1)
        self._node_combo_box.connect("currentNodeChanged(vtkMRMLNode*)", self._take_node)
        self._combo_box.currentIndexChanged.connect(self._take_segment)
        self._check_list.itemChanged.connect(self._take_checks)
        self._list_segments()

    noneEnabled = Property(
        bool, lambda self: self._node_combo_box.noneEnabled, lambda self, value: self._set_none_enabled(value)
    )
    editEnabled = Property(
        bool,
        lambda self: self._node_combo_box.editEnabled,
        lambda self, value: setattr(self._node_combo_box, "editEnabled", value),
    )
    segmentationNodeSelectorVisible = Property(
        bool,
        lambda self: not self._node_combo_box.isHidden(),
        lambda self, shown: self._node_combo_box.setVisible(shown),
    )
    multiSelection = Property(
        bool, lambda self: self._multi_selection, lambda self, value: self._set_multi_selection(value)
    )
    selectNodeUponCreation = Property(
        bool,
        lambda self: self._node_combo_box.selectNodeUponCreation,
        lambda self, value: setattr(self._node_combo_box, "selectNodeUponCreation", value),
    )

    def _set_none_enabled(self, value):
        self._node_combo_box.noneEnabled = value
        self._list_segments()

    def _set_multi_selection(self, value):
        self._multi_selection = value
        self._list_segments()

    def setMRMLScene(self, scene):
        qMRMLWidget.setMRMLScene(self, scene)
        self._node_combo_box.setMRMLScene(scene)

    def currentNode(self):
        return self._node_combo_box.currentNode()

    def currentNodeID(self):
        return self._node_combo_box.currentNodeID

    def setCurrentNode(self, node):
        self._node_combo_box.setCurrentNode(node)

    def setCurrentNodeID(self, node_id):
        self._node_combo_box.setCurrentNodeID(node_id)

    def currentSegmentID(self):
        if self._multi_selection:
            raise RuntimeError("multi-selection is on, use selectedSegmentIDs instead")
        return self._segment_id

    def setCurrentSegmentID(self, segment_id):
        if self._multi_selection:
            raise RuntimeError("multi-selection is on, use setSelectedSegmentIDs instead")
        index = 0 if not segment_id and self.noneEnabled else self._combo_box.findData(segment_id)
        if index >= 0:
            self._combo_box.setCurrentIndex(index)

    def selectedSegmentIDs(self):
        if not self._multi_selection:
            raise RuntimeError("multi-selection is off, use currentSegmentID instead")
        return tuple(self._segment_ids)

    def segmentIDs(self):
        return tuple(self._check_list.item(row).data(QtCore.Qt.UserRole) for row in range(self._check_list.rowCount()))

    def setSelectedSegmentIDs(self, segment_ids):
        if not self._multi_selection:
            raise RuntimeError("multi-selection is off, use setCurrentSegmentID instead")
        if isinstance(segment_ids, str):
            raise ValueError("setSelectedSegmentIDs takes a list of IDs")
        if self._segmentation_node is None:
            return
        segmentation = self._segmentation_node.GetSegmentation()
        kept = [segment_id for segment_id in segment_ids if segmentation.GetSegment(segment_id) is not None]
        changed = kept != self._segment_ids
        self._segment_ids = kept
        self._check_list.blockSignals(True)
        for row in range(self._check_list.rowCount()):
            item = self._check_list.item(row)
            item.setCheckState(QtCore.Qt.Checked if item.data(QtCore.Qt.UserRole) in kept else QtCore.Qt.Unchecked)
        self._check_list.blockSignals(False)
        self._show_checked()
        if changed:
            self.segmentSelectionChanged.emit(list(kept))

    def _take_node(self, node):
        self._observations.remove_all()
        self._segmentation_node = node
        if node is not None:
            segmentation = node.GetSegmentation()
            events = (segmentation.SegmentAdded, segmentation.SegmentRemoved, segmentation.SegmentModified)
            self._observations.add(segmentation, events, self._list_segments)
        self._list_segments()
        self.currentNodeChanged.emit(node)

    def _segments(self):
        if self._segmentation_node is None or self._segmentation_node.GetSegmentation() is None:
            return []
        segmentation = self._segmentation_node.GetSegmentation()
        ids = vtk.vtkStringArray()
        segmentation.GetSegmentIDs(ids)
        ids = [ids.GetValue(index) for index in range(ids.GetNumberOfValues())]
        return [(segment_id, segmentation.GetSegment(segment_id).GetName()) for segment_id in ids]

    def _list_segments(self):
        segments = self._segments()
        self._combo_box.blockSignals(True)
        self._check_list.blockSignals(True)
        self._combo_box.clear()
        self._check_list.clear()
        self._label.setVisible(bool(segments))
        self._message.setVisible(not segments)
        self._message.setText("No segments in segmentation" if self._segmentation_node else "No node is selected")
        self._combo_box.setVisible(bool(segments) and not self._multi_selection)
        self._checkable_combo_box.setVisible(bool(segments) and self._multi_selection)
        if self._multi_selection:
            for segment_id, name in segments:
                item = QtGui.QStandardItem(name)
                item.setData(segment_id, QtCore.Qt.UserRole)
                item.setCheckable(True)
                self._check_list.appendRow(item)
        elif segments:
            if self.noneEnabled:
                self._combo_box.addItem("None", "")
            for segment_id, name in segments:
                self._combo_box.addItem(name, segment_id)
        self._combo_box.blockSignals(False)
        self._check_list.blockSignals(False)
        if not segments:
            return
        if self._multi_selection:
            self.setSelectedSegmentIDs(self._segment_ids)
        elif self._segment_id in [segment_id for segment_id, _ in segments]:
            self._combo_box.blockSignals(True)
            self.setCurrentSegmentID(self._segment_id)
            self._combo_box.blockSignals(False)
        elif not (self.noneEnabled and not self._segment_id):
            self._combo_box.blockSignals(True)
            self._combo_box.setCurrentIndex(-1)
            self._combo_box.blockSignals(False)
            self._combo_box.setCurrentIndex(1 if self.noneEnabled else 0)

    def _take_segment(self, index):
        if self._segmentation_node is not None:
            self._segment_id = self._combo_box.itemData(index) or ""
            self.currentSegmentChanged.emit(self._segment_id)

    def _take_checks(self, item):
        rows = (self._check_list.item(row) for row in range(self._check_list.rowCount()))
        self._segment_ids = [row.data(QtCore.Qt.UserRole) for row in rows if row.checkState() == QtCore.Qt.Checked]
        self._show_checked()
        self.segmentSelectionChanged.emit(list(self._segment_ids))

    def _show_checked(self):
        """Show the names of the checked segments, as ctkCheckableComboBox does."""
        rows = (self._check_list.item(row) for row in range(self._check_list.rowCount()))
        names = [row.text() for row in rows if row.checkState() == QtCore.Qt.Checked]
        self._checkable_combo_box.setPlaceholderText(", ".join(names))
        self._checkable_combo_box.setCurrentIndex(-1)


@stand_in
class qMRMLTableModel(QtGui.QStandardItemModel):
    """The cells of a table node."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self._node = None
        self._observations = Observations(self)

    def _mrml_table_node(self):
        return self._node

    def _set_mrml_table_node(self, node):
        self._observations.remove_all()
        self._node = node
        if node is not None:
            self._observations.add(node, (vtk.vtkCommand.ModifiedEvent,), self._read)
        self._read()

    def _title_rows(self):
        return 0 if self._node.GetUseColumnTitleAsColumnHeader() else 1

    def _read(self):
        table = self._node.GetTable() if self._node is not None else None
        if table is None or table.GetNumberOfColumns() == 0:
            self.clear()
            return
        header_columns = 1 if self._node.GetUseFirstColumnAsRowHeader() else 0
        title_rows = self._title_rows()
        self.setRowCount(table.GetNumberOfRows() + title_rows)
        self.setColumnCount(table.GetNumberOfColumns() - header_columns)
        flags = QtCore.Qt.ItemIsEnabled | QtCore.Qt.ItemIsSelectable
        if not self._node.GetLocked():
            flags |= QtCore.Qt.ItemIsEditable
        for column in range(header_columns, table.GetNumberOfColumns()):
            name = table.GetColumnName(column)
            title = chr(ord("A") + column - header_columns)
            if not title_rows:
                title = self._node.GetColumnTitle(name) or name
                unit = self._node.GetColumnUnitLabel(name)
                title = f"{title} [{unit}]" if unit else title
            self.setHeaderData(column - header_columns, QtCore.Qt.Horizontal, title)
            for row in range(-title_rows, table.GetNumberOfRows()):
                item = QtGui.QStandardItem(name if row < 0 else table.GetValue(row, column).ToString())
                item.setFlags(flags)
                self.setItem(row + title_rows, column - header_columns, item)
        for row in range(table.GetNumberOfRows()):
            header = table.GetValue(row, 0).ToString() if header_columns else str(row + title_rows + 1)
            self.setHeaderData(row + title_rows, QtCore.Qt.Vertical, header)


@stand_in
class qMRMLTableView(OfScene, QtWidgets.QTableView):
    """Shows a table node."""

    mrmlSceneChanged = Signal(object)
    selectionHasChanged = Signal()
    SIGNATURES: ClassVar = {
        "mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged(PyObject)",
        # QTableView's virtual function of that name stands in the way of the signal's own.
        "selectionChanged()": "selectionHasChanged()",
    }

    def __init__(self, parent=None):
        super().__init__(parent)
        self._model = qMRMLTableModel(self)
        self._proxy = QtCore.QSortFilterProxyModel(self)
        self._proxy.setSourceModel(self._model)
        self.setModel(self._proxy)
        self.selectionModel().selectionChanged.connect(lambda *_: self.selectionHasChanged.emit())
        self.setHorizontalScrollMode(QtWidgets.QAbstractItemView.ScrollPerPixel)

    def setMRMLScene(self, scene):
        super().setMRMLScene(scene)
        if scene is None and self.mrmlTableNode() is not None:
            self.setMRMLTableNode(None)

    def mrmlTableNode(self):
        return self._model._mrml_table_node()

    def setMRMLTableNode(self, node):
        self._model._set_mrml_table_node(node)
        self._proxy.invalidate()
        self.resizeColumnsToContents()
        self.selectionHasChanged.emit()

    def tableModel(self):
        return self._model

    def sortFilterProxyModel(self):
        return self._proxy

    def copySelection(self):
        rows = {}
        for index in self.selectionModel().selectedIndexes():
            rows.setdefault(index.row(), {})[index.column()] = index.data()
        lines = ["\t".join(cells[column] for column in sorted(cells)) for _, cells in sorted(rows.items())]
        QtWidgets.QApplication.clipboard().setText("\n".join(lines))
