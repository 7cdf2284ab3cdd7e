# %% [markdown]
# # SAMI
#
# > The encoder guides an unconditional score; there is no decoder. From Bayes' rule to the loss, its units, and three ways to train it.

# %% [markdown]
# Does an autoencoder need a decoder? SAMI [@lyo2025sami] says no: an unconditional denoiser and an encoder are enough, and a denoiser may be trained already. Decoding is *denoising guided by the encoder*: at each noise level it looks at the noisy image and says in which direction that should change for the code to become more likely. This page derives the estimate and its loss, says what is bounded and what the rate's weight means in nats, and trains a small model. [Why SAMI disentangles](../sami_claims/61_why_sami_disentangles.ipynb), [Guidance in use](../use/43_guidance.ipynb) and [A frozen denoiser](../sami_claims/66_frozen_denoiser.ipynb) go on.
#
# Statements about the method follow the paper's abstract, public reviews and summaries; the derivations are ours.

# %%
#| default_exp models.sami

# %%
#| exports
import math
from collections.abc import Callable, Sequence

import torch
from fastcore.basics import patch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import softplus

from scoreae.core.checks import bcast, check_shape, require, require_choice, require_number, rng, sqnorm
from scoreae.foundations.bounds import noise_levels
from scoreae.foundations.gaussians import LinearCode
from scoreae.foundations.paths import Path, Pinned, VPCosine, as_time
from scoreae.foundations.samplers import MODES
from scoreae.foundations.scores import Denoiser, scalings
from scoreae.models.contract import Autoencoder
from scoreae.models.networks import HalfUNet, UNet, check_widths
from scoreae.models.pretrained import Discrete, Given, as_given

# %%
#| hide
import matplotlib.pyplot as plt
from fastcore.test import expect_fail, test_close
from sklearn.datasets import load_digits
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from scoreae.core.checks import randn_like
from scoreae.core.pages import Table, paper
from scoreae.foundations.gaps import expected_bound, quadrature
from scoreae.foundations.paths import VE, VPLinear
from scoreae.foundations.scores import residual
from scoreae.foundations.worlds import GaussianWorld, denoiser, expected_sqnorm

# %%
#| hide
paper()
f64 = lambda *v: torch.tensor(v, dtype=torch.float64)
g = torch.Generator().manual_seed(0)


# %% [markdown]
# ## Bayes' rule for estimates
#
# The code is drawn from the clean image, $z\sim q(z|x_0)$, so along the path it obeys $p(x_t|z)\propto p(x_t)\,q(z|x_t)$, where $q(z|x_t)$ is the law of the code given only the *noisy* image. Take the logarithm and the gradient with respect to $x_t$; the normaliser $q(z)$ drops out:
#
# $$\nabla\log p(x_t|z)=\nabla\log p(x_t)+\nabla\log q(z|x_t).$$ {#eq-bayes}
#
# By Tweedie's formula ([Scores](../foundations/04_scores.ipynb)) a score is an estimate: $\nabla\log p(x_t)=(b\,\hat x_0-x_t)/c^2$, with or without a condition. Multiply @eq-bayes by $c^2/b$:
#
# $$\mathbb E[x_0|x_t,z]=\mathbb E[x_0|x_t]+\frac{c_t^2}{b_t}\,G_t,\qquad G_t=\nabla_{x_t}\log q(z|x_t).$$ {#eq-guided}
#
# The second term is the **guidance**. In units of noise, $\hat\varepsilon=(x_t-b\,\hat x_0)/c$, it reads $\hat\varepsilon=\hat\varepsilon_{\mathrm{free}}-c_t\,G_t$.

# %%
#| exports
class Guided:
    """An unconditional `Denoiser` guided by a code: x0_hat = base + c^2/b grad log q(z | x_t).

    `log_q(x_t, t)` gives log q(z | x_t) of every image, (N,). Its gradient is taken in the precision of x_t, also
    under autocast; when gradients are enabled it can be differentiated again (attention by its plain formula).
    """

    def __init__(self, base: Denoiser | Given, log_q: Callable[[Tensor, Tensor], Tensor]):
        self.base, self.path, self.log_q = base, base.path, log_q

    def guidance(self, x_t: Tensor, t: Tensor) -> Tensor:
        "G_t = grad of log q(z | x_t) with respect to x_t: (N, C, H, W)."
        train = torch.is_grad_enabled()
        plain = torch.autocast(x_t.device.type, enabled=False), sdpa_kernel(SDPBackend.MATH)
        with torch.inference_mode(False), torch.enable_grad(), plain[0], plain[1]:
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
# Check in the Gaussian world. The encoder is the exact $q(z|x_t)$, linear in $x_t$; `Guided` differentiates it, and the result must be the closed-form guidance, conditional estimate, and residual.

# %%
R = torch.linalg.qr(torch.randn(4, 4, generator=g, dtype=torch.float64))[0]
Sigma = R @ torch.diag(f64(3.0, 1.0, 0.3, 0.1)) @ R.T
A = torch.randn(2, 4, generator=g, dtype=torch.float64) / 2
centre, offset, noise = f64(0.5, -1.0, 0.3, 0.0), f64(0.3, -0.2), 0.2 * torch.eye(2)
world = GaussianWorld(centre, Sigma, A, offset, noise)
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

    D, known = Guided(Exact(path), log_q), world.denoiser(path, z)
    for t in (0.05 * path.T, 0.6 * path.T):
        t = torch.full((64,), t, dtype=torch.float64)
        x_t = path.mix(x0, eps, t)
        test_close(D.guidance(x_t, t), world.guidance(path, x_t, t[0], z), eps=1e-6)
        test_close(D(x_t, t), known(x_t, t), eps=1e-6)
        r = residual(known, path, x0, eps, t)
        test_close(D.residual(x0, eps, t), r, eps=1e-6)

