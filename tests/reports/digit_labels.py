"""Training images of the digits whose label is that of another class."""

WRONG = ("train/1/00.png", "train/0/01.png")
