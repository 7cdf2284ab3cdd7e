# %% [markdown]
# # Distributions
#
# > How close a set of generated images is to real ones: Fréchet distance, KID, precision and recall, sliced Wasserstein, each beside its floor.

# %% [markdown]
# A reconstruction has its own target; a generated image has none. What can be compared is two *sets*: real images and generated ones. Each measure here takes two sets of feature vectors $(N,F)$ and says how far their laws are apart. This page proves each against a closed form or independent code, and derives the one fact that most tables leave out: two halves of the *same* data are not at distance zero. That distance is the **floor**, and no number means anything without it.

# %%
#| default_exp measures.distributions

# %%
#| exports
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scoreae.core.checks import check_images, in_batches, require, require_choice, require_int, require_number, rng

# %%
#| hide
import math
from unittest.mock import patch

import matplotlib.pyplot as plt
import numpy as np
from fastcore.test import expect_fail, test_close, test_eq
from scipy.linalg import sqrtm
from scipy.stats import norm, wasserstein_distance
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import poly_mmd

from scoreae.core.pages import Table, paper

# %%
#| hide
paper()


# %% [markdown]
# ## Fréchet distance
#
# Replace each set by the Gaussian with its mean and covariance. The squared 2-Wasserstein distance of two Gaussians is known [@dowson1982frechet], and with Inception features it is the FID [@heusel2017ttur]:
#
# $$\mathrm{FD}=\|m_1-m_2\|^2+\operatorname{tr}\Sigma_1+\operatorname{tr}\Sigma_2-2\operatorname{tr}(\Sigma_1\Sigma_2)^{1/2}.$$ {#eq-frechet}
#
# The matrix root is where code goes wrong: $\Sigma_1\Sigma_2$ is not symmetric, its rank is at most $N-1$, and rounding makes its small eigenvalues negative or complex. It is not needed. Write $\Sigma_i=R_i^\top R_i$ with any factors. The eigenvalues of $\Sigma_1\Sigma_2=R_1^\top(R_1R_2^\top R_2)$ are those of $(R_1R_2^\top R_2)R_1^\top=(R_1R_2^\top)(R_1R_2^\top)^\top$, apart from zeros. Their roots are the singular values of $R_1R_2^\top$, so
#
# $$\operatorname{tr}(\Sigma_1\Sigma_2)^{1/2}=\sum_k s_k\big(R_1R_2^\top\big).$$ {#eq-nuclear}
#
# A QR decomposition of the centred features, divided by $\sqrt{N-1}$, gives $R_i$; a covariance is never formed, its square never taken.

# %%
#| exports
def _features(f: Tensor, name: str, least: int = 2, width: int | None = None) -> Tensor:
    "Checked features (N, F) in float64: N >= `least`, finite, F = `width` if given."
    want = f"finite floating-point features (N, {width or 'F'}) with N >= {least}"
    ok = isinstance(f, Tensor) and f.is_floating_point() and f.ndim == 2 and len(f) >= least and f.shape[1] > 0
    require(ok and f.shape[1] == (width or f.shape[1]), name, f, want)
    require(bool(f.isfinite().all()), name, "NaN or infinite values", want)
    return f.detach().double()


def frechet(real: Tensor, fake: Tensor) -> float:
    """Fréchet distance of two sets of features (N, F) and (M, F), >= 0, in squared units of the features.

    Of the Gaussians with the sets' means and unbiased covariances (Heusel et al. 2017). Biased upwards, as 1/N.
    """
    real = _features(real, "real")
    fake = _features(fake, "fake", width=real.shape[1])
    r1, r2 = (torch.linalg.qr((f - f.mean(0)) / (len(f) - 1) ** 0.5, mode="r").R for f in (real, fake))
    shift = (real.mean(0) - fake.mean(0)).square().sum()
    distance = shift + r1.square().sum() + r2.square().sum() - 2 * torch.linalg.svdvals(r1 @ r2.T).sum()
    return max(0.0, float(distance))


# %% [markdown]
# Three checks. Sets made to have *exactly* given moments, with commuting covariances, for which @eq-frechet is $\|m_1-m_2\|^2$ plus the sum of $(\text{std}_1-\text{std}_2)^2$ over the axes. Sets in general position, against scipy's matrix root and torchmetrics. And fewer points than features, where both covariances are singular.

