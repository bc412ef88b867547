. /payload/steps.sh
configure /tmp/host 'credential_ttl: 3m'
step boot desk heard
daemon /tmp/host
step ready until_said /tmp/host 1 "$READY"
step joining desk heard
# By itself.
step renewed until_said /tmp/host 1 "$RENEWED"
step issued until_said /tmp/host 2 "$ISSUED"
step renewing desk heard

configure /tmp/host ''
kill -HUP "$daemon"
step again until_said /tmp/host 2 "$RENEWED"
step read grep 'reloading the configuration' /tmp/host/log
step status agent status --storage /tmp/host/bot
kill -USR1 "$daemon"
step asked until_said /tmp/host 3 "$RENEWED"

# While it is at work: one beside it, and one that wants its storage.
kill -USR1 "$daemon"
step beside join /tmp/beside
step whoami agent whoami --storage /tmp/beside
step same agent start -c /tmp/host/tbot.yaml
step into join /tmp/host/bot
step both until_said /tmp/host 4 "$RENEWED"
step issuing until_said /tmp/host 5 "$ISSUED"
step ended ended
step socket test ! -e /tmp/host/bot/agent.sock

# With valid credentials it starts without the TPM.
step quiet desk heard
daemon /tmp/host
# Once at the first start, once with the configuration that was read again.
step restarted until_said /tmp/host 3 "$READY"
step restarting desk heard
step ended-too ended
step log cat /tmp/host/log
step handles handles
