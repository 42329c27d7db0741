"""MSH, PID, PV1 and equipment identifiers, the same in PCD-01 and PCD-04 (mapping sections 2 to 4 and 6)."""

import re
from typing import Final

from mdib_models.coding import HL7_0203, InstanceIdentifier
from mdib_models.descriptors import MdsDescriptor, VmdDescriptor
from mdib_models.identity import DeviceId, Handle
from mdib_models.mirror import Mdib
from mdib_models.states import LocationDetail, MdsState, PatientContextState, PatientDemographics
from mdib_models.updates import Association
from sdc_node.hl7.build import components, leaf, repetitions, segment
from sdc_node.hl7.dtm import format_birth_date, format_dtm
from sdc_node.sinks.hl7v2.coded import race
from sdc_node.sinks.hl7v2.interval import Gateway, Stamps

EntityIdentifier = tuple[str, str, str, str]
"""EI-1 to EI-4, not yet escaped."""

_NULL: Final = '""'
_NO_ROOT: Final = frozenset({None, "", "biceps.uri.unk"})
_MAX_IDENTIFIERS: Final = 6  # PID-3, IHE PCD TF-2
_EUI64: Final = re.compile(r"(?=[0-9]*[A-Fa-f:-])[0-9A-Fa-f]{2}(?:([:-]?)[0-9A-Fa-f]{2})(?:\1[0-9A-Fa-f]{2}){6}\Z")
_DNS: Final = re.compile(r"[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+\Z")
_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S+\Z")


def message_header(
    stamps: Stamps, message_type: tuple[str, str, str], profile: tuple[str, str], processing_id: str
) -> str:
    """MSH; ``profile`` is EI-1 and the OID of MSH-21."""
    gateway = stamps.gateway
    return segment(
        "MSH",
        {
            3: components(leaf(gateway.application), leaf(gateway.eui64), "EUI-64"),
            4: leaf(gateway.facility),
            5: leaf(gateway.receiving_application),
            6: leaf(gateway.receiving_facility),
            7: format_dtm(stamps.built),
            9: components(*message_type),
            10: leaf(stamps.control_id),
            11: processing_id,
            12: "2.6",
            15: "AL",
            16: "NE",
            17: leaf(gateway.country),
            18: "UNICODE UTF-8",
            19: components(*(leaf(part) for part in gateway.language_field.split("^"))),
            21: components(leaf(profile[0]), "IHE PCD", profile[1], "ISO"),
        },
    )


def processing_id(mdib: Mdib, mds: Handle) -> str:
    """MSH-11 (R8118): P for an MDS in normal operation, D for demonstration, service and maintenance."""
    state = mdib.states.get(mds)
    return "P" if not isinstance(state, MdsState) or state.operating_mode == "Nml" else "D"


def gateway_identifier(gateway: Gateway, identifier: str) -> str:
    """An EI that the gateway assigns (R8003, R8004, R8050)."""
    return components(leaf(identifier), leaf(gateway.application), leaf(gateway.eui64), "EUI-64")


def patient(association: Association) -> str:
    """PID (R8102 to R8109); without a valid patient context it says only that nobody is known."""
    context = association.patient
    if context is None:
        return segment("PID", {5: "^^^^^^U", 31: "Y"})
    data = context.core_data or PatientDemographics()
    return segment(
        "PID",
        {
            3: repetitions(_identifier(one) for one in context.identification[:_MAX_IDENTIFIERS]),
            5: _name(data),
            6: leaf(data.birthname),
            7: _birth_date(data.date_of_birth),
            10: race(data.race) if data.race is not None else "",
            31: "N",
        },
    )


def visit(association: Association, patient_class: str) -> str:
    """PV1 (R8111 to R8116): where the MDS is, and the visit that the patient's identifiers name."""
    context = association.patient
    place = association.location.location_detail if association.location is not None else None
    number = _visit_number(context) if context is not None else None
    has_visit = context is not None and any(_type_code(one) == "VN" for one in context.identification)
    return segment(
        "PV1",
        {
            2: leaf(patient_class),
            3: _location(place) if place is not None else "",
            19: _identifier(number) if number is not None else "",
            51: "V" if has_visit else "",
        },
    )


def equipment_identifier(mdib: Mdib, mds: Handle) -> EntityIdentifier:
    """OBX-18 of an MDS (R8117); for providers that state none: EUI-64, serial number, EPR, in this order."""
    descriptor = mdib.find(mds)
    if isinstance(descriptor, MdsDescriptor):
        if descriptor.equipment_identifier:
            return _universal(descriptor.equipment_identifier)
        found = _eui64(descriptor) or _serial_number(descriptor)
        if found is not None:
            return found
    return _universal(mdib.device)


def module_identifier(descriptor: VmdDescriptor) -> EntityIdentifier | None:
    """OBX-18 of a VMD, where the provider states one."""
    return _universal(descriptor.equipment_identifier) if descriptor.equipment_identifier else None


def entity(identifier: EntityIdentifier) -> str:
    """An EI field."""
    return components(*(leaf(part) for part in identifier))


def _universal(uri: str | DeviceId) -> EntityIdentifier:
    scheme = uri[:9].lower()
    if scheme == "urn:uuid:":
        return uri[9:], "", uri[9:], "UUID"
    if scheme.startswith("urn:oid:"):
        return uri[8:], "", uri[8:], "ISO"
    return uri, "", uri, "URI"


def _eui64(descriptor: MdsDescriptor) -> EntityIdentifier | None:
    for specification in descriptor.production_specification:
        component = specification.component_id
        if component is not None and component.extension and _EUI64.match(component.extension):
            eui64 = re.sub("[:-]", "", component.extension).upper()
            return eui64, "", eui64, "EUI-64"
    return None


def _serial_number(descriptor: MdsDescriptor) -> EntityIdentifier | None:
    data = descriptor.meta_data
    serial = next((number for number in data.serial_number if number), "") if data is not None else ""
    if data is None or not serial:
        return None
    model = next((text.text for text in data.model_name if text.text), "")
    for manufacturer in data.manufacturer:
        if _DNS.match(manufacturer.text):
            return serial, model, manufacturer.text, "DNS"
        if _URI.match(manufacturer.text):
            return serial, model, manufacturer.text, "URI"
    return None


def _identifier(identifier: InstanceIdentifier) -> str:
    root = "" if identifier.root in _NO_ROOT else leaf(identifier.root)
    return components(leaf(identifier.extension) or _NULL, "", "", root, leaf(_type_code(identifier)) or "U")


def _type_code(identifier: InstanceIdentifier) -> str:
    kind = identifier.type
    return kind.code if kind is not None and kind.coding_system == HL7_0203 else ""


def _visit_number(context: PatientContextState) -> InstanceIdentifier | None:
    for wanted in ("VN", "AN"):
        for identifier in context.identification:
            if _type_code(identifier) == wanted:
                return identifier
    return None


def _name(data: PatientDemographics) -> str:
    middle = " ".join(part for part in data.middlename if part)
    parts = [leaf(data.familyname), leaf(data.givenname), leaf(middle), "", leaf(data.title), ""]
    return components(*parts, "L" if any(parts) else "U")


def _birth_date(text: str | None) -> str:
    try:
        return format_birth_date(text) if text else ""
    except ValueError:  # a device's text that is no date; PID-7 then states none
        return ""


def _location(place: LocationDetail) -> str:
    return components(
        leaf(place.po_c),
        leaf(place.room),
        leaf(place.bed),
        leaf(place.facility),
        "",
        "",
        leaf(place.building),
        leaf(place.floor),
    )
