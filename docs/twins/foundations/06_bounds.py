# %% [markdown]
# # Bounds
#
# > One integral bounds the likelihood of every model: the squared error of the estimate, integrated over signal-to-noise ratio.

# %% [markdown]
# How good is a model, in a number that is comparable between a VAE, a diffusion model, SAMI and DBAE? The likelihood $\log p(x)$ would be one, but none of them can compute it. Each has a lower bound on it, and the four bounds are the same function. This page derives it, and turns it into an estimator with a known standard error. [Gaps](07_gaps.ipynb) says what it misses.

# %%
#| default_exp foundations.bounds

# %%
#| exports
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scoreae.core.checks import randn_like, require, require_choice, require_int, require_number, rng, sqnorm
from scoreae.foundations.paths import Path, Pinned
from scoreae.foundations.scores import Stats, residual, scalings

# %%
#| hide
import matplotlib.pyplot as plt
from fastcore.test import expect_fail, test_close, test_eq
from torch.distributions import Normal, kl_divergence

from scoreae.core.checks import bcast
from scoreae.core.pages import Table, paper
from scoreae.foundations.paths import VE, VPCosine, VPLinear
from scoreae.foundations.scores import from_x0
from scoreae.foundations.tools import condition, gaussian_kl
from scoreae.foundations.worlds import Mixture, denoiser, gaussian, log_density

# %%
#| hide
paper()
f64 = lambda *v: torch.tensor(v, dtype=torch.float64)
g = torch.Generator().manual_seed(0)
noise = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)
cosine, bridge = VPCosine(-20.0), Pinned(VPLinear(0.1, 2.0))

# %% [markdown]
# ## One step costs ½ Δγ ‖error‖²
#
# As in [Bridges](05_bridges.ipynb), take the endpoint off and scale the signal to one: $y_\gamma=(x_t-a\,x_T)/b=x_0+\gamma^{-1/2}\varepsilon$. A diffusion and a bridge now differ only in the range of $\gamma$. Let $\gamma_s>\gamma_t$ be two levels, $y_t$ being $y_s$ with more noise: $y_t=y_s+\sqrt{1/\gamma_t-1/\gamma_s}\;\varepsilon'$. To go back from $y_t$ to $y_s$ with $x_0$ known is to combine two Gaussian observations of $y_s$: $x_0$, of variance $1/\gamma_s$, and $y_t$, of variance $1/\gamma_t-1/\gamma_s$. Their precisions $\gamma_s$ and $\gamma_s\gamma_t/(\gamma_s-\gamma_t)$ add up to $\gamma_s^2/(\gamma_s-\gamma_t)$, and the mean weighs them accordingly:
#
# $$q(y_s|y_t,x_0)=\mathcal N\Big(\big(1-\tfrac{\gamma_t}{\gamma_s}\big)\,x_0+\tfrac{\gamma_t}{\gamma_s}\,y_t,\ \ \tfrac{\gamma_s-\gamma_t}{\gamma_s^2}I\Big).$$ {#eq-back}
#
# A model puts its estimate $\hat x_0(y_t)$ in the place of $x_0$. Between Gaussians of equal variance the divergence is the squared distance of the means over twice that variance ([Tools](01_tools.ipynb)):
#
# $$\mathrm{KL}=\frac{(1-\gamma_t/\gamma_s)^2\,\|x_0-\hat x_0\|^2}{2(\gamma_s-\gamma_t)/\gamma_s^2}=\tfrac12(\gamma_s-\gamma_t)\,\|x_0-\hat x_0\|^2.$$ {#eq-step}
#
# **A step costs half the SNR it gains, times the squared error of the estimate.** The check conditions the joint covariance of $(y_s,y_t)$, and takes torch's divergence.

# %%
x0, x0_hat, y_t = noise(9), noise(9), noise(9)
for gamma_s, gamma_t in [(2.0, 1.0), (50.0, 0.3), (1.01, 1.0)]:
    slope = (1 / gamma_s) / (1 / gamma_t)  # covariance over the variance of y_t
    spread = (1 / gamma_s - slope / gamma_s) ** 0.5
    exact, model = (Normal(x + slope * (y_t - x), spread) for x in (x0, x0_hat))
    cost = (gamma_s - gamma_t) / 2 * (x0 - x0_hat) ** 2
    test_close(kl_divergence(exact, model), cost, eps=1e-10)

# %% [markdown]
# ## The bound
#
# A chain of images $y_{\gamma_n},\dots,y_{\gamma_0}$ from noisy ($\gamma_n=\gamma_{\min}$) to clean ($\gamma_0=\gamma_{\max}$) is a model $p$ of $x_0$ with hidden variables: a start, the $n$ steps above, and a last one, $p(x_0|y_{\gamma_0})$. Nature $q$ makes the chain the other way, adding noise. Write $y_i$ for $y_{\gamma_i}$. Jensen's inequality says $\log p(x_0)\ge\mathbb E_q\log\frac{p(x_0,y)}{q(y|x_0)}$. Turn nature's steps round by Bayes' rule at fixed $x_0$,
#
# $$q(y_{0:n}|x_0)=q(y_0|x_0)\prod_{i=1}^nq(y_{i-1}|y_i,x_0)\frac{q(y_i|x_0)}{q(y_{i-1}|x_0)}=q(y_n|x_0)\prod_{i=1}^nq(y_{i-1}|y_i,x_0):$$
#
# the fractions telescope, and nature runs in the model's direction ([Tools](01_tools.ipynb)). Factor now meets factor [@sohldickstein2015; @ho2020ddpm; @kingma2021vdm]:
#
# $$\begin{aligned}\log p(x_0)\ge{}&\underbrace{\mathbb E\log p(x_0|y_0)}_{R_0}-\sum_{i=1}^n\tfrac12(\gamma_{i-1}-\gamma_i)\,\mathbb E\|x_0-\hat x_0(y_i)\|^2\\&-\underbrace{\mathrm{KL}(q(y_n|x_0)\,\|\,\text{start})}_{S(x_0)}.\end{aligned}$$ {#eq-discrete}
#
# First check: $n=3$ and an estimate that is, wrongly, a multiple of $y_i$. Model and nature are then jointly Gaussian, $\log p(x_0)$ is known, and what @eq-discrete loses must be $\mathrm{KL}(q(y|x_0)\,\|\,p(y|x_0))$.

