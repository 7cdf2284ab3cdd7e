# %% [markdown]
# # Paths
#
# > How noise is mixed in: a linear SDE is its log-SNR, and pinning its end subtracts a constant from the SNR.

# %% [markdown]
# How does noise get into an image, so that a machine can learn to take it out again? That is this page's question. Why one should want to is the story of all these pages, in five steps.
#
# 1. **Noise** is mixed in, a little at a time, until nothing of the image is left.
# 2. **Undoing it needs the score.** A small step moves the image by $g\sqrt\delta\,\varepsilon$. Seen from where it arrived, this noise does not have mean zero: the image more likely came from where there are more images. The mean of the noise turns out to be $-g^2\delta\,\nabla\log q_t$ (exercise 2), with the gradient of the log-density of noisy images, the *score*. Add $g^2\delta\,\nabla\log q_t$ and new noise, and the step is undone ([Bridges](05_bridges.ipynb)).
# 3. **A denoiser is a score.** A network trained only to estimate the clean image knows it ([Scores](04_scores.ipynb)).
# 4. **Its error is a bound.** Its squared error, added up over all noise levels (in @fig-story by the signal-to-noise ratio $\gamma$, defined below), bounds the likelihood of the data ([Bounds](06_bounds.ipynb)).
# 5. **A code lowers the error.** Tell the denoiser a few numbers about the clean image, and its error, added up in the same way, falls by exactly the information in them ([Gaps](07_gaps.ipynb)). So codes can be learned by denoising.
#
# @fig-story shows the five on the smallest example: "images" are single numbers from two humps, and the code says which hump.

# %%
#| default_exp foundations.paths

# %%
#| exports
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from scoreae.core.checks import bcast, require, require_number

# %%
#| hide
from decimal import Decimal

import matplotlib.pyplot as plt
import numpy as np
from fastcore.test import expect_fail, test_close
from sklearn.datasets import load_digits

from scoreae.core.pages import Table, paper
from scoreae.foundations.tools import condition, euler_step

# %%
#| hide
paper()

# %%
#| label: fig-story
#| fig-cap: 'The story in one dimension. Left, two humps of data dissolve into noise. Middle, at a medium noise level the denoiser sends each noisy value to its estimate: away from where data are rare, towards a hump. Right, half the squared error of the denoiser at each noise level; knowing the hump lowers it, and the area between the curves is the information in that code.'
#| fig-alt: 'Three panels. Left: a grey map of density over time and value, two dark bands at time 0 that merge into one broad band at time 1. Middle: a density of noisy values with humps near minus 0.5 and 0.5; from a row of points below it arrows lead down to a second row, where they gather at minus 0.5 and 0.6. Right: error in nats per unit of log gamma against log gamma from -6 to 10; the curve without a code has a bump near 2 that the curve with the code lacks, the area between them is shaded, and both level off at 0.5.'
share, humps, width = torch.tensor([0.7, 0.3]), torch.tensor([-0.5, 0.6]), 0.1
line = torch.linspace(-2, 2, 4001, dtype=torch.float64)[:, None]


def seen(x, b, c):
    "Density of b x_0 + c eps at x, and the denoiser E[x_0 | x]."
    var = (b * width) ** 2 + c**2
    parts = share * torch.exp(-((x - b * humps) ** 2) / (2 * var))
    each = humps + b * width**2 / var * (x - b * humps)
    mean = (parts * each).sum(1) / parts.sum(1).clamp(min=1e-300)
    return parts.sum(1) / (2 * np.pi * var) ** 0.5, mean


def half_error(u):
    "Half the squared error in units of noise at log gamma = u."
    x = line * (1 + 5 * np.exp(-u / 2))
    density, mean = seen(x, 1.0, np.exp(-u / 2))
    square = share @ (humps**2 + width**2)
    return np.exp(u) * (square - torch.trapezoid(density * mean**2, x[:, 0])).item() / 2


levels = np.linspace(-6, 10, 161)
free = np.array([half_error(u) for u in levels])
told = np.exp(levels) * width**2 / (1 + np.exp(levels) * width**2) / 2
area = np.trapezoid(free - told, levels)
assert abs(area + (share * share.log()).sum()) < 0.01  # the entropy of the hump

x, angles = line[::20], np.linspace(0.01, np.pi / 2, 81)
maps = torch.stack([seen(x, np.cos(v), np.sin(v))[0] for v in angles], 1)
fig, (left, middle, right) = plt.subplots(1, 3, figsize=(8, 2.8))
left.pcolormesh(angles / angles[-1], x[:, 0], maps.sqrt(), cmap="Greys",
                rasterized=True)
left.set(xlabel="time", ylabel="$x_t$", title="1 Noise")
density, mean = seen(x, 0.9, 0.3)
middle.fill_between(x[:, 0], density, color="0.85")
at = slice(40, 165, 5)
middle.quiver(x[at, 0], 0 * mean[at] - 0.03, mean[at] - x[at, 0], 0 * mean[at] - 0.5,
              angles="xy", scale_units="xy", scale=1, width=0.007, color="C1")
