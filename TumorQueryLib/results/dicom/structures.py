"""Structure sets of radiotherapy (RTSTRUCT): contours on the slices of the T1Gd series."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID, ImplicitVRLittleEndian

from TumorQueryLib.geometry.grid import ras_to_lps
from TumorQueryLib.inputs.dicom.contours import STRUCTURE_SET_CLASS
from TumorQueryLib.results.dicom.outlines import outlines_of
from TumorQueryLib.results.dicom.regions import Code, Region
from TumorQueryLib.results.dicom.source import SourceSeries, equipment, new_uid, now

#: A study, where it is referred to (a retired class, which the module still names).
STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"


def make_structure_set(source: SourceSeries, regions: Sequence[Region], *, number: int) -> Dataset:
    """A structure set, a structure for each region; a keyhole leaves a hole open.

    Parameters
    ----------
    source : SourceSeries
    regions : sequence of Region
        None of them empty.
    number : int
        Of the series that it makes up.
    """
    made = _begun(source, number)
    made.StructureSetROISequence, made.ROIContourSequence, made.RTROIObservationsSequence = Items(), Items(), Items()
    for index, region in enumerate(regions, 1):
        made.StructureSetROISequence.append(
            _item(
                ROINumber=index,
                ReferencedFrameOfReferenceUID=source.frame_of_reference,
                ROIName=region.name,
                ROIGenerationAlgorithm=region.algorithm or None,
                **({"ROIDescription": region.description} if region.description else {}),
            )
        )
        made.ROIContourSequence.append(
            _item(
                ROIDisplayColor=list(region.colour),
                ReferencedROINumber=index,
                ContourSequence=Items(_contours(source, region)),
            )
        )
        made.RTROIObservationsSequence.append(
            _item(
                ObservationNumber=index,
                ReferencedROINumber=index,
                RTROIInterpretedType=region.meaning.target,
                ROIInterpreter=None,
                **({"RTROIIdentificationCodeSequence": _coded(code)} if (code := region.meaning.target_code) else {}),
            )
        )
    return made


def _begun(source: SourceSeries, number: int) -> Dataset:
    """A structure set without structures."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(STRUCTURE_SET_CLASS), UID(new_uid())
    # With explicit kinds of values, contours of more than 64 KB could not be stored as the numbers that they are.
    meta.TransferSyntaxUID = ImplicitVRLittleEndian
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    source.describe(made)
    date, time = now()
    made.SOPClassUID, made.SOPInstanceUID = STRUCTURE_SET_CLASS, meta.MediaStorageSOPInstanceUID
    made.InstanceCreationDate, made.InstanceCreationTime, made.InstanceNumber = date, time, 1
    made.Modality, made.SeriesInstanceUID, made.SeriesNumber = "RTSTRUCT", new_uid(), number
    made.SeriesDescription, made.OperatorsName = "TumorQuery structures", None
    made.SeriesDate, made.SeriesTime = date, time
    wrote = equipment()
    made.Manufacturer, made.ManufacturerModelName = wrote["manufacturer"], wrote["manufacturer_model_name"]
    made.SoftwareVersions, made.DeviceSerialNumber = wrote["software_versions"], wrote["device_serial_number"]
    made.FrameOfReferenceUID = source.frame_of_reference
    made.PositionReferenceIndicator = source.first.get("PositionReferenceIndicator")
    made.StructureSetLabel, made.StructureSetName = "TUMORQUERY", "TumorQuery"
    made.StructureSetDescription = "Research software, not a medical device"
    made.ContentQualification = "RESEARCH"
    made.StructureSetDate, made.StructureSetTime, made.ApprovalStatus = date, time, "UNAPPROVED"
    series = _item(
        SeriesInstanceUID=source.first.SeriesInstanceUID,
        ContourImageSequence=Items(_referenced(header) for header in source.headers),
    )
    study = _item(
        ReferencedSOPClassUID=STUDY_CLASS,
        ReferencedSOPInstanceUID=source.first.StudyInstanceUID,
        RTReferencedSeriesSequence=Items([series]),
    )
    made.ReferencedFrameOfReferenceSequence = Items(
        [_item(FrameOfReferenceUID=source.frame_of_reference, RTReferencedStudySequence=Items([study]))]
    )
    return made


def _contours(source: SourceSeries, region: Region) -> list[Dataset]:
    """The contours of a region, slice by slice."""
    contours: list[Dataset] = []
    for k in np.flatnonzero(region.mask.any(axis=(0, 1))):
        header, frame = source.slices[k]
        image = _referenced(header, frame)
        for outline in outlines_of(region.mask[:, :, k]):
            points = ras_to_lps(source.grid.to_ras(np.column_stack([outline, np.full(len(outline), k)])))
            contours.append(
                _item(
                    ContourNumber=len(contours) + 1,
                    ContourImageSequence=Items([image]),
                    ContourGeometricType="CLOSED_PLANAR",
                    NumberOfContourPoints=len(points),
                    ContourData=[f"{number:.4f}" for number in points.ravel()],
                )
            )
    return contours


def _referenced(header: Dataset, frame: int | None = None) -> Dataset:
    """A reference to an image, or to a frame of one that holds several."""
    made = _item(ReferencedSOPClassUID=header.SOPClassUID, ReferencedSOPInstanceUID=header.SOPInstanceUID)
    if frame is not None and int(header.get("NumberOfFrames", 1) or 1) > 1:
        made.ReferencedFrameNumber = frame + 1
    return made


def _coded(code: Code) -> Items:
    return Items([_item(CodeValue=code.value, CodingSchemeDesignator=code.scheme, CodeMeaning=code.meaning)])


def _item(**values: Any) -> Dataset:
    made = Dataset()
    for name, value in values.items():
        setattr(made, name, value)
    return made
