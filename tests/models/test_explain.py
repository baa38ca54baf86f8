"""Heat maps against cases worked out by hand, and against the place of a tumour that is known."""

from functools import partial

import pytest
import torch
from conftest import tiny_config
from omegaconf import OmegaConf
from torch import Tensor, nn
from tumours import phantom_tumours, share_inside

from hqcnn_lab.models import HQCNN, ImageClassifier
from hqcnn_lab.models.explain import NoGradient, integrated_gradients, occlusion

pytestmark = pytest.mark.slow


class TopLeft(nn.Module):
    """Class 0's logit is 4 times the pixel at the top left, class 1's is 0."""

    def forward(self, images: Tensor) -> Tensor:
        corner = 4 * images[:, 0, 0, 0]
        return torch.stack([corner, torch.zeros_like(corner)], 1)


class Bright(nn.Module):
    """Class 0 is a bright square anywhere; what all classes share is the whole image's brightness, many times."""

    def forward(self, images: Tensor) -> Tensor:
        square = nn.functional.avg_pool2d(images, 6, 1).amax((1, 2, 3))
        return torch.stack([8 * square, torch.zeros_like(square)], 1) + 100 * images.mean((1, 2, 3)).unsqueeze(1)


@pytest.fixture
def bright() -> tuple[Tensor, Tensor]:
    """Two images of a grey disc on black with a bright square in it, and where the squares are."""
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    images = (0.3 * (torch.hypot(y - 15.5, x - 15.5) < 14)).float().repeat(2, 1, 1, 1)
    squares = torch.zeros(2, 32, 32, dtype=torch.bool)
    squares[0, 8:14, 16:22] = squares[1, 18:24, 9:15] = True
    images[:, 0][squares] = 0.9
    return images, squares


@pytest.mark.parametrize("kernel", ["quantum", "classical"])
def test_maps_of_the_networks_add_up_to_what_the_image_adds(
    kernel: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = OmegaConf.to_container(tiny_config(tmp_path_factory.mktemp("run")).model, resolve=True)
    torch.manual_seed(0)
    net = HQCNN(4, 16, config["circuit"], kernel, widths=[8, 8], n_circuits=2).eval()
    images, classes = torch.rand(3, 1, 16, 16), torch.tensor([0, 1, 2])
    without = 0.5 * images
    maps = integrated_gradients(net, images, classes, without, n_steps=64)
    assert maps.shape == (3, 16, 16)
    with torch.no_grad():
        p, q = (net(x).softmax(1)[range(3), classes].logit() for x in (images, without))
    # Sundararajan et al. 2017, proposition 1: completeness; smoothing moves, and takes nothing away.
    assert torch.allclose(maps.sum((1, 2)), p - q, atol=1e-3)
    one = integrated_gradients(net, images[1:2], 1, without[1:2], n_steps=64)
    assert torch.allclose(one, maps[1:2], atol=1e-5)  # images do not mix
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_map_of_log_odds_equals_a_case_worked_out_by_hand() -> None:
    # The log-odds of class 0 are 4 times the corner, a line: 4 · (0.9 − 0.4) lies there, and is smoothed.
    images, without = torch.full((1, 1, 64, 64), 0.9), torch.full((1, 1, 64, 64), 0.4)
    maps = integrated_gradients(TopLeft().eval(), images, 0, without, n_steps=1)
    assert maps.sum().item() == pytest.approx(2.0, abs=1e-5)
    assert maps.flatten().argmax() == 0
    assert maps[0, 16:].abs().max() < 1e-5  # six standard deviations from there
    assert integrated_gradients(TopLeft().eval(), images, 1, without).sum().item() == pytest.approx(-2.0, abs=1e-5)


def test_both_maps_find_what_was_put_there_and_nothing_around_the_head(bright: tuple[Tensor, Tensor]) -> None:
    # Regression: Grad-CAM lit up the background.
    images, squares = bright
    around = squares.float().unsqueeze(1)
    around = nn.functional.max_pool2d(around, 9, 1, 4).squeeze(1) > 0  # and four pixels more
    for maps in (integrated_gradients(Bright().eval(), images, 0), occlusion(Bright().eval(), images, 0, 4, 2)):
        assert squares.flatten(1).gather(1, maps.flatten(1).argmax(1, keepdim=True)).all()
        heat = maps.clamp(min=0)
        assert ((heat * around).sum((1, 2)) / heat.sum((1, 2))).min() > 0.9


def test_both_maps_find_the_tumours_that_a_hybrid_network_was_trained_on() -> None:
    # Regression: with Grad-CAM on the last feature map 3 % of the heat lay in tumours, which are 5 % of the pixels.
    torch.manual_seed(0)
    net = HQCNN(4, 32, {"n_wires": 4, "n_layers": 1}, widths=[12, 24], n_circuits=4)
    images, labels, _ = phantom_tumours(512, 0, 32)
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(5):
        for index in torch.randperm(512).split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images[index]), labels[index]).backward()
            optimizer.step()
    net.eval()
    images, labels, tumours = phantom_tumours(96, 1, 32)
    with torch.no_grad():
        chosen = (labels == net(images).argmax(1)) & tumours.any(2).any(1)
    assert chosen.sum() > 30
    images, labels, tumours = images[chosen], labels[chosen], tumours[chosen]
    for explain, hit, share in ((integrated_gradients, 0.9, 0.5), (partial(occlusion, patch=4, stride=2), 0.8, 0.4)):
        maps = explain(net, images, labels)
        brightest = maps.flatten(1).argmax(1, keepdim=True)
        assert tumours.flatten(1).gather(1, brightest).float().mean() > hit
        assert share_inside(maps, tumours).mean() > share


