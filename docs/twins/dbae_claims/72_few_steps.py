# %% [markdown]
# # Few steps
#
# > How many evaluations does a walk need? Released bridge samplers against one update on a good grid: on an oracle, and on trained digits.

# %% [markdown]
# Released bridge code reconstructs with 100 Euler steps of the probability-flow ODE, and samples with Heun and churn, 500 evaluations of the network [@zhou2024ddbm]. [Samplers](../foundations/08_samplers.ipynb) derived an update that is exact in all but $\hat x_0$, second order, on a grid that spends its steps where they count. This page shows what that buys, as curves over the number of evaluations. The numbers come from `bench/claims/few_steps.py`; a few are computed again here.
#
# *Stored trainings on this page are from before models began as [Gaussians](../foundations/09_gaussians.ipynb): a told SAMI began as the linear code, all other networks at random.*

# %%
#| hide
import json
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from fastcore.test import test_close

from scoreae import data
from scoreae.core.checks import sqnorm
from scoreae.core.pages import Table, paper
from scoreae.foundations import samplers
from scoreae.foundations.paths import Pinned, VPLinear
from scoreae.foundations.worlds import Mixture, denoiser
from scoreae.models.zoo import load

# %%
#| hide
paper()
root = Path() if Path("docs").exists() else Path("../..")
result = json.loads((root / "docs/results/few-steps.json").read_text())
curve = lambda world, name: {int(n): v for n, v in result[world][name].items()}
STYLES = {"ours": "C0-o", "ours, order 1": "C0--s", "ancestral": "C2-.^",
          "Euler": "C1-D", "Heun with churn": "C1-D"}


def plot(world, kind, names, yticks, ylabel, title, floor=None, yscale="log"):
    _, ax = plt.subplots()
    for name in names:
        found = curve(world, f"{kind}, {name}")
        error = result[world].get(f"{kind}, {name} +-")
        bars = [error[str(n)] for n in found] if error else None
        ax.errorbar(list(found), list(found.values()), bars, fmt=STYLES[name],
                    markersize=4, capsize=2, label=name)
    level = result[world][f"{kind}, {floor}"] if floor else 0
    if floor:
        ax.axhline(level["1"] if isinstance(level, dict) else level, color="0.4",
                   linestyle=":", label=floor)
    ax.set(xscale="log", yscale=yscale)
    low, high = ax.get_xlim()
    ticks = [n for n in (1, 3, 10, 30, 100, 300) if low < n < high]
    ax.set(xlabel="evaluations of the denoiser", ylabel=ylabel, title=title)
    ax.set(xticks=ticks, xticklabels=ticks, yticks=yticks, yticklabels=yticks)
    ax.minorticks_off()
    ax.legend()


def numbers(world, *names):
    "The values of some curves, a row for each number of evaluations."
    curves = {name: curve(world, name) for name in names}
    found = sorted({n for values in curves.values() for n in values})
    return Table({n: {name: values.get(n, "") for name, values in curves.items()}
                  for n in found}, name="evaluations", digits=4)


# %% [markdown]
# ## On an oracle
#
# On the line, let $x_0$ given $x_T$ be a mixture of two humps. The exact denoiser is known, and so are the answers: the point is the *median*, a sample follows the mixture. The error of a point is its distance from the median. That of 10 000 samples is their Wasserstein distance from the mixture, $\int_0^1|F^{-1}_{\text{samples}}-F^{-1}|$, by sorting. Exact draws have one too, from their finite number (dotted), and it varies: one set of draws says little. The curves are means over ten seeds, with standard errors.

# %%
#| label: fig-oracle-points
#| fig-cap: 'Distance of the point from the median. Ten evaluations of our update are closer than a hundred Euler steps; at three its error happens to cross zero.'
#| fig-alt: 'Line chart with two logarithmic axes: distance from the median against evaluations of the denoiser. Our curve falls from 0.27 at one evaluation to 0.0006 at 25, with a deep dip at three. The curve of Euler falls slowly, from 0.14 at five to 0.02 at a hundred.'
plot("oracle", "point", ("ours", "Euler"), (0.0001, 0.001, 0.01, 0.1),
     "distance from the median", "Points, exact denoiser")

