"""After an upgrade of torch: is what hqcnn_lab/torch_private.py uses still what it was?"""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from hqcnn_lab import torch_private

BROKEN = "torch {} has another {} than hqcnn_lab/torch_private.py expects: mend it there".format
X, Y, Z = torch.tensor([[1.0, -2.0], [3.0, 4.0], [0.5, 8.0]])
FOREACH: dict[str, tuple[tuple, dict, Callable[[], Tensor]]] = {
    "foreach_add_": (([Y],), {"alpha": 0.5}, lambda: X + 0.5 * Y),
    "foreach_addcmul_": (([Y], [Z]), {}, lambda: X + Y * Z),
    "foreach_copy_": (([Y],), {}, lambda: Y),
    "foreach_div_": (([Y],), {}, lambda: X / Y),
    "foreach_lerp_": (([Y], 0.25), {}, lambda: X + 0.25 * (Y - X)),
    "foreach_mul": (([Y],), {}, lambda: X * Y),
    "foreach_mul_": (([Y],), {}, lambda: X * Y),
    "foreach_neg": ((), {}, lambda: -X),
    "foreach_norm": ((), {}, lambda: X.norm()),
    "foreach_sqrt": ((), {}, lambda: X.sqrt()),
    "foreach_sub": (([Y],), {}, lambda: X - Y),
    "foreach_sub_": (([Y],), {}, lambda: X - Y),
}


def test_every_foreach_function_is_tried_here():
    assert set(FOREACH) == {name for name in vars(torch_private) if name.startswith("foreach_")}


@pytest.mark.parametrize("name", FOREACH)
def test_operations_on_lists(name: str):
    others, options, expected = FOREACH[name]
    first = X.clone()
    result = getattr(torch_private, name)([first], *others, **options)
    values = first if name.endswith("_") else result[0]
    torch.testing.assert_close(values, expected(), equal_nan=True, msg=BROKEN(torch.__version__, f"torch._{name}"))


def test_what_asks_whether_torch_func_transforms():
    answers = []
    torch.func.vmap(lambda x: answers.append(torch_private.is_in_torch_func()) or x)(X)
    answers.append(torch_private.is_in_torch_func())
    assert answers == [True, False], BROKEN(torch.__version__, "torch._C._are_functorch_transforms_active")


@pytest.mark.filterwarnings("ignore")  # torch.jit is deprecated
def test_what_asks_whether_torch_traces():
    class Asks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            answers.append(torch_private.is_traced())
            return 2 * x

    answers: list[bool] = []
    torch.jit.trace(Asks(), X, check_trace=False)
    Asks()(X)
    assert (answers[0], answers[-1]) == (True, False), BROKEN(torch.__version__, "torch.jit.is_tracing")


def test_what_asks_for_bfloat16_units():
    assert hasattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported"), BROKEN(torch.__version__, "torch.ops.mkldnn")
    assert isinstance(torch_private.has_bfloat16_units(), bool)


def test_the_base_of_batch_normalization():
    layers = (nn.BatchNorm1d(1), nn.BatchNorm2d(1), nn.BatchNorm3d(1), nn.SyncBatchNorm(1))
    answers = [isinstance(layer, torch_private.BatchNorm) for layer in (*layers, nn.LayerNorm(1))]
    assert answers == [True] * 4 + [False], BROKEN(torch.__version__, "torch.nn.modules.batchnorm")


def test_what_finds_a_hook():
    def hook(*_: object) -> None: ...

    module = nn.Identity()
    answers = [torch_private.has_forward_pre_hook(module, hook)]
    module.register_forward_pre_hook(hook)
    answers += [torch_private.has_forward_pre_hook(m, hook) for m in (module, copy.deepcopy(module))]
    assert answers == [False, True, True], BROKEN(torch.__version__, "Module._forward_pre_hooks")
