# %% [markdown]
# # The contest
#
# > Every model of the zoo, trained alike: one encoder, one code size, one budget, three seeds, and the same questions to all.

# %% [markdown]
# Papers compare their model with others' published numbers: other encoders, other budgets, a point estimate here and a sample there. This page trains all models of [The zoo](../models/18_zoo.ipynb) by the same code, and asks them the same questions. A model that joins the zoo joins the contest. The rules:
#
# * the same images, the same half-U-Net encoder, code size, batches, number of steps and learning rate; nothing is tuned for this contest (a model's own settings, like the weight of its rate, are the defaults of its page, and are listed in [The zoo](../models/18_zoo.ipynb); how SAMI begins was settled on validation images of three sets, these among them, [Beginnings](../sami_claims/60_beginnings.ipynb));
# * reconstructions as points and as samples in separate columns, with 25 steps each, of one evaluation, or of two for points of the noise-blind SAMI;
# * one bound in bits per dimension for all; a deterministic code gets the noise that is best for the validation images;
# * the Fréchet distance of samples, in the features of one small classifier (so it is *not* FID), beside that of real images from each other;
# * one kind of prior on the codes: the fitted Gaussian, or with `prior_steps` a diffusion of codes ([Priors](../models/12_priors.ipynb)), trained alike for all;
# * each number as mean and standard deviation over the seeds, which include the first weights, the batches and the noise.

# %%
#| default_exp commands.contest

# %%
#| exports
import json
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d
from tqdm.auto import tqdm

from scoreae.core.checks import require, require_choice, require_int, require_number
from scoreae.images import sets as data
from scoreae.measures.distributions import Classifier, fit_classifier
from scoreae.measures.evaluation import Value, evaluate, from_json, to_json
from scoreae.models.contract import Autoencoder, write_atomic
from scoreae.models.priors import fit_latent
from scoreae.models.zoo import VARIANTS, make
from scoreae.use.runs import made
from scoreae.use.training import fit

# %%
#| hide
import tempfile
from dataclasses import replace

from fastcore.test import expect_fail, test_close, test_eq

from scoreae.core.pages import Table

# %% [markdown]
# ## The rules as data

# %%
#| exports
SETS = ("fashion_mnist", "mnist", "cifar10", "digits")


@dataclass(frozen=True)
class Contest:
    "What all models share: images (how many of each split, scaled to `size` pixels), codes, seeds, budget, prior."

    data: str = "fashion_mnist"
    size: int = 14
    train: int = 6000
    val: int = 1000
    test: int = 1000
    z_dims: tuple[int, ...] = (16, 32)
    seeds: int = 3
    steps: int = 800
    batch_size: int = 64
    lr: float = 2e-3
    width: int = 16
    prior_steps: int = 0

    def __post_init__(self):
        require_choice(self.data, "data", SETS)
        require_int(self.prior_steps, "prior_steps", low=0)
        for name in ("size", "steps", "batch_size", "width", "seeds"): require_int(getattr(self, name), name)
        for name in data.SPLITS: require_int(getattr(self, name), name, low=2)
        for z_dim in self.z_dims: require_int(z_dim, "z_dims")
        apart = 0 < len(self.z_dims) == len(set(self.z_dims))
        require(apart, "z_dims", self.z_dims, "at least one size, each once")
        require_number(self.lr, "lr", 0, above=True)

    @property
    def levels(self) -> int: return 17 if self.data == "digits" else 256


# %% [markdown]
# Images are scaled down by averaging, and put back on their grey levels, since the bound is one on the probability of levels.

# %%
#| exports
def shrink(x: Tensor, size: int, levels: int = 256) -> Tensor:
    "Images (N, C, H, W) in [-1, 1], averaged down to `size` pixels a side and rounded to `levels` of grey."
    require(size <= min(x.shape[2:]), "size", size, f"at most the images' {min(x.shape[2:])} pixels")
    if tuple(x.shape[2:]) == (size, size): return x
    half = (levels - 1) / 2
    return ((adaptive_avg_pool2d(x, size) + 1) * half).round() / half - 1


def images_of(contest: Contest, root: str | os.PathLike | None = None,
              download: bool = False) -> list[tuple[Tensor, Tensor]]:
    "The images and labels of the contest's three splits; `root` and `download` as in `data`."
    splits = []
    for split in data.SPLITS:
        n = getattr(contest, split)
        kw = {} if contest.data == "digits" else {"root": root, "download": download, "limit": n}
        x, y = getattr(data, contest.data)(split, labels=True, **kw)
        splits.append((shrink(x[:n], contest.size, contest.levels), y[:n]))
    return splits


