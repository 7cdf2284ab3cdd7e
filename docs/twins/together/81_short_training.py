# %% [markdown]
# # How far a short training gets
#
# > From a folder of mixed files to a slider, by the commands alone: what a first run gives, and what it does not.

# %% [markdown]
# Somebody has a folder of pictures: PNG and JPEG, of several sizes, a few in a subfolder, one grey, and a text file that should not be there. This page goes the whole way with it, by the words of the command line and nothing else. First on a scale that takes seconds, where a process is also killed and taken up again; then with the stored results of a longer run on colour patches of two photographs, beside what PCA does with as many numbers. It shows that the way works, and that a short training is a short training.
#
# *Stored trainings on this page are from before models began as [Gaussians](../foundations/09_gaussians.ipynb): a told SAMI began as the linear code, all other networks at random.*

# %%
#| hide
import contextlib
import io
import json
import shlex
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import comm
import matplotlib.pyplot as plt
import numpy as np
import torch
from fastcore.test import test_eq
from PIL import Image
from torch.nn.functional import pad

import scoreae as sa
from scoreae.commands.command_line import main
from scoreae.core.pages import Table, paper
from scoreae.use.sliders import plot_axis, slide_axis

# %%
#| hide
paper()
comm.create_comm = comm.DummyComm  # sliders of this page are not sent to a browser

# %% [markdown]
# ## A folder
#
# Patches of the two photographs that come with scikit-learn, written as people's folders are.

# %%
room = tempfile.TemporaryDirectory()
here = Path(room.name)
(here / "photos" / "more").mkdir(parents=True)
for i, image in enumerate(sa.data.to_uint8(sa.data.patches(size=24, limit=120))):
    a = image.permute(1, 2, 0).numpy()[: 24 - i % 5, : 24 - i % 3]
    folder = here / "photos" / ("more" if i % 4 == 0 else "")
    file = folder / f"{i:03d}.{'jpg' if i % 3 else 'png'}"
    Image.fromarray(a[..., 0] if i == 7 else a).save(file)
(here / "photos" / "read me.txt").write_text("holiday")


def scoreae(line):
    "A line as it is typed; `photos` and the rest lie in a temporary folder."
    words = [str(here / w) if w.split("/")[0] in ("photos", "run", "made") else w
             for w in shlex.split(line)]
    with contextlib.redirect_stdout(io.StringIO()) as said: test_eq(main(words), 0)
    return said.getvalue().replace(f"{here}/", "").splitlines()[-1]


found = Counter(p.suffix for p in (here / "photos").rglob("*.*"))
test_eq((sorted(found), found.total()), ([".jpg", ".png", ".txt"], 121))
Table(dict(sorted(found.items())), name="ending", value="files")

# %% [markdown]
# ## Train, lose power, go on
#
# `scoreae train photos --out run` is enough for a first run; here the options make it small. The process is killed with no chance to say goodbye, as soon as it has saved a state. `--resume` needs only the folder.

# %%
train = "train photos --model ae --z-dim 6 --steps 300 --lr 0.003 --width 8 --size 16"
train += " --batch-size 32 --every 100 --out run"
words = [sys.executable, "-m", "scoreae",
         *train.replace("photos", str(here / "photos")).split()[:-1]]
with subprocess.Popen([*words, str(here / "run"), "--no-progress"],
                      stdout=subprocess.DEVNULL) as process:
    while process.poll() is None and not list((here / "run").glob("state-*")): pass
    process.kill()
test_eq(process.returncode, -9)
scoreae("train --out run --resume --no-progress --no-report")
model = sa.load(here / "run")
test_eq((model.trained["steps"], model.trained["ended"]), (300, "budget"))
f"{model.trained['steps']} steps; ended by its {model.trained['ended']}"

# %% [markdown]
# ## Use
#
# Codes, reconstructions, a line between two files, and an edit: how much redder than blue each picture is was written to a table, as somebody would have it for smiles or ages.

# %%
red = lambda x: (x[..., 0, :, :] - x[..., 2, :, :]).mean((-2, -1))
files = sorted(p for p in (here / "photos").rglob("*.*") if p.suffix != ".txt")
values = [float(red(sa.data.load(p, 16, 3))[0]) for p in files]
table = [f"{p.relative_to(here / 'photos')},{v:.4f}"
         for p, v in zip(files, values, strict=True)]
(here / "made").mkdir()
(here / "made" / "red.csv").write_text("\n".join(["file,red", *table]))

typed = ["encode run photos --out made/codes.npy",
         "reconstruct run photos --out made/again.npy",
         "interpolate run photos/001.jpg photos/005.jpg --n 7 --out made/line",
         "edit run photos --labels made/red.csv --amounts -2 0 2 --out made/red.npy",
         "sample run --n 7 --out made/drawn.npy"]  # fmt: skip
said = {f"`scoreae {line}`": scoreae(line) for line in typed}
Table(said, name="typed", value="answered")

