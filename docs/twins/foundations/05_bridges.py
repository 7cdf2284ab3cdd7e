# %% [markdown]
# # Bridges
#
# > Running noise backwards, and pinning its end: the reverse of a diffusion, Doob's h-transform, and why a bridge is an ordinary diffusion in disguise.

# %% [markdown]
# Which process takes noise out again, and what changes if the noisy end is not noise but a given $x_T$? [Paths](02_paths.ipynb) has the *laws*; here are the *processes*. The last section proves what the library rests on: after an affine change of variables, a bridge **is** a diffusion, so that one loss, one bound and one sampler serve both.

# %%
#| default_exp foundations.bridges

# %%
#| exports
from torch import Tensor

from scoreae.core.checks import bcast, require
from scoreae.foundations.paths import Path, Pinned

# %%
#| hide
import matplotlib.pyplot as plt
import torch
from fastcore.test import expect_fail, test_close

from scoreae.core.pages import Table, paper
from scoreae.foundations.paths import VE, VPCosine, VPLinear
from scoreae.foundations.tools import euler_step
from scoreae.foundations.worlds import Mixture, denoiser, noisy, score

# %%
#| hide
paper()

# %%
#| hide
f64 = lambda *v: torch.tensor(v, dtype=torch.float64)
g = torch.Generator().manual_seed(0)
randn = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)
BRIDGES = [Pinned(VPLinear(0.1, 2.0)), Pinned(VE(80.0)), Pinned(VPCosine(-1.0))]


def derivative(fn, t):
    t = t.clone().requires_grad_()
    return torch.autograd.grad((fn(t) + 0 * t).sum(), t)[0]


def relative(got, want): return ((got - want).abs() / (1 + want.abs())).max().item()


# %% [markdown]
# ## Undoing a diffusion
#
# Let $dx=K\,dt+g\,dw$ add noise, with $K=f\,x$ for a diffusion. The density $q_t$ obeys the forward equation of [Tools](01_tools.ipynb), which can be regrouped, because $\nabla^2q=\nabla\!\cdot(q\nabla\log q)$:
#
# $$\partial_tq=-\nabla\!\cdot(Kq)+\tfrac12g^2\,\nabla^2q=-\nabla\!\cdot\Big[\big(K-\tfrac12g^2\nabla\log q\big)q\Big].$$ {#eq-flow-density}
#
# The right side is pure transport: the **probability-flow ODE** $\tfrac{dx}{dt}=K-\tfrac12g^2\nabla\log q_t$ has the same marginals without any noise [@song2021sde]. Regroup the other way, for a process that runs backwards and gains noise:
#
# $$\partial_{(-t)}\,q=\nabla\!\cdot(Kq)-g^2\,\nabla^2q+\tfrac12g^2\,\nabla^2q=-\nabla\!\cdot\Big[\big(g^2\nabla\log q-K\big)q\Big]+\tfrac12g^2\,\nabla^2q.$$
#
# This is a forward equation in the time $-t$. Its solution is unique, so the **reverse SDE** $dx=(K-g^2\nabla\log q_t)\,dt+g\,d\bar w$ with $dt<0$ and new noise $\bar w$, started from $q_T$, has the *same marginals*. (Anderson [-@anderson1982reverse] shows more: the same law of whole paths.) **All that undoing noise needs is the score**, and a denoiser has it ([Scores](04_scores.ipynb)).
#
# The check: 20 000 walks back from $q_T$, data in two narrow humps, the score by automatic differentiation. The largest difference between their distribution function and the exact one must fall with the steps to that of a sample of this size: known to be about $0.006$ on average, and above $0.0115$ once in a hundred.

# %%
data = Mixture(f64(0.7, 0.3), f64(-0.5, 0.6)[:, None],
               f64(0.05**2, 0.05**2)[:, None, None])
plain, stop, walks = VPLinear(), 0.05, 20_000


def backwards(steps, eta, seed=0):
    "Walks from T to `stop` whose noise is eta g: 0 is the ODE, 1 the reverse SDE."
    g = torch.Generator().manual_seed(seed)
    noise = torch.randn(walks, 1, generator=g).double()
    x = plain.mix(data.sample(walks, g), noise, 1.0)
    times = torch.linspace(1, stop**0.5, steps + 1, dtype=torch.float64) ** 2
    for t, dt in zip(times, times.diff(), strict=False):
        s, g2 = score(noisy(data, *plain.coefs(t)[1:]), x), plain.g2(t)
        drift = plain.f(t) * x - (1 + eta**2) / 2 * g2 * s
        x = euler_step(x, drift, eta**2 * g2, dt, g)
    return x


