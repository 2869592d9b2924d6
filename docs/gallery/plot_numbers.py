"""Numbers with intervals.

Labels that are not all whole numbers make a regression. Here the number is the share of a picture
that is covered by spots. Intervals come from the leave-one-out errors: about 90 % of new pictures
lie within them.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import gaussian_filter

from toptune import TopTuner

rng = np.random.default_rng(0)


def leaf():
    """Make a green picture with brown spots, and the share of brown."""
    field = gaussian_filter(rng.normal(size=(64, 64)), rng.uniform(2, 5))
    spots = field > np.quantile(field, rng.uniform(0.5, 1.0))
    picture = np.where(spots[..., None], (0.45, 0.3, 0.15), (0.3, 0.6, 0.25))
    return np.clip(picture + rng.normal(0, 0.05, (64, 64, 3)), 0, 1), spots.mean()


pictures, shares = zip(*(leaf() for _ in range(320)), strict=True)
tuner = TopTuner(layers="last").fit(list(pictures[:240]), list(shares[:240]))
print(f"task: {tuner.task_}, leave-one-out R2 {tuner.loo_.r2:.3f}, MAE {tuner.loo_.mae:.4f}")

new, true = list(pictures[240:]), np.array(shares[240:])
found = tuner.classify(new)
low, high = found.intervals(0.9).T
print(f"{((low <= true) & (true <= high)).mean():.0%} of 80 new pictures are within their interval")

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
left.imshow(np.hstack([np.vstack(new[i : i + 3]) for i in (0, 3, 6, 9)]))
left.axis("off")
errors = np.abs(np.stack([low, high]) - found.values)
right.errorbar(true, found.values, errors, fmt="o", ms=3, lw=0.7, color="#3949ab")
right.plot([0, 0.5], [0, 0.5], color="#9e9e9e")
right.set(xlabel="true share", ylabel="predicted share, with 90 % interval")
