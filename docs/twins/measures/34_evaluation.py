# %% [markdown]
# # Evaluation
#
# > One row per model: reconstructions, what the code knows, and nats on one axis, all on held-out images and with intervals.

# %% [markdown]
# A table of models is only worth its rules. Here every number is on held-out images. Everything that is *chosen* (a probe's strength, the noise of a deterministic code) is chosen on a validation split. Point and sample have separate columns and the same number of network evaluations. And every number is shown with its uncertainty: reconstructions, probes and bounds from resampling the test images, sets of samples from random halves of them. The page checks intervals and probes on data whose answers are known, and then writes the row.
#
# *Borrowed from a later page: [Training](../use/41_training.ipynb), for a model to evaluate.*

# %%
#| default_exp measures.evaluation

# %%
#| exports
import math
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from scoreae.core.checks import check_images, require, require_choice, require_int, rng
from scoreae.foundations.bounds import Bound
from scoreae.measures.disentanglement import report
from scoreae.measures.distributions import Classifier, clf_features, fit_classifier, frechet, kid, precision_recall
from scoreae.measures.distributions import sliced_wasserstein, with_floor
from scoreae.measures.reconstruction import mse, psnr, ssim
from scoreae.measures.straightness import straightening
from scoreae.models.contract import Autoencoder

# %%
#| hide
import json

from fastcore.test import expect_fail, test_close, test_eq
from sklearn.metrics import average_precision_score, roc_auc_score

from scoreae import data
from scoreae.core.pages import Table
from scoreae.models.baselines import AE, PCA
from scoreae.use.training import fit


# %% [markdown]
# ## A number and its error
#
# A measured number is shown with one digit of its standard error; more digits are noise.

# %%
#| exports
class Value(NamedTuple):
    "A measured number, its standard error, and the ends of its 95 % interval."

    mean: float
    stderr: float
    low: float = math.nan
    high: float = math.nan

    def __str__(self) -> str:
        if not math.isfinite(self.stderr): return f"{self.mean:.4g}"
        if self.stderr <= 1e-9 * abs(self.mean): return f"{self.mean:.4g} ± 0"
        digits = max(0, -int(f"{self.stderr:.0e}".split("e")[1]))
        return f"{self.mean:.{digits}f} ± {self.stderr:.{digits}f}"


# %%
test_eq(str(Value(0.012345, 0.00067)), "0.0123 ± 0.0007")
test_eq(str(Value(91.23, 1.4)), "91 ± 1")
test_eq(str(Value(0.5, 0.0096)), "0.50 ± 0.01")
test_eq(str(Value(79.2, 1e-15)), "79.2 ± 0")


# %% [markdown]
# Where does the error come from? The test images are a sample; another sample would give another number. The bootstrap [@efron1979bootstrap] imitates this: draw as many images *from the test images*, with replacement, compute the number again, and repeat. The spread of the repeats is the standard error, their 2.5 % and 97.5 % quantiles are the interval. It works for any number, means and rank statistics alike.

# %%
#| exports
def bootstrap(fn: Callable, *arrays: Tensor | np.ndarray, resamples: int = 200,
              seed: int = 0) -> Value | dict[str, Value]:
    """`fn(*arrays)`, a number or a dictionary of numbers, with standard errors and 95 % percentile intervals.

    All `arrays` have one row per image; the same images are drawn from each. `resamples` >= 2. (Efron 1979.)
    """
    arrays = [np.asarray(a) for a in arrays]
    n, g = len(arrays[0]), rng(seed)
    require(n > 1 and all(len(a) == n for a in arrays), "arrays", [len(a) for a in arrays], "equal lengths, at least 2")
    chosen = (torch.randint(n, (n,), generator=g).numpy() for _ in range(require_int(resamples, "resamples", low=2)))
    draws, whole = [fn(*(a[i] for a in arrays)) for i in chosen], fn(*arrays)

    def value(v, draws):
        return Value(float(v), float(np.std(draws, ddof=1)), *np.quantile(draws, [0.025, 0.975]).tolist())

    if not isinstance(whole, dict): return value(whole, draws)
    return {k: value(v, [d[k] for d in draws]) for k, v in whole.items()}


