"""All laws by name: in N alone, in N and D, and for repeated data."""

from .law import Law
from .power_sums import CHINCHILLA, CHINCHILLA_TIED, POWER, POWER_FLOOR
from .repeated import MUENNIGHOFF, SMS

LAWS: dict[str, Law] = {
    law.name: law for law in (POWER, POWER_FLOOR, CHINCHILLA, CHINCHILLA_TIED, MUENNIGHOFF, SMS)
}