# %%
levels, guess = f64(20.0, 4.0, 1.0, 0.2), f64(0.9, 0.7, 0.3)  # x0_hat / y_i
cov = f64(4.0)[None]  # of y_3 as the model starts it; below of (y_0, ..., y_3)
for i in (3, 2, 1):
    kept, fresh = levels[i] / levels[i - 1], 1 / levels[i - 1]
    slope = kept + (1 - kept) * guess[i - 1]
    row = slope * cov[:1]
    corner = slope**2 * cov[:1, :1] + fresh * (1 - kept)
    cov = torch.cat([torch.cat([corner, row], 1), torch.cat([row.T, cov], 1)])
gain, left = condition(cov, f64(1, 0, 0, 0)[None], 1 / levels[:1, None])

x0, spread = f64(-1.5, 0.0, 0.4, 2.0), 1 / levels  # of y_i given x_0, in nature
log_p = Normal(0, (cov[0, 0] + spread[0]).sqrt()).log_prob(x0)
error = (1 - guess) ** 2 * x0[:, None] ** 2 + guess**2 * spread[1:]
costs = {"last step": (2 * math.pi * math.e * spread[0]).log().expand(4) / 2,
         "steps": ((levels[:-1] - levels[1:]) * error).sum(1) / 2,
         "start": kl_divergence(Normal(x0, spread[3].sqrt()), Normal(0, f64(2.0)[0]))}
nature = torch.minimum(spread[:, None], spread)
lost = [gaussian_kl(x.expand(4), nature, gain[:, 0] * x, left) for x in x0]
bound = -sum(costs.values())
test_close(log_p - bound, torch.stack(lost), eps=1e-9)
Table([{"$x_0$": x.item(), r"$\log p(x_0)$": p.item(), "bound": b.item(),
        "lost": k.item()} for x, p, b, k in zip(x0, log_p, bound, lost, strict=True)])

# %% [markdown]
# Let the steps become infinitely fine; each number of steps is its own model, and $p$ now their limit. With $x_\gamma$ for $x_t$ at the time when the level is $\gamma$,
#
# $$\boxed{\ \log p(x_0)\ \ge\ R_0-\tfrac12\int_{\gamma_{\min}}^{\gamma_{\max}}\mathbb E_\varepsilon\|x_0-\hat x_0(x_\gamma,\gamma)\|^2\,d\gamma-S(x_0)\ }$$ {#eq-bound}
#
# Are fine steps better? *On average over images, with an exact estimate*, the error is the mean posterior variance, and seeing $x_0$ with less noise cannot raise that (total variance, [Tools](01_tools.ipynb)): it falls as $\gamma$ grows. The sum takes it at the noisy end of each step: an upper Riemann sum, which every refinement lowers. For a single image, or a wrong estimate, this need not hold; the limit is a bound all the same.
#
# Second check: Gaussian data with independent coordinates of variance $\ell_i$ have $\mathbb E\|x_0-\mathbb E[x_0|y]\|^2=\sum_i\ell_i/(1+\ell_i\gamma)$ ([Worlds in closed form](03_worlds.ipynb)), half of whose integral is $\tfrac12\sum_i\log\frac{1+\ell_i\gamma_{\max}}{1+\ell_i\gamma_{\min}}$. @eq-discrete must fall towards it.

# %%
variances = f64(3.0, 1.0, 0.3, 0.1)
high, low = math.exp(10), math.exp(-10)
integral = torch.log((1 + variances * high) / (1 + variances * low)).sum() / 2


def chain_cost(n):
    ends = (float(cosine.t_of_gamma(gamma)) for gamma in (high, low))
    gammas = cosine.gamma(torch.linspace(*ends, n + 1, dtype=torch.float64))
    errors = (variances / (1 + variances * gammas[1:, None])).sum(1)
    return ((gammas[:-1] - gammas[1:]) * errors).sum() / 2


costs = {n: round(chain_cost(n).item(), 3) for n in (100, 500, 1000, 4000, 16000)}
falling = sorted(costs.values(), reverse=True)
assert list(costs.values()) == falling and costs[16000] > integral
Table(costs | {"∞, the integral": integral.item()}, "steps", "cost [nats]", digits=5)

