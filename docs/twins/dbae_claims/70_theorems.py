# %% [markdown]
# # What DBAE's theorems say
#
# > Three theorems about a bridge that ends in a decoded code: proofs, the constants they hide, and a flow that they do not cover.

# %% [markdown]
# [DBAE](../models/15_dbae.ipynb) builds the model; this page is about what can be proved of its loss. The paper's abstract and its reviews [@kim2025dbae] speak of a reconstruction loss that is an entropy-regularised score matching, of a bound on mutual information, and of a bound on the divergence from the data. We restate the three in our notation, prove them, and check the first two, and the step of the third that is in doubt, with numbers in the Gaussian world of [Worlds in closed form](../foundations/03_worlds.ipynb). Two qualifications come out: a constant that diverges, and a divergence that holds for the stochastic walk only.

# %%
#| hide
import math

import matplotlib.pyplot as plt
import torch
from fastcore.test import test_close
from scipy.integrate import solve_ivp

from scoreae.core.pages import Table, paper
from scoreae.foundations.bridges import doob, score_from_x0
from scoreae.foundations.gaps import expected_bound, quadrature
from scoreae.foundations.paths import VE, Pinned, VPLinear
from scoreae.foundations.scores import residual
from scoreae.foundations.worlds import GaussianWorld, expected_sqnorm

# %%
#| hide
paper()
f64 = lambda *v: torch.tensor(v, dtype=torch.float64)
g = torch.Generator().manual_seed(0)
noise = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)
bridge = Pinned(VPLinear(0.1, 2.0))

# %% [markdown]
# ## Theorem 1: four functions
#
# The reconstruction loss matches scores along the bridge whose end is decoded from the code,
#
# $$\mathcal L=\tfrac12\int_0^Tg^2\,\mathbb E\big\|s_\theta(x_t,t,x_T)-\nabla_{x_t}\log q(x_t|x_0,x_T)\big\|^2dt.$$ {#eq-thm-loss}
#
# **For every linear SDE it is a weighted error of an estimate of $x_0$:** with
#
# $$\begin{aligned}x^\theta_0&=\frac1{b_t}x_t-\frac{a_t}{b_t}x_T+\frac{c_t^2}{b_t}s_\theta,\\\mathcal L&=\tfrac12\int_0^T\omega(t)\,\mathbb E\|x_0^\theta-x_0\|^2dt,\qquad\omega=\frac{g^2b^2}{c^4}=-\frac{d\,\mathrm{SNR}_t}{dt}.\end{aligned}$$ {#eq-thm-four}
#
# *Proof.* The score of $\mathcal N(a\,x_T+b\,x_0,c^2I)$ is $(a\,x_T+b\,x_0-x_t)/c^2$. The first equation says that $s_\theta=(a\,x_T+b\,x_0^\theta-x_t)/c^2$. Subtract: $s_\theta-\nabla\log q=\tfrac b{c^2}(x_0^\theta-x_0)$. The last equality is in [Bridges](../foundations/05_bridges.ipynb). ∎
#
# So $\omega$ does not know $T$: it is the weight of the likelihood bound, $\mathcal L=\tfrac12\int\mathbb E\|x_0^\theta-x_0\|^2d\gamma$. For VP, $\mathrm{SNR}=1/(e^B-1)$ gives $\omega=g^2e^{-B}/(1-e^{-B})^2$; for VE, $\omega=2/t^3$. The check takes an arbitrary score, and the true one by the $h$-transform: the unpinned score plus Doob's pull.

# %%
worst = 0.0
for path in (bridge, Pinned(VE(80.0))):
    x0, xT, x_t, s_theta = noise(64, 3), noise(64, 3), noise(64, 3), noise(64, 3)
    for t in f64(0.02, 0.1, 0.5, 0.9, 0.99) * path.T:
        a, b, c = path.coefs(t)
        estimate = x_t / b - a / b * xT + c**2 / b * s_theta
        true = score_from_x0(path.base, x_t, t, x0) + doob(path, x_t, t, xT)
        omega = 2 / t**3
        if path.vp:
            B = path.base.B(t)
            omega = path.g2(t) * torch.exp(-B) / torch.expm1(-B) ** 2
        left = path.g2(t) * (s_theta - true).square().sum(1)
        right = omega * (estimate - x0).square().sum(1)
        worst = max(worst, (left / right - 1).abs().max().item())
