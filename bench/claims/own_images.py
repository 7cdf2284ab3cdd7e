"""From a folder to the slider, by the commands alone: models that are trained, killed, resumed and used.

    python -m bench.claims.own_images [--steps 1000] [--out runs/own] [--models dbae "sami, told level"]

Makes a folder of mixed PNG and JPEG files of several sizes (patches of the two photographs that scikit-learn brings),
trains each model on it by `scoreae train`, kills the process once and resumes, and calls every other command on what is
left. What is done is not done again, so the script can be stopped and started at any time. Writes
docs/results/own-images.json, and for each model docs/results/own-MODEL.png: six rows of ten pictures. A model
may be followed by a size, as in "dbae@16", which is then given to `scoreae train`; otherwise the command chooses 32.
"""

import argparse
import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import scoreae as sa
from bench.stored import RESULTS, stamp, wall
from scoreae.commands.applying import read_labels
from scoreae.models.contract import write_atomic
from scoreae.use.edits import fit_direction
from scoreae.use.runs import read_info

ENV = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def mixed_folder(folder: Path, split: str, n: int) -> None:
    "`n` patches of up to 48 pixels as PNG and JPEG, some in a subfolder, one in grey, and a text file."
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
    "A table of five hundred files and their warmth, as somebody would have it."
    if file.exists(): return
    rows = [("file", "warmth")]
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".png", ".jpg"))[:500]:
        rows.append((path.relative_to(folder), f"{float(warmth(sa.data.load(path, 32, 3))[0]):.2f}"))
    with file.open("w", newline="") as f: csv.writer(f).writerows(rows)


def call(*words) -> float:
    "Run `scoreae` with these words, to the end; seconds."
    begin = time.perf_counter()
    print("scoreae", *words, flush=True)
    line = [sys.executable, "-m", "scoreae", *map(str, words)]
    done = subprocess.run(line, env=ENV, capture_output=True, text=True)
    print(done.stdout[-400:], flush=True)
    if done.returncode: raise SystemExit(f"exit {done.returncode}: {done.stderr[-2000:]}")
    return round(time.perf_counter() - begin, 1)


def trained(out: Path) -> bool:
    return (out / "config.json").exists() and sa.load(out).trained.get("ended") == "budget"


def train(photos: Path, out: Path, model: str, steps: int, size: str) -> None:
    "Train by the command; kill it as soon as it has saved a state, and resume."
    if trained(out): return
    words = ["train", photos, "--model", model, "--z-dim", 32, "--width", 16, "--steps", steps, "--batch-size", 32]
    words += ["--lr", 0.002, "--out", out, "--no-progress", *(("--size", size) if size else ())]
    if not list(out.glob("state-*")):
        line = [sys.executable, "-m", "scoreae", *map(str, words)]
        with subprocess.Popen(line, env=ENV) as process:
            while process.poll() is None and not list(out.glob("state-*")): time.sleep(0.1)
            time.sleep(2)
            process.send_signal(signal.SIGKILL)
            print(f"killed: exit {process.wait()}", flush=True)
    call("train", "--out", out, "--resume", "--no-progress")


AMOUNTS = (-2.0, -1.0, 0.0, 1.0, 2.0)


def error(x: torch.Tensor, y: torch.Tensor) -> list[float]:
    "Mean squared error on the [0, 1] scale, and its standard error over images."
    each = ((x - y) / 2).square().flatten(1).mean(1)
    return [round(float(each.mean()), 5), round(float(each.std() / len(each) ** 0.5), 5)]


def controls(a, size: int) -> dict:
    "What needs no network: the mean of the images that were trained on, and PCA with codes of the same size."
    x, unseen = (sa.data.load(a.out / name, size, 3, skipped=[]) for name in ("photos", "unseen"))
    pca = sa.PCA((3, size, size), 32)
    sa.fit(pca, x, progress=False)
    rows = {"mean image": x.mean(0, keepdim=True).expand_as(unseen), "PCA": pca.reconstruct(unseen)}
    return {k: {"MSE": error(unseen, y)} for k, y in rows.items()}


