"""What the arguments of a network may be. Free of torch, for a quick check of a configuration.

What depends on the image's side or on other arguments stays with the network, which alone can tell.
"""

import sys
from collections.abc import Mapping
from typing import Any

from hqcnn_lab.limit import POSITIVE, SEED, Limit, Limits, between, check_limits, count, each, one_of

KERNELS = ("quantum", "classical", "frozen")
CLASSIFIERS = ("svm", "random_forest", "knn")
MAX_WIDTH = 65_536  # a layer of more would take minutes and gigabytes to make
MAX_LEVELS = 256  # as many local binary patterns as there are

_LIST = f"a list of positive whole numbers, each up to {MAX_WIDTH:,}"
_WIDTHS = each(count(1, MAX_WIDTH), _LIST)
_HIDDEN = each(count(1, MAX_WIDTH), _LIST, range(sys.maxsize))  # without any, the network is linear
_DROPOUT = between(0, 1)
_STAGES: Limits = {"widths": _WIDTHS, "dropout": _DROPOUT}
_WITH_KERNEL: Limits = {"kernel": one_of(KERNELS), **_STAGES}
_PIXELS: Limits = {"side": count(1)}

KERNEL: Limits = {"kernel": one_of(KERNELS)}

# By the name of the class.
OF_NETWORK: dict[str, Limits] = {
    "ANN": {"hidden": _HIDDEN, "dropout": _DROPOUT},
    "AlexNet": {"dropout": _DROPOUT},
    "CNNFeatures": {"classifier": one_of(CLASSIFIERS), **_STAGES, "seed": SEED},
    "CRNN": {"n_clusters": count(2), "n_levels": count(2, MAX_LEVELS), "hidden": count(1, MAX_WIDTH), **_STAGES},
    "Ensemble": {"voting": one_of(("soft", "hard"))},
    "HOGSVM": {"C": POSITIVE, "orientations": count(1), "cell": count(1)},
    "HQCNN": {**_WITH_KERNEL, "n_circuits": count(1), "kernel_size": count(1)},
    "HQCNNDense": _WITH_KERNEL,
    "KNN": {"n_neighbors": count(1), **_PIXELS},
    "Linear": {"C": POSITIVE, **_PIXELS},
    "Quanvolution": {"kernel_size": count(1), "n_filters": count(1), **_STAGES},
    "ResNet": {"depth": Limit(lambda x: x in (18, 50), "18 or 50")},
    "SeparableHQCNN": _WITH_KERNEL,
    "SimpleCNN": _STAGES,
    "TwoStage": {"seed": SEED},
    "UNetEncoder": _STAGES,
    "VGG16": {"dropout": _DROPOUT},
}


def check_arguments(network: str, given: Mapping[str, Any]) -> None:
    """Raise ValueError for the first argument of a network that is not within its limit.

    `given` is by name; at the start of a constructor, `locals()` is that.
    """
    check_limits(OF_NETWORK[network], given, f"{network}: ")
