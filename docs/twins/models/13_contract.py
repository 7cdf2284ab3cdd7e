# %% [markdown]
# # The contract
#
# > A score-based autoencoder answers three questions; loss, reconstruction, sampling, interpolation, bound and saving are then the same code for every model.

# %% [markdown]
# What must be written down to have a new score-based autoencoder, and what comes for free? The less a model has to say, the more a comparison of two models compares what they say: loss, bound, sampler and files are the same code for both.
#
# Four choices make such a model: a path, the integral, the sampler, and *how the code gets in*. The first three are shared and done. This page turns the fourth into a contract. A model says
#
# 1. `posterior(x)`, the law of the code of an image,
# 2. `endpoint(z)`, the end $x_T$ of its bridge, or `None` for a diffusion,
# 3. `denoiser(z, xT)`, an estimate $\hat x_0(x_t,t)$ that knows the code,
#
# and everything else follows. The test of the design is near the end: a complete model in a dozen lines.

# %%
#| default_exp models.contract

# %%
#| exports
import functools
import hashlib
import inspect
import json
import math
import os
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path as FilePath

import torch
from fastcore.basics import patch
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal
from torch.distributions.kl import register_kl

from scoreae.core.checks import check_images, check_shape, in_batches, randn_like
from scoreae.core.checks import require, require_choice, require_int, require_number, rng, sqnorm
from scoreae.foundations import paths, samplers
from scoreae.foundations.bounds import MOST_LEVELS, WEIGHTINGS, Bound, bound_terms, default_gamma_max, noise_levels
from scoreae.foundations.gaussians import Gaussian, GaussianDenoiser, LinearCode
from scoreae.foundations.scores import LEVELS, Denoiser, Stats, residual
from scoreae.models.pretrained import Discrete
from scoreae.models.priors import DiffusionPrior, GaussianPrior, kl_per_axis

# %%
#| hide
import tempfile

from fastcore.test import expect_fail, test_close, test_eq
from torch.distributions import kl_divergence

from scoreae.core.pages import Table
from scoreae.foundations.paths import VPCosine
from scoreae.foundations.tools import condition, gaussian_kl
from scoreae.foundations.worlds import GaussianWorld


# %% [markdown]
# ## The law of a code
#
# A stochastic encoder gives a diagonal Gaussian. A deterministic one gives a point, which deserves to be a distribution too: all mass at its mean, no spread, and an infinite divergence from anything that has a density.

# %%
#| exports
class Delta(Distribution):
    "All mass at `mean` (N, k): what a deterministic encoder says about the code."

    arg_constraints, has_rsample = {}, True

    def __init__(self, mean: Tensor):
        self._mean = mean
        super().__init__(mean.shape[:1], mean.shape[1:], validate_args=False)

    @property
    def mean(self) -> Tensor: return self._mean
    @property
    def variance(self) -> Tensor: return torch.zeros_like(self._mean)
    @property
    def stddev(self) -> Tensor: return torch.zeros_like(self._mean)
    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self._mean.expand(*sample_shape, *self._mean.shape)
    def log_prob(self, value: Tensor) -> Tensor: return torch.where((value == self._mean).all(-1), math.inf, -math.inf)
    def entropy(self) -> Tensor: return torch.full(self.batch_shape, -math.inf)


@register_kl(Delta, Distribution)
def _kl_delta(p: Delta, q: Distribution) -> Tensor:
    same = (p.mean == q.mean).all(-1) if isinstance(q, Delta) else torch.zeros_like(p.mean[:, 0], dtype=torch.bool)
    return torch.where(same, 0.0, math.inf)


# %%
point, normal = Delta(torch.zeros(3, 2)), Independent(Normal(torch.zeros(3, 2), 1.0), 1)
test_eq(kl_divergence(point, normal).tolist(), [math.inf] * 3)
test_eq(kl_divergence(point, point).tolist(), [0.0] * 3)
test_eq(point.rsample((5,)).shape, (5, 3, 2))
test_eq(point.entropy().tolist(), [-math.inf] * 3)


# %% [markdown]
# ## The base class
#
# A model is an `nn.Module` that knows its image shape, code size, path and training weights, and its prior. A subclass implements `codes` (what the encoder network says: means, and standard deviations or `None`), `denoiser`, and, for a bridge, `endpoint`. Its networks are called `net`, `encoder_net` and `endpoint_net`, so that they cannot shadow the methods.
#
# A saved model is built again from the arguments of its constructor. They are recorded when it is called, whatever class it belongs to, so that no model has to think about it: numbers of numpy become plain ones, tuples become lists, as JSON will keep them.

# %%
#| exports
def _plain(value):
    "A constructor's argument as JSON keeps it: tuples as lists, numpy's scalars as Python's; anything else as it is."
    if isinstance(value, list | tuple): return [_plain(v) for v in value]
    scalar = type(value).__module__ == "numpy" and getattr(value, "shape", None) == ()
    return value.item() if scalar else value


