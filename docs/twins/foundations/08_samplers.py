# %% [markdown]
# # Samplers
#
# > One update from t to s serves diffusions and bridges; two numbers choose ODE or SDE, first or second order; the grid decides the rest.

# %% [markdown]
# A trained denoiser is not a picture. How does one get from it to an image, in few steps, and *which* image is that: a draw, a mean, something else? This page derives one update that contains DDPM, DDIM, the ancestral bridge sampler, DBIM and a second-order multistep solver; measures their orders against exact solutions; and settles what is returned: a *sample*, or a *point*.

# %%
#| default_exp foundations.samplers

# %%
#| exports
import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from scoreae.core.checks import bcast, randn_like, require, require_choice, require_int, require_number, rng
from scoreae.foundations.bridges import ode_drift, reverse_drift
from scoreae.foundations.paths import Path, as_time
from scoreae.foundations.tools import euler_step

# %%
#| hide
import matplotlib.pyplot as plt
from fastcore.test import expect_fail, test_close

from scoreae.core.pages import Table, paper
from scoreae.foundations.paths import VE, Pinned, VPCosine, VPLinear
from scoreae.foundations.worlds import GaussianWorld, Mixture, denoiser, gaussian

# %%
#| hide
paper()
f64 = lambda *v: torch.tensor(v, dtype=torch.float64)
g = torch.Generator().manual_seed(0)
bridge = Pinned(VPLinear(0.1, 2.0))

# %% [markdown]
# ## One update
#
# At time $t$ we hold $x_t$ and an estimate $\hat x_0$. Together they say what the noise was: $\hat\varepsilon=(x_t-a_tx_T-b_t\hat x_0)/c_t$. At an earlier time $s$ the path should have the law of $a_sx_T+b_sx_0+c_s\varepsilon$. We may keep the old noise, draw new, or mix the two, with total variance $c_s^2$:
#
# $$x_s=a_sx_T+b_s\hat x_0+\sqrt{c_s^2-\rho^2}\;\hat\varepsilon+\rho\,\varepsilon,\qquad 0\le\rho\le c_s.$$ {#eq-update}
#
# This is the family of DDIM [@song2021ddim], and, with $a\ne0$, of DBIM [@zheng2025dbim]. Two choices of $\rho$ stand out. With $\rho=0$ nothing is random after the start. And there is one $\rho$ for which @eq-update is the *ancestral* step, a draw from the exact posterior of $x_s$ given $x_t$ and $x_0=\hat x_0$. In $y=(x-a\,x_T)/b$ that posterior is $\mathcal N\big((1-\tfrac{\gamma_t}{\gamma_s})x_0+\tfrac{\gamma_t}{\gamma_s}y_t,\ \tfrac{\gamma_s-\gamma_t}{\gamma_s^2}\big)$ ([Bounds](06_bounds.ipynb)). Multiply its variance by $b_s^2=\gamma_sc_s^2$:
#
# $$\rho_{\mathrm{anc}}^2=c_s^2\Big(1-\frac{\gamma_t}{\gamma_s}\Big),$$ {#eq-ancestral}
#
# and the means agree too, since $\sqrt{c_s^2-\rho_{\mathrm{anc}}^2}\,\hat\varepsilon=c_s\sqrt{\gamma_t/\gamma_s}\cdot\sqrt{\gamma_t}\,(y_t-\hat x_0)=b_s\tfrac{\gamma_t}{\gamma_s}(y_t-\hat x_0)$. So $\rho=\eta\,\rho_{\mathrm{anc}}$ with $\eta=0$ is DDIM or DBIM, and $\eta=1$ is DDPM [@ho2020ddpm] or the ancestral bridge sampler.
#
# **The first step.** A bridge starts at exactly $x_T$, where $c_T=0$ and there is no old noise: draw it (`mode="sample"`), or set it to zero (`mode="point"`). A diffusion starts from its prior, or, in point mode, from the mean of its prior.

# %%
#| exports
MODES = ("point", "sample")


class Level(NamedTuple):
    "A time and what a path says about it: the coefficients and gamma, as float64 numbers."
    t: Tensor
    a: Tensor
    b: Tensor
    c: Tensor
    gamma: Tensor


def noise_level(path: Path, t: Tensor) -> Level:
    "The `Level` of a time, or of a whole grid of times at once."
    return Level(as_time(t), *path.coefs(t), path.gamma(t))


def update(x: Tensor, x0_bar: Tensor, here: Level, there: Level, xT: Tensor | None, eta: float, mode: str,
           g: torch.Generator) -> Tensor:
    """One step of the family of DDIM and DBIM, from `x` at `here` to `there`, nearer to 0, with the estimate `x0_bar`.

    Images (N, ...); on a bridge with its end `xT`. `eta` in [0, 1] scales the fresh noise, drawn from `g`; `mode`
    matters only where c = 0 ("sample": draw the first noise, "point": none).
    """
    def mean(k): return bcast(k.b, x) * x0_bar if xT is None else bcast(k.a, x) * xT + bcast(k.b, x) * x0_bar
    if here.c > 0: eps = (x - mean(here)) / bcast(here.c, x)
    elif mode == "sample": eps = randn_like(x, g)  # the end of a bridge: there is no old noise
    else: eps = torch.zeros_like(x)
    rho = eta * there.c * torch.sqrt(1 - here.gamma / there.gamma)
    new = mean(there) + bcast(torch.sqrt(there.c**2 - rho**2), x) * eps
    return new + bcast(rho, x) * randn_like(x, g) if rho > 0 else new


