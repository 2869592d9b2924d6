"""What a cell needed: memory at its peak, energy, and on what machine."""

from toptune.energy import EnergyMeter
from toptune.measuring import peak_memory, processor, reset_peak_memory

__all__ = ["EnergyMeter", "peak_memory", "processor", "reset_peak_memory"]
