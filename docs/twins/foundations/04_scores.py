# %% [markdown]
# # Scores
#
# > What a denoiser learns: explicit, implicit and denoising score matching agree, Tweedie links scores to means, and every parametrisation is a pair of numbers around the network.

# %% [markdown]
# Undoing noise needs the *score* $\nabla_{x_t}\log q_t(x_t)$ of the noisy data ([Paths](02_paths.ipynb) sketches why), and nobody can compute it. How can a network learn what nobody knows? This page shows why one trained only to remove noise does; that predicting noise, image, velocity or score is the same; and how to wrap a network so that its inputs and targets keep unit size at every noise level.

# %%
#| default_exp foundations.scores

# %%
#| exports
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from scoreae.core.checks import bcast, require, require_choice, sqnorm
from scoreae.foundations.paths import Coefs, Path, as_time

# %%
#| hide
from fractions import Fraction

import matplotlib.pyplot as plt
from fastcore.test import expect_fail, test_close, test_eq

from scoreae.core.pages import Table, paper
from scoreae.foundations.paths import VE, Pinned, VPCosine, VPLinear
from scoreae.foundations.worlds import (
    Mixture,
    expected_sqnorm,
    log_density,
    noisy,
    score,
)

# %%
#| hide
paper()


# %% [markdown]
# ## Three losses with one minimum
#
# Let $q_t$ be the density of the noisy images $x_t=a\,x_T+b\,x_0+c\,\varepsilon$ at one time with $c>0$ (on a bridge everything is given $x_T$; for a diffusion $a=0$). We want a model $s(x_t)$ close to its score. The **explicit** loss says so directly. All expectations are over $x_t\sim q_t$:
#
# $$\begin{aligned}\mathcal L_{\mathrm{ex}}(s)&=\tfrac12\,\mathbb E\big\|s-\nabla_{x_t}\log q_t\big\|^2\\&=\tfrac12\mathbb E\|s\|^2-\mathbb E\big[s\cdot\nabla_{x_t}\log q_t\big]+\tfrac12\mathbb E\big\|\nabla_{x_t}\log q_t\big\|^2.\end{aligned}$$ {#eq-explicit}
#
# Only the cross term couples the model to the unknown target. Since $q_t\nabla\log q_t=\nabla q_t$, it is a sum of $\int s_i\,\partial_iq_t\,dx_t$. Integrate each by parts along its own coordinate:
#
# $$\int s_i\,\partial_iq_t\,dx_t=-\int q_t\,\partial_is_i\,dx_t,\qquad\text{so}\qquad\mathbb E\big[s\cdot\nabla_{x_t}\log q_t\big]=-\mathbb E\big[\operatorname{tr}\nabla_{x_t}s\big].$$
#
# This holds if all these expectations are finite and **no boundary term remains**: $q_t\,s\to0$ at both ends of every coordinate line. Noisy images satisfy it: pixels are bounded, so $q_t$ is smooth with Gaussian tails, and any $s$ that grows no faster than a polynomial, with its derivatives, will do. What results is the **implicit** loss of Hyvärinen [-@hyvarinen2005score], which needs no target:
#
# $$\mathcal L_{\mathrm{im}}(s)=\mathbb E\big[\tfrac12\|s\|^2+\operatorname{tr}\nabla_{x_t}s\big]=\mathcal L_{\mathrm{ex}}(s)-\tfrac12\mathbb E\big\|\nabla_{x_t}\log q_t\big\|^2.$$ {#eq-implicit}
#
# The trace costs $d$ derivatives per image. Noise removes it. Write $q(x_t|x_0)$ for the Gaussian that adds the noise. Because $q_t(x_t)=\int q(x_t|x_0)\,q(x_0)\,dx_0$, differentiating under the integral gives
#
# $$\begin{aligned}\nabla_{x_t}\log q_t(x_t)&=\frac{\int\nabla_{x_t}q(x_t|x_0)\,q(x_0)\,dx_0}{q_t(x_t)}=\mathbb E\big[\nabla_{x_t}\log q(x_t|x_0)\,\big|\,x_t\big],\\\nabla_{x_t}\log q(x_t|x_0)&=-\frac{\varepsilon}{c}:\end{aligned}$$ {#eq-score-mean}
#
# the unknown score is the *conditional mean* of a known one. Regression onto a random target finds its conditional mean. Indeed, split $s+\varepsilon/c=(s-\nabla\log q_t)+(\nabla\log q_t+\varepsilon/c)$. The first bracket is a function of $x_t$, and given $x_t$ the second has mean zero by @eq-score-mean. So their product has mean zero, and the **denoising** loss of Vincent [-@vincent2011connection], averaged over $x_0,\varepsilon$,
#
# $$\mathcal L_{\mathrm{de}}(s)=\tfrac12\mathbb E\big\|s(x_t)+\tfrac{\varepsilon}{c}\big\|^2=\mathcal L_{\mathrm{ex}}(s)+\tfrac12\mathbb E\,\big\|\tfrac{\varepsilon}{c}+\nabla_{x_t}\log q_t\big\|^2,$$ {#eq-denoising}
#
# differs from the explicit loss only by a constant.

