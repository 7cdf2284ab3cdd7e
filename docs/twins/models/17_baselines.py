# %% [markdown]
# # Baselines
#
# > PCA, autoencoder, β-VAE, β-TCVAE and a random encoder as models of the same contract: estimates that never look at the noisy image.

# %% [markdown]
# Is a reconstruction error of 0.02 good, and what does a code owe to denoising at all? A number means something beside another one: that of principal components, of a plain autoencoder, of an encoder that never learned.
#
# The models of this page have the encoder, the code size and the training of the others, but their estimate $\hat x_0(x_t,t)=\mathrm{dec}(z)$ ignores $x_t$: they are score-based autoencoders of a degenerate kind, and are encoded, decoded, bounded and saved by the same code. We show that their bound is that of an ordinary Gaussian decoder, check it against the exact density of probabilistic PCA, give $\beta$ a unit, and estimate the total correlation of a code.

# %%
#| default_exp models.baselines

# %%
#| exports
import math
from collections.abc import Callable, Sequence

import torch
from fastcore.basics import patch
from torch import Tensor, nn
from torch.nn.functional import softplus

from scoreae.core.checks import in_batches, randn_like, require, require_number, rng, sqnorm
from scoreae.foundations.bounds import Bound, last_step
from scoreae.foundations.gaussians import LARGE, principal
from scoreae.foundations.paths import VPCosine
from scoreae.models.contract import Autoencoder
from scoreae.models.networks import HalfUNet, ImageDecoder, check_widths
from scoreae.models.priors import kl_per_axis, total_correlation

# %%
#| hide
import matplotlib.pyplot as plt
from fastcore.test import expect_fail, test_close, test_eq
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from scoreae.core.pages import Table, paper

# %%
#| hide
paper()
g = torch.Generator().manual_seed(0)


# %% [markdown]
# ## A decoder that does not look
#
# Nothing is gained by walking when the estimate is the same at every noise level. The model $p(x|z)$ is then the Gaussian decoder with one precision $\gamma$ for all pixels,
#
# $$-\log p(x|z)=\tfrac\gamma2\|x-\mathrm{dec}(z)\|^2+\tfrac d2\log\frac{2\pi}\gamma .$$ {#eq-plain}
#
# (A walk to $\gamma_{\max}=\gamma$ would give the first term too, but pay $d/2$ nats more in its last step, [Gaps](../foundations/07_gaps.ipynb).) The derivative of the mean of @eq-plain with respect to $\gamma$ vanishes at
#
# $$\gamma^*=\frac d{\mathbb E\|x-\mathrm{dec}(z)\|^2}.$$ {#eq-precision}
#
# On $L$ grey levels $v_k$ the decoder is $P(v_k|z)\propto\mathcal N(v_k;\mathrm{dec}(z),1/\gamma)$. This is `last_step` with $\varepsilon=\sqrt\gamma\,(\mathrm{dec}(z)-x)$, and its best precision is found by a search in one dimension.
#
# The precision plays the role that $\gamma_{\max}$ has elsewhere, and travels in the same argument of `bound`. `finish` measures @eq-precision on training images: the default. `choose_noise` returns what fits validation images, together with the noise $\tau$ of a deterministic code, and changes nothing in the model. Both use the picture as decoded, not clamped to $[-1,1]$.

