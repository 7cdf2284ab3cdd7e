"""Where SAMI's encoder begins, and what it is shown on a walk without noise: three sets of images, three encoders.

    python -m bench.claims.beginnings --fashion FOLDER [--steps 1200] [--seeds 3]

Noise-blind; told the level and begun at random; told and begun as the linear code. Digits at 8x8 pixels (12 numbers),
clothes at 14x14 (16), colour patches at 16x16 (32), and the same steps, networks and learning rate for all. Writes
docs/results/beginnings.json row by row; rows that are there already are not computed again. All settings were chosen on
validation images; the rows are of test images.
"""

import argparse
from pathlib import Path

import torch

import scoreae as sa
from bench.stored import RESULTS, add_row, wall
from scoreae.commands.contest import Contest, images_of
from scoreae.core.checks import sqnorm
from scoreae.foundations.samplers import sample
from scoreae.use.guidance import watch

MODELS = {
    "noise-blind": {"begin": "random"},
    "told, begun at random": {"time_conditioned": True, "begin": "random"},
    "told, begun linear": {"time_conditioned": True, "begin": "linear"},
}
SETS = {"digits": (12, 64), "clothes": (16, 64), "patches": (32, 32)}  # axes, images a step


def images(name, folder):
    "Images to train on, and 300 test images at most."
    if name == "digits": return sa.data.digits("train"), sa.data.digits("test")[:300]
    if name == "clothes": return [s[0] for s in images_of(Contest(train=6000, val=2, test=300), folder)[::2]]
    return sa.data.patches("train", size=16, limit=4000), sa.data.patches("test", size=16, limit=300)


def error(y, x): return round(float(sqnorm(y - x).mean()) / x[0].numel() / 4, 5)


def questions(model, x, levels):
    "Errors on [0, 1] of points (ten and 25 steps; as the denoiser is, without showing noise) and samples, and nats."
    z = model.encode(x)
    with torch.no_grad():
        plain = sample(model.denoiser(z), model.path, x, 25, mode="point", clip=1.0).clamp(-1, 1)
    seen, bound = watch(model, x, n=16), model.bound(x[:100], levels, n=32)
    step = float(seen["u"][1] - seen["u"][0])
    row = {"point": error(model.decode(z, steps=25), x), "point, 10 steps": error(model.decode(z), x),
           "point, no noise shown": error(plain, x), "sample": error(model.decode(z, "sample", 25), x),
           "bits/dim": round(bound.bits_per_dim, 3), "rate": round(bound.rate, 2)}  # fmt: skip
    row |= {k: round(float(seen[k].sum()) * step, 2) for k in ("gain", "energy")}
    return row | {"u": seen["u"].tolist(), "gain by level": [round(v, 3) for v in seen["gain"].tolist()]}


def train(name, model, seed, a):
    "One model, trained and questioned, and what its training watched."
    x, test = images(name, a.fashion)
    k, batch = SETS[name]
    torch.manual_seed(seed)
    made = sa.SAMI(tuple(x.shape[1:]), k, width=a.width, **MODELS[model])
    done = sa.fit(made, x, steps=a.steps, batch_size=batch, lr=2e-3, seed=seed, progress=False, log_every=a.steps // 12)
    kept = ("step", "free", "guided", "guidance", "rate", "pin")
    history = [{key: round(h[key], 3) for key in kept} for h in done.history]
    return questions(made, test, 17 if name == "digits" else 256) | {"history": history, "wall": wall(done)}


def controls(name, a):
    "What needs no training: the mean image, and the principal components."
    x, test = images(name, a.fashion)
    pca = sa.PCA(tuple(x.shape[1:]), SETS[name][0])
    done = sa.fit(pca, x, progress=False)
    found = {"mean image": error(x.mean(0).expand_as(test), test), "PCA": error(pca.reconstruct(test), test)}
    return found | {"wall": wall(done)}


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--fashion", required=True)
    for name, value in [("steps", 1200), ("seeds", 3), ("width", 16)]:
        p.add_argument(f"--{name}", type=int, default=value)
    p.add_argument("--sets", nargs="*", default=list(SETS), choices=list(SETS))
    p.add_argument("--out", type=Path, default=RESULTS / "beginnings.json")
    a = p.parse_args()
    settings = f"--steps {a.steps} --seeds {a.seeds} --width {a.width}"
    command = f"python -m bench.claims.beginnings --fashion FOLDER {settings}"
    about = {"command": command, "codes and batches": SETS}
    for name in a.sets:
        add_row(a.out, {"set": name, "model": "controls", "seed": 0}, lambda n=name: controls(n, a), **about)
        for seed in range(a.seeds):
            for model in MODELS:
                add_row(a.out, {"set": name, "model": model, "seed": seed},
                        lambda n=name, m=model, s=seed: train(n, m, s, a), **about)  # fmt: skip


if __name__ == "__main__": main()
