# %% [markdown]
# # DBAE
#
# > A bridge whose end is decoded from the code: the walk back starts at an image that depends on z, not at noise.

# %% [markdown]
# Can a code hold the whole image, so that none of it is left to the noise that a walk begins with? In a diffusion autoencoder ([DiffAE](16_diffae.ipynb)) the code is let into an ordinary denoiser: part of the image is in the code, part in the noise that happens to lead to it, and an edit of the code does not reach that part. DBAE [@kim2025dbae] makes the *start depend on the code*. It decodes the end of the path, $x_T=\mathrm{dec}_\psi(z)$, and pins the path there with Doob's $h$-transform ([Bridges](../foundations/05_bridges.ipynb)). This page builds the model, shows what its loss is and is not, and trains a small one on digits.
#
# Statements about the method follow the paper's abstract, its public reviews and its released code; the derivations are ours.

# %%
#| default_exp models.dbae

# %%
#| exports
from collections.abc import Sequence

import torch
from torch import Tensor

from scoreae.core.checks import require, require_choice, require_number
from scoreae.foundations.paths import VE, Path, Pinned, VPLinear
from scoreae.foundations.scores import Denoiser
from scoreae.models.contract import Autoencoder
from scoreae.models.networks import HalfUNet, ImageDecoder, UNet, check_widths
from scoreae.models.priors import total_correlation

# %%
#| hide
import math

import matplotlib.pyplot as plt
from fastcore.test import expect_fail, test_close, test_eq
from sklearn.datasets import load_digits
from torch.distributions import Independent, Normal, kl_divergence

from scoreae.core.checks import bcast, randn_like, rng, sqnorm
from scoreae.core.pages import Table, paper
from scoreae.foundations.scores import Stats, residual, scalings

# %%
#| hide
paper()
g = torch.Generator().manual_seed(0)
torch.manual_seed(0);

# %% [markdown]
# ## A start that depends on the code
#
# The generative model is a chain: draw $z$ from a prior, decode $x_T=\mathrm{dec}_\psi(z)$, walk back along the bridge. The decoder is deterministic: all that the walk knows at its start is $x_T$, and all that is in $x_T$ is in $z$. On the way, a *sample* takes in fresh noise; what the code leaves open is filled from there. Only the *point*, the walk with zero noise, is a function of the code alone.
#
# For training, the encoder gives $z$ from $x_0$, the decoder $x_T$, and then *both ends of the bridge are known*, so that $x_t=a_tx_T+b_tx_0+c_t\varepsilon$ can be drawn directly and the denoiser be trained on it,
#
# $$\mathcal L_{\mathrm{AE}}=\mathbb E_{x_0,\,z\sim q_\phi(z|x_0),\,t,\,\varepsilon}\ \tfrac{w(t)}2\,\big\|\varepsilon-\hat\varepsilon_\theta(x_t,t,x_T,z)\big\|^2 .$$ {#eq-lae}
#
# All three networks are trained together: gradients reach the encoder and the decoder through $x_T$, as an input of the denoiser and as a part of $x_t$.
#
# With the weight of the bound (`weighting="elbo"`), @eq-lae plus last step and start is the bound on $-\log p(x_0|z)$ of the *stochastic* walk. Its start is `"model"`: the far end is shared, so $S=\tfrac12\gamma_{\min}\|x_0-m\|^2$ with the model's own far estimate $m$, small, and zero only as $\gamma_{\min}\to0$. The paper's $\mathcal L_{\mathrm{AE}}$, with $\tfrac12g^2$ on the difference of scores, has this very weight, by $\lambda=-\tfrac d{dt}\mathrm{SNR}$ in [Bridges](../foundations/05_bridges.ipynb). The released code trains with another one, $1/\texttt{out}^2$ on the error of $\hat x_0$, where `out` comes from *fixed* moments: image and endpoint of standard deviation .5, uncorrelated. The default here, `weighting="edm"`, has the same form with the moments that the training measures. That is a third weight, not the released one; [below](#whose-weight) they stand side by side.
#
# **What the endpoint can and cannot do.** [Bridges](../foundations/05_bridges.ipynb) proved that in $y=(x_t-a\,x_T)/b$ a bridge is an ordinary diffusion with SNR $\gamma_t=\mathrm{SNR}_t-\mathrm{SNR}_T$. If the denoiser is told $z$, the best it can do depends on what $z$ knows about $x_0$, and not on the endpoint, nor on its scale. What the endpoint brings is practical: an image-shaped view of the code at the denoiser's input, and a walk that starts from it. The switch `condition` tells the denoiser $x_T$, $z$, or both.

