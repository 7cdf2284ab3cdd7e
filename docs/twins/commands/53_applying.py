# %% [markdown]
# # Using a run
#
# > What a trained model is good for, from the command line: codes, pictures again, edits, numbers, and sliders.

# %% [markdown]
# A run of `scoreae train` ([From a folder to a run](52_making.ipynb)) leaves a folder. This page holds the functions behind the other commands, which take such a folder and do one thing each. Images that go in are brought to the model's size; images that come out are PNG files, or one array. All of them can be called from Python with the same words. We call each on a small run, and show that an edit changes what it was asked to change.

# %%
#| default_exp commands.applying

# %%
#| exports
import csv
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scoreae.commands.making import describe, final_report, read_images, split, train, write_images
from scoreae.core.checks import require, require_int
from scoreae.core.pages import markdown_table
from scoreae.images.files import staged, to_float
from scoreae.measures.evaluation import evaluate as table_row
from scoreae.measures.evaluation import to_json
from scoreae.models.contract import Autoencoder, write_atomic
from scoreae.models.zoo import load
from scoreae.use.edits import Direction, axis_direction, fit_direction
from scoreae.use.edits import edit as move
from scoreae.use.runs import read_info, read_run
from scoreae.use.training import Fit

# %%
#| hide
import contextlib
import io
import tempfile

from fastcore.test import expect_fail, test_close, test_eq

from scoreae import data
from scoreae.core.pages import Table

# %% [markdown]
# A small run to use: PCA on patches of two photographs. (Any model of the zoo would do; this one is trained at once.)

# %%
room = tempfile.TemporaryDirectory()
here = Path(room.name)
run, photos = here / "run", here / "photos"
patches = data.patches(size=8, limit=120)
write_images(patches, photos)
quiet = lambda: contextlib.redirect_stdout(io.StringIO())
how = {"model": "pca", "z_dim": 12, "steps": 1, "width": 8, "progress": False}
with quiet(): train(photos, run, report=False, **how)


# %% [markdown]
# ## In and out

# %%
#| exports
def _images_for(model: Autoencoder, images: str | Path, crop: str = "center") -> Tensor:
    "Images (N, C, H, W) in [-1, 1] as the model takes them."
    c, h, w = model.shape
    return to_float(read_images(images, (h, w), c, crop))


def encode(model: str, images: str, out: str = "codes.npy", crop: str = "center") -> Tensor:
    "Write the codes (N, z_dim) of images to an .npy file, by the model in the folder `model`; returns them."
    network, place = load(model), Path(out).expanduser()
    require(place.suffix == ".npy", "out", out, "an .npy file")
    z = network.encode(_images_for(network, images, crop))
    with staged(place) as part, part.open("wb") as f: np.save(f, z.numpy())
    print(f"{len(z)} codes of {z.shape[1]} numbers: {out}")
    return z


def _written(y: Tensor, out: str) -> Tensor:
    "The images that were made: written, and said."
    write_images(y, out)
    print(f"{len(y)} images: {out}")
    return y


def reconstruct(model: str, images: str, out: str = "reconstructed", mode: str = "point", steps: int = 25,
                seed: int = 0, crop: str = "center") -> Tensor:
    "Write reconstructions of images to a folder of PNG files, or to an .npy file; returns them."
    network = load(model)
    y = network.reconstruct(_images_for(network, images, crop), mode, steps, seed=seed)
    return _written(y, out)


def sample(model: str, out: str = "samples", n: int = 16, steps: int = 50, seed: int = 0) -> Tensor:
    "Write `n` images, drawn from the model, to a folder of PNG files, or to an .npy file; returns them."
    y = load(model).sample(n, steps, seed=seed)
    return _written(y, out)


def interpolate(model: str, first: str, second: str, out: str = "line", n: int = 9, mode: str = "point",
                steps: int = 25, crop: str = "center") -> Tensor:
    "Write `n` images on the line between the codes of two images to a folder of PNG files, or to an .npy file."
    network = load(model)
    ends = [_images_for(network, file, crop)[0] for file in (first, second)]
    y = network.interpolate(*ends, n=n, mode=mode, steps=steps)
    return _written(y, out)


