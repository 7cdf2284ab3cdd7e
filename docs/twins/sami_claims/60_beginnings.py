# %% [markdown]
# # Beginnings
#
# > Guidance from random features does harm, and training may answer with silence. What a linear beginning is worth, and why a noise-blind encoder must be shown noise.

# %% [markdown]
# A SAMI whose encoder is told the noise level begins as the linear code ([Linear codes](../foundations/09_gaussians.ipynb), [SAMI](../models/14_sami.ipynb)). A noise-blind one cannot, for the law of that code depends on a level that it does not know. And on a walk without noise it reads the level wrong, unless it is shown some. This page measures both on digits, clothes and colour patches, three trainings each, beside encoders that begin at random. The numbers come from `bench/claims/beginnings.py`; what can be seen without a long training is computed here.

# %%
#| hide
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from fastcore.test import test_close

from scoreae import data
from scoreae.core.checks import sqnorm
from scoreae.core.pages import paper
from scoreae.foundations.gaussians import principal
from scoreae.foundations.paths import VPCosine
from scoreae.foundations.samplers import sample
from scoreae.foundations.worlds import denoiser, gaussian
from scoreae.models.sami import SAMI
from scoreae.use.guidance import watch
from scoreae.use.pictures import plot_rows
from scoreae.use.training import fit

# %%
#| hide
paper()
stored = json.loads(Path("../../docs/results/beginnings.json").read_text())
MODELS = ("noise-blind", "told, begun at random", "told, begun linear")
STYLES = dict(zip(MODELS, ("C1--s", "C2:^", "C0-o"), strict=True))
PIXELS = {"digits": "8×8", "clothes": "14×14", "patches": "3×16×16"}

# %% [markdown]
# ## Before the first step
#
# Take colour patches, and the best *linear* denoiser for them, the oracle's for a Gaussian with their mean and covariance. Freeze it. What does the guidance of an untrained encoder take off its error, level by level? With random features it *adds*: they answer to noise as they do to images, and where they are sure of a code that the image does not have, the error grows. With the linear code the gain is there from the start. It equals the energy, although patches are not Gaussian: denoiser and code are linear, so both numbers depend on second moments only, and those are the Gaussian's.

# %%
x, test = data.patches("train", size=8,
                       stride=8), data.patches("test", size=8, stride=8)[:200]
mean, axes, variances = principal(x, 191)
Sigma = axes.T @ torch.diag(variances) @ axes + 1e-4 * torch.eye(192)
D, path = denoiser(gaussian(mean.double(), Sigma.double()),
                   VPCosine(-7.0)), VPCosine(-7.0)
given = lambda x_t, t: D(x_t.flatten(1).double(), t).reshape(x_t.shape).to(x_t)
begun = {}
for name, kw in {"noise-blind": {},
                 "told, begun at random": {"begin": "random", "time_conditioned": True},
                 "told, begun linear": {"time_conditioned": True}}.items():  # fmt: skip
    torch.manual_seed(0)
    model = SAMI((3, 8, 8), 12, denoiser=given, path=path, regime="frozen",
                 encoder_width=8, **kw).eval()
    model.prepare(x)
    begun[name] = watch(model, test, n=15)
area = lambda v, key: float(v[key].sum() * (v["u"][1] - v["u"][0]))
fig, ax = plt.subplots(figsize=(6, 2.6))
for name, v in begun.items():
    ax.plot(v["u"], v["gain"], STYLES[name], ms=4,
            label=f"{name}: {area(v, 'gain'):+.1f} nats")
ax.axhline(0, color="0.4", lw=1)
ax.set(xlabel=r"$\log\gamma$", ylabel="gain (nats per unit)",
       title="Untrained encoders on a frozen linear denoiser")
ax.legend()
assert area(begun["noise-blind"],
            "gain") < -3 and area(begun["told, begun at random"], "gain") < -3
linear = begun["told, begun linear"]
test_close(area(linear, "gain") / area(linear, "energy"), 1, eps=0.15)


