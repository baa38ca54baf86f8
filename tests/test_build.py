"""Configs and checkpoints are data: they build this lab's and its libraries' classes, and nothing else."""

import pytest
import torch

from hqcnn_lab.build import BuildError, build, untrusted_targets


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "torch.load",
        "torch.hub.load",
        "torch.optim.os.system",
        "hqcnn_lab.data.decode.cache.os.system",
        "hqcnn_lab.train.main",
        "hqcnn_lab.data._HOME",
        "lightning.pytorch.cli.LightningCLI",
        "torch.optimizers.SGD",
        "SGD",
        "",
        7,
    ],
)
def test_foreign_targets_are_refused(target: object) -> None:
    with pytest.raises(BuildError, match="is refused"):
        build({"_target_": target})
    assert list(untrusted_targets({"a": [{"b": {"_target_": target}}]})) == [("a[0].b._target_", target)]


def test_a_target_hidden_in_an_argument_is_refused() -> None:
    with pytest.raises(BuildError, match=r"foreach\._target_=os\.system is refused"):
        build({"_target_": "torch.optim.SGD", "foreach": {"_target_": "os.system"}})


def test_an_argument_that_a_class_refuses_is_named() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    with pytest.raises(BuildError, match=r"hqcnn_lab\.optim\.GVCO: GVCO: rho must be at least 0 and below 1, got 2.0"):
        build({"_target_": "hqcnn_lab.optim.GVCO", "rho": 2.0}, [parameter])


def test_own_and_library_classes_are_built_with_plain_arguments() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    assert isinstance(build({"_target_": "torch.optim.SGD", "lr": 0.1}, [parameter]), torch.optim.SGD)
    augment = build({"_target_": "hqcnn_lab.data.Augment", "degrees": 3})
    assert augment.degrees == 3
