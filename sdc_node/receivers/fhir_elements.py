"""The elements of FHIR R4 (4.0.1) that the receiver for trying out knows: names, cardinalities, types, bindings.

One line an element, as in the specification's own tables: name, cardinality, type, and either the required
binding (`=name`) or the permitted reference targets (`>Type|Type`). A name ending in `[x]` is a choice.
"""

import re
from collections.abc import Mapping

import msgspec

RESOURCES = ("Device", "DeviceMetric", "Observation")

CODES: Mapping[str, frozenset[str]] = {
    name: frozenset(codes.split())
    for name, codes in {
        "observation-status": ("registered preliminary final amended corrected cancelled entered-in-error unknown"),
        "device-status": "active inactive entered-in-error unknown",
        "udi-entry-type": "barcode rfid manual card self-reported unknown",
        "device-nametype": (
            "udi-label-name user-friendly-name patient-reported-name manufacturer-name model-name other"
        ),
        "metric-operational-status": "on off standby entered-in-error",
        "metric-color": "black red green yellow blue magenta cyan white",
        "metric-category": "measurement setting calculation unspecified",
        "metric-calibration-type": "unspecified offset gain two-point",
        "metric-calibration-state": "not-calibrated calibration-required calibrated unspecified",
        "quantity-comparator": "< <= >= >",
        "identifier-use": "usual official temp secondary old",
        "narrative-status": "generated extensions additional empty",
        "units-of-time": "s min h d wk mo a",
        "contact-point-system": "phone fax email pager url sms other",
        "contact-point-use": "home work temp old mobile",
    }.items()
}

