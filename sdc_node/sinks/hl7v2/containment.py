"""OBX-4: the place of a row in the tree of MDS, VMD, channel and metric (SDPi R8014, R8015)."""

from collections.abc import Iterator
from typing import Final

from mdib_models.descriptors import ChannelDescriptor, Descriptor, MdsDescriptor, MetricDescriptor, VmdDescriptor
from mdib_models.identity import Handle
from mdib_models.mirror import Mdib
from sdc_node.sinks.hl7v2.interval import Numbers

Path = tuple[int, int, int, int]
DEVICE_LEVELS: Final = (MdsDescriptor, VmdDescriptor, ChannelDescriptor)


def numbered(mdib: Mdib, mds: Handle) -> Iterator[tuple[Handle, Handle]]:
    """Give (parent, handle) of all that OBX-4 numbers in one MDS, in document order; the MDS's parent is ''."""
    if mds not in mdib.descriptors:
        return
    yield "", mds
    for _, descriptor in mdib.walk(mds):
        if isinstance(descriptor, (*DEVICE_LEVELS, MetricDescriptor)) and descriptor.parent is not None:
            yield descriptor.parent, descriptor.handle


def device_chain(mdib: Mdib, handle: Handle, mds: Handle) -> tuple[Handle, ...]:
    """The handles of MDS, VMD and channel that hold ``handle`` or are it; the MDS alone where it is unknown."""
    found = tuple(step.handle for step in mdib.path(handle) if isinstance(step, DEVICE_LEVELS))
    return found if found and found[0] == mds else (mds,)


def device_path(chain: tuple[Handle, ...], numbers: Numbers) -> Path:
    """The row of the last of a chain of MDS, VMD, channel: ``m.0.0.0``, ``m.v.0.0`` or ``m.v.c.0``."""
    levels = [_number(numbers, parent, handle) for parent, handle in zip(("", *chain), chain, strict=False)]
    first, second, third = (*levels, 0, 0)[:3]
    return first, second, third, 0


def metric_path(chain: tuple[Handle, ...], metric: Descriptor, numbers: Numbers) -> Path:
    """The row of a metric below a chain: ``m.v.c.k``."""
    first, second, third, _ = device_path(chain, numbers)
    return first, second, third, _number(numbers, chain[-1], metric.handle)


def dotted(path: tuple[int, ...]) -> str:
    """The numbers between dots."""
    return ".".join(map(str, path))


def _number(numbers: Numbers, parent: Handle, handle: Handle) -> int:
    number = numbers.get((parent, handle))
    if number is None:
        raise LookupError(f"no OBX-4 number was assigned to {handle!r} below {parent!r}")
    return number