# %%
#| exports
def explicit_loss(s: Tensor, target: Tensor) -> Tensor:
    "Explicit score matching, 1/2 ||s - grad log q_t||^2 per item: (N, d), (N, d) to (N,)."
    return sqnorm(s - target) / 2


def implicit_loss(fn: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    "Implicit score matching, 1/2 ||s||^2 + tr grad s per item (Hyvarinen 2005), for s = `fn(x)`: (N, d) to (N,)."
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        s = fn(x)
        slopes = [torch.autograd.grad(s[:, i].sum(), x, create_graph=True)[0][:, i] for i in range(x.shape[1])]
        return sqnorm(s) / 2 + torch.stack(slopes).sum(0)


def denoising_loss(s: Tensor, eps: Tensor, c: float | Tensor) -> Tensor:
    "Denoising score matching, 1/2 ||s(x_t) + eps / c||^2 per item (Vincent 2011): (N, d), (N, d) to (N,)."
    return sqnorm(s + eps / c) / 2


# %% [markdown]
# We check all three on a mixture in one dimension, with two wrong models. The expectation is a sum over a fine grid of $(x_0,\varepsilon)$. By @eq-implicit and @eq-denoising the *differences* between the losses must not depend on the model, and their values are known.

# %%
f64 = lambda *v: torch.tensor(v, dtype=torch.float64)
g = torch.Generator().manual_seed(0)
randn = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)
data = Mixture(f64(0.7, 0.3), f64(-0.5, 0.6)[:, None],
               f64(0.15**2, 0.1**2)[:, None, None])
b, c = 0.8, 0.6
axes = [torch.linspace(-high, high, 601, dtype=torch.float64) for high in (2, 8)]
x0, eps = torch.cartesian_prod(*axes).split(1, dim=1)
weight = torch.exp(log_density(data, x0) - eps[:, 0] ** 2 / 2)
weight /= weight.sum()
x_t = b * x0 + c * eps
target = score(noisy(data, b, c), x_t)

models = [lambda x: -x, lambda x: torch.tanh(2 * x) - 1.5 * x]
explicit = torch.stack([weight @ explicit_loss(m(x_t), target) for m in models])
implicit = torch.stack([weight @ implicit_loss(m, x_t).detach() for m in models])
denoising = torch.stack([weight @ denoising_loss(m(x_t), eps, c) for m in models])

test_close(explicit - implicit, weight @ sqnorm(target) / 2, eps=1e-9)
test_close(denoising - explicit, weight @ sqnorm(eps / c + target) / 2, eps=1e-9)

losses = {"explicit": explicit, "implicit": implicit, "denoising": denoising}
heads = ["$s=-x$", r"$s=\tanh 2x-1.5x$", "difference"]
rows = {k: [*v.tolist(), float(v[1] - v[0])] for k, v in losses.items()}
Table({k: dict(zip(heads, v, strict=True)) for k, v in rows.items()}, "loss", digits=4)

# %% [markdown]
# In more dimensions the trace is tested against the full Jacobian, and against random probes: if $\mathbb E\,vv^\top=I$ then $\mathbb E\,v^\top(\nabla s)\,v=\operatorname{tr}\nabla s$, the cheap estimator of sliced score matching [@song2019sliced]; over *all* sign vectors it is exact. Then @eq-implicit for $x\sim\mathcal N(0,C)$, $C=RR^\top$, and a linear $s$. Both losses are quadratic, so averaging them over the $2d$ points $\pm\sqrt d\,Re_i$, which have mean $0$ and covariance $C$, is exact. The constant is $\tfrac12\operatorname{tr}C^{-1}$.

# %%
M1, M2, K = randn(3, 3), randn(3, 3), randn(3, 3)
R = torch.eye(3).double() + 0.3 * randn(3, 3)
model, x = (lambda x: torch.tanh(x @ M1) @ M2), randn(20, 3)
trace = implicit_loss(model, x).detach() - sqnorm(model(x)) / 2
jacobian = torch.stack([torch.autograd.functional.jacobian(model, v) for v in x])
signs = torch.cartesian_prod(*[f64(-1, 1)] * 3)
probes = [(torch.autograd.functional.vjp(model, x, v.expand_as(x))[1] * v).sum(1)
          for v in signs]
