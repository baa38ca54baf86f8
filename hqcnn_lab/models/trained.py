"""A trained network from a run folder or a checkpoint file, ready to look at images."""

from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hqcnn_lab.build import BuildError, build, untrusted_targets
from hqcnn_lab.data.source import clinical
from hqcnn_lab.error import first_line
from hqcnn_lab.models.network import NETWORKS
from hqcnn_lab.record.run_folder import RunFolder, flat

MOST = 100_000  # of anything in a network's description; building what a hostile one asks for could take all memory


class UnusableRun(ValueError):
    """A run or a checkpoint that no network can be taken from; the message is one line that says why."""


@dataclass(frozen=True)
class TrainedModel:
    """What a checkpoint holds: the network in eval mode, on the GPU where there is one, and what belongs to it.

    `classes` is the order of the logits. `folder` and `config` are the run folder and its configuration, both None for
    a checkpoint that lies in none.
    """

    net: nn.Module
    classes: list[str]
    image_size: int
    epoch: int
    checkpoint: Path
    folder: Path | None
    config: dict[str, Any] | None

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next((weights.device for weights in self.net.parameters()), torch.device("cpu"))

    @property
    def by_series(self) -> bool:
        """Whether it was trained on images scaled series by series; told by the classes, which only REMBRANDT has."""
        return self.classes == [name.lower() for name in clinical.CLASSES]

    @torch.inference_mode()
    def is_brain(self, images: np.ndarray) -> Tensor | None:
        """`[N]`, the probability that a brain is shown; None of a network that does not tell (`TwoStage` does)."""
        if not hasattr(self.net, "is_brain"):
            return None
        net: Any = self.net
        return net.is_brain(torch.from_numpy(np.asarray(images, np.float32)).unsqueeze(1))

    @torch.inference_mode()
    def logits(self, images: np.ndarray, batch_size: int = 256) -> Tensor:
        """`[N, n_classes]` on the CPU, of images `[N, image_size, image_size]` in [0, 1]; N may be 0.

        In the precision that the run was tested in; float32 where no configuration says.
        """
        logits = [torch.zeros(0, len(self.classes))]
        dtype = self._tested_in()
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            for start in range(0, len(images), batch_size):
                batch = torch.tensor(images[start : start + batch_size], device=self.device)  # may be mapped from disk
                logits.append(self.net(batch.float().unsqueeze(1)).float().cpu())
        return torch.cat(logits)

    def _tested_in(self) -> torch.dtype | None:
        """The narrower type of the run's test, if any: on a CPU, Lightning takes bfloat16 for float16."""
        trainer = self.config["trainer"] if self.config else {}
        precision = trainer.get("precision")
        if precision == "16-mixed" and trainer.get("accelerator") != "cpu":
            assert self.folder is not None  # as there is a configuration
            on_cpu = RunFolder(self.folder).environment.get("device") == "cpu"
            return torch.bfloat16 if on_cpu else torch.float16
        return torch.bfloat16 if precision in ("16-mixed", "bf16-mixed") else None


