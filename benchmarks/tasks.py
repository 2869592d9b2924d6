"""Numbers and several labels per image on the solar cells, against linear models on the features.

    python benchmarks/tasks.py

The cells of elpv-dataset (2,624 images) with three seeds, 70 % to train on and 30 % held out.
Regression: the probability of a defect, as two experts graded it (0, 1/3, 2/3, 1). Several labels:
`mono` or `poly`, and `defect` where that probability is above one half. Features are those of
`TopTuner`, normalised as it does, for all methods. The linear models are tuned by scikit-learn:
`RidgeCV` by its leave-one-out, `LogisticRegressionCV` by 3-fold cross-validation, label by label.
What leave-one-out of TopTuner promises stands beside what the held-out images say.

Last: costs. A missed defect costs ten times a false alarm; the mean cost on the held-out images of
deciding for the most probable class, of deciding by costs, and of 1,000 times costlier fits: a
`class_weight` that says the same.
"""

from __future__ import annotations