test_close(trace, jacobian.diagonal(dim1=1, dim2=2).sum(1), eps=1e-12)
test_close(trace, torch.stack(probes).mean(0), eps=1e-12)

# %%
points, precision = 3**0.5 * torch.cat([R.T, -R.T]), torch.linalg.inv(R @ R.T)
linear = lambda x: x @ K.T
explicit = explicit_loss(linear(points), -points @ precision).mean()
implicit = implicit_loss(linear, points).mean()
test_close((explicit - implicit).detach(), precision.trace() / 2, eps=1e-12)

# %% [markdown]
# The picture behind @eq-score-mean: every point is one noisy value with *its own* target $-\varepsilon/c$. They scatter; their means in narrow bins lie on the score.

# %%
clean = data.sample(40_000, seed=0)
noise = randn(*clean.shape)
x_t, target = b * clean + c * noise, -noise / c
bins = torch.linspace(-1.5, 1.5, 16, dtype=torch.float64)
inside = [(x_t >= low) & (x_t < low + 0.2) for low in bins[:-1]]
means = torch.stack([target[i].mean() for i in inside])
errors = torch.stack([target[i].std() / i.sum() ** 0.5 for i in inside])
exact = torch.stack([score(noisy(data, b, c), x_t)[i].mean() for i in inside])
assert ((means - exact).abs() < 4 * errors).all()

# %%
#| label: fig-targets
#| fig-cap: 'A score is the mean of random targets: the grey dots are noisy values, each with its own target $-\varepsilon/c$; their means in bins of width 0.2 lie on the exact score.'
#| fig-alt: 'Scatter plot of targets against noisy values: small grey dots, 1500 of 40000, form two bands that slope downwards side by side. A curve, the score, follows the left band, crosses over between the two and joins the right band; fifteen large dots, the mean targets in bins, lie on the curve.'
line = torch.linspace(-1.8, 1.8, 200, dtype=torch.float64)[:, None]
fig, ax = plt.subplots()
ax.plot(x_t[:1500], target[:1500], ".", color="0.6", markersize=2, rasterized=True,
        label=r"targets $-\varepsilon/c$")
ax.plot(line, score(noisy(data, b, c), line), color="C1",
        label=r"score $\nabla\log q_t$")
ax.plot((bins[1:] + bins[:-1]) / 2, means, "o", color="C0", markersize=5,
        label="mean target in a bin")
ax.set(xlabel="noisy value $x_t$", ylabel="score", xlim=(-1.8, 1.8), ylim=(-6, 6))
ax.legend(loc="upper right");

# %% [markdown]
# ## Tweedie: a score is a denoised image
#
# Take the endpoint off, $\tilde x_t=x_t-a\,x_T$. Insert $\varepsilon=(\tilde x_t-b\,x_0)/c$ into @eq-score-mean and solve for the mean of $x_0$. On a bridge, score and mean are given $x_T$ as well:
#
# $$\nabla_{x_t}\log q_t(x_t)=\frac{b\,\mathbb E[x_0|x_t]-\tilde x_t}{c^2}\qquad\Longleftrightarrow\qquad\mathbb E[x_0|x_t]=\frac{\tilde x_t+c^2\,\nabla_{x_t}\log q_t(x_t)}{b}.$$ {#eq-tweedie}
#
# To know the score is to know the best estimate of the clean image [@efron2011tweedie]. So this library speaks of one thing only: the **estimate** $\hat x_0(x_t,t)$, produced by a *denoiser*.
#
# [Worlds in closed form](03_worlds.ipynb) has tried this on diffusions. Here is a bridge whose end is correlated with the image: variances $0.25$ and $0.4$, covariance $0.1$. So $x_0|x_T\sim\mathcal N(0.25\,x_T,\,0.225)$, and $x_t$ given $x_T$ is Gaussian with a known score. The other side is a linear regression of $x_0$ on $(x_t,x_T)$, solved numerically.

# %%
bridge = Pinned(VPLinear(0.1, 2.0))
second = f64(0.25, 0.1, 0.1, 0.4).reshape(2, 2)  # moments of (x_0, x_T)
moments = torch.block_diag(second, f64(1.0)[:, None])  # of (x_0, x_T, eps)
pixel, pin = randn(5, 1), randn(5, 1)  # some values of x_t and x_T
for t in (0.05, 0.5, 0.95):
    a_t, b_t, c_t = bridge.coefs(t)
    seen = torch.stack([torch.stack([b_t, a_t, c_t]), f64(0, 1, 0)])  # (x_t, x_T)
    regression = torch.linalg.solve(seen @ moments @ seen.T, seen @ moments[:, :1])
    gaussian_score = ((a_t + 0.25 * b_t) * pin - pixel) / (0.225 * b_t**2 + c_t**2)
    tweedie = (pixel - a_t * pin + c_t**2 * gaussian_score) / b_t
    test_close(torch.cat([pixel, pin], 1) @ regression, tweedie, eps=1e-12)


