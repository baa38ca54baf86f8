"""What a circuit may be — plain names and numbers, so that a configuration is checked without importing torch."""

ENGINES = ("auto", "folded", "torchquantum")
ANSATZES = ("hardware_efficient",)

# What a sample keeps for the backward pass grows as 2ⁿ: at 16 wires and 2 layers 10 MB with "folded", 43 MB with
# "torchquantum", which keeps a state per gate.
MAX_WIRES = {"auto": 16, "folded": 16, "torchquantum": 16}
MAX_MODULE_WIRES = 10  # FoldedModule always makes the unitary: 4ⁿ numbers per gate


FOLD_WIRES = 7  # folded makes U(θ) up to here: 16384 samples at 4 wires are 2.3x faster, 2048 at 7 1.3x, at 8 slower


def bytes_per_sample(n_wires: int, n_layers: int, engine: str = "auto") -> float:
    """About what a sample keeps for the backward pass, in complex64 states of 2ⁿ: measured at 16 wires and 2 layers."""
    if choose_engine(engine) == "folded":
        states = 3 if n_wires <= FOLD_WIRES else 10 * n_layers
    else:
        states = 3 * n_wires * n_layers
    return states * 8 * 2**n_wires


def choose_engine(engine: str) -> str:
    """The engine that will really run: "auto" is "folded", the faster one at every size measured, 1 to 16 wires.

    The figures come from benchmarks/quantum.py; a faster engine for some sizes belongs in here.
    """
    return "folded" if engine == "auto" else engine


def check_count(name: str, value: object, minimum: int = 1) -> None:
    """Raise ValueError unless `value` is a whole number of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ValueError(f"{name} must be a whole number of at least {minimum}, got {value!r}")


def check_circuit(n_wires: int, n_layers: int, ansatz: str, engine: str, *, wires_from: str = "n_wires") -> None:
    """Raise a one-line ValueError if no engine can run this circuit.

    `wires_from` names, in the message, what the user must change: a convolution has no `n_wires` argument.
    """
    check_count(wires_from, n_wires)
    check_count("n_layers", n_layers)
    if ansatz not in ANSATZES:
        raise ValueError(f"ansatz must be one of {', '.join(ANSATZES)}; got {ansatz!r}")
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}; got {engine!r}")
    limit = MAX_WIRES[engine]
    if n_wires > limit:
        raise ValueError(
            f"{wires_from} = {n_wires} wires, but engine={engine!r} takes at most {limit}: use several smaller circuits"
        )