# %%
#| exports
class PlainDecoder(Autoencoder):
    """A model whose estimate of x_0 is a function of the code alone, `picture(z)`: (N, z_dim) to images (N, C, H, W).

    Its p(x | z) is N(picture(z), 1/precision); `bound` takes it as `gamma_max` (default: as fitted by `finish`).
    """

    start = "model"

    def __init__(self, shape: Sequence[int], z_dim: int, *, kl_weight: float = 0.0):
        super().__init__(shape, z_dim, VPCosine(), weighting="simple", kl_weight=kl_weight)
        self.register_buffer("precision", torch.ones((), dtype=torch.float64))

    def picture(self, z: Tensor) -> Tensor: raise NotImplementedError

    def denoiser(self, z: Tensor, xT: None = None) -> Callable[[Tensor, Tensor], Tensor]:
        x = self.picture(z)
        return lambda x_t, t: x

    def loss(self, x: Tensor, g: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        "The mean squared error ||x - dec(z)||^2, summed over pixels."
        error = sqnorm(x - self.picture(self.codes(x)[0])).mean()
        return error, {"error": error.detach()}

    def distortion_terms(self, x: Tensor, z: Tensor, gamma_max: float, levels: int | None, n: int,
                         g: torch.Generator) -> dict[str, Tensor]:
        return {"last_step": decoder_cost(x, self.picture(z), gamma_max, levels).cpu()}

    def bound(self, x: Tensor, levels: int | None = None, seed: int | torch.Generator | None = 0, *,
              gamma_max: float | None = None, **kw) -> Bound:
        "As `Autoencoder.bound`, with `gamma_max` for the decoder's precision."
        return super().bound(x, levels, seed, gamma_max=float(self.precision) if gamma_max is None else gamma_max, **kw)

    def finish(self, x: Tensor) -> None:
        super().finish(x)
        self.precision.fill_(self.fit_precision(x)[0])


# %%
#| exports
def decoder_cost(x: Tensor, picture: Tensor, precision: float, levels: int | None = None) -> Tensor:
    "-log p(x | z) in nats, (N,), for the decoder N(picture, 1/precision): of a density, or of grey `levels`."
    error = (picture - x).double()
    if levels: return last_step(x.double(), precision, levels, math.sqrt(precision) * error)
    return (precision * sqnorm(error) + x[0].numel() * math.log(2 * math.pi / precision)) / 2


# %% [markdown]
# The search: @eq-precision in closed form, or for grey levels the minimum over $\log\gamma$ near it, by scipy. $\tau$ is the one with the smallest sum of this cost and the rate.

# %%
#| exports
@patch
def fit_precision(self: PlainDecoder, x: Tensor, levels: int | None = None,
                  tau: float | None = None) -> tuple[float, float]:  # fmt: skip
    """The best precision for images (N, C, H, W) decoded from codes with the encoder's noise, or with `tau` of it; and
    -log p(x | z) with it, in nats per image. For grey `levels` at most 2^15 values, drawn at random, are looked at."""
    mean, std = self._codes(x)
    if tau is not None: std = self.prior.noised(tau)[0].to(mean).expand_as(mean)
    z = mean if std is None else mean + std * randn_like(mean, rng(0, mean.device))
    with torch.no_grad(): picture = in_batches(lambda zb: self.picture(zb.to(self.device)).to(x.device), z)
    dims, error = x[0].numel(), in_batches(lambda p, q: sqnorm((p - q).double()), picture, x)
    mse = max(float(error.mean()) / dims, 1e-8)
    if levels is None: return 1 / mse, dims / 2 * math.log(2 * math.pi * math.e * mse)

    from scipy.optimize import minimize_scalar

    some = torch.randperm(x.numel(), generator=rng(0))[: 2**15].to(x.device)
    x, picture = x.flatten()[some, None], picture.flatten()[some, None]
    cost = lambda u: float(decoder_cost(x, picture, math.exp(u), levels).mean()) * dims
    ends = -math.log(mse) - 4, -math.log(mse) + 2
    found = minimize_scalar(cost, bounds=ends, method="bounded", options={"xatol": 0.01})
    return math.exp(found.x), found.fun


@patch
def choose_noise(self: PlainDecoder, x: Tensor, levels: int | None = None,
                 taus: Sequence[float] = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)) -> dict[str, float]:  # fmt: skip
    "Keywords for `bound` that fit validation images (N, C, H, W): precision `gamma_max`, and `tau` if needed."
    mean, std = self._codes(x)
    if std is not None: return {"gamma_max": self.fit_precision(x, levels)[0]}
    found = {}
    for tau in taus:
        (precision, cost), (noise, prior) = self.fit_precision(x, levels, tau), self.prior.noised(tau)
        rate = prior.rate(mean.to(noise), noise.square().expand_as(mean)).mean()
        found[cost + float(rate)] = {"tau": tau, "gamma_max": precision}
    return found[min(found)]


# %% [markdown]
# ## PCA
#
# The best linear code. It has no gradient steps: it is fitted when training begins, by scikit-learn, and by its incremental version where images do not fit in memory in double precision.

