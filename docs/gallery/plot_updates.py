"""Add and forget images.

A trained model takes new images and forgets old ones without the others being read again. The
result equals a fit of the changed images with the same hyperparameters, in a part of the time.
"""

import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from toptune import TopTuner

digits = load_digits()
order = np.random.default_rng(0).permutation(len(digits.target))[:600]
pictures, labels = list(digits.images[order] / 16), digits.target[order]
held_out = (pictures[450:], labels[450:])

tuner = TopTuner(layers="last").fit(pictures[:100], labels[:100])
sizes, scores, seconds = [100], [tuner.score(*held_out)], []
for start in range(100, 400, 50):
    begin = time.perf_counter()
    tuner.partial_fit(pictures[start : start + 50], labels[start : start + 50])
    seconds.append(time.perf_counter() - begin)
    sizes.append(len(tuner.ids_))
    scores.append(tuner.score(*held_out))
print(
    f"from {sizes[0]} to {sizes[-1]} images, {np.mean(seconds):.2f} s a step, extraction included"
)
print(f"leave-one-out accuracy of all of them {tuner.loo_.accuracy:.3f}")

# Forget what was added last: the scores are those of the model before.
before = tuner.predict_proba(held_out[0])
tuner.partial_fit(pictures[400:420], labels[400:420])
tuner.forget(tuner.ids_[-20:])
tuner.loo_  # noqa: B018 (calibrates the probabilities again)
difference = np.abs(tuner.predict_proba(held_out[0]) - before).max()
print(f"20 images added and forgotten: probabilities differ by at most {difference:.0e}")

figure, axis = plt.subplots(figsize=(6, 3.4), layout="constrained")
axis.plot(sizes, scores, "o-", color="#3949ab")
axis.set(xlabel="images in the model", ylabel="accuracy on 150 other images")
