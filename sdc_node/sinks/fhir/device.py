"""MDS, VMD and channel as FHIR Devices (PoCD MdsDevice, VmdDevice, ChannelDevice; fhir_mapping 1.3, 1.4). Pure."""

import re
from collections.abc import Mapping

from mdib_models.descriptors import (
    ChannelDescriptor,
    ClockDescriptor,
    MdsDescriptor,
    MetaData,
    Udi,
    VmdDescriptor,
)
from mdib_models.mirror import Mdib
from mdib_models.states import ClockState, MdsState
from mdib_models.updates import Association
from sdc_node.sinks.fhir.identity import (
    Device,
    Identifier,
    component_ids,
    equipment_identifiers,
    instance_identifier,
    location_reference,
    patient_reference,
)
from sdc_node.sinks.fhir.terms import (
    DATA_ABSENT,
    POCD,
    TERMINOLOGY,
    UCUM,
    Json,
    coded,
    concept,
    localized,
    text,
    uri,
)

Component = MdsDescriptor | VmdDescriptor | ChannelDescriptor

STATUS_REASON: Mapping[str, str] = {
    "On": "online",
    "NotRdy": "not-ready",
    "StndBy": "standby",
    "Off": "off",
    "Shtdn": "not-ready",
    "Fail": "not-ready",
}
_SERIAL_NUMBER, _PART_NUMBER = "531972", "531973"
_REVISIONS = frozenset({"531974", "531975", "531976"})  # hardware, software, firmware
_DATE = re.compile(r"\d{4}(-\d{2}(-\d{2})?)?")


def extension(url: str, kind: str, value: object) -> Json:
    """An extension with a value of that type."""
    return {"url": url, "value" + kind[0].upper() + kind[1:]: value}


def device(
    mdib: Mdib,
    descriptor: Component,
    identities: Device,
    parent: Json | None,
    association: Association,
    *,
    gone: bool = False,
) -> Json:
    """The Device of an MDS, VMD or channel; `parent` is the reference to the one above it (None for an MDS).

    `gone` says that it is no longer there: `mdib` is the last one that knew it.
    """
    lang = language(mdib, identities.mds)
    identifiers: tuple[Identifier, ...] = (identities.component(descriptor.handle),)
    if isinstance(descriptor, MdsDescriptor):
        profile, identifiers = "MdsDevice", identities.identifiers
    else:
        profile = "VmdDevice" if isinstance(descriptor, VmdDescriptor) else "ChannelDevice"
        identifiers += tuple(component_ids(mdib, descriptor.handle))
        if isinstance(descriptor, VmdDescriptor):
            identifiers += tuple(equipment_identifiers(descriptor))
    activation = "Off" if gone else getattr(mdib.states.get(descriptor.handle), "activation_state", "On")
    found: Json = {
        "resourceType": "Device",
        "meta": {"profile": [POCD + profile]},
        "extension": _extensions(mdib, descriptor, lang),
        "identifier": [identifier.json() for identifier in dict.fromkeys(identifiers)],
        "status": "active" if activation == "On" else "inactive",
        "statusReason": [coded(TERMINOLOGY + "device-status-reason", STATUS_REASON[activation])],
        **_specified(descriptor, lang),
        "type": concept(descriptor.type, lang) or coded(DATA_ABSENT, "unknown"),
        "version": _versions(descriptor, lang),
        "safety": [coded(TERMINOLOGY + "safety-classification", descriptor.safety_classification)],
        "parent": parent,
    }
    if isinstance(descriptor, MdsDescriptor):
        found |= _meta_data(descriptor.meta_data or MetaData(), lang)
        found["property"] = _clock(mdib, descriptor, lang)
        found["patient"] = patient_reference(association.patient)
        found["location"] = location_reference(association.location)
    return without_empty(found)


def without_empty(resource: Json) -> Json:
    """Without the elements that are None or empty, which FHIR forbids."""
    return {name: value for name, value in resource.items() if value is not None and value not in ([], {}, "")}


def language(mdib: Mdib, mds: str) -> str:
    """The language that an MDS says its texts are in by default."""
    state = mdib.states.get(mds)
    return state.lang if isinstance(state, MdsState) else "en"


def instance(state: object, lang: str) -> list[Json]:
    """The device-instance extension from a state's PhysicalConnector, if it has one."""
    connector = getattr(state, "physical_connector", None)
    if connector is None:
        return []
    parts = []
    if connector.number is not None and connector.number >= 0:
        parts.append(extension("number", "unsignedInt", connector.number))
    if label := localized(connector.label, lang):
        parts.append(extension("label", "string", label))
    return [{"url": POCD + "device-instance", "extension": parts}] if parts else []


