# %% [markdown]
# # Gaussian images
#
# > Of Gaussian images everything is known: what noise leaves of them, of their code, and of the level itself. Every model begins there.

# %% [markdown]
# What can be said about an image in noise, and about its code, before any network has learned? Of Gaussian images, everything. So every model of this library begins there, and networks learn what images add. This page derives the law of the principal components in noise, which an encoder that guides ([SAMI](../models/14_sami.ipynb)) has to know; the best estimate of the image, with and without the code; and the noise level, read from the picture. All are checked against exact conditioning ([Worlds in closed form](03_worlds.ipynb)).

# %%
#| default_exp foundations.gaussians

# %%
#| exports
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from scoreae.core.checks import bcast, check_shape, require, require_int, require_number, rng
from scoreae.foundations.paths import Path
from scoreae.foundations.scores import LEVELS, Denoiser, Stats, scalings

# %%
#| hide
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
# They are found by scikit-learn; a set of more than `LARGE` numbers is decomposed in parts, which is approximate.

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
# It is *diagonal at every level*, which is what SAMI's encoder can say ([Why SAMI disentangles](../sami_claims/61_why_sami_disentangles.ipynb) shows that few codes are). 
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
# Let $v=\log\gamma\ell_j$, so that $w_j=\sigma(v)$, the logistic function $e^v/(1+e^v)$. Insert:
#
# $$I=\tfrac12\log\frac{1+e^v}{1+s_je^v},\qquad\frac{dI}{dv}=\tfrac12\big[\sigma(v)-\sigma(v+\log s_j)\big].$$ {#eq-lin-rate}
#
# Measure $v$ from the middle, $v=h_0+h$ with $h_0=-\tfrac12\log s_j$: the bracket is $\sigma(h+h_0)-\sigma(h-h_0)$. It is even in $h$, because $\sigma(-v)=1-\sigma(v)$, and falls as $|h|$ grows, because $\sigma'$ does. So the rate is symmetric about its peak,
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
# A pattern shared by many pixels has the sum of their variances. So the larger the images, the further out in the noise their first components are told. Pool colour patches of a photograph from $16\times16$ to $8\times8$ and $4\times4$: a broad pattern keeps a quarter of its pixels, $\ell_1$ falls to about a quarter, and by @eq-lin-peak the peak moves by about $\log4\approx1.39$ a halving.

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
# So far the code. What about the image itself? Take an orthonormal basis of images, and let the coordinates of $x_0-m$ in it be independent and normal with variances $\ell_j$. Write $v=(x_t-a\,x_T-b\,m)/c=\sqrt\gamma\,(x_0-m)+\varepsilon$ for the image in units of its noise, and $v_j$ for its coordinates. Each is one normal number in noise, as in @eq-lin-wiener, and the best estimates of image and noise are
#
# $$\hat x_j=m_j+\frac{\sqrt\gamma\,\ell_j}{1+\gamma\ell_j}\,v_j,\qquad\hat\varepsilon_j=\frac{1}{1+\gamma\ell_j}\,v_j,$$ {#eq-gauss-estimates}
#
# with the variance $\ell_j/(1+\gamma\ell_j)$ left. Both are finite for every $\gamma$, and no difference of large numbers is formed. A network that begins at zero and is added to them begins as the exact model of such images.
#
# Which basis? The first $K$ directions are the principal ones, because a code needs them; a thousand more could not be estimated from a few thousand images. For the rest take cosine waves, in rows, columns and the principal colours: where covariance depends on distance only, they are nearly uncorrelated,
#
# $$C_{kn}=\sqrt{\tfrac{2-\delta_{k0}}{N}}\,\cos\frac{\pi k(n+\frac12)}{N}.$$ {#eq-gauss-cosines}
#
# The directions are not waves. Let $U$ ($d\times K$) be the directions in coordinates of waves, $E$ the $K$ waves most like them, and $U_1=E^\top U$. Turn the directions among themselves so that $U_1$ becomes symmetric and positive (the polar decomposition does it), and mirror with
#
# $$Q=I-V(I+U_1)^{-1}V^\top,\qquad V=U+E.$$ {#eq-gauss-mirror}
#
# Since $V^\top V=2(I+U_1)$, $Q^2=I$; and $V^\top E=U_1+I$, so $QE=E-V=-U$. So $Q$ is orthogonal and puts the directions in the place of the waves $E$; the other waves move a little, out of their way.

