"""A single run of the command line: continue or begin it, and say in one line how it ended early."""

import signal
import sys
from contextlib import suppress
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from hqcnn_lab.distributed import is_follower
from hqcnn_lab.run.early_end import how_to_go_on, why_it_ended


def run_single(config: DictConfig) -> float | None:
    """Train, and say in one line why it ended early; the traceback is in `status.json`.

    Call it where Hydra has read the line. With `resume=auto`, None where there is nothing to do.
    """
    from hqcnn_lab.run.resume import continue_run
    from hqcnn_lab.run.training import train

    try:
        if config.resume and not is_follower() and not continue_run(config, config.paths.runs_dir):
            return None
        return train(config)
    except SystemExit as end:
        if end.code in (128 + signal.SIGINT, 128 + signal.SIGTERM) and not is_follower():
            print(f"interrupted; {how_to_go_on(config)}", flush=True)
        raise
    except Exception as error:
        if (reason := why_it_ended(error, Path(config.paths.output_dir))) is None:
            raise
        sys.exit(f"error: {config.name}: {reason}")
    finally:
        for folder in (config.paths.output_dir, HydraConfig.get().runtime.output_dir):
            with suppress(OSError):
                Path(folder).rmdir()  # Hydra made it, and it is still empty
