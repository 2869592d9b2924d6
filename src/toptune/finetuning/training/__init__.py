"""Training of whole networks: the arithmetic behind `FineTuner`.

    decoded pictures -> augmentation -> network -> loop (one run) -> fitting (choose a rate, train)

`depthwise` makes it twice as fast on CPUs, `checkpoint` and `trained_file` store.
"""
