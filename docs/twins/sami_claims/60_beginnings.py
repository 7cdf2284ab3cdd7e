# %% [markdown]
# # Beginnings
#
# > Guidance from random features does harm, and training may answer with silence. What a linear beginning is worth, and why a noise-blind encoder must be shown noise.

# %% [markdown]
# A SAMI whose encoder is told the noise level begins as the linear code ([Gaussian images](../foundations/09_gaussians.ipynb), [SAMI](../models/14_sami.ipynb)). A noise-blind one could not, for the law of that code depends on a level that it is not told; now it reads the level from the picture. And on a walk without noise it reads the level wrong, unless it is shown some. This page measures both on digits, clothes and colour patches, three trainings each, beside encoders that begin at random. The numbers come from `bench/claims/beginnings.py`; what can be seen without a long training is computed here.
#
# *Stored trainings on this page are from before models began as [Gaussians](../foundations/09_gaussians.ipynb): a told SAMI began as the linear code, all other networks at random.*

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
from scoreae.core.pages import Table, paper
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
STYLES = dict(zip(MODELS, ("C1--", "C2:", "C0-"), strict=True))
PIXELS = {"digits": "8×8", "clothes": "14×14", "patches": "3×16×16"}

# %% [markdown]
# ## Before the first step
#
# Take colour patches, and the best *linear* denoiser for them, the exact one of a Gaussian with their mean and covariance. Freeze it. What does the guidance of an untrained encoder take off its error, level by level? With random features it *adds*: they answer to noise as they do to images, and where they are sure of a code that the image does not have, the error grows. With the linear code the gain is there from the start. It equals the energy, although patches are not Gaussian: denoiser and code are linear, so both numbers depend on second moments only, and those are the Gaussian's.

# %%
x = data.patches("train", size=8, stride=8)
test = data.patches("test", size=8, stride=8)[:200]
mean, axes, variances = principal(x, 191)
Sigma = axes.T @ torch.diag(variances) @ axes + 1e-4 * torch.eye(192)
path = VPCosine(-7.0)
D = denoiser(gaussian(mean.double(), Sigma.double()), path)
given = lambda x_t, t: D(x_t.flatten(1).double(), t).reshape(x_t.shape).to(x_t)
how = ({}, {"time_conditioned": True, "begin": "random"}, {"time_conditioned": True})
begun = {}
for name, kw in zip(MODELS, how, strict=True):
    torch.manual_seed(0)
    model = SAMI((3, 8, 8), 12, denoiser=given, path=path, regime="frozen",
                 encoder_width=8, **kw).eval()
    model.prepare(x)
    begun[name] = watch(model, test, n=15)
step = begun["noise-blind"]["u"][1] - begun["noise-blind"]["u"][0]
area = {name: {k: float(v[k].sum() * step) for k in ("gain", "energy")}
        for name, v in begun.items()}
assert area["noise-blind"]["gain"] < -3
assert area["told, begun at random"]["gain"] < -3
linear = area["told, begun linear"]
test_close(linear["gain"] / linear["energy"], 1, eps=0.15)

# %%
#| label: fig-begun
#| fig-cap: 'What the guidance of three untrained encoders takes off the error of a frozen linear denoiser of colour patches, in nats per unit of $\log\gamma$; the legend has the areas. Random features add to the error at high noise, the linear code takes off from the start.'
#| fig-alt: 'Line chart of gain in nats per unit against log gamma for three encoders. The one begun linear is above zero, with a peak of nearly 3 near log gamma 3.5; the two begun at random start at about -2.4 and -1.1 on the left and rise to zero.'
fig, ax = plt.subplots(figsize=(6, 2.6))
for name, v in begun.items():
    ax.plot(v["u"], v["gain"], STYLES[name],
            label=f"{name}: {area[name]['gain']:+.1f} nats")
ax.axhline(0, color="0.4", lw=1)
ax.set(xlabel=r"$\log\gamma$", ylabel="gain (nats per unit)", xlim=(-7, 14))
ax.legend();


# %% [markdown]
# ## While they train
#
# `python -m bench.claims.beginnings`: the same networks (width 16), steps (1200) and learning rate for all; joint training, $\beta=10^{-3}$, simple weights. Below, the rate of the loss, $\mathrm{KL}(q(z|x_0)\,\|\,\mathcal N(0,I))$, and the gain, what guidance takes off the error of the free denoiser on the same noise, on average over the levels that training draws. (Lines: three seeds.)

# %%
def rows(name, model):
    return [r for r in stored["rows"] if (r["set"], r["model"]) == (name, model)]


