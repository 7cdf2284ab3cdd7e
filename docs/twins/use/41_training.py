# %% [markdown]
# # Training
#
# > One loop for every model: noise levels in strata, averaged weights, a step or a time budget, and a model that is usable however the loop ends.

# %% [markdown]
# All models give a loss, so all are trained by one function, `fit`. The loop is short on purpose. What makes short trainings work is around it: an exponential average of the weights, a learning rate that falls to zero by the end of the *budget* (a number of steps or of minutes), and clipped gradients. This page shows that a training repeats bit for bit, also when it is interrupted and resumed, keeps its budget, and leaves a usable model when it diverges.

# %%
#| default_exp use.training

# %%
#| exports
import importlib.util
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from fastcore.basics import patch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from scoreae.core.checks import require, require_choice, require_int, require_number, rng
from scoreae.images.feeding import Batches, Feed
from scoreae.models.contract import Autoencoder
from scoreae.use.runs import RunFolder, last_state, save_state

# %%
#| hide
import tempfile

import matplotlib.pyplot as plt
from fastcore.test import expect_fail, test_close, test_eq

from scoreae import data
from scoreae.core.pages import Table, paper
from scoreae.models.baselines import AE, PCA
from scoreae.models.dbae import DBAE
from scoreae.models.sami import SAMI
from scoreae.models.zoo import load

# %%
#| hide
paper()


# %% [markdown]
# ## The average of the weights
#
# The weights at the end of training are one draw from a noisy walk; their average is better, for diffusion models by a lot [@ho2020ddpm; @karras2022edm]. With a decay $d$, the average of the weights $w_1,w_2,\dots$ after $n$ of them is
#
# $$\bar w_n=d_n\,\bar w_{n-1}+(1-d_n)\,w_n,\qquad d_n=\min\Big(d,\ \frac{1+n}{10+n}\Big).$$ {#eq-train-ema}
#
# The decay grows with $n$, so that a short run does not remember its start. Once $d_n=d$, the weight $w_{n-j}$ counts $(1-d)\,d^j$, and the average is $\sum_j j\,(1-d)\,d^j=d/(1-d)$ steps behind. Buffers are averaged too: the preconditioning moments of [The contract](../models/13_contract.ipynb) belong to the averaged weights.

# %%
#| exports
def _decay(ema: float) -> float:
    "`ema` as a float, or `ValueError` outside [0, 1)."
    require(require_number(ema, "ema", 0, 1) < 1, "ema", ema, "a number in [0, 1)")
    return float(ema)


class EMA:
    "An exponential average of a module's floating-point parameters and buffers; `decay` is in [0, 1)."

    def __init__(self, model: torch.nn.Module, decay: float = 0.999):
        self.decay, self.n = _decay(decay), 0
        self.values = {k: v.detach().clone() for k, v in model.state_dict().items() if v.is_floating_point()}

    @torch.no_grad()
    def update(self, model: torch.nn.Module) -> None:
        "Take the model's present values into the average."
        self.n += 1
        weight = 1 - min(self.decay, (1 + self.n) / (10 + self.n))
        for k, v in model.state_dict().items():
            if k in self.values: self.values[k].lerp_(v, weight)

    def copy_to(self, model: torch.nn.Module) -> None:
        "Put the averages in the place of the model's values."
        model.load_state_dict({**model.state_dict(), **self.values})


# %% [markdown]
# A weight that grows by one at every step: with $d=0.9$ its average must be nine steps behind.

# %%
layer = torch.nn.Linear(1, 1)
ema = EMA(layer, decay=0.9)
for step in range(200):
    layer.weight.data.fill_(float(step))
    ema.update(layer)
ema.copy_to(layer)
test_close(layer.weight.item(), 199 - 9, eps=1e-3)


# %% [markdown]
# ## The learning rate
#
# [Feeding](../images/23_feeding.ipynb) gives the batches. The budget is a number of steps or of minutes. How much of it is spent, from 0 to 1, sets the learning rate: a short linear warm-up, then a cosine to zero.

# %%
#| exports
def learning_rate(spent: float, warmup: float = 0.05) -> float:
    "The factor on the learning rate at a share `spent` in [0, 1] of the budget: linear warm-up, cosine to 0."
    return min(1.0, spent / max(warmup, 1e-9) + 1e-2) * (1 + math.cos(math.pi * min(spent, 1.0))) / 2


