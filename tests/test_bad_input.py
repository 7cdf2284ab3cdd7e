"""Bad input: a ValueError that names the argument, and nothing changed."""

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import scoreae as sa
from scoreae.foundations import samplers
from scoreae.models.zoo import MODELS

SHAPE = (1, 8, 8)
torch.manual_seed(0)
TRAINED = {kind.__name__: kind(SHAPE, 3, **({} if kind is sa.PCA else {"width": 8})) for kind in MODELS}
GOOD = torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(0)) * 2 - 1
for _model in TRAINED.values(): sa.fit(_model, GOOD, steps=1, progress=False)

a_model = st.sampled_from(sorted(TRAINED))
CALLS = {
    "encode": lambda m, x: m.encode(x),
    "posterior": lambda m, x: m.posterior(x),
    "reconstruct": lambda m, x: m.reconstruct(x, steps=1),
    "bound": lambda m, x: m.bound(x, n=1),
    "fit": lambda m, x: sa.fit(m, x, steps=1, progress=False),
}


def state(model) -> str:
    return hashlib.sha256(b"".join(v.numpy().tobytes() for v in model.state_dict().values())).hexdigest()


@st.composite
def bad_images(draw):
    "A batch that is wrong in one way."
    x = GOOD.clone()
    flaw = draw(st.sampled_from(["rank", "channels", "size", "dtype", "type", "range", "nan", "inf", "empty"]))
    if flaw == "rank": return x.flatten(draw(st.integers(0, 2)), 3)
    if flaw == "channels": return x.expand(-1, draw(st.integers(2, 4)), -1, -1)
    if flaw == "size": return torch.zeros(2, 1, draw(st.integers(1, 7)), 8)
    if flaw == "dtype": return draw(st.sampled_from([x.to(torch.uint8), x.long(), x > 0, x.to(torch.complex64)]))
    if flaw == "type": return draw(st.sampled_from([x.tolist(), x.numpy(), None, "images", 3.0]))
    if flaw == "range": return x * draw(st.floats(1.1, 300))
    if flaw == "empty": return x[:0]
    where = draw(st.integers(0, x.numel() - 1))
    x.view(-1)[where] = float("nan") if flaw == "nan" else draw(st.sampled_from([float("inf"), -float("inf")]))
    return x


@settings(max_examples=150, deadline=None)
@given(name=a_model, call=st.sampled_from(sorted(CALLS)), x=bad_images())
def test_bad_images(name, call, x):
    if isinstance(x, torch.Tensor) and x.is_floating_point() and x.numel():
        assume(x.shape[1:] != SHAPE or not x.isfinite().all() or x.abs().max() > 1.001)
    if call == "fit" and isinstance(x, torch.Tensor) and x.dtype == torch.uint8 and x.numel():
        assume(x.shape[1:] != SHAPE)  # a training takes levels, too
    model = TRAINED[name]
    before = state(model)
    with pytest.raises(ValueError, match=r"^x: expected .*, got "): CALLS[call](model, x)
    assert state(model) == before


BAD_DECODING = [
    ("mode", {"mode": "mean"}), ("mode", {"mode": None}),
    ("steps", {"steps": 0}), ("steps", {"steps": 2.5}), ("steps", {"steps": True}),
    ("eta", {"eta": 0.5}), ("eta", {"mode": "sample", "eta": 1.5}), ("eta", {"mode": "sample", "eta": float("nan")}),
    ("order", {"order": 3}), ("grid", {"grid": "even"}), ("seed", {"seed": -1}), ("seed", {"seed": "now"}),
]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(name=a_model, bad=st.sampled_from(BAD_DECODING))
def test_bad_decoding(name, bad):
    argument, kw = bad
    with pytest.raises(ValueError, match=rf"^{argument}: expected .*, got "): TRAINED[name].reconstruct(GOOD, **kw)


BAD_CODES = [torch.zeros(2, 4), torch.zeros(3), torch.zeros(0, 3), [0.0, 0.0, 0.0], torch.full((2, 3), float("nan"))]


@pytest.mark.parametrize("z", BAD_CODES, ids=str)
@pytest.mark.parametrize("name", sorted(TRAINED))
def test_bad_codes(name, z):
    with pytest.raises(ValueError, match=r"^z: expected "): TRAINED[name].decode(z, steps=1)


