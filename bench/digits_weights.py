"""Train the small models that pages show on the digits, and save them under weights/.

    python bench/digits_weights.py [--steps 3000] [--width 16] [--z-dim 12] [--threads 1]

A deterministic DBAE with a diffusion prior on its codes, and a DiffAE with DBAE's weighting: the same encoder, steps
and seed. `metrics.json` beside the weights has the command and errors on the test images.
"""

import argparse
import json
from pathlib import Path

import torch

import scoreae as sa
from scoreae.core import sqnorm

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, value in [("steps", 3000), ("width", 16), ("z-dim", 12), ("threads", 1)]:
        p.add_argument(f"--{name}", type=int, default=value)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    train, test = sa.data.digits("train"), sa.data.digits("test")
    command = "python bench/digits_weights.py " + " ".join(f"--{k.replace('_', '-')} {v}" for k, v in vars(a).items())
    for name, kind, kw in [("digits-dbae", sa.DBAE, {}), ("digits-diffae", sa.DiffAE, {"weighting": "dbae"})]:
        torch.manual_seed(0)
        model = kind((1, 8, 8), a.z_dim, width=a.width, encoder_width=a.width, gamma_max=None, **kw)
        done = sa.fit(model, train, steps=a.steps, lr=2e-3, progress=False, device="cpu")
        gain = max(h["gain"] for h in sa.fit_latent(model, train, 1500, width=96).history)
        error = lambda mode, n, m=model: sqnorm(m.reconstruct(test, mode, n) - test).mean().item() / 64 / 4
        metrics = {"command": command, "steps": done.steps, "torch": torch.__version__, "threads": a.threads,
                   "mean squared error of points, [0, 1]": round(error("point", 10), 5),
                   "mean squared error of samples, [0, 1]": round(error("sample", 25), 5),
                   "gain of the diffusion prior on held-out codes (nats)": round(gain, 3)}  # fmt: skip
        model.save(WEIGHTS / name)
        (WEIGHTS / name / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
        print(name, json.dumps(metrics), f"{done.seconds:.0f} s", flush=True)


if __name__ == "__main__": main()
