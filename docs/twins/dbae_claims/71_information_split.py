# %% [markdown]
# # The information split
#
# > Why does DBAE reconstruct better than DiffAE? Three effects, taken apart: point against sample, the loss weighting, and the endpoint.

# %% [markdown]
# A diffusion autoencoder keeps part of an image in the code and part in the noise that leads to it ([DiffAE](../models/16_diffae.ipynb)): its information is *split*. DBAE's endpoint depends on the code alone, and its published reconstructions from the code are much closer to the image [@kim2025dbae]. That comparison sets a deterministic walk beside random draws, and two losses beside each other. This page repeats it on the digits with every control, and on Fashion-MNIST with the decisive ones: the same encoder, U-Net, steps and seeds, and one change at a time. The numbers come from `bench/claims/information_split.py`.

# %%
#| hide
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from fastcore.test import test_close
from IPython.display import Markdown

from scoreae import data
from scoreae.core.pages import paper
from scoreae.foundations import samplers
from scoreae.models.zoo import load
from scoreae.use.edits import invert, walk

# %%
#| hide
paper()
root = Path() if Path("docs").exists() else Path("../..")
result = json.loads((root / "docs/results/information-split.json").read_text())
PLAIN, WEIGHTED, BRIDGE = "DiffAE", "DiffAE, DBAE's weighting", "DBAE"


def rows_of(data, k):
    return [r for r in result["sets"][data]["rows"] if r["z_dim"] == k]


found = {(data, r["z_dim"]) for data, one in result["sets"].items()
         for r in one["rows"]}
cases = sorted(c for c in found
               if len({r["seed"] for r in rows_of(*c) if r["model"] == BRIDGE}) >= 3)
title = lambda data, k: f"{data.replace('_', '-')}, codes of {k} axes"

# %% [markdown]
# ## What is asked
#
# Six models. `AE` decodes its code and knows no noise. `DiffAE` is trained on the error of the noise; once more with *DBAE's weighting*, that is with the noise levels and weights of the released bridge ([DiffAE](../models/16_diffae.ipynb)). `DBAE`'s denoiser is told the endpoint and the code, or one of the two.
#
# Each reconstructs test images from the code alone, as a **point** (zero noise) and as **samples**; both columns, always, because a sample of the exact posterior has twice the squared error of its mean ([Samplers](../foundations/08_samplers.ipynb)). *Mean of 8* averages eight samples, *variance* is what they scatter, *one evaluation* asks the denoiser once, and *inferred* gives DiffAE the noise that its ODE finds for the image. Squared errors are per pixel on $[0,1]$, times 1000; mean ± standard deviation over the seeds.

# %%
COLUMNS = {"point": 1e3, "sample": 1e3, "mean of 8 samples": 1e3,
           "variance over draws": 1e3, "one evaluation": 1e3,
           "inferred noise": 1e3, "probe (%)": 1}  # fmt: skip


def over_seeds(name, case, column):
    "The values of a column, one per seed, or None."
    values = [r[column] for r in rows_of(*case) if r["model"] == name and column in r]
    return np.array(values) if values else None


def cell(name, case, column, unit):
    v = over_seeds(name, case, column)
    return "–" if v is None else f"{v.mean() * unit:.2f} ± {v.std(ddof=1) * unit:.2f}"


def table(case):
    "The table of a data set and code size, in Markdown."
    lines = [[title(*case), *COLUMNS], ["---"] * (1 + len(COLUMNS))]
    for m in dict.fromkeys(r["model"] for r in rows_of(*case)):
        lines.append([m, *(cell(m, case, c, u) for c, u in COLUMNS.items())])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


Markdown("\n\n".join(table(case) for case in cases))

# %%
seeds = {title(*c): len(over_seeds("AE", c, "point")) for c in cases}
assert min(seeds.values()) >= 3
{"commands": [result["sets"][d]["command"] for d, _ in cases], "seeds": seeds}


# %% [markdown]
# ## How much each effect explains
#
# The comparison of the literature is DiffAE from random noise against DBAE's deterministic walk. The ratio of their errors is a product, each factor of which changes one thing:
#
# $$\frac{\text{DiffAE, sample}}{\text{DBAE, point}}=\underbrace{\frac{\text{DiffAE, sample}}{\text{DiffAE, point}}}_{\text{point, not sample}}\times\underbrace{\frac{\text{DiffAE, point}}{\text{DiffAE weighted, point}}}_{\text{weighting}}\times\underbrace{\frac{\text{DiffAE weighted, point}}{\text{DBAE, point}}}_{\text{endpoint}}.$$ {#eq-split}
#
# Logarithms make shares of it. The order of the changes matters a little; *sample last* goes through the weighted DiffAE's samples instead. The seeds are paired.

