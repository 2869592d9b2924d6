"""From a folder to a model.

One folder per class is all that `TopTuner` needs. Here the pictures are handwritten digits,
written to a temporary folder; with photographs of your own, begin at `TopTuner()`.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from toptune import TopTuner

digits = load_digits()
pictures = [Image.fromarray((d * 15.9).astype("uint8")).resize((64, 64)) for d in digits.images]
order = np.random.default_rng(0).permutation(len(pictures))
folder = Path(tempfile.mkdtemp())
for i in order[:400]:
    path = folder / f"digit {digits.target[i]}" / f"{i:04d}.png"
    path.parent.mkdir(exist_ok=True)
    pictures[i].save(path)

tuner = TopTuner(layers="last").fit(folder)
print(f"{len(tuner.ids_)} pictures, {len(tuner.classes_)} classes")
print(f"leave-one-out accuracy {tuner.loo_.accuracy:.3f}, log-loss {tuner.loo_.log_loss:.3f}")

# Predict pictures that were not trained on, and show how sure the model is.
new = [pictures[i] for i in order[400:412]]
labels, probabilities = tuner.predict(new), tuner.predict_proba(new)

figure, axes = plt.subplots(2, 6, figsize=(9, 3.6), layout="constrained")
for axis, picture, label, row in zip(axes.flat, new, labels, probabilities, strict=True):
    axis.imshow(picture, cmap="gray_r")
    axis.set_title(f"{label}\n{row.max():.0%}", fontsize=9)
    axis.axis("off")
