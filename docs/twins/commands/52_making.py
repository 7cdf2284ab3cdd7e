# %% [markdown]
# # From a folder to a run
#
# > From a folder of pictures to a trained model: the function behind `scoreae train`, and what it chooses.

# %% [markdown]
# `scoreae train photos/ --z-dim 32 --minutes 30 --out runs/photos` is all that a first run needs. This page holds the function that the command calls; it can be called from Python with the same words. It chooses what the data can tell, the size, the channels, and the width that the time allows, prints what it chose, and writes it down, so that a resumed run and every later command ([Using a run](53_applying.ipynb)) use the same.

# %%
#| default_exp commands.making

# %%
#| exports
import inspect
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scoreae.commands.reporting import run_report
from scoreae.core.checks import require, require_choice, require_int, rng
from scoreae.images import sets as data
from scoreae.images.files import staged, to_float, to_uint8
from scoreae.measures.evaluation import evaluate as table_row
from scoreae.models.contract import Autoencoder, write_atomic
from scoreae.models.zoo import VARIANTS, make
from scoreae.use.pictures import plot_rows
from scoreae.use.runs import differences, read_run
from scoreae.use.training import Fit, fit

# %%
#| hide
import contextlib
import io
import tempfile

from fastcore.test import expect_fail, test_eq
from PIL import Image

from scoreae.models.zoo import load

# %% [markdown]
# ## What the data can tell
#
# Images of one size of at most 64 pixels stay as they are. Others are brought to the largest of 16, 32 and 64 pixels that the smallest of them has; without a GPU, to at most 32. To find the sizes, files of a folder are opened but not decoded.

# %%
#| exports
SIDES = (8, 16, 32, 64)


def _sizes(spec: str | Path) -> set[tuple[int, int]]:
    "The sizes (height, width) of the images of a file or folder; files of a folder that are no images are left out."
    from PIL import Image, UnidentifiedImageError

    path = Path(spec).expanduser()
    require(path.exists(), "images", str(path), "a file or folder that exists")
    if not path.is_dir(): return {tuple(data.load(path, limit=1).shape[2:])}
    found = set()
    for file in path.rglob("*"):
        if not file.is_file() or file.name.startswith("."): continue
        try:
            with Image.open(file) as image: found.add(image.size[::-1])
        except (UnidentifiedImageError, OSError): continue
    require(len(found) > 0, "images", str(path), "a folder with image files")
    return found


def choose_size(spec: str | Path, most: int | None = None) -> tuple[int, int]:
    "The size (height, width) to train at: the images' own if they share one, else what fits; sides at most `most`."
    sizes = _sizes(spec)
    if len(sizes) == 1 and max(next(iter(sizes))) <= 64: return next(iter(sizes))
    least = min(min(s) for s in sizes)
    limit = min(least, most or (64 if torch.cuda.is_available() else 32))
    return (max([s for s in SIDES if s <= limit] or [least]),) * 2


# %%
#| exports
def read_images(spec: str | Path, size: tuple[int, int], channels: int | None = None, crop: str = "center") -> Tensor:
    "Levels (N, C, H, W) in uint8 of a file or folder; what cannot be read is skipped, and said."
    skipped = []
    x = data.load(spec, size, channels, crop=crop, skipped=skipped, as_uint8=True)
    if skipped: print(f"skipped {len(skipped)} files that are no images, the first: {skipped[0][0]}")
    return x


def split(x: Tensor, seed: int = 0, share: float = 0.1) -> tuple[Tensor, Tensor]:
    "Images to train on, and a fixed random `share` of them, at least two, that is held out."
    require(len(x) > 3, "images", x, "at least four images")
    order, cut = torch.randperm(len(x), generator=rng(seed)), max(2, round(share * len(x)))
    return x[order[cut:].sort().values], x[order[:cut].sort().values]


