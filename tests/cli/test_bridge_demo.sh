#!/usr/bin/env bash
# The demonstration's second act, small: two hosts and the Redis between them, which is killed in the middle.
#
#   EVBUS=build/tools/evbus tests/cli/test_bridge_demo.sh [CASE...]
#
# evbus-demo stands beside evbus, redis-server in PATH. Faults that the demo must find are put into its Redis by redis-cli.
# What a case is, and what they share: helpers.sh.
# shellcheck source=tests/cli/helpers.sh
. "$(dirname "$0")/helpers.sh"
# shellcheck source=tests/cli/demo.sh
. "$(dirname "$0")/demo.sh"

export EVBUS_STATE_DIR=$scratch/state

# ---- helpers ---------------------------------------------------------------------------------------------------------

start_act() { # with the first 240 of the orders
    mkdir data
    head -n 240 "$source_root/share/northwind-orders.ndjson" >data/northwind-orders.ndjson
    cp "$source_root/share/northwind-products.ndjson" data
    start_demo --act 2 --data "$PWD/data"
}

redis() { redis-cli -s tmp/evbus-demo-*/redis/redis.sock "$@" 2>/dev/null; }
n_mails() { find tmp/evbus-demo-*/office/mails -name '[^.]*.eml' 2>/dev/null | wc -l; }

# Redis is killed behind 80 orders: until then the producer goes step by step.
three_orders_are_paid() {
    kill -CONT "$producer" 2>/dev/null
    read -rt 0.01 <&"$never" || true
    kill -STOP "$producer" 2>/dev/null
    [ "$(redis XLEN lomash.orders.created)" -ge 3 ] && [ "$(redis XLEN lomash.payments.succeeded)" -ge 3 ]
}
mails_are_there() { [ "$(n_mails)" -ge 6 ]; }

are_over() { # PID...
    local pid
    for pid; do is_over "$pid" || return 1; done
}

# ---- cases -----------------------------------------------------------------------------------------------------------

it_brings_each_event_to_the_other_host_once_though_redis_is_killed() {
    start_act
    reaches 'killed with SIGKILL'
    reaches 'started again'
    await is_over $demo
    prints 'the broker is away for'
    is_as_it_must_be checkout Redis office mails points stock away left 'dead letters'
    prints 'Redis: 480 of 480 events'
    prints 'office: 480 of 480 events'
    prints 'publish at the checkout, Redis away'
}

it_finds_what_is_missing_in_redis_and_what_is_there_too_often() {
    local fields entry
    start_act
    reaches 'order-payment-service publishes'
    producer=$(pgrep -P $demo -f -- '--service order-payment-service')
    await three_orders_are_paid
    await mails_are_there
    mapfile -t fields < <(redis XRANGE lomash.orders.created - + COUNT 1)
    entry=${fields[0]}
    redis XADD lomash.orders.created '*' "${fields[@]:1}" >/dev/null
    entry=$(redis XRANGE lomash.orders.created "($entry" + COUNT 1 | head -n 1)
    [ "$(redis XDEL lomash.orders.created "$entry")" = 1 ] || fail "entry $entry is not there"
    redis XADD lomash.orders.created '*' eventId $ID eventType lomash.orders.created timestamp 2026-01-02T03:04:05Z \
        version 1.0 payload '{"orderId":"1","customerId":"NOBODY","total":1.00,"lines":[]}' >/dev/null
    kill -CONT "$producer"
    ends_with $demo 1
    grep -q '^WRONG  *Redis: .* missing 1, twice 1, foreign 1,' out || fail "not found in Redis"
    grep -q '^WRONG  *checkout: .* 1 came from elsewhere' out || fail "not found at the checkout"
    grep -q '^WRONG  *office: .* missing 0, twice 0, foreign 1,' out || fail "not found at the office"
    grep -q '^WRONG  *mails: ' out || fail "not found in the mails"
    grep -q '^WRONG  *points: ' out || fail "not found in the points"
    prints 'NOT as it must be'
    says 'a mail is too many: to NOBODY@'
    left_nothing
}

it_leaves_nothing_behind_when_it_is_ended_while_redis_is_away() {
    local children
    start_act
    reaches 'order-payment-service publishes'
    mapfile -t children < <(pgrep -P $demo)
    [ ${#children[@]} -eq 7 ] || fail "it has ${#children[@]} processes"
    reaches 'killed with SIGKILL'
    kill -TERM $demo
    ends_with $demo 130
    are_over "${children[@]}" || fail "processes are left"
    left_nothing
}

it_says_that_redis_is_missing_and_what_to_do() {
    mkdir tmp none
    ln -s "$(command -v timeout)" none
    PATH=$PWD/none run demo --act 2 -b "$EVBUS_BUS"
    exits 69
    says 'act 2 needs redis-server'
    says 'apt-get install redis-server'
    left_nothing
}

it_refuses_an_act_that_there_is_not() {
    run demo --act 3
    exits 2
    says '--act takes 1 or 2; "3" is neither'
}

run_cases "$@"
