"""Download, decode and audit a data set, or write the phantom as files: `python -m hqcnn_lab.prepare --help`."""

from collections.abc import Sequence

from hqcnn_lab.config.command import errors_in_one_line, read_overrides
from hqcnn_lab.run.preparation import UNUSED, PrepareError, prepare

DESCRIPTION = """\
Prepare a data set before training: download it where its folder is absent, decode it once into the cache that all runs
share, and look it over: counts, copies, patients on two sides, what gives the class away. Or write the phantom's files.

  python -m hqcnn_lab.prepare dataset=kaggle dataset.root=brain          decode and audit; download if brain/ is absent
  python -m hqcnn_lab.prepare dataset=kaggle dataset.root=brain dataset.split=grouped out=audit
  python -m hqcnn_lab.prepare dataset=rembrandt dataset.root=rembrandt dataset.clinical=clinical.csv
  python -m hqcnn_lab.prepare dataset=rembrandt dataset.root=rembrandt dataset.clinical=clinical.csv tcia=list.tcia
  python -m hqcnn_lab.prepare dataset=phantom write=dicom out=tree       or write=kaggle: the phantom in a real layout

An interrupted download or decoding goes on where it stopped. Where the data come from, and what is read: docs/data.md.
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Prepare what the command line asks for; a wrong one is answered in one line, with exit status 1."""
    overrides = read_overrides("hqcnn_lab.prepare", "prepare", DESCRIPTION, argv, UNUSED)
    interrupted = "interrupted; the same command goes on where this one stopped"
    with errors_in_one_line(PrepareError, interrupted=interrupted):
        prepare(overrides)


if __name__ == "__main__":
    main()
