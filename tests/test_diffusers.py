"""Tables and samplers against those of diffusers, class by class: same denoiser, same start, same draws, same numbers.

The denoiser is exact, that of a mixture of Gaussians. diffusers sees it as a network that is told the timestep, and
walks with its usual loop; here it is a `Timed` denoiser on the path of the scheduler's table, timestep i at the time
(i + 1) / N. Where the tolerance is 1e-6 and not 1e-12, the class keeps its levels or its images in single precision.
Bridges (`Pinned`) have no class there.
"""

import math

import pytest
import torch

import scoreae as sa
from scoreae.core.checks import randn_like, rng
from scoreae.foundations.paths import VE, VPCosine, VPLinear
from scoreae.foundations.samplers import integrate, sample, time_grid, trajectory
from scoreae.foundations.scores import Stats, from_x0, scalings
from scoreae.foundations.worlds import Mixture, denoiser
from scoreae.models.pretrained import PREDICTIONS, Discrete, Timed

diffusers = pytest.importorskip("diffusers")
# diffusers makes arrays of tensors as before numpy 2; only its own modules are excused
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning:diffusers[.]schedulers")

N = 100
LEVELS = {"num_train_timesteps": N, "beta_start": 1e-3, "beta_end": 0.2}  # DDPM's linear table, ten times coarser
SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
TRAILING = {"timestep_spacing": "trailing"}  # timesteps N, N - N/n, ... less one: times 1, 1 - 1/n, ... as we count
every_kind = pytest.mark.parametrize("said", PREDICTIONS)


def f64(*v): return torch.tensor(v, dtype=torch.float64)


DATA = Mixture(f64(0.3, 0.7), f64([-0.5, 0.2, 0.1], [0.4, -0.3, 0.6]),
               torch.stack([f64(0.1, 0.02, 0.3).diag(), f64(0.05, 0.2, 0.04).diag()]))  # fmt: skip
LIKE = torch.zeros(6, 3, dtype=torch.float64)


def close(ours, theirs, tolerance=1e-12): torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def made(name, **kw):
    "A scheduler with the levels of all walks below, and a table in double precision."
    scheduler = getattr(diffusers, name)(**{**LEVELS, **kw})
    for k in ("alphas_cumprod", "final_alpha_cumprod"):
        if hasattr(scheduler, k): setattr(scheduler, k, getattr(scheduler, k).double())
    return scheduler


def table_path(scheduler): return Discrete(scheduler.alphas_cumprod.double().tolist())
def time_of(path, timestep): return (torch.as_tensor(timestep).double() + 1) / path.N
def times_of(path, scheduler, last=0.0): return torch.cat([time_of(path, scheduler.timesteps), f64(last)])


def network(path, said):
    "The exact denoiser as diffusers knows networks: noisy images and a timestep to noise, images or velocities."
    D = denoiser(DATA, path)

    def F(x, timestep):
        t = time_of(path, timestep)
        return from_x0(scalings(PREDICTIONS[said], path.coefs(t)), D(x, t), x)

    return F


def both(name, said="epsilon", **kw):
    "A scheduler, its path, the network, and the network as a denoiser of ours."
    scheduler = made(name, prediction_type=said, **kw)
    path = table_path(scheduler)
    F = network(path, said)
    return scheduler, path, F, Timed(path, F, PREDICTIONS[said])


def walk(scheduler, F, x, at=None, **kw):
    "The loop of diffusers' pipelines; `at` are the timesteps that the network is told, if not the scheduler's."
    for i, told in zip(scheduler.timesteps, scheduler.timesteps if at is None else at, strict=True):
        x = scheduler.step(F(scheduler.scale_model_input(x, i), told), i, x, **kw).prev_sample
    return x


def ours(D, path, x, times, seed=None, **kw):
    "Our walk from the noisy `x` along `times`."
    for step in trajectory(D, path, x, times, noisy=True, seed=seed, **kw): x = step.x
    return x


def start(seed=0, like=LIKE): return randn_like(like, rng(seed))


