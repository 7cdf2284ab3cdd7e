# %% [markdown]
# # A head start
#
# > What it is worth to begin as the Gaussian: squared error against seconds of training, beside the same networks begun as before.

# %% [markdown]
# Every model of this library begins as the Gaussian that it generalises ([Gaussian images](../foundations/09_gaussians.ipynb), [the contract](../models/13_contract.ipynb)). What is that worth in seconds? The same networks are trained twice: begun as the Gaussian, and as they began before (the encoder of SAMI as the linear code, everything else at random). They are asked on the way, with averaged weights, on one thread of one machine.

# %%
#| hide
import json
from pathlib import Path

import matplotlib.pyplot as plt
from fastcore.test import test_eq
from IPython.display import display

from scoreae.core.pages import Table, paper

# %%
#| hide
paper()

# %% [markdown]
# ## Error against seconds
#
# `python -m bench.claims.begin_gaussian`: 8000 crops of 48 photographs, of 32×32 pixels, to train on, 128 crops of eleven others to ask about; codes of 32 numbers, networks of width 16, batches of 32. The seconds are those of the processor, the fit of the Gaussian among them. PCA with as many numbers is the line to beat: it is the best a linear code can do.

# %%
stored = json.loads(Path("../../docs/results/begin-gaussian.json").read_text())
rows = [r for r in stored["rows"] if "curve" in r and r["begin"] != "isotropic"]
control = {r["set"]: r for r in stored["rows"] if r["model"] == "controls"}
curves = {(r["model"], r["begin"], r["seed"]): r["curve"] for r in rows
          if r["set"] == "photographs"}
both = ["SAMI, told level", "DBAE-d", "DiffAE"]
pca = control["photographs"]["PCA"]
for model in both:
    before = [c for (m, b, _), c in curves.items() if (m, b) == (model, "before")]
    begun = [c for (m, b, _), c in curves.items() if (m, b) == (model, "gaussian")]
    assert len(before) == 3 and begun
    first = begun[0][0]
    assert all(c["point"] < 1.1 * pca for curve in begun for c in curve)
    for end in (curve[-1] for curve in before):
        assert end["steps"] == 1000 and end["point"] > 1.7 * pca
        assert all(first[k] < end[k] for k in ("point", "draw", "bits/dim"))
        assert first["CPU seconds"] < end["CPU seconds"] / 10

# %%
#| label: fig-seconds
#| fig-cap: 'Begun as the Gaussian (solid, one seed), all three models stand at the error of PCA, and at fewer bits than a thousand steps give, before their first step; begun as before (dashed, three seeds), they are behind it after ten minutes. Draws of SAMI by a walk with fresh noise.'
#| fig-alt: 'Three charts against processor seconds: squared error of points and of draws, and bits a dimension. Solid curves are flat and begin at thirteen seconds, near the dotted line of PCA for points, a little above it for draws, and at 4.9 bits. Dashed curves begin ten to twenty times higher, or at 9.5 bits, and fall unevenly, without reaching the solid ones.'
fig, panels = plt.subplots(1, 3, figsize=(7.4, 3.2))
panels[0].sharey(panels[1])
for (model, begin, seed), curve in curves.items():
    style = {"ls": "-" if begin == "gaussian" else "--", "c": f"C{both.index(model)}",
             "marker": "o" if begin == "gaussian" else "x", "ms": 3, "lw": 1}
    for ax, what in zip(panels, ("point", "draw", "bits/dim"), strict=True):
        ax.plot([c["CPU seconds"] + 1 for c in curve], [c[what] for c in curve],
                label=f"{model}, {begin}" if seed == 0 else None, **style)
for ax, what in zip(panels, ("points", "draws", "bits a dimension"), strict=True):
    ax.set(xscale="log", xlabel="processor seconds + 1", title=what)
for ax in panels[:2]:
    ax.axhline(pca, color="0.4", lw=1, ls=":", label="PCA")
    ax.set_yscale("log")
panels[0].set_ylabel("squared error on [0, 1]")
fig.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3,
           fontsize=8);

# %% [markdown]
# ## Bits, and every noise level
#
# Below: the first row of each Gaussian curve and the last of every curve, mean over seeds; then half the squared error of the noise, in nats per unit of $\log\gamma$, of the beginning and of the long trainings from before.

