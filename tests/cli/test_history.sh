#!/usr/bin/env bash
# test_history.sh: evbus find and evbus why, as typed.
#
#     EVBUS=build/dev/tools/evbus tests/cli/test_history.sh [CASE...]

catalogue='{ "namespace": "lomash", "defaults": { "partitions": 1, "ring": "16KiB", "journal": true, "retry": ["10ms", "10ms"] },
  "tests": true, "topics": { "lomash.orders.created": { "producers": ["shop"], "groups": ["mailer"] } } }'

# shellcheck source=tests/cli/helpers.sh
source "$(dirname "$0")/helpers.sh"
export EVBUS_STATE_DIR=$scratch

forget_memory() { rm -f "/dev/shm/evbus.$EVBUS_BUS."*; }

it_finds_an_event_by_its_id() {
    make_bus
    pub lomash.orders.created '{"n":1}' --key 10248 --id "$ID"
    pub lomash.orders.created '{"n":2}' --key 10249
    works find "$ID"
    is_silent
    prints "lomash.orders/0@"
    prints "$ID shop 1.0 "
    prints ' lomash.orders.created 10248 {"n":1}'
    n_lines out 1 || fail 'more than one line'
    works find "${ID^^}" --json
    python3 -c 'import json; e = json.load(open("out")); assert e["service"] == "shop" and e["envelope"]["payload"] == {"n": 1}' ||
        fail 'no such object'
}

it_finds_an_event_after_its_memory_is_gone() {
    make_bus
    pub lomash.orders.created '{"n":1}' --key 10248 --id "$ID" --disk
    forget_memory
    works find "$ID"
    prints "$ID shop 1.0 "
    works why "$ID"
    prints "service=shop host=$(hostname) pid="
    prints 'group group=mailer state=waiting'
}

it_says_when_an_event_is_not_kept() {
    make_bus
    refused 1 "keeps no event $ID" find "$ID"
    refused 1 "keeps no event $ID" why "$ID"
    refused 2 '"x" is no eventId' find x
    refused 2 '"x" is no eventId' why x
    refused 2 'something is missing; usage: evbus find EVENTID' find
    refused 2 'is one too many' why "$ID" "$ID"
    EVBUS_BUS=none refused 69 'none' find "$ID"
}

it_tells_what_became_of_an_event() {
    make_bus
    pub lomash.orders.created '{"n":1}' --key 10248 --id "$ID"
    works why "$ID"
    prints "event lomash.orders/0@"
    prints " topic=lomash.orders.created key=10248 timestamp=20"
    prints "    group group=mailer state=waiting ahead="
    works consume mailer --as mailer --exec 'echo "no connection" >&2; exit 75' --count 3 --timeout 60s
    works why "$ID"
    prints "    group group=mailer state=dead deadLetterId="
    for n in 1 2 3; do
        grep -qE "^        attempt n=$n at=20.* member=mailer ms=[0-9]+ cause=failed error=\"no connection\"$" out ||
            fail "attempt $n is not told"
    done
    works find "$(grep -oE 'deadLetterId=[0-9a-f-]+' out | cut -d= -f2)" --json
    prints '"group":"mailer"'
    works why "$ID" --json
    python3 -c 'import json; r = [json.loads(l) for l in open("out")]
assert [x["record"] for x in r] == ["event", "group", "attempt", "attempt", "attempt"] and r[1]["state"] == "dead"' ||
        fail 'no such objects'
}

is_taken() { [ -e taken ]; }

it_tells_of_an_attempt_whose_process_died() {
    make_bus
    pub lomash.orders.created '{"n":1}' --key 10248 --id "$ID"
    "$EVBUS" consume mailer --as mailer --exec 'touch taken; exec sleep 100' 2>consume.err &
    local consumer=$!
    await is_taken
    works why "$ID"
    prints '    group group=mailer state=running attempts=1 member=mailer since=20'
    kill -KILL "$consumer"
    works consume mailer --as other --exec true --count 1 --timeout 60s
    works why "$ID"
    prints '    group group=mailer state=done'
    grep -qE '^        attempt n=1 at=20.* member=mailer ms=- cause=crashed error=""$' out || fail 'the crash is not told'
}

run_cases "$@"
