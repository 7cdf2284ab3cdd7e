# %% [markdown]
# # Why SAMI disentangles
#
# > A posterior that is diagonal at every noise level puts no component on two axes; for Gaussian data only a pinned denoiser asks for that.

# %% [markdown]
# Why should each axis of a code stand for one factor, when nobody asked for it? SAMI's answer [@lyo2025sami] is the diagonal posterior, used at *all* noise levels: a factor that is spread over two axes is found out at some level. This page makes that precise for Gaussian data: a proposition with proof, what its violation costs in nats, and the caveat on which everything hangs. A denoiser that is trained together with the guidance absorbs the mismatch, and then, for Gaussian data, nothing favours separate axes. The derivation is ours; the paper's own theorems may be stated differently.

# %%
#| hide
import math

import matplotlib.pyplot as plt
import torch
from fastcore.test import test_close

from scoreae.core.pages import Table, paper
from scoreae.foundations.paths import VPCosine
from scoreae.foundations.worlds import GaussianWorld, denoiser

# %%
#| hide
paper()
f64 = lambda *v: torch.tensor(v, dtype=torch.float64)
g = torch.Generator().manual_seed(0)


# %% [markdown]
# ## Diagonal at one level is easy, at all levels it is not
#
# Data $x_0\sim\mathcal N(\mu,\Sigma)$, encoder $q(z|x_0)=\mathcal N(Ax_0+o,\Psi)$ with diagonal $\Psi$. In $y=x_0+\gamma^{-1/2}\varepsilon$ the posterior covariance of the image is $P_\gamma=(\Sigma^{-1}+\gamma I)^{-1}$, and that of the code
#
# $$V_\gamma=\mathrm{Cov}[z|y]=\Psi+A\,P_\gamma A^\top,\qquad P_\gamma=\sum_m\frac{\ell_m}{1+\gamma\ell_m}\,\Pi_m,$$ {#eq-why-v}
#
# where $\ell_1,\ell_2,\dots$ are the *different* eigenvalues of $\Sigma$ and $\Pi_m$ the projections onto their eigenspaces.
#
# **Proposition.** $V_\gamma$ is diagonal for all $\gamma$ in an interval if and only if $A\,\Pi_mA^\top$ is diagonal for every $m$: inside every eigenspace, the rows of $A$ are orthogonal to each other. If all eigenvalues are different, that means: **each principal component feeds at most one axis.**
#
# *Proof.* An entry off the diagonal is $\sum_m\frac{\ell_m}{1+\gamma\ell_m}(A\Pi_mA^\top)_{ij}$. Write $\frac{\ell_m}{1+\gamma\ell_m}=\frac1{\gamma+1/\ell_m}$: functions with poles at different places $-1/\ell_m$. If a sum of such functions vanishes on an interval, it vanishes wherever it is defined, being a rational function; but near $\gamma=-1/\ell_m$ the $m$-th term alone is unbounded, so its coefficient is zero. The other direction is plain. If $\Pi_m=e_me_m^\top$, then $(A\Pi_mA^\top)_{ij}=(Ae_m)_i(Ae_m)_j$, and a product vanishes for all $i\ne j$ only if at most one entry of $Ae_m$ is not zero. ∎
#
# So a component may not be spread over two axes, while components of *equal variance* may be rotated freely among themselves: theory leaves that rotation open. Nor does it forbid *one axis to read several components*, as each of `own` does below; a code of one axis is always diagonal. Each axis has its own component if there are as many axes as components and $A$ is invertible. With fewer, the rate would have to choose. At a single level nothing is said, since $V_\gamma$ is symmetric and always has some rotation that makes it diagonal.
#
# Check: four components, three of them equal or not, and encoders that mix them.

# %%
def off_diagonal(A, variances, psi=0.2):
    "Largest off-diagonal entry of V over noise levels."
    levels = torch.linspace(-6, 6, 40, dtype=torch.float64).exp()
    P = torch.stack([torch.diag(variances / (1 + v * variances)) for v in levels])
    V = psi * torch.eye(2) + A @ P @ A.T
    return float(V[:, 0, 1].abs().max())


