# %% [markdown]
# # Gaps
#
# > What the bound of every model misses, exactly: four terms, each with a name, and none of them is the information in the code.

# %% [markdown]
# When is the bound of a model tight, and what is missing when it is not? Otherwise a difference of two gaps is taken for one of two models. This page proves that the gap of [Bounds](06_bounds.ipynb), averaged over the data, is a sum of four terms that cannot be negative, and checks it to six digits in a [world in closed form](03_worlds.ipynb). The tool of the proof, which turns information into an area, also says where on the noise scale a code is informative. Divergence, entropy $H$, information $I$ and its chain rule are those of [Tools](01_tools.ipynb).

# %%
#| default_exp foundations.gaps

# %%
#| exports
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from scoreae.foundations.bounds import far_estimate, last_step, start_kl
from scoreae.foundations.paths import Path
from scoreae.foundations.scores import residual
from scoreae.foundations.worlds import GaussianWorld, expected_sqnorm

# %%
#| hide
import matplotlib.pyplot as plt
from fastcore.test import test_close
from torch.distributions import Normal

from scoreae.core.pages import Table, paper
from scoreae.foundations.bounds import bound_terms
from scoreae.foundations.paths import VE, Pinned, VPCosine, VPLinear
from scoreae.foundations.tools import gaussian_entropy, gaussian_kl
from scoreae.foundations.worlds import (
    Mixture,
    denoiser,
    gaussian,
    log_density,
    noisy,
    score,
)

# %%
#| hide
paper()
f64 = lambda *v: torch.tensor(v, dtype=torch.float64)
g = torch.Generator().manual_seed(0)
cosine, wide, bridge = VPCosine(-20.0), VE(1e5), Pinned(VPLinear(0.1, 2.0))


# %% [markdown]
# Integrals over the noise level are done by Gauss–Legendre quadrature on panels: eight nodes integrate polynomials up to degree 15 exactly.