assert worst < 1e-10
f"worst relative difference {worst:.1e}"


# %% [markdown]
# ## The entropy, and a constant
#
# **The same loss is score matching to the marginal score, plus an entropy, plus a constant that diverges.** Cut the integral at a time $\epsilon$ near 0, and let $J=\tfrac12\int_\epsilon^Tg^2\,\mathbb E\|s_\theta-\nabla\log q(x_t|x_T)\|^2dt$. Since $\nabla\log q(x_t|x_T)$ is the conditional mean of $\nabla\log q(x_t|x_0,x_T)$ ([Scores](../foundations/04_scores.ipynb)), the errors are orthogonal, and what $J$ leaves out is the error of the *exact* estimate $x_0^*$. By the identity of [Gaps](../foundations/07_gaps.ipynb) [@guo2005immse], with $\gamma=0$ at $T$, that is information:
#
# $$\mathcal L_\epsilon=J+\tfrac12\int_0^{\gamma_\epsilon}\mathbb E\|x_0^*-x_0\|^2d\gamma=J+I(x_0;x_\epsilon|x_T).$$ {#eq-thm-split}
#
# And $I(x_0;x_\epsilon|x_T)=H(x_0|x_T)-H(x_0|x_\epsilon,x_T)$, whose last term tends to the entropy of noise of variance $1/\mathrm{SNR}_\epsilon$:
#
# $$\mathcal L_\epsilon-J\ \to\ H(x_0|x_T)+\tfrac d2\log\frac{\mathrm{SNR}_\epsilon}{2\pi e}\qquad(\epsilon\to0).$$ {#eq-thm-entropy}
#
# The constant is the same for all networks, so it does no harm to training. But "loss = score matching + $H(x_0|x_T)$" is true up to it only: for data with a density, $\mathcal L$ itself is infinite. The entropy is the interesting part. It depends on encoder and decoder, and minimising it makes $x_T$ informative.
#
# Below, scalar data of variance $0.25$, an endpoint that leaves $v=0.1$, and the exact estimate times a factor. The two sides of @eq-thm-split are computed by quadrature; $I=\tfrac12\log(1+v\gamma_\epsilon)$.

# %%
def line_world(k, v, s2=0.25):
    "Scalar data of variance s2, and x_T = z = k x_0 + noise that leaves variance v."
    psi = k**2 * s2 * v / (s2 - v)
    A, s2, psi = (f64(value)[:, None] for value in (k, s2, psi))
    world = GaussianWorld(f64(0.0), s2, A, f64(0.0), psi)
    test_close(world.x_given_z.covs.item(), v, eps=1e-12)
    return world


def loss_of(world, factor, t, against=None):
    "L_eps of the exact estimate times `factor`, or J: its distance to the exact one."
    def error(w, t):
        x0, eps, z = world.draw(w)
        exact = world.denoiser(bridge, z, z)
        if against is None:
            return residual(lambda x, t: factor * exact(x, t), bridge, x0, eps, t, z)
        x_t = bridge.mix(x0, eps, t, z)
        return bridge.gamma(t).sqrt() * (factor - 1) * exact(x_t, t)

    at = lambda t: expected_sqnorm(lambda w: error(w, t), 3) / 2
    integrand = lambda u: at(bridge.t_of_gamma(u.exp()))
    return quadrature(integrand, -20.0, math.log(bridge.gamma(t)), n=120).item()


# %%
world, rows = line_world(0.8, 0.1), []
for t in (1e-2, 1e-4):
    information = math.log1p(0.1 * bridge.gamma(t)) / 2
    # H(x_0|x_T) + 1/2 log(SNR / 2 pi e), with H = 1/2 log(2 pi e v)
    limit = math.log(0.1 * bridge.base.gamma(t)) / 2
    for factor in (1.0, 0.97):
        L, J = loss_of(world, factor, t), loss_of(world, factor, t, against="exact")
        test_close(L - J, information, eps=1e-5)
        values = {"L (nats)": L, "J (nats)": J, "L − J": L - J, "limit": limit}
        rows.append({"cut at t": t, "estimate times": factor}
                    | {k: f"{v:.5f}" for k, v in values.items()})