# %%
#| label: fig-oracle-samples
#| fig-cap: 'Wasserstein distance of 10 000 samples from the mixture, means over ten seeds with standard errors. Our update is within the errors of exact draws (dotted) at 25 evaluations, Heun with churn at 500.'
#| fig-alt: 'Line chart with two logarithmic axes: Wasserstein distance against evaluations. Four falling curves with error bars and a dotted level at 0.0064. The curve of our update is the lowest at each number of evaluations from five on, its first order variant and the ancestral sampler are above it, and Heun with churn starts highest and reaches the level last.'
names = ("ours", "ours, order 1", "ancestral", "Heun with churn")
plot("oracle", "samples", names, (0.01, 0.03, 0.1, 0.3), "Wasserstein distance",
     "Samples, exact denoiser", "exact draws")

# %%
numbers("oracle", "point, ours", "point, Euler", "samples, ours",
        "samples, ours, order 1", "samples, Heun with churn")

# %% [markdown]
# Computed again, for one number of each kind:

# %%
f64 = lambda *v: torch.tensor(v, dtype=torch.float64)
humps = Mixture(f64(0.7, 0.3), f64(-0.5, 0.6)[:, None],
                f64(0.1**2, 0.15**2)[:, None, None])
path, xT = Pinned(VPLinear(0.1, 2.0)), f64(0.7)[None]
at, spread = torch.linspace(-2, 2, 400_001, dtype=torch.float64), humps.covs[:, 0, 0]
below = torch.special.ndtr((at[:, None] - humps.means[:, 0]) / spread.sqrt())
cdf = (below * humps.weights).sum(1)
median, D = at[torch.searchsorted(cdf, 0.5)], denoiser(humps, path, xT)
point = samplers.sample(D, path, xT, 10, xT=xT, mode="point")
times = samplers.time_grid(path, 101, "karras")[1:]
euler = samplers.integrate(D, path, xT, times, xT=xT, method="euler")
for found, name, n in ((point, "ours", 10), (euler, "Euler", 100)):
    error = (found - median).abs().item()
    test_close(error, curve("oracle", f"point, {name}")[n], eps=2e-5)

# %% [markdown]
# ## On digits
#
# The trained DBAE of [Edits](../use/42_edits.ipynb). Points: the squared error of reconstructions of test images, on $[0,1]$. Samples: codes from its diffusion prior, the same for all samplers, decoded; their Fréchet distance from test images, in the features of a small classifier ([Distributions](../measures/31_distributions.ipynb)), beside that of real training images (dotted); two seeds. One number is computed again.

# %%
#| label: fig-digits-points
#| fig-cap: 'Squared error of reconstructed test digits, on $[0,1]$. One evaluation is as good as a hundred: all values lie between 0.0062 and 0.0064.'
#| fig-alt: 'Line chart: mean squared error, from 0 to 0.01, against evaluations of the denoiser, logarithmic. Two flat curves lie close together just above 0.006; that of Euler is the lower one by a hair.'
plot("digits", "point", ("ours", "Euler"), (0, 0.002, 0.004, 0.006, 0.008, 0.01),
     "mean squared error", "Reconstruction, trained DBAE", yscale="linear")

# %%
again = load(root / "weights/digits-dbae")
x = data.digits("test")
error = sqnorm(again.reconstruct(x, steps=5) - x).mean().item() / 64 / 4
test_close(error, curve("digits", "point, ours")[5], eps=1e-4)

# %%
#| label: fig-digits-samples
#| fig-cap: 'Fréchet distance of samples from test digits, means over two seeds with standard errors. Our update is at its level from two evaluations on, Heun with churn from twenty; real images (dotted) are far below.'
#| fig-alt: 'Line chart with two logarithmic axes: Fréchet distance against evaluations. The two curves of our update are flat near 0.6. Heun with churn falls from 8 at five evaluations to 0.6 at twenty and is flat from there. A dotted level of real images lies at 0.17.'
names = ("ours", "ours, order 1", "Heun with churn")
plot("digits", "samples", names, (0.2, 0.5, 1, 2, 5), "Fréchet distance (classifier)",
     "Samples from the prior, trained DBAE", "real images")

