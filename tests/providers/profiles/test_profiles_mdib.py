"""The MDIB files of the packaged devices, judged by the clauses that they have to keep."""

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from lxml import etree

from mdib_models import nomenclature
from providers.profile import PROFILES, Profile, check_mdib, load
from providers.profiles import pump, ventilator

PM = "{http://standards.ieee.org/downloads/11073/11073-10207-2017/participant}"
SDPI = "{urn:oid:1.3.6.1.4.1.19376.1.6.2.10.1.1.1}"
TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"


class Device:
    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.root = etree.fromstring(profile.mdib)

    def all(self, *names: str) -> Iterator[Any]:
        return self.root.iter(*(PM + name for name in names))

    def by_handle(self, handle: str) -> Any:
        return self.root.find(f".//*[@Handle='{handle}']")

    def state(self, handle: str) -> Any:
        return self.root.find(f".//{PM}State[@DescriptorHandle='{handle}']")

    def metrics(self, kind: str = "") -> list[Any]:
        return [m for m in self.all("Metric") if kind in m.get(TYPE)]

    def coded(self) -> list[Any]:
        return [e for e in self.root.iter() if e.get("Code") and not e.tag.endswith("Translation")]


@pytest.fixture(params=PROFILES)
def device(request: pytest.FixtureRequest) -> Device:
    return Device(load(request.param))


def test_r0701_it_keeps_the_schema(device: Device):
    assert check_mdib(device.profile.mdib, device.profile.name)


def test_every_standard_code_is_in_the_table_under_its_own_refid(device: Device):
    for element in device.coded():
        if nomenclature.is_private(element.get("Code")):
            continue
        term = nomenclature.by_code(element.get("Code"))
        assert term is not None, element.get("Code")
        assert term.refid == element.get("SymbolicCodeName")


def test_units_and_body_sites_are_codes_of_that_kind(device: Device):
    for unit in device.all("Unit", "MeasurementUnit"):
        assert nomenclature.by_code(unit.get("Code"), "unit")
    for site in device.all("BodySite"):
        assert nomenclature.by_code(site.get("Code"), "site")


def test_r8119_a_private_code_has_exactly_one_translation_with_the_same_code(device: Device):
    private = [e for e in device.coded() if nomenclature.is_private(e.get("Code"))]
    assert private
    for element in private:
        same = [t for t in element.iterfind(f"{PM}Translation") if t.get("Code") == element.get("Code")]
        assert len(same) == 1
        assert same[0].get("CodingSystem")


def test_a_set_numeric_has_a_setting_code_and_only_that(device: Device):
    for metric in device.metrics("Numeric"):
        code = int(metric.find(f"{PM}Type").get("Code"))
        assert (code >> 16 == nomenclature.SETTINGS) == (metric.get("MetricCategory") == "Set")


def test_r0008_it_names_software_and_hardware_revision_one_with_a_component_id(device: Device):
    kinds = {e.get("Code") for e in device.by_handle("mds0").iterfind(f"{PM}ProductionSpecification/{PM}SpecType")}
    assert kinds == {"531975", "531974"}
    assert device.root.find(f".//{PM}ProductionSpecification/{PM}ComponentId") is not None
    metadata = device.root.find(f".//{PM}MetaData")
    for name in ("Udi", "Manufacturer", "ModelName", "SerialNumber"):
        assert metadata.find(PM + name) is not None


def test_r0017_r0018_mds_and_a_vmd_have_an_equipment_identifier(device: Device):
    owners = [e.getparent().getparent().tag for e in device.root.iter(f"{SDPI}EquipmentIdentifier")]
    assert PM + "Mds" in owners
    assert PM + "Vmd" in owners


def test_r0703_members_of_a_compound_name_it_and_all_the_others():
    monitor = Device(load("monitor"))
    groups: dict[str, set[str]] = {}
    for metric in monitor.metrics():
        for relation in metric.iterfind(f"{PM}Relation"):
            assert relation.get("Kind") == "SST"
            members = {metric.get("Handle"), *relation.get("Entries").split()}
            assert groups.setdefault(relation.find(f"{PM}Code").get("Code"), members) == members
    assert groups["150020"] == {"m.nibp.sys", "m.nibp.dia", "m.nibp.mean"}


def test_r1531_the_clock_tells_its_accuracy(device: Device):
    clock = device.state("clock.mds0")
    assert Decimal(clock.get("Accuracy")) > 0
    assert clock.get("RemoteSync") == "true"
    assert clock.find(f"{PM}ActiveSyncProtocol") is not None


def test_it_is_in_demo_mode_and_says_nothing_else_of_quality(device: Device):
    assert device.state("mds0").get("OperatingMode") == "Dmo"
    assert not device.root.findall(f".//{PM}MetricQuality[@Mode]")


