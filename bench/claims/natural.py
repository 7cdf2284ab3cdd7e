"""SAMI's axes without labels, on Fashion-MNIST at 14x14 pixels and on colour patches of photographs at 16x16.

    python -m bench.claims.natural --fashion FOLDER [--steps 900] [--width 12]

Saves the models under weights/, and their axes, TAD and a dozen images to look at in docs/results/natural.json.
"""

import argparse
import json
from pathlib import Path

import torch
from torch.nn.functional import avg_pool2d

import scoreae as sa
from bench.stored import RESULTS, ROOT, add_row, stamp, wall
from scoreae.images.files import to_uint8
from scoreae.measures.disentanglement import rotation_null, tad
from scoreae.use.guidance import axes, watch

K, WEIGHTS = 12, ROOT / "weights"
KINDS = {"footwear": (5, 7, 9), "upper body": (0, 2, 4, 6), "trousers": (1,), "dress": (3,), "bag": (8,)}


def fashion(split, folder):
    "Clothes (N, 1, 14, 14) and attributes (N, 6): five kinds by class, and bright."
    x, y = sa.data.fashion_mnist(split, labels=True, root=folder, limit=4000 if split == "train" else 1000)
    x = avg_pool2d(x, 2)
    made = {name: sum(y == c for c in classes) > 0 for name, classes in KINDS.items()}
    return x, made | {"bright": x.mean((1, 2, 3)) > -0.43}


def patches(split, folder):
    "Colour patches (N, 3, 16, 16) and four attributes that are made up, each true for about half of them."
    x, photo = sa.data.patches(split, labels=True, size=16, stride=8)
    red, _, blue = x.mean((2, 3)).unbind(1)
    rough, light = x.std((1, 2, 3)), x.mean(1)
    tilt = light[:, :8].mean((1, 2)) - light[:, 8:].mean((1, 2))
    above = {"bright": x.mean((1, 2, 3)), "warm": red - blue, "rough": rough, "lit from above": tilt}
    return x[:4000], {name: (v > v.median())[:4000] for name, v in above.items()} | {"photograph": photo[:4000] > 0}


SETS = {"fashion": (fashion, "joint"), "patches": (patches, "pinned"), "patches, joint": (patches, "joint")}


def codes_tad(model, x, attributes):
    "TAD, and its mean after random rotations of the code."
    z, v = model.encode(x).double().numpy(), torch.stack(list(attributes.values()), 1).double().numpy()
    found = tad(z, v)
    null = rotation_null(lambda t: {"tad": tad(t, v)["tad"]}, z, n=20)["tad"]
    best = {name: {"axis": int(a.argmax()), "AUROC": round(float(a.max()), 3)}
            for name, a in zip(attributes, found["auroc"].T, strict=True)}  # fmt: skip
    return {"TAD": found["tad"], "ATTRS": found["attrs"], "TAD rotated": null["mean"], "± rotated": null["std"],
            "kept": [n for n, k in zip(attributes, found["kept"], strict=True) if k], "best": best}  # fmt: skip


def train(name, a, command):
    "Train SAMI on one set, save it, and measure its axes on test images."
    torch.manual_seed(0)
    images, regime = SETS[name]
    (x, _), (test, attributes) = (images(split, a.fashion) for split in ("train", "test"))
    shape = tuple(x.shape[1:])
    how = {"regime": regime, "time_conditioned": True, "begin": "linear", "kl_weight": 0.01}
    model = sa.SAMI(shape, K, width=a.width, encoder_width=8, **how)
    fit = sa.fit(model, x, steps=a.steps, batch_size=32, lr=3e-3, ema=0.995, progress=False, log_every=100)
    if "," not in name:  # the others are only measured
        model.save(WEIGHTS / f"{name}-sami")
        about = {"command": command, "made": stamp(), "steps": fit.steps, "torch": torch.__version__, "wall": wall(fit)}
        (WEIGHTS / f"{name}-sami" / "metrics.json").write_text(json.dumps(about, indent=1) + "\n")
    found, seen = axes(model, test[:400], n=24, images=16), watch(model, test[:400], n=24)
    torch.manual_seed(0)
    fresh = sa.SAMI(shape, K, width=a.width, encoder_width=8, **how).eval()
    fresh.prepare(x)
    fits, others = [fit], {"SAMI, untrained": codes_tad(fresh, test, attributes)}
    for kind in ("PCA", "RandomEncoder"):
        torch.manual_seed(0)
        other = getattr(sa, kind)(shape, K, **({} if kind == "PCA" else {"width": 8, "encoder_width": 8}))
        fits.append(sa.fit(other, x, steps=1, progress=False))
        others[kind] = codes_tad(other, test, attributes)
    return {
        "regime": regime, "steps": fit.steps, "images": len(x), "table": found.table, "u": found.u.tolist(),
        "density": [[round(v, 5) for v in row] for row in found.density.tolist()], "cross": found.cross.tolist(),
        **{k: seen[k].tolist() for k in ("gain", "energy", "pin")}, "prior std": model.prior.std.tolist(),
        "alignment": {"SAMI": codes_tad(model, test, attributes), **others},
        "show": to_uint8(test[:16]).tolist() if name == "fashion" else None, "wall": wall(*fits),
    }  # fmt: skip


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--fashion", required=True)
    p.add_argument("--steps", type=int, default=900)
    p.add_argument("--width", type=int, default=12)
    p.add_argument("--sets", nargs="*", default=list(SETS))
    p.add_argument("--out", default=str(RESULTS / "natural.json"))
    a = p.parse_args()
    command = f"python -m bench.claims.natural --fashion FOLDER --steps {a.steps} --width {a.width}"
    for name in a.sets: add_row(Path(a.out), {"set": name}, lambda n=name: train(n, a, command), command=command)


if __name__ == "__main__": main()
