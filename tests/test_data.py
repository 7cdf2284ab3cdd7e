"""Data: drawn images against brute force, odd and damaged files, sets that are not there, caches that stay whole."""

import builtins
import io
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import scoreae as sa
from scoreae import data
from scoreae.images import files, rendered

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)


def png(path: Path, array=PHOTO, **kw) -> Path:
    Image.fromarray(array).save(path, **kw)
    return path


# ---------------------------------------------------------------- drawn images


def inside(shape: str, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    "Is (u, v) inside the upright shape of area 1 with its centroid at the origin? Written without distances."
    if shape == "disk":
        return u**2 + v**2 <= 1 / torch.pi
    if shape == "square":
        return (u.abs() <= 0.5) & (v.abs() <= 0.5)
    if shape == "ellipse":
        return (u**2 + 4 * v**2) <= 2 / torch.pi
    h = (4 + torch.pi) ** -0.5
    v = v + 2**0.5 * h * (torch.pi / 2 + 2 / 3) / (4 + torch.pi) * -1  # origin at the middle of the square
    body = u.abs() + v.abs() <= 2**0.5 * h
    lobe = (u.abs() - h / 2**0.5) ** 2 + (v + h / 2**0.5) ** 2 <= h**2
    return body | lobe


@pytest.mark.parametrize("shape", rendered.SHAPES)
@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
def test_shapes_against_supersampling(shape, size):
    pose = torch.tensor([[0.5, 0.5, 0.0, 0.3], [0.43, 0.52, 0.7, 0.4], [0.6, 0.45, 4.0, 0.25]])
    h, w, k, d = *size, 16, 1 / min(size)
    X, Y = (torch.arange(w * k) + 0.5) / k * d, (torch.arange(h * k) + 0.5) / k * d
    for p, got in zip(pose, rendered.draw(shape, pose, size), strict=True):
        dx, dy = X - p[0], (Y - p[1])[:, None]
        u, v = dx * p[2].cos() + dy * p[2].sin(), dy * p[2].cos() - dx * p[2].sin()
        want = inside(shape, u / p[3], v / p[3]).float().unfold(0, k, k).unfold(1, k, k).mean((2, 3))
        error = (got[0] - want).abs()
        assert error.mean() < 2e-3 and error.max() < (0.3 if shape in ("square", "heart") else 0.12), (
            error.mean(),
            error.max(),
        )
        hard = rendered.draw(shape, p[None], size, soft=False)[0, 0]
        assert (
            set(hard.unique().tolist()) == {0.0, 1.0}
            and ((hard != (want > 0.5)) & ((want - 0.5).abs() > 0.2)).sum() == 0
        )


def test_a_heart_has_its_centroid_at_the_origin():
    t = (torch.arange(2000).double() + 0.5) / 2000 * 2 - 1
    m = inside("heart", t[None, :], t[:, None]).double()
    assert m.sum() * 1e-6 == pytest.approx(1, abs=2e-3)
    assert abs((m * t[:, None]).sum() / m.sum()) < 1e-3


@settings(max_examples=30, deadline=None)
@given(
    h=st.integers(8, 50),
    w=st.integers(8, 50),
    seed=st.integers(0, 99),
    dependent=st.booleans(),
    disk=st.floats(0, 1),
    contrast=st.floats(0, 0.45),
)
def test_disks_of_any_size(h, w, seed, dependent, disk, contrast):
    x, f, names = data.disks(7, (h, w), disk=disk, contrast=contrast, dependent=dependent, seed=seed)
    assert x.shape == (7, 1, h, w) and x.dtype == torch.float32 and x.abs().max() <= 1 and f.shape == (7, len(names))
    assert (f[:, 2] - disk).abs().min() >= contrast - 1e-5 and f[:, 2].min() >= 0 and f[:, 2].max() <= 1
    assert (
        (f[:, :2] >= 0.1874).all()
        and (f[:, 0] <= w / min(h, w) - 0.1874).all()
        and (f[:, 1] <= h / min(h, w) - 0.1874).all()
    )
    again = data.disks(7, (h, w), disk=disk, contrast=contrast, dependent=dependent, seed=seed)
    assert torch.equal(x, again.x) and torch.equal(data.draw_disks(f, (h, w), disk=disk), x)


def test_sizes_agree():
    "The same factors at twice the size, averaged over 2 x 2 pixels, are the image at the size itself."
    f = data.sprites(50).factors
    big, small = data.draw_sprites(f, 128), data.draw_sprites(f, 64)
    assert (torch.nn.functional.avg_pool2d(big, 2) - small).abs().mean() < 3e-3


def test_factors_are_uniform_and_independent():
    f = data.sprites(20000, 8).factors.double()
    assert np.abs(np.corrcoef(f.T) - np.eye(5)).max() < 0.03
    for column in f[:, 1:].T:
        u = (column - column.min()) / (column.max() - column.min())
        assert (u.sort().values - torch.linspace(0, 1, 20000)).abs().max() < 0.02
    grid = data.sprites(20000, 8, grid=True).factors
    assert torch.allclose(grid[:, 2].unique(), torch.linspace(0, 2 * torch.pi, 40), atol=1e-6)
    assert torch.allclose(grid[:, 1].unique(), torch.tensor([0.5, 0.6, 0.7, 0.8, 0.9, 1.0]))


@pytest.mark.parametrize("motion", sorted(rendered.MOTIONS))
@pytest.mark.parametrize("subject", [*rendered.SHAPES, "images"])
def test_clips(subject, motion):
    images = data.digits("test")[:3].expand(-1, 3, -1, -1) if subject == "images" else None
    x, f, names = data.clips(
        subject if images is None else images, 5, 7, motion, size=(24, 36), background=-0.5, seed=3
    )
    assert (
        x.shape == (5, 7, 1 if images is None else 3, 24, 36)
        and f.shape == (5, 7, 5)
        and x.abs().max() <= 1
        and x.isfinite().all()
    )
    moved = (f.diff(dim=1).abs() > 1e-6).any(1).any(0)
    assert {n for n, m in zip(names, moved, strict=True) if m} == {
        "move": {"x", "y"},
        "circle": {"x", "y"},
        "rotate": {"orientation"},
        "scale": {"scale"},
        "fade": {"opacity"},
    }[motion]
    edge = torch.cat([x[..., 0, :].flatten(), x[..., -1, :].flatten(), x[..., 0].flatten(), x[..., -1].flatten()])
    assert torch.allclose(edge, torch.tensor(-0.5), atol=1e-6), "the subject leaves the frame"
    if motion == "fade":
        assert torch.allclose(x[:, -1], torch.tensor(-0.5)) and (x.diff(n=2, dim=1).abs() < 1e-5).all()
    if motion == "circle":
        assert torch.allclose(f[:, 0, :2], f[:, -1, :2], atol=1e-5)


def test_carried_image_is_the_image():
    "At the pose that fits the frame exactly, sampling reproduces the image; a quarter turn turns it clockwise."
    image = torch.rand(1, 2, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    pose = torch.tensor([[0.5, 0.5, 0.0, 1.0], [0.5, 0.5, torch.pi / 2, 1.0]])
    got = rendered._carry(image, torch.tensor([0, 0]), pose, 8, -1.0)
    assert torch.allclose(got[0], image[0], atol=1e-5) and torch.allclose(got[1], image[0].rot90(-1, (1, 2)), atol=1e-5)


def test_no_global_randomness():
    before = torch.get_rng_state()
    data.disks(3), data.sprites(3), data.clips("disk", 2), data.patches(limit=2)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("n", lambda: data.disks(0)),
        ("n", lambda: data.sprites(2.5)),
        ("size", lambda: data.disks(3, 0)),
        ("size", lambda: data.disks(3, (8, 8, 8))),
        ("size", lambda: data.sprites(3, side=0.8)),
        ("radius", lambda: data.disks(3, radius=-1)),
        ("disk", lambda: data.disks(3, disk=2)),
        ("contrast", lambda: data.disks(3, contrast=0.9)),
        ("seed", lambda: data.disks(3, seed=-1)),
        ("factors", lambda: data.draw_disks(torch.zeros(3, 2))),
        ("factors", lambda: data.draw_disks(torch.tensor([[0.5, 0.5, 1.5]]))),
        ("factors", lambda: data.draw_sprites(torch.zeros(0, 5))),
        ("pose", lambda: rendered.draw("disk", torch.tensor([[0.5, 0.5, 0.0, float("nan")]]))),
        ("shape", lambda: rendered.draw("star", torch.zeros(1, 4))),
        ("subject", lambda: data.clips("star", 3)),
        ("subject", lambda: data.clips(torch.zeros(3, 8, 8), 3)),
        ("frames", lambda: data.clips("disk", 3, 1)),
        ("motion", lambda: data.clips("disk", 3, motion="fly")),
        ("background", lambda: data.clips("disk", 3, background=3)),
    ],
)
def test_bad_drawing(argument, call):
    with pytest.raises(ValueError, match=f"^{argument}: expected "):
        call()