# %% [markdown]
# ## One estimate, many parametrisations
#
# Given $\tilde x_t$, each classic target of a network is an affine function of $x_0$:
#
# | the network predicts | definition | $\hat x_0$ |
# |---|---|---|
# | noise $\varepsilon$ | $\tilde x_t=b\,x_0+c\,\varepsilon$ | $(\tilde x_t-c\,\hat\varepsilon)/b$ |
# | image $x_0$ | | $\hat x_0$ |
# | velocity $v$ | $v=b\,\varepsilon-c\,x_0$ | $(b\,\tilde x_t-c\,\hat v)/(b^2+c^2)$ |
# | score $s$ | $s=-\varepsilon/c$ | $(\tilde x_t+c^2\hat s)/b$ |
#
# For the velocity: $b\,\tilde x_t-c\,v=b(b\,x_0+c\,\varepsilon)-c(b\,\varepsilon-c\,x_0)=(b^2+c^2)\,x_0$. With the network's answer $F$, all are of one form,
#
# $$\hat x_0=\texttt{skip}\cdot\tilde x_t+\texttt{out}\cdot F,$$ {#eq-skip-out}
#
# so a parametrisation is *two numbers per noise level*. Let $F^*$ be the output for which $\hat x_0=x_0$. Since $\tilde x_t$ is given, $\hat x_0-x_0=\texttt{out}\,(F-F^*)$, and the squared errors differ by the known factor $\gamma\,\texttt{out}^2$, with $\gamma=b^2/c^2$:
#
# $$\tfrac12\|\varepsilon-\hat\varepsilon\|^2=\tfrac12\gamma\,\|x_0-\hat x_0\|^2=\tfrac12\frac{b^2}{(b^2+c^2)^2}\|v-\hat v\|^2=\tfrac12c^2\|s-\hat s\|^2.$$ {#eq-losses}
#
# **Preconditioning.** The fifth choice, `edm` [@karras2022edm; @zhou2024ddbm] takes the scale of the data into account. Suppose pixels have mean square $s_0^2$, endpoint pixels $s_T^2$, and the mean of their product is $s_{0T}$ (for a diffusion $a=0$, and the last two do not matter). Then $x_t$ has mean square $m_t=a^2s_T^2+b^2s_0^2+2ab\,s_{0T}+c^2$, and we ask three things:
#
# 1. the network's input $\texttt{inp}\cdot x_t$ has mean square one: $\texttt{inp}=m_t^{-1/2}$;
# 2. the network is asked for as little as possible: $\texttt{skip}$ is the regression coefficient of $x_0$ on $x_t$, the ratio of $\mathbb E[x_0x_t]$ to $\mathbb E[x_t^2]$, so $\texttt{skip}=(b\,s_0^2+a\,s_{0T})/m_t$;
# 3. its target has mean square one: $\texttt{out}^2$ is what this regression leaves, $s_0^2-\texttt{skip}^2\,m_t=\big[a^2(s_0^2s_T^2-s_{0T}^2)+c^2s_0^2\big]/m_t$.
#
# Here the skip acts on $x_t$ itself, so $x_T$ is not subtracted; `end`, the coefficient of $x_T$ in $\hat x_0=\texttt{skip}\,x_t+\texttt{end}\,x_T+\texttt{out}\,F$, is $-a\,\texttt{skip}$ in the four classic choices and $0$ here. A fifth number, `rest` $=1-b\,\texttt{skip}$, is the part of $x_0$ that the skip leaves to the network. Except for `x0` it vanishes with the noise, so each kind has its own formula; for preconditioning, $(a^2s_T^2+ab\,s_{0T}+c^2)/m_t$.

# %%
#| exports
class Stats(NamedTuple):
    "Mean square of the data's pixels, of the endpoint's, and of their product: what preconditioning needs to know."

    var0: float | Tensor = 0.25
    varT: float | Tensor = 0.0
    cov: float | Tensor = 0.0


class Scalings(NamedTuple):
    "x0_hat = skip x_t + end x_T + out F(inp x_t), and rest = 1 - b skip by a stable formula: float64, shape of t."

    inp: Tensor
    skip: Tensor
    end: Tensor
    out: Tensor
    rest: Tensor


# %%
#| exports
KINDS = ("edm", "eps", "x0", "v", "score")