middle.set(xlabel="noisy value, estimate", ylabel="density", title="2, 3 Denoiser",
           xlim=(-1.6, 1.6), ylim=(-0.6, None), yticks=[0, 0.4, 0.8])
right.plot(levels, free, label="no code")
right.plot(levels, told, "--", label="with code")
right.fill_between(levels, told, free, alpha=0.2, label=f"{area:.2f} nats")
right.set(xlabel=r"$\log\gamma$", ylabel=r"nats per unit of $\log\gamma$",
          title="4, 5 Error", xlim=(-6, 10), ylim=(0, 0.75))
right.legend(fontsize=8);


# %% [markdown]
# ## A path
#
# A **path** turns a clean image $x_0$ into
#
# $$x_t = a_t\,x_T + b_t\,x_0 + c_t\,\varepsilon,\qquad \varepsilon\sim\mathcal N(0, I)\ \text{independent of}\ x_0, x_T,$$ {#eq-path}
#
# for times $0\le t\le T$. A *diffusion* has $a_t=0$: the image fades into noise. A *bridge* ends in a second image $x_T$. We derive both from one stochastic differential equation, and check each formula with automatic differentiation.

# %% [markdown]
# ## A linear SDE and its log-SNR
#
# Take the linear stochastic differential equation [@song2021sde], with $w$ Brownian motion:
#
# $$dx = f(t)\,x\,dt + g(t)\,dw .$$ {#eq-sde}
#
# It is linear and driven by Gaussian noise, so $x_t$ given $x_0$ stays Gaussian: $x_t\,|\,x_0\sim\mathcal N(\alpha_t x_0,\sigma_t^2 I)$, starting from $\alpha_0=1$, $\sigma_0=0$. The equation is a recipe: in a short time $\delta$, $x_{t+\delta}=x_t+f\,x_t\,\delta+g\sqrt\delta\,\varepsilon$ with new noise ([Tools](01_tools.ipynb)). So a pixel's mean is multiplied by $1+f\delta$, its variance by $(1+f\delta)^2$, and the noise adds $g^2\delta$. Divide by $\delta\to0$: $\tfrac{d}{dt}\alpha=f\alpha$ and $\tfrac{d}{dt}\sigma^2=2f\sigma^2+g^2$. Now look at the logarithm $\lambda_t=\log\mathrm{SNR}_t$ of the signal-to-noise ratio $\mathrm{SNR}_t=\alpha_t^2/\sigma_t^2$:
#
# $$\frac{d\lambda}{dt} = \frac{2}{\alpha}\frac{d\alpha}{dt}-\frac{1}{\sigma^2}\frac{d\sigma^2}{dt} = 2f-\Big(2f+\frac{g^2}{\sigma^2}\Big) = -\frac{g^2}{\sigma^2}.$$ {#eq-dlogsnr}
#
# So $g^2=-\lambda'\sigma^2$, always, and $\lambda$ can only fall. If we also know how large the signal is, $\lambda$ determines everything. Two families cover practice:
#
# * **variance preserving** (VP), $\alpha^2+\sigma^2=1$. Then $\alpha^2=\operatorname{sigmoid}(\lambda)$, $\sigma^2=\operatorname{sigmoid}(-\lambda)$ and $f=\tfrac{d}{dt}\tfrac12\log\operatorname{sigmoid}(\lambda)=\tfrac12\lambda'\sigma^2=-\tfrac12 g^2$;
# * **variance exploding** (VE), $\alpha=1$. Then $\sigma^2=e^{-\lambda}$ and $f=0$.
#
# A diffusion is therefore *one decreasing function* $\lambda(t)$ *from* $+\infty$, *and one bit*. Its coefficients in @eq-path are $a=0$, $b=\alpha$, $c=\sigma$, and the signal-to-noise ratio of $x_0$ along it is $\gamma_t=b_t^2/c_t^2=e^{\lambda_t}=\mathrm{SNR}_t$. (For any path $\gamma$ is $b^2/c^2$; on a bridge, below, that is no longer the SNR of the SDE.) All this arithmetic is in float64.
#
# A path answers questions: its coefficients, $\gamma$, the inverse $t(\gamma)$, and $f$ and $g^2$ of the SDE that drives it. One more ratio will be useful because it stays finite where $b$ and $c$ vanish: the *tilt* $b_t/c_t^2$ ([Worlds in closed form](03_worlds.ipynb) says why it is called that).

# %%
#| exports
class Coefs(NamedTuple):
    "The coefficients of a path at given times, x_t = a x_T + b x_0 + c eps: float64, with the shape of t."

    a: Tensor
    b: Tensor
    c: Tensor


def as_time(t: float | Tensor) -> Tensor:
    "`t` as a float64 tensor, which is what all path arithmetic uses."
    return torch.as_tensor(t, dtype=torch.float64)


