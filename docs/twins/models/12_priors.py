# %% [markdown]
# # Priors
#
# > Where codes come from when there is no image: a Gaussian fitted to them, a diffusion that refines it, and the price of a code under each.

# %% [markdown]
# Where does a code come from when there is no image, and what does a code cost? One needs the first to *sample* images, and the second, $\mathrm{KL}(q(z|x)\|p(z))$, to *bound* $\log p(x)$. Both ask for a prior $p(z)$. The standard normal is the prior of training; after training the codes are rarely standard normal, and a prior that does not fit them costs nats and gives bad samples. This page fits a Gaussian with full covariance, which is exact for linear models of Gaussian data and already useful for the others. Then a second diffusion, in the space of codes, learns what is not Gaussian about them; its price is bounded by the integral that bounds images.
#
# *Borrowed from a later page: [The contract](13_contract.ipynb), for a model around the codes.*

# %%
#| default_exp models.priors

# %%
#| exports
import copy
import math
from collections.abc import Callable, Iterator

import torch
from fastcore.basics import patch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from scoreae.core.checks import bcast, randn_like, require, require_int, require_number, rng, sqnorm
from scoreae.foundations import samplers
from scoreae.foundations.paths import VPCosine
from scoreae.models.networks import MLP

# %%
#| hide
import itertools
import tempfile

import matplotlib.pyplot as plt
from fastcore.test import expect_fail, test_close, test_eq
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from scoreae.core.pages import Table, paper
from scoreae.foundations.bounds import bound_terms
from scoreae.foundations.worlds import GaussianWorld, Mixture, log_density
from scoreae.models.contract import Autoencoder

# %%
#| hide
paper()


# %% [markdown]
# ## The price of a code
#
# For a diagonal Gaussian posterior and a Gaussian prior $\mathcal N(m,C)$ in $k$ dimensions, insert the two log-densities into $\mathbb E_q[\log q-\log p]$. The entropy of $q$ is $\tfrac12\log|2\pi e\operatorname{diag}v|$, and $\mathbb E_q[(z-m)^\top C^{-1}(z-m)]=(\mu-m)^\top C^{-1}(\mu-m)+\operatorname{tr}C^{-1}\operatorname{diag}v$. So
#
# $$\begin{aligned}\mathrm{KL}\big(\mathcal N(\mu,\operatorname{diag}v)\,\|\,\mathcal N(m,C)\big)=\tfrac12\Big[&(\mu-m)^\top C^{-1}(\mu-m)+\operatorname{tr}C^{-1}\operatorname{diag}v\\&-k+\log|C|-\sum_j\log v_j\Big].\end{aligned}$$ {#eq-kl}
#
# Against $\mathcal N(0,I)$ this is a sum over axes, $\tfrac12\sum_j(\mu_j^2+v_j-1-\log v_j)$: the nats that each axis spends.

# %%
#| exports
def kl_per_axis(mean: Tensor, var: Tensor) -> Tensor:
    "KL(N(mean, var) || N(0, 1)) of every axis, in nats: (N, k), (N, k) to (N, k)."
    return (mean**2 + var - 1 - var.log()) / 2


# %% [markdown]
# ## A Gaussian fitted to the codes
#
# The codes of a data set have the law $q(z)=\mathbb E_x\,q(z|x)$, whose mean is the mean of the posterior means and whose covariance is *their covariance plus the mean posterior variance*. Which Gaussian minimises the average of @eq-kl over the data? Only $\mathbb E\big[(z-m)^\top C^{-1}(z-m)\big]+\log|C|$ depends on $m$ and $C$. Its derivatives vanish at $m=\mathbb E z$ and $C=\operatorname{Cov}z$: the Gaussian with the moments of $q(z)$. In memory it is $m$ and a Cholesky factor $R$, $C=RR^\top$, both stored with the model; until fitted it is $\mathcal N(0,I)$.
#
# A small ridge, $10^{-6}$ of each axis's variance, keeps collinear or dead axes from making $C$ singular.
#
# Any prior answers four calls: `fit`, `sample`, `rate`, and, for the codes of a deterministic encoder, *noised*. A rate that has to be estimated takes a seed; this one is exact.

