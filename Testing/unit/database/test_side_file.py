"""The side file of a build: whole pieces are kept whatever happens, others never come back."""

import numpy as np
import pytest

from TumorQueryLib.base.errors import DatabaseError, OutputError
from TumorQueryLib.database.masks import encode_mask
from TumorQueryLib.database.schema import Entries
from TumorQueryLib.database.side_file import Piece, SideFile, side_path, unpacked

PLAN = {"entries": 6, "attributes": {"atlas_name": "small brain"}}
NAMES = ("seed", "diffusivity", "proliferation", "duration", "trajectory")


def entries(number, count=2):
    generator = np.random.default_rng(number)
    masks = generator.random((2, count, 6, 5, 9)) < generator.random((2, count, 1, 1, 1))
    masks[0, 0] = False  # a tumour without a core
    return Entries(
        generator.random((count, 3)),
        *generator.random((3, count)),
        generator.integers(0, 9, count),
        {"core": [encode_mask(mask) for mask in masks[0]], "whole": [encode_mask(mask) for mask in masks[1]]},
    )


def assert_same(found, expected):
    for name in NAMES:
        assert np.array_equal(getattr(found, name), getattr(expected, name))
    for region in ("core", "whole"):
        for one, other in zip(found.runs[region], expected.runs[region]):
            assert np.array_equal(one.starts, other.starts)
            assert np.array_equal(one.lengths, other.lengths)


def test_a_piece_holds_its_entries():
    first, second = entries(1), entries(2, count=3)
    piece = Piece.of(7, [first, second])
    assert (piece.number, piece.entries) == (7, 5)
    for place, region in enumerate(("core", "whole")):
        assert piece.runs[place] == sum(run.starts.size for part in (first, second) for run in part.runs[region])
    found = unpacked(piece.payload)
    joined = {name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in NAMES}
    runs = {region: first.runs[region] + second.runs[region] for region in ("core", "whole")}
    assert len(found) == 5
    assert_same(found, Entries(**joined, runs=runs))


@pytest.mark.slow
def test_every_piece_that_was_written_whole_comes_back(tmp_path):
    database = tmp_path / "tumors.h5"
    with SideFile.open(database, PLAN, resume=False) as side:
        for number in (2, 0, 1):
            side.append(Piece.of(number, [entries(number)]))
        ends = sorted(place.offset + place.size for place in side.pieces.values())
    content = side_path(database).read_bytes()
    assert ends[-1] == len(content)
    for size in [*range(0, len(content), 61), *ends, *(end - 1 for end in ends)]:
        side_path(database).write_bytes(content[:size])
        with SideFile.open(database, PLAN, resume=True) as side:
            assert list(side.pieces) == [2, 0, 1][: sum(end <= size for end in ends)]
            for number, place in side.pieces.items():
                assert_same(side.read(place), entries(number))
            # What was torn is written over.
            side.append(Piece.of(5, [entries(5)]))
        with SideFile.open(database, PLAN, resume=True) as side:
            assert_same(side.read(side.pieces[5]), entries(5))


def test_a_flipped_byte_ends_what_is_believed(tmp_path):
    database = tmp_path / "tumors.h5"
    with SideFile.open(database, PLAN, resume=False) as side:
        first = side._end
        for number in range(2):
            side.append(Piece.of(number, [entries(number)]))
        second = side.pieces[0].offset + side.pieces[0].size
    content = side_path(database).read_bytes()
    for place in np.random.default_rng(0).integers(first, len(content), 60):
        altered = bytearray(content)
        altered[place] ^= 0x10
        side_path(database).write_bytes(altered)
        with SideFile.open(database, PLAN, resume=True) as side:
            assert list(side.pieces) == ([0] if place >= second else [])


def test_a_side_file_is_continued_only_with_its_own_options(tmp_path):
    database = tmp_path / "tumors.h5"
    with SideFile.open(database, PLAN, resume=False) as side:
        side.append(Piece.of(0, [entries(0)]))
        # Not while it is written.
        with pytest.raises(OutputError, match="Another build"):
            SideFile.open(database, PLAN, resume=True)
    with pytest.raises(DatabaseError, match="--resume"):
        SideFile.open(database, PLAN, resume=False)
    with pytest.raises(DatabaseError, match="other options"):
        SideFile.open(database, PLAN | {"entries": 7}, resume=True)
    with SideFile.open(database, PLAN, resume=True) as side:
        assert list(side.pieces) == [0]
        side.remove()
    assert not side_path(database).exists()
