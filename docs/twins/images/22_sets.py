# %% [markdown]
# # Sets of images
#
# > Images as tensors in [-1, 1], with fixed splits: digits and photographs that need no download, the usual public sets, drawn images, and your own.

# %% [markdown]
# One call, one batch of images. `data.digits()`, `data.fashion_mnist()`, `data.disks(1000)`, `data.load("holiday/")`: whatever the source, the result is `(N, C, H, W)`, float32, in $[-1,1]$. Sets of real images have three splits, the same for everybody: to train on, to choose on, to report on. The drawn images come from [Rendered images](21_rendered.ipynb), the reading of files from [Files](20_files.ipynb). Nothing is downloaded unless you say `download=True`.

# %%
#| default_exp images.sets

# %%
#| exports
import zipfile
import zlib
from importlib import metadata
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scoreae.core.checks import require, require_choice, require_int, rng
from scoreae.images.files import data_root, fetch, frames, load, resize, staged, to_float, to_uint8
from scoreae.images.rendered import clips, disks, draw_disks, draw_sprites, sprites

# %%
#| exports
_all_ = ["clips", "disks", "draw_disks", "draw_sprites", "load", "sprites", "to_float", "to_uint8"]

# %%
#| hide
import tempfile

import matplotlib.pyplot as plt
from fastcore.test import expect_fail, test_eq

from scoreae.core.pages import Table, paper

# %%
#| hide
paper()

# %% [markdown]
# ## Digits, always at hand
#
# Every notebook and the demo need real images without a download. The test set of the *Optical Recognition of Handwritten Digits* data [@alpaydin1998digits] is bundled with scikit-learn: 1797 grey images of 8×8 pixels on 17 levels, with their labels.
#
# The split is fixed and stratified by label: 1200 to train on, 200 to choose on, 397 to report on. Grey level $k\in\{0,\dots,16\}$ becomes $k/8-1$.

# %%
#| exports
SPLITS = ("train", "val", "test")


