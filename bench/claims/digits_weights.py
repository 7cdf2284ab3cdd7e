"""Train the small models that pages show, on digits, Fashion-MNIST or photographs, and save them under weights/.

    python -m bench.claims.digits_weights [--steps 3000] [--width 16] [--z-dim 12] [--threads 1]
    python -m bench.claims.digits_weights --data fashion_mnist --root FOLDER --steps 1500 --batch 32 --width 12 \
        --z-dim 16
    python -m bench.claims.digits_weights --data photographs --root photos32.npz --steps 250 --batch 32 --z-dim 128 \
        --threads 2 --models dbae

A deterministic DBAE, a DiffAE with DBAE's weighting, and for the digits a SAMI that is told the level and an
autoencoder, all with a diffusion prior on their codes: the same encoder, steps and seed. `metrics.json` beside the
weights has the command and errors on the test images. `--models` asks for some of the four. Fashion-MNIST is a subset
of 6000 training images, averaged down to 14 pixels a side, unless --train and --size say otherwise.
`photos32.npz` is that of bench.claims.begin_gaussian.
"""

import argparse
import json
import time

import torch

import scoreae as sa
from bench.claims.begin_gaussian import photographs
from bench.stored import ROOT, stamp, wall
from scoreae.commands.contest import Contest, images_of
from scoreae.core.checks import sqnorm

WEIGHTS = ROOT / "weights"
MODELS = {
    "dbae": (sa.DBAE, {"gamma_max": None}),
    "diffae": (sa.DiffAE, {"gamma_max": None, "weighting": "dbae"}),
    "sami": (sa.SAMI, {"time_conditioned": True}),
    "ae": (sa.AE, {}),
}
CLOTHES = ("dbae", "diffae")


def train(kind, kw, images, a, command):
    "A trained model with a diffusion prior, and what its `metrics.json` says."
    x, test = images
    torch.manual_seed(0)
    model = kind(tuple(x.shape[1:]), a.z_dim, width=a.width, encoder_width=a.width, **kw)
    done = sa.fit(model, x, steps=a.steps, batch_size=a.batch, lr=2e-3, progress=False, device="cpu")
    begin = time.perf_counter()
    gain = max(h["gain"] for h in sa.fit_latent(model, x, 1500, width=96).history)
    prior = time.perf_counter() - begin
    error = lambda mode, n: round(sqnorm(model.reconstruct(test, mode, n) - test).mean().item() / x[0].numel() / 4, 5)
    metrics = {"command": command, "made": stamp(), "steps": done.steps, "torch": torch.__version__,
               "threads": a.threads, "train": len(x), "test": len(test),
               "mean squared error of points, [0, 1]": error("point", 10),
               "mean squared error of samples, [0, 1]": error("sample", 25),
               "gain of the diffusion prior on held-out codes (nats)": round(gain, 3)}  # fmt: skip
    metrics["wall"] = wall(done, prior=prior, evaluation=time.perf_counter() - begin - prior)
    return model, metrics, done.seconds


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, value in [("steps", 3000), ("batch", 64), ("width", 16), ("z-dim", 12), ("threads", 1),
                        ("size", 14), ("train", 6000)]:  # of Fashion-MNIST
        p.add_argument(f"--{name}", type=int, default=value)
    p.add_argument("--data", default="digits", choices=["digits", "fashion_mnist", "photographs"])
    p.add_argument("--root")
    p.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    if a.data == "digits": images = sa.data.digits("train"), sa.data.digits("test")
    elif a.data == "photographs": images = photographs(a.root)
    else: images = [images_of(Contest(a.data, a.size, a.train, val=2, test=500), a.root)[i][0] for i in (0, 2)]
    flags = {"data": a.data, "steps": a.steps, "batch": a.batch, "width": a.width, "z-dim": a.z_dim}
    if (a.size, a.train) != (14, 6000): flags |= {"size": a.size, "train": a.train}
    command = "python -m bench.claims.digits_weights " + " ".join(f"--{k} {v}" for k, v in flags.items())
    for name in (m for m in (MODELS if a.data == "digits" else CLOTHES) if m in a.models):
        kind, kw = MODELS[name]
        folder = WEIGHTS / f"{a.data.split('_')[0]}{a.size if a.size != 14 else ''}-{name}"
        file = folder / "metrics.json"
        if file.exists() and json.loads(file.read_text())["command"] == command: continue
        model, metrics, seconds = train(kind, kw, images, a, command)
        model.save(folder)
        file.write_text(json.dumps(metrics, indent=1) + "\n")
        print(folder.name, json.dumps(metrics), f"{seconds:.0f} s", flush=True)


if __name__ == "__main__": main()
