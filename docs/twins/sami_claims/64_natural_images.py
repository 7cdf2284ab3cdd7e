# %% [markdown]
# # Natural images
#
# > What SAMI's axes say about clothes and about patches of photographs, at which noise level, what they change in the picture, and how to do the same with faces.

# %% [markdown]
# Nobody knows the factors of natural images. [Guidance in use](../use/43_guidance.ipynb) finds a code's axes without them: it measures how many nats each axis carries at which noise level. This page does it for two small models, one of clothes (Fashion-MNIST [@xiao2017fashion], averaged to 14×14 pixels), one of 16×16 colour patches of two photographs. It looks at what the axes change, asks whether the place of an axis on the noise scale predicts the *size* of what it changes, and compares axes with attributes that exist: kinds of clothes, and a few made-up ones for patches. It ends with a recipe for CelebA [@liu2015celeba] and CIFAR-10 [@krizhevsky2009cifar], tried on stand-ins.
#
# Both models are stored (`bench/claims/natural.py`; one seed, minutes on one core); the pictures are decoded here.

# %%
#| hide
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from fastcore.test import test_eq
from scipy.stats import spearmanr
from torch.nn.functional import avg_pool2d, interpolate

from scoreae import data
from scoreae.core.checks import rng
from scoreae.core.pages import paper
from scoreae.images.files import to_float
from scoreae.measures.disentanglement import rotation_null, tad
from scoreae.models.sami import SAMI
from scoreae.models.zoo import load
from scoreae.use.guidance import Axes, axes
from scoreae.use.pictures import plot_axes, plot_rows
from scoreae.use.training import fit

# %%
#| hide
paper()
stored = {
    r["set"]: r
    for r in json.loads(Path("../../docs/results/natural.json").read_text())["rows"]
}
models = {name: load(f"../../weights/{name}-sami") for name in ("fashion", "patches")}
images = {"fashion": to_float(torch.tensor(stored["fashion"]["show"],
                                           dtype=torch.uint8)),
          "patches": data.patches("test", size=16)[:16]}  # fmt: skip
found = {name: Axes(r["table"], torch.tensor(r["u"]), torch.tensor(r["density"]),
                    torch.tensor(r["cross"]))
         for name, r in stored.items()}  # fmt: skip

# %% [markdown]
# ## Nats by noise level
#
# Each curve is an axis; its area is the energy of the guidance that it gives, which is nats as far as the guidance is exact. That is checked by the *gain*, what the guidance takes off the error on held-out images ([Guidance in use](../use/43_guidance.ipynb)).

# %%
plot_axes(found["fashion"], top=6, title="Clothes: six of twelve axes")

# %%
plot_axes(found["patches"], top=6, title="Colour patches: six of twelve axes")


# %% [markdown]
# With an exact free denoiser a gain cannot be larger than the information in the code, and the information not larger than the rate. So compare them before reading anything into axes. The clothes' model, trained jointly, passes. The same training on the patches does not: its guidance gains eight times its rate. Most of that is no information. There *the two networks have shared the work*, as a free denoiser may ([Why SAMI disentangles](61_why_sami_disentangles.ipynb)): the "guidance" corrects a denoiser that leaves errors to it, and axes push together (the cross term is nearly half of the energy). So the model of the patches below is trained pinned, its denoiser on its own score alone. Its gain is below its rate, and also below its energy, which exact guidance would not have. Axis by axis two of the clothes' twelve and three of the patches' have an area above their rate: what is drawn is energy, and nats only as far as all this holds.

# %%
def area(name, key):
    return sum(stored[name][key]) * float(found[name].u[1] - found[name].u[0])


sums = {}
for name, r in stored.items():
    sums[f"{name} ({r['regime']})"] = s = {k: round(area(name, k), 1)
                                           for k in ("energy", "gain", "cross")}
    s["rate"] = round(sum(row["rate"] for row in r["table"]), 1)
    assert (
        s["gain"] > 8 * s["rate"] if name == "patches, joint" else s["gain"] < s["rate"]
    )
    s["axes above their rate"] = sum(row["nats"] > row["rate"] for row in r["table"])
assert [s["axes above their rate"] for s in sums.values()] == [2, 3, 5]
assert (
    0.4
    < sums["patches, joint (joint)"]["cross"] / sums["patches, joint (joint)"]["energy"]
    < 0.5
)
sums