def digits(split: str = "train", labels: bool = False) -> Tensor | tuple[Tensor, Tensor]:
    """Handwritten digits, (N, 1, 8, 8) float32 in [-1, 1] on 17 levels; with `labels` also their digits, (N,) int64.

    `split` "train" (1200 images), "val" (200) or "test" (397), fixed and stratified (Alpaydin & Kaynak 1998).
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    require_choice(split, "split", SPLITS)
    images, targets = load_digits(return_X_y=True)
    rest, test = train_test_split(range(len(targets)), test_size=397, random_state=0, stratify=targets)
    train, val = train_test_split(rest, test_size=200, random_state=0, stratify=targets[rest])
    chosen = {"train": train, "val": val, "test": test}[split]
    x = torch.from_numpy(images[chosen] / 8 - 1).float().reshape(-1, 1, 8, 8)
    return (x, torch.from_numpy(targets[chosen]).long()) if labels else x


# %%
parts = {split: digits(split, labels=True) for split in SPLITS}
test_eq({split: len(x) for split, (x, y) in parts.items()},
        {"train": 1200, "val": 200, "test": 397})
everything = torch.cat([x for x, _ in parts.values()]).flatten(1)
different = {tuple(v) for v in everything.tolist()}
test_eq(len(different), 1797)  # no image in two splits, and no two alike
test_eq(((everything + 1) * 8).remainder(1).abs().max().item(), 0.0)

# %%
with expect_fail(ValueError, contains="split"): digits("all")

# %%
#| label: fig-digits
#| fig-cap: 'Twenty digits of the test split with their labels, 8×8 pixels.'
#| fig-alt: 'Two rows of ten small pictures of handwritten digits, white on black, each with the digit as its title.'
fig, axes = plt.subplots(2, 10, figsize=(7, 1.9))
shown = zip(axes.flat, *(v[:20] for v in parts["test"]), strict=True)
for ax, picture, label in shown:
    ax.imshow(picture[0], vmin=-1, vmax=1)
    ax.set_title(int(label), fontsize=10)
    ax.set_axis_off()


# %% [markdown]
# ## Patches of photographs, also at hand
#
# Two colour photographs of 427×640 pixels come with scikit-learn, a Chinese temple and a flower. Cut into small patches they make a set of natural images with colour and texture. Patches that overlap share pixels, so a random split would leak: a test patch would be, in large part, a training patch. We split the *photographs* instead, by columns: the left 70 % to train on, then 15 % to choose on, then 15 % to report on. Within its part patches may overlap; across parts they cannot.

# %%
#| exports
def _finish(x: Tensor, y: Tensor, index: Tensor, labels: bool, limit: int | None):
    "The images (uint8) and labels at `index`, at most `limit`, as the public functions return them."
    if limit is not None: index = index[: require_int(limit, "limit")]
    return (to_float(x[index]), y[index]) if labels else to_float(x[index])


def patches(
    split: str = "train", labels: bool = False, size: int = 32, stride: int = 8, limit: int | None = None
) -> Tensor | tuple[Tensor, Tensor]:
    """Colour patches (N, 3, `size`, `size`) in [-1, 1], shuffled, of two photographs; `labels`: of which, (N,) int64.

    Every `stride` pixels, from the left 70 % ("train"), the next 15 % ("val") and the last 15 % ("test") of each.
    """
    from sklearn.datasets import load_sample_images

    require_choice(split, "split", SPLITS)
    require_int(stride, "stride")
    photos = torch.from_numpy(np.stack(load_sample_images().images)).permute(0, 3, 1, 2)
    ends = [0, *(round(part * photos.shape[3]) for part in (0.7, 0.85)), photos.shape[3]]
    left, right = ends[SPLITS.index(split) :][:2]
    require_int(size, "size", high=right - left)
    grid = photos[..., left:right].unfold(2, size, stride).unfold(3, size, stride).permute(0, 2, 3, 1, 4, 5)
    x, y = grid.reshape(-1, 3, size, size), torch.arange(2).repeat_interleave(grid.shape[1] * grid.shape[2])
    return _finish(x, y, torch.randperm(len(x), generator=rng(0)), labels, limit)


# %% [markdown]
# Is the split clean? Cut all patches into blocks of 8×8 and look for a block of one split in another.

# %%
def blocks(x):
    pieces = to_uint8(x).unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5)
    return {b.tobytes() for b in pieces.reshape(-1, 192).numpy()}


cut = {split: patches(split, labels=True) for split in SPLITS}
train, val, test = (blocks(x) for x, _ in cut.values())
assert not train & val and not train & test and not val & test
first, second = (blocks(x) for x in cut["train"][0].split(2650))
assert first & second  # the search does find blocks that are shared
test_eq(len(patches(limit=7)), 7)
Table({split: tuple(x.shape) for split, (x, y) in cut.items()}, "split", "N, C, H, W")

# %%
with expect_fail(ValueError, contains="size: expected an integer >= 1 and <= 96"):
    patches("val", size=97)

# %%
#| label: fig-patches
#| fig-cap: 'Twenty training patches of the two photographs, 32×32 pixels.'
#| fig-alt: 'Two rows of ten small colour pictures: pieces of a temple''s roof and columns, of bushes, of pale sky, and of orange petals before a dark green ground.'
fig, axes = plt.subplots(2, 10, figsize=(7, 1.5))
for ax, picture in zip(axes.flat, cut["train"][0][:20], strict=True):
    ax.imshow((picture.permute(1, 2, 0) + 1) / 2)
    ax.set_axis_off()

# %% [markdown]
# ## Public sets
#
# | call | images | train, val, test | `labels=True` adds |
# |---|---|---|---|
# | `digits()` | 1×8×8 | 1200, 200, 397 | digit |
# | `patches()` | 3×32×32, or any `size` | 5300, 900, 900 | which photograph |
# | `mnist()` | 1×28×28 | 54000, 6000, 10000 | digit |
# | `fashion_mnist()` | 1×28×28 | 54000, 6000, 10000 | class |
# | `cifar10()` | 3×32×32 | 45000, 5000, 10000 | class |
# | `celeba()` | 3×64×64, or any `size` | 162770, 19867, 19962 | 40 attributes |
# | `moving_mnist()` | 20×1×64×64 | 8000, 1000, 1000 | (none) |
# | `dsprites()` | 1×64×64 | 589824, 73728, 73728 | 5 factors |
#
# All but the first two take `root`, the folder where the data lie (otherwise that of the environment variable `SCOREAE_DATA`, or the user's cache), `download`, and `limit`, the number of images to load.
#
# MNIST, Fashion-MNIST, CIFAR-10, CelebA and Moving MNIST are read through torchvision, which is imported only then. It is compiled against one version of torch, and with another it cannot even be imported; the error says how to mend that.
#
# torchvision downloads into the folder from which it reads, and takes a half-unpacked file for a whole one. So a download goes to a staging folder and is moved into place when it is complete.

# %%
#| exports
Root = str | Path | None


def _torchvision():
    "`torchvision.datasets`, or an `ImportError` that says how to mend a torchvision that does not fit torch."
    try: import torchvision.datasets
    except (ImportError, RuntimeError, AttributeError, OSError) as e:
        pins = []
        for name in ("torch", "torchvision"):
            try: pins.append(f"{name}=={metadata.version(name).split('+')[0]}")
            except metadata.PackageNotFoundError: pins.append(name)
        fix = f"install both from the same index: pip install --force-reinstall {' '.join(pins)}"
        raise ImportError(f"torchvision cannot be imported with torch {torch.__version__} ({e}); {fix}") from e
    return torchvision.datasets


def _public(name: str, folder: str, root: Root, download: bool, **kw):
    "The set `name` of torchvision from `root`/`folder`, downloaded if it is not there and `download` says so."
    make, place = getattr(_torchvision(), name), data_root(root) / folder
    if download and not place.exists():
        try:
            with staged(place) as part: make(part.parent, download=True, **kw)
        except RuntimeError as e: raise ValueError(f"{name}: expected to be downloaded, got {e}") from e
    require(place.exists(), "root", str(place.parent), f"a folder that has {name} in {folder}, or download=True")
    try: return make(place.parent, **kw)
    except Exception as e:  # whatever a damaged file raises
        raise ValueError(f"{place}: expected an intact copy of {name}, got {e!r}; remove it and download again") from e


# %% [markdown]
# MNIST [@lecun1998mnist], Fashion-MNIST [@xiao2017fashion] and CIFAR-10 [@krizhevsky2009cifar] come with a training and a test part. A tenth of the training part, chosen once with a fixed seed, is ours to choose on.

# %%
#| exports
def _order(n: int, split: str, share: float = 0.1) -> Tensor:
    "Indices in random order: a fixed random `share` of `n` for the split 'val', the rest for 'train'."
    order, cut = torch.randperm(n, generator=rng(0)), round(share * n)
    return order[:cut] if split == "val" else order[cut:]


def _classified(name: str, folder: str, split: str, labels: bool, root: Root, download: bool, limit: int | None):
    require_choice(split, "split", SPLITS)
    part = _public(name, folder, root, download, train=split != "test")
    x, y = torch.as_tensor(part.data), torch.as_tensor(part.targets).long()
    x = x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2)
    return _finish(x, y, torch.arange(len(x)) if split == "test" else _order(len(x), split), labels, limit)


def mnist(
    split: str = "train", labels: bool = False, root: Root = None, download: bool = False, limit: int | None = None
) -> Tensor | tuple[Tensor, Tensor]:
    "Handwritten digits (N, 1, 28, 28), N = 54000, 6000 ('val'), 10000 ('test') (LeCun et al. 1998)."
    return _classified("MNIST", "MNIST", split, labels, root, download, limit)


def fashion_mnist(
    split: str = "train", labels: bool = False, root: Root = None, download: bool = False, limit: int | None = None
) -> Tensor | tuple[Tensor, Tensor]:
    "Clothes in ten classes (N, 1, 28, 28), N = 54000, 6000 ('val'), 10000 ('test') (Xiao et al. 2017)."
    return _classified("FashionMNIST", "FashionMNIST", split, labels, root, download, limit)


def cifar10(
    split: str = "train", labels: bool = False, root: Root = None, download: bool = False, limit: int | None = None
) -> Tensor | tuple[Tensor, Tensor]:
    "Small photographs in ten classes (N, 3, 32, 32), N = 45000, 5000 ('val'), 10000 ('test') (Krizhevsky 2009)."
    return _classified("CIFAR10", "cifar-10-batches-py", split, labels, root, download, limit)


# %% [markdown]
# This page has no network. We write a miniature of Fashion-MNIST, forty images in the same file format, and read it through the same code. A folder without the set, and a file cut short, give errors that say so.

# %%
room = tempfile.TemporaryDirectory()
root = Path(room.name)


def write_idx(file, a):
    header = bytes([0, 0, 8, a.ndim]) + b"".join(n.to_bytes(4, "big") for n in a.shape)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(header + a.tobytes())


raw, random = root / "FashionMNIST" / "raw", np.random.default_rng(0)
tiny = {part: random.integers(0, 256, (n, 28, 28), np.uint8)
        for part, n in [("train", 40), ("t10k", 8)]}
for part, a in tiny.items():
    write_idx(raw / f"{part}-images-idx3-ubyte", a)
    write_idx(raw / f"{part}-labels-idx1-ubyte", a[:, 0, 0] % 10)

got = {split: fashion_mnist(split, labels=True, root=root) for split in SPLITS}
test_eq({split: len(x) for split, (x, y) in got.items()},
        {"train": 36, "val": 4, "test": 8})
test_eq(to_uint8(got["test"][0])[:, 0].numpy(), tiny["t10k"])
both = to_uint8(torch.cat([got["train"][0], got["val"][0]]))[:, 0].numpy()
test_eq(sorted(a.tobytes() for a in both), sorted(a.tobytes() for a in tiny["train"]))
for x, y in got.values(): test_eq(to_uint8(x)[:, 0, 0, 0] % 10, y)
Table({split: tuple(x.shape) for split, (x, y) in got.items()}, "split", "N, C, H, W")

# %%
with expect_fail(ValueError,
                 contains="a folder that has MNIST in MNIST, or download=True"):
    mnist(root=root)
with expect_fail(ValueError, contains="expected an intact copy of FashionMNIST"):
    short = raw / "train-images-idx3-ubyte"
    short.write_bytes(short.read_bytes()[:1000])
    fashion_mnist(root=root)

# %% [markdown]
# **CelebA** [@liu2015celeba]: faces of celebrities, 178×218 pixels, each with forty attributes, split by the authors. The centre is cut out and scaled to `size`. **Moving MNIST** [@srivastava2015moving]: ten thousand clips of 20 frames with two bouncing digits each, published as a test set; we split it 8:1:1. It has no labels.

# %%
#| exports
_CELEBA = """
    5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair
    Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male
    Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks
    Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace
    Wearing_Necktie Young"""
CELEBA_ATTRIBUTES = tuple(_CELEBA.split())


def celeba(
    split: str = "train", labels: bool = False, root: Root = None, download: bool = False, limit: int | None = None,
    size: int = 64,
) -> Tensor | tuple[Tensor, Tensor]:
    """Faces (N, 3, `size`, `size`), N = 162770, 19867 ('val'), 19962 ('test') (Liu et al. 2015).

    `labels`: the attributes (N, 40), 0 or 1, named by `CELEBA_ATTRIBUTES`. The download needs the package gdown.
    """  # fmt: skip
    require_choice(split, "split", SPLITS)
    part = _public("CelebA", "celeba", root, download, split="valid" if split == "val" else split)
    files = part.filename if limit is None else part.filename[: require_int(limit, "limit")]
    place = data_root(root) / "celeba" / "img_align_celeba"
    x = torch.cat([resize(frames(place / name)[0], size) for name in files])
    return _finish(x, part.attr, torch.arange(len(files)), labels, limit)


def _three_way(n: int, split: str) -> Tensor:
    "Indices of a fixed random split 8:1:1 of `n`."
    order = torch.randperm(n, generator=rng(0))
    return order.split([n - 2 * (n // 10), n // 10, n // 10])[SPLITS.index(split)]


def moving_mnist(
    split: str = "train", labels: bool = False, root: Root = None, download: bool = False, limit: int | None = None
) -> Tensor:
    "Clips (N, 20, 1, 64, 64) of two moving digits, N = 8000, 1000 ('val'), 1000 ('test') (Srivastava et al. 2015)."
    require_choice(split, "split", SPLITS)
    require_choice(labels, "labels", (False,))
    x = _public("MovingMNIST", "MovingMNIST", root, download).data
    return _finish(x, x, _three_way(len(x), split), False, limit)


# %% [markdown]
# **dSprites** [@matthey2017dsprites] is one file of 737 280 binary images, 64×64, with the factors of each. Unpacked it takes 3 GB, as float32 four times as much. We read it as a stream and keep only the rows that are wanted: set `limit`. The download is checked against the name that git gives to the file in the authors' repository, a SHA-1 of its content.

# %%
#| exports
DSPRITES = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
_DSPRITES_URL = (
    "https://github.com/google-deepmind/dsprites-dataset/raw/fa310c66517cfc1939d77fe17c725154efc97127/" + DSPRITES
)


def _rows(file: Path, member: str, split: str, limit: int | None) -> Tensor:
    "Rows of a split of one array in an .npz file, (n, ...), without unpacking the rest; all arrays are split alike."
    with zipfile.ZipFile(file) as archive, archive.open(f"{member}.npy") as f:
        read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
        shape, _, dtype = read[np.lib.format.read_magic(f)[0]](f)
        index, row = _three_way(shape[0], split)[:limit], prod(shape[1:]) * dtype.itemsize
        wanted, slots = index.sort()
        out = np.empty((len(index), *shape[1:]), dtype)
        for start in range(0, int(wanted[-1]) + 1, 4096):
            block = np.frombuffer(f.read(row * min(4096, shape[0] - start)), dtype).reshape(-1, *shape[1:])
            low, high = torch.searchsorted(wanted, torch.tensor([start, start + 4096])).tolist()
            out[slots[low:high]] = block[wanted[low:high] - start]
    return torch.from_numpy(out)


def dsprites(
    split: str = "train", labels: bool = False, root: Root = None, download: bool = False, limit: int | None = None
) -> Tensor | tuple[Tensor, Tensor]:
    """Binary sprites (N, 1, 64, 64) on -1 and 1, split 8:1:1 (Matthey et al. 2017).

    `labels`: factors (N, 5) float64: shape (1 square, 2 ellipse, 3 heart), scale, orientation, x, y. `root` may also be
    the path of the .npz file.
    """
    require_choice(split, "split", SPLITS)
    if limit is not None: require_int(limit, "limit")
    given = root is not None and Path(root).suffix == ".npz"
    file = Path(root).expanduser() if given else data_root(root) / "dsprites" / DSPRITES
    if download and not file.exists(): fetch(_DSPRITES_URL, file, "git:d98996d3f8ee1550e06b9d4ed78d0beb478910d5")
    require(file.exists(), "root", str(file), "the dSprites file, or a folder with dsprites/ in it, or download=True")
    try:
        x = _rows(file, "imgs", split, limit)[:, None].float().mul_(2).sub_(1)
        return (x, _rows(file, "latents_values", split, limit)[:, 1:]) if labels else x
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError, EOFError, IndexError, OSError) as e:
        raise ValueError(f"{file}: expected an intact dSprites file, got {e!r}") from e


# %% [markdown]
# A miniature of dSprites, drawn by our own `sprites`, in the layout of the original. Images and factors have to stay together through shuffling and splitting; drawing the factors again tells.

# %%
x, factors, _ = sprites(200, soft=False, grid=True)
values = torch.cat([torch.ones(200, 1), factors], 1).double().numpy()
images, mini = (x[:, 0] > 0).numpy().astype(np.uint8), root / "mini.npz"
np.savez_compressed(mini, imgs=images, latents_values=values)
small = {split: dsprites(split, labels=True, root=mini) for split in SPLITS}
test_eq({split: len(x) for split, (x, y) in small.items()},
        {"train": 160, "val": 20, "test": 20})
for x, y in small.values(): test_eq(draw_sprites(y, soft=False), x)
test_eq(dsprites(root=mini, limit=5), small["train"][0][:5])

# %%
with expect_fail(ValueError, contains="cut.npz: expected an intact dSprites file"):
    (root / "cut.npz").write_bytes(mini.read_bytes()[:-100])
    dsprites(root=root / "cut.npz")
with expect_fail(ValueError, contains="or download=True"): dsprites(root=root)

# %%
#| hide
room.cleanup()

# %% [markdown]
# ## Drawn images, and your own
#
# The drawn sets and `load` are within reach here too. What they return, and the rules by which files are read, is the matter of [Rendered images](21_rendered.ipynb) and [Files](20_files.ipynb).

# %%
x, factors, names = disks(64, size=16)
test_eq(draw_disks(factors, size=16), x)
own = load(to_uint8(x), size=8)
test_eq((names, tuple(own.shape)), (("x", "y", "background"), (64, 1, 8, 8)))
clip = clips(digits()[:4], 4, frames=5, motion="rotate")
Table({"disks": {"shape": tuple(x.shape), "factors": names},
       "clips of digits": {"shape": tuple(clip.x.shape), "factors": clip.names},
       "the disks, loaded at size 8": {"shape": tuple(own.shape)}}, "set")

# %% [markdown]
# ## What can go wrong
#
# * **Dequantising twice.** Digits are on exact levels; the bound on grey levels checks that they are. Do not add noise to them.
# * **Memory.** Float32 takes four bytes per value: all of CelebA at 64×64 is 8 GB. Use `limit`, or keep `to_uint8` of it.
# * **Choosing on the test split.** Whatever is tuned, a threshold, a step size, an early stop, is tuned on "val".
# * **Patches are not independent.** They come from two photographs, and neighbours overlap. Do not read a confidence interval off their number.
