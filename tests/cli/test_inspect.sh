#!/usr/bin/env bash
# test_inspect.sh: evbus inspect, as typed.
#
#     EVBUS=build/dev/tools/evbus tests/cli/test_inspect.sh [CASE...]

catalogue='{ "namespace": "lomash", "defaults": { "partitions": 1, "ring": "4KiB" }, "tests": true,
  "topics": { "lomash.orders.created": { "producers": ["shop"], "groups": ["mailer"] },
              "lomash.content.blog.published": { "producers": ["editor"], "groups": [] } } }'

# shellcheck source=tests/cli/helpers.sh
source "$(dirname "$0")/helpers.sh"

records() { # PYTHON EXPRESSION over r, the records that were printed
    python3 -c 'import json, sys
r = [json.loads(line) for line in open("out")]
sys.exit(0 if eval(sys.argv[1]) else 1)' "$1"
}

copy_bus() { mkdir -p saved && cp "/dev/shm/evbus.$EVBUS_BUS."* saved/; }

it_shows_a_bus_to_people() {
    make_bus
    pub lomash.orders.created '{"n": 1}' --key 10248
    works inspect
    is_silent
    prints "bus bus=$EVBUS_BUS folder=/dev/shm uuid="
    prints 'log lomash.orders file='
    prints '    partition lomash.orders/0 cells=64 tail='
    prints "        word lomash.orders/0@$(grep -oE 'orders/0@[0-9]+ state=committed.*kind=event' out | grep -oE '[0-9]+ s' | cut -d' ' -f1) state=committed"
    prints 'group group=mailer number=0 state=live'
    prints '    lease lomash.orders/0 group=mailer cursor='
    if grep -q '! ' out; then fail 'a sound bus differs'; fi
    if grep -q '10248' out; then fail 'a key is shown where none was asked for'; fi
}

it_shows_copies_of_its_files_alike() {
    make_bus
    pub lomash.orders.created '1'
    works inspect --all
    grep -v '^bus ' out >alive
    copy_bus
    works rm
    refused 69 'no file of a bus' inspect
    works inspect saved --all
    prints "folder=saved "
    grep -v '^bus ' out >dead
    if ! cmp -s alive dead; then fail "not the same: $(diff alive dead | head -n 5)"; fi
}

it_shows_one_object_a_line_to_programs() {
    make_bus
    pub lomash.orders.created '"\u0007 \" ü"' --key 'a"b'
    works inspect --json
    records '{x["record"] for x in r} >= {"bus", "log", "topic", "partition", "word", "low", "group", "lease"}' || fail 'kinds'
    records 'r[0]["record"] == "bus" and r[0]["ready"] is True and r[0]["created"].startswith("20")' || fail 'bus'
    records 'all(isinstance(x["position"], str) for x in r if x["record"] == "word")' || fail 'positions are strings'
    local position
    position=$(python3 -c 'import json
print([x["position"] for x in map(json.loads, open("out")) if x["record"] == "word" and x.get("kind") == "event"][0])')
    works inspect --frame "$position" --log lomash.orders --json
    records 'r[-1]["record"] == "frame" and r[-1]["key"] == "a\"b" and r[-1]["key_hex"] == "612262"' || fail 'key'
    records 'bytes.fromhex(r[-1]["payload_hex"]).decode() == "\"\\u0007 \\\" ü\""' || fail 'payload'
    works inspect --frame "$position" --log lomash.orders
    prints 'key="a\"b"'
}

it_shows_what_nothing_else_opens() {
    make_bus
    pub lomash.orders.created '1'
    printf 'XXXXXXXX' | dd of="/dev/shm/evbus.$EVBUS_BUS.control" bs=1 seek=8 conv=notrunc 2>/dev/null # its fingerprint
    refused 69 'another build' stat
    works inspect
    prints '! evbus.'
    prints 'word lomash.orders/0@'
    copy_bus
    truncate -s 3000 "saved/evbus.$EVBUS_BUS.lomash.orders"
    works inspect saved
    prints 'the file has 3000 bytes of '
    rm "saved/evbus.$EVBUS_BUS.control"
    works inspect saved
    prints '! its control object is not there'
}

it_prints_json_whatever_stands_there() {
    local i
    make_bus
    pub lomash.orders.created '1' --key k
    copy_bus
    for i in 1 2 3 4 5 6 7 8; do
        head -c 2000 /dev/urandom | dd of="saved/evbus.$EVBUS_BUS.control" bs=1 seek=$((i * 700)) conv=notrunc 2>/dev/null
        head -c 3000 /dev/urandom | dd of="saved/evbus.$EVBUS_BUS.lomash.orders" bs=1 seek=$((i * 4000 + 60)) conv=notrunc 2>/dev/null
        works inspect saved --json --all
        records 'len(r) > 3' || fail 'not JSON'
        works inspect saved
        if LC_ALL=C grep -q $'[\x01-\x09\x0b-\x1f\x7f]' out; then fail 'a control character for a terminal'; fi
    done
}

it_shows_what_is_asked_for() {
    make_bus
    works inspect --log lomash.orders --partition 0
    if grep -q 'content' out; then fail 'another log'; fi
    works inspect --group mailer
    prints 'lease lomash.orders/0'
    if grep -q ' word ' out; then fail 'words of a group'; fi
    works inspect --words 1
    prints ' word '
    refused 1 'has no log lomash.x' inspect --log lomash.x
    refused 1 'has no group nobody' inspect --group nobody --json
    run inspect --partition 7
    exits 1
    says 'has no partition 7'
}

it_names_what_makes_no_sense() {
    refused 69 'no file of a bus' inspect
    refused 69 'nowhere: No such file' inspect nowhere
    refused 2 'is one too many' inspect a b
    refused 2 '--words is 0' inspect --words 0
    refused 2 'a whole number' inspect --partition x
    refused 2 '--frame needs a value' inspect --frame
}

run_cases "$@"
