# %% [markdown]
# # What β buys
#
# > The weight of the rate decides how fine a code is: predicted in closed form for Gaussian data, then trained and found; what a noise-blind encoder pays; and when a code collapses.

# %% [markdown]
# [SAMI](../models/14_sami.ipynb) says that structure at a noise level is worth coding while $\beta_{\mathrm{eff}}(u)<1$. For Gaussian data that rule can be made exact: we can say, before any training, how finely each principal component will be coded, which ones will be left out, and at which $\beta$ the code is empty. This page derives the numbers and then trains the library's SAMI, on samples, to see whether it finds them. It does, if its encoder is told the noise level.

# %%
#| hide
import math

import matplotlib.pyplot as plt
import torch
from fastcore.test import test_close
from scipy.optimize import brentq
from torch import nn

from scoreae.core.checks import rng
from scoreae.core.pages import Table, paper
from scoreae.foundations.paths import VPCosine
from scoreae.foundations.worlds import denoiser, gaussian
from scoreae.models.networks import LevelEmbedding
from scoreae.models.sami import SAMI

# %%
#| hide
paper()
f64 = lambda *v: torch.tensor(v, dtype=torch.float64)

# %% [markdown]
# ## The optimum is reverse water-filling
#
# Let an axis of the code read one principal component, of variance $\ell$, with clean posterior variance $s$, scaled such that $q(z)=\mathcal N(0,1)$. The rate of this axis is then $-\tfrac12\log s$, and what is left of the component, given $z$, has variance $\kappa=\ell s$. With exact guidance the error is that of the conditional mean, and per component the loss of [SAMI](../models/14_sami.ipynb) is
#
# $$\mathcal L(\kappa)=\int p(u)\,w(u)\;\tfrac12\,\frac{\gamma\kappa}{1+\gamma\kappa}\,du+\tfrac\beta2\log\frac\ell\kappa,\qquad\gamma=e^u .$$ {#eq-loss-kappa}
#
# Differentiate with respect to $\log\kappa$. With $\frac{d}{d\log\kappa}\frac{\gamma\kappa}{1+\gamma\kappa}=\frac{\gamma\kappa}{(1+\gamma\kappa)^2}=\frac1{4\cosh^2((u+\log\kappa)/2)}$ the optimum satisfies
#
# $$\int\frac{p(u)\,w(u)}{4\cosh^2((u-u_c)/2)}\,du=\beta,\qquad\kappa^*=e^{-u_c} .$$ {#eq-waterline}
#
# The kernel has area one and a width of a few units of $u$. So this is the rule $\beta_{\mathrm{eff}}(u_c)=\beta/pw=1$, smoothed. And $\ell$ has dropped out: *every component is coded down to the same residual variance* $\kappa^*$, $s_i=\kappa^*/\ell_i$, and one with $\ell_i\le\kappa^*$ not at all. That is reverse water-filling, the rate-distortion optimum of Gaussian data.
#
# **For the bound's own weights**, $pw=1$ up to $u_{\max}$, the integral is $\frac{\gamma_{\max}\kappa}{1+\gamma_{\max}\kappa}$ (its lower end is negligible), so
#
# $$\kappa^*=\frac{\beta}{1-\beta}\,\frac1{\gamma_{\max}} .$$ {#eq-kappa-elbo}
#
# At $\beta=1$ there is no optimum: the bound does not care ([Gaps](../foundations/07_gaps.ipynb)).
#
# **For the simple weights** on the cosine path, $pw=\frac1\pi\operatorname{sech}\frac u2$. The left side of @eq-waterline is largest at $u_c=0$, where it is $\frac1{4\pi}\int\operatorname{sech}^3\frac u2\,du=\frac14$. So **for $\beta>\tfrac14$ there is no root, and the code must collapse**, whatever the variances. (For data that are not Gaussian only $\beta>\tfrac1\pi$, the largest $pw$, is sure to do it.) For a smaller $\beta$ there are two roots, $\pm u_c$; the larger is the minimum.

