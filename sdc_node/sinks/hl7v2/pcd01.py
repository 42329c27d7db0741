"""PCD-01 (ORU^R01): the observations of one MDS over one export interval (mapping section 5)."""

from collections.abc import Iterator, Mapping
from typing import Final

from mdib_models.descriptors import MetricDescriptor
from mdib_models.identity import Handle
from sdc_node.hl7.build import components, encode, leaf, segment
from sdc_node.hl7.dtm import format_dtm_exact
from sdc_node.hl7.tables import PCD01_MESSAGE, PCD01_PROFILE
from sdc_node.sinks.hl7v2.containment import Path, device_chain, device_path, dotted, metric_path
from sdc_node.sinks.hl7v2.interval import Determination, Interval, Stamps
from sdc_node.sinks.hl7v2.rows import Fields, device_rows, metric_fields, numbered, sex_row, size_rows
from sdc_node.sinks.hl7v2.segments import gateway_identifier, message_header, patient, processing_id, visit
from sdc_node.sinks.hl7v2.values import limits_by_metric, shown

_PROFILE: Final = ("IHE_PCD_001", PCD01_PROFILE)


def render_pcd01(interval: Interval, stamps: Stamps) -> bytes | None:
    """Write one message for one MDS and interval (R8101, R8037); None when it holds no value to export.

    Continuous metrics give their latest value, without a time; intermittent ones each determination with its
    time, a second one of the same metric in a further OBR. LookupError when ``stamps.numbers`` lacks a handle.
    """
    mds = interval.key.mds
    mode = processing_id(interval.mdib, mds)
    limits = limits_by_metric(interval.mdib)
    groups = _groups(interval, stamps, limits, production=mode == "P")
    if not groups:
        return None
    segments = [
        message_header(stamps, PCD01_MESSAGE, _PROFILE, mode),
        patient(interval.association),
        visit(interval.association, stamps.gateway.patient_class),
    ]
    rows = 0
    for number, group in enumerate(groups, start=1):
        segments.append(_request(interval, stamps, number))
        observations = numbered([fields for _, fields in sorted(group.items())], first=rows + 1)
        rows += len(observations)
        segments += observations
    return encode(segments)


def exported(interval: Interval) -> frozenset[Handle]:
    """The handles of all metrics that a message of this interval would give values of."""
    production = processing_id(interval.mdib, interval.key.mds) == "P"
    return frozenset(
        descriptor.handle
        for descriptor, determination in _determinations(interval)
        if shown(descriptor, determination.state, production=production) is not None
    )


def _determinations(interval: Interval) -> Iterator[tuple[MetricDescriptor, Determination]]:
    for determination in (*interval.continuous.values(), *interval.intermittent):
        descriptor = interval.mdib.find(determination.state.descriptor_handle)
        if isinstance(descriptor, MetricDescriptor):
            yield descriptor, determination


def _groups(
    interval: Interval, stamps: Stamps, limits: Mapping[Handle, str], *, production: bool
) -> list[dict[Path, Fields]]:
    """The rows of each OBR by their place; the nth determination of a metric stands in the nth group."""
    mdib, mds = interval.mdib, interval.key.mds
    groups: list[dict[Path, Fields]] = []
    seen: dict[Path, int] = {}
    for descriptor, determination in _determinations(interval):
        value = shown(descriptor, determination.state, production=production)
        if value is None:
            continue
        chain = device_chain(mdib, descriptor.handle, mds)
        path = metric_path(chain, descriptor, stamps.numbers)
        turn = seen[path] = seen.get(path, 0) + 1
        if turn > len(groups):
            groups.append({})
        group = groups[turn - 1]
        group.update(device_rows(mdib, chain, stamps.numbers))
        fields = metric_fields(descriptor, determination.state, value, limits, determination.time)
        group[path] = fields | {2: value.type, 4: dotted(path)}
    if groups:
        top = device_path((mds,), stamps.numbers)
        groups[0].update(size_rows(interval.association, top, interval.corrected))
        groups[0].update(sex_row(interval.association, top, interval.corrected))
    return groups


def _request(interval: Interval, stamps: Stamps, number: int) -> str:
    order = stamps.order_id if number == 1 else f"{stamps.order_id}.{number}"
    identifier = gateway_identifier(stamps.gateway, order)
    return segment(
        "OBR",
        {
            1: str(number),
            2: identifier,
            3: identifier,
            4: components(*(leaf(part) for part in stamps.gateway.service)),
            7: format_dtm_exact(interval.start),
            8: format_dtm_exact(interval.end),
        },
    )