# %%
#| exports
class Path:
    """x_t = a x_T + b x_0 + c eps for times in [0, T], driven by dx = f x dt + g dw.

    Times may have any shape, answers are float64. A path gives `coefs(t)`, `gamma(t)` = b^2 / c^2 and its derivative
    `dgamma(t)`, the inverse `t_of_gamma(gamma)`, `tilt(t)` = b / c^2, `f(t)`, `g2(t)` = g^2, the end `T`, and `vp`.
    """

    vp: ClassVar[bool] = True  # variance preserving (alpha^2 + sigma^2 = 1), or exploding (alpha = 1)
    T: float = 1.0

    def check(self, t) -> Tensor:
        "`t` as float64, or `ValueError` outside [0, T]."
        t = as_time(t)
        bad = t[~((t >= 0) & (t <= self.T * (1 + 1e-6)))]
        require(bad.numel() == 0, "t", bad.flatten()[:3].tolist(), f"times in [0, {self.T:g}]")
        return t

    def check_end(self, xT: Tensor | None) -> None:
        "`ValueError` unless a bridge has its endpoint, and a diffusion none."
        require((xT is not None) == isinstance(self, Pinned), "xT", xT, "an endpoint on a bridge, None on a diffusion")

    def mix(self, x0: Tensor, eps: Tensor, t: Tensor, xT: Tensor | None = None) -> Tensor:
        "x_t = a x_T + b x_0 + c eps for images and noise (N, ...) and times (N,) or (); a bridge needs `xT`."
        require(eps.shape == x0.shape, "eps", eps, f"noise of shape {tuple(x0.shape)}")
        require(as_time(t).shape in ((), x0.shape[:1]), "t", t, f"one time, or {len(x0)} times")
        self.check_end(xT)
        a, b, c = (bcast(k, x0) for k in self.coefs(t))
        return b * x0 + c * eps if xT is None else a * xT + b * x0 + c * eps


# %%
#| exports
class Diffusion(Path):
    """A path with a = 0, given by its log-SNR.

    A subclass gives `logsnr(t)`, its inverse `t_of_logsnr(l)`, the squared noise rate `g2(t)`, and
    `snr_gap(t)` = SNR_t - SNR_T in a form that does not cancel.
    """

    def alpha(self, t): return torch.exp(logsigmoid(self.logsnr(t)) / 2) if self.vp else torch.ones_like(as_time(t))
    def sigma(self, t): return torch.exp((logsigmoid(-self.logsnr(t)) if self.vp else -self.logsnr(t)) / 2)
    def dlogsnr(self, t): return -self.g2(t) / self.sigma(t) ** 2
    def f(self, t): return -self.g2(t) / 2 if self.vp else torch.zeros_like(as_time(t))
    def gamma(self, t): return torch.exp(self.logsnr(t))
    def dgamma(self, t): return torch.exp(self.logsnr(t)) * self.dlogsnr(t)
    def tilt(self, t): return self.alpha(t) / self.sigma(t) ** 2

    def t_of_gamma(self, gamma):
        require(bool((as_time(gamma) > 0).all()), "gamma", gamma, "positive signal-to-noise ratios")
        return self.t_of_logsnr(as_time(gamma).log())

    def coefs(self, t) -> Coefs:
        t = self.check(t)
        return Coefs(torch.zeros_like(t), self.alpha(t), self.sigma(t))


# %% [markdown]
# ## Three schedules
#
# **VP-linear** [@ho2020ddpm; @song2021sde]: the noise rate grows linearly, $g^2=\beta_{\min}+\beta_d t$. With $B_t=\int_0^t g^2=\beta_{\min}t+\tfrac12\beta_d t^2$ the signal is $\alpha_t=e^{-B_t/2}$, hence $\lambda=\log\frac{\alpha^2}{1-\alpha^2}=-\log(e^{B}-1)$. The inverse is a softplus and a quadratic: $B=\log(1+e^{-\lambda})$, $t=2B/(\beta_{\min}+\sqrt{\beta_{\min}^2+2\beta_d B})$ (the form of the root that does not cancel).
#
# `snr_gap` is $\mathrm{SNR}_t-\mathrm{SNR}_T$. Near $T$ that difference of two nearly equal numbers loses its digits. Since $\mathrm{SNR}=1/(e^B-1)=\tfrac12(\coth\tfrac B2-1)$, the identity $\coth p-\coth q=\sinh(q-p)/(\sinh p\sinh q)$ gives
#
# $$\mathrm{SNR}_t-\mathrm{SNR}_T=\frac{\sinh\frac{B_T-B_t}2}{2\sinh\frac{B_t}2\,\sinh\frac{B_T}2},\qquad B_T-B_t=(T-t)\big(\beta_{\min}+\tfrac12\beta_d(T+t)\big),$$ {#eq-gap-vp}
#
# in which nothing cancels. The default is a diffusion's schedule, which ends in noise; for a bridge, `VPLinear(0.1, 2.0)` stops far from noise, on purpose.

