"""What the settings of an HL7 destination refuse before anything is lost to them."""

import pytest
from pydantic import ValidationError

from sdc_node.sinks.hl7v2.settings import Hl7Settings


@pytest.mark.parametrize("host", ["ward..example", ".example", "x" * 64 + ".example", "b\u00fcro\u2028.example"])
def test_a_host_that_cannot_be_encoded_is_refused(host):
    with pytest.raises(ValidationError, match=r"host\n.*no host name: a part of it is empty, too long or forbidden"):
        Hl7Settings(host=host, port=2575)


@pytest.mark.parametrize("host", ["h", "127.0.0.1", "::1", "ward-3.example.", "b\u00fcro.example"])
def test_a_host_is_kept_as_it_is(host):
    assert Hl7Settings(host=host, port=2575).host == host
