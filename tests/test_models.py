"""Every model answers every call, at any image size, and the same way twice."""

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

import scoreae as sa
from scoreae.foundations.gaussians import Gaussian
from scoreae.foundations.scores import Denoiser
from scoreae.models.zoo import MODELS

ROOT = Path(__file__).resolve().parent.parent
SHAPES = [(1, 8, 8), (3, 12, 7), (1, 28, 28)]
EXTRA = {
    "SAMI": [{}, {"regime": "pinned"}, {"time_conditioned": True}, {"begin": "random"}],
    "DiffAE": [{}, {"weighting": "dbae"}, {"begin": "random"}],
    "DBAE": [{}, {"path": "ve"}, {"stochastic": True}, {"condition": "xT"}, {"condition": "z"},
             {"begin": "random"}],
}
CASES = [(kind, kw) for kind in MODELS for kw in EXTRA.get(kind.__name__, [{}])]
name_of = lambda case: case[0].__name__ + "".join(f"-{v}" for v in case[1].values())


def images(shape, n=6, seed=0): return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def make(case, shape, z_dim=3):
    torch.manual_seed(0)
    kind, kw = case
    return kind(shape, z_dim, **({} if kind is sa.PCA else {"width": 8}), **kw)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_the_contract(case, shape):
    model, x = make(case, shape), images(shape)
    sa.fit(model, x, steps=2, batch_size=4, progress=False)
    q, z = model.posterior(x), model.encode(x)
    assert isinstance(q, torch.distributions.Distribution) and torch.equal(q.mean, z) and z.shape == (6, 3)
    assert q.rsample().shape == z.shape and q.log_prob(z).shape == (6,)
    xT = model.endpoint(z)
    assert xT is None or xT.shape == x.shape
    with torch.no_grad(): assert model.denoiser(z, xT)(x, torch.full((6,), 0.5 * model.path.T)).shape == x.shape
    for mode in ("point", "sample"): assert model.reconstruct(x, mode=mode, steps=3).abs().max() <= 1
    assert model.sample(2, steps=3).shape == (2, *shape)
    assert model.interpolate(x[0], x[1], n=3, steps=2).shape == (3, *shape)
    b = model.bound(x, n=2)
    deterministic = isinstance(q, sa.Delta)
    assert b.covers == ("log p(x|z)" if deterministic else "log p(x)") and math.isfinite(b.total) and b.stderr_mc >= 0
    assert abs(b.total + sum(b.terms.values())) < 1e-6 * abs(b.total) and b.bits_per_dim is None
    if deterministic: assert model.bound(x, n=2, tau=0.5).covers == "log p(x)"


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_save_and_load(case, tmp_path):
    model, x = make(case, (1, 8, 8)), images((1, 8, 8))
    sa.fit(model, x, steps=2, progress=False)
    model.save(tmp_path / "m")
    again = sa.load(tmp_path / "m")
    assert type(again) is type(model) and again.config == model.config and again.trained == model.trained
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in model.state_dict().items())
    assert torch.equal(again.sample(3), model.sample(3)) and again.stats == model.stats
    assert again.bound(x, levels=None, n=2).total == model.bound(x, levels=None, n=2).total


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_loading_in_any_state_of_torch(case, tmp_path):
    "Neither the default dtype, nor inference mode, nor the random state matters to a loaded model, or is changed."
    model = make(case, (1, 8, 8))
    sa.fit(model, images((1, 8, 8)), steps=1, progress=False)
    model.save(tmp_path)
    torch.set_default_dtype(torch.float64)
    try:
        before = torch.get_rng_state()
        with torch.inference_mode(): again = sa.load(str(tmp_path))
        assert torch.equal(before, torch.get_rng_state())
    finally: torch.set_default_dtype(torch.float32)
    assert {k: v.dtype for k, v in again.state_dict().items()} == {k: v.dtype for k, v in model.state_dict().items()}
    assert torch.equal(again.sample(2), model.sample(2))
    sa.fit(again, images((1, 8, 8)), steps=1, progress=False)  # and it can be trained on


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_any_floating_precision_of_images(case):
    model, x = make(case, (1, 8, 8)).eval(), images((1, 8, 8))
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        assert model.encode(x.to(dtype)).dtype == torch.float32
        assert torch.allclose(model.reconstruct(x.double(), steps=2), model.reconstruct(x, steps=2), atol=1e-5)
        assert model.decode(model.encode(x).to(dtype), steps=1).dtype == torch.float32