# %% [markdown]
# With $\eta=1$ this must be the posterior step of the *unpinned* process. Given $x_0$, $x_s\sim\mathcal N(\alpha_sx_0,\sigma_s^2I)$; the observation is $x_t=\tfrac{\alpha_t}{\alpha_s}x_s+{}$noise ([Paths](02_paths.ipynb)). The gain ([Tools](01_tools.ipynb)), covariance over variance, is $\tfrac{\alpha_t}{\alpha_s}\tfrac{\sigma_s^2}{\sigma_t^2}=\tfrac{\alpha_s}{\alpha_t}\tfrac{\mathrm{SNR}_t}{\mathrm{SNR}_s}$, so
#
# $$q(x_s|x_t,x_0)=\mathcal N\Big(\tfrac{\alpha_s}{\alpha_t}\tfrac{\mathrm{SNR}_t}{\mathrm{SNR}_s}x_t+\alpha_s\big(1-\tfrac{\mathrm{SNR}_t}{\mathrm{SNR}_s}\big)x_0,\ \ \sigma_s^2\big(1-\tfrac{\mathrm{SNR}_t}{\mathrm{SNR}_s}\big)I\Big),$$ {#eq-posterior-sde}
#
# on a diffusion and, because given $x_t$ a bridge's end tells nothing about $x_s$, on its bridge. With $\eta=0$ it must be DDIM in $y$. The update is affine, so from equal seeds a difference to the update of zeros is its mean, exactly, and the update of zeros is its noise.

# %%
x0, x_t, xT = (torch.randn(50, 1, generator=g, dtype=torch.float64) for _ in range(3))
zero = torch.zeros_like(x0)
for path, end in [(VPCosine(), None), (VE(), None), (bridge, xT),
                  (Pinned(VE(80.0)), xT)]:
    t, s, base = *(f64(0.7, 0.4) * path.T), getattr(path, "base", path)
    ratio = base.gamma(t) / base.gamma(s)
    here, there = noise_level(path, t), noise_level(path, s)
    no_end = None if end is None else zero
    fresh = update(zero, zero, here, there, no_end, 1.0, "sample", rng(5))
    spread = base.sigma(s) * (1 - ratio).sqrt()
    test_close(fresh, spread * randn_like(zero, rng(5)), eps=1e-10)
    kept = base.alpha(s) / base.alpha(t) * ratio
    mean = update(x_t, x0, here, there, end, 1.0, "sample", rng(5)) - fresh
    test_close(mean, kept * x_t + base.alpha(s) * (1 - ratio) * x0, eps=1e-10)

    y = (x_t - (0 if end is None else here.a * end)) / here.b
    ddim = x0 + (here.gamma / there.gamma).sqrt() * (y - x0)
    back = (0 if end is None else there.a * end) + there.b * ddim
    test_close(update(x_t, x0, here, there, end, 0.0, "point", g), back, eps=1e-10)


# %% [markdown]
# ## Second order
#
# With $\rho=0$, @eq-update holds $\hat x_0$ constant over the step. In $y$ and with $\Lambda=\tfrac12\log\gamma$, the flow $dy/d\sigma_y=(y-\hat x_0)/\sigma_y$ of [Bridges](05_bridges.ipynb), $\sigma_y=e^{-\Lambda}$, reads $\tfrac{d}{d\Lambda}(e^{\Lambda}y)=e^{\Lambda}\hat x_0$. Integrate over a step $\Delta\Lambda$, with $\hat x_0$ linear in $\Lambda$:
#
# $$\begin{aligned}e^{\Lambda_s}y_s-e^{\Lambda_t}y_t&=\int_{\Lambda_t}^{\Lambda_s}e^{\Lambda}\Big(\hat x_0+(\Lambda-\Lambda_t)\tfrac{d\hat x_0}{d\Lambda}\Big)d\Lambda\\&=\big(e^{\Lambda_s}-e^{\Lambda_t}\big)\Big(\hat x_0+\tfrac{\Delta\Lambda}2\tfrac{d\hat x_0}{d\Lambda}\Big)+O(\Delta\Lambda^3).\end{aligned}$$ {#eq-flow-step}
#
# So the update is right to second order if it uses the estimate *in the middle of the step*. The previous evaluation gives the slope:
#
# $$\bar x_0=\hat x_0+\frac{\Delta\Lambda}{2\,\Delta\Lambda_{\mathrm{last}}}\big(\hat x_0-\hat x_0^{\mathrm{last}}\big),\qquad\Delta\Lambda=\Lambda_s-\Lambda_t,\quad\Delta\Lambda_{\mathrm{last}}=\Lambda_t-\Lambda_{\mathrm{last}}$$ {#eq-multistep}
#
# [the idea of DPM-Solver++, @lu2022dpmpp]. It costs no evaluation, but it needs two finite steps. The first step has no predecessor. From a bridge's $T$ it is infinitely long in $\Lambda$, so the second is uncorrected too, and the last one, to $t=0$, is infinitely long again.
#
# `trajectory` runs the update along a falling grid of times and yields every evaluation.