# ---------------------------------------------------------------- files


def outcome(file: Path) -> tuple:
    "The image in `file`, or `None` and the message of the `ValueError`."
    try:
        return data.load(file, as_uint8=True), ""
    except ValueError as e:
        return None, str(e)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"]),
    cut=st.floats(0, 0.98),
    mode=st.sampled_from(["L", "RGB"]),
)
def test_truncated_files(tmp_path_factory, kind, cut, mode):
    "A file that was cut short is refused by name, whatever the format, or it is whole: never half a picture."
    buffer = io.BytesIO()
    Image.fromarray(PHOTO).convert(mode).save(buffer, kind)
    whole = buffer.getvalue()
    file = tmp_path_factory.mktemp("cut") / f"photo.{kind.lower()}"
    file.write_bytes(whole)
    good = data.load(file, as_uint8=True)
    file.write_bytes(whole[: int(cut * len(whole))])
    got, message = outcome(file)
    assert message.startswith("file: expected ") if got is None else torch.equal(got, good)


@settings(max_examples=60, deadline=None)
@given(where=st.integers(0, 10**6), value=st.integers(0, 255))
def test_flipped_bytes_never_crash(tmp_path_factory, where, value):
    file = png(tmp_path_factory.mktemp("flip") / "photo.png")
    content = bytearray(file.read_bytes())
    content[where % len(content)] = value
    file.write_bytes(content)
    got, message = outcome(file)
    assert "photo.png" in message if got is None else len(got) == 1


