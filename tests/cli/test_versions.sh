#!/usr/bin/env bash
# The command line and versions of a payload, as it is typed: pub --also, tail --versions, consume --accept and --upcast.
#
#   EVBUS=build/tools/evbus tests/cli/test_versions.sh [CASE...]
#
# What a case is, and what they share: helpers.sh.
# shellcheck source=tests/cli/helpers.sh
. "$(dirname "$0")/helpers.sh"

catalogue='{ "namespace": "lomash", "tests": true,
  "defaults": { "partitions": 1, "ring": "64KiB", "payload_max": 2000, "retry": ["10ms", "20ms"] },
  "topics": { "lomash.orders.created": { "producers": ["shop"], "groups": ["mailer", "plain"] } },
  "groups": { "mailer": { "accepts": ["1", "2.0"] } } }'

# ---- helpers ---------------------------------------------------------------------------------------------------------

order() { # OPTIONS...: an order in both versions
    pub lomash.orders.created '{"total":"4.50"}' --version 1.0 --also '2.0={"total":4.50}' "$@"
}

letters_say() { # GROUP PYTHON EXPRESSION over letters, the payloads of its dead letters
    works tail "lomash.dlq.$1" --from earliest --timeout 0 --json
    python3 -c 'import json, sys
letters = [json.loads(line)["payload"] for line in open("out")]
assert eval("(" + sys.argv[1] + ")"), letters' "$2" || fail "dead letters: not $2"
}

try_to_end() { kill -TERM "$1" 2>/dev/null; is_over "$1"; }

# ---- cases -----------------------------------------------------------------------------------------------------------

it_publishes_an_event_in_several_versions_under_one_id() {
    make_bus
    order --id "$ID" --key 1
    works tail --from earliest --count 1 --timeout 1m --json
    prints '"version":"1.0","payload":{"total":"4.50"}}'
    works tail --from earliest --count 1 --timeout 1m --json --versions
    if ! n_lines out 2; then fail 'not a line for each'; fi
    prints "{\"eventId\":\"$ID\",\"eventType\":\"lomash.orders.created\","
    prints '"version":"1.0","payload":{"total":"4.50"}}'
    prints '"version":"2.0","payload":{"total":4.50}}'
    works tail --from earliest --count 1 --timeout 1m --json --meta
    prints ',"versions":"1.0,2.0","lost":0}'
    works tail --from earliest --count 1 --timeout 1m --versions
    prints ' lomash.orders.created 1 1.0 {"total":"4.50"}'
    prints ' lomash.orders.created 1 2.0 {"total":4.50}'
    works tail --from earliest --count 1 --timeout 1m --meta
    prints ' 1.0 of 1.0,2.0 '
}

it_shows_the_versions_of_an_event_that_is_looked_for() {
    make_bus
    order --id "$ID"
    works find "$ID"
    prints ' 1.0 of 1.0,2.0 '
    prints '{"total":"4.50"}'
    works find "$ID" --versions
    if ! n_lines out 2; then fail 'not a line for each'; fi
    prints ' 2.0 of 1.0,2.0 '
    works find "$ID" --json
    prints '"versions":"1.0,2.0"'
    cp out line
    works convert --to cloudevents <line
    prints '"evbusversions":"1.0,2.0"'
    cp out event
    works convert --from cloudevents <event
    cmp line out || fail 'not the same line'
    works why "$ID"
    prints ' versions=1.0,2.0'
    works why "$ID" --json
    prints '"versions":"1.0,2.0"'
}

it_gives_each_group_the_version_that_it_accepts() {
    make_bus
    order
    works consume mailer --count 1 --timeout 1m --json --meta
    prints '"version":"2.0","payload":{"total":4.50}}'
    prints '"versions":"1.0,2.0","attempt":1}'
    works consume plain --count 1 --timeout 1m --json
    prints '"version":"1.0","payload":{"total":"4.50"}}'
    works group show mailer
    prints 'accepts: 1, 2.0'
    works group show plain
    prints 'accepts: the lowest version of an event'
    works group show mailer --json
    prints '"accepts":["1","2.0"]'
    works group show plain --json
    prints '"accepts":[]'
}

it_says_what_this_member_accepts() {
    make_bus
    order
    order
    works consume mailer --accept 1 --count 1 --timeout 1m --json
    prints '"version":"1.0"'
    # shellcheck disable=SC2016
    works consume mailer --accept 3,2.0 --count 1 --timeout 1m --exec 'echo "$EVBUS_VERSION"; cat'
    prints '2.0'
    prints '"payload":{"total":4.50}}'
}

it_makes_a_dead_letter_of_what_no_version_fits() {
    make_bus
    pub lomash.orders.created '3' --version 3.0 --key a
    pub lomash.orders.created '1' --version 1.4 --key a
    works consume mailer --timeout 0 --exec 'cat; false'
    works consume mailer --count 1 --timeout 1m --json
    prints '"version":"1.4"'
    letters_say mailer 'len(letters) == 1 and letters[0]["cause"] == "no_version"'
    letters_say mailer 'letters[0]["attempts"] == [] and letters[0]["event"]["version"] == "3.0"'
    letters_say mailer 'letters[0]["error"] == "published as 3.0; accepted are 1, 2.0"'
    works dlq ls
    prints ' no_version lomash.orders.created '
    prints 'published as 3.0; accepted are 1, 2.0'
    works dlq show "$(cut -d' ' -f8 out)"
    prints 'error        published as 3.0; accepted are 1, 2.0'
    works dlq replay --group mailer
    works consume mailer --accept 3 --timeout 0 --json --meta
    prints '"version":"3.0","payload":3}'
    prints '"replayed":1'
}

