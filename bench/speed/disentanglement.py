"""Seconds of the default disentanglement report, and of its parts; writes bench/speed/disentanglement.json.

    python -m bench.speed.disentanglement [--n 10000] [--axes 10] [--factors 5] [--threads 2]

A randomly rotated code of independent factors and noise axes, once with continuous and once with ten-valued factors.
CPU seconds are what to quote: on a shared machine the wall clock also counts waiting.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import sklearn
import torch

from bench.stored import stamp
from scoreae.measures import disentanglement as dis


def timed(fn: Callable) -> dict[str, float]:
    "Wall and CPU seconds of one call."
    wall, cpu = time.perf_counter(), time.process_time()
    fn()
    return {"wall": round(time.perf_counter() - wall, 2), "cpu": round(time.process_time() - cpu, 2)}


def problem(kind: str, n: int, axes: int, factors: int) -> tuple[np.ndarray, np.ndarray]:
    "Codes (n, axes) and factors (n, factors)."
    r = np.random.default_rng(0)
    v = r.uniform(-1, 1, (n, factors)) if kind == "continuous" else r.integers(0, 10, (n, factors)).astype(float)
    padded = np.c_[v, r.normal(size=(n, axes - factors))]
    return padded @ np.linalg.qr(r.normal(size=(axes, axes)))[0], v


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, value in [("n", 10_000), ("axes", 10), ("factors", 5), ("threads", 2)]:
        p.add_argument(f"--{name}", type=int, default=value)
    p.add_argument("--out", default=str(Path(__file__).with_name("disentanglement.json")))
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    small = problem("discrete", 200, 3, 2)
    dis.report(*small, discrete=[True, False])  # imports
    seconds = {}
    for kind in ("continuous", "discrete"):
        z, v = problem(kind, a.n, a.axes, a.factors)
        calls = {
            "report": lambda z=z, v=v: dis.report(z, v), "mig": lambda z=z, v=v: dis.mig(z, v),
            "modularity": lambda z=z, v=v: dis.modularity(z, v), "sap": lambda z=z, v=v: dis.sap(z, v),
            "dci": lambda z=z, v=v: dis.dci(z, v), "infomec": lambda z=z, v=v: dis.infomec(z, v),
            "factor_vae": lambda z=z, v=v: dis.factor_vae(z, dis.group_sampler(z, v), v.shape[1]),
        }
        seconds[kind] = {name: timed(call) for name, call in calls.items()}
    result = {
        "made": stamp(),
        "command": "python -m bench.speed.disentanglement"
        + "".join(f" --{k} {getattr(a, k)}" for k in ("n", "axes", "factors", "threads")),
        "device": platform.machine(), "torch": torch.__version__, "scikit-learn": sklearn.__version__,
        "seconds (parts on all rows)": seconds,
    }
    Path(a.out).write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__": main()
