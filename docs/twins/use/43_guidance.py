# %% [markdown]
# # Guidance in use
#
# > Six ways to sample from SAMI, which axes of its code carry how many nats at which noise level, and whether its guidance can be trusted.

# %% [markdown]
# [SAMI](../models/14_sami.ipynb) trains an encoder that guides a denoiser. The guidance is a vector field with one part per axis of the code, so more can be done with it than decoding: guide by one axis only, switch an image's content in mid-course, or measure without any labels what each axis says, and at which noise level it says it. This page derives these tools and checks them where the answers are known, in the Gaussian world of [Worlds in closed form](../foundations/03_worlds.ipynb).

# %%
#| default_exp use.guidance

# %%
#| exports
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Normal

from scoreae.core.checks import bcast, check_images, randn_like, require, require_choice, require_int
from scoreae.core.checks import require_number, rng, sqnorm
from scoreae.foundations.samplers import sample, time_grid, trajectory
from scoreae.models.contract import Autoencoder
from scoreae.models.priors import kl_per_axis
from scoreae.models.sami import SAMI

# %%
#| hide
import matplotlib.pyplot as plt
from fastcore.test import expect_fail, test_close, test_eq

from scoreae import data
from scoreae.core.pages import Table, paper
from scoreae.foundations.paths import VPCosine
from scoreae.foundations.worlds import GaussianWorld, denoiser
from scoreae.use.training import fit

# %%
#| hide
paper()
f64 = lambda *v: torch.tensor(v, dtype=torch.float64)
g = torch.Generator().manual_seed(0)


# %% [markdown]
# ## Six ways to sample
#
# Sampling needs an estimate $\hat x_0(x_t,t)$ and a start. SAMI offers several of both, and all of them walk with the one sampler of [Samplers](../foundations/08_samplers.ipynb), in tens of steps.
#
# | way | estimate | start | call |
# |---|---|---|---|
# | reconstruct | guided by the image's code | noise | `model.reconstruct(x)` |
# | from a code | guided by $z$: a traversal, a line | noise, shared in a row | `model.decode(z)`, `model.interpolate(x0, x1)` |
# | switch | guided by the code of B | A, noised up to a level | `switch(model, a, z, level)` |
# | unguided | the free denoiser | noise | `unguided(model, n)` |
# | back and forth | guided by a code of $x_t$ itself, drawn anew at every step | noise | `back_and_forth(model, n)` |
# | some axes | guided by a part of the code | noise | `decode_axes(model, z, [3])` |
#
# The last is possible because the posterior is diagonal: $\log q(z|x_t)=\sum_j\log q(z_j|x_t)$, so the guidance is a sum over axes, and terms can be left out. An axis that is left out is not set to zero: its value stays open. *Back and forth* needs no prior on codes; it is a way to see what the pair of networks believes by itself.

# %%
#| exports
def _walk(model: SAMI, D: Callable, n: int, steps: int, mode: str, seed: int | torch.Generator | None, **kw) -> Tensor:
    "`n` images along the path of `model` with the estimate `D`, clipped as `decode` does."
    like = torch.zeros(n, *model.shape, device=model.device, dtype=model.dtype)
    with torch.no_grad(): return sample(D, model.path, like, steps, mode=mode, clip=1.0, seed=seed, **kw).clamp(-1, 1)


def unguided(model: SAMI, n: int, steps: int = 25, mode: str = "sample", seed: int | torch.Generator | None = 0,
             **kw) -> Tensor:
    "`n` images (n, C, H, W) from the free denoiser alone; keywords as in `samplers.sample`."
    return _walk(model, model.base(), require_int(n, "n"), steps, mode, rng(seed, model.device), **kw)


def decode_axes(model: SAMI, z: Tensor, axes: Sequence[int], steps: int = 10, mode: str = "point",
                seed: int | torch.Generator | None = 0, **kw) -> Tensor:
    "Images for codes (N, z_dim), guided by the chosen `axes` only; the other axes are left open."
    D = model.walker(z.to(model.device, model.dtype), None, mode, axes)
    return _walk(model, D, len(z), steps, mode, rng(seed, model.device), **kw)