# %%
def normal(n, f, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, f, generator=g, dtype=torch.float64)


def whitened(f):
    "The set moved and stretched to mean exactly 0 and covariance exactly I."
    f = f - f.mean(0)
    return f @ torch.linalg.inv(torch.linalg.cholesky(f.T.cov())).T


def by_roots(f, g):
    m, (s1, s2) = f.mean(0) - g.mean(0), ((v.T.cov()).numpy() for v in (f, g))
    return float(m @ m) + np.trace(s1 + s2 - 2 * sqrtm(s1 @ s2).real)


std1, std2 = torch.tensor([3.0, 1.0, 1e-4]), torch.tensor([1.0, 2.0, 1e-5])
f, g = whitened(normal(50, 3)) * std1, whitened(normal(80, 3, 1)) * std2 + 1
test_close(frechet(f, g), 3 + (std1 - std2).square().sum().item(), eps=1e-6)

f, g = normal(300, 6) @ normal(6, 6, 1), 0.5 + normal(200, 6, 2) @ normal(6, 6, 3)
peer = FrechetInceptionDistance(nn.Identity(), input_img_size=(6,))
peer.set_dtype(torch.float64)
peer.update(f, real=True)
peer.update(g, real=False)
test_close(frechet(f, g), by_roots(f, g), eps=1e-9)
test_close(frechet(f, g), peer.compute().item(), eps=1e-9)

few, other = normal(10, 40), normal(12, 40, 1)
s1, s2, shift = few.T.cov(), other.T.cov(), few.mean(0) - other.mean(0)
root = torch.linalg.eigvals(s1 @ s2).real.clamp(min=0).sqrt().sum()
closed = shift.square().sum() + s1.trace() + s2.trace() - 2 * root
test_close(frechet(few, other), closed.item(), eps=1e-5)
assert frechet(few, few) < 1e-12
round(frechet(f, g), 6)

# %%
with expect_fail(ValueError,
                 contains="fake: expected finite floating-point features (N, 40)"):
    frechet(few, f)


# %% [markdown]
# ## Its floor
#
# Let both sets, of sizes $N$ and $M$, come from one Gaussian with covariance $V=\operatorname{diag}(v_1,\dots,v_F)$. The sample means differ by $\mathbb E\|m_1-m_2\|^2=(\tfrac1N+\tfrac1M)\operatorname{tr}V$. The sample covariances are both close to $V$; to leading order in their difference $\Delta$, take them to be $V$ and $V+\Delta$. The product $V(V+\Delta)$ has the eigenvalues of $V^{1/2}(V+\Delta)V^{1/2}=V^2+V^{1/2}\Delta V^{1/2}$. Write the root of this matrix as $V+Q_1+Q_2$, by orders of $\Delta$, and square:
#
# * first order: $VQ_1+Q_1V=V^{1/2}\Delta V^{1/2}$, so $(Q_1)_{ij}=\sqrt{v_iv_j}\,\Delta_{ij}/(v_i+v_j)$ and $\operatorname{tr}Q_1=\tfrac12\operatorname{tr}\Delta$;
# * second order: $VQ_2+Q_2V=-Q_1^2$, so $\operatorname{tr}Q_2=-\sum_{ij}(Q_1)_{ij}^2/(2v_i)$, which, averaged over swapping $i$ and $j$, is $-\tfrac14\sum_{ij}\Delta_{ij}^2/(v_i+v_j)$.
#
# The trace terms of @eq-frechet are $\operatorname{tr}(2V+\Delta)-2\operatorname{tr}(V+Q_1+Q_2)=\tfrac12\sum_{ij}\Delta_{ij}^2/(v_i+v_j)$. For Gaussian data $\mathbb E\Delta_{ij}^2\approx(\tfrac1N+\tfrac1M)(v_iv_j+\delta_{ij}v_i^2)$, so, for large $N$ and $M$,
#
# $$\mathbb E\,\mathrm{FD}\approx\Big(\frac1N+\frac1M\Big)\Big[\frac54\sum_iv_i+\frac12\sum_{ij}\frac{v_iv_j}{v_i+v_j}\Big].$$ {#eq-frechet-floor}
#
# For $V=I$ and $N=M$ this is $F(F+5)/(2N)$: the floor grows with the *square* of the number of features, and is zero only for infinitely many images [see also @chong2020unbiased]. With FID's 2048 features, were their eigenvalues equal, two sets of 50,000 images of one law would be at 2 % of the trace of the covariance.

