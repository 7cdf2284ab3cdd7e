# %% [markdown]
# # Files
#
# > Images from wherever they are: files, folders, clips, arrays and datasets, decoded by stated rules, with damage reported and no half-written file left behind.

# %% [markdown]
# Your own images come in many forms: photographs turned on their side, 16-bit scans, palettes, transparent icons, a text file that strayed into the folder. Everywhere else in this library an image batch is one thing: `(N, C, H, W)` in $[-1,1]$. This page is the way from the one to the other. Each rule is stated, then shown on a file that needs it. What cannot be read raises a `ValueError` that names the file, or is skipped *and recorded* if you ask for that.

# %%
#| default_exp images.files

# %%
#| exports
import hashlib
import os
import re
import shutil
import sys
import tempfile
import urllib.request
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from scoreae.core.checks import require, require_choice, require_int, require_number

# %%
#| hide
import matplotlib.pyplot as plt
from fastcore.test import expect_fail, test_close, test_eq
from PIL import Image
from torch.utils.data import TensorDataset

from scoreae.core.pages import Table, paper

# %%
#| hide
paper()
room = tempfile.TemporaryDirectory()
here = Path(room.name)


# %% [markdown]
# ## Eight bits and floats
#
# Files hold levels $0,\dots,255$; networks want $[-1,1]$. Level $k$ becomes $k/127.5-1$, and back by rounding to the nearest. Eight bits take a quarter of the memory, so a large set may stay in them until a batch is used.

# %%
#| exports
def to_float(x: Tensor) -> Tensor:
    "Images in [-1, 1], float32, from levels in uint8."
    require(isinstance(x, Tensor) and x.dtype == torch.uint8, "x", x, "a tensor of uint8 levels")
    return x.float().div_(127.5).sub_(1)


