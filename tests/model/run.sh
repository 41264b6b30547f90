#!/bin/bash
# run.sh: full searches of the protocol models in this folder; each rule is also left out once, and must be missed.
#
#   run.sh                  all cases of the table below
#   run.sh --only NAME      the cases of one model (stamp, slots, release, doorbell, dead, pin, pending, lease,
#                           keeper, mirror)
#
# What the models cover, in small (2 or 3 threads, 2 to 4 cells, a few events, one or two faults, every interleaving):
#   stamp     claim, write, commit, cancel, the stamp that readers poll, a run of frames by one claim,
#             death at any step                                                                               R17 R19 R20
#   slots     slots that are used again, burial, dying undertakers, stopped writers, two positions, two
#             fences, two who fence, a run that is fenced                                                     R1 - R5 R20
#   release   several advancers of `released` without a journal, a reader's low, a new group's pin            R3 R8
#   doorbell  sleeper bits, bells and futexes on store buffers (TSO)                                          D1 - D4
#   dead      death seen by loads, helpers beside a stopped undertaker; the second witness                    B2 B3 B4 B6
#   pin       a group's creation against an advance of `released` or `oldest`                                 R8 P11
#   pending   a group's entries: take, run, finish, followers, attempts, dead letters, takeover, low           P1 - P8 P10
#   lease     who holds a partition: burial, takeover, handover, zombies, the low that its holder stores       P3 P5 B6
#   keeper    two keepers of one file, one deposed and late, or killed; a failed fdatasync; a cut              J4
#   mirror    leaders of a mirror that bring in, are stopped anywhere and deposed                              FENCE
# What they do not cover: memory orders weaker than store buffers (all but doorbell are sequentially consistent: a pass is no
# proof of the fences on arm64); liveness under fairness (only "nothing can move and somebody waits" is found, not two who
# turn in circles); more than two fences; runs of more than two frames; wrapping laps, positions, generations and epochs;
# several files, marks, groups' states; the kernel.
#
# A case passes as "must pass" only if the search was complete: `errors: 0` and no word of the memory limit, the depth limit,
# an unfinished search or the clock, since pan prints `errors: 0` for a search that was cut short, too. It passes as "must fail"
# only if pan stops at an assertion of the model or an invalid end state. A case that must pass and does not shows the end
# of its counterexample. Needs spin, gcc and bash 4.3; two searches at a time, less than 2 GB each, some minutes in all.
#
# Exit: 0 all as they must be; 1 some are not; 2 wrong arguments; 77 spin or gcc is missing.
set -euo pipefail

jobs_max=2
limit_s=120
memory_mb=3000
depth_max=100000

