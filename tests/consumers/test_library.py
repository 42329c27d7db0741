"""One link to a real device: what its threads tell, and that nothing is left of it."""

import http.client
import queue
import threading
from urllib.parse import urlsplit

import pytest

from consumers.errors import NotAProvider
from consumers.library import KINDS, Link, LinkSettings, Listener

ENVELOPE = """<s12:Envelope xmlns:s12="http://www.w3.org/2003/05/soap-envelope"
 xmlns:wsa="http://www.w3.org/2005/08/addressing" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
 xmlns:msg="http://standards.ieee.org/downloads/11073/11073-10207-2017/message"
 xmlns:pm="http://standards.ieee.org/downloads/11073/11073-10207-2017/participant"
 xmlns:sdpi="urn:oid:1.3.6.1.4.1.19376.1.6.2.10.1.1.1"><s12:Header>
<wsa:Action s12:mustUnderstand="true">{action}</wsa:Action>
<wsa:MessageID>urn:uuid:11111111-2222-4333-8444-000000000000</wsa:MessageID><wsa:To>http://x/</wsa:To>{header}</s12:Header>
<s12:Body>
<msg:EpisodicMetricReport SequenceId="urn:uuid:11111111-2222-4333-8444-555555555555" MdibVersion="1">
<msg:ReportPart>
<msg:MetricState xsi:type="pm:NumericMetricState" DescriptorHandle="m.hr">
<pm:MetricValue Value="{value}">{quality}</pm:MetricValue></msg:MetricState></msg:ReportPart>
</msg:EpisodicMetricReport></s12:Body></s12:Envelope>"""
ACTION = "http://standards.ieee.org/downloads/11073/11073-20701-2018/StateEventService/EpisodicMetricReport"
GOOD = {"action": ACTION, "header": "", "value": "1.50", "quality": '<pm:MetricQuality Validity="Vld"/>'}


class Recorder(Listener):
    def __init__(self) -> None:
        self.heard: queue.Queue = queue.Queue()
        self.going = threading.Event()
        self.going.set()

    def report(self, report) -> None:
        self.going.wait(10)
        self.heard.put(report)

    def interrupted(self, reason) -> None:
        self.heard.put(reason)

    def ended(self, reason) -> None:
        self.heard.put(("ended", reason))


def notify(link: Link, body: str) -> int:
    """Post to the link as its device would."""
    parts = urlsplit(link._server.base_url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=5)
    try:
        connection.request("POST", f"/{link._consumer.path_prefix}/subscr1", body.encode())
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.fixture
def device(start_device):
    return start_device()


@pytest.fixture
def open_link(device):
    links = []

    def start(**settings):
        recorder = Recorder()
        links.append(link := Link(device.address, None, recorder, LinkSettings(**settings)))
        assert link.open() == device.epr
        return link, recorder

    yield start
    for link in links:
        link.close(unsubscribe=True)


def test_report_sequence_number_is_read_where_one_subscription_carries_all(open_link):
    link, recorder = open_link()
    for number in ('MessageNumber="7"', 'MessageNumber="x"'):
        notify(link, ENVELOPE.format(**(GOOD | {"header": f"<sdpi:ReportSequence {number}/>"})))
    notify(link, ENVELOPE.format(**GOOD))
    heard = [recorder.heard.get(timeout=5) for _ in range(3)]
    assert [report.number for report in heard] == [7, None, None]
    assert str(heard[0].states[0].metric_value.value) == "1.50"


@pytest.mark.parametrize(
    "body",
    [
        "no xml at all",
        "<a/>",
        ENVELOPE.format(**(GOOD | {"value": "secret"})),
        ENVELOPE.format(**(GOOD | {"quality": ""})),
        ENVELOPE.format(**(GOOD | {"action": "urn:nobody:subscribed"})),
    ],
)
def test_unreadable_body_is_answered_like_a_good_one_and_interrupts(open_link, body, caplog):
    link, recorder = open_link()
    assert notify(link, body) == 202
    assert recorder.heard.get(timeout=5) == "unreadable"
    assert link.counts["unreadable"] == 1
    assert "secret" not in "".join(record.getMessage() for record in caplog.records if record.name.startswith("consum"))


def test_what_the_schema_would_have_refused_still_cannot_get_through(open_link):
    link, recorder = open_link(validate=False)
    assert notify(link, ENVELOPE.format(**(GOOD | {"quality": ""}))) == 200
    assert recorder.heard.get(timeout=5) == "unreadable"


def test_full_dispatcher_tells_of_the_overrun(open_link):
    link, recorder = open_link(dispatch_depth=1, delay=0.05)
    recorder.going.clear()
    answers = [notify(link, ENVELOPE.format(**GOOD)) for _ in range(4)]
    assert answers == [200] * 4
    assert recorder.heard.get(timeout=5) == "overrun"
    recorder.going.set()


def test_expiry_is_asked_for_again_at_each_renewal(open_link):
    link, _ = open_link(expiry=5)
    assert link.granted() == 5.0
    assert 4.0 < link.seconds_left() <= 5.0
    assert link.check()
    assert link.granted() == 5.0


def test_subscription_that_is_refused_is_told(device, monkeypatch):
    monkeypatch.setattr("consumers.guards.Subscription.subscribe", lambda *_args, **_kwargs: None)
    link = Link(device.address, None, Recorder())
    with pytest.raises(NotAProvider, match=r"refused to report .*EpisodicMetricReport"):
        link.open()
    link.close(unsubscribe=False)


def test_nothing_is_left_after_close(device):
    before = {thread.name for thread in threading.enumerate()}
    link = Link(device.address, None, Recorder())
    link.open()
    link.get_mdib()
    assert {thread.name for thread in threading.enumerate()} - before
    link.close(unsubscribe=True)
    link.close(unsubscribe=True)
    link.abort()
    assert {thread.name for thread in threading.enumerate()} == before
    assert link.seconds_left() == 0.0
    assert not link.check()


def test_a_plain_listener_hears_nothing_and_breaks_nothing():
    listener = Listener()
    for call in (listener.report, listener.interrupted, listener.ended):
        assert call(None) is None


def test_every_report_of_biceps_is_followed():
    assert len(KINDS) == 9