test_close([math.log1p(0.1 * bridge.gamma(t)) / 2 for t in (1e-2, 1e-4)],
           [2.259856, 4.604715], eps=1e-5)
Table(rows)

# %% [markdown]
# ## The scale of the endpoint does not matter
#
# Multiply decoder and $x_T$ by any number. The information in $x_T$ is the same, so by @eq-thm-split the optimal loss is. The walk starts somewhere else; after the change of variables of [Bridges](../foundations/05_bridges.ipynb) it is the same walk. Three endpoints, of scale 0.1, 0.8 and 5, which leave the same $v=0.09$:

# %%
found = {k: loss_of(line_world(k, 0.09), 1.0, 1e-3) for k in (0.1, 0.8, 5.0)}
test_close(list(found.values()), [math.log1p(0.09 * bridge.gamma(1e-3)) / 2] * 3,
           eps=1e-5)
test_close(list(found.values()), [3.39673] * 3, eps=2e-5)
Table(found, name="scale of the endpoint", value="loss (nats)", digits=6)

# %% [markdown]
# ## Theorem 2: information in the code
#
# **$-I(x_0;z)\le\mathcal L_\epsilon-H(x_0)-\tfrac d2\log\frac{\mathrm{SNR}_\epsilon}{2\pi e}$**, as $\epsilon\to0$.
#
# *Proof.* The chain $x_0\to z\to x_T$ can only lose information, $I(x_0;z)\ge I(x_0;x_T)=H(x_0)-H(x_0|x_T)$. Insert @eq-thm-entropy and $J\ge0$. ∎
#
# So the loss maximises a lower bound on $I(x_0;z)$. What the bound misses is $J$ and what the decoder drops. It is tight for an exact network and a decoder that is one-to-one on the codes.
#
# **Caveat.** A deterministic encoder of data with a density has $I(x_0;z)=\infty$: $z$ fixes $k$ continuous numbers. Then the bound is true and empty. Its right side also moves with $\epsilon$, by $-\tfrac k2$ nats for each unit of $\log\mathrm{SNR}_\epsilon$, as in [Gaps](../foundations/07_gaps.ipynb): a number that reports where the integral was cut. The theorem informs about a *stochastic* encoder.
#
# The check, in four dimensions with two axes: an exact network with a one-to-one decoder, with a decoder that drops an axis, and a wrong network; then encoder noise going to zero at two cuts.

# %%
R = torch.linalg.qr(noise(4, 4))[0]
Sigma = R @ torch.diag(f64(3.0, 1.0, 0.3, 0.1)) @ R.T
A, W = noise(2, 4) / 2, noise(2, 4)
entropy = torch.logdet(2 * math.pi * math.e * Sigma).item() / 2


def theorem_two(psi, high, factor=1.0, axes=2):
    "I(x_0; z) and its bound, cut at log SNR `high`; the decoder leaves `axes`."
    of_code = lambda k: GaussianWorld(torch.zeros(4), Sigma, A[:k], torch.zeros(k),
                                      psi * torch.eye(k))
    world, left = of_code(2), of_code(axes)  # what x_T knows is left
    estimate = lambda z, xT: lambda x, t: factor * left.denoiser(bridge, z, xT)(x, t)
    costs = expected_bound(left, estimate, bridge, math.exp(-18), math.exp(high),
                           "model", lambda z: z @ W[:axes])
    loss = costs["denoising"] + costs["start"]
    known = (torch.logdet(world.Q) - torch.logdet(world.Psi)).item() / 2
    bound = entropy - loss + 2 * (high - math.log(2 * math.pi * math.e))
    return known if psi else math.inf, bound


# %%
cases = {"exact, one-to-one": (0.2, 16.0), "decoder drops an axis": (0.2, 16.0, 1.0, 1),
         "wrong network": (0.2, 6.0, 0.9)}  # fmt: skip