def scalings(kind: str, k: Coefs, stats: Stats = Stats()) -> Scalings:
    """The numbers that turn a network's output into an estimate of x_0, at coefficients `k`, for one of KINDS.

    `stats` matters to "edm" only (Karras et al. 2022, Table 1; on a bridge Zhou et al. 2024).
    """
    require_choice(kind, "kind", KINDS)
    a, b, c = k
    one, zero = torch.ones_like(b), torch.zeros_like(b)
    if kind == "edm":
        var0, varT, cov = stats
        m = a**2 * varT + b**2 * var0 + 2 * a * b * cov + c**2
        out = torch.sqrt((a**2 * (var0 * varT - cov**2) + c**2 * var0) / m)
        return Scalings(m**-0.5, (b * var0 + a * cov) / m, zero, out, (a**2 * varT + a * b * cov + c**2) / m)
    skip, out, rest = {
        "eps": (1 / b, -c / b, zero),
        "x0": (zero, one, one),
        "v": (b / (b**2 + c**2), -c / (b**2 + c**2), c**2 / (b**2 + c**2)),
        "score": (1 / b, c**2 / b, zero),
    }[kind]
    return Scalings(one, skip, -a * skip, out, rest)


def to_x0(s: Scalings, F: Tensor, x_t: Tensor, xT: Tensor | None = None) -> Tensor:
    "The estimate of x_0 from a network output: images of shape (N, ...)."
    x0 = bcast(s.skip, x_t) * x_t + bcast(s.out, x_t) * F
    return x0 if xT is None else x0 + bcast(s.end, x_t) * xT


def from_x0(s: Scalings, x0: Tensor, x_t: Tensor, xT: Tensor | None = None) -> Tensor:
    "What the network should have said for the estimate to be `x0`: the inverse of `to_x0`."
    rest = x0 - bcast(s.skip, x_t) * x_t
    return (rest if xT is None else rest - bcast(s.end, x_t) * xT) / bcast(s.out, x_t)


# %% [markdown]
# Each of the four classic targets must come out of `from_x0` as the table defines it, and must give the same loss by @eq-losses; every kind must round-trip; on VP, VE and a bridge. And `rest` must be $1-b\,\texttt{skip}$ in exact rational arithmetic, up to $\log\gamma=35$, where the plain difference has about one digit left.

# %%
clean, noise, xT = clean[:500], noise[:500], randn(500, 1)
wrong, stats = clean + 0.1 * randn(500, 1), Stats(0.3, 1.2, 0.1)  # some other estimate
for path, end in [(VPCosine(), None), (VE(), None), (bridge, xT)]:
    t = torch.rand(500, generator=g, dtype=torch.float64) * 0.9 * path.T + 0.01
    k, gamma, x_t = path.coefs(t), path.gamma(t), path.mix(clean, noise, t, end)
    a, b, c = (v[:, None] for v in k)
    targets = {"eps": noise, "x0": clean, "v": b * noise - c * clean,
               "score": -noise / c}
    factors = {"eps": 1, "x0": gamma, "v": k.b**2 / (k.b**2 + k.c**2) ** 2,
               "score": k.c**2}
    for kind in KINDS:
        s = scalings(kind, k, stats)
        F, F_wrong = from_x0(s, clean, x_t, end), from_x0(s, wrong, x_t, end)
        assert ((to_x0(s, F, x_t, end) - clean).abs() / (1 + a / b)).max() < 1e-12
        if kind == "edm": continue
        assert ((F - targets[kind]).abs() / (1 + targets[kind].abs())).max() < 1e-9
        ratio = factors[kind] * sqnorm(F_wrong - F) / (gamma * sqnorm(wrong - clean))
        test_close(ratio, torch.ones_like(t), eps=1e-6)

# %%
for path in (VPCosine(), VE(), bridge):
    for level in (-5.0, 0.0, 10.0, 20.0, 35.0):
        k = path.coefs(path.t_of_gamma(f64(level).exp()[0]))
        a, b, c, v0, vT, v0T = (Fraction(float(v)) for v in (*k, *stats))
        m = a**2 * vT + b**2 * v0 + 2 * a * b * v0T + c**2
        skips = {"edm": (b * v0 + a * v0T) / m, "eps": 1 / b, "x0": 0,
                 "v": b / (b**2 + c**2), "score": 1 / b}
        for kind in KINDS:
            exact, got = float(1 - b * skips[kind]), scalings(kind, k, stats).rest
            assert abs(float(got) - exact) <= 1e-12 * exact

# %% [markdown]
# Preconditioning against the published table for VE paths [@karras2022edm, Table 1], with its loss: $\gamma\,\texttt{out}^2=s_0^2/(\sigma^2+s_0^2)$. With data of unit size on a VP path it *is* velocity prediction with the opposite sign: $m_t=1$, $\texttt{skip}=b$, $\texttt{out}=c$.