# %%
def expected_floor(v, n, m):
    "For eigenvalues v (F,) of the covariance."
    pairs = v[:, None] * v / (v[:, None] + v)
    return (1 / n + 1 / m) * (1.25 * v.sum() + 0.5 * pairs.sum()).item()


test_close(expected_floor(torch.ones(8), 400, 400), 8 * 13 / 800, eps=1e-6)
test_close(expected_floor(torch.ones(2048), 50000, 50000) / 2048, 0.02, eps=1e-3)
spread = torch.tensor([4.0, 2.0, 1.0, 0.5, 0.1, 0.01]).double()
draws = [(normal(500, 6, i), normal(700, 6, 1000 + i)) for i in range(100)]
seen = [frechet(f * spread.sqrt(), g * spread.sqrt()) for f, g in draws]
want = expected_floor(spread, 500, 700)
test_close(np.mean(seen), want, eps=4 * np.std(seen) / 10)
f"measured {np.mean(seen):.4f} ± {np.std(seen) / 10:.4f}, predicted {want:.4f}"


# %% [markdown]
# ## KID
#
# The squared maximum mean discrepancy [@gretton2012mmd] with a kernel $k$ needs no Gaussian and has an *unbiased* estimate. With the cubic kernel it is the KID [@binkowski2018kid]:
#
# $$\mathrm{KID}=\frac{\sum_{i\ne j}k(x_i,x_j)}{n(n-1)}+\frac{\sum_{i\ne j}k(y_i,y_j)}{n(n-1)}-\frac{2\sum_{ij}k(x_i,y_j)}{n^2},\qquad k(x,y)=\Big(\frac{x\cdot y}F+1\Big)^3.$$ {#eq-kid}
#
# Leaving out $i=j$ makes each sum an average of $k$ over independent pairs, so the expectation is exactly $\mathbb E\,k(x,x')+\mathbb E\,k(y,y')-2\,\mathbb E\,k(x,y)$ at every $n$, and zero for equal laws: the estimate may be negative. For an honest standard error the sets are cut into *disjoint* blocks, whose estimates are independent. (Overlapping subsets share images: their spread over the root of their number goes to zero with more subsets, which the error does not.)

# %%
#| exports
def kid(real: Tensor, fake: Tensor, blocks: int = 10, seed: int | torch.Generator | None = 0) -> tuple[float, float]:
    """Kernel distance (unbiased squared MMD, cubic kernel) of two sets of features (N, F), and its standard error.

    Both sets are shuffled and cut into `blocks` >= 2 disjoint blocks of at least 2 (Binkowski et al. 2018).
    """
    least = 2 * require_int(blocks, "blocks", 2)
    real = _features(real, "real", least)
    fake = _features(fake, "fake", least, real.shape[1])
    g, n = rng(seed), min(len(real), len(fake)) // blocks

    def cut(f): return f[torch.randperm(len(f), generator=g)[: n * blocks].to(f.device)].reshape(blocks, n, -1)
    def kernel(a, b): return (a @ b.mT / a.shape[-1] + 1) ** 3
    def pairs(k): return (k.sum((1, 2)) - k.diagonal(dim1=1, dim2=2).sum(1)) / (n * (n - 1))

    x, y = cut(real), cut(fake)
    each = pairs(kernel(x, x)) + pairs(kernel(y, y)) - 2 * kernel(x, y).mean((1, 2))
    return float(each.mean()), float(each.std() / blocks**0.5)


# %% [markdown]
# A block is what torchmetrics computes. Over 200 repetitions with equal laws, the estimates average to zero, and estimate over standard error has the spread of a Student variable with 9 degrees of freedom, $\sqrt{9/7}=1.13$.

# %%
f, h, g = normal(40, 5), normal(40, 5, 1) + 0.3, rng(0)
i, j = (torch.randperm(40, generator=g).reshape(4, 10) for _ in range(2))
blocks = [poly_mmd(f[a], h[b]).item() for a, b in zip(i, j, strict=True)]
want = np.mean(blocks), np.std(blocks, ddof=1) / 2
test_close(kid(f, h, 4, seed=0), want, eps=1e-12)

