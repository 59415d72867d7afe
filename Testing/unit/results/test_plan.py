"""Plans of a result: what they hold, how they are written beside it, and what a reader gets back."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from made_up_results import assimilated_result, made_up_result

from TumorQueryLib.base.errors import InputError, OutputError
from TumorQueryLib.base.files import parsed_json, write_json
from TumorQueryLib.base.method import Method
from TumorQueryLib.base.plan_choices import GUIDELINES, PlanChoices
from TumorQueryLib.geometry.grid import Grid, Volume, resample
from TumorQueryLib.geometry.regions import dilated
from TumorQueryLib.results import files, folder
from TumorQueryLib.results.files import add_plans, read_result
from TumorQueryLib.results.plan import plan
from TumorQueryLib.results.plan_picture import draw_plans

SMALL = PlanChoices(margin=6.0, smallest_part_ml=0.1)


@pytest.fixture(scope="module")
def result(synthetic_patient):
    return made_up_result(synthetic_patient())


@pytest.fixture(scope="module")
def planned(result):
    return plan(result, SMALL)


@pytest.fixture(scope="module")
def once_written(result, tmp_path_factory):
    folder = tmp_path_factory.mktemp("result")
    result.write(folder)
    return folder


@pytest.fixture
def written(once_written, tmp_path):
    """A folder of its own with the result."""
    return Path(shutil.copytree(once_written, tmp_path / "result"))


@pytest.fixture
def without_picture(monkeypatch):
    """Drawing takes longest, and where the files go does not depend on it."""
    monkeypatch.setattr(files, "write_plan_picture", lambda plans, result, image, path: path.write_bytes(b"picture"))


def test_the_standard_plan_is_the_core_and_its_margin_within_the_brain(result, planned):
    core, brain = result.segmentation.array == 1, result.tissue.array > 0
    expected = core | (dilated(Volume(core, result.density.grid), 6.0) & brain)
    np.testing.assert_array_equal(planned.standard.mask.array, expected)
    assert planned.standard.volume_ml == pytest.approx(expected.sum() * result.density.grid.voxel_volume_ml)


def test_the_model_s_plan_has_the_same_volume_and_no_voxel_outside_is_denser(result, planned):
    mask, density = planned.model.mask.array, result.density.array
    assert mask.sum() == planned.standard.mask.array.sum()
    brain = result.tissue.array > 0
    assert not (mask & ~brain).any()
    assert density[brain & ~mask].max() <= density[mask].min() == pytest.approx(planned.lowest_density)
    outside = 1 - density[mask].sum(dtype=float) / density.sum(dtype=float)
    assert planned.model.cells_outside == pytest.approx(outside, abs=1e-6)
    assert planned.model.cells_outside <= planned.standard.cells_outside


def test_its_progress_rises_to_one(result):
    reached = []
    plan(result, SMALL, progress=lambda value, message: reached.append(value))
    assert reached == sorted(reached)
    assert (reached[0], reached[-1]) == (0, 1)


def test_the_comparison_adds_up(planned):
    standard, model, compared = planned.standard, planned.model, planned.comparison
    spared, added = (sum(one.values()) for one in (compared.spared_ml, compared.added_ml))
    assert compared.overlap_ml + spared == pytest.approx(standard.volume_ml)
    assert compared.overlap_ml + added == pytest.approx(model.volume_ml)
    assert sum(standard.tissues_ml.values()) == pytest.approx(standard.volume_ml)
    apart = compared.outline_distance_mm
    said = f"lie {apart['mean']:.1f} mm apart on average, {apart['max']:.0f} mm at most."
    assert said in " ".join(planned.sentences())
    assert compared.dice == pytest.approx(2 * compared.overlap_ml / (standard.volume_ml + model.volume_ml))


@pytest.mark.parametrize("volume", [3.0, 20.0])
def test_a_volume_that_was_asked_for_is_met_to_a_voxel(result, volume):
    made = plan(result, replace(SMALL, volume=volume))
    assert abs(made.model.volume_ml - volume) <= result.density.grid.voxel_volume_ml


def test_a_density_that_was_asked_for_bounds_the_plan(result):
    made = plan(result, replace(SMALL, volume="above=0.3", smallest_part_ml=0.0))
    np.testing.assert_array_equal(made.model.mask.array, (result.density.array > 0.3) & (result.tissue.array > 0))
    with pytest.raises(InputError, match=r"No part of 500 ml is denser than 0\.3"):
        plan(result, replace(SMALL, volume="above=0.3", smallest_part_ml=500.0))


def test_guidelines_take_the_region_and_the_margin_that_they_state(result):
    grid, brain = result.density.grid, result.tissue.array > 0
    core, whole = (Volume(mask, grid) for mask in (result.segmentation.array == 1, result.segmentation.array > 0))
    made = plan(result, replace(SMALL, margin="rtog-1"))
    expected = {
        "estro-eano": core.array | (dilated(core, 15.0) & brain),
        "eortc": core.array | (dilated(core, 20.0) & brain),
        "rtog-1": whole.array | (dilated(whole, 20.0) & brain),
        "rtog-2": core.array | (dilated(core, 20.0) & brain),
    }
    assert set(made.guidelines) == set(GUIDELINES) == set(expected)
    for name, mask in expected.items():
        np.testing.assert_array_equal(made.guidelines[name].mask.array, mask)
    np.testing.assert_array_equal(made.standard.mask.array, expected["rtog-1"])


def test_without_oedema_the_first_phase_of_rtog_goes_25_mm_around_the_core(synthetic_patient):
    patient = synthetic_patient()
    bare = made_up_result(replace(patient, whole=patient.core, core=patient.core))
    made = plan(bare, SMALL)
    core = Volume(bare.segmentation.array == 1, bare.density.grid)
    brain = bare.tissue.array > 0
    np.testing.assert_array_equal(made.guidelines["rtog-1"].mask.array, core.array | (dilated(core, 25.0) & brain))


def test_a_cavity_counts_with_the_core_and_may_be_all_there_is(result):
    grid = result.density.grid
    cavity = np.zeros(grid.shape, bool)
    centre = np.round(np.argwhere(result.segmentation.array > 0).mean(axis=0)).astype(int)
    cavity[centre[0] + 6 : centre[0] + 10, centre[1], centre[2]] = True
    made = plan(result, SMALL, cavity=Volume(cavity, grid))
    target = cavity | (result.segmentation.array == 1)
    expected = target | (dilated(Volume(target, grid), 6.0) & (result.tissue.array > 0))
    np.testing.assert_array_equal(made.standard.mask.array, expected)
    assert made.cavity_ml == pytest.approx(cavity.sum() * grid.voxel_volume_ml)
    with pytest.raises(InputError, match="cavity is empty"):
        plan(result, SMALL, cavity=Volume(np.zeros(grid.shape, bool), grid))
    far = np.array(grid.shape)
    elsewhere = grid.cropped(far, 2 * far)
    with pytest.raises(InputError, match="lies elsewhere in space than the T1Gd"):
        plan(result, SMALL, cavity=Volume(cavity, elsewhere))


def test_csf_is_left_out_where_it_is_a_barrier(result, monkeypatch):
    tissue = result.tissue.array.copy()
    centre = np.round(np.argwhere(result.segmentation.array > 0).mean(axis=0)).astype(int)
    tissue[: centre[0] - 3] = np.minimum(tissue[: centre[0] - 3], 1)
    monkeypatch.setitem(result.__dict__, "tissue", Volume(tissue, result.density.grid))
    free, cut = (plan(result, replace(SMALL, margin=20.0, barrier=barrier)) for barrier in ("brain", "csf"))
    core = result.segmentation.array == 1
    assert ((free.standard.mask.array & (tissue == 1)) & ~core).any()
    for mask in (cut.standard.mask.array & ~core, cut.model.mask.array):
        assert not (mask & (tissue == 1)).any()


def test_a_model_s_plan_that_leaves_out_the_core_says_so(result):
    made = plan(result, replace(SMALL, volume=0.3))
    assert "leaves out" in made.warnings[0]
    assert not plan(result, SMALL).warnings


@pytest.fixture(scope="module")
def unsure(synthetic_patient):
    """A result with uncertainty, and its plans."""
    with_draws = assimilated_result(synthetic_patient())
    return with_draws, plan(with_draws, replace(SMALL, share=0.9, probability=0.75))


@pytest.mark.slow
def test_the_probable_plan_holds_what_it_promises_in_as_many_draws(unsure):
    result, made = unsure
    masks = {name: mask.array for name, mask in made.masks.items()}
    assert list(masks) == ["standard", "model", "probable"]
    held = np.array(
        [
            drawn.array[masks["probable"]].sum(dtype=float) / drawn.array.sum(dtype=float)
            for drawn in result.drawn_densities(result.density.grid)
        ]
    )
    assert len(held) == 32
    # Cells are counted at every second voxel or so of a fine grid, and the plan has whole voxels.
    assert (held >= 0.9 - 0.005).mean() >= 0.75
    assert (held >= 0.9 + 0.02).mean() < 0.75
    low, high = made.standard.cells_outside_band
    assert 0 <= low < high <= 1
    for one in (made.standard, made.model, made.probable, *made.guidelines.values()):
        assert one.cells_outside_band[0] <= one.cells_outside <= one.cells_outside_band[1]


def ball_in_a_box(tissue, core=4.0):
    """The ball of cells without its islands, in tissue of one kind."""
    case = IslandsBesideABall()
    case.has_draws = False
    case.density.array[1, 1] = 0
    case.tissue.array[...] = tissue
    case.segmentation.array[...] = from_centre(case.grid) < core
    return case


def from_centre(grid):
    return np.linalg.norm(grid.to_ras(np.moveaxis(np.indices(grid.shape), 0, -1)), axis=-1)


def test_what_lies_outside_the_brain_is_said_and_a_cavity_there_refused():
    case = ball_in_a_box(3)
    case.tissue.array[12:] = 0
    grid, core = case.grid, case.segmentation.array == 1
    outside = core[12:].sum() * grid.voxel_volume_ml
    made = plan(case, PlanChoices(margin=6.0))
    assert made.warnings[0].startswith(
        f"{outside:.1f} ml of the core lie outside the brain: the standard plan holds them"
    )
    assert made.standard.mask.array[core].all()
    cavity = np.zeros(grid.shape, bool)
    cavity[9:13, 2:5, 2:5] = True
    made = plan(case, PlanChoices(margin=6.0), cavity=Volume(cavity, grid))
    assert f"{outside:.1f} ml of the core and {9 * grid.voxel_volume_ml:.1f} ml of the cavity lie" in made.warnings[0]
    np.testing.assert_array_equal(made.cavity.array, cavity)
    cavity[13:15, 2:5, 2:5] = True
    cavity[9:11] = False
    with pytest.raises(InputError, match="75% of the resection cavity lies outside the brain"):
        plan(case, PlanChoices(margin=6.0), cavity=Volume(cavity, grid))


def test_an_edge_of_the_image_that_cuts_the_margin_is_said():
    case = ball_in_a_box(3)
    said = "reaches the edge of the T1Gd"
    assert not plan(case, PlanChoices(margin=15.0)).warnings
    assert said in plan(case, PlanChoices(margin=22.0)).warnings[0]
    case.tissue.array[[0, -1]] = case.tissue.array[:, [0, -1]] = case.tissue.array[:, :, [0, -1]] = 0
    assert not plan(case, PlanChoices(margin=22.0)).warnings  # the brain ends there, and so does the plan
    case.tissue.array[12, 12, -1] = 2
    assert said in plan(case, PlanChoices(margin=22.0)).warnings[0]


def test_where_there_is_no_room_for_the_standard_plan_s_volume_all_there_is_is_taken():
    case = ball_in_a_box(0)
    case.tissue.array[11:13, 11:13, 11:13] = 2
    made = plan(case, PlanChoices(margin=3.0, smallest_part_ml=0))
    np.testing.assert_array_equal(made.model.mask.array, case.tissue.array > 0)
    assert made.standard.volume_ml > made.model.volume_ml
    assert "in which the model's may lie: it has all of these" in " ".join(made.warnings)
    with pytest.raises(InputError, match="ask for a smaller one"):
        plan(case, PlanChoices(margin=3.0, volume=50.0))


@dataclass
class IslandsBesideABall:
    """A core with a ball of cells, and five lone voxels that are denser; every draw is the density itself."""

    chosen = "assimilated"
    cavity = None
    has_draws = True
    grid = Grid.isotropic(24, 2.0, (0.0, 0.0, 0.0))

    def __post_init__(self):
        distance = np.linalg.norm(self.grid.to_ras(np.moveaxis(np.indices(self.grid.shape), 0, -1)), axis=-1)
        density = 0.5 * (distance < 8).astype(np.float32)
        density[1, 1, 2:20:4] = 0.9
        self.density = Volume(density, self.grid)
        self.segmentation = Volume((distance < 4).astype(np.uint8), self.grid)
        self.tissue = Volume(np.full(self.grid.shape, 3, np.uint8), self.grid)

    def drawn_densities(self, grid):
        yield resample(self.density, grid)


def test_the_probable_plan_makes_up_for_the_parts_that_are_left_out():
    case = IslandsBesideABall()
    made = plan(case, PlanChoices(margin=6.0, smallest_part_ml=0.1, share=0.95, probability=0.9))
    density, mask = case.density.array, made.probable.mask.array
    assert not mask[1, 1].any()
    assert density[mask].sum() >= 0.95 * density.sum()


class FineAndOneSided(IslandsBesideABall):
    """Cells on one side of the core, on a grid of which every second voxel along each axis is counted."""

    grid = Grid.isotropic(48, 1.0, (0.0, 0.0, 0.0))

    def __post_init__(self):
        super().__post_init__()
        x, y, z = np.moveaxis(self.grid.to_ras(np.moveaxis(np.indices(self.grid.shape), 0, -1)), -1, 0)
        self.density = Volume((np.exp(-np.maximum(x + y + z, 0) / 6) * (x + y + z > 0)).astype(np.float32), self.grid)


def test_the_cells_of_draws_are_counted_where_they_lie():
    made = plan(FineAndOneSided(), SMALL).standard
    assert made.cells_outside_band == pytest.approx([made.cells_outside] * 2, abs=0.002)


def test_the_first_phase_of_rtog_goes_around_the_cavity_too(result):
    grid, whole = result.density.grid, result.segmentation.array > 0
    cavity = np.zeros(grid.shape, bool)
    edge = np.argwhere((result.tissue.array > 0) & ~dilated(Volume(whole, grid), 24.0))[0]
    cavity[tuple(edge)] = True
    made = plan(result, replace(SMALL, margin="rtog-1"), cavity=Volume(cavity, grid))
    target = Volume(whole | cavity, grid)
    np.testing.assert_array_equal(
        made.standard.mask.array, target.array | (dilated(target, 20.0) & (result.tissue.array > 0))
    )


@pytest.mark.slow
def test_the_interval_is_of_the_density_that_the_draws_are_of(unsure):
    result, _ = unsure
    made = plan(replace(result, chosen="match"), SMALL)
    assert made.probable is None
    assert made.standard.cells_outside_band is None
    assert "follow the density match" in made.warnings[-1]


@pytest.mark.slow
def test_a_plan_that_cannot_hold_what_is_asked_for_is_not_made(unsure, monkeypatch):
    """CSF through the middle of the tumour: a third of the cells lie where no plan may."""
    result, _ = unsure
    tissue = result.tissue.array.copy()
    centre = np.round(np.argwhere(result.segmentation.array > 0).mean(axis=0)).astype(int)
    tissue[: centre[0]] = np.minimum(tissue[: centre[0]], 1)
    cut = replace(result)
    monkeypatch.setitem(cut.__dict__, "tissue", Volume(tissue, result.density.grid))
    made = plan(cut, replace(SMALL, barrier="csf"))
    assert made.probable is None
    assert "No plan that may lie here holds 95 % of the cells" in made.warnings[-1]
    assert "probability of" not in " ".join(made.sentences())


def test_the_whole_tumour_can_be_planned_around_where_there_is_no_core(synthetic_patient):
    patient = synthetic_patient()
    hollow = Volume(np.zeros_like(patient.core.array), patient.core.grid)
    bare = made_up_result(replace(patient, core=hollow))
    with pytest.raises(InputError, match="name a margin of the whole tumour"):
        plan(bare, SMALL)
    made = plan(bare, replace(SMALL, margin="rtog-1"))
    assert list(made.guidelines) == ["rtog-1"]
    whole = Volume(bare.segmentation.array > 0, bare.density.grid)
    np.testing.assert_array_equal(
        made.standard.mask.array, whole.array | (dilated(whole, 20.0) & (bare.tissue.array > 0))
    )
    assert not made.warnings


def test_titles_say_what_was_done(result, synthetic_patient):
    patient = synthetic_patient()
    bare = made_up_result(replace(patient, whole=patient.core, core=patient.core))
    for made_of, margin, title in (
        (result, 15.0, "core and cavity + 15 mm, ESTRO-EANO 2023"),
        (result, 7.5, "core and cavity + 7.5 mm"),
        (result, "rtog-1", "whole tumour and cavity + 20 mm, RTOG, first phase"),
        (bare, "rtog-1", "core and cavity + 25 mm, RTOG, first phase"),
    ):
        made = plan(made_of, replace(SMALL, margin=margin))
        assert made.standard_title == title == made.as_json()["standard"]["title"]
        assert title in made.sentences()[0]


@pytest.mark.slow
def test_new_plans_take_back_that_there_was_none(result, planned, tmp_path, without_picture):
    warned = replace(result, warnings=("There is no plan. The segmentation has no core.", "Mind the gap."))
    warned.write(tmp_path)
    add_plans(planned, read_result(tmp_path))
    assert read_result(tmp_path).warnings == ("Mind the gap.",)


@pytest.mark.slow
def test_no_text_of_the_picture_lies_over_another(unsure):
    result, made = unsure
    long = (
        "The model's plan leaves out 31 % of core and cavity: it follows the density alone. Add what is missing.",
    ) * 2
    figure = draw_plans(replace(made, warnings=long), result, result.patient.t1gd)
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    legends = [axes.get_legend() for axes in figure.axes if axes.get_legend()]
    texts = [*figure.texts, *(text for axes in figure.axes for text in (*axes.texts, axes.title))]
    texts = [text for text in (*texts, *(text for one in legends for text in one.texts)) if text.get_text().strip()]
    assert any("90 % of cells, with 75 %" in text.get_text() for text in texts)
    boxes = [(text.get_text()[:30], text.get_window_extent(renderer)) for text in texts]
    inside = figure.bbox
    for number, (said, box) in enumerate(boxes):
        assert inside.x0 <= box.x0 <= box.x1 <= inside.x1, said
        assert inside.y0 <= box.y0 <= box.y1 <= inside.y1, said
        for other, beside in boxes[number + 1 :]:
            assert not box.overlaps(beside), (said, other)


@pytest.mark.slow
def test_isolines_of_the_picture_are_the_database_s(synthetic_patient):
    other = made_up_result(synthetic_patient(), thresholds=(0.7, 0.3))
    figure = draw_plans(plan(other, SMALL), other, None)
    legend = " ".join(text.get_text() for axes in figure.axes if axes.get_legend() for text in axes.get_legend().texts)
    assert "density 0.7 (solid), 0.3 (dashed)" in legend


def test_choices_that_there_are_not_are_refused_in_a_sentence():
    for choice, said in (
        ({"margin": 0}, "above 0 and at most 60"),
        ({"margin": "acropolis"}, "estro-eano, eortc"),
        ({"margin": float("nan")}, "number of mm"),
        ({"volume": "above=1.5"}, "between 0 and 1"),
        ({"volume": -3}, "number of ml above 0"),
        ({"barrier": "falx"}, "brain, csf"),
        ({"smallest_part_ml": -1}, "from 0"),
        ({"share": 1.0}, "between 0 and 1"),
        ({"probability": "often"}, "between 0 and 1"),
    ):
        with pytest.raises(InputError, match=said):
            PlanChoices(**choice)
    assert PlanChoices(margin="15", volume="120") == PlanChoices(volume=120.0)
    with pytest.raises(InputError, match="none is asked for"):
        Method(margin=20.0)
    assert Method(plan=True, margin="20").plan_choices == PlanChoices(margin=20.0)


@pytest.mark.slow
def test_plans_are_written_beside_the_result_and_read_again(result, planned, written):
    before = read_result(written)
    assert before.plans == {}
    path = add_plans(planned, before)
    after = read_result(written)
    assert after.content["plan"] == json.loads(path.read_text(encoding="utf-8")) == planned.as_json()
    for name, mask in planned.masks.items():
        np.testing.assert_array_equal(after.plans[name].array, mask.array)
    kept = {name: told for name, told in after.content.items() if name not in ("plan", "outputs", "sha256")}
    assert kept == {name: told for name, told in before.content.items() if name not in ("plan", "outputs", "sha256")}
    named = {"result.json", *after.content["outputs"].values()}
    assert named == {path.name for path in written.iterdir() if not path.name.startswith(".")}
    # What is read back gives the same plans.
    again = plan(after, SMALL)
    np.testing.assert_array_equal(again.model.mask.array, planned.model.mask.array)


@pytest.mark.slow
def test_new_plans_take_the_place_of_the_old_ones(unsure, tmp_path):
    result, made = unsure
    result.write(tmp_path)
    add_plans(made, read_result(tmp_path))
    assert (tmp_path / "plan_probable.nrrd").exists()
    add_plans(replace(made, probable=None), read_result(tmp_path))
    assert not (tmp_path / "plan_probable.nrrd").exists()
    assert list(read_result(tmp_path).plans) == ["standard", "model"]
    result.write(tmp_path)
    assert not list(tmp_path.glob("plan*"))


@pytest.mark.slow
@pytest.mark.parametrize("moves", range(5))
@pytest.mark.usefixtures("without_picture")
def test_a_kill_between_two_moves_is_made_good_by_the_next_run(planned, written, killed_at_move, moves):
    """After any number of moves the process is gone; whoever comes next sees plans and result.json that agree."""
    add_plans(replace(planned, estimate="before"), read_result(written))
    with killed_at_move(moves), pytest.raises(KeyboardInterrupt):
        add_plans(planned, read_result(written))
    folder.remove_leftovers(written)
    after = read_result(written)
    assert after.content["plan"] == planned.as_json() == json.loads((written / "plan.json").read_text("utf-8"))
    np.testing.assert_array_equal(after.plans["model"].array, planned.model.mask.array)
    assert not list(written.glob(f"{folder.HIDDEN_PREFIX}*"))


@pytest.mark.slow
@pytest.mark.usefixtures("without_picture")
def test_a_result_that_was_replaced_meanwhile_keeps_its_own(planned, written):
    earlier = read_result(written)
    content = parsed_json((written / "result.json").read_text("utf-8"))
    write_json(content | {"warnings": ["another one"]}, written / "result.json")
    with pytest.raises(OutputError, match="replaced meanwhile"):
        add_plans(planned, earlier)
    assert read_result(written).warnings == ("another one",)
    assert not list(written.glob("plan*"))


@pytest.mark.slow
def test_a_full_disk_leaves_the_result_as_it_was(planned, written, monkeypatch):
    before = {path.name: path.read_bytes() for path in written.iterdir()}

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_plan_picture", full)
    with pytest.raises((OSError, OutputError)):
        add_plans(planned, read_result(written))
    assert {path.name: path.read_bytes() for path in written.iterdir()} == before


@pytest.mark.slow
def test_a_result_is_written_with_its_plans(result, planned, tmp_path):
    replace(result, plans=planned).write(tmp_path)
    read = read_result(tmp_path)
    assert read.content["plan"]["model"]["volume_ml"] == pytest.approx(planned.model.volume_ml, abs=1e-3)
    assert set(read.plans) == {"standard", "model"}
    assert (tmp_path / "plan.png").stat().st_size > 10_000