# %% [markdown]
# ## The start
#
# Two kinds are in use, with divergences of Gaussians ([Tools](01_tools.ipynb)); in $x$ or in $y$, since rescaling both laws changes none.
#
# * `"prior"`, a diffusion: a fixed law. For VP it is $\mathcal N(0,I)$ and $S=\tfrac12[b^2\|x_0\|^2+d(c^2-1-\log c^2)]$ at $\gamma_{\min}$. For VE it is $\mathcal N(0,c^2I)$ and $S=\tfrac12\gamma_{\min}\|x_0\|^2$.
# * `"model"`, a bridge or a VAE: the model starts around its own estimate $m$ at the far end (from $z$ and $x_T$, not the noise): $\mathcal N(a\,x_T+b\,m,\,c^2I)$. Then $S=\tfrac12\gamma_{\min}\|x_0-m\|^2$, which vanishes as $\gamma_{\min}\to0$.

# %%
#| exports
STARTS = ("prior", "model")


def start_kl(path: Path, sq: Tensor, dims: int, gamma_min: float, start: str) -> Tensor:
    """S(x_0) in nats, (N,): the mismatch at the noisy end, for images of `dims` values.

    `start` "prior" (not on a bridge): `sq` = ||x_0||^2, against N(0, I) on VP, N(0, c^2 I) on VE.
    `start` "model": `sq` = ||x_0 - m||^2, against N(a x_T + b m, c^2 I).
    """
    require_choice(start, "start", STARTS)
    require(start == "model" or not isinstance(path, Pinned), "start", start, "'model' on a bridge")
    if start == "model" or not path.vp: return sq * gamma_min / 2
    _, b, c = (float(k) for k in path.coefs(path.t_of_gamma(gamma_min)))
    return (b**2 * sq + dims * (c**2 - 1 - 2 * math.log(c))) / 2


# %%
x0, m, xT = noise(6, 3), noise(6, 3), noise(6, 3)
priors, models = (VPCosine(), VE()), (VPCosine(), bridge)
for path, start in [(p, "prior") for p in priors] + [(p, "model") for p in models]:
    for gamma_min in (0.01, 1.0):
        a, b, c = path.coefs(path.t_of_gamma(gamma_min))  # a = 0 on a diffusion
        if start == "model": begins, sq = Normal(a * xT + b * m, c), sqnorm(x0 - m)
        else: begins, sq = Normal(0 * x0, 1.0 if path.vp else c), sqnorm(x0)
        exact = kl_divergence(Normal(a * xT + b * x0, c), begins).sum(1)
        test_close(start_kl(path, sq, 3, gamma_min, start), exact, eps=1e-9)

# %% [markdown]
# ## The last step
#
# With $p(x_0|y)=\mathcal N(x_0;\,y,\,1/\gamma_{\max})$ the last step is $R_0=-\tfrac d2(\log2\pi e-\log\gamma_{\max})$. It needs no network. Images, however, are made of $L$ grey levels $v_k$, and their bound should be a probability: $P(v_k|y)\propto\mathcal N(y;v_k,1/\gamma_{\max})$, a sum over levels for each pixel. Ten standard deviations around the level nearest to $y$ are enough for double precision. The default $\gamma_{\max}=(5(L-1))^2$ puts neighbouring levels ten standard deviations apart: $R_0\approx0$, since $y$ leaves no doubt about the level. The check sums over *all* levels.

# %%
#| exports
MOST_LEVELS = 2**16


def default_gamma_max(levels: int) -> float:
    "The SNR at which `levels` (2 to 65536) grey values on [-1, 1] lie ten standard deviations apart."
    return (5.0 * (require_int(levels, "levels", 2, MOST_LEVELS) - 1)) ** 2


def last_step(x0: Tensor, gamma_max: float, levels: int | None = None, eps: Tensor | None = None) -> Tensor:
    """-R_0 in nats, (N,), for images (N, ...): of a Gaussian density, or of a probability of grey levels.

    With `levels` (2 to 65536) on [-1, 1], -log P of each image's levels given y = x_0 + eps / sqrt(gamma_max),
    where `eps` is noise, or any vector. `ValueError` if a value is further than 1 % of a step from every level.
    """
    if levels is None: return x0.new_full((len(x0),), x0[0].numel() / 2 * math.log(2 * math.pi * math.e / gamma_max))
    step, top = 2 / (require_int(levels, "levels", 2, MOST_LEVELS) - 1), levels - 1
    require(eps is not None, "eps", eps, "noise of the shape of x0")
    k = ((x0 + 1) / step).round()
    off = float(((x0 + 1) / step - k.clamp(0, top)).abs().max())
    want = f"images on {levels} equally spaced levels in [-1, 1]"
    require(off < 0.01, "x", f"an image {off:.2g} steps away from any level", want)
    shift = eps / math.sqrt(gamma_max)  # y - x_0
    near = (k + (shift / step).round()).clamp(0, top)
    gap = shift + (k - near) * step  # from the nearest level to y
    window = min(top, math.ceil(10 / (step * math.sqrt(gamma_max))) + 1)
    total = torch.full_like(shift, -math.inf)
    for j in range(-window, window + 1):
        inside = (near + j >= 0) & (near + j <= top)
        total = torch.logaddexp(total, torch.where(inside, -gamma_max / 2 * (gap - j * step) ** 2, -math.inf))
    return (total + gamma_max / 2 * shift**2).flatten(1).sum(1)


# %%
x = torch.randint(0, 17, (200, 1, 4, 4), generator=g).double() / 8 - 1
grey = torch.linspace(-1, 1, 17, dtype=torch.float64)
true, far = ((x + 1) * 8).round().long()[..., None], default_gamma_max(17)
for gamma, size in [(1e3, 1.0), (10.0, 1.0), (1e3, 40.0), (far, 300.0)]:
    e = size * noise(*x.shape)
    logits = -gamma / 2 * ((x + e / gamma**0.5)[..., None] - grey) ** 2
    every = -torch.log_softmax(logits, -1).gather(-1, true)[..., 0].flatten(1).sum(1)
    test_close(last_step(x, gamma, 17, e) / (1 + every), every / (1 + every), eps=1e-10)