def _recording(init: Callable) -> Callable:
    "The constructor `init`, which also keeps the arguments of the outermost call in `self.config`."
    signature = inspect.signature(init)

    @functools.wraps(init)
    def wrapped(self, *args, **kw):
        if "config" not in self.__dict__:
            bound = signature.bind(self, *args, **kw)
            bound.apply_defaults()
            self.__dict__["config"] = {k: _plain(v) for k, v in list(bound.arguments.items())[1:]}
        init(self, *args, **kw)

    return wrapped


# %%
#| exports
class Autoencoder(nn.Module):
    """The contract. A subclass gives `codes`, `denoiser` and, on a bridge, `endpoint`; everything else is shared.

    `shape` (C, H, W), code size `z_dim`, a `path`; the training loss is E[w/2 ||eps - eps_hat||^2] + kl_weight
    KL(q || N(0, I)) with noise levels and weights w of `weighting`, up to the SNR gamma_max.
    """

    start = "prior"  # of the bound: "prior" for a diffusion, "model" for a bridge
    eta = 0.0  # share of fresh noise in draws, unless told otherwise
    endpoint_noise = 0.0  # standard deviation of x_T around `endpoint(z)`
    progress = 1.0  # share of the training that is done; a training sets it before every step

    def __init_subclass__(cls, **kw):
        super().__init_subclass__(**kw)
        if "__init__" in cls.__dict__: cls.__init__ = _recording(cls.__init__)

    def __init__(self, shape: Sequence[int], z_dim: int, path: paths.Path, *, weighting: str, kl_weight: float = 0.0,
                 gamma_max: float | None = None):
        super().__init__()
        self.shape, self.z_dim = check_shape(shape), require_int(z_dim, "z_dim")
        require(isinstance(path, paths.Path), "path", path, "a path")
        require_choice(weighting, "weighting", WEIGHTINGS)
        self.path, self.weighting, self.kl_weight = path, weighting, require_number(kl_weight, "kl_weight", 0)
        self.gamma_max = default_gamma_max(256) if gamma_max is None else require_number(gamma_max, "gamma_max", 1)
        self.prior, self.trained = GaussianPrior(z_dim), {}
        self.gaussian = self.linear = None  # of the images and of their codes, where a model `begins` there
        self.register_buffer("moments", torch.tensor([0.25, 0.25, 0.0]))  # of x_0, of x_T, mixed
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    @property
    def device(self) -> torch.device: return self.prior.mean.device
    @property
    def dtype(self) -> torch.dtype: return self.prior.mean.dtype
    @property
    def gamma_min(self) -> float: return float(self.path.gamma(self.path.T)) if self.start == "prior" else math.exp(-6)
    @property
    def span(self) -> tuple[float, float]:
        "The range of log gamma that the networks are trained on."
        return max(LEVELS[0], math.log(self.gamma_min)), min(LEVELS[1], math.log(self.gamma_max))
    @property
    def stats(self) -> Stats: return Stats(*self.moments.tolist())
    @property
    def rate_weight(self) -> float:
        "The weight of the rate in the loss now; constant, unless a model anneals it with `progress`."
        return self.kl_weight

    def codes(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        "Means (N, z_dim) and standard deviations (N, z_dim), or None if deterministic, of codes; differentiable."
        raise NotImplementedError
    def endpoint(self, z: Tensor) -> Tensor | None:
        "The end x_T (N, C, H, W) of the bridge for codes (N, z_dim), or None for a diffusion; the mean of a noisy one."
        return None
    def denoiser(self, z: Tensor, xT: Tensor | None = None) -> Callable[[Tensor, Tensor], Tensor]:
        "The estimate D(x_t, t) of x_0 for codes (N, z_dim) and their endpoints: (N, C, H, W), (N,) to (N, C, H, W)."
        raise NotImplementedError
    def forward(self, x: Tensor, g: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        "The training loss and its parts, as `loss`: what wrappers of modules call."
        return self.loss(x, g)


# %% [markdown]
# ## In: images to codes
#
# Images are checked where they enter, moved to the model's device and precision in batches, and the answer comes back to where the images were.

# %%
#| exports
@patch
def _codes(self: Autoencoder, x: Tensor) -> tuple[Tensor, Tensor | None]:
    "Checked, batched `codes` without gradients."
    check_images(x, self.shape)

    def part(xb):
        mean, std = self.codes(xb.to(self.device, self.dtype))
        known = {"mean": mean} if std is None else {"mean": mean, "std": std}
        return {k: v.to(x.device, self.dtype) for k, v in known.items()}

    with torch.no_grad(): out = in_batches(part, x)
    return out["mean"], out.get("std")


@patch
def posterior(self: Autoencoder, x: Tensor) -> Distribution:
    "q(z | x) for images (N, C, H, W) in [-1, 1]: a diagonal Gaussian, or a `Delta` for a deterministic encoder."
    mean, std = self._codes(x)
    return Delta(mean) if std is None else Independent(Normal(mean, std), 1)


@patch
def encode(self: Autoencoder, x: Tensor) -> Tensor:
    "The mean of the posterior, (N, z_dim), of images (N, C, H, W) in [-1, 1]."
    return self._codes(x)[0]


# %% [markdown]
# ## Out: codes to images
#
# Decoding is sampling with the code's denoiser. `mode="point"` gives one image per code, `mode="sample"` a draw from $p(x|z)$ ([Samplers](../foundations/08_samplers.ipynb) says what exactly). A model that must be asked differently on a walk without noise overrides `walker` ([SAMI](14_sami.ipynb) has a reason). Every estimate on the way is clamped to $[-1,1]$, where the mean of any images lies, and so is the result: what comes out may go in again.

# %%
#| exports
@patch
def draw_endpoint(self: Autoencoder, z: Tensor, g: torch.Generator) -> Tensor | None:
    "A draw of x_T (N, C, H, W) for codes (N, z_dim): `endpoint(z)`, and noise if the model has any there."
    xT = self.endpoint(z)
    return xT + self.endpoint_noise * randn_like(xT, g) if self.endpoint_noise else xT


@patch
def walker(self: Autoencoder, z: Tensor, xT: Tensor | None, mode: str) -> Callable[[Tensor, Tensor], Tensor]:
    "The estimate that a walk in `mode` follows, for codes (N, z_dim) and their endpoints: here, the `denoiser`."
    return self.denoiser(z, xT)


@patch
def decode(self: Autoencoder, z: Tensor, mode: str = "point", steps: int = 10, *, eta: float | None = None, order: int = 2,
           grid: str = "graded", seed: int | torch.Generator | None = 0) -> Tensor:
    """Images (N, C, H, W) in [-1, 1] for codes (N, z_dim), with `steps` evaluations of the `walker`.

    `mode` "point" (one image per code) or "sample" (a draw); `eta`, `order`, `grid` as in `samplers.sample`, a draw's
    `eta` the model's own if None.
    """
    shaped = isinstance(z, Tensor) and z.is_floating_point() and z.ndim == 2 and z.shape[1] == self.z_dim and len(z) > 0
    require(shaped and bool(z.isfinite().all()), "z", z, f"finite codes (N, {self.z_dim})")
    g = rng(seed, self.device)
    if eta is None: eta = self.eta if mode == "sample" else 0.0
    how = {"mode": mode, "eta": eta, "order": order, "grid": grid, "clip": 1.0, "seed": g}

    def part(zb):
        zb = zb.to(self.device, self.dtype)
        xT = self.draw_endpoint(zb, g) if mode == "sample" else self.endpoint(zb)
        like = torch.zeros(len(zb), *self.shape, device=self.device, dtype=self.dtype)
        x = samplers.sample(self.walker(zb, xT, mode), self.path, like, steps, xT=xT, **how)
        return x.clamp(-1, 1).to(z.device)

    with torch.no_grad(): return in_batches(part, z)


@patch
def reconstruct(self: Autoencoder, x: Tensor, mode: str = "point", steps: int = 10, **kw) -> Tensor:
    "Images decoded from the codes (posterior means) of images (N, C, H, W); keywords as in `decode`."
    return self.decode(self.encode(x), mode, steps, **kw)


@patch
def sample(self: Autoencoder, n: int, steps: int = 25, mode: str = "sample",
           seed: int | torch.Generator | None = 0, **kw) -> Tensor:
    "`n` images (n, C, H, W) for codes drawn from the model's prior; keywords as in `decode`."
    g = rng(seed, self.device)
    return self.decode(self.prior.sample(require_int(n, "n"), g), mode, steps, seed=g, **kw)


@patch
def interpolate(self: Autoencoder, x0: Tensor, x1: Tensor, n: int = 8, mode: str = "point", steps: int = 10,
                seed: int | torch.Generator | None = 0, **kw) -> Tensor:
    "`n` images on the straight line between the codes of two images (C, H, W), all decoded with the same noise."
    for name, x in (("x0", x0), ("x1", x1)):
        require(isinstance(x, Tensor) and x.ndim == 3, name, x, f"one image {self.shape}")
        check_images(x[None], self.shape, name)
    z = self.encode(torch.stack([x0, x1.to(x0)]))
    line = torch.lerp(z[:1], z[1:], torch.linspace(0, 1, require_int(n, "n"), device=z.device, dtype=z.dtype)[:, None])
    if mode == "point": return self.decode(line, mode, steps, **kw)
    g = rng(seed)
    shared = int(torch.randint(2**62, (), generator=g, device=g.device))
    return torch.cat([self.decode(zi[None], mode, steps, seed=shared, **kw) for zi in line])


# %% [markdown]
# ## The loss
#
# One draw of the code, one endpoint, one noise level per image, and the error in units of noise. A model with a special error (SAMI trains two estimates at once) overrides `squared_error`, nothing else; one that charges its code differently overrides `price`. The monitored values are in nats per image, but for *denoising*, which is the weighted error, and *spread*, the mean standard deviation of a code.
#
# The constants of the preconditioning ([Scores](../foundations/04_scores.ipynb)) are second moments of the pixels of $x_0$ and $x_T$. An endpoint that is learned changes them, so they are running means over the training batches: a plain average at first, then with weight 1/100. A floor keeps an endpoint near zero from being divided by, and the mixed moment stays below what the other two allow. They are buffers: saved with the model, averaged with the weights, and *the same in training and in sampling*.

# %%
#| exports
@patch
def observe(self: Autoencoder, x: Tensor, xT: Tensor | None) -> None:
    "Update the running moments with a batch of images and their endpoints."
    x = x.detach().double()
    end = torch.zeros_like(x) if xT is None else xT.detach().double()
    m0, mT, mixed = (x * x).mean().clamp(min=1e-6), (end * end).mean(), (x * end).mean()
    mT = torch.maximum(mT, 1e-2 * m0)
    most = 0.99 * (m0 * mT).sqrt()
    self.seen += 1
    now = torch.stack([m0, mT, mixed.clamp(-most, most)]).to(self.moments)
    self.moments.lerp_(now, (1 / self.seen).clamp(min=0.01).to(self.moments))


@patch
def draw_times(self: Autoencoder, n: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    "Times (n,) and weights w (n,) for a training batch, stratified over it."
    return noise_levels(self.path, n, self.weighting, g, self.gamma_min, self.gamma_max, self.stats)


@patch
def squared_error(self: Autoencoder, D: Callable, x: Tensor, eps: Tensor, t: Tensor, xT: Tensor | None,
                  g: torch.Generator) -> Tensor:
    "What the loss weighs: ||eps - eps_hat||^2 of every image, (N,)."
    return sqnorm(residual(D, self.path, x, eps, t, xT))


@patch
def price(self: Autoencoder, z: Tensor, mean: Tensor, std: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    "What a stochastic code, drawn from N(mean, std^2), costs in the loss, and what is monitored of it."
    rate = kl_per_axis(mean, std**2).sum(1).mean()
    return self.rate_weight * rate, {"rate": rate.detach(), "spread": std.detach().mean()}


@patch
def loss(self: Autoencoder, x: Tensor, g: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
    "The training loss of a batch of images (N, C, H, W) on the model's device, and its parts."
    mean, std = self.codes(x)
    z = mean if std is None else mean + std * randn_like(mean, g)
    xT = self.draw_endpoint(z, g)
    if self.training: self.observe(x, xT)
    t, w = self.draw_times(len(x), g)
    error = self.squared_error(self.denoiser(z, xT), x, randn_like(x, g), t, xT, g)
    denoising = (w.to(error) / 2 * error).mean()
    price, parts = (0.0, {}) if std is None else self.price(z, mean, std)
    return denoising + price, {"denoising": denoising.detach(), **parts}


# %% [markdown]
# ## Where a model begins
#
# A network of random weights knows nothing of images, and what it says at first has to be unlearned. Every model of this library has a member that is known in closed form: the one for Gaussian images. So it begins there (`begin="gaussian"`), unless its networks are given from outside. The code is the principal components with a little noise, $\sqrt{s}$ of deviation; the picture of a code is the mean of the images that have it; the estimate of an image in noise is the Gaussian's, given the code ([Gaussian images](../foundations/09_gaussians.ipynb)). The networks are *added*, and their last layers begin at zero. `begin="random"` is the network alone. Exercise 2 checks this code on its own, and [The zoo](18_zoo.ipynb) what models know before their first step.

# %%
#| exports
BEGINNINGS = ("gaussian", "random")
BEGIN_IMAGES = 10_000  # as many, at most, decide where a model begins
LEFT = 0.01  # share of a coded variance that is never taken for known: codes may be noised, and learn to say other things
COMPONENTS = 64  # directions of the Gaussian that models begin as, or as many as the code has axes


@patch
def begins(self: Autoencoder, begin: str, std: float, *last: nn.Module) -> None:
    "Begin as the Gaussian, with codes of deviation `std`, if `begin` says so: the layers `last` are set to zero."
    require_choice(begin, "begin", BEGINNINGS)
    if begin == "random": return
    self.gaussian = Gaussian(self.shape, max(COMPONENTS, self.z_dim))
    self.linear = LinearCode(self.shape, self.z_dim, std)
    for p in (p for layer in last for p in layer.parameters()): nn.init.zeros_(p)


@patch
def first_code(self: Autoencoder, x: Tensor) -> tuple[Tensor, Tensor] | tuple[float, None]:
    "Mean and deviation (N, z_dim) of the code of clean images that the model begins with; 0 and None if with none."
    if self.linear is None: return 0.0, None
    return self.linear(x, x.new_tensor(math.inf), x.new_ones(()))


@patch
def correction(self: Autoencoder, x: Tensor, *level: Tensor) -> Tensor:
    """What the encoder's network says of images: of a model that begins as the Gaussian, divided by the root of its last
    layer's inputs. The first steps of Adam move every weight alike, and would move the code by their sum."""
    out = self.encoder_net(x, *level)
    return out if self.gaussian is None else out / self.encoder_net.head.in_features**0.5


@patch
def first_picture(self: Autoencoder, z: Tensor) -> Tensor | float:
    "The images (N, C, H, W) that codes begin as; 0 if with none."
    return 0.0 if self.linear is None else self.linear.picture(z)


@patch
def corrects(self: Autoencoder, F: Callable, xT: Tensor | None = None, center: Tensor | None = None) -> Denoiser:
    """The estimate that adds `F(x, level, extra=)` to the Gaussian's, given a code with the picture `center`, or no code.

    Of a model that begins at random it is `F(x, level)` alone.
    """
    if self.gaussian is None: return Denoiser(self.path, F, "edm", self.stats, xT, span=self.span)
    variances = None if center is None else self.gaussian.known(self.linear.left.clamp(min=LEFT))
    return GaussianDenoiser(self.gaussian, self.path, F, self.stats, xT, center, variances, self.span)


# %% [markdown]
# ## The bound
#
# The bound of [Bounds](../foundations/06_bounds.ipynb), with the model's own denoiser, endpoint and prior. What is bounded is the generative model in continuous time: a code from the prior, then the reverse process of the *unclamped* estimate. `sample` approximates that process in a few steps, and clamps. A deterministic code needs a noise of its own, `tau` ([Priors](12_priors.ipynb)), for a bound on $\log p(x)$, and then the prior is that of noised codes; without it the answer covers $\log p(x|z)$ and says so. Any $\tau$ gives a true bound; `choose_noise` finds a good one on validation images. The prior is fitted once, when training is finished.

# %%
#| exports
@patch
def distortion_terms(self: Autoencoder, x: Tensor, z: Tensor, gamma_max: float, levels: int | None, n: int,
                     g: torch.Generator) -> dict[str, Tensor]:
    "The costs, in nats, (N,), that bound -log p(x | z)."
    xT, ends = self.draw_endpoint(z, g), (self.gamma_min, gamma_max, self.start)
    return bound_terms(self.denoiser(z, xT), self.path, x, *ends, xT=xT, levels=levels, n=n, seed=g)


@patch
def bound(self: Autoencoder, x: Tensor, levels: int | None = None, seed: int | torch.Generator | None = 0, *,
          n: int = 16, tau: float | None = None, gamma_max: float | None = None, repeats: int = 2) -> Bound:
    """A lower bound on log p(x), in nats per image, as a `Bound` with every term named.

    `levels` of grey on [-1, 1] makes it a probability (then `.bits_per_dim`); without, a density. `n` noise levels per
    image and repeat. `tau` is the relative noise of a deterministic code; without it only log p(x | z) is covered.
    """
    (mean, std), prior, covered = self._codes(x), self.prior, True
    require(tau is None or std is None, "tau", tau, "None: this encoder is stochastic")
    if tau is not None: std, prior = self.prior.noised(tau)
    if std is None: std, covered = torch.zeros(()), False
    if levels is not None: require_int(levels, "levels", low=2, high=MOST_LEVELS)
    high = (default_gamma_max(levels) if levels is not None else self.gamma_max) if gamma_max is None else gamma_max
    high, n, g = require_number(high, "gamma_max", 0, above=True), require_int(n, "n"), rng(seed, self.device)

    def part(xb, mb, sb):
        xb, mb, sb = (v.to(self.device, self.dtype) for v in (xb, mb, sb))
        terms = self.distortion_terms(xb, mb + sb * randn_like(mb, g), high, levels, n, g)
        return {**terms, "rate": prior.rate(mb, sb**2, g).cpu()} if covered else terms

    args, repeats = (x, mean, std.to(mean).expand_as(mean)), require_int(repeats, "repeats", low=2)
    with torch.no_grad(): runs = [in_batches(part, *args) for _ in range(repeats)]
    return Bound(runs, x[0].numel(), high, levels, "log p(x)" if covered else "log p(x|z)")


@patch
def choose_noise(self: Autoencoder, x: Tensor, levels: int | None = None,
                 taus: Sequence[float] = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8), n: int = 8) -> dict[str, float]:
    "Keywords for `bound` that suit validation images (N, C, H, W): the best `tau` of a deterministic code, or none."
    if self._codes(x[:1])[1] is not None: return {}
    return {"tau": max(taus, key=lambda tau: self.bound(x, levels, tau=tau, n=n).total)}


@patch
def prepare(self: Autoencoder, x: Tensor) -> None:
    "Called with the training images (N, C, H, W) before the first step: fit what the model begins as, unless it is fitted."
    if self.linear is None or self.linear.fitted: return
    some = x[torch.randperm(len(x), generator=rng(0))[:BEGIN_IMAGES].sort().values.to(x.device)]
    if self.gaussian is None: return self.linear.fit(some)
    self.gaussian.fit(some)
    self.linear.take(self.gaussian.center, self.gaussian.axes, self.gaussian.variances)


@patch
def finish(self: Autoencoder, x: Tensor) -> None:
    "Called once with training images after the last step: fit the prior to their codes, in place."
    mean, std = self._codes(x)
    self.prior.fit(mean.to(self.device), (torch.zeros_like(mean) if std is None else std**2).to(self.device))


# %% [markdown]
# ## Saving
#
# A saved model is a folder with `config.json` (class, arguments, what training was done) and the weights, as safetensors; nothing in it can run code. The weights' file is named by its content, and `config.json`, which names it, is replaced last, in one atomic step: whenever a save is interrupted, the folder holds the old model or the new one, whole. Of the files in the folder, only weights that a previous `config.json` named are ever removed.

# %%
#| exports
FORMATS = (1, 2, 3)  # 1: before models began as Gaussians; 2: those with one variance for all that remains
PATHS = (paths.VPLinear, paths.VPCosine, paths.VE, Discrete)
PRIORS = (GaussianPrior, DiffusionPrior)


def write_atomic(file: str | os.PathLike, data: bytes) -> None:
    "Write a file beside its final place and move it there in one step; on failure the old file stays."
    file = FilePath(file)
    work = file.with_name(f".{file.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(work, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.replace(work, file)
    finally: work.unlink(missing_ok=True)


def _read_config(folder: FilePath) -> dict:
    "The checked `config.json` of a saved model."
    file = folder / "config.json"
    config = json.loads(file.read_text())
    found = config.get("format") if isinstance(config, dict) else None
    known = type(found) is int and found in FORMATS
    require(known, "folder", f"format {found!r} in {file}", f"a model in a format of {FORMATS}")
    complete = {"class", "config", "weights", "sha256"} <= set(config) and isinstance(config["config"], dict)
    name = config.get("weights")
    plain = isinstance(name, str) and re.fullmatch(r"model-[0-9a-f]{8}\.safetensors", name)
    require(complete and plain, "folder", f"{sorted(config)} in {file}", "a complete config.json")
    return config


def _packed(model: Autoencoder) -> tuple[str, bytes, bytes]:
    "The name of a model's weights' file, the weights, and `config.json`."
    rich = {k: {"path": type(v).__name__, **asdict(v)} if type(v) in PATHS else v for k, v in model.config.items()}
    data = safetensors.save({k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()})
    digest = hashlib.sha256(data).hexdigest()
    config = {"format": FORMATS[-1], "class": type(model).__name__, "config": rich, "trained": model.trained}
    config |= {"prior": {"class": type(model.prior).__name__, **model.prior.config}}
    config |= {"weights": f"model-{digest[:8]}.safetensors", "sha256": digest}
    try: text = json.dumps(config, indent=1)
    except (TypeError, ValueError) as e:
        raise ValueError(f"config: expected arguments and a training record that JSON can keep, got {rich}: {e}") from e
    return config["weights"], data, (text + "\n").encode()


# %%
#| exports
@patch
def save(self: Autoencoder, folder: str | os.PathLike) -> None:
    "Write the model to `folder` (`config.json`, `model-*.safetensors`), replacing a model that is there."
    folder = FilePath(folder).expanduser()
    require(folder.is_dir() or not folder.exists(), "folder", str(folder), "a folder")
    name, data, config = _packed(self)
    try: old = _read_config(folder)["weights"] if (folder / "config.json").exists() else name
    except (ValueError, OSError, RecursionError) as e:
        raise ValueError(f"folder: expected no config.json, or one of a saved model, got {folder}: {e}") from e
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / name, data)
    write_atomic(folder / "config.json", config)
    if old != name: (folder / old).unlink(missing_ok=True)


# %% [markdown]
# Loading checks both files before it builds anything, and leaves torch's random state as it was.

# %%
#| exports
def read_model(folder: str | os.PathLike) -> tuple[dict, dict[str, Tensor]]:
    "The checked configuration and weights of a saved model, or `ValueError` saying what is wrong with the folder."
    folder = FilePath(folder).expanduser()
    try:
        config = _read_config(folder)
        data = (folder / config["weights"]).read_bytes()
        whole = hashlib.sha256(data).hexdigest() == config["sha256"]
        require(whole, "folder", f"damaged weights in {folder}", "weights that match their checksum")
        return config, safetensors.load(data)
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, RecursionError, SafetensorError) as e:
        raise ValueError(f"folder: expected a saved model, got {type(e).__name__} for {folder}: {e}") from e


def _argument(value):
    "A constructor's argument from what `config.json` keeps of it."
    if not (isinstance(value, dict) and "path" in value): return value
    rest = {k: v for k, v in value.items() if k != "path"}
    return {c.__name__: c for c in PATHS}[value["path"]](**rest)


def _prior(z_dim: int, config: dict) -> GaussianPrior:
    "The prior that a saved model has."
    rest = {k: v for k, v in config.items() if k != "class"}
    return {c.__name__: c for c in PRIORS}[config["class"]](z_dim, **rest)


@patch(cls_method=True)
def older(cls: Autoencoder, config: dict) -> dict:
    "The arguments of a model that was saved in format 1, as today's constructor takes them."
    return {"begin": "random", **config} if "begin" in inspect.signature(cls.__init__).parameters else config


@patch
def known_as(self: Autoencoder, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    "The weights of a saved model by today's names; the model's Gaussian gets as many directions as the saved one."
    if "gaussian.variances" not in weights: return weights
    self.gaussian = Gaussian(self.shape, len(weights["gaussian.variances"]))
    if "gaussian.axes" not in weights: return weights
    old = {k.removeprefix("gaussian."): v for k, v in weights.items() if k.startswith("gaussian.")}
    self.gaussian.isotropic(**old)
    rest = {k: v for k, v in weights.items() if not k.startswith("gaussian.")}
    return rest | {f"gaussian.{k}": v for k, v in self.gaussian.state_dict().items()}


@patch(cls_method=True)
def load(cls: Autoencoder, folder: str | os.PathLike, **given) -> Autoencoder:
    "The model saved in `folder`, of this class, on the CPU. `given`: arguments that JSON could not keep (networks)."
    config, weights = read_model(folder)
    kind = config["class"]
    require(kind == cls.__name__, "folder", f"a saved {kind} in {folder}", f"a saved {cls.__name__}")
    if config["format"] == 1: config["config"] = cls.older(config["config"])
    try:
        with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
            model = cls(**({k: _argument(v) for k, v in config["config"].items()} | given))
            model.prior = _prior(model.z_dim, config.get("prior", {"class": "GaussianPrior"}))
            model.load_state_dict({k: v.clone() for k, v in model.known_as(weights).items()}, assign=True)
    except (TypeError, KeyError, AttributeError, RuntimeError) as e:
        got = f"{type(e).__name__} for {folder}: {e}"
        raise ValueError(f"folder: expected the arguments and weights of a {cls.__name__}, got {got}") from e
    model.trained = config.get("trained", {})
    return model.eval()


# %% [markdown]
# ## A complete model in a dozen lines
#
# The Gaussian world of [Worlds in closed form](../foundations/03_worlds.ipynb) as a model: a linear encoder, and the exact denoiser given its code. Its images are points in $\mathbb R^4$, written as $4\times1\times1$ images.

# %%
f64 = lambda *v: torch.tensor(v, dtype=torch.float64)
g = torch.Generator().manual_seed(0)
R = torch.linalg.qr(torch.randn(4, 4, generator=g, dtype=torch.float64))[0]
Sigma = R @ torch.diag(f64(0.05, 0.02, 0.01, 0.002)) @ R.T
A = 4 * torch.randn(2, 4, generator=g, dtype=torch.float64)
world = GaussianWorld(torch.zeros(4), Sigma, A, f64(0.3, -0.2), 0.2 * torch.eye(2))


class Oracle(Autoencoder):
    def __init__(self, shape=(4, 1, 1), z_dim=2, path=VPCosine(), noisy=True):
        super().__init__(shape, z_dim, path, weighting="simple")
        self.noisy = noisy
    def codes(self, x):
        mean = world.encode(x.flatten(1).double()).float()
        return mean, torch.full_like(mean, 0.2**0.5) if self.noisy else None
    def denoiser(self, z, xT=None):
        D = world.denoiser(self.path, z.double())
        return lambda x_t, t: D(x_t.flatten(1).double(), t).reshape(x_t.shape).to(x_t)


model = Oracle()
x = world.data.sample(1000, seed=0).float().reshape(-1, 4, 1, 1).clamp(-1, 1)
config = {"shape": [4, 1, 1], "z_dim": 2, "path": VPCosine(), "noisy": True}
test_eq(model.config, config)
test_eq(model.encode(x).shape, (1000, 2))
test_eq(model.encode(x.half()).dtype, torch.float32)  # the model's precision
model.posterior(x[:2])

# %% [markdown]
# Its reconstructions are what theory says. For Gaussian data the point is the conditional mean, and a sample has twice its error *when the code is drawn from the posterior*. Its bound is $\mathbb E\log p$ up to the mismatch of $q(z)$ and the prior, which the fitted prior removes.

# %%
drawn = world.draw(torch.randn(4000, 10, generator=g, dtype=torch.float64))
x_drawn, z_drawn = drawn[0].float().reshape(-1, 4, 1, 1).clamp(-1, 1), drawn[2].float()
point, draw = (model.decode(z_drawn, mode, steps=40) for mode in ("point", "sample"))
test_close(point.flatten(1), world.mean_given_z(z_drawn.double()).float(), eps=5e-3)
errors = [sqnorm(y - x_drawn).mean().item() for y in (point, draw)]
assert abs(errors[1] / errors[0] - 2) < 0.1

truth = -0.5 * torch.logdet(2 * math.pi * math.e * Sigma).item()
before = model.bound(x_drawn[:500], gamma_max=math.exp(15))
model.finish(x_drawn)
after = model.bound(x_drawn[:500], gamma_max=math.exp(15))
assert abs(after.total - truth) < 4 * after.stderr_data
assert before.rate > after.rate + 0.3
both = {"bound, standard normal prior": before, "bound, fitted prior": after}
rows = {k: {"nats": f"{b.total:.2f} ± {b.stderr_data:.2f}", "rate": f"{b.rate:.2f}"}
        for k, b in both.items()}
Table(rows | {"log p(x), exact": {"nats": f"{truth:.2f}"}}, "mean over images")

# %% [markdown]
# A line between two codes is decoded with one noise, also in sample mode: then neighbours on the line are neighbours in the picture.

# %%
line = model.interpolate(x[0], x[1], n=21, mode="sample", seed=None)
steps, whole = (line[1:] - line[:-1]).flatten(1), line[0] - line[-1]
assert steps.norm(dim=1).max() / whole.norm() < 0.2
test_eq(model.interpolate(x[0], x[1], n=2), model.reconstruct(x[:2]))

# %%
with expect_fail(ValueError, contains="x1: expected one image"):
    model.interpolate(x[0], x[:2])

# %% [markdown]
# A deterministic code has no bound on $\log p(x)$, until it is noised. And a model that has been saved and loaded is the same model.

# %%
fixed = Oracle(noisy=False)
fixed.finish(x)
alone, noisy = fixed.bound(x), fixed.bound(x, tau=0.3)
test_eq((alone.covers, noisy.covers), ("log p(x|z)", "log p(x)"))
test_eq(model.choose_noise(x[:50]), {})
test_eq(fixed.choose_noise(x[:50], taus=(0.001, 0.3), n=16), {"tau": 0.3})
assert math.isnan(alone.rate) and alone.bits_per_dim is None
assert noisy.total < truth + 4 * noisy.stderr_data

with tempfile.TemporaryDirectory() as folder:
    model.save(folder)
    state = torch.get_rng_state()
    again = Oracle.load(folder)
    assert torch.equal(state, torch.get_rng_state())
test_eq((again.config, again.prior.cov), (model.config, model.prior.cov))
test_eq(again.sample(3), model.sample(3))

# %%
#| include: false
with expect_fail(ValueError, contains="tau"): model.bound(x, tau=0.3)
with tempfile.TemporaryDirectory() as folder:
    model.save(f"{folder}/m")
    with expect_fail(ValueError, contains="saved Oracle"):
        type("Other", (Oracle,), {}).load(f"{folder}/m")
    with expect_fail(ValueError, contains="folder"): Oracle.load(folder)
    with expect_fail(ValueError, contains="config"):
        Oracle(path=type("Odd", (VPCosine,), {})()).save(f"{folder}/n")

# %% [markdown]
# ## Exercises
#
# **1.** *Compute.* In the table of the bounds above, the fitted prior saves some nats of rate. How many must it be for endlessly many images? The codes of this world are Gaussian.

# %%
#| code-fold: true
#| code-summary: "Solution"
Q = A @ Sigma @ A.T + 0.2 * torch.eye(2)  # covariance of the codes
saved = gaussian_kl(f64(0.3, -0.2), Q, f64(0, 0), torch.eye(2).double())
assert abs(before.rate - after.rate - saved) < 0.1  # KL of the codes' law and N(0, I)


# %% [markdown]
# **2.** *Extend.* Write a model without a code: its posterior is its prior, and its estimate the Gaussian's. What is its bound?

# %%
#| code-fold: true
#| code-summary: "Solution"
class Bare(Autoencoder):
    def __init__(self):
        super().__init__((4, 1, 1), 1, VPCosine(), weighting="simple")
        self.begins("gaussian", 1.0)
    def codes(self, x): return x.new_zeros(len(x), 1), x.new_ones(len(x), 1)
    def denoiser(self, z, xT=None):
        return self.corrects(lambda x, level, extra: torch.zeros_like(x))


bare = Bare()
bare.prepare(x_drawn)
alone = bare.bound(x_drawn[:500], gamma_max=math.exp(15))
assert abs(alone.rate) < 1e-6  # it says nothing about the image, and costs nothing,
assert abs(alone.total - truth) < 4 * alone.stderr_data  # and the bound is log p(x)

# %% [markdown]
# **3.** *Explain.* A sample has twice the error of the point if the code is *drawn* from $q(z|x)$. `reconstruct` decodes its mean. Which errors must point and sample then have?

# %%
#| code-fold: true
#| code-summary: "Solution"
J, left = condition(Sigma, A, 0.2 * torch.eye(2).double())
kept = torch.eye(4) - J @ A  # x - E[x | z] for a code without noise is kept @ x
least = torch.trace(kept @ Sigma @ kept.T)
want = least, least + torch.trace(left)  # a sample adds what z leaves open
for mode, error in zip(("point", "sample"), want, strict=True):
    got = model.reconstruct(x_drawn, mode, steps=40)
    test_close(sqnorm(got - x_drawn).mean() / error, 1.0, eps=0.06)
assert 2 < want[1] / want[0] < 3  # more than two: the mean's code flatters the point

# %% [markdown]
# ## What can go wrong
#
# * **Comparing `point` with `sample`.** See above: a factor of two, with nothing learned.
# * **`bound` on training images.** The prior and the networks have seen them.
# * **A network called `denoiser`.** An attribute set on a module hides the method of the same name; name networks `net`, `encoder_net`, `endpoint_net`.