# %%
wide = torch.linspace(-40, 40, 16001, dtype=torch.float64)
simple = 1 / (math.pi * torch.cosh(wide / 2))


def left(u_c, pw=simple):
    return float(torch.trapezoid(pw / (4 * torch.cosh((wide - u_c) / 2) ** 2), wide))
def root(beta):
    return brentq(lambda c: left(c) - beta, 0, 35) if beta < left(0) else None


test_close(left(0.0), 0.25, eps=1e-9)
roots = [root(b) for b in (1e-1, 3e-2, 1e-2, 1e-3)]
test_close(roots, [4.127, 6.887, 9.170, 13.811], eps=1e-3)
assert root(0.26) is None
top = (wide <= 3).double()
test_close(left(-math.log(3 * math.exp(-3)), top), 0.75, eps=1e-3)

# %%
#| label: fig-water
#| fig-cap: 'How fine a code is with the simple weights on the cosine path: the residual variance of every coded component grows with $\beta$ up to 1, where $\beta=1/4$ and the code collapses. The rule of thumb $\beta_{\mathrm{eff}}=1$ gives 2.5 times as much for small $\beta$.'
#| fig-alt: 'Line chart with two logarithmic axes, residual variance against beta from 0.001 to 0.25. The solid curve by the integral rises from 1e-6 to 1 and steepens near 0.25; the dashed rule of thumb lies above it at small beta and ends at 0.25; a dotted vertical line marks one quarter.'
fig, ax = plt.subplots()
betas = torch.logspace(-3, math.log10(0.2499), 60).tolist()
ax.plot(betas, [math.exp(-root(b)) for b in betas],
        label=r"$\kappa^*$ by the integral")
rule = [math.exp(-2 * math.acosh(1 / (math.pi * b))) for b in betas]
ax.plot(betas, rule, "--", label=r"where $\beta_{\mathrm{eff}}=1$")
ax.axvline(0.25, color="0.4", ls=":", label=r"$\beta=1/4$: collapse")
ax.set(xscale="log", yscale="log", xlabel=r"$\beta$",
       ylabel=r"residual variance $\kappa^*$")
ax.legend();


# %% [markdown]
# ## Trained
#
# Now the library's SAMI, with a frozen, exact denoiser and an encoder that is linear in $x_t$, with a matrix and deviations that are free functions of the level: it is told the level, and must learn what to do with it. Four components of variances 3, 1, 0.3, 0.1, the bound's weights up to $u_{\max}=3$, and $\beta=\tfrac34$. By @eq-kappa-elbo $\kappa^*=3e^{-3}=0.149$: three axes with $s=0.050,\,0.149,\,0.498$, and the fourth component left out.
#
# The residual is linear in $(x_0,\varepsilon,\xi)$, so its expected square is a sum over unit vectors, one for each source ([Worlds in closed form](../foundations/03_worlds.ipynb)): the gradient is exact, and nothing blurs the optimum but the encoder's own limits.

# %%
class Linear(nn.Module):
    "(N, d, 1, 1) to (N, 2k): linear means, raw deviations, free in the level."
    def __init__(self, d, k):
        super().__init__()
        self.k, self.embed, self.head = k, LevelEmbedding(64), nn.Linear(64, k * d + k)
        for p in self.head.parameters(): nn.init.zeros_(p)
        self.A = nn.Parameter(0.3 * torch.eye(k, d))
    def forward(self, x, level):
        h = self.head(nn.functional.silu(self.embed(level)))
        W = self.A + h[:, : -self.k].unflatten(1, self.A.shape)
        return torch.cat([(W @ x.flatten(1)[:, :, None])[:, :, 0], h[:, -self.k :]], 1)


