"""What a segment's name suggests, and that it never says otherwise than what the reader takes for granted."""

import numpy as np
import pytest

from TumorQueryLib.inputs.checks import Segment
from TumorQueryLib.inputs.labels import (
    CORE_NAMES,
    CORE_PART_NAMES,
    EDEMA_NAMES,
    NO_TUMOUR_NAMES,
    WHOLE_NAMES,
    regions_from_segments,
    suggested_meaning,
)


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("EnhancingTumor", "core"),
        ("TumorCore", "core"),
        ("WholeTumor", "whole"),
        ("GDEnhancing", "core"),
        ("Tumor_core", "core"),
        ("Necrotic tumor core (NCR)", "core"),
        ("Non-enhancing tumor core", "core"),
        ("Contrast-enhancing lesion", "core"),
        ("ET 1", "core"),
        ("Peritumoral edema (ED)", "oedema"),
        ("Surrounding non-enhancing FLAIR hyperintensity (SNFH)", "oedema"),
        ("Whole tumor without cavity", "whole"),
        ("Tumour", "tumour"),
        ("Glioma, left", "tumour"),
        ("No tumor", None),
        ("NoTumor", None),
        ("Non-tumor", None),
        ("not tumour", None),
        ("Resection cavity (RC)", None),
        ("Healthy tissue", None),
        ("ventricles", None),
        ("Segment_1", None),
        ("", None),
    ],
)
def test_names_are_read_word_by_word(name, meaning):
    assert suggested_meaning(name) == meaning


@pytest.mark.parametrize("name", sorted(CORE_NAMES | CORE_PART_NAMES | WHOLE_NAMES | EDEMA_NAMES | NO_TUMOUR_NAMES))
def test_a_name_that_the_reader_knows_means_the_same(name):
    ones = np.ones((2, 2, 2), dtype=bool)
    beside = ("tumorcore", "wholetumor") if name in ("core", "tc", "whole", "wt") else ("tc", "wt")
    regions = regions_from_segments([Segment(name, ones), *(Segment(one, ~ones) for one in beside)], None)
    expected = None
    if regions.core.all():
        expected = "core"
    elif regions.whole.all():
        expected = "whole" if name in WHOLE_NAMES else "oedema"
    assert suggested_meaning(name) == expected


@pytest.mark.parametrize(
    ("name", "code", "meaning"),
    [
        ("Segment_1", "SCT 86049000", "tumour"),
        ("Segment_2", "SCT 79654002", "oedema"),
        ("Tumeur necrosante", "SCT 6574001", "core"),
        ("Segment_3", "SCT 85756007", None),
        ("Edema", "SCT 86049000", "oedema"),
        ("No tumor", "SCT 86049000", None),
        ("Brain", "SCT 86049000", None),
    ],
)
def test_a_code_says_what_a_name_does_not(name, code, meaning):
    assert suggested_meaning(name, code) == meaning
