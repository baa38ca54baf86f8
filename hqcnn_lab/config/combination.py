"""What model, optimizer, schedule, callbacks and batch ask of one another, before anything starts."""

import inspect
from typing import Any

from omegaconf import DictConfig, OmegaConf

from hqcnn_lab.error import ConfigError
from hqcnn_lab.models import GRADIENT_FREE
from hqcnn_lab.quantum.limits import ANSATZES

_CYCLERS = ("torch.optim.lr_scheduler.OneCycleLR", "torch.optim.lr_scheduler.CyclicLR")
_TUNERS = {"LearningRateFinder": "optim.lr", "BatchSizeFinder": "dataset.batch_size"}


def check_combination(config: DictConfig) -> None:
    """Raise `ConfigError` for parts of a configuration that are right each by itself, and not together."""
    optim = name_of(config.optim)
    if optim in ("QNG", "SPSA") and (reason := _lacks_circuit(config.model)):
        raise ConfigError(f"optim={optim.lower()}: steps circuits, and {reason}; choose another optimizer")
    _check_rates(config)
    _check_schedule(config)
    for key, spec in config.callbacks.items():
        if spec and (tuned := _TUNERS.get(name_of(spec))):
            raise ConfigError(
                f"callbacks.{key}={name_of(spec)}: would train with another {tuned} than the run records; "
                f"look for it by a sweep, {tuned}=…,… -m"
            )
    if config.dataset.get("batch_size") == 1 and name_of(config.model) not in GRADIENT_FREE:
        _check_single_images(config)


def name_of(spec: DictConfig) -> str:
    """The class that a part of the configuration names."""
    return str(spec.get("_target_")).rpartition(".")[2]


def _lacks_circuit(model: DictConfig) -> str | None:
    network = model.get("network") or model  # of two stages, the second
    name, circuit = name_of(network), network.get("circuit")
    if circuit is None:
        return f"{name} has none"
    if (kernel := network.get("kernel", "quantum")) != "quantum":
        return f"with model.kernel={kernel} {name} trains none"
    if name == "Quanvolution":
        return f"those of {name} are not trained"
    if circuit.ansatz in ANSATZES and not ANSATZES[circuit.ansatz].trainable:
        return f"circuit.ansatz={circuit.ansatz} is not trained"
    return None


def _check_rates(config: DictConfig) -> None:
    """A learning rate of 0 holds a group where it is; of all groups, nothing would be trained."""
    lr, quantum_lr = config.optim.get("lr"), config.optim.get("quantum_lr")
    if lr == 0 and (not quantum_lr or _lacks_circuit(config.model)):
        raise ConfigError(f"optim.lr={lr}: must be above 0, or nothing is trained")
    if config.optim._target_ == "prodigyopt.Prodigy" and quantum_lr not in (None, 0, lr):
        raise ConfigError(
            f"optim.quantum_lr={quantum_lr}: Prodigy finds one rate for all parameters; leave it null, or 0 to hold "
            "the circuits"
        )


def _check_schedule(config: DictConfig) -> None:
    schedule: Any = config.scheduler or {}
    if schedule.get("_target_") not in _CYCLERS or not schedule.get("cycle_momentum", True):
        return
    from hydra.utils import get_class

    from hqcnn_lab.optim.averaging import averages

    try:
        optimizer = get_class(config.optim._target_)
        settings = inspect.signature(optimizer).parameters
    except (ImportError, ValueError):  # what cannot be built is said elsewhere
        return
    if averages(optimizer):
        raise ConfigError(
            f"scheduler.cycle_momentum: {name_of(config.optim)} averages by itself, and what would be cycled is no "
            "momentum; add +scheduler.cycle_momentum=false"
        )
    if not {"momentum", "betas"} & set(settings):
        raise ConfigError(
            f"scheduler.cycle_momentum: {name_of(schedule)} cycles a momentum, and {name_of(config.optim)} takes none; "
            "add +scheduler.cycle_momentum=false"
        )


def _check_single_images(config: DictConfig) -> None:
    """Whether a batch of one image can be normalized; only running the network tells."""
    import torch

    from hqcnn_lab.build import BuildError, build

    if config.trainer.get("sync_batchnorm") and config.trainer.devices != 1:  # of all devices' images together
        return
    model: Any = OmegaConf.to_container(config.model, resolve=True)
    size = config.dataset.image_size
    with torch.random.fork_rng([]), torch.no_grad():
        try:
            build(model, n_classes=2, image_size=size)(torch.rand(1, 1, size, size))
        except BuildError:  # is said elsewhere
            return
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ConfigError(
                f"dataset.batch_size=1: at dataset.image_size={size} {name_of(config.model)} normalizes over a batch's "
                "images and needs two; use dataset.batch_size=2 or more"
            ) from None