def gaussian_model(variances, beta, weighting, low, high):
    "A SAMI on Gaussian data: the exact denoiser, frozen, and a linear encoder."
    torch.manual_seed(0)
    d, path = len(variances), VPCosine(low)
    D = denoiser(gaussian(torch.zeros(d), torch.diag(variances)), path)
    how = {"weighting": weighting, "gamma_max": math.exp(high), "kl_weight": beta,
           "time_conditioned": True}
    exact = lambda x, t: D(x.flatten(1), t).reshape(x.shape)
    return SAMI((d, 1, 1), d, path=path, denoiser=exact, encoder=Linear(d, d),
                regime="frozen", std_floor=1e-3, **how)


def descend(model, loss, steps, lr):
    opt = torch.optim.Adam(model.encoder_net.parameters(), lr=lr)
    for step in range(steps):
        opt.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * step / steps)) / 2
        opt.zero_grad()
        loss().backward()
        nn.utils.clip_grad_norm_(model.encoder_net.parameters(), 10.0)
        opt.step()


# %%
variances, beta, (low, high), d, n = f64(3.0, 1.0, 0.3, 0.1), 0.75, (-6.0, 3.0), 4, 48
model = gaussian_model(variances, beta, "elbo", low, high).double()
u = low + (torch.arange(n).double() + 0.5) * (high - low) / n
t = model.path.t_of_gamma(u.exp()).repeat_interleave(3 * d)
w = torch.eye(3 * d).double().repeat(n, 1)  # one unit vector for each source
sources = (w[:, :d] * variances.sqrt(), w[:, d : 2 * d], w[:, 2 * d :])
x0, eps, xi = (v.reshape(-1, d, 1, 1) for v in sources)
units = torch.eye(d).double().reshape(d, d, 1, 1)
clean = lambda: (model.codes(units)[0].T, model.codes(x0[:1])[1][0])


def expected_loss():
    A, std = clean()
    D = model.denoiser(x0.flatten(1) @ A.T + std * xi.flatten(1))
    error = D.residual(x0, eps, t).square().sum() / 2 * (high - low) / n
    rate = (A**2 * variances).sum() + (std**2 - 1 - (std**2).log()).sum()
    return error + beta * rate / 2


descend(model, expected_loss, 600, 1e-2)
A, std = (v.detach() for v in clean())
predicted = (3 * math.exp(-3) / variances).clamp(max=1)
power = A**2 * variances
test_close(std**2 / predicted, torch.ones(4), eps=0.05)
test_close((power / power.sum(0))[:3, :3], torch.eye(3), eps=0.01)
found = zip(variances.tolist(), predicted.tolist(), (std**2).tolist(), strict=True)
Table([{"variance of the component": v, "s, predicted": f"{a:.4f}",
        "s, trained": f"{b:.4f}"} for v, a, b in found])

# %% [markdown]
# Each used axis stands for *one* component, as at the start. That it stays so is what a frozen denoiser asks for ([Why SAMI disentangles](61_why_sami_disentangles.ipynb)).
#
# ## Collapse, predicted and seen
#
# One component of variance 3, simple weights on the cosine path, and now training on samples, with the library's own loss: random images, noise and stratified levels. Below $\beta=\tfrac14$ the posterior variance should be $\kappa^*/3$; above, 1.

# %%
seen = {}
for beta in (0.1, 0.4):
    r = root(beta)
    want = math.exp(-r) / 3 if r else 1.0
    model, g = gaussian_model(f64(3.0), beta, "simple", -12.0, 12.0), rng(0)
    images = lambda g=g: 3**0.5 * torch.randn(256, 1, 1, 1, generator=g)
    loss = lambda model=model, g=g, images=images: model.loss(images(), g)[0]
    descend(model, loss, 600, 5e-3)
    got = float(model.codes(torch.zeros(1, 1, 1, 1))[1].detach() ** 2)
    assert abs(got / want - 1) < (0.2 if r else 0.02)
    seen[beta] = {"s, predicted": f"{want:.4f}", "s, trained": f"{got:.4f}"}
Table(seen, name="β")

