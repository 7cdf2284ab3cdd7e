"""Fidelity and generation: independent libraries, invariances, odd sizes, bad input, missing libraries and weights."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance
from skimage.metrics import structural_similarity

from scoreae.measures import distributions, reconstruction


def images(n, *shape, seed=0):
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def normal(n, f, seed=0):
    return torch.randn(n, f, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=15, deadline=None)
@given(
    n=st.integers(1, 3),
    c=st.sampled_from([1, 3]),
    h=st.integers(3, 24),
    w=st.integers(3, 24),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_ssim_of_any_size_is_that_of_scikit_image(n, c, h, w, dtype):
    x, y = images(n, c, h, w).to(dtype), images(n, c, h, w, seed=1).to(dtype)
    y = 0.7 * x + 0.3 * y
    side, sigma = reconstruction._window(h, w)
    assert side % 2 == 1 and 3 <= side <= min(11, h, w) and side == 2 * int(3.5 * sigma + 0.5) + 1
    got = reconstruction.ssim(x, y)
    assert got.shape == (n,) and got.dtype == torch.float64 and (got <= 1).all()
    for value, p, q in zip(got, x, y, strict=True):
        p, q = (((v.double() + 1) / 2).numpy() for v in (p, q))
        want = structural_similarity(
            p,
            q,
            data_range=1,
            channel_axis=0,
            win_size=side,
            gaussian_weights=True,
            sigma=sigma,
            use_sample_covariance=False,
        )
        assert value.item() == pytest.approx(want, abs=1e-9)


def test_fidelity_is_per_image():
    x, y = images(130, 3, 12, 12), images(130, 3, 12, 12, seed=1)
    for f in (reconstruction.mse, reconstruction.psnr, reconstruction.ssim):
        torch.testing.assert_close(f(x, y)[97:98], f(x[97:98], y[97:98]))
        torch.testing.assert_close(f(x, y), f(y, x))


class RandomAlexNet:
    "Stands in for the download: torchvision's architecture with weights of a fixed seed."

    def __call__(self, net, pretrained=False):
        import torchvision

        with torch.random.fork_rng():
            torch.manual_seed(0)
            return torchvision.models.alexnet(weights=None).features


@pytest.fixture
def alexnet(monkeypatch, tmp_path):
    from torchmetrics.functional.image import lpips

    monkeypatch.setattr(lpips, "_get_tv_model_features", RandomAlexNet())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    return RandomAlexNet()("alexnet")


def test_lpips_is_its_formula(alexnet):
    from pathlib import Path

    import torchmetrics

    x, y = images(3, 3, 40, 33), images(3, 3, 40, 33, seed=1)
    lin = torch.load(
        Path(torchmetrics.__file__).parent / "functional" / "image" / "lpips_models" / "alex.pth", map_location="cpu"
    )
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])

    def layers(v):
        v, out = (v - shift[:, None, None]) / scale[:, None, None], []
        for i, layer in enumerate(alexnet[:12]):
            v = layer(v)
            if i in (1, 4, 7, 9, 11):
                out.append(v / (v.square().sum(1, keepdim=True) + 1e-8).sqrt())
        return out

    want = sum(
        (lin[f"lin{i}.model.1.weight"] * (a - b).square()).sum(1).mean((1, 2))
        for i, (a, b) in enumerate(zip(layers(x), layers(y), strict=True))
    )
    got = reconstruction.lpips(x, y, download=True)
    torch.testing.assert_close(got, want.double().detach(), rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(reconstruction.lpips(x[:1], y[:1], download=True), got[:1])
    assert reconstruction.lpips(x, x, download=True).abs().max() == 0
    grey = reconstruction.lpips(x[:, :1], y[:, :1], download=True)
    torch.testing.assert_close(
        grey, reconstruction.lpips(x[:, :1].expand(-1, 3, -1, -1), y[:, :1].expand(-1, 3, -1, -1), download=True)
    )
    assert reconstruction.lpips(images(1, 1, 31, 31), images(1, 1, 31, 31, seed=1), download=True).shape == (1,)


def test_nothing_is_downloaded_unasked(monkeypatch, tmp_path):
    def opened(*args, **kw):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for name in ("download_url_to_file", "load_state_dict_from_url"):
        monkeypatch.setattr(torch.hub, name, opened)
    with pytest.raises(
        ValueError, match=r"^download: expected True \(233 MB\), or the weights of AlexNet at .*, got False"
    ):
        reconstruction.lpips(images(1, 3, 40, 40), images(1, 3, 40, 40))


@pytest.mark.parametrize(("module", "call"), [
    ("torchmetrics.functional.image", lambda: reconstruction.ssim(images(1, 1, 8, 8), images(1, 1, 8, 8))),
    ("torchmetrics.image.lpip", lambda: reconstruction.lpips(images(1, 1, 40, 40), images(1, 1, 40, 40))),
    ("torch_fidelity", lambda: distributions.inception_features(images(1, 1, 8, 8))),
], ids=["ssim", "lpips", "inception"])  # fmt: skip
def test_a_missing_library_says_how_to_get_it(monkeypatch, module, call):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(ImportError, match=r"pip install 'scoreae\[metrics\]'"):
        call()


GOOD, FEATURES, LABELS = images(9, 1, 8, 8), normal(30, 4), torch.arange(9)
LAST = GOOD.permute(0, 2, 3, 1)  # channels last
LARGE = images(1, 1, 40, 40)
BAD = [
    ("x", reconstruction.mse, GOOD[0], GOOD[0]),
    ("x", reconstruction.ssim, GOOD * 3, GOOD),
    ("y", reconstruction.psnr, GOOD, GOOD[:, :, :7]),
    ("y", reconstruction.mse, GOOD, GOOD[:1]),
    ("x", reconstruction.ssim, LAST, LAST),
    ("x", reconstruction.ssim, GOOD[..., :2], GOOD[..., :2]),
    ("x", reconstruction.lpips, GOOD, GOOD),
    ("download", reconstruction.lpips, LARGE, LARGE, "yes"),
    ("real", distributions.frechet, FEATURES[:1], FEATURES),
    ("real", distributions.frechet, FEATURES.numpy(), FEATURES),
    ("real", distributions.frechet, FEATURES.long(), FEATURES),
    ("real", distributions.frechet, FEATURES * math.nan, FEATURES),
    ("fake", distributions.frechet, FEATURES, FEATURES[:, :3]),
    ("fake", distributions.frechet, FEATURES, FEATURES[0]),
    ("blocks", distributions.kid, FEATURES, FEATURES, 1),
    ("fake", distributions.kid, FEATURES, FEATURES[:19]),
    ("seed", distributions.kid, FEATURES, FEATURES, 10, -1),
    ("k", distributions.precision_recall, FEATURES, FEATURES, 0),
    ("fake", distributions.precision_recall, FEATURES, FEATURES[:3]),
    ("directions", distributions.sliced_wasserstein, FEATURES, FEATURES, 0),
    ("x", distributions.sliced_wasserstein, [1.0], FEATURES),
    ("y", distributions.sliced_wasserstein, GOOD, FEATURES),
    ("real", distributions.with_floor, distributions.frechet, FEATURES[:1], FEATURES),
    ("fake", distributions.with_floor, distributions.frechet, FEATURES, FEATURES[:9]),
    ("splits", distributions.with_floor, distributions.frechet, FEATURES, FEATURES, 1),
    ("y", distributions.fit_classifier, GOOD, LABELS[:3]),
    ("y", distributions.fit_classifier, GOOD, LABELS - 1),
    ("y", distributions.fit_classifier, GOOD, LABELS.float()),
    ("seed", distributions.fit_classifier, GOOD, LABELS, -1),
    ("steps", distributions.fit_classifier, GOOD, LABELS, 0, 0),
    ("lr", distributions.fit_classifier, GOOD, LABELS, 0, 5, 8, 8, 0.0),
    ("x", distributions.clf_features, distributions.Classifier(3, 2), GOOD),
    ("x", distributions.inception_features, LAST),
    ("download", distributions.inception_features, GOOD, 1),
]


@pytest.mark.parametrize("case", BAD, ids=lambda case: f"{case[1].__name__} {case[0]}")
def test_bad_arguments(case):
    argument, function, *given = case
    with pytest.raises(ValueError, match=rf"^{argument}: expected .*, got "):
        function(*given)


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(2, 40),
    m=st.integers(2, 40),
    f=st.integers(1, 12),
    seed=st.integers(0, 99),
    scale=st.floats(1e-3, 1e3),
)
def test_frechet_is_a_distance_of_the_laws(n, m, f, seed, scale):
    x, y = normal(n, f, seed), normal(m, f, seed + 1) * 2 + 1
    turn = torch.linalg.qr(normal(f, f, seed + 2)).Q
    d = distributions.frechet(x, y)
    near = {"rel": 1e-8, "abs": 1e-9}
    assert d == pytest.approx(distributions.frechet(y, x), **near) and d >= 0
    assert d == pytest.approx(distributions.frechet(x @ turn, y @ turn), **near)
    assert d * scale**2 == pytest.approx(distributions.frechet(scale * x, scale * y), rel=1e-8, abs=1e-9 * scale**2)
    assert distributions.frechet(x, x + 3) == pytest.approx(9 * f, **near)
    assert distributions.frechet(x, x[torch.randperm(n)]) == pytest.approx(0, abs=1e-9)


def test_frechet_when_almost_everything_is_alike():
    "Features of a hugely different scale, far from zero: nothing is lost to rounding, and nothing is negative."
    scales = torch.logspace(-6, 3, 10, dtype=torch.float64)
    x = normal(200, 10) * scales + 1e3
    assert distributions.frechet(x, x.clone()) < 1e-8
    assert distributions.frechet(x, x * 1.01) == pytest.approx(
        ((x.mean(0) * 0.01) ** 2).sum().item() + (0.01**2 * x.var(0)).sum().item(), rel=1e-9
    )


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 30), m=st.integers(1, 30), seed=st.integers(0, 99))
def test_sliced_wasserstein_in_one_dimension(n, m, seed):
    x, y = normal(n, 1, seed).round(decimals=1), normal(m, 1, seed + 1).round(decimals=1)  # with ties
    assert distributions.sliced_wasserstein(x, y, 3) == pytest.approx(wasserstein_distance(x[:, 0], y[:, 0]), abs=1e-6)


def test_sliced_wasserstein_of_normals_and_of_images():
    x, y = normal(1000, 3) + 2, normal(1000, 3, 1)
    want = 2 * math.sqrt(3) / 2  # a shift of length 2 sqrt 3, and the mean of |theta_1| on the sphere is one half
    assert distributions.sliced_wasserstein(x, y) == pytest.approx(want, rel=0.1)
    batch, other = images(6, 3, 5, 4), images(8, 3, 5, 4, seed=1)
    assert distributions.sliced_wasserstein(batch, other) == distributions.sliced_wasserstein(
        batch.flatten(1), other.flatten(1)
    )


def test_a_far_set_has_no_precision_and_a_copy_has_all():
    far = distributions.precision_recall(FEATURES, FEATURES + 100)
    assert far == (0, 0, 0, 0)
    copy = distributions.precision_recall(FEATURES, FEATURES.clone())
    assert (copy.precision, copy.recall, copy.coverage) == (1, 1, 1) and copy.density >= 1
    part = distributions.precision_recall(FEATURES, FEATURES[:1].repeat(10, 1) + 1e-9 * normal(10, 4))
    assert part.precision == 1 and part.recall < 0.1 and part.coverage < 0.5


def test_kid_uses_every_block_and_its_error_shrinks():
    x, y = normal(2000, 3), normal(2000, 3, 1) + 0.5
    (small, e_small), (large, e_large) = distributions.kid(x[:200], y[:200]), distributions.kid(x, y)
    assert small == pytest.approx(large, abs=4 * e_small) and e_large < e_small / 2
    assert distributions.kid(x, y, seed=3) == distributions.kid(x, y, seed=3) != distributions.kid(x, y, seed=4)


def test_with_floor_at_equal_numbers():
    sizes = []

    def metric(a, b):
        sizes.append((len(a), len(b)))
        return distributions.frechet(a, b)

    x = normal(101, 3)
    result = distributions.with_floor(metric, x, normal(400, 3, 1) + 1, splits=3)
    assert set(sizes) == {(50, 50)} and len(sizes) == 6
    assert result.value > 2 > result.floor > 0


def test_the_classifier_is_the_seeds_and_survives_saving(digits, tmp_path):
    x, y = digits["val"]
    before = torch.get_rng_state()
    a, b, c = (distributions.fit_classifier(x, y, seed=s, steps=5, features=6) for s in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    f = distributions.clf_features(a, x)
    assert (
        f.shape == (200, 6)
        and torch.equal(f, distributions.clf_features(b, x))
        and not torch.equal(f, distributions.clf_features(c, x))
    )
    torch.testing.assert_close(f.mean(0), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(f.std(0), torch.ones(6), atol=1e-4, rtol=0)
    torch.save(a.state_dict(), tmp_path / "clf.pt")
    again = distributions.Classifier(1, 10, 6)
    again.load_state_dict(torch.load(tmp_path / "clf.pt"))
    assert torch.equal(distributions.clf_features(again, x), f)
    assert np.isfinite(distributions.clf_features(a, images(2, 1, 33, 5)).numpy()).all()
