"""Whether a checkpoint is one that a run can continue from."""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from hqcnn_lab.config.key import flat_keys, select
from hqcnn_lab.error import ConfigError, first_line


def check_checkpoint(path: str, config: DictConfig) -> None:
    """Raise `ConfigError` where it is not whole, not plain data, or not of the very model and optimizer asked for."""
    if not Path(path).is_file():
        raise ConfigError(
            f"ckpt_path={path}: there is no such file; a run folder keeps its own in checkpoints/last.ckpt"
        )
    import torch

    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        # Whatever torch, zipfile or pickle call it, to the user it is one thing: this file cannot be read.
        raise ConfigError(
            f"ckpt_path={path}: not a readable checkpoint, truncated or not one ({first_line(error)[:80]})"
        ) from None
    checkpoint = checkpoint if isinstance(checkpoint, dict) else {}
    past = checkpoint.get("hyper_parameters")
    past = past if isinstance(past, dict) else {}
    has_weights = isinstance(checkpoint.get("state_dict"), dict) and checkpoint["state_dict"]
    parts, choices = {"optimizer_states", "loops", "epoch"}, {"model", "optim", "scheduler"}
    if not has_weights or not parts <= set(checkpoint) or not choices <= set(past):
        raise ConfigError(f"ckpt_path={path}: has no weights, model, optimizer or loop state, it cannot be continued")
    try:
        n_trained = int(checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])
        len(checkpoint["optimizer_states"])
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        raise ConfigError(f"ckpt_path={path}: what it says of its epochs and optimizer is not a run's") from None
    if n_trained >= config.trainer.max_epochs and not config.resume:  # resume=auto goes on to the test
        raise ConfigError(
            f"ckpt_path={path}: its {n_trained} epochs are trained; "
            f"trainer.max_epochs={config.trainer.max_epochs} leaves none to do"
        )
    for epoch in (epoch for epoch in config.test_after if epoch <= n_trained):
        if not (kept := Path(path).parent / f"epoch_{epoch}.ckpt").is_file():
            raise ConfigError(
                f"test_after={config.test_after}: epoch {epoch} is trained and {kept} is not there; leave it out, or "
                "train anew"
            )
    if ("current_model_state" in checkpoint) != bool(config.callbacks.get("weight_average")):
        raise ConfigError(
            f"ckpt_path={path}: callbacks.weight_average must be on, or null, as it was when this was written"
        )
    same = {part: OmegaConf.to_container(config[part], resolve=True) for part in ("model", "optim", "scheduler")}
    now = OmegaConf.create(same | {"label_smoothing": config.label_smoothing})
    before = OmegaConf.create({key: past.get(key) for key in now})
    for key in dict.fromkeys([*flat_keys(before), *flat_keys(now)]):
        old, new = select(before, key), select(now, key)
        if old != new and not isinstance(old, DictConfig):
            raise ConfigError(f"ckpt_path={path}: was trained with {key}={old}, not {new}; ask for the same again")
