"""Identities: what may be compared with what, and what stands for one MDS of one device."""

import pytest

from mdib_models.identity import DeviceId, MdibVersionGroup, MdsKey


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (MdibVersionGroup("urn:uuid:1", 7, 3), True),
        (MdibVersionGroup("urn:uuid:1", 0, 3), True),
        (MdibVersionGroup("urn:uuid:2", 7, 3), False),
        (MdibVersionGroup("urn:uuid:1", 7, 4), False),
        (MdibVersionGroup("urn:uuid:1", 7), False),
        (MdibVersionGroup("URN:UUID:1", 7, 3), False),
    ],
)
def test_versions_compare_only_within_one_sequence_and_instance(other, same):
    group = MdibVersionGroup("urn:uuid:1", 7, 3)
    assert group.same_sequence(other) is same
    assert other.same_sequence(group) is same


def test_a_missing_instance_is_not_instance_zero():
    assert not MdibVersionGroup("urn:uuid:1").same_sequence(MdibVersionGroup("urn:uuid:1", 0, 0))


def test_mds_keys_are_values_in_the_order_of_device_then_mds():
    one, two = DeviceId("urn:uuid:1"), DeviceId("urn:uuid:2")
    keys = [MdsKey(two, "a"), MdsKey(one, "b"), MdsKey(one, "a")]
    assert sorted(keys) == [MdsKey(one, "a"), MdsKey(one, "b"), MdsKey(two, "a")]
    assert len({*keys, MdsKey(one, "a")}) == 3
    with pytest.raises(AttributeError):
        keys[0].mds = "c"