null = np.array([kid(normal(100, 5, i), normal(100, 5, 1000 + i)) for i in range(200)])
mean, error = null[:, 0].mean(), null[:, 0].std() / 200**0.5
t = null[:, 0] / null[:, 1]
test_close(mean, 0, eps=3 * error)
test_close(t.std(), (9 / 7) ** 0.5, eps=0.15)
f"mean {mean:.3f} ± {error:.3f}, spread of the ratio {t.std():.2f}"

# %%
with expect_fail(ValueError, contains="features (N, F) with N >= 20"): kid(f[:9], h)


# %% [markdown]
# ## Precision and recall
#
# One number cannot tell bad images from missing ones. Put a ball around each point, out to its $k$-th nearest neighbour in its own set; the union of balls is a rough support [@kynkaanniemi2019]. **Precision** is the share of generated points inside a real ball, **recall** the share of real points inside a generated ball. One outlier's huge ball catches much, so @naeem2020 add two that use only real balls: **density**, the average *number* of real balls around a generated point, over $k$; and **coverage**, the share of real balls that catch at least one generated point.
#
# For equal laws, both sets of size $N$, and no ties, two expectations are exact, whatever the law. A generated point and the $N-1$ other real points are exchangeable, so it is among the $k$ nearest of a real point with probability $k/N$; summed over $N$ balls, the expected density is 1. And a ball catches nothing when the $k$ nearest of all $2N-1$ other points are real:
#
# $$\mathbb E[\text{coverage}]=1-\prod_{j=0}^{k-1}\frac{N-1-j}{2N-1-j}\approx1-2^{-k}.$$ {#eq-coverage}

# %%
#| exports
class Manifold(NamedTuple):
    "Shares in [0, 1], and the density >= 0 (1 for equal laws), of `precision_recall`."
    precision: float
    recall: float
    density: float
    coverage: float


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> Manifold:
    """Precision, recall, density and coverage of generated features (M, F) against real ones (N, F), with N, M > k.

    Balls out to the k-th nearest neighbour in the own set (Kynkäänniemi et al. 2019; Naeem et al. 2020).
    """
    real = _features(real, "real", require_int(k, "k") + 1)
    fake = _features(fake, "fake", k + 1, real.shape[1])

    def distance(a, b): return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
    def radius(f): return in_batches(lambda rows: distance(rows, f).kthvalue(k + 1, 1).values, f)  # the first is itself

    r, s = radius(real), radius(fake)
    inside = in_batches(lambda rows: (distance(rows, real) <= r).sum(1), fake)  # real balls around a generated point
    caught = in_batches(lambda rows: (distance(rows, fake) <= s).any(1), real)
    covered = in_batches(lambda rows, ball: (distance(rows, fake) <= ball[:, None]).any(1), real, r)
    parts = (inside > 0, caught, inside / k, covered)
    return Manifold(*(float(v.double().mean()) for v in parts))


# %% [markdown]
# Against scikit-learn's neighbours, and against the two expectations.

# %%
f, h = normal(60, 4), 0.8 * normal(50, 4, 1) + 0.5


def balls(centres, points, k):
    near = NearestNeighbors(n_neighbors=k).fit(centres)
    radii = near.kneighbors()[0][:, -1]  # of each centre, itself left out
    return np.linalg.norm(points[:, None] - centres[None], axis=2) <= radii


a, b = balls(f.numpy(), h.numpy(), 3), balls(h.numpy(), f.numpy(), 3)
want = a.any(1).mean(), b.any(1).mean(), a.sum(1).mean() / 3, a.any(0).mean()
test_close(precision_recall(f, h, 3), want)

same = np.array([precision_recall(normal(60, 4, i), normal(60, 4, 1000 + i), 3)
                 for i in range(100)])
coverage = 1 - np.prod([(59 - j) / (119 - j) for j in range(3)])
assert (np.abs(same.mean(0)[2:] - (1, coverage)) < 4 * same.std(0)[2:] / 10).all()
measured = dict(zip(Manifold._fields, same.mean(0).tolist(), strict=True))
Table({"measured": measured, "expected": {"density": 1.0, "coverage": coverage}},
      name="equal laws")


