"""Disentanglement and straightness: known answers, invariances, controls, bad input. Warnings are errors."""

import itertools
import json

import numpy as np
import pytest
import torch
from sklearn.metrics import mutual_info_score

from scoreae.measures import disentanglement as dis
from scoreae.measures import straightness as st

R = np.random.default_rng(0)
BITS = np.tile(list(itertools.product([0, 1], repeat=3)), (60, 1))  # three fair, independent bits
LEVELS = R.permuted(np.tile(np.arange(5.0), (3, 120)), axis=1).T  # three discrete factors (600, 3)
SMOOTH = R.uniform(-1, 1, (600, 3))
NOISE = R.normal(size=(600, 3))
ROTATION = np.array([[1, -1, 0], [1, 1, 0], [0, 0, np.sqrt(2)]]) / np.sqrt(2)  # 45 degrees in the first plane
FAST = {"rotations": 2, "resamples": 3}


def scores(z, v, **kw) -> dict[str, float]:
    "Every mean score of codes and factors."
    tree, info = dis.dci(z, v, **kw), dis.infomec(z, v, **kw)
    return {
        "mig": dis.mig(z, v, **kw).mean(),
        "modularity": dis.modularity(z, v, **kw).mean(),
        "sap": dis.sap(z, v, **kw).mean(),
        "dis": tree["disentanglement"],
        "com": tree["completeness"],
        "inf": tree["informativeness"],
        "factor_vae": dis.factor_vae(z, dis.group_sampler(z, v, **kw), v.shape[1], votes=600)["score"],
        "infom": info["infom"],
        "infoc": info["infoc"],
        "infoe": info["infoe"],
    }


# --- known answers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("v", [BITS, LEVELS, SMOOTH], ids=["bits", "levels", "smooth"])
def test_perfect_codes(v):
    got = scores(v.astype(float), v)
    least = {name: 0.9 for name in got} | {
        "sap": 0.4 if v is BITS else 0.05 if v is LEVELS else 0.9,
        "infoe": 0.3,
        "mig": 0.8,
    }
    assert all(got[name] > least[name] for name in got), got
    classes = len(np.unique(v[:, 0])) if v is not SMOOTH else 20
    floor = (classes - 1) ** 2 / (2 * len(v)) / np.log(classes)  # of an unrelated axis
    assert got["mig"] == pytest.approx(1 if v is BITS else 1 - floor, abs=0.03) and got["factor_vae"] == 1


@pytest.mark.parametrize("v", [LEVELS, SMOOTH], ids=["levels", "smooth"])
def test_noise_codes(v):
    got = scores(NOISE, v)
    assert got["mig"] < 0.05 and got["sap"] < 0.06 and got["dis"] < 0.12 and got["inf"] < 0.1 and got["infoe"] < 0.05
    assert got["factor_vae"] == pytest.approx(1 / 3, abs=0.15)  # chance


def test_rotation_by_45_degrees_loses_alignment_not_information():
    straight, turned = scores(SMOOTH, SMOOTH), scores(SMOOTH @ ROTATION, SMOOTH)
    for name in ("mig", "sap", "infom", "infoc", "dis", "com"):
        assert turned[name] < straight[name] - 0.3, name
    assert turned["mig"] == pytest.approx(1 / 3, abs=0.07)  # one factor of three is left on its axis
    assert turned["infoe"] == pytest.approx(straight["infoe"], abs=0.02)
    assert turned["inf"] > 0.8
    assert dis.factor_vae(SMOOTH @ ROTATION, dis.group_sampler(SMOOTH @ ROTATION, SMOOTH), 3)["score"] == pytest.approx(
        2 / 3, abs=0.1
    )


def test_rotated_bits_by_hand():
    z = np.c_[BITS[:, 0] + BITS[:, 1], BITS[:, 0] - BITS[:, 1]]
    info = dis.mutual_information(z, BITS)
    assert info == pytest.approx(np.log(2) / 2 * np.array([[1, 1, 0], [1, 1, 0]]), abs=1e-12)
    assert dis.mig(z, BITS) == pytest.approx(0, abs=1e-12)
    assert dis.modularity(z, BITS) == pytest.approx(0.5, abs=1e-12)  # 1 - I^2 / (2 I^2)


