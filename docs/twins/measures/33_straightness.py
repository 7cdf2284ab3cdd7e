# %% [markdown]
# # Straightness
#
# > How much a code bends along a clip, in degrees, next to how much the pixels bend.

# %% [markdown]
# A video is a path through image space, and its codes are a path through code space. If the code path is straighter than the pixel path, the next code can be predicted by a straight line [@henaff2019straightening]. This page defines the turning angle of a path, derives what a straight line, a random walk and unrelated frames give, and shows the two ways to fool oneself: rest and scale. Nothing here knows about models; a clip is a tensor of codes $(N,T,k)$, for $N$ clips of $T$ frames.

# %%
#| default_exp measures.straightness

# %%
#| exports
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from scoreae.core.checks import require, require_int, require_number, rng

# %%
#| hide
import matplotlib.pyplot as plt
from fastcore.test import expect_fail, test_close

from scoreae.core.pages import Table, paper

# %%
#| hide
paper()


# %% [markdown]
# ## Turning angles
#
# Frames $z_1,\dots,z_T$ make steps $e_t=z_{t+1}-z_t$. Two steps that follow each other have the cosine and the angle
#
# $$\cos\kappa_t=\frac{e_t\cdot e_{t+1}}{\|e_t\|\,\|e_{t+1}\|},\qquad \kappa_t\in[0°,180°],$$ {#eq-str-angle}
#
# and the *curvature* of a clip is the mean of its $T-2$ angles: 0° is straight. Some papers report the mean cosine instead; we give both.
#
# The arc cosine is inaccurate near a straight line: it turns a rounding error of $10^{-16}$ into an angle of $10^{-8}$ radians. For unit vectors $u,w$ at angle $\kappa$, $\|u-w\|=2\sin\frac\kappa2$ and $\|u+w\|=2\cos\frac\kappa2$, so $\kappa=2\arctan\big(\|u-w\|/\|u+w\|\big)$, which is accurate everywhere.
#
# A step of length zero has no direction. An angle that touches one is left out and counted. "Zero" means below the resolution of the numbers: eight units of rounding of the largest frame. A clip without any angle has the curvature `nan`.

# %%
#| exports
def _clips(z, name: str = "z", least: int = 3) -> Tensor:
    "`z` as a tensor (N, T, ...) that is finite, real and has at least `least` frames, or `ValueError`."
    z = torch.from_numpy(z) if isinstance(z, np.ndarray) and z.dtype.kind in "fiub" else z
    ok = isinstance(z, Tensor) and not z.is_complex() and z.ndim >= 3 and len(z) > 0 and z.shape[1] >= least
    require(ok and z[0, 0].numel() > 0, name, z, f"clips (N, T, ...) of real numbers with T >= {least}")
    z = z.detach().cpu()
    z = z if z.is_floating_point() else z.double()
    require(bool(z.isfinite().all()), name, "NaN or infinite values", "finite values")
    return z


class Curvature(NamedTuple):
    "Per clip (N,): mean angle in degrees, mean cosine, and how many angles were left out for a step of length zero."

    degrees: Tensor
    cosine: Tensor
    excluded: Tensor


# %%
#| exports
def _turns(z: Tensor, resolution: float) -> Curvature:
    "Curvature of paths (N, T, k) in float64; `resolution` is the rounding unit that the values came with."
    steps = z.diff(dim=1)
    length = steps.norm(dim=2, keepdim=True)
    moving = (length > 8 * resolution * z.norm(dim=2).amax(1)[:, None, None])[..., 0]
    unit = steps / torch.where(length > 0, length, 1.0)
    u, w, valid = unit[:, :-1], unit[:, 1:], moving[:, :-1] & moving[:, 1:]
    angle = 2 * torch.atan2((u - w).norm(dim=2), (u + w).norm(dim=2)).rad2deg()
    cosine, nan = (u * w).sum(2), torch.nan
    degrees, cosine = (torch.where(valid, v, nan).nanmean(1) for v in (angle, cosine))
    return Curvature(degrees, cosine, (~valid).sum(1))


