"""Bundles, and their way through the client into the receiver."""

import asyncio
import json
from decimal import Decimal

import msgspec
import pytest

from mdib_models.alerts import AlertKey, AlertOccurrence, take_snapshot
from mdib_models.coding import CodedValue
from mdib_models.descriptors import NumericMetricDescriptor
from mdib_models.states import LimitAlertConditionState, VmdState
from sdc_node.receivers.fhir import FhirReceiver, accepted_requests, list_resources
from sdc_node.sinks.fhir.client import FhirClient
from sdc_node.sinks.fhir.render import Stamps, render_alert, render_gone, render_observations, render_tree

STAMPS = Stamps(built=1_763_805_660_000)
HANDLES = ("m.hr", "m.spo2", "m.temp", "m.sys", "m.rate.set", "m.note", "m.rhythm")


def bundle(message):
    return json.loads(message.body, parse_float=Decimal)


def samples(monitor, mdib, handles=HANDLES):
    return [monitor.sample(mdib, handle) for handle in handles]


def values(monitor, mdib, association=None, handles=HANDLES):
    return render_observations(mdib, "mds0", samples(monitor, mdib, handles), association or monitor.somebody, STAMPS)


def alert(monitor, number=0, *, present=True):
    state = LimitAlertConditionState(
        descriptor_handle="ac.spo2.lo",
        activation_state="On",
        presence=present,
        limits=monitor.mdib().states["ac.spo2.lo"].limits,
    )
    mdib = monitor.mdib(state)
    told = AlertOccurrence(
        id="ac.spo2.lo.5.7",
        key=AlertKey(mdib.device, "mds0", "ac.spo2.lo"),
        phase="start" if present else "end",
        number=number,
        time=monitor.t0 + number,
        onset=monitor.t0,
        snapshot=take_snapshot(mdib, "ac.spo2.lo"),
        association=monitor.somebody,
    )
    return mdib, told


def test_a_tree_is_one_transaction_of_conditional_updates_that_refer_to_each_other(monitor, r4):
    tree = render_tree(monitor.mdib(), "mds0", monitor.somebody, STAMPS)
    (message,) = tree.messages
    found = bundle(message)
    assert found["type"] == "transaction"
    assert found["timestamp"] == "2025-11-22T10:01:00.000Z"
    assert found["identifier"]["value"] == message.id
    kinds = [entry["resource"]["resourceType"] for entry in found["entry"]]
    assert kinds == ["Device"] * 3 + ["DeviceMetric"] * 8
    assert message.entries == 11
    places = {entry["fullUrl"]: entry["resource"] for entry in found["entry"]}
    assert len(places) == 11
    for entry in found["entry"]:
        resource = entry["resource"]
        r4(resource)
        assert entry["request"]["method"] == "PUT"
        assert entry["request"]["url"].startswith(f"{resource['resourceType']}?identifier=")
        assert resource["meta"]["source"].endswith("#4")
    mds, vmd, channel, *metrics = places.values()
    assert places[vmd["parent"]["reference"]] is mds
    assert places[channel["parent"]["reference"]] is vmd
    for metric in metrics:
        assert places[metric["source"]["reference"]] is mds
        assert places[metric["parent"]["reference"]] is channel


def test_the_digest_of_a_tree_moves_with_its_content_alone(monitor):
    def digest(mdib, association=monitor.somebody, built=1):
        tree = render_tree(mdib, "mds0", association, Stamps(built=built))
        return tree.digest, tree.messages[0].id

    first = digest(monitor.mdib())
    assert digest(monitor.mdib(), built=2) == first
    later = digest(monitor.mdib(version=5))
    assert later[0] == first[0]
    assert later[1] != first[1]  # what came back to a former state is sent again
    assert digest(monitor.mdib(), monitor.nobody)[0] != first[0]
    off = monitor.mdib(VmdState(descriptor_handle="vmd", activation_state="Off"))
    assert digest(off)[0] != first[0]