# %%
test_eq(np.load(here / "made" / "codes.npy").shape, (120, 6))
moved = sa.data.to_float(torch.from_numpy(np.load(here / "made" / "red.npy")))
change = red(moved).mean(1).diff()
assert (change > 0).all()  # redder with each step
f"redder by {change[0]:.2f} and {change[1]:.2f}"

# %% [markdown]
# ## Look
#
# `scoreae explore run` writes the report again, and a notebook with sliders beside the model. A slider and its figure, with the same arguments:

# %%
#| label: fig-axis
#| fig-cap: 'One of the pictures and its code moved along an axis, by −2 to 2 standard deviations. After 300 steps the colour is nearly right, and the decoder adds blotches that the picture does not have.'
#| fig-alt: 'A row of six pictures of 16 by 16 pixels. The image is a plain light blue. The five decoded ones are light blue with blotches, lightest and then darker from the left to the right.'
x = sa.data.load(here / "photos", 16, 3, skipped=[])
slider = slide_axis(model, x, image=1)
test_eq(bytes(slider.children[-2].value),
        plot_axis(model, x, image=1, amounts=0.0).png(100))
plot_axis(model, x, image=1)

# %% [markdown]
# ## A longer run
#
# Stored results of `bench/claims/own_images.py`, which does all of the above by the commands: 3000 files of up to 48 pixels from the left 70 % of each photograph; codes of 32 numbers, networks of width 16, batches of 32, one thread, one seed. Each training was killed once and resumed. Images were brought to 32 × 32 pixels, as the command chose, and to 16 × 16, as it was told. The SAMI without `--model` is told the noise level; `--model sami` is noise-blind.
#
# Six rows of four pictures: some that no training saw, from the right 15 %; one image per code; a draw of what the code leaves open; a line between two files; a picture made less and more red (amounts −2, −1, 1, 2); samples.

# %%
#| label: fig-dbae
#| fig-cap: 'DBAE, 32 × 32 pixels, 1000 steps. Points have the colours of pictures that no training saw and are blurred; samples have texture, not the same as the image''s.'
#| fig-alt: 'Six rows of four colour patches. Images: dark teal, two of bright sky, dark leaves. Points: the same colours, the leaves a dark blur. Samples: the same with grain. Line: from bright sky to black. Red: a bright sky that turns slightly pink. Drawn: patches of mottled colour.'
stored = next(p for p in (Path("docs/results"), Path("../../docs/results"))
              if p.exists())
found = json.loads((stored / "own-images.json").read_text())
first = slice(4)
SHOWN = {"image": first, "point": first, "sample": first, "line": [0, 3, 6, 9],
         "red": [5, 6, 8, 9], "drawn": first}  # fmt: skip


def show(name):
    "Four of the ten stored pictures in each of the six rows of a run."
    side, x = found["rows"][name]["size"], sa.data.load(stored / f"own-{name}.png")[0]
    x = x.unfold(1, side, side).unfold(2, side, side).permute(1, 2, 0, 3, 4)
    test_eq(tuple(x.shape), (6, 10, 3, side, side))
    tiles = torch.stack([x[i, columns] for i, columns in enumerate(SHOWN.values())])
    tiles = (pad(tiles, (0, 1, 0, 1), value=1.0) + 1) / 2  # a white pixel between
    _, ax = plt.subplots(figsize=(4.4, 5.4))
    ax.imshow(tiles.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1))
    ax.set_yticks([(side + 1) * (i + 0.5) - 1 for i in range(len(SHOWN))], SHOWN)
    ax.tick_params(length=0)
    ax.set_xticks([])
    ax.grid(False)
    ax.spines[:].set_visible(False)


show("dbae")

# %%
#| label: fig-told-32
#| fig-cap: 'SAMI, told the level, 32 × 32 pixels, 1000 steps. Points are washed out, samples keep light and dark but not the colours: much of the code is lost.'
#| fig-alt: 'Six rows of four colour patches. The same images as before. Points: all of a brownish grey, light or dark. Samples: dark, orange, orange, dark, with grain. Line: from light to darker grey. Red: from turquoise to orange. Drawn: dark mottled patches.'
show("sami-told-level")

# %%
#| label: fig-told-16
#| fig-cap: 'SAMI, told the level, 16 × 16 pixels, 1000 steps. Points and samples are near the images again, and the edit shows.'
#| fig-alt: 'Six rows of four colour patches, coarser than before. Points and samples have the colours of the images, the leaves a dark blur. Line: from bright sky to black. Red: from a cyan sky to a pink one. Drawn: blurred patches of several colours.'
show("sami-told-level-16")

# %% [markdown]
# The numbers, on the 120 unseen pictures: squared errors on the [0, 1] scale with one standard error over images; the rate, in nats, of held-out images; and what an edit by one standard deviation of the codes changes, in levels of 255, beside what the fitted direction promises (24 pictures). Controls: the mean of the images that were trained on, and PCA with as many numbers.

