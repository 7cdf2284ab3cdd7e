"""DBAE, whole: latent prior, noisy endpoint, edits, and what must raise."""

import json
import math

import pytest
import torch

import scoreae as sa
from scoreae.foundations import samplers
from scoreae.foundations.scores import Denoiser
from scoreae.use.edits import axis_direction, edit, fit_direction, invert, morph, walk

KINDS = ("DBAE-d", "DBAE", "DiffAE", "SAMI", "AE", "PCA")


def make(name, digits, steps=3):
    torch.manual_seed(0)
    model = sa.make(name, (1, 8, 8), 3, width=8)
    sa.fit(model, digits["train"][0][:200], steps=steps, batch_size=16, progress=False, device="cpu")
    return model


@pytest.mark.parametrize("name", KINDS)
def test_a_latent_prior_for_every_model(name, digits, tmp_path):
    model, x = make(name, digits), digits["test"][0][:20]
    gaussian = model.prior
    state = torch.get_rng_state()
    prior = sa.fit_latent(model, digits["train"][0][:200], steps=20, width=16, depth=1)
    assert model.prior is prior and torch.equal(prior.mean, gaussian.mean) and torch.equal(prior.root, gaussian.root)
    assert torch.equal(state, torch.get_rng_state())
    assert prior.history[0] == {"step": 0, "gain": 0.0} and prior.history[-1]["step"] == 20
    again = sa.fit_latent(model, digits["train"][0][:200], steps=20, width=16, depth=1)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in prior.state_dict().items())
    codes = model.prior.sample(5, seed=0)
    assert codes.shape == (5, 3) and codes.dtype == gaussian.mean.dtype and codes.isfinite().all()
    tau = {"tau": 0.3} if isinstance(model.posterior(x), sa.Delta) else {}
    b = model.bound(x, 17, **tau)
    assert b.covers == "log p(x)" and math.isfinite(b.total)
    model.save(tmp_path / "m")
    there = sa.load(tmp_path / "m")
    assert isinstance(there.prior, sa.DiffusionPrior)
    assert torch.equal(there.sample(3, steps=3), model.sample(3, steps=3))
    assert there.bound(x, 17, **tau).total == b.total
    sa.fit(there, digits["train"][0][:100], steps=2, progress=False, device="cpu")  # goes on, and the prior with it
    assert isinstance(there.prior, sa.DiffusionPrior) and there.sample(2, steps=2).isfinite().all()


