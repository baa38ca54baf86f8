"""The checkpoint of the best epoch, across interruptions."""

import shutil
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint

from hqcnn_lab.distributed import is_follower
from hqcnn_lab.record.whole_file import whole_file


class BestCheckpoint(ModelCheckpoint):
    """`best.ckpt`: the epoch whose monitored validation metric was highest.

    A resumed run writes to a folder of its own, and Lightning's `ModelCheckpoint` would forget there which epoch was
    best so far; this one takes its checkpoint along.
    """

    def __init__(self, dirpath: str, monitor: str) -> None:
        super().__init__(
            dirpath=dirpath,
            filename="best",
            monitor=monitor,
            mode="max",
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        before = Path(state_dict["best_model_path"])
        if state_dict["dirpath"] != self.dirpath and before.is_file():
            own_path = Path(str(self.dirpath)) / before.name
            if not is_follower():
                own_path.parent.mkdir(parents=True, exist_ok=True)
                with whole_file(own_path) as scratch:
                    shutil.copyfile(before, scratch)
            best = {str(own_path): state_dict["best_model_score"]}
            paths = {"dirpath": self.dirpath, "best_model_path": str(own_path), "kth_best_model_path": str(own_path)}
            state_dict = state_dict | paths | {"best_k_models": best, "last_model_path": ""}
        super().load_state_dict(state_dict)
