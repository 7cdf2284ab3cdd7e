# %% [markdown]
# # Denoisers from elsewhere
#
# > Any denoiser fits in: a function, a network of your own, or a diffusers pipeline, whose table of noise levels becomes a path.

# %% [markdown]
# Good denoisers are expensive, and many have been trained already. Can an autoencoder of this library stand on one of them, without training it again? Two things are needed: the path on which it was trained, and its answer as an estimate of $x_0$. Both are often given in another form, as a table of a thousand noise levels and as a prediction of the noise. This page turns the table into a path that is exact at its entries, wraps a denoiser so that it answers in the right form or says why not, and does both for the models of Hugging Face's diffusers.

# %%
#| default_exp models.pretrained

# %%
#| exports
import json
import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scoreae.core.checks import require, require_choice
from scoreae.foundations.gaussians import GaussianDenoiser
from scoreae.foundations.paths import Diffusion, as_time
from scoreae.foundations.scores import Denoiser, Scalings, plain_residual, scalings

# %%
#| hide
import math
import tempfile

from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel
from diffusers.utils.logging import disable_progress_bar
from fastcore.test import expect_fail, test_close, test_eq

from scoreae.core.checks import rng
from scoreae.core.pages import Table
from scoreae.foundations.bounds import bound_terms, default_gamma_max
from scoreae.foundations.paths import VPCosine, VPLinear
from scoreae.foundations.samplers import sample
from scoreae.foundations.worlds import denoiser, gaussian, log_density

# %%
#| hide
disable_progress_bar()
f64 = lambda *v: torch.tensor(v, dtype=torch.float64)


# %% [markdown]
# ## A table of noise levels is a path
#
# A discrete diffusion [@ho2020ddpm] has $N$ timesteps $i=0,\dots,N-1$ and a table $\bar\alpha_i=\alpha_i^2$ with $\sigma_i^2=1-\bar\alpha_i$. A path needs one decreasing function $\lambda(t)$ from $+\infty$ ([Paths](../foundations/02_paths.ipynb)). Put timestep $i$ at the time $t_i=(i+1)/N$, so that the clean image is at $t=0$ and the last timestep at $t=1$, and join the values of the log-SNR by straight lines:
#
# $$\begin{aligned}\lambda(t_i)&=\log\frac{\bar\alpha_i}{1-\bar\alpha_i},\qquad\lambda\ \text{linear in}\ t\ \text{in between},\\\lambda(t)&=\lambda(t_0)-\log(Nt)\ \text{ for }t<t_0 .\end{aligned}$$ {#eq-table}
#
# Below the first entry the SNR grows like $1/t$, which is what a constant noise rate does near $t=0$: there $g^2=-\lambda'\sigma^2=\sigma^2/t\to1/\mathrm{SNR}(t_0)t_0$ stays finite. Between entries $-\lambda'$ is the slope of the line. The inverse is the same interpolation with the axes exchanged. And $\mathrm{SNR}_t-\mathrm{SNR}_T=\mathrm{SNR}_T\,(e^{\lambda_t-\lambda_T}-1)$ does not cancel, since near $T$ the exponent is a product.

