# %% [markdown]
# # Edits
#
# > Move a code, decode it again: attributes as directions, the start of the walk kept or decoded anew, and lines between images.

# %% [markdown]
# A code is useful if one can *do* something to an image by moving it. This page finds the direction of an attribute, moves along it, and separates two things that are easily mixed up: what the new code says, and what the old start of the walk remembers. It works for every model of the contract. Each edit is first checked where its effect is known exactly, then shown on digits.

# %%
#| default_exp use.edits

# %%
#| exports
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scoreae.core.checks import check_images, require, require_int, require_number
from scoreae.foundations import samplers
from scoreae.foundations.paths import Pinned
from scoreae.models.contract import Autoencoder

# %%
#| hide
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from fastcore.test import expect_fail, test_close
from sklearn.datasets import load_digits

from scoreae.core.pages import Table, paper
from scoreae.foundations.paths import VPCosine, VPLinear
from scoreae.foundations.worlds import GaussianWorld
from scoreae.models.baselines import PCA
from scoreae.models.zoo import load

# %%
#| hide
paper()
f64 = lambda *v: torch.tensor(v, dtype=torch.float64)
g = torch.Generator().manual_seed(0)
images = torch.tensor(load_digits().images / 8 - 1, dtype=torch.float32)[:, None]


# %% [markdown]
# ## A direction
#
# The axes of a code have any scale. So codes are first standardised, $s_j=(z_j-m_j)/\operatorname{std}_j$ over a data set. An attribute is then fitted as a linear function of them [@preechakul2022diffae],
#
# $$\text{value}\approx w\cdot s+\text{bias},\qquad s\to s+a\,\frac{w}{\|w\|},$$ {#eq-direction}
#
# by ridge regression if it is a number, by logistic regression (the value is then the log-odds) if it is a yes or no. A move by $a$ is in units of standardised codes, and changes the fitted value by exactly $a\|w\|$. A single axis is a direction too: walking along it is a *traversal*.

# %%
#| exports
@dataclass(frozen=True)
class Direction:
    "A linear function of standardised codes: `weight` (k,), `bias`, and the `mean`, `std` (k,) of the codes."

    weight: Tensor
    bias: float
    mean: Tensor
    std: Tensor

    def value(self, z: Tensor) -> Tensor:
        "The attribute (or its log-odds) that is read off codes: (N, k) to (N,)."
        return ((z - self.mean.to(z)) / self.std.to(z)) @ self.weight.to(z) + self.bias

    def move(self, z: Tensor, amount: float) -> Tensor:
        "Codes (N, k), moved by `amount` standard deviations along the direction."
        step = self.std * self.weight / self.weight.norm()
        return z + require_number(amount, "amount") * step.to(z)


def fit_direction(model: Autoencoder, x: Tensor, y: Tensor, strength: float = 1.0) -> Direction:
    """The direction of an attribute: images (N, C, H, W) and its values y (N,), numbers or booleans.

    Ridge regression for floating-point `y`, logistic for booleans, on standardised codes; `strength` of the penalty.
    """
    from sklearn.linear_model import LogisticRegression, Ridge

    y, strength = torch.as_tensor(y), require_number(strength, "strength", 0, above=True)
    require(y.shape == (len(x),), "y", y, f"one value for each of the {len(x)} images")
    known = y.is_floating_point() or y.dtype == torch.bool
    require(known and bool((y != y[0]).any()), "y", y, "two or more different numbers, or booleans")
    z = model.encode(x).double()
    mean, std = z.mean(0), z.std(0).clamp(min=1e-12)
    kind = Ridge(alpha=strength) if y.is_floating_point() else LogisticRegression(C=1 / strength, max_iter=1000)
    found = kind.fit(((z - mean) / std).cpu().numpy(), y.cpu().numpy())
    weight = torch.as_tensor(found.coef_, dtype=torch.float64).flatten()
    return Direction(weight, float(found.intercept_ if y.is_floating_point() else found.intercept_[0]), mean, std)


def axis_direction(model: Autoencoder, axis: int) -> Direction:
    "The direction of one axis of the code, in standard deviations of the model's prior: a traversal."
    axis, prior = require_int(axis, "axis", 0, model.z_dim - 1), model.prior
    return Direction(torch.eye(model.z_dim, dtype=torch.float64)[axis], 0.0, prior.mean.double(), prior.std.double())


