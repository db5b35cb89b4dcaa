# The simulated vendor: its plug-in tables, in a capsule.
from typing_extensions import CapsuleType

capsule: CapsuleType