def test_what_decides_without_gradients_is_said() -> None:
    class Fixed(TopLeft):
        def forward(self, images: Tensor) -> Tensor:
            with torch.no_grad():
                return super().forward(images)

    class Elsewhere(nn.Linear):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images.detach().flatten(1))

    for model in (Fixed(), Elsewhere(16, 2)):
        with pytest.raises(NoGradient, match=f"{type(model).__name__} decides by no gradient of the image"):
            integrated_gradients(model.eval(), torch.rand(1, 1, 4, 4), 0)


def test_maps_work_in_inference_mode_where_lightning_validates(tmp_path_factory: pytest.TempPathFactory) -> None:
    config = tiny_config(tmp_path_factory.mktemp("run"))
    parts = {name: OmegaConf.to_container(config[name], resolve=True) for name in ("model", "optim")}
    classifier = ImageClassifier(**parts, classes=["a", "b"], image_size=16).eval()
    images = torch.rand(2, 1, 16, 16)
    expected = integrated_gradients(classifier, images, 1)
    with torch.inference_mode():
        assert torch.equal(integrated_gradients(classifier, images.clone(), 1), expected)


def test_occlusion_equals_a_case_worked_out_by_hand() -> None:
    images = torch.zeros(2, 1, 4, 4)
    images[0, 0, 0, 0] = 1.0
    black = torch.zeros_like(images)
    fall = torch.sigmoid(torch.tensor(4.0)).item() - 0.5
    maps = occlusion(TopLeft().eval(), images, 0, patch=2, stride=2, without=black, batch_size=3)
    expected = torch.zeros(2, 4, 4)
    expected[0, :2, :2] = fall  # the one square that covers the pixel; the second image has nothing to cover
    assert torch.allclose(maps, expected, atol=1e-6)
    # One pixel further, squares overlap: a pixel under k squares, one of them the first, gets a k-th of the fall.
    maps = occlusion(TopLeft().eval(), images, 0, patch=2, stride=1, without=black)
    shares = torch.tensor([[1.0, 1 / 2], [1 / 2, 1 / 4]])
    assert torch.allclose(maps[0, :2, :2], fall * shares, atol=1e-6)
    # Covering the pixel makes class 1 more probable: nothing speaks for it.
    assert occlusion(TopLeft().eval(), images, torch.tensor([1, 1]), patch=2, stride=2, without=black).max() == 0


def test_occlusion_covers_the_border_where_the_stride_does_not_divide_the_side() -> None:
    class Corner(TopLeft):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images.flip(2, 3))

    images = torch.zeros(1, 1, 6, 7)
    images[0, 0, -1, -1] = 1.0
    maps = occlusion(Corner().eval(), images, 0, patch=3, stride=2, without=torch.zeros_like(images))
    assert maps[0, -1, -1] == pytest.approx(torch.sigmoid(torch.tensor(4.0)).item() - 0.5)


def test_a_model_in_training_mode_and_a_square_that_does_not_fit_are_refused() -> None:
    images = torch.zeros(1, 1, 4, 4)
    for explain in (integrated_gradients, occlusion):
        with pytest.raises(ValueError, match=r"call model\.eval\(\) first"):
            explain(TopLeft().train(), images, 0)
    for wrong in ({"patch": 5, "stride": 1}, {"patch": 2, "stride": 3}, {"patch": 2, "stride": 0}):
        with pytest.raises(ValueError, match="needs 1 ≤ stride ≤ patch ≤ 4"):
            occlusion(TopLeft().eval(), images, 0, **wrong)
