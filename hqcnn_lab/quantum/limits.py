"""What a circuit may be: names, numbers and combinations. Torch-free, so that a configuration is checked quickly."""

from typing import TYPE_CHECKING

from hqcnn_lab.limit import SEED, Limits, check_limits, count, one_of
from hqcnn_lab.quantum.ansatz import ANSATZES
from hqcnn_lab.quantum.check import check_count
from hqcnn_lab.quantum.circuit import ENCODERS, READOUTS

if TYPE_CHECKING:
    from hqcnn_lab.quantum.noise import Noise

ENGINES = ("auto", "trig", "statevector", "folded", "torchquantum")
SHOT_GRADIENTS = ("straight_through", "parameter_shift")

# trig needs 3ⁿ coefficients an output, folded a matrix of 4ⁿ, the others states of 2ⁿ: a complex64 state of 24 wires is
# 134 MB a sample. torchquantum keeps such a state for every gate.
MAX_WIRES = {"auto": 24, "trig": 8, "statevector": 24, "folded": 10, "torchquantum": 16}
MAX_COEFFICIENTS = 20_000  # with 15,309 (7 wires, 7 outputs) trig wins, with 46,656 and 52,488 it loses
MAX_PROBABILITY_WIRES = 10  # 2ⁿ outputs
MAX_LAYERS = 1000  # more takes minutes to build, and is rather a slip of the hand

# What each argument may be by itself; n_wires depends on the engine.
CIRCUIT: Limits = {
    "n_layers": count(1, MAX_LAYERS),
    "ansatz": one_of(tuple(ANSATZES)),
    "encoder": one_of(ENCODERS),
    "readout": one_of(READOUTS),
    "engine": one_of(ENGINES),
    "shots": count(1).or_left_out(),
    "shot_gradient": one_of(SHOT_GRADIENTS),
    "seed": SEED,
}


def choose_engine(engine: str, n_wires: int, encoder: str, n_outputs: int, batch: int) -> str:
    """The engine that will really run on `batch` samples.

    "auto" is trig where its coefficients, 3ⁿ for each output, are few, and the samples enough to pay for finding them;
    statevector elsewhere. The two crossovers were measured at 4 to 8 wires on one core, hardware-efficient, 2 layers.
    """
    if engine != "auto":
        return engine
    encodes_once = encoder.startswith("angle")
    few = n_wires <= MAX_WIRES["trig"] and n_outputs * 3**n_wires <= MAX_COEFFICIENTS
    return "trig" if encodes_once and few and batch >= 2 * 3**n_wires else "statevector"


def bytes_per_sample(n_wires: int, n_layers: int, engine: str = "auto", noise: "Noise | None" = None) -> float:
    """About how many bytes a sample keeps for the backward pass, counted in complex64 states of 2ⁿ. trig keeps less.

    Trajectories keep theirs side by side. Forward density evolution, which keeps more, is not estimated.
    """
    states = {"torchquantum": 3 * n_wires * n_layers, "folded": 3}.get(engine, 2)
    copies = 1
    if noise is not None and not noise.is_readout_only and noise.choose_method(n_wires) == "trajectories":
        copies = noise.n_trajectories
    return states * 8 * 2**n_wires * copies


def check_circuit(
    n_wires: int,
    n_layers: int,
    ansatz: str = "hardware_efficient",
    encoder: str = "angle_y",
    readout: str = "z",
    engine: str = "auto",
    noise: "Noise | None" = None,
    shots: int | None = None,
    shot_gradient: str = "straight_through",
    seed: int = 0,
    *,
    wires_from: str = "n_wires",
) -> None:
    """Raise a one-line ValueError, saying what to use instead, if this circuit cannot be built or run.

    `wires_from` names, in the message, what the user must change: a convolution has no `n_wires` argument.
    """
    check_count(wires_from, n_wires)
    given = {"n_layers": n_layers, "ansatz": ansatz, "encoder": encoder, "readout": readout, "engine": engine}
    check_limits(CIRCUIT, given | {"shots": shots, "shot_gradient": shot_gradient, "seed": seed})
    limit = MAX_WIRES[engine]
    if n_wires > limit:
        remedy = "use several smaller circuits" if limit == max(MAX_WIRES.values()) else "use engine='auto'"
        raise ValueError(f"{wires_from} = {n_wires} wires, but engine={engine!r} takes at most {limit}: {remedy}")
    if encoder == "reuploading" and engine in ("trig", "folded"):
        raise ValueError(
            f"engine={engine!r} needs an encoder that reads the data once, not 'reuploading': use engine='statevector'"
        )
    if encoder == "amplitude" and engine == "trig":
        raise ValueError("engine='trig' needs an angle encoder, not 'amplitude': use engine='statevector' or 'folded'")
    _check_readout(n_wires, n_layers, ansatz, readout)
    if noise is not None and not noise.is_readout_only:
        method = noise.choose_method(n_wires)
        if method == "density" and engine != "auto":
            raise ValueError(
                f"engine={engine!r} knows no density matrix: use engine='auto', or noise.method='trajectories'"
            )


def _check_readout(n_wires: int, n_layers: int, ansatz: str, readout: str) -> None:
    if ansatz in ("pooling", "qcnn") and n_layers > max(n_wires - 1, 0).bit_length():
        raise ValueError(
            f"ansatz={ansatz!r} halves the wires in each layer: {n_wires} wires take n_layers of at most "
            f"{(n_wires - 1).bit_length()}, got {n_layers}"
        )
    n_measured = len(ANSATZES[ansatz].measured(n_wires, n_layers))
    if readout == "zz" and n_measured < 2:
        raise ValueError("readout='zz' needs two measured wires at least: use readout='z'")
    if readout == "probabilities" and n_measured > MAX_PROBABILITY_WIRES:
        raise ValueError(
            f"readout='probabilities' of {n_measured} wires is 2^{n_measured} outputs, "
            f"at most {MAX_PROBABILITY_WIRES} wires: use readout='z' or 'zz'"
        )