@pytest.mark.parametrize("t", [-0.1, 1.5, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["SAMI", "DBAE"])
def test_times_outside_the_path(name, t):
    model = TRAINED[name]
    z = torch.zeros(6, 3)
    with pytest.raises(ValueError, match=r"^t: expected times in \[0, 1\]"), torch.no_grad():
        model.denoiser(z, model.endpoint(z))(GOOD, torch.full((6,), t))


AE, SAMI, DBAE = (TRAINED[k] for k in ("AE", "SAMI", "DBAE"))
BAD_ARGUMENTS = [
    ("shape", lambda: sa.SAMI((8, 8), 2)), ("shape", lambda: sa.DBAE((1, 0, 8), 2)), ("shape", lambda: sa.AE(8, 2)),
    ("shape", lambda: sa.PCA((1, 8.0, 8), 2)), ("width", lambda: sa.AE(SHAPE, 2, width=0)),
    ("z_dim", lambda: sa.SAMI(SHAPE, 0)), ("z_dim", lambda: sa.AE(SHAPE, 2.0)), ("z_dim", lambda: sa.PCA(SHAPE, 65)),
    ("kl_weight", lambda: sa.SAMI(SHAPE, 2, kl_weight=-1.0)), ("p_uncond", lambda: sa.SAMI(SHAPE, 2, p_uncond=1.5)),
    ("regime", lambda: sa.SAMI(SHAPE, 2, regime="frozenish")), ("std_floor", lambda: sa.SAMI(SHAPE, 2, std_floor=0.0)),
    ("path", lambda: sa.SAMI(SHAPE, 2, path="vp")), ("time_conditioned", lambda: sa.SAMI(SHAPE, 2, time_conditioned=2)),
    ("weighting", lambda: sa.DBAE(SHAPE, 2, weighting="l2")), ("condition", lambda: sa.DBAE(SHAPE, 2, condition="x")),
    ("path", lambda: sa.DBAE(SHAPE, 2, path=sa.Pinned(sa.VE()))), ("path", lambda: sa.DBAE(SHAPE, 2, path=["vp"])),
    ("kl_weight", lambda: sa.DBAE(SHAPE, 2, kl_weight=0.1)), ("stochastic", lambda: sa.DBAE(SHAPE, 2, stochastic="no")),
    ("gamma_max", lambda: sa.SAMI(SHAPE, 2, gamma_max=float("inf"))),
    ("T", lambda: sa.VE(-1.0)), ("beta_min", lambda: sa.VPLinear(0.0)),
    ("base", lambda: sa.Pinned(sa.VPCosine(-40.0))), ("base", lambda: sa.Pinned("vp")),
    ("steps", lambda: sa.fit(AE, GOOD, steps=-1)), ("steps", lambda: sa.fit(AE, GOOD, steps=1, minutes=1)),
    ("minutes", lambda: sa.fit(AE, GOOD, minutes=-1.0)), ("batch_size", lambda: sa.fit(AE, GOOD, batch_size=0)),
    ("lr", lambda: sa.fit(AE, GOOD, steps=1, lr=0.0)), ("ema", lambda: sa.fit(AE, GOOD, steps=1, ema=1.5)),
    ("clip", lambda: sa.fit(AE, GOOD, steps=1, clip=0.0)), ("log_every", lambda: sa.fit(AE, GOOD, log_every=0)),
    ("seed", lambda: sa.fit(AE, GOOD, steps=1, seed=-2)), ("x", lambda: sa.fit(AE, GOOD[:1], steps=1)),
    ("n", lambda: AE.sample(0)), ("n", lambda: AE.interpolate(GOOD[0], GOOD[1], n=0)),
    ("x1", lambda: AE.interpolate(GOOD[0], GOOD[1] * 3)), ("x0", lambda: AE.interpolate(GOOD, GOOD)),
    ("x0", lambda: AE.interpolate(GOOD[0].tolist(), GOOD[1])),
    ("tau", lambda: SAMI.bound(GOOD, tau=0.1)), ("tau", lambda: AE.bound(GOOD, tau=-0.1)),
    ("tau", lambda: AE.bound(GOOD, tau=0)), ("tau", lambda: AE.bound(GOOD, tau="small")),
    ("levels", lambda: AE.bound(GOOD, levels=1)), ("levels", lambda: AE.bound(GOOD, levels=0)),
    ("gamma_max", lambda: SAMI.bound(GOOD, gamma_max=0)), ("n", lambda: SAMI.bound(GOOD, n=0)),
    ("repeats", lambda: SAMI.bound(GOOD, repeats=1)), ("seed", lambda: SAMI.bound(GOOD, seed=1.5)),
    ("x", lambda: SAMI.bound(GOOD, levels=17, n=1)),  # not on 17 levels
    ("eta", lambda: samplers.sample(None, sa.VPCosine(), GOOD, eta=2.0)),
]  # fmt: skip


@pytest.mark.parametrize(("argument", "call"), BAD_ARGUMENTS, ids=lambda v: v if isinstance(v, str) else "")
def test_bad_arguments(argument, call):
    states = {k: state(m) for k, m in TRAINED.items()}
    with pytest.raises(ValueError, match=rf"^{argument}: expected .*, got "): call()
    assert states == {k: state(m) for k, m in TRAINED.items()}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def damage(how: str, folder: Path) -> None:
    config, weights = folder / "config.json", next(folder.glob("*.safetensors"))
    data = json.loads(config.read_text())
    put = lambda **kw: config.write_text(json.dumps({**data, **kw}))
    put_argument = lambda **kw: put(config={**data["config"], **kw})
    {
        "no config": config.unlink,
        "no weights": weights.unlink,
        "truncated weights": lambda: weights.write_bytes(weights.read_bytes()[:-100]),
        "empty weights": lambda: weights.write_bytes(b""),
        "flipped byte": lambda: weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f"),
        "truncated config": lambda: config.write_text(config.read_text()[:40]),
        "config is a list": lambda: config.write_text("[1, 2]"),
        "config is binary": lambda: config.write_bytes(b"\xff\xfe\x00"),
        "config is deep": lambda: config.write_text("[" * 100_000),
        "unknown format": lambda: put(format=99),
        "format is true": lambda: put(format=True),
        "unknown class": lambda: put(**{"class": "VQVAE"}),
        "another class": lambda: put(**{"class": "PCA" if data["class"] != "PCA" else "AE"}),
        "unknown argument": lambda: put_argument(magic=1),
        "wrong argument": lambda: put_argument(shape="large"),
        "unknown path": lambda: put_argument(path={"path": "Brownian"}),
        "other size": lambda: put_argument(z_dim=5),
        "no class": lambda: config.write_text(json.dumps({k: v for k, v in data.items() if k != "class"})),
        "arguments are a list": lambda: put(config=[1]),
        "escaping path": lambda: put(weights="../other.safetensors"),
        "weights of a number": lambda: put(weights=3),
        "not safetensors": lambda: [weights.write_bytes(b"{}"), put(sha256=hashlib.sha256(b"{}").hexdigest())],
    }[how]()


HOW = [
    "no config", "no weights", "truncated weights", "empty weights", "flipped byte", "truncated config",
    "config is a list", "config is binary", "config is deep", "unknown format", "format is true", "unknown class",
    "another class",
    "unknown argument", "wrong argument", "unknown path", "other size", "no class", "arguments are a list",
    "escaping path", "weights of a number", "not safetensors",
]  # fmt: skip


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", sorted(TRAINED))
def test_damaged_model(name, how, tmp_path):
    TRAINED[name].save(tmp_path / "m")
    damage(how, tmp_path / "m")
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"^(folder|shape|path): expected "): sa.load(tmp_path / "m")
    assert contents(tmp_path) == before


