"""Several labels an image.

Each picture shows any of three shapes. Labels are lists of names; every label gets a probability
of its own, calibrated on the leave-one-out scores.
"""

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw

from toptune import TopTuner

rng = np.random.default_rng(0)
NAMES = ("circle", "square", "triangle")


def picture_of(shapes):
    """Draw shapes at random places in random colours."""
    image = Image.new("RGB", (96, 96), "white")
    draw = ImageDraw.Draw(image)
    for shape in shapes:
        x, y = rng.integers(16, 80, 2).tolist()
        colour = tuple(rng.integers(0, 200, 3).tolist())
        box = (x - 9, y - 9, x + 9, y + 9)
        if shape == "circle":
            draw.ellipse(box, fill=colour)
        elif shape == "square":
            draw.rectangle(box, fill=colour)
        else:
            draw.polygon([(x, y - 11), (x - 11, y + 8), (x + 11, y + 8)], fill=colour)
    return image


labels = [[name for name in NAMES if rng.random() < 0.45] for _ in range(360)]
pictures = [picture_of(shapes) for shapes in labels]

tuner = TopTuner().fit(pictures[:350], labels[:350])
print(f"task: {tuner.task_}, labels: {tuner.classes_.tolist()}")
print(f"leave-one-out: mean average precision {tuner.loo_.mean_average_precision:.3f}")

figure, axes = plt.subplots(2, 5, figsize=(9, 4.2), layout="constrained")
rows = tuner.predict_proba(pictures[350:])
for axis, picture, probabilities in zip(axes.flat, pictures[350:], rows, strict=True):
    axis.imshow(picture)
    found = (f"{n} {p:.0%}" for n, p in zip(tuner.classes_, probabilities, strict=True))
    axis.set_title("\n".join(found), fontsize=8)
    axis.set(xticks=[], yticks=[])
