"""What the pure HL7 v2 renderers work from: an interval of one MDS, and the stamps that the sink has made."""

from collections.abc import Mapping
from typing import Literal

import msgspec

from mdib_models.identity import Handle, MdsKey
from mdib_models.mirror import Mdib
from mdib_models.states import NonWaveformMetricState
from mdib_models.updates import Association

Demographic = Literal["height", "weight", "sex"]
Numbers = Mapping[tuple[Handle, Handle], int]
"""OBX-4 numbers: (parent handle, handle) -> number among its siblings; the parent of an MDS is ''. R8014, R8015."""


class Determination(msgspec.Struct, frozen=True, gc=False):
    """One metric state and when its value was determined (ms): the device's time, else the arrival of its report."""

    state: NonWaveformMetricState
    time: int


class Interval(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One closed export interval [start, end) of one MDS (R8037, R8038), times in ms since the epoch.

    `continuous` holds, per handle, the latest determination of each metric with availability Cont; `intermittent`
    each determination of the others, in order of arrival. Nothing is filtered yet: that a value may be exported is
    decided where it is rendered. `mdib` is the mirror as of the last batch that counted. `corrected` names the
    demographics that changed since the patient was associated (OBX-11 C, else F).
    """

    key: MdsKey
    start: int
    end: int
    mdib: Mdib
    association: Association
    continuous: Mapping[Handle, Determination]
    intermittent: tuple[Determination, ...] = ()
    corrected: frozenset[Demographic] = frozenset()


class Gateway(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Who sends and how: what a site configures once. MSH-3 to MSH-6, MSH-17, MSH-19, PV1-2, OBR-4."""

    application: str
    eui64: str
    facility: str = ""
    receiving_application: str = ""
    receiving_facility: str = ""
    country: str = ""
    language: str = "en"
    language_field: str = "en^English^ISO639"
    patient_class: str = "U"
    service: tuple[str, str, str] = ("182777000", "monitoring of patient", "SCT")


class Stamps(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The ids, times and numbers that the sink has made for one message.

    `control_id` is MSH-10, `built` (ms) MSH-7 and PCD-04's OBR-7. `order_id` is EI-1 of PCD-01's OBR-2 and OBR-3;
    `message_id` EI-1 of OBR-3 of every PCD-04 after the first (R8053).
    """

    control_id: str
    built: int
    gateway: Gateway
    numbers: Numbers
    order_id: str = ""
    message_id: str = ""
