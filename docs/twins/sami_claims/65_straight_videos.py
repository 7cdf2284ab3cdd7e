# %% [markdown]
# # Straight videos
#
# > Encoders that saw only still images, measured on clips that move, turn, shrink and fade: how far their codes bend, and what that has to do with what they know.

# %% [markdown]
# SAMI's authors report that its codes of videos are *straighter* than those of other encoders, although it was trained on still images only [@lyo2025sami]. Here the same question is asked of small encoders, all networks alike, with the same 16 numbers per image and the same stills: SAMI, an autoencoder, a VAE, a network with random weights, and PCA, beside the pixels themselves. Curvature is the turning angle of [Straightness](../measures/33_straightness.ipynb): a line has 0°, a random walk 90°, unrelated frames 120°. The page first repeats the experiment in miniature, then shows the stored results of three seeds. Not all of the claim is found here, and the page says how far it is missed.
#
# *Stored trainings on this page are from before models began as [Gaussians](../foundations/09_gaussians.ipynb): a told SAMI began as the linear code, all other networks at random.*

# %%
#| hide
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from fastcore.test import test_close

from scoreae import data
from scoreae.core.checks import rng
from scoreae.core.pages import Table, paper
from scoreae.images.rendered import SHAPES, clips
from scoreae.measures.straightness import curvature, linear_fade, shuffled
from scoreae.models.baselines import PCA
from scoreae.models.sami import SAMI
from scoreae.use.pictures import plot_rows
from scoreae.use.training import fit

# %%
#| hide
paper()

# %% [markdown]
# ## Stills to learn from, clips to be judged by
#
# A *still* is one frame of 16×16 pixels: one of four shapes, or a digit, at a random place, orientation, size and opacity. A *clip* is six frames in which one of these changes at constant speed, so that its path is a straight line in the factors: `move`, `rotate`, `scale`, `fade`. The digits of the clips are held out. The stored run has a third kind of subject, clothes of Fashion-MNIST [@xiao2017fashion].

# %%
MOTIONS, SIDE = ("move", "rotate", "scale", "fade"), {"shapes": 0.35, "digits": 0.5}


