#!/usr/bin/env bash
# evbus-bridge as its operator meets it: command line, config, log, signals, systemd, metrics; without a broker.
#
#   EVBUS=build/tools/evbus BRIDGE=build/bridge/evbus-bridge tests/cli/test_bridge_config.sh [CASE...]
#
# Metrics are judged by promtool ($PROMTOOL, else the one in the path), the unit by systemd-analyze. What a case is, and what they share:
# helpers.sh.
# shellcheck source=tests/cli/helpers.sh
. "$(dirname "$0")/helpers.sh"

BRIDGE=$(realpath "${BRIDGE:-$(dirname "$EVBUS")/../bridge/evbus-bridge}")
if ! [ -x "$BRIDGE" ]; then
    printf 'BRIDGE=%s is no program\n' "$BRIDGE" >&2
    exit 2
fi
PROMTOOL=${PROMTOOL:-$(command -v promtool || true)}
example=$source_root/share/evbus.conf
manual=$source_root/bridge/man
unit=$(dirname "$BRIDGE")/evbus-bridge.service
url=redis://127.0.0.1:1

catalogue='{ "namespace": "lomash", "tests": true, "defaults": { "partitions": 1, "ring": "64KiB" },
  "topics": { "lomash.orders.created": { "producers": ["shop"], "groups": ["mailer"] } } }'

# ---- helpers ---------------------------------------------------------------------------------------------------------

bridge() { # ARGS...: leaves out, err, code
    last="evbus-bridge $*"
    timeout --foreground 100 "$BRIDGE" "$@" >out 2>err </dev/null
    code=$?
}

bridge_refuses() { # CODE TEXT ARGS...
    local expected_code=$1 expected_text=$2
    shift 2
    bridge "$@"
    exits "$expected_code"
    says "$expected_text"
    prints_nothing
    if grep -qv '^evbus-bridge: ' err; then fail "$last: a line of standard error does not begin with \"evbus-bridge: \""; fi
}

config() { printf '%s\n' "broker = $url" "$@" >evbus.conf; } # LINE...: the third is in line 2

