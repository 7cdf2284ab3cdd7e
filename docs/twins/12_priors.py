# %% [markdown]
# # Priors
#
# > Where codes come from when there is no image: a Gaussian fitted to the codes, its rate in closed form, and noised codes for deterministic encoders.

# %% [markdown]
# To *sample* images one needs codes, and to *bound* $\log p(x)$ one needs the price of a code, $\mathrm{KL}(q(z|x)\|p(z))$. Both ask for a prior $p(z)$. The standard normal is the prior of training; after training the codes are rarely standard normal, and a prior that does not fit them costs nats and gives bad samples. This page fits a Gaussian with full covariance, which is exact for linear models of Gaussian data and already useful for the others.

# %%
#| default_exp priors

# %%
#| exports
import torch
from torch import Tensor, nn

from scoreae.core import require, require_int, require_number, rng

# %%
#| hide
from fastcore.test import expect_fail, test_close
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence


# %% [markdown]
# ## The price of a code
#
# For a diagonal Gaussian posterior and a Gaussian prior $\mathcal N(m,C)$ in $k$ dimensions, insert the two log-densities into $\mathbb E_q[\log q-\log p]$. The entropy of $q$ is $\tfrac12\log|2\pi e\operatorname{diag}v|$, and $\mathbb E_q[(z-m)^\top C^{-1}(z-m)]=(\mu-m)^\top C^{-1}(\mu-m)+\operatorname{tr}C^{-1}\operatorname{diag}v$. So
#
# $$\mathrm{KL}\big(\mathcal N(\mu,\operatorname{diag}v)\,\|\,\mathcal N(m,C)\big)=\tfrac12\Big[(\mu-m)^\top C^{-1}(\mu-m)+\operatorname{tr}C^{-1}\operatorname{diag}v-k+\log|C|-\sum_j\log v_j\Big].$$ {#eq-kl}
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
# Any prior answers four calls: `fit`, `sample`, `rate`, and, for the codes of a deterministic encoder, `noised`.

# %%
#| exports
class GaussianPrior(nn.Module):
    "p(z) = N(mean, root root^T) on codes of `z_dim` axes: standard normal until `fit`."

    def __init__(self, z_dim: int):
        super().__init__()
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

    def rate(self, mean: Tensor, var: Tensor) -> Tensor:
        "KL(N(mean, diag var) || p) in nats: (N, k), (N, k) to (N,), in float64."
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
mean, var = normal(500, 3) @ normal(3, 3) + 2, torch.rand(500, 3, generator=g, dtype=torch.float64) + 0.1
prior = GaussianPrior(3).double().fit(mean, var)
fitted, q = MultivariateNormal(prior.mean, prior.cov), MultivariateNormal(mean, torch.diag_embed(var))
test_close(prior.rate(mean, var), kl_divergence(q, fitted), eps=1e-9)
standard = Independent(Normal(torch.zeros(3), torch.ones(3)), 1)
test_close(kl_per_axis(mean, var).sum(1), kl_divergence(Independent(Normal(mean, var.sqrt()), 1), standard), eps=1e-6)
test_close(GaussianPrior(3).rate(mean, var), kl_per_axis(mean, var).sum(1), eps=1e-9)

other = lambda m, C: GaussianPrior(3).double().set_moments(m, C).rate(mean, var).mean()
best, m, C = prior.rate(mean, var).mean(), prior.mean, prior.cov
assert min(other(m + 0.1, C), other(m, 1.1 * C), other(m, 0.9 * C), other(m, C.diagonal().diag())) > best
draws = prior.sample(200_000, seed=1)
test_close(torch.cov(draws.T) / C.diagonal().max(), C / C.diagonal().max(), eps=0.02)
test_close(draws.mean(0), m, eps=0.03)
with expect_fail(ValueError, contains="mean"): prior.fit(mean * float("nan"), var)
f"rate against the fitted Gaussian {best:.3f} nats, against N(0, I) {kl_per_axis(mean, var).sum(1).mean():.3f} nats"

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
scale = torch.tensor([1.0, 30.0, 0.01], dtype=torch.float64)  # the unit of a code must not matter
std_s, wide_s = GaussianPrior(3).double().fit(mean * scale, torch.zeros_like(var)).noised(0.5)
rates = [p.rate(m, (s**2).expand_as(mean)).mean() for p, m, s in ((wide, mean, std), (wide_s, mean * scale, std_s))]
test_close(rates[0], rates[1], eps=1e-4)


def rate_of(tau):
    std, wide = exact.noised(tau)
    return round(wide.rate(mean, (std**2).expand_as(mean)).mean().item(), 3)


{f"tau {tau}": f"{rate_of(tau)} nats" for tau in (0.01, 0.1, 1.0)}

# %% [markdown]
# ## What can go wrong
#
# * **Sampling from $\mathcal N(0,I)$ after training with a small $\beta$.** The codes do not live there. A model here samples from its fitted prior.
# * **Fitting the prior on held-out codes.** It must see training codes only, or the bound on held-out images is not one.
# * **Few images, many axes.** With fewer images than axes the covariance is singular and only the ridge holds it; the samples then stay in the span of the training codes.
