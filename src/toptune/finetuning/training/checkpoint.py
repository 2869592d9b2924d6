"""The state of a run as tensors and one JSON document, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toptune.finetuning.training.loop import Run

Tensors = dict[str, NDArray[Any]]


def state_of_run(run: Run) -> tuple[Tensors, dict[str, Any]]:
    """Return everything that decides how a run goes on from the end of an epoch."""
    tensors = _prefixed("network", run.network.state_dict())
    for number, values in run.optimizer.state_dict()["state"].items():
        tensors |= _prefixed(f"optimizer.{number}", values)
    if run.ema is not None:
        tensors |= _prefixed("ema", run.ema.module.state_dict())
    tensors |= _prefixed("best", run.best)
    numbers = {
        "phase": run.phase,
        "epoch": run.epoch,
        "steps": run.steps,
        "history": run.history,
    }
    return tensors, numbers


def restore_run(run: Run, tensors: Tensors, numbers: dict[str, Any]) -> None:
    """Bring a new run to the state that `state_of_run` returned.

    Raises
    ------
    KeyError, IndexError, RuntimeError
        If the state is of another network.
    """
    run.start_phase(numbers["phase"])
    run.epoch, run.steps = numbers["epoch"], numbers["steps"]
    run.history = list(numbers["history"])
    run.network.load_state_dict(_under("network", tensors))
    state: dict[int, dict[str, Tensor]] = {}
    moving = [p for group in run.optimizer.param_groups for p in group["params"]]
    for name, value in _under("optimizer", tensors).items():
        number, _, key = name.partition(".")
        if value.shape == moving[int(number)].shape:
            # The fused optimizer walks through memory: averages must lie as their weights do.
            value = torch.empty_like(moving[int(number)]).copy_(value)
        state.setdefault(int(number), {})[key] = value
    run.optimizer.load_state_dict({**run.optimizer.state_dict(), "state": state})
    if run.ema is not None:
        run.ema.module.load_state_dict(_under("ema", tensors))
    run.best = _under("best", tensors)


def _prefixed(prefix: str, values: dict[str, Tensor]) -> Tensors:
    return {f"{prefix}.{name}": t.detach().cpu().numpy().copy() for name, t in values.items()}


def _under(prefix: str, tensors: Tensors) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {
        name.removeprefix(start): torch.from_numpy(np.array(value))
        for name, value in tensors.items()
        if name.startswith(start)
    }
