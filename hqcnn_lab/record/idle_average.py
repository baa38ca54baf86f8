"""A weight average without a decay is none."""

from omegaconf import DictConfig


def drop_idle_average(config: DictConfig) -> None:
    """Set `callbacks.weight_average` to null where its decay is, as it comes with an optimizer that averages by itself.

    In `conf/` the decay alone is null, so that `callbacks.weight_average.decay=…` turns the average on.
    """
    callbacks = config.get("callbacks")
    average = callbacks.get("weight_average") if callbacks else None
    if isinstance(average, DictConfig) and "decay" in average and average.decay is None:
        callbacks.weight_average = None