# --- Tables ---


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ddpm_scheduler_mixes_images_and_noise_as_its_path(schedule):
    "DDPMScheduler.add_noise at all of a thousand timesteps, against `mix`; the table itself against alpha^2."
    scheduler = diffusers.DDPMScheduler(1000, beta_schedule=schedule)
    path, i, x0 = table_path(scheduler), torch.arange(1000), start(1, torch.zeros(1000, 3).double())
    t, eps = time_of(path, i), start(2, x0)
    close(path.alpha(t) ** 2, scheduler.alphas_cumprod.double())
    close(path.mix(x0, eps, t), scheduler.add_noise(x0, eps, i))


def test_ddpm_scheduler_squaredcos_is_the_cosine_path_begun_a_little_later():
    """DDPMScheduler's squaredcos_cap_v2 is cos^2 at an offset of 0.008, divided by its value at 0.

    Its last beta is capped. 1e-5, as a thousand betas in single precision have been multiplied.
    """
    scheduler, path = diffusers.DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2"), VPCosine(-70.0)
    angle = (torch.arange(1000).double() / 1000 + 0.008) / 1.008 * math.pi / 2
    alpha2 = path.alpha(angle / path.angle_T) ** 2
    torch.testing.assert_close((alpha2 / alpha2[0])[1:], scheduler.alphas_cumprod[:-1].double(), rtol=1e-5, atol=0)
    assert scheduler.betas[-1] == torch.tensor(0.999)


def test_ddpm_scheduler_linear_tends_to_the_linear_path():
    "DDPMScheduler's linear table with more and more entries: the log-SNR of VPLinear, to first order in 1/N."
    off = {}
    for n in (1000, 2000, 4000):
        path = table_path(diffusers.DDPMScheduler(n, beta_start=0.1 / n, beta_end=20 / n))
        t = torch.linspace(0.1, 1, 10).double()
        off[n] = (path.logsnr(t) - VPLinear().logsnr(t)).abs().max().item()
    assert off[1000] < 0.1 and abs(off[1000] / off[2000] - 2) < 0.1 and abs(off[2000] / off[4000] - 2) < 0.1


@pytest.mark.parametrize("path", [VPLinear(), VPCosine()])
def test_ddpm_scheduler_read_back_has_our_path(path, tmp_path):
    """The DDPMScheduler that `to_diffusers` writes mixes images and noise as the model's path.

    1e-4, as the scheduler keeps betas in single precision: near the image 1 - beta loses digits.
    """
    sa.to_diffusers(sa.SAMI((1, 8, 8), 2, width=8, path=path), tmp_path, timesteps=500)
    scheduler = diffusers.DDPMScheduler.from_pretrained(tmp_path / "scheduler")
    x0, eps, i = start(1, torch.zeros(500, 3).double()), start(2, torch.zeros(500, 3).double()), torch.arange(500)
    close(path.mix(x0, eps, time_of(table_path(scheduler), i)), scheduler.add_noise(x0, eps, i), 1e-4)


@pytest.mark.parametrize("name", ["DDPMScheduler", "DDIMScheduler"])
def test_ddpm_and_ddim_scheduler_get_velocity_is_our_v(name):
    "get_velocity of DDPMScheduler and DDIMScheduler: what a network of kind v should have said."
    scheduler, i = made(name), torch.arange(N)
    path, x0, eps = table_path(scheduler), start(1, torch.zeros(N, 3).double()), start(2, torch.zeros(N, 3).double())
    t = time_of(path, i)
    close(from_x0(scalings("v", path.coefs(t)), x0, path.mix(x0, eps, t)), scheduler.get_velocity(x0, eps, i))


# --- DDPM and DDIM ---