# %% [markdown]
# ## While they train
#
# `python -m bench.claims.beginnings`: the same networks (width 16), steps (1200) and learning rate for all; joint training, $\beta=10^{-3}$, simple weights. Below, the rate of the loss, $\mathrm{KL}(q(z|x_0)\,\|\,\mathcal N(0,I))$, and the gain, what guidance takes off the error of the free denoiser on the same noise. (Lines: three seeds.)

# %%
def rows(name, model):
    return [r for r in stored["rows"] if (r["set"], r["model"]) == (name, model)]


fig, panels = plt.subplots(2, 3, figsize=(6.8, 3.4), sharex=True)
for column, name in zip(panels.T, PIXELS, strict=True):
    for model in MODELS:
        for i, r in enumerate(rows(name, model)):
            h = r["history"]
            steps, label = [v["step"] for v in h], None if i else model
            line = STYLES[model].rstrip("so^")
            column[0].plot(steps, [v["rate"] for v in h], line, lw=1, label=label)
            column[1].plot(steps, [v["free"] - v["guided"] for v in h], line, lw=1)
    column[0].set(title=f"{name}, {PIXELS[name]}", ylim=(0, None))
    column[1].set(xlabel="step", ylim=(0, None))
panels[0, 0].set_ylabel("rate (nats)")
panels[1, 0].set_ylabel("gain (nats)")
fig.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center",
           ncols=3);

# %% [markdown]
# ## What they have learned
#
# On held-out images: squared errors on $[0,1]$ of points and samples (25 steps), the bound in bits per dimension with its rate under the fitted prior, and the gain and energy of guidance by all levels, in nats; mean ± standard deviation over seeds. The mean image and PCA need no training.

# %%
KEYS = ("point", "point, no noise shown", "sample", "bits/dim", "rate", "gain",
        "energy")


def cell(v):
    "Mean ± standard deviation."
    digits = 1 if np.mean(v) > 8 else 2 if np.mean(v) > 1 else 4
    return f"{np.mean(v):.{digits}f} ± {np.std(v, ddof=1):.{digits}f}"


got = {(n, m): {k: np.array([r[k] for r in rows(n, m)]) for k in KEYS} for n in PIXELS
       for m in MODELS}
controls = {name: rows(name, "controls")[0] for name in PIXELS}
table = [{"set": n, "encoder": m, **{k: cell(v) for k, v in got[n, m].items()}}
         for n, m in got]
plain = [{"set": n, "encoder": k, "point": f"{controls[n][k]:.4f}"} for n in PIXELS
         for k in ("mean image", "PCA")]
[*plain, *table]

# %%
fig, panels = plt.subplots(1, 3, figsize=(7.6, 2.5))
for ax, name in zip(panels, PIXELS, strict=True):
    for model in MODELS:
        gain = np.mean([r["gain by level"] for r in rows(name, model)], 0)
        ax.plot(rows(name, model)[0]["u"], gain, STYLES[model], ms=3, lw=1.2,
                label=model)
    ax.set(title=f"{name}, {PIXELS[name]}", xlabel=r"$\log\gamma$")
panels[0].set_ylabel("gain (nats per unit)")
fig.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3);

# %% [markdown]
# **On photographs the beginning decides whether there is a code.** Begun at random, told or not, encoders end with 12 to 14 nats, and draws from their codes are two to twenty-six times as far from the image as those of the linear beginning, which ends with 84 to 86 nats and nearly the same error in all three seeds. In one training begun at random the point is further away than the mean image. Two things in the table are not information. The rate *of the loss* (figure) stays at 40 to 57 nats there, because with so small a $\beta$ a code may lie far from $\mathcal N(0,I)$ at little cost; the rate under the fitted prior is what it tells. And a gain above the rate is work that a jointly trained denoiser leaves to the guidance ([Natural images](64_natural_images.ipynb)): most of it when begun at random, a part of it when begun linear.
#
# **On digits and clothes a random beginning is enough**, if the encoder is told the level: the linear one is ahead by a few per cent in draws, and bits per dimension do not differ. Small images have their first components near $\log\gamma=0$, where most of the training's levels lie; a patch has its first one at $-4$ ([Linear codes](../foundations/09_gaussians.ipynb)), where few do.
#
# **A noise-blind point has to be shown noise.** That takes an eighth to two fifths off its error on digits, and two fifths to two thirds on clothes, in every seed. It is then within a third (digits) or an eighth (clothes) of the points of encoders that are told the level, with a half to two thirds of their nats.
#
# PCA's point is what its components leave; on patches no SAMI comes near it in 1200 steps.