def off(x):
    "Largest distance of the distribution functions of x and of the law at `stop`."
    law, at = noisy(data, *plain.coefs(stop)[1:]), x.sort(0).values
    each = (at - law.means[:, 0]) / law.covs[:, 0, 0].sqrt()
    below = torch.special.ndtr(each) @ law.weights
    return (below - torch.arange(len(x)).double() / len(x)).abs().max().item()


found = {n: {"reverse SDE": off(backwards(n, 1.0)), "flow ODE": off(backwards(n, 0.0))}
         for n in (12, 25, 50, 100, 200)}
for kind in ("reverse SDE", "flow ODE"):
    e = [row[kind] for row in found.values()]
    assert e[0] > 1.5 * e[1] > 2 * e[2] and e[-1] < 1.63 / walks**0.5  # 1 % of samples
Table(found, "steps", digits=2)

# %% [markdown]
# ## A fixed end
#
# Now fix the end. The process must reproduce $x_t=a_t\,x_T+b_t\,x_0+c_t\,\varepsilon$ with the coefficients of [Paths](02_paths.ipynb). On a VE path these are $a=r$, $b=1-r$ and $c^2=t^2(1-r)$ with $r=t^2/T^2$. The variance grows from $0$ and falls back to $0$.

# %%
vp, ve, cosine = BRIDGES
t = torch.linspace(0, 80, 41, dtype=torch.float64)
r = (t / 80) ** 2
for got, want in zip(ve.coefs(t), (r, 1 - r, t * (1 - r).sqrt()), strict=True):
    test_close(got, want, eps=1e-12)
test_close(torch.stack(ve.coefs(40.0)), f64(0.25, 0.75, 34.641), eps=1e-3)
test_close(torch.stack(vp.coefs(1e-6)), f64(0, 1, 3.16e-4), eps=1e-6)
test_close(torch.stack(vp.coefs(1 - 1e-6)), f64(1, 2e-6, 1.45e-3), eps=1e-5)


# %% [markdown]
# Let $q(x_t|x_s)$, $s<t<T$, be the transition density of the unpinned process $dx=f\,x\,dt+g\,dw$, and let $h(x,t)=q(x_T\,|\,x_t=x)$ be its probability density of ending at the wanted $x_T$ from $x$. By Bayes' rule and the Markov property,
#
# $$q(x_t\,|\,x_s,x_T)=q(x_t\,|\,x_s)\,\frac{h(x_t,t)}{h(x_s,s)}.$$ {#eq-doob-transition}
#
# Nothing earlier than $x_s$ enters: the conditioned process is Markov again. Multiply these densities along any times: the $h$'s telescope, and Bayes' rule for all the points at once remains. So whatever process has them has the right law *jointly*, not only at each time.
#
# Which SDE does? Fix $x_s$. As functions of $(x,t)$, $q$ obeys the forward equation and $h$ the backward one ([Tools](01_tools.ipynb)):
#
# $$\partial_tq=-\nabla\!\cdot(f x\,q)+\tfrac12g^2\,\nabla^2q,\qquad \partial_th=-f x\cdot\nabla h-\tfrac12g^2\,\nabla^2h.$$
#
# Differentiate the product:
#
# $$\begin{aligned}\partial_t(qh)&=-h\,\nabla\!\cdot(fx\,q)-q\,fx\cdot\nabla h+\tfrac12g^2(h\nabla^2q-q\nabla^2h)\\&=-\nabla\!\cdot(fx\,qh)+\tfrac12g^2(h\nabla^2q-q\nabla^2h).\end{aligned}$$
#
# By $\nabla^2(qh)=h\nabla^2q+2\nabla q\cdot\nabla h+q\nabla^2h$ and $\nabla\!\cdot(q\nabla h)=\nabla q\cdot\nabla h+q\nabla^2h$ the last bracket is
#
# $$\tfrac12(h\nabla^2q-q\nabla^2h)=\tfrac12\nabla^2(qh)-\nabla\!\cdot(q\nabla h)=\tfrac12\nabla^2(qh)-\nabla\!\cdot\big(qh\,\nabla\log h\big).$$
#
# Divide by the constant $h(x_s,s)$: the density @eq-doob-transition obeys a forward equation with one more term in the drift. Its solution being unique, that is **Doob's $h$-transform** [@doob1957conditional; @sarkka2019sde]:
#
# $$dx=\big[f(t)\,x+g^2(t)\,\nabla_x\log h(x,t)\big]dt+g(t)\,dw.$$ {#eq-doob}
#
# The added drift depends on $x_T$ but not on $x_0$: the same SDE serves every clean image that shares the end.
#
# For a linear SDE it is explicit. With $\kappa=\alpha_T/\alpha_t$ we have $q(x_T|x_t)=\mathcal N(\kappa x_t,\ \sigma_T^2-\kappa^2\sigma_t^2)$, and $\sigma_T^2=\alpha_T^2/\mathrm{SNR}_T=\kappa^2\sigma_t^2\,\mathrm{SNR}_t/\mathrm{SNR}_T$. Hence
#
# $$\begin{aligned}\nabla_x\log h&=\frac{\kappa\,(x_T-\kappa x)}{\kappa^2\sigma_t^2(\mathrm{SNR}_t/\mathrm{SNR}_T-1)}=\frac{\frac{\alpha_t}{\alpha_T}x_T-x}{\delta_t},\\\delta_t&=\frac{\sigma_t^2\,\gamma_t}{\mathrm{SNR}_T},\qquad\gamma_t=\mathrm{SNR}_t-\mathrm{SNR}_T.\end{aligned}$$ {#eq-h}
#
# As $t\to T$, $\delta_t$ vanishes and the pull becomes infinitely strong.

