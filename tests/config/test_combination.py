"""Parts of a configuration that do not go together are refused in one line, before anything starts."""

import re

import pytest
import torch
from conftest import TINY_PHANTOM
from omegaconf import DictConfig, OmegaConf

from hqcnn_lab.build import build
from hqcnn_lab.config.check import check
from hqcnn_lab.config.combination import check_combination
from hqcnn_lab.config.compose import compose
from hqcnn_lab.config.conf_files import CONFIG_DIR
from hqcnn_lab.error import ConfigError
from hqcnn_lab.models import GRADIENT_FREE
from hqcnn_lab.optim import parameter_groups

SMALL = [line for line in TINY_PHANTOM if not line.startswith("model")]
MODELS = {path.stem: OmegaConf.load(path) for path in sorted((CONFIG_DIR / "model").glob("*.yaml"))}
TRAINED = [name for name, spec in MODELS.items() if str(spec.get("_target_")).rpartition(".")[2] not in GRADIENT_FREE]
OPTIMIZERS = sorted(path.stem for path in (CONFIG_DIR / "optim").glob("*.yaml") if path.stem != "none")
ONE_CYCLE = ["scheduler=none", "scheduler._target_=torch.optim.lr_scheduler.OneCycleLR", "+scheduler.max_lr=0.1"]
CYCLIC = ["scheduler=none", "scheduler._target_=torch.optim.lr_scheduler.CyclicLR", "+scheduler.max_lr=0.1"]
FINDER = "+callbacks.x._target_=lightning.pytorch.callbacks."


def composed(*overrides: str):
    keys = [line.split("=")[0] for line in overrides]
    base = [line for line in SMALL if line.split("=")[0] not in keys]
    return compose([*base, "name=tiny", "logger=none", "paths.output_dir=unused", *overrides])


def refusal(*overrides: str) -> str | None:
    return refusal_of(composed(*overrides))


def refusal_of(config: DictConfig) -> str | None:
    try:
        check_combination(config)
    except ConfigError as error:
        return str(error)
    return None


@pytest.mark.slow
@pytest.mark.parametrize("model", TRAINED)
def test_optimizers_of_circuits_ask_for_a_circuit_that_is_trained(model):
    # Regression: optim=qng model=resnet trained by AdamW alone, and was called qng.
    config = composed(f"model={model}", "optim=qng")
    spec, size = OmegaConf.to_container(config.model, resolve=True), 64
    with torch.device("meta" if model in ("vgg16", "alexnet", "resnet", "two_stage", "ann") else "cpu"):
        groups = parameter_groups(build(spec, n_classes=4, image_size=size), lr=1.0)
    has_circuit = any(group["group"] == "quantum" for group in groups)
    assert (refusal(f"model={model}", "optim=qng") is None) == has_circuit


def test_a_circuit_that_is_not_trained_and_one_in_a_second_stage():
    assert "optim=spsa: steps circuits, and ResNet has none" in refusal("optim=spsa", "model=resnet")
    assert "circuit.ansatz=random is not trained" in refusal("optim=qng", "circuit.ansatz=random")
    assert refusal("optim=qng", "model=two_stage", "model@model.network=hqcnn") is None
    assert "HQCNN trains none" in refusal("optim=qng", "model=two_stage", "model@model.network=hqcnn_twin")
    with pytest.raises(ConfigError, match="optim=qng: steps circuits, and ResNet has none; choose another optimizer"):
        check(composed("optim=qng", "model=resnet"))


@pytest.mark.slow
@pytest.mark.parametrize("schedule", [ONE_CYCLE, CYCLIC], ids=["one cycle", "cyclic"])
@pytest.mark.parametrize("optim", OPTIMIZERS)
def test_a_schedule_that_cycles_the_momentum_asks_for_one(optim, schedule):
    config = composed(f"optim={optim}", *schedule)
    spec = OmegaConf.to_container(config.optim, resolve=True)
    spec.pop("quantum_lr")
    optimizer = build(spec, [torch.zeros(1, requires_grad=True)])
    more = {"total_steps": 9} if schedule is ONE_CYCLE else {"base_lr": 0.01}
    try:
        build({"_target_": config.scheduler._target_, "max_lr": 0.1}, optimizer, **more)
        can = True
    except ValueError:
        can = False
    can = can and not hasattr(optimizer, "eval")  # what it would cycle is where the gradient is taken
    said = refusal_of(config)
    assert (said is None) == can
    assert can or "add +scheduler.cycle_momentum=false" in said
    OmegaConf.update(config, "scheduler.cycle_momentum", False, force_add=True)
    assert refusal_of(config) is None


def test_prodigy_finds_one_rate_for_all():
    assert refusal("optim=prodigy", "optim.quantum_lr=0.5") == (
        "optim.quantum_lr=0.5: Prodigy finds one rate for all parameters; leave it null, or 0 to hold the circuits"
    )
    for rate in ("null", "0", "1.0"):
        assert refusal("optim=prodigy", f"optim.quantum_lr={rate}") is None
    groups = [{"params": [torch.ones(1, requires_grad=True)], "lr": rate} for rate in (1.0, 0.5)]
    with pytest.raises(RuntimeError, match="different lr values"):  # what would be said in the first epoch
        step_of(build({"_target_": "prodigyopt.Prodigy"}, groups))
    step_of(build({"_target_": "prodigyopt.Prodigy"}, [groups[0], groups[1] | {"lr": 0.0}]))


def step_of(optimizer):
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.ones(1)
    optimizer.step()


SINGLE = ["hqcnn", "hqcnn_dense", "hqcnn_separable", "resnet", "unet", "crnn", "cnn", "qcnn"]


@pytest.mark.slow
@pytest.mark.parametrize("size", [16, 48])
@pytest.mark.parametrize("model", SINGLE)
def test_a_batch_of_one_image_is_refused_where_it_cannot_be_normalized(model, size):
    # Regression: a traceback in the middle of the first epoch.
    lines = [f"model={model}", f"dataset.image_size={size}", "dataset.batch_size=1"]
    config = composed(*lines)
    network = build(OmegaConf.to_container(config.model, resolve=True), n_classes=4, image_size=size)
    try:
        network(torch.rand(1, 1, size, size))
        can = True
    except ValueError:
        can = False
    assert can == (model not in ("hqcnn_dense", "hqcnn_separable") and (model, size) != ("resnet", 16))
    state, said = torch.get_rng_state(), refusal(*lines)
    assert torch.equal(torch.get_rng_state(), state)
    assert (said is None) == can
    assert can or re.match("dataset.batch_size=1: .* use dataset.batch_size=2 or more", said)


@pytest.mark.parametrize(
    ("name", "key"), [("LearningRateFinder", "optim.lr"), ("BatchSizeFinder", "dataset.batch_size")]
)
def test_what_would_train_otherwise_than_recorded_is_refused(name, key):
    assert refusal(FINDER + name) == (
        f"callbacks.x={name}: would train with another {key} than the run records; look for it by a sweep, {key}=…,… -m"
    )
