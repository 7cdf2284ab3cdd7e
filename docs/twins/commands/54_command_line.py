# %% [markdown]
# # The command
#
# > `scoreae demo`: a SAMI and a DBAE trained on real digits in minutes, beside PCA and a plain autoencoder, with a report.

# %% [markdown]
# The shortest way to see everything at work is one command. `scoreae demo` times a few training steps of each model on this machine, chooses a width and a number of steps that fit the time, trains, evaluates on held-out images, and writes `report.html` and `metrics.json`. The metrics hold the command that repeats the run with the same width and steps, on any machine. This page shows the pieces, and that wrong input ends in one line; the whole demo is run by the tests.

# %%
#| default_exp commands.command_line

# %%
#| exports
import argparse
import importlib.metadata
import inspect
import json
import platform
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import get_args, get_origin

import torch
from torch import Tensor

from scoreae.commands.applying import COMMANDS, WORDS
from scoreae.commands.contest import Contest, compete, step_seconds, summary
from scoreae.commands.making import SETTINGS, train
from scoreae.core.checks import require_int, require_number
from scoreae.core.pages import markdown_table
from scoreae.images import sets as data
from scoreae.measures.distributions import fit_classifier
from scoreae.measures.evaluation import evaluate, to_json
from scoreae.models.contract import Autoencoder, write_atomic
from scoreae.models.zoo import make
from scoreae.use.pictures import plot_losses, plot_rows, traverse, write_report
from scoreae.use.runs import made
from scoreae.use.training import Fit, fit

# %%
#| hide
import contextlib
import io

from fastcore.test import expect_fail, test_eq


# %% [markdown]
# ## Five models, one code size
#
# The same encoder and code size for all. SAMI comes twice: noise-blind, as in its paper, and with an encoder that is told the noise level, because on images as small as these the level is hard to see; such an encoder also begins as the linear code ([Gaussian images](../foundations/09_gaussians.ipynb)). The DBAE is its paper's stochastic one, with a small rate. All get the same number of steps.

# %%
#| exports
def demo_models(z_dim: int, width: int) -> dict[str, Autoencoder]:
    "The models of the demo, untrained: same code size and encoder."
    names = ("SAMI", "SAMI, told level", "DBAE", "AE", "PCA")
    return {name: make(name, (1, 8, 8), z_dim, width=width, encoder_width=16) for name in names}


# %% [markdown]
# How many steps fit the time? Each model takes a few steps, after two that warm up. The widest models that get at least a thousand steps are taken; if none do, the narrowest.

# %%
#| exports
def plan(x: Tensor, z_dim: int, seconds: float, widths: Sequence[int] = (32, 24, 16), fewest: int = 1000,
         most: int = 4000) -> dict[str, int]:
    "The widest models that get at least `fewest` steps in `seconds` of training, and how many steps: `width`, `steps`."
    for width in widths:
        with torch.random.fork_rng(devices=[]): models = demo_models(z_dim, width)
        speeds = [step_seconds(m, x) for name, m in models.items() if name != "PCA"]
        steps = int(seconds / sum(speeds))
        if steps >= fewest: break
    return {"width": width, "steps": max(1, min(steps, most))}


# %%
test_eq(plan(data.digits(), 8, seconds=1e-3, widths=(8,)), {"width": 8, "steps": 1})

# %% [markdown]
# ## The pictures

# %%
#| exports
NUMBERS = """On the held-out digits, with one standard error. MSE is on the [0, 1] scale; point and sample are different
questions (a sample of an exact model has twice the error of the conditional mean). Linear and k-NN are probes of the
code: the share of labels that they tell right. Bits per dimension bound log p(x) for every model on one axis; a
deterministic code gets the noise that is best for the validation digits. FD-clf is the Fréchet distance between samples
and held-out digits in the features of a small classifier, beside that between two halves of the held-out digits, each
with its spread over random halves, which is not a standard error; metrics.json has more numbers."""
SHOWN = ("model", "MSE point", "MSE sample", "linear (%)", "k-NN (%)", "bits/dim", "rate (nats)", "distortion (nats)")
SHOWN += ("FD-clf", "FD-clf floor", "seconds")


def shown(rows: Sequence[dict]) -> list[dict]:
    "The columns of a row that a page has room for."
    return [{k: row[k] for k in SHOWN if k in row} for row in rows]


