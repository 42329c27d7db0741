"""Who and what: identities that stay the same when addresses, sequences and processes change."""

from typing import NewType

import msgspec

DeviceId = NewType("DeviceId", str)
"""A provider's EPR address (a URN, never an IP address)."""

Handle = str
"""A descriptor's or context state's handle: unique in one MDIB sequence (BICEPS R0007)."""


class MdsKey(msgspec.Struct, frozen=True, gc=False, order=True):
    """One MDS of one device: the unit of patient association and of a PCD-01 message (SDPi R8101)."""

    device: DeviceId
    mds: Handle


class MdibVersionGroup(msgspec.Struct, frozen=True, gc=False):
    """SequenceId, InstanceId and MdibVersion: where in a device's history something stands (IEEE 11073-10207).

    `sequence_id` is a URI. `instance_id` is None where the device sends none.
    """

    sequence_id: str
    mdib_version: int = 0
    instance_id: int | None = None

    def same_sequence(self, other: "MdibVersionGroup") -> bool:
        """Whether versions of the two may be compared at all."""
        return self.sequence_id == other.sequence_id and self.instance_id == other.instance_id