assert last_step(x, default_gamma_max(17), 17, noise(*x.shape)).max() < 1e-3
fine = (torch.randint(0, 2**16, (2, 1, 4, 4), generator=g) / 65535 * 2 - 1).float()
assert last_step(fine, default_gamma_max(2**16), 2**16, noise(2, 1, 4, 4)).max() < 1e-3
default = {L: math.log(default_gamma_max(L)) for L in (17, 256)}
Table(default, "grey levels $L$", r"default $\log\gamma_{\max}$", digits=4)

# %%
with expect_fail(ValueError, contains="start: expected 'model' on a bridge"):
    start_kl(bridge, exact, 3, 0.1, "prior")
with expect_fail(ValueError, contains="17 equally spaced levels"):
    last_step(x + 0.03, 1e3, 17, e)


# %% [markdown]
# ## The estimator
#
# Change variables to $u=\log\gamma$. Since $\gamma\|x_0-\hat x_0\|^2=\|\varepsilon-\hat\varepsilon\|^2$, the integral is $\tfrac12\int\mathbb E\|\varepsilon-\hat\varepsilon\|^2du$. Cut the range into $n$ strata and draw one level in each:
#
# $$\begin{aligned}&\tfrac12\int\mathbb E\|\varepsilon-\hat\varepsilon\|^2\,du\approx\dfrac{u_{\max}-u_{\min}}{2n}\sum_{i=0}^{n-1}\|\varepsilon_i-\hat\varepsilon_i\|^2,\\&u_i=u_{\min}+(i+\xi_i)\dfrac{u_{\max}-u_{\min}}n,\end{aligned}$$ {#eq-strata}
#
# with $\xi_i$ uniform on $[0,1]$. Each term is unbiased for the integral over its stratum, so the sum is unbiased for any $n$.

# %%
#| exports
def denoising_cost(D: Callable, path: Path, x0: Tensor, gamma_min: float, gamma_max: float, n: int,
                   g: torch.Generator, xT: Tensor | None = None) -> Tensor:
    """Stratified estimate of 1/2 int ||x_0 - x0_hat||^2 d gamma over [gamma_min, gamma_max] in nats, (N,) float64, CPU.

    For images `x0` (N, ...) on the device of `g`, and a denoiser `D` along `path` (with a bridge's end `xT`).
    """
    low, width = math.log(gamma_min), math.log(gamma_max / gamma_min) / n
    cost = torch.zeros(len(x0), dtype=torch.float64)
    for i in range(n):
        xi = torch.rand(len(x0), generator=g, device=g.device).cpu().double()
        t = path.t_of_gamma(torch.exp(low + (i + xi) * width))
        cost += sqnorm(residual(D, path, x0, randn_like(x0, g), t, xT)).cpu().double() * width / 2
    return cost


# %%
data = gaussian(torch.zeros(4), torch.diag(variances))
cost = denoising_cost(denoiser(data, cosine), cosine, data.sample(20_000, seed=0),
                      math.exp(-10), math.exp(10), 16, g)
stderr = cost.std() / len(cost) ** 0.5
assert abs(cost.mean() - integral) < 4 * stderr
f"estimated {cost.mean():.3f} ± {stderr:.3f}, exact {integral:.3f} nats"

# %% [markdown]
# **Why uniform in $u$, why strata.** Many implementations draw $t$ uniformly and multiply by $-d\lambda/dt$, which is huge near $t=0$: a few large terms decide the sum. In $u$ there is no weight, and the integrand of an exact estimate settles near $d/2$: where the noise is finer than any detail of the data's density, $x_0$ given $y$ is nearly $\mathcal N(y,I/\gamma)$, and half its variance times $\gamma$ is $d/2$. The standard error of the mean over 25 images of a mixture, 16 evaluations each, is measured as the spread of 1000 repeats. Most of the gain is from $u$.

# %%
data = Mixture(f64(0.7, 0.3), f64(-0.5, 0.6)[:, None],
               f64(0.15**2, 0.1**2)[:, None, None])
D, low, high = denoiser(data, cosine), -12.0, 12.0
first, last = (float(cosine.t_of_gamma(math.exp(u))) for u in (high, low))
same = data.sample(25, seed=1).repeat(1000, 1)


def repeated(strata, uniform, n=16):
    total = torch.zeros(len(same), dtype=torch.float64)
    for i in range(n):
        part = torch.rand(len(same), generator=g, dtype=torch.float64)
        if strata: part = (i + part) / n
        if uniform == "u":
            t, w = cosine.t_of_gamma((low + (high - low) * part).exp()), high - low
        else: w = -cosine.dlogsnr(t := first + (last - first) * part) * (last - first)
        total += w * sqnorm(residual(D, cosine, same, randn_like(same, g), t)) / (2 * n)
    return total.reshape(1000, 25).mean(1)


kinds = ("stratified", "independent")
runs = {(s, v): repeated(s == "stratified", v) for s in kinds for v in ("u", "t")}
best = runs["stratified", "u"]
assert all(abs(r.mean() - best.mean()) < 4 * (r.var() + best.var()).sqrt() / 1000**0.5
           for r in runs.values())
