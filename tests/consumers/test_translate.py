"""The library's containers become our words, field by field, with nothing lost that we have words for."""

from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from lxml import etree

from consumers import lexical
from consumers.guards import shared_reader
from consumers.translate import Untranslatable, mdib_of, report_of
from mdib_models import descriptors, states
from mdib_models.coding import CodedValue, Measurement, Range
from mdib_models.identity import DeviceId, MdibVersionGroup

MSG = "http://standards.ieee.org/downloads/11073/11073-10207-2017/message"
PM = "http://standards.ieee.org/downloads/11073/11073-10207-2017/participant"
HEAD = (
    f'xmlns:msg="{MSG}" xmlns:pm="{PM}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
    'xmlns:ext="http://standards.ieee.org/downloads/11073/11073-10207-2017/extension" '
    'SequenceId="urn:uuid:1" MdibVersion="9" InstanceId="4"'
)


REWORDED = {
    'SelfCheckPeriod="PT5S"': 'SelfCheckPeriod="P1D"',
    'Latching="true"': 'Latching=" 1 "',
    'AcknowledgeTimeout="PT1M"': 'AcknowledgeTimeout="P1M"',
    'DeterminationPeriod="PT1S"': 'DeterminationPeriod="P0Y0M0DT0H0M1.0S"',
    'AveragingPeriod="PT8.5S"': 'AveragingPeriod="-PT8.5S"',
    'SamplePeriod="PT0.002S"': 'SamplePeriod="P0DT0.002S"',
    'Presence="true"': 'Presence=" true "',
    "<pm:DateOfBirth>1970-03<": "<pm:DateOfBirth>\n  1970-03\n<",
    'RemoteSync="true"': 'RemoteSync="\ttrue"',
}
"""What `mdib.xml` says, and how the schema allows to say it otherwise, or a duration that is no number of seconds."""


def parse(text: str):
    return etree.fromstring(text, parser=etree.ETCompatXMLParser(resolve_entities=False))


@pytest.fixture(scope="module")
def mirror():
    return mirror_of(Path(__file__).with_name("mdib.xml").read_text())


def mirror_of(text: str):
    node = parse(text.partition("?>")[2])
    reader = shared_reader(True)
    reader._validate_node(node)
    answer = SimpleNamespace(
        result=reader.read_get_mdib_payload(node[0]),
        mdib_version_group=SimpleNamespace(sequence_id="urn:uuid:1", mdib_version=3, instance_id=None),
        p_msg=SimpleNamespace(msg_node=node),
    )
    return mdib_of(DeviceId("urn:uuid:device"), answer)


def report(kind: str, element: str, inner: str, number=None):
    node = parse(f"<msg:{element} {HEAD}>{inner}</msg:{element}>")
    return report_of(kind, SimpleNamespace(p_msg=SimpleNamespace(msg_node=node)), 1234, number)


def test_mdib_versions_and_order(mirror):
    assert mirror.version == MdibVersionGroup("urn:uuid:1", 3, None)
    assert (mirror.description_version, mirror.state_version) == (2, 3)
    assert [mirror.find(handle).parent for handle in ("mds0", "as0", "vmd0", "ch0", "m.hr")] == [
        None,
        "mds0",
        "mds0",
        "vmd0",
        "ch0",
    ]
    seen = set()
    for handle, descriptor in mirror.descriptors.items():
        assert descriptor.parent is None or descriptor.parent in seen
        seen.add(handle)
    assert set(mirror.contexts) == {"pat.1", "loc.1", "loc.0", "opr.1", "wf.1"}


def test_every_descriptor_has_its_state_and_fits(mirror):
    from mdib_models.mirror import state_fits

    for handle, state in mirror.states.items():
        assert state_fits(mirror.find(handle), state)
    contexts = {"pc0", "lc0", "oc0", "wc0"}
    assert set(mirror.descriptors) - contexts == set(mirror.states)


def test_mds_with_extensions(mirror):
    mds = mirror.find("mds0")
    assert isinstance(mds, descriptors.MdsDescriptor)
    assert mds.equipment_identifier == "urn:uuid:9c057bb4-8d83-4fc1-9ad1-832ad543e2b2"
    assert [each.type for each in mds.extensions] == [f"{{{MSG}}}Retrievability"]
    assert etree.fromstring(mds.extensions[0].raw).tag == f"{{{MSG}}}Retrievability"
    assert mds.approved_jurisdictions.type == f"{{{PM}}}ApprovedJurisdictions"
    assert mds.safety_classification == "MedB"
    assert mds.type.text() == "Patient monitor"
    assert mds.type.translation[0].coding_system == "urn:oid:1.2.3"
    assert mds.meta_data.udi[0].issuer.root == "urn:oid:2.51.1.1"
    assert mds.meta_data.manufacture_date.startswith("2024-05-06")
    assert mds.meta_data.serial_number == ("SN-1",)
    specification = mds.production_specification[0]
    assert (specification.production_spec, specification.component_id.extension) == ("1.2.3", "sw")


