#!/usr/bin/env bash
# The demonstration, as a whole: its services, its faults, the restart of the host in its middle, its checks.
#
#   EVBUS=build/tools/evbus tests/cli/test_demo.sh [CASE...]
#
# evbus-demo stands beside evbus. What a case is, and what they share: helpers.sh.
# shellcheck source=tests/cli/helpers.sh
. "$(dirname "$0")/helpers.sh"

start_demo() { # OPTIONS...: in the background, its databases in ./tmp; its pid in $demo
    mkdir -p tmp
    TMPDIR=$PWD/tmp "$EVBUS" demo -b "$EVBUS_BUS" "$@" >out 2>err &
    demo=$!
}

reaches() { # TEXT: the demo says it
    last="evbus demo"
    await has_line_or_end "$1"
    prints "$1"
}
has_line_or_end() { has_line out "$1" || is_over $demo; }

# Its files are other ones after each life of the bus's memory.
memory() { stat -c '%n %i' "/dev/shm/evbus.$EVBUS_BUS".* 2>/dev/null; }

left_nothing() {
    if [ -n "$(memory)" ]; then fail "memory is left: $(memory)"; fi
    if [ -n "$(ls tmp)" ]; then fail "a folder is left: $(ls tmp)"; fi
    if "$EVBUS" ls 2>/dev/null | grep -qwF -e "$EVBUS_BUS"; then fail "the bus is left in its state folder"; fi
}

it_loses_nothing_when_all_processes_and_the_memory_of_the_bus_are_gone() {
    local before after
    start_demo
    reaches 'content-service publish'
    before=$(memory)
    reaches 'it came back from its journal'
    after=$(memory)
    if [ -z "$before" ]; then fail "the bus had no memory"; fi
    if grep -qxF -e "$before" <<<"$after"; then fail "some of its memory is still the old one: $after"; fi
    if [ "$(wc -l <<<"$before")" -ne "$(wc -l <<<"$after")" ]; then fail "not all of it came back: $after"; fi
    await is_over $demo
    if grep '^WRONG' out >wrong; then fail "$(cat wrong)"; fi
    ends_with $demo 0
    prints 'processes killed with SIGKILL, the bus'
    for check in stock points mails analytics versions sitemap.xml 'dead letters' killed stopped restart; do
        prints "ok    $check: "
    done
    prints 'Nothing was lost, nothing happened twice'
    is_silent
    left_nothing
}

it_leaves_nothing_behind_when_it_is_ended_while_the_bus_has_no_memory() {
    start_demo
    reaches 'the host restarts'
    kill -TERM $demo
    ends_with $demo 130
    left_nothing
}

run_cases "$@"