# %% [markdown]
# ## What noise-blindness costs
#
# The optimum needs guidance with a gain that depends on the level. An encoder that is not told the level must read it off $x_t$. An image shows it; a number does not. In one dimension, with a linear encoder $z\sim\mathcal N(Ax,s)$ for every $x$, the residual is linear in $(x_0,\varepsilon,\xi)$, with $z=Ax_0+\sqrt s\,\xi$, so the loss is exact without sampling, and the best $A,s$ are found by minimisation. The encoder that is told the level applies the exact posterior instead.

# %%
v = torch.linspace(-12, 12, 481, dtype=torch.float64)
a, c = torch.sigmoid(v).sqrt(), torch.sigmoid(-v).sqrt()
w = 1 / (math.pi * torch.cosh(v / 2))


def best(l, beta, told):
    "Loss, A and s at the minimum, and the loss of an empty code."
    M = a * l / (a**2 * l + c**2)  # the free estimate is M x_t

    def loss(q):
        A, s = q[0], q[1].exp()
        gain = A * M / (s + A**2 * l * (1 - a * M)) if told else A / s
        back = gain * (A * M if told else A)  # G = gain z - back x_t
        of_x0 = (a - a * M * a) / c - c * (gain * A - back * a)
        power = l * of_x0**2 + (c * c * back - a * M) ** 2 + s * (c * gain) ** 2
        return torch.trapezoid(w * power / 2, v) + beta * (A * A * l + s - 1 - q[1]) / 2

    runs = []
    for start in (-0.05, -2.0, -5.0):
        q = f64(((1 - math.exp(start)) / l) ** 0.5, start).requires_grad_()
        opt = torch.optim.LBFGS([q], max_iter=300, line_search_fn="strong_wolfe",
                                tolerance_grad=1e-12)

        def closure(q=q, opt=opt):
            opt.zero_grad()
            loss(q).backward()
            return loss(q)

        opt.step(closure)
        runs.append((float(loss(q).detach()), *q.detach().tolist()))
    value, A, logs = min(runs)
    return value, A, math.exp(logs), float(loss(f64(0.0, 0.0)))


# %%
table = []
for l, beta in [(3.0, 0.1), (3.0, 1e-3), (1.0, 0.1), (1.0, 1e-3)]:
    told, blind = best(l, beta, True), best(l, beta, False)
    if beta == 0.1: test_close(told[2] * l, math.exp(-root(beta)), eps=1e-3)
    assert told[0] < blind[0] <= blind[3] + 1e-9
    lost, all_of_it = blind[0] - told[0], told[3] - told[0]
    table.append({"variance": l, "β": beta, "s, told": f"{told[2]:.2g}",
                  "s, blind": f"{blind[2]:.2f}",
                  "cost of blindness (weighted nats)": f"{lost:.3f}",
                  "of what a code can win": f"{lost / all_of_it:.0%}"})
test_close(best(1.0, 1e-3, False)[2], 1.0, eps=1e-2)
Table(table)

# %% [markdown]
# The costs are in the units of the loss, nats weighted by $pw$. A linear blind encoder loses nearly everything that a code could win. At variance 1 it collapses at any $\beta$: there $x_t$ has the *same law at every level*, so nothing in it tells the level. Images are the other extreme, where fine detail shows the noise level. Small images are in between: on 8×8 digits an encoder that was told the level did better, both begun at random ([Beginnings](60_beginnings.ipynb)).
#
# ## What can go wrong
#
# * **Raising $\beta$ to get a tidier code.** With the simple weights a Gaussian's code is gone at $\tfrac14$, and a *mean* over $d$ pixels in place of the sum multiplies $\beta$ by $d$.
# * **Judging collapse from one start.** An empty code is always a stationary point, and a local optimum for a component of variance above $1/\kappa^*$. `anneal` starts the training with a small $\beta$.
# * **Reading the water line as a law of images.** It is exact for Gaussian components with exact guidance; elsewhere $\beta_{\mathrm{eff}}(u)=1$ is a rule of thumb.
