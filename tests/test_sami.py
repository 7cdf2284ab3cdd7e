"""SAMI on denoisers from elsewhere: frozen means frozen, saving says what it kept, bad input is named."""

import importlib
import json
import math
from pathlib import Path

import pytest
import torch

import scoreae as sa
from scoreae.core.checks import rng
from scoreae.foundations.paths import VPCosine, VPLinear
from scoreae.models.pretrained import Discrete, Given, Timed, from_diffusers
from scoreae.models.sami import ANNEALS, Guided, Shown, annealed
from scoreae.use.elsewhere import export_encoder
from scoreae.use.guidance import back_and_forth, decode_axes, switch, unguided, watch

SHAPE = (1, 8, 8)
ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"


def images(n=12, seed=0): return torch.rand(n, *SHAPE, generator=rng(seed)) * 2 - 1


class Net(torch.nn.Module):
    "A stranger's denoiser, with dropout that must stay off."

    def __init__(self):
        super().__init__()
        self.conv, self.drop = torch.nn.Conv2d(1, 1, 3, padding=1), torch.nn.Dropout(0.5)

    def forward(self, x_t, t): return self.drop(self.conv(x_t))


def unet():
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    kw = {"sample_size": 8, "in_channels": 1, "out_channels": 1, "layers_per_block": 1, "norm_num_groups": 4}
    types = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    return diffusers.UNet2DModel(block_out_channels=(8, 8), **types, **kw).eval()


def scheduler(**kw):
    import diffusers

    return diffusers.DDPMScheduler(100, **kw)


def weights(module): return {k: v.clone() for k, v in module.state_dict().items()}


@pytest.mark.parametrize("noise", ["stratified", "uniform", "high"])
@pytest.mark.parametrize(("told", "begin"), [(False, "random"), (True, "random"), (True, "linear")])
def test_frozen_is_frozen(noise, told, begin):
    torch.manual_seed(0)
    net, x = Net(), images()
    how = {"regime": "frozen", "noise": noise, "time_conditioned": told, "begin": begin}
    model = sa.SAMI(SHAPE, 3, width=8, path=VPLinear(), denoiser=net, **how)
    before, before_e = weights(net), weights(model.encoder_net)
    sa.fit(model, x, steps=5, lr=1e-2, progress=False)
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in before.items()) and not net.training
    assert any(not torch.equal(v, model.encoder_net.state_dict()[k]) for k, v in before_e.items())
    assert not any(p.requires_grad or p.grad is not None for p in net.parameters())
    assert model.sample(2, steps=2).shape == (2, *SHAPE) and math.isfinite(model.bound(x, n=2).total)


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_diffusers_from_folder_to_model_and_back(tmp_path, kind):
    from diffusers import DDPMPipeline
    from diffusers.utils.logging import disable_progress_bar

    disable_progress_bar()
    DDPMPipeline(unet(), scheduler(prediction_type=kind)).save_pretrained(tmp_path / "p")
    given, x = from_diffusers(tmp_path / "p"), images()
    model = sa.SAMI(SHAPE, 3, width=8, denoiser=given, regime="frozen")
    assert isinstance(model.path, Discrete) and model.gamma_max == float(model.path.gamma(0.01))
    before = weights(given)
    sa.fit(model, x, steps=3, progress=False)
    assert all(torch.equal(v, given.state_dict()[k]) for k, v in before.items())
    model.save(tmp_path / "m")
    again = sa.load(tmp_path / "m")  # rebuilt from config and weights: nothing has to be given
    assert torch.equal(again.sample(3, steps=4), model.sample(3, steps=4)) and again.config == model.config
    assert not any(p.requires_grad for p in again.net.parameters())
    t = torch.linspace(0.05, 1, len(x)).double()
    assert torch.equal(again.base()(x, t), model.base()(x, t))