def test_exif_orientations(tmp_path):
    "All eight orientations of EXIF bring the same picture upright."
    upright = Image.fromarray(PHOTO)
    T = Image.Transpose
    undo = {
        1: None,
        2: T.FLIP_LEFT_RIGHT,
        3: T.ROTATE_180,
        4: T.FLIP_TOP_BOTTOM,
        5: T.TRANSPOSE,
        6: T.ROTATE_90,
        7: T.TRANSVERSE,
        8: T.ROTATE_270,
    }
    want = data.load(PHOTO[None], as_uint8=True)
    for tag, how in undo.items():
        exif = Image.Exif()
        exif[0x0112] = tag
        (upright if how is None else upright.transpose(how)).save(tmp_path / "x.png", exif=exif)
        assert torch.equal(data.load(tmp_path / "x.png", as_uint8=True), want), tag


def test_modes(tmp_path):
    def one(im, **kw):
        suffix = kw.pop("suffix", "png")
        im.save(tmp_path / f"x.{suffix}", **kw)
        return files.frames(tmp_path / f"x.{suffix}")[0]

    grey = Image.fromarray(PHOTO[..., 0])
    assert one(grey).shape == (1, 1, 20, 30) and one(grey.convert("1")).unique().tolist() == [0, 255]
    assert one(Image.fromarray(np.array([[0, 257, 65535]], np.uint16))).flatten().tolist() == [0, 1, 255]
    assert one(Image.fromarray(np.array([[0, 257, 65535]], np.uint16)), suffix="tif").flatten().tolist() == [0, 1, 255]
    assert one(Image.fromarray(np.array([[0, 65535]], np.int32)), suffix="tif").flatten().tolist() == [0, 255]
    for bad in (np.array([[0, 70000]], np.int32), np.array([[0.0, 0.5]], np.float32)):
        with pytest.raises(ValueError, match="no agreed white"):
            one(Image.fromarray(bad), suffix="tif")
    half = grey.convert("LA")
    half.putalpha(0)
    assert one(half).shape == (1, 1, 20, 30) and one(half).unique().tolist() == [255]
    palette = Image.fromarray(PHOTO).quantize(16)
    assert one(palette).shape == (1, 3, 20, 30)
    assert (
        one(palette, transparency=0).float() - one(palette).float()
    ).abs().sum() > 0  # the transparent colour is now white
    assert one(Image.fromarray(PHOTO).convert("CMYK"), suffix="jpg", quality=95).shape == (1, 3, 20, 30)
    assert one(Image.fromarray(PHOTO).convert("YCbCr"), suffix="tif").shape == (1, 3, 20, 30)