# %%
sigma, spread = torch.logspace(-2, 1.5, 50).double(), 0.5
s, total = scalings("edm", VE().coefs(sigma), Stats(spread**2)), sigma**2 + spread**2
table = [total**-0.5, spread**2 / total, 0 * sigma, sigma * spread * total**-0.5]
for got, want in zip(s[:4], table, strict=True): test_close(got, want, eps=1e-12)
x_t = VE().mix(clean[:50], noise[:50], sigma)
F, F_wrong = from_x0(s, clean[:50], x_t), from_x0(s, wrong[:50], x_t)
error = VE().gamma(sigma) * sqnorm(wrong[:50] - clean[:50])
ratio = spread**2 / total * sqnorm(F_wrong - F) / error
test_close(ratio, torch.ones_like(sigma), eps=1e-6)

k = VPCosine().coefs(torch.linspace(0.01, 0.99, 50, dtype=torch.float64))
edm, v = scalings("edm", k, Stats(1.0)), scalings("v", k)
test_close(edm.skip, v.skip, eps=1e-12)
test_close(edm.out, -v.out, eps=1e-12)

# %% [markdown]
# And on a bridge it does what it was asked: inputs and targets of unit size, uncorrelated, at all noise levels. `expected_sqnorm` gives the moments without sampling error.

# %%
root = torch.linalg.cholesky(second)
for t in f64(0.01, 0.3, 0.7, 0.99):
    s = scalings("edm", bridge.coefs(t), Stats(0.25, 0.4, 0.1))

    def pair(w, t=t, s=s):
        x0, end = (w[:, :2] @ root.T).split(1, dim=1)
        x_t = bridge.mix(x0, w[:, 2:], t, end)
        return s.inp * x_t, from_x0(s, x0, x_t)

    asked = [lambda w: pair(w)[0], lambda w: pair(w)[1], lambda w: sum(pair(w))]
    sizes = torch.stack([expected_sqnorm(fn, 3) for fn in asked])
    test_close(sizes, f64(1.0, 1.0, 2.0), eps=1e-10)  # 2 iff uncorrelated

# %% [markdown]
# ## The denoiser
#
# A `Denoiser` is a network seen as an estimate of $x_0$. `F(x, level)` receives the scaled input and the noise level $\log\gamma$, clamped to the range that it was trained on (so that it is finite even at a bridge's end).
#
# Losses and bounds need the error in units of noise, $\hat\varepsilon-\varepsilon=\sqrt\gamma\,(x_0-\hat x_0)$. At high SNR this multiplies a difference of two nearly equal images by a large number. Insert $\hat x_0$ and $x_t=a\,x_T+b\,x_0+c\,\varepsilon$ instead, and collect terms:
#
# $$\hat\varepsilon-\varepsilon=\sqrt\gamma\,\big[\texttt{rest}\;x_0-(a\,\texttt{skip}+\texttt{end})\,x_T-c\,\texttt{skip}\;\varepsilon-\texttt{out}\;F\big].$$ {#eq-residual}
#
# The coefficients are computed in float64. For every kind but `"x0"` they stay moderate as $\gamma\to\infty$, because `rest`, $a$, $c$ and `out` fall at least like $\gamma^{-1/2}$: nothing large cancels. For `"x0"`, $\texttt{rest}=\texttt{out}=1$ and @eq-residual *is* the difference of images: no algebra can restore what the network's rounded answer has lost.

# %%
#| exports
LEVELS = (-12.0, 16.0)  # the range of log gamma that a network is trained on, unless its owner says otherwise