def test_saving_strangers(tmp_path):
    torch.manual_seed(0)
    net = Net()
    model = sa.SAMI(SHAPE, 3, width=8, path=VPCosine(), denoiser=net, regime="frozen").eval()
    model.save(tmp_path / "m")
    with pytest.raises(ValueError, match="denoiser: expected the denoiser itself"): sa.SAMI.load(tmp_path / "m")
    again = sa.SAMI.load(tmp_path / "m", denoiser=Net(), path=VPCosine())
    assert torch.equal(again.sample(2, steps=3), model.sample(2, steps=3))
    function = sa.SAMI(SHAPE, 3, width=8, path=VPCosine(), denoiser=lambda x, t: 0.5 * x, regime="frozen")
    with pytest.raises(ValueError, match="denoiser: expected a module"): function.save(tmp_path / "n")
    assert not (tmp_path / "n").exists()
    own = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 6))
    mine = sa.SAMI(SHAPE, 3, width=8, encoder=own).eval()
    mine.save(tmp_path / "e")
    with pytest.raises(ValueError, match="encoder: expected a module"): sa.SAMI.load(tmp_path / "e")
    fresh = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 6))
    assert torch.equal(sa.SAMI.load(tmp_path / "e", encoder=fresh).encode(images()), mine.encode(images()))


def test_an_own_denoiser_can_be_frozen():
    torch.manual_seed(0)
    first = sa.SAMI(SHAPE, 3, width=8, regime="pinned")
    sa.fit(first, images(), steps=2, progress=False)
    second = sa.SAMI(SHAPE, 5, width=8, denoiser=first.base(), regime="frozen")
    assert second.path == first.path and second.net.network[0] is first.net
    assert second.net.network[1] is first.gaussian  # it is part of the denoiser
    x, t = images(), torch.full((12,), 0.4).double()
    with torch.no_grad(): assert torch.equal(second.base()(x, t), first.base()(x, t))


@pytest.mark.parametrize(("name", "kw"), [
    ("denoiser", {"regime": "frozen"}),
    ("denoiser", {"denoiser": 3, "path": VPCosine()}),
    ("denoiser", {"denoiser": lambda x, t: x[..., :4], "path": VPCosine()}),
    ("denoiser", {"denoiser": torch.nn.Conv2d(3, 3, 1), "path": VPCosine()}),
    ("path", {"denoiser": lambda x, t: x}),
    ("path", {"denoiser": Given(lambda x, t: x, VPLinear()), "path": VPCosine()}),
    ("encoder", {"encoder": torch.nn.Flatten()}), ("encoder", {"encoder": lambda x: x}),
    ("encoder", {"encoder": torch.nn.Linear(3, 6)}),
    ("anneal", {"anneal": "exponential"}), ("noise", {"noise": "low"}),
    ("noise", {"noise": "high", "weighting": "elbo"}), ("time_conditioned", {"time_conditioned": "gated"}),
    ("begin", {"begin": "linear"}), ("begin", {"begin": "pca", "time_conditioned": True}),
    ("std_floor", {"std_floor": 0.9, "time_conditioned": True}),
    ("begin", {"begin": "linear", "time_conditioned": True, "encoder": torch.nn.Flatten()}),
    ("z_dim", {"z_dim": 0}), ("kl_weight", {"kl_weight": -1e-3}),
])  # fmt: skip
def test_what_does_not_fit_is_named(name, kw):
    with pytest.raises(ValueError, match=rf"^{name}: expected"): sa.SAMI(SHAPE, **({"z_dim": 3, "width": 8} | kw))


def test_a_told_encoder_begins_linear_once():
    "The linear code is fitted before the first step of the first training, and never again."
    torch.manual_seed(0)
    model, x = sa.SAMI(SHAPE, 3, width=8, time_conditioned=True), images(40)
    assert (model.posterior(x).stddev - 1).abs().max() < 1e-6 and (model.encode(x) == 0).all()  # nothing is said before
    sa.fit(model, x, steps=2, progress=False)
    first = model.linear.axes.clone()
    torch.testing.assert_close(model.encode(x).var(0), torch.full((3,), 0.96), atol=0.1, rtol=0)
    sa.fit(model, images(40, seed=1), steps=2, progress=False)
    assert torch.equal(model.linear.axes, first)
    assert sa.SAMI(SHAPE, 3, width=8).config["begin"] == model.config["begin"] == "gaussian"
    assert sa.SAMI(SHAPE, 3, width=8, begin="random").linear is None