# %%
#| exports
@dataclass(frozen=True)
class VPLinear(Diffusion):
    "VP path with the linear noise rate g^2 = beta_min + beta_d t (Ho et al. 2020; Song et al. 2021, VP-SDE)."

    beta_min: float = 0.1
    beta_d: float = 19.9
    T: float = 1.0

    def __post_init__(self):
        require_number(self.beta_min, "beta_min", 0, 1e6, above=True)
        require_number(self.beta_d, "beta_d", 0, 1e6)
        require_number(self.T, "T", 0, 1e6, above=True)

    def B(self, t): return as_time(t) * (self.beta_min + self.beta_d * as_time(t) / 2)
    def logsnr(self, t): return -torch.log(torch.expm1(self.B(t)))
    def g2(self, t): return self.beta_min + self.beta_d * as_time(t)

    def t_of_logsnr(self, l):
        B = softplus(-as_time(l), threshold=1e3)
        return 2 * B / (self.beta_min + torch.sqrt(self.beta_min**2 + 2 * self.beta_d * B))

    def snr_gap(self, t):
        left = (self.T - as_time(t)) * (self.beta_min + self.beta_d * (self.T + as_time(t)) / 2)
        return torch.sinh(left / 2) / (2 * torch.sinh(self.B(t) / 2) * torch.sinh(self.B(self.T) / 2))


# %% [markdown]
# **VP-cosine** [@nichol2021improved; @kingma2021vdm]: $\alpha=\cos\vartheta$, $\sigma=\sin\vartheta$ with an angle $\vartheta$ that grows linearly in time. Then $\lambda=-2\log\tan\vartheta$, $\lambda'=-4\vartheta'/\sin2\vartheta$, and $g^2=-\lambda'\sin^2\vartheta=2\vartheta'\tan\vartheta$. At $\vartheta=\pi/2$ the signal is gone and $\lambda=-\infty$; we stop a little before, at a chosen $\lambda_T$, so $\vartheta_t=t\,\vartheta_T$ with $\vartheta_T=\arctan e^{-\lambda_T/2}$. And $\cot^2\vartheta_t-\cot^2\vartheta_T=\sin(\vartheta_T-\vartheta_t)\sin(\vartheta_T+\vartheta_t)/(\sin\vartheta_t\sin\vartheta_T)^2$, where the second sine is computed as $\sin(2\varphi+\vartheta_T-\vartheta_t)$ with $\varphi=\tfrac\pi2-\vartheta_T=\arctan e^{\lambda_T/2}$.

# %%
#| exports
@dataclass(frozen=True)
class VPCosine(Diffusion):
    "VP path, alpha = cos, sigma = sin of an angle linear in t, with log-SNR `logsnr_T` at 1 (Nichol & Dhariwal 2021)."

    logsnr_T: float = -10.0

    def __post_init__(self): require_number(self.logsnr_T, "logsnr_T", -70, 0)

    @property
    def angle_T(self): return torch.atan(torch.exp(-as_time(self.logsnr_T) / 2))
    def angle(self, t): return as_time(t) * self.angle_T
    def logsnr(self, t): return -2 * torch.log(torch.tan(self.angle(t)))
    def g2(self, t): return 2 * self.angle_T * torch.tan(self.angle(t))
    def t_of_logsnr(self, l): return torch.atan(torch.exp(-as_time(l) / 2)) / self.angle_T

    def snr_gap(self, t):
        left, rest = (self.T - as_time(t)) * self.angle_T, torch.atan(torch.exp(as_time(self.logsnr_T) / 2))
        return torch.sin(left) * torch.sin(2 * rest + left) / (torch.sin(self.angle(t)) * torch.sin(self.angle_T)) ** 2


# %% [markdown]
# **VE** [@song2019ncsn; @karras2022edm]: no decay, and the noise level itself is the clock, $\sigma_t=t$ up to $T=\sigma_{\max}$. So $\lambda=-2\log t$, $g^2=2t$, and $t^{-2}-T^{-2}=(T-t)(T+t)/(tT)^2$.

# %%
#| exports
@dataclass(frozen=True)
class VE(Diffusion):
    "VE path sigma_t = t on [0, T], T being the largest noise level (Song & Ermon 2019; Karras et al. 2022)."

    T: float = 80.0
    vp: ClassVar[bool] = False

    def __post_init__(self): require_number(self.T, "T", 1, 1e6)

    def logsnr(self, t): return -2 * torch.log(as_time(t))
    def g2(self, t): return 2 * as_time(t)
    def t_of_logsnr(self, l): return torch.exp(-as_time(l) / 2)
    def snr_gap(self, t): return (self.T - as_time(t)) * (self.T + as_time(t)) / (as_time(t) * self.T) ** 2


# %% [markdown]
# Three schedules, one picture: a schedule decides *when* each noise level is visited, and where the path ends.