# %%
#| label: fig-rate
#| fig-cap: 'The factor on the learning rate: a linear warm-up over the first twentieth of the budget, then a cosine to zero.'
#| fig-alt: 'A line chart of the learning rate divided by its setting, against the share of the budget that is spent. It rises steeply to almost 1 at 0.05, then falls along half a cosine to 0 at 1.'
fig, ax = plt.subplots(figsize=(6, 2.2))
spent = [i / 200 for i in range(201)]
ax.plot(spent, [learning_rate(v) for v in spent])
ax.set(xlabel="share of the budget spent", ylabel="learning rate / lr");


# %% [markdown]
# ## Shards and processes
#
# A batch may be cut into *shards* of equal size, each with its own stream of noise. The gradient of a batch is the mean of its shards' gradients. One process can work through the shards one after the other, which needs less memory; or several processes take some each, which needs less time. Both do the same sums. So a training by two processes has the weights of one process that accumulates two shards, up to rounding.
#
# Processes are started by `accelerate launch`, and synchronised by accelerate's wrapping of the model. What is left to us are the running moments: every shard of a step starts from the same ones, and afterwards their mean is taken.

# %%
#| exports
class _Processes:
    "The processes of this training on `device`s: this one, or as many as were launched."

    def __init__(self, device: torch.device):
        self.engine, self.rank, self.world = None, 0, 1
        if int(os.environ.get("WORLD_SIZE", 1)) > 1:
            from accelerate import Accelerator, DistributedDataParallelKwargs

            how = [DistributedDataParallelKwargs(broadcast_buffers=False)]
            self.engine = Accelerator(cpu=device.type == "cpu", mixed_precision="no", kwargs_handlers=how)
            self.rank, self.world = self.engine.process_index, self.engine.num_processes
            joined = str(self.world) == os.environ["WORLD_SIZE"]
            require(joined, "WORLD_SIZE", os.environ["WORLD_SIZE"], f"the {self.world} processes that accelerate sees")

    def wrap(self, model: torch.nn.Module) -> torch.nn.Module:
        "What to call instead of the model, so that gradients are means over the processes."
        return model if self.engine is None else self.engine.prepare(model)

    def waiting(self, model: torch.nn.Module, last: bool):
        "A context in which gradients are not yet exchanged, unless it is the `last` shard's."
        return nullcontext() if self.engine is None or last else self.engine.no_sync(model)

    def mean(self, value: Tensor) -> Tensor:
        "The mean of a tensor over the processes."
        return value if self.engine is None else self.engine.reduce(value.clone(), "mean")

    def gather(self, items: list) -> list:
        "The items of all processes, everywhere."
        if self.engine is None: return items
        from accelerate.utils import gather_object

        return gather_object(items)


# %% [markdown]
# ## Half the bits
#
# Networks may run in bfloat16 where the machine is faster in it, and may be compiled. Both are done to the large networks only: the estimator of $x_0$ and the decoder of the endpoint. The encoder stays in float32 and as it is, because SAMI differentiates it twice ([SAMI](../models/14_sami.ipynb)), and so do weights, optimiser, path and loss.

# %%
#| exports
PRECISIONS = ("float32", "bf16")


def _rounded(forward: Callable, kind: str) -> Callable:
    "A network that computes in bfloat16 where torch thinks fit, and answers in float32."

    def run(*args, **kw):
        with torch.autocast(kind, torch.bfloat16): return forward(*args, **kw).float()

    return run


@contextmanager
def _tuned(model: Autoencoder, precision: str, compiled: bool | str) -> Iterator[None]:
    "The model with its large networks in `precision` and compiled, until the context ends."
    found = [getattr(model, name, None) for name in ("net", "endpoint_net", "decoder_net")]
    parts = [m for m in found if isinstance(m, torch.nn.Module)]
    for m in parts:
        forward = m.forward
        if compiled: forward = torch.compile(forward, backend=compiled if isinstance(compiled, str) else "inductor")
        if precision == "bf16": forward = _rounded(forward, model.device.type)
        if forward != m.forward: m.forward = forward
    try: yield
    finally:
        for m in parts: m.__dict__.pop("forward", None)


# %% [markdown]
# ## One step
#
# The loss is divided by the number of values of an image before it is differentiated, so that clipping means the same at every image size.
#
# A step has an order that matters. The loss and the gradient are computed, and if either is not finite, the training stops *before* the optimiser spoils the weights. If both are finite, the weights *that gave this loss* go into the average; only then does the optimiser change them. So the average never holds weights that have not been tried: with finite weights at the start it stays finite whatever happens. The last weights have no next step to try them; `last` does.

