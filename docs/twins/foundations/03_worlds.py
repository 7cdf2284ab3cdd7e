# %% [markdown]
# # Worlds in closed form
#
# > A closed-form world: Gaussian and Gaussian-mixture data whose noisy marginals, scores, posteriors, denoisers and codes are known exactly.

# %% [markdown]
# What would a *perfect* denoiser say? Without the answer one cannot test anything: a network that denoises badly and a formula that is wrong look the same from outside, the pictures are poor. So before any network we build worlds in which the right answer is known: data from a Gaussian, or a mixture of Gaussians, in any dimension. Each later page is tested against this one. Here we derive the exact posterior of the clean image given a noisy one, once, in a form that holds for diffusions and bridges alike; then we add a code $z$.

# %%
#| default_exp foundations.worlds

# %%
#| exports
from collections.abc import Callable

import torch
from torch import Tensor

from scoreae.core.checks import bcast, require, require_int, rng, sqnorm
from scoreae.foundations.paths import Path, as_time
from scoreae.foundations.tools import condition

# %%
#| hide
import matplotlib.pyplot as plt
from fastcore.test import expect_fail, test_close
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from scoreae.core.pages import Table, paper
from scoreae.foundations.paths import VE, Pinned, VPCosine, VPLinear

# %%
#| hide
paper()


# %% [markdown]
# ## What a noisy image says about the clean one
#
# Some words first. The *prior* is the law of $x_0$ before the noisy image is seen. The *likelihood* is the density of what is seen, read as a function of $x_0$. By Bayes' rule their product, divided by its integral (the *evidence*), is the *posterior*, the law of $x_0$ given what is seen. A *precision* is one over a variance.
#
# Take the known endpoint off a noisy image, $\tilde x_t=x_t-a_tx_T=b_t\,x_0+c_t\,\varepsilon$ (for a diffusion, $\tilde x_t=x_t$). The noise $\varepsilon$ is independent of $x_0$ and $x_T$. So, as a function of $x_0$ and up to a factor that does not depend on it, the likelihood of $\tilde x_t$ is
#
# $$\mathcal N(\tilde x_t;\,b\,x_0,\,c^2I)\;\propto\;\exp\Big(\nu^\top x_0-\tfrac12\gamma\,\|x_0\|^2\Big),\qquad \nu=\frac{b}{c^2}\,\tilde x_t,\quad \gamma=\frac{b^2}{c^2}.$$ {#eq-natural}
#
# What a noisy image says about $x_0$ is fully described by $\nu$ (the *natural parameter*, one number a pixel) and the precision $\gamma$. The factor $b/c^2=\alpha_t/\sigma_t^2$ *tilts* the prior, hence its name in [Paths](02_paths.ipynb). All is finite for $t>0$, even at the end of a bridge, where $b=c=0$: there $\gamma=0$, and since $\tilde x_T=x_T-x_T=0$ also $\nu=0$. The likelihood is flat: given $x_T$, the image at $t=T$ says nothing more about $x_0$.
#
# The likelihood meets a prior. For a diffusion that is the law of $x_0$. On a bridge it is the law of $x_0$ *given* $x_T$, which is the same only if the two are independent.
#
# Let that prior be a Gaussian $\mathcal N(m,C)$, where $C$ has eigenvalues $\ell_i$, and work in its eigenbasis, one coordinate at a time. The exponent $-\tfrac{(x-m)^2}{2\ell}+\nu x-\tfrac12\gamma x^2$ is again quadratic. Completing the square gives
#
# $$x_0\,|\,\tilde x_t\sim\mathcal N\Big(\frac{m+\ell\,\nu}{1+\ell\gamma},\ \frac{\ell}{1+\ell\gamma}\Big),\qquad \log Z=-\tfrac12\log(1+\ell\gamma)+\frac{2m\nu+\ell\nu^2-\gamma m^2}{2(1+\ell\gamma)},$$ {#eq-conjugate}
#
# where $Z=\int\mathcal N(x;m,\ell)\,e^{\nu x-\gamma x^2/2}dx$ is the evidence, up to the factor that @eq-natural has dropped. Nothing is divided by $\ell$ or by $\gamma$, so degenerate data and zero precision are fine. For a mixture, the dropped factor is common to all components. They are updated one by one and reweighted, the weight $\pi_k$ becoming a multiple of $\pi_kZ_k$: the posterior of a mixture is a mixture.