# model | what is left out, and sizes | arguments of pan | pass or fail
table='
slots    |-DCANCELS=0 -DONECELL                                    |  |pass
slots    |-DCANCELS=0 -DNOFENCE                                    |  |pass
release  |-DCAP=2 -DK=2                                            |  |pass
stamp    |                                                         |  |pass
stamp    |-DCAP=3                                                  |  |pass
stamp    |-DCAP=3 -DLONGRUN -DCRASHES=0                            |  |pass
release  |                                                         |  |pass
slots    |-DSTOPS=1 -DNOREADER -DONECELL -DCAP=2 -DK=2             |  |pass
slots    |-DNS=1                                                   |  |pass
doorbell |                                                         |-E|pass
doorbell |-DSTOP=1                                                 |-E|pass
doorbell |-DRUNG -DNSL=1                                           |-E|pass
doorbell |-DRUNG -DNSL=1 -DSTOP=1                                  |-E|pass
slots    |-DRUNS -DNOREADER -DSTOPS=1 -DCAP=3 -DK=2                |  |pass
slots    |-DRUNS -DNOREADER -DSTOPS=1 -DCAP=3 -DK=3 -DCRASHES=0    |  |pass
slots    |-DRUNS -DNOREADER -DKCANCELS=1 -DCAP=3 -DK=3 -DCRASHES=0 |  |pass
slots    |-DNOREADER                                               |  |pass
slots    |-DNOREADER -DSTOPS=1                                     |  |pass
slots    |-DNOREADER -DSTOPS=1 -DNS=1                              |  |pass
slots    |-DNOREADER -DSTOPS=2 -DNT=3 -DCRASHES=0 -DONECELL -DCAP=3|  |pass
slots    |-DNOREADER -DSTOPS=2 -DNR=2 -DCRASHES=0 -DONECELL -DCAP=3|  |pass
slots    |-DNOREADER -DSTOPS=1 -DNR=2 -DCRASHES=0 -DONECELL -DCAP=2 -DK=2||pass
slots    |-DNOREADER -DSTOPS=1 -DNR=2 -DNS=1 -DONECELL -DCAP=2     |  |pass
slots    |-DNOREADER -DKCANCELS=1 -DNR=2 -DRDEATHS=1 -DCRASHES=0 -DONECELL -DCAP=2||pass
dead     |                                                         |-E|pass
pin      |                                                         |-E|pass
pending  |                                                         |-E|pass
pending  |-DFENCES=1                                               |-E|pass
pending  |-DFENCES=2 -DCRASHES=0                                   |-E|pass
pending  |-DFENCES=1 -DKEYS=1                                      |-E|pass
pending  |-DFENCES=1 -DNE=2 -DNM=3 -DMAXA=1                        |-E|pass
pending  |-DCRASHES=2 -DNM=3 -DMAXA=1 -DNE=2                       |-E|pass
pending  |-DRETRIES=1 -DREJECTS=1                                  |-E|pass
pending  |-DRETRIES=1 -DRELEASES=1                                 |-E|pass
pending  |-DUNFITS=1 -DFENCES=1 -DNE=2                             |-E|pass
pending  |-DTIMEOUTS=1                                             |-E|pass
pending  |-DTIMEOUTS=1 -DREJECTS=1 -DFENCES=1 -DNE=2               |-E|pass
pending  |-DLOW                                                    |-E|pass
pending  |-DLOW -DFENCES=1 -DKEYS=1 -DNH=1                         |-E|pass
lease    |-DREBIRTHS=0                                             |-E|pass
lease    |-DFENCES=0                                               |-E|pass
lease    |-DN=1 -DNP=1                                             |-E|pass
lease    |-DREBIRTHS=0 -DLOWEPOCH -DSEEKS=1                        |-E|pass
lease    |-DREBIRTHS=0 -DMERGED                                    |-E|pass
lease    |-DREBIRTHS=0 -DWORDSFIRST                                |-E|pass
lease    |-DHANDOVERS=1 -DN=1 -DNP=1                               |-E|pass
lease    |-DFENCES=2 -DN=1 -DNP=1                                  |-E|pass
lease    |-DM=3 -DREBIRTHS=0 -DN=1 -DNP=1                          |-E|pass
lease    |-DP=2 -DREBIRTHS=0 -DFENCES=0 -DN=1 -DNP=1               |-E|pass
keeper   |                                                         |-E|pass
keeper   |-DFAILS=2                                                |-E|pass
keeper   |-DCAP=1                                                  |-E|pass
keeper   |-DDIES -DCUT                                             |-E|pass
keeper   |-DMEMORY                                                 |-E|pass
keeper   |-DMEMORY -DDIES -DCAP=1                                  |-E|pass
mirror   |                                                         |-E|pass
mirror   |-DN=2 -DK=3                                              |-E|pass
stamp    |-DSTAMPSTORE                                             |  |fail
stamp    |-DSTAMPFIRST                                             |  |fail
stamp    |-DNOWORD                                                 |  |fail
stamp    |-DRUNLATE                                                |  |fail
stamp    |-DRUNWHOLE                                               |  |fail
stamp    |-DRUNSHORT                                               |  |fail
stamp    |-DRUNSPLIT                                               |  |fail
slots    |-DNOHELP -DNOREADER                                      |  |fail
slots    |-DNOHELP -DNOREADER -DNS=1                               |  |fail
slots    |-DEARLY -DNOREADER                                       |  |fail
slots    |-DEARLY -DNOREADER -DNS=1                                |  |fail
slots    |-DONEPOS -DNOREADER -DSTOPS=1                            |  |fail
slots    |-DNOKCANCEL -DNOREADER -DSTOPS=1                         |  |fail
slots    |-DNOFENCE -DNOREADER -DSTOPS=1 -DONECELL -DCAP=2 -DK=2   |  |fail
slots    |-DFENCEFIRST -DNOREADER -DSTOPS=1                        |  |fail
slots    |-DFENCELOADED -DNOREADER -DSTOPS=1 -DCRASHES=0 -DK=2     |  |fail
slots    |-DENTRYLATE -DNOREADER -DSTOPS=1 -DNR=2 -DCRASHES=0 -DONECELL -DCAP=2 -DK=2||fail
slots    |-DNOSLOT -DNOREADER -DSTOPS=1 -DCRASHES=0 -DONECELL -DCAP=2 -DK=2||fail
slots    |-DTAKEBACK -DNOREADER -DSTOPS=1 -DNR=2 -DCRASHES=0 -DONECELL -DCAP=2 -DK=2||fail
slots    |-DKEEPSLOT -DNOREADER -DKCANCELS=1 -DNR=2 -DRDEATHS=1 -DCRASHES=0 -DONECELL -DCAP=2||fail
slots    |-DFENCESHORT -DRUNS -DNOREADER -DSTOPS=1 -DCAP=3 -DK=2 -DCRASHES=0||fail
slots    |-DNONONCE -DNOREADER -DKCANCELS=2 -DNR=2 -DCRASHES=0 -DONECELL -DCAP=1||fail
release  |-DPASSCANCELLED -DCAP=2 -DK=2                            |  |fail
release  |-DNOGEN                                                  |  |fail
release  |-DLATE                                                   |  |fail
release  |-DLOWSFIRST                                              |  |fail
doorbell |-DNOFENCEP                                               |-E|fail
doorbell |-DNOFENCES                                               |-E|fail
doorbell |-DNOBELL                                                 |-E|fail
doorbell |-DSHARED                                                 |-E|fail
doorbell |-DWAKERCLEARS -DSTOP=1                                   |-E|fail
doorbell |-DRUNG -DNSL=1 -DRUNGFIRST -DSTOP=1                      |-E|fail
dead     |-DDEADFIRST                                              |-E|fail
dead     |-DTIDLATE                                                |-E|fail
dead     |-DTIDEARLY                                               |-E|fail
dead     |-DGONEFLAG                                               |-E|fail
dead     |-DWITNESSLATE                                            |-E|fail
dead     |-DNOWITNESS                                              |-E|fail
pin      |-DNOGEN                                                  |-E|fail
pin      |-DLATE                                                   |-E|fail
pin      |-DLOWSFIRST                                              |-E|fail
pending  |-DEMPTYFIRST                                             |-E|fail
pending  |-DFLAGLATE                                               |-E|fail
pending  |-DHANDLERSCANS -DKEYS=1                                  |-E|fail
pending  |-DPLAINCURSOR -DFENCES=1                                 |-E|fail
pending  |-DPLAINPEND -DFENCES=1                                   |-E|fail
pending  |-DKEEPAHEAD                                              |-E|fail
pending  |-DCURSORFIRST                                            |-E|fail
pending  |-DGOESON -DFENCES=1                                      |-E|fail
pending  |-DCHAINCURSOR                                            |-E|fail
pending  |-DCHAINGOESON -DFENCES=1                                 |-E|fail
pending  |-DCHAINFOLLOWERS -DKEYS=1                                |-E|fail
pending  |-DPENDFIRST                                              |-E|fail
pending  |-DCHARGEALL -DRETRIES=1                                  |-E|fail
pending  |-DONESOLO -DMAXA=1 -DCRASHES=2 -DNM=3 -DNE=2             |-E|fail
pending  |-DSOLOBESIDE -DMAXA=1 -DCRASHES=2 -DNM=3 -DNE=2          |-E|fail
pending  |-DFENCEDCRASHED -DMAXA=1 -DFENCES=1 -DNM=3 -DNE=2        |-E|fail
pending  |-DRELEASECHARGES -DRELEASES=1 -DRETRIES=1                |-E|fail
pending  |-DNOATTEMPT -DTIMEOUTS=1                                 |-E|fail
pending  |-DTIMEOUTFREE -DTIMEOUTS=1                               |-E|fail
pending  |-DNODEAD -DREJECTS=1                                     |-E|fail
pending  |-DDEADLATE -DREJECTS=1                                   |-E|fail
lease    |-DREADEARLY                                              |-E|fail
lease    |-DPLAINPEND                                              |-E|fail
lease    |-DMERGED -DWORDSFIRST                                    |-E|fail
lease    |-DPENDFIRST                                              |-E|fail
lease    |-DLOWCACHE                                               |-E|fail
lease    |-DSEEKS=1 -DCRASHES=0                                    |-E|fail
lease    |-DDEADFIRST -DFENCES=0                                   |-E|fail
lease    |-DHANDRUN -DHANDOVERS=1 -DFENCES=0                       |-E|fail
keeper   |-DINPLACE                                                |-E|fail
keeper   |-DNOCHECK                                                |-E|fail
keeper   |-DNOTERM                                                 |-E|fail
keeper   |-DFROMJOURNALED                                          |-E|fail
keeper   |-DRETRYSYNC                                              |-E|fail
keeper   |-DNOSWEEP                                                |-E|fail
keeper   |-DDRAFTLATE                                              |-E|fail
keeper   |-DSTAMPLATE                                              |-E|fail
keeper   |-DMEMORY -DNOTELL                                        |-E|fail
mirror   |-DNOLOOK                                                 |-E|fail
mirror   |-DLOOKFIRST                                              |-E|fail
mirror   |-DNOCANCEL                                               |-E|fail
mirror   |-DREADFIRST                                              |-E|fail
'

