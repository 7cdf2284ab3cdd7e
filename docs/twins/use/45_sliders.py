# %% [markdown]
# # Sliders
#
# > Sliders for a trained model: walk along an axis, between two images, along an attribute, and through the sampler's steps.

# %% [markdown]
# A figure shows a few positions; a slider shows all of them. This page has four figures and, for each, a slider with the same arguments. The slider adds nothing: it calls its figure with one position instead of several, and shows what comes back. So what is seen in a notebook can be repeated in a script. We show that each figure contains what it should where that is known exactly, and drive the sliders without a browser, to see that they show what the figures show. The last section makes sliders that need no kernel at all: their frames are drawn beforehand.

# %%
#| default_exp use.sliders

# %%
#| exports
import base64
import html
import io
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from scoreae.core.checks import check_images, require, require_choice, require_int, require_number, rng
from scoreae.foundations import samplers
from scoreae.models.contract import Autoencoder
from scoreae.use.edits import Direction, axis_direction, edit
from scoreae.use.pictures import Plot, picture

# %%
#| hide
import sys
from io import BytesIO
from pathlib import Path

import comm
from fastcore.test import expect_fail, test_close, test_eq
from PIL import Image

from scoreae import data
from scoreae.models.baselines import PCA
from scoreae.models.zoo import load
from scoreae.use.edits import fit_direction
from scoreae.use.training import fit

# %%
#| hide
comm.create_comm = comm.DummyComm  # sliders of this page are not sent to a browser


# %% [markdown]
# ## One row, named
#
# All four figures are rows of pictures with a word above each. Images are given as a set, with the number of the one to look at, so that a slider can change it.

# %%
#| exports
def _named(rows: Sequence[Tensor], names: Sequence[str], title: str = "", size: float = 1.0) -> Plot:
    "Rows of images (n, C, H, W), with `n` names above the first."
    import matplotlib.style

    n = len(names)
    with matplotlib.style.context("scoreae.paper"):
        fig = Plot(figsize=(0.2 + n * size, 0.3 + len(rows) * size + 0.25 * bool(title)))
        grid = fig.subplots(len(rows), n, squeeze=False, gridspec_kw={"wspace": 0.08, "hspace": 0.08})
        for ax in grid.flat: ax.set_axis_off()
        for axes, images in zip(grid, rows, strict=True):
            for ax, x in zip(axes, images, strict=True): ax.imshow(picture(x), vmin=0, vmax=1)
        for ax, name in zip(grid[0], names, strict=True): ax.set_title(name, fontsize=9)
        if title: fig.suptitle(title, fontsize=10)
    return fig


def _one(model: Autoencoder, x: Tensor, image: int, name: str = "image") -> Tensor:
    "Image number `image` of images (N, C, H, W), as (1, C, H, W)."
    return check_images(x, model.shape)[require_int(image, name, 0, len(x) - 1)][None]


def _several(value, name: str, low: float = -1e6, high: float = 1e6) -> list[float]:
    "A number, or several, as a list."
    found = list(value) if isinstance(value, Sequence) else [value]
    require(len(found) > 0, name, value, "at least one number")
    return [require_number(v, name, low, high) for v in found]


# %% [markdown]
# ## Four figures
#
# Along an attribute: the image, and its code moved by several amounts, in standard deviations of the codes ([Edits](42_edits.ipynb)). An axis of the code is an attribute too.

# %%
#| exports
def plot_edit(model: Autoencoder, x: Tensor, direction: Direction, image: int = 0,
              amounts: float | Sequence[float] = (-2.0, -1.0, 0.0, 1.0, 2.0), hold: bool = False,
              steps: int = 10, title: str = "") -> Plot:
    """One of images (N, C, H, W), and the same with its code moved along `direction` by `amounts`.

    `hold` keeps the start of the walk, `steps` evaluations, as in `edits.edit`.
    """
    one, amounts = _one(model, x, image), _several(amounts, "amounts")
    moved = edit(model, one, direction, amounts, hold=hold, steps=steps)[:, 0]
    return _named([torch.cat([one, moved.to(one)])], ["image", *(f"{a:+.2g}" for a in amounts)], title)