# %% [markdown]
# For a mean the answer is known: the standard error is $s/\sqrt N$. And of many intervals, each from a fresh sample of 100 numbers, about 95 % must cover the true mean, a little fewer at this size.

# %%
g = rng(0)
v = torch.randn(500, generator=g).double()
value = bootstrap(np.mean, v, resamples=2000)
test_close(value.stderr, v.std() / 500**0.5, eps=0.05 * value.stderr)

intervals = [bootstrap(np.mean, torch.randn(100, generator=g), seed=i)
             for i in range(150)]
covered = np.mean([i.low < 0 < i.high for i in intervals])
assert 0.9 < covered < 0.98
f"{value}; intervals that cover the truth: {100 * covered:.0f} %"


# %% [markdown]
# ## What a code knows
#
# A **probe** is a small model that predicts something known about an image from its code. A linear probe says what can be read off directly, $k$ nearest neighbours and a small network say what is there at all. All are scikit-learn's. The codes are standardised with moments of the training split, the strength of regularisation (or the number of neighbours) is chosen on the validation split, the scores are on the test split.
#
# Class labels are scored by accuracy, by the area under the receiver operating curve and by average precision. The last two rank the images by the predicted probability of a class, *one class against the rest*, and are averaged over the classes. By chance the area is ½, and the average precision is the share of the class.

# %%
#| exports
def _accuracy(y: np.ndarray, p: np.ndarray) -> dict[str, float]:
    "Share of right labels in percent."
    return {"accuracy (%)": 100 * float((p.argmax(1) == y).mean())}


def _ranking(hot: np.ndarray, p: np.ndarray) -> dict[str, float]:
    "AUROC and average precision of every column, averaged; equal scores are one step of the curve."
    order, n = (-p).argsort(0, kind="stable"), np.arange(1, len(p) + 1)[:, None]
    y, s = np.take_along_axis(hot, order, 0), np.take_along_axis(p, order, 0)
    new = np.vstack([np.full_like(s[:1], True, bool), s[1:] != s[:-1]])  # first of equal scores
    first = np.maximum.accumulate(np.where(new, n - 1, 0), 0)
    end = np.minimum.accumulate(np.where(np.roll(new, -1, 0), n - 1, len(p))[::-1], 0)[::-1]
    right, wrong = y.cumsum(0), (1 - y).cumsum(0)
    above, upto = np.take_along_axis(np.vstack([0 * wrong[:1], wrong]), first, 0), np.take_along_axis(wrong, end, 0)
    area = (y * (1 - (above + upto) / 2 / wrong[-1])).sum(0) / right[-1]
    precision = (y * np.take_along_axis(right / n, end, 0)).sum(0) / right[-1]
    return {"AUROC": float(area.mean()), "AP": float(precision.mean())}


def label_scores(y: np.ndarray, p: np.ndarray) -> dict[str, float]:
    "Accuracy in percent, area under the ROC curve, average precision: class indices (N,), probabilities (N, classes)."
    hot = np.eye(p.shape[1])[y]
    there = hot.any(0) & ~hot.all(0)  # a resample may miss a class
    if not there.any(): return _accuracy(y, p) | {"AUROC": math.nan, "AP": math.nan}
    return _accuracy(y, p) | _ranking(hot[:, there], p[:, there])


# %% [markdown]
# A bootstrap ranks hundreds of times, so that all classes are ranked at once here. Against scikit-learn, with and without equal scores, and against chance.

