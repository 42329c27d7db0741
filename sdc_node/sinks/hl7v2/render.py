"""The pure renderers of this sink: values in, the bytes of one message out."""

from sdc_node.sinks.hl7v2.containment import numbered
from sdc_node.sinks.hl7v2.pcd01 import exported, render_pcd01
from sdc_node.sinks.hl7v2.pcd04 import render_pcd04

__all__ = ["exported", "numbered", "render_pcd01", "render_pcd04"]
