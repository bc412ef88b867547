. /payload/steps.sh
# Two that join at once, then two that use their keys at once, for a minute.
both() {
    "$@" /tmp/one & one=$!
    "$@" /tmp/two & two=$!
    wait "$one"; first=$?
    wait "$two" && return "$first"
}
whoami() {
    until=$(($(date +%s) + SECONDS_LONG))
    times=0
    while [ "$(date +%s)" -lt "$until" ]; do
        agent whoami --storage "$1" >"$1.said" 2>&1 || { cat "$1.said"; return 1; }
        times=$((times + 1))
    done
    echo "$1 $times times: $(grep bot "$1.said")"
}
step join both join
step whoami both whoami
step handles handles