# %%
#| label: fig-training
#| fig-cap: 'Rate of the loss, and gain per unit of $\log\gamma$ on average over the levels of training, for three seeds each. On digits and clothes the encoder begun at random catches up if it is told the level; on patches all gains fall, and the linear beginning keeps the most.'
#| fig-alt: 'Six line charts, rate in nats above and gain in nats per unit below, against the training step, for digits, clothes and patches. On digits and clothes the two told encoders end close together and the noise-blind one well below. On patches all gains fall, and that of the encoder begun linear stays highest.'
fig, panels = plt.subplots(2, 3, figsize=(6.8, 3.6), sharex=True)
for column, name in zip(panels.T, PIXELS, strict=True):
    for model in MODELS:
        for i, r in enumerate(rows(name, model)):
            h, line = r["history"], STYLES[model]
            steps, label = [v["step"] for v in h], None if i else model
            column[0].plot(steps, [v["rate"] for v in h], line, lw=1.2, label=label)
            column[1].plot(steps, [v["free"] - v["guided"] for v in h], line, lw=1.2)
    column[0].set(title=f"{name}, {PIXELS[name]}", ylim=(0, None))
    column[1].set(xlabel="step", ylim=(min(0, column[1].get_ylim()[0]), None))
panels[0, 0].set_ylabel("rate\n(nats)")
panels[1, 0].set_ylabel("mean gain\n(nats per unit)")
labels = panels[0, 0].get_legend_handles_labels()
fig.legend(*labels, loc="outside upper center", ncols=3);


# %% [markdown]
# ## What they have learned
#
# On held-out images: squared errors of points and samples (25 steps), in thousandths, with pixels on $[0,1]$; mean ± standard deviation over seeds. The mean image and PCA need no training.

# %%
def cell(v):
    "Mean ± standard deviation."
    digits = 1 if np.mean(v) > 8 else 2
    return f"{np.mean(v):.{digits}f} ± {np.std(v, ddof=1):.{digits}f}"


ERRORS = ("point", "point, no noise shown", "sample")
NATS = {"bits/dim": "bits per dimension", "rate": "rate (nats)", "gain": "gain (nats)",
        "energy": "energy (nats)"}
got = {(n, m): {k: np.array([r[k] for r in rows(n, m)]) for k in (*ERRORS, *NATS)}
       for n in PIXELS for m in MODELS}
controls = {name: rows(name, "controls")[0] for name in PIXELS}
table = []
for n in PIXELS:
    table += [{"set": n, "encoder": k, "point (10⁻³)": f"{1000 * controls[n][k]:.1f}"}
              for k in ("mean image", "PCA")]
    for m in MODELS:
        errors = {f"{k} (10⁻³)": cell(1000 * got[n, m][k]) for k in ERRORS}
        table.append({"set": n, "encoder": m, **errors})
Table(table)

# %% [markdown]
# The bound with its rate under the fitted prior, and the gain and energy of guidance by all levels.

# %%
Table([{"set": n, "encoder": m, **{NATS[k]: cell(v[k]) for k in NATS}}
       for (n, m), v in got.items()])

# %%
#| label: fig-levels
#| fig-cap: 'Gain by noise level after training, in nats per unit of $\log\gamma$, mean of three seeds. On digits and clothes the told encoders agree, however they began; on patches the linear beginning gains far more, at fine levels above all.'
#| fig-alt: 'Three line charts of gain in nats per unit against log gamma, for digits, clothes and patches. On digits and clothes the curves of the two told encoders nearly coincide, with peaks of 4 and 5, and the noise-blind one is lower. On patches the encoder begun linear peaks at 13, the told one begun at random at 8, the noise-blind one stays below 2.'
fig, panels = plt.subplots(1, 3, figsize=(7.6, 2.5))
for ax, name in zip(panels, PIXELS, strict=True):
    for model in MODELS:
        gain = np.mean([r["gain by level"] for r in rows(name, model)], 0)
        u = rows(name, model)[0]["u"]
        ax.plot(u, gain, STYLES[model], lw=1.5, label=model)
    ax.set(title=f"{name}, {PIXELS[name]}", xlabel=r"$\log\gamma$")
panels[0].set_ylabel("gain (nats per unit)")
labels = panels[0].get_legend_handles_labels()
fig.legend(*labels, loc="outside upper center", ncols=3);

# %% [markdown]
# **On patches of two photographs, in 1200 steps, the beginning decides how much of a code there is.** Begun at random, told or not, encoders end with 12 to 14 nats, and draws from their codes are two to twenty-six times as far from the image as those of the linear beginning, which ends with 84 to 86 nats and, in draws, nearly the same error in all three seeds (its points differ more). In one training begun at random the point is further away than the mean image. Two things in the table are not information. The rate *of the loss* (@fig-training) stays at 40 to 57 nats there, because with so small a $\beta$ a code may lie far from $\mathcal N(0,I)$ at little cost; the rate under the fitted prior bounds what it tells. And a gain above the rate is work that a jointly trained denoiser leaves to the guidance ([Natural images](64_natural_images.ipynb)): most of it when told and begun at random, a part of it when begun linear.
#
# **On digits and clothes a random beginning was enough**, if the encoder is told the level: the linear one is ahead by a few per cent in draws, and bits per dimension do not differ. Small images have their first components near $\log\gamma=0$, where most of the training's levels lie; a patch has its first one at $-4$ ([Gaussian images](../foundations/09_gaussians.ipynb)), where few do.
#
# **A noise-blind point has to be shown noise.** That takes an eighth to two fifths off its error on digits, and two fifths to two thirds on clothes, in every seed. It is then within a third (digits) or an eighth (clothes) of the points of encoders that are told the level, with a half to two thirds of their nats.
#
# PCA's point is what its components leave; on patches the best SAMI has, on average, twice its error after 1200 steps.