# %%
#| exports
class Step(NamedTuple):
    "One evaluation: the time, where the path is, and the estimate of x_0 there."
    t: float
    x: Tensor
    x0: Tensor


def _check(path: Path, like: Tensor, times: Tensor, xT: Tensor | None, mode: str, eta: float, order: int) -> None:
    "`ValueError` unless a walk from `xT`, or from the prior, along `times` makes sense."
    require_choice(mode, "mode", MODES)
    require_choice(order, "order", (1, 2))
    require_number(eta, "eta", 0, 1 if mode == "sample" else 0)
    batch = like.is_floating_point() and like.ndim > 1 and len(like) > 0
    require(batch, "like", like, "a floating-point batch (N, ...)")
    path.check_end(xT)
    require(xT is None or xT.shape == like.shape, "xT", xT, f"an endpoint of shape {tuple(like.shape)}")
    falling = times.ndim == 1 and len(times) > 1 and bool((times.diff() < 0).all())
    require(falling, "times", times, "at least two times, falling")


def _estimate(D: Callable, x: Tensor, t: Tensor) -> Tensor:
    "D(x, t) at one time, or `ValueError` if that is no image or not finite."
    x0 = D(x, t.expand(len(x)))
    require(x0.shape == x.shape, "denoiser", x0, f"estimates of shape {tuple(x.shape)}")
    bad = int((~x0.isfinite()).sum())
    require(bad == 0, "denoiser", f"{bad} NaN or infinite values at t={float(t):.4g}", "finite estimates")
    return x0


def _start(path: Path, like: Tensor, xT: Tensor | None, mode: str, g: torch.Generator) -> Tensor:
    "Where a walk begins: the endpoint, or a draw from N(0, I) (VP) or N(0, sigma_T^2 I) (VE), or the mean of that."
    if xT is not None: return xT
    if mode == "point": return torch.zeros_like(like)
    return randn_like(like, g) * (1.0 if path.vp else float(path.coefs(path.T).c))


def trajectory(D: Callable, path: Path, like: Tensor, times: Tensor, *, xT: Tensor | None = None, mode: str = "sample",
               eta: float = 0.0, order: int = 2, seed: int | torch.Generator | None = None,
               noisy: bool = False) -> Iterator[Step]:
    """Yield a `Step` per evaluation of `D`, and a last one at t = 0 that holds the result.

    `like` gives the shape (N, ...), dtype and device; `times` (n + 1,) fall from T to 0; `xT` is a bridge's end.
    With `noisy=True`, `like` *is* the noisy image at times[0], from where the walk goes on.
    `ValueError` if `D` answers with another shape, or with NaN or infinite values.
    """
    _check(path, like, times, xT, mode, eta, order)
    g, levels = rng(seed, like.device), [Level(*k) for k in zip(*noise_level(path, times), strict=True)]
    xT = None if xT is None else xT.to(like)
    x, x0_last = like if noisy else _start(path, like, xT, mode, g), None
    step_last = torch.tensor(math.inf)
    for here, there in pairwise(levels):
        x0 = x0_bar = _estimate(D, x, here.t)
        yield Step(float(here.t), x, x0)
        step = (there.gamma / here.gamma).log() / 2
        if order == 2 and step.isfinite() and step_last.isfinite():
            x0_bar = x0 + float(step / (2 * step_last)) * (x0 - x0_last)
        x, x0_last, step_last = update(x, x0_bar, here, there, xT, eta, mode, g), x0, step
    yield Step(float(levels[-1].t), x, x)


# %% [markdown]
# ## The grid
#
# From a bridge's $T$, $\sigma_y$ falls from $\infty$. On a uniform grid of $n$ times the first step lands at $\gamma_1\sim1/n$. It knows only the mean, so it gives $y$ the variance $1/\gamma_1$ where, for data of variance $v$, $v+1/\gamma_1$ is right: a relative error of the spread of $v\gamma_1/2$, which later steps carry along. The result is of first order. A *graded* grid visits $\sigma_y=\sigma_*\tan\vartheta$ with the angle $\vartheta$ uniform from $\arctan(\sigma_y(T)/\sigma_*)$ to 0. Then $\gamma_1\sim1/n^2$, and the levels crowd where $\sigma_y$ is near the scale $\sigma_*$ of the data (`scale`), where $\hat x_0$ changes most. The `karras` grid is that of released bridge code [@karras2022edm; @zhou2024ddbm]: uniform in $t^{1/7}$ down to $10^{-4}\,T$, then 0. On a bridge it begins at $T-10^{-4}\,T$, after one evaluation at $T$ itself, where the first noise is drawn.

# %%
#| exports
GRIDS = ("graded", "uniform", "karras")


def time_grid(path: Path, steps: int, grid: str = "graded", scale: float = 0.3) -> Tensor:
    """`steps` + 1 times, float64, falling from T to 0.

    `scale` is where a graded grid is densest, in units of sigma_y = gamma^-1/2.
    """
    require_choice(grid, "grid", GRIDS)
    part = torch.linspace(1, 0, require_int(steps, "steps") + 1, dtype=torch.float64)
    if grid == "uniform": return part * path.T
    if grid == "karras":
        pinned = int(path.gamma(path.T) == 0)
        high, low = (path.T * (1 - 1e-4 * pinned)) ** (1 / 7), (1e-4 * path.T) ** (1 / 7)
        inner = torch.linspace(high, low, max(steps - pinned, 1), dtype=torch.float64) ** 7
        return torch.cat([as_time([path.T]), inner[1 - pinned :][: steps - 1], torch.zeros(1, dtype=torch.float64)])
    require_number(scale, "scale", 0, above=True)
    sigma = scale * torch.tan(torch.atan(path.gamma(path.T) ** -0.5 / scale) * part)
    times = path.t_of_gamma(sigma**-2.0)
    times[0], times[-1] = path.T, 0.0
    return times


