"""The contract of QuantumLayer and QuantumConv2d: shapes, precision, serialization, errors."""

import copy
import io
import pickle

import numpy as np
import pytest
import state_vector
import torch

from hqcnn_lab.quantum import QuantumConv2d, QuantumLayer

ENGINES = ["folded", "torchquantum"]
MAKERS = {
    "layer": (lambda **kw: QuantumLayer(3, 2, **kw), (5, 3)),
    "conv": (lambda **kw: QuantumConv2d(2, 2, **kw), (3, 2, 4, 6)),
}


@pytest.fixture(params=MAKERS)
def case(request):
    return MAKERS[request.param]


def by_hand(images, layer):
    """The convolution as a loop over groups and patches, each patch through the numpy circuit."""
    k, s, p = layer.kernel_size, layer.stride, layer.padding
    per_group = layer.in_channels // layer.groups
    padded = np.pad(images, ((0, 0), (0, 0), (p, p), (p, p)))
    rows, columns = ((size - k) // s + 1 for size in padded.shape[2:])
    out = np.empty((len(images), layer.out_channels, rows, columns))
    for b, g, r, c in np.ndindex(len(images), layer.groups, rows, columns):
        block = padded[b, g * per_group : (g + 1) * per_group, r * s : r * s + k, c * s : c * s + k]
        weights = layer.weights[g].detach().numpy()
        out[b, g * layer.n_wires : (g + 1) * layer.n_wires, r, c] = state_vector.hardware_efficient(
            block.reshape(-1), weights
        )
    return out


@pytest.mark.parametrize(
    ("kwargs", "size"),
    [
        ({"in_channels": 3}, (4, 6)),
        ({"in_channels": 2}, (5, 7)),  # stride leaves a row and a column over
        ({"in_channels": 2, "groups": 1, "kernel_size": 1, "stride": 1}, (3, 2)),
        ({"in_channels": 2, "groups": 1, "n_layers": 1}, (4, 4)),
        ({"in_channels": 4, "groups": 2, "kernel_size": 1, "stride": 2}, (5, 3)),
        ({"in_channels": 2, "stride": 1}, (3, 4)),
        ({"in_channels": 2, "padding": 1}, (4, 5)),
        ({"in_channels": 1, "stride": 3, "padding": 1, "n_layers": 3}, (5, 6)),
        ({"in_channels": 1, "kernel_size": 2, "stride": 2, "padding": 1}, (1, 1)),
    ],
)
def test_convolution_is_a_loop_over_patches(kwargs, size):
    torch.manual_seed(0)
    layer = QuantumConv2d(**kwargs).double()
    torch.nn.init.normal_(layer.weights)
    images = torch.randn(2, layer.in_channels, *size).double()
    expected = by_hand(images.numpy(), layer)
    for layout in (torch.contiguous_format, torch.channels_last):
        values = layer(images.to(memory_format=layout)).detach().numpy()
        assert values.shape == expected.shape
        assert np.abs(values - expected).max() <= 1e-12
    reference = QuantumConv2d(**kwargs, engine="torchquantum")
    reference.load_state_dict(layer.state_dict())
    assert np.abs(reference(images.float()).detach().numpy() - expected).max() <= 1e-5


@pytest.mark.parametrize("kwargs", [{}, {"stride": 1, "padding": 1}, {"groups": 1, "n_layers": 1}])
def test_convolution_gradcheck(kwargs):
    torch.manual_seed(0)
    layer = QuantumConv2d(2, 2, **kwargs).double()
    images = torch.randn(1, 2, 2, 3).double().requires_grad_()

    def run(images, weights):
        return torch.func.functional_call(layer, {"weights": weights}, (images,))

    assert torch.autograd.gradcheck(run, (images, layer.weights))


def test_each_channel_group_has_weights_of_its_own():
    layer = QuantumConv2d(3, 2)
    assert layer.weights.shape == (3, 2, 4, 2)
    assert layer.out_channels == 12
    values = layer(torch.randn(2, 3, 4, 4))
    values[:, 4:8].sum().backward()
    touched = layer.weights.grad.flatten(1).abs().sum(1) > 0
    assert touched.tolist() == [False, True, False]


@pytest.mark.parametrize("engine", ENGINES)
def test_leading_dimensions_are_folded_in_and_out(engine):
    layer, conv = QuantumLayer(3, 2, engine=engine), QuantumConv2d(2, 2, engine=engine)
    x, images = torch.randn(2, 5, 3), torch.randn(2, 5, 2, 4, 4)
    torch.testing.assert_close(layer(x)[1, 3], layer(x[1, 3]), atol=5e-6, rtol=0)
    torch.testing.assert_close(conv(images)[1, 3], conv(images[1, 3]), atol=5e-6, rtol=0)
    assert layer(x).shape == (2, 5, 3)
    assert conv(images).shape == (2, 5, 8, 2, 2)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_ragged_last_batch_gives_what_the_whole_one_gave(case, engine):
    make, shape = case
    layer, x = make(engine=engine), torch.randn(65, *shape[1:])
    parts = torch.cat([layer(part) for part in x.split(32)])
    torch.testing.assert_close(parts, layer(x), atol=5e-6, rtol=0)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_empty_batch_goes_through_and_back(case, engine):
    make, shape = case
    layer, x = make(engine=engine), torch.zeros(0, *shape[1:], requires_grad=True)
    values = layer(x)
    values.sum().backward()
    assert values.shape == layer(torch.zeros(1, *shape[1:]))[:0].shape
    assert x.grad.shape == x.shape
    assert (layer.weights.grad == 0).all()


def test_an_empty_batch_through_overlapping_patches():
    assert QuantumConv2d(2, 2, stride=1)(torch.zeros(0, 2, 3, 3)).shape == (0, 8, 2, 2)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_leaves_the_circuit_in_float32(case, engine, dtype):
    make, shape = case
    layer, x = make(engine=engine), torch.randn(shape).to(dtype)
    expected = layer(x.float())
    with torch.autocast("cpu", dtype=dtype):
        values = layer(x)
        assert torch.equal(layer(x.float()), expected)
    assert values.dtype == torch.float32
    assert torch.equal(values, expected)
    assert layer(x).dtype == torch.float32  # without autocast too
    values = layer.to(dtype)(x)  # weights in half precision are upcast as well
    assert values.dtype == torch.float32
    values.sum().backward()
    assert layer.weights.grad.dtype == dtype


def test_float64_stays_float64(case):
    make, shape = case
    layer = make()
    assert layer(torch.randn(shape).double()).dtype == torch.float64
    assert layer.double()(torch.randn(shape)).dtype == torch.float64


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("after_a_step", [False, True])
def test_copies_and_files_give_the_same_layer(case, engine, after_a_step):
    make, shape = case
    layer, x = make(engine=engine), torch.randn(shape)
    if after_a_step:
        layer(x).sum().backward()
    assert list(layer.state_dict()) == ["weights"]
    assert [name for name, _ in layer.named_buffers()] == []
    expected = layer(x)
    fresh = make(engine=engine)
    assert not torch.equal(fresh(x), expected)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), fresh):
        assert torch.equal(other(x), expected)


