"""The report shows the tumour where it is, the patient's right on the viewer's left."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from awkward_grids import AWKWARD_AFFINES, centred_grid
from made_up_results import assimilated_result, made_up_result
from matplotlib.colors import to_hex, to_rgba
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from scipy.special import expit, logit

from TumorQueryLib.estimates.sensitivity import SensitivityRow
from TumorQueryLib.geometry.grid import Grid, Volume
from TumorQueryLib.results.report import (
    BOUND_COLOUR,
    OBSERVED_COLOURS,
    Scene,
    density_colours,
    display_grid,
    draw_bar,
    draw_report,
    figures_of,
    grey_window,
    plane_of,
    scene_of,
    write_report,
)


def read_png(path):
    from matplotlib.image import imread

    return imread(path)[..., :3]


def glowing(picture):
    """Pixels in the colours of the density: far more red than blue."""
    return picture[..., 0] - picture[..., 2] > 0.25


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "side"),
    [("identity", "right"), ("lps", "right"), ("oblique-flipped", "right"), ("oblique-flipped", "left")],
)
def test_the_patients_right_is_on_the_viewers_left(tmp_path, synthetic_patient, name, side):
    x = 30.0 if side == "right" else -30.0
    spacing = np.linalg.norm(AWKWARD_AFFINES[name][:3, :3], axis=0) * 2.5
    shape = np.ceil(190 / spacing).astype(int)
    affine = AWKWARD_AFFINES[name] @ np.diag([2.5, 2.5, 2.5, 1.0])
    patient = synthetic_patient(centred_grid(shape, affine), tumour_centre=(x, 20.0, 10.0))
    path = tmp_path / "report.png"
    write_report(made_up_result(patient), path)
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


@pytest.mark.slow
def test_density_and_segmentation_meet_on_the_display_grid(synthetic_patient):
    """On an oblique, flipped, anisotropic image the drawn arrays still lie where the patient's are."""
    affine = AWKWARD_AFFINES["oblique-flipped"] @ np.diag([2, 2, 2, 1.0])
    patient = synthetic_patient(centred_grid((90, 110, 50), affine), tumour_centre=(25.0, -15.0, 12.0))
    scene = scene_of(made_up_result(patient))
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


def test_where_no_tumour_is_seen_the_middle_of_the_image_is_shown():
    """As where a small one lies between the centres of the display grid's voxels."""
    empty = np.zeros((10, 12, 14), bool)
    observed = {"core": empty, "whole": empty}
    scene = Scene(Grid(empty.shape, np.eye(4)), {}, {}, np.zeros(empty.shape, np.float32), observed, {})
    assert scene.centre == (5, 6, 7)


def test_a_colour_bar_shows_the_colours_of_the_values_at_its_ticks():
    axes = Figure().add_subplot()
    draw_bar(axes, density_colours, 1.0, "density")
    (image,) = axes.images
    shown = image.to_rgba(image.get_array())[0, [0, 127, 255], :3]
    ramp = density_colours(np.array([0, 127 / 255, 1], np.float32))
    expected = ramp[:, :3] * ramp[:, 3:] + 0.35 * (1 - ramp[:, 3:])  # as over white matter
    np.testing.assert_allclose(shown, expected, atol=0.01)
    assert image.get_extent()[:2] == [0, 1]
    assert shown[0] == pytest.approx([0.35] * 3)


def test_an_empty_image_has_a_window():
    low, high = grey_window(np.zeros((5, 5, 5), np.float32))
    assert low < high


@pytest.fixture(scope="module")
def drawn(synthetic_patient):
    """The report of a refinement, and its result."""
    result = made_up_result(synthetic_patient())
    return draw_report(result), result


def slices(figure):
    """Axes that show a slice, with its title: the planes first, then the lightbox."""
    return [axes for axes in figure.axes if axes.images and not axes.axison]


def contours(axes):
    """Contour lines of a slice, each as its level, colour and dash."""
    return {
        (float(lines.levels[0]), tuple(lines.get_edgecolor()[0]), lines.get_linestyle()[0][1] is not None)
        for lines in axes.collections
        if isinstance(lines, QuadContourSet)
    }