def test_metric_descriptors(mirror):
    hr = mirror.find("m.hr")
    assert (hr.determination_period, hr.averaging_period, hr.resolution) == (1.0, 8.5, Decimal(1))
    assert hr.technical_range == (Range(Decimal(15), Decimal(300), Decimal(1)),)
    assert hr.relation[0].entries == ("m.set", "m.text")
    assert hr.relation[0].code == CodedValue("150016")
    assert hr.derivation_method is None
    assert mirror.find("m.set").derivation == "Man"
    assert mirror.find("m.wave").sample_period == 0.002
    assert mirror.find("m.dist").distribution_range == Range(Decimal(0), Decimal(30))
    on, off = mirror.find("m.enum").allowed_value
    assert (on.value, on.type) == ("on", CodedValue("3"))
    assert off.characteristic == Measurement(Decimal(0), CodedValue("262656"))


def test_alert_and_operation_descriptors(mirror):
    limit = mirror.find("ac.hr")
    assert limit.source == ("m.hr",)
    assert (limit.can_escalate, limit.default_condition_generation_delay, limit.auto_limit_supported) == (
        "Hi",
        2.0,
        True,
    )
    assert limit.cause_info[0].type == f"{{{PM}}}CauseInfo"
    assert type(mirror.find("ac.off")) is descriptors.AlertConditionDescriptor
    assert mirror.find("sig.hr").acknowledge_timeout == 60.0
    assert mirror.find("as0").self_check_period == 5.0
    assert mirror.find("op.string").max_length == 20
    go = mirror.find("op.go")
    assert (go.retriggerable, go.access_level) == (False, "CSUsr")
    assert go.argument[0].arg == "{http://www.w3.org/2001/XMLSchema}string"


def test_times_are_milliseconds(mirror):
    assert mirror.state("as0").last_self_check == 1700000000123
    assert mirror.state("ac.hr").determination_time == 1700000000456
    assert mirror.state("m.hr").metric_value.determination_time == 1700000000789
    assert mirror.state("clock0").date_and_time == 1700000000001
    assert mirror.state("pat.1").binding_start_time == 1700000000000


def test_values_keep_their_digits(mirror):
    value = mirror.state("m.hr").metric_value
    assert str(value.value) == "70.0"
    assert (value.quality.mode, str(value.quality.qi)) == ("Demo", "0.90")
    assert str(mirror.state("clock0").accuracy) == "0.0500"
    assert str(mirror.state("ac.hr").limits.upper) == "120.0"
    wave = mirror.state("m.wave").metric_value
    assert wave.samples == "0.10 0.20 -0.30"
    assert wave.apply_annotation == (states.ApplyAnnotation(0, 1),)
    assert wave.annotation[0].type == f"{{{PM}}}Annotation"


def test_absent_is_none_where_the_library_fills_in(mirror):
    assert mirror.state("m.dist").metric_value is None
    assert mirror.state("loc.0").location_detail is None
    assert mirror.state("loc.1").location_detail == states.LocationDetail(po_c="ICU", bed="7")
    assert mirror.state("m.set").activation_state == "NotRdy"
    assert mirror.state("ac.off").actual_priority is None


def test_patient(mirror):
    patient = mirror.state("pat.1")
    assert patient.identification[0].type.coding_system == "urn:oid:2.16.840.1.113883.18.108"
    assert patient.validator[0].extension == "nurse"
    person = patient.core_data
    assert (person.givenname, person.middlename, person.familyname) == ("Testa", ("B",), "Beispiel")
    assert (person.sex, person.gender, person.patient_type, person.date_of_birth) == ("F", "Other", "Ad", "1970-03")
    assert str(person.height.measured_value) == "1.70"
    assert person.extensions == ()
    assert mirror.state("opr.1").operator_details.givenname == "Nora"
    assert mirror.state("wf.1").workflow_detail.type == f"{{{PM}}}WorkflowDetail"


def test_other_states(mirror):
    assert mirror.state("op.string").allowed_values == ("a", "b")
    assert mirror.state("op.value").allowed_range == (Range(Decimal(1), Decimal(9)),)
    assert mirror.state("sco0").invocation_requested == ("op.value",)
    assert mirror.state("bat0").charge_status == "DisChB"
    assert mirror.state("ch0").physical_connector.number == 2
    assert mirror.state("mds0").calibration_info.type == f"{{{PM}}}CalibrationInfo"
    assert (mirror.state("mds0").operating_mode, mirror.state("mds0").operating_hours) == ("Dmo", 12)
    assert mirror.state("sig.hr").presence == "Latch"
    assert mirror.state("as0").system_signal_activation == (states.SystemSignalActivation("Aud", "Psd"),)