# %%
def factors(case, sample_last=False):
    "The three factors of the ratio, (3, seeds): point, weighting, endpoint."
    v = lambda name, column: over_seeds(name, case, column)
    asked, walker = ("sample", BRIDGE) if sample_last else ("point", PLAIN)
    return np.array([v(walker, "sample") / v(walker, "point"),
                     v(PLAIN, asked) / v(WEIGHTED, asked),
                     v(WEIGHTED, asked) / v(BRIDGE, asked)])  # fmt: skip


EFFECTS = ("point, not sample", "weighting", "endpoint")
ways = [(case, last) for case in cases for last in (False, True)]
fig, ax = plt.subplots(figsize=(6.5, 0.8 + 0.5 * len(ways)), layout="constrained")
shares, ticks = {}, []
for at, (case, last) in enumerate(ways):
    f, left = factors(case, last), 0.0
    test_close(f.prod(0),
               over_seeds(PLAIN, case, "sample") / over_seeds(BRIDGE, case, "point"),
               eps=1e-9)
    logs = np.log(f).mean(1)
    for j, (width, hatch) in enumerate(zip(logs, ("", "//", ".."), strict=True)):
        how = {"color": f"C{j}", "hatch": hatch, "edgecolor": "white",
               "label": EFFECTS[j] if at == 0 else None}
        ax.barh(at, width, left=left, **how)
        ax.text(left + width / 2, at, f"× {np.exp(width):.2f}", ha="center",
                va="center", fontsize=9,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})  # fmt: skip
        left += width
    ticks.append(
        f"{case[0].replace('_', '-')} {case[1]}, {'sample last' if last else 'point first'}"
    )
    shares[ticks[-1]] = {e: f"x {v.mean():.2f} ± {v.std(ddof=1):.2f}"
                         for e, v in zip(EFFECTS, f, strict=True)}
    shares[ticks[-1]]["all"] = f"x {f.prod(0).mean():.2f}"
ax.set_yticks(range(len(ways)), ticks)
ax.invert_yaxis()
ax.set(xlabel="log of the ratio of errors, DiffAE sample over DBAE point")
fig.legend(loc="outside upper center", ncols=3, fontsize=9)
shares

# %% [markdown]
# **What the numbers say.** On the digits, with twelve axes, a published comparison would read "4.7 times better". Of its logarithm about a third is *point, not sample*: one model's mean set beside the other's draws. Over a third is the *weighting*, which DiffAE can have too. The rest, a quarter to a third, is the *endpoint*: at equal weights and equal questions DBAE's error is smaller by a factor of 1.5 (points) or 1.7 (samples). On Fashion-MNIST the three are about equal, and the endpoint's factor is 1.8. With four axes, where the code holds little, the ratio is 2.5: nearly half of its logarithm is *point, not sample*, and the endpoint's factor is 1.2. So all three are real, none is the whole, and the endpoint's part is far from the ratio that is usually shown.
#
# **What the endpoint's part is not.** A network that is not *told* $x_T$ (`DBAE, told z only`) does nearly as well in points, within a twentieth (digits) or a tenth (Fashion-MNIST): the endpoint reaches it inside $x_t$, with the code's image already in place ([DBAE](../models/15_dbae.ipynb)). It is worse in samples, where noise covers that image, by a fifth or more. One that is told $x_T$ but not $z$ is as good as one that is told both, on either set: the decoded image says all that the code does. And no theorem gives the endpoint this part: an unrestricted network would reach the same error without it. It is what a small network, trained briefly, finds easier.
#
# **The plain autoencoder** is within a tenth (digits; with four axes equal) or an eighth (Fashion-MNIST) of DBAE's points, at a fraction of their training time; and the probes differ by two points and less among all models but DiffAE with its own weighting. *Inferred noise* gives DiffAE almost the whole image back: what its code lacks is in its noise. For DBAE the variance over draws is half of weighted DiffAE's: more of the image is in the code.

# %%
digits, clothes = ("digits", 12), ("fashion_mnist", 16)
error = lambda name, case, column="point": over_seeds(name, case, column).mean()
for case in (digits, clothes):
    everything = np.log(factors(case).prod(0)).mean()
    for last in (False, True):
        part = np.log(factors(case, last)).mean(1) / everything
        assert part.min() > 0.2 and part.max() < 0.45
    assert error(BRIDGE, case, "variance over draws") < 0.65 * error(
        WEIGHTED, case, "variance over draws"
    )
    assert 1 < error("AE", case) / error(BRIDGE, case) < 1.14
    assert (
        1.4 < factors(case)[2].mean() < 1.9
        and error(PLAIN, case, "inferred noise") < 2e-5
    )