# %%
#| exports
class GaussianPrior(nn.Module):
    "p(z) = N(mean, root root^T) on codes of `z_dim` axes: standard normal until `fit`."

    def __init__(self, z_dim: int):
        super().__init__()
        self.config = {}  # the arguments, besides `z_dim`, with which a saved model builds its prior again
        self.register_buffer("mean", torch.zeros(require_int(z_dim, "z_dim")))
        self.register_buffer("root", torch.eye(z_dim))

    @property
    def cov(self) -> Tensor: return self.root @ self.root.T
    @property
    def std(self) -> Tensor: return self.cov.diagonal().sqrt()

    def set_moments(self, mean: Tensor, cov: Tensor) -> "GaussianPrior":
        "Take the given mean (k,) and covariance (k, k), in place."
        var = cov.double().diagonal()
        ridge = (1e-6 * var).clamp(min=max(1e-30, 1e-12 * float(var.mean())))
        self.mean.copy_(mean)
        self.root.copy_(torch.linalg.cholesky(cov.double() + ridge.diag()))
        return self

    def fit(self, mean: Tensor, var: Tensor) -> "GaussianPrior":
        "Match the codes of a data set, posterior means and variances (N, k), by moments, in place."
        require(len(mean) > 1 and bool(mean.isfinite().all()), "mean", mean, "finite codes of at least two images")
        require(bool((var >= 0).all() and var.isfinite().all()), "var", var, "finite variances >= 0")
        spread = torch.cov(mean.double().T).reshape(len(self.mean), -1)
        return self.set_moments(mean.double().mean(0), spread + var.double().mean(0).diag())

    def sample(self, n: int, seed: int | torch.Generator | None = None) -> Tensor:
        "`n` codes, (n, k)."
        g, like = rng(seed, self.mean.device), self.mean
        eps = torch.randn(require_int(n, "n"), len(like), generator=g, device=like.device, dtype=like.dtype)
        return self.mean + eps @ self.root.T

    def rate(self, mean: Tensor, var: Tensor, seed: int | torch.Generator | None = 0) -> Tensor:
        "KL(N(mean, diag var) || p) in nats: (N, k), (N, k) to (N,), in float64. Exact: `seed` is not used."
        root, mean, var = self.root.double(), mean.double(), var.double()
        inverse = torch.linalg.solve_triangular(root, torch.eye(len(root)).to(root), upper=False)
        white, spread = (mean - self.mean.double()) @ inverse.T, inverse.square().sum(0)  # diagonal of C^-1
        logdet = 2 * root.diagonal().log().sum()
        return (white.square().sum(1) + var @ spread - len(root) + logdet - var.log().sum(1)) / 2

    def noised(self, tau: float) -> tuple[Tensor, "GaussianPrior"]:
        "Standard deviations (k,) of a deterministic code's own noise of relative strength `tau`, and its prior."
        var = self.cov.double().diagonal() * require_number(tau, "tau", 0, above=True) ** 2
        wide = GaussianPrior(len(self.mean)).to(self.mean)
        return var.sqrt().to(self.mean), wide.set_moments(self.mean, self.cov.double() + var.diag())


# %% [markdown]
# $C^{-1}=R^{-\top}R^{-1}$, so its diagonal is the column sums of the squares of $R^{-1}$. Checks against the library's own divergences, in one axis and in many; the fitted Gaussian must beat every other one that we try, on the average of @eq-kl over the codes that it was fitted to; and samples must have its moments.

# %%
g = torch.Generator().manual_seed(0)
normal = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)
uniform = lambda *shape: torch.rand(*shape, generator=g, dtype=torch.float64)
mean, var = normal(500, 3) @ normal(3, 3) + 2, uniform(500, 3) + 0.1
prior = GaussianPrior(3).double().fit(mean, var)
fitted = MultivariateNormal(prior.mean, prior.cov)
q = MultivariateNormal(mean, torch.diag_embed(var))
test_close(prior.rate(mean, var), kl_divergence(q, fitted), eps=1e-9)
standard = Independent(Normal(torch.zeros(3), torch.ones(3)), 1)
q = Independent(Normal(mean, var.sqrt()), 1)
test_close(kl_per_axis(mean, var).sum(1), kl_divergence(q, standard), eps=1e-6)
test_close(GaussianPrior(3).rate(mean, var), kl_per_axis(mean, var).sum(1), eps=1e-9)

other = lambda m, C: GaussianPrior(3).double().set_moments(m, C).rate(mean, var).mean()
best, m, C = prior.rate(mean, var).mean(), prior.mean, prior.cov
assert other(m + 0.1, C) > best and other(m, C.diagonal().diag()) > best
assert other(m, 1.1 * C) > best and other(m, 0.9 * C) > best
draws = prior.sample(200_000, seed=1)
test_close(torch.cov(draws.T) / C.diagonal().max(), C / C.diagonal().max(), eps=0.02)
test_close(draws.mean(0), m, eps=0.03)
rates = {"fitted Gaussian": best, "N(0, I)": kl_per_axis(mean, var).sum(1).mean()}
Table({k: f"{v:.3f}" for k, v in rates.items()}, "prior", "mean rate (nats)")

# %%
with expect_fail(ValueError, contains="mean"): prior.fit(mean * float("nan"), var)

# %% [markdown]
# ## Noised codes
#
# A deterministic encoder spends infinitely many nats: @eq-kl with $v\to0$. To put such a model on the same axis as the others, we *evaluate* it with a noise of our own,
#
# $$q_\tau(z|x)=\mathcal N\big(\mathrm{enc}(x),\ \tau^2\operatorname{diag}C\big),\qquad p_\tau=\mathcal N\big(m,\ C+\tau^2\operatorname{diag}C\big),$$ {#eq-noised}
#
# in units of each axis's own spread, so that the scale of the code does not matter. Any $\tau$ gives a true bound on $\log p(x)$, of the model that decodes noised codes; a good $\tau$ is found on a validation split.

