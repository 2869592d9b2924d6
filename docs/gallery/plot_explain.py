"""Why an image gets its label.

The score of a class is a sum over training images, so the images that count most can be shown,
with their exact part. The map covers the picture cell by cell and records what the score loses.
Pictures are of solar cells (package `elpv-dataset`, CC BY-NC-SA 4.0).
"""

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from toptune import TopTuner
from toptune.images.demo import solar_cells

cells = solar_cells()
grades = np.asarray(cells.labels)
defects, fine = np.flatnonzero(grades == "1.00"), np.flatnonzero(grades == "0.00")
chosen = [*defects[:120], *fine[:180]]
names = [cells.ids[i] for i in chosen]
paths = dict(zip(names, (cells.sources[i] for i in chosen), strict=True))
labels = ["defect"] * 120 + ["ok"] * 180

tuner = TopTuner(layers="last").fit(list(paths.values()), labels)
new = cells.sources[defects[200]]
why = tuner.explain(new, cells=10)
print(f"{why.label}: probability {why.probability:.2f}, score {why.score:+.3f}")

figure, axes = plt.subplots(2, 4, figsize=(9, 4.8), layout="constrained")
picture = Image.open(new)
axes[0, 0].imshow(picture, cmap="gray")
axes[0, 0].set_title("new image", fontsize=9)
axes[1, 0].imshow(picture, cmap="gray")
drops = why.occlusion.drops
width, height = picture.size
alpha = 0.7 * np.clip(drops / drops.max(), 0, 1)
axes[1, 0].imshow(np.ones_like(drops), cmap="autumn_r", alpha=alpha, extent=(0, width, height, 0))
axes[1, 0].set_title("where the score comes from", fontsize=9)
for row, images in ((0, why.support.supporting), (1, why.support.opposing)):
    for axis, image in zip(axes[row, 1:], images, strict=False):
        path = next(p for p in paths.values() if str(p).endswith(image.id.rpartition("/")[2]))
        axis.imshow(Image.open(path), cmap="gray")
        axis.set_title(f"{image.label} {image.contribution:+.3f}", fontsize=9)
for axis in axes.flat:
    axis.axis("off")