# %%
x = data.digits("test")[:4]
small = shrink(x, 4, 17)
exact = x.reshape(4, 1, 4, 2, 4, 2).mean((3, 5))
test_close(small, exact, eps=1 / 16 + 1e-6)  # an average, but for the rounding
test_eq(((small + 1) * 8).remainder(1).abs().max().item(), 0.0)

# %%
with expect_fail(ValueError, contains="size: expected at most the images' 8 pixels"):
    shrink(x, 9)
with expect_fail(ValueError, contains="data: expected one of"): Contest(data="imagenet")


# %% [markdown]
# ## One contender

# %%
#| exports
def _new(name: str, z_dim: int, seed: int, contest: Contest, splits: list) -> Autoencoder:
    "An untrained contender."
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make(name, tuple(splits[0][0].shape[1:]), z_dim, width=contest.width)


def contend(name: str, z_dim: int, seed: int, contest: Contest, splits: list, judge: Classifier,
            device: torch.device | str | None = None) -> dict:
    "Train one model and question it: a row, with numbers as [mean, standard error, low, high] over test images."
    x, model = splits[0][0], _new(name, z_dim, seed, contest, splits)
    kw = {"steps": contest.steps, "batch_size": contest.batch_size, "lr": contest.lr, "seed": seed, "device": device}
    fit(model, x, progress=False, **kw)
    if contest.prior_steps: fit_latent(model, x, contest.prior_steps, seed=seed)
    row = evaluate(model, *splits, levels=contest.levels, name=name, judge=judge, seed=seed)
    return to_json([row | {"z_dim": z_dim}])[0]


# %% [markdown]
# ## Speed
#
# A contest takes hours, in which a machine is not equally busy. So the time of a training step is measured apart, on all models in turn, round after round. The quickest round counts: what slows a step down comes from outside.

# %%
#| exports
def step_seconds(model: Autoencoder, x: Tensor, steps: int = 8, **kw) -> float:
    "Seconds per training step of a model, measured on a few steps after two to warm up; keywords as in `fit`."
    fit(model, x[:256], steps=2, progress=False, **kw)
    return fit(model, x[:256], steps=steps, progress=False, **kw).seconds / steps


def speeds(contest: Contest, names: Sequence[str], z_dim: int, splits: list, device: torch.device | str | None = None,
           rounds: int = 3) -> dict[str, float]:
    "Milliseconds per training step of each contender: the least of interleaved `rounds`; 0 if nothing is trained."
    models, x = {name: _new(name, z_dim, 0, contest, splits) for name in names}, splits[0][0]
    learns = {k: m for k, m in models.items() if any(p.requires_grad for p in m.parameters())}
    once = lambda m: 1e3 * step_seconds(m, x, batch_size=contest.batch_size, device=device)
    found = [{k: once(m) for k, m in learns.items()} for _ in range(require_int(rounds, "rounds"))]
    return {k: min(f[k] for f in found) if k in learns else 0.0 for k in models}


# %% [markdown]
# ## The contest
#
# Each row is written as soon as it is known, so a contest that is interrupted goes on where it was.

# %%
#| exports
def _rows(contest: Contest, names: Sequence[str], splits: list, out: Path, device) -> Iterator[dict]:
    "Train and question every contender that has no row in the folder `out` yet."
    judge = None  # trained once a row is missing
    rules = asdict(contest) | {"z_dims": None, "seeds": None}
    for z_dim, seed, name in ((k, s, n) for k in contest.z_dims for s in range(contest.seeds) for n in names):
        file = out / f"{'-'.join(name.replace(',', '').split())}-k{z_dim}-seed{seed}.json"
        try: known = json.loads(file.read_text())
        except (FileNotFoundError, ValueError): known = {}  # a row that cannot be read is made again
        if known.get("rules") != rules:
            judge = fit_classifier(*splits[0], seed=0) if judge is None else judge
            row = contend(name, z_dim, seed, contest, splits, judge, device)
            known = {"rules": rules, "row": row | {"made": made()}}
            write_atomic(file, (json.dumps(known) + "\n").encode())
        yield known["row"]


