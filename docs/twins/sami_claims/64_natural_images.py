# %% [markdown]
# # Natural images
#
# > What SAMI's axes say about clothes and about patches of photographs, at which noise level, what they change in the picture, and how to do the same with faces.

# %% [markdown]
# Nobody knows the factors of natural images. [Guidance in use](../use/43_guidance.ipynb) finds a code's axes without them: it measures how many nats each axis carries at which noise level. This page does it for two small models, one of clothes (Fashion-MNIST [@xiao2017fashion], averaged to 14×14 pixels), one of 16×16 colour patches of two photographs. It looks at what the axes change, asks whether the place of an axis on the noise scale predicts the *size* of what it changes, and compares axes with attributes that exist: kinds of clothes, and a few made-up ones for patches. It ends with a recipe for CelebA [@liu2015celeba] and CIFAR-10 [@krizhevsky2009cifar], tried on stand-ins.
#
# Both models are stored (`bench/claims/natural.py`; one seed, minutes on one core); the pictures are decoded here.
#
# *Stored trainings on this page are from before models began as [Gaussians](../foundations/09_gaussians.ipynb): a told SAMI began as the linear code, all other networks at random.*

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
from scoreae.core.pages import Table, paper
from scoreae.images.files import to_float
from scoreae.measures.disentanglement import rotation_null, tad
from scoreae.models.sami import SAMI
from scoreae.models.zoo import load
from scoreae.use.guidance import Axes, axes
from scoreae.use.pictures import plot_rows
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
# Each curve is an axis; its area is the energy of the guidance that it gives, which is nats as far as the guidance is exact. Beside it stands the *gain*, what the guidance takes off the error on held-out images: it must agree with the energy, and agreement checks the strength of the guidance only ([Guidance in use](../use/43_guidance.ipynb)).

# %%
def curves(name, top=6):
    "Energy of the axes that have most of it, and the cross term, by noise level."
    of, fig = found[name], plt.figure(figsize=(6.8, 3.1))
    ax = fig.subplots()
    styles = ("-", "--", "-.", ":") * 3
    for row, style in zip(of.table[:top], styles, strict=False):
        label = f"axis {row['axis']}: {row['nats']:.1f}"
        ax.plot(of.u, of.density[row["axis"]], style, label=label)
    total = float(of.cross.sum() * (of.u[1] - of.u[0]))
    ax.fill_between(of.u, of.cross, color="0.85", label=f"cross term: {total:.1f}")
    ax.set(xlabel=r"$\log\gamma$", ylabel="energy (nats per unit)")
    fig.legend(title="area (nats)", loc="outside right upper")


# %%
#| label: fig-clothes
#| fig-cap: 'Clothes: energy of the guidance by noise level, the six of twelve axes that have most of it, in nats per unit of $\log\gamma$. Two axes lead, and all have their peaks within four units of each other.'
#| fig-alt: 'Line chart of energy against log gamma from -7 to 14 for six axes. Axes 0 and 1 peak above 1 near log gamma 0.6, the other four at about 0.5 to 0.65 between 0.6 and 3. A grey area below zero, the cross term, reaches -0.5 near 3. All are zero beyond 8.'
curves("fashion")

# %%
#| label: fig-patches
#| fig-cap: 'Colour patches, trained pinned: energy of the guidance by noise level, the six of twelve axes that have most of it, in nats per unit of $\log\gamma$. The axes have several peaks, and between $\log\gamma=5$ and 8, where most of them are largest, the axes push together: the cross term is larger than any of them.'
#| fig-alt: 'Line chart of energy against log gamma from -8 to 14 for six axes. Axes 0 and 1 alone have much energy where log gamma is below -2; axes 5, 7, 0 and 4 have sharp peaks between 6 and 7. A grey area, the cross term, peaks at nearly 1 there.'
curves("patches")


# %% [markdown]
# With an exact free denoiser a gain cannot be larger than the information in the code, and the information not larger than the rate. So compare them before reading anything into axes. The clothes' model, trained jointly, passes (which proves nothing). The same training on the patches does not: its guidance gains eight times its rate. Most of that is no information. There *the two networks have shared the work*, as a free denoiser may ([Why SAMI disentangles](61_why_sami_disentangles.ipynb)): the "guidance" corrects a denoiser that leaves errors to it, and axes push together (the cross term is nearly half of the energy). So the model of the patches below is trained pinned, its denoiser on its own score alone. Its gain is below its rate, and also below its energy, which exact guidance would not have. Axis by axis two of the clothes' twelve and three of the patches' have an area above their rate: what is drawn is energy, and nats only as far as all this holds.

# %%
def area(name, key):
    return sum(stored[name][key]) * float(found[name].u[1] - found[name].u[0])


sums = {}
for name, r in stored.items():
    s = sums[name] = {f"{k} (nats)": round(area(name, k), 1)
                      for k in ("energy", "gain", "cross")}
    s["rate (nats)"] = round(sum(row["rate"] for row in r["table"]), 1)
    s["axes above their rate"] = sum(row["nats"] > row["rate"] for row in r["table"])
    gain, rate = s["gain (nats)"], s["rate (nats)"]
    assert gain > 8 * rate if name == "patches, joint" else gain < rate