def curvature(z, whiten=None) -> Curvature:
    """Mean turning angle (degrees, 0 to 180) and cosine of every clip: codes (N, T, k) or one clip (T, k), T >= 3.

    `whiten`: codes (M, k), for instance of the training set; the clips are then multiplied by their `whitener`.
    Angles next to a step of length zero are excluded; a clip with no other angle is nan (Henaff et al. 2019).
    """
    z = _clips(z[None] if getattr(z, "ndim", 0) == 2 else z)
    require(z.ndim == 3, "z", z, "codes (N, T, k) or (T, k)")
    if whiten is None: return _turns(z.double(), torch.finfo(z.dtype).eps)
    return _turns(z.double() @ whitener(whiten, z.shape[2]), torch.finfo(z.dtype).eps)


# %% [markdown]
# On an arc the path turns by the same angle at every frame: a quarter of a circle in 11 frames turns by 90°/10. A straight line turns by nothing, to the last digit, at any speed. A rest takes the two angles that touch it.

# %%
arc = torch.linspace(0, torch.pi / 2, 11, dtype=torch.float64)
quarter = curvature(torch.stack([arc.cos(), arc.sin()], dim=1))
test_close(quarter.degrees, torch.tensor([9.0]), eps=1e-9)
test_close(quarter.cosine, torch.tensor([torch.pi / 20]).double().cos(), eps=1e-9)

times = torch.tensor([0, 1, 3, 4, 9.0], dtype=torch.float64)
line = times[:, None] * torch.tensor([0.3, -0.1, 2.0]).double() + 7
assert curvature(line).degrees < 1e-12

stop = torch.tensor([0.0, 1, 2, 2, 3, 2])[:, None]  # on, on, rest, on, back
test_close([x.item() for x in curvature(stop)], [90, 0, 2], eps=1e-9)  # 0° and 180°
assert curvature(torch.ones(4, 2)).degrees.isnan().all()

# %%
with expect_fail(ValueError, contains="T >= 3"): curvature(torch.zeros(2, 2))

# %% [markdown]
# ## What paths without direction give
#
# **A random walk turns by 90°.** Its steps are independent, and $e_{t+1}$ is as likely as $-e_{t+1}$. The sign change turns $\kappa_t$ into $180°-\kappa_t$, so both have the same law, and the mean is 90°, in any dimension $k$. For Gaussian steps the cosine is one coordinate of a uniform unit vector: mean 0, variance $1/k$. So in many dimensions *every* angle is near 90°.
#
# **Unrelated frames turn by 120°.** Let $z_1,z_2,z_3$ be independent with one law. They form a triangle, and the path turns at $z_2$ by $180°$ minus its inner angle there. The inner angles of a triangle sum to 180°, and by symmetry all three have the same mean, 60°. So the mean turn is exactly 120°: in any dimension, for any law without ties, one dimension included, where the middle frame is an extreme two times out of three. As for the cosine, $\mathbb E[e_1\cdot e_2]=\mathbb E[(z_2-z_1)\cdot(z_3-z_2)]=-V$ with $V=\mathbb E\|z-\mathbb Ez\|^2$, and $\mathbb E\|e\|^2=2V$. In many dimensions the products are close to their means, and the cosine close to $-\tfrac12$.
#
# The argument needs only that all orders of the frames are equally likely. So *shuffling the frames of any clip*, if no two are equal, gives 120° on average over the orders. That is a control: 120° is how a path bends without any order in time.

# %%
g = rng(0)
walks = {k: curvature(torch.randn(1000, 12, k, generator=g).cumsum(1))
         for k in (1, 3, 300)}
apart = {k: curvature(torch.rand(1000, 12, k, generator=g)) for k in (1, 3, 300)}
for k in (1, 3, 300):
    test_close([walks[k].degrees.mean(), apart[k].degrees.mean()], [90, 120], eps=2)
    test_close(walks[k].cosine.mean(), 0, eps=0.03)
