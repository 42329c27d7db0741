"""Good resources, to be spoilt."""

import copy
import json

import pytest

MDC = "urn:iso:std:iso:11073:10101"
UCUM = "http://unitsofmeasure.org"
POCD = "http://hl7.org/fhir/uv/pocd/StructureDefinition/"

DEVICE = {
    "resourceType": "Device",
    "identifier": [{"system": "urn:x", "value": "d1"}],
    "status": "active",
    "type": {"coding": [{"system": MDC, "code": "69965"}]},
    "deviceName": [{"name": "Monitor", "type": "model-name"}],
}
METRIC = {
    "resourceType": "DeviceMetric",
    "meta": {"profile": [POCD + "NumericDeviceMetric"]},
    "identifier": [{"system": "urn:x", "value": "m1"}],
    "type": {"coding": [{"system": MDC, "code": "147842"}]},
    "unit": {"coding": [{"system": MDC, "code": "264864"}]},
    "source": {"type": "Device", "identifier": {"system": "urn:x", "value": "d1"}},
    "parent": {"type": "Device", "identifier": {"system": "urn:x", "value": "c1"}},
    "operationalStatus": "on",
    "category": "measurement",
    "measurementPeriod": {"repeat": {"duration": 1, "durationUnit": "s"}},
}
OBSERVATION = {
    "resourceType": "Observation",
    "identifier": [{"system": "urn:x", "value": "o1"}],
    "status": "final",
    "category": [
        {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}]}
    ],
    "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}, {"system": MDC, "code": "147842"}]},
    "subject": {"type": "Patient", "identifier": {"system": "urn:p", "value": "SECRET-1"}},
    "effectiveDateTime": "2026-11-22T10:00:00.125Z",
    "valueQuantity": {"value": 72, "unit": "/min", "system": UCUM, "code": "/min"},
    "device": {"type": "DeviceMetric", "identifier": {"system": "urn:x", "value": "m1"}},
}


class Good:
    """Fresh copies of good resources, and the requests that carry them."""

    device = property(lambda self: copy.deepcopy(DEVICE))
    metric = property(lambda self: copy.deepcopy(METRIC))
    observation = property(lambda self: copy.deepcopy(OBSERVATION))

    @staticmethod
    def spoilt(resource, **changes):
        """With elements replaced; None takes one away. `a__b` is b inside a."""
        resource = copy.deepcopy(resource)
        for path, value in changes.items():
            *above, name = path.split("__")
            holder = resource
            for step in above:
                holder = holder[int(step) if step.isdecimal() else step]
            if value is None:
                del holder[name]
            else:
                holder[name] = value
        return resource

    @staticmethod
    def entry(resource, method="PUT", full_url=None, **request):
        known = resource["identifier"][0]
        search = f"identifier={known['system']}|{known['value']}"
        kind = resource["resourceType"]
        asked = {"method": method, "url": f"{kind}?{search}" if method == "PUT" else kind}
        if method == "POST":
            asked["ifNoneExist"] = search
        entry = {"resource": resource, "request": asked | request}
        return entry | ({"fullUrl": full_url} if full_url else {})

    @staticmethod
    def bundle(*entries, kind="batch", key="b1"):
        found = {"resourceType": "Bundle", "type": kind, "entry": list(entries)}
        return json.dumps(found | ({"identifier": {"system": "urn:b", "value": key}} if key else {}))


@pytest.fixture
def good():
    return Good()
