#!/usr/bin/env bash
# The command line and dead letters, as it is typed.
#
#   EVBUS=build/tools/evbus tests/cli/test_dlq.sh [CASE...]
#
# What a case is, and what they share: helpers.sh.
# shellcheck source=tests/cli/helpers.sh
. "$(dirname "$0")/helpers.sh"

catalogue='{ "namespace": "lomash", "tests": true,
  "defaults": { "partitions": 1, "ring": "256KiB", "retry": ["1ms"] },
  "topics": { "lomash.orders.created": { "producers": ["shop"], "groups": ["mailer", "ledger"] },
              "lomash.mails.sent":     { "producers": ["shop"], "groups": ["mailer"] } } }'

parking='{ "namespace": "lomash", "tests": true, "defaults": { "partitions": 1, "ring": "256KiB" },
  "topics": { "lomash.orders.created": { "producers": ["shop"], "groups": ["mailer"] } },
  "groups": { "mailer": { "on_dead": "park" } } }'

# ---- helpers ---------------------------------------------------------------------------------------------------------

letters() { # three of the mailer: two rejected of key a, one failed of key b
    make_bus
    pub lomash.orders.created '{"n":1}' --key a --id "$ID"
    pub lomash.orders.created '{"n":2}' --key a
    pub lomash.mails.sent '{"n":3}' --key b
    run consume mailer lomash.orders.created lomash.mails.sent --count 2 --timeout 5s \
        --exec 'case $EVBUS_KEY in a) echo "no such address" >&2; exit 65 ;; esac; exit 75'
    run consume mailer --timeout 1s --exec 'case $EVBUS_KEY in a) echo "no such address" >&2; exit 65 ;; esac; exit 75'
    await n_open 3
}

n_open() { "$EVBUS" dlq ls --json | wc -l | grep -qx "$1"; }

gets() { # NUMBER...: the mailer gets just these, in this order
    works consume mailer --timeout 0
    if [ "$(grep -oE '"n":[0-9]+' out | cut -c5- | tr '\n' ' ')" != "${*:+$* }" ]; then fail "the mailer does not get just: $*"; fi
}

letter_id() { "$EVBUS" dlq ls --json | head -n 1 | grep -oE '"deadLetterId":"[^"]*"' | cut -d'"' -f4; }

# ---- cases -----------------------------------------------------------------------------------------------------------

it_lists_dead_letters_and_consumes_nothing() {
    letters
    for _ in 1 2; do
        works dlq ls
        is_silent
        n_lines out 3 || fail 'three letters'
        prints ' open mailer rejected lomash.orders.created lomash.orders/0@'
        prints ' no such address'
        prints ' open mailer failed lomash.mails.sent lomash.mails/0@'
    done
    works dlq ls --group mailer --key a
    n_lines out 2 || fail 'two of key a'
    works dlq ls --topic 'lomash.mails.*'
    n_lines out 1 || fail 'one of lomash.mails'
    works dlq ls --cause failed
    n_lines out 1 || fail 'one that failed'
    works dlq ls --id "$ID"
    n_lines out 1 || fail 'one of that event'
    works dlq ls --from 2020-01-01T00:00:00Z --to 2021-01-01T00:00:00Z
    prints_nothing
    says 'no dead letters that are open'
    works dlq ls --group ledger
    prints_nothing
}

it_shows_all_of_a_letter_by_either_id() {
    letters
    works dlq show "$ID"
    prints 'state        open'
    prints 'cause        rejected'
    prints "eventId      $ID"
    prints 'attempts:'
    prints 'rejected  no such address'
    prints 'payload 1.0  {"n":1}'
    cp out by_event
    works dlq show "$(letter_id)"
    cmp -s out by_event || fail 'another letter by its deadLetterId'
    works dlq show "$ID" --json
    python3 -c 'import json, sys
one = json.loads(sys.stdin.read())
assert one["state"] == "open" and one["settled"] is None and one["key"] == "a", one
assert one["letter"]["event"]["payload"] == {"n": 1} and one["letter"]["cause"] == "rejected", one' <out || fail 'other JSON'
    refused 1 'no dead letter has or is ' dlq show 0198c6f2-7d1e-7a44-9b5f-000000000000
}

it_exports_letters_as_they_stand_in_their_log() {
    letters
    works dlq export
    cp out exported
    works tail lomash.dlq.mailer --from earliest --timeout 0 --json
    python3 -c 'import json, sys
tailed = [json.loads(line)["payload"] for line in open("out")]
exported = [json.loads(line) for line in open("exported")]
assert tailed == exported and len(exported) == 3, (tailed, exported)' || fail 'not the same letters'
}

it_replays_to_the_failing_group_alone() {
    letters
    works consume ledger --timeout 0
    works dlq replay --group mailer --dry-run
    prints 'would replay '
    prints 'would have replayed 3 dead letters'
    gets # nothing
    works dlq replay --group mailer --rate 100/s --as smith --reason 'the address is known now'
    prints ' mailer lomash.orders.created lomash.orders/0@'
    prints 'replayed 3 dead letters'
    is_silent
    gets 1 2 3
    works consume ledger --timeout 0
    prints_nothing
    works dlq ls
    prints_nothing
    works dlq ls --all
    n_lines out 3 || fail 'they are on the record'
    prints ' replayed mailer rejected '
    works dlq show "$ID"
    prints 'state        replayed'
    prints "by user $(id -un), service smith, process "
    prints 'reason       the address is known now'
    works why "$ID"
    prints 'state=replayed'
    prints 'settled what=replayed n=1 '
    prints 'service=smith '
    prints 'replay '
    prints 'state=done'
    refused_nothing dlq replay --group mailer
}

