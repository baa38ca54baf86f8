"""A data set before any run of it: downloaded, decoded and audited; or the phantom, written in a real layout."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from hqcnn_lab.config.check import check_dataset, check_values
from hqcnn_lab.config.command import check_renamed, check_used
from hqcnn_lab.config.command_line import check_command_line
from hqcnn_lab.config.compose import compose
from hqcnn_lab.config.key import key_of, plain_values
from hqcnn_lab.error import ConfigError, first_line
from hqcnn_lab.record.whole_file import holds_something, whole_folder

if TYPE_CHECKING:
    from hqcnn_lab.data import ImageDataModule
    from hqcnn_lab.data.split.audit import Audit

# Keys that only training uses.
UNUSED = ("dataset.augment", "dataset.balance", "dataset.batch_size", "dataset.seed", "seed")
UNUSED += ("paths.output_dir", "paths.runs_dir", "paths.sweeps_dir")
# What the same is called in `write`.
_COUNTS = ("n_patients", "slices_per_series", "series_per_patient")
_IN_WRITE = {"image_size": ("size",), "split_seed": ("seed",), "n_train": _COUNTS, "n_test": _COUNTS}


class PrepareError(RuntimeError):
    """What was asked for cannot be done; the message is one line."""


def prepare(overrides: list[str]) -> None:
    """Do what `key=value` overrides of `conf/prepare.yaml` say.

    Raises `PrepareError` for a data set that cannot be had or read, `ConfigError` for what cannot be asked for.
    """
    check_renamed(overrides, {"export": "write"})
    check_command_line(overrides, multirun=False, name="prepare", check=check_values)
    config = compose(overrides, "prepare")
    _check_used(overrides, config)
    if config.write.layout:
        _write_phantom(config)
    else:
        _decode_and_audit(config)


def _check_used(overrides: Sequence[str], config: DictConfig) -> None:
    """Raise `ConfigError` for a key that would be passed over, and name the one that does what was meant."""
    if config.write.layout and not config.dataset._target_.endswith("PhantomDataModule"):
        raise ConfigError("write: only the phantom is written in another layout; leave out dataset=")
    for line in overrides:
        key = key_of(line)
        group, _, name = key.rpartition(".")
        if config.write.layout and (group not in ("", "write") or key in ("tcia", "seed")):
            same = (name,) if name in config.write else _IN_WRITE.get(name, ())
            instead = ", ".join(f"write.{name}=…" for name in same if name in config.write)
            raise ConfigError(f"{line}: nothing that is written depends on {key}; {instead or 'leave it out'}")
    check_used(overrides, UNUSED)
    if config.tcia is not None and "clinical" not in config.dataset:
        raise ConfigError(f"tcia={config.tcia}: is for dataset=rembrandt")


def _write_phantom(config: DictConfig) -> None:
    from hqcnn_lab.data.phantom.write import write_dicom, write_kaggle

    if config.out is None:
        raise ConfigError(f"out=null: write={config.write.layout} needs a new folder, out=…")
    options = plain_values(config.write)
    layout = options.pop("layout")
    try:
        out = {"dicom": write_dicom, "kaggle": write_kaggle}[layout](config.out, **options)
    except ValueError as error:
        raise ConfigError(f"write={layout}: {first_line(error)}") from None
    print(f"written to {out}")
    if layout == "dicom":
        print(f"use it: dataset=rembrandt dataset.root={out} dataset.clinical={out / 'clinical.csv'}")
    else:
        print(f"use it: dataset=kaggle dataset.root={out}")


def _decode_and_audit(config: DictConfig) -> None:
    from hqcnn_lab.build import BuildError, build
    from hqcnn_lab.data.datamodule import UnusableData
    from hqcnn_lab.data.decode.cache import CacheError
    from hqcnn_lab.data.split.audit import describe

    out = None if config.out is None else Path(config.out).expanduser()
    if out is not None and holds_something(out):
        raise ConfigError(f"out={out}: is there already and not empty; nothing is ever overwritten")
    if "root" in config.dataset:
        _download(config)
    check_dataset(config.dataset)  # before hours of decoding
    try:
        data = build(plain_values(config.dataset))
        data.prepare_data()
        data.setup()
    except (BuildError, CacheError, UnusableData) as error:
        raise PrepareError(first_line(error)) from None
    audit = data.audit()
    lines = describe(audit) if audit else data.describe()
    print("\n".join([*lines, *data.not_used()]), flush=True)
    if out is not None:
        _write_audit(out, data, audit)


def _download(config: DictConfig) -> None:
    """Where the root is absent or empty, and where a manifest says what should be in it."""
    from hqcnn_lab.data.source.download import DownloadError, fetch_kaggle, fetch_rembrandt

    root, is_rembrandt = config.dataset.root, "clinical" in config.dataset
    if root is None:
        raise ConfigError("dataset.root=null: not set; give the folder of the data, or a new one to download to")
    path = Path(root).expanduser()
    is_absent = not holds_something(path)
    if is_rembrandt and config.dataset.clinical is None:
        raise ConfigError("dataset.clinical=null: not set; give the table that tells patients' classes: docs/data.md")
    try:
        if is_rembrandt and (is_absent or config.tcia is not None):
            fetch_rembrandt(path, config.tcia)
        elif is_absent:
            fetch_kaggle(path)
    except DownloadError as error:
        raise PrepareError(f"dataset.root={root}: {first_line(error)}") from None


def _write_audit(out: Path, data: "ImageDataModule", audit: "Audit | None") -> None:
    with whole_folder(out) as scratch:
        (scratch / "split_manifest.csv").write_text(data.manifest_text(), encoding="utf-8")
        if audit:
            (scratch / "audit.json").write_text(json.dumps(asdict(audit), indent=2) + "\n")
    print(f"written to {out}")
