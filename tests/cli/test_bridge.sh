#!/usr/bin/env bash
# evbus bridge status|pause|resume, with a real evbus-bridge and a file as its broker.
#
#   EVBUS=build/tools/evbus BRIDGE=build/bridge/evbus-bridge tests/cli/test_bridge.sh [CASE...]
#
# What a case is, and what they share: helpers.sh.
# shellcheck source=tests/cli/helpers.sh
. "$(dirname "$0")/helpers.sh"

BRIDGE=$(realpath "${BRIDGE:-$(dirname "$EVBUS")/../bridge/evbus-bridge}")
if ! [ -x "$BRIDGE" ]; then
    printf 'BRIDGE=%s is no program\n' "$BRIDGE" >&2
    exit 2
fi
export EVBUS_STATE_DIR=$scratch/state

catalogue='{ "namespace": "lomash", "tests": true, "defaults": { "partitions": 1, "ring": "64KiB", "journal": true },
  "topics": { "lomash.orders.created": { "producers": ["shop"], "groups": ["mailer"] } } }'

# ---- helpers ---------------------------------------------------------------------------------------------------------

start_bridge() { # OPTIONS...: its pid in $bridge
    mkdir -p broker
    "$BRIDGE" --bus "$EVBUS_BUS" --set "broker=file:$PWD/broker" "$@" 2>>bridge.log &
    bridge=$!
}

status_says() { # PYTHON EXPRESSION over m, the first mirror
    "$EVBUS" bridge status --json >status.json 2>/dev/null # it exits 1 where a bridge is paused
    python3 -c 'import json, sys
text = open("status.json").read()
m = json.loads(text) if text else {"led": None, "standBy": None}
sys.exit(0 if eval(sys.argv[1]) else 1)' "$1"
}

n_out() { # N: events at the broker
    [ "$(grep -c '"eventId"' broker/log.ndjson 2>/dev/null)" = "$1" ]
}

# ---- cases -----------------------------------------------------------------------------------------------------------

it_says_that_no_bridge_has_run() {
    make_bus
    refused 1 "no bridge has run on it yet" bridge status
    refused 1 "has no mirror: no bridge has run on it yet" bridge pause
    refused 1 "has no mirror redis: no bridge has run on it yet" bridge resume redis
    refused 2 "it is status, pause or resume" bridge stop
}

it_shows_what_was_no_event_where_it_stands_at_the_broker() {
    make_bus
    mkdir -p broker
    printf '{"stream":"lomash.orders.created","x":"y"}\n' >>broker/log.ndjson
    start_bridge
    await dlq_has_one
    works dlq ls --group bridge-file
    grep -qE ' open bridge-file rejected lomash\.orders\.created lomash\.orders\.created@[0-9]+-[0-9]+-[0-9]+ - [0-9a-f-]{36} .* is missing' out ||
        fail "where does it stand: $(cat out)"
    id=$("$EVBUS" dlq ls --json | grep -oE '"deadLetterId":"[^"]*"' | cut -d'"' -f4)
    works dlq show "$id"
    prints 'entry at     lomash.orders.created@'
    prints '"fields":[["x","y"]]'
    works dlq show "$id" --json
    python3 -c 'import json, sys
one = json.loads(open("out").read())["letter"]
assert one["stream"] == "lomash.orders.created" and one["entry"] == one["event"]["payload"]["id"], one
assert "log" not in one and "position" not in one, one' || fail "other JSON: $(cat out)"
    works dlq export
    n_lines out 1 || fail "one is exported: $(cat out)"
    for how in --max=9 --force --dry-run; do
        refused_but_prints replay $how
    done
    works dlq discard --group bridge-file --reason 'it is put right'
    prints 'discarded 1 dead letters'
    works dlq ls
    prints_nothing
    works dlq ls --all
    prints ' discarded bridge-file rejected '
    kill "$bridge"
}

dlq_has_one() { "$EVBUS" dlq ls --json | wc -l | grep -qx 1; }

refused_but_prints() { # VERB OPTION...: of dlq: it tells the mend, and nothing is done
    run dlq "$1" --group bridge-file "${@:2}"
    exits 1
    prints 'skipped '
    prints ': it is no event, but an entry at the broker: put it right there (XADD it anew), and discard this letter'
    prints ' 0 dead letters, skipped 1'
}

it_tells_who_leads_and_how_it_is() {
    make_bus
    start_bridge
    await status_says 'm["led"]'
    works bridge status
    prints "mirror file: "
    prints "process $bridge"
    prints "lomash.orders/0"
    status_says 'm["mirror"] == "file" and m["pid"] == '"$bridge"' and m["service"] == "evbus-bridge" and m["standBy"] == 0' ||
        fail "status --json: $("$EVBUS" bridge status --json)"
    start_bridge
    await status_says 'm["standBy"] == 1'
}

it_tells_when_all_is_out() {
    make_bus
    start_bridge --set checkpoint=50ms
    pub lomash.orders.created '{"n":1}'
    await n_out 1
    await status_says 'all(int(p["held"]) == int(p["tail"]) for p in m["partitions"])'
    status_says 'all(int(p["told"]) > 0 for p in m["partitions"])' || fail "nothing was told"
}

it_pauses_and_goes_on() {
    make_bus
    start_bridge
    pub lomash.orders.created '{"n":1}'
    await n_out 1
    works bridge pause
    await has_line bridge.log paused
    run bridge status
    exits 1
    prints paused
    status_says 'm["paused"] is True' || fail "status --json"
    pub lomash.orders.created '{"n":2}'
    works bridge resume file
    await n_out 2
    works bridge status
    status_says 'm["paused"] is False' || fail "status --json"
    refused 1 "has no mirror redis" bridge pause redis
}

it_is_doctors_to_tell_of_a_pause_and_of_no_bridge() {
    make_bus
    start_bridge
    await status_says 'm["led"]'
    works bridge pause
    run doctor
    exits 1
    prints "mirror file is paused by an operator"
    prints "bridge resume file"
    works bridge resume
    kill -KILL "$bridge"
    await status_says 'm["led"] is False'
    pub lomash.orders.created '{"n":1}'
    run doctor
    exits 1
    prints "group bridge-file has no living member any more"
    prints "start a bridge: evbus-bridge --bus $EVBUS_BUS"
}

it_is_told_to_end_and_nobody_leads() {
    make_bus
    start_bridge
    await status_says 'm["led"]'
    pub lomash.orders.created '{"n":1}'
    kill "$bridge"
    ends_with "$bridge" 0
    n_out 1 || fail "it has not drained"
    run bridge status
    exits 1
    prints "no bridge runs"
    status_says 'm["led"] is False and m["pid"] == 0' || fail "status --json"
}

it_is_killed_and_nobody_leads() {
    make_bus
    start_bridge
    await status_says 'm["led"]'
    kill -KILL "$bridge"
    await status_says 'm["led"] is False'
    start_bridge
    await status_says 'm["led"]'
}

run_cases "$@"