def test_a_tree_of_many_metrics_is_several_transactions_parents_first(monitor, r4):
    many = [monitor.metric(NumericMetricDescriptor, f"m.{n}", "ch", 147842, 264864) for n in range(230)]
    tree = render_tree(monitor.mdib(descriptors=many), "mds0", monitor.nobody, STAMPS)
    first, second = map(bundle, tree.messages)
    assert [message.entries for message in tree.messages] == [200, 41]
    assert first["identifier"] != second["identifier"]
    for entry in second["entry"]:
        r4(entry["resource"])
        assert entry["resource"]["source"] == {
            "type": "Device",
            "identifier": first["entry"][0]["resource"]["identifier"][0],
        }


def test_a_tree_of_what_is_no_mds_is_an_error(monitor):
    for handle in ("vmd", "nowhere"):
        with pytest.raises(KeyError):
            render_tree(monitor.mdib(), handle, monitor.nobody, STAMPS)


def handles(message):
    """Of each entry of a bundle: the kind, the last part of what it is found by, its status."""
    for entry in bundle(message)["entry"]:
        one = entry["resource"]
        status = one.get("operationalStatus") or one["status"]
        yield one["resourceType"], one["identifier"][0]["value"].rpartition("/")[2], status


def test_what_a_device_no_longer_has_is_turned_off_and_not_deleted(monitor, r4):
    before = monitor.mdib()
    after = msgspec.structs.replace(
        monitor.without(before, "ch", *(one.handle for one in before.children("ch") if one.handle != "m.hr")),
        version=msgspec.structs.replace(before.version, mdib_version=5),
    )
    after = msgspec.structs.replace(
        after,
        descriptors=after.descriptors | {"m.hr": msgspec.structs.replace(before.descriptors["m.hr"], parent="vmd")},
    )
    (message,) = render_gone(before, after, STAMPS)
    found = [*handles(message)]
    assert found[0] == ("Device", "ch", "inactive")
    metrics = {"m.spo2", "m.temp", "m.sys", "m.rate.set", "m.note", "m.rhythm", "m.ecg"}
    assert set(found[1:]) == {("DeviceMetric", name, "off") for name in metrics}  # m.hr lives on elsewhere
    entries = bundle(message)["entry"]
    assert bundle(message)["type"] == "transaction"
    there = {
        entry["fullUrl"]: entry
        for entry in bundle(render_tree(before, "mds0", monitor.nobody, STAMPS).messages[0])["entry"]
    }
    for entry in entries:
        r4(entry["resource"])
        assert entry["request"] == there[entry["fullUrl"]]["request"]  # finds what is there
    channel, metric = entries[0], entries[1]["resource"]
    assert metric["parent"] == {"reference": channel["fullUrl"]}
    assert metric["source"]["identifier"] == there[next(iter(there))]["resource"]["identifier"][0]


def test_nothing_is_turned_off_while_all_is_there(monitor):
    before = monitor.mdib()
    empty = msgspec.structs.replace(before, descriptors={})
    assert render_gone(before, monitor.mdib(version=9), STAMPS) == ()
    assert render_gone(empty, before, STAMPS) == ()


def test_what_is_gone_a_second_time_is_told_a_second_time_and_again_is_the_same(monitor):
    before = monitor.mdib()

    def gone(version):
        (message,) = render_gone(before, monitor.without(monitor.mdib(version=version), "m.hr"), STAMPS)
        return message.id

    assert gone(5) == gone(5) != gone(7)


def test_an_mds_that_is_gone_or_is_another_one_is_turned_off_with_all_of_it(monitor):
    before = monitor.mdib()
    other = msgspec.structs.replace(before.descriptors["mds0"], equipment_identifier="urn:uuid:other")
    for after in (msgspec.structs.replace(before, descriptors={}), monitor.mdib(descriptors=(other,))):
        (message,) = render_gone(before, after, STAMPS)
        assert [status for *_, status in handles(message)] == ["inactive"] * 3 + ["off"] * 8
        assert "patient" not in bundle(message)["entry"][0]["resource"]