# %%
exact = GaussianPrior(3).double().fit(mean, torch.zeros_like(var))
std, wide = exact.noised(0.5)
direct = GaussianPrior(3).double().fit(mean, (std**2).expand_as(mean))
test_close(wide.cov, direct.cov, eps=1e-4)


def rate_of(tau, unit=1.0):
    "The mean rate of the codes, in another unit and noised by `tau`."
    codes = mean * unit
    std, wide = GaussianPrior(3).double().fit(codes, torch.zeros_like(var)).noised(tau)
    return wide.rate(codes, (std**2).expand_as(codes)).mean().item()


units = torch.tensor([1.0, 30.0, 0.01], dtype=torch.float64)  # must not matter
test_close(rate_of(0.5), rate_of(0.5, units), eps=1e-4)
Table({tau: f"{rate_of(tau):.3f}" for tau in (0.01, 0.1, 1.0)}, "τ", "mean rate (nats)")


# %% [markdown]
# ## What the rate pays for
#
# The rate pays for three things at once. With $q(z)=\tfrac1N\sum_nq(z|x_n)$, the law of all codes of $N$ images, and a prior that is a product over axes, insert $q(z)$ and $\prod_jq(z_j)$ into the logarithm [@chen2018isolating]:
#
# $$\mathbb E\,\mathrm{KL}(q(z|x)\|p(z))=\underbrace{I(x;z)}_{\text{information}}+\underbrace{\mathrm{KL}\Big(q(z)\,\Big\|\,\prod_jq(z_j)\Big)}_{\text{total correlation}}+\underbrace{\sum_j\mathrm{KL}(q(z_j)\|p(z_j))}_{\text{per axis}} .$$ {#eq-tc}
#
# The second is zero if and only if the axes are independent, which is what *disentangling* asks for ([Baselines](17_baselines.ipynb)).
#
# $q(z)$ is a mixture over the whole data set; a batch of $M$ images sees a part of it. A code $z$ drawn from image $i$ of the batch has its own image for certain and the others as a random sample of the rest, so the unbiased estimate gives image $i$ the weight $\tfrac1N$ and shares the rest equally,
#
# $$q(z)\approx\tfrac1N\,q(z|x_i)+\tfrac{N-1}{N(M-1)}\sum_{m\ne i}q(z|x_m),$$ {#eq-stratified}
#
# and the same for each marginal. (Chen et al.'s stratified estimate has the same mean, with an uneven share.) Its *logarithm* is biased, more so for an informative code and a small batch.

# %%
#| exports
def total_correlation(z: Tensor, mean: Tensor, std: Tensor, images: int) -> Tensor:
    """KL(q(z) || prod_j q(z_j)) in nats, estimated from a batch: codes z (N, k) drawn from N(mean, std^2), each (N, k).

    `images` is the size of the data set of which the batch is a sample (after Chen et al. 2018).
    """
    n = len(z)
    q = torch.distributions.Normal(mean, std, validate_args=False)
    log_q = q.log_prob(z[:, None])  # code i under image j: (N, N, k)
    share = torch.full_like(log_q[..., 0], (1 - 1 / images) / max(n - 1, 1)).fill_diagonal_(1 / images).log()
    joint = torch.logsumexp(log_q.sum(2) + share, 1)
    return (joint - torch.logsumexp(log_q + share[..., None], 1).sum(1)).mean()


# %% [markdown]
# Codes with Gaussian means of covariance $K$ and noise $s^2I$ have a Gaussian $q(z)$ of covariance $C=K+s^2I$, whose total correlation is $\tfrac12(\sum_j\log C_{jj}-\log|C|)$. With all images as the batch, the estimate differs only by the finite sample; on few it is the exact mixture's. Small batches underestimate here.

# %%
K = torch.tensor([[1, 0.8, 0.3], [0.8, 1, 0.2], [0.3, 0.2, 1]], dtype=torch.float64)
N, s = 1500, 0.4
C = K + s**2 * torch.eye(3)
closed = (C.diagonal().log().sum() - torch.logdet(C)) / 2
mean = normal(N, 3) @ torch.linalg.cholesky(K).T
std = torch.full_like(mean, s)
z = mean + s * normal(N, 3)


def estimate(M):
    "The mean of the estimates from all batches of `M` images."
    batches = zip(z.split(M), mean.split(M), std.split(M), strict=True)
    return torch.stack([total_correlation(*b, N) for b in batches]).mean()


estimates = {M: estimate(M) for M in (60, 300, N)}
assert abs(estimates[N] - closed) < 0.1
assert estimates[60] < estimates[300] < estimates[N]