def test_duplicated_axis():
    z = np.c_[SMOOTH, SMOOTH[:, 0]]
    assert dis.mig(z, SMOOTH)[0] == pytest.approx(0, abs=1e-9) and dis.mig(z, SMOOTH)[1:].min() > 0.85
    assert dis.sap(z, SMOOTH)[0] == pytest.approx(0, abs=1e-9)
    tree, info = dis.dci(z, SMOOTH), dis.infomec(z, SMOOTH)
    assert tree["disentanglement"] > 0.98 and info["infom"] > 0.95  # each axis follows one factor
    halved = (2 + 1 - np.log(2) / np.log(4)) / 3
    assert tree["completeness"] == pytest.approx(halved, abs=0.03)
    assert info["infoc"] == pytest.approx(((2 + 0.5) / 3 - 1 / 4) / (3 / 4), abs=0.03)
    draw = dis.group_sampler(z, SMOOTH)
    assert dis.factor_vae(z, draw, 3)["score"] == 1


def test_one_factor_in_two_axes():
    "Sign and size of a factor on two axes: together they know it, the best alone knows all but a bit or the bit."
    v = SMOOTH[:, :1]
    z = np.c_[np.sign(v), np.abs(v)]
    assert dis.mutual_information(z, v)[0] == pytest.approx(np.log(2), abs=0.01)
    full = dis.mutual_information(v, v)
    assert dis.mutual_information(z, v)[1] == pytest.approx(full[0] - np.log(2), abs=0.12)
    assert dis.dci(z, v)["completeness"] < 0.9 and dis.dci(z, v)["informativeness"] > 0.98
    assert dis.tad(z, (v > 0).astype(int))["attrs"] == 1


def test_two_factors_in_one_axis():
    z = np.c_[4 * BITS[:, 0] + BITS[:, 1], BITS[:, 2]]
    assert dis.mig(z, BITS) == pytest.approx(1, abs=1e-12)  # MIG does not mind
    assert dis.modularity(z, BITS) == pytest.approx([0.5, 1], abs=1e-12)  # modularity does
    assert dis.dci(z, BITS)["disentanglement"] == pytest.approx(1 - 2 / 3 * np.log(2) / np.log(3), abs=0.03)


def test_dead_axes():
    z = np.c_[SMOOTH, np.full((600, 2), 7.0)]
    with_dead, without = scores(z, SMOOTH), scores(SMOOTH, SMOOTH)
    for name in ("mig", "sap", "dis", "factor_vae", "infom", "infoc", "infoe", "inf"):
        assert with_dead[name] == pytest.approx(without[name], abs=0.02), name
    assert dis.modularity(z, SMOOTH)[3:] == pytest.approx(0) and dis.modularity(z, SMOOTH)[:3].min() > 0.9
    assert dis.modularity(BITS[:, :1] ^ BITS[:, 1:2], BITS) == pytest.approx(0)  # rounding is not information
    assert dis.infomec(z, SMOOTH)["alive"].tolist() == [True] * 3 + [False] * 2


def test_one_axis_and_one_factor():
    z, v = SMOOTH[:, :1], SMOOTH[:, :1]
    got = scores(z, v)
    assert got["mig"] == pytest.approx(1) and got["sap"] == pytest.approx(1)
    for name in ("modularity", "dis", "com", "infom", "infoc"):
        assert np.isnan(got[name]), name
    assert dis.tad(BITS[:, :1], BITS[:, :1])["tad"] == 0.5
    entry = dis.report(z, v, **FAST)["scores"]
    assert entry["dci_disentanglement"]["value"] is None and entry["mig"]["value"] == pytest.approx(1)


# --- independent computations and invariances ------------------------------------------------------------------------


def test_mutual_information_is_scikit_learns():
    z, v = R.normal(size=(300, 4)), np.c_[R.integers(0, 3, 300), R.normal(size=300)]
    classes = dis._classes(v, 7, None)
    want = [[mutual_info_score(np.digitize(a, np.histogram(a, 7)[1][:-1]), b) for b in classes.T] for a in z.T]
    assert dis.mutual_information(z, v, bins=7) == pytest.approx(np.array(want), abs=1e-9)


