"""Make a W&B workspace of this lab's runs, as code: `python -m hqcnn_lab.dashboard --help`."""

from collections.abc import Sequence

from hqcnn_lab.config.command import run_command
from hqcnn_lab.run.wandb_workspace import DashboardError, check_dashboard, make_dashboard

DESCRIPTION = """\
Make a W&B workspace for runs of hqcnn_lab.train: accuracy, convergence, gradient variance of the quantum against the
classical part, what the optimizer did, the system.

  python -m hqcnn_lab.dashboard out=dashboard.json            as JSON, without a server
  python -m hqcnn_lab.dashboard offline=false entity=my-team  saved as a view of my-team/hqcnn_lab (needs `wandb login`)

"""


def main(argv: Sequence[str] | None = None) -> None:
    """Make what the command line asks for; a wrong one is answered in one line, with exit status 1."""
    run_command(
        "hqcnn_lab.dashboard",
        "dashboard",
        DESCRIPTION,
        make_dashboard,
        argv,
        check=check_dashboard,
        errors=(DashboardError,),
    )


if __name__ == "__main__":
    main()