def demo_sections(models: dict[str, Autoencoder], fits: dict[str, Fit], rows: list[dict], x: Tensor, y: Tensor) -> list:
    "The sections of the demo's report, from trained models and held-out images (N, 1, 8, 8) with labels (N,)."
    few, both = x[:12], {"image": x[:12]}
    for name, m in models.items():
        both[f"{name} point"] = m.reconstruct(few, steps=25)
        if name not in ("AE", "PCA"): both[f"{name} sample"] = m.reconstruct(few, "sample", steps=25)
    other = x[y != y[0]][0]
    between = {name: m.interpolate(x[0], other, n=9) for name, m in models.items()}
    moved = {f"{k} {axis}": v for k in ("SAMI", "DBAE") for axis, v in traverse(models[k], x[2]).items()}
    drawn = {"held-out images": few, **{name: m.sample(12, seed=1) for name, m in models.items()}}
    losses = plot_losses({k: f for k, f in fits.items() if f.history})
    pair = "A straight line between the codes of two held-out digits of different classes."
    each = "Point: one image per code. Sample: a draw of what the code leaves open."
    axes = "One held-out digit, moved two standard deviations each way along the axes that change it most."
    return [
        ("Numbers", NUMBERS, shown(rows)),
        ("Held-out reconstructions", each, plot_rows(both)),
        ("Interpolations", pair, plot_rows(between)),
        ("Traversals", axes, plot_rows(moved)),
        ("Samples", "Codes drawn from the Gaussian fitted to each model's training codes.", plot_rows(drawn)),
        ("Losses", "Each relative to its own start; their units differ.", losses),
    ]  # fmt: skip


# %% [markdown]
# ## The demo
#
# What can be wrong is found before any training: the arguments, and a folder that cannot be written.

# %%
#| exports
def _writable(out: str) -> Path:
    "The folder `out`, made if it is not there, or `ValueError` if no file can be written to it."
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out): return Path(out)
    except OSError as e:
        raise ValueError(f"out: expected a folder that can be written, got {out!r} ({e.strerror})") from e


def _trained(z_dim: int, seed: int, width: int, steps: int, x: Tensor, progress: bool) -> tuple[dict, dict]:
    "The demo's models, trained on images, and their `Fit`s; the global random state is left as it was."
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        models = demo_models(z_dim, width)
    return models, {k: fit(m, x, steps=steps, lr=2e-3, seed=seed, progress=progress) for k, m in models.items()}


def _record(z_dim: int, seed: int, width: int, steps: int, fits: dict[str, Fit], rows: list[dict]) -> dict:
    "What `metrics.json` says: the command that repeats the run, the machine, the speeds, the rows."
    speeds = {k: round(f.seconds / f.steps, 4) for k, f in fits.items() if f.steps}
    return {
        "command": f"scoreae demo --steps {steps} --width {width} --z-dim {z_dim} --seed {seed}",
        "width": width, "steps": steps, "batch_size": 64, "seconds_per_step": speeds, "rows": to_json(rows),
        "device": "cuda" if torch.cuda.is_available() else "cpu", "threads": torch.get_num_threads(),
        "torch": torch.__version__, "python": platform.python_version(), "made": made(),
    }  # fmt: skip


# %%
#| exports
def _report(file: Path, metrics: dict, images: int, z_dim: int, sections: list) -> None:
    "Write the demo's report."
    title = "Score-based autoencoders on handwritten digits"
    intro = f"A SAMI and a DBAE, trained from scratch in minutes on {images} images of 8×8 pixels, with codes of "
    intro += f"{z_dim} numbers; beside them PCA and a plain autoencoder with codes of the same size."
    note = f"{metrics['command']} · {metrics['steps']} steps of {metrics['batch_size']} images each"
    note += f" · torch {metrics['torch']} on {metrics['device']}, {metrics['threads']} threads"
    write_report(file, title, intro, sections, note)


