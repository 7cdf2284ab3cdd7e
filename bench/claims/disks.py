"""What SAMI's code knows about disks, in three regimes and with an exact denoiser, against a beta-VAE and PCA.

    python -m bench.claims.disks [--steps 500] [--seeds 3]

Disks of 16x16 pixels, codes of 8 numbers, the same encoder network for all. Writes docs/results/disks.json, row by row;
rows that are there already are not computed again.
"""

import argparse
import math
from pathlib import Path

import torch

import scoreae as sa
from bench.stored import RESULTS, add_row, wall
from scoreae.core.checks import randn_like, rng
from scoreae.foundations.paths import VPCosine
from scoreae.images.rendered import DISK_FACTORS, disks, draw_disks
from scoreae.measures.disentanglement import dci, mig, rotation_null
from scoreae.measures.evaluation import probe
from scoreae.use.guidance import axes, watch

SHAPE, K, RADIUS = (1, 16, 16), 8, 0.1875
PATH = VPCosine(-math.log(5 * 256))
HOW = {"weighting": "elbo", "gamma_max": math.exp(4), "kl_weight": 0.05, "time_conditioned": True}
HIGH = {"weighting": "simple", "noise": "high", "kl_weight": 0.01, "time_conditioned": True}
MODELS = ("joint", "pinned", "frozen", "exact denoiser", "pinned, begun at random", "untrained", "joint, high noise",
          "VAE", "random encoder", "PCA")  # fmt: skip
ONCE = ("joint, high noise",)  # one seed


