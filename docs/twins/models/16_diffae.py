# %% [markdown]
# # DiffAE
#
# > A diffusion whose denoiser is told the code: what the code does not hold of an image is in the noise that leads to it.

# %% [markdown]
# If a denoiser is told a code, what ends up in the code, and what stays in the noise? Whoever edits codes wants to know, for what stays in the noise cannot be edited.
#
# The diffusion autoencoder [@preechakul2022diffae] is the nearest relative of the models of this library: an encoder, and an ordinary denoiser that is told the code by adaptive normalisation. This page builds it in a few lines, shows where an image is kept when the code is too small for it, and has a control for one of DBAE's differences, its *loss weighting*: DiffAE can be trained with noise levels and weights of DBAE's kind, on its own path.

# %%
#| default_exp models.diffae

# %%
#| exports
from collections.abc import Sequence

import torch
from torch import Tensor

from scoreae.core.checks import require, require_choice
from scoreae.foundations.bounds import WEIGHTINGS, noise_levels
from scoreae.foundations.paths import Path, Pinned, VPLinear
from scoreae.foundations.scores import Denoiser, Stats
from scoreae.models.contract import Autoencoder
from scoreae.models.networks import HalfUNet, UNet, check_widths

# %%
#| hide
import matplotlib.pyplot as plt
from fastcore.test import expect_fail, test_close, test_eq
from sklearn.datasets import load_digits

from scoreae.core.checks import rng, sqnorm
from scoreae.core.pages import Table, paper
from scoreae.foundations.samplers import integrate, time_grid
from scoreae.models.dbae import DBAE

# %%
#| hide
paper()
g = torch.Generator().manual_seed(0)
torch.manual_seed(0);

# %% [markdown]
# ## The model
#
# The denoiser is conditioned on $z$ and nothing else, $\hat x_0=x_\theta(x_t,t,z)$: the U-Net of [Networks](10_networks.ipynb) adds a linear function of $z$ to its noise embedding, which scales and shifts every normalised feature map. Encoder and denoiser are trained together by denoising alone. DiffAE's loss is the plain error of the noise, at uniform times (`weighting="simple"`).
#
# **Two answers per code.** The walk starts from noise $x_T\sim\mathcal N(0,I)$ that the code says nothing about. `mode="sample"` draws it; the image then depends on $z$ and on $x_T$. `mode="point"` starts from zero noise, which for DBAE is what its deterministic walk does ([Bridges](../foundations/05_bridges.ipynb)): point with point and sample with sample is the fair comparison.
#
# **DBAE's weighting.** The released DBAE draws $t$ uniformly on its *bridge*, whose SNR is $\gamma_t=\mathrm{SNR}_t-\mathrm{SNR}_T$, and weighs the error of $\hat x_0$ by $1/\texttt{out}^2$, the constant of its preconditioning. But a noise level is a noise level: the error at $\gamma$ is defined on every path. `weighting="dbae"` takes $\gamma$ and the weight from the bridge of `VPLinear(0.1, 2.0)`, with an endpoint that has the images' second moment and no correlation with them (the released code assumes .25 for both), and finds the time of *its own path* with the same $\gamma$. A DBAE with these moments then minimises the same as DiffAE,
#
# $$\mathbb E_{t\sim U}\ \frac1{\texttt{out}(t)^2}\,\big\|x_0-\hat x_0(y_{\gamma_t},\gamma_t,z)\big\|^2,\qquad y_\gamma=x_0+\gamma^{-1/2}\varepsilon,$$ {#eq-diffae-dbae}
#
# a functional of an estimate that sees $y$ and $z$. Two differences are left: the endpoint, as an input and in the preconditioning, and the decoder that makes it, with its parameters. But this library's DBAE *measures* its moments. As it is, its weights are others ([Whose weight](15_dbae.ipynb#whose-weight)); for equal weights, set the moments as the check below does.

# %%
#| exports
BRIDGE = Pinned(VPLinear(0.1, 2.0))


