"""Neural-network building blocks: ``nn.functional`` holds the operators that models are written with."""

from infinicore.nn import functional

__all__ = ["functional"]