# %%
pm = lambda v: f"{v[0]:.4f} ± {v[1]:.4f}" if v[0] < 0.5 else f"{v[0]:.1f} ± {v[1]:.1f}"
rows, error = [], {}
for size, known in found["controls"].items():
    rows += [{"model": k, "pixels": int(size), "MSE point": pm(v["MSE"])}
             for k, v in known.items()]
    error |= {(k, int(size)): v["MSE"][0] for k, v in known.items()}
for v in found["rows"].values():
    row = {"model": v["model"], "pixels": v["size"],
           "MSE point": pm(v["MSE point"]),
           "MSE sample": pm(v["MSE sample"]),
           "rate (nats)": pm(v["evaluate"]["rate (nats)"]),
           "promised (levels)": f"{v['warmth per standard deviation, asked']:.1f}",
           "got (levels)": f"{v['got'][0]:.1f} ± {v['got'][1]:.1f}"}  # fmt: skip
    rows.append(row)
    error[v["model"], v["size"]] = v["MSE point"][0]
rows.sort(key=lambda r: (r["pixels"], r["MSE point"]))
assert error["PCA", 32] < error["dbae", 32] < 0.1 * error["mean image", 32]
assert error["dbae", 32] < error["sami, told level", 32] < 0.6 * error["mean image", 32]
assert error["PCA", 16] < error["sami, told level", 16] < 0.1 * error["mean image", 16]
assert error["sami", 16] > 2 * error["sami, told level", 16]
Table(rows)

# %%
#| hide
room.cleanup()

# %% [markdown]
# The DBAE learns a code: its reconstructions have the colours and shapes of pictures from a part of the photographs that it never saw, blurred as a point must be, and its draws have texture. PCA is still nearer in squared error, by about a factor of two: it needs no training time. An edit changes what it should, but a sixth of what the direction promises: the promise is about codes, one by one, and many of these pictures are near black or white, where there is little to change. How much either counts was not measured.
#
# **The SAMI that is told the level** has one too, for it began with one, the linear code. At 16 × 16, after 40 seconds of training, its draws and points are within 0.007 of pictures that it never saw (the mean image: 0.11; the components that it began with: 0.003), and an edit moves half of what is promised. At 32 × 32 it loses a good part of what it began with: its draws are at 0.035 and its points at 0.058, where the components that it begins with leave 0.005. @fig-rate shows when: in the first hundred steps, while the free denoiser knows little and guidance does its work, the rate of the loss runs up to 700 nats; what comes back reconstructs worse than the old code. DBAE is better there, in ten times the seconds.
#
# **The noise-blind SAMI does not**, at 16 × 16 in this time: it draws patches, but a code says hardly anything about which, and what its directions promise is meaningless. It began at random; now it would begin as the Gaussian. [Beginnings](../sami_claims/60_beginnings.ipynb) says why, and where it does better. The training itself shows it: by the free and the guided error, and the rate of its loss (against a standard normal; the table's is against the fitted prior).

# %%
#| label: fig-rate
#| fig-cap: 'Left: what guidance takes off the error of the free denoiser falls as the free denoiser learns, and is least for the noise-blind SAMI. Right: the rate of the loss; at 32 × 32 it begins above 700 nats.'
#| fig-alt: 'Two panels over the steps of training, from 100 to 1000, with three lines each. Left, on a logarithmic axis, told at 32 pixels falls from 170 to 20 nats, told at 16 pixels from 50 to 8, noise-blind at 16 pixels from 25 to 1. Right, told at 32 pixels falls from 726 to about 90 nats; the others stay below 200.'
fig, axes = plt.subplots(1, 2, figsize=(7, 3))
runs = (("sami-told-level", "told, 32 × 32", "C0-o"),
        ("sami-told-level-16", "told, 16 × 16", "C2-.^"),
        ("sami-16", "noise-blind, 16 × 16", "C1--s"))  # fmt: skip
for name, label, style in runs:
    h = found["rows"][name]["losses"]
    steps, rate = [v["step"] for v in h], [v["rate"] for v in h]
    gain = [v["free"] - v["guided"] for v in h]
    for ax, v in zip(axes, (gain, rate), strict=True):
        ax.plot(steps, v, style, markersize=4, label=label)
axes[0].set(xlabel="step", ylabel="free − guided error (nats)",
            yscale="log", yticks=(1, 10, 100), yticklabels=(1, 10, 100))
axes[0].minorticks_off()
axes[1].set(xlabel="step", ylabel="rate of the loss (nats)")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
assert found["rows"]["sami-told-level"]["losses"][0]["rate"] > 700;

# %% [markdown]
# Early on the free denoiser is poor, and guidance takes much off its error. As it learns, there is less to take off; what is left is nearer to what the code is worth. An encoder that is held until the denoiser has learned something was not tried here.
#
# ## What can go wrong
#
# * **Neighbouring patches.** The held-out tenth of the run's report overlaps with what was trained on, since the patches do. The pictures above come from another part of the photographs, and their errors are what counts.
# * **Reading one short run as a verdict on a model.** One seed, minutes on one thread. [The contest](../commands/51_contest.ipynb) compares models.