# %% [markdown]
# ## Two laws of the code, given a noisy image
#
# In @eq-guided, $q(z|x_t)$ is *implied* by the encoder at clean images, $q(z|x_t)=\int q_\phi(z|x_0)\,q(x_0|x_t)\,dx_0$: a mixture over all images that $x_t$ may have been. Nobody can evaluate it. SAMI puts a network in its place, and it is the encoder itself, applied to the noisy image:
#
# $$\log q_\phi(z|x_t)=-\tfrac12\sum_j\Big[\log2\pi+\log v_j(x_t)+\frac{(z_j-\mu_j(x_t))^2}{v_j(x_t)}\Big].$$ {#eq-logq}
#
# The determinant $\log v_j$ depends on $x_t$ and must be differentiated too. The encoder is *noise-blind*: it is not told the noise level, which it can see. (ScoreVAE's [@batzolis2023scorevae] is told: `time_conditioned=True`.)
#
# **What exactly is bounded?** The bound of [Bounds](../foundations/06_bounds.ipynb) holds for *any* function $\hat x_0(x_t,t,z)$, so for any guidance, gradient of a log-density or not. It bounds $\log p(x)$ of the model that draws $z$ from the prior and walks back from pure noise, in infinitely many stochastic steps (not in few, or deterministic ones). What a wrong guidance costs is one term of the gap ([Gaps](../foundations/07_gaps.ipynb)), the denoiser's: with an exact free denoiser it is $\tfrac12\int c^2\,\mathbb E\|G_\phi-G_t\|^2\,d\log\gamma$.
#
# In the Gaussian world, the clean encoder applied to noisy data is so overconfident that no guidance is better. (A point in $\mathbb R^4$ does not show the noise level; an image does.) Both bounds are below the exact guidance's by just that integral.

# %%
path = VPCosine(-4.0)
apply = lambda x_t, z: (z - world.encode(x_t)) @ torch.linalg.solve(world.Psi, world.A)
guidances = {"implied": None, "none": lambda x_t, z: 0 * x_t, "clean encoder": apply}


def bound_of(guidance):
    "The mean bound with that guidance, or with the exact one."
    def guided(z, xT):
        free, G = denoiser(world.data, path), lambda x_t: guidance(x_t, z)
        return lambda x_t, t: free(x_t, t) + G(x_t) / bcast(path.tilt(t), x_t)

    used = guided if guidance else lambda z, xT: world.denoiser(path, z)
    ends = math.exp(-4), math.exp(8), "prior"
    return -sum(expected_bound(world, used, path, *ends).values())


def lost(guidance):
    "The integral of what the guidance does wrong."
    def wrong(w, t):
        x0, eps, z = world.draw(w)
        x_t = path.mix(x0, eps, t)
        return path.coefs(t).c * (guidance(x_t, z) - world.guidance(path, x_t, t, z))

    at = lambda u: lambda w: wrong(w, path.t_of_gamma(u.exp()))
    return quadrature(lambda u: expected_sqnorm(at(u), 10) / 2, -4, 8)


found = {name: bound_of(G) for name, G in guidances.items()}
for name in ("none", "clean encoder"):
    test_close(found["implied"] - found[name], lost(guidances[name]).item(), eps=1e-5)
assert max(found.values()) < -0.5 * torch.logdet(2 * math.pi * math.e * Sigma)
Table({k: f"{v:.2f}" for k, v in found.items()}, "guidance", "mean bound (nats)")

# %% [markdown]
# ## The loss
#
# Insert @eq-guided into the bound, with $p(z)=\mathcal N(0,I)$; the networks are in the integral and the rate:
#
# $$\begin{aligned}\mathcal L_\beta=\mathbb E_{x_0,\,z\sim q_\phi(z|x_0),\,t,\,\varepsilon}\Big[&\tfrac w2\big\|\varepsilon-\big(\varepsilon_\theta(x_t,t)-c_t\nabla_{x_t}\log q_\phi(z|x_t)\big)\big\|^2\\&+\beta\,\mathrm{KL}\big(q_\phi(z|x_0)\,\|\,\mathcal N(0,I)\big)\Big].\end{aligned}$$ {#eq-loss}
#
# With `weighting="elbo"` and $\beta=1$ this is the negative bound. But the bound does not care how informative the code is ([Gaps](../foundations/07_gaps.ipynb)): $\beta>1$ empties the code and $\beta<1$ fills it. The paper trains with the plain squared error (`weighting="simple"`, $w=2$) and a small $\beta$.
#
# How small is small? One more nat in the code at noise level $u=\log\gamma$ saves one nat of the integrand there, which the loss counts with the weight $p(u)\,w$, where $p(u)$ is the density of noise levels. So the exchange rate is
#
# $$\beta_{\mathrm{eff}}(u)=\frac{\beta}{p(u)\,w},\qquad\text{cosine path, simple: }\ p(u)=\tfrac1{2\pi}\operatorname{sech}\tfrac u2,\quad\beta_{\mathrm{eff}}(u)=\pi\beta\cosh\tfrac u2 .$$ {#eq-beta}
#
# Roughly, structure at level $u$ is worth coding while $\beta_{\mathrm{eff}}(u)<1$. ($p$ is the derivative of $t=\tfrac2\pi\arctan e^{-u/2}$, the cosine path's time.) A *mean* over pixels in place of the sum multiplies $\beta$ by $d$.