@pytest.mark.slow
@pytest.mark.parametrize("thresholds", [(0.6, 0.2), (0.5, 0.3)])
def test_isolines_and_outlines_are_drawn_at_the_databases_thresholds(synthetic_patient, thresholds):
    figure = draw_report(made_up_result(synthetic_patient(), thresholds=thresholds))
    isolines = {(thresholds[0], to_rgba("white"), False), (thresholds[1], to_rgba("white"), True)}
    outlines = {(0.5, to_rgba(colour), False) for colour in OBSERVED_COLOURS.values()}
    for axes in slices(figure)[:6]:
        assert contours(axes) == isolines | outlines, axes.get_title()
    below, above = slices(figure)[6:][6:8]
    assert contours(below) == outlines
    assert contours(above) == isolines | outlines
    legend = [text.get_text() for axes in figure.axes if axes.get_legend() for text in axes.get_legend().get_texts()]
    assert {f"density {level:g}" for level in thresholds} < set(legend)


@pytest.mark.slow
def test_a_contour_follows_what_it_outlines(drawn):
    """The outline of the whole tumour runs around it, the isolines where the density passes them."""
    figure, result = drawn
    scene = scene_of(result)
    index = scene.centre[2]
    for lines in slices(figure)[0].collections:
        colour = to_hex(lines.get_edgecolor()[0])
        region = next((name for name, value in OBSERVED_COLOURS.items() if value == colour), None)
        drawn_from = scene.density if region is None else scene.observed[region]
        inside = plane_of(drawn_from, "axial", index) > lines.levels[0]
        rows, columns = np.nonzero(inside)
        points = lines.get_paths()[0].vertices
        for line, cells in ((points[:, 0], columns), (points[:, 1], rows)):
            assert line.min() == pytest.approx(cells.min() - 0.5, abs=0.51)
            assert line.max() == pytest.approx(cells.max() + 0.5, abs=0.51)


@pytest.mark.slow
def test_outlines_are_seen_in_the_picture(tmp_path, drawn):
    """In the file itself, in their own colours, in the axial plane and in the upper row of the lightbox."""
    figure, result = drawn
    write_report(result, tmp_path / "report.png")
    picture = read_png(tmp_path / "report.png")
    for axes in (slices(figure)[0], slices(figure)[12]):
        box = axes.get_position()
        height, width = picture.shape[:2]
        part = picture[
            int((1 - box.y1) * height) : int((1 - box.y0) * height), int(box.x0 * width) : int(box.x1 * width)
        ]
        for colour in OBSERVED_COLOURS.values():
            rgb = np.array([int(colour[n : n + 2], 16) for n in (1, 3, 5)]) / 255
            assert (np.abs(part - rgb).max(axis=-1) < 0.08).sum() > 20, (axes.get_title(), colour)


@pytest.mark.slow
def test_letters_say_where_the_picture_puts_the_sides(drawn):
    for axes in slices(drawn[0])[:6]:
        spots = {text.get_text(): text.get_position() for text in axes.texts}
        left, right, top, bottom = {"axial": "RLAP", "coronal": "RLSI", "sagittal": "APSI"}[axes.get_title().split()[1]]
        assert spots[left][0] < 0.1 < 0.9 < spots[right][0]
        assert spots[bottom][1] < 0.1 < 0.9 < spots[top][1]


@pytest.mark.slow
@pytest.mark.parametrize("level", [0.05, 0.3])
def test_bounds_and_standard_deviation_are_drawn_where_they_are_known(synthetic_patient, level):
    result = assimilated_result(synthetic_patient(), level=level)
    figure, scene = draw_report(result), scene_of(result)
    isolines = {(0.6, to_rgba("white"), False), (0.2, to_rgba("white"), True)}
    outlines = {(0.5, to_rgba(colour), False) for colour in OBSERVED_COLOURS.values()}
    bounds = {(level, to_rgba(BOUND_COLOUR), dashed) for dashed in (False, True)}
    drawn = slices(figure)
    for axes in drawn[:6]:
        assert contours(axes) == isolines | outlines | bounds, axes.get_title()
    for axes in drawn[6:9]:
        assert axes.get_title().startswith("Standard deviation, ")
        assert contours(axes) == outlines | bounds
    assert contours(drawn[9 + 6]) == outlines
    assert contours(drawn[9 + 7]) == isolines | outlines | bounds
    # A log-odds' deviation of 1: the 5 % bound passes the level where the density's log-odds are 1.645 above it.
    for dashed, above in ((True, 1.645), (False, -1.645)):
        inside = plane_of(scene.density, "axial", scene.centre[2]) > expit(logit(level) + above)
        [line] = [
            one
            for one in drawn[0].collections
            if to_hex(one.get_edgecolor()[0]) == BOUND_COLOUR and (one.get_linestyle()[0][1] is not None) == dashed
        ]
        points, (rows, columns) = line.get_paths()[0].vertices, np.nonzero(inside)
        for places, cells in ((points[:, 0], columns), (points[:, 1], rows)):
            assert places.min() == pytest.approx(cells.min() - 0.5, abs=1.6)
            assert places.max() == pytest.approx(cells.max() + 0.5, abs=1.6)
    said = [text.get_text() for axes in figure.axes if axes.get_legend() for text in axes.get_legend().get_texts()]
    assert {f"5 % bound {level:g}", f"95 % bound {level:g}"} < set(said)
    [bar] = [axes for axes in figure.axes if axes.get_title() == "standard deviation of the density"]
    assert scene.uncertainty.sd.max() <= bar.get_xlim()[1] < scene.uncertainty.sd.max() + 0.05
    assert scene.uncertainty.sd.max() == pytest.approx(0.21, abs=0.02)  # of expit(N(0, 1))


