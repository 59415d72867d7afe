"""The database file: what it holds, and that damage gives a sentence, never a wrong answer."""

import json
import shutil
import tracemalloc

import h5py
import numpy as np
import pytest
import SimpleITK as sitk
from synthetic_database import small_brain, write_masks

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.base.errors import DatabaseError, InputError
from TumorQueryLib.database import TumorDatabase, build_database, describe_database, runs_on_disk, store, structure
from TumorQueryLib.database.schema import ATTRIBUTES, TABLES, content_digest, write_attribute
from TumorQueryLib.database.structure import find_tables
from TumorQueryLib.geometry.grid import Grid, Volume, image_from_volume
from TumorQueryLib.geometry.regions import TumorMasks
from TumorQueryLib.growth import SOLVER_VERSION, simulate
from TumorQueryLib.strategies import create_strategy

GRID = Grid.isotropic(24, 1.5, (0, 0, 0))


@pytest.fixture(scope="module")
def pairs():
    generator = np.random.default_rng(3)
    made = []
    for _ in range(40):
        whole = np.zeros(GRID.shape, dtype=bool)
        corner = generator.integers(0, 12, 3)
        i, j, k = (slice(a, a + n) for a, n in zip(corner, generator.integers(2, 12, 3)))
        whole[i, j, k] = True
        made.append((whole & (generator.random(GRID.shape) < 0.6), whole))
    return made


@pytest.fixture(scope="module")
def path(tmp_path_factory, pairs):
    return write_masks(tmp_path_factory.mktemp("database") / "pairs.h5", GRID, pairs)


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """A database grown in a small brain, by both priors."""
    folder = tmp_path_factory.mktemp("grown")
    brain = small_brain()
    return brain, [
        build_database(folder / f"{sampling}.h5", brain, 24, sampling=sampling, random_seed=5)
        for sampling in ("trajectory", "independent")
    ]


def test_masks_come_back_as_they_were(path, pairs):
    for limit in (None, 0):
        with TumorDatabase.open(path, memory_limit=limit) as database:
            assert len(database) == len(pairs)
            assert database.grid == GRID
            for entry, (core, whole) in enumerate(pairs):
                assert np.array_equal(database.core.decode(entry), core)
                assert np.array_equal(database.whole.decode(entry), whole)
            assert database.whole.volume.tolist() == [int(whole.sum()) for _, whole in pairs]


def test_the_solver_gives_every_stored_entry_again(grown):
    brain, paths = grown
    for path in paths:
        with TumorDatabase.open(path) as database:
            database.check_atlas(brain)
            for entry in range(0, len(database), 5):
                density = simulate(database.parameters(entry), brain, solver_version=database.solver_version)
                assert np.array_equal(density > 0.6, database.core.decode(entry))
                assert np.array_equal(density > 0.2, database.whole.decode(entry))


def test_the_file_can_be_read_without_this_package(grown):
    path = grown[1][0]
    with h5py.File(path) as file:
        assert file.attrs["schema"] == b"tumorquery-database"
        assert int(file.attrs["schema_version"]) == 1
        assert bool(file.attrs["complete"])
        assert json.loads(file.attrs["prior"])["name"] == "trajectory"
        assert json.loads(file.attrs["initial_condition"])["mass_mm3"] > 0
        assert file["parameters/diffusivity"].attrs["unit"] == b"mm^2/day"
        masks = file["masks/flair"]
        entry = 7
        begin, end = masks["offsets"][entry : entry + 2]
        flat = np.zeros(int(np.prod(file.attrs["grid_shape"])), dtype=bool)
        for start, length in zip(masks["starts"][begin:end].tolist(), masks["lengths"][begin:end].tolist()):
            flat[start : start + length] = True
        assert masks["volume"][entry] == flat.sum()
    with TumorDatabase.open(path) as database:
        assert np.array_equal(flat.reshape(database.grid.shape), database.whole.decode(entry))


def test_description_says_what_is_held(grown):
    brain, paths = grown
    described = describe_database(paths[0], verify=True)
    assert json.loads(json.dumps(described)) == described
    assert (described["entries"], described["trajectories"]) == (24, 12)
    assert described["verified"]
    assert described["solver_version"] == SOLVER_VERSION
    assert described["atlas_name"] == brain.name
    assert brain.licence in described["licence"]
    assert described["attribution"] == brain.attribution
    assert described["whole_volume_ml"]["min"] >= 2