def demo(out: str = "runs/demo", minutes: float = 4.5, z_dim: int = 8, seed: int = 0, steps: int | None = None,
         width: int | None = None, progress: bool = True) -> dict:
    """Train SAMI and DBAE on 8x8 digits within about `minutes`, beside PCA and a plain autoencoder; write a report.

    Writes `report.html` and `metrics.json` to the folder `out` and returns the metrics, all on held-out images.
    `steps` and `width` are chosen to fit the time where they are not given; with both, `minutes` does not matter.
    """
    begin = time.perf_counter()
    require_number(minutes, "minutes", 0, above=True)
    z_dim, seed = require_int(z_dim, "z_dim", high=64), require_int(seed, "seed", low=0)
    given = {k: require_int(v, k) for k, v in (("steps", steps), ("width", width)) if v is not None}
    folder, splits = _writable(out), [data.digits(s, labels=True) for s in data.SPLITS]
    x = splits[0][0]
    widths = {"widths": (width,)} if "width" in given else {}
    chosen = given if len(given) == 2 else {**plan(x, z_dim, 60 * minutes * 0.7, **widths), **given}
    run = {"z_dim": z_dim, "seed": seed, **chosen}
    models, fits = _trained(**run, x=x, progress=progress)
    asked = {"levels": 17, "seed": seed, "judge": fit_classifier(*splits[0])}
    rows = [evaluate(m, *splits, name=name, **asked) for name, m in models.items()]
    metrics = _record(**run, fits=fits, rows=rows)
    _report(folder / "report.html", metrics, len(x), z_dim, demo_sections(models, fits, rows, *splits[2]))
    metrics["seconds"] = round(time.perf_counter() - begin, 1)
    write_atomic(folder / "metrics.json", (json.dumps(metrics, indent=1, allow_nan=False) + "\n").encode())
    print(markdown_table(shown(rows)))
    print(f"report: {folder}/report.html   numbers: {folder}/metrics.json   ({metrics['seconds']:.0f} s)")
    return metrics


# %% [markdown]
# ## The bench
#
# [The contest](51_contest.ipynb) as a command: each field of its rules is an option.

# %%
#| exports
def bench(out: str = "runs/bench", models: Sequence[str] | None = None, root: str | None = None, download: bool = False,
          device: str | None = None, progress: bool = True, **rules) -> dict:
    """Train every model of the zoo, or `models`, by the rules of a `Contest`; write rows and `results.json` to `out`.

    `rules` are the fields of `Contest`; `root` and `download` say where the images are, as in `data`; `device` is by
    default CUDA if there is one.
    """
    contest = Contest(**{k: tuple(v) if isinstance(v, list) else v for k, v in rules.items()})
    options = asdict(contest) | ({"models": tuple(models)} if models else {})
    words = ((f"--{k.replace('_', '-')}", *(v if isinstance(v, tuple) else (v,))) for k, v in options.items())
    command = shlex.join(["scoreae", "bench", *(str(v) for option in words for v in option)])
    where = {"root": root, "download": download, "device": device, "command": command, "progress": progress}
    result = compete(contest, _writable(out), models, **where)
    for k in contest.z_dims: print(f"\ncodes of {k} numbers\n\n{markdown_table(summary(result['rows'], k))}")
    print(f"\nnumbers: {out}/results.json")
    return result


# %% [markdown]
# ## The entry point
#
# The commands for your own images are the functions of [From a folder to a run](52_making.ipynb) and [Using a run](53_applying.ipynb); their arguments are the options. Wrong input is one line on standard error and exit status 2; `--debug`, before or after the command's name, shows the traceback. An interrupt from the keyboard ends with status 130, as shells expect.

# %%
#| exports
class _Parser(argparse.ArgumentParser):
    "A parser whose errors are one line."

    def error(self, message: str) -> None: self.exit(2, f"scoreae: error: {message}\n")


DEFAULT = " (default: %(default)s)"


def _debug(p: argparse.ArgumentParser, default=argparse.SUPPRESS) -> None:
    p.add_argument("--debug", action="store_true", default=default, help="show the traceback of an error")


def _demo_options(commands) -> None:
    d = commands.add_parser("demo", help="train SAMI and DBAE on digits within minutes and write a report",
                            epilog="example: scoreae demo --minutes 4.5 --out runs/demo")  # fmt: skip
    d.add_argument("--out", default="runs/demo", help="folder for report.html and metrics.json" + DEFAULT)
    d.add_argument("--minutes", type=float, default=4.5, help="time to aim for" + DEFAULT)
    d.add_argument("--z-dim", type=int, default=8, help="size of the code" + DEFAULT)
    d.add_argument("--seed", type=int, default=0, help="seed of weights, batches and noise" + DEFAULT)
    d.add_argument("--steps", type=int, help="training steps of each model (default: what fits the time)")
    d.add_argument("--width", type=int, help="width of the networks (default: what fits the time)")
    _debug(d)
    d.set_defaults(call=demo)


