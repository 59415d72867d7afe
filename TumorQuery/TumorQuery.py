"""TumorQuery in 3D Slicer: a patient's tumor cell density from MRI and a segmentation.

The module draws and asks; what is computed is computed by TumorQueryLib in a process of its own.
"""

import os
import sys
import unittest
from typing import Any

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleTest

from TumorQueryModule import Overlay
from TumorQueryModule.Choices import Strategy
from TumorQueryModule.Logic import Logic
from TumorQueryModule.Panel import Panel
from TumorQueryModule.SampleCase import registerSampleData


class TumorQuery(ScriptedLoadableModule):
    """The module as Slicer lists it."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("TumorQuery")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Quantification")]
        self.parent.dependencies = ["Colors", "Segmentations", "SegmentEditor", "SampleData"]
        self.parent.contributors = ["TumorQuery contributors"]
        self.parent.helpText = _(
            "TumorQuery estimates the density of tumor cells everywhere in the brain of a patient with a glioma, also "
            "where MRI shows nothing. It compares the segmented tumor with a database of simulated tumors and shows "
            "the density of the best match over the images. See the "
            '<a href="{url}">documentation</a>.<p>'
            "<b>This is research software and not a medical device: it must not be used for diagnosis or treatment.</b>"
            "<p>All data stay on this computer."
        ).format(url="https://github.com/TumorQuery/SlicerTumorQuery#readme")
        self.parent.acknowledgementText = _(
            "The method is that of Ezhov et al., Casting the inverse problem as a database query. The case of "
            "personalized tumor growth modeling, 2022, arXiv:2205.04550. Please cite it when you use this module. "
            "The bundled atlas and database derive from SRI24 (Rohlfing et al., Human Brain Mapping 31, 2010, "
            "doi:10.1002/hbm.20906), under CC BY-SA 3.0."
        )
        slicer.app.connect("startupCompleted()", registerSampleData)


class TumorQueryWidget(Panel):
    """The panel as Slicer makes it."""

    def setup(self) -> None:
        """Build the panel; called when the module is opened the first time."""
        self.logic = TumorQueryLogic()
        Panel.setup(self)

    def onReload(self) -> None:
        """Reload the library too; developers' Reload button."""
        for name in [name for name in sys.modules if name.split(".")[0] in ("TumorQueryModule", "TumorQueryLib")]:
            del sys.modules[name]
        Panel.onReload(self)


class TumorQueryLogic(Logic):
    """What the module does, without the panel; usable from scripts.

    ::

        import TumorQuery
        t1gd, flair = getNode("T1Gd"), getNode("FLAIR")
        segmentation = getNode("Segmentation")
        result = TumorQuery.TumorQueryLogic().run(t1gd, flair, segmentation)
        print(result.model["fit"])

    :param processFactory: makes the worker's process; tests give another one.
    """


class TumorQueryTest(ScriptedLoadableModuleTest):
    """The self-test that runs in Slicer: Reload and Test in the developer mode, or ctest."""

    def setUp(self) -> None:
        """Start from an empty scene."""
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        """Run all tests."""
        for name in unittest.TestLoader().getTestCaseNames(TumorQueryTest):
            self.setUp()
            try:
                getattr(self, name)()
            except unittest.SkipTest as reason:
                self.delayDisplay(str(reason))

    def test_missingInputsAreNamed(self) -> None:
        """The logic says what is missing instead of starting."""
        self.delayDisplay("Missing inputs")
        with self.assertRaisesRegex(ValueError, "T1"):
            TumorQueryLogic().run(None)

    def test_parametersAreSavedWithTheScene(self) -> None:
        """The parameter node keeps the user's choices in a saved scene."""
        self.delayDisplay("Parameters")
        parameters = TumorQueryLogic().getParameterNode()
        parameters.strategy = Strategy.BruteForce
        parameters.overlayOpacity = 0.25
        path = os.path.join(slicer.util.tempDirectory(), "parameters.mrb")
        self.assertTrue(slicer.util.saveScene(path))
        slicer.mrmlScene.Clear()
        slicer.util.loadScene(path)
        restored = TumorQueryLogic().getParameterNode()
        self.assertIs(restored.strategy, Strategy.BruteForce)
        self.assertEqual(restored.overlayOpacity, 0.25)

    def test_sampleCase(self) -> None:
        """The sample case: the density lies on the segmented tumor, in the geometry of the T1Gd image."""
        self.delayDisplay("Sample case, about a minute")
        logic = TumorQueryLogic()
        if logic.missingRequirements() and slicer.app.testingEnabled():
            self.skipTest("Python packages are missing, and in a test of Slicer's nothing is installed")
        sample = logic.loadSample()
        result = logic.run(sample["t1gd"], sample["flair"], sample["segmentation"], timeout=600)
        self.assertGreater(result.model["fit"]["dice_whole"], 0.7)
        density = slicer.util.arrayFromVolume(result.density)
        self.assertEqual(density.shape, slicer.util.arrayFromVolume(sample["t1gd"]).shape)
        self.assertGreaterEqual(density.min(), 0.0)
        self.assertLessEqual(density.max(), 1.0)
        planned = logic.plan(result, timeout=600)
        self.assertEqual(planned.plans.GetSegmentation().GetNumberOfSegments(), 2)
        Overlay.showInSliceViews(sample["t1gd"], result.density, 0.6)
        self.delayDisplay("Test passed")