own = torch.stack([f64(0.7, 0, 0, 0.4), f64(0, 0.5, 0.9, 0)])  # one axis a component
assert off_diagonal(own, f64(3.0, 1.0, 0.3, 0.1)) < 1e-12
mixing = torch.stack([f64(0.8, 0.6), f64(-0.6, 0.8)])
assert off_diagonal(mixing, f64(1.0, 1.0)) < 1e-12  # equal: a rotation is free
assert off_diagonal(mixing, f64(3.0, 1.0)) > 0.1

level, S = 0.7, f64(3.0, 1.0)  # one level is made diagonal: then the others are not
B = torch.stack([f64(1.0, 0.5), f64(0.2, 1.0)])
V = lambda A: A @ torch.diag(S / (1 + level * S)) @ A.T
turn = torch.linalg.eigh(V(B))[1].T
here, elsewhere = abs(float(V(turn @ B)[0, 1])), off_diagonal(turn @ B, S)
assert here < 1e-12 and elsewhere > 0.02
Table({"the one chosen": round(here, 9), "others, at most": elsewhere}, "noise level",
      "entry off the diagonal")


# %% [markdown]
# ## What the guidance must match
#
# Why does it matter that $V_\gamma$ is diagonal? For this world the exact guidance is $G_t=M^\top V^{-1}(z-m)$, with $m$ and $V$ the mean and covariance of $z$ given $x_t$ and $M=\partial m/\partial x_t$. SAMI offers $W^\top D^{-1}(z-Wx_t-o)$ with a *diagonal* $D$. Who has to match what depends on how the denoiser is trained.
#
# In the `joint` regime both networks minimise the guided loss, a fraction $p$ = `p_uncond` of the images without guidance. At a fixed $x_t$ the denoiser's output $\varepsilon_\theta$ then minimises a sum of squares, $(1-p)\,\mathbb E\|\varepsilon-\varepsilon_\theta+c\,G_\phi\|^2+p\,\mathbb E\|\varepsilon-\varepsilon_\theta\|^2$ over $q(\varepsilon,z|x_t)$, whose minimum is the mean of its targets:
#
# $$\varepsilon_\theta^*=(1-p)\,\mathbb E[\varepsilon+c\,G_\phi|x_t]+p\,\mathbb E[\varepsilon|x_t]=\mathbb E[\varepsilon|x_t]+(1-p)\,c\;\mathbb E[G_\phi|x_t].$$ {#eq-free}
#
# So the "unconditional" denoiser is biased by $(1-p)$ times the mean guidance: it absorbs what the guidance gets wrong *and does not depend on* $z$. What stays in the loss is $p(1-p)\,\|c\,\mathbb E[G_\phi|x_t]\|^2$, nothing for $p=0$. Exact guidance has mean zero, $\int q(z|x_t)\nabla\log q(z|x_t)\,dz=\nabla1=0$, and leaves no bias. Hence:
#
# * *Joint*, $p=0$: only the coefficient of $z$ must match, $D^{-1}W=V^{-1}M$. $W=DV^{-1}M$ does it, for any diagonal $D$ and **any rotation of the code**: nothing favours separate axes. (This is so for *Gaussian* data, whose exact guidance is linear in $z$. Other data, and the default $p=0.1$, are not computed here.)
# * *Pinned* or *frozen*: the denoiser says its own score and no more, so all of it must match, $W=M$ and $D=V$. That is possible only if $V$ is diagonal, at every level.
#
# Below: two components of variances $\ell$, codes with $q(z)=\mathcal N(0,I)$ and posterior variance 0.2, rotated by an angle; the best $W,D$ at every noise level, by numerical minimisation. What the pinned guidance loses is the pressure towards separate axes, here at posterior variance 0.2. It comes from the *difference in scale* of the components.