def back_and_forth(model: SAMI, n: int, steps: int = 25, seed: int | torch.Generator | None = 0, **kw) -> Tensor:
    "`n` images (n, C, H, W), guided at every step by a code drawn from q(z | x_t) of the image as it is then."
    g = rng(seed, model.device)

    def D(x_t, t):
        level = model.path.gamma(t).log().clamp(*model.span).expand(len(x_t)).to(x_t)
        mean, std = model.codes(x_t, level)
        return model.denoiser(mean + std * randn_like(mean, g))(x_t, t)

    return _walk(model, D, require_int(n, "n"), steps, "sample", g, **kw)


def switch(model: SAMI, x: Tensor, z: Tensor, level: float, steps: int = 25, eta: float = 0.0,
           seed: int | torch.Generator | None = 0) -> Tensor:
    """Images (N, C, H, W), noised up to log gamma = `level`, then denoised with the guidance of codes (N, z_dim).

    What is finer than the level's noise is made anew; what is coarser stays of `x`, as far as `z` agrees.
    """
    check_images(x, model.shape)
    low, high = math.log(model.gamma_min), math.log(model.gamma_max)
    t = float(model.path.t_of_gamma(math.exp(require_number(level, "level", low, high))))
    g, x = rng(seed, model.device), x.to(model.device, model.dtype)
    D = model.denoiser(z.to(x))
    x_t = model.path.mix(x, randn_like(x, g), torch.tensor(t, dtype=torch.float64))
    times = time_grid(model.path, steps) * (t / model.path.T)
    with torch.no_grad():
        for step in trajectory(lambda y, s: D(y, s).clamp(-1, 1), model.path, x_t, times, eta=eta, seed=g, noisy=True):
            out = step.x0
    return out.clamp(-1, 1)


# %% [markdown]
# The Gaussian world as a SAMI: an encoder that answers the exact $q(z|x_t)$, which is diagonal at every noise level if each axis reads one principal component ([Why SAMI disentangles](../sami_claims/61_why_sami_disentangles.ipynb)), and the exact denoiser. Three components have the standard deviations 0.3, 0.15 and 0.05; two axes read the first two, with posterior variance 0.2 and 0.05.

# %%
scales, s = f64(0.3, 0.15, 0.05), f64(0.2, 0.05)
normal = lambda *shape: torch.randn(shape, generator=g, dtype=torch.float64)
turn = torch.linalg.qr(normal(3, 3))[0]
Sigma = turn @ torch.diag(scales**2) @ turn.T
A = torch.diag((1 - s).sqrt() / scales[:2]) @ turn.T[:2]
world = GaussianWorld(torch.zeros(3), Sigma, A, f64(0, 0), torch.diag(s))


class Free:
    "The exact denoiser of the world, for images."
    def __init__(self, path): self.path, self.D = path, denoiser(world.data, path)
    def __call__(self, x, t): return self.D(x.flatten(1), t).reshape(x.shape).to(x)
    def residual(self, x0, eps, t):
        scale = self.path.gamma(t).sqrt().to(x0).reshape(-1, 1, 1, 1)
        return scale * (x0 - self(self.path.mix(x0, eps, t), t))


class Exact(SAMI):
    "A SAMI whose encoder and denoiser are exact."
    def base(self): return Free(self.path)
    def codes(self, x, level=None):
        gamma = torch.tensor(math.inf) if level is None else level.double().exp()
        y = x.flatten(1).T  # the image, or a noisy one divided by b
        if level is not None:
            y = y / self.path.coefs(self.path.t_of_gamma(gamma)).b.to(x)
        l, v = scales[:2, None] ** 2, s[:, None]
        left = l / (1 + l * gamma)  # variance of a component of x_0, given y
        gain = ((1 - v) / l).sqrt() * (1 - left / l).to(x)
        mean = gain * (turn.T.to(x) @ y)[:2]
        var = v + (1 - v) * left / l
        return mean.T, var.expand(2, len(x)).T.sqrt().to(x)


# %%
model = Exact((3, 1, 1), 2, width=8, path=VPCosine(-12.0)).double().eval()
x0, _, z = world.draw(normal(2000, 8))
x = x0.reshape(-1, 3, 1, 1)
t = model.path.t_of_gamma(torch.ones(()))
point = model.denoiser(z[:50])(x[:50], t)
test_close(point.flatten(1), world.denoiser(model.path, z[:50])(x0[:50], t), eps=1e-9)

# %% [markdown]
# What each way must give is known. Unguided samples have the covariance of the data; so have back-and-forth samples, since a draw from $p(x_t|z)$ with $z\sim q(z|x_t)$ is a draw from $p(x_t)$. Guided by the first axis only, a sample's first component has the posterior's mean and variance given $z_1$, and the others those of the data. A switch from pure noise is a decoding; a switch from almost no noise returns the image.

