"""How straight are the codes of clips, for encoders that were trained on still images only?

    python -m bench.claims.straight [--steps 500] [--seeds 3] [--fashion FOLDER]

Stills of 16x16 pixels: shapes, digits and, if Fashion-MNIST lies in FOLDER, its clothes, at random places, turns, sizes
and opacities. Every model has a code of 16 numbers and the same encoder network. Writes docs/results/straight.json, row
by row; rows that are there already are not computed again.
"""

import argparse
import math
from pathlib import Path

import torch

import scoreae as sa
from bench.stored import RESULTS, add_row, wall
from scoreae.core.checks import rng
from scoreae.images.rendered import SHAPES, clips
from scoreae.measures.straightness import curvature, linear_fade, shuffled, straightening

FRAMES, SIZE, K = 6, 16, 16
MOTIONS = ("move", "rotate", "scale", "fade")
SIDE = {"shapes": 0.35, "digits": 0.5, "clothes": 0.5}
COARSE = {"time_conditioned": True, "begin": "linear", "weighting": "elbo", "gamma_max": math.exp(3), "kl_weight": 0.1}
MODELS = {"SAMI": ("SAMI", {"begin": "random"}),
          "SAMI, told level": ("SAMI", {"time_conditioned": True, "begin": "linear"}),
          "SAMI, told, begun at random": ("SAMI", {"time_conditioned": True, "begin": "random"}),
          "SAMI, coarse": ("SAMI", COARSE), "AE": ("AE", {"begin": "random"}),
          "VAE": ("VAE", {"begin": "random"}),
          "random encoder": ("RandomEncoder", {}), "PCA": ("PCA", {})}  # fmt: skip


def film(kind, items, n, frames, motion, seed):
    "`n` clips (n, T, 1, 16, 16), and factors, of shapes, or of `items`; a disk is not rotated: nobody would see it."
    if items is not None: return clips(items, n, frames, motion, SIZE, SIDE[kind], seed=seed)
    names = [s for s in SHAPES if (s, motion) != ("disk", "rotate")]
    made = [clips(s, n // len(names), frames, motion, SIZE, SIDE[kind], seed=seed + i) for i, s in enumerate(names)]
    return made[0]._replace(x=torch.cat([m.x for m in made]), factors=torch.cat([m.factors for m in made]))


def subjects(split, folder):
    "The items of each kind; shapes are drawn, so they have none."
    found = {"shapes": None, "digits": sa.data.digits(split)}
    return found | ({"clothes": sa.data.fashion_mnist(split, root=folder, limit=1200)} if folder else {})


def stills(split, folder, n, seed):
    "`n` images of every kind and their factors x, y, scale, opacity: one frame each of clips that fade."
    images, factors, g = [], [], rng(seed)
    for kind, items in subjects(split, folder).items():
        made = film(kind, items, n, 9, "fade", seed)
        which = torch.randint(8, (len(made.x),), generator=g)  # the ninth frame is empty
        images.append(made.x[torch.arange(len(made.x)), which])
        factors.append(made.factors[torch.arange(len(made.x)), which][:, [0, 1, 3, 4]])
    return torch.cat(images), torch.cat(factors)


def r2(model, train, test):
    "Held-out R2 of a linear probe of place, scale and opacity, mean over the four."
    z, y = model.encode(train[0]), train[1]
    one = lambda v: torch.cat([v, torch.ones(len(v), 1)], 1).double()
    W = torch.linalg.lstsq(one(z), y.double(), driver="gelsd").solution
    left = (test[1] - one(model.encode(test[0])) @ W).square().mean(0) / test[1].double().var(0)
    return round(float(1 - left.mean()), 4)


def measure(encode, films, whiten=None):
    "Degrees, and the difference to the pixels with its interval, of every kind and motion."
    out = {}
    for (kind, motion), x in films.items():
        z = encode(x.flatten(0, 1)).unflatten(0, x.shape[:2]).flatten(2)
        s = straightening(z, x, whiten, n=500)
        out[f"{kind}, {motion}"] = {k: s[k] for k in ("degrees", "cosine", "difference", "interval", "excluded")}
        if motion != "move": continue
        for name, change in {"shuffled": shuffled, "linear fade": linear_fade}.items():
            y = change(x)
            z = encode(y.flatten(0, 1)).unflatten(0, x.shape[:2]).flatten(2)
            out[f"{kind}, {name}"] = {"degrees": curvature(z).degrees.nanmean().item()}
    return out


def row(name, seed, steps, folder, films):
    "Train one model on stills, and measure clips."
    train, test = stills("train", folder, 4000, 100 + seed), stills("test", folder, 600, 7)
    kind, kw = MODELS[name]
    torch.manual_seed(seed)
    trained = name not in ("PCA", "random encoder")
    model = getattr(sa, kind)((1, SIZE, SIZE), K, **({} if kind == "PCA" else {"width": 8, "encoder_width": 8, **kw}))
    done = sa.fit(model, train[0], steps=steps if trained else 1, batch_size=32, lr=3e-3, ema=0.99, seed=seed,
                  progress=False)  # fmt: skip
    codes = model.encode(train[0])
    scale = codes.std(0, correction=0).sort(descending=True).values
    return {"R2": r2(model, train, test), "steps": done.steps if trained else 0, "deviations": scale.tolist(),
            "clips": measure(model.encode, films), "whitened": measure(model.encode, films, codes),
            "wall": wall(done)}  # fmt: skip


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--steps", type=int, default=500)
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--fashion", default="")
    p.add_argument("--out", default=str(RESULTS / "straight.json"))
    a = p.parse_args()
    folder, file = a.fashion or None, Path(a.out)
    films = {(kind, m): film(kind, items, 60, FRAMES, m, 5).x
             for kind, items in subjects("test", folder).items() for m in MOTIONS}  # fmt: skip
    command = f"python -m bench.claims.straight --steps {a.steps} --seeds {a.seeds}"
    command += " --fashion FOLDER" * bool(folder)
    about = {"command": command, "frames": FRAMES, "code": K, "clips of each kind and motion": 60}
    add_row(file, {"model": "pixels", "seed": 0}, lambda: {"clips": measure(lambda x: x.flatten(1), films)}, **about)
    for seed in range(a.seeds):
        for name in MODELS:
            if name == "SAMI, coarse" and seed: continue  # one seed
            add_row(file, {"model": name, "seed": seed}, lambda n=name, s=seed: row(n, s, a.steps, folder, films),
                    **about)  # fmt: skip


if __name__ == "__main__": main()