class DiffAE(Autoencoder):
    """Diffusion autoencoder (Preechakul et al., CVPR 2022): a denoiser that is told the code, z, of a plain encoder.

    `weighting` "simple" (error of the noise at uniform times, as in the paper), "elbo", "edm", or "dbae": noise levels
    and weights of a DBAE with an endpoint as large as the images and uncorrelated with them. `path` is an unpinned `Path`, `VPLinear()` by default. `begin` "gaussian"
    (with principal components as code) or "random".
    """

    def __init__(self, shape: Sequence[int], z_dim: int, *, width: int = 32, encoder_width: int | None = None,
                 path: Path | None = None, weighting: str = "simple", begin: str = "gaussian",
                 gamma_max: float | None = None):
        path = VPLinear() if path is None else path
        require(isinstance(path, Path) and not isinstance(path, Pinned), "path", path, "an unpinned path")
        require_choice(weighting, "weighting", (*WEIGHTINGS, "dbae"))
        super().__init__(shape, z_dim, path, weighting="edm" if weighting == "dbae" else weighting, gamma_max=gamma_max)
        self.weighting = weighting
        width, small = check_widths(width, encoder_width)
        told = 2 * self.shape[0] * (begin == "gaussian")
        self.net = UNet(self.shape, width, z_dim=z_dim, extra=told)
        self.encoder_net = HalfUNet(self.shape, z_dim, small)
        self.begins(begin, 0.0, self.encoder_net.head)

    def codes(self, x: Tensor) -> tuple[Tensor, None]: return self.correction(x) + self.first_code(x)[0], None

    def denoiser(self, z: Tensor, xT: None = None) -> Denoiser:
        return self.corrects(lambda x, level, extra=None: self.net(x, level, z, extra), center=self.first_picture(z))

    def draw_times(self, n: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
        if self.weighting != "dbae": return super().draw_times(n, g)
        stats = Stats(self.stats.var0, self.stats.var0, 0.0)
        t, w = noise_levels(BRIDGE, n, "edm", g, self.gamma_min, self.gamma_max, stats)
        return self.path.t_of_gamma(BRIDGE.gamma(t)), w


# %% [markdown]
# With the same seed, DiffAE on its diffusion and DBAE on its bridge must draw the same noise levels, with the same weights, once DBAE's moments are those of an uncorrelated endpoint as large as the images. And the loss must be @eq-diffae-dbae, computed from $y$.

# %%
images = torch.tensor(load_digits().images / 8 - 1, dtype=torch.float32)[:, None]
x = images[:64]
model = DiffAE((1, 8, 8), 4, width=8, weighting="dbae")


class SameRange(DBAE): gamma_min = model.gamma_min


bridged = SameRange((1, 8, 8), 4, width=8)
for m in (model, bridged): m.moments.copy_(torch.tensor([0.6, 0.6, 0.0]))
(t, w), (s, v) = model.draw_times(64, rng(1)), bridged.draw_times(64, rng(1))
test_close((model.path.gamma(t) / bridged.path.gamma(s)).numpy(), 1, eps=1e-9)
test_close((w / v).numpy(), 1, eps=1e-9)

eps, D = torch.randn(x.shape, generator=g), model.denoiser(model.codes(x)[0])
a, b, c = bridged.path.coefs(s)
out2 = (0.36 * a**2 + 0.6 * c**2) / (0.6 * a**2 + 0.6 * b**2 + c**2)
by_hand = (sqnorm(x - D(model.path.mix(x, eps, t), t)) / out2).mean()
weighted = (w / 2 * model.squared_error(D, x, eps, t, None, g)).mean()
test_close(weighted / by_hand, 1, eps=1e-4)

# %% [markdown]
# The contract does the rest: points, samples, interpolation, bound. Deterministic codes need a noise of their own for a bound on $\log p(x)$.

# %%
for kw in [{}, {"weighting": "dbae"}, {"weighting": "elbo"},
           {"path": VPLinear(0.1, 10.0)}]:
    m = DiffAE((1, 8, 8), 4, width=8, **kw)
    loss, _ = m.loss(x, g)
    loss.backward()
    assert loss.isfinite() and m.endpoint(m.encode(x)) is None
    for mode in ("point", "sample"):
        test_eq(m.reconstruct(x[:2], mode, steps=3).shape, (2, 1, 8, 8))
    test_eq(m.bound(x[:4], n=2).covers, "log p(x|z)")
    test_eq(m.bound(x[:4], n=2, tau=0.3).covers, "log p(x)")

# %%
with expect_fail(ValueError, contains="weighting: expected one of"):
    DiffAE((1, 8, 8), 4, weighting="eps")
with expect_fail(ValueError, contains="path: expected"):
    DiffAE((1, 8, 8), 4, path=BRIDGE)

# %% [markdown]
# ## On digits, briefly
#
# The same network with the two weightings, 150 steps each, with four axes. (Without `prepare`: both begin as the Gaussian of no images at all.) DBAE's weighting gives more of the loss to coarse structure, which is what a small code can hold.

# %%
train, test = images[:1400], images[1500:1700]


def short(model, steps=150):
    "The model after a few steps of Adam."
    opt = torch.optim.Adam(model.train().parameters(), lr=6e-3, fused=True)
    for step in range(steps):
        for group in opt.param_groups: group["lr"] = 6e-3 * (1 - step / steps)
        loss, _ = model.loss(train[torch.randint(1400, (64,), generator=g)], g)
        opt.zero_grad()
        (loss / 64).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
    model.eval().finish(train)
    return model


def error(pictures, x):
    "Mean squared error of pictures of `x`, as images on [0, 1]."
    return sqnorm(pictures - x).mean().item() / 256


kw = {"width": 12, "encoder_width": 12}
models = {w: short(DiffAE((1, 8, 8), 4, weighting=w, **kw)) for w in ("simple", "dbae")}
errors = {w: {mode: error(m.reconstruct(test, mode, steps=15), test)
              for mode in ("point", "sample")} for w, m in models.items()}
simple, dbae = errors.values()
assert simple["point"] < simple["sample"] and dbae["point"] < dbae["sample"]
assert 1 < simple["point"] / dbae["point"] < dbae["sample"] / dbae["point"]
Table(errors, "mean squared error, weighting")

# %% [markdown]
# (Errors of images on $[0,1]$.) The weighting alone changes reconstructions, and point against sample changes them more. A comparison of DBAE with DiffAE that mixes these up says nothing about endpoints. Nor do short trainings say much about weightings: *prepared*, as the Gaussian of the digits, the model is better before its first step than either of these after 150.

# %%
begun = DiffAE((1, 8, 8), 4, **kw)
begun.prepare(train)
untrained = {mode: error(begun.eval().reconstruct(test, mode, steps=15), test)
             for mode in ("point", "sample")}
assert untrained["point"] < 0.7 * dbae["point"]
assert untrained["sample"] < 0.7 * dbae["sample"]
Table({"prepared, not trained": untrained}, "mean squared error")

# %% [markdown]
# **The other half of the image.** Where is what the code does not hold? Run the probability-flow ODE *backwards*, from the image to noise, with the image's code: that gives the one $x_T$ from which the walk returns to this image. Code and inferred noise together reconstruct almost exactly: DiffAE's "stochastic encoder". But $x_T$ is as large as the image, and costs as many evaluations as the walk back.

# %%
model, x = models["simple"], test[:8]
with torch.no_grad():
    z = model.encode(x)
    D, times = model.denoiser(z), time_grid(model.path, 40)[:-1]
    near = model.path.coefs(times[-1]).b.item() * x  # the last level: nearly the image
    xT = integrate(D, model.path, near, times.flip(0))
    back = integrate(D, model.path, xT, times).clamp(-1, 1)
rows = {"image": x, "zero noise": model.decode(z),
        "noise 1": model.decode(z, "sample", seed=1),
        "noise 2": model.decode(z, "sample", seed=2), "inferred": back}
errors = {k: error(v, x) for k, v in rows.items() if k != "image"}
assert errors["inferred"] < 0.1 * errors["zero noise"] < errors["noise 1"]
spread = {"zero noise": 0, "noise 1": 1, "noise 2": 1, "inferred": f"{xT.std():.2f}"}
Table({k: {"standard deviation": spread[k], "mean squared error": f"{v:.1e}"}
       for k, v in errors.items()}, "start of the walk")

# %%
#| label: fig-starts
#| fig-cap: 'Eight test digits, and four walks back with the code of each: from zero noise (the point), from two draws of noise, and from the noise inferred from the image, which alone returns to it.'
#| fig-alt: 'Five rows of eight small grey pictures. Images: digits. Zero noise: blurred, grey digits. Noise 1 and noise 2: sharper strokes that differ from the images and from each other. Inferred: the same as the images.'
fig, axes = plt.subplots(len(rows), 8, figsize=(6, 3.4))
for row, (name, pictures) in zip(axes, rows.items(), strict=True):
    for ax, picture in zip(row, pictures, strict=True):
        ax.imshow(picture[0], vmin=-1, vmax=1)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    row[0].set_ylabel(name, rotation=0, ha="right", va="center")

# %% [markdown]
# ## Differences from the paper
#
# | | Preechakul et al. | here |
# |---|---|---|
# | path | 1000 discrete steps, linear noise rates | the same rates in continuous time, `VPLinear()` |
# | network's output | the noise | preconditioned ([Scores](../foundations/04_scores.ipynb)); the loss is still the noise's error |
# | encoder | global average pooling, 512 axes | flattened half U-Net ([Networks](10_networks.ipynb)), any `z_dim` |
# | prior on codes | a second diffusion | the fitted Gaussian of [Priors](12_priors.ipynb) |
# | reconstruction | random or inferred $x_T$ | also zero noise, the point |
#
# ## Exercises
#
# **1.** *Compute.* Does DBAE's weighting prefer coarse structure? Draw levels and weights as in training, and find the level below which half of the weight lies, for both.

# %%
#| code-fold: true
#| code-summary: "Solution"
half = {}
for weighting, m in models.items():
    t, w = m.draw_times(20_000, rng(0))
    level, order = m.path.gamma(t).log().sort()
    half[weighting] = level[(w[order].cumsum(0) > w.sum() / 2).int().argmax()]
assert half["dbae"] < half["simple"] - 1  # more than a unit further out in the noise

# %% [markdown]
# **2.** *Explain.* Give each of the eight digits its neighbour's code, but keep the inferred $x_T$. Is the result closer to its own image or to the neighbour? What of the edit is lost?

# %%
#| code-fold: true
#| code-summary: "Solution"
donor = x.roll(1, 0)
with torch.no_grad(): other = model.denoiser(model.encode(donor))
edited = integrate(other, model.path, xT, times).clamp(-1, 1)
fresh = model.decode(model.encode(donor), "sample", seed=1)
to_own, to_donor = error(edited, x), error(edited, donor)
assert to_own < error(fresh, x)  # the noise brings back some of the old image,
assert to_donor > error(model.decode(model.encode(donor)), donor)  # at the edit's cost


# %% [markdown]
# **3.** *Extend.* Train on high noise only: a DiffAE with plain weights whose times have a density proportional to $t$ (`noise="high"` of `noise_levels`).

# %%
#| code-fold: true
#| code-summary: "Solution"
class High(DiffAE):
    def draw_times(self, n, g):
        ends = self.gamma_min, self.gamma_max, self.stats
        return noise_levels(self.path, n, "simple", g, *ends, noise="high")


often, seldom = (kind((1, 8, 8), 4, width=8).draw_times(20_000, rng(0))[0]
                 for kind in (High, DiffAE))
test_close((often.mean(), seldom.mean()), (2 / 3, 1 / 2), eps=0.01)

# %% [markdown]
# ## What can go wrong
#
# * **Comparing DBAE's deterministic walk with DiffAE from random noise.** One is a point, the other a sample.
# * **Crediting the code with the noise.** An edit of $z$ that keeps the inferred $x_T$ keeps whatever the noise holds of the old image.
# * **A bound for `log p(x|z)`** of a deterministic code: it measures `gamma_max`. Pass the `tau` that `choose_noise` finds.