def sample(D: Callable, path: Path, like: Tensor, steps: int = 25, *, xT: Tensor | None = None, mode: str = "sample",
           eta: float = 0.0, order: int = 2, grid: str = "graded", scale: float = 0.3, clip: float | None = None,
           seed: int | torch.Generator | None = None) -> Tensor:
    """The image at t = 0 after `steps` evaluations of `D`: shape of `like`, (N, ...).

    `eta` in [0, 1] (0 in point mode), `order` 1 or 2, `grid` and `scale` as in `time_grid`, the rest as in
    `trajectory`. `clip` bounds every estimate to [-clip, clip], where a mean of images in that range must lie.
    """
    times = time_grid(path, steps, grid, scale)
    if clip is not None: require_number(clip, "clip", 0, above=True)
    E = D if clip is None else lambda x, t: D(x, t).clamp(-clip, clip)
    for step in trajectory(E, path, like, times, xT=xT, mode=mode, eta=eta, order=order, seed=seed):
        x = step.x0
    return x


# %%
for path in (bridge, VPCosine(), VE(), Pinned(VE(80.0))):
    for grid in GRIDS:
        for n in (1, 2, 10):
            times = time_grid(path, n, grid)
            assert (times[0], times[-1], len(times)) == (path.T, 0, n + 1)
            assert (times.diff() < 0).all()
high, low = 0.9999 ** (1 / 7), 1e-4 ** (1 / 7)
inner = [(high + i / 3 * (low - high)) ** 7 for i in range(4)]
test_close(time_grid(bridge, 5, "karras"), f64(1.0, *inner, 0.0), eps=1e-12)
test_close(time_grid(VE(), 3, "karras"),
           80 * f64(1.0, (0.5 + 0.5 * low) ** 7, 1e-4, 0.0), eps=1e-10)
time_grid(bridge, 8)

# %% [markdown]
# `clip` bounds the estimates, and with them the result.

# %%
wild = lambda x, t: 9 * xT
largest = lambda clip: sample(wild, bridge, x0, 5, xT=xT, clip=clip).abs().max()
assert largest(1.0) <= 1 < 3 < largest(None)

# %%
#| include: false
good, flat = (lambda x, t: 0.8 * xT), (lambda x, t: x[:, 0])
lost = lambda x, t: xT / (t - 0.5).clamp(min=0)[:, None]
call = lambda D=good, like=x0, **kw: sample(D, bridge, like, **{"xT": xT} | kw)
for name, wrong in {
    "grid: expected one of": lambda: call(grid="linear"),
    "mode: expected one of": lambda: call(mode="mean"),
    "eta: expected": lambda: call(mode="point", eta=0.5),
    "like: expected": lambda: call(like=x0[:, 0]),
    "xT: expected an endpoint on a bridge": lambda: call(xT=None),
    "xT: expected an endpoint of shape (50, 1)": lambda: call(xT=xT[:3]),
    "denoiser: expected estimates of shape (50, 1)": lambda: call(flat),
    "NaN or infinite values at t=0.5": lambda: call(lost, steps=10, grid="uniform"),
    "clip: expected": lambda: call(clip=0.0),
}.items():
    with expect_fail(ValueError, contains=name): wrong()

# %% [markdown]
# ## Orders, measured
#
# The bridge's Gaussian world has the exact answer: $x_0|x_T\sim\mathcal N(0.8\,x_T,\,0.3^2)$. With $\eta=0$ and an exact denoiser the result is an affine function of the first noise; two samples whose first noise we know give its slope, the standard deviation of the result, without sampling error. Its error must fall as $1/n$ for order 1. For the multistep solver on the graded grid, step $k$ begins at $\gamma_k\sim k^2/n^2$, has the length $\Delta\Lambda\approx1/k$, and by @eq-flow-step a relative error of order $v\gamma_k\Delta\Lambda^3\sim1/(n^2k)$; likewise from the other end. The sum is of order $\log n/n^2$: in the table, times $n^2$, it grows evenly. On the uniform grid $\gamma_k\sim k/n$, and the sum, of order $\tfrac1n\sum1/k^2$, is led by the first steps. The grid's scale is 0.2 here, because the default happens to be the right answer.

# %%
world = GaussianWorld(f64(0.0), *(f64(q)[:, None] for q in (0.25, 0.8)), f64(0.0),
                      f64(0.09)[:, None])
xT = torch.full((2, 1), 0.7, dtype=torch.float64)
D = world.denoiser(bridge, xT, xT)


def spread(n, order, grid, scale=0.2):
    x = sample(D, bridge, xT, n, xT=xT, order=order, grid=grid, scale=scale, seed=0)
    eps = randn_like(xT, rng(0))
    slope = (x[0] - x[1]) / (eps[0] - eps[1])
    test_close(x - slope * eps, 0.8 * xT, eps=1e-9)  # the mean is exact
    return slope.item()


