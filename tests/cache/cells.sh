# SPDX-License-Identifier: BSD-3-Clause
# cells.sh - for the scripts that run cells of the staleness matrix. Sourced by bash.
# PW_STALE_CELL: "stale_rdma", by an RDMA port.

cell=${PW_BUILD:?run this by ./check or make check}/tests/cache/${PW_STALE_CELL:-stale_cell}
tests=0
table=()

# How the program is run as a user without privileges. Not where that user cannot
# reach it.
nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all
        --bounding-set=-all --no-new-privs)
can_be_nobody() {
    [ "$(id -u)" = 0 ] && "${nobody[@]}" "$cell" --oracle >/dev/null 2>&1
}

# That user may not be let near the kernel driver.
opens_for_nobody() {    # MONITOR
    can_be_nobody && "${nobody[@]}" "$cell" --monitors | grep -q "^$1"$'\t$'
}

# Nothing can be proved without.
why=$("$cell" --oracle) || { echo "1..0 # SKIP $why"; exit 0; }

result() {              # STATUS WHAT [STORY]
    tests=$((tests + 1))
    [ -z "${3:-}" ] || printf '%s\n' "$3" | sed 's/^/# /'
    if [ "$1" = 0 ]; then
        echo "ok $tests - $2"
    else                # with the beginning of the story: often names are all one sees
        local first=${3:-}
        first=${first%%$'\n'*}
        echo "not ok $tests - $2${first:+: ${first:0:300}}"
    fi
}

skip() {                # WHAT WHY
    tests=$((tests + 1))
    echo "ok $tests - $1 # SKIP $2"
}

# One cell, one variant. What it said, and its exit status on a last line.
say_cell() {            # CASE COLUMN VARIANT
    local as=()
    [ "$2" = "${2%/user}" ] || as=("${nobody[@]}")
    timeout -k 5 60 "${as[@]}" "$cell" "$1" "${2%/user}" "$3" 2>&1
    printf '\n%d' $?
}

# What say_cell said, to $word and $story. COLUMN is a monitor, or MONITOR/user.
hear_cell() {           # TEXT
    local status=${1##*$'\n'} out=${1%$'\n'*}
    out=${out%$'\n'}
    word=${out%%$'\t'*}
    story=${out#*$'\t'}
    case $status:$word in
    [01]:fresh|[01]:fresh\*|[01]:uncached|[01]:uncached\*|[01]:refused|[01]:refused\*|\
    [01]:STALE|[01]:cannot|[01]:error) ;;
    124:*|137:*) word=error story="hung; $out" ;;
    *) word=error story="exit status $status; $out" ;;
    esac
}

run_cell() { hear_cell "$(say_cell "$@")"; }

# The worst of some variants, two of which run at a time: STALE, error, uncached,
# refused, fresh, cannot. The star only where all that could be tried have it.
worst() {               # CASE COLUMN VARIANTS...
    local case=$1 column=$2 variant rank best=0 star='*' w=cannot s='' skipped=''
    local this next
    shift 2
    exec {next}< <(say_cell "$case" "$column" "$1")
    for variant; do
        this=$next
        shift
        [ $# = 0 ] || exec {next}< <(say_cell "$case" "$column" "$1")
        hear_cell "$(cat <&"$this")"
        exec {this}<&-
        case $word in
        STALE) rank=5 ;;
        error) rank=4 ;;
        uncached*) rank=3 ;;
        refused*) rank=2 ;;
        fresh*) rank=1 ;;
        *)  [ "$variant" != whole ] || skipped=$story
            continue ;;
        esac
        case $word in *\*) ;; *) star='' ;; esac
        [ $rank -gt $best ] || continue
        best=$rank w=${word%\*} s="$variant: $story"
    done
    word=$w story=$s
    case $best in
    0) story=$skipped ;;
    [123]) word=$w$star ;;
    esac
}

# The table, which ./check shows: lines that begin with "#|".
table_head() {          # COLUMNS...
    table_row '' "$@"
}
table_row() {           # NAME CELLS...
    local line name=$1 w
    shift
    printf -v line '%-50s' "$name"
    for w; do
        [ "$w" != cannot ] || w=-
        printf -v line '%s %-12s' "$line" "$w"
    done
    table+=("${line%"${line##*[! ]}"}")
}
table_foot() {          # TEXT
    printf '#| %s\n' "${table[@]}" '' "$1"
}
