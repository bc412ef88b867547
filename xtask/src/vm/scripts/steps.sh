# Runs a command as a step: its output between two lines, its status in the second.
step() {
    step_name=$1
    shift
    echo ">>> $step_name"
    "$@"
    echo "<<< $?"
}

# How many handles of each kind the TPM has, asked past the resource manager.
handles() {
    for kind in 02 03 80; do
        octal=$(printf '%03o' "0x$kind")
        exec 3<>/dev/tpm0 || return 1
        printf '\200\001\000\000\000\026\000\000\001\172\000\000\000\001\'"$octal"'\000\000\000\000\000\000\100' >&3
        answer=$(dd bs=4096 count=1 <&3 2>/dev/null | hexdump -v -e '1/1 "%02x"')
        exec 3>&-
        echo "$kind: $(echo "$answer" | cut -c 13-20) $(echo "$answer" | cut -c 31-38)"
    done
}

join() {
    agent join --authority "$AUTHORITY" --token "$TOKEN" --ca-pin "$PIN" --storage "$1"
}

PATH=/payload:$PATH
. /payload/settings.sh
