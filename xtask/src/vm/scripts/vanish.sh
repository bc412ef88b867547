. /payload/steps.sh
# The driver lets go of the TPM under a running daemon, and takes it again.
chip=$(readlink -f /sys/class/tpm/tpm0/device)
driver=$(readlink -f "$chip/driver")
# Where the driver let go between a command and its answer, it lost the object that the command made, and says so. The
# agent cannot know of it; all else has to be gone.
lost() {
    dmesg | grep 'tpm2_commit_space: error' || return 0
    exec 3<>/dev/tpm0 || return 1
    printf '\200\001\000\000\000\016\000\000\001\145\200\000\000\000' >&3
    dd bs=4096 count=1 <&3 2>/dev/null | od -A n -t x1
    exec 3>&-
}
gone() { find /dev -name "tpm*0" -type l -exec rm {} +; [ ! -e /dev/tpmrm0 ] && [ ! -e /dev/tpm0 ]; }
configure /tmp/host ''
daemon /tmp/host
step ready until_said /tmp/host 1 "$READY"

step unbind unbind
step gone gone
kill -USR1 "$daemon"
step noticed until_said /tmp/host 1 'not renewed'
step unhealthy agent status --storage /tmp/host/bot
step alone agent identify
step bind bind
# By itself.
step healed until_said /tmp/host 1 "$RENEWED"
step served until_said /tmp/host 2 "$ISSUED"
step quiet quiet /tmp/host

# In the middle of a command.
step armed desk 'hold 131 1'
kill -USR1 "$daemon"
step held desk held
unbind & unbind=$!
usleep 300000
step release desk release
step unbound wait "$unbind"
step noticed-too until_said /tmp/host 2 'not renewed'
step gone-again gone
step bind-again bind
step healed-too until_said /tmp/host 2 "$RENEWED"
step healthy agent status --storage /tmp/host/bot
step ended ended
step log cat /tmp/host/log
step lost lost
step handles handles
