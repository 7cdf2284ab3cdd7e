# %% [markdown]
# # Gaussian images
#
# > Of Gaussian images everything is known: what noise leaves of them, of their code, and of the level itself. Every model begins there.

# %% [markdown]
# What can be said about an image in noise, and about its code, before any network has learned? Of Gaussian images, everything. A network that knows nothing has to find this first. So every model of this library begins there, and networks learn what images add. This page derives the beginning: the law of the principal components in noise, which is what an encoder that guides ([SAMI](../models/14_sami.ipynb)) has to know; the best estimate of the image, with and without the code; and the noise level, read from the picture. All are checked against exact conditioning ([Worlds in closed form](03_worlds.ipynb)).

# %%
#| default_exp foundations.gaussians

# %%
#| exports
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from scoreae.core.checks import bcast, check_shape, require, require_int, require_number
from scoreae.foundations.paths import Path
from scoreae.foundations.scores import LEVELS, Denoiser, Stats, scalings

# %%
#| hide
import math

import matplotlib.pyplot as plt
from fastcore.test import expect_fail, test_close, test_eq
from sklearn.datasets import load_digits, load_sample_images
from torch.distributions import Normal

from scoreae.core.pages import Table, paper
from scoreae.foundations.paths import VE, Pinned, VPCosine, VPLinear
from scoreae.foundations.worlds import GaussianWorld, denoiser, expected_sqnorm

# %%
#| hide
paper()
g = torch.Generator().manual_seed(0)

# %% [markdown]
# ## Components
#
# Let images have mean $m$ and covariance $\Sigma=\sum_j\ell_j\,e_je_j^\top$ with orthonormal $e_j$. Their standardised **principal components** are the numbers, for $\ell_j>0$,
#
# $$\zeta_j=\frac{e_j^\top(x_0-m)}{\sqrt{\ell_j}},\qquad \mathbb E\,\zeta_j=0,\quad\mathbb E\,\zeta_i\zeta_j=\delta_{ij}.$$ {#eq-lin-components}
#
# Mean, directions and variances $\ell_j$ are found by scikit-learn; a set of more than `LARGE` numbers is decomposed in parts and in single precision, which is approximate.

# %%
#| exports
LARGE = 2**27  # numbers: 1 GiB in double precision
LEAST = 1e-6  # a variance of images on [-1, 1] below which there is nothing but rounding