# %%
#| exports
def doob(path: Pinned, x: Tensor, t: Tensor, xT: Tensor) -> Tensor:
    "grad_x log q(x_T | x_t = x) of the unpinned process, the pull of the end: (N, ...), times in [0, T), to (N, ...)."
    require(isinstance(path, Pinned), "path", path, "a pinned path")
    base = path.base
    delta = base.alpha(t) * path.coefs(t).b / base.gamma(base.T)  # sigma^2 gamma / SNR_T, finite at t = 0
    return (bcast(base.alpha(t) / base.alpha(base.T), x) * xT - x) / bcast(delta, x)


# %% [markdown]
# Check against the definition: automatic differentiation of $\log\mathcal N(x_T;\kappa x,\sigma_T^2-\kappa^2\sigma_t^2)$. And against the limits: $\delta_0=1/\mathrm{SNR}_T$ at the start, and $\delta_t\approx g^2(T)\,(T-t)$ near the end, because there $\gamma_t\approx-\tfrac{d}{dt}\mathrm{SNR}_t\,(T-t)$ and $-\tfrac{d}{dt}\mathrm{SNR}_t=\mathrm{SNR}_t\,g^2/\sigma_t^2$. There $c_t^2=\delta_t\,\mathrm{SNR}_T/\mathrm{SNR}_t$ is the same to first order.

# %%
x, xT = randn(64, 1), randn(64, 1)
for path in BRIDGES:
    base, T = path.base, path.T
    for t in f64(0.01, 0.3, 0.7, 0.95) * T:
        kappa = base.alpha(T) / base.alpha(t)
        variance = base.sigma(T) ** 2 - kappa**2 * base.sigma(t) ** 2
        xg = x.clone().requires_grad_()
        log_h = -0.5 * (xT - kappa * xg) ** 2 / variance
        ratio = doob(path, x, t, xT) / torch.autograd.grad(log_h.sum(), xg)[0]
        test_close(ratio, torch.ones_like(x), eps=1e-10)
    first = (xT / base.alpha(T) - x) * base.gamma(T)
    assert relative(doob(path, x, f64(0.0)[0], xT), first) < 1e-12
    left = 1e-6 * T
    last = doob(path, x, f64(T - left)[0], xT) * left
    assert relative(last, (xT - x) / path.g2(T)) < 1e-5
    test_close(path.coefs(T - left).c ** 2 / left, path.g2(T), eps=1e-4 * T)

# %%
with expect_fail(ValueError, contains="path: expected a pinned path"):
    doob(VPCosine(), x, f64(0.5)[0], xT)

# %% [markdown]
# Does @eq-doob produce the law $\mathcal N(m_t,c_t^2)$ with $m=a\,x_T+b\,x_0$? Its drift is affine in $x$, with slope $f-g^2/\delta_t$. So by the moment equations of [Tools](01_tools.ipynb)
#
# $$\frac{dm}{dt}=f\,m+g^2\,\nabla\log h(m),\qquad \frac{d(c^2)}{dt}=2\Big(f-\frac{g^2}{\delta_t}\Big)c^2+g^2.$$ {#eq-moments}
#
# The left sides are obtained by differentiating the coefficients automatically.