ns = [5, 10, 25, 50, 100, 200, 400]
cases = [(order, grid) for order in (1, 2) for grid in ("uniform", "graded")]
errors = {(order, grid): [abs(spread(n, order, grid) / 0.3 - 1) for n in ns]
          for order, grid in cases}
slopes = {k: math.log2(v[-1] / v[-2]) for k, v in errors.items()}
for (order, grid), slope in slopes.items():
    assert abs(slope + (2 if (order, grid) == (2, "graded") else 1)) < 0.25
test_close(spread(10, 2, "graded", 0.3) / 0.3, 0.98, eps=0.005)
test_close(spread(25, 2, "graded", 0.3) / 0.3, 1.0, eps=0.005)

# %%
rows, doubled = {}, [100, 200, 400, 800, 1600]
for n in doubled:
    first, v = bridge.gamma(time_grid(bridge, n, "uniform")[1]).item(), 0.09
    walk = trajectory(D, bridge, xT, time_grid(bridge, n, "uniform"), xT=xT, seed=0)
    begun = [next(walk) for _ in range(2)][1]
    _, b, c = bridge.coefs(begun.t)
    wide = begun.x.diff(dim=0) / randn_like(xT, rng(0)).diff(dim=0)
    short = 1 - (wide / (v * b**2 + c**2).sqrt()).item()  # of the spread, after step 1
    assert abs(short / (v * first / 2) - 1) < 2 * v * first
    graded, even = (1 - spread(n, 2, grid) / 0.3 for grid in ("graded", "uniform"))
    rows[n] = {"first step": f"{short:.2e}", r"$v\gamma_1/2$": f"{v * first / 2:.2e}",
               "uniform / first": even / short, r"graded, $\times n^2$": graded * n**2}
scaled = [row[r"graded, $\times n^2$"] for row in rows.values()]
growth = [b - a for a, b in pairwise(scaled)]  # of log n
assert max(growth) / min(growth) < 1.06 and growth[-1] / growth[-2] < 1.01
ratios = [row["uniform / first"] for row in rows.values()]
assert max(ratios) / min(ratios) < 1.1
Table(rows, "evaluations")

# %%
#| label: fig-orders
#| fig-cap: 'Relative error of the standard deviation that the ODE ($\eta=0$) gives on the bridge. Order 2 on the graded grid comes near slope −2; on a uniform grid either order falls as $1/n$. The legend''s slopes are those between 200 and 400 evaluations.'
#| fig-alt: 'Log-log line chart of the relative error of the spread against 5 to 400 evaluations. Order 1 on either grid and order 2 on the uniform grid run parallel to a dotted line of slope -1 and end between 0.006 and 0.001; order 2 on the graded grid falls from 0.16 to below 0.0001, close to a dotted line of slope -2.'
fig, ax = plt.subplots(figsize=(6, 3.8))
for (order, grid), v in errors.items():
    label = f"order {order}, {grid}: slope {slopes[order, grid]:.2f}".replace("-", "−")
    style = "o-" if grid == "graded" else "s--"
    ax.loglog(ns, v, style, markersize=4, color=f"C{order - 1}", label=label)
for power, at in [(1, 4.5), (2, 4.0)]:
    ax.loglog(ns[3:], [at * n**-power for n in ns[3:]], ":", color="0.4", linewidth=1.2)
    ax.text(420, at * 400**-power, f"slope −{power}", fontsize=9, va="center")
ax.set(xlabel="evaluations $n$", ylabel="relative error of the spread",
       title="The grid decides the order", xlim=(4, 800))
ax.legend(loc="lower left");

# %% [markdown]
# The same code on a diffusion, where the exact flow is known too: for $\mathcal N(\mu,v)$ data $y$ has variance $v+\sigma_y^2$, so it stretches $y-\mu$ by $\sqrt{(v+\sigma_{y,s}^2)/(v+\sigma_{y,t}^2)}$.

# %%
v, path = 0.25, VPCosine()
D_free = denoiser(gaussian(f64(0.3), f64(v)[:, None]), path)
_, b, c = path.coefs(path.T)
stretch = lambda noise: 0.3 + (noise / b - 0.3) * (v / (v + (c / b) ** 2)).sqrt()
rows = {n: {} for n in (40, 80, 160)}
for mode, noise in [("sample", randn_like(xT, rng(0))), ("point", 0 * xT)]:
    run = lambda n: sample(D_free, path, xT, n, mode=mode, seed=0)
    errors = {n: (run(n) - stretch(noise)).abs().max() for n in rows}
    assert abs(math.log2(errors[80] / errors[160]) - 2) < 0.25
    for n, e in errors.items(): rows[n][f"error of the {mode}"] = f"{e:.1e}"
Table(rows, "evaluations")