def plot_axis(model: Autoencoder, x: Tensor, image: int = 0, axis: int = 0,
              amounts: float | Sequence[float] = (-2.0, -1.0, 0.0, 1.0, 2.0), steps: int = 10) -> Plot:
    "One of images (N, C, H, W), moved along an axis of its code by `amounts` standard deviations of the prior."
    return plot_edit(model, x, axis_direction(model, axis), image, amounts, steps=steps, title=f"axis {axis}")


# %% [markdown]
# Between two images: the codes on a straight line, at shares from 0 (the first) to 1 (the second), all decoded with the same noise.

# %%
#| exports
def plot_line(model: Autoencoder, x: Tensor, first: int = 0, second: int = 1,
              shares: float | Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0), mode: str = "point",
              steps: int = 10) -> Plot:
    "Two of images (N, C, H, W), and images decoded at `shares` in [0, 1] of the line between their codes."
    ends = torch.cat([_one(model, x, first, "first"), _one(model, x, second, "second")])
    z, shares = model.encode(ends), _several(shares, "shares", 0, 1)
    line = [model.decode(torch.lerp(z[:1], z[1:], s), mode, steps) for s in shares]
    names = [f"image {first}", *(f"{s:.2f}" for s in shares), f"image {second}"]
    return _named([torch.cat([ends[:1], *line, ends[1:]])], names)


# %% [markdown]
# Through the sampler's steps: above, the noisy image $x_t$ where the walk has come; below, the estimate $\hat x_0$ that the denoiser makes of it. Pictures are cut off at black and white; $x_t$ goes beyond.

# %%
#| exports
def plot_walk(model: Autoencoder, x: Tensor, image: int = 0, at: int | Sequence[int] = (0, 2, 4, 6, 8, 10),
              mode: str = "sample", steps: int = 10, seed: int = 0) -> Plot:
    """The walk that decodes the code of one of images (N, C, H, W): x_t and the estimate of x_0 at evaluations `at`.

    `at` counts from 0 (the start) to `steps` (the result); `mode`, `steps` and `seed` as in `Autoencoder.decode`.
    """
    one, last = _one(model, x, image), require_int(steps, "steps")
    require_choice(mode, "mode", ("point", "sample"))
    at = [require_int(i, "at", 0, last) for i in (at if isinstance(at, Sequence) else [at])]
    g, z = rng(seed, model.device), model.encode(one).to(model.device)
    with torch.no_grad():
        xT = model.draw_endpoint(z, g) if mode == "sample" else model.endpoint(z)
        D, like = model.walker(z, xT, mode), one.to(model.device, model.dtype)
        E = lambda x_t, t: D(x_t, t).clamp(-1, 1)
        times = samplers.time_grid(model.path, last)
        walk = [*samplers.trajectory(E, model.path, like, times, xT=xT, mode=mode, seed=g)]
    names = [f"{i}: t = {walk[i].t:.2f}" for i in at]
    return _named([torch.cat([walk[i].x for i in at]), torch.cat([walk[i].x0 for i in at])], names)


# %% [markdown]
# PCA decodes linearly, so its figures are known: the picture at an amount $a$ along axis $j$ is $\hat x+a\sqrt{\lambda_j}\,w_j$, and a share of the line is a share of the pictures. (The images are shrunk, so that nothing is cut off.)

# %%
x = 0.3 * data.digits("test")
pca = PCA((1, 8, 8), 6)
fit(pca, 0.3 * data.digits())
shown = lambda fig: [ax.images[0].get_array().astype(np.float32) for ax in fig.axes]
known = pca.picture(pca.encode(x[4:5]) + 1.5 * pca.prior.std[2] * torch.eye(6)[2])[0]
test_close(shown(plot_axis(pca, x, 4, 2, [1.5]))[1], picture(known), eps=1e-5)
start, end = pca.reconstruct(x[:2])
half = shown(plot_line(pca, x, 0, 1, 0.5))
test_close(half[1], picture((start + end) / 2), eps=1e-5)
test_close([half[0], half[2]], [picture(v) for v in x[:2]])

# %%
#| include: false
for call in (lambda: plot_axis(pca, x, 4, 6), lambda: plot_axis(pca, x, 10**6),
             lambda: plot_line(pca, x, 0, 1, 2.0)):
    with expect_fail(ValueError, contains="expected"): call()