# %% [markdown]
# ## Sliced Wasserstein
#
# In one dimension the 1-Wasserstein distance of two sets is the area between their distribution functions, $W_1=\int|P(u)-Q(u)|\,du$, at the cost of a sort. The sliced distance [@bonneel2015sliced] averages it over random unit vectors $e$:
#
# $$\mathrm{SW}_1=\mathbb E_e\,W_1(e\cdot x,\ e\cdot y).$$ {#eq-sliced}
#
# It sees the whole law, not moments, and needs no network: pixels will do.

# %%
#| exports
def sliced_wasserstein(x: Tensor, y: Tensor, directions: int = 512, seed: int | torch.Generator | None = 0) -> float:
    """Sliced 1-Wasserstein distance of two sets (N, ...) and (M, ...) of images or features, in their units, >= 0.

    Mean over `directions` random unit vectors; everything after the first axis is one vector (Bonneel et al. 2015).
    """
    x, y = (v.flatten(1) if isinstance(v, Tensor) and v.ndim > 2 else v for v in (x, y))
    x = _features(x, "x", 1)
    y = _features(y, "y", 1, x.shape[1])
    count = require_int(directions, "directions")
    theta = torch.randn(count, x.shape[1], generator=rng(seed), dtype=torch.float64).to(x.device)
    theta = theta / theta.norm(dim=1, keepdim=True)

    def area(rows):
        p, q = ((rows @ v.T).sort(1).values for v in (x, y))
        both = torch.cat([p, q], 1).sort(1).values
        P, Q = (torch.searchsorted(v, both[:, :-1].contiguous(), right=True) / v.shape[1] for v in (p, q))
        return ((P - Q).abs() * both.diff(dim=1)).sum(1)

    return float(in_batches(area, theta, size=64).mean())


# %% [markdown]
# One feature: exactly scipy's distance. A set against itself moved by $\delta$: each slice is $|e\cdot\delta|$, and $\mathbb E|e\cdot\delta|=\|\delta\|\,\Gamma(\tfrac F2)/\big(\sqrt\pi\,\Gamma(\tfrac{F+1}2)\big)$. And a law that moments confuse with a normal one: a fair $\pm1$ has the same first three. The best transport moves $u$ to its sign, so $W_1=\mathbb E\big||u|-1\big|\approx0.535$. FD and KID see nothing there: two and three moments are all that enters them.

# %%
u, v = normal(70, 1), 2 * normal(45, 1, 1) + 1
test_close(sliced_wasserstein(u, v), wasserstein_distance(u[:, 0], v[:, 0]), eps=1e-6)
moved = sliced_wasserstein(f, f + 1, directions=4000)
test_close(moved, 2 * math.gamma(2) / (math.pi**0.5 * math.gamma(2.5)), eps=0.02)

u, sign = normal(5000, 1, 2), torch.tensor([-1.0, 1.0]).repeat(2500)[:, None]
fd, (mean, error), w1 = frechet(u, sign), kid(u, sign), sliced_wasserstein(u, sign, 1)
test_close(w1, norm.expect(lambda u: abs(abs(u) - 1)), eps=0.03)
assert fd < 0.01 and abs(mean) < 3 * error
f"FD {fd:.4f}, KID {mean:.4f} ± {error:.4f}, W1 {w1:.3f}"


# %% [markdown]
# ## Features: a small classifier
#
# Distances between pixels are poor judges of pictures. FID takes the features of a network trained on ImageNet. For digits, and without a download, a small classifier trained on *labelled images of the same kind* serves: three convolutions, a mean over positions, a linear layer. Its last features, standardised on its training set so that no axis rules by its scale, are the space of the measures above. Their Fréchet distance is called **FD-clf**, never FID: its unit is this classifier's, and a value is comparable only with values by the same one. The activations are smooth (SiLU): a dead ReLU would be a feature without spread.

# %%
#| exports
class Classifier(nn.Module):
    "A small convolutional network, images (N, C, H, W) to logits (N, classes), with its features' mean and spread."

    def __init__(self, channels: int, classes: int, features: int = 32):
        super().__init__()
        layers = [nn.Conv2d(channels, 16, 3, padding=1), nn.Conv2d(16, 32, 3, stride=2, padding=1)]
        layers += [nn.Conv2d(32, features, 3, padding=1)]
        self.body = nn.Sequential(*[step for layer in layers for step in (layer, nn.SiLU())])
        self.head = nn.Linear(features, classes)
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))

    def pooled(self, x: Tensor) -> Tensor: return self.body(x).mean((2, 3))
    def forward(self, x: Tensor) -> Tensor: return self.head(self.pooled(x))


