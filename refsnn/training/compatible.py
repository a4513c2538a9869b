"""A check that a network fits a data set, before anything is written or computed."""

import numpy as np

from refsnn.data import Dataset
from refsnn.network import init_buffers, init_params
from refsnn.ops import get_ops
from refsnn.training.algorithm import main_logits
from refsnn.training.config import TrainConfig


def check_fit(config: TrainConfig, dataset: Dataset) -> None:
    """Check that the network can take the data's images.

    ValueError if the data has sequences of another length than T, or images of a size that is too
    small.
    """
    *frames, height, width, _ = dataset.train.images.shape[1:]
    if frames and frames != [config.steps]:
        raise ValueError(
            f"steps: got {config.steps}, but the data set has sequences of {frames[0]} frames"
        )
    # a network of one channel and few steps has the same limits on the size, and is quick
    thin = config.changed(width=1e-9).build_network(1, 2)
    params = init_params(thin, np.random.default_rng(0), np.float32)
    image = np.zeros((1, height, width, 1), np.float32)
    main_logits(
        thin, params, init_buffers(thin, np.float32), image, max(thin.steps, 1), get_ops("numpy")
    )
