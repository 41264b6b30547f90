#!/usr/bin/env bash
# The command line and `group seek`, as it is typed.
#
#   EVBUS=build/tools/evbus tests/cli/test_seek.sh [CASE...]
#
# What a case is, and what they share: helpers.sh.
# shellcheck source=tests/cli/helpers.sh
. "$(dirname "$0")/helpers.sh"

catalogue='{ "namespace": "lomash", "tests": true,
  "defaults": { "partitions": 1, "ring": "64KiB", "retry": ["1h"] },
  "topics": { "lomash.orders.created": { "producers": ["shop"], "groups": ["mailer"] },
              "lomash.mails.sent":     { "producers": ["shop"], "groups": ["mailer"] } } }'

# ---- helpers ---------------------------------------------------------------------------------------------------------

three_done() { # three orders that the mailer has done; the place of the second in $place
    make_bus
    pub lomash.orders.created '1' --key a --time 2026-02-01T09:30:00Z
    pub lomash.orders.created '2' --key a --time 2026-02-01T09:31:00Z
    place=$(position)
    pub lomash.orders.created '3' --key a --time 2026-02-01T09:32:00Z
    works consume mailer --count 3
}

gets() { # NUMBER...: the mailer gets just these payloads
    works consume mailer --timeout 0
    if [ "$(sed 's/.* //' out | tr '\n' ' ')" != "$* " ]; then fail "the mailer does not get just: $*"; fi
}

consume() { # ARGS...: a member in the background; its pid in $member
    "$EVBUS" consume "$@" >member.out 2>member.err &
    member=$!
    await has_member
}

has_member() { "$EVBUS" group show mailer --json | grep -qF "\"pid\":$member,"; }

# ---- cases -----------------------------------------------------------------------------------------------------------

it_goes_back_to_the_earliest() {
    three_done
    works group seek mailer --to earliest
    prints 'lomash.orders/0@'
    prints ' cells come again'
    prints 'moved group mailer'
    is_silent
    gets 1 2 3
}

it_goes_back_to_a_time() {
    three_done
    works group seek mailer --to 2026-02-01T09:30:30Z
    gets 2 3
}

it_goes_back_to_a_receipt_in_that_partition_alone() {
    three_done
    works group seek mailer --to "lomash.orders/0@$place" --json
    n_lines out 1 || fail 'one partition'
    prints "\"log\":\"lomash.orders\",\"partition\":0,\"from\":\""
    prints ",\"to\":\"$place\",\"way\":\"again\",\"cells\":"
    prints ',"inHand":0,"dropped":0,"isOldest":false}'
    gets 2 3
}

it_skips_only_by_force_and_says_what() {
    three_done
    pub lomash.orders.created '4' --key a
    refused 75 'group mailer has not done what it would skip: ' group seek mailer --to latest
    says ' cells that it has not taken, and 0 events in hand'
    says '--force'
    works group seek mailer --to latest --force
    prints '  skips '
    pub lomash.orders.created '5' --key a
    gets 5
}

it_drops_what_waits_only_by_force() {
    three_done
    pub lomash.orders.created '4' --key a
    run consume mailer --count 1 --timeout 0 --exec 'exit 75'
    refused 75 ' 1 events in hand, with what waits behind them' group seek mailer --to latest
    works group seek mailer --to latest --force
    prints ', drops 1 events in hand'
    works group show mailer --json
    prints '"pending":0'
}

it_changes_nothing_in_a_dry_run() {
    three_done
    works group seek mailer --to earliest --dry-run
    prints ' cells come again'
    prints 'would move group mailer'
    works consume mailer --timeout 0
    prints_nothing
}

it_is_refused_while_a_member_lives_and_says_which() {
    three_done
    consume mailer --as smith
    refused 75 "group mailer has 1 living member, smith (process $member)" group seek mailer --to earliest
    works group seek mailer --to earliest --dry-run
    works group seek mailer --to earliest --force
    await n_lines member.out 3
    kill -TERM "$member"
    ends_with "$member" 0
}

it_says_what_is_wrong_with_the_command_line() {
    make_bus
    refused 2 'where to? --to earliest' group seek mailer
    refused 2 'which GROUP, where to?' group seek --to earliest
    refused 2 '"x" is one too many' group seek mailer x --to earliest
    refused 2 '--to needs a value: --to WHERE' group seek mailer --to
    refused 2 '--to "soon": expected earliest, latest, LOG/PARTITION@POSITION or a time' group seek mailer --to soon
    refused 2 'expected a position as receipts tell it' group seek mailer --to lomash.orders@7
    refused 2 'expected a position as receipts tell it' group seek mailer --to lomash.orders/0@
    refused 2 'expected a position as receipts tell it' group seek mailer --to lomash.orders/x@7
    refused 2 'expected a position as receipts tell it' group seek mailer --to @7
    refused 2 'is beyond its tail, which is ' group seek mailer --to lomash.orders/0@999999
    refused 2 'has partitions 0..0, not 7' group seek mailer --to lomash.orders/7@0
    refused 1 'receives nothing of log lomash.none' group seek mailer --to lomash.none/0@0
    refused 1 'there is no group nobody' group seek nobody --to earliest
}

run_cases "$@"
