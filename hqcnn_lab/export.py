"""Export a trained network as ONNX, checked against the original: `python -m hqcnn_lab.export --help`."""

from collections.abc import Sequence

from hqcnn_lab.config.command import run_command
from hqcnn_lab.run.find_run import UNUSED
from hqcnn_lab.run.onnx_export import ExportError, check_export, export

DESCRIPTION = """\
Write the network of a run as an ONNX file, for any runtime, in any language: images [batch, 1, side, side] in [0, 1]
to logits [batch, classes], in float32, for batches of every size. Its circuits are in it exactly, as products of real
matrices. The file appears only after onnxruntime gave the same logits as the original, to 1e-4. Classes, side and how
an image is prepared are in its metadata: docs/predict.md.

  python -m hqcnn_lab.export run=latest                  the newest run that has finished; to <its name>.onnx
  python -m hqcnn_lab.export run=runs/… out=model.onnx
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Export what the command line asks for; a wrong one is answered in one line, with exit status 1."""
    run_command(
        "hqcnn_lab.export",
        "export",
        DESCRIPTION,
        export,
        argv,
        check=check_export,
        unused=UNUSED,
        errors=(ExportError,),
    )


if __name__ == "__main__":
    main()