def test_tr0239_a_numeric_or_sampled_metric_has_a_range_with_both_limits(device: Device):
    for metric in [*device.metrics("Numeric"), *device.metrics("RealTime")]:
        technical = metric.find(f"{PM}TechnicalRange")
        assert Decimal(technical.get("Lower")) < Decimal(technical.get("Upper"))
        assert Decimal(metric.get("Resolution")) > 0


def test_every_condition_has_one_visible_and_one_audible_signal(device: Device):
    for condition in device.all("AlertCondition"):
        signals = [s for s in device.all("AlertSignal") if s.get("ConditionSignaled") == condition.get("Handle")]
        assert sorted(s.get("Manifestation") for s in signals) == ["Aud", "Vis"]
        for source in condition.iterfind(f"{PM}Source"):
            assert device.by_handle(source.text) is not None


def test_there_are_limit_and_technical_conditions_and_a_latching_signal(device: Device):
    conditions = list(device.all("AlertCondition"))
    assert any(c.get(TYPE) == "pm:LimitAlertConditionDescriptor" for c in conditions)
    assert any(c.get("Kind") == "Tec" for c in conditions)
    assert any(s.get("Latching") == "true" for s in device.all("AlertSignal"))
    assert next(device.all("AlertSystem")).get("SelfCheckPeriod")


def test_limits_lie_within_their_max_limits_and_name_the_monitored_side(device: Device):
    for condition in device.all("AlertCondition"):
        if condition.get(TYPE) is None:
            continue
        state, widest = device.state(condition.get("Handle")), condition.find(f"{PM}MaxLimits")
        limits = state.find(f"{PM}Limits")
        side = {"HiOff": "Lower", "LoOff": "Upper"}[state.get("MonitoredAlertLimits")]
        assert list(limits.attrib) == [side]
        assert Decimal(widest.get("Lower")) <= Decimal(limits.get(side)) <= Decimal(widest.get("Upper"))


def test_all_contexts_and_operations_are_described(device: Device):
    for kind in ("Patient", "Location", "Ensemble", "Operator", "Workflow", "Means"):
        assert len(list(device.all(kind + "Context"))) == 1
    operations = list(device.all("Operation"))
    assert len(operations) >= 4
    for operation in operations:
        assert device.by_handle(operation.get("OperationTarget")) is not None


def test_durations_are_of_the_one_form_that_sdc11073_reads(device: Device):
    names = ("SelfCheckPeriod", "DeterminationPeriod", "SamplePeriod", "LifeTimePeriod", "MaxTimeToFinish")
    values = [e.get(name) for e in device.root.iter() for name in names if e.get(name)]
    assert values
    assert all(re.fullmatch(r"PT(\d+H)?(\d+M)?(\d+(\.\d+)?S)?", value) for value in values)


def test_the_pump_has_a_battery():
    assert Device(load("pump")).by_handle("bat.mds0") is not None


def test_every_measured_metric_has_a_signal_and_every_setting_a_value(device: Device):
    simulated = {r.handle for r in device.profile.readings} | {w.handle for w in device.profile.waveforms}
    for metric in device.metrics():
        initial = device.state(metric.get("Handle"))
        assert (metric.get("Handle") in simulated) != (initial is not None)
    assert simulated <= {m.get("Handle") for m in device.metrics()}


def test_readings_come_as_often_as_the_descriptor_says(device: Device):
    for reading in device.profile.readings:
        period = device.by_handle(reading.handle).get("DeterminationPeriod")
        assert period == f"PT{reading.every:g}S"


def test_text_readings_are_allowed_values(device: Device):
    for reading in device.profile.readings:
        value = reading.value(1.7e9, 0, {})
        if isinstance(value, str):
            allowed = [e.text for e in device.by_handle(reading.handle).iter(f"{PM}Value")]
            assert value in allowed


def test_reactions_name_conditions_that_are_described_and_come_in_pairs(device: Device):
    reactions = device.profile.reactions.values()
    assert {r.condition for r in reactions if r.condition} <= set(device.profile.conditions())
    for influence in {r.influence for r in reactions}:
        assert sorted(r.begins for r in reactions if r.influence == influence) == [False, True]


def value_of(device: Device, handle: str) -> float:
    return float(device.state(handle).find(f"{PM}MetricValue").get("Value"))


def test_the_ventilator_does_what_its_settings_say():
    device = Device(load("ventilator"))
    settings = (ventilator.SET_VOLUME, ventilator.SET_RATE, ventilator.SET_PEEP, ventilator.SET_FIO2)
    assert settings == tuple(value_of(device, f"m.{name}.set") for name in ("vt", "rr", "peep", "fio2"))


def test_the_pump_does_what_its_settings_say():
    device = Device(load("pump"))
    assert value_of(device, "m.rate.set") == pump.SET_RATE
    assert value_of(device, "m.volume.set") == pump.SET_VOLUME