@every_kind
@pytest.mark.parametrize("variance", ["fixed_small", "fixed_small_log"])
def test_ddpm_scheduler_step_is_our_ancestral_step(said, variance):
    "One step of DDPMScheduler against eta=1: its mean, and its standard deviation from two draws of the noise."
    scheduler, path, F, D = both("DDPMScheduler", said, variance_type=variance, clip_sample=False, **TRAILING)
    scheduler.set_timesteps(10)
    for i, s in zip(scheduler.timesteps[:-1], scheduler.timesteps[1:], strict=True):
        x, times, found = start(3), time_of(path, torch.stack([i, s])), []
        theirs = lambda seed, x=x, i=i: scheduler.step(F(x, i), i, x, generator=rng(seed)).prev_sample
        mine = lambda seed, x=x, times=times: ours(D, path, x, times, seed, eta=1.0, order=1)
        for step in (theirs, mine):
            std = (step(0) - step(1)) / (start(0) - start(1))
            found.append((std, step(0) - std * start(0)))
        close(found[1][0], found[0][0], 1e-10)  # divided by a difference of draws
        close(found[1][1], found[0][1], 1e-10)


@every_kind
@pytest.mark.parametrize("clip", [None, 0.4])
def test_ddpm_scheduler_walk_is_our_ancestral_walk(said, clip):
    """DDPMScheduler from noise to image against eta=1, order 1, uniform grid, with and without clipped estimates.

    1e-9: into the image it still adds noise of 1e-10, its least deviation.
    """
    how = {"clip_sample": clip is not None, "clip_sample_range": clip or 1.0}
    scheduler, path, F, D = both("DDPMScheduler", said, **how, **TRAILING)
    scheduler.set_timesteps(20)
    g = rng(0)
    theirs = walk(scheduler, F, randn_like(LIKE, g), generator=g)
    close(sample(D, path, LIKE, 20, eta=1.0, order=1, grid="uniform", clip=clip, seed=0), theirs, 1e-9)


def test_ddpm_scheduler_fixed_large_adds_more_than_the_posterior_has():
    "DDPMScheduler's fixed_large is beta_t, ours the posterior's variance: less by (1 - alpha_s^2) / (1 - alpha_t^2)."
    scheduler, path, F, D = both("DDPMScheduler", variance_type="fixed_large", clip_sample=False, **TRAILING)
    scheduler.set_timesteps(10)
    i, s = scheduler.timesteps[-2:]
    theirs = [scheduler.step(F(LIKE, i), i, LIKE, generator=rng(k)).prev_sample for k in (0, 1)]
    t = time_of(path, torch.stack([i, s]))
    mine = [ours(D, path, LIKE, t, k, eta=1.0, order=1) for k in (0, 1)]
    more = (path.sigma(t[0]) / path.sigma(t[1])).expand(LIKE.shape)
    close((theirs[0] - theirs[1]) / (mine[0] - mine[1]), more, 1e-10)
    assert more.min() > 1.3


@every_kind
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_scheduler_walk_is_our_first_order_walk(said, eta):
    "DDIMScheduler from noise to image, trailing timesteps: order 1, uniform grid, for every eta and prediction."
    scheduler, path, F, D = both("DDIMScheduler", said, clip_sample=False, **TRAILING)
    for n in (1, 5, 20):
        scheduler.set_timesteps(n)
        g = rng(0)
        theirs = walk(scheduler, F, randn_like(LIKE, g), eta=eta, generator=g)
        close(sample(D, path, LIKE, n, eta=eta, order=1, grid="uniform", seed=0), theirs)


def test_ddim_scheduler_as_it_comes():
    "DDIMScheduler without its table in double precision: 1e-5 after twenty steps."
    scheduler = diffusers.DDIMScheduler(**LEVELS, clip_sample=False, **TRAILING)
    path = table_path(scheduler)
    F = network(path, "epsilon")
    scheduler.set_timesteps(20)
    close(sample(Timed(path, F, "eps"), path, LIKE, 20, order=1, grid="uniform", seed=0), walk(scheduler, F, start()),
          1e-5)  # fmt: skip


@pytest.mark.parametrize(("one", "last"), [(True, 0.0), (False, 1 / N)])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_ddim_scheduler_ends_where_it_is_told(one, last, spacing):
    "DDIMScheduler's set_alpha_to_one ends at the image, else at its first entry: a last time of 0, or of 1/N."
    how = {"timestep_spacing": spacing, "set_alpha_to_one": one, "clip_sample": False}
    scheduler, path, F, D = both("DDIMScheduler", **how)
    scheduler.set_timesteps(10)
    times = times_of(path, scheduler, last)
    falls = torch.cat([times[:1], times[1:][times.diff() < 0]])  # leading is at its first entry already
    close(ours(D, path, start(), falls, eta=0.0, order=1), walk(scheduler, F, start()))