# %%
ones, how = torch.ones(2000, 2).double(), {"steps": 60, "scale": 0.1}
ways = {
    "unguided": unguided(model, 2000, **how),
    "back and forth": back_and_forth(model, 2000, eta=1.0, order=1, **how),
    "axis 0 at 1.0": decode_axes(model, ones, [0], mode="sample", **how),
}  # fmt: skip
rows = {"data": scales}
for name, samples in ways.items():
    rows[name] = (samples.flatten(1) @ turn).std(0)
    expected = scales * f64(s[0] ** 0.5, 1, 1) if "axis" in name else scales
    assert (rows[name] / expected - 1).abs().max() < 0.12
Table({name: {f"std of component {j}": v for j, v in enumerate(row.tolist(), 1)}
       for name, row in rows.items()}, "way")

# %%
first = decode_axes(model, ones[:8], [0], 60).flatten(1) @ turn
test_close(first.mean(0), f64((1 - s[0]) ** 0.5 * scales[0], 0, 0), eps=5e-3)
test_close(switch(model, x[:20], z[:20].flip(0), 14.0), x[:20], eps=5e-3)
wanted = z[:200].flip(0)
other = switch(model, x[:200], wanted, -11.0, 60).flatten(1) @ turn
test_close(other[:, 0].std() / scales[0], 1.0, eps=0.2)
assert torch.corrcoef(torch.stack([other[:, 1], wanted[:, 1]]))[0, 1] > 0.9

# %%
with expect_fail(ValueError, contains="level: expected"):
    switch(model, x[:2], z[:2], -30.0)
with expect_fail(ValueError, contains="axes: expected axes of a code of 2"):
    decode_axes(model, z[:2], [2])

# %% [markdown]
# ## Nats per axis and noise level
#
# The information in the code is an area ([Gaps](../foundations/07_gaps.ipynb)): along the path it arrives at the rate $\tfrac12c^2\,\mathbb E\|G_t\|^2$ per unit of $u=\log\gamma$. The guidance is a sum over axes, $G_t=\sum_jG_j$, so
#
# $$\tfrac12c^2\,\mathbb E\|G_t\|^2=\sum_j\underbrace{\tfrac12c^2\,\mathbb E\|G_j\|^2}_{\text{axis }j}+\underbrace{\tfrac12c^2\sum_{i\ne j}\mathbb E\,G_i\cdot G_j}_{\text{cross term}}.$$ {#eq-axes}
#
# The first sum says which axis is informed at which noise level. If the cross term vanishes, the parts add up to the whole and each axis has its own information; it is reported, not assumed. With it, three more numbers need no labels: the **latent SNR** $\mathrm{Var}[\mu_j]/\mathbb E[v_j]$, the **rate** $\mathrm{KL}(q(z_j|x_0)\|\mathcal N(0,1))$, and the **decode difference**, how much an image changes when the axis moves by two standard deviations each way. The *centroid* of an axis is the mean $u$ of its area.
#
# A noise-blind encoder may spend an axis on telling how noisy an image is. Such an axis is still guided at pure noise, where there is nothing to know. `at noise` is an axis' rate at the noisiest level, relative to its largest.
#
# For a network all these are nats only as far as its guidance is exact; guidance that is wrong has energy too. `watch`, below, says how far.

# %%
#| exports
ORDERS = ("nats", "snr", "rate", "change")


@dataclass(frozen=True)
class Axes:
    "What `axes` found: a ranked table, and nats per unit of u = log gamma, of every axis (k, n) and crosswise (n,)."

    table: list[dict[str, float]]
    u: Tensor
    density: Tensor
    cross: Tensor

    def __repr__(self) -> str:
        wide, step = "  ".join(f"{k:>8}" for k in self.table[0]), float(self.u[1] - self.u[0])
        rows = ["  ".join(f"{v:8.3g}" for v in r.values()) for r in self.table]
        total = f"sum {float(self.density.sum()) * step:.3g} nats, cross term {float(self.cross.sum()) * step:.3g}"
        return "\n".join([wide, *rows, total])