few = slice(0, 40)  # all weights equal: the log-density of a mixture
even = torch.distributions.Categorical(torch.ones(40, dtype=torch.float64))
mix = lambda m, d: torch.distributions.MixtureSameFamily(even, d(m, s)).log_prob
joint = mix(mean[few], lambda m, s: Independent(Normal(m, s), 1))(z[few]).mean()
axes = sum(mix(mean[few, j], Normal)(z[few, j]).mean() for j in range(3))
test_close(total_correlation(z[few], mean[few], std[few], 40), joint - axes, eps=1e-9)
found = {"closed form": closed, **{f"batches of {M}": v for M, v in estimates.items()}}
Table({k: v.item() for k, v in found.items()}, "from", "total correlation (nats)")

# %%
at = torch.rand(5, 5, generator=rng(2), dtype=torch.float64)  # q(z_i | x_m), 5 images
for i, row in enumerate(at):  # @eq-stratified with M = 3, averaged over all batches
    others = itertools.combinations([m for m in range(5) if m != i], 2)
    found = [row[i] / 5 + 4 / (5 * 2) * row[list(pair)].sum() for pair in others]
    test_close(torch.stack(found).mean(), row.mean(), eps=1e-9)


# %% [markdown]
# ## A diffusion of codes
#
# Codes have clusters and corners that no Gaussian has. DiffAE therefore trains a second diffusion on them [@preechakul2022diffae], and nothing new is needed: the path of [Paths](../foundations/02_paths.ipynb), the bound of [Bounds](../foundations/06_bounds.ipynb), the sampler of [Samplers](../foundations/08_samplers.ipynb), with a small MLP in the place of the U-Net. It works on *standardised* codes $s=(z-m)/\operatorname{std}$, axis by axis.
#
# We let it begin where the Gaussian ends. Let $K$ be the correlation matrix of the codes, and $y=s+\gamma^{-1/2}\varepsilon$. The exact estimate of a Gaussian $s$ is $K(K+I/\gamma)^{-1}y$. The network adds what is missing:
#
# $$\hat s(y,\gamma)=K\big(K+\tfrac1\gamma I\big)^{-1}y+\frac{F(y,\gamma)}{\sqrt{1+\gamma}}.$$ {#eq-prior-estimate}
#
# The factor is the posterior spread of a unit normal. With $F=0$, which is how the network starts, the prior *is* the fitted Gaussian. Training can only be about the rest.
#
# **The rate.** By the bound, $-\log p(s)\le-R_0+\tfrac12\int\mathbb E\|s-\hat s\|^2d\gamma+S$, and $-\log p(z)$ is that plus $\sum_j\log\operatorname{std}_j$. The integral splits. Let $G$ be the first part of @eq-prior-estimate and $r$ the second:
#
# $$\|s-G-r\|^2=\|s-G\|^2+\|r\|^2-2\,r\cdot(s-G).$$ {#eq-prior-split}
#
# *The Gaussian part needs no sampling.* In the eigenbasis of $K$, with eigenvalue $\ell$, the error is $\tfrac{s}{1+\ell\gamma}-\tfrac{\ell\gamma}{1+\ell\gamma}\gamma^{-1/2}\varepsilon$, of mean square $\tfrac{s^2+\ell^2\gamma}{(1+\ell\gamma)^2}$. Its integral is elementary,
#
# $$\int_{\gamma_{\min}}^{\gamma_{\max}}\!\frac{s^2+\ell^2\gamma}{(1+\ell\gamma)^2}\,d\gamma=\frac{(\gamma_{\max}-\gamma_{\min})\,s^2}{(1+\ell\gamma_{\min})(1+\ell\gamma_{\max})}+\Big[\log(1+\ell\gamma)+\frac1{1+\ell\gamma}\Big]_{\gamma_{\min}}^{\gamma_{\max}},$$ {#eq-prior-gauss}
#
# and over $q(z|x)$ only $\mathbb E s^2$ enters. *The network's part* is estimated as in [Bounds](../foundations/06_bounds.ipynb), uniformly in $\log\gamma$ and in strata. While the network says little, that estimate has little noise.

