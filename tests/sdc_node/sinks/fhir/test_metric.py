from decimal import Decimal

import msgspec
import pytest

from mdib_models.coding import PhysicalConnectorInfo, Range
from mdib_models.descriptors import NumericMetricDescriptor
from mdib_models.states import NumericMetricState
from sdc_node.sinks.fhir.identity import Names, device_of
from sdc_node.sinks.fhir.metric import device_metric

SOURCE, PARENT = {"reference": "urn:uuid:a"}, {"reference": "urn:uuid:b"}


def rendered(mdib, handle):
    identities = device_of(mdib, "mds0", Names("http://site.example"))
    return device_metric(mdib, mdib.descriptors[handle], identities, SOURCE, PARENT)


def extensions(found):
    return {one["url"].rpartition("/")[2]: one for one in found["extension"]}


def test_a_numeric_metric_tells_unit_range_resolution_and_period(monitor, r4):
    found = rendered(monitor.mdib(), "m.hr")
    r4(found)
    assert found["meta"]["profile"][0].endswith("/NumericDeviceMetric")
    assert found["unit"]["coding"][0]["code"] == "264864"  # MDC, not UCUM: only Observations speak UCUM
    assert (found["source"], found["parent"]) == (SOURCE, PARENT)
    assert found["measurementPeriod"] == {"repeat": {"duration": Decimal("1.0"), "durationUnit": "s"}}
    told = extensions(found)
    assert told["metric-availability"]["valueCodeableConcept"]["coding"][0]["code"] == "cont"
    assert str(told["measurement-resolution"]["valueDecimal"]) == "1"
    assert [part["url"] for part in told["technical-range"]["extension"]] == ["lowerLimit", "upperLimit", "stepWidth"]
    physiological = told["reference-range"]["extension"]
    assert physiological[0]["valueCodeableConcept"]["coding"][0]["code"] == "physiological-range"
    assert physiological[1]["valueQuantity"]["code"] == "/min"


def test_the_limits_of_an_alert_are_a_reference_range_of_its_source(monitor):
    limits = extensions(rendered(monitor.mdib(), "m.spo2"))["reference-range"]["extension"]
    assert limits[0]["valueCodeableConcept"]["coding"][0]["code"] == "alarm-limits"
    assert [str(part["valueQuantity"]["value"]) for part in limits[1:]] == ["90", "100.0"]


@pytest.mark.parametrize("handle", ["m.note", "m.rhythm"])
def test_an_enumeration_has_no_unit_and_no_range(monitor, r4, handle):
    found = rendered(monitor.mdib(), handle)
    r4(found)
    assert found["meta"]["profile"][0].endswith("/EnumerationDeviceMetric")
    assert "unit" not in found
    assert [*extensions(found)] == ["metric-availability"]


def test_a_waveform_tells_its_sample_period_in_seconds(monitor, r4):
    found = rendered(monitor.mdib(), "m.ecg")
    r4(found)
    assert found["meta"]["profile"][0].endswith("/SampleArrayDeviceMetric")
    assert found["measurementPeriod"]["repeat"] == {"period": Decimal("0.004"), "periodUnit": "s"}


@pytest.mark.parametrize(
    ("category", "told"),
    [
        ("Msrmt", "measurement"),
        ("Clc", "calculation"),
        ("Set", "setting"),
        ("Unspec", "unspecified"),
        ("Preset", "unspecified"),
        ("Rcmm", "unspecified"),
    ],
)
def test_category(monitor, category, told):
    odd = msgspec.structs.replace(monitor.mdib().descriptors["m.hr"], metric_category=category)
    found = rendered(monitor.mdib(descriptors=(odd,)), "m.hr")
    assert found["category"] == told
    kept = extensions(found).get("metric-category", {}).get("valueCode")
    assert kept == (category if category in {"Preset", "Rcmm"} else None)


@pytest.mark.parametrize(
    ("activation", "told"),
    [("On", "on"), ("StndBy", "standby"), ("NotRdy", "off"), ("Off", "off"), ("Shtdn", "off"), ("Fail", "off")],
)
def test_operational_status(monitor, activation, told):
    state = NumericMetricState(descriptor_handle="m.hr", activation_state=activation)
    assert rendered(monitor.mdib(state), "m.hr")["operationalStatus"] == told


def test_what_cannot_be_said_in_fhir_is_left_out(monitor, r4):
    odd = monitor.metric(
        NumericMetricDescriptor,
        "m.hr",
        "ch",
        147842,
        264864,
        resolution=Decimal("NaN"),
        technical_range=(Range(Decimal("Infinity")),),
    )
    state = NumericMetricState(
        descriptor_handle="m.hr", physical_connector=PhysicalConnectorInfo((), -1), physiological_range=(Range(),)
    )
    found = rendered(monitor.mdib(state, descriptors=(msgspec.structs.replace(odd, type=None),)), "m.hr")
    r4(found)
    assert [*extensions(found)] == ["metric-availability"]
    assert found["type"]["coding"][0]["code"] == "unknown"


def test_a_metric_that_is_gone_is_off_whatever_it_said_last(monitor, r4):
    mdib = monitor.mdib()
    identities = device_of(mdib, "mds0", Names("http://site.example"))
    found = device_metric(mdib, mdib.descriptors["m.hr"], identities, SOURCE, PARENT, gone=True)
    r4(found)
    assert found.pop("operationalStatus") == "off"
    there = rendered(mdib, "m.hr")
    assert there.pop("operationalStatus") == "on"
    assert found == there
