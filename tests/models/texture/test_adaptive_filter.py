"""The adaptive filter against SciPy's, and where SciPy has no answer."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import wiener

from hqcnn_lab.models.texture import adaptive_filter


def textured(seed: int, height: int, width: int) -> np.ndarray:
    """Noise of a strength that differs between the halves, on a black margin: variances above, below and at 0."""
    rng = np.random.default_rng(seed)
    images = rng.random((3, height, width))
    images[:, :, : width // 2] *= 0.05
    images[:, :, width - width // 4 :] = 0
    return images


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 24), st.integers(1, 24), st.sampled_from([1, 3, 5, 7]))
def test_equals_scipy(seed: int, height: int, width: int, window: int) -> None:
    images = textured(seed, height, width)
    filtered = adaptive_filter(torch.from_numpy(images), window).numpy()
    for image, ours in zip(images, filtered, strict=True):
        with np.errstate(divide="ignore", invalid="ignore"):
            theirs = wiener(image, window)
        # Window 1 has no variance, where SciPy divides 0 by 0; the filter then is the identity.
        expected = np.where(np.isnan(theirs), image, theirs)
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6)


def test_equals_scipy_for_a_given_noise_which_may_differ_between_images() -> None:
    images = textured(0, 20, 30)
    noise = [0.001, 0.02, 10.0]
    filtered = adaptive_filter(torch.from_numpy(images), 5, torch.tensor(noise, dtype=torch.float64)).numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = [wiener(image, 5, nu) for image, nu in zip(images, noise, strict=True)]
    np.testing.assert_allclose(filtered, expected, rtol=0, atol=1e-6)
    one = adaptive_filter(torch.from_numpy(images[:1]), 5, torch.tensor(0.001, dtype=torch.float64)).numpy()
    np.testing.assert_array_equal(one, filtered[:1])


def test_more_noise_than_variance_leaves_the_mean_of_the_window() -> None:
    image = torch.zeros(1, 7, 7)
    image[0, 3, 3] = 9.0
    expected = torch.zeros(1, 7, 7)
    expected[0, 2:5, 2:5] = 1.0
    assert torch.allclose(adaptive_filter(image, 3, torch.tensor(1e6)), expected)


def test_no_noise_leaves_the_image() -> None:
    images = torch.from_numpy(textured(1, 16, 16))
    filtered = adaptive_filter(images, 5, torch.tensor(0.0, dtype=torch.float64))
    torch.testing.assert_close(filtered, images, rtol=0, atol=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_constant_image_stays_constant_but_for_its_border(value: float) -> None:
    filtered = adaptive_filter(torch.full((2, 12, 12), value))
    torch.testing.assert_close(filtered[:, 2:-2, 2:-2], torch.full((2, 8, 8), value))
    assert filtered.isfinite().all()


def test_reduces_noise_and_keeps_an_edge() -> None:
    generator = torch.Generator().manual_seed(0)
    clean = torch.zeros(1, 64, 64)
    clean[:, :, 32:] = 1.0
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=generator)
    middle = (slice(None), slice(4, -4), slice(4, -4))
    filtered = adaptive_filter(noisy, 5, torch.tensor(0.01))
    error = (filtered - clean)[middle].square().mean()
    assert error < 0.3 * (noisy - clean)[middle].square().mean()
    assert (filtered[:, 4:-4, 32] - filtered[:, 4:-4, 31]).mean() > 0.9


def test_an_even_window_is_refused() -> None:
    for window in (0, 4, -1):
        with pytest.raises(ValueError, match="must be odd and positive"):
            adaptive_filter(torch.zeros(1, 8, 8), window)
