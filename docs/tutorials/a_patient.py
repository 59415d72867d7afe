# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A patient, from files to a density
#
# The bundled sample case stands for a patient: T1 with contrast, FLAIR and a segmentation. Its tumour was grown in
# another brain (MNI152) than the atlas of the database (SRI24), so the answer is not built in, and the true density
# is known.
#
# ## The files

# %%
import matplotlib.pyplot as plt
import numpy as np

from TumorQueryLib import Method, Patient, infer, read_result
from TumorQueryLib.studies.sample import compare_with_truth, load_truth, sample_files

files = sample_files()
for name, value in files.items():
    print(f"{name}: {getattr(value, 'name', value)}")

# %% [markdown]
# In place of these, the paths of your own images. `labels` says what the numbers of the segmentation mean; the same
# numbers mean different things in different data sets, so they are never guessed ([what goes
# in](../inputs.md#labels)).

# %%
patient = Patient.load(**files)
print(f"T1Gd on {patient.t1gd.grid.shape} voxels of {patient.t1gd.grid.spacing.round(2)} mm")
for name, mask in (("core", patient.core), ("whole tumour", patient.whole)):
    print(f"{name}: {np.count_nonzero(mask.array) * mask.grid.voxel_volume_ml:.1f} ml")
print(*patient.warnings, sep="\n")

# %% [markdown]
# Everything was checked by now: whether the files hold what they say, whether the masks lie in the image, whether one
# is in the other. What looks odd stands in `patient.warnings`; what cannot be used raises an `InputError` that says
# what to do.
#
# Each image has a grid of its own: an affine from voxel indices to RAS millimetres. The FLAIR's slices are thicker
# and tilted against the T1Gd's. A slice through the tumour's core in each, with the region that it shows:


# %%
def on_slice(mask, grid, k):
    """A mask at the voxels of another grid's slice k."""
    i, j = np.indices(grid.shape[:2])
    points = grid.to_ras(np.stack([i, j, np.full_like(i, k)], axis=-1))
    index = np.rint(mask.grid.to_index(points)).astype(int)
    inside = ((index >= 0) & (index < mask.grid.shape)).all(axis=-1)
    return inside & mask.array[tuple(np.moveaxis(np.where(inside[..., None], index, 0), -1, 0))]


centre = patient.core.grid.to_ras(np.argwhere(patient.core.array).mean(axis=0))
figure, axes = plt.subplots(1, 2, figsize=(8, 4.8), layout="constrained")
for axis, (title, image, mask) in zip(
    axes, (("T1Gd, core", patient.t1gd, patient.core), ("FLAIR, whole tumour", patient.flair, patient.whole))
):
    k = int(image.grid.to_index(centre)[2].round())
    axis.imshow(image.array[:, :, k].T, cmap="gray")
    axis.contour(on_slice(mask, image.grid, k).T, levels=[0.5], colors="yellow", linewidths=1)
    axis.set_title(title)
    axis.set_axis_off()
plt.show()

# %% [markdown]
# (The patient's right is on the viewer's left: the first axis of these images runs from right to left.)
#
# ## The inference
#
# One call registers the patient to the atlas, queries the database, refines the best match in the patient's anatomy
# and corrects it at the outlines. `Method` holds every choice with its default; here the refinement has half of its
# usual budget.

# %%
result = infer(patient, Method(refine_solves=60))
print("seconds:", {name: round(seconds, 1) for name, seconds in result.timings.items()})
print(*result.warnings, sep="\n")

# %% [markdown]
# The ranked matches of the database come first, with the overlap (Dice) of core and whole tumour in the atlas:

# %%
for match, parameters in list(zip(result.matches, result.matched_parameters))[:5]:
    print(
        f"entry {match.entry:5}: Dice {match.dice_core:.3f} + {match.dice_whole:.3f}, "
        f"length {parameters.infiltration_length:.2f} mm, rho T {parameters.rho_t:.1f}"
    )

# %% [markdown]
# Then the estimates: the same figures, counted in the patient's own images. `chosen` is the one that is shown.

# %%
for name, estimate in result.estimates.items():
    shown = "  <- chosen" if name == result.chosen else ""
    core_ml, whole_ml = estimate.fit.predicted_ml
    print(f"{name:12} Dice sum {estimate.fit.dice_sum:.3f}, core {core_ml:.1f} ml, whole {whole_ml:.1f} ml{shown}")
model = result.model
print(f"how well the model agrees: {model.fit.quality}; length {model.infiltration_lengths_mm[0]:.2f} mm")

# %% [markdown]
# The assimilated density agrees with the outlines by construction. How good the model is, is said by the estimate it
# was made of (`result.model`): [what the figures mean](../meaning.md).
#
# ## The density

# %%
truth = load_truth().density
k = int(patient.t1gd.grid.to_index(centre)[2].round())
figure, axes = plt.subplots(1, 2, figsize=(8.6, 4.2), layout="constrained")
for axis, (title, density) in zip(axes, (("inferred", result.density), ("true", truth))):
    axis.imshow(patient.t1gd.array[:, :, k].T, cmap="gray")
    u = np.ma.masked_less(density.array[:, :, k].T, 0.01)
    shown = axis.imshow(u, cmap="inferno", vmin=0, vmax=1, alpha=0.75)
    axis.contour(density.array[:, :, k].T, levels=(0.05, 0.2, 0.6), colors=("white", "cyan", "red"), linewidths=0.8)
    axis.set_title(title)
    axis.set_axis_off()
figure.colorbar(shown, ax=axes, label="tumour cell density", shrink=0.8)
plt.show()

# %% [markdown]
# Red and cyan are the isolines of 0.6 and 0.2, which T1Gd and FLAIR are taken to show; white is 0.05, which no image
# shows. Of this case the truth is known:

# %%
for line in compare_with_truth(result):
    print(line)
error = np.abs(result.density.array - truth.array)[truth.array > 0.01].mean()
assert error < 0.06

# %% [markdown]
# ## Keeping it
#
# `write` puts everything into a folder: `result.json`, the volumes, the transforms and a page with pictures. It is
# written whole or not at all, and never over a file that no run wrote. `read_result` gives it back.

# %%
result.write("result")
saved = read_result("result")
assert np.array_equal(saved.density.array, result.density.array)
print(*sorted(path.name for path in saved.folder.iterdir()), sep="\n")

# %% [markdown]
# Next: [how sure is it, and what would be irradiated](uncertainty_and_plans.py)?
