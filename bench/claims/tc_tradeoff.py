"""What does a price on the total correlation buy, and what does it cost? A stochastic DBAE on disks and on sprites.

    python -m bench.claims.tc_tradeoff [--data disks] [--weights 0 3 10] [--kl 1] [--seeds 2] [--steps 400]

Writes docs/results/tc-tradeoff.json. Per data set, weight and seed, on 1000 fresh images: DCI, MIG and TAD of the codes
(TAD of the factors split at their medians; a shape is a square or not), each beside the mean over five rotations of the
same codes; rate and total correlation in nats; the error of points on [0, 1]; and the sliced Wasserstein distance of
500 samples (15 evaluations, codes from a diffusion prior) from real images, beside that of other real images.
A run that is interrupted goes on where it was.
"""

import argparse
import time

import numpy as np
import torch
from threadpoolctl import threadpool_limits

import scoreae as sa
from bench.stored import RESULTS, fill_set, wall
from scoreae.core.checks import randn_like, rng, sqnorm
from scoreae.measures import disentanglement as dis
from scoreae.measures.distributions import sliced_wasserstein
from scoreae.models.priors import kl_per_axis, total_correlation

DISCRETE = {"disks": None, "sprites": [True, False, False, False, False]}


def scores(z, v, discrete):
    "DCI's disentanglement, MIG, and TAD of factors split at their medians."
    halves = v > np.median(v, 0)
    if discrete: halves[:, 0] = v[:, 0] == v[0, 0]
    return {"DCI": dis.dci(z, v, discrete=discrete)["disentanglement"],
            "MIG": float(dis.mig(z, v, discrete=discrete).mean()),
            "TAD": dis.tad(z, halves.astype(float))["tad"]}  # fmt: skip


def nats(model, x):
    "Rate against N(0, I) and total correlation of the codes of images, which are taken for the whole data set."
    mean, std = model.posterior(x).mean, model.posterior(x).stddev
    z = mean + std * randn_like(mean, rng(0))
    return {"rate": kl_per_axis(mean, std**2).sum(1).mean().item(),
            "total correlation": total_correlation(z, mean, std, len(x)).item()}  # fmt: skip


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, value in [("steps", 400), ("batch", 32), ("width", 8), ("z-dim", 6), ("seeds", 2), ("threads", 1)]:
        p.add_argument(f"--{name}", type=int, default=value)
    p.add_argument("--data", default="disks", choices=list(DISCRETE))
    p.add_argument("--weights", type=float, nargs="+", default=[0, 3, 10])
    p.add_argument("--kl", type=float, default=1.0)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    draw = getattr(sa.data, a.data)
    x, test, other = draw(4000, 16, seed=0).x, draw(1000, 16, seed=1), draw(500, 16, seed=2).x
    v = test.factors.numpy().astype(float)
    rules = {"steps": a.steps, "batch": a.batch, "width": a.width, "z-dim": a.z_dim, "kl": a.kl}
    command = f"python -m bench.claims.tc_tradeoff --data {a.data} " + " ".join(f"--{k} {w}" for k, w in rules.items())
    name = a.data if a.kl == 1 else f"{a.data}, rate weight {a.kl:g}"

    def row(tc_weight, seed):
        torch.manual_seed(seed)
        kw = {"stochastic": True, "kl_weight": a.kl, "tc_weight": tc_weight, "width": a.width, "encoder_width": a.width}
        model = sa.DBAE(tuple(x.shape[1:]), a.z_dim, begin="random", **kw)
        how = {"steps": a.steps, "batch_size": a.batch, "lr": 3e-3, "ema": 0.99, "seed": seed}
        done, begin = sa.fit(model, x, **how, progress=False, device="cpu"), time.perf_counter()
        sa.fit_latent(model, x, 600, width=64)
        took = wall(done, prior=time.perf_counter() - begin)
        z = model.encode(test.x)
        with threadpool_limits(1):
            found = scores(z.numpy(), v, DISCRETE[a.data])
            null = dis.rotation_null(lambda r: scores(r, v, DISCRETE[a.data]), z.numpy(), 5)
        found |= {f"{k}, rotated": m["mean"] for k, m in null.items()} | nats(model, test.x)
        made = model.sample(500, steps=15, seed=seed)
        found |= {"point": sqnorm(model.decode(z[:300]) - test.x[:300]).mean().item() / x[0].numel() / 4,
                  "sliced Wasserstein": sliced_wasserstein(test.x[:500], made),
                  "sliced Wasserstein, real": sliced_wasserstein(test.x[:500], other)}  # fmt: skip
        return {k: round(u, 5) for k, u in found.items()} | {"wall": took}

    keys = ({"tc_weight": w, "seed": s} for s in range(a.seeds) for w in a.weights)
    fill_set(RESULTS / "tc-tradeoff.json", name, command, rules, keys, row)


if __name__ == "__main__": main()