_TABLES = """
Element
    id 0..1 string
    extension 0..* Extension
Extension
    id 0..1 string
    extension 0..* Extension
    url 1..1 uri
    value[x] 0..1 base64Binary|boolean|canonical|code|date|dateTime|decimal|id|instant|integer|markdown|oid\
|positiveInt|string|time|unsignedInt|uri|url|uuid|Annotation|CodeableConcept|Coding|Identifier|Period\
|Quantity|Range|Ratio|Reference|SampledData|Timing
Meta : Element
    versionId 0..1 id
    lastUpdated 0..1 instant
    source 0..1 uri
    profile 0..* canonical
    security 0..* Coding
    tag 0..* Coding
Narrative : Element
    status 1..1 code =narrative-status
    div 1..1 string
Coding : Element
    system 0..1 uri
    version 0..1 string
    code 0..1 code
    display 0..1 string
    userSelected 0..1 boolean
CodeableConcept : Element
    coding 0..* Coding
    text 0..1 string
Identifier : Element
    use 0..1 code =identifier-use
    type 0..1 CodeableConcept
    system 0..1 uri
    value 0..1 string
    period 0..1 Period
    assigner 0..1 Reference >Organization
Reference : Element
    reference 0..1 string
    type 0..1 uri
    identifier 0..1 Identifier
    display 0..1 string
Period : Element
    start 0..1 dateTime
    end 0..1 dateTime
Quantity : Element
    value 0..1 decimal
    comparator 0..1 code =quantity-comparator
    unit 0..1 string
    system 0..1 uri
    code 0..1 code
Range : Element
    low 0..1 Quantity
    high 0..1 Quantity
Ratio : Element
    numerator 0..1 Quantity
    denominator 0..1 Quantity
SampledData : Element
    origin 1..1 Quantity
    period 1..1 decimal
    factor 0..1 decimal
    lowerLimit 0..1 decimal
    upperLimit 0..1 decimal
    dimensions 1..1 positiveInt
    data 0..1 string
Annotation : Element
    author[x] 0..1 Reference|string
    time 0..1 dateTime
    text 1..1 markdown
ContactPoint : Element
    system 0..1 code =contact-point-system
    value 0..1 string
    use 0..1 code =contact-point-use
    rank 0..1 positiveInt
    period 0..1 Period
Timing : Element
    event 0..* dateTime
    repeat 0..1 Timing.repeat
    code 0..1 CodeableConcept
Timing.repeat : Element
    bounds[x] 0..1 Quantity|Range|Period
    count 0..1 positiveInt
    countMax 0..1 positiveInt
    duration 0..1 decimal
    durationMax 0..1 decimal
    durationUnit 0..1 code =units-of-time
    frequency 0..1 positiveInt
    frequencyMax 0..1 positiveInt
    period 0..1 decimal
    periodMax 0..1 decimal
    periodUnit 0..1 code =units-of-time
Backbone : Element
    modifierExtension 0..* Extension
DomainResource
    resourceType 1..1 code
    id 0..1 id
    meta 0..1 Meta
    implicitRules 0..1 uri
    language 0..1 code
    text 0..1 Narrative
    contained 0..* Resource
    extension 0..* Extension
    modifierExtension 0..* Extension
    identifier 0..* Identifier
Device : DomainResource
    definition 0..1 Reference >DeviceDefinition
    udiCarrier 0..* Device.udiCarrier
    status 0..1 code =device-status
    statusReason 0..* CodeableConcept
    distinctIdentifier 0..1 string
    manufacturer 0..1 string
    manufactureDate 0..1 dateTime
    expirationDate 0..1 dateTime
    lotNumber 0..1 string
    serialNumber 0..1 string
    deviceName 0..* Device.deviceName
    modelNumber 0..1 string
    partNumber 0..1 string
    type 0..1 CodeableConcept
    specialization 0..* Device.specialization
    version 0..* Device.version
    property 0..* Device.property
    patient 0..1 Reference >Patient
    owner 0..1 Reference >Organization
    contact 0..* ContactPoint
    location 0..1 Reference >Location
    url 0..1 uri
    note 0..* Annotation
    safety 0..* CodeableConcept
    parent 0..1 Reference >Device
Device.udiCarrier : Backbone
    deviceIdentifier 0..1 string
    issuer 0..1 uri
    jurisdiction 0..1 uri
    carrierAIDC 0..1 base64Binary
    carrierHRF 0..1 string
    entryType 0..1 code =udi-entry-type
Device.deviceName : Backbone
    name 1..1 string
    type 1..1 code =device-nametype
Device.specialization : Backbone
    systemType 1..1 CodeableConcept
    version 0..1 string
Device.version : Backbone
    type 0..1 CodeableConcept
    component 0..1 Identifier
    value 1..1 string
Device.property : Backbone
    type 1..1 CodeableConcept
    valueQuantity 0..* Quantity
    valueCode 0..* CodeableConcept
DeviceMetric : DomainResource
    type 1..1 CodeableConcept
    unit 0..1 CodeableConcept
    source 0..1 Reference >Device
    parent 0..1 Reference >Device
    operationalStatus 0..1 code =metric-operational-status
    color 0..1 code =metric-color
    category 1..1 code =metric-category
    measurementPeriod 0..1 Timing
    calibration 0..* DeviceMetric.calibration
DeviceMetric.calibration : Backbone
    type 0..1 code =metric-calibration-type
    state 0..1 code =metric-calibration-state
    time 0..1 instant
Observation : DomainResource
    basedOn 0..* Reference >CarePlan|DeviceRequest|ImmunizationRecommendation|MedicationRequest|NutritionOrder\
|ServiceRequest
    partOf 0..* Reference >MedicationAdministration|MedicationDispense|MedicationStatement|Procedure\
|Immunization|ImagingStudy
    status 1..1 code =observation-status
    category 0..* CodeableConcept
    code 1..1 CodeableConcept
    subject 0..1 Reference >Patient|Group|Device|Location
    focus 0..* Reference
    encounter 0..1 Reference >Encounter
    effective[x] 0..1 dateTime|Period|Timing|instant
    issued 0..1 instant
    performer 0..* Reference >Practitioner|PractitionerRole|Organization|CareTeam|Patient|RelatedPerson
    value[x] 0..1 Quantity|CodeableConcept|string|boolean|integer|Range|Ratio|SampledData|time|dateTime|Period
    dataAbsentReason 0..1 CodeableConcept
    interpretation 0..* CodeableConcept
    note 0..* Annotation
    bodySite 0..1 CodeableConcept
    method 0..1 CodeableConcept
    specimen 0..1 Reference >Specimen
    device 0..1 Reference >Device|DeviceMetric
    referenceRange 0..* Observation.referenceRange
    hasMember 0..* Reference >Observation|QuestionnaireResponse|MolecularSequence
    derivedFrom 0..* Reference >DocumentReference|ImagingStudy|Media|QuestionnaireResponse|Observation\
|MolecularSequence
    component 0..* Observation.component
Observation.referenceRange : Backbone
    low 0..1 Quantity
    high 0..1 Quantity
    type 0..1 CodeableConcept
    appliesTo 0..* CodeableConcept
    age 0..1 Range
    text 0..1 string
Observation.component : Backbone
    code 1..1 CodeableConcept
    value[x] 0..1 Quantity|CodeableConcept|string|boolean|integer|Range|Ratio|SampledData|time|dateTime|Period
    dataAbsentReason 0..1 CodeableConcept
    interpretation 0..* CodeableConcept
    referenceRange 0..* Observation.referenceRange
"""