# %%
ends = photos / "00001.png", photos / "00002.png"
with quiet() as said:
    z = encode(run, photos, here / "codes.npy")
    y = reconstruct(run, photos, here / "again", steps=2)
    sample(run, here / "drawn.npy", n=3, steps=2)
    line = interpolate(run, *ends, here / "line", n=5, steps=2)
test_eq(np.load(here / "codes.npy").shape, (120, 12))
test_eq(np.load(here / "drawn.npy").shape, (3, 3, 8, 8))
test_close(line[[0, -1]], y[1:3], eps=1e-5)  # a line begins and ends at reconstructions
test_close(data.load(here / "again"), y, eps=1 / 255 + 1e-6)  # PNG has 256 levels
commands = "encode", "reconstruct", "sample", "interpolate"
lines = said.getvalue().replace(f"{here}/", "").splitlines()
Table(dict(zip(commands, lines, strict=True)), "command", "what it says")


# %% [markdown]
# ## Edits
#
# The direction of an attribute comes from examples: images with a value for each. The values are a table of comma-separated values with a line of headings, whose first column names files, or an array with one number for each image of a folder, in its order. Two different values are a yes and a no, and the greater is the yes; more are a measure.

# %%
#| exports
def _values(found: Sequence) -> Tensor:
    "Values as booleans if there are two different ones, else as numbers; `ValueError` if they are neither."
    try: known = [float(v) for v in found]
    except ValueError: known = list(found)
    kinds = sorted(set(known))
    if len(kinds) == 2: return torch.tensor([v == kinds[1] for v in known])
    numbers = len(kinds) > 2 and all(isinstance(v, float) and math.isfinite(v) for v in known)
    require(numbers, "labels", kinds[:3], "numbers, or two different words")
    return torch.tensor(known)


def read_labels(file: str | Path, column: str | None = None) -> tuple[list[str] | None, Tensor]:
    """Files (None for an array) and their values (N,) from a .csv or .npy file: booleans if two differ, else numbers.

    A table has headings; its first column names files, and `column` (by default the second) has the values.
    """
    path = Path(file).expanduser()
    require(path.suffix in (".csv", ".npy") and path.exists(), "labels", str(path), "a .csv or .npy file that exists")
    if path.suffix == ".npy":
        found = np.load(path)
        require(found.ndim == 1 and found.dtype.kind in "biuf", "labels", found, "one number for each image")
        return None, _values(found.tolist())
    with path.open(newline="") as f: names, *rows = list(csv.reader(f)) or [[]]
    column = column or (names[1:2] or ["a second column"])[0]
    require(column in names[1:], "column", column, f"one of {names[1:]}, the columns of {path.name}")
    rows, at = [r for r in rows if r], names.index(column)
    whole = len(rows) > 1 and all(len(r) == len(names) for r in rows)
    require(whole, "labels", path.name, "a table of at least two rows, as long as its headings")
    return [r[0] for r in rows], _values([r[at] for r in rows])


# %%
faces = here / "faces.csv"
faces.write_text("file,smile,age\na.png,no,31\nb.png,yes,4.5\nc.png,no,60\n")
names, smile = read_labels(faces)
test_eq((names, smile.tolist()), (["a.png", "b.png", "c.png"], [False, True, False]))
test_eq(read_labels(faces, "age")[1].tolist(), [31, 4.5, 60])
np.save(here / "signs.npy", np.array([-1, 1, 1]))
names, signs = read_labels(here / "signs.npy")
test_eq((names, signs.tolist()), (None, [False, True, True]))

# %%
#| include: false
(here / "words.csv").write_text("file,kind\na.png,cat\nb.png,dog\nc.png,cow\n")
for name, file, *column in (
    ("labels: expected a .csv or .npy file", "codes.txt"),
    ("labels: expected numbers, or two different words", "words.csv"),
    ("column: expected one of ['smile', 'age']", "faces.csv", "hair"),
    ("labels: expected one number", "codes.npy"),
):
    with expect_fail(ValueError, contains=name): read_labels(here / file, *column)


