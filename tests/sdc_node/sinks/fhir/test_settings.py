"""What the settings of a FHIR destination refuse before anything is lost to them."""

import pytest
from pydantic import ValidationError

from sdc_node.sinks.fhir.settings import FhirSettings


@pytest.mark.parametrize(
    ("base_url", "why"),
    [
        ("http://h:99999/fhir", "its port no number from 0 to 65535"),
        ("http://h:abc/fhir", "its port no number from 0 to 65535"),
        ("http://[::1/fhir", "its host is no address"),
        ("http://:8080/fhir", "names no host"),
        ("http://ward..example/fhir", "its host is no host name"),
        ("http://" + "x" * 64 + ".example/", "its host is no host name"),
    ],
)
def test_a_base_url_that_leads_nowhere_is_refused(base_url, why):
    with pytest.raises(ValidationError, match=f"base_url\n.*{why}"):
        FhirSettings(base_url=base_url)


@pytest.mark.parametrize(
    "base_url", ["http://h", "https://h:8443/fhir/", "http://[::1]:8080", "http://ward-3.example.", "http://b\u00fcro/"]
)
def test_a_base_url_is_kept_as_it_is(base_url):
    assert FhirSettings(base_url=base_url).base_url == base_url
