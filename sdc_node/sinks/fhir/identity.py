"""Who is who in FHIR: identifiers, references and deterministic ids of devices, metrics and patients. Pure.

Section 7 and 1.11 of the mapping, with two departures. A ComponentId that is no EUI-64 is kept as an identifier, but a
device is never found by it: it names a kind of part, and two devices that share one would become one Device. And the
parts of our own identifiers are joined by "/" and percent-encoded, for "|" "," "$" have meanings in FHIR searches.
"""

import hashlib
from urllib.parse import quote

import msgspec

from mdib_models.coding import HL7_0203, InstanceIdentifier
from mdib_models.descriptors import MdsDescriptor, VmdDescriptor
from mdib_models.identity import DeviceId, Handle
from mdib_models.mirror import Mdib
from mdib_models.states import LocationContextState, PatientContextState
from sdc_node.sinks.fhir.terms import IDENTIFIER_TYPE, URI_SYSTEM, Json, text, uri

EUI64 = "urn:oid:1.2.840.10004.1.1.1.0.0.1.0.0.1.2680"


class Identifier(msgspec.Struct, frozen=True):
    """A FHIR Identifier; system and value together name one thing."""

    system: str
    value: str

    def json(self) -> Json:
        """As it stands in a resource."""
        return {"system": self.system, "value": self.value}

    def search(self) -> str:
        """`identifier=system|value` as a query, percent-encoded, with FHIR's own escapes (R4 search 3.1.1.4.0)."""
        escaped = self.value.replace("\\", "\\\\").replace(",", "\\,").replace("$", "\\$")
        return "identifier=" + quote(f"{self.system}|{escaped}", safe="")

    def reference(self, kind: str) -> Json:
        """A logical reference to the resource of that type which has this identifier."""
        return {"type": kind, "identifier": self.json()}


class Names(msgspec.Struct, frozen=True):
    """Our own identifier systems, all below one base URI that a site may choose."""

    base: str

    def system(self, kind: str) -> str:
        """The identifier system of that kind of thing."""
        return f"{self.base.rstrip('/')}/identifier/{kind}"

    def codes(self, kind: str) -> str:
        """Our own code system of that name."""
        return f"{self.base.rstrip('/')}/CodeSystem/{kind}"


def join(*parts: str) -> str:
    """The parts as one identifier value; different parts never give the same value."""
    return "/".join(quote(part, safe=":._~@+-") for part in parts)


def digest(*parts: str) -> str:
    """SHA-256 of the parts, in hex."""
    return hashlib.sha256(join(*parts).encode()).hexdigest()


def uuid_of(identifier: Identifier) -> str:
    """A `urn:uuid:` that follows from the identifier alone (RFC 9562, version 8)."""
    found = digest("uuid", identifier.system, identifier.value)
    variant = "89ab"[int(found[16], 16) % 4]
    return f"urn:uuid:{found[:8]}-{found[8:12]}-8{found[13:16]}-{variant}{found[17:20]}-{found[20:32]}"


def mds_identifiers(mdib: Mdib, mds: Handle, names: Names) -> tuple[Identifier, ...]:
    """All identifiers of an MDS, first the one it is found by.

    That is its EUI-64, else its EquipmentIdentifier (SDPi R0014), else UDI-DI and serial number, else EPR and handle.
    One that another MDS of the same device has too does not count: two MDSs are two Devices.
    """
    own = _candidates(mdib, mds, names)
    others = {
        candidate
        for descriptor in mdib.children(None)
        if descriptor.handle != mds
        for candidate in _candidates(mdib, descriptor.handle, names)
    }
    unique = [candidate for candidate in own if candidate not in others]
    return tuple(dict.fromkeys((*unique, *component_ids(mdib, mds))))


def _candidates(mdib: Mdib, mds: Handle, names: Names) -> list[Identifier]:
    found = [identifier for identifier in component_ids(mdib, mds) if identifier.system == EUI64]
    descriptor = mdib.find(mds)
    if isinstance(descriptor, MdsDescriptor):
        found += equipment_identifiers(descriptor)
        meta = descriptor.meta_data
        kind = text(meta.udi[0].device_identifier) if meta is not None and meta.udi else None
        serial = text(meta.serial_number[0]) if meta is not None and meta.serial_number else None
        if kind is not None and serial is not None:
            found.append(Identifier(names.system("udi-serial"), join(kind, serial)))
    return [*found, Identifier(names.system("mds"), join(mdib.device, mds))]