# %%
#| exports
def _direction(model: Autoencoder, examples: str | Path, labels: str, column: str | None, crop: str) -> Direction:
    "The direction of an attribute from a file of labels, and the images that they are of."
    names, y = read_labels(labels, column)
    if names is None: x = _images_for(model, examples, crop)
    else: x = torch.cat([_images_for(model, Path(examples) / name, crop)[:1] for name in names])
    require(len(x) == len(y), "labels", len(y), f"one value for each of the {len(x)} images")
    return fit_direction(model, x, y)


def edit(model: str, images: str, out: str = "edited", labels: str | None = None, column: str | None = None,
         examples: str | None = None, axis: int | None = None, amounts: Sequence[float] = (-2.0, -1.0, 1.0, 2.0),
         hold: bool = False, steps: int = 25, crop: str = "center") -> Tensor:
    """Write images with their codes moved by each of `amounts`, along an attribute or an axis of the code.

    The attribute is fitted to the file `labels` (see `read_labels`) of the folder `examples`, by default `images`.
    Amounts are in standard deviations of codes; `hold` keeps the start of the walk (`edits.edit`). Returns the images
    (amounts, N, C, H, W); a folder gets files called by image and amount.
    """
    require((labels is None) != (axis is None), "labels", labels, "a file of labels, or else an axis")
    network = load(model)
    x = _images_for(network, images, crop)
    if labels is None: direction = axis_direction(network, axis)
    else: direction = _direction(network, examples or images, labels, column, crop)
    y = move(network, x, direction, amounts, hold=hold, steps=steps)
    named = [f"{i:05d}_{a:+g}" for a in amounts for i in range(len(x))]
    if Path(out).suffix == ".npy": write_images(y, out)
    else: write_images(y.flatten(0, 1), out, named)
    print(f"{len(x)} images, moved by {', '.join(f'{a:+g}' for a in amounts)}: {out}")
    return y


# %% [markdown]
# The attribute here is how much redder than blue a patch is. It can be measured on any picture, so we see whether the pictures change, and by how much more the further they are moved. PCA keeps the mean colour in its leading components, so the change must be nearly that of the fitted value, which is a straight line; where pixels are cut off at black or white, it is less.

# %%
red = lambda pictures: (pictures[..., 0, :, :] - pictures[..., 2, :, :]).mean((-2, -1))
rows = [f"{i:05d}.png,{float(v):.6f}" for i, v in enumerate(red(patches))]
(here / "red.csv").write_text("\n".join(["file,red", *rows]))
np.save(here / "red.npy", red(patches).numpy())
some = here / "some"
write_images(patches[:20], some)
how = {"amounts": [-1.0, 0.0, 1.0], "examples": photos, "steps": 2}
with quiet():
    y = edit(run, some, here / "edited", labels=here / "red.csv", **how)
    same = edit(run, some, here / "edited.npy", labels=here / "red.npy", **how)
    along = edit(run, some, here / "axis.npy", axis=0, amounts=[-2.0, 2.0], steps=2)
test_close(y, same, eps=1e-4)
test_eq(np.load(here / "edited.npy").shape, (3, 20, 3, 8, 8))
test_eq(along.shape, (2, 20, 3, 8, 8))
test_eq(sorted(p.name for p in (here / "edited").iterdir())[:3],
        ["00000_+0.png", "00000_+1.png", "00000_-1.png"])
direction = _direction(load(run), photos, here / "red.csv", None, "center")
asked, got = float(direction.weight.norm()), red(y).mean(1)
assert 0.6 * asked < got[2] - got[1] < 1.05 * asked
assert 0.6 * asked < got[1] - got[0] < 1.05 * asked
steps = ("from -1 to 0", "from 0 to 1")
Table({k: {"asked": asked, "got": float(v)}
       for k, v in zip(steps, got.diff(), strict=True)}, "change of red minus blue")

# %%
with expect_fail(ValueError,
                 contains="labels: expected a file of labels, or else an axis"):
    edit(run, some)