# %% [markdown]
# ## What random steps lose
#
# Given $y_t$, the exact law of $y_s$ is the posterior step averaged over $x_0|y_t$. The *mean* of that is what the update with $\eta=1$ produces. The *covariance*, by the rule of total variance, has two parts,
#
# $$\mathrm{Var}[y_s|y_t]=\frac{\gamma_s-\gamma_t}{\gamma_s^2}I+\Big(1-\frac{\gamma_t}{\gamma_s}\Big)^2\,\mathrm{Var}[x_0|y_t],$$ {#eq-omitted}
#
# and the update, which puts $\hat x_0$ in the place of the random $x_0$, has only the first. Each ancestral step omits the second. Since $1-\gamma_t/\gamma_s\approx2\Delta\Lambda$, that is of order $\Delta\Lambda^2$ per step and $1/n$ in total: means are right, *diversity* is lost. The check is exact: one step of the update from the exact law of $y_t$, whose variance is $v+1/\gamma_t$, must give $v+1/\gamma_s$ less the omitted part.

# %%
zero, one, v = f64(0.0)[None], f64(1.0)[None], 0.09
near = world.denoiser(bridge, zero, zero)
for t, s in [(0.9, 0.7), (0.5, 0.1), (0.3, 0.29)]:
    here, there = noise_level(bridge, f64(t)[0]), noise_level(bridge, f64(s)[0])
    x0_bar = lambda x: near(x, here.t)
    step = lambda x: update(x, x0_bar(x), here, there, zero, 1.0, "sample", rng(7))
    slope = (step(one) - step(zero)) * here.b / there.b
    fresh = step(zero) / randn_like(zero, rng(7)) / there.b
    produced = slope**2 * (v + 1 / here.gamma) + fresh**2
    omitted = (1 - here.gamma / there.gamma) ** 2 * v / (1 + v * here.gamma)
    test_close(produced, v + 1 / there.gamma - omitted, eps=1e-10)

# %% [markdown]
# **Second order at $\eta>0$ is a heuristic.** The slope in @eq-multistep is that of a smooth flow. A random step adds noise of order $\sqrt{\Delta\Lambda}$ to $y$, and $\hat x_0$ follows it. The difference $\hat x_0-\hat x_0^{\mathrm{last}}$ then contains this response, which is no slope. @eq-multistep carries half of it into the next step; that adds variance, which offsets some of the loss, and may overshoot. So for $\eta>0$ no second order is claimed. Below, spread over exact spread (10 000 draws, so $\pm0.7\,\%$), all with the right mean; *karras* takes one evaluation more than its $n$. Order 1 has a second road, without draws: by @eq-update a deviation from the mean is multiplied by a number at each step, and $\rho^2$ is added to its variance.

# %%
many = torch.full((10_000, 1), 0.7, dtype=torch.float64)
D_many = world.denoiser(bridge, many, many)
settings = [(0.0, 2, "graded"), (0.5, 2, "graded"), (1.0, 2, "graded"),
            (0.0, 1, "graded"), (1.0, 1, "graded"), (0.0, 1, "karras"),
            (1.0, 1, "karras")]
run = lambda n, eta, order, grid: sample(D_many, bridge, many, n, xT=many, eta=eta,
                                         order=order, grid=grid, seed=1)
spreads, counts = {}, (5, 10, 25, 100)
for eta, order, grid in settings:
    extra = grid == "karras"  # one more evaluation, at T
    draws = {n: run(n + extra, eta, order, grid) for n in counts}
    assert all(abs(x.mean() - 0.56) < 0.01 for x in draws.values())
    spreads[eta, order, grid] = {n: round((x.std() / 0.3).item(), 3)
                                 for n, x in draws.items()}


def recursion(n, eta, grid):
    "Spread over exact spread of order 1, by following the variance."
    L, V, v = noise_level(bridge, time_grid(bridge, n, grid)), 0.0, 0.09
    for i in range(n):
        b, c, b_s, c_s = L.b[i], L.c[i], L.b[i + 1], L.c[i + 1]
        rho = eta * c_s * (1 - L.gamma[i] / L.gamma[i + 1]).sqrt()
        k = b * v / (b**2 * v + c**2) if c > 0 else 0.0  # of the estimate on x_t
        kept = b_s * k + (c_s**2 - rho**2).sqrt() * (1 - b * k) / c if c > 0 else 0.0
        V = kept**2 * V + (rho**2 if c > 0 else c_s**2)
    return V.sqrt().item() / 0.3


for (eta, order, grid), row in spreads.items():
    if order == 1:
        for n, value in row.items():
            want = recursion(n + (grid == "karras"), eta, grid)
            assert abs(value / want - 1) < 4 * 0.0071
known = {0.0: {5: 0.595, 10: 0.806, 100: 0.980}, 1.0: {5: 0.555, 10: 0.743, 100: 0.972}}
for eta, values in known.items():  # of a program that is not in this repository
    for n, value in values.items():
        test_close(spreads[eta, 1, "karras"][n], value, eps=0.02)
        test_close(recursion(n + 1, eta, "karras"), value, eps=0.006)
assert abs(run(500, 1.0, 1, "karras").std() / 0.3 - 1) < 0.02
Table([{r"$\eta$": f"{eta}", "order": order, "grid": grid}
       | {f"$n={n}$": f"{v:.3f}" for n, v in row.items()}
       for (eta, order, grid), row in spreads.items()])