# %%
#| label: fig-schedules
#| fig-cap: 'The log-SNR falls along every diffusion. VP linear and VP cosine come to the same end by different routes; VE, whose clock is the noise level itself, drops at the start and then lingers at high noise.'
#| fig-alt: 'Line chart of log-SNR against the fraction of time. Three falling curves: VP linear, solid, VP cosine, dashed, and VE, dash-dotted. VP cosine is the highest and plunges at the end; VE is the lowest for nine tenths of the time, steep at the start and then flat; VP linear falls evenly from 8 to minus 10.'
fig, ax = plt.subplots()
u = torch.linspace(0.002, 1, 400, dtype=torch.float64)
for path, name, style in [(VPLinear(), "VP linear", "-"),
                          (VPCosine(), "VP cosine", "--"), (VE(), "VE", "-.")]:
    ax.plot(u, path.logsnr(u * path.T), style, label=name)
ax.set(xlabel="fraction of time $t/T$", ylabel=r"log-SNR $\lambda_t$")
ax.legend();


# %% [markdown]
# Now the checks. `derivative` differentiates a function of time automatically (adding $0\cdot t$ lets it differentiate constants). For each diffusion and for all times with $|\lambda|\le 20$, the coefficients must satisfy the two differential equations that @eq-sde implies, and @eq-dlogsnr; the inverse must invert.

# %%
def derivative(fn, t):
    t = t.clone().requires_grad_()
    return torch.autograd.grad((fn(t) + 0 * t).sum(), t)[0]


def relative(got, want):
    return torch.where(got == want, 0, (got - want).abs() / want.abs()).max().item()


worst = 0.0
others = [VPLinear(0.1, 2.0), VPCosine(-20.0), VE(5.0)]
for path in [VPLinear(), VPCosine(), VE(), *others]:
    least = max(-20.0, float(path.logsnr(path.T)))
    l = torch.linspace(least, 20, 200, dtype=torch.float64)
    t = path.t_of_logsnr(l)
    f, g2, (_, b, c) = path.f(t), path.g2(t), path.coefs(t)
    d_variance = derivative(lambda s: path.sigma(s) ** 2, t)
    for got, want in [
        (path.logsnr(t), l),
        (derivative(lambda s: path.alpha(s).log(), t), f),
        (d_variance - 2 * f * path.sigma(t) ** 2, g2),
        (derivative(path.logsnr, t), path.dlogsnr(t)),
        (derivative(path.gamma, t), path.dgamma(t)),
        (path.t_of_gamma(path.gamma(t)), t),
        (b**2 / c**2, path.gamma(t)),
        (b / c**2, path.tilt(t)),
    ]:
        worst = max(worst, relative(got, want))
assert worst < 1e-10
f"worst relative error: {worst:.1e}"

# %%
with expect_fail(ValueError, contains="t: expected times in [0, 1], got [-0.1]"):
    VPLinear().coefs(-0.1)


# %% [markdown]
# ## Pinning the end
#
# Now fix where the path ends. Given both $x_0$ and $x_T$, what is the law of $x_t$ in between? The SDE is Markov: after $t$ its noise is new, and independent of $x_t$. So $x_T$ is a multiple of $x_t$ plus noise. From $t$ to $T$ the means compose, and the variances must add up to $\sigma_T^2$:
#
# $$x_T\,|\,x_t\sim\mathcal N\Big(\tfrac{\alpha_T}{\alpha_t}x_t,\ \ \sigma_T^2-\tfrac{\alpha_T^2}{\alpha_t^2}\sigma_t^2\Big).$$ {#eq-transition}
#
# Given $x_0$, the pair $(x_t,x_T)$ is therefore jointly Gaussian with variances $\sigma_t^2,\sigma_T^2$ and covariance $\tfrac{\alpha_T}{\alpha_t}\sigma_t^2$. Condition $x_t$ on $x_T$ as in [Tools](01_tools.ipynb). The gain, covariance over variance, is $\tfrac{\alpha_T}{\alpha_t}\sigma_t^2/\sigma_T^2=\tfrac{\alpha_t}{\alpha_T}r_t$ with the ratio $r_t=\mathrm{SNR}_T/\mathrm{SNR}_t$. The conditional mean is $\alpha_tx_0+\tfrac{\alpha_t}{\alpha_T}r_t(x_T-\alpha_Tx_0)$ and the conditional variance $\sigma_t^2-\tfrac{\alpha_t}{\alpha_T}r_t\cdot\tfrac{\alpha_T}{\alpha_t}\sigma_t^2$. In the form of @eq-path:
#
# $$a_t=\frac{\alpha_t}{\alpha_T}\,r_t,\qquad b_t=\alpha_t(1-r_t),\qquad c_t^2=\sigma_t^2(1-r_t).$$ {#eq-pinned}
#
# The signal-to-noise ratio of $x_0$ along this *bridge*, when $x_T$ is known and taken off, is
#
# $$\gamma_t=\frac{b_t^2}{c_t^2}=\mathrm{SNR}_t(1-r_t)=\mathrm{SNR}_t-\mathrm{SNR}_T.$$ {#eq-shift}
#
# **Pinning the end subtracts a constant from the signal-to-noise ratio.** [Bridges](05_bridges.ipynb) finds the drift that produces this law (Doob's $h$-transform), and shows that, up to a change of variables, the shift is *all* that pinning does.
#
# With $1-r_t=\gamma_t/\mathrm{SNR}_t$ and the stable `snr_gap`, nothing cancels at either end. To invert $\gamma$, add the constant back. The tilt $b_t/c_t^2=\alpha_t/\sigma_t^2$ is the same for a path and its bridge.

