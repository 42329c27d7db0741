"""Providers that are not ours (plain sdc11073), found, followed and bridged by the real node."""

import sys
from pathlib import Path

import pytest
from lxml import etree

import providers.profiles
from tests.interop.bridge import PM, Bridge, Device, eligible

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]

EXT = "{http://standards.ieee.org/downloads/11073/11073-10207-2017/extension}"
EUI64 = "00-11-22-33-44-55-66-77"
UNKNOWN_PATIENT = "PID|||||^^^^^^U||||||||||||||||||||||||||Y"
RECOMMENDED = "m.cvp.mean"


def derive(profile: str, target: Path, *, component: str | None = None) -> Path:
    """A profile's MDIB without EquipmentIdentifier and Validator, and with one metric that is not eligible."""
    tree = etree.parse(Path(providers.profiles.__path__[0]) / f"{profile}.xml")
    for element in [*tree.iter(f"{EXT}Extension"), *tree.iter(f"{PM}Validator")]:
        element.getparent().remove(element)
    for metric in tree.iter(f"{PM}Metric"):
        if metric.get("Handle") == RECOMMENDED:
            metric.set("MetricCategory", "Rcmm")
    if component is not None:
        tree.find(f".//{PM}Mds/{PM}ProductionSpecification/{PM}ComponentId").set("Extension", component)
    tree.write(target)
    text = target.read_text()
    assert "EquipmentIdentifier>" not in text
    assert "Validator" not in text
    return target


@pytest.fixture(scope="module")
def bridge(tmp_path_factory):
    folder = tmp_path_factory.mktemp("interop")
    monitor = derive("monitor", folder / "monitor.xml")
    pump = derive("pump", folder / "pump.xml", component=EUI64)
    devices = [
        Device("secure", monitor),
        Device("plain", pump, tls=False),
        Device("uninvited", monitor, tls=False, allowed=False),
    ]
    with Bridge(folder, devices) as running:
        running.wait(lambda: all(came == of for came, of in map(running.bridged, ("secure", "plain"))), 45)
        yield running


@pytest.mark.parametrize("name", ["secure", "plain"])
def test_every_eligible_metric_comes_as_pcd01(bridge, name):
    came, of = bridge.bridged(name)
    sys.stdout.write(f"{name}: {came} of {of} eligible metrics in PCD-01\n")
    metrics = eligible(bridge.devices[name].mdib)
    shown = bridge.shown(name)
    assert of > 5
    assert {row.handle for row in shown} == set(metrics)
    assert [row for row in shown if not metrics[row.handle].fits(row)] == []
    assert came == of


@pytest.mark.parametrize("name", ["secure", "plain"])
def test_every_eligible_number_and_choice_comes_as_an_observation(bridge, name):
    metrics = {handle for handle, metric in eligible(bridge.devices[name].mdib).items() if metric.kind != "ST"}
    bridge.wait(lambda: bridge.observed(name) >= metrics, 15)
    seen = len(bridge.observed(name) & metrics)
    sys.stdout.write(f"{name}: {seen} of {len(metrics)} eligible numbers and choices in FHIR\n")
    assert bridge.observed(name) >= metrics


def test_r8018_what_is_only_recommended_does_not_come(bridge):
    assert RECOMMENDED not in eligible(bridge.devices["secure"].mdib)
    assert RECOMMENDED not in {row.handle for row in bridge.shown("secure")}


@pytest.mark.parametrize("name", ["secure", "plain"])
def test_r8102_a_patient_without_validator_is_nobody(bridge, name):
    messages = bridge.pcd01(name)
    assert messages
    for message in messages:
        assert message.pid == UNKNOWN_PATIENT
        assert "Unvouched" not in message.text


def test_r8117_without_equipment_identifier_the_fallbacks_show(bridge):
    assert bridge.equipment("plain") == "0011223344556677^^0011223344556677^EUI-64"
    assert {message.equipment for message in bridge.pcd01("plain")} == {bridge.equipment("plain")}
    uuid = str(bridge.eprs["secure"])
    assert {message.equipment for message in bridge.pcd01("secure")} == {f"{uuid}^^{uuid}^UUID"}


def test_nothing_was_refused(bridge):
    status = bridge.status()
    assert sum(one["sent"] for one in status["destinations"]) > 0
    assert [one for one in status["destinations"] if one["dead"] or one["last_error"]] == []
    assert status["sinks"]["fhir"]["entries_rejected"] == 0
    assert status["failed"] == {}


def test_plain_http_that_is_not_allowed_is_refused_with_its_reason(bridge):
    epr = bridge.epr("uninvited")
    assert bridge.wait(lambda: bridge.status()["devices"].get(epr, {}).get("state") == "lost", 20)
    device = bridge.status()["devices"][epr]
    assert device["reason"] == f"{epr} offers plain HTTP only; list its EPR under allow_plaintext to follow it anyway"
    assert bridge.pcd01("uninvited") == []
    assert bridge.observed("uninvited") == set()
    for name in ("secure", "plain"):
        assert bridge.status()["devices"][bridge.epr(name)]["state"] == "live"


def test_the_log_tells_it_without_a_traceback(bridge):
    assert "allow_plaintext" in bridge.log()
    assert "Traceback" not in bridge.log()
    assert " ERROR " not in bridge.log()
    assert "Unvouched" not in bridge.log()
