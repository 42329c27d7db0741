"""From the mirror to FHIR R4 bundles: the device tree, values, alerts (fhir_mapping 1.11 and 7). Pure.

What is the same has the same identifiers and, as a Bundle, the same `Bundle.identifier`, so that the outbox and the
receiver drop repeats. The tree is a transaction of conditional updates whose resources refer to each other by
`urn:uuid`; values go as a batch of conditional creates, alerts as a batch of conditional updates. Observations refer
to Devices and DeviceMetrics logically, by `type` and `identifier`, for they are sent without knowing a server's ids;
so does everything that speaks of a patient, and no Patient is created here.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from mdib_models.alerts import AlertOccurrence
from mdib_models.descriptors import (
    ChannelDescriptor,
    DistributionSampleArrayMetricDescriptor,
    EnumStringMetricDescriptor,
    MdsDescriptor,
    NumericMetricDescriptor,
    RealTimeSampleArrayMetricDescriptor,
    StringMetricDescriptor,
    VmdDescriptor,
)
from mdib_models.identity import Handle, MdibVersionGroup
from mdib_models.mirror import Mdib
from mdib_models.updates import Association
from sdc_node.sinks.fhir.alert import alert_identifier, alert_observation
from sdc_node.sinks.fhir.device import device
from sdc_node.sinks.fhir.identity import Device, Identifier, Names, device_of, digest, uuid_of
from sdc_node.sinks.fhir.metric import device_metric
from sdc_node.sinks.fhir.observation import Sample, Skipped, context, instant, meta_source, observation
from sdc_node.sinks.fhir.terms import Json

MAX_ENTRIES = 200
MAX_BYTES = 1_000_000
"""Of one bundle (fhir_mapping 1.11)."""

NAMESPACE = "http://sdc-node.example/fhir"
"""Base of our own identifier and code systems, unless a site names one of its own."""

_COMPONENTS = MdsDescriptor | VmdDescriptor | ChannelDescriptor
_METRICS = (
    NumericMetricDescriptor
    | StringMetricDescriptor
    | EnumStringMetricDescriptor
    | RealTimeSampleArrayMetricDescriptor
    | DistributionSampleArrayMetricDescriptor
)
_ENCODER = msgspec.json.Encoder(decimal_format="number")


class Stamps(msgspec.Struct, frozen=True, kw_only=True):
    """What the sink has made for its bundles: when they are built (ms), and the base of our own URIs."""

    built: int
    namespace: str = NAMESPACE


class Message(msgspec.Struct, frozen=True):
    """One Bundle as it goes on the wire. `id` is the value of Bundle.identifier, `entries` how many it has."""

    id: str
    body: bytes
    entries: int


class Rendered(msgspec.Struct, frozen=True):
    """Bundles, and how many samples gave no Observation, by reason."""

    messages: tuple[Message, ...]
    skipped: Mapping[str, int]


class Tree(msgspec.Struct, frozen=True):
    """The bundles of one MDS's Devices and DeviceMetrics, in the order in which they must be sent.

    `digest` is that of their content without the MDIB version: while it stays the same, nothing needs to be sent.
    """

    messages: tuple[Message, ...]
    digest: str


def render_tree(mdib: Mdib, mds: Handle, association: Association, stamps: Stamps) -> Tree:
    """Transactions that bring an MDS, its VMDs, channels and metrics up to date on the server.

    One transaction, unless the tree has more than MAX_ENTRIES; what stands in an earlier one is then referred to by
    its identifier. Raises KeyError where the MDIB has no such MDS.
    """
    if not isinstance(mdib.descriptors[mds], MdsDescriptor):
        raise KeyError(mds)
    identities = device_of(mdib, mds, Names(stamps.namespace))
    chunks = _chunks(_ordered(mdib, mds))
    contents = [[*_tree_entries(mdib, chunk, identities, association)] for chunk in chunks]
    return _transactions("tree", mdib, mdib.version, mds, contents, stamps)


def render_gone(before: Mdib, after: Mdib, stamps: Stamps) -> tuple[Message, ...]:
    """Transactions that turn off what a device had and has no longer: nothing is deleted (fhir_mapping 1.11, 7).

    That is each Device and DeviceMetric of `before` that no part of `after` is found by. They must be sent before the
    trees of `after`, for what succeeds an MDS may bear its identifiers too.
    """
    names = Names(stamps.namespace)
    kept = {
        _found_by(identities, descriptor)
        for identities in _devices(after, names)
        for descriptor in _ordered(after, identities.mds)
    }
    messages: list[Message] = []
    for identities in _devices(before, names):
        ordered = _ordered(before, identities.mds)
        chunks = _chunks([one for one in ordered if _found_by(identities, one) not in kept])
        contents = [[*_tree_entries(before, chunk, identities, Association(), gone=True)] for chunk in chunks]
        messages += _transactions("gone", before, after.version, identities.mds, contents, stamps).messages
    return tuple(messages)


def _transactions(
    what: str, mdib: Mdib, version: MdibVersionGroup, mds: Handle, contents: Sequence[list[Json]], stamps: Stamps
) -> Tree:
    """The entries as transactions, which `version` tells from the same ones at another time."""
    content = hashlib.sha256(b"".join(map(_ENCODER.encode, contents))).hexdigest()
    instance_id = "" if version.instance_id is None else str(version.instance_id)
    messages = []
    for number, entries in enumerate(contents):
        for entry in entries:
            entry["resource"]["meta"] = {"source": meta_source(mdib), **entry["resource"]["meta"]}
        place = (version.sequence_id, instance_id, str(version.mdib_version), str(number))
        bundle_id = digest(what, mdib.device, mds, content, *place)
        messages.append(_bundle("transaction", bundle_id, entries, stamps))
    return Tree(tuple(messages), content)


def _devices(mdib: Mdib, names: Names) -> list[Device]:
    return [device_of(mdib, one.handle, names) for one in mdib.children(None) if isinstance(one, MdsDescriptor)]


def _ordered(mdib: Mdib, mds: Handle) -> list[_COMPONENTS | _METRICS]:
    """What becomes a Device, parents first, then what becomes a DeviceMetric."""
    walked = [mdib.descriptors[mds], *(descriptor for _, descriptor in mdib.walk(mds))]
    components = [descriptor for descriptor in walked if isinstance(descriptor, _COMPONENTS)]
    metrics = [descriptor for descriptor in walked if isinstance(descriptor, _METRICS)]
    return [*components, *metrics]


def _chunks(ordered: Sequence[_COMPONENTS | _METRICS]) -> list[Sequence[_COMPONENTS | _METRICS]]:
    return [ordered[start : start + MAX_ENTRIES] for start in range(0, len(ordered), MAX_ENTRIES)]


def _found_by(identities: Device, descriptor: _COMPONENTS | _METRICS) -> Identifier:
    handle = descriptor.handle
    return identities.component(handle) if isinstance(descriptor, _COMPONENTS) else identities.metric(handle)


def _tree_entries(
    mdib: Mdib,
    chunk: Sequence[_COMPONENTS | _METRICS],
    identities: Device,
    association: Association,
    *,
    gone: bool = False,
) -> Iterator[Json]:
    here = {descriptor.handle for descriptor in chunk}

    def reference(handle: Handle) -> Json:
        identifier = identities.component(handle)
        return {"reference": uuid_of(identifier)} if handle in here else identifier.reference("Device")

    for descriptor in chunk:
        identifier = _found_by(identities, descriptor)
        parent = reference(descriptor.parent) if descriptor.parent is not None else None
        if isinstance(descriptor, _COMPONENTS):
            resource = device(mdib, descriptor, identities, parent, association, gone=gone)
        else:
            source = reference(identities.mds)
            resource = device_metric(mdib, descriptor, identities, source, parent or source, gone=gone)
        yield {"fullUrl": uuid_of(identifier), "resource": resource, "request": _update(resource, identifier)}


def render_observations(
    mdib: Mdib, mds: Handle, samples: Sequence[Sample], association: Association, stamps: Stamps
) -> Rendered:
    """Batches of Observations of one MDS, each of at most MAX_ENTRIES and about MAX_BYTES.

    `samples` are all of that MDS, and `association` says whose they are. A sample whose Observation cannot be made is
    counted by reason: not-a-metric, not-in-force, no-value-yet, no-code, time-out-of-range.
    """
    shared = context(mdib, device_of(mdib, mds, Names(stamps.namespace)), association)
    skipped: Counter[str] = Counter()
    entries: list[Json] = []
    for sample in samples:
        try:
            resource = observation(shared, sample)
        except Skipped as skip:
            skipped[skip.reason] += 1
            continue
        known = Identifier(**resource["identifier"][0])
        request = {"method": "POST", "url": "Observation", "ifNoneExist": known.search()}
        entries.append({"fullUrl": uuid_of(known), "resource": resource, "request": request})
    messages = tuple(_values(part, stamps) for part in _parts(entries))
    return Rendered(messages, dict(skipped))


def _values(entries: list[Json], stamps: Stamps) -> Message:
    bundle_id = digest("values", *(entry["fullUrl"] for entry in entries))
    return _bundle("batch", bundle_id, entries, stamps)


def _parts(entries: Sequence[Json]) -> Iterator[list[Json]]:
    part: list[Json] = []
    size = 0
    for entry in entries:
        length = len(_ENCODER.encode(entry))
        if part and (len(part) == MAX_ENTRIES or size + length > MAX_BYTES):
            yield part
            part, size = [], 0
        part.append(entry)
        size += length
    if part:
        yield part


def render_alert(mdib: Mdib, occurrence: AlertOccurrence, stamps: Stamps) -> Rendered:
    """A batch of the one Observation of an alert occurrence, in its present phase."""
    identities = device_of(mdib, occurrence.key.mds, Names(stamps.namespace))
    try:
        resource = alert_observation(mdib, identities, occurrence, stamps.built)
    except Skipped as skip:
        return Rendered((), {skip.reason: 1})
    identifier = alert_identifier(identities, occurrence)
    entry = {
        "fullUrl": uuid_of(identifier),
        "resource": resource,
        "request": _update(resource, identifier),
    }
    said = _ENCODER.encode((occurrence.phase, occurrence.snapshot)).decode()
    bundle_id = digest("alert", identifier.system, identifier.value, str(occurrence.number), said)
    return Rendered((_bundle("batch", bundle_id, [entry], stamps),), {})


def _update(resource: Json, identifier: Identifier) -> Json:
    return {"method": "PUT", "url": f"{resource['resourceType']}?{identifier.search()}"}


def _bundle(kind: str, bundle_id: str, entries: Sequence[Json], stamps: Stamps) -> Message:
    bundle = {
        "resourceType": "Bundle",
        "identifier": Identifier(Names(stamps.namespace).system("bundle"), bundle_id).json(),
        "type": kind,
        "timestamp": instant(stamps.built),
        "entry": entries,
    }
    return Message(bundle_id, _ENCODER.encode(bundle), len(entries))
