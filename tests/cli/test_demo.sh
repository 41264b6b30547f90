#!/usr/bin/env bash
# The demonstration's first act, as a whole: its services, its faults, the restart of the host in its middle, its checks.
# The second: test_bridge_demo.sh.
#
#   EVBUS=build/tools/evbus tests/cli/test_demo.sh [CASE...]
#
# evbus-demo stands beside evbus. What a case is, and what they share: helpers.sh.
# shellcheck source=tests/cli/helpers.sh
. "$(dirname "$0")/helpers.sh"
# shellcheck source=tests/cli/demo.sh
. "$(dirname "$0")/demo.sh"

it_loses_nothing_when_all_processes_and_the_memory_of_the_bus_are_gone() {
    local before after
    start_demo --act 1
    reaches 'content-service publish'
    before=$(memory)
    reaches 'it came back from its journal'
    after=$(memory)
    if [ -z "$before" ]; then fail "the bus had no memory"; fi
    if grep -qxF -e "$before" <<<"$after"; then fail "some of its memory is still the old one: $after"; fi
    if [ "$(wc -l <<<"$before")" -ne "$(wc -l <<<"$after")" ]; then fail "not all of it came back: $after"; fi
    await is_over $demo
    prints 'processes killed with SIGKILL, the bus'
    is_as_it_must_be stock points mails analytics versions sitemap.xml 'dead letters' killed stopped restart
}

it_leaves_nothing_behind_when_it_is_ended_while_the_bus_has_no_memory() {
    start_demo --act 1
    reaches 'the host restarts'
    kill -TERM $demo
    ends_with $demo 130
    left_nothing
}

run_cases "$@"