# %% [markdown]
# ## Point or sample
#
# `mode="sample"` draws from $p(x_0|z)$. `mode="point"` starts from zero noise and takes no fresh noise: one image per code. For Gaussian data that image is the conditional **mean**. In one dimension it is the **median** for *any* distribution: two paths of an ODE cannot cross, since from a common point both would go on alike. So the flow keeps the order, and maps the middle of the start (zero noise) to the middle of the result. It is not the mean, and in general not the mode.
#
# The conditional *mean* $m$ has half the expected squared error of a sample. Let $x$ be the truth, $x'$ a posterior sample, independent of it given $z$, and $\dot x$ the point:
#
# $$\begin{aligned}\mathbb E\|x-x'\|^2&=\mathbb E\|x-m\|^2+\mathbb E\|m-x'\|^2=2\,\mathbb E\|x-m\|^2,\\\mathbb E\|x-\dot x\|^2&=\mathbb E\|x-m\|^2+\mathbb E\|m-\dot x\|^2.\end{aligned}$$ {#eq-half}
#
# A point has half a sample's error where it *is* the mean, as for Gaussian data; elsewhere it has more than half. **Never compare the point of one model with the sample of another.**

# %%
for n in (1, 5, 20):  # Gaussian data: the point is the mean
    test_close(sample(D, bridge, xT, n, xT=xT, mode="point"), 0.8 * xT, eps=1e-12)

data = Mixture(f64(0.7, 0.3), f64(-0.5, 0.6)[:, None],
               f64(0.05**2, 0.05**2)[:, None, None])
D_two = lambda end: denoiser(data, bridge, end)
draws = sample(D_two(many), bridge, many, 100, xT=many, eta=1.0, order=1, seed=2)
assert abs((draws > 0.05).double().mean() - 0.3) < 0.02

one = many[:1]
walk = lambda n: sample(D_two(one), bridge, one, n, xT=one, mode="point", order=1,
                        grid="uniform").item()
point = {n: walk(n) for n in (20, 100, 500)}
median = -0.5 + 0.05 * torch.special.ndtri(f64(0.5 / 0.7)).item()
mean = -0.7 * 0.5 + 0.3 * 0.6
assert abs(point[500] - median) < 1e-2 and abs(point[20] - median) < 2e-2

x, variance = data.sample(10_000, seed=3), 0.7 * 0.3 * 1.1**2 + 0.05**2
cost = {"mean": (x - mean).square(), "point": (x - point[500]).square(),
        "sample": (x - draws).square()}
for name, want in [("mean", variance), ("point", variance + (mean - point[500]) ** 2),
                   ("sample", 2 * variance)]:
    assert abs(cost[name].mean() - want) < 4 * cost[name].std() / 10_000**0.5
Table({k: {"value": {"mean": mean, "point": point[500]}.get(k, "random"),
           "mean squared error": v.mean().item()} for k, v in cost.items()}, "returned")

# %%
#| label: fig-point-and-sample
#| fig-cap: 'Two modes of unequal weight. Samples fall into both, the point is the median, inside the larger mode, and the mean, which has the least squared error, lies where there are no images.'
#| fig-alt: 'Histogram of samples: a peak of density 6 at -0.5 and one of density 2.6 at 0.6, nothing in between. Vertical lines for the point and the median coincide at -0.47, on the larger peak; a dashed line for the mean is at -0.17, in the gap.'
fig, ax = plt.subplots()
ax.hist(draws[:, 0].numpy(), bins=120, density=True, color="C5", histtype="stepfilled",
        label='mode="sample"')
ax.axvline(point[500], color="C1", linewidth=3, label='mode="point"')
ax.axvline(median, color="black", linestyle=":", label="median")
ax.axvline(mean, color="0.4", linestyle="--", label="mean")
ax.set(xlabel="$x_0$", ylabel="density", title="What a sampler returns")
ax.legend();

# %% [markdown]
# ## Reference integrators
#
# Released bridge code [@zhou2024ddbm] integrates drifts in $t$ directly, from $T-10^{-4}\,T$: Euler or Heun (which averages the slopes at a step's two ends) [@karras2022edm] on the probability-flow ODE, and *churn*, a fraction of every step done as an Euler–Maruyama step of the reverse SDE. They are no settings of @eq-update; they stay for comparison with published numbers.

# %%
#| exports
METHODS = ("euler", "heun")


def integrate(D: Callable, path: Path, x: Tensor, times: Tensor, *, xT: Tensor | None = None, method: str = "heun",
              churn: float = 0.0, seed: int | torch.Generator | None = None) -> Tensor:
    """Integrate the probability-flow ODE from x (N, ...) at times[0] to times[-1], by Euler or Heun (Euler into 0).

    `churn` in [0, 1] is the fraction of each step done on the reverse SDE, by Euler-Maruyama; 1 is the SDE alone.
    `times` fall to 0, or rise to invert; they begin after 0 and, on a bridge, before T, where the drift is infinite.
    """
    require_choice(method, "method", METHODS)
    require_number(churn, "churn", 0, 1)
    require(bool(path.coefs(times[0]).c > 0), "times", times, "times that begin after 0 and before a bridge's end")
    g = rng(seed, x.device)
    drift = lambda x, t: ode_drift(path, x, t, _estimate(D, x, t), xT)
    for t, s in pairwise(times):
        if churn and s > 0:
            dt = churn * (s - t)
            x = euler_step(x, reverse_drift(path, x, t, _estimate(D, x, t)), path.g2(t), dt, g)
            t = t + dt
        d = drift(x, t)
        new = x + bcast(s - t, x) * d
        if method == "heun" and s > 0: new = x + bcast(s - t, x) * (d + drift(new, s)) / 2
        x = new
    return x