# %%
numbers("digits", "point, ours", "point, Euler", "samples, ours",
        "samples, ours, order 1", "samples, Heun with churn")


# %% [markdown]
# **The noise of the draws, taken out.** With $\eta=0$ a sample is a function of its first noise, rising on the line. Let that noise be the 2000 equally likely normal quantiles: the result's distance from the mixture is the solver's own error, without any draws. At 25 evaluations it is smaller than what 10 000 exact draws are off. Much of it comes from the second step, which is first order, because the step before it is infinite in $\log\gamma$. Near the end of a bridge the estimate is linear in $\kappa=1/\sigma_y=\sqrt\gamma$: there $\hat x_0-m\approx\operatorname{Cov}(x_0)\,\varepsilon\,\kappa$. So is the walk, $d(y\kappa)/d\kappa=\hat x_0$, and the second step of Adams and Bashforth in $\kappa$,
#
# $$\bar x_0=\hat x_0+\frac{\kappa_2-\kappa_1}{2\,\kappa_1}\,(\hat x_0-m),$$ {#eq-few-second}
#
# makes it second order. The cell does this, in the last line of its loop.

# %%
def quantiles(n, corrected, scale=0.3):
    "The walk of `samplers.sample` in y, from the quantiles of the first noise."
    eps = torch.special.ndtri(grid)[:, None]
    times = samplers.time_grid(path, n, scale=scale)
    kappa, D = path.gamma(times[:-1]).sqrt(), denoiser(humps, path, xT.expand(2000, 1))
    m = (humps.weights[:, None] * humps.means).sum(0)
    last, y = m.expand(2000, 1), m + eps / kappa[1]
    for i in range(1, n):
        a, b, _ = path.coefs(times[i])
        x0 = D(a * xT + b * y, times[i].expand(2000))
        if i == n - 1: return x0
        keep = kappa[i] / kappa[i + 1]
        weight = corrected * (kappa[2] - kappa[1]) / (2 * kappa[1])  # second step
        if i > 1: weight = -keep.log() / (2 * (kappa[i] / kappa[i - 1]).log())
        y, last = keep * y + (1 - keep) * (x0 + weight * (x0 - last)), x0


# %%
grid = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000


def distance(x):
    "From the mixture, by its quantiles."
    exact = at[torch.searchsorted(cdf, grid)]
    return (x[:, 0].sort().values - exact).abs().mean().item()


own = {n: [distance(quantiles(n, c)) for c in (False, True)] for n in (10, 25, 50)}
assert own[25][0] < result["oracle"]["samples, exact draws"]["1"]
for first, second in own.values(): assert second < 0.85 * first
Table({n: {"as in the library": f"{v:.4f}", "corrected": f"{w:.4f}"}
       for n, (v, w) in own.items()}, name="evaluations")


# %% [markdown]
# On the trained digits there is little to gain by it: the distance of 10-evaluation samples from converged ones, of the same first noise, changes by less than two per cent. So the sampler keeps its one rule for steps.

# %%
def walked(n, corrected):
    "Samples for the codes of test images, from the same noise."
    levels = [samplers.Level(*k)
              for k in zip(*samplers.noise_level(again.path, times(n)), strict=True)]
    y, last, before, g = end, None, None, torch.Generator().manual_seed(0)
    for here, there in pairwise(levels):
        x0 = bar = D_end(y, here.t.expand(len(y))).clamp(-1, 1)
        step = (there.gamma / here.gamma).log() / 2
        if last is not None and step.isfinite():
            kappa = here.gamma.sqrt(), there.gamma.sqrt()
            weight = corrected * (kappa[1] - kappa[0]) / (2 * kappa[0])
            if before.isfinite(): weight = step / (2 * before)
            bar = x0 + float(weight) * (x0 - last)
        y = samplers.update(y, bar, here, there, end, 0.0, "sample", g)
        last, before = x0, step
    return y