def test_sap_is_the_squared_correlation():
    z = SMOOTH @ R.normal(size=(3, 4))
    corr = np.corrcoef(z.T, SMOOTH.T)[:4, 4:] ** 2
    want = np.sort(corr, 0)[-1] - np.sort(corr, 0)[-2]
    assert dis.sap(z, SMOOTH) == pytest.approx(want, abs=1e-9)


def test_factor_vae_without_the_pool():
    "The votes of the reference algorithm, one batch at a time."
    z, g = LEVELS @ np.diag([1, 10, 0.1]) + 0.1 * NOISE, np.random.default_rng(1)
    votes = np.zeros((3, 3))
    for _ in range(300):
        j = g.integers(3)
        rows = g.choice(np.flatnonzero(LEVELS[:, j] == g.choice(LEVELS[:, j])), 64)
        votes[j, np.argmin(z[rows].var(0, ddof=1) / z.var(0, ddof=1))] += 1
    got = dis.factor_vae(z, dis.group_sampler(z, LEVELS), 3, votes=3000)
    assert got["score"] == pytest.approx(votes.max(0).sum() / votes.sum(), abs=0.05)
    assert got["table"].argmax(0).tolist() == votes.argmax(0).tolist() and got["table"].sum() == 3000


def test_order_sign_and_scale_of_axes_do_not_matter():
    z = SMOOTH @ R.normal(size=(3, 3))
    other = z[:, [2, 0, 1]] * [-3.0, 2.0, 0.9] + 5
    a, b = scores(z, SMOOTH), scores(other, SMOOTH)
    exact = ("sap", "factor_vae")
    for name in a:
        assert a[name] == pytest.approx(b[name], abs=1e-6 if name in exact else 0.05), name


def test_torch_and_numpy_integers_and_floats_agree():
    z, v = torch.tensor(LEVELS, dtype=torch.float32, requires_grad=True), torch.tensor(LEVELS).long()
    assert dis.mig(z, v).tolist() == dis.mig(LEVELS, LEVELS).tolist()
    assert dis.mig(z.to(torch.bfloat16), v > 2).shape == (3,)
    assert dis.tad(z, v > 2)["attrs"] == 3


def test_regressors():
    for name, kind in (("forest", "RandomForest"), ("boosted", "GradientBoosting")):
        got = dis.dci(NOISE + 3 * LEVELS, LEVELS, regressor=name, discrete=[True, False, True])
        assert got["regressor"] == f"{kind}Classifier and {kind}Regressor"
        assert got["disentanglement"] > 0.6 and got["informativeness"] > 0.8
        assert (got["train"], got["test"]) == (400, 200)
        assert got["importance"].sum(0) == pytest.approx(1)


def test_attributes():
    y = (SMOOTH > 0).astype(int)
    copy = np.c_[y, y[:, 0]]  # the first attribute twice: both are entangled
    assert dis.tad(SMOOTH, copy)["kept"].tolist() == [False, True, True, False]
    weak = np.c_[SMOOTH[:, :2], NOISE[:, 0]]
    assert dis.tad(weak, y)["kept"].tolist() == [True, True, False]  # nobody detects the third
    flipped = dis.tad(-SMOOTH, 1 - 2 * y)  # any two values; direction does not matter
    assert flipped["attrs"] == 3 and flipped["auroc"] == pytest.approx(dis.tad(SMOOTH, y)["auroc"])


# --- the null, the error, the report ---------------------------------------------------------------------------------