def test_photograph_with_a_preview(tmp_path):
    "An MPO file, as phones write them, is one photograph."
    first, second = Image.fromarray(PHOTO), Image.fromarray(255 - PHOTO)
    first.save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[second])
    assert len(files.frames(tmp_path / "phone.jpg")) == 1


def test_decompression_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(ValueError, match=r"bomb\.png"):
        data.load(png(tmp_path / "bomb.png"))


def test_folder(tmp_path):
    for name, k in [("frame10.png", 10), ("frame2.png", 2), ("deep/frame1.PNG", 1)]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        png(tmp_path / name, np.full((6, 8), k, np.uint8))
    (tmp_path / ".hidden").write_text("no image")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("no image")
    assert data.load(tmp_path, as_uint8=True)[:, 0, 0, 0].tolist() == [1, 2, 10]
    assert len(data.load(tmp_path, limit=2)) == 2
    png(tmp_path / "large.png", PHOTO)
    with pytest.raises(ValueError, match=r"size: expected a size, since the images differ \(\(6, 8\), \(20, 30\)\)"):
        data.load(tmp_path)
    assert data.load(str(tmp_path), size=(5, 7)).shape == (4, 3, 5, 7) and data.load(tmp_path, 5, 1).shape == (
        4,
        1,
        5,
        5,
    )
    for crop in files.CROPS:
        assert data.load(tmp_path, (5, 7), crop=crop).shape == (4, 3, 5, 7)
    (tmp_path / "notes.txt").write_text("a note")
    Image.fromarray(PHOTO).save(tmp_path / "moving.gif", save_all=True, append_images=[Image.fromarray(255 - PHOTO)])
    with pytest.raises(ValueError, match=r"moving\.gif|notes\.txt"):
        data.load(tmp_path, 5)
    bad = []
    assert len(data.load(tmp_path, 5, skipped=bad)) == 4
    assert [Path(f).name for f, _ in bad] == ["moving.gif", "notes.txt"] and all(reason for _, reason in bad)


def test_nothing_to_read(tmp_path):
    with pytest.raises(ValueError, match="a folder with image files"):
        data.load(tmp_path)
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ValueError, match="at least one image that can be read"):
        data.load(tmp_path, skipped=[])
    for spec in ([], np.zeros((0, 8, 8), np.uint8)):
        with pytest.raises(ValueError, match=r"^spec: expected "):
            data.load(spec)


@pytest.mark.parametrize("folder", ["plain", "with space", "ünïcode", "dot.png"])
def test_odd_names(tmp_path, folder):
    (tmp_path / folder).mkdir()
    png(tmp_path / folder / "bild ä (1).png")
    assert data.load(tmp_path / folder).shape == (1, 3, 20, 30)


def test_arrays():
    base = RNG.integers(0, 256, (4, 10, 12), dtype=np.uint8)
    want = torch.from_numpy(base)[:, None]
    x = files.to_float(want)
    for spec, kw in [
        (base, {}),
        (want, {}),
        (base[..., None], {}),
        (base[:, None], {}),
        (base > 127, {}),
        (x, {}),
        (x.double(), {}),
        (x.half(), {}),
        (x.bfloat16(), {}),
        (base.astype(np.int64), {"value_range": (0, 255)}),
        ((base / 255), {"value_range": (0, 1)}),
        (base[:, ::-1], {}),
        (base.astype(np.uint16) * 257, {}),
        (base.astype(">u2") * 257, {"value_range": (0, 65535)}),
        (torch.from_numpy(base.astype(np.uint16) * 257), {}),
    ]:
        got = data.load(spec, **kw)
        assert got.shape == (4, 1, 10, 12) and got.dtype == torch.float32 and got.abs().max() <= 1
        reference = (
            x.flip(2)
            if isinstance(spec, np.ndarray) and spec.strides[1] < 0
            else (2.0 * (want > 127) - 1)
            if getattr(spec, "dtype", None) == np.bool_
            else x
        )
        assert (got - reference).abs().max() < (
            5e-3 if getattr(spec, "dtype", None) in (torch.half, torch.bfloat16) else 1e-6
        )
    assert torch.equal(data.load(x), x) and data.load(want, as_uint8=True).dtype == torch.uint8
    alpha = np.zeros((2, 5, 6, 4), np.uint8)
    assert data.load(alpha).unique().tolist() == [1.0] and data.load(alpha, background=-1.0).unique().tolist() == [-1.0]