only=
case $# in
0) ;;
2) [ "$1" = --only ] || { echo "usage: run.sh [--only NAME]" >&2; exit 2; }
   only=$2 ;;
*) echo "usage: run.sh [--only NAME]" >&2; exit 2 ;;
esac
for tool in spin gcc; do
    command -v "$tool" >/dev/null || { echo "run.sh: $tool is not installed" >&2; exit 77; }
done

models=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)

cleanup()
{
    local pid_file
    touch "$work/stop"
    for pid_file in "$work"/*/pid; do
        if [ -e "$pid_file" ]; then kill "$(cat "$pid_file")" 2>/dev/null || true; fi
    done
    wait
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# search DIR MODEL FLAGS PAN_ARGS MUST: builds and runs pan in DIR; its output is DIR/out. False if there is no result.
# Most searches end sooner than pan is compiled, above all one that must fail. States are kept as they are: -DCOLLAPSE halves
# the memory, for half as much time again.
search()
{
    local dir=$1 model=$2 optimization=-O1 rc=0
    if [ "$5" = fail ]; then optimization=-O0; fi
    local -a flags pan_args
    read -ra flags <<<"$3"
    read -ra pan_args <<<"$4"
    cd "$dir"
    cp "$models/$model.pml" .
    spin -a "${flags[@]}" "$model.pml" >out 2>&1 || return 1
    gcc -w "$optimization" -DSAFETY -DMEMLIM="$memory_mb" -DVECTORSZ=2048 -o pan pan.c >out 2>&1 || return 1
    if [ -e "$work/stop" ]; then return 1; fi
    timeout -s INT -k 5 "$limit_s" ./pan "-m$depth_max" "${pan_args[@]}" >out 2>&1 &
    echo $! >pid
    wait $! || rc=$?
    rm -f pid
    if [ "$rc" -ne 0 ]; then echo "pan: exit status $rc (124: out of time)" >>out; return 1; fi
}

# No error, and the search was complete.
is_pass()
{
    grep -q 'errors: 0$' "$1" &&
        ! grep -Eq 'reached -DMEMLIM bound|max search depth too small|Search not completed|^pan:[0-9]' "$1"
}

# The model's own assertion, or an end where somebody waits for ever; an array index out of bounds is a fault of the model.
is_violation()
{
    grep -Eq '^pan:[0-9]*:? *(assertion violated|invalid end state)' "$1" && ! grep -q 'invalid array index' "$1"
}

# run_case NUMBER MODEL FLAGS PAN_ARGS MUST: prints one line, and what went wrong; leaves DIR/passed if all is as it must be.
run_case()
{
    local dir=$work/$1 model=$2 flags=$3 pan_args=$4 must=$5 has_result=yes name states started=$SECONDS
    name="$model ${flags:-base}"
    mkdir "$dir"
    (search "$dir" "$model" "$flags" "$pan_args" "$must") || has_result=no
    states=$(sed -n 's/^ *\([0-9][0-9]*\) states, stored.*/\1/p' "$dir/out")
    if [ "$must$has_result" = passyes ] && is_pass "$dir/out"; then
        touch "$dir/passed"
        printf 'pass  %-62s %9d states %3d s\n' "$name" "$states" $((SECONDS - started))
    elif [ "$must$has_result" = failyes ] && is_violation "$dir/out"; then
        touch "$dir/passed"
        printf 'pass  %s fails as it must\n' "$name"
    elif [ "$must" = fail ]; then
        {
            printf 'FAIL  %s must fail at an assertion of the model, and did not\n' "$name"
            tail -n 25 "$dir/out"
        } >"$dir/report"
        cat "$dir/report"
    else
        {
            printf 'FAIL  %s\n' "$name"
            grep -E '^pan:|errors:|reached -DMEMLIM|too small|not completed|rror' "$dir/out" || true
            if [ -e "$dir/$model.pml.trail" ]; then
                # shellcheck disable=SC2086  # flags are words
                (cd "$dir" && spin -k "$model.pml.trail" -p -g $flags "$model.pml" 2>&1 |
                    grep -v ' = 0$' | tail -n 60) || true
            fi
        } >"$dir/report"
        cat "$dir/report"
    fi
    rm -f "$dir/pan" "$dir"/pan.*
}

trim() { local s=$1; s=${s#"${s%%[! ]*}"}; printf '%s' "${s%"${s##*[! ]}"}"; }

n_cases=0 n_running=0
while IFS='|' read -r model flags pan_args must; do
    model=$(trim "$model")
    if [ -z "$model" ] || { [ -n "$only" ] && [ "$only" != "$model" ]; }; then continue; fi
    if [ "$n_running" -ge "$jobs_max" ]; then
        wait -n || true
        n_running=$((n_running - 1))
    fi
    n_cases=$((n_cases + 1))
    run_case "$n_cases" "$model" "$(trim "$flags")" "$(trim "$pan_args")" "$(trim "$must")" </dev/null &
    n_running=$((n_running + 1))
done <<<"$table"
wait

if [ "$n_cases" -eq 0 ]; then echo "run.sh: no model is called \"$only\"" >&2; exit 2; fi
n_passed=$(find "$work" -name passed | wc -l)
printf '%d passed, %d failed\n' "$n_passed" $((n_cases - n_passed))
[ "$n_passed" -eq "$n_cases" ]