def write_images(x: Tensor, out: str | Path, names: Sequence[str] | None = None) -> list[Path]:
    """Write images (N, C, H, W) in [-1, 1]: to one .npy file (uint8), one .png if there is one image, or a folder.

    In a folder they are called by `names`, or by their numbers.
    """
    from PIL import Image

    out, levels = Path(out).expanduser(), to_uint8(x)
    if out.suffix == ".npy":
        with staged(out) as part: np.save(part, levels.numpy())
        return [out]
    require(out.suffix in ("", ".png") and (len(x) == 1 or not out.suffix), "out", str(out), "a folder, or a .npy file")
    files = [out] if out.suffix else [out / f"{k}.png" for k in names or (f"{i:05d}" for i in range(len(x)))]
    for file, image in zip(files, levels, strict=True):
        a = image.permute(1, 2, 0).numpy()
        with staged(file) as part: Image.fromarray(a[..., 0] if a.shape[2] == 1 else a).save(part)
    return files


# %% [markdown]
# A folder such as people have: photographs of two sizes, one grey, and a text file.

# %%
room = tempfile.TemporaryDirectory()
here = Path(room.name)
photos = here / "photos"
photos.mkdir()
source = to_uint8(data.patches("val", size=48, limit=40))
for i, image in enumerate(source):
    a = image.permute(1, 2, 0).numpy()
    a = a[:, :40] if i % 2 else a
    kind = "png" if i % 3 else "jpg"
    Image.fromarray(a if i else a[..., 0]).save(photos / f"{i}.{kind}")
(photos / "notes.txt").write_text("not an image")
size = choose_size(photos)
with contextlib.redirect_stdout(io.StringIO()) as said: x = read_images(photos, size)
wanted = f"skipped 1 files that are no images, the first: {photos / 'notes.txt'}\n"
test_eq(said.getvalue(), wanted)
test_eq((size, tuple(x.shape), x.dtype), ((32, 32), (40, 3, 32, 32), torch.uint8))
x, held_out = split(x)
test_eq((len(x), len(held_out)), (36, 4))
test_eq(len(write_images(to_float(held_out), here / "held")), 4)
write_images(to_float(held_out), here / "held.npy")
for name in ("held", "held.npy"):
    test_eq(torch.equal(read_images(here / name, size), held_out), True)

# %%
with expect_fail(ValueError, contains="images: expected a file or folder that exists"):
    choose_size(here / "gone")


# %% [markdown]
# ## How wide
#
# The widest network of a few that gets two thousand steps in the time; each is tried for a few steps. Given a number of steps instead of minutes, the width is 32.

# %%
#| exports
def _model_name(name: str) -> str:
    "The zoo's name for `name`, whatever its capitals."
    found = {k.lower(): k for k in VARIANTS}
    require_choice(str(name).lower(), "model", tuple(found))
    return found[name.lower()]


def _speed(model: Autoencoder, x: Tensor, batch_size: int) -> float:
    "Seconds per step."
    kw = {"batch_size": batch_size, "progress": False}
    fit(model, x[:batch_size], steps=1, **kw)
    return fit(model, x[:batch_size], steps=3, **kw).seconds / 3


def _new_model(s: dict) -> Autoencoder:
    "An untrained model by settings; torch's random state is left as it was."
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(s["seed"])
        return make(s["model"], (s["channels"], *s["size"]), s["z_dim"], width=s["width"])


def describe(model: Autoencoder, images: int) -> str:
    "A model and its number of images in one line."
    (c, h, w), parameters = model.shape, sum(p.numel() for p in model.parameters())
    what = f"{type(model).__name__}, codes of {model.z_dim} numbers, {parameters:,} parameters"
    return f"{what}; {images} images of {c} channel{'s' * (c > 1)} and {h}×{w} pixels"


