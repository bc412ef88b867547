# Runs a command as the step $1: its output between two lines, its name and itself in the first, its status in the second.
step() {
    step_name=$1
    shift
    record "$step_name" "$*" "$@"
}
# The same, for a command that a transcript shows as $2, or not at all if that is empty.
record() {
    printf '>>> %s\t%s\n' "$1" "$2"
    shift 2
    "$@"
    echo "<<< $?"
}

# How many handles of each kind the TPM has, asked past the resource manager.
handles() {
    for kind in 02 03 80; do
        octal=$(printf '%03o' "0x$kind")
        exec 3<>/dev/tpm0 || return 1
        printf '\200\001\000\000\000\026\000\000\001\172\000\000\000\001\'"$octal"'\000\000\000\000\000\000\100' >&3
        answer=$(dd bs=4096 count=1 <&3 2>/dev/null | od -A n -v -t x1 | tr -d " \n")
        exec 3>&-
        echo "$kind: $(echo "$answer" | cut -c 13-20) $(echo "$answer" | cut -c 31-38)"
    done
}

join() {
    agent join --authority "$AUTHORITY" --token "$TOKEN" --ca-pin "$PIN" --storage "$1"
}

# Asks something of the host, which sees the TPM's commands: see desk.rs.
desk() {
    desk_said=$(echo "$1" | nc 10.0.2.2 "$DESK")
    echo "$desk_said"
    case $1 in
    hold*) [ "$desk_said" = armed ] ;;
    held) [ "${desk_said%% *}" = held ] ;;
    esac
}

# A host in the directory $1, with one service, and what else its configuration says.
configure() {
    mkdir -p "$1"
    cat >"$1/tbot.yaml" <<END
version: v2
proxy_server: $AUTHORITY
onboarding:
  join_method: tpm
  token: $TOKEN
  ca_pins: ["$PIN"]
storage:
  type: directory
  path: $1/bot
services:
  - type: x509
    name: web
    destination:
      type: directory
      path: $1/web
$2
END
}

# Starts that host's daemon, $daemon.
daemon() {
    agent start -c "$1/tbot.yaml" >>"$1/log" 2>&1 & daemon=$!
}

# Waits, for three minutes at most, until the log of the host in $1 says $3 for the $2th time.
until_said() {
    end=$(($(date +%s) + 180))
    until [ "$(grep -c "$3" "$1/log")" -ge "$2" ]; do
        [ "$(date +%s)" -lt "$end" ] || { echo "not $2 times: $3"; cat "$1/log"; return 1; }
        usleep 100000
    done
}

# Waits until the log of the host in $1 has not grown for two seconds: no job runs that keeps a connection open.
quiet() {
    size=-1
    until [ "$(wc -c <"$1/log")" = "$size" ]; do
        size=$(wc -c <"$1/log")
        sleep 2
    done
}

# Tells the daemon to end and waits for it.
ended() {
    kill -TERM "$daemon" && wait "$daemon"
}

# The driver $driver lets go of the device $chip, and takes it again.
unbind() { echo "${chip##*/}" >"$driver/unbind"; }
# The kernel's own measurements keep the number of the chip that they began with, so it comes back with the next one; the
# link is what a udev rule would make.
bind() {
    echo "${chip##*/}" >"$driver/bind" || return 1
    for node in /dev/tpm[0-9] /dev/tpmrm[0-9]; do
        [ -L "$node" ] || ln -s "${node#/dev/}" "${node%?}0" 2>/dev/null
    done
    ls -l /dev/tpm*
    [ -c /dev/tpmrm0 ]
}

READY='INFO  all credentials are valid'
RENEWED='INFO  renewed name=identity'
ISSUED='INFO  issued name=web'
PATH=/payload:$PATH
. /payload/settings.sh
