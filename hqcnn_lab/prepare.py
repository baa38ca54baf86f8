"""Download, decode and audit a data set, or export the phantom: `python -m hqcnn_lab.prepare --help`."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from hqcnn_lab.config.check import check_dataset, check_values
from hqcnn_lab.config.command import check_used, read_overrides
from hqcnn_lab.config.command_line import check_command_line
from hqcnn_lab.config.compose import compose
from hqcnn_lab.error import ConfigError, first_line
from hqcnn_lab.record.whole_file import whole_folder

DESCRIPTION = """\
Prepare a data set before training: download it where its folder is absent, decode it once into the cache that all runs
share, and look it over: counts, copies, patients on two sides, what gives the class away. Or export the phantom.

  python -m hqcnn_lab.prepare dataset=kaggle dataset.root=brain          decode and audit; download if brain/ is absent
  python -m hqcnn_lab.prepare dataset=kaggle dataset.root=brain dataset.split=grouped out=audit
  python -m hqcnn_lab.prepare dataset=rembrandt dataset.root=rembrandt dataset.clinical=clinical.csv
  python -m hqcnn_lab.prepare dataset=rembrandt dataset.root=rembrandt dataset.clinical=clinical.csv tcia=list.tcia
  python -m hqcnn_lab.prepare dataset=phantom export=dicom out=tree      or export=kaggle: the phantom in a real layout

An interrupted download or decoding goes on where it stopped. Where the data come from, and what is read: docs/data.md.
"""

# Keys of the groups that only training has a use for.
_UNUSED = ("dataset.augment", "dataset.balance", "dataset.batch_size", "dataset.seed", "seed")
_UNUSED += ("paths.output_dir", "paths.runs_dir", "paths.sweeps_dir")
# What an export calls the same.
_COUNTS = ("n_patients", "slices_per_series", "series_per_patient")
_IN_EXPORT = {"image_size": ("size",), "split_seed": ("seed",), "n_train": _COUNTS, "n_test": _COUNTS}


class PrepareError(RuntimeError):
    """What was asked for cannot be done; the message is one line."""


def main(argv: Sequence[str] | None = None) -> None:
    """Prepare what the command line asks for; a wrong one is answered in one line, with exit status 1."""
    overrides = read_overrides("hqcnn_lab.prepare", "prepare", DESCRIPTION, argv, _UNUSED)
    try:
        check_command_line(overrides, multirun=False, name="prepare", check=check_values)
        config = compose(overrides, "prepare")
        _check_used(overrides, config)
        if config.export.layout:
            _export(config)
        else:
            _prepare(config)
    except KeyboardInterrupt:
        sys.exit("error: interrupted; the same command goes on where this one stopped")
    except (ConfigError, OSError, PrepareError) as error:
        sys.exit(f"error: {first_line(error)}")


def _check_used(overrides: Sequence[str], config: DictConfig) -> None:
    """Raise `ConfigError` for a key that would be passed over, and name the one that does what was meant."""
    if config.export.layout and not config.dataset._target_.endswith("PhantomDataModule"):
        raise ConfigError("export: only the phantom can be exported; leave out dataset=")
    for line in overrides:
        key = line.lstrip("+~").partition("=")[0]
        group, _, name = key.rpartition(".")
        if config.export.layout and (group not in ("", "export") or key in ("tcia", "seed")):
            same = (name,) if name in config.export else _IN_EXPORT.get(name, ())
            instead = ", ".join(f"export.{name}=…" for name in same if name in config.export)
            raise ConfigError(f"{line}: nothing in an export depends on {key}; {instead or 'leave it out'}")
    check_used(overrides, _UNUSED)
    if config.tcia is not None and "clinical" not in config.dataset:
        raise ConfigError(f"tcia={config.tcia}: is for dataset=rembrandt")


def _export(config: DictConfig) -> None:
    from hqcnn_lab.data.phantom.write import export_dicom, export_kaggle

    if config.out is None:
        raise ConfigError(f"out=null: export={config.export.layout} needs a new folder, out=…")
    options: dict[str, Any] = OmegaConf.to_container(config.export, resolve=True)
    layout = options.pop("layout")
    try:
        out = {"dicom": export_dicom, "kaggle": export_kaggle}[layout](config.out, **options)
    except ValueError as error:
        raise ConfigError(f"export={layout}: {first_line(error)}") from None
    print(f"written to {out}")
    if layout == "dicom":
        print(f"use it: dataset=rembrandt dataset.root={out} dataset.clinical={out / 'clinical.csv'}")
    else:
        print(f"use it: dataset=kaggle dataset.root={out}")


def _prepare(config: DictConfig) -> None:
    from hqcnn_lab.build import BuildError, build
    from hqcnn_lab.data.datamodule import UnusableData
    from hqcnn_lab.data.decode.cache import CacheError
    from hqcnn_lab.data.split.audit import describe

    out = None if config.out is None else Path(config.out).expanduser()
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"out={out}: is there already and not empty; nothing is ever overwritten")
    if "root" in config.dataset:
        _download(config)
    check_dataset(config.dataset)  # before hours of decoding
    try:
        data = build(OmegaConf.to_container(config.dataset, resolve=True))
        data.prepare_data()
        data.setup()
    except (BuildError, CacheError, UnusableData) as error:
        raise PrepareError(first_line(error)) from None
    audit = data.audit()
    lines = describe(audit) if audit else data.describe()
    print("\n".join([*lines, *data.not_used()]), flush=True)
    if out is not None:
        _write(out, data, audit)


def _download(config: DictConfig) -> None:
    """Where the root is absent or empty, and where a manifest says what should be in it."""
    from hqcnn_lab.data.source.download import DownloadError, fetch_kaggle, fetch_rembrandt

    root, is_rembrandt = config.dataset.root, "clinical" in config.dataset
    if root is None:
        raise ConfigError("dataset.root=null: not set; give the folder of the data, or a new one to download to")
    path = Path(root).expanduser()
    is_absent = not path.exists() or (path.is_dir() and not any(path.iterdir()))
    if is_rembrandt and config.dataset.clinical is None:
        raise ConfigError("dataset.clinical=null: not set; give the table that tells patients' classes: docs/data.md")
    try:
        if is_rembrandt and (is_absent or config.tcia is not None):
            fetch_rembrandt(path, config.tcia)
        elif is_absent:
            fetch_kaggle(path)
    except DownloadError as error:
        raise PrepareError(f"dataset.root={root}: {first_line(error)}") from None


def _write(out: Path, data: Any, audit: Any) -> None:
    with whole_folder(out) as scratch:
        (scratch / "split_manifest.csv").write_text(data.manifest_text(), encoding="utf-8")
        if audit:
            (scratch / "audit.json").write_text(json.dumps(asdict(audit), indent=2) + "\n")
    print(f"written to {out}")


if __name__ == "__main__":
    main()