def _extensions(mdib: Mdib, descriptor: Component, lang: str) -> list[Json]:
    state = mdib.states.get(descriptor.handle)
    found = [] if isinstance(descriptor, MdsDescriptor) else instance(state, lang)
    for name, url in (("operating_hours", "operating-hours"), ("operating_cycles", "operating-cycles")):
        amount = getattr(state, name, None)
        if amount is not None and 0 <= amount < 2**31:
            found.append(extension(POCD + url, "unsignedInt", amount))
    if isinstance(state, MdsState):
        found.append(extension(POCD + "operating-mode", "code", state.operating_mode))
    return found


def _specified(descriptor: Component, lang: str) -> Json:
    found: Json = {}
    for specification in descriptor.production_specification:
        kind = specification.spec_type
        name = {_SERIAL_NUMBER: "serialNumber", _PART_NUMBER: "partNumber"}.get(kind.code if kind.is_mdc else "")
        if name is not None and (value := text(specification.production_spec)):
            found.setdefault(name, value)
    if not isinstance(descriptor, MdsDescriptor) and descriptor.type is not None:
        label = localized(descriptor.type.concept_description, lang)
        found["deviceName"] = [{"name": label, "type": "user-friendly-name"}] if label else []
    return found


def _versions(descriptor: Component, lang: str) -> list[Json]:
    found = []
    for specification in descriptor.production_specification:
        value = text(specification.production_spec)
        if value is not None and specification.spec_type.is_mdc and specification.spec_type.code in _REVISIONS:
            kind = concept(specification.spec_type, lang)
            found.append(({"type": kind} if kind else {}) | {"value": value})
    return found


def _meta_data(meta: MetaData, lang: str) -> Json:
    names: dict[str, str] = {}
    for model in meta.model_name:  # one for each language, English first (mapping 1.4)
        if (name := text(model.text)) is not None:
            names.setdefault((model.lang or "en").lower(), name)
    ordered = sorted(names, key=lambda tag: not tag.startswith("en"))
    found: Json = {
        "udiCarrier": [_udi(udi) for udi in meta.udi],
        "manufacturer": localized(meta.manufacturer, lang),
        "manufactureDate": _date(meta.manufacture_date),
        "expirationDate": _date(meta.expiration_date),
        "lotNumber": text(meta.lot_number),
        "deviceName": [{"name": names[tag], "type": "model-name"} for tag in ordered],
        "modelNumber": text(meta.model_number),
    }
    if meta.serial_number and (serial := text(meta.serial_number[0])):
        found["serialNumber"] = serial
    return found


def _date(raw: str | None) -> str | None:
    """The date of an XSD date or dateTime; a zone on a date alone is not R4."""
    match = _DATE.match(raw or "")
    return match[0] if match else None


def _udi(udi: Udi) -> Json:
    issuer, jurisdiction = udi.issuer, instance_identifier(udi.jurisdiction)
    return without_empty(
        {
            "deviceIdentifier": text(udi.device_identifier),
            "issuer": uri(issuer.root) if issuer.root and issuer.root != "biceps.uri.unk" else None,
            "jurisdiction": jurisdiction and uri(jurisdiction.system + jurisdiction.value),
            "carrierHRF": text(udi.human_readable_form),
        }
    )


def _clock(mdib: Mdib, mds: MdsDescriptor, lang: str) -> list[Json]:
    """Device.property of the clock: its protocols; whether it is synchronised; its accuracy in seconds (1.4 [D])."""
    clock = next((child for child in mdib.children(mds.handle) if isinstance(child, ClockDescriptor)), None)
    if clock is None:
        return []
    state = mdib.states.get(clock.handle)
    kind = concept(clock.type, lang) or {"text": "clock"}
    values = [value for protocol in clock.time_protocol if (value := concept(protocol, lang))]
    found: Json = {"type": kind, "valueCode": values}
    if isinstance(state, ClockState):
        values.append({"text": "synchronised" if state.remote_sync else "not synchronised"})
        if state.accuracy is not None and state.accuracy.is_finite():
            found["valueQuantity"] = [{"value": state.accuracy, "unit": "s", "system": UCUM, "code": "s"}]
    return [without_empty(found)]
