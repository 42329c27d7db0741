"""How devices are found: WS-Discovery ad hoc on one interface, and a static list."""

from consumers.discovery.found import ByeHeard, Discovered, Discovery, Event, is_provider

__all__ = ["ByeHeard", "Discovered", "Discovery", "Event", "is_provider"]
