"""One judge for each argument: what the check of a configuration refuses the class refuses, and the other way round."""

import inspect
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from hqcnn_lab import models, optim
from hqcnn_lab.config.check import check_values
from hqcnn_lab.config.combination import check_combination
from hqcnn_lab.config.compose import compose
from hqcnn_lab.config.conf_files import CONFIG_DIR, options_of
from hqcnn_lab.data import Augment, KaggleDataModule, PhantomDataModule, RembrandtDataModule
from hqcnn_lab.data.limits import AUGMENT, DATASET, WRITE
from hqcnn_lab.data.phantom.write import write_dicom, write_kaggle
from hqcnn_lab.error import ConfigError
from hqcnn_lab.limit import Limits, count
from hqcnn_lab.models.limits import OF_NETWORK, check_arguments
from hqcnn_lab.optim.limits import ANY, OF_OPTIMIZER, OF_SCHEDULE
from hqcnn_lab.quantum.limits import CIRCUIT, check_circuit
from hqcnn_lab.quantum.noise import NOISE, Noise

# None is left out: in a configuration it says that an argument is not given.
EDGES = (
    *(math.nan, math.inf, -math.inf, -1, -1.0, 0, 0.0, 1e-300, 1e-19, 0.5, 1, 1.0, 1.5, 2, 3, 16, 64, 1000, 1001),
    *(2**32, 1e308, 10**400, True, False, [], [0.5], [0.9, 1.0], [0.9, 0.99], [True, 0.5], [8], [0], {}),
    *("", "abc", "1", "element", "random", "amplitude", "z", "folded", "parameter_shift", "density", "loss", "grouped"),
)


def parameters() -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.ones(2))]


def choice_of(group: str, class_name: str) -> str:
    """The file of conf/ whose class this is."""
    for name in options_of(group):
        if str(OmegaConf.load(CONFIG_DIR / group / f"{name}.yaml").get("_target_")).endswith(f".{class_name}"):
            return name
    raise LookupError(class_name)


def optimizer(name: str) -> Callable[..., Any]:
    return lambda **given: getattr(optim, name)(parameters(), **given)


def groups(**given: Any) -> Any:
    return optim.parameter_groups(torch.nn.Linear(1, 1), **({"lr": 1.0} | given))


def schedule(**given: Any) -> Any:
    return optim.WarmupCosine(torch.optim.SGD(parameters(), lr=1.0), total_steps=10, **given)


def circuit(**given: Any) -> Any:
    return check_circuit(4, **({"n_layers": 2} | given))


def kaggle(**given: Any) -> Any:
    return KaggleDataModule(None, "cache", **given)


def rembrandt(**given: Any) -> Any:
    return RembrandtDataModule(None, "cache", None, **given)


def taken(limits: Limits, *names: str) -> Limits:
    return {name: limits[name] for name in names}


CASES: list[tuple[list[str], str, Limits, Callable[..., Any]]] = [
    *(([f"optim={choice_of('optim', name)}"], "optim", its, optimizer(name)) for name, its in OF_OPTIMIZER.items()),
    (["optim=gvco"], "optim", taken(ANY, "lr", "quantum_lr", "weight_decay"), groups),
    *((["scheduler=cosine"], "scheduler", limits, schedule) for limits in OF_SCHEDULE.values()),
    ([], "circuit", CIRCUIT, circuit),
    ([], "circuit.noise", NOISE, Noise),
    ([], "dataset.augment", AUGMENT, Augment),
    (
        ["dataset=phantom"],
        "dataset",
        taken(DATASET, "batch_size", "balance", "image_size", "n_train", "n_test", "split_seed", "val_fraction"),
        PhantomDataModule,
    ),
    (["dataset=kaggle"], "dataset", taken(DATASET, "batch_size", "split", "fold", "n_folds", "workers"), kaggle),
    (["dataset=rembrandt"], "dataset", taken(DATASET, "clinical_id", "clinical_class"), rembrandt),
]


def refusal(call: Callable[[], Any], kind: type[ValueError] = ValueError) -> str | None:
    """What a check says; None where it says nothing."""
    try:
        call()
    except kind as error:
        return str(error)
    return None


def judged_by_config(overrides: list[str], key: str, name: str = "config") -> Iterator[tuple[Any, str | None]]:
    """Each of `EDGES`, and what the check of a configuration says of it."""
    whole = compose([*(["name=a"] if name == "config" else []), *overrides], name)
    # Of the other parts, the check would say the same each time.
    config = OmegaConf.masked_copy(whole, [key.partition(".")[0]])
    for value in EDGES:
        OmegaConf.update(config, key, value, merge=False, force_add=True)
        said = refusal(lambda: check_values(config), ConfigError)
        assert said is None or said.startswith((f"{key}=", f"{key}[", f"{key}."))
        assert said is None or ": must be " in said
        yield value, said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "part", "limits", "make", "name"),
    [(*case, name) for case in CASES for name in case[2]],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_config_check_and_the_class_judge_alike(
    overrides: list[str], part: str, limits: Limits, make: Callable[..., Any], name: str
) -> None:
    # Regression: lr=0, tau=inf, eps=1e-19 and True were right to one of them and wrong to the other.
    judged = list(judged_by_config(overrides, f"{part}.{name}"))
    assert {said is None for _, said in judged} == {True, False}
    for value, said in judged:
        said_by_class = refusal(lambda value=value: make(**{name: value}))
        assert (said is None) == (said_by_class is None), f"{part}.{name}={value!r}: {said} and {said_by_class}"
        assert said_by_class is None or f"{name} must be " in said_by_class


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "name"), [(network, name) for network in OF_NETWORK for name in OF_NETWORK[network]]
)
def test_a_network_refuses_what_the_config_check_refuses(network: str, name: str) -> None:
    judged = list(judged_by_config([f"model={choice_of('model', network)}"], f"model.{name}"))
    made = getattr(models, network)
    needed = {"circuit": {"n_wires": 4, "n_layers": 2}, "runs": [], "network": {}}
    given = {key: value for key, value in needed.items() if key in inspect.signature(made).parameters}
    assert any(said for _, said in judged)
    for value, said in judged:
        if said:
            with pytest.raises(ValueError, match=f"^{network}: {name} must be "):
                made(n_classes=4, image_size=64, **given, **{name: value})
        else:  # to build a layer of a million neurons takes too long
            check_arguments(network, {name: value})