# %%
#| exports
class _Run:
    "The state of a training: optimiser, average, order of the images, random generators, history."

    def __init__(self, model: Autoencoder, feed: Feed, procs: _Processes, record: dict, since: float | None = None):
        self.model, self.feed, self.procs, self.record = model.train(), feed, procs, record
        order, shards = rng(record["seed"]), record["shards"]
        first = int(torch.randint(2**60, (), generator=order))
        self.noise = [rng(first + j, model.device) for j in range(shards)]
        self.order = Batches(len(feed), record["batch_size"], order)
        self.ema, self.params = EMA(model, record["ema"]), [p for p in model.parameters() if p.requires_grad]
        self.opt = torch.optim.AdamW(self.params, lr=record["lr"], fused=True) if self.params else None
        self.call = procs.wrap(model) if self.params else model
        self.steps, self.history, self.val_history, self.recent = 0, [], [], []
        self.begin, self.ended, self.board = time.perf_counter(), "interrupted", None
        self.wall, self.at = {}, self.begin if since is None else since

    def lap(self, part: str) -> None:
        "Count the time since the last lap to a part of the work."
        now = time.perf_counter()
        self.wall[part] = self.wall.get(part, 0.0) + now - self.at
        self.at = now

    def stop_unless(self, finite: bool, what: str, parts: dict[str, Tensor]) -> None:
        "`FloatingPointError` that names the step, and the parts of its loss."
        if finite: return
        self.ended = "diverged"
        shown = ", ".join(f"{k} {float(v):.4g}" for k, v in parts.items())
        raise FloatingPointError(f"{what} is not finite at step {self.steps} ({shown}); averaged weights are in place")

    def mine(self) -> range:
        "The shards of this process."
        each = len(self.noise) // self.procs.world
        return range(self.procs.rank * each, (self.procs.rank + 1) * each)

    def shard(self, j: int, index: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        "The loss of shard `j` of a batch, and its parts."
        x = self.feed[index.tensor_split(len(self.noise))[j]].to(self.model.dtype)
        self.lap("data")
        return self.call(x, self.noise[j])

    def losses(self, index: Tensor, backward: bool) -> dict[str, Tensor]:
        "The loss of the batch `index`, as 'loss', and its parts: means over all shards."
        mine, buffers, found, after = self.mine(), list(self.model.buffers()), [], []
        before = [b.clone() for b in buffers]
        for j in mine:
            for b, start in zip(buffers, before, strict=True): b.copy_(start)
            with self.procs.waiting(self.call, j == mine[-1]):
                loss, parts = self.shard(j, index)
                self.lap("forward")
                if backward: (loss / (math.prod(self.model.shape) * len(mine))).backward()
            self.lap("backward" if backward else "forward")
            found.append({"loss": loss.detach(), **parts})
            after.append([b.clone() for b in buffers])
        if len(self.noise) > 1:
            for b, *values in zip(buffers, *after, strict=True):
                if b.is_floating_point(): b.copy_(self.procs.mean(torch.stack(values).mean(0)))
        return {k: self.procs.mean(torch.stack([f[k] for f in found]).mean()) for k in found[0]}


# %%
#| exports
@patch
def step(self: _Run, index: Tensor, spent: float) -> None:
    "One step on the batch `index` when a share `spent` of the budget is spent."
    self.lap("data")
    self.model.progress = min(spent, 1.0)
    self.opt.zero_grad(set_to_none=True)
    self.lap("update")
    parts = self.losses(index, backward=True)
    norm = torch.nn.utils.clip_grad_norm_(self.params, self.record["clip"])
    if not bool((parts["loss"] + norm).isfinite()):
        rest = {k: v for k, v in parts.items() if k != "loss"}
        self.stop_unless(bool(parts["loss"].isfinite()), "the loss", rest)
        self.stop_unless(False, "the gradient", rest)
    self.ema.update(self.model)
    rate = self.record["lr"] * learning_rate(spent, self.record["warmup"])
    for group in self.opt.param_groups: group["lr"] = rate
    self.opt.step()
    self.steps += 1
    self.recent.append(parts)
    if len(self.recent) == self.record["log_every"]: self.log()


@patch
def describe(self: _Run) -> None:
    "Write what has been done so far to `model.trained`."
    seconds = round(time.perf_counter() - self.begin, 1)
    done = {"steps": self.steps, "seconds": seconds, "images": len(self.feed), "ended": self.ended}
    if not self.steps and self.model.gaussian is not None: done["model"] = "the Gaussian it begins as"
    self.model.trained = done | self.record


@patch
def look(self: _Run) -> None:
    "In place of a training: what a model observes of a first batch, and no step."
    self.losses(next(self.order), backward=False)
    self.ema, self.ended = EMA(self.model, self.record["ema"]), "budget"


@patch
def last(self: _Run) -> None:
    "Try the last weights on the last batch; they belong to the average too."
    self.model.eval()
    parts = self.losses(self.order.current(), backward=False)
    self.stop_unless(bool(parts["loss"].isfinite()), "the loss", parts)
    self.ema.update(self.model)
    self.ended = "budget"


@patch
def log(self: _Run) -> None:
    "Average the losses since the last call into one entry of the history."
    if not self.recent: return
    mean = {k: float(torch.stack([r[k] for r in self.recent]).mean()) for k in self.recent[0]}
    self.history.append({"step": self.steps, **mean})
    if self.board is not None:
        for k, v in mean.items(): self.board.add_scalar(f"train/{k}", v, self.steps)
    self.recent = []


# %% [markdown]
# ## To be taken up again
#
# All that a training is at a step: weights, their average, the optimiser's moments, the random generators, the place in the order of the images, the losses so far. [Runs](40_runs.ipynb) keeps it safe. `restore` is the inverse, down to the bit.

# %%
#| exports
@patch
def state(self: _Run) -> tuple[dict[str, Tensor], dict]:
    "Everything that a training needs to go on: named tensors, and numbers that JSON can keep."
    begun, at = self.order.state()
    own = [(j, self.noise[j].get_state()) for j in self.mine()]
    tensors = {"order": begun} | {f"noise.{j}": s for j, s in self.procs.gather(own)}
    tensors |= {f"model.{k}": v for k, v in self.model.state_dict().items()}
    tensors |= {f"ema.{k}": v for k, v in self.ema.values.items()}
    moments = self.opt.state_dict()["state"]
    tensors |= {f"opt.{i}.{k}": v for i, of in moments.items() for k, v in of.items()}
    if self.recent: tensors |= {f"recent.{k}": torch.stack([r[k] for r in self.recent]) for k in self.recent[0]}
    info = {"steps": self.steps, "at": at, "averaged": self.ema.n, "ended": self.ended}
    info |= {"seconds": time.perf_counter() - self.begin, "history": self.history, "val_history": self.val_history}
    return tensors, info


@patch
def restore(self: _Run, tensors: dict[str, Tensor], info: dict) -> None:
    "Go back to what `state` gave."
    def named(kind): return {k.removeprefix(kind): v for k, v in tensors.items() if k.startswith(kind)}

    self.model.load_state_dict(named("model."))
    self.ema.values, self.ema.n = {k: v.to(self.model.device) for k, v in named("ema.").items()}, info["averaged"]
    moments = {}
    for place, v in named("opt.").items(): moments.setdefault(int(place.split(".")[0]), {})[place.split(".")[1]] = v
    self.opt.load_state_dict({**self.opt.state_dict(), "state": moments})
    self.order.restore(tensors["order"], info["at"])
    for j, g in enumerate(self.noise): g.set_state(tensors[f"noise.{j}"])
    recent = named("recent.")
    self.recent = [{k: v[i] for k, v in recent.items()} for i in range(len(next(iter(recent.values()), ())))]
    self.steps, self.ended, self.begin = info["steps"], info["ended"], time.perf_counter() - info["seconds"]
    self.history, self.val_history = info["history"], info["val_history"]


# %% [markdown]
# ## Now and then
#
# Every so many steps the averaged weights are put in place for a moment: to measure their loss on images that are held out, always with the same noise, and to show them to a function of yours. The state of the training is saved in between, so that whatever happens while you look, the training is safe.

# %%
#| exports
@contextmanager
def _averaged(run: _Run) -> Iterator[Autoencoder]:
    "The model with its averaged weights, in evaluation mode, until the context ends."
    kept = {k: v.detach().clone() for k, v in run.model.state_dict().items()}
    run.ema.copy_to(run.model)
    try: yield run.model.eval()
    finally:
        run.model.load_state_dict(kept)
        run.model.train()


def _held_out(model: Autoencoder, val: Feed, size: int) -> dict[str, float]:
    "The loss of held-out images and its parts: means over images, with the noise of one seed."
    g, sums = rng(0, model.device), {}
    for index in torch.arange(len(val)).split(size):
        loss, parts = model(val[index].to(model.dtype), g)
        for k, v in {"loss": loss.detach(), **parts}.items(): sums[k] = sums.get(k, 0.0) + float(v) * len(index)
    return {k: v / len(val) for k, v in sums.items()}


@dataclass
class _Now:
    "What happens every so many steps: held-out loss, saved state, a callback."
    every: int
    val: Feed | None = None
    callback: Callable[[int, Autoencoder], None] | None = None
    store: RunFolder | None = None

    def __call__(self, run: _Run) -> None:
        if self.val:
            with _averaged(run) as model: measured = _held_out(model, self.val, run.record["batch_size"])
            run.val_history.append({"step": run.steps, **measured})
            if run.board is not None: run.board.add_scalar("val/loss", measured["loss"], run.steps)
        state = run.state()
        if self.store: save_state(self.store, run.steps, *state)
        if not (self.store or self.callback) or run.procs.rank: return
        with _averaged(run) as model:
            model.finish(run.feed.some(2000))
            run.describe()
            if self.store: model.save(self.store.folder)
            if self.callback: self.callback(run.steps, model)


# %% [markdown]
# ## The loop
#
# However the loop ends, the same is done: the averaged weights are put in place, the prior is fitted to their codes, the model is in evaluation mode, and `model.trained` says what was done and how it `ended`: "budget", "diverged" or "interrupted". Then, if there was an error or an interrupt from the keyboard, it goes on its way.

# %%
#| exports
@dataclass
class Fit:
    """What a training did: steps, seconds, images per step, and its losses (a mean for every `log_every` steps).

    `wall`: seconds of this process by part: "start" (all before the first step; `seconds` begin after `prepare`),
    "data", "forward" (the loss), "backward", "update" (clipping, optimiser, average, log), "held out" (with `callback`
    and saved states), "end" (averages in place, prior, saved model). On CUDA, work goes on while Python goes on: a part
    is the time that Python waits in it.
    """
    steps: int
    seconds: float
    batch_size: int
    history: list[dict[str, float]]
    val_history: list[dict[str, float]] = field(default_factory=list)
    wall: dict[str, float] = field(default_factory=dict)


def _loop(run: _Run, now: _Now, total: float, timed: bool, progress: bool) -> None:
    "Train until the budget of `total` steps, or seconds if `timed`, is spent; at least one step."
    name, unit = type(run.model).__name__, "s" if timed else "step"
    gone = lambda: float(run.procs.gather([time.perf_counter() - run.begin])[0])
    with tqdm(total=math.ceil(total), disable=not progress or run.procs.rank > 0, unit=unit, desc=name) as bar:
        while not run.steps or (spent := gone() if timed else run.steps) < total:
            run.step(next(run.order), spent / total if run.steps else 0.0)
            done = min(int(time.perf_counter() - run.begin), bar.total) if timed else run.steps
            bar.update(done - bar.n)
            if run.history and not run.recent: bar.set_postfix(loss=f"{run.history[-1]['loss']:.4g}", refresh=False)
            run.lap("update")
            if run.steps % now.every == 0 and run.steps != total:
                now(run)
                run.lap("held out")
    run.last()
    run.log()
    run.lap("update")
    now(run)
    run.lap("held out")


def _settle(run: _Run, store: RunFolder | None) -> Fit:
    "Averaged weights in place, prior fitted, everything recorded."
    run.log()
    run.ema.copy_to(run.model)
    run.model.progress = 1.0
    run.model.eval().finish(run.feed.some())
    run.describe()
    if run.board is not None: run.board.close()
    if store:
        with nullcontext() if run.ended == "budget" else suppress(OSError):  # a full disk has been reported already
            if run.procs.rank == 0: run.model.save(store.folder)
        store.close()
    run.lap("end")
    return Fit(run.steps, run.at - run.begin, run.record["batch_size"], run.history, run.val_history, run.wall)


# %%
#| exports
def _board(folder: Path, step: int):
    "TensorBoard's writer for a run that is at `step`, or `None` if TensorBoard is not installed."
    if importlib.util.find_spec("tensorboard") is None: return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"), purge_step=step)


def _train(run: _Run, now: _Now, total: float, timed: bool, progress: bool) -> Fit:
    "Take up the run if there is one, train, settle."
    found = run.procs.gather([last_state(now.store) if now.store else None])[0]
    if found: run.restore(*found)
    if now.store: run.board = _board(now.store.folder, run.steps)
    run.lap("start")
    try:
        if not run.params: run.ended = "budget"
        elif not total: run.look()
        elif run.ended != "budget": _loop(run, now, total, timed, progress)
    finally: done = _settle(run, now.store)
    return done


# %% [markdown]
# Everything that can be wrong with the arguments is found before the model is touched.

# %%
#| exports
def _checked(model: Autoencoder, device: torch.device | str | None) -> torch.device:
    "The device (CUDA if there is one), or `ValueError` for it or the model."
    require(isinstance(model, Autoencoder), "model", type(model).__name__, "an Autoencoder")
    made_here = not any(v.is_inference() for v in model.state_dict().values())
    require(made_here, "model", type(model).__name__, "a model that was not made under torch.inference_mode")
    finite = all(bool(v.isfinite().all()) for v in model.state_dict().values())
    require(finite, "model", f"NaN or infinite weights in {type(model).__name__}", "a model with finite weights")
    try: torch.Generator(wanted := torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))
    except (RuntimeError, TypeError): wanted = None
    require(wanted is not None, "device", device, "a device of this machine, like 'cpu'")
    return wanted


