"""Every augmentation does what it says by the amount it says, and the default draws what it always drew."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from hqcnn_lab.data import Augment

STILL = {"flip": 0, "degrees": 0, "shift": 0, "scale": 0}
ALL = {"intensity": 0.3, "noise": 0.1, "cutout": 0.3, "mixup": 0.4}

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
DEVICES = ["cpu", pytest.param("cuda", marks=needs_gpu)]


def batch_of(images: torch.Tensor) -> dict[str, torch.Tensor]:
    index = torch.arange(len(images), device=images.device)
    return {"image": images, "label": index % 4, "index": index}


def affine_as_it_was(images: torch.Tensor, flip: float, degrees: float, shift: float, scale: float) -> torch.Tensor:
    """The one augmentation there was when the published results were made, word for word."""
    angle, shift_x, shift_y, zoom = 2 * torch.rand(4, len(images), device=images.device) - 1
    mirror = 1 - 2 * (torch.rand(len(images), device=images.device) < flip).to(images.dtype)
    angle = torch.deg2rad(angle * degrees)
    zoom = 1 / (1 + zoom * scale)
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    rows = [cos * mirror, -sin, 2 * shift * shift_x, sin * mirror, cos, 2 * shift * shift_y]
    grid = F.affine_grid(torch.stack(rows, 1).view(-1, 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def test_default_is_bit_for_bit_what_it_was_and_draws_no_more() -> None:
    images = torch.rand(9, 1, 24, 24)
    torch.manual_seed(5)
    expected = affine_as_it_was(images, flip=0.5, degrees=15, shift=0.08, scale=0.12)
    state = torch.get_rng_state()
    torch.manual_seed(5)
    batch = Augment()(batch_of(images))
    assert torch.equal(batch["image"], expected)
    assert torch.equal(torch.get_rng_state(), state)
    assert set(batch) == {"image", "label", "index"}


def test_all_off_leaves_the_batch_and_the_generator_alone() -> None:
    images, state = torch.rand(5, 1, 16, 16), torch.get_rng_state()
    before = images.clone()
    batch = Augment(**STILL)(batch_of(images))
    assert torch.equal(batch["image"], before)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", [*ALL, "all"])
def test_shape_type_device_and_range_stay_and_the_input_too(name: str, device: str) -> None:
    images = torch.rand(7, 1, 24, 24, device=device)
    images[0], images[1] = 0, 1
    given = batch_of(images)
    before = {key: value.clone() for key, value in given.items()}
    batch = Augment(**ALL)(given) if name == "all" else Augment(**STILL, **{name: ALL[name]})(given)
    out = batch["image"]
    assert (out.shape, out.dtype, out.device) == (images.shape, images.dtype, images.device)
    assert out.isfinite().all()
    assert out.min() >= 0
    assert out.max() <= 1
    assert not torch.equal(out, images)
    assert all(torch.equal(given[key], before[key]) for key in before)
    assert torch.equal(batch["label"], before["label"])
    assert torch.equal(batch["index"], before["index"])


@given(
    n=st.integers(1, 5),
    side=st.integers(16, 40),
    amounts=st.fixed_dictionaries(
        {
            "flip": st.floats(0, 1),
            "degrees": st.floats(0, 180),
            "shift": st.floats(0, 0.99),
            "scale": st.floats(0, 0.99),
            "intensity": st.floats(0, 0.99),
            "noise": st.floats(0, 0.99),
            "cutout": st.floats(0, 1),
            "mixup": st.floats(0, 1e6),
        }
    ),
)
@settings(max_examples=80, deadline=None)
def test_values_stay_finite_whatever_the_amounts(n: int, side: int, amounts: dict[str, float]) -> None:
    batch = Augment(**amounts)(batch_of(torch.rand(n, 1, side, side)))
    assert batch["image"].isfinite().all()
    assert batch["image"].shape == (n, 1, side, side)
    if amounts["mixup"]:
        assert ((batch["share"] >= 0.5) & (batch["share"] <= 1)).all()


def test_the_host_never_waits_for_the_device() -> None:
    # What would make it wait is the same on every device: a value or a number of hits read by Python.
    class NoReading(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            name = func.overloadpacket.__name__
            assert name not in {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero"}, name
            return func(*args, **(kwargs or {}))

    with NoReading():
        Augment(**ALL)(batch_of(torch.rand(4, 1, 16, 16)))
        with pytest.raises(AssertionError, match="_local_scalar_dense"):
            torch.rand(1).item()


@needs_gpu
def test_the_gpu_is_never_waited_for() -> None:
    batch = batch_of(torch.rand(64, 1, 64, 64, device="cuda"))
    Augment(**ALL)(batch)
    torch.cuda.set_sync_debug_mode("error")
    try:
        Augment(**ALL)(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_augmentation_moves_images_and_its_least_leaves_them() -> None:
    images = torch.rand(6, 1, 32, 32)
    still = Augment(**STILL | {"degrees": 1e-9})(batch_of(images))["image"]
    torch.testing.assert_close(still, images, atol=1e-5, rtol=0)
    mirrored = Augment(**STILL | {"flip": 1})(batch_of(images))["image"]
    torch.testing.assert_close(mirrored, images.flip(-1), atol=1e-5, rtol=0)
    moved = Augment()(batch_of(images))["image"]
    assert not torch.allclose(moved, images, atol=0.1)


def test_places_move_by_what_is_said() -> None:
    dot = torch.zeros(2000, 1, 33, 33)
    dot[:, 0, 16, 26] = 1  # ten pixels right of the centre
    torch.manual_seed(0)

    def position(**amounts: float) -> tuple[torch.Tensor, torch.Tensor]:
        images = Augment(**STILL | amounts)(batch_of(dot))["image"]
        weight, axis = images[:, 0] / images[:, 0].sum((1, 2), keepdim=True), torch.arange(33) - 16.0
        return (weight.sum(1) * axis).sum(1), (weight.sum(2) * axis).sum(1)

    x, y = position(degrees=15)
    angle = torch.rad2deg(torch.atan2(y, x)).abs()
    assert 13 < angle.max() < 17
    x, y = position(shift=0.08)
    assert 0.07 * 33 < (x - 10).abs().max() < 0.09 * 33
    assert 0.07 * 33 < y.abs().max() < 0.09 * 33
    x, _ = position(scale=0.12)
    assert 10.8 < x.max() < 11.6
    assert 8.4 < x.min() < 9.2


def test_intensity_is_one_gain_and_one_gamma_for_each_image() -> None:
    values = torch.tensor([0, 0.125, 0.25, 0.5])
    torch.manual_seed(0)
    images = Augment(**STILL, intensity=0.2)(batch_of(values.expand(4000, 1, 1, 4)))["image"].double()
    black, low, middle, high = images[:, 0, 0].T
    assert (black == 0).all()
    gamma = torch.log2(high / low) / 2  # two values give both amounts, the third must agree
    gain = high * 2**gamma
    torch.testing.assert_close(middle, gain * 0.25**gamma, rtol=1e-5, atol=0)
    for amount in (gain, gamma):
        assert 0.8 - 1e-5 < amount.min() < 0.801
        assert 1.199 < amount.max() < 1.2 + 1e-5
        assert amount.mean() == pytest.approx(1, abs=0.01)
        assert amount.std() == pytest.approx(0.2 / math.sqrt(3), rel=0.05)
    assert torch.corrcoef(torch.stack([gain, gamma]))[0, 1].abs() < 0.05
    white = Augment(**STILL, intensity=0.2)(batch_of(torch.ones(100, 1, 2, 2)))["image"]
    assert white.max() == 1


def test_noise_is_gaussian_and_its_deviation_uniform_up_to_what_is_said() -> None:
    torch.manual_seed(0)
    noise = Augment(**STILL, noise=0.1)(batch_of(torch.full((400, 1, 64, 64), 0.5)))["image"] - 0.5
    deviation = noise.std((1, 2, 3))
    assert deviation.min() < 0.002
    assert 0.098 < deviation.max() < 0.1 * 1.04
    assert deviation.mean() == pytest.approx(0.05, rel=0.07)
    assert deviation.std() == pytest.approx(0.1 / math.sqrt(12), rel=0.1)
    unit = (noise / deviation.view(-1, 1, 1, 1))[deviation > 0.02]  # of the others, float32 keeps too little
    assert unit.mean().abs() < 0.005
    assert (unit**4).mean() == pytest.approx(3, abs=0.05)
    assert noise.flatten(1)[:2].corrcoef()[0, 1].abs() < 0.06  # one image's noise tells nothing of another's


@given(cutout=st.floats(0.001, 1), side=st.integers(3, 40))
@settings(max_examples=60, deadline=None)
def test_cutout_erases_one_whole_square_of_each_image(cutout: float, side: int) -> None:
    images = torch.rand(6, 1, side, side) + 0.1
    out = Augment(**STILL, cutout=cutout)(batch_of(images))["image"]
    square = max(1, round(cutout * side))
    for image, before in zip(out[:, 0].numpy(), images[:, 0].numpy(), strict=True):
        rows, columns = np.nonzero(image == 0)
        assert len(rows) == square**2
        assert np.ptp(rows) == np.ptp(columns) == square - 1
        np.testing.assert_array_equal(image[image != 0], before[image != 0])


def test_cutout_reaches_every_place_alike() -> None:
    torch.manual_seed(0)
    erased = Augment(**STILL, cutout=0.5)(batch_of(torch.ones(16000, 1, 6, 6)))["image"][:, 0] == 0
    place = (erased.flatten(1).int().argmax(1)).bincount(minlength=36).reshape(6, 6)  # of the first corner
    assert place[:4, :4].sum() == 16000
    assert (place[:4, :4] - 1000).abs().max() < 5 * math.sqrt(1000)


def test_mixup_mixes_images_by_the_shares_it_reports() -> None:
    images = torch.rand(6, 1, 16, 16)
    batch = Augment(**STILL, mixup=0.4)(batch_of(images))
    for i, image in enumerate(batch["image"]):
        share, partner = batch["share"][i].item(), (i - 1) % 6
        torch.testing.assert_close(image, share * images[i] + (1 - share) * images[partner])
        assert batch["mixed_label"][i] == batch["label"][partner]
    assert len(batch["share"].unique()) == 6


@pytest.mark.parametrize("alpha", [0.1, 0.4, 1.0, 8.0])
def test_shares_are_of_the_beta_distribution(alpha: float) -> None:
    torch.manual_seed(0)
    share = Augment(**STILL, mixup=alpha)(batch_of(torch.zeros(20000, 1, 1, 1)))["share"]
    assert share.min() >= 0.5
    # Var[λ] = 1 / (4 (2α + 1)), and folding at ½ does not change it about ½.
    assert ((2 * share - 1) ** 2).mean() == pytest.approx(1 / (2 * alpha + 1), rel=0.03)
    drawn = np.random.default_rng(0).beta(alpha, alpha, 20000)
    levels = np.linspace(0.5, 1, 200, endpoint=False)  # to float32, shares near 1 are 1
    ours, theirs = (np.searchsorted(np.sort(x), levels) / 20000 for x in (share, np.maximum(drawn, 1 - drawn)))
    assert np.abs(ours - theirs).max() < 1.95 * math.sqrt(2 / 20000)  # Kolmogorov and Smirnov, p = 0.001
