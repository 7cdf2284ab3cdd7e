"""What leaves the library works without it."""

import json
import os
import subprocess
import sys

import pytest
import torch

import scoreae as sa

ENV = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
ALONE = """
import sys
sys.modules["scoreae"] = None
import json
import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMPipeline

pipeline = DDPMPipeline.from_pretrained(sys.argv[1], trust_remote_code=sys.argv[2] == "code")
pipeline.set_progress_bar_config(disable=True)
x = torch.from_numpy(np.load(sys.argv[3]))
with torch.no_grad(): noise = [pipeline.unet(x, i).sample.tolist() for i in (0, 30, 49)]
pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
drawn = pipeline(batch_size=2, num_inference_steps=5, output_type="np", generator=torch.manual_seed(0)).images
print(json.dumps({"noise": noise, "drawn": list(drawn.shape), "finite": bool(np.isfinite(drawn).all())}))
"""


def alone(folder, code: bool, x, tmp_path) -> dict:
    "What diffusers makes of a pipeline folder in a process that cannot import scoreae."
    import numpy as np

    np.save(tmp_path / "x.npy", x.numpy())
    words = [sys.executable, "-c", ALONE, str(folder), "code" if code else "none", str(tmp_path / "x.npy")]
    env = {**ENV, "HF_MODULES_CACHE": str(tmp_path / "modules")}
    done = subprocess.run(words, capture_output=True, text=True, env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_our_denoiser_in_diffusers_without_this_library(tmp_path):
    pytest.importorskip("diffusers")
    torch.manual_seed(0)
    model = sa.SAMI((3, 8, 12), 4, width=8).eval()
    with torch.no_grad():
        for p in model.net.parameters(): p += 0.05 * torch.randn(p.shape)
    sa.to_diffusers(model, tmp_path / "p", timesteps=50)
    x_t = torch.randn(2, 3, 8, 12)
    found, D = alone(tmp_path / "p", True, x_t, tmp_path), model.base()
    assert found["drawn"] == [2, 8, 12, 3] and found["finite"]
    for i, noise in zip((0, 30, 49), found["noise"], strict=True):
        t = torch.tensor((i + 1) / 50).double()
        _, b, c = model.path.coefs(t)
        with torch.no_grad(): want = (x_t.double() - b * D(x_t.double().float(), t).double()) / c
        assert torch.allclose(torch.tensor(noise).double(), want, atol=2e-3), i
    assert "scoreae" not in (tmp_path / "p" / "unet" / "noise_unet.py").read_text()


def test_a_network_of_diffusers_goes_back_without_code(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    kinds = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    unet = diffusers.UNet2DModel(sample_size=8, in_channels=3, out_channels=3, block_out_channels=(8, 8),
                                 norm_num_groups=4, layers_per_block=1, **kinds)  # fmt: skip
    scheduler = diffusers.DDPMScheduler(50, prediction_type="v_prediction")
    model = sa.SAMI((3, 8, 8), 4, denoiser=sa.from_diffusers(unet, scheduler))
    sa.fit(model, torch.rand(64, 3, 8, 8) * 2 - 1, steps=3, progress=False)
    sa.to_diffusers(model, tmp_path / "p")
    x_t = torch.randn(2, 3, 8, 8)
    found = alone(tmp_path / "p", False, x_t, tmp_path)
    with torch.no_grad(): want = [model.net.network(x_t, i).sample for i in (0, 30, 49)]
    assert all(torch.allclose(torch.tensor(a), b, atol=1e-5) for a, b in zip(found["noise"], want, strict=True))
    kept = json.loads((tmp_path / "p" / "scheduler" / "scheduler_config.json").read_text())
    assert kept["prediction_type"] == "v_prediction" and not list((tmp_path / "p").rglob("*.py"))


def test_what_is_no_denoiser_of_its_own_is_refused(tmp_path):
    pytest.importorskip("diffusers")
    for model in (sa.AE((1, 8, 8), 4, width=8), sa.DBAE((1, 8, 8), 4, width=8)):
        with pytest.raises(ValueError, match="model: expected a SAMI"): sa.to_diffusers(model, tmp_path)