# %%
#| exports
def quadrature(fn: Callable[[Tensor], Tensor], low: float, high: float, n: int = 96) -> Tensor:
    "Integral of `fn`, a function of one number, over [low, high]: n/8 panels of 8 Gauss-Legendre nodes."
    nodes, weights = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(8))
    edges = torch.linspace(low, high, n // 8 + 1, dtype=torch.float64)
    half = (edges[1:] - edges[:-1])[:, None] / 2
    at, w = (edges[:-1, None] + half * (nodes + 1)).flatten(), (half * weights).flatten()
    return sum(wi * fn(u) for u, wi in zip(at, w, strict=True))


# %%
test_close(quadrature(lambda u: u**15, 0.0, 2.0, n=8), 2**16 / 16, eps=1e-9)
test_close(quadrature(torch.exp, -3.0, 5.0), math.exp(5) - math.exp(-3), eps=1e-9)

# %% [markdown]
# ## Information grows at half the error
#
# Let $y_\gamma=x_0+\gamma^{-1/2}\varepsilon$. The information that it carries about $x_0$ grows as [@guo2005immse]
#
# $$\frac{d}{d\gamma}I(x_0;y_\gamma)=\tfrac12\,\mathbb E\big\|x_0-\mathbb E[x_0|y_\gamma]\big\|^2.$$ {#eq-immse}
#
# *Proof, in three steps.*
#
# **1. A little more SNR is a second, weak observation.** Let $y'=x_0+\Delta^{-1/2}\varepsilon'$ with new noise. As a function of $x_0$, the joint likelihood of $y_\gamma$ and $y'$ depends on them only through $(\gamma y_\gamma+\Delta y')/(\gamma+\Delta)$, which is $x_0$ plus noise of variance $1/(\gamma+\Delta)$, in law $y_{\gamma+\Delta}$. So the pair tells as much as $y_{\gamma+\Delta}$. By the chain rule, $I(x_0;y_{\gamma+\Delta})=I(x_0;y_\gamma)+I(x_0;y'|y_\gamma)$.
#
# **2. What it tells.** Fix $y_\gamma$, let $m$ be the mean of $x_0$ given it, and $X=x_0-m$. For *any* density $r$,
#
# $$\mathbb E\,\mathrm{KL}(q(y'|x_0)\,\|\,r)=I(x_0;y')+\mathrm{KL}(q(y')\,\|\,r),$$ {#eq-compensation}
#
# since $\log\frac{q(y'|x_0)}{r}=\log\frac{q(y'|x_0)}{q(y')}+\log\frac{q(y')}{r}$. Choose $r=\mathcal N(m,I/\Delta)$: the left side compares Gaussians of equal variance and is $\tfrac12\Delta\,\mathbb E\|X\|^2$.
#
# **3. The rest is of second order.** In $v=\sqrt\Delta\,(y'-m)=\varepsilon'+\sqrt\Delta X$ the last term is $\mathrm{KL}(q(v)\|\mathcal N(0,I))$. By Jensen's inequality it is at most $\log\mathbb E_{q(v)}\frac{q(v)}{\mathcal N(v;0,I)}$. Here $q(v)$ is a mixture of $\mathcal N(\sqrt\Delta X,I)$, and $\int\mathcal N(v;a,I)\,\mathcal N(v;a',I)/\mathcal N(v;0,I)\,dv=e^{a\cdot a'}$, so with an independent copy $X'$ that is $\log\mathbb E\,e^{\Delta X\cdot X'}$. Images are bounded, so expand: $\mathbb E[X\cdot X']=0$, and the rest is $O(\Delta^2)$. (For Gaussian $X$ the expectation is finite and expands alike.) Hence $I(x_0;y'|y_\gamma)=\tfrac12\Delta\,\mathbb E\|X\|^2+O(\Delta^2)$; average over $y_\gamma$, divide by $\Delta>0$, let $\Delta\to0$. That is the derivative to the right. It is continuous in $\gamma$, and then it is the derivative. ∎
#
# The check is not Gaussian: for a mixture on the line, $I(x_0;y_\gamma)=H(y_\gamma)-\tfrac12\log(2\pi e/\gamma)$, with $H(y_\gamma)$ summed on a fine grid. Its increase must be the integral of half the error.

# %%
data = Mixture(f64(0.7, 0.3), f64(-0.5, 0.6)[:, None],
               f64(0.15**2, 0.1**2)[:, None, None])
grid = torch.linspace(-40, 40, 80_001, dtype=torch.float64)
second = (data.weights * (data.means[:, 0] ** 2 + data.covs[:, 0, 0])).sum()  # E x_0^2


def density(gamma):
    return log_density(noisy(data, 1.0, gamma**-0.5), grid[:, None]).exp()


def information(gamma):
    p = density(gamma)
    entropy = -torch.trapezoid(torch.special.xlogy(p, p), grid)
    return entropy - 0.5 * math.log(2 * math.pi * math.e / gamma)


def half_error(gamma):
    mean = data.denoise(gamma * grid[:, None], gamma)[:, 0]
    return (second - torch.trapezoid(density(gamma) * mean**2, grid)) / 2


integrand = lambda u: u.exp() * half_error(u.exp().item())
grown = quadrature(integrand, math.log(0.05), math.log(500.0))
test_close(grown, information(500.0) - information(0.05), eps=1e-8)
f"{grown:.6f} nats, twice"


# %% [markdown]
# ## The gap is four terms
#
# Draw $x_0$ from the data density $q(x_0)$ and $z$ from $q(z|x_0)$; let $q(z)$ be the law of the codes, and $p(z)$ the model's prior. A bridge's $x_T$ is a function of $z$. Everything is conditioned on $z$, and $x_0^*=\mathbb E[x_0|x_\gamma,z]$ is the exact estimate.
#
# 1. *Orthogonality.* $\mathbb E\|x_0-\hat x_0\|^2=\mathbb E\|x_0-x_0^*\|^2+\mathbb E\|\hat x_0-x_0^*\|^2$, since $x_0^*$ is a conditional mean.
# 2. *@eq-immse* at fixed $z$: $\tfrac12\int\mathbb E\|x_0-x_0^*\|^2d\gamma=I(x_0;y_{\gamma_{\max}}|z)-I(x_0;y_{\gamma_{\min}}|z)$.
# 3. *Last step.* $I(x_0;y_\gamma|z)=H(y_\gamma|z)-\tfrac d2\log(2\pi e/\gamma)$, so $R_0-I(x_0;y_{\gamma_{\max}}|z)=-H(y_{\gamma_{\max}}|z)$.
# 4. *Start.* By @eq-compensation with $r$ the start law, $\mathbb E\,S-I(x_0;y_{\gamma_{\min}}|z)=\mathbb E_z\,\mathrm{KL}(q(x_{\gamma_{\min}}|z)\,\|\,\text{start})$.
#
# So the bound on $\log p(x_0|z)$ is, on average, $-H(y_{\gamma_{\max}}|z)$ minus two mismatches. For the rate, @eq-compensation gives $\mathbb E\,\mathrm{KL}(q(z|x_0)\|p(z))=I(x_0;z)+\mathrm{KL}(q(z)\|p(z))$. The data have $\mathbb E\log q(x_0)=-H(x_0)=-H(x_0|z)-I(x_0;z)$. Subtract; $I(x_0;z)$ cancels:
#
# $$\boxed{\begin{aligned}\mathbb E\log q(x_0)-\mathbb E\,\mathrm{bound}={}&\underbrace{\mathrm{KL}(q(z)\|p(z))}_{\text{aggregate}}+\underbrace{\tfrac12\!\int\!\mathbb E\|\hat x_0-x_0^*\|^2d\gamma}_{\text{denoiser}}\\&+\underbrace{\mathbb E_z\mathrm{KL}(q(x_{\gamma_{\min}}|z)\|\text{start})}_{\text{start}}+\underbrace{H(y_{\gamma_{\max}}|z)-H(x_0|z)}_{\text{resolution}}\end{aligned}}$$ {#eq-gap}
#
# **No term is negative.** Two are divergences, one is a square, and noise cannot lower an entropy: $H(y|z)\ge H(y|z,\varepsilon)=H(x_0|z)$. So the bound is never above $\mathbb E\log q$, for any network. And **the bound does not care how informative $z$ is**: $I(x_0;z)$ is gone. Maximum likelihood does not ask for an informative code; a loss that weights the rate by $\beta<1$ does ([SAMI](../models/14_sami.ipynb)).
#
# `expected_bound` is the bound in expectation, without sampling: `expected_sqnorm` averages, `quadrature` integrates. The estimator is an argument: right, wrong or ignorant.

# %%
#| exports
def expected_bound(world: GaussianWorld, denoiser_of: Callable, path: Path, gamma_min: float, gamma_max: float,
                   start: str, endpoint: Callable = lambda z: None, n: int = 96) -> dict[str, float]:
    """The expected costs of `bounds.bound_terms` and the expected `rate` against N(0, I), in nats, without sampling.

    `denoiser_of(z, xT)` gives an affine denoiser, `endpoint(z)` an affine x_T, or None on a diffusion.
    """
    d, k = world.data.dim, len(world.offset)

    def error(w, t=None):  # in units of noise at time t, or of images at the far end
        x0, eps, z = world.draw(w)
        D = denoiser_of(z, xT := endpoint(z))
        if t is not None: return residual(D, path, x0, eps, t, xT)
        return x0 - far_estimate(D, path, x0, xT) if start == "model" else x0

    def integrand(u): return expected_sqnorm(lambda w: error(w, path.t_of_gamma(u.exp())), 2 * d + k) / 2

    mean = world.encode(world.mu)
    return {
        "last_step": float(last_step(torch.zeros(1, d, dtype=torch.float64), gamma_max)),
        "denoising": float(quadrature(integrand, math.log(gamma_min), math.log(gamma_max), n)),
        "start": float(start_kl(path, expected_sqnorm(error, 2 * d + k), d, gamma_min, start)),
        "rate": float(world.Q.trace() + mean @ mean - k - torch.logdet(world.Psi)) / 2,
    }


# %% [markdown]
# ## Tight
#
# Data in $\mathbb R^4$ with variances 3, 1, 0.3, 0.1, and encoders whose codes are exactly $\mathcal N(0,I)$: $\Psi=\psi I$, $A=\sqrt{1-\psi}\,(A_0\Sigma A_0^\top)^{-1/2}A_0$, $o=-A\mu$ for a random $A_0$. With exact estimates and $|\log\gamma|\le18$ the bound must reach $\mathbb E\log q=-4.47178133$ nats, on VP as on VE, *whatever the information* $I(x_0;z)=H(z)-H(z|x_0)=-\tfrac k2\log\psi$. The denoising term has the closed form $\tfrac12\log|I+\gamma_{\max}\Sigma_{x|z}|-\tfrac12\log|I+\gamma_{\min}\Sigma_{x|z}|$.

# %%
R = torch.linalg.qr(torch.randn(4, 4, generator=g, dtype=torch.float64))[0]
mu, Sigma = f64(0.5, -1.0, 0.3, 0.0), R @ torch.diag(f64(3.0, 1.0, 0.3, 0.1)) @ R.T
A0 = torch.randn(2, 4, generator=g, dtype=torch.float64)
eye = torch.eye(4, dtype=torch.float64)
truth = -gaussian_entropy(Sigma).item()
test_close(truth, -4.47178133, eps=1e-8)


def matched(psi):
    "An encoder of posterior variance psi whose codes are N(0, I)."
    vals, vecs = torch.linalg.eigh(A0 @ Sigma @ A0.T)
    A = (1 - psi) ** 0.5 * (vecs / vals.sqrt()) @ vecs.T @ A0
    return GaussianWorld(mu, Sigma, A, -A @ mu, psi * torch.eye(2))


def costs(world, path, low, high, estimate=None, start="prior", **kw):
    estimate = estimate or (lambda z, xT: world.denoiser(path, z, xT))
    return expected_bound(world, estimate, path, math.exp(low), math.exp(high), start,
                          **kw)


def gap(*args, **kw): return truth + sum(costs(*args, **kw).values())


seen = {}
for psi in (0.2, 0.5, 0.9):
    vp, ve = (costs(matched(psi), path, -18, 18) for path in (cosine, wide))
    for c in (vp, ve): assert 0 < truth + sum(c.values()) < 1e-6
    test_close(vp["denoising"], ve["denoising"], eps=1e-9)
    cov = matched(psi).x_given_z.covs[0]
    most, least = (torch.logdet(eye + math.exp(h) * cov) for h in (18, -18))
    test_close(vp["denoising"], (most - least).item() / 2, eps=1e-8)
    seen[psi] = {"$I(x_0;z)$ [nats]": f"{-math.log(psi):.3f}",
               "gap [nats]": f"{truth + sum(vp.values()):.1e}"}
Table(seen, r"variance $\psi$ in the code")

# %%
spans = {h: gap(matched(0.2), cosine, -h, h) for h in (6, 10, 14, 18)}
test_close(math.log(spans[10] / spans[14]), 4, eps=0.01)  # both ends vanish as exp(-h)
Table({f"± {h}": f"{v:.1e}" for h, v in spans.items()}, r"$\log\gamma$ within",
      "gap [nats]")

# %% [markdown]
# ## Loose, for four known reasons
#
# Now codes that are not $\mathcal N(0,I)$. With exact estimates and a wide range only the first term of @eq-gap is left. Then everything is wrong at once: a guidance with its covariance replaced by 1.1 times the diagonal and its mean map shrunk by 0.8, and a short range $\log\gamma\in[-5,7]$. Last, a bridge with the start `"model"` that begins at $\gamma_{\min}=1$, far from the end, with an estimate shrunk by 0.9. Each of the four terms is computed by its own formula, and their sum must be the gap.

# %%
world = GaussianWorld(mu, Sigma, A0 / 2, f64(0.3, -0.2), 0.2 * torch.eye(2))
mean = world.encode(mu)
aggregate = gaussian_kl(mean, world.Q, 0 * mean, torch.eye(2).double())
test_close(gap(world, cosine, -18, 18), aggregate.item(), eps=1e-6)


def gap_terms(path, low, high, estimate, start, endpoint):
    cov, t = world.x_given_z.covs[0], path.t_of_gamma(math.exp(low))
    _, b, c = path.coefs(t)
    width = 1.0 if start == "prior" and path.vp else c**2  # variance of the start law

    def error(w, t):
        x0, eps, z = world.draw(w)
        x_t = path.mix(x0, eps, t, xT := endpoint(z))
        wrong = estimate(z, xT)(x_t, t) - world.denoiser(path, z, xT)(x_t, t)
        return path.gamma(t).sqrt() * wrong

    def shift(w):  # mean of q(x_t | z) minus mean of the start law, in units of b
        x0, _, z = world.draw(w)
        D = estimate(z, xT := endpoint(z))
        m = far_estimate(D, path, x0, xT) if start == "model" else 0
        return world.mean_given_z(z) - m

    ratio = (b**2 * cov + c**2 * eye) / width
    moved = b**2 / width * expected_sqnorm(shift, 10)
    at = lambda u: expected_sqnorm(lambda w: error(w, path.t_of_gamma(u.exp())), 10)
    return {
        "aggregate": aggregate,
        "denoiser": quadrature(at, low, high) / 2,
        "start": (ratio.trace() + moved - 4 - torch.logdet(ratio)) / 2,
        "resolution": torch.logdet(eye + math.exp(-high) * torch.linalg.inv(cov)) / 2,
    }


# %%
def misguided(path):
    def estimate(z, xT):
        def D(x_t, t):
            t = torch.as_tensor(t).flatten()[0]
            m, V, J = world.code_given_noisy(path, x_t, t)
            surprise = (z - mean) - 0.8 * (m - mean)
            guidance = 0.8 * surprise / (1.1 * V.diagonal()) @ world.A @ J
            _, b, c = path.coefs(t)
            return denoiser(world.data, path)(x_t, t) + c**2 / b * guidance
        return D
    return estimate


shrunk = lambda z, xT: lambda x_t, t: 0.9 * world.denoiser(bridge, z, xT)(x_t, t)
W = torch.randn(2, 4, generator=g, dtype=torch.float64)
none, end = (lambda z: None), (lambda z: z @ W)
table = {}
for name, path, low, high, estimate, start, endpoint in [
    ("VP", cosine, -5, 7, misguided(cosine), "prior", none),
    ("VE", wide, -5, 7, misguided(wide), "prior", none),
    ("bridge", bridge, 0, 7, shrunk, "model", end),
]:
    parts = gap_terms(path, low, high, estimate, start, endpoint)
    assert all(v >= 0 for v in parts.values())
    whole = gap(world, path, low, high, estimate, start, endpoint=endpoint)
    test_close(whole, sum(parts.values()).item(), eps=1e-6)
    table[name] = {k: v.item() for k, v in parts.items()} | {"gap": whole}
Table(table, "nats", digits=4)

# %% [markdown]
# **Grey levels.** If the last step is a probability of levels ([Bounds](06_bounds.ipynb)), $x_0$ has no density, and step 3 changes. $H(x_0|z)$ is now that of a discrete law, and with $y=y_{\gamma_{\max}}$ the cost of the last step is $-\mathbb E\log P(x_0|y)=H(x_0|y,z)+\mathbb E\,\mathrm{KL}(q(x_0|y,z)\,\|\,P(x_0|y))$, while $I(x_0;y|z)=H(x_0|z)-H(x_0|y,z)$. The sum is $H(x_0|z)$ and a divergence: in @eq-gap the resolution becomes
#
# $$\mathbb E\,\mathrm{KL}\big(q(x_0|y_{\gamma_{\max}},z)\,\|\,P(x_0|y_{\gamma_{\max}})\big),$$ {#eq-gap-levels}
#
# what the model loses by guessing the level from $y$ alone, all levels alike. Three levels on a line, no code, an exact estimate, a short range; the terms from grids, the bound from `bounds`:

# %%
grey, share = f64(-1, 0, 1), f64(0.5, 0.2, 0.3)
low, high, t_low = -3.0, 1.5, cosine.t_of_gamma(math.exp(-3.0))
bell = lambda x, m, s: Normal(m, s).log_prob(x[:, None]).exp() * (grid[1] - grid[0])


def seen_at(gamma):
    "Joint of y (rows) and level, and the probabilities of levels given y."
    joint = share * bell(grid, grey, gamma**-0.5)
    return joint, joint / joint.sum(1, keepdim=True).clamp(min=1e-300)


def half_cost(u):
    joint, given = seen_at(u.exp())
    return u.exp() * (joint * (grey - (given @ grey)[:, None]) ** 2).sum() / 2


eps = torch.linspace(-9, 9, 4001, dtype=torch.float64)
chance = torch.exp(-(eps**2) / 2) / torch.exp(-(eps**2) / 2).sum()
guess = lambda v: last_step(v.expand(4001, 1), math.exp(high), 3, eps[:, None])
last = sum(s * (chance @ guess(v)) for s, v in zip(share, grey, strict=True))
start = start_kl(cosine, share @ grey**2, 1, math.exp(low), "prior")
bound = last + quadrature(half_cost, low, high) + start
entropy = -torch.special.xlogy(share, share).sum()

joint, given = seen_at(math.exp(high))
alike = bell(grid, grey, math.exp(-high / 2))
ratio = torch.where(joint > 0, given / (alike / alike.sum(1, keepdim=True)), 1.0)
_, b, c = cosine.coefs(t_low)
noisy_law = (share * bell(grid, b * grey, c)).sum(1)
prior = bell(grid, f64(0.0), 1.0)[:, 0]
far_off = torch.where(noisy_law > 0, noisy_law / prior, 1.0)
parts = {"levels": (joint * ratio.log()).sum(),
         "start": (noisy_law * far_off.log()).sum()}
test_close(bound - entropy, sum(parts.values()), eps=1e-9)
Table({"gap": f"{bound - entropy:.8f}"} | {k: f"{v:.8f}" for k, v in parts.items()},
      "term", "nats")


# %% [markdown]
# ## Information is an area
#
# Given $x_0$, the code tells nothing about $y_\gamma$. So, by the chain rule, $I(x_0;y_\gamma)-I(x_0;y_\gamma|z)=I(z;y_\gamma)$. By @eq-immse, without and with $z$, its derivative is half the difference between the errors of the two estimates: the area between them is the information that the code carries. By orthogonality the difference of the errors is the squared distance of the two estimates, and by Bayes' rule for scores that distance is the guidance $G_t=\nabla_{x_t}\log q(z|x_t)$ of [Worlds in closed form](03_worlds.ipynb):
#
# $$\begin{aligned}I(x_0;z)&=\tfrac12\int\Big(\mathbb E\|x_0-\mathbb E[x_0|x_\gamma]\|^2-\mathbb E\|x_0-x_0^*\|^2\Big)d\gamma\\&=\tfrac12\int c^2\,\mathbb E\|G_t\|^2\,d\log\gamma,\end{aligned}$$ {#eq-rate-area}
#
# over all $\gamma$; over a part of the range it is the increase of $I(x_t;z)$. The ends are right: at $\gamma=0$ nothing is known of $x_0$, and what $I(z;y_\gamma)$ still lacks at large $\gamma$ is $I(z;x_0|y_\gamma)\le\mathbb E\,\mathrm{KL}(q(z|x_0)\,\|\,q(z|x_0'))$, where $x_0'$ is a second draw from the law of $x_0$ given $y_\gamma$ (Jensen). That law shrinks to a point; for a Gaussian code with a smooth mean the divergence goes to zero with it.
#
# So a code has a *place on the noise scale*, in nats per unit of $\log\gamma$. For Gaussians $I(x_t;z)=\tfrac12\log|Q|-\tfrac12\log|V_t|$, with the covariances $Q$ of $z$ and $V_t$ of $z$ given $x_t$.

# %%
def energy(u):
    t = cosine.t_of_gamma(torch.as_tensor(u).exp())

    def scaled(w):
        x0, eps, z = world.draw(w)
        return cosine.coefs(t).c * world.guidance(cosine, cosine.mix(x0, eps, t), t, z)

    return expected_sqnorm(scaled, 10) / 2


def error_of(D, u):
    t = cosine.t_of_gamma(torch.as_tensor(u).exp())

    def wrong(w):
        x0, eps, z = world.draw(w)
        return residual(D(z), cosine, x0, eps, t)

    return expected_sqnorm(wrong, 10) / 2


def told(u):
    V = world.code_given_noisy(cosine, mu[None], cosine.t_of_gamma(math.exp(u)))[1]
    return (torch.logdet(world.Q) - torch.logdet(V)) / 2


t, z = f64(0.3)[0], f64(0.7, -0.4)
_, b, c = cosine.coefs(t)
x_t = torch.randn(20, 4, generator=g, dtype=torch.float64)
given_z = noisy(gaussian(world.mean_given_z(z[None])[0], world.x_given_z.covs[0]), b, c)
split = score(noisy(world.data, b, c), x_t) + world.guidance(cosine, x_t, t, z)
test_close(score(given_z, x_t), split, eps=1e-10)  # Bayes' rule for scores

area = quadrature(energy, -18, 18)
test_close(area, (torch.logdet(world.Q) - torch.logdet(world.Psi)) / 2, eps=1e-6)
test_close(quadrature(energy, -6, 8), told(8) - told(-6), eps=1e-8)

u = torch.linspace(-6, 8, 60, dtype=torch.float64)
free = torch.stack([error_of(lambda z: denoiser(world.data, cosine), v) for v in u])
guided = torch.stack([error_of(lambda z: world.denoiser(cosine, z), v) for v in u])
test_close(free - guided, torch.stack([energy(v) for v in u]), eps=1e-10)

# %%
#| label: fig-information-area
#| fig-cap: 'The integrand of the bound with exact estimates, in four dimensions. Knowing the code $z$ lowers the error most around $\log\gamma=1$; the area between the curves, over all levels, is the information in the code, 1.03 nats.'
#| fig-alt: 'Line chart of half the expected squared error of the noise estimate, in nats per unit of log gamma, against log gamma from -6 to 8. Two S-shaped curves rise from 0 to 2; the one given z runs below the one without a code, and the area between them is shaded.'
fig, ax = plt.subplots()
ax.plot(u, free, label="without a code")
ax.plot(u, guided, "--", label="given $z$")
ax.fill_between(u, free, guided, alpha=0.15, label=f"$I(x_0;z)$ = {area:.2f} nats")
ax.set(xlabel=r"$\log\gamma$", ylabel=r"nats per unit of $\log\gamma$",
       title="The integrand of the bound, and what a code takes away")
ax.legend();

# %% [markdown]
# ## A bridge, step by step
#
# The scalar world of [Worlds in closed form](03_worlds.ipynb), with the code's noise chosen so that $x_0|x_T$ has the variance $v=0.1$. With the exact estimate the integral from $\gamma=0$ is $I(x_0;x_\gamma|x_T)=\tfrac12\log(1+v\gamma)$. It grows without limit, like $H(x_0|x_T)+\tfrac12\log\frac{\gamma}{2\pi e}$ with the entropy $H(x_0|x_T)=\tfrac12\log2\pi e\,v$: a reconstruction loss without a last step bounds nothing. With it, the sum tends to the entropy.

# %%
v = 0.1
noise_of_code = 0.64 * 0.25 * v / (0.25 - v)
variance, slope, noise = (f64(q)[:, None] for q in (0.25, 0.8, noise_of_code))
line = GaussianWorld(f64(0.0), variance, slope, f64(0.0), noise)
test_close(line.x_given_z.covs.item(), v, eps=1e-12)
entropy = math.log(2 * math.pi * math.e * v) / 2
ideal = lambda z, xT: line.denoiser(bridge, z, xT)
for t, known in [(1e-2, 2.259856), (1e-4, 4.604715)]:
    high = float(bridge.gamma(t))
    b = expected_bound(line, ideal, bridge, 1e-9, high, "model", lambda z: z, n=400)
    test_close(b["denoising"], known, eps=1e-5)
    test_close(b["denoising"] + b["start"], math.log1p(v * high) / 2, eps=1e-6)
    test_close(b["denoising"], entropy + math.log(high / (2 * math.pi * math.e)) / 2,
               eps=1 / (v * high))
test_close(b["last_step"] + b["denoising"], entropy, eps=1e-3)
f"last step + integral {b['last_step'] + b['denoising']:.5f}, entropy {entropy:.5f}"

# %% [markdown]
# ## Deterministic codes
#
# If $z=Ax_0+o$ exactly, the rate is infinite, and what remains bounds $\log p(x|z)$: on average $-H(y_{\gamma_{\max}}|z)$, by the four facts. Given $z$, the image is known in $k$ directions. There $y_{\gamma_{\max}}$ varies by its noise alone, and each such direction adds $\tfrac12\log\frac{\gamma_{\max}}{2\pi e}$. So this bound grows by $k/2$ for every unit of $\log\gamma_{\max}$, without limit: it measures $\gamma_{\max}$, not the model.
#
# The remedy is a noise of our own, $q_\tau(z|x)=\mathcal N(Ax+o,\tau^2I)$. The bound is then a true one for every $\tau$, and the best $\tau$ may be chosen. Here the gap is the aggregate term, so the best is the $\tau$ that makes the codes most nearly $\mathcal N(0,I)$.

# %%
A = matched(0.2).A
exact_code = GaussianWorld(mu, Sigma, A, -A @ mu, torch.zeros(2, 2))
seen = {h: costs(exact_code, cosine, -18, h) for h in (12, 14, 16)}
given_z = {h: -sum(v for k, v in c.items() if k != "rate") for h, c in seen.items()}
test_close(given_z[16] - given_z[14], 2 * 2 / 2, eps=1e-3)
assert given_z[16] > truth
Table({h: f"{v:.3f}" for h, v in given_z.items()}, r"$\log\gamma_{\max}$",
      r"bound on $\mathbb E\log p(x\mid z)$ [nats]")

# %%
taus = (0.03, 0.3, 0.2**0.5, 1.0, 3.0)
own = {t: GaussianWorld(mu, Sigma, A, -A @ mu, t**2 * torch.eye(2)) for t in taus}
noised = {t: -gap(coded, cosine, -18, 18) for t, coded in own.items()}
assert max(noised.values()) < 0 and max(noised, key=noised.get) == taus[2]
Table({f"{t:.2f}": f"{truth + v:.3f}" for t, v in noised.items()}, r"$\tau$",
      r"bound on $\mathbb E\log p(x)$ [nats]")

# %% [markdown]
# ## Why a VAE pays d/2
#
# A bound by Jensen's inequality is below $\log p(x_0)$ of *its own model*. A decoder $\mathrm{dec}(z)$ that does not look at $x_t$ defines a model that draws $y\sim\mathcal N(\mathrm{dec},1/\gamma)$ and then $x_0\sim\mathcal N(y,1/\gamma)$: two noises, together $x_0\sim\mathcal N(\mathrm{dec},2/\gamma)$. Its bound is $\log\mathcal N(x_0;\mathrm{dec},1/\gamma)-\tfrac d2$ ([Bounds](06_bounds.ipynb)). With $e=x_0-\mathrm{dec}$,
#
# $$\log\mathcal N(x_0;\mathrm{dec},\tfrac2\gamma)-\log\mathcal N(x_0;\mathrm{dec},\tfrac1\gamma)+\tfrac d2=\tfrac d2(1-\log2)+\tfrac\gamma4\|e\|^2>0.$$ {#eq-jensen}
#
# The second noise is of no use to a decoder that ignores $y$. A plain Gaussian decoder leaves it out and saves $d/2$.

# %%
x = torch.rand(5, 1, 8, 8, generator=g, dtype=torch.float64) * 2 - 1
dec, gamma = 0.9 * x, 50.0
terms = bound_terms(lambda x_t, t: dec, cosine, x, gamma, gamma, "model", n=1, seed=0)
own = Normal(dec, (2 / gamma) ** 0.5).log_prob(x).flatten(1).sum(1)
jensen = 64 / 2 * (1 - math.log(2)) + gamma / 4 * (x - dec).flatten(1).square().sum(1)
test_close(own + sum(terms.values()), jensen, eps=1e-9)

# %% [markdown]
# ## Exercises
#
# **1.** *Compute.* Pixels $x\sim\mathcal N(0,1)$ and a code $z=x+{}$noise of variance $\psi$. Where on the noise scale is this code most informative, and what does its area add up to?

# %%
#| code-fold: true
#| code-summary: "Solution"
psi = 0.1
left = psi / (1 + psi)
place = lambda u: u.exp() * (1 / (1 + u.exp()) - left / (1 + left * u.exp())) / 2
u = torch.linspace(-10, 12, 22_001, dtype=torch.float64)
test_close(u[place(u).argmax()], math.log(1 / left) / 2, eps=1e-3)  # the middle
test_close(quadrature(place, -25, 30, 400), math.log(1 + 1 / psi) / 2, eps=1e-8)


# %% [markdown]
# **2.** *Extend.* Shrink the exact estimate by a factor $\kappa$, $\hat x_0=\kappa\,x_0^*$. How does the gap grow with $1-\kappa$? Predict it from @eq-gap, then measure it with `gap`.

# %%
#| code-fold: true
#| code-summary: "Solution"
def shrink(kappa):
    return lambda z, xT: lambda x_t, t: kappa * world.denoiser(cosine, z, xT)(x_t, t)


tight = gap(world, cosine, -5, 7)
more = {k: gap(world, cosine, -5, 7, shrink(k)) - tight for k in (0.9, 0.8, 0.7)}
# only the denoiser's term changes: (1 - kappa)^2 times an integral of E|x_0^*|^2
test_close(more[0.8] / more[0.9], 4.0, eps=1e-6)
test_close(more[0.7] / more[0.9], 9.0, eps=1e-6)

# %% [markdown]
# ## What can go wrong
#
# * **A range that is too short.** Resolution and start then dominate, and hide the differences in the other terms. Compare models on equal ranges.
# * **Reading a tight bound as a good code.** A code that says nothing can have a gap of zero.
# * **Blaming the denoiser for the prior.** With codes that are far from $p(z)$ the aggregate term dwarfs the others; a prior fitted to the codes lowers it ([Priors](../models/12_priors.ipynb)).
# * **Looking for the terms in a trained model.** The denoiser's term needs $x_0^*$, which only an oracle knows. What can be measured is the bound: minus their sum, up to the unknown $\mathbb E\log q$.