# %%
#| exports
class PCA(PlainDecoder):
    "Principal component analysis: the best linear code of its size in squared error."

    large = LARGE  # numbers in the data, above which they are fitted in batches

    def __init__(self, shape: Sequence[int], z_dim: int):
        super().__init__(shape, z_dim)
        dims = math.prod(self.shape)
        require(z_dim <= dims, "z_dim", z_dim, f"at most {dims} components for images {self.shape}")
        self.register_buffer("mean", torch.zeros(dims))
        self.register_buffer("components", torch.eye(z_dim, dims))

    def prepare(self, x: Tensor) -> None:
        mean, components, _ = principal(x, self.z_dim, self.large)
        self.mean.copy_(mean)
        self.components.copy_(components)

    def codes(self, x: Tensor) -> tuple[Tensor, None]: return (x.flatten(1) - self.mean) @ self.components.T, None
    def picture(self, z: Tensor) -> Tensor: return (self.mean + z @ self.components).unflatten(1, self.shape)


# %% [markdown]
# On the digits: PCA's error must be the sum of the discarded variances, a textbook identity that involves none of the code above; the number of the sampler's steps must not matter; the incremental fit must do as well.

# %%
x = torch.tensor(load_digits().images / 8 - 1, dtype=torch.float32)[:, None]
train, val, test = x[:1200], x[1200:1400], x[1400:]
pca = PCA((1, 8, 8), z_dim=8)
pca.prepare(train)
pca.finish(train)
raw = pca.picture(pca.encode(train))
cov = torch.cov(train.flatten(1).double().T, correction=0)
discarded = torch.linalg.eigvalsh(cov)[:-8].sum()
test_close(sqnorm(raw - train).double().mean(), discarded, eps=1e-4)
test_close(pca.precision, 64 / discarded, eps=1e-4)
point, few, drawn = (pca.reconstruct(train[:9], **kw)
                     for kw in ({}, {"steps": 7}, {"mode": "sample"}))
test_close(few, raw[:9].clamp(-1, 1), eps=1e-6)
test_close(drawn, point, eps=1e-6)

batched = PCA((1, 8, 8), z_dim=8)
batched.large = 0
batched.prepare(train)
assert sqnorm(batched.picture(batched.encode(train)) - train).mean() < 1.01 * discarded

# %%
with expect_fail(ValueError, contains="z_dim"): PCA((1, 2, 2), 5)


# %% [markdown]
# **The bound against an exact density.** PCA with a Gaussian prior on its code and a Gaussian decoder is probabilistic PCA [@tipping1999ppca]: $x$ is Gaussian with covariance $W^\top C_\tau W+I/\gamma$, where the rows of $W$ are the components and $C_\tau$ is the covariance of the noised codes. So the exact $\log p(x)$ is known, and so is the exact posterior, and for every $\tau$ and $\gamma$
#
# $$\log p(x)-\text{bound}(x)=\mathrm{KL}\big(q_\tau(z|x)\,\|\,p(z|x)\big)\ge0 .$$ {#eq-ppca}

# %%
def exact(tau, gamma):
    "E log p(x) of the noised model and E KL(q_tau || exact posterior), by covariances."
    W, std, prior = pca.components.double(), *pca.prior.noised(tau)
    C, flat = prior.cov.double(), test.flatten(1).double()
    centre = pca.mean.double() + prior.mean.double() @ W
    p = MultivariateNormal(centre, W.T @ C @ W + torch.eye(64) / gamma)
    V = torch.linalg.inv(torch.linalg.inv(C) + gamma * torch.eye(8))
    mean = prior.mean + (flat - centre) @ W.T * gamma @ V
    q = MultivariateNormal(pca.encode(test).double(), std.double().square().diag())
    return p.log_prob(flat).mean(), kl_divergence(q, MultivariateNormal(mean, V)).mean()


rows = []
for tau, gamma in [(0.05, 20.0), (0.2, 20.0), (0.2, 5.0), (0.8, 10.0)]:
    b = pca.bound(test, tau=tau, gamma_max=gamma, repeats=20)
    log_p, gap = exact(tau, gamma)
    assert gap > 0 and abs(log_p - gap - b.total) < 4 * b.stderr_mc
    rows.append({"τ": tau, "γ": gamma, "log p(x) (nats)": f"{log_p:.2f}",
                 "KL (nats)": f"{gap:.2f}",
                 "bound (nats)": f"{b.total:.2f} ± {b.stderr_mc:.2g}"})
Table(rows)

# %% [markdown]
# The search improves on the default precision, and leaves the model as it was.

