# What all walks have, besides steps.sh.
export DEBIAN_FRONTEND=noninteractive SYSTEMD_PAGER=cat SYSTEMD_COLORS=0 HOME=/root
cd /root

# The step $1, which waits until the rest is true, for five minutes at most.
await() {
    await_name=$1
    shift
    record "$await_name" '' until_true "$@"
}
until_true() {
    end=$(($(date +%s) + 300))
    until "$@"; do [ "$(date +%s)" -lt "$end" ] || return 1; sleep 0.5; done
}
active() { [ "$(systemctl show -p ActiveState --value "$1")" = active ]; }
healthy() { agent status --storage /var/lib/teleport/bot --format json 2>/dev/null | grep -q '"status": *"healthy"'; }
# How often the unit $1 has renewed since the machine started, and whether that is more than $2.
renewals() { journalctl -u "$1" -b -o cat | grep -c 'renewed'; }
renewed() { [ "$(renewals "$1")" -gt "$2" ]; }
# The step $1, whose output is shown only if it fails.
quiet_step() {
    quiet_name=$1
    shift
    record "$quiet_name" "$*" quietly "$@"
}
quietly() { "$@" >/tmp/said 2>&1 || { quiet_status=$?; cat /tmp/said; return "$quiet_status"; }; }
