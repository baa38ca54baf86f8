"""What the arguments of an optimizer or a schedule may be. Free of torch, for a quick check of a configuration."""

from hqcnn_lab.limit import POSITIVE, PROBABILITY, SHARE, Limit, Limits, at_least, between, count, each

_RATE = at_least(0)  # 0 holds a group where it is
_DECAY = between(0, 1)  # of a running average
_BETAS = each(_DECAY, "two numbers, each at least 0 and below 1", range(2, 3))

# Of every optimizer, those of torch and other libraries too, and of `parameter_groups`.
ANY: Limits = {
    "lr": _RATE,
    "quantum_lr": _RATE.or_left_out(),
    "weight_decay": at_least(0),
    "momentum": _DECAY,
    "betas": _BETAS,
    "eps": POSITIVE,
}

GVCO: Limits = {
    "lr": _RATE,
    "momentum": Limit(lambda x: 0 < x < 1, "above 0 and below 1"),
    "rho": _DECAY,
    "centering": PROBABILITY,
    "tau": POSITIVE.or_left_out(),
    "least_size": POSITIVE.or_left_out(),
    "walk": POSITIVE.or_left_out(),
    "recency": at_least(0),
    "warmup": count(0),
    "eps": POSITIVE,
    "weight_decay": at_least(0),
}
QNG: Limits = {"lr": _RATE, "damping": POSITIVE, "betas": _BETAS, "weight_decay": at_least(0)}
SPSA: Limits = {
    "lr": _RATE,
    "c": POSITIVE,
    "gamma": at_least(0),
    "n_directions": count(1),
    "betas": _BETAS,
    "weight_decay": at_least(0),
}
# The average is found from the point that is trained, by a division by the first.
SCHEDULE_FREE: Limits = {
    "betas": Limit(
        lambda x: _BETAS.holds(x) and x[0] > 0, "two numbers, each at least 0 and below 1, the first above 0"
    ),
    "momentum": SHARE,
    "warmup_steps": count(0),
}
WARMUP_COSINE: Limits = {"warmup": between(0, 1)}

# By the name of the class.
OF_OPTIMIZER: dict[str, Limits] = {"GVCO": GVCO, "QNG": QNG, "SPSA": SPSA}
# By the module, of classes that are not this lab's.
OF_LIBRARY: dict[str, Limits] = {"schedulefree": SCHEDULE_FREE}
OF_SCHEDULE: dict[str, Limits] = {"WarmupCosine": WARMUP_COSINE}
