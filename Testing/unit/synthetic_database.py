"""Databases of arbitrary masks, and a small brain to grow tumours in, for tests."""

import numpy as np

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.database.masks import encode_mask
from TumorQueryLib.database.schema import SCHEMA, SCHEMA_VERSION, Entries
from TumorQueryLib.database.writing import write_database
from TumorQueryLib.geometry.grid import Grid, Volume


def small_brain(size=24, spacing=6.0):
    """A ball of white matter with a grey rind and a hole of CSF, 24^3 voxels of 6 mm, not centred on 0."""
    grid = Grid.isotropic(size, spacing, (3.0, -7.0, 11.0))
    axes = (np.arange(size) - (size - 1) / 2) / (size / 2 - 1)
    radius = np.sqrt(axes[:, None, None] ** 2 + axes[:, None] ** 2 + axes**2)
    white = np.where((radius < 0.8) & (radius > 0.15), 0.9, 0.0).astype(np.float32)
    grey = np.where((radius < 1.0) & (white == 0) & (radius > 0.15), 0.8, 0.1 * (white > 0)).astype(np.float32)
    csf = np.where(radius <= 0.15, 1.0, 0.0).astype(np.float32)
    t1 = Volume((100 * white + 60 * grey).astype(np.float32), grid)
    return Atlas("small brain", grid, white, grey, csf, t1, "CC0", "made for tests")


def attributes(grid, **changed):
    """Root attributes of a database on a grid."""
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "solver_version": "1",
        "rng_seed": 0,
        "prior": {"name": "arbitrary masks"},
        "tissue": {},
        "initial_condition": {},
        "licence": "CC0",
        "attribution": "made for tests",
        "threshold_t1gd": 0.6,
        "threshold_flair": 0.2,
        "grid_shape": list(grid.shape),
        "grid_affine": grid.affine.tolist(),
        "atlas_name": "small brain",
        "atlas_sha256": "0" * 64,
    } | changed


def write_masks(path, grid, pairs, **changed):
    """A database whose entries are the given pairs (core, whole) of boolean arrays."""
    count = len(pairs)
    runs = {
        "core": [encode_mask(core) for core, _ in pairs],
        "whole": [encode_mask(whole) for _, whole in pairs],
    }
    entries = Entries(
        seed=np.zeros((count, 3)),
        diffusivity=np.ones(count),
        proliferation=np.ones(count),
        duration=np.ones(count),
        trajectory=np.arange(count),
        runs=runs,
    )
    run_counts = {region: sum(coded.starts.size for coded in runs[region]) for region in runs}
    write_database(path, attributes(grid, **changed), count, run_counts, [entries])
    return path