def film(kind, n, frames, motion, seed, split="test"):
    "`n` clips of 16x16 pixels. A disk is not rotated: nobody would see it."
    if kind == "digits":
        return clips(data.digits(split), n, frames, motion, 16, SIDE[kind], seed=seed)
    names = [s for s in SHAPES if (s, motion) != ("disk", "rotate")]
    made = [clips(s, n // len(names), frames, motion, 16, SIDE[kind], seed=seed + i)
            for i, s in enumerate(names)]
    return made[0]._replace(x=torch.cat([m.x for m in made]),
                            factors=torch.cat([m.factors for m in made]))


def stills(n, seed):
    "One frame each of `n` fading clips of every kind; the last frame would be empty."
    made, g = [film(kind, n, 9, "fade", seed, "train").x for kind in SIDE], rng(seed)
    pick = lambda x: torch.randint(8, (len(x),), generator=g)
    return torch.cat([x[torch.arange(len(x)), pick(x)] for x in made])


x = stills(2000, 0)
films = {(kind, m): film(kind, 60, 6, m, 5) for kind in SIDE for m in MOTIONS}

# %%
#| label: fig-clips
#| fig-cap: 'Eight stills of the training set, and one clip of a held-out digit for every motion, six frames each.'
#| fig-alt: 'A row of eight small pictures with a grey shape or digit at a random place, some faint; below, four rows of six frames of a zero, which moves down, turns, shrinks, and fades to nothing.'
shown = {"stills": x[::500][:8]}
plot_rows(shown | {f"digits, {m}": films["digits", m].x[7] for m in MOTIONS})

# %% [markdown]
# Checks before any encoder: in the factors every clip is straight; in the pixels a fade is straight too, since it mixes two images in changing shares; the other motions bend. Frames in random order turn by 120° on average over all orders.

# %%
pixels = {key: curvature(c.x.flatten(2)).degrees.nanmean().item()
          for key, c in films.items()}
for (kind, motion), c in films.items():
    assert curvature(c.factors.double()).degrees.max() < 0.1
    if motion == "fade": test_close(pixels[kind, motion], 0, eps=0.01)
    else: assert pixels[kind, motion] > 10
move = films["digits", "move"].x
orders = [curvature(shuffled(move, seed=s).flatten(2)).degrees.mean() for s in range(8)]
test_close(np.mean(orders), 120, eps=2)
Table({kind: {m: f"{pixels[kind, m]:.0f}°" for m in MOTIONS} for kind in SIDE},
      name="curvature of pixels")

# %% [markdown]
# ## Small
#
# PCA, and a SAMI after 60 steps: enough to see the machinery. Two controls are exact for PCA, because a linear map takes lines to lines: a fade stays straight, and so does the straight line through the pixels from a clip's first frame to its last (`linear_fade`).

# %%
torch.manual_seed(0)
small = {"PCA": PCA((1, 16, 16), 16),
         "SAMI": SAMI((1, 16, 16), 16, width=8, encoder_width=8, begin="random")}
fit(small["PCA"], x)
fit(small["SAMI"], x, steps=60, batch_size=32, lr=3e-3, progress=False)


def bend(model, x):
    "Degrees of the codes of clips (N, T, C, H, W)."
    z = model.encode(x.flatten(0, 1)).unflatten(0, x.shape[:2])
    return curvature(z).degrees.nanmean().item()


shown = {f"{k}, {m}": c.x for (k, m), c in films.items()}
shown |= {"shuffled": shuffled(move), "linear fade": linear_fade(move)}
table = {name: {k: bend(model, clip) for k, clip in shown.items()}
         for name, model in small.items()}
for row in table.values(): test_close(row["shuffled"], 120, eps=8)
straight = [table["PCA"][k] for k in ("digits, fade", "shapes, fade", "linear fade")]
test_close(straight, [0, 0, 0], eps=0.1)
assert table["SAMI"]["linear fade"] > 1
Table({k: {f"{name} (degrees)": f"{row[k]:.1f}" for name, row in table.items()}
       for k in shown}, name="clips")

# %% [markdown]
# ## The stored run
#
# Three kinds of subject, 60 clips of each kind and motion, 500 steps of 32 images (`python -m bench.claims.straight`, one core). Two settings of SAMI were the library's own when this was stored: noise-blind, begun at random, and told the level, which began as the linear code ([Gaussian images](../foundations/09_gaussians.ipynb)). The told one is also begun at random, to tell the two apart. *Coarse* (one seed) is told, too, and is made to leave out detail: the bound's weights up to $\log\gamma=3$, $\beta=0.1$. Straightness must not be bought by ignorance, so `R2` says what a linear probe of the code knows about place, scale and opacity of held-out stills.

# %%
stored = json.loads(Path("../../docs/results/straight.json").read_text())
MODELS = ("pixels", "PCA", "AE", "VAE", "random encoder", "SAMI",
          "SAMI, told, begun at random", "SAMI, told level", "SAMI, coarse")
KINDS = ("shapes", "digits", "clothes")


def over_seeds(model, motion, key="degrees", which="clips"):
    "Mean over the kinds of subject, of every seed."
    rows = [r[which] for r in stored["rows"] if r["model"] == model]
    of = lambda row: np.mean([row[f"{kind}, {motion}"][key] for kind in KINDS])
    return np.array([of(row) for row in rows])


# %%
#| label: fig-curvature
#| fig-cap: 'Curvature of the codes of clips, in degrees, from encoders trained on stills: mean (bars) and seeds (dots). Told the level and begun linear, SAMI (blue) bends less than the pixels (grey) on what moves, turns or changes size, but more than PCA, the autoencoder and the VAE (orange).'
#| fig-alt: 'Four bar charts, for move, rotate, scale and fade, of curvature in degrees for the pixels, four rivals and four settings of SAMI. The bars of SAMI begun at random are the longest for move, rotate and scale, with dots far apart; those of SAMI told the level are a little longer than those of PCA, AE and VAE. For fade the random encoder bends most, pixels and PCA not at all.'
fig, axes = plt.subplots(1, 4, figsize=(7.6, 3), sharey=True)
for ax, motion in zip(axes, MOTIONS, strict=True):
    for i, model in enumerate(MODELS):
        v = over_seeds(model, motion)
        colour = "0.75" if model == "pixels" else "C0" if "SAMI" in model else "C1"
        ax.barh(i, v.mean(), color=colour, height=0.65)
        ax.plot(v, [i] * len(v), "k.", ms=3)
    ax.set(title=motion, yticks=range(len(MODELS)), yticklabels=MODELS)
axes[0].invert_yaxis()
fig.supxlabel("curvature (degrees)", fontsize=11);


# %%
def cell(v):
    "Mean ± standard deviation, if there are seeds that differ."
    spread = f" ± {v.std(ddof=1):.1f}" if len(v) > 1 and v.std() > 0.05 else ""
    return f"{v.mean():.1f}{spread}"


own = lambda m: np.array([100 * r["R2"] for r in stored["rows"] if r["model"] == m])
known = {m: own(m).mean() for m in MODELS if m != "pixels"}
table = {m: {f"{k} (°)": cell(over_seeds(m, k))
             for k in (*MOTIONS, "shuffled", "linear fade")} for m in MODELS}
for m in known: table[m]["R2 (%)"] = cell(own(m))
Table(table, name="code")

# %%
for motion in ("move", "rotate"):  # the finding, as an assertion
    bent = {m: over_seeds(m, motion).mean() for m in MODELS}
    told, random = bent["SAMI, told level"], bent["SAMI, told, begun at random"]
    assert bent["SAMI"] > random > bent["pixels"] > told
    assert told > max(bent["VAE"], bent["AE"], bent["PCA"])
assert np.ptp(over_seeds("SAMI, told level", "move")) < 0.5
assert np.ptp(over_seeds("SAMI", "move")) > 10
straighter = ("SAMI, told level", "PCA", "AE", "VAE")
for m in straighter:
    assert over_seeds(m, "scale").max() < over_seeds("pixels", "scale")
others = [known[m] for m in ("AE", "VAE", "SAMI", "SAMI, told, begun at random")]
assert abs(known["SAMI, told level"] - known["PCA"]) < 1
assert 4 < min(others) - known["PCA"] < max(others) - known["PCA"] < 11

# %% [markdown]
# **Straighter than the pixels, but not than every rival.** Told the level, SAMI's codes bend less than the pixels wherever these bend: 37° against 55° on what moves, 85° against 98° on what turns, 14° against 22° on what changes size. Those of PCA, the autoencoder and the VAE bend less still, so the goal, straighter than every alternative, is not reached. Nor is being straighter than the pixels much: a random encoder is, too (46°, 90°, 17°). The coarse setting hardly differs from the told one.
#
# **Most of it is where the encoder begins.** The noise-blind SAMI, begun at random, bends more than the pixels on what moves or turns; so does one that is told the level and begun at random, by less on average, and both vary much with the seed. From the linear beginning the bend of what moves is half of theirs, the same in every seed, and it has been there from the start: whitened principal components, which is what it begins as, bend by 38.5°. The trained code, whitened, by a degree more.
#
# The controls behave: shuffled frames are near 120° for every code (the same random orders for all, hence not exactly), and the linear fade, straight in the pixels, is bent by all nonlinear codes. A fade into the background is a straight line in the pixels, so there no code can win. `R2` of the told SAMI is as good as PCA's, and four to ten points below that of the other trained encoders.
#
# ## Why: fine structure bends
#
# A wave that moves by a quarter of its length turns by a right angle in the plane of its sine and cosine. Fine structure has short waves, so a code that keeps finer structure should bend more at the same speed. PCA shows it without any training: take its components in bands from coarse to fine, each scaled to variance one.

# %%
#| label: fig-bands
#| fig-cap: 'Curvature of moving digits in bands of principal components, each scaled to variance one. From coarse to fine it rises from 26° to 71°, past that of the pixels.'
#| fig-alt: 'Bar chart of curvature in degrees for five bands of principal components: 26 for components 1 to 4, 38, 42, 57, and 71 for 33 to 64. A dashed line at 59 marks the pixels; only the last bar is above it.'
mean = x.flatten(1).mean(0)
components = torch.linalg.svd(x.flatten(1) - mean, False)[2]
bands = [(0, 4), (4, 8), (8, 16), (16, 32), (32, 64)]
turn = []
for low, high in bands:
    of = lambda v, a=low, b=high: (v - mean) @ components[a:b].T
    bent = curvature(of(move.flatten(2)), whiten=of(x.flatten(1)))
    turn.append(bent.degrees.mean().item())
assert turn == sorted(turn) and turn[0] < pixels["digits", "move"] < turn[-1]
fig, ax = plt.subplots(figsize=(6, 2.4))
ax.bar([f"{a + 1}–{b}" for a, b in bands], turn, color="C0")
ax.axhline(pixels["digits", "move"], color="0.4", ls="--", label="pixels")
ax.set(xlabel="principal components (coarse to fine)", ylabel="curvature (degrees)",
       ylim=(0, 80))
ax.legend(loc="upper left");

# %% [markdown]
# How much each band counts is a question of scale: PCA's deviations fall from 1.4 to 0.3, so coarse structure has most of its code; the told SAMI begins with axes of one size. When every code is whitened with its own training codes, this difference is gone: PCA, the autoencoder and the told SAMI then bend alike, by 38° to 41°, and only the VAE less. The noise-blind SAMI still bends by some 60°, on digits by 70° or more, like PCA's finest band. What bends it is open.

# %%
white = {m: over_seeds(m, "move", which="whitened") for m in MODELS if m != "pixels"}
alike = np.concatenate([white[m] for m in ("PCA", "AE", "SAMI, told level")])
assert alike.min() > 38 and alike.max() < 41
assert white["VAE"].max() < 37 and white["SAMI"].min() > 57
assert 0.5 < white["SAMI, told level"].mean() - white["PCA"].mean() < 1.5
Table({m: f"{v.mean():.1f}" for m, v in white.items()}, name="code, whitened",
      value="curvature of what moves (degrees)")

# %% [markdown]
# What these experiments cannot say: the paper's clips show faces, its network and training are larger by orders of magnitude, and its measure (a cosine) and its rival differ: DiffAE, which this library has, was not run here. A code of photographs at 16 numbers keeps coarse structure only, whoever makes it. So this is no refutation; it says that straightness is not a property of the method alone. It depends on how the axes are scaled, and on where the encoder begins.
#
# ## What can go wrong
#
# * **A code that ignores motion** repeats itself, and its steps of length zero are left out; a code that hardly knows the motion is bent by its noise. Read curvature beside a probe.
# * **Comparing at different sizes.** More numbers, more detail, more bend. All codes here have 16.
# * **Pixels as the only rival.** PCA, which is linear and untrained, is straighter than the pixels wherever these bend.
