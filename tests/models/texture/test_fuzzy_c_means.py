"""Enhanced fuzzy c-means against plain fuzzy c-means on pixels and against cases worked out by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hqcnn_lab.models.texture import enhanced_fuzzy_c_means


def pixelwise(image: np.ndarray, n_clusters: int, fuzziness: float, n_iterations: int) -> tuple[np.ndarray, np.ndarray]:
    """Fuzzy c-means (Bezdek 1981) of one image's pixels, as the formulas stand; the same start."""
    x = image.ravel()
    centres = x.min() + (x.max() - x.min()) * (np.arange(n_clusters) + 0.5) / n_clusters

    def memberships() -> np.ndarray:
        distance = np.maximum(np.abs(x[:, None] - centres), 1e-70)
        ratio = distance[:, :, None] / distance[:, None, :]
        return 1 / (ratio ** (2 / (fuzziness - 1))).sum(2)

    for _ in range(n_iterations):
        weights = memberships() ** fuzziness
        centres = (weights * x[:, None]).sum(0) / weights.sum(0)
    order = centres.argsort()
    return centres[order], memberships()[:, order].T.reshape(n_clusters, *image.shape)


def tissues(seed: int, n_images: int = 1, side: int = 12, n_levels: int = 256) -> Tensor:
    """Noisy patches of four intensities, on the level grid, float64."""
    rng = np.random.default_rng(seed)
    shade = rng.choice([0.05, 0.3, 0.5, 0.9], (n_images, side, side)) + 0.05 * rng.standard_normal((side, side))
    return torch.from_numpy(np.round(shade.clip(0, 1) * (n_levels - 1)) / (n_levels - 1))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5), st.sampled_from([1.5, 2.0, 3.0]), st.sampled_from([32, 256]))
def test_without_neighbours_it_is_fuzzy_c_means_on_the_pixels(
    seed: int, n_clusters: int, fuzziness: float, n_levels: int
) -> None:
    images = tissues(seed, 2, n_levels=n_levels)
    centres, memberships = enhanced_fuzzy_c_means(
        images, n_clusters, fuzziness, n_levels, max_iterations=40, tolerance=0, alpha=0
    )
    for image, ours, of_pixel in zip(images.numpy(), centres.numpy(), memberships.numpy(), strict=True):
        expected = pixelwise(image, n_clusters, fuzziness, 40)
        np.testing.assert_allclose(ours, expected[0], rtol=0, atol=1e-6)
        np.testing.assert_allclose(of_pixel, expected[1], rtol=0, atol=1e-6)


