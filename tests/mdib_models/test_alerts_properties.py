"""The occurrence machine against whatever states a device may go through, and a model of two sets."""

from typing import get_args

import hypothesis.strategies as st
import msgspec
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mdib_models.alerts import take_snapshot
from mdib_models.coding import Range
from mdib_models.descriptors import AlertPriority
from mdib_models.mirror import link
from mdib_models.states import AlertActivation, SignalPresence
from mdib_models.updates import DescriptionPart, LinkUpdate
from tests.mdib_models.alarmed import STATES, Alarmed

CONDITIONS = ("low", "leads")
SIGNALS = ("aud", "vis", "tec")
OTHER_SEQUENCE = "urn:uuid:00000000-0000-4000-8000-0000000000"

presences = st.sampled_from(["Latch", "Latch", *get_args(SignalPresence)])
mostly_on = st.sampled_from(["On", "On", *get_args(AlertActivation)])
of_condition = st.fixed_dictionaries(
    {},
    optional={
        "presence": st.booleans(),
        "activation_state": mostly_on,
        "actual_priority": st.sampled_from([None, *get_args(AlertPriority)]),
        "determination_time": st.none() | st.integers(1, 10**6),
    },
)
of_signal = st.fixed_dictionaries(
    {},
    optional={
        "presence": presences,
        "activation_state": mostly_on,
        "location": st.sampled_from(["Loc", "Loc", "Rem"]),
    },
)
signals = st.fixed_dictionaries(
    {
        signal: st.builds(lambda on: {"presence": on, "activation_state": "On", "location": "Loc"}, presences)
        for signal in SIGNALS
    }
)
changes = st.fixed_dictionaries(
    {},
    optional={
        "low": of_condition | st.builds(lambda upper: {"limits": Range(upper=upper)}, st.decimals(0, 9, places=1)),
        "leads": of_condition,
        **dict.fromkeys(SIGNALS, of_signal),
    },
)