# %%
before = {k: v.clone() for k, v in pca.state_dict().items()}
for levels in (None, 17):
    chosen = pca.choose_noise(val, levels)
    best, tau = pca.bound(val, levels, **chosen), chosen["tau"]
    gamma = chosen["gamma_max"]
    for f in (0.8, 1.25):
        assert pca.bound(val, levels, tau=tau, gamma_max=f * gamma).total < best.total
    assert pca.bound(val, levels, tau=tau).total < best.total  # the default precision
assert all(torch.equal(v, before[k]) for k, v in pca.state_dict().items())
b = pca.bound(test, 17, **chosen)
Table({"chosen τ": tau, "chosen γ": gamma,
       "distortion (nats)": f"{b.distortion:.2f}", "rate (nats)": f"{b.rate:.2f}",
       "bound (nats)": f"{b.total:.2f} ± {b.stderr_data:.2f}"},
      "test images, 17 grey levels")


# %% [markdown]
# ## A plain autoencoder
#
# Encoder and decoder are networks, added to what the Gaussian says of code and picture ([The contract](13_contract.ipynb)). With a code without noise that is PCA: before its first step, a prepared autoencoder *is* PCA (exercise 2).

# %%
#| exports
def _networks(model: PlainDecoder, outputs: int, width: int, encoder_width: int | None, begin: str, std: float) -> None:
    "Give `model` its half-U-Net encoder with that many outputs, its decoder, and where they begin."
    width, small = check_widths(width, encoder_width)
    model.encoder_net = HalfUNet(model.shape, outputs, small)
    model.decoder_net = ImageDecoder(model.shape, model.z_dim, width)
    model.begins(begin, std, model.encoder_net.head, model.decoder_net.head[-1])


class AE(PlainDecoder):
    "A plain autoencoder: half-U-Net encoder, convolutional decoder, squared error; `begin` \"gaussian\" or \"random\"."

    def __init__(self, shape: Sequence[int], z_dim: int, *, width: int = 32, encoder_width: int | None = None,
                 begin: str = "gaussian"):
        super().__init__(shape, z_dim)
        _networks(self, z_dim, width, encoder_width, begin, 0.0)

    def codes(self, x: Tensor) -> tuple[Tensor, None]: return self.correction(x) + self.first_code(x)[0], None
    def picture(self, z: Tensor) -> Tensor: return self.decoder_net(z) + self.first_picture(z)


# %% [markdown]
# How much of an autoencoder is its encoder's training? A **random encoder** never trains: the same network, begun at random, its code standardised on the training images, and a decoder that makes the best of it. (The branches that start at zero in [Networks](10_networks.ipynb) get random weights too, else the network would be shallower than it looks.)

# %%
#| exports
class RandomEncoder(AE):
    "An `AE` whose encoder keeps its random weights; codes are standardised, only the decoder learns."

    def __init__(self, shape: Sequence[int], z_dim: int, *, width: int = 32, encoder_width: int | None = None):
        super().__init__(shape, z_dim, width=width, encoder_width=encoder_width, begin="random")
        for layer in self.encoder_net.modules():
            if isinstance(layer, nn.Conv2d): layer.reset_parameters()
        self.encoder_net.requires_grad_(False)
        self.register_buffer("centre", torch.zeros(z_dim))
        self.register_buffer("scale", torch.ones(z_dim))

    def prepare(self, x: Tensor) -> None:
        self.centre.zero_(), self.scale.fill_(1)
        z = self.encode(x)
        self.centre.copy_(z.mean(0)), self.scale.copy_(z.std(0, correction=0).clamp(min=1e-6))

    def codes(self, x: Tensor) -> tuple[Tensor, None]: return (self.encoder_net(x) - self.centre) / self.scale, None


# %%
torch.manual_seed(0)
ae, blind = AE((1, 8, 8), z_dim=8, width=8), RandomEncoder((1, 8, 8), z_dim=8, width=8)
loss, _ = ae.loss(train[:32], g)
mse = nn.functional.mse_loss(ae.decoder_net(ae.encoder_net(train[:32])), train[:32])
test_close(loss, 64 * mse, eps=1e-4)

blind.prepare(train)
z = blind.encode(train)
test_close(z.mean(0), torch.zeros(8), eps=1e-5)
test_close(z.square().mean(0), torch.ones(8), eps=1e-5)
blind.loss(train[:32], g)[0].backward()
learns = lambda net: {p.grad is not None for p in net.parameters()}
test_eq((learns(blind.encoder_net), learns(blind.decoder_net)), ({False}, {True}))