@pytest.mark.slow
def test_what_is_not_known_is_not_drawn(synthetic_patient):
    figure = draw_report(assimilated_result(synthetic_patient(), uncertainty=False))
    assert len(slices(figure)) == 6 + 16
    assert not any("bound" in text.get_text() for text in figure.findobj(Text))
    assert figure.get_size_inches() == pytest.approx((17.0, 12.6), abs=0.5)


def texts_of(figure):
    """Every text that is drawn, with its box in pixels."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    hidden = {
        id(text)
        for axes in figure.axes
        if not axes.axison
        for axis in (axes.xaxis, axes.yaxis)
        for text in axis.findobj(Text)
    }
    return [
        (text, text.get_window_extent(renderer))
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and id(text) not in hidden
    ]


WARNING = (
    "The segmentation reaches beyond the brain of the T1Gd image by 12.3 ml, which is more than a reader's line "
    "explains; was the image of another examination, or was it cut by the brain extraction? Look at it, and give a "
    "brain mask, or the segmentation of this examination."
)


@pytest.mark.slow
@pytest.mark.parametrize("count", [0, 1, 10, 40])
def test_no_text_lies_over_another_or_over_a_picture(synthetic_patient, count):
    figure = draw_report(made_up_result(synthetic_patient(), warnings=[f"{n}: {WARNING}" for n in range(count)]))
    check_texts(figure, count)


def sensitivity_rows():
    return tuple(
        SensitivityRow(words, (10.25, 3.5), (123.4, 5.6), 12.3, 45.6, 1234.5, 0.123, 1.5)
        for words in ("grey matter 10 times slower", "white matter in the tumour")
    )


@pytest.mark.slow
@pytest.mark.parametrize(("chosen", "uncertainty"), [("assimilated", True), ("match", True), ("assimilated", False)])
def test_no_text_of_the_bounds_lies_over_another(synthetic_patient, chosen, uncertainty):
    """With two foci, bounds and sensitivity, which make the text as long as it may be; the page grows with it."""
    result = assimilated_result(
        synthetic_patient(),
        chosen=chosen,
        uncertainty=uncertainty,
        level=0.123,
        foci=2,
        warnings=[f"{n}: {WARNING}" for n in range(3)],
        sensitivity=sensitivity_rows(),
    )
    check_texts(draw_report(result), 3)


def check_texts(figure, count):
    """Every text, and so many warnings, stand whole on the page and over nothing else."""
    texts = texts_of(figure)
    width, height = figure.canvas.get_width_height()
    said = "\n".join(text.get_text() for text, _ in texts)
    assert all(f"! {n}: The segmentation" in said for n in range(min(count, 20)))
    assert ("20 more warnings stand in result.json." in said) == (count == 40)
    for text, box in texts:
        assert box.x0 >= 0, text.get_text()
        assert box.y0 >= 0, text.get_text()
        assert box.x1 <= width, text.get_text()
        assert box.y1 <= height, text.get_text()
    pictures = [(axes, axes.get_window_extent()) for axes in figure.axes if axes.images]
    for (one, box), (other, other_box) in [
        *itertools.combinations(texts, 2),
        *((text, picture) for text in texts for picture in pictures if text[0].axes is not picture[0]),
    ]:
        both = Bbox.intersection(box, other_box)
        overlap = both is not None and min(both.width, both.height) > 0.5
        assert not overlap, (
            one.get_text(),
            getattr(other, "get_text", other.get_title if other in figure.axes else str)(),
        )


def test_the_text_is_about_the_chosen_estimate(synthetic_patient):
    """Counted here, from the densities and the segmentation."""
    patient = synthetic_patient()
    for chosen, length, age in (("refined", "3.00", "24.0"), ("match", "2.00", "15.0")):
        result = made_up_result(patient, chosen=chosen)
        density, seen = result.estimates[chosen].in_patient.array, patient.whole.array
        found = density > 0.2
        dice = 2 * (found & seen).sum() / (found.sum() + seen.sum())
        text = "\n".join(figures_of(result))
        assert f"Density shown     {chosen}, grown in" in text
        assert f"Dice whole      {dice:.3f}" in text
        assert f"{found.sum() * patient.t1gd.grid.voxel_volume_ml:.1f}" in text
        assert f"in the patient  {length} mm" in text
        assert f"rho T             {age}" in text
        assert ("(best match     " in text) == (chosen == "refined")


def test_sensitivity_stands_in_the_text_as_what_it_is(synthetic_patient):
    rows = (
        SensitivityRow("grey matter 10 times slower", (3.97,), (12.0,), 5.0, 20.0, 250.4, 0.05, 1.6),
        SensitivityRow("white matter in the tumour", (1.41, 2.0), (14.0, 9.0), 5.0, 20.0, 190.0, 0.05, 1.62),
    )
    text = figures_of(made_up_result(synthetic_patient(), sensitivity=rows))
    assert "No fit: length (mm), ml above 0.05, with" in text
    assert "  grey matter 10 times slower 4.0   250" in text
    assert "  white matter in the tumour  1.4/2.0   190" in text
    assert not any("No fit" in line for line in figures_of(made_up_result(synthetic_patient())))


def test_the_text_says_how_many_warnings_there_are(synthetic_patient):
    patient = synthetic_patient()
    assert "warning" not in "\n".join(figures_of(made_up_result(patient)))
    assert "1 warning, see below" in figures_of(made_up_result(patient, warnings=["Mind the gap."]))
    assert "2 warnings, see below" in figures_of(made_up_result(patient, warnings=["Mind the gap.", "And the step."]))


def test_of_an_assimilated_density_the_text_gives_the_models_figures(synthetic_patient):
    patient = synthetic_patient()
    result = assimilated_result(patient, uncertainty=False)
    model = result.estimates["refined"]
    found, seen = model.in_patient.array > 0.2, patient.whole.array
    text = "\n".join(figures_of(result))
    assert "Density shown     assimilated\nIts model         refined, grown in" in text
    assert "The model's agreement with the segmentation" in text
    assert f"Dice whole      {2 * (found & seen).sum() / (found.sum() + seen.sum()):.3f}" in text
    assert f"{found.sum() * patient.t1gd.grid.voxel_volume_ml:.1f}" in text
    assert f"residual rms    {model.residual_rms:.2f} log-odds" in text
    assert "segmented      model" in text
    assert "90 %" not in text
    unseen = replace(model, residual_rms=math.nan)
    assert unseen.as_json("density.nrrd")["residual_rms"] is None
    unseen = replace(result, estimates=result.estimates | {"refined": unseen})
    assert "  residual rms    none" in figures_of(unseen)


def test_bounds_of_a_density_that_is_not_shown_are_named(synthetic_patient):
    figure = draw_report(assimilated_result(synthetic_patient(), chosen="refined"))
    titles = {axes.get_legend().get_title().get_text() for axes in figure.axes if axes.get_legend()}
    assert "bounds: of the assimilated density" in titles
    [bar] = [axes for axes in figure.axes if axes.get_title().startswith("standard deviation")]
    assert bar.get_title() == "standard deviation of the assimilated density"


def test_the_text_says_between_which_values_the_parameters_lie(synthetic_patient):
    """Standard deviations of .2 of the logarithm of lengths of 3 and 2 mm, and of .1 of that of rho T of 24 and 15."""
    result = assimilated_result(synthetic_patient(), foci=2)
    lines = figures_of(result)
    first = lines.index("Infiltration length sqrt(D/rho), patient")
    assert lines[first + 1 : first + 7] == [
        "  3.0 mm, 90 % between 2.2 and 4.2",
        "  2.0 mm, 90 % between 1.4 and 2.8",
        "rho T",
        "  24.0, 90 % between 20.4 and 28.3",
        "  15.0, 90 % between 12.7 and 17.7",
        "Assimilated volume above 0.05",
    ]
    volume = np.count_nonzero(result.density.array > 0.05) * result.density.grid.voxel_volume_ml
    low, high = result.uncertainty.volume_interval
    assert lines[first + 7] == f"  {volume:.0f} ml, 90 % between {low:.0f} and {high:.0f}"


def test_intervals_are_said_to_be_those_of_the_model_that_was_varied(synthetic_patient):
    lines = figures_of(assimilated_result(synthetic_patient(), chosen="match"))
    assert "  in the patient  2.00 mm" in lines
    assert lines[lines.index("The estimate refined, which was varied:") + 2] == "  3.0 mm, 90 % between 2.2 and 4.2"
