# %% [markdown]
# # Rendered images
#
# > Disks, sprites and clips that are drawn from known factors, so that what a code has learned can be measured.

# %% [markdown]
# To ask whether a code separates the causes of an image, one must know the causes. This page draws images from *factors*: where a shape is, how large, how turned, on which grey. Every factor is then measured again from the pixels alone, by moments, and has to come out as it went in. All is vectorised: one core draws more than 20 000 images of 32×32 pixels in a second of its time (`bench/speed/render.py` measures it).

# %%
#| default_exp images.rendered

# %%
#| exports
import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from scoreae.core.checks import check_images, in_batches, require, require_choice, require_int, require_number, rng

# %%
#| hide
import matplotlib.pyplot as plt
from fastcore.test import expect_fail, test_close, test_eq
from sklearn.datasets import load_digits

from scoreae.core.pages import Table, paper

# %%
#| hide
paper()

# %% [markdown]
# ## The frame
#
# Lengths are in units of the shorter side of the image, so that factors mean the same at every size. $x$ points right and $y$ points down, from the upper left corner, as rows and columns do. With $\delta=1/\min(H,W)$, the width of a pixel, the pixel in row $i$ and column $j$ is the square of side $\delta$ around $\big((j+\tfrac12)\delta,\ (i+\tfrac12)\delta\big)$. Greys run from 0 (black) to 1 (white); images hold $2\cdot\text{grey}-1$.

# %%
#| exports
Size = int | tuple[int, int]  # a square image, or (height, width)


class Rendered(NamedTuple):
    """Images and the factors they were drawn from.

    `x` (N, 1, H, W), or clips (N, T, C, H, W), float32 in [-1, 1]; `factors` (N, K), or (N, T, K), and their K `names`.
    """

    x: Tensor
    factors: Tensor
    names: tuple[str, ...]


def _frame(size: Size) -> tuple[Tensor, Tensor, float]:
    "Pixel centres along x (W,) and along y (H,), and the width of a pixel, in units of the shorter side."
    pair = size if isinstance(size, tuple) else (size, size)
    require(len(pair) == 2, "size", size, "an integer or a pair (height, width)")
    h, w = (require_int(s, "size", high=4096) for s in pair)
    return (torch.arange(w) + 0.5) / min(h, w), (torch.arange(h) + 0.5) / min(h, w), 1 / min(h, w)


# %% [markdown]
# ## Edges
#
# A pixel of a camera holds the *average* of the scene over its footprint. For a shape of grey 1 on 0 this is its **coverage**: the part of the pixel that lies inside. Let $s$ be the signed distance from the centre of the pixel to the edge, negative inside. If the edge runs parallel to the pixel grid, the covered part grows linearly while the edge sweeps over the pixel:
#
# $$\kappa(s)=\operatorname{clip}\big(\tfrac12-s/\delta,\ 0,\ 1\big).$$ {#eq-render-coverage}
#
# For an edge at another angle the ramp becomes a quadratic curve. At 45°, the worst case, the pixel's projection on the normal has a triangular density, $\kappa(s)=\tfrac12-\sqrt2\,s/\delta+(s/\delta)^2$ for $0\le s\le\delta/\sqrt2$, and the difference to @eq-render-coverage is greatest at $s=\tfrac12(\sqrt2-1)\,\delta$ and at $s=\tfrac12\delta$. It is $(\sqrt2-1)^2/4\approx0.043$ at both. So one formula serves all edges that are straight on the scale of a pixel. Without softness a pixel is in or out by its centre.

# %%
#| exports
def coverage(s: Tensor, pixel: float, soft: bool = True) -> Tensor:
    "Covered part, in [0, 1], of pixels whose centres have signed distance `s` to an edge (negative inside)."
    return (0.5 - s / pixel).clamp_(0, 1) if soft else (s <= 0).to(s)


# %% [markdown]
# The independent check is brute force: cut each pixel into 25 by 25 points and count. Straight edges at 91 angles, each at 41 distances:

# %%
points = (torch.arange(25) + 0.5) / 25 - 0.5
angle = torch.linspace(0, torch.pi / 2, 91).reshape(-1, 1, 1, 1)
s = torch.linspace(-1, 1, 41)
along = points[:, None] * angle.cos() + points * angle.sin()
counted = (along + s[:, None, None] <= 0).float().mean((2, 3))
error = (coverage(s, 1.0) - counted).abs().amax(1)
assert error[0] < 0.021  # exact on the grid, up to the counting
assert error[45] == error.max()  # worst at 45 degrees
test_close(error.max().item(), (2**0.5 - 1) ** 2 / 4, eps=0.02)

# %%
#| label: fig-ramp
#| fig-cap: 'One ramp serves edges at all angles. It is exact at 0°; at 45°, the worst case, it is at most 0.043 away.'
#| fig-alt: 'Line chart of coverage against the signed distance of the edge, from −1 to 1 pixel. The ramp falls in a straight line from 1 at −0.5 to 0 at 0.5. The points counted at 0° lie on it; those at 45° follow an S-shaped curve that stays close to it.'
fig, ax = plt.subplots()
ax.plot(s, counted[0], "o", ms=4, label="counted, edge at 0°")
ax.plot(s, counted[45], "s", ms=4, label="counted, edge at 45°")
ax.plot(s, coverage(s, 1.0), "k", label="the ramp")
ax.set(xlabel="signed distance of the pixel's centre to the edge [pixels]",
       ylabel="coverage")
ax.legend();


# %% [markdown]
# ## Shapes
#
# Four shapes, all of the *same area* $\ell^2$ and centred on their centroids, so that size and place do not depend on the shape.
#
# * **disk**: radius $\ell/\sqrt\pi$; $s=r-\text{radius}$, exactly.
# * **square**: the intersection of two strips. Unrotated, a pixel's footprint factorises as well, and its coverage is the product of two ramps, exactly.
# * **ellipse**: semi-axes $a=2b$ with $\pi ab=\ell^2$. The distance to first order is $F/\|\nabla F\|$ for the implicit curve $F=0$ [@taubin1994distance]; here $F=q-1$ with $q^2=u^2/a^2+v^2/b^2$, so $\|\nabla F\|=\sqrt{u^2/a^4+v^2/b^4}\,/\,q$.
# * **heart**: a square of half-side $h$ with half disks of radius $h$ on two adjacent sides; the area is $(4+\pi)h^2=\ell^2$. The centroid of a half disk lies $\tfrac{4h}{3\pi}$ outside its side, so along each of the two axes the heart's centroid is
#
# $$\frac{\tfrac\pi2h^2\cdot\big(h+\tfrac{4h}{3\pi}\big)}{(4+\pi)h^2}=\frac{\tfrac\pi2+\tfrac23}{4+\pi}\,h$$ {#eq-render-heart}
#
# away from the centre of the square, towards the half disks. For a union we take the greatest coverage of its parts, which is exact unless two edges meet inside the pixel.

# %%
#| exports
def _square(u, v, side, edge): return edge(u.abs() - side / 2) * edge(v.abs() - side / 2)
def _disk(u, v, side, edge): return edge((u * u + v * v).sqrt_() - side / math.pi**0.5)


def _ellipse(u, v, side, edge):
    a = side * (2 / math.pi) ** 0.5
    uu, vv = (u / a).square_(), (2 * v / a).square_()
    q, g = (uu + vv).sqrt_().clamp_min_(1e-4), (uu + 4 * vv).sqrt_().div_(a).clamp_min_(1e-4)
    return edge((q - 1) * q / g)


def _heart(u, v, side, edge):
    h = side / (4 + math.pi) ** 0.5
    shift = (math.pi / 2 + 2 / 3) / (4 + math.pi) * h  # the point, between the two bare sides, looks along +v
    p, q = (u + v) / 2**0.5 - shift, (v - u) / 2**0.5 - shift
    body, pp, qq = edge(p.abs() - h) * edge(q.abs() - h), p * p, q * q
    for lobe in (pp + (q + h).square_(), (p + h).square_() + qq): body = torch.maximum(body, edge(lobe.sqrt_() - h))
    return body


SHAPES = {"square": _square, "ellipse": _ellipse, "heart": _heart, "disk": _disk}


