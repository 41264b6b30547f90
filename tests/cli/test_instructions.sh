#!/usr/bin/env bash
# test_instructions.sh: bench/instructions fails where a count has risen, says in which function, and compares like with like alone.
#
#     EVBUS=build/dev/tools/evbus BENCH_DIR=build/dev/bench tests/cli/test_instructions.sh [CASE...]
#
# Counts are of one operation, kept first in a file of the case's own; a rise is made by lowering what is kept.

# shellcheck source=tests/cli/helpers.sh
source "$(dirname "$0")/helpers.sh"
if ! [ -x "${BENCH_DIR:-}/instructions_of" ] || ! command -v valgrind >/dev/null; then
    echo "there is no instructions_of in BENCH_DIR, or no valgrind: its header is in the same package"
    echo "0 passed, 0 failed, 4 skipped"
    exit 77
fi

count() { # ARGS...: leaves out, err, code
    last="bench/instructions $*"
    "$source_root/bench/instructions" --kept kept.tsv "$@" finish >out 2>err
    code=$?
}

change() { # AWK: of the first row
    awk -F '\t' -v OFS='\t' "NR == 4 { $1 } { print }" kept.tsv >changed.tsv && mv changed.tsv kept.tsv
}

it_passes_where_nothing_has_changed() {
    count --keep
    exits 0
    count
    exits 0
    prints '3 passed, 0 failed'
    prints '+0.0 %'
}

it_fails_where_a_count_was_a_tenth_lower_and_names_the_function() {
    count --keep
    change '$4 *= 0.9; sub(/share_finish:[0-9.]*/, "share_finish:0", $5)'
    count
    exits 1
    prints 'rose: finish 64 B -:'
    prints ': share_finish +'
    prints '2 passed, 1 failed'
}

it_passes_where_a_count_was_a_twentieth_lower_or_more_than_now() {
    count --keep
    change '$4 *= 0.96'
    count
    exits 0
    change '$4 *= 2'
    count
    exits 0
    prints '3 passed, 0 failed'
}

it_compares_nothing_with_what_another_compiler_made() {
    count --keep
    sed -i '2s/.*/# gcc 4.9.2, glibc 2.19, x86_64/' kept.tsv
    change '$4 = 1'
    count
    exits 77
    prints 'not compared: kept with gcc 4.9.2, glibc 2.19, x86_64; this is '
}

run_cases "$@"