def _budget(steps: int | None, minutes: float | None) -> tuple[float, bool]:
    "The budget, and whether it is in seconds rather than steps."
    require(steps is None or minutes is None, "steps", (steps, minutes), "steps or minutes, not both")
    if minutes is not None: return 60 * require_number(minutes, "minutes", 0, above=True), True
    return require_int(2000 if steps is None else steps, "steps", low=0), False


def _record(n: int, world: int, batch_size, lr, ema, clip, seed, log_every, warmup, accumulate, precision) -> dict:
    "The checked settings of a training on `n` images by `world` processes."
    require_choice(precision, "precision", PRECISIONS)
    size, shards = min(require_int(batch_size, "batch_size"), n), world * require_int(accumulate, "accumulate")
    require(size % shards == 0, "batch_size", size, f"a multiple of {shards}, the number of shards")
    return {"batch_size": size, "shards": shards, "ema": _decay(ema), "lr": require_number(lr, "lr", 0, above=True),
            "clip": require_number(clip, "clip", 0, above=True), "warmup": require_number(warmup, "warmup", 0, 1),
            "seed": require_int(seed, "seed", low=0), "log_every": require_int(log_every, "log_every"),
            "precision": precision}  # fmt: skip


def _opened(folder, resume: bool, note: dict | None, model: Autoencoder, feed: Feed, record: dict, **budget):
    "The folder of a run, whose configuration is all that decides about the weights."
    made = {"class": type(model).__name__, "config": model.config}
    kept = {k: v for k, v in record.items() if k != "log_every"}
    config = {"format": 1, "model": made, "data": feed.fingerprint(), "training": {**kept, **budget}}
    return RunFolder(folder, json.loads(json.dumps(config, default=repr)), resume, note)


