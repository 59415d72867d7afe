"""Segmentations (SEG) and Parametric Maps, by highdicom, on the voxels of the T1Gd series."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from TumorQueryLib.base.errors import MissingDependencyError
from TumorQueryLib.base.version import __version__
from TumorQueryLib.geometry.grid import LPS_FROM_RAS
from TumorQueryLib.results.dicom.regions import BRAIN, GIVEN, GROWTH_MODEL, NO_UNITS, Code, Region
from TumorQueryLib.results.dicom.source import SourceSeries, equipment, new_uid


def import_highdicom() -> Any:
    """The package highdicom.

    Raises
    ------
    MissingDependencyError
        When it is not installed.
    """
    try:
        import highdicom
    except ImportError as error:
        raise MissingDependencyError(
            'Writing DICOM objects of a result needs the package highdicom: pip install "tumorquery[dicom]"; in 3D '
            "Slicer, slicer.util.pip_install('highdicom')."
        ) from error
    return highdicom


def make_segmentation(source: SourceSeries, regions: Sequence[Region], *, number: int) -> Dataset:
    """A binary segmentation (SEG), a segment for each region; an empty region keeps its segment, without frames.

    Parameters
    ----------
    source : SourceSeries
    regions : sequence of Region
        At least one, which may overlap.
    number : int
        Of the series that it makes up.
    """
    highdicom = import_highdicom()
    concept = highdicom.sr.CodedConcept
    described = [
        highdicom.seg.SegmentDescription(
            segment_number=index,
            segment_label=region.name,
            segmented_property_category=concept(*region.meaning.category),
            segmented_property_type=concept(*region.meaning.code),
            # One of three is asked for, and "semiautomatic" says least of what was given.
            algorithm_type=region.algorithm or "SEMIAUTOMATIC",
            algorithm_identification=highdicom.AlgorithmIdentificationSequence(
                name="TumorQuery" if region.by_model else "as given to TumorQuery",
                family=concept(*(GROWTH_MODEL if region.by_model else GIVEN)),
                version=__version__,
            ),
            anatomic_regions=[concept(*BRAIN)],
            display_color=highdicom.color.CIELabColor.from_rgb(*region.colour),
        )
        for index, region in enumerate(regions, 1)
    ]
    for segment, region in zip(described, regions):
        if region.description:
            segment.SegmentDescription = region.description
    array = np.stack([region.mask.transpose(2, 1, 0) for region in regions], axis=-1).astype(np.uint8)
    channels = {highdicom.ChannelDescriptor("SegmentNumber"): list(range(1, len(regions) + 1))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = highdicom.seg.Segmentation(
            source.unnamed_headers,
            _volume(source, array, channels=channels),
            "BINARY",
            described,
            series_instance_uid=new_uid(),
            series_number=number,
            sop_instance_uid=new_uid(),
            instance_number=1,
            series_description="TumorQuery tumour, density levels and plans",
            content_label="TUMORQUERY",
            content_description="Research software, not a medical device",
            **equipment(),
        )
    made.ContentCreatorName, made.ContentQualification = None, "RESEARCH"
    source.describe(made)
    return made


def make_parametric_map(
    source: SourceSeries, values: NDArray[np.float32], quantity: Code, description: str, *, number: int
) -> Dataset:
    """A Parametric Map of 32-bit floating point numbers.

    Parameters
    ----------
    source : SourceSeries
    values : ndarray of float32
        Fractions [i, j, k] on the series' grid.
    quantity : Code
        What they are.
    description : str
        Of the series.
    number : int
        Of the series.
    """
    highdicom = import_highdicom()
    mapping = highdicom.pm.RealWorldValueMapping(
        lut_label="density",
        lut_explanation=quantity.meaning,
        unit=highdicom.sr.CodedConcept(*NO_UNITS),
        value_range=(0.0, 1.0),
        slope=1.0,
        intercept=0.0,
        quantity_definition=highdicom.sr.CodedConcept(*quantity),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = highdicom.pm.ParametricMap(
            source.unnamed_headers,
            _volume(source, np.ascontiguousarray(values.transpose(2, 1, 0), dtype=np.float32)),
            series_instance_uid=new_uid(),
            series_number=number,
            sop_instance_uid=new_uid(),
            instance_number=1,
            contains_recognizable_visual_features=False,
            real_world_value_mappings=[mapping],
            voi_lut_transformations=[highdicom.VOILUTTransformation(window_center=0.5, window_width=1.0)],
            series_description=description,
            content_label="DENSITY",
            content_description="Research software, not a medical device",
            **equipment(),
        )
    made.ContentCreatorName = None
    _for_dcmqi(made)
    source.describe(made)
    return made


def _for_dcmqi(made: Dataset) -> None:
    """Add and order what dcmqi 1.5.7, by which 3D Slicer reads maps, takes for granted.

    It ends where no FrameAnatomySequence says what is shown, and takes the frames for ascending along their normal as
    they are stored, by which a map that is stored from the other end is mirrored without a word.
    """
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = BRAIN
    anatomy = Dataset()
    anatomy.AnatomicRegionSequence, anatomy.FrameLaterality = Items([code]), "U"
    shared = made.SharedFunctionalGroupsSequence[0]
    shared.FrameAnatomySequence = Items([anatomy])
    axes = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float)
    frames = list(made.PerFrameFunctionalGroupsSequence)
    places = np.array([frame.PlanePositionSequence[0].ImagePositionPatient for frame in frames], dtype=float)
    order = np.argsort(places @ np.cross(axes[:3], axes[3:]))
    for index, frame in enumerate(order, 1):
        frames[frame].FrameContentSequence[0].DimensionIndexValues = [index]
    made.PerFrameFunctionalGroupsSequence = Items(frames[frame] for frame in order)
    voxels = np.frombuffer(made.FloatPixelData, dtype="<f4").reshape(len(frames), -1)
    made.FloatPixelData = voxels[order].tobytes()


def _volume(source: SourceSeries, array: NDArray[Any], **channels: Any) -> Any:
    """The volume, as highdicom has it, of an array [slice, row, column] on the series' grid."""
    affine = (LPS_FROM_RAS @ source.grid.affine)[:, [2, 1, 0, 3]]
    return import_highdicom().Volume(array, affine, "PATIENT", source.frame_of_reference, **channels)