def test_everything_survives_json(mirror):
    text = msgspec.json.encode(mirror)
    assert msgspec.json.decode(text, type=type(mirror)) == mirror


def test_metric_report():
    inner = (
        '<msg:ReportPart><msg:MetricState xsi:type="pm:NumericMetricState" DescriptorHandle="m.hr" StateVersion="6">'
        '<pm:MetricValue Value="71.500"><pm:MetricQuality Validity="Vld"/></pm:MetricValue></msg:MetricState>'
        "</msg:ReportPart>"
    )
    made = report("metric", "EpisodicMetricReport", inner, number=17)
    assert (made.kind, made.version, made.arrived, made.number) == (
        "metric",
        MdibVersionGroup("urn:uuid:1", 9, 4),
        1234,
        17,
    )
    assert str(made.states[0].metric_value.value) == "71.500"


def test_waveform_stream_keeps_the_text():
    inner = (
        '<msg:State DescriptorHandle="m.wave"><pm:MetricValue Samples=" 1.0  -2.50 3" DeterminationTime="7">'
        '<pm:MetricQuality Validity="Vld"/></pm:MetricValue></msg:State>'
    )
    made = report("waveform", "WaveformStream", inner)
    assert made.states[0].metric_value.samples == " 1.0  -2.50 3"
    assert list(made.states[0].metric_value.numbers()) == [1.0, -2.5, 3.0]


def test_operation_invoked():
    inner = (
        '<msg:ReportPart OperationHandleRef="op.value" OperationTarget="m.set"><msg:InvocationInfo>'
        "<msg:TransactionId>5</msg:TransactionId><msg:InvocationState>Fail</msg:InvocationState>"
        "<msg:InvocationError>Oth</msg:InvocationError>"
        '<msg:InvocationErrorMessage Lang="en">no</msg:InvocationErrorMessage></msg:InvocationInfo>'
        '<msg:InvocationSource Root="urn:oid:1"/></msg:ReportPart>'
    )
    (invocation,) = report("invoked", "OperationInvokedReport", inner).invocations
    assert (invocation.operation_handle, invocation.transaction_id, invocation.state) == ("op.value", 5, "Fail")
    assert (invocation.error, invocation.error_message, invocation.operation_target) == ("Oth", "no", "m.set")


def test_system_error_has_a_kind_and_a_version():
    inner = '<msg:ReportPart><msg:ErrorCode Code="1"/></msg:ReportPart>'
    assert report("system-error", "SystemErrorReport", inner).version.mdib_version == 9


@pytest.mark.parametrize(
    ("inner", "what"),
    [
        (
            (
                '<msg:ReportPart><msg:MetricState xsi:type="pm:NumericMetricState" DescriptorHandle="m.hr">'
                '<pm:MetricValue Value="secret"><pm:MetricQuality Validity="Vld"/></pm:MetricValue></msg:MetricState>'
                "</msg:ReportPart>"
            ),
            "metric report",
        ),
        (
            (
                '<msg:ReportPart><msg:MetricState xsi:type="pm:NumericMetricState" DescriptorHandle="m.hr">'
                '<pm:MetricValue Value="1"/></msg:MetricState></msg:ReportPart>'
            ),
            "NumericMetricValue without quality",
        ),
        ('<msg:ReportPart><msg:MetricState xsi:type="pm:NoSuchState"/></msg:ReportPart>', "metric report"),
    ],
)
def test_what_cannot_be_said_is_told_without_values(inner, what):
    with pytest.raises(Untranslatable, match=what) as caught:
        report("metric", "EpisodicMetricReport", inner)
    assert "secret" not in str(caught.value)


def valid(kind: str, element: str, inner: str):
    """The states of a report that the schema takes."""
    node = parse(f"<msg:{element} {HEAD}>{inner}</msg:{element}>")
    shared_reader(True)._validate_node(node)
    return report(kind, element, inner).states


@pytest.mark.parametrize("blank", ["", " ", "&#10;", "&#9; "])
@pytest.mark.parametrize(("text", "expected"), [("true", True), ("1", True), ("false", False), ("0", False)])
def test_booleans_in_all_their_forms(text, expected, blank):
    alert = (
        '<msg:ReportPart><msg:AlertState xsi:type="pm:AlertConditionState" DescriptorHandle="h" ActivationState="On" '
        f'Presence="{blank}{text}{blank}"/></msg:ReportPart>'
    )
    assert valid("alert", "EpisodicAlertReport", alert)[0].presence is expected
    clock = (
        '<msg:ReportPart><msg:ComponentState xsi:type="pm:ClockState" DescriptorHandle="c" '
        f'RemoteSync="{blank}{text}{blank}"/></msg:ReportPart>'
    )
    assert valid("component", "EpisodicComponentReport", clock)[0].remote_sync is expected