def test_rotation_null():
    keep = []
    z = np.c_[SMOOTH * [1, 100, 30], np.zeros(600)]
    null = dis.rotation_null(lambda t: keep.append(t) or {"mig": dis.mig(t, SMOOTH).mean()}, z, n=3, seed=1)
    assert len(keep) == 3 and all((t[:, 3] == 0).all() for t in keep)
    base = dis._standard(SMOOTH * [1, 100, 30])
    alive = np.ptp(z, 0) > 200 / 20  # the first axis has 1/100 of the range: dead, by the rule
    assert alive.tolist() == [False, True, True, False]
    for t in keep:
        assert t[:, 1:3].T @ t[:, 1:3] / 600 == pytest.approx(base[:, 1:3].T @ base[:, 1:3] / 600, abs=0.2)
        assert (t[:, 0] == z[:, 0]).all()
        q = np.linalg.lstsq(base[:, 1:3], t[:, 1:3], rcond=None)[0]
        assert q @ q.T == pytest.approx(np.eye(2), abs=1e-9)
    assert null == dis.rotation_null(lambda t: {"mig": dis.mig(t, SMOOTH).mean()}, z, n=3, seed=1)
    angles = [np.linalg.det(q) for q in (np.linalg.lstsq(base[:, 1:3], t[:, 1:3], rcond=None)[0] for t in keep)]
    assert np.abs(angles) == pytest.approx(1)


def test_a_perfect_code_is_far_above_its_null_and_a_rotated_one_is_not():
    v = R.uniform(-1, 1, (600, 5))
    for z, above in ((v, True), (v @ np.linalg.qr(R.normal(size=(5, 5)))[0], False)):
        null = dis.rotation_null(lambda t: {"mig": dis.mig(t, v).mean()}, z, n=20)["mig"]
        assert (dis.mig(z, v).mean() > null["mean"] + 4 * null["std"]) == above


def test_bootstrap_error_of_a_mean():
    v = R.normal(size=(400, 1))
    error = dis.bootstrap_error(lambda z, v: {"mean": v.mean()}, v, v, n=400)
    assert error["mean"] == pytest.approx(v.std() / 20, rel=0.1)


def test_report():
    v = np.c_[SMOOTH[:, 0], LEVELS[:, 0], BITS[R.permutation(480)[np.arange(600) % 480], 0]]
    z = np.c_[v, NOISE[:, 0]]
    before = torch.get_rng_state(), z.copy(), v.copy()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    a, b = (dis.report(z, v, names=["x", "shape", "light"], seed=3, cap=400, **FAST) for _ in range(2))
    assert a == b and json.loads(json.dumps(a, allow_nan=False)) == a
    assert torch.equal(before[0], torch.get_rng_state()) and (before[1] == z).all() and (before[2] == v).all()
    assert (numpy_state == np.random.get_state()[1]).all()  # noqa: NPY002
    assert a["infomec_rows"] == 400 and sum(a["dci_rows"]) == 400 and a["n"] == 600 and a["k"] == 4
    assert [f["axis"] for f in a["factors"].values()] == [0, 1, 2] and list(a["factors"]) == ["x", "shape", "light"]
    assert [f["discrete"] for f in a["factors"].values()] == [False, True, True]
    wanted = {
        "mig",
        "modularity",
        "sap",
        "tad",
        "attrs",
        "dci_disentanglement",
        "dci_completeness",
        "dci_informativeness",
    }
    assert set(a["scores"]) == wanted | {"infom", "infoc", "infoe", "factor_vae"}
    assert a["scores"]["mig"]["value"] > a["scores"]["mig"]["null"] + 0.2 and a["scores"]["mig"]["error"] > 0
    assert "tad" not in dis.report(z, v[:, :2], **FAST)["scores"]


@pytest.mark.parametrize("n", [40, 41, 60])
def test_report_of_few_codes(n):
    assert dis.report(SMOOTH[:n], SMOOTH[:n], **FAST)["n"] == n
    assert dis.report(NOISE[:n], BITS[:n], **FAST)["n"] == n


# --- bad input -------------------------------------------------------------------------------------------------------