# %%
#| exports
def fit(model: Autoencoder, x: Tensor | np.ndarray | Dataset, steps: int | None = None, *, minutes: float | None = None,
        batch_size: int = 64, lr: float = 1e-3, ema: float = 0.999, clip: float = 1.0, seed: int = 0,
        log_every: int = 20, progress: bool = True, device: torch.device | str | None = None, warmup: float = 0.05,
        accumulate: int = 1, precision: str = "float32", compile: bool | str = False, val: Tensor | None = None,
        every: int = 250, callback: Callable[[int, Autoencoder], None] | None = None,
        run: str | os.PathLike | None = None, resume: bool = False, note: dict | None = None) -> Fit:
    """Train `model` on images (N, C, H, W) in [-1, 1], N >= 2, for `steps` (2000 by default) or `minutes`.

    `x`: of any floating-point type (batches are converted to the model's), uint8, or streamed (see `Feed`). AdamW
    (torch's defaults but for the rate `lr`, which warms up over a share `warmup` of the budget and falls to 0),
    gradients clipped to norm `clip`, weights averaged with decay `ema`. `accumulate` shards per process and batch;
    `precision` "bf16" and `compile` (True, or a backend) of the networks. Every `every` steps: the loss on images
    `val`, `callback(step, model)` with averaged weights, and the state and model in the folder `run` (with a `note`),
    from which `resume` goes on, bit for bit on the CPU.
    With `steps=0` the model is what it begins as, a Gaussian if it begins there; in `minutes`, at least one step is
    taken, if anything can be trained. Afterwards the averaged weights are in place, the prior is
    fitted, and `model.trained` says what was done; so, too, after an interrupt, and after `FloatingPointError`: a loss
    or gradient that is not finite. `ValueError` for bad arguments, `OSError` if a state cannot be written.
    """
    wanted = _checked(model, device)
    feed, val = Feed(x, model.shape), None if val is None else Feed(val, model.shape)
    total, timed = _budget(steps, minutes)
    procs = _Processes(wanted)
    record = _record(len(feed), procs.world, batch_size, lr, ema, clip, seed, log_every, warmup, accumulate, precision)
    now = _Now(require_int(every, "every"), val, callback)
    if run is not None and procs.rank == 0:
        now.store = _opened(run, resume, note, model, feed, record, **{"seconds" if timed else "steps": total})
    where = procs.engine.device if procs.engine else wanted
    with torch.inference_mode(False), torch.enable_grad(), _tuned(model.to(where), precision, compile):
        since = time.perf_counter()
        model.prepare(feed.to(where).some())
        if now.val: now.val.to(where)
        return _train(_Run(model, feed, procs, record, since), now, total, timed, progress)