# %%
#| exports
@dataclass(frozen=True)
class Discrete(Diffusion):
    """The VP path through a table of alpha_i^2, i = 0..N-1, at the times (i + 1) / N; log-SNR linear in t in between.

    `alpha_bar` must fall, inside (0, 1). Below the first entry the SNR grows like 1/t.
    """

    alpha_bar: tuple[float, ...]

    def __post_init__(self):
        object.__setattr__(self, "alpha_bar", tuple(float(v) for v in self.alpha_bar))
        table = as_time(self.alpha_bar)
        inside = len(table) > 1 and bool(((table > 0) & (table < 1)).all()) and bool((table.diff() < 0).all())
        got = f"{len(table)} numbers from {self.alpha_bar[0]:.4g} to {self.alpha_bar[-1]:.4g}" if len(table) else "none"
        require(inside, "alpha_bar", got, "two or more falling numbers inside (0, 1): a signal that never vanishes")

    @property
    def N(self) -> int: return len(self.alpha_bar)
    @property
    def table(self) -> Tensor: return torch.logit(as_time(self.alpha_bar))

    def timestep(self, t) -> Tensor:
        "The timestep of the table at times t, between entries a fraction: t N - 1, at least 0."
        return (as_time(t) * self.N - 1).clamp(min=0)

    def _line(self, t) -> tuple[Tensor, Tensor]:
        "The left end of the line over t, and its (negative) slope per timestep."
        i = self.timestep(t).floor().clamp(max=self.N - 2).long()
        return i, self.table.diff()[i]

    def logsnr(self, t):
        at, (i, slope) = as_time(t) * self.N, self._line(t)
        return torch.where(at < 1, self.table[0] - at.log(), self.table[i] + slope * (at - 1 - i))

    def g2(self, t):
        t, (_, slope) = as_time(t), self._line(t)
        below = 1 / (t + torch.exp(self.table[0]) / self.N)  # sigma^2 / t, with SNR = SNR_0 / (t N)
        return torch.where(t * self.N < 1, below, -slope * self.N * self.sigma(t) ** 2)

    def t_of_logsnr(self, l):
        l, rising = as_time(l), -self.table
        i = (torch.searchsorted(rising, -l.contiguous(), right=True) - 1).clamp(0, self.N - 2)
        inside = (i + 1 + (l - self.table[i]) / self.table.diff()[i]) / self.N
        return torch.where(l > self.table[0], torch.exp(self.table[0] - l) / self.N, inside)

    def snr_gap(self, t):
        t, (i, slope) = as_time(t), self._line(t)
        last = (i == self.N - 2) & (t * self.N >= 1)
        above = torch.where(last, slope * (t - 1) * self.N, self.logsnr(t) - self.table[-1])
        return torch.exp(self.table[-1]) * torch.expm1(above)


# %% [markdown]
# Exact at the entries, inverse, and consistent with the SDE: the derivative of $\log\alpha$ must be $f$ and that of $\sigma^2$ must be $2f\sigma^2+g^2$, between any two entries and below the first. And with more and more entries the path must tend to the continuous one that the table was taken from.

# %%
linear = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
path, entries = Discrete(linear.tolist()), (torch.arange(1000).double() + 1) / 1000
test_close(path.alpha(entries) ** 2, linear, eps=1e-12)
test_close(path.timestep(entries), torch.arange(1000.0).double(), eps=1e-9)

t = torch.rand(500, dtype=torch.float64, generator=rng(0)).clamp(min=1e-6) ** 3
one = torch.ones_like(t)
test_close(path.t_of_gamma(path.gamma(t)) / t, one, eps=1e-9)
test_close(path.snr_gap(t) / (path.gamma(t) - path.gamma(1.0)), one, eps=1e-6)
s = t.clone().requires_grad_()
slope = lambda v: torch.autograd.grad(v.sum(), s, retain_graph=True)[0]
test_close(slope(path.alpha(s).log()) / path.f(t), one, eps=1e-8)
grown = slope(path.sigma(s) ** 2) - 2 * path.f(t) * path.sigma(t) ** 2
test_close(grown / path.g2(t), one, eps=1e-8)

mid, off = 0.05 + 0.9 * torch.rand(500, dtype=torch.float64, generator=rng(1)), {}
for n in (100, 1000):
    sampled = Discrete(VPLinear().alpha((torch.arange(n).double() + 1) / n) ** 2)
    off[n] = (sampled.logsnr(mid) - VPLinear().logsnr(mid)).abs().max().item()
assert 50 < off[100] / off[1000] < 200  # second order in 1/N
Table(off, "entries of the table", "largest error of the log-SNR")

# %%
with expect_fail(ValueError, contains="alpha_bar: expected two or more falling"):
    Discrete((0.9, 0.0))


# %% [markdown]
# ## A wrapper that asks for the right answer
#
# `Given` holds a denoiser and its path. If there is a network inside, its weights become part of the model, so that they are moved and saved with it. Its answers are checked: an estimate of another shape would broadcast, and be wrong without a word.

# %%
#| exports
def _network(D: Callable) -> nn.Module | None:
    "The module behind a denoiser: itself, or the network of a `Denoiser`, with the Gaussian that it corrects."
    found = next((v for v in (D, getattr(D, "F", None)) if isinstance(v, nn.Module)), None)
    return nn.ModuleList([found, D.gaussian]) if found and isinstance(D, GaussianDenoiser) else found