# %%
#| exports
@dataclass(frozen=True)
class Pinned(Path):
    "The bridge of the diffusion `base`, ending at a given x_T: gamma = SNR_t - SNR_T. `f`, `g2` are those of `base`."

    base: Diffusion

    def __post_init__(self):
        require(isinstance(self.base, Diffusion), "base", self.base, "a diffusion")
        least, last = torch.finfo(torch.float64).eps, float(self.base.gamma(self.base.T))
        enough = f"SNR_T > {least:.1e}, below which a pin changes nothing"
        require(last > least, "base", f"SNR_T = {last:.1e}", enough)

    @property
    def T(self): return self.base.T
    @property
    def vp(self): return self.base.vp
    def f(self, t): return self.base.f(t)
    def g2(self, t): return self.base.g2(t)
    def gamma(self, t): return self.base.snr_gap(t)
    def dgamma(self, t): return self.base.dgamma(t)
    def tilt(self, t): return self.base.tilt(t)

    def t_of_gamma(self, gamma):
        require(bool((as_time(gamma) >= 0).all()), "gamma", gamma, "signal-to-noise ratios >= 0")
        return self.base.t_of_gamma(as_time(gamma) + self.base.gamma(self.T))

    def coefs(self, t) -> Coefs:
        t = self.check(t)
        alpha, snr, snr_T = self.base.alpha(t), self.base.gamma(t), self.base.gamma(self.T)
        kept = torch.where(snr.isinf(), 1.0, self.gamma(t) / snr)  # 1 - r_t, and 1 at t = 0
        return Coefs(alpha / self.base.alpha(self.T) * snr_T / snr, alpha * kept, self.base.sigma(t) * kept.sqrt())


# %% [markdown]
# The limits are what the name says: at $t=0$ the path is the image, at $t=T$ the pin, and there is no noise at either end.

# %%
bridge = Pinned(VPLinear(0.1, 2.0))
start, middle, end = (bridge.coefs(t) for t in (0.0, 0.5, 1.0))
assert (start.a, start.b, start.c) == (0, 1, 0)
assert (end.a, end.b, end.c) == (1, 0, 0)
expected = torch.tensor([0.2604, 0.7105, 0.4625], dtype=torch.float64)
test_close(torch.stack(middle), expected, eps=1e-4)

rows = {t: Coefs(*map(float, bridge.coefs(t))) for t in (0.0, 0.5, 1.0)}
Table({t: k._asdict() for t, k in rows.items()}, "time $t$", digits=4)

# %% [markdown]
# @eq-pinned is checked three times. First by simulation, which knows nothing but @eq-sde: 50 000 walks of small steps from one $x_0$; among them, $x_t$ is regressed on $x_T$. The slope must be $a_t$, the intercept $b_tx_0$, the rest $c_t$, within 0.01: steps and walks are finite. Second, `condition` on the joint covariance that @eq-transition gives; that checks the algebra only. Third, for VP-linear, hyperbolic sines (insert $\alpha=e^{-B/2}$ and $\mathrm{SNR}=1/(e^B-1)$): $a=\frac{\sinh(B_t/2)}{\sinh(B_T/2)}$, $b=\frac{\sinh((B_T-B_t)/2)}{\sinh(B_T/2)}$, $c^2=ab\cdot2\sinh(B_T/2)$, from $t=10^{-6}$ to $T-10^{-6}$.

# %%
g, x = torch.Generator().manual_seed(0), torch.full((50_000, 1), 1.3).double()
times, trace = torch.linspace(0, 1, 401, dtype=torch.float64), {}
for t, dt in zip(times, times.diff(), strict=False):
    trace[round(float(t), 4)] = x
    x = euler_step(x, bridge.f(t) * x, bridge.g2(t), dt, g)
rows = {}
for t in (0.25, 0.5, 0.75):
    ends = torch.cat([x, torch.ones_like(x)], 1)
    fit = torch.linalg.lstsq(ends, trace[t]).solution[:, 0]
    rest = (trace[t][:, 0] - ends @ fit).std()
    a, b, c = bridge.coefs(t)
    for seen_, want in zip((fit[0], fit[1], rest), (a, 1.3 * b, c), strict=True):
        assert abs(seen_ - want) < 0.01
    rows[t] = {"$a_t$": f"{fit[0]:.3f}", "$a_t$ exact": f"{a:.3f}",
               "$b_t$": f"{fit[1] / 1.3:.3f}", "$b_t$ exact": f"{b:.3f}",
               "$c_t$": f"{rest:.3f}", "$c_t$ exact": f"{c:.3f}"}
Table(rows, "time $t$")