def load_run(path: str | Path, checkpoint: str = "last") -> TrainedModel:
    """Load `<path>/checkpoints/<checkpoint>.ckpt` of a run folder, or `path` where it is a checkpoint itself.

    The weights are those that the run was judged by: averaged, where it averaged them. Imports no Lightning. Nothing in
    a checkpoint is run: it is read as plain data, and may name a network of this lab and no other object. Raises
    `UnusableRun`, whose message begins with what is wrong, not with the path.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        file = path / "checkpoints" / f"{checkpoint}.ckpt"
        if not file.is_file():
            is_run = (path / "config.yaml").is_file()
            raise UnusableRun(f"there is no checkpoints/{checkpoint}.ckpt in it" + ("" if is_run else ", nor a run"))
    elif path.is_file():
        file = path
    else:
        raise UnusableRun("there is no such run folder or checkpoint file")
    content = _read(file)
    arguments = content["hyper_parameters"]
    net = _network(arguments)
    try:
        net.load_state_dict({k[4:]: v for k, v in content["state_dict"].items() if k.startswith("net.")})
    except (RuntimeError, TypeError, AttributeError, ValueError) as error:
        reason = " ".join(str(error).split("\n")[1:2]).strip() or first_line(error)
        raise UnusableRun(
            f"its weights do not fit {arguments['model']['_target_']} and {len(arguments['classes'])} classes: "
            f"another version's, or changed ({reason[:120]})"
        ) from None
    if not all(torch.isfinite(weights).all() for weights in net.parameters()):
        raise UnusableRun("its weights are not all finite numbers: the run diverged")
    _try_out(net.eval(), arguments["image_size"])
    net.to("cuda" if torch.cuda.is_available() else "cpu")
    folder = file.parent.parent if file.parent.name == "checkpoints" else None
    config = None if folder is None else _config(folder / "config.yaml")
    return TrainedModel(
        net,
        list(arguments["classes"]),
        arguments["image_size"],
        int(content.get("epoch", -1)) + 1,
        file,
        folder if config is not None else None,
        config,
    )


def _read(file: Path) -> dict[str, Any]:
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError:
        raise UnusableRun("not a checkpoint, or refused: it holds more than plain data") from None
    except PermissionError:
        raise UnusableRun(f"you may not read {file.name}") from None
    except Exception:  # whatever torch and zipfile call it
        raise UnusableRun(f"{file.name} is no readable checkpoint: truncated, or another kind of file") from None
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        raise UnusableRun("not a checkpoint of this lab: there is no state_dict in it")
    arguments = content.get("hyper_parameters")
    arguments = arguments if isinstance(arguments, dict) else {}
    for key, kind in {"model": dict, "classes": list, "image_size": int}.items():
        if not isinstance(arguments.get(key), kind):
            raise UnusableRun(f"not a checkpoint of this version of the lab: its hyper_parameters lack {key}")
    if len(arguments["classes"]) < 2 or not all(isinstance(name, str) for name in arguments["classes"]):
        raise UnusableRun("its classes are not two names or more")
    if not isinstance(content.get("epoch", -1), int):
        raise UnusableRun("its epoch is not a whole number")
    return content


def _network(arguments: dict[str, Any]) -> nn.Module:
    spec = arguments["model"]
    for key, name in untrusted_targets(spec, "model"):
        raise UnusableRun(f"{key}={name} is refused: a checkpoint may only name {' or '.join(NETWORKS)}")
    if (target := spec.get("_target_")) not in NETWORKS:
        raise UnusableRun(f"model._target_={target} is unknown: this version has {', '.join(NETWORKS)}")
    sizes = {**dict(flat(spec, "model.")), "image_size": arguments["image_size"]}
    for key, value in sizes.items():
        numbers = value if isinstance(value, list | tuple) else [value]
        if not key.endswith("seed") and any(isinstance(number, int) and number > MOST for number in numbers):
            raise UnusableRun(f"{key} is above {MOST:,}: no network of this lab is that large")
    try:
        return build(spec, n_classes=len(arguments["classes"]), image_size=arguments["image_size"])
    except BuildError as error:
        raise UnusableRun(f"its network cannot be built, perhaps of another version: {first_line(error)}") from None


def _try_out(net: nn.Module, image_size: int) -> None:
    """What can be built may still fail, as with a rate of dropout that is not a number."""
    try:
        with torch.inference_mode(), torch.random.fork_rng(devices=[]):
            net(torch.zeros(1, 1, image_size, image_size))
    except Exception as error:
        raise UnusableRun(f"its network fails on an image: {first_line(error)[:120]}") from None


def _config(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    run = RunFolder(path.parent)
    if not all(run.config.get(key) for key in ("dataset", "model", "trainer")):
        raise UnusableRun(f"its {path.name} {run.problems.get(path.name, 'lacks dataset, model or trainer')}")
    return run.config
