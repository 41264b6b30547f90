#!/usr/bin/env bash
# test_tracing.sh: trace context, correlation and causation from one program to the next, as typed.
#
#     EVBUS=build/dev/tools/evbus tests/cli/test_tracing.sh [CASE...]

catalogue='{ "namespace": "lomash", "defaults": { "partitions": 1, "ring": "16KiB", "journal": true, "retry": ["10ms", "10ms"] }, "tests": true,
  "topics": { "lomash.orders.created": { "producers": ["shop"], "groups": ["mailer"] },
              "lomash.mails.sent": { "producers": ["mailer"], "groups": [] } } }'

# shellcheck source=tests/cli/helpers.sh
source "$(dirname "$0")/helpers.sh"
export EVBUS_STATE_DIR=$scratch
unset TRACEPARENT TRACESTATE EVBUS_CORRELATION_ID EVBUS_EVENT_ID

trace=4bf92f3577b34da6a3ce929d0e0e4736
parent=00-$trace-00f067aa0ba902b7-01

object() { # TOPIC PYTHON EXPRESSION over e, the first event of the topic as tail --json --meta shows it
    works tail --from earliest --count 1 --timeout 5s --json --meta "$1"
    python3 -c 'import json, sys
e = json.loads(open("out").readline())
assert eval(sys.argv[1]), e' "$2" || fail "not so: $2"
}

it_carries_what_pub_was_told() {
    make_bus
    pub lomash.orders.created '{"n":1}' --traceparent "$parent" --tracestate congo=t61rcWkgMzE --correlation-id 'order 10248' \
        --causation-id cart-7 --expires 1h
    object lomash.orders.created "e['traceparent'] == '$parent' and e['tracestate'] == 'congo=t61rcWkgMzE'"
    object lomash.orders.created "e['correlationId'] == 'order 10248' and e['causationId'] == 'cart-7' and 'expiresAt' in e"
    works tail --from earliest --count 1 --timeout 5s --meta
    prints "trace $parent "
}

it_shows_nothing_of_an_event_that_has_none() {
    make_bus
    pub lomash.orders.created '{"n":1}'
    object lomash.orders.created "not {'traceparent', 'tracestate', 'correlationId', 'causationId', 'expiresAt', 'replayed'} & set(e)"
}

it_refuses_what_is_malformed() {
    make_bus
    refused 65 'event: traceparent "00-1": it is too short' pub --as shop lomash.orders.created 1 --traceparent 00-1
    refused 65 'event.tracestate is set and event.traceparent is not' pub --as shop lomash.orders.created 1 --tracestate a=b
    refused 65 'event: tracestate: "A" is no member key=value' pub --as shop lomash.orders.created 1 --traceparent "$parent" \
        --tracestate A
}

it_continues_the_trace_of_its_environment() {
    make_bus
    TRACEPARENT=$parent TRACESTATE=a=b pub lomash.orders.created '{"n":1}'
    object lomash.orders.created "e['traceparent'].startswith('00-$trace-') and e['traceparent'] != '$parent' and e['tracestate'] == 'a=b'"
    object lomash.orders.created "not {'correlationId', 'causationId'} & set(e)"
}

it_takes_no_malformed_trace_from_its_environment() {
    make_bus
    TRACEPARENT=nonsense TRACESTATE=nonsense EVBUS_EVENT_ID=nonsense pub lomash.orders.created '{"n":1}'
    object lomash.orders.created "not {'traceparent', 'tracestate', 'causationId'} & set(e)"
}

it_goes_on_from_a_handler_to_what_it_publishes() {
    make_bus
    pub lomash.orders.created '{"n":1}' --id "$ID" --traceparent "$parent"
    # shellcheck disable=SC2016
    works consume mailer --count 1 --timeout 20s --exec "'$EVBUS' pub --as mailer lomash.mails.sent 1"
    object lomash.mails.sent "e['traceparent'].startswith('00-$trace-') and e['traceparent'] != '$parent'"
    object lomash.mails.sent "e['causationId'] == '$ID' and e['correlationId'] == '$ID'"
}

it_survives_a_retry() {
    make_bus
    pub lomash.orders.created '{"n":1}' --traceparent "$parent" --tracestate a=b --correlation-id c --causation-id d
    # shellcheck disable=SC2016
    works consume mailer --count 3 --timeout 20s --exec \
        'echo "$EVBUS_ATTEMPT $TRACEPARENT $TRACESTATE $EVBUS_CORRELATION_ID $EVBUS_CAUSATION_ID" >>seen; test $EVBUS_ATTEMPT = 3'
    [ "$(cat seen)" = "1 $parent a=b c d
2 $parent a=b c d
3 $parent a=b c d" ] || fail "seen: $(cat seen)"
}

it_survives_a_dead_letter_its_replay_and_the_loss_of_memory() {
    make_bus
    pub lomash.orders.created '{"n":1}' --traceparent "$parent" --tracestate a=b --correlation-id c --causation-id d
    works consume mailer --count 1 --timeout 20s --exec 'exit 65'
    follow
    await stat_says 'all(p["journal"]["synced"] == p["tail"] for p in s["partitions"])'
    kill -KILL "$tail"
    works dlq ls
    n_lines out 1 || fail 'not one letter'
    rm -f "/dev/shm/evbus.$EVBUS_BUS."*
    works dlq replay --group mailer
    # shellcheck disable=SC2016
    works consume mailer --count 1 --timeout 20s --exec \
        'echo "$EVBUS_ATTEMPT $TRACEPARENT $TRACESTATE $EVBUS_CORRELATION_ID $EVBUS_CAUSATION_ID" >>seen'
    [ "$(cat seen)" = "1 $parent a=b c d" ] || fail "seen: $(cat seen)"
}

run_cases "$@"
