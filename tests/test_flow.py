"""Times, targets, the sampler against an analytic field, guidance and noise."""

import pytest
import torch
from torch import Tensor

from avatar.backbone import flow

MEAN, SD = 3.0, 0.5  # of the data in the analytic case


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian_velocity(x: Tensor, t: float) -> Tensor:
    """Exact velocity E[data - noise | x_t = x] for noise N(0, 1) and data N(MEAN, SD^2)."""
    variance = (1 - t) ** 2 + t**2 * SD**2
    covariance = t * SD**2 - (1 - t)
    return MEAN + covariance / variance * (x - t * MEAN)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_euler_follows_the_exact_field_between_gaussians(reverse: bool, shift: float) -> None:
    start = torch.linspace(-2, 2, 9).view(1, 1, 1, 1, 9)

    def velocity(x: Tensor, t: float) -> Tensor:
        return -gaussian_velocity(x, 1 - t) if reverse else gaussian_velocity(x, t)

    end = flow.euler(velocity, start, flow.schedule(400, shift, reverse))
    assert torch.allclose(end, MEAN + SD * start, atol=0.02)


def test_euler_is_exact_in_one_step_when_the_answer_is_known() -> None:
    start, data = torch.randn(2, 4, 1, 2, 2, generator=generator()), torch.ones(2, 4, 1, 2, 2)
    for reverse in (False, True):
        end = flow.euler(
            lambda x, t, r=reverse: flow.velocity_from_clean(x, data, t, r),
            start,
            flow.schedule(1, 1.0, reverse),
        )
        assert torch.allclose(end, data, atol=1e-6)


@pytest.mark.parametrize("reverse", [False, True])
def test_target_is_the_derivative_of_the_path(reverse: bool) -> None:
    a, b = (torch.randn(3, 2, 1, 2, 2, generator=generator(s)) for s in (0, 1))
    t = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float32)
    step = 0.05
    slope = (flow.interpolate(a, b, t + step, reverse) - flow.interpolate(a, b, t - step, reverse)) / (
        2 * step
    )
    target = flow.velocity_target(a, b, reverse)
    assert torch.allclose(slope, target, atol=1e-4)
    x = flow.interpolate(a, b, t, reverse)
    assert torch.allclose(flow.velocity_from_clean(x, b, t, reverse), target, atol=1e-4)


def test_path_ends() -> None:
    a, b = torch.zeros(2, 1, 1, 1, 1), torch.ones(2, 1, 1, 1, 1)
    t = torch.tensor([0.0, 1.0])
    assert flow.interpolate(a, b, t).flatten().tolist() == [0, 1]
    assert flow.interpolate(a, b, t, reverse=True).flatten().tolist() == [1, 0]


def test_schedule_follows_the_shift_formula() -> None:
    steps, shift = 5, 7.0
    sigma = torch.linspace(1, 0, steps + 1)
    sigma = shift * sigma / (1 + (shift - 1) * sigma)
    assert torch.allclose(flow.schedule(steps, shift, reverse=True), sigma, atol=1e-6)
    assert torch.allclose(flow.schedule(steps, shift), 1 - sigma, atol=1e-6)
    assert torch.allclose(flow.schedule(4, 1.0), torch.linspace(0, 1, 5))


@pytest.mark.parametrize("reverse", [False, True])
def test_training_times(reverse: bool) -> None:
    times = flow.training_times(20_000, generator(), shift=3.0, zero_share=0.25, reverse=reverse)
    at_noise = times == float(reverse)
    assert at_noise.float().mean().item() == pytest.approx(0.25, abs=0.01)
    sigma = times[~at_noise] if reverse else 1 - times[~at_noise]
    assert sigma.median().item() == pytest.approx(3 * 0.5 / (1 + 2 * 0.5), abs=0.01)
    assert ((times >= 0) & (times <= 1)).all()


def test_training_times_without_shift_are_logit_normal() -> None:
    logits = flow.training_times(20_000, generator()).logit()
    assert logits.mean().item() == pytest.approx(0, abs=0.03)
    assert logits.std().item() == pytest.approx(1, abs=0.03)
    uniform = flow.training_times(20_000, generator(), mode="uniform")
    assert uniform.std().item() == pytest.approx(12**-0.5, abs=0.01)


def test_guidance() -> None:
    c, u = (torch.randn(2, 4, 3, 5, 5, generator=generator(s)) for s in (0, 1))
    assert torch.allclose(flow.guide(c, u, 1.0), c, atol=1e-6)
    assert torch.allclose(flow.guide(c, u, 0.0), u)
    guided = flow.guide(c, u, 4.0)
    assert torch.allclose(guided, 4 * c - 3 * u, atol=1e-5)
    full = flow.guide(c, u, 4.0, rescale=1.0)
    for i in range(2):
        assert full[i].std().item() == pytest.approx(c[i].std().item(), rel=1e-4)
    half = flow.guide(c, u, 4.0, rescale=0.5)
    assert torch.allclose(half, (full + guided) / 2, atol=1e-5)


def test_noise_of_a_frame_depends_on_seed_and_index_only() -> None:
    whole = flow.noise((2, 4, 6, 3, 3), seed=5)
    window = flow.noise((2, 4, 3, 3, 3), seed=5, first_frame=2)
    assert torch.equal(window, whole[:, :, 2:5])
    assert not torch.equal(whole, flow.noise((2, 4, 6, 3, 3), seed=6))
    assert not torch.equal(whole[:, :, 0], whole[:, :, 1])
    assert not torch.equal(flow.noise((1, 4, 1, 3, 3), 0, 1), flow.noise((1, 4, 1, 3, 3), 1, 0))
    large = flow.noise((1, 16, 8, 32, 32), seed=0)
    assert large.mean().item() == pytest.approx(0, abs=0.02)
    assert large.std().item() == pytest.approx(1, abs=0.02)
