#!/usr/bin/env bash
# Programs that are no evbus, at the same Redis: redis-cli, and python3-redis of Debian. They read events as the ADR has them, in
# consumer groups of Redis' own, and publish by XADD of the five fields; ioredis does the same in tests/npm/run.
#
#   EVBUS=build/tools/evbus BRIDGE=build/bridge/evbus-bridge tests/broker/test_clients.sh [CASE...]
#
# Each case has a bus, a bridge and a redis-server of its own. What a case is, and what they share: tests/cli/helpers.sh.
# shellcheck source=tests/cli/helpers.sh
. "$(dirname "$0")/../cli/helpers.sh"

BRIDGE=$(realpath "${BRIDGE:-$(dirname "$EVBUS")/../bridge/evbus-bridge}")
if ! [ -x "$BRIDGE" ]; then
    printf 'BRIDGE=%s is no program\n' "$BRIDGE" >&2
    exit 2
fi
clients=$(dirname "$self")/clients.py
topic=lomash.orders.created

catalogue='{ "namespace": "lomash", "tests": true, "defaults": { "partitions": 2, "ring": "64KiB", "journal": true },
  "topics": { "lomash.orders.created": { "producers": ["shop"], "groups": ["mailer"] } } }'

# ---- helpers ---------------------------------------------------------------------------------------------------------

begin() { # BRIDGE'S OPTIONS...: a bus, a Redis, and a bridge that is there
    make_bus
    redis-server --port 0 --unixsocket "$PWD/redis.sock" --save '' --dir "$PWD" >redis.log 2>&1 &
    await says_pong
    "$BRIDGE" --redis "unix://$PWD/redis.sock" --bus "$EVBUS_BUS" "$@" 2>bridge.log &
    await has_line bridge.log 'the broker is here'
}

cli() { redis-cli -s redis.sock "$@"; }
says_pong() { [ "$(cli ping 2>/dev/null)" = PONG ]; }
has_len() { [ "$(cli XLEN "$1")" = "$2" ]; }

python() { # ARGS...: of clients.py, by Debian's python3, whose package it is; into out
    last="clients.py $*"
    timeout --foreground 100 /usr/bin/python3 "$clients" redis.sock "$@" >out 2>err
    code=$?
    exits 0
}

xadd() { # ID PAYLOAD MORE...: the five fields, by redis-cli
    cli XADD $topic '*' eventId "$1" eventType $topic timestamp 2026-02-01T09:30:00.123Z version 1.0 payload "$2" "${@:3}" >added
}

# ---- redis-cli -------------------------------------------------------------------------------------------------------

it_reads_the_envelope_by_redis_cli_in_a_group() {
    begin
    pub $topic '{"total": 19.90, "who": "Zoë"}' --key 10248
    await has_len $topic 1
    cli XGROUP CREATE $topic crm 0 >/dev/null
    cli XREADGROUP GROUP crm one COUNT 10 STREAMS $topic '>' >read
    works tail $topic --from earliest --count 1 --timeout 1m --json
    /usr/bin/python3 - read out <<'PYTHON' >said 2>&1 || fail "$(cat said read)"
import json, sys
stream, entry_id, *fields = open(sys.argv[1]).read().splitlines()
event = json.loads(open(sys.argv[2]).readline())
event = event.get("envelope", event)
assert fields[0:8] == ["eventId", event["eventId"], "eventType", event["eventType"], "timestamp", event["timestamp"],
                       "version", "1.0"], fields
assert fields[8:12] == ["payload", '{"total": 19.90, "who": "Zoë"}', "key", "10248"], fields
PYTHON
    [ "$(cli XPENDING $topic crm | head -n 1)" = 1 ] || fail 'it is not pending'
    [ "$(cli XACK $topic crm "$(sed -n 2p read)")" = 1 ] || fail 'it cannot be acknowledged'
    [ "$(cli XPENDING $topic crm | head -n 1)" = 0 ] || fail 'it is still pending'
}

it_takes_what_redis_cli_adds() {
    begin
    xadd $ID '{"total": 19.90}' key 10248
    works consume mailer --count 1 --timeout 1m --json
    prints "\"eventId\":\"$ID\""
    prints '"timestamp":"2026-02-01T09:30:00.123Z"'
    prints '{"total": 19.90}'
    pub $topic '{"n": 1}' # behind it, so that it would have come before, had it been sent back
    await has_len $topic 2
    works tail $topic --from earliest --timeout 0
    n_lines out 2 || fail 'the bus has not just the two'
}