few = ("digits", 4)
assert (
    factors(few)[2].mean() < 1.25
    and np.log(factors(few)).mean(1)[0] > 0.44 * np.log(factors(few).prod(0)).mean()
)
assert abs(error("AE", few) / error(BRIDGE, few) - 1) < 0.03
alone, end_only = "DBAE, told z only", "DBAE, told x_T only"
for case, most in ((digits, 1.05), (clothes, 1.1)):
    assert 1 < error(alone, case) / error(BRIDGE, case) < most
    assert error(alone, case, "sample") > 1.2 * error(BRIDGE, case, "sample")
    assert all(abs(error(end_only, case, c) / error(BRIDGE, case, c) - 1) < 0.03
               for c in ("point", "sample"))
{title(*c): f"x {factors(c).prod(0).mean():.2f} in all" for c in (few, digits, clothes)}

# %% [markdown]
# ## Pictures
#
# Two pairs of small trained models, of `bench/claims/digits_weights.py`: where each keeps its images. DBAE's endpoint is a picture of the code (on its own grey scale), and its samples stay near the point. DiffAE's inferred noise is noise with traces of the image in it: walking from it returns the image. Both DiffAEs have DBAE's weighting.

# %%
eight = json.loads((root / "docs/results/fashion-eight.json").read_text())["images"]
pictured = {"digits": data.digits("test")[:8],
            "fashion": (torch.tensor(eight, dtype=torch.float32) / 127.5
                        - 1)[:, None]}  # fmt: skip
models = {(d, m): load(root / f"weights/{d}-{m}") for d in pictured
          for m in ("dbae", "diffae")}


def compare(name):
    "The rows of a figure: what the two models of a data set do with eight test images."
    x, dbae, diffae = pictured[name], models[name, "dbae"], models[name, "diffae"]
    z, code = dbae.encode(x), diffae.encode(x)
    with torch.no_grad(): end, noise = dbae.endpoint(z), invert(diffae, x, code)
    draw = lambda model, c, seed: model.decode(c, "sample", 25, seed=seed)
    return {"image": x, "DBAE: endpoint": end, "point": dbae.decode(z),
            "sample 1": draw(dbae, z, 1),
            "sample 2": draw(dbae, z, 2), "DiffAE: inferred": noise,
            "from it": walk(diffae, code, noise),
            "point ": diffae.decode(code), "sample 1 ": draw(diffae, code, 1),
            "sample 2 ": draw(diffae, code, 2)}  # fmt: skip


def show(title, rows):
    fig, axes = plt.subplots(len(rows), 8, figsize=(4, 4.8))
    for row, (label, pictures) in zip(axes, rows.items(), strict=True):
        span = pictures.abs().max() if ":" in label else 1
        for ax, picture in zip(row, pictures, strict=True):
            ax.imshow(picture[0], vmin=-span, vmax=span)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        row[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
    fig.suptitle(f"{title}: what is in the code, and what in the noise", fontsize=11)


scatter = {}
for name in pictured:
    rows = compare(name)
    show(name, rows)
    apart = lambda a, b: (a - b).square().mean().item() / 4
    draws = {m: [rows[f"sample {i}{s}"] for i in (1, 2)]
             for m, s in (("DBAE", ""), ("DiffAE", " "))}
    scatter[name] = {m: apart(*pair) / 2 for m, pair in draws.items()}
    assert (
        scatter[name]["DBAE"] < scatter[name]["DiffAE"]
        and apart(rows["from it"], rows["image"]) < 1e-3
    )
{d: {m: f"variance over draws {v:.4f}" for m, v in s.items()}
 for d, s in scatter.items()}

# %% [markdown]
# The walk itself, of one code: the deterministic one turns the endpoint into the image, the stochastic one takes in noise and lets go of it. Below each picture the amount of noise $c_t$ that the path has there.

# %%
dbae, like = models["fashion", "dbae"], pictured["fashion"][1:2]
times, z = samplers.time_grid(dbae.path, 12), dbae.encode(like)
fig, axes = plt.subplots(2, 7, figsize=(6, 2.2))
with torch.no_grad():
    end = dbae.endpoint(z)
    D = dbae.denoiser(z, end)
    for row, (name, mode, eta) in zip(axes,
                                      [("ODE", "point", 0.0), ("SDE", "sample", 1.0)],
                                      strict=True):
        steps = list(samplers.trajectory(D, dbae.path, like, times, xT=end, mode=mode,
                                         eta=eta, order=1, seed=3))
        for ax, step in zip(row, steps[::2], strict=True):
            ax.imshow(step.x[0, 0], vmin=-1.5, vmax=1.5)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            if name == "SDE":
                ax.set_xlabel(f"{dbae.path.coefs(step.t).c:.2f}", fontsize=9)
        row[0].set_ylabel(name, rotation=0, ha="right", va="center")
fig.suptitle("From the endpoint to the image, two ways", fontsize=11);

# %% [markdown]
# ## What can go wrong
#
# * **Small pictures and short trainings.** The page says which controls a comparison needs, and how large the effects can be. It does not say what happens at 128 pixels.
# * **A share of a ratio is not a cause.** The factors depend on the order of the changes, on the size of the code, and on the budget.
# * **Leaving the plain autoencoder out.** It has no noise, no path and no split, and it is the first thing to compare with.