def test_a_model_saved_before_there_were_latent_priors(digits, tmp_path):
    model = make("AE", digits)
    model.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config.pop("prior") == {"class": "GaussianPrior"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert torch.equal(sa.load(tmp_path).sample(2), model.sample(2))
    (tmp_path / "config.json").write_text(json.dumps({**config, "prior": {"class": "os.system"}}))
    with pytest.raises(ValueError, match="folder: expected the arguments"): sa.load(tmp_path)


def test_the_rate_of_noised_codes_is_never_below_the_divergence():
    "Gaussian codes: the exact rate of any tau is known; a prior trained on clean codes must stay above it, and close."
    mix = torch.tensor([[1.0, 0, 0], [2, 1, 0], [0, 0, 9]])
    z = torch.randn(600, 3, generator=torch.Generator().manual_seed(0)) @ mix
    prior = sa.DiffusionPrior(3, width=16, depth=1, steps=40).fit(z, torch.zeros_like(z))
    exact = sa.GaussianPrior(3).fit(z, torch.zeros_like(z))
    for tau in (0.05, 0.5, 3.0):
        (std, ours), (same, true) = prior.noised(tau), exact.noised(tau)
        assert torch.allclose(std, same) and torch.allclose(ours.cov, true.cov)
        difference = ours.rate(z, (std**2).expand_as(z)) - true.rate(z, (std**2).expand_as(z))
        assert abs(difference.mean()) < 0.05 + 4 * difference.std() / len(z) ** 0.5
        draws = ours.sample(2000, seed=1)
        assert (draws.std(0) / true.std - 1).abs().max() < 0.1


def test_latent_bad_input(digits):
    model = make("AE", digits)
    with pytest.raises(ValueError, match="20 images"): sa.fit_latent(model, digits["train"][0][:10])
    with pytest.raises(ValueError, match="steps: expected"): sa.fit_latent(model, digits["train"][0][:30], steps=0)
    with pytest.raises(ValueError, match="x: expected"): sa.fit_latent(model, digits["train"][0][:30, :, :4])
    prior = sa.DiffusionPrior(2)
    lost = torch.full((30, 2), math.nan)
    with pytest.raises(ValueError, match="mean: expected finite"): prior.fit(lost, torch.zeros(30, 2))
    with pytest.raises(ValueError, match="tau: expected"): prior.noised(0.0)


def test_a_noisy_endpoint(digits, tmp_path):
    x = digits["test"][0][:30]
    torch.manual_seed(0)
    model = sa.DBAE((1, 8, 8), 3, width=8, stochastic=True, kl_weight=0.1, tc_weight=0.5, endpoint_noise=0.3)
    done = sa.fit(model, digits["train"][0], steps=20, progress=False, log_every=10, device="cpu")
    assert {"rate", "spread", "total correlation", "denoising"} < set(done.history[0])
    assert model.images == len(digits["train"][0])
    assert torch.equal(model.reconstruct(x), model.reconstruct(x, seed=3))
    assert torch.equal(model.reconstruct(x, "sample", seed=3), model.reconstruct(x, "sample", seed=3))
    model.save(tmp_path)
    again = sa.load(tmp_path)
    assert again.endpoint_noise == 0.3 and again.tc_weight == 0.5
    assert again.bound(x, 17, n=4).total == model.bound(x, 17, n=4).total
    for name in ("tc_weight", "endpoint_noise"):
        with pytest.raises(ValueError, match=f"{name}: expected"): sa.DBAE((1, 8, 8), 3, **{name: -1.0})


def test_tampering_with_the_preconditioning_raises(digits, tmp_path):
    "The constants are in the weights' file, and that file has a checksum: the released code's defect cannot happen."
    from safetensors.torch import load_file, save_file

    model = make("DBAE-d", digits)
    model.save(tmp_path)
    file = next(tmp_path.glob("*.safetensors"))
    weights = load_file(file)
    assert torch.equal(weights["moments"], model.moments) and model.moments[1] != 0.25
    weights["moments"] = weights["moments"] * 0.5
    save_file(weights, file)
    with pytest.raises(ValueError, match="damaged weights"): sa.load(tmp_path)


def test_constants_of_training_and_sampling_are_the_same(digits):
    "What a sampling model uses is what its last training step used, whichever way it is asked."
    model = make("DBAE-d", digits)
    x, z = digits["test"][0][:4], model.encode(digits["test"][0][:4])
    D = model.denoiser(z, model.endpoint(z))
    assert isinstance(D, Denoiser) and D.stats == model.stats
    before = model.moments.clone()
    model.decode(z), model.bound(x, n=2), model.sample(2)
    assert torch.equal(before, model.moments)


@pytest.mark.parametrize("name", KINDS)
def test_edits_of_every_model(name, digits):
    model, (x, y) = make(name, digits), digits["train"]
    direction = fit_direction(model, x[:200], y[:200] == 0)
    ink = fit_direction(model, x[:200], x[:200].mean((1, 2, 3)))
    z = model.encode(x[:5])
    for d in (direction, ink, axis_direction(model, 1)):
        gained = d.value(d.move(z, 1.5)) - d.value(z)
        assert torch.allclose(gained, torch.full((5,), 1.5 * float(d.weight.norm())).to(gained), atol=1e-3)
    same = edit(model, x[:3], ink, [0.0, 1.0], steps=4)
    assert same.shape == (2, 3, 1, 8, 8) and torch.equal(same[0], model.reconstruct(x[:3], steps=4))
    held = edit(model, x[:3], ink, [0.0], hold=True, steps=60)[0]
    if model.endpoint(z) is not None: assert torch.allclose(held, model.reconstruct(x[:3], steps=60), atol=1e-5)
    elif name in ("DiffAE", "SAMI"): assert (held - x[:3]).square().mean() < 2e-3  # the noise held all of the image


def test_edit_bad_input(digits):
    dbae, diffae, (x, y) = make("DBAE-d", digits), make("DiffAE", digits), digits["train"]
    with pytest.raises(ValueError, match="model: expected a diffusion"): invert(dbae, x[:2])
    with pytest.raises(ValueError, match="model: expected a diffusion"): morph(dbae, x[0], x[1])
    with pytest.raises(ValueError, match="x0: expected one image"): morph(diffae, x[:1], x[1])
    with pytest.raises(ValueError, match="y: expected one value for each"): fit_direction(dbae, x[:20], y[:10] == 0)
    with pytest.raises(ValueError, match="y: expected two or more"): fit_direction(dbae, x[:20], torch.ones(20))
    with pytest.raises(ValueError, match="y: expected two or more"): fit_direction(dbae, x[:20], y[:20])
    with pytest.raises(ValueError, match="amount: expected"): edit(dbae, x[:2], axis_direction(dbae, 0), [math.nan])
    with pytest.raises(ValueError, match="axis: expected"): axis_direction(dbae, 3)
    with pytest.raises(ValueError, match="steps: expected"): invert(diffae, x[:2], steps=2)
    with pytest.raises(ValueError, match="xT: expected"): samplers.sample(lambda x, t: x, dbae.path, x[:2])
    assert walk(diffae, diffae.encode(x[:2]), invert(diffae, x[:2]), 40).shape == (2, 1, 8, 8)


def test_an_endpoint_that_training_has_never_seen(digits):
    model, x = make("DBAE-d", digits), digits["test"][0][:4]
    z, before = model.encode(x), {k: v.clone() for k, v in model.state_dict().items()}
    with torch.no_grad():
        xT = model.endpoint(z)
        model.denoiser(z, 3 * xT)  # larger, but not absurd
        for far in (1e3 * (xT.abs() + 0.1), torch.full_like(xT, math.nan), torch.full_like(xT, math.inf)):
            with pytest.raises(ValueError, match="xT: expected endpoints of at most"): model.denoiser(z, far)
    with pytest.raises(ValueError, match="z: expected finite codes"): model.decode(z * math.nan)
    with pytest.raises(ValueError, match="z: expected finite codes"): model.decode(z[:, :2])
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items()) and model.decode(z).isfinite().all()