# %%
BRIDGES = [bridge, Pinned(VPLinear()), Pinned(VPCosine(-2.0)), Pinned(VE())]
for pin in BRIDGES:
    t = torch.linspace(0.05, 0.95, 40, dtype=torch.float64) * pin.T
    alpha, alpha_T = pin.base.alpha(t), pin.base.alpha(pin.T)
    sigma, sigma_T = pin.base.sigma(t), pin.base.sigma(pin.T)
    fresh = sigma_T**2 - (alpha_T / alpha * sigma) ** 2  # of x_T given x_t
    line = [condition(*(k[None, None] for k in (s**2, alpha_T / a, v)))
            for s, a, v in zip(sigma, alpha, fresh, strict=True)]
    slope, left = (torch.stack(k).flatten() for k in zip(*line, strict=True))
    conditioned = Coefs(slope, alpha - slope * alpha_T, left.sqrt())
    for got, want in zip(pin.coefs(t), conditioned, strict=True):
        test_close(got / want, torch.ones_like(t), eps=1e-8)

# %%
early = torch.logspace(-6, -1, 50).double()
t = torch.cat([early, torch.linspace(0.1, 0.9, 100).double(), 1 - early])
B, BT, left = bridge.base.B(t), bridge.base.B(1.0), (1 - t) * (0.1 + 1.0 * (1 + t))
a, b = torch.sinh(B / 2) / torch.sinh(BT / 2), torch.sinh(left / 2) / torch.sinh(BT / 2)
sines = Coefs(a, b, torch.sqrt(a * b * 2 * torch.sinh(BT / 2)))
err = max(relative(p, q) for p, q in zip(bridge.coefs(t), sines, strict=True))
assert err < 1e-12
f"hyperbolic form, worst relative difference: {err:.1e}"

# %% [markdown]
# And $\gamma$ in its stable form against the plain difference $\mathrm{SNR}_t-\mathrm{SNR}_T$, which is exact enough on most of the path. Close to the end it is not: against 28 decimal digits, the relative errors are

# %%
u = torch.linspace(0.001, 1, 400, dtype=torch.float64)[:-1]
one = torch.ones_like(u)
for pin in BRIDGES:
    t = u * pin.T
    plain = pin.base.gamma(t) - pin.base.gamma(pin.T)
    err = (pin.gamma(t) / plain - 1).abs()
    assert err[u <= 0.9].max() < 1e-12 and err.max() < 1e-9
    test_close(derivative(pin.gamma, t) / pin.dgamma(t), one, eps=1e-10)
    test_close(pin.gamma(pin.t_of_gamma(plain)) / plain, one, eps=1e-9)
    _, b, c = pin.coefs(t)
    test_close(b / c**2 / pin.tilt(t), one, eps=1e-12)


# %%
def exact_gap(base, t):
    "SNR_t - SNR_T of a VP-linear path in decimal arithmetic."
    low, slope = Decimal(base.beta_min), Decimal(base.beta_d)
    snr = lambda t: 1 / ((low * t + slope * t * t / 2).exp() - 1)
    return float(snr(Decimal(t)) - snr(Decimal(1)))


rows = {}
for left in (1e-3, 1e-6, 1e-9):
    t, base = 1 - left, bridge.base
    want, plain = exact_gap(base, t), base.gamma(t) - base.gamma(1.0)
    stable, lost = abs(bridge.gamma(t) / want - 1), abs(plain / want - 1)
    assert stable < 1e-15 and (left > 1e-6 or lost > 1e-11)
    rows[f"{left:.0e}"] = {"stable": f"{stable:.0e}", "difference": f"{lost:.0e}"}
Table(rows, "$T-t$")

# %%
with expect_fail(ValueError, contains="SNR_T"): Pinned(VPCosine(-40.0))

# %% [markdown]
# ## Both paths on a real image
#
# A handwritten digit, mixed with one and the same noise, on its way to noise (top) and on its way to another digit (bottom). The amount of noise $c_t$ rises along the diffusion; on the bridge it rises and falls again.

# %%
#| label: fig-digit
#| fig-cap: 'One digit on two paths, from $t=0$ (left) to $t=T$ (right) in equal steps, with the same noise: a diffusion ends in noise, a bridge in its pin.'
#| fig-alt: 'Two rows of seven small grey images. Top row, the diffusion: the digit 3 dissolves into noise, with noise levels that rise from 0 to 1. Bottom row, the bridge: the digit 3 turns into a digit 0, with noise levels that rise to about one half and fall back to 0.'
digits = torch.tensor(load_digits().images / 8 - 1, dtype=torch.float32)
x0, xT = digits[3][None], digits[10][None]
eps = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))[None]
fig, axes = plt.subplots(2, 7, figsize=(7, 2.4))
for row, path, end in zip(axes, [VPCosine(), bridge], [None, xT], strict=True):
    for ax, t in zip(row, np.linspace(0, 1, 7), strict=True):
        ax.imshow(path.mix(x0, eps, t, end)[0], vmin=-1.5, vmax=1.5)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        ax.set_title(f"$c_t$={path.coefs(t).c:.2f}", fontsize=10)
    row[0].set_ylabel("bridge" if path is bridge else "diffusion")

