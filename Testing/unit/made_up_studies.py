"""Made-up DICOM studies as scanners and archives write them: tiny slices with the tags that tell series apart."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from TumorQueryLib.geometry.grid import ras_to_lps

SEG = "1.2.840.10008.5.1.4.1.1.66.4"
RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
RTDOSE = "1.2.840.10008.5.1.4.1.1.481.2"
PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

#: TE, TR, TI in ms, dimensions and sequence, as scanners set them.
TIMES = {
    "t1 spin echo": {"EchoTime": 12, "RepetitionTime": 550, "MRAcquisitionType": "2D", "ScanningSequence": "SE"},
    "t1 gradient echo": {"EchoTime": 3.1, "RepetitionTime": 8.2, "InversionTime": 450, "MRAcquisitionType": "3D"},
    "t1 flair": {"EchoTime": 24, "RepetitionTime": 2300, "InversionTime": 860, "MRAcquisitionType": "2D"},
    "flair": {"EchoTime": 125, "RepetitionTime": 9000, "InversionTime": 2250, "MRAcquisitionType": "2D"},
    "t2": {"EchoTime": 100, "RepetitionTime": 4500, "MRAcquisitionType": "2D", "ScanningSequence": "SE"},
    "epi": {"EchoTime": 80, "RepetitionTime": 6000, "MRAcquisitionType": "2D", "ScanningSequence": "EP"},
    "none": {},
}
AFFINES = {
    "axial": np.diag([-3.0, -3.0, 9.0, 1.0]),
    "sagittal": np.array([[0, 0, 9.0, 0], [-3.0, 0, 0, 0], [0, -3.0, 0, 0], [0, 0, 0, 1.0]]),
    "coronal": np.array([[-3.0, 0, 0, 0], [0, 0, 9.0, 0], [0, -3.0, 0, 0], [0, 0, 0, 1.0]]),
}


def new_file(kind, **values):
    """A file with its identity and the given elements."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = kind, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID = kind, meta.MediaStorageSOPInstanceUID
    for name, value in values.items():
        setattr(file, name, value)
    return file


def item(**values):
    """An item of a sequence."""
    dataset = Dataset()
    for name, value in values.items():
        setattr(dataset, name, value)
    return dataset


@dataclass
class MadeUpStudy:
    """One study of one patient; series are added with `add` and its kin, and lie in memory until `write`."""

    date: str = "20240301"
    patient: str = "SECRET^PERSON"
    uid: str = field(default_factory=generate_uid)
    frame: str = field(default_factory=generate_uid)
    series: list = field(default_factory=list)

    def _element(self, number, uid):
        return {
            "StudyInstanceUID": self.uid, "SeriesInstanceUID": uid, "FrameOfReferenceUID": self.frame,
            "StudyDate": self.date, "SeriesNumber": number, "PatientID": f"ID {self.patient}",
            "PatientName": self.patient, "PatientBirthDate": "19500101",
        }  # fmt: skip

    def add(self, description, times="none", *, plane="axial", time="", count=5, array=None, affine=None, **values):
        """A series of slices of one file each; returns its UID."""
        number, uid = values.pop("number", len(self.series) + 1), generate_uid()
        affine = AFFINES[plane] if affine is None else affine
        array = np.full((32, 32, count), 100, dtype=np.uint16) if array is None else array
        axes = np.diag([-1.0, -1.0, 1.0]) @ affine[:3, :3]
        spacing = np.linalg.norm(axes, axis=0)
        files = []
        for k in range(array.shape[2]):
            file = new_file(
                pydicom.uid.MRImageStorage, **self._element(number, uid), Modality="MR", InstanceNumber=k + 1,
                ImageType=["ORIGINAL", "PRIMARY", "M"], SeriesDescription=description, **TIMES[times],
            )  # fmt: skip
            if time:
                file.AcquisitionDate, file.AcquisitionTime = self.date, f"{time}{k % 60:02d}.{k:03d}"
            position = affine[:3, :3] @ [0, 0, k] + affine[:3, 3]
            file.ImagePositionPatient = [f"{x:.6f}" for x in ras_to_lps(position)]
            file.ImageOrientationPatient = [
                f"{x:.8f}" for x in (*(axes[:, 0] / spacing[0]), *(axes[:, 1] / spacing[1]))
            ]
            file.PixelSpacing = [f"{spacing[1]:.6f}", f"{spacing[0]:.6f}"]
            file.SliceThickness = f"{spacing[2]:.6f}"
            file.Rows, file.Columns = array.shape[1], array.shape[0]
            file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
            file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 16, 15, 0
            file.PixelData = np.ascontiguousarray(array[:, :, k].T.astype("<u2")).tobytes()
            for name, value in values.items():
                setattr(file, name, value)
            files.append(file)
        self.series.append(files)
        return uid

    def add_object(self, kind, modality, description="", files=1, **values):
        """A series of objects that are no slices; returns its UID."""
        number, uid = len(self.series) + 1, generate_uid()
        self.series.append(
            [
                new_file(kind, **self._element(number, uid), Modality=modality, SeriesDescription=description, **values)
                for _ in range(files)
            ]
        )
        return uid

    def add_localizer(self):
        """Three planes in one series."""
        uid = self.add(
            "3-Plane Loc", "t1 gradient echo", plane="axial", count=3, ImageType=["ORIGINAL", "PRIMARY", "M"]
        )
        for plane in ("sagittal", "coronal"):
            other = MadeUpStudy(self.date, self.patient, self.uid, self.frame)
            other.add("3-Plane Loc", "t1 gradient echo", plane=plane, count=3)
            for file in other.series[0]:
                file.SeriesInstanceUID, file.SeriesNumber = uid, len(self.series)
            self.series[-1] += other.series[0]
        return uid

    def add_enhanced(self, description, contrast, *, te, tr, ti=None, time="", agent=None, frames=6):
        """Enhanced multi-frame MR in one file; returns its UID."""
        number, uid = len(self.series) + 1, generate_uid()
        file = new_file(
            pydicom.uid.EnhancedMRImageStorage, **self._element(number, uid), Modality="MR", NumberOfFrames=frames,
            SeriesDescription=description, ImageType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
            AcquisitionContrast=contrast, MRAcquisitionType="3D",
        )  # fmt: skip
        if time:
            file.AcquisitionDateTime = f"{self.date}{time}00.5"
        if agent:
            file.ContrastBolusAgentSequence = Sequence([item(CodeMeaning=agent)])
        shared = item(
            PlaneOrientationSequence=Sequence([item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])]),
            PixelMeasuresSequence=Sequence([item(PixelSpacing=[0.9, 0.9], SliceThickness=1.1)]),
            MRTimingAndRelatedParametersSequence=Sequence([item(RepetitionTime=tr)]),
            MREchoSequence=Sequence([item(EffectiveEchoTime=float(te))]),
        )
        if ti:
            shared.MRModifierSequence = Sequence([item(InversionTimes=[float(ti)])])
        file.SharedFunctionalGroupsSequence = Sequence([shared])
        file.PerFrameFunctionalGroupsSequence = Sequence(
            [item(PlanePositionSequence=Sequence([item(ImagePositionPatient=[0, 0, 1.1 * k])])) for k in range(frames)]
        )
        file.Rows = file.Columns = 8
        file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
        file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 16, 15, 0
        file.PixelData = bytes(8 * 8 * 2 * frames)
        self.series.append([file])
        return uid

    def add_seg(self, *names, files=1):
        """A segmentation with segments of these names; voxels are not written."""
        segments = Sequence([item(SegmentNumber=n + 1, SegmentLabel=name) for n, name in enumerate(names)])
        return self.add_object(SEG, "SEG", "Segmentation", files=files, SegmentSequence=segments, NumberOfFrames=4)

    def add_contours(self, *names):
        """An RTSTRUCT with contours of these names."""
        rois = Sequence([item(ROINumber=n + 1, ROIName=name) for n, name in enumerate(names)])
        return self.add_object(RTSTRUCT, "RTSTRUCT", "Contours", StructureSetROISequence=rois)