def principal(x: Tensor, k: int, large: int = LARGE) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (d,), directions (k, d) and variances (k,) of the first `k` principal components of images (N, ...), N > k.

    Sets of more than `large` numbers are decomposed in parts.
    """
    from sklearn import decomposition

    require(len(x) > k, "x", x, f"more than {k} images, for as many components")
    flat = x.flatten(1).cpu()
    if flat.numel() <= large:
        with np.errstate(invalid="ignore"):  # images that are all alike have no variance to share
            fitted = decomposition.PCA(k, random_state=0).fit(flat.double().numpy())
    else: fitted = decomposition.IncrementalPCA(k, batch_size=max(1024, 5 * k)).fit(flat.float().numpy())
    return tuple(torch.from_numpy(v) for v in (fitted.mean_, fitted.components_, fitted.explained_variance_))


# %%
digits = torch.tensor(load_digits().images / 8 - 1, dtype=torch.float32)[:, None]
mean, axes, variances = principal(digits, 5)
zeta = (digits.flatten(1) - mean) @ axes.T / variances.sqrt()
test_close(torch.cov(zeta.T), torch.eye(5), eps=1e-4)
test_close(principal(digits, 5, large=1000)[2] / variances, torch.ones(5), eps=0.02)
Table({j + 1: v for j, v in enumerate(variances.tolist())}, "component of digits",
      r"variance $\ell_j$")

# %%
with expect_fail(ValueError, contains="x: expected more than 5 images"):
    principal(digits[:5], 5)


# %% [markdown]
# ## The code, and its law in noise
#
# The code is each component with noise of variance $s_j\in(0,1]$, mixed so that $z$ has variance one, as its prior $\mathcal N(0,I)$ wants:
#
# $$z_j=\sqrt{1-s_j}\,\zeta_j+\sqrt{s_j}\,\xi_j,\qquad\xi_j\sim\mathcal N(0,1).$$ {#eq-lin-code}
#
# Now the image is noisy, $x_t=b\,x_0+c\,\varepsilon$, with $\gamma=b^2/c^2$. Undo the scale and project: $e_j^\top(x_t/b-m)=\sqrt{\ell_j}\,\zeta_j+\gamma^{-1/2}\varepsilon_j$, because $c/b=\gamma^{-1/2}$, with $\varepsilon_j=e_j^\top\varepsilon$ of variance one. If the images are Gaussian, the $\zeta_j$ are independent normal numbers, and so are the $\varepsilon_j$. Then only this projection speaks about $\zeta_j$, and Bayes' rule for two normal numbers gives, with the Wiener factor $w_j$,
#
# $$w_j=\frac{\gamma\ell_j}{1+\gamma\ell_j},\qquad \zeta_j|x_t\sim\mathcal N\Big(w_j\,\frac{e_j^\top(x_t/b-m)}{\sqrt{\ell_j}},\;1-w_j\Big).$$ {#eq-lin-wiener}
#
# Through @eq-lin-code the mean is multiplied by $\sqrt{1-s_j}$, and the variance becomes $(1-s_j)(1-w_j)+s_j$:
#
# $$\boxed{\;q(z_j|x_t)=\mathcal N\Big(\sqrt{1-s_j}\;w_j\,\frac{e_j^\top(x_t/b-m)}{\sqrt{\ell_j}},\;1-(1-s_j)\,w_j\Big)\;}$$ {#eq-lin-law}
#
# In pure noise ($w=0$) it is the prior; at the clean image ($w=1$) it is the encoder. In between it is *diagonal at every level*, which is what SAMI's encoder can say ([Why SAMI disentangles](../sami_claims/61_why_sami_disentangles.ipynb) shows that few codes are). So for Gaussian images this guidance is exact.
#
# A component is left out ($s_j=1$, nothing is said) if its variance is below $10^{-5}$, twice what rounding to 256 levels adds to every direction. Before `fit`, every component is left out.

# %%
#| exports
class LinearCode(nn.Module):
    """The law of the noisy principal components of images of `shape`, at every noise level: @eq-lin-law.

    `std` is the deviation of the code of a clean image, sqrt(s), in [0, 1]. `fit` it to images first, or let it `take`
    what was fitted; until then it says N(0, 1) of every axis.
    """

    def __init__(self, shape: Sequence[int], z_dim: int, std: float = 0.2):
        super().__init__()
        self.std, self.shape = require_number(std, "std", 0, 1), check_shape(shape)
        dims = int(np.prod(self.shape))
        self.register_buffer("center", torch.zeros(dims))
        self.register_buffer("axes", torch.zeros(require_int(z_dim, "z_dim"), dims))
        self.register_buffer("variances", torch.ones(z_dim))
        self.register_buffer("left", torch.ones(z_dim))  # s
        self.register_buffer("fitted", torch.zeros((), dtype=torch.int64))

    def fit(self, x: Tensor) -> None:
        "Take mean, directions and variances of floating-point images (N, C, H, W), N >= 2, in place of what was there."
        ok = x.is_floating_point() and x.ndim == 4 and x[0].numel() == len(self.center) and len(x) > 1
        require(ok, "x", x, f"two or more floating-point images of {len(self.center)} values")
        require(bool(x.isfinite().all()), "x", "NaN or infinite values", "finite images")
        k = min(len(self.axes), len(x) - 1, len(self.center))
        self.take(*principal(x, k))

    def take(self, center: Tensor, axes: Tensor, variances: Tensor) -> None:
        "Take mean (d,), directions (K, d) and variances (K,) that are known, as many as the code has axes."
        k = min(len(self.axes), len(axes))
        told = variances[:k] > 1e-5
        for v, empty in ((self.axes, 0.0), (self.variances, 1.0), (self.left, 1.0), (self.fitted, 1)): v.fill_(empty)
        self.center.copy_(center)
        self.axes[:k].copy_(axes[:k] * told[:, None])
        self.variances[:k].copy_(torch.where(told, variances[:k], 1.0))
        self.left[:k].copy_(1 - (1 - self.std**2) * told.to(variances))

    def wiener(self, gamma: Tensor) -> Tensor:
        "w_j = gamma l_j / (1 + gamma l_j), (N, z_dim), for gamma (N,), which may be infinite."
        return 1 / (1 + 1 / (gamma[:, None] * self.variances))

    def forward(self, x_t: Tensor, gamma: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        "Mean and standard deviation (N, z_dim) of q(z | x_t) for images (N, C, H, W) with gamma and b, (N,) or ()."
        gamma, b = (v.to(x_t).expand(x_t.shape[0]) for v in (gamma, b))
        seen = (x_t.flatten(1) / b[:, None] - self.center) @ self.axes.T
        w, kept = self.wiener(gamma), 1 - self.left
        return (kept / self.variances).sqrt() * w * seen, (1 - kept * w).sqrt()

    def picture(self, z: Tensor) -> Tensor:
        "The mean of the images with codes z (N, z_dim), (N, C, H, W): @eq-lin-picture."
        return (self.center + (z * ((1 - self.left) * self.variances).sqrt()) @ self.axes).unflatten(1, self.shape)


# %% [markdown]
# A Gaussian world knows $q(z|x_t)$ of any linear code of Gaussian data by conditioning on the whole image. With this code's $A$ and noise it must say the same, on every path; and the guidance, the gradient of @eq-lin-law with respect to $x_t$, must be the world's.

# %%
R = torch.linalg.qr(torch.randn(6, 6, generator=g, dtype=torch.float64))[0]
spectrum = torch.tensor([3.0, 1.0, 0.5, 0.3, 0.1, 0.05], dtype=torch.float64)
Sigma = R @ torch.diag(spectrum) @ R.T
mu = torch.randn(6, generator=g, dtype=torch.float64) / 2
root = torch.linalg.cholesky(Sigma)
w = torch.randn(6, 200, generator=g, dtype=torch.float64)
w = torch.linalg.qr((w - w.mean(1, keepdim=True)).T)[0].T * 199**0.5  # exact moments
code = LinearCode((6, 1, 1), 3).double()
code.fit((mu[:, None] + root @ w).T.reshape(200, 6, 1, 1))
A = (1 - code.left).sqrt()[:, None] * code.axes / code.variances.sqrt()[:, None]
world = GaussianWorld(mu, Sigma, A, -A @ mu, torch.diag(code.left))
x0, eps, z = world.draw(torch.randn(50, 15, generator=g, dtype=torch.float64))
for path in (VPCosine(), VPLinear(), VE()):
    for share in (0.05, 0.5, 0.95):
        t = torch.tensor(share * path.T, dtype=torch.float64)
        x_t = path.mix(x0, eps, t).requires_grad_()
        mean, std = code(x_t.reshape(50, 6, 1, 1), path.gamma(t), path.coefs(t).b)
        want, V, _ = world.code_given_noisy(path, x_t.detach(), t)
        test_close(mean.detach(), want, eps=1e-9)
        test_close(torch.diag(std[0].detach() ** 2), V, eps=1e-9)
        G = torch.autograd.grad(Normal(mean, std).log_prob(z).sum(), x_t)[0]
        test_close(G, world.guidance(path, x_t.detach(), t, z), eps=1e-8)
clean, std = code(x0.reshape(50, 6, 1, 1), torch.tensor(math.inf), torch.ones(()))
test_close(clean, world.encode(x0), eps=1e-9)
test_close(std, torch.full_like(std, 0.2), eps=1e-9)


# %% [markdown]
# ## How many nats, at which level
#
# Since $z_j$ has variance one, and variance $1-(1-s_j)w_j$ once the noisy image is known,
#
# $$I(z_j;x_t)=-\tfrac12\log\big(1-(1-s_j)\,w_j\big),$$ {#eq-lin-nats}
#
# which ends at $-\tfrac12\log s_j$ for the clean image: 1.6 nats for a deviation of .2. Its derivative in $\log\gamma$ is the rate at which the component is told as the noise goes down, and must be half the guidance's energy, $\tfrac12c^2\,\mathbb E\|G_j\|^2$ ([Gaps](07_gaps.ipynb)). 
#
# Where is it told fastest? Let $v=\log\gamma\ell_j$, so that $w_j=\sigma(v)$, the logistic function $e^v/(1+e^v)$. Insert:
#
# $$I=\tfrac12\log\frac{1+e^v}{1+s_je^v},\qquad\frac{dI}{dv}=\tfrac12\big[\sigma(v)-\sigma(v+\log s_j)\big].$$ {#eq-lin-rate}
#
# The first term rises at $v=0$, where the component comes out of the noise; the second takes it back at $v=-\log s_j$, where the code's own noise hides the rest. Measure $v$ from the middle, $v=h_0+h$ with $h_0=-\tfrac12\log s_j$: the bracket is $\sigma(h+h_0)-\sigma(h-h_0)$. It is even in $h$, because $\sigma(-v)=1-\sigma(v)$, and falls as $|h|$ grows, because $\sigma'$ does. So the rate is symmetric about its peak,
#
# $$\log\gamma=-\log\ell_j-\tfrac12\log s_j,\qquad w_j=\frac1{1+\sqrt{s_j}}.$$ {#eq-lin-peak}

# %%
def nats(u): return -(1 - (1 - code.left) * code.wiener(u.exp())).log() / 2


path, u = VPCosine(), torch.tensor([-1.0, 1.0, 3.0], dtype=torch.float64)
slope = (nats(u + 1e-4) - nats(u - 1e-4)) / 2e-4
for i, t in enumerate(path.t_of_gamma(u.exp())):
    def energy(w, j, t=t):
        x0, eps, z = world.draw(w)
        x_t = path.mix(x0, eps, t).requires_grad_()
        mean, std = code(x_t.reshape(-1, 6, 1, 1), path.gamma(t), path.coefs(t).b)
        log_q = Normal(mean, std).log_prob(z)[:, j].sum()
        return path.coefs(t).c * torch.autograd.grad(log_q, x_t)[0]

    found = torch.stack([expected_sqnorm(lambda w, j=j: energy(w, j), 15) / 2
                         for j in range(3)])
    test_close(found, slope[i], eps=1e-6)
test_close(nats(torch.tensor([60.0]).double())[0], -code.left.log() / 2, eps=1e-9)
fine = torch.linspace(-6, 10, 3201, dtype=torch.float64)[:, None]
peak = fine[nats(fine).diff(dim=0).argmax(0), 0]
middle = -code.variances.log() - code.left.log() / 2
test_close(peak, middle, eps=0.01)
rate = lambda u: (nats(u + 1e-4) - nats(u - 1e-4)).diagonal() / 2e-4  # axis j at u_j
test_close(code.wiener(middle.exp()).diagonal(), 1 / (1 + code.left.sqrt()), eps=1e-9)
for h in (0.5, 2.0):
    v = middle + h + code.variances.log()
    want = (v.sigmoid() - (v + code.left.log()).sigmoid()) / 2
    test_close(rate(middle + h), want, eps=1e-6)
    test_close(rate(middle + h), rate(middle - h), eps=1e-6)
f"{math.log(1 / 0.2):.2f} nats an axis"

# %% [markdown]
# Variances grow with the number of pixels: a pattern shared by many pixels has the sum of their variances. So the larger the images, the further out in the noise their first components are told. To change nothing but the size, take one set of pictures, colour patches of a photograph at $16\times16$, and pool it to $8\times8$ and $4\times4$. A broad pattern stays, with a quarter of the pixels: $\ell_1$ falls to about a quarter, and by @eq-lin-peak the peak moves by about $\log4\approx1.39$ a halving. At $16\times16$ a patch's first component is told at $\log\gamma\approx-4$, where single pixels show nothing: their variance is below one, and the noise's is $e^4\approx55$.

# %%
photo = torch.tensor(load_sample_images().images[0] / 127.5 - 1).float()
patches = photo.permute(2, 0, 1).unfold(1, 16, 12).unfold(2, 16, 12)
patches = patches.flatten(1, 2).transpose(0, 1)
levels = torch.linspace(-8, 8, 1601)
told, first = {}, {}
for side in (16, 8, 4):
    own = LinearCode((3, side, side), 12)
    own.fit(torch.nn.functional.avg_pool2d(patches, 16 // side))
    known = -(1 - (1 - own.left) * own.wiener(levels.exp())).log() / 2
    told[side] = known.diff(dim=0) / 0.01
    first[side] = -math.log(own.variances[0]) - math.log(own.left[0]) / 2
    assert abs(levels[told[side][:, 0].argmax()] - first[side]) < 0.05
moves = first[8] - first[16], first[4] - first[8]
test_close(moves, (math.log(4), math.log(4)), eps=0.03)
Table({f"{k} × {k}": f"{v:.2f}" for k, v in first.items()}, "patches",
      r"$\log\gamma$ where component 1 is told")

# %%
#| label: fig-components-told
#| fig-cap: 'Each component is told over its own stretch of the noise scale. Left, the first component of one set of patches at three sizes: a halving moves it by $\log4$ towards less noise. Right, five of twelve components at $16\times16$: large variances are told further left. Every hill has the same area, $-\frac{1}{2}\log s_j$ = 1.6 nats, of which the picture''s range cuts some off.'
#| fig-alt: 'Two line charts of nats per unit of log gamma against log gamma from -8 to 8. All curves are hills of height 0.33. Left: three equal hills with peaks at -4.1, -2.7 and -1.3, for 16, 8 and 4 pixels. Right: the hill of component 1 at -4.1, and those of components 2, 4, 8 and 12 between -0.2 and 1.8.'
fig, panels = plt.subplots(1, 2, figsize=(7.4, 3), sharey=True)
styles = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))
left = {f"{k}×{k}": v[:, 0] for k, v in told.items()}
right = {f"{j}": told[16][:, j - 1] for j in (1, 2, 4, 8, 12)}
for ax, curves in zip(panels, (left, right), strict=True):
    for (name, rate_), style in zip(curves.items(), styles, strict=False):
        ax.plot(levels[1:] - 0.005, rate_, linestyle=style, label=name)
    ax.set(xlabel=r"$\log\gamma$", ylim=(0, 0.46))
    ax.legend(ncols=3, loc="upper center", columnspacing=1)
panels[0].set(title="component 1, three sizes", ylabel=r"nats per unit of $\log\gamma$")
panels[1].set(title="components, 16×16");


# %% [markdown]
# ## The Gaussian of a set of images
#
# So far the code. What about the image itself? Let the images be Gaussian, with the first $K$ principal directions $e_j$ (rows of $U$) and variances $\ell_j$, and one variance $\tau^2$ for all that remains (probabilistic PCA):
#
# $$x_0\sim\mathcal N\big(m,\;U^\top\mathrm{diag}(\ell)\,U+\tau^2(I-U^\top U)\big).$$ {#eq-gauss}
#
# Along each direction this is one normal number in noise, as in @eq-lin-wiener. Write now $v=(x_t-a\,x_T-b\,m)/c=\sqrt\gamma\,(x_0-m)+\varepsilon$ for the image in units of its noise, and $v_j$ for its part along direction $j$. The best estimates of the image and of the noise are, direction by direction ($\ell=\tau^2$ outside the $e_j$),
#
# $$\hat x_j=m_j+\frac{\sqrt\gamma\,\ell_j}{1+\gamma\ell_j}\,v_j,\qquad\hat\varepsilon_j=\frac{1}{1+\gamma\ell_j}\,v_j,$$ {#eq-gauss-estimates}
#
# and the variance that is left is $\ell_j/(1+\gamma\ell_j)$. Both are finite for every $\gamma$, no difference of large numbers is formed, and applying them to an image costs three products with a $K\times d$ matrix. A network that begins at zero and is added to them begins as the exact model of Gaussian images.
#
# If the *code* is known too, the image is still Gaussian. Its mean is the picture of the code, and of the variance along a coded direction only the share $s_j$ is left:
#
# $$m(z)=m+\sum_j\sqrt{(1-s_j)\,\ell_j}\;z_j\,e_j,\qquad\ell_j\to s_j\,\ell_j.$$ {#eq-lin-picture}
#
# For $\mathrm{cov}(x_0,z_j)=\sqrt{(1-s_j)\ell_j}\,e_j$, and $z_j$ has variance one.

# %%
#| exports
def gaussian_estimates(v: Tensor, gamma: Tensor, axes: Tensor, variances: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
    """x0_hat - m and eps_hat, (N, ...), from images in units of their noise, v = (x_t - b m) / c, at gamma (N,).

    For images with `variances` (K,) along the `axes` (K, d), and `rest` () across them: @eq-gauss-estimates.
    """
    l = torch.cat([rest.double()[None], variances.double()])
    gamma = gamma.to(l).reshape(-1, 1)
    noise = 1 / (1 + gamma * l)
    image, flat = gamma.sqrt() * l * noise, v.flatten(1)
    along = flat @ axes.T
    put = lambda f: f[:, :1].to(v) * flat + (along * (f[:, 1:] - f[:, :1]).to(v)) @ axes
    return put(image).view_as(v), put(noise).view_as(v)


class Gaussian(nn.Module):
    """The Gaussian of a set of images of `shape`: mean, `components` principal directions and variances, and the rest.

    `fit` it to images first; until then it is N(0, I / 4). With what it knows, `estimates` denoises.
    """

    def __init__(self, shape: Sequence[int], components: int = 256):
        super().__init__()
        self.shape = check_shape(shape)
        dims = int(np.prod(self.shape))
        k = min(require_int(components, "components"), dims)
        self.register_buffer("center", torch.zeros(dims))
        self.register_buffer("axes", torch.zeros(k, dims))
        self.register_buffer("variances", torch.full((k,), 0.25))
        self.register_buffer("rest", torch.tensor(0.25))  # tau^2
        self.register_buffer("fitted", torch.zeros((), dtype=torch.int64))

    def fit(self, x: Tensor) -> None:
        "Take all moments from floating-point images (N, C, H, W), N >= 2, in place of what was there."
        ok = x.is_floating_point() and x.ndim == 4 and tuple(x.shape[1:]) == self.shape and len(x) > 1
        require(ok, "x", x, f"two or more floating-point images {self.shape}")
        require(bool(x.isfinite().all()), "x", "NaN or infinite values", "finite images")
        dims, k = len(self.center), min(len(self.axes), len(x) - 1)
        mean, axes, variances = principal(x, k)
        total = float(x.flatten(1).double().var(0).sum())
        left = max((total - float(variances.sum())) / max(dims - k, 1), LEAST)
        for v, empty in ((self.axes, 0.0), (self.variances, left), (self.rest, left), (self.fitted, 1)): v.fill_(empty)
        self.center.copy_(mean)
        self.axes[:k].copy_(axes)
        self.variances[:k].copy_(variances.clamp(min=LEAST))

    def known(self, left: Tensor) -> Tensor:
        "The variances (K,) once a code is known that leaves the share `left` (k,) of the first k."
        share = torch.ones_like(self.variances)
        share[: len(left)] = left[: len(share)].to(share)
        return self.variances * share

    def spread(self, variances: Tensor | None = None) -> Tensor:
        "The mean variance of a pixel, (); with the `variances` (K,) of the directions in place of its own."
        own = self.variances if variances is None else variances
        return (own.sum() + (len(self.center) - len(own)) * self.rest) / len(self.center)

    def estimates(self, v: Tensor, gamma: Tensor, variances: Tensor | None = None) -> tuple[Tensor, Tensor]:
        "As `gaussian_estimates`, of images (N, C, H, W), with its own variances or others (K,) in their place."
        own = self.variances if variances is None else variances
        return gaussian_estimates(v, gamma, self.axes, own, self.rest)

    @torch.no_grad()
    def level(self, x_t: Tensor, u: Tensor, vp: bool = True) -> Tensor:
        """The log gamma (N,) that noisy images (N, C, H, W) show, between the ends of the grid `u` (M,): @eq-gauss-level.

        The most likely of the grid, refined by a parabola through its neighbours; `vp`: b^2 + c^2 = 1, else b = 1.
        """
        u, flat, mean = u.double().to(x_t.device), x_t.flatten(1).double(), self.center.double()
        axes, gamma = self.axes.double(), u.exp()
        b = torch.sqrt(gamma / (1 + gamma)) if vp else torch.ones_like(u)
        l, many = torch.cat([self.rest[None], self.variances]).double(), len(mean) - len(axes)
        var = b[:, None] ** 2 * (l + 1 / gamma[:, None])  # (M, K + 1), of every direction at every level
        along = (flat @ axes.T)[:, None] - b[:, None] * (axes @ mean)  # (N, M, K)
        size = (flat**2).sum(1)[:, None] - 2 * b * (flat @ mean)[:, None] + b**2 * (mean**2).sum()
        across = (size - (along**2).sum(2)).clamp(min=0)
        cost = (along**2 / var[:, 1:] + var[:, 1:].log()).sum(2) + across / var[:, 0] + many * var[:, 0].log()
        i = cost.argmin(1).clamp(1, len(u) - 2)[:, None]
        low, mid, high = (cost.gather(1, i + k)[:, 0] for k in (-1, 0, 1))
        bend = (low - 2 * mid + high).clamp(min=1e-12)
        return (u[i[:, 0]] + ((low - high) / (2 * bend)).clamp(-1, 1) * (u[1] - u[0])).to(x_t)


# %%
#| exports
FARTHEST = 1e12  # an SNR beyond which an image is taken for clean


class GaussianDenoiser(Denoiser):
    """A `Denoiser` whose network is added to what a `Gaussian` makes of the image; with a network of zeros, exact for it.

    `center` is the mean of the images, (N, C, H, W) or (C, H, W), its own by default; `variances` (K,) along its
    directions, in place of its own. `F(x, level, extra=)` is told the Gaussian's estimates of image and noise,
    (N, 2C, H, W); the noise fades where not even the first direction is seen.
    """

    def __init__(self, gaussian: Gaussian, path: Path, F: Callable, stats: Stats, xT: Tensor | None = None,
                 center: Tensor | None = None, variances: Tensor | None = None, span: tuple[float, float] = LEVELS):
        super().__init__(path, F, "edm", stats, xT, span)
        self.gaussian, self.given = gaussian, (center, variances)

    @property
    def center(self) -> Tensor:
        return self.gaussian.center.view(self.gaussian.shape) if self.given[0] is None else self.given[0]

    @property
    def variances(self) -> Tensor: return self.gaussian.variances if self.given[1] is None else self.given[1]

    def parts(self, x_t: Tensor, v: Tensor, t: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        "The Gaussian's estimates of image and noise, and what the network adds to the image: (N, C, H, W) each."
        image, noise = self.gaussian.estimates(v, gamma, self.variances)
        told = torch.cat([self.center + image, bcast(self.shown(gamma), v) * noise], 1)
        F = self.ask(x_t, t, scalings("edm", self.path.coefs(t), self.stats).inp, extra=told)
        return self.center + image, noise, bcast(self.scale(gamma), v) * F

    def scale(self, gamma: Tensor) -> Tensor:
        "The deviation that a pixel of the mean variance has left in noise, (N,): what the network's output is scaled by."
        spread = self.gaussian.spread(self.variances).to(gamma)
        return (spread / (1 + gamma * spread)).sqrt()

    def shown(self, gamma: Tensor) -> Tensor:
        "How much of the estimate of the noise the network is shown, (N,): nothing where no direction is seen."
        seen = gamma * self.variances.max().to(gamma)
        return (seen / (1 + seen)).sqrt()

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        t = self.fits(x_t, t).expand(len(x_t))
        a, b, c = self.path.coefs(t)
        gamma = self.path.gamma(t).clamp(max=FARTHEST)
        unit = torch.where(gamma > 0, 1 / torch.maximum(c, b * FARTHEST**-0.5), 0.0)
        own = x_t if self.xT is None else x_t - bcast(a, x_t) * self.xT
        image, _, added = self.parts(x_t, bcast(unit, x_t) * (own - bcast(b, x_t) * self.center), t, gamma)
        return image + added

    def residual(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        "eps_hat - eps at x_t = mix(x0, eps, t), without a difference of images: (N, C, H, W)."
        x_t = self.path.mix(x0, eps, t, self.xT)
        t = self.fits(x_t, t).expand(len(x0))
        gamma = self.path.gamma(t)
        root = bcast(gamma.sqrt(), x0)
        _, noise, added = self.parts(x_t, root * (x0 - self.center) + eps, t, gamma)
        return noise - eps - root * added


# %% [markdown]
# In the six-dimensional world above the estimate must be the exact one, $\mathbb E[x_0|x_t]$ without a code and $\mathbb E[x_0|x_t,z]$ with it, on every path; on a bridge that ends at the picture of the code, it must be what conditioning a Gaussian gives. The network here says nothing.

# %%
whole = Gaussian((6, 1, 1)).double()
whole.fit((mu[:, None] + root @ w).T.reshape(200, 6, 1, 1))
test_close(whole.spread(), torch.trace(Sigma) / 6, eps=1e-9)
left = whole.known(code.left)
silent = lambda x, level, extra: torch.zeros_like(x)
shaped = lambda v: v.reshape(-1, 6, 1, 1)
center, noise_z = code.picture(z), torch.diag(code.left)
for path in (VPCosine(), VPLinear(), VE(), Pinned(VPLinear(0.1, 2.0))):
    bridge = isinstance(path, Pinned)
    for share in (0.02, 0.5, 0.95):
        t = torch.full((50,), share * path.T, dtype=torch.float64)
        end = center if bridge else None
        told = GaussianDenoiser(whole, path, silent, Stats(), end, center, left)
        x_t = path.mix(shaped(x0), shaped(eps), t, told.xT)
        if bridge:
            a, b, c = (v[:1, None] for v in path.coefs(t))
            own, m = x_t.flatten(1) - a * center.flatten(1), center.flatten(1)
            V = A @ Sigma @ A.T + noise_z
            S = Sigma - Sigma @ A.T @ torch.linalg.inv(V) @ A @ Sigma
            gain = b * S @ torch.linalg.inv(b**2 * S + c**2 * torch.eye(6))
            want = m + (own - b * m) @ gain.T
        else:
            want = world.denoiser(path, z)(x_t.flatten(1), t)
            free = GaussianDenoiser(whole, path, silent, Stats())
            exact = denoiser(world.data, path)(x_t.flatten(1), t)
            test_close(free(x_t, t).flatten(1), exact, eps=1e-9)
        test_close(told(x_t, t).flatten(1), want, eps=1e-9)
        r = path.gamma(t).sqrt()[:, None] * (x0 - want)
        test_close(told.residual(shaped(x0), shaped(eps), t).flatten(1), r, eps=1e-8)

# %% [markdown]
# Single precision does it too, at both ends of the noise scale: digits, with the residual in double precision beside it. At the end of a bridge, where $\gamma=0$, the estimate is the mean; without noise it is the image.

# %%
whole = Gaussian((1, 8, 8), 40)
whole.fit(digits)
x, noise = digits[:200], torch.randn(200, 1, 8, 8, generator=g)
fine = Gaussian((1, 8, 8), 40).double()
fine.load_state_dict(whole.state_dict())
worst = {}
for u in (-9.0, -4.0, 4.0, 16.0):
    t = VPLinear().t_of_gamma(torch.tensor(u).double().exp()).expand(200)
    r, R = (GaussianDenoiser(known, VPLinear(), silent, Stats()).residual(
                x.to(known.center), noise.to(known.center), t)
            for known in (whole, fine))
    worst[f"{u:g}"] = float((r - R).abs().max() / R.square().mean().sqrt())
assert max(worst.values()) < 1e-4
bridge, end = Pinned(VPLinear(0.1, 2.0)), torch.ones(200, dtype=torch.float64)
D = GaussianDenoiser(whole, bridge, silent, Stats(), xT=x, center=x)
test_eq(D(x, end), x)
D = GaussianDenoiser(whole, VPLinear(), silent, Stats())
test_close(D(x, 0 * end), x, eps=1e-4)
Table(worst, r"$\log\gamma$", "largest error / root mean square of the residual")

# %% [markdown]
# ## The level, read from the picture
#
# A noise-blind encoder is not told $\gamma$, but a picture shows it: where images have little variance, what is there is noise. Along direction $j$ the noisy image is normal with mean $b\,m_j$ and variance $b^2\ell_j+c^2$, independently of the others. On a VP path ($b^2+c^2=1$) both are functions of $u=\log\gamma$ alone, so $u$ can be estimated as what makes the picture most likely:
#
# $$\hat u=\arg\min_u\sum_j\Big[\log(b^2\ell_j+c^2)+\frac{(e_j^\top x_t-b\,m_j)^2}{b^2\ell_j+c^2}\Big].$$ {#eq-gauss-level}
#
# How well? The **Fisher information** is the mean curvature of minus the log-likelihood in the unknown. It adds up over independent numbers, and for many of them the most likely value has a variance of one over it (a fact of statistics that we only check). One normal number of mean zero and variance $e^\rho$ costs $\tfrac12(\rho+y^2e^{-\rho})$, whose curvature in $\rho$ has the mean $\tfrac12$. What the means $b\,m_j$ tell is left out. Here $b^2\ell+c^2=(1+\gamma\ell)/(1+\gamma)$, so the logarithm's derivative in $u$ is $w_j-b^2$, and for many directions
#
# $$\operatorname{std}\hat u\approx\Big[\tfrac12\sum_j(w_j-b^2)^2\Big]^{-1/2},$$ {#eq-gauss-fisher}
#
# $\sqrt{2/d}/b^2$ where no direction is seen. Where all are, $w_j\approx1\approx b^2$, and the level cannot be told, nor need it: the image is clear. In much noise ($b^2\ll1$) it cannot be told either; the estimate then tends to the noisy end, where nothing is said (this is not checked here). Between the two, on Gaussian images with the moments of the patches, the prediction holds within a fifth:

# %%
pictures = Gaussian(patches.shape[1:], 128)
pictures.fit(patches)
l = torch.cat([pictures.variances, pictures.rest.expand(768 - 128)])
made = torch.randn(400, 768, generator=g)
along = made @ pictures.axes.T
flat = pictures.rest.sqrt() * (made - along @ pictures.axes)
flat = pictures.center + flat + (along * pictures.variances.sqrt()) @ pictures.axes
u, rows = torch.linspace(-9, 14, 93), {}
for at in (0.0, 2.0, 4.0, 6.0):
    gamma = math.exp(at)
    b = (gamma / (1 + gamma)) ** 0.5
    x_t = b * flat + (1 - b**2) ** 0.5 * torch.randn(400, 768, generator=g)
    found = pictures.level(x_t.view(400, *patches.shape[1:]), u)
    said = (((gamma * l / (1 + gamma * l) - b**2) ** 2).sum() / 2) ** -0.5
    assert abs(found.mean() - at) < 4 * said / 20 + 0.02
    test_close(found.std() / said, 1.0, eps=0.2)
    rows[f"{at:g}"] = {"mean read": f"{found.mean():.2f}", "std": found.std().item(),
                       "std, predicted": said.item()}
Table(rows, r"$\log\gamma$")

# %% [markdown]
# ## Images are not Gaussian
#
# Then @eq-lin-law is not the law of $z$ given $x_t$, only the best *linear* account of it. Two things stay true, because they involve second moments only: of all affine estimates of the code, the mean has the least squared error, and the variance is that error, averaged over images. A network has to find the rest, and, begun here, nothing but the rest. Below: the estimate is the one of least squares, $A\,\Sigma\,b\,(b^2\Sigma+c^2I)^{-1}(x_t-b\,m)$, and the errors are what the variances say.

# %%
own = LinearCode((1, 8, 8), 12).double()
own.fit(digits.double())
clean, _ = own(digits.double(), torch.tensor(math.inf), torch.ones(()))
rows, Sigma = {}, torch.cov(digits.double().flatten(1).T)
A = (1 - own.left).sqrt()[:, None] * own.axes / own.variances.sqrt()[:, None]
for v in torch.tensor([0.05, 0.5, 5.0]).double():
    b, c = (v / (1 + v)).sqrt(), (1 / (1 + v)).sqrt()
    probe = (b * own.center + torch.eye(64).double()).reshape(64, 1, 8, 8)
    least = A @ Sigma @ torch.linalg.inv(b**2 * Sigma + c**2 * torch.eye(64)) * b
    test_close(own(probe, v, b)[0].T, least, eps=1e-6)
    x_t = b * digits + c * torch.randn(digits.shape, generator=g)
    mean, std = own(x_t.double(), v, b)
    error = (clean - mean).square().mean(0)  # of z without its own noise
    said = std[0] ** 2 - own.left
    test_close(error / said, torch.ones(12), eps=0.15)
    pair = lambda j: f"{error[j]:.3f} / {said[j]:.3f}"
    rows[f"$\\gamma={v:.2g}$"] = {f"component {j + 1}": pair(j) for j in range(4)}
Table(rows, "squared error / said")

# %% [markdown]
# Before `fit`, and where there is nothing to tell, the code says its prior; more axes than images, or than values in an image, are left out. Sets with less variance than images have still give a Gaussian that denoises.

# %%
few = LinearCode((1, 8, 8), 12)
at = torch.ones(3), torch.ones(3)
for mean, std in [few(digits[:3], *at)]:
    test_eq(mean, torch.zeros(3, 12))
    test_eq(std, torch.ones(3, 12))
few.fit(digits[:5])
mean, std = few(digits[:3], *at)
assert (std[:, :4] < 1).all() and (std[:, 4:] == 1).all() and (mean[:, 4:] == 0).all()
few.fit(torch.zeros(6, 1, 8, 8))
test_eq(few(digits[:3], *at)[1], torch.ones(3, 12))
for odd in (digits[:2], torch.zeros(6, 1, 8, 8), digits[:1].expand(9, -1, -1, -1)):
    own = Gaussian((1, 8, 8), 40)
    own.fit(odd)  # two images, none but zeros, one image nine times
    D = GaussianDenoiser(own, VPCosine(), silent, Stats())
    assert D(odd, torch.full((len(odd),), 0.5).double()).isfinite().all()

# %%
with expect_fail(ValueError, contains="std: expected a finite number in [0, 1]"):
    LinearCode((1, 8, 8), 12, std=-0.1)
with expect_fail(ValueError, contains="x: expected two or more floating-point images"):
    few.fit(digits[:1])
with expect_fail(ValueError, contains="x: expected finite images"):
    few.fit(digits[:9] / 0)
with expect_fail(ValueError, contains="x: expected two or more floating-point images"):
    whole.fit(digits[:1])
with expect_fail(ValueError, contains="components: expected an integer"):
    Gaussian((1, 8, 8), 0)

# %% [markdown]
# ## Exercises
#
# **1.** *Compute.* How many of its nats has a component told when it is told fastest, and how high is the peak?

# %%
#| code-fold: true
#| code-summary: "Solution"
at = nats(middle).diagonal()
test_close(at, -code.left.log() / 4, eps=1e-9)  # half of them, by symmetry
root = code.left.sqrt()
test_close(rate(middle), (1 - root) / (1 + root) / 2, eps=1e-6)  # 1/3 for s = 0.04

# %% [markdown]
# **2.** *Derive.* The derivative of $\log(b^2\ell+c^2)$ in $\log\gamma$ was said to be $w-b^2$; show it. How many pixels of pure noise show the level $\log\gamma=0$ to within .1?

# %%
#| code-fold: true
#| code-summary: "Solution"
u = torch.linspace(-6, 8, 57, dtype=torch.float64).requires_grad_()
b2, l = torch.sigmoid(u), 0.3  # c^2 = 1 - b^2
slope = torch.autograd.grad((b2 * l + 1 - b2).log().sum(), u)[0]
test_close(slope, l * u.exp() / (1 + l * u.exp()) - b2, eps=1e-9)
pixels = round(2 / (0.5 * 0.1) ** 2)  # from sqrt(2 / d) / b^2: 800
seen = torch.randn(4000, pixels, generator=g).square().mean(1) / 2  # c^2 = 1 / 2
test_close((1 / seen - 1).log().std(), 0.1, eps=0.01)

# %% [markdown]
# **3.** *Extend.* Turn the code: mix the patches' first two components at 45°. Write its covariance given a noisy image. Where is it diagonal?

# %%
#| code-fold: true
#| code-summary: "Solution"
own = LinearCode(patches.shape[1:], 2)
own.fit(patches)
turn = torch.tensor([[1.0, -1.0], [1.0, 1.0]]) / 2**0.5


def covariance(at):
    left = 1 - (1 - own.left) * own.wiener(torch.tensor([at]).exp())[0]
    return turn @ left.diag() @ turn.T


ends = max(covariance(at)[0, 1].abs() for at in (-20.0, 20.0))
assert ends < 1e-3  # in pure noise and without noise, and nowhere in between:
assert covariance(-4.0)[0, 1].abs() > 0.2  # an encoder of separate axes cannot say it

# %% [markdown]
# ## What can go wrong
#
# * **Components with no variance.** Their scale is $1/\sqrt{\ell_j}$: a direction that no training image uses would blow up in a test image. They are left out.
# * **Taking principal components for factors.** They order directions by variance, whatever made it. Which factor is which is a question for [Disentanglement](../measures/32_disentanglement.ipynb).
# * **Using the clean image's law on noisy images.** With $w=1$ at every level the code is overconfident, and its guidance does harm (the "clean encoder" of [SAMI](../models/14_sami.ipynb)).
