# %% [markdown]
# # Disentanglement
#
# > Does each axis of a code follow one factor? Seven published measures on two matrices, with the control that they need.

# %% [markdown]
# A code is called *disentangled* when each of its axes follows one generative factor. Papers measure this in different ways, and their numbers are comparable only at equal binning, regressor and sample size. This page defines the scores on two matrices, codes $z$ $(N,k)$ and factors $v$ $(N,K)$, so that they apply to any model, and works out their values by hand on small examples. Most reward alignment with the axes, which a rotation destroys without losing information. So every score is reported next to its value after random rotations of the same codes.

# %%
#| default_exp measures.disentanglement

# %%
#| exports
import warnings
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from scoreae.core.checks import require, require_choice, require_int, rng

# %%
#| hide
import json

import matplotlib.pyplot as plt
from fastcore.test import expect_fail, test_close, test_eq
from sklearn.metrics import mutual_info_score, roc_auc_score

from scoreae.core.pages import Table, paper

# %%
#| hide
paper()


# %% [markdown]
# ## What comes in
#
# Codes and factors are finite numeric matrices, numpy or torch, of equal length. A factor that never changes is an error. A factor is *discrete* if it has at most 64 values, each seen twice or more on average; else it is *continuous*. `discrete=[True, False, ...]` overrules this. Where a score needs classes, codes and continuous factors are cut into 20 bins (`bins`) of equal width, as in the reference library of @locatello2019challenging.

# %%
#| exports
def _matrix(a, name: str) -> np.ndarray:
    "`a` as float64 (N, columns), or `ValueError` unless it is a finite numeric matrix with at least two rows."
    ok = isinstance(a, np.ndarray | Tensor) and a.ndim == 2 and a.shape[0] >= 2 and a.shape[1] >= 1
    require(ok, name, a, "a numpy or torch matrix (N, columns) with N >= 2")
    a = a.detach().cpu() if isinstance(a, Tensor) else a
    numeric = not a.is_complex() if isinstance(a, Tensor) else a.dtype.kind in "fiub"
    require(numeric, name, a, "real numbers")
    a = np.asarray(a.double() if isinstance(a, Tensor) else a, dtype=np.float64)
    require(bool(np.isfinite(a).all()), name, "NaN or infinite values", "finite values")
    return a


def _data(codes, factors, names: Sequence[str] | None = None) -> tuple[np.ndarray, np.ndarray]:
    "Codes (N, k) and factors (N, K) as float64, or `ValueError`: equal lengths, and every factor varies."
    z, v = _matrix(codes, "codes"), _matrix(factors, "factors")
    require(len(z) == len(v), "factors", factors, f"{len(z)} rows, as many as the codes")
    names = [f"factor {j}" for j in range(v.shape[1])] if names is None else list(names)
    different = len(set(names)) == len(names) == v.shape[1]
    require(different, "names", names, f"{v.shape[1]} different names, one per factor")
    for name, column in zip(names, v.T, strict=True):
        require(np.ptp(column) > 0, "factors", f"constant {name}", "factors that take more than one value")
    return z, v


def _kinds(v: np.ndarray, discrete: Sequence[bool] | None) -> np.ndarray:
    "Which factors are discrete (K,): as told, or at most 64 values, each seen twice or more on average."
    levels = np.array([len(np.unique(column)) for column in v.T])
    if discrete is None: return (levels <= 64) & (2 * levels <= len(v))
    require(len(discrete) == len(levels), "discrete", discrete, f"{len(levels)} booleans, one per factor")
    return np.array(discrete, dtype=bool)


def _bin(x: np.ndarray, bins: int) -> np.ndarray:
    "Every column in equal-width bins between its least and largest value: integers in [0, bins)."
    require_int(bins, "bins", low=2)
    width = np.ptp(x, 0)
    return np.minimum((x - x.min(0)) / np.where(width > 0, width, 1) * bins, bins - 1).astype(int)


def _classes(v: np.ndarray, bins: int, discrete: Sequence[bool] | None) -> np.ndarray:
    "Factors as class numbers (N, K): the values of a discrete factor, the bins of a continuous one."
    columns = zip(v.T, _bin(v, bins).T, _kinds(v, discrete), strict=True)
    return np.stack([np.unique(c, return_inverse=True)[1] if d else b for c, b, d in columns], axis=1)


# %%
with expect_fail(ValueError, contains="constant factor 1"):
    _data(np.eye(3), np.array([[0, 1], [1, 1], [2, 1]]))
with expect_fail(ValueError, contains="factors: expected 3 rows"):
    _data(np.eye(3), np.eye(2))
with expect_fail(ValueError, contains="codes: expected finite values"):
    _data(np.full((2, 2), np.nan), np.eye(2))


# %% [markdown]
# ## Mutual information of every axis with every factor
#
# Two scores start from one matrix. With $p$ the observed frequencies of (bin of $z_i$, class of $v_j$),
#
# $$I(z_i;v_j)=\sum_{a,b}p(a,b)\,\log\frac{p(a,b)}{p(a)\,p(b)}\quad\text{nats},$$ {#eq-dis-mi}
#
# and $H(v_j)=I(v_j;v_j)$ is the entropy of a factor. This estimate is never negative: for unrelated columns with $B_z$ and $B_v$ filled bins, $2NI$ has nearly a $\chi^2$ law with $(B_z-1)(B_v-1)$ degrees of freedom, so $I\approx(B_z-1)(B_v-1)/2N$. An unrelated second-best axis at this floor costs even a perfect code some MIG, so compare only at equal $N$. The cell checks against scikit-learn, against the Gaussian formula $-\tfrac12\log(1-\text{correlation}^2)$, here $\tfrac12\log2$, and this floor.

