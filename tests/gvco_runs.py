"""Streams of gradients, and GVCO run over them."""

import math

import torch

from hqcnn_lab.optim import GVCO


def gradient_stream(shapes, steps, seed, noise=1.0, dtype=torch.float64):
    """A drifting signal, noise of changing size, and now and then an outlier for the guard."""
    generator = torch.Generator().manual_seed(seed)
    signals = [torch.randn(s, generator=generator, dtype=dtype) for s in shapes]
    for t in range(steps):
        size = noise * (1 + t % 3) * (25 if t % 13 == 12 else 1)
        yield [math.cos(t / 9) * s + size * torch.randn(s.shape, generator=generator, dtype=dtype) for s in signals]


def run(shapes, stream, dtype=torch.float64, **hyper):
    generator = torch.Generator().manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(s, generator=generator, dtype=dtype)) for s in shapes]
    optimizer = GVCO(params, **hyper)
    for gradients in stream:
        for parameter, gradient in zip(params, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
    return params, optimizer