cases |= {f"deterministic, cut at log SNR {c:g}": (0.0, c) for c in (12.0, 14.0)}
table = {name: theorem_two(*case) for name, case in cases.items()}
test_close(*table["exact, one-to-one"], eps=1e-5)
for name in ("decoder drops an axis", "wrong network"):
    assert table[name][1] < table[name][0] - 0.3
cuts = [table[f"deterministic, cut at log SNR {c}"][1] for c in (12, 14)]
# k/2 per unit, here k = 2, two units
test_close(cuts[1] - cuts[0], 2 * 2 / 2, eps=1e-2)
Table({k: {"information (nats)": f"{i:.3f}", "its lower bound (nats)": f"{b:.3f}"}
       for k, (i, b) in table.items()}, name="case")

# %% [markdown]
# ## Theorem 3: divergence from the data
#
# The generative model draws $z$ from a prior, decodes $x_T$, walks back. Let $\mathcal R=\mathbb E\,\mathrm{KL}(q(z|x_0)\|p(z))$. Then, for the *stochastic* walk and $\epsilon\to0$,
#
# $$\mathrm{KL}\big(q(x_0)\,\|\,p(x_0)\big)\ \le\ \mathcal L_\epsilon-\tfrac d2\log\frac{\mathrm{SNR}_\epsilon}{2\pi e}+\mathcal R-H(x_0).$$ {#eq-thm-kl}
#
# *Proof.* Divergence of $x_0$ is at most that of $(x_0,z,x_T)$, drawn from the data forwards and from the model backwards. By the chain rule that is $\mathbb E\log q(x_0)+\mathcal R-\mathbb E\log p(x_0|x_T)$: the factor $q(x_T|z)$ is shared and cancels, whether the endpoint is deterministic or drawn. The last term is $H(x_0|x_T)+\mathbb E\,\mathrm{KL}(q(x_0|x_T)\|p(x_0|x_T))$. It remains that this divergence is at most $J$. The exact walk and the model's *start at the same point*, have the same noise $g$, and drifts that differ by $g^2(s_\theta-s)$. In a step $\Delta$ they make Gaussian moves of equal variance $g^2\Delta$, whose divergence is $\tfrac12\|g^2(s_\theta-s)\Delta\|^2/(g^2\Delta)=\tfrac12g^2\|s_\theta-s\|^2\Delta$. Add up the steps and let $\Delta\to0$: the divergence of the whole walks is $J$ (Girsanov's theorem [@sarkka2019sde]), and that of their ends is no larger. With @eq-thm-entropy the claim follows. ∎
#
# This is the bound of [Bounds](../foundations/06_bounds.ipynb) once more, with $\gamma_{\min}\to0$.
#
# **Caveats.** For a deterministic encoder $\mathcal R=\infty$. And **the deterministic walk is not covered.** Started at $x_T$ without noise it gives one image per code: a law on a $k$-dimensional surface, at infinite divergence from any density. It is not only that. *Give the flow the right first noise*, so that an exact score would give the exact law, and let the score be wrong by $\delta\,(x-M_tx_T)/\sqrt{V_t}$, with the mean $M_tx_T$ and variance $V_t$ of $x_t$ given $x_T$. The expected squared error is $\delta^2$ everywhere, so $J=\tfrac12\delta^2\int g^2dt=\tfrac12\delta^2B_T$. Both walks stay Gaussian with the right mean. Let $\varrho$ be the variance over the exact one. The flow's slope is wrong by $-\tfrac12g^2\delta/\sqrt V$, the stochastic walk's by $-g^2\delta/\sqrt V$, and the latter forgets: its fresh noise pulls $\varrho$ back to one,
#
# $$\begin{aligned}\text{flow:}\quad\frac{d\varrho}{dt}&=-\frac{g^2\delta}{\sqrt V}\varrho,\\\text{stochastic:}\quad\frac{d\varrho}{dt}&=-\frac{2g^2\delta}{\sqrt V}\varrho+\frac{g^2}{V}(\varrho-1),\qquad\varrho_T=1.\end{aligned}$$ {#eq-thm-ratio}
#
# (For the second: the reverse SDE with slope $A$ has $\tfrac{dV}{dt}=2AV-g^2$; subtract the exact one and divide by $V$.) The divergence at the end is $\tfrac12(1/\varrho_0-1+\log\varrho_0)$.