# %%
#| exports
def _information(a: np.ndarray, b: np.ndarray) -> float:
    "Mutual information of two columns of class numbers, in nats, from their joint frequencies."
    wide = b.max() + 1
    joint = np.bincount(a * wide + b, minlength=(a.max() + 1) * wide).reshape(-1, wide) / len(a)
    apart = joint.sum(1, keepdims=True) * joint.sum(0)
    information = (joint[joint > 0] * np.log(joint[joint > 0] / apart[joint > 0])).sum()
    return float(information) if information > 1e-12 else 0.0  # rounding is not information


def mutual_information(codes, factors, bins: int = 20, discrete: Sequence[bool] | None = None) -> np.ndarray:
    """I(z_i; v_j) in nats, (k, K), for codes (N, k) in `bins` equal-width bins and factors (N, K).

    Discrete factors keep their values, continuous ones are binned alike. A dead axis has zero.
    """
    z, v = _data(codes, factors)
    classes = _classes(v, bins, discrete)
    return np.array([[_information(a, b) for b in classes.T] for a in _bin(z, bins).T])


# %%
test_eq(_bin(np.array([[0.0], [0.24], [0.26], [1.0]]), 4)[:, 0], [0, 0, 1, 3])
test_eq(_kinds(np.c_[np.arange(8) % 4, np.linspace(0, 1, 8)], None), [True, False])

r = np.random.default_rng(0)
v = r.normal(size=(50_000, 2))
z = np.c_[v[:, 0] + v[:, 1], r.normal(size=50_000)]
info = mutual_information(z, v)
want = mutual_info_score(_bin(z, 20)[:, 0], _bin(v, 20)[:, 1])
test_close(info[0, 1], want, eps=1e-9)
test_close(info[0], np.log(2) / 2, eps=0.02)

apart = r.uniform(size=(5_000, 20)), r.uniform(size=(5_000, 20))
floor = mutual_information(*apart).mean()
test_close(floor, 19**2 / (2 * 5_000), eps=0.002)
rows = {"the sum of both factors": info[0, 0],
        "an unrelated axis, N = 50 000": info[1, 0]}
Table(rows | {"an unrelated axis, N = 5000": floor}, "code", "I with a factor [nats]")

# %% [markdown]
# ## A world small enough for pencil and paper
#
# Two independent fair bits $v_1,v_2$. Five codes: the bits themselves; *rotated* by 45°, $(v_1+v_2,\,v_1-v_2)$; the first bit *twice*; the bits and a *dead* axis; $v_1$ and $\mathrm{or}=\max(v_1,v_2)$.
#
# A bit knows itself, $I=\log2$. The sum is 1 half of the time, and then says nothing about $v_1$; otherwise it gives it away: $I=\tfrac12\log2$, and so for the difference. The or is 1 in three of four cases, $H(\mathrm{or})=2\log2-\tfrac34\log3$, and undecided only if $v_1=0$: $I(\mathrm{or};v_1)=H(\mathrm{or})-\tfrac12\log2=0.311\log2$.

# %%
bits = np.tile([[0, 0], [0, 1], [1, 0], [1, 1]], (50, 1))
v1, v2 = bits.T
WORLD = {
    "perfect": bits,
    "rotated": np.c_[v1 + v2, v1 - v2],
    "twice": np.c_[v1, v2, v1],
    "dead": np.c_[v1, v2, 0 * v1],
    "or": np.c_[v1, np.maximum(v1, v2)],
}
info = {name: mutual_information(z, bits) / np.log(2) for name, z in WORLD.items()}
test_close(info["perfect"], np.eye(2), eps=1e-9)
test_close(info["rotated"], np.full((2, 2), 0.5), eps=1e-9)
shared = 1.5 - 0.75 * np.log2(3)
test_close(info["or"], [[1, 0], [shared, shared]], eps=1e-9)
info["or"].round(3)


# %% [markdown]
# ## Mutual information gap
#
# For each factor, the best axis should know it and no other should [@chen2018isolating]. With $z_{(1)},z_{(2)}$ the two axes that know most about $v_j$,
#
# $$\mathrm{MIG}_j=\frac{I(z_{(1)};v_j)-I(z_{(2)};v_j)}{H(v_j)} ,$$ {#eq-dis-mig}
#
# and the score is the mean over $j$. A lone axis competes with chance, here and below. By hand: perfect 1, rotated 0; of the doubled bit's gaps one is 0; the dead axis changes nothing; the or gives $1-0.311$ and $0.311$.

# %%
#| exports
def _gap(scores: np.ndarray, chance: float = 0.0) -> np.ndarray:
    "Best minus second-best row of every column: (k, K) to (K,). A lone row competes with `chance`."
    if len(scores) == 1: scores = np.vstack([scores, np.full_like(scores, chance)])
    scores = np.sort(scores, axis=0)
    return scores[-1] - scores[-2]


def mig(codes, factors, bins: int = 20, discrete: Sequence[bool] | None = None) -> np.ndarray:
    "Mutual information gap of every factor (K,), at most 1; the score is its mean (Chen et al. 2018)."
    z, v = _data(codes, factors)
    classes = _classes(v, bins, discrete)
    return _gap(mutual_information(z, v, bins, discrete)) / [_information(c, c) for c in classes.T]