# %% [markdown]
# Three models, a few steps each: losses fall, the number of steps is kept. PCA has nothing to step. `wall` says where the time went; its parts add up to the whole, which begins after the start. (What a step of each model costs is timed by `bench.speed.steps`, and beside another library by `bench.speed.training`.)

# %%
x = data.digits()
runs = {}
for name, kind in {"SAMI": SAMI, "DBAE": DBAE, "AE": AE}.items():
    torch.manual_seed(0)
    model = kind((1, 8, 8), 4, width=8)
    runs[name] = fit(model, x, steps=90, log_every=30, progress=False)
for run in runs.values():
    assert run.steps == 90 and run.history[-1]["loss"] < run.history[0]["loss"]
    counted = sum(run.wall.values()) - run.wall["start"]
    assert 0.7 * run.seconds < counted < 1.01 * run.seconds
    assert all(run.wall[part] > 0 for part in ("data", "forward", "backward", "update"))
pca = fit(PCA((1, 8, 8), 4), x, steps=60, progress=False)
test_eq((pca.steps, list(pca.wall)), (0, ["start", "end"]))
Table({name: {f"mean loss to step {h['step']}": h["loss"] for h in run.history}
       for name, run in runs.items()}, "model")


# %% [markdown]
# Training twice with one seed gives the same weights, bit for bit, also inside `torch.no_grad()` or `torch.inference_mode()`; another seed gives others. A budget of minutes is held, and the smallest budget still takes a step.