# %%
#| exports
class DiffusionPrior(GaussianPrior):
    """p(z) of a diffusion on standardised codes: the Gaussian of their moments, refined by an MLP of `width`, `depth`.

    `fit` trains it for `steps`; until then it is a Gaussian. `rate` is that of its bound, for SNRs up to `gamma_max`.
    """

    path = VPCosine()
    gamma_max = math.exp(12.0)

    def __init__(self, z_dim: int, width: int = 128, depth: int = 3, steps: int = 2000):
        super().__init__(z_dim)
        self.config = {"width": width, "depth": depth, "steps": require_int(steps, "steps")}
        self.net = MLP(z_dim, width, depth).requires_grad_(False)  # `fit` trains it, and nothing else does
        self.tau, self.history = 0.0, []

    @property
    def gamma_min(self) -> float: return float(self.path.gamma(self.path.T))
    @property
    def scale(self) -> Tensor:
        "Standard deviations (k,) of the codes, without the noise of `noised`: the unit of a standardised code."
        return self.std.double() / math.sqrt(1 + self.tau**2)
    @property
    def axes(self) -> tuple[Tensor, Tensor]:
        "Eigenvalues (k,) and eigenvectors (k, k) of the covariance of standardised codes."
        vals, vecs = torch.linalg.eigh(self.cov.double() / torch.outer(self.scale, self.scale))
        return vals.clamp(min=0), vecs

    def correction(self, y: Tensor, gamma: Tensor) -> Tensor:
        "What the network adds to the Gaussian's estimate: (N, k), SNRs (N,) to (N, k), float64."
        snr = gamma / (1 + self.tau**2 * gamma)  # of the code without the noise of `noised`
        F = self.net((y * (1 + 1 / snr)[:, None] ** -0.5).to(self.mean), snr.log().to(self.mean)).double()
        return F / ((1 + snr).sqrt() * (1 + self.tau**2 * gamma))[:, None]

    def denoiser(self) -> Callable[[Tensor, Tensor], Tensor]:
        "The estimate D(x_t, t) of standardised codes along `path`: (N, k), times (N,) to (N, k)."
        vals, vecs = self.axes

        def D(x_t: Tensor, t: Tensor) -> Tensor:
            gamma = self.path.gamma(t).expand(len(x_t)).to(vals)
            y = x_t.double() / bcast(self.path.coefs(t).b, x_t.double())
            shrink = vals * gamma[:, None] / (1 + vals * gamma[:, None])
            return ((y @ vecs * shrink) @ vecs.T + self.correction(y, gamma)).to(x_t)

        return D

    def sample(self, n: int, seed: int | torch.Generator | None = None, steps: int = 25) -> Tensor:
        "`n` codes, (n, k), each from `steps` evaluations of the network."
        g, like = rng(seed, self.mean.device), self.mean.double().expand(require_int(n, "n"), -1)
        how = {"scale": math.sqrt(1 + self.tau**2), "seed": g}  # the grid is densest at the spread of the codes
        with torch.no_grad(): s = samplers.sample(self.denoiser(), self.path, like, steps, **how)
        return (self.mean + s * self.scale).to(self.mean)


# %%
#| exports
@patch
def gain(self: DiffusionPrior, mean: Tensor, var: Tensor, g: torch.Generator, n: int = 16) -> Tensor:
    "Nats that the network saves on standardised codes N(mean, var), each (N, k): an estimate, (N,), differentiable."
    vals, vecs = self.axes
    low, width = math.log(self.gamma_min), math.log(self.gamma_max / self.gamma_min) / n
    total = torch.zeros(len(mean), dtype=torch.float64, device=mean.device)
    for i in range(n):
        part = torch.rand(len(mean), generator=g, device=mean.device, dtype=torch.float64)
        gamma = torch.exp(low + (i + part) * width)
        s = mean + var.sqrt() * randn_like(mean, g)
        y = s + randn_like(s, g) / gamma[:, None].sqrt()
        shrink = vals * gamma[:, None] / (1 + vals * gamma[:, None])
        r, missed = self.correction(y, gamma), s - (y @ vecs * shrink) @ vecs.T
        total = total + gamma * width / 2 * (2 * (r * missed).sum(1) - sqnorm(r))
    return total


@patch
def rate(self: DiffusionPrior, mean: Tensor, var: Tensor, seed: int | torch.Generator | None = 0) -> Tensor:
    "E_q[log q - bound on log p] for q = N(mean, diag var), at least the KL, in nats: (N, k), (N, k) to (N,), float64."
    low, high, k = self.gamma_min, self.gamma_max, len(self.mean)
    mean, var = (mean.double() - self.mean.double()) / self.scale, var.double() / self.scale**2
    (vals, vecs), (_, b, c) = self.axes, (float(v) for v in self.path.coefs(self.path.T))
    second = (mean @ vecs).square() + var @ vecs.square()  # E s^2 in the eigenbasis
    at = lambda gamma: torch.log1p(vals * gamma) + 1 / (1 + vals * gamma)
    gauss = second * (high - low) / ((1 + vals * low) * (1 + vals * high)) + at(high) - at(low)
    start = b**2 * second.sum(1) + k * (c**2 - 1 - 2 * math.log(c))
    last = k * math.log(2 * math.pi * math.e / high) - (2 * math.pi * math.e * var).log().sum(1)
    with torch.no_grad(): saved = self.gain(mean, var, rng(seed, mean.device))
    return (gauss.sum(1) + start + last) / 2 - saved


# %% [markdown]
# **Training** maximises `gain`, the network's part of the bound itself. Few images and many steps would end in a prior that remembers the training codes. So a tenth of them is held out, and of the averaged weights those are kept that gain most on it. At the start the gain is zero: on the held-out codes, a trained prior is never worse than the Gaussian.