assert 3 * best.std() < runs["independent", "t"].std()
error = lambda s, v: runs[s, v].std().item()
Table({s: {f"${v}$ uniform": error(s, v) for v in "ut"} for s in kinds},
      "standard error [nats]")


# %% [markdown]
# ## All terms
#
# `bound_terms` is @eq-bound, for every model. For the start `"model"` it asks the denoiser at $t=T$, where $x_t$ is $x_T$ (or 0, if there is none) and tells nothing about $x_0$.
#
# **With a code** $z$, Jensen's inequality is used once more, with $z$ as the hidden variable: $\log p(x_0)\ge\mathbb E_{q(z|x_0)}\log\frac{p(z)\,p(x_0|z)}{q(z|x_0)}$, the bound of the VAE [@kingma2014vae; @rezende2014]. Into it goes @eq-bound, conditioned on $z$:
#
# $$\log p(x_0)\ge\mathbb E_{q(z|x_0)}\big[\text{the bound on }\log p(x_0|z)\big]-\mathrm{KL}\big(q(z|x_0)\,\|\,p(z)\big).$$ {#eq-unified}
#
# The code must be drawn from the *clean* image, independently of the noise. The first part is (minus) the **distortion**, the second the **rate**, in nats per image. With a deterministic code, whose law is a point, the rate is infinite: what is left bounds $\log p(x|z)$ only.

# %%
#| exports
def far_estimate(D: Callable, path: Path, x0: Tensor, xT: Tensor | None) -> Tensor:
    "m, the estimate at t = T, where x_t is the endpoint (0 if there is none) and tells nothing about x_0: (N, ...)."
    return D(torch.zeros_like(x0) if xT is None else xT, torch.full((len(x0),), float(path.T), dtype=torch.float64))


def bound_terms(D: Callable, path: Path, x0: Tensor, gamma_min: float, gamma_max: float, start: str, *,
                xT: Tensor | None = None, levels: int | None = None, n: int = 16,
                seed: int | torch.Generator | None = None) -> dict[str, Tensor]:
    """The costs whose sum bounds -log p(x_0 | z) from above: `last_step`, `denoising`, `start`; nats, (N,), on the CPU.

    `D` is a denoiser along `path`, integrated over [gamma_min, gamma_max], which must lie on the path, with `n`
    evaluations per image `x0`, (N, ...); `start` is "prior" (a diffusion) or "model" (a bridge, a VAE);
    `levels` of grey make the last step a probability.
    """
    require_choice(start, "start", STARTS)
    require_number(gamma_min, "gamma_min", 0, gamma_max, above=True)
    least = float(path.gamma(path.T))
    require(gamma_min >= least * (1 - 1e-6), "gamma_min", gamma_min, f"at least {least:.3g}, where the path ends")
    g = rng(seed, x0.device)
    eps = randn_like(x0, g).cpu().double() if levels else None
    sq = sqnorm(x0 - far_estimate(D, path, x0, xT) if start == "model" else x0).cpu().double()
    return {
        "last_step": last_step(x0.cpu().double(), gamma_max, levels, eps),
        "denoising": denoising_cost(D, path, x0, gamma_min, gamma_max, require_int(n, "n"), g, xT),
        "start": start_kl(path, sq, x0[0].numel(), gamma_min, start),
    }


# %% [markdown]
# A `Bound` keeps the terms per image and answers in means, from independent repeats on the same images. `stderr_data` is the *total* standard error, from the spread of the images' averages; Monte Carlo noise is part of that spread. `stderr_mc`, from the differences between repeats, is the part that more noise levels would remove. Both are checked on 1000 made-up bounds.

# %%
#| exports
@dataclass(frozen=True)
class Bound:
    """A bound in nats per image.

    `repeats`: the terms (N,) of two or more independent repeats; `dims` per image; `levels` of grey or None; what it
    `covers`. Its `repr` shows `total` ± `stderr_data`, the total standard error, and Monte Carlo's part `stderr_mc`.
    """

    repeats: list[dict[str, Tensor]]
    dims: int
    gamma_max: float
    levels: int | None = None
    covers: str = "log p(x)"

    def __post_init__(self): require(len(self.repeats) > 1, "repeats", len(self.repeats), "two or more repeats")

    @property
    def terms(self) -> dict[str, float]:
        "Every named cost, in nats per image: mean over repeats and images."
        return {k: float(torch.stack([r[k] for r in self.repeats]).mean()) for k in self.repeats[0]}
    @property
    def rate(self) -> float: return self.terms.get("rate", math.nan)
    @property
    def distortion(self) -> float: return sum(v for k, v in self.terms.items() if k != "rate")
    @property
    def total(self) -> float: return -sum(self.terms.values())
    @property
    def per_image(self) -> Tensor: return -torch.stack([sum(r.values()) for r in self.repeats])
    @property
    def bits_per_dim(self) -> float | None:
        "-total / (dims log 2), where that means something: a probability of grey levels that covers log p(x)."
        return -self.total / (self.dims * math.log(2)) if self.levels and self.covers == "log p(x)" else None
    @property
    def stderr_mc(self) -> float:
        "The part of `stderr_data` that more noise levels or repeats would remove, from the spread between repeats."
        repeats, images = self.per_image.shape
        return float(self.per_image.var(0).sum().sqrt()) / repeats**0.5 / images
    @property
    def stderr_data(self) -> float:
        "The total standard error of the mean over images, Monte Carlo noise included; nan for a single image."
        mean = self.per_image.mean(0)
        return float(mean.std()) / len(mean) ** 0.5 if len(mean) > 1 else math.nan

    def __repr__(self) -> str:
        terms = ", ".join(f"{k} {v:.2f}" for k, v in self.terms.items())
        return (f"{self.covers} >= {self.total:.2f} ± {self.stderr_data:.2f} nats, of which Monte Carlo "
                f"{self.stderr_mc:.2g} ({terms}; log gamma_max {math.log(self.gamma_max):.1f})")  # fmt: skip