# %% [markdown]
# ## Traversals
#
# The five axes that change the picture most, from $-2$ to $+2$ standard deviations of the code, around the code of one held-out image. All decodes of a row start from the same noise.

# %%
def moved(name, x, axis, at=(-2.0, 2.0), steps=8):
    "Decodes (len(at), N, C, H, W) of images with one axis of their codes moved by `at` deviations of the prior."
    model, std = models[name], torch.tensor(stored[name]["prior std"])
    z = model.encode(x)
    step = torch.zeros(model.z_dim).index_fill(0, torch.tensor(axis), 1.0) * std
    return torch.stack([model.decode(z + a * step, steps=steps) for a in at])


def best(name, by="change", n=5):
    return sorted(found[name].table, key=lambda r: -r[by])[:n]


def traversals(name, i, title):
    rows = {
        f"axis {r['axis']} ({r['centroid']:+.1f})": moved(
            name, images[name][i : i + 1], r["axis"], torch.linspace(-2, 2, 7).tolist()
        )[:, 0]
        for r in best(name)
    }
    return plot_rows({"image": images[name][i : i + 1], **rows}, title)


traversals("fashion", 1, "Axes that change most (centroid of log γ)")

# %%
traversals("patches", 3, "Axes that change most (centroid of log γ)")


# %% [markdown]
# ## Does the noise level predict what changes?
#
# An axis that is informed at high noise can only be about what is visible there: large structures. So the change of the picture between the two ends of an axis should be coarse for axes with a low centroid and fine for a high one. *Coarse share*: the energy of the change that is left after averaging over blocks of a quarter of the image, as a share of the whole. (For white noise it is small: one over the pixels of a block.)