def test_arguments_are_recorded_for_any_class(tmp_path):
    class Mine(sa.AE):
        def __init__(self, shape, *, size=np.int64(3)): super().__init__(shape, int(size), width=8)

    class Yours(Mine): pass

    for kind in (Mine, Yours):
        model = kind(torch.Size((1, 8, 8)))
        assert model.config == {"shape": [1, 8, 8], "size": 3} and type(model.config["size"]) is int
        model.save(tmp_path / kind.__name__)
        assert type(kind.load(tmp_path / kind.__name__)) is kind
        with pytest.raises(ValueError, match="a model of this library"): sa.load(tmp_path / kind.__name__)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_seeds_decide_everything(case, digits):
    runs = []
    for _ in range(2):
        model = make(case, (1, 8, 8))
        torch.manual_seed(123)  # the global state must not matter once the weights are made
        sa.fit(model, digits["train"][0], steps=3, progress=False, seed=4)
        torch.rand(7)
        runs.append((model.sample(4, seed=1), model.reconstruct(digits["test"][0][:4], "sample", seed=2)))
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    before = torch.get_rng_state()
    model.sample(2), model.bound(digits["test"][0][:4], n=2), model.encode(digits["test"][0][:4])
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_results_do_not_depend_on_the_batch(case, digits):
    "No image sees another: codes and points of a subset are the subset of codes and points."
    model, x = make(case, (1, 8, 8)).eval(), digits["test"][0][:12]
    assert torch.allclose(model.encode(x)[3:5], model.encode(x[3:5]), atol=1e-5)
    assert torch.allclose(model.reconstruct(x, steps=3)[3:5], model.reconstruct(x[3:5], steps=3), atol=1e-4)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad], ids=lambda m: m.__name__)
def test_guidance_survives_every_gradient_mode(mode, digits):
    model, x = make((sa.SAMI, {}), (1, 8, 8)).eval(), digits["test"][0][:3]
    reference = model.reconstruct(x, steps=4)
    with mode(): again = model.reconstruct(x, steps=4)
    assert torch.equal(reference, again) and not again.requires_grad


def test_point_and_sample_of_a_trained_bridge(digits):
    "A trained DBAE: a point is one image per code; samples scatter, and their mean is closer than one of them."
    model = make((sa.DBAE, {}), (1, 8, 8), z_dim=8)
    sa.fit(model, digits["train"][0], steps=150, lr=2e-3, progress=False)
    x = digits["test"][0][:50]
    point = model.reconstruct(x)
    assert torch.equal(point, model.reconstruct(x, seed=5))
    draws = torch.stack([model.reconstruct(x, "sample", seed=s) for s in range(8)])
    error = lambda y: (y - x).square().mean()
    assert error(draws.mean(0)) < error(draws[0]) and error(point) < error(draws[0])
    assert draws.std(0).mean() > 0.02


def test_more_steps_converge(digits):
    "With clipping and all: halving the step again and again changes the point less and less."
    model = make((sa.DBAE, {}), (1, 8, 8), z_dim=8)
    sa.fit(model, digits["train"][0], steps=100, lr=2e-3, progress=False)
    z = model.encode(digits["test"][0][:20])
    at = [model.decode(z, steps=n) for n in (4, 8, 16, 32, 64)]
    change = [(a - b).square().mean().sqrt().item() for a, b in pairwise(at)]
    assert change == sorted(change, reverse=True) and change[-1] < 0.01


def test_preconditioning_constants_are_stored_and_used(tmp_path, digits):
    "The released bridge code samples with other constants than it trains with; here they cannot differ."
    model = make((sa.DBAE, {}), (1, 8, 8))
    sa.fit(model, digits["train"][0], steps=20, progress=False)
    assert abs(model.stats.var0 - digits["train"][0].square().mean()) < 0.05 and model.stats.varT != 0.25
    model.save(tmp_path / "m")
    D = sa.load(tmp_path / "m").denoiser(torch.zeros(1, 3), torch.zeros(1, 1, 8, 8))
    assert isinstance(D, Denoiser) and D.stats == model.stats


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_on_a_gpu(case, digits):
    model, x = make(case, (1, 8, 8)), digits["train"][0][:64]
    sa.fit(model, x, steps=3, progress=False)
    assert model.device.type == "cuda"
    z = model.encode(x)
    assert z.device == x.device and model.decode(z, steps=2).device == x.device
    assert math.isfinite(model.bound(x, levels=17, n=2).total)
    on_gpu = model.encode(x)
    assert torch.allclose(on_gpu, model.to("cpu").encode(x), atol=1e-3)