def to_uint8(x: Tensor) -> Tensor:
    "The nearest of 256 levels, uint8, to images in [-1, 1] (values beyond are clipped)."
    require(isinstance(x, Tensor) and x.is_floating_point(), "x", x, "a floating-point tensor in [-1, 1]")
    return ((x.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


# %%
levels = torch.arange(256).to(torch.uint8)
test_eq(to_uint8(to_float(levels)), levels)
to_float(torch.tensor([0, 127, 255], dtype=torch.uint8))


# %% [markdown]
# ## One file
#
# Decoding is Pillow's work; what its modes *mean* is ours to state.
#
# * The **EXIF orientation** of a photograph is applied.
# * **16 bits**: 65535 is white, so level $v$ becomes $v/257$, rounded.
# * **Palette** and **CMYK** become RGB. One-bit and grey images have one channel.
# * **Transparency** is composited on a stated `background`, a grey in $[-1,1]$: $\alpha\cdot\text{colour}+(1-\alpha)\cdot\text{background}$. The default is white.
# * 32-bit integers beyond 65535 and floating-point pixels have no agreed white. They are refused: load them as arrays, with a range.
#
# A file that is damaged is refused as a whole. Half a photograph is not a photograph.

# %%
#| exports
def _pixels(image, background: float) -> Tensor:
    "An opened Pillow image as uint8 (1, C, H, W) with C = 1 or 3."
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.float64)
        if wide.min() < 0 or wide.max() > 65535: raise ValueError("integers beyond 16 bits have no agreed white")
        a = (wide / 257).round().astype(np.uint8)
    elif image.mode == "F": raise ValueError("floating-point pixels have no agreed white")
    elif image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA")).astype(np.float64)
        alpha = rgba[..., 3:] / 255
        a = (alpha * rgba[..., :3] + (1 - alpha) * (background + 1) * 127.5).round().astype(np.uint8)
        if image.mode in ("1", "L", "LA", "La"): a = a[..., 0]
    else: a = np.array(image.convert("L" if image.mode in ("1", "L") else "RGB"))
    return torch.from_numpy(a.reshape(*a.shape[:2], -1).transpose(2, 0, 1).copy())[None]


def frames(file: str | Path, background: float = 1.0, limit: int | None = None) -> list[Tensor]:
    """Every frame of an image file (one, unless it is animated), at most `limit`, each uint8 (1, C, H, W), C = 1 or 3.

    `ValueError` naming the file if it is damaged or no image. Transparency is composited on `background` in [-1, 1].
    """
    from PIL import Image, ImageSequence

    require_number(background, "background", -1, 1)
    try:
        with warnings.catch_warnings(), Image.open(file) as image:
            warnings.simplefilter("ignore")  # what Pillow grumbles about but decodes
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            last = 1 if image.format == "MPO" else limit  # a photograph with a preview behind it
            return [_pixels(f, background) for f in islice(ImageSequence.Iterator(image), last)]
    except Exception as e:  # decoders raise a dozen types
        raise ValueError(f"file: expected an image that can be decoded, got {str(file)!r} ({e})") from e


# %% [markdown]
# One file for each rule. The value to expect is computed by hand.

# %%
def save(name, array, mode=None, **kw):
    image = Image.fromarray(np.asarray(array))
    (image if mode is None else image.convert(mode)).save(here / name, **kw)
    return here / name


colour = [204, 51, 0]
red = np.zeros((2, 3, 3), np.uint8) + np.array(colour, np.uint8)
deep, glass = np.full((2, 3), 204 * 257, np.uint16), np.full((2, 3), 64, np.uint8)
over_white = [round(v * 64 / 255 + 255 * 191 / 255) for v in colour]
turned = Image.Exif()
turned[0x0112] = 6  # turn clockwise by a quarter
rows = [
    ("grey", save("grey.png", red[..., 0]), (1, 2, 3), [204]),
    ("one bit", save("bit.png", red[..., 0] > 0, "1"), (1, 2, 3), [255]),
    ("16 bits", save("deep.png", deep), (1, 2, 3), [204]),
    ("palette", save("palette.png", red, "P"), (3, 2, 3), colour),
    ("alpha 1/4", save("glass.png", np.dstack([red, glass])), (3, 2, 3), over_white),
    ("EXIF", save("turned.png", red, exif=turned), (3, 3, 2), colour),
    ("CMYK", save("print.tif", red, "CMYK"), (3, 2, 3), colour),
    ("one pixel", save("dot.bmp", red[:1, :1]), (3, 1, 1), colour),
]
for _, file, shape, want in rows:
    (x,) = frames(file)
    test_eq((x.dtype, tuple(x.shape)), (torch.uint8, (1, *shape)))
    test_eq(x[0, :, 0, 0].tolist(), want)
on_black = frames(here / "glass.png", background=-1.0)[0][0, :, 0, 0]
test_close(on_black.float(), torch.tensor([51.2, 12.8, 0.0]), eps=0.5)
Table({name: {"C, H, W": shape, "levels of a pixel": want}
       for name, _, shape, want in rows}, name="file")

# %% [markdown]
# And files that are not what they seem: half a PNG, half a JPEG, a note, an empty file. The message says which file.

# %%
noisy = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
whole = [save("photo.png", noisy), save("photo.jpg", noisy)]
broken = [f.with_stem("half") for f in whole] + [here / "note.txt", here / "empty.png"]
contents = [f.read_bytes()[: f.stat().st_size // 2] for f in whole] + [b"hello", b""]
for file, content in zip(broken, contents, strict=True): file.write_bytes(content)

# %%
#| include: false
for file in broken:
    with expect_fail(ValueError, contains=file.name): frames(file)

# %% [markdown]
# ## One size
#
# Images of one batch share a size. There are three honest ways to get there, and the choice is an argument: cut out the `"center"` of the right proportions and scale it; scale the whole and `"pad"` it with the background; or `"stretch"`, which distorts. Scaling down averages over the pixels that fall together (bilinear with antialiasing), otherwise fine texture would turn into false coarse texture.

# %%
#| exports
CROPS = ("center", "pad", "stretch")


def resize(x: Tensor, size: int | tuple[int, int], crop: str = "center", background: float = 1.0) -> Tensor:
    "Images (N, C, H, W), uint8 or float in [-1, 1], at `size` (a side, or height and width), in the same dtype."
    require_choice(crop, "crop", CROPS)
    require(isinstance(x, Tensor) and x.ndim == 4, "x", x, "a tensor of images (N, C, H, W)")
    pair = size if isinstance(size, tuple | list) else (size, size)
    require(len(pair) == 2, "size", size, "an integer or a pair (height, width)")
    (h, w), (H, W) = (require_int(s, "size", high=2**15) for s in pair), x.shape[2:]
    if (h, w) == (H, W): return x
    if crop == "center":
        ch, cw = max(1, min(H, round(W * h / w))), max(1, min(W, round(H * w / h)))
        x = x[..., (H - ch) // 2 : (H - ch) // 2 + ch, (W - cw) // 2 : (W - cw) // 2 + cw]
    ratio = min(h / H, w / W)
    inner = (max(1, round(H * ratio)), max(1, round(W * ratio))) if crop == "pad" else (h, w)
    y = interpolate(x.float(), size=inner, mode="bilinear", antialias=True)
    top, left = (h - inner[0]) // 2, (w - inner[1]) // 2
    margin = (left, w - inner[1] - left, top, h - inner[0] - top)
    y = pad(y, margin, value=background if x.is_floating_point() else (background + 1) * 127.5)
    return y.to(x.dtype) if x.is_floating_point() else y.round().clamp(0, 255).to(x.dtype)


# %%
ramp = torch.linspace(-1, 1, 64).expand(1, 1, 32, 64).contiguous()
halved = ramp[0, 0, 0].unflatten(0, (32, 2)).mean(1)
test_close(resize(ramp, 16)[0, 0, 8], halved[8:24], eps=1e-2)  # the middle half
ends = resize(ramp, 16, "stretch")[0, 0, 8, [0, -1]]
test_close(ends, torch.tensor([-0.95, 0.95]), eps=0.03)
column = resize(ramp, 16, "pad")[0, 0, [3, 4, 11, 12], 8]
test_eq(column.ge(0.99).tolist(), [True, False, False, True])
stripes = (torch.arange(64) % 2 * 2.0 - 1).expand(1, 1, 64, 64).contiguous()
assert resize(stripes, 16)[..., 2:-2].abs().max() < 0.2  # they average to grey

# %%
with expect_fail(ValueError, contains="crop: expected one of 'center'"):
    resize(ramp, 16, "fill")

# %%
#| label: fig-crops
#| fig-cap: 'Three ways to bring a picture of 64×32 pixels to 32×32. The cut loses the sides, padding makes all smaller, stretching makes the disk an ellipse.'
#| fig-alt: 'Four pictures in a row. The first is twice as wide as high: a grey disk on a ground that turns from green to magenta. The second is its middle, cut out; the third the whole, half as large, between two white stripes; the fourth the whole squeezed to a square, where the disk has become an upright ellipse.'
x, y = torch.linspace(-2, 2, 64), torch.linspace(-1, 1, 32)[:, None]
scene = torch.stack([ramp[0], -ramp[0], 0 * ramp[0]], 1)
scene = torch.where((x**2 + y**2).sqrt() < 0.7, -0.3, scene)
fig, axes = plt.subplots(1, 4, figsize=(6, 1.8), width_ratios=[2, 1, 1, 1])
shown = [("64×32", scene), *((crop, resize(scene, 32, crop)) for crop in CROPS)]
for ax, (name, picture) in zip(axes, shown, strict=True):
    ax.imshow((picture[0].permute(1, 2, 0) + 1) / 2)
    ax.set(title=name, xticks=[], yticks=[])
    ax.spines[:].set_visible(True)


# %% [markdown]
# ## Arrays
#
# An array does not say what its numbers mean. Integers of 8 and 16 bits have a convention. Floating-point values do not: $[0,1]$ and $[-1,1]$ are both common, and confusing them halves the contrast silently. Values below zero tell the two apart. Without any, we refuse to guess and ask for `value_range`. The same goes for axes: `(N, H, W, C)` and `(N, C, H, W)` are told apart by which axis can be a channel. Where both can, a tensor is taken as torch has it, channels first, and an array needs `layout`.

# %%
#| exports
def _numbers(a) -> np.ndarray:
    if isinstance(a, Tensor): a = (a.float() if a.is_floating_point() else a).detach().cpu().numpy()
    a = np.asarray(a)
    require(a.dtype.kind in "buif", "spec", a, "an array of numbers")
    return a


def _span(arrays: Sequence[np.ndarray], value_range: tuple[float, float] | None) -> tuple[float, float] | None:
    "The values (black, white): as given, or by the dtype; `None` for uint8 as it is."
    if value_range is not None:
        require(len(value_range) == 2 and value_range[0] < value_range[1], "value_range", value_range, "(black, white)")
        return value_range
    require(len({a.dtype for a in arrays}) == 1, "spec", {str(a.dtype) for a in arrays}, "one dtype")
    if arrays[0].dtype.kind == "b": return (0, 1)
    if arrays[0].dtype in (np.uint8, np.uint16): return None if arrays[0].dtype == np.uint8 else (0, 65535)
    least = min(float(a.min()) for a in arrays)
    ok = arrays[0].dtype.kind == "f" and not least >= 0
    require(ok, "value_range", None, f"(black, white), say (0, 1) or (-1, 1), for {arrays[0].dtype} from {least:g} up")
    return (-1, 1)


def _axes(a: np.ndarray, layout: str | None) -> np.ndarray:
    "Move the channels of (N, H, W), (N, H, W, C) or (N, C, H, W) to axis 1."
    require_choice(layout, "layout", (None, "NCHW", "NHWC"))
    require(a.ndim in (3, 4) and a.size > 0, "spec", a, "images (N, H, W), (N, H, W, C) or (N, C, H, W)")
    single = "images (N, H, W); a single image (H, W, C) goes into a list"
    require(a.ndim == 4 or a.shape[2] not in (3, 4), "spec", a, single)
    if a.ndim == 3: return a[:, None]
    axes = {"NCHW": 1, "NHWC": 3} if layout is None else {layout: layout.index("C")}
    fits = [name for name, axis in axes.items() if a.shape[axis] in (1, 3, 4)]
    require(len(fits) == 1, "layout", a, "an axis of 1, 3 or 4 channels; if two fit, layout='NCHW' or 'NHWC'")
    return a if fits == ["NCHW"] else a.transpose(0, 3, 1, 2)


def _torch_layout(a, axis: int = 1) -> str | None:
    "Channels first for a tensor that can be read that way, as everywhere in torch; else left to `_axes`."
    return "NCHW" if isinstance(a, Tensor) and a.ndim == 3 + axis and a.shape[axis] in (1, 3, 4) else None


def _array(a: np.ndarray, span: tuple[float, float] | None, layout: str | None, background: float) -> Tensor:
    "An array of images as a tensor (N, C, H, W), C = 1 or 3: uint8 as it is, else float32 in [-1, 1]."
    a = _axes(a, layout)
    x = torch.from_numpy(np.array(a) if span is None else a.astype(np.float32))
    if span is not None:
        low, high = (float(v) for v in torch.aminmax(x))
        tolerance = 1e-3 * (span[1] - span[0])
        ok = span[0] - tolerance <= low and high <= span[1] + tolerance
        require(ok, "spec", f"values from {low:g} to {high:g}", f"values in [{span[0]:g}, {span[1]:g}]")
        x = ((x - span[0]) * (2 / (span[1] - span[0])) - 1).clamp_(-1, 1)
    if x.shape[1] < 4: return x
    x = to_float(x) if span is None else x
    alpha = (x[:, 3:] + 1) / 2
    x = alpha * x[:, :3] + (1 - alpha) * background
    return to_uint8(x) if span is None else x


# %% [markdown]
# ## One function for all
#
# `load` takes a path (an image, an animation, a video, a folder, an `.npy` or `.npz` file), an array or tensor, or any dataset or sequence whose items are images, begin with one, or name a file. A folder is read with its subfolders, in natural order (`frame2` before `frame10`), hidden files aside, and *every* file in it has to be an image. If you know that some are not, pass a list as `skipped`: it receives a pair (file, reason) for each file left out. Images are brought to size one by one, so that a folder of large photographs needs no large memory.

# %%
#| exports
VIDEOS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")


def _video(file: Path, limit: int | None) -> Iterator[Tensor]:
    "Frames of a video, each uint8 (1, 3, H, W), by PyAV."
    try: import av
    except ImportError as e: raise ImportError("videos are read by PyAV: pip install 'scoreae[video]'") from e
    try:
        with av.open(str(file)) as container:
            for frame in islice(container.decode(video=0), limit):
                yield torch.from_numpy(frame.to_ndarray(format="rgb24").transpose(2, 0, 1).copy())[None]
    except (av.error.FFmpegError, IndexError) as e:
        raise ValueError(f"file: expected a video that can be decoded, got {str(file)!r} ({e})") from e


def _natural(file: Path) -> list: return [int(s) if s.isdigit() else s.lower() for s in re.split(r"(\d+)", str(file))]


def _folder(folder: Path, background: float, skipped: list | None) -> Iterator[Tensor]:
    "One image of every file in a folder, each uint8 (1, C, H, W)."
    found = [p for p in folder.rglob("*") if p.is_file() and not re.search(r"(^|[/\\])\.", str(p.relative_to(folder)))]
    require(len(found) > 0, "spec", str(folder), "a folder with image files")
    for file in sorted(found, key=_natural):
        try:
            images = frames(file, background, limit=2)
            require(len(images) == 1, "file", str(file), "one image, not an animation, which is loaded by itself")
        except ValueError as e:
            if skipped is None: raise
            skipped.append((str(file), str(e)))
        else: yield images[0]


# %%
#| exports
def _items(spec: Iterable, value_range: tuple | None, background: float, limit: int | None) -> Iterator[Tensor]:
    "Images of a dataset or sequence, each (1, C, H, W); an item may be a file name, of a tuple the first entry counts."
    known = range(len(spec)) if hasattr(spec, "__len__") and hasattr(spec, "__getitem__") else None
    items = (spec[i] for i in known) if known is not None else iter(spec)
    images = [item[0] if isinstance(item, tuple | list) else item for item in islice(items, limit)]
    require(len(images) > 0, "spec", spec, "at least one image")
    arrays = [None if isinstance(im, str | Path) or hasattr(im, "convert") else _numbers(im)[None] for im in images]
    plain = [a for a in arrays if a is not None]
    span = _span(plain, value_range) if plain else None
    for im, a in zip(images, arrays, strict=True):
        if a is not None: yield _array(a, span, _torch_layout(im, 0), background)
        else: yield frames(im, background, 1)[0] if isinstance(im, str | Path) else _pixels(im, background)


def _numpy_file(path: Path) -> np.ndarray:
    "The one array in an .npy or .npz file."
    try:
        with path.open("rb") as f:
            found = np.load(f, allow_pickle=False)
            if isinstance(found, np.ndarray): return found
            (name,) = found.files
            return found[name]
    except Exception as e:  # the zip, its compression or the array may be broken
        raise ValueError(f"file: expected one array of numbers, got {str(path)!r} ({e})") from e


def _open(spec, background, value_range, layout, limit, skipped) -> Iterable[Tensor]:
    "Batches (n, C, H, W) of whatever `spec` is."
    if isinstance(spec, str | Path):
        path = Path(spec).expanduser()
        require(path.exists(), "spec", str(path), "a file or folder that exists")
        if path.is_dir(): return _folder(path, background, skipped)
        if path.suffix.lower() in VIDEOS: return _video(path, limit)
        if path.suffix.lower() not in (".npy", ".npz"): return frames(path, background, limit)
        spec = _numpy_file(path)
    if isinstance(spec, np.ndarray | Tensor):
        a = _numbers(spec)
        return [_array(a[:limit], _span([a], value_range), layout or _torch_layout(spec), background)]
    ok = (isinstance(spec, Iterable) or hasattr(spec, "__getitem__")) and not isinstance(spec, Mapping | Set)
    require(ok, "spec", spec, "a path, array, tensor or dataset")
    return _items(spec, value_range, background, limit)


# %%
#| exports
def _channels(x: Tensor, c: int) -> Tensor:
    "`x` (N, 1 or 3, H, W) with `c` channels: grey repeated, colour weighted by its brightness (ITU-R 601)."
    if x.shape[1] == c: return x
    if c == 3: return x.expand(-1, 3, -1, -1)
    grey = (x.float() * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    return grey.to(x.dtype) if x.is_floating_point() else grey.round().to(x.dtype)


def load(
    spec, size: int | tuple[int, int] | None = None, channels: int | None = None, *, crop: str = "center",
    background: float = 1.0, value_range: tuple[float, float] | None = None, layout: str | None = None,
    limit: int | None = None, skipped: list | None = None, as_uint8: bool = False,
) -> Tensor:
    """Images (N, C, H, W), float32 in [-1, 1] (or uint8), from a path, array, tensor, dataset or sequence.

    `size`, `crop`: see `resize`; without a size all images must share one. `channels` 1 or 3; by default 3 if any image
    has colour. `background` in [-1, 1] lies under transparency and around `"pad"`. `value_range` (black, white) and
    `layout` explain arrays. At most `limit` images. Files of a folder that cannot be read raise `ValueError`, or are
    appended to the list `skipped` as (file, reason).
    """  # fmt: skip
    require_number(background, "background", -1, 1)
    require_choice(channels, "channels", (None, 1, 3))
    require_choice(crop, "crop", CROPS)
    require(skipped is None or isinstance(skipped, list), "skipped", skipped, "a list to append to, or None")
    if limit is not None: require_int(limit, "limit")
    batches = islice(_open(spec, background, value_range, layout, limit, skipped), limit)
    batches = [b if size is None else resize(b, size, crop, background) for b in batches]
    require(len(batches) > 0, "spec", spec, "at least one image that can be read")
    sizes = sorted({tuple(b.shape[2:]) for b in batches})
    require(len(sizes) == 1, "size", size, f"a size, since the images differ ({sizes[0]}, {sizes[-1]})")
    c = channels or max(b.shape[1] for b in batches)
    if len({b.dtype for b in batches}) > 1: batches = [to_float(b) if b.dtype == torch.uint8 else b for b in batches]
    x = torch.cat([_channels(b, c) for b in batches])
    if as_uint8: return x if x.dtype == torch.uint8 else to_uint8(x)
    return to_float(x) if x.dtype == torch.uint8 else x


# %% [markdown]
# The folder above has all of it: eight odd files, two photographs, and four that are no images. Strictly read, it is refused; with a list, the four are named.

# %%
skipped = []
x = load(here, size=32, skipped=skipped)
test_eq((tuple(x.shape), x.dtype), ((10, 3, 32, 32), torch.float32))
test_eq(sorted(Path(f).name for f, _ in skipped),
        ["empty.png", "half.jpg", "half.png", "note.txt"])

# %%
with expect_fail(ValueError, contains="empty.png"): load(here, size=32)
with expect_fail(ValueError, contains="size: expected a size, since the images differ "
                                      "((1, 1), (40, 60))"):
    load(here, skipped=[])
with expect_fail(ValueError, contains="a folder with image files"):
    (here / "nothing").mkdir()
    load(here / "nothing")
with expect_fail(ValueError, contains="a file or folder that exists"):
    load(here / "gone")

# %%
#| label: fig-folder
#| fig-cap: 'What could be read of the folder, in natural order and at one size, 32×32 pixels.'
#| fig-alt: 'Ten square pictures in a row with the names of their files: bit is white, deep and grey are light grey, dot, palette, print and turned are red, glass is pale pink, the two photos are coloured noise.'
files = sorted(f for f in here.iterdir() if f.is_file() and str(f) not in dict(skipped))
fig, axes = plt.subplots(1, 10, figsize=(7, 1))
for ax, picture, file in zip(axes, x, files, strict=True):
    ax.imshow((picture.permute(1, 2, 0) + 1) / 2)
    ax.set(xticks=[], yticks=[])
    ax.set_title(file.stem, fontsize=10)
    ax.spines[:].set_visible(True)

# %% [markdown]
# The same six images, as an array in two layouts, as floats in two ranges, as a dataset with labels, as an animation, and as a folder of frames, come out the same. A palette of 256 greys is enough for the animation to be exact.

# %%
base = np.random.default_rng(1).integers(0, 256, (6, 12, 16), dtype=np.uint8)
want = torch.from_numpy(base)[:, None]
first, *others = pictures = [Image.fromarray(a) for a in base]
first.save(here / "clip.gif", save_all=True, append_images=others, duration=100)
(here / "frames").mkdir()
files = [here / "frames" / f"frame{i}.png" for i in (1, 3, 5, 7, 9, 11)]
for picture, file in zip(pictures, files, strict=True): picture.save(file)
np.save(here / "base.npy", base)
sources = {
    "array (N, H, W)": base,
    "array (N, H, W, 3)": np.repeat(base[..., None], 3, 3),
    "floats in [-1, 1]": to_float(want),
    ".npy file": here / "base.npy",
    "dataset with labels": TensorDataset(want, torch.arange(6)),
    "list of Pillow images": pictures,
    "list of files": files,
    "animated GIF": here / "clip.gif",
    "folder of frames": here / "frames",
}
for name, source in sources.items():
    got = load(source, channels=1, as_uint8=True)
    assert torch.equal(got, want), name
test_eq(to_uint8(load(base / 255.0, value_range=(0, 1))), want)
test_eq(load(base.astype(np.uint16) * 257, as_uint8=True), want)
test_eq(len(load(here / "frames", limit=2)), 2)
test_eq(load([noisy]).shape, (1, 3, 40, 60))
Table({name: tuple(load(source).shape) for name, source in sources.items()},
      name="source", value="N, C, H, W as loaded")

# %%
with expect_fail(ValueError, contains="value_range: expected (black, white)"):
    load(base / 255.0)
with expect_fail(ValueError, contains="layout"): load(np.zeros((5, 3, 3, 3), np.uint8))
with expect_fail(ValueError, contains="a single image (H, W, C) goes into a list"):
    load(noisy)


# %% [markdown]
# ## Where data lie, and how they get there
#
# Sets that are downloaded go to one place: the argument `root`, else the environment variable `SCOREAE_DATA`, else the user's cache, by the convention of the platform.

# %%
#| exports
def data_root(root: str | Path | None = None) -> Path:
    "The folder of downloaded data: `root`, else what SCOREAE_DATA says, else scoreae/ in the user's cache."
    chosen = root or os.environ.get("SCOREAE_DATA")
    if chosen: return Path(chosen).expanduser()
    home = Path.home()
    if sys.platform == "darwin": cache = home / "Library" / "Caches"
    elif sys.platform == "win32": cache = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    else: cache = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return cache / "scoreae"


# %% [markdown]
# A download can break off, a disk can be full. Whatever is built is built in a fresh folder *beside* its target and renamed when it is complete. Renaming within one file system is a single step: the target is either there and whole, or not there.

# %%
#| exports
@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """A path to build a file or folder at; on success it becomes `target`, on failure nothing is left.

    `ValueError` naming `target` if it cannot be written (a full disk, no permission, no connection).
    """
    folder = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        yield folder / target.name
        os.replace(folder / target.name, target)
    except OSError as e: raise ValueError(f"{target}: expected to be made, got {type(e).__name__}: {e}") from e
    finally:
        if folder is not None: shutil.rmtree(folder, ignore_errors=True)


def fetch(url: str, target: Path, checksum: str) -> None:
    """Download `url` to the file `target`, only if its content has `checksum`: "sha256:...", "md5:..." or "git:...".

    "git:" is the name that git gives to a file of this content. `ValueError` otherwise, and no file.
    """
    kind, want = checksum.split(":")
    with staged(target) as part:
        with urllib.request.urlopen(url, timeout=60) as source, part.open("wb") as f: shutil.copyfileobj(source, f)
        digest = hashlib.new("sha1" if kind == "git" else kind, usedforsecurity=False)
        if kind == "git": digest.update(b"blob %d\0" % part.stat().st_size)
        with part.open("rb") as f:
            while block := f.read(2**20): digest.update(block)
        require(digest.hexdigest() == want, "checksum", digest.hexdigest(), f"{want} for {url}")


# %%
target, source = here / "cache" / "set.npy", (here / "base.npy").as_uri()


def run_out_of_space():
    with staged(target) as part:
        part.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")


# %%
with expect_fail(ValueError, contains="checksum: expected 00"):
    fetch(source, target, "sha256:00")
with expect_fail(ValueError, contains="set.npy"):
    fetch((here / "gone").as_uri(), target, "sha256:00")
with expect_fail(ValueError,
                 contains="set.npy: expected to be made, got OSError: [Errno 28]"):
    run_out_of_space()

# %%
# tried three times: a wrong checksum, no source, a full disk; and nothing is left
test_eq(list(target.parent.iterdir()), [])
digest = hashlib.sha256((here / "base.npy").read_bytes()).hexdigest()
fetch(source, target, f"sha256:{digest}")
found = [f.name for f in target.parent.iterdir()]
test_eq(found, ["set.npy"])

hello = here / "hello"
hello.write_text("hello\n")
by_hash_object = "git:ce013625030ba8dba906f756967f9e9ca394464a"
fetch(hello.as_uri(), here / "cache" / "hello", by_hash_object)
test_eq(data_root(here), here)
found

# %%
#| hide
room.cleanup()

# %% [markdown]
# ## What can go wrong
#
# * **A range that is silently wrong.** Floats in $[0,1]$ pass every check for $[-1,1]$. This is why arrays without negative values are refused until you say what they are.
# * **The wrong background.** A black drawing on transparent ground, composited on black, is a black image. Set `background`.
# * **One image taken for several.** Three axes are $(N,H,W)$: a tensor `(3, H, W)` is three grey images. Pass a single image in a list, `load([x])`.
# * **A clip that is too short.** A GIF that was cut between two frames looks like a whole GIF with fewer frames. Count them if it matters.
# * **Faces without heads.** The default cuts out the centre. For images whose subject stands at an edge, use `crop="pad"`.
# * **Colour decided by one file.** A single colour image in a folder of grey ones makes the whole batch three channels. Say `channels=1` if you mean it.