def test_a_linear_code_is_fitted_after_a_loop_of_ones_own():
    torch.manual_seed(0)
    model, x = sa.SAMI(SHAPE, 3, width=8, time_conditioned=True), images(40)
    model.train().loss(x, rng(0))  # nobody has called `prepare`
    sa.fit(model, x, steps=1, progress=False)
    assert model.linear.fitted and model.encode(x).std() > 0.5


def test_an_exported_encoder_is_encode(tmp_path):
    "Also where the cleanest level of the training is a noisy one."
    torch.manual_seed(0)
    model, x = sa.SAMI(SHAPE, 3, width=8, time_conditioned=True, gamma_max=math.exp(3)), images(40)
    sa.fit(model, x, steps=2, progress=False)
    found = export_encoder(model, tmp_path / "e.onnx").module()(x)
    torch.testing.assert_close(found, model.encode(x))
    reference = pytest.importorskip("onnx.reference")
    codes = reference.ReferenceEvaluator(str(tmp_path / "e.onnx")).run(None, {"images": x[:5].numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(codes), model.encode(x[:5]))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["e.onnx"]


def test_the_corrections_fade_in_noise():
    "In pure noise a told encoder that began linear says its prior, whatever its network has become."
    torch.manual_seed(0)
    model, x = sa.SAMI(SHAPE, 3, width=8, time_conditioned=True), images(40)
    sa.fit(model, x, steps=2, progress=False)
    for p in model.encoder_net.head.parameters(): torch.nn.init.normal_(p, std=16)  # the root of its inputs
    mean, std = model.codes(torch.randn(40, *SHAPE), torch.full((40,), -25.0))
    assert mean.abs().max() < 1e-4 and (std - 1).abs().max() < 1e-4
    mean, std = model.codes(x)
    assert mean.std() > 0.5 and std.std() > 0.1


def test_a_noise_blind_point_is_shown_noise():
    "It does not depend on the seed, on the batch, or on whether all axes are asked for one by one."
    torch.manual_seed(0)
    model, x = sa.SAMI(SHAPE, 3, width=8).eval(), images(600)
    z = 3 * model.encode(x)
    point = model.decode(z, steps=4)
    torch.testing.assert_close(point[:5], model.decode(z[:5], steps=4, seed=7))
    torch.testing.assert_close(point[-5:], model.decode(z[-5:], steps=4))
    assert isinstance(model.walker(z, None, "point"), Shown) and isinstance(model.walker(z, None, "sample"), Guided)
    told = sa.SAMI(SHAPE, 3, width=8, time_conditioned=True)
    assert isinstance(told.walker(z, None, "point"), Guided)
    with pytest.raises(ValueError, match="mode: expected one of"): told.walker(z, None, "dot")


def test_an_encoder_with_a_negative_deviation_is_named():
    class Odd(sa.SAMI):
        def codes(self, x, level=None):
            mean, std = super().codes(x, level)
            return mean, std - 10

    model = Odd(SHAPE, 3, width=8)
    with pytest.raises(ValueError, match="encoder: expected positive deviations, got 'a deviation of -"):
        model.loss(images(), rng(0))


def test_diverging_frozen_training_keeps_the_encoder():
    calls = []

    def D(x_t, t):
        calls.append(1)
        return x_t * (math.nan if len(calls) > 4 else 0.5)

    model = sa.SAMI(SHAPE, 3, width=8, path=VPCosine(), denoiser=D, regime="frozen")
    with pytest.raises(FloatingPointError, match="the loss is not finite at step"):
        sa.fit(model, images(), steps=20, progress=False)
    assert all(v.isfinite().all() for v in model.state_dict().values()) and model.trained["ended"] == "diverged"


def test_progress_anneals_the_rate():
    for how in ANNEALS:
        values = [annealed(2e-3, how, v / 20) for v in range(21)]
        assert values == sorted(values) and values[-1] == pytest.approx(2e-3) and values[10] == pytest.approx(2e-3)
        assert values[0] == pytest.approx(2e-3 if how == "constant" else 1e-5)
    seen = []

    class Spy(sa.SAMI):
        def loss(self, x, g):
            seen.append(self.rate_weight)
            return super().loss(x, g)

    model = Spy(SHAPE, 3, width=8, anneal="loglinear", kl_weight=1e-2)
    assert model.rate_weight == 1e-2
    run = sa.fit(model, images(), steps=8, log_every=4, progress=False)
    assert seen[:8] == sorted(seen[:8]) and seen[0] == pytest.approx(5e-5) and seen[4:9] == pytest.approx([1e-2] * 5)
    assert model.progress == 1.0 and {"free", "guided", "guidance", "pin"} <= set(run.history[0])


def test_six_ways_give_images():
    torch.manual_seed(0)
    model, x = sa.SAMI(SHAPE, 3, width=8), images(4)
    z = model.encode(x)
    ways = [unguided(model, 4, 3), back_and_forth(model, 4, 3), decode_axes(model, z, [0, 2], 3),
            switch(model, x, z, 0.0, 3), model.decode(z, steps=3), model.reconstruct(x, "sample", 3)]  # fmt: skip
    for out in ways: assert out.shape == x.shape and out.abs().max() <= 1
    assert torch.equal(decode_axes(model, z, [0, 1, 2], 3), model.decode(z, steps=3))
    assert torch.equal(unguided(model, 4, 3, seed=1), unguided(model, 4, 3, seed=1))
    found = sa.axes(model, x, n=4, images=2, steps=2)
    assert len(found.table) == 3 and found.density.shape == (3, 4) and found.cross.shape == (4,)
    assert set(watch(model, x, n=3)) == {"u", "free", "guided", "gain", "energy", "pin"}
    with pytest.raises(ValueError, match="model: expected a SAMI"): sa.axes(sa.AE(SHAPE, 3, width=8), x)


def test_guidance_in_single_precision_under_autocast():
    torch.manual_seed(0)
    model, x = sa.SAMI(SHAPE, 3, width=8).eval(), images(4)
    z, t = model.encode(x), torch.full((4,), 0.5).double()
    plain = model.denoiser(z).guidance(x, t)
    with torch.autocast("cpu", torch.bfloat16): under = model.denoiser(z).guidance(x, t)
    assert under.dtype == torch.float32 and torch.equal(under, plain)


def test_attention_in_the_encoder_can_be_differentiated_twice():
    class Attend(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.out = torch.nn.Linear(8, 24), torch.nn.Linear(64, 6)

        def forward(self, x):
            q, k, v = self.q(x[:, 0]).chunk(3, -1)
            return self.out(torch.nn.functional.scaled_dot_product_attention(q, k, v).flatten(1))

    torch.manual_seed(0)
    model = sa.SAMI(SHAPE, 3, width=8, encoder=Attend())
    loss, _ = model.loss(images(), rng(0))
    loss.backward()
    assert model.encoder_net.q.weight.grad.abs().sum() > 0


def test_half_precision_denoiser():
    given = from_diffusers(unet().to(torch.bfloat16), scheduler())
    model, x = sa.SAMI(SHAPE, 3, width=8, denoiser=given, regime="frozen"), images()
    loss, _ = model.loss(x, rng(0))
    loss.backward()
    assert loss.dtype == torch.float32 and model.encoder_net.head.weight.grad.isfinite().all()
    assert isinstance(given.D, Timed) and next(given.parameters()).dtype == torch.bfloat16


def test_a_table_survives_json():
    table = Discrete(torch.linspace(0.99, 0.01, 20).tolist())
    assert Discrete(json.loads(json.dumps(table.alpha_bar))) == table
    model = sa.SAMI(SHAPE, 2, width=8, path=table)
    assert model.gamma_max == pytest.approx(99, rel=1e-5)


def bench(name):
    "A script of bench/, as a module."
    return importlib.import_module(f"bench.{name}")


@pytest.fixture
def scripts(monkeypatch): monkeypatch.syspath_prepend(str(ROOT))


def test_rows_are_not_made_twice(tmp_path, scripts, capsys):
    stored, made = bench("stored"), []
    for seed in (0, 1, 0):
        make = lambda s=seed: made.append(s) or {"v": s}
        stored.add_row(tmp_path / "r.json", {"model": "a", "seed": seed}, make, a=1)
    found = json.loads((tmp_path / "r.json").read_text())
    assert made == [0, 1] and [r["v"] for r in found["rows"]] == [0, 1] and found["a"] == 1


def test_the_exact_denoiser_of_disks(scripts):
    "Without noise it gives the drawn disk back, in noise the mean image, in between the best of all estimates."
    disks = bench("claims.disks")
    D, path = disks.Exact(0.2, places=8, greys=4), disks.PATH
    x = D.images[::7].reshape(-1, 1, 16, 16)
    for gamma, want in ((math.exp(8), x), (math.exp(-7.1), D.images.mean(0).reshape(1, 1, 16, 16).expand_as(x))):
        t = path.t_of_gamma(torch.tensor(gamma, dtype=torch.float64)).expand(len(x))
        x_t = path.mix(x, torch.randn(x.shape, generator=rng(0)), t)
        assert (D(x_t, t) - want).square().mean() < (1e-6 if gamma > 1 else 0.1)


@pytest.mark.parametrize("told", [False, True])
def test_a_start_that_speaks(scripts, told):
    disks = bench("claims.disks")
    torch.manual_seed(0)
    model, x = sa.SAMI(SHAPE, 3, width=8, time_conditioned=told, begin="random"), images(200)
    disks.start(model, x)
    mean, std = disks.parts(model, x)
    torch.testing.assert_close(mean.std(0), torch.ones(3), atol=1e-3, rtol=0)
    assert (std - 0.3).abs().max() < 0.2


@pytest.mark.parametrize(("name", "seeds"), [("disks", 3), ("straight", 3), ("natural", 1)])
def test_stored_results_are_whole(name, seeds):
    "Every model has every seed once, or once only by intention, and the results page is made of these rows."
    found = json.loads((RESULTS / f"{name}.json").read_text())
    assert found["command"].startswith(f"python -m bench.claims.{name} ") and found["torch"] and found["device"]
    keys = [(r.get("model", r.get("set")), r.get("seed", 0)) for r in found["rows"]]
    assert len(set(keys)) == len(keys)
    once = {"pixels", "joint, high noise", "SAMI, coarse"}
    for model in {m for m, _ in keys} - once: assert sum(m == model for m, _ in keys) == seeds, model


def test_beginnings_are_whole():
    "Three seeds of every encoder on every set, and controls, all from one command."
    found = json.loads((RESULTS / "beginnings.json").read_text())
    runs = [(r["set"], r["model"], r["seed"]) for r in found["rows"]]
    models = {m for _, m, _ in runs} - {"controls"}
    wanted = [(s, m, i) for s in ("digits", "clothes", "patches") for m in models for i in range(3)]
    assert len(models) == 3 and sorted(r for r in runs if r[1] != "controls") == sorted(wanted)
    assert {s for s, m, _ in runs if m == "controls"} == {"digits", "clothes", "patches"}


def test_the_results_page_is_made_of_the_rows(scripts, tmp_path, monkeypatch):
    tables = bench("claims.sami_tables")
    for name in ("beginnings.json", "disks.json", "straight.json", "natural.json", "sami.md"):
        (tmp_path / name).write_bytes((RESULTS / name).read_bytes())
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    tables.main()
    assert (tmp_path / "sami.md").read_text() == (RESULTS / "sami.md").read_text()


def test_stills_show_what_clips_do_not(scripts):
    "Stills come from training digits at poses of their own; clips of test digits; all are images."
    straight = bench("claims.straight")
    x, f = straight.stills("train", None, 40, 0)
    assert x.shape == (80, 1, 16, 16) and f.shape == (80, 4) and x.abs().max() <= 1
    assert (f[:, 3] > 0.1).all()  # nothing is empty
    train, test = (straight.subjects(s, None)["digits"].flatten(1) for s in ("train", "test"))
    assert torch.cdist(train, test).min() > 0
