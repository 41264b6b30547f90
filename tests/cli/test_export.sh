#!/usr/bin/env bash
# test_export.sh: evbus catalogue export, as typed. What is checked by reading it here is checked by tsc and AsyncAPI's own
# parser in tests/npm/run.
#
#     EVBUS=build/dev/tools/evbus tests/cli/test_export.sh [CASE...]

catalogue='{ "namespace": "lomash", "defaults": { "partitions": 1, "ring": "4KiB" }, "tests": true,
  "topics": { "lomash.orders.created": { "producers": ["shop"], "groups": ["mailer"] },
              "lomash.content.blog.published": { "producers": ["editor"], "groups": [] } } }'

# shellcheck source=tests/cli/helpers.sh
source "$(dirname "$0")/helpers.sh"

# Names that meet each other, and the exporter's own.
hostile='{ "namespace": "shop", "open": true, "tests": true, "topics": {
  "shop.a-b.c": { "groups": ["one_1", "two-2"] }, "shop.a.b-c": {}, "shop.domain.event": {}, "shop.topic.name": {},
  "shop.event.by-topic": {}, "shop.any.event": {}, "shop.a.b.c": {}, "shop.a-1.b--c.d-": { "producers": ["x"] } } }'

typescript() { # PYTHON EXPRESSION over text, types (name -> topic), docs (topic -> (producers, groups)), names (of the union)
    python3 - "$1" <<'E'
import re, sys
text = open("out").read()
rows = re.findall(r"^export type (\S+)<T = unknown> = DomainEvent<T> & \{ eventType: \"(\S+)\" \};$", text, re.M)
types = dict(rows)
assert len(types) == len(rows), "a name stands there twice"
assert all(re.fullmatch(r"[A-Z][A-Za-z0-9_$]*", name) for name in types), "no identifier"
assert not set(types) & {"DomainEvent", "TopicName", "EventByTopic", "AnyEvent"}, "a name of our own"
docs = {topic: tuple([] if names.startswith("(") else names.split(", ") for names in lists)
        for topic, *lists in re.findall(r"^/\*\*\n \* `(\S+)`\n \*\n \* Published by: (.*)\.\n \* Received by: (.*)\.\n \*/$", text, re.M)}
names = re.findall(r'^  \| "(\S+?)";?$', text, re.M)
entries = re.findall(r'^  "(\S+)": (\S+)<T>;$', text, re.M)
assert [(name, topic) for topic, name in entries] == rows, "EventByTopic is another list"
sys.exit(0 if eval("(" + sys.argv[1] + ")") else 1)
E
}

asyncapi() { # PYTHON EXPRESSION over d, the document; every reference in it leads somewhere
    python3 - "$1" <<'E'
import json, sys
d = json.load(open("out"))
def follow(ref):
    at = d
    assert ref.startswith("#/")
    for step in ref[2:].split("/"):
        at = at[step]
    return at
def walk(at):
    if isinstance(at, dict):
        if "$ref" in at:
            follow(at["$ref"])
        for value in at.values():
            walk(value)
    elif isinstance(at, list):
        for value in at:
            walk(value)
walk(d)
sys.exit(0 if eval("(" + sys.argv[1] + ")") else 1)
E
}