# %%
hand = {"perfect": [1, 1], "rotated": [0, 0], "twice": [0, 1], "dead": [1, 1]}
for name, want in hand.items(): test_close(mig(WORLD[name], bits), want, eps=1e-9)
test_close(mig(WORLD["or"], bits), [1 - shared, shared], eps=1e-9)
test_close(mig(bits[:, :1], bits), [1, 0], eps=1e-9)


# %% [markdown]
# ## Modularity
#
# The other direction: each axis should know one factor only [@ridgeway2018modularity]. Let $m_i=\max_jI(z_i;v_j)$, reached at $j^\ast$. Then
#
# $$\mathrm{modularity}_i=1-\frac{\sum_{j\ne j^\ast}I(z_i;v_j)^2}{(K-1)\,m_i^2} ,$$ {#eq-dis-modularity}
#
# and the score is the mean over axes, dead ones counting 0. It does not mind a factor spread over several axes: *twice* is perfect. With one factor it is undefined (`nan`), like every score below that asks how something is shared.

# %%
#| exports
def modularity(codes, factors, bins: int = 20, discrete: Sequence[bool] | None = None) -> np.ndarray:
    "Modularity of every axis (k,), in [0, 1], 0 if dead; the score is its mean (Ridgeway & Mozer 2018)."
    squared = mutual_information(codes, factors, bins, discrete) ** 2
    best, others = squared.max(1), squared.shape[1] - 1
    if not others: return np.full(len(squared), np.nan)
    known = np.where(best > 0, best, 1)
    return np.where(best > 0, 1 - (squared.sum(1) - best) / (others * known), 0.0)


# %%
hand = {"perfect": [1, 1], "rotated": [0, 0], "twice": [1, 1, 1], "dead": [1, 1, 0],
        "or": [1, 0]}
for name, want in hand.items():
    test_close(modularity(WORLD[name], bits), want, eps=1e-9)


# %% [markdown]
# ## Separated attribute predictability
#
# SAP takes the gap of the best two axes in how well one axis *alone* predicts the factor linearly [@kumar2018dip]: squared correlation for a continuous factor; for a discrete one test accuracy of a linear support vector machine, with the reference library's settings ($C=0.01$, balanced classes), on standardised codes and half of the rows. A dead axis counts as chance: 0, or one over the number of classes.
#
# Rotate two uncorrelated factors of equal variance by an angle $a$: the squared correlations of a factor with the axes are $\cos^2a$ and $\sin^2a$, so SAP is $\cos2a$. For the bits the accuracies are 1 and ½.

# %%
#| exports
def _split(y: np.ndarray, every: int, g: torch.Generator) -> np.ndarray:
    "A mask (N,) of test rows: at random, one in `every` of each value or neighbourhood of `y`."
    order = np.lexsort((torch.rand(len(y), generator=g).numpy(), y))
    test = np.zeros(len(y), dtype=bool)
    test[order[every - 1 :: every]] = True
    return test


def _predictability(z: np.ndarray, y: np.ndarray, discrete: bool, g: torch.Generator) -> np.ndarray:
    "How well each standardised axis alone predicts `y` (k,): squared correlation, or accuracy of a linear SVM."
    if not discrete: return np.square(z.T @ (y - y.mean()) / len(y)) / y.var()
    from sklearn.svm import LinearSVC

    test, alone = _split(y, 2, g), np.full(z.shape[1], 1 / len(np.unique(y)))
    if np.ptp(y[~test]) == 0: return alone
    for i in np.flatnonzero(z.any(0)):
        svm = LinearSVC(C=0.01, class_weight="balanced", dual=False).fit(z[~test, i : i + 1], y[~test])
        alone[i] = svm.score(z[test, i : i + 1], y[test])
    return alone


def _standard(z: np.ndarray) -> np.ndarray:
    "Every column with mean 0 and variance 1; a constant column becomes 0."
    spread = np.where(np.ptp(z, 0) > 0, z.std(0), np.inf)
    return (z - z.mean(0)) / np.where(spread > 0, spread, np.inf)


def sap(codes, factors, discrete: Sequence[bool] | None = None, seed: int | torch.Generator = 0) -> np.ndarray:
    "Separated attribute predictability of every factor (K,), at most 1; the score is its mean (Kumar et al. 2018)."
    z, v = _data(codes, factors)
    kinds, g, gaps = _kinds(v, discrete), rng(seed), []
    for y, d in zip(v.T, kinds, strict=True):
        alone = _predictability(_standard(z), np.unique(y, return_inverse=True)[1] if d else y, d, g)
        gaps.append(_gap(alone[:, None], 1 / len(np.unique(y)) if d else 0.0)[0])
    return np.array(gaps)


# %%
def rotate(v, degrees):
    a = np.deg2rad(degrees)
    return v @ np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])


v = r.uniform(-1, 1, size=(2000, 2))
v = np.linalg.qr(v - v.mean(0))[0]  # uncorrelated and of equal variance, exactly
for degrees in (0, 10, 30, 45):
    want = np.full(2, np.cos(2 * np.deg2rad(degrees)))
    test_close(sap(rotate(v, degrees), v), want, eps=1e-9)
test_close(sap(bits, bits), [0.5, 0.5], eps=0.05)