GOOD = (SMOOTH, SMOOTH)
METRICS = {
    "mutual_information": dis.mutual_information,
    "mig": dis.mig,
    "modularity": dis.modularity,
    "sap": dis.sap,
    "dci": dis.dci,
    "infomec": dis.infomec,
    "group_sampler": dis.group_sampler,
    "report": dis.report,
}
HOLE = SMOOTH.copy()
HOLE[3, 1] = np.nan
BAD = {
    "list": ("codes", SMOOTH.tolist(), SMOOTH),
    "vector": ("codes", SMOOTH[:, 0], SMOOTH),
    "no codes": ("codes", SMOOTH[:0], SMOOTH[:0]),
    "one code": ("codes", SMOOTH[:1], SMOOTH[:1]),
    "no axes": ("codes", SMOOTH[:, :0], SMOOTH),
    "nan": ("codes", HOLE, SMOOTH),
    "infinite": ("codes", np.where(SMOOTH > 0.99, np.inf, SMOOTH), SMOOTH),
    "complex": ("codes", SMOOTH.astype(complex), SMOOTH),
    "complex tensor": ("codes", torch.zeros(600, 3, dtype=torch.complex64), SMOOTH),
    "strings": ("codes", SMOOTH.astype(str), SMOOTH),
    "lengths": ("factors", SMOOTH, SMOOTH[:-1]),
    "nan factor": ("factors", SMOOTH, HOLE),
    "none": ("factors", SMOOTH, None),
    "constant": ("factors", SMOOTH, np.c_[SMOOTH[:, 0], np.ones(600)]),
}


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("how", BAD)
def test_bad_matrices(metric, how):
    argument, z, v = BAD[how]
    with pytest.raises(ValueError, match=rf"^{argument}: expected .*, got "):
        METRICS[metric](z, v)


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        (
            "factors: .*constant light",
            lambda: dis.report(SMOOTH, np.c_[SMOOTH[:, 0], np.ones(600)], names=["x", "light"]),
        ),
        (
            "factors: .*constant rare .among the 40 rows",
            lambda: dis.report(SMOOTH, np.eye(600)[:, 1:2], names=["rare"], cap=40),
        ),
        ("names", lambda: dis.report(*GOOD, names=["a"])),
        ("discrete", lambda: dis.mig(*GOOD, discrete=[True])),
        ("bins", lambda: dis.mig(*GOOD, bins=1)),
        ("bins", lambda: dis.report(*GOOD, bins=2.5)),
        ("cap", lambda: dis.report(*GOOD, cap=10)),
        ("regressor", lambda: dis.dci(*GOOD, regressor="lasso")),
        ("seed", lambda: dis.dci(*GOOD, seed=-1)),
        ("seed", lambda: dis.sap(*GOOD, seed="now")),
        ("n", lambda: dis.rotation_null(dict, SMOOTH, n=1)),
        ("n", lambda: dis.bootstrap_error(dict, *GOOD, n=1)),
        ("votes", lambda: dis.factor_vae(SMOOTH, dis.group_sampler(*GOOD), 3, votes=5)),
        ("size", lambda: dis.factor_vae(SMOOTH, dis.group_sampler(*GOOD), 3, size=1)),
        ("codes", lambda: dis.factor_vae(np.ones((5, 2)), dis.group_sampler(*GOOD), 3)),
        ("codes", lambda: dis.infomec(np.ones((600, 2)), SMOOTH)),
        ("codes", lambda: dis.report(np.ones((600, 2)), SMOOTH)),
        ("codes", lambda: dis.report(SMOOTH[:39], SMOOTH[:39])),
        ("attributes", lambda: dis.tad(SMOOTH, LEVELS)),
        ("factors", lambda: dis.factor_vae(*GOOD[:1], dis.group_sampler(*GOOD, discrete=[True] * 3), 3)),
    ],
    ids=str,
)
def test_bad_arguments(argument, call):
    with pytest.raises(ValueError, match=rf"^{argument}"):
        call()


# --- straightness ----------------------------------------------------------------------------------------------------