# %%
start, end = 1.3, -0.7
for path in BRIDGES:
    mean = lambda t, path=path: path.coefs(t).a * end + path.coefs(t).b * start
    variance = lambda t, path=path: path.coefs(t).c ** 2
    for t in f64(0.05, 0.3, 0.6, 0.9) * path.T:
        f, g2, m, c2 = path.f(t), path.g2(t), mean(t), variance(t)
        drift = f * m + g2 * doob(path, m[None], t, f64(end))[0]
        test_close(derivative(mean, t), drift, eps=1e-9)
        delta = path.base.sigma(t) ** 2 * path.gamma(t) / path.base.gamma(path.T)
        change = 2 * (f - g2 / delta) * c2 + g2
        assert abs(derivative(variance, t) - change) < 1e-9 * (1 + c2)


# %% [markdown]
# And the direct test: simulate @eq-doob by small random steps. The last step's noise is not pulled back: a simulation with steps $\Delta$ ends $\sqrt{g^2(T)\,\Delta}$ away from $x_T$.

# %%
def simulate(path, n, steps, strength=1.0):
    "Paths of the SDE with its pull multiplied by `strength`, (steps + 1, n)."
    x, ends = torch.full((n, 1), start, dtype=torch.float64), f64(end)[None]
    times, trace = torch.linspace(0, path.T, steps + 1, dtype=torch.float64), [x]
    for t, dt in zip(times[:-1], times.diff(), strict=True):
        drift = path.f(t) * x + strength * path.g2(t) * doob(path, x, t, ends)
        x = euler_step(x, drift, path.g2(t), dt, g)
        trace.append(x)
    return times, torch.stack(trace)[:, :, 0]


times, paths = simulate(vp, 20_000, 800)
a, b, c = vp.coefs(times)
mean = a * end + b * start
for mark in (200, 400, 720):
    assert abs(paths[mark].mean() - mean[mark]) < 0.01
    assert abs(paths[mark].std() - c[mark]) < 0.01
for last, steps in [(paths[-1], 800), (simulate(vp, 20_000, 100)[1][-1], 100)]:
    test_close((last - end).std() / (vp.g2(1.0) / steps).sqrt(), 1.0, eps=0.02)

# %%
#| label: fig-pinned-paths
#| fig-cap: 'Six simulated paths of the $h$-transformed SDE, of 20000: they wander about the exact mean, most of the time within two deviations, and all end close to the pin.'
#| fig-alt: 'Line chart of six jagged paths against time from 0 to 1, all starting at 1.3 and ending close to minus 0.7. A shaded band of two deviations on either side of the exact mean opens from the start, is widest after the middle and closes at the end; the paths run within it most of the time, and three leave it for a while.'
at, m, std = times[::5], mean[::5], c[::5]
fig, ax = plt.subplots()
ax.fill_between(at, m - 2 * std, m + 2 * std, color="C0", alpha=0.15,
                label=r"$m_t\pm2c_t$ (exact)")
ax.plot(at, m, color="black", label="$m_t$ (exact)")
ax.plot(at, paths[::5, :6], color="C0", linewidth=0.6)
ax.plot([0, 1], [start, end], "o", color="C1", label="the two pinned ends")
ax.set(xlabel="time $t$", ylabel="$x_t$")
ax.legend();


# %% [markdown]
# **A pull of another strength.** What if the pull is multiplied by some $\chi>0$? Measure time by $\varsigma=1/\mathrm{SNR}_t$, which runs from $0$ to $\varsigma_T=1/\mathrm{SNR}_T$, and let $X=x/\alpha_t$, so $X_T=x_T/\alpha_T$. Since $d\varsigma=\tfrac{g^2}{\alpha^2}dt$ and $\delta_t=\alpha_t^2(\varsigma_T-\varsigma)$, the SDE becomes
#
# $$dX=\chi\,\frac{X_T-X}{\varsigma_T-\varsigma}\,d\varsigma+dW_\varsigma.$$
#
# It is linear. Its mean, and the variance $V$ from $\tfrac{dV}{d\varsigma}=1-\tfrac{2\chi V}{\varsigma_T-\varsigma}$, are
#
# $$X_T-\mathbb E X=\Big(1-\frac{\varsigma}{\varsigma_T}\Big)^{\chi}(X_T-x_0),\qquad V=\frac{(\varsigma_T-\varsigma)-\varsigma_T\big(1-\varsigma/\varsigma_T\big)^{2\chi}}{2\chi-1}$$ {#eq-strength}
#
# (at $\chi=\tfrac12$ the limit, $(\varsigma_T-\varsigma)\log\tfrac{\varsigma_T}{\varsigma_T-\varsigma}$). Both vanish as $\varsigma\to\varsigma_T$. But only $\chi=1$ has the law of the bridge on the way.

