"""One job bought: a slot, a permit, an intent on the disk, one POST, an id on the disk."""

from .keeping import Keeper
from .purchase import ENDED_BADLY, Order
from .submitter import Submitter

__all__ = ["ENDED_BADLY", "Keeper", "Order", "Submitter"]