def use(a, run: Path, size: int) -> dict:
    "Every other command on a run; numbers, and what each took."
    out, unseen = run / "used", a.out / "unseen"
    files = sorted(p for p in unseen.rglob("*") if p.suffix in (".png", ".jpg"))
    first, second = files[1], files[5]
    amounts = ("--amounts", *AMOUNTS)
    labels = ("--labels", a.out / "labels.csv", "--examples", a.out / "photos")
    took = {
        "encode": call("encode", run, a.out / "photos", "--out", out / "codes.npy"),
        "reconstruct": call("reconstruct", run, unseen, "--out", out / "point.npy"),
        "reconstruct --mode sample": call("reconstruct", run, unseen, "--mode", "sample", "--out", out / "sample.npy"),
        "sample": call("sample", run, "--n", 10, "--out", out / "drawn.npy"),
        "interpolate": call("interpolate", run, first, second, "--n", 10, "--out", out / "line.npy"),
        "edit": call("edit", run, a.out / "few", *labels, *amounts, "--steps", 10, "--out", out / "edited.npy"),
        "evaluate": call("evaluate", run, "--limit", 100, "--steps", 10, "--out", out / "row.json"),
        "explore": call("explore", run),
    }
    x = sa.data.load(unseen, size, 3, skipped=[])
    get = lambda name: sa.data.to_float(torch.from_numpy(np.load(out / name)))
    edited, line, drawn = get("edited.npy"), get("line.npy"), get("drawn.npy")
    slopes = (warmth(edited[3]) - warmth(edited[1])) / 2
    rows = [x[:10], get("point.npy")[:10], get("sample.npy")[:10], line, torch.cat([edited[:, 0], edited[:, 1]]), drawn]
    strip = torch.cat([torch.cat([*row], 2) for row in rows], 1)
    levels = sa.data.to_uint8(strip[None])[0].permute(1, 2, 0).numpy()
    Image.fromarray(levels).save(RESULTS / f"own-{run.name}.png", optimize=True)
    wanted = fit_direction(sa.load(run), *labelled(a.out / "photos", a.out / "labels.csv", size)).weight.norm()
    return {
        "MSE point": error(x, get("point.npy")), "MSE sample": error(x, get("sample.npy")),
        "warmth per standard deviation, asked": round(float(wanted), 2),
        "got": [round(float(slopes.mean()), 2), round(float(slopes.std() / len(slopes) ** 0.5), 2)],
        "seconds": took, "evaluate": json.loads((out / "row.json").read_text())[0],
    }  # fmt: skip


def labelled(folder: Path, file: Path, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    "The images of a table of labels, and their values."
    names, y = read_labels(file)
    return torch.cat([sa.data.load(folder / name, size, 3) for name in names]), y


def losses(run: Path) -> list[dict]:
    "What a training watched, every hundred steps: for a SAMI the free and the guided error, and the rate."
    history = read_info(run)["history"][4::5]
    kept = ("step", "loss", "free", "guided", "rate", "spread")
    return [{k: round(h[k], 2) for k in kept if k in h} for h in history]


def save(result: dict) -> None:
    write_atomic(RESULTS / "own-images.json", (json.dumps(result, indent=1) + "\n").encode())


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--steps", type=int, default=1000)
    p.add_argument("--out", type=Path, default=Path("runs/own"))
    p.add_argument("--models", nargs="+", default=["dbae", "sami, told level", "sami, told level@16", "sami@16"])
    p.add_argument("--files", type=int, default=3000)
    a = p.parse_args()
    mixed_folder(a.out / "photos", "train", a.files)
    mixed_folder(a.out / "unseen", "test", 120)
    mixed_folder(a.out / "few", "test", 24)
    write_labels(a.out / "photos", a.out / "labels.csv")
    file = RESULTS / "own-images.json"
    new = {"command": "python -m bench.claims.own_images", "rows": {}}
    result = json.loads(file.read_text()) if file.exists() else new
    for model in a.models:
        (name, _, size), run = model.partition("@"), a.out / re.sub(r"[^a-z0-9]+", "-", model)
        side = int(size or 32)
        result.setdefault("controls", {})
        if str(side) not in result["controls"]: result["controls"][str(side)] = controls(a, side)
        train(a.out / "photos", run, name, a.steps, size)
        if run.name in result["rows"]: continue
        network = sa.load(run)
        done = network.trained
        known = {"model": name, "size": side, "steps": done["steps"], "images": done["images"]}
        known |= {"made": stamp(), "torch": torch.__version__}
        known |= {"seconds to train": done["seconds"], "losses": losses(run)}
        known["parameters"] = sum(p.numel() for p in network.parameters())
        begin = time.perf_counter()
        known |= use(a, run, side)
        known["wall"] = wall(training=done["seconds"], evaluation=time.perf_counter() - begin)
        result["rows"][run.name] = known
        save(result)


if __name__ == "__main__": main()