# %%
#| exports
def cosines(n: int, like: Tensor) -> Tensor:
    "The orthonormal cosine waves of n points, (n, n), a row each, in the precision of `like`: @eq-gauss-cosines."
    k = torch.arange(n, dtype=torch.float64, device=like.device)
    waves = torch.cos(math.pi * k[:, None] * (k + 0.5) / n) * (2 / n) ** 0.5
    return torch.cat([waves[:1] / 2**0.5, waves[1:]]).to(like)


class Basis(nn.Module):
    """An orthonormal basis of images of `shape`: `components` directions, which it can `take`, and one wave of cosines
    and colours for every other dimension, mirrored out of their way: @eq-gauss-mirror.
    """

    def __init__(self, shape: Sequence[int], components: int):
        super().__init__()
        self.shape, k, dims = tuple(shape), components, math.prod(shape)
        self.register_buffer("colours", torch.eye(self.shape[0]))  # a row each
        self.register_buffer("places", torch.arange(k))  # of the waves that make room
        self.register_buffer("mirror", 2 * torch.eye(dims, k))
        self.register_buffer("inverse", torch.eye(k) / 2)
        self.register_buffer("turn", torch.eye(k))

    def waves(self, flat: Tensor, back: bool = False) -> Tensor:
        "Images (N, d) as sums of waves, (N, d), or `back`."
        made = self.colours.to(flat), *(cosines(n, flat) for n in self.shape[1:])
        colour, rows, columns = (m.T for m in made) if back else made
        x = rows @ flat.unflatten(1, self.shape) @ columns.T
        return torch.einsum("ec,nchw->nehw", colour, x).flatten(1)

    def mirrored(self, y: Tensor) -> Tensor: return y - y @ self.mirror @ self.inverse @ self.mirror.T

    def split(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        "The coordinates of images (N, d): along the directions (N, K), and across them (N, d), zero at `places`."
        y = self.mirrored(self.waves(flat))
        return -y[:, self.places] @ self.turn.T, y.index_fill(1, self.places, 0.0)

    def join(self, along: Tensor, across: Tensor) -> Tensor:
        "The images (N, d) with these coordinates."
        y = across.index_copy(1, self.places, -along @ self.turn)
        return self.waves(self.mirrored(y), back=True)

    @property
    def axes(self) -> Tensor:
        "The directions (K, d)."
        k = len(self.places)
        return self.join(torch.eye(k).to(self.mirror), self.mirror.new_zeros(k, len(self.mirror)))

    @torch.no_grad()
    def take(self, axes: Tensor, colours: Tensor) -> None:
        "Take K orthonormal directions (K, d), and colours (C, C)."
        self.colours.copy_(colours)
        U, k = self.waves(axes.double().to(self.mirror.device)).T, len(axes)
        self.places.copy_(U.square().sum(1).topk(k).indices)
        left, _, right = torch.linalg.svd(U[self.places])
        turn = (left @ right).T
        U, one = U @ turn, torch.eye(k).to(U)
        self.turn.copy_(turn)
        self.inverse.copy_(torch.linalg.inv(one + U[self.places]))
        self.mirror.copy_(U.index_add(0, self.places, one))


# %%
some = torch.linalg.qr(torch.randn(48, 5, generator=g, dtype=torch.float64))[0].T
basis = Basis((3, 4, 4), 5).double()
colours = torch.linalg.qr(torch.randn(3, 3, generator=g, dtype=torch.float64))[0]
basis.take(some, colours)
one = torch.eye(48).double()
along, across = basis.split(one)
test_close(basis.join(along, across), one, eps=1e-12)
test_close((along**2).sum(1) + (across**2).sum(1), torch.ones(48), eps=1e-12)
test_close(along, some.T, eps=1e-12)
test_close(basis.axes, some, eps=1e-12)
test_close(basis.mirrored(basis.mirrored(one)), one, eps=1e-12)
test_close(cosines(7, one) @ cosines(7, one).T, torch.eye(7), eps=1e-12)

# %% [markdown]
# Waves of about the same variance and the same colour form a *band* of $n$ coordinates with one variance $\tau^2$. Now pictures differ: one is smooth, the next is all leaves, and a band that is weak in one is strong in the other. So every band of an image has a scale $s$ of its own, one of `SCALES`, which is drawn with the probability $\pi_s$ (a **Gaussian scale mixture** [@wainwright2000scale]):
#
# $$r\,|\,s\sim\mathcal N(0,\,s\,\tau^2I),\qquad p(s|v)\propto\pi_s\,(1+\gamma s\tau^2)^{-n/2}\exp\Big(-\frac{\|v\|^2}{2(1+\gamma s\tau^2)}\Big).$$ {#eq-gauss-scales}
#
# Given $s$ all is Gaussian, so the best estimates are those of @eq-gauss-estimates with $\ell=s\tau^2$, averaged over $p(s|v)$: the band's energy decides how much of it is taken for image. For one scale, $s=1$, it is the Gaussian. The $\pi_s$ are fitted by expectation and maximisation: $\pi_s$ is the mean of $p(s|r)$ over the images, again and again.
#
# If the *code* is known too, the image is still such an image. Its mean is the picture of the code, and of the variance along a coded direction only the share $s_j$ is left:
#
# $$m(z)=m+\sum_j\sqrt{(1-s_j)\,\ell_j}\;z_j\,e_j,\qquad\ell_j\to s_j\,\ell_j.$$ {#eq-lin-picture}
#
# For $\mathrm{cov}(x_0,z_j)=\sqrt{(1-s_j)\ell_j}\,e_j$, and $z_j$ has variance one.

# %%
#| exports
BANDS = 16  # of every colour
SCALES = tuple(2.0 ** (k / 2) for k in range(-20, 11))  # s, of what remains


class Remainder(Basis):
    """Gaussian images: `variances` (K,) along the directions of a `Basis`; in every band of waves across them a variance
    `rest`, times a scale of the image's own, which is s with the probability `weights`: @eq-gauss-scales.
    """

    def __init__(self, shape: Sequence[int], components: int):
        super().__init__(shape, components)
        n, dims = BANDS * self.shape[0], math.prod(self.shape)
        self.register_buffer("variances", torch.full((components,), 0.25))
        self.register_buffer("band", torch.zeros(dims, dtype=torch.int64).index_fill(0, self.places, n))
        self.register_buffer("rest", torch.full((n,), 0.25))  # tau^2
        self.register_buffer("weights", torch.zeros(n, len(SCALES)))
        self.one_scale()

    def one_scale(self) -> None:
        "Take s = 1 in every band: a Gaussian."
        self.weights.copy_(torch.tensor(SCALES) == 1)

    @property
    def members(self) -> Tensor:
        "Which coordinate is in which band: ones and zeros (d, B)."
        return torch.nn.functional.one_hot(self.band, len(self.rest) + 1)[:, :-1]

    @property
    def variance(self) -> Tensor:
        "s tau^2 of every band and scale, (B, S)."
        return self.rest.double()[:, None] * torch.tensor(SCALES, dtype=torch.float64, device=self.rest.device)

    def energies(self, across: Tensor, other: Tensor | None = None) -> Tensor:
        "Sums over every band of squares of coordinates (N, d), or of products with `other`: (N, B)."
        return ((across * (across if other is None else other)) @ self.members.to(across)).double()

    def likely(self, energy: Tensor, noise: Tensor | float, signal: Tensor | float) -> Tensor:
        """log p of every scale and of bands with this energy (..., B), up to a constant: (..., B, S).

        Their coordinates have the variance signal * s tau^2 + noise.
        """
        var, size = signal * self.variance + noise, self.members.sum(0).double()
        w = self.weights.double()
        log_w = torch.where(w > 0, w.clamp(min=1e-30).log(), -math.inf)
        return log_w - (size[:, None] * var.log() + energy[..., None] / var) / 2

    def estimates(self, v: Tensor, gamma: Tensor, variances: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x0_hat - m and eps_hat, (N, ...), from images in units of their noise, v = (x_t - b m) / c, at gamma (N,).

        `variances` (K,) along the directions, in place of its own.
        """
        own, gamma = self.variances if variances is None else variances, gamma.double().reshape(-1, 1)
        along, across = self.split(v.flatten(1))
        p, l = self.likely(self.energies(across), 1.0, gamma[..., None]).softmax(-1), self.variance
        own, size = own.double(), self.members.sum(0)
        shares = [(p * l / (1 + gamma[..., None] * l)).sum(-1), (p / (1 + gamma[..., None] * l)).sum(-1)]
        firsts = [own / (1 + gamma * own), 1 / (1 + gamma * own)]
        each = lambda f: torch.cat([f, f[:, :1]], 1)[:, self.band].to(v)  # of a band's coordinates, and of none
        root = gamma.sqrt()
        image = self.join(along * (root * firsts[0]).to(v), across * each(root * shares[0]))
        most = (firsts[1].sum(1) + (shares[1] * size).sum(1))[:, None] / across.shape[1]  # a difference loses no digits
        noise = self.join(along * (firsts[1] - most).to(v), across * each(shares[1] - most))
        return image.view_as(v), (noise + most.to(v) * v.flatten(1)).view_as(v)


# %%
law, path = Remainder((2, 4, 4), 3).double(), VPCosine()
law.rest.copy_(torch.rand(len(law.rest), generator=g, dtype=torch.float64))
law.weights.copy_(torch.rand(law.weights.shape, generator=g, dtype=torch.float64))
law.weights.div_(law.weights.sum(1, keepdim=True))
waves = law.band < len(law.rest)
law.band[waves] = torch.arange(29) % 5  # five bands
for at in (0.1, 1.0, 30.0):
    v = 3 * torch.randn(4, 2, 4, 4, generator=g, dtype=torch.float64)
    flat = v.flatten(1).requires_grad_()
    along, across = law.split(flat)
    logs = law.likely(law.energies(across), 1.0, at).logsumexp(-1).sum()
    var = 1 + at * law.variances
    logs = logs - (along**2 / var).sum() / 2
    score = torch.autograd.grad(logs, flat)[0]
    image, noise = law.estimates(v, torch.full((4,), at, dtype=torch.float64))
    test_close(noise.flatten(1), -score, eps=1e-9)  # Tweedie, in units of the noise
    test_close(at**0.5 * image + noise, v, eps=1e-9)


# %%
#| exports
class Gaussian(Remainder):
    """The Gaussian of a set of images of `shape`: mean, principal directions and variances, and what remains in bands.

    `fit` it to images first; until then it is N(0, I / 4). With what it knows, `estimates` denoises.
    """

    def __init__(self, shape: Sequence[int], components: int = 64):
        dims = math.prod(check_shape(shape))
        super().__init__(shape, min(require_int(components, "components"), dims))
        self.register_buffer("center", torch.zeros(dims))
        self.register_buffer("fitted", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        "Take all moments from floating-point images (N, C, H, W), N >= 2, in place of what was there."
        ok = x.is_floating_point() and x.ndim == 4 and tuple(x.shape[1:]) == self.shape and len(x) > 1
        require(ok, "x", x, f"two or more floating-point images {self.shape}")
        require(bool(x.isfinite().all()), "x", "NaN or infinite values", "finite images")
        k = min(len(self.variances), len(x) - 1)
        mean, axes, variances = principal(x, k)
        self.center.copy_(mean)
        self.variances.fill_(LEAST)
        self.variances[:k].copy_(variances.clamp(min=LEAST))
        parts = lambda: (part.to(self.center).flatten(1) - self.center for part in x.split(1000))
        pixels = (p.unflatten(1, self.shape).transpose(0, 1).flatten(1).double() for p in parts())
        self.take(self._completed(axes), torch.linalg.eigh(sum(p @ p.T for p in pixels))[1].T.flip(0))
        self._bands(sum(self.split(p)[1].double().square().sum(0) for p in parts()) / len(x))
        self._scales(torch.cat([self.energies(self.split(p)[1]) for p in parts()]))
        self.fitted.fill_(1)

    def _completed(self, axes: Tensor) -> Tensor:
        "As many orthonormal directions as it has, of which these (k, d) are the first."
        more = torch.randn(len(self.variances) - len(axes), axes.shape[1], generator=rng(0)).to(axes)
        return torch.cat([axes, torch.linalg.qr(torch.cat([axes, more]).T)[0].T[len(axes):]])

    def _bands(self, variances: Tensor) -> None:
        "Sort waves into bands by their colour and the variance (d,) of their coordinates."
        log = variances.clamp(min=LEAST).log().view(self.shape[0], -1)
        free = torch.ones_like(log, dtype=torch.bool).view(-1).index_fill(0, self.places, False).view_as(log)
        low = log.masked_fill(~free, math.inf).amin(1, keepdim=True).nan_to_num(posinf=0.0)
        high = log.masked_fill(~free, -math.inf).amax(1, keepdim=True).nan_to_num(neginf=0.0)
        within = (BANDS * (log - low) / (high - low).clamp(min=1e-6)).long().clamp(0, BANDS - 1)
        band = within + BANDS * torch.arange(self.shape[0], device=log.device)[:, None]
        self.band.copy_(band.view(-1).index_fill(0, self.places, len(self.rest)))
        total = variances @ self.members.double()
        self.rest.copy_((total / self.members.sum(0).clamp(min=1)).clamp(min=LEAST))

    def _scales(self, energy: Tensor, rounds: int = 30) -> None:
        "The most likely weights of the scales, by expectation and maximisation, of bands with this energy (N, B)."
        self.weights.fill_(1 / len(SCALES))
        for _ in range(rounds):
            p = self.likely(energy, 0.0, 1.0).softmax(-1).mean(0)
            self.weights.copy_((p + 1e-4) / (p + 1e-4).sum(1, keepdim=True))

    @torch.no_grad()
    def isotropic(self, center: Tensor, axes: Tensor, variances: Tensor, rest: Tensor, fitted: Tensor) -> None:
        "Take mean, K orthonormal directions and their variances, and one variance () for all that remains."
        self.take(axes, torch.eye(self.shape[0]))
        given = {"center": center, "variances": variances, "rest": rest, "fitted": fitted}
        for name, value in given.items(): getattr(self, name).copy_(value)
        self.band.zero_().index_fill_(0, self.places, len(self.rest))
        self.one_scale()

    def known(self, left: Tensor) -> Tensor:
        "The variances (K,) once a code is known that leaves the share `left` (k,) of the first k."
        share = torch.ones_like(self.variances)
        share[: len(left)] = left[: len(share)].to(share)
        return self.variances * share

    def spread(self, variances: Tensor | None = None) -> Tensor:
        "The mean variance of a pixel, (); with the `variances` (K,) of the directions in place of its own."
        own = self.variances if variances is None else variances
        return (own.sum() + self.members.sum(0).to(self.rest) @ self.rest) / len(self.center)

    @torch.no_grad()
    def level(self, x_t: Tensor, u: Tensor, vp: bool = True) -> Tensor:
        """The log gamma (N,) that noisy images (N, C, H, W) show, between the ends of the grid `u` (M,): @eq-gauss-level.

        The most likely of the grid, refined by a parabola through its neighbours; `vp`: b^2 + c^2 = 1, else b = 1.
        """
        u = u.double().to(x_t.device)
        gamma = u.exp()[:, None]
        b = (gamma / (1 + gamma)).sqrt() if vp else torch.ones_like(gamma)  # (M, 1)
        (along, across), (first, rest) = (self.split(v.to(x_t)) for v in (x_t.flatten(1), self.center[None]))
        e, cross, own = self.energies(across), self.energies(across, rest), self.energies(rest)
        energy = (e[:, None] - 2 * b * cross[:, None] + b**2 * own[:, None]).clamp(min=0)  # (N, M, B)
        noise = b**2 / gamma
        cost = -self.likely(energy, noise[..., None], (b**2)[..., None]).logsumexp(-1).sum(-1)
        var = b**2 * self.variances.double() + noise
        cost = cost + (((along[:, None] - b * first[:, None]) ** 2 / var) + var.log()).sum(-1) / 2
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
# In the six-dimensional world above the estimate must be the exact one, without a code and with it, on every path; on a bridge that ends at the picture of the code, what conditioning gives. The network here says nothing.

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
# Single precision does it too, beside double, at both ends of the noise scale. At the end of a bridge, where $\gamma=0$, the estimate is the mean; without noise it is the image.

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
# How well? The **Fisher information**, the mean curvature of minus the log-likelihood in the unknown, adds up over independent numbers, and the most likely value has a variance of one over it (for many numbers; we only check it). One normal number of mean zero and variance $e^\rho$ costs $\tfrac12(\rho+y^2e^{-\rho})$, of mean curvature $\tfrac12$ in $\rho$. (What the means tell is left out.) Here $b^2\ell+c^2=(1+\gamma\ell)/(1+\gamma)$, so the logarithm's derivative in $u$ is $w_j-b^2$, and for many directions
#
# $$\operatorname{std}\hat u\approx\Big[\tfrac12\sum_j(w_j-b^2)^2\Big]^{-1/2},$$ {#eq-gauss-fisher}
#
# $\sqrt{2/d}/b^2$ where no direction is seen. Where all are, $w_j\approx1\approx b^2$, and the level cannot be told, nor need it: the image is clear. In much noise ($b^2\ll1$) it cannot be told either. Scales that are unknown add to @eq-gauss-level the sum over them; with one scale, and images with the moments of the patches, the prediction holds within a fifth:

# %%
pictures = Gaussian(patches.shape[1:], 128)
pictures.fit(patches)
pictures.one_scale()
rest = pictures.members.float() @ pictures.rest
l = torch.cat([pictures.variances, rest[rest > 0]])
along = torch.randn(400, 128, generator=g) * pictures.variances.sqrt()
across = torch.randn(400, 768, generator=g) * rest.sqrt()
flat = pictures.center + pictures.join(along, across)
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
# Then @eq-lin-law is not the law of $z$ given $x_t$, only the best *linear* account of it. Two things stay true, because they involve second moments only: of all affine estimates of the code, the mean has the least squared error, and the variance is that error, averaged over images. Below: the estimate is $A\,\Sigma\,b\,(b^2\Sigma+c^2I)^{-1}(x_t-b\,m)$, and the errors are what the variances say.

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
# Before `fit`, and where there is nothing to tell, the code says its prior; superfluous axes are left out. Sets without variance still give a Gaussian that denoises.

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
# * **Taking principal components for factors.** They order directions by variance, whatever made it. Which factor is which is a question for [Disentanglement](../measures/32_disentanglement.ipynb).
# * **Using the clean image's law on noisy images.** With $w=1$ at every level the code is overconfident, and its guidance does harm.
