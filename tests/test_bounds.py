"""No expected bound is above the data's E log q, whatever path, start, range, world, estimate; estimators agree."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scoreae.core.checks import rng
from scoreae.foundations.bounds import WEIGHTINGS, Bound, bound_terms, default_gamma_max, last_step, noise_levels
from scoreae.foundations.gaps import expected_bound
from scoreae.foundations.paths import VE, Pinned, VPCosine, VPLinear
from scoreae.foundations.worlds import GaussianWorld, Mixture, denoiser, log_density

PATHS = [VPCosine(-20.0), VPLinear(0.1, 40.0), VE(1e5)]
BRIDGES = [Pinned(VPLinear(0.1, 2.0)), Pinned(VE(80.0)), Pinned(VPCosine(-1.0))]


def random_world(seed: int, d: int, k: int) -> GaussianWorld:
    g = rng(seed)
    n = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)
    root = n(d, d)
    S = torch.rand(k, generator=g, dtype=torch.float64).add(0.05).diag()
    return GaussianWorld(n(d), root @ root.T / d + 0.05 * torch.eye(d), n(k, d), n(k), S)


def log_p(world: GaussianWorld) -> float: return -0.5 * torch.logdet(2 * math.pi * math.e * world.Sigma).item()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000), d=st.integers(1, 4), k=st.integers(1, 3), low=st.floats(-8, 0),
    width=st.floats(0.5, 14), which=st.integers(0, 5), pull=st.floats(0, 1.5), blur=st.floats(-0.5, 0.5),
)  # fmt: skip
def test_never_above(seed, d, k, low, width, which, pull, blur):
    "Diffusions and bridges, right and wrong estimates: a multiple of the exact correction, and an error linear in z."
    world = random_world(seed, d, k)
    path, start = (PATHS + BRIDGES)[which], "prior" if which < 3 else "model"
    end = rng(seed + 1)
    W = torch.randn(k, d, generator=end, dtype=torch.float64)
    endpoint = (lambda z: None) if which < 3 else (lambda z: z @ W)

    def estimate(z, xT):
        exact, mean = world.denoiser(path, z, xT), world.mean_given_z(z)
        return lambda x_t, t: mean + pull * (exact(x_t, t) - mean) + blur * (z @ W)

    if which < 3: low = max(low, float(path.logsnr(path.T)))
    costs = expected_bound(world, estimate, path, math.exp(low), math.exp(low + width), start, endpoint, n=64)
    assert -sum(costs.values()) <= log_p(world) + 1e-9
    assert all(costs[name] >= -1e-9 for name in ("denoising", "start", "rate"))


@pytest.mark.parametrize("path", BRIDGES, ids=str)
def test_a_bridge_with_the_exact_estimate_is_as_tight_as_a_diffusion(path):
    "Same world, same code: what is left of the gap is the same, though the endpoint is arbitrary."
    world = random_world(3, 3, 2)
    W = torch.randn(2, 3, generator=rng(0), dtype=torch.float64)
    ends, plain = (math.exp(-16), math.exp(16)), PATHS[0]
    exact = lambda p: lambda z, xT: world.denoiser(p, z, xT)
    bridge = expected_bound(world, exact(path), path, *ends, "model", lambda z: z @ W, n=128)
    diffusion = expected_bound(world, exact(plain), plain, *ends, "prior", n=128)
    assert abs(sum(bridge.values()) - sum(diffusion.values())) < 1e-4


@pytest.mark.parametrize(
    ("path", "start"),
    [(PATHS[0], "prior"), (PATHS[2], "prior"), (BRIDGES[0], "model"), (BRIDGES[1], "model")],
    ids=str,
)
def test_the_estimator_is_unbiased(path, start):
    "Monte Carlo terms within four standard errors of their exact expectations, term by term."
    world = random_world(5, 3, 2)
    W = torch.randn(2, 3, generator=rng(0), dtype=torch.float64)
    endpoint = (lambda z: z @ W) if start == "model" else (lambda z: None)
    estimate, ends = (lambda z, xT: world.denoiser(path, z, xT)), (math.exp(-7), math.exp(7))
    exact = expected_bound(world, estimate, path, *ends, start, endpoint)
    x0, _, z = world.draw(torch.randn(20_000, 8, generator=rng(1), dtype=torch.float64))
    xT = endpoint(z)
    terms = bound_terms(estimate(z, xT), path, x0, *ends, start, xT=xT, n=8, seed=2)
    for name, values in terms.items():
        assert abs(values.mean() - exact[name]) < 4 * values.std() / len(values) ** 0.5 + 1e-9, name


def test_grey_levels_give_a_probability():
    "With an exact denoiser of discrete data the bound is close to the entropy of the levels, and never above E log P."
    levels = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]
    P = torch.tensor([0.4, 0.1, 0.2, 0.05, 0.25], dtype=torch.float64)
    data = Mixture(P, levels, 1e-12 * torch.ones(5, 1, 1, dtype=torch.float64))
    path = VPCosine(-12.0)
    x0 = levels[torch.multinomial(P, 40_000, replacement=True, generator=rng(0))]
    run = lambda s: bound_terms(denoiser(data, path), path, x0, math.exp(-12), 400.0, "prior", levels=5, n=16, seed=s)
    b = Bound([run(1), run(2)], 1, 400.0, 5)
    entropy = -(P * P.log()).sum().item()
    assert abs(-b.total - entropy) < 4 * (b.stderr_mc + b.stderr_data) + 1e-3
    assert abs(b.bits_per_dim - entropy / math.log(2)) < 0.05


@settings(max_examples=40, deadline=None)
@given(levels=st.integers(2, 40), log_gamma=st.floats(-3, 14), size=st.floats(0, 100), seed=st.integers(0, 1000))
def test_the_last_step_sums_over_all_levels(levels, log_gamma, size, seed):
    "The window around y against the full sum, wherever y is."
    g, gamma, grey = rng(seed), math.exp(log_gamma), torch.linspace(-1, 1, levels, dtype=torch.float64)
    k = torch.randint(0, levels, (3, 4), generator=g)
    eps = size * torch.randn(3, 4, generator=g, dtype=torch.float64)
    logits = -gamma / 2 * ((grey[k] + eps / gamma**0.5)[..., None] - grey) ** 2
    every = -torch.log_softmax(logits, -1).gather(-1, k[..., None])[..., 0].sum(1)
    got = last_step(grey[k], gamma, levels, eps)
    assert (got - every).abs().max() < 1e-9 * (1 + every.max())


@pytest.mark.parametrize("levels", [2, 17, 256, 2**16])
def test_float32_images_lie_on_their_levels(levels):
    x = (torch.randint(0, levels, (4, 3), generator=rng(0)) / (levels - 1) * 2 - 1).float()
    assert last_step(x, default_gamma_max(levels), levels, torch.zeros(4, 3)).max() < 1e-3
    with pytest.raises(ValueError, match="equally spaced"): last_step(x - 0.3 / levels, 1.0, levels, torch.zeros(4, 3))
    with pytest.raises(ValueError, match="equally spaced"): last_step(x + 2, 1.0, levels, torch.zeros(4, 3))


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("path", PATHS + BRIDGES, ids=str)
def test_levels_are_in_range_and_reproducible(path, weighting):
    draw = lambda: noise_levels(path, 33, weighting, rng(4), 0.01, 1e4)
    (t, w), again = draw(), draw()
    assert t.dtype == w.dtype == torch.float64 and (w > 0).all() and w.isfinite().all()
    assert (path.gamma(t) > 0.01 * (1 - 1e-9)).all() and (path.gamma(t) < 1e4 * (1 + 1e-9)).all()
    assert torch.equal(t, again[0]) and torch.equal(w, again[1])


def test_stderr_data_is_total():
    "With noise levels as the only randomness, the spread over images cannot be less than Monte Carlo's part."
    data = Mixture(torch.ones(1), torch.zeros(1, 1), torch.full((1, 1, 1), 0.3))
    path, x0 = VPCosine(), torch.zeros(4000, 1)
    run = lambda s: bound_terms(denoiser(data, path), path, x0, math.exp(-10), math.exp(8), "prior", n=4, seed=s)
    b = Bound([run(0), run(1), run(2)], 1, math.exp(8))
    assert 0.9 < b.stderr_mc / b.stderr_data < 1.1
    assert math.isnan(Bound([{"a": torch.ones(1)}] * 2, 1, 1.0).stderr_data)


def test_stderr_mc_is_the_true_standard_error():
    "The reported Monte Carlo error matches the spread of many independent bounds of the same images."
    data = Mixture(torch.ones(1), torch.zeros(1, 1), torch.full((1, 1, 1), 0.3))
    path, x0 = VPCosine(), data.sample(50, seed=0)
    run = lambda s: bound_terms(denoiser(data, path), path, x0, math.exp(-10), math.exp(8), "prior", n=4, seed=s)
    many = [Bound([run(2 * i), run(2 * i + 1)], 1, math.exp(8)) for i in range(120)]
    spread = torch.tensor([b.total for b in many]).std().item()
    claimed = (sum(b.stderr_mc**2 for b in many) / len(many)) ** 0.5
    assert 0.8 < claimed / spread < 1.25


def test_log_density_of_the_oracle_integrates_to_one():
    data = Mixture(torch.tensor([0.3, 0.7]), torch.tensor([[-1.0], [0.5]]), torch.tensor([[[0.2]], [[0.05]]]))
    grid = torch.linspace(-6, 6, 40_001, dtype=torch.float64)[:, None]
    assert abs(torch.trapezoid(log_density(data, grid).exp(), grid[:, 0]) - 1) < 1e-9