def equipment_identifiers(descriptor: MdsDescriptor | VmdDescriptor) -> list[Identifier]:
    """sdpi:EquipmentIdentifier, a URI, as an identifier; empty where there is none."""
    value = "".join((descriptor.equipment_identifier or "").split())
    return [Identifier(URI_SYSTEM, value)] if value else []


def component_ids(mdib: Mdib, handle: Handle) -> list[Identifier]:
    """The ComponentIds of a component's production specification, EUI-64 in FHIR's spelling."""
    found = []
    for specification in getattr(mdib.find(handle), "production_specification", ()):
        identifier = instance_identifier(specification.component_id)
        if identifier is not None and identifier.system == EUI64:
            found.append(Identifier(EUI64, _eui64(identifier.value)))
        elif identifier is not None:
            found.append(identifier)
    return found


def _eui64(value: str) -> str:
    digits = "".join(character for character in value.upper() if character in "0123456789ABCDEF")
    return "-".join(digits[i : i + 2] for i in range(0, 16, 2)) if len(digits) == 16 else value


def instance_identifier(instance: InstanceIdentifier | None) -> Identifier | None:
    """pm:InstanceIdentifier as an Identifier; None unless it has both a known root and an extension."""
    if instance is None or instance.root in {None, "biceps.uri.unk"}:
        return None
    system, value = uri(instance.root or ""), text(instance.extension)
    return Identifier(system, value) if system and value is not None else None


class Device(msgspec.Struct, frozen=True):
    """The identities of one MDS's tree: what its VMDs, channels, metrics and alerts are called."""

    id: DeviceId
    mds: Handle
    identifiers: tuple[Identifier, ...]
    names: Names

    @property
    def identifier(self) -> Identifier:
        """What the MDS's Device is found by."""
        return self.identifiers[0]

    def component(self, handle: Handle) -> Identifier:
        """What the Device of a VMD or channel, or the MDS itself, is found by."""
        return self.identifier if handle == self.mds else self._own("component", handle)

    def metric(self, handle: Handle) -> Identifier:
        """What a DeviceMetric is found by."""
        return self._own("metric", handle)

    def alert(self, occurrence: str) -> Identifier:
        """What the Observation of an alert occurrence is found by."""
        return self._own("alert", occurrence)

    def observation(self, *parts: str) -> Identifier:
        """What an Observation is found by: a digest of everything that makes it one of its kind."""
        value = digest(self.id, self.identifier.system, self.identifier.value, *parts)
        return Identifier(self.names.system("observation"), value)

    def _own(self, kind: str, name: str) -> Identifier:
        key = self.identifier
        ours = key.system.startswith(self.names.base)
        mds = key.value if ours else join(key.system, key.value)
        return Identifier(self.names.system(kind), f"{mds}/{join(name)}")


def device_of(mdib: Mdib, mds: Handle, names: Names) -> Device:
    """The identities of an MDS's tree."""
    return Device(mdib.device, mds, mds_identifiers(mdib, mds, names), names)


def patient_reference(patient: PatientContextState | None) -> Json | None:
    """A logical reference to the patient by the medical record number, else by the first usable identifier."""
    if patient is None:
        return None
    named = ((one, instance_identifier(one)) for one in patient.identification)
    usable = [(one, identifier) for one, identifier in named if identifier is not None]
    if not usable:
        return None
    chosen, identifier = next((pair for pair in usable if _is_record_number(pair[0])), usable[0])
    kind = chosen.type
    found: Json = {}
    if kind is not None and kind.system == HL7_0203 and kind.code.isalnum():
        found["type"] = {"coding": [{"system": IDENTIFIER_TYPE, "code": kind.code}]}
    return {"type": "Patient", "identifier": found | identifier.json()}


def _is_record_number(instance: InstanceIdentifier) -> bool:
    kind = instance.type
    return kind is not None and kind.system == HL7_0203 and kind.code == "MR"


def location_reference(location: LocationContextState | None) -> Json | None:
    """A logical reference to the place by its first usable identifier."""
    for instance in location.identification if location is not None else ():
        if (identifier := instance_identifier(instance)) is not None:
            return identifier.reference("Location")
    return None