def test_ddim_scheduler_by_default_begins_with_pure_noise_where_there_is_signal():
    "DDIMScheduler's default, leading timesteps: the same walk, but from a time before the last. Ours begins at it."
    scheduler, path, F, _ = both("DDIMScheduler", clip_sample=False)
    scheduler.set_timesteps(5)
    first = time_of(path, scheduler.timesteps[0])
    assert path.alpha(first) > 6 * path.alpha(1.0) and float(first) == pytest.approx(1 - 1 / 5 + 1 / N)
    trailing = both("DDIMScheduler", clip_sample=False, **TRAILING)[0]
    trailing.set_timesteps(5)
    assert (walk(scheduler, F, start()) - walk(trailing, F, start())).abs().max() > 0.01


def test_ddim_scheduler_clips_as_we_do_only_when_told_to_correct_the_noise():
    "DDIMScheduler clips the image and keeps the noise, unless use_clipped_model_output. Ours changes the noise too."
    scheduler, path, F, D = both("DDIMScheduler", clip_sample_range=0.4, **TRAILING)
    mine = sample(D, path, LIKE, 10, order=1, grid="uniform", clip=0.4, seed=0)
    for corrected in (True, False):
        scheduler.set_timesteps(10)
        theirs = walk(scheduler, F, start(), use_clipped_model_output=corrected)
        if corrected: close(mine, theirs)
        else: assert (mine - theirs).abs().max() > 0.01


# --- The multistep solver ---


@every_kind
def test_dpm_solver_multistep_scheduler_is_our_second_order_walk(said):
    "DPMSolverMultistepScheduler (dpmsolver++, midpoint), trailing timesteps: order 2, uniform grid, last step order 1."
    scheduler, path, F, D = both("DPMSolverMultistepScheduler", said, **TRAILING)
    for n in (2, 5, 20):
        scheduler.set_timesteps(n)
        close(sample(D, path, LIKE, n, order=2, grid="uniform", seed=0), walk(scheduler, F, start()), 2e-6)


def test_dpm_solver_multistep_scheduler_of_order_one_is_ddim():
    scheduler, path, F, D = both("DPMSolverMultistepScheduler", solver_order=1, **TRAILING)
    scheduler.set_timesteps(10)
    close(sample(D, path, LIKE, 10, order=1, grid="uniform", seed=0), walk(scheduler, F, start()), 1e-6)


@pytest.mark.parametrize(("final", "last"), [("zero", 0.0), ("sigma_min", 1 / N)])
@pytest.mark.parametrize("n", [5, 20])
def test_dpm_solver_multistep_scheduler_on_its_default_timesteps(final, last, n):
    """DPMSolverMultistepScheduler on linspace timesteps is our walk along their times, to the image or its first entry.

    Into the image both are first order, as log gamma ends at infinity. At the first entry our last step is second
    order; theirs is first order below 15 steps unless lower_order_final=False.
    """
    how = {"timestep_spacing": "linspace", "final_sigmas_type": final}
    for lower in (False, True):
        scheduler, path, F, D = both("DPMSolverMultistepScheduler", lower_order_final=lower, **how)
        scheduler.set_timesteps(n)
        mine, theirs = ours(D, path, start(), times_of(path, scheduler, last)), walk(scheduler, F, start())
        if lower and final == "sigma_min" and n < 15: assert (mine - theirs).abs().max() > 1e-4
        else: close(mine, theirs, 1e-6)