# %%
with expect_fail(ValueError, contains="encoder_width"):
    AE((1, 8, 8), 4, encoder_width=0)


# %% [markdown]
# ## A β-VAE, and the unit of β
#
# A VAE [@kingma2014vae; @rezende2014] draws the code from a Gaussian, and its bound is @eq-plain plus the rate. A $\beta$-VAE [@higgins2017beta] weighs the rate by $\beta$. What does $\beta=4$ mean? With a *fixed* precision $\gamma$, only the ratio $\beta/\gamma$ matters,
#
# $$\tfrac\gamma2\|x-\mathrm{dec}(z)\|^2+\beta\,\mathrm{KL}=\gamma\,\Big(\tfrac12\|x-\mathrm{dec}(z)\|^2+\tfrac\beta\gamma\,\mathrm{KL}\Big),$$ {#eq-beta-ratio}
#
# so the number depends on the range of the pixels and on an assumed noise. Put the best precision @eq-precision of the batch in, instead (the "optimal σ-VAE" [@rybkin2021sigma]). The first term becomes the constant $\tfrac d2$, and
#
# $$\mathcal L=\tfrac d2\log\Big(2\pi e\,\tfrac1d\,\mathbb E\|x-\mathrm{dec}(z)\|^2\Big)+\beta\;\mathbb E\,\mathrm{KL}\big(q(z|x)\,\|\,\mathcal N(0,I)\big).$$ {#eq-sigma-vae}
#
# Now both terms are nats, and $\beta$ is an *exchange rate*: one nat of rate is spent if it saves more than $\beta$ nats of distortion. $\beta=1$ maximises the bound, $\beta>1$ makes codes poorer than likelihood asks for, $\beta<1$ richer. By @eq-beta-ratio this is the VAE of fixed precision one with weight $\beta/\gamma^*$.