class AlertMachine(RuleBasedStateMachine):
    """`started` are the conditions with an open occurrence; `history` all that was told, by event id."""

    def __init__(self):
        super().__init__()
        self.device = Alarmed()
        self.started = set()
        self.history = {}
        self.sequences = 0
        self.taken_out = {}

    def here(self, drawn):
        return {handle: fields for handle, fields in drawn.items() if handle in self.device.mdib.descriptors}

    @rule(drawn=changes)
    def states_change(self, drawn):
        self.heard(self.device.change(**self.here(drawn)))

    @rule(condition=st.sampled_from(CONDITIONS), present=st.booleans(), told=signals)
    def presence_turns(self, condition, present, told):
        on = {"presence": present, "activation_state": "On", "determination_time": self.device.clock}
        self.heard(self.device.change(**self.here({condition: on, **told})))

    @rule(told=signals)
    def signals_turn(self, told):
        self.heard(self.device.change(**told))

    @rule(condition=st.sampled_from(CONDITIONS), priority=st.sampled_from([None, *get_args(AlertPriority)]))
    def the_actual_priority_changes(self, condition, priority):
        self.heard(self.device.change(**self.here({condition: {"actual_priority": priority}})))

    @rule(drawn=changes, restarted=st.booleans())
    def reconnected(self, drawn, restarted):
        self.sequences += restarted
        sequence = f"{OTHER_SEQUENCE}{self.sequences:02}"
        self.heard(self.device.reconnect(sequence, **self.here(drawn)))

    @rule(signal=st.sampled_from(SIGNALS), condition=st.sampled_from([*CONDITIONS, None]))
    def a_signal_is_for_something_else(self, signal, condition):
        self.heard(self.device.describe(**{signal: {"condition_signaled": condition}}))

    @rule(condition=st.sampled_from(CONDITIONS), priority=st.sampled_from(get_args(AlertPriority)))
    def a_descriptor_changes(self, condition, priority):
        if condition in self.device.mdib.descriptors:
            self.heard(self.device.describe(**{condition: {"priority": priority}}))

    @precondition(lambda self: not self.taken_out)
    @rule(condition=st.sampled_from(CONDITIONS))
    def a_condition_is_taken_out(self, condition):
        mdib = self.device.mdib
        self.taken_out = {condition: (mdib.descriptors[condition], mdib.states[condition])}
        self.heard(self.device.delete(condition))

    @precondition(lambda self: self.taken_out)
    @rule(present=st.booleans())
    def a_condition_comes_back(self, present):
        ((descriptor, state),) = self.taken_out.values()
        self.taken_out = {}
        state = msgspec.structs.replace(state, presence=present, state_version=state.state_version + 1)
        self.heard(self.device.report(description=(DescriptionPart("Crt", (descriptor,), (state,)),)))

    @rule(who=st.sampled_from("abc"), drawn=changes)
    def the_patient_changes(self, who, drawn):
        before, mine = {**self.device.open}, self.device.whose
        told = self.device.hand_over(who, **self.here(drawn))
        if not self.device.whose.same_subject(mine):
            assert {each.key for each in told if each.closes} == before.keys()
            self.started.clear()  # what is present starts again; what is only latched is not the next one's
        self.heard(told)

    @invariant()
    def an_alert_stays_with_the_patient_of_its_start(self):
        for told in self.history.values():
            assert all(each.association.same_subject(told[0].association) for each in told)
        assert all(alert.association.same_subject(self.device.whose) for alert in self.device.open.values())

    @rule()
    def the_link_changes(self):
        assert self.device.evaluate(link(self.device.mdib, LinkUpdate("stale", "silence"), 1)) == ()

    def heard(self, occurrences):
        for each in occurrences:
            told = self.history.setdefault(each.id, [])
            told.append(each)
        self.follow()

    def follow(self):
        """The model: present starts, latched keeps, anything else closes."""
        states, descriptors = self.device.mdib.states, self.device.mdib.descriptors
        for condition in CONDITIONS:
            state = states.get(condition)
            if state is not None and state.presence and state.activation_state == "On":
                self.started.add(condition)
            elif state is None or not any(
                (states[signal].activation_state, states[signal].presence, states[signal].location)
                == ("On", "Latch", "Loc")
                for signal in SIGNALS
                if descriptors[signal].condition_signaled == condition
            ):
                self.started.discard(condition)

    @invariant()
    def open_are_those_present_or_latched_since_their_start(self):
        assert {key.condition for key in self.device.open} == self.started

    @invariant()
    def every_occurrence_starts_once_counts_by_one_and_closes_at_most_once(self):
        open_ids = {alert.id for alert in self.device.open.values()}
        for event, told in self.history.items():
            assert [each.phase == "start" for each in told] == [True] + [False] * (len(told) - 1)
            assert [each.number for each in told] == [*range(len(told))]
            assert not any(each.closes for each in told[:-1])
            assert (event in open_ids) == (not told[-1].closes)
            assert len({(each.key, each.onset) for each in told}) == 1

    @invariant()
    def what_was_last_told_is_what_is(self):
        for key, alert in self.device.open.items():
            now, last = take_snapshot(self.device.mdib, key.condition), self.history[alert.id][-1]
            assert alert.snapshot == last.snapshot
            for name in ("state", "priority", "type", "inactivation", "limits", "code", "source"):
                assert getattr(now, name) == getattr(last.snapshot, name)

    @invariant()
    def what_closed_is_inactive_and_what_is_open_is_not(self):
        for told in self.history.values():
            for each in told:
                assert (each.snapshot.state == "inactive") == each.closes


AlertMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestAlertsAgainstModel = AlertMachine.TestCase


def test_the_model_knows_every_state_of_the_device():
    assert {*CONDITIONS, *SIGNALS} == {state.descriptor_handle for state in STATES} - {"mds0", "as0", "spo2"}