@pytest.mark.parametrize("order", [1, 2])
def test_dpm_solver_multistep_scheduler_sde_is_eta_one(order):
    """DPMSolverMultistepScheduler (sde-dpmsolver++) is eta=1, at both orders; 1e-5 in single precision.

    It draws in single precision, so the images here are in single precision too, for the draws to be the same.
    """
    kind = {"algorithm_type": "sde-dpmsolver++", "solver_order": order}
    scheduler, path, F, D = both("DPMSolverMultistepScheduler", **kind, **TRAILING)
    scheduler.set_timesteps(10)
    g, like = rng(0), LIKE.float()
    theirs = walk(scheduler, F, randn_like(like, g), generator=g)
    close(sample(D, path, like, 10, eta=1.0, order=order, grid="uniform", seed=0), theirs, 1e-5)


def karras(n, **kw):
    "Our walk along n of Karras's levels to the table's first entry, and a DPM solver's, told fractions of timesteps."
    scheduler, path, F, D = both("DPMSolverMultistepScheduler", use_karras_sigmas=True, final_sigmas_type="sigma_min",
                                 lower_order_final=False, **kw)  # fmt: skip
    scheduler.set_timesteps(n)
    scheduler.set_begin_index(0)
    scheduler.sigmas, scheduler.timesteps = scheduler.sigmas[:-1], scheduler.timesteps[:-1]  # it ends there twice
    sigmas = scheduler.sigmas.double()
    times = path.t_of_gamma(sigmas**-2).clamp(max=1)
    theirs = walk(scheduler, F, start(), path.timestep(times[:-1]))
    return ours(D, path, start(), times), theirs


def test_dpm_solver_multistep_scheduler_between_entries():
    "DPMSolverMultistepScheduler on Karras's levels, which are no entries of the table: our path has times for them."
    close(*karras(20), 2e-6)


@pytest.mark.parametrize("other", [{"solver_type": "heun"}, {"solver_order": 3}])
def test_dpm_solver_multistep_scheduler_in_its_other_forms_agrees_to_second_order(other):
    "DPMSolverMultistepScheduler's second formula (heun) and third order are other rules: ours is off by 1/n^2."
    off = {n: (mine - theirs).abs().max().item() for n in (20, 40, 80) for mine, theirs in [karras(n, **other)]}
    assert off[80] > 2e-5  # above what single precision rounds
    assert abs(math.log2(off[40] / off[80]) - 2) < 0.4 and off[20] > 2.5 * off[40]


# --- Euler, Heun, and the levels of Karras ---


def exploded(scheduler):
    "The variance-exploding path of a scheduler's levels, and the exact denoiser on it."
    path = VE(float(scheduler.sigmas[0]))
    return path, denoiser(DATA, path)


@every_kind
def test_euler_discrete_scheduler_is_our_euler(said):
    "EulerDiscreteScheduler walks x_0 + sigma eps: `integrate` by Euler on VE. Divided by alpha, it is DDIM's walk."
    scheduler, path, F, D = both("EulerDiscreteScheduler", said, **TRAILING)
    for n in (2, 5, 20):
        scheduler.set_timesteps(n)
        (ve, E), x = exploded(scheduler), start() * scheduler.init_noise_sigma.double()
        theirs = walk(scheduler, F, x)
        close(integrate(E, ve, x, scheduler.sigmas.double(), method="euler"), theirs, 2e-6)
        close(ours(D, path, path.alpha(1.0) * x, times_of(path, scheduler), eta=0.0, order=1), theirs, 2e-6)


@every_kind
def test_heun_discrete_scheduler_is_our_heun(said):
    """HeunDiscreteScheduler, two evaluations a step and one into the image: `integrate` by Heun on VE.

    1e-8: it keeps the images' precision, but x - sigma eps cancels where sigma is 150.
    """
    scheduler, path, F, _ = both("HeunDiscreteScheduler", said, **TRAILING)
    for n in (2, 5, 20):
        scheduler.set_timesteps(n)
        scheduler.sigmas = scheduler.sigmas.double()
        sigmas = torch.cat([scheduler.sigmas[:1], scheduler.sigmas[1::2]])
        assert len(scheduler.timesteps) == 2 * n - 1 and len(sigmas) == n + 1
        (ve, E), x = exploded(scheduler), start() * sigmas[0]
        at = path.timestep(path.t_of_gamma(scheduler.sigmas[:-1] ** -2).clamp(max=1))
        close(integrate(E, ve, x, sigmas, method="heun"), walk(scheduler, F, x, at), 1e-8)