def write_studies(folder: Path, *studies: MadeUpStudy, layout="series") -> Path:
    """Write studies as an archive does: a folder a series, all in one folder, or without names and suffixes."""
    number = 0
    for n, study in enumerate(studies):
        for m, files in enumerate(study.series):
            for k, file in enumerate(files):
                number += 1
                path = {
                    "series": folder / f"study {n}" / f"{m:03d}" / f"IM{k:04d}.dcm",
                    "one folder": folder / f"{number:05d}.dcm",
                    # Archives go on with the next folder after some files, in the midst of a series.
                    "numbers": folder / "DICOM" / f"{number // 7:04d}" / f"{number:08d}",
                }[layout]
                path.parent.mkdir(parents=True, exist_ok=True)
                file.save_as(path, enforce_file_format=True)
    return folder


def usual_study(**values) -> MadeUpStudy:
    """What a scanner makes of a glioma: localizer, T1, T2, FLAIR, diffusion, T1Gd, and what was derived of it."""
    study = MadeUpStudy(**values)
    study.add_localizer()
    study.add("Ax T1 FSE", "t1 spin echo", time="1000")
    study.add("Ax T2 FRFSE", "t2", time="1005")
    study.add("Ax T2 FLAIR", "flair", time="1010")
    study.add("Ax DWI", "epi", time="1015", ImageType=["ORIGINAL", "PRIMARY", "DIFFUSION"])
    study.add("ADC", "epi", time="1015", ImageType=["DERIVED", "PRIMARY", "ADC"])
    study.add("Ax T1 POST GAD", "t1 spin echo", time="1030", count=12, ContrastBolusAgent="Gadovist")
    study.add(
        "Cor MPR", "t1 spin echo", plane="coronal", ImageType=["DERIVED", "SECONDARY", "MPR"],
        ContrastBolusAgent="Gadovist",
    )  # fmt: skip
    study.add("Ax T1 SUB", "t1 spin echo", ImageType=["DERIVED", "SECONDARY", "SUBTRACTION"])
    return study


USUAL_KINDS = {
    "3-Plane Loc": "localizer",
    "Ax T1 FSE": "t1",
    "Ax T2 FRFSE": "t2",
    "Ax T2 FLAIR": "flair",
    "Ax DWI": "diffusion/other",
    "ADC": "diffusion/other",
    "Ax T1 POST GAD": "t1gd",
    "Cor MPR": "derived",
    "Ax T1 SUB": "derived",
}
