"""A run is called by what it trains: in its name, on a dashboard and in a table of runs."""

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from hqcnn_lab.analysis.row import described
from hqcnn_lab.config.compose import compose
from hqcnn_lab.run.tracking import _labels


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "optim", "model"),
    [
        (["optim=adam"], "adam", "hqcnn"),
        (["optim=schedule_free_sgd", "model=hqcnn_twin"], "schedule_free_sgd", "hqcnn_twin"),
        # Regression: it was called adam.
        (["optim=adam", "optim._target_=torch.optim.NAdam"], "nadam", "hqcnn"),
        (["++optim._target_=torch.optim.NAdam"], "nadam", "hqcnn"),
    ],
)
def test_a_run_is_called_by_what_it_trains(overrides: list[str], optim: str, model: str) -> None:
    with_hydra = compose([*overrides, "hydra.run.dir=unused"], with_hydra=True)
    HydraConfig.instance().set_config(with_hydra)
    try:
        assert with_hydra.name == f"phantom_{model}_{optim}_s0"
        config = compose([*overrides, "name=x", "paths.output_dir=x"])
        plain = OmegaConf.to_container(config, resolve=True)
        assert _labels(plain, "official", {})["group"] == f"phantom_{model}_{optim}"
    finally:
        HydraConfig.instance().cfg = None
    row = described(plain, overrides, "folder")
    assert (row["optim"], row["model"]) == (optim, model)
