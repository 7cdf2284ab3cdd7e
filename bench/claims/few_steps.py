"""Quality against evaluations of the denoiser, on an oracle and on trained digits; writes docs/results/few-steps.json.

    python -m bench.claims.few_steps [--draws 10000] [--seeds 10] [--samples 500] [--threads 1]

The released integrators (Euler, Heun with churn, on Karras's grid) against the update of `samplers`; and the seconds to
get the start of a walk: DBAE's endpoint, feed-forward, against inversion of DiffAE's ODE (weights/, the same U-Net).
Samples are drawn with `seeds` seeds on the oracle and with two on the digits: curves are means, "+-" their standard
errors. "bias" is the distance of the average over seeds of the sorted draws: of `seeds` times as many draws.
"""

import argparse
import json
import platform
import statistics
import time

import torch

import scoreae as sa
from bench.stored import RESULTS, ROOT, stamp, wall
from scoreae.core.checks import sqnorm
from scoreae.foundations import samplers
from scoreae.foundations.worlds import Mixture, denoiser
from scoreae.measures.distributions import clf_features, fit_classifier, frechet
from scoreae.use.edits import invert, walk

POINTS, SAMPLES = (1, 2, 3, 5, 7, 10, 15, 25), (2, 3, 5, 7, 10, 15, 25, 50)
EULER, CHURN = (5, 10, 20, 50, 100), (2, 7, 33, 167)


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


def curves(name, settings, call, score, seeds, pool=True):
    "Mean score, its standard error and, of draws on the line, the score of the averaged quantiles: {n: setting}."
    found = {n: [call(arg, s) for s in range(seeds)] for n, arg in settings.items()}
    scores = {n: [score(x) for x in v] for n, v in found.items()}
    rows = {name: {n: statistics.mean(v) for n, v in scores.items()},
            f"{name} +-": {n: statistics.stdev(v) / len(v) ** 0.5 for n, v in scores.items()}}  # fmt: skip
    average = lambda v: torch.stack([x.sort(0).values for x in v]).mean(0)
    return rows | ({f"{name}, bias": {n: score(average(v)) for n, v in found.items()}} if pool else {})


def on_oracle(draws, seeds):
    "A mixture of two narrow humps given x_T: the point's distance from the median, and of samples from the mixture."
    f64 = lambda *v: torch.tensor(v, dtype=torch.float64)
    data = Mixture(f64(0.7, 0.3), f64(-0.5, 0.6)[:, None], f64(0.1**2, 0.15**2)[:, None, None])
    path, xT = sa.Pinned(sa.VPLinear(0.1, 2.0)), torch.full((draws, 1), 0.7, dtype=torch.float64)
    at = torch.linspace(-1, 1, 200_001, dtype=torch.float64)
    cdf = (torch.special.ndtr((at[:, None] - data.means[:, 0]) / data.covs[:, 0, 0].sqrt()) * data.weights).sum(1)
    median, one = at[torch.searchsorted(cdf, 0.5)], xT[:1]
    D, D1 = denoiser(data, path, xT), denoiser(data, path, one)
    off = lambda x: (x - median).abs().item()
    ours = lambda n, seed, **kw: samplers.sample(D, path, xT, n, xT=xT, seed=seed, **kw)
    m, second = data.means[:, 0], data.covs[:, 0, 0] + data.means[:, 0] ** 2
    spread = float(data.weights @ second - (data.weights @ m) ** 2) ** 0.5
    churn = lambda n, seed: released(D, path, xT, n, "heun", 0.33, seed)
    same, score = {n: n for n in SAMPLES}, lambda x: distance(x, data)
    return {
        "point, ours": {n: off(samplers.sample(D1, path, one, n, xT=one, mode="point")) for n in POINTS},
        "point, Euler": {n: off(released(D1, path, one, n, "euler", 0.0)) for n in EULER},
        **curves("samples, ours", same, ours, score, seeds),
        **curves("samples, ours, scale of the law", same, lambda n, s: ours(n, s, scale=spread), score, seeds),
        **curves("samples, ours, order 1", same, lambda n, s: ours(n, s, order=1), score, seeds),
        **curves("samples, ancestral", same, lambda n, s: ours(n, s, order=1, eta=1.0), score, seeds),
        **curves("samples, Heun with churn", {3 * n - 1: n for n in CHURN}, churn, score, seeds),
        **curves("samples, exact draws", {1: 1}, lambda n, s: data.sample(draws, seed=s + 1), score, seeds),
    }


def on_digits(model, samples, seeds=2):
    "Errors of points on [0, 1], and the Frechet distance of samples from the prior in a classifier's features."
    train, (x, _) = sa.data.digits("train", labels=True), sa.data.digits("test", labels=True)
    judge = fit_classifier(*train, seed=0)
    real, z = clf_features(judge, x), model.encode(x)
    codes = [model.prior.sample(samples, seed=s) for s in range(seeds)]
    mse = lambda y: sqnorm(y.clamp(-1, 1) - x).mean().item() / 64 / 4
    fd = lambda y: float(frechet(real, clf_features(judge, y.clamp(-1, 1))))

    def old(z, n, method, churn, seed=0):
        xT = model.endpoint(z)
        return released(model.denoiser(z, xT), model.path, xT, n, method, churn, seed, clip=1.0)

    ours = lambda n, s, **kw: model.decode(codes[s], "sample", n, seed=s, **kw)
    same = {n: n for n in SAMPLES}

    with torch.no_grad():
        return {
            "point, ours": {n: mse(model.decode(z, "point", n)) for n in POINTS},
            "point, Euler": {n: mse(old(z, n, "euler", 0.0)) for n in EULER},
            **curves("samples, ours", same, ours, fd, seeds, False),
            **curves("samples, ours, order 1", same, lambda n, s: ours(n, s, order=1), fd, seeds, False),
            **curves("samples, Heun with churn", {3 * n - 1: n for n in CHURN},
                     lambda n, s: old(codes[s], n, "heun", 0.33, s), fd, seeds, False),
            "samples, real images": fd(train[0]),
        }  # fmt: skip


def starts(dbae, diffae, rounds=5):
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
    for name, value in [("draws", 10_000), ("seeds", 10), ("samples", 500), ("threads", 1)]:
        p.add_argument(f"--{name}", type=int, default=value)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    dbae, diffae = (sa.load(ROOT / "weights" / name) for name in ("digits-dbae", "digits-diffae"))
    command = "python -m bench.claims.few_steps " + " ".join(f"--{k} {v}" for k, v in vars(a).items())
    result = {"command": command, "made": stamp(), "torch": torch.__version__, "machine": platform.machine()}
    parts, seconds = {"oracle": lambda: on_oracle(a.draws, a.seeds), "start": lambda: starts(dbae, diffae),
                      "digits": lambda: on_digits(dbae, a.samples)}, {}  # fmt: skip
    for name, call in parts.items():
        begin = time.perf_counter()
        result[name] = call()
        seconds[name] = time.perf_counter() - begin
    result["wall"] = wall(**seconds)
    (RESULTS / "few-steps.json").write_text(json.dumps(short(result), indent=1) + "\n")
    print(json.dumps(short(result), indent=1))


if __name__ == "__main__": main()