def test_weights_come_from_the_default_generator():
    torch.manual_seed(7)
    first = QuantumConv2d(64, 2, n_layers=8)
    torch.manual_seed(7)
    second = QuantumConv2d(64, 2, n_layers=8)
    assert torch.equal(first.weights, second.weights)
    assert first.weights.mean().abs() < 0.02  # 4096 draws
    assert first.weights.std().item() == pytest.approx(0.3, abs=0.02)
    second.reset_parameters()
    assert not torch.equal(first.weights, second.weights)


def test_repr_says_what_runs():
    assert repr(QuantumLayer(3, 2)) == (
        "QuantumLayer(n_wires=3, n_layers=2, ansatz=hardware_efficient, engine=auto (folded))"
    )
    assert "QuantumConv2d(2, 8, kernel_size=2, stride=2, padding=0, groups=2, n_wires=4" in repr(QuantumConv2d(2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: QuantumLayer(0, 1), "n_wires must be a whole number of at least 1, got 0"),
        (lambda: QuantumLayer(2.0, 1), "n_wires must be a whole number of at least 1, got 2.0"),
        (lambda: QuantumLayer(True, 1), "n_wires must be a whole number of at least 1, got True"),
        (lambda: QuantumLayer(2, 0), "n_layers must be a whole number of at least 1, got 0"),
        (lambda: QuantumLayer(2, 1, ansatz="nope"), "ansatz must be one of hardware_efficient; got 'nope'"),
        (lambda: QuantumLayer(2, 1, engine="nope"), "engine must be one of auto, folded, torchquantum; got 'nope'"),
        (lambda: QuantumLayer(17, 1), "n_wires = 17 wires, but engine='auto' takes at most 16: use several smaller"),
        (lambda: QuantumLayer(17, 1, engine="torchquantum"), "engine='torchquantum' takes at most 16"),
        (lambda: QuantumConv2d(0), "in_channels must be a whole number of at least 1, got 0"),
        (lambda: QuantumConv2d(2, 0), "kernel_size must be a whole number of at least 1, got 0"),
        (lambda: QuantumConv2d(2, (2, 2)), r"kernel_size must be a whole number of at least 1, got \(2, 2\)"),
        (lambda: QuantumConv2d(2, stride=0), "stride must be a whole number of at least 1, got 0"),
        (lambda: QuantumConv2d(2, padding=-1), "padding must be a whole number of at least 0, got -1"),
        (lambda: QuantumConv2d(2, groups=0), "groups must be a whole number of at least 1, got 0"),
        (lambda: QuantumConv2d(4, groups=3), "groups=3 must divide in_channels=4"),
        (lambda: QuantumConv2d(5, groups=1), "in_channels/groups · kernel_size² = 20 wires, but engine='auto'"),
        (lambda: QuantumLayer(3, 1)(torch.zeros(2, 4)), r"n_wires=3, got shape \(2, 4\)"),
        (lambda: QuantumLayer(3, 1)(torch.zeros(())), r"n_wires=3, got shape \(\)"),
        (lambda: QuantumConv2d(3)(torch.zeros(2, 4, 8, 8)), r"in_channels=3, H, W\], got shape \(2, 4, 8, 8\)"),
        (lambda: QuantumConv2d(3)(torch.zeros(8, 8)), r"in_channels=3, H, W\], got shape \(8, 8\)"),
        (lambda: QuantumConv2d(1, 2)(torch.zeros(1, 1, 1, 5)), "kernel_size=2 does not fit input 1×5 with padding=0"),
    ],
)
def test_errors_are_one_line_and_name_the_argument(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_input_that_is_not_floating_point_is_refused(case, dtype):
    make, shape = case
    with pytest.raises(TypeError, match=f"angles must be floating point, got {dtype}"):
        make()(torch.zeros(shape, dtype=dtype))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@pytest.mark.parametrize("engine", ENGINES)
def test_cuda_gives_what_the_cpu_gives(case, engine):
    make, shape = case
    layer, x = make(engine=engine), torch.randn(shape)
    other = copy.deepcopy(layer).cuda()
    on_cpu, on_cuda = x.clone().requires_grad_(), x.cuda().requires_grad_()
    layer(on_cpu).square().sum().backward()
    other(on_cuda).square().sum().backward()
    torch.testing.assert_close(other(on_cuda).cpu(), layer(on_cpu), atol=1e-5, rtol=0)
    torch.testing.assert_close(on_cuda.grad.cpu(), on_cpu.grad, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(other.weights.grad.cpu(), layer.weights.grad, atol=1e-4, rtol=1e-4)
