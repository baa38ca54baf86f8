"""What the arguments of a data set may be. Free of NumPy and torch, for a quick check of a configuration.

What depends on the images, such as how many patients a split needs, stays with what cuts them.
"""

import sys

from hqcnn_lab.data.source.layout import CLASSES
from hqcnn_lab.limit import (
    PROBABILITY,
    SHARE,
    Limit,
    Limits,
    at_least,
    between,
    count,
    each,
    is_whole,
    one_of,
)

SPLITS = ("official", "random", "grouped", "patient", "kfold")
BALANCES = ("sampler", "loss")
MIN_SIDE = 16  # of an image, in pixels
MAX_SLICES = 1000  # of a series that is written

_COLUMN = Limit(lambda x: isinstance(x, str), "the name of a column; put a number in quotes").or_left_out()
_SIDE = Limit(lambda x: is_whole(x) and x >= MIN_SIDE and x % 8 == 0, f"a multiple of 8, at least {MIN_SIDE}")

# Of every DataModule; each takes some of them.
DATASET: Limits = {
    "batch_size": count(1),
    "balance": one_of(BALANCES).or_left_out(),
    "image_size": Limit(
        lambda x: is_whole(x) and x >= MIN_SIDE and x % 8 == 0, f"a multiple of 8, at least {MIN_SIDE}"
    ),
    "n_train": count(40),
    "n_test": count(len(CLASSES)),
    "split": one_of(SPLITS),
    "fold": count(0),
    "n_folds": count(2),
    "clinical_id": _COLUMN,
    "clinical_class": _COLUMN,
    "workers": count(1).or_left_out(),
    "split_seed": count(0),
    "val_fraction": SHARE,
}
AUGMENT: Limits = {
    "flip": PROBABILITY,
    "degrees": between(0, 181),
    "shift": between(0, 1),
    "scale": between(0, 1),
    "intensity": between(0, 1),
    "noise": between(0, 1),
    "cutout": PROBABILITY,
    "mixup": at_least(0),
}
# Of the phantom, written as files.
WRITE: Limits = {
    "n_patients": count(1),
    "slices_per_series": count(1, MAX_SLICES),
    "series_per_patient": count(1),
    "n_train": count(len(CLASSES)),
    "n_test": count(len(CLASSES)),
    "size": count(MIN_SIDE),
    "seed": count(0),
}
# Of each way to make test images worse.
_AMOUNT = Limit(lambda x: 0 < x <= 180, "above 0 and at most 180")
CORRUPTION = each(_AMOUNT, "a list of numbers, each above 0", n_values=range(sys.maxsize))  # of none: it is left out
