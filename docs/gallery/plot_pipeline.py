"""The kernel classifier alone in a pipeline.

`KernelClassifier` follows the conventions of scikit-learn and accepts any feature matrix. It
chooses bandwidth and penalty by leave-one-out inside `fit`, so that cross-validation needs no
grid search around it.
"""

import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from toptune import KernelClassifier
from toptune.kernel import FeatureNormalizer

X, y = load_digits(return_X_y=True)
X, y = X[:800], y[:800]
grid = {"C": [1, 10, 100], "gamma": [0.5, 1, 2, 4]}
pipelines = {
    "KernelClassifier": make_pipeline(FeatureNormalizer(), KernelClassifier()),
    "SVC, grid search": make_pipeline(FeatureNormalizer(), GridSearchCV(SVC(), grid, cv=3)),
}
results = {}
for name, pipeline in pipelines.items():
    begin = time.perf_counter()
    scores = cross_val_score(pipeline, X, y, cv=4)
    results[name] = scores, time.perf_counter() - begin
    print(f"{name:18} accuracy {scores.mean():.3f}, {results[name][1]:.1f} s")

model = KernelClassifier().fit(FeatureNormalizer().fit_transform(X), y)
print(f"leave-one-out accuracy {model.loo_accuracy_:.3f}: no folds, one fit")

figure, axis = plt.subplots(figsize=(6, 3.4), layout="constrained")
losses = {}
for candidate in model.candidates_:
    losses.setdefault(candidate.bandwidth, []).append((candidate.penalty, candidate.loss))
for bandwidth, curve in sorted(losses.items()):
    if len(curve) > 3:
        penalties, values = np.array(sorted(curve)).T
        axis.plot(penalties, values, ".-", lw=1, label=f"{bandwidth:.2f}")
axis.set(xscale="log", yscale="log", xlabel="penalty", ylabel="leave-one-out log-loss")
axis.legend(title="bandwidth", fontsize=8)