# %%
def rotation_gap(variances, angles, n=40, span=10.0, s=0.2):
    "Nats lost by the best diagonal guidance, over log gamma, at each of `angles`."
    u = (torch.arange(n) + 0.5).double() * (2 * span / n) - span
    S, eye = torch.diag(f64(*variances)), torch.eye(2).double()
    C = S + (-u).exp()[:, None, None] * eye  # of y = x_0 + gamma^-1/2 eps
    A = rotation(angles) @ torch.diag(((1 - s) / f64(*variances)).sqrt())
    M = A @ S @ torch.linalg.inv(C)
    V = s * eye + A @ (S - S @ torch.linalg.inv(C) @ S) @ A.mT
    exact, D = M.mT @ torch.linalg.inv(V), torch.diag(f64(0.3, 2.0))
    joint = (D @ torch.linalg.solve(V, M)).mT @ torch.linalg.inv(D)  # any D will do
    test_close(joint, exact, eps=1e-9)

    K = eye.repeat(*M.shape[:2], 1, 1).requires_grad_()  # W = K M
    logD = V.diagonal(dim1=-2, dim2=-1).log().clone().requires_grad_()

    def gap():  # G - G_phi = of_z (z - M y) + of_y y
        P = (K @ M).mT * (-logD).exp()[..., None, :]
        of_z, of_y = exact - P, P @ (M - K @ M)
        power = of_z @ V @ of_z.mT + of_y @ C @ of_y.mT
        energy = power.diagonal(dim1=-2, dim2=-1).sum(-1)
        return ((-u).exp() * energy / 2).sum(1) * (2 * span / n)

    def closure():
        opt.zero_grad()
        gap().sum().backward()
        return gap().sum()

    opt = torch.optim.LBFGS([K, logD], max_iter=200, history_size=20,
                            line_search_fn="strong_wolfe")
    opt.step(closure)
    return gap().detach()


def rotation(angles):
    "Rotations of two axes, (angles, 1, 2, 2)."
    c, s = angles.cos(), angles.sin()
    return torch.stack([c, s, -s, c], 1).reshape(-1, 1, 2, 2)


# %%
#| label: fig-rotation
#| fig-cap: 'What the best diagonal guidance loses when a code of two components is rotated. With a pinned denoiser a rotation costs up to 0.036 nats, if the variances differ; with a joint one, or equal variances, it costs nothing.'
#| fig-alt: 'Line chart of loss in nats against the rotation of the code from 0 to 90 degrees. For pinned denoisers with variances 3 and 0.1 the curve is a hill of 0.036 at 45 degrees, with 3 and 1 a hill of 0.017; for equal variances and for the joint regime the line stays at zero.'
angles = torch.linspace(0, math.pi / 2, 13, dtype=torch.float64)
fig, ax = plt.subplots()
for variances, style in [((3.0, 0.1), "o-"), ((3.0, 1.0), "s--"), ((1.0, 1.0), "^-.")]:
    nats = rotation_gap(variances, angles)
    assert nats[[0, -1]].max() < 1e-4
    assert (nats[6] > 0.01) == (variances[0] != variances[1])
    label = f"pinned, variances {variances[0]:g} and {variances[1]:g}"
    ax.plot(angles.rad2deg(), nats, style, label=label)
ax.axhline(0, color="k", lw=1, label="joint, $p=0$, any variances")
ax.set(xlabel="rotation of the code (degrees)", ylabel="loss (nats)",
       ylim=(-0.002, 0.05))
ax.legend(ncols=2);

# %% [markdown]
# The numbers, and the pressure against the ratio of the variances: none for equal ones, most at a ratio of about fifteen. Beyond that it falls again, slowly: this is not a case of "the further apart, the better". A latent that reads a component of variance $\ell$ with posterior variance $s$ is informed between $\log\gamma=-\log\ell$ and $-\log\ell s$ ([Guidance in use](../use/43_guidance.ipynb)); if two intervals coincide, noise does not tell the components apart.

# %%
corner = f64(0, 10, 20, 45, 90).deg2rad()
table = {f"{a:g} and {b:g}": rotation_gap((a, b), corner)
         for a, b in [(3.0, 0.1), (3.0, 1.0), (3.0, 2.5), (1.0, 1.0)]}
test_close(table["3 and 0.1"], f64(0, 0.0078, 0.0207, 0.0357, 0), eps=2e-4)
half = f64(table["3 and 1"][3], table["3 and 2.5"][3])
test_close(half, f64(0.0167, 0.00056), eps=2e-4)
names = [f"{a:.0f}° (nats)" for a in corner.rad2deg()]
show = lambda nats: dict(zip(names, [f"{v:.5f}" for v in nats], strict=True))
Table({k: show(v) for k, v in table.items()}, name="variances")

