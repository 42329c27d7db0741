"""A metric value that waits to become an Observation."""

import msgspec

from mdib_models.identity import MdsKey
from mdib_models.mirror import Mdib
from mdib_models.updates import Association
from sdc_node.sinks.fhir.observation import Sample


class Waiting(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A sample with the mirror and the association of the moment it came: what it says then stays true of it."""

    key: MdsKey
    sample: Sample
    mdib: Mdib
    association: Association