# %%
images, errors = noise(1000, 1, 50), 2 * noise(1000, 3, 50)
made = [Bound([{"cost": r} for r in x], dims=7, gamma_max=1.0, levels=2)
        for x in images + errors]
for name, scatter in [("stderr_data", (images + errors).mean((1, 2)).std()),
                      ("stderr_mc", errors.mean((1, 2)).std())]:
    claimed = f64(*(getattr(b, name) for b in made)).square().mean().sqrt()
    test_close(scatter / claimed, 1.0, eps=0.1)
test_close(made[0].bits_per_dim, (images + errors)[0].mean().item() / 7 / math.log(2),
           eps=1e-9)

# %% [markdown]
# **Never above.** No model beats the density $q$ of the data on average: $\mathbb E\log q(x_0)-\mathbb E\log p(x_0)$ is a divergence. On the mixture $\log q$ is known. With the exact denoiser the bound reaches it, up to the Monte Carlo error beside it: only beyond that would "above" mean anything. With a worse denoiser (rounded to multiples of 0.05) it is lower.

# %%
x0 = data.sample(4000, seed=1)
truth = log_density(data, x0)
rounded = lambda x_t, t: (20 * D(x_t, t)).round() / 20


def bound(D, path=cosine, start="prior"):
    run = lambda s: bound_terms(D, path, x0, math.exp(-12), math.exp(12), start, n=24,
                                seed=s)
    return Bound([run(0), run(1)], dims=1, gamma_max=math.exp(12))


def row(b):
    total = f"{b.total:.2f} ± {b.stderr_data:.2f}"
    costs = {k.replace("_", " "): f"{v:.2f}" for k, v in b.terms.items()}
    return {"mean": total, "Monte Carlo": f"± {b.stderr_mc:.3f}"} | costs


exact, coarse = bound(D), bound(rounded)
assert abs(exact.total - truth.mean()) < 4 * exact.stderr_mc
assert coarse.total < exact.total - 1
test_eq(exact.bits_per_dim, None)
seen = {"mean": f"{truth.mean():.2f} ± {truth.std() / len(truth) ** 0.5:.2f}"}
Table({r"$\log q$, same images": seen, "bound, exact": row(exact),
       "bound, rounded": row(coarse)}, "nats per image")

# %%
#| label: fig-denoising-cost
#| fig-cap: 'The denoising cost of the table, without last step and start, is the area under a curve. Where the noise is finer than the data, the exact estimate pays $d/2$ per unit of $\log\gamma$ (here $d=1$); the rounded one pays ever more for the detail that it cannot see, and leaves the picture at $u\approx9$.'
#| fig-alt: 'Line chart of half the expected squared error of the noise estimate, in nats per unit of u, against u = log gamma from -12 to 12. Both curves rise from zero, have a bump of 0.24 near u = 2 and coincide up to about u = 4; the exact one then settles at 0.5, marked by a dotted line, the rounded one climbs beyond 1.5.'
u, eps = torch.linspace(-12, 12, 97, dtype=torch.float64), noise(4000, 1)
eps /= eps.square().mean().sqrt()  # the same noise at every level, for a smooth curve
fig, ax = plt.subplots()
for estimate, name, style in [(D, "exact estimate", "-"),
                              (rounded, "rounded to multiples of 0.05", "--")]:
    height = [sqnorm(residual(estimate, cosine, x0, eps, t)).mean() / 2
              for t in cosine.t_of_gamma(u.exp())]
    ax.plot(u, height, style, label=name)
ax.set(xlabel=r"$u=\log\gamma$", ylabel="nats per unit of $u$", ylim=(0, 1.5),
       title="The denoising part of the bound is an area")
ax.axhline(0.5, color="0.4", linewidth=1.2, linestyle=":", label="$d/2$")
ax.legend();

# %% [markdown]
# **A VAE is the case of a denoiser that does not look.** If $\hat x_0=\mathrm{dec}(z)$ whatever $x_t$ is, then integral and $S$ of the start `"model"` add up to $\tfrac12\gamma_{\max}\|x_0-\mathrm{dec}(z)\|^2$ wherever the range begins: the reconstruction term of a Gaussian decoder of precision $\gamma_{\max}$. Only the last step differs from that decoder's normalisation, by exactly $d/2$ nats ([Gaps](07_gaps.ipynb) says why).

# %%
x = torch.rand(5, 1, 8, 8, generator=g, dtype=torch.float64) * 2 - 1
decoded = 0.9 * x
gaussian_decoder = Normal(decoded, 50.0**-0.5).log_prob(x).flatten(1).sum(1)
for gamma_min, n, eps in [(50.0, 1, 1e-9), (1.0, 1000, 1e-2)]:
    costs = bound_terms(lambda x_t, t: decoded, cosine, x, gamma_min, 50.0, "model",
                        n=n, seed=0)
    test_close(-sum(costs.values()), gaussian_decoder - 64 / 2, eps=eps)

