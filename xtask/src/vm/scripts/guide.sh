# The guide, as it is written: a host and an authority on one machine, from the packages to a restart of it.
. /payload/steps.sh
. /payload/walk.sh
AUTHORITY=authority.example.com:3025

# The step $1, of whose output only the last line is shown.
last_step() {
    last_name=$1
    shift
    record "$last_name" "$* | tail -n 1" last "$@"
}
last() { "$@" >/tmp/said; last_status=$?; tail -n 1 /tmp/said; return "$last_status"; }
main() { systemctl show -p MainPID --value endorse-agent; }
another() { [ "$(main)" != "$1" ] && [ "$(main)" != 0 ] && active endorse-agent; }

again() {
    await up active endorse-agent
    await up-authority active endorse-authority
    await healthy-again healthy
    step status-again systemctl status --no-pager --full endorse-agent
    step journal-again journalctl -b -u endorse-agent -u endorse-authority --no-pager -o short
    step failed systemctl --failed --no-legend
    step remove apt-get -q remove --yes endorse-agent
    step removed sh -c '! systemctl is-active endorse-agent && ls -l /var/lib/teleport'
    record handles '' handles
    exit 0
}
[ ! -e /root/restarted ] || again

# The two machines.
echo "127.0.0.1 authority.example.com" >>/etc/hosts
quiet_step install-agent apt-get -qq install --yes "/payload/$AGENT"
quiet_step install-authority apt-get -qq install --yes "/payload/$AUTHORITY_PACKAGE"
step device ls -l /dev/tpmrm0
step lacks agent install systemd

# The authority's machine.
mkdir /etc/systemd/system/endorse-authority.service.d
printf '[Service]\nEnvironment=AUTHORITY_CLUSTER_NAME=example.com\n' \
    >/etc/systemd/system/endorse-authority.service.d/override.conf
systemctl daemon-reload
step authority-on systemctl enable --now endorse-authority
step identify agent identify
ek=$(agent identify --format rule)
cat >bot.yaml <<'END'
kind: bot
version: v1
metadata:
  name: my-bot
spec:
  roles: []
END
cat >token.yaml <<END
kind: token
version: v2
metadata:
  name: my-bot-token
spec:
  roles: [Bot]
  join_method: tpm
  bot_name: my-bot
  tpm:
    allow:
$(echo "$ek" | sed 's/^/    /')
END
step token cat token.yaml
step create authority create bot.yaml token.yaml
step authority-said authority status
pin=$(authority status | sed -n 's/^CA pin *//p')
step authority-status systemctl status --no-pager --full endorse-authority

# The host: the guide's file, with the address and the pin.
cat >/etc/tbot.yaml <<END
version: v2
proxy_server: $AUTHORITY
onboarding:
  join_method: tpm
  token: my-bot-token
  ca_pins: ["$pin"]
storage:
  type: directory
  path: /var/lib/teleport/bot
# outputs will be filled in during the completion of an access guide.
outputs: []
END
step check agent check
step write agent install systemd --write
step verify systemd-analyze verify --man=no /etc/systemd/system/endorse-agent.service
step verify-authority systemd-analyze verify --man=no /usr/lib/systemd/system/endorse-authority.service
last_step security systemd-analyze security --no-pager --threshold=25 endorse-agent.service
last_step security-authority systemd-analyze security --no-pager --threshold=25 endorse-authority.service
step on systemctl enable --now endorse-agent
await healthy healthy
step status systemctl status --no-pager --full endorse-agent
step says agent status --storage /var/lib/teleport/bot
step hosts authority bots instances
step files sh -c 'ls -ld /var/lib/teleport /var/lib/teleport/bot; ls -lL /var/lib/teleport/bot'
step groups grep ^Groups "/proc/$(main)/status"

step reload systemctl reload endorse-agent
await reloaded renewed endorse-agent 0
await still active endorse-agent
first=$(main)
step restart systemctl restart endorse-agent
record other '' test "$first" != "$(main)"
second=$(main)
kill -KILL "$second"
await comes-back another "$second"
await healthy-too healthy
step reload-authority systemctl reload endorse-authority
step restart-authority systemctl restart endorse-authority
step watchdog systemctl show -p WatchdogUSec -p WatchdogTimestamp -p NRestarts endorse-agent
step journal journalctl -u endorse-agent -u endorse-authority --no-pager -o short
: >/root/restarted
sync
systemctl reboot
sleep 600