def _bench_options(commands) -> None:
    b = commands.add_parser("bench", help="train every model of the zoo alike and compare them",
                            epilog="example: scoreae bench --root data --z-dims 16 32 --seeds 3")  # fmt: skip
    b.add_argument("--out", default="runs/bench", help="folder for the rows and results.json" + DEFAULT)
    b.add_argument("--models", nargs="+", metavar="NAME", help="names of the zoo (default: all)")
    b.add_argument("--root", help="where the images lie (default: $SCOREAE_DATA, or the user's cache)")
    b.add_argument("--download", action="store_true", help="fetch the images if they are not there")
    b.add_argument("--device", help="where to train, like cpu or cuda (default: CUDA if there is one)")
    for f in fields(Contest):
        many = {"nargs": "+"} if f.name == "z_dims" else {}
        kind = type(f.default[0] if many else f.default)
        b.add_argument(f"--{f.name.replace('_', '-')}", type=kind, default=f.default, help=f"rule{DEFAULT}", **many)
    _debug(b)
    b.set_defaults(call=bench)


def _option(p: argparse.ArgumentParser, name: str, known, default, text: str) -> None:
    "One argument, as annotated: by its place if it has no default, a switch if boolean, several if a sequence."
    kind, many = next(iter(get_args(known)), known), {"nargs": "+"} if get_origin(known) is Sequence else {}
    flag, text = "--" + name.replace("_", "-"), text or name
    if default is inspect.Parameter.empty: p.add_argument(name, help=text)
    elif kind is bool: p.add_argument(flag, action=argparse.BooleanOptionalAction, default=default, help=text)
    else: p.add_argument(flag, type=kind, default=default, help=text + DEFAULT * (default is not None), **many)


def _own_options(commands) -> None:
    "The commands for your own images, with the arguments of their functions."
    for command, (fn, example) in COMMANDS.items():
        about = " ".join(fn.__doc__.split("\n\n")[0].split()).split(";")[0].rstrip(".")
        p = commands.add_parser(command, help=about.replace("`", ""), epilog=f"example: scoreae {command} {example}")
        for name, known in inspect.signature(fn).parameters.items():
            if fn is train and name == "images": p.add_argument(name, nargs="?", help=WORDS[name])
            elif known.kind is not known.VAR_KEYWORD: _option(p, name, known.annotation, known.default, WORDS[name])
        if fn is train:
            for name, (kind, text) in SETTINGS.items(): _option(p, name, kind, None, text)
        _debug(p)
        p.set_defaults(call=fn)


def parser() -> argparse.ArgumentParser:
    "The command line of `scoreae`."
    p = _Parser(prog="scoreae", description="Score-based autoencoders: representation learning with diffusion models.")
    p.add_argument("--version", action="version", version=f"scoreae {importlib.metadata.version('scoreae')}")
    _debug(p, False)
    commands = p.add_subparsers(dest="command", required=True, metavar="command")
    _demo_options(commands)
    _bench_options(commands)
    _own_options(commands)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    "Run the command line; returns the exit status: 0, 2 after an error message, 130 after an interrupt."
    args = vars(parser().parse_args(argv))
    call, debug = args.pop("call"), args.pop("debug")
    args.pop("command")
    try: call(**args)
    except (ValueError, OSError, FloatingPointError, KeyboardInterrupt) as e:
        if debug: raise
        interrupted = isinstance(e, KeyboardInterrupt)
        print("scoreae: " + ("interrupted" if interrupted else f"error: {' '.join(str(e).split())}"), file=sys.stderr)
        return 130 if interrupted else 2
    return 0


if __name__ == "__main__" and "__file__" in globals(): sys.exit(main())

# %% [markdown]
# What the command line says of itself, and to wrong input.

# %%
print(parser().format_help())


# %%
def complaint(*argv):
    with contextlib.redirect_stderr(io.StringIO()) as error:
        try: status = main(argv)
        except SystemExit as e: status = e.code
    test_eq(status, 2)
    return error.getvalue()


for argv in (["demo", "--out", "/dev/null/x"], ["demo", "--width", "wide"], ["train"],
             ["demo", "--steps", "0"]):
    message = complaint(*argv)
    assert message.startswith("scoreae: error: ") and message.count("\n") == 1
wrong, known = complaint("demo", "--minutes", "-1"), "a finite number in (0, inf)"
test_eq(wrong, f"scoreae: error: minutes: expected {known}, got -1.0\n")
print(wrong)

# %%
with expect_fail(ValueError, contains="z_dim"):
    main(["demo", "--debug", "--z-dim", "0"])

# %% [markdown]
# ## What can go wrong
#
# * **A busy machine.** The speed probe runs before training; if the machine becomes slower afterwards, the demo takes longer than asked, and `metrics.json` says so.
# * **A repeated run with another number of threads**, or another version of torch, adds numbers in another order. Its results differ slightly; both are in `metrics.json`.
