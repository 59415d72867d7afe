# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # How sure is it, and what would be irradiated?
#
# The sample case again, whose true density is known: bounds of the density in each voxel, intervals of what one scan
# can tell, and the plan that a guideline's margin gives beside the one that the density suggests.

# %%
import matplotlib.pyplot as plt
import numpy as np

from TumorQueryLib import Method, Patient, PlanChoices, infer, plan
from TumorQueryLib.studies.sample import load_truth, sample_files

patient = Patient.load(**sample_files())
result = infer(patient, Method(registration="affine", refine_solves=60, uncertainty=True))
uncertainty, truth = result.uncertainty, load_truth().density
print(*uncertainty.sentences(), sep="\n")

# %% [markdown]
# (The affine registration is quicker than the deformable one, and enough to show this.)
#
# ## Bounds in each voxel
#
# Two sources of doubt are counted: other tumours of the model that agree with the segmentation nearly as well, and
# what no tumour of the model explains ([how](../density.md#how-sure-it-is)). On a line through the tumour:

# %%
lower, upper = uncertainty.band(0.9)
centre = np.argwhere(patient.core.array).mean(axis=0).astype(int)
grid = result.density.grid
line = (slice(None), centre[1], centre[2])
x = grid.to_ras([(i, *centre[1:]) for i in range(grid.shape[0])])[:, 0]
figure, axis = plt.subplots(figsize=(8, 3.4), layout="constrained")
axis.fill_between(x, lower.array[line], upper.array[line], alpha=0.3, label="90 % band")
axis.plot(x, result.density.array[line], label="inferred")
axis.plot(x, truth.array[line], "k--", linewidth=1, label="true")
for threshold in (0.2, 0.6):
    axis.axhline(threshold, color="gray", linewidth=0.5)
axis.set(xlabel="x, mm (RAS)", ylabel="tumour cell density", xlim=(x[truth.array[line] > 1e-3].min() - 15, None))
axis.legend()
plt.show()

# %% [markdown]
# The band is narrow at the outlines, where the images say something, and wide where they do not. How much of the
# truth it holds, in the brain around the tumour where there is anything to hold:

# %%
brain = patient.t1gd.array > 0
counted = brain & ((truth.array > 0.01) | (upper.array > 0.01))
held = (truth.array >= lower.array - 0.002) & (truth.array <= upper.array + 0.002)
share = held[counted].mean()
print(f"the 90 % band holds {share:.0%} of {np.count_nonzero(counted):,} voxels")
assert 0.7 < share <= 1

# %% [markdown]
# That is one tumour; what the bands held in many is in [what was measured](../density.md#what-the-bands-hold).
#
# No tumour lies at its upper bound everywhere. Whole densities, each possible, are drawn together; the volume above .05
# in each of a thousand gives that volume's interval:

# %%
draws = uncertainty.draw(16, random_seed=1)
above = [np.count_nonzero(one.array > uncertainty.level) * one.grid.voxel_volume_ml for one in draws]
low, high = uncertainty.volume_interval
print(f"above {uncertainty.level:g}: {uncertainty.volume_ml:.0f} ml, 90 % between {low:.0f} and {high:.0f} ml")
print("in sixteen draws:", *(f"{volume:.0f}" for volume in sorted(above)), "ml")

# %% [markdown]
# ## Plans
#
# A guideline takes the tumour that MRI shows and a margin around it, the same to all sides. The density suggests
# another volume of the same size: its densest voxels. They are put side by side, as proposals to compare; nothing
# here was validated on patients, and it must not guide treatment.

# %%
plans = plan(result, PlanChoices(margin="estro-eano"))
print(*plans.sentences(), sep="\n")

# %%
k = centre[2]
figure, axis = plt.subplots(figsize=(5.2, 5.6), layout="constrained")
axis.imshow(patient.t1gd.array[:, :, k].T, cmap="gray")
axis.imshow(np.ma.masked_less(result.density.array[:, :, k].T, 0.01), cmap="inferno", vmin=0, vmax=1, alpha=0.5)
for one, colour in ((plans.standard, "deepskyblue"), (plans.model, "lime")):
    axis.contour(one.mask.array[:, :, k].T, levels=[0.5], colors=colour, linewidths=1.4)
axis.contour(patient.core.array[:, :, k].T, levels=[0.5], colors="red", linewidths=1)
axis.set_title("blue: core + 15 mm; green: the same volume by the density", fontsize=9)
axis.set_axis_off()
plt.show()

# %% [markdown]
# Because the truth of this case is known, the share of the true cells that each plan leaves outside can be counted,
# which no patient's image tells:

# %%
cells = truth.array.sum()
for name, one in (("standard", plans.standard), ("model", plans.model)):
    outside = truth.array[~one.mask.array.astype(bool)].sum() / cells
    print(f"{name}: {one.volume_ml:.0f} ml; outside: {outside:.1%} of the true cells, {one.cells_outside:.1%} modelled")

# %% [markdown]
# One made-up tumour decides nothing. How plans do in many, and the choices that there are, is on the page of [the
# plans](../plans.md).