it_goes_on_behind_what_is_no_event() {
    begin
    cli XADD $topic '*' hello world >added
    xadd $ID 'no JSON'
    xadd $ID '{"n": 1}'
    works consume mailer --count 1 --timeout 1m --json
    prints '{"n": 1}'
    works dlq ls --group bridge-redis
    n_lines out 2 || [ "$(grep -c rejected out)" = 2 ] || fail 'two are no events'
}

# ---- python3-redis ---------------------------------------------------------------------------------------------------

it_reads_the_envelope_by_python3_redis_in_a_group() {
    begin
    for n in 1 2 3 4 5; do pub $topic "{\"n\": $n}" --key a; done
    python group $topic crm 5
    [ "$(sed 's/.*"n": \([0-9]*\).*/\1/' out | tr '\n' ' ')" = '1 2 3 4 5 ' ] || fail 'the order is wrong'
    pub $topic '{"n": 6}' --key a
    python group $topic crm 1
    prints '"n": 6'
    [ "$(cli XPENDING $topic crm | head -n 1)" = 0 ] || fail 'some are not acknowledged'
}

it_takes_what_python3_redis_adds_once_and_in_order() {
    begin
    python produce $topic 0 300
    works consume mailer --count 300 --timeout 1m
    python produce $topic 300 300
    works consume mailer --count 300 --timeout 1m
    pub $topic '{"n": 600}'
    works consume mailer --count 1 --timeout 1m # so nothing came twice
    prints '{"n": 600}'
    works tail $topic --from earliest --timeout 0 --json
    /usr/bin/python3 - out <<'PYTHON' >said 2>&1 || fail "$(cat said)"
import json, sys
numbers = []
for line in open(sys.argv[1]):
    event = json.loads(line)
    numbers.append(event.get("envelope", event)["payload"]["n"])
assert sorted(numbers) == list(range(601)), "not each one once"
for key in range(3):
    of_key = [n for n in numbers if n % 3 == key and n < 600]
    assert of_key == sorted(of_key), f"key k{key}: {of_key}"
PYTHON
}

# ---- what is kept for them -------------------------------------------------------------------------------------------

it_keeps_what_a_group_of_redis_has_not_done() {
    begin --set trim_age=1s --set trim_interval=1s --set checkpoint=100ms
    cli XGROUP CREATE $topic crm 0 MKSTREAM >/dev/null
    for n in 1 2 3 4 5 6 7 8 9; do pub $topic "{\"n\": $n}" --key a; done
    await has_len $topic 9
    cli XREADGROUP GROUP crm one COUNT 5 STREAMS $topic '>' | grep -E '^[0-9]+-[0-9]+$' >ids
    n_lines ids 5 || fail "$(cat ids)"
    cli XACK $topic crm "$(sed -n 1p ids)" "$(sed -n 2p ids)" "$(sed -n 4p ids)" >/dev/null
    await has_len $topic 7 # the third is not done, so it stays, and all behind it
    [ "$(cli XRANGE $topic - + COUNT 1 | head -n 1)" = "$(sed -n 3p ids)" ] || fail 'not the third one is the first'
    cli XACK $topic crm "$(sed -n 3p ids)" >/dev/null
    await has_len $topic 5
    cli XACK $topic crm "$(sed -n 5p ids)" >/dev/null
    await has_len $topic 4 # those that it has not got at all
    python group $topic crm 4
    n_lines out 4 || fail 'the group has not got the rest'
    await has_len $topic 0
    pub $topic '{"n": 10}' --key a
    python group $topic crm 1
    prints '"n": 10'
}

for name in redis-server redis-cli; do
    if ! command -v $name >/dev/null; then
        printf '%s is not installed (Debian: redis-server)\n' $name >&2
        exit 2
    fi
done
if ! /usr/bin/python3 -c 'import redis' 2>/dev/null; then
    printf 'Debian'\''s python3 has no redis (Debian: python3-redis)\n' >&2
    exit 2
fi
run_cases "$@"