def test_the_same_mds_under_another_handle_is_still_there(monitor):
    before = monitor.mdib()
    renamed = {
        one.handle: msgspec.structs.replace(one, parent="mds9") if one.parent == "mds0" else one
        for one in (*before.descriptors.values(), msgspec.structs.replace(before.descriptors["mds0"], handle="mds9"))
        if one.handle != "mds0"
    }
    assert render_gone(before, msgspec.structs.replace(before, descriptors=renamed), STAMPS) == ()


async def test_what_is_turned_off_on_the_server_is_what_was_there(monitor, tmp_path):
    before = monitor.mdib()
    after = monitor.without(before, *(one.handle for one in before.children("ch")), "ch")
    messages = [
        *render_tree(before, "mds0", monitor.somebody, STAMPS).messages,
        *render_gone(before, after, STAMPS),
        *render_tree(after, "mds0", monitor.somebody, STAMPS).messages,
    ]
    async with FhirReceiver(tmp_path, "127.0.0.1", 0) as receiver, FhirClient(receiver.base_url) as client:
        for message in messages:
            assert (await client.send(message.body)).verdict == "accepted"
        resources = (await receiver.counts()).resources
    assert (resources["Device"], resources["DeviceMetric"]) == (3, 8)


def test_values_are_a_batch_of_conditional_creates(monitor, r4):
    rendered = values(monitor, monitor.mdib())
    (message,) = rendered.messages
    found = bundle(message)
    assert found["type"] == "batch"
    assert rendered.skipped == {}
    for entry, handle in zip(found["entry"], HANDLES, strict=True):
        r4(entry["resource"])
        assert entry["resource"]["device"]["identifier"]["value"].endswith(f"/{handle}")
        assert (entry["request"]["method"], entry["request"]["url"]) == ("POST", "Observation")
        value = entry["resource"]["identifier"][0]["value"]
        assert entry["request"]["ifNoneExist"].endswith(value)
    assert values(monitor, monitor.mdib(version=8)).messages[0].id == message.id


def test_the_same_values_make_the_same_bundle_and_other_values_another(monitor):
    first = values(monitor, monitor.mdib()).messages[0]
    assert values(monitor, monitor.mdib()).messages[0] == first
    assert values(monitor, monitor.mdib(), handles=HANDLES[1:]).messages[0].id != first.id


def test_samples_that_give_nothing_are_counted_by_reason(monitor):
    mdib = monitor.without(monitor.mdib(), "m.hr")
    rendered = values(monitor, mdib, handles=("m.hr", "m.hr", "m.spo2"))
    assert rendered.skipped == {"not-a-metric": 2}
    assert rendered.messages[0].entries == 1
    assert values(monitor, mdib, handles=("m.hr",)).messages == ()


def test_batches_keep_to_their_number_of_entries_and_bytes(monitor):
    many = [monitor.metric(NumericMetricDescriptor, f"m.{n}", "ch", 147842, 264864) for n in range(450)]
    states = [monitor.numeric(one.handle, "1") for one in many]
    mdib = monitor.mdib(*states, descriptors=many)
    rendered = values(monitor, mdib, handles=[one.handle for one in many])
    assert [message.entries for message in rendered.messages] == [200, 200, 50]
    long = [monitor.words(type(mdib.states["m.note"]), "m.note", "x" * 400_000)]
    wordy = monitor.mdib(*long)
    three = values(monitor, wordy, handles=("m.note",) * 3).messages
    assert [message.entries for message in three] == [2, 1]
    assert all(len(message.body) < 1_100_000 for message in three)