# %%
def moments(path, t, strength):
    "Mean and standard deviation of x_t by the formula above."
    alpha, X_T = path.base.alpha(t), end / path.base.alpha(path.T)
    time, last = 1 / path.base.gamma(t), 1 / path.base.gamma(path.T)
    left = 1 - time / last
    V = last * (left - left ** (2 * strength)) / (2 * strength - 1)
    return alpha * (X_T - left**strength * (X_T - start)), alpha * V.sqrt()


t = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
a, b, c = vp.coefs(t)
for got, want in zip(moments(vp, t, 1.0), (a * end + b * start, c), strict=True):
    test_close(got, want, eps=1e-12)
for strength in (0.25, 3.0):
    _, steered = simulate(vp, 20_000, 400, strength)
    for mark in (0.5, 0.9):
        seen, (m, std) = steered[round(400 * mark)], moments(vp, f64(mark)[0], strength)
        assert abs(seen.mean() - m) < 0.012 and abs(seen.std() - std) < 0.012
        assert abs(std - vp.coefs(mark).c) > 0.03
    m, std = moments(vp, f64(1 - 1e-12)[0], strength)
    assert abs(m - end) < 0.01 and std < 0.01


# %% [markdown]
# ## The score along a bridge
#
# The density of $x_t$ given both ends is $\mathcal N(a\,x_T+b\,x_0,\,c^2I)$, so its score is $(a\,x_T+b\,x_0-x_t)/c^2$. By @eq-doob-transition from $x_0$ that density is the unpinned one times $h$, up to a constant. So the score must also be the unpinned score plus @eq-h:
#
# $$\frac{a\,x_T+b\,x_0-x_t}{c^2}=\frac{\alpha_tx_0-x_t}{\sigma_t^2}+\nabla\log h(x_t,t).$$ {#eq-score-split}
#
# When only $x_T$ is known, the score is the mean of these over $x_0$ given $x_t$ and $x_T$ ([Scores](04_scores.ipynb)): both sides are affine in $x_0$, so $\hat x_0$ takes its place. For a diffusion ($a=0$) the same function gives $(b\,\hat x_0-x_t)/c^2$, which is Tweedie's formula.

# %%
#| exports
def score_from_x0(path: Path, x_t: Tensor, t: Tensor, x0: Tensor, xT: Tensor | None = None) -> Tensor:
    "The score (a x_T + b x_0 - x_t) / c^2 that an estimate of x_0 stands for: (N, ...), times with c > 0."
    a, b, c = (bcast(k, x_t) for k in path.coefs(t))
    mean = b * x0 if xT is None else a * xT + b * x0
    return (mean - x_t) / c**2


# %% [markdown]
# @eq-score-split for random $x_0$; and, for a mixture, the estimate's score against automatic differentiation.

# %%
x0, x_t = randn(64, 1), randn(64, 1)
for path in BRIDGES:
    for t in f64(0.02, 0.4, 0.9) * path.T:
        s, h = score_from_x0(path, x_t, t, x0, xT), doob(path, x_t, t, xT)
        split = score_from_x0(path.base, x_t, t, x0) + h
        assert ((s - split).abs() / (s.abs() + h.abs())).max() < 1e-12
        a, b, c = path.coefs(t)
        x0_hat, exact = denoiser(data, path, xT)(x_t, t), noisy(data, b, c)
        got = score_from_x0(path, x_t, t, x0_hat, xT)
        assert relative(got, score(exact, x_t - a * xT)) < 1e-9

# %% [markdown]
# The reconstruction loss of DBAE [@kim2025dbae] compares the network's score $s_\theta$ with $s$, the score given both ends: $\tfrac12g^2\|s_\theta-s\|^2$. Since $s_\theta-s=\tfrac b{c^2}(\hat x_0-x_0)$, it equals $\tfrac12\omega(t)\|\hat x_0-x_0\|^2$ with $\omega=g^2b^2/c^4$. By $b/c^2=\alpha_t/\sigma_t^2$ and $g^2=-\sigma_t^2\,\tfrac{d}{dt}\log\mathrm{SNR}_t$ this weight is
#
# $$\omega(t)=\frac{g^2b^2}{c^4}=-\frac{d\,\mathrm{SNR}_t}{dt}=-\frac{d\gamma_t}{dt},$$ {#eq-omega}
#
# the same for a path and its bridge. So the loss is an integral over $\gamma$, like the bound of [Bounds](06_bounds.ipynb).