class Given(nn.Module):
    """A denoiser from elsewhere, D(x_t, t) -> x0_hat, with the unpinned `path` it was trained on.

    Call it with noisy images (N, C, H, W) and times (N,) or (). `D` is any callable; one that has a `path` (like
    `scores.Denoiser`) need not be told it. `spec` is what a saved model keeps of it. ValueError if it does not fit.
    """

    def __init__(self, D: Callable, path: Diffusion | None = None, spec: dict | None = None):
        super().__init__()
        require(callable(D), "denoiser", D, "a callable (x_t, t) -> x0_hat")
        own = getattr(D, "path", None)
        require(own is None or path is None or own == path, "path", path, f"the denoiser's own path, {own!r:.60}")
        path = own if path is None else path
        require(isinstance(path, Diffusion), "path", path, "the unpinned path that the denoiser was trained on")
        self.path, self.network, self._held = path, _network(D), (D,)  # a tuple hides D: its weights count once
        kind = "function" if self.network is None else type(self.network).__name__
        self.spec = {"given": kind} if spec is None else spec

    @property
    def D(self) -> Callable: return self._held[0]

    def fits(self, x: Tensor, x_t: Tensor) -> Tensor:
        "An answer `x` of the denoiser to `x_t`, or `ValueError` unless it has the same shape."
        require(isinstance(x, Tensor) and x.shape == x_t.shape, "denoiser", x, f"estimates of shape {tuple(x_t.shape)}")
        return x.to(x_t)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor: return self.fits(self.D(x_t, t), x_t)

    def residual(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        "eps_hat - eps at x_t = mix(x0, eps, t): (N, ...)."
        if hasattr(self.D, "residual"): return self.fits(self.D.residual(x0, eps, t), x0)
        return plain_residual(self, self.path, x0, eps, t)


# %%
data = gaussian(torch.zeros(4), torch.diag(f64(3.0, 1.0, 0.3, 0.1)))
exact = Given(denoiser(data, path), path)
test_eq((exact.spec, len(exact.state_dict())), ({"given": "function"}, 0))
x0 = data.sample(6, seed=0)
eps = torch.randn(6, 4, generator=rng(1), dtype=torch.float64)
t = torch.linspace(0.1, 0.9, 6, dtype=torch.float64)
x_t, b, sigma = path.mix(x0, eps, t), path.coefs(t).b[:, None], path.sigma(t)[:, None]
test_close(exact.residual(x0, eps, t), (x_t - b * exact(x_t, t)) / sigma - eps)

# %%
with expect_fail(ValueError, contains="denoiser: expected estimates of shape (6, 4)"):
    Given(lambda x, t: x[:, :1], path)(x_t, t)
with expect_fail(ValueError, contains="path: expected the unpinned path"):
    Given(lambda x, t: x)
with expect_fail(ValueError, contains="path: expected the denoiser's own path"):
    Given(Denoiser(path, lambda x, u: x), VPCosine())

# %% [markdown]
# ## A pipeline of diffusers
#
# A diffusers model is a network, which is told the timestep and predicts the noise, the image, or $v=\alpha\varepsilon-\sigma x_0$, and a scheduler, which has the table. These are kinds of [Scores](../foundations/04_scores.ipynb), so the conversion exists; what differs is that the network is told $tN-1$ and not $\log\gamma$. It accepts fractions, since it only takes sines and cosines of the timestep; at the table's entries everything is exact.

# %%
#| exports
PREDICTIONS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}


class Timed(Denoiser):
    "A network F(x, timestep) trained on the table of a `Discrete` path, as a `Denoiser`; `kind` is what it predicts."

    def raw(self, x_t: Tensor, t: Tensor) -> tuple[Scalings, Tensor]:
        "The scalings at `t` and the network's output, computed in the network's own precision."
        weights = next(iter(self.F.parameters()), x_t) if isinstance(self.F, nn.Module) else x_t
        step = self.path.timestep(t).expand(len(x_t)).to(x_t.device, torch.float32)
        out = self.F(x_t.to(weights.dtype), step)
        F = getattr(out, "sample", out)
        fits = isinstance(F, Tensor) and F.shape == x_t.shape
        require(fits, "denoiser", F, f"predictions of shape {tuple(x_t.shape)}, as its input")
        return scalings(self.kind, self.path.coefs(t)), F.to(x_t)


def _timed(unet: nn.Module, table, kind: str) -> Given:
    "A diffusers network with its table, as `Given`; what a saved model keeps is enough to build it again."
    path = Discrete(table)
    spec = {"given": "diffusers", "kind": kind, "unet": json.loads(unet.to_json_string()), "table": [*path.alpha_bar]}
    return Given(Timed(path, unet, kind), spec=spec)