# %% [markdown]
# ## What is kept: the start of the walk
#
# A decoded image depends on the code and on where the walk starts. An edit must say what becomes of the start.
#
# * *On a bridge* the start $x_T$ is decoded from the code. Decode it anew, or keep the old one. The released DBAE keeps it, so its edits go past the very endpoint that the method is about.
# * *On a diffusion* the start is noise. A point starts from zero, and the code alone speaks. Or keep what the code does not hold of the image: run the probability-flow ODE backwards with the *old* code to the one $x_T$ that leads to this image, then walk from there with the *new* code [@preechakul2022diffae].
#
# `invert` finds the start of an image, `walk` decodes from a given start.

# %%
#| exports
def invert(model: Autoencoder, x: Tensor, z: Tensor | None = None, steps: int = 40) -> Tensor:
    """The noise x_T, (N, C, H, W), from which the ODE with the code `z` (of `x` by default) leads to images `x`.

    By Heun's method, backwards, with 2 `steps` - 3 evaluations of the denoiser; a diffusion only.
    """
    here = "a diffusion: the start of a bridge is model.endpoint(z)"
    require(not isinstance(model.path, Pinned), "model", type(model).__name__, here)
    check_images(x, model.shape)
    times = samplers.time_grid(model.path, require_int(steps, "steps", low=3))[:-1].flip(0)
    with torch.no_grad():
        D = model.denoiser((model.encode(x) if z is None else z).to(model.device, model.dtype))
        near = model.path.coefs(times[0]).b.item() * x.to(model.device, model.dtype)  # nearly the image
        return samplers.integrate(D, model.path, near, times).to(x)


def walk(model: Autoencoder, z: Tensor, start: Tensor, steps: int = 40) -> Tensor:
    "Images (N, C, H, W) in [-1, 1] for codes (N, k) from given starts x_T: an endpoint, or noise found by `invert`."
    z, start = z.to(model.device, model.dtype), start.to(model.device, model.dtype)
    with torch.no_grad():
        D = model.denoiser(z, start if isinstance(model.path, Pinned) else None)
        if not isinstance(model.path, Pinned):
            return samplers.integrate(D, model.path, start, samplers.time_grid(model.path, steps)[:-1]).clamp(-1, 1)
        return samplers.sample(D, model.path, start, steps, xT=start, mode="point", clip=1.0).clamp(-1, 1)


def edit(model: Autoencoder, x: Tensor, direction: Direction, amounts: Sequence[float], hold: bool = False,
         steps: int = 10) -> Tensor:
    """Images (N, C, H, W) with their codes moved by each of `amounts`: (len(amounts), N, C, H, W).

    The start is that of the new code (`Autoencoder.decode` as a point); with `hold` it is the old image's: its
    endpoint on a bridge, its inverted noise on a diffusion.
    """
    z = model.encode(x)
    moved = [direction.move(z, a) for a in amounts]
    if not hold: return torch.stack([model.decode(v, steps=steps) for v in moved])
    bridged = isinstance(model.path, Pinned)
    with torch.no_grad(): start = model.endpoint(z.to(model.device)) if bridged else invert(model, x, z, steps)
    return torch.stack([walk(model, v, start, steps).to(x) for v in moved])


# %% [markdown]
# ## Where the answer is known
#
# **PCA.** Decoding is linear, $\hat x=\bar x+Wz$, so if an attribute $v\cdot x$ lies in the span of the components, its direction is exact: the value read off the code is the attribute of the decoded image, and a move by $a$ changes that image's attribute by $a\|w\|$. (The images are shrunk, so that no pixel is cut off at $\pm1$.)