# %%
for path in BRIDGES:
    t = torch.linspace(0.02, 0.98, 64, dtype=torch.float64) * path.T
    omega, one = -derivative(path.base.gamma, t), torch.ones_like(t)
    a, b, c = path.coefs(t)
    test_close(path.g2(t) * b**2 / c**4 / omega, one, eps=1e-10)
    test_close(-path.dgamma(t) / omega, one, eps=1e-10)
    wrong, right = (score_from_x0(path, x_t, t, v, xT)[:, 0] for v in (x0 + 0.3, x0))
    test_close(path.g2(t) * (wrong - right) ** 2 / (omega * 0.3**2), one, eps=1e-10)


# %% [markdown]
# ## Backwards along a bridge
#
# The regrouping of @eq-flow-density holds for any drift. On a bridge it is $K=f\,x+g^2\nabla\log h$, and $q_t$ is the density given $x_T$. Insert @eq-score-split: the pull *cancels*,
#
# $$K-g^2\nabla\log q_t=f\,x+g^2\nabla\log h-g^2\Big(\frac{\alpha_t\hat x_0-x}{\sigma_t^2}+\nabla\log h\Big)=f\,x-g^2\,\frac{\alpha_t\hat x_0-x}{\sigma_t^2}.$$ {#eq-reverse}
#
# The reverse SDE of a bridge is that of the *unpinned* process with a bridge's denoiser. The end enters only through the start of the path and the estimate. In the ODE half of the pull remains. [Samplers](08_samplers.ipynb) simulates both.

# %%
#| exports
def reverse_drift(path: Path, x_t: Tensor, t: Tensor, x0: Tensor) -> Tensor:
    "Drift of the reverse SDE for the estimate `x0`, the same formula for a diffusion and a bridge (noise g): (N, ...)."
    base = path.base if isinstance(path, Pinned) else path
    return bcast(path.f(t), x_t) * x_t - bcast(path.g2(t), x_t) * score_from_x0(base, x_t, t, x0)


def ode_drift(path: Path, x_t: Tensor, t: Tensor, x0: Tensor, xT: Tensor | None = None) -> Tensor:
    "Drift of the probability-flow ODE for the estimate `x0` (with the endpoint `xT` on a bridge): (N, ...)."
    drift = bcast(path.f(t), x_t) * x_t - bcast(path.g2(t) / 2, x_t) * score_from_x0(path, x_t, t, x0, xT)
    return drift if xT is None else drift + bcast(path.g2(t), x_t) * doob(path, x_t, t, xT)


# %% [markdown]
# The reverse drift against $K-g^2\nabla\log q_t$ with all its terms. And at both ends, on the noiseless path $x_t=a\,x_T+b\,x_0$ with the right estimate: there $\alpha_tx_0-x_t=\alpha_tr_t(x_0-x_T/\alpha_T)$ and $r_t/\sigma_t^2=\mathrm{SNR}_T/\alpha_t^2$, so the reverse drift is $f\,x_t-g^2\,\tfrac{\mathrm{SNR}_T}{\alpha_t}(x_0-x_T/\alpha_T)$; the ODE must just follow the path, $\tfrac{dx}{dt}=\tfrac{da}{dt}x_T+\tfrac{db}{dt}x_0$.

# %%
for path in BRIDGES:
    alpha, snr_T = path.base.alpha, path.base.gamma(path.T)
    for t in f64(0.02, 0.4, 0.9) * path.T:
        K = path.f(t) * x_t + path.g2(t) * doob(path, x_t, t, xT)
        full = K - path.g2(t) * score_from_x0(path, x_t, t, x0, xT)
        assert relative(reverse_drift(path, x_t, t, x0), full) < 1e-10
    for t in f64(1e-6, 0.5, 1 - 1e-6) * path.T:
        on = path.mix(x0, torch.zeros_like(x0), t, xT)
        pulled = path.g2(t) * snr_T / alpha(t) * (x0 - xT / alpha(path.T))
        assert relative(reverse_drift(path, on, t, x0), path.f(t) * on - pulled) < 1e-6
        da, db = (derivative(lambda s, i=i: path.coefs(s)[i], t) for i in (0, 1))
        assert relative(ode_drift(path, on, t, x0, xT), da * xT + db * x0) < 1e-6

