"""A DDPM trained by diffusers itself on 8x8 digits, saved, loaded, frozen; codes extracted in a tenth of its steps.

    python -m bench.claims.frozen [--steps 2000] [--share 0.1] [--z-dim 8] [--seed 0]

Writes bench/claims/frozen.json: probe accuracy (linear, held-out images) of the codes, a random encoder's and PCA's.
"""

import argparse
import json
import math
import platform
import tempfile
import time
from pathlib import Path

import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from torch.nn.functional import mse_loss

import scoreae as sa
from bench.stored import stamp, wall
from scoreae.core.checks import rng
from scoreae.measures.evaluation import probe
from scoreae.use.guidance import watch

SETTINGS = {
    "noise-blind": {},
    "told, begun at random": {"time_conditioned": True, "begin": "random"},
    "told, begun linear": {"time_conditioned": True},
    "told, begun linear, untrained": {"time_conditioned": True},
    "told, begun linear, high noise, β = 0.03": {"time_conditioned": True, "noise": "high", "kl_weight": 0.03},
}


def train_ddpm(x, steps, seed, folder):
    "Ordinary diffusers training, and a saved pipeline; CPU seconds."
    torch.manual_seed(seed)
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2, "norm_num_groups": 8}
    unet = UNet2DModel(sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(16, 32),
                       **blocks)  # fmt: skip
    scheduler, g, begin = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2"), rng(seed), time.process_time()
    opt = torch.optim.AdamW(unet.parameters(), lr=2e-3)
    for step in range(steps):
        opt.param_groups[0]["lr"] = 2e-3 * (1 + math.cos(math.pi * step / steps)) / 2
        batch, t = x[torch.randint(len(x), (64,), generator=g)], torch.randint(1000, (64,), generator=g)
        eps = torch.randn(batch.shape, generator=g)
        loss = mse_loss(unet(scheduler.add_noise(batch, eps, t), t).sample, eps)
        opt.zero_grad()
        loss.backward()
        opt.step()
    DDPMPipeline(unet.eval(), scheduler).save_pretrained(folder)
    return time.process_time() - begin


def parted(begin, *fits):
    "The wall time since `begin`: trainings, and the rest."
    return wall(*fits, evaluation=time.perf_counter() - begin - sum(sum(f.wall.values()) for f in fits))


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--steps", type=int, default=2000)
    p.add_argument("--share", type=float, default=0.1)
    p.add_argument("--z-dim", type=int, default=8)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--out", default=str(Path(__file__).with_suffix(".json")))
    a = p.parse_args()
    splits = {k: sa.data.digits(k, labels=True) for k in ("train", "val", "test")}
    x, rows = splits["train"][0], []

    def row(name, model, steps, seconds, begin, *fits):
        codes = [(model.encode(images), labels) for images, labels in splits.values()]
        found = probe(*codes)["accuracy (%)"]
        rows.append({"code": name, "accuracy (%)": round(found.mean, 1), "stderr": round(found.stderr, 1),
                     "steps": steps, "CPU seconds": round(seconds, 1), "wall": parted(begin, *fits)})  # fmt: skip
        print(rows[-1], flush=True)

    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        seconds = train_ddpm(x, a.steps, a.seed, folder)
        ddpm = {"CPU seconds": round(seconds, 1), "wall": wall(training=time.perf_counter() - begin)}
        print(f"DDPM: {seconds:.0f} CPU seconds", flush=True)
        given = sa.from_diffusers(folder)
    gains = {}
    for name, kw in SETTINGS.items():
        torch.manual_seed(a.seed)
        model = sa.SAMI((1, 8, 8), a.z_dim, denoiser=given, regime="frozen", encoder_width=16, **kw)
        steps, fits = 0 if "untrained" in name else round(a.share * a.steps), []
        begin, cpu, how = time.perf_counter(), time.process_time(), {"batch_size": 128, "lr": 4e-3, "ema": 0.97}
        if not steps: model.eval().prepare(x)
        else: fits.append(sa.fit(model, x, steps=steps, **how, seed=a.seed, progress=False))
        cpu = time.process_time() - cpu
        found = watch(model, splits["test"][0], n=12)
        gains[name] = {k: [round(v, 3) for v in found[k].tolist()] for k in ("u", "gain", "energy")}
        row(f"SAMI, {name}", model, steps, cpu, begin, *fits)
    for name, kind in {"random encoder": sa.RandomEncoder, "PCA": sa.PCA}.items():
        torch.manual_seed(a.seed)
        model, begin = kind((1, 8, 8), a.z_dim), time.perf_counter()
        row(name, model, 0, 0.0, begin, sa.fit(model, x, steps=1, progress=False))
    result = {
        "command": f"python -m bench.claims.frozen --steps {a.steps} --share {a.share} --z-dim {a.z_dim} "
                   f"--seed {a.seed}",
        "made": stamp(),
        "device": platform.machine(), "torch": torch.__version__, "threads": torch.get_num_threads(),
        "DDPM": {"steps": a.steps, "batch": 64, **ddpm}, "rows": rows, "gain by level": gains,
    }  # fmt: skip
    Path(a.out).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__": main()
