"""Look over an installation: `python -m hqcnn_lab.doctor` says what works, what is missing and how to get it."""

import argparse
import sys
from collections.abc import Sequence

from hqcnn_lab.run.installation import look_over


def main(argv: Sequence[str] | None = None) -> None:
    """Print the report; exit status 1 where something needed is broken."""
    argparse.ArgumentParser(prog="python -m hqcnn_lab.doctor", description=__doc__).parse_args(argv)
    sys.exit(0 if look_over() else 1)


if __name__ == "__main__":
    main()