# %% [markdown]
# Between two inner times the exact map of the Gaussian world is $x_s=M_sx_T+\sqrt{V_s/V_t}\,(x_t-M_tx_T)$ with $M=a+0.8\,b$ and $V=0.09\,b^2+c^2$. Euler must be of order one, Heun of order two.

# %%
def exact_flow(path, x, t, s):
    law = lambda a, b, c: ((a + 0.8 * b) * xT, 0.09 * b**2 + c**2)  # mean, variance
    (m, v), (m_s, v_s) = law(*path.coefs(t)), law(*path.coefs(s))
    return m_s + (v_s / v).sqrt() * (x - m)


x_t = xT + f64(0.3, -0.4)[:, None]
for path in (bridge, Pinned(VE(80.0))):
    high, low = 0.95 * path.T, 0.02 * path.T
    D_path, exact = world.denoiser(path, xT, xT), exact_flow(path, x_t, high, low)
    ends = math.log10(high), math.log10(low)
    grids = [torch.logspace(*ends, n + 1, dtype=torch.float64) for n in (100, 200)]
    for method, want in [("euler", 1), ("heun", 2)]:
        run = lambda grid: integrate(D_path, path, x_t, grid, xT=xT, method=method)
        err = [(run(grid) - exact).abs().max() for grid in grids]
        assert abs(math.log2(err[0] / err[1]) - want) < 0.2

# %%
with expect_fail(ValueError, contains="churn: expected"):
    integrate(D, bridge, xT, grids[0], xT=xT, churn=1.5)
with expect_fail(ValueError, contains="times that begin after 0"):
    integrate(D, bridge, xT, time_grid(bridge, 5), xT=xT)

# %% [markdown]
# As released, started at $x_T$: the ODE gives no spread at all, whatever the number of steps; only churn does. And with more steps the spread goes to the exact one: the reverse SDE has the marginals that [Bridges](05_bridges.ipynb) claims.

# %%
released, widths = [], {}
cases = [("Euler", "euler", 0.0, 100), ("churn .33, Euler", "euler", 0.33, 100),
         ("churn .33, Euler", "euler", 0.33, 400),
         ("churn .33, Euler", "euler", 0.33, 1200),
         ("churn 1, Euler", "euler", 1.0, 33), ("churn 1, Euler", "euler", 1.0, 400),
         ("churn .33, Heun", "heun", 0.33, 33)]
for name, method, churn, steps in cases:
    times = time_grid(bridge, steps + 1, "karras")[1:]  # without T itself
    x = integrate(D_many, bridge, many, times, xT=many, method=method, churn=churn,
                  seed=3)
    assert (x.std() / 0.3 > 0.9) == (churn > 0) and (churn > 0 or x.std() < 1e-12)
    evaluations = steps + (churn > 0) * (steps - 1) + (method == "heun") * (steps - 1)
    widths[name, steps] = (x.std() / 0.3).item()
    released.append({"integrator": name, "evaluations": evaluations,
                     "mean": f"{x.mean():.3f}",
                     "spread / exact": f"{x.std() / 0.3:.3f}"})
third, whole = ([abs(w - 1) for (name, _), w in widths.items() if name == of]
                for of in ("churn .33, Euler", "churn 1, Euler"))
assert third[0] > 2 * third[1] > 2 * third[2] and max(third[2], whole[1]) < 0.015
assert whole[0] > 0.03
Table(released)

# %% [markdown]
# ## Exercises
#
# **1.** *Explain.* What does `mode="sample"` return after a single step, and why does the seed not matter?

# %%
#| code-fold: true
#| code-summary: "Solution"
one_step = [sample(D, bridge, xT, 1, xT=xT, mode="sample", seed=s) for s in (0, 1)]
# at T the estimate is the mean given x_T, and at t = 0 it is the whole answer: c_0 = 0
for x in one_step: test_close(x, D(xT, torch.ones(2)), eps=1e-12)


# %% [markdown]
# **2.** *Extend.* Order 1 on the graded grid has an error $C/n+\dots$. Combine its results at $n$ and $2n$ so that $C$ cancels. Which order comes out, and for how many evaluations?

# %%
#| code-fold: true
#| code-summary: "Solution"
def combined(n): return 2 * spread(2 * n, 1, "graded") - spread(n, 1, "graded")


error = {n: abs(combined(n) / 0.3 - 1) for n in (50, 100, 200)}  # 3 n evaluations
assert abs(math.log2(error[100] / error[200]) - 2) < 0.3
assert error[50] < abs(spread(150, 1, "graded") / 0.3 - 1) / 5

# %% [markdown]
# ## What can go wrong
#
# * **Too few steps look like a narrow posterior.** Spread is what a coarse grid loses first. Compare spreads only at converged step counts.
# * **$\eta=1$ with few steps.** @eq-omitted is lost at each of them. Only $\eta=0$ has a measured second order, on the graded grid: its spread is right to 3 % from ten evaluations on.
# * **A bridge that starts from $x_T$ at a time $s<T$, without noise.** It gives a point, with a bias of order $\sqrt{T-s}$, and is easily mistaken for a sampler.