it_exports_the_adrs_envelope_and_a_type_per_topic() {
    works catalogue export --typescript --shipped
    is_silent
    typescript 'text.count("""export interface DomainEvent<T = unknown> {
  eventId: string;
  eventType: string;
  timestamp: string;
  version: string;
  payload: T;
}
""") == 1' || fail "the ADR's DomainEvent"
    typescript 'len(types) == 17 and names == list(types.values()) == list(docs)' || fail '17 topics'
    typescript 'types["OrdersCreated"] == "lomash.orders.created" and
        types["ContentBlogPublished"] == "lomash.content.blog.published"' || fail 'names'
    typescript 'docs["lomash.orders.created"] == (["order-payment-service"],
        ["product-service", "notification-service", "analytics-service", "customer-service"])' || fail 'producers and consumers'
    typescript 'docs["lomash.analytics.event.tracked"] == (["analytics-service"], [])' || fail 'an internal topic'
}

it_gives_each_topic_a_name_of_its_own() {
    printf '%s' "$hostile" | "$EVBUS" catalogue export --typescript - >out || fail 'refused'
    typescript 'len(types) == 8' || fail 'topics'
    typescript 'types["ABC"] == "shop.a-b.c" and types["A_B$c"] == "shop.a.b-c" and types["A_B_C"] == "shop.a.b.c"' ||
        fail 'the later ones are the longer ones'
    typescript 'types["Domain_Event"] == "shop.domain.event" and types["Event_By$topic"] == "shop.event.by-topic"' || fail 'ours'
    typescript 'docs["shop.a-b.c"] == ([], ["one_1", "two-2"])' || fail 'anyone may publish'
}

it_renames_no_type_when_a_topic_is_added() {
    printf '{"namespace":"a","open":true,"topics":{"a.b-c.d":{}}}' | "$EVBUS" catalogue export --typescript - >out
    typescript 'list(types.items()) == [("BCD", "a.b-c.d")]' || fail 'one'
    printf '{"namespace":"a","open":true,"topics":{"a.b-c.d":{},"a.b.c-d":{}}}' | "$EVBUS" catalogue export --typescript - >out
    typescript 'types["BCD"] == "a.b-c.d" and len(types) == 2' || fail 'two'
}

it_exports_channels_messages_and_operations() {
    works catalogue export --asyncapi --shipped
    is_silent
    asyncapi 'd["asyncapi"] == "3.0.0" and {"title", "version"} <= set(d["info"])' || fail 'head'
    asyncapi 'len(d["channels"]) == 17 and all(c["address"] == name for name, c in d["channels"].items())' || fail 'channels'
    asyncapi 'd["channels"]["lomash.orders.created"]["x-ack"] == "disk" and
        d["channels"]["lomash.orders.created"]["x-partitions"] == 4 and
        d["channels"]["lomash.orders.created"]["x-retention"] == "400d" and
        d["channels"]["lomash.reminders.sent"]["x-retention"] == "7d"' || fail 'partitions, ack, retention'
    "$EVBUS" catalogue export --asyncapi "$source_root/share/catalogue.json" | cmp - out || fail 'another catalogue is shipped'
    cp "$source_root/share/catalogue.json" .
    asyncapi '{(o["action"], o["channel"]["$ref"][11:], o.get("x-service", o.get("x-group"))) for o in d["operations"].values()} ==
        {(action, topic, who) for topic, t in json.load(open("catalogue.json"))["topics"].items()
         for action, key in (("send", "producers"), ("receive", "groups")) for who in t[key]}' || fail 'who does what'
    asyncapi 'all(o["messages"] == [{"$ref": o["channel"]["$ref"] + "/messages/event"}] for o in d["operations"].values())' ||
        fail 'messages of operations'
    asyncapi 'd["components"]["schemas"]["DomainEvent"]["required"] == ["eventId", "eventType", "timestamp", "version", "payload"]' ||
        fail 'the envelope'
    asyncapi 'all(m["payload"]["allOf"][1]["properties"]["eventType"]["const"] == name for name, m in d["components"]["messages"].items())' ||
        fail 'eventType'
}

it_exports_open_catalogues_and_limits() {
    local limits='"logs": {"shop.a": {"retention": "90m", "retention_bytes": "2GiB"}}'
    printf '%s' "${hostile/\"tests\": true/$limits}" | "$EVBUS" catalogue export --asyncapi - >out || fail 'refused'
    asyncapi 'd["channels"]["shop.a.b-c"]["x-retention"] == "90m" and d["channels"]["shop.a.b-c"]["x-retentionBytes"] == 2 << 30' ||
        fail 'limits'
    asyncapi 'sorted(d["operations"]) == ["one_1.receive.shop.a-b.c", "two-2.receive.shop.a-b.c", "x.send.shop.a-1.b--c.d-"]' ||
        fail 'nobody in particular sends'
}

it_exports_what_a_bus_runs_on() {
    make_bus
    works catalogue export --typescript
    typescript 'list(types) == ["OrdersCreated", "ContentBlogPublished"]' || fail 'types'
    works catalogue export --asyncapi
    asyncapi 'd["channels"]["lomash.orders.created"]["x-journal"] is False and
        "x-retention" not in d["channels"]["lomash.orders.created"]' || fail 'its journal'
    printf '%s' "$catalogue" | "$EVBUS" catalogue export --asyncapi - | cmp - out || fail 'the text gives another document'
}

it_names_what_is_wrong() {
    refused 2 'one of --typescript and --asyncapi' catalogue export
    refused 2 'one of --typescript and --asyncapi' catalogue export --typescript --asyncapi x.json
    refused 2 'only catalogue export has it' catalogue show --asyncapi
    refused 2 'give one of them' catalogue export --typescript --shipped x.json
    refused 2 'did you mean catalogue export?' catalogue expot
    refused 69 "there is no bus" catalogue export --typescript
    refused 74 'No such file' catalogue export --asyncapi nowhere.json
    printf '{' >broken.json
    refused 78 'line 1' catalogue export --asyncapi broken.json
    refused 78 'line 1' catalogue export --typescript broken.json
    "$EVBUS" catalogue export --asyncapi --shipped >/dev/full 2>err
    code=$? last='export to a full disk'
    exits 74
}

run_cases "$@"