ANSWERS = {  # of models that were saved before models began as Gaussians: mean of points, deviation of codes
    "digits-ae": (-0.378102, 0.514196),
    "digits-dbae": (-0.27141, 1.448309),
    "digits-diffae": (-0.218717, 1.923211),
    "digits-sami": (-0.535872, 1.840105),
    "fashion-dbae": (-0.106757, 1.464507),
    "fashion-diffae": (-0.287547, 1.481438),
    "fashion-sami": (0.048309, 2.162527),
    "patches-sami": (0.634444, 1.362434),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_models_of_format_1_answer_as_before(name):
    model = sa.load(ROOT / "weights" / name)
    x = (torch.rand(4, *model.shape, generator=torch.Generator().manual_seed(0)) * 16).round() / 8 - 1
    assert model.gaussian is None and model.config.get("begin", "random") in ("random", "linear")
    found = float(model.reconstruct(x).double().mean()), float(model.encode(x).double().std())
    assert found == pytest.approx(ANSWERS[name], abs=2e-4)


@pytest.mark.parametrize("kind", [sa.AE, sa.VAE, sa.DiffAE, sa.DBAE, sa.SAMI])
def test_a_gaussian_beginning_is_saved_and_fitted_once(kind, tmp_path):
    torch.manual_seed(0)
    x = sa.data.digits()[:300]
    model = kind((1, 8, 8), 4, width=8).eval()
    model.prepare(x)
    axes, before = model.gaussian.axes.clone(), model.reconstruct(x[:5])
    model.prepare(-x)
    assert torch.equal(model.gaussian.axes, axes) and model.gaussian.fitted
    model.save(tmp_path / "m")
    again = sa.load(tmp_path / "m")
    assert json.loads((tmp_path / "m" / "config.json").read_text())["format"] == 3
    assert torch.equal(again.reconstruct(x[:5]), before)


@pytest.mark.parametrize("name", ["AE", "VAE", "DiffAE", "DBAE-d", "DBAE", "SAMI, told level", "SAMI"])
def test_an_untrained_model_is_not_behind_pca(name):
    "Points of models that have taken no step: within 10 % of PCA, stochastic codes within 15 %."
    torch.manual_seed(0)
    x, test = sa.data.digits(), sa.data.digits("test")
    pca, model = sa.PCA((1, 8, 8), 8), sa.make(name, (1, 8, 8), 8, width=8).eval()
    for m in (pca, model): m.prepare(x)
    error = lambda m: float((m.reconstruct(test, steps=25) - test).square().mean())
    assert error(model) < (1.1 if name in ("AE", "DiffAE", "DBAE-d") else 1.15) * error(pca)


@pytest.mark.parametrize("begin", ["gaussian", "random"])
def test_a_beginning_moves_with_the_model(begin):
    torch.manual_seed(0)
    model = sa.DiffAE((1, 8, 8), 4, width=8, begin=begin).eval()
    x = sa.data.digits()[:50]
    model.prepare(x)
    single = model.reconstruct(x[:3])
    double = model.double().reconstruct(x[:3].double())
    torch.testing.assert_close(single.double(), double, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", [sa.AE, sa.DiffAE, sa.DBAE, sa.SAMI])
def test_no_steps_give_the_gaussian(kind, tmp_path):
    torch.manual_seed(0)
    x, model = sa.data.digits(), kind((1, 8, 8), 8, width=8)
    begun = kind((1, 8, 8), 8, width=8).eval()
    begun.load_state_dict(model.state_dict())
    begun.prepare(x)
    done = sa.fit(model, x, steps=0, run=tmp_path / "run", progress=False)
    assert done.steps == 0 and model.trained["model"] == "the Gaussian it begins as"
    assert torch.equal(model.encode(x[:9]), begun.encode(x[:9]))
    assert model.sample(2).isfinite().all() and int(model.seen) == (kind is not sa.AE)
    pca = sa.PCA((1, 8, 8), 8)
    pca.prepare(x)
    error = lambda m: float((m.reconstruct(x[:300]) - x[:300]).square().mean())
    assert error(model) < 1.15 * error(pca)
    random = kind((1, 8, 8), 8, width=8, begin="random")
    sa.fit(random, x, steps=0, progress=False)
    assert "model" not in random.trained


ODD = {
    "two images": lambda x: x[:2],
    "fewer images than directions": lambda x: x[:20],
    "one image many times": lambda x: x[:1].expand(50, -1, -1, -1).clone(),
    "constant images": lambda x: torch.zeros_like(x[:50]),
    "a dead channel": lambda x: torch.cat([x[:, :2], torch.full_like(x[:, 2:], -1.0)], 1),
    "no remainder": lambda x: x.mean((2, 3), keepdim=True).expand_as(x).clone(),
    "one value that changes": lambda x: torch.nn.functional.pad(x[:, :, :1, :1], (0, 11, 0, 11)),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("kind", [sa.SAMI, sa.DBAE, sa.DiffAE])
def test_odd_images_have_a_gaussian(odd, kind):
    torch.manual_seed(0)
    x = ODD[odd](torch.rand(200, 3, 12, 12, generator=torch.Generator().manual_seed(1)) * 2 - 1)
    model = kind((3, 12, 12), 4, width=8)
    sa.fit(model, x, steps=2, batch_size=8, progress=False)
    for mode in ("point", "sample"): assert model.reconstruct(x[:2], mode, steps=4).isfinite().all()
    assert model.sample(2, steps=4).isfinite().all() and math.isfinite(model.bound(x[:2]).total)


def test_scales_of_bands_are_found_and_explain_unlike_images():
    "Images of two strengths: the mixture is likelier than the Gaussian, and knows which is which."
    g = torch.Generator().manual_seed(0)
    strong = torch.arange(400) % 2
    x = torch.randn(400, 1, 16, 16, generator=g) * (0.02 + 0.3 * strong)[:, None, None, None]
    known = Gaussian((1, 16, 16), 4)
    known.fit(x)
    likely, noise = {}, torch.randn(x.shape, generator=g)
    for name in ("mixture", "Gaussian"):
        across = known.split(x.flatten(1) - known.center)[1]
        log_p = known.likely(known.energies(across), 0.0, 1.0)
        likely[name] = float(log_p.logsumexp(-1).sum(1).mean()) / 252
        guess = known.estimates(10 * x + noise, torch.full((400,), 100.0))[0]
        error = (guess - x).square().mean((1, 2, 3))
        best = 0.02**2 / (1 + 100 * 0.02**2), 0.32**2 / (1 + 100 * 0.32**2)
        far = [float(error[strong == s].mean()) / best[s] for s in (0, 1)]
        assert far[0] < 1.7 and far[1] < 1.1 if name == "mixture" else far[0] > 10
        known.one_scale()
    assert likely["mixture"] > likely["Gaussian"] + 0.5


def test_a_gaussian_of_format_2_has_one_variance_for_the_rest():
    g = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(192, 6, generator=g))[0].T
    l, rest, gamma = torch.rand(6, generator=g) + 0.1, torch.tensor(0.003), 10.0 ** torch.arange(-2.0, 5.0)
    known = Gaussian((3, 8, 8), 6)
    known.isotropic(torch.zeros(192), axes, l, rest, torch.tensor(1))
    v = (20 * torch.randn(7, 192, generator=g)).view(7, 3, 8, 8)  # unlike the Gaussian, which has but one scale
    Sigma = rest * torch.eye(192) + axes.T @ torch.diag(l - rest) @ axes
    for i, (image, noise) in enumerate(zip(*known.estimates(v, gamma), strict=True)):
        want = torch.linalg.solve((torch.eye(192) + gamma[i] * Sigma).double(), v[i].flatten().double())
        torch.testing.assert_close(noise.flatten().double(), want, atol=1e-4, rtol=1e-3)
        want = gamma[i].sqrt() * Sigma.double() @ want
        torch.testing.assert_close(image.flatten().double(), want, atol=1e-4, rtol=1e-3)