# %% [markdown]
# ## Disentanglement, completeness, informativeness
#
# DCI trains one regressor per factor on all axes, and reads how important each axis was, $W_{ij}\ge0$ [@eastwood2018dci]. Normalise a row, $p_j=W_{ij}/\sum_jW_{ij}$: axis $i$ is disentangled if its use is concentrated on one factor. Normalise a column, $q_i=W_{ij}/\sum_iW_{ij}$: factor $j$ is completely in one axis if that is concentrated.
#
# $$\mathrm{dis}_i=1+\frac1{\log K}\sum_jp_j\log p_j,\qquad \mathrm{com}_j=1+\frac1{\log k}\sum_iq_i\log q_i ,$$ {#eq-dis-dci}
#
# averaged with weights $\sum_jW_{ij}$ and $\sum_iW_{ij}$. *Informativeness* is the share of the best constant's error that the regressor removes on unseen rows (may be negative): $R^2$, or for a discrete factor $1-$ (error rate)/(error rate of the most frequent value).
#
# **The regressor is part of the definition**, and the result names it. `"forest"` is a random forest of 20 trees, `"boosted"` scikit-learn's gradient boosting (for discrete factors the classifier of the reference library).
#
# By hand: $\binom{0.9\ \ 0.1}{0.1\ \ 0.9}$ gives $1-H(0.1)/\log2=0.531$ twice. A forest splits the doubled bit's importance between its copies: each axis serves one factor, disentanglement 1; one factor is complete, the other has $1-\log2/\log3=0.369$, so completeness is 0.685. Pure noise serves all factors and informs about none.

# %%
#| exports
def _concentration(weight: np.ndarray) -> float:
    "One minus the entropy of every row in units of log(columns), averaged with the rows' sums as weights."
    total = weight.sum(1)
    if weight.shape[1] == 1: return float("nan")
    if not total.any(): return 0.0
    p = weight[total > 0] / total[total > 0, None]
    entropy = -(p * np.log(np.where(p > 0, p, 1))).sum(1) / np.log(weight.shape[1])
    return float(np.average(1 - entropy, weights=total[total > 0]))


def _trees(kind: str, discrete: bool, seed: int):
    "An untrained regressor or classifier of scikit-learn with feature importances."
    from sklearn import ensemble

    require_choice(kind, "regressor", ("forest", "boosted"))
    name = {"forest": "RandomForest", "boosted": "GradientBoosting"}[kind] + ("Classifier" if discrete else "Regressor")
    settings = {"n_estimators": 20, "min_samples_leaf": 5, "max_features": None} if kind == "forest" else {}
    return getattr(ensemble, name)(random_state=seed, **settings)


def dci(codes, factors, regressor: str = "forest", discrete: Sequence[bool] | None = None, seed: int = 0) -> dict:
    """Disentanglement and completeness in [0, 1], informativeness at most 1 (Eastwood & Williams 2018).

    Trained on two thirds of the rows. Also: importance (k, K), informative (K,), the regressor's name and the sizes.
    """
    z, v = _data(codes, factors)
    g, importance, informative, name = rng(seed), [], [], set()
    for y, d in zip(v.T, _kinds(v, discrete), strict=True):
        y = np.unique(y, return_inverse=True)[1] if d else y
        test = _split(y, 3, g)
        model = _trees(regressor, d, int(torch.randint(2**31, (), generator=g))).fit(z[~test], y[~test])
        constant = np.bincount(y[~test]).argmax() if d else y[~test].mean()
        error = [p != y[test] if d else np.square(p - y[test]) for p in (constant, model.predict(z[test]))]
        importance.append(model.feature_importances_)
        informative.append(1 - error[1].sum() / error[0].sum() if error[0].any() else float("nan"))
        name.add(type(model).__name__)
    importance = np.nan_to_num(np.stack(importance, axis=1))
    return {
        "disentanglement": _concentration(importance), "completeness": _concentration(importance.T),
        "informativeness": float(np.mean(informative)), "informative": np.array(informative), "importance": importance,
        "regressor": " and ".join(sorted(name)), "train": int((~test).sum()), "test": int(test.sum()),
    }  # fmt: skip


# %%
test_close(_concentration(np.array([[0.9, 0.1], [0.1, 0.9]])), 0.5310, eps=1e-4)
twice = dci(WORLD["twice"], bits)
test_close(twice["disentanglement"], 1, eps=1e-9)
test_close(twice["completeness"], 1 - np.log(2) / np.log(3) / 2, eps=0.05)
test_close(twice["informativeness"], 1, eps=1e-9)
noise = dci(r.normal(size=(len(v), 2)), v)
assert noise["disentanglement"] < 0.02 and noise["informativeness"] < 0.05
test_eq(twice["regressor"], "RandomForestClassifier")
scores = ("disentanglement", "completeness", "informativeness")
Table({name: {k: x[k] for k in scores} for name, x in
       [("the first bit twice", twice), ("noise", noise)]}, "code")


# %% [markdown]
# ## FactorVAE score
#
# Hold one factor fixed, let the others vary: the axis that follows it stops moving [@kim2018factorvae]. Draw a batch of codes with one value of $v_j$; vote for the axis with the smallest ratio of its variance in the batch to its overall variance (constant axes do not vote). Train a table axis → factor by majority, and score its accuracy on new votes. Chance is $1/K$.
#
# `draw(j, n, size, g)` returns `n` such batches, `(n, size, k)`: write it with a renderer, or let `group_sampler` group a pool of codes by value or bin, leaving out values that occur once.
#
# Two independent factors, equal variances, the code rotated by $a<45°$: with $v_1$ fixed, the ratios are $\sin^2a$ and $\cos^2a$. The first is smaller until 45°, so **the score stays 1**, and is chance at 45°.

