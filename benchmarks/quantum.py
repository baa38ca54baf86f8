"""Time the circuit engines and the quantum convolution: forward and backward, to inputs and weights.

The candidates of a row take turns in one run (interleaved), so that a busy machine slows them alike; medians are
printed. Turns also mean that each starts with the other's data in the cache: alone, small circuits are up to twice as
fast. One thread by default, for comparison with figures for one core.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from hqcnn_lab.quantum import QuantumConv2d, QuantumLayer

SIZES = [(4, 16384), (6, 4096), (8, 2048), (10, 512), (12, 64), (16, 8)]
QUICK_SIZES = [(4, 1024), (6, 256), (8, 128)]


def step(layer: nn.Module, x: Tensor, upstream: Tensor) -> Callable[[], list[Tensor]]:
    """A forward and backward pass, returning values and both gradients."""

    def run() -> list[Tensor]:
        layer.zero_grad()
        x.grad = None
        values = layer(x)
        values.backward(upstream)
        return [values.detach(), x.grad, *(parameter.grad for parameter in layer.parameters())]

    return run


def interleaved(steps: dict[str, Callable], seconds: float, device: torch.device) -> dict[str, float]:
    """Median milliseconds of each step, in turns, for about `seconds` in all and at least five rounds."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for run in steps.values():
        run()
    began = time.perf_counter()
    while time.perf_counter() - began < seconds or min(map(len, times.values())) < 5:
        for name, run in steps.items():
            if device.type == "cuda":
                torch.cuda.synchronize()
            start = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - start)
    return {name: 1e3 * statistics.median(values) for name, values in times.items()}


def engines(sizes: list[tuple[int, int]], seconds: float, device: torch.device) -> None:
    print(f"{'wires × batch':>14} {'folded ms':>11} {'torchquantum ms':>16} {'ratio':>7} {'max difference':>15}")
    for n_wires, batch in sizes:
        torch.manual_seed(0)
        x, upstream = (torch.randn(batch, n_wires, device=device) for _ in range(2))
        layers = {name: QuantumLayer(n_wires, 2, engine=name).to(device) for name in ("folded", "torchquantum")}
        layers["torchquantum"].load_state_dict(layers["folded"].state_dict())
        steps = {name: step(layer, x.clone().requires_grad_(), upstream / batch**0.5) for name, layer in layers.items()}
        ours, theirs = (run() for run in steps.values())
        difference = max((a - b).abs().max().item() for a, b in zip(ours, theirs, strict=True))
        ms = interleaved(steps, seconds, device)
        folded, reference = ms["folded"], ms["torchquantum"]
        ratio = reference / folded
        print(f"{n_wires:>6} × {batch:<5} {folded:>11.2f} {reference:>16.1f} {ratio:>7.1f} {difference:>15.1e}")


def convolutions(images: int, seconds: float, device: torch.device) -> None:
    x = torch.randn(images, 32, 8, 8, device=device)
    layers = {
        "QuantumConv2d(32, 2), 32 circuits": QuantumConv2d(32, 2),
        "nn.Conv2d(32, 128, 2, stride=2)": nn.Conv2d(32, 128, 2, stride=2),
        "nn.Conv2d(…, groups=32)": nn.Conv2d(32, 128, 2, stride=2, groups=32),
    }
    upstream = torch.randn(images, 128, 4, 4, device=device)
    steps = {name: step(layer.to(device), x.clone().requires_grad_(), upstream) for name, layer in layers.items()}
    print(f"\n{images}×32×8×8 → {images}×128×4×4{'ms':>36}")
    for name, ms in interleaved(steps, seconds, device).items():
        print(f"{name:>45} {ms:>14.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, a few seconds")
    parser.add_argument("--seconds", type=float, default=3.0, help="time spent on each row (default: 3)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, … (default: cpu)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    seconds = 0.3 if arguments.quick else arguments.seconds
    print(f"torch {torch.__version__}, {device}, {arguments.threads} thread(s), float32, 2 layers, forward + backward")
    engines(QUICK_SIZES if arguments.quick else SIZES, seconds, device)
    convolutions(16 if arguments.quick else 64, seconds, device)


if __name__ == "__main__":
    main()