# %%
x = 0.3 * images[:500]
pca = PCA((1, 8, 8), 6)
pca.prepare(x)
pca.finish(x)
flat = lambda z: pca.picture(z[None]).flatten()
W = torch.autograd.functional.jacobian(flat, torch.zeros(6))
v = W @ torch.randn(6, generator=g)
measure = lambda pictures: pictures.flatten(-3) @ v
direction = fit_direction(pca, x, measure(x), strength=1e-6)
test_close(direction.value(pca.encode(x)), measure(pca.reconstruct(x)), eps=1e-3)
amounts = f64(-1.0, 0.0, 0.5)
moved = edit(pca, x[:20], direction, amounts.tolist())
changed = measure(moved) - measure(pca.reconstruct(x[:20]))
wanted = amounts * direction.weight.norm()
test_close(changed, wanted[:, None].float().expand(3, 20), eps=1e-3)
along = edit(pca, x[:1], axis_direction(pca, 2), [-2.0, 2.0])
length = 4 * pca.prior.std[2]  # its components are orthonormal
test_close((along[1] - along[0]).norm(), length, eps=1e-3)
columns = ("amount", "change asked", "change got, mean of 20 images")
rows = zip(amounts.tolist(), wanted.tolist(), changed.mean(1).tolist(), strict=True)
Table([dict(zip(columns, row, strict=True)) for row in rows], digits=4)

# %% [markdown]
# **The Gaussian world, as a bridge.** The exact denoiser of [Worlds in closed form](../foundations/03_worlds.ipynb) depends on the code, and takes the endpoint off. So *with an exact denoiser it does not matter whether the start is held*: a point is $\mathbb E[x_0|z]$ for the new code either way. Whatever difference a trained model shows is in its network.

# %%
normal = lambda *shape: torch.randn(shape, generator=g, dtype=torch.float64)
R = torch.linalg.qr(normal(4, 4))[0]
Sigma, A = R @ torch.diag(f64(0.05, 0.02, 0.01, 0.005)) @ R.T, 4 * normal(2, 4)
world = GaussianWorld(torch.zeros(4), Sigma, A, f64(0.3, -0.2), 0.2 * torch.eye(2))
W = normal(2, 4)


class Known(Autoencoder):
    def __init__(self, path):
        super().__init__((4, 1, 1), 2, path, weighting="simple")
        if isinstance(path, Pinned): self.start = "model"
        self.double()
    def codes(self, x): return world.encode(x.flatten(1)), None
    def endpoint(self, z):
        return (z @ W)[..., None, None] if self.start == "model" else None
    def denoiser(self, z, xT=None):
        D = world.denoiser(self.path, z, None if xT is None else xT.flatten(1))
        return lambda x_t, t: D(x_t.flatten(1), t).reshape(x_t.shape)


x = world.data.sample(30, seed=0).reshape(-1, 4, 1, 1).clamp(-0.9, 0.9)
bridged = Known(Pinned(VPLinear(0.1, 2.0)))
direction = fit_direction(bridged, x, x[:, 0, 0, 0])
exact = world.mean_given_z(direction.move(bridged.encode(x), 0.7))
for hold in (False, True):
    new = edit(bridged, x, direction, [0.7], hold=hold)[0]
    test_close(new.flatten(1), exact, eps=1e-9)

# %% [markdown]
# **And as a diffusion.** The probability-flow ODE of a Gaussian is affine, and known: it stretches each axis of $y-\mathbb E[x_0|z]$ by $\sqrt{\ell+1/\gamma}$, with $\ell$ the variance of $x_0$ given $z$ along it. The start that `invert` finds must be what it says, and walking back with the old code returns the image, the better the finer the steps.

# %%
free = Known(VPCosine())
noise, z = invert(free, x, steps=200), free.encode(x)
m, left = world.mean_given_z(z), world.x_given_z
vals, vecs = left.vals[0], left.vecs[0]
near, late = free.path.gamma(free.path.T), samplers.time_grid(free.path, 200)[-2]
stretch = ((vals + 1 / near) / (vals + 1 / free.path.gamma(late))).sqrt()
exact = free.path.coefs(1.0).b * (m + ((x.flatten(1) - m) @ vecs * stretch) @ vecs.T)
test_close(noise.flatten(1) / exact.std(), exact / exact.std(), eps=2e-2)
error = {}
for n in (25, 50, 100):
    again = walk(free, z, invert(free, x, steps=n), n)
    error[n] = (again - x).abs().max().item()
assert error[25] > 3 * error[50] > 9 * error[100]
Table(error, "steps", "largest error of a pixel", digits=2)

# %%
with expect_fail(ValueError, contains="model: expected a diffusion"): invert(bridged, x)