# %%
#| exports
def group_sampler(codes, factors, bins: int = 20, discrete: Sequence[bool] | None = None) -> Callable:
    "A `draw` for `factor_vae`: rows of the pool with one value of factor j, with replacement."
    z, v = _data(codes, factors)
    classes = _classes(v, bins, discrete)
    order = classes.argsort(0, kind="stable")
    ranked = np.take_along_axis(classes, order, axis=0)

    def draw(j: int, n: int, size: int, g: torch.Generator) -> np.ndarray:
        "`n` batches of `size` codes (n, size, k), each with one value of factor `j`."
        first, last = (np.searchsorted(ranked[:, j], ranked[:, j], side) for side in ("left", "right"))
        rows = np.flatnonzero(last - first > 1)
        require(len(rows) > 0, "factors", f"factor {j} without repeated values", "values shared by two or more rows")
        chosen = rows[torch.randint(len(rows), (n, 1), generator=g).numpy()]
        share = torch.rand(n, size, generator=g, dtype=torch.float64).numpy()
        return z[order[first[chosen] + (share * (last - first)[chosen]).astype(int), j]]

    return draw


def factor_vae(
    codes, draw: Callable, n_factors: int, votes: int = 10_000, size: int = 64, seed: int | torch.Generator = 0
) -> dict:
    """FactorVAE score in [0, 1] with its chance level 1 / K (Kim & Mnih 2018).

    `codes` (N, k) give the overall variances, `draw(j, n, size, g)` batches (n, size, k) that share factor j.
    A table trained on `votes` batches is scored on half as many new ones; `table` (K, k) has the training votes.
    """
    z, g = _matrix(codes, "codes"), rng(seed)
    require_int(size, "size", low=2)
    half = max(require_int(votes, "votes", low=2 * n_factors) // n_factors // 2, 1)
    alive = np.flatnonzero(np.ptp(z, 0) > 0)
    require(len(alive) > 0, "codes", codes, "at least one axis that varies")
    table = np.zeros((2, n_factors, z.shape[1]), dtype=int)
    for j in range(n_factors):
        for part, n in ((0, 2 * half), (1, half)):
            batch = np.asarray(draw(j, n, size, g))[:, :, alive]
            winner = alive[(batch.var(1) / z[:, alive].var(0)).argmin(1)]
            table[part, j] = np.bincount(winner, minlength=z.shape[1])
    believed = table[0].argmax(0)
    score = table[1][believed, np.arange(z.shape[1])].sum() / table[1].sum()
    return {"score": float(score), "chance": 1 / n_factors, "table": table[0]}


# %%
kw = {"votes": 1000}
CODES = {"perfect": v, "dead": np.c_[v, 0 * v], "30°": rotate(v, 30),
         "45°": rotate(v, 45), "noise": v[::-1]}
scores = {name: factor_vae(z, group_sampler(z, v), 2, **kw)["score"]
          for name, z in CODES.items()}
test_eq([scores[name] for name in ("perfect", "dead", "30°")], [1, 1, 1])
test_close([scores["45°"], scores["noise"]], [0.5, 0.5], eps=0.12)


def render(j, n, size, g):
    z = torch.rand(n, size, 2, generator=g)
    z[:, :, j] = z[:, :1, j]
    return z


test_eq(factor_vae(v, render, 2, **kw)["score"], 1)
Table(scores, "code", "FactorVAE score")


# %% [markdown]
# ## InfoMEC
#
# @hsu2023latentquantization measure modularity, compactness and explicitness. The first two are ratios in the matrix $M_{ij}=I(z_i;v_j)/H(v_j)$, with codes no longer binned: the information is estimated from each code's 10 nearest neighbours.
#
# $$\mathrm{InfoM}=\frac{\operatorname{mean}_i\frac{\max_jM_{ij}}{\sum_jM_{ij}}-\frac1K}{1-\frac1K},\qquad \mathrm{InfoC}=\frac{\operatorname{mean}_j\frac{\max_iM_{ij}}{\sum_iM_{ij}}-\frac1{k'}}{1-\frac1{k'}} .$$ {#eq-dis-infomec}
#
# Of the axes only the $k'$ *alive* ones count, those with more than a twentieth of the largest range. InfoE is the share of the log-loss without codes, $\log(\text{classes})$, that an unpenalised logistic regression with balanced classes removes. A linear classifier does not see rotations: **InfoE is about information, not axes.**

# %%
#| exports
def _alive(z: np.ndarray) -> np.ndarray:
    "Axes (k,) with more than 1/20 of the largest range."
    return np.ptp(z, 0) > np.ptp(z, 0).max() / 20


def _explicitness(z: np.ndarray, y: np.ndarray) -> float:
    "Share of the log-loss log(classes) that a balanced, unpenalised logistic regression removes."
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    y = np.unique(y, return_inverse=True)[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # separable classes have no finite optimum
        model = LogisticRegression(C=np.inf, class_weight="balanced", max_iter=100).fit(_standard(z), y)
    logits = model.decision_function(_standard(z))
    if logits.ndim == 1: logits = np.stack([np.zeros(len(y)), logits], axis=1)
    return 1 - cross_entropy(torch.tensor(logits), torch.tensor(y)).item() / np.log(y.max() + 1)


def _peak(m: np.ndarray) -> float:
    "Mean over rows of max / sum, from 0 (even) to 1 (a single entry); a row of zeros counts as even."
    total, n = m.sum(1), m.shape[1]
    if n == 1: return float("nan")
    share = np.where(total > 0, m.max(1) / np.where(total > 0, total, 1), 1 / n)
    return float((share.mean() - 1 / n) / (1 - 1 / n))


def infomec(codes, factors, bins: int = 20, discrete: Sequence[bool] | None = None, seed: int = 0) -> dict:
    """InfoM, InfoC, InfoE (Hsu et al. 2023), with the matrix `nmi` (k, K) and the axes `alive` (k,).

    Continuous factors are binned; codes are not: their information is estimated from 10 nearest neighbours.
    """
    from sklearn.feature_selection import mutual_info_classif

    z, v = _data(codes, factors)
    classes, alive = _classes(v, bins, discrete), _alive(z)
    require(bool(alive.any()), "codes", codes, "at least one axis that varies")
    kw = {"discrete_features": False, "n_neighbors": 10, "random_state": seed}
    nmi = np.stack([mutual_info_classif(_standard(z), y, **kw) / _information(y, y) for y in classes.T], axis=1)
    explicit = float(np.mean([_explicitness(z, y) for y in classes.T]))
    return {"infom": _peak(nmi[alive]), "infoc": _peak(nmi[alive].T), "infoe": explicit, "nmi": nmi, "alive": alive}


# %%
peak = 0.9 + 0.5 - 1  # mean 0.7, less 1/2, over 1/2
test_close(_peak(np.array([[0.9, 0.1], [0.5, 0.5]])), peak, eps=1e-9)
straight, turned = infomec(v, v), infomec(rotate(v, 45), v)
assert straight["infom"] > 0.95 and straight["infoc"] > 0.95
assert turned["infom"] < 0.1 and turned["infoc"] < 0.1
test_close(straight["infoe"], turned["infoe"], eps=0.02)
Table({name: {k: x[k.lower()] for k in ("InfoM", "InfoC", "InfoE")} for name, x in
       [("the factors", straight), ("rotated by 45°", turned)]}, "code")


# %% [markdown]
# ## TAD
#
# Photographs have no factors, but binary attributes, often entangled with each other. TAD [@yeats2022nashae] uses the area under the ROC curve of each axis as a detector of an attribute, in either direction:
#
# $$A_{ij}=\max\big(\mathrm{AUROC}(z_i;v_j),\,1-\mathrm{AUROC}(z_i;v_j)\big),\qquad \mathrm{TAD}=\sum_{j\ \text{kept}}\big(A_{(1)j}-A_{(2)j}\big).$$ {#eq-dis-tad}
#
# An attribute is kept if some axis detects it, $A_{(1)j}\ge0.75$, and it is not another one in disguise, $\max_{l\ne j}I(v_j;v_l)\le0.2\,H(v_j)$. ATTRS is the number kept. TAD is a sum: at most half of ATTRS, growing with the list. The area is a rank statistic, $(\sum_{\text{positives}}\mathrm{rank}-n_1(n_1+1)/2)/(n_1n_0)$ for $n_1$ positives and $n_0$ negatives.
#
# By hand: each bit is detected by its own axis (area 1), not by the other (½): TAD is 1 for two attributes. With their or as a third, which shares $0.311\log2$ with either, more than a fifth, none is kept.

# %%
#| exports
def tad(codes, attributes, detected: float = 0.75, disguise: float = 0.2) -> dict:
    """TAD, the number `attrs` of attributes kept, which (K,), and the areas `auroc` (k, K) (Yeats et al. 2022).

    For codes (N, k) and binary attributes (N, K): any two values, the larger one is positive.
    """
    from scipy.stats import rankdata

    z, v = _data(codes, attributes)
    y = np.stack([np.unique(column, return_inverse=True)[1] for column in v.T], axis=1)
    require(y.max() == 1, "attributes", attributes, "columns with two values")
    positive = y.sum(0)
    area = (rankdata(z, axis=0).T @ y - positive * (positive + 1) / 2) / (positive * (len(y) - positive))
    area = np.maximum(area, 1 - area)
    shared = np.array([[_information(a, b) / _information(a, a) for b in y.T] for a in y.T])
    np.fill_diagonal(shared, 0)
    kept = (area.max(0) >= detected) & (shared.max(1) <= disguise)
    return {"tad": float(_gap(area, 0.5)[kept].sum()), "attrs": int(kept.sum()), "kept": kept, "auroc": area}


# %%
test_eq((tad(bits, bits)["tad"], tad(bits, bits)["attrs"]), (1.0, 2))
test_eq(tad(bits, np.c_[bits, v1 | v2])["attrs"], 0)
z, y = r.normal(size=(500, 2)).round(1), r.uniform(size=(500, 1)) < 0.3  # with ties
want = [max(s, 1 - s) for s in (roc_auc_score(y[:, 0], column) for column in z.T)]
test_close(tad(z, y.astype(int))["auroc"][:, 0], want, eps=1e-9)


# %% [markdown]
# ## The rotation null
#
# How large is a score if the axes mean nothing? Rotate the same codes at random and score again: what the score loses was alignment. Axes are standardised first (else the largest dominates every mixture), dead ones stay as they are, and the rotations are uniform: the orthogonal factor of a Gaussian matrix, with the signs that make it unique.
#
# In two dimensions SAP becomes $|\cos2a|$ at a uniform angle: its mean is $2/\pi=0.637$, its standard deviation $\sqrt{1/2-4/\pi^2}=0.308$. Small codes are aligned by luck.

# %%
#| exports
def rotation_null(score: Callable, codes, n: int = 5, seed: int | torch.Generator = 0) -> dict:
    """Mean and standard deviation of `score(rotated codes)`, a dictionary of numbers, over `n` random rotations.

    The axes with more than 1/20 of the largest range are standardised and rotated among each other.
    """
    z, g, found = _matrix(codes, "codes"), rng(seed), []
    alive = _alive(z)
    for _ in range(require_int(n, "n", low=2)):
        gaussian = torch.randn(int(alive.sum()), int(alive.sum()), generator=g, dtype=torch.float64).numpy()
        q, triangle = np.linalg.qr(gaussian)
        turned = z.copy()
        turned[:, alive] = _standard(z[:, alive]) @ (q * np.sign(np.diag(triangle)))
        found.append(score(turned))
    values = {name: np.array([f[name] for f in found]) for name in found[0]}
    return {name: {"mean": float(x.mean()), "std": float(x.std(ddof=1))} for name, x in values.items()}


# %%
null = rotation_null(lambda z: {"sap": sap(z, v).mean()}, v, n=500)["sap"]
want = {"mean": 2 / np.pi, "std": np.sqrt(0.5 - 4 / np.pi**2)}
test_close(list(null.values()), list(want.values()), eps=0.05)
Table({"500 rotations": null, "expected": want}, "SAP")

# %% [markdown]
# All scores against the rotation angle of one code with two factors. The information is the same everywhere; the scores are not, and FactorVAE sees nothing before 45°.

# %%
#| label: fig-rotation
#| fig-cap: 'A rotation costs the scores, not the information (InfoE, dashed). FactorVAE sees nothing before 45°.'
#| fig-alt: 'Line chart of seven scores against the rotation of the code from 0 to 45 degrees. InfoE stays at 1; FactorVAE stays at 1 and drops at 45 degrees; the other five fall from about 1 to about 0, MIG fastest, then DCI disentanglement, SAP and InfoM, and modularity last.'
NAMES = ["MIG", "SAP", "modularity", "DCI dis", "InfoM", "FactorVAE", "InfoE"]


def all_scores(z):
    info, tree, pool = infomec(z, v), dci(z, v), group_sampler(z, v)
    gaps = [mig(z, v).mean(), sap(z, v).mean(), modularity(z, v).mean()]
    return [*gaps, tree["disentanglement"], info["infom"],
            factor_vae(z, pool, 2, votes=500)["score"], info["infoe"]]


angles = np.arange(0, 46, 5)
curves = np.array([all_scores(rotate(v, a)) for a in angles])
fig, ax = plt.subplots(figsize=(6.4, 3.6))
styles = ["-o", "-s", "-^", "-v", "-D", "-P", "--x"]
for y, name, style in zip(curves.T, NAMES, styles, strict=True):
    ax.plot(angles, y, style, ms=5, label=name)
ax.set(xlabel="rotation of the code [degrees]", ylabel="score", ylim=(-0.03, 1.05))
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5));