# %%
#| label: fig-coefficients
#| fig-cap: 'The coefficients of a bridge, $x_t=a_t\,x_T+b_t\,x_0+c_t\,\varepsilon$, made from `VPLinear(0.1, 2.0)`: the image hands over to the pin, and the noise is largest in between.'
#| fig-alt: 'Line chart of three coefficients against time from 0 to 1. The curve a rises from 0 to 1, b falls from 1 to 0, and c rises from 0 to about one half and returns to 0.'
fig, ax = plt.subplots()
t = torch.linspace(0, 1, 300, dtype=torch.float64)
for k, name, style in zip(bridge.coefs(t), "abc", ["-", "--", "-."], strict=True):
    ax.plot(t, k, style, label=f"${name}_t$")
ax.set(xlabel="time $t$", ylabel="coefficient")
ax.legend();

# %% [markdown]
# ## Exercises
#
# **1.** *Compute.* The default `VPLinear()` ends in noise. Pin it all the same: from when on does the pin make up a tenth of the image, $a_t=0.1$? What is $a_t$ at $0.9\,T$?

# %%
#| code-fold: true
#| code-summary: "Solution"
pinned = Pinned(VPLinear())
t = torch.linspace(0.01, 0.99, 981, dtype=torch.float64)
when = t[(pinned.coefs(t).a - 0.1).abs().argmin()]
test_close(when, 0.735, eps=0.002)  # the last quarter
test_close(pinned.coefs(0.9).a, 0.387, eps=0.001)

# %% [markdown]
# **2.** *Explain.* In step 2 of the story a step arrived at $x$ from $x-g\sqrt\delta\,\varepsilon$. Show that the mean of $g\sqrt\delta\,\varepsilon$ given $x$ is $-g^2\delta\,\nabla\log q$: write $q(x)=\int q_{\text{before}}(y)\,\phi(x-y)\,dy$ with the Gaussian density $\phi$ of the noise $n=x-y$, differentiate, and use $\nabla\phi(n)=-\tfrac{n}{g^2\delta}\,\phi(n)$. Check it with draws for $x$ from $\mathcal N(0,1)$ before the step.

# %%
#| code-fold: true
#| code-summary: "Solution"
before = torch.randn(400_000, generator=g, dtype=torch.float64)
moved = 0.3 * torch.randn(400_000, generator=g, dtype=torch.float64)  # g^2 delta = 0.09
after = before + moved  # from N(0, 1.09), whose score is -x / 1.09
slope = (moved * after).mean() / after.square().mean()  # the mean of the noise, given x
test_close(slope, 0.09 / 1.09, eps=2e-3)

# %% [markdown]
# **3.** *Extend.* Flow matching draws a straight line, $x=(1-t)\,x_0+t\,\varepsilon$. A known factor on $x$ takes nothing away, so it may be scaled to be variance preserving, and only its SNR counts, $((1-t)/t)^2$. Write it as a `Diffusion` that ends at $T=0.99$, and let it pass this page's checks.

# %%
#| code-fold: true
#| code-summary: "Solution"
ratio = lambda t: (1 - as_time(t)) / as_time(t)


class Straight(Diffusion):
    T = 0.99
    def logsnr(self, t): return 2 * ratio(t).log()
    def t_of_logsnr(self, l): return torch.sigmoid(-as_time(l) / 2)
    def g2(self, t): return 2 * self.sigma(t) ** 2 / (as_time(t) * (1 - as_time(t)))
    def snr_gap(self, t): return (ratio(t) - ratio(self.T)) * (ratio(t) + ratio(self.T))


t, line = torch.linspace(0.01, 0.98, 50, dtype=torch.float64), Straight()
assert relative(derivative(line.logsnr, t), line.dlogsnr(t)) < 1e-10
assert relative(derivative(lambda s: line.alpha(s).log(), t), line.f(t)) < 1e-10
assert relative(line.t_of_gamma(line.gamma(t)), t) < 1e-10

# %% [markdown]
# ## What can go wrong
#
# * **Too much noise at $T$ for a bridge.** `Pinned(VPLinear())` with its default $\mathrm{SNR}_T\approx4\cdot10^{-5}$ is legal, but its $\gamma$ hardly differs from the diffusion's: the pin matters only in the last quarter of the time (exercise 1). `VPLinear(0.1, 2.0)` has $\mathrm{SNR}_T=0.5$.
# * **Subtracting SNRs.** Near $T$, computing $\gamma$ or $1-r_t$ by subtraction leaves rounding errors. At $0$ the ratio $\gamma/\mathrm{SNR}$ is $\infty/\infty$: `coefs` puts the limit, 1, in its place.
# * **Reading $t$ as a noise level.** Times of different paths are not comparable; $\gamma$ is. Comparisons in this library are made at equal $\gamma$.