@pytest.mark.parametrize("name", ["EulerDiscreteScheduler", "HeunDiscreteScheduler"])
def test_euler_and_heun_discrete_scheduler_know_the_timesteps_of_our_path(name):
    """EulerDiscreteScheduler and HeunDiscreteScheduler with use_karras_sigmas tell the network fractions of timesteps.

    They interpolate log sigma in the table, as `Discrete` does. 1e-5 of a hundred timesteps, in single precision.
    """
    scheduler = made(name, use_karras_sigmas=True)
    scheduler.set_timesteps(15)
    path, sigmas = table_path(scheduler), scheduler.sigmas[:-1].double()
    told = scheduler.timesteps.double()
    close(path.timestep(path.t_of_gamma(sigmas**-2)), told, 1e-5)
    assert (told - told.round()).abs().max() > 0.1


@pytest.mark.parametrize("n", [2, 10, 40])
def test_edm_euler_scheduler_levels_are_our_karras_grid(n):
    "EDMEulerScheduler's sigmas from T to T/10^4, then 0: grid='karras' on VE, to single precision."
    scheduler = diffusers.EDMEulerScheduler(sigma_min=80e-4, sigma_max=80.0)
    scheduler.set_timesteps(n)
    torch.testing.assert_close(time_grid(VE(80.0), n, "karras"), scheduler.sigmas.double(), rtol=1e-7, atol=0)


@pytest.mark.parametrize("n", [2, 10, 40])
def test_euler_discrete_scheduler_use_karras_sigmas_is_our_karras_grid(n):
    "EulerDiscreteScheduler's sigmas with use_karras_sigmas, told the same ends: the same grid."
    scheduler = made("EulerDiscreteScheduler", use_karras_sigmas=True, sigma_min=80e-4, sigma_max=80.0)
    scheduler.set_timesteps(n)
    torch.testing.assert_close(time_grid(VE(80.0), n, "karras"), scheduler.sigmas.double(), rtol=1e-7, atol=0)


def test_edm_euler_scheduler_preconditions_as_our_edm_kind():
    "EDMEulerScheduler's scalings of input and output are those of kind 'edm', and its c_noise is -log gamma / 8."
    scheduler, path = diffusers.EDMEulerScheduler(sigma_data=0.7), VE(80.0)
    x, F = start(1), start(2)
    for sigma in f64(0.01, 0.7, 30.0):
        s = scalings("edm", path.coefs(sigma), Stats(var0=0.7**2))
        close(s.inp * x, scheduler.precondition_inputs(x, sigma))
        close(s.skip * x + s.out * F, scheduler.precondition_outputs(x, F, sigma))
        close(-path.gamma(sigma).log() / 8, scheduler.precondition_noise(sigma))


@pytest.mark.parametrize("name", ["EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"])
def test_edm_schedulers_walk_as_we_do(name):
    """EDMEulerScheduler is Euler on VE, EDMDPMSolverMultistepScheduler order 2 on VE, on the same Karras grid.

    1e-5: the images fall from 80 to 1 in single precision.
    """
    scheduler, path = getattr(diffusers, name)(sigma_min=80e-4, sigma_max=80.0, sigma_data=0.7), VE(80.0)
    D, s = denoiser(DATA, path), lambda t: scalings("edm", path.coefs(t), Stats(var0=0.7**2))
    scheduler.set_timesteps(18)
    t, x, theirs = time_grid(path, 18, "karras"), 80 * start(), 80 * start()
    for i, sigma in zip(scheduler.timesteps, t[:-1], strict=True):
        scheduler.scale_model_input(theirs, i)
        theirs = scheduler.step(from_x0(s(sigma), D(theirs, sigma), theirs), i, theirs).prev_sample
    euler = name == "EDMEulerScheduler"
    close(integrate(D, path, x, t, method="euler") if euler else ours(D, path, x, t, order=2), theirs, 1e-5)
