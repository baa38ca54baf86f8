"""The classical comparison networks: shapes, gradients, published sizes, VGG16's weights from a file, Grad-CAM."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from hqcnn_lab.models import vgg16
from hqcnn_lab.models.alexnet import AlexNet
from hqcnn_lab.models.ann import ANN
from hqcnn_lab.models.explain import integrated_gradients
from hqcnn_lab.models.intensity import standardized
from hqcnn_lab.models.resnet import ResNet
from hqcnn_lab.models.simple_cnn import SimpleCNN
from hqcnn_lab.models.unet_encoder import UNetEncoder
from hqcnn_lab.models.vgg16 import VGG16

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "ANN": ANN,
    "SimpleCNN": SimpleCNN,
    "AlexNet": AlexNet,
    "VGG16": VGG16,
    "ResNet18": ResNet,
    "UNetEncoder": UNetEncoder,
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def tiny_vgg(monkeypatch: pytest.MonkeyPatch) -> None:
    """VGG16's layers with few channels; the real one is 0.5 GB."""
    monkeypatch.setattr(vgg16, "_CHANNELS", ((4, 4), (4, 4), (8, 8, 8), (8, 8, 8), (8, 8, 8)))
    monkeypatch.setattr(vgg16, "_N_DENSE", 16)


def n_parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.usefixtures("tiny_vgg")
def test_logits_and_gradients(name: str) -> None:
    net, images = NETWORKS[name](4, 64), torch.rand(2, 1, 64, 64)
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    before = images.clone()
    logits = net(images)
    assert logits.shape == (2, 4)
    assert logits.isfinite().all()
    assert torch.equal(images, before)
    nn.functional.cross_entropy(logits, torch.tensor([0, 3])).backward()
    for parameter_name, parameter in net.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.usefixtures("tiny_vgg")
def test_logits_in_eval_depend_on_the_image_alone(name: str) -> None:
    net, images = NETWORKS[name](4, 64).eval(), torch.rand(3, 1, 64, 64)
    logits = net(images)
    assert torch.equal(net(images), logits)
    torch.testing.assert_close(net(images[:1]), logits[:1], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(logits[0], logits[1], atol=1e-7, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.usefixtures("tiny_vgg")
def test_gradients_say_where_it_looks(name: str) -> None:
    net, images = NETWORKS[name](4, 64).eval(), torch.rand(2, 1, 64, 64)
    maps = torch.stack([integrated_gradients(net, images, label, n_steps=1) for label in (0, 3)])
    assert maps.shape == (2, 2, 64, 64)
    assert maps.isfinite().all()
    assert maps.abs().amax((2, 3)).min() > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "published"),
    [
        (AlexNet, 61_100_840),
        (VGG16, 138_357_544),
        (ResNet, 11_689_512),
        (lambda *sizes: ResNet(*sizes, depth=50), 25_557_032),
    ],
    ids=["AlexNet", "VGG16", "ResNet18", "ResNet50"],
)
def test_published_size(make: Callable[..., nn.Module], published: int) -> None:
    with torch.device("meta"):
        net = make(1000, 224)
        logits = net(torch.rand(2, 1, 224, 224))
    assert n_parameters(net) == published
    assert logits.shape == (2, 1000)


@pytest.mark.slow
def test_resnet_halves_the_side_five_times_as_published() -> None:
    """MONAI's own default, a stem without stride, has as many weights."""
    with torch.device("meta"):
        net = ResNet(1000, 224)
        shapes = []
        net.network.layer4.register_forward_hook(lambda _, inputs, output: shapes.append(tuple(output.shape)))
        net(torch.rand(1, 1, 224, 224))
    assert shapes == [(1, 512, 7, 7)]


