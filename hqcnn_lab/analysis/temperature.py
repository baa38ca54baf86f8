"""The one number that mends much of a network's calibration (Guo et al. 2017)."""

import torch
from torch import Tensor
from torch.nn import functional as F


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