# %% [markdown]
# ## Training with other weights
#
# Training often minimises a re-weighted integral, $\mathbb E\big[\tfrac w2\|\varepsilon-\hat\varepsilon\|^2\big]$ over some density of noise levels:
#
# * **elbo**: uniform $u$, $w=u_{\max}-u_{\min}$. It is the integral of the bound.
# * **simple** [@ho2020ddpm]: uniform $t$, $w=2$, plain $\|\varepsilon-\hat\varepsilon\|^2$.
# * **edm**: uniform $t$, and Karras's unit weight on the error of the preconditioned network [@karras2022edm]. By $\hat x_0-x_0=\texttt{out}\,(F-F^*)$ ([Scores](04_scores.ipynb)), $\|F-F^*\|^2=\|\varepsilon-\hat\varepsilon\|^2/(\gamma\,\texttt{out}^2)$, hence $w=2/(\gamma\,\texttt{out}^2)$.
#
# `noise_levels` draws levels and weights, stratified over the batch, in random order, so that no image is tied to a level. Checked: *elbo* is the integral, *edm* the squared distance of network outputs, and strata give a steadier loss.

# %%
#| exports
WEIGHTINGS = ("simple", "elbo", "edm")
NOISES = ("stratified", "uniform", "high")


def noise_levels(path: Path, n: int, weighting: str, g: torch.Generator, gamma_min: float, gamma_max: float,
                 stats: Stats = Stats(), noise: str = "stratified") -> tuple[Tensor, Tensor]:
    """Times t and weights w, (n,) float64 on the CPU: E[w/2 ||eps - eps_hat||^2] is the training loss of `weighting`.

    Levels lie in [gamma_min, gamma_max], one in each of n strata, in random order. `stats` are the moments for "edm".
    `noise="uniform"`: independent instead; "high": stratified, with a density that grows in proportion to the share of
    the range of times, the same weights, and so a loss that prefers high noise (not for "elbo": it would be no bound).
    """
    require_choice(weighting, "weighting", WEIGHTINGS)
    require_choice(noise, "noise", NOISES[:2] if weighting == "elbo" else NOISES)
    jitter = torch.rand(n, generator=g, device=g.device).cpu().double()
    part = jitter if noise == "uniform" else (torch.randperm(n, generator=g, device=g.device).cpu() + jitter) / n
    if noise == "high": part = part.sqrt()
    if weighting == "elbo":
        low, width = math.log(gamma_min), math.log(gamma_max / gamma_min)
        return path.t_of_gamma((low + width * part).exp()), torch.full_like(part, width)
    low, high = float(path.t_of_gamma(gamma_max)), float(path.t_of_gamma(gamma_min))
    t = low + (high - low) * part
    if weighting == "simple": return t, torch.full_like(t, 2.0)
    return t, 2 / (path.gamma(t) * scalings("edm", path.coefs(t), stats).out ** 2)


# %%
data, stats = gaussian(torch.zeros(4), torch.diag(variances)), Stats(0.3, 0.4, 0.1)
ideal = denoiser(data, cosine)
error = lambda t, x: sqnorm(residual(ideal, cosine, x, randn_like(x, g), t))
loss = lambda t, w, x: (w / 2 * error(t, x)).mean()
levels = lambda n: noise_levels(cosine, n, "elbo", g, math.exp(-10), math.exp(10))
alone = lambda n: map(torch.cat, zip(*(levels(1) for _ in range(n)), strict=True))
batches = data.sample(64 * 100, seed=3).reshape(100, 64, 4)
steady = torch.stack([loss(*levels(64), x) for x in batches])
loose = torch.stack([loss(*alone(64), x) for x in batches])
assert abs(steady.mean() - integral) < 4 * steady.std() / 100**0.5
assert steady.std() < loose.std()

for weighting in WEIGHTINGS:
    t, w = noise_levels(bridge, 256, weighting, g, 1e-3, 1e4, stats)
    ends, at = bridge.t_of_gamma(f64(1e4, 1e-3)), t
    if weighting == "elbo": ends, at = f64(1e-3, 1e4).log(), bridge.gamma(t).log()
    at = (at - ends[0]) / (ends[1] - ends[0])
    test_eq((at * 256).floor().sort().values, torch.arange(256.0, dtype=torch.float64))
    assert not (t.diff() > 0).all() and not (t.diff() < 0).all()

x0, xT, x0_hat = noise(256, 3), noise(256, 3), noise(256, 3)
x_t = bridge.mix(x0, noise(256, 3), t, xT)  # t and w of "edm", the last of the three
s = scalings("edm", bridge.coefs(t), stats)
network = sqnorm(from_x0(s, x0, x_t, xT) - from_x0(s, x0_hat, x_t, xT))
eps_error = bcast(bridge.gamma(t).sqrt(), x0) * (x0 - x0_hat)
test_close(w / 2 * sqnorm(eps_error) / network, torch.ones_like(t), eps=1e-8)
times = lambda how: noise_levels(cosine, 4096, "simple", g, 1e-4, 1e4, stats, how)[0]
means = torch.stack([times(how).mean() for how in NOISES])
test_close(means, f64(1 / 2, 1 / 2, 2 / 3), eps=0.02)  # density 2t on [0, 1]: 2/3
f"spread of a batch's loss: {steady.std():.2f} in strata, {loose.std():.2f} without"

# %%
with expect_fail(ValueError, contains="gamma_min: expected at least 4.54e-05"):
    bound(D, VPCosine(-10.0))