# %%
mean = lambda many: {k: sum(c[k] for c in many) / len(many) for k in many[0]}
known, shown = {}, ("CPU seconds", "point", "draw", "bits/dim")
for model in both:
    for begin, i in (("gaussian", 0), ("gaussian", -1), ("before", -1)):
        found = [c[i] for (m, b, _), c in curves.items() if (m, b) == (model, begin)]
        known[model, begin, i] = mean(found)
name = lambda m, b, i: f"{m}, {b}, {known[m, b, i]['steps']:.0f} steps"
Table({name(*k): {w: f"{v[w]:.4g}" for w in shown} for k, v in known.items()},
      "model, begun")

# %%
levels = [str(u) for u in range(-4, 15, 2)]
at = {k: v for k, v in known.items() if k[1:] in (("gaussian", 0), ("before", -1))}
behind = {m: [u for u in levels if at[m, "gaussian", 0][u] > at[m, "before", -1][u]]
          for m in both}
test_eq(behind, {m: [] for m in both})
Table({name(*k): {u: f"{v[u]:.4g}" for u in levels} for k, v in at.items()},
      r"model, begun / $\log\gamma$")

# %% [markdown]
# At no level is a long training from before ahead of a beginning that took thirteen seconds. To *points* and draws, and to bits, the first hundred steps from there add little: what a small network finds in a minute is small beside what covariance and scales know.
#
# ## What remains of a picture
#
# The Gaussian's principal directions are a small part of a picture; most of the bits are in the rest. With one variance for all of it, in place of bands with scales of the image's own, the untrained models say:

# %%
flat = {r["model"]: r["curve"] for r in stored["rows"] if r.get("begin") == "isotropic"}
rest = {}
for model, curve in flat.items():
    banded = next(c for (m, b, _), c in curves.items() if (m, b) == (model, "gaussian"))
    assert banded[0]["bits/dim"] < min(c["bits/dim"] for c in curve) - 1
    for kind, row in (("one variance", curve[0]), ("one variance", curve[-1]),
                      ("bands and scales", banded[0])):
        key = f"{model}, {kind}, {row['steps']} steps"
        rest[key] = {w: f"{row[w]:.4g}" for w in shown}
display(Table(rest, "model, remainder"))
found = {r["set"]: r["bits/dim"] for r in stored["rows"] if r["model"] == "remainders"}
photos = {k: f"{v:.2f}" for k, v in found["photographs"].items()}
clothes = {k: f"{v:.2f}" for k, v in found["clothes"].items()}
kinds = [found["photographs"][f"64 directions, {k}"]
         for k in ("bands with scales", "bands", "one variance")]
assert kinds[0] + 1 < kinds[1] < kinds[2] - 1
Table({k: {"photographs": v, "clothes": clothes[k]} for k, v in photos.items()},
      "bits a dimension, as densities")

# %% [markdown]
# Without any network the second table says what each part is worth to images of the test: photographs gain as much by a variance for every band as by a scale of the image's own on top of it, because smooth skies and leaves no longer share one. Directions beyond 64 do harm there: they fit the pictures of the training. Clothes gain little by scales.
#
# Of the grey clothes (28×28, codes of 16 numbers), whose background is exactly black, a Gaussian knows less. Points and draws still begin near the ends of the long trainings; bits do not, and after 300 steps SAMI's and DBAE's are behind those of the same time before. A guess: exact black is what no mixture of Gaussians says. One seed:

# %%
grey = {}
for r in (r for r in rows if r["set"] == "clothes" and r["seed"] == 0):
    for row in (c for c in r["curve"] if c["steps"] in (0, 300, 1000)):
        key = f"{r['model']}, {r['begin']}, {row['steps']} steps"
        grey[key] = {w: f"{row[w]:.4g}" for w in shown}
print(f"PCA: {control['clothes']['PCA']:.4f}")
Table(grey, "clothes: model, begun")

# %% [markdown]
# ## What can go wrong
#
# * **Taking what the beginning knew for what training found.** Principal components are known before the first step. Claims about codes need the untrained row beside them, or `begin="random"`.
# * **Reading one seed.** Differences of a few per cent between two curves are not findings.
# * **Comparing bits that end at different levels.** A bound of grey levels that ends far below a grey level ($\log\gamma=14.3$ here) asks a smooth density to place a level exactly, which costs every model more than a bit.
# * **A set whose structure is not in its covariance.** Disks of either sign on any grey, say: there a line through the Gaussian's code knows the background and nothing of the centre, though nearest neighbours read both ([Disks](../sami_claims/63_disks.ipynb)).