def test_load_leaves_the_source_alone():
    a = RNG.integers(0, 256, (4, 10, 12), dtype=np.uint8)
    kept = a.copy()
    data.load(a, as_uint8=True).zero_()
    assert (a == kept).all()
    t = torch.rand(2, 1, 4, 4) * 2 - 1
    data.load(t).zero_()
    assert t.abs().max() > 0


@pytest.mark.parametrize(
    ("argument", "spec", "kw"),
    [
        ("spec", np.zeros((8, 8), np.uint8), {}),
        ("spec", np.zeros((2, 3, 4, 5, 6), np.uint8), {}),
        ("spec", np.array(["a"]), {}),
        ("spec", None, {}),
        ("spec", 3, {}),
        ("spec", {"a": 1}, {}),
        ("layout", np.zeros((2, 5, 6, 7), np.uint8), {}),
        ("layout", np.zeros((2, 3, 6, 3), np.uint8), {}),
        ("layout", np.zeros((2, 3, 6, 3), np.uint8), {"layout": "HWC"}),
        ("value_range", np.ones((2, 4, 4)), {}),
        ("value_range", np.ones((2, 4, 4), np.int32), {}),
        ("value_range", np.ones((2, 4, 4)), {"value_range": (1, 0)}),
        ("spec", -5 * np.ones((2, 4, 4)), {}),
        ("spec", np.full((2, 4, 4), np.nan), {}),
        ("spec", np.full((2, 4, 4), 2.0), {"value_range": (0, 1)}),
        ("size", PHOTO[None], {"size": 0}),
        ("size", PHOTO[None], {"size": (4, 4, 4)}),
        ("channels", PHOTO[None], {"channels": 2}),
        ("crop", PHOTO[None], {"crop": "fit"}),
        ("background", PHOTO[None], {"background": 255}),
        ("limit", PHOTO[None], {"limit": 0}),
        ("skipped", PHOTO[None], {"skipped": True}),
        ("spec", "no such file.png", {}),
        ("spec", [PHOTO, PHOTO / 255], {}),
    ],
    ids=str,
)
def test_bad_specs(argument, spec, kw):
    with pytest.raises(ValueError, match=f"^{argument}: expected "):
        data.load(spec, **kw)


def test_datasets(tmp_path):
    pictures = [(Image.fromarray(PHOTO), 3), (Image.fromarray(PHOTO[..., 0]), 4)]
    assert data.load(pictures).shape == (2, 3, 20, 30) and data.load(iter(pictures)).shape == (2, 3, 20, 30)
    floats = [(torch.rand(1, 8, 8), 0) for _ in range(5)]
    with pytest.raises(ValueError, match="value_range"):
        data.load(floats)
    assert data.load(floats, value_range=(0, 1), limit=3).shape == (3, 1, 8, 8)
    dark = [
        torch.full((1, 8, 8), 1.0),
        torch.full((1, 8, 8), -1.0),
    ]  # an item without negative values is no reason to stop
    assert data.load(dark)[:, 0, 0, 0].tolist() == [1.0, -1.0]
    assert data.load([png(tmp_path / "a.png"), str(tmp_path / "a.png")]).shape == (2, 3, 20, 30)


