"""The database file in other languages: the examples of docs/database-file.md give the masks that the library gives."""

import re
import shutil
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]
ENTRIES = (0, 17, 63)

pytestmark = pytest.mark.slow


def example(language: str) -> str:
    text = (ROOT / "docs" / "database-file.md").read_text(encoding="utf-8")
    return re.search(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)[1]


def run(*command, **options) -> str:
    done = subprocess.run(
        [*map(str, command)], capture_output=True, encoding="utf-8", errors="replace", timeout=120, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_cpp_example_compiles_and_finds_the_mask(small_database, tmp_path):
    compiler = shutil.which("c++") or shutil.which("g++")
    found = compiler and shutil.which("pkg-config")
    if not found or subprocess.run(["pkg-config", "--exists", "hdf5"]).returncode != 0:
        pytest.skip("needs a C++ compiler, pkg-config and HDF5's headers (libhdf5-dev)")
    flags = run("pkg-config", "--cflags", "--libs", "hdf5").split()
    (tmp_path / "read_mask.cpp").write_text(example("cpp"), encoding="utf-8")
    run(compiler, "-std=c++17", "-Wall", "-Werror", "read_mask.cpp", "-o", "read_mask", *flags, cwd=tmp_path)
    for entry in ENTRIES:
        mask = small_database.whole.decode(entry)
        said = run(tmp_path / "read_mask", small_database.path, entry)
        voxels, *centre = map(float, re.findall(r"-?[\d.]+", said))
        assert voxels == np.count_nonzero(mask)
        expected = small_database.grid.to_ras(np.argwhere(mask).mean(axis=0))
        assert np.allclose(centre, expected, atol=2e-3)


#: Octave has none of MATLAB's functions for HDF5 of its own; its `load` reads the tables of any such file.
H5READ = """
function values = h5read(file, name, first, count)
content = load('-hdf5', file);
for part = strsplit(name(2:end), '/')
    content = content.(part{1});
end
values = content(:);
if nargin > 2
    values = values(first : first + count - 1);
end
end
"""


def test_the_matlab_example_gives_the_mask_in_octave(small_database, tmp_path):
    if shutil.which("octave-cli") is None:
        pytest.skip("needs GNU Octave (apt-get install octave)")
    (tmp_path / "read_mask.m").write_text(example("matlab"), encoding="utf-8")
    (tmp_path / "h5read.m").write_text(H5READ, encoding="utf-8")
    with h5py.File(small_database.path) as file:
        shape = file.attrs["grid_shape"].tolist()
    answer = f"function value = h5readatt(file, place, name)\nvalue = {shape};\nend\n"
    (tmp_path / "h5readatt.m").write_text(answer, encoding="utf-8")
    for entry in ENTRIES:
        code = f"fprintf('%d ', find(read_mask('{small_database.path.as_posix()}', {entry})) - 1)"
        said = run("octave-cli", "--no-history", "--eval", code, cwd=tmp_path)
        mask = small_database.whole.decode(entry)
        # Octave counts along i first.
        assert np.array_equal(np.array(said.split(), dtype=int), np.flatnonzero(mask.ravel(order="F")))
