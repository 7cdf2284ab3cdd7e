"""What it is worth to begin as the Gaussian: quality against CPU seconds, beside models that begin as they did before.

    python -m bench.claims.begin_gaussian --photos photos32.npz --fashion FOLDER [--steps 1000] [--seeds 3]

`photos32.npz` holds arrays train and test, uint8 (N, 32, 32, 3). Each model is asked after 0, 10, 30, 100, 300 and 1000
steps, with averaged weights: points and draws (squared error on [0, 1]), bits per dimension, half the squared error of
the noise at log gamma = -4 ... 14. Writes docs/results/begin-gaussian.json, row by row; rows that are there stay.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch

import scoreae as sa
from bench.stored import RESULTS, add_row
from scoreae.core.checks import rng, sqnorm
from scoreae.foundations.gaussians import Gaussian

ASKED, LEVELS = (0, 10, 30, 100, 300, 1000), tuple(range(-4, 15, 2))
MODELS = {
    "SAMI, told level": (sa.SAMI, {"time_conditioned": True}, "linear"),
    "SAMI": (sa.SAMI, {}, "random"),
    "DBAE-d": (sa.DBAE, {}, "random"),
    "DiffAE": (sa.DiffAE, {}, "random"),
    "AE": (sa.AE, {}, "random"),
}


def photographs(file: str) -> list[torch.Tensor]:
    found = np.load(file)
    load = lambda a: sa.data.to_float(torch.from_numpy(a).permute(0, 3, 1, 2).contiguous())
    return [load(found["train"]), load(found["test"][:128])]


def clothes(folder: str) -> list[torch.Tensor]:
    return [sa.data.fashion_mnist(s, root=folder, limit=n) for s, n in (("train", 20_000), ("test", 128))]


def error(y, x): return float((y - x).square().mean()) / 4


@torch.no_grad()
def by_level(model, x: torch.Tensor) -> dict[str, float]:
    "Half the squared error of the noise, in nats per unit of log gamma, at each of LEVELS."
    z = model.encode(x)
    D, found = model.denoiser(z, model.endpoint(z)), {}
    for u in LEVELS:
        t = model.path.t_of_gamma(torch.tensor(math.exp(u), dtype=torch.float64)).expand(len(x))
        eps = torch.randn(x.shape, generator=rng(u + 99))
        found[str(u)] = round(float(sqnorm(D.residual(x, eps, t)).mean()) / 2, 2)
    return found


def asked(model, some: torch.Tensor, x: torch.Tensor) -> dict:
    "What a model can do now, with a Gaussian prior fitted to codes of `some` training images."
    model.finish(some)
    how = {"eta": 1.0} if isinstance(model, sa.SAMI) else {}
    row = {"point": round(error(model.reconstruct(x, steps=25), x), 5)}
    if isinstance(model, sa.AE): return row
    row["draw"] = round(error(model.reconstruct(x, "sample", 25, **how), x), 5)
    noise = model.choose_noise(x[:64], 256, n=4)
    return row | {"bits/dim": round(float(model.bound(x, 256, n=8, **noise).bits_per_dim), 3)} | by_level(model, x)


def train(name: str, begin: str, seed: int, sets: list, a) -> dict:
    "The curve of one model: a list of what it can do, each with its CPU seconds of training."
    (kind, kw, before), (x, test) = MODELS[name], sets
    torch.manual_seed(seed)
    own = {"begin": before if begin == "before" else "gaussian"}
    model = kind(tuple(x.shape[1:]), a.z_dim, width=a.width, **kw, **own)
    curve, last, some = [], a.steps if begin == "before" else min(a.steps, a.fewer), x[:: max(1, len(x) // 2000)]
    clock = {"spent": 0.0, "at": time.process_time()}

    def ask(step, m):
        clock["spent"] += time.process_time() - clock["at"]
        if step in ASKED: curve.append({"steps": step, "CPU seconds": round(clock["spent"], 1), **asked(m, some, test)})
        clock["at"] = time.process_time()

    model.prepare(x)
    ask(0, model.eval())
    how = {"batch_size": 32, "lr": 2e-3, "seed": seed, "every": 10, "progress": False, "device": "cpu"}
    sa.fit(model, x, steps=last, callback=ask, **how)
    return {"curve": curve}


def controls(sets: list, a) -> dict:
    x, test = sets
    pca = sa.PCA(tuple(x.shape[1:]), a.z_dim)
    pca.prepare(x)
    return {"PCA": round(error(pca.reconstruct(test), test), 5), "mean image": round(error(x.mean(0)[None], test), 5)}


@torch.no_grad()
def density(known: Gaussian, y: torch.Tensor) -> float:
    "Minus the log density of images, in bits a dimension of 256 grey levels."
    along, across = known.split(y.flatten(1) - known.center)
    var = known.variances.double()
    log_p = known.likely(known.energies(across), 0.0, 1.0).logsumexp(-1).sum(1)
    log_p = log_p - (along**2 / var + var.log()).sum(1) / 2 - y[0].numel() / 2 * math.log(2 * math.pi)
    return round(float(-log_p.mean()) / y[0].numel() / math.log(2) + math.log2(127.5), 3)


def remainders(sets: list) -> dict:
    "Bits of test images under Gaussians of the training images, by what is known of what remains."
    (x, test), found = sets, {}
    for k in (64, 256):
        known = Gaussian(tuple(x.shape[1:]), k)
        known.fit(x[:10_000])
        found[f"{k} directions, bands with scales"] = density(known, test)
        known.one_scale()
        found[f"{k} directions, bands"] = density(known, test)
        size = known.members.sum(0)
        known.rest.fill_(float(size / size.sum() @ known.rest))
        found[f"{k} directions, one variance"] = density(known, test)
    return {"bits/dim": found}


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, value in (("steps", 1000), ("fewer", 300), ("seeds", 3), ("width", 16), ("threads", 1)):
        p.add_argument(f"--{name}", type=int, default=value)
    p.add_argument("--begins", nargs="+", default=["gaussian", "before"], choices=["gaussian", "before"])
    p.add_argument("--photos")
    p.add_argument("--fashion")
    p.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    p.add_argument("--out", type=Path, default=RESULTS / "begin-gaussian.json")
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    told = f"--steps {a.steps} --fewer {a.fewer} --seeds {a.seeds} --width {a.width} --threads {a.threads}"
    about = {"command": f"python -m bench.claims.begin_gaussian --photos photos32.npz --fashion FOLDER {told}",
             "batch": 32, "lr": 2e-3, "test images": 128}  # fmt: skip
    given = {"photographs": (a.photos, photographs, 32), "clothes": (a.fashion, clothes, 16)}
    for name, (where, load, k) in ((n, g) for n, g in given.items() if g[0]):
        sets, a.z_dim = load(where), k
        add_row(a.out, {"set": name, "model": "controls"}, lambda s=sets: controls(s, a), **about)
        add_row(a.out, {"set": name, "model": "remainders"}, lambda s=sets: remainders(s), **about)
        for seed, model, begin in ((s, m, b) for s in range(a.seeds) for m in a.models for b in a.begins):
            key = {"set": name, "model": model, "begin": begin, "k": k, "seed": seed}
            add_row(a.out, key, lambda m=model, b=begin, s=seed, own=sets: train(m, b, s, own, a), **about)


if __name__ == "__main__": main()