# %%
long = VPCosine(-20.0)
u = torch.linspace(-6, 12, 50, dtype=torch.float64)
time = lambda u: long.t_of_gamma(u.exp())
density = (time(u - 1e-4) - time(u + 1e-4)) / 2e-4
test_close(density, 1 / (2 * math.pi * torch.cosh(u / 2)), eps=1e-5)
finest = lambda beta: 2 * math.acosh(1 / (math.pi * beta))
test_close(math.pi * 1e-3 * math.cosh(finest(1e-3) / 2), 1, eps=1e-9)
betas = {"sum over pixels": 1e-3, "mean over 64 pixels": 64e-3}
found = {k: f"{finest(beta):.1f}" for k, beta in betas.items()}
Table(found, "squared error, β = 0.001", "coded up to log γ")

# %% [markdown]
# ## Annealing and noise levels
#
# The weight $\beta$ may *rise*, from $\beta/200$ over the first half of the training: then the code is filled before it has to be economical. Noise levels are drawn `"uniform"`ly in time, in one `"stratified"` set per batch (the default), or biased to `"high"` noise, with a density proportional to $t$.

# %%
#| exports
ANNEALS = ("constant", "linear", "cosine", "loglinear")


def annealed(weight: float, how: str, progress: float) -> float:
    "`weight` at a share `progress` in [0, 1] of the training: from weight / 200 to `weight` over the first half."
    require_choice(how, "anneal", ANNEALS)
    done = min(1.0, 2 * progress)
    if how == "loglinear": return weight * 200 ** (done - 1)
    share = {"constant": 1.0, "linear": done, "cosine": (1 - math.cos(math.pi * done)) / 2}[how]
    return weight * (1 + 199 * share) / 200


# %%
#| label: fig-anneal
#| fig-cap: 'The weight of the rate in the course of a training, for $\beta=10^{-3}$: three of the four ways begin at $\beta/200$ and reach $\beta$ after half of it.'
#| fig-alt: 'Weight beta on a logarithmic axis against the share of the training. Constant is a flat line at 0.001. Linear, cosine and loglinear rise from 0.000005 to 0.001 at one half and stay there; loglinear is a straight line, the other two rise early.'
fig, ax = plt.subplots(figsize=(6, 2.4))
done = [i / 100 for i in range(101)]
for how, style in zip(ANNEALS, ["-", "--", "-.", ":"], strict=True):
    ax.plot(done, [annealed(1e-3, how, v) for v in done], style, label=how)
    test_close(annealed(1e-3, how, 1.0), 1e-3)
quarter = [annealed(1e-3, how, 0.25) for how in ANNEALS]
test_close(quarter, [1e-3, 5.025e-4, 5.025e-4, 1e-3 / 200**0.5], eps=1e-9)
ax.set(xlabel="share of the training", ylabel=r"weight $\beta$ of the rate",
       yscale="log")
ax.legend(ncols=2);


# %% [markdown]
# ## A walk without noise
#
# The walk to a point ([Samplers](../foundations/08_samplers.ipynb)) begins at zero and adds no noise. A noise-blind encoder takes its $x_t$ for a clean image of low contrast, and guides as if all were known ([Beginnings](../sami_claims/60_beginnings.ipynb)). So the guided estimate is taken at $x_t+c\,\varepsilon$ and $x_t-c\,\varepsilon$, images as it knows them, and averaged (over four $\varepsilon$ at the start). If it is affine in $x_t$, the noise cancels.

# %%
#| exports
class Shown:
    "An estimate for walks without noise: the mean of `D` at x_t + c eps and x_t - c eps; one eps a time, four at T."

    def __init__(self, D: Guided): self.D, self.path = D, D.path

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        at = float(as_time(t).flatten()[0]) / self.path.T
        eps = torch.randn(4 if at == 1 else 1, *x_t.shape[1:], generator=rng(round(1e6 * at))).to(x_t)
        c = bcast(self.path.coefs(t).c, x_t)
        return sum(self.D(x_t + c * e, t) for e in torch.cat([eps, -eps])) / (2 * len(eps))


# %%
t = torch.full((64,), 0.5, dtype=torch.float64)
path = VPCosine()
law = lambda x_t, t: MultivariateNormal(*world.code_given_noisy(path, x_t, t[0])[:2])
linear = Guided(Exact(path), lambda x_t, t: law(x_t, t).log_prob(z))
for at in (0.5, 1.0):
    test_close(Shown(linear)(x0, at * t / t), linear(x0, at * t / t), eps=1e-8)
test_close(Shown(linear)(x0, t), Shown(linear)(x0, t), eps=1e-15)

# %% [markdown]
# ## The model
#
# The default path is VP-cosine and ends at $\log\gamma=-\log5d$ for images of $d$ values: the mismatch with $\mathcal N(0,I)$ then costs about a tenth of a nat (`start_kl`), and nothing is spent on learning guidance from noise in which no image is left.
#
# Three **regimes**:
#
# * `joint`: both networks minimise @eq-loss, a fraction `p_uncond` of the images without guidance;
# * `pinned`: the denoiser learns its own unguided score only, the encoder through the guidance;
# * `frozen`: a given denoiser never changes; only the encoder learns.
#
# The denoiser is a U-Net of this library, or any that is given ([Denoisers from elsewhere](11_pretrained.ipynb)), and so is the encoder. A given denoiser brings its path; on a table of noise levels, training stops at the table's cleanest entry.
#
# The library's own networks, told the level or not, *begin as the Gaussian* ([Gaussian images](../foundations/09_gaussians.ipynb)): its best free estimate, and the linear code $\mu_{\mathrm{lin}},\sigma_{\mathrm{lin}}$ at the level that the encoder is told or, noise-blind, reads from the picture. The encoder's outputs $m,r$, zero at first, fade with the Wiener factor $w_1$ of the first component, and $f$ is the floor:
#
# $$\mu=\mu_{\mathrm{lin}}+w_1m,\qquad\sigma=f+\operatorname{softplus}\big(\operatorname{softplus}^{-1}(\sigma_{\mathrm{lin}}-f)+w_1r\big).$$ {#eq-corrected}
#
# (What random beginnings cost: [Beginnings](../sami_claims/60_beginnings.ipynb).)

