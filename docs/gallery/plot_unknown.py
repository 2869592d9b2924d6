"""Prediction sets and unknown images.

A model trained on solar cells gets handwritten digits as well. `unknown_score` tells how unlike
the training images an image is; with `reject=0.02` about 2 % of ordinary images are turned away.
With `coverage=0.95` doubtful images get more than one label. Pictures are of solar cells (package
`elpv-dataset`, CC BY-NC-SA 4.0).
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from toptune import TopTuner
from toptune.images.demo import solar_cells

cells = solar_cells()
grades = np.asarray(cells.labels)
chosen = np.flatnonzero(np.isin(grades, ["0.00", "1.00"]))[::5]
pictures = [cells.sources[i] for i in chosen]
labels = np.where(grades[chosen] == "1.00", "defect", "ok")
order = np.random.default_rng(0).permutation(len(chosen))
train, test = order[:340], order[340:]

tuner = TopTuner(layers="last").fit([pictures[i] for i in train], labels[train])
known = [pictures[i] for i in test]
others = list(load_digits().images[:60] / 16)

found = tuner.classify(known, coverage=0.95, reject=0.02)
strange = tuner.classify(others, reject=0.02)
holds = [true in names for true, names in zip(labels[test], found.set_labels(), strict=True)]
print(f"the set holds the true label of {np.mean(holds):.0%} of {len(known)} solar cells")
print(
    f"unknown: {np.mean(found.unknown):.0%} of the cells, {np.mean(strange.unknown):.0%} of digits"
)

figure, axis = plt.subplots(figsize=(6, 3.4), layout="constrained")
bins = np.linspace(-3, max(strange.unknown_score.max(), 6), 40)
axis.hist(found.unknown_score, bins, alpha=0.7, label="solar cells", color="#3949ab")
axis.hist(strange.unknown_score, bins, alpha=0.7, label="digits", color="#ffb74d")
axis.set(xlabel="unknown score (0 is usual)", ylabel="images")
axis.legend()