def test_two_clusters_worked_out_by_hand() -> None:
    # Three pixels at 0 and one at 1; centres start at 1/4 and 3/4. A pixel's squared distances are 1 : 9, so its
    # memberships 0.9 and 0.1, their squares 0.81 and 0.01: v₀ = 0.01 / (3·0.81 + 0.01), v₁ = 0.81 / (3·0.01 + 0.81).
    image = torch.tensor([[[0.0, 0.0], [0.0, 1.0]]], dtype=torch.float64)
    centres, memberships = enhanced_fuzzy_c_means(image, 2, max_iterations=1, alpha=0)
    v = torch.tensor([1 / 244, 27 / 28], dtype=torch.float64)
    torch.testing.assert_close(centres[0], v)
    # A pixel at 0 has the squared distances v₀² and v₁².
    torch.testing.assert_close(memberships[0, 0, 0, 0], v[1] ** 2 / (v[0] ** 2 + v[1] ** 2))
    # Converged, each centre is a level, which belongs to it alone.
    centres, memberships = enhanced_fuzzy_c_means(image, 2, tolerance=0, alpha=0)
    torch.testing.assert_close(centres[0], torch.tensor([0.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(memberships[0, 1], image[0])


def test_neighbours_average_as_worked_out_by_hand() -> None:
    # Each pixel of 2×2 has the three others as neighbours. With α = 1 the bright one becomes (1 + 0)/2 = 1/2 and a dark
    # one (0 + 1/3)/2 = 1/6: the case above, moved to the range from 1/6 to 1/2, on a grid of sixths.
    image = torch.tensor([[[0.0, 0.0], [0.0, 1.0]]], dtype=torch.float64)
    centres, _ = enhanced_fuzzy_c_means(image, 2, n_levels=7, max_iterations=1, alpha=1.0)
    torch.testing.assert_close(centres[0], 1 / 6 + torch.tensor([1 / 244, 27 / 28], dtype=torch.float64) / 3)


def test_a_larger_alpha_silences_a_lone_pixel() -> None:
    image = torch.full((1, 9, 9), 0.2)
    image[:, :, 5:] = 0.8
    image[0, 4, 2] = 0.8  # an outlier in the dark half
    bright = [enhanced_fuzzy_c_means(image, 2, alpha=alpha)[1][0, 1, 4, 2].item() for alpha in (0.0, 1.0, 8.0)]
    assert bright[0] > 0.99
    assert bright[0] > bright[1] > bright[2]
    assert bright[2] < 0.1


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(1, 6), st.sampled_from([1.05, 1.5, 2.0, 8.0]), st.sampled_from([0.0, 1.0, 4.0])
)
def test_memberships_are_shares_and_centres_ascend_within_the_range(
    seed: int, n_clusters: int, fuzziness: float, alpha: float
) -> None:
    images = tissues(seed, 3, side=7).float()
    centres, memberships = enhanced_fuzzy_c_means(images, n_clusters, fuzziness, alpha=alpha)
    assert memberships.shape == (3, n_clusters, 7, 7)
    assert memberships.min() >= 0
    torch.testing.assert_close(memberships.sum(1), torch.ones(3, 7, 7))
    assert (centres.diff(dim=1) >= 0).all()
    half_a_level = 0.5 / 255 + 1e-6
    assert (centres.amin(1) >= images.amin((1, 2)) - half_a_level).all()
    assert (centres.amax(1) <= images.amax((1, 2)) + half_a_level).all()


def test_a_batch_equals_its_images_one_by_one() -> None:
    # Among them images that converge at once and one that takes long.
    images = torch.cat([tissues(0, 4).float(), torch.zeros(1, 12, 12), torch.eye(12).unsqueeze(0)])
    together = enhanced_fuzzy_c_means(images)
    for i in range(len(images)):
        alone = enhanced_fuzzy_c_means(images[i : i + 1])
        for a, b in zip(alone, together, strict=True):
            torch.testing.assert_close(a[0], b[i], rtol=0, atol=1e-6)


def test_converged_centres_are_those_of_many_more_iterations() -> None:
    images = tissues(3, 4)
    coarse = enhanced_fuzzy_c_means(images, tolerance=1e-3, max_iterations=1000)[0]
    fine = enhanced_fuzzy_c_means(images, tolerance=1e-9, max_iterations=1000)[0]
    exact = enhanced_fuzzy_c_means(images, tolerance=0, max_iterations=1000)[0]
    assert (fine - exact).abs().max() < 1e-7 < (coarse - exact).abs().max()  # the tolerance stops it, and early


@pytest.mark.parametrize("value", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_a_constant_image_belongs_to_all_clusters_alike(value: float, alpha: float) -> None:
    centres, memberships = enhanced_fuzzy_c_means(torch.full((1, 6, 6), value), alpha=alpha)
    assert (centres - value).abs().max() <= 0.5 / 255 + 1e-6
    torch.testing.assert_close(memberships, torch.full((1, 3, 6, 6), 1 / 3))


@pytest.mark.parametrize("fuzziness", [1.05, 2.0, 50.0])
def test_a_level_that_equals_a_centre_belongs_to_it_alone(fuzziness: float) -> None:
    # By symmetry the middle centre starts and stays at the middle level, 2 of 4.
    image = torch.tensor([[[0.0, 0.5, 1.0]]])
    centres, memberships = enhanced_fuzzy_c_means(image, 3, fuzziness, n_levels=5, alpha=0)
    assert centres[0, 1] == 0.5
    assert memberships[0, :, 0, 1].tolist() == [0.0, 1.0, 0.0]
    assert memberships.isfinite().all()


def test_fewer_levels_than_clusters_and_one_pixel_are_finite() -> None:
    for image in (torch.tensor([[[0.0, 1.0, 1.0]]]), torch.tensor([[[0.7]]])):
        for alpha in (0.0, 1.0):
            centres, memberships = enhanced_fuzzy_c_means(image, 5, alpha=alpha)
            assert centres.isfinite().all()
            torch.testing.assert_close(memberships.sum(1), torch.ones_like(image))


def test_centres_that_overtake_each_other_are_sorted_with_their_memberships() -> None:
    image = torch.tensor([[[4, 2, 26, 3, 114, 171, 116]]], dtype=torch.float64) / 255  # the first two cross
    centres, memberships = enhanced_fuzzy_c_means(image, 4, 1.2, alpha=0, tolerance=0)
    assert (centres.diff(dim=1) > 0).all()
    nearest = (image.flatten()[:, None] - centres[0]).abs().argmin(1)
    assert memberships[0, :, 0].argmax(0).tolist() == nearest.tolist()


def test_without_tolerance_it_can_be_exported_for_any_batch() -> None:
    class Segmentation(nn.Module):
        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            return enhanced_fuzzy_c_means(images, max_iterations=2, tolerance=0)

    images = tissues(0, 5).float()
    batch = torch.export.Dim("batch")
    program = torch.export.export(Segmentation(), (images[:2],), dynamic_shapes=({0: batch},))
    for ours, expected in zip(program.module()(images), Segmentation()(images), strict=True):
        torch.testing.assert_close(ours, expected)


def test_values_outside_the_unit_interval_count_as_its_ends() -> None:
    image = torch.tensor([[[-0.5, 0.0, 0.4, 1.0, 1.7]]])
    for a, b in zip(
        enhanced_fuzzy_c_means(image, 2, alpha=0), enhanced_fuzzy_c_means(image.clamp(0, 1), 2, alpha=0), strict=True
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_clusters": 0},
        {"n_levels": 1},
        {"max_iterations": 0},
        {"fuzziness": 1.0},
        {"alpha": -1.0},
        {"tolerance": -1e-3},
    ],
)
def test_arguments_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="needs"):
        enhanced_fuzzy_c_means(torch.zeros(1, 4, 4), **wrong)