G = torch.Generator().manual_seed(0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_line_is_straight(dtype):
    t = torch.tensor([0.0, 1, 1.5, 4, 4.25], dtype=dtype)
    z = t[None, :, None] * torch.tensor([1.0, -2, 0.5], dtype=dtype) + 3
    got = st.curvature(z)
    assert got.degrees.item() < (1e-10 if dtype == torch.float64 else 1e-3) and got.cosine.item() == pytest.approx(1)


@pytest.mark.parametrize("n", [3, 5, 12, 360])
def test_a_circle_turns_by_a_full_turn_over_its_frames(n):
    a = torch.arange(n + 1, dtype=torch.float64) * 2 * torch.pi / n
    z = torch.stack([5 + 2 * a.cos(), 2 * a.sin(), 0 * a], 1)
    assert st.curvature(z).degrees.item() == pytest.approx(360 / n, rel=1e-9)


def test_tiny_angles_are_accurate():
    z = torch.tensor([[0.0, 0], [1, 0], [2, 1e-12]], dtype=torch.float64)
    assert st.curvature(z).degrees.item() == pytest.approx(np.rad2deg(1e-12), rel=1e-6)


@pytest.mark.parametrize("k", [1, 2, 50])
def test_walks_and_unrelated_frames(k):
    walk, apart = torch.randn(2000, 8, k, generator=G).cumsum(1), torch.rand(2000, 8, k, generator=G) ** 3
    assert st.curvature(walk).degrees.mean().item() == pytest.approx(90, abs=2)
    assert st.curvature(apart).degrees.mean().item() == pytest.approx(120, abs=1.5)


def test_high_dimension_concentrates():
    walk, apart = torch.randn(5, 6, 20_000, generator=G).cumsum(1), torch.randn(5, 6, 20_000, generator=G)
    assert st.curvature(walk).degrees.numpy() == pytest.approx(90, abs=1)
    assert st.curvature(apart).degrees.numpy() == pytest.approx(120, abs=1)
    assert st.curvature(apart).cosine.numpy() == pytest.approx(-0.5, abs=0.02)


def test_all_orders_of_any_three_frames_average_120_degrees():
    for three in (torch.randn(20, 3, 4, generator=G).double(), torch.rand(20, 3, 1, generator=G).double()):
        turns = [st.curvature(three[:, list(order)]).degrees for order in itertools.permutations(range(3))]
        assert torch.stack(turns).mean(0).numpy() == pytest.approx(120, abs=1e-9)


def test_invariances():
    z = torch.randn(30, 9, 4, generator=G).double().cumsum(1)
    q = torch.linalg.qr(torch.randn(4, 4, generator=G).double())[0]
    base = st.curvature(z).degrees
    assert torch.allclose(st.curvature(3 * z @ q + 7).degrees, base, atol=1e-9)
    assert torch.allclose(st.curvature(z.flip(1)).degrees, base, atol=1e-9)
    stretched = z * torch.tensor([1.0, 10, 0.1, 1])
    assert (st.curvature(stretched).degrees - base).abs().max() > 5
    white = [st.curvature(x, whiten=x.flatten(0, 1)).degrees for x in (z, stretched, stretched @ q)]
    assert torch.allclose(white[0], white[1], atol=1e-6) and torch.allclose(white[0], white[2], atol=1e-6)
    flat = torch.cat([z, z[..., :1] - z[..., 1:2], torch.ones(30, 9, 1).double()], 2)  # of rank 4
    assert st.whitener(flat.flatten(0, 1)).shape == (6, 4)
    assert torch.allclose(st.curvature(flat, whiten=flat.flatten(0, 1)).degrees, white[0], atol=1e-6)


def test_steps_of_length_zero_are_left_out_and_counted():
    z = torch.randn(4, 6, 3, generator=G)
    z[1, 3] = z[1, 2]
    z[2] = z[2, 0]
    z[3, 1:] = z[3, 1]
    got = st.curvature(z)
    assert got.excluded.tolist() == [0, 2, 4, 4] and got.degrees.isnan().tolist() == [False, False, True, True]
    two = [st.curvature(part).degrees for part in (z[1, :3], z[1, 3:])]
    assert got.degrees[1].item() == pytest.approx(torch.cat(two).mean().item(), rel=1e-6)
    rounding = torch.full((1, 5, 2), 100.0) + 1e-6 * torch.randn(1, 5, 2, generator=G)
    assert st.curvature(rounding).degrees.isnan().all()  # float32 rounding is rest
    assert not st.curvature(rounding.double() - 100 + 1e-6 * torch.randn(1, 5, 2, generator=G)).degrees.isnan().any()


def test_controls():
    clips = torch.randn(500, 7, 2, 3, generator=G)
    mixed = st.shuffled(clips, seed=1)
    assert torch.equal(mixed.sort(1).values, clips.sort(1).values) and torch.equal(mixed, st.shuffled(clips, seed=1))
    assert (
        not torch.equal(mixed, st.shuffled(clips, seed=2))
        and len({tuple(m[:, 0, 0].argsort().tolist()) for m in mixed}) > 400
    )
    fade = st.linear_fade(clips)
    assert torch.equal(fade[:, 0], clips[:, 0]) and torch.equal(fade[:, -1], clips[:, -1])
    assert torch.allclose(fade.diff(dim=1), (clips[:, -1:] - clips[:, :1]) / 6, atol=1e-5)
    assert st.curvature(fade.double().flatten(2)).degrees.max() < 1e-3
    line = torch.arange(9.0)[None, :, None].expand(3000, -1, 1)
    assert st.curvature(st.shuffled(line)).degrees.mean().item() == pytest.approx(120, abs=1)


def test_straightening():
    frames = torch.randn(40, 8, 1, 5, 5, generator=G)
    z = frames.flatten(2).cumsum(1)
    got = st.straightening(z, frames)
    assert got["degrees"] < got["pixel_degrees"] and got["interval"][0] < got["difference"] < got["interval"][1] < 0
    assert got["difference"] == pytest.approx(got["degrees"] - got["pixel_degrees"]) and got["clips"] == 40
    same = st.straightening(frames.flatten(2), frames)
    assert same["difference"] == 0 and same["interval"] == [0, 0] and not same["whitened"]
    z[0] = 0
    still = st.straightening(z, frames, whiten=z.flatten(0, 1))
    assert (still["still"], still["clips"], still["whitened"]) == (1, 39, True)
    assert json.loads(json.dumps(still, allow_nan=False)) == still
    assert st.straightening(z.numpy(), (frames * 50).byte()) == st.straightening(z, (frames * 50).byte().numpy())


def test_bootstrap_interval_covers():
    truth = [
        low <= 0 <= high
        for low, high in (st.bootstrap_interval(torch.randn(60, generator=G), n=300, seed=i) for i in range(200))
    ]
    assert 0.9 < np.mean(truth) < 0.99
    assert st.bootstrap_interval([2.0]) == (2, 2)


NAN = torch.full((2, 4, 3), torch.nan)


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("z", lambda: st.curvature(torch.zeros(3, 2, 4))),
        ("z", lambda: st.curvature(torch.zeros(4))),
        ("z", lambda: st.curvature([[0.0], [1.0], [2.0]])),
        ("z", lambda: st.curvature(NAN)),
        ("z", lambda: st.curvature(torch.zeros(2, 4, 3, 3))),
        ("z", lambda: st.curvature(torch.zeros(0, 4, 3))),
        ("z", lambda: st.curvature(torch.zeros(2, 4, 0))),
        ("z", lambda: st.curvature(torch.zeros(2, 4, 3, dtype=torch.complex64))),
        ("whiten", lambda: st.curvature(torch.zeros(2, 4, 3), whiten=torch.zeros(9, 3))),
        ("whiten", lambda: st.curvature(torch.zeros(2, 4, 3), whiten=torch.ones(9, 2))),
        ("whiten", lambda: st.curvature(torch.zeros(2, 4, 3), whiten=True)),
        ("whiten", lambda: st.curvature(torch.zeros(2, 4, 3), whiten=NAN[0])),
        ("frames", lambda: st.straightening(torch.zeros(2, 4, 3), torch.zeros(2, 5, 1, 8, 8))),
        ("z", lambda: st.straightening(torch.zeros(2, 4, 3), torch.zeros(2, 4, 9))),
        ("clips", lambda: st.shuffled(torch.zeros(4, 3))),
        ("clips", lambda: st.linear_fade(torch.zeros(4, 1, 3))),
        ("seed", lambda: st.shuffled(torch.zeros(4, 3, 2), seed=-1)),
        ("level", lambda: st.bootstrap_interval([1.0, 2.0], level=0)),
        ("n", lambda: st.bootstrap_interval([1.0], n=0)),
        ("values", lambda: st.bootstrap_interval([])),
    ],
    ids=str,
)
def test_bad_clips(argument, call):
    with pytest.raises(ValueError, match=rf"^{argument}: expected .*, got "):
        call()