def clf_features(model: Classifier, x: Tensor) -> Tensor:
    "Features (N, F) of images (N, C, H, W) in [-1, 1], standardised by the mean and spread of the training images."
    check_images(x)
    require(x.shape[1] == model.body[0].in_channels, "x", x, f"images with {model.body[0].in_channels} channels")
    with torch.no_grad(): return (in_batches(model.pooled, x.to(model.mean)) - model.mean) / model.std


# %% [markdown]
# Training is Adam on the cross-entropy. Start and batches follow from the seed, and the global random state is left as it was: the same call gives the same network.

# %%
#| exports
def fit_classifier(
    x: Tensor, y: Tensor, seed: int = 0, steps: int = 300, features: int = 32, batch_size: int = 128, lr: float = 3e-3
) -> Classifier:
    """Train a `Classifier` on images (N, C, H, W) in [-1, 1], N >= 2, and labels (N,) of int64 >= 0.

    On one machine the same arguments give the same network, to the last bit on a CPU.
    """
    check_images(x)
    ok = isinstance(y, Tensor) and y.dtype == torch.int64 and y.shape == (len(x),) and len(y) > 1 and int(y.min()) >= 0
    require(ok, "y", y, f"labels of int64 >= 0 with shape ({len(x)},), at least 2")
    require_number(lr, "lr", 0, 1, above=True)
    g, seed = rng(seed), require_int(seed, "seed", 0)
    steps, batch_size = require_int(steps, "steps"), require_int(batch_size, "batch_size")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Classifier(x.shape[1], int(y.max()) + 1, require_int(features, "features")).to(x.device)
    adam = torch.optim.Adam(model.parameters(), lr)
    for _ in range(steps):
        rows = torch.randint(len(x), (batch_size,), generator=g).to(x.device)
        adam.zero_grad()
        F.cross_entropy(model(x[rows].float()), y[rows]).backward()
        adam.step()
    model.eval().requires_grad_(False)
    pooled = in_batches(model.pooled, x.float())
    model.mean.copy_(pooled.mean(0))
    model.std.copy_(pooled.std(0))
    require(bool((model.std > 0).all()), "x", x, "images that are not all alike")
    return model


# %% [markdown]
# 700 digits train the classifier and are used for nothing else. It is right on more than nine of ten others, and training again gives the same features to the last bit.

# %%
data = load_digits()
order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
digits = torch.tensor(data.images[order, None] / 8 - 1, dtype=torch.float32)
labels = torch.tensor(data.target[order])
clf = fit_classifier(digits[:700], labels[:700])
digits, labels = digits[700:], labels[700:]  # all that follows

state = torch.get_rng_state()
short, again = (fit_classifier(digits[:99], labels[:99], steps=5) for _ in range(2))
test_eq(clf_features(short, digits), clf_features(again, digits))
test_eq(torch.get_rng_state(), state)
accuracy = (clf(digits).argmax(1) == labels).float().mean().item()
assert accuracy > 0.9
f"{100 * accuracy:.1f} % of {len(labels)} other digits"

# %%
with expect_fail(ValueError, contains="y: expected labels of int64"):
    fit_classifier(digits, labels.float())

# %% [markdown]
# ## The bias, measured
#
# Disjoint halves of *real* digits, $2N$ at a time: FD-clf against $N$, with the line that @eq-frechet-floor draws from the eigenvalues of the features' covariance; and KID, which stays around zero. Bars are spreads over twelve draws.

# %%
#| label: fig-bias
#| fig-cap: 'Real digits against real digits, twelve draws at each size. The Fréchet distance is never zero and falls as $1/N$, close to the predicted line; KID stays around zero.'
#| fig-alt: 'Two charts against the images in each set, from 24 to 548. Left, with logarithmic axes, FD-clf: dots with bars fall from about 8 to about 0.3 along or a little below a dashed line. Right, KID: dots lie around the line at zero, and their bars shrink as the sets grow.'
real = clf_features(clf, digits)
eigenvalues = torch.linalg.eigvalsh(real.double().T.cov())
sizes, g = [24, 48, 96, 192, 384, 548], rng(0)
halves = {n: [real[torch.randperm(len(real), generator=g)[: 2 * n]].split(n)
              for _ in range(12)] for n in sizes}
