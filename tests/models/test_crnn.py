"""The classical pipeline: shapes, gradients, precision, and that both its maps and its texture tell classes apart."""

import pytest
import torch
from torch import Tensor, nn

from hqcnn_lab.models.crnn import CRNN
from hqcnn_lab.models.explain import NoGradient, integrated_gradients


def network(n_classes: int = 4, image_size: int = 32, **options: object) -> CRNN:
    torch.manual_seed(0)
    return CRNN(n_classes, image_size, **({"widths": [8, 8], "hidden": 16} | options))


def random_images(n: int = 4, side: int = 32) -> Tensor:
    return torch.rand(n, 1, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("image_size", "options"),
    [
        (64, {"widths": [16, 32], "hidden": 64}),
        (32, {}),
        (20, {"n_clusters": 5, "n_levels": 8}),
        (16, {"widths": [4]}),
        (16, {"widths": (4, 4, 4)}),
    ],
)
def test_shapes(image_size: int, options: dict) -> None:
    net = network(3, image_size, **options)
    images = random_images(2, image_size)
    maps, texture = net.preprocess(images)
    n_clusters, n_halvings = options.get("n_clusters", 3), len(options.get("widths", [8, 8]))
    side = image_size // 2**n_halvings
    assert maps.shape == (2, 1 + n_clusters, image_size, image_size)
    assert texture.shape == (2, side, 24)
    assert net.features(maps).shape == (2, options.get("widths", [8, 8])[-1], side, side)
    assert net(images).shape == (2, 3)


def test_every_parameter_gets_a_gradient() -> None:
    net = network()
    net(random_images()).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("training", [True, False])
def test_constant_images_have_finite_logits_and_gradients(value: float, training: bool) -> None:
    net = network().train(training)
    logits = net(torch.full((2, 1, 32, 32), value))
    logits.sum().backward()
    assert logits.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


def test_an_image_has_the_same_logits_again_and_in_any_batch() -> None:
    net, images = network().eval(), random_images()
    logits = net(images)
    assert torch.equal(net(images), logits)
    torch.testing.assert_close(torch.cat([net(image[None]) for image in images]), logits, atol=1e-5, rtol=1e-5)


def test_a_pixel_that_is_not_a_number_shows_in_its_image_alone() -> None:
    net, images = network().eval(), random_images()
    expected = net(images)
    images[1, 0, 7, 7] = torch.nan
    logits = net(images)
    assert logits[1].isnan().all()
    torch.testing.assert_close(logits[[0, 2, 3]], expected[[0, 2, 3]])


def test_preprocessing_is_float32_and_the_same_under_autocast() -> None:
    net, images = network().eval(), random_images()
    expected = net(images)
    plain = net.preprocess(images)
    with torch.autocast("cpu", torch.bfloat16):
        maps, texture = net.preprocess(images.requires_grad_())
        logits = net(images)
    for ours, theirs in zip((maps, texture), plain, strict=True):
        assert ours.dtype == torch.float32
        assert torch.equal(ours, theirs)
        assert not ours.requires_grad
    torch.testing.assert_close(logits.float(), expected, atol=0.1, rtol=0.1)


def test_a_network_in_half_precision_takes_images_in_half_precision() -> None:
    net, images = network().eval(), random_images()
    expected = net(images)
    net, images = net.bfloat16(), images.bfloat16()
    for ours, of_float32 in zip(net.preprocess(images), net.preprocess(images.float()), strict=True):
        assert torch.equal(ours, of_float32.bfloat16())
    logits = net(images)
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), expected, atol=0.15, rtol=0.15)


def test_maps_are_the_denoised_image_and_clusters_from_dark_to_bright() -> None:
    image = torch.zeros(1, 1, 32, 32)
    image[..., 11:21], image[..., 21:] = 0.5, 1.0
    maps, _ = network().preprocess(image)
    inside = maps[0, :, 8:24]  # away from the border, where the filter sees zeros
    for cluster, columns in enumerate((slice(3, 9), slice(13, 19), slice(24, 29))):
        assert (inside[1 + cluster, :, columns] > 0.9).all()
    assert inside[0, :, 24:29].mean() > inside[0, :, 13:19].mean() > inside[0, :, 3:9].mean()


def test_noise_below_a_grey_level_is_no_texture() -> None:
    flat = torch.full((1, 1, 32, 32), 102 / 255)
    noise = 1e-3 * (random_images(1) - 0.5)
    assert torch.equal(network().preprocess(flat + noise)[1], network().preprocess(flat)[1])


def test_no_gradient_leads_through_the_texture_to_the_image() -> None:
    with pytest.raises(NoGradient, match="CRNN decides by no gradient of the image: use occlusion"):
        integrated_gradients(network().eval(), random_images(), 0)


def two_textures(n: int, side: int = 16) -> tuple[Tensor, Tensor]:
    """Stripes along rows or along columns at a random phase: the same histogram, another co-occurrence."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(n) % 2
    phase = torch.randint(0, 4, (n, 1), generator=generator)
    wave = (0.5 + 0.4 * ((torch.arange(side) + phase) % 4 < 2).float()).unsqueeze(1).expand(-1, side, -1)
    images = torch.where(labels[:, None, None] == 0, wave, wave.mT)
    noise = 0.02 * torch.randn(images.shape, generator=generator)
    return (images + noise).clamp(0, 1).unsqueeze(1), labels


@pytest.mark.parametrize("blind", ["nothing", "maps", "texture"])
def test_learns_two_textures_also_by_its_maps_or_its_texture_alone(blind: str) -> None:
    images, labels = two_textures(32)
    net = network(2, 16, dropout=0.0)
    plain = net.preprocess
    if blind != "nothing":
        index = ["maps", "texture"].index(blind)
        net.preprocess = lambda x: tuple(torch.zeros_like(y) if i == index else y for i, y in enumerate(plain(x)))
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    losses = []
    for _ in range(12):
        loss = nn.functional.cross_entropy(net(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.4
    assert losses[-1] < 0.1


@pytest.mark.parametrize("options", [{"image_size": 30}, {"widths": []}, {"image_size": 16, "widths": [4] * 5}])
def test_a_side_that_does_not_halve_often_enough_is_refused(options: dict) -> None:
    with pytest.raises(ValueError, match=r"must be a (multiple of|list of positive)"):
        network(**options)


@pytest.mark.gpu
def test_same_logits_on_cuda() -> None:
    net, images = network().eval(), random_images()
    logits = net(images)
    net.cuda()
    torch.testing.assert_close(net(images.cuda()).cpu(), logits, atol=1e-3, rtol=1e-3)