def test_a_file_with_text_of_variable_length_is_read_as_well(grown, tmp_path):
    older = shutil.copy(grown[1][0], tmp_path / "older.h5")
    with h5py.File(older, "r+") as file:
        for name, value in file.attrs.items():
            if isinstance(value, bytes):
                file.attrs[name] = value.decode()
    with TumorDatabase.open(older) as database, TumorDatabase.open(grown[1][0]) as newer:
        database.verify()
        assert database.sha256 == newer.sha256
        assert database.attributes == newer.attributes


def test_another_atlas_is_refused(grown):
    with TumorDatabase.open(grown[1][0]) as database, pytest.raises(DatabaseError, match="--atlas"):
        database.check_atlas(small_brain(size=22))


def test_the_bundled_database_opens_by_name(tmp_path, monkeypatch, path):
    (tmp_path / "Atlas").mkdir()
    (tmp_path / "Databases").mkdir()
    shutil.copy(path, tmp_path / "Databases" / "starter.h5")
    monkeypatch.setenv("TUMORQUERY_RESOURCES", str(tmp_path))
    with TumorDatabase.open("starter") as database:
        assert len(database) == 40
    with pytest.raises(DatabaseError, match="Bundled: starter"):
        TumorDatabase.open("no such database")


def test_what_is_no_database_is_refused(tmp_path, pairs):
    text = tmp_path / "text.h5"
    text.write_text("not HDF5")
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["values"] = np.arange(3)
    newer = write_masks(tmp_path / "newer.h5", GRID, pairs[:2], schema_version=2)
    unfinished = write_masks(tmp_path / "unfinished.h5", GRID, pairs[:2])
    with h5py.File(unfinished, "r+") as file:
        file.attrs["complete"] = False
    for path, words in (
        (text, "not a usable database"),
        (other, "no database of simulated tumours"),
        (newer, "schema version 2"),
        (unfinished, "not finished"),
        (tmp_path, "no database"),
    ):
        with pytest.raises(DatabaseError, match=words) as error:
            TumorDatabase.open(path)
        assert "\n" not in str(error.value)


def answers(path, pairs):
    with TumorDatabase.open(path) as database:
        found = [
            [(match.entry, match.score) for match in create_strategy(name, database).query(masks, 5)]
            for name in ("direct", "brute-force")
            for masks in (TumorMasks(*pairs[1], GRID), TumorMasks(*pairs[20], GRID))
        ]
        return found, [database.parameters(entry) for entry in range(len(database))]


def test_a_truncated_file_is_refused(path, pairs, tmp_path):
    content = path.read_bytes()
    short = tmp_path / "short.h5"
    for size in np.linspace(0, len(content) - 1, 25).astype(int):
        short.write_bytes(content[:size])
        with pytest.raises(DatabaseError):
            answers(short, pairs)


@pytest.mark.slow
def test_flipped_bytes_never_give_another_answer(path, pairs, tmp_path):
    content = path.read_bytes()
    expected = answers(path, pairs)
    damaged = tmp_path / "damaged.h5"
    refused = 0
    for place in np.random.default_rng(11).integers(0, len(content), 150):
        altered = bytearray(content)
        altered[place] ^= 0xFF if place % 2 else 1 << (place % 8)
        damaged.write_bytes(altered)
        try:
            found = answers(damaged, pairs)
        except DatabaseError:
            refused += 1
            continue
        assert found == expected
        with TumorDatabase.open(damaged) as database:
            try:
                database.verify()
            except DatabaseError:
                refused += 1
    assert refused > 75


def test_verify_finds_content_that_does_not_belong_together(path, pairs, tmp_path):
    """Checksums of HDF5 are renewed by whoever writes; the SHA-256 of the content is not."""
    altered = shutil.copy(path, tmp_path / "altered.h5")
    with h5py.File(altered, "r+") as file:
        file["parameters/diffusivity"][3] = 2.0
    with TumorDatabase.open(altered) as database, pytest.raises(DatabaseError, match="SHA-256"):
        database.verify()