# %%
at = lambda n, m, k: got[n, m][k]
mean = lambda n, m, k: got[n, m][k].mean()
blind, random, linear = MODELS
for other in (blind, random):
    far, near = at("patches", other, "sample"), at("patches", linear, "sample")
    ratio = np.divide.outer(far, near)
    assert ratio.min() > 2 and ratio.max() < 27
    assert at("patches", other, "rate").max() < 14.5
assert at("patches", linear, "rate").min() > 83
assert np.ptp(at("patches", linear, "sample")) < 0.0003
assert (at("patches", random, "point") > controls["patches"]["mean image"]).sum() == 1
assert controls["patches"]["PCA"] < at("patches", linear, "point").min()
limits = {"digits": (0.6, 0.88, 4 / 3), "clothes": (1 / 3, 0.6, 9 / 8)}
for name, (low, high, most) in limits.items():
    assert 0.9 < mean(name, linear, "sample") / mean(name, random, "sample") < 1
    bits = at(name, linear, "bits/dim") - at(name, random, "bits/dim")
    assert abs(bits.mean()) < 0.06
    shown = at(name, blind, "point") / at(name, blind, "point, no noise shown")
    assert shown.min() > low and shown.max() < high
    assert mean(name, blind, "point") < most * mean(name, linear, "point")
    assert 0.45 < mean(name, blind, "rate") / mean(name, linear, "rate") < 0.67

# %% [markdown]
# ## A walk without noise
#
# In point mode the walk starts at zero and adds no noise: $x_t/b$ is a weighted mean of that zero and the estimates so far, a picture without noise. The free denoiser is told the level and can live with that. A noise-blind encoder cannot: half-way down it sees a clean picture in low contrast, and guides as if it were certain. Noise of the level, added and taken away, shows both networks what they were trained on (`Shown`). Here on digits, after a short training:

# %%
images = data.digits("train")
some = data.digits("test")[:100]
torch.manual_seed(0)
blind = SAMI((1, 8, 8), 8, width=8, encoder_width=12, begin="random")
fit(blind, images, steps=250, batch_size=64, lr=4e-3, ema=0.98, progress=False)
z = blind.encode(some)
with torch.no_grad():
    D = blind.denoiser(z)
    plain = sample(D, blind.path, some, 25, mode="point", clip=1.0).clamp(-1, 1)
ways = {"point, no noise": plain, "point, shown": blind.decode(z, steps=25),
        "sample": blind.decode(z, "sample", 25)}
error = {k: sqnorm(v - some).mean().item() / 256 for k, v in ways.items()}
assert error["point, shown"] < error["point, no noise"]
Table({k: 1000 * v for k, v in error.items()}, "walk", "squared error (10⁻³)")

# %%
#| label: fig-shown
#| fig-cap: 'Eight held-out digits and their decodes by a noise-blind SAMI after 250 steps. Points that are shown noise are a little nearer to the image than points without it; samples are noisier.'
#| fig-alt: 'Four rows of eight 8 by 8 digits: the images, points without noise, points that are shown noise, and samples. Both rows of points are blurred versions of the images, the samples are rougher and some are hard to recognise.'
plot_rows({"image": some[:8], **{k: v[:8] for k, v in ways.items()}})

# %% [markdown]
# For a linear estimate the pair of noises cancels exactly, and the point is the one that exact walks reach ([SAMI](../models/14_sami.ipynb)). For a network it is an average over noisy images around $x_t$. It costs two evaluations a step, and eight at the first, on which the whole walk hangs: from a single pair the error of ten steps differs by a factor of two between draws.
#
# ## What can go wrong
#
# * **Reading a falling rate as progress.** It may be silence. Look at `free` and `guided` in the history: their difference is what guidance takes off, the code's worth and whatever work the denoiser leaves to it.
# * **Comparing points of a noise-blind encoder with other people's.** A walk without noise that shows none measures how wrong the encoder reads its level.
# * **Principal components as an answer.** A linear beginning is a beginning. What is learned beyond it is the difference to PCA's row, with the same number of axes, and its draws.
# * **Larger images.** At 32×32 a joint training, whose denoiser began at random, lost a part of the linear beginning in its first steps ([How far a short training gets](../together/81_short_training.ipynb)). What a denoiser that begins as the Gaussian changes: [A head start](../together/82_head_start.ipynb).
# * **Today's beginning.** `told, begun linear` has a linear code and a random denoiser; now both begin as the Gaussian, also if the encoder is not told. None of that is in these tables.
# * **A few hundred steps.** Nothing here says where long trainings of large networks end; encoders begun at random may find their code later.