def from_diffusers(source, scheduler=None) -> Given:
    """The denoiser of a diffusers pipeline: a local folder or name that `DDPMPipeline` can load, or a pipeline.

    Or a `UNet2DModel` and its `scheduler`. Epsilon, sample and v prediction; the noise levels are the scheduler's
    `alphas_cumprod`. The network is used as it is, not copied. Needs diffusers (the extra "hf") for a folder.
    """
    if isinstance(source, str | os.PathLike):
        from diffusers import DDPMPipeline
        source = DDPMPipeline.from_pretrained(source)
    unet, scheduler = (source.unet, source.scheduler) if hasattr(source, "unet") else (source, scheduler)
    require(isinstance(unet, nn.Module), "source", type(source).__name__, "a folder, a pipeline or a network")
    table = getattr(scheduler, "alphas_cumprod", None)
    require(table is not None, "scheduler", type(scheduler).__name__, "one with a table `alphas_cumprod`")
    said = scheduler.config.prediction_type
    require_choice(said, "prediction_type", tuple(PREDICTIONS))
    return _timed(unet, table.double().tolist(), PREDICTIONS[said])


def as_given(denoiser: Callable | dict, path: Diffusion | None) -> Given:
    "A denoiser as `Given`: a callable, something `Given` already, or the `spec` that a saved model kept of one."
    if isinstance(denoiser, Given) and path in (None, denoiser.path): return denoiser
    if not isinstance(denoiser, dict): return Given(denoiser, path)
    rebuilt = denoiser.get("given") == "diffusers"
    require(rebuilt, "denoiser", denoiser, "the denoiser itself, as in load(folder, denoiser=...)")
    from diffusers import UNet2DModel
    return _timed(UNet2DModel.from_config(denoiser["unet"]), denoiser["table"], denoiser["kind"])


# %% [markdown]
# The checks use diffusers itself as the other opinion. Its scheduler mixes images and noise: at every timestep our path must mix the same. Its scheduler also inverts predictions, when it steps: `pred_original_sample` must be our estimate, for each of the three kinds.

# %%
torch.manual_seed(0)
unet = UNet2DModel(
    sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8, 8),
    down_block_types=("DownBlock2D", "AttnDownBlock2D"), layers_per_block=1,
    up_block_types=("AttnUpBlock2D", "UpBlock2D"), attention_head_dim=4,
    norm_num_groups=4).eval()
images = torch.rand(4, 1, 8, 8, generator=rng(0)) * 2 - 1
noise = torch.randn(4, 1, 8, 8, generator=rng(1))


def check(schedule, said):
    "Our path and estimates against those of a scheduler of diffusers."
    how = {"beta_schedule": schedule, "prediction_type": said, "clip_sample": False}
    scheduler = DDIMScheduler(1000, **how)
    scheduler.set_timesteps(1000)
    D = from_diffusers(unet, scheduler)
    for i in (0, 3, 250, 700, 998):
        t = f64((i + 1) / 1000)[0]
        x_t = D.path.mix(images, noise, t)
        mixed = scheduler.add_noise(images, noise, torch.tensor([i] * 4))
        test_close(x_t, mixed, eps=1e-5)
        with torch.no_grad():
            out, ours, r = unet(x_t, i).sample, D(x_t, t), D.residual(images, noise, t)
        theirs = scheduler.step(out, i, x_t).pred_original_sample
        assert ((ours - theirs).abs() / (1 + theirs.abs())).max() < 1e-3
        if said == "epsilon": test_close(r, out - noise, eps=1e-4)


for schedule in ("linear", "squaredcos_cap_v2"):
    for said in PREDICTIONS: check(schedule, said)

# %% [markdown]
# From a folder and back: the pipeline is saved by diffusers, loaded here, and says the same. What does not fit is named.

# %%
scheduler = DDPMScheduler(1000)
with tempfile.TemporaryDirectory() as folder:
    DDPMPipeline(unet, scheduler).save_pretrained(folder)
    loaded = from_diffusers(folder)
again = as_given(json.loads(json.dumps(loaded.spec)), None)
again.load_state_dict(loaded.state_dict())
D, t = from_diffusers(unet, scheduler), torch.linspace(0.1, 0.9, 4).double()
with torch.no_grad(): answers = [E.eval()(images, t) for E in (D, loaded, again)]
test_eq(answers[0], answers[1])
test_eq(answers[0], answers[2])

