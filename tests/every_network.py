"""Every network there is, and the smallest run that any of them goes through."""

from hqcnn_lab.config.conf_files import CONFIG_DIR

MODELS = sorted(path.stem for path in (CONFIG_DIR / "model").glob("*.yaml"))
# Without what only costs time here: averages, further checkpoints, pictures.
QUICK = ["name=tiny", "callbacks.weight_average=null", "callbacks.best_checkpoint=null", "figures=false", "logger=none"]
QUICK += ["dataset.image_size=64", "dataset.batch_size=16", "dataset.n_train=40", "dataset.n_test=8"]
QUICK += ["trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.log_every_n_steps=1"]