# %% [markdown]
# A shape is drawn at a *pose*: its place $(x,y)$, its orientation and its size. Orientation turns the shape's first axis from $x$ towards $y$, clockwise on the screen. Pixel centres are carried into the frame of the shape, where it stands upright.

# %%
#| exports
def _local(pose: Tensor, X: Tensor, Y: Tensor) -> tuple[Tensor, Tensor]:
    "Coordinates (N, H, W), twice, of the pixels in the upright frames of shapes at `pose` (N, 4)."
    x, y, angle = (p[:, None, None] for p in pose[:, :3].unbind(1))
    c, s, dx, dy = angle.cos(), angle.sin(), X - x, Y[:, None] - y
    return dx * c + dy * s, dy * c - dx * s


def draw(shape: str, pose: Tensor, size: Size = 32, soft: bool = True) -> Tensor:
    """Coverage (N, 1, H, W) in [0, 1] of `shape` at poses (N, 4): x, y, orientation, side (root of the area).

    Radians, and lengths in units of the shorter side of the image. Hard edges (not `soft`) go by the pixel's centre.
    """
    require_choice(shape, "shape", tuple(SHAPES))
    require(isinstance(pose, Tensor) and pose.ndim == 2 and pose.shape[1] == 4, "pose", pose, "a tensor (N, 4)")
    require(bool(pose.isfinite().all() and (pose[:, 3] > 0).all()), "pose", pose, "finite poses with a positive side")
    mask, (X, Y, pixel) = SHAPES[shape], _frame(size)

    def part(p): return mask(*_local(p, X, Y), p[:, 3, None, None], lambda s: coverage(s, pixel, soft))[:, None]

    return in_batches(part, pose.float(), size=max(1, 2**18 // (len(X) * len(Y))))


# %% [markdown]
# Now measure. With coverages $m$ as masses, the area is $\delta^2\sum m$ and the centroid $\sum m\,(X,Y)/\sum m$. For the orientation, write the place of a pixel relative to the centroid as a complex number $\zeta$. Turning the shape by $\theta$ multiplies $\sum m\,\zeta^k$ by $e^{ik\theta}$, which tells $\theta$ up to $k$-ths of a turn. An ellipse looks the same after half a turn, so $k=2$; a square after a quarter, $k=4$. A heart looks the same only after a whole turn, but $\sum m\,\zeta=0$ by the choice of the centroid; $k=2$ and $k=3$ together leave one angle.
#
# A soft edge adds a little area. The ramp is the average of hard edges that are displaced by $\eta$, uniform on $[-\tfrac\delta2,\tfrac\delta2]$, and the average area of disks of radius $R+\eta$ is $\pi(R^2+\delta^2/12)$. We expect this of the disk, on average over places, and $\ell^2$ for the others up to terms of order $\delta^2$.

# %%
def moments(m):
    "Area, centroid (complex), and sum m zeta^k as a function of k, of (N, 1, n, n)."
    c = (torch.arange(m.shape[-1]) + 0.5).double() / m.shape[-1]
    y, x = (v.flatten() for v in torch.meshgrid(c, c, indexing="ij"))
    m = m.flatten(1).double()
    centre = torch.complex(m @ x, m @ y) / m.sum(1)
    zeta = torch.complex(x, y) - centre[:, None]
    return m.mean(1), centre, lambda k: (m * zeta**k).sum(1)


spread = torch.tensor([0.4, 0.4, 2 * torch.pi, 0.15])
least = torch.tensor([0.3, 0.3, 0, 0.15])
pose = least + spread * torch.rand(400, 4, generator=torch.Generator().manual_seed(0))
at, turn = torch.complex(pose[:, 0], pose[:, 1]), pose[:, 2].double()
l2 = pose[:, 3] ** 2  # the area
standard = torch.tensor([[0.5, 0.5, 0, 0.3]])
symmetries, rows = {"square": [4], "ellipse": [2], "heart": [3, 2], "disk": [0]}, []
for shape, k in [(shape, k) for shape, ks in symmetries.items() for k in ks]:
    area, centre, moment = moments(draw(shape, pose, 64))
    upright = moments(draw(shape, standard, 64))[2](k)
    turned = (moment(k) / upright * torch.exp(-1j * k * turn)).angle() / max(k, 1)
    worst = [(area / l2 - 1).abs().max().item(), 64 * (centre - at).abs().max().item(),
             turned.abs().max().rad2deg().item()]
    assert all(v < bound for v, bound in zip(worst, (0.01, 0.06, 1.0), strict=True))
    names = ("area [fraction]", "centroid [pixels]", "orientation [degrees]")
    rows.append({"shape": shape, "k": k} | dict(zip(names, worst, strict=True)))
test_close((area - l2).mean().item() / (torch.pi / 64**2 / 12), 1.0, eps=0.1)  # disks
Table(rows, digits=2)

# %% [markdown]
# These are the worst errors in 400 poses at 64×64: a fraction of the area, of a pixel, of a degree.
#
# ## Disks
#
# After the synthetic disks of SAMI [@lyo2025sami]: one disk, three factors, namely centre $x$, centre $y$, and the grey of the background. The disk has grey 0.5 and stays inside the image. A disk on its own grey would be invisible, and no code could know its centre. So the background keeps a minimum `contrast`: it is uniform on what is left of $[0,1]$ below and above. With `dependent=True` the background is not free but set by the distance of the disk from the middle: two factors, and a third number that follows from them.

# %%
#| exports
DISK_FACTORS = ("x", "y", "background")


def _check_factors(factors: Tensor, k: int) -> None:
    ok = isinstance(factors, Tensor) and factors.ndim == 2 and factors.shape[1] == k and len(factors) > 0
    require(ok, "factors", factors, f"a tensor (N, {k})")


def draw_disks(
    factors: Tensor, size: Size = 32, radius: float = 0.1875, disk: float = 0.5, soft: bool = True
) -> Tensor:
    "Disks (N, 1, H, W) in [-1, 1] from `factors` (N, 3): centre x, y, grey of the background; `disk` is its own."
    _check_factors(factors, 3)
    require_number(radius, "radius", 0, 10, above=True)
    require_number(disk, "disk", 0, 1)
    require(bool(((factors[:, 2] >= 0) & (factors[:, 2] <= 1)).all()), "factors", factors, "backgrounds in [0, 1]")
    rest = factors.new_tensor([0.0, radius * math.pi**0.5]).expand(len(factors), 2)
    inside = draw("disk", torch.cat([factors[:, :2], rest], 1), size, soft)
    background = factors[:, 2, None, None, None].float()
    return torch.addcmul(2 * background - 1, 2 * (disk - background), inside)


def _place(u: Tensor, size: Size, margin: float) -> Tensor:
    "Map `u` (N, 2) in [0, 1] to places at least `margin` away from every side of the image."
    X, Y, pixel = _frame(size)
    room = torch.tensor([len(X), len(Y)]) * pixel - 2 * margin
    require(bool((room > 0).all()), "size", size, f"room for a shape that reaches {margin:.3g} from its centre")
    return margin + u * room


# %%
#| exports
def disks(
    n: int, size: Size = 32, radius: float = 0.1875, disk: float = 0.5, contrast: float = 0.2,
    dependent: bool = False, soft: bool = True, seed: int | torch.Generator | None = 0,
) -> Rendered:
    """`n` disks inside the image, (n, 1, H, W) in [-1, 1], factors (n, 3): x, y, background (after Lyo et al. 2025).

    The background is uniform on the greys in [0, 1] that differ from `disk` by at least `contrast`. `dependent`: it
    rises through these greys with the distance of the centre from the middle. `radius` in units of the shorter side.
    """  # fmt: skip
    require_int(n, "n")
    require_number(contrast, "contrast", 0, 1)
    below, above = max(require_number(disk, "disk", 0, 1) - contrast, 0.0), max(1 - disk - contrast, 0.0)
    require(below + above > 0, "contrast", contrast, f"a contrast that leaves a grey beside {disk}")
    u = torch.rand(n, 3, generator=rng(seed))
    centre = _place(u[:, :2], size, require_number(radius, "radius", 0, 10, above=True))
    free = ((2 * u[:, :2] - 1).square().sum(1) / 2).sqrt() if dependent else u[:, 2]
    grey = free * (below + above)
    grey = torch.where(grey < below, grey, grey - below + 1 - above)
    factors = torch.cat([centre, grey[:, None]], 1)
    return Rendered(draw_disks(factors, size, radius, disk, soft), factors, DISK_FACTORS)


# %%
x, factors, names = disks(500, size=32)
grey, background = (x + 1) / 2, factors[:, 2, None, None, None]
corners = torch.stack([grey[:, 0, i, j] for i in (0, -1) for j in (0, -1)])
test_close(corners.median(0).values, factors[:, 2], eps=1e-6)  # read off the corners
area, centre, _ = moments((grey - background) / (0.5 - background))
test_close(centre, torch.complex(factors[:, 0], factors[:, 1]), eps=0.1 / 32)
test_close(area, torch.full((500,), torch.pi * (0.1875**2 + 1 / 32**2 / 12)), eps=1e-3)
assert (factors[:, 2] - 0.5).abs().min() > 0.2 - 1e-6
assert torch.equal(x, disks(500, size=32)[0])

_, cone, _ = disks(500, radius=0.3125, disk=1.0, contrast=0.0, dependent=True)
corner = 0.1875 * 2**0.5  # distance from the middle to a corner of the centres' range
test_close(cone[:, 2], (cone[:, :2] - 0.5).norm(dim=1) / corner, eps=1e-5)

# %%
with expect_fail(ValueError, contains="contrast"): disks(3, contrast=0.6)
with expect_fail(ValueError, contains="size"): disks(3, radius=0.6)

# %%
#| label: fig-disks
#| fig-cap: 'Ten disks of each kind, 32×32 pixels. Top: three free factors. Bottom, with `dependent=True`: the background follows the centre, the darker the nearer the middle.'
#| fig-alt: 'Two rows of ten square pictures. Top: a mid-grey disk at various places on darker or lighter grounds. Bottom: a larger white disk, on dark grey when it is near the middle and on lighter greys when it is not.'
fig, axes = plt.subplots(2, 10, figsize=(7, 1.5))
cones = disks(10, radius=0.3125, disk=1.0, dependent=True).x
for ax, picture in zip(axes.flat, [*x[:10], *cones], strict=True):
    ax.imshow(picture[0], vmin=-1, vmax=1)
    ax.set_axis_off()

# %% [markdown]
# ## Sprites
#
# dSprites [@matthey2017dsprites] crosses three shapes with scale, orientation and place. Ours are drawn anew at any size: continuous factors, or, with `grid=True`, the grid of the original: 6 scales from 0.5 to 1, 40 orientations from 0 to $2\pi$ (both ends, which look alike), 32×32 places. The side at scale 1 is 0.3. Places are in units of the frame, and every sprite stays inside it.

# %%
#| exports
SPRITE_FACTORS = ("shape", "scale", "orientation", "x", "y")
# how far a shape of side 1 reaches from its centre
REACH = {"square": 0.5**0.5, "ellipse": (2 / math.pi) ** 0.5, "heart": 0.695, "disk": math.pi**-0.5}


def draw_sprites(factors: Tensor, size: Size = 64, side: float = 0.3, soft: bool = True) -> Tensor:
    """White sprites on black, (N, 1, H, W) in [-1, 1], from `factors` (N, 5).

    Shape (0 square, 1 ellipse, 2 heart), scale, orientation (radians), x, y; the area at scale s is (s * `side`)^2.
    """
    _check_factors(factors, 5)
    known = torch.isin(factors[:, 0], factors.new_tensor([0, 1, 2])).all()
    require(bool(known), "factors", factors, "shapes that are 0 (square), 1 (ellipse) or 2 (heart)")
    pose = torch.stack([factors[:, 3], factors[:, 4], factors[:, 2], factors[:, 1] * side], 1)
    X, Y, _ = _frame(size)
    x = torch.empty(len(factors), 1, len(Y), len(X))
    for k in factors[:, 0].unique().long().tolist():
        chosen = factors[:, 0] == k
        x[chosen] = draw(tuple(SHAPES)[k], pose[chosen], size, soft).mul_(2).sub_(1)
    return x


def sprites(
    n: int, size: Size = 64, side: float = 0.3, grid: bool = False, soft: bool = True,
    seed: int | torch.Generator | None = 0,
) -> Rendered:
    """`n` sprites (n, 1, H, W) in [-1, 1], with independent factors (n, 5): shape, scale, orientation, x, y.

    `grid`: factors on the grid of dSprites (3 x 6 x 40 x 32 x 32 values), else continuous (scale in [0.5, 1]).
    `soft=False`: binary, as the original. Lengths in units of the shorter side.
    """  # fmt: skip
    u = torch.rand(require_int(n, "n"), 5, generator=rng(seed))
    if grid:
        levels = torch.tensor([3, 6, 40, 32, 32])
        u = torch.cat([u[:, :1], (u * levels).floor()[:, 1:] / (levels[1:] - 1)], 1)
    place = _place(u[:, 3:], size, max(REACH.values()) * require_number(side, "side", 0, 10, above=True))
    factors = torch.stack([(3 * u[:, 0]).floor(), 0.5 + u[:, 1] / 2, 2 * math.pi * u[:, 2], *place.T], 1)
    return Rendered(draw_sprites(factors, size, side, soft), factors, SPRITE_FACTORS)


# %%
x, factors, names = sprites(600)
area, centre, _ = moments((x + 1) / 2)
test_close(area.sqrt() / 0.3, factors[:, 1], eps=0.01)
test_close(centre, torch.complex(factors[:, 3], factors[:, 4]), eps=0.05 / 64)
border = torch.cat([x[..., 0, :], x[..., -1, :], x[..., 0], x[..., -1]], -1)
test_eq(border.max().item(), -1.0)  # every sprite is inside

binary, on_grid, _ = sprites(5000, 32, grid=True, soft=False)
test_eq([len(column.unique()) for column in on_grid.T], [3, 6, 40, 32, 32])
test_eq(binary.unique().tolist(), [-1.0, 1.0])

# %%
with expect_fail(ValueError, contains="factors"):
    draw_sprites(torch.tensor([[3.0, 1, 0, 0.5, 0.5]]))
with expect_fail(ValueError, contains="n: expected an integer"): sprites(0)

# %%
#| label: fig-sprites
#| fig-cap: 'Square, ellipse and heart have equal areas at equal scale. 32×32 pixels; each shape upright, and turned by 0.6 radians at scale 0.6.'
#| fig-alt: 'Two rows of six white shapes on black: a square, an ellipse and a heart, each once large and upright and once small and turned clockwise. In the top row the slanted and curved edges are soft, in the bottom row they are jagged.'
poses = [(1.0, 0.0), (0.6, 0.6)]  # scale, orientation
show = torch.tensor([[k, *pose, 0.5, 0.5] for k in range(3) for pose in poses])
fig, axes = plt.subplots(2, 6, figsize=(6, 2))
for row, soft, name in zip(axes, [True, False], ["soft", "binary"], strict=True):
    for ax, picture in zip(row, draw_sprites(show, 32, 0.5, soft), strict=True):
        ax.imshow(picture[0], vmin=-1, vmax=1)
        ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(name)

# %% [markdown]
# ## Clips
#
# A clip is a path through poses. Its factors are $(x, y, \text{orientation}, \text{scale}, \text{opacity})$, one row per frame, and `motion` says what changes: `"move"` along a line, `"circle"` once around the middle, `"rotate"`, `"scale"`, or `"fade"` into the background. All but the circle are *straight* paths in factor space, at constant speed. The subject is one of the shapes, or any images: they are carried by the same pose, sampled bilinearly, with the longer side of the image equal to `side` at scale 1.

# %%
#| exports
CLIP_FACTORS = ("x", "y", "orientation", "scale", "opacity")
# which of them change along a straight line
MOTIONS = {"move": (0, 1), "rotate": (2,), "scale": (3,), "fade": (4,), "circle": ()}


def _trajectories(n: int, frames: int, motion: str, size: Size, margin: float, g: torch.Generator) -> Tensor:
    "Factors (n, frames, 5): from one random pose to another in what `motion` changes, constant in the rest."
    u, time = torch.rand(n, 2, 5, generator=g), torch.linspace(0, 1, frames)[:, None]
    place = _place(u[..., :2].reshape(-1, 2), size, margin).reshape(n, 2, 2)
    turn = 2 * math.pi * (u[:, 0, 2:3] + torch.stack([torch.zeros(n), 0.25 + u[:, 1, 2] / 2], 1))
    opacity = torch.tensor([1.0, 0.0]).expand(n, 2)
    ends = torch.cat([place, turn[..., None], 0.5 + u[..., 3:4] / 2, opacity[..., None]], 2)
    moved = torch.zeros(5).index_fill(0, torch.tensor(MOTIONS[motion], dtype=torch.long), 1.0)
    path = ends[:, :1] + time * moved * (ends[:, 1:] - ends[:, :1])
    if motion == "circle":
        low, high = _place(torch.tensor([[0.0, 0.0], [1.0, 1.0]]), size, margin)
        phase = 2 * math.pi * (u[:, :1, 0] + time[:, 0])
        path[..., :2] = (low + high) / 2 + (high - low).min() / 2 * torch.stack([phase.cos(), phase.sin()], 2)
    return path


# %% [markdown]
# An image pixel that is finer than a pixel of the frame would flicker. So images are first reduced to the resolution that they have at scale 1.

# %%
#| exports
def _carry(images: Tensor, which: Tensor, pose: Tensor, size: Size, background: float) -> Tensor:
    "The images (M, C, h, w) numbered `which` (N,) at poses (N, 4) on an even background: (N, C, H, W)."
    X, Y, pixel = _frame(size)
    h, w = images.shape[2:]
    finer = max(h, w) * pixel / float(pose[:, 3].max())
    if finer > 1:
        images = interpolate(images, size=(math.ceil(h / finer), math.ceil(w / finer)), mode="bilinear", antialias=True)

    def part(i, p):
        u, v = _local(p, X, Y)
        half = p[:, 3, None, None] / 2
        grid = torch.stack([u / (half * w / max(h, w)), v / (half * h / max(h, w))], 3)
        return grid_sample(images[i] - background, grid, align_corners=False).add_(background)

    return in_batches(part, which, pose)


def clips(
    subject: str | Tensor, n: int, frames: int = 11, motion: str = "move", size: Size = 32, side: float = 0.35,
    background: float = -1.0, seed: int | torch.Generator | None = 0,
) -> Rendered:
    """`n` clips (n, T, C, H, W) in [-1, 1] with factors (n, T, 5): x, y, orientation, scale, opacity.

    `subject`: one of `SHAPES`, in white, or images (M, C, h, w) in [-1, 1], clip i showing image i mod M. `motion`: one
    of `MOTIONS`. `side` at scale 1 (root of a shape's area, longer side of an image) in units of the shorter side.
    """  # fmt: skip
    require_choice(motion, "motion", tuple(MOTIONS))
    require_number(side, "side", 0, 10, above=True)
    require_number(background, "background", -1, 1)
    if isinstance(subject, str): require_choice(subject, "subject", tuple(SHAPES))
    else: check_images(subject, name="subject")
    reach = side * (REACH[subject] if isinstance(subject, str) else 0.5**0.5)
    factors = _trajectories(require_int(n, "n"), require_int(frames, "frames", 2), motion, size, reach, rng(seed))
    flat = factors.flatten(0, 1)
    pose, opacity = torch.cat([flat[:, :3], side * flat[:, 3:4]], 1), flat[:, 4, None, None, None]
    if isinstance(subject, str): x = draw(subject, pose, size).mul_(1 - background).add_(background)
    else: x = _carry(subject.float(), torch.arange(n * frames) // frames % len(subject), pose, size, background)
    x = (background + opacity * (x - background)).clamp_(-1, 1)
    return Rendered(x.unflatten(0, (n, frames)), factors, CLIP_FACTORS)


# %%
#| label: fig-clips
#| fig-cap: 'Six clips of nine frames, 48×48 pixels: shapes that move, circle, turn and grow, and digits that move or fade.'
#| fig-alt: 'Six rows of nine frames, white on black: a disk that moves along a line, a heart on a circle, an ellipse that rotates in place, a square that grows, a digit that moves, and a digit that fades to black.'
digits = torch.tensor(load_digits().images[:10] / 8 - 1, dtype=torch.float32)[:, None]
rows = [("disk", "move"), ("heart", "circle"), ("ellipse", "rotate"),
        ("square", "scale"), (digits, "move"), (digits, "fade")]
made = [clips(subject, 3, frames=9, motion=motion, size=48, seed=i)
        for i, (subject, motion) in enumerate(rows)]
fig, axes = plt.subplots(6, figsize=(6, 4))
for ax, (subject, motion), clip in zip(axes, rows, made, strict=True):
    framed = torch.nn.functional.pad(clip.x[0, :, 0], (1, 1), value=1)
    ax.imshow(torch.cat([*framed], 1), vmin=-1, vmax=1)
    ax.set(xticks=[], yticks=[])
    label = f"{subject if isinstance(subject, str) else 'digit'}\n{motion}"
    ax.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=10)

# %% [markdown]
# The trajectory against the pixels again: centroids, areas and masses, frame by frame. A digit's centroid is not the centre of its image, so there we compare displacements.

# %%
for (subject, motion), clip in zip(rows, made, strict=True):
    f, m = clip.factors, (clip.x + 1).flatten(0, 1) / 2
    area, centre, _ = moments(m * (m > 1e-6) + 1e-9)
    area, centre = area.reshape(3, 9), centre.reshape(3, 9)
    want = torch.complex(f[..., 0], f[..., 1])
    if isinstance(subject, str): test_close(centre, want, eps=0.1 / 48)
    elif motion == "move":
        test_close(centre - centre[:, :1], want - want[:, :1], eps=0.2 / 48)
    if motion == "scale": test_close(area.sqrt() / 0.35, f[..., 3], eps=0.01)
    if motion == "fade": test_close(area / area[:, :1], f[..., 4], eps=1e-4)

# %%
with expect_fail(ValueError, contains="motion: expected one of 'move'"):
    clips("disk", 2, motion="jump")
with expect_fail(ValueError, contains="subject"): clips("circle", 2)


# %% [markdown]
# Why clips matter: a path that is straight in the factors is bent in the pixels. The angle between successive displacements is 0° on a straight path, and 90° on average when each displacement is independent of the last. A fade is straight in both.

# %%
def angle(path):
    "Mean angle in degrees between successive displacements of paths (N, T, ...)."
    v = torch.nn.functional.normalize(path.flatten(2).double().diff(dim=1), dim=2)
    return (v[:, 1:] * v[:, :-1]).sum(2).clamp(-1, 1).arccos().rad2deg().mean().item()


made = {m: clips("heart", 50, motion=m) for m in MOTIONS}
bent = {m: (angle(c.x), angle(c.factors)) for m, c in made.items()}
assert bent["fade"][0] < 0.1 and all(bent[m][1] < 0.1 for m in MOTIONS if m != "circle")
test_close(bent["circle"][1], 36.0, eps=0.01)  # ten steps of 36° close the circle
Table({motion: {"in pixels [°]": f"{pixels:.1f}", "in factors [°]": f"{path:.1f}"}
       for motion, (pixels, path) in bent.items()}, name="motion")

# %% [markdown]
# ## What can go wrong
#
# * **Orientation is not always defined.** A square looks the same after a quarter turn, an ellipse after half a turn, a disk after any. A score that asks a code for the orientation of *all* sprites asks for something that is not in the image.
# * **A factor at an angle.** Orientations 0 and $2\pi$ are one picture and two numbers. Use sine and cosine when you regress on it.
# * **Very small shapes.** The ramp assumes edges that are straight on the scale of a pixel. Below three pixels across, corners and curvature are as large as the shape.
# * **Shrinking images.** Carried images are reduced once, for scale 1. At scale 0.5 detail finer than two pixels can still alias.
