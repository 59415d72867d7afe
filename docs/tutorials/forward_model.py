# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The forward model: what one image can tell
#
# Tumours are grown, with known parameters, to see which of them an image could give back. The equation is that of
# [the method](../method.md); everything here takes seconds.

# %%
import matplotlib.pyplot as plt
import numpy as np

from TumorQueryLib import Atlas, Grid, GrowthParameters, Tissue, grow_trajectory, simulate

atlas = Atlas.load("SRI24")
tissue = Tissue.from_atlas(atlas)
seed = tuple(atlas.grid.centre + np.array([25.0, 30.0, 15.0]))  # RAS mm: white matter of the right frontal lobe
i, j, k = np.rint(atlas.grid.to_index(seed)).astype(int)
print(f"white matter {atlas.white_matter[i, j, k]:.2f}, grey matter {atlas.grey_matter[i, j, k]:.2f}")

# %% [markdown]
# ## Two tumours, one image
#
# One has grown slowly for five years, the other ten times as fast for half a year. The product $\rho T$ and the
# length $\sqrt{D/\rho}$ are the same, and so is every voxel.

# %%
slow = GrowthParameters(seed, diffusivity=0.05, proliferation=0.008, duration=1825)
fast = GrowthParameters(seed, diffusivity=0.5, proliferation=0.08, duration=182.5)
for parameters in (slow, fast):
    print(f"length {parameters.infiltration_length:.2f} mm, rho T {parameters.rho_t:.1f}")
density = simulate(slow, atlas)
assert np.abs(density - simulate(fast, atlas)).max() < 1e-5

# %% [markdown]
# So a scan tells two numbers of these three, the **infiltration length** and $\rho T$, and how fast the tumour moves
# is not one of them.

# %% [markdown]
# ## What the two numbers look like
#
# Three tumours whose visible part (FLAIR, $u > 0.2$) has the same volume of 60 ml. The longer the length, the flatter
# the border, the smaller the core that T1Gd shows ($u > 0.6$), and the more cells lie where no image shows any.


# %%
def grown_to(volume_ml, length):
    """The density when the whole tumour first has this volume, and rho T then."""
    *_, last = grow_trajectory(seed, length, tissue, every_step=True, stop_volume_ml=volume_ml)
    return last.on_grid(atlas.grid.shape), last.rho_t


figure, axes = plt.subplots(1, 3, figsize=(9, 3.4), layout="constrained")
for axis, length in zip(axes, (1.0, 2.5, 6.0)):
    u, rho_t = grown_to(60.0, length)
    unseen = u[(u > 0) & (u <= 0.2)].sum() / u.sum()
    core_ml = np.count_nonzero(u > 0.6) * atlas.grid.voxel_volume_ml
    axis.imshow((atlas.white_matter + 0.5 * atlas.grey_matter)[:, :, k].T, cmap="gray", origin="lower")
    shown = axis.imshow(
        np.ma.masked_less(u[:, :, k].T, 0.01), cmap="inferno", vmin=0, vmax=1, alpha=0.8, origin="lower"
    )
    axis.contour(u[:, :, k].T, levels=(0.2, 0.6), colors=("cyan", "red"), linewidths=0.8)
    axis.set_title(
        f"L {length:g} mm, rho T {rho_t:.1f}\ncore {core_ml:.0f} ml, {unseen:.0%} of the cells unseen", fontsize=9
    )
    axis.set_axis_off()
figure.colorbar(shown, ax=axes, label="tumour cell density", shrink=0.8)
plt.show()

# %% [markdown]
# ## How fast a front moves
#
# In tissue of one kind a front far from its seed moves with the speed $2\sqrt{D\rho}$: in units of $1/\rho$ by $2L$.
# A ball of some centimetres comes close. Its curved front is slower, and what the seed had spread before anything was
# visible makes it faster. The speed is measured here from the volume, over the last third of the way to 40 mm.

