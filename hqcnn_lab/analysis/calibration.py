"""Whether a network is right as often as it says it is (Guo et al. 2017)."""

from dataclasses import dataclass

import numpy as np

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


def reliability(confidence: np.ndarray, correct: np.ndarray, n_bins: int = N_BINS) -> Reliability:
    """Bin predictions by their confidence `[N]`; `correct` `[N]` says which are right. Bin m is ((m − 1)/n, m/n].

    Of few images the error is biased upwards: a perfectly calibrated network has some too. Raises ValueError for none.
    """
    if not len(confidence):
        raise ValueError("there is no prediction to bin")
    index = np.clip(np.ceil(confidence * n_bins).astype(int) - 1, 0, n_bins - 1)
    count = np.bincount(index, minlength=n_bins)
    with np.errstate(invalid="ignore"):
        mean_confidence, accuracy = (np.bincount(index, values, n_bins) / count for values in (confidence, correct))
    return Reliability(count, mean_confidence, accuracy)
