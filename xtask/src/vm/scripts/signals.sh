. /payload/steps.sh
configure /tmp/host ''
daemon /tmp/host
step ready until_said /tmp/host 1 "$READY"

# In the middle of a command, which the host holds back.
storm() {
    number=0
    while [ "$number" -lt 200 ]; do kill -USR1 "$daemon" || return 1; number=$((number + 1)); done
}
step armed desk 'hold 131 1'
kill -USR1 "$daemon"
step held desk held
step storm storm
kill -STOP "$daemon"
kill -CONT "$daemon"
step storm-too storm
step release desk release
step renewed until_said /tmp/host 1 "$RENEWED"

# At any moment.
number=0
while [ "$number" -lt 300 ]; do
    number=$((number + 1))
    kill -USR1 "$daemon"
    usleep $((RANDOM % 40000))
done
step again until_said /tmp/host 3 "$RENEWED"
step ended ended
step log cat /tmp/host/log
step handles handles
