#!/usr/bin/env bash
# evbus stat --prometheus, and the alert rules that are installed beside it.
#
#   EVBUS=build/tools/evbus tests/cli/test_prometheus.sh [CASE...]
#
# Format and rules are judged by promtool, of Debian's package prometheus: $PROMTOOL, else the one in the path. The metrics of the
# bridge are those that $BRIDGE serves, else the one beside $EVBUS.
# What a case is, and what they share: helpers.sh.
# shellcheck source=tests/cli/helpers.sh
. "$(dirname "$0")/helpers.sh"

PROMTOOL=${PROMTOOL:-$(command -v promtool || true)}
BRIDGE=${BRIDGE:-$(dirname "$EVBUS")/../bridge/evbus-bridge}
alerts=$source_root/share/evbus-alerts.yml
alert_tests=$source_root/tests/prometheus/alerts.yml

catalogue='{ "namespace": "lomash", "tests": true,
  "defaults": { "partitions": 2, "ring": "64KiB", "journal": true, "retry": ["10ms"] },
  "topics": { "lomash.orders.created":         { "producers": ["shop"], "groups": ["mailer", "analytics"] },
              "lomash.content.blog.published": { "producers": ["shop"], "groups": ["readers"] } } }'

# ---- helpers ---------------------------------------------------------------------------------------------------------

traffic() { # three orders for two groups; the mailer has done one and given one up, and waits for the third
    make_bus
    for key in a b c; do pub lomash.orders.created '{"n": 1}' --key $key; done
    run consume mailer --count 1 --timeout 1m
    exits 0
    run consume mailer --count 1 --timeout 1m --exec 'echo "no such customer" >&2; exit 65'
}

