"""The report shows the tumour where it is, the patient's right on the viewer's left."""

import dataclasses

import numpy as np
import pytest
from awkward_grids import AWKWARD_AFFINES, centred_grid

from TumorQueryLib.geometry.grid import Grid, Volume
from TumorQueryLib.geometry.regions import threshold_density
from TumorQueryLib.inference import Inference
from TumorQueryLib.results.report import display_grid, grey_window, plane_of, scene_of, write_report


def inference_of(patient, atlas, **changes):
    """An inference whose density is a ball around the patient's segmented tumour; nothing is registered."""
    from TumorQueryLib.geometry.regions import TumorMasks
    from TumorQueryLib.growth import GrowthParameters
    from TumorQueryLib.registration import Registration
    from TumorQueryLib.strategies import Match

    sitk = pytest.importorskip("SimpleITK")
    grid = patient.t1gd.grid
    points = grid.to_ras(np.moveaxis(np.indices(grid.shape), 0, -1))
    centre = patient.whole.grid.to_ras(np.argwhere(patient.whole.array).mean(axis=0))
    distance = np.linalg.norm(points - centre, axis=-1)
    density = Volume((1 / (1 + np.exp((distance - 15) / 3))).astype(np.float32), grid)
    core, whole = threshold_density(density, 0.6, 0.2)
    nothing = np.zeros(atlas.grid.shape, bool)
    return dataclasses.replace(
        Inference(
            patient=patient,
            atlas=atlas,
            registration=Registration("none", sitk.Transform(3, sitk.sitkIdentity), sitk.Transform(3, 0), {}, ()),
            query=TumorMasks(nothing, nothing, atlas.grid),
            matches=(Match(entry=3, dice_core=0.5, dice_whole=0.75, score=1.25),),
            matched_parameters=(GrowthParameters((-120.0, 110.0, 70.0), 0.4, 0.1, 150.0),),
            database={"entries": 5000, "atlas": "SRI24"},
            strategy="direct",
            density=density,
            core=core,
            whole=whole,
            observed_core=patient.core,
            observed_whole=patient.whole,
            timings={"total": 1.5},
            warnings=(),
        ),
        **changes,
    )


def read_png(path):
    from matplotlib.image import imread

    return imread(path)[..., :3]


def glowing(picture):
    """Pixels in the colours of the density: far more red than blue."""
    return picture[..., 0] - picture[..., 2] > 0.25


@pytest.mark.parametrize(
    ("name", "side"),
    [("identity", "right"), ("lps", "right"), ("oblique-flipped", "right"), ("oblique-flipped", "left")],
)
def test_the_patients_right_is_on_the_viewers_left(tmp_path, atlas, synthetic_patient, name, side):
    x = 30.0 if side == "right" else -30.0
    spacing = np.linalg.norm(AWKWARD_AFFINES[name][:3, :3], axis=0) * 2.5
    shape = np.ceil(190 / spacing).astype(int)
    affine = AWKWARD_AFFINES[name] @ np.diag([2.5, 2.5, 2.5, 1.0])
    patient = synthetic_patient(centred_grid(shape, affine), tumour_centre=(x, 20.0, 10.0))
    path = tmp_path / "report.png"
    write_report(inference_of(patient, atlas), path)
    picture = read_png(path)
    height, width = picture.shape[:2]
    axial = picture[int(0.07 * height) : int(0.33 * height), : int(0.235 * width)]
    rows, columns = np.nonzero(glowing(axial) & (axial[..., 0] > 0.35))
    assert columns.size > 200
    brain_columns = np.flatnonzero((axial.max(axis=-1) > 0.3).any(axis=0))
    middle = (brain_columns[0] + brain_columns[-1]) / 2
    # Letters and scale bar take part in the brain's extent, so keep clear of the middle.
    assert (columns.mean() < middle - 10) if side == "right" else (columns.mean() > middle + 10)
    # Anterior is on top: the tumour lies 20 mm anterior of the middle.
    assert rows.mean() < axial.shape[0] * 0.55


def test_slices_are_turned_as_slicer_turns_them():
    array = np.zeros((4, 5, 6))
    array[3, 4, 5] = 1  # right, anterior, superior
    assert plane_of(array, "axial", 5)[0, 0] == 1  # right on the left, anterior on top
    assert plane_of(array, "coronal", 4)[0, 0] == 1  # right on the left, superior on top
    assert plane_of(array, "sagittal", 3)[0, 0] == 1  # anterior on the left, superior on top
    assert plane_of(array, "axial", 5).shape == (5, 4)
    with pytest.raises(ValueError, match="oblique"):
        plane_of(array, "oblique", 0)


def test_density_and_segmentation_meet_on_the_display_grid(atlas, synthetic_patient):
    """On an oblique, flipped, anisotropic image the drawn arrays still lie where the patient's are."""
    affine = AWKWARD_AFFINES["oblique-flipped"] @ np.diag([2, 2, 2, 1.0])
    patient = synthetic_patient(centred_grid((90, 110, 50), affine), tumour_centre=(25.0, -15.0, 12.0))
    scene = scene_of(inference_of(patient, atlas))
    for drawn in (scene.observed["whole"], scene.density > 0.5):
        centre = scene.grid.to_ras(np.argwhere(drawn).mean(axis=0))
        np.testing.assert_allclose(centre, (25.0, -15.0, 12.0), atol=1.5)
    np.testing.assert_allclose(scene.grid.to_ras(scene.centre), (25.0, -15.0, 12.0), atol=1.5)


def test_the_display_grid_leaves_out_background_of_any_value():
    grid = Grid.isotropic(60, 3.0, (5, 6, 7))
    array = np.full(grid.shape, -4.0, np.float32)
    array[20:30, 25:35, 10:40] = np.linspace(-1, 3, 30)
    shown = display_grid(Volume(array, grid))
    low, high = shown.to_ras((0, 0, 0)), shown.to_ras(np.array(shown.shape) - 1)
    assert (low <= grid.to_ras((19.5, 24.5, 9.5)) - 2).all()
    assert (low >= grid.to_ras((19.5, 24.5, 9.5)) - 12).all()
    assert (high >= grid.to_ras((29.5, 34.5, 39.5)) + 2).all()
    assert (high <= grid.to_ras((29.5, 34.5, 39.5)) + 12).all()


@pytest.mark.parametrize("background", [0.0, -4.0])
def test_the_grey_window_is_the_tissues(background):
    image = np.full((40, 40, 40), background, np.float32)
    image[10:30, 10:30, 10:30] = np.random.default_rng(0).normal(100, 5, (20, 20, 20))
    low, high = grey_window(image)
    assert 80 < low < 95
    assert 105 < high < 120


def test_an_empty_image_has_a_window():
    low, high = grey_window(np.zeros((5, 5, 5), np.float32))
    assert low < high


def test_warnings_and_figures_are_in_the_text(atlas, synthetic_patient):
    from TumorQueryLib.results.report import figures_of

    text = "\n".join(figures_of(inference_of(synthetic_patient(), atlas, warnings=("Mind the gap.",))))
    assert "Mind the gap." in text
    assert "sum             1.250 of 2" in text
    assert "in the patient  2.00 mm" in text
    assert "rho T             15.0" in text