# %% [markdown]
# ## A bridge is a diffusion in disguise
#
# There is a shorter way to the ODE. Given $x_0$ and $x_T$, the point $a\,x_T+b\,x_0+c\,\varepsilon$ moves with velocity $\tfrac{da}{dt}x_T+\tfrac{db}{dt}x_0+\tfrac{dc}{dt}\varepsilon$. This is the ODE's velocity for that one $x_0$: both are affine in $x$ with a scalar slope, both carry $\mathcal N(m_t,c_t^2I)$ along, and only one such velocity does (its value at the mean is $\tfrac{dm}{dt}$, its slope is $\tfrac{d}{dt}\log c$). Both are also affine in $x_0$. Averaged over the $x_0$ that could have led to $x_t$, they stay equal, with $x_0$ and $\varepsilon$ replaced by $\hat x_0$ and $\hat\varepsilon=(x_t-a\,x_T-b\,\hat x_0)/c$ [@lipman2023flow]:
#
# $$\frac{dx}{dt}=\frac{da}{dt}\,x_T+\frac{db}{dt}\,\hat x_0+\frac{dc}{dt}\,\hat\varepsilon.$$ {#eq-flow}
#
# Now look at the path with the end taken off and the signal scaled to one,
#
# $$y_t=\frac{x_t-a_tx_T}{b_t}=x_0+\sigma_y\,\varepsilon,\qquad\sigma_y=\frac{c_t}{b_t}=\gamma_t^{-1/2}.$$ {#eq-y}
#
# Differentiate, insert @eq-flow and $y=\hat x_0+\sigma_y\hat\varepsilon$:
#
# $$\frac{dy}{dt}=\frac1b\Big(\frac{dx}{dt}-\frac{da}{dt}x_T-\frac{db}{dt}y\Big)=\frac1b\Big(\frac{dc}{dt}-\sigma_y\frac{db}{dt}\Big)\hat\varepsilon=\frac{d\sigma_y}{dt}\,\hat\varepsilon,$$
#
# because $\sigma_y=c/b$. Divide by $d\sigma_y/dt$ and use $\hat\varepsilon=(y-\hat x_0)/\sigma_y$:
#
# $$\boxed{\ \frac{dy}{d\sigma_y}=\frac{y-\hat x_0}{\sigma_y}\ }$$ {#eq-edm}
#
# **This is the ODE of EDM** [@karras2022edm], in which neither $x_T$ nor the drift of any SDE occurs. We check @eq-flow and @eq-edm with a denoiser that is *not* linear, the exact one of the mixture, against the drift made from $f$, $g$, $h$ and the score.

# %%
diffusions = [(p, None) for p in (VPCosine(), VE(), VPLinear())]
for path, pin in [(p, xT) for p in BRIDGES] + diffusions:
    at = 0 * x0 if pin is None else pin
    for t in f64(0.05, 0.3, 0.6, 0.9) * path.T:
        (a, b, c), x0_hat = path.coefs(t), denoiser(data, path, pin)(x_t, t)
        da, db, dc = (derivative(lambda s, i=i: path.coefs(s)[i], t) for i in range(3))
        drift = ode_drift(path, x_t, t, x0_hat, pin)
        eps_hat = (x_t - a * at - b * x0_hat) / c
        assert relative(drift, da * at + db * x0_hat + dc * eps_hat) < 1e-9
        y = (x_t - a * at) / b
        dy = (drift - da * at - db * y) / b
        slope = dy / derivative(lambda s: path.gamma(s) ** -0.5, t)
        assert relative(slope, (y - x0_hat) * path.gamma(t).sqrt()) < 1e-6

# %% [markdown]
# **The noisy processes agree too.** By the transition density of [Paths](02_paths.ipynb), the unpinned $X=x/\alpha_t$ is $x_0$ plus Brownian motion in the time $\varsigma=1/\mathrm{SNR}_t$: its increments are independent, with variances $\varsigma_t-\varsigma_s$. Conditioning on its value at $\varsigma_T$ leaves the covariance $\varsigma_s-\varsigma_s\varsigma_t/\varsigma_T=\varsigma_s(1-r_t)$ for $s\le t$, with $r=\varsigma/\varsigma_T$. By $b=\alpha(1-r)$ the deviation of $y$ from $x_0$ is that of $X$ divided by $1-r$. So
#
# $$\operatorname{Cov}(y_s,y_t\,|\,x_0,x_T)=\frac{\varsigma_s(1-r_t)}{(1-r_s)(1-r_t)}I=\frac{1}{1/\varsigma_s-1/\varsigma_T}I=\frac1{\gamma_s}I\qquad(s\le t):$$ {#eq-brownian}
#
# $y$ is $x_0$ plus *Brownian motion in the time* $1/\gamma$. This is how a VE diffusion of noise level $\sigma_y$ moves; so reverse SDE and posterior steps are its own as well.

