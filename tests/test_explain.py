"""Heat maps against cases worked out by hand."""

import pytest
import torch
from conftest import tiny_config
from omegaconf import OmegaConf
from torch import Tensor, nn

from hqcnn_lab.explain import grad_cam, occlusion
from hqcnn_lab.models import HQCNN, ImageClassifier


class TwoMaps(nn.Module):
    """Feature maps x and 1 − x; class 0 is 3 · mean(x) − mean(1 − x), class 1 its negative."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(1, 2, 1)
        self.features.weight.data = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
        self.features.bias.data = torch.tensor([0.0, 1.0])
        self.head = nn.Linear(2, 2, bias=False)
        self.head.weight.data = torch.tensor([[3.0, -1.0], [-3.0, 1.0]])

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images).mean((2, 3)))


class TopLeft(nn.Module):
    """Class 0's logit is 4 times the pixel at the top left, class 1's is 0."""

    def forward(self, images: Tensor) -> Tensor:
        corner = 4 * images[:, 0, 0, 0]
        return torch.stack([corner, torch.zeros_like(corner)], 1)


@pytest.mark.parametrize("kernel", ["quantum", "classical"])
def test_grad_cam_of_the_networks_is_a_map_for_each_image(
    kernel: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = OmegaConf.to_container(tiny_config(tmp_path_factory.mktemp("run")).model, resolve=True)
    torch.manual_seed(0)
    net = HQCNN(4, 16, config["circuit"], kernel, widths=[8, 8], n_circuits=2).eval()
    images = torch.rand(3, 1, 16, 16)
    maps = grad_cam(net, images, torch.tensor([0, 1, 2]))
    assert maps.shape == (3, 16, 16)
    assert maps.min() >= 0
    assert set(maps.amax((1, 2)).tolist()) <= {0.0, 1.0}
    assert maps.max() == 1
    assert torch.allclose(grad_cam(net, images[1:2], 1), maps[1:2], atol=1e-5)  # images do not mix
    assert all(parameter.grad is None for parameter in net.parameters())


def test_grad_cam_equals_a_case_worked_out_by_hand() -> None:
    images = torch.tensor([[0.0, 0.5], [1.0, 0.25]]).view(1, 1, 2, 2)
    # Eq. 1: the mean gradient of 3 · mean(x) − mean(1 − x) by the maps is 3/4 and −1/4 over four pixels.
    # Eq. 2: relu(3/4 · x − 1/4 · (1 − x)) = relu(x − 1/4), whose largest value is 3/4.
    expected = torch.tensor([[0.0, 1 / 3], [1.0, 0.0]])
    assert torch.allclose(grad_cam(TwoMaps().eval(), images, 0)[0], expected, atol=1e-6)


def test_grad_cam_of_a_class_that_nothing_speaks_for_is_zero() -> None:
    images = torch.ones(1, 1, 2, 2)
    assert torch.equal(grad_cam(TwoMaps().eval(), images, 1), torch.zeros(1, 2, 2))


def test_grad_cam_takes_any_layer() -> None:
    network = nn.Sequential(TwoMaps().features, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    images = torch.tensor([[0.0, 0.5], [1.0, 0.25]]).view(1, 1, 2, 2)
    with pytest.raises(ValueError, match="Sequential has no features: give the layer"):
        grad_cam(network, images, 0)
    assert torch.allclose(grad_cam(network, images, 0, layer=network[0]), images[0], atol=1e-6)


def test_grad_cam_works_in_inference_mode_where_lightning_validates(tmp_path_factory: pytest.TempPathFactory) -> None:
    config = tiny_config(tmp_path_factory.mktemp("run"))
    parts = {name: OmegaConf.to_container(config[name], resolve=True) for name in ("model", "optim")}
    classifier = ImageClassifier(**parts, classes=["a", "b"], image_size=16).eval()
    images = torch.rand(2, 1, 16, 16)
    expected = grad_cam(classifier, images, 1)
    with torch.inference_mode():
        assert torch.equal(grad_cam(classifier, images.clone(), 1), expected)


def test_occlusion_equals_a_case_worked_out_by_hand() -> None:
    images = torch.zeros(2, 1, 4, 4)
    images[0, 0, 0, 0] = 1.0
    fall = torch.sigmoid(torch.tensor(4.0)).item() - 0.5
    maps = occlusion(TopLeft().eval(), images, 0, patch=2, stride=2, batch_size=3)
    expected = torch.zeros(2, 4, 4)
    expected[0, :2, :2] = fall  # the one square that covers the pixel; the second image has nothing to cover
    assert torch.allclose(maps, expected, atol=1e-6)
    # One pixel further, squares overlap: a pixel under k squares, one of them the first, gets a k-th of the fall.
    maps = occlusion(TopLeft().eval(), images, 0, patch=2, stride=1)
    shares = torch.tensor([[1.0, 1 / 2], [1 / 2, 1 / 4]])
    assert torch.allclose(maps[0, :2, :2], fall * shares, atol=1e-6)
    # Covering the pixel makes class 1 more probable: nothing speaks for it.
    assert occlusion(TopLeft().eval(), images, torch.tensor([1, 1]), patch=2, stride=2).max() == 0


def test_occlusion_covers_the_border_where_the_stride_does_not_divide_the_side() -> None:
    class Corner(TopLeft):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images.flip(2, 3))

    images = torch.zeros(1, 1, 6, 7)
    images[0, 0, -1, -1] = 1.0
    maps = occlusion(Corner().eval(), images, 0, patch=3, stride=2)
    assert maps[0, -1, -1] == pytest.approx(torch.sigmoid(torch.tensor(4.0)).item() - 0.5)


def test_a_model_in_training_mode_and_a_square_that_does_not_fit_are_refused() -> None:
    images = torch.zeros(1, 1, 4, 4)
    for explain in (grad_cam, occlusion):
        with pytest.raises(ValueError, match=r"call model\.eval\(\) first"):
            explain(TopLeft().train(), images, 0)
    for wrong in ({"patch": 5, "stride": 1}, {"patch": 2, "stride": 3}, {"patch": 2, "stride": 0}):
        with pytest.raises(ValueError, match="needs 1 ≤ stride ≤ patch ≤ 4"):
            occlusion(TopLeft().eval(), images, 0, **wrong)