def test_a_file_that_would_lead_out_of_the_grid_is_refused(path, pairs, tmp_path):
    altered = tmp_path / "altered.h5"
    for name, place, value in (
        ("masks/flair/starts", 10, 2**31),
        ("masks/flair/offsets", 3, 2**40),
        ("masks/t1gd/lengths", 0, 255),
        ("masks/flair/offsets", 3, -(2**63)),
        ("masks/flair/volume", 3, 24**3 + 1),
        ("masks/t1gd/volume", 3, -1),
        ("blocks/flair/index", 5, 60000),
        ("blocks/t1gd/count", 5, 4097),
        ("blocks/t1gd/offsets", 5, -2),
    ):
        shutil.copy(path, altered)
        with h5py.File(altered, "r+") as file:
            file[name][place] = value
        with pytest.raises(DatabaseError):
            answers(altered, pairs)


@pytest.mark.slow
@pytest.mark.parametrize("page", [3, 7, None], ids=["pages of 3 runs", "pages of 7 runs", "one page"])
@pytest.mark.parametrize("memory_limit", [None, 0], ids=["kept", "streamed"])
def test_a_voxel_that_is_there_twice_is_refused(path, pairs, tmp_path, monkeypatch, page, memory_limit):
    """It would count twice, and a Dice exceed 1; wherever in a page the run stands that repeats one."""
    if page is not None:
        monkeypatch.setattr(runs_on_disk, "PAGE", page)
    with TumorDatabase.open(path, memory_limit=memory_limit) as database:
        answers = create_strategy("brute-force", database).query(TumorMasks(*pairs[3], GRID), 40)
    assert [answer.score for answer in answers if answer.entry == 3] == [2.0]
    for run in range(1, 9):
        damaged = tmp_path / f"{run}.h5"
        shutil.copyfile(path, damaged)
        with h5py.File(damaged, "r+") as file:
            masks = file["masks/flair"]
            first = int(masks["offsets"][3])
            assert masks["offsets"][4] - first > 9
            masks["starts"][first + run] = masks["starts"][first + run - 1]
        with (
            TumorDatabase.open(damaged, memory_limit=memory_limit) as database,
            pytest.raises(DatabaseError, match="holds a voxel twice"),
        ):
            create_strategy("brute-force", database).query(TumorMasks(*pairs[3], GRID), 40)


def test_verify_names_the_entry_whose_blocks_do_not_fit(path, tmp_path):
    with TumorDatabase.open(path) as database:
        entry = int(np.argmax(np.diff(database.core_blocks.offsets)))
    altered = shutil.copy(path, tmp_path / "altered.h5")
    with h5py.File(altered, "r+") as file:
        # From one block of the entry to the next, so that the volume stays.
        first = file["blocks/t1gd/offsets"][entry]
        file["blocks/t1gd/count"][first] -= 1
        file["blocks/t1gd/count"][first + 1] += 1
        write_attribute(file, "content_sha256", content_digest(altered, file, find_tables(altered, file)))
    with TumorDatabase.open(altered) as database, pytest.raises(DatabaseError, match=rf"entry {entry} .* core"):
        database.verify()


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_is_missing_or_of_another_kind_is_named(path, tmp_path, name):
    def replaced(values):
        altered = shutil.copy(path, tmp_path / "altered.h5")
        with h5py.File(altered, "r+") as file:
            stored = file[name][:]
            del file[name]
            if values is not None:
                file[name] = values(stored)
        return altered

    for values in (
        None,
        lambda stored: stored.astype(">f4"),
        lambda stored: np.bytes_(b"text"),
        lambda stored: stored[:-1],
        lambda stored: np.stack([stored, stored], axis=-1),
        lambda stored: h5py.Empty(stored.dtype),
    ):
        with pytest.raises(DatabaseError) as error:
            TumorDatabase.open(replaced(values))
        # Rows that are missing may be told of the table beside it.
        assert name.split("/")[0] in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", [*ATTRIBUTES, "content_sha256", "complete"])