cosines = [apart[k].cosine.mean() for k in (1, 300)]
test_close(cosines, [-1 / 3, -1 / 2], eps=0.03)
single = curvature(torch.randn(3000, 3, 300, generator=g).cumsum(1)).cosine
test_close(single.var(), 1 / 300, eps=0.0005)
Table({k: {"random walk [°]": f"{walks[k].degrees.mean():.1f}",
           "unrelated frames [°]": f"{apart[k].degrees.mean():.1f}"} for k in walks},
      name="dimension k")


# %% [markdown]
# ## Controls
#
# `shuffled` permutes the frames of every clip at random: 120°. `linear_fade` replaces them by mixtures of the first and the last, which is straight in pixels by construction. Human perception straightens natural clips and bends such fades [@henaff2019straightening]; the fade tells a code that straightens everything from one that knows what moves.

# %%
#| exports
def shuffled(clips, seed: int | torch.Generator | None = 0) -> Tensor:
    "Clips (N, T, ...) with the frames of each in a random order of its own."
    clips = _clips(clips, "clips", 2)
    order = torch.rand(clips.shape[:2], generator=rng(seed)).argsort(1)
    return clips[torch.arange(len(clips))[:, None], order]


def linear_fade(clips) -> Tensor:
    "Clips (N, T, ...) replaced by the straight line, at even speed, from their first to their last frame."
    clips = _clips(clips, "clips", 2)
    share = torch.linspace(0, 1, clips.shape[1], dtype=clips.dtype).reshape(1, -1, *[1] * (clips.ndim - 2))
    return (1 - share) * clips[:, :1] + share * clips[:, -1:]


# %% [markdown]
# The world for our checks: a soft disk (raised-cosine edge) of radius 6 on a canvas of $32\times96$ pixels that moves right by a fixed number of pixels per frame. Its "code" is the position of the centre.

# %%
def disk(cx, cy=16.0, size=(32, 96), radius=6.0):
    y, x = np.mgrid[: size[0], : size[1]]
    share = np.clip((np.hypot(x - cx, y - cy) - radius + 2) / 2, 0, 1)
    return 0.5 + 0.5 * np.cos(np.pi * share)


def moving_disk(step, frames=6, start=8.0):
    x = start + step * np.arange(frames)
    return np.stack([disk(c) for c in x]), np.stack([x, np.full(frames, 16.0)], 1)


film, centres = moving_disk(3.0, frames=12)
orders = shuffled(np.repeat(centres[None], 2000, axis=0))
assert torch.equal(orders.sort(1).values, torch.tensor(centres).expand(2000, -1, -1))
test_close(curvature(orders).degrees.mean(), 120, eps=1)
fade = linear_fade(film[None])
test_close(fade[0, [0, -1]], torch.tensor(film[[0, -1]]), eps=1e-12)
assert curvature(fade.flatten(2)).degrees < 1e-6 and curvature(centres).degrees < 1e-6


# %% [markdown]
# ## Scale: whitened or not
#
# Angles do not survive stretching one axis, and the scale of a code's axes is often arbitrary. So say whether codes were whitened, and on which codes. Let $C=U\,\mathrm{diag}(\ell)\,U^\top$ be the covariance of given codes. With $W=U\,\mathrm{diag}(\ell)^{-1/2}$ the codes $zW$ have the covariance $W^\top CW=I$. Directions in which the codes do not vary ($\ell\le10^{-10}\max\ell$) are dropped.
#
# Take $zB$ for any invertible $B$ instead of $z$, whitened by its own $W'$, all directions varying. Then $BW'$ whitens $z$, as $W$ does, so $Q=W^{-1}BW'$ has $Q^\top Q=Q^\top W^\top CWQ=(BW')^\top C\,BW'=I$: the two whitened paths differ by a rotation or reflection, which no angle sees. **Whitened curvature is invariant under every invertible linear map of the code.** In particular it cannot tell whether a code is disentangled.