it_raises_a_version_by_commands() {
    make_bus
    pub lomash.orders.created '{"total":"4.50"}' --version 1.3
    pub lomash.orders.created '{"total":7}' --version 2.0
    # shellcheck disable=SC2016
    works consume plain --accept 3 --count 2 --timeout 1m --json \
        --upcast 2='sed "s/}/,\"was\":\"$EVBUS_VERSION\"}/"' --upcast 1="sed 's/\"\([0-9.]*\)\"/\1/'"
    prints '"version":"3.0","payload":{"total":4.50,"was":"2.0"}}'
    prints '"version":"3.0","payload":{"total":7,"was":"2.0"}}'
}

it_keeps_why_an_upcaster_could_not() {
    make_bus
    pub lomash.orders.created '1'
    pub lomash.orders.created '2'
    pub lomash.orders.created '3'
    pub lomash.orders.created '4' --version 2.0
    # shellcheck disable=SC2016
    works consume plain --accept 2 --count 1 --timeout 1m --json --upcast 1='read n
        case $n in 1) echo "no total" >&2; exit 1 ;; 2) kill -9 $$ ;; *) echo "no JSON" ;; esac'
    prints '"payload":4}'
    says 'no total'
    letters_say plain '[letter["cause"] for letter in letters] == ["no_version"] * 3'
    letters_say plain 'letters[0]["error"] == "upcaster 1 -> 2: no total"'
    letters_say plain 'letters[1]["error"] == "upcaster 1 -> 2: killed by signal 9 (Killed)"'
    letters_say plain 'letters[2]["error"].startswith("upcaster 1 -> 2: its payload is not JSON")'
}

it_tries_again_what_is_not_the_events_fault() {
    make_bus
    pub lomash.orders.created '1'
    works consume plain --accept 2 --count 1 --timeout 1m --json --meta \
        --upcast 1='if [ -e once ]; then cat; else touch once; exit 69; fi'
    prints '"version":"2.0"'
    prints '"attempt":1}'
    letters_say plain 'letters == []'
}

it_ends_an_upcaster_when_it_is_told_twice() {
    make_bus
    pub lomash.orders.created '1'
    "$EVBUS" consume plain --accept 2 --upcast 1='echo $$ >pid; exec cat <&9' 9<&"$never" >consumed 2>&1 &
    local member=$!
    await test -s pid
    kill "$member"
    await try_to_end "$member"
    ends_with "$member" 75
    await is_over "$(cat pid)"
    works consume plain --count 1 --timeout 1m --json --meta
    prints '"attempt":1}'
}

it_says_what_is_wrong_with_the_command_line() {
    make_bus
    refused 2 '--also "2.0": expected VERSION=PAYLOAD' pub lomash.orders.created 1 --as shop --also 2.0
    refused 2 '--also "two=2": expected VERSION=PAYLOAD' pub lomash.orders.created 1 --as shop --also two=2
    refused 2 '--also is a version of one event' pub lomash.orders.created --stdin --as shop --also 2.0=1
    refused 65 'version 1.0 is there twice' pub lomash.orders.created 1 --as shop --also 1.0=1
    refused 65 'version 2.0 (1999 bytes are left to it by the other versions): event.payload is empty' pub lomash.orders.created 1 --as shop --also 2.0=
    # shellcheck disable=SC2046
    refused 2 'at most 7 are allowed' pub lomash.orders.created 1 --as shop $(printf -- '--also %d=1 ' 2 3 4 5 6 7 8 9)
    # shellcheck disable=SC2046
    refused 2 '--also: given more than 16 times' pub lomash.orders.created 1 $(printf -- '--also %d=1 ' $(seq 17))
    refused 2 'version "one" is not MAJOR.MINOR' consume mailer --accept 1,one
    refused 2 'version "" is not MAJOR.MINOR' consume mailer --accept 1,
    refused 2 'at most 16 versions' consume mailer --accept "$(seq -s, 17)"
    refused 2 '--upcast "cat": expected MAJOR=CMD' consume mailer --accept 2 --upcast cat
    refused 2 '--upcast "1.0=cat": expected MAJOR=CMD' consume mailer --accept 2 --upcast 1.0=cat
    refused 2 '--upcast "1= ": which command?' consume mailer --accept 2 --upcast '1= '
    refused 2 'are both of major version 1' consume mailer --accept 2 --upcast 1=cat --upcast 1=cat
    refused 2 'neither options.accepts nor the catalogue says' consume plain --upcast 1=cat
}

it_reads_a_version_from_standard_input_beside_one_that_is_given() {
    make_bus
    printf '{"total":"4.50"}' | works pub lomash.orders.created - --as shop --also '2.0={"total":4.50}'
    works tail --from earliest --count 1 --timeout 1m --versions
    if ! n_lines out 2; then fail 'not both'; fi
}

it_says_in_the_catalogue_what_is_wrong_with_what_is_accepted() {
    printf '%s' "${catalogue/\"2.0\"/\"2.x\"}" >wrong.json
    refused 78 'groups."mailer".accepts[1]: version "2.x" is not MAJOR.MINOR' catalogue check wrong.json
}

it_is_heard_when_the_catalogue_changes() {
    make_bus
    order
    printf '%s' "${catalogue/\"1\", \"2.0\"/\"1\"}" | works catalogue apply -
    works group show mailer
    prints 'accepts: 1'
    works consume mailer --count 1 --timeout 1m --json
    prints '"version":"1.0"'
}

run_cases "$@"
