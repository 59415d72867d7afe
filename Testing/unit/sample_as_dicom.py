"""A patient as an archive would hand it on: MR series, segmentations by highdicom, contours by code of our own."""

from dataclasses import dataclass, field
from pathlib import Path

import contourpy
import highdicom
import numpy as np
import pydicom
from highdicom.seg import Segmentation, SegmentDescription
from made_up_studies import item
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from TumorQueryLib.geometry.grid import LPS_FROM_RAS, ras_to_lps

NEOPLASM = Code("86049000", "SCT", "Neoplasm, Primary")
NECROSIS = Code("6574001", "SCT", "Necrosis")
EDEMA = Code("79654002", "SCT", "Edema")
ENHANCING = Code("C113842", "NCIt", "Enhancing Lesion")
TISSUE = Code("85756007", "SCT", "Tissue")
ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")
#: Points of an outline lie where a smoothed mask is this much filled, so between the pixels.
LEVEL = 0.5


@dataclass
class Study:
    """What the objects of a study have in common."""

    frame_of_reference: str = field(default_factory=generate_uid)
    uid: str = field(default_factory=generate_uid)

    def start(self, kind, modality, series, description):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = kind, generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        file = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        file.SOPClassUID, file.SOPInstanceUID = kind, meta.MediaStorageSOPInstanceUID
        file.PatientName, file.PatientID, file.PatientBirthDate, file.PatientSex = "Made^Up", "0", "", ""
        file.StudyInstanceUID, file.StudyID, file.AccessionNumber = self.uid, "1", ""
        file.StudyDate, file.StudyTime, file.ReferringPhysicianName = "20200101", "120000", ""
        file.SeriesInstanceUID, file.SeriesDescription, file.Modality = series, description, modality
        file.Manufacturer, file.SeriesNumber, file.FrameOfReferenceUID = "", 1, self.frame_of_reference
        file.PositionReferenceIndicator = ""
        return file

    def write_series(self, folder, array, affine, description="T1 GD"):
        """One MR slice a file; array [i, j, k], affine to RAS. Gives back the files' datasets, without suffixes."""
        folder.mkdir(parents=True, exist_ok=True)
        axes = LPS_FROM_RAS[:3, :3] @ affine[:3, :3]
        spacing = np.linalg.norm(axes, axis=0)
        series, files = generate_uid(), []
        for k in range(array.shape[2]):
            file = self.start(pydicom.uid.MRImageStorage, "MR", series, description)
            file.ScanningSequence, file.SequenceVariant, file.ScanOptions = "SE", "NONE", ""
            file.MRAcquisitionType, file.EchoTime, file.RepetitionTime, file.EchoTrainLength = "2D", "5", "500", "1"
            file.ImageType, file.InstanceNumber = ["ORIGINAL", "PRIMARY", "OTHER"], k + 1
            file.ImagePositionPatient = [f"{x:.8g}" for x in ras_to_lps(affine[:3, :3] @ [0, 0, k] + affine[:3, 3])]
            file.ImageOrientationPatient = [
                f"{x:.10f}" for x in (*(axes[:, 0] / spacing[0]), *(axes[:, 1] / spacing[1]))
            ]
            file.PixelSpacing = [f"{spacing[1]:.8g}", f"{spacing[0]:.8g}"]
            file.SliceThickness = file.SpacingBetweenSlices = f"{spacing[2]:.8g}"
            file.Rows, file.Columns, file.SamplesPerPixel = array.shape[1], array.shape[0], 1
            file.PhotometricInterpretation, file.BitsAllocated, file.BitsStored = "MONOCHROME2", 16, 16
            file.HighBit, file.PixelRepresentation = 15, 0
            file.PixelData = np.ascontiguousarray(array[:, :, k].T.astype("<u2")).tobytes()
            file.save_as(folder / f"{(k * 7 + 3) % (array.shape[2] + 7):08d}_{k}", enforce_file_format=True)
            files.append(file)
        return files

    def write_segmentation(self, path, files, masks, affine, codes=None, kind="BINARY", values=None, keep_empty=False):
        """A SEG of masks by name [i, j, k] on any grid; `values` are fractions for FRACTIONAL."""
        described = [
            SegmentDescription(
                segment_number=number,
                segment_label=name,
                segmented_property_category=ABNORMAL,
                segmented_property_type=(codes or {}).get(name, TISSUE),
                algorithm_type="MANUAL",
            )
            for number, name in enumerate(masks, 1)
        ]
        lps = (LPS_FROM_RAS @ affine)[:, [2, 1, 0, 3]]
        arrays = [np.asarray(array).transpose(2, 1, 0) for array in (values or masks).values()]
        if kind == "LABELMAP":
            array, channels = np.zeros(arrays[0].shape, dtype=np.uint8), None
            for number, mask in enumerate(arrays, 1):
                array[mask > 0] = number
        else:
            array = np.stack(arrays, axis=-1).astype(np.float32 if values else np.uint8)
            channels = {highdicom.ChannelDescriptor("SegmentNumber"): list(range(1, len(arrays) + 1))}
        volume = highdicom.Volume(array, lps, "PATIENT", self.frame_of_reference, channels=channels)
        path.parent.mkdir(parents=True, exist_ok=True)
        segmentation = Segmentation(
            files,
            volume,
            kind,
            described,
            series_instance_uid=generate_uid(),
            series_number=9,
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer="Test",
            manufacturer_model_name="Test",
            software_versions="1",
            device_serial_number="1",
            omit_empty_frames=not keep_empty,
            **({"max_fractional_value": 200} if kind == "FRACTIONAL" else {}),
        )
        segmentation.save_as(path)

    def write_contours(self, path, files, outlines, codes=None, series=None):
        """An RTSTRUCT of outlines by name: lists of contours, arrays (points, 3) in RAS mm."""
        file = self.start(pydicom.uid.RTStructureSetStorage, "RTSTRUCT", generate_uid(), "contours")
        file.StructureSetLabel, file.StructureSetDate, file.StructureSetTime = "tumour", "20200101", "120000"
        instances = [
            item(ReferencedSOPClassUID=one.SOPClassUID, ReferencedSOPInstanceUID=one.SOPInstanceUID) for one in files
        ]
        referenced = item(
            SeriesInstanceUID=series or files[0].SeriesInstanceUID, ContourImageSequence=Sequence(instances)
        )
        study = item(
            ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.1",
            ReferencedSOPInstanceUID=self.uid,
            RTReferencedSeriesSequence=Sequence([referenced]),
        )
        file.ReferencedFrameOfReferenceSequence = Sequence(
            [item(FrameOfReferenceUID=self.frame_of_reference, RTReferencedStudySequence=Sequence([study]))]
        )
        regions, drawn, observed = [], [], []
        for number, (name, contours) in enumerate(outlines.items(), 1):
            regions.append(
                item(
                    ROINumber=number,
                    ReferencedFrameOfReferenceUID=self.frame_of_reference,
                    ROIName=name,
                    ROIGenerationAlgorithm="MANUAL",
                )
            )
            items = [
                item(
                    ContourGeometricType="CLOSED_PLANAR",
                    NumberOfContourPoints=len(contour),
                    ContourData=[f"{x:.3f}" for x in ras_to_lps(contour).ravel()],
                )
                for contour in contours
            ]
            drawn.append(item(ReferencedROINumber=number, ContourSequence=Sequence(items)))
            observation = item(
                ObservationNumber=number, ReferencedROINumber=number, RTROIInterpretedType="GTV", ROIInterpreter=""
            )
            if codes and name in codes:
                code = codes[name]
                observation.RTROIIdentificationCodeSequence = Sequence(
                    [
                        item(
                            CodeValue=code.value,
                            CodingSchemeDesignator=code.scheme_designator,
                            CodeMeaning=code.meaning,
                        )
                    ]
                )
            observed.append(observation)
        file.StructureSetROISequence, file.ROIContourSequence = Sequence(regions), Sequence(drawn)
        file.RTROIObservationsSequence = Sequence(observed)
        file.ApprovalStatus = "UNAPPROVED"
        path.parent.mkdir(parents=True, exist_ok=True)
        file.save_as(path, enforce_file_format=True)


def outlines_of(mask, affine, slices=None):
    """The outlines of a mask's slices k, between its pixels, RAS mm; those of holes are contours of their own."""
    found = []
    for k in range(mask.shape[2]) if slices is None else slices:
        if mask[:, :, k].any():
            padded = np.pad(mask[:, :, k].astype(float), 1)
            for line in contourpy.contour_generator(z=padded.T).lines(LEVEL):
                index = np.column_stack([line[:-1] - 1, np.full(len(line) - 1, k)])
                found.append(index @ affine[:3, :3].T + affine[:3, 3])
    return found


def with_keyhole(outer, hole):
    """A contour and a hole in it as one contour that runs into the hole and back along one line."""
    distances = np.linalg.norm(outer[:, None] - hole[None], axis=2)
    i, j = np.unravel_index(distances.argmin(), distances.shape)
    return np.concatenate([outer[: i + 1], hole[j:], hole[: j + 1], outer[i:]])


def stored_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