# %%
#| exports
class VAE(AE):
    """A beta-VAE (Higgins et al. 2017) with a Gaussian decoder whose precision fits the batch (Rybkin et al. 2021).

    `beta` is in nats of distortion per nat of rate: 1 maximises the bound on log p(x).
    """

    def __init__(self, shape: Sequence[int], z_dim: int, *, beta: float = 1.0, width: int = 32,
                 encoder_width: int | None = None, begin: str = "gaussian"):
        PlainDecoder.__init__(self, shape, z_dim, kl_weight=require_number(beta, "beta", 0))
        _networks(self, 2 * z_dim, width, encoder_width, begin, 0.2)

    def codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        (mean, raw), (first, std) = self.correction(x).chunk(2, 1), self.first_code(x)
        if std is not None: raw = raw + (std - 1e-2).expm1().log()
        return mean + first, softplus(raw) + 1e-2

    def loss(self, x: Tensor, g: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        "The loss of images (N, C, H, W) in nats per image, at the batch's best precision, and its parts."
        mean, std = self.codes(x)
        z = mean + std * randn_like(mean, g)
        mse = (x - self.picture(z)).square().mean().clamp(min=1e-8)
        distortion, (price, parts) = x[0].numel() / 2 * (2 * math.pi * math.e * mse).log(), self.price(z, mean, std)
        return distortion + price, {"distortion": distortion.detach(), **parts}


# %% [markdown]
# Checks: the loss is the cost of the decoder plus $\beta$ times the rate of the same draw, both from `torch.distributions`; and its gradient is that of the VAE with fixed precision one and weight $\beta/\gamma^*$, times $\gamma^*$.

# %%
vae, batch = VAE((1, 8, 8), z_dim=8, width=8, beta=3.0), train[:64]
mean, std = vae.codes(batch)
z = mean + std * randn_like(mean, rng(5))
standard = Independent(Normal(torch.zeros(8), torch.ones(8)), 1)
rate = kl_divergence(Independent(Normal(mean, std), 1), standard).mean()
gamma = 1 / nn.functional.mse_loss(vae.picture(z), batch).detach()
distortion = -Independent(Normal(vae.picture(z), gamma**-0.5), 3).log_prob(batch).mean()
loss, parts = vae.loss(batch, rng(5))
test_close(loss, distortion + 3 * rate, eps=1e-3)


def gradient(loss):
    found = torch.autograd.grad(loss, list(vae.parameters()))
    return torch.cat([v.flatten() for v in found])


plain = sqnorm(batch - vae.picture(z)).mean() / 2 + 3 / gamma * rate
test_close(gradient(loss), gamma * gradient(plain), eps=1e-2)
nats = {k: f"{v:.2f}" for k, v in parts.items() if k != "spread"}
Table(nats, "part of the loss", "nats per image")


# %% [markdown]
# ## β-TCVAE
#
# The rate pays for information, for dependence between axes (the *total correlation*), and for axes that are not standard normal ([Priors](12_priors.ipynb)). Only the second is about *disentangling*: it is zero if and only if the axes are independent. $\beta$-TCVAE [@chen2018isolating] weighs it alone by $\beta$, so its loss is the VAE's plus $(\beta-1)$ times the total correlation.

# %%
#| exports
class TCVAE(VAE):
    """A beta-TCVAE (Chen et al. 2018): a `VAE` that weighs only the total correlation of its codes by `beta`.

    The loss is the VAE's with weight one, plus (beta - 1) times `total_correlation` of the batch.
    """

    def __init__(self, shape: Sequence[int], z_dim: int, *, beta: float = 4.0, width: int = 32,
                 encoder_width: int | None = None, begin: str = "gaussian"):
        super().__init__(shape, z_dim, beta=beta, width=width, encoder_width=encoder_width, begin=begin)
        self.register_buffer("images", torch.ones((), dtype=torch.long))

    def prepare(self, x: Tensor) -> None:
        super().prepare(x)
        self.images.fill_(len(x))

    def price(self, z: Tensor, mean: Tensor, std: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        _, parts = super().price(z, mean, std)
        rate = kl_per_axis(mean, std**2).sum(1).mean()
        tc = total_correlation(z, mean, std, max(int(self.images), len(z)))
        return rate + (self.kl_weight - 1) * tc, {**parts, "total correlation": tc.detach()}


# %% [markdown]
# Two losses of one batch with two weights, from the same seed, must differ by the difference of the weights times the total correlation that the parts report.

# %%
one, four = (TCVAE((1, 8, 8), 4, beta=beta, width=8) for beta in (1.0, 4.0))
four.load_state_dict(one.state_dict())
(loss, parts), (more, _) = (m.loss(train[:64], rng(1)) for m in (one, four))
test_close((more - loss).item(), 3 * parts["total correlation"].item(), eps=1e-3)


# %% [markdown]
# ## All of them, on one axis
#
# Two hundred steps each on 1200 digits, the same encoder and decoder, eight axes. Distortion and rate on test images, in nats, with precision and $\tau$ chosen on the validation split; the grey lines join equal bounds, and lower left is better. $\beta$ moves the VAE along its curve, and the best *bound* of the three is that of $\beta=1$.

# %%
def short(model, steps=200):
    "A few training steps with Adam; then `measured`."
    model.prepare(train)
    learning = [p for p in model.parameters() if p.requires_grad]
    opt = torch.optim.Adam(learning, lr=8e-3, fused=True)
    for step in range(steps):
        for group in opt.param_groups: group["lr"] = 8e-3 * (1 - step / steps)
        loss, _ = model.loss(train[torch.randint(1200, (64,), generator=g)], g)
        opt.zero_grad()
        (loss / 64).backward()
        opt.step()
    model.eval().finish(train)
    return measured(model)


def measured(model):
    "Rate and distortion of test images in nats, with what validation images choose."
    chosen = model.choose_noise(val, 17, taus=(0.1, 0.2, 0.4))
    b = model.bound(test, 17, **chosen, repeats=4)
    return b.rate, b.distortion


torch.manual_seed(0)
make = lambda kind, **kw: kind((1, 8, 8), 8, width=8, **kw)
found = {"PCA": measured(pca), "AE": short(make(AE)),
         "random encoder": short(make(RandomEncoder))}
found |= {f"VAE β = {beta:g}": short(make(VAE, beta=beta)) for beta in (0.1, 1.0, 3.0)}
found["TCVAE β = 4"] = short(make(TCVAE, beta=4.0))
total = {k: sum(v) / (64 * math.log(2)) for k, v in found.items()}
assert total["VAE β = 1"] < min(total["VAE β = 0.1"], total["VAE β = 3"])
assert total["AE"] < total["random encoder"]
Table({k: {"rate (nats)": f"{rate:.1f}", "distortion (nats)": f"{distortion:.1f}",
           "bits per dimension": f"{total[k]:.2f}"}
       for k, (rate, distortion) in found.items()}, "model")

# %%
#| label: fig-plane
#| fig-cap: 'Seven models of the digits by rate and distortion of the test images. Along a grey line the bound is the same, and it is 10 nats better on the next line below. The three VAEs trade distortion for rate; the bound of $\beta=1$ is the best of all seven.'
#| fig-alt: 'Scatter plot of distortion against rate, both in nats per image, one marker for each model, with parallel grey lines of slope minus one. The VAEs run from the upper left (beta 3) over the middle (beta 1, lowest of all relative to the lines) to the lower right (beta 0.1); the random encoder lies well above PCA and AE.'
fig, ax = plt.subplots()
for (name, (rate, distortion)), marker in zip(found.items(), "sDXo^vP", strict=True):
    ax.plot(rate, distortion, marker, label=name)
ax.set(xlabel="rate (nats per image)", ylabel="distortion (nats per image)")
for level in range(100, 220, 10):
    ax.axline((0, level), slope=-1, color="0.85", lw=0.8, zorder=0)
ax.grid(False)
ax.set_ylim(100, 165)
ax.legend(bbox_to_anchor=(1, 1));

# %% [markdown]
# ## Exercises
#
# **1.** *Compute.* With its best precision, how many nats of distortion does PCA's ninth axis save on the training images? Use the discarded variances only, then check.

# %%
#| code-fold: true
#| code-summary: "Solution"
left = torch.linalg.eigvalsh(cov).flip(0)[8:]  # variances that eight axes discard
saves = 64 / 2 * math.log(left.sum() / left[1:].sum())
nine = PCA((1, 8, 8), z_dim=9)
nine.prepare(train)
costs = [m.fit_precision(train)[1] for m in (pca, nine)]
test_close(costs[0] - costs[1], saves, eps=1e-3)

# %% [markdown]
# **2.** *Explain.* Why is a prepared, untrained `AE` the same as PCA, although it scales its codes? Show it. What is different for the `VAE`?

# %%
#| code-fold: true
#| code-summary: "Solution"
begun, noisy = (kind((1, 8, 8), 8, width=8).eval() for kind in (AE, VAE))
for m in (begun, noisy): m.prepare(train)
a, b = begun.encode(test), pca.encode(test)
test_close(a, b / begun.linear.variances.sqrt(), eps=1e-4)  # whitened, then undone
test_close(begun.picture(a), pca.picture(b), eps=1e-4)
shrunk = noisy.picture(noisy.encode(test)) - pca.mean.view(1, 8, 8)
want = 0.96 * (pca.picture(b) - pca.mean.view(1, 8, 8))  # a noise of s = 0.2^2
test_close(shrunk, want, eps=1e-4)  # is paid for with shrinking, 1 - s


# %% [markdown]
# **3.** *Extend.* Add a baseline whose code is a choice: the nearest of $k$ clusters of images, as a vector of zeros and a one.

# %%
#| code-fold: true
#| code-summary: "Solution"
class Clusters(PlainDecoder):
    def __init__(self, shape, z_dim):
        super().__init__(shape, z_dim)
        self.register_buffer("middles", torch.zeros(z_dim, math.prod(shape)))
    def prepare(self, x):
        found = KMeans(self.z_dim, n_init=1, random_state=0).fit(x.flatten(1))
        self.middles.copy_(torch.tensor(found.cluster_centers_))
    def codes(self, x):
        nearest = torch.cdist(x.flatten(1), self.middles).argmin(1)
        return nn.functional.one_hot(nearest, self.z_dim).to(x), None
    def picture(self, z): return (z @ self.middles).unflatten(1, self.shape)
(ten := Clusters((1, 8, 8), 10)).prepare(train)
error = lambda m: sqnorm(m.reconstruct(test) - test).mean()
assert error(pca) < error(ten) < sqnorm(train.mean(0) - test).mean()

# %% [markdown]
# ## What can go wrong
#
# * **Comparing at different code sizes**, encoders, or budgets. The baselines take the same `z_dim`, the same encoder network, and are trained by the same `fit`.
# * **Calling a decoder's output a sample.** `point` and `sample` coincide here: both are the mean of $p(x|z)$, without its pixel noise.
# * **A β from another paper.** Higgins et al. fix the decoder's noise; their $\beta$ is not in nats per nat. Convert by @eq-beta-ratio.
# * **Reading the estimate of total correlation as a measurement.** From a batch it is biased; compare it only at the same batch size.
