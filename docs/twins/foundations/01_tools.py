# %% [markdown]
# # Tools
#
# > Conditioning, divergence, information and small random steps: what the next pages lean on, each fact proved in a few lines.

# %% [markdown]
# What must one know to follow how a diffusion model is derived, down to the last factor of ½? How a Gaussian changes when something is observed, how far two laws are apart, what a bound on a likelihood is made of, and what a small random step does to a density. With these, every formula of the next pages is a short calculation, and only one fact, named at the end, has to be believed. Each tool is proved, and checked by another road: a grid, sampling, or a sum over all cases.
#
# Throughout, $q$ is **nature**: the law of the data, of what noise does to them, and of codes written down from them. $p$ is the **model**.

# %%
#| default_exp foundations.tools

# %%
#| exports
import math

import torch
from torch import Tensor

from scoreae.core.checks import bcast, randn_like

# %%
#| hide
import matplotlib.pyplot as plt
from fastcore.test import test_close
from torch.distributions import MultivariateNormal, kl_divergence

from scoreae.core.pages import Table, paper

# %%
#| hide
paper()
f64 = lambda *v: torch.tensor(v, dtype=torch.float64)
g = torch.Generator().manual_seed(0)


# %% [markdown]
# ## Conditioning a Gaussian
#
# Let $x\sim\mathcal N(\mu,\Sigma)$, and let $z=Ax+o+{}$noise, with a fixed shift $o$ and Gaussian noise, independent of $x$, of mean zero and covariance $\Psi$. What does $z$ tell about $x$? With $Q=A\Sigma A^\top+\Psi$, the covariance of $z$, and the **gain** $J=\Sigma A^\top Q^{-1}$,
#
# $$x\,|\,z\ \sim\ \mathcal N\big(\mu+J(z-A\mu-o),\ \ \Sigma-JA\Sigma\big).$$ {#eq-gain}
#
# *Proof.* Let $e=x-\mu-J(z-A\mu-o)$ be what the gain leaves over. It has mean zero, and $\operatorname{Cov}(e,z)=\operatorname{Cov}(x,z)-JQ=\Sigma A^\top-\Sigma A^\top=0$. Gaussian variables without correlation are independent: their joint covariance is block diagonal, so their joint density is a product. Knowing $z$ therefore leaves $e$ as it was: $x$ is $\mu+J(z-A\mu-o)$ plus $e$. And, $e$ and $z$ being uncorrelated, $\operatorname{Cov}(e)=\operatorname{Cov}(e,x)=\Sigma-J\operatorname{Cov}(z,x)=\Sigma-JA\Sigma$. ∎
#
# Only $\operatorname{Cov}(x,z)$ and $Q$ were used. So for any jointly Gaussian pair the gain is covariance over variance, and on the line that is the slope of a regression.
#
# **Total variance.** For any law, let $m(z)=\mathbb E[x|z]$. Then $x-\mathbb Ex=(x-m)+(m-\mathbb Ex)$, and given $z$ the first bracket has mean zero while the second is fixed. The cross terms vanish:
#
# $$\operatorname{Var}x=\mathbb E\operatorname{Var}[x|z]+\operatorname{Var}\mathbb E[x|z].$$ {#eq-total-variance}