# %% [markdown]
# ## The report
#
# `report` computes all scores that apply, their rotation null with the same settings and rows, and standard errors for those that are quick to resample. The error is the standard deviation over bootstrap samples; we do not use bootstrap percentiles, because repeated rows inflate @eq-dis-mi. It states everything that a number depends on, and is ready for JSON (an undefined score is `None`). For 10 000 codes, ten axes and five factors it takes 15–17 s on one core (`bench/speed/disentanglement.json`).

# %%
#| exports
def bootstrap_error(score: Callable, codes, factors, n: int = 50, seed: int | torch.Generator = 0) -> dict:
    "Standard deviation of `score(codes, factors)`, a dictionary of numbers, over `n` resamplings of the rows."
    (z, v), g, found = _data(codes, factors), rng(seed), []
    while len(found) < require_int(n, "n", low=2):
        rows = torch.randint(len(z), (len(z),), generator=g).numpy()
        if np.ptp(v[rows], 0).all(): found.append(score(z[rows], v[rows]))
    return {name: float(np.std([f[name] for f in found], ddof=1)) for name in found[0]}


def _quick(z: np.ndarray, v: np.ndarray, bins: int, kinds: np.ndarray) -> dict[str, float]:
    "The scores that take milliseconds."
    out = {"mig": mig(z, v, bins, kinds).mean(), "modularity": modularity(z, v, bins, kinds).mean()}
    if not kinds.any(): out["sap"] = sap(z, v, kinds).mean()
    binary = np.array([len(np.unique(column)) == 2 for column in v.T])
    if binary.any(): out |= {name: x for name, x in tad(z, v[:, binary]).items() if name in ("tad", "attrs")}
    return out