def test_a_model_of_another_class(tmp_path):
    TRAINED["AE"].save(tmp_path / "m")
    with pytest.raises(ValueError, match=r"^folder: expected a saved SAMI, got"): sa.SAMI.load(tmp_path / "m")
    with pytest.raises(ValueError, match="folder"): sa.load(tmp_path / "nothing here")


def test_save_touches_only_its_own_files(tmp_path):
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "thesis.txt").write_text("years of work")
    (notes / "model-00000000.safetensors").write_text("somebody else's")
    for name in ("AE", "SAMI", "AE"): TRAINED[name].save(notes)
    assert isinstance(sa.load(notes), sa.AE)
    assert (notes / "thesis.txt").read_text() == "years of work"
    assert sorted(p.suffix for p in notes.iterdir()) == [".json", ".safetensors", ".safetensors", ".txt"]
    assert (notes / "model-00000000.safetensors").read_text() == "somebody else's"


@pytest.mark.parametrize("text", ['{"model_type": "bert"}', "not json", "[" * 100_000], ids=["another", "text", "deep"])
def test_save_refuses_a_folder_of_something_else(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"^folder: expected no config.json, or one of"): AE.save(tmp_path)
    assert contents(tmp_path) == {"config.json": text.encode()}
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="folder: expected a folder"): AE.save(tmp_path / "file")


def test_a_model_that_cannot_be_loaded_is_not_saved(tmp_path):
    model = sa.SAMI(SHAPE, 2, width=8, path=type("Odd", (sa.VPCosine,), {})())
    with pytest.raises(ValueError, match=r"^config: expected"): model.save(tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_an_interrupted_save_leaves_the_old_model(tmp_path, monkeypatch):
    "A full disk at any of the writes: the folder still holds the old model, whole; and saving again works."
    TRAINED["AE"].save(tmp_path / "m")
    other = sa.PCA(SHAPE, 3)
    for failing in (1, 2):
        before, calls = contents(tmp_path), []

        def full(*args, calls=calls, failing=failing, sync=os.fsync):
            calls.append(1)
            if len(calls) == failing: raise OSError(28, "No space left on device")
            sync(*args)

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"): other.save(tmp_path / "m")
        monkeypatch.undo()
        assert isinstance(sa.load(tmp_path / "m"), sa.AE)
        assert {k: v for k, v in contents(tmp_path).items() if k in before} == before
        assert not [p for p in (tmp_path / "m").iterdir() if p.name.startswith(".")]
    other.save(tmp_path / "m")
    assert isinstance(sa.load(tmp_path / "m"), sa.PCA)
