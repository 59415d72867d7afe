"""What of 3D Slicer the panel's tests run on: real MRML, and stand-ins for the Qt binding and the widgets.

`slicer-core` brings the real scene, nodes, storage, logics, displayable managers and `slicer.util`. PythonQt, CTK,
the qMRML widgets, the application object, `ScriptedLoadableModule`, `parameterNodeWrapper`, `slicer.i18n`,
`slicer.packaging` and `SampleData` exist in no package registry; `harness` stands in for the part of them that
`api_manifest.csv.gz` lists, and is stricter: an unknown attribute, signal or module fails.
"""

import os
import sys

os.environ["QT_QPA_PLATFORM"] = "offscreen"
os.environ["PYSIDE6_OPTION_PYTHON_ENUM"] = "2"  # enumerators are ints, as PythonQt's are; read when PySide6 is imported
if sys.platform.startswith("linux"):
    os.environ["VTK_DEFAULT_OPENGL_WINDOW"] = "vtkEGLRenderWindow"
    os.environ.pop("DISPLAY", None)