def test_npy_and_npz(tmp_path):
    np.save(tmp_path / "a.npy", PHOTO[None])
    np.savez(tmp_path / "a.npz", images=PHOTO[None])
    assert torch.equal(data.load(tmp_path / "a.npy"), data.load(tmp_path / "a.npz"))
    np.savez(tmp_path / "two.npz", a=PHOTO, b=PHOTO)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-50])
    (tmp_path / "cut.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:-50])
    (tmp_path / "pickle.npy").write_bytes(pickle.dumps([1, 2]))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name in ("two.npz", "cut.npy", "cut.npz", "pickle.npy", "objects.npy"):
        with pytest.raises(ValueError, match=name.replace(".", r"\.")):
            data.load(tmp_path / name)


def write_video(file: Path, n: int = 6) -> None:
    av = pytest.importorskip("av")
    with av.open(str(file), "w") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        for k in range(n):
            frame = av.VideoFrame.from_ndarray(np.full((24, 32, 3), 40 * k, np.uint8), format="rgb24")
            for packet in stream.encode(frame):
                out.mux(packet)
        for packet in stream.encode():
            out.mux(packet)


def test_video(tmp_path):
    write_video(tmp_path / "clip.mp4")
    x = data.load(tmp_path / "clip.mp4", as_uint8=True)
    assert x.shape == (6, 3, 24, 32) and (x.float().mean((1, 2, 3)) - 40 * torch.arange(6)).abs().max() < 6
    assert data.load(tmp_path / "clip.mp4", size=16, channels=1, limit=2).shape == (2, 1, 16, 16)
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "clip.mp4").read_bytes()[:300])
    (tmp_path / "text.mp4").write_text("not a video")
    for name in ("cut.mp4", "text.mp4"):
        with pytest.raises(ValueError, match=name.replace(".", r"\.")):
            data.load(tmp_path / name)


def test_video_without_pyav(tmp_path, monkeypatch):
    (tmp_path / "clip.mp4").write_bytes(b"0")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"pip install 'scoreae\[video\]'"):
        data.load(tmp_path / "clip.mp4")


@settings(max_examples=40, deadline=None)
@given(
    h=st.integers(1, 40),
    w=st.integers(1, 40),
    H=st.integers(1, 40),
    W=st.integers(1, 40),
    crop=st.sampled_from(files.CROPS),
    u8=st.booleans(),
)
def test_resize_any_to_any(h, w, H, W, crop, u8):
    x = torch.full((2, 3, H, W), 7 if u8 else 0.25, dtype=torch.uint8 if u8 else torch.float32)
    y = files.resize(x, (h, w), crop)
    assert y.shape == (2, 3, h, w) and y.dtype == x.dtype
    inner = y if crop != "pad" else y[(y - x[0, 0, 0, 0]).float().abs() < 1e-4]
    assert inner.numel() and torch.allclose(inner.float(), x[0, 0, 0, 0].float(), atol=1e-4)


# ---------------------------------------------------------------- caches and sets


def test_data_root(monkeypatch, tmp_path):
    for name in ("SCOREAE_DATA", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    for platform, tail in [
        ("linux", ".cache/scoreae"),
        ("darwin", "Library/Caches/scoreae"),
        ("win32", "AppData/Local/scoreae"),
    ]:
        monkeypatch.setattr(sys, "platform", platform)
        assert files.data_root() == tmp_path / tail
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert files.data_root() == Path("/cache/scoreae")
    monkeypatch.setenv("SCOREAE_DATA", "/elsewhere")
    assert files.data_root() == Path("/elsewhere") and files.data_root("/here") == Path("/here")


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    (tmp_path / "source").write_bytes(b"x" * 5000)

    def full(source, sink):
        sink.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.shutil, "copyfileobj", full)
    with pytest.raises(ValueError, match=r"target.*No space left"):
        files.fetch((tmp_path / "source").as_uri(), tmp_path / "cache" / "target", "md5:0")
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_interrupt_leaves_nothing(tmp_path):
    def interrupted():
        with files.staged(tmp_path / "target") as part:
            part.mkdir()
            (part / "half").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_a_good_file_survives_a_bad_download(tmp_path):
    target = tmp_path / "target"
    target.write_text("good")
    (tmp_path / "source").write_text("bad")
    with pytest.raises(ValueError, match="checksum"):
        files.fetch((tmp_path / "source").as_uri(), target, "sha256:00")
    assert target.read_text() == "good" and len(list(tmp_path.iterdir())) == 2


class FakeSet:
    "A torchvision set that writes its folder when it downloads; `fault` strikes halfway."

    folder, fault = "MNIST", None

    def __init__(self, root, download=False, **kw):
        place = Path(root) / self.folder
        if download:
            place.mkdir(parents=True)
            (place / "half").write_text("half")
            if self.fault:
                raise self.fault
            (place / "whole").write_text("whole")
        if not (place / "whole").exists():
            raise RuntimeError("Dataset not found or corrupted.")
        self.kw, n = kw, 50
        self.data, self.targets = torch.arange(n * 16).reshape(n, 4, 4).to(torch.uint8), torch.arange(n)