# %%
#| label: fig-ratio
#| fig-cap: 'The loss of a pinned denoiser at a rotation by 45°, against the ratio of the two variances: none when they are equal, most at a ratio of about fifteen.'
#| fig-alt: 'Line chart of loss in nats at 45 degrees against the ratio of variances on a logarithmic axis from 1 to 300. It rises from zero to about 0.039 near a ratio of 15 and falls slowly to 0.013.'
ratios = torch.logspace(0, 2.5, 16, dtype=torch.float64)
nats = torch.cat([rotation_gap((1.0, 1.0 / r), corner[3:4]) for r in ratios.tolist()])
assert nats[0] < 1e-9 and 8 < ratios[nats.argmax()] < 30
fig, ax = plt.subplots(figsize=(6, 2.6))
ax.plot(ratios, nats, "o-")
ax.set(xscale="log", xlabel=r"ratio of variances $\ell_1/\ell_2$",
       ylabel="loss at 45° (nats)");


# %% [markdown]
# ## The caveat, by training
#
# The same loss, now with the angle of the code among the parameters: start it anywhere, and minimise over angle, $W$ and $D$ together. In the joint regime with $p=0$ the free denoiser takes the best $z$-independent part, which leaves the coefficient of $z$ in the loss; pinned, all of it counts. Pinned codes must end at a multiple of 90°, whichever is near; joint codes must reach the same loss, zero, and stay where they are.

# %%
def settle(start, pinned, variances=(3.0, 0.1), n=40, span=10.0, s=0.2, steps=1500):
    "Angles (degrees) and losses (nats) that gradient descent reaches from `start`."
    u = (torch.arange(n) + 0.5).double() * (2 * span / n) - span
    S, eye = torch.diag(f64(*variances)), torch.eye(2).double()
    C = S + (-u).exp()[:, None, None] * eye
    P = S - S @ torch.linalg.inv(C) @ S
    angle = start.deg2rad().clone().requires_grad_()
    K = eye.repeat(len(start), n, 1, 1).requires_grad_()
    logD = torch.zeros(len(start), n, 2).double().requires_grad_()
    opt = torch.optim.Adam([{"params": [K, logD], "lr": 2e-2},
                            {"params": [angle], "lr": 2e-3}])

    def loss():
        A = rotation(angle) @ torch.diag(((1 - s) / f64(*variances)).sqrt())
        M, V = A @ S @ torch.linalg.inv(C), s * eye + A @ P @ A.mT
        guide = (K @ M).mT * (-logD).exp()[..., None, :]  # coefficient of z
        of_z, of_y = M.mT @ torch.linalg.inv(V) - guide, guide @ (M - K @ M)
        power = of_z @ V @ of_z.mT
        if pinned: power = power + of_y @ C @ of_y.mT
        energy = power.diagonal(dim1=-2, dim2=-1).sum(-1)
        return ((-u).exp() * energy / 2).sum(1) * (2 * span / n)

    for _ in range(steps):
        opt.zero_grad()
        loss().sum().backward()
        opt.step()
    return angle.detach().rad2deg(), loss().detach()


# %%
#| label: fig-settle
#| fig-cap: 'Where the angle of a trained code ends, against where it began. Pinned codes go to the nearer of 0° and 90°, joint ones stay near their beginning; in both regimes a millionth of a nat of loss is left.'
#| fig-alt: 'Scatter plot of the angle at the end against the angle at the start, both in degrees, for eight starts. The pinned codes lie at 0 for starts below 45 and at 90 for those above; the joint codes lie close to the diagonal.'
start = f64(5, 15, 25, 35, 55, 65, 75, 85)
fig, ax = plt.subplots()
for pinned, name, style in [(True, "pinned", "o"), (False, "joint, $p=0$", "^")]:
    end, nats = settle(start, pinned)
    ax.plot(start, end, style, label=name)
    aligned = torch.minimum(end.abs(), (end - 90).abs())
    assert nats.max() < 1e-3
    if pinned: assert aligned.max() < 3
    else: assert (end - start).abs().max() < 10 and aligned.max() > 25