assert [s["axes above their rate"] for s in sums.values()] == [2, 3, 5]
joint = sums["patches, joint"]
assert 0.4 < joint["cross (nats)"] / joint["energy (nats)"] < 0.5
of = lambda name: f"{name.split(',')[0]}, {stored[name]['regime']}"
Table({of(name).replace("fashion", "clothes"): s for name, s in sums.items()}, "model",
      digits=4)


# %% [markdown]
# ## Traversals
#
# The four axes that change the picture most, from $-2$ to $+2$ standard deviations of the code, around the code of one held-out image. All decodes of a row start from the same noise.

# %%
def moved(name, x, axis, at=(-2.0, 2.0), steps=8):
    "Decodes (len(at), N, C, H, W) of images, one axis moved by `at` deviations."
    model, std = models[name], torch.tensor(stored[name]["prior std"])
    z = model.encode(x)
    step = torch.zeros(model.z_dim).index_fill(0, torch.tensor(axis), 1.0) * std
    return torch.stack([model.decode(z + a * step, steps=steps) for a in at])


def traversals(name, i, n=4):
    "The axes that change the picture most, one row each, with their centroids."
    x, at = images[name][i : i + 1], (-2.0, -1.0, 0.0, 1.0, 2.0)
    best = sorted(found[name].table, key=lambda r: -r["change"])[:n]
    label = lambda r: f"axis {r['axis']} ({r['centroid']:+.1f})"
    rows = {label(r): moved(name, x, r["axis"], at)[:, 0] for r in best}
    return plot_rows({"image": x, **rows})


# %%
#| label: fig-clothes-moved
#| fig-cap: 'A shirt of Fashion-MNIST, and its decodes along the four axes that change it most, from $-2$ to $+2$ standard deviations; in brackets the centroid of the axis, in $\log\gamma$. Axis 0 makes it brighter, the others change its shading and outline.'
#| fig-alt: 'A grey picture of a shirt, and four rows of five decodes, for axes 0 to 3. In the first row it turns from dark to white. In the others a dark collar appears, or the shading of its middle and sides changes.'
traversals("fashion", 1)

# %%
#| label: fig-patches-moved
#| fig-cap: 'A patch of a photograph, and its decodes along the four axes that change it most. Axis 0 goes from dark to bright, axis 1 from blue-green to orange; the others move a soft patch of light. The fine structure of the patch is in none of them.'
#| fig-alt: 'A green and brown patch, and four rows of five decodes. The first row goes from black over green to pale, the second from teal over dark green to orange. The other two stay green, with a spot of light that moves.'
traversals("patches", 3)


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
assert abs(coarse_share(noise) - 1 / 16) < 0.01
assert coarse_share(torch.ones(1, 1, 16, 16)) == 1


def places(name):
    "Centroid, and coarse share of the change, of the axes above 0.1 nats."
    alive = [r for r in found[name].table if r["nats"] > 0.1]
    ends = [moved(name, images[name][:6], r["axis"], steps=5) for r in alive]
    share = [coarse_share(high - low) for low, high in ends]
    return [r["centroid"] for r in alive], share


seen = {"clothes": places("fashion"), "patches": places("patches")}
rank = {k: spearmanr(*v) for k, v in seen.items()}
assert rank["clothes"].statistic < -0.4
Table({k: {"axes": len(seen[k][0]), "rank correlation": f"{v.statistic:.2f}",
           "p": f"{v.pvalue:.1g}"} for k, v in rank.items()}, name="model")

# %%
#| label: fig-coarse
#| fig-cap: 'How coarse the change along an axis is, against the noise level at which the axis is informed, for the axes above 0.1 nats. For clothes the share falls with $\log\gamma$; for patches it falls less clearly, and rises again at the end.'
#| fig-alt: 'Scatter plot of the coarse share of the change, from 0.3 to 1, against the centroid of the axis in log gamma. The twelve axes of clothes fall from 0.87 at 0.2 to about 0.3 to 0.4 near 3. The twelve of patches lie higher, from 1 at -0.8 over 0.64 at 3 to 0.9 at 5.8.'
fig, ax = plt.subplots(figsize=(6, 3))
for (name, at), mark in zip(seen.items(), "os", strict=True):
    ax.plot(*at, mark, label=name)
ax.set(xlabel=r"centroid of the axis, $\log\gamma$",
       ylabel="coarse share of the change")
fig.legend(loc="outside upper center", ncols=2);

# %% [markdown]
# For clothes the order is there: the axes that are informed early change overall brightness and outline, the late ones details, and the rank correlation is clearly negative (twelve axes of one model). For patches the sign is the same, but twelve axes do not establish it: the axis of brightness, the coarsest change of all, has its centroid at 1.7 only. There the first axis is how bright a patch is, the second whether it is warm or cold, both without any label; the others change little.
#
# But both models began as principal components ([Gaussian images](../foundations/09_gaussians.ipynb)), whose order by variance is an order by noise level, and *the untrained code has no row here*. So the page does not say whether training made this relation, kept it, or weakened it.
#
# ## Attributes that exist
#
# For clothes the classes give five attributes (footwear, upper body, trousers, dress, bag), and brightness a sixth. For patches four are made up and one is which photograph it is. ATTRS counts the attributes that some axis detects with an AUROC of 0.75 or more; TAD adds up by how much the best axis exceeds the second ([Disentanglement](../measures/32_disentanglement.ipynb)). Beside it the same after random rotations of the code: what is above that, the axes owe to their directions.