class Element(msgspec.Struct, frozen=True):
    """One JSON property of a type; `choice` names the `[x]` element that it is a form of, else its own name."""

    name: str
    type: str
    choice: str
    required: bool
    many: bool
    codes: frozenset[str] | None = None
    targets: frozenset[str] | None = None


def _elements(line: str) -> list[Element]:
    name, cardinality, types, *rest = line.split()
    detail = rest[0] if rest else ""
    codes = CODES[detail[1:]] if detail.startswith("=") else None
    targets = frozenset(detail[1:].split("|")) if detail.startswith(">") else None
    required, many = cardinality.startswith("1"), cardinality.endswith("*")
    if not name.endswith("[x]"):
        return [Element(name, types, name, required, many, codes, targets)]
    stem = name[:-3]
    return [Element(stem + kind[0].upper() + kind[1:], kind, stem, required, many) for kind in types.split("|")]


def _read(tables: str) -> dict[str, dict[str, Element]]:
    types: dict[str, dict[str, Element]] = {}
    current: dict[str, Element] = {}
    for line in filter(None, tables.splitlines()):
        if line.startswith(" "):
            current.update((element.name, element) for element in _elements(line))
        else:
            name, _, base = line.partition(" : ")
            current = types[name] = dict(types[base]) if base else {}
    return types


TYPES: Mapping[str, Mapping[str, Element]] = _read(_TABLES)
NAMES = frozenset(name for elements in TYPES.values() for name in elements)

_DATE = r"\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?"
_DAY = r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
_CLOCK = r"([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?"
_ZONE = r"(Z|[+-]((0\d|1[0-3]):[0-5]\d|14:00))"
_TEXT = r"[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]+"

TEXT_FORMS: Mapping[str, re.Pattern[str]] = {
    "base64Binary": re.compile(r"[A-Za-z0-9+/\s]+={0,2}"),
    "canonical": re.compile(r"\S+"),
    "code": re.compile(r"[^\s\x00-\x1f]+( [^\s\x00-\x1f]+)*"),
    "date": re.compile(_DATE),
    "dateTime": re.compile(rf"{_DATE}|{_DAY}T{_CLOCK}{_ZONE}"),
    "id": re.compile(r"[A-Za-z0-9\-.]{1,64}"),
    "instant": re.compile(rf"{_DAY}T{_CLOCK}{_ZONE}"),
    "markdown": re.compile(_TEXT),
    "oid": re.compile(r"urn:oid:[0-2](\.(0|[1-9]\d*))+"),
    "string": re.compile(_TEXT),
    "time": re.compile(_CLOCK),
    "uri": re.compile(r"\S+"),
    "url": re.compile(r"\S+"),
    "uuid": re.compile(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
}
"""What a JSON string of each primitive type looks like; each pattern is linear in the text's length."""

NUMBER_FORMS = frozenset({"decimal", "integer", "positiveInt", "unsignedInt"})
