"""What a run calls its data set, its model and its optimizer."""

from collections.abc import Iterable
from typing import Any

from omegaconf import DictConfig, OmegaConf

from hqcnn_lab.config.key import key_of


def choice_name(group: str, choice: str | None, target: str | None, overrides: Iterable[str]) -> str:
    """The choice from `conf/<group>/`; the class where there is none, or where an override put another in its place."""
    given = {key_of(line) for line in overrides}
    if choice is not None and f"{group}._target_" not in given:
        return choice
    return str(target).rpartition(".")[2].removesuffix("DataModule").lower()


def _called(group: str, *, _root_: DictConfig) -> str:
    from hydra.core.hydra_config import HydraConfig

    hydra = HydraConfig.get()  # outside of Hydra there are no choices, and its error says so
    given: Any = OmegaConf.to_container(hydra.overrides.task, resolve=False)  # as typed: `${…}` is of another place
    return choice_name(group, hydra.runtime.choices[group], _root_[group].get("_target_"), given)


OmegaConf.register_new_resolver("called", _called, replace=True)  # for `name` in conf/config.yaml
