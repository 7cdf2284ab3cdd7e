# %% [markdown]
# # Checks
#
# > Shapes, seeds and errors: the few conventions that every other module leans on.

# %% [markdown]
# Everything in this library is a function of a *batch of images* `x` of shape `(N, C, H, W)` with values in $[-1, 1]$ and of a *batch of times* `t` of shape `(N,)`. This page fixes how the two meet, how randomness is passed around, and what happens when something unusable comes in. There is no mathematics here; the story starts in [Paths](../foundations/02_paths.ipynb).

# %%
#| default_exp core.checks

# %%
#| exports
import math
import numbers
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

# %%
#| hide
import numpy as np
from fastcore.test import expect_fail, test_eq


# %% [markdown]
# ## A number for every image
#
# A path gives one coefficient per image, with shape `(N,)`. To multiply an image batch by it, the coefficient needs trailing axes of length one. It also needs the dtype of the images: coefficients are computed in float64 (they span twenty orders of magnitude), images live in float32.

# %%
#| exports
def bcast(s: Tensor, like: Tensor) -> Tensor:
    "Reshape `s`, of shape `(N,)` or `()`, and cast it so that it multiplies `like`, of shape `(N, ...)`."
    return s.to(like).reshape(s.shape + (1,) * (like.ndim - s.ndim)) if s.ndim else s.to(like)


# %%
x = torch.ones(3, 1, 2, 2)
scaled = bcast(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64), x) * x
test_eq(scaled.dtype, torch.float32)
scaled[:, 0, 0, 0]


# %% [markdown]
# Noise is drawn independently for every pixel, so its log-density is a *sum* over pixels, and with it every error, energy and bound of an image: sums, never means. The squared norm $\|x\|^2$ has one value per image.

# %%
#| exports
def sqnorm(x: Tensor) -> Tensor:
    "Squared Euclidean norm of every item of a batch: `(N, ...)` to `(N,)`."
    return x.flatten(1).square().sum(1)


# %%
norms = sqnorm(scaled)
test_eq(norms, torch.tensor([4.0, 16.0, 36.0]))
norms


# %% [markdown]
# ## Errors that say what was wrong
#
# A message is only useful if it names the argument, says what was expected, and shows what came. All checks raise `ValueError` through one function, so that all read alike.

# %%
#| exports
def _describe(value) -> str:
    "How `value` appears in an error message: an array by dtype and shape, anything else by its `repr`."
    if getattr(value, "shape", ()) != () and hasattr(value, "dtype"):
        return f"a {type(value).__name__} of {str(value.dtype).removeprefix('torch.')} with shape {tuple(value.shape)}"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def require(ok: bool, name: str, value, expected: str) -> None:
    "Raise `ValueError('name: expected ..., got ...')` unless `ok`."
    if not ok: raise ValueError(f"{name}: expected {expected}, got {_describe(value)}")


# %%
with expect_fail(ValueError, contains="beta: expected a number >= 0, got -1.0"):
    require(False, "beta", -1.0, "a number >= 0")


# %% [markdown]
# Numbers may come from numpy; booleans are not numbers.

# %%
#| exports
def require_int(value, name: str, low: int = 1, high: int = 2**62) -> int:
    "`value` as an `int`, or `ValueError` unless it is a whole number in `[low, high]`."
    ok = isinstance(value, numbers.Integral) and not isinstance(value, bool) and low <= value <= high
    require(ok, name, value, f"an integer >= {low}" + (f" and <= {high}" if high < 2**62 else ""))
    return int(value)


def require_number(value, name: str, low: float = -math.inf, high: float = math.inf, above: bool = False) -> float:
    "`value` as a `float`, or `ValueError` unless it is finite and in `[low, high]` (`above`: and not `low` itself)."
    want = f"a finite number in {'(' if above else '['}{low:g}, {high:g}{']' if math.isfinite(high) else ')'}"
    require(isinstance(value, numbers.Real) and not isinstance(value, bool), name, value, want)
    try: number = float(value)
    except OverflowError: number = math.inf
    ok = math.isfinite(number) and low <= number <= high and not (above and number == low)
    require(ok, name, value, want)
    return number


def require_choice(value, name: str, choices: Sequence) -> None:
    "`ValueError` unless `value` is one of `choices`, which may be strings, numbers, booleans."
    ok = any(type(value) is type(c) and value == c for c in choices)
    require(ok, name, value, "one of " + ", ".join(repr(c) for c in choices))


def check_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    "`shape` as a tuple (C, H, W) of positive integers, or `ValueError`."
    require(isinstance(shape, Sequence) and len(shape) == 3, "shape", shape, "(C, H, W)")
    return tuple(require_int(n, "shape", low=1) for n in shape)


# %%
test_eq((require_int(np.int64(3), "steps"), require_number(np.float32(0.5), "eta")),
        (3, 0.5))
with expect_fail(ValueError, contains="steps: expected an integer >= 1, got 0"):
    require_int(0, "steps")
with expect_fail(ValueError, contains="steps"): require_int(True, "steps")
with expect_fail(ValueError, contains="beta"):
    require_number(float("nan"), "beta", low=0)
