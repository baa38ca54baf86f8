"""The Gradient Variance-Controlled Optimizer, as torch users hold it; the rule itself is in `gvco_rule`."""

# pyright: reportUnknownMemberType=false
# (torch.compiler.disable is not annotated)

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor

from hqcnn_lab.limit import check_limits
from hqcnn_lab.optim import limits
from hqcnn_lab.optim.gvco_bucket import Bucket
from hqcnn_lab.optim.gvco_rule import Tensors
from hqcnn_lab.torch_private import foreach_lerp_


class GVCO(torch.optim.Optimizer):
    """Set each element's step by its gradient's variance over steps, and average, so that no schedule is needed.

    *This is our reconstruction.* The paper says in words what GVCO does (section 3.2: conservative updates under high
    variance, bolder ones under low variance, no erratic steps), but its equations (section 3.9) are not public: whether
    the rule below is the authors' is not known.

    Use it for hybrid networks that are trained from their initial weights, for any number of epochs that need not be
    known beforehand. Judge it, save it and export it at its average: call `optimizer.eval()` before and
    `optimizer.train()` before training goes on. Who forgets `eval()` judges the point y below, which is a little worse;
    a step after `eval()` without `train()` raises an error. The lab's runs do this by themselves.

    With gradient g at the parameters y, for one tensor of n elements at step t::

        d = g − m                                 innovation
        d = d · min(1, τ √N / rms(d))             erratic-gradient guard, from the 11th step on, once N > 0
        v = EMA_ρ[(d + (1 − κ) m)²]               variance of each gradient element; with κ = 0 its mean square
        u = (m + d) / (√v + ε) + wd · y           the step's direction
        m = EMA_0.9[m + d]                        mean gradient
        N = EMA_0.99[mean(d²)]                    noise power; all three averages bias-corrected
        η = min(lr, D / √t) · min(1, t / warmup) · max(rms(y), s)    the tensor's own rate, a share of its size
        z = z − η u                               the bold iterate
        x = x + c (z − x),  c = w / Σ w,  w = t^r (max η)²    the average, which is judged
        y = (1 − β) z + β x                       where the next gradient is taken: β takes momentum's place

    The parameters hold y; z, m and v are kept for each element, one number more than AdamW's.

    **Relatives.** With κ = 0, τ = None, s = None and D = None it is Schedule-Free AdamW (Defazio et al. 2024), exactly.
    The variance around the mean is AdaBelief's idea (Zhuang et al. 2020), rates as a share of a tensor's size LAMB's
    (You et al. 2020), a rate that falls as distance by root of time DoG's (Ivgi et al. 2023).

    A tensor whose gradient is not finite (or whose squared norm overflows) is left out of that step entirely: neither
    the parameter nor its state changes, weight decay included. On a GPU this costs no host synchronization (but with
    foreach=False); a step can be captured in a CUDA graph after a first one, with lr a 0-dim tensor on the device where
    it is to change between replays, and again after the state was loaded or other parameters have had gradients, since
    that moves the state. Under `torch.compile` a step runs as it is: there is nothing left that a compiler could join.

    To log: `state[p]["noise"]` (N), `["rate"]` (η) and `["average_weight"]` (c) are 0-dim tensors on the parameter's
    device.

    Args:
        params: parameters or groups of them; every argument below may also be given per group. float32 or float64 only:
            under mixed precision keep the parameters in float32 and use autocast, with a GradScaler for float16.
        lr: how far a step moves a tensor, as a share of the tensor's size (with least_size=None: in absolute numbers);
            a number or a 0-dim tensor.
        momentum: β; nearer to 1, gradients are taken nearer to the average.
        rho: ρ, decay of the variance.
        centering: κ, the share of the mean gradient that is taken off before squaring. At 1 the step of a gradient that
            never changes grows without bound; at 0.9 up to lr / 0.1.
        tau: τ, how many standard deviations an innovation may be before it is scaled down; None: no guard.
        least_size: s, the size that smaller tensors are taken to have, so that one that begins at 0 can move; None:
            rates are not relative to sizes.
        walk: D, how many of its own sizes a tensor's steps would carry it if they were noise alone, t steps √t of
            them far; so the rate falls as 1/√t once that is below lr. None: the rate stays at lr.
        recency: r, how much more late steps weigh in the average than early ones; 0: all the same.
        warmup: steps over which the rate rises to lr.
        eps: ε, added to the standard deviation.
        weight_decay: decoupled, taken at y.
        maximize: ascend instead of descend.
        foreach: work on lists of tensors (True), on one tensor at a time (False), or (None) what is fastest: on a GPU
            kernels of Triton where it works, for contiguous tensors, and else lists; on a CPU, small tensors end to end
            and large ones one at a time.

    Raises ValueError for an argument out of its range, TypeError for parameters of another precision or complex ones,
    RuntimeError for sparse gradients and for a step in eval mode.

    Source: the paper, section 3.2, for the aim; Defazio et al. 2024 (arXiv 2405.15682) for y, z and x.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 3e-2,
        *,
        momentum: float = 0.9,
        rho: float = 0.999,
        centering: float = 0.9,
        tau: float | None = 2.5,
        least_size: float | None = 0.1,
        walk: float | None = 1.0,
        recency: float = 0.0,
        warmup: int = 100,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        maximize: bool = False,
        foreach: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "rho": rho,
            "centering": centering,
            "tau": tau,
            "least_size": least_size,
            "walk": walk,
            "recency": recency,
            "warmup": warmup,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "foreach": foreach,
            "train_mode": True,
        }
        check_limits(limits.GVCO, defaults, "GVCO: ")
        self._buckets: dict[int, tuple[list[int], list[Bucket]]] = {}  # by group: of which parameters, and what
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._buckets = {}
        for group in self.param_groups:  # a checkpoint older than an argument gets this optimizer's value for it
            for name, value in self.defaults.items():
                group.setdefault(name, value)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            check_limits(limits.GVCO, group, "GVCO: ")
            for parameter in group["params"]:
                if parameter.is_complex():
                    raise TypeError("GVCO: complex parameters are not supported; pass torch.view_as_real(parameter)")
                if parameter.dtype not in (torch.float32, torch.float64):
                    raise TypeError(f"GVCO: params must be float32 or float64 (use autocast), got {parameter.dtype}")
        except (TypeError, ValueError):
            self.param_groups.pop()
            raise

    @torch.no_grad()
    def eval(self) -> None:
        """Put the average x into the parameters: to judge, save or export. Nothing where it is there already."""
        for group in self.param_groups:
            if group["train_mode"]:
                self._move(group, 1 - 1 / group["momentum"])
            group["train_mode"] = False

    @torch.no_grad()
    def train(self) -> None:
        """Put y, where gradients are taken, back into the parameters. Nothing where it is there already."""
        for group in self.param_groups:
            if not group["train_mode"]:
                self._move(group, 1 - group["momentum"])
            group["train_mode"] = True

    def _move(self, group: dict[str, Any], share: float) -> None:
        """From where the parameters are, this share of the way to z."""
        params = [p for p in group["params"] if "bold" in self.state.get(p, {})]
        if params:
            foreach_lerp_(params, [self.state[p]["bold"] for p in params], share)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        if torch.compiler.is_compiling():  # not as a decorator: that imports the compiler, for a second
            return cast("Callable[..., Any]", torch.compiler.disable(self._step))(closure)
        return self._step(closure)

    def _step(self, closure: Callable[[], Any] | None) -> Any:
        if not all(group["train_mode"] for group in self.param_groups):
            raise RuntimeError("GVCO: the parameters hold the average; call optimizer.train() before training goes on")
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for index, group in enumerate(self.param_groups):
            params = [p for p in group["params"] if p.grad is not None and p.numel()]
            if any(p.grad.layout != torch.strided for p in params):
                raise RuntimeError("GVCO: sparse gradients are not supported; use sparse=False in the layer")
            for bucket in self._buckets_of(index, params):
                bucket.step(group)
        return loss

    def _buckets_of(self, index: int, params: Tensors) -> list[Bucket]:
        """The parameters of a group that have a gradient, by device and precision."""
        group = self.param_groups[index]
        now = [group["foreach"], *map(id, params)]
        before, buckets = self._buckets.get(index, ([], []))
        if before != now or not all(bucket.holds(self.state) for bucket in buckets):
            kinds: dict[tuple[torch.device, torch.dtype], Tensors] = {}
            for parameter in params:
                kinds.setdefault((parameter.device, parameter.dtype), []).append(parameter)
            buckets = [Bucket(kind, self.state, group) for kind in kinds.values()]
            self._buckets[index] = now, buckets
        return buckets