distance = np.array([[frechet(*pair) for pair in halves[n]] for n in sizes])
kernel = np.array([[kid(*pair, blocks=4)[0] for pair in halves[n]] for n in sizes])
line = [expected_floor(eigenvalues, n, n) for n in sizes]
test_close(distance.mean(1)[2:] / line[2:], np.ones(4), eps=0.25)
assert (np.abs(kernel.mean(1)) < 3 * kernel.std(1) / 12**0.5).all()

fig, (left, right) = plt.subplots(1, 2, figsize=(7, 2.8))
left.errorbar(sizes, distance.mean(1), distance.std(1), fmt="o", label="measured")
left.plot(sizes, line, "--", label="predicted, $\\propto1/N$")
left.set(xscale="log", yscale="log", ylabel="FD-clf", title="Fréchet: biased")
left.legend()
right.errorbar(sizes, kernel.mean(1), kernel.std(1), fmt="s", color="C2")
right.axhline(0, color="0.5", lw=1)
right.set(xscale="log", ylabel="KID", title="KID: unbiased")
for ax in (left, right):
    ax.set_xlabel("images in each set, $N$")
    ax.set_xticks([24, 96, 384], ["24", "96", "384"])
    ax.minorticks_off()


# %% [markdown]
# The line is for a Gaussian; the features of digits are ten clusters, and lie up to a fifth below it. What to do about the bias: use as many images as there are; use the *same* number for every model; and write the floor beside the value.
#
# ## A number beside its floor
#
# `with_floor` halves the real set at random, again and again. One half is the reference; the other half, and equally many generated images, are measured against it. Both compare equally many images, so a perfect generator lies on the floor.

# %%
#| exports
class Floored(NamedTuple):
    "A measure of generated against real, and of real against real, at equal numbers; spreads over random halves."
    value: float
    spread: float
    floor: float
    floor_spread: float


def with_floor(
    metric: Callable[[Tensor, Tensor], float],
    real: Tensor,
    fake: Tensor,
    splits: int = 10,
    seed: int | torch.Generator | None = 0,
) -> Floored:
    """`metric(real, fake)` beside its floor: means and spreads over `splits` >= 2 random halves of `real` (N, ...).

    `fake` (M, ...) needs M >= N // 2. A spread is that of one half; the halves overlap, so it is not a standard error.
    """
    half, g = len(real) // 2, rng(seed)
    require(half >= 1, "real", real, "at least 2 images or features")
    require(len(fake) >= half, "fake", fake, f"at least {half} images or features, half as many as real")
    both = []
    for _ in range(require_int(splits, "splits", 2)):
        order = torch.randperm(len(real), generator=g).to(real.device)
        chosen = torch.randperm(len(fake), generator=g)[:half].to(fake.device)
        reference, rest = real[order[:half]], real[order[half : 2 * half]]
        both.append([float(metric(reference, fake[chosen])), float(metric(reference, rest))])
    both = torch.tensor(both, dtype=torch.float64)
    (value, floor), (spread, floor_spread) = both.mean(0).tolist(), both.std(0).tolist()
    return Floored(value, spread, floor, floor_spread)


# %% [markdown]
# Four "generators" of digits, made from images that are in no other set: *real* ones untouched; with *noise*; *blends*, the averages of two; and *half* of the classes missing. Every panel has its floor as a band; bars are spreads over ten random halves.

# %%
reference, source, kept = digits[:400], digits[400:], labels[400:] < 5
g = torch.Generator().manual_seed(0)
noise = torch.randn(source.shape, generator=g)
partner = torch.randperm(len(source), generator=g)
made = {"real": source, "noise": (source + 0.8 * noise).clamp(-1, 1),
        "blends": (source + source[partner]) / 2, "half": source[kept]}
measures = {
    "FD-clf": frechet, "KID": lambda a, b: kid(a, b)[0],
    "precision": lambda a, b: precision_recall(a, b).precision,
    "density": lambda a, b: precision_recall(a, b).density,
    "recall": lambda a, b: precision_recall(a, b).recall,
}  # fmt: skip
real = clf_features(clf, reference)
fakes = {name: clf_features(clf, x) for name, x in made.items()}
table = {m: {name: with_floor(f, real, x) for name, x in fakes.items()}
         for m, f in measures.items()}


def sliced(a, b): return sliced_wasserstein(a, b, 64)