# %%
def trained_weights(seed=0, **kw):
    torch.manual_seed(0)
    model = AE((1, 8, 8), 4, width=8)
    fit(model, x, seed=seed, progress=False, **kw)
    return torch.cat([v.flatten() for v in model.state_dict().values()])


weights = trained_weights(steps=10)
assert torch.equal(weights, trained_weights(steps=10))
with torch.no_grad(): assert torch.equal(weights, trained_weights(steps=10))
assert not torch.equal(weights, trained_weights(steps=10, seed=1))

model = AE((1, 8, 8), 4, width=8)
with torch.inference_mode(): test_eq(fit(model, x, steps=2, progress=False).steps, 2)
timed = fit(model, x, minutes=0.02, progress=False)
assert timed.seconds >= 1.2 and timed.steps > 2
test_eq(fit(model, x, minutes=1e-9, progress=False).steps, 1)


# %% [markdown]
# ## It goes on
#
# A training that is stopped after thirty steps, here by its callback, and resumed by a new process that knows nothing but the folder, ends with the same weights and the same losses as one that was never stopped. A resumed run that has ended already is only loaded. The tests kill processes at random moments and find the same.

# %%
class Stop(Exception): pass


def stop(step, model):
    if step == 30: raise Stop


def new_model():
    torch.manual_seed(0)
    return SAMI((1, 8, 8), 4, width=8)


how = {"x": data.to_uint8(x), "steps": 50, "val": data.digits("val"), "every": 10,
       "progress": False}
straight = fit(whole := new_model(), **how)
room = tempfile.TemporaryDirectory()
with expect_fail(Stop): fit(new_model(), run=room.name, callback=stop, **how)
test_eq(load(room.name).trained["steps"], 30)  # it holds a model that can be used
again = SAMI((1, 8, 8), 4, width=8)
resumed = fit(again, run=room.name, resume=True, **how)
weights = whole.state_dict()
assert all(torch.equal(v, weights[k]) for k, v in again.state_dict().items())
test_eq(resumed.history, straight.history)
test_eq(resumed.val_history, straight.val_history)
test_eq(fit(new_model(), run=room.name, resume=True, **how).steps, 50)

# %%
with expect_fail(ValueError, contains="training.lr: 0.001 -> 0.002"):
    fit(new_model(), run=room.name, resume=True, lr=0.002, **how)