@pytest.mark.parametrize(
    ("make", "least", "remedy"),
    [
        (AlexNet, 63, "dataset.image_size=64"),
        (VGG16, 32, "dataset.image_size=64"),
        (SimpleCNN, 8, "dataset.image_size=8 or more"),
        (UNetEncoder, 8, "dataset.image_size=8 or more"),
    ],
)
def test_smaller_images_than_it_can_see_are_refused(make: Callable[..., nn.Module], least: int, remedy: str) -> None:
    with torch.device("meta"):
        assert make(4, least)(torch.rand(2, 1, least, least)).shape == (2, 4)
        with pytest.raises(ValueError, match=re.escape(f"image_size={least - 1} is less than") + f".*{remedy}"):
            make(4, least - 1)


def test_unknown_depth_is_refused() -> None:
    with pytest.raises(ValueError, match="ResNet: depth must be 18 or 50, got 34"):
        ResNet(4, 64, depth=34)


def test_ann_without_hidden_layers_is_linear() -> None:
    net, (a, b) = ANN(4, 8, hidden=[]), torch.rand(2, 1, 1, 8, 8)
    assert n_parameters(net) == 64 * 4 + 4
    torch.testing.assert_close(net((a + b) / 2), (net(a) + net(b)) / 2)


def test_names_in_the_state_are_torchvisions() -> None:
    with torch.device("meta"):
        vgg, alexnet = VGG16(1000, 224), AlexNet(1000, 224)
    for net, features, dense in [
        (vgg, [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28], [0, 3, 6]),
        (alexnet, [0, 3, 6, 8, 10], [1, 4, 6]),
    ]:
        layers = [f"features.{i}" for i in features] + [f"classifier.{i}" for i in dense]
        assert list(net.state_dict()) == [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]
    assert vgg.state_dict()["classifier.0.weight"].shape == (4096, 512 * 7 * 7)