def compete(contest: Contest, out: str | os.PathLike, names: Sequence[str] | None = None, *, root: str | None = None,
            download: bool = False, device: torch.device | str | None = None, command: str = "",
            progress: bool = True) -> dict:
    """Hold the contest among `names` of the zoo (all by default); `results.json` in the folder `out` has all rows.

    `root` and `download` say where the images are, `command` is recorded. Returns what the file holds.
    """
    for name in names or (): require_choice(name, "names", tuple(VARIANTS))
    out = Path(out)
    splits = images_of(contest, root, download)
    out.mkdir(parents=True, exist_ok=True)
    names = tuple(dict.fromkeys(names or VARIANTS))
    total = len(names) * len(contest.z_dims) * contest.seeds
    bar = tqdm(_rows(contest, names, splits, out, device), total=total, unit="model", disable=not progress)
    rows = list(bar)
    taken = {k: speeds(contest, names, k, splits, device) for k in contest.z_dims}
    rows = [{**row, "ms/step": round(taken[row["z_dim"]][row["model"]], 1)} for row in rows]
    machine = {"threads": torch.get_num_threads(), "torch": torch.__version__, "machine": platform.machine()}
    machine["device"] = str(torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))
    result = {"command": command, "made": made(), "contest": asdict(contest), **machine, "rows": rows}
    write_atomic(out / "results.json", (json.dumps(result, indent=1) + "\n").encode())
    return result


# %% [markdown]
# A table needs one line per model and code size: the mean over the seeds, and their standard deviation.

# %%
#| exports
COLUMNS = ("MSE point", "MSE sample", "linear (%)", "k-NN (%)", "bits/dim", "rate (nats)", "distortion (nats)")
COLUMNS += ("FD-clf", "FD-clf floor", "SW", "SW floor")


def summary(rows: Sequence[dict], z_dim: int, columns: Sequence[str] = COLUMNS) -> list[dict]:
    "One line per model for codes of `z_dim`: `Value`s with the mean over seeds, and the standard deviation over seeds."
    lines, rows = [], from_json(rows)
    for name in dict.fromkeys(r["model"] for r in rows):
        mine = [r for r in rows if r["model"] == name and r["z_dim"] == z_dim]
        number = lambda r, c: r[c].mean if isinstance(r[c], Value) else r[c]
        found = {c: np.array([number(r, c) for r in mine if c in r], dtype=float) for c in columns}
        spread = lambda v: float(v.std(ddof=1)) if len(v) > 1 else float("nan")
        values = {c: Value(float(v.mean()), spread(v)) for c, v in found.items() if len(v)}
        plain = {c: mine[0][c] for c in ("ms/step", "parameters") if mine and c in mine[0]}
        if mine: lines.append({"model": name, **values, **plain, "seeds": len(mine)})
    return lines


# %% [markdown]
# Small, to see that it works: three models on the digits, a few steps, two seeds. Held twice, the second time nothing is trained.

# %%
contest = Contest("digits", 8, 400, 100, 100, z_dims=(4,), seeds=2, steps=20,
                  batch_size=16, width=8)
names = "PCA", "AE", "DBAE"
timeless = lambda rows: [{k: row[k] for k in row if k != "ms/step"} for row in rows]
with tempfile.TemporaryDirectory() as folder:
    result = compete(contest, folder, names, progress=False)
    written = {p: p.stat().st_mtime_ns for p in Path(folder).glob("*seed*")}
    again = compete(contest, folder, names, progress=False)
    test_eq(timeless(again["rows"]), timeless(result["rows"]))
    test_eq({p: p.stat().st_mtime_ns for p in written}, written)
lines = summary(result["rows"], 4)
test_eq([line["model"] for line in lines], ["PCA", "AE", "DBAE"])
pca = [row["MSE point"][0] for row in result["rows"] if row["model"] == "PCA"]
test_close(lines[0]["MSE point"].mean, sum(pca) / 2, eps=1e-12)
test_eq(pca[0], pca[1])  # PCA has no seed
assert 0 == lines[0]["ms/step"] < lines[1]["ms/step"]
Table({line["model"]: str(line["MSE point"]) for line in lines}, "model",
      "MSE point, mean ± deviation over two seeds")

# %%
with expect_fail(ValueError, contains="names: expected one of"):
    compete(contest, ".", ("GAN",))

# %% [markdown]
# With a diffusion of codes as prior, the trainings and the reconstructions are the same.

# %%
short = replace(contest, seeds=1, prior_steps=30)
with tempfile.TemporaryDirectory() as folder:
    learned = compete(short, folder, ("AE",), progress=False)["rows"][0]
same = [r for r in result["rows"] if (r["model"], r["seed"]) == ("AE", 0)]
test_eq([learned["MSE point"]], [r["MSE point"] for r in same])
assert "rate (nats)" in learned

# %% [markdown]
# ## What can go wrong
#
# * **Reading the rows as a ranking.** They say what each model does with one budget; what can be concluded from them is on [Head to head](../together/80_head_to_head.ipynb).
# * **Spread over seeds against spread over images.** A summary has the former. Rows in `results.json` have both.
# * **Reading `ms/step` as a property of a model.** It is one of the machine; the ratio of two rows that were run alike is more than that.