def test_what_is_no_boolean_does_not_pass_for_false():
    inner = (
        '<msg:ReportPart><msg:AlertState xsi:type="pm:AlertConditionState" DescriptorHandle="h" ActivationState="On" '
        'Presence="TRUE"/></msg:ReportPart>'
    )
    with pytest.raises(Untranslatable, match="alert report"):
        report("alert", "EpisodicAlertReport", inner)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("PT24H", 86400.0),
        ("P1D", 86400.0),
        ("P1DT2H", 93600.0),
        ("PT1M30S", 90.0),
        ("PT0.002S", 0.002),
        ("PT1H0.1S", 3600.1),
        ("P0D", 0.0),
        ("-PT0S", 0.0),
        ("P0Y0M0DT0H0M5.0S", 5.0),
        ("P1M", None),
        ("P1Y", None),
        ("P1Y2M3DT4H5M6S", None),
        ("-PT1S", None),
        ("-P1D", None),
    ],
)
def test_durations_in_all_their_forms(text, seconds):
    inner = (
        '<msg:ReportPart><msg:MetricState xsi:type="pm:NumericMetricState" DescriptorHandle="h" '
        f'LifeTimePeriod="{text}"/></msg:ReportPart>'
    )
    assert valid("metric", "EpisodicMetricReport", inner)[0].life_time_period == seconds


def test_duration_that_libxml2_would_have_refused():
    assert lexical.duration(" PT1S\n") == 1.0
    assert lexical.duration(f"P{'9' * 400}D") is None
    assert lexical.duration(None) is None


@pytest.mark.parametrize(
    "text", ["", "P", "PT", "P1DT", "1D", "P1H", "PT1D", "PT.5S", "PT1.S", "P-1D", "PT1S1M", "Pٱ1D"]
)
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="no xsd:duration"):
        lexical.duration(text)


@pytest.mark.parametrize("text", ["1970-01-31", "1970-01", "1970", "1970-01-31Z", "1970-01-31T10:00:00.5+01:00"])
@pytest.mark.parametrize("blank", ["", " ", "&#10;\t"])
def test_date_of_birth_with_blanks_around_it(text, blank):
    inner = (
        '<msg:ReportPart><msg:ContextState xsi:type="pm:PatientContextState" DescriptorHandle="pc" Handle="p" '
        f'ContextAssociation="Assoc"><pm:CoreData><pm:DateOfBirth>{blank}{text}{blank}</pm:DateOfBirth></pm:CoreData>'
        "</msg:ContextState></msg:ReportPart>"
    )
    assert valid("context", "EpisodicContextReport", inner)[0].core_data.date_of_birth == text


def test_date_of_birth_that_is_none_is_refused_without_its_text():
    inner = (
        '<msg:ReportPart><msg:ContextState xsi:type="pm:PatientContextState" DescriptorHandle="pc" Handle="p">'
        "<pm:CoreData><pm:DateOfBirth>{}</pm:DateOfBirth></pm:CoreData></msg:ContextState></msg:ReportPart>"
    )
    with pytest.raises(Untranslatable, match="context report") as caught:
        report("context", "EpisodicContextReport", inner.format("31.1.1970"))
    assert "1970" not in str(caught.value)
    (empty,) = report("context", "EpisodicContextReport", inner.format(" ")).states
    assert empty.core_data.date_of_birth is None


def test_get_mdib_in_the_words_of_another_implementation(mirror):
    text = Path(__file__).with_name("mdib.xml").read_text()
    for ours, theirs in REWORDED.items():
        assert ours in text
        text = text.replace(ours, theirs)
    other = mirror_of(text)
    assert (other.descriptors.keys(), other.states.keys()) == (mirror.descriptors.keys(), mirror.states.keys())
    assert other.find("m.hr").determination_period == 1.0
    assert other.find("m.hr").averaging_period is None
    assert other.find("m.wave").sample_period == 0.002
    assert other.find("sig.hr").acknowledge_timeout is None
    assert other.find("as0").self_check_period == 86400.0
    assert other.state("pat.1").core_data.date_of_birth == "1970-03"
    assert other.find("sig.hr").latching is True
    assert other.state("ac.hr").presence is True
    assert other.state("clock0").remote_sync is True