class Exact:
    "E[x_0 | x_t] of the disks: the average of drawn disks on a grid of factors, weighted by their likelihood."

    def __init__(self, contrast, places=22, greys=14):
        centre = RADIUS + (torch.arange(places) + 0.5) / places * (1 - 2 * RADIUS)
        share = (torch.arange(greys // 2) + 0.5) / (greys // 2) * (0.5 - contrast)
        factors = torch.cartesian_prod(centre, centre, torch.cat([share, 1 - share]))
        self.images = draw_disks(factors, 16, RADIUS).flatten(1)
        self.norms = self.images.square().sum(1) / 2

    def __call__(self, x_t, t):
        k = PATH.coefs(t)
        b, c = (v.to(x_t).reshape(-1, 1) for v in (k.b, k.c))
        fit = (b / c) ** 2 * (x_t.flatten(1) / b @ self.images.T - self.norms)
        return (fit.softmax(1) @ self.images).reshape(x_t.shape)


def make(name, seed, contrast, pinned):
    "An untrained model; `frozen` takes the denoiser that the pinned model has learned."
    torch.manual_seed(seed)
    nets = {"width": 8, "encoder_width": 8}
    if name == "PCA": return sa.PCA(SHAPE, K)
    if name == "random encoder": return sa.RandomEncoder(SHAPE, K, **nets)
    if name == "VAE": return sa.VAE(SHAPE, K, beta=1.0, begin="random", **nets)
    how = dict(HIGH if name == "joint, high noise" else HOW)
    if name == "frozen": how |= {"denoiser": pinned.base(), "regime": "frozen"}
    elif name == "untrained": how |= {"regime": "joint", "begin": "linear"}
    elif name == "exact denoiser": how |= {"denoiser": Exact(contrast), "path": PATH, "regime": "frozen"}
    else: how |= {"regime": name.split(", ")[0], "begin": "random" if "random" in name else "linear"}
    return sa.SAMI(SHAPE, K, **nets, **how)


@torch.no_grad()
def start(model, x):
    "Let the untrained code speak: means with variance one on images `x`, deviations 0.3."
    head, k = model.encoder_net.head, model.z_dim
    head.weight[:k] /= parts(model, x)[0].std(0)[:, None]
    head.bias[:k] -= parts(model, x)[0].mean(0)
    head.weight[k:] *= 0.1
    head.bias[k:] = math.log(math.expm1(0.3 - model.std_floor))


def r2(y, p):
    "R2 of every factor."
    left = ((y - p) ** 2).sum(0) / ((y - y.mean(0)) ** 2).sum(0)
    return {name: 1 - left[i] for i, name in enumerate(DISK_FACTORS)}


def knows(model, splits):
    "R2 of each factor by three probes of the code's mean, and by k-NN of a draw of the code."
    out, g = {}, rng(0)
    means = {k: parts(model, d.x) for k, d in splits.items()}
    for kind in ("linear", "k-NN", "MLP"):
        pairs = [(means[k][0], d.factors) for k, d in splits.items()]
        out[kind] = {n: round(float(v.mean), 4) for n, v in probe(*pairs, kind, r2, resamples=2).items()}
    if means["test"][1] is not None:
        pairs = [(m + s * randn_like(m, g), splits[k].factors) for k, (m, s) in means.items()]
        out["k-NN of a draw"] = {n: round(float(v.mean), 4) for n, v in probe(*pairs, "k-NN", r2, resamples=2).items()}
    return out


@torch.no_grad()
def parts(model, x):
    "Means and deviations of codes, in batches; no deviations if the code is deterministic."
    found = [model.codes(b) for b in x.split(500)]
    return torch.cat([m for m, _ in found]), None if found[0][1] is None else torch.cat([s for _, s in found])


def aligned(z, v):
    "DCI disentanglement and MIG beside their values after random rotations of the code."
    score = lambda t: {"DCI": dci(t, v)["disentanglement"], "MIG": float(mig(t, v).mean())}
    own, null = score(z), rotation_null(score, z, n=5)
    each = zip(DISK_FACTORS, mig(z, v).tolist(), strict=True)
    return {"MIG each": {n: round(m, 4) for n, m in each}} | {
        n: {"value": round(own[n], 4), "rotated": round(null[n]["mean"], 4), "±": round(null[n]["std"], 4)} for n in own
    }


def correlations(z, f):
    "Of every axis with x, y, x + y, x - y and the background."
    x, y, b = (f - f.mean(0)).T
    table = torch.corrcoef(torch.cat([z.T, torch.stack([x, y, x + y, x - y, b])]).double())
    return [[round(v, 3) for v in row] for row in table[: z.shape[1], z.shape[1] :].tolist()]


def measure(model, splits, full):
    "Everything about one model on disks with contrast, and its k-NN probe on the full range."
    test = splits["test"]
    z, std = parts(model, test.x)
    row = knows(model, splits) | {"full range": knows(model, full)["k-NN"]}
    row |= aligned(z.double().numpy(), test.factors.double().numpy())
    row["correlations"] = correlations(z, test.factors)
    if std is not None: row["rate"] = round(float(((std**2 + z**2 - 1) / 2 - std.log()).sum(1).mean()), 3)
    if not isinstance(model, sa.SAMI): return row
    found, seen = axes(model, test.x[:256], n=16, images=1, steps=2), watch(model, test.x[:256], n=16)
    step = float(found.u[1] - found.u[0])
    row |= {k: round(float(seen[k].sum()) * step, 3) for k in ("gain", "energy")}
    row["pin"] = round(float((seen["pin"] * seen["energy"]).sum() / seen["energy"].sum()), 4)
    row |= {"u": found.u.tolist(), "density": [[round(v, 4) for v in d] for d in found.density.tolist()]}
    return row | {"centroid": {r["axis"]: round(r["centroid"], 3) for r in found.table}}


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--steps", type=int, default=500)
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--contrast", type=float, default=0.2)
    p.add_argument("--out", default=str(RESULTS / "disks.json"))
    a = p.parse_args()
    sizes = {"train": 2000, "val": 300, "test": 1000}
    splits, full = ({k: disks(n, 16, RADIUS, contrast=c, seed=i + 1) for i, (k, n) in enumerate(sizes.items())}
                    for c in (a.contrast, 0.0))  # fmt: skip
    command = f"python -m bench.claims.disks --steps {a.steps} --seeds {a.seeds}"
    pinned = {}

    def row(name, seed):
        x, fits = disks(20000, 16, RADIUS, contrast=a.contrast, seed=100 + seed).x, []
        if name == "frozen" and seed not in pinned: pinned[seed] = trained("pinned", seed, x, fits)
        model = trained(name, seed, x, fits)
        if name == "pinned": pinned[seed] = model
        found = measure(model, splits, full) | {"wall": wall(*fits)}
        guided = ("gain", "energy", "pin", "u", "density", "centroid") if name == "untrained" else ()
        return {k: v for k, v in found.items() if k not in guided}  # its denoiser is untrained, too

    def trained(name, seed, x, fits):
        model = make(name, seed, a.contrast, pinned.get(seed))
        learns = name not in ("PCA", "random encoder")
        if name == "untrained":  # the linear code, fitted
            model.prepare(x)
            return model.eval()
        if "random" in name and isinstance(model, sa.SAMI): start(model, x[:1000])
        fits.append(sa.fit(model, x if learns else x[:2000], steps=a.steps if learns else 1, batch_size=32, lr=3e-3,
                           ema=0.99, seed=seed, progress=False))  # fmt: skip
        return model.eval()

    for seed in range(a.seeds):
        for name in MODELS:
            if name in ONCE and seed: continue
            add_row(Path(a.out), {"model": name, "seed": seed}, lambda n=name, s=seed: row(n, s), command=command,
                    contrast=a.contrast, code=K)  # fmt: skip


if __name__ == "__main__": main()
