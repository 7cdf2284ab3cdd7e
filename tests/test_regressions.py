"""Odd but plausible uses that once crashed, warned or misled."""

import json
import shlex

import numpy as np
import pytest
import torch

import scoreae as sa
from scoreae.commands import command_line
from scoreae.commands.contest import Contest, compete
from scoreae.measures.disentanglement import report
from scoreae.use import pictures

SHAPE = (1, 8, 8)


@pytest.fixture(autouse=True)
def quick(monkeypatch): monkeypatch.setattr("scoreae.measures.evaluation.KINDS", ("linear",))


def small(kind=sa.AE, **kw):
    torch.manual_seed(0)
    return kind(SHAPE, 4, width=8, **kw)


def weights(model): return torch.cat([v.flatten().double() for v in model.state_dict().values()])


@pytest.mark.parametrize("kind", [sa.AE, sa.RandomEncoder, sa.SAMI, sa.DBAE])
def test_fit_takes_images_of_any_precision(kind, digits):
    x = digits["train"][0][:100]  # on sixteenths: exact in half precision
    models = [small(kind) for _ in range(4)]
    models[3].double()
    for model, images in zip(models, [x, x.double(), x.half(), x], strict=True):
        sa.fit(model, images, steps=2, progress=False)
    for model in models[1:3]: assert torch.allclose(weights(model), weights(models[0]), rtol=1e-6, atol=1e-9)
    assert models[3].dtype == torch.float64 and weights(models[3]).isfinite().all()


def test_pca_of_equal_images_warns_of_nothing():
    model = sa.PCA(SHAPE, 4)
    sa.fit(model, -torch.ones(9, *SHAPE), progress=False)
    assert torch.equal(model.reconstruct(-torch.ones(2, *SHAPE)), -torch.ones(2, *SHAPE))


def test_make_overrides_settings_and_refuses_typos():
    assert sa.make("DBAE", SHAPE, 4, width=8, kl_weight=0.5).kl_weight == 0.5
    assert sa.make("PCA", SHAPE, 4, width=8).z_dim == 4  # a keyword of other classes
    with pytest.raises(ValueError, match="kw: expected one of"): sa.make("AE", SHAPE, 4, widht=8)


@pytest.fixture(scope="module")
def pca(digits):
    model = sa.PCA(SHAPE, 4)
    sa.fit(model, digits["train"][0], progress=False)
    return model


def test_evaluate_with_few_images_odd_labels_and_lists(pca, digits):
    few = [[x[:n], y[:n]] for (x, y), n in zip(digits.values(), (200, 60, 30), strict=True)]
    row = sa.evaluate(pca, *few, resamples=3)  # too few images for the features of a classifier
    assert "SW" in row and "FD-clf" not in row
    sparse = [(x[:n], 10**9 * y[:n] - 7) for (x, y), n in zip(digits.values(), (200, 60, 40), strict=True)]
    dense = [(x[:n], y[:n]) for (x, y), n in zip(digits.values(), (200, 60, 40), strict=True)]
    rows = [sa.evaluate(pca, *splits, resamples=3) for splits in (sparse, dense)]
    for key in ("linear (%)", "FD-clf", "KID-clf"): assert rows[0][key] == rows[1][key]


@pytest.mark.parametrize(("name", "kw"), [
    ("judge", {"judge": "a classifier"}),
    ("clips", {"clips": torch.zeros(40, *SHAPE)}),
    ("clips", {"clips": torch.zeros(2, 2, *SHAPE)}),
    ("clips", {"clips": torch.zeros(2, 3, 3, 8, 8)}),
])  # fmt: skip
def test_evaluate_checks_before_it_computes(name, kw, pca, digits, monkeypatch):
    monkeypatch.setattr(sa.Autoencoder, "reconstruct", None)
    x = digits["test"][0]
    with pytest.raises(ValueError, match=f"^{name}: expected"): sa.evaluate(pca, x, x, x, **kw)
    with pytest.raises(ValueError, match=r"^test: expected at least two images"): sa.evaluate(pca, x, x, x[:1])


def test_plots_of_nothing():
    with pytest.raises(ValueError, match="rows: expected"): pictures.plot_rows({"none": torch.zeros(0, *SHAPE)})
    pictures.plot_losses({})


CONTEST = {"data": "digits", "size": 8, "train": 200, "val": 50, "test": 40, "z_dims": (4,), "seeds": 1, "width": 8}


def test_contest_counts_nobody_twice_and_mends_broken_rows(tmp_path):
    with pytest.raises(ValueError, match="z_dims: expected"): Contest(**CONTEST | {"z_dims": (4, 4)})
    with pytest.raises(ValueError, match="z_dims: expected"): Contest(**CONTEST | {"z_dims": ()})
    rows = compete(Contest(**CONTEST), tmp_path, ("PCA", "PCA"), progress=False)["rows"]
    assert len(rows) == 1
    (tmp_path / "PCA-k4-seed0.json").write_text("{")
    again = compete(Contest(**CONTEST), tmp_path, ("PCA",), progress=False)["rows"]
    assert [r["MSE point"] for r in again] == [r["MSE point"] for r in rows]


def test_the_recorded_bench_names_its_models(tmp_path, capsys):
    names = ["PCA", "DiffAE, DBAE's weighting"]
    kw = {**CONTEST, "steps": 1, "z_dims": [4]}
    command = shlex.split(command_line.bench(str(tmp_path / "a"), names, progress=False, **kw)["command"])
    asked = vars(command_line.parser().parse_args(command[1:]))
    assert asked["models"] == names and asked["z_dims"] == [4] and asked["steps"] == 1
    stored = json.loads((tmp_path / "a" / "results.json").read_text())
    assert shlex.split(stored["command"]) == command


def test_planning_a_demo_leaves_the_random_state(digits):
    before = torch.get_rng_state()
    command_line.plan(digits["train"][0], 4, seconds=1e-3, widths=(8,))
    assert torch.equal(before, torch.get_rng_state())


def test_a_single_colour_array_is_not_a_pile_of_grey_images():
    photo = np.zeros((20, 30, 3), np.uint8)
    with pytest.raises(ValueError, match="goes into a list"): sa.data.load(photo)
    assert sa.data.load([photo]).shape == (1, 3, 20, 30)
    assert sa.data.load(torch.zeros(4, 20, 30, dtype=torch.uint8)).shape == (4, 1, 20, 30)


def test_factors_need_names_of_their_own():
    z = np.random.default_rng(0).random((50, 2))
    with pytest.raises(ValueError, match="names: expected 2 different names"): report(z, z, names=["a", "a"])


@pytest.mark.parametrize("device", ["meta", "hip", "no such"])
def test_devices_that_are_not_there(device, digits):
    with pytest.raises(ValueError, match="device: expected"): sa.fit(small(), digits["val"][0], steps=1, device=device)