times = lambda n: samplers.time_grid(again.path, n)
with torch.no_grad():
    codes = again.encode(x[:100])
    end, D_end = again.endpoint(codes), again.denoiser(codes, again.endpoint(codes))
    test_close(again.decode(codes, "sample", 10, seed=0), walked(10, False), eps=1e-5)
    settled = walked(200, False)
    off = [sqnorm(walked(10, c) - settled).mean().item() ** 0.5 for c in (False, True)]
assert abs(off[1] / off[0] - 1) < 0.02
f"corrected / as it is: {off[1] / off[0]:.4f}"

# %% [markdown]
# **What the curves say.** *Points.* On the oracle, ten evaluations of the update are closer to the median than a hundred Euler steps, whose start at $T-10^{-4}$ leaves a bias. (At three, the curve happens to cross zero.) On the trained digits there is nothing to gain: one evaluation is as good as a hundred, for at $T$ the denoiser is a plain decoder of the code ([DBAE](../models/15_dbae.ipynb)), and this one a good one. All curves there lie within two per cent; Euler's are the lower ones, by less than one.
#
# *Samples.* On both worlds, 25 evaluations of the update are as good as 500 of Heun with churn, within the error of the draws; on the oracle, also as good as exact draws. On the digits ten are. (The two samplers share the codes there, so that their difference is surer than the bars.) First order is not enough on the oracle: it is twice as far off at 25.

# %%
oracle, digits = ({k: curve(w, k) for k in result[w] if isinstance(result[w][k], dict)}
                  for w in ("oracle", "digits"))
churn = "samples, Heun with churn"
assert oracle["point, ours"][10] < oracle["point, Euler"][100] / 4
assert abs(digits["point, ours"][10] / digits["point, Euler"][100] - 1) < 0.02
for world in (oracle, digits):
    error = (world["samples, ours +-"][25] ** 2 + world[f"{churn} +-"][500] ** 2) ** 0.5
    assert world["samples, ours"][25] < world[churn][500] + error
assert digits["samples, ours"][10] < digits[churn][500]
assert oracle["samples, ours, order 1"][25] > 2 * oracle["samples, ours"][25]
ratio = lambda world: f"{world['point, ours'][10] / world['point, Euler'][100]:.2f}"
told = lambda world, name, n: f"{world[name][n]:.4f} ± {world[name + ' +-'][n]:.4f}"
rows = {"point: ours at 10 over Euler at 100": ratio}
rows["samples: ours at 25"] = lambda world: told(world, "samples, ours", 25)
rows["samples: Heun with churn at 500"] = lambda world: told(world, churn, 500)
worlds = {"oracle": oracle, "digits": digits}
rows = {k: {name: f(world) for name, world in worlds.items()} for k, f in rows.items()}
rows["samples: exact draws"] = {"oracle": told(oracle, "samples, exact draws", 1)}
Table(rows, name="error")

# %% [markdown]
# ## The start of the walk
#
# DBAE's start is decoded from the code, one pass through two small networks. DiffAE's is found by running its ODE backwards, here with 101 evaluations of the same U-Net, for the same 397 test images on one thread. The ratio is the median over interleaved rounds. The two starts are not worth the same: DiffAE's returns the image itself, DBAE's what is in the code.

# %%
start = result["start"]
inverted = start["mean squared error of DiffAE from inverted noise"]
Table({k: {"milliseconds": f"{v:.0f}"}
       for k, v in start["milliseconds (median)"].items()}, name="start of the walk")

# %%
ratio = start["ratio (median of rounds)"]
f"ratio {ratio:.0f}; squared error of DiffAE from inverted noise {inverted:.1e}"

# %% [markdown]
# ## What can go wrong
#
# * **Counting steps instead of evaluations.** Heun asks twice per step, churn a third time.
# * **Comparing single draws.** On the oracle, single sets of 10 000 draws of two equally good samplers differed by a factor of 2.8.
# * **Comparing at one number of evaluations.** A sampler that has converged cannot be beaten, only matched sooner.
# * **Reading a low error as a good sampler.** A trained network's own error is a floor for all of them; where the curves are flat they say nothing about samplers.