with expect_fail(ValueError, contains="labels: expected one value for each of the 20"):
    edit(run, some, labels=here / "red.npy")


# %% [markdown]
# ## Numbers

# %%
#| exports
def _held_out(run: str | Path) -> tuple[Autoencoder, Tensor, Tensor]:
    "The model of a run of `train`, and its images: those it was trained on (uint8), and the others in [-1, 1]."
    s = read_run(run)["note"]
    require(isinstance(s, dict) and "images" in s, "run", str(run), "the folder of a run of scoreae train")
    x, held_out = split(read_images(s["images"], tuple(s["size"]), s["channels"], s["crop"]), s["seed"])
    return load(run), x, to_float(held_out)


def evaluate(run: str, out: str | None = None, limit: int = 500, steps: int = 25, seed: int = 0) -> dict:
    """Evaluate the run in a folder on its held-out images: half to choose on, half to report on, at most `limit` each.

    Prints one row of a table, and writes it as JSON to the file `out`. Bits per dimension are of 256 levels.
    """
    model, x, held_out = _held_out(run)
    cut = min(require_int(limit, "limit"), len(held_out) // 2)
    sets = to_float(x[:limit]), held_out[:cut], held_out[cut : 2 * cut]
    row = table_row(model, *sets, levels=256, steps=steps, seed=seed)
    if out: write_atomic(Path(out).expanduser(), (json.dumps(to_json([row]), indent=1) + "\n").encode())
    print(markdown_table([row]))
    return row


def info(run: str) -> dict:
    "Print what a folder holds: the model, its training, the states of its run; returns it."
    model, folder = load(run), Path(run).expanduser()
    print(describe(model, model.trained.get("images", 0)))
    found = {"class": type(model).__name__, "config": model.config, "trained": model.trained}
    found["states"] = sorted(p.name for p in folder.glob("state-*.safetensors"))
    print(json.dumps(found, indent=1, default=str))
    return found


# %% [markdown]
# ## Sliders
#
# `scoreae explore`, from Python `look`, makes a run ready to be looked at: it writes the report again, also of a run that was stopped before its end, and a notebook with the four sliders of [Sliders](../use/45_sliders.ipynb), beside the held-out images that they begin with. The folder needs nothing else; it can be moved, or sent to somebody. The command starts nothing: it says how to open the notebook.

# %%
#| exports
SLIDERS = ("""# Sliders

Run the cells from the top, then move the sliders. A figure without a slider takes the same arguments: `plot_axis`,
`plot_line`, `plot_edit` and `plot_walk` of `scoreae.use.sliders`.""", """import scoreae as sa
from scoreae.commands.reporting import axis_information""", """model, x = sa.load("."), sa.data.load("explore.npy")
from scoreae.use.edits import fit_direction
from scoreae.use.sliders import slide_axis, slide_edit, slide_line, slide_walk
ranked = axis_information(model, x)[0].argsort(descending=True).tolist()
ranked[:8]  # the axes that carry most""", "slide_axis(model, x, axis=ranked[0])", "slide_line(model, x)",
"""brightness = fit_direction(model, x, x.mean((1, 2, 3)))  # or any other value for each image
slide_edit(model, x, brightness)""", "slide_walk(model, x)")  # fmt: skip


def _notebook(cells: Sequence[str]) -> bytes:
    "A notebook of one text cell and code cells, without outputs."
    text, code = {"cell_type": "markdown"}, {"cell_type": "code", "execution_count": None, "outputs": []}
    made = [{**(code if i else text), "id": f"cell{i}", "metadata": {}, "source": c} for i, c in enumerate(cells)]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    whole = {"cells": made, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return (json.dumps(whole, indent=1) + "\n").encode()


def read_fit(run: str | Path) -> Fit | None:
    "What the last state of a run says about its training, or `None`."
    done, kept = read_info(run), read_run(run)
    if done is None: return None
    size = kept.get("training", {}).get("batch_size", 0)
    return Fit(done["steps"], done["seconds"], size, done["history"], done["val_history"])


def look(run: str, images: str | None = None, steps: int = 10, limit: int = 100, crop: str = "center") -> Path:
    """Write the report of a run again, and explore.ipynb, a notebook of sliders; returns its place, and starts nothing.

    The sliders begin with held-out images, or with `images`, at most `limit`. A folder without a run of `scoreae train`
    (a saved model) needs `images`, and gets no report. `steps` evaluations of the denoiser for an image of the report.
    """
    folder, limit = Path(run).expanduser(), require_int(limit, "limit", low=2)
    if images is None or (folder / "run.json").exists():
        model, x, shown = _held_out(run)
        final_report(folder, model, x, shown, read_fit(run), steps)
        print(f"report: {folder / 'report.html'}")
    shown = shown if images is None else _images_for(load(run), images, crop)
    write_images(shown[:limit], folder / "explore.npy")
    write_atomic(folder / "explore.ipynb", _notebook(SLIDERS))
    print(f"sliders: jupyter lab {folder / 'explore.ipynb'}")
    return folder / "explore.ipynb"


# %%
with quiet() as said:
    row = evaluate(run, here / "row.json", steps=2)
    notebook = look(run, steps=2)
    found = info(run)
written = json.loads((here / "row.json").read_text())[0]
test_eq(written["MSE point"], to_json([row])[0]["MSE point"])
test_eq((len(data.load(run / "explore.npy")), found["class"]), (12, "PCA"))
assert "jupyter lab" in said.getvalue()
assert "<h2>Numbers</h2>" in (run / "report.html").read_text()
load(run).save(here / "alone")
with quiet(): look(here / "alone", some)
cells = json.loads(notebook.read_text())["cells"]
[cell["source"].splitlines()[-1] for cell in cells[3:]]

# %%
with expect_fail(ValueError, contains="folder: expected a run"): look(here / "alone")

# %% [markdown]
# ## The list
#
# The command line is made from this list: each command with its function, whose arguments are its options, and an example.

# %%
#| exports
WORDS = {
    "model": "folder of a model or run", "run": "folder of a run", "images": "image file, folder, .npy or video",
    "first": "image file", "second": "image file", "n": "number of images", "seed": "seed of the noise",
    "mode": "point or sample", "crop": "center, pad or stretch", "limit": "most images to use",
    "resume": "go on with the run in --out", "report": "write report.html at the end", "progress": "show a bar",
    "every": "steps between states, previews and held-out losses", "compile": "compile the networks",
    "accumulate": "shards of a batch, one after the other", "out": "file or folder to write",
    "steps": "evaluations of the denoiser for an image", "labels": "values of an attribute: .csv (file,value) or .npy",
    "column": "column of a .csv file with the values (default: the second)", "axis": "axis of the code, not labels",
    "examples": "folder of the images that have labels (default: the images)", "hold": "keep the start of the walk",
    "amounts": "how far to move, in standard deviations of codes",
}  # fmt: skip
COMMANDS: dict[str, tuple[Callable, str]] = {
    "train": (train, "photos/ --z-dim 32 --minutes 30 --out runs/photos"),
    "encode": (encode, "runs/photos more_photos/ --out codes.npy"),
    "reconstruct": (reconstruct, "runs/photos more_photos/ --mode sample --out again/"),
    "sample": (sample, "runs/photos --n 64 --out drawn/"),
    "interpolate": (interpolate, "runs/photos cat.png dog.png --n 9 --out line/"),
    "edit": (edit, "runs/photos more_photos/ --labels smile.csv --examples photos/ --amounts -2 2 --out edited/"),
    "evaluate": (evaluate, "runs/photos --out row.json"),
    "explore": (look, "runs/photos"),
    "info": (info, "runs/photos"),
}

# %%
#| hide
room.cleanup()

# %% [markdown]
# ## What can go wrong
#
# * **An attribute that comes with another.** If all smiling examples are bright, the direction of the smile makes images brighter. Look at several attributes of the edited pictures.
# * **Few examples.** A direction has as many weights as the code has axes. With fewer examples than that, the penalty decides.
# * **A run whose images are gone.** `evaluate` and `explore` read the images of the run again, by the path that `train` was given: call them from the same folder.
