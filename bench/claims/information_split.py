"""Where is the image: in the code, the noise, or the loss? Six autoencoders of one encoder, trained with several seeds.

    python -m bench.claims.information_split [--steps 800] [--batch 64] [--width 12] [--z-dims 12 4] [--seeds 3]
    python -m bench.claims.information_split --data fashion_mnist --root FOLDER --steps 500 --batch 32 --lr 0.002 \
        --z-dims 16

Writes docs/results/information-split.json: per data set, model, code size and seed, errors on [0, 1] of points and
samples (10 evaluations, the first 200 test images), the mean of eight samples, the variance over noise draws, one
evaluation, inferred noise (the first 100), and a linear probe. `--models` asks for some of the six. Fashion-MNIST is a
subset, averaged down to 14 pixels a side. A run that is interrupted goes on where it was.
"""

import argparse

import torch

import scoreae as sa
from bench.stored import RESULTS, fill_set, wall
from scoreae.commands.contest import Contest, images_of
from scoreae.core.checks import sqnorm
from scoreae.measures.evaluation import probe
from scoreae.use.edits import invert, walk

MODELS = {
    "AE": (sa.AE, {"begin": "random"}),
    "DiffAE": (sa.DiffAE, {"begin": "random"}),
    "DiffAE, DBAE's weighting": (sa.DiffAE, {"weighting": "dbae", "begin": "random"}),
    "DBAE": (sa.DBAE, {"begin": "random"}),
    "DBAE, told x_T only": (sa.DBAE, {"condition": "xT", "begin": "random"}),
    "DBAE, told z only": (sa.DBAE, {"condition": "z", "begin": "random"}),
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


def parse():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, value in [("steps", 800), ("batch", 64), ("width", 12), ("seeds", 3), ("threads", 1)]:
        p.add_argument(f"--{name}", type=int, default=value)
    p.add_argument("--lr", type=float, default=4e-3)
    p.add_argument("--z-dims", type=int, nargs="+", default=[12, 4])
    p.add_argument("--data", default="digits", choices=["digits", "fashion_mnist"])
    p.add_argument("--root")
    p.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    return p.parse_args()


def main():
    a = parse()
    torch.set_num_threads(a.threads)
    sizes = {"size": 8, "train": 1200, "val": 200, "test": 397}
    if a.data != "digits": sizes = {"size": 14, "train": 6000, "val": 500, "test": 500}
    splits = images_of(Contest(a.data, **sizes), a.root)
    shape = tuple(splits[0][0].shape[1:])
    rules = {"steps": a.steps, "batch": a.batch, "lr": a.lr, "width": a.width, **sizes}
    flags = {k: v for k, v in rules.items() if k not in sizes} | {"threads": a.threads}
    words = " ".join(f"--{k} {v}" for k, v in flags.items())
    command = f"python -m bench.claims.information_split --data {a.data} {words}"

    def row(model, z_dim, seed):
        kind, kw = MODELS[model]
        torch.manual_seed(seed)
        made = kind(shape, z_dim, width=a.width, encoder_width=a.width, **kw)
        how = {"steps": a.steps, "batch_size": a.batch, "lr": a.lr, "ema": 0.99, "seed": seed}
        done = sa.fit(made, splits[0][0], **how, progress=False, device="cpu")
        return questions(made, splits) | {"wall": wall(done)}

    keys = ({"model": n, "z_dim": k, "seed": s} for k in a.z_dims for s in range(a.seeds) for n in a.models)
    fill_set(RESULTS / "information-split.json", a.data, command, rules, keys, row)


if __name__ == "__main__": main()