def test_an_attribute_that_is_missing_or_of_another_type_is_told(path, tmp_path, name):
    for value in (None, np.arange(7.0), "{", h5py.Empty("f8")):
        altered = shutil.copy(path, tmp_path / "altered.h5")
        with h5py.File(altered, "r+") as file:
            del file.attrs[name]
            if value is not None:
                file.attrs[name] = value
        if isinstance(value, str) and ATTRIBUTES.get(name, str) is str and name not in ("schema", "complete"):
            continue  # a text as good as any other, for `verify` to notice
        with pytest.raises(DatabaseError):
            TumorDatabase.open(altered)


@pytest.mark.parametrize("name", ["grid_shape", "grid_affine"])
def test_a_grid_of_rows_of_different_lengths_is_told(path, tmp_path, name):
    altered = shutil.copy(path, tmp_path / "altered.h5")
    rows = np.empty(3, object)
    rows[:] = [np.arange(length) for length in (1, 2, 3)]
    with h5py.File(altered, "r+") as file:
        del file.attrs[name]
        file.attrs.create(name, rows, dtype=h5py.vlen_dtype(np.int64))
    with pytest.raises(DatabaseError, match="not three sizes and a matrix"):
        TumorDatabase.open(altered)


@pytest.mark.parametrize(
    ("name", "entry", "value"),
    [
        ("diffusivity", 3, np.nan),
        ("diffusivity", 3, 0.0),
        ("diffusivity", 3, 1e300),
        ("proliferation", 3, -0.1),
        ("proliferation", 3, np.inf),
        ("duration", 3, 0.0),
        ("duration", 3, 1e9),
        ("seed", (3, 1), np.nan),
        ("seed", (3, 1), 1e9),
        ("trajectory", 3, -1),
    ],
)
def test_parameters_that_no_tumour_has_are_refused(path, tmp_path, name, entry, value):
    altered = shutil.copy(path, tmp_path / "altered.h5")
    with h5py.File(altered, "r+") as file:
        file[f"parameters/{name}"][entry] = value
    with pytest.raises(DatabaseError, match=r"entry 3 has|seed|trajector"):
        TumorDatabase.open(altered)


ROWS_OF_SEVERAL_LENGTHS = np.empty(3, object)
ROWS_OF_SEVERAL_LENGTHS[:] = [np.arange(1 + number) for number in range(3)]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("threshold_t1gd", np.nan, "thresholds"),
        ("threshold_t1gd", 0.2, "thresholds"),
        ("threshold_flair", -1.0, "thresholds"),
        ("grid_shape", [2**21, 2**21, 2**22], "larger than"),
        ("grid_shape", [-24, 24, 24], "positive"),
        ("grid_affine", (1e9 * np.eye(4) * [[1], [1], [1], [1e-9]]), "size and place"),
        ("atlas_name", "../../elsewhere", "no name"),
        ("grid_shape", ROWS_OF_SEVERAL_LENGTHS, "not three sizes and a matrix"),
        ("grid_affine", ROWS_OF_SEVERAL_LENGTHS, "not three sizes and a matrix"),
        (
            "solver_version",
            "3",
            "grown by version '3' .* this software has the versions 1 and 2; update",
        ),
        ("content_sha256", "../" * 21 + "x", "SHA-256"),
        ("prior", "[" * 10**4, "nested"),
        ("prior", '{"a": NaN}', "finite"),
        ("prior", '{"a": "\\ud800"}', "Unicode"),
    ],
)
def test_attributes_out_of_their_range_are_refused(path, tmp_path, name, value, words):
    altered = shutil.copy(path, tmp_path / "altered.h5")
    with h5py.File(altered, "r+") as file:
        if value is ROWS_OF_SEVERAL_LENGTHS:
            del file.attrs[name]
            file.attrs.create(name, value, dtype=h5py.vlen_dtype(np.int64))
        else:
            write_attribute(file, name, value)
    with pytest.raises(DatabaseError, match=words):
        TumorDatabase.open(altered)


def _replaced(file, name, **storage):
    values = file[name][:]
    del file[name]
    file.create_dataset(name, values.shape, values.dtype, **storage)


