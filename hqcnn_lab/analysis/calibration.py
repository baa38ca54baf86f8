"""Whether a network is right as often as it says it is, and the one number that mends much of it (Guo et al. 2017)."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

N_BINS = 15  # as in the paper


@dataclass(frozen=True)
class Reliability:
    """Predictions sorted into bins of equal width by their confidence, the probability of the class predicted.

    `count`, mean `confidence` and `accuracy` of each bin, `[n_bins]`; an empty bin has NaN for the last two.
    """

    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error (eq. 3): |accuracy − confidence|, weighted by the bins' share of images."""
        gaps = np.nan_to_num(np.abs(self.accuracy - self.confidence))
        return float((gaps * self.count).sum() / self.count.sum())


def reliability(probabilities: np.ndarray, labels: np.ndarray, n_bins: int = N_BINS) -> Reliability:
    """Bin the predictions `[N, n_classes]` of images with `labels` `[N]`; bin m is ((m − 1)/n_bins, m/n_bins].

    Of few images the error is biased upwards: also a perfectly calibrated network has some. Raises ValueError for none.
    """
    if not len(labels):
        raise ValueError("there is no prediction to bin")
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    index = np.clip(np.ceil(confidence * n_bins).astype(int) - 1, 0, n_bins - 1)
    count = np.bincount(index, minlength=n_bins)
    with np.errstate(invalid="ignore"):
        means = (np.bincount(index, values, n_bins) / count for values in (confidence, right))
        return Reliability(count, *means)


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The T > 0 for which softmax(logits / T) has the least negative log likelihood: eq. 9, by L-BFGS on log T.

    Fit it on images that were neither trained nor tested on, the validation part. It changes no prediction, only how
    certain the network says it is: T > 1 where it was overconfident. Where every label is predicted right there is no
    best T, as surer is always better; what comes back is small. `[N, n_classes]`, `[N]`.
    """
    logits = logits.double()
    log_t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_t], lr=0.5, max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(logits / log_t.exp(), labels)
        value.backward()
        return value

    optimizer.step(loss)
    return float(log_t.detach().exp())