refused_nothing() { # ARGS...: exit 1, as nothing was done
    run "$@"
    exits 1
    prints 'replayed 0 dead letters'
}

it_replays_so_many_and_goes_on_with_the_rest() {
    letters
    works dlq replay --key a --max 1
    prints 'replayed 1 dead letters; more may be left'
    works dlq replay --key a --json
    prints '"what":"replayed"'
    prints '{"replayed":1,"skipped":0,"completed":0,"stopped":false}'
    gets 1 2
    works dlq replay --id "$(letter_id)"
    gets 3
}

it_replays_thrice_and_then_only_by_force() {
    letters
    for _ in 1 2 3; do
        works dlq replay --id "$ID"
        run consume mailer --timeout 0 --exec 'exit 65'
        await n_open 3
    done
    run dlq replay --id "$ID"
    exits 1
    prints 'skipped '
    prints 'it has been replayed 3 times already: --force replays it again'
    works dlq ls --id "$ID"
    prints ' quarantined mailer '
    prints ' replays=3 '
    works dlq replay --id "$ID" --force
    gets 1
}

it_discards_with_a_reason() {
    letters
    works dlq discard --key b --reason 'sold out' --dry-run
    prints 'would discard '
    works dlq discard --key b --reason 'sold out'
    prints 'discarded 1 dead letters'
    works dlq ls
    n_lines out 2 || fail 'two are left'
    works dlq ls --all --key b --json
    prints '"state":"discarded"'
    prints '"reason":"sold out"'
    works dlq replay --all-letters
    prints 'replayed 2 dead letters'
    gets 1 2
}

it_replays_what_dies_while_it_is_interrupted_later() {
    letters
    "$EVBUS" dlq replay --all-letters --rate 1/s >replay.out 2>replay.err &
    replay=$!
    await has_line replay.out 'replayed '
    kill -TERM "$replay"
    ends_with "$replay" 75
    has_line replay.err 'say it again, and it goes on' || fail 'does not say how it goes on'
    works dlq replay --all-letters
    works consume mailer --timeout 0
    n_lines out 3 || fail 'each once'
}

it_tells_who_replays_already() {
    letters
    "$EVBUS" dlq replay --all-letters --rate 1/s --as smith >replay.out 2>&1 &
    replay=$!
    await has_line replay.out 'replayed '
    refused 75 "smith (process $replay) replays or discards dead letters" dlq discard --key a
    kill -STOP "$replay"
    await is_stopped "$replay"
    run doctor
    prints 'it is replaying or discarding dead letters: nobody else can'
    kill -KILL "$replay"
    await is_over "$replay"
    works dlq replay --all-letters
    works consume mailer --timeout 0
    n_lines out 3 || fail 'each once'
}

it_says_what_is_wrong_with_the_command_line() {
    make_bus
    refused 2 'which letters? --group, ' dlq replay
    refused 2 'which letters? --group, ' dlq discard --reason x
    refused 2 'exclude each other' dlq replay --all-letters --group mailer
    refused 2 'ls, show, replay, discard or export?' dlq
    refused 2 'did you mean dlq replay?' dlq repaly
    refused 2 'there are ls, show, replay, discard and export' dlq xyzzy
    refused 2 'which letter? usage: evbus dlq show ID' dlq show
    refused 2 'is no eventId or deadLetterId' dlq show 7
    refused 2 '"x" is one too many' dlq ls x
    refused 2 'expected how many a second, e.g. 50/s' dlq replay --all-letters --rate fast
    refused 2 'expected how many a second, e.g. 50/s' dlq replay --all-letters --rate 0/s
    refused 2 'cause "bored": there are failed, ' dlq ls --cause bored
    refused 2 'segment' dlq ls --topic orders
    refused 2 'expected a UUID' dlq ls --id 7
    run dlq replay --all-letters
    exits 1
    works dlq ls --json
    prints_nothing
    is_silent
}

it_parks_a_key_behind_its_dead_letter() {
    catalogue=$parking
    make_bus
    pub lomash.orders.created '{"n":1}' --key a --id "$ID"
    pub lomash.orders.created '{"n":2}' --key a
    pub lomash.orders.created '{"n":3}' --key b
    # shellcheck disable=SC2016
    works consume mailer --count 2 --timeout 20s --exec 'read -r line; case $line in *"\"n\":1"*) exit 65 ;; esac'
    await n_open 1
    works group show mailer
    prints 'dead letters behind which their keys wait'
    works why "$ID"
    prints "state=parked attempts=1 deadLetterId=$(letter_id)"
    run doctor
    prints '1 keys wait behind their dead letters'
    works dlq replay --group mailer
    # shellcheck disable=SC2016
    works consume mailer --count 2 --timeout 20s --exec \
        'read -r line; echo "$EVBUS_REPLAYED $EVBUS_AFTER_GAP ${line#*\"n\":}" >>seen'
    [ "$(cat seen)" = "1 0 1}}
0 0 2}}" ] || fail "seen: $(cat seen)"
}

it_refuses_what_can_only_be_a_mistake() {
    letters
    refused 2 '--max 0: nothing would be done' dlq replay --group mailer --max 0
    refused 2 '--rate says nothing to dlq ls' dlq ls --rate 3/s
    refused 2 '--force says nothing to dlq discard' dlq discard --group mailer --force
    refused 1 'there is no group nope, nor a dead letter of one' dlq ls --group nope
    refused 1 "has or is 00000000-0000-7000-8000-000000000000" dlq ls --id 00000000-0000-7000-8000-000000000000
    n_open 3 || fail 'none was touched'
}

run_cases "$@"
