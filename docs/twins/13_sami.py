# %% [markdown]
# # SAMI
#
# > The encoder guides an unconditional score; there is no decoder. From Bayes' rule to the loss, and what each of the two ways to train it pins down.

# %% [markdown]
# SAMI [@lyo2025sami] makes an autoencoder out of two networks that both exist already: an unconditional denoiser, and an encoder. Decoding is *denoising guided by the encoder*: at each noise level the encoder looks at the noisy image and says in which direction it should change for the code to become more likely. This page derives that estimate and its loss, says what exactly is bounded, shows which freedom is left to a denoiser that is trained with its guidance, and trains a small model on handwritten digits.
#
# Statements about the method follow the paper's abstract and public reviews and summaries of it; the derivations are ours, and complete.

# %%
#| default_exp sami

# %%
#| exports
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import softplus

from scoreae.autoencoder import Autoencoder
from scoreae.core import bcast, require, require_choice, require_number, sqnorm
from scoreae.nets import HalfUNet, UNet, check_shape, check_widths
from scoreae.paths import Path, Pinned, VPCosine
from scoreae.scores import Denoiser

# %%
#| hide
import matplotlib.pyplot as plt
from fastcore.test import expect_fail, test_close
from sklearn.datasets import load_digits
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from scoreae.core import randn_like, rng
from scoreae.gaps import expected_bound, quadrature
from scoreae.oracle import GaussianWorld, denoiser, expected_sqnorm
from scoreae.paths import VE, VPLinear
from scoreae.scores import residual

# %%
#| hide
plt.style.use("scoreae.paper")
f64 = lambda *v: torch.tensor(v, dtype=torch.float64)
g = torch.Generator().manual_seed(0)


# %% [markdown]
# ## Bayes' rule for estimates
#
# The code is drawn from the clean image, $z\sim q(z|x_0)$, so along the path it obeys $p(x_t|z)\propto p(x_t)\,q(z|x_t)$, where $q(z|x_t)$ is the law of the code given only the *noisy* image. Take the logarithm and the gradient with respect to $x_t$; the normaliser $q(z)$ drops out:
#
# $$\nabla\log p(x_t|z)=\nabla\log p(x_t)+\nabla\log q(z|x_t).$$ {#eq-bayes}
#
# By Tweedie's formula ([03_scores](03_scores.ipynb)) a score is an estimate: $\nabla\log p(x_t)=(b\,\hat x_0-x_t)/c^2$, with or without a condition. Multiply @eq-bayes by $c^2/b$:
#
# $$\mathbb E[x_0|x_t,z]=\mathbb E[x_0|x_t]+\frac{c_t^2}{b_t}\,G_t,\qquad G_t=\nabla_{x_t}\log q(z|x_t).$$ {#eq-guided}
#
# The first term does not know the code. The second is the **guidance**. In units of noise, $\hat\varepsilon=(x_t-b\,\hat x_0)/c$, it reads $\hat\varepsilon=\hat\varepsilon_{\mathrm{free}}-c_t\,G_t$.