# %% [markdown]
# ## Between two images
#
# `Autoencoder.interpolate` decodes the straight line between two codes. Its ends are *reconstructions*. A diffusion can begin and end at the images themselves: the noise is interpolated as well. A straight line between two independent draws of noise is too short in the middle, so it goes along the great circle,
#
# $$\operatorname{slerp}(p,q;\omega)=\frac{\sin((1-\omega)\varphi)\,p+\sin(\omega\varphi)\,q}{\sin\varphi},\qquad\cos\varphi=\frac{p\cdot q}{\|p\|\|q\|}.$$ {#eq-slerp}

# %%
#| exports
def slerp(p: Tensor, q: Tensor, omega: Tensor) -> Tensor:
    "Points at shares `omega` (n,) on the great circle from `p` to `q`, of any one shape: (n, ...)."
    cos = torch.nn.functional.cosine_similarity(p.flatten(), q.flatten(), 0).clamp(-1 + 1e-6, 1 - 1e-6)
    angle, omega = torch.arccos(cos), omega.reshape(-1, *[1] * p.ndim)
    return (torch.sin((1 - omega) * angle) * p + torch.sin(omega * angle) * q) / torch.sin(angle)


def morph(model: Autoencoder, x0: Tensor, x1: Tensor, n: int = 8, steps: int = 40) -> Tensor:
    """`n` images from one image (C, H, W) to another: codes on a line, inverted noise on a great circle; diffusions."""
    for name, x in (("x0", x0), ("x1", x1)): require(x.ndim == 3, name, x, f"one image {model.shape}")
    omega, x = torch.linspace(0, 1, require_int(n, "n", low=2)).to(x0), torch.stack([x0, x1.to(x0)])
    z, noise = model.encode(x), invert(model, x, steps=steps)
    return walk(model, torch.lerp(z[:1], z[1:], omega[:, None]), slerp(noise[0], noise[1], omega), steps).to(x0)


# %%
p, q = normal(2, 1, 8, 8)
q = q / q.norm() * p.norm()
line = slerp(p, q, torch.linspace(0, 1, 5, dtype=torch.float64))
test_close(line.flatten(1).norm(dim=1), p.norm().expand(5), eps=1e-9)
test_close(line[[0, -1]], torch.stack([p, q]), eps=1e-9)
steps = (line[1:] - line[:-1]).flatten(1).norm(dim=1)
test_close(steps, steps[:1].expand(4), eps=1e-9)  # equal steps

between = morph(free, x[0], x[1], n=3, steps=100)
test_close(between[[0, 2]], x[:2], eps=2e-3)
straight = free.interpolate(x[0], x[1], n=3, steps=100)
means = torch.lerp(m[:1], m[1:2], f64(0, 0.5, 1)[:, None])
test_close(straight.flatten(1), means, eps=1e-4)


# %% [markdown]
# ## On digits
#
# A small DBAE and a DiffAE with twelve axes, trained by `bench/claims/digits_weights.py`. The attribute is the *slant* of a digit, which can be measured on any picture: with $p$ the brightness as weights, the covariance of columns and rows over the variance of the rows. So one can ask for a change and see what one gets.

# %%
def slant(pictures):
    "How far the ink leans, columns per row: (..., 1, 8, 8) to (...)."
    p = (pictures[..., 0, :, :] + 1).clamp(min=0)
    p = p / p.sum((-2, -1), keepdim=True)
    mean = lambda v: (p * v).sum((-2, -1), keepdim=True)
    row, col = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    r, c = row - mean(row), col - mean(col)
    return -(p * r * c).sum((-2, -1)) / (p * r * r).sum((-2, -1))


shear = torch.zeros(1, 8, 8)
for i in range(8): shear[0, i, 6 - round(0.5 * i)] = 2.0
test_close(slant(shear - 1), 0.5, eps=0.05)

weights = next(p for p in (Path("weights"), Path("../../weights")) if p.exists())
dbae, diffae = load(weights / "digits-dbae"), load(weights / "digits-diffae")
train, test = images[:1200], images[1400:1440]
amounts, curves = np.linspace(-3, 3, 7), {}
for name, model, steps, kinds in (
    ("DBAE", dbae, 10, ("decoded anew", "start held")),
    ("DiffAE", diffae, 25, ("zero noise", "noise held")),
):
    lean = fit_direction(model, train, slant(train))
    for hold, kind in enumerate(kinds):
        moved = slant(edit(model, test, lean, amounts, bool(hold), steps))
        curves[f"{name}, {kind}"] = (moved - moved[3]).mean(1)
    curves[f"{name}, as fitted"] = torch.tensor(amounts) * lean.weight.norm()