with expect_fail(ValueError, contains="beta"): require_number(10**400, "beta", low=0)
with expect_fail(ValueError, contains="one of 'point', 'sample'"):
    require_choice("mean", "mode", ("point", "sample"))
test_eq(check_shape([3, 8, 8]), (3, 8, 8))
with expect_fail(ValueError, contains="shape: expected (C, H, W), got (8, 8)"):
    check_shape((8, 8))


# %% [markdown]
# Images are checked once, where they enter. The range is part of the contract: a network trained on $[-1, 1]$ gives nonsense on $[0, 255]$, silently, and that is the most frequent mistake of all. The tolerance of $10^{-3}$ forgives resampling.

# %%
#| exports
def check_images(x, shape: Sequence[int] | None = None, name: str = "x") -> Tensor:
    """Return `x` if it is a usable batch of images, else raise `ValueError`.

    Usable: a floating-point tensor `(N, C, H, W)` with N >= 1, finite, in [-1, 1] (tolerance 1e-3); with
    `shape=(C, H, W)` also of that shape.
    """
    want = "(N, C, H, W)" if shape is None else "(N, " + ", ".join(map(str, shape)) + ")"
    require(isinstance(x, Tensor), name, x, f"a torch tensor of images {want} in [-1, 1]")
    require(x.is_floating_point(), name, x, "floating-point images in [-1, 1] (uint8: x / 127.5 - 1)")
    require(x.ndim == 4 and (shape is None or tuple(x.shape[1:]) == tuple(shape)), name, x, f"images {want}")
    require(x.numel() > 0, name, x, f"at least one image {want}")
    low, high = (float(v) for v in torch.aminmax(x.detach()))
    finite = math.isfinite(low) and math.isfinite(high)
    require(finite, name, f"{_describe(x)} with NaN or infinite values", "finite values")
    require(low >= -1.001 and high <= 1.001, name, f"values from {low:.3g} to {high:.3g}", "values in [-1, 1]")
    return x


# %%
test_eq(check_images(x, shape=(1, 2, 2)) is x, True)
with expect_fail(ValueError,
                 contains="values in [-1, 1], got 'values from 255 to 255'"):
    check_images(255 * x)
with expect_fail(ValueError, contains="images (N, C, H, W)"): check_images(x[0])
with expect_fail(ValueError, contains="images (N, 3, 2, 2)"):
    check_images(x, shape=(3, 2, 2))
with expect_fail(ValueError, contains="NaN"): check_images(x * float("nan"))


# %% [markdown]
# ## Randomness is an argument
#
# No function here reads or sets the global random state. Whatever draws random numbers takes a `seed`: an integer, or a generator when several draws must follow each other, or `None` for fresh randomness. `rng` turns any of these into a generator on the right device.

# %%
#| exports
def rng(seed: int | torch.Generator | None = None, device: torch.device | str = "cpu") -> torch.Generator:
    "A generator on `device`: `seed` itself if it is one already, seeded by an integer, or fresh for `None`."
    if isinstance(seed, torch.Generator): return seed
    g = torch.Generator(device=device)
    if seed is None: g.seed()
    else: g.manual_seed(require_int(seed, "seed", low=0))
    return g


def randn_like(x: Tensor, g: torch.Generator) -> Tensor:
    "Standard normal noise with the shape, dtype and device of `x`, drawn from `g`."
    return torch.randn(x.shape, generator=g, dtype=x.dtype, device=x.device)


# %%
before = torch.get_rng_state()
g = rng(3)
test_eq(randn_like(x, rng(3)), randn_like(x, g))  # an integer starts anew
assert not torch.equal(randn_like(x, rng(g)),
                       randn_like(x, rng(3)))  # a generator goes on
assert torch.equal(before, torch.get_rng_state())


# %% [markdown]
# ## Large batches
#
# A model may be asked to encode sixty thousand images at once. `in_batches` cuts the batch, applies a function, and joins what it returns, so that no other function needs a loop.

# %%
#| exports
def in_batches(fn: Callable, *args: Tensor | None, size: int = 512):
    """Apply `fn` to slices of `size` along the first axis of all `args`, and join what it returns.

    `fn` gives a tensor (n, ...), or a dictionary of tensors. An argument that is `None` stays `None`.
    """
    n = next(a for a in args if a is not None).shape[0]
    parts = [fn(*(None if a is None else a[i : i + size] for a in args)) for i in range(0, n, size)]
    if isinstance(parts[0], dict): return {k: torch.cat([p[k] for p in parts]) for k in parts[0]}
    return torch.cat(parts)


# %%
sizes = []


def double(a):
    sizes.append(len(a))
    return {"twice": 2 * a}


test_eq(in_batches(double, torch.arange(10.0), size=4)["twice"], 2 * torch.arange(10.0))
test_eq(in_batches(lambda a, b: a, torch.arange(5.0), None, size=2), torch.arange(5.0))
sizes

# %% [markdown]
# ## What can go wrong
#
# * A coefficient in float32. `1 - 1e-9` is exactly `1` there, and what should be a small positive number becomes a division by zero. Coefficients stay in float64 until `bcast` meets the images.
# * A mean over pixels where a sum belongs: it changes the balance between terms of a loss by a factor of the number of pixels.