# %%
#| exports
@patch
def _train(self: DiffusionPrior, s: Tensor, v: Tensor, g: torch.Generator,
           lr: float) -> Iterator[tuple[int, nn.Module]]:  # fmt: skip
    "Steps of Adam on standardised codes N(s, v): yields their number and the averaged network."
    steps, average = self.config["steps"], AveragedModel(self.net, multi_avg_fn=get_ema_multi_avg_fn(0.99))
    opt = torch.optim.AdamW(self.net.parameters(), lr=lr, fused=True)
    for step in range(1, steps + 1):
        for group in opt.param_groups: group["lr"] = lr * min(1, 20 * step / steps) * (1 - step / (steps + 1))
        i = torch.randint(len(s), (min(256, len(s)),), generator=g, device=s.device)
        opt.zero_grad()
        (-self.gain(s[i], v[i], g, n=1).mean()).backward()
        opt.step()
        average.update_parameters(self.net)
        yield step, average.module


@patch
def fit(self: DiffusionPrior, mean: Tensor, var: Tensor, seed: int = 0, lr: float = 4e-3) -> DiffusionPrior:
    "Train anew on the codes of a data set, posterior means and variances (N, k), N >= 20, in place."
    require(len(mean) >= 20, "mean", mean, "codes of at least 20 images")
    GaussianPrior.fit(self, mean, var)
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        self.net = MLP(len(self.mean), self.config["width"], self.config["depth"]).to(self.mean)
        s, v = ((mean.double() - self.mean) / self.scale).clone(), (var.double() / self.scale**2).clone()
        held, rest = torch.randperm(len(s), generator=rng(seed)).to(s.device).tensor_split([len(s) // 10])
        best, self.history = copy.deepcopy(self.net), [{"step": 0, "gain": 0.0}]
        for step, average in self._train(s[rest], v[rest], rng(seed, s.device), lr):
            if step % max(1, self.config["steps"] // 20): continue
            trained, self.net = self.net, average
            with torch.no_grad(): found = self.gain(s[held], v[held], rng(seed, s.device), n=32).mean().item()
            if found > max(h["gain"] for h in self.history): best = copy.deepcopy(average)
            self.net = trained
            self.history.append({"step": step, "gain": found})
        self.net = best.requires_grad_(False)
    return self


@patch
def noised(self: DiffusionPrior, tau: float) -> tuple[Tensor, DiffusionPrior]:
    "As `GaussianPrior.noised`, without training: the prior of noised codes shares the network."
    std, wide = GaussianPrior.noised(self, tau)
    view = copy.deepcopy(self)
    view.tau = math.hypot(self.tau, tau * math.sqrt(1 + self.tau**2))
    view.root.copy_(wide.root)
    return std, view


# %% [markdown]
# **Noise is in the diffusion already.** A deterministic code needs the prior of *noised* codes, for any $\tau$. In units of the axes' spread the noise of @eq-noised is $\tau\varepsilon$: a noised code $s_\tau=s+\tau\varepsilon$ is a point on the path of $s$, at $\gamma_0=\tau^{-2}$. So the walk just ends earlier. Let $y=s_\tau+\gamma^{-1/2}\varepsilon'$. As an observation of $s$ its SNR is $\gamma_s=\gamma/(1+\tau^2\gamma)$, and a step of the path from $\gamma_s$ to $\gamma_0$ ([Bounds](../foundations/06_bounds.ipynb)) has the mean $\big(1-\tfrac{\gamma_s}{\gamma_0}\big)s+\tfrac{\gamma_s}{\gamma_0}y$. The estimate of $s_\tau$ is this with $\hat s$ in the place of $s$. Since $1-\gamma_s/\gamma_0=1/(1+\tau^2\gamma)$, the network's part shrinks by that factor, and the Gaussian part becomes the Gaussian's estimate of $s_\tau$, with $K+\tau^2I$ in the place of $K$. One network serves every $\tau$.
#
# `fit_latent` is the one call for a model: encode training images, fit, and put the prior in the place of the model's.

# %%
#| exports
def fit_latent(model: nn.Module, x: Tensor, steps: int = 2000, *, width: int = 128, depth: int = 3, seed: int = 0,
               lr: float = 4e-3) -> DiffusionPrior:
    """Fit a `DiffusionPrior` to the codes of training images (N, C, H, W), N >= 20, and make it the model's prior.

    `model.sample` and `model.bound` then use it, and it is saved with the model. Its `history` is the gain over the
    Gaussian prior on held-out codes, in nats per image, as training went on.
    """
    (mean, std), like = model._codes(x), model.prior.mean
    with torch.random.fork_rng(devices=[]): prior = DiffusionPrior(model.z_dim, width, depth, steps).to(like)
    var = torch.zeros_like(mean) if std is None else std**2
    model.prior = prior.fit(mean.to(like.device), var.to(like.device), seed, lr)
    return prior


# %% [markdown]
# First the untrained prior: the Gaussian, up to the ends of the range of $\gamma$. And with a network of random weights, @eq-prior-split and the closed form must give what `bounds.bound_terms` gives by brute force, from nothing but the denoiser; with and without noise on the codes.

# %%
mean, var = normal(200, 3) @ normal(3, 3) + 2, uniform(200, 3) + 0.1
plain = DiffusionPrior(3, width=16, depth=1).double()
GaussianPrior.fit(plain, mean, var)
same = GaussianPrior(3).double().fit(mean, var)
assert (plain.rate(mean, var) - same.rate(mean, var)).abs().max() < 0.01
for p in plain.net.parameters(): torch.nn.init.normal_(p, std=0.3, generator=g)
for prior in (plain, plain.noised(0.5)[1]):
    many, tight = mean[:4].repeat(1000, 1), var[:4].repeat(1000, 1)
    z = many + tight.sqrt() * normal(*many.shape)
    ends = prior.gamma_min, prior.gamma_max, "prior"
    s = (z - prior.mean) / prior.scale
    terms = bound_terms(prior.denoiser(), prior.path, s, *ends, n=16, seed=1)
    log_q = Normal(many, tight.sqrt()).log_prob(z).sum(1)
    brute = (log_q + sum(terms.values()) + prior.scale.log().sum()).reshape(-1, 4)
    ours = prior.rate(many, tight, seed=2).reshape(-1, 4)
    error = (brute.std(0) ** 2 + ours.std(0) ** 2).sqrt() / 1000**0.5
    assert ((brute.mean(0) - ours.mean(0)).abs() < 4 * error).all()
    assert (ours.std(0) < brute.std(0)).all()
found = {"split": ours.mean(0), "brute force": brute.mean(0), "error of both": error}
Table({k: f"{v[0]:.3f}" for k, v in found.items()}, "rate of one code", "nats")

# %% [markdown]
# **Codes with clusters.** Three blobs in the plane, as codes of a stochastic encoder of spread 0.1. The law of the codes is a mixture too, and its density known: the exact rate is $\mathbb E\log q(z|x)-\mathbb E\log q(z)$, which is $I(x;z)$. The trained prior must come close to it from above, on new codes, and its samples fall into the blobs.

# %%
f64 = lambda *v: torch.tensor(v, dtype=torch.float64)
weights, centres = f64(0.5, 0.3, 0.2), f64(-1, 0, 1, 1, 0.5, -1).reshape(3, 2)
covs = lambda v: torch.stack([(s**2 + v) * torch.eye(2) for s in (0.3, 0.2, 0.1)])
blobs = lambda v: Mixture(weights, centres, covs(v))
seen, new = blobs(0.0).sample(6000, seed=0).float().split(3000)
spread = torch.full((3000, 2), 0.01)
single = GaussianPrior(2).fit(seen, spread)
prior = DiffusionPrior(2, width=64, depth=2, steps=800).fit(seen, spread, lr=1e-2)
z = new.double() + 0.1 * normal(3000, 2)
log_q = -math.log(2 * math.pi * math.e * 0.01)  # of q(z|x), averaged
exact = log_q - log_density(blobs(0.01), z)
rates = {"exact": exact, "diffusion": prior.rate(new, spread),
         "Gaussian": single.rate(new, spread)}
excess = {k: v - exact for k, v in rates.items()}
error = excess["diffusion"].std() / 3000**0.5
assert -4 * error < excess["diffusion"].mean() < 0.12 < 1 < excess["Gaussian"].mean()
Table({k: f"{v.mean():.3f}" for k, v in rates.items()}, "prior", "mean rate (nats)")

# %%
#| label: fig-blobs
#| fig-cap: '1500 codes in three clusters, and as many draws from each prior. The fitted Gaussian fills the gaps between the clusters; the diffusion finds all three, with a few strays between them.'
#| fig-alt: 'Three scatter plots with axes z1 and z2. Codes: three round clusters of different size. Gaussian prior: one broad cloud that covers them and what is between. Diffusion prior: three clusters where the codes have theirs, and a few points between.'
shown = {"codes": z, "Gaussian prior": single.sample(1500, 0),
         "diffusion prior": prior.sample(1500, 0)}
fig, axes = plt.subplots(1, 3, figsize=(7, 2.5), sharex=True, sharey=True)
for ax, (name, codes) in zip(axes, shown.items(), strict=True):
    ax.plot(*codes[:1500].T, ".", markersize=1.5, rasterized=True)
    ax.set(title=name, xlabel="$z_1$", aspect="equal", xlim=(-2.5, 2.5), ylim=(-2, 2.5))
axes[0].set_ylabel("$z_2$");

# %% [markdown]
# **Inside a model.** A world in which everything is known: images $x\in\mathbb R^4$ from a Gaussian, a linear encoder, the exact denoiser. With the diffusion prior, `bound` must still be a bound, and a tight one, for a stochastic code as for a noised deterministic one, whose prior is not trained for that $\tau$. Then: saved and loaded, it is the same model.

# %%
R = torch.linalg.qr(normal(4, 4))[0]
Sigma = R @ torch.diag(f64(0.05, 0.02, 0.01, 0.002)) @ R.T
A, o = 4 * normal(2, 4), f64(0.3, -0.2)
noise = 0.3**2 * torch.diag((A @ Sigma @ A.T).diagonal())
world = GaussianWorld(torch.zeros(4), Sigma, A, o, 0.2 * torch.eye(2))
noisier = GaussianWorld(torch.zeros(4), Sigma, A, o, noise)


class Known(Autoencoder):
    def __init__(self, noisy=True):
        how = {"weighting": "simple", "gamma_max": math.exp(15)}
        super().__init__((4, 1, 1), 2, VPCosine(-20.0), **how)
        self.noisy = noisy
    def codes(self, x):
        mean = world.encode(x.flatten(1).double()).float()
        return mean, torch.full_like(mean, 0.2**0.5) if self.noisy else None
    def denoiser(self, z, xT=None):
        D = (world if self.noisy else noisier).denoiser(self.path, z.double())
        return lambda x_t, t: D(x_t.flatten(1).double(), t).reshape(x_t.shape).to(x_t)


x = world.data.sample(3000, seed=0).float().reshape(-1, 4, 1, 1).clamp(-1, 1)
truth = log_density(world.data, x[2000:].flatten(1).double()).mean().item()
found = {"log p(x), exact": f"{truth:.3f}"}
for kind, tau in {"stochastic": None, "noised": 0.3}.items():
    model = Known(noisy=tau is None)
    fit_latent(model, x[:2000], steps=200, width=32, depth=1)
    b = model.bound(x[2000:], tau=tau, n=32)
    assert abs(b.total - truth) < 3 * b.stderr_mc
    found[f"bound, {kind} code"] = f"{b.total:.3f} ± {b.stderr_mc:.3f}"
with tempfile.TemporaryDirectory() as folder:
    model.save(folder)
    again = Known.load(folder)
test_eq(type(again.prior).__name__, "DiffusionPrior")
test_eq(again.prior.config, model.prior.config)
test_eq(again.sample(3), model.sample(3))
test_eq(again.bound(x[:9], tau=0.3).total, model.bound(x[:9], tau=0.3).total)
Table(found, "of 1000 new images", "mean (nats)")

# %% [markdown]
# ## Exercises
#
# **1.** *Compute.* A deterministic code of $k$ axes is noised a tenth as much. How many nats does its rate rise?

# %%
#| code-fold: true
#| code-summary: "Solution"
mean, var = normal(500, 3) + 2, uniform(500, 3) + 0.1
rise = rate_of(0.005) - rate_of(0.05)
test_close(rise, 3 * math.log(10), eps=1e-2)  # k log 10: without end

# %% [markdown]
# **2.** *Prove.* Check @eq-tc for the Gaussian codes of covariance $K$ and noise $s^2I$ above, each term in closed form.

# %%
#| code-fold: true
#| code-summary: "Solution"
k, s = 3, 0.4
total = K.diagonal() + s**2
cost = (total - 1 - math.log(s**2)).sum() / 2  # of kl_per_axis, averaged
told = (torch.logdet(C) - k * math.log(s**2)) / 2
per_axis = (total - 1 - total.log()).sum() / 2
test_close(told + closed + per_axis, cost, eps=1e-7)
draws = normal(200_000, k) @ torch.linalg.cholesky(K).T
counted = kl_per_axis(draws, torch.full_like(draws, s**2)).sum(1).mean()
test_close(counted, cost, eps=0.03)


# %% [markdown]
# **3.** *Extend.* Write a prior with independent axes. How much more does it charge, on average, than the fitted Gaussian?

# %%
#| code-fold: true
#| code-summary: "Solution"
class Independently(GaussianPrior):
    def fit(self, mean, var):
        super().fit(mean, var)
        return self.set_moments(self.mean, self.cov.diagonal().diag())


mean = mean @ normal(3, 3)  # codes whose axes depend on each other
kinds = Independently, GaussianPrior
own, joint = (kind(3).double().fit(mean, var) for kind in kinds)
more = own.rate(mean, var).mean() - joint.rate(mean, var).mean()
C = joint.cov
test_close(more, (C.diagonal().log().sum() - torch.logdet(C)) / 2, eps=1e-3)
assert more > 0.1  # the total correlation of the codes' Gaussian

# %% [markdown]
# ## What can go wrong
#
# * **Sampling from $\mathcal N(0,I)$ after training with a small $\beta$.** The codes do not live there. A model here samples from its fitted prior.
# * **Fitting the prior on held-out codes.** It must see training codes only, or the bound on held-out images is not one.
# * **Few images, many axes.** With fewer images than axes the covariance is singular and only the ridge holds it; the samples then stay in the span of the training codes.
# * **A flexible prior and few codes.** A diffusion can remember a thousand codes. What it gains must be measured on held-out ones, as `history` does.
