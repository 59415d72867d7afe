"""Slice views and a 3D view, rendered off screen (EGL) by MRML's own displayable managers.

CTK's light box renderer manager, which draws a slice's image in Slicer, is in no package: here an image mapper draws
the blend that `vtkMRMLSliceLogic` makes, pixel for pixel.
"""

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

SLICE_VIEWS = {  # name: (orientation, letter, colour of the bar), as in qMRMLLayoutManager.cxx's layouts
    "Red": ("Axial", "R", (0.953, 0.290, 0.200)),
    "Green": ("Coronal", "G", (0.431, 0.690, 0.294)),
    "Yellow": ("Sagittal", "Y", (0.929, 0.835, 0.298)),
}


class RenderedView:
    """A render window that has no screen, and the displayable managers that fill it."""

    def __init__(self, size):
        self.renderer = vtk.vtkRenderer()
        self.render_window = vtk.vtkRenderWindow()
        self.render_window.SetOffScreenRendering(1)
        self.render_window.SetMultiSamples(0)
        self.render_window.SetSize(*size)
        self.render_window.AddRenderer(self.renderer)
        self.interactor = vtk.vtkRenderWindowInteractor()
        self.interactor.SetInteractorStyle(vtk.vtkInteractorStyleUser())
        self.interactor.SetRenderWindow(self.render_window)
        self.displayable_managers = None

    def pixels(self):
        """Return what the view shows, as an array (rows from the top, columns, RGB) of uint8."""
        self.update()
        self.render_window.Render()
        grabber = vtk.vtkWindowToImageFilter()
        grabber.SetInput(self.render_window)
        grabber.SetInputBufferTypeToRGB()
        grabber.ReadFrontBufferOff()
        grabber.Update()
        image = grabber.GetOutput()
        columns, rows, _ = image.GetDimensions()
        return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(rows, columns, 3)[::-1].copy()

    def grab(self, path):
        """Write what the view shows as PNG and return its pixels."""
        pixels = self.pixels()
        write_png(path, pixels)
        return pixels

    def update(self):
        pass

    def close(self):
        if self.displayable_managers is not None:
            self.displayable_managers.SetMRMLDisplayableNode(None)
            self.displayable_managers = None
        self.render_window.Finalize()


class SliceView(RenderedView):
    """What qMRMLSliceWidget shows: the slice logic's blend of the volumes, and everything drawn over it."""

    def __init__(self, scene, name, size=(400, 400)):
        super().__init__(size)
        orientation, letter, color = SLICE_VIEWS[name]
        self.scene = scene
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(scene.application_logic)
        scene.application_logic.GetSliceLogics().AddItem(self.logic)
        self.logic.SetMRMLScene(scene.scene)
        self.logic.AddSliceNode(name)
        self.node = self.logic.GetSliceNode()
        self.node.SetLayoutLabel(letter)
        self.node.SetLayoutColor(*color)
        self.node.SetOrientation(orientation)
        self.node.SetMappedInLayout(1)
        self.node.SetDimensions(size[0], size[1], 1)
        self.composite_node = self.logic.GetSliceCompositeNode()

        self.image_mapper = vtk.vtkImageMapper()
        self.image_mapper.SetColorWindow(255)
        self.image_mapper.SetColorLevel(127.5)
        self.image_actor = vtk.vtkActor2D()
        self.image_actor.SetMapper(self.image_mapper)
        self.image_actor.GetProperty().SetDisplayLocationToBackground()
        self.renderer.AddViewProp(self.image_actor)
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        self.displayable_managers = factory.InstantiateDisplayableManagers(self.renderer)
        self.displayable_managers.SetMRMLDisplayableNode(self.node)
        self.fit()

    def update(self):
        self.node.Modified()  # in Slicer a timer sees to what a loaded scene brought
        self.image_mapper.SetInputConnection(self.logic.GetImageDataConnection())
        self.image_actor.SetVisibility(self.logic.GetImageDataConnection() is not None)

    def fit(self):
        columns, rows = self.render_window.GetSize()
        self.node.SetDimensions(columns, rows, 1)
        self.logic.FitSliceToAll(columns, rows)
        self.logic.SnapSliceOffsetToIJK()

    def ras_of_pixels(self):
        """Return where every pixel lies: an array (rows from the top, columns, 3), RAS mm."""
        columns, rows = self.render_window.GetSize()
        xy_to_ras = np.array([[self.node.GetXYToRAS().GetElement(r, c) for c in range(4)] for r in range(4)])
        row, column = np.mgrid[rows - 1 : -1 : -1, 0:columns]
        xy = np.stack([column, row, np.zeros_like(row), np.ones_like(row)], axis=-1)
        return (xy @ xy_to_ras.T)[..., :3]


class ThreeDView(RenderedView):
    """What qMRMLThreeDWidget shows."""

    def __init__(self, scene, size=(400, 400)):
        super().__init__(size)
        self.node = slicer.vtkMRMLViewNode()
        self.node.SetLayoutName("1")
        self.node.SetName("View1")
        self.node.SetSingletonTag("1")
        self.node.SetMappedInLayout(1)
        scene.scene.AddNode(self.node)
        self.logic = slicer.vtkMRMLViewLogic()
        self.logic.SetMRMLApplicationLogic(scene.application_logic)
        self.logic.SetMRMLScene(scene.scene)
        scene.application_logic.GetViewLogics().AddItem(self.logic)
        factory = slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance()
        self.displayable_managers = factory.InstantiateDisplayableManagers(self.renderer)
        self.displayable_managers.SetMRMLDisplayableNode(self.node)
        self.fit()

    def update(self):
        self.renderer.SetBackground(*self.node.GetBackgroundColor())
        self.renderer.SetBackground2(*self.node.GetBackgroundColor2())
        self.renderer.SetGradientBackground(True)

    def fit(self):
        self.renderer.ResetCamera()
        self.renderer.ResetCameraClippingRange()


def write_png(path, pixels):
    """Write an array (rows from the top, columns, RGB) of uint8 as PNG."""
    from PySide6.QtGui import QImage

    rows, columns, _ = pixels.shape
    pixels = np.ascontiguousarray(pixels)
    image = QImage(pixels.data, columns, rows, 3 * columns, QImage.Format.Format_RGB888)
    if not image.save(str(path)):
        raise OSError(f"could not write {path}")
