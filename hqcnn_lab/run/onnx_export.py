"""An export: a run's network as an ONNX file that gives the same answers."""

from importlib.util import find_spec
from pathlib import Path

from omegaconf import DictConfig

from hqcnn_lab.config.check import check_values
from hqcnn_lab.config.new_path import check_new, free_name
from hqcnn_lab.error import ConfigError
from hqcnn_lab.record.whole_file import whole_file
from hqcnn_lab.run.find_run import find_run, load

TOLERANCE = 1e-4  # of a logit
_NEEDED = ("onnx", "onnxscript", "onnxruntime")


class ExportError(ValueError):
    """What was asked for cannot be done; the message is one line."""


def check_export(config: DictConfig) -> None:
    """Raise `ConfigError` for what cannot be asked for, before anything is loaded."""
    check_values(config)
    find_run(config)
    if config.out is not None:
        if Path(config.out).suffix != ".onnx":
            raise ConfigError(f"out={config.out}: must be a new file that ends in .onnx")
        check_new(Path(config.out).expanduser())
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise ConfigError(f'an export needs {", ".join(missing)}; pip install "hqcnn-lab[export]"')


def export(config: DictConfig) -> None:
    """Write the network that `config` names; the file appears once onnxruntime gives the same logits.

    Raises `ExportError` for a network that cannot be exported, or whose file differs.
    """
    from hqcnn_lab.models.onnx_file import NotExportable, largest_difference, write_onnx

    trained = load(config)
    name = (trained.folder or trained.checkpoint).resolve().name.removesuffix(".ckpt")
    out = free_name(Path(f"{name}.onnx")) if config.out is None else Path(config.out).expanduser()
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(out) as scratch:
        try:
            write_onnx(trained, scratch)
        except NotExportable as error:
            raise ExportError(f"run={trained.checkpoint}: {error}") from None
        difference = largest_difference(trained, scratch)
        if not difference <= TOLERANCE:
            raise ExportError(f"out={out}: not written, its logits differ by {difference:.2g} from the original's")
    print(f"written to {out}: {out.stat().st_size / 2**20:.1f} MiB, logits within {difference:.1g} of the original's")
