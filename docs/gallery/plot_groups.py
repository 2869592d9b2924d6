"""Images that belong together.

Several pictures of one object are not independent. Leave-one-out of single pictures answers "how
good is the model on another picture of a known object?"; leave-one-out of whole groups answers
the question about new objects. Objects here are textured discs; the class is the direction of the
stripes, and every object has a colour of its own.
"""

import matplotlib.pyplot as plt
import numpy as np

from toptune import TopTuner

rng = np.random.default_rng(0)
y, x = np.mgrid[0:64, 0:64] / 64


def pictures_of(n_objects, n_each):
    """Make noisy pictures of objects with a colour and a stripe direction."""
    pictures, labels, groups = [], [], []
    for k in range(n_objects):
        label = ("flat", "steep")[k % 2]
        colour, width = rng.uniform(0.2, 0.8, 3), rng.uniform(8, 20)
        angle = (0.25 if label == "flat" else 1.0) + rng.normal(0, 0.35)
        for _ in range(n_each):
            phase = rng.uniform(0, 6)
            stripes = np.sin(width * (np.cos(angle) * y + np.sin(angle) * x) * 3 + phase)
            picture = colour * (0.75 + 0.25 * stripes[..., None]) + rng.normal(0, 0.04, (64, 64, 3))
            pictures.append(np.clip(picture, 0, 1))
            labels.append(label)
            groups.append(f"object {k}")
    return pictures, labels, groups


pictures, labels, groups = pictures_of(30, 8)
new_pictures, new_labels, _ = pictures_of(60, 2)

single = TopTuner(layers="last").fit(pictures, labels)
grouped = TopTuner(layers="last").fit(pictures, labels, groups=groups)
accuracies = {
    "leave-one-out of pictures": single.loo_.accuracy,
    "leave-one-out of objects": grouped.loo_.accuracy,
    "test on new objects": grouped.score(new_pictures, new_labels),
}
for name, accuracy in accuracies.items():
    print(f"{name:26} {accuracy:.3f}")

figure, axes = plt.subplot_mosaic(
    [["0", "8", "16", "bar"], ["1", "9", "17", "bar"]], figsize=(9, 3.4)
)
for name, axis in axes.items():
    if name != "bar":
        axis.imshow(pictures[int(name)])
        axis.set_title(f"{groups[int(name)]}: {labels[int(name)]}", fontsize=8)
        axis.axis("off")
axes["bar"].barh(
    list(accuracies), list(accuracies.values()), color=["#bdbdbd", "#3949ab", "#66bb6a"]
)
axes["bar"].set(xlim=(0.4, 1.02), xlabel="accuracy")
axes["bar"].yaxis.tick_right()
axes["bar"].invert_yaxis()
figure.tight_layout()