# %%
scores = {(name, code): s for name in models
          for code, s in stored[name]["alignment"].items()}
score = {k: round(s["TAD"], 2) for k, s in scores.items()}
assert score["fashion", "SAMI"] > score["fashion", "PCA"] + 0.05 > 0.5
assert score["patches", "RandomEncoder"] < 0.1 < score["patches", "SAMI"] - 0.2
assert score["patches", "SAMI"] < score["patches", "PCA"] - 0.2
best = {m: scores["fashion", m]["best"] for m in ("SAMI", "SAMI, untrained", "PCA")}
for k, v in best["SAMI"].items():
    assert abs(v["AUROC"] - best["PCA"][k]["AUROC"]) < 0.011
assert best["SAMI, untrained"] == best["PCA"]
NAMES = {"fashion": "clothes", "RandomEncoder": "random encoder"}
Table([{"set": NAMES.get(name, name), "code": NAMES.get(code, code),
        "ATTRS": s["ATTRS"], "TAD": f"{s['TAD']:.2f}",
        "TAD, rotated": f"{s['TAD rotated']:.2f} ± {s['± rotated']:.2f}"}
       for (name, code), s in scores.items()])

# %% [markdown]
# The untrained code has PCA's axes, so it has PCA's scores. On clothes TAD is higher after training, 0.64 against 0.53 (one training, which says nothing of the next; 1000 test images): the best axes detect the attributes as before (AUROC within 0.01), the second axes less. On patches, after one training too, it is lower than where it began. All are above their rotations; the random encoder is not.
#
# Below, the best axis for each attribute, and its AUROC.

# %%
Table([{"set": NAMES.get(name, name), "attribute": k, "best axis": v["axis"],
        "AUROC": f"{v['AUROC']:.2f}"}
       for name in models for k, v in scores[name, "SAMI"]["best"].items()])


# %% [markdown]
# ## A recipe for faces and other pictures
#
# For CelebA and CIFAR-10 only the first lines differ. The files must be there (`download=True` fetches them), and a real run needs `width=64` or more, tens of thousands of steps, and an accelerator.
#
# ```python
# x, y = data.celeba("train", labels=True, size=64)  # y: 40 attributes, CELEBA_ATTRIBUTES
# x, y = data.cifar10("train", labels=True)  # y: ten classes
# y = torch.nn.functional.one_hot(y).bool()  # attributes of CIFAR-10: its classes
# ```
#
# The rest is one function. It is tried here on a dozen generated images of either shape, with two steps of training: that shows that the calls fit, and nothing about faces.

# %%
def recipe(x, test, attributes, z_dim=8, steps=20_000, width=64, batch_size=128, n=24):
    """A SAMI of images, its axes, and TAD with its rotation null.

    `attributes` (N, K) are those of the test images.
    """
    torch.manual_seed(0)
    model = SAMI(tuple(x.shape[1:]), z_dim, width=width, time_conditioned=True,
                 kl_weight=0.01)
    fit(model, x, steps=steps, batch_size=batch_size, lr=1e-3, progress=False)
    z, y = model.encode(test).double().cpu().numpy(), attributes.double().numpy()
    null = rotation_null(lambda t: {"TAD": tad(t, y)["tad"]}, z)
    return model, axes(model, test, n=n, images=4, steps=5), tad(z, y), null


for shape in [(3, 64, 64), (3, 32, 32)]:
    x = torch.rand(24, 3, 4, 4, generator=rng(1)) * 2 - 1
    x = interpolate(x, size=shape[1:], mode="bilinear")
    bright, warm = x.mean((1, 2, 3)), (x[:, 0] - x[:, 2]).mean((1, 2))
    y = torch.stack([v > v.median() for v in (bright, warm)], 1)
    small = {"z_dim": 3, "steps": 2, "width": 8, "batch_size": 8, "n": 4}
    _, listed, score, null = recipe(x[:12], x[12:], y[12:], **small)
    test_eq((len(listed.table), score["auroc"].shape), (3, (3, 2)))
    assert 0 <= score["tad"] <= 1 and np.isfinite(null["TAD"]["mean"])

# %% [markdown]
# ## What can go wrong
#
# * **Naming an axis after one traversal.** Look at several images, and at the numbers: an axis may do one thing to shoes and another to shirts.
# * **Ranking by nats alone.** Axes with many nats may carry detail that nobody sees; `change` ranks by what is seen.
# * **Classes as attributes.** They exclude each other, so they are not independent; ATTRS drops those that tell too much about each other.
# * **A model of two photographs.** The patches of train and test come from the same two pictures, left and right.