@pytest.mark.usefixtures("tiny_vgg")
class TestWeightsOfVGG16:
    @pytest.fixture
    def pretrained(self, tmp_path: Path) -> VGG16:
        """A network of ten classes, whose state is in `vgg.pth`."""
        net = VGG16(10, 32)
        torch.save(net.state_dict(), tmp_path / "vgg.pth")
        return net

    def test_all_but_other_classes_are_loaded(self, pretrained: VGG16, tmp_path: Path) -> None:
        net = VGG16(4, 32, weights=str(tmp_path / "vgg.pth"))
        random = {name: value.clone() for name, value in net.state_dict().items()}
        net.load_initial_weights()
        for name, value in net.state_dict().items():
            source = random if name.startswith("classifier.6") else pretrained.state_dict()
            assert torch.equal(value, source[name]), name
        assert not torch.equal(random["features.0.weight"], net.features[0].weight)

    def test_the_last_layer_is_loaded_where_it_fits(self, pretrained: VGG16, tmp_path: Path) -> None:
        net = VGG16(10, 32, weights=str(tmp_path / "vgg.pth"))
        net.load_initial_weights()
        assert torch.equal(net.classifier[6].weight, pretrained.classifier[6].weight)

    def test_images_are_scaled_as_those_the_weights_saw(self, pretrained: VGG16, tmp_path: Path) -> None:
        net = VGG16(10, 32, weights=str(tmp_path / "vgg.pth"))
        images, seen = torch.rand(2, 1, 32, 32), []
        for each in (net, pretrained):
            each.features.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
            each(images)
        gray = images[:, 0]
        torch.testing.assert_close(seen[0][:, 0], (gray - 0.485) / 0.229)
        torch.testing.assert_close(seen[0][:, 2], (gray - 0.406) / 0.225)
        torch.testing.assert_close(seen[1], standardized(images).repeat(1, 3, 1, 1))

    def test_the_file_is_not_needed_once_trained(self, tmp_path: Path) -> None:
        """A checkpoint is reloaded where the file may not be."""
        options = {"weights": str(tmp_path / "absent.pth"), "frozen": True}
        trained, reloaded = VGG16(4, 32, **options).eval(), VGG16(4, 32, **options).eval()
        reloaded.load_state_dict(trained.state_dict())
        images = torch.rand(2, 1, 32, 32)
        assert torch.equal(trained(images), reloaded(images))

    def test_nothing_is_loaded_without_weights(self) -> None:
        net = VGG16(4, 32)
        before = {name: value.clone() for name, value in net.state_dict().items()}
        net.load_initial_weights()
        assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())

    def test_frozen_trains_the_dense_layers_alone(self, pretrained: VGG16, tmp_path: Path) -> None:
        net = VGG16(4, 32, weights=str(tmp_path / "vgg.pth"), frozen=True)
        net.load_initial_weights()
        net(torch.rand(2, 1, 32, 32)).square().sum().backward()
        trained = {name for name, parameter in net.named_parameters() if parameter.grad is not None}
        assert trained == {f"classifier.{i}.{kind}" for i in (0, 3, 6) for kind in ("weight", "bias")}

    def test_frozen_random_convolutions_are_refused(self) -> None:
        with pytest.raises(ValueError, match=r"model\.frozen=true without model\.weights"):
            VGG16(4, 32, frozen=True)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda state: state.pop("features.0.bias"), r"does not fit VGG16: features\.0\.bias is missing$"),
            (lambda state: state.pop("classifier.6.bias"), r"classifier\.6\.bias is missing$"),
            (lambda state: state.update(extra=torch.ones(1)), "extra is not in VGG16$"),
            (
                lambda state: state.update({"features.2.weight": torch.ones(2, 4, 3, 3)}),
                r"features\.2\.weight has shape \(2, 4, 3, 3\) instead of \(4, 4, 3, 3\)$",
            ),
            (
                lambda state: [state.pop(name) for name in ("features.0.weight", "features.0.bias")],
                r"features\.0\.weight is missing \(and 1 more\)$",
            ),
            (lambda state: state.update(epoch=3), "holds something other than a state dict"),
        ],
    )
    def test_a_state_that_does_not_fit_is_refused(
        self, pretrained: VGG16, tmp_path: Path, change: Callable[[dict], object], words: str
    ) -> None:
        state = dict(pretrained.state_dict())
        change(state)
        file = tmp_path / "changed.pth"
        torch.save(state, file)
        net = VGG16(4, 32, weights=str(file))
        before = net.features[0].weight.clone()
        with pytest.raises(ValueError, match=words) as caught:
            net.load_initial_weights()
        assert str(caught.value).startswith(f"model.weights={file}")
        assert torch.equal(net.features[0].weight, before)

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (None, "there is no such file"),
            (b"", "is no file of tensors"),
            (b"<!DOCTYPE html>", "is no file of tensors"),
            (b"PK\x03\x04 cut short", "is no file of tensors"),
        ],
        ids=["absent", "empty", "html", "truncated"],
    )
    def test_an_unreadable_file_is_refused(self, tmp_path: Path, content: bytes | None, words: str) -> None:
        file = tmp_path / "vgg.pth"
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(ValueError, match=words) as caught:
            VGG16(4, 32, weights=str(file)).load_initial_weights()
        assert str(caught.value).startswith(f"model.weights={file}")
        assert "\n" not in str(caught.value)

    def test_a_file_that_would_run_code_is_refused(self, tmp_path: Path) -> None:
        file = tmp_path / "vgg.pth"
        torch.save(nn.Linear(1, 1), file)  # a pickled object, which only code can rebuild
        with pytest.raises(ValueError, match="is no file of tensors"):
            VGG16(4, 32, weights=str(file)).load_initial_weights()


@pytest.mark.gpu
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.usefixtures("tiny_vgg")
def test_same_logits_on_cuda(name: str) -> None:
    net, images = NETWORKS[name](4, 64).eval(), torch.rand(4, 1, 64, 64)
    expected = net(images)
    torch.testing.assert_close(net.cuda()(images.cuda()).cpu(), expected, atol=1e-3, rtol=1e-3)