# %%
labels = torch.randint(4, (2000,), generator=g).numpy()
p = torch.rand(2000, 4, generator=g).softmax(1).double().numpy()
hot = np.eye(4)[labels]
for rough in (p, p.round(1)):
    scores = label_scores(labels, rough)
    area = roc_auc_score(hot, rough, average="macro")
    precision = average_precision_score(hot, rough, average="macro")
    test_close([scores["AUROC"], scores["AP"]], [area, precision], eps=1e-12)
test_close([scores["accuracy (%)"] / 100, scores["AUROC"], scores["AP"]],
           [0.25, 0.5, 0.25], eps=0.04)
test_eq(label_scores(labels, hot), {"accuracy (%)": 100.0, "AUROC": 1.0, "AP": 1.0})


# %% [markdown]
# Continuous factors are scored by the share of explained variance $R^2$, Pearson's correlation $r$, and the mean squared error in units of the factor's variance on the training split. Several factors are columns; the scores are averages over columns.

# %%
#| exports
def factor_scores(y: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    "R2, Pearson's r (0 for a constant prediction) and mean squared error of factors (N, K), averaged over the columns."
    error, a, b = ((y - predicted) ** 2).mean(0), y - y.mean(0), predicted - predicted.mean(0)
    spread = np.sqrt((a**2).mean(0) * (b**2).mean(0))
    r = np.where(spread > 0, (a * b).mean(0) / np.where(spread > 0, spread, 1), 0)
    varies = (a**2).mean(0) > 0  # a resample of few images may not
    r2 = 1 - error[varies] / (a**2).mean(0)[varies]
    return {"R2": float(r2.mean()) if varies.any() else math.nan, "r": float(r.mean()), "MSE": float(error.mean())}


# %% [markdown]
# Targets are checked before anything is computed: integers $(N,)$ are labels, floating-point numbers $(N,)$ or $(N,K)$ are factors.

# %%
#| exports
def _check_targets(targets: dict[str, Tensor], lengths: dict[str, int]) -> bool:
    "Whether the targets of the splits are labels rather than factors, or `ValueError` that names the split."
    first = next(iter(targets.values()))
    labels = isinstance(first, Tensor) and not first.is_floating_point()
    kind = "integer labels (N,)" if labels else "floating-point factors (N,) or (N, K)"
    for name, y in targets.items():
        whole = isinstance(y, Tensor) and not (y.is_floating_point() or y.is_complex() or y.dtype == torch.bool)
        fits = whole and y.ndim == 1 if labels else isinstance(y, Tensor) and y.is_floating_point() and y.ndim in (1, 2)
        require(fits and y.shape[1:] == first.shape[1:], name, y, kind)
        require(len(y) == lengths[name] > 1, name, y, f"one target for each of {lengths[name]} images, at least two")
        known = torch.isin(y, first) if labels else y.isfinite()
        require(bool(known.all()), name, y, "labels that the training split has" if labels else "finite factors")
        varies = labels or bool((y.reshape(len(y), -1).amax(0) > y.reshape(len(y), -1).amin(0)).all())
        require(varies, name, y, "factors that vary")
    require(not labels or len(first.unique()) > 1, "train", first, "labels of at least two classes")
    return labels


# %%
#| exports
KINDS = ("linear", "k-NN", "MLP")


def _candidates(kind: str, labels: bool, seed: int) -> list:
    "The probes to choose from, as scikit-learn estimators on standardised codes."
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if kind == "k-NN": found = [(KNeighborsClassifier if labels else KNeighborsRegressor)(k) for k in (1, 5, 15)]
    elif kind == "MLP":
        make = MLPClassifier if labels else MLPRegressor
        found = [make(hidden_layer_sizes=(64,), alpha=a, max_iter=200, random_state=seed) for a in (1e-2, 1.0)]
    else:
        strengths = (0.01, 0.1, 1.0, 10.0)
        found = [LogisticRegression(C=c, max_iter=1000) if labels else Ridge(1 / c) for c in strengths]
    return [make_pipeline(StandardScaler(), f) for f in found]


def _fitted(train: tuple, val: tuple, kind: str, labels: bool, seed: int):
    "The probe with the best score (accuracy or R2) on the validation split."
    from sklearn.exceptions import ConvergenceWarning

    few = min(len(train[0]), 15)
    found = [c for c in _candidates(kind, labels, seed) if getattr(c[-1], "n_neighbors", 1) <= few]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # an unfinished probe is a weaker one; validation decides
        return max((c.fit(*train) for c in found), key=lambda c: c.score(*val))


# %%
#| exports
Split = tuple[Tensor, Tensor]


def probe(train: Split, val: Split, test: Split, kind: str = "linear", scores: Callable | None = None, *, seed: int = 0,
          resamples: int = 200) -> dict[str, Value]:
    """Test scores of a small model that predicts targets from codes: pairs of codes (N, k) and targets.

    Integer targets (N,) are labels and scored by `label_scores`, floating-point ones (N,) or (N, K) are factors, in
    units of their training deviation, and scored by `factor_scores`; or by `scores`. `kind` "linear", "k-NN" or "MLP".
    """
    require_choice(kind, "kind", KINDS)
    splits = {"train": train, "val": val, "test": test}
    for k, (z, _) in splits.items(): require(z.ndim == 2 and bool(z.isfinite().all()), k, z, "finite codes (N, k)")
    labels = _check_targets({k: y for k, (_, y) in splits.items()}, {k: len(z) for k, (z, _) in splits.items()})
    z, y = zip(*[(z.detach().cpu().double().numpy(), y.cpu().numpy()) for z, y in splits.values()], strict=True)
    if labels: y = [np.searchsorted(np.unique(y[0]), v) for v in y]
    else:
        y = [v.reshape(len(v), -1).astype(float) for v in y]
        y = [(v - y[0].mean(0)) / y[0].std(0) for v in y]
    flat = [v[:, 0] if v.shape[1:] == (1,) else v for v in y[:2]]
    best = _fitted((z[0], flat[0]), (z[1], flat[1]), kind, labels, require_int(seed, "seed", low=0))
    out = best.predict_proba(z[2]) if labels else best.predict(z[2]).reshape(y[2].shape)
    return bootstrap(scores or (label_scores if labels else factor_scores), y[2], out, resamples=resamples, seed=seed)


# %% [markdown]
# Three codes with known answers. In the first, a label is the sign of the first axis. In the second it is the sign of the *product* of both axes: no linear probe can tell, the others can. In the third two factors are linear in the code plus noise of variance $s^2$, so that the best probe explains $1/(1+s^2)$ of their variance.

# %%
def three(z, y): return [(z[i : i + 600], y[i : i + 600]) for i in (0, 600, 1200)]


z = torch.randn(1800, 2, generator=g)
easy, crossed = (z[:, 0] > 0).long(), (z[:, 0] * z[:, 1] > 0).long()
turn = torch.tensor([[0.6, 0.8], [0.8, -0.6]])
noisy = z @ turn + 0.5 * torch.randn(1800, 2, generator=g)
assert probe(*three(z, easy))["accuracy (%)"].mean > 97
known = {kind: probe(*three(z, crossed), kind)["accuracy (%)"] for kind in KINDS}
assert known["linear"].mean < 60 and min(known["k-NN"].mean, known["MLP"].mean) > 90
for kind in ("linear", "MLP"):
    got = probe(*three(z, noisy), kind)
    means = [got[k].mean for k in ("R2", "r", "MSE")]
    test_close(means, [0.8, 0.8**0.5, 0.2], eps=0.04)
Table({kind: str(v) for kind, v in known.items()}, "probe",
      "accuracy (%), sign of the product")

# %% [markdown]
# The unit of a code does not matter, and the standardisation knows nothing of the test split: if the codes are shifted there, and only there, the probe is misled. On digits, raw pixels set the mark that a code of few numbers should come near, and noise sets chance.

# %%
stretched = z * torch.tensor([1e3, 1e-3])
test_eq(probe(*three(stretched, crossed), "k-NN"), probe(*three(z, crossed), "k-NN"))
shifted = three(z, easy)
shifted[2] = shifted[2][0] + 10, shifted[2][1]
assert probe(*shifted)["accuracy (%)"].mean < 60

splits = [data.digits(s, labels=True) for s in data.SPLITS]
pixels = probe(*[(x.flatten(1), y) for x, y in splits])
chance = probe(*[(torch.randn(len(x), 8, generator=g), y) for x, y in splits])
assert pixels["accuracy (%)"].mean > 93
assert chance["accuracy (%)"].low < 10 < chance["accuracy (%)"].high
assert chance["AUROC"].low < 0.5 < chance["AUROC"].high
Table({name: {k: str(v) for k, v in scores.items()} for name, scores in
       [("pixels", pixels), ("noise", chance)]}, "linear probe of")


# %% [markdown]
# ## One axis of nats
#
# A deterministic encoder is bounded with a noise of its own, in units of each axis's spread, and a plain decoder with a precision of its own. Both are chosen on the validation split, by the model's `choose_noise` ([The contract](../models/13_contract.ipynb), [Baselines](../models/17_baselines.ipynb)).

# %%
#| exports
def fair_bound(model: Autoencoder, val: Tensor, test: Tensor, levels: int | None = None, n: int = 16,
               seed: int = 0) -> Bound:
    "The bound on log p(x) of test images (N, C, H, W); a code's noise is as is best for the validation images."
    return model.bound(test, levels, seed, n=n, **model.choose_noise(val, levels))


# %%
(x, y), (x_val, y_val), (x_test, y_test) = splits
pca = PCA((1, 8, 8), 8)
fit(pca, x)
b = fair_bound(pca, x_val, x_test, levels=17)
test_eq(b.covers, "log p(x)")
chosen = pca.choose_noise(x_val, 17)
for tau in (0.02, 0.8):
    worse = pca.bound(x_test, 17, **{**chosen, "tau": tau})
    assert b.total > worse.total
b


# %% [markdown]
# ## One row
#
# Rate and distortion have intervals over images, like everything else; the Monte Carlo noise of the bound is part of the spread over images. Every model that can be sampled gets as many network evaluations for its points as for its samples.

# %%
#| exports
def _fidelity(model: Autoencoder, x: Tensor, steps: int, **kw) -> dict[str, Value]:
    "Errors of point and sample reconstructions of images (N, C, H, W), both in `steps` steps."
    point = model.reconstruct(x, "point", steps, seed=kw["seed"])
    draw = model.reconstruct(x, "sample", steps, seed=kw["seed"])
    values = {"MSE point": mse(point, x), "MSE sample": mse(draw, x), "PSNR point (dB)": psnr(point, x)}
    similar = find_spec("torchmetrics") and min(x.shape[2:]) > 2 and x.shape[1] in (1, 3)
    if similar: values["SSIM point"] = ssim(point, x)
    return {k: bootstrap(np.mean, v, **kw) for k, v in values.items()}


def _alignment(z: Tensor, y: Tensor, seed: int, resamples: int) -> dict[str, Value]:
    "Disentanglement scores of codes (N, k) and factors, each beside its mean after random rotations of the codes."
    if len(z) < 40: return {}  # too few rows for the bins of `report`
    number = lambda v: math.nan if v is None else v
    found = report(z, y.reshape(len(y), -1), seed=seed, resamples=resamples)["scores"]
    own = {k: Value(number(v["value"]), number(v["error"])) for k, v in found.items()}
    return own | {f"{k}, rotated": Value(number(v["null"]), number(v["null_std"])) for k, v in found.items()}


def _knowledge(model: Autoencoder, splits: dict[str, Split], **kw) -> dict[str, Value]:
    "Scores of the three probes on the model's codes; the ranking scores of the linear one only."
    pairs = [(model.encode(x), y) for x, y in splits.values()]
    linear = probe(*pairs, **kw)
    if "R2" in linear:
        found = {"linear": linear, **{kind: probe(*pairs, kind, **kw) for kind in KINDS[1:]}}
        probes = {f"{kind} {k}": v for kind, scores in found.items() for k, v in scores.items()}
        return probes | _alignment(*pairs[2], **kw)
    rest = {f"{kind} (%)": probe(*pairs, kind, _accuracy, **kw)["accuracy (%)"] for kind in KINDS[1:]}
    return {"linear (%)": linear["accuracy (%)"], **rest, "AUROC": linear["AUROC"], "AP": linear["AP"]}


def _likelihood(b: Bound, dims: int, **kw) -> dict[str, Value]:
    "Bits per dimension, or without grey levels the bound in nats, and its two parts."
    mean = {k: torch.stack([r[k] for r in b.repeats]).mean(0) for k in b.repeats[0]}
    rate = mean.pop("rate")
    distortion = sum(mean.values())
    cost = rate + distortion
    whole = {"bits/dim": cost / (dims * math.log(2))} if b.levels else {"bound (nats)": -cost}
    parts = {"rate (nats)": rate, "distortion (nats)": distortion}
    return {k: bootstrap(np.mean, v, **kw) for k, v in (whole | parts).items()}


# %% [markdown]
# Samples of the model are compared with the test images as *sets*, by the measures of [Distributions](31_distributions.ipynb), each beside its floor, which is what other real images get: the sliced Wasserstein distance of pixels, and, in the features of a small classifier, the Fréchet distance (FD-clf), KID, precision and recall. The classifier is trained on the labels, or given, so that a table of models has one judge. And where clips are given, their codes say how straight the model sees motion ([Straightness](33_straightness.ipynb)).

# %%
#| exports
def _generation(model: Autoencoder, x: Tensor, judge: Classifier | None, seed: int) -> dict[str, Value]:
    "Distances of samples from test images (N, C, H, W), and of test images from each other (floor), at N / 2 of each."
    drawn, found = model.sample(len(x), seed=seed).to(x), {"SW": (sliced_wasserstein, x.flatten(1))}
    sets = {"SW": drawn.flatten(1)}
    if judge is not None:
        real = clf_features(judge, x)
        found |= {"FD-clf": (frechet, real), "KID-clf": (lambda a, b: kid(a, b)[0], real)}
        sets |= dict.fromkeys(("FD-clf", "KID-clf"), clf_features(judge, drawn))
    row = {}
    for name, (metric, real) in found.items():
        f = with_floor(metric, real, sets[name], seed=seed)
        row |= {name: Value(f.value, f.spread), f"{name} floor": Value(f.floor, f.floor_spread)}
    if judge is None: return row
    near = precision_recall(found["FD-clf"][1], sets["FD-clf"])
    return row | {"precision": near.precision, "recall": near.recall}


def _straightness(model: Autoencoder, clips: Tensor | None, seed: int) -> dict[str, Value]:
    "Curvature in degrees of the codes of clips (N, T, C, H, W), and its difference to that of the pixels."
    if clips is None: return {}
    codes = model.encode(clips.flatten(0, 1)).unflatten(0, clips.shape[:2])
    s = straightening(codes, clips, seed=seed)
    less = Value(s["difference"], (s["interval"][1] - s["interval"][0]) / 3.92, *s["interval"])
    return {"curvature (°)": s["degrees"], "curvature - pixels (°)": less}


# %%
#| exports
def _judge(judge: Classifier | None, train: Split, images: int) -> Classifier | None:
    "The classifier given, or one trained on labelled images; none without labels, or for few `images`."
    if images < 40: return None  # their halves are too small for the blocks of `kid`
    x, y = train
    labelled = y is not None and not y.is_floating_point()
    return fit_classifier(x, y.unique(return_inverse=True)[1], seed=0) if judge is None and labelled else judge


def _check_extras(model: Autoencoder, test: Tensor, judge: Classifier | None, clips: Tensor | None) -> None:
    "`ValueError` for what would otherwise be found only after the long part of an evaluation."
    require(len(test) > 1, "test", test, "at least two images")
    require(judge is None or isinstance(judge, Classifier), "judge", judge, "a Classifier")
    if clips is None: return
    fits = isinstance(clips, Tensor) and clips.ndim == 5 and clips.shape[1] >= 3
    require(fits, "clips", clips, "clips (N, T, C, H, W) of at least three frames")
    check_images(clips.flatten(0, 1), model.shape, "clips")


def evaluate(model: Autoencoder, train: Split | Tensor, val: Split | Tensor, test: Split | Tensor,
             levels: int | None = None, name: str = "", *, judge: Classifier | None = None, clips: Tensor | None = None,
             steps: int = 25, seed: int = 0, resamples: int = 200) -> dict:
    """One row of a table of models, all on the test split: `Value`s, and what the model is.

    A split is a pair of images (N, C, H, W) in [-1, 1] and targets (labels or factors, as in `probe`), or images alone.
    MSE, PSNR, SSIM (with torchmetrics) on the [0, 1] scale of reconstructions in `steps` steps, probes of the
    targets, the bound in bits per dimension with `levels` of grey, else in nats per image, and samples as a set, in the
    features of `judge` (trained on labels if there are any), for 40 test images or more. `clips` (N, T, C, H, W) add
    straightness.
    """
    given = {"train": train, "val": val, "test": test}
    splits = {k: s if isinstance(s, tuple | list) else (s, None) for k, s in given.items()}
    for k, (x, _) in splits.items(): check_images(x, model.shape, k)
    _check_extras(model, splits["test"][0], judge, clips)
    known = all(y is not None for _, y in splits.values())
    if known: _check_targets({k: y for k, (_, y) in splits.items()}, {k: len(x) for k, (x, _) in splits.items()})
    kw = {"seed": require_int(seed, "seed", low=0), "resamples": require_int(resamples, "resamples", low=2)}
    x_val, x = splits["val"][0], splits["test"][0]
    return {
        "model": name or type(model).__name__,
        **_fidelity(model, x, steps, **kw),
        **(_knowledge(model, splits, **kw) if known else {}),
        **_likelihood(fair_bound(model, x_val, x, levels, seed=seed), x[0].numel(), **kw),
        **_generation(model, x, _judge(judge, splits["train"], len(x)), seed),
        **_straightness(model, clips, seed),
        "parameters": sum(p.numel() for p in model.parameters()),
        **{k: model.trained.get(k, 0) for k in ("steps", "seconds")},
        "images": len(x), "seed": seed,
    }  # fmt: skip


# %%
torch.manual_seed(0)
ae = AE((1, 8, 8), 8, width=8)
fit(ae, x, steps=100, progress=False)
judge = fit_classifier(*splits[0])
rows = [evaluate(m, *splits, levels=17, judge=judge) for m in (pca, ae)]
row = rows[0]
test_eq(row["MSE point"], row["MSE sample"])  # a plain decoder has nothing to sample
test_close(row["bits/dim"].mean, b.bits_per_dim, eps=1e-9)
cost = row["rate (nats)"].mean + row["distortion (nats)"].mean
test_close(cost, -b.total, eps=1e-9)
assert 80 < row["linear (%)"].mean < 100
assert row["FD-clf"].mean > row["FD-clf floor"].mean > 0 and 0 <= row["recall"] <= 1

# %%
with expect_fail(ValueError, contains="test: expected one target"):
    evaluate(pca, *splits[:2], (x_test, y_test[:3]))
with expect_fail(ValueError, contains="val: expected integer labels"):
    evaluate(pca, splits[0], (x_val, y_val.float()), splits[2])


# %% [markdown]
# With factors instead of labels, the row has the scores of the probes, and of [Disentanglement](32_disentanglement.ipynb): whether single axes of the code follow single factors. Each of these stands beside what it is after random rotations of the code. Here a bright spot moves along the two sides of an image. Two principal components know where it is, but as for axes, they are a rotation themselves.

# %%
def spots(n, place=None):
    place = 4 + 6 * torch.rand(n, 2, generator=g) if place is None else place
    at = torch.arange(14.0)
    row, column = (torch.exp(-((at - p[:, None]) ** 2) / 18) for p in place.T)
    return 2 * (row[:, None, :, None] * column[:, None, None, :]) - 1, place


parts = [spots(n) for n in (400, 100, 200)]
spot = PCA((1, 14, 14), 2)
fit(spot, parts[0][0])
right = torch.stack([torch.linspace(4, 9, 9), torch.full((9,), 6.0)], 1)
walk = spots(9, right)[0][None].expand(2, -1, -1, -1, -1)  # a spot that moves
row = evaluate(spot, *parts, resamples=20, clips=walk)
assert row["SW floor"].mean < row["SW"].mean < 3 * row["SW floor"].mean
assert row["curvature (°)"] < 30
assert row["linear R2"].mean > 0.95
assert row["bound (nats)"].low < row["bound (nats)"].mean
names = ("linear R2", "linear r", "k-NN R2", "mig", "mig, rotated", "bound (nats)")
Table({k: str(row[k]) for k in names}, "score of two components")


# %% [markdown]
# ## Tables
#
# Rows become JSON, a table ([Pages](../core/91_pages.ipynb)), or a data frame for those who have pandas.

# %%
#| exports
def to_json(rows: Sequence[dict]) -> list[dict]:
    "Rows for `json.dumps`: a `Value` becomes a list of its four numbers; what is not finite becomes None."
    plain = lambda v: [x if math.isfinite(x) else None for x in v] if isinstance(v, Value) else v
    return [{k: plain(v) for k, v in row.items()} for row in rows]


def from_json(rows: Sequence[dict]) -> list[dict]:
    "What `to_json` wrote, as rows with `Value`s."
    value = lambda v: Value(*(math.nan if x is None else x for x in v)) if isinstance(v, list) else v
    return [{k: value(v) for k, v in row.items()} for row in rows]


def to_frame(rows: Sequence[dict]):
    "Rows as a pandas data frame, means and standard errors in columns of their own; needs pandas."
    import pandas

    split = lambda k, v: {k: v.mean, f"{k} stderr": v.stderr} if isinstance(v, Value) else {k: v}
    return pandas.DataFrame([{a: b for k, v in row.items() for a, b in split(k, v).items()} for row in rows])


# %%
test_eq(from_json(json.loads(json.dumps(to_json(rows), allow_nan=False))), rows)
last = repr(Table([{"a": 1}, {"a": 2, "b": Value(1.0, 0.1)}])).splitlines()[-1]
test_eq(last, "| 2 | 1.0 ± 0.1 |")


def columns(*names):
    shown = lambda v: f"{v:.3g}" if isinstance(v, float) else str(v)
    return Table({k: {r["model"]: shown(r[k]) for r in rows} for k in names}, "score")


columns("MSE point", "PSNR point (dB)", "SSIM point", "linear (%)", "k-NN (%)",
        "MLP (%)", "AUROC", "AP", "bits/dim", "rate (nats)", "distortion (nats)",
        "parameters")

# %%
columns("SW", "SW floor", "FD-clf", "FD-clf floor", "KID-clf", "KID-clf floor",
        "precision", "recall")

# %% [markdown]
# ## What can go wrong
#
# * **Choosing on the test split.** Even one number, like $\tau$ or a probe's strength, makes the result a little too good.
# * **Intervals over images say nothing about training.** Another seed gives another model; compare models over several.
# * **Overlapping intervals of two models.** They saw the same test images, so their errors go together; compare the differences image by image.