# %%
#| exports
class Mixture:
    """A mixture of K Gaussians in R^d: exact densities, scores and posteriors, in float64.

    `weights` (K,), `means` (K, d), `covs` (K, d, d). One component is plain Gaussian data (see `gaussian`).
    """

    def __init__(self, weights: Tensor, means: Tensor, covs: Tensor):
        self.weights, self.means, self.covs = (torch.as_tensor(v, dtype=torch.float64) for v in (weights, means, covs))
        K, d = self.means.shape
        proper = bool((self.weights > 0).all()) and abs(float(self.weights.sum()) - 1) < 1e-9
        require(proper and self.weights.shape == (K,), "weights", weights, f"{K} positive numbers that sum to 1")
        require(self.covs.shape == (K, d, d), "covs", self.covs, f"shape {(K, d, d)}")
        self.vals, self.vecs = torch.linalg.eigh(self.covs)  # (K, d), (K, d, d)
        self.vals = self.vals.clamp(min=0)
        self.rotated = torch.einsum("kd,kdi->ki", self.means, self.vecs)

    @property
    def dim(self) -> int: return self.means.shape[1]

    def sample(self, n: int, seed=None) -> Tensor:
        "`n` independent draws, (n, d)."
        g = rng(seed)
        k = torch.multinomial(self.weights, n, replacement=True, generator=g)
        w = torch.randn(n, self.dim, generator=g, dtype=torch.float64) * self.vals[k].sqrt()
        return self.means[k] + torch.einsum("ni,ndi->nd", w, self.vecs[k])

    def update(self, nu: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Posterior after a likelihood exp(nu x - gamma x^2 / 2), `nu` (N, d), `gamma` (N,) or ().

        Log-weights (N, K), and means and variances (N, K, d) in the components' eigenbases.
        """
        e = torch.einsum("nd,kdi->nki", nu, self.vecs)
        g = bcast(as_time(gamma), e)
        m, l, den = self.rotated, self.vals, 1 + self.vals * g
        evidence = (-0.5 * den.log() + (2 * m * e + l * e**2 - g * m**2) / (2 * den)).sum(-1)
        return torch.log_softmax(self.weights.log() + evidence, -1), (m + l * e) / den, (l / den).expand_as(e)

    def denoise(self, nu: Tensor, gamma: Tensor) -> Tensor:
        "Posterior mean E[x_0 | nu, gamma], shape (N, d)."
        logw, m, _ = self.update(nu, gamma)
        return torch.einsum("nk,nki,kdi->nd", logw.exp(), m, self.vecs)


# %% [markdown]
# The density of the mixture itself, its score, and the mixture that results from adding noise: $b\,x_0+c\,\varepsilon$ has means $b\,m_k$ and covariances $b^2C_k+c^2I$. This is a second, independent road to the same quantities, which the checks below exploit.

# %%
#| exports
def gaussian(mean: Tensor, cov: Tensor) -> Mixture:
    "Gaussian data N(mean, cov) in R^d, as a mixture of one component."
    mean, cov = (torch.as_tensor(v, dtype=torch.float64) for v in (mean, cov))
    return Mixture(torch.ones(1), mean[None], cov[None])


def log_density(data: Mixture, x: Tensor) -> Tensor:
    "log q(x) of the data, in nats, for x of shape (N, d); the covariances must be positive definite."
    diff = torch.einsum("nkd,kdi->nki", x[:, None] - data.means, data.vecs)
    logs = -0.5 * (diff**2 / data.vals + torch.log(2 * torch.pi * data.vals)).sum(-1)
    return torch.logsumexp(data.weights.log() + logs, -1)


def noisy(data: Mixture, b: float, c: float) -> Mixture:
    "The law of b x_0 + c eps."
    return Mixture(data.weights, b * data.means, b**2 * data.covs + c**2 * torch.eye(data.dim, dtype=torch.float64))


def score(data: Mixture, x: Tensor) -> Tensor:
    "The score of the data, grad log q(x), by automatic differentiation of `log_density`: (N, d)."
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(log_density(data, x).sum(), x)[0]


# %% [markdown]
# Two worlds for the checks: two humps on a line, three blobs in four dimensions.

# %%
f64 = lambda *v: torch.tensor(v, dtype=torch.float64)
g = torch.Generator().manual_seed(0)
randn = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)
two = Mixture(f64(0.7, 0.3), f64(-0.5, 0.6)[:, None],
              f64(0.15**2, 0.1**2)[:, None, None])
Sigma = torch.linalg.qr(randn(4, 4))[0]
Sigma = Sigma @ torch.diag(f64(3.0, 1.0, 0.3, 0.1)) @ Sigma.T
covs = torch.stack([Sigma, Sigma / 9, 0.05 * torch.eye(4).double()])
blobs = Mixture(f64(0.5, 0.3, 0.2), randn(3, 4), covs)

# %% [markdown]
# Do samples and density belong together? On the line the density must integrate to one, and the averages of $x$, $x^2$ and $\log q$ over samples must be those of the grid.

# %%
grid = torch.linspace(-3, 3, 20001, dtype=torch.float64)
prior = log_density(two, grid[:, None]).exp()
integral = lambda fn: torch.trapezoid(prior * fn, grid)
test_close(integral(torch.ones_like(grid)), 1.0, eps=1e-12)
draws = two.sample(40_000, seed=0)
for of_draw, of_grid in [(draws[:, 0], grid), (draws[:, 0] ** 2, grid**2),
                         (log_density(two, draws), prior.log())]:
    off = of_draw.mean() - integral(of_grid)
    assert abs(off) < 4 * of_draw.std() / len(draws) ** 0.5

# %% [markdown]
# In four dimensions the density is that of `torch.distributions`, and the samples have the mixture's mean and covariance, $\bar m=\sum_k\pi_km_k$ and $\sum_k\pi_k(C_k+m_km_k^\top)-\bar m\bar m^\top$ for weights $\pi_k$.

# %%
each = MultivariateNormal(blobs.means, blobs.covs)
reference = MixtureSameFamily(Categorical(blobs.weights), each)
draws = blobs.sample(40_000, seed=1)
test_close(log_density(blobs, draws), reference.log_prob(draws), eps=1e-9)
centre = blobs.weights @ blobs.means
second = covs + torch.einsum("ki,kj->kij", blobs.means, blobs.means)
spread = torch.einsum("k,kij->ij", blobs.weights, second) - torch.outer(centre, centre)
assert (draws.mean(0) - centre).abs().max() < 0.04
assert (torch.cov(draws.T) - spread).abs().max() < 0.1

# %%
with expect_fail(ValueError, contains="weights: expected 2 positive"):
    Mixture(f64(0.7, 0.7), two.means, two.covs)
with expect_fail(ValueError, contains="covs: expected shape (2, 1, 1)"):
    Mixture(two.weights, two.means, covs)


# %% [markdown]
# Along a path, the exact denoiser has the same signature as a network's: it is a function of $(x_t,t)$.

# %%
#| exports
def denoiser(data: Mixture, path: Path, xT: Tensor | None = None) -> Callable[[Tensor, Tensor], Tensor]:
    """The exact denoiser D(x_t, t) = E[x_0 | x_t], a function of (N, d) and times (N,) or () in (0, T].

    On a bridge it is given the endpoint `xT` too, (N, d) or (1, d), and `data` is the law of x_0 given that endpoint.
    """

    def D(x_t: Tensor, t: Tensor) -> Tensor:
        x = x_t.double()
        if xT is not None: x = x - bcast(path.coefs(t).a, x) * xT
        return data.denoise(bcast(path.tilt(t), x) * x, path.gamma(t)).to(x_t)

    return D


# %% [markdown]
# First check: brute force. In one dimension the posterior mean is a ratio of two integrals, $\int x\,q(x)\,\mathcal N(\tilde x_t;bx,c^2)\,dx\,/\int q(x)\,\mathcal N(\tilde x_t;bx,c^2)\,dx$, which a fine grid gives to machine precision without any of the algebra above.

# %%
bridge = Pinned(VPLinear(0.1, 2.0))
x_t, pin = torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None], f64(0.7)[None]
for path, xT in [(VPCosine(), None), (VE(), None), (bridge, pin)]:
    D = denoiser(two, path, xT)
    for t in f64(0.05, 0.3, 0.6, 0.9):
        a, b, c = path.coefs(t)
        shifted = x_t if xT is None else x_t - a * xT
        like = torch.exp(-0.5 * ((shifted - b * grid) / c) ** 2)
        test_close(D(x_t, t)[:, 0], integral(like * grid) / integral(like), eps=1e-9)
test_close(D(pin, 1.0)[0], integral(grid), eps=1e-12)  # the bridge's end: the mean

# %% [markdown]
# Second check, a preview: **Tweedie's formula** [@efron2011tweedie], which [Scores](04_scores.ipynb) derives, says $\mathbb E[x_0|x_t]=(x_t+c^2\nabla_{x_t}\log q_t(x_t))/b$ for a diffusion. If both sides agree here, page and preview support each other. The right-hand side uses `noisy` and automatic differentiation, the left @eq-conjugate.

# %%
for path in [VPCosine(), VE()]:
    for t in f64(0.1, 0.4, 0.9):
        _, b, c = path.coefs(t)
        x_t = path.mix(draws[:100], randn(100, 4), t)
        tweedie = (x_t + c**2 * score(noisy(blobs, b, c), x_t)) / b
        test_close(denoiser(blobs, path)(x_t, t), tweedie, eps=1e-10)

# %% [markdown]
# What such a denoiser does is worth a picture. At little noise it trusts the input; at much noise it returns the mean of the data; in between it *decides* between the two components. The decision is the probability of a component given the noisy value, and it sharpens as noise falls. (The denoiser's own curve does not show that: far below the distance of the humps it follows the input again, with a step in between: in the table below, the doubt narrows with every line, the steepest slope does not grow with every line.)

# %%
#| label: fig-denoiser
#| fig-cap: 'The exact denoiser of a two-component mixture on a VE path. At little noise ($\sigma=0.05$) it nearly returns its input, at much noise ($\sigma=2$) nearly the mean of the data; in between it decides for one of the two humps.'
#| fig-alt: 'Line chart of the posterior mean against the noisy value, for four noise levels, over a grey outline of the data density with humps at minus 0.5 and 0.6. At noise 0.05 the curve follows the input, with a small step between the humps; at 0.3 it is a steep S that flattens at the heights of the humps, at 0.6 a gentler S, and at 2 a nearly level line close to the mean. Thin lines mark the input itself and the mean of the data.'
x = torch.linspace(-1.6, 1.6, 300, dtype=torch.float64)[:, None]
fig, ax = plt.subplots(figsize=(6, 3.8))
ax.fill_between(x[:, 0], -1.6, log_density(two, x).exp() * 0.25 - 1.6, color="0.85",
                label="data density (scaled)")
ax.plot(x, x, color="0.4", linewidth=1, label="input itself")
ax.axhline(integral(grid), color="0.4", linewidth=1, linestyle=(0, (1, 3)),
           label="mean of the data")
for s, style in [(0.05, "-"), (0.3, "--"), (0.6, "-."), (2.0, ":")]:
    ax.plot(x, denoiser(two, VE())(x, s), style, label=rf"$\sigma={s:g}$")
ax.set(xlabel=r"noisy value $x_\sigma$", ylabel=r"$E[x_0\,|\,x_\sigma]$",
       ylim=(-1.6, 1.6))
fig.legend(loc="outside right center");

# %%
#| label: fig-decision
#| fig-cap: 'The decision behind the denoiser of @fig-denoiser: the probability that a noisy value comes from the right hump. The less noise, the narrower the range in which it is in doubt.'
#| fig-alt: 'Line chart of the probability of the right component against the noisy value, for the same four noise levels. At noise 0.05 the curve is a steep step near 0.15, at 0.3 and 0.6 ever gentler S shapes, and at 2 nearly level at about 0.3.'
fig, ax = plt.subplots()
for s, style in [(0.05, "-"), (0.3, "--"), (0.6, "-."), (2.0, ":")]:
    logw = two.update(x / s**2, f64(s)[0] ** -2)[0]
    ax.plot(x, logw[:, 1].exp(), style, label=rf"$\sigma={s:g}$")
ax.set(xlabel=r"noisy value $x_\sigma$", ylabel="probability of the right hump")
ax.legend(loc="upper left");

# %%
fine, doubt, steepest = torch.linspace(-3, 3, 60_001).double()[:, None], {}, {}
for s in (0.6, 0.3, 0.1, 0.05):
    right = two.update(fine / s**2, f64(s)[0] ** -2)[0][:, 1].exp()
    rising = fine[:, 0] > fine[right.argmin(), 0]  # unequal widths: it turns far out
    inside = rising & (right > 0.1) & (right < 0.9)
    doubt[s] = inside.double().sum().item() * 1e-4
    steepest[s] = denoiser(two, VE())(fine, s).diff(dim=0).max().item() / 1e-4
assert sorted(doubt.values(), reverse=True) == list(doubt.values())
assert steepest[0.1] > steepest[0.05]  # the slope of the denoiser, on the other hand
Table({s: {"doubt, 10 to 90 %, over": doubt[s], "steepest slope": steepest[s]}
       for s in doubt}, r"noise $\sigma$")


# %% [markdown]
# ## A world with a code
#
# Now let a stochastic encoder look at the clean image and write down a code: $x_0\sim\mathcal N(\mu,\Sigma)$ and $q(z|x_0)=\mathcal N(Ax_0+o,\,\Psi)$ with $z\in\mathbb R^k$. The encoder's own noise is independent of $\varepsilon$, so given $x_0$ the code and $x_t$ are independent on a diffusion. On a bridge the endpoint is decoded from $z$: it tells nothing about $x_0$ beyond $z$. Everything stays Gaussian, and two conditionals matter.
#
# **The image given the code.** The codes have covariance $Q=A\Sigma A^\top+\Psi$. Conditioning as in [Tools](01_tools.ipynb), with the gain $J=\Sigma A^\top Q^{-1}$,
#
# $$x_0\,|\,z\sim\mathcal N\big(\mu+J(z-A\mu-o),\ \ \Sigma_{x|z}=\Sigma-JA\Sigma\big).$$ {#eq-given-code}
#
# With this prior, @eq-conjugate is the denoiser that knows $z$. It is the ideal denoiser of SAMI [@lyo2025sami], a diffusion guided by $z$, and of DBAE [@kim2025dbae], a bridge, whatever endpoint is decoded from $z$.
#
# **The code given a noisy image** (on a diffusion). @eq-conjugate with $\mathcal N(\mu,\Sigma)$ gives $\mathbb E[x_0|x_t]$ and the posterior covariance $P_t=(\Sigma^{-1}+\gamma_tI)^{-1}$. The code is $A\,x_0+o$ plus noise that $x_t$ knows nothing about:
#
# $$q(z\,|\,x_t)=\mathcal N\big(A\,\mathbb E[x_0|x_t]+o,\ \ V_t=\Psi+AP_tA^\top\big).$$ {#eq-code-noisy}
#
# Its gradient with respect to the noisy image is the exact *guidance*. By @eq-conjugate, $\mathbb E[x_0|x_t]$ is affine in $x_t$ with the matrix $\tfrac{b_t}{c_t^2}P_t$, so
#
# $$G_t=\nabla_{x_t}\log q(z|x_t)=\tfrac{b_t}{c_t^2}\,P_tA^\top V_t^{-1}\big(z-A\,\mathbb E[x_0|x_t]-o\big).$$ {#eq-guidance-exact}

# %%
#| exports
def matrix_root(C: Tensor) -> Tensor:
    "A matrix R with R R^T = C, for a symmetric positive semi-definite C: (d, d) to (d, d)."
    vals, vecs = torch.linalg.eigh(C)
    return vecs * vals.clamp(min=0).sqrt()


class GaussianWorld:
    """Gaussian data with a linear-Gaussian code: x_0 ~ N(mu, Sigma), z | x_0 ~ N(A x_0 + offset, Psi); exact, float64.

    `mu` (d,), `Sigma` (d, d), `A` (k, d), `offset` (k,), `Psi` (k, k), which may be 0 (a deterministic code).
    """

    def __init__(self, mu: Tensor, Sigma: Tensor, A: Tensor, offset: Tensor, Psi: Tensor):
        given = (torch.as_tensor(v, dtype=torch.float64) for v in (mu, Sigma, A, offset, Psi))
        self.mu, self.Sigma, self.A, self.offset, self.Psi = given
        self.data = gaussian(self.mu, self.Sigma)
        self.Q = self.A @ self.Sigma @ self.A.T + self.Psi
        self.gain, left = condition(self.Sigma, self.A, self.Psi)
        self.x_given_z = gaussian(torch.zeros_like(self.mu), left)  # the law of x_0 given z, minus its mean

    def encode(self, x0: Tensor) -> Tensor:
        "Mean of q(z | x_0): (N, d) to (N, k)."
        return x0 @ self.A.T + self.offset

    def mean_given_z(self, z: Tensor) -> Tensor:
        "E[x_0 | z]: (N, k) to (N, d)."
        return self.mu + (z - self.encode(self.mu)) @ self.gain.T

    def draw(self, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        "Map standard normal `w`, (N, 2d + k), to clean images, noise and codes, (N, d), (N, d), (N, k): an affine map."
        d, k = self.data.dim, len(self.offset)
        x0 = self.mu + w[:, :d] @ matrix_root(self.Sigma).T
        return x0, w[:, d : 2 * d], self.encode(x0) + w[:, 2 * d : 2 * d + k] @ matrix_root(self.Psi).T

    def code_given_noisy(self, path: Path, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        "Mean (N, k), covariance (k, k) of q(z | x_t) at one time t of a diffusion, and dE[x_0|x_t]/dx_t (d, d)."
        _, mean, var = self.data.update(bcast(path.tilt(t), x_t) * x_t, path.gamma(t))
        vecs = self.data.vecs[0]
        P = vecs @ torch.diag(var[0, 0]) @ vecs.T
        return self.encode(mean[:, 0] @ vecs.T), self.Psi + self.A @ P @ self.A.T, path.tilt(t) * P

    def guidance(self, path: Path, x_t: Tensor, t: Tensor, z: Tensor) -> Tensor:
        "The exact guidance, grad of log q(z | x_t) with respect to x_t, at one time t of a diffusion: (N, d)."
        m, V, slope = self.code_given_noisy(path, x_t, t)
        return torch.linalg.solve(V, (z - m).T).T @ self.A @ slope

    def denoiser(self, path: Path, z: Tensor, xT: Tensor | None = None) -> Callable[[Tensor, Tensor], Tensor]:
        "D(x_t, t) = E[x_0 | x_t, z] (with a bridge's `xT`, (N, d), which tells nothing beyond z)."
        m = self.mean_given_z(z)

        def D(x_t: Tensor, t: Tensor) -> Tensor:
            a, b, _ = (bcast(k, x_t) for k in path.coefs(t))
            x = x_t - b * m if xT is None else x_t - a * xT - b * m  # a noisy x_0 - m
            return m + self.x_given_z.denoise(bcast(path.tilt(t), x) * x, path.gamma(t))

        return D


# %% [markdown]
# **The identity behind SAMI.** Bayes' rule $q_t(x_t|z)\propto q_t(x_t)\,q(z|x_t)$, differentiated, says $\nabla\log q_t(x_t|z)=\nabla\log q_t(x_t)+G_t$: *unconditional score plus guidance equals conditional score*. In denoiser form (Tweedie on both sides), $\mathbb E[x_0|x_t,z]=\mathbb E[x_0|x_t]+\tfrac{c^2}{b}\,G_t$. The two sides are computed here by different formulas, @eq-given-code and @eq-guidance-exact. The guidance itself is checked against automatic differentiation of $\log q(z|x_t)$, and $\mathbb E[x_0|z]$ against the least-squares fit to many draws.

# %%
mu = f64(0.5, -1.0, 0.3, 0.0)
world = GaussianWorld(mu, Sigma, randn(2, 4) / 2, f64(0.3, -0.2), 0.2 * torch.eye(2))
x0, eps, z = world.draw(randn(100_000, 10))
fit = torch.linalg.lstsq(torch.cat([z, torch.ones(len(z), 1)], 1), x0).solution
at_zero = world.mean_given_z(torch.zeros(1, 2))
test_close(torch.cat([world.gain.T, at_zero]), fit, eps=0.02)

# %%
x0, eps, z = x0[:50], eps[:50], z[:50]


def log_q(x_t, path, t):
    m, V, _ = world.code_given_noisy(path, x_t, t)
    return MultivariateNormal(m, V).log_prob(z).sum()


for path in [VPCosine(), VE(), VPLinear()]:
    for t in f64(0.05, 0.4, 0.95):
        x_t = path.mix(x0, eps, t).requires_grad_()
        G = world.guidance(path, x_t.detach(), t, z)
        test_close(torch.autograd.grad(log_q(x_t, path, t), x_t)[0], G, eps=1e-9)
        _, b, c = path.coefs(t)
        guided = denoiser(world.data, path)(x_t.detach(), t) + c**2 / b * G
        test_close(world.denoiser(path, z)(x_t.detach(), t), guided, eps=1e-9)

# %% [markdown]
# **A bridge's world.** Scalar data of mean zero and standard deviation $s_0$, with the endpoint itself as the code: $x_T=z=\kappa\,x_0+\tau\,\xi$, with constants $\kappa,\tau$ and noise $\xi\sim\mathcal N(0,1)$. With $s_T^2=\kappa^2s_0^2+\tau^2$, the gain gives $x_0|x_T\sim\mathcal N(m\,x_T,\,v)$ with slope $m=\kappa s_0^2/s_T^2$ and variance $v=s_0^2\tau^2/s_T^2$. Along the bridge $x_t|x_T$ has mean $(a+bm)\,x_T$ and variance $b^2v+c^2$, and its covariance with $x_0$ is $bv$. Hence
#
# $$\mathbb E[x_0|x_t,x_T]=m\,x_T+\frac{b\,v}{b^2v+c^2}\big(x_t-(a+bm)\,x_T\big).$$ {#eq-oracle-line}
#
# At $t=T$ the denoiser has seen nothing but the endpoint. We check two worlds: $s_0,\kappa,\tau=0.5,\,0.8,\,0.3$, which other pages use ($m=0.8$, $v=0.09$), and one in which no two constants coincide.

# %%
xT, x_t = randn(20, 1), randn(20, 1)
matrix = lambda v: f64(v)[:, None]
for s0, kappa, tau, m, v in [(0.5, 0.8, 0.3, 0.8, 0.09), (0.5, 1.2, 0.8, 0.3, 0.16)]:
    line = GaussianWorld(f64(0.0), matrix(s0**2), matrix(kappa), f64(0.0),
                         matrix(tau**2))
    test_close(line.mean_given_z(xT), m * xT, eps=1e-12)
    test_close(line.x_given_z.covs, f64(v).reshape(1, 1, 1), eps=1e-12)
    D = line.denoiser(bridge, xT, xT)
    test_close(D(xT, 1.0), m * xT, eps=1e-12)
    for t in f64(0.05, 0.3, 0.7, 0.99):
        a, b, c = bridge.coefs(t)
        want = m * xT + b * v / (b**2 * v + c**2) * (x_t - (a + b * m) * xT)
        test_close(D(x_t, t), want, eps=1e-12)


# %% [markdown]
# ## Expectations without sampling
#
# Most tests to come ask for an expected squared error, $\mathbb E\|r\|^2$, where the residual $r$ is an *affine* function of standard normal numbers $\xi$ (`w` in the code). No sampling and no traces are needed: if $r(\xi)=r_0+R\xi$ then $\mathbb E\|r\|^2=\|r_0\|^2+\sum_i\|Re_i\|^2$, and evaluating $r$ at $0$ and at the unit vectors $e_i$ gives every term. It works on *any* affine estimator, also one that uses automatic differentiation inside. One more evaluation, at a random point, catches a function that is not affine.

# %%
#| exports
def expected_sqnorm(fn: Callable[[Tensor], Tensor], dim: int) -> Tensor:
    "E||fn(w)||^2 for w ~ N(0, I_dim), exactly, for an affine `fn`, (N, dim) to (N, m); ValueError if it is not affine."
    probe = torch.randn(1, require_int(dim, "dim"), generator=rng(0), dtype=torch.float64)
    r = fn(torch.cat([torch.zeros(1, dim).double(), torch.eye(dim).double(), probe])).flatten(1)
    origin, columns = r[:1], r[1:-1] - r[:1]
    off = float((origin + probe @ columns - r[-1:]).abs().max())
    affine = off <= 1e-6 * (1 + float(r.abs().max()))
    require(affine, "fn", f"an error of {off:.1e} at a random point", "an affine function")
    return sqnorm(origin)[0] + sqnorm(columns).sum()


# %% [markdown]
# Three roads to the expected error of the exact denoiser: this one, a closed form (the trace of the posterior covariance), and sampling.

# %%
def residual(w, path=VPCosine(), t=0.3):
    x0, eps, z = world.draw(w)
    return world.denoiser(path, z)(path.mix(x0, eps, t), t) - x0


exact, vals = expected_sqnorm(residual, 10), world.x_given_z.vals
closed = (vals / (1 + vals * VPCosine().gamma(0.3))).sum()
test_close(exact, closed, eps=1e-12)
sampled = sqnorm(residual(randn(200_000, 10)))
stderr = sampled.std() / len(sampled) ** 0.5
assert abs(sampled.mean() - exact) < 4 * stderr
Table({"unit vectors": f"{exact:.6f}", "posterior covariance": f"{closed:.6f}",
       "sampling": f"{sampled.mean():.4f} ± {stderr:.4f}"}, "road", "squared error")

# %%
with expect_fail(ValueError, contains="fn: expected an affine function"):
    expected_sqnorm(lambda w: w**2, 3)

# %% [markdown]
# ## Exercises
#
# **1.** *Compute.* Two humps at $\pm m$ with equal weights and the variance $s^2$ each, on a VE path. Show that the probability of the right one is a sigmoid of $2mx/(s^2+\sigma^2)$. Over which width is it between 10 and 90 %?

# %%
#| code-fold: true
#| code-summary: "Solution"
m, s, sigma = 0.8, 0.2, 0.5
humps = Mixture(f64(0.5, 0.5), f64(-m, m)[:, None], f64(s**2, s**2)[:, None, None])
right = humps.update(fine / sigma**2, f64(sigma)[0] ** -2)[0][:, 1].exp()
test_close(right, torch.sigmoid(2 * m * fine[:, 0] / (s**2 + sigma**2)), eps=1e-12)
seen = ((right > 0.1) & (right < 0.9)).sum() * 1e-4  # logit of 0.9 is log 9
test_close(seen, 2 * torch.log(f64(9.0)[0]) * (s**2 + sigma**2) / (2 * m), eps=1e-3)


# %% [markdown]
# **2.** *Extend.* A denoiser gives the mean of the posterior. Write a function that *draws* from it, with `update`, and check mean and variance of its draws for one noisy value between the humps.

# %%
#| code-fold: true
#| code-summary: "Solution"
def draw_posterior(data, nu, gamma, n, g):
    "n draws of x_0 given one noisy value, (n, d)."
    logw, m, var = (v[0] for v in data.update(nu, gamma))
    k = torch.multinomial(logw.exp(), n, replacement=True, generator=g)
    w = torch.randn(n, data.dim, generator=g, dtype=torch.float64) * var[k].sqrt()
    return torch.einsum("ni,ndi->nd", m[k] + w, data.vecs[k])


nu, gamma = f64(0.1 / 0.09)[None], f64(1 / 0.09)[0]  # x = 0.1 at noise 0.3
x = draw_posterior(two, nu, gamma, 100_000, g)
assert abs(x.mean() - two.denoise(nu, gamma)[0, 0]) < 4 * x.std() / len(x) ** 0.5
like = prior * torch.exp(nu[0, 0] * grid - gamma * grid**2 / 2)
mean = (like * grid).sum() / like.sum()
assert abs(x.var() - (like * (grid - mean) ** 2).sum() / like.sum()) < 0.005

# %% [markdown]
# ## What can go wrong
#
# * **Dividing by $\ell$ or $c$.** A deterministic code or a rank-deficient $\Sigma$ has zero eigenvalues, a bridge's end has $c=0$. The natural parameters of @eq-natural avoid both.
# * **Taking $\gamma=0$ for no information.** The likelihood is flat only if $\nu$ vanishes too. At a bridge's end it does, provided that the right endpoint is taken off.
# * **The wrong prior on a bridge.** If $x_T$ depends on $x_0$, the prior is the law of $x_0$ given $x_T$. With the law of $x_0$ alone, the denoiser forgets what the endpoint says.
# * **Trusting Monte Carlo for small numbers.** Above, the sampling noise is in the third decimal, whatever one wants to compare. `expected_sqnorm` is exact.
# * **An oracle that shares code with what it tests.** Each formula here has a second road: a grid, autodiff, a fit, or another derivation.