measures() { # METRIC{LABELS} VALUE: the labels beside the bus
    local name=${1%%\{*} labels=${1#*\{} line
    if [ "$labels" != '}' ]; then labels=,$labels; fi
    line="$name{bus=\"$EVBUS_BUS\"$labels $2"
    if ! grep -qxF -e "$line" out; then fail "$last: no line: $line; but $(grep -F "$name{" out)"; fi
}

names() { sed -n 's/^# TYPE \([a-z_]*\) .*/\1/p' "$1" | sort -u; }

judged() { # ARGS...: promtool has nothing to say
    timeout 60 "$PROMTOOL" "$@" >said 2>&1 || fail "promtool $*: $(cat said)"
}

# ---- the metrics -----------------------------------------------------------------------------------------------------

it_prints_what_has_happened() {
    traffic
    works stat --prometheus
    is_silent
    measures 'evbus_group_done_events_total{group="mailer"}' 1
    measures 'evbus_group_dead_letters_total{group="mailer"}' 1
    measures 'evbus_group_failed_attempts_total{group="mailer",cause="rejected"}' 1
    measures 'evbus_group_failed_attempts_total{group="mailer",cause="failed"}' 0
    measures 'evbus_group_dead_letters_total{group="analytics"}' 0
    measures 'evbus_group_lag_events{group="mailer"}' 1
    measures 'evbus_group_lag_events{group="analytics"}' 3
    measures 'evbus_group_lag_events{group="readers"}' 0
    measures 'evbus_group_lag_seconds{group="readers"}' 0.000000000
    measures 'evbus_group_lag_estimated{group="analytics"}' 0
    measures 'evbus_group_members{group="mailer"}' 0
    measures 'evbus_keeper_present{}' 0
    measures 'evbus_slots_max{}' 1023
    measures 'evbus_journal_failed{log="lomash.orders",partition="1"}' 0
    measures 'evbus_partition_capacity_bytes{log="lomash.orders",partition="0"}' 65536
    if grep -q 'evbus_group_lag_seconds{.*group="mailer".* 0\.0*$' out; then fail 'the third order waits'; fi
    run doctor # which the alert names for it
    prints 'dlq ls --group mailer'
}

it_has_a_keeper_while_a_service_is_attached() {
    make_bus
    follow 'lomash.orders.*'
    await stat_says 's["keeper"] is not None'
    works stat --prometheus
    measures 'evbus_keeper_present{}' 1
    measures 'evbus_processes{}' 1
}

it_prints_nothing_where_there_is_no_bus() {
    refused 69 'no bus' stat --prometheus
}

it_is_neither_json_nor_watched() {
    refused 2 'without --json' stat --prometheus --json
    refused 2 'without --watch' stat --prometheus --watch
}

# ---- the alerts ------------------------------------------------------------------------------------------------------

asks_only_for() { # PATTERN: what the alerts ask for of these is in out
    names out >there
    sed '/^ *#/d' "$alerts" | grep -oE '\bevbus_[a-z_]+' | grep -E "$1" | sort -u >used
    if [ "$(wc -l <used)" -lt 8 ]; then fail 'no metrics were found in the alerts'; fi
    comm -13 there used >unknown
    if [ -s unknown ]; then fail "the alerts ask for $(cat unknown)"; fi
}

it_has_alerts_for_metrics_that_there_are() {
    make_bus
    works stat --prometheus
    asks_only_for '^evbus_([^b]|b[^r])'
}

it_has_alerts_for_metrics_that_a_bridge_serves() {
    make_bus
    "$BRIDGE" --redis redis://127.0.0.1:1 --set "metrics=unix:$PWD/m" >served 2>log &
    await has_line log 'serves metrics and health'
    ask /metrics
    asks_only_for '^evbus_'
    grep -q '^evbus_bridge_' used || fail 'no metrics of the bridge were found in the alerts'
}

it_has_a_test_for_each_alert() {
    sed -n 's/^ *- alert: //p' "$alerts" | sort >alerts
    grep -B 1 -A 2 '^ *eval_time:' "$alert_tests" | sed -n 's/^ *- alertname: //p' | sort -u >raised
    grep -oE '\{alertname: [A-Za-z]+' "$alert_tests" | sed 's/.* //' | sort -u >quiet
    if ! [ -s alerts ] || ! cmp -s alerts raised || ! cmp -s alerts quiet; then
        fail "not each is raised and not raised in $alert_tests: $(diff alerts raised; diff alerts quiet)"
    fi
}

it_names_in_each_alert_a_command_that_mends() {
    "$EVBUS" --help | sed -n '/^commands:/,/^$/s/^  \([a-z]*\) .*/\1/p' | sort >commands
    python3 - "$alerts" <<'PYTHON' >mends || fail "$(cat mends)"
import re, sys
rules = re.split(r"- alert: ", open(sys.argv[1]).read())[1:]
commands = open("commands").read().split()
for rule in rules:
    name = rule.split()[0]
    text = re.search(r"description: >-\n(.*)", rule, re.S).group(1)
    named = re.findall(r"`evbus ([a-z]+)", text)
    if not named or not set(named) <= set(commands):
        sys.exit(print(name, "names", named or "no command") or 1)
PYTHON
}

# ---- promtool --------------------------------------------------------------------------------------------------------

it_prints_a_text_that_promtool_accepts() {
    traffic
    works stat --prometheus
    timeout 60 "$PROMTOOL" check metrics <out >said 2>&1 || fail "$(cat said)"
    if [ -s said ]; then fail "promtool has something to say: $(cat said)"; fi
}

it_has_rules_that_promtool_accepts() { judged check rules "$alerts"; }

it_raises_alerts_in_promtool_when_it_should() { judged test rules "$alert_tests"; }

left_out=nothing
if [ -z "$PROMTOOL" ]; then
    echo 'not checked by promtool, which is not installed (Debian: prometheus): the format of the metrics, the alert rules'
    left_out+='|promtool'
fi
if ! [ -x "$BRIDGE" ]; then
    echo 'not checked, as evbus-bridge is not built: the alerts for metrics of the bridge'
    left_out+='|a_bridge_serves'
fi
if [ $# -eq 0 ]; then
    # shellcheck disable=SC2046
    set -- $(sed -n 's/^\(it_[a-z0-9_]*\)().*/\1/p' "$self" | grep -vE "$left_out")
fi
run_cases "$@"