# %%
#| exports
def condition(cov: Tensor, A: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """The gain J and what is left of the covariance `cov` (d, d) of x once z = A x + o + noise is known.

    `A` (k, d), `noise` its covariance (k, k): J is (d, k), and x given z has mean mu + J (z - A mu - o).
    """
    Q = A @ cov @ A.T + noise
    gain = torch.linalg.solve(Q, A @ cov).T
    return gain, cov - gain @ A @ cov


# %% [markdown]
# The check knows only Bayes' rule: prior times likelihood on a fine grid of the plane, normalised. For @eq-total-variance, sampling from a law that is not Gaussian: $z$ picks one of three blobs.

# %%
mu, Sigma = f64(0.3, -0.5), f64(1.0, 0.6, 0.6, 0.8).reshape(2, 2)
A, psi, seen = f64(0.7, -1.2)[None], f64(0.3)[None], f64(1.1)
line = torch.linspace(-7, 7, 701, dtype=torch.float64)
plane = torch.cartesian_prod(line, line)
log_prior = MultivariateNormal(mu, Sigma).log_prob(plane)
mass = torch.exp(log_prior - (seen - plane @ A[0] - 0.2) ** 2 / (2 * psi[0]))
mass /= mass.sum()
mean = mass @ plane
J, left = condition(Sigma, A, psi)
test_close(mu + J @ (seen - A @ mu - 0.2), mean, eps=1e-9)
test_close(left, (mass[:, None] * (plane - mean)).T @ (plane - mean), eps=1e-9)

# %%
means, spread = f64(-1.0, 0.0, 2.0), f64(0.2, 1.0, 0.5)
z = torch.multinomial(f64(0.5, 0.2, 0.3), 200_000, replacement=True, generator=g)
x = means[z] + spread[z] * torch.randn(len(z), generator=g, dtype=torch.float64)
inside = sum((z == k).double().mean() * x[z == k].var() for k in range(3))
between = torch.stack([x[z == k].mean() for k in range(3)])[z].var()
test_close(inside + between, x.var(), eps=1e-4)


# %% [markdown]
# ## Divergence and Jensen's inequality
#
# How far is a model $p$ from nature $q$? The **divergence** is the mean of the log-ratio (natural logarithms: *nats*):
#
# $$\mathrm{KL}(q\,\|\,p)=\mathbb E_{q}\log\frac{q(x)}{p(x)}\ \ge\ 0 .$$
#
# It is not negative by **Jensen's inequality**, $\mathbb E\log u\le\log\mathbb Eu$ for positive $u$. That holds because a tangent lies above the logarithm: $\log\frac{u}{\mathbb Eu}\le\frac{u}{\mathbb Eu}-1$, and the right side has mean zero. Take $u=p/q$: $-\mathrm{KL}\le\log\int p=0$.
#
# For two Gaussians in $\mathbb R^d$ every term is an expected quadratic. Since $\mathbb E_q(x-m_p)^\top C_p^{-1}(x-m_p)=\operatorname{tr}C_p^{-1}C_q+(m_q-m_p)^\top C_p^{-1}(m_q-m_p)$,
#
# $$\begin{aligned}\mathrm{KL}={}&\tfrac12\Big[\operatorname{tr}C_p^{-1}C_q-d+\log\frac{|C_p|}{|C_q|}\\&+(m_q-m_p)^\top C_p^{-1}(m_q-m_p)\Big].\end{aligned}$$ {#eq-kl}
#
# With equal covariances $c^2I$ only the means count: $\|m_q-m_p\|^2/2c^2$.

# %%
#| exports
def gaussian_entropy(cov: Tensor) -> Tensor:
    "H of N(m, cov) in nats, 1/2 log det(2 pi e cov): (d, d) to ()."
    return 0.5 * torch.logdet(2 * math.pi * math.e * cov)


def gaussian_kl(mean: Tensor, cov: Tensor, mean_p: Tensor, cov_p: Tensor) -> Tensor:
    "KL(N(mean, cov) || N(mean_p, cov_p)) in nats: means (d,), covariances (d, d), to ()."
    ratio, shift = torch.linalg.solve(cov_p, cov), mean - mean_p
    moved = shift @ torch.linalg.solve(cov_p, shift)
    return (ratio.trace() + moved - len(mean) - torch.logdet(ratio)) / 2


# %% [markdown]
# Against the definition: the mean of the log-ratio over draws, which carries an error, and the sum over the grid, which has almost none. (So too the entropy, defined below.)

# %%
mu_p, Sigma_p = f64(0.0, 0.4), f64(1.5, -0.3, -0.3, 0.9).reshape(2, 2)
nature, model = MultivariateNormal(mu, Sigma), MultivariateNormal(mu_p, Sigma_p)
noise = torch.randn(100_000, 2, generator=g, dtype=torch.float64)
draws = mu + noise @ torch.linalg.cholesky(Sigma).T
ratio = nature.log_prob(draws) - model.log_prob(draws)
stderr = ratio.std() / len(draws) ** 0.5
formula = gaussian_kl(mu, Sigma, mu_p, Sigma_p)
mass = log_prior.exp() * (line[1] - line[0]) ** 2
summed = (mass * (log_prior - model.log_prob(plane))).sum()
assert abs(ratio.mean() - formula) < 4 * stderr
test_close(summed, formula, eps=1e-9)
test_close(kl_divergence(nature, model), formula, eps=1e-12)
test_close(-(mass * log_prior).sum(), gaussian_entropy(Sigma), eps=1e-9)
Table({"formula": f"{formula:.6f}", "grid": f"{summed:.6f}",
       "sampling": f"{ratio.mean():.3f} ± {stderr:.3f}"}, "road", "KL [nats]")

# %% [markdown]
# ## The evidence bound
#
# A model with hidden variables $y$ gives an image the probability $p(x_0)=\int p(x_0,y)\,dy$, an integral that nobody can do. Let $q(y|x_0)$ be *any* law of $y$. Write the integral as a mean over it and apply Jensen:
#
# $$\log p(x_0)=\log\mathbb E_{q(y|x_0)}\frac{p(x_0,y)}{q(y|x_0)}\ \ge\ \mathbb E_{q(y|x_0)}\log\frac{p(x_0,y)}{q(y|x_0)}.$$ {#eq-elbo}
#
# What is lost is a divergence: insert $p(x_0,y)=p(x_0)\,p(y|x_0)$, and the gap is $\mathrm{KL}(q(y|x_0)\,\|\,p(y|x_0))$.
#
# Now let $y$ be a *chain* $y_0,\dots,y_n$ of ever noisier images. Nature makes it from the image, each from the one before. The model goes the other way, from noise to image:
#
# $$\begin{aligned}q(y_{0:n}|x_0)&=q(y_0|x_0)\prod_{i=1}^nq(y_i|y_{i-1}),\\p(x_0,y_{0:n})&=p(y_n)\,\prod_{i=1}^np(y_{i-1}|y_i)\;p(x_0|y_0).\end{aligned}$$ {#eq-chains}
#
# To compare them factor by factor, turn nature round. Given $y_{i-1}$, the image adds nothing to $y_i$, so by Bayes' rule at fixed $x_0$
#
# $$q(y_i|y_{i-1})=q(y_i|y_{i-1},x_0)=q(y_{i-1}|y_i,x_0)\,\frac{q(y_i|x_0)}{q(y_{i-1}|x_0)} .$$
#
# In the product the fractions **telescope** to $q(y_n|x_0)/q(y_0|x_0)$. What is left is $q(y_{0:n}|x_0)=q(y_n|x_0)\prod_iq(y_{i-1}|y_i,x_0)$, which runs in the model's direction. Put both into @eq-elbo; each pair of factors becomes a divergence:
#
# $$\begin{aligned}\log p(x_0)\ge{}&\mathbb E_q\log p(x_0|y_0)-\sum_{i=1}^n\mathbb E_q\,\mathrm{KL}\big(q(y_{i-1}|y_i,x_0)\,\|\,p(y_{i-1}|y_i)\big)\\&-\mathrm{KL}\big(q(y_n|x_0)\,\|\,p(y_n)\big).\end{aligned}$$ {#eq-chain-bound}
#
# The check takes three states in the place of images, random tables in the place of noise and network, and sums over all $3^3$ chains: $\log p(x_0)$ itself, the bound as @eq-elbo defines it, and as @eq-chain-bound splits it.

# %%
table = lambda *s: torch.rand(*s, generator=g, dtype=torch.float64).softmax(-1)
q0, q1, q2, p_x, p0, p1 = (table(3, 3) for _ in range(6))  # rows: what is given
p2 = table(3)
q = torch.einsum("xa,ab,bc->xabc", q0, q1, q2)  # q(y_0, y_1, y_2 | x_0)
p = torch.einsum("c,cb,ba,ax->xabc", p2, p1, p0, p_x)  # p(x_0, y_0, y_1, y_2)
log_p = p.sum((1, 2, 3)).log()
elbo = (q * (p / q).log()).sum((1, 2, 3))
posterior = p / p.sum((1, 2, 3), keepdim=True)
test_close(log_p - elbo, (q * (q / posterior).log()).sum((1, 2, 3)), eps=1e-12)

kl = lambda q, p: (q * (q / p).log()).sum(-1)
two, far = q.sum(3), q.sum((1, 2))  # laws of (y_0, y_1) and of y_2, given x_0
last = torch.einsum("xa,ax->x", q0, p_x.log())
pair = q.sum(1)  # of (y_1, y_2)
step0 = (two.sum(1) * kl((two / two.sum(1, keepdim=True)).mT, p0)).sum(1)
step1 = (far * kl((pair / far[:, None]).mT, p1)).sum(1)
start = kl(far, p2)
test_close(last - step0 - step1 - start, elbo, eps=1e-12)
Table([{"image": i, "last step": last[i].item(), "two steps": (step0 + step1)[i].item(),
        "start": start[i].item(), "bound": elbo[i].item(),
        r"$\log p(x_0)$": log_p[i].item()} for i in range(3)], digits=4)

# %% [markdown]
# ## Entropy and information
#
# The **entropy** $H(x)=-\mathbb E\log q(x)$ of a density, or of probabilities, says how spread out it is; for a Gaussian, whose quadratic has the mean $d$, it is $\tfrac12\log|2\pi e\,C|$. $H(x|z)$ is the entropy of the law given $z$, averaged over $z$. The **mutual information** is what $z$ tells about $x$:
#
# $$I(x;z)=\mathbb E\log\frac{q(x,z)}{q(x)\,q(z)}=H(x)-H(x|z)=\mathbb E\,\mathrm{KL}\big(q(z|x)\,\|\,q(z)\big).$$ {#eq-information}
#
# It is a divergence, so it is not negative, and *knowing more never raises an entropy on average*. With a third variable fixed, and averaged over it, it is $I(x;z|y)$. The **chain rule**
#
# $$I(x;y,z)=I(x;y)+I(x;z|y)$$ {#eq-chain-rule}
#
# is the mean of $\log\frac{q(x|y,z)}{q(x)}=\log\frac{q(x|y)}{q(x)}+\log\frac{q(x|y,z)}{q(x|y)}$. If $z$ is made from $y$ alone, then $q(x|y,z)=q(x|y)$: the last term vanishes. The rule with $y$ and $z$ exchanged says $I(x;y,z)\ge I(x;z)$, so $I(x;z)\le I(x;y)$. What is computed from an image knows no more than the image.
#
# The check sums over the three-state chain: $x_0$ drawn uniformly, $y_0$ made from it, $y_1$ from $y_0$.

# %%
joint = two / 3  # of (x_0, y_0, y_1)
H = lambda m: -torch.special.xlogy(m, m).sum()
information = lambda m: H(m.sum(0)) + H(m.sum(1)) - H(m)  # of rows and columns
both = information(joint.reshape(3, 9))
first, second = information(joint.sum(2)), information(joint.sum(1))
given = lambda m, i: information(m.select(1, i) / m.select(1, i).sum())
rest = sum(joint[:, i].sum() * given(joint, i) for i in range(3))
test_close(first + rest, both, eps=1e-12)
assert abs(rest) < 1e-12 and second < first  # y_1 is made from y_0 alone
swapped = joint.mT  # (x_0, y_1, y_0): now the later variable does tell more
more = sum(swapped[:, i].sum() * given(swapped, i) for i in range(3))
test_close(second + more, both, eps=1e-12)
assert more > 0.001


# %% [markdown]
# ## One small random step
#
# A **stochastic differential equation** $dx=K(x,t)\,dt+g(t)\,dw$ is a recipe: in a short time $\delta$,
#
# $$x_{t+\delta}=x_t+K(x_t,t)\,\delta+g(t)\sqrt\delta\;\varepsilon,\qquad\varepsilon\sim\mathcal N(0,I)\ \text{new at each step},$$ {#eq-euler}
#
# and the limit $\delta\to0$ is meant. $K$ is the drift, $g$ the rate of noise, and $w$ **Brownian motion**, the sum of all the $\sqrt\delta\,\varepsilon$. Why the root? Variances of independent steps add up. There are $1/\delta$ steps in a unit of time, so each must have a variance proportional to $\delta$; noise of size $\delta$ would average out.
#
# **Moments.** Take mean and variance of @eq-euler, the noise being independent of $x_t$:
#
# $$\mathbb Ex_{t+\delta}=\mathbb Ex_t+\delta\,\mathbb EK,\qquad\operatorname{Var}x_{t+\delta}=\operatorname{Var}x_t+2\delta\operatorname{Cov}(x_t,K)+\delta^2\operatorname{Var}K+\delta g^2,$$
#
# a coordinate at a time. Divide by $\delta$ and let it vanish. For a drift with slope $k$, $K=kx+{}$const, mean $m$ and variance $V$ obey
#
# $$\frac{dm}{dt}=K(m,t),\qquad\frac{dV}{dt}=2k\,V+g^2 .$$ {#eq-moment-odes}

# %%
#| exports
def euler_step(x: Tensor, drift: Tensor, g2: Tensor, dt: Tensor, g: torch.Generator) -> Tensor:
    """x + drift dt + sqrt(g2 |dt|) eps with new noise drawn from `g`: one step of dx = K dt + g dw.

    Images (N, ...), `drift` of the same shape; `g2`, the squared rate of noise, and `dt`, which may be negative, ().
    """
    return x + bcast(dt, x) * drift + bcast((g2 * dt.abs()).sqrt(), x) * randn_like(x, g)


# %% [markdown]
# Check: $K=1-2x$ and $g^2=0.7$ from $x=2$. @eq-moment-odes gives $m=\tfrac12+\tfrac32e^{-2t}$ and $V=\tfrac{0.7}{4}(1-e^{-4t})$. Simulated with ever shorter steps, the moments must come closer. (At 80 steps the mean's error, 0.004, is still the steps', not that of 200 000 walks.)

# %%
def walk(K, g2, x, steps, T):
    "The ends of `steps` small steps of dx = K(x) dt + g dw."
    dt = f64(T / steps)[0]
    for _ in range(steps): x = euler_step(x, K(x), f64(g2)[0], dt, g)
    return x


m, V = 0.5 + 1.5 * math.exp(-1), 0.7 / 4 * (1 - math.exp(-2))
rows, begin = {"limit": {"mean": f"{m:.4f}", "variance": f"{V:.4f}"}}, f64(2.0)
for steps in (5, 20, 80):
    ends = walk(lambda x: 1 - 2 * x, 0.7, begin.expand(200_000, 1), steps, 0.5)
    off_mean, off_var = ends.mean() - m, ends.var() - V
    assert abs(off_mean) < 1.2 / steps + 0.004 and abs(off_var) < 0.4 / steps + 0.002
    rows[steps] = {"mean": f"{ends.mean():.4f} ± {ends.std() / len(ends)**0.5:.4f}",
                   "variance": f"{ends.var():.4f} ± {V * (2 / len(ends))**0.5:.4f}"}
assert abs(off_mean) < 0.006 and abs(off_var) < 0.004
Table(rows, "steps")

# %% [markdown]
# ## The forward and the backward equation
#
# What happens to a whole density? Take a smooth function $\varphi$ and expand it around $x$ in one step of @eq-euler. Terms odd in $\varepsilon$ have mean zero, $\mathbb E\,\varepsilon_i\varepsilon_j$ is one for $i=j$ and else zero, so
#
# $$\mathbb E[\varphi(x_{t+\delta})\,|\,x_t=x]=\varphi+\delta\,\big(K\cdot\nabla\varphi+\tfrac12g^2\,\nabla^2\varphi\big)+O(\delta^2),$$ {#eq-generator}
#
# where $\nabla^2$ is the sum of the second derivatives. The noise enters at the order of the drift, because its square does.
#
# **Backward.** Let $h(x,t)=\mathbb E[\varphi(x_T)|x_t=x]$: what to expect of the end, seen from $x$. (The density of ending at $x_T$ is such a mean, with $\varphi$ narrowed to a point.) One step does not change the expectation, $h(x,t)=\mathbb E\,h(x_{t+\delta},t+\delta)$. Expand by @eq-generator and let $\delta\to0$:
#
# $$-\partial_th=K\cdot\nabla h+\tfrac12g^2\,\nabla^2h .$$ {#eq-backward}
#
# **Forward.** Let $q_t$ be the density of $x_t$. By @eq-generator $\tfrac{d}{dt}\int q_t\varphi=\int q_t\,(K\cdot\nabla\varphi+\tfrac12g^2\nabla^2\varphi)$. For $\varphi$ that vanish far out, integrate by parts, so that the derivatives act on $q_t$. As $\varphi$ was arbitrary,
#
# $$\partial_tq_t=-\nabla\!\cdot(K\,q_t)+\tfrac12g^2\,\nabla^2q_t ,$$ {#eq-forward}
#
# the **Fokker–Planck equation**.
#
# **One assumption** we do not prove: for smooth drifts that push outwards at most linearly, as all of ours on $t<T$, @eq-forward has *one* solution for a given start. So two processes that start alike and obey the same forward equation have the same density at every time.
#
# The check has no closed form: the drift $K=x-x^3$ pushes to $\pm1$, and noise with $g^2=0.5$ lets walks change sides. Both equations are solved on a grid, with differences for derivatives; against them, 50 000 walks of small steps.

# %%
x = torch.linspace(-2.6, 2.6, 261, dtype=torch.float64)
dx, one, K, g2 = x[1] - x[0], torch.ones(260).double(), (lambda x: x - x**3), 0.5
slope = (one.diag(1) - one.diag(-1)) / (2 * dx)
bend = (one.diag(1) + one.diag(-1) - 2 * torch.eye(261).double()) / dx**2
forward = -slope @ K(x).diag() + g2 / 2 * bend
backward = K(x).diag() @ slope + g2 / 2 * bend
at, T = 0.3, 2.0
begin = torch.exp(-((x - at) ** 2) / (2 * 0.1**2))
begin /= begin.sum() * dx
density = {t: torch.matrix_exp(t * forward) @ begin for t in (0.5, T)}
right = torch.matrix_exp(T * backward) @ (torch.heaviside(x, f64(0.5)))

starts = at + 0.1 * torch.randn(50_000, 1, generator=g, dtype=torch.float64)
ends = {t: walk(K, g2, starts, round(100 * t), t)[:, 0] for t in density}
for t, q_t in density.items():
    for edge in (-1.0, 0.0, 0.6, 1.0):
        below = (q_t * ((x < edge) + 0.5 * (x == edge))).sum() * dx
        assert abs((ends[t] < edge).double().mean() - below) < 0.01
where, chance = f64(-1.2, -0.6, -0.2, 0.2, 0.6, 1.2), []
for point in where:
    over = walk(K, g2, point.expand(20_000, 1), 200, T) > 0
    chance.append(over.double().mean())
at_points = right[((where - x[0]) / dx).round().long()]
assert (torch.stack(chance) - at_points).abs().max() < 0.015

# %%
#| label: fig-forward-backward
#| fig-cap: 'One process, two equations. Left, the forward equation moves the density of where a walk is; small random steps (grey) agree. Right, the backward equation gives the chance of ending on the right side from each starting point.'
#| fig-alt: 'Two line charts. Left: density of x at time 0.5, one hump near 0.6, and at time 2, two humps near minus 1 and 1, the right one higher; grey histograms of simulated walks lie under both curves. Right: the probability of ending above zero at time 2 rises from about 0.1 to 0.9 as the start goes from minus 2 to 2; six dots of simulated walks lie on the curve.'
fig, (left, far) = plt.subplots(1, 2, figsize=(7, 3))
for (t, q_t), style in zip(density.items(), ["-", "--"], strict=True):
    left.hist(ends[t].numpy(), bins=60, density=True, color="0.5", alpha=0.35)
    left.plot(x, q_t, style, label=f"$t={t:g}$")
left.set(xlabel="$x$", ylabel="density $q_t(x)$", title="Forward")
left.legend(loc="upper left")
far.plot(x, right, label="grid")
far.plot(where, chance, "o", color="C1", label="walks")
far.set(xlabel="start $x$", ylabel="$P(x_2>0)$", title="Backward", xlim=(-2, 2),
        ylim=(0, 1))
far.legend(loc="upper left");

# %% [markdown]
# ## Exercises
#
# **1.** *Compute.* Two instruments measure one number $x$, with independent noise of variances 1 and 3, and nothing is known about $x$ beforehand: let its variance be $10^8$. Which weights does the best estimate give to the two readings, and which variance is left? Answer by precisions, one over variance, first; then with `condition`.

# %%
#| code-fold: true
#| code-summary: "Solution"
weights, left = condition(f64(1e8)[None], f64(1, 1)[:, None], f64(1, 3).diag())
test_close(weights[0], f64(3 / 4, 1 / 4), eps=1e-6)  # as 1/1 to 1/3
test_close(left.item(), 1 / (1 / 1 + 1 / 3), eps=1e-6)  # precisions add up

# %% [markdown]
# **2.** *Explain.* $\mathrm{KL}(q\|p)$ and $\mathrm{KL}(p\|q)$ differ. Nature has two humps, $\pm1$ with spread 0.2, and the model is one Gaussian $\mathcal N(0,s^2)$. Which $s$ is best in the first sense? Find it on a grid, and say why it is the spread of the data.

# %%
#| code-fold: true
#| code-summary: "Solution"
nature = (torch.exp(-((x[:, None] - f64(-1, 1)) ** 2) / 0.08)).sum(1)
nature /= nature.sum() * dx
widths = torch.linspace(0.5, 1.5, 1001, dtype=torch.float64)
# KL = E_q log q + log s + E_q x^2 / 2 s^2 + constant: the least at s^2 = E_q x^2
cost = widths.log() + (nature * x**2).sum() * dx / (2 * widths**2)
test_close(widths[cost.argmin()], math.sqrt(1 + 0.2**2), eps=1e-3)

# %% [markdown]
# **3.** *Extend.* Let the rate of noise be zero. Then `euler_step` follows an ordinary differential equation, and @eq-forward is pure transport. Which density does the flow of $K=-x$ make of $\mathcal N(0,1)$ after a time 1? Check with draws.

# %%
#| code-fold: true
#| code-summary: "Solution"
flowed = walk(lambda x: -x, 0.0, draws[:, :1], 400, 1.0)
shrink = math.exp(-1)  # every point moves to x / e, so the spread does
test_close((flowed / draws[:, :1]).std(), 0.0, eps=1e-9)
test_close(flowed.std() / draws[:, 0].std(), shrink, eps=1e-3)

# %% [markdown]
# ## What can go wrong
#
# * **Forgetting which law is averaged over.** $\mathrm{KL}(q\|p)$ averages over $q$: it is infinite if the model excludes anything that nature does, and it does not mind what the model adds.
# * **Reading a bound as a value.** @eq-elbo loses a divergence that depends on $x_0$ and on the model. Two bounds may stand in another order than the likelihoods.
# * **Uncorrelated is not independent.** The proof of @eq-gain needs jointly Gaussian variables. For other laws $\mu+J(z-A\mu-o)$ is the best *affine* estimate, no more.
# * **Noise of size $\delta$ instead of $\sqrt\delta$.** The simulation converges, without noise.
# * **Equal marginals taken for equal processes.** @eq-forward knows the density at each time, not how the times hang together.