# %%
#| include: false
table = lambda **kw: DDPMScheduler(10, **kw)
for name, call in {
    "prediction_type: expected one of 'epsilon', 'sample', 'v_prediction'":
        lambda: from_diffusers(unet, table(prediction_type="flow")),
    "scheduler: expected one with a table": lambda: from_diffusers(unet, None),
    "source: expected a folder, a pipeline": lambda: from_diffusers(3, scheduler),
    "falling numbers inside (0, 1)":
        lambda: from_diffusers(unet, table(rescale_betas_zero_snr=True)),
    "denoiser: expected the denoiser itself": lambda: as_given({"given": "Mine"}, None),
}.items():
    with expect_fail(ValueError, contains=name): call()

# %% [markdown]
# ## On the common ground
#
# A path from a table is a path like any other: bounds and samplers take it. DDPM's linear table with a thousand entries discretises `VPLinear`. So with the exact denoiser and the same draws, the bound of [Bounds](../foundations/06_bounds.ipynb) must be the same on both to about $10^{-3}$ nats, and $\mathbb E\log q$ within its error. Samples must have the variances of the data.

# %%
x, ends = data.sample(4000, seed=2), (5e-5, math.exp(14), "prior")
nats = {}
for name, p in {"table": path, "VP linear": VPLinear()}.items():
    costs = bound_terms(denoiser(data, p), p, x, *ends, n=32, seed=0)
    nats[name] = -sum(costs.values()) - log_density(data, x)
test_close(nats["table"].mean(), nats["VP linear"].mean(), eps=2e-3)
assert abs(nats["table"].mean()) < 4 * nats["table"].std() / 4000**0.5
error = {k: f"{v.mean():.3f} ± {v.std() / 4000**0.5:.3f}" for k, v in nats.items()}
Table(error, "path", "bound less log q (nats)")

# %%
drawn = sample(exact, path, torch.zeros(8000, 4, dtype=torch.float64), 80, seed=0)
variances = f64(3.0, 1.0, 0.3, 0.1)
ratio = drawn.var(0) / variances
assert (ratio - 1).abs().max() < 0.06
found = zip(variances.tolist(), ratio.tolist(), strict=True)
Table({v: f"{r:.2f}" for v, r in found}, "variance of the data", "samples' over data's")

# %% [markdown]
# ## Exercises
#
# **1.** *Compute.* Between which noise levels does DDPM's linear table lie? A bound for 256 grey levels wants $\log\gamma$ up to `default_gamma_max(256)`: does the table reach it?

# %%
#| code-fold: true
#| code-summary: "Solution"
path = Discrete(linear.tolist())
u = path.gamma(f64(1 / 1000, 1.0)).log()  # first and last entry
test_close(u, f64(9.21, -10.12), eps=0.01)
assert u[0] < math.log(default_gamma_max(256)) - 2  # no: it ends units before

# %% [markdown]
# **2.** *Explain.* A scheduler with zero terminal SNR was refused above. Why is its last entry no loss? Leave it out, and look at where the path ends.

# %%
#| code-fold: true
#| code-summary: "Solution"
bars = DDPMScheduler(1000, rescale_betas_zero_snr=True).alphas_cumprod.double()
with expect_fail(ValueError, contains="falling"): Discrete(bars.tolist())
kept = Discrete(bars[:-1].tolist())
end = kept.gamma(1.0)
assert 1e-9 < end < 1e-8  # the start's mismatch is below d / 2 times this, in nats


# %% [markdown]
# **3.** *Extend.* A network with learned variances predicts twice as many channels, the noise first. Make it a denoiser of this page.

# %%
#| code-fold: true
#| code-summary: "Solution"
class First(torch.nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net
    def forward(self, x, step): return self.net(x, step).chunk(2, 1)[0]


wide = lambda x, step: torch.cat([unet(x, step).sample, torch.zeros_like(x)], 1)
D, plain = Given(Timed(path, First(wide), "eps")), Given(Timed(path, unet, "eps"))
t = torch.linspace(0.1, 0.9, 4).double()
with torch.no_grad(): test_close(D(images, t), plain(images, t), eps=1e-5)

# %% [markdown]
# ## What can go wrong
#
# * **Images on another scale.** Pipelines are trained on $[-1,1]$, as everything here; if yours is not, wrap it in a function that converts.
# * **A table that ends in pure noise** (zero terminal SNR) has no finite log-SNR at its end. Leave its last entry out.
# * **Learned variances.** A network with twice as many output channels also predicts variances; wrap it and keep the first half.
# * **Fractional timesteps** are fine for sine and cosine embeddings, not for a network with a lookup table of timesteps: there, round.