@pytest.mark.parametrize(
    "fault",
    [OSError(28, "No space left on device"), RuntimeError("Error downloading"), KeyboardInterrupt()],
    ids=["disk", "network", "ctrl-c"],
)
def test_a_download_that_fails_leaves_nothing(tmp_path, monkeypatch, fault):
    import torchvision.datasets

    monkeypatch.setattr(torchvision.datasets, "MNIST", type("MNIST", (FakeSet,), {"fault": fault}))
    with pytest.raises((ValueError, KeyboardInterrupt)) as e:
        data.mnist(root=tmp_path, download=True)
    assert "MNIST" in str(e.value) or isinstance(e.value, KeyboardInterrupt)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(torchvision.datasets, "MNIST", FakeSet)
    assert len(data.mnist(root=tmp_path, download=True)) == 45
    assert [p.name for p in tmp_path.iterdir()] == ["MNIST"] and len(data.mnist("val", root=tmp_path)) == 5
    (tmp_path / "MNIST" / "whole").unlink()
    with pytest.raises(ValueError, match="remove it and download again"):
        data.mnist(root=tmp_path)


SETS = {
    "mnist": "MNIST",
    "fashion_mnist": "FashionMNIST",
    "cifar10": "CIFAR10",
    "celeba": "CelebA",
    "moving_mnist": "MovingMNIST",
    "dsprites": "dSprites",
}


def test_one_pixel_and_one_animation(tmp_path):
    from PIL import Image

    png(tmp_path / "dot.png", np.full((1, 1), 51, np.uint8))
    assert torch.equal(files.load(tmp_path / "dot.png", size=4), torch.full((1, 1, 4, 4), -0.6))
    parts = [Image.fromarray(np.full((4, 4), v, np.uint8)) for v in (0, 128, 255)]
    parts[0].save(tmp_path / "clip.gif", save_all=True, append_images=parts[1:])
    clip = files.load(tmp_path / "clip.gif")
    assert clip.shape[0] == 3 and clip.shape[2:] == (4, 4)
    assert files.to_uint8(clip)[:, 0, 0, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("name", sorted(SETS))
def test_nothing_is_downloaded_unasked(name, tmp_path, monkeypatch):
    import socket

    def closed(*a, **k):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket, "socket", closed)
    monkeypatch.setenv("SCOREAE_DATA", str(tmp_path / "none"))
    with pytest.raises(ValueError, match=rf"{SETS[name]}.*download=True"):
        getattr(data, name)()
    with pytest.raises(ValueError, match=r"^split: expected one of 'train'"):
        getattr(data, name)("all")
    assert not (tmp_path / "none").exists()


class FakeFashionSet(FakeSet):
    folder = "FashionMNIST"


class FakeColourSet(FakeSet):
    folder = "cifar-10-batches-py"

    def __init__(self, root, download=False, **kw):
        super().__init__(root, download, **kw)
        self.data, self.targets = np.repeat(self.data.numpy()[..., None], 3, 3), self.targets.tolist()


@pytest.mark.parametrize(
    ("name", "fake", "channels"),
    [("MNIST", FakeSet, 1), ("FashionMNIST", FakeFashionSet, 1), ("CIFAR10", FakeColourSet, 3)],
)
def test_splits_are_fixed_and_disjoint(tmp_path, monkeypatch, name, fake, channels):
    import torchvision.datasets

    monkeypatch.setattr(torchvision.datasets, name, fake)
    call = getattr(data, {"FashionMNIST": "fashion_mnist"}.get(name, name.lower()))
    (x, y), (_, w) = call("train", True, tmp_path, True), call("val", True, tmp_path)
    assert sorted(y.tolist() + w.tolist()) == list(range(50)) and len(w) == 5 and y.dtype == torch.int64
    assert x.shape == (45, channels, 4, 4) and torch.equal(call("train", False, tmp_path, limit=7), x[:7])
    for picture, label in zip(x, y, strict=True):
        assert files.to_uint8(picture)[0, 0, 0] == (16 * label) % 256
    assert call("test", True, tmp_path)[1].tolist() == list(range(50))