def _parts(model: SAMI, x_t: Tensor, t: Tensor, z: Tensor) -> Tensor:
    "c G_j of every axis: (k, N, C, H, W)."
    with torch.enable_grad():
        x = x_t.detach().requires_grad_()
        level = model.path.gamma(t).log().clamp(*model.span).expand(len(x)).to(x)
        logs = Normal(*model.codes(x, level), validate_args=False).log_prob(z).sum(0)
        parts = [torch.autograd.grad(v, x, retain_graph=True)[0] for v in logs]
    return bcast(model.path.coefs(t).c, x) * torch.stack(parts)


def _densities(model: SAMI, x: Tensor, u: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor]:
    "Nats per unit of u of every axis, (k, n), and of all together, (n,)."
    each, whole = [], []
    for t in model.path.t_of_gamma(u.exp()):
        mean, std = model.codes(x)
        parts = _parts(model, model.path.mix(x, randn_like(x, g), t), t, mean + std * randn_like(mean, g))
        each.append(parts.flatten(2).square().sum(2).mean(1) / 2)
        whole.append(sqnorm(parts.sum(0)).mean() / 2)
    return torch.stack(each, 1).cpu(), torch.stack(whole).cpu()


def _changes(model: Autoencoder, x: Tensor, spread: Tensor, steps: int) -> Tensor:
    "Mean squared change of a pixel when each axis moves from -2 to 2 deviations, (k,)."
    z, ends = model.encode(x), torch.diag(2 * spread.to(x))
    moved = [[model.decode(z + k * e, steps=steps) for k in (-1, 1)] for e in ends]
    return torch.stack([(a - b).square().mean() for a, b in moved]).cpu()


def axes(model: SAMI, x: Tensor, by: str = "nats", n: int = 24, images: int = 8, steps: int = 10,
         seed: int | torch.Generator | None = 0) -> Axes:
    """What each axis of the code says about images (N, C, H, W), without labels; ranked `by` a column of the table.

    Columns: nats (area of the axis' guidance energy), centroid (of log gamma), snr, rate (nats), change (of `images`
    images, decoded in `steps`), at_noise. `n` noise levels; one noise per image and level.
    """
    check_images(x, model.shape)
    require(isinstance(model, SAMI), "model", type(model).__name__, "a SAMI: the axes of its guidance are measured")
    require_choice(by, "by", ORDERS)
    low, high = model.span
    u = low + (torch.arange(require_int(n, "n", low=2)).double() + 0.5) * (high - low) / n
    with torch.no_grad():
        here = x.to(model.device, model.dtype)
        mean, std = (v.cpu() for v in model.codes(here))
        density, whole = _densities(model, here, u, rng(seed, model.device))
    nats = density.sum(1) * (high - low) / n
    found = {"nats": nats, "centroid": (density * u).sum(1) / density.sum(1), "snr": mean.var(0) / (std**2).mean(0),
             "rate": kl_per_axis(mean, std**2).mean(0), "change": _changes(model, x[:images], mean.std(0), steps),
             "at_noise": density[:, 0] / density.amax(1)}  # fmt: skip
    order = found[by].argsort(descending=True).tolist()
    table = [{"axis": j} | {k: float(v[j]) for k, v in found.items()} for j in order]
    return Axes(table, u, density, whole - density.sum(0))


# %% [markdown]
# **Known answers.** Axis $j$ of the Gaussian world reads a component of variance $\ell$ with posterior variance $s$. With $V=s+(1-s)/(1+\gamma\ell)$, the variance of $z_j$ given $x_t$, its information up to level $u$ is $-\tfrac12\log V$: in total $-\tfrac12\log s$ nats, between $u=-\log\ell$, where the component emerges from the noise, and $u=-\log\ell s$, where the code has said all it knows. The derivative of $-\tfrac12\log V=\tfrac12\log(1+\gamma\ell)-\tfrac12\log(1+\gamma\ell s)$ is symmetric about the middle of these two, so the centroid is exactly $-\log\ell-\tfrac12\log s$. The cross term is zero.

# %%
found = axes(model, x, n=40)
nats, centroid = -s.log() / 2, -2 * scales[:2].log() - s.log() / 2
rows = {r["axis"]: r for r in found.table}
for j in (0, 1):
    test_close(rows[j]["nats"], nats[j].item(), eps=0.03)
    test_close(rows[j]["centroid"], centroid[j].item(), eps=0.15)
    test_close(rows[j]["snr"], ((1 - s) / s)[j].item(), eps=1.0)
assert found.cross.abs().max() < 0.02 and [r["axis"] for r in found.table] == [1, 0]
Table([*found.table, *({"axis": f"{j}, exact", "nats": nats[j].item(),
                        "centroid": centroid[j].item(), "snr": ((1 - s) / s)[j].item()}
                       for j in (1, 0))])