def test_an_alert_is_one_observation_updated_in_place(monitor, r4):
    mdib, start = alert(monitor)
    (message,) = render_alert(mdib, start, STAMPS).messages
    (entry,) = bundle(message)["entry"]
    r4(entry["resource"])
    assert entry["request"]["method"] == "PUT"
    assert entry["request"]["url"].startswith("Observation?identifier=")
    ended, end = alert(monitor, 1, present=False)
    (second,) = render_alert(ended, end, STAMPS).messages
    assert second.id != message.id
    assert bundle(second)["entry"][0]["request"] == entry["request"]


def test_an_alert_of_an_impossible_time_is_counted(monitor):
    mdib, start = alert(monitor)
    odd = msgspec.structs.replace(start, onset=10**18)
    rendered = render_alert(mdib, odd, STAMPS)
    assert (rendered.messages, rendered.skipped) == ((), {"time-out-of-range": 1})


async def test_everything_rendered_is_accepted_once_and_keeps_its_digits(monitor, tmp_path):
    mdib, start = alert(monitor)
    messages = [
        *render_tree(mdib, "mds0", monitor.somebody, STAMPS).messages,
        *values(monitor, mdib).messages,
        *values(monitor, mdib, monitor.nobody, ("m.hr",)).messages,
        *render_alert(mdib, start, STAMPS).messages,
    ]
    async with FhirReceiver(tmp_path, "127.0.0.1", 0) as receiver, FhirClient(receiver.base_url) as client:
        for _ in range(2):
            for message in messages:
                response = await client.send(message.body)
                assert response.verdict == "accepted", response
                assert len(response.entries) == message.entries
        counts = await receiver.counts()
    sent = sum(message.entries for message in messages)
    assert (counts.accepted, counts.rejected, counts.repeated) == (sent, 0, sent)
    assert counts.resources == {"Device": 3, "DeviceMetric": 8, "Observation": 8}
    system = "http://sdc-node.example/fhir/identifier/bundle"
    assert await asyncio.to_thread(accepted_requests, tmp_path) == {f"{system}|{message.id}" for message in messages}
    titles = [one.title for one in await asyncio.to_thread(list_resources, tmp_path)]
    assert any(title.endswith("72.50 /min") for title in titles)
    assert any(title.endswith("36.90 Cel") for title in titles)


@pytest.mark.parametrize("validity", ["Vld", "Vldated", "Ong", "Qst", "Calib", "Inv", "Oflw", "Uflw", "NA"])
async def test_every_validity_is_accepted_by_the_receiver(monitor, tmp_path, validity):
    mdib = monitor.mdib(
        monitor.numeric("m.hr", "72.50", validity),
        monitor.numeric("m.spo2", None, validity),
        monitor.words(type(monitor.mdib().states["m.rhythm"]), "m.rhythm", "sinus", validity),
    )
    (message,) = values(monitor, mdib, handles=("m.hr", "m.spo2", "m.rhythm")).messages
    async with FhirReceiver(tmp_path, "127.0.0.1", 0) as receiver, FhirClient(receiver.base_url) as client:
        assert (await client.send(message.body)).verdict == "accepted"


async def test_handles_and_codes_of_any_characters_are_accepted(monitor, tmp_path):
    odd = monitor.metric(NumericMetricDescriptor, "m|,$\\ ü/%", "ch", 147842, 264864)
    odd = msgspec.structs.replace(odd, unit=CodedValue(code="drops", coding_system="urn:vendor"))
    mdib = monitor.mdib(monitor.numeric(odd.handle, "1"), descriptors=(odd,))
    async with FhirReceiver(tmp_path, "127.0.0.1", 0) as receiver, FhirClient(receiver.base_url) as client:
        for _ in range(2):
            tree = render_tree(mdib, "mds0", monitor.nobody, STAMPS).messages
            for message in (*tree, *values(monitor, mdib, handles=(odd.handle,)).messages):
                assert (await client.send(message.body)).verdict == "accepted"
        assert (await receiver.counts()).resources == {"Device": 3, "DeviceMetric": 9, "Observation": 1}
