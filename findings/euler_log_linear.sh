#!/usr/bin/env bash
# EulerDiscreteScheduler(interpolation_type="log_linear") pairs timesteps with noise levels of other timesteps.
#
# Library:  diffusers 0.42.1, with torch 2.15.0 and numpy 2.4.6, Python 3.11
#
# Expected: set_timesteps(n) gives n timesteps and n + 1 noise levels (sigmas), the last of them 0 (final_sigmas_type is
#           "zero"). The i-th timestep is what the network is told about an image of the i-th sigma, so the two belong
#           together as in training: sigma = sqrt((1 - alphas_cumprod[t]) / alphas_cumprod[t]). "linear" does all this.
#
# Happens:  with "log_linear" the sigmas are spaced evenly in their logarithm, but the timesteps stay evenly spaced:
#           they are not computed from the sigmas, as they are for use_karras_sigmas. At timestep 333 the image has a
#           third of the noise that the network is told. And n + 1 sigmas are spaced before the 0 is appended, so there
#           are n + 2; the walk over n timesteps ends one short of 0: with a network that predicts the noise exactly
#           (image 0, noise 1), the result is not 0 but .0100.
#
# Seen:
#   linear: 10 timesteps, 11 sigmas, last sigma 0.0000
#   linear: sigma / table at timestep 666 9.489 / 9.489, 333 1.462 / 1.462, 111 0.380 / 0.380, 0 0.010 / 0.010
#   linear: image after the walk 0.0000
#   log_linear: 10 timesteps, 12 sigmas, last sigma 0.0000
#   log_linear: sigma / table at timestep 666 8.668 / 9.489, 333 0.477 / 1.462, 111 0.069 / 0.380, 0 0.026 / 0.010
#   log_linear: image after the walk 0.0100
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
changed() { echo "The behaviour has changed: $1" >&2; exit 1; }
sed -n '/^# Seen:/,/^set /s/^#   //p' "$0" > "$folder/expected"

python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q diffusers==0.42.1 torch==2.15.0 numpy==2.4.6
cd "$folder"
venv/bin/python -I - > seen <<'PY' || changed "the program stopped with an error"
import torch
from diffusers import EulerDiscreteScheduler

for kind in ("linear", "log_linear"):
    scheduler = EulerDiscreteScheduler(interpolation_type=kind)
    table = ((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod) ** 0.5
    scheduler.set_timesteps(10)
    sigmas, timesteps = scheduler.sigmas.tolist(), [round(t) for t in scheduler.timesteps.tolist()]
    print(f"{kind}: {len(timesteps)} timesteps, {len(sigmas)} sigmas, last sigma {sigmas[-1]:.4f}")
    told = dict(zip(timesteps, sigmas))
    print(f"{kind}: sigma / table at timestep",
          ", ".join(f"{t} {told[t]:.3f} / {table[t].item():.3f}" for t in (666, 333, 111, 0)))
    y = torch.full((1, 1, 1, 1), sigmas[0])  # the image 0 with the noise 1
    for t in scheduler.timesteps:
        scheduler.scale_model_input(y, t)
        y = scheduler.step(torch.ones_like(y), t, y).prev_sample  # the network predicts the noise exactly
    print(f"{kind}: image after the walk {abs(y.item()):.4f}")
PY
cat seen
diff expected seen >&2 || changed "the output differs from the one in the header (< header, > now)"
echo "As described."