class Denoiser:
    """A network as an estimate of x_0: call it with noisy images x_t (N, ...) and times t, (N,) or (), in [0, T].

    `F(x, level)` gets scaled images and log gamma (N,), clamped to `span`; it answers in the shape of x. `kind` is the
    parametrisation, `stats` the moments for "edm", `xT` the endpoints on a bridge. ValueError if a shape does not fit.
    """

    def __init__(self, path: Path, F: Callable, kind: str = "edm", stats: Stats = Stats(), xT: Tensor | None = None,
                 span: tuple[float, float] = LEVELS):  # fmt: skip
        require_choice(kind, "kind", KINDS)
        require(len(span) == 2 and span[0] < span[1], "span", span, "a range (low, high) of log gamma")
        self.path, self.F, self.kind, self.stats, self.xT, self.span = path, F, kind, stats, xT, span

    def ask(self, x_t: Tensor, t: Tensor, inp: Tensor, **told) -> Tensor:
        "What the network says of x_t, scaled by `inp`, at times t, (N,) or (); `told` goes along."
        level = self.path.gamma(t).log().clamp(*self.span).expand(len(x_t))
        F = self.F(bcast(inp, x_t) * x_t, level.to(x_t), **told).to(x_t)
        require(F.shape == x_t.shape, "F", F, f"a network whose output has shape {tuple(x_t.shape)}, as its input")
        return F

    def fits(self, x_t: Tensor, t: Tensor) -> Tensor:
        "Times as float64, or `ValueError` for times or endpoints that do not fit the images."
        t, n = as_time(t), len(x_t)
        require(t.shape in ((), (n,)), "t", t, f"one time, or {n} times")
        same = self.xT is None or self.xT.shape == x_t.shape
        require(same, "xT", self.xT, f"one endpoint for each noisy image, shape {tuple(x_t.shape)}")
        return t

    def raw(self, x_t: Tensor, t: Tensor) -> tuple[Scalings, Tensor]:
        "The scalings at `t` and the network's output."
        t = self.fits(x_t, t)
        s = scalings(self.kind, self.path.coefs(t), self.stats)
        return s, self.ask(x_t, t, s.inp)

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        s, F = self.raw(x_t, t)
        return to_x0(s, F, x_t, self.xT)

    def residual(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        "eps_hat - eps at x_t = mix(x0, eps, t): images of shape (N, ...), times (N,) or (), in (0, T]."
        s, F = self.raw(self.path.mix(x0, eps, t, self.xT), t)
        (a, _, c), root = self.path.coefs(t), self.path.gamma(t).sqrt()
        r = bcast(root * s.rest, x0) * x0 - bcast(root * c * s.skip, x0) * eps - bcast(root * s.out, x0) * F
        return r if self.xT is None else r - bcast(root * (a * s.skip + s.end), x0) * self.xT


# %% [markdown]
# Any other callable (an exact denoiser, say) has no parts to collect, and gets the plain difference.

# %%
#| exports
def plain_residual(D: Callable, path: Path, x0: Tensor, eps: Tensor, t: Tensor, xT: Tensor | None = None) -> Tensor:
    "eps_hat - eps of any denoiser D(x_t, t) as sqrt(gamma) (x_0 - x0_hat), which loses digits at high SNR: (N, ...)."
    return bcast(path.gamma(t).sqrt(), x0) * (x0 - D(path.mix(x0, eps, t, xT), t))


def residual(D: Callable, path: Path, x0: Tensor, eps: Tensor, t: Tensor, xT: Tensor | None = None) -> Tensor:
    "eps_hat - eps of any denoiser: its own `residual` if it has one, else the difference of images: (N, ...)."
    return D.residual(x0, eps, t) if hasattr(D, "residual") else plain_residual(D, path, x0, eps, t, xT)


# %% [markdown]
# Both ways agree in float64. In float32, at $\log\gamma=20$, the plain difference carries a rounding error that `residual` does not have, except with a network that says the image itself.

# %%
F = lambda x, level: torch.tanh(x) * 0.3 + level[:, None] / 50
for path, end in [(VPCosine(), None), (bridge, xT)]:
    t = path.t_of_gamma(torch.logspace(-2, 8, len(clean), dtype=torch.float64))
    for kind in KINDS:
        D = Denoiser(path, F, kind, stats, end)
        plain = plain_residual(D, path, clean, noise, t, end)
        size, got = 1 + plain.abs(), residual(D, path, clean, noise, t, end)
        test_close(got / size, plain / size, eps=1e-8)

# %%
sharp = float(VPCosine().t_of_gamma(f64(20.0).exp()[0]))


def worst(fn, *net):
    "Largest error of float32 against float64."
    D, kinds = Denoiser(VPCosine(), *net), (torch.float32, torch.float64)
    rounded, exact = (fn(D, clean.to(kind), noise.to(kind)) for kind in kinds)
    return float((rounded - exact).abs().max())


collected = lambda D, x0, eps: D.residual(x0, eps, sharp)
plain = lambda D, x0, eps: plain_residual(D, VPCosine(), x0, eps, sharp)
errors = {"edm, collected": worst(collected, F), "edm, difference": worst(plain, F)}
errors["x0, collected"] = worst(collected, lambda x, level: x, "x0")
assert errors["edm, collected"] < 1e-5
assert min(errors["edm, difference"], errors["x0, collected"]) > 1e-4
Table({k: f"{v:.0e}" for k, v in errors.items()}, "kind, formula",
      "largest error in float32")

# %% [markdown]
# What the network is shown stays in its range; what does not fit together is refused by name.

# %%
shown = []
D = Denoiser(bridge, lambda x, level: shown.append(level) or x, stats=stats, xT=xT[:2],
             span=(-3.0, 5.0))
for t in (0.0, f64(0.5, 1.0), 1.0): assert D(clean[:2], t).isfinite().all()
middle = float(bridge.gamma(0.5).log())
test_close(torch.stack(shown), f64(5, 5, middle, -3, -3, -3).reshape(3, 2), eps=1e-12)

# %%
with expect_fail(ValueError, contains="xT: expected one endpoint for each noisy image"):
    D(clean[:3], 0.5)
with expect_fail(ValueError, contains="t: expected one time, or 2 times"):
    D(clean[:2], f64(0.1, 0.2, 0.3))
with expect_fail(ValueError, contains="t: expected times in [0, 1]"): D(clean[:2], 1.5)
with expect_fail(ValueError, contains="span: expected a range"):
    Denoiser(bridge, F, span=(5.0, -3.0))
with expect_fail(ValueError, contains="kind: expected one of 'edm'"):
    Denoiser(bridge, F, "noise")
with expect_fail(ValueError, contains="F: expected a network"):
    Denoiser(VE(), lambda x, level: x[:1])(clean[:2], 1.0)

# %% [markdown]
# The end of a bridge needs care: there $b=c=0$, and dividing by them is out of the question.

# %%
at_end = {kind: scalings(kind, bridge.coefs(1.0), stats) for kind in KINDS}
finite = {kind: all(bool(v.isfinite()) for v in s) for kind, s in at_end.items()}
test_eq(finite, {"edm": True, "eps": False, "x0": True, "v": False, "score": False})
blank = scalings("edm", bridge.coefs(1.0), Stats())  # varT = 0: a blank endpoint
assert blank.inp.isinf()
Table({k: "yes" if v else "no" for k, v in finite.items()}, "kind", "finite at t = T")

# %% [markdown]
# ## Exercises
#
# **1.** *Compute.* Even the exact score has a denoising loss. How large is it for pixels $\mathcal N(0,v)$?

# %%
#| code-fold: true
#| code-summary: "Solution"
v, b, c = 0.25, 0.8, 0.6
left_over = lambda w: -(b * v**0.5 * w[:, :1] + c * w[:, 1:]) / (b**2 * v + c**2)
miss = expected_sqnorm(lambda w: left_over(w) + w[:, 1:] / c, 2) / 2
test_close(miss, (1 / c**2 - 1 / (b**2 * v + c**2)) / 2, eps=1e-12)  # per pixel

# %% [markdown]
# **2.** *Extend.* Flow matching asks the network for $\varepsilon-x_0$. Find the two numbers of this sixth kind from @eq-skip-out, and the factor of its loss.

# %%
#| code-fold: true
#| code-summary: "Solution"
t = torch.rand(500, generator=g, dtype=torch.float64) * 0.9 + 0.01
k, gamma, x_t = bridge.coefs(t), bridge.gamma(t), bridge.mix(clean, noise, t, xT)
skip = 1 / (k.b + k.c)  # from x~ - c (eps - x_0) = (b + c) x_0
s = Scalings(torch.ones_like(t), skip, -k.a * skip, -k.c * skip, k.c * skip)
test_close(from_x0(s, clean, x_t, xT), noise - clean, eps=1e-7)
F, F_wrong = from_x0(s, clean, x_t, xT), from_x0(s, wrong, x_t, xT)
factor = (k.b / (k.b + k.c)) ** 2
ratio = factor * sqnorm(F_wrong - F) / (gamma * sqnorm(wrong - clean))
test_close(ratio, torch.ones_like(t), eps=1e-6)

# %% [markdown]
# ## What can go wrong
#
# * **Dividing by $b$ at much noise.** Noise prediction turns an error of $\hat\varepsilon$ into one of $\hat x_0$ that is $c/b$ times larger: at $\log\gamma=-10$ that is a factor of $e^5\approx150$. Preconditioning does not have this problem, and is the default.
# * **A bridge at $t=T$.** Kinds `eps`, `v` and `score` divide by zero. `x0` is finite, and so is `edm` if $s_T^2>0$: its `inp` is $1/s_T$ there, so do not leave `varT` at its default.
# * **Different constants in training and sampling.** A network trained with one `Stats` and sampled with another is fed inputs of the wrong scale; models here store them with the weights.
# * **The v of the literature** is defined for VP. For other paths the factor $b^2+c^2$ is not one.
# * **Implicit matching of a density with an edge.** For $q=e^{-x}$ on $x>0$ and $s=1$, $\mathbb E[s\,(\log q)']=-1$ but $-\mathbb E[s']=0$: the boundary term $q(0)\,s(0)$ is missing. Noise rounds the edge off.