# %%
#| label: fig-resumed
#| fig-cap: 'The losses of the training that was never stopped, to the bit those of the resumed one. Training losses are means over up to 20 steps; held-out losses are of the averaged weights.'
#| fig-alt: 'A line chart of the loss in nats against the step. Training, a solid line with dots at steps 20, 40 and 50, falls from 28.2 to 24.5; held out, a dashed line with squares at every tenth step, falls from 29.3 to 24.7.'
room.cleanup()
fig, ax = plt.subplots(figsize=(6, 2.4))
kinds = {"training": (straight.history, "o-"),
         "held out": (straight.val_history, "s--")}
for name, (history, style) in kinds.items():
    losses = [h["loss"] for h in history]
    ax.plot([h["step"] for h in history], losses, style, label=name)
ax.set(xlabel="step", ylabel="loss (nats)")
ax.legend();

# %% [markdown]
# Bytes train like the floats they stand for. In bfloat16 and compiled, the loss stays the same to the digits that bfloat16 has, and the weights stay in float32.

# %%
levels = data.to_uint8(x)
ways = {"float32": {}, "bytes": {"x": levels}, "bfloat16": {"precision": "bf16"},
        "compiled": {"compile": "eager"}}
models, losses = {}, {}
for name, way in ways.items():
    models[name] = new_model()
    given = {"x": data.to_float(levels), "steps": 20, "progress": False} | way
    losses[name] = fit(models[name], **given).history[-1]["loss"]
same = models["bytes"].state_dict()
assert all(torch.equal(v, same[k]) for k, v in models["float32"].state_dict().items())
assert losses["bfloat16"] != losses["float32"]
assert all(v.dtype == torch.float32 for v in models["bfloat16"].parameters())
test_close(list(losses.values()), [losses["float32"]] * 4, eps=0.03 * losses["float32"])
Table(losses, "training", "mean loss of 20 steps (nats)", digits=6)


# %% [markdown]
# ## When it goes wrong
#
# A model whose loss, or only whose gradient, breaks after a dozen steps ($0\cdot\sqrt{0}$ is zero, its derivative is not), and one that is interrupted there. All three end with finite weights, the prior of these weights, and a record. (Bad arguments change nothing, neither weights nor mode.)

# %%
class Breaking(AE):
    how, calls = "loss", 0

    def loss(self, x, g):
        self.calls += 1
        loss, parts = super().loss(x, g)
        if self.calls < 13: return loss, parts
        if self.how == "interrupt": raise KeyboardInterrupt
        if self.how == "loss": return loss * float("nan"), parts
        return loss + 0 * (0 * loss).sqrt(), parts


kinds = {"loss": (FloatingPointError, "the loss is not finite at step 12"),
         "gradient": (FloatingPointError, "the gradient is not finite at step 12"),
         "interrupt": (KeyboardInterrupt, "")}
rows = {}
for name, (kind, message) in kinds.items():
    model = Breaking((1, 8, 8), 4, width=8)
    model.how = name
    with expect_fail(kind, contains=message): fit(model, x, steps=30, progress=False)
    assert not model.training
    assert all(v.isfinite().all() for v in model.state_dict().values())
    steps, ended = (model.trained[k] for k in ("steps", "ended"))
    test_eq((steps, ended), (12, "interrupted" if name == "interrupt" else "diverged"))
    test_close(model.prior.mean, model.encode(x).mean(0), eps=1e-5)
    rows[name] = {"raised": kind.__name__, "steps": steps, "ended": ended}
Table(rows, "what breaks")

# %%
#| include: false
bad = {"x": x[:1], "lr": 0.0, "ema": 1.0, "clip": -1.0, "seed": 0.5, "log_every": 0,
       "batch_size": 0, "device": "abc"}
model = AE((1, 8, 8), 4, width=8)
before = {k: v.clone() for k, v in model.state_dict().items()}
for name, value in bad.items():
    with expect_fail(ValueError, contains=f"{name}: expected"):
        fit(model, **{"x": x, "steps": 5, name: value})
with expect_fail(ValueError, contains="not both"): fit(model, x, steps=10, minutes=1)
assert model.training
assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
with expect_fail(ValueError, contains="ema: expected a number in [0, 1), got 1.0"):
    EMA(layer, 1.0)

# %% [markdown]
# ## What can go wrong
#
# * **Weights that were not averaged.** `fit` puts the average in place when it ends. Weights copied out of the model while it trains are the noisy ones.
# * **A time budget is not reproducible**: the number of steps depends on the machine. It is recorded in `model.trained`; use `steps` to repeat a run.
# * **Two short trainings are not one long one.** Every call starts with a fresh optimiser, a fresh average, and a learning rate that falls to zero. Only `resume` goes on, and only with the budget that the run had.
# * **Comparing losses** of models with different weightings. Compare bounds.
