"""The sample case that comes with the extension: offered in the Sample Data module, loaded with its segments named."""

import hashlib
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from TumorQueryModule import Dependencies

#: The sample case: input -> (node name, file in Resources/SampleData).
SAMPLE_FILES = {
    "t1gd": ("Sample T1Gd", "t1gd.nii.gz"),
    "flair": ("Sample FLAIR", "flair.nii.gz"),
    "segmentation": ("Sample segmentation", "segmentation.nii.gz"),
}
SAMPLE_NAME = "TumorQuerySample"

#: The convention of the sample's labels, as TumorQueryLib names it.
SAMPLE_LABELS = "brats2018"

#: What the labels of the sample's segmentation stand for.
SAMPLE_SEGMENTS = {
    1: ("Necrosis", (0.55, 0.75, 1.0)),
    2: ("Edema", (0.35, 0.85, 0.35)),
    4: ("Enhancing tumor", (1.0, 1.0, 1.0)),
}


def registerSampleData() -> None:
    """Offer the sample case in the Sample Data module. Its files come with the extension: nothing is downloaded."""
    import SampleData

    icon = Path(__file__).resolve().parent.parent / "Resources" / "Icons" / "TumorQuerySample.png"
    folder = Dependencies.resourcesFolder() / "SampleData"
    names, files = zip(*SAMPLE_FILES.values(), strict=True)
    paths = [folder / file for file in files]
    SampleData.SampleDataLogic.registerCustomSampleDataCategory("TumorQuery", title=_("TumorQuery"))
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="TumorQuery",
        sampleName=SAMPLE_NAME,
        thumbnailFileName=str(icon),
        uris=[path.as_uri() for path in paths],
        fileNames=[f"TumorQuery-{file}" for file in files],
        nodeNames=list(names),
        # The bundled file's own: a copy of an earlier version in Slicer's cache does not pass for it.
        checksums=[f"SHA256:{hashlib.sha256(path.read_bytes()).hexdigest()}" for path in paths],
        loadFileTypes=["VolumeFile", "VolumeFile", "SegmentationFile"],
    )


def sampleFiles() -> dict[str, str]:
    """The files of the bundled sample case, as arguments of the library's `Patient.load`."""
    folder = Dependencies.resourcesFolder() / "SampleData"
    return {role: str(folder / file) for role, (_name, file) in SAMPLE_FILES.items()} | {"labels": SAMPLE_LABELS}


def loadSample() -> dict[str, Any]:
    """Load the bundled sample case.

    :return: nodes by input: t1gd, flair and segmentation.
    """
    import SampleData

    registerSampleData()
    nodes = dict(zip(SAMPLE_FILES, SampleData.downloadSamples(SAMPLE_NAME), strict=True))
    segmentation = nodes["segmentation"].GetSegmentation()
    for segmentID in segmentation.GetSegmentIDs():
        segment = segmentation.GetSegment(segmentID)
        name, color = SAMPLE_SEGMENTS[segment.GetLabelValue()]
        segment.SetName(name)
        segment.SetColor(color)
    return nodes