table["sliced $W_1$, pixels"] = {
    name: with_floor(sliced, reference, x) for name, x in made.items()}

# %%
#| label: fig-floors
#| echo: false
#| fig-cap: 'Dots: four sets against real digits. Bands: real against real. Every damage lifts the distances in the upper row off the floor; below, noise loses precision and density, while the set with half of the classes loses recall only.'
#| fig-alt: 'Six charts, each with four dots with bars for the sets real, noise, blends and half, and a horizontal band for the floor. In FD-clf, KID and sliced W1 only the dot of the real set lies in the band, the others above it. Precision and density are low for noise; recall is lowest for half.'
fig, axes = plt.subplots(2, 3, figsize=(7.5, 4), sharex=True)
shown = ["FD-clf", "KID", "sliced $W_1$, pixels", "precision", "density", "recall"]
for ax, name in zip(axes.flat, shown, strict=True):
    row = table[name]
    floor, width = row["real"].floor, row["real"].floor_spread
    ax.axhspan(floor - width, floor + width, color="C1", alpha=0.4, lw=0)
    ax.errorbar(list(row), [v.value for v in row.values()],
                [v.spread for v in row.values()], fmt="o")
    ax.set_title(name)
    ax.margins(x=0.15)

# %%
#| hide
for m in ("FD-clf", "KID", "sliced $W_1$, pixels"):
    own = table[m]["real"]
    assert abs(own.value - own.floor) < 3 * own.floor_spread
    assert all(row.value > row.floor + 3 * row.floor_spread
               for n, row in table[m].items() if n != "real")
assert table["precision"]["noise"].value < 0.8 < table["precision"]["half"].value
assert table["density"]["noise"].value < 0.7 and table["density"]["half"].value > 0.9
assert table["recall"]["half"].value < 0.75 < table["recall"]["real"].value
with expect_fail(ValueError, contains="fake: expected at least 200"):
    with_floor(frechet, reference, source[:9])


# %% [markdown]
# The untouched digits lie on the floor, as they must. The distances see every damage but not its kind. The noisy set loses precision and density: its images are bad. The set with missing classes keeps both and loses recall: its images are good, and too few kinds of them.
#
# ## FID itself
#
# For those who have Inception's weights (by the package `torch-fidelity`), its features go into the same functions: the FID is `frechet` of them. Images become 8-bit, grey is repeated to three channels, and the resizing is that of the original FID.

# %%
#| exports
def inception_features(x: Tensor, download: bool = False) -> Tensor:
    """Inception features (N, 2048) of images (N, C, H, W) in [-1, 1], C 1 or 3, as the original FID takes them.

    The weights must be in torch's hub folder, or are fetched if `download`. Needs torchmetrics and torch-fidelity.
    """
    check_images(x)
    require(x.shape[1] in (1, 3), "x", x, "channels first: (N, 1, H, W) or (N, 3, H, W)")
    require_choice(download, "download", (False, True))
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3
        from torchmetrics.image.fid import FrechetInceptionDistance
    except ImportError as e:
        raise ImportError("FID needs two packages: pip install 'scoreae[metrics]' torch-fidelity") from e
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(URL_INCEPTION_V3).name
    require(download or path.exists(), "download", download, f"True, or Inception's weights at {path}")
    net = FrechetInceptionDistance(2048, antialias=False).inception.to(x.device)
    levels = ((x.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).expand(-1, 3, -1, -1)
    with torch.no_grad(): return in_batches(net, levels, size=32)


# %%
with (expect_fail(ImportError, contains="pip install"),
      patch.dict("sys.modules", {"torch_fidelity": None})):
    inception_features(digits)

# %% [markdown]
# ## What can go wrong
#
# * **A value without its floor.** An FD-clf of 1 can be perfect or poor, by the number of images.
# * **Comparing different numbers of images,** or taking a published FID at 50,000 beside one's own at 5,000.
# * **Real images that the classifier, or the model, was trained on.** Their features need not have the law of new ones. All sets here are held out.
# * **Copies.** A model that repeats its training images can lie on the floor. No measure on this page sees it; look at nearest neighbours.
# * **Two moments, three moments.** FD and KID are blind to what they do not see; the sliced distance is not, but in pixels it says little about meaning.
# * **The choice of $k$.** Precision and recall grow with $k$, and depend on the number of points. State both.
