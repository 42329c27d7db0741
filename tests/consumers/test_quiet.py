"""The library's own text never reaches a log."""

import io
import logging

from consumers import quiet
from consumers.guards import shared_reader


def test_no_body_in_any_log():
    quiet.silence()
    quiet.silence()
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        for name in ("sdc.client.soap", "sdc.reader", "sdc.discover", "sdc_comm.soap.request.in", "sdc11073.x"):
            logging.getLogger(name).error("Mustermann %s", "Erika")
            logging.getLogger(name).debug("Mustermann")
        shared_reader(True)._logger.warning("xml={}", "Mustermann")
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    assert "Mustermann" not in stream.getvalue()
    assert "Erika" not in stream.getvalue()
    assert "sdc11073 has a ERROR from sdc.client.soap" in stream.getvalue()
    assert "sdc_comm" not in stream.getvalue()
