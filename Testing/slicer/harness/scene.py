"""A MRML scene with the logics, displayable managers and colour tables that 3D Slicer starts with."""

import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import slicer
from vtk import VTK_OBJECT, calldata_type, vtkCollection

# Which logic stands behind slicer.modules.<name>.logic().
LOGIC_CLASSES = {
    "colors": "vtkSlicerColorLogic",
    "volumes": "vtkSlicerVolumesLogic",
    "segmentations": "vtkSlicerSegmentationsModuleLogic",
    "transforms": "vtkSlicerTransformLogic",
    "models": "vtkSlicerModelsLogic",
    "markups": "vtkSlicerMarkupsLogic",
    "tables": "vtkSlicerTablesLogic",
    "texts": "vtkSlicerTextsLogic",
    "subjecthierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "volumerendering": "vtkSlicerVolumeRenderingLogic",
    "cropvolume": "vtkSlicerCropVolumeLogic",
    "units": "vtkSlicerUnitsLogic",
    "cameras": "vtkSlicerCamerasModuleLogic",
    "viewcontrollers": "vtkSlicerViewControllersLogic",
}

# qMRMLSliceView.cxx, qMRMLThreeDView.cxx and the setup() of Slicer's loadable modules register these.
SLICE_DISPLAYABLE_MANAGERS = (
    "vtkMRMLVolumeGlyphSliceDisplayableManager",
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLCrosshairDisplayableManager",
    "vtkMRMLOrientationMarkerDisplayableManager",
    "vtkMRMLRulerDisplayableManager",
    "vtkMRMLScalarBarDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLMarkupsDisplayableManager",
    "vtkMRMLTransformsDisplayableManager2D",
    "vtkMRMLColorLegendDisplayableManager",
)
THREE_D_DISPLAYABLE_MANAGERS = (
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLModelDisplayableManager",
    "vtkMRMLThreeDReformatDisplayableManager",
    "vtkMRMLCrosshairDisplayableManager3D",
    "vtkMRMLOrientationMarkerDisplayableManager",
    "vtkMRMLRulerDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager3D",
    "vtkMRMLMarkupsDisplayableManager",
    "vtkMRMLTransformsDisplayableManager3D",
    "vtkMRMLColorLegendDisplayableManager",
    "vtkMRMLVolumeRenderingDisplayableManager",
)


class Scene:
    """One fresh scene; `close()` takes everything down again."""

    def __init__(self):
        self.temporary_folder = tempfile.mkdtemp(prefix="slicer-scene-")
        self.scene = slicer.vtkMRMLScene()
        self.application_logic = slicer.vtkSlicerApplicationLogic()
        # The colour and terminology files of Slicer's share folder are in no package: the folder is there, and empty.
        Path(self.temporary_folder, "share", "ColorFiles").mkdir(parents=True)
        self.application_logic.SetHomeDirectory(self.temporary_folder)
        self.application_logic.SetShareDirectory("share")
        self.application_logic.SetTemporaryPath(self.temporary_folder)
        self.application_logic.SetMRMLScene(self.scene)
        self.application_logic.SetSliceLogics(vtkCollection())
        self.application_logic.SetViewLogics(vtkCollection())
        self.scene.SetCacheManager(self._cache_manager())
        self.logics = {}
        self._add_color_nodes()
        for name, class_name in LOGIC_CLASSES.items():
            if name in self.logics:
                continue
            logic = getattr(slicer, class_name)()
            logic.SetMRMLApplicationLogic(self.application_logic)
            self._place(name, logic)
        self._add_orientation_presets()
        self._register_displayable_managers()
        self._add_singletons()
        self._keep_subject_hierarchy()

    def _place(self, name, logic):
        if hasattr(logic, "SetMRMLApplicationLogic"):
            logic.SetMRMLApplicationLogic(self.application_logic)
        logic.SetMRMLScene(self.scene)
        self.application_logic.SetModuleLogic(name.capitalize(), logic)
        self.logics[name] = logic

    def _cache_manager(self):
        # Without a cache folder ReadFromMRB refuses: "cannot retrieve remote cache directory".
        self.remote_io_logic = slicer.vtkMRMLRemoteIOLogic()
        self.remote_io_logic.SetMRMLScene(self.scene)
        self.remote_io_logic.GetCacheManager().SetRemoteCacheDirectory(str(Path(self.temporary_folder, "cache")))
        self.remote_io_logic.AddDataIOToScene()
        return self.remote_io_logic.GetCacheManager()

    def _add_color_nodes(self):
        logic = slicer.vtkSlicerColorLogic()
        self._place("colors", logic)
        self.application_logic.SetColorLogic(logic)
        logic.AddDefaultColorNodes()

    def _add_orientation_presets(self):
        self.scene.AddDefaultNode(slicer.vtkMRMLSliceNode())
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(self.scene)

    def _register_displayable_managers(self):
        for factory, names in (
            (slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance(), SLICE_DISPLAYABLE_MANAGERS),
            (slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance(), THREE_D_DISPLAYABLE_MANAGERS),
        ):
            factory.SetMRMLApplicationLogic(self.application_logic)
            for name in names:
                if not factory.IsDisplayableManagerRegistered(name):
                    factory.RegisterDisplayableManager(name)

    def _add_singletons(self):
        crosshair = slicer.vtkMRMLCrosshairNode()
        crosshair.SetCrosshairName("default")
        self.scene.AddNode(crosshair)
        self.scene.AddNode(slicer.vtkMRMLLayoutNode())
        slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(self.scene)

    def _keep_subject_hierarchy(self):
        """Give every node its item, as qSlicerSubjectHierarchyPluginLogic.cxx does in Slicer."""
        classes = ("vtkMRMLDisplayableNode", "vtkMRMLTableNode", "vtkMRMLTextNode")
        get_hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode  # a cleared scene gets another one

        @calldata_type(VTK_OBJECT)
        def add_item(scene, event, node):
            is_listed = any(node.IsA(name) for name in classes) and not node.GetHideFromEditors()
            if is_listed and not scene.IsImporting() and not get_hierarchy(scene).GetItemByDataNode(node):
                get_hierarchy(scene).CreateItem(get_hierarchy(scene).GetSceneItemID(), node)

        @calldata_type(VTK_OBJECT)
        def remove_item(scene, event, node):
            if scene.IsClosing() or node.IsA("vtkMRMLSubjectHierarchyNode"):
                return
            item = get_hierarchy(scene).GetItemByDataNode(node)
            if item:
                get_hierarchy(scene).RemoveItem(item, False, False)

        self.scene.AddObserver(self.scene.NodeAddedEvent, add_item)
        self.scene.AddObserver(self.scene.NodeAboutToBeRemovedEvent, remove_item)

    def close(self):
        self.scene.Clear(True)
        for name, logic in self.logics.items():
            if name != "subjecthierarchy":  # it warns about having none
                logic.SetMRMLScene(None)
        self.application_logic.SetMRMLScene(None)
        shutil.rmtree(self.temporary_folder, ignore_errors=True)


def logic_modules(scene):
    """`slicer.modules` with the loadable modules' logics; a module that is not here raises AttributeError."""
    return SimpleNamespace(
        **{name: SimpleNamespace(name=name, logic=lambda logic=logic: logic) for name, logic in scene.logics.items()}
    )