# %%
#| label: fig-axis
#| fig-cap: 'An image, and the same moved along the third principal component of digits, in standard deviations: what PCA shows here is known, and checked.'
#| fig-alt: 'Six small grey pictures of a digit in a row; from left to right some strokes fade and others grow.'
plot_axis(pca, x, 4, 2)

# %% [markdown]
# The walk ends where `decode` ends, and where it is at the start is known too: at the endpoint of a bridge, which is decoded from the code.

# %%
#| label: fig-walk
#| fig-cap: 'The walk that decodes a digit with the DBAE: above the image where the walk has come, below what the denoiser makes of it. It begins at the picture of the code, not at noise.'
#| fig-alt: 'Two rows of six small pictures of one digit at six evaluations; the upper row begins as a harsh picture of the digit and settles; the lower row hardly changes.'
weights = next(p for p in (Path("weights"), Path("../../weights")) if p.exists())
dbae, digits = load(weights / "digits-dbae"), data.digits("test")
fig = plot_walk(dbae, digits, 3)
pictures, z = shown(fig), dbae.encode(digits[3:4])
test_eq(len(pictures), 12)
test_close(pictures[-1], picture(dbae.decode(z, "sample", 10)[0]), eps=1e-5)
point = shown(plot_walk(dbae, digits, 3, [0, 10], mode="point"))
with torch.no_grad(): test_close(point[0], picture(dbae.endpoint(z)[0]), eps=1e-5)
test_close(point[-1], picture(dbae.decode(z)[0]), eps=1e-5)
fig


# %% [markdown]
# ## Four sliders
#
# A slider has the arguments of its figure, and the same defaults. Where the figure takes several positions, the slider goes from the least of them to the greatest. It is a picture (a PNG) and one control for each thing that can change; each change calls the figure again. An error is written below the picture. ipywidgets is imported when a slider is made.

# %%
#| exports
def _widgets():
    "ipywidgets, or an `ImportError` that says what to install."
    try: import ipywidgets
    except ImportError as e:
        raise ImportError("sliders need ipywidgets: pip install 'scoreae[notebook]'; the figures do not") from e
    return ipywidgets


