"""Co-occurrence and its features against scikit-image, local binary patterns against loops and by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.feature import graycomatrix, graycoprops

from hqcnn_lab.models.texture import HARALICK_FEATURES, banded_lbglcm, glcm, haralick, lbglcm, local_binary_pattern

# The angles whose offsets in scikit-image are (0, 1), (1, 0), (1, 1) and (1, -1).
ANGLES = [0, np.pi / 2, np.pi / 4, 3 * np.pi / 4]


def random_levels(seed: int, height: int, width: int, n_levels: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, n_levels, (3, height, width))


def of_skimage(levels: np.ndarray, n_levels: int) -> np.ndarray:
    """`[B, H, W]` → `[n_levels, n_levels, B, angles]`, the axes that graycoprops reads."""
    per_image = [
        graycomatrix(image.astype(np.uint8), [1], ANGLES, n_levels, symmetric=True, normed=True) for image in levels
    ]
    return np.concatenate(per_image, 2)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 20), st.integers(2, 20), st.integers(1, 17))
def test_matrices_and_features_equal_those_of_skimage(seed: int, height: int, width: int, n_levels: int) -> None:
    levels = random_levels(seed, height, width, n_levels)
    matrices = glcm(torch.from_numpy(levels), n_levels)
    theirs = of_skimage(levels, n_levels)
    assert matrices.shape == (3, 4, n_levels, n_levels)
    np.testing.assert_allclose(matrices.numpy(), theirs.transpose(2, 3, 0, 1), rtol=0, atol=1e-6)
    # In float64 from skimage's own matrices, as the correlation of nearly constant images needs it.
    features = haralick(torch.from_numpy(theirs.transpose(2, 3, 0, 1).copy())).numpy()
    assert features.shape == (3, 4, 6)
    for k, name in enumerate(HARALICK_FEATURES):
        np.testing.assert_allclose(features[..., k], graycoprops(theirs, name), rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(("n_levels", "side"), [(8, 64), (16, 4), (256, 32)])
def test_features_in_float32_equal_those_of_skimage(n_levels: int, side: int) -> None:
    levels = random_levels(0, side, side, n_levels)
    theirs = of_skimage(levels, n_levels)
    features = haralick(glcm(torch.from_numpy(levels), n_levels)).numpy()
    for k, name in enumerate(HARALICK_FEATURES):
        np.testing.assert_allclose(features[..., k], graycoprops(theirs, name), rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("level", [0, 3, 7])
def test_features_of_a_constant_image(level: int) -> None:
    features = haralick(glcm(torch.full((1, 9, 9), level), 8))
    assert features[0].tolist() == [[0.0, 0.0, 1.0, 1.0, 1.0, 1.0]] * 4


def test_co_occurrence_worked_out_by_hand() -> None:
    levels = torch.tensor([[[0, 1, 1], [2, 0, 1]]])
    # To the right lie 0→1, 1→1, 2→0 and 0→1: eight pairs, both ways.
    right = torch.tensor([[0, 2, 1], [2, 2, 0], [1, 0, 0]]) / 8
    # Two to the left and one down lies 1→2 alone; up counts the same pairs as down.
    far = torch.tensor([[0, 0, 0], [0, 0, 1], [0, 1, 0]]) / 2
    matrices = glcm(levels, 3, ((0, 1), (1, -2), (-1, 2)))
    torch.testing.assert_close(matrices[0], torch.stack([right, far, far]))


def test_an_offset_beyond_the_image_and_levels_out_of_range_are_refused() -> None:
    levels = torch.zeros(1, 4, 6, dtype=torch.int64)
    for offset in ((4, 0), (0, -6)):
        with pytest.raises(ValueError, match="leaves no pair in 4×6 pixels"):
            glcm(levels, 2, (offset,))
    for wrong in (-1, 2):
        with pytest.raises(ValueError, match="must be from 0 to n_levels − 1 = 1"):
            glcm(levels + wrong, 2)


def test_pattern_worked_out_by_hand() -> None:
    image = torch.tensor([[[5.0, 9.0, 1.0], [4.0, 5.0, 6.0], [7.0, 2.0, 3.0]]])
    codes = local_binary_pattern(image)
    # At least 5 are: top left (equal), top, right, bottom left.
    assert codes[0, 1, 1] == 1 + 2 + 16 + 32
    # The largest pixel sees only its own copies in the row above it at least as bright.
    assert codes[0, 0, 1] == 2
    assert codes.dtype == torch.int64


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 9), st.sampled_from([2, 4, 256]))
def test_patterns_equal_a_loop_over_pixels(seed: int, height: int, width: int, n_levels: int) -> None:
    image = random_levels(seed, height, width, n_levels)[0]
    around = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]
    expected = np.zeros((height, width), int)
    for row in range(height):
        for column in range(width):
            for k, (down, right) in enumerate(around):
                neighbour = image[min(max(row + down, 0), height - 1), min(max(column + right, 0), width - 1)]
                expected[row, column] += (neighbour >= image[row, column]) << k
    codes = local_binary_pattern(torch.from_numpy(image)[None].float())
    np.testing.assert_array_equal(codes[0].numpy(), expected)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_texture_ignores_monotone_changes_of_intensity(seed: int) -> None:
    images = torch.from_numpy(random_levels(seed, 10, 12, 50)).float()
    changed = 3 + 2 * images.square()
    assert torch.equal(local_binary_pattern(changed), local_binary_pattern(images))
    assert torch.equal(lbglcm(changed), lbglcm(images))


def test_lbglcm_is_the_co_occurrence_of_the_leading_bits_of_the_patterns() -> None:
    images = torch.from_numpy(np.random.default_rng(0).random((2, 16, 20)))
    expected = glcm(local_binary_pattern(images) >> 4, 16)
    assert torch.equal(lbglcm(images), expected)
    assert torch.equal(lbglcm(images, 256), glcm(local_binary_pattern(images), 256))


def test_bands_are_parts_of_the_whole_images_patterns() -> None:
    images = torch.from_numpy(np.random.default_rng(0).random((2, 12, 10)))
    levels = local_binary_pattern(images) // 32
    bands = banded_lbglcm(images, 3, n_levels=8)
    for band in range(3):
        assert torch.equal(bands[:, band], glcm(levels[:, 4 * band : 4 * band + 4], 8))


def test_bands_that_do_not_fit_and_impossible_levels_are_refused() -> None:
    images = torch.zeros(1, 12, 12)
    with pytest.raises(ValueError, match="must be a multiple of n_bands=5"):
        banded_lbglcm(images, 5)
    with pytest.raises(ValueError, match="leaves no pair in 1×12 pixels"):
        banded_lbglcm(images, 12)
    for n_levels in (1, 257):
        with pytest.raises(ValueError, match="must be from 2 to 256"):
            lbglcm(images, n_levels)
