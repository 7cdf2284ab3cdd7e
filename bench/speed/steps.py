"""Seconds per training step of every model, and of its parts, in one interleaved run; writes bench/speed/steps.json.

    python -m bench.speed.steps [--size 8] [--channels 1] [--width 32] [--batch 64] [--rounds 30] [--threads 2]

The figures to quote are ratios to the plain denoiser's step: they hold when the machine's speed drifts.
"""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import torch

import scoreae as sa
from bench.stored import stamp
from scoreae.core.checks import randn_like, rng, sqnorm
from scoreae.foundations.scores import Denoiser
from scoreae.models.networks import UNet


class PlainDenoiser(torch.nn.Module):
    "Denoising score matching alone: the yardstick."

    def __init__(self, shape, width):
        super().__init__()
        self.path, self.net = sa.VPCosine(), UNet(shape, width)

    def loss(self, x, g):
        t = torch.rand(len(x), generator=g, device=g.device).double().cpu() * 0.98 + 0.01
        return sqnorm(Denoiser(self.path, self.net).residual(x, randn_like(x, g), t)).mean(), {}


def contenders(shape, width):
    "The models, by name, at one width; encoders at half of it."
    return {
        "denoiser alone": PlainDenoiser(shape, width),
        "SAMI joint": sa.SAMI(shape, 8, width=width),
        "SAMI pinned": sa.SAMI(shape, 8, width=width, regime="pinned"),
        "DBAE": sa.DBAE(shape, 8, width=width),
        "AE": sa.AE(shape, 8, width=width),
    }


def step(model, opt, x, g, clock=time.perf_counter):
    "Seconds of a training step, by `clock`."
    begin = clock()
    loss, _ = model.loss(x, g)
    opt.zero_grad(set_to_none=True)
    loss.backward()
    opt.step()
    if x.is_cuda: torch.cuda.synchronize()
    return clock() - begin


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, value in [("size", 8), ("channels", 1), ("width", 32), ("batch", 64), ("rounds", 30), ("threads", 2)]:
        p.add_argument(f"--{name}", type=int, default=value)
    p.add_argument("--out", default=str(Path(__file__).with_name("steps.json")))
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    shape = (a.channels, a.size, a.size)
    models = {k: m.to(device).train() for k, m in contenders(shape, a.width).items()}
    opts = {k: torch.optim.AdamW(m.parameters(), fused=True) for k, m in models.items()}
    x, g = torch.rand(a.batch, *shape, device=device) * 2 - 1, rng(0, device)
    rounds = [{k: step(m, opts[k], x, g) for k, m in models.items()} for _ in range(a.rounds + 3)][3:]
    base = "denoiser alone"
    result = {
        "made": stamp(),
        "command": "python -m bench.speed.steps " + " ".join(f"--{k} {v}" for k, v in vars(a).items() if k != "out"),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.machine(),
        "torch": torch.__version__,
        "milliseconds per step (median)": {k: round(1e3 * statistics.median(r[k] for r in rounds), 2) for k in models},
        "ratio to the denoiser alone (median of rounds)": {
            k: round(statistics.median(r[k] / r[base] for r in rounds), 2) for k in models
        },
        "parameters": {k: sum(q.numel() for q in m.parameters()) for k, m in models.items()},
    }
    Path(a.out).write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__": main()
