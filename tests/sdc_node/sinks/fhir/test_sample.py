"""A value on its way to its Observation."""

import pytest

from mdib_models.identity import MdsKey
from mdib_models.updates import Association
from sdc_node.sinks.fhir.sample import Waiting


def test_a_waiting_sample_cannot_be_changed(monitor):
    mdib = monitor.mdib()
    waiting = Waiting(
        key=MdsKey(mdib.device, "mds0"),
        sample=monitor.sample(mdib, "m.hr"),
        mdib=mdib,
        association=Association(),
    )
    assert waiting.mdib is mdib
    with pytest.raises(AttributeError):
        waiting.mdib = None