# %%
#| exports
REGIMES = ("joint", "pinned", "frozen")


class SAMI(Autoencoder):
    """Score-based Autoencoder for Multiscale Inference (Lyo, Simoncelli, Savin 2025): an encoder guides a free score.

    `regime` "joint", "pinned" or "frozen" (which needs a trained `denoiser`); `p_uncond`: unguided share in "joint".
    `kl_weight` is beta against the pixel-summed error, annealed as `anneal` says; `noise` levels: "stratified",
    "uniform" or "high". Images (C, H, W) of `shape`, codes of `z_dim` axes with standard deviations above `std_floor`;
    `time_conditioned` tells the encoder log gamma. `begin`: "gaussian", for networks of the library's
    own, "linear" (the code only, for a told encoder of its own), or "random". `denoiser`: any callable (x_t, t) -> x0_hat with its `path`, or what
    `from_diffusers` gives; `encoder`: a module, images (and levels) to (N, 2 z_dim): means, raw deviations.
    """

    def __init__(self, shape: Sequence[int], z_dim: int, *, width: int = 32, encoder_width: int | None = None,
                 path: Path | None = None, denoiser: Callable | None = None, encoder: nn.Module | None = None,
                 regime: str = "joint", p_uncond: float = 0.1, kl_weight: float = 1e-3, anneal: str = "constant",
                 weighting: str = "simple", noise: str = "stratified", time_conditioned: bool = False,
                 begin: str | None = None, std_floor: float = 5e-2, gamma_max: float | None = None):
        given = None if denoiser is None else as_given(denoiser, path)
        path = VPCosine(-math.log(5 * math.prod(check_shape(shape)))) if path is None else path
        path = given.path if given else path
        if gamma_max is None and isinstance(path, Discrete): gamma_max = float(path.gamma(1 / path.N))
        super().__init__(shape, z_dim, path, weighting=weighting, kl_weight=kl_weight, gamma_max=gamma_max)
        require(not isinstance(path, Pinned), "path", path, "an unpinned path")
        require_choice(regime, "regime", REGIMES)
        require_choice(time_conditioned, "time_conditioned", (False, True))
        self.regime, self.p_uncond = regime, require_number(p_uncond, "p_uncond", 0, 1)
        self.std_floor, self.anneal = require_number(std_floor, "std_floor", 0, above=True), anneal
        annealed(kl_weight, anneal, 0.0)
        self.time_conditioned, self.noise, self.watched = time_conditioned, noise, {}
        self._begin(begin, encoder is None, given is None)
        self._networks(given, encoder, *check_widths(width, encoder_width))
        self.draw_times(1, torch.Generator())

    @property
    def levelled(self) -> bool:
        "Whether the encoder's network is given a level: one that it is told, or one read from the picture."
        return self.time_conditioned or self.gaussian is not None
    @property
    def eta(self) -> float: return 0.0 if self.gaussian is None else 1.0
    @property
    def rate_weight(self) -> float: return annealed(self.kl_weight, self.anneal, self.progress)

    def denoiser(self, z: Tensor, xT: None = None, axes: Sequence[int] | None = None) -> Guided:
        "The guided estimate for codes (N, z_dim); `axes`: guided by these axes of the code only."
        require(z.ndim == 2 and z.shape[1] == self.z_dim, "z", z, f"codes (N, {self.z_dim})")
        chosen = list(range(self.z_dim) if axes is None else axes)
        require(all(j in range(self.z_dim) for j in chosen), "axes", axes, f"axes of a code of {self.z_dim}")

        def log_q(x_t, t):
            require(len(x_t) == len(z), "x_t", x_t, f"{len(z)} noisy images, one for each code")
            mean, std = self.codes(x_t, self.path.gamma(t).log().clamp(*self.span).expand(len(x_t)).to(x_t))
            least = float(std.detach().min())  # (NaN is the training's to report)
            require(not least <= 0, "encoder", f"a deviation of {least:.3g}", "positive deviations")
            return torch.distributions.Normal(mean, std, validate_args=False).log_prob(z)[:, chosen].sum(1)

        return Guided(self.base(), log_q)

    def walker(self, z: Tensor, xT: None = None, mode: str = "sample", axes: Sequence[int] | None = None) -> Callable:
        "As `denoiser`; in point mode, an encoder that is not told the level is shown its noise (`Shown`)."
        require_choice(mode, "mode", MODES)
        D = self.denoiser(z, axes=axes)
        return D if mode == "sample" or self.time_conditioned else Shown(D)

    def loss(self, x: Tensor, g: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        "The training loss, and its parts with what is `watched`: free and guided error, guidance, pin."
        total, parts = super().loss(x, g)
        return total, parts | self.watched

    def train(self, mode: bool = True):
        super().train(mode)
        if self.regime == "frozen": self.net.eval()
        return self


# %% [markdown]
# What is given is tried once, on an empty image. A frozen denoiser is the caller's own network, its gradients switched off.

# %%
#| exports
def _tried(net: nn.Module, name: str, shape: tuple[int, ...], call: Callable) -> None:
    "`ValueError` unless `net`, an argument called `name`, takes images of `shape`: `call(image)` is tried on zeros."
    like = next(net.parameters(), torch.zeros(()))
    try:
        with torch.no_grad(): call(torch.zeros(1, *shape, device=like.device))
    except (RuntimeError, TypeError, IndexError) as e:
        got = f"{type(e).__name__}: {str(e)[:200]}"
        raise ValueError(f"{name}: expected one for images of shape {shape}, got {got}") from e


@patch
def _begin(self: SAMI, begin: str | None, own: bool, free: bool) -> None:
    "Where an encoder of the library's `own` begins, and with it a denoiser that is `free` to; others at random."
    can = {"gaussian": own and free, "linear": own and self.time_conditioned, "random": True}
    begin = next(k for k in can if can[k]) if begin is None else begin
    require_choice(begin, "begin", tuple(can))
    require(can[begin], "begin", begin, f"one of {[k for k in can if can[k]]} with these networks")
    self.config["begin"] = begin
    if begin == "random": return
    require(self.std_floor < 0.9, "std_floor", self.std_floor, "less than 0.9 for a linear beginning")
    std = min(0.9, max(0.2, 2 * self.std_floor))
    if begin == "gaussian": self.begins(begin, std)
    else: self.linear = LinearCode(self.shape, self.z_dim, std)


@patch
def _networks(self: SAMI, given: Given | None, encoder: nn.Module | None, width: int, small: int) -> None:
    "Build the networks, or take the given ones."
    require(given or self.regime != "frozen", "denoiser", given, "a trained denoiser, for the frozen regime")
    if given:
        half = torch.tensor(self.path.T / 2)
        _tried(given, "denoiser", self.shape, lambda x: given(x, half))
        self.config["denoiser"] = given.spec
    self.net = given or UNet(self.shape, width, extra=0 if self.gaussian is None else 2 * self.shape[0])
    if self.regime == "frozen": self.net.eval().requires_grad_(False)
    if encoder is None: encoder = HalfUNet(self.shape, 2 * self.z_dim, small, levels=self.levelled)
    else: self.config["encoder"] = {"given": type(encoder).__name__}
    require(isinstance(encoder, nn.Module), "encoder", encoder, "a module, as in load(folder, encoder=...)")
    self.encoder_net = encoder
    if self.linear is not None:
        for p in encoder.head.parameters(): nn.init.zeros_(p)  # no correction yet
    _tried(encoder, "encoder", self.shape, lambda x: self.codes(x.to(next(encoder.parameters(), x))))


@patch
def save(self: SAMI, folder) -> None:
    "As every model. The weights of a given denoiser are saved too, so it must be a module: `ValueError` if not."
    kept = not isinstance(self.net, Given) or self.net.network is not None
    require(kept, "denoiser", "a function", "a module: the weights of a plain function cannot be saved")
    Autoencoder.save(self, folder)


@patch(cls_method=True)
def older(cls: SAMI, config: dict) -> dict:
    "In format 1 a told encoder of the library's own began linear, unless it was told otherwise."
    own = config.get("time_conditioned", False) and config.get("encoder") is None
    return {"begin": "linear" if own else "random", **config}


# %% [markdown]
# Kept for the training's history, *on the same noise*: `free` and `guided`, $\tfrac12\|\varepsilon-\hat\varepsilon\|^2$ without and with guidance; `guidance`, $\tfrac12\|c\,G\|^2$, the information per unit of $\log\gamma$ if the guidance is exact ([Gaps](../foundations/07_gaps.ipynb)); and `pin`, the correlation of $c\,G$ with the free estimate $\hat\varepsilon_{\mathrm{free}}$. Exact guidance has mean zero at every $x_t$, so it is uncorrelated with every function of $x_t$: a `pin` far from 0 says that it is not exact.

# %%
#| exports
@patch
def base(self: SAMI) -> Denoiser | Given:
    "The unconditional denoiser, (x_t, t) -> x0_hat."
    return self.net if isinstance(self.net, Given) else self.corrects(self.net)


@patch
def draw_times(self: SAMI, n: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    "Times (n,) and weights w (n,) for a training batch, as `noise` says."
    ends = self.gamma_min, self.gamma_max, self.stats
    return noise_levels(self.path, n, self.weighting, g, *ends, self.noise)


@patch
def codes(self: SAMI, x: Tensor, level: Tensor | None = None) -> tuple[Tensor, Tensor]:
    "Mean and standard deviation (N, z_dim) of q(z | x) for clean or, with `level` = log gamma (N,), noisy images."
    if not self.time_conditioned and self.gaussian is not None: level = self.gaussian.level(x, self._grid(), self.path.vp)
    told = x.new_full(x.shape[:1], self.span[1]) if level is None else level
    out = self.correction(x, told) if self.levelled else self.correction(x)
    fits = isinstance(out, Tensor) and out.ndim == 2 and out.shape[1] == 2 * self.z_dim and out.shape[0] == x.shape[0]
    require(fits, "encoder", out, f"an output of shape (N, {2 * self.z_dim})")
    mean, raw = out.chunk(2, 1)
    if self.linear is not None: mean, raw = self._corrected(x, level, mean, raw)
    return mean, softplus(raw) + self.std_floor


@patch
def _grid(self: SAMI) -> Tensor:
    "The levels between which a noise-blind encoder finds that of an image."
    return torch.linspace(*self.span, 57)


@patch
def _corrected(self: SAMI, x: Tensor, level: Tensor | None, mean: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
    "Mean and raw deviation (N, z_dim) of the linear code at log gamma = `level`, or of clean images, corrected."
    gamma = x.new_full(x.shape[:1], math.inf) if level is None else level.exp()
    b = torch.sqrt(1 / (1 + 1 / gamma)) if self.path.vp else torch.ones_like(gamma)
    first, std = self.linear(x, gamma, b)
    above = (std - self.std_floor).clamp(min=1e-3)
    w = self.linear.wiener(gamma)[:, :1]
    return first + w * mean, w * raw + above.expm1().log()


@patch
def squared_error(self: SAMI, D: Guided, x: Tensor, eps: Tensor, t: Tensor, xT: None, g: torch.Generator) -> Tensor:
    "||eps - eps_hat||^2, (N,); in the pinned regime the free error and the guided one, each for its own network."
    learns = torch.is_grad_enabled() and self.regime != "frozen"
    with torch.set_grad_enabled(learns): free = D.base.residual(x, eps, t)
    shift = D.shift(x, eps, t)
    with torch.no_grad():
        halves = {"free": free, "guided": free - shift, "guidance": shift}
        self.watched = {k: sqnorm(v).mean() / 2 for k, v in halves.items()}
        self.watched["pin"] = torch.cosine_similarity(shift.flatten(), (free + eps).flatten(), 0)
    if self.regime == "pinned": return sqnorm(free) + sqnorm(free.detach() - shift)
    if self.regime == "frozen": return sqnorm(free - shift)
    guided = torch.rand(len(x), generator=g, device=x.device) >= self.p_uncond
    return sqnorm(free - bcast(guided.to(x), x) * shift)


# %%
images = torch.tensor(load_digits().images / 8 - 1, dtype=torch.float32)[:, None]
told = SAMI((1, 8, 8), 4, width=8, time_conditioned=True)
told.prepare(images)
gamma, x_t = torch.full((9,), 0.5), images[:9] * (1 / 3) ** 0.5
b, w1 = (1 / (1 + 1 / gamma)).sqrt(), told.linear.wiener(gamma)[:, :1]
want = told.linear(x_t, gamma, b)
for found, value in zip(told.codes(x_t, gamma.log()), want, strict=True):
    test_close(found, value, eps=1e-5)
flat = images[:9].flatten(1) - told.linear.center
white = flat @ told.linear.axes.T / told.linear.variances.sqrt()
test_close(told.encode(images[:9]), 0.96**0.5 * white, eps=1e-4)
torch.nn.init.normal_(told.encoder_net.head.weight, std=0.1, generator=g)
m, r = told.correction(x_t, gamma.log()).chunk(2, 1)
found, f = told.codes(x_t, gamma.log()), told.std_floor
test_close(found[0], want[0] + w1 * m, eps=1e-5)
test_close(found[1], f + softplus(w1 * r + (want[1] - f).expm1().log()), eps=1e-5)


# %% [markdown]
# What $\beta$ costs at each noise level, @eq-beta for any path, weighting and density of levels. The check counts: of many levels drawn as in training, the mean weight that falls into a bin of $u$, per unit of $u$, is $p(u)\,w(u)$.

# %%
#| exports
@patch
def beta_eff(self: SAMI, u: Tensor) -> Tensor:
    "What a nat of rate costs in nats of the bound at u = log gamma, kl_weight / (p(u) w(u)); infinite where p = 0."
    u, beta = as_time(u), as_time(self.kl_weight)
    inside = (u >= math.log(self.gamma_min)) & (u <= math.log(self.gamma_max))
    if self.weighting == "elbo": return torch.where(inside, beta, math.inf)
    t = self.path.t_of_gamma(u.exp())
    low, high = (float(self.path.t_of_gamma(v)) for v in (self.gamma_max, self.gamma_min))
    p = -self.path.gamma(t) / self.path.dgamma(t) / (high - low)
    if self.noise == "high": p = 2 * p * (t - low) / (high - low)
    edm = self.weighting == "edm"
    w = 2 / (self.path.gamma(t) * scalings("edm", self.path.coefs(t), self.stats).out ** 2) if edm else 2.0
    return torch.where(inside, beta / (p * w), math.inf)


# %%
#| label: fig-prices
#| fig-cap: 'What a nat of rate costs in nats of the bound, at every noise level, for $\beta=10^{-3}$. Structure is worth coding where a curve is below the grey line at one. Only the weight of the bound (elbo) charges the same everywhere.'
#| fig-alt: 'Effective beta on a logarithmic axis against u, the logarithm of gamma, from -4 to 8, with a grey line at one. The elbo curve is flat at 0.001. The two with simple weighting have a minimum of about 0.003 near u = 0 and rise on both sides; the one with high noise levels crosses one near u = 7. The edm curve rises from 0.00006 and joins simple, stratified beyond u = 4.'
edges = torch.linspace(-4, 8, 25, dtype=torch.float64)
u, width, prices = (edges[1:] + edges[:-1]) / 2, edges[1] - edges[0], {}
for weighting, noise in [("simple", "stratified"), ("simple", "high"),
                         ("edm", "stratified"), ("elbo", "stratified")]:
    model = SAMI((1, 8, 8), 2, width=8, weighting=weighting, noise=noise)
    t, w = model.draw_times(400_000, rng(0))
    mass = torch.histogram(model.path.gamma(t).log(), edges, weight=w / len(t)).hist
    price = prices[f"{weighting}, {noise}"] = model.beta_eff(u)
    test_close(price * mass / width / model.kl_weight, torch.ones_like(u), eps=0.03)
fig, ax = plt.subplots()
for (name, price), style in zip(prices.items(), ["-", "--", "-.", ":"], strict=True):
    ax.plot(u, price, style, label=name)
ax.axhline(1, color="0.4", lw=1)
ax.set(xlabel=r"noise level $u=\log\gamma$", yscale="log",
       ylabel=r"$\beta_{\mathrm{eff}}(u)$ (nats per nat)")
ax.legend(ncols=2);

# %% [markdown]
# **Who learns from what**: pinned, the denoiser's gradient must not depend on the encoder; joint, it does. A frozen denoiser, a U-Net of ours or a plain function, must stay the same, bit for bit.

# %%
torch.manual_seed(0)


def net_gradient(model, scale):
    "The denoiser's gradient for one batch, with the encoder's weights scaled."
    saved = [p.detach().clone() for p in model.encoder_net.parameters()]
    for p in model.encoder_net.parameters(): p.data.mul_(scale)
    model.zero_grad()
    D, t = model.denoiser(torch.ones(16, 4)), torch.linspace(0.1, 0.9, 16).double()
    eps = torch.randn(16, 1, 8, 8, generator=rng(1))
    model.squared_error(D, images[:16], eps, t, None, rng(2)).sum().backward()
    for p, q in zip(model.encoder_net.parameters(), saved, strict=True): p.data.copy_(q)
    return model.net.head[2].weight.grad.clone()


for regime, same in [("pinned", True), ("joint", False)]:
    model = SAMI((1, 8, 8), 4, width=8, regime=regime, begin="random")
    assert torch.equal(net_gradient(model, 1.0), net_gradient(model, 2.0)) is same

own = SAMI((1, 8, 8), 4, width=8, regime="pinned").base()
exact = lambda x, t: denoiser(world.data, path)(x.flatten(1), t).reshape(x.shape)
points = world.data.sample(64, seed=0).float().reshape(-1, 4, 1, 1).clamp(-1, 1)
for given, given_path, batch in [(own, None, images[:64]), (exact, path, points)]:
    model = SAMI(batch.shape[1:], 3, denoiser=given, path=given_path, regime="frozen")
    before = {k: v.clone() for k, v in model.train().state_dict().items()}
    opt = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    for _ in range(3):
        loss, parts = model.loss(batch, rng(0))
        opt.zero_grad()
        loss.backward()
        opt.step()
    same = {k for k, v in model.state_dict().items() if torch.equal(v, before[k])}
    assert not model.net.training
    assert all(k in same for k in before if k.startswith("net."))
    assert not any(k.startswith("encoder_net.head") for k in same)

# %%
#| include: false
model = SAMI((1, 8, 8), 4, width=8)
with expect_fail(ValueError, contains="z: expected codes (N, 4)"):
    model.denoiser(torch.ones(16, 3))
for name, kw in {
    "denoiser: expected a trained denoiser": {"regime": "frozen"},
    "denoiser: expected estimates of shape (1, 1, 8, 8)":
        {"denoiser": lambda x, t: x[:, 0], "path": path},
    "denoiser: expected one for images of shape (1, 8, 8)":
        {"denoiser": SAMI((3, 8, 8), 2, width=8).base()},
    "path: expected the unpinned path": {"denoiser": lambda x, t: x},
    "encoder: expected an output of shape (N, 8)": {"encoder": torch.nn.Flatten()},
    "noise: expected one of": {"noise": "low"},
    "begin: expected one of ['gaussian', 'random']": {"begin": "linear"},
    "anneal: expected one of": {"anneal": "fast"},
}.items():
    with expect_fail(ValueError, contains=name): SAMI((1, 8, 8), 4, width=8, **kw)
with expect_fail(ValueError, contains="x_t: expected 2 noisy images"):
    model.denoiser(torch.ones(2, 4))(images[:3], f64(0.5)[0])

# %% [markdown]
# **The loss is the bound's.** With the same draws, the loss must be the bound's integrand plus the rate, by hand: noisy images, the two networks through @eq-guided and @eq-logq, $\tfrac12(u_{\max}-u_{\min})\,\gamma\,\|x_0-\hat x_0\|^2$, and the library's divergence.

# %%
how = {"kl_weight": 1.0, "weighting": "elbo", "p_uncond": 0.0}
model = SAMI((1, 8, 8), 4, width=8, **how).double().eval()
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
errors = model.path.gamma(t) * sqnorm(x - estimate)
denoising = errors.mean() / 2 * math.log(model.gamma_max / model.gamma_min)
standard = Independent(Normal(torch.zeros(4), torch.ones(4)), 1)
rate = kl_divergence(Independent(q, 1), standard).mean()
test_close((loss / (denoising + rate)).item(), 1, eps=1e-5)
found = {"loss": loss, "denoising, by hand": denoising, "rate": rate}
Table({k: f"{v:.3f}" for k, v in found.items()}, "of 32 images", "mean (nats)")

# %% [markdown]
# ## On digits, briefly
#
# Begun as the Gaussian; 150 steps, gradients clipped.

# %%
torch.manual_seed(0)
model = SAMI((1, 8, 8), z_dim=8, width=8, encoder_width=12)
opt = torch.optim.AdamW(model.parameters(), lr=4e-3, fused=True)
train, history = images[:1400], []
model.prepare(train)  # where it begins
for _ in range(150):
    batch = train[torch.randint(len(train), (64,), generator=g)]
    loss, parts = model.loss(batch, g)
    opt.zero_grad()
    (loss / 64).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
    history.append((parts["denoising"].item(), parts["rate"].item()))
first, last = (torch.tensor(h).mean(0) for h in (history[:20], history[-20:]))
assert last[0] < 0.9 * first[0]  # of what the Gaussian leaves
rows = {"first 20": first, "last 20": last}
Table({k: {"denoising": f"{d:.2f}", "rate (nats)": f"{r:.2f}"}
       for k, (d, r) in rows.items()}, "mean over the steps")

# %% [markdown]
# The same noise denoised without and with guidance, at $\log\gamma\approx-1.5$. Guided by *another* image's code, the estimate turns towards that image.

# %%
test = images[1500:1700]
neighbour = test.roll(1, 0)
t = torch.full((200,), 0.75, dtype=torch.float64)
x_t = model.path.mix(test, torch.randn(test.shape, generator=g), t)
model.eval()
with torch.no_grad():
    own, other = (model.denoiser(model.encode(x)) for x in (test, neighbour))
    rows = {"image": test, "noisy": x_t, "free": own.base(x_t, t),
            "guided": own(x_t, t), "by neighbour": other(x_t, t)}
error = lambda name, x: sqnorm(rows[name] - x).mean().item() / 256
free, guided, misled = (error(k, test) for k in ("free", "guided", "by neighbour"))
assert guided < free < misled and error("by neighbour", neighbour) < misled
found = {"free": free, "guided": guided, "by neighbour": misled}
Table(found, "estimate", "mean squared error on [0, 1]")

# %%
#| label: fig-guided
#| fig-cap: 'Eight test digits, noised to $\log\gamma\approx-1.5$ and denoised at once: without a code, guided by their own code, and by that of the digit to their left (for the first, one not shown). The last row is closer to that digit than to its own (on average over 200).'
#| fig-alt: 'Five rows of eight small grey pictures: digits, the same under heavy noise, and three denoised versions. Free estimates are the most blurred; guided ones show more of the digits of the first row; those guided by a neighbour show traces of another digit.'
fig, axes = plt.subplots(len(rows), 8, figsize=(6, 3.4))
for row, (name, pictures) in zip(axes, rows.items(), strict=True):
    for ax, picture in zip(row, pictures[:8], strict=True):
        ax.imshow(picture[0], vmin=-1, vmax=1)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    row[0].set_ylabel(name, rotation=0, ha="right", va="center")

# %% [markdown]
# ## Differences from the paper
#
# **The paper's model** is `SAMI(shape, z_dim, begin="random")`: noise-blind (`time_conditioned=False`, the default), each network alone. Telling the level and beginning as the Gaussian are variants of ours; what they bring is no evidence about the paper's.
#
# | | Lyo, Simoncelli & Savin, as described | here |
# |---|---|---|
# | noise | 1000 discrete steps, cosine | continuous cosine path, ended at $-\log5d$ |
# | weights of the bound | derived, dropped in training | the same (`simple`), or kept (`elbo`) |
# | $\beta$ | raised in the course of training | constant, or raised (`anneal`) |
# | denoiser, trained jointly | not known to us whether pinned | `p_uncond`, or `regime="pinned"` |
# | denoiser, pre-trained | frozen; high noise levels oversampled | `regime="frozen"`; `noise="high"` |
# | encoder | noise-blind, begun at random | the same, or told; begun as the Gaussian |
# | network's output | the noise | preconditioned ([Scores](../foundations/04_scores.ipynb)) |
# | samples | $z\sim\mathcal N(0,I)$, ancestral | $z$ from the fitted prior ([Priors](12_priors.ipynb)), any sampler |
#
# ## Exercises
#
# **1.** *Compute.* From which $\beta$ on does plain squared error pay for no structure at any level?

# %%
#| code-fold: true
#| code-summary: "Solution"
model = SAMI((1, 8, 8), 2, width=8, kl_weight=1 / math.pi)
u = torch.linspace(-4, 8, 1201, dtype=torch.float64)
price = model.beta_eff(u)  # at least pi beta; a little less on a path with an end
assert u[price.argmin()].abs() < 0.02 and 0.95 < price.min() < 1

# %% [markdown]
# **2.** *Extend.* Give the exact guidance a strength $k$. By how much does the bound fall? Doubled guidance is as bad as none: show it.

# %%
#| code-fold: true
#| code-summary: "Solution"
path = VPCosine(-4.0)
free, ends = denoiser(world.data, path), (math.exp(-4), math.exp(8), "prior")


def of_strength(k):
    def guided(z, xT):
        told = world.denoiser(path, z)
        return lambda x_t, t: torch.lerp(free(x_t, t), told(x_t, t), k)
    return -sum(expected_bound(world, guided, path, *ends).values())


none, half, exact, double = map(of_strength, (0.0, 0.5, 1.0, 2.0))
test_close(exact - double, exact - none, eps=1e-5)  # (k - 1)^2 times
test_close(exact - half, (exact - none) / 4, eps=1e-5)  # what guidance brings

# %% [markdown]
# ## What can go wrong
#
# * **Leaving out $\log v$** in @eq-logq: the guidance is then not a log-density's gradient, and biased wherever the encoder's confidence changes.
# * **Expecting separate axes from joint training** with a free denoiser ([Why SAMI disentangles](../sami_claims/61_why_sami_disentangles.ipynb)).
# * **`torch.no_grad` around sampling** would kill the guidance; it is switched on again inside. A variance near zero makes it explode, hence the floor.
# * **VE paths.** A noise-blind encoder cannot take inputs whose scale runs to 80. Use VP; a told one still sees inputs up to 80.
