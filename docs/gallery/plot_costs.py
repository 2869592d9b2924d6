"""Decide by the costs of mistakes.

A missed defect usually costs more than a false alarm. The decision of least expected cost uses
the probabilities of a trained model, which stays as it is. Pictures are of solar cells (package
`elpv-dataset`, CC BY-NC-SA 4.0).
"""

import matplotlib.pyplot as plt
import numpy as np

from toptune import TopTuner
from toptune.images import stratified_split
from toptune.images.demo import solar_cells

cells = solar_cells()
grades = np.asarray(cells.labels)
chosen = np.flatnonzero(np.isin(grades, ["0.00", "1.00"]))[::5]
pictures = [cells.sources[i] for i in chosen]
labels = np.where(grades[chosen] == "1.00", "defect", "ok")
train, test = stratified_split(labels, test_size=0.4, random_state=0)

tuner = TopTuner(layers="last").fit([pictures[i] for i in train], labels[train])
probability = tuner.predict_proba([pictures[i] for i in test])
true = labels[test]
defect, ok = tuner.classes_.tolist()

prices = np.array([1, 2, 5, 10, 20, 50])
most_probable = tuner.classes_[probability.argmax(1)]
curves = {"most probable class": [], "least expected cost": []}
for price in prices:
    costs = {defect: {ok: price}, ok: {defect: 1}}
    decided = tuner.evaluate([pictures[i] for i in test], true, costs=costs)
    missed = (most_probable == ok) & (true == defect)
    alarms = (most_probable == defect) & (true == ok)
    curves["most probable class"].append((price * missed + alarms).mean())
    curves["least expected cost"].append(decided.mean_cost)
    recall = decided.per_class[defect].recall
    print(f"a miss costs {price:2}: recall {recall:.2f}, cost {decided.mean_cost:.3f}")

figure, axis = plt.subplots(figsize=(6, 3.6), layout="constrained")
for (name, values), colour in zip(curves.items(), ("#9e9e9e", "#3949ab"), strict=True):
    axis.plot(prices, values, "o-", label=name, color=colour)
axis.set(xscale="log", xticks=prices, xticklabels=prices)
axis.set(xlabel="cost of a missed defect (false alarm: 1)", ylabel="mean cost of a test image")
axis.legend()