# %%
at = lambda n, m, k: got[n, m][k]
blind, random, linear = MODELS
for other in (blind, random):
    ratio = np.divide.outer(at("patches", other, "sample"),
                            at("patches", linear, "sample"))
    assert (
        ratio.min() > 2
        and ratio.max() < 27
        and at("patches", other, "rate").max() < 14.5
    )
assert at("patches", linear,
          "rate").min() > 83 and np.ptp(at("patches", linear, "sample")) < 0.0003
assert (at("patches", random, "point") > controls["patches"]["mean image"]).sum() == 1
for name in ("digits", "clothes"):
    change = at(name, linear, "sample").mean() / at(name, random, "sample").mean()
    assert (
        0.9 < change < 1
        and abs((at(name, linear, "bits/dim") - at(name, random, "bits/dim")).mean())
        < 0.06
    )
    shown = at(name, blind, "point") / at(name, blind, "point, no noise shown")
    low, high, most = {"digits": (0.6, 0.88, 4 / 3),
                       "clothes": (1 / 3, 0.6, 9 / 8)}[name]
    assert shown.min() > low and shown.max() < high
    assert at(name, blind, "point").mean() < most * at(name, linear, "point").mean()
    assert 0.45 < at(name, blind,
                     "rate").mean() / at(name, linear, "rate").mean() < 0.67
assert all(v["PCA"] < at("patches", linear, "point").min() for n, v in controls.items()
           if n == "patches")

# %% [markdown]
# ## A walk without noise
#
# In point mode the walk starts at zero and adds no noise: $x_t/b$ is a weighted mean of that zero and the estimates so far, a picture without noise. The free denoiser is told the level and can live with that. A noise-blind encoder cannot: half-way down it sees a clean picture in low contrast, and guides as if it were certain. Noise of the level, added and taken away, shows both networks what they were trained on (`Shown`). Here on digits, after a short training:

# %%
digits = data.digits("train"), data.digits("test")
torch.manual_seed(0)
blind = SAMI((1, 8, 8), 8, width=8, encoder_width=12)
fit(blind, digits[0], steps=250, batch_size=64, lr=4e-3, ema=0.98, progress=False)
some = digits[1][:100]
z = blind.encode(some)
with torch.no_grad():
    plain = sample(blind.denoiser(z), blind.path, some, 25, mode="point",
                   clip=1.0).clamp(-1, 1)
ways = {"image": some, "point, no noise": plain,
        "point, shown": blind.decode(z, steps=25),
        "sample": blind.decode(z, "sample", 25)}  # fmt: skip
error = {k: sqnorm(v - some).mean().item() / 256 for k, v in ways.items()
         if k != "image"}
assert error["point, shown"] < error["point, no noise"]
print({k: f"{v:.4f}" for k, v in error.items()})
plot_rows({k: v[:10] for k, v in ways.items()}, "Noise-blind SAMI, 250 steps",
          size=0.45)

# %% [markdown]
# For a linear estimate the pair of noises cancels exactly, and the point is the one that exact walks reach ([SAMI](../models/14_sami.ipynb)). For a network it is an average over noisy images around $x_t$. It costs two evaluations a step, and eight at the first, on which the whole walk hangs: from a single pair the error of ten steps differs by a factor of two between draws.
#
# ## What can go wrong
#
# * **Reading a falling rate as progress.** It may be silence. Look at `free` and `guided` in the history: their difference is what the code is worth.
# * **Comparing points of a noise-blind encoder with other people's.** A walk without noise that shows none measures how wrong the encoder reads its level.
# * **Principal components as an answer.** A linear beginning is a beginning. What is learned beyond it is the difference to PCA's row, with the same number of axes, and its draws.
# * **Larger images.** At 32×32 a joint training loses a part of the linear beginning in its first steps, while the denoiser knows nothing ([How far a short training gets](../together/81_short_training.ipynb)).
# * **A few hundred steps.** Nothing here says where long trainings of large networks end; encoders begun at random may find their code later.
