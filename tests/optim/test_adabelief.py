"""conf/optim/adabelief.yaml against the paper's rule, written out."""

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from hqcnn_lab.build import build
from hqcnn_lab.config.compose import compose


def adabelief(theta: np.ndarray, gradients: np.ndarray, lr: float, weight_decay: float, eps: float) -> np.ndarray:
    """Zhuang et al. 2020, Algorithm 2, with the decoupled weight decay of their section 3."""
    m, s = np.zeros_like(theta), np.zeros_like(theta)
    for t, g in enumerate(gradients, start=1):
        m = 0.9 * m + 0.1 * g
        s = 0.999 * s + 0.001 * (g - m) ** 2 + eps
        theta = theta * (1 - lr * weight_decay)
        theta = theta - lr * (m / (1 - 0.9**t)) / (np.sqrt(s / (1 - 0.999**t)) + eps)
    return theta


@pytest.mark.parametrize("eps", [1e-16, 1e-3])  # the second shows where ε is added
def test_the_config_is_the_papers_rule(eps):
    spec = OmegaConf.to_container(compose(["optim=adabelief", f"optim.eps={eps}"]).optim, resolve=True)
    lr, weight_decay = spec["lr"], spec["weight_decay"]
    assert spec.pop("quantum_lr") is None
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=5), rng.normal(0.3, 1, (20, 5))
    theta = torch.nn.Parameter(torch.as_tensor(start.copy()))
    optimizer = build(spec, [theta])
    for gradient in gradients:
        theta.grad = torch.as_tensor(gradient.copy())
        optimizer.step()
    np.testing.assert_allclose(theta.detach(), adabelief(start, gradients, lr, weight_decay, eps), rtol=1e-12)
