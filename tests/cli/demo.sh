# demo.sh: what the tests of the demo's acts share beside helpers.sh. Sourced behind it.
# shellcheck shell=bash

start_demo() { # OPTIONS...: in the background, its folder in ./tmp; its pid in $demo
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

# Its files are other ones after each life of the bus's memory. Of two hosts: of both.
memory() { stat -c '%n %i' "/dev/shm/evbus.$EVBUS_BUS"[.-]* 2>/dev/null; }

left_nothing() {
    if [ -n "$(memory)" ]; then fail "memory is left: $(memory)"; fi
    if [ -n "$(ls tmp)" ]; then fail "a folder is left: $(ls tmp)"; fi
    if "$EVBUS" ls 2>/dev/null | grep -qwF -e "$EVBUS_BUS"; then fail "the bus is left in its state folder"; fi
}

is_as_it_must_be() { # CHECK...: each of them says ok, none says WRONG
    local check
    if grep '^WRONG' out >wrong; then fail "$(cat wrong)"; fi
    ends_with $demo 0
    for check; do
        prints "ok    $check: "
    done
    prints 'Nothing was lost, nothing happened twice'
    is_silent
    left_nothing
}
