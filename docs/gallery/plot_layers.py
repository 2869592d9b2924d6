"""Which layers count.

Features come from several layers of the network. Their weights are chosen by the gradient of the
leave-one-out loss; `layer_weights_` tells which part each layer has in the squared distance of
two training images. Pictures are of solar cells (package `elpv-dataset`, CC BY-NC-SA 4.0) and
digits of scikit-learn.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from toptune import TopTuner
from toptune.images.demo import solar_cells

digits, cells = load_digits(), solar_cells()
grades = np.asarray(cells.labels)
chosen = np.flatnonzero(np.isin(grades, ["0.00", "1.00"]))[::7]
data = {
    "digits": (list(digits.images[:300] / 16), digits.target[:300]),
    "solar cells": ([cells.sources[i] for i in chosen], grades[chosen]),
}

figure, axis = plt.subplots(figsize=(8, 3.6), layout="constrained")
for k, (name, (pictures, labels)) in enumerate(data.items()):
    tuner = TopTuner().fit(pictures, labels)
    weights = tuner.layer_weights_
    print(f"{name}: leave-one-out accuracy {tuner.loo_.accuracy:.3f}")
    axis.bar(np.arange(len(weights)) + 0.4 * k, list(weights.values()), 0.38, label=name)
axis.set_xticks(np.arange(len(weights)) + 0.2, list(weights))
axis.set(ylabel="part of the squared distance")
axis.legend()
