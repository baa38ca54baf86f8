"""What a run needs, imported in the process that every run is forked from, before any thread: so the fork is safe."""

# ruff: noqa: F401

from hqcnn_lab.lightning_import_private import import_lightning

import_lightning(with_compiler=True)

import lightning.pytorch.loggers  # noqa: E402

import hqcnn_lab.callbacks  # noqa: E402
import hqcnn_lab.data.phantom_datamodule  # noqa: E402
import hqcnn_lab.models.hqcnn  # noqa: E402
import hqcnn_lab.record.run_record  # noqa: E402
import hqcnn_lab.run.resume  # noqa: E402
import hqcnn_lab.run.summary  # noqa: E402
import hqcnn_lab.run.training  # noqa: E402
import hqcnn_lab.sweep.jobs  # noqa: E402
