# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Comparing query strategies
#
# The paper's exact query compares a patient's masks with every entry of the database; its other strategies compare
# something smaller, to be faster, and may miss the best entry. Here some of them search the bundled database for the
# same synthetic tumours. The [evaluation](../evaluation.md) does this for all of them, with a thousand tumours.

# %%
import time

import matplotlib.pyplot as plt
import numpy as np

from TumorQueryLib import Atlas, TumorDatabase, create_strategy, sample_synthetic, strategy_names

print(*strategy_names())
database = TumorDatabase.open("starter")
print(f"{len(database):,} tumours in {database.atlas_name}")

# %% [markdown]
# ## Queries
#
# Tumours of the database's own prior, none of them in it: each has a core and a whole tumour on the atlas grid, as a
# registered patient has them.

# %%
tumours = list(sample_synthetic(Atlas.load("SRI24"), 20, random_seed=7, with_visible_core=True))
queries = [tumour.masks for tumour in tumours]
volumes = [np.count_nonzero(masks.whole) * masks.grid.voxel_volume_ml for masks in queries]
print(f"{len(queries)} queries, whole tumours of {min(volumes):.0f} to {max(volumes):.0f} ml")

# %% [markdown]
# ## The exact query, twice
#
# `brute-force` compares every entry; `direct` leaves out what bounds on the Dice prove to be worse. Their answers are
# the same, to the bit.

# %%
direct, brute_force = create_strategy("direct", database), create_strategy("brute-force", database)
for masks in queries[:5]:
    assert direct.query(masks, 15) == brute_force.query(masks, 15)
exact = [direct.query(masks, 1)[0] for masks in queries]
print(f"mean Dice sum of the best match: {np.mean([match.dice_sum for match in exact]):.3f}")


# %% [markdown]
# ## Approximate ones
#
# Of each strategy: in how many queries the exact best match is its first, and among its first fifteen; and the time
# of a query. What it has to prepare of the database (codes, smaller masks) is made before, once. `rerank=100` puts
# its best hundred into the order of their exact Dice.


# %%
def measured(name, **options):
    """Hits among the first one and fifteen, and the median milliseconds of a query."""
    strategy = create_strategy(name, database, **options)
    first = fifteen = 0
    seconds = []
    for masks, best in zip(queries, exact):
        begin = time.perf_counter()
        entries = [match.entry for match in strategy.query(masks, 15)]
        seconds.append(time.perf_counter() - begin)
        first += entries[0] == best.entry
        fifteen += best.entry in entries
    return first, fifteen, 1000 * np.median(seconds)


rows = {
    "direct": measured("direct"),
    "brute-force": measured("brute-force"),
    "ds64": measured("ds64"),
    "ds32": measured("ds32"),
    "radiomics": measured("radiomics"),
    "radiomics, rerank=100": measured("radiomics", rerank=100),
    "random-projection": measured("random-projection"),
}
print(f"{'strategy':24} first  of 15   ms")
for name, (first, fifteen, milliseconds) in rows.items():
    print(f"{name:24} {first:5} {fifteen:6} {milliseconds:6.1f}")
assert rows["direct"][0] == rows["brute-force"][0] == len(queries)

# %%
figure, axis = plt.subplots(figsize=(7, 3.4), layout="constrained")
for name, (first, _, milliseconds) in rows.items():
    axis.scatter(milliseconds, first / len(queries), s=40)
    axis.annotate(name, (milliseconds, first / len(queries)), xytext=(6, 3), textcoords="offset points", fontsize=8)
axis.set(
    xscale="log", xlabel="ms a query (median)", ylabel="share of queries with\nthe best match first", ylim=(-0.05, 1.1)
)
axis.margins(x=0.25)
plt.show()

# %% [markdown]
# With a bound that rules entries out, the exact query is also the fastest, so there is nothing to be gained by an
# approximate one at this size; with twenty queries one hit is five points. The learned strategies (`ae`, `vae`,
# `bihash`) need PyTorch and are compared in the [evaluation](../evaluation.md), where the same holds.
#
# A strategy of your own takes a dozen lines: [how](../how-to/own-strategy.md).

# %%
database.close()