# %%
for path in BRIDGES:
    for s, t in f64(0.1, 0.3, 0.2, 0.9, 0.5, 0.5).reshape(3, 2) * path.T:
        three = torch.stack([s, t, f64(path.T)[0]])
        alpha, sigma = path.base.alpha(three), path.base.sigma(three)
        upper = alpha * (sigma**2 / alpha)[:, None]
        joint = upper.triu() + upper.triu(1).T  # of x at s <= t <= T, given x_0
        given_end = joint[0, 1] - joint[0, 2] * joint[2, 1] / joint[2, 2]
        of_y = given_end / (path.coefs(s).b * path.coefs(t).b)
        test_close(of_y * path.gamma(s), 1.0, eps=1e-9)

marks = torch.tensor([200, 400, 720])
a, b, _ = (k[:, None] for k in vp.coefs(times[:-1]))
y = (paths[:-1] - a * end) / b
clock = 1 / vp.gamma(times[:-1])
expected = torch.minimum(clock[marks][:, None], clock[marks])
variances = torch.outer(expected.diag(), expected.diag())
noise = torch.sqrt((variances + expected**2) / y.shape[1])  # of a covariance
assert ((torch.cov(y[marks]) - expected).abs() < 4 * noise + 0.01 * expected).all()

# %%
#| label: fig-disguise
#| fig-cap: 'The six paths of @fig-pinned-paths in disguise: with the end taken off and the signal scaled to one, they are Brownian motion in the time $1/\gamma_t$, and nothing pins them.'
#| fig-alt: 'Line chart of six jagged paths against one over gamma, from 0 to 4. All start at 1.3 and spread; a shaded band of two deviations around the level 1.3 opens like a parabola and does not close again. The paths stay in the band most of the time, and three leave it for a while.'
at, six = clock[clock < 4][::2], y[clock < 4, :6][::2]
spread = 2 * at.sqrt()
fig, ax = plt.subplots()
ax.fill_between(at, start - spread, start + spread, color="C0", alpha=0.15,
                label=r"$x_0\pm2\sigma_y$ (exact)")
ax.axhline(start, color="black", label="$x_0$")
ax.plot(at, six, color="C0", linewidth=0.6)
ax.set(xlabel=r"time $1/\gamma_t$", ylabel="$y_t$")
ax.legend(loc="lower left");

# %% [markdown]
# Along a bridge the noise level $\sigma_y$ runs from $0$ all the way to $\infty$. So given $z$ (and the endpoint decoded from it), denoising along a bridge is denoising along a diffusion whose SNR is shifted by a constant. What is special about a bridge comes from where the training puts its weight, from the network that decodes $x_T$, from the sampler's start.

# %% [markdown]
# ## Exercises
#
# **1.** *Compute.* When is a bridge of the VE path noisiest, and how noisy is it then?

# %%
#| code-fold: true
#| code-summary: "Solution"
t = torch.linspace(0, 80, 8001, dtype=torch.float64)
noise = ve.coefs(t).c  # c^2 = t^2 (1 - t^2 / T^2): largest at t^2 = T^2 / 2
test_close(t[noise.argmax()], 80 / 2**0.5, eps=0.01)
test_close(noise.max(), 80 / 2, eps=1e-4)

# %% [markdown]
# **2.** *Extend.* Between the ODE and the reverse SDE lies a family: noise of rate $\eta g$, and drift $K-\tfrac{1+\eta^2}2g^2\nabla\log q_t$. Regroup the forward equation to see that all members have the same marginals; then try $\eta=\tfrac12$, and the drift of $\eta=\tfrac12$ without its noise.

# %%
#| code-fold: true
#| code-summary: "Solution"
assert off(backwards(200, 0.5, seed=1)) < 1.63 / walks**0.5
x = plain.mix(data.sample(walks, 2), randn(walks, 1), 1.0)
times = torch.linspace(1, stop**0.5, 201, dtype=torch.float64) ** 2
for t, dt in zip(times, times.diff(), strict=False):
    s = score(noisy(data, *plain.coefs(t)[1:]), x)
    x = x + dt * (plain.f(t) * x - 0.625 * plain.g2(t) * s)
assert off(x) > 0.05  # too narrow: the drift has contracted for noise that never came

# %% [markdown]
# ## What can go wrong
#
# * **Starting an integrator of these drifts at exactly $T$.** The pull is infinite there. Starting a little earlier, at $s<T$, from $x_T$ itself is no way out: the true $x_s$ scatters by $c_s\approx g(T)\sqrt{T-s}$, which shrinks slowly. [Samplers](08_samplers.ipynb) draws the first noise itself, and starts at exactly $T$.
# * **A last step with noise.** A simulated bridge ends $\sqrt{g^2(T)\Delta}$ away from $x_T$.
# * **Guiding a bridge by scaling $h$.** Any positive strength ends in $x_T$, but the law on the way is @eq-strength, not the one that the denoiser was trained on.
