# %% [markdown]
# # Few steps
#
# > How many evaluations does a walk need? Released bridge samplers against one update on a good grid: on an oracle, and on trained digits.

# %% [markdown]
# Released bridge code reconstructs with 100 Euler steps of the probability-flow ODE, and samples with Heun and churn, 500 evaluations of the network [@zhou2024ddbm]. [06_samplers](06_samplers.ipynb) derived an update that is exact in all but $\hat x_0$, second order, on a grid that spends its steps where they count. This page shows what that buys, as curves over the number of evaluations. The numbers come from `bench/few_steps.py`; a few are computed again here.

# %%
#| hide
import json
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from fastcore.test import test_close

from scoreae import data, samplers
from scoreae.core import sqnorm
from scoreae.oracle import Mixture, denoiser
from scoreae.paths import Pinned, VPLinear
from scoreae.zoo import load

# %%
#| hide
plt.style.use("scoreae.paper")
root = Path() if Path("docs").exists() else Path("..")
result = json.loads((root / "docs/results/few-steps.json").read_text())
curve = lambda world, name: {int(n): v for n, v in result[world][name].items()}
STYLES = {"ours": "C0-o", "ours, order 1": "C0--s", "ancestral": "C2-.^", "Euler": "C1-D", "Heun with churn": "C1-D"}


def plot(world, kind, names, ylabel, title, floor=None):
    _, ax = plt.subplots()
    for name in names:
        found = curve(world, f"{kind}, {name}")
        ax.loglog(list(found), [max(v, 1e-7) for v in found.values()], STYLES[name], markersize=4, label=name)
    if floor: ax.axhline(result[world][f"{kind}, {floor}"], color="0.4", linestyle=":", label=floor)
    ax.set(xlabel="evaluations of the denoiser", ylabel=ylabel, title=title)
    ax.legend()


# %% [markdown]
# ## On an oracle
#
# On the line, let $x_0$ given $x_T$ be a mixture of two humps. The exact denoiser is known, and so are the answers: the point is the *median*, a sample follows the mixture. The error of a point is its distance from the median. That of 10 000 samples is their Wasserstein distance from the mixture, $\int_0^1|F^{-1}_{\text{samples}}-F^{-1}|$, by sorting; exact draws have one too, from their finite number (dotted).

# %%
plot("oracle", "point", ("ours", "Euler"), "distance from the median", "Points, exact denoiser")
{k: curve("oracle", k) for k in ("point, ours", "point, Euler")}

# %%
names = ("ours", "ours, order 1", "ancestral", "Heun with churn")
plot("oracle", "samples", names, "Wasserstein distance", "Samples, exact denoiser", "exact draws")
{k: curve("oracle", k) for k in ("samples, ours", "samples, Heun with churn")}

# %% [markdown]
# Computed again, for one number of each kind:

# %%
f64 = lambda *v: torch.tensor(v, dtype=torch.float64)
humps = Mixture(f64(0.7, 0.3), f64(-0.5, 0.6)[:, None], f64(0.1**2, 0.15**2)[:, None, None])
path, xT = Pinned(VPLinear(0.1, 2.0)), f64(0.7)[None]
at = torch.linspace(-1, 1, 200_001, dtype=torch.float64)
cdf = (torch.special.ndtr((at[:, None] - humps.means[:, 0]) / humps.covs[:, 0, 0].sqrt()) * humps.weights).sum(1)
median, D = at[torch.searchsorted(cdf, 0.5)], denoiser(humps, path, xT)
point = samplers.sample(D, path, xT, 10, xT=xT, mode="point")
euler = samplers.integrate(D, path, xT, samplers.time_grid(path, 101, "karras")[1:], xT=xT, method="euler")
test_close((point - median).abs().item(), curve("oracle", "point, ours")[10], eps=2e-5)
test_close((euler - median).abs().item(), curve("oracle", "point, Euler")[100], eps=2e-5)

# %% [markdown]
# ## On digits
#
# The trained DBAE of [16_edits](16_edits.ipynb). Points: the squared error of reconstructions of test images, on $[0,1]$. Samples: codes from its diffusion prior, the same for all samplers, decoded; their Fréchet distance from test images, in the features of a small classifier ([29_generation](29_generation.ipynb)), beside that of real training images (dotted).

# %%
plot("digits", "point", ("ours", "Euler"), "mean squared error", "Reconstruction, trained DBAE")
plt.gca().set(yscale="linear", ylim=(0, 0.008))
again = load(root / "weights/digits-dbae")
x = data.digits("test")
error = sqnorm(again.reconstruct(x, steps=5) - x).mean().item() / 64 / 4
test_close(error, curve("digits", "point, ours")[5], eps=1e-4)
{k: curve("digits", k) for k in ("point, ours", "point, Euler")}

# %%
names = ("ours", "ours, order 1", "Heun with churn")
plot("digits", "samples", names, "Fréchet distance (classifier)", "Samples from the prior, trained DBAE", "real images")
{k: curve("digits", k) for k in ("samples, ours", "samples, Heun with churn")}

# %% [markdown]
# **What the curves say.** *Points.* On the oracle, ten evaluations of the update are closer to the median than a hundred Euler steps, whose start at $T-10^{-4}$ leaves a bias. (At three, the curve happens to cross zero.) On the trained digits there is nothing to gain: one evaluation is as good as a hundred, because for a narrow $p(x_0|z)$ the first estimate is already the answer.
#
# *Samples.* On the digits, ten evaluations of the update give samples no worse than 500 of Heun with churn. On the oracle they do not: at 25 evaluations the update is where churn is after about a hundred, and churn at 500 is better than both, down to the noise of the draws. Two separate humps ask more of a sampler than a trained network's narrow posterior does. For *exact* samples of a known multi-modal law, take more steps than 25.

# %%
oracle, digits = ({k: curve(w, k) for k in result[w] if isinstance(result[w][k], dict)} for w in ("oracle", "digits"))
churn = "samples, Heun with churn"
assert oracle["point, ours"][10] < oracle["point, Euler"][100] / 4
assert abs(digits["point, ours"][10] / digits["point, Euler"][100] - 1) < 0.02
assert digits["samples, ours"][10] < digits[churn][500]
assert oracle[churn][500] < oracle["samples, ours"][25] < oracle[churn][98]
ratio = lambda v, w: f"x {v / w:.2f}"
{
    "point, 10 against Euler 100": {"oracle": ratio(oracle["point, ours"][10], oracle["point, Euler"][100]),
                                    "digits": ratio(digits["point, ours"][10], digits["point, Euler"][100])},
    "samples, 25 against churn 500": {"oracle": ratio(oracle["samples, ours"][25], oracle[churn][500]),
                                      "digits": ratio(digits["samples, ours"][25], digits[churn][500])},
}  # fmt: skip

# %% [markdown]
# ## The start of the walk
#
# DBAE's start is decoded from the code, one pass through two small networks. DiffAE's is found by running its ODE backwards, here with 101 evaluations of the same U-Net, for the same test images on one thread. The ratio is the median over interleaved rounds. The two starts are not worth the same: DiffAE's returns the image itself, DBAE's what is in the code.

# %%
result["start"]

# %% [markdown]
# ## What can go wrong
#
# * **Counting steps instead of evaluations.** Heun asks twice per step, churn a third time.
# * **Comparing at one number of evaluations.** A sampler that has converged cannot be beaten, only matched sooner.
# * **Reading a low error as a good sampler.** A trained network's own error is a floor for all of them; where the curves are flat they say nothing about samplers.