def choose_width(name: str, x: Tensor, z_dim: int, seconds: float, batch_size: int = 64,
                 widths: Sequence[int] = (64, 48, 32, 24, 16), fewest: int = 2000) -> int:
    "The widest of `widths` with which a model of the zoo gets `fewest` steps on images `x` in the time, or the last."
    if "width" not in inspect.signature(VARIANTS[name][0]).parameters: return widths[-1]
    for width in widths[:-1]:
        model = make(name, tuple(x.shape[1:]), z_dim, width=width)
        if _speed(model, x, batch_size) * fewest <= seconds: return width
    return widths[-1]


# %%
test_eq((_model_name("sami"), _model_name("PCA")), ("SAMI", "PCA"))
how = {"seconds": 1e-6, "batch_size": 4, "widths": (16, 8)}
test_eq(choose_width("AE", source[:, :, :8, :8], 4, **how), 8)

# %%
with expect_fail(ValueError, contains="model: expected one of 'pca', 'ae'"):
    _model_name("gan")

# %% [markdown]
# ## Train
#
# What was chosen is kept with the run. To go on, the folder is enough; anything that is given again has to be the same.

# %%
#| exports
DEFAULTS = {"model": "SAMI, told level", "z_dim": 32, "seed": 0, "batch_size": 64, "crop": "center", "lr": 1e-3,
            "precision": "float32"}  # fmt: skip


def _settings(folder: Path, resume: bool, given: dict) -> dict:
    "The settings of the run in `folder`, if it is resumed, or those that are given, with defaults."
    given = {k: v for k, v in given.items() if v is not None}
    if not (resume and (folder / "run.json").exists()): return DEFAULTS | given
    kept = read_run(folder)["note"] or {}
    require("images" in kept, "resume", str(folder), "the folder of a run of this command")
    changed = differences({k: kept.get(k) for k in given}, given)
    require(not changed, "resume", "; ".join(changed), f"the settings of the run in {folder}")
    return kept


def _chosen(s: dict) -> tuple[dict, Tensor]:
    "All settings of a run, and its images (uint8)."
    pair = tuple(s["size"]) if "size" in s else choose_size(s["images"])
    x = read_images(s["images"], pair, s.get("channels"), s["crop"])
    if "steps" not in s and "minutes" not in s: s = s | {"minutes": 30.0}
    if "width" not in s:
        alone = int(os.environ.get("WORLD_SIZE", 1)) == 1
        require(alone, "width", None, "a width, since several processes would each choose their own")
        timed = (s["model"], x, s["z_dim"], 60 * s.get("minutes", 0), s["batch_size"])
        s = s | {"width": 32 if "steps" in s else choose_width(*timed)}
    return s | {"size": list(pair), "channels": x.shape[1]}, x


def _preview(folder: Path, shown: Tensor):
    "A callback that writes preview.png: held-out images and their reconstructions."
    def show(step: int, model: Autoencoder) -> None:
        rows = {"image": shown, **{m: model.reconstruct(shown, m) for m in ("point", "sample")}}
        write_atomic(folder / "preview.png", plot_rows(rows, f"step {step}", size=0.8).png(100))

    return show


