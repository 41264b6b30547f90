#!/usr/bin/env bash
# test_backup.sh: evbus backup, as typed, and the way back.
#
#     EVBUS=build/dev/tools/evbus tests/cli/test_backup.sh [CASE...]

catalogue='{ "namespace": "lomash", "tests": true,
  "defaults": { "partitions": 1, "ring": "16KiB", "journal": true },
  "topics": { "lomash.orders.created": { "producers": ["shop"], "groups": ["mailer"] } } }'

# shellcheck source=tests/cli/helpers.sh
source "$(dirname "$0")/helpers.sh"

own_state() { export EVBUS_STATE_DIR=$PWD/state; }
forget_memory() { rm -f "/dev/shm/evbus.$EVBUS_BUS."*; }
says_of_json() { # PYTHON EXPRESSION over r, what was printed
    python3 -c 'import json, sys
r = json.load(open("out"))
sys.exit(0 if eval(sys.argv[1]) else 1)' "$1" || fail "$last: not so: $1"
}

it_is_gone_back_to_as_the_manual_says() {
    own_state
    make_bus
    pub lomash.orders.created '"before"' --key 1
    works backup copies
    is_silent
    prints "copied bus $EVBUS_BUS to $PWD/copies/$EVBUS_BUS: "
    prints "EVBUS_STATE_DIR=$PWD/copies brings it back from there (man evbus, RESTORE)"
    if [ "$(wc -l <out)" -ne 1 ]; then fail 'more than a line'; fi
    pub lomash.orders.created '"after"' --key 1
    forget_memory
    mv "state/$EVBUS_BUS" away
    cp -a "copies/$EVBUS_BUS" state/
    works stat
    works tail --from earliest --timeout 0
    prints '"before"'
    if grep -q after out; then fail 'it was published after the backup'; fi
    works consume mailer --count 1 --timeout 20s --exec 'cat >got'
    grep -q before got || fail 'the group'
    pub lomash.orders.created '"again"' --key 1
}

it_brings_the_bus_back_from_where_it_is() {
    own_state
    make_bus
    pub lomash.orders.created '"before"'
    works backup copies/monday/
    forget_memory
    EVBUS_STATE_DIR=$PWD/copies/monday works stat
    EVBUS_STATE_DIR=$PWD/copies/monday works tail --from earliest --timeout 0
    prints '"before"'
}

it_tells_programs_what_it_did() {
    own_state
    make_bus
    pub lomash.orders.created '1'
    works backup --json 'a "dir"'
    is_silent
    says_of_json 'r["bus"] == "'"$EVBUS_BUS"'" and r["folder"].endswith("/a \"dir\"/" + r["bus"])'
    says_of_json 'r["bytes"] > 4096 and r["files"] >= 5 and r["ms"] >= 0'
    if [ "$(find a* -type f | wc -l)" -ne "$(grep -oE '"files":[0-9]+' out | cut -d: -f2)" ]; then fail 'files'; fi
}

it_refuses_by_name_what_cannot_be() {
    own_state
    make_bus
    refused 2 'something is missing; usage: evbus backup DIR' backup
    refused 2 '"more" is one too many' backup copies more
    refused 2 'name a folder elsewhere' backup "state/$EVBUS_BUS/backup"
    refused 73 "$PWD/state/$EVBUS_BUS is there: a backup is never written over" backup state
    works backup copies
    refused 73 "$PWD/copies/$EVBUS_BUS is there: a backup is never written over" backup copies
    : >file
    refused 74 'must be a folder' backup file
    refused 69 'nobody' -b nobody-is-it backup copies
}

it_refuses_a_bus_without_a_journal() {
    own_state
    catalogue=${catalogue/'"journal": true'/'"journal": false'}
    make_bus
    refused 1 "no log of bus $EVBUS_BUS has a journal" backup copies
    if [ -e "copies/$EVBUS_BUS" ]; then fail 'a copy'; fi
}

it_tells_a_terminal_how_far_it_is() {
    own_state
    make_bus
    pub lomash.orders.created '1'
    timeout 60 script -qec "'$EVBUS' backup copies 2>&1 >/dev/null" /dev/null >out 2>err </dev/null || fail "script: $?"
    last='evbus backup on a terminal'
    prints "evbus: copying bus $EVBUS_BUS: 0.0 of "
}

run_cases "$@"