@pytest.mark.parametrize("name", WRITE)
def test_the_phantom_is_not_written_by_what_the_config_check_refuses(name: str, tmp_path: Path) -> None:
    layouts = {write_dicom: {"n_patients": 1, "slices_per_series": 1}, write_kaggle: {"n_train": 4, "n_test": 4}}
    wrong = [value for value, said in judged_by_config(["write=dicom"], f"write.{name}", "prepare") if said]
    assert wrong
    for write, least in layouts.items():
        for value in wrong if name in inspect.signature(write).parameters else []:
            with pytest.raises(ValueError, match=f"^{write.__name__}: {name} must be "):
                write(tmp_path / "new", **least | {name: value})
    assert list(tmp_path.iterdir()) == []


def test_a_second_stage_is_looked_at_as_a_first() -> None:
    config = compose(["name=a", "model=two_stage", "model.network.dropout=7"])
    with pytest.raises(ConfigError, match=r"^model\.network\.dropout=7: must be at least 0 and below 1$"):
        check_values(config)


def test_an_optimizer_of_torch_has_the_limits_of_all() -> None:
    config = compose(["name=a", "optim=adam", "+optim.eps=0"])
    with pytest.raises(ConfigError, match=r"^optim\.eps=0: must be a positive, finite number$"):
        check_values(config)
    check_values(compose(["name=a", "optim=adam", "+optim.eps=1e-30"]))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optim.lr=0"], "optim.lr=0: must be above 0, or nothing is trained"),
        (["optim.lr=0.0", "optim.quantum_lr=0"], "optim.lr=0.0: must be above 0, or nothing is trained"),
        (["optim.lr=0", "optim.quantum_lr=1", "model=cnn"], "optim.lr=0: must be above 0, or nothing is trained"),
        (["optim.lr=0", "optim.quantum_lr=1", "model.kernel=frozen"], "must be above 0, or nothing is trained"),
        (["optim.lr=0", "optim.quantum_lr=1"], None),
        (["optim.quantum_lr=0"], None),
    ],
)
def test_one_learning_rate_may_be_0_but_not_all(overrides: list[str], message: str | None) -> None:
    config = compose(["name=a", *overrides])
    check_values(config)
    if message is None:
        check_combination(config)
    else:
        with pytest.raises(ConfigError) as error:
            check_combination(config)
        assert message in str(error.value)


def test_a_learning_rate_of_0_holds_a_group_where_it_is() -> None:
    net = torch.nn.Linear(2, 1)
    before = net.weight.detach().clone()
    optimizer = optim.GVCO(optim.parameter_groups(net, lr=0.0))
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert torch.equal(net.weight, before)


def test_the_words_name_the_kind_where_the_value_is_not_of_it() -> None:
    words = ["at least 1", "a whole number, at least 1", "a whole number, at least 1"]
    assert [count(1).words_for(value) for value in (0, 0.5, True)] == words
    with pytest.raises(ValueError, match=r"^GVCO: tau must be a positive, finite number, or None; got inf$"):
        optim.GVCO(parameters(), tau=math.inf)
    optim.GVCO(parameters(), tau=None)


def test_a_wrong_line_is_answered_without_torch_and_lightning(tmp_path: Path) -> None:
    code = (
        "import contextlib, sys, runpy\n"
        "sys.argv = ['train', 'optim.lr=-1']\n"
        "try: runpy.run_module('hqcnn_lab.train', run_name='__main__')\n"
        "except SystemExit as end: print(end.code)\n"
        "slow = {'torch', 'lightning', 'numpy', 'wandb', 'scipy', 'pandas', 'sklearn', 'PIL', 'pydicom'}\n"
        "print(sorted(slow & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ["error: optim.lr=-1: must be at least 0", "[]"]


@pytest.mark.slow
def test_a_function_is_not_hidden_by_a_module_of_its_name() -> None:
    # `parameter_groups` would be a module from the first import on, if one had that name.
    code = (
        "import sys, hqcnn_lab.optim.limits\n"
        "assert 'torch' not in sys.modules\n"
        "import hqcnn_lab.optim.parameter_group, hqcnn_lab.optim as optim\n"
        "assert all(callable(getattr(optim, name)) for name in optim.__all__)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_numbers_of_numpy_are_numbers() -> None:
    """Regression: what a notebook has counted with NumPy was no whole number to the classes."""
    assert PhantomDataModule(n_train=np.int64(80), n_test=24, image_size=np.int64(16), batch_size=np.int64(8))
    assert models.KNN(4, 16, n_neighbors=np.int64(3))
    assert models.ANN(4, 16, hidden=np.array([8]))
    assert not count(1).holds(np.bool_(True))