# %%
#| exports
def final_report(folder: Path, model: Autoencoder, x: Tensor, held_out: Tensor, done: Fit | None = None,
                 steps: int = 10) -> None:
    "Write report.html of a run, with a row of numbers: images `x` (uint8) and `held_out` (in [-1, 1]), its `Fit`."
    cut = min(200, len(held_out) // 2)
    row = table_row(model, to_float(x[:200]), held_out[:cut], held_out[cut : 2 * cut], levels=256, steps=steps)
    run_report(folder / "report.html", model, to_float(x[:2000]), held_out[:200], done, [row], steps=steps)


def train(images: str | None = None, out: str = "runs/train", resume: bool = False, progress: bool = True,
          report: bool = True, every: int = 250, compile: bool = False, accumulate: int = 1, **settings) -> Fit:
    """Train a model of the zoo on a file or folder of `images`; model, states, preview and report go to folder `out`.

    `settings`: model ("SAMI, told level"), z_dim (32), minutes (30) or steps, size, channels, width, batch_size, lr,
    seed, crop, precision. Size, channels and width are chosen by the data and the time where they are not given. What
    was chosen is printed and kept with the run; `resume` takes it from there. A tenth of the images is held out.
    """
    require(set(settings) <= set(SETTINGS), "settings", sorted(set(settings) - set(SETTINGS)), f"some of {[*SETTINGS]}")
    if settings.get("model"): settings["model"] = _model_name(settings["model"])
    if settings.get("size"): settings["size"] = [require_int(settings["size"], "size")] * 2
    folder = Path(out).expanduser()
    s = _settings(folder, resume, {"images": images and str(images), **settings})
    require("images" in s, "images", images, "a file or folder of images")
    s, x = _chosen(s)
    model = _new_model(s)
    print(describe(model, len(x)))
    x, held_out = split(x, s["seed"])
    shown, val = to_float(held_out[:8]), to_float(held_out)
    how = {k: s[k] for k in ("minutes", "steps", "batch_size", "lr", "seed", "precision") if k in s}
    how |= {"every": every, "compile": compile, "accumulate": accumulate, "progress": progress}
    done = fit(model, x, **how, val=val, callback=_preview(folder, shown), run=folder, resume=resume, note=s)
    if report and int(os.environ.get("RANK", 0)) == 0: final_report(folder, model.cpu(), x, val, done)
    print(f"{done.steps} steps in {done.seconds:.0f} s; model, preview and report are in {folder}")
    return done


# %%
#| exports
SETTINGS = {
    "model": (str, "name of the zoo, in any capitals (default: SAMI, told level)"),
    "z_dim": (int, "size of the code (default: 32)"),
    "minutes": (float, "time to train (default: 30)"),
    "steps": (int, "steps to train, instead of minutes"),
    "size": (int, "side of the images (default: chosen from the data)"),
    "channels": (int, "1 or 3 (default: chosen from the data)"),
    "width": (int, "width of the networks (default: chosen from the time)"),
    "batch_size": (int, "images per step (default: 64)"),
    "lr": (float, "learning rate (default: 0.001)"),
    "seed": (int, "seed of weights, batches and noise (default: 0)"),
    "crop": (str, "center, pad or stretch (default: center)"),
    "precision": (str, "float32 or bf16 (default: float32)"),
}

# %% [markdown]
# The folder of photographs from above, for a few steps: the model, its report and a preview are there, and what was chosen is kept.

# %%
out, kw = here / "run", {"model": "ae", "z_dim": 4, "steps": 12, "width": 8, "size": 16,
                         "batch_size": 12}
with contextlib.redirect_stdout(io.StringIO()) as said:
    train(photos, out, progress=False, **kw)
    test_eq(train(out=out, resume=True, report=False, progress=False).steps, 12)
assert "skipped 1 files" in said.getvalue()
assert "40 images of 3 channels and 16×16 pixels" in said.getvalue()
test_eq(load(out).trained["steps"], 12)
", ".join(sorted(p.name.split("-")[0] for p in out.iterdir()))

# %%
with expect_fail(ValueError, contains="width: 8 -> 16"):
    train(out=out, resume=True, width=16)

# %%
#| hide
room.cleanup()

# %% [markdown]
# ## What can go wrong
#
# * **Too few images.** A hundred photographs train a model that knows these hundred. The held-out curve of the report shows it.
# * **A folder that changes.** The held-out tenth is drawn from the images that are there. If images are added, a run is not resumed, and its evaluation would mix what was held out with what was not: copy the folder first.
# * **The subject at the edge.** Images are cut to the centre square; `--crop pad` keeps all of them.
# * **A width that the time chose.** It depends on how busy the machine was. It is kept with the run; give `--width` to repeat one elsewhere.