def test_a_bridge_whose_end_is_lost_in_noise():
    "At T the SNR of the reference path must be more than rounding, or the pin says nothing."
    for far in (sa.VPLinear(0.1, 80.0), sa.VPLinear(0.1, 2000.0), sa.VPCosine(-60.0)):
        with pytest.raises(ValueError, match="base: expected SNR_T > "): sa.Pinned(far)
        with pytest.raises(ValueError, match="base: expected SNR_T > "): sa.DBAE((1, 8, 8), 3, width=8, path=far)


def test_constants_of_another_model_raise(digits, tmp_path):
    "A checkpoint's constants travel with its weights: weights without them, or with others', are not loaded."
    from safetensors.torch import load_file, save_file

    one, other = make("DBAE-d", digits), make("DBAE-d", digits, steps=6)
    assert not torch.equal(one.moments, other.moments)
    weights = {k: v for k, v in one.state_dict().items() if k != "moments"}
    with pytest.raises(RuntimeError, match="moments"): other.load_state_dict(weights)
    one.save(tmp_path / "one"), other.save(tmp_path / "other")
    file, swapped = (next((tmp_path / k).glob("*.safetensors")) for k in ("one", "other"))
    mixed = load_file(file) | {"moments": load_file(swapped)["moments"]}
    save_file(mixed, file)
    with pytest.raises(ValueError, match="damaged weights"): sa.load(tmp_path / "one")
    with pytest.raises(ValueError, match="damaged weights"): sa.DBAE.load(tmp_path / "one")


def test_sampling_before_any_training():
    model = sa.DBAE((1, 8, 8), 3, width=8)
    with pytest.raises(ValueError, match="model: expected one that has seen training images"): model.sample(2)
    assert model.decode(torch.zeros(2, 3)).shape == (2, 1, 8, 8)  # decoding given codes is no sampling