def _slider(name: str, values: Sequence[float], whole: bool = False):
    "A slider from the least to the greatest of `values`, in the middle; it speaks when it is let go."
    w, low, high = _widgets(), min(values), max(values)
    how = {"min": low, "max": high, "description": name, "continuous_update": False}
    if whole: return w.IntSlider(value=(low + high) // 2, **how)
    return w.FloatSlider(value=(low + high) / 2, step=(high - low) / 40 or 1.0, **how)


def _number(name: str, value: int, most: int):
    "A control for a whole number from 0 to `most`."
    return _widgets().BoundedIntText(value=value, min=0, max=most, description=name)


def _explorer(plot: Callable[..., Plot], **controls):
    "A column of controls, the PNG of `plot` called with their values, and a line for errors."
    w = _widgets()
    image, said = w.Image(format="png"), w.Label()

    def show(change=None) -> None:
        try: image.value, said.value = plot(**{k: c.value for k, c in controls.items()}).png(100), ""
        except ValueError as e: said.value = str(e)

    for c in controls.values(): c.observe(show, "value")
    show()
    return w.VBox([*controls.values(), image, said])


# %%
#| exports
def slide_edit(model: Autoencoder, x: Tensor, direction: Direction, image: int = 0,
               amounts: Sequence[float] = (-2.0, 2.0), hold: bool = False, steps: int = 10):
    "`plot_edit` with a slider for the amount, from the least to the greatest of `amounts`."
    held = _widgets().Checkbox(value=hold, description="hold")
    where = {"image": _number("image", image, len(x) - 1), "amounts": _slider("amount", amounts), "hold": held}
    return _explorer(lambda **now: plot_edit(model, x, direction, steps=steps, **now), **where)


def slide_axis(model: Autoencoder, x: Tensor, image: int = 0, axis: int = 0, amounts: Sequence[float] = (-2.0, 2.0),
               steps: int = 10):
    "`plot_axis` with a slider for the amount, from the least to the greatest of `amounts`."
    where = {"image": _number("image", image, len(x) - 1), "axis": _number("axis", axis, model.z_dim - 1)}
    return _explorer(lambda **now: plot_axis(model, x, steps=steps, **now), **where, amounts=_slider("amount", amounts))


def slide_line(model: Autoencoder, x: Tensor, first: int = 0, second: int = 1, shares: Sequence[float] = (0.0, 1.0),
               mode: str = "point", steps: int = 10):
    "`plot_line` with a slider for the share, from the least to the greatest of `shares`."
    ends = {"first": _number("first", first, len(x) - 1), "second": _number("second", second, len(x) - 1)}
    how = _widgets().Dropdown(options=("point", "sample"), value=mode, description="mode")
    where = {**ends, "shares": _slider("share", shares), "mode": how}
    return _explorer(lambda **now: plot_line(model, x, steps=steps, **now), **where)


def slide_walk(model: Autoencoder, x: Tensor, image: int = 0, at: Sequence[int] = (0, 10), mode: str = "sample",
               steps: int = 10, seed: int = 0):
    "`plot_walk` with a slider for the evaluation, from the least to the greatest of `at`."
    where = {"image": _number("image", image, len(x) - 1), "at": _slider("step", at, whole=True)}
    where["mode"] = _widgets().Dropdown(options=("point", "sample"), value=mode, description="mode")
    where["seed"] = _number("seed", seed, 2**31 - 1)
    return _explorer(lambda **now: plot_walk(model, x, steps=steps, **now), **where)


# %% [markdown]
# In Jupyter, put the call last in a cell, `slide_axis(model, x)`, and move it. Here the sliders are moved by setting their values, as a browser would: the picture must be the figure's, byte for byte, and a wrong value must be said and leave the picture as it was.

# %%
controls = lambda box: {c.description: c for c in box.children[:-2]}
box = slide_axis(pca, x, 4)
image, said = box.children[-2:]
controls(box)["axis"].value, controls(box)["amount"].value = 2, 1.5
test_eq((image.value, said.value), (plot_axis(pca, x, 4, 2, 1.5).png(100), ""))
controls(box)["image"].value = 7
test_eq(image.value, plot_axis(pca, x, 7, 2, 1.5).png(100))

bright = fit_direction(pca, x, x.mean((1, 2, 3)))
box = slide_edit(pca, x, bright)
controls(box)["amount"].value = 2.0
test_eq(box.children[-2].value, plot_edit(pca, x, bright, 0, 2.0).png(100))
box = slide_line(pca, x)
test_eq(box.children[-2].value, plot_line(pca, x, 0, 1, 0.5).png(100))
box = slide_walk(dbae, digits, mode="point")
controls(box)["step"].value = 9
test_eq(box.children[-2].value, plot_walk(dbae, digits, 0, 9, "point").png(100))

box = slide_edit(pca, x, bright, steps=2)
before = bytes(box.children[-2].value)
controls(box)["hold"].value = True  # to invert a walk takes three steps
test_eq(box.children[-2].value, before)
assert box.children[-1].value.startswith("steps: expected an integer >= 3")
list(controls(box))

# %% [markdown]
# Without ipywidgets the figures work, and a slider says what is missing.

# %%
kept = sys.modules.pop("ipywidgets")
sys.modules["ipywidgets"] = None
with expect_fail(ImportError, contains="pip install 'scoreae[notebook]'"):
    slide_axis(pca, x)
sys.modules["ipywidgets"] = kept

# %%
#| label: fig-ink
#| fig-cap: 'A digit, and the same with its code moved along the direction of more ink, in standard deviations of the codes.'
#| fig-alt: 'Six small pictures of one digit; its strokes grow brighter and thicker from left to right.'
lean = fit_direction(dbae, digits[:100], digits[:100].mean((1, 2, 3)))
plot_edit(dbae, digits, lean, 5, title="more ink")

# %% [markdown]
# ## A slider without a kernel
#
# A page on the web has no kernel that could decode. But all that one slider can show can be drawn beforehand: the frames of a walk, one below the other in one picture, of which a window shows one. The slider moves the picture behind the window; that is one line of script, and works in a notebook, on this site, in a report, without a network.

# %%
#| exports
WINDOW = """<div class="strip" style="display:inline-block;width:{width}px;max-width:95%;margin:.6rem 3% .6rem 0;text-align:center">
<div role="img" aria-label="{label}" style="width:100%;aspect-ratio:{wide}/{tall};background:url(data:image/png;base64,{data}) 0 {at}%/100% {n}00%;image-rendering:pixelated;border-radius:4px"></div>
<input type="range" min="0" max="{last}" value="{start}" aria-label="{label}" style="width:100%"
oninput="this.previousElementSibling.style.backgroundPosition='0 '+100*this.value/{last}+'%'">
<div style="font-size:.85rem">{label}</div></div>"""


class Strip:
    """A slider that needs no kernel: frames (n, C, H, W), or rows of images (n, N, C, H, W), in [-1, 1], n > 1.

    It shows itself as HTML, in which all frames are one PNG; each image is `size` pixels high, and `label` says what moves.
    """

    def __init__(self, frames: Tensor, label: str = "", size: int = 96):
        require(frames.ndim in (4, 5) and len(frames) > 1, "frames", frames, "frames (n, C, H, W) or (n, N, C, H, W), n > 1")
        self.frames = frames if frames.ndim == 5 else frames[:, None]
        check_images(self.frames.flatten(0, 1), name="frames")
        self.label, self.size = label, require_int(size, "size")

    def png(self) -> bytes:
        "The frames, one below the other."
        from PIL import Image

        rows = [np.concatenate([picture(x) for x in row], 1) for row in self.frames]
        buffer = io.BytesIO()
        Image.fromarray((np.concatenate(rows) * 255).round().astype(np.uint8)).save(buffer, "PNG", optimize=True)
        return buffer.getvalue()

    def _repr_html_(self) -> str:
        n, images, _, height, width = self.frames.shape
        size = {"wide": images * width, "tall": height, "width": round(self.size * images * width / height)}
        at = {"n": n, "last": n - 1, "start": n // 2, "at": 100 * (n // 2) / (n - 1)}
        return WINDOW.format(label=html.escape(self.label), data=base64.b64encode(self.png()).decode(), **size, **at)


def axis_strip(model: Autoencoder, x: Tensor, axis: int, span: float = 2.0, n: int = 17, steps: int = 10,
               label: str | None = None, size: int = 96) -> Strip:
    "Images (N, C, H, W), all moved along an axis of the code, from -`span` to `span` standard deviations of the prior."
    amounts = torch.linspace(-1, 1, require_int(n, "n", low=2)) * require_number(span, "span", 0, above=True)
    moved = edit(model, check_images(x, model.shape), axis_direction(model, axis), amounts.tolist(), steps=steps)
    return Strip(moved.clamp(-1, 1), f"axis {axis}" if label is None else label, size)


# %% [markdown]
# In the middle an image is not moved, and a frame is the picture of its amount: checked in the PNG. Then two axes of the DBAE, for five held-out digits. Move the sliders.

# %%
strip = axis_strip(pca, x[:3], 2, span=1.5, n=5)
pixels = np.array(Image.open(BytesIO(strip.png())))
test_eq(pixels.shape, (5 * 8, 3 * 8))
still = pca.reconstruct(x[:3])
want = np.concatenate([picture(v) for v in still], 1)
test_close(pixels[16:24] / 255, want, eps=0.01)
top = pca.picture(pca.encode(x[:1]) + 1.5 * pca.prior.std[2] * torch.eye(6)[2])[0]
test_close(pixels[32:, :8] / 255, picture(top), eps=0.01)
page = strip._repr_html_()
assert page.count("<input") == 1 and "http" not in page and "<script" not in page

# %%
with expect_fail(ValueError, contains="frames: expected frames"): Strip(x[:1])
with expect_fail(ValueError, contains="axis"): axis_strip(pca, x[:3], 6)

# %%
#| echo: false
axis_strip(dbae, digits[:5], 0, label="axis 0, from -2 to 2 standard deviations")

# %%
#| echo: false
axis_strip(dbae, digits[:5], 1, label="axis 1, from -2 to 2 standard deviations")

# %% [markdown]
# ## What can go wrong
#
# * **A slider that lags.** Every change decodes anew. Fewer `steps` make it quicker, and the pictures coarser.
# * **No kernel, no widget.** In a saved notebook the four sliders are dead; give a `Strip`, and on paper the figure.
# * **Far along an axis** no training code has been: what is shown there is the network's invention.