def test_a_database_never_reads_another_file(path, tmp_path):
    """External storage, links and virtual datasets would take any file's bytes for numbers."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"root:x:0:0" * 1000)
    other = shutil.copy(path, tmp_path / "other.h5")
    name = "parameters/diffusivity"

    def external(file):
        _replaced(file, name, external=[(str(secret), 0, 320)])

    def link_outside(file):
        del file[name]
        file[name] = h5py.ExternalLink(str(other), name)

    def link_of_a_group(file):
        del file["parameters"]
        file["parameters"] = h5py.ExternalLink(str(other), "parameters")

    def link_inside(file):
        del file[name]
        file[name] = h5py.SoftLink("/parameters/duration")

    def virtual(file):
        layout = h5py.VirtualLayout((40,), "<f8")
        layout[:] = h5py.VirtualSource(str(other), name, (40,))
        del file[name]
        file.create_virtual_dataset(name, layout)

    for alter, words in (
        (external, "not stored in the file"),
        (link_outside, "link to somewhere else"),
        (link_of_a_group, "link to somewhere else"),
        (link_inside, "link to somewhere else"),
        (virtual, "not stored in the file"),
    ):
        altered = shutil.copy(path, tmp_path / "altered.h5")
        with h5py.File(altered, "r+") as file:
            alter(file)
        with pytest.raises(DatabaseError, match=words):
            TumorDatabase.open(altered)


@pytest.mark.slow
def test_rows_that_are_claimed_and_not_there_cost_no_memory(path, tmp_path, monkeypatch):
    rows = 2 * 10**8
    kept = {"compression": "gzip", "compression_opts": 4, "shuffle": True, "fletcher32": True}
    missing = shutil.copy(path, tmp_path / "missing.h5")
    with h5py.File(missing, "r+") as file:
        for name, table in TABLES.items():
            count = {"entries": rows, "offsets": rows + 1}.get(table.rows)
            if count:
                del file[name]
                file.create_dataset(name, (count, *table.width), table.dtype, chunks=(table.page, *table.width), **kept)
    monkeypatch.setattr(structure, "ALWAYS_ALLOWED", 0)
    packed = write_masks(tmp_path / "packed.h5", GRID, [(np.zeros(GRID.shape, bool),) * 2] * 20_000)
    for altered, words in ((missing, "not stored in the file"), (packed, "claims to hold")):
        tracemalloc.start()
        try:
            with pytest.raises(DatabaseError, match=words):
                TumorDatabase.open(altered)
            assert tracemalloc.get_traced_memory()[1] < 2**24
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("slip", [AttributeError, KeyError, TypeError, IndexError, ValueError])
def test_a_slip_of_ours_is_not_told_as_a_damaged_file(path, monkeypatch, slip):
    def fail(*_):
        raise slip("a slip")

    monkeypatch.setattr(store, "ParameterTable", fail)
    with pytest.raises(slip, match="a slip"):
        TumorDatabase.open(path)


def write_atlas(atlas, folder):
    folder.mkdir()
    maps = {"wm": atlas.white_matter, "gm": atlas.grey_matter, "csf": atlas.csf}
    for name, values in maps.items():
        image = image_from_volume(Volume(np.rint(255 * values).astype(np.uint8), atlas.grid))
        sitk.WriteImage(image, str(folder / f"{name}.nii.gz"))
    sitk.WriteImage(image_from_volume(atlas.t1), str(folder / "t1.nii.gz"))
    about = {"name": atlas.name, "licence": atlas.licence, "attribution": atlas.attribution}
    (folder / "atlas.json").write_text(json.dumps(about))
    return folder


@pytest.mark.slow
def test_the_atlas_of_a_database_is_bundled_or_given(small_database, tmp_path):
    assert small_database.load_atlas().name == "SRI24"
    folder = write_atlas(small_brain(), tmp_path / "brain")
    brain = Atlas.load(folder)
    with TumorDatabase.open(build_database(tmp_path / "tumors.h5", brain, 2)) as database:
        with pytest.raises(
            DatabaseError, match="atlas small brain, which is not bundled; name its folder with --atlas"
        ):
            database.load_atlas()
        for given in (brain, folder, str(folder)):
            assert database.load_atlas(given).sha256 == brain.sha256
        for other in ("SRI24", small_brain(size=22)):
            with pytest.raises(DatabaseError, match="--atlas"):
                database.load_atlas(other)
        with pytest.raises(InputError, match="no atlas nowhere"):
            database.load_atlas("nowhere")
