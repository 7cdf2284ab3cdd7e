"""Quality against evaluations of the denoiser, on an oracle and on trained digits; writes docs/results/few-steps.json.

    python bench/few_steps.py [--draws 10000] [--samples 500] [--threads 1]

The released integrators (Euler, Heun with churn, on Karras's grid) against the update of `samplers`; and the seconds to
get the start of a walk: DBAE's endpoint, feed-forward, against inversion of DiffAE's ODE (weights/, the same U-Net).
"""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import torch

import scoreae as sa
from scoreae import samplers
from scoreae.core import sqnorm
from scoreae.edits import invert, walk
from scoreae.generation import clf_features, fit_classifier, frechet
from scoreae.oracle import Mixture, denoiser

ROOT = Path(__file__).resolve().parent.parent
POINTS, SAMPLES = (1, 2, 3, 5, 7, 10, 15, 25), (2, 3, 5, 7, 10, 15, 25, 50)
EULER, CHURN = (5, 10, 20, 50, 100), (2, 4, 7, 17, 33, 83, 167)


def released(D, path, xT, n, method, churn, seed=0, clip=None):
    "The released sampler with n points on its grid, from T - 1e-4; Heun with churn takes 3 n - 1 evaluations."
    E = D if clip is None else lambda x, t: D(x, t).clamp(-clip, clip)
    times = samplers.time_grid(path, n + 1, "karras")[1:]
    return samplers.integrate(E, path, xT, times, xT=xT, method=method, churn=churn, seed=seed)


def distance(draws, data):
    "The Wasserstein-1 distance of draws (N, 1) from the mixture, by its quantiles on a fine grid."
    at = torch.linspace(-2, 2, 200_001, dtype=torch.float64)
    sd = data.covs[:, 0, 0].sqrt()
    cdf = (torch.special.ndtr((at[:, None] - data.means[:, 0]) / sd) * data.weights).sum(1)
    q = (torch.arange(len(draws)) + 0.5) / len(draws)
    exact = at[torch.searchsorted(cdf, q.double()).clamp(max=len(at) - 1)]
    return (draws[:, 0].sort().values - exact).abs().mean().item()


def on_oracle(draws):
    "A mixture of two narrow humps given x_T: the point's distance from the median, and of samples from the mixture."
    f64 = lambda *v: torch.tensor(v, dtype=torch.float64)
    data = Mixture(f64(0.7, 0.3), f64(-0.5, 0.6)[:, None], f64(0.1**2, 0.15**2)[:, None, None])
    path, xT = sa.Pinned(sa.VPLinear(0.1, 2.0)), torch.full((draws, 1), 0.7, dtype=torch.float64)
    at = torch.linspace(-1, 1, 200_001, dtype=torch.float64)
    cdf = (torch.special.ndtr((at[:, None] - data.means[:, 0]) / data.covs[:, 0, 0].sqrt()) * data.weights).sum(1)
    median, one = at[torch.searchsorted(cdf, 0.5)], xT[:1]
    D, D1 = denoiser(data, path, xT), denoiser(data, path, one)
    off = lambda x: (x - median).abs().item()
    ours = lambda n, **kw: samplers.sample(D, path, xT, n, xT=xT, seed=0, **kw)
    return {
        "point, ours": {n: off(samplers.sample(D1, path, one, n, xT=one, mode="point")) for n in POINTS},
        "point, Euler": {n: off(released(D1, path, one, n, "euler", 0.0)) for n in EULER},
        "samples, ours": {n: distance(ours(n), data) for n in SAMPLES},
        "samples, ours, order 1": {n: distance(ours(n, order=1), data) for n in SAMPLES},
        "samples, ancestral": {n: distance(ours(n, order=1, eta=1.0), data) for n in SAMPLES},
        "samples, Heun with churn": {3 * n - 1: distance(released(D, path, xT, n, "heun", 0.33), data) for n in CHURN},
        "samples, exact draws": distance(data.sample(draws, seed=1), data),
    }


def on_digits(model, samples):
    "Errors of points on [0, 1], and the Frechet distance of samples from the prior in a classifier's features."
    train, (x, _) = sa.data.digits("train", labels=True), sa.data.digits("test", labels=True)
    judge = fit_classifier(*train, seed=0)
    real, z = clf_features(judge, x), model.encode(x)
    codes = model.prior.sample(samples, seed=0)
    mse = lambda y: sqnorm(y.clamp(-1, 1) - x).mean().item() / 64 / 4
    fd = lambda y: float(frechet(real, clf_features(judge, y.clamp(-1, 1))))

    def old(z, n, method, churn):
        xT = model.endpoint(z)
        return released(model.denoiser(z, xT), model.path, xT, n, method, churn, clip=1.0)

    with torch.no_grad():
        return {
            "point, ours": {n: mse(model.decode(z, "point", n)) for n in POINTS},
            "point, Euler": {n: mse(old(z, n, "euler", 0.0)) for n in EULER},
            "samples, ours": {n: fd(model.decode(codes, "sample", n)) for n in SAMPLES},
            "samples, ours, order 1": {n: fd(model.decode(codes, "sample", n, order=1)) for n in SAMPLES},
            "samples, Heun with churn": {3 * n - 1: fd(old(codes, n, "heun", 0.33)) for n in CHURN},
            "samples, real images": fd(train[0]),
        }


def starts(dbae, diffae, rounds=7):
    "Seconds to get the start of the walk for the test images, interleaved; and what that start is good for."
    x = sa.data.digits("test")
    seconds = {"DBAE, feed-forward": [], "DiffAE, inversion by 101 evaluations": []}
    for _ in range(rounds):
        for name, call in zip(seconds, (lambda: dbae.endpoint(dbae.encode(x)), lambda: invert(diffae, x, steps=52)),
                              strict=True):  # fmt: skip
            begin = time.perf_counter()
            with torch.no_grad(): call()
            seconds[name].append(time.perf_counter() - begin)
    median = {k: statistics.median(v) for k, v in seconds.items()}
    ratio = statistics.median(b / a for a, b in zip(*seconds.values(), strict=True))
    back = walk(diffae, diffae.encode(x), invert(diffae, x, steps=52), 52)
    return {"images": len(x), "milliseconds (median)": {k: round(1e3 * v, 2) for k, v in median.items()},
            "ratio (median of rounds)": round(ratio, 1),
            "mean squared error of DiffAE from inverted noise": sqnorm(back - x).mean().item() / 64 / 4}  # fmt: skip


def short(v):
    "Numbers with four digits."
    if isinstance(v, dict): return {k: short(w) for k, w in v.items()}
    return float(f"{v:.4g}") if isinstance(v, float) else v


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, value in [("draws", 10_000), ("samples", 500), ("threads", 1)]:
        p.add_argument(f"--{name}", type=int, default=value)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    dbae, diffae = (sa.load(ROOT / "weights" / name) for name in ("digits-dbae", "digits-diffae"))
    command = "python bench/few_steps.py " + " ".join(f"--{k} {v}" for k, v in vars(a).items())
    result = {"command": command, "torch": torch.__version__, "machine": platform.machine(),
              "oracle": on_oracle(a.draws), "start": starts(dbae, diffae),
              "digits": on_digits(dbae, a.samples)}  # fmt: skip
    (ROOT / "docs" / "results" / "few-steps.json").write_text(json.dumps(short(result), indent=1) + "\n")
    print(json.dumps(short(result), indent=1))


if __name__ == "__main__": main()
