"""A layer under torch.func, export, tracing and forward mode: the same figures, or one line that names an engine."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

from hqcnn_lab.quantum import QuantumConv2d, QuantumLayer
from hqcnn_lab.quantum.engine import density, evolve, gates, trig

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


def layer(engine: str, **options: object) -> QuantumLayer:
    torch.manual_seed(0)
    return QuantumLayer(3, 1, engine=engine, **options)


def loss(net: nn.Module, weights: Tensor, x: Tensor) -> Tensor:
    return functional_call(net, {"weights": weights}, (x,)).pow(3).sum()


def numeric(net: nn.Module, x: Tensor) -> Tensor:
    """Jacobian [outputs, inputs] of one sample by central differences."""
    steps = 1e-2 * torch.eye(len(x))
    with torch.no_grad():
        return torch.stack([(net(x + step) - net(x - step)) / 2e-2 for step in steps], 1)


def weights_gradient(net: nn.Module, x: Tensor) -> Tensor:
    """By an engine that nothing is done to."""
    plain = layer("statevector")
    plain.load_state_dict(net.state_dict())
    return torch.autograd.grad(loss(plain, plain.weights, x), plain.weights)[0]


def each_sample(net: nn.Module) -> tuple[Tensor, Tensor]:
    transformed = vmap(grad(lambda w, x: loss(net, w, x)), in_dims=(None, 0))(net.weights.detach(), X)
    return transformed, torch.stack([weights_gradient(net, x) for x in X])


def forward_mode(net: nn.Module) -> tuple[Tensor, Tensor]:
    with forward_ad.dual_level():
        slope = forward_ad.unpack_dual(net(forward_ad.make_dual(X[0], torch.ones(3)))).tangent
    return slope, numeric(net, X[0]).sum(1)


def traced(net: nn.Module) -> tuple[Tensor, Tensor]:
    more = torch.randn(500, 3)  # trig's batch, for "auto"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(net, X)(more), net(more)


def exported(net: nn.Module) -> tuple[Tensor, Tensor]:
    return torch.export.export(net, (X,)).module()(X), net(X)


TRANSFORMS: dict[str, Callable[[nn.Module], tuple[Tensor, Tensor]]] = {
    "grad": lambda net: (grad(lambda w: loss(net, w, X))(net.weights.detach()), weights_gradient(net, X)),
    "vmap": lambda net: (vmap(net)(X), net(X)),
    "vmap of weights": lambda net: (
        vmap(lambda w: functional_call(net, {"weights": w}, (X,)))(torch.stack([net.weights.detach()] * 2))[1],
        net(X),
    ),
    "each sample's gradient": each_sample,
    "jacrev": lambda net: (jacrev(net)(X[0]), numeric(net, X[0])),
    "jacfwd": lambda net: (jacfwd(net)(X[0]), numeric(net, X[0])),
    "hessian": lambda net: (hessian(lambda x: net(x)[0])(X[0]), numeric(jacrev(lambda x: net(x)[0]), X[0])),
    "jvp": lambda net: (jvp(net, (X[0],), (torch.ones(3),))[1], numeric(net, X[0]).sum(1)),
    "vjp": lambda net: (vjp(net, X[0])[1](torch.ones(3))[0], numeric(net, X[0]).sum(0)),
    "forward mode": forward_mode,
    "jit.trace": traced,
    "export": exported,
}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["auto", "trig", "statevector", "folded", "torchquantum"])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_same_figures_or_one_line(name, engine):
    # Regression: tracebacks from inside torch, which speak of setup_context and of out=.
    net = layer(engine)
    followed = name in ("export", "jit.trace")
    refused = {"trig": True, "statevector": name != "jit.trace", "torchquantum": followed}
    if refused.get(engine):
        with pytest.raises(RuntimeError, match=rf"^engine='{engine}' does not go with \S+.*: use engine='folded'$"):
            TRANSFORMS[name](net)
    else:
        transformed, expected = TRANSFORMS[name](net)
        torch.testing.assert_close(transformed, expected, atol=2e-3, rtol=0)


def test_where_folded_cannot_run_another_is_named():
    with pytest.raises(RuntimeError, match=r"engine='auto' does not go with torch\.func: use engine='torchquantum'"):
        vmap(layer("auto", encoder="reuploading"))(X)
    with pytest.raises(RuntimeError, match=r"engine='auto' does not go with torch\.export: nor does any other engine"):
        exported(layer("auto", encoder="reuploading"))
    vmap(layer("torchquantum", encoder="reuploading"))(X)
    shifted = layer("auto", shots=10, shot_gradient="parameter_shift")
    with pytest.raises(RuntimeError, match=r"does not go with torch\.func: use 'straight_through'"):
        vmap(shifted, randomness="different")(X)


def test_trajectories_are_not_drawn_once_for_all():
    net = layer("auto", noise={"depolarizing": 0.1, "method": "trajectories", "n_trajectories": 2})
    grad(lambda w: loss(net, w, X))(net.weights.detach())
    for name, what in {"vmap": "vmap", "export": r"torch\.export", "jit.trace": r"torch\.jit\.trace"}.items():
        with pytest.raises(
            RuntimeError, match=rf"^noise\.method='trajectories' does not go with {what}.*: use 'density'$"
        ):
            TRANSFORMS[name](net)


def test_density_matrices_and_convolutions():
    noisy = layer("auto", noise={"depolarizing": 0.01})
    torch.testing.assert_close(vmap(noisy)(X.repeat(20, 1)), noisy(X.repeat(20, 1)))
    convolution = QuantumConv2d(2)
    images = torch.randn(3, 2, 4, 4)
    torch.testing.assert_close(vmap(convolution)(images), convolution(images))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["export", "jit.trace", "grad", "vmap"])
@pytest.mark.parametrize("options", [{}, {"readout": "probabilities"}, {"noise": {"depolarizing": 0.1}}], ids=str)
def test_nothing_that_a_transform_made_is_kept(options, name):
    # Regression: after an export as the first thing a process did, layers gave stand-ins instead of tensors.
    for module in (density, evolve, gates, trig):
        for item in vars(module).values():
            if hasattr(item, "cache_clear"):
                item.cache_clear()
    net = layer("auto", **options)
    if name in ("export", "jit.trace"):
        TRANSFORMS[name](net)
    elif name == "vmap":
        vmap(net)(X)
    else:
        grad(lambda w: loss(net, w, X))(net.weights.detach())
    values = net(X)
    values.sum().backward()
    assert type(values.data) is type(net.weights.grad) is Tensor
    assert values.isfinite().all()
