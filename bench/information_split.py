"""Where is the image: in the code, the noise, or the loss? Six autoencoders of one encoder, several seeds, on digits.

    python bench/information_split.py [--steps 800] [--width 12] [--z-dims 12 4] [--seeds 3] [--threads 1]

Writes docs/results/information-split.json: per model, code size and seed, errors on [0, 1] of points and samples (10
evaluations, the first 200 test images), the mean of eight samples, the variance over noise draws, one evaluation,
inferred noise (the first 100), and a linear probe. A run that is interrupted goes on where it was.
"""

import argparse
import json
import platform
import time
from pathlib import Path

import torch

import scoreae as sa
from scoreae.core import sqnorm
from scoreae.edits import invert, walk
from scoreae.evaluation import probe

OUT = Path(__file__).resolve().parent.parent / "docs" / "results" / "information-split.json"
MODELS = {
    "AE": (sa.AE, {}),
    "DiffAE": (sa.DiffAE, {}),
    "DiffAE, DBAE's weighting": (sa.DiffAE, {"weighting": "dbae"}),
    "DBAE": (sa.DBAE, {}),
    "DBAE, told x_T only": (sa.DBAE, {"condition": "xT"}),
    "DBAE, told z only": (sa.DBAE, {"condition": "z"}),
}


def error(y, x): return round(sqnorm(y - x).mean().item() / x[0].numel() / 4, 6)


def questions(model, splits, draws=8):
    "What is asked of every model, on the test images."
    x_test = splits[2][0]
    z = model.encode(x_test)
    found = probe(*((model.encode(x), y) for x, y in splits), resamples=2)["accuracy (%)"]
    row = {"point": error(model.decode(z[:200], "point", 10), x_test[:200]), "probe (%)": round(found.mean, 2)}
    if isinstance(model, sa.AE): return row
    some, code = x_test[:200], z[:200]
    many = torch.stack([model.decode(code, "sample", 10, seed=s) for s in range(draws)])
    row |= {"sample": sum(error(m, some) for m in many) / draws, "mean of 8 samples": error(many.mean(0), some),
            "variance over draws": round(many.var(0).mean().item() / 4, 6),
            "one evaluation": error(model.decode(code, "point", 1), some)}  # fmt: skip
    if isinstance(model, sa.DiffAE):
        some, code = some[:100], code[:100]
        row["inferred noise"] = error(walk(model, code, invert(model, some, code, 30), 30), some)
    return row


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, value in [("steps", 800), ("width", 12), ("seeds", 3), ("threads", 1)]:
        p.add_argument(f"--{name}", type=int, default=value)
    p.add_argument("--z-dims", type=int, nargs="+", default=[12, 4])
    p.add_argument("--out", default=str(OUT))
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    splits = [sa.data.digits(s, labels=True) for s in ("train", "val", "test")]
    flags = {"steps": a.steps, "width": a.width, "z-dims": " ".join(map(str, a.z_dims)), "seeds": a.seeds,
             "threads": a.threads}  # fmt: skip
    command = "python bench/information_split.py " + " ".join(f"--{k} {v}" for k, v in flags.items())
    result = {"command": command, "data": "digits", "train": len(splits[0][0]), "test": len(splits[2][0]),
              "torch": torch.__version__, "machine": platform.machine(), "rows": []}  # fmt: skip
    out = Path(a.out)
    rules = {"steps": a.steps, "width": a.width}  # rows of other code sizes or seeds are kept
    if out.exists() and (old := json.loads(out.read_text())).get("rules") == rules: result["rows"] = old["rows"]
    result["rules"] = rules
    known = {(r["model"], r["z_dim"], r["seed"]) for r in result["rows"]}
    for k, seed, name in ((k, s, n) for k in a.z_dims for s in range(a.seeds) for n in MODELS):
        if (name, k, seed) in known: continue
        begin, (kind, kw) = time.perf_counter(), MODELS[name]
        torch.manual_seed(seed)
        model = kind((1, 8, 8), k, width=a.width, encoder_width=a.width, **kw)
        sa.fit(model, splits[0][0], steps=a.steps, lr=4e-3, ema=0.99, seed=seed, progress=False, device="cpu")
        row = {"model": name, "z_dim": k, "seed": seed, **questions(model, splits)}
        result["rows"].append(row)
        out.write_text(json.dumps(result, indent=1) + "\n")
        print(f"{time.perf_counter() - begin:.0f} s", row, flush=True)


if __name__ == "__main__": main()