# %%
#| exports
def _slow(z: np.ndarray, v: np.ndarray, rows: np.ndarray, regressor: str, seed: int, bins: int, kinds: np.ndarray):
    "The other scores, DCI and InfoMEC on `rows`; and the result of `dci`."
    trees, info = dci(z[rows], v[rows], regressor, kinds, seed), infomec(z[rows], v[rows], bins, kinds, seed)
    out = {f"dci_{name}": trees[name] for name in ("disentanglement", "completeness", "informativeness")}
    out |= {name: info[name] for name in ("infom", "infoc", "infoe")}
    out["factor_vae"] = factor_vae(z, group_sampler(z, v, bins, kinds), v.shape[1], seed=seed)["score"]
    if kinds.any(): out["sap"] = sap(z, v, kinds, seed).mean()
    return out, trees


def _entry(name: str, value: float, null: dict, error: dict) -> dict:
    "One score of a report, ready for JSON: an undefined number is `None`."
    numbers = value, null[name]["mean"], null[name]["std"], error.get(name, np.nan)
    keys = "value", "null", "null_std", "error"
    return {k: float(x) if np.isfinite(x) else None for k, x in zip(keys, numbers, strict=True)}


def _drawn(z: np.ndarray, v: np.ndarray, names: Sequence[str], bins: int, cap: int, seed: int) -> np.ndarray:
    "The random rows for the slow scores, or `ValueError` if there are too few, or some factor does not vary in them."
    least = 2 * require_int(bins, "bins", low=2)
    require(len(z) >= least and bool(np.ptp(z, 0).any()), "codes", z, f"{least} rows or more, and an axis that varies")
    rows = torch.randperm(len(z), generator=rng(seed))[: require_int(cap, "cap", low=least)].numpy()
    _data(z[rows], v[rows], [f"{name} (among the {len(rows)} rows of `cap`)" for name in names])
    return rows