# %%
#| exports
class Guided:
    """An unconditional `Denoiser` guided by a code: x0_hat = base + c^2/b grad log q(z | x_t).

    `log_q(x_t, t)` gives log q(z | x_t) of every image, (N,). Its gradient is taken in the precision of x_t; when
    gradients are enabled it can be differentiated again.
    """

    def __init__(self, base: Denoiser, log_q: Callable[[Tensor, Tensor], Tensor]):
        self.base, self.path, self.log_q = base, base.path, log_q

    def guidance(self, x_t: Tensor, t: Tensor) -> Tensor:
        "G_t = grad of log q(z | x_t) with respect to x_t: (N, C, H, W)."
        train = torch.is_grad_enabled()
        with torch.inference_mode(False), torch.enable_grad():
            x = x_t.detach().clone().requires_grad_()
            G = torch.autograd.grad(self.log_q(x, t).sum(), x, create_graph=train)[0]
        return G if train else G.detach()

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.base(x_t, t) + self.guidance(x_t, t) / bcast(self.path.tilt(t), x_t)

    def shift(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        "What guidance takes off the noise estimate at x_t = mix(x0, eps, t): c G_t."
        return bcast(self.path.coefs(t).c, x0) * self.guidance(self.path.mix(x0, eps, t), t)

    def residual(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        "eps_hat - eps at x_t = mix(x0, eps, t)."
        return self.base.residual(x0, eps, t) - self.shift(x0, eps, t)


# %% [markdown]
# Check in the Gaussian world, where everything is known. The encoder here is the exact $q(z|x_t)$, linear in $x_t$; `Guided` differentiates it automatically, and the result must be the closed-form guidance, the closed-form conditional estimate, and the residual of that estimate.

# %%
R = torch.linalg.qr(torch.randn(4, 4, generator=g, dtype=torch.float64))[0]
Sigma = R @ torch.diag(f64(3.0, 1.0, 0.3, 0.1)) @ R.T
A = torch.randn(2, 4, generator=g, dtype=torch.float64) / 2
world = GaussianWorld(f64(0.5, -1.0, 0.3, 0.0), Sigma, A, f64(0.3, -0.2), 0.2 * torch.eye(2))
x0, eps, z = world.draw(torch.randn(64, 10, generator=g, dtype=torch.float64))


class Exact:
    "The exact unconditional denoiser, with the interface of `Denoiser`."
    def __init__(self, path): self.path, self.D = path, denoiser(world.data, path)
    def __call__(self, x_t, t): return self.D(x_t, t)
    def residual(self, x0, eps, t): return residual(self.D, self.path, x0, eps, t)


for path in (VPCosine(), VPLinear(), VE()):
    def log_q(x_t, t, path=path):
        m, V, _ = world.code_given_noisy(path, x_t, t[0])
        return MultivariateNormal(m, V).log_prob(z)

    D = Guided(Exact(path), log_q)
    for t in (0.05 * path.T, 0.6 * path.T):
        t = torch.full((64,), t, dtype=torch.float64)
        x_t = path.mix(x0, eps, t)
        test_close(D.guidance(x_t, t), world.guidance(path, x_t, t[0], z), eps=1e-6)
        test_close(D(x_t, t), world.denoiser(path, z)(x_t, t), eps=1e-6)
        test_close(D.residual(x0, eps, t), residual(world.denoiser(path, z), path, x0, eps, t), eps=1e-6)

# %% [markdown]
# ## Two laws of the code, given a noisy image
#
# In @eq-guided, $q(z|x_t)$ is *implied* by the encoder at clean images, $q(z|x_t)=\int q_\phi(z|x_0)\,q(x_0|x_t)\,dx_0$: a mixture over all images that $x_t$ may have been. Nobody can evaluate it. SAMI puts a network in its place, and it is the encoder itself, applied to the noisy image:
#
# $$\log q_\phi(z|x_t)=-\tfrac12\sum_j\Big[\log2\pi+\log v_j(x_t)+\frac{(z_j-\mu_j(x_t))^2}{v_j(x_t)}\Big].$$ {#eq-logq}
#
# The determinant $\log v_j$ depends on $x_t$ and must be differentiated too. The encoder is *noise-blind*: it is not told the noise level, which it can see. (The encoder of ScoreVAE [@batzolis2023scorevae] is told, and its denoiser is trained beforehand. `time_conditioned=True` gives the first.)
#
# **What exactly is bounded?** The bound of [05_bounds](05_bounds.ipynb) holds for *any* function $\hat x_0(x_t,t,z)$, so for any guidance, even one that is not a gradient of a log-density. It bounds $\log p(x)$ of the model that draws $z$ from the prior and walks back from pure noise, in infinitely many stochastic steps of its own estimates. It is not the law of the deterministic sampler, nor of few steps. What a wrong guidance costs is one term of the gap ([07_gaps](07_gaps.ipynb)), the denoiser's: with an exact free denoiser it is $\tfrac12\int c^2\,\mathbb E\|G_\phi-G_t\|^2\,d\log\gamma$.
#
# In the Gaussian world, the clean encoder applied to noisy data is so overconfident that no guidance is better. (It cannot know the noise level: a point in $\mathbb R^4$ does not show it; an image does.) Both bounds are below the exact guidance's by just that integral.

# %%
path = VPCosine(-4.0)
apply = lambda x_t, z: (z - world.encode(x_t)) @ torch.linalg.solve(world.Psi, world.A)
guidances = {"implied": None, "none": lambda x_t, z: 0 * x_t, "clean encoder": apply}


def bound_of(guidance):
    def estimate(z, xT):
        return lambda x_t, t: denoiser(world.data, path)(x_t, t) + guidance(x_t, z) / bcast(path.tilt(t), x_t)

    used = estimate if guidance else lambda z, xT: world.denoiser(path, z)
    return -sum(expected_bound(world, used, path, math.exp(-4), math.exp(8), "prior").values())


def lost(guidance):
    def wrong(w, t):
        x0, eps, z = world.draw(w)
        x_t = path.mix(x0, eps, t)
        return path.coefs(t).c * (guidance(x_t, z) - world.guidance(path, x_t, t, z))

    return quadrature(lambda u: expected_sqnorm(lambda w: wrong(w, path.t_of_gamma(u.exp())), 10) / 2, -4, 8)


found = {name: bound_of(G) for name, G in guidances.items()}
for name in ("none", "clean encoder"):
    test_close(found["implied"] - found[name], lost(guidances[name]).item(), eps=1e-5)
assert max(found.values()) < -0.5 * torch.logdet(2 * math.pi * math.e * Sigma)
{name: f"{v:.2f} nats" for name, v in found.items()}

# %% [markdown]
# ## The loss
#
# Insert @eq-guided into the bound, with $p(z)=\mathcal N(0,I)$. What depends on the networks is the integral and the rate:
#
# $$\mathcal L_\beta=\mathbb E_{x_0,\,z\sim q_\phi(z|x_0),\,t,\,\varepsilon}\Big[\tfrac w2\big\|\varepsilon-\big(\varepsilon_\theta(x_t,t)-c_t\nabla_{x_t}\log q_\phi(z|x_t)\big)\big\|^2\Big]+\beta\,\mathrm{KL}\big(q_\phi(z|x_0)\,\|\,\mathcal N(0,I)\big).$$ {#eq-loss}
#
# With `weighting="elbo"` and $\beta=1$ this is the negative bound. But the bound does not care how informative the code is ([07_gaps](07_gaps.ipynb)): $\beta>1$ empties the code and $\beta<1$ fills it. The paper trains with the plain squared error (`weighting="simple"`, $w=2$) and a small $\beta$.
#
# How small is small? One more nat in the code at noise level $u=\log\gamma$ saves one nat of the integrand there, which the loss counts with the weight $p(u)\,w$, where $p(u)$ is the density of noise levels. So the exchange rate is
#
# $$\beta_{\mathrm{eff}}(u)=\frac{\beta}{p(u)\,w},\qquad\text{cosine path, simple: }\ p(u)=\tfrac1{2\pi}\operatorname{sech}\tfrac u2,\quad\beta_{\mathrm{eff}}(u)=\pi\beta\cosh\tfrac u2 .$$ {#eq-beta}
#
# Structure at level $u$ is worth coding as long as $\beta_{\mathrm{eff}}(u)<1$. ($p$ is the derivative of $t=\tfrac2\pi\arctan e^{-u/2}$, the cosine path's time.) A *mean* over pixels in place of the sum multiplies $\beta$ by $d$.

# %%
long = VPCosine(-20.0)
u = torch.linspace(-6, 12, 50, dtype=torch.float64)
density = -(long.t_of_gamma((u + 1e-4).exp()) - long.t_of_gamma((u - 1e-4).exp())) / 2e-4
test_close(density, 1 / (2 * math.pi * torch.cosh(u / 2)), eps=1e-5)
finest = lambda beta: 2 * math.acosh(1 / (math.pi * beta))
test_close(math.pi * 1e-3 * math.cosh(finest(1e-3) / 2), 1, eps=1e-9)
{"sum over pixels": f"up to log gamma = {finest(1e-3):.1f}", "mean over 64": f"up to log gamma = {finest(64e-3):.1f}"}


# %% [markdown]
# ## What the guidance is free to be
#
# In the `joint` regime both networks minimise @eq-loss, a fraction $p$ = `p_uncond` of the images without guidance. At a fixed $x_t$ the denoiser's output $\varepsilon_\theta$ then minimises a sum of squares, $(1-p)\,\mathbb E\|\varepsilon-\varepsilon_\theta+c\,G_\phi\|^2+p\,\mathbb E\|\varepsilon-\varepsilon_\theta\|^2$ over $q(\varepsilon,z|x_t)$, whose minimum is the mean of its targets:
#
# $$\varepsilon_\theta^*=(1-p)\,\mathbb E[\varepsilon+c\,G_\phi|x_t]+p\,\mathbb E[\varepsilon|x_t]=\mathbb E[\varepsilon|x_t]+(1-p)\,c\;\mathbb E[G_\phi|x_t].$$ {#eq-free}
#
# So the "unconditional" denoiser is biased by $(1-p)$ times the mean guidance: it absorbs what the guidance gets wrong *and does not depend on* $z$. What stays in the loss is $p(1-p)\,\|c\,\mathbb E[G_\phi|x_t]\|^2$, nothing for $p=0$. Exact guidance has mean zero, $\int q(z|x_t)\nabla\log q(z|x_t)\,dz=\nabla1=0$, and leaves no bias. In the `pinned` regime the denoiser learns only its own score, and the guidance has to be right by itself.
#
# This decides about **rotations of the code**. For Gaussian data and a linear encoder, $G_t=M^\top V^{-1}(z-m)$ with $m,V$ the mean and covariance of $z$ given $x_t$ and $M=\partial m/\partial x_t$. A diagonal encoder $\mathcal N(Wx_t+o,D)$ gives $W^\top D^{-1}(z-Wx_t-o)$.
#
# * *Joint*, $p=0$: only the coefficient of $z$ must match. $W=DV^{-1}M$ does it, for any diagonal $D$ and **any rotation of the code**: nothing favours separate axes.
# * *Pinned*: all of it must match, so $W=M$ and $D=V$; but $V$ is diagonal at all noise levels only if no two axes share a principal component (those of equal variance may rotate).
#
# Below: two components of variances $\ell$, codes with $q(z)=\mathcal N(0,I)$ and posterior variance 0.2, rotated by an angle; the best $W,D$ at every noise level, by numerical minimisation. What the pinned guidance loses is the pressure towards separate axes. It comes from the *difference in scale* of the components.

# %%
def rotation_gap(variances, angles, n=40, span=10.0, s=0.2):
    "Nats lost by the best diagonal guidance, integrated over log gamma, for codes rotated by each of the angles."
    S, u = torch.diag(f64(*variances)), (torch.arange(n) + 0.5).double() * (2 * span / n) - span
    turn = torch.stack([angles.cos(), angles.sin(), -angles.sin(), angles.cos()], 1).reshape(-1, 1, 2, 2)
    A, C = turn @ torch.diag(((1 - s) / f64(*variances)).sqrt()), S + torch.diag_embed((-u).exp()[:, None].expand(n, 2))
    M = A @ S @ torch.linalg.inv(C)  # of y = x_0 + gamma^-1/2 eps, whose covariance is C
    V = s * torch.eye(2) + A @ (S - S @ torch.linalg.inv(C) @ S) @ A.mT
    exact, D = M.mT @ torch.linalg.inv(V), torch.diag(f64(0.3, 2.0))
    test_close((D @ torch.linalg.solve(V, M)).mT @ torch.linalg.inv(D), exact, eps=1e-9)  # joint: any D will do

    K = torch.eye(2).double().repeat(*M.shape[:2], 1, 1).requires_grad_()  # W = K M
    logD = V.diagonal(dim1=-2, dim2=-1).log().clone().requires_grad_()

    def gap():  # G - G_phi = of_z (z - M y) + of_y y
        P = (K @ M).mT * (-logD).exp()[..., None, :]
        of_z, of_y = exact - P, P @ (M - K @ M)
        energy = (of_z @ V @ of_z.mT + of_y @ C @ of_y.mT).diagonal(dim1=-2, dim2=-1).sum(-1)
        return ((-u).exp() * energy / 2).sum(1) * (2 * span / n)

    def closure():
        opt.zero_grad()
        gap().sum().backward()
        return gap().sum()

    opt = torch.optim.LBFGS([K, logD], max_iter=200, history_size=20, line_search_fn="strong_wolfe")
    opt.step(closure)
    return gap().detach()


angles = torch.linspace(0, math.pi / 2, 13, dtype=torch.float64)
fig, ax = plt.subplots()
for variances, style in [((3.0, 0.1), "o-"), ((3.0, 1.0), "s--"), ((1.0, 1.0), "^-.")]:
    nats = rotation_gap(variances, angles)
    assert nats[[0, -1]].max() < 1e-4 and (nats[6] > 0.01) == (variances[0] != variances[1])
    ax.plot(angles.rad2deg(), nats, style, label=f"pinned, variances {variances[0]:g} and {variances[1]:g}")
ax.axhline(0, color="k", lw=1, label="joint, $p=0$, any variances")
ax.set(xlabel="rotation of the code (degrees)", ylabel="loss (nats)", title="Only a pinned denoiser minds a rotation")
ax.set_ylim(-0.002, 0.05)
ax.legend(ncols=2);

# %% [markdown]
# And @eq-free, with the clean encoder as a wrong guidance. The best *linear* free denoiser solves a regression, whose moments are exact here, and it must be $\mathbb E[\varepsilon|x_t]$ plus $(1-p)\,c$ times the mean guidance.

# %%
t, p, w = path.t_of_gamma(1.0), 0.3, torch.eye(10, dtype=torch.float64)
x0, eps, z = (v - v0 for v, v0 in zip(world.draw(w), world.draw(0 * w), strict=True))  # rows: responses to each source
centred = GaussianWorld(0 * world.mu, Sigma, A, 0 * world.offset, world.Psi)
x_t, c = path.mix(x0, eps, t), path.coefs(t).c
linear = lambda x_t, z: (z - centred.encode(x_t)) @ torch.linalg.solve(world.Psi, world.A)
regress = lambda y: torch.linalg.solve(x_t.T @ x_t, x_t.T @ y)  # of targets on x_t
guided = eps + c * linear(x_t, z)
best = regress((1 - p) * guided + p * eps)
point = torch.randn(5, 4, generator=g, dtype=torch.float64)
m = centred.code_given_noisy(path, point, t)[0]
free = (point - path.coefs(t).b * denoiser(centred.data, path)(point, t)) / c
test_close(point @ best, free + (1 - p) * c * linear(point, m), eps=1e-9)
assert (c * linear(point, m)).abs().max() > 0.5

cost = lambda y, B: (y - x_t @ B).square().sum()
apart = (1 - p) * cost(guided, regress(guided)) + p * cost(eps, regress(eps))  # two denoisers, one for each target
mean_guidance = x_t @ regress(c * linear(x_t, z))
stays = (1 - p) * cost(guided, best) + p * cost(eps, best) - apart
test_close(stays, p * (1 - p) * mean_guidance.square().sum(), eps=1e-9)

# %% [markdown]
# ## The model
#
# The default path is VP-cosine and ends at $\log\gamma=-\log5d$ for images of $d$ values: the mismatch with $\mathcal N(0,I)$ then costs about a tenth of a nat (`start_kl`), and nothing is spent on learning guidance from noise in which no image is left.

# %%
#| exports
REGIMES = ("joint", "pinned")


class SAMI(Autoencoder):
    """Score-based Autoencoder for Multiscale Inference (Lyo, Simoncelli, Savin 2025): an encoder guides a free score.

    `regime` "joint" (both networks on the guided loss, a fraction `p_uncond` of it unguided) or "pinned" (the denoiser
    learns its own score only). `kl_weight` is beta against the pixel-summed error. Images (C, H, W) of `shape`,
    codes of `z_dim` axes with standard deviations above `std_floor`; `time_conditioned` tells the encoder log gamma.
    """

    def __init__(self, shape: Sequence[int], z_dim: int, *, width: int = 32, encoder_width: int | None = None,
                 path: Path | None = None, regime: str = "joint", p_uncond: float = 0.1, kl_weight: float = 1e-3,
                 weighting: str = "simple", time_conditioned: bool = False, std_floor: float = 5e-2,
                 gamma_max: float | None = None):  # fmt: skip
        path = VPCosine(-math.log(5 * math.prod(check_shape(shape)))) if path is None else path
        super().__init__(shape, z_dim, path, weighting=weighting, kl_weight=kl_weight, gamma_max=gamma_max)
        require(not isinstance(path, Pinned), "path", path, "an unpinned path")
        require_choice(regime, "regime", REGIMES)
        require_choice(time_conditioned, "time_conditioned", (False, True))
        self.regime, self.p_uncond = regime, require_number(p_uncond, "p_uncond", 0, 1)
        self.std_floor = require_number(std_floor, "std_floor", 0, above=True)
        self.time_conditioned = time_conditioned
        width, small = check_widths(width, encoder_width)
        self.net = UNet(self.shape, width)
        self.encoder_net = HalfUNet(self.shape, 2 * z_dim, small, levels=time_conditioned)

    def codes(self, x: Tensor, level: Tensor | None = None) -> tuple[Tensor, Tensor]:
        "Mean and standard deviation (N, z_dim) of q(z | x) for clean or, with `level` = log gamma (N,), noisy images."
        level = x.new_full((len(x),), self.span[1]) if level is None else level
        mean, raw = self.encoder_net(x, level if self.time_conditioned else None).chunk(2, 1)
        return mean, softplus(raw) + self.std_floor

    def denoiser(self, z: Tensor, xT: None = None) -> Guided:
        require(z.ndim == 2 and z.shape[1] == self.z_dim, "z", z, f"codes (N, {self.z_dim})")

        def log_q(x_t, t):
            require(len(x_t) == len(z), "x_t", x_t, f"{len(z)} noisy images, one for each code")
            mean, std = self.codes(x_t, self.path.gamma(t).log().clamp(*self.span).expand(len(x_t)).to(x_t))
            return torch.distributions.Normal(mean, std, validate_args=False).log_prob(z).sum(1)

        return Guided(Denoiser(self.path, self.net, "edm", self.stats, span=self.span), log_q)

    def squared_error(self, D: Guided, x: Tensor, eps: Tensor, t: Tensor, xT: None, g: torch.Generator) -> Tensor:
        "||eps - eps_hat||^2, (N,); in the pinned regime the free error and the guided one, each for its own network."
        free, shift = D.base.residual(x, eps, t), D.shift(x, eps, t)
        if self.regime == "pinned": return sqnorm(free) + sqnorm(free.detach() - shift)
        guided = torch.rand(len(x), generator=g, device=x.device) >= self.p_uncond
        return sqnorm(free - bcast(guided.to(x), x) * shift)


# %% [markdown]
# **Who learns from what**: in the pinned regime the denoiser's gradient must be that of its own score matching alone, whatever the encoder does; in the joint regime it is not.

# %%
images = torch.tensor(load_digits().images / 8 - 1, dtype=torch.float32)[:, None]
torch.manual_seed(0)


def net_gradient(model, scale):
    "The denoiser's gradient for one batch and noise, with the encoder's weights scaled."
    saved = [p.detach().clone() for p in model.encoder_net.parameters()]
    for p in model.encoder_net.parameters(): p.data.mul_(scale)
    model.zero_grad()
    eps, t = torch.randn(16, 1, 8, 8, generator=rng(1)), torch.linspace(0.1, 0.9, 16).double()
    model.squared_error(model.denoiser(torch.ones(16, 4)), images[:16], eps, t, None, rng(2)).sum().backward()
    for p, q in zip(model.encoder_net.parameters(), saved, strict=True): p.data.copy_(q)
    return model.net.head[2].weight.grad.clone()


for regime, same in [("pinned", True), ("joint", False)]:
    model = SAMI((1, 8, 8), 4, width=8, regime=regime)
    assert torch.equal(net_gradient(model, 1.0), net_gradient(model, 2.0)) is same
with expect_fail(ValueError, contains="z: expected codes (N, 4)"): model.denoiser(torch.ones(16, 3))
with expect_fail(ValueError, contains="x_t: expected 2 noisy images"): model.denoiser(torch.ones(2, 4))(images[:3], t)

# %% [markdown]
# **The loss is the bound's.** With the same draws, the loss must be the bound's integrand plus the rate, both computed by hand from the pieces: noisy images, the two networks through @eq-guided and @eq-logq, $\tfrac12(u_{\max}-u_{\min})\,\gamma\,\|x_0-\hat x_0\|^2$, and the library's divergence.

# %%
model = SAMI((1, 8, 8), 4, width=8, kl_weight=1.0, weighting="elbo", p_uncond=0.0).double().eval()
for p in model.parameters(): torch.nn.init.normal_(p, std=0.1, generator=g)
x = images[:32].double()
loss, parts = model.loss(x, rng(7))

draws = rng(7)  # the same noise and levels, in the order of the loss
q = Normal(*model.codes(x))
z = q.mean + q.stddev * randn_like(q.mean, draws)
t, _ = model.draw_times(32, draws)
eps = randn_like(x, draws)
x_t = model.path.mix(x, eps, t).requires_grad_()
G = torch.autograd.grad(Normal(*model.codes(x_t)).log_prob(z).sum(), x_t)[0]
_, b, c = model.path.coefs(t)
estimate = model.denoiser(z).base(x_t, t) + bcast(c**2 / b, x) * G
denoising = (model.path.gamma(t) * sqnorm(x - estimate)).mean() / 2 * math.log(model.gamma_max / model.gamma_min)
rate = kl_divergence(Independent(q, 1), Independent(Normal(torch.zeros(4), torch.ones(4)), 1)).mean()
test_close((loss / (denoising + rate)).item(), 1, eps=1e-5)
f"{loss:.3f} nats = denoising {denoising:.3f} + rate {rate:.3f}"

# %% [markdown]
# ## On digits, briefly
#
# A hundred and fifty steps on 8×8 digits, enough to see guidance at work. Each step draws noise levels stratified over the batch, and differentiates through the guidance; gradients are clipped, because guidance scales with $1/v$ and can spike.

# %%
#| hide
torch.manual_seed(0);

# %%
model = SAMI((1, 8, 8), z_dim=8, width=8, encoder_width=12)
opt = torch.optim.AdamW(model.parameters(), lr=4e-3, fused=True)
train, history = images[:1400], []
for _ in range(150):
    batch = train[torch.randint(len(train), (64,), generator=g)]
    loss, parts = model.loss(batch, g)
    opt.zero_grad()
    (loss / 64).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
    history.append((parts["denoising"].item(), parts["rate"].item()))
first, last = (torch.tensor(h).mean(0) for h in (history[:20], history[-20:]))
assert last[0] < 0.7 * first[0]
{k: f"{a:.2f}, then {b:.2f}" for k, a, b in zip(("denoising", "rate (nats)"), first, last, strict=True)}

# %% [markdown]
# What the code contributes: the same noise denoised without and with guidance, at $\log\gamma\approx-1.5$, where the image can hardly be seen. Guided by *another* image's code, the estimate turns towards that image.

# %%
test = images[1500:1700]
t = torch.full((200,), 0.75, dtype=torch.float64)
x_t = model.path.mix(test, torch.randn(test.shape, generator=g), t)
model.eval()
with torch.no_grad():
    own, other = model.denoiser(model.encode(test)), model.denoiser(model.encode(test.roll(1, 0)))
    rows = {"image": test, "noisy": x_t, "free": own.base(x_t, t), "guided": own(x_t, t), "by neighbour": other(x_t, t)}
error = {k: sqnorm(v - test).mean().item() / 256 for k, v in rows.items() if k not in ("image", "noisy")}
assert error["guided"] < error["free"] < error["by neighbour"]
assert sqnorm(rows["by neighbour"] - test.roll(1, 0)).mean() < sqnorm(rows["by neighbour"] - test).mean()
fig, axes = plt.subplots(len(rows), 8, figsize=(6, 4))
for row, (name, pictures) in zip(axes, rows.items(), strict=True):
    for ax, picture in zip(row, pictures[:8], strict=True):
        ax.imshow(picture[0], vmin=-1, vmax=1)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    row[0].set_ylabel(name, rotation=0, ha="right", va="center")
fig.suptitle(rf"Guidance at $\log\gamma\approx{model.path.gamma(t[0]).log():.1f}$", fontsize=11)
{k: f"mean squared error {v:.4f} on [0, 1]" for k, v in error.items()}

# %% [markdown]
# ## Differences from the paper
#
# | | Lyo, Simoncelli & Savin, as described | here |
# |---|---|---|
# | noise | 1000 discrete steps, cosine | continuous cosine path, ended at $-\log5d$ |
# | weights of the bound | derived, dropped in training | the same (`simple`), or kept (`elbo`) |
# | $\beta$ | raised in the course of training | constant |
# | denoiser, trained jointly | not known to us whether pinned | `p_uncond`, or `regime="pinned"` |
# | denoiser, pre-trained | frozen; high noise levels oversampled | freeze `net` before training |
# | network's output | the noise | preconditioned ([03_scores](03_scores.ipynb)) |
# | samples | $z\sim\mathcal N(0,I)$, ancestral | $z$ from the fitted prior ([12_priors](12_priors.ipynb)), any sampler |
#
# ## What can go wrong
#
# * **A rate weight in the wrong units.** $\beta$ is against the *sum* over pixels.
# * **Leaving out $\log v$** in @eq-logq: the guidance is then not the gradient of a log-density, and the estimate is biased wherever the encoder's confidence changes.
# * **Expecting separate axes from joint training** with a free denoiser. See the rotations above.
# * **`torch.no_grad` around sampling** would kill the guidance; it is switched on again inside. A variance near zero makes it explode, hence the floor.
# * **VE paths.** A noise-blind encoder cannot take inputs whose scale runs to 80. Use VP; telling it the level does not change its input's scale.