ax.plot([0, 90], [0, 90], ":", color="0.4", label="unchanged")
ax.set(xlabel="angle of the code at the start (degrees)", yticks=[0, 30, 60, 90],
       ylabel="angle at the end (degrees)", ylim=(-6, 112))
ax.legend(ncols=3, loc="upper left");

# %% [markdown]
# ## The bias of a free denoiser
#
# It remains to check @eq-free, with a wrong guidance: the clean encoder, applied to noisy data. The best *linear* free denoiser solves a regression, whose moments are exact here, and it must be $\mathbb E[\varepsilon|x_t]$ plus $(1-p)\,c$ times the mean guidance.

# %%
R = torch.linalg.qr(torch.randn(4, 4, generator=g, dtype=torch.float64))[0]
Sigma = R @ torch.diag(f64(3.0, 1.0, 0.3, 0.1)) @ R.T
A = torch.randn(2, 4, generator=g, dtype=torch.float64) / 2
Psi = 0.2 * torch.eye(2)
world = GaussianWorld(f64(0.5, -1.0, 0.3, 0.0), Sigma, A, f64(0.3, -0.2), Psi)
centred = GaussianWorld(0 * world.mu, Sigma, A, 0 * world.offset, world.Psi)
path = VPCosine(-4.0)
t, p, w = path.t_of_gamma(1.0), 0.3, torch.eye(10, dtype=torch.float64)
draws = zip(world.draw(w), world.draw(0 * w), strict=True)
x0, eps, z = (v - v0 for v, v0 in draws)  # rows: responses to each source
x_t, c = path.mix(x0, eps, t), path.coefs(t).c
error = lambda x_t, z: z - centred.encode(x_t)
linear = lambda x_t, z: error(x_t, z) @ torch.linalg.solve(world.Psi, world.A)
regress = lambda y: torch.linalg.solve(x_t.T @ x_t, x_t.T @ y)  # of targets on x_t
guided = eps + c * linear(x_t, z)
best = regress((1 - p) * guided + p * eps)
point = torch.randn(5, 4, generator=g, dtype=torch.float64)
m = centred.code_given_noisy(path, point, t)[0]
free = (point - path.coefs(t).b * denoiser(centred.data, path)(point, t)) / c
test_close(point @ best, free + (1 - p) * c * linear(point, m), eps=1e-9)
assert (c * linear(point, m)).abs().max() > 0.5

cost = lambda y, B: (y - x_t @ B).square().sum()
both = lambda B, B0: (1 - p) * cost(guided, B) + p * cost(eps, B0)
stays = both(best, best) - both(regress(guided), regress(eps))  # one denoiser, or two
mean_guidance = x_t @ regress(c * linear(x_t, z))
test_close(stays, p * (1 - p) * mean_guidance.square().sum(), eps=1e-9)

# %% [markdown]
# ## What can go wrong
#
# * **Expecting separate axes from joint training.** With `p_uncond` > 0 the mean guidance costs $p(1-p)\,\|c\,\mathbb E[G_\phi|x_t]\|^2$, which is some pressure, not all of it; how much is not computed here.
# * **Factors of one scale.** Horizontal and vertical position of a disk emerge at the same level: any rotation of them is as good. [Disks](63_disks.ipynb) measures the levels, and what training makes of them.
# * **Where training begins.** The library's networks begin with separate axes, those of principal components ([Gaussian images](../foundations/09_gaussians.ipynb)). For Gaussian data a joint denoiser does not hold them there, but short trainings left most of them ([Disks](63_disks.ipynb), [Natural images](64_natural_images.ipynb)).
# * **Principal components are not factors.** The proposition is about Gaussian data. Beyond it the principle, that the posterior should factorise at every noise level, is the same, and what it favours depends on the data.
# * **The size of the prize.** A few hundredths of a nat, at $s=0.2$: other losses or noise of the training may outweigh it. For the far smaller $s$ that a small $\beta$ asks for ([What β buys](62_what_beta_buys.ipynb)) it is not computed.