value() { # KEY VALUE [PLACE]: as printed
    local line
    line=$(grep "^$1 = " out)
    if [ "${line%%    # *}" != "$1 = $2" ]; then fail "$last: not $1 = $2 but $line"; fi
    if [ $# -gt 2 ] && [ "${line#*    # }" != "$3" ]; then fail "$last: not from $3 but $line"; fi
}

start() { # ARGS...: the bridge in the background, until it serves; its pid in $bridge, its lines in log
    : >log # of an earlier one: who is started empties it perhaps only when we have looked
    timeout --foreground 300 "$BRIDGE" --config "$PWD/evbus.conf" --set "metrics=unix:$PWD/m" "$@" >served 2>log &
    local waiter=$!
    await has_line log 'serves metrics and health'
    bridge=$(pgrep -P $waiter)
    bridge_waiter=$waiter
}

stops() { # SIGNAL CODE
    kill "-$1" "$bridge"
    ends_with "$bridge_waiter" "$2"
}

answers() { # PATH STATUS TEXT
    ask "$1"
    if [ "$status" != "$2" ]; then fail "GET $1: $status instead of $2: $(head -c 500 out)"; fi
    prints "$3"
}

is_answered() { # PATH STATUS
    ask "$1"
    [ "$status" = "$2" ]
}

manager() { # a service manager's socket: what comes there goes to heard, an item a line
    python3 - "$PWD/notify" >heard <<'PYTHON' &
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
while True:
    print(s.recv(4096).decode(), flush=True)
PYTHON
    await test -S notify
    export NOTIFY_SOCKET=$PWD/notify
}

keys() { sed -n 's/^#\{0,1\}\([a-z_]*\) = .*/\1/p' "$1"; }

# ---- the command line ------------------------------------------------------------------------------------------------

it_helps() {
    bridge --help
    exits 0
    is_silent
    prints 'usage: evbus-bridge --redis URL'
    bridge --version
    exits 0
    prints "$("$EVBUS" --version | sed 's/evbus/evbus-bridge/')"
}

it_refuses_a_wrong_command_line() {
    bridge_refuses 2 'there is no option --rediss; did you mean --redis?' --rediss x
    bridge_refuses 2 'there is no option --chek-config; did you mean --check-config?' --chek-config
    bridge_refuses 2 'there is no option --colour; evbus-bridge --help lists them' --colour=red
    bridge_refuses 2 '--linger is no option; linger is a key: --set linger=VALUE' --linger=5ms
    bridge_refuses 2 'there is no option -x' -x
    bridge_refuses 2 '--redis needs a value: --redis URL' --redis
    bridge_refuses 2 '--help takes no value' --help=x
    bridge_refuses 2 '--json is an option of --verify' --redis "$url" --json
    bridge_refuses 2 '--timeout is an option of --verify' --redis "$url" --timeout 3s
    bridge_refuses 2 '--timeout takes a duration, e.g. 30s or 5m; "soon" is none' --verify --timeout soon
    bridge_refuses 2 '--set takes KEY=VALUE' --set linger
    bridge_refuses 2 '--set takes KEY=VALUE' --set =5ms
    bridge_refuses 2 '"soon" is none' --wait soon
    bridge_refuses 2 '"redis://h" is no option' redis://h
    bridge_refuses 2 '"x" is one too many' --redis "$url" -- x
    bridge_refuses 2 'there is no key "lingre"; did you mean linger?' --redis "$url" --set lingre=5ms
    bridge_refuses 2 'command line, --redis: broker: "localhost" is no broker' --redis localhost
    bridge_refuses 2 'more than 64 settings' $(printf -- '--set linger=5ms %.0s' {1..65})
}

it_takes_options_in_each_form() {
    bridge --redis="$url" -b shop -slinger=5ms --set batches=7 --print-config
    exits 0
    is_silent
    value broker "$url" 'command line, --redis'
    value bus shop 'command line, --bus'
    value linger 5ms 'command line, --set'
    value batches 7
}

# ---- the config ------------------------------------------------------------------------------------------------------

it_checks_a_config() {
    config '# a comment' 'topics = lomash.orders.*, lomash.content.**' 'in = no'
    EVBUS_BRIDGE_LINGER=5ms bridge --config evbus.conf --check-config --set name=x
    exits 0
    is_silent
    prints 'evbus.conf is right: 3 settings; 2 of the environment, 1 of the command line' # the other one is EVBUS_BUS
    prints "mirror x, broker $url, out; topics: lomash.orders.*, lomash.content.**"
    bridge_refuses 78 'none.conf: cannot be read: No such file' --config none.conf --check-config
}

it_tells_all_that_is_wrong() {
    config 'batch_event = 5' 'linger = 5' '[x]' 'batches = 0' 'metrics = 0.0.0.0:1'
    EVBUS_BRIDGE_TRIM_AGE=1 EVBUS_BRIDGE_HOST_TIME=1d bridge_refuses 78 'evbus.conf:2: there is no key "batch_event"; did you mean batch_events?' \
        --config evbus.conf --check-config --set layout=x
    says 'evbus.conf:3: linger: "5" is no duration'
    says 'evbus.conf:4: there are no sections'
    says 'evbus.conf:5: batches: "0" is out of range; 1 to 64 are allowed'
    says 'evbus.conf:6: metrics: "0.0.0.0:1" is not an address of this host alone'
    says 'environment, EVBUS_BRIDGE_TRIM_AGE: trim_age: "1" is no duration'
    says 'environment, EVBUS_BRIDGE_HOST_TIME: there is no key for it; did you mean EVBUS_BRIDGE_HOST_TIMEOUT?'
    says 'command line, --set: layout: "x" is not known; write topic or log'
    if ! n_lines err 8; then fail "$last: not 8 problems"; fi
}

it_needs_a_broker() { bridge_refuses 78 'broker: is not set; give --redis redis://HOST:PORT' --config /dev/null; }

it_prints_a_config_that_reads_back_as_the_same() {
    config 'metrics = "unix:/tmp/a b # c"' 'topics = a.b.*, c.**' 'linger = 1500us'
    EVBUS_BRIDGE_LOG_FORMAT=json bridge --config evbus.conf --print-config
    exits 0
    is_silent
    value linger 1500us 'evbus.conf:4'
    value log_format json 'environment, EVBUS_BRIDGE_LOG_FORMAT'
    value batches 4 default
    sed 's/    # .*//' out | grep -v '^#' >first
    cp out printed.conf
    bridge --config printed.conf --print-config
    exits 0
    sed 's/    # .*//' out | grep -v '^#' >second
    if ! cmp -s first second; then fail "another: $(diff first second)"; fi
}

it_lets_the_command_line_have_the_last_word() {
    unset EVBUS_BUS
    config 'bus = file' 'name = file' 'batches = 2'
    EVBUS_BUS=env EVBUS_BRIDGE_NAME=env bridge --config evbus.conf --set name=line --print-config
    value name line 'command line, --set'
    value bus env 'environment, EVBUS_BUS'
    value batches 2 'evbus.conf:4'
    EVBUS_BUS=env EVBUS_BRIDGE_BUS=own bridge --config evbus.conf --print-config
    value bus own 'environment, EVBUS_BRIDGE_BUS'
}

it_never_shows_a_password() {
    printf 'hunter2\n' >secret && chmod 600 secret
    config "password_file = $PWD/secret"
    bridge --config evbus.conf --print-config
    exits 0
    prints 'the password of 7 bytes is not shown'
    if grep -q hunter2 out err; then fail 'it is shown'; fi
    chmod 644 secret
    bridge_refuses 78 "$PWD/secret has mode 0644, so every user of this host can read it; chmod 640" --config evbus.conf --check-config
    bridge_refuses 2 'password_file' --redis redis://u:hunter2@h
    says '"redis://u:***@h"'
    EVBUS_BRIDGE_PASSWORD=hunter2 bridge_refuses 78 'did you mean EVBUS_BRIDGE_PASSWORD_FILE?' --redis "$url"
    if grep -q hunter2 out err; then fail 'it is shown'; fi
}

# ---- one word, one thing ---------------------------------------------------------------------------------------------

it_has_the_same_keys_in_the_manual_the_example_and_the_program() {
    bridge --redis "$url" --print-config
    keys out >program
    keys "$example" >example
    grep -oE '^\*[a-z_]+\* = .*' "$manual/evbus.conf.5.scd" | grep -oE '\*[a-z_]+\* =' | tr -d '*= ' >manual
    if [ "$(wc -l <program)" -lt 25 ]; then fail 'no keys were found'; fi
    for other in example manual; do
        if ! cmp -s program $other; then fail "not the keys of --print-config, in its order, in the $other: $(diff program $other)"; fi
    done
}

it_has_the_defaults_of_the_program_in_the_example() {
    unset EVBUS_BUS
    bridge --redis "$url" --set name=x --print-config
    sed -n 's/^\([a-z_]* = .*\)    # .*/\1/p' out | grep -v '^broker = \|^name = ' >program
    sed -n 's/^#\([a-z_]* = \)/\1/p' "$example" | grep -v '^broker = \|^name = ' >example
    if ! cmp -s program example; then fail "$(diff program example)"; fi
    sed 's/^#\([a-z_]* = \)/\1/' "$example" | sed "s|^broker = .*|broker = $url|" >evbus.conf
    bridge --config evbus.conf --check-config
    exits 0
    bridge_refuses 78 'broker: is not set' --config "$example"
}

it_has_the_defaults_of_the_program_in_the_manual() {
    unset EVBUS_BUS
    bridge --redis "$url" --print-config
    python3 - "$manual/evbus.conf.5.scd" <<'PYTHON' >wrong || fail "$(cat wrong)"
import re, sys
values = dict(re.match(r"([a-z_]+) = (.*?)    # ", line).groups() for line in open("out") if " = " in line and not line.startswith("#"))
text = open(sys.argv[1]).read()
wrong = 0
for heading, body in re.findall(r"^(\*[a-z_]+\* = .*)\n((?:\t.*\n)+)", text, re.M):
    for key in re.findall(r"\*([a-z_]+)\* =", heading):
        value = values[key].strip('"')
        said = re.findall(r"Default:\s+\*([^*]+)\*", body)
        if value and key not in ("broker", "name", "out", "in") and said != [value]:
            wrong += 1
            print(f"{key}: the manual's default is {said}, the program's {value}")
sys.exit(wrong)
PYTHON
}

it_has_the_same_keys_live_in_the_manual_and_the_program() {
    sed -n 's/.*{\.name = "\([a-z_]*\)".*/\1/p' "$source_root/bridge/config_keys.c" >all
    if [ "$(wc -l <all)" -lt 25 ]; then fail 'no keys were found'; fi
    tr '\n' ' ' <"$source_root/bridge/config_keys.c" | grep -oE '\{\.name = "[a-z_]+"[^}]*is_live = true' | sed 's/{\.name = "\([a-z_]*\)".*/\1/' >program
    grep -E '^\*[a-z_]+\* = .*\(live\)$' "$manual/evbus.conf.5.scd" | grep -oE '\*[a-z_]+\* =' | tr -d '*= ' >manual
    if ! [ -s program ] || ! cmp -s program manual; then fail "$(diff program manual)"; fi
}

it_has_each_option_and_exit_code_in_the_manual() {
    bridge --help
    sed -n 's/^  \(-., \|    \)--\([a-z-]*\).*/\2/p' out | sort >program
    grep -oE '^\*.*' "$manual/evbus-bridge.8.scd" | grep -oE -- '\*--[a-z-]+' | tr -d '*' | cut -c3- | sort -u >manual
    if ! [ -s program ] || ! cmp -s program manual; then fail "$(diff program manual)"; fi
    sed -n 's/^exit codes: //p' out | grep -oE '[0-9]+' >program
    sed -n '/^# EXIT CODES/,/^# ENV/p' "$manual/evbus-bridge.8.scd" | sed -n 's/^|[[ ] *\([0-9]*\)$/\1/p' >manual
    if ! [ -s program ] || ! cmp -s program manual; then fail "$(diff program manual)"; fi
}

# ---- the bus ---------------------------------------------------------------------------------------------------------

it_ends_where_there_is_no_bus() {
    bridge --redis "$url"
    exits 69
    prints_nothing
    says 'msg="the bus cannot be opened"'
    says "there is no bus $EVBUS_BUS on this host"
    says 'msg=ended exit_code=69'
}

it_waits_for_a_bus_when_told_to() {
    config
    manager
    timeout --foreground 300 "$BRIDGE" --config "$PWD/evbus.conf" --wait 5m >/dev/null 2>log &
    bridge_waiter=$!
    await has_line log 'msg="waits for the bus"'
    bridge=$(pgrep -P $bridge_waiter)
    await has_line heard EXTEND_TIMEOUT_USEC=
    if has_line heard READY=1; then fail 'it is not ready'; fi
    make_bus
    await has_line heard READY=1
    stops TERM 0
}

it_ends_at_once_while_it_waits() {
    config
    timeout --foreground 300 "$BRIDGE" --config "$PWD/evbus.conf" --wait 5m >/dev/null 2>log &
    bridge_waiter=$!
    await has_line log 'msg="waits for the bus"'
    bridge=$(pgrep -P $bridge_waiter)
    stops TERM 0
}

# ---- the daemon ------------------------------------------------------------------------------------------------------

it_runs_until_it_is_told_to_end() {
    make_bus
    config
    for signal in TERM INT; do
        start
        stops $signal 0
        if ! has_line log "msg=stopping signal=SIG$signal" || ! has_line log 'msg=ended exit_code=0'; then fail "$(cat log)"; fi
        if [ -e m ]; then fail 'its socket is left'; fi
        if [ -s served ]; then fail 'it prints something'; fi
    done
}

it_tells_the_service_manager() {
    make_bus
    config
    manager
    WATCHDOG_USEC=200000 start
    await has_line heard READY=1
    await has_line heard 'STATUS=the broker is away'
    await eval '[ "$(grep -c WATCHDOG=1 heard)" -gt 3 ]'
    kill -HUP "$bridge"
    await has_line heard MONOTONIC_USEC=
    await eval '[ "$(grep -c READY=1 heard)" -eq 2 ]'
    stops TERM 0
    await has_line heard STOPPING=1
}

it_reloads_a_config_that_is_right() {
    make_bus
    config 'linger = 5ms'
    start
    config 'linger = 6ms' 'batches = 9' 'log_format = json'
    kill -HUP "$bridge"
    await has_line log '"msg":"the config is reloaded","reload":1,"changed":"linger,batches,log_format","password":"same"'
    config 'linger = 6ms' 'batches = 9' 'log_format = logfmt' 'layout = log' 'start = latest'
    kill -HUP "$bridge"
    await has_line log 'msg="the config is reloaded" reload=2 changed=log_format'
    await has_line log 'msg="a restart is needed for the rest of the new config" reload=2 keys=layout,start'
    ask /metrics
    prints "evbus_bridge_config_reloads_total{bus=\"$EVBUS_BUS\",mirror=\"redis\"} 2"
    stops TERM 0
}

it_keeps_the_old_config_when_the_new_one_is_wrong() {
    make_bus
    config
    start
    config 'linger = 5' 'batchs = 3'
    kill -HUP "$bridge"
    await has_line log 'msg="the config is not reloaded, the old one stays" reload=1'
    if ! has_line log "evbus.conf:2: linger: " || ! has_line log 'did you mean batches?'; then fail "$(cat log)"; fi
    rm evbus.conf
    kill -HUP "$bridge"
    await has_line log 'msg="the config is not reloaded, the old one stays" reload=2'
    config
    kill -HUP "$bridge"
    await has_line log 'msg="the config is reloaded" reload=3 changed="" password=same'
    ask /metrics
    prints "evbus_bridge_config_reload_failures_total{bus=\"$EVBUS_BUS\",mirror=\"redis\"} 2"
    stops TERM 0
}

it_writes_json_when_asked_to() {
    make_bus
    config 'log_format = json' 'log_level = debug'
    start
    stops TERM 0
    python3 -c '
import json, re
lines = [json.loads(line) for line in open("log")]
assert len(lines) > 3
for line in lines:
    assert list(line)[:3] == ["time", "level", "msg"] and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"]), line
' 2>wrong || fail "$(cat wrong log)"
}

it_leaves_the_time_to_the_journal() {
    make_bus
    config
    : >log
    JOURNAL_STREAM=$(stat -c '%d:%i' log) start
    stops TERM 0
    if grep -qv '^<[3467]>level=' log; then fail "$(cat log)"; fi
}

it_answers_about_its_health() {
    make_bus
    config
    start
    answers /healthz 200 'the broker is away'
    answers /readyz 503 'events wait in the bus'
    answers / 404 '/metrics, /healthz and /readyz'
    stops TERM 0
}

it_ends_when_its_bus_is_gone() {
    make_bus
    config
    start
    await has_line log 'msg="the broker is away"' # it leads: the bus is open
    "$EVBUS" rm >/dev/null
    ends_with "$bridge_waiter" 69
    if ! has_line log 'msg="the bus cannot be used"'; then fail "$(cat log)"; fi
}

it_serves_nothing_where_something_else_is() {
    make_bus
    config
    start
    bridge --config evbus.conf --set "metrics=unix:$PWD/m"
    exits 73
    says 'msg="metrics cannot be served"'
    says 'another bridge?'
    answers /healthz 200 'the broker is away'
    stops TERM 0
}

it_serves_metrics_that_promtool_accepts() {
    make_bus
    pub lomash.orders.created '{"n": 1}'
    config
    start
    ask /metrics
    prints "evbus_bridge_append_seconds_bucket{bus=\"$EVBUS_BUS\",mirror=\"redis\",le=\"+Inf\"} 0"
    prints "evbus_group_lag_events{bus=\"$EVBUS_BUS\",group=\"mailer\"} 1"
    timeout 60 "$PROMTOOL" check metrics <out >said 2>&1 || fail "$(cat said)"
    if [ -s said ]; then fail "promtool has something to say: $(cat said)"; fi
    stops TERM 0
}

it_needs_no_capability_and_no_root() {
    if [ "$(id -u)" -ne 0 ] || ! setpriv --reuid=nobody --regid=nogroup --clear-groups "$BRIDGE" --version >/dev/null 2>&1; then
        echo 'not checked: may not become another user here, or that one may not run the bridge'
        exit 0
    fi
    export EVBUS_STATE_DIR=$PWD/state
    chmod 711 "$scratch" "$PWD" && mkdir -m 2770 state && chgrp nogroup state
    printf '%s' "$catalogue" | "$EVBUS" init --catalogue - --group nogroup --mode 660 >made 2>&1 || fail "$(cat made)"
    mkdir -m 777 run && cd run || exit 1
    config
    timeout --foreground 300 setpriv --reuid=nobody --regid=nogroup --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all \
        "$BRIDGE" --config "$PWD/evbus.conf" --set "metrics=unix:$PWD/m" >served 2>log &
    bridge_waiter=$!
    await has_line log 'msg="serves metrics and health"'
    bridge=$(pgrep -P $bridge_waiter)
    await has_line log 'event=keeper state=elected'
    answers /healthz 200 'the broker is away'
    stops TERM 0
    if grep 'level=error\|level=warning' log | grep -qv 'the broker is away'; then fail "$(cat log)"; fi
    cd .. && "$EVBUS" rm >/dev/null
}

# ---- systemd ---------------------------------------------------------------------------------------------------------

it_has_a_unit_that_systemd_takes_and_calls_safe() {
    sed "s|^ExecStart=[^ ]*|ExecStart=$BRIDGE|; s|^ExecReload=[^ ]*evbus-bridge|ExecReload=$BRIDGE|; /^Documentation=/d" "$unit" >evbus-bridge.service
    systemd-analyze verify "$PWD/evbus-bridge.service" >said 2>&1 || fail "$(cat said)"
    if grep -q evbus said; then fail "$(cat said)"; fi
    timeout 60 systemd-analyze security --offline=true --threshold=25 "$PWD/evbus-bridge.service" >said 2>&1 || fail "more than 2.5: $(tail -n 1 said)"
    if ! grep -q 'Overall exposure level' said; then fail "$(cat said)"; fi
}

it_has_users_and_folders_that_systemd_takes() {
    mkdir -p root/etc root/usr/share/evbus && touch root/etc/passwd root/etc/group
    cp "$example" root/usr/share/evbus
    sed "s| [^ ]*/etc/evbus| /etc/evbus|g; s| [^ ]*/share/evbus| /usr/share/evbus|" "$(dirname "$unit")/evbus.conf" >tmpfiles.conf
    systemd-sysusers --root="$PWD/root" "$source_root/share/systemd/sysusers.conf" >said 2>&1 || fail "$(cat said)"
    grep -q '^evbus:.*:/var/lib/evbus:' root/etc/passwd || fail "no user evbus: $(cat root/etc/passwd said)"
    systemd-tmpfiles --root="$PWD/root" --create "$PWD/tmpfiles.conf" >said 2>&1 || fail "$(cat said)"
    if [ "$(stat -c '%a %g' root/var/lib/evbus)" != "2770 $(sed -n 's/^evbus:[^:]*:\([0-9]*\):.*/\1/p' root/etc/group)" ]; then
        fail "$(stat root/var/lib/evbus)"
    fi
    cmp root/etc/evbus/evbus.conf "$example" || fail 'no config'
    echo 'broker = mine' >root/etc/evbus/evbus.conf
    systemd-tmpfiles --root="$PWD/root" --create "$PWD/tmpfiles.conf" >said 2>&1 || fail "$(cat said)"
    grep -q mine root/etc/evbus/evbus.conf || fail 'the config of somebody is gone'
}

left_out=no-such-case
if [ -z "$PROMTOOL" ]; then
    echo 'not checked by promtool, which is not installed (Debian: prometheus): the format of the metrics'
    left_out+='|promtool'
fi
if ! command -v systemd-analyze >/dev/null || ! command -v systemd-sysusers >/dev/null; then
    echo 'not checked by systemd-analyze, which is not installed (Debian: systemd): unit, sysusers, tmpfiles'
    left_out+='|systemd'
fi
if [ $# -eq 0 ]; then
    # shellcheck disable=SC2046
    set -- $(sed -n 's/^\(it_[a-z0-9_]*\)().*/\1/p' "$self" | grep -vE "$left_out")
fi
run_cases "$@"
