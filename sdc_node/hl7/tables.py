"""Names and code tables of HL7 v2.6 and of the IHE PCD profiles that ours use."""

from typing import Final

SEGMENT_NAMES: Final = {
    "MSH": "Message header",
    "MSA": "Message acknowledgement",
    "ERR": "Error",
    "SFT": "Software",
    "PID": "Patient identification",
    "PD1": "Patient additional demographic",
    "PV1": "Patient visit",
    "PV2": "Patient visit, additional",
    "ORC": "Common order",
    "OBR": "Observation request",
    "OBX": "Observation result",
    "NTE": "Notes and comments",
    "EVN": "Event type",
    "PRT": "Participation",
}


def _named(text: str) -> dict[int, str]:
    names = (line.strip() for line in text.strip().splitlines())
    return {number: name for number, name in enumerate(names, start=1) if name != "-"}


FIELD_NAMES: Final = {
    "MSH": _named(
        """Field separator
        Encoding characters
        Sending application
        Sending facility
        Receiving application
        Receiving facility
        Date/time of message
        Security
        Message type
        Message control id
        Processing id
        Version id
        Sequence number
        Continuation pointer
        Accept acknowledgement type
        Application ack. type
        Country code
        Character set
        Principal language
        Alternate character set scheme
        Message profile id
        Sending responsible organisation
        Receiving responsible org.
        Sending network address
        Receiving network address"""
    ),
    "MSA": _named(
        """Acknowledgement code
        Message control id
        Text message
        Expected sequence number
        Delayed acknowledgement type
        Error condition
        Message waiting number
        Message waiting priority"""
    ),
    "ERR": _named(
        """Error code and location
        Error location
        HL7 error code
        Severity
        Application error code
        Application error parameter
        Diagnostic information
        User message"""
    ),
    "PID": _named(
        """Set id
        Patient id
        Patient identifier list
        Alternate patient id
        Patient name
        Mother's maiden name
        Date/time of birth
        Administrative sex
        Patient alias
        Race
        Patient address
        County code
        Phone number, home
        Phone number, business
        Primary language
        Marital status
        Religion
        Patient account number
        SSN number
        Driver's license number
        Mother's identifier
        Ethnic group
        Birth place
        Multiple birth indicator
        Birth order
        Citizenship
        Veterans military status
        Nationality
        Patient death date/time
        Patient death indicator
        Identity unknown indicator
        Identity reliability code"""
    ),
    "PV1": _named(
        """Set id
        Patient class
        Assigned patient location
        Admission type
        Preadmit number
        Prior patient location
        Attending doctor
        Referring doctor
        Consulting doctor
        Hospital service
        Temporary location
        Preadmit test indicator
        Re-admission indicator
        Admit source
        Ambulatory status
        VIP indicator
        Admitting doctor
        Patient type
        Visit number"""
    )
    | {44: "Admit date/time", 45: "Discharge date/time", 50: "Alternate visit id", 51: "Visit indicator"},
    "OBR": _named(
        """Set id
        Placer order number
        Filler order number
        Universal service identifier
        Priority
        Requested date/time
        Observation date/time
        Observation end date/time
        Collection volume
        Collector identifier
        Specimen action code
        Danger code
        Relevant clinical information
        Specimen received date/time
        Specimen source
        Ordering provider
        Order callback phone number
        Placer field 1
        Placer field 2
        Filler field 1
        Filler field 2
        Results report date/time
        Charge to practice
        Diagnostic service section
        Result status
        Parent result
        Quantity/timing
        Result copies to
        Parent"""
    ),
    "OBX": _named(
        """Set id
        Value type
        Observation identifier
        Observation sub-id
        Observation value
        Units
        Reference range
        Abnormal flags
        Probability
        Nature of abnormal test
        Observation result status
        Effective date of ref. range
        User defined access checks
        Date/time of observation
        Producer's id
        Responsible observer
        Observation method
        Equipment instance id
        Date/time of analysis
        Observation site
        Observation instance id
        Mood code"""
    ),
    "NTE": _named(
        """Set id
        Source of comment
        Comment
        Comment type"""
    ),
    "ORC": _named(
        """Order control
        Placer order number
        Filler order number"""
    ),
}

PCD01_MESSAGE: Final = ("ORU", "R01", "ORU_R01")
PCD04_MESSAGE: Final = ("ORU", "R40", "ORU_R40")
PCD01_PROFILE: Final = "1.3.6.1.4.1.19376.1.6.1.1.1"
PCD04_PROFILE: Final = "1.3.6.1.4.1.19376.1.6.1.4.1"
# Older samples carry these; they are accepted and never sent (mapping section 2, MSH-21).
PCD01_LEGACY_PROFILES: Final = frozenset({"1.3.6.1.4.1.19376.1.6.4.1"})
PCD04_LEGACY_PROFILES: Final = frozenset({"1.3.6.1.4.1.19376.1.6.4.4", "1.3.6.1.4.1.19376.1.6.4.4.1"})

ALARM_EVENT: Final = "196616"
FACETS: Final = (  # facets 3 to 7 of PCD-04: code and reference id (mapping section 7.2)
    ("68481", "MDC_ATTR_EVENT_PHASE"),
    ("68482", "MDC_ATTR_ALARM_STATE"),
    ("68483", "MDC_ATTR_ALARM_INACTIVATION_STATE"),
    ("68484", "MDC_ATTR_ALARM_PRIORITY"),
    ("68485", "MDC_ATTR_ALERT_TYPE"),
)
PHASES: Final = frozenset(
    {"start", "continue", "end", "update", "escalate", "deescalate", "reset"}
    | {"tpoint", "start_only", "present", "inactivate", "acknowledged", "stop"}
)
ALERT_STATES: Final = frozenset({"active", "inactive", "latched"})
INACTIVATION_STATES: Final = frozenset(
    {"enabled", "audio-paused", "audio-off", "alarm-paused", "alarm-off", "alert-acknowledged"}
)
PRIORITIES: Final = frozenset({"PL", "PM", "PH", "PN", "PI"})
ALERT_TYPES: Final = frozenset({"SP", "ST", "SA"})
FACET_VALUES: Final = (PHASES, ALERT_STATES, INACTIVATION_STATES, PRIORITIES, ALERT_TYPES)

PROCESSING_IDS: Final = frozenset({"P", "T", "D"})  # HL7 table 0103
PATIENT_CLASSES: Final = frozenset("EIOPRBU")  # HL7 table 0004 as PCD restricts it
RESULT_STATUSES: Final = frozenset({"C", "D", "F", "I", "N", "O", "P", "R", "S", "U", "W", "X"})  # 0085
VALUE_TYPES: Final = frozenset({"NM", "ST", "CWE", "DTM", "CF", "NA", "TX", "FT", "SN", "ED", "TS", "DT", "TM"})

ACCEPTED_CODES: Final = frozenset({"CA", "AA"})
NOT_ACCEPTED_CODES: Final = frozenset({"CE", "AE"})
REFUSED_CODES: Final = frozenset({"CR", "AR"})
ACK_CODES: Final = ACCEPTED_CODES | NOT_ACCEPTED_CODES | REFUSED_CODES  # HL7 table 0008

ERROR_TEXTS: Final = {  # HL7 table 0357
    100: "Segment sequence error",
    101: "Required field missing",
    102: "Data type error",
    103: "Table value not found",
    200: "Unsupported message type",
    201: "Unsupported event code",
    202: "Unsupported processing id",
    203: "Unsupported version id",
    205: "Duplicate key identifier",
    207: "Application internal error",
}
REJECTING_ERRORS: Final = frozenset({200, 201, 202, 203})
