"""Run a declared comparison of optimizers or circuits and tabulate it: `python -m hqcnn_lab.study --help`."""

import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from hqcnn_lab.config.check import check_values
from hqcnn_lab.config.command import run_command
from hqcnn_lab.config.conf_files import CONFIG_DIR, options_of
from hqcnn_lab.config.path import check_folder
from hqcnn_lab.sweep.declaration import check_study
from hqcnn_lab.sweep.study import StudyError, run_study

DESCRIPTION = """\
Run a declared comparison: every arm under every condition. First each tries the same number of learning rates, on seeds
kept for that, and gets the one that is best on validation; then each runs at its own with fresh seeds. The test score
plays no part in the choice.

  python -m hqcnn_lab.study study=optimizers plan=true                 how many runs that is, and how many are done
  python -m hqcnn_lab.study study=optimizers                           on the phantom, in minutes
  python -m hqcnn_lab.study study=noise scale=kaggle scale.root=brain  on real images
  python -m hqcnn_lab.study study=depth ~study.arms.sgd '+study.arms.mine=["optim=adam","optim.betas=[0.8,0.99]"]'
  python -m hqcnn_lab.study study=depth 'overrides=["trainer.max_epochs=20"]' out=multirun/depth_long

An interrupted study goes on with the same command; runs are shared with every other study and none is done twice.

"""


def main(argv: Sequence[str] | None = None) -> None:
    """Run what the command line asks for; a wrong one is answered in one line, with exit status 1."""
    run_command(
        "hqcnn_lab.study",
        "study",
        DESCRIPTION + "\n".join(_choices()),
        _run,
        argv,
        check=_check,
        renamed={"sweep": "study"},
        errors=(StudyError,),
        interrupted="interrupted; the same command goes on where this one stopped",
    )


def _choices() -> Iterator[str]:
    yield "Studies (study=…):"
    for name in options_of("study"):
        yield f"  {name:<14} {OmegaConf.load(CONFIG_DIR / 'study' / f'{name}.yaml').question}"
    yield ""
    yield f"Scales (scale=…): {', '.join(options_of('scale'))}"


def _check(config: DictConfig) -> None:
    check_values(config)
    check_study(config)


def _run(config: DictConfig) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as a Ctrl-C does
    for key, folder in (("out", config.out), ("paths.sweeps_dir", config.paths.sweeps_dir)):
        check_folder(key, str(Path(folder).expanduser()))
    run_study(config)


if __name__ == "__main__":
    main()
