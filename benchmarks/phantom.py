"""How hard is the phantom? Test accuracy of a linear model, 1-nearest-neighbour and a small CNN, one row per seed.

    python benchmarks/phantom.py --seeds 0 1 2

The phantom is meant to be easy for a convolutional network and hard for anything that compares pixels: linear and 1-NN
under 80 %, the CNN over 95 %. The linear figure is the best test accuracy over its penalties, so it errs upwards.
"""

import argparse
import time

import torch
from torch import Tensor, nn
from torch.nn import functional

from hqcnn_lab.data.phantom.generate import generate
from hqcnn_lab.data.source.layout import CLASSES


def accuracy(predicted: Tensor, label: Tensor) -> float:
    return (predicted == label).float().mean().item()


def linear(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], penalties: tuple[float, ...]) -> float:
    """The best of several L2-penalised softmax regressions on standardised pixels, each run to convergence."""
    mean, spread = train[0].flatten(1).mean(0), train[0].flatten(1).std(0) + 1e-3
    x, x_test = ((images.flatten(1) - mean) / spread for images in (train[0], test[0]))
    best = 0.0
    for penalty in penalties:
        layer = nn.Linear(x.shape[1], len(CLASSES))
        nn.init.zeros_(layer.weight)
        optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=100, line_search_fn="strong_wolfe")

        def closure(layer=layer, optimizer=optimizer, penalty=penalty):
            optimizer.zero_grad()
            loss = functional.cross_entropy(layer(x), train[1]) + penalty * layer.weight.square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        best = max(best, accuracy(layer(x_test).argmax(1), test[1]))
    return best


def nearest_neighbour(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> float:
    return accuracy(train[1][torch.cdist(test[0].flatten(1), train[0].flatten(1)).argmin(1)], test[1])


def cnn(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], epochs: int) -> float:
    """Three convolution blocks, trained with flips and shifts under a one-cycle Adam; accuracy after the last epoch."""
    blocks = [
        layer
        for i, o, kernel, stride in ((1, 32, 5, 2), (32, 64, 3, 1), (64, 96, 3, 1))
        for layer in (
            nn.Conv2d(i, o, kernel, stride, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(o),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
    ]
    dense = (nn.Flatten(), nn.Dropout(0.3), nn.Linear(96 * 16, 96), nn.ReLU(), nn.Linear(96, len(CLASSES)))
    network = nn.Sequential(*blocks, *dense).to(memory_format=torch.channels_last)
    batch = 48
    optimizer = torch.optim.Adam(network.parameters())
    steps = epochs * (len(train[1]) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in range(epochs):
        for index in torch.randperm(len(train[1]))[: len(train[1]) // batch * batch].split(batch):
            images = torch.where(torch.rand(batch, 1, 1) < 0.5, train[0][index].flip(-1), train[0][index])
            images = torch.roll(images, tuple(torch.randint(-4, 5, (2,)).tolist()), (1, 2))
            loss = functional.cross_entropy(network(images[:, None]), train[1][index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()
    with torch.no_grad():
        return accuracy(torch.cat([network(part[:, None]) for part in test[0].split(200)]).argmax(1), test[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--train", type=int, default=2400)
    parser.add_argument("--test", type=int, default=800)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--penalties", type=float, nargs="+", default=[1e-3, 1e-2, 1e-1])
    arguments = parser.parse_args()
    print("seed  images/s  linear    1-NN     CNN  CNN seconds", flush=True)
    for seed in arguments.seeds:
        torch.manual_seed(seed)
        start = time.perf_counter()
        train, test = (
            tuple(map(torch.from_numpy, generate(count, 1000 * seed + half)))
            for half, count in enumerate((arguments.train, arguments.test))
        )
        rate = (arguments.train + arguments.test) / (time.perf_counter() - start)
        row = f"{seed:4d}  {rate:8.0f}  {linear(train, test, tuple(arguments.penalties)):6.1%}"
        row += f"  {nearest_neighbour(train, test):6.1%}"
        start = time.perf_counter()
        score = cnn(train, test, arguments.epochs)
        print(f"{row}  {score:6.1%}  {time.perf_counter() - start:11.0f}", flush=True)


if __name__ == "__main__":
    main()
