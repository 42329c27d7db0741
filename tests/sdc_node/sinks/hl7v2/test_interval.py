"""The values that the renderers work from."""

import msgspec
import pytest

from sdc_node.sinks.hl7v2.interval import Gateway, Stamps


def test_what_a_renderer_gets_cannot_be_changed(interval, stamps):
    for value, field in ((interval, "start"), (stamps, "built"), (stamps.gateway, "application")):
        with pytest.raises(AttributeError):
            setattr(value, field, 1)


def test_an_interval_is_half_open_and_says_whose_it_is(interval):
    assert interval.start < interval.end
    assert interval.corrected == frozenset()
    assert all(interval.start <= one.time < interval.end for one in interval.continuous.values())


def test_a_gateway_has_the_defaults_of_the_mapping():
    gateway = Gateway(application="A", eui64="0" * 16)
    assert (gateway.patient_class, gateway.language) == ("U", "en")
    assert Stamps(control_id="1", built=0, gateway=gateway, numbers={}).order_id == ""
    assert msgspec.structs.replace(gateway, country="DEU").country == "DEU"
