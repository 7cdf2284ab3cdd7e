"""What guidance costs: training steps of SAMI against a plain step of its denoiser, and other ways to its gradient.

    python -m bench.speed.guidance [--size 8] [--width 32] [--batch 64] [--rounds 15] [--threads 2]

Ratios are of CPU or GPU time in interleaved rounds (medians). Writes bench/speed/guidance.json.
"""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import torch

import scoreae as sa
from bench.speed.steps import PlainDenoiser, step
from bench.stored import stamp
from scoreae.core.checks import randn_like, rng, sqnorm


class ForwardOverReverse(sa.SAMI):
    """The same gradient by a directional derivative: d||r - c G||^2 = -2 (r - c G) c dG.

    So it is enough to differentiate v . grad log q for the constant v = -2 c (r - c G): a forward-mode product, and one
    backward pass through it.
    """

    def loss(self, x, g):
        mean, std = self.codes(x)
        z = mean + std * randn_like(mean, g)
        t, w = self.draw_times(len(x), g)
        eps = randn_like(x, g)
        D = self.denoiser(z)
        free = self.base().residual(x, eps, t)
        x_t, c = self.path.mix(x, eps, t), self.path.coefs(t).c.to(x).reshape(-1, 1, 1, 1)
        with torch.no_grad(): G = self.denoiser(z.detach()).guidance(x_t, t)
        v = (-c * w.to(x).reshape(-1, 1, 1, 1) * (free.detach() - c * G)) / len(x)
        _, product = torch.func.jvp(lambda y: D.log_q(y, t), (x_t,), (v,))
        error = w.to(x) / 2 * sqnorm(free - c * G)
        return error.mean() + product.sum() - product.sum().detach(), {}


class Compiled(sa.SAMI):
    """The denoiser compiled, and the guidance too.

    A compiled encoder cannot be differentiated twice (torch 2.15), but its gradient can be compiled as one function,
    which is then differentiated once.
    """

    def __init__(self, *args, **kw):
        super().__init__(*args, **kw)
        self.net.forward = torch.compile(self.net.forward)
        log_q = lambda x, z: torch.distributions.Normal(*self.codes(x), validate_args=False).log_prob(z).sum()
        self.gradient = torch.compile(torch.func.grad(log_q))

    def denoiser(self, z, xT=None):
        D = super().denoiser(z)
        D.guidance = lambda x_t, t: self.gradient(x_t, z)
        return D


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, value in [("size", 8), ("channels", 1), ("width", 32), ("batch", 64), ("rounds", 15), ("threads", 2)]:
        p.add_argument(f"--{name}", type=int, default=value)
    p.add_argument("--out", default=str(Path(__file__).with_suffix(".json")))
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    shape, w = (a.channels, a.size, a.size), a.width
    given = sa.SAMI(shape, 8, width=w).base()
    models = {
        "denoiser alone": PlainDenoiser(shape, w),
        "joint, encoder of a quarter width": sa.SAMI(shape, 8, width=w, encoder_width=w // 4),
        "joint, encoder of half width (default)": sa.SAMI(shape, 8, width=w),
        "joint, encoder of full width": sa.SAMI(shape, 8, width=w, encoder_width=w),
        "pinned, half width": sa.SAMI(shape, 8, width=w, regime="pinned"),
        "frozen, half width": sa.SAMI(shape, 8, width=w, denoiser=given, regime="frozen"),
        "joint, half width, forward over reverse": ForwardOverReverse(shape, 8, width=w),
        "denoiser alone, compiled": PlainDenoiser(shape, w),
        "joint, half width, compiled": Compiled(shape, 8, width=w),
    }
    models["denoiser alone, compiled"].net.forward = torch.compile(models["denoiser alone, compiled"].net.forward)
    models = {k: m.to(device).train() for k, m in models.items()}
    opts = {k: torch.optim.AdamW([q for q in m.parameters() if q.requires_grad]) for k, m in models.items()}
    x, g = torch.rand(a.batch, *shape, device=device) * 2 - 1, rng(0, device)
    clock = time.perf_counter if x.is_cuda else time.process_time
    rounds = [{k: step(m, opts[k], x, g, clock) for k, m in models.items()} for _ in range(a.rounds + 2)][2:]
    base = "denoiser alone"
    result = {
        "made": stamp(),
        "command": "python -m bench.speed.guidance " + " ".join(f"--{k} {v}" for k, v in vars(a).items() if k != "out"),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.machine(),
        "torch": torch.__version__,
        "ratio to the denoiser alone (median of rounds)": {
            k: round(statistics.median(r[k] / r[base] for r in rounds), 2) for k in models
        },
    }
    Path(a.out).write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__": main()
