"""After an upgrade of torchmetrics: can the count of a metric's updates still be set?"""

from torchmetrics import MeanMetric

from hqcnn_lab.torchmetrics_private import set_update_count


def test_the_count_of_updates_can_be_set():
    metric = MeanMetric()
    set_update_count(metric, 3)
    assert metric.update_count == 3, "Metric._update_count is not what hqcnn_lab/torchmetrics_private.py expects"