# %%
#| exports
def whitener(codes, k: int | None = None) -> Tensor:
    "W (k, r) such that `codes @ W` has unit covariance, in float64, from codes (M, k) of rank r >= 1."
    codes = torch.from_numpy(codes) if isinstance(codes, np.ndarray) and codes.dtype.kind in "fiub" else codes
    ok = isinstance(codes, Tensor) and not codes.is_complex() and codes.ndim == 2 and len(codes) >= 2
    want = "codes (M, k) with M >= 2 that vary" if k is None else f"codes (M, {k}) with M >= 2 that vary"
    require(ok and k in (None, codes.shape[1]), "whiten", codes, want)
    codes = codes.detach().cpu().double()
    require(bool(codes.isfinite().all()), "whiten", "NaN or infinite values", "finite values")
    spread, axes = torch.linalg.eigh(codes.T.cov().reshape(codes.shape[1], -1))
    require(spread[-1].item() > 0, "whiten", codes, want)
    kept = spread > 1e-10 * spread[-1]
    return axes[:, kept] / spread[kept].sqrt()


# %%
z = torch.randn(50, 10, 3, generator=g).cumsum(1)
mixed = z @ torch.tensor([[1.0, 0, 0], [2, 30, 0], [-1, 0.5, 0.02]])
flat = z.flatten(0, 1)
test_close((flat @ whitener(flat).float()).T.cov(), torch.eye(3), eps=1e-4)
raw = [curvature(q).degrees for q in (z, mixed)]
white = [curvature(q, whiten=q.flatten(0, 1)).degrees for q in (z, mixed)]
test_close(*white, eps=0.01)
change = torch.sub(*raw).abs()
assert (change > 5).float().mean() > 0.5
f"as given, a clip changes by up to {change.max():.0f}°; whitened, none changes"


# %% [markdown]
# ## Straightening, clip by clip
#
# The quantity that counts is the difference to the pixels *of the same clip*: negative means straightened. Clips are the independent units, so the interval is taken over clips: draw $N$ of them with replacement, average, repeat, and take quantiles (the percentile bootstrap).

# %%
#| exports
def bootstrap_interval(
    values, n: int = 2000, level: float = 0.95, seed: int | torch.Generator | None = 0
) -> tuple[float, float]:
    "Percentile bootstrap interval of the mean of `values` (N,), from `n` resamplings."
    values = torch.as_tensor(values, dtype=torch.float64)
    require(values.ndim == 1 and len(values) > 0, "values", values, "a vector of at least one number")
    level = require_number(level, "level", 0, 1, above=True)
    picks = torch.randint(len(values), (require_int(n, "n"), len(values)), generator=rng(seed))
    tails = torch.tensor([0.5 - level / 2, 0.5 + level / 2], dtype=torch.float64)
    low, high = torch.quantile(values[picks].mean(1), tails).tolist()
    return low, high


def straightening(z, frames, whiten=None, n: int = 2000, seed: int = 0) -> dict:
    """Curvature of codes (N, T, k) minus that of the pixels of the same clips (N, T, ...), in degrees.

    `interval` is the 95 % bootstrap interval of the mean difference over clips. Clips that are nan in either space
    (`still`) are dropped; `excluded` counts the angles left out of the others, in codes and in pixels.
    """
    z, frames = _clips(z), _clips(frames, "frames")
    require(frames.shape[:2] == z.shape[:2], "frames", frames, f"clips ({len(z)}, {z.shape[1]}, ...), as the codes")
    code, pixel = curvature(z, whiten), curvature(frames.flatten(2))
    ok = ~(code.degrees.isnan() | pixel.degrees.isnan())
    require(bool(ok.any()), "z", z, "a clip that moves in codes and in pixels")
    difference = (code.degrees - pixel.degrees)[ok]
    return {
        "clips": int(ok.sum()), "still": int((~ok).sum()), "frames": z.shape[1], "whitened": whiten is not None,
        "degrees": code.degrees[ok].mean().item(), "pixel_degrees": pixel.degrees[ok].mean().item(),
        "difference": difference.mean().item(), "interval": list(bootstrap_interval(difference, n, seed=seed)),
        "cosine": code.cosine[ok].mean().item(), "pixel_cosine": pixel.cosine[ok].mean().item(),
        "excluded": [int(code.excluded[ok].sum()), int(pixel.excluded[ok].sum())], "resamples": n, "seed": seed,
    }  # fmt: skip