# %%
with expect_fail(ValueError, contains="by: expected one of 'nats', 'snr'"):
    axes(model, x, by="beauty")

# %%
#| label: fig-areas
#| fig-cap: 'Each axis has its place on the noise scale: nats per unit of $u=\log\gamma$ as measured, and exactly (thin). The area under a curve is the information of its axis; the cross term is zero.'
#| fig-alt: 'A line chart with two bumps against u. That of axis 0, a solid line, peaks near u = 3; that of axis 1, a dashed line, is higher and wider and peaks near u = 5. Both lie on thin black lines. A dotted line, the cross term, is zero throughout.'
fig, ax = plt.subplots()
for j, style in zip((0, 1), ("-", "--"), strict=True):
    name = f"axis {j}: {rows[j]['nats']:.2f} nats"
    ax.plot(found.u, found.density[j], style, label=name)
    known = found.u.exp() * scales[j] ** 2
    exact = known / (1 + known) - known * s[j] / (1 + known * s[j])
    ax.plot(found.u, exact / 2, "k", lw=0.8, label=None if j else "exact")
ax.plot(found.u, found.cross, ":", color="0.4", label="cross term")
ax.set(xlabel=r"$u=\log\gamma$", ylabel="nats per unit of $u$")
ax.legend();


# %% [markdown]
# ## Can the guidance be trusted?
#
# The exact guidance lowers the error by exactly its energy, $\mathbb E\|\varepsilon-\hat\varepsilon_{\mathrm{free}}\|^2-\mathbb E\|\varepsilon-\hat\varepsilon\|^2=c^2\,\mathbb E\|G\|^2$ (orthogonality, [Gaps](../foundations/07_gaps.ipynb)). A wrong guidance gains less than the exact one. If its *gain* and energy differ by more than chance it is not exact; that they agree proves little, for least squares makes them agree for any guidance whose strength it may set. And it has a mean: $\mathbb E[G|x_t]=0$ exactly for the exact guidance, whereas a free denoiser absorbs the mean of a wrong one ([Why SAMI disentangles](../sami_claims/61_why_sami_disentangles.ipynb)). The law of $z$ given $x_t$ is not known, but a mean that vanishes at every $x_t$ is uncorrelated with every function of $x_t$. We take two functions, $x_t$ itself and the free estimate of the noise, and regress $cG$ on them. The share of its energy that they explain, `pin`, is a lower bound on $\mathbb E\|\mathbb E[G|x_t]\|^2/\mathbb E\|G\|^2$, zero for the exact guidance. That it is zero proves nothing; that it is not, does.

# %%
#| exports
def watch(model: SAMI, x: Tensor, n: int = 12, seed: int | torch.Generator | None = 0) -> dict[str, Tensor]:
    """Guidance at `n` noise levels on images (N, C, H, W): a dictionary of tensors (n,), in nats per unit of u.

    `u` (log gamma), `free` and `guided` (half the error on the same noise), `gain` (their difference), `energy` (half
    that of c G; the gain, if the guidance is exact), `pin` (share of it that x_t and the free estimate explain).
    """
    check_images(x, model.shape)
    g, x = rng(seed, model.device), x.to(model.device, model.dtype)
    (low, high), rows = model.span, []
    u = low + (torch.arange(require_int(n, "n")).double() + 0.5) * (high - low) / n
    with torch.no_grad():
        mean, std = model.codes(x)
        for t in model.path.t_of_gamma(u.exp()):
            t, eps = t.expand(len(x)), randn_like(x, g)
            D = model.denoiser(mean + std * randn_like(mean, g))
            free, shift = D.base.residual(x, eps, t), D.shift(x, eps, t)
            known = torch.stack([model.path.mix(x, eps, t), free + eps]).flatten(1).T
            fitted = known @ torch.linalg.lstsq(known, shift.flatten()[:, None]).solution
            pin = fitted.square().sum() / shift.square().sum().clamp(min=1e-20)
            rows.append([sqnorm(free).mean() / 2, sqnorm(free - shift).mean() / 2, sqnorm(shift).mean() / 2, pin])
    free, guided, energy, pin = torch.tensor(rows, dtype=torch.float64).T
    return {"u": u, "free": free, "guided": guided, "gain": free - guided, "energy": energy, "pin": pin}


