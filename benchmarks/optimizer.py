"""Time one optimizer step: GVCO beside Adam, AdamW and SGD, on two hybrid networks' shapes and on 10⁷ parameters.

    python benchmarks/optimizer.py [--rounds 200] [--threads 1] [--device cuda]

The optimizers take turns within each round, so that whatever else the machine does falls on all of them. Gradients are
random and change from step to step; the step alone is timed. GVCO / AdamW foreach is the ratio to watch; the aims: 1.3
on the networks, 1.5 on 10⁷ parameters in 200 tensors.
"""

import argparse
import math
import statistics
import time

import torch

from hqcnn_lab.models import HQCNN
from hqcnn_lab.optim import GVCO

Shapes = list[tuple[int, ...]]


def convolutions(*kernels: tuple[int, int, int]) -> Shapes:
    """Kernels of (in, out, size) without bias, each followed by a batch norm."""
    return [shape for i, o, k in kernels for shape in ((o, i, k, k), (o,), (o,))]


PROTOTYPE = [
    *convolutions((4, 32, 3), (32, 64, 3), (64, 64, 3), (64, 96, 3), (96, 16, 1)),
    (16, 2, 4, 2),  # 16 circuits in one tensor
    (4, 1024),
    (4,),
]
HQCNN_SHAPES = [tuple(p.shape) for p in HQCNN(4, 64, {"n_wires": 4, "n_layers": 2}).parameters()]
MANY = [(224, 224)] * 200  # 10⁷ parameters
OPTIMIZERS = {
    "AdamW foreach": lambda p: torch.optim.AdamW(p, foreach=True),
    "Adam foreach": lambda p: torch.optim.Adam(p, foreach=True),
    "Adam plain": lambda p: torch.optim.Adam(p, foreach=False),
    "SGD momentum": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9),
    "GVCO": lambda p: GVCO(p),
    "GVCO, weight decay": lambda p: GVCO(p, weight_decay=1e-2),
    "GVCO foreach": lambda p: GVCO(p, foreach=True),
    "GVCO plain": lambda p: GVCO(p, foreach=False),
}


def step_times(shapes: Shapes, rounds: int, device: torch.device) -> dict[str, float]:
    """Median milliseconds of a step, by optimizer."""
    torch.manual_seed(0)
    gradients = [[torch.randn(shape, device=device) for shape in shapes] for _ in range(4)]
    nets = {name: [torch.nn.Parameter(torch.randn(shape, device=device)) for shape in shapes] for name in OPTIMIZERS}
    optimizers = {name: build(nets[name]) for name, build in OPTIMIZERS.items()}
    times: dict[str, list[float]] = {name: [] for name in OPTIMIZERS}
    for i in range(rounds + 10):
        for name, optimizer in optimizers.items():
            for parameter, gradient in zip(nets[name], gradients[i % 4], strict=True):
                parameter.grad = gradient
            _finish(device)
            start = time.perf_counter()
            optimizer.step()
            _finish(device)
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(all_times[10:]) for name, all_times in times.items()}


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", type=torch.device, default="cpu", help="cpu, cuda, … (default cpu)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    on_gpu = arguments.device.type == "cuda"
    where = torch.cuda.get_device_name(arguments.device) if on_gpu else f"CPU, {arguments.threads} thread(s)"
    for title, shapes in {"prototype": PROTOTYPE, "HQCNN": HQCNN_SHAPES, "many": MANY}.items():
        times = step_times(shapes, arguments.rounds, arguments.device)
        size = sum(map(math.prod, shapes))
        print(f"\n{title}: {len(shapes)} tensors, {size:,} parameters, {where}")
        for name, milliseconds in times.items():
            print(f"  {name:20s} {milliseconds:7.3f} ms   {milliseconds / times['AdamW foreach']:5.2f} × AdamW foreach")


if __name__ == "__main__":
    main()