# %%
def coarse_share(change):
    "Share of the energy of changes (N, C, H, W) that survives averaging over blocks."
    size = [max(2, s // 4) for s in change.shape[2:]]
    h, w = (s // b * b for s, b in zip(change.shape[2:], size, strict=True))
    change = change[..., :h, :w]
    return float(avg_pool2d(change, size).square().mean() / change.square().mean())


noise = torch.randn(200, 1, 16, 16, generator=rng(0))
assert abs(coarse_share(noise)
           - 1 / 16) < 0.01 and coarse_share(torch.ones(1, 1, 16, 16)) == 1
fig, ax = plt.subplots(figsize=(6, 3))
places = {}
for name, marker, label in [("fashion", "o", "clothes"), ("patches", "s", "patches")]:
    alive = [r for r in found[name].table if r["nats"] > 0.1]
    ends = [moved(name, images[name][:6], r["axis"], steps=5) for r in alive]
    places[label] = [r["centroid"]
                     for r in alive], [coarse_share(high - low) for low, high in ends]
    ax.plot(*places[label], marker, label=f"{label}: {len(alive)} axes above 0.1 nats")
ax.set(xlabel=r"centroid of the axis, $\log\gamma$",
       ylabel="coarse share of the change")
ax.set_title("Noise level and size of what an axis changes")
ax.legend(loc="upper right", fontsize=8)
rank = {k: spearmanr(*v) for k, v in places.items()}
assert rank["clothes"].statistic < -0.4
{k: f"rank correlation {v.statistic:.2f}, p = {v.pvalue:.3f}" for k, v in rank.items()}

# %% [markdown]
# For clothes it does: the axes that are informed early change overall brightness and outline, the late ones details, and the rank correlation is clearly negative (twelve axes of one model). For patches the sign is the same, but twelve axes do not establish it. There the first axis is how bright a patch is, the second whether it is warm or cold, both without any label; the others change little.
#
# Both models began as principal components ([Linear codes](../foundations/09_gaussians.ipynb)), whose order by variance is an order by noise level.
#
# ## Attributes that exist
#
# For clothes the classes give five attributes (footwear, upper body, trousers, dress, bag), and brightness a sixth. For patches four are made up and one is which photograph it is. ATTRS counts the attributes that some axis detects with an AUROC of 0.75 or more; TAD adds up by how much the best axis exceeds the second ([Disentanglement](../measures/32_disentanglement.ipynb)). Beside it the same after random rotations of the code: what is above that, the axes owe to their directions.

# %%
table = []
for name, r in stored.items():
    for model, s in r["alignment"].items():
        if name not in models: continue
        table.append(
            {
                "set": name,
                "code": model,
                "TAD": round(s["TAD"], 2),
                "ATTRS": s["ATTRS"],
                "TAD rotated": f"{s['TAD rotated']:.2f} ± {s['± rotated']:.2f}",
            }
        )
best_of = {(r["set"], r["code"]): r for r in table}
assert best_of["fashion", "SAMI"]["TAD"] > best_of["fashion", "PCA"]["TAD"] + 0.05 > 0.5
assert best_of["patches",
               "RandomEncoder"]["TAD"] < 0.1 < best_of["patches", "SAMI"]["TAD"] - 0.2
best_axes = {m: stored["fashion"]["alignment"][m]["best"]
             for m in ("SAMI", "SAMI, untrained", "PCA")}
for k, v in best_axes["SAMI"].items():
    assert abs(v["AUROC"] - best_axes["PCA"][k]["AUROC"]) < 0.011
assert best_axes["SAMI, untrained"] == best_axes["PCA"]
assert best_of["patches", "SAMI"]["TAD"] < best_of["patches", "PCA"]["TAD"] - 0.2
table

# %% [markdown]
# The untrained code has PCA's axes, so it has PCA's scores. On clothes training has made TAD higher, 0.64 against 0.53 (one training, 1000 test images): the best axes detect the attributes as before (AUROC within 0.01), the second axes less. On patches training has lost part of what it began with. All are above their rotations; the random encoder is not.
#
# Below, the best axis for each attribute, and its AUROC.

# %%
{name: {k: f"axis {v['axis']}: {v['AUROC']:.2f}"
        for k, v in r["alignment"]["SAMI"]["best"].items()}
 for name, r in stored.items() if name in models}  # fmt: skip


# %% [markdown]
# ## A recipe for faces and other pictures
#
# For CelebA and CIFAR-10 only the first lines differ. The files must be there (`download=True` fetches them), and a real run needs `width=64` or more, tens of thousands of steps, and an accelerator.
#
# ```python
# x, y = data.celeba("train", labels=True, size=64)          # y: 40 attributes, CELEBA_ATTRIBUTES
# x, y = data.cifar10("train", labels=True)                  # y: ten classes
# y = torch.nn.functional.one_hot(y).bool()                  # attributes of CIFAR-10: its classes
# ```
#
# The rest is one function. It is tried here on a dozen generated images of either shape, with two steps of training: that shows that the calls fit, and nothing about faces.

# %%
def recipe(x, test, attributes, z_dim=8, steps=20_000, width=64, batch_size=128, n=24):
    "A SAMI of images, its axes, and TAD with its rotation null for attributes (N, K) of the test images."
    torch.manual_seed(0)
    model = SAMI(tuple(x.shape[1:]), z_dim, width=width, time_conditioned=True,
                 kl_weight=0.01)
    fit(model, x, steps=steps, batch_size=batch_size, lr=1e-3, progress=False)
    z, y = model.encode(test).double().cpu().numpy(), attributes.double().numpy()
    null = rotation_null(lambda t: {"TAD": tad(t, y)["tad"]}, z)
    return model, axes(model, test, n=n, images=4, steps=5), tad(z, y), null


for shape in [(3, 64, 64), (3, 32, 32)]:
    stand_in = interpolate(torch.rand(24, 3, 4, 4, generator=rng(1)) * 2 - 1,
                           size=shape[1:], mode="bilinear")
    bright, warm = (
        stand_in.mean((1, 2, 3)),
        stand_in[:, 0].mean((1, 2)) - stand_in[:, 2].mean((1, 2)),
    )
    made_up = torch.stack([v > v.median() for v in (bright, warm)], 1)
    small = {"z_dim": 3, "steps": 2, "width": 8, "batch_size": 8, "n": 4}
    _, listed, score, null = recipe(stand_in[:12], stand_in[12:], made_up[12:], **small)
    test_eq((len(listed.table), score["auroc"].shape), (3, (3, 2)))
    assert 0 <= score["tad"] <= 1 and np.isfinite(null["TAD"]["mean"])

# %% [markdown]
# ## What can go wrong
#
# * **Naming an axis after one traversal.** Look at several images, and at the numbers: an axis may do one thing to shoes and another to shirts.
# * **Ranking by nats alone.** Axes with many nats may carry detail that nobody sees; `change` ranks by what is seen.
# * **Classes as attributes.** They exclude each other, so they are not independent; ATTRS drops those that tell too much about each other.
# * **A model of two photographs.** The patches of train and test come from the same two pictures, left and right.