def report(
    codes, factors, names: Sequence[str] | None = None, seed: int = 0, discrete: Sequence[bool] | None = None,
    bins: int = 20, regressor: str = "forest", rotations: int = 5, resamples: int = 50, cap: int = 3000,
) -> dict:  # fmt: skip
    """All scores that apply: value, rotation null (mean, std), bootstrap error where cheap; and what they depend on.

    Codes (N, k) and factors (N, K) with N >= 2 `bins`; DCI and InfoMEC use at most `cap` random rows.
    """
    from threadpoolctl import threadpool_limits

    z, v = _data(codes, factors, names)
    names = [f"factor {j}" for j in range(v.shape[1])] if names is None else list(names)
    kinds, rows = _kinds(v, discrete), _drawn(z, v, names, bins, cap, seed)
    quick = partial(_quick, bins=bins, kinds=kinds)
    slow = partial(_slow, v=v, rows=rows, regressor=regressor, seed=seed, bins=bins, kinds=kinds)
    with threadpool_limits(1):  # many small problems: threads only wait for each other
        value, trees = slow(z)
        null = rotation_null(lambda t: quick(t, v) | slow(t)[0], z, rotations, seed)
        error = bootstrap_error(quick, z, v, resamples, seed)
    value, best = quick(z, v) | value, mutual_information(z, v, bins, kinds).argmax(0).tolist()
    columns = zip(names, kinds.tolist(), best, mig(z, v, bins, kinds).tolist(), trees["informative"], strict=True)
    return {
        "n": len(z), "k": z.shape[1], "seed": seed, "bins": bins, "regressor": trees["regressor"],
        "dci_rows": [trees["train"], trees["test"]], "infomec_rows": len(rows), "rotations": rotations,
        "resamples": resamples, "dead": np.flatnonzero(~_alive(z)).tolist(),
        "scores": {name: _entry(name, value[name], null, error) for name in value},
        "factors": {f: {"discrete": d, "axis": i, "mig": m, "informative": float(x)} for f, d, i, m, x in columns},
    }  # fmt: skip


# %%
#| label: fig-report
#| fig-cap: 'One report: the scores of a code with five axes, of which one is mixed, one pure noise and one dead, beside those of the same code randomly rotated. What lies at its null says nothing about the axes.'
#| fig-alt: 'Dot chart with one row for each score and the score from 0 to 1 as the horizontal axis. Filled dots are the code, open dots the rotated code. All filled dots lie to the right of the open ones, except in the row infoe, where both are close to 1.'
v = np.c_[r.uniform(-1, 1, 1000), r.integers(0, 4, 1000), r.integers(0, 2, 1000)]
mixed, light = v[:, 0] + 0.5 * v[:, 1], v[:, 2] + 0.2 * r.normal(size=1000)
z = np.c_[v[:, 0], mixed, light, r.normal(size=1000), np.zeros(1000)]
result = report(z, v, names=["position", "shape", "light"], rotations=3, resamples=20)
assert json.loads(json.dumps(result)) == result
test_eq(result["dead"], [4])
test_eq([f["discrete"] for f in result["factors"].values()], [False, True, True])

shown = {name: s for name, s in result["scores"].items() if name != "attrs"}
fig, ax = plt.subplots(figsize=(6.4, 3.6))
for y, s in enumerate(shown.values()):
    ax.errorbar(s["null"], y, xerr=s["null_std"], fmt="o", color="C1", mfc="white",
                capsize=3)
    ax.errorbar(s["value"], y, xerr=s["error"], fmt="o", color="C0", capsize=3)
ax.plot([], [], "o", color="C0", label="this code (± bootstrap error, where cheap)")
ax.plot([], [], "o", color="C1", mfc="white",
        label="randomly rotated (± standard deviation)")
ax.set_yticks(range(len(shown)), [name.replace("_", " ") for name in shown])
ax.invert_yaxis()
ax.set(xlabel="score", xlim=(-0.02, 1.05))
fig.legend(loc="outside upper center", ncols=2);

# %% [markdown]
# ## What can go wrong
#
# * **Comparing across settings.** Another regressor, sample size, number of bins or axes is another score. Quote the report, not the number.
# * **Outliers.** One code a hundred times larger than the rest leaves all others in a single bin, and MIG near zero. Pass ranks (`argsort` twice): the bins then hold equally many codes.
# * **A score at its null** says nothing about axes, however high it is. With few axes the null itself is high.
# * **A cyclic factor** (an angle) has no linear order: SAP, $R^2$ and InfoE punish a code that represents it as a circle. Pass sine and cosine, or classes.
# * **Dependent factors.** If two factors are correlated, even a code with exactly one axis per factor misses MIG 1: each axis knows something of the other factor.
