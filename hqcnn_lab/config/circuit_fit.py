"""Whether a configuration's circuit can be run, takes what its network gives it, and fits into memory."""

import math

from omegaconf import DictConfig

from hqcnn_lab.config.key import plain_values
from hqcnn_lab.distributed import memory_bytes
from hqcnn_lab.error import ConfigError, first_line
from hqcnn_lab.quantum.limits import MAX_WIRES, bytes_per_sample, check_circuit
from hqcnn_lab.quantum.noise import Noise, as_noise


def check_circuit_fit(config: DictConfig) -> None:
    """Raise `ConfigError` for the first of these that does not hold."""
    circuit, limit = config.circuit, MAX_WIRES[config.circuit.engine]
    if not isinstance(circuit.n_wires, int) or not 1 <= circuit.n_wires <= limit:
        raise ConfigError(
            f"circuit.n_wires={circuit.n_wires}: must be a whole number from 1 to {limit}, "
            f"the most that circuit.engine={circuit.engine} can hold"
        )
    options = plain_values(circuit)
    try:
        options["noise"] = noise = as_noise(options.get("noise"))
        check_circuit(**options)
    except (TypeError, ValueError) as error:  # TypeError: a key too many, or one that is missing
        raise ConfigError(f"circuit: {first_line(error)}") from None
    name, n_inputs = config.model._target_.rpartition(".")[2], circuit.n_wires
    if circuit.encoder == "amplitude":
        n_inputs = 2**circuit.n_wires
    trains_inputs = name not in ("QCNN", "Quanvolution")  # theirs are pixels
    if (circuit.encoder, circuit.shot_gradient) == ("amplitude", "parameter_shift") and circuit.shots and trains_inputs:
        raise ConfigError(
            "circuit.shot_gradient=parameter_shift: shifts angles, and circuit.encoder=amplitude has none to train "
            "the network before it; use circuit.shot_gradient=straight_through"
        )
    need, have = _batch_bytes(config, noise), memory_bytes()
    if config.trainer.accelerator in ("auto", "cpu") and need > have:
        raise ConfigError(
            f"circuit.n_wires={circuit.n_wires}: one batch needs about {need / 2**30:.0f} GiB and this machine has "
            f"{have / 2**30:.0f}; fewer wires, layers, model.n_circuits or a smaller dataset.batch_size"
        )
    _check_wiring(config, name, n_inputs)


def _check_wiring(config: DictConfig, name: str, n_inputs: int) -> None:
    """Whether the circuit takes what the network gives it."""
    circuit = config.circuit
    if name == "QCNN" and (circuit.ansatz != "qcnn" or circuit.n_wires & (circuit.n_wires - 1)):
        raise ConfigError(
            f"circuit.ansatz={circuit.ansatz}, circuit.n_wires={circuit.n_wires}: model=qcnn is the ansatz qcnn on a "
            "power of two of wires; circuit=qcnn"
        )
    patch = config.model.get("kernel_size", 1) ** 2
    if name == "Quanvolution":
        wanted = max(math.ceil(math.log2(patch)), 1) if circuit.encoder == "amplitude" else patch
        if circuit.n_wires != wanted:
            raise ConfigError(
                f"circuit.n_wires={circuit.n_wires}: must be {wanted} for patches of model.kernel_size="
                f"{config.model.kernel_size} and circuit.encoder={circuit.encoder}"
            )
    elif n_inputs % patch:
        raise ConfigError(
            f"circuit.n_wires={circuit.n_wires}: its {n_inputs} inputs must be a multiple of "
            f"model.kernel_size² = {patch}, one for each position of the patch; model.kernel_size=1 takes any number"
        )


def _batch_bytes(config: DictConfig, noise: Noise | None) -> float:
    """Memory that the circuits of one training batch keep for the backward pass."""
    circuit, model, dataset = config.circuit, config.model, config.dataset
    if model.get("kernel") == "classical":
        return 0
    n_samples = dataset.batch_size
    if "n_circuits" in model:  # one for each patch
        n_samples *= model.n_circuits * max(dataset.image_size / 2 ** len(model.widths) / model.kernel_size, 1) ** 2
    return n_samples * bytes_per_sample(circuit.n_wires, circuit.n_layers, circuit.engine, noise)
