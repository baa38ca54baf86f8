"""The hybrid network and its twin: shapes, sizes, gradients, and that nothing but the kernel differs."""

import pytest
import torch
from torch import nn

from hqcnn_lab.models import HQCNN
from hqcnn_lab.models.classical_kernel import ClassicalKernel2d
from hqcnn_lab.quantum import QuantumConv2d


def network(kernel: str = "quantum", n_wires: int = 4, n_layers: int = 2, **options: object) -> HQCNN:
    circuit = {"n_wires": n_wires, "n_layers": n_layers, "ansatz": "hardware_efficient", "engine": "folded"}
    arguments = {"widths": [8, 8, 8], "n_circuits": 3, "image_size": 32} | options
    return HQCNN(4, circuit=circuit, kernel=kernel, **arguments)


@pytest.mark.parametrize("kernel", ["quantum", "classical"])
@pytest.mark.parametrize(
    ("n_wires", "options"),
    [
        (4, {}),
        (8, {}),
        (6, {"kernel_size": 1}),
        (9, {"kernel_size": 3, "image_size": 64}),
        (4, {"widths": [8, 8]}),
        (4, {"widths": [8]}),
    ],
)
def test_logits_for_every_arrangement_of_wires(kernel: str, n_wires: int, options: dict) -> None:
    net = network(kernel, n_wires, **options)
    size = options.get("image_size", 32)
    assert net(torch.rand(2, 1, size, size)).shape == (2, 4)


def test_every_parameter_gets_a_gradient() -> None:
    net = network()
    net(torch.rand(4, 1, 32, 32)).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(("n_wires", "n_layers"), [(4, 1), (4, 2), (4, 3), (4, 9), (8, 2), (8, 10)])
def test_twin_differs_in_the_kernel_alone_and_has_at_least_its_weights(n_wires: int, n_layers: int) -> None:
    quantum, classical = network("quantum", n_wires, n_layers), network("classical", n_wires, n_layers)
    assert isinstance(quantum.kernel, QuantumConv2d)
    assert isinstance(classical.kernel, ClassicalKernel2d)

    def size(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    assert size(classical.kernel) >= size(quantum.kernel)
    shapes = {name: p.shape for name, p in quantum.named_parameters() if not name.startswith("kernel")}
    assert shapes == {name: p.shape for name, p in classical.named_parameters() if not name.startswith("kernel")}
    angles = torch.randn(2, quantum.kernel.in_channels, 4, 4)
    assert quantum.kernel(angles).shape == classical.kernel(angles).shape


def test_twin_of_the_default_circuit_has_exactly_its_weights() -> None:
    assert sum(p.numel() for p in network("quantum").kernel.parameters()) == 3 * 16
    assert sum(p.numel() for p in network("classical").kernel.parameters()) == 3 * 16


def test_twin_sees_each_patch_of_each_group_alone() -> None:
    kernel = ClassicalKernel2d(in_channels=2, kernel_size=2, groups=2, n_outputs=4, min_weights=40)
    assert len(kernel.maps) == 3
    x = torch.randn(1, 2, 4, 4)
    changed = x.clone()
    changed[0, 0, 0, 0] += 1
    difference = (kernel(x) - kernel(changed)).abs().sum((2, 3))[0]
    assert (difference[:4] > 0).all()  # the first group
    assert (difference[4:] == 0).all()
    assert (kernel(x) - kernel(changed)).abs()[0, :, 1:, :].sum() == 0  # the first patch


def test_circuit_runs_in_float32_under_autocast() -> None:
    net = network().eval()
    images = torch.rand(2, 1, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        seen = []
        net.kernel.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0].dtype, output.dtype)))
        logits = net(images)
    assert seen == [(torch.float32, torch.float32)]
    torch.testing.assert_close(logits.float(), net(images), atol=0.1, rtol=0.1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_wires": 6}, "multiple of kernel_size"),
        ({"kernel": "magic"}, "HQCNN: kernel must be one of quantum, classical, frozen; got"),
        ({"n_wires": 100, "kernel_size": 10}, "less than a patch"),
    ],
)
def test_impossible_arrangements_are_refused(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        network(**options)


@pytest.mark.gpu
def test_same_logits_on_cuda() -> None:
    net, images = network().eval(), torch.rand(4, 1, 32, 32)
    expected = net(images)
    torch.testing.assert_close(net.cuda()(images.cuda()).cpu(), expected, atol=1e-4, rtol=1e-4)