# %%
#| label: fig-asked
#| fig-cap: 'Asked and got: mean change of the slant of 40 held-out digits. The pictures follow the fitted values (dotted), but for a DBAE whose start is held: it hardly moves.'
#| fig-alt: 'A line chart of the change of slant, columns per row, against the amount from -3 to 3 standard deviations. Two dotted straight lines are the fitted values. DBAE decoded anew and DiffAE with zero or held noise rise with them, somewhat flatter; DBAE with its start held stays at zero.'
fig, ax = plt.subplots(figsize=(6, 3.6))
styles = ("C0-o", "C0--s", "C0:", "C1-o", "C1--s", "C1:")
for (name, curve), style in zip(curves.items(), styles, strict=True):
    ax.plot(amounts, curve, style, markersize=4, label=name)
ax.set(xlabel="amount (standard deviations of the code)",
       ylabel="change of slant (columns per row)")
ax.legend(fontsize=8);

# %%
assert all((c.diff() > 0).all() for k, c in curves.items() if "held" not in k)
held, anew = (curves[f"DBAE, {k}"].diff() for k in ("start held", "decoded anew"))
assert held.abs().max() < 0.1 * anew.max()
Table({k: (c[5] - c[1]).item() for k, c in curves.items()}, "model, start of the walk",
      "change of slant from -2 to 2")

# %% [markdown]
# The pictures change by somewhat less than the codes promise. The striking line is the flat one. **With the start held, this DBAE hardly moves**, although its denoiser is told the new code as well, and although an exact denoiser would not care. The network has learned to read the code off the endpoint, which is an image-shaped input, and not from the modulation. A DBAE trained on other data may divide the work otherwise; an edit with a held start measures how it did. DiffAE's noise is no such second copy of the code: holding it changes nothing on average, and keeps the image's details.

# %%
#| label: fig-edits
#| fig-cap: 'Held-out digits, moved by -3 to 3 standard deviations: along the slant, the same with the start held, where hardly anything changes, towards the zeros, and along one axis. The last two rows go from one digit to another in seven steps.'
#| fig-alt: 'Six rows of seven small grey images of handwritten digits. First row: an 8 comes to lean to the right. Second: seven 8s that look the same. Third: a 4 opens into a ring. Fourth: a ring turns into a shape like a 9. Fifth and sixth: the 8 turns into the 4.'
lean = fit_direction(dbae, train, slant(train))
ring = fit_direction(dbae, train, torch.tensor(load_digits().target[:1200] == 0))
one, two, three = test[[1, 8, 24]]
moved = lambda x, *way, **how: edit(dbae, x[None], *way, amounts, **how)[:, 0]
rows = {
    "slant": moved(one, lean), "slant, start held": moved(one, lean, hold=True),
    "more like a 0": moved(two, ring), "axis 0": moved(three, axis_direction(dbae, 0)),
    "line": dbae.interpolate(one, two, 7), "DiffAE, morph": morph(diffae, one, two, 7),
}  # fmt: skip
test_close(rows["line"][0], dbae.reconstruct(one[None])[0], eps=1e-4)
fig, axes = plt.subplots(len(rows), 7, figsize=(6, 4.4))
for row, (name, pictures) in zip(axes, rows.items(), strict=True):
    for ax, picture in zip(row, pictures, strict=True):
        ax.imshow(picture[0], vmin=-1, vmax=1)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    row[0].set_ylabel(name, rotation=0, ha="right", va="center")
for ax, a in zip(axes[0], amounts, strict=True): ax.set_title(f"{a:g}", fontsize=9)

# %% [markdown]
# ## What can go wrong
#
# * **Holding the start.** A held start may keep the old image, whatever the code says. Say which was done.
# * **Correlated attributes.** The direction of one attribute moves whatever comes with it in the data. Measure the others too.
# * **Far moves.** Beyond two or three standard deviations no training code has been; a log-odds of 20 is not a picture.
# * **Reading the fitted value as a measurement.** Asked and got differ, as above: the value is what the *encoder's* codes say, the picture comes from the *decoder*.
