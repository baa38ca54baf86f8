"""The contract of QuantumLayer and QuantumConv2d: shapes, precision, serialization, errors."""

import copy
import io
import pickle

import numpy as np
import pytest
import state_vector
import torch

from hqcnn_lab.quantum import Noise, QuantumConv2d, QuantumLayer, QuantumPool2d
from hqcnn_lab.quantum.limits import MAX_WIRES, check_circuit, choose_engine

ENGINES = ["trig", "statevector", "folded", "torchquantum"]
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


@pytest.mark.slow
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


@pytest.mark.slow
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
    assert repr(QuantumLayer(3, 2)) == ("QuantumLayer(n_wires=3, n_layers=2, ansatz=hardware_efficient, engine=auto)")
    assert "QuantumConv2d(2, 8, kernel_size=2, stride=2, padding=0, groups=2, n_wires=4" in repr(QuantumConv2d(2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: QuantumLayer(0, 1), "n_wires must be a whole number of at least 1, got 0"),
        (lambda: QuantumLayer(2.0, 1), "n_wires must be a whole number of at least 1, got 2.0"),
        (lambda: QuantumLayer(True, 1), "n_wires must be a whole number of at least 1, got True"),
        (lambda: QuantumLayer(2, 0), "n_layers must be at least 1 and at most 1,000; got 0"),
        (lambda: QuantumLayer(2, 1, ansatz="nope"), "ansatz must be one of hardware_efficient, .*; got 'nope'"),
        (lambda: QuantumLayer(2, 1, engine="nope"), "engine must be one of auto, trig, .*; got 'nope'"),
        (lambda: QuantumLayer(25, 1), "n_wires = 25 wires, but engine='auto' takes at most 24: use several smaller"),
        (lambda: QuantumLayer(9, 1, engine="trig"), "engine='trig' takes at most 8: use engine='auto'"),
        (lambda: QuantumLayer(17, 1, engine="torchquantum"), "engine='torchquantum' takes at most 16"),
        (lambda: QuantumConv2d(0), "in_channels must be a whole number of at least 1, got 0"),
        (lambda: QuantumConv2d(2, 0), "kernel_size must be a whole number of at least 1, got 0"),
        (lambda: QuantumConv2d(2, (2, 2)), r"kernel_size must be a whole number of at least 1, got \(2, 2\)"),
        (lambda: QuantumConv2d(2, stride=0), "stride must be a whole number of at least 1, got 0"),
        (lambda: QuantumConv2d(2, padding=-1), "padding must be a whole number of at least 0, got -1"),
        (lambda: QuantumConv2d(2, groups=0), "groups must be a whole number of at least 1, got 0"),
        (lambda: QuantumConv2d(4, groups=3), "groups=3 must divide in_channels=4"),
        (lambda: QuantumConv2d(7, groups=1), "in_channels/groups · kernel_size² = 28 wires, but engine='auto'"),
        (lambda: QuantumLayer(3, 1, encoder="nope"), "encoder must be one of angle_y, .*; got 'nope'"),
        (lambda: QuantumLayer(3, 1, readout="nope"), "readout must be one of z, .*; got 'nope'"),
        (lambda: QuantumLayer(3, 1, encoder="reuploading", engine="trig"), "use engine='statevector'"),
        (lambda: QuantumLayer(3, 1, encoder="reuploading", engine="folded"), "use engine='statevector'"),
        (lambda: QuantumLayer(3, 1, encoder="amplitude", engine="trig"), "use engine='statevector' or 'folded'"),
        (lambda: QuantumLayer(1, 1, readout="zz"), "readout='zz' needs two measured wires"),
        (lambda: QuantumLayer(11, 1, readout="probabilities"), "at most 10 wires: use readout='z' or 'zz'"),
        (lambda: QuantumLayer(4, 3, "pooling"), "4 wires take n_layers of at most 2, got 3"),
        (lambda: QuantumLayer(3, 1, shots=0), "shots must be at least 1, or None; got 0"),
        (lambda: QuantumLayer(3, 1, shots=9, shot_gradient="nope"), "shot_gradient must be one of"),
        (lambda: QuantumLayer(3, 1, seed=-1), "seed must be at least 0 and below 2³², got -1"),
        (lambda: QuantumLayer(3, 1, noise={"bit_flip": 2}), "noise.bit_flip must be between 0 and 1, got 2"),
        (lambda: QuantumLayer(3, 1, noise=Noise(0.1), engine="folded"), "use engine='auto', or noise.method="),
        (lambda: QuantumLayer(9, 1, noise=Noise(amplitude_damping=0.1)), "lower n_wires, or set amplitude_damping=0"),
        (lambda: QuantumPool2d(3, 1), "kernel_size must be a whole number of at least 2, got 1"),
        (lambda: QuantumPool2d(3, encoder="amplitude"), "use an angle encoder"),
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


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_anomaly_mode_names_the_layer_that_got_angles_that_are_not_finite(case, bad):
    make, shape = case
    layer, x = make(), torch.zeros(shape)
    x.view(-1)[0] = bad
    assert torch.isnan(layer(x)).any()  # otherwise the check's cost is spared
    with (
        torch.autograd.set_detect_anomaly(True),
        pytest.raises(ValueError, match=r"1 of .* not finite on entering Quantum"),
    ):
        layer(x)


def test_a_zero_vector_of_amplitudes_is_the_ground_state_and_gets_no_gradient():
    layer = QuantumLayer(3, 2, encoder="amplitude")
    x = torch.randn(4, 8)
    x[1] = 0
    ground = torch.eye(8)[:1]
    values = layer(x.requires_grad_())
    values.sum().backward()
    torch.testing.assert_close(values[1], layer(ground)[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(layer(7 * x), values, atol=1e-6, rtol=0)  # normalized
    assert (x.grad[1] == 0).all()
    assert x.grad.isfinite().all()
    assert x.grad[0].abs().max() > 1e-3


def test_amplitudes_in_a_convolution_are_filled_up_to_a_power_of_two():
    conv = QuantumConv2d(3, 2, groups=1, encoder="amplitude").double()  # 12 values: 4 wires, 16 amplitudes
    assert (conv.n_wires, conv.out_channels) == (4, 4)
    images = torch.randn(2, 3, 2, 2).double()
    layer = QuantumLayer(4, 2, encoder="amplitude").double()
    layer.load_state_dict({"weights": conv.weights[0]})
    padded = torch.cat([images.flatten(1), torch.zeros(2, 4).double()], 1)
    torch.testing.assert_close(conv(images).flatten(1), layer(padded), atol=1e-12, rtol=0)


@pytest.mark.parametrize("kernel_size", [2, 3])
def test_pooling_reads_one_wire_of_each_channel(kernel_size):
    pool = QuantumPool2d(3, kernel_size).double()
    layer = QuantumLayer(kernel_size**2, pool.n_layers, "pooling").double()
    images = torch.randn(2, 3, 2 * kernel_size, kernel_size).double()
    values = pool(images)
    assert values.shape == (2, 3, 2, 1)
    layer.load_state_dict({"weights": pool.weights[1]})
    patch = images[1, 1, kernel_size:].flatten()
    assert layer(patch).shape == (1,)
    torch.testing.assert_close(values[1, 1, 1], layer(patch), atol=1e-12, rtol=0)


def test_random_weights_are_frozen_and_come_from_the_seed_alone():
    torch.manual_seed(0)
    first, other = (QuantumConv2d(2, 2, ansatz="random", seed=seed) for seed in (5, 6))
    torch.manual_seed(1)
    again = QuantumConv2d(2, 2, ansatz="random", seed=5)
    assert torch.equal(first.weights, again.weights)
    assert first.circuit == again.circuit
    assert not torch.equal(first.weights, other.weights)
    assert not first.weights.requires_grad
    x = torch.randn(1, 2, 4, 4, requires_grad=True)
    first(x).sum().backward()
    assert x.grad.abs().max() > 1e-3
    assert first.weights.grad is None


def test_noise_that_is_zero_is_the_exact_engine_bit_for_bit(case):
    make, shape = case
    layer, x = make(), torch.randn(shape)
    quiet = make(noise={"depolarizing": 0.0, "method": "trajectories"})
    quiet.load_state_dict(layer.state_dict())
    assert torch.equal(quiet(x), layer(x))
    loud = make(noise=Noise(depolarizing=0.1))
    loud.load_state_dict(layer.state_dict())
    assert (loud(x) - layer(x)).abs().max() > 1e-2


def test_trajectories_and_shots_follow_torchs_seed():
    layer = QuantumLayer(3, 2, noise={"bit_flip": 0.2, "method": "trajectories"}, shots=50)
    x = torch.randn(4, 3)
    torch.manual_seed(3)
    first = layer(x)
    assert not torch.equal(layer(x), first)
    torch.manual_seed(3)
    assert torch.equal(layer(x), first)


def test_auto_takes_the_polynomial_for_many_samples_and_the_state_vector_otherwise():
    assert choose_engine("auto", 4, "angle_y", 4, 16384) == "trig"
    assert choose_engine("auto", 4, "angle_x", 4, 16) == "statevector"
    assert choose_engine("auto", 4, "reuploading", 4, 16384) == "statevector"
    assert choose_engine("auto", 4, "amplitude", 4, 16384) == "statevector"
    assert choose_engine("auto", 12, "angle_y", 12, 16384) == "statevector"
    assert choose_engine("folded", 4, "angle_y", 4, 16384) == "folded"
    assert choose_engine("auto", 8, "angle_y", 8, 16384) == "statevector"  # 8 · 3⁸ coefficients are too many,
    assert choose_engine("auto", 8, "angle_y", 1, 16384) == "trig"  # 3⁸ are not
    for engine, limit in MAX_WIRES.items():
        check_circuit(limit, 1, engine=engine)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_input_that_is_not_floating_point_is_refused(case, dtype):
    make, shape = case
    with pytest.raises(TypeError, match=f"angles must be floating point, got {dtype}"):
        make()(torch.zeros(shape, dtype=dtype))


@pytest.mark.gpu
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


@pytest.mark.slow
def test_a_compiled_network_around_a_layer_gives_what_the_layer_gives():
    """The engines reuse memory, which a compiler cannot trace: it used to crash there."""
    layer = QuantumLayer(3, 2)
    network = torch.nn.Sequential(torch.nn.Linear(3, 3), layer)
    x = torch.randn(60, 3)
    expected = network(x)
    values = torch.compile(network, backend="eager")(x)
    values.sum().backward()
    assert torch.equal(values, expected)
    assert layer.weights.grad.abs().sum() > 0


def test_readout_error_alone_leaves_the_choice_of_engine_and_any_number_of_wires():
    layer = QuantumLayer(10, 1, engine="statevector", noise=Noise(readout_error=0.1))
    exact = QuantumLayer(10, 1)
    exact.load_state_dict(layer.state_dict())
    x = torch.randn(2, 10)
    torch.testing.assert_close(layer(x), 0.8 * exact(x), atol=1e-6, rtol=0)


def test_noise_that_is_no_noise_is_refused_in_one_line():
    for noise, name in (({"depolarising": 0.1}, "depolarising"), (0.1, "float")):
        with pytest.raises(ValueError, match=f"noise takes depolarizing, .*; got {name}"):
            QuantumLayer(2, 1, noise=noise)
