"""Which values become Observations, and when (`fhir_mapping` 7)."""

import msgspec
import pytest

from mdib_models.coding import CodedValue
from mdib_models.descriptors import DistributionSampleArrayMetricDescriptor, Range
from mdib_models.states import DistributionSampleArrayMetricState, Quality, SampleArrayValue
from sdc_node.sinks.fhir import sampler as module
from sdc_node.sinks.fhir.sampler import Sampler

T0 = 1_800_000_000_000
PERIOD = 10_000


@pytest.fixture
def device(bedside):
    return bedside()


@pytest.fixture
def sampler():
    return Sampler(period=PERIOD)


def told(samples):
    return [(one.sample.state.descriptor_handle, str(one.sample.state.metric_value.value)) for one in samples]


def test_nothing_is_due_before_anything_came(sampler, device):
    assert sampler.next_due() is None
    sampler.accept(device.link("live", T0))
    sampler.accept(device.waveform(T0))
    assert sampler.next_due() is None
    assert sampler.take(T0) == []


def test_continuous_metrics_give_their_latest_value_each_round(sampler, device):
    for at in range(3):
        sampler.accept(device.values(T0 + at, T0 + at, hr=70 + at))
    assert sampler.next_due() == T0 + PERIOD
    assert told(sampler.take(T0 + PERIOD)) == [("m.hr", "72")]
    assert sampler.next_due() == T0 + 2 * PERIOD
    assert sampler.take(T0 + 2 * PERIOD) == [], "what has not changed is not told again"


def test_intermittent_metrics_give_each_value_in_order(sampler, device):
    for at in range(3):
        sampler.accept(device.values(T0 + at, T0 + at, sys=120 + at, hr=70 + at))
    assert told(sampler.take(T0 + PERIOD)) == [("m.sys", "120"), ("m.sys", "121"), ("m.sys", "122"), ("m.hr", "72")]


def test_a_sample_keeps_the_moment_it_came(sampler, device):
    sampler.accept(device.values(T0 + 50, T0, hr=70))
    sampler.accept(device.values(T0 + 60, sys=120))
    mdib = device.mdib
    device.values(T0 + 100, T0 + 100, hr=71)
    intermittent, continuous = sampler.take(T0 + PERIOD)
    assert (continuous.sample.time, continuous.sample.arrived) == (T0, T0 + 50)
    assert (intermittent.sample.time, intermittent.sample.arrived) == (T0 + 60, T0 + 60)
    assert intermittent.mdib is mdib
    assert continuous.key.mds == "mds"


def test_the_former_patients_value_is_told_as_the_former_patients(sampler, device):
    sampler.accept(device.patient(T0, "a"))
    sampler.accept(device.values(T0 + 1, T0 + 1, hr=70))
    sampler.accept(device.patient(T0 + 2, "b"))
    sampler.accept(device.values(T0 + 3, T0 + 3, hr=80))
    samples = sampler.take(T0 + PERIOD)
    assert told(samples) == [("m.hr", "70"), ("m.hr", "80")]
    assert [one.association.patient.handle for one in samples] == ["pc.a", "pc.b"]


def test_a_snapshot_repeats_nothing(sampler, device):
    sampler.accept(device.values(T0, T0, hr=70, sys=120))
    sampler.take(T0 + PERIOD)
    before = device.mdib
    device.values(T0 + 1, T0 + 1, spo2=97)
    sampler.accept(device.again(before, T0 + 2))
    sampler.accept(device.snapshot(T0 + 3))
    assert told(sampler.take(T0 + 2 * PERIOD)) == [("m.spo2", "97")]


def test_after_a_loss_the_first_values_are_told_again(sampler, bedside):
    device, other = bedside("urn:uuid:1"), bedside("urn:uuid:2")
    for one in (device, other):
        sampler.accept(one.values(T0, T0, hr=70))
    sampler.take(T0 + PERIOD)
    sampler.accept(device.link("lost", T0 + 1))
    for one in (device, other):
        sampler.accept(one.snapshot(T0 + 2))
    assert [one.key.device for one in sampler.take(T0 + 2 * PERIOD)] == ["urn:uuid:1"]


def test_what_has_no_value_or_no_observation_is_passed_over(sampler, device):
    unit = CodedValue("262656")
    descriptor = DistributionSampleArrayMetricDescriptor(
        handle="m.dist",
        parent="ch",
        unit=unit,
        metric_category="Msrmt",
        metric_availability="Cont",
        resolution=1,
        domain_unit=unit,
        distribution_range=Range(),
    )
    got = SampleArrayValue(quality=Quality("Vld"), samples="1 2")
    sampler.accept(device.describe(T0, descriptor, DistributionSampleArrayMetricState(descriptor_handle="m.dist")))
    known = device.mdib.states["m.dist"]
    changed = msgspec.structs.replace(known, state_version=known.state_version + 1, metric_value=got)
    sampler.accept(device.report("metric", T0, changed))
    empty = msgspec.structs.replace(device.mdib.states["m.hr"], state_version=1)
    sampler.accept(device.report("metric", T0, empty))
    assert sampler.take(T0 + PERIOD) == []


def test_at_the_cap_the_round_comes_early(sampler, device, monkeypatch):
    monkeypatch.setattr(module, "INTERMITTENT_CAP", 3)
    for at in range(3):
        assert sampler.next_due() != 0
        sampler.accept(device.values(T0 + at, T0 + at, sys=at))
    assert sampler.next_due() == 0
    assert len(sampler.take(T0 + 3)) == 3
    assert sampler.next_due() == T0 + 3 + PERIOD


def test_what_was_measured_before_the_patient_was_associated_is_told_of_nobody(sampler, device):
    device.values(T0 - 900_000, T0 - 900_000, sys=120)
    device.patient(T0 - 60_000, "B", bound=T0 - 60_000)
    sampler.accept(device.snapshot(T0))
    sampler.accept(device.values(T0 + 2_000, T0 + 2_000, dia=80))
    early, own = sampler.take(T0 + PERIOD)
    assert (told([early]), early.association.patient) == ([("m.sys", "120")], None)
    assert told([own]) == [("m.dia", "80")]
    assert own.association.patient is not None