# %%
#| exports
CONDITIONS = ("both", "xT", "z")
FIRST_STD = 0.2  # deviation of the codes that a stochastic encoder begins with


class DBAE(Autoencoder):
    """Diffusion Bridge AutoEncoder (Kim et al., ICLR 2025): the end of a bridge is decoded from the code.

    `path` "vp" (VPLinear(0.1, 2.0)), "ve" (sigma 80) or an unpinned `Path`; `stochastic` encoder or not; `condition`
    is what the denoiser is told, "both", "xT" or "z". `weighting` "edm" with measured moments (the released code fixes
    them at .5, .5, 0), or "elbo", the bound's
    (the paper's likelihood weight). `kl_weight` weighs KL(q(z|x) || N(0, I)) of a stochastic encoder, `tc_weight` its
    total correlation. With `endpoint_noise` the endpoint is drawn from N(decoder(z), endpoint_noise^2 I).
    """

    start = "model"

    def __init__(self, shape: Sequence[int], z_dim: int, *, width: int = 32, encoder_width: int | None = None,
                 path: str | Path = "vp", stochastic: bool = False, condition: str = "both", kl_weight: float = 0.0,
                 tc_weight: float = 0.0, endpoint_noise: float = 0.0, weighting: str = "edm", begin: str = "gaussian",
                 gamma_max: float | None = None):  # fmt: skip
        base = {"vp": VPLinear(0.1, 2.0), "ve": VE(80.0)}.get(path) if isinstance(path, str) else path
        known = isinstance(base, Path) and not isinstance(base, Pinned)
        require(known, "path", path, "'vp', 've' or an unpinned path")
        super().__init__(shape, z_dim, Pinned(base), weighting=weighting, kl_weight=kl_weight, gamma_max=gamma_max)
        require_choice(stochastic, "stochastic", (False, True))
        require_choice(condition, "condition", CONDITIONS)
        for name, value in (("kl_weight", kl_weight), ("tc_weight", tc_weight)):
            require(stochastic or not value, name, value, "0 for a deterministic encoder, of infinite rate")
        self.tc_weight = require_number(tc_weight, "tc_weight", 0)
        self.endpoint_noise = require_number(endpoint_noise, "endpoint_noise", 0)
        self.register_buffer("images", torch.ones((), dtype=torch.int64))
        self.stochastic, self.condition = stochastic, condition
        width, small = check_widths(width, encoder_width)
        self.encoder_net = HalfUNet(self.shape, z_dim * (1 + stochastic), small)
        self.endpoint_net = ImageDecoder(self.shape, z_dim, small)
        extra = self.shape[0] * ((condition != "z") + 2 * (begin == "gaussian"))
        self.net = UNet(self.shape, width, z_dim=0 if condition == "xT" else z_dim, extra=extra)
        self.begins(begin, FIRST_STD * stochastic, self.encoder_net.head, self.endpoint_net.head[-1])

    def codes(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        out, (first, std) = self.correction(x), self.first_code(x)
        if not self.stochastic: return out + first, None
        mean, raw = (5 * torch.tanh(v / 5) for v in out.chunk(2, 1))
        return mean + first, raw.exp() * (1.0 if std is None else std) + 1e-2

    def endpoint(self, z: Tensor) -> Tensor: return self.endpoint_net(z) + self.first_picture(z)

    def prepare(self, x: Tensor) -> None:
        super().prepare(x)
        self.images.fill_(len(x))

    def sample(self, n: int, steps: int = 25, mode: str = "sample", seed: int | torch.Generator | None = 0,
               **kw) -> Tensor:  # fmt: skip
        "As `Autoencoder.sample`; `ValueError` if the model was never fitted."
        require(int(self.seen) > 0, "model", "a DBAE that was never fitted", "one that has seen training images")
        return super().sample(n, steps, mode, seed, **kw)

    def price(self, z: Tensor, mean: Tensor, std: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        cost, parts = super().price(z, mean, std)
        if not self.tc_weight: return cost, parts
        tc = total_correlation(z, mean, std, max(int(self.images), len(z)))
        return cost + self.tc_weight * tc, {**parts, "total correlation": tc.detach()}

    def denoiser(self, z: Tensor, xT: Tensor) -> Denoiser:
        if not self.training and self.seen > 0: self._check_size(xT)
        own = None if self.condition == "xT" else z
        shown = [] if self.condition == "z" else [xT]

        def F(x, level, extra=None):
            told = shown if extra is None else [*shown, extra]
            return self.net(x, level, z=own, extra=torch.cat(told, 1) if told else None)

        return self.corrects(F, xT, self.first_picture(z) if self.condition == "z" else xT)

    def _check_size(self, xT: Tensor) -> None:
        "`ValueError` for endpoints (N, C, H, W) more than ten times as large as those of the training."
        size, usual = float(xT.detach().square().flatten(1).mean(1).max()) ** 0.5, max(self.stats.varT**0.5, 0.01)
        most = f"endpoints of at most {10 * usual:.3g}, ten times those of the training"
        require(size <= 10 * usual, "xT", f"root mean square {size:.3g}", most)


# %% [markdown]
# All variants answer the same calls. The sampler starts at exactly $x_T$.

# %%
images = torch.tensor(load_digits().images / 8 - 1, dtype=torch.float32)[:, None]
x = images[:6]
for kw in [{}, {"path": "ve"}, {"stochastic": True, "kl_weight": 1e-3},
           {"condition": "xT"}, {"condition": "z"}, {"weighting": "elbo"}]:
    model = DBAE((1, 8, 8), z_dim=4, width=8, **kw)
    loss, parts = model.loss(x, g)
    loss.backward()
    learns = [p.grad is not None for p in model.encoder_net.parameters()]
    assert loss.isfinite() and all(learns)
    z = model.encode(x)
    test_eq(model.endpoint(z).shape, x.shape)
    test_eq(model.decode(z, "point", steps=3).shape, x.shape)
    test_eq(model.decode(z, "sample", steps=3).shape, x.shape)
    covered = "log p(x)" if kw.get("stochastic") else "log p(x|z)"
    test_eq(model.bound(x, n=2).covers, covered)

# %%
#| include: false
bad = {"kl_weight": 1e-3, "tc_weight": 1.0, "endpoint_noise": -1.0, "path": "vpve",
       "stochastic": 1, "condition": "x", "encoder_width": 0, "width": 8.5}
for name, value in bad.items():
    with expect_fail(ValueError, contains=f"{name}: expected"):
        DBAE((1, 8, 8), 4, **{name: value})

# %% [markdown]
# **A price for the code, and a noisy end.** A stochastic encoder may be charged for its rate (`kl_weight`), and for the dependence of its axes (`tc_weight`, the total correlation of [Priors](12_priors.ipynb)); its mean spread is monitored with the loss. With `endpoint_noise` the end is $x_T=\mathrm{dec}_\psi(z)+\tau\xi$, drawn once for loss, bound and sample alike; a point starts at its mean. The bound stays one, since model and data share the law of $x_T$ given $z$ ([What DBAE's theorems say](../dbae_claims/70_theorems.ipynb)). Note that $\tau$ is in units of the decoder's output, whose scale training is free to choose.

# %%
kw = {"width": 8, "stochastic": True, "endpoint_noise": 0.5, "kl_weight": 0.1}
plain, priced = (DBAE((1, 8, 8), 4, tc_weight=w, **kw) for w in (0.0, 2.0))
priced.load_state_dict(plain.state_dict())
for m in (plain, priced): m.prepare(images)
(loss, _), (more, parts) = (m.loss(images[:64], rng(1)) for m in (plain, priced))
test_close(more - loss, 2 * parts["total correlation"], eps=1e-3)

z = plain.encode(images[:500])
drawn = (plain.draw_endpoint(z, g) - plain.endpoint(z)).detach()
test_close((drawn.mean(), drawn.std()), (0.0, 0.5), eps=0.01)
points = [plain.decode(z[:2], seed=seed) for seed in (0, 1)]
test_eq(*points)  # a point knows no noise
units = {"rate": "rate (nats)", "total correlation": "total correlation (nats)"}
Table({units.get(k, k): v.item() for k, v in parts.items()}, "part of the loss")

# %% [markdown]
# **The endpoint gets in, whatever `condition` says.** With `condition="z"` the network is not given $x_T$ as an extra picture. It still sees it: $x_t$ contains $a_tx_T$, and nobody takes it off. Below, the same image, code and noise on bridges with two different endpoints. The exact estimate would not move; the network's does, in each of the three conditions.

# %%
t, eps = torch.full((6,), 0.6, dtype=torch.float64), torch.randn(x.shape, generator=g)
moved = {}
for condition in CONDITIONS:
    model = DBAE((1, 8, 8), z_dim=4, width=8, condition=condition, begin="random")
    for p in model.net.parameters(): torch.nn.init.normal_(p, std=0.2, generator=g)
    z = model.encode(x)
    end = model.endpoint(z).detach()
    answer = lambda xT, m=model, z=z: m.denoiser(z, xT)(m.path.mix(x, eps, t, xT), t)
    with torch.no_grad(): change = answer(end) - answer(end + 0.5)
    moved[condition] = change.square().mean().sqrt().item()
assert min(moved.values()) > 0.05
Table(moved, "condition", "change of the estimate (rms)", digits=2)

# %% [markdown]
# **Gradients through both doors.** $x_t$ contains $x_T$, and the denoiser sees $x_T$: the derivative of the loss with respect to the decoder's last layer must equal a finite difference of the whole computation, noise and levels held fixed. That fails if either way is cut.

# %%
model = DBAE((1, 8, 8), z_dim=4, width=8).double()
for p in model.parameters(): torch.nn.init.normal_(p, std=0.3, generator=g)
x = x.double()
eps = torch.randn(x.shape, generator=g, dtype=torch.float64)
t = torch.linspace(0.1, 0.95, 6, dtype=torch.float64)
bias = model.endpoint_net.head[2].bias


def error():
    z = model.encoder_net(x)
    xT = model.endpoint(z)
    return sqnorm(residual(model.denoiser(z, xT), model.path, x, eps, t, xT)).sum()


exact = torch.autograd.grad(error(), bias)[0].item()
with torch.no_grad():
    bias += 1e-5
    up = error().item()
    bias -= 2e-5
    numeric = (up - error().item()) / 2e-5
test_close(exact / numeric, 1.0, eps=1e-6)

# %% [markdown]
# **The loss is the bound's.** With `weighting="elbo"` and $\beta=1$, and with the same draws, the loss is $\tfrac12(u_{\max}-u_{\min})\,\gamma\,\|x_0-\hat x_0\|^2$ plus the rate, computed by hand from @eq-lae's pieces. What the bound adds is last step and $S$: small beside the rest, not zero.

# %%
how = {"stochastic": True, "kl_weight": 1.0, "weighting": "elbo"}
model = DBAE((1, 8, 8), 4, width=8, **how).double().eval()
for p in model.parameters(): torch.nn.init.normal_(p, std=0.1, generator=g)
x = images[:32].double()
loss, _ = model.loss(x, rng(7))

draws = rng(7)  # the same code, levels and noise, in the order of the loss
q = Normal(*model.codes(x))
z = q.mean + q.stddev * randn_like(q.mean, draws)
t, _ = model.draw_times(32, draws)
eps, xT = randn_like(x, draws), model.endpoint_net(z)
a, b, c = (bcast(k, x) for k in model.path.coefs(t))
estimate = model.denoiser(z, xT)(a * xT + b * x + c * eps, t)
errors = model.path.gamma(t) * sqnorm(x - estimate)
denoising = errors.mean() / 2 * math.log(model.gamma_max / model.gamma_min)
standard = Independent(Normal(torch.zeros(4), torch.ones(4)), 1)
rate = kl_divergence(Independent(q, 1), standard).mean()
test_close((loss / (denoising + rate)).item(), 1, eps=1e-5)
start = model.bound(x, n=4).terms["start"]
assert 0 < start < 0.3
found = {"loss": loss, "denoising, by hand": denoising, "rate": rate, "S": start}
Table({k: f"{v:.3f}" for k, v in found.items()}, "of 32 images", "mean (nats)")

# %% [markdown]
# **VE, and uniform times.** `simple` and `edm` draw $t$ uniformly. On the VP bridge that covers the noise levels at which images are decided. On the VE bridge it hardly visits them: $t$ *is* the noise level there, and of draws up to $\gamma_{\min}=e^{-6}$, a level of 20, one in twenty is below one. Use `weighting="elbo"` there, which is uniform in $\log\gamma$ on any path.

# %%
share = {}
for path in ("vp", "ve"):
    for weighting in ("edm", "elbo"):
        model = DBAE((1, 8, 8), 4, width=8, path=path, weighting=weighting)
        gamma = model.path.gamma(model.draw_times(20_000, g)[0])
        share[path, weighting] = (gamma > 1).double().mean().item()
test_close(share["ve", "edm"], 1 / 20, eps=0.01)
assert share["vp", "edm"] > 0.5
test_close(share["ve", "elbo"], share["vp", "elbo"], eps=1e-3)
percent = lambda *which: f"{100 * share[which]:.1f} %"
Table({path: {w: percent(path, w) for w in ("edm", "elbo")} for path in ("vp", "ve")},
      "draws with γ > 1")

# %% [markdown]
# ## On digits, briefly
#
# A hundred and fifty steps, from the Gaussian of no images at all (without `prepare`; prepared, a model begins not far from where this ends, see [The zoo](18_zoo.ipynb)). The running moments follow the decoder; the walk back from the decoded end gives a point reconstruction, or samples.

# %%
model = DBAE((1, 8, 8), z_dim=8, width=12, encoder_width=12).train()
opt = torch.optim.AdamW(model.parameters(), lr=4e-3, fused=True)
train, history = images[:1400], []
for _ in range(150):
    batch = train[torch.randint(len(train), (64,), generator=g)]
    loss, parts = model.loss(batch, g)
    opt.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 64.0)
    opt.step()
    history.append(loss.item())
model.eval()
test_close(model.moments[0], train.square().mean(), eps=0.01)
first, last = sum(history[:20]) / 20, sum(history[-20:]) / 20
assert last < 0.6 * first
of_x, of_end, mixed = (f"{v:.3f}" for v in model.moments)
Table({"mean loss, first 20": f"{first:.1f}", "mean loss, last 20": f"{last:.1f}",
       "second moment of x_0": of_x, "second moment of x_T": of_end, "mixed": mixed},
      "150 steps")

# %%
test, faces = images[1500:1700], slice(0, 8)
z = model.encode(test)
rows = {"image": test, "endpoint": model.endpoint(z).detach(), "point": model.decode(z),
        "sample": model.decode(z, "sample", steps=25),
        "1 evaluation": model.decode(z, steps=1)}
errors = {k: sqnorm(rows[k] - test).mean().item() / 256 for k in list(rows)[2:]}
assert errors["point"] < errors["sample"] < 0.1
Table(errors, "reconstruction", "mean squared error on [0, 1]")

# %%
#| label: fig-digits
#| fig-cap: 'Eight test digits after 150 steps of training, and what their codes become: the decoded end of the bridge (grey scale of its own), the point, a sample with fresh noise, and the point from a single evaluation.'
#| fig-alt: 'Five rows of eight small grey pictures. Images: digits. Endpoints: grey, blurred pictures of low contrast in which the digits can still be made out. Point, sample and single evaluation: digits that resemble the images; the samples differ most from them.'
fig, axes = plt.subplots(len(rows), 8, figsize=(6, 3.4))
for row, (name, pictures) in zip(axes, rows.items(), strict=True):
    span = pictures[faces].abs().max() if name == "endpoint" else 1
    for ax, picture in zip(row, pictures[faces], strict=True):
        ax.imshow(picture[0], vmin=-span, vmax=span)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    row[0].set_ylabel(name, rotation=0, ha="right", va="center")

# %% [markdown]
# The point is closer to the image than a sample, as it must be; and a *single* evaluation at $T$, where the denoiser sees only the endpoint and the code, is a point already (exercise 2).
#
# ## Whose weight
#
# How much of the loss falls on which noise level? A loss $\mathbb E[\tfrac w2\|\varepsilon-\hat\varepsilon\|^2]$ with noise levels of density $p(u)$, $u=\log\gamma$, gives level $u$ the weight $p(u)\,w$. Only the bound's, the paper's, is flat. The other two prefer coarse structure, the measured moments more so: an endpoint that resembles the image leaves less of it open in much noise. Divided by their means over the range, for the model just trained:

# %%
low, high = model.span
u = torch.linspace(low, high, 2001, dtype=torch.float64)
t = model.path.t_of_gamma(u.exp())
density = -model.path.gamma(t) / model.path.dgamma(t)  # of u, for uniform times


def weight(stats):
    "p(u) w(u) of `edm` with these moments, divided by its mean."
    out = scalings("edm", model.path.coefs(t), stats).out
    v = density * 2 / (model.path.gamma(t) * out**2)
    return v / v.mean()


released, ours = weight(Stats(0.25, 0.25, 0.0)), weight(model.stats)
tau, w = model.draw_times(200_000, g)
level = model.path.gamma(tau).log()  # counted, against the formula
coarse = (w * (level < 0)).sum() / w.sum()
test_close(coarse, ours[u < 0].sum() / ours.sum(), eps=0.01)
shown = (-4, -2, 0, 2, 4)
at = [int((u - v).abs().argmin()) for v in shown]
steeper = (ours / released)[at]
assert steeper[0] > 1.3 * steeper[2] and released[at[0]] > 2 * released[at[2]]
Table({v: {"paper, `elbo`": "1.00", "released code": f"{released[i]:.2f}",
           "here, `edm`": f"{ours[i]:.2f}"} for v, i in zip(shown, at, strict=True)},
      r"$\log\gamma$")

# %% [markdown]
# **What a fitted model refuses.** The network knows endpoints of the size that training had, and the preconditioning is measured on them. An endpoint ten times as large (another model's, say) is an error and not a picture; so is sampling before any training. A code far off gives no such endpoint: the decoder's normalisation keeps it in range.

# %%
with expect_fail(ValueError, contains="xT: expected endpoints of at most"):
    model.denoiser(z, 50 * model.endpoint(z))
with expect_fail(ValueError, contains="one that has seen training images"):
    DBAE((1, 8, 8), 4, width=8).sample(2)

# %% [markdown]
# ## Differences from the paper and the released code
#
# | | paper, released code | here |
# |---|---|---|
# | weight of the loss | paper: the bound's; code: $1/\texttt{out}^2$, fixed moments | `elbo`; `edm`, measured moments |
# | what the denoiser is told | paper: $x_T$; code: $x_T$ and $z$ | `condition` |
# | rate | in the theory; absent from the code's loss | `kl_weight`, `tc_weight` |
# | endpoint given the code | deterministic | or Gaussian, `endpoint_noise` |
# | prior on codes | not in the released code | a diffusion, `fit_latent` ([Priors](12_priors.ipynb)) |
# | moments for preconditioning | endpoint's std 0.5 to train, 0 to sample | running, saved, the same for both |
# | $\mathrm{SNR}_T$ there | at $t=1$, whatever $T$ | the path's |
# | schedule arithmetic | float32 | float64, and no cancellation |
# | endpoint decoder | batch and spectral normalisation | group normalisation |
# | sampler | Euler or Heun with churn, from $T-10^{-4}$ | one update, from exactly $T$ ([Samplers](../foundations/08_samplers.ipynb)) |
# | code of a stochastic encoder | drawn when evaluated | its mean |
# | edits of $z$ | the old $x_T$ is kept | decoded anew, or kept ([Edits](../use/42_edits.ipynb)) |
# | images | RGB of 64 or 128 pixels | any $(C,H,W)$ |

# %% [markdown]
# ## Exercises
#
# **1.** *Compute.* The bridge's noise $c_t$ is largest in the middle. How large is it, and what are the signal-to-noise ratios of $x_0$ there and where the training ends, $\gamma_{\min}$?

# %%
#| code-fold: true
#| code-summary: "Solution"
t = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
c, gamma = model.path.coefs(t).c, model.path.gamma(t)
i = c.argmax()  # where half of B = 1.1 is spent: c^2 = a b 2 sinh(B / 2)
test_close(c[i], math.tanh(1.1 / 4) ** 0.5, eps=1e-4)  # 0.52
test_close(gamma[i], 1 / (2 * math.sinh(1.1 / 2)), eps=5e-3)  # 0.86
test_close(model.gamma_min, math.exp(-6), eps=1e-9)

# %% [markdown]
# **2.** *Explain.* Why is one evaluation a point? Show that at $T$ the denoiser is a plain decoder of $z$, that noise cannot change it, and that `decode` with one step returns it.

# %%
#| code-fold: true
#| code-summary: "Solution"
few, end = z[:9], torch.full((9,), model.path.T, dtype=torch.float64)
xT = model.endpoint(few).detach()
noisy = model.path.mix(test[:9], torch.randn(9, 1, 8, 8, generator=g), end, xT)
test_eq(noisy, xT)  # at T the bridge is its end: a = 1, b = c = 0
with torch.no_grad(): decoded = model.denoiser(few, xT)(xT, end)
test_close(model.decode(few, steps=1), decoded.clamp(-1, 1), eps=1e-5)


# %% [markdown]
# **3.** *Extend.* In the check of `condition` above, the endpoint moved every estimate. Write a model from whose network it is hidden altogether.

# %%
#| code-fold: true
#| code-summary: "Solution"
class Hidden(DBAE):
    def denoiser(self, z, xT):
        D = super().denoiser(z, 0 * xT)
        return lambda x_t, t: D(x_t - bcast(self.path.coefs(t).a, x_t) * xT, t)


blind = Hidden((1, 8, 8), 4, width=8, condition="z", begin="random").eval()
for v in blind.net.parameters(): torch.nn.init.normal_(v, std=0.2, generator=g)
pictures, t = images[:6], torch.full((6,), 0.6, dtype=torch.float64)
eps, code = torch.randn(6, 1, 8, 8, generator=g), blind.encode(pictures)
answer = lambda xT: blind.denoiser(code, xT)(blind.path.mix(pictures, eps, t, xT), t)
end = blind.endpoint(code)
test_close(answer(end), answer(end + 0.5), eps=1e-4)  # an ordinary diffusion

# %% [markdown]
# ## What can go wrong
#
# * **Reading the endpoint as an image.** Nothing asks $x_T$ to look like $x_0$, and its scale is arbitrary.
# * **Preconditioning constants** that differ between training and sampling put inputs of the wrong size into the network near $T$.
# * **Concluding that the endpoint did it.** The weighting of the loss, and point against sample, change reconstructions too; [DiffAE](16_diffae.ipynb) has controls for these two, none for the decoder.
# * **A stochastic encoder without a rate.** Nothing then stops its spread from shrinking to the floor.
