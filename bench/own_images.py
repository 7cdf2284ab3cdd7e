"""From a folder to the slider, by the commands alone: SAMI and DBAE, killed, resumed and used; writes numbers, pictures.

    python bench/own_images.py [--steps 1000] [--out runs/own] [--models sami dbae]

Makes a folder of mixed PNG and JPEG files of several sizes (patches of the two photographs that scikit-learn brings),
trains each model on it by `scoreae train`, kills the process once and resumes, and calls every other command on what is
left. A model that is trained is not trained again, so the script can be stopped and started at any time.
"""

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import scoreae as sa

ROOT = Path(__file__).resolve().parent.parent
ENV = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def mixed_folder(folder: Path, split: str, n: int) -> None:
    "`n` patches of 48 pixels, most of them cut smaller, as PNG and JPEG, a few in a subfolder, one in grey, and a note."
    if folder.exists(): return
    (folder / "more").mkdir(parents=True)
    for i, image in enumerate(sa.data.to_uint8(sa.data.patches(split, size=48, limit=n))):
        a = image.permute(1, 2, 0).numpy()[: 48 - i % 9, : 48 - i % 5]
        file = folder / ("more" if i % 4 == 0 else "") / f"{i:04d}.{'jpg' if i % 3 else 'png'}"
        Image.fromarray(a[..., 0] if i == 7 else a).save(file, **({"quality": 92} if i % 3 else {}))
    (folder / "read me.txt").write_text("holiday")


def warmth(x: torch.Tensor) -> torch.Tensor:
    "How much redder than blue images (..., 3, H, W) in [-1, 1] are, on the scale of 255 levels."
    return 127.5 * (x[..., 0, :, :] - x[..., 2, :, :]).mean((-2, -1))


def write_labels(folder: Path, file: Path) -> None:
    "A table of files and their warmth, as somebody would have it."
    if file.exists(): return
    rows = [("file", "warmth")]
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".png", ".jpg")):
        rows.append((path.relative_to(folder), f"{float(warmth(sa.data.load(path, 32, 3))[0]):.2f}"))
    with file.open("w", newline="") as f: csv.writer(f).writerows(rows)


def call(*words) -> float:
    "Run `scoreae` with these words, to the end; seconds."
    begin = time.perf_counter()
    print("scoreae", *words, flush=True)
    done = subprocess.run([sys.executable, "-m", "scoreae.cli", *map(str, words)], env=ENV, capture_output=True, text=True)
    print(done.stdout[-400:], flush=True)
    if done.returncode: raise SystemExit(f"exit {done.returncode}: {done.stderr[-2000:]}")
    return round(time.perf_counter() - begin, 1)


def trained(out: Path) -> bool:
    return (out / "config.json").exists() and sa.load(out).trained.get("ended") == "budget"


def train(photos: Path, out: Path, model: str, steps: int) -> None:
    "Train by the command; kill it as soon as it has saved a state, and resume."
    if trained(out): return
    words = ["train", photos, "--model", model, "--z-dim", 32, "--width", 16, "--steps", steps, "--batch-size", 32]
    words += ["--lr", 0.002, "--out", out, "--no-progress"]
    if not list(out.glob("state-*")):
        line = [sys.executable, "-m", "scoreae.cli", *map(str, words)]
        with subprocess.Popen(line, env=ENV) as process:
            while process.poll() is None and not list(out.glob("state-*")): time.sleep(0.1)
            time.sleep(2)
            process.send_signal(signal.SIGKILL)
            print(f"killed: exit {process.wait()}", flush=True)
    call("train", "--out", out, "--resume", "--no-progress")


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--steps", type=int, default=1000)
    p.add_argument("--out", type=Path, default=Path("runs/own"))
    p.add_argument("--models", nargs="+", default=["sami", "dbae"])
    p.add_argument("--files", type=int, default=3000)
    a = p.parse_args()
    mixed_folder(a.out / "photos", "train", a.files)
    mixed_folder(a.out / "unseen", "test", 120)
    write_labels(a.out / "photos", a.out / "labels.csv")
    for model in a.models: train(a.out / "photos", a.out / model, model, a.steps)


if __name__ == "__main__": main()