# %%
grid = Grid.isotropic(96, 1.5, (0, 0, 0))
one = np.ones(grid.shape, np.float32)
white, grey = Tissue.from_maps(one, 0 * one, None, grid), Tissue.from_maps(0 * one, one, None, grid)


def front(tissue, length, until_mm=40.0):
    """Radius (mm) of the ball above 0.2 against rho t, and its speed over the last third of the way."""
    volume_ml = 4 / 3 * np.pi * until_mm**3 / 1000
    moments = grow_trajectory((0, 0, 0), length, tissue, every_step=True, stop_volume_ml=volume_ml)
    times, volumes = np.array([(moment.rho_t, moment.volume_ml) for moment in moments]).T
    radii = np.cbrt(volumes * 1000 * 3 / (4 * np.pi))
    late = radii > 2 / 3 * until_mm
    return times, radii, np.polyfit(times[late], radii[late], 1)[0]


figure, axis = plt.subplots(figsize=(6, 3.6), layout="constrained")
for length in (1.0, 2.0, 3.0):
    times, radii, speed = front(white, length)
    axis.plot(times, radii, label=f"L {length:g} mm: speed {speed / length:.2f} L")
    assert 1.8 < speed / length < 2.05
axis.set(xlabel="rho t", ylabel="radius of the visible tumour, mm")
axis.legend()
plt.show()

# %% [markdown]
# In grey matter cells move ten times more slowly, so lengths and speeds are smaller by $\sqrt{10}$:

# %%
ratio = front(white, 3.0)[2] / front(grey, 3.0)[2]
print(f"speed in white matter / speed in grey matter: {ratio:.2f} (sqrt(10) is {np.sqrt(10):.2f})")
assert 2.8 < ratio < 3.3

# %% [markdown]
# ## What identifies what
#
# Around a tumour of known parameters each is varied by itself, and the two regions that an image shows are compared
# with those of the true one. Where the Dice sum falls steeply, an image tells that parameter well; where it stays
# flat, it does not.


# %%
def regions(u):
    return u > 0.6, u > 0.2


def dice_sum(u):
    return sum(
        2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b)) for a, b in zip(regions(u), truth)
    )


true_length, true_rho_t = 2.5, grown_to(60.0, 2.5)[1]
truth = regions(simulate(GrowthParameters.from_identifiable(seed, true_length, true_rho_t, 0.01), atlas))


def grown(length=true_length, rho_t=true_rho_t, moved=0.0):
    place = (seed[0] + moved, *seed[1:])
    return simulate(GrowthParameters.from_identifiable(place, length, rho_t, 0.01), atlas)


factors = np.array([0.8, 0.9, 1.0, 1.1, 1.25])
figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained", sharey=True)
axes[0].plot(factors, [dice_sum(grown(length=true_length * one)) for one in factors], "o-", label="length")
axes[0].plot(factors, [dice_sum(grown(rho_t=true_rho_t * one)) for one in factors], "o-", label="rho T")
# Longer and younger, such that the front is as far: what is left for the image to tell is its shape.
both = [dice_sum(grown(length=true_length * one, rho_t=true_rho_t / one)) for one in factors]
axes[0].plot(factors, both, "o-", label="length up, rho T down")
axes[0].set(xlabel="factor", ylabel="Dice sum with the truth")
axes[0].legend()
moves = np.array([0.0, 1.5, 3.0, 6.0])
axes[1].plot(moves, [dice_sum(grown(moved=one)) for one in moves], "o-", color="C3", label="seed")
axes[1].set(xlabel="moved by, mm")
axes[1].legend()
plt.show()
assert dice_sum(grown()) == 2.0

# %% [markdown]
# The product of the two, how far the front has come, is told best. What tells the length from the age is how large
# the core is beside the whole tumour. How wide the intervals are that follow for a real patient is [the
# uncertainty](uncertainty_and_plans.py) of a result.
