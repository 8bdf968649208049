#!/usr/bin/env bash
# fleet.sh - what the operator scripts share: talking to Redis, reading the node registry, asking a
# node whether it is ready. To be sourced; needs bash 5, redis-cli 6, curl and coreutils.
#
# What stands in Redis was written by others. Every reply is read in redis-cli's quoted form, in
# which a value is one line of printable ASCII whatever its bytes, and is used only after it matched
# the pattern of its field. Nothing of it is ever evaluated.
#
# Every call has a limit of time, and is tried again a few times where that does no harm.
# shellcheck disable=SC2034 # variables are read by the scripts that source this file

export LC_ALL=C
unset http_proxy HTTP_PROXY

script=${0##*/}
if ((BASH_VERSINFO[0] < 5)); then
    printf '%s: bash 5 or later is needed\n' "$script" >&2
    exit 2
fi
redis_url=${TICKCAST_REDIS_URL:-redis://127.0.0.1:6379/0}
prefix=${TICKCAST_REDIS_PREFIX:-tc:}

REDIS_CALL_S=4  # for one redis-cli
REDIS_TRIES=3   # of what can be repeated
REPLY_BYTES_MAX=8388608
PROBE_S=3       # for one answer of a node
NODES_MAX=1000  # entries of the registry that are looked at

ID_PATTERN='^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$'
ADDRESS_PATTERN='^([A-Za-z0-9][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$'

# --- words ---------------------------------------------------------------------------------------

# A terminal that was closed, or a pipe that nobody reads, must not keep a script from its clearing up:
# what is printed may get lost.
say_error() { printf '%s: %s\n' "$script" "$1" >&2 || true; }

die() { # STATUS MESSAGE
    say_error "$2"
    exit "$1"
}

# The script's own head comment is its help.
print_help() { sed -n '2,${/^#/!q;s/^# \{0,1\}//p}' "$0"; }

usage_error() { die "${USAGE_STATUS:-2}" "$1; see $script --help"; }

# A value of an option: takes "$@" as it stands before the option.
needs_value() { [ $# -ge 2 ] || usage_error "$1 needs a value"; }

check_number() { # OPTION VALUE MIN MAX
    if [[ ! $2 =~ ^[0-9]{1,9}$ ]] || ((10#$2 < $3 || 10#$2 > $4)); then
        usage_error "$1: '$(clean "$2")' is no whole number from $3 to $4"
    fi
}

# A text that came from elsewhere, fit to be shown: one short line.
clean() {
    local text=${1//[![:print:]]/?}
    printf '%s' "${text:0:100}"
}

# Unix time. Into a variable, because a subshell for each look at the clock would cost more than all
# the rest.
tell_ms() { # NAME
    printf -v "$1" '%s' $((${EPOCHREALTIME/./} / 1000))
}

# --- Redis -----------------------------------------------------------------------------------------

redis_cli=()

decode_percent() {
    [[ ! $1 =~ %([^0-9A-Fa-f]|.[^0-9A-Fa-f]|.?$) ]] || usage_error "--redis: a '%' is no escape"
    local text=${1//\\/\\\\}
    printf '%b' "${text//%/\\x}"
}

# Sets up redis_cli from redis_url. A password goes through the environment, where other users of
# this host do not see it.
redis_setup() {
    local rest user='' host port db path
    [[ $prefix =~ ^[^[:space:][:cntrl:]\"\'\\]{0,64}$ ]] || usage_error "--prefix: not a prefix"
    redis_cli=(redis-cli)
    case $redis_url in
    redis://*) rest=${redis_url#redis://} ;;
    rediss://*)
        rest=${redis_url#rediss://}
        redis_cli+=(--tls)
        ;;
    unix://*) rest=${redis_url#unix://} ;;
    *) usage_error "--redis: neither redis://[user:password@]host[:port][/db] nor unix://path" ;;
    esac
    if [[ $rest == *@* ]]; then
        user=${rest%@*}
        rest=${rest##*@}
        [[ $user == *:* ]] || usage_error "--redis: user and password are written user:password@"
        REDISCLI_AUTH=$(decode_percent "${user#*:}")
        export REDISCLI_AUTH
        user=$(decode_percent "${user%%:*}")
        [ -z "$user" ] || redis_cli+=(--user "$user")
    fi
    if [[ $redis_url == unix://* ]]; then
        path=$(decode_percent "${rest%%\?*}")
        db=${rest#*\?db=}
        [ "$db" != "$rest" ] || db=0
        [[ $path == /* ]] || usage_error "--redis: unix:// wants an absolute path"
        redis_cli+=(-s "$path")
    else
        [[ $rest =~ ^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:([0-9]{1,5}))?(/([0-9]*))?$ ]] ||
            usage_error "--redis: not redis://[user:password@]host[:port][/db]"
        host=${BASH_REMATCH[1]#[}
        port=${BASH_REMATCH[3]:-6379}
        db=${BASH_REMATCH[5]:-0}
        redis_cli+=(-h "${host%]}" -p "$port")
    fi
    [[ $db =~ ^[0-9]{1,5}$ ]] || usage_error "--redis: '$(clean "$db")' is no database"
    redis_cli+=(-n "$db" --no-raw)
    [ -n "$user" ] || [ -z "${REDISCLI_AUTH:-}" ] || redis_cli+=(--no-auth-warning)
}

redis_trouble='' # why the last call failed

# Runs commands, one an argument, over one connection. Lines of replies: redis_lines. Fails unless
# all of them were answered; an error of Redis is an answer, "(error) ...".
redis_try() { # LIMIT_S COMMAND...
    local limit=$1 input output status=0 last
    shift
    printf -v input '%s\n' "$@" 'ECHO @end'
    output=$(timeout -k 1 "$limit" "${redis_cli[@]}" 2>&1 <<<"$input" |
        head -c $REPLY_BYTES_MAX) || status=$?
    mapfile -t redis_lines <<<"$output"
    last=${redis_lines[-1]}
    if [ "$last" = '"@end"' ]; then
        unset 'redis_lines[-1]'
        return 0
    fi
    if [ $status -eq 124 ] || [ $status -eq 137 ]; then
        redis_trouble="no answer within $limit s"
    elif [ ${#output} -ge $REPLY_BYTES_MAX ]; then
        redis_trouble="more than $REPLY_BYTES_MAX bytes of answers"
    else
        redis_trouble=$(clean "$(first_error)")
    fi
    return 1
}

# Of redis_lines, which lack an answer: what Redis, or redis-cli, complains of.
first_error() {
    local line
    for line in "${redis_lines[@]}"; do
        [[ $line != '(error) '* && $line != 'AUTH failed'* ]] || {
            printf '%s' "${line#(error) }"
            return
        }
    done
    printf '%s' "${redis_lines[0]:-no answer}"
}

redis() { # COMMAND...
    local try
    for ((try = 1; try <= REDIS_TRIES; try++)); do
        ! redis_try $REDIS_CALL_S "$@" || return 0
        [ $try -eq $REDIS_TRIES ] || sleep 0.3
    done
    return 1
}

# An argument of a command in the spelling that redis-cli reads.
quoted() {
    local text=${1//\\/\\\\}
    text=${text//\"/\\\"}
    text=${text//$'\n'/\\n}
    text=${text//$'\r'/\\r}
    printf '"%s"' "$text"
}

# Reads one line of a reply into `value` and `is_nil`. A value with an escape stays as it was
# printed: no pattern of ours allows a backslash.
read_value() {
    local text=$1
    [[ ! $text =~ ^\ *[0-9]+\)\ (.*)$ ]] || text=${BASH_REMATCH[1]}
    is_nil=no
    value=$text
    if [ "$text" = '(nil)' ]; then
        is_nil=yes
        value=
    elif [[ $text =~ ^\"(.*)\"$ ]]; then
        value=${BASH_REMATCH[1]}
    elif [[ $text =~ ^\(integer\)\ (-?[0-9]+)$ ]]; then
        value=${BASH_REMATCH[1]}
    fi
}

# --- the registry ----------------------------------------------------------------------------------

# fleet_read fills these. By id: what the node says of itself. An optional field that is missing or
# makes no sense is empty.
declare -a ids=() odd=()
declare -A address=() state=() clients=() capacity=() instance=() started=() version=() feed=()
declare -A channels=() in_per_s=() out_per_s=() accepts_per_s=() canary_ms=() seen_ms=()
redis_now_ms=0

FIELDS=(id address state clients started capacity instance version feed channels in_per_s out_per_s
    accepts_per_s canary_ms)

declare -A FIELD_PATTERNS=(
    [address]=$ADDRESS_PATTERN
    [state]='^(starting|ready|draining)$'
    [clients]='^[0-9]{1,9}$'
    [started]='^[0-9A-Za-z:.+-]{1,40}$'
    [capacity]='^[0-9]{1,9}$'
    [instance]='^[0-9A-Za-z:._+-]{1,64}$'
    [version]='^[0-9A-Za-z.+~-]{1,32}$'
    [feed]='^[a-z_]{1,32}$'
    [channels]='^[0-9]{1,9}$'
    [in_per_s]='^[0-9]{1,12}(\.[0-9]{1,9})?$'
    [out_per_s]='^[0-9]{1,12}(\.[0-9]{1,9})?$'
    [accepts_per_s]='^[0-9]{1,9}$'
    [canary_ms]='^[0-9]{1,9}(\.[0-9]{1,9})?$'
)
declare -A REQUIRED=([address]=1 [state]=1 [clients]=1 [started]=1)

# What others wrote may be of any size, and is looked at in Redis before it is sent. An id or a value
# that is too long comes as a text that no pattern of ours matches.
# ARGV: how many. Ids and their expiries, those first that end last.
IDS_LUA='local list = redis.pcall("ZREVRANGE", KEYS[1], 0, ARGV[1], "WITHSCORES")
for i = 1, #list, 2 do
    if #list[i] > 64 then list[i] = list[i]:sub(1, 64) .. "..." end
end
return list'
# ARGV: fields.
ENTRY_LUA='local out = {}
for i, field in ipairs(ARGV) do
    local bytes = redis.pcall("HSTRLEN", KEYS[1], field)
    if type(bytes) == "table" then return bytes end
    if bytes > 264 then out[i] = bytes .. " bytes long"
    else out[i] = redis.call("HGET", KEYS[1], field) end
end
return out'

# Takes the time and the ids that are not past theirs from redis_lines; sets `alive`, seen_ms (how long
# each still counts), and `at`, where the rest begins.
read_ids() {
    local score line
    alive=()
    odd=()
    read_value "${redis_lines[0]}"
    redis_now_ms=$value
    read_value "${redis_lines[1]:-}"
    [[ $redis_now_ms =~ ^[0-9]{10}$ && $value =~ ^[0-9]{1,6}$ ]] || {
        redis_trouble=$(clean "${redis_lines[0]}")
        return 1
    }
    redis_now_ms=$((redis_now_ms * 1000 + 10#$value / 1000))
    line=${redis_lines[2]:-}
    at=3
    case $line in
    '(empty array)' | '(empty list or set)') return 0 ;;
    '(error)'*)
        odd+=("${prefix}nodes: $(clean "${line#(error) }")")
        return 0
        ;;
    esac
    for ((at = 2; at + 1 < ${#redis_lines[@]}; at += 2)); do
        [[ ${redis_lines[at]} != '"@'* ]] || break
        read_value "${redis_lines[at + 1]}"
        score=$value
        read_value "${redis_lines[at]}"
        if [[ ! $score =~ ^[0-9]{1,15}$ ]]; then
            [[ $score == -* ]] || odd+=("\"$(clean "$value")\": its expiry is '$(clean "$score")'")
        elif ((score <= redis_now_ms)); then
            continue
        elif [[ ! $value =~ $ID_PATTERN ]]; then
            odd+=("\"$(clean "$value")\": no node is named like that")
        else
            alive+=("$value")
            seen_ms[$value]=$((score - redis_now_ms))
        fi
    done
    [ ${#alive[@]} -lt $NODES_MAX ] || odd+=("${prefix}nodes: more than $NODES_MAX entries")
}

# Judges the field that was read last; names what is wrong with it in `fault`.
judge_field() { # ID FIELD
    if [ "$2" = id ]; then
        [ "$value" = "$1" ] || fault="its id is '$(clean "$value")'"
    elif [[ $value =~ ${FIELD_PATTERNS[$2]} ]]; then
        return 0
    elif [ "$is_nil" = yes ]; then
        [ -z "${REQUIRED[$2]:-}" ] || fault="its $2 is missing"
    elif [ -n "${REQUIRED[$2]:-}" ] || [ "$2" = capacity ]; then
        fault="its $2 is '$(clean "$value")'"
    else
        value= # only for show
    fi
}

# Takes the replies about one node's fields, or says in `fault` why it cannot.
take_node() { # ID LINE...
    local id=$1 field
    fault=
    shift
    if [[ ${1:-} == '(error)'* ]]; then
        fault=$(clean "${1#(error) }")
        return 0
    fi
    for field in "${FIELDS[@]}"; do
        read_value "${1:-(nil)}"
        [ $# -eq 0 ] || shift
        judge_field "$id" "$field"
        [ -z "$fault" ] || return 0
        [ "$field" != id ] || continue
        local -n column=$field
        column["$id"]=$value
    done
    # Leading zeros would make it octal.
    clients[$id]=$((10#${clients[$id]}))
    [ -z "${capacity[$id]}" ] || capacity[$id]=$((10#${capacity[$id]}))
    # What tells one life of the node from the next.
    [ -n "${instance[$id]}" ] || instance[$id]=${started[$id]}
}

declare -a known=() # ids that are asked for at once, in the order in which they are shown

are_known() { # ID...
    local id
    for id in "$@"; do
        [[ " ${known[*]} " == *" $id "* ]] || return 1
    done
}

# Reads the whole registry. Fails when Redis does; redis_trouble says why.
fleet_read() {
    local id line at owner='' next fault alive=() commands entry=() entry_lua
    entry_lua=$(quoted "$ENTRY_LUA")
    while :; do
        commands=(TIME "EVAL $(quoted "$IDS_LUA") 1 ${prefix}nodes $NODES_MAX")
        for id in "${known[@]}"; do
            commands+=("ECHO @$id" "EVAL $entry_lua 1 ${prefix}node:$id ${FIELDS[*]}")
        done
        redis "${commands[@]}" || return 1
        read_ids || return 1
        ! are_known "${alive[@]}" || break
        mapfile -t known < <(printf '%s\n' "${alive[@]}" | sort -V)
    done
    ids=()
    for line in "${redis_lines[@]:at}" '"@"'; do
        if [[ $line != '"@'* ]]; then
            entry+=("$line")
            continue
        fi
        next=${line#'"@'}
        if [[ -n $owner && " ${alive[*]} " == *" $owner "* ]]; then
            take_node "$owner" "${entry[@]}"
            if [ -z "$fault" ]; then
                ids+=("$owner")
            else
                odd+=("$owner: $fault")
            fi
        fi
        owner=${next%\"}
        entry=()
    done
}

is_listed() { # ID
    local id
    for id in "${ids[@]}"; do
        [ "$id" != "$1" ] || return 0
    done
    return 1
}

sum_of_clients() {
    local id
    total_clients=0
    for id in "${ids[@]}"; do
        total_clients=$((total_clients + ${clients[$id]}))
    done
}

# --- asking nodes ----------------------------------------------------------------------------------

# Says "ok", or why the node at this address is not ready.
probe() { # ADDRESS
    local answer code
    answer=$(curl -q -gsS --noproxy '*' --proto =http --max-time $PROBE_S --max-filesize 4096 \
        -w '\n%{http_code}' "http://$1/readyz" 2>/dev/null) || {
        echo no_answer
        return
    }
    code=${answer##*$'\n'}
    if [ "$code" = 200 ]; then
        echo ok
    elif [[ $answer =~ \"reason\":\"([a-z_]{1,32})\" ]]; then
        echo "${BASH_REMATCH[1]}"
    else
        echo "status_$code"
    fi
}

declare -A readiness=()

# Probes these nodes at once: readiness by id.
probe_all() { # ID...
    local id line
    [ $# -gt 0 ] || return 0
    while read -r id line; do
        readiness[$id]=$line
    done < <(
        for id in "$@"; do
            { line=$(probe "${address[$id]}") && echo "$id $line"; } &
        done
        wait
    )
}