# %% [markdown]
# The interval against its normal approximation, mean $\pm1.96$ standard errors, on 400 numbers. Then forty films of disks at different speeds: the position is straight, the pixels are not.

# %%
values = torch.randn(400, generator=g).double()
error = values.std().item() / 20
normal = [values.mean().item() - 1.96 * error, values.mean().item() + 1.96 * error]
test_close(bootstrap_interval(values), normal, eps=0.02)

made = [moving_disk(speed, frames=8) for speed in np.linspace(1, 8, 40)]
films, codes = (np.stack(v) for v in zip(*made, strict=True))
result = straightening(codes, films)
low, high = result["interval"]
assert result["degrees"] < 1e-6 and low < result["difference"] < high < -30
Table(result, "entry")

# %% [markdown]
# Frame spacing alone decides how bent the pixels look. When the disk moves by more than its diameter, no two frames overlap, all are equally far from each other, every triangle is equilateral: 120°. When the spacing $s$ goes to zero, a smooth path turns by an angle proportional to $s$. So compare clips at equal spacing only.

# %%
spacing = np.array([0.25, 0.5, 1, 1.5, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16])
bend = [curvature(moving_disk(s)[0].reshape(1, 6, -1)).degrees.item() for s in spacing]
test_close(bend[-2:], [120, 120], eps=1)
assert 1.6 < bend[1] / bend[0] < 2.4

# %%
#| label: fig-spacing
#| fig-cap: 'A disk moves straight, its pixels do not. Left: the frames of one clip, in the plane of their two largest principal components. Right: the wider the frames are spaced, the more the pixels bend, up to 120°.'
#| fig-alt: 'Two charts. Left: thirty dots, coloured by frame, on a path bent like a horseshoe whose ends turn inwards. Right: curvature in degrees against spacing in pixels per frame; the curve rises steeply from 19 at a spacing of 0.25, crosses the dotted line of the random walk at 90 and levels off on the dashed line of shuffled frames at 120. A line at 0 marks the position.'
film = moving_disk(2.0, frames=30)[0].reshape(30, -1)
pca = np.linalg.svd(film - film.mean(0), full_matrices=False)
path = (pca.U[:, :2] * pca.S[:2]).T
fig, (left, right) = plt.subplots(1, 2, figsize=(7.4, 3.2))
left.plot(*path, "-", color="0.7", lw=1)
dots = left.scatter(*path, c=range(30), cmap="viridis", s=22, zorder=2)
fig.colorbar(dots, ax=left, label="frame")
left.set(xlabel="first principal component", ylabel="second principal component")
right.plot(spacing, bend, "-o", ms=4)
right.text(2.8, 68, "pixels", color="C0")
references = [(120, "C1", "--", "shuffled frames"), (90, "C2", ":", "random walk"),
              (0, "C3", "-.", "position")]
for y, color, style, name in references:
    right.axhline(y, color=color, ls=style)
    right.text(16, y + 3, name, color=color, ha="right")
right.set(xlabel="spacing [pixels per frame]", ylabel="curvature [degrees]",
          ylim=(-5, 140));

# %% [markdown]
# ## What can go wrong
#
# * **Rest.** A code that ignores small motions repeats itself, and its zero-length steps are excluded: look at `excluded` before believing a small number of degrees.
# * **Noise.** A little independent noise on the codes of a slow clip turns every path towards 120°. Use posterior means, not samples.
# * **Unequal spacing.** Twice the frame rate halves the angles. Codes and pixels of one table must come from the same frames.
# * **A one-dimensional code** knows only 0° and 180°: it is straight whenever it is monotone.
# * **Two intervals instead of one.** An interval for each curvature includes how clips differ from each other; the interval of the difference, clip by clip, does not.