# %%
v, T = 0.09, 1.0  # x_0 given x_T is N(0.8 x_T, 0.09)
half = lambda t: t * (0.1 + t) / 2  # B_t / 2, with g^2 = 0.1 + 2 t
g2 = lambda t: 0.1 + 2 * t


def V(t):
    "b^2 v + c^2 along the bridge, in hyperbolic sines; plain numbers, for speed."
    b = math.sinh(half(T) - half(t)) / math.sinh(half(T))
    return b**2 * v + 2 * b * math.sinh(half(t))


def divergence(log_ratio): return (math.exp(-log_ratio) - 1 + log_ratio) / 2


def walks(delta):
    "J, and the divergences from the stochastic walk and from the flow, given x_T."
    rate = lambda t: g2(t) * delta / math.sqrt(V(t))
    # t = T - p^2: smooth at T
    flow = quadrature(lambda p: 2 * p * rate(T - p.item() ** 2), 0.0, 1.0).item()

    def slope(s, r):  # backwards in time, for the deviation of the ratio from one
        return [2 * rate(T - s) * (1 + r[0]) - g2(T - s) * r[0] / V(T - s)]

    walk = solve_ivp(slope, (1e-7, T), [0.0], method="Radau", rtol=1e-7, atol=1e-9)
    end = math.log1p(walk.y[0, -1])
    return delta**2 * half(T), divergence(end), divergence(flow)


_, b, c = bridge.coefs(0.3)
test_close(V(0.3), (b**2 * v + c**2).item(), eps=1e-12)
known = {0.2: (0.0220, 0.0075, 0.0666), -0.2: (0.0220, 0.0056, 0.0971),
         1.0: (0.550, 0.379, 0.941)}
for delta, want in known.items():  # from an independent implementation
    test_close(walks(delta), want, eps=2e-3)

# %%
#| label: fig-walks
#| fig-cap: 'Divergence of the data from both walks, given $x_T$, when the score has an expected squared error of $\delta^2$ at all times. Theorem 3 bounds the stochastic walk by $J$; the flow is above $J$ on either side of zero.'
#| fig-alt: 'Line chart: nats against the error delta of the score, from -1 to 1. All three curves touch zero in the middle. The solid curve of J is a parabola that reaches 0.55 at both ends; the dashed curve of the stochastic walk lies below it everywhere, the dash-dotted curve of the flow lies above it and leaves the frame on the left.'
deltas = torch.linspace(-1, 1, 41, dtype=torch.float64).tolist()
J, stochastic, flow = zip(*(walks(d) for d in deltas), strict=True)
assert all(s <= j + 1e-9 for s, j in zip(stochastic, J, strict=True))
assert all(f > j for f, j, d in zip(flow, J, deltas, strict=True) if abs(d) > 1e-9)
fig, ax = plt.subplots()
ax.plot(deltas, J, "k", label="$J$: what the loss sees")
ax.plot(deltas, stochastic, "C0--", label="KL from the stochastic walk")
ax.plot(deltas, flow, "C1-.", label="KL from the flow")
ax.set(xlabel=r"error $\delta$ of the score", ylabel="nats", ylim=(0, 1.5),
       title="Theorem 3 covers one of two walks")
ax.legend();

# %% [markdown]
# The stochastic walk is below $J$ everywhere, the flow above it at every error in the figure's range. At $\delta=-0.2$ it is four times $J$. A loss near its optimum says that *samples* are nearly right; about points it makes no such promise.
#
# **With an endpoint that is drawn** (`endpoint_noise` of [DBAE](../models/15_dbae.ipynb)) nothing changes in the proof, since $q(x_T|z)$ is shared. The theorem's loss is that of a network told $x_T$ alone; the released network is told $z$ too, and may use whatever the noisy endpoint hides.
#
# ## What can go wrong
#
# * **Integrating from exactly 0.** The loss of data with a density diverges there; a finite number means that a cut was made, and the number depends on it.
# * **Quoting the theorems for the released loss.** Its weight is not $\omega$. Its value bounds nothing; train with `weighting="elbo"` to stay within the theorems.
# * **Reading Theorem 2 as praise of a deterministic code.** Infinity is a weak lower bound's best friend.
