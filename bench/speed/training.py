"""Images per second and peak memory of training: ours, beside diffusers' UNet2DModel with as many parameters.

    python -m bench.speed.training [--size 32] [--batch 16] [--width 32] [--rounds 6] [--threads 1]

One step of each in turn, so that a drift of the machine's speed meets all alike; the figures to quote are ratios, by
CPU time. Each step is a whole one: noise, loss, gradient, clipping, AdamW (fused), average of the weights. Ours are
steps of `fit`; theirs is the loop of diffusers' example of unconditional training. Widths are chosen so that all have
about as many parameters as our U-Net of `--width`. Peak memory is of a process of its own for each. Writes
bench/speed/training.json.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

import scoreae as sa
from bench.stored import ROOT, stamp
from scoreae.foundations.scores import Denoiser
from scoreae.images.feeding import Feed
from scoreae.models.networks import UNet
from scoreae.use.training import _Processes, _Run

CUDA = torch.cuda.is_available()


class Plain(sa.Autoencoder):
    "Our denoiser alone, as a model that encodes nothing."

    def __init__(self, shape, z_dim=1, *, width=32):
        super().__init__(shape, z_dim, sa.VPCosine(), weighting="simple")
        self.net = UNet(shape, width)

    def codes(self, x): return x.new_zeros(len(x), 1), None
    def denoiser(self, z, xT=None): return Denoiser(self.path, self.net, "edm", self.stats, span=self.span)


class Ours:
    "A model of ours, and a step of `fit`."

    def __init__(self, model, x, batch):
        record = {"batch_size": batch, "shards": 1, "ema": 0.999, "lr": 1e-3, "clip": 1.0, "warmup": 0.05, "seed": 0}
        device = torch.device("cuda" if CUDA else "cpu")
        self.model = model.to(device)
        self.run = _Run(model, Feed(x, model.shape).to(device), _Processes(device), record | {"log_every": 20})

    def step(self): self.run.step(next(self.run.order), 0.5)


class Theirs:
    "A network of diffusers, and a step of its example."

    def __init__(self, model, x, batch):
        from diffusers import DDPMScheduler
        from diffusers.training_utils import EMAModel

        device = torch.device("cuda" if CUDA else "cpu")
        self.model, self.x, self.batch = model.to(device).train(), x.to(device), batch
        self.noise, self.ema = DDPMScheduler(1000), EMAModel(model.parameters(), decay=0.999)
        self.opt = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def step(self):
        x = self.x[torch.randint(len(self.x), (self.batch,))]
        eps, t = torch.randn_like(x), torch.randint(1000, (len(x),), device=x.device)
        loss = torch.nn.functional.mse_loss(self.model(self.noise.add_noise(x, eps, t), t).sample, eps)
        self.opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.opt.step()
        self.ema.step(self.model.parameters())
        float(loss.detach())


def diffusers_unet(size, width, attention):
    "A UNet2DModel of three resolutions with one layer per block, as our U-Net; attention at the lowest, or none."
    from diffusers import UNet2DModel

    down, up = ["DownBlock2D"] * 3, ["UpBlock2D"] * 3
    if attention: down[-1], up[0] = "AttnDownBlock2D", "AttnUpBlock2D"
    widths = (width, 2 * width, 4 * width)
    return UNet2DModel(sample_size=size, in_channels=3, out_channels=3, layers_per_block=1, block_out_channels=widths,
                       down_block_types=down, up_block_types=up, norm_num_groups=8, add_attention=attention,
                       attention_head_dim=8)  # fmt: skip


def kinds(size: int) -> dict:
    "How to make each contender of a width."
    shape = (3, size, size)
    return {
        "our denoiser": lambda w: Plain(shape, width=w),
        "SAMI": lambda w: sa.make("SAMI", shape, 32, width=w),
        "DBAE": lambda w: sa.make("DBAE", shape, 32, width=w),
        "UNet2DModel": lambda w: diffusers_unet(size, w, False),
        "UNet2DModel, attention": lambda w: diffusers_unet(size, w, True),
    }


def count(model) -> int: return sum(p.numel() for p in model.parameters())


def contender(name: str, a) -> Ours | Theirs:
    "A contender with about as many parameters as our denoiser of `--width`."
    make, torch_state = kinds(a.size)[name], torch.get_rng_state()
    want = count(kinds(a.size)["our denoiser"](a.width))
    widths = range(8, 2 * a.width + 1, 8 if "UNet2D" in name else 2)
    width = min(widths, key=lambda w: abs(count(make(w)) - want))
    torch.set_rng_state(torch_state)
    x = sa.data.patches(size=a.size, limit=256)
    return (Theirs if "UNet2D" in name else Ours)(make(width), x, a.batch)


def timed(c) -> float:
    "Seconds of a step: of this process's CPU time, or by the clock with an accelerator."
    clock = time.perf_counter if CUDA else time.process_time
    begin = clock()
    c.step()
    if CUDA: torch.cuda.synchronize()
    return clock() - begin


def peak(name: str, a) -> None:
    "Print by how many megabytes three steps raise the peak memory of this process."
    c, proc = contender(name, a), Path("/proc/self")
    status = lambda: dict(v.split(":", 1) for v in (proc / "status").read_text().splitlines())
    if not CUDA: (proc / "clear_refs").write_text("5")  # Linux: the peak begins anew
    start = 0 if CUDA else int(status()["VmHWM"].split()[0])
    for _ in range(3): c.step()
    print(torch.cuda.max_memory_allocated() / 2**20 if CUDA else (int(status()["VmHWM"].split()[0]) - start) / 1024)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, value in [("size", 32), ("batch", 16), ("width", 32), ("rounds", 6), ("threads", 1)]:
        p.add_argument(f"--{name}", type=int, default=value)
    p.add_argument("--peak", help="measure the memory of this contender alone, and print it")
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    if a.peak: return peak(a.peak, a)
    words = [f"--{k}={getattr(a, k)}" for k in ("size", "batch", "width", "rounds", "threads")]
    racers = {name: contender(name, a) for name in kinds(a.size)}
    rounds = [{k: timed(c) for k, c in racers.items()} for _ in range(a.rounds + 1)][1:]
    memory = {}
    for name in racers:
        line = [sys.executable, "-m", "bench.speed.training", *words, "--peak", name]
        done = subprocess.run(line, capture_output=True, text=True, check=True, cwd=ROOT)
        memory[name] = round(float(done.stdout.split()[-1]))
    median = {k: statistics.median(r[k] for r in rounds) for k in racers}
    base = {k: [r["UNet2DModel"] / r[k] for r in rounds] for k in racers}
    attention = {k: [r["UNet2DModel, attention"] / r[k] for r in rounds] for k in racers}
    middle = lambda rows: {k: [round(f(v), 2) for f in (statistics.median, min, max)] for k, v in rows.items()}
    result = {
        "made": stamp(),
        "command": "python -m bench.speed.training " + " ".join(words), "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if CUDA else platform.machine(),
        "parameters": {k: count(c.model) for k, c in racers.items()},
        "images per second": {k: round(a.batch / v, 1) for k, v in median.items()},
        "peak memory of steps (MB)": memory,
        "times faster than UNet2DModel (median, least, most)": middle(base),
        "times faster than UNet2DModel with attention (median, least, most)": middle(attention),
    }  # fmt: skip
    Path(__file__).with_name("training.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__": main()
