"""The engines find the forward pass's intermediates in shared memory, or find them again: never another's."""

import threading

import pytest
import torch

from hqcnn_lab.quantum import QuantumLayer


def _steps(engine: str, n_samples: list[int], together: bool) -> list[torch.Tensor]:
    """Gradients of one layer on several batches, each backward pass at once, or all after all forward passes."""
    torch.manual_seed(0)
    layer = QuantumLayer(4, 2, engine=engine)
    batches = [torch.randn(n, 4, requires_grad=True) for n in n_samples]
    gradients = []
    if together:
        for loss in [(layer(batch) ** 2).sum() for batch in batches][::-1]:
            loss.backward()
    else:
        for batch in batches[::-1]:
            (layer(batch) ** 2).sum().backward()
    gradients += [batch.grad for batch in batches]
    return [*gradients, layer.weights.grad]


@pytest.mark.parametrize("engine", ["trig", "statevector"])
@pytest.mark.parametrize("n_samples", [[5, 5], [7, 300], [300, 7, 40]])
def test_a_backward_pass_after_other_forward_passes_is_its_own(engine: str, n_samples: list[int]) -> None:
    for ours, alone in zip(_steps(engine, n_samples, True), _steps(engine, n_samples, False), strict=True):
        torch.testing.assert_close(ours, alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("engine", ["trig", "statevector"])
def test_a_second_backward_pass_through_a_kept_graph_is_the_first(engine: str) -> None:
    torch.manual_seed(0)
    layer, angles = QuantumLayer(4, 2, engine=engine), torch.randn(50, 4, requires_grad=True)
    loss = (layer(angles) ** 2).sum()
    first = torch.autograd.grad(loss, (angles, layer.weights), retain_graph=True)
    second = torch.autograd.grad(loss, (angles, layer.weights))
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


@pytest.mark.parametrize("engine", ["trig", "statevector"])
def test_a_backward_pass_in_another_thread_is_its_own(engine: str) -> None:
    torch.manual_seed(0)
    layer, angles = QuantumLayer(4, 2, engine=engine), torch.randn(50, 4, requires_grad=True)
    expected = torch.autograd.grad((layer(angles) ** 2).sum(), angles)[0]
    loss, gradients = (layer(angles) ** 2).sum(), []
    thread = threading.Thread(target=lambda: gradients.append(torch.autograd.grad(loss, angles)[0]))
    thread.start()
    thread.join()
    torch.testing.assert_close(gradients[0], expected, rtol=0, atol=1e-6)