with expect_fail(ValueError, contains="repeats: expected two or more repeats"):
    Bound(exact.repeats[:1], 1, 1.0)
with expect_fail(ValueError, contains="noise: expected one of 'stratified', 'uniform'"):
    noise_levels(cosine, 8, "elbo", g, 1e-4, 1e4, stats, "high")

# %% [markdown]
# What does each weighting reward? Its weight on the bound's integrand is $\pi(u)\,w(u)$, where uniform $t$ has the density $\pi(u)\propto|dt/du|=\gamma/|d\gamma/dt|$; on the cosine path that is $\operatorname{sech}(u/2)/2\pi$, most often in the middle. Multiply by the integrand of an uninformed estimate for pixels of variance $v$, which is $\tfrac12\gamma v/(1+\gamma v)$ each ([Worlds in closed form](03_worlds.ipynb)), and normalise: the *share of the expected loss* at each level, drawn for $v=0.25$. The bound spends nearly all of it on fine detail; *simple* prefers the middle, *edm* coarser structure. This decides what a code is rewarded for.

# %%
#| label: fig-loss-shares
#| fig-cap: 'Share of the expected loss at each level, for an estimate that knows only the pixels'' variance $v=0.25$. Each legend entry is a weighting of the list above, and the path whose $t$ it draws uniformly; *elbo*, uniform in $u$ over the range shown, is the same on any path. At $\gamma\le1$ lie 3 % of the loss *elbo*, 9 % of *simple*, 33 % and 50 % of *edm* on the bridge and on VP cosine: the further left, the coarser the structure that a loss rewards.'
#| fig-alt: 'Line chart of the share of the loss per unit of u against u = log gamma from -9 to 9. Three hills: edm on the VP cosine path peaks at u = 0, edm on the bridge near 0.6, simple on the VP cosine path near 1.9. The elbo curve rises through them and stays at 0.13 from about u = 6 on.'
u, v = torch.linspace(-9, 9, 721, dtype=torch.float64), 0.25
fig, ax = plt.subplots()
coarse = {}
for path, weighting, style in [(cosine, "simple", "-"), (cosine, "edm", "--"),
                               (bridge, "edm", "-."), (cosine, "elbo", ":")]:
    t = path.t_of_gamma(u.exp())
    p = torch.ones_like(u) if weighting == "elbo" else -path.gamma(t) / path.dgamma(t)
    p, w = p / torch.trapezoid(p, u), 1.0
    if weighting == "simple":
        test_close(p, 1 / torch.cosh(u / 2) / (2 * math.pi), eps=3e-3)
    if weighting == "edm":
        out = scalings("edm", path.coefs(t), Stats(v, v)).out
        w = 2 / (path.gamma(t) * out**2)
    share = p * w * u.exp() * v / (1 + v * u.exp())
    share = share / torch.trapezoid(share, u)
    name = f"{weighting}, {'bridge' if path is bridge else 'VP cosine'}"
    name = "elbo" if weighting == "elbo" else name
    coarse[name] = round(torch.trapezoid(share[u <= 0], u[u <= 0]).item(), 3)
    ax.plot(u, share, style, label=name)
ax.set(xlabel=r"$u=\log\gamma$", ylabel="share of loss per unit of $u$",
       title="What each loss rewards")
ax.legend()
assert coarse["elbo"] < coarse["simple, VP cosine"] < coarse["edm, VP cosine"];

# %% [markdown]
# ## Exercises
#
# **1.** *Compute.* At high SNR, how many nats of denoising cost does a doubling of $\gamma$ add, per pixel, whatever the data? Compare with the integral of the four Gaussian coordinates.

# %%
#| code-fold: true
#| code-summary: "Solution"
growth = lambda gamma: torch.log((1 + 2 * gamma * variances) / (1 + gamma * variances))
doubled = growth(1e6).sum() / 2
test_close(doubled, 4 * math.log(2) / 2, eps=1e-4)  # d/2 log 2, and R_0 gives it back
gained = last_step(torch.zeros(1, 4), 1e6) - last_step(torch.zeros(1, 4), 2e6)
test_close(gained.item(), 4 * math.log(2) / 2, eps=1e-5)

# %% [markdown]
# **2.** *Extend.* A sampler may take two steps only. Where should the level between $\gamma_{\max}=100$ and $\gamma_{\min}=0.01$ lie, for data of variance 1 and the exact estimate, so that @eq-discrete is tightest? Derive it, then search.

# %%
#| code-fold: true
#| code-summary: "Solution"
top, bottom = 100.0, 0.01
between = torch.logspace(-2, 2, 4001, dtype=torch.float64)
cost = (top - between) / (1 + between) + (between - bottom) / (1 + bottom)
# derivative zero: 1 + gamma is the geometric mean of its neighbours
best = math.sqrt((1 + top) * (1 + bottom)) - 1
test_close(between[cost.argmin()] / best, 1.0, eps=2e-3)

# %% [markdown]
# ## What can go wrong
#
# * **Counting the start twice.** For a diffusion, integrating from $\gamma=0$ *and* adding the prior term counts the same information twice; dropping $S$ altogether can give a number above $\log p$.
# * **Comparing $\log p(x|z)$ with $\log p(x)$.** The first is not a bound on the second. `Bound.covers` says which one you have.
# * **Drawing the code from the noisy image.** Then noise and code are dependent, and the bound is void.
# * **Calling a re-weighted loss a bound.** *simple* is a fine training loss, but not a number of nats.
