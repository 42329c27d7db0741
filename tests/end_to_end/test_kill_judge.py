"""The check after the kills finds each of the faults that it is there for."""

import pytest

from tests.end_to_end.kill_judge import Evidence, faults
from tests.end_to_end.readback import Message

NAME = "ac.1.7"


def pcd04(control_id, phase, *, event=NAME, state="active", priority="PM", second=0):
    own, parent = (event, "") if phase == "start" else (control_id, f"^{event}&&mds&UUID")
    facets = enumerate(["text", "", phase, state, "enabled", priority, "SP"], 1)
    return message(
        control_id,
        4,
        segment("OBR", {1: "1", 2: "gw", 3: f"{own}^^mds^UUID", 29: parent}),
        segment("OBX", {4: "1.0.0.0", 18: "mds"}),
        *(segment("OBX", {2: "ST", 4: f"1.0.0.0.{n}", 5: said, 14: at(second)}) for n, said in facets),
    )


def pcd01(control_id, start, end, *, order="order"):
    request = segment("OBR", {1: "1", 2: "gw", 3: order, 7: at(start), 8: at(end)})
    return message(control_id, 1, request, segment("OBX", {4: "1.0.0.0", 18: "mds"}))


def message(control_id, number, *segments):
    profile = f"IHE_PCD^IHE PCD^1.3.6.1.4.1.19376.1.6.1.{number}.1^ISO"
    header = segment("MSH", {1: "^~\\&", 9: control_id, 20: profile})  # the separator itself is MSH-1
    return Message(("\r".join([header, segment("PID", {3: ""}), *segments]) + "\r").encode())


def segment(name, fields):
    return "|".join([name, *(fields.get(number, "") for number in range(1, max(fields) + 1))])


def at(second):
    return f"202601010000{second:02}.000+0000"


def observation(id_, value="x", phase=None, kind="observation"):
    component = [
        {"code": {"coding": [{"code": "phase"}]}, "valueCodeableConcept": {"coding": [{"code": phase}]}},
    ]
    return f"base/identifier/{kind}|{value}", {"id": id_, "component": component if phase else []}


def evidence(*messages, observations=(), owed=(), **changes):
    found = {}
    for name, resource in observations:
        found.setdefault(name, []).append(resource)
    whole = Evidence(
        owed=[*owed, *(one.control_id for one in messages), "bundle"],
        messages=messages,
        bundles=frozenset({"bundle"}),
        refused={},
        repeats=0,
        open_alerts=frozenset(),
        untold=0,
        observations=found,
    )
    return whole._replace(**changes)


ENDED = (pcd04("A", "start"), pcd04("B", "continue", second=1), pcd04("C", "end", state="inactive", second=2))
SAID = [observation("1", f"mds/{NAME}", "end", "alert")]
GOOD = evidence(pcd01("M", 0, 1), pcd01("N", 1, 2, order="next"), *ENDED, observations=SAID)


def alert(*told, said=None, there=()):
    phase = said or str(told[-1].segments("OBX")[3][5])
    return evidence(*told, observations=[observation("1", f"mds/{NAME}", phase, "alert")], open_alerts=frozenset(there))


def test_what_is_well_is_found_well():
    assert faults(GOOD) == []
    assert faults(alert(pcd04("A", "start"), pcd04("B", "escalate", priority="PH"), there={NAME})) == []


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        (GOOD._replace(owed=[*GOOD.owed, "never"]), "lost: never"),
        (GOOD._replace(bundles=frozenset()), "lost: bundle"),
        (GOOD._replace(refused={"hl7: CE why": 2}), "refused 2 times: hl7: CE why"),
        (GOOD._replace(untold=1), "1 occurrences were still to be told"),
        (evidence(pcd01("M", 0, 1), pcd01("N", 0, 1)), "the same content under 2 ids: pcd01 order"),
        (evidence(pcd01("M", 0, 2), pcd01("N", 1, 3, order="next")), "two intervals of mds overlap at"),
        (alert(*ENDED, pcd04("D", "end", state="inactive", second=2)), f"the same content under 2 ids: pcd04 {NAME}"),
        (alert(*ENDED, pcd04("D", "end", state="inactive", second=9)), f"{NAME} goes on after its end"),
        (alert(pcd04("A", "start"), pcd04("B", "start", second=9), there={NAME}), f"{NAME} starts 2 times"),
        (alert(pcd04("A", "update"), there={NAME}), f"{NAME} starts 0 times"),
        (
            alert(pcd04("A", "start"), pcd04("B", "update", second=9), there={NAME}),
            f"{NAME} is told twice of the same update",
        ),
        (alert(pcd04("A", "start"), pcd04("B", "start", event="ac.1.8")), f"ac.1.8 begins while {NAME} goes on"),
        (alert(pcd04("A", "start")), f"{NAME} is open at the receiver only"),
        (alert(*ENDED, there={NAME}), f"{NAME} is open at the node only"),
        (evidence(observations=[observation("1"), observation("2")]), "stored 2 times: base/identifier/observation|x"),
        (alert(*ENDED, said="start"), f"{NAME} is end in HL7 and start in FHIR"),
        (evidence(*ENDED), f"{NAME} is in one of HL7 and FHIR only"),
    ],
)
def test_each_fault_is_found(wrong, found):
    assert any(fault.startswith(found) for fault in faults(wrong)), faults(wrong)
