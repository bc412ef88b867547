. /payload/steps.sh
# Two that join at once, then two that use their keys at once.
both() {
    "$@" /tmp/one & one=$!
    "$@" /tmp/two & two=$!
    wait "$one"; first=$?
    wait "$two" && return "$first"
}
whoami() { agent whoami --storage "$1"; }
step join both join
step whoami both whoami
step again both whoami
step handles handles
