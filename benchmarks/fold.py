"""Folding a metric report against making its states: both in one run, in turn.

Method: an MDIB of one channel with 50 numeric metrics. A report of all of them is made (Structs, no XML) and folded,
2,000 times with rising versions; CPU time by part, best of five turns. The ratio says what the version rules and the
new mirror cost next to the bare objects.
"""

import sys
import time
from decimal import Decimal

import msgspec

from mdib_models.coding import CodedValue
from mdib_models.descriptors import ChannelDescriptor, MdsDescriptor, NumericMetricDescriptor, VmdDescriptor
from mdib_models.identity import DeviceId, MdibVersionGroup
from mdib_models.mirror import Folded, Mdib, fold
from mdib_models.states import NumericMetricState, NumericMetricValue, Quality
from mdib_models.updates import Report

METRICS = 50
TURNS = 5
REPORTS = 2_000
CODE = CodedValue("147842")


def mdib() -> Mdib:
    """One MDS with one channel of METRICS numeric metrics."""
    descriptors = {
        "mds": MdsDescriptor(handle="mds"),
        "vmd": VmdDescriptor(handle="vmd", parent="mds"),
        "ch": ChannelDescriptor(handle="ch", parent="vmd"),
    }
    metrics = {
        f"m{number}": NumericMetricDescriptor(
            handle=f"m{number}",
            parent="ch",
            type=CODE,
            unit=CODE,
            metric_category="Msrmt",
            metric_availability="Cont",
            resolution=Decimal(1),
        )
        for number in range(METRICS)
    }
    states = {handle: state(handle, 0) for handle in metrics}
    return Mdib(
        device=DeviceId("urn:uuid:bench"),
        version=MdibVersionGroup("urn:uuid:sequence"),
        descriptors={**descriptors, **metrics},
        states=states,
    )


def state(handle: str, version: int) -> NumericMetricState:
    value = NumericMetricValue(quality=Quality("Vld"), value=Decimal(version), determination_time=version)
    return NumericMetricState(descriptor_handle=handle, state_version=version, metric_value=value)


def turn() -> tuple[float, float]:
    """Seconds to make a report's states, and to fold them."""
    mirror = mdib()
    handles = [f"m{number}" for number in range(METRICS)]
    made = folded = 0.0
    for version in range(1, REPORTS + 1):
        began = time.process_time()
        report = Report(
            kind="metric",
            version=MdibVersionGroup("urn:uuid:sequence", version),
            arrived=version,
            states=tuple(state(handle, version) for handle in handles),
        )
        middle = time.process_time()
        result = fold(mirror, report)
        folded += time.process_time() - middle
        made += middle - began
        assert isinstance(result, Folded)
        mirror = result.mdib
    return made / REPORTS, folded / REPORTS


def main() -> None:
    turns = [turn() for _ in range(TURNS)]
    made, folded = min(one for one, _ in turns), min(two for _, two in turns)
    result = {
        "make_us": round(made * 1e6, 1),
        "fold_us": round(folded * 1e6, 1),
        "fold_to_make_ratio": round(folded / made, 2),
        "states": METRICS,
    }
    print(__doc__)
    print(msgspec.json.encode(result).decode() if "--json" in sys.argv else result)


if __name__ == "__main__":
    main()
