import pytest
from sdc11073.wsdiscovery import WSDiscovery

from providers.profile import ProfileError, load
from providers.ward import Ward, WardError


def test_a_ward_has_every_profile_in_every_bed_and_says_bye(new_threads):
    beds = Ward(["monitor", "pump"], count=2, seed=5)
    assert beds.devices == ()
    with beds:
        residents = beds.devices
        assert [(r.profile, r.index) for r in residents] == [
            ("monitor", 0),
            ("pump", 0),
            ("monitor", 1),
            ("pump", 1),
        ]
        assert len({r.epr for r in residents}) == len({r.xaddrs for r in residents}) == 4
        assert beds.device(residents[2].epr).profile.name == "monitor"
        with pytest.raises(KeyError):
            beds.device("urn:uuid:nobody")
    assert beds.devices == ()
    assert new_threads() == []


def test_a_ward_is_found_by_discovery_and_comes_back_with_the_same_devices():
    arguments = {"seed": 6}
    with Ward(["pump"], **arguments) as first:
        (before,) = first.devices
        sequence = first.device(before.epr).sequence_id
        with WSDiscovery("127.0.0.1") as seeker:
            found = {s.epr: s for s in seeker.search_sdc_services(timeout=2)}
            assert tuple(found[before.epr].x_addrs) == before.xaddrs
    with Ward(["pump"], **arguments) as second:
        (after,) = second.devices
        assert (after.epr, after.profile) == (before.epr, before.profile)
        assert second.device(after.epr).sequence_id != sequence


@pytest.mark.parametrize(
    ("profiles", "count", "says"),
    [
        ([], 1, "one profile at least"),
        (["pump", "pump"], 1, "each only once"),
        (["pump"], 0, "between 1 and 500"),
        (["pump", "monitor"], 251, "not 502"),
    ],
)
def test_what_a_ward_cannot_be(profiles: list[str], count: int, says: str):
    with pytest.raises(WardError, match=says):
        Ward(profiles, count=count)


def test_an_unknown_profile_is_told_at_once():
    with pytest.raises(ProfileError, match="unknown profile 'toaster'"):
        Ward(["toaster"])


@pytest.mark.parametrize("interface", ["203.0.113.1", "no-such-address"])
def test_an_interface_that_is_not_there_is_told(interface: str, new_threads):
    with pytest.raises(WardError, match=f"interface {interface} cannot be used for discovery"):
        Ward([load("pump")], interface=interface).start()
    assert new_threads() == []


def test_if_one_device_cannot_start_none_stays(new_threads):
    made = []

    class Half(Ward):
        def _make(self, profile, index):
            device = super()._make(profile, index)
            made.append(device)
            if index == 1:
                device._tls = lambda: (_ for _ in ()).throw(FileNotFoundError("usercert.pem"))
            return device

    half = Half(["pump"], count=2)
    with pytest.raises(FileNotFoundError):
        half.start()
    assert len(made) == 2
    assert half.devices == ()
    assert new_threads() == []