# %% [markdown]
# Exact guidance: gain is energy, and no pin. Then the same encoder, overconfident: with its standard deviations halved the guidance is four times too strong. It still has mean zero, and `pin` cannot see what is wrong; the gain does. With its means shifted, its mean shows.

# %%
class Wrong(Exact):
    how = "halved"
    def codes(self, x, level=None):
        mean, std = super().codes(x, level)
        if level is None: return mean, std
        return (mean, std / 2) if self.how == "halved" else (0.5 * mean, std)


seen = {"exact": watch(model, x)}
for how in ("halved", "means halved"):
    wrong = Wrong((3, 1, 1), 2, width=8, path=VPCosine(-12.0)).double().eval()
    wrong.how = how
    seen[how] = watch(wrong, x)
step = seen["exact"]["u"][1] - seen["exact"]["u"][0]
total = {}
for how, v in seen.items():
    gain, energy = (round(float((v[k] * step).sum()), 3) for k in ("gain", "energy"))
    pin = round(float((v["pin"] * v["energy"]).sum() / v["energy"].sum()), 3)
    total[how] = {"gain": gain, "energy": energy, "pin": pin}
test_close(seen["exact"]["gain"], seen["exact"]["energy"], eps=0.03)
test_close(total["exact"]["energy"], nats.sum().item(), eps=0.1)
assert total["exact"]["pin"] < 0.01 and total["means halved"]["pin"] > 0.02
assert total["halved"]["gain"] < 0.5 * total["halved"]["energy"]
units = {"gain": " (nats)", "energy": " (nats)", "pin": " (share)"}
Table({how: {k + units[k]: v for k, v in row.items()} for how, row in total.items()},
      "guidance")

# %% [markdown]
# ## On digits
#
# A small SAMI, told the noise level, after 250 steps on 8×8 digits. ([Natural images](../sami_claims/64_natural_images.ipynb) does the same for clothes and photographs.)

# %%
digits = data.digits()
torch.manual_seed(0)
real = SAMI((1, 8, 8), 6, width=12, time_conditioned=True)
record = fit(real, digits, steps=250, batch_size=64, lr=3e-3, ema=0.99, progress=False)
found = axes(real, digits[:256], n=16)
test_eq(len(found.table), 6)
assert set(record.history[-1]) >= {"free", "guided", "guidance", "pin"}
now = watch(real, digits[:256], n=8)
assert (now["gain"] > 0)[2:5].all()
step = float(found.u[1] - found.u[0])
sums = {"sum": found.density.sum(), "cross term": found.cross.sum()}
Table([*found.table, *({"axis": k, "nats": float(v) * step} for k, v in sums.items())])

# %%
#| label: fig-ways
#| fig-cap: 'Ways to sample from this small SAMI. The code of A gives a blurred A; one of its six axes alone says much less, and most of its images are alike. The samples in the last two rows are rough.'
#| fig-alt: 'Seven rows of eight small grey images. Held-out digits A and B are sharp. Those from the code of A are blurred copies of A. Those from one axis are mostly the same grey blob. Those switched to B look partly like B. The unguided ones and those that went back and forth are strokes and blobs, some of them like digits.'
test, best = data.digits("test"), found.table[0]["axis"]
A, B = test[:8], test[8:16]
with torch.no_grad(): z = real.encode(test)
rows = {"image A": A, "image B": B, "code of A": real.decode(z[:8]),
        f"axis {best} of A": decode_axes(real, z[:8], [best]),
        "switch to B": switch(real, A, z[8:16], -1.0), "unguided": unguided(real, 8),
        "back and forth": back_and_forth(real, 8, eta=1.0, order=1)}  # fmt: skip
fig, grid = plt.subplots(len(rows), 8, figsize=(6, 4.8))
for line, (name, pictures) in zip(grid, rows.items(), strict=True):
    for ax, picture in zip(line, pictures, strict=True):
        ax.imshow(picture[0], vmin=-1, vmax=1)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    line[0].set_ylabel(name, rotation=0, ha="right", va="center")

# %% [markdown]
# ## What can go wrong
#
# * **Adding up axes.** Their areas are the information only if the guidance is exact and the cross term small; look at both.
# * **Axes that follow the noise.** `at_noise` near 1 marks them; a noise-blind encoder may have some.
# * **Ranking by one column.** A fine detail has many nats and changes few pixels. The columns answer different questions.
# * **Switching at the wrong level.** Too little noise changes nothing, too much forgets A.