def test_celeba(tmp_path, monkeypatch):
    import torchvision.datasets

    place = tmp_path / "celeba" / "img_align_celeba"
    place.mkdir(parents=True)
    names = [png(place / f"{i:06d}.jpg", np.full((218, 178, 3), 50 * i, np.uint8)).name for i in range(4)]

    class CelebA:
        def __init__(self, root, split="train", download=False):
            assert split in ("train", "valid", "test")
            self.filename, self.attr = names, torch.eye(4, 40).long()

    monkeypatch.setattr(torchvision.datasets, "CelebA", CelebA)
    x, y = data.celeba("val", labels=True, root=tmp_path, limit=3)
    assert (
        x.shape == (3, 3, 64, 64)
        and y.shape == (3, 40)
        and len(data.CELEBA_ATTRIBUTES) == 40 == len(set(data.CELEBA_ATTRIBUTES))
    )
    assert (files.to_uint8(x)[:, 0, 0, 0].int() - torch.tensor([0, 50, 100])).abs().max() <= 2
    (place / names[1]).write_bytes((place / names[1]).read_bytes()[:200])
    with pytest.raises(ValueError, match=names[1]):
        data.celeba(root=tmp_path)


def test_moving_mnist(tmp_path):
    (tmp_path / "MovingMNIST").mkdir()
    clips = RNG.integers(0, 256, (20, 30, 64, 64), dtype=np.uint8)  # as published: frames first
    np.save(tmp_path / "MovingMNIST" / "mnist_test_seq.npy", clips)
    parts = [data.moving_mnist(s, root=tmp_path) for s in data.SPLITS]
    assert [p.shape for p in parts] == [(24, 20, 1, 64, 64), (3, 20, 1, 64, 64), (3, 20, 1, 64, 64)]
    got = {a.tobytes() for a in files.to_uint8(torch.cat(parts))[:, :, 0].numpy()}
    assert got == {np.ascontiguousarray(a).tobytes() for a in clips.transpose(1, 0, 2, 3)}
    with pytest.raises(ValueError, match=r"^labels: expected"):
        data.moving_mnist(labels=True, root=tmp_path)


def test_dsprites_damage(tmp_path):
    x = (data.sprites(50, soft=False).x[:, 0] > 0).numpy().astype(np.uint8)
    np.savez_compressed(tmp_path / "good.npz", imgs=x, latents_values=RNG.random((50, 6)))
    assert data.dsprites(root=tmp_path / "good.npz").shape == (40, 1, 64, 64)
    content = bytearray((tmp_path / "good.npz").read_bytes())
    content[len(content) // 3] ^= 255
    (tmp_path / "flipped.npz").write_bytes(content)
    np.savez(tmp_path / "other.npz", pictures=x)
    (tmp_path / "text.npz").write_text("no archive")
    for name in ("flipped", "other", "text"):
        with pytest.raises(ValueError, match=rf"{name}\.npz: expected an intact dSprites file"):
            data.dsprites(root=tmp_path / f"{name}.npz", labels=True)


def test_dsprites_wrong_checksum(tmp_path, monkeypatch):
    (tmp_path / "other").write_bytes(b"something else")
    monkeypatch.setattr(data, "_DSPRITES_URL", (tmp_path / "other").as_uri())
    with pytest.raises(ValueError, match="checksum: expected"):
        data.dsprites(root=tmp_path / "cache", download=True)
    assert not any((tmp_path / "cache").rglob("*.npz"))


def test_torchvision_that_does_not_fit(monkeypatch, tmp_path):
    real = builtins.__import__

    def broken(name, *a, **k):
        if name.startswith("torchvision"):
            raise RuntimeError("operator torchvision::nms does not exist")
        return real(name, *a, **k)

    monkeypatch.setattr(builtins, "__import__", broken)
    with pytest.raises(
        ImportError, match=r"nms does not exist.*same index: pip install --force-reinstall torch==\S+ torchvision==\S+"
    ):
        data.mnist(root=tmp_path)


def test_face():
    names = "digits patches mnist fashion_mnist cifar10 celeba moving_mnist dsprites disks sprites clips"
    names += " draw_disks draw_sprites load to_float to_uint8 SPLITS"
    for name in names.split():
        assert hasattr(sa.data, name) and name in sa.data.__all__
